"""What each worker measures of itself at every turn of its loop; what one on trial is asked before clients come."""

import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from harness import HELLO, Client, cpu_seconds, wait_until
from test_10_zero_loss import Load
from test_12_static_more import drop_from_memory

MS = 1000  # us
SOURCES = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def trial(build_module):
    """The shared object of trial_module.c."""
    return build_module(SOURCES / "trial_module.c")


@pytest.fixture
def with_trial(start, trial):
    """Starts a daemon with the module at /t, without a fault."""

    def begin(fault="none", changes=None, **options):
        section = {"path": trial, "mount": "/t", "fault": fault, **options}
        return start({"module:t": section, **(changes or {})})

    return begin


def only(t):
    found = list(t.scoreboard().values())
    assert len(found) == 1
    return found[0]


def measured(t, n):
    """The only worker, once it has measured n answers, and the turn that gave the last: a client has it before that."""
    wait_until(lambda: only(t)["latency"]["count"] >= n, f"{n} answers measured")
    turns = only(t)["loop_lag"]["count"]
    with t.connect():  # another turn
        wait_until(lambda: only(t)["loop_lag"]["count"] > turns, "the turn is over")
    w = only(t)
    assert w["latency"]["count"] == n
    return w


def wait_served(t, n=200):
    """Waits until the workers have answered so many requests: a load has been one."""
    wait_until(lambda: sum(w["requests"] for w in t.scoreboard().values()) > n, "requests")


ONE = {"workers": {"count": 1}}


# --- figures ---


def test_idle_worker_is_not_busy(start):
    t = start(ONE)
    t.hello()
    wait_until(lambda: only(t)["connections"] == 0, "the connection is closed")
    before = only(t)
    time.sleep(1)
    after = only(t)
    assert after["busy_us"] - before["busy_us"] < 500 * MS
    assert after["loop_lag"]["count"] - before["loop_lag"]["count"] < 100


def test_every_request_is_in_the_latency(start):
    t = start(ONE)
    with t.connect() as c:
        for i in range(50):
            assert c.request("/").body == HELLO
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
        for i in range(30):
            assert c.response().body == HELLO
        assert c.request("/nothing").status in (200, 404)
    w = measured(t, 81)
    assert w["requests"] == 81
    assert 0 < w["latency"]["p50_us"] <= w["latency"]["p99_us"] < 10_000 * MS


def test_turn_that_works_for_long_shows_as_lag(with_trial):
    t = with_trial(changes=ONE)
    for i in range(4):
        assert t.get("/t/spin").body == b"spun"
    w = measured(t, 4)
    assert 50 * MS <= w["loop_lag"]["max_us"]
    assert 50 * MS <= w["latency"]["max_us"]
    assert w["busy_us"] >= 200 * MS
    assert w["loop_lag"]["p50_us"] < 50 * MS, "other turns are short"


def test_request_behind_a_long_turn_has_waited(with_trial):
    """Two in one burst: the second costs nothing, but its client has waited for the first."""
    t = with_trial(changes=ONE)
    with t.connect() as c:
        c.send(b"GET /t/spin HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [c.response().body for _ in range(2)] == [b"spun", HELLO]
    w = measured(t, 2)
    assert w["latency"]["p50_us"] >= 50 * MS


def test_deferred_answer_is_measured_to_its_end(with_trial):
    t = with_trial(changes=ONE, delay="500ms")
    busy = only(t)["busy_us"]
    assert t.get("/t/late").body == b"late"
    w = measured(t, 1)
    assert w["latency"]["max_us"] >= 490 * MS, "libevent's timers are coarse"
    assert w["busy_us"] - busy < 300 * MS, "the loop has waited meanwhile"


def test_event_streams_are_not_in_the_latency(with_trial):
    t = with_trial("sse", ONE)
    with t.connect() as c:
        c.send(b"GET /t HTTP/1.1\r\nHost: x\r\n\r\n")
        c.sock.recv(1)
        assert only(t)["requests"] == 1
    t.wait_log(r"trial: the client is gone")
    assert only(t)["latency"]["count"] == 0


def test_busy_share_is_the_cpu_share_under_load(start):
    t = start(ONE)
    (pid,) = t.worker_pids()
    before, cpu, began = only(t), cpu_seconds(pid), time.monotonic()
    with Load(t, pipeline=20):
        time.sleep(2)
    after, cpu, took = only(t), cpu_seconds(pid) - cpu, time.monotonic() - began
    busy = (after["busy_us"] - before["busy_us"]) / 1e6
    # waiting for a CPU counts as busy, epoll_wait(2) itself does not
    assert cpu * 0.5 - 0.1 <= busy <= took


def test_events_of_a_module_count_by_their_cpu_time(with_trial):
    t = with_trial("raw", ONE)
    (pid,) = t.worker_pids()
    before, cpu = only(t), cpu_seconds(pid)
    wait_until(lambda: cpu_seconds(pid) - cpu > 0.5, "it has worked")
    wait_until(lambda: only(t)["busy_us"] - before["busy_us"] > 400 * MS, "that is known")
    assert only(t)["loop_lag"]["max_us"] >= 40 * MS


def test_thread_pool_figures(start, folder):
    """A file that is not in the page cache is sent by threads."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout
    if kind.strip() in ("tmpfs", "ramfs"):
        pytest.skip("files are always in memory here")
    root = folder / "root"
    root.mkdir(mode=0o755)
    content = os.urandom(4 << 20)
    (root / "big").write_bytes(content)
    t = start({**ONE, "module:site": {"path": "builtin:static", "mount": "/site", "root": root}})
    pool = only(t)["pool"]
    assert {pool[key] for key in ("queued", "running", "done")} == {0} == {pool["wait"]["count"], pool["run"]["count"]}
    drop_from_memory(root / "big")
    assert t.get("/site/big").body == content
    wait_until(lambda: only(t)["pool"]["running"] == 0, "the threads are done")
    pool = only(t)["pool"]
    assert pool["queued"] == 0 and pool["done"] > 0


# --- the probe ---


def reload_with(t, fault, **options):
    t.configure({"module:t": {"fault": fault, **options}})


PROBED = r'trial: asked for /t by "tined-probe/'


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_crash_on_the_first_request_costs_no_client_anything(with_trial, accept):
    t = with_trial(changes={"listener:web": {"accept": accept}})
    old = t.worker_pids()
    with Load(t, path="/t", body=b"trial"):
        for i in range(3):
            reload_with(t, "crash")
            mark = t.mark()
            errors = t.reload_fails()
            assert any("did not get ready" in e for e in errors), errors
            assert t.find(r'killed by signal 6.*serving "GET /t HTTP/1\.1"', mark), t.tail()
            assert t.find(PROBED, mark)
        wait_served(t)
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")
    reload_with(t, "none")
    t.reload()
    assert t.get("/t").body == b"trial"


@pytest.mark.parametrize("fault", ["hang", "spin"])
def test_hang_in_the_first_request(with_trial, fault):
    t = with_trial()
    old = t.worker_pids()
    t.configure({"workers": {"start_timeout": "2s"}})
    reload_with(t, fault)
    mark = t.mark()
    with Load(t):
        errors = t.reload_fails()
        wait_served(t)
    assert t.find(PROBED, mark)
    assert any("did not get ready" in e for e in errors), errors
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")


@pytest.mark.parametrize("fault", ["defer", "sse", "stream", "websocket"])
def test_answers_that_take_long_or_never_end_are_no_failure(with_trial, fault):
    t = with_trial()
    reload_with(t, fault)
    mark = t.reload()
    assert t.find(PROBED, mark)
    took = [float(m[1]) for m in t.find(r"starting -> ready: generation 2, started in ([\d.]+) ms", mark)]
    assert len(took) == 2
    if fault == "defer":
        assert min(took) >= 1000, "nothing tells it from an answer that comes yet"
    t.hello()
    if fault in ("defer", "sse", "stream"):
        t.wait_log(r"trial: the client is gone", mark, count=2)
    # what the module does with its request afterwards hurts nobody
    t.hello()
    t.reload()


def test_no_trial_no_probe(with_trial):
    t = with_trial()
    assert not t.find("tined-probe/")
    reload_with(t, "crash")
    t.configure({"workers": {"probe": "off"}})
    mark = t.reload()
    assert not t.find("tined-probe/", mark)
    reload_with(t, "none")
    t.reload()


def test_probes_do_not_count(with_trial, folder):
    log = folder / "access.log"
    t = with_trial(changes={
        "http": {"access_log": f"file:{log}", "access_format": "combined"}, "workers": {"probation": "500ms"}})
    with t.connect() as c:
        assert c.request("/t/boom").status == 404
    mark = t.reload()
    t.wait_log(PROBED, mark, count=2)
    t.wait_log(r'trial: asked for /t/boom by "tined-probe/', mark)
    new = [w for w in t.scoreboard().values() if w["generation"] == 2]
    assert len(new) == 2
    for w in new:
        keys = ("requests", "connections", "client_errors", "server_errors", "bytes_in", "bytes_out")
        assert [w[key] for key in keys] == [0] * 6
        assert w["latency"]["count"] == 0
    assert t.get("/t").body == b"trial"
    wait_until(lambda: log.read_text().count("\n") == 2, "two lines in the access log")
    t.stop()
    assert "probe" not in log.read_text() and log.read_text().count("\n") == 2


@pytest.mark.parametrize("fault", ["boom", "stall"])
def test_what_clients_ask_for_is_replayed(with_trial, fault):
    """The crash, or hang, is at a path that no mount tells, but that clients are asking for."""
    t = with_trial(changes={"workers": {"probation": "20s", "hang_timeout": "1s", "drain_timeout": "1s"}})
    old = t.worker_pids()
    reload_with(t, fault)
    mark, done, problems = t.mark(), threading.Event(), []

    def ask():
        with t.connect() as c:
            while not done.is_set():
                if c.request("/t/boom?a=1").body != b"no boom":
                    problems.append("a wrong answer")

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    errors = t.reload_fails()
    done.set()
    for client in clients:
        client.join()
    assert problems == []
    assert any("did not survive its probation" in e for e in errors), errors
    assert t.find(r'serving "GET /t/boom\?a=1 HTTP/1\.1"', mark)
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")


def test_only_what_is_safe_to_repeat_is_replayed(with_trial):
    t = with_trial(changes={"workers": {"count": 1, "probation": "500ms"}})
    with t.connect() as c:
        c.send(b"POST /t/boom HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert c.response().status == 405
    mark = t.reload()
    assert len(t.find(r"by \"tined-probe/", mark)) == 1, "the mount alone"
    long = "/t/boom?" + "x" * 200
    assert t.get(long).status == 404
    mark = t.reload()
    assert len(t.find(r"by \"tined-probe/", mark)) == 1, "a line that is not known in full"


def test_each_line_is_replayed_once_a_second(with_trial):
    t = with_trial(changes={"workers": {"count": 1, "probation": "20s"}})
    assert t.get("/t/boom").status == 404
    mark = t.mark()
    t.signal(signal.SIGHUP)
    asked = r':(\d+\.\d+) info \S+: trial: asked for /t/boom by "tined-probe/'
    t.wait_log(asked, mark, count=3)
    seconds = [float(m[1]) for m in t.find(asked, mark)]
    gaps = [(b - a) % 60 for a, b in zip(seconds, seconds[1:])]
    assert min(gaps) > 0.9, gaps


def test_mount_of_any_bytes(with_trial):
    t = with_trial(changes={"workers": {"count": 1}})
    t.configure({"module:t": {"mount": "/\u00e9+~"}})
    mark = t.reload()
    t.wait_log(r'trial: asked for \S+ by "tined-probe/', mark)


def test_modules_behind_the_proxy_protocol_and_plain_streams(tined, trial, build_module):
    stream = build_module(SOURCES / "stream_module.c")
    t = tined({
        "listener:web": {"proxy_protocol": "on"},
        "listener:plain": {"address": "127.0.0.1:0", "protocol": "tcp"},
        "module:stream": {"path": stream, "listener": "plain"},
        "module:t": {"path": trial, "mount": "/t", "listener": "web"},
    })
    t.start()
    mark = t.reload()
    t.wait_log(PROBED, mark, count=2)


def test_stop_and_scale_while_probed(with_trial):
    """The first probe waits for an answer that never comes when all is to end."""
    t = with_trial(changes={"workers": {"count": 1}})
    reload_with(t, "defer")
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(PROBED, mark)
    assert t.stop() == 0


def test_waiting_for_an_answer_leaves_time_to_start(with_trial):
    t = with_trial(changes={"workers": {"count": 1}})
    t.configure({"workers": {"start_timeout": "1s"}})
    reload_with(t, "defer")
    mark = t.reload()
    t.wait_log(r"trial: the client is gone", mark)
