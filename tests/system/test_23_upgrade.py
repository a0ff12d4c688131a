"""The binary is replaced while it runs (SIGUSR2): same sockets, nobody notices; and when it fails, nothing has happened."""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import harness
from harness import Gone, alive, merge, n_descriptors, process, processes, refuses, sockets, wait_until
from test_08_systemd import Notify

PR_SET_CHILD_SUBREAPER = 36
STARTS = r"upgrade: (\S+) starts as pid (\d+)"
SERVES_ON = r"upgrade: failed: (.*); pid (\d+) serves on"


class Adopted:
    """A process that became our child when its own parent died. As far as subprocess.Popen is needed."""

    def __init__(self, pid, before):
        self.pid, self.returncode = pid, None
        self.stdout, self.stderr = before.stdout, before.stderr

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # still another one's
                return None if alive(self.pid) else -1
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=harness.DEADLINE):
        try:
            wait_until(lambda: self.poll() is not None, f"pid {self.pid} ends", timeout)
        except AssertionError:
            raise subprocess.TimeoutExpired("tined", timeout) from None
        return self.returncode

    def send_signal(self, sig):
        os.kill(self.pid, sig)


class Upgradable(harness.Tined):
    """One whose binary may be exchanged, and which may become another process."""

    def spawn(self):
        super().spawn()
        self.session = self.process.pid
        return self

    def family(self):
        return [p for p in processes() if p.session == self.session]

    def begin_upgrade(self):
        """USR2. Returns the log mark before, and the pid of the new one."""
        mark = self.mark()
        self.signal(signal.SIGUSR2)
        return mark, int(self.wait_log(STARTS, mark)[2])

    def follow(self, pid):
        """The daemon is another process from now on; the one before must end well."""
        before = self.process
        assert before.wait(harness.DEADLINE) == 0, self.tail()
        self.process = Adopted(pid, before)

    def upgrade(self):
        """USR2; waits until the new one serves and the old one is gone. Returns the log mark before."""
        mark, pid = self.begin_upgrade()
        self.wait_log(rf"upgrade: (pid {pid} serves in place of pid {self.pid}|failed)", mark)
        assert not self.find("upgrade: failed", mark), self.tail()
        self.follow(pid)
        return mark

    def upgrade_fails(self):
        """USR2; waits until the old one says that it serves on. Returns why."""
        mark, pid = self.begin_upgrade()
        match = self.wait_log(SERVES_ON, mark)
        assert int(match[2]) == self.pid
        assert process(pid) is None, "it was not reaped"
        assert self.process.poll() is None
        self.hello()
        return match[1]


@pytest.fixture(scope="module", autouse=True)
def subreaper():
    """Whoever is orphaned becomes our child, so that the end of a new primary can be seen."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def binary(folder, monkeypatch):
    """A copy of the binary, to be exchanged."""
    (folder / "bin").mkdir()
    copy = folder / "bin" / "tined"
    shutil.copy(harness.TINED, copy)
    monkeypatch.setattr(harness, "TINED", str(copy))
    return copy


@pytest.fixture
def tined(folder, binary):
    made = []

    def make(changes=None, **options):
        made.append(Upgradable(folder, changes, **options))
        return made[-1]

    yield make
    for t in made:
        t.close()


@pytest.fixture
def start(tined):
    return lambda changes=None, **options: tined(changes, **options).start()


def exchange(binary, source):
    """Puts another file in the binary's place, as a package manager does: text, or a copy of a file."""
    beside = binary.with_suffix(".new")
    if isinstance(source, str):
        beside.write_text(source)
    else:
        shutil.copy(source, beside)
    beside.chmod(0o755)
    beside.rename(binary)


def fake(binary, text):
    """A new binary that is a script: `link` is the socket to the old one."""
    exchange(binary, "#!/usr/bin/python3 -B\nimport os, signal, socket, sys, time\n"
             "link = socket.socket(fileno=int(os.environ['TINED_UPGRADE'].split()[0]))\n"
             "link.setblocking(True)\n" + text)


def listening(pid):
    """Inodes of the listening sockets of a process but the control socket, by what they are bound to."""
    found = {}
    inodes = {link[8:-1] for link in sockets(pid)}
    for table in "tcp", "tcp6":
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.setdefault(fields[1], set()).add(fields[9])
    for line in pathlib.Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] in inodes and fields[3] == "00010000" and "/control.sock" not in fields[7]:
            found.setdefault(fields[7], set()).add(fields[6])
    return found


class Clients:
    """Threads that ask again and again, on connections that they keep; any end but the agreed one is a problem."""

    def __init__(self, t, n=4):
        self.problems, self.asked, self.done = [], 0, threading.Event()
        self.address = t.address()
        self.threads = [threading.Thread(target=self.ask) for _ in range(n)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        c = None
        while not self.done.is_set():
            try:
                c = c or harness.Client(self.address)
                response = c.request("/")
                assert (response.status, response.body) == (200, harness.HELLO), response
                self.asked += 1
                if response.closes:
                    c.close()
                    c = None
            except (OSError, Gone, AssertionError) as e:
                self.problems.append(repr(e))
                c = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.done.set()
        for thread in self.threads:
            thread.join()
        assert not self.problems, self.problems[:5]
        assert self.asked > 0


@pytest.fixture
def waiting(start, module, folder):
    """A daemon whose workers, from now on, get ready only when a file is gone; and the path of that."""
    path = folder / "fail"
    t = start({"module:m": {"path": module, "mount": "/m", "fail_file": path}})
    path.write_text("wait")
    return t, path


# --- it goes well ---


def test_another_process_serves_on_the_same_sockets(start, folder):
    t = start({"tined": {"pid_file": folder / "pid"}})
    old, port = t.pid, t.port()
    before = listening(old)
    with t.connect() as c:
        assert c.request("/").body == harness.HELLO
        mark, new = t.begin_upgrade()
        t.wait_log(rf"upgrade: pid {new} serves in place of pid {old}", mark)
        wait_until(lambda: c.request("/").closes, "the connection is let go with an answer")
    t.follow(new)
    assert t.pid == new != old
    assert t.port() == port
    control = str(folder / "control.sock")
    assert listening(new) == before
    assert t.whoami()["generation"] == 2, "its generations are counted on"
    assert (folder / "pid").read_text() == f"{new}\n"
    with harness.Client(control) as c:
        c.send(b"status\n")
        assert f'"pid":{new}'.encode() in c.rest().replace(b" ", b"")
    workers = t.wait_workers(2)
    assert sorted(p.pid for p in t.family()) == sorted([new, *workers])
    assert t.stop() == 0
    assert not (folder / "pid").exists()
    assert refuses(("127.0.0.1", port))


def test_the_file_on_the_disk_is_executed(start, binary):
    t = start()
    first = os.stat(f"/proc/{t.pid}/exe").st_ino
    exchange(binary, binary)
    assert os.readlink(f"/proc/{t.pid}/exe").endswith("(deleted)")
    t.upgrade()
    second = os.stat(f"/proc/{t.pid}/exe").st_ino
    assert second == os.stat(binary).st_ino != first
    exchange(binary, binary)
    t.upgrade()
    assert os.stat(f"/proc/{t.pid}/exe").st_ino == os.stat(binary).st_ino != second
    assert t.whoami()["generation"] == 3


def test_the_configuration_is_read_again(start):
    t = start()
    t.configure({"workers": {"count": 3}, "module:hello": {"mount": "/here"}})
    t.upgrade()
    t.wait_workers(3)
    assert t.get("/here").body == harness.HELLO
    assert t.get("/").status == 404


def test_no_request_fails(start):
    t = start()
    with Clients(t):
        for _ in range(4):
            t.upgrade()


ALL_KINDS = {
    "workers": {"count": 3},
    "listener:one": {"address": "127.0.0.1:0", "accept": "reuseport"},
    "listener:two": {"address": "[::1]:0"},
    "module:one": {"path": "builtin:hello", "listener": "one", "mount": "/"},
    "module:two": {"path": "builtin:hello", "listener": "two", "mount": "/"},
    "module:three": {"path": "builtin:hello", "listener": "three", "mount": "/"},
    "module:four": {"path": "builtin:hello", "listener": "systemd", "mount": "/"},
    "listener:systemd": {"address": "systemd:four.4"},
    "admin": {"listen": "127.0.0.1:0"},
}


def test_sockets_of_every_kind(start, folder):
    path = f"{folder}/three.sock"
    with socket.create_server(("127.0.0.1", 0)) as given:
        fd = given.fileno()
        t = start(
            {**ALL_KINDS, "listener:three": {"address": f"unix:{path}"}},
            wrap=["/bin/bash", "-c", f'exec 3<&{fd} {fd}<&-; LISTEN_PID=$$ exec "$@"', "sh"],
            env={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "four.4"}, pass_fds=[fd])
        before = listening(t.pid)
        assert sum(len(inodes) for inodes in before.values()) == 1 + 3 + 1 + 1 + 1 + 1
        inode = os.stat(path).st_ino
        for _ in range(2):
            t.upgrade()
            assert listening(t.pid) == before
            assert os.stat(path).st_ino == inode
            t.hello()
            for _ in range(20):
                t.hello("one")
            with harness.Client(("127.0.0.1", t.admin_port())) as c:
                assert c.request("/livez").status == 200
            for address in ("::1", t.port("two")), path, given.getsockname():
                with harness.Client(address) as c:
                    assert c.request("/").body == harness.HELLO
        t.stop()
        assert not os.path.exists(path)


@pytest.mark.parametrize("count", [1, 4])
def test_another_number_of_reuseport_sockets(start, count):
    t = start({"listener:web": {"accept": "reuseport"}})
    with Clients(t):
        t.configure({"workers": {"count": count}})
        t.upgrade()
        for _ in range(100):
            t.hello()
    assert sum(len(inodes) for address, inodes in listening(t.pid).items() if "/" not in address) == max(2, count)
    wanted = set(t.wait_workers(count))
    seen = set()
    wait_until(lambda: seen.add(t.whoami()["pid"]) or seen >= wanted, "every worker is met")


def test_a_listener_that_is_no_longer_wanted(start):
    t = start({"listener:more": {"address": "127.0.0.1:0"}})
    more = t.address("more")
    t.configure({"listener:more": None})
    t.upgrade()
    wait_until(lambda: refuses(more), "it is closed")
    t.hello()


def test_nothing_is_left_over_by_many(start, binary):
    t = start()
    t.upgrade()
    before = t.n_descriptors()
    environment = len(pathlib.Path(f"/proc/{t.pid}/environ").read_bytes())
    for _ in range(5):
        t.upgrade()
    assert t.n_descriptors() == before
    assert abs(len(pathlib.Path(f"/proc/{t.pid}/environ").read_bytes()) - environment) < 64
    assert len(t.family()) == 3


def test_reload_that_was_asked_for_meanwhile(waiting):
    t, path = waiting
    mark, new = t.begin_upgrade()
    t.configure({"workers": {"count": 3}})
    t.signal(signal.SIGHUP)
    t.wait_log(r"reload: busy; doing it again afterwards", mark)
    path.unlink()
    t.wait_log(r"reload: generation 3 serves", mark)
    t.follow(new)
    t.wait_workers(3)


# --- it fails ---


def test_the_file_is_gone(start, binary):
    t = start()
    binary.rename(binary.with_suffix(".old"))
    assert t.upgrade_fails() == f"{binary}: No such file or directory"
    binary.with_suffix(".old").rename(binary)
    t.upgrade()


@pytest.mark.parametrize("text, why", [
    ("#!/bin/sh\nexit 7\n", "the new process ended with status 7"),
    ("#!/bin/sh\nkill -SEGV $$\n", r"the new process was killed by signal 11 \(Segmentation fault\)"),
    ("no program at all\n", r".*: Exec format error"),
])
def test_it_ends_at_once(start, binary, text, why):
    t = start()
    workers = t.worker_pids()
    exchange(binary, text)
    assert re.fullmatch(why, t.upgrade_fails())
    assert t.worker_pids() == workers


@pytest.mark.parametrize("changes, why", [
    ({"module:hello": {"path": "builtin:helo"}}, "no built-in module of this name: helo; there is "),
    ({"workers": {"nonsense": "1"}}, "nonsense"),
    ({"module:m": {"path": None, "listener": "web", "mount": "/m", "fail": "start"}}, "told to fail in worker_start"),
    ({"module:m": {"path": None, "listener": "web", "mount": "/m", "fail": "abort"}}, "did not get ready"),
    ({"module:m": {"path": None, "listener": "web", "mount": "/m", "fail": "hang"}, "workers": {"start_timeout": "500ms"}},
     "did not get ready"),
], ids=["module", "option", "start", "abort", "hang"])
def test_its_configuration_or_its_modules_fail(start, module, folder, changes, why):
    path = f"{folder}/web.sock"
    t = start({"listener:unix": {"address": f"unix:{path}"}, "tined": {"pid_file": folder / "pid"}})
    good = t.path.read_text()
    for keys in changes.values():
        keys.update({"path": module} if "path" in keys and keys["path"] is None else {})
    before, workers = listening(t.pid), t.worker_pids()
    t.path.write_text(harness.ini(merge(t.sections, changes)))
    assert why in t.upgrade_fails(), t.tail()
    assert listening(t.pid) == before
    assert t.wait_workers(2) == workers
    assert os.path.exists(path) and os.path.exists(folder / "control.sock")
    assert (folder / "pid").read_text() == f"{t.pid}\n"
    with harness.Client(path) as c:
        assert c.request("/").status == 404
    t.path.write_text(good)
    t.reload()
    t.upgrade()
    t.hello()


def test_its_worker_dies_on_probation(start):
    t = start({"workers": {"probation": "20s"}})
    old = set(t.worker_pids())
    mark, new = t.begin_upgrade()
    t.wait_log(r"starting -> ready: generation 2", mark, count=2)
    worker = next(p.pid for p in t.family() if p.ppid == new)
    os.kill(worker, signal.SIGKILL)
    assert "did not survive its probation" in t.wait_log(SERVES_ON, mark)[1]
    wait_until(lambda: len(t.family()) == 3, "all of the new one are gone")
    assert set(t.worker_pids()) == old
    t.hello()


def test_it_hangs(start, binary):
    """And ignores SIGTERM."""
    t = start()
    fake(binary, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nlink.send(b'wait 300000')\ntime.sleep(600)\n")
    assert t.upgrade_fails() == "the new process was not ready in time"


def test_it_talks_nonsense(start, binary):
    t = start()
    fake(binary, "link.send(b'serving')\ntime.sleep(600)\n")
    assert t.upgrade_fails() == "the new process spoke out of turn"


def test_its_reasons_are_bounded(start, binary):
    t = start()
    fake(binary, "[link.send(b'failed: ' + b'x' * 900) for _ in range(50)]\nsys.exit(1)\n")
    assert len(t.upgrade_fails()) <= 1024


def test_it_dies_after_it_was_let_go(start, folder, binary):
    """The old one has not heard that it serves, so it serves itself, under the names that it may have lost."""
    t = start({"tined": {"pid_file": folder / "pid"}})
    fake(binary, f"link.send(b'ready')\nassert link.recv(99) == b'go'\nos.unlink('{folder}/control.sock')\n"
         f"open('{folder}/pid', 'w').write('1')\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert "killed by signal 9" in t.upgrade_fails()
    wait_until(lambda: (folder / "pid").read_text() == f"{t.pid}\n", "the pid file is right again")
    wait_until(lambda: not refuses(str(folder / "control.sock")), "the control socket is there again")
    with harness.Client(str(folder / "control.sock")) as c:
        c.send(b"status\n")
        assert b'"ok"' in c.rest()
    t.reload()


def test_failures_leave_nothing(start, binary):
    t = start()
    exchange(binary, "#!/bin/sh\nexit 7\n")
    t.upgrade_fails()
    before = t.n_descriptors()
    for _ in range(10):
        t.upgrade_fails()
    assert t.n_descriptors() == before
    assert len(t.family()) == 3


# --- what else happens meanwhile ---


def test_one_at_a_time(waiting):
    t, path = waiting
    mark, new = t.begin_upgrade()
    t.signal(signal.SIGUSR2)
    t.wait_log(r"upgrade: not while starting, reloading, upgrading or stopping", mark)
    t.signal(signal.SIGTTIN)
    t.wait_log(r"scale: not while", mark)
    path.unlink()
    t.wait_log(rf"upgrade: pid {new} serves in place", mark)
    t.follow(new)


def test_not_during_a_reload(waiting):
    t, path = waiting
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"reload: begins", mark)
    t.signal(signal.SIGUSR2)
    t.wait_log(r"upgrade: not while", mark)
    path.unlink()
    t.wait_log(r"reload: generation 2 serves", mark)
    t.upgrade()


def test_stop_during_it(start):
    t = start({"workers": {"probation": "20s"}})
    t.begin_upgrade()
    t.wait_log(r"starting -> ready: generation 2", count=2)
    assert t.stop() == 0
    assert not t.family()


def test_a_worker_that_crashes_meanwhile_is_replaced(waiting):
    t, path = waiting
    mark, new = t.begin_upgrade()
    os.kill(t.worker_pids()[0], signal.SIGKILL)
    t.wait_log(r"replacing at once", mark)
    path.unlink()
    t.wait_log(rf"upgrade: pid {new} serves in place", mark)
    t.follow(new)
    t.hello()


def has_word(pid):
    """Whether a word waits in the socket between old and new: the only one of its kind that a process has."""
    lines = subprocess.run(["ss", "-xnpa"], capture_output=True, check=True, text=True).stdout.splitlines()
    return any("u_seq" in line and f"pid={pid}," in line and line.split()[2] != "0" for line in lines)


@pytest.mark.parametrize("proven", [False, True])
def test_the_old_one_dies(start, proven):
    """Nobody else is there to serve."""
    t = start({"workers": {"probation": "3s"}})
    mark, new = t.begin_upgrade()
    t.wait_log(r"starting -> ready: generation 2", mark, count=2)
    if proven:
        os.kill(t.pid, signal.SIGSTOP)  # it does not say go
        wait_until(lambda: has_word(t.pid), "the new one is proven")
    t.expected_status = -9
    os.kill(t.pid, signal.SIGKILL)
    t.process.wait()
    t.wait_log(r"the process before this one is gone; serving in its place", mark)
    t.wait_log(r"start: generation 2 serves", mark)
    t.process = Adopted(new, t.process)
    t.expected_status = 0
    t.hello()
    wait_until(lambda: len(t.family()) == 3, "the workers of the old one are gone")
    t.upgrade()


def test_the_old_one_dies_where_systemd_would_start_another(start, folder):
    path = f"{folder}/web.sock"
    notify = Notify(folder / "notify.sock")
    try:
        t = start({"workers": {"probation": "5s"}, "listener:unix": {"address": f"unix:{path}"}},
                  env={"NOTIFY_SOCKET": notify.path})
        mark, _ = t.begin_upgrade()
        t.wait_log(r"starting -> ready: generation 2", mark, count=2)
        t.expected_status = -9
        os.kill(t.pid, signal.SIGKILL)
        t.wait_log(r"systemd will start another", mark)
        wait_until(lambda: not t.family(), "nobody is left")
        assert os.path.exists(path), "it was not its own to remove"
        assert notify.senders == {t.pid}
    finally:
        notify.close()


# --- systemd ---


def test_systemd_is_told_who_the_main_process_is(start, folder):
    notify = Notify(folder / "notify.sock")
    try:
        t = start(env={"NOTIFY_SOCKET": notify.path, "WATCHDOG_USEC": "400000", "WATCHDOG_PID": "0"},
                  wrap=["/bin/sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh"])
        notify.wait("WATCHDOG")
        old = t.pid
        t.upgrade()
        fields = notify.wait("MAINPID", str(t.pid))
        assert notify.sender_of(fields) == old
        fields = notify.wait("READY", "1")
        assert notify.sender_of(fields) == t.pid
        assert fields["STATUS"] == "2 of 2 workers ready, generation 2"
        notify.wait("WATCHDOG")
        t.stop()
        notify.wait("STOPPING")
        told = [(list(fields)[0], notify.sender_of(fields)) for fields in notify.all()]
        at = told.index(("MAINPID", old))
        assert {pid for _, pid in told[:at + 1]} == {old}, "the new one spoke before it was its turn"
        assert {pid for _, pid in told[at + 1:]} == {t.pid}, "the old one went on talking"
        assert sum(1 for what, _ in told if what == "STOPPING") == 1
    finally:
        notify.close()


def test_it_dies_as_the_main_process(start, folder, binary):
    """systemd starts the service anew then, so the old one makes way, and leaves what the next one needs."""
    path = f"{folder}/web.sock"
    notify = Notify(folder / "notify.sock")
    try:
        t = start({"listener:unix": {"address": f"unix:{path}"}}, env={"NOTIFY_SOCKET": notify.path})
        fake(binary, "link.send(b'ready')\nassert link.recv(99) == b'go'\nos.kill(os.getpid(), signal.SIGKILL)\n")
        t.expected_status = 1
        with t.connect() as c:
            c.send(b"GET / HTTP/1.1\r\nHo")
            mark, new = t.begin_upgrade()
            t.wait_log(SERVES_ON, mark)
            c.send(b"st: a\r\n\r\n")
            assert c.response().status == 200, "what is in flight is finished"
        assert t.wait_exit() == 1
        assert os.path.exists(path)
        notify.wait("MAINPID", str(new))
        assert len(notify.all()) > 0 and "MAINPID" in notify.messages[-1], "it is silent from then on"
    finally:
        notify.close()


def test_systemd_that_does_not_read_is_waited_for(start, folder):
    """The new one must not speak before systemd knows who it is."""
    path = f"{folder}/notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(harness.DEADLINE)
        t = start(env={"NOTIFY_SOCKET": path})
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            with pytest.raises(BlockingIOError):
                for _ in range(10000):
                    filler.sendto(b"filled", path)
        mark, new = t.begin_upgrade()
        t.wait_log(r"starting -> ready: generation 2", mark, count=2)
        with pytest.raises(AssertionError):
            t.wait_log("serves in place|failed", mark, deadline=1)
        t.hello()
        while (said := s.recv(65536)) != f"MAINPID={new}".encode():
            assert b"READY" not in said or b"generation 1" in said
        t.follow(new)
        assert b"READY=1" in s.recv(65536)


def test_failure_is_no_new_main_process(start, folder, binary):
    notify = Notify(folder / "notify.sock")
    try:
        t = start(env={"NOTIFY_SOCKET": notify.path})
        exchange(binary, "#!/bin/sh\nexit 1\n")
        t.upgrade_fails()
        assert not any("MAINPID" in fields for fields in notify.all())
        assert notify.senders == {t.pid}
    finally:
        notify.close()


def test_the_variable_is_nobody_elses_to_set(tined):
    t = tined(env={"TINED_UPGRADE": "3 1 0 0"})
    assert t.run() == 1
    assert t.find(r"TINED_UPGRADE=3 1 0 0 is not for anybody else to set")
