"""The bus for operators: tinectl pub, sub and bus, the same figures in the metrics and on the dashboard."""

import json
import os
import pathlib
import re
import subprocess
import threading
import urllib.request

import pytest

import harness
from harness import DEADLINE, wait_until
from test_25_tinectl import DENIED, DONE, FAILED, TINECTL, USAGE, ctl, pytestmark, records  # noqa: F401
from test_30_bus import Worker, members

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def service(build_module):
    return build_module(HERE / "bus_module.c")


@pytest.fixture
def daemon(start, service):
    def make(count=2, changes=None):
        return start({"workers": {"count": count}, "admin": {"listen": "127.0.0.1:0"},
                      "module:bus": {"path": service, "listener": "web", "mount": "/bus"}, **(changes or {})})

    return make


def get(t, path):
    port = t.wait_log(r"listening on \S+:(\d+) \(admin\)")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE) as answer:
        return answer.read().decode()


class Follower:
    """A tinectl sub that runs until it is closed; lines of what it prints."""

    def __init__(self, t, pattern, *options, env=None):
        self.process = subprocess.Popen(
            [TINECTL, "-s", t.folder / "control.sock", *options, "sub", pattern], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})})
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip(b"\n"))

    def wait(self, n):
        wait_until(lambda: len(self.lines) >= n, f"{n} lines")
        assert len(self.lines) == n, self.lines
        return self.lines

    def close(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(DEADLINE)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def follow():
    made = []

    def make(t, pattern, *options, **more):
        def n_subscriptions():
            return sum(r["subscriptions"] for r in raw(t) if r.get("pattern") == pattern)

        before = n_subscriptions()
        made.append(Follower(t, pattern, *options, **more))
        # It follows as soon as the primary has its subscription, beside those of others.
        wait_until(lambda: n_subscriptions() > before, "it follows")
        return made[-1]

    yield make
    for f in made:
        f.close()


def raw(t):
    """The daemon's own records of the bus, without rates."""
    import socket

    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(DEADLINE)
        s.connect(str(t.folder / "control.sock"))
        s.sendall(b"bus\n")
        data = b""
        while more := s.recv(65536):
            data += more
    return [json.loads(line) for line in data.splitlines()]


def test_what_is_published_reaches_workers_and_followers(daemon, follow):
    t = daemon()
    a, b = members(t)
    a.ask("subscribe", pattern="chat.*")
    wait_until(lambda: a.ask("count", subject="chat.room") == "1", "the subscription")
    f = follow(t, "chat.>")
    run = ctl(t, "pub", "chat.room", "hello  you \\ there")
    assert (run.returncode, run.stdout) == (DONE, "published: 2 subscriptions here\n"), run
    assert a.got(1) == ["0 chat.room 18 hello  you \\ there"]
    assert b.ask("send", subject="chat.room", data="from a worker") == "ok"
    assert f.wait(2) == [b"chat.room  hello  you \\\\ there", b"chat.room  from a worker"]
    assert ctl(t, "pub", "chat.room", "").returncode == DONE
    assert f.wait(3)[2] == b"chat.room  "
    assert t.find(r"uid 0, pid \d+: pub chat.room hello") or os.geteuid() != 0


def test_nothing_of_a_message_moves_the_terminal(daemon, follow):
    t = daemon(1)
    f, plain, js = follow(t, "x"), follow(t, "x", env={"LC_ALL": "C"}), follow(t, "x", "--json")
    nasty = "\x1b[31m red \r\x07 grün ‮ \x9b ~ \x7f"
    assert ctl(t, "pub", "x", nasty).returncode == DONE
    (line,) = f.wait(1)
    assert line == "x  \\x1b[31m red \\x0d\\x07 grün \\xe2\\x80\\xae \\xc2\\x9b ~ \\x7f".encode()
    (line,) = plain.wait(1)
    assert line == b"x  \\x1b[31m red \\x0d\\x07 gr\\xc3\\xbcn \\xe2\\x80\\xae \\xc2\\x9b ~ \\x7f"
    (line,) = js.wait(1)
    assert line.isascii() and json.loads(line)["data"] == nasty
    # What is shown can be published again, and bytes that are no text are.
    a = members(t)[0]
    a.ask("flood", subject="x", n=1, size=16)
    message = json.loads(js.wait(2)[1])
    assert (message["form"], message["size"], len(message["data"])) == ("hex", 16, 32)
    assert f.wait(2)[1].startswith(b"x  !!number\\x00")


def test_a_flood_is_not_shown_whole(daemon, follow):
    t = daemon(1)
    (a,) = members(t)
    a.ask("subscribe", pattern="flood")
    f = follow(t, "flood", "--json")
    a.json("flood", subject="flood", n=100000, size=64, done=1)
    a.numbers(a, 100000)  # nobody waited for the follower

    def all_told():
        if len(f.lines) < 2:
            return False
        ctl(t, "pub", "flood", "end")
        shown = [json.loads(line) for line in list(f.lines)]
        return [m for m in shown if m["data"] == "end"] and shown

    shown = wait_until(all_told, "the flood is over")
    numbered = [m for m in shown if m["form"] == "hex"]
    assert len(numbered) < 100000
    assert len(numbered) + sum(m["missed"] for m in shown) >= 100000


def test_a_large_message_is_cut(daemon, follow):
    t = daemon(1)
    (a,) = members(t)
    f = follow(t, "x")
    assert a.ask("send", subject="x", size=10000) == "ok"
    assert a.ask("send", subject="x", size=200000) == "ok"
    lines = f.wait(2)
    assert lines[0].endswith(b" ... (10000 bytes)") and len(lines[0]) < 4200
    assert lines[1] == b"x   ... (200000 bytes)"


def test_who_may_not_and_what_cannot_be(daemon, root_only):
    t = daemon(1, {"tined": {"log": "stderr", "control_others": "read"}})
    nobody = 65534
    assert ctl(t, "bus", user=nobody).returncode == DONE
    for command in ("pub", "x", "y"), ("sub", "x"):
        run = ctl(t, *command, user=nobody)
        assert run.returncode == DENIED, run
    for command, words in ((("pub", "x"), "write"), (("pub", "x.*", "y"), "no subject"), (("pub", "a b", "y"), "one word"),
                           (("pub", "$tine.x", "y"), "tined's own"), (("pub", "$local.x", "y"), "tined's own"), (("sub", "a..b"), "no pattern"),
                           (("sub", "a", "b"), "write"), (("bus", "x"), "write"), (("sub",), 'write "sub '), (("pub",), 'write "pub '),
                           (("pub", "\u00e9", "y"), "a subject is one word of printable ASCII"),
                           (("pub", "x", "y" * 9000), "too long: command and arguments have at most 8190")):
        run = ctl(t, *command)
        assert run.returncode == USAGE and words in run.stderr, (command, run)
    run = ctl(t, "pub", "nobody.here", "y")
    assert run.returncode == FAILED and "nobody has subscribed" in run.stderr


def test_the_figures(daemon):
    t = daemon()
    a, b = members(t)
    b.ask("subscribe", pattern="jobs.*")
    b.ask("subscribe", pattern='odd."quoted"\\')
    wait_until(lambda: a.ask("count", subject='odd."quoted"\\') == "1", "the subscriptions")
    a.json("flood", subject="jobs.x", n=5000, done=1)
    b.numbers(a, 5000)
    found = records(t, "bus")
    processes = {r["pid"]: r for r in found if r.get("type") == "bus_process"}
    assert (processes[a.pid]["sent"], processes[b.pid]["received"]) == (5000, 5000)
    assert (processes[b.pid]["subscriptions"], processes[b.pid]["queued"], processes[b.pid]["dropped"]) == (2, 0, 0)
    subjects = {r["pattern"]: r for r in found if r.get("type") == "bus_subject"}
    assert subjects["jobs.*"]["messages"] == subjects["jobs.*"]["delivered"] == 5000
    assert (subjects["jobs.*"]["subscriptions"], subjects["jobs.*"]["messages_per_s"]) == (1, 0)
    assert found[-1]["ok"] is True
    # Rates are those of the second in which it looks.
    n = 5000

    def seen():
        nonlocal n
        a.start("flood", subject="jobs.x", n=400000)
        (rates,) = [r for r in records(t, "bus") if r.get("pattern") == "jobs.*"]
        a.done()
        n += 400000
        return rates["messages_per_s"] > 0 and rates["delivered_per_s"] > 0

    wait_until(seen, "it looks while they are on their way")
    wait_until(lambda: b.json("numbers")[str(a.peer)]["n"] == n, "all of them have come")
    text = ctl(t, "bus").stdout
    assert re.search(r"^SLOT +ROLE +SENT/s +RECEIVED/s +FAILED +DROPPED +QUEUED +SUBSCRIPTIONS$", text, re.M), text
    assert re.search(r"^jobs\.\* +1 +\d+k? ", text, re.M), text
    # The metrics and the dashboard, once somebody has looked.
    get(t, "/metrics")
    metrics = wait_until(lambda: (m := get(t, "/metrics")) and "tined_bus_subject_messages_total{" in m and m, "subjects")
    assert re.search(rf'^tined_bus_subject_delivered_total\{{pattern="jobs\.\*"\}} {n}$', metrics, re.M), metrics
    assert 'pattern="odd.\\"quoted\\"\\\\"' in metrics
    assert re.search(rf'^tined_process_bus_received_total\{{slot="{b.slot}",role="worker"\}} {n}$', metrics, re.M)
    status = json.loads(get(t, "/status.json"))
    assert [r["pattern"] for r in status["bus"] if r["type"] == "bus_subject"][0] == "jobs.*"


def test_metrics_without_tinectl(daemon):
    t = daemon(1)
    (a,) = members(t)
    a.ask("subscribe", pattern="m")
    a.ask("send", subject="m", data="x")
    wait_until(lambda: 'tined_bus_subject_messages_total{pattern="m"} 1\n' in get(t, "/metrics"), "the primary has looked")


def test_many_patterns_are_not_all_shown(daemon):
    t = daemon(1)
    (a,) = members(t)
    for i in range(200):
        a.ask("subscribe", pattern=f"p.{i}")
    for i in range(200):
        for _ in range(2 if i >= 150 else 1):
            a.ask("send", subject=f"p.{i}", data="x")
    found = records(t, "bus")
    subjects = [r for r in found if r.get("type") == "bus_subject"]
    assert len(subjects) == 64
    assert {r["pattern"] for r in subjects} >= {f"p.{i}" for i in range(150, 200)}
    assert [r for r in found if r.get("type") == "bus"][0] == {"type": "bus", "patterns": 200, "shown": 64}
    assert "(and 136 more)" in ctl(t, "bus").stdout


def test_the_dashboard_has_a_table(daemon, browser):
    t = daemon(1)
    (a,) = members(t)
    a.ask("subscribe", pattern="&lt;chat.*")
    port = t.wait_log(r"listening on \S+:(\d+) \(admin\)")[1]
    browser.get(f"http://127.0.0.1:{port}/")

    def rows():  # at once: the page makes them anew meanwhile
        return browser.execute_script(
            "return [...document.querySelectorAll('#subjects tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))")

    def shown():
        a.ask("send", subject="&lt;chat.x", data="x")
        return any(r[0] == "&lt;chat.*" and r[1] == "1" for r in rows() if r)

    wait_until(shown, "the subject is in the table")
