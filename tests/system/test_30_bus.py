"""Messages between workers: tine/bus.h through the real daemon, driven over HTTP by bus_module.c."""

import json
import os
import pathlib
import re
import signal
import struct
import urllib.parse

import pytest

from harness import alive, n_descriptors, no_descriptors, wait_until

HERE = pathlib.Path(__file__).resolve().parent
ALL, OTHERS, ANY = 2**32 - 1, 2**32 - 2, 2**32 - 3
REFUSE, DROP_OLDEST, DROP_NEWEST, DISCONNECT = range(4)
FRAME = struct.Struct("=IHHIIQ")  # length, type, flags, src, dst, id
SEND, PUBLISH, ANSWER, SUBSCRIBE, UNSUBSCRIBE, COUNT, SYNC, ACK = range(17, 25)


class Worker:
    """One worker, and a connection to it."""

    def __init__(self, client):
        self.client = client
        about = self.json("self")
        self.peer, self.slot, self.pid = about["peer"], about["slot"], about["pid"]

    def start(self, what, body=b"", **query):
        """Asks for something, and does not wait for the answer: done() does."""
        path = f"/bus/{what}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"
        self.client.send(
            f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def done(self):
        response = self.client.response()
        assert response.status == 200, response
        return response.body

    def bytes(self, what, body=b"", **query):
        """What it answers; a send that finds no room is tried again."""

        def not_full():
            self.start(what, body, **query)
            answer.append(self.done())
            return answer[-1] != b"full"

        answer = []
        wait_until(not_full, f"room for {what}")
        return answer[-1]

    def ask(self, what, body=b"", **query):
        return self.bytes(what, body, **query).decode()

    def json(self, what, **query):
        return json.loads(self.bytes(what, **query))

    def got(self, n):
        """Waits for n lines of what came, and no more."""
        lines = []

        def all_there():
            lines.extend(self.ask("got").splitlines())
            return len(lines) >= n

        wait_until(all_there, f"{n} messages; there are {lines}")
        assert len(lines) == n, lines
        return lines

    def numbers(self, sender, n):
        """Waits for n numbered messages of a sender; all must be in order and whole."""

        def all_there():
            found = self.json("numbers").get(str(sender.peer))
            return found if found and found["n"] >= n else None

        found = wait_until(all_there, f"{n} numbered messages; {self.json('numbers')}")
        assert (found["n"], found["disordered"], found["bad"]) == (n, 0, 0), found
        return found


@pytest.fixture(scope="session")
def service(build_module):
    return build_module(HERE / "bus_module.c")


@pytest.fixture
def bus(start, service):
    """A daemon with the module; bus.workers(n) gives its workers."""

    def make(n=2, changes=None):
        sections = {"workers": {"count": n}, "module:bus": {"path": service, "listener": "web", "mount": "/bus"}}
        for name, keys in (changes or {}).items():
            sections[name] = {**sections.get(name, {}), **keys}
        return start(sections)

    return make


def workers(t, n=None):
    """A connection to each of the workers that serve."""
    found = {}

    def every():
        w = Worker(t.connect())
        if found.setdefault(w.pid, w) is not w:
            w.client.close()
        return set(found) >= set(t.serving_pids()) and (n is None or len(found) == n)

    wait_until(every, f"a connection to each worker: {sorted(found)} of {t.serving_pids()}")
    return [found[pid] for pid in sorted(found)]


def wait_alone(t):
    """Waits until each worker has one connection: those by which they were found are closed."""
    wait_until(lambda: all(w["connections"] == 1 for w in t.scoreboard().values()), "one connection each")


def members(t):
    """A connection to each of the workers that are configured, beside other processes with listening sockets."""
    found = {}

    def every():
        w = Worker(t.connect())
        if found.setdefault(w.pid, w) is not w:
            w.client.close()
        return len(found) == t.sections["workers"]["count"]

    wait_until(every, "a connection to each worker")
    return [found[pid] for pid in sorted(found)]


def test_a_message_reaches_the_other_worker(bus):
    a, b = workers(bus())
    assert a.ask("send", to=b.peer, data="hello") == "ok"
    assert b.got(1) == [f"{a.peer} - 5 hello"]
    assert b.ask("send", to=a.peer, data="and back") == "ok"
    assert a.got(1) == [f"{b.peer} - 8 and back"]
    assert a.ask("send", to=a.peer, data="to myself") == "ok"
    assert a.got(1) == [f"{a.peer} - 9 to myself"]


def test_all_others_any(bus):
    a, b, c = workers(bus(3))
    assert a.ask("send", to=OTHERS, data="others") == "ok"
    assert [w.got(1) for w in (b, c)] == [[f"{a.peer} - 6 others"]] * 2
    assert a.ask("send", to=ALL, data="all") == "ok"
    assert [w.got(1) for w in (a, b, c)] == [[f"{a.peer} - 3 all"]] * 3
    for _ in range(20):
        assert a.ask("send", to=ANY, data="any") == "ok"
    assert [w.got(10) for w in (b, c)] == [[f"{a.peer} - 3 any"] * 10] * 2
    assert a.ask("got") == ""


def test_errors_have_names(bus):
    (a,) = workers(bus(1, {"bus": {"max_message": "64K"}}))
    assert a.ask("send", to=4000, data="x") == "gone"
    assert a.ask("send", to=a.peer + (1 << 12), data="x") == "gone"  # the next one in its slot
    assert a.ask("send", to=ANY, data="x") == "nobody"
    assert a.ask("send", to=OTHERS, data="x") == "nobody"
    assert a.ask("send", subject="nobody.listens", data="x") == "nobody"
    assert a.ask("send", to=a.peer, size=64 * 1024 + 1) == "too large"
    assert a.ask("send", subject="wild.*", data="x") == "invalid"
    assert a.ask("send", subject="$tine.peer.join", data="x") == "invalid"
    assert a.ask("send", subject="$locals.x", data="x") == "invalid"
    assert a.ask("send", subject="$local.x", data="x") == "nobody"
    assert a.ask("request", to=a.peer, data="silent", ms=20) == "error: timeout"
    assert a.ask("request", to=a.peer, data="fail") == "error: access"
    assert a.ask("request", to=4000, data="x", ms=20000) == "error: gone"


def test_order_and_backpressure_lose_nothing(bus):
    a, b = workers(bus())
    answer = a.json("flood", to=b.peer, n=300000, size=64, done=1)
    assert (answer["done"], answer["failed"]) == (300000, 0)
    b.numbers(a, 300000)


def test_large_payloads(bus):
    a, b = workers(bus())
    for size in (65535, 65536, 65537, 3 << 20):
        assert a.ask("send", to=b.peer, size=size) == "ok"
        (line,) = b.got(1)
        assert line == f"{a.peer} - {size} {'abcdefghijklmnopqrstuvwxyz' * 4}"[: len(line)]
    assert len(a.bytes("request", to=b.peer, size=1 << 20)) == 1 << 20  # the same bytes come back
    answer = a.json("flood", to=b.peer, n=200, size=300000, done=1)
    assert (answer["done"], answer["failed"]) == (200, 0)
    b.numbers(a, 200)


def test_requests(bus):
    a, b = workers(bus())
    assert a.ask("request", to=b.peer, data="ping") == f"{b.slot} answers ping"
    assert a.ask("request", to=ANY, data="ping") == f"{b.slot} answers ping"
    b.ask("subscribe", pattern="ask.*")
    wait_until(lambda: a.ask("count", subject="ask.me") == "1", "the subscription")
    assert a.ask("request", subject="ask.me", data="ping") == f"{b.slot} answers ping"


def test_a_descriptor_is_handed_over(bus):
    a, b = workers(bus())
    assert a.ask("hand", to=b.peer) == f"slot {b.slot}"


def test_publish_and_subscribe(bus):
    a, b, c = workers(bus(3))
    patterns = {a: "chat.>", b: "chat.*", c: "chat.room.7"}
    for w, pattern in patterns.items():
        w.ask("subscribe", pattern=pattern)
    wait_until(lambda: a.ask("count", subject="chat.room") == "2", "both subscriptions")
    assert a.ask("send", subject="chat.room", data="x") == "ok"
    assert a.got(1) == b.got(1) == [f"{a.peer} chat.room 1 x"]
    wait_until(lambda: b.ask("count", subject="chat.room.7") == "2", "the third, too")
    assert b.ask("send", subject="chat.room.7", data="yy") == "ok"
    assert a.got(1) == c.got(1) == [f"{b.peer} chat.room.7 2 yy"]
    assert a.ask("send", subject="chat", data="x") == "nobody"
    a.ask("unsubscribe", n=0)
    assert a.ask("send", subject="chat.room.7", data="z") == "ok"
    assert c.got(1) == [f"{a.peer} chat.room.7 1 z"]
    assert a.ask("got") == b.ask("got") == ""


def test_large_payloads_and_descriptors_are_published_too(bus):
    a, b, c = workers(bus(3))
    for w in (b, c):
        w.ask("subscribe", pattern="big.*")
    wait_until(lambda: a.ask("count", subject="big.one") == "2", "both")
    assert a.ask("send", subject="big.one", size=1 << 20) == "ok"
    for w in (b, c):
        (line,) = w.got(1)
        assert line.startswith(f"{a.peer} big.one {1 << 20} abcdefgh")
    answer = a.json("flood", subject="big.many", n=100, size=200000, done=1)
    assert (answer["done"], answer["failed"]) == (100, 0)
    for w in (b, c):
        w.numbers(a, 100)
    c.ask("unsubscribe", n=0)
    wait_until(lambda: a.ask("count", subject="big.one") == "1", "one is left")
    assert a.ask("hand", subject="big.pipe") == f"slot {b.slot}"


def test_descriptors_do_not_pile_up(bus):
    t = bus()
    a, b = workers(t)
    wait_alone(t)
    assert a.ask("hand", to=b.peer) == f"slot {b.slot}"
    before = [n_descriptors(pid) for pid in (t.pid, a.pid, b.pid)]
    for _ in range(20):
        assert a.ask("hand", to=b.peer) == f"slot {b.slot}"
        assert a.ask("send", to=b.peer, size=100000) == "ok"
    b.got(41)
    wait_until(lambda: [n_descriptors(pid) for pid in (t.pid, a.pid, b.pid)] == before, "all are closed")


def test_a_receiver_without_room_for_a_descriptor(bus):
    """What is large, or has one with it, is lost, and that is said; all else goes on."""
    t = bus()
    a, b = workers(t)
    b.ask("subscribe", pattern="all.>")
    b.ask("subscribe", pattern="group.>", group="crew")
    wait_until(lambda: a.ask("count", subject="group.x") == a.ask("count", subject="all.x") == "1", "both subscriptions")
    with no_descriptors(b.pid):
        for target in {"to": b.peer}, {"subject": "all.x"}:
            assert a.ask("send", size=100000, **target) == "ok"  # it is in the queue
            assert a.ask("hand", **target) == ""  # the receiver has not written anything, and has closed it
        assert a.ask("request", to=b.peer, size=100000, ms=20000) == "error: quota"
        assert a.ask("request", subject="group.x", size=100000, ms=20000) == "error: quota"
        assert a.ask("request", subject="all.x", size=100000, ms=20) == "error: timeout"  # another one might answer
        assert a.ask("send", to=b.peer, data="small") == "ok"
        assert b.got(1) == [f"{a.peer} - 5 small"]
    t.wait_log(r"bus: cannot take a message: too many descriptors are in use; dropping it \(1 so far\)")
    assert sum("cannot take a message" in line for line in t.log()) == 1
    assert a.ask("hand", to=b.peer) == f"slot {b.slot}"
    assert len(a.bytes("request", to=b.peer, size=100000)) == 100000
    assert sorted(t.worker_pids()) == [a.pid, b.pid]


def test_an_answer_without_room_for_its_descriptor(bus):
    t = bus()
    a, b = workers(t)
    wait_alone(t)
    os.kill(b.pid, signal.SIGSTOP)
    before = n_descriptors(a.pid)
    a.start("request", to=b.peer, size=100000, ms=20000)
    wait_until(lambda: next(r for r in t.control("bus") if r.get("pid") == a.pid)["sent"] == 1, "it is sent")
    with no_descriptors(a.pid):
        os.kill(b.pid, signal.SIGCONT)
        assert a.done() == b"error: quota"
    assert len(a.bytes("request", to=b.peer, size=100000)) == 100000
    wait_until(lambda: n_descriptors(a.pid) == before, "none is left open")


def test_a_primary_without_room_for_a_descriptor(bus):
    """Its sender is told, and is no offender."""
    t = bus()
    a, b = workers(t)
    b.ask("subscribe", pattern="all.>")
    wait_until(lambda: a.ask("count", subject="all.x") == "1", "the subscription")
    with no_descriptors(t.pid):
        for target in {"to": b.peer}, {"to": OTHERS}, {"subject": "all.x"}:
            assert a.ask("send", size=100000, **target) == "quota"
            assert a.ask("hand", **target) == "quota"
        assert a.ask("request", to=b.peer, size=100000, ms=20000) == "error: quota"
        assert a.ask("send", to=b.peer, data="small") == "ok"
        assert b.got(1) == [f"{a.peer} - 5 small"]
    assert a.ask("hand", to=b.peer) == f"slot {b.slot}"
    assert sorted(t.worker_pids()) == [a.pid, b.pid]


def test_queue_group_gets_each_message_once(bus):
    ws = workers(bus(3))
    for w in ws:
        w.ask("subscribe", pattern="work.>", group="crew")
        w.ask("subscribe", pattern="seen.>")
    wait_until(lambda: ws[0].ask("count", subject="work.x") == "3", "all three")
    for i in range(30):
        assert ws[0].ask("send", subject="work.item", data=i) == "ok"
    lines = []
    wait_until(lambda: lines.extend(sum((w.ask("got").splitlines() for w in ws), [])) or len(lines) >= 30, "30 messages")
    assert sorted(int(line.split()[-1]) for line in lines) == list(range(30))


def test_peers_come_and_go(bus):
    t = bus()
    a, b = workers(t)
    a.ask("subscribe", pattern="$tine.peer.*")
    wait_until(lambda: a.ask("count", subject="$tine.peer.join") == "1", "the subscription")
    assert sorted(p["peer"] for p in a.json("peers")) == sorted((a.peer, b.peer))
    os.kill(b.pid, signal.SIGKILL)
    left, joined = a.got(2)
    assert left.startswith("0 $tine.peer.leave 16") and joined.startswith("0 $tine.peer.join 16")
    assert a.ask("send", to=b.peer, data="x") == "gone"
    (new,) = {p["peer"] for p in a.json("peers")} - {a.peer}
    assert (new & 0xFFF, new >> 12) == (b.peer & 0xFFF, (b.peer >> 12) + 1)
    assert a.ask("send", to=new, data="x") == "ok"


def test_both_generations_are_on_the_bus(bus):
    t = bus(1, {"workers": {"drain_timeout": "20s"}})
    (old,) = workers(t)
    old.ask("subscribe", pattern="news")
    hung = t.connect()
    hung.send(b"POST /bus/self HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")  # keeps the old one
    t.reload()
    (new,) = workers(t, 1)
    assert new.pid != old.pid
    assert sorted(p["generation"] for p in new.json("peers")) == [1, 2]
    assert new.ask("send", subject="news", data="from the new one") == "ok"
    assert new.ask("request", to=old.peer, data="there?") == f"{old.slot} answers there?"
    hung.close()


def test_a_reload_loses_no_message_of_a_queue_group(bus):
    """One publishes for the group, whose members are all exchanged meanwhile, twice."""
    n = 400000
    t = bus(2, {"workers": {"drain_timeout": "60s"}, "module:bus": {"work": "work.*"}})
    a, b = workers(t)
    a.start("flood", subject="work.item", n=n, size=64, done=1)
    for _ in range(2):
        t.reload()
    answer = json.loads(a.done())
    assert (answer["done"], answer["failed"]) == (n, 0), answer
    t.stop()
    got = [int(m[1]) for m in t.find(r"got (\d+) numbered messages")]
    assert len(got) == 6 and sum(got) == n and sum(x > 0 for x in got) > 2, got


def test_death_of_the_sender_leaves_what_it_sent(bus):
    t = bus()
    a, b = workers(t)
    a.ask("flood", to=b.peer, n=1000, size=64, done=1)
    os.kill(a.pid, signal.SIGKILL)
    b.numbers(a, 1000)
    wait_until(lambda: len(b.json("peers")) == 2, "the successor")


def test_who_waits_for_an_answer_of_the_dead_is_told(bus):
    a, b = workers(bus())
    a.start("request", to=b.peer, data="silent", ms=60000)
    b.got(1)
    os.kill(b.pid, signal.SIGKILL)
    assert a.done() == b"error: gone"


def test_answers_of_those_who_were_not_asked_count_for_nothing(bus):
    a, b, c = workers(bus(3))
    for _ in range(3):
        assert a.ask("request", to=b.peer, data="hello") == f"{b.slot} answers hello"
    a.start("request", to=b.peer, data="silent", ms=1500)
    wait_until(lambda: "silent" in b.ask("got"), "b has had it")
    guesses = [use << 16 | index for use in range(1, 64) for index in range(4)]
    c.ask("raw", b"".join(frame(c.peer, ANSWER, b"forged", dst=a.peer, number=n) for n in guesses))
    assert a.done() == b"error: timeout"


def test_death_of_the_receiver(bus):
    t = bus()
    a, b = workers(t)
    b.start("sleep", ms=60000)
    t.wait_log(r"goes to sleep")  # it accepts nobody from here on
    a.start("flood", to=b.peer, n=1000000, size=64, done=1)
    t2 = Worker(t.connect())
    while t2.pid != a.pid:
        t2 = Worker(t.connect())
    os.kill(b.pid, signal.SIGKILL)
    answer = json.loads(a.done())
    assert answer["done"] + answer["failed"] == 1000000 and answer["failed"] > 0
    assert answer["error"] == "gone"


def test_death_of_the_primary(bus):
    t = bus()
    a, b = workers(t)
    a.start("request", to=b.peer, data="silent", ms=60000)
    b.got(1)
    t.expected_status = -signal.SIGKILL
    t.signal(signal.SIGKILL)
    assert a.done() == b"error: closed"


def test_a_stuck_receiver_harms_nobody_else(bus):
    t = bus(4, {"bus": {"queue_high": "1M", "queue_low": "256K"}})
    a, b, c, stuck = workers(t)
    stuck.start("sleep", ms=3000)
    t.wait_log(r"goes to sleep")
    a.start("flood", to=stuck.peer, n=200000, size=64, done=1)
    answer = b.json("flood", to=c.peer, n=100000, size=64, done=1)
    assert (answer["done"], answer["failed"]) == (100000, 0)
    c.numbers(b, 100000)
    stuck.done()
    answer = json.loads(a.done())
    assert answer["full"] > 0 and (answer["done"], answer["failed"]) == (200000, 0)
    stuck.numbers(a, 200000)


@pytest.mark.parametrize("policy", [REFUSE, DROP_OLDEST, DROP_NEWEST, DISCONNECT])
def test_policies_of_slow_subscribers(bus, policy):
    t = bus(3, {"bus": {"queue_high": "64K", "queue_low": "16K"}})
    a, b, slow = workers(t)
    slow.ask("subscribe", pattern="ticks", policy=policy)
    b.ask("subscribe", pattern="ticks", policy=REFUSE)
    wait_until(lambda: a.ask("count", subject="ticks") == "2", "both")
    slow.start("sleep", ms=1500)
    t.wait_log(r"goes to sleep")
    n = 100000
    answer = a.json("flood", subject="ticks", n=n, size=64, done=1)
    assert (answer["done"], answer["failed"]) == (n, 0)
    b.numbers(a, n)
    slow.done()
    if policy == REFUSE:
        slow.numbers(a, n)
        return
    if policy == DISCONNECT:
        assert slow.got(1) == ["end ticks full"]
        assert a.ask("count", subject="ticks") == "1"
    wait_until(lambda: str(a.peer) in slow.json("numbers"), "what was not dropped")
    found = slow.json("numbers")[str(a.peer)]
    assert 0 < found["n"] < n and found["disordered"] == found["bad"] == 0
    if policy == DROP_OLDEST:
        wait_until(lambda: slow.json("numbers")[str(a.peer)]["last"] == n - 1, "the last one was kept")


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def test_a_sender_that_does_not_wait_fills_only_the_bound(bus):
    """It writes 100 MiB for a receiver that does not read, whatever it is told, and takes its answers."""
    t = bus(4, {"bus": {"queue_high": "1M", "queue_low": "256K"}, "http": {"max_body": "2M"}})
    bad, deaf, a, b = workers(t)
    assert deaf.ask("deaf") == "deaf"
    assert a.ask("send", to=b.peer, data="warm") == "ok"
    before = rss(t.pid)
    lump = frame(bad.peer, SEND, bytes(1000), dst=deaf.peer) * 1000
    bad.start("raw", lump, repeat=100)
    answer = a.json("flood", to=b.peer, n=100000, size=64, done=1)
    assert (answer["done"], answer["failed"]) == (100000, 0)
    b.numbers(a, 100000)
    assert bad.done() == b"written"
    assert rss(t.pid) - before < 32 << 20  # the address sanitizer keeps what was freed
    assert not t.find(r"no answer|broke")
    assert alive(deaf.pid) and alive(bad.pid)


def test_messages_that_take_long_leave_time_for_clients(bus):
    a, b = workers(bus())
    b.ask("slow", us=1000)
    assert a.json("flood", to=b.peer, n=10000, size=64, done=1)["done"] == 10000
    first = wait_until(lambda: b.json("numbers").get(str(a.peer)), "some of them")
    assert 0 < first["n"] < 10000
    b.ask("slow", us=0)
    b.numbers(a, 10000)


def test_other_modules_get_their_own(bus, service):
    """Messages go to the module of the same name; one that has no service there is said to be nobody."""
    t = bus(2, {"module:more": {"path": service, "listener": "web", "mount": "/more"}})
    a, b = workers(t)
    assert a.ask("send", to=b.peer, data="to bus") == "ok"
    assert b.got(1) == [f"{a.peer} - 6 to bus"]
    assert b.client.request("/more/got").body == b""
    assert b.client.request(f"/more/send?to={a.peer}&data=to-more").body == b"ok"
    wait_until(lambda: a.client.request("/more/got").body.decode() == f"{b.peer} - 7 to-more\n", "the other module's")
    assert a.ask("got") == ""


def test_subscriptions_have_a_limit(bus):
    (a,) = workers(bus(1, {"bus": {"subscriptions": 100}}))
    assert a.ask("subscribe", pattern="x", repeat=101) == "quota"
    assert a.ask("count", subject="x") == "100"


def frame(src, type_, payload=b"", flags=0, dst=0, number=0, length=None):
    length = len(payload) if length is None else length
    return FRAME.pack(length, type_, flags, src, dst, number) + payload + bytes(-len(payload) % 8)


OFFENCES = {
    "garbage": (lambda w: b"\xff" * 64, 0, "unknown message number"),
    "huge length": (lambda w: frame(w.peer, SEND, length=2**32 - 1), 0, "wrong payload length"),
    "wrong sender": (lambda w: frame(w.peer + 1, SEND, b"x", dst=w.peer), 0, "wrong sender"),
    "only for the primary": (lambda w: frame(w.peer, ACK, bytes(16)), 0, "message its sender may not send"),
    "control message": (lambda w: frame(w.peer, 1), 0, "message on the wrong lane"),
    "answer to all": (lambda w: frame(w.peer, ANSWER, b"x", dst=ALL), 0, "answer to more than one"),
    "flags": (lambda w: frame(w.peer, SYNC, flags=1), 0, "undefined flags"),
    "descriptor missing": (lambda w: frame(w.peer, SEND, b"x", flags=1, dst=w.peer), 0, "descriptor missing"),
    "one descriptor": (lambda w: frame(w.peer, SYNC), 1, "descriptor without its message"),
    "many descriptors": (lambda w: frame(w.peer, SYNC), 100, "too many descriptors"),
    "not a memfd": (lambda w: frame(w.peer, SEND, bytes(8), flags=3, dst=w.peer), 1, "malformed large payload"),
    "subject": (lambda w: frame(w.peer, PUBLISH, struct.pack("=HHHH", 3, 0, 0, 0) + b"a..     "), 0, "malformed subject"),
    "reserved": (lambda w: frame(w.peer, PUBLISH, struct.pack("=HHHH", 3, 0, 0, 0) + b"$ti     "), 0, "malformed subject"),
    "no subject": (lambda w: frame(w.peer, PUBLISH, struct.pack("=HHHH", 9, 0, 0, 0) + b"a       "), 0, "malformed publication"),
    "pattern": (lambda w: frame(w.peer, SUBSCRIBE, struct.pack("=IBBBB", 0, 0, 3, 0, 0) + b"a.>"), 0, None),
    "bad pattern": (lambda w: frame(w.peer, SUBSCRIBE, struct.pack("=IBBBB", 1, 0, 3, 0, 0) + b">.a"), 0, "malformed subscription"),
    "number": (lambda w: frame(w.peer, SUBSCRIBE, struct.pack("=IBBBB", 65000, 0, 1, 0, 0) + b"a"), 0, "malformed subscription"),
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_offenders_are_cut_off_alone(bus, offence):
    make, n_fds, why = OFFENCES[offence]
    t = bus()
    bad, good = workers(t)
    primary = t.pid
    bad.start("raw", make(bad), n=n_fds)
    if why is None:
        assert bad.done() == b"written"
        assert bad.ask("send", to=good.peer, data="fine") == "ok"
        return
    t.wait_log(rf"broke the protocol of the bus: {why}")
    wait_until(lambda: not alive(bad.pid), "it is killed")
    assert alive(good.pid) and t.pid == primary
    wait_until(lambda: len(good.json("peers")) == 2, "it is replaced")
    assert good.ask("send", to=good.peer, data="still here") == "ok"
