"""The bus of several machines, joined by NATS: several daemons on loopback, and Debian's nats-server between them."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

import pytest

import harness
from harness import free_port, name, tool, wait_until
from test_25_tinectl import ctl
from test_30_bus import Worker, members
from test_32_hub import post

HERE = pathlib.Path(__file__).resolve().parent

pytestmark = [
    pytest.mark.skipif(not tool("nats-server"), reason="no nats-server here"),
    pytest.mark.skipif(not (pathlib.Path(harness.TINED).parent / "tined-nats.so").exists(), reason="built without NATS"),
]


class Server:
    """A nats-server with its own port, which it has again after a restart."""

    def __init__(self, folder, config=""):
        self.folder, self.port = folder, free_port()
        self.monitor = self.port + 1
        self.config = folder / "nats.conf"
        self.config.write_text(config)
        self.process = None

    def start(self):
        log = open(self.folder / "nats.log", "ab")
        self.process = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-m", str(self.monitor), "-c", str(self.config)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        log.close()
        wait_until(self.is_up, "nats-server answers")
        return self

    def is_up(self):
        try:
            return self.ask("healthz")
        except OSError:
            return False

    def ask(self, what):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/{what}", timeout=harness.DEADLINE) as answer:
            return json.loads(answer.read())

    def subscriptions(self):
        """Of each connection, the subjects it has subscribed to."""
        return [c.get("subscriptions_list", []) for c in self.ask("connz?subs=1")["connections"]]

    def wait_subscribed(self, subject, n):
        """Waits until there are so many subscriptions of the subject, groups included."""
        wait_until(lambda: sum(subs.count(subject) for subs in self.subscriptions()) == n,
                   f"{n} subscriptions of {subject}")

    def wait_connections(self, n):
        wait_until(lambda: self.ask("varz")["connections"] == n, f"{n} connections")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"


@pytest.fixture
def server(folder):
    made = []

    def make(config=""):
        made.append(Server(folder, config).start())
        return made[-1]

    yield make
    for s in made:
        s.close()


@pytest.fixture(scope="session")
def service(build_module):
    return build_module(HERE / "bus_module.c")


@pytest.fixture
def machines(start, service):
    """So many daemons that are joined by a server."""

    def make(server, n=3, count=2, bus=None, changes=None):
        sections = {"workers": {"count": count}, "admin": {"listen": "127.0.0.1:0"},
                    "bus": {"nats": server.url, **(bus or {})},
                    "module:bus": {"path": service, "listener": "web", "mount": "/bus"}, **(changes or {})}
        made = [start(sections) for _ in range(n)]
        for t in made:
            t.wait_log(r"nats: connected to")
        return made

    return make


def bridge(t):
    """The pid of the bridge process."""
    return wait_until(lambda: next((p.pid for p in t.family() if name(p.pid) == "tined-bridge"), None), "there is one")


def figures(t):
    """What /metrics says of NATS."""
    port = t.wait_log(r"listening on \S+:(\d+) \(admin\)")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=harness.DEADLINE) as answer:
        lines = answer.read().decode().splitlines()
    return {key[len("tined_nats_"):]: float(value) for key, value in
            (line.rsplit(" ", 1) for line in lines if line.startswith("tined_nats_"))}


def texts(worker, n):
    """The texts of n messages that have come, in order, and no more."""
    return [line.split(" ", 3)[3] for line in worker.got(n)]


def test_each_subscriber_of_all_machines_gets_it_once(server, machines):
    nats = server()
    everybody = [w for t in machines(nats) for w in members(t)]
    for i, w in enumerate(everybody):
        w.ask("subscribe", pattern="news.*")
        w.ask("subscribe", pattern="news.sports" if i % 2 else "news.>")  # overlaps: they are two subscribers
    for subject in "news.*", "news.>", "news.sports":
        nats.wait_subscribed(subject, 3)
    for i, w in enumerate(everybody):
        assert w.ask("send", subject="news.sports", data=f"message {i}") == "ok"
    for w in everybody:
        got = texts(w, 2 * len(everybody))
        assert sorted(got) == sorted(2 * [f"message {i}" for i in range(len(everybody))])


def test_order_and_numbers(server, machines):
    nats = server()
    (a, _), (b, _) = [members(t) for t in machines(nats, 2)]
    b.ask("subscribe", pattern="flood")
    nats.wait_subscribed("flood", 1)
    a.json("flood", subject="flood", n=20000, size=64)

    def all_there():
        found = list(b.json("numbers").values())
        return found and found[0]["n"] >= 20000 and found

    (found,) = wait_until(all_there, "20000 messages")
    assert (found["n"], found["disordered"], found["bad"]) == (20000, 0, 0)


def counts(workers, ordered=True):
    """How many numbered messages each has had; all of them whole."""
    found = [list(w.json("numbers").values()) for w in workers]
    assert not ordered or all(s["disordered"] == s["bad"] == 0 for senders in found for s in senders)
    return [sum(s["n"] for s in senders) for senders in found]


def test_a_queue_group_over_machines(server, machines):
    nats = server()
    a, b, c = [members(t) for t in machines(nats)]
    for w in (*b, *c):
        w.ask("subscribe", pattern="job.*", group="crew")
    c[0].ask("subscribe", pattern="job.>", group="crew")  # one more of the same, by another pattern
    nats.wait_subscribed("job.*", 2)
    nats.wait_subscribed("job.>", 1)
    a[0].json("flood", subject="job.x", n=3000)
    wait_until(lambda: sum(counts(b + c)) >= 3000, "every message has reached somebody")
    assert all(n > 100 for n in counts(b + c)), counts(b + c)
    # Where a member is on the machine itself, he has it.
    a[1].ask("subscribe", pattern="job.*", group="crew")
    a[1].ask("subscribe", pattern="job.*", group="others")
    b[0].ask("subscribe", pattern="job.*", group="others")
    c[0].ask("subscribe", pattern="end")
    nats.wait_subscribed("job.*", 5)
    nats.wait_subscribed("end", 1)
    before = counts(b + c)
    a[0].json("flood", subject="job.x", n=1000)
    a[0].ask("send", subject="end", data="end")
    c[0].got(1)
    wait_until(lambda: counts(a, ordered=False)[1] == 2000, "both groups' local member has all of them")
    assert counts(b + c) == before
    assert sum(before) == 3000


def test_one_group_of_several_others(server, machines):
    """A group that nobody has here gets it elsewhere, though another one has had it here."""
    nats = server()
    (a, b) = [members(t)[0] for t in machines(nats, 2, count=1)]
    a.ask("subscribe", pattern="job", group="here")
    b.ask("subscribe", pattern="job", group="here")
    b.ask("subscribe", pattern="job", group="there")
    b.ask("subscribe", pattern="job")
    nats.wait_subscribed("job", 4)
    for i in range(20):
        assert a.ask("send", subject="job", data=f"{i}") == "ok"
    assert texts(a, 20) == [f"{i}" for i in range(20)]
    assert texts(b, 40) == [f"{i}" for i in range(20) for _ in range(2)]


def test_the_server_is_killed_and_comes_back(server, machines):
    nats = server()
    daemons = machines(nats, 2, bus={"nats_buffer": "64K"})
    (a, a2), (b, _) = [members(t) for t in daemons]
    for w in (a2, b):
        w.ask("subscribe", pattern="x")
    nats.wait_subscribed("x", 2)
    marks = [t.mark() for t in daemons]
    nats.kill()
    for t, mark in zip(daemons, marks):
        t.wait_log(r"nats: .*; what is published waits", mark)
        wait_until(lambda: figures(t)["connected"] == 0, "that is known")
    # Far more than the buffer holds: local traffic goes on, the rest is counted.
    result = a.json("flood", subject="x", n=20000, size=100, done=1)
    assert (result["done"], result["failed"]) == (20000, 0)
    wait_until(lambda: counts([a2]) == [20000], "everything has reached the subscriber here")
    wait_until(lambda: sum(losses(daemons[0])) + figures(daemons[0])["sent_total"] == 20000, "all is accounted for")
    assert sum(losses(daemons[0])) > 10000
    marks = [t.mark() for t in daemons]
    nats.start()
    for t, mark in zip(daemons, marks):
        t.wait_log(r"nats: connected to", mark)
        wait_until(lambda: figures(t)["connected"] == figures(t)["reconnects_total"] == 1, "that is known")
    nats.wait_subscribed("x", 2)
    already = counts([b])[0]
    assert already <= 20000 - sum(losses(daemons[0]))
    n_after = []

    def goes_on():  # the buffer may be full of what waited
        assert a.ask("send", subject="x", data="after") == "ok"
        n_after.append(1)
        return "x 5 after" in b.ask("got")

    wait_until(goes_on, "remote traffic has resumed")
    wait_until(lambda: sum(losses(daemons[0])) + figures(daemons[0])["sent_total"] == 20000 + len(n_after), "all is accounted for")


def losses(t):
    return [value for key, value in figures(t).items() if key.startswith("dropped")]


def test_the_bridge_is_killed(server, machines):
    nats = server()
    daemons = machines(nats, 2, changes={"workers": {"count": 2, "backoff_min": "2s"}})
    (a, a2), (b, _) = [members(t) for t in daemons]
    for w in (a2, b):
        w.ask("subscribe", pattern="x")
    nats.wait_subscribed("x", 2)
    for victim in daemons:
        pid, mark = bridge(victim), victim.mark()
        os.kill(pid, signal.SIGKILL)
        victim.wait_log(r"bridge\[\d+\]: dead -> (starting|backoff)", mark)
        victim.wait_log(r"nats: connected to", mark)
        assert bridge(victim) != pid
        nats.wait_connections(2)  # the server has noticed the end of the old one
        nats.wait_subscribed("x", 2)
        assert a.ask("send", subject="x", data="on") == "ok"
        assert texts(a2, 1) == texts(b, 1) == ["on"]
    # The second time in a row it takes a while: what is published then stays here, and is counted.
    def waits_when_killed():
        mark = daemons[0].mark()
        os.kill(bridge(daemons[0]), signal.SIGKILL)
        return daemons[0].wait_log(r"bridge\[\d+\]: dead -> (starting|backoff)", mark)[1] == "backoff" and (mark,)

    (mark,) = wait_until(waits_when_killed, "it was killed twice in a row")
    result = a.json("flood", subject="x", n=1000, done=1)
    assert (result["done"], result["failed"]) == (1000, 0)
    wait_until(lambda: counts([a2]) == [1000], "it is here")
    daemons[0].wait_log(r"nats: connected to", mark)
    wait_until(lambda: sum(losses(daemons[0])) + counts([b])[0] == 1000, "all is accounted for")
    assert sum(losses(daemons[0])) > 0


def test_a_server_that_stands_still(server, machines):
    """Nothing waits for it: not the bus, not the bridge's loop. What it takes later has not been lost."""
    nats = server()
    daemons = machines(nats, 2, bus={"nats_buffer": "64M"},
                       changes={"workers": {"count": 2, "hang_timeout": "1s", "probation": "50ms"}})
    (a, a2), (b, _) = [members(t) for t in daemons]
    for w in (a2, b):
        w.ask("subscribe", pattern="x")
    nats.wait_subscribed("x", 2)
    pids = [bridge(t) for t in daemons]
    os.kill(nats.process.pid, signal.SIGSTOP)
    try:
        result = a.json("flood", subject="x", n=20000, size=1000, done=1)  # more than sockets hold
        assert (result["done"], result["failed"]) == (20000, 0)
        wait_until(lambda: counts([a2]) == [20000], "everything is here")
        # Long enough for a bridge that hangs to be found out: it answers, and is the same.
        time.sleep(1.5)
    finally:
        os.kill(nats.process.pid, signal.SIGCONT)
    nats.wait_subscribed("x", 2)
    n_after = []

    def goes_on():  # a connection may have been given up meanwhile, and come back
        assert a.ask("send", subject="x", data="after") == "ok"
        n_after.append(1)
        return "x 5 after" in b.ask("got")

    wait_until(goes_on, "remote traffic goes on")
    assert [bridge(t) for t in daemons] == pids
    assert not any(t.find(r"hung|does not answer") for t in daemons)
    wait_until(lambda: figures(daemons[0])["sent_total"] + sum(losses(daemons[0])) == 20000 + len(n_after),
               "all is accounted for")


def test_the_end(server, machines, tined):
    """What workers publish until they are gone goes out; nobody waits longer than for that."""
    nats = server()
    daemons = machines(nats, 2, changes={"workers": {"count": 1, "drain_timeout": "1h"}})
    a, b = [members(t)[0] for t in daemons]
    b.ask("subscribe", pattern="x")
    nats.wait_subscribed("x", 1)
    a.json("flood", subject="x", n=5000, size=64)
    assert daemons[0].stop() == 0
    wait_until(lambda: counts([b]) == [5000], "all has arrived")
    # The same where no worker ever was.
    t = tined({"workers": {"drain_timeout": "1h"}, "bus": {"nats": nats.url},
               "module:bad": {"path": "/nonexistent.so", "mount": "/bad"}})
    assert t.run() == 1


def test_nobody_is_far_away_when_the_server_is_not_there(folder, start, service):
    """It serves, and says that it will try again."""
    t = start({"bus": {"nats": f"nats://127.0.0.1:{free_port()}"}, "workers": {"count": 1},
               "module:bus": {"path": service, "listener": "web", "mount": "/bus"}})
    t.wait_log(r"nats: nats://127\.0\.0\.1:\d+: .*; what is published waits")
    w = Worker(t.connect())
    w.ask("subscribe", pattern="x")
    assert w.ask("send", subject="x", data="here") == "ok"
    assert texts(w, 1) == ["here"]


def test_requests_over_machines(server, machines):
    nats = server()
    a, b = [members(t)[0] for t in machines(nats, 2, count=1)]
    b.ask("subscribe", pattern="ask")
    nats.wait_subscribed("ask", 1)
    assert a.ask("request", subject="ask", data="you") == f"{b.slot} answers you"
    assert a.ask("request", subject="ask", size=100000) == ("abcdefghijklmnopqrstuvwxyz" * 4000)[:100000]
    assert a.ask("request", subject="ask", data="fail") == "error: access"
    assert a.ask("request", subject="ask", data="silent", ms=50) == "error: timeout"
    assert a.ask("request", subject="nobody.there", data="x") == "error: nobody"
    # Who is here may answer, too; that nobody is elsewhere is no answer then.
    a.ask("subscribe", pattern="local")
    assert a.ask("request", subject="local", data="me") == f"{a.slot} answers me"


def test_what_is_carried(server, machines):
    nats = server()
    daemons = machines(nats, 2, count=1, bus={"nats_subjects": "far.> both.*.x", "max_message": "16M"})
    a, b = [members(t)[0] for t in daemons]
    for pattern in ">", "far.*", "both.>", "near.>":
        b.ask("subscribe", pattern=pattern)
    nats.wait_subscribed("far.>", 1)
    nats.wait_subscribed("far.*", 1)
    nats.wait_subscribed("both.*.x", 2)
    assert not any("near" in s or s == ">" for subs in nats.subscriptions() for s in subs)
    assert a.ask("send", subject="near.a", data="1") == "nobody"
    assert a.ask("send", subject="both.a.y", data="2") == "nobody"
    assert a.ask("send", subject="far.a", data="3") == "ok"
    assert a.ask("send", subject="both.a.x", data="4") == "ok"
    assert sorted(texts(b, 4)) == ["3", "3", "4", "4"]
    # Large ones go as far as the server takes them: 1 MiB.
    assert a.ask("send", subject="far.large", size=900000) == "ok"
    assert [line.split(" ")[2] for line in b.got(2)] == ["900000"] * 2
    # What the server would take without the mark that is written on it is too much as well.
    for size in 2000000, 1 << 20:
        assert a.ask("send", subject="far.large", size=size) == "ok"
        daemons[0].wait_log(rf"nats: far\.large: a message of {size} bytes .*\(max_payload\)")
        time.sleep(1.1)  # it is said once a second
    wait_until(lambda: figures(daemons[0])['dropped_total{reason="too_large"}'] == 2, "they are counted")
    assert sum(losses(daemons[0])) == 2
    assert a.ask("send", subject="far.a", data="5") == "ok"
    assert texts(b, 2) == ["5", "5"]


def test_a_reload_doubles_nothing(server, machines):
    nats = server()
    daemons = machines(nats, 2, count=1)
    a, b = [members(t)[0] for t in daemons]
    for round in range(3):
        b.ask("numbers", clear=1)
        subject = f"x.{round}"
        b.ask("subscribe", pattern=subject)
        nats.wait_subscribed(subject, 1)
        first = bridge(daemons[1])
        a.start("flood", subject=subject, n=100000, size=16, done=1)
        daemons[0].signal(signal.SIGHUP)
        result = json.loads(a.done())
        assert result["done"] == 100000
        daemons[0].wait_log(r"reload: generation \d+ serves", count=round + 1)
        wait_until(lambda: len([p for p in daemons[0].family() if name(p.pid) == "tined-bridge"]) == 1,
                   "the old bridge is gone")
        assert bridge(daemons[1]) == first
        # What the old worker had published is nowhere twice, nothing overtook anything, and all is there.

        def accounted():
            return counts([b])[0] + sum(losses(daemons[0]) + losses(daemons[1]))

        try:
            wait_until(lambda: accounted() >= 100000, "everything")
        except AssertionError:
            print(counts([b]), [figures(t) for t in daemons])
            raise
        assert accounted() == 100000
        a = members(daemons[0])[0]
    daemons[0].configure({"bus": {"nats": None}})
    daemons[0].reload()
    wait_until(lambda: not [p for p in daemons[0].family() if name(p.pid) == "tined-bridge"], "no bridge is left")
    a = members(daemons[0])[0]
    assert a.ask("send", subject="x", data="1") == "nobody"


def test_what_is_local_stays_here(server, machines):
    """The hub's bell among it, which would ring all hubs of all machines for nothing."""
    hub = {"path": "builtin:hub", "listener": "web", "mount": "/hub"}
    nats = server()
    daemons = machines(nats, 2, changes={"module:hub": hub})
    (a, a2), (b, _) = [members(t) for t in daemons]
    for w in (a, a2, b):
        w.ask("subscribe", pattern="$local.>")
    for w in (a, b):
        w.ask("subscribe", pattern="x")
    nats.wait_subscribed("x", 2)
    assert a.ask("send", subject="$local.x", data="here") == "ok"
    assert post(daemons[0].address(), "/hub/chat", "message").status == 200
    wait_until(lambda: any("$local.hub.hub" in line for w in (a, a2) for line in w.ask("got").splitlines()), "the bell")
    assert a.ask("send", subject="x", data="everywhere") == "ok"
    assert texts(b, 1) == ["everywhere"]
    wait_until(lambda: figures(daemons[0])["sent_total"] >= 1, "it is counted")
    assert figures(daemons[0])["sent_total"] == 1
    assert "$" not in str(nats.subscriptions())


def having_libnats(t):
    """The numbers of the processes that have loaded it; one of them may end while we look."""
    pids = set()
    for process in t.family():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "libnats" in pathlib.Path(f"/proc/{process.pid}/maps").read_text():
                pids.add(process.pid)
    return pids


def test_the_bridge_alone_has_the_library(server, machines):
    (t,) = machines(server(), 1)
    assert having_libnats(t) == {bridge(t)}
    t.configure({"bus": {"nats": None}})
    t.reload()
    wait_until(lambda: not having_libnats(t), "nobody has it without the option")


class Impostor:
    """Something that listens, and is no NATS server."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                with self.sock.accept()[0] as c:
                    c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        except OSError:
            pass  # closed


def test_why_a_server_cannot_be_reached(start):
    """The reason is in the log, once, whatever it is; and the next one, when it is another."""
    impostor, port = Impostor(), free_port()
    for url, shown, why, then in (
            (f"nats://127.0.0.1:{port}", f"nats://127.0.0.1:{port}", "^no NATS server answers there$", "waits"),
            (f"nats://me:secret@127.0.0.1:{impostor.port}", f"nats://127.0.0.1:{impostor.port}",
             "got 'HTTP/1.1' instead of 'INFO'$", "stays on this machine"),
            ("nats://no.such.host.invalid:4222", "nats://no.such.host.invalid:4222", "Name or service not known|name resolution",
             "waits")):
        t = start({"bus": {"nats": url}, "workers": {"count": 1}})
        found = t.wait_log(rf"nats: {re.escape(shown)}: (.*); (?:trying again, and )?what is published {then}")
        assert re.search(why, found[1], re.I), found[0]
        time.sleep(1)
        assert len([line for line in t.log() if "what is published" in line]) == 1, t.tail()
        assert not t.find("secret")
        assert t.stop() == 0
    impostor.sock.close()


# --- credentials, TLS ---


@pytest.fixture(scope="session")
def certificates():
    """An authority, and what it has signed: a server's certificate for localhost, a client's."""
    with tempfile.TemporaryDirectory(prefix="tined-tls-") as path:
        os.chmod(path, 0o755)

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=path, check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test")
        for who in "server", "client":
            pathlib.Path(path, "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            openssl("req", *new, "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}")
            openssl("x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                    "-out", f"{who}.pem", "-days", "2", "-extfile", "ext")
        openssl("req", "-x509", *new, "-keyout", "other.key", "-out", "other.pem", "-days", "2", "-subj", "/CN=other")
        for file in pathlib.Path(path).iterdir():
            if os.geteuid() == 0:
                shutil.chown(file, harness.NOBODY)
            file.chmod(0o640)
        yield pathlib.Path(path)


def test_tls_with_a_certificate_of_our_own(server, machines, certificates):
    tls = certificates
    nats = server(f'tls {{ cert_file: "{tls}/server.pem", key_file: "{tls}/server.key", '
                  f'ca_file: "{tls}/ca.pem", verify: true }}')
    bus = {"nats": f"tls://localhost:{nats.port}", "nats_tls_ca": tls / "ca.pem",
           "nats_tls_cert": tls / "client.pem", "nats_tls_key": tls / "client.key"}
    a, b = [members(t)[0] for t in machines(nats, 2, count=1, bus=bus)]
    b.ask("subscribe", pattern="x")
    nats.wait_subscribed("x", 1)
    assert a.ask("send", subject="x", data="secret") == "ok"
    assert texts(b, 1) == ["secret"]


def test_a_server_that_nobody_vouches_for(server, start, certificates):
    tls = certificates
    nats = server(f'tls {{ cert_file: "{tls}/server.pem", key_file: "{tls}/server.key" }}')
    t = start({"bus": {"nats": f"tls://localhost:{nats.port}", "nats_tls_ca": tls / "other.pem"}})
    t.wait_log(r"warning bridge\[\d+\]: nats: tls://localhost:\d+: .*certificate.*; trying again, and what is")
    t.hello()
    nats.wait_connections(0)  # it tries again now and then
    assert not t.find("nats: connected to")


def test_a_user_and_a_password(server, machines, start):
    nats = server('authorization { user: "tined", password: "secret" }')
    daemons = machines(nats, 2, count=1, bus={"nats": f"nats://tined:secret@127.0.0.1:{nats.port}"})
    assert all(t.find(rf"nats: connected to nats://127\.0\.0\.1:{nats.port}$") for t in daemons)
    assert not any(t.find("secret") for t in daemons)
    a, b = [members(t)[0] for t in daemons]
    b.ask("subscribe", pattern="x")
    nats.wait_subscribed("x", 1)
    assert a.ask("send", subject="x", data="hello") == "ok"
    assert texts(b, 1) == ["hello"]
    # Another one is refused, goes on asking, and serves.
    t = start({"bus": {"nats": f"nats://tined:wrong@127.0.0.1:{nats.port}"}})
    t.wait_log(rf"nats: nats://127\.0\.0\.1:{nats.port}: Authorization Violation; trying again, and what is")
    t.hello()
    assert not t.find("wrong") and not t.find(r"nats: .*; going on")
    assert not t.find(r"bridge\[\d+\]: .*dead")


def test_gone_while_the_server_refuses_us(server, machines):
    """What is given up between the end of a connection and the next attempt leaves nothing behind: leaks are looked for at the end."""
    nats = server('authorization { user: "tined", password: "secret" }')
    (t,) = machines(nats, 1, count=1, bus={"nats": f"nats://tined:secret@127.0.0.1:{nats.port}"})
    (a,) = members(t)
    for i in range(150):
        a.ask("subscribe", pattern=f"x{i}")
    nats.wait_subscribed("x149", 1)
    nats.config.write_text('authorization { user: "tined", password: "another" }')
    nats.process.send_signal(signal.SIGHUP)
    for i in range(150):  # over more than the second between two attempts
        a.ask("unsubscribe", n=i)
        time.sleep(0.02)
    t.wait_log(r"nats: .*; trying again, and what is")


@pytest.mark.parametrize("config, user", [('user: "tined", password: "pw/77:@x"', "tined:pw/77:@x"),
                                          ('token: "pw/77"', "pw/77")])
def test_passwords_are_not_shown(server, start, config, user):
    nats = server(f"authorization {{ {config} }}")
    t = start({"bus": {"nats": f"nats://{user}@127.0.0.1:{nats.port}, nats://{user}@localhost:{nats.port}"}})
    t.wait_log(rf"info bridge\[\d+\]: nats: connected to nats://(127\.0\.0\.1|localhost):{nats.port}$")
    shown = f"nats://127.0.0.1:{nats.port}, nats://localhost:{nats.port}"
    assert f"\nnats = {shown}\n" in ctl(t, "config").stdout
    mark = t.mark()
    nats.kill()
    t.wait_log(rf"nats: {shown}: .*; what is published waits", mark)
    assert not t.find("pw/77") and not t.find("tined:pw")


def test_files_that_are_wrong(tined, folder, certificates):
    tls = certificates
    key = folder / "key"
    key.write_text("no key")
    key.chmod(0o644)
    t = tined({"bus": {"nats": "nats://127.0.0.1:1", "nats_tls_key": key, "nats_tls_ca": folder / "missing"}})
    assert t.run() == 1
    where = t.path
    assert [line for line in t.log() if "bus." in line] == [
        f"{where}:{t.line_of('nats_tls_key')}: bus.nats_tls_key: {key}: everybody may read it; chmod o-r it",
        f"{where}:{t.line_of('nats_tls_key')}: bus.nats_tls_key: of no use without nats_tls_cert; write both",
        f"{where}:{t.line_of('nats_tls_ca')}: bus.nats_tls_ca: {folder}/missing: No such file or directory",
    ]
    # Whether they are what they are for shows without a start.
    key.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(key, harness.NOBODY)
    for name, why, more in (("nats_tls_ca", "no certificate (PEM) in it", {}),
                            ("nats_tls_cert", "no certificate (PEM) in it", {"nats_tls_key": tls / "client.key"}),
                            ("nats_tls_key", "no private key (PEM) in it", {"nats_tls_cert": tls / "client.pem"}),
                            ("nats_credentials", "no credentials of a NATS user, which have a JWT and a seed", {})):
        t = tined({"bus": {"nats": "nats://127.0.0.1:1", name: key, **more}})
        check = subprocess.run([harness.TINED, "--check", "-c", t.path], capture_output=True, text=True,
                               timeout=harness.DEADLINE)
        assert check.returncode == 1
        assert f"{t.path}:{t.line_of(name)}: bus.{name}: {key}: {why}" in check.stderr.splitlines(), check
    # What only shows when they are used is the bridge's word.
    broken = folder / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    broken.chmod(0o644)
    for changes, words in (({"nats_tls_key": tls / "other.key", "nats_tls_cert": tls / "client.pem"},
                            r"bus\.nats_tls_cert: .*/client\.pem: [^(]"),
                           ({"nats_tls_ca": broken}, r"bus\.nats_tls_ca: .*/broken\.pem: [^(]")):
        t = tined({"bus": {"nats": "nats://127.0.0.1:1", **changes}})
        assert t.run() == 1
        assert t.find(words), t.tail()


def test_a_reload_to_what_cannot_be_read(start, folder):
    t = start({"bus": {"nats": None}})
    file = folder / "credentials"
    file.write_text("nothing")
    file.chmod(0o640)
    if os.geteuid() == 0:
        shutil.chown(file, harness.NOBODY)
    t.configure({"bus": {"nats": "nats://127.0.0.1:1", "nats_credentials": file}})
    errors = t.reload_fails()
    assert any("no credentials of a NATS user" in e for e in errors), errors
    t.hello()
