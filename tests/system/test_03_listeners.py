"""Where it listens: several addresses, unix sockets, reuseport, sockets passed by a parent."""

import os
import socket
import stat
import subprocess

import pytest

from harness import links, DEADLINE, HELLO, Client, free_port, refuses, sockets, tool, wait_until

ACCEPT = pytest.mark.parametrize("accept", ["shared", "reuseport"])


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no [::1] here")


@ACCEPT
def test_ipv4(start, accept):
    t = start({"listener:web": {"accept": accept}})
    for _ in range(20):
        t.hello()


@needs_ipv6
@ACCEPT
def test_ipv6(start, accept):
    t = start({"listener:web": {"address": "[::1]:0", "accept": accept}})
    port = int(t.wait_log(r"listening on \[::1\]:(\d+) \(listener:web\)")[1])
    for _ in range(5):
        with Client(("::1", port)) as c:
            assert c.request().body == HELLO
    assert refuses(("127.0.0.1", port))


@needs_ipv6
def test_ipv6_any_leaves_ipv4_alone(start):
    port = free_port()
    both = {"listener:web": {"address": f"0.0.0.0:{port}"}, "listener:six": {"address": f"[::]:{port}"}}
    t = start({**both, "module:six": {"path": "builtin:whoami", "listener": "six"}})
    with Client(("::1", port)) as c:
        assert c.request().json()["generation"] == 1
    t.hello()


def test_unix_socket(start, folder):
    path = f"{folder}/web.sock"
    t = start({"listener:web": {"address": f"unix:{path}"}})
    assert t.find(rf"listening on unix:{path} \(listener:web\)")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    with Client(path) as c:
        for _ in range(3):
            assert c.request().body == HELLO
    assert t.stop() == 0
    assert not os.path.exists(path)


@pytest.mark.skipif(not tool("curl"), reason="curl is not installed")
def test_unix_socket_with_curl(start, folder):
    path = f"{folder}/web.sock"
    start({"listener:web": {"address": f"unix:{path}"}})
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", path, "http://localhost/"], capture_output=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, b"")


def test_reuseport_with_a_unix_socket_is_refused(tined, folder):
    t = tined({"listener:web": {"address": f"unix:{folder}/web.sock", "accept": "reuseport"}})
    assert t.run() == 1
    assert len(t.log()) == 1
    assert f"{t.path}:{t.line_of('reuseport')}: listener:web.accept: reuseport is not possible" in t.log()[0]


@ACCEPT
def test_several_listeners_serve_their_own_modules(start, folder, accept):
    t = start(
        {
            "listener:web": {"accept": accept},
            "listener:second": {"address": "127.0.0.1:0", "accept": accept},
            "listener:local": {"address": f"unix:{folder}/local.sock"},
            "module:second": {"path": "builtin:whoami", "listener": "second"},
            "module:local": {"path": "builtin:whoami", "listener": "local", "mount": "/local"},
        }
    )
    for _ in range(10):
        t.hello()
        assert t.get("/", "second").json()["generation"] == 1
    assert t.get("/local/").body == HELLO, "it belongs to another listener, here hello answers everything"
    with Client(f"{folder}/local.sock") as c:
        assert c.request("/").status == 404
        assert c.request("/local").status == 200


def listening(port):
    """How many listening sockets the kernel has on a port."""
    wanted = f":{port:04X}"
    lines = open("/proc/net/tcp").read().splitlines()[1:]
    return sum(1 for line in lines if line.split()[1].endswith(wanted) and line.split()[3] == "0A")


@pytest.mark.parametrize("accept, n", [("shared", 1), ("reuseport", 3)])
def test_sockets_of_each_way(start, accept, n):
    t = start({"workers": {"count": 3}, "listener:web": {"accept": accept}})
    wait_until(lambda: listening(t.port()) == n, "so many sockets")  # one may be left out while others come and go
    # those that are ready first mind the sockets of the others until these are, too
    shared = lambda pid: sockets(t.pid) & sockets(pid)
    wait_until(lambda: all(len(shared(pid)) == 1 for pid in t.worker_pids()), "one socket for each worker")
    assert len(set.union(*map(shared, t.worker_pids()))) == n
    clients, seen = [], set()

    def one_more():  # a busy machine may let one worker sleep for a while
        clients.append(t.connect())
        seen.add(t.worker_of(clients[-1]))
        return seen == set(t.worker_pids())

    wait_until(one_more, "all workers take connections")
    for c in clients:
        c.close()


def test_port_is_free_after_the_stop(start, tined):
    t = start()
    port = t.port()
    t.hello()
    t.stop()
    again = tined({"listener:web": {"address": f"127.0.0.1:{port}"}}).start()
    again.hello()


def test_backlog_is_that_of_the_configuration(start):
    ss = tool("ss")
    if not ss:
        pytest.skip("ss is not installed")
    t = start({"listener:web": {"backlog": 77}})
    out = subprocess.run([ss, "-Hltn", f"sport = :{t.port()}"], capture_output=True, text=True, timeout=DEADLINE).stdout
    assert out.split()[2] == "77"


# --- sockets from the parent, as systemd passes them ---


def adopts(tined, changes, listeners, names, **options):
    """A daemon that gets these sockets as descriptors 3 and so on."""
    fds = [s.fileno() for s in listeners]

    def pass_on():
        copies = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
        for i, fd in enumerate(copies):
            os.dup2(fd, 3 + i, inheritable=True)

    # LISTEN_PID must be the daemon's own, which is known only after the fork: a shell fills it in and becomes it.
    wrap = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"]
    env = {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(names)}
    return tined(changes, wrap=wrap, env=env, before=pass_on, pass_fds=range(3, 3 + len(fds)), **options)


@pytest.fixture
def passed():
    """A listening socket of ours."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as s:
        yield s


def test_adopts_the_socket_of_a_name(tined, passed):
    t = adopts(tined, {"listener:web": {"address": "systemd:web"}}, [passed], ["web"]).start()
    for _ in range(4):
        with Client(passed.getsockname()) as c:
            assert c.request().body == HELLO
    assert t.stop() == 0


def test_connections_that_waited_before_the_start_are_served(tined, passed):
    with Client(passed.getsockname()) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        adopts(tined, {"listener:web": {"address": "systemd:web"}}, [passed], ["web"]).start()
        assert c.response().body == HELLO


def test_not_one_connection_is_refused_across_a_restart(tined, passed):
    """The parent keeps the socket: who connects while nobody serves waits for the next one."""
    changes = {"listener:web": {"address": "systemd:web"}}
    assert adopts(tined, changes, [passed], ["web"]).start().stop() == 0
    with Client(passed.getsockname()) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        adopts(tined, changes, [passed], ["web"]).start()
        assert c.response().body == HELLO


def test_adopts_several(tined, passed, folder):
    with socket.create_server(("127.0.0.1", 0)) as more, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"{folder}/local.sock")
        local.listen()
        t = adopts(
            tined,
            {
                "listener:web": {"address": "systemd:web"},
                "listener:local": {"address": "systemd:local"},
                "module:local": {"path": "builtin:whoami", "listener": "local"},
            },
            [passed, local, more],
            ["web", "local", "web"],  # two sockets of one name: both serve
        ).start()
        for address in (passed.getsockname(), more.getsockname()):
            with Client(address) as c:
                assert c.request().body == HELLO
        with Client(f"{folder}/local.sock") as c:
            assert c.request().json()["generation"] == 1
        assert t.stop() == 0
        assert os.path.exists(f"{folder}/local.sock"), "it belongs to the parent"


def test_adopted_socket_survives_reloads(tined, passed):
    t = adopts(tined, {"listener:web": {"address": "systemd:web"}}, [passed], ["web"]).start()
    for generation in (2, 3):
        t.reload()
        with Client(passed.getsockname()) as c:
            assert c.request("/whoami").json()["generation"] == generation
    t.configure({"listener:web": {"address": "127.0.0.1:0"}})
    t.reload()
    t.hello()
    t.configure({"listener:web": {"address": "systemd:web"}})
    t.reload()
    with Client(passed.getsockname()) as c:
        assert c.request("/whoami").json()["generation"] == 5


def test_other_name_than_configured(tined, passed):
    t = adopts(tined, {"listener:web": {"address": "systemd:web"}}, [passed], ["other"])
    assert t.run() == 1
    assert "no socket of that name" in t.errors()[0] and "listener:web.address: systemd:web" in t.errors()[0]


def test_sockets_meant_for_another_process(tined, passed):
    """LISTEN_PID guards against an environment that was handed on."""
    t = tined(
        {"listener:web": {"address": "systemd:web"}},
        env={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "LISTEN_PID": "1"},
        before=lambda: os.dup2(passed.fileno(), 3),
        pass_fds=[3],
    )
    assert t.run() == 1
    assert "no socket of that name" in t.errors()[0]


def test_datagram_socket_is_ignored_with_a_warning(tined, passed):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        wrong.bind(("127.0.0.1", 0))
        t = adopts(tined, {"listener:web": {"address": "systemd:web"}}, [passed, wrong], ["web", "web"]).start()
        said = r"descriptor 4 \(web\) was passed to us and is no listening stream socket; ignoring it"
        assert t.find("warning tined: " + said)
        with Client(passed.getsockname()) as c:
            assert c.request().body == HELLO


def test_passed_sockets_that_nobody_configured(tined, passed):
    t = adopts(tined, {}, [passed], ["spare"]).start()
    t.hello()
    for pid in t.worker_pids():
        assert f"socket:[{os.fstat(passed.fileno()).st_ino}]" not in links(pid), "workers have only what they need"


def test_descriptors_of_the_parent_are_not_handed_on(start, folder):
    """Whatever the starter left open stays out of the workers."""
    with open(folder / "open-file", "w") as f:
        t = start(pass_fds=[f.fileno()])
        assert any("open-file" in link for link in links(t.pid))
        for pid in t.worker_pids():
            assert not any("open-file" in link for link in links(pid))
