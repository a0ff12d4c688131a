"""tinectl and the control socket: the real client, and clients that do not behave."""

import contextlib
import json
import os
import pathlib
import pty
import pwd
import grp
import select
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import DEADLINE, NOBODY, Tined, process, wait_until

TINECTL = pathlib.Path(os.environ.get("TINED", harness.REPOSITORY / "build" / "tined")).resolve().parent / "tinectl"
pytestmark = pytest.mark.skipif(not os.access(TINECTL, os.X_OK), reason="tinectl is not beside the binary under test")

DONE, FAILED, USAGE, UNREACHABLE, DENIED, BUSY, TIMEOUT = range(7)


def ctl(t, *arguments, user=None, groups=None, env=None, timeout=DEADLINE):
    """Runs tinectl to its end."""
    path = t.folder / "control.sock" if isinstance(t, Tined) else t
    more = {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": groups or []} if user is not None else {}
    return subprocess.run(
        [TINECTL, "-s", path, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
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


@pytest.mark.parametrize("how, said", [("start", "told to fail in worker_start"), ("exit", "exited with status 3"),
                                       ("hang", "did not get ready")])
def test_verdict_of_a_module_that_fails(start, module, how, said):
    t = start()
    t.configure({"module:m": {"path": module, "mount": "/m", "fail": how}, "workers": {"start_timeout": "500ms"}})
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
    assert one["pid"] not in t.worker_pids()


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
    assert t.process.wait(1) == 0 and not (t.folder / "control.sock").exists()


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


def test_top_on_a_terminal(start):
    t = start()
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(TINECTL, [TINECTL, "-s", t.folder / "control.sock", "top"])
    seen = b""
    end = time.monotonic() + DEADLINE
    while b"SLOT" not in seen or b"workers ready" not in seen:
        assert time.monotonic() < end, seen
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 65536)
    os.write(fd, b"q")
    while True:
        try:
            if not os.read(fd, 65536):
                break
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    assert ctl(t, "top").returncode == USAGE, "it needs a terminal"


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


def test_place_that_cannot_be(tined):
    t = tined({"tined": {"control": "/nonexistent/control.sock"}})
    assert t.run() == 1
    line = t.line_of("control =")
    assert any(f"tined.ini:{line}: tined.control: /nonexistent/control.sock: No such file" in e for e in t.errors())


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
    refused = [s for s in crowd if select.select([s], [], [], 0.02)[0]]
    assert 8 <= len(refused) <= 24
    assert answer(refused[0])[-1]["code"] == "busy"
    for s in crowd:
        s.close()
    wait_until(lambda: ctl(t, "status").returncode == DONE, "there is room again")


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
