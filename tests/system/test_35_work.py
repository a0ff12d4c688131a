"""The thread pool and calls at the end of the turn, as modules see them in a worker, to its end. The module is work_module.c."""

import errno
import re
import time

import pytest

from harness import DEADLINE, wait_until
from conftest import HERE
from test_24_measures import ONE, only


@pytest.fixture(scope="session")
def work(build_module):
    return build_module(HERE / "work_module.c", "-D_GNU_SOURCE", "-pthread")


@pytest.fixture
def working(start, work):
    """Starts one worker with the module at /w."""
    return lambda **workers: start(
        {**ONE, "workers": {"count": 1, "probe": "off", **workers}, "module:w": {"path": work, "mount": "/w"}})


def ask(t, path):
    answer = t.get(f"/w{path}")
    assert answer.status == 200, answer
    return answer.body.decode()


def outcome(status, on_loop=0):
    """What on_done() of the module says: status, whether run was on the loop thread, whether done was not."""
    return f"{status} {on_loop} 0"


def test_work_runs_on_a_thread(working):
    t = working()
    for _ in range(20):
        assert ask(t, "/work") == outcome(0)


def test_work_is_measured(working):
    t = working()
    assert only(t)["pool"]["done"] == 0
    for _ in range(10):
        ask(t, "/work")
    wait_until(lambda: only(t)["pool"]["done"] == 10, "a thread counts after it has reported")
    pool = only(t)["pool"]
    assert (pool["queued"], pool["running"]) == (0, 0)
    assert pool["wait"]["count"] == pool["run"]["count"] == 10


def test_deadline(working):
    t = working()
    assert ask(t, "/late") == outcome(-errno.ETIMEDOUT)


def test_cancel(working):
    t = working()
    with t.connect() as c:
        c.send(b"GET /w/cancel HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: only(t)["pool"]["running"] == 1, "it runs")
        assert ask(t, "/cancel/now") == "cancelled"
        assert c.response().body.decode() == outcome(-errno.ECANCELED)


@pytest.mark.parametrize("threads", [1, 4])
def test_the_worker_ends_while_threads_are_at_work(working, threads):
    """What runs is told to stop, what waits is given back, before worker_stop; nothing is taken after it."""
    t = working(threads=threads)
    assert ask(t, "/hold") == "held"
    held = {1: 1, 4: 2}[threads]  # of the 6: TINE_LANE_CPU leaves one thread to the others
    wait_until(lambda: only(t)["pool"]["running"] >= held, "they run")
    assert t.stop() == 0
    said = [m.group(1) for m in t.find(r"((?:held|stop): .*)$")]
    assert said == [f"held: {-errno.ECANCELED}"] * 6 + [f"stop: {-errno.EPIPE}"]


def test_calls_of_each_turn_starve_nobody(working):
    t = working()
    assert ask(t, "/again") == "again"
    for _ in range(20):
        t.hello()
    assert t.stop() == 0
    assert len(t.find("again: closed")) == 1


def test_calls_that_come_late_in_a_turn_do_not_wait(working):
    """The second request is begun with when the first one's answer has left, at the very end of a turn. Nothing but the primary's
    heartbeats would wake the loop up, two in a second."""
    t = working()
    end = time.monotonic() + DEADLINE
    with t.connect() as c:
        for _ in range(200):
            assert time.monotonic() < end
            c.send(b"GET /w/work HTTP/1.1\r\nHost: x\r\n\r\nGET /w/soon HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.response().body.decode() == outcome(0)
            assert c.response().body.decode() == "soon"


def test_a_walk_leaves_turns_to_others(working):
    """A call of each turn counts them: a walk in slices of 100 elements takes a thousand."""
    t = working()
    ask(t, "/again")
    status, walked, turns = map(int, re.fullmatch(r"(-?\d+) (\d+) (\d+)", ask(t, "/slices")).groups())
    assert (status, walked) == (0, 100000)
    assert 998 <= turns <= 1002


def test_figures(working):
    """A turn that is under way is not counted, and several requests may be served in one: a walk of 1000 turns is for sure."""
    t = working()
    t.get("/w/figures")
    ask(t, "/slices")
    walk = t.get("/w/figures").json()  # since the first time
    assert 999 <= walk["turns"] < 2000
    assert 0 < walk["busy"] <= walk["interval"] < 60_000_000
    assert walk["p50"] <= walk["max"]
    after = t.get("/w/figures").json()  # since then
    assert after["turns"] < 100 and after["interval"] < 60_000_000
    assert t.stop() == 0
