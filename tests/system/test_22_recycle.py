"""Workers that are replaced one by one (for their requests, age or memory, or on command), drained, and scaled."""

import contextlib
import datetime
import json
import os
import re
import resource
import signal
import socket
import threading
import time

import pytest

from harness import DEADLINE, Gone, alive, wait_until
from test_10_zero_loss import Load

MIB = 1 << 20


class Command(threading.Thread):
    """A command on its way to the control socket; its answer may take a while."""

    def __init__(self, t, line):
        super().__init__(daemon=True)
        self.path, self.line = str(t.folder / "control.sock"), line
        self.records = []
        self.start()

    def run(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(DEADLINE)
            s.connect(self.path)
            s.sendall(self.line.encode() + b"\n")
            with s.makefile() as lines:
                self.records = [json.loads(line) for line in lines]

    def answer(self):
        self.join(DEADLINE)
        assert not self.is_alive() and self.records, f"no answer to {self.line}"
        return self.records[-1]


def command(t, line):
    """The answer to a command that goes through."""
    answer = Command(t, line).answer()
    assert answer["ok"], answer
    return answer.get("text", "")


def refused(t, line, code):
    answer = Command(t, line).answer()
    assert not answer["ok"] and answer["code"] == code, answer
    return answer["error"]


def workers(t):
    """What the daemon says of its processes, by slot."""
    question = Command(t, "workers")
    question.answer()
    return {r["slot"]: r for r in question.records if "slot" in r}


def gone(pids):
    wait_until(lambda: not any(map(alive, pids)), f"{pids} are gone")


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def most_at_a_time(t):
    """How many processes there were at the same time at most, as the log tells."""
    now = most = 0
    for line in t.log():
        now += bool(re.search(r"\]: \w+ -> starting: ", line)) - bool(re.search(r"\]: \w+ -> dead: ", line))
        most = max(most, now)
    return most


def seconds_between(earlier, later):
    """By the times of two lines of the log."""
    a, b = (datetime.datetime.fromisoformat(line.split()[0]) for line in (earlier, later))
    return (b - a).total_seconds()


@pytest.fixture
def waiting(start, module, folder):
    """Starts a daemon whose workers, from now on, get ready only when the file that is given too is gone."""

    def make(workers=None, how="wait", **sections):
        path = folder / "fail"
        t = start({"workers": {"count": 1, **(workers or {})}, **sections,
                   "module:m": {"path": module, "mount": "/m", "fail_file": path}})
        path.write_text(how)
        return t, path

    return make


def status(t):
    question = Command(t, "status")
    question.answer()
    return question.records[0]


# --- recycling ---


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_by_requests_under_load(start, accept):
    t = start({"workers": {"max_requests": 300}, "listener:web": {"accept": accept}})
    first = t.worker_pids()
    with Load(t):
        t.wait_log(r"worker\[\d\]: to be replaced: \d+ requests, about max_requests = 300", count=6)
    wait_until(lambda: len(t.worker_pids()) == 2, "two workers")
    assert most_at_a_time(t) == 3, "one at a time"
    assert not t.errors()
    assert not set(first) & set(t.worker_pids())
    t.wait_log(r"ready -> draining: worker\[\d\] serves in its place")


def test_few_requests_recycle_nobody(start):
    t = start({"workers": {"max_requests": 1000, "hang_timeout": "200ms"}})
    old = t.worker_pids()
    for _ in range(100):
        t.hello()
    t.reload()  # heartbeats have come and gone
    assert not t.find(r": to be replaced: ") and not set(old) & set(t.serving_pids())


def test_by_age(start):
    t = start({"workers": {"max_lifetime": "1500ms"}})
    with Load(t):
        ages = [float(t.wait_log(r"to be replaced: ([\d.]+) s old, about max_lifetime = 1.5 s", count=n)[1])
                for n in range(1, 4)]
    assert min(ages) >= 1.3  # 1.5 s less a tenth, and rounding
    assert not t.errors()


def grow(t, pid, size):
    """Makes that worker allocate so many bytes."""
    clients = []
    try:
        while True:
            clients.append(t.connect())
            if t.worker_of(clients[-1]) == pid:
                return clients[-1].request(f"/m/grow?{size}")
    finally:
        for c in clients:
            c.close()


def with_memory_limit(start, module, **limits):
    """A daemon whose workers may have so many MiB more than they have at their start. Returns it and a worker's pid."""
    t = start({"module:m": {"path": module, "mount": "/m"}, "workers": {"count": 2}})
    t.hello()
    base = max(resident(pid) for pid in t.worker_pids())
    t.configure({"workers": {key: base + more * MIB for key, more in limits.items()}})
    t.reload()
    t.wait_workers(2)
    return t, t.worker_pids()[0]


def test_by_memory_soft_limit_drains(start, module):
    t, pid = with_memory_limit(start, module, max_memory=48)
    mark = t.mark()
    with Load(t):
        assert grow(t, pid, 96 * MIB).body == b"grown"
        why = t.wait_log(r"worker\[(\d)\]: to be replaced: ([\d.]+) MiB of memory, more than max_memory = ", mark)
        assert float(why[2]) > 48
        t.wait_log(rf"worker\[{why[1]}\]: draining -> dead: exited with status 0", mark)
    assert not alive(pid) and len(t.wait_workers(2)) == 2
    assert not t.errors()


def test_by_memory_hard_limit_kills(start, module):
    t, pid = with_memory_limit(start, module, max_memory_hard=48)
    mark = t.mark()
    with contextlib.suppress(Gone, ConnectionResetError):  # it is killed before it has answered, perhaps
        grow(t, pid, 96 * MIB)
    slot = t.wait_log(r"worker\[(\d)\]: ready -> killing: [\d.]+ MiB of memory, more than max_memory_hard", mark)[1]
    record = t.wait_log(rf"worker\[{slot}\]: crash: killed by signal 9 \(Killed\), for (.*?);.* pid (\d+), age", mark)
    assert record[1] == "more memory than max_memory_hard" and int(record[2]) == pid
    t.wait_log(rf"worker\[{slot}\]: starting -> ready", mark)
    assert pid not in t.wait_workers(2)


def test_limit_of_memory_too_low_for_anybody_does_not_fork_without_end(start):
    """Everybody is over it from the start: the delays grow."""
    t = start({"workers": {"count": 1, "max_memory": "64K"}})
    first = t.worker_pids()
    said = r"max_memory may be too low for its modules; it stays for (\d+) ms at least"
    delays = [int(t.wait_log(said, count=n)[1]) for n in (1, 2, 3)]
    for delay, middle in zip(delays, (1000, 2000, 4000)):
        assert middle * 0.75 - 1 <= delay <= middle * 1.25, delays
    t.wait_log(r": to be replaced: ", count=5)
    third = [text for text in t.log() if re.search(said, text)][2]
    fifth = [text for text in t.log() if ": to be replaced: " in text][4]
    assert seconds_between(third, fifth) * 1000 > delays[2] - 1, "it had to wait"
    assert not alive(first[0])
    t.hello()


def test_memory_of_everybody_is_known(start):
    t = start({"workers": {"hang_timeout": "400ms"}})

    def known():
        found = [r for r in workers(t).values() if r["pid"]]
        return len(found) == 2 and all(0.5 < r["memory"] / resident(r["pid"]) < 2 for r in found)

    wait_until(known, "the memory of both")


# --- successors that do not get ready ---


def test_successor_that_cannot_start(waiting):
    t, path = waiting({"max_lifetime": "1s"}, how="start")
    (old,) = t.worker_pids()
    said = r"the successor of worker\[0\] did not get ready: .*told to fail in worker_start; it serves on, next try in (\d+) ms"
    delays = [int(t.wait_log(said, count=n)[1]) for n in range(1, 4)]
    assert t.worker_of(t.connect()) == old
    assert 900 < delays[0] < 1300 and delays[0] < delays[1] < delays[2], delays
    path.unlink()
    gone([old])
    t.hello()


@pytest.mark.parametrize("how, verdict", [
    ("start", "told to fail in worker_start"),
    ("exit", "exited with status 3"),
    ("abort", "killed by signal 6"),
    ("hang", "killed by signal 6"),  # by start_timeout
])
def test_restart_with_a_successor_that_cannot_start(waiting, how, verdict):
    t, path = waiting({"count": 2, "start_timeout": "2s"}, how=how)
    old = t.worker_pids()
    error = refused(t, "restart all", "failed")
    assert re.search(r"the successor of worker\[0\] did not get ready: .*" + verdict, error), error
    wait_until(lambda: t.worker_pids() == old, "the old ones and no others")
    path.unlink()
    assert command(t, "restart all") == "2 processes replaced"
    gone(old)


def test_successor_that_cannot_be_forked(start):
    """No descriptors are left for its lanes. Everybody serves on, and it goes well as soon as there are some."""
    t = start({"workers": {"backoff_min": "10ms", "backoff_max": "50ms", "crash_limit": "1000/1s"}})
    old = t.worker_pids()
    used = max(int(name) for name in os.listdir(f"/proc/{t.pid}/fd"))
    normal = resource.prlimit(t.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(t.pid, resource.RLIMIT_NOFILE, (used + 2, normal[1]))  # one for who asks
    assert "did not get ready: Too many open files" in refused(t, "restart all", "failed")
    assert "2 of 4 workers are ready" in refused(t, "scale 4", "failed")
    assert set(old) == set(t.worker_pids())
    t.hello()
    resource.prlimit(t.pid, resource.RLIMIT_NOFILE, normal)
    t.wait_workers(4)
    wait_until(lambda: [r["state"] for r in workers(t).values()] == ["ready"] * 4, "all are ready")
    assert command(t, "restart all") == "4 processes replaced"


# --- what may happen meanwhile ---


def begin_restart(t, n=1):
    """Restarts everybody; waits until there is one more process. Returns the command, the successor's pid, the mark."""
    old, mark = t.worker_pids(), t.mark()
    restart = Command(t, "restart all")
    (new,) = set(t.wait_workers(len(old) + 1)) - set(old)
    return restart, new, mark


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_old_one_goes_meanwhile(waiting, sig, accept):
    """Its successor takes its place, and nobody else does."""
    t, path = waiting(**{"listener:web": {"accept": accept}})
    (old,) = t.worker_pids()
    restart, new, mark = begin_restart(t)
    os.kill(old, sig)
    t.wait_log(r"(draining|ready) -> dead", mark)
    assert t.wait_workers(1) == [new]
    path.unlink()
    assert restart.answer()["text"] == "1 process replaced"
    t.hello()
    assert t.worker_pids() == [new]
    assert len(t.find(r"-> starting:", mark)) == 1


def test_old_one_hangs_meanwhile(waiting):
    """It is killed as a hung one is, though its successor is ready before it is dead: its end is a crash."""
    t, path = waiting({"hang_timeout": "500ms"})
    (old,) = t.worker_pids()
    restart, new, mark = begin_restart(t)
    os.kill(old, signal.SIGSTOP)
    t.wait_log(r"ready -> killing: hung", mark)
    path.unlink()
    t.wait_log(r"starting -> ready", mark)
    t.wait_log(rf"crash: killed by signal \d+ .* pid {old},", mark)
    assert restart.answer()["text"] == "1 process replaced"
    assert t.wait_workers(1) == [new]
    t.hello()


def test_successor_and_old_one_both_die(waiting):
    t, path = waiting()
    (old,) = t.worker_pids()
    restart, new, mark = begin_restart(t)
    os.kill(old, signal.SIGKILL)
    t.wait_log(r"ready -> dead", mark)
    os.kill(new, signal.SIGKILL)
    assert "did not get ready: killed by signal 9" in restart.answer()["error"]
    path.unlink()
    t.wait_log(r"starting -> ready", mark)
    assert not {old, new} & set(t.wait_workers(1))
    t.hello()


def test_reload_meanwhile(waiting):
    """It replaces everybody, the successor too; who asked for the restart is told so."""
    t, path = waiting({"count": 2})
    old = t.worker_pids()
    restart, new, mark = begin_restart(t)
    t.configure({"module:m": {"fail_file": None}})
    t.reload()
    assert restart.answer() == {"ok": True, "text": "a reload has replaced everybody"}
    assert not {*old, new} & set(t.wait_workers(2))
    assert command(t, "restart all") == "2 processes replaced"


def test_reload_that_fails_meanwhile(waiting):
    t, path = waiting({"count": 2})
    old = t.worker_pids()
    restart, new, mark = begin_restart(t)
    t.configure({"module:m": {"fail": "start"}})
    t.reload_fails()
    path.unlink()
    assert restart.answer()["text"] == "2 processes replaced"
    gone(old)
    t.wait_workers(2)


def test_stop_meanwhile(waiting):
    t, path = waiting()
    restart, new, mark = begin_restart(t)
    t.signal(signal.SIGTERM)
    assert restart.answer()["error"] == "tined is stopping"
    assert t.wait_exit() == 0


def test_scaling_down_meanwhile_takes_the_successor_along(waiting):
    t, path = waiting({"count": 2})
    old = t.worker_pids()
    restart, new, mark = begin_restart(t)
    command(t, "scale 1")
    wait_until(lambda: len(t.worker_pids()) <= 2, "one has gone")
    path.unlink()
    restart.answer()
    assert len(t.wait_workers(1)) == 1
    t.hello()


# --- restarting ---


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_restart_of_all_loses_nothing(start, accept):
    t = start({"workers": {"count": 3}, "listener:web": {"accept": accept}})
    with Load(t):
        for _ in range(4):
            old = t.worker_pids()
            assert command(t, "restart all") == "3 processes replaced"
            gone(old)
    assert most_at_a_time(t) == 4, "one at a time"
    t.wait_workers(3)
    assert not t.errors()


def test_what_was_restarted_is_counted(start):
    t = start({"workers": {"backoff_min": "1ms"}})
    os.kill(workers(t)[0]["pid"], signal.SIGKILL)
    t.wait_log(r"starting -> ready", count=3)
    assert (status(t)["crashes"], status(t)["restarts"], workers(t)[0]["failures"]) == (1, 1, 1)
    assert command(t, "restart all") == "2 processes replaced"
    assert (status(t)["restarts"], status(t)["recycled"]) == (3, 0)
    t.configure({"workers": {"max_lifetime": "1s"}})
    t.reload()

    def recycled():
        now = status(t)
        return now if now["recycled"] else None

    now = wait_until(recycled, "somebody is recycled")
    assert now["restarts"] == 3 + now["recycled"] and now["crashes"] == 1


def test_restart_of_one_slot(start):
    t = start({"workers": {"count": 3}})
    before = workers(t)
    assert command(t, "restart 1") == "1 process replaced"
    t.wait_workers(3)
    after = {r["pid"] for r in workers(t).values()}
    assert {r["pid"] for slot, r in before.items() if slot != 1} < after and before[1]["pid"] not in after


def hold(t, pid):
    """A request in that worker, which it has to wait for when it drains. Returns what finishes it."""
    while True:
        c = t.connect()
        if t.worker_of(c) == pid:
            c.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            return c


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_than_max_unavailable(start, most):
    """One that drains for long holds up those that come after it."""
    t = start({"workers": {"count": 4, "max_unavailable": most}, "http": {"header_timeout": "1h"}})
    pids = [r["pid"] for _, r in sorted(workers(t).items())]
    held = [hold(t, pid) for pid in pids]
    restart = Command(t, "restart all")
    t.wait_log(r"ready -> draining", count=most)
    time.sleep(1.5)  # a heartbeat at least, at which one more could begin
    assert len(t.find(r": to be replaced: ")) == most and len(t.worker_pids()) == 4 + most
    for c in held:
        c.send(b"\r\n")
        assert c.response().status == 200
        c.close()
    assert restart.answer()["text"] == "4 processes replaced"
    t.wait_workers(4)


def test_slots_that_cannot_be_restarted(start):
    t = start()
    for slot in "7", "4095":
        assert f"slot {slot} has no process" in refused(t, f"restart {slot}", "usage")
    for slot in "x", "-1", "4096":
        assert f'"{slot}" is no slot' in refused(t, f"restart {slot}", "usage")
    assert 'write "restart SLOT|all"' in refused(t, "restart 1 2", "usage")


def test_one_restart_at_a_time(waiting):
    t, path = waiting()
    restart, new, mark = begin_restart(t)
    assert "a restart is under way, 0 replaced so far" in refused(t, "restart all", "busy")
    path.unlink()
    assert restart.answer()["ok"]


def test_nothing_of_it_during_a_reload(start):
    t = start({"workers": {"probation": "20s"}})
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"reload: begins", mark)
    for line in "restart all", "restart 0", "drain 0", "scale 3", "scale +1":
        assert "reloading" in refused(t, line, "busy")


def fail_slot(t):
    """Kills the only worker until it is given up."""
    for n in range(1, 3):
        os.kill(t.wait_workers(1)[0], signal.SIGKILL)
        t.wait_log(r"crash: killed by signal 9", count=n)
        if n == 1:
            t.wait_log(r"starting -> ready", count=2)
    t.wait_log(r"dead -> failed: budget spent")


@pytest.mark.parametrize("which", ["0", "all"])
def test_given_up_slot_is_restarted_with_a_new_budget(start, which):
    t = start({"workers": {"count": 1, "backoff_min": "1ms", "crash_limit": "1/1h"}})
    fail_slot(t)
    assert command(t, f"restart {which}") == "1 process replaced"
    t.hello()
    mark = t.mark()
    os.kill(t.wait_workers(1)[0], signal.SIGKILL)
    t.wait_log(r"dead -> starting: replacing at once", mark)


def test_slot_in_back_off_is_restarted_at_once(start):
    t = start({"workers": {"count": 1, "backoff_min": "1h", "backoff_max": "1h"}})
    for _ in range(2):
        mark = t.mark()
        os.kill(t.wait_workers(1)[0], signal.SIGKILL)
        t.wait_log(r"dead -> (starting|backoff)", mark)
    assert command(t, "restart 0") == "1 process replaced"
    t.hello()


# --- draining ---


def test_drain_takes_a_worker_out_for_good(start):
    t = start({"workers": {"count": 3}, "http": {"header_timeout": "1h"}})
    pid = workers(t)[1]["pid"]
    c = hold(t, pid)
    drain = Command(t, "drain 1")
    t.wait_log(r"worker\[1\]: ready -> draining: told to drain")
    assert "slot 1 has no process that is to stay" in refused(t, "drain 1", "usage")
    assert drain.is_alive(), "who asked is told when it has ended"
    c.send(b"\r\n")
    assert c.response().status == 200
    c.close()
    assert drain.answer() == {"ok": True, "text": "worker[1] has ended"}
    assert pid not in t.wait_workers(2)
    assert not t.errors()


def test_drain_that_is_not_over_in_time(start):
    t = start({"workers": {"drain_timeout": "200ms"}, "http": {"header_timeout": "1h"}})
    pid = workers(t)[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert "worker[0] did not drain: killed by signal 9" in refused(t, "drain 0", "failed")
    assert len(t.wait_workers(1)) == 1
    t.hello()


def test_only_worker_is_not_drained(start):
    t = start({"workers": {"count": 2}})
    command(t, "drain 0")
    t.wait_workers(1)
    assert "worker[1] is the only worker" in refused(t, "drain 1", "usage")
    t.hello()


def test_only_worker_that_serves_is_not_drained(start):
    t = start({"workers": {"count": 2, "backoff_min": "1h", "backoff_max": "1h"}})
    for n in range(1, 3):
        os.kill(workers(t)[0]["pid"], signal.SIGKILL)
        t.wait_log(r"worker\[0\]: crash", count=n)
        t.wait_log(r"worker\[0\]: (starting -> ready|dead -> backoff)", count=n + 1)
    assert "worker[1] is the only worker that serves" in refused(t, "drain 1", "usage")
    assert command(t, "drain 0") == "it was not running"
    t.hello()


def test_admin_process_is_restarted_but_not_drained(start):
    t = start({"admin": {"listen": "127.0.0.1:0"}})
    (slot,) = [slot for slot, r in workers(t).items() if r["role"] == "admin"]
    before = workers(t)
    assert f"admin[{slot}] is no worker" in refused(t, f"drain {slot}", "usage")
    assert command(t, "restart all") == "2 processes replaced"
    assert before[slot]["pid"] in t.worker_pids()
    assert command(t, f"restart {slot}") == "1 process replaced"
    wait_until(lambda: before[slot]["pid"] not in t.worker_pids(), "it has gone")
    assert len(t.wait_workers(3)) == 3


# --- scaling ---


def test_scale_to_and_by(start):
    t = start()
    for line, n in ("scale 5", 5), ("scale +2", 7), ("scale -4", 3), ("scale 1", 1), ("scale 2", 2):
        assert command(t, line) == f"{n} worker{'s' if n > 1 else ''}"
        assert len(t.wait_workers(n)) == n
        t.wait_log(rf"scale: {n} workers?$")
    assert command(t, "scale 2") == "2 workers"
    t.hello()


@pytest.mark.parametrize("line, why", [
    ("scale 0", "0 workers are not possible; 1 to 1024 are"),
    ("scale -2", "0 workers are not possible; 1 to 1024 are"),
    ("scale -5", "-3 workers are not possible; 1 to 1024 are"),
    ("scale +1023", "1025 workers are not possible; 1 to 1024 are"),
    ("scale 1025", "from 1 to 1024"),
    ("scale two", "from 1 to 1024"),
])
def test_numbers_that_are_not_possible(start, line, why):
    t = start()
    old = t.worker_pids()
    assert why in refused(t, line, "usage")
    assert t.worker_pids() == old


def test_many_at_a_time(start):
    t = start({"workers": {"threads": 1}})
    assert command(t, "scale 40") == "40 workers"
    assert len(t.wait_workers(40)) == 40
    assert command(t, "scale 2") == "2 workers"
    t.wait_workers(2)
    assert not t.errors()


def test_scaling_to_workers_that_cannot_start(waiting):
    t, path = waiting(how="start")
    error = refused(t, "scale 3", "failed")
    assert re.search(r"1 of 3 workers are ready; worker\[\d\] does not get ready and is tried again: .*told to fail", error)
    path.unlink()
    t.wait_workers(3)
    t.hello()


def test_scaling_again_before_it_is_over(waiting):
    t, path = waiting()
    first = Command(t, "scale 3")
    t.wait_workers(3)
    second = Command(t, "scale 2")
    assert first.answer()["error"] == "another number of workers is wanted by now"
    path.unlink()
    assert second.answer()["text"] == "2 workers"
    t.wait_workers(2)


def test_reload_while_scaling(waiting):
    t, path = waiting()
    scale = Command(t, "scale 3")
    t.wait_workers(3)
    t.configure({"module:m": {"fail_file": None}})
    t.reload()
    assert scale.answer()["error"] == "a reload has gone back to the configured count"
    t.wait_workers(1)


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_scaling_loses_nothing(start, accept):
    t = start({"listener:web": {"accept": accept}})
    with Load(t):
        for n in 6, 1, 4, 2, 8, 1, 3:
            command(t, f"scale {n}")
    t.wait_workers(3)
    assert not t.errors()


def test_down_drains_the_least_loaded(start):
    t = start({"workers": {"count": 4}})
    clients = [t.connect() for _ in range(12)]
    of = {}
    for c in clients:
        of.setdefault(t.worker_of(c), []).append(c)
    keep = min(of)
    for pid, members in of.items():
        for c in members[0 if pid != keep else len(members):]:
            c.close()
    wait_until(lambda: sum(r["connections"] for r in workers(t).values()) == len(of[keep]), "the others are closed")
    command(t, "scale 1")
    assert t.wait_workers(1) == [keep]
    for c in of[keep]:
        assert t.worker_of(c) == keep
        c.close()


def test_signals_several_times(start):
    t = start({"workers": {"count": 1}})
    for sig, numbers in (signal.SIGTTIN, (2, 3, 4)), (signal.SIGTTOU, (3, 2, 1)), (signal.SIGTTIN, (2,)):
        for n in numbers:
            mark = t.mark()
            t.signal(sig)
            t.wait_log(rf"scale: {n} workers?$", mark)
    t.wait_workers(2)
    t.hello()


# --- the CPUs we may use ---


@pytest.fixture
def automatic(start):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two CPUs are needed")
    t = start({"workers": {"count": "auto"}})
    cpus = os.sched_getaffinity(t.pid)
    t.wait_workers(len(cpus))
    return t, cpus


def test_affinity_is_followed(automatic):
    t, cpus = automatic
    with Load(t):
        os.sched_setaffinity(t.pid, {min(cpus)})
        t.wait_log(rf"the CPUs we may use changed from {len(cpus)} to 1$")
        t.wait_log(r"scale: 1 worker$")
        t.wait_workers(1)
        os.sched_setaffinity(t.pid, cpus)
        t.wait_log(rf"the CPUs we may use changed from 1 to {len(cpus)}$")
        t.wait_workers(len(cpus))
    assert not t.errors()


def test_affinity_is_not_followed_when_somebody_scaled(automatic):
    """Until the next reload."""
    t, cpus = automatic
    command(t, "scale +1")
    os.sched_setaffinity(t.pid, {min(cpus)})
    time.sleep(6.5)  # it looks every 5 seconds
    assert not t.find(r"the CPUs we may use changed")
    assert len(t.worker_pids()) == len(cpus) + 1
    t.reload()
    t.wait_workers(1)
    os.sched_setaffinity(t.pid, cpus)
    t.wait_log(r"the CPUs we may use changed from 1")


def test_fixed_count_follows_nothing(start):
    t = start({"workers": {"count": 2}})
    os.sched_setaffinity(t.pid, {min(os.sched_getaffinity(t.pid))})
    time.sleep(6.5)
    assert not t.find(r"the CPUs we may use changed") and len(t.worker_pids()) == 2
