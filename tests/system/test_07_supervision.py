"""Crashes, hangs, and the death of the primary."""

import os
import re
import signal
import threading
import time

import pytest

from harness import Client, Gone, alive, refuses, wait_until


def kill_one(t, sig=signal.SIGKILL):
    """Kills a worker and waits until it has been buried. Returns its pid and the log mark before it."""
    mark = t.mark()
    pid = t.worker_pids()[0]
    os.kill(pid, sig)
    return pid, mark


# --- crashes ---


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_killed_worker_is_replaced(start, accept):
    t = start({"listener:web": {"accept": accept}})
    pid, mark = kill_one(t)
    record = t.wait_log(
        r"worker\[(\d)\]: crash: killed by signal 9 \(Killed\); generation (\d+), pid (\d+), age [\d.]+ s, CPU ", mark
    )
    assert (int(record[2]), int(record[3])) == (1, pid)
    t.wait_log(rf"worker\[{record[1]}\]: dead -> starting: replacing at once", mark)
    t.wait_log(rf"worker\[{record[1]}\]: starting -> ready", mark)
    assert pid not in t.wait_workers(2)
    for _ in range(30):
        t.hello()


def test_crash_record_has_what_is_known(start, module):
    t = start({"module:m": {"path": module, "mount": "/m"}, "workers": {"count": 1}})
    t.hello()
    t.hello()
    with t.connect() as c, pytest.raises((Gone, ConnectionResetError)):
        c.request("/m/abort?what=ever")
    record = t.wait_log(r"crash: .*")[0]
    assert record.startswith("crash: killed by signal 6 (Aborted); generation 1, pid ")
    assert re.search(r"age [\d.]+ s, CPU [\d.]+ s user [\d.]+ s system, max RSS \d+ KiB, \d+ requests, ", record)
    assert record.endswith('serving "GET /m/abort?what=ever HTTP/1.1"')
    t.wait_log(r"starting -> ready", count=2)
    t.hello()


def test_request_line_of_the_dead_does_not_pass_to_the_next(start, module):
    t = start({"module:m": {"path": module, "mount": "/m"}, "workers": {"count": 1}})
    with t.connect() as c, pytest.raises((Gone, ConnectionResetError)):
        c.request("/m/abort")
    t.wait_log(r"starting -> ready", count=2)
    kill_one(t)
    t.wait_log(r'crash: killed by signal 9 .* 0 requests, serving ""')


def test_worker_that_exits_by_itself_has_crashed(start, module):
    t = start({"module:m": {"path": module, "mount": "/m"}})
    with t.connect() as c, pytest.raises((Gone, ConnectionResetError)):
        c.request("/m/exit")
    t.wait_log(r"crash: exited with status 7; generation 1, ")
    t.wait_log(r"starting -> ready", count=3)
    t.hello()


def test_only_the_requests_in_the_crashed_worker_fail(start):
    t = start({"workers": {"count": 3}})
    by_worker = {}

    def one_more():
        c = t.connect()
        by_worker.setdefault(t.worker_of(c), []).append(c)
        return len(by_worker) == 3 and min(map(len, by_worker.values())) > 3

    wait_until(one_more, "several connections of each")
    victim = next(iter(by_worker))
    os.kill(victim, signal.SIGKILL)
    t.wait_log(r"crash: killed by signal 9")
    for pid, members in by_worker.items():
        for c in members:
            if pid != victim:
                assert t.worker_of(c) == pid
            c.close()


def test_repeated_crashes_back_off(start):
    """The first replacement comes at once, then the delays double up to the limit, each within a quarter."""
    # a worker that has served ten times backoff_min counts as healthy again: 5 s, which these never reach
    t = start({"workers": {"count": 1, "backoff_min": "500ms", "backoff_max": "1s", "crash_limit": "100/60s"}})
    for n in range(1, 5):
        kill_one(t)
        t.wait_log(r"starting -> ready", count=n + 1)
    assert len(t.find(r"dead -> starting: replacing at once")) == 1
    delays = [int(m[1]) for m in t.find(r"dead -> backoff: next start in (\d+) ms")]
    assert len(delays) == len(t.find(r"backoff -> starting: back-off is over")) == 3
    for delay, middle in zip(delays, (500, 1000, 1000)):
        assert middle * 0.75 - 1 <= delay <= middle * 1.25, delays
    t.hello()


def test_worker_that_was_healthy_for_long_begins_a_new_streak(start):
    t = start({"workers": {"count": 1, "backoff_min": "20ms", "backoff_max": "1h"}})
    for n in range(1, 4):
        time.sleep(0.3)  # more than ten times backoff_min
        kill_one(t)
        t.wait_log(r"starting -> ready", count=n + 1)
    assert len(t.find(r"dead -> starting: replacing at once")) == 3


def test_spent_budget_fails_the_slot_alone(start):
    t = start({"workers": {"count": 2, "backoff_min": "1ms", "backoff_max": "1ms", "crash_limit": "3/1h"}})
    keep, victim = t.worker_pids()
    for n in range(1, 5):
        os.kill(victim, signal.SIGKILL)
        t.wait_log(r"worker\[\d\]: crash: killed by signal 9", count=n)
        if n == 4:
            break
        t.wait_log(r"starting -> ready", count=n + 2)
        (victim,) = set(t.wait_workers(2)) - {keep}
    said = "more crashes than crash_limit allows; giving the slot up until the next reload"
    slot = t.wait_log(rf"error tined: worker\[(\d)\]: {said}")[1]
    t.wait_log(rf"worker\[{slot}\]: dead -> failed: budget spent")
    assert t.worker_pids() == [keep]
    for _ in range(10):
        t.hello()
    t.reload()
    t.wait_log(rf"worker\[{slot}\]: failed -> empty: a new generation serves")
    assert keep not in t.wait_workers(2)
    t.hello()


def test_all_slots_failed_the_primary_stays_and_a_reload_heals(start):
    t = start({"workers": {"count": 1, "backoff_min": "1ms", "crash_limit": "1/1h"}})
    kill_one(t)
    t.wait_log(r"starting -> ready", count=2)
    kill_one(t)
    t.wait_log(r"dead -> failed: budget spent")
    assert t.process.poll() is None
    with t.connect() as c:  # it waits in the queue
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        t.reload()
        assert c.response().status == 200
    t.hello()


def test_failed_slots_do_not_hold_up_a_stop(start):
    t = start({"workers": {"count": 1, "backoff_min": "1ms", "crash_limit": "1/1h"}})
    kill_one(t)
    t.wait_log(r"starting -> ready", count=2)
    kill_one(t)
    t.wait_log(r"dead -> failed: budget spent")
    assert t.stop() == 0


def test_slot_in_back_off_does_not_hold_up_a_stop(start):
    t = start({"workers": {"count": 1, "backoff_min": "1h", "backoff_max": "1h"}})
    kill_one(t)
    t.wait_log(r"starting -> ready", count=2)
    kill_one(t)
    t.wait_log(r"dead -> backoff: next start in \d+ ms")
    assert t.stop() == 0


def test_crash_while_draining_is_a_crash(start, module):
    """It is recorded as one, with all that is known, and not replaced."""
    t = start({"workers": {"count": 1}, "http": {"header_timeout": "1h"}, "module:m": {"path": module, "mount": "/m"}})
    (old,) = t.worker_pids()
    with t.connect() as c:
        c.send(b"GET /m/abort HTTP/1.1\r\nHost: a\r\n")
        t.hello()
        t.reload()
        c.send(b"\r\n")
        with pytest.raises((Gone, ConnectionResetError)):
            c.response()
    t.wait_log(r"draining -> dead: killed by signal 6 \(Aborted\)")
    t.wait_log(r"dead -> empty: not to be replaced")
    record = t.find(rf"error tined: worker\[0\]: crash: killed by signal 6 \(Aborted\); generation 1, pid {old}, .*")
    assert record and 'serving "GET /m/abort HTTP/1.1"' in record[0][0]
    t.hello()
    t.wait_workers(1)


def test_what_the_primary_cuts_off_is_no_crash(start):
    t = start({"workers": {"count": 1, "drain_timeout": "100ms"}})
    (old,) = t.worker_pids()
    os.kill(old, signal.SIGSTOP)
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"draining -> killing: not finished in time", mark)
    t.wait_log(rf"warning tined: worker\[0\]: cut off: killed by signal 9 \(Killed\); generation 1, pid {old}", mark)
    assert not t.errors()
    t.hello()


def test_many_crashes_leave_nothing_behind(start):
    t = start({"workers": {"count": 2, "backoff_min": "1ms", "backoff_max": "1ms", "crash_limit": "1000/1s"}})
    before = t.n_descriptors()
    for n in range(1, 31):
        kill_one(t)
        t.wait_log(r"starting -> ready", count=n + 2)
    t.hello()
    assert t.n_descriptors() == before


def test_every_worker_killed_at_once(start):
    t = start({"workers": {"count": 4}})
    for pid in t.worker_pids():
        os.kill(pid, signal.SIGKILL)
    t.wait_log(r"starting -> ready", count=8)
    t.hello()


# --- a worker that is told to go by somebody else ---


def test_worker_that_gets_term_drains_and_is_replaced(start):
    """Its last request may take as long as it likes; meanwhile somebody serves."""
    t = start({"workers": {"count": 1}, "http": {"header_timeout": "1h"}})
    (old,) = t.worker_pids()
    with t.connect() as c:
        c.send(b"GET /whoami HTTP/1.1\r\nHost: a\r\n")
        t.hello()
        os.kill(old, signal.SIGTERM)
        t.wait_log(r"worker\[0\]: ready -> draining: was told to leave, though not by us")
        t.wait_log(r"starting -> ready", count=2)
        t.wait_draining([old])
        with t.connect() as other:
            assert other.request("/whoami").json()["pid"] != old
        c.send(b"\r\n")
        response = c.response()
        assert response.json()["pid"] == old and response.closes
    t.wait_log(r"worker\[0\]: draining -> dead: exited with status 0")
    assert old not in t.wait_workers(1)
    assert not t.errors()


def test_every_worker_gets_term(start):
    """systemctl kill --signal=TERM reaches all of them, and the primary last or first."""
    t = start({"workers": {"count": 3}})
    old = t.worker_pids()
    for pid in old:
        os.kill(pid, signal.SIGTERM)
    t.wait_log(r"starting -> ready", count=6)
    assert not set(old) & set(t.wait_workers(3))
    t.hello()


def test_term_to_the_whole_group(start):
    t = start({"workers": {"count": 3}})
    t.hello()
    os.killpg(t.pid, signal.SIGTERM)
    assert t.wait_exit() == 0
    assert not t.find("crash")


def test_worker_of_a_new_generation_gets_term_in_its_probation(start):
    t = start({"workers": {"probation": "20s"}})
    old = t.worker_pids()
    t.signal(signal.SIGHUP)
    t.wait_log(r"starting -> ready: generation 2", count=2)
    os.kill(min(set(t.worker_pids()) - set(old)), signal.SIGTERM)
    t.wait_log(r"reload: failed; generation 1 serves on")
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")
    t.hello()


def test_worker_that_leaves_again_and_again_does_not_spin(start, module):
    """Whatever ends a worker as soon as it serves: the next ones come more and more slowly."""
    t = start({"workers": {"count": 1, "backoff_min": "200ms"}, "module:m": {"path": module, "mount": "/m"}})
    t.configure({"module:m": {"fail": "leave"}, "workers": {"probation": "0"}})
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"starting -> ready: generation 2", mark)
    time.sleep(2)  # how many there are by then is the case itself
    assert len(t.find(r"-> starting", mark)) < 12


# --- hangs ---

HANG = {"workers": {"count": 2, "hang_timeout": "1s"}}


def test_stopped_worker_is_replaced(start):
    t = start(HANG)
    victim = t.worker_pids()[0]
    os.kill(victim, signal.SIGSTOP)
    evidence = r'no answer for (\d+) ms, in which it was stopped by a signal \(\d+ ms of CPU\); serving ""'
    hung = t.wait_log(rf"error tined: worker\[(\d)\]: hung: {evidence}")
    assert int(hung[2]) >= 1000
    slot = hung[1]
    t.wait_log(rf"worker\[{slot}\]: ready -> killing: hung; sending a request for a backtrace")
    t.wait_log(rf"worker\[{slot}\]: crash: killed by signal \d+ \(\w+\); generation 1, pid {victim}")
    t.wait_log(rf"worker\[{slot}\]: starting -> ready", count=2)
    assert victim not in t.wait_workers(2)
    for _ in range(10):
        t.hello()


@pytest.mark.parametrize("path, said", [("/m/sleep", "slept"), ("/m/spin", "burnt CPU")])
def test_hung_handler_is_ended(start, module, path, said):
    slow = {"path": module, "mount": "/m", "delay": "1h"}
    t = start({"workers": {"count": 1, "hang_timeout": "1s"}, "module:m": slow})
    with t.connect() as c, pytest.raises((Gone, ConnectionResetError)):
        c.request(path)
    hung = t.wait_log(r"hung: no answer for \d+ ms, in which it (slept|burnt CPU) .*")
    if said == "slept":  # a spinning one may get less than half of a busy CPU
        assert hung[1] == said
    assert f'serving "GET {path} HTTP/1.1"' in hung[0]
    t.wait_log(r"crash: killed by signal 6 \(Aborted\)")
    t.wait_log(r"starting -> ready", count=2)
    t.hello()


def test_slow_handler_below_the_limit_is_left_alone(start, module):
    slow = {"path": module, "mount": "/m", "delay": "700ms"}
    t = start({"workers": {"count": 1, "hang_timeout": "20s"}, "module:m": slow})
    assert t.get("/m/sleep").body == b"slept"
    assert not t.errors()


def test_others_serve_while_one_hangs(start):
    t = start({"workers": {"count": 2, "hang_timeout": "1h"}})
    victim = t.worker_pids()[0]
    os.kill(victim, signal.SIGSTOP)
    for _ in range(30):
        t.hello()
    os.kill(victim, signal.SIGCONT)
    seen = set()
    wait_until(lambda: seen.add(t.whoami()["pid"]) or len(seen) == 2, "both serve again")
    assert not t.errors()


def test_idle_workers_are_not_taken_for_hung(start):
    t = start({"workers": {"count": 2, "hang_timeout": "300ms"}})
    workers = t.worker_pids()
    time.sleep(1.5)  # several rounds of nothing are the case itself
    assert not t.find(r"hung")
    assert t.worker_pids() == workers


def test_primary_that_was_held_up_blames_nobody(start):
    """Its own silence (a debugger, a suspended machine) proves nothing about its workers."""
    t = start({"workers": {"count": 2, "hang_timeout": "500ms"}})
    workers = t.worker_pids()
    t.signal(signal.SIGSTOP)
    time.sleep(1.5)
    t.hello()
    t.signal(signal.SIGCONT)
    t.signal(signal.SIGUSR1)
    t.wait_log(r"received SIGUSR1")
    time.sleep(1)  # two rounds more
    assert not t.find(r"hung")
    assert t.worker_pids() == workers


def test_whole_daemon_suspended(start):
    t = start({"workers": {"count": 2, "hang_timeout": "500ms"}})
    workers = t.worker_pids()
    for pid in [t.pid, *workers]:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)
    for pid in [*workers, t.pid]:
        os.kill(pid, signal.SIGCONT)
    t.signal(signal.SIGUSR1)
    t.wait_log(r"received SIGUSR1")
    t.hello()
    time.sleep(1)
    assert not t.find(r"hung")
    assert t.worker_pids() == workers


def test_worker_that_does_not_drain_is_killed(start, module):
    """A hung worker ends with drain_timeout, at the latest."""
    t = start({"workers": {"count": 1, "drain_timeout": "300ms", "hang_timeout": "1h"}})
    (worker,) = t.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    assert t.stop() == 0
    t.wait_log(r"draining -> killing: not finished in time; sending Killed")


def test_second_term_ends_a_stopped_worker_at_once(start):
    t = start({"workers": {"count": 2, "drain_timeout": "1h", "hang_timeout": "1h"}})
    os.kill(t.worker_pids()[0], signal.SIGSTOP)
    t.signal(signal.SIGTERM)
    t.wait_log(r"draining -> dead: exited with status 0")
    t.stop_at_once()


def test_failed_start_does_not_wait_for_workers_that_hang_in_theirs(tined, module):
    """They have no request to finish."""
    t = tined({"module:m": {"path": module, "mount": "/m", "fail": "first"}, "workers": {"count": 3, "drain_timeout": "1h"}})
    assert t.run() == 1
    assert "told to fail in worker_start" in t.errors()[0]


def test_stop_does_not_wait_for_a_worker_that_hangs_in_its_start(tined, module):
    t = tined({"module:m": {"path": module, "mount": "/m", "fail": "hang"}, "workers": {"drain_timeout": "1h"}}).spawn()
    t.wait_log(r"worker\[1\]: empty -> starting")
    assert t.stop() == 0


# --- the primary dies ---


def primary_dies(t):
    t.expected_status = -signal.SIGKILL
    t.signal(signal.SIGKILL)


def test_no_worker_survives_the_primary(start):
    t = start({"workers": {"count": 4}})
    workers = t.worker_pids()
    primary_dies(t)
    wait_until(lambda: not any(alive(pid) for pid in workers), "workers end")
    assert refuses(t.address())


def test_idle_connections_do_not_keep_a_worker_without_a_primary(start):
    t = start({"workers": {"count": 1, "drain_timeout": "2s"}})
    with t.connect() as c:
        c.request()
        primary_dies(t)
        wait_until(lambda: not t.family(), "the worker ends")


def test_request_in_flight_is_finished_without_a_primary(start):
    t = start({"workers": {"count": 1}})
    (worker,) = t.worker_pids()
    with t.connect() as c:
        c.send(b"GET /whoami HTTP/1.1\r\nHost: a\r\n")
        t.hello()
        primary_dies(t)
        t.process.wait()
        t.wait_log(r"warning worker\[0\]: the primary is gone; finishing what is in flight")
        c.send(b"\r\n")
        response = c.response()
        assert response.json()["pid"] == worker and response.closes
    wait_until(lambda: not alive(worker), "then it ends")


def test_handler_under_way_is_finished_without_a_primary(start, module):
    t = start({"workers": {"count": 1}, "module:m": {"path": module, "mount": "/m", "delay": "1s"}})
    with t.connect() as c:
        c.send(b"GET /m/sleep HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)  # it is in the handler, most likely; either way the answer must come
        primary_dies(t)
        assert c.response().body == b"slept"
    wait_until(lambda: not t.family(), "the worker ends")


def test_stuck_worker_ends_without_a_primary(start, module):
    """Nobody is left to kill it: an alarm does, a little after drain_timeout."""
    slow = {"path": module, "mount": "/m", "delay": "1h"}
    t = start({"workers": {"count": 1, "drain_timeout": "100ms", "hang_timeout": "1h"}, "module:m": slow})
    with t.connect() as c:
        c.send(b"GET /m/sleep HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)
        primary_dies(t)
        wait_until(lambda: not t.family(), "the worker ends")


def test_starting_worker_ends_without_a_primary(tined, module):
    t = tined(
        {"workers": {"count": 1, "drain_timeout": "100ms"}, "module:m": {"path": module, "mount": "/m", "fail": "hang"}}
    ).spawn()
    t.wait_log(r"worker\[0\]: empty -> starting")
    wait_until(lambda: len(t.worker_pids()) == 1, "a worker")
    primary_dies(t)
    wait_until(lambda: not t.family(), "the worker ends")


def test_stopped_worker_ends_without_a_primary(start):
    """SIGSTOP holds back every signal but SIGKILL: it ends as soon as it goes on."""
    t = start({"workers": {"count": 2, "hang_timeout": "1h"}})
    stopped, other = t.worker_pids()
    os.kill(stopped, signal.SIGSTOP)
    primary_dies(t)
    wait_until(lambda: not alive(other), "the other one ends")
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: not alive(stopped), "the stopped one ends")


def test_primary_dies_in_the_middle_of_a_reload(start):
    t = start({"workers": {"probation": "1h"}})
    t.signal(signal.SIGHUP)
    t.wait_log(r"starting -> ready: generation 2", count=2)
    assert len(t.worker_pids()) == 4
    primary_dies(t)
    wait_until(lambda: not t.family(), "all four end")


def test_starts_again_after_the_primary_was_killed(start, tined, folder):
    """What it could not tidy away (a socket's file, a pid file) is in nobody's way."""
    changes = {"listener:web": {"address": f"unix:{folder}/web.sock"}, "tined": {"pid_file": folder / "pid"}}
    first = start(changes)
    primary_dies(first)
    wait_until(lambda: not first.family(), "the workers end")
    second = start(changes)
    assert (folder / "pid").read_text() == f"{second.pid}\n"
    with Client(f"{folder}/web.sock") as c:
        assert c.request().status == 200
    assert second.stop() == 0
    assert not os.path.exists(folder / "pid") and not os.path.exists(folder / "web.sock")


# --- under load ---


def test_service_goes_on_while_workers_are_killed(start):
    """Clients that open a connection for each request: one that fails is tried again and then succeeds."""
    t = start({"workers": {"count": 2, "backoff_min": "1ms", "backoff_max": "1ms", "crash_limit": "1000/1s"}})
    address, stop, lost, served = t.address(), threading.Event(), [], [0]

    def client():
        while not stop.is_set():
            for attempt in range(5):
                try:
                    with Client(address) as c:
                        assert c.request().status == 200
                    served[0] += 1
                    break
                except (Gone, ConnectionError):
                    continue
            else:
                lost.append("five times in a row")

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for n in range(1, 11):
            kill_one(t)
            t.wait_log(r"starting -> ready", count=n + 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not lost and served[0] > 10
