"""Tasks in processes of their own: tine/farm.h and [farm:NAME] through the real daemon, driven over HTTP by farm_module.c."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.parse

import pytest

import harness
from harness import alive, n_descriptors, name, no_descriptors, wait_until

HERE = pathlib.Path(__file__).resolve().parent
KIB, MIB = 1 << 10, 1 << 20
PATTERN = bytes(ord("a") + i % 23 for i in range(23))


def pattern(size):
    return (PATTERN * (size // 23 + 1))[:size]


def sum_of(data):
    total = 0
    for byte in data:
        total = (total * 31 + byte) % 2**32
    return total


@pytest.fixture(scope="session")
def farm_module(build_module):
    return build_module(HERE / "farm_module.c")


class Farm:
    """A daemon with a farm, and a connection to one of its workers."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.client = daemon.connect()
        self.seen = {}  # results by their tags, in the order in which they came

    def ask(self, what, method="POST", body=b"", **query):
        path = f"/farm/{what}?{urllib.parse.urlencode(query)}"
        self.client.send(f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        response = self.client.response()
        assert response.status == 200, response
        return response

    def submit(self, name, data=b"", **query):
        query = {"farm": "f", "function": name, "tag": name, **query}
        return self.ask("submit", body=data if isinstance(data, bytes) else str(data).encode(), **query).body.decode()

    def begin(self, name, data=b"", **query):
        """Submits one, as soon as there is room on the way."""
        said = wait_until(lambda: (r := self.submit(name, data, **query)) != "full" and r, f"room for {name}")
        assert said == "ok"

    def results(self):
        for result in self.ask("results", "GET").json():
            assert result["calls"] == 1
            self.seen[result["tag"]] = result
        return self.seen

    def wait(self, *tags):
        """Waits for the results of these."""
        wait_until(lambda: all(tag in self.results() for tag in tags), f"{tags}; there are {list(self.seen)}")
        return self.seen[tags[-1]]

    def run(self, function, data=b"", tag=None, **query):
        """Submits one and waits for its result."""
        self.seen.pop(tag or function, None)
        self.begin(function, data, tag=tag or function, **query)
        return self.wait(tag or function)

    def fails(self, status, function, data=b"", **query):
        """The same for one that fails; gives the text."""
        result = self.run(function, data, **query)
        assert (result["status"], result["len"], result["data"]) == (status, 0, "")
        assert result["error"]
        return result["error"]

    def cancel(self, tag):
        return self.ask("cancel", tag=tag).body.decode()

    def many(self, n, function):
        return self.ask("many", n=n, farm="f", function=function).json()

    def before(self, n):
        """Runs so many short tasks."""
        if n > 0:
            assert self.many(n, "echo")["ok"] == n

    def gate(self, tag, **query):
        """Begins a task that runs until open() is called. Waits until it does; gives its pid."""
        path = self.daemon.folder / tag
        self.begin("wait", str(path), tag=tag, **query)
        return self.gate_pid(tag)

    def gate_pid(self, tag):
        pid = self.daemon.folder / f"{tag}.pid"
        return int(wait_until(lambda: pid.exists() and pid.read_text().endswith("\n") and pid.read_text(), f"{tag} runs"))

    def tinectl(self, command):
        """What it says, as records."""
        tinectl = pathlib.Path(os.environ.get("TINED", harness.REPOSITORY / "build" / "tined")).resolve().parent / "tinectl"
        if not os.access(tinectl, os.X_OK):
            pytest.skip("tinectl is not beside the binary under test")
        done = subprocess.run([tinectl, "-s", self.daemon.folder / "control.sock", command, "--json"], capture_output=True,
                              text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def report(self):
        """The farm's figures, and the tasks in quarantine."""
        records = self.tinectl("farms")
        return (next(r for r in records if r.get("type") == "farm"), [r for r in records if r.get("type") == "quarantined"])

    def open(self, tag):
        (self.daemon.folder / tag).touch()

    def pids(self):
        """The task processes."""
        return sorted(p.pid for p in self.daemon.family() if name(p.pid) == "tined-task")


@pytest.fixture
def farm(start, folder, farm_module):
    """Makes a daemon with a farm f; what is given are keys of its section."""
    folder.chmod(0o777)

    def make(changes=None, workers=1, env=None, **keys):
        section = {"module": str(farm_module), "processes": 2, **keys}
        return Farm(start({
            "workers": {"count": workers},
            "module:farm": {"path": str(farm_module), "listener": "web", "mount": "/farm"},
            "farm:f": section, **(changes or {})}, env=env))

    return make


# --- what a task gets and gives ---


def test_result(farm):
    f = farm()
    result = f.run("echo", "to and fro")
    assert (result["status"], result["data"], result["tries"], result["error"]) == ("ok", "to and fro", 1, "")
    assert f.run("echo", b"")["len"] == 0
    assert f.run("twice")["data"] == "first"


SIZES = (1, 7, 8, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB, 10 * MIB)


def test_sizes(farm):
    f = farm()
    for size in SIZES:
        expected = sum_of(pattern(size)) if size <= MIB else None
        measured = f.run("measure", size=size)
        assert measured["status"] == "ok", measured
        assert int(measured["data"].split()[0]) == size
        result = f.run("large", size)
        assert (result["status"], result["len"]) == ("ok", size)
        if expected is not None:
            assert (int(measured["data"].split()[1]), result["sum"]) == (expected, expected), size


def test_descriptors_come_back(farm):
    f = farm(min=2)
    f.run("large", 100000)
    f.ask("self", "GET")  # the worker is through with it
    before = [f.daemon.n_descriptors(), *map(n_descriptors, f.daemon.worker_pids())]
    for i in range(60):  # more than may be on their way
        f.begin("measure", size=100000, tag=f"argument{i}")
        f.begin("large", 100000, tag=f"result{i}")
    f.wait(*(f"argument{i}" for i in range(60)), *(f"result{i}" for i in range(60)))
    assert all(f.seen[f"argument{i}"]["status"] == f.seen[f"result{i}"]["status"] == "ok" for i in range(60))
    wait_until(lambda: [n_descriptors(pid) for pid in (f.daemon.pid, *f.daemon.worker_pids())] == before, "they are closed")


@pytest.mark.parametrize("who", ["worker", "primary", "task"])
def test_no_room_for_a_descriptor(farm, who):
    """Only what is large fails, with an error that says why; nobody is killed for it, and all is well again."""
    f = farm(processes=1, min=1)
    f.run("large", 100000)
    everybody = sorted(p.pid for p in f.daemon.family())
    pid = {"worker": int(f.ask("self", "GET").body), "primary": f.daemon.pid, "task": f.pids()[0]}[who]
    with no_descriptors(pid):
        assert "too many descriptors" in f.fails("quota", "large", 100000)
        if who == "worker":
            assert f.submit("measure", size=100000) == "quota"
        else:
            assert "too many descriptors" in f.fails("quota", "measure", size=100000)
        assert f.run("large", 1000)["len"] == 1000
    assert f.run("large", 100000)["len"] == 100000
    assert f.run("measure", size=100000)["status"] == "ok"
    assert sorted(p.pid for p in f.daemon.family()) == everybody


def test_too_large(farm):
    f = farm({"bus": {"max_message": "1M"}}, max_result="100K", queue_memory="512K")
    assert re.search(r"102401 .*102400", f.fails("too large", "large", 102401))
    assert re.search(r"102401 .*102400", f.fails("too large", "careless", 102401))
    assert f.run("large", 102400)["len"] == 102400
    assert re.search(rf"takes 614\d\d\d bytes, more than queue_memory, which is {512 * KIB}",
                     f.fails("too large", "measure", size=600 * KIB))
    assert f.submit("measure", size=MIB + 1) == "too large"
    assert f.fails("too large", "large", 60000000)  # of a size for which there may be no memory
    assert f.run("echo", "well")["data"] == "well"


def test_failures(farm):
    f = farm()
    assert f.fails("invalid", "fail", "no such picture") == "no such picture"
    assert len(f.fails("invalid", "fail", "x" * 4000)) == 1024
    assert f.fails("perm", "errno", 1)
    assert f.fails("perm", "answer_and_fail")
    assert "returned 7" in f.fails("invalid", "positive")
    assert f.fails("quota", "no_descriptor")
    assert "has no function" in f.fails("nobody", "nothing")
    assert f.run("echo", "well")["data"] == "well"


@pytest.mark.parametrize("query, expected", [
    ({"farm": "g"}, "nobody"),
    ({"function": ""}, "invalid"),
    ({"function": "x" * 64}, "invalid"),
    ({"timeout_ms": 86400001}, "invalid"),
])
def test_malformed(farm, query, expected):
    f = farm()
    assert f.submit("echo", "x", **query) == expected
    assert f.run("echo", "well")["data"] == "well"


def test_task_process(farm):
    """It has no socket that listens and few descriptors; its options are the farm's; it is told when it ends."""
    f = farm(greeting="good morning", processes=1)
    assert f.run("option")["data"] == "good morning"
    n, listening = map(int, f.run("descriptors")["data"].split())
    assert listening == 0 and n < 16
    f.run("print")
    f.daemon.wait_log("task.*logged by a task")
    assert f.run("count", tag="a")["data"] == "1"
    assert f.run("count", tag="b")["data"] == "2"
    f.client.close()
    f.daemon.signal(signal.SIGTERM)
    f.daemon.wait_log("task_stop after 2")


def test_reused(farm):
    f = farm(processes=1)
    pids = {f.run("pid", tag=str(i))["data"] for i in range(20)}
    assert pids == {str(f.pids()[0])}


def test_recycled(farm):
    f = farm(processes=2, recycle_after=10)
    pids = {f.run("pid", tag=str(i))["data"] for i in range(60)}
    assert len(pids) >= 4
    assert not f.daemon.find("crash|killed")


# --- order ---

# After many short tasks processes are given some ahead; nobody is to notice that.
ahead = pytest.mark.parametrize("n_before", [0, 3000])


@ahead
def test_one_that_takes_long_delays_nobody(farm, n_before):
    f = farm(processes=2)
    f.before(n_before)
    f.gate("long")
    for i in range(20):
        f.begin("echo", i, tag=str(i))
    f.wait(*map(str, range(20)))
    assert "long" not in f.results()
    f.open("long")
    assert f.wait("long")["data"] == "waited"


@ahead
def test_priorities(farm, n_before):
    f = farm(processes=1)
    f.before(n_before)
    f.gate("first")
    for i, priority in enumerate(("low", "normal", "high", "low", "normal", "high")):
        f.begin("echo", tag=f"{priority}{i}", priority=priority)
    f.open("first")
    f.wait("low3")
    assert list(f.seen) == ["first", "high2", "high5", "normal1", "normal4", "low0", "low3"]


def test_queue_full(farm):
    f = farm(processes=1, queue_max=2)
    f.gate("first")
    for tag in "abc":
        f.begin("echo", tag=tag)
    assert f.wait("c")["status"] == "full"
    assert f.seen["c"]["error"] == "farm f: the queue is full: 2 tasks wait, and queue_max is as many"
    assert f.seen["c"]["tries"] == 0
    f.open("first")
    assert f.wait("a", "b")["status"] == "ok"
    assert f.run("echo")["status"] == "ok"


def test_queue_memory(farm):
    f = farm(processes=1, queue_memory="1M")
    f.gate("first")
    for tag in "ab":
        f.begin("measure", size=600 * KIB, tag=tag)
    assert f.wait("b")["status"] == "full"
    assert re.search(rf"full: its tasks have \d+ bytes; with 614\d\d\d more it were over queue_memory, which is {MIB}",
                     f.seen["b"]["error"]), f.seen["b"]
    f.open("first")
    assert f.wait("a")["status"] == "ok"


# --- deadlines, crashes, cancels ---


@ahead
def test_deadline(farm, n_before):
    f = farm(processes=2, timeout="1s")
    f.before(n_before)
    f.gate("other", timeout_ms=60000)
    f.begin("spin")
    f.begin("echo", "behind it", tag="behind")
    assert f.wait("spin")["status"] == "timeout"
    assert f.seen["spin"]["error"] and f.seen["spin"]["tries"] == 1
    assert f.wait("behind")["data"] == "behind it"
    f.open("other")
    assert f.wait("other")["status"] == "ok"


def test_deadline_of_its_own(farm):
    f = farm(processes=1)
    assert f.fails("timeout", "spin", timeout_ms=100)
    assert f.run("echo", "well")["data"] == "well"


def latest_crash(f):
    return wait_until(lambda: next((r for r in f.tinectl("crashes") if r.get("type") == "crash" and r["backtrace"]), None),
                      "where it was is known")


def test_where_it_was_when_its_time_was_up(farm):
    """In the log and in the record, as of a crash; of a canceled one there is nothing to tell."""
    f = farm(processes=1)
    assert f.fails("timeout", "spin", timeout_ms=100)
    f.daemon.wait_log(r"task\[\d+\]: crash: killed by signal 9 \(Killed\), for its task took longer than it may; .* serving \"spin\"")
    f.daemon.wait_log(r"task\[\d+\]: it was in run_spin ")
    crash = latest_crash(f)
    assert (crash["role"], crash["farm"], crash["request_line"]) == ("task", "f", "spin"), crash
    assert "run_spin" in crash["backtrace"] and "task_main" in crash["backtrace"].splitlines()[-1], crash
    assert not f.daemon.find(r"still there; sending SIGKILL")


@pytest.mark.parametrize("how", ["blocked", "stopped"])
def test_one_that_cannot_tell_where_it_was_is_killed_all_the_same(farm, how):
    f = farm(processes=1)
    f.begin(f"spin_{how}", timeout_ms=100)
    assert f.wait(f"spin_{how}")["status"] == "timeout"
    assert f.run("echo", "well")["data"] == "well"
    assert not f.daemon.find(r"still there; sending SIGKILL")


@pytest.mark.parametrize("function, data, how", [
    ("signal", 9, "SIGKILL|Killed|signal 9"),
    ("segv", "", "SIGSEGV|Segmentation|signal 11|status 1"),  # a sanitizer makes an exit of it
    ("abort", "", "SIGABRT|Aborted|signal 6"),
    ("exit", 3, "3"),
    ("exit", 0, "0"),
])
def test_crash(farm, function, data, how):
    """It is tried again once, and never again; those around it notice nothing."""
    f = farm(retries=1)
    for i in range(10):
        f.begin("echo", i, tag=f"before{i}")
    f.begin(function, data)
    for i in range(10):
        f.begin("echo", i, tag=f"after{i}")
    f.wait(function, *(f"{when}{i}" for when in ("before", "after") for i in range(10)))
    assert all(f.seen[f"{when}{i}"]["tries"] == 1 for when in ("before", "after") for i in range(10))
    assert (f.seen[function]["status"], f.seen[function]["tries"]) == ("crashed", 2)
    assert re.search(how, f.seen[function]["error"]), f.seen[function]


def test_crash_is_named(farm):
    """In the log and in the crash's record: the function, its callers down to the task process, and nothing below."""
    f = farm(retries=0, env={"ASAN_OPTIONS": "handle_segv=0:" + os.environ.get("ASAN_OPTIONS", "")})
    assert "signal 11" in f.fails("crashed", "segv")
    f.daemon.wait_log(r"task\[\d+\]: it was in run_segv ")
    (crash,) = (r for r in f.tinectl("crashes") if "backtrace" in r)
    frames = crash["backtrace"].splitlines()
    assert "run_segv" in frames[0] and "task_main" in frames[-1], frames


@ahead
def test_survives_the_second_time(farm, n_before):
    f = farm(retries=1)
    f.before(n_before)
    result = f.run("crash_first", "here")
    assert (result["status"], result["data"], result["tries"]) == ("ok", "here", 2)


def test_not_tried_again(farm):
    f = farm(retries=0)
    assert f.fails("crashed", "crash_first")
    assert f.seen["crash_first"]["tries"] == 1


@pytest.mark.parametrize("function, retries, crashed", [("crash_some", 0, 20), ("crash_some_once", 1, 0)])
def test_one_in_a_hundred_crashes(farm, function, retries, crashed):
    f = farm(retries=retries)
    assert f.many(2000, function) == {"ok": 2000 - crashed, "crashed": crashed, "other": 0, "not_once": 0}


def test_counted_and_quarantined(farm):
    f = farm(retries=2, processes=1)
    f.run("echo", "well")
    f.run("fail", "badly")
    f.run("spin", timeout_ms=50)
    f.run("exit", 3)
    f.gate("gate")
    f.begin("echo", tag="waits")
    expected = {"name": "f", "busy": 1, "queued": 1, "submitted": 6, "done": 1, "failed_tasks": 1,
                "timed_out": 1, "crashed": 3, "retried": 2, "quarantined": 1}
    wait_until(lambda: expected.items() <= f.report()[0].items(), f"{expected}; there is {f.report()[0]}")
    _, quarantined = f.report()
    assert [(q["farm"], q["function"], q["tries"]) for q in quarantined] == [("f", "exit", 3)]
    assert "3" in quarantined[0]["how"]
    crash = [r for r in f.tinectl("crashes") if r.get("type") == "crash"][-1]
    assert (crash["role"], crash["farm"], crash["request_line"]) == ("task", "f", "exit"), crash
    assert crash["pid"] == quarantined[0]["pid"]
    f.open("gate")
    assert f.wait("waits")["status"] == "ok"


@ahead
def test_cancel_one_that_waits(farm, n_before):
    f = farm(processes=1)
    f.before(n_before)
    pid = f.gate("first")
    f.begin("echo", tag="second")
    assert f.cancel("second") == "ok"
    assert f.wait("second")["status"] == "canceled"
    assert f.seen["second"]["tries"] == 0
    assert f.cancel("second") == "gone"
    f.open("first")
    assert f.wait("first")["status"] == "ok"
    assert alive(pid)


@ahead
def test_cancel_one_that_runs(farm, n_before):
    f = farm(processes=1)
    f.before(n_before)
    pid = f.gate("first")
    assert f.cancel("first") == "ok"
    assert f.cancel("first") in ("ok", "gone")  # asked for once
    assert f.wait("first")["status"] == "canceled"
    wait_until(lambda: not alive(pid), "its process is killed")
    assert f.run("echo", "well")["data"] == "well"


def test_cancel_nothing(farm):
    f = farm()
    assert f.ask("cancel", id=0).body == b"gone"
    assert f.ask("cancel", id=2**64 - 1).body == b"gone"
    assert f.run("echo", "well")["data"] == "well"


def test_longer_than_hang_timeout(farm):
    """While it runs its process answers no PING; that is the deadline's business, and nobody else's."""
    f = farm({"workers": {"count": 1, "hang_timeout": "1s"}}, processes=1)
    pid = f.gate("long")
    f.begin("echo", tag="next")
    end = time.monotonic() + 2.5  # more than twice as long
    wait_until(lambda: time.monotonic() > end, "time passes")
    assert alive(pid)
    f.open("long")
    assert f.wait("long", "next")["status"] == "ok"
    assert not f.daemon.find("no answer|hung|hang")


# --- processes ---


def test_scales(farm):
    f = farm(processes=3, min=0, idle_time="1s")
    assert f.pids() == []
    for i in range(3):
        f.gate(f"gate{i}")
    assert len(f.pids()) == 3
    for i in range(3):
        f.open(f"gate{i}")
    f.wait("gate0", "gate1", "gate2")
    wait_until(lambda: f.pids() == [], "they end when they are idle")
    assert f.run("echo", "well")["data"] == "well"


def test_idle_process_dies(farm):
    f = farm(processes=1)
    pid, = f.pids()
    os.kill(pid, signal.SIGKILL)
    assert f.run("echo", "well")["data"] == "well"
    assert f.pids() != [pid]


def test_module_that_is_none_for_a_farm(tined, farm_module, module):
    daemon = tined({"farm:f": {"module": str(module)}})
    done = subprocess.run([harness.TINED, "-c", daemon.path, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(rf"{daemon.path}:\d+: farm:f.module: the module exports no task functions", done.stderr)


@pytest.mark.parametrize("key, said", [
    ("colour", "this module has: greeting, start, first; the section itself has module, processes, min, idle_time, "),
    ("idle_tine", "did you mean idle_time?"),
    ("greting", "did you mean greeting?"),
])
def test_unknown_option(tined, farm_module, key, said):
    daemon = tined({"farm:f": {"module": str(farm_module), key: "red"}})
    done = subprocess.run([harness.TINED, "-c", daemon.path, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"farm:f.{key}: unknown option; {said}" in done.stderr


def test_processes_that_cannot_start(farm):
    """Tasks fail, with the reason, instead of waiting for ever."""
    f = farm({"workers": {"count": 1, "crash_limit": "2/1m", "backoff_min": "10ms", "backoff_max": "20ms"}},
             min=0, start="fail")
    assert "fails as it was told to" in f.fails("nobody", "echo")


def test_processes_that_crash_at_their_start(farm):
    f = farm({"workers": {"count": 1, "crash_limit": "2/1m", "backoff_min": "10ms", "backoff_max": "20ms"}},
             min=0, start="crash")
    assert f.fails("nobody", "echo")


@pytest.mark.parametrize("how, said", [
    ("crash", r"killed by signal 6 \(Aborted\)"),
    ("/", r"killed by signal 6 \(Aborted\), for it was not ready within start_timeout"),
])
def test_start_that_fails_names_the_farm(tined, folder, farm_module, how, said):
    folder.chmod(0o777)
    start = str(folder / "taken") if how == "/" else how
    (folder / "taken").touch()
    t = tined({"workers": {"count": 1, "start_timeout": "3s"},
               "farm:f": {"module": str(farm_module), "min": 1, "start": start}})
    assert t.run() == 1
    assert t.find(rf"task\[\d+\] of farm:f of the new generation did not get ready: {said}")


# --- workers come and go ---


def test_one_that_cannot_be_forked(farm):
    """A process dies of its task, and no descriptors are left for the next one's lanes: it is tried later, as a worker is."""
    f = farm({"workers": {"count": 1, "backoff_min": "10ms", "backoff_max": "50ms", "crash_limit": "1000/1s"}}, processes=1)
    t = f.daemon
    pid, mark = f.gate("late"), t.mark()
    with no_descriptors(t.pid):
        os.kill(pid, signal.SIGKILL)
        t.wait_log(r"task\[\d+\]: cannot fork: Too many open files", mark)
        t.signal(signal.SIGHUP)  # the primary does other things meanwhile
        t.wait_log(r"\.ini: .*Too many open files", mark)
    f.open("late")
    result = f.wait("late")
    assert (result["status"], result["tries"]) == ("ok", 2)


def test_told_to_leave_by_somebody(farm):
    """SIGTERM to a process, with a task or without: it ends what it has, and another one takes its place."""
    f = farm(processes=2, min=2)
    busy = f.gate("last")
    (idle,) = set(f.pids()) - {busy}
    os.kill(idle, signal.SIGTERM)
    wait_until(lambda: idle not in f.pids() and len(f.pids()) == 2, "another one is there")
    os.kill(busy, signal.SIGTERM)
    f.open("last")
    assert f.wait("last")["status"] == "ok"
    wait_until(lambda: busy not in f.pids() and len(f.pids()) == 2, "another one is there")
    assert f.run("echo", "after it")["data"] == "after it"


def test_worker_dies(farm):
    """Its tasks that wait are dropped; the one that runs is nobody's, and its process serves the next worker."""
    f = farm(processes=1)
    pid = f.gate("orphan")
    f.begin("wait", f.daemon.folder / "never", tag="never")
    os.kill(int(f.ask("self", "GET").body), signal.SIGKILL)
    f.client.close()
    second = Farm(f.daemon)
    second.begin("echo", "after it")
    f.open("orphan")
    assert second.wait("echo")["data"] == "after it"
    assert f.pids() == [pid]
    assert not (f.daemon.folder / "never.pid").exists()


def test_reload(farm):
    """What a worker of the old generation submitted comes to its end in the old farm; the new one has a farm of its own."""
    f = farm(processes=1, greeting="old")
    pid = f.gate("first")
    f.client.send(b"GET /farm/run?farm=f&function=option HTTP/1.1\r\nHost: test\r\n\r\n")
    wait_until(lambda: f.report()[0]["queued"] == 1, "it is submitted")
    f.daemon.configure({"farm:f": {"greeting": "new"}})
    f.daemon.reload()
    new = Farm(f.daemon)
    assert new.run("option")["data"] == "new"
    assert alive(pid)
    f.open("first")
    assert f.client.response().body == b"old"
    wait_until(lambda: not alive(pid), "the old process ends")


def test_reload_while_a_process_starts_again(farm):
    """A process of the new generation dies of a task. The next one starts when probation ends, and is waited for."""
    f = farm({"workers": {"count": 1, "probation": "20ms"}}, processes=1, retries=0)
    t, first = f.daemon, f.daemon.folder / "first"
    t.configure({"module:farm": {"first": "abort"}, "farm:f": {"start": str(first)}})
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"task\[\d+\]: crash", mark)
    time.sleep(0.3)  # probation ends
    pathlib.Path(f"{first}.go").touch()
    t.wait_log(r"reload: generation 2 serves", mark)


def test_stop_while_a_task_runs(farm):
    f = farm({"workers": {"count": 1, "drain_timeout": "30s"}}, processes=1)
    f.gate("last")
    f.client.close()
    f.daemon.signal(signal.SIGTERM)
    f.open("last")
    assert f.daemon.wait_exit() == 0


def test_stop_while_a_task_does_not_end(farm):
    f = farm({"workers": {"count": 1, "drain_timeout": "1s"}}, processes=1)
    f.begin("spin")
    f.client.close()
    assert f.daemon.stop() == 0


def test_primary_dies(farm):
    f = farm(processes=2)
    pid = f.gate("first")
    f.daemon.expected_status = -signal.SIGKILL
    os.kill(f.daemon.pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid) and not f.pids(), "task processes die with it")


def test_two_workers(farm):
    f = farm(workers=2)
    clients = {}
    wait_until(lambda: clients.setdefault((c := Farm(f.daemon)).ask("self", "GET").body, c) and len(clients) == 2, "both")
    for c in clients.values():
        for i in range(50):
            c.begin("echo", i, tag=str(i))
    for c in clients.values():
        c.wait(*map(str, range(50)))
        assert all(c.seen[str(i)]["data"] == str(i) for i in range(50))


# --- modules of before ---


def test_older_module(start, build_module, folder):
    """One whose descriptor ends before the fields for farms."""
    source = folder / "older.c"
    source.write_text("""
        #include <stddef.h>
        #include <tine/module.h>
        TINE_MODULE = {.abi = TINE_ABI, .size = offsetof(struct tine_module, tasks), .name = "older",
            .tasks = (const struct tine_task_function *)8, .task_stop = (void (*)(void *))8};
    """)
    daemon = start({"module:older": {"path": build_module(source), "listener": "web", "mount": "/older"}})
    assert daemon.connect().request("/").status == 200
