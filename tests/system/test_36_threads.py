"""Worker threads in a worker: messages, failures, crashes with their place, the end of all of them. The module is thread_module.c."""

import contextlib
import errno
import os
import pathlib

import pytest

from harness import Gone, n_descriptors, wait_until
from conftest import HERE

QUIET = {"ASAN_OPTIONS": "handle_segv=0:" + os.environ.get("ASAN_OPTIONS", "")}  # the sanitizer is not to catch crashes


@pytest.fixture(scope="session")
def threads(build_module):
    return build_module(HERE / "thread_module.c", "-D_GNU_SOURCE", "-g", "-fno-optimize-sibling-calls")


@pytest.fixture
def threaded(tined, threads):
    def make(workers=None, **options):
        settings = {"count": 1, "probe": "off", "backoff_min": "1ms", **(workers or {})}
        return tined({"workers": settings, "module:t": {"path": threads, "mount": "/t"}}, **options).start()

    return make


def ask(t, path):
    answer = t.get(f"/t{path}")
    assert answer.status == 200, answer
    return answer.body.decode()


def names(pid):
    """Of all threads of a process."""
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.append(path.read_text().strip())
    return sorted(found)


def test_messages_there_and_back(threaded):
    t = threaded()
    assert [ask(t, f"/text?{i}") for i in range(100)] == [str(i) for i in range(100)]
    (pid,) = t.worker_pids()
    wanted = ["test-echo"] * 3 + ["test-pool"] * 2
    wait_until(lambda: [name for name in names(pid) if name.startswith("test-")] == wanted, "each has its name")


def test_thread_that_fails_says_why(threaded):
    t = threaded()
    (pid,) = t.worker_pids()
    before = n_descriptors(pid)
    assert [ask(t, "/fail") for _ in range(20)] == [f"-{errno.EIO} no disk today"] * 20
    wait_until(lambda: n_descriptors(pid) <= before, "nothing of them is left")
    assert t.worker_pids() == [pid]


def test_pool_replaces_threads_that_fail(threaded):
    t = threaded()
    assert ask(t, "/task?hello") == "0 0 hello"
    for i in range(1, 6):
        assert ask(t, "/task?fail") == f"-{errno.EDOM} {i} "
        assert ask(t, "/task?hello") == f"0 {i} hello"


def test_as_many_as_there_may_be(threaded):
    t = threaded()
    assert ask(t, "/many") == f"{256 - 5} -{errno.EDQUOT}"
    (pid,) = t.worker_pids()
    wait_until(lambda: len(names(pid)) < 20, "they have ended")
    assert ask(t, "/text?still") == "still"


@pytest.mark.parametrize("what, name", [("crash", "dies_by_null_on_thread"), ("overflow", "overflows_on_thread")])
def test_crash_on_a_thread_is_named(threaded, what, name):
    """It is one of the worker, which is replaced."""
    t = threaded(env=QUIET)
    with pytest.raises((Gone, ConnectionResetError)):
        ask(t, f"/text?{what}")
    t.wait_log(r"crash: killed by signal 11 ")
    t.wait_log(rf"it was in {name} ")
    t.wait_log(r"starting -> ready", count=2)
    assert ask(t, "/text?again") == "again"


def test_all_threads_end_before_the_module(threaded):
    t = threaded()
    assert ask(t, "/text?1") == "1"
    t.stop()
    t.wait_log(r"thread module: stopped; 3 online, 3 exits, 1 pools")
    assert t.errors() == []


@pytest.mark.parametrize("how", ["stuck", "loud"])
def test_stuck_thread_holds_up_nobody(threaded, how):
    """The loop serves on beside it. At the end the process goes with it: its module cannot be torn down while it runs. A loud one
    posts to the loop to the last, which starts children."""
    t = threaded({"hang_timeout": "1s"})
    assert ask(t, f"/text?{how}") == "it is told"
    wait_until(lambda: ask(t, "/stuck") == "1", "the thread has read it")
    assert ask(t, "/text?1") == "1"
    t.stop()
    assert t.errors() == ["threads: 1 did not end when told to; exiting with them"]
    assert not t.find(r"thread module: stopped")
    assert not t.find(r"crash: |KILL")


def test_reload_ends_the_threads_of_the_old_workers(threaded):
    t = threaded()
    (pid,) = t.worker_pids()
    t.reload()
    t.wait_log(r"thread module: stopped; 3 online, 3 exits, 1 pools")
    assert ask(t, "/text?new") == "new"
    assert t.worker_pids() != [pid]
