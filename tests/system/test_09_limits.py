"""Limits: connections, descriptors, CPUs."""

import contextlib
import os
import resource
import subprocess
import time

import pytest

from harness import HELLO, TINED, Client, cpu_seconds, n_descriptors, tool, wait_until

# --- connections ---


def test_connections_above_the_limit_wait(start):
    t = start({"workers": {"count": 1, "max_connections": 5}})
    held = [t.connect() for _ in range(5)]
    for c in held:
        assert c.request().body == HELLO
    waiting = [t.connect() for _ in range(3)]
    for c in waiting:
        c.send(b"GET /whoami HTTP/1.1\r\nHost: a\r\n\r\n")
    for c in held:
        assert c.request().body == HELLO, "who is in is served"
    waiting[0].sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        waiting[0].response()
    waiting[0].sock.settimeout(30)
    for c in held[:3]:
        c.close()
    for c in waiting:
        assert c.response().status == 200
    for c in held[3:] + waiting:
        c.close()
    t.hello()
    assert not t.errors()


def test_limit_is_for_each_worker(start):
    t = start({"workers": {"count": 3, "max_connections": 4}})
    clients = [t.connect() for _ in range(12)]
    by_worker = {}
    for c in clients:
        pid = t.worker_of(c)
        by_worker[pid] = by_worker.get(pid, 0) + 1
    assert list(by_worker.values()) == [4, 4, 4]
    for c in clients:
        c.close()


def test_one_connection(start):
    t = start({"workers": {"count": 1, "max_connections": 1}})
    for _ in range(20):
        t.hello()


def test_reload_serves_those_who_wait(start):
    """A new generation has room again."""
    t = start({"workers": {"count": 1, "max_connections": 1}})
    with t.connect() as held, t.connect() as waiting:
        assert held.request().status == 200
        waiting.send(b"GET /whoami HTTP/1.1\r\nHost: a\r\n\r\n")
        t.reload()
        assert waiting.response().json()["generation"] == 2


# --- descriptors ---


def test_limit_too_low_for_max_connections_is_said(start):
    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    t = start({"workers": {"count": 1}}, before=lower)
    assert t.find(
        r"warning tined: the limit of 200 descriptors allows only 119 connections for each worker, "
        r"not max_connections = 10000; raise LimitNOFILE"
    )
    clients = [t.connect() for _ in range(180)]
    for c in clients[:119]:
        assert c.request().body == HELLO
    for c in clients:
        c.close()
    t.hello()
    assert not t.find(r"cannot accept")


def test_soft_limit_is_raised(start):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 10100:
        pytest.skip("the hard limit is low here")
    t = start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)))
    assert not t.find(r"the limit of")
    for pid in t.worker_pids():
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] >= 10064


def starve(pid, room):
    """Leaves a worker room for exactly so many more descriptors."""
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    limit = next(n for n in range(hard) if n - len({fd for fd in taken if fd < n}) == room)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))


def test_no_descriptor_left(start):
    """It says so once, neither spins nor dies, and serves again when there is one."""
    t = start({"workers": {"count": 1}, "http": {"idle_timeout": "1h", "header_timeout": "1h"}})
    (worker,) = t.worker_pids()
    starve(worker, 5)
    held = []
    while len(held) == 0 or response.status != 503:
        assert len(held) < 50
        held.append(t.connect())
        response = held[-1].request()
        assert response.body == HELLO or response.status == 503
    t.wait_log(r"warning worker\[0\]: cannot accept: Too many open files; pausing for \d+ ms")
    before = cpu_seconds(worker)
    time.sleep(1.5)  # what it does meanwhile is the case itself
    assert cpu_seconds(worker) - before < 0.5
    assert len(t.find(r"cannot accept")) < 5
    assert held[0].request().body == HELLO, "who is in is served"
    for c in held:
        c.close()
    wait_until(lambda: t.get("/").status == 200, "it serves again")
    t.hello()
    assert t.worker_pids() == [worker]


def test_clients_are_told_when_there_is_no_descriptor(start):
    """Who waits for long gets 503 by the descriptor kept in reserve, rather than nothing."""
    t = start({"workers": {"count": 1}, "http": {"idle_timeout": "1h", "header_timeout": "1h"}})
    (worker,) = t.worker_pids()
    before = n_descriptors(worker)
    t.hello()  # it has all that it needs by now
    wait_until(lambda: n_descriptors(worker) == before, "and nothing more")
    starve(worker, 3)
    held = [t.connect() for _ in range(3)]
    for c in held:
        assert c.request().body == HELLO
    with t.connect() as c:
        response = c.request()
        assert response.status == 503 and response.closes
        assert response.header("Retry-After")
    for c in held:
        c.close()
    wait_until(lambda: t.get("/").status == 200, "it serves again")


def test_another_worker_takes_what_one_cannot(start):
    t = start({"workers": {"count": 2}}, before=undisturbed)
    poor, rich = t.worker_pids()
    starve(poor, 0)
    clients = [t.connect() for _ in range(30)]
    answers = [c.request("/whoami") for c in clients]
    assert {r.json()["pid"] for r in answers if r.status == 200} == {rich}
    assert [r.status for r in answers].count(200) > 25
    for c in clients:
        c.close()


def test_connections_do_not_leak_descriptors(start):
    t = start({"workers": {"count": 1}})
    (worker,) = t.worker_pids()
    t.hello()
    before = n_descriptors(worker)
    for raw in (b"", b"GET", b"bad\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
        for _ in range(30):
            with t.connect() as c:
                c.send(raw)
    wait_until(lambda: n_descriptors(worker) <= before, "every connection is closed")


# --- CPUs ---


def first_cpu():
    return min(os.sched_getaffinity(0))


def test_auto_counts_the_cpus_of_the_affinity_mask(start):
    t = start({"workers": {"count": "auto"}}, before=lambda: os.sched_setaffinity(0, {first_cpu()}))
    assert t.find(r"start: generation 1 serves, 1 workers")
    assert len(t.worker_pids()) == 1


@pytest.mark.skipif(not tool("taskset"), reason="taskset is not installed")
def test_auto_under_taskset(start):
    t = start({"workers": {"count": "auto"}}, wrap=["taskset", "-c", str(first_cpu())])
    assert len(t.worker_pids()) == 1


def test_auto_is_at_most_every_cpu(start):
    t = start({"workers": {"count": None}})
    assert 1 <= len(t.worker_pids()) <= len(os.sched_getaffinity(0))


def test_reload_counts_anew(start):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU here")
    t = start({"workers": {"count": "auto"}})
    if len(t.worker_pids()) < 2:
        pytest.skip("a quota allows one CPU here")
    os.sched_setaffinity(t.pid, {first_cpu()})
    t.reload()
    t.wait_workers(1)


def test_affinity(start):
    cpus = sorted(os.sched_getaffinity(0))
    t = start({"workers": {"count": len(cpus) + 1, "cpu_affinity": "auto"}})
    masks = [os.sched_getaffinity(pid) for pid in t.worker_pids()]
    assert all(len(mask) == 1 for mask in masks)
    assert set.union(*masks) == set(cpus)
    assert sorted(min(m) for m in masks)[:2] == [cpus[0]] * 2
    assert os.sched_getaffinity(t.pid) == set(cpus), "the primary itself is not bound"


def test_no_affinity(start):
    t = start()
    assert all(os.sched_getaffinity(pid) == os.sched_getaffinity(0) for pid in t.worker_pids())


# --- fairness ---


def undisturbed():
    """For those of whom none may wait for a CPU that somebody else has: before them all, where we may ask for that."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def settled(t):
    """Each worker has turned after its start: one without CPU for 5 ms while others wait for it counts as absent until its next turn."""
    wait_until(lambda: all(w["age_ms"] - w["last_turn_ms"] > 300 for w in t.scoreboard().values()), "they have answered a PING")
    return t


@pytest.mark.parametrize("accept, bound", [("shared", 1.3), ("reuseport", 2.5)])
def test_connections_are_spread_over_the_workers(start, accept, bound):
    """Two hundred at once, kept. With a socket for each worker the kernel's hash decides: only roughly fair."""
    t = settled(start({"workers": {"count": 4}, "listener:web": {"accept": accept}}, before=undisturbed))
    clients = [Client(t.address()) for _ in range(200)]
    by_worker = dict.fromkeys(t.worker_pids(), 0)
    for c in clients:
        by_worker[t.worker_of(c)] += 1
    for c in clients:
        c.close()
    mean = 200 / 4
    assert max(by_worker.values()) <= bound * mean, by_worker
    assert min(by_worker.values()) > 0


def test_one_after_the_other_is_spread_too(start):
    t = settled(start({"workers": {"count": 2}}, before=undisturbed))
    clients, by_worker = [], {}
    for _ in range(60):
        c = t.connect()
        clients.append(c)
        pid = t.worker_of(c)
        by_worker[pid] = by_worker.get(pid, 0) + 1
    assert len(by_worker) == 2 and max(by_worker.values()) <= 1.3 * 30, by_worker
    for c in clients:
        c.close()


# --- idle ---


def test_idle_daemon_sleeps(start):
    t = start()
    for _ in range(10):
        t.hello()
    pids = [t.pid, *t.worker_pids()]
    before = sum(map(cpu_seconds, pids))
    time.sleep(2)
    assert sum(map(cpu_seconds, pids)) - before < 0.3


def test_check_is_quick_and_leaves_nothing(tined):
    t = tined({"tined": {"pid_file": "pid", "log": "file:log"}})
    t.configure({"listener:web": {"address": f"unix:{t.folder}/s"}})
    assert subprocess.run([TINED, "-c", t.path, "--check"], capture_output=True, timeout=30).returncode == 0
    assert os.listdir(t.folder) == ["tined.ini"]
