"""A new generation is on trial until it has proven itself: it gets no clients before, and none ever when it fails."""

import os
import signal
import threading
import time

import pytest

from harness import wait_until


def begin_reload(t, n=2):
    """HUP; waits until n new workers are ready. Returns the log mark before, and their pids."""
    old = set(t.worker_pids())
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"starting -> ready: generation \d+", mark, count=n)
    return mark, sorted(set(t.worker_pids()) - old)


def test_no_client_reaches_a_worker_on_trial(start):
    t = start({"workers": {"probation": "2s"}})
    mark, new = begin_reload(t)
    asked = 0
    while not t.find(r"reload: generation 2 serves", mark):
        if t.whoami()["pid"] in new:
            assert t.find(r"reload: generation 2 serves", mark)
        else:
            asked += 1
    assert asked > 20
    wait_until(lambda: t.whoami()["pid"] in new, "the new workers serve")


def test_no_worker_on_trial_takes_a_reuseport_queue(start):
    t = start({"workers": {"probation": "2s"}, "listener:web": {"accept": "reuseport"}})
    mark, new = begin_reload(t)
    for _ in range(50):
        if t.whoami()["pid"] in new:
            assert t.find(r"reload: generation 2 serves", mark)
    t.wait_log(r"reload: generation 2 serves", mark)
    for _ in range(20):
        t.hello()


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_clients_lose_nothing_to_a_generation_that_fails(start, accept):
    t = start({"workers": {"probation": "20s"}, "listener:web": {"accept": accept}})
    old = t.worker_pids()
    problems, done = [], threading.Event()

    def ask():
        while not done.is_set():
            try:
                t.hello()
            except Exception as e:  # whatever it is, it counts
                problems.append(repr(e))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for i in range(3):
        mark, new = begin_reload(t)
        os.kill(new[i % 2], signal.SIGKILL)
        t.wait_log(r"reload: failed; generation 1 serves on", mark)
    done.set()
    for client in clients:
        client.join()
    assert problems == []
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")


def test_surge_is_how_many_start_at_the_same_time(start, module):
    t = start({"workers": {"count": 3}})
    t.configure({"workers": {"max_surge": 1, "start_timeout": "2s"},
                 "module:m": {"path": module, "mount": "/m", "fail": "hang"}})
    old = set(t.worker_pids())
    mark = t.mark()
    t.signal(signal.SIGHUP)
    seen = set()
    while not t.find(r"reload: failed", mark):
        seen.add(len(set(t.worker_pids()) - old))
        time.sleep(0.01)
    assert max(seen) == 1, "one starts at a time, and it hangs"
    t.configure({"module:m": None})
    t.reload()
    assert len(t.serving_pids()) == 3


def test_loop_that_stands_still_does_not_pass(start):
    """The probation is over before the loop would count as hung: the last PING decides."""
    t = start({"workers": {"hang_timeout": "5s"}})
    t.configure({"workers": {"probation": "3s"}})
    old = t.worker_pids()
    mark, new = begin_reload(t)
    os.kill(new[0], signal.SIGSTOP)
    t.wait_log(r"reload: (failed; generation 1 serves on|generation 2 serves)", mark)
    assert t.find(r"reload: failed; generation 1 serves on", mark), t.tail()
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")


def test_crash_of_an_old_worker_during_a_reload(start):
    t = start({"workers": {"probation": "3s"}})
    old = t.worker_pids()
    mark, new = begin_reload(t)
    os.kill(old[0], signal.SIGKILL)
    t.wait_log(r"crash: killed by signal 9", mark)
    t.wait_log(r"reload: generation 2 serves", mark)
    wait_until(lambda: t.worker_pids() == new, "the new workers and no others")
    t.hello()


def test_scaled_up_worker_of_the_old_generation_goes_too(start):
    t = start()
    t.signal(signal.SIGTTIN)
    t.wait_workers(3)
    mark = t.reload()
    t.wait_workers(2)
    assert t.find(r"reload: generation 2 serves, 2 workers", mark)
