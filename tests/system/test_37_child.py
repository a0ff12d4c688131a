"""Child processes of workers (tine/child.h), and what becomes of them when a worker, or the primary, goes."""

import os
import pathlib
import signal
import urllib.parse

import pytest

from harness import Client, alive, n_descriptors, name, process, wait_until

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def child_module(build_module):
    return build_module(HERE / "child_module.c")


def changes(child_module, **workers):
    return {
        "workers": {"count": 2, "crash_limit": "100/1s", "backoff_min": "1ms", **workers},
        "module:child": {"path": child_module, "mount": "/child", "listener": "web"},
    }


@pytest.fixture
def daemon(start, child_module):
    return start(changes(child_module))


def ask(client, what, command=""):
    answer = client.request(f"/child/{what}?{urllib.parse.quote(command)}")
    assert answer.status == 200, answer
    return answer.body.decode()


def gone(pids):
    """Not even as zombies."""
    wait_until(lambda: not any(process(pid) for pid in pids), f"{pids} are gone")


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(t, worker):
    """Starts a tree of processes in a worker. Returns the child, and all of them."""
    with t.connect() as c:
        while t.worker_of(c) != worker:
            c.close()
            c.__init__(t.address())
        first = ask(c, "start", "sleep 1000 & setsid sleep 1000 & (sleep 1000; true) & echo $$; wait")
        root = int(first)
        forked = int(ask(c, "fork"))

    def tree(pid):
        return [pid] + [p for child in children(pid) for p in tree(child)]

    wait_until(lambda: len(tree(root)) >= 5, "the tree has grown")
    return root, tree(root) + [forked]


def test_exec(daemon):
    with daemon.connect() as c:
        assert ask(c, "exec", "echo out; exit 3") == "0 3 0\nout\n"
        assert ask(c, "exec", "kill -9 $$") == "0 -1 9\n"
        assert ask(c, "missing") == "-2"
        assert ask(c, "exec", "pwd; head -c 2000000 /dev/zero").startswith("-90 -1 9\n")  # over max_buffer


def test_what_a_child_has(daemon):
    """No descriptor of the worker's, no signal blocked or ignored, and no way to more privileges."""
    with daemon.connect() as c:
        links = ask(c, "exec", "ls /proc/self/fd | wc -l; ls -l /proc/self/fd | grep -c socket")
        assert links == "0 1 0\n4\n0\n"
        status = ask(c, "exec", "grep -E '^(Sig(Blk|Ign)|NoNewPrivs)' /proc/self/status")
        assert status.split("\n")[1:4] == ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "NoNewPrivs:\t1"]


def test_no_zombies_and_no_descriptors_left(daemon):
    with daemon.connect() as c:
        worker = daemon.worker_of(c)
        ask(c, "exec", "true")
        before = n_descriptors(worker)
        for _ in range(20):
            ask(c, "exec", "sleep 1000 >/dev/null 2>&1 & true")  # what it leaves behind is killed
            ask(c, "missing")
        wait_until(lambda: n_descriptors(worker) <= before, "nothing is left open")
        wait_until(lambda: not children(worker), "no zombie")


def test_children_of_a_worker_that_is_killed(daemon):
    """The kernel kills its child, the primary the rest, and all are reaped; the other worker's child lives on."""
    first, second = daemon.worker_pids()
    _, mine = descendants(daemon, first)
    _, others = descendants(daemon, second)
    os.kill(first, signal.SIGKILL)
    gone([first, *mine])
    daemon.wait_log(r"pid \d+ was left behind by a worker; killing it")
    assert all(alive(pid) for pid in others)
    daemon.hello()


def test_many_strays_are_told_of_in_few_lines(daemon):
    """Eight of them by their numbers, each once; how many more there were is told when no more come."""
    n = 50
    with daemon.connect() as c:
        worker = daemon.worker_of(c)
        command = f"for i in $(seq {n}); do setsid sleep 1000 <&- >&- 2>&- & done; echo $$; wait"
        root = int(ask(c, "start", command))
    wait_until(lambda: len([p for p in children(root) if name(p) == "sleep"]) == n, "all are there")
    pids = children(root)
    os.kill(worker, signal.SIGKILL)
    gone([worker, root, *pids])
    more = int(daemon.wait_log(r"(\d+) more processes were left behind by workers, and killed")[1])
    told = [m[1] for m in daemon.find(r"pid (\d+) was left behind by a worker; killing it")]
    assert len(told) == len(set(told)) == 8
    assert len(told) + more - n in (0, 1)  # the shell that started them may be seen as it dies


def test_children_of_a_worker_that_crashes(daemon):
    worker = daemon.worker_pids()[0]
    _, mine = descendants(daemon, worker)
    os.kill(worker, signal.SIGSEGV)
    gone(mine)
    daemon.hello()


def test_children_of_a_worker_that_is_replaced(daemon):
    """They live while it drains, no longer."""
    worker = daemon.worker_pids()[0]
    _, mine = descendants(daemon, worker)
    daemon.reload()
    gone([worker, *mine])


def test_children_when_the_daemon_stops(daemon):
    trees = [descendants(daemon, worker)[1] for worker in daemon.worker_pids()]
    daemon.stop()
    gone(sum(trees, []))


def test_children_when_it_is_stopped_at_once(daemon):
    """The workers are killed; the primary stays until what they left is gone."""
    trees = [descendants(daemon, worker)[1] for worker in daemon.worker_pids()]
    for worker in daemon.worker_pids():
        os.kill(worker, signal.SIGSTOP)  # they do not stop by themselves
    daemon.signal(signal.SIGTERM)
    daemon.stop_at_once()
    gone(sum(trees, []))


def test_children_when_the_primary_is_killed(daemon):
    """The workers drain, and take their children with them; only who has left the group has nobody to look after him."""
    with daemon.connect() as c:
        root = int(ask(c, "start", "sleep 1000 & echo $$; wait"))
    pids = [root, *children(root)]
    assert len(pids) == 2
    daemon.expected_status = -signal.SIGKILL
    os.kill(daemon.pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in pids), "they are gone")


def test_who_is_no_stray(tined, child_module):
    """What the primary had for children before it was the primary is not a worker's, and left alone."""
    t = tined(changes(child_module), wrap=["sh", "-c", "sleep 1000 & exec \"$0\" \"$@\""]).start()
    sleeper = next(pid for pid in children(t.pid) if name(pid) == "sleep")
    worker = t.serving_pids()[0]
    _, mine = descendants(t, worker)
    os.kill(worker, signal.SIGKILL)
    gone(mine)
    assert alive(sleeper)
    os.kill(sleeper, signal.SIGKILL)
    gone([sleeper])  # reaped


def test_who_leaves_its_group(daemon):
    """A daemon that a child has started is the primary's: reaped when it ends, killed at the latest with the worker."""
    with daemon.connect() as c:
        pids = []
        for seconds in (0.2, 1000):
            command = f"setsid sh -c 'echo $$; exec sleep {seconds} >/dev/null 2>&1' &"
            pids.append(int(ask(c, "exec", command).split("\n")[1]))
        gone(pids)  # the one ends; at that the primary sees the other
        pid = int(ask(c, "exec", "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' &").split("\n")[1])
        left = process(pid)
        assert left is None or left.ppid == daemon.pid
    daemon.reload()
    gone([pid])


def test_strays_are_not_mistaken_in_an_upgrade(tined, child_module):
    """The new primary is a child of the old one, which knows it; its workers' children are its own to bury."""
    t = tined(changes(child_module, probation="2s")).start()
    old = t.pid
    t.signal(signal.SIGUSR2)
    new = int(t.wait_log(r"upgrade: \S+ starts as pid (\d+)")[1])
    worker = t.worker_pids()[0]
    os.kill(worker, signal.SIGKILL)  # has the old one look at its children
    t.wait_log(rf"upgrade: pid {new} serves in place of pid {old}")
    assert t.process.wait(30) == 0
    assert alive(new)
    workers = children(new)
    _, mine = descendants(t, workers[0])
    os.kill(workers[0], signal.SIGKILL)
    gone(mine)
    os.kill(new, signal.SIGTERM)
    gone([new])
