"""Memory that workers share: counted together, over crashes and reloads; killed in a lock; filled with garbage. The module is
shared_module.c."""

import errno
import os
import pathlib
import re
import signal

import pytest

from harness import Client, Gone, name, wait_until
from conftest import HERE
from test_23_upgrade import Upgradable, subreaper  # noqa: F401

OWNER_DIED = 1
LIMITED = 1


@pytest.fixture(scope="session")
def shared(build_module):
    return build_module(HERE / "shared_module.c", "-D_GNU_SOURCE", "-pthread")


@pytest.fixture
def sharing(start, shared):
    def make(workers=None, **options):
        # No requests of tined's own, which would be counted, too.
        settings = {"crash_limit": "100/1s", "backoff_min": "1ms", "probe": "off", **(workers or {})}
        module = {"path": shared, "mount": "/s", "listener": "web", **options}
        return start({"workers": settings, "module:s": module})

    return make


@pytest.fixture
def upgradable(folder):
    made = []

    def make(changes):
        made.append(Upgradable(folder, changes))
        return made[-1]

    yield make
    for t in made:
        t.close()


def ask(t, path):
    answer = t.get(f"/s{path}")
    assert answer.status == 200, answer
    return answer.json()


def each_worker(t, path):
    """{pid: the answer of that worker}, of all workers."""
    clients, answers = [], {}

    def ask_another():
        client = t.connect()
        clients.append(client)
        pid = t.worker_of(client)
        if pid not in answers:
            answers[pid] = client.request(f"/s{path}").json()
        return set(answers) == {pid for pid in t.serving_pids() if name(pid) == "tined-worker"}

    try:
        wait_until(ask_another, "every worker answers")
    finally:
        for client in clients:
            client.close()
    return answers


def die(t):
    """A worker is killed while it holds the lock, in the middle of a change."""
    with t.connect() as c:
        pid = t.worker_of(c)
        with pytest.raises((Gone, ConnectionResetError)):
            c.request("/s/die")
    wait_until(lambda: pid not in t.worker_pids(), "it is gone")


def errno_name(r):
    return errno.errorcode[-r]


def mappings(pid):
    """Lines of the shared memory in a process's map of its memory."""
    return [line for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines() if "tined-shared" in line]


def test_all_count_together(sharing):
    t = sharing({"count": 3})
    seen = [answer["count"] for answer in each_worker(t, "/count").values()]
    seen += [ask(t, "/count")["count"] for _ in range(50)]
    assert sorted(seen) == list(range(1, len(seen) + 1))  # nobody twice, none left out


def test_threads_and_workers_exclude_each_other(sharing):
    t = sharing({"count": 2, "hang_timeout": "1m"})
    clients = [t.connect() for _ in range(2)]
    try:
        for c in clients:
            c.send(b"GET /s/threads HTTP/1.1\r\nHost: test\r\n\r\n")
        done = sum(c.response().json()["done"] for c in clients)
    finally:
        for c in clients:
            c.close()
    after = ask(t, "/step")
    assert (after["lock"], after["a"], after["b"]) == (0, done, done)
    assert ask(t, "/count")["count"] == done + 1


def test_killed_in_the_lock(sharing):
    """The next one gets the lock and is told so, once; what was half done is there to be put right."""
    t = sharing()
    assert [ask(t, "/step")["lock"] for _ in range(2)] == [0, 0]
    for a in (2, 5):
        die(t)
        after = ask(t, "/step")
        assert (after["lock"], after["a"], after["b"]) == (OWNER_DIED, a + 1, a)
        after = ask(t, "/step")
        assert (after["lock"], after["a"], after["b"]) == (0, a + 2, a + 2)


def test_a_holder_that_lives_keeps_it(sharing):
    """Nobody waits for it for ever, and when it is killed from outside it is told."""
    t = sharing()
    with t.connect() as holder:
        held = holder.request("/s/hold").json()
        assert held["lock"] == 0
        others = {pid: answer for pid, answer in each_worker(t, "/step").items() if pid != held["pid"]}
        assert [errno_name(answer["lock"]) for answer in others.values()] == ["ETIMEDOUT"]
        os.kill(held["pid"], signal.SIGKILL)
    wait_until(lambda: held["pid"] not in t.worker_pids(), "it is gone")
    assert ask(t, "/step")["lock"] == OWNER_DIED
    assert errno_name(ask(t, "/give")["lock"]) == "EPERM"


def test_a_crash_and_a_reload_keep_it(sharing):
    t = sharing()
    for _ in range(10):
        ask(t, "/count")
    used = [ask(t, "/limit/a")["left"] for _ in range(3)]
    assert used == [9, 8, 7]
    for pid in t.worker_pids():
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in t.worker_pids() and len(t.serving_pids()) == 2, "it is replaced")
    assert ask(t, "/count")["count"] == 11
    t.reload()
    assert ask(t, "/count")["count"] == 12
    assert ask(t, "/limit/a")["left"] == 6
    t.configure({"module:s": {"amount": 5}})
    t.reload()
    assert ask(t, "/limit/b")["left"] == 4


def test_what_a_dead_worker_said_counts_no_more(sharing):
    t = sharing({"count": 3})
    sums = [answer["sum"] for answer in each_worker(t, "/gauge").values()]
    assert sorted(sums) == [1, 2, 3]
    t.reload()
    wait_until(lambda: len(t.worker_pids()) == 3, "the old ones are gone")
    pid = ask(t, "/gauge")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in t.worker_pids(), "it is gone")
    assert ask(t, "/gauge")["sum"] == 1


def admin(t, path):
    port = t.admin_port()
    with Client(("127.0.0.1", port)) as c:
        return c.request(path)


def metrics(t):
    text = admin(t, "/metrics").body.decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines if name.startswith("tined_shared_")}


def test_an_upgrade_keeps_it(upgradable, shared):
    """The workers of both binaries share it; so it is there whichever of them serves on."""
    t = upgradable({"workers": {"probe": "off"}, "module:s": {"path": shared, "mount": "/s", "listener": "web"}}).start()
    for _ in range(3):
        ask(t, "/count")
    old = t.pid
    t.upgrade()
    assert t.pid != old and mappings(t.pid) == []
    assert ask(t, "/count")["count"] == 4
    descriptors = t.n_descriptors()
    t.upgrade()
    assert ask(t, "/count")["count"] == 5
    assert t.n_descriptors() == descriptors
    # Another size: it begins anew, and says so.
    t.configure({"workers": {"shared_memory": "2M"}})
    mark = t.upgrade()
    assert t.find("cannot go on with the workers' shared memory: shared_memory is another one now", mark)
    assert ask(t, "/count")["count"] == 1


def test_metrics(start, shared):
    t = start({
        "workers": {"crash_limit": "100/1s", "backoff_min": "1ms"},
        "module:s": {"path": shared, "mount": "/s", "listener": "web", "late": "on"},
        "admin": {"listen": "127.0.0.1:0"},
    })
    empty = metrics(t)
    assert empty == {
        "tined_shared_memory_bytes": 16 << 20,
        "tined_shared_memory_used_bytes": empty["tined_shared_memory_used_bytes"],
        "tined_shared_memory_names": 0,
        "tined_shared_memory_damaged": 0,
    }
    assert 0 < empty["tined_shared_memory_used_bytes"] < 256 << 10
    each_worker(t, "/open")
    for _ in range(3):
        ask(t, "/count")
    ask(t, "/gauge")
    full = metrics(t)
    assert full['tined_shared_counter{name="test:counter"}'] == 3
    assert full['tined_shared_gauge{name="test:gauge"}'] == 1
    assert full['tined_shared_limit_forgotten_total{name="test:limit"}'] == 0
    assert full["tined_shared_memory_names"] == 4
    assert full["tined_shared_memory_used_bytes"] > empty["tined_shared_memory_used_bytes"] + 4096
    status = admin(t, "/status.json").json()["shared_memory"]
    assert status == {"bytes": 16 << 20, "used": full["tined_shared_memory_used_bytes"], "names": 4, "damaged": False}
    for pid in t.worker_pids():  # of the three, the admin process has it to look at only
        kinds = {line.split()[1] for line in mappings(pid)}
        assert kinds == ({"r--s"} if name(pid) == "tined-admin" else {"rw-s"})
    ask(t, "/scribble")
    assert metrics(t)["tined_shared_memory_damaged"] == 1
    assert admin(t, "/status.json").json()["shared_memory"]["damaged"] is True
    t.hello()


def test_another_size_fails_the_reload(sharing):
    t = sharing()
    ask(t, "/count")
    t.configure({"module:s": {"size": "8K"}})
    errors = t.reload_fails()
    assert any('"test:area" has 4096 bytes already, not 8192; choose another name' in e for e in errors), errors
    assert ask(t, "/count")["count"] == 2


def test_no_room_fails_the_start(tined, shared):
    module = {"path": shared, "mount": "/s", "listener": "web", "size": "1M"}
    t = tined({"workers": {"shared_memory": "1M", "crash_limit": "1/1s"}, "module:s": module})
    assert t.run() != 0
    assert t.find(r'no room for "test:area" of 1048576 bytes: .* raise \[workers\] shared_memory')


def test_one_limit_over_all_workers(sharing):
    t = sharing({"count": 3})
    answers = [answer for _ in range(5) for answer in each_worker(t, "/limit/somebody").values()]
    assert [a["result"] for a in answers] == [0] * 10 + [LIMITED] * 5
    assert sorted(a["left"] for a in answers[:10]) == list(range(10))
    assert all(0 < a["retry_us"] <= 360_000_000 for a in answers[10:])
    assert ask(t, "/limit/somebody-else")["result"] == 0


def test_the_primary_has_none_of_it(sharing):
    """It never maps the memory, and what nobody has written to costs nobody anything."""
    t = sharing({"shared_memory": "1G"}, size="900M")
    assert mappings(t.pid) == []
    for pid in t.worker_pids():
        lines = mappings(pid)
        assert len(lines) == 1 and " rw-s " in lines[0]
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert int(re.search(r"RssShmem:\s+(\d+) kB", status)[1]) < 2048


def test_garbage_harms_only_those_who_read_it(sharing):
    """One worker writes over everything: errors for who looks something up, and a service that goes on."""
    t = sharing({"count": 2}, late="on")
    opened = each_worker(t, "/open")
    assert [a["error"] for a in opened.values()] == ["", ""]
    assert ask(t, "/step")["lock"] == 0
    workers = t.worker_pids()
    assert ask(t, "/scribble") == {"scribbled": 1}
    for path, result in (("/open", "EUCLEAN"), ("/open", "EUCLEAN")):
        assert {a["error"] for a in each_worker(t, path).values()} == {result}
    for _ in range(20):
        ask(t, "/limit/a")  # what it answers is anybody's guess, but it does
        ask(t, "/count")
    after = ask(t, "/step")  # nobody holds it, whatever the lock's word says
    assert after["lock"] == OWNER_DIED
    assert ask(t, "/step")["lock"] == 0
    assert t.worker_pids() == workers and not t.errors()
    t.hello()
    # The primary goes on with its work: a crash is repaired, a reload works for all who need nothing of it.
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: workers[0] not in t.worker_pids() and len(t.serving_pids()) == 2, "it is replaced")
    t.reload()
    t.hello()
    # Who cannot do without says so.
    t.configure({"module:s": {"late": "off"}})
    errors = t.reload_fails()
    assert any("somebody has written over its directory; restart tined" in e for e in errors), errors
    t.hello()
