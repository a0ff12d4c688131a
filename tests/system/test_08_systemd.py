"""What systemd hears and sees (sd_notify(3)), through a real datagram socket."""

import contextlib
import os
import queue
import signal
import socket
import struct
import threading
import time

import pytest

import harness
from harness import DEADLINE, JOURNAL, alone, refuses, wait_until


class Notify:
    """Stands for systemd: reads all that comes, at once."""

    def __init__(self, path):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.queue = queue.Queue()
        self.messages = []  # those taken off the queue
        self.senders = set()  # pids
        self.by = {}  # pids, by message
        self.fds = {}  # descriptors that came along, by name
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        while True:
            data, ancillary, _, _ = self.sock.recvmsg(65536, 1024)
            if data == b"end":
                return
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            for _, kind, content in ancillary:
                if kind == socket.SCM_CREDENTIALS:
                    self.by[id(fields)] = struct.unpack("3i", content)[0]
                    self.senders.add(self.by[id(fields)])
                else:  # it passes a descriptor, as FDSTORE does
                    self.fds[fields.get("FDNAME")] = struct.unpack("i", content)[0]
            self.queue.put(fields)

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"end", self.path)
        self.thread.join()
        self.sock.close()
        for fd in self.fds.values():
            os.close(fd)

    def sender_of(self, fields):
        """The pid that sent a message; all of them are kept, so that each is itself."""
        return self.by[id(fields)]

    def receive(self, deadline):
        """The next message as a dictionary, or None."""
        try:
            fields = self.queue.get(timeout=max(deadline, 0.001))
        except queue.Empty:
            return None
        self.messages.append(fields)
        return fields

    def all(self):
        """Every message so far."""
        while self.receive(0.01):
            pass
        return self.messages

    def wait(self, key, value=None, deadline=DEADLINE):
        """The next message with a field; those before it are passed over."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            fields = self.receive(end - time.monotonic())
            if fields and key in fields and value in (None, fields[key]):
                return fields
        raise AssertionError(f"no {key}={value or ''} within {deadline} s; last {self.messages[-5:]}")

    def silent_for(self, key, seconds, deadline=DEADLINE):
        """Waits until no message with the field has come for so long."""
        end = time.monotonic() + deadline
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < seconds:
            assert time.monotonic() < end, f"{key} does not cease"
            fields = self.receive(quiet_since + seconds - time.monotonic())
            if fields and key in fields:
                quiet_since = time.monotonic()


@pytest.fixture
def notify(folder):
    n = Notify(folder / "notify.sock")
    yield n
    n.close()


@pytest.fixture
def supervised(start, notify):
    """Starts a daemon whose starter wants to be told."""
    return lambda changes=None, env=(), **options: start(
        changes, env={"NOTIFY_SOCKET": notify.path, **dict(env)}, **options
    )


def test_ready(supervised, notify):
    t = supervised()
    fields = notify.wait("READY", "1")
    assert fields["STATUS"] == "2 of 2 workers ready, generation 1"
    assert len(t.find(r"starting -> ready")) == 2


def test_no_ready_before_every_worker_is(tined, notify, module):
    t = tined(
        {"module:m": {"path": module, "mount": "/m", "fail": "hang"}, "workers": {"start_timeout": "500ms"}},
        env={"NOTIFY_SOCKET": notify.path},
    )
    assert t.run() == 1
    assert not any("READY" in fields for fields in notify.all())


def test_abstract_socket(start):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(f"\0tined-test-{os.getpid()}-{time.monotonic_ns()}")
        s.settimeout(DEADLINE)
        start(env={"NOTIFY_SOCKET": "@" + s.getsockname()[1:].decode()})
        assert b"READY=1" in s.recv(65536)


def test_status_follows_the_workers(supervised, notify):
    t = supervised({"workers": {"backoff_min": "1h", "backoff_max": "1h"}})
    notify.wait("READY")
    t.signal(signal.SIGTTIN)
    notify.wait("STATUS", "3 of 3 workers ready, generation 1")
    t.signal(signal.SIGTTOU)
    notify.wait("STATUS", "2 of 2 workers ready, generation 1")
    os.kill(t.wait_workers(2)[0], signal.SIGKILL)
    notify.wait("STATUS", "1 of 2 workers ready, generation 1")
    notify.wait("STATUS", "2 of 2 workers ready, generation 1")


def test_reload(supervised, notify):
    t = supervised()
    notify.wait("READY")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    t.signal(signal.SIGHUP)
    fields = notify.wait("RELOADING", "1")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(fields["MONOTONIC_USEC"]) <= after
    assert notify.wait("READY", "1")["STATUS"] == "2 of 2 workers ready, generation 2"


def test_reload_that_fails(supervised, notify):
    """It is over, too: READY again, with what serves."""
    t = supervised()
    notify.wait("READY")
    t.configure(text="nonsense")
    t.signal(signal.SIGHUP)
    notify.wait("RELOADING", "1")
    assert notify.wait("READY", "1")["STATUS"].startswith(
        "2 of 2 workers ready, generation 1; last reload failed: ")


def test_reload_whose_workers_fail(supervised, notify, module):
    t = supervised()
    notify.wait("READY")
    t.configure({"module:m": {"path": module, "mount": "/m", "fail": "start"}})
    t.signal(signal.SIGHUP)
    notify.wait("RELOADING", "1")
    assert notify.wait("READY", "1")["STATUS"].endswith("told to fail in worker_start")


def test_every_reloading_has_its_ready(supervised, notify):
    t = supervised({"workers": {"probation": "100ms"}})
    notify.wait("READY")
    for _ in range(3):
        t.signal(signal.SIGHUP)
        notify.wait("RELOADING")
        t.signal(signal.SIGHUP)  # while it runs: one more afterwards
        notify.wait("READY")
        notify.wait("RELOADING")
        notify.wait("READY")


def test_stopping(supervised, notify):
    t = supervised()
    notify.wait("READY")
    assert t.stop() == 0
    fields = notify.wait("STOPPING", "1")
    assert "STATUS" in fields
    so_far = len(notify.messages)
    assert not any("READY" in fields or "RELOADING" in fields for fields in notify.all()[so_far:])


def test_failed_start_is_no_ready(tined, notify):
    t = tined({"module:hello": {"path": "builtin:helo"}}, env={"NOTIFY_SOCKET": notify.path})
    assert t.run() == 1
    assert not any("READY" in fields for fields in notify.all())


def test_nobody_listens_to_the_notifications(start, folder):
    t = start(env={"NOTIFY_SOCKET": f"{folder}/nobody.sock"})
    t.hello()


def test_all_messages_come_from_the_primary(supervised, notify):
    t = supervised()
    t.reload()
    t.stop()
    notify.wait("STOPPING")
    assert notify.senders == {t.pid}


def test_systemd_that_does_not_read_does_not_stop_the_primary(start, folder):
    """A full queue must not block it: messages are lost, supervision is not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(f"{folder}/full.sock")
        t = start(env={"NOTIFY_SOCKET": f"{folder}/full.sock", "WATCHDOG_USEC": "40000"})
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            with pytest.raises(BlockingIOError):
                for _ in range(10000):
                    filler.sendto(b"filled", f"{folder}/full.sock")
        os.kill(t.worker_pids()[0], signal.SIGKILL)
        t.wait_log(r"starting -> ready", count=3)
        t.reload()
        t.hello()
        assert t.stop() == 0


def test_a_stale_journal_stream_is_not_believed(start):
    """The variable is inherited by whoever is started from a service, whatever his stderr is."""
    t = start(env={"JOURNAL_STREAM": "8:12345"})
    assert not any(line.startswith("<") for line in t.log())


def test_lines_for_the_journal(start):
    """Where the journal reads our stderr it wants priorities, and adds the time itself. Entries: tests/systemd."""
    named = 'JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr) exec "$@"'
    with alone("/run"):
        if os.path.exists(JOURNAL):
            pytest.skip("a journal is here, and gets entries instead")
        t = start(wrap=["sh", "-c", named, "sh"])
    assert any(line.startswith("<6>tined: start: generation 1 serves") for line in t.log())
    assert not any(line.startswith("20") for line in t.log())


# --- descriptors that systemd keeps (FDSTORE) ---


@pytest.fixture
def keeps(supervised):
    """Starts a daemon of whose descriptors systemd keeps as many as it likes."""
    return lambda changes=None, env=(), **options: supervised(changes, env={"FDSTORE": "64", **dict(env)}, **options)


def stored(notify, n):
    """The names of the next n descriptors that come."""
    names = []
    for _ in range(n):
        fields = notify.wait("FDSTORE", "1")
        assert fields["FDPOLL"] == "0"
        names.append(fields["FDNAME"])
    return names


def name_of(fd, listener):
    return f"tined.{listener}.{os.fstat(fd).st_ino}"


def test_sockets_are_given_to_systemd(keeps, notify, folder):
    t = keeps({"listener:more": {"address": "127.0.0.1:0", "accept": "reuseport"},
               "listener:local": {"address": f"unix:{folder}/web.sock"}, "module:hello": {"listener": "web"},
               "module:who": {"listener": "web"}})
    names = stored(notify, 1 + 2 + 1)
    assert sorted(name.split(".")[1] for name in names) == ["local", "more", "more", "web"]
    for name in names:
        fd = notify.fds[name]
        assert name == name_of(fd, name.split(".")[1])
        with socket.socket(fileno=os.dup(fd)) as s:
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    t.reload()
    notify.silent_for("FDSTORE", 1.5)
    assert sum("FDSTORE" in fields for fields in notify.messages) == 4, "those it has are not sent again"


def test_systemd_gives_up_what_is_no_longer_wanted(keeps, notify):
    t = keeps()
    [first] = stored(notify, 1)
    t.configure({"listener:web": {"address": "127.0.0.2:0"}})
    t.reload()
    assert {first} == {notify.wait("FDSTOREREMOVE", "1")["FDNAME"]}
    [second] = stored(notify, 1)
    assert first != second
    t.configure({"listener:web": {"address": "127.0.0.3:0"}, "module:hello": {"path": "builtin:helo"}})
    t.reload_fails()
    with harness.Client(("127.0.0.2", int(t.find(r"listening on 127.0.0.2:(\d+)")[0][1]))) as c:
        assert c.request("/").status == 200
    notify.silent_for("FDSTOREREMOVE", 0.5)
    assert not any(fields.get("FDNAME") == second and "FDSTOREREMOVE" in fields for fields in notify.messages)


def test_systemd_keeps_them_when_it_stops(keeps, notify):
    """It may be a restart; after a stop systemd closes them itself."""
    t = keeps()
    [name] = stored(notify, 1)
    t.stop()
    notify.wait("STOPPING")
    assert not any("FDSTOREREMOVE" in fields for fields in notify.all())
    with harness.Client(t.address()) as c:
        c.send(b"waits for the next one")
    assert name in notify.fds


def test_without_a_store_systemd_is_given_nothing(supervised, notify):
    t = supervised()
    t.reload()
    t.stop()
    notify.wait("STOPPING")
    assert not any("FDSTORE" in fields for fields in notify.all())


def given(fds, names, **env):
    """What starts a daemon with descriptors, as systemd does: at 3 and up."""
    moves = "".join(f"exec {60 + i}<&{fd} {fd}<&-; " for i, fd in enumerate(fds))
    moves += "".join(f"exec {3 + i}<&{60 + i} {60 + i}<&-; " for i in range(len(fds)))
    return {"wrap": ["/bin/bash", "-c", moves + 'LISTEN_PID=$$ exec "$@"', "sh"], "pass_fds": fds,
            "env": {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(names), **env}}


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_the_next_process_takes_them(tined, notify, accept):
    changes = {"listener:web": {"accept": accept}}
    env = {"NOTIFY_SOCKET": notify.path, "FDSTORE": "64"}
    t = tined(changes, env=env).start()
    n = 2 if accept == "reuseport" else 1
    names = stored(notify, n)
    t.stop()
    with harness.Client(t.address()) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")  # while nobody is there
        u = tined(changes, **given([os.dup(notify.fds[name]) for name in names], names, **env)).start()
        assert u.port() == t.port(), "though its configuration asks for any port"
        assert c.response().status == 200
    assert sorted(stored(notify, n)) == sorted(names), "it knows them by the same names"
    u.stop()


def test_the_next_process_is_configured_otherwise(tined, notify):
    """What it does not want is closed, and systemd told; what it wants in another way is opened anew."""
    env = {"NOTIFY_SOCKET": notify.path, "FDSTORE": "64"}
    t = tined({"listener:more": {"address": "127.0.0.1:0"}, "module:hello": {"listener": "web"},
               "module:who": {"listener": "web"}}, env=env).start()
    names = stored(notify, 2)
    t.stop()
    given_fds = [notify.fds.pop(name) for name in names]
    u = tined({"listener:web": {"accept": "reuseport"}}, **given(given_fds, names, **env))
    u.spawn()
    for fd in given_fds:
        os.close(fd)
    u.wait_log("start: generation 1 serves")
    assert u.port() == t.port()
    u.hello()
    wait_until(lambda: refuses(t.address("more")), "what it does not want is closed")
    removed = {notify.wait("FDSTOREREMOVE")["FDNAME"] for _ in range(2)}
    assert removed == set(names)
    assert set(stored(notify, 2)).isdisjoint(names)


def test_a_unix_socket_whose_path_is_gone(tined, notify, folder):
    path = f"{folder}/web.sock"
    env = {"NOTIFY_SOCKET": notify.path, "FDSTORE": "64"}
    changes = {"listener:web": {"address": f"unix:{path}"}}
    t = tined(changes, env=env).start()
    names = stored(notify, 1)
    t.stop()
    assert os.path.exists(path), "the next one needs it"
    os.unlink(path)
    u = tined(changes, **given([os.dup(notify.fds[name]) for name in names], names, **env)).start()
    with harness.Client(path) as c:
        assert c.request("/").status == 200
    assert u.find("start: generation 1 serves")


# --- watchdog ---

WATCHDOG = {"WATCHDOG_USEC": "400000"}


def test_watchdog_is_fed(supervised, notify):
    supervised(env=WATCHDOG)
    notify.wait("READY")
    times = []
    for _ in range(5):
        notify.wait("WATCHDOG", "1")
        times.append(time.monotonic())
    assert times[-1] - times[0] < DEADLINE


def test_no_watchdog_unless_wanted(supervised, notify):
    supervised()
    notify.wait("READY")
    notify.silent_for("WATCHDOG", 1)
    assert not any("WATCHDOG" in fields for fields in notify.all())


def test_watchdog_of_another_process(supervised, notify):
    supervised(env={**WATCHDOG, "WATCHDOG_PID": "1"})
    notify.wait("READY")
    notify.silent_for("WATCHDOG", 1)
    assert not any("WATCHDOG" in fields for fields in notify.all())


def test_watchdog_during_a_reload(supervised, notify):
    t = supervised({"workers": {"probation": "2s"}}, env=WATCHDOG)
    notify.wait("READY")
    t.signal(signal.SIGHUP)
    notify.wait("RELOADING")
    notify.wait("WATCHDOG")
    notify.wait("WATCHDOG")
    notify.wait("READY")
    notify.wait("WATCHDOG")


def test_watchdog_goes_on_while_some_worker_moves(supervised, notify):
    t = supervised({"workers": {"hang_timeout": "1h"}}, env=WATCHDOG)
    notify.wait("READY")
    stopped = t.worker_pids()[0]
    os.kill(stopped, signal.SIGSTOP)
    for _ in range(4):
        notify.wait("WATCHDOG")
    os.kill(stopped, signal.SIGCONT)


def test_watchdog_ceases_while_every_worker_hangs(supervised, notify):
    """Half of WatchdogSec= is the measure when hang_timeout is longer. Those taken for hung are replaced, and then it comes back."""
    t = supervised({"workers": {"count": 2, "hang_timeout": "4s"}}, env=WATCHDOG)
    notify.wait("READY")
    workers = t.worker_pids()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    notify.silent_for("WATCHDOG", 1)
    assert not t.find(r": hung")
    t.wait_log(r"starting -> ready", count=4)
    notify.wait("WATCHDOG")
    notify.wait("WATCHDOG")
    assert not set(workers) & set(t.wait_workers(2))


def test_watchdog_ceases_however_long_the_hang_timeout(supervised, notify):
    t = supervised({"workers": {"count": 2, "hang_timeout": "1h"}}, env=WATCHDOG)
    notify.wait("READY")
    workers = t.worker_pids()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    notify.silent_for("WATCHDOG", 1)
    os.kill(workers[0], signal.SIGCONT)
    notify.wait("WATCHDOG")
    notify.wait("WATCHDOG")
    os.kill(workers[1], signal.SIGCONT)


def test_watchdog_comes_back_after_cont(supervised, notify):
    t = supervised({"workers": {"count": 2, "hang_timeout": "2s"}}, env=WATCHDOG)
    notify.wait("READY")
    for pid in t.worker_pids():
        os.kill(pid, signal.SIGSTOP)
    t.wait_log(r"hung: no answer for", count=2)
    for pid in t.worker_pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)  # now SIGABRT gets them, if it has not had them yet
    t.wait_log(r"starting -> ready", count=4)
    notify.wait("WATCHDOG")
    notify.wait("WATCHDOG")
    t.hello()


def test_watchdog_while_stopping(supervised, notify):
    """A drain may take longer than the watchdog: it must go on."""
    t = supervised({"workers": {"count": 1}, "http": {"header_timeout": "1h"}}, env=WATCHDOG)
    notify.wait("READY")
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        t.hello()
        t.signal(signal.SIGTERM)
        notify.wait("STOPPING")
        notify.wait("WATCHDOG")
        notify.wait("WATCHDOG")
        c.send(b"\r\n")
        assert c.response().status == 200
    assert t.stop() == 0
