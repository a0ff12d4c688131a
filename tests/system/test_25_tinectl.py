"""tinectl and the control socket: the real client, and clients that do not behave."""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import pty
import pwd
import re
import grp
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

import harness
from harness import DEADLINE, NOBODY, Tined, process, wait_until

TINECTL = pathlib.Path(os.environ.get("TINED", harness.REPOSITORY / "build" / "tined")).resolve().parent / "tinectl"
pytestmark = pytest.mark.skipif(not os.access(TINECTL, os.X_OK), reason="tinectl is not beside the binary under test")

DONE, FAILED, USAGE, UNREACHABLE, DENIED, BUSY, TIMEOUT, GONE = range(8)


@functools.cache
def tinectl_for_all():
    """A copy where another user gets to: the build folder may be root's own."""
    folder = tempfile.mkdtemp(prefix="tined-tinectl-")
    os.chmod(folder, 0o755)
    atexit.register(shutil.rmtree, folder)
    return shutil.copy(TINECTL, folder)


def ctl(t, *arguments, user=None, groups=None, env=None, timeout=DEADLINE):
    """Runs tinectl to its end."""
    path = t.folder / "control.sock" if isinstance(t, Tined) else t
    more = {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": groups or []} if user is not None else {}
    return subprocess.run(
        [TINECTL if user is None else tinectl_for_all(), "-s", path, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout, env={**os.environ, **(env or {})}, check=False, **more)


def records(t, *arguments, **options):
    run = ctl(t, "--json", *arguments, **options)
    return [json.loads(line) for line in run.stdout.splitlines()]


def status(t):
    return records(t, "status")[0]


def workers(t):
    return [r for r in records(t, "workers") if r.get("role") == "worker"]


def connect(t):
    def once():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(DEADLINE)
        try:
            s.connect(str(t.folder / "control.sock"))
        except BlockingIOError:  # so many at once that the queue is full
            s.close()
            return None
        return s

    return wait_until(once, "there is room in the queue")


def answer(s):
    data = b""
    while True:
        more = s.recv(65536)
        if not more:
            return [json.loads(line) for line in data.splitlines()]
        data += more


def ask(t, line):
    with connect(t) as s:
        s.sendall(line)
        return answer(s)


# --- commands ---


def test_status(start):
    t = start()
    for _ in range(3):
        t.hello()
    s = wait_until(lambda: (s := status(t))["totals"]["requests"] == 3 and s, "three requests are counted")
    assert (s["pid"], s["phase"], s["generation"]) == (t.pid, "serving", 1)
    assert (s["workers_ready"], s["workers_wanted"]) == (2, 2)
    text = ctl(t, "status").stdout
    assert f"pid {t.pid}" in text and "2 of 2 ready" in text and "3 requests" in text


def test_workers_are_a_table(start):
    t = start()
    lines = ctl(t, "workers").stdout.splitlines()
    assert lines[0].split()[:4] == ["SLOT", "ROLE", "STATE", "PID"] and len(lines) == 3
    assert sorted(int(line.split()[3]) for line in lines[1:]) == t.worker_pids()
    assert all("\033" not in line for line in lines), "colour is for terminals"


def test_memory_of_each_process_is_known(start):
    t = start()
    wait_until(lambda: all(w["memory"] > 1 << 20 for w in workers(t)), "their memory was sampled")


def test_crashes(start, module):
    t = start({"module:m": {"path": module, "mount": "/m"}})
    assert ctl(t, "crashes").stdout == "no crashes\n"
    with pytest.raises((harness.Gone, ConnectionResetError)):
        t.get("/m/abort")
    c = wait_until(lambda: (r := records(t, "crashes")) and len(r) == 2 and r[0]["backtrace"] and r[0], "it is recorded")
    assert c["signal"] == signal.SIGABRT and c["request_line"] == "GET /m/abort HTTP/1.1"
    assert "on_abort" in c["backtrace"] and c["generation"] == 1
    text = ctl(t, "crashes").stdout
    assert 'serving "GET /m/abort HTTP/1.1"' in text and "    #" in text


def test_a_replacement_has_worked_no_longer_than_it_lives(start):
    """It is forked in the midst of a turn of the primary's loop."""
    t = start()
    wait_until(lambda: status(t)["uptime_ms"] > 1000, "the primary is older than the replacement will be")
    old = workers(t)
    os.kill(old[0]["pid"], signal.SIGKILL)
    new = wait_until(lambda: [w for w in workers(t) if w["pid"] not in [o["pid"] for o in old] and w["busy_us"] > 0],
                     "it has worked")[0]
    assert new["busy_us"] <= (new["age_ms"] + 1) * 1000, new


def test_only_the_last_crashes_are_kept(start):
    t = start({"workers": {"count": 1, "crash_limit": "1000/1s", "backoff_min": "1ms", "backoff_max": "1ms"}})
    for n in range(1, 71):
        pid = wait_until(lambda: [w["pid"] for w in workers(t) if w["state"] == "ready"], "it is back")[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: status(t)["crashes"] == n, "it is counted")
    numbers = [r["number"] for r in records(t, "crashes")[:-1]]
    assert numbers == list(range(7, 71))


def test_events_and_those_to_come(start):
    t = start()
    before = records(t, "events")
    assert before[-1]["ok"] and any("generation 1 serves" in e.get("text", "") for e in before)
    with subprocess.Popen([TINECTL, "-s", t.folder / "control.sock", "events", "--follow"], stdout=subprocess.PIPE,
                          text=True) as follow:
        for _ in before[:-1]:
            follow.stdout.readline()
        t.signal(signal.SIGTTIN)
        seen = ""
        while "3 workers" not in seen:
            seen = follow.stdout.readline()
            assert seen, "it ended"
        follow.terminate()


def test_reload_brings_its_verdict(start):
    t = start()
    run = ctl(t, "reload")
    assert (run.returncode, run.stderr) == (DONE, "") and "generation 2 serves, 2 workers" in run.stdout
    t.configure({"workers": {"nonsense": "1"}, "http": {"nonsense": "2"}})
    run = ctl(t, "reload")
    assert run.returncode == FAILED and run.stdout == ""
    assert run.stderr.count("nonsense: unknown key") == 2, "every mistake, not only the first"
    assert status(t)["last_reload"].startswith("failed: ")
    t.configure({"workers": {"nonsense": None, "shared_memory": "32M"}, "http": {"nonsense": None}, "tined": {"control_others": "read"}})
    run = ctl(t, "reload")
    assert run.returncode == DONE
    assert re.search(r"generation \d serves, 2 workers, .*; counts after a restart only: "
                     r"\[tined\] control_others, \[workers\] shared_memory$", run.stdout.strip()), run.stdout


@pytest.mark.parametrize("how, said", [("start", "told to fail in worker_start"), ("exit", "exited with status 3"),
                                       ("hang", "did not get ready")])
def test_verdict_of_a_module_that_fails(start, module, how, said):
    t = start()
    limit = {"start_timeout": "500ms"} if how == "hang" else {}
    t.configure({"module:m": {"path": module, "mount": "/m", "fail": how}, "workers": limit})
    run = ctl(t, "reload")
    assert run.returncode == FAILED and said in run.stderr


def test_each_of_two_reloads_has_its_own_verdict(start):
    t = start({"workers": {"probation": "1s"}})
    with connect(t) as first, connect(t) as second:
        first.sendall(b"reload\n")
        wait_until(lambda: status(t)["reloading"], "the first one runs")
        t.configure({"workers": {"nonsense": "1"}})
        second.sendall(b"reload\n")
        assert answer(first)[-1]["ok"] is True
        last = answer(second)[-1]
        assert last["ok"] is False and "nonsense" in last["error"]


def test_restart_scale_drain(start):
    t = start()
    old = t.worker_pids()
    assert ctl(t, "restart", "all").returncode == DONE
    assert not set(old) & set(t.wait_workers(2))
    assert ctl(t, "scale", "4").returncode == DONE and len(t.worker_pids()) == 4
    assert ctl(t, "scale", "-1").returncode == DONE
    t.wait_workers(3)
    assert ctl(t, "scale", "+1").returncode == DONE
    slot = workers(t)[0]["slot"]
    assert ctl(t, "drain", slot).returncode == DONE
    assert slot not in [w["slot"] for w in workers(t)] and len(t.wait_workers(3)) == 3
    one = workers(t)[0]
    assert ctl(t, "restart", one["slot"]).returncode == DONE
    wait_until(lambda: one["pid"] not in t.worker_pids(), "the old one has ended")


@pytest.mark.parametrize("arguments, said", [
    (("scale", "0"), "1 to 1024"), (("scale", "lots"), "1 to 1024"), (("scale", "99999"), "1 to 1024"), (("scale",), "scale N"),
    (("restart", "77"), "slot 77"), (("restart", "x"), "no slot"), (("drain",), "drain SLOT"), (("reload", "now"), 'write "reload"'),
    (("log-level", "loud"), "error, warning, info or debug"), (("relaod",), 'did you mean "reload"?'), (("show",), "show config"),
])
def test_wrong_usage(start, arguments, said):
    t = start()
    run = ctl(t, *arguments)
    assert run.returncode == USAGE and said in run.stderr and run.stdout == ""


def test_last_worker_is_not_drained(start):
    t = start({"workers": {"count": 1}})
    run = ctl(t, "drain", workers(t)[0]["slot"])
    assert run.returncode in (USAGE, BUSY) and "only worker" in run.stderr


def test_log_level_reaches_everybody(start):
    t = start()
    assert ctl(t, "log-level", "error").returncode == DONE
    mark = t.mark()
    assert ctl(t, "restart", "all").returncode == DONE
    assert t.log(mark) == []
    assert ctl(t, "log-level", "debug").returncode == DONE
    assert ctl(t, "restart", "all").returncode == DONE
    assert t.find("starting -> ready", mark)


def test_config_and_check(start):
    t = start()
    assert "count = 2" in ctl(t, "show", "config").stdout and ctl(t, "config").stdout == ctl(t, "show", "config").stdout
    assert ctl(t, "check").returncode == DONE
    t.configure({"workers": {"nonsense": "1"}})
    run = ctl(t, "check")
    assert run.returncode == 1 and "nonsense" in run.stderr
    assert ctl(t, "check", "/nonexistent").returncode == 1


def test_stop_returns_when_it_is_gone(start):
    t = start()
    assert ctl(t, "stop").returncode == DONE
    assert t.process.wait(DEADLINE) == 0 and not (t.folder / "control.sock").exists()


def test_nobody_answers(folder):
    run = ctl(folder / "nothing.sock", "status")
    assert run.returncode == UNREACHABLE and str(folder / "nothing.sock") in run.stderr


def test_timeout(start):
    t = start({"workers": {"probation": "3s"}})
    run = ctl(t, "--timeout", "200ms", "reload")
    assert run.returncode == TIMEOUT
    t.wait_log("reload: generation 2 serves")


def test_help_and_version():
    assert subprocess.run([TINECTL, "--version"], capture_output=True, text=True, check=True).stdout.startswith("tinectl ")
    text = subprocess.run([TINECTL, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(word in text for word in ("reload", "upgrade", "top", "show config", "Exit status"))
    assert ctl("/nonexistent", "reload", "--help").stdout == text


# --- top ---


class Terminal:
    """tinectl top on a terminal of its own."""

    def __init__(self, t, **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            env = {**os.environ, "TERM": "xterm", **env}
            os.execve(TINECTL, [TINECTL, "-s", t.folder / "control.sock", "top"], {k: v for k, v in env.items() if v is not None})
        self.seen = b""

    def wait(self, *words):
        end = time.monotonic() + DEADLINE
        while not all(word in self.seen for word in words):
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)

    def press(self, key):
        os.write(self.fd, key)

    def end(self):
        """Its exit status, which it must come to by itself."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                if select.select([self.fd], [], [], 0.1)[0]:
                    self.seen += os.read(self.fd, 65536) or exit
            except (OSError, TypeError):
                break
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_top_on_a_terminal(start):
    t = start()
    top = Terminal(t)
    top.wait(b"SLOT", b"workers ready")
    top.press(b"q")
    assert top.end() == DONE


def test_top_without_a_terminal_it_can_use(start):
    t = start()
    assert ctl(t, "top").returncode == USAGE
    assert ctl(t, "--json", "top").returncode == USAGE
    top = Terminal(t, TERM=None, ASAN_OPTIONS="detect_leaks=0")  # ncurses forgets what it had for it
    assert (top.end(), b"set TERM" in top.seen) == (USAGE, True), top.seen.decode()


def test_top_can_be_left_while_the_daemon_stands_still(start):
    t = start()
    top = Terminal(t)
    top.wait(b"SLOT")
    os.kill(t.pid, signal.SIGSTOP)
    try:
        top.wait(b"trying again")
        top.press(b"\x03")
        assert top.end() == DONE
    finally:
        os.kill(t.pid, signal.SIGCONT)


def test_top_ends_with_its_terminal(start):
    """Without a hangup signal, as under nohup(1)."""
    t = start()
    ours, its = pty.openpty()
    with subprocess.Popen([TINECTL, "-s", t.folder / "control.sock", "top"], stdin=its, stdout=its, stderr=its,
                          env={**os.environ, "TERM": "xterm"}, start_new_session=True) as top:
        os.close(its)
        assert os.read(ours, 100)
        os.close(ours)
        assert top.wait(DEADLINE) == DONE


# --- who may ---


def test_others_may_nothing(start, root_only):
    t = start()
    nobody = pwd.getpwnam(NOBODY).pw_uid
    for command in "status", "stop":
        run = ctl(t, command, user=nobody)
        assert run.returncode == DENIED and "control_group" in run.stderr


def test_others_may_read(start, root_only):
    t = start({"tined": {"control_others": "read"}})
    nobody = pwd.getpwnam(NOBODY).pw_uid
    assert ctl(t, "status", user=nobody).returncode == DONE
    for command in (("reload",), ("stop",), ("scale", "3"), ("config",)):
        run = ctl(t, *command, user=nobody)
        assert run.returncode == DENIED and f"uid {nobody}" in run.stderr


@pytest.mark.parametrize("how", ["primary", "supplementary"])
def test_members_of_the_group_may(start, root_only, how):
    nobody = pwd.getpwnam(NOBODY)
    group = grp.getgrgid(nobody.pw_gid if how == "primary" else grp.getgrnam("daemon").gr_gid)
    t = start({"tined": {"control_group": group.gr_name}})
    assert ctl(t, "reload", user=nobody.pw_uid, groups=[] if how == "primary" else [group.gr_gid]).returncode == DONE
    if how == "supplementary":
        assert ctl(t, "reload", user=nobody.pw_uid).returncode == DENIED


def test_group_that_is_not_there(tined):
    t = tined({"tined": {"control_group": "no-such-group"}})
    assert t.run() == 1
    assert any("control_group: no-such-group: no such group" in e for e in t.errors())


# --- the socket ---


def test_stale_socket_is_replaced(start, folder):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(folder / "control.sock"))
    t = start()
    assert ctl(t, "status").returncode == DONE


def test_socket_of_another_daemon_is_left_alone(start, tined):
    t = start()
    other = tined({"tined": {"control": t.folder / "control.sock"}})
    assert other.run() == 1
    assert any("another tined answers there" in e for e in other.errors())
    assert ctl(t, "status").returncode == DONE


def test_file_in_its_place_is_left_alone(tined, folder):
    (folder / "precious").write_text("precious")
    t = tined({"tined": {"control": folder / "precious"}})
    assert t.run() == 1
    assert any(f"{folder}/precious: there is something else than a socket" in e for e in t.errors())
    assert (folder / "precious").read_text() == "precious"


def test_place_that_cannot_be(tined):
    t = tined({"tined": {"control": "/nonexistent/control.sock"}})
    assert t.run() == 1
    line = t.line_of("control =")
    assert any(f"tined.ini:{line}: tined.control: /nonexistent/control.sock: No such file or directory; its folder must be there" in e for e in t.errors())


@pytest.mark.parametrize("make, what", [
    (lambda path: path.mkdir(), "that is a folder; name the socket"),
    (lambda path: path.touch(), "that is no socket; name the socket"),
    (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "Connection refused; is it running"),
    (lambda path: None, "No such file or directory; is it running"),
], ids=["folder", "file", "stale", "nothing"])
def test_what_is_no_daemons_socket(folder, make, what):
    make(folder / "place")
    run = ctl(folder / "place", "status")
    assert run.returncode == UNREACHABLE and f"{folder}/place: {what}" in run.stderr


def test_socket_without_a_name():
    run = ctl("", "status")
    assert run.returncode == USAGE and "--socket: empty" in run.stderr


# --- daemons that do not behave ---


@pytest.fixture
def pretend(folder):
    """Answers the next clients with these pieces, instead of a daemon; without any it never does."""
    path = folder / "pretended.sock"
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(path))
    s.listen()
    clients = []

    def answer_all(pieces):
        while True:
            try:
                client, _ = s.accept()
            except OSError:
                return
            clients.append(client)
            try:
                client.recv(1024)
                for piece in pieces:
                    client.sendall(piece)
            except OSError:
                pass
            if pieces:
                client.close()

    def make(pieces=()):
        threading.Thread(target=answer_all, args=(pieces,), daemon=True).start()
        return path

    yield make
    s.shutdown(socket.SHUT_RDWR)
    s.close()
    for client in clients:
        client.close()


@pytest.mark.parametrize("pieces, expected", [
    ([b""], GONE),
    ([b'{"type":"status"}\n'], GONE),
    ([b'{"ok":true,"te'], GONE),
    ([b"HTTP/1.1 400 Bad Request\r\n"], FAILED),
    ([b'["ok"]\n'], FAILED),
    ([b'{"ok":1}\n'], FAILED),
    ([b'{"ok":false}\n'], FAILED),
    ([b'{"ok":false,"code":"new","error":{}}\n'], FAILED),
    ([b'{"ok":"\xff"}\n'], FAILED),
    ([b"[" * 100_000 + b"\n"], FAILED),
    ([b"x" * 1_000_000] * 100, FAILED),
    ([b'{"type":"process"}\n' * 10_000] * 1000, FAILED),
], ids=range(12))
def test_answers_that_make_no_sense(pretend, pieces, expected):
    run = ctl(pretend(pieces), "workers")
    assert run.returncode == expected and len(run.stderr) < 1000 and run.stderr.startswith("tinectl: ")


def test_daemon_that_never_answers(pretend):
    assert ctl(pretend(), "--timeout", "200ms", "status").returncode == TIMEOUT


def test_daemon_that_takes_nobody(folder):
    """Its queue is full, and connect(2) waits."""
    with socket.socket(socket.AF_UNIX) as s, socket.socket(socket.AF_UNIX) as first:
        s.bind(str(folder / "full.sock"))
        s.listen(0)
        first.connect(str(folder / "full.sock"))
        run = ctl(folder / "full.sock", "--timeout", "200ms", "status")
        assert run.returncode == TIMEOUT and "takes no connections" in run.stderr


EVIL = "\x1b]0;owned\x07\x9b31m\x7f\r\u2028é"
ANSWERS = {
    "status": {"version": EVIL, "phase": EVIL, "config": EVIL, "last_reload": EVIL},
    "workers": {"type": "process", "role": EVIL, "state": EVIL},
    "crashes": {"time": EVIL, "how": EVIL, "request_line": EVIL, "backtrace": EVIL + "\n" + EVIL},
    "events": {"type": "event", "time": EVIL, "level": EVIL, "event": EVIL, "text": EVIL + "\n2026 a line of its own"},
    "config": {"type": "config", "text": f"[tined]\nuser = {EVIL}\n"},
    "reload": {"type": EVIL},
}


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("command", ANSWERS)
def test_terminal_gets_nothing_but_text(pretend, command, options):
    record = json.dumps(ANSWERS[command], ensure_ascii=False).encode()
    last = json.dumps({"ok": True, "text": EVIL}, ensure_ascii=False).encode()
    run = ctl(pretend([record + b"\n" + last + b"\n"]), *options, command)
    assert run.returncode == DONE and "owned" in run.stdout
    assert not [c for c in run.stdout if c != "\n" and (c < " " or "\x7f" < c <= "\x9f")]
    if options:
        assert [json.loads(line) for line in run.stdout.splitlines()] == [ANSWERS[command], json.loads(last)]
    elif command == "events":
        assert run.stdout.count("\n") == 2, "an event is one line"


def test_error_is_text_too(pretend):
    run = ctl(pretend([json.dumps({"ok": False, "code": "busy", "error": EVIL}).encode() + b"\n"]), "reload")
    assert run.returncode == BUSY and "owned" in run.stderr and "\x1b" not in run.stderr and "\x9b" not in run.stderr


# --- where its output goes ---


@pytest.mark.parametrize("command", [["status"], ["workers"], ["events"], ["--json", "events"], ["help"], ["--version"]])
def test_output_that_does_not_arrive(start, command):
    t = start()
    with open("/dev/full", "w", encoding="ascii") as full:
        run = subprocess.run([TINECTL, "-s", t.folder / "control.sock", *command], stdout=full, stderr=subprocess.PIPE,
                             text=True, timeout=DEADLINE, check=False)
    assert (run.returncode, run.stderr) == (FAILED, "tinectl: cannot write to standard output: No space left on device\n")


def test_following_ends_when_nobody_reads(start):
    """Also when nothing happens that could be written."""
    t = start()
    with subprocess.Popen([TINECTL, "-s", t.folder / "control.sock", "events", "--follow"], stdout=subprocess.PIPE) as follow:
        assert follow.stdout.readline()
        follow.stdout.close()
        assert follow.wait(DEADLINE) in (DONE, -signal.SIGPIPE)


def test_last_object_says_what_went_wrong(start, pretend, folder):
    t = start()
    for where, command, code in ((folder / "nothing.sock", ["status"], "unreachable"), (t, ["relaod"], "usage"), (t, ["show"], "usage"),
                                 (t, ["top"], "usage"), (pretend([b""]), ["status"], "gone")):
        run = ctl(where, "--json", *command)
        last = json.loads(run.stdout.splitlines()[-1])
        assert last["ok"] is False and last["code"] == code and run.stderr == f"tinectl: {last['error']}\n"


def test_json_may_stand_anywhere_behind_the_command(start):
    t = start()
    with subprocess.Popen([TINECTL, "-s", t.folder / "control.sock", "events", "--json", "--follow"], stdout=subprocess.PIPE) as follow:
        assert json.loads(follow.stdout.readline())["type"] == "event"
        follow.terminate()


def test_check_as_json(start, folder):
    t = start()
    assert records(t, "check") == [{"ok": True, "text": records(t, "check")[0]["text"]}]
    t.configure({"workers": {"nonsense": "1"}, "http": {"nonsense": "2"}})
    run = ctl(t, "--json", "check")
    last = json.loads(run.stdout)
    assert run.returncode == FAILED and last["code"] == "failed" and last["error"].count("nonsense: unknown key") == 2


def test_check_of_a_file_that_was_named_from_elsewhere(tined):
    t = tined(arguments=["-c", "tined.ini"]).start()
    assert status(t)["config"] == "tined.ini" and os.getcwd() != str(t.folder)
    assert ctl(t, "check").returncode == DONE
    t.configure({"workers": {"nonsense": "1"}})
    run = ctl(t, "check")
    assert run.returncode == FAILED and f"{t.folder}/tined.ini:" in run.stderr


def test_configuration_whose_name_is_no_utf8(tined, folder):
    name = os.fsdecode(b"caf\xe9.ini")
    t = tined(arguments=["-c", name])
    (folder / name).write_bytes(t.path.read_bytes())
    t.start()
    assert status(t)["config"] == "caf?.ini" and "configuration caf?.ini" in ctl(t, "status").stdout


# --- clients that do not behave ---


@pytest.mark.parametrize("line", [b"\0\n", b"status\0\n", b"\xff\xfe\n", b"\n", b" \n", b"x" * 1000 + b"\n", b"status status\n",
                                  b"events --folow\n", b"GET / HTTP/1.1\r\n"])
def test_nonsense_is_answered(start, line):
    t = start()
    last = ask(t, line)[-1]
    assert last["ok"] is False and last["code"] == "usage" and last["error"]


def test_line_without_an_end(start):
    t = start()
    with connect(t) as s:
        try:
            s.sendall(b"x" * 100_000)
        except OSError:
            pass  # it did not wait for all of it
        try:
            assert answer(s)[-1]["error"] == "the command is too long"
        except ConnectionResetError:
            pass
    assert ctl(t, "status").returncode == DONE


def test_silent_client_is_sent_away(start):
    t = start()
    with connect(t) as s:
        s.sendall(b"stat")
        assert answer(s)[-1]["error"] == "no command came in time"


def test_half_closed_client_gets_its_answer(start):
    t = start({"workers": {"probation": "500ms"}})
    with connect(t) as s:
        s.sendall(b"reload\n")
        s.shutdown(socket.SHUT_WR)
        assert answer(s)[-1]["ok"] is True


def test_client_that_leaves_during_its_command(start):
    t = start({"workers": {"probation": "500ms"}})
    for _ in range(5):
        s = connect(t)
        s.sendall(b"reload\n")
        s.close()
    t.wait_log("reload: generation 2 serves")
    assert ctl(t, "reload").returncode == DONE


def test_only_so_many_clients(start):
    t = start()
    crowd = [connect(t) for _ in range(40)]
    assert select.select(crowd[-1:], [], [], DEADLINE)[0], "it is the last, so all are decided upon"
    refused = select.select(crowd, [], [], 0)[0]
    assert 8 <= len(refused) <= 24
    assert answer(refused[0])[-1]["code"] == "busy"
    for s in crowd:
        s.close()
    wait_until(lambda: ctl(t, "status").returncode == DONE, "there is room again")


def connect_as(t, user):
    """A connection that the daemon takes for another user's."""
    os.seteuid(pwd.getpwnam(user).pw_uid)
    try:
        return connect(t)
    finally:
        os.seteuid(0)


def is_refused(s, within=0.1):
    """Whether it is told so. Who follows is told something else, or nothing."""
    while select.select([s], [], [], within)[0]:
        data = s.recv(65536)
        if not data or b'"busy"' in data:
            return True
    return False


def wait_refused(crowd, n):
    """Waits until n of them have been told so. Returns those who have not."""
    left = list(crowd)

    def counted():
        left[:] = [s for s in left if not is_refused(s, 0)]
        return len(crowd) - len(left) >= n

    wait_until(counted, f"{n} are refused")
    assert len(crowd) - len(left) == n
    return left


@pytest.mark.parametrize("command", [b"events --follow\n", b"sub >\n"])
def test_followers_leave_room_for_commands(start, command):
    t = start({"workers": {"probation": "100ms"}})
    crowd = [connect(t) for _ in range(20)]
    for s in crowd:
        s.sendall(command)
    left = wait_refused(crowd, 4)
    for _ in range(20):
        assert ctl(t, "status").returncode == DONE
    assert ctl(t, "reload").returncode == DONE
    wait_refused(left, 0)
    refused = ctl(t, "events", "--follow")
    assert refused.returncode == BUSY and "follow" in refused.stderr
    for s in crowd:
        s.close()
    with connect(t) as s:
        s.sendall(command)
        assert not is_refused(s, 1), "there is room again at once"


def test_others_leave_room_for_those_who_may_act(start, root_only):
    t = start({"tined": {"control_others": "read"}})
    crowd = [connect_as(t, user) for user in (NOBODY, "daemon") for _ in range(20)]
    assert is_refused(crowd.pop(), DEADLINE), "it is the last, so all are decided upon"
    assert sum(is_refused(s, 0) for s in crowd) == 39 - 24
    assert ctl(t, "status", user=pwd.getpwnam(NOBODY).pw_uid).returncode == BUSY
    for _ in range(4):
        assert ctl(t, "status").returncode == DONE
    for s in crowd:
        s.close()


def test_one_user_is_not_all_that_follow(start, root_only):
    t = start({"tined": {"control_others": "read"}})
    crowd = [connect_as(t, NOBODY) for _ in range(10)]
    for s in crowd:
        s.sendall(b"events --follow\n")
    left = wait_refused(crowd, 2)
    with connect(t) as s:
        s.sendall(b"events --follow\n")
        assert not is_refused(s)
    wait_refused(left, 0)
    for s in crowd:
        s.close()


def test_followers_that_never_read_cost_nothing(start):
    """Their queue is bounded; they go, everybody else is answered, and the memory stays."""
    t = start()
    crowd = [connect(t) for _ in range(8)]
    for s in crowd:
        s.sendall(b"events --follow\n")
    before = rss(t.pid)
    for _ in range(60):
        assert ctl(t, "scale", "+3").returncode == DONE
        assert ctl(t, "scale", "-3").returncode == DONE
    assert rss(t.pid) - before < 32 << 20
    assert t.worker_pids() and ctl(t, "status").returncode == DONE
    for s in crowd:
        s.close()


def rss(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_clients_leave_no_descriptors(start):
    t = start()
    ctl(t, "status")
    before = harness.n_descriptors(t.pid)
    for line in b"status\n", b"nonsense\n", b"workers\n", b"events --follow\n":
        for _ in range(20):
            with connect(t) as s, contextlib.suppress(BrokenPipeError):  # so many at once that it was refused
                s.sendall(line)
    wait_until(lambda: harness.n_descriptors(t.pid) <= before, "all of them are closed")


def test_client_that_leaves_without_its_answer(start):
    """With it unread the end of the connection is an error, which epoll(7) tells in its own way."""
    t = start()
    before = harness.n_descriptors(t.pid)
    with connect(t) as s:
        s.sendall(b"events --follow\n")
        s.recv(1)
    wait_until(lambda: harness.n_descriptors(t.pid) <= before, "it is closed")


def test_client_that_leaves_by_halves(start):
    t = start()
    before = t.n_descriptors()
    with connect(t) as s:
        s.sendall(b"events --follow\n")
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
        assert harness.n_descriptors(t.pid) > before, "it follows"
    wait_until(lambda: harness.n_descriptors(t.pid) <= before, "it is closed")


def test_children_have_nothing_of_it(start):
    t = start()
    with connect(t) as s:
        s.sendall(b"events --follow\n")
        s.recv(1)
        assert ctl(t, "restart", "all").returncode == DONE
        ours = harness.sockets(t.pid)
        listening = {link for pid in t.worker_pids() for link in harness.sockets(pid)} & ours
        assert len(listening) == 1, "the listening socket and nothing else"
    assert process(t.pid)
