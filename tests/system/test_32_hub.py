"""builtin:hub: messages published by one client reach the subscribers of all workers, in order, once, whatever dies."""

import hashlib
import hmac
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

from harness import DEADLINE, Client, Gone, process, wait_until
from test_15_websocket import CLOSE, TEXT, Raw, frame
from test_23_upgrade import Upgradable, subreaper  # noqa: F401

EVENTS = ("Accept", "text/event-stream")
SECRET = "correct horse battery staple"


@pytest.fixture
def hub(start):
    def make(workers=None, **options):
        settings = {"count": 2, "crash_limit": "100/1s", "backoff_min": "1ms", **(workers or {})}
        module = {"path": "builtin:hub", "mount": "/hub", "listener": "web", "client_rate": 0, **options}
        return start({"workers": settings, "module:hub": module})

    return make


def post(address, path, data, headers=()):
    """Publishes. Returns the answer."""
    body = data if isinstance(data, bytes) else data.encode()
    with Client(address) as c:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        c.send(f"POST {path} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return c.response()


def publish(t, path, data, headers=()):
    """The id of what was published."""
    answer = post(t.address(), path, data, headers)
    assert answer.status == 200, answer
    return answer.json()["id"]


class Stream:
    """One stream of events on one connection."""

    def __init__(self, client, path, last_id=None, headers=(), meanwhile=None):
        """meanwhile: called when the request has been sent."""
        self.client, self.text, self.status = client, b"", None
        self.last_id = None  # as browsers keep it: of events without data, too
        fields = [EVENTS, *headers] + ([("Last-Event-ID", last_id)] if last_id else [])
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode())
        if meanwhile:
            meanwhile()
        while b"\r\n\r\n" not in client.buffer:
            client._more()
        head, client.buffer = client.buffer.split(b"\r\n\r\n", 1)
        self.status = int(head.split()[1])
        assert self.status != 200 or b"text/event-stream" in head

    def _chunk(self):
        """The next one; b"" is the last."""
        c = self.client
        while b"\r\n" not in c.buffer:
            c._more()
        length, c.buffer = c.buffer.split(b"\r\n", 1)
        n = int(length, 16) + 2
        while len(c.buffer) < n:
            c._more()
        data, c.buffer = c.buffer[: n - 2], c.buffer[n:]
        return data

    def event(self, only_data=True):
        """The next event: {field: value}; None when the stream has ended in good order."""
        while True:
            while b"\n\n" not in self.text:
                data = self._chunk()
                if not data:
                    return None
                self.text += data
            block, self.text = self.text.split(b"\n\n", 1)
            fields = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(": ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            self.last_id = fields.get("id", self.last_id)
            if "data" in fields or not only_data:
                return fields

    def data(self, n):
        return [self.event()["data"] for _ in range(n)]


class Subscriber(threading.Thread):
    """A client as browsers are: comes back with the id of what it had last, until it is told to stop."""

    def __init__(self, address, path, last_id=None):
        super().__init__(daemon=True)
        self.address, self.path, self.last_id = address, path, last_id
        self.events, self.gaps, self.n_connections = [], 0, 0
        self.stopping, self.client = False, None
        self.start()
        wait_until(lambda: self.n_connections > 0, "it has subscribed")

    def run(self):
        while not self.stopping:
            try:
                self.client = Client(self.address)
                stream = Stream(self.client, self.path, self.last_id)
                if stream.status == 200:
                    self.n_connections += 1
                    self.read(stream)
            except (Gone, OSError):
                pass
            finally:
                if self.client:
                    self.client.close()
            time.sleep(0.01)

    def read(self, stream):
        while (event := stream.event()) is not None:
            if event.get("event") == "gap":
                self.gaps += 1
                continue
            self.last_id = event["id"]
            self.events.append((event["id"], event["data"]))

    def stop(self):
        self.stopping = True
        try:
            self.client.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.join(DEADLINE)


@pytest.fixture
def subscribers():
    made = []

    def make(*args, **options):
        made.append(Subscriber(*args, **options))
        return made[-1]

    yield make
    for s in made:
        s.stop()


def on_each_worker(t, path, **options):
    """[(pid, Stream)], of each worker one."""
    streams, spare = {}, []

    def one_more():
        client = t.connect()
        pid = t.worker_of(client)
        if pid in streams:
            spare.append(client)
        else:
            streams[pid] = Stream(client, path, **options)
        return set(streams) == set(t.serving_pids())

    wait_until(one_more, "a stream on every worker")
    for client in spare:
        client.close()
    return sorted(streams.items())


def info(t, path):
    answer = t.get(path)
    assert answer.status == 200, answer
    return answer.json()


# --- publishing and subscribing ---


def test_everybody_gets_everything_in_order(hub):
    t = hub({"count": 3})
    streams = on_each_worker(t, "/hub/chat/room")
    sent = [f"message {i}" for i in range(100)]
    with t.connect() as one, t.connect() as other:  # of whatever workers
        for i, text in enumerate(sent):
            c = (one, other)[i % 2]
            c.send(f"POST /hub/chat/room HTTP/1.1\r\nHost: test\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            assert c.response().status == 200
    for _, stream in streams:
        assert stream.data(100) == sent
        stream.client.close()


def test_messages_are_told_at_once(hub):
    """One after the other: without the bell each would wait for the look once a second, and all for longer than the deadline."""
    t = hub()
    streams = on_each_worker(t, "/hub/a")
    end = time.monotonic() + DEADLINE
    for i in range(2 * DEADLINE):
        publish(t, "/hub/a", str(i))
        for _, stream in streams:
            assert stream.data(1) == [str(i)]
        assert time.monotonic() < end
    for _, stream in streams:
        stream.client.close()


def test_what_is_published_at_once_has_one_order(hub):
    t = hub({"count": 3})
    streams = on_each_worker(t, "/hub/a")

    def run(name):
        for i in range(50):
            publish(t, "/hub/a", f"{name} {i}")

    threads = [threading.Thread(target=run, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [stream.data(150) for _, stream in streams]
    assert seen[0] == seen[1] == seen[2]
    for name in "xyz":
        assert [text for text in seen[0] if text[0] == name] == [f"{name} {i}" for i in range(50)]


SUBJECTS = [
    ("/a/b", "/a/b", True), ("/a.b", "/a/b", True), ("/a/*", "/a/b", True), ("/*/b", "/a/b", True),
    ("/%3E", "/a/b", True), ("/a/%3E", "/a/b/c", True), ("/a/*", "/a/b/c", False), ("/a/b", "/a/c", False),
    ("/a/%3E", "/a", False), ("/a/b/c", "/a/b", False), ("/*", "/a", True), ("/a%20b", "/a", None), ("/a..b", "/a", None),
    ("/a*", "/a", None), ("/%3E/a", "/a", None), ("/$tine", "/a", None), ("/%C3%BC", "/a", None), ("/" + "a" * 256, "/a", None),
    ("/a" * 17, "/a", None),
]


def test_subjects_and_patterns(hub):
    """None: not a subject."""
    t = hub({"count": 1})
    for pattern, subject, fits in SUBJECTS:
        with t.connect() as c:
            stream = Stream(c, f"/hub{pattern}?format=text")
            assert stream.status == (400 if fits is None else 200), pattern
            if fits is None:
                continue
            publish(t, f"/hub{subject}", "it")
            publish(t, f"/hub{pattern.replace('*', 'a').replace('%3E', 'a')}", "end")
            assert stream.event()["data"] == ("it" if fits else "end"), (pattern, subject)
    assert post(t.address(), "/hub/a/*", "x").status == 400
    assert post(t.address(), "/hub/", "x").status == 400


def test_what_is_no_subject_is_told(hub):
    """Slashes and dots are one thing, and nothing may be missing between two of them."""
    t = hub({"count": 1})
    for path, why in (("/a//b", "empty segment"), ("//a", "empty segment"), ("/a/", "empty segment"), ("/a..b", "empty segment"),
                      ("/a./b", "empty segment"), ("/$a", "`$`"), ("/a%20b", "blank"), ("/%C3%BC", "ASCII"),
                      ("/*/*/*/*/*", "4 `*`"), ("/" + "a/" * 16 + "a", "16 segments")):
        for answer in (post(t.address(), f"/hub{path}", "x"), t.get(f"/hub{path}", headers=[EVENTS])):
            assert answer.status == 400 and why in answer.body.decode(), (path, answer)
    assert info(t, "/hub/")["published"] == 0


def test_formats(hub):
    t = hub({"count": 1})
    for path in ("/hub/a?format=xml", "/hub/a?format=", "/hub/a?format=jsonx", "/hub/a?format=%zz"):
        answer = t.get(path, headers=[EVENTS])
        assert answer.status == 400 and b"text and json" in answer.body
        with Raw(t, path) as ws:
            assert ws.answer.status == 400
    with t.connect() as c, t.connect() as other:
        text, as_json = Stream(c, "/hub/*?format=text"), Stream(other, "/hub/a?format=json")
        publish(t, "/hub/a", "it")
        assert text.data(1) == ["it"]
        assert json.loads(as_json.data(1)[0])["data"] == "it"


def test_what_is_compressed(hub):
    """It would be published as it is."""
    t = hub({"count": 1})
    for coding in "gzip", "identity, gzip", "x":
        answer = post(t.address(), "/hub/a", "x", [("Content-Encoding", coding)])
        assert answer.status == 415 and answer.header("Accept-Encoding") == "identity"
    assert post(t.address(), "/hub/a", "x", [("Content-Encoding", "identity")]).status == 200


def test_patterns_say_of_what(hub):
    t = hub()
    with t.connect() as c:
        stream = Stream(c, "/hub/%3E")
        text = 'grüß "dich"\n\t\x01 \\ 😀'
        before = time.time()
        number = publish(t, "/hub/a/b", text)
        event = stream.event()
        message = json.loads(event["data"])
        assert event["id"] == number == message["id"]
        assert (message["subject"], message["data"]) == ("a.b", text)
        assert before - 1 < message["time"] / 1000 < time.time() + 1


def test_lines(hub):
    t = hub()
    with t.connect() as c:
        stream = Stream(c, "/hub/a")
        for text in ("one\ntwo", "\n", "a\r\nb\rc\n\nd\n", "id: x\nevent: gap"):
            publish(t, "/hub/a", text)
            assert stream.event()["data"] == text.replace("\r\n", "\n").replace("\r", "\n")


def test_presence(hub):
    t = hub({"count": 3})
    assert info(t, "/hub/a/b")["subscribers"] == 0
    streams = on_each_worker(t, "/hub/a/b") + on_each_worker(t, "/hub/a/*") + on_each_worker(t, "/hub/c")
    assert [info(t, f"/hub/{p}")["subscribers"] for p in ("a/b", "a/x", "c", "d", "a/%3E")] == [6, 3, 3, 0, 6]
    assert info(t, "/hub/")["subscribers"] == 9
    for _, stream in streams[:3]:
        stream.client.close()
    wait_until(lambda: info(t, "/hub/a/b")["subscribers"] == 3, "they are gone")
    os.kill(streams[3][0], signal.SIGKILL)  # with one of a/*, one of c
    wait_until(lambda: info(t, "/hub/")["subscribers"] == 4, "the dead do not count")


def test_last_id_goes_on(hub):
    t = hub()
    ids = [info(t, "/hub/a")["last_id"]]
    for i in range(3):
        ids.append(publish(t, "/hub/a", str(i)))
        assert info(t, "/hub/b")["last_id"] == ids[-1]
    numbers = [int(i.split("-")[1]) for i in ids]
    assert numbers == sorted(set(numbers)) and len({i.split("-")[0] for i in ids}) == 1


# --- replay ---


def test_replay(hub):
    t = hub()
    ids = []
    for i in range(10):
        ids.append(publish(t, "/hub/a", f"a{i}"))
        publish(t, "/hub/b", f"b{i}")
    for options, first in (({"last_id": ids[3]}, 4), ({"last_id": "0"}, 0), ({"last_id": ids[8]}, 9)):
        for pid, stream in on_each_worker(t, "/hub/a", **options):
            assert stream.data(10 - first) == [f"a{i}" for i in range(first, 10)]
            stream.client.close()
    streams = on_each_worker(t, f"/hub/b?last_event_id={ids[9]}")
    live = publish(t, "/hub/b", "live")
    for _, stream in streams:
        assert stream.data(2) == ["b9", "live"]
    with t.connect() as c:
        stream = Stream(c, "/hub/b", last_id=live)
        publish(t, "/hub/b", "more")
        assert stream.data(1) == ["more"]


@pytest.mark.parametrize("last_id", ["1", "x", "0-0", "ffffffff-56", "{epoch}-8", "{epoch}-999999999", "{epoch}-", "-5", "00"])
def test_what_cannot_be_known_is_a_gap(hub, last_id):
    """Ids of another life, or made up: everything that is left, and word of it."""
    t = hub()
    epoch = publish(t, "/hub/a", "one").split("-")[0]
    publish(t, "/hub/a", "two")
    with t.connect() as c:
        stream = Stream(c, "/hub/a", last_id=last_id.format(epoch=epoch))
        assert stream.event()["event"] == "gap"
        assert stream.data(2) == ["one", "two"]


def test_what_is_lost_is_a_gap(hub):
    """The ring has gone round twice and more since."""
    t = hub(history="64K", max_message="4K")
    first = publish(t, "/hub/a", "first")
    for i in range(100):
        publish(t, "/hub/a", f"{i} " + "x" * 2000)
    with t.connect() as c:
        stream = Stream(c, "/hub/a", last_id=first)
        assert stream.event()["event"] == "gap"
        left = [int(text.split()[0]) for text in stream.data(24)]
    assert left == list(range(left[0], left[0] + 24)) and left[-1] <= 99
    assert 32 << 10 < info(t, "/hub/")["history_bytes"] <= 64 << 10


def behind(stream, subject, t, n_bytes, at_once=24000):
    """
    So much goes by under another subject, not more at once than a worker may be behind. Returns when the stream has been told a place
    behind it.
    """
    def position(name):
        return int(name.split("-")[1])

    for _ in range(n_bytes // at_once):
        last = [publish(t, subject, "x" * 4000) for _ in range(at_once // 4000)][-1]
        while position(stream.last_id) < position(last):
            assert "data" not in stream.event(only_data=False)
    return stream.last_id


def test_a_quiet_subject_beside_a_busy_one(hub):
    """Nothing is missed there, and so no gap is told, though the ring has gone round."""
    t = hub(history="64K", max_message="4K")
    ids = []
    for _ in range(2):
        with t.connect() as c:
            stream = Stream(c, "/hub/quiet", last_id=ids[-1] if ids else None)
            assert "data" not in stream.event(only_data=False) and stream.last_id  # it begins with its place
            ids.append(behind(stream, "/hub/busy", t, 96000))
            t.reload()
            assert stream.event() is None
    publish(t, "/hub/quiet", "now")
    with t.connect() as c:
        assert Stream(c, "/hub/quiet", last_id=ids[-1]).data(1) == ["now"]
    with t.connect() as c:
        assert Stream(c, "/hub/quiet", last_id=ids[0]).event()["event"] == "gap"
    with Raw(t, "/hub/quiet") as ws:
        last = [publish(t, "/hub/busy", "x" * 4000) for _ in range(10)][-1]
        place = message(ws)
        assert list(place) == ["id"]
        while place["id"] != last:
            place = message(ws)
            assert list(place) == ["id"]


def test_a_gap_is_told_once(hub):
    t = hub({"count": 1}, history="64K", max_message="4K")
    for i in range(40):
        publish(t, "/hub/busy", "x" * 4000)
    with t.connect() as c:
        stream = Stream(c, "/hub/quiet", last_id="ffffffff-56")
        event = stream.event()
        assert event["event"] == "gap" and event["id"] == stream.last_id
        assert "data" not in stream.event(only_data=False)  # where it is now that it has read what there is
        assert stream.last_id == info(t, "/hub/")["last_id"]
    for _ in range(3):
        publish(t, "/hub/busy", "x" * 4000)
    with t.connect() as c:
        again = Stream(c, "/hub/quiet", last_id=stream.last_id)
        publish(t, "/hub/quiet", "now")
        assert again.data(1) == ["now"]


def test_nothing_is_missed_before_the_first_message(hub):
    """Who comes back has a place from the beginning."""
    t = hub()
    with t.connect() as c:
        stream = Stream(c, "/hub/a")
        stream.event(only_data=False)
    publish(t, "/hub/a", "meanwhile")
    with t.connect() as c:
        assert Stream(c, "/hub/a", last_id=stream.last_id).data(1) == ["meanwhile"]


def test_an_earlier_history_again(hub):
    """What was published with another one meanwhile is not in it: a gap is told. Nobody is sent away for it later."""
    t = hub(history="1M")
    first = publish(t, "/hub/a", "in 1M")
    for history in "2M", "1M":
        t.configure({"module:hub": {"history": history}})
        t.reload()
        with t.connect() as c:
            stream = Stream(c, "/hub/a", last_id=first)
            assert stream.event()["event"] == "gap"
            publish(t, "/hub/a", f"in {history} again")
            assert stream.data(1) == [f"in {history} again"]
            publish(t, "/hub/a", "another")
            assert stream.data(1) == ["another"]
    t.reload()
    with t.connect() as c:
        assert Stream(c, "/hub/a", last_id="0").data(2) == ["in 1M again", "another"]


def test_a_message_that_comes_too_late_for_its_history(hub):
    """Nobody would read it any more where it would be put, so it is not answered as if somebody did."""
    t = hub(history="1M")
    with t.connect() as c:
        c.send(b"POST /hub/a HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nx")
        publish(t, "/hub/a", "in 1M")
        t.configure({"module:hub": {"history": "2M"}})
        t.reload()
        publish(t, "/hub/a", "in 2M")
        c.send(b"y")
        answer = c.response()
        assert answer.status == 503 and answer.header("Retry-After")
    with t.connect() as c:
        assert Stream(c, "/hub/a", last_id="0").data(1) == ["in 2M"]


def test_another_history_on_trial(hub):
    """It fails, and nobody has noticed, though it was asked what clients ask."""
    t = hub({"probation": "20s"}, history="1M")
    first = publish(t, "/hub/a", "0")
    t.configure({"module:hub": {"history": "2M"}})
    with t.connect() as c:
        stream = Stream(c, "/hub/a")
        for i in range(1, 3):
            old, mark = set(t.worker_pids()), t.mark()
            t.signal(signal.SIGHUP)
            t.wait_log(r"starting -> ready: generation \d+", mark, count=2)
            os.kill(min(set(t.worker_pids()) - old), signal.SIGKILL)
            t.wait_log(r"reload: failed; generation 1 serves on", mark)
            publish(t, "/hub/a", str(i))
            assert stream.data(1) == [str(i)]
    with t.connect() as c:
        assert Stream(c, "/hub/a", last_id=first).data(2) == ["1", "2"]


def publish_surely(address, path, text):
    """Publishes until that is known to have been done: a killed worker takes its answers with it."""
    while True:
        try:
            answer = post(address, path, text)
            if answer.status == 200:
                return
        except (Gone, OSError):
            pass
        time.sleep(0.01)


def test_a_kill_and_a_reload_lose_nothing(hub, subscribers):
    """Those that are cut off come back; everybody has had everything once, in the same order."""
    t = hub({"count": 3, "drain_timeout": "5s"})
    everybody = [subscribers(t.address(), "/hub/a") for _ in range(30)]
    stop, sent = threading.Event(), []

    def run(name, address):
        while not stop.is_set():
            text = f"{name} {len(sent)}"
            sent.append(text)
            publish_surely(address, "/hub/a", text)

    threads = [threading.Thread(target=run, args=(name, t.address()), daemon=True) for name in "xy"]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(len(s.events) > 20 for s in everybody), "messages come")
        old = t.worker_pids()
        os.kill(old[0], signal.SIGKILL)
        wait_until(lambda: old[0] not in t.worker_pids() and len(t.serving_pids()) == 3, "it is replaced")
        n = len(sent)
        t.reload()
        wait_until(lambda: len(sent) > n + 20, "messages go on")
        wait_until(lambda: all(s.n_connections > 1 for s in everybody), "everybody was cut off")
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    publish_surely(t.address(), "/hub/a", "end")
    wait_until(lambda: all(s.events[-1][1] == "end" for s in everybody), "the last one comes")
    with t.connect() as c:
        stream, everything = Stream(c, "/hub/a", last_id="0"), []
        while not everything or everything[-1][1] != "end":
            event = stream.event()
            everything.append((event["id"], event["data"]))
    ids = [number for number, _ in everything]
    assert len(set(ids)) == len(ids)
    assert {text for _, text in everything} == {*sent, "end"}
    for s in everybody:
        assert s.gaps == 0
        assert s.events == everything[len(everything) - len(s.events):]
    assert min(len(s.events) for s in everybody) > 40


def test_killed_between_the_message_and_the_bell(hub):
    """Whatever publishes is killed at a random moment, over and over: nobody waits for a message that is there."""
    t = hub({"count": 2, "crash_limit": "1000/1s"})
    for i in range(10):
        streams = on_each_worker(t, "/hub/a", last_id="0")
        with t.connect() as c:
            victim = t.worker_of(c)
            data = f"m{i}"
            c.send(f"POST /hub/a HTTP/1.1\r\nHost: test\r\nContent-Length: {len(data)}\r\n\r\n{data}".encode())
            time.sleep(i * 0.0001)
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in t.worker_pids() and len(t.serving_pids()) == 2, "it is replaced")
        publish(t, "/hub/a", f"end{i}")
        survivor = next(stream for pid, stream in streams if pid != victim)
        seen = []
        while not seen or seen[-1] != f"end{i}":
            seen.append(survivor.event()["data"])
        with t.connect() as c:
            assert Stream(c, "/hub/a", last_id="0").data(len(seen)) == seen
        for _, stream in streams:
            stream.client.close()


def test_history_survives_an_upgrade(folder, subreaper, subscribers):  # noqa: F811
    t = Upgradable(folder, {
        "workers": {"count": 2},
        "module:hub": {"path": "builtin:hub", "mount": "/hub", "listener": "web", "client_rate": 0}})
    t.start()
    address = t.address()
    try:
        someone = subscribers(address, "/hub/a")
        for i in range(5):
            publish(t, "/hub/a", f"before {i}")
        t.upgrade()
        for i in range(5):
            answer = post(address, "/hub/a", f"after {i}")
            assert answer.status == 200
        expected = [f"before {i}" for i in range(5)] + [f"after {i}" for i in range(5)]
        wait_until(lambda: len(someone.events) >= 10, "all come")
        assert [text for _, text in someone.events] == expected and someone.gaps == 0
        with Client(address) as c:
            assert Stream(c, "/hub/a", last_id="0").data(10) == expected
    finally:
        someone.stop()
        t.close()


# --- WebSocket ---


def message(ws):
    opcode, data = ws.frame()
    assert opcode == TEXT, (opcode, data)
    return json.loads(data)


def test_websocket_both_ways(hub):
    t = hub()
    with Raw(t, "/hub/room") as one, Raw(t, "/hub/room?format=text") as other, t.connect() as c:
        stream = Stream(c, "/hub/room")
        one.send(frame(TEXT, "grüß dich".encode()))
        got = message(one)
        assert (got["subject"], got["data"]) == ("room", "grüß dich")
        assert other.frame() == (TEXT, "grüß dich".encode())
        event = stream.event()
        assert (event["id"], event["data"]) == (got["id"], "grüß dich")
        other.send(frame(TEXT, b"back"))
        assert message(one)["data"] == "back" and stream.data(1) == ["back"]
        with Raw(t, f"/hub/room?last_event_id={got['id']}") as late:
            assert message(late)["data"] == "back"
        with Raw(t, "/hub/room?last_event_id=nonsense") as late:
            gap = message(late)
            assert gap.pop("id") and gap == {"gap": True}
            assert [message(late)["data"] for _ in range(2)] == ["grüß dich", "back"]


def test_websocket_refusals(hub):
    t = hub(max_message=100)
    with Raw(t, "/hub/a") as ws:
        ws.send(frame(TEXT, b""))
        assert message(ws)["error"] == 400
        ws.send(frame(2, b"\xff\xfe"))
        assert message(ws)["error"] == 415
        ws.send(frame(TEXT, b"x" * 101))
        assert ws.closed_with() == (1009, b"a message of more than 100 bytes")
    with Raw(t, "/hub/*") as ws:
        ws.send(frame(TEXT, b"x"))
        assert message(ws)["error"] == 403
    with Raw(t, "/hub/a?format=text") as ws:
        ws.send(frame(TEXT, b""))
        assert ws.closed_with() == (1008, b"a message has at least one byte")
    with Raw(t, "/hub/a", ["Origin: http://evil.example"]) as ws:
        assert ws.answer.status == 403


def test_websocket_ends_with_its_worker(hub):
    t = hub()
    with Raw(t, "/hub/a") as ws:
        t.reload()
        opcode, data = ws.frame()
        assert (opcode, data[:2]) == (CLOSE, (1001).to_bytes(2, "big"))


# --- limits ---


def test_sizes(hub):
    t = hub(max_message=1000)
    with t.connect() as c:
        stream = Stream(c, "/hub/a")
        answer = post(t.address(), "/hub/a", "x" * 1001)
        assert (answer.status, answer.body) == (413, b"413 Content Too Large: at most 1000 bytes\n")
        assert post(t.address(), "/hub/a", "").status == 400
        assert post(t.address(), "/hub/a", b"\xff").status == 415
        assert post(t.address(), "/hub/a", "x" * 1000).status == 200
        assert stream.data(1) == ["x" * 1000]
    assert info(t, "/hub/")["published"] == 1


def post_at_once(clients, path, n):
    """So many on each of these connections. Returns the answers, and the seconds that it took."""
    begun = time.monotonic()
    for c in clients:
        c.send(f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx".encode() * n)
    answers = [c.response() for c in clients for _ in range(n)]
    return answers, time.monotonic() - begun


def test_rates_count_over_all_workers(hub):
    t = hub({"count": 3}, client_rate=5)
    streams = on_each_worker(t, "/hub/a")  # so that those who come now are spread, too
    clients, pids = [], set()

    def spread():
        clients.append(t.connect())
        pids.add(t.worker_of(clients[-1]))
        return len(clients) >= 3 and len(pids) > 1

    wait_until(spread, "clients of several workers")
    answers, seconds = post_at_once(clients, "/hub/a", 20)
    refused = [a for a in answers if a.status == 429]
    assert {a.status for a in answers} == {200, 429}
    assert 5 <= len(answers) - len(refused) <= 5 + 5 * seconds + 1
    assert all(1 <= int(a.header("Retry-After")) <= 2 and b"client_rate" in a.body for a in refused)
    assert info(t, "/hub/")["refused"] == len(refused)
    with Raw(t, "/hub/a") as ws:
        ws.send(frame(TEXT, b"x") * 20)
        seen = [message(ws) for _ in range(20)]
        assert any(m.get("error") == 429 and m["retry_ms"] <= 1000 for m in seen)
    for c in clients + [stream.client for _, stream in streams]:
        c.close()


def test_a_subject_has_a_rate(hub):
    t = hub(subject_rate=5)
    with t.connect() as c:
        answers, seconds = post_at_once([c], "/hub/a", 40)
        assert 5 <= sum(a.status == 200 for a in answers) <= 5 + 5 * seconds + 1
        assert all(b"subject_rate" in a.body for a in answers if a.status == 429)
        assert [a.status for a in post_at_once([c], "/hub/b", 5)[0]] == [200] * 5


def test_numbers_of_subscribers(hub):
    t = hub({"count": 1}, subscribers_per_client=2, subjects=2)
    with t.connect() as a, t.connect() as b, t.connect() as c:
        assert Stream(a, "/hub/a").status == 200
        assert Stream(b, "/hub/b").status == 200
        assert Stream(c, "/hub/a").status == 429
        assert b"subscribers_per_client" in t.get("/hub/a", headers=[EVENTS]).body
    wait_until(lambda: info(t, "/hub/")["subscribers"] == 0, "they are gone")
    t.configure({"module:hub": {"subscribers_per_client": 0, "subscribers": 3}})
    t.reload()
    clients = [t.connect() for _ in range(5)]
    statuses = [Stream(c, f"/hub/{path}").status for c, path in zip(clients, "abcab")]
    assert statuses == [200, 200, 429, 200, 429]
    for c in clients:
        c.close()


def test_their_number_counts_over_all_workers(hub):
    t = hub({"count": 3}, subscribers=4)
    streams = on_each_worker(t, "/hub/a")
    clients = [t.connect() for _ in range(3)]
    assert [Stream(c, "/hub/a").status for c in clients] == [200, 429, 429]
    os.kill(streams[0][0], signal.SIGKILL)
    left = wait_until(lambda: (n := info(t, "/hub/")["subscribers"]) < 4 and n, "the dead do not count")
    assert left in (2, 3)  # the fourth was on the same worker, perhaps
    wait_until(lambda: len(t.serving_pids()) == 3, "it is replaced")
    clients += [t.connect() for _ in range(3)]
    assert [Stream(c, "/hub/a").status for c in clients[3:]].count(200) == 4 - left
    for c in clients:
        c.close()


def test_one_hub_on_two_listeners(start):
    """In one worker and in several, for subscribers and for presence; another name is another hub."""
    hub = {"path": "builtin:hub", "mount": "/hub", "client_rate": 0}
    for count in (1, 2):
        t = start({
            "workers": {"count": count},
            "listener:other": {"address": "127.0.0.1:0"},
            "module:hub": {**hub, "listener": "web"},
            "module:again": {**hub, "listener": "other"},
            "module:apart": {**hub, "listener": "other", "mount": "/apart", "name": "apart"},
        })
        with t.connect() as a, t.connect("other") as b, t.connect("other") as c:
            streams = [Stream(a, "/hub/a"), Stream(b, "/hub/a")]
            apart = Stream(c, "/apart/a")
            for listener in ("web", "other"):
                assert post(t.address(listener), "/hub/a", listener).status == 200
                assert [stream.data(1) for stream in streams] == [[listener]] * 2
                assert t.get("/hub/a", listener).json()["subscribers"] == 2
            assert post(t.address("other"), "/apart/a", "x").status == 200
            assert apart.data(1) == ["x"]
        t.configure({"module:again": {"history": "2M"}})
        assert any('another hub "hub" has another `history`' in e for e in t.reload_fails())


def test_who_does_not_read_is_cut_off(hub):
    """Nobody waits for him, he costs no more memory than the ring, and he is told of the gap."""
    t = hub({"count": 1}, history="256K", max_message="16K")
    with t.connect(receive_buffer=4096) as slow, t.connect() as c:
        stuck, stream = Stream(slow, "/hub/a"), Stream(c, "/hub/a")
        n = 0

        def more():
            nonlocal n
            publish(t, "/hub/a", f"{n} " + "x" * 16000)
            assert stream.event()["data"].startswith(f"{n} ")
            n += 1
            return info(t, "/hub/")["cut_off"] == 1

        wait_until(more, "it is cut off")
        assert info(t, "/hub/")["subscribers"] == 1
        got, last_id = [], None
        with pytest.raises((Gone, ConnectionResetError)):
            while True:
                event = stuck.event()
                if event is None:
                    raise Gone("in good order")
                got.append(int(event["data"].split()[0]))
                last_id = event["id"]
        assert got == list(range(len(got))) and len(got) < n
    with t.connect() as c:
        assert Stream(c, "/hub/a", last_id=last_id).event()["event"] == "gap"


def test_much_to_read(hub):
    """Several turns of the loop for everybody who reads all of it; those who do not wait for him."""
    t = hub({"count": 1}, history="8M")
    for i in range(300):
        publish(t, f"/hub/{'ab'[i % 2]}", f"{i} " + "x" * 10000)
    clients = [t.connect() for _ in range(12)]
    streams = [Stream(c, f"/hub/{path}?format=text", last_id="0") for c, path in zip(clients, ["a", "b", "*"] * 4)]
    with t.connect() as c:
        live = Stream(c, "/hub/a")
        publish(t, "/hub/a", "live")
        assert live.data(1) == ["live"]
    for i, stream in enumerate(streams):
        wanted = [n for n in range(300) if i % 3 == 2 or n % 2 == i % 3]
        assert [int(text.split()[0]) for text in stream.data(len(wanted))] == wanted
        if i % 3 != 1:
            assert stream.data(1) == ["live"]
    for c in clients:
        c.close()


def test_who_is_slow_misses_nothing(hub):
    """As long as the ring has it."""
    t = hub({"count": 1}, history="8M")
    with t.connect(receive_buffer=4096) as slow:
        stream = Stream(slow, "/hub/a")
        for i in range(200):
            publish(t, "/hub/a", f"{i} " + "x" * 16000)
        assert [int(text.split()[0]) for text in stream.data(200)] == list(range(200))
        publish(t, "/hub/a", "live")
        assert stream.data(1) == ["live"]


def test_those_who_are_slow_hold_up_nobody(hub):
    """Several at a time, and for longer than a second: that often they are looked after."""
    t = hub({"count": 1}, history="8M")
    for i in range(400):
        publish(t, "/hub/a", f"{i} " + "x" * 16000)
    clients = [t.connect(receive_buffer=4096) for _ in range(3)]
    streams = [Stream(c, "/hub/a?format=text", last_id="0") for c in clients]
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert info(t, "/hub/")["subscribers"] == 3
    for stream in streams:
        assert [int(text.split()[0]) for text in stream.data(400)] == list(range(400))
        stream.client.close()


# --- tokens ---


def token(pattern, rights, expires=None, secret=SECRET):
    body = f"{int(expires or time.time() + 100)}.{pattern}.{rights}"
    return f"{body}.{hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()}"


@pytest.fixture
def guarded(hub, folder):
    def make(**options):
        (folder / "secret").write_text(f"another secret of ours\n{SECRET}\n")
        return hub(secret_file=folder / "secret", **options)

    return make


TOKENS = [  # token, status of publishing, of subscribing
    (lambda: None, 401, 401),
    (lambda: token("a.b", "p"), 200, 403),
    (lambda: token("a.b", "s"), 403, 200),
    (lambda: token("a.b", "ps"), 200, 200),
    (lambda: token("a.>", "ps"), 200, 200),
    (lambda: token("*.b", "ps", secret="another secret of ours"), 200, 200),
    (lambda: token("a.c", "ps"), 403, 403),
    (lambda: token("a.b", "ps", expires=time.time() - 1), 401, 401),
    (lambda: token("a.b", "ps", secret="somebody else's secret"), 401, 401),
    (lambda: token("a.b", "x"), 401, 401),
    (lambda: token("a.b", "ps")[:-1] + "g", 401, 401),
    (lambda: token("a.b", "ps")[:-2], 401, 401),
    (lambda: "9" * 500, 401, 401),
]


def test_tokens(guarded):
    t = guarded()
    for make, publishing, subscribing in TOKENS:
        text = make()
        fields = [("Authorization", f"Bearer {text}")] if text else []
        query = f"?token={urllib.parse.quote(text)}" if text else ""
        for headers, more in ((fields, ""), ((), query)):
            answer = post(t.address(), f"/hub/a/b{more}", "x", headers)
            assert answer.status == publishing, (text, answer)
            assert answer.status == 200 or answer.header("WWW-Authenticate").startswith("Bearer")
            with t.connect() as c:
                assert Stream(c, f"/hub/a/b{more}", headers=headers).status == subscribing, text
            with Raw(t, f"/hub/a/b{more}", [f"{name}: {value}" for name, value in headers]) as ws:
                assert ws.answer.status == (101 if subscribing == 200 else subscribing)
            assert t.get(f"/hub/a/b{more}", headers=headers).status == subscribing
    with t.connect() as c, t.connect() as other:  # no more than what it is for
        assert Stream(other, f"/hub/a/%3E?token={token('a.*', 's')}").status == 403
        assert Stream(c, f"/hub/a/*?token={urllib.parse.quote(token('a.>', 's'))}").status == 200


def test_token_made_by_openssl(guarded):
    """The example in docs/messaging.md, as it stands there; also in an address as it is."""
    t = guarded()
    page = (pathlib.Path(__file__).parents[2] / "docs/messaging.md").read_text()
    (script,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.S) if "openssl dgst" in block]
    made = subprocess.run(["sh", "-c", script], env={**os.environ, "SECRET": SECRET}, capture_output=True, text=True,
                          check=True, timeout=DEADLINE).stdout.strip()
    publish(t, "/hub/chat/b", "x", [("Authorization", f"Bearer {made}")])
    publish(t, f"/hub/chat/b?token={made}", "x")


def test_rights_over_websocket(guarded):
    t = guarded(anonymous="subscribe")
    with Raw(t, "/hub/a") as reader, Raw(t, f"/hub/a?token={token('a', 'p')}") as writer:
        reader.send(frame(TEXT, b"x"))
        assert message(reader)["error"] == 403
        writer.send(frame(TEXT, b"y"))
        assert message(reader)["data"] == message(writer)["data"] == "y"


def test_a_token_ends_what_it_began(guarded):
    t = guarded()
    made = token("a", "s", expires=time.time() + 5)
    with t.connect() as c, Raw(t, f"/hub/a?token={made}") as ws:
        assert Stream(c, f"/hub/a?token={made}").event() is None
        assert ws.closed_with() == (1008, b"the token has expired")


# --- memory that somebody else writes to ---

SCRIBBLE = """
#include <stdlib.h>
#include <string.h>
#include <tine/http.h>
#include <tine/shared.h>

static struct tine_shared *area;

/* Writes over the ring of the hub: all of it, or its head. */
static void on_request(struct tine_request *request, void *arg)
{
	size_t size = tine_shared_size(area);
	struct tine_text query = tine_request_query(request);

	if (query.len > 0 && query.data[0] == 'h')
		size = 256;
	for (size_t i = 0; i < size; i++)
		((char *)tine_shared_data(area))[i] = (char)random();
	tine_respond(request, 200, NULL, "done", 4);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	int r = tine_shared_area(worker, "hub/hub/ring.2/65536", 65536, &area);

	return r < 0 ? r : tine_http_route(worker, TINE_GET, "/", on_request, NULL);
}

TINE_MODULE = {.abi = TINE_ABI, .size = sizeof(struct tine_module), .name = "scribble", .worker_start = start};
"""


@pytest.fixture
def scribbled(start, build_module, folder):
    """Starts two workers with a hub, and a module that writes over its ring: GET /scribble/?all or ?head."""
    source = folder / "scribble.c"
    source.write_text(SCRIBBLE)
    return lambda: start({
        "workers": {"count": 2},
        "module:hub": {"path": "builtin:hub", "mount": "/hub", "listener": "web", "client_rate": 0,
                       "history": "64K", "max_message": "8K"},
        "module:scribble": {"path": build_module(source), "mount": "/scribble", "listener": "web"},
    })


def ends_in_good_order(stream, allowed):
    """What it still said."""
    seen = []
    while (event := stream.event()) is not None:
        seen.append(event["data"])
    assert set(seen) <= allowed
    stream.client.close()


def test_garbage_in_the_ring(scribbled):
    """The hub begins anew; those who listened come back and are told of the gap; nobody crashes, and all goes on."""
    t = scribbled()
    workers = t.worker_pids()
    for how in ["all", "head"] * 3:
        streams = on_each_worker(t, "/hub/a", last_id="0")
        publish(t, "/hub/a", "before")
        assert t.get(f"/scribble/?{how}").body == b"done"
        after = publish(t, "/hub/a", "after")
        for _, stream in streams:
            ends_in_good_order(stream, {"before", "after", "live"})
        assert info(t, "/hub/")["last_id"] == after
        with t.connect() as c, t.connect() as known:
            stream, later = Stream(c, "/hub/a", last_id="1234-56"), Stream(known, "/hub/a", last_id=after)
            assert stream.event()["event"] == "gap"
            assert stream.data(1) == ["after"]
            publish(t, "/hub/a", "live")
            assert stream.data(1) == later.data(1) == ["live"]
    assert t.worker_pids() == workers and not t.errors()


def test_who_comes_before_the_bell_stays(scribbled):
    """To a worker that has yet to hear that the hub has begun anew: it looks, ends its own once, and not who has just come."""
    t = scribbled()
    streams = on_each_worker(t, "/hub/a")
    with t.connect() as c:
        late = t.worker_of(c)

        def meanwhile():
            assert t.get("/scribble/?all").body == b"done"
            publish(t, "/hub/a", "after")
            os.kill(late, signal.SIGCONT)

        os.kill(late, signal.SIGSTOP)
        wait_until(lambda: process(late).state == "T", "it is stopped")
        stream = Stream(c, "/hub/a", last_id="1234-56", meanwhile=meanwhile)
        assert stream.event()["event"] == "gap"
        assert stream.data(1) == ["after"]
        for _, other in streams:
            ends_in_good_order(other, {"after"})
        publish(t, "/hub/a", "live")
        assert stream.data(1) == ["live"]


def test_garbage_is_mended_without_a_message(scribbled):
    """By the look once a second: who comes back stays, and need not wait for somebody to publish."""
    t = scribbled()
    streams = on_each_worker(t, "/hub/a")
    assert t.get("/scribble/?all").body == b"done"
    for _, stream in streams:
        ends_in_good_order(stream, set())
    streams = on_each_worker(t, "/hub/a")
    time.sleep(2.5)  # two more looks
    publish(t, "/hub/a", "after")
    for _, stream in streams:
        assert stream.data(1) == ["after"]
        stream.client.close()


# --- pages of other sites ---


def test_origins(hub):
    t = hub()

    def statuses(origin):
        fields = [("Origin", origin)]
        with t.connect() as c:
            return post(t.address(), "/hub/a", "x", fields).status, Stream(c, "/hub/a", headers=fields).status

    assert statuses("http://test") == (200, 200)
    assert statuses("http://evil.example") == (403, 403)
    assert statuses("null") == (403, 403)
    t.configure({"module:hub": {"origins": "https://a.example, https://b.example:8443"}})
    t.reload()
    assert statuses("https://b.example:8443") == (200, 200)
    assert statuses("https://b.example") == (403, 403)
    answer = post(t.address(), "/hub/a", "x", [("Origin", "https://a.example")])
    assert answer.header("Access-Control-Allow-Origin") == "https://a.example"
    assert statuses("http://test") == (200, 200), "its own pages always may"


def test_origins_over_websocket(hub):
    t = hub(origins="https://a.example, https://b.example")
    for origin, status in (("http://test", 101), ("https://b.example", 101), ("https://c.example", 403)):
        with Raw(t, "/hub/a", extra=[f"Origin: {origin}"]) as ws:
            assert ws.answer.status == status, origin


def test_preflight(hub):
    """What browsers ask before they send a token, or go on somewhere, for a page of another site."""
    t = hub(origins="https://a.example")

    def ask(origin, *more):
        with t.connect() as c:
            return c.request("/hub/a", method="OPTIONS", headers=[("Origin", origin), *more])

    wanted = ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")
    answer = ask("https://a.example", *wanted)
    assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (204, "https://a.example")
    assert answer.header("Access-Control-Allow-Methods") == "GET, POST"
    assert {"Authorization", "Last-Event-ID"} <= set(answer.header("Access-Control-Allow-Headers").split(", "))
    assert ask("https://b.example", *wanted).status == 403
    answer = ask("https://a.example")
    assert (answer.status, answer.header("Allow")) == (204, "GET, HEAD, POST, OPTIONS")
    assert answer.header("Access-Control-Allow-Methods") is None


def test_origins_that_no_browser_sends(hub):
    t = hub(origins="*")
    for bad in ("a.example", "https://a.example/", "https://a.example b", "://a", "https://", "https://a:x", "https://a:",
                "https://[::1", "https://\u00fc.example", "https://a.example/x, null"):
        t.configure({"module:hub": {"origins": f"https://good.example, {bad}"}})
        assert any("is no origin: write https://HOST" in e for e in t.reload_fails()), bad
    t.configure({"module:hub": {"origins": "https://a.example:8443 , http://[::1]:80,null, capacitor://localhost, *"}})
    t.reload()


def test_who_wants_no_events(hub):
    t = hub({"count": 1})
    for q in "0", "0.", "0.000":
        answer = t.get("/hub/a", headers=[("Accept", f"text/event-stream;q={q}, application/json")])
        assert answer.header("Content-Type") == "application/json"
    with t.connect() as c:
        assert Stream(c, "/hub/a", headers=[("Accept", "text/event-stream;q=0.1")]).status == 200


# --- figures ---


def test_metrics(start):
    t = start({
        "module:hub": {"path": "builtin:hub", "mount": "/hub", "listener": "web"},
        "admin": {"listen": "127.0.0.1:0"},
    })
    port = t.admin_port()
    with t.connect() as c:
        stream = Stream(c, "/hub/a")
        publish(t, "/hub/a", "x")
        assert stream.data(1) == ["x"]

        def figures():
            with Client(("127.0.0.1", port)) as admin:
                text = admin.request("/metrics").body.decode()
            return {name: float(value) for name, value in re.findall(r'name="hub/hub/(\w+)"\} (\S+)$', text, re.M)}

        expected = {"published": 1, "delivered": 1, "refused": 0, "cut_off": 0, "subscribers": 1}
        wait_until(lambda: expected.items() <= figures().items(), f"{expected}, not {figures()}")


# --- configuration ---


@pytest.mark.parametrize("options, why", [
    ({"name": "a b"}, r"module:hub.name: 1 to 32 letters, digits, - or _"),
    ({"anonymous": "all"}, r"module:hub.anonymous: none, subscribe, publish or both"),
    ({"anonymous": "none"}, r"module:hub.anonymous: without a secret_file nobody has a token"),
    ({"secret_file": "/nowhere"}, r"module:hub.secret_file: /nowhere: No such file or directory"),
    ({"secret_file": "tined.ini"}, r"module:hub.secret_file: \S+: no secret of 16 to 256 bytes a line"),
    ({"history": "64K", "max_message": "16K"}, r"module:hub.max_message: more than an eighth of `history`"),
])
def test_options_are_checked(tined, options, why):
    t = tined({"module:hub": {"path": "builtin:hub", "mount": "/hub", "listener": "web", **options}})
    assert t.run() != 0
    assert any(re.search(why, text) for text in t.log()), t.tail()


# --- the chat of the bundled site ---


@pytest.fixture
def chat(start):
    return start({
        "workers": {"count": 2, "crash_limit": "100/1s", "backoff_min": "1ms"},
        "module:hello": None,
        "module:site": {"path": "builtin:static", "mount": "/", "listener": "web"},
        "module:chat": {"path": "builtin:hub", "mount": "/hub", "listener": "web"},
    })


def texts(browser):
    return browser.execute_script(
        "return Array.from(document.querySelectorAll('#messages li:not(.gap)'), li =>"
        " [li.querySelector('b').textContent, li.querySelector('span').textContent]);")


def say(browser, name, text):
    for field, value in (("name", name), ("text", text)):
        element = browser.find_element("id", field)
        element.clear()
        element.send_keys(value)
    browser.find_element("css selector", "button").click()
    wait_until(lambda: browser.find_element("id", "text").get_property("value") == "", "it is sent")


def errors_of(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_chat_in_a_browser(browser, chat):
    """Two pages on different workers; one is killed; a reload; light, dark, and as narrow as a phone."""
    t = chat
    posts = on_each_worker(t, "/hub/chat/lobby")  # what the other page would see, on each worker
    browser.get(t.url("/chat.html"))
    wait_until(lambda: browser.find_element("id", "state").text == "Connected to lobby.", "it is connected")
    errors_of(browser)
    say(browser, "Ann", "hello <b>all</b> & 😀")
    for _, stream in posts:
        assert json.loads(stream.data(1)[0]) == {"name": "Ann", "text": "hello <b>all</b> & 😀"}
    publish(t, "/hub/chat/lobby", json.dumps({"name": "Bob", "text": "hi Ann"}))
    publish(t, "/hub/chat/lobby", "no JSON at all")
    publish(t, "/hub/chat/other", json.dumps({"name": "Eve", "text": "elsewhere"}))
    expected = [["Ann", "hello <b>all</b> & 😀"], ["Bob", "hi Ann"], ["?", "no JSON at all"]]
    wait_until(lambda: texts(browser) == expected, "they are shown")
    wait_until(lambda: "3 are here." in browser.find_element("id", "here").text, "all are counted", 20)
    for number, end in enumerate((lambda: [os.kill(pid, signal.SIGKILL) for pid in t.worker_pids()], t.reload)):
        end()
        wait_until(lambda: len(t.serving_pids()) == 2, "workers are back")
        publish_surely(t.address(), "/hub/chat/lobby", json.dumps({"name": "Bob", "text": f"still here {number}"}))
        expected.append(["Bob", f"still here {number}"])
        wait_until(lambda: texts(browser) == expected, "it goes on where it was")
    # Somebody who comes now sees what was said.
    browser.get(t.url("/chat.html"))
    wait_until(lambda: texts(browser) == expected, "what was said before is there")
    try:
        for width in (360, 1200):
            for scheme in ("light", "dark"):
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
                    "width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 600})
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
                    "features": [{"name": "prefers-color-scheme", "value": scheme}]})
                found = browser.execute_script("""
                    const style = getComputedStyle(document.body);
                    return {over: document.documentElement.scrollWidth - innerWidth,
                            fg: style.color, bg: style.backgroundColor,
                            list: document.getElementById('messages').getBoundingClientRect().width};""")
                assert found["over"] <= 0 and found["list"] > 280, (width, found)
                light = [sum(map(int, re.findall(r"\d+", found[key])[:3])) for key in ("fg", "bg")]
                assert (light[0] < light[1]) == (scheme == "light"), found
                if os.environ.get("SCREENSHOTS"):
                    browser.save_screenshot(f"{os.environ['SCREENSHOTS']}/chat-{width}-{scheme}.png")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for _, stream in posts:
        stream.client.close()


def test_chat_without_its_hub(browser, chat):
    chat.configure({"module:chat": None})
    chat.reload()
    browser.get(chat.url("/chat.html"))
    wait_until(lambda: "builtin:hub must be mounted at /hub" in browser.find_element("id", "state").text, "it says so")
