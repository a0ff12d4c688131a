"""Signals to the primary: reload, scaling, log files."""

import os
import signal

import pytest

from harness import Client, free_port, HELLO, links, no_descriptors, refuses, wait_until

# --- HUP ---


def test_reload_replaces_every_worker(start):
    t = start()
    old = t.worker_pids()
    assert t.whoami()["generation"] == 1
    t.reload()
    assert t.whoami()["generation"] == 2
    t.wait_log(r"draining -> dead: exited with status 0", count=2)
    assert not set(old) & set(t.wait_workers(2))
    assert len(t.find(r"ready -> draining: a new generation serves")) == 2
    assert len(t.find(r"draining -> dead: exited with status 0")) == 2
    assert not t.errors()


def test_new_generation_is_ready_before_the_old_one_drains(start):
    t = start()
    mark = t.reload()
    t.wait_log("ready -> draining", mark)
    log = "\n".join(t.log(mark))
    last_ready = log.rindex("starting -> ready: generation 2")
    assert last_ready < log.index("reload: generation 2 serves") < log.index("ready -> draining")


def test_reload_takes_a_changed_configuration(start, module):
    t = start({"module:m": {"path": module, "mount": "/m", "text": "one"}})
    assert t.get("/m/").body == b"one"
    t.configure({"module:m": {"text": "two"}, "workers": {"count": 3}})
    t.reload()
    assert t.get("/m/").body == b"two"
    t.wait_workers(3)


def test_reload_says_what_waits_for_a_restart(start):
    t = start({"workers": {"shared_memory": "16M"}})
    assert not t.find("counts when tined is restarted", t.reload()), "nothing has changed"
    t.configure({"workers": {"shared_memory": "32M"}, "tined": {"control_others": "read"}})
    for _ in range(2):  # it waits still
        mark = t.reload()
        t.wait_log(r"warning .*reload: \[workers\] shared_memory = 32M counts when tined is restarted; until then it is 16M", mark)
        t.wait_log(r"reload: \[tined\] control_others = read counts when .* it is nothing", mark)
        assert len(t.find("counts when tined is restarted", mark)) == 2
    t.configure({"workers": {"shared_memory": "16384K"}, "tined": {"control_others": "nothing"}})
    assert not t.find("counts when tined is restarted", t.reload())


def test_reload_without_a_configuration_file(tined):
    """What the daemon was started with is gone: it serves on, and says so."""
    t = tined().start()
    t.path.unlink()
    errors = t.reload_fails()
    assert any(str(t.path) in e and "No such file" in e for e in errors)
    t.hello()
    assert t.whoami()["generation"] == 1


def test_reload_with_a_broken_file(start):
    t = start()
    old = t.worker_pids()
    t.configure({"workers": {"hang_timeout": "soon"}})
    errors = t.reload_fails()
    assert errors[0].startswith(f"{t.path}:{t.line_of('soon')}: workers.hang_timeout: ")
    assert errors[-1] == "reload: failed; generation 1 serves on"
    assert t.worker_pids() == old
    t.hello()
    t.configure({"workers": {"hang_timeout": None}})
    t.reload()
    t.hello()
    assert not set(old) & set(t.wait_workers(2))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"module:m": {"path": "/nonexistent/m.so", "mount": "/m"}}, "/nonexistent/m.so"),
        ({"module:hello": {"path": "builtin:helo"}}, "helo"),
        ({"module:hello": {"flavour": "sweet"}}, "unknown option"),
        ({"listener:web": {"address": "192.0.2.1:1"}}, "192.0.2.1:1: Cannot assign requested address"),
        ({"listener:web": {"address": "systemd:web"}}, "no socket of that name"),
        ({"tined": {"user": "no-such-user"}}, "no such user"),
    ],
    ids=["module", "builtin", "option", "address", "systemd", "user"],
)
def test_reload_that_cannot_be(start, changes, said):
    t = start()
    old = t.worker_pids()
    t.configure(changes)
    errors = t.reload_fails()
    assert len(errors) == 2, errors
    assert said in errors[0] and str(t.path) in errors[0]
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")
    t.hello()
    assert t.whoami()["generation"] == 1


@pytest.mark.parametrize("how", ["start", "exit", "abort", "hang"])
def test_reload_with_a_module_that_does_not_start(start, module, how):
    t = start()
    old = t.worker_pids()
    t.configure({"module:m": {"path": module, "mount": "/m", "fail": how}, "workers": {"start_timeout": "300ms"}})
    assert "reload: failed; generation 1 serves on" in t.reload_fails()
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")
    t.hello()


def test_new_generation_that_dies_in_its_probation(start):
    t = start()
    old = t.worker_pids()
    t.configure({"workers": {"probation": "20s"}})
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"starting -> ready: generation 2", mark, count=2)
    new = set(t.worker_pids()) - set(old)
    os.kill(min(new), signal.SIGKILL)
    t.wait_log(r"worker\[\d\] of the new generation did not survive its probation: killed by signal 9 \(Killed\)", mark)
    t.wait_log(r"reload: failed; generation 1 serves on", mark)
    wait_until(lambda: t.worker_pids() == old, "the old workers and no others")
    t.hello()


def test_reload_that_changes_the_port(start):
    t = start()
    old = t.address()
    port = free_port()
    t.configure({"listener:web": {"address": f"127.0.0.1:{port}"}})
    with Client(old) as c:
        assert c.request().body == HELLO
        t.reload()
        # The primary may have closed the port before the old worker is told to drain.
        wait_until(lambda: c.request().closes, "the old worker closes the connection with an answer")
    with Client(("127.0.0.1", port)) as c:
        assert c.request("/whoami").json()["generation"] == 2
    t.wait_log(rf"no longer listening on 127\.0\.0\.1:{old[1]}")
    wait_until(lambda: refuses(old), "the old port is closed")


def test_reload_that_adds_and_removes_a_listener(start, folder):
    path = f"{folder}/more.sock"
    t = start()
    more = {"listener:more": {"address": f"unix:{path}"}, "module:more": {"path": "builtin:whoami", "listener": "more"}}
    t.configure(more)
    t.reload()
    t.hello()
    with Client(path) as c:
        assert c.request().json()["generation"] == 2
    t.configure(dict.fromkeys(more))
    t.reload()
    wait_until(lambda: not os.path.exists(path), "the socket's file is gone")
    t.hello()


def test_reload_that_changes_accept_is_refused(start):
    t = start({"listener:web": {"address": f"127.0.0.1:{free_port()}"}})
    t.configure({"listener:web": {"accept": "reuseport"}})
    errors = t.reload_fails()
    assert f"{t.path}:" in errors[0] and "`accept` cannot change" in errors[0]


def test_reload_finishes_the_request_in_flight(start):
    t = start({"workers": {"count": 1}})
    (old,) = t.worker_pids()
    with t.connect() as c:
        c.send(b"GET /whoami HTTP/1.1\r\nHost: a\r\n")
        t.hello()
        t.reload()
        assert t.whoami()["generation"] == 2
        c.send(b"\r\n")
        response = c.response()
        assert response.json()["pid"] == old and response.json()["generation"] == 1
        assert response.closes and c.closed()
    wait_until(lambda: old not in t.worker_pids(), "the old worker ends")


def test_idle_connection_has_a_last_request_after_a_reload(start):
    t = start()
    with t.connect() as c:
        assert not c.request().closes
        t.reload()
        response = c.request("/whoami")
        assert response.json()["generation"] == 1
        assert response.closes and c.closed()


def test_hup_while_a_reload_runs(start, module, folder):
    """It is not lost: another reload follows."""
    t = start({"module:m": {"path": module, "mount": "/m", "fail_file": folder / "fail"}})
    (folder / "fail").write_text("wait")
    mark = t.mark()
    t.signal(signal.SIGHUP)
    t.wait_log(r"empty -> starting", mark)
    t.configure({"workers": {"count": 3}})
    for n in range(1, 4):
        t.signal(signal.SIGHUP)
        t.wait_log(r"received SIGHUP", mark, count=n + 1)
        t.wait_log(r"reload: busy; doing it again afterwards", mark, count=n)
    (folder / "fail").unlink()
    t.wait_log(r"reload: generation 3 serves, 3 workers", mark)
    t.wait_workers(3)
    assert t.whoami()["generation"] == 3


def test_stop_while_a_reload_runs(start):
    t = start({"workers": {"probation": "1h"}})
    t.signal(signal.SIGHUP)
    t.wait_log(r"starting -> ready: generation 2", count=2)
    assert t.stop() == 0
    assert not t.errors()


def test_hup_while_starting(tined):
    t = tined({"workers": {"count": 4}}).spawn()
    t.wait_log(r"worker\[0\]: empty -> starting")
    t.signal(signal.SIGHUP)
    t.wait_log(r"generation 2 serves")
    t.hello()


def test_many_reloads_leave_nothing_behind(start):
    t = start({"workers": {"probation": "0"}})
    t.reload()
    t.wait_workers(2)
    before = t.n_descriptors()
    for _ in range(10):
        t.reload()
    t.wait_workers(2)
    assert t.whoami()["generation"] == 12
    assert t.n_descriptors() == before


def test_reload_keeps_connections_that_wait(start):
    """Nobody accepts for a moment: what is in the queue is served by whom comes next."""
    t = start({"workers": {"count": 1}})
    (old,) = t.worker_pids()
    os.kill(old, signal.SIGSTOP)
    try:
        clients = [t.connect() for _ in range(20)]
        for c in clients:
            c.send(b"GET /whoami HTTP/1.1\r\nHost: a\r\n\r\n")
        mark = t.mark()
        t.signal(signal.SIGHUP)
        t.wait_log(r"reload: generation 2 serves", mark)
        for c in clients:
            assert c.response().json()["generation"] == 2
            c.close()
    finally:
        os.kill(old, signal.SIGCONT)
    t.wait_workers(1)


def test_reload_keeps_a_unix_socket(start, folder):
    path = f"{folder}/web.sock"
    t = start({"listener:web": {"address": f"unix:{path}"}})
    inode = os.stat(path).st_ino
    for generation in (2, 3):
        t.reload()
        with Client(path) as c:
            assert c.request("/whoami").json()["generation"] == generation
    assert os.stat(path).st_ino == inode


def test_reload_moves_the_log(start, folder):
    path = folder / "new.log"
    t = start()
    t.configure({"tined": {"log": f"file:{path}"}})
    t.signal(signal.SIGHUP)
    wait_until(lambda: path.exists() and "reload: generation 2 serves" in path.read_text(), "it logs there")
    t.hello()
    assert t.stop() == 0
    assert "stopped" in path.read_text()


def test_reload_that_fails_leaves_the_log_where_it_was(start, folder):
    path = folder / "new.log"
    t = start()
    t.configure({"tined": {"log": f"file:{path}"}, "module:hello": {"path": "builtin:helo"}})
    mark = t.mark()
    t.signal(signal.SIGHUP)
    wait_until(lambda: path.exists() and "failed" in path.read_text() or t.find("reload: failed", mark), "it fails")
    mark = t.mark()
    t.signal(signal.SIGUSR1)
    t.wait_log(r"log reopened", mark)
    t.hello()


def test_reload_with_a_log_that_cannot_be_opened(start):
    t = start()
    t.configure({"tined": {"log": "file:/nonexistent/log"}})
    errors = t.reload_fails()
    assert "tined.log: /nonexistent/log: No such file or directory" in errors[0]
    t.hello()


# --- TTIN, TTOU ---


def scale(t, sig, n):
    mark = t.mark()
    t.signal(sig)
    t.wait_log(rf"scale: {n} workers?$", mark)
    return t.wait_workers(n)


def test_ttin_adds_a_worker(start):
    t = start({"workers": {"count": 1}})
    scale(t, signal.SIGTTIN, 2)
    scale(t, signal.SIGTTIN, 3)
    t.wait_log(r"starting -> ready: generation 1", count=3)
    clients, seen = [], set()

    def one_more():
        clients.append(t.connect())
        seen.add(t.worker_of(clients[-1]))
        return seen == set(t.worker_pids())

    wait_until(one_more, "all of them serve")
    for c in clients:
        c.close()


def test_ttou_drains_a_worker(start):
    t = start({"workers": {"count": 3}})
    scale(t, signal.SIGTTOU, 2)
    scale(t, signal.SIGTTOU, 1)
    t.hello()
    t.wait_log(r"draining -> dead: exited with status 0", count=2)
    assert not t.errors()


def test_ttou_takes_the_least_loaded(start):
    t = start({"workers": {"count": 2}})
    with t.connect() as c:
        busy = t.worker_of(c)
        assert scale(t, signal.SIGTTOU, 1) == [busy]
        assert not c.request().closes


def test_ttou_at_one_worker_is_refused(start):
    t = start({"workers": {"count": 1}})
    (worker,) = t.worker_pids()
    t.signal(signal.SIGTTOU)
    t.wait_log(r"warning tined: scale: 0 workers are not possible; 1 to 1024 are; ignoring")
    t.hello()
    assert t.worker_pids() == [worker]


def test_reload_goes_back_to_the_configured_count(start):
    t = start({"workers": {"count": 1}})
    scale(t, signal.SIGTTIN, 2)
    t.reload()
    t.wait_workers(1)


@pytest.mark.parametrize("accept", ["shared", "reuseport"])
def test_up_and_down_again(start, accept):
    t = start({"workers": {"count": 2}, "listener:web": {"accept": accept}})
    for _ in range(3):
        scale(t, signal.SIGTTIN, 3)
        for _ in range(5):
            t.hello()
        scale(t, signal.SIGTTOU, 2)
        for _ in range(20):
            t.hello()


def test_scaled_worker_is_replaced_like_any_other(start):
    t = start({"workers": {"count": 1}})
    first = t.worker_pids()
    new = set(scale(t, signal.SIGTTIN, 2)) - set(first)
    t.wait_log(r"starting -> ready", count=2)
    os.kill(new.pop(), signal.SIGKILL)
    t.wait_log(r"starting -> ready", count=3)
    assert len(t.wait_workers(2)) == 2


# --- USR1 ---


def test_usr1_reopens_the_log(tined, folder, module):
    path, rotated = folder / "tined.log", folder / "tined.log.1"
    t = tined({"tined": {"log": f"file:{path}"}, "module:m": {"path": module, "mount": "/m"}}).spawn()

    def has(file, text):
        return lambda: file.exists() and text in file.read_text()

    wait_until(has(path, "generation 1 serves"), "it serves")
    port = int(path.read_text().split("listening on 127.0.0.1:")[1].split()[0])
    path.rename(rotated)
    t.signal(signal.SIGUSR1)
    wait_until(has(path, "log reopened"), "a new file")
    wait_until(lambda: all(str(path) in links(p.pid) for p in t.family()), "everybody has it")
    size = rotated.stat().st_size
    for _ in range(10):
        with Client(("127.0.0.1", port)) as c:
            assert c.request("/m/silent").status == 500
    wait_until(has(path, "/m/silent gave no answer"), "workers write to the new file")
    t.signal(signal.SIGTTIN)
    wait_until(has(path, "worker[2]: starting -> ready"), "new workers, too")
    assert t.stop() == 0
    text = path.read_text()
    assert text.count("gave no answer") == 10
    assert text.count("module: stop") == 3
    assert "stopped" in text
    assert rotated.stat().st_size == size, "nobody writes to the old one"


def test_usr1_when_a_worker_has_no_descriptor_left(tined, folder):
    """It says so where it can, and goes on; the next time it does as told."""
    path, rotated = folder / "tined.log", folder / "tined.log.1"
    t = tined({"tined": {"log": f"file:{path}"}, "workers": {"count": 1}}).spawn()
    wait_until(lambda: path.exists() and "generation 1 serves" in path.read_text(), "it serves")
    path.rename(rotated)
    (worker,) = t.worker_pids()
    with no_descriptors(worker):
        t.signal(signal.SIGUSR1)
        wait_until(lambda: "LOG_REOPEN: too many descriptors are in use; ignoring it" in rotated.read_text(), "it says so")
    t.signal(signal.SIGUSR1)
    wait_until(lambda: str(path) in links(worker), "it has the new file")
    assert t.worker_pids() == [worker]


def test_usr1_without_a_log_file(start):
    t = start()
    t.signal(signal.SIGUSR1)
    t.wait_log(r"log reopened")
    t.hello()


def test_usr1_when_the_file_cannot_be_opened(tined, folder):
    logs = folder / "logs"
    logs.mkdir()
    path = logs / "log"
    t = tined({"tined": {"log": f"file:{path}"}}).spawn()
    wait_until(lambda: path.exists() and "generation 1 serves" in path.read_text(), "it serves")
    moved = folder / "moved"
    logs.rename(moved)
    t.signal(signal.SIGUSR1)
    said = "cannot reopen the log: No such file or directory; writing to the old file"
    wait_until(lambda: said in (moved / "log").read_text(), "it says so")
    assert t.stop() == 0
    assert "stopped" in (moved / "log").read_text()


# --- the rest ---


@pytest.mark.parametrize("name", ["INT", "QUIT", "HUP", "USR1", "USR2", "TTIN", "TTOU", "PIPE"])
def test_workers_leave_signals_to_the_primary(start, name):
    """A terminal's ^C reaches the whole group."""
    t = start()
    for pid in t.worker_pids():
        os.kill(pid, getattr(signal, "SIG" + name))
    t.hello()
    assert not t.find(r"crash")
    assert t.whoami()["generation"] == 1
    assert len(t.worker_pids()) == 2


def test_sigpipe_and_sigchld_to_the_primary(start):
    t = start()
    t.signal(signal.SIGPIPE)
    t.signal(signal.SIGCHLD)
    t.signal(signal.SIGUSR1)  # in order: when this one has been seen, so have they
    t.wait_log(r"received SIGUSR1")
    t.hello()


def test_started_with_sigchld_ignored(start):
    """Some parents do that; children would vanish without a status."""
    t = start(before=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    os.kill(t.worker_pids()[0], signal.SIGKILL)
    t.wait_log(r"crash: killed by signal 9")
    t.wait_log(r"starting -> ready", count=3)


def test_started_with_signals_blocked(start):
    t = start(before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))
    t.hello()
    t.reload()
    assert t.stop() == 0
