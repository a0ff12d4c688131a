"""WebSocket through the real socket: frames by hand, python3-websockets, and a browser. The module is websocket_module.c."""

import asyncio
import base64
import hashlib
import json
import os
import signal
import socket
import struct
import time
import zlib

import pytest
import websockets

from harness import DEADLINE, Client, wait_until

TEXT, BINARY, CLOSE, PING, PONG, CONTINUE = 1, 2, 8, 9, 10, 0
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
MIB = 1 << 20


@pytest.fixture(scope="session")
def websocket_module(build_module):
    return build_module(os.path.join(os.path.dirname(__file__), "websocket_module.c"))


@pytest.fixture
def web(start, websocket_module):
    """Makes a daemon with one worker and the module at /."""

    def make(changes=None):
        sections = {
            "workers": {"count": 1},
            "module:hello": None,
            "module:who": None,
            "module:ws": {"path": websocket_module, "listener": "web", "mount": "/"},
        }
        for name, keys in (changes or {}).items():
            sections[name] = {**sections.get(name, {}), **keys}
        # What the address sanitizer keeps of freed memory would pass for growth.
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
        return start(sections, env={"ASAN_OPTIONS": options})

    return make


@pytest.fixture
def t(web):
    return web()


def status(t):
    with t.connect() as c:
        return c.request("/status").json()


def mask(data, key=b"\x12\x34\x56\x78"):
    keys = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(data), "big")


def frame(opcode, data=b"", first=FIN, key=b"\x12\x34\x56\x78", length=None):
    """A client's frame. key: None: not masked. length: how it is written: 7, 16 or 64 bits, instead of the shortest."""
    n = len(data)
    length = length or (7 if n < 126 else 16 if n < 65536 else 64)
    bit = 0x80 if key is not None else 0
    head = bytes([first | opcode])
    if length == 7:
        head += bytes([bit | n])
    elif length == 16:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    return head + (key + mask(data, key) if key is not None else data)


def close_frame(code, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def pack(data, final=False):
    """A compressed message, as RFC 7692 wants it."""
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    if final:
        return z.compress(data) + z.flush(zlib.Z_FINISH) + b"\0"
    return (z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


def unpack(data):
    return zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")


class Raw(Client):
    """A connection that has been upgraded."""

    def __init__(self, t, path="/echo", extra=(), behind=b"", deflate=False, **options):
        super().__init__(t.address(), **options)
        key = base64.b64encode(os.urandom(16))
        fields = [b"Sec-WebSocket-Extensions: permessage-deflate"] if deflate else []
        fields += [line.encode() for line in extra]
        self.send(
            b"GET " + path.encode() + b" HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n"
            + b"".join(line + b"\r\n" for line in fields) + b"\r\n" + behind
        )
        self.answer = self.response()
        if self.answer.status == 101:
            digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            assert self.answer.header("Sec-WebSocket-Accept") == base64.b64encode(digest).decode()
            assert self.answer.header("Upgrade") == "websocket"
            assert self.answer.header("Connection") == "Upgrade"
            assert self.answer.header("Content-Length") is None

    def take(self, n):
        while len(self.buffer) < n:
            self._more()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def frame(self):
        """The next frame: (first byte without FIN, data)."""
        first, second = self.take(2)
        assert first & FIN and not second & 0x80, "whole, and not masked"
        n = second
        if n == 126:
            n = struct.unpack(">H", self.take(2))[0]
            assert n > 125
        elif n == 127:
            n = struct.unpack(">Q", self.take(8))[0]
            assert n > 65535
        return first & 0x7F, self.take(n)

    def closed_with(self):
        """Code and reason of the close frame that comes next; and that the connection ends with it."""
        opcode, data = self.frame()
        assert opcode == CLOSE, (opcode, data[:100])
        self.sock.shutdown(socket.SHUT_WR)
        assert self.closed()
        return (struct.unpack(">H", data[:2])[0], data[2:]) if data else (1005, b"")


# --- handshake ---

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ["Upgrade: websocket", "Connection: Upgrade"]
REFUSED = [
    ("POST", [*UPGRADE, KEY, "Sec-WebSocket-Version: 13", "Content-Length: 0"], 405, ("Allow", "GET")),
    ("GET", [], 426, ("Upgrade", "websocket")),
    ("GET", [*UPGRADE, KEY, "Sec-WebSocket-Version: 8"], 426, ("Sec-WebSocket-Version", "13")),
    ("GET", [*UPGRADE, "Sec-WebSocket-Version: 13"], 400, b"one Sec-WebSocket-Key is needed"),
    ("GET", [*UPGRADE, KEY], 400, b"one Sec-WebSocket-Version is needed, of 13"),
    ("GET", [*UPGRADE, KEY, "Sec-WebSocket-Version: 13", "Origin: http://evil.example"], 403, None),
    ("GET", [*UPGRADE, KEY, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Extensions: ;"], 400, None),
]


def test_handshake_refused(t):
    for method, fields, wanted, header in REFUSED:
        with t.connect() as c:
            c.send("\r\n".join([f"{method} /echo HTTP/1.1", "Host: test", *fields, "", ""]).encode())
            response = c.response()
            assert response.status == wanted, (fields, response)
            if isinstance(header, bytes):
                assert response.body.startswith(header), response
            elif header:
                assert response.header(header[0]).split(",")[0] == header[1], response
            if not response.closes:  # the connection may be used for something else
                assert c.request("/status").json()["open"] == 0
    t.wait_log(r"refused /echo: -71", count=len(REFUSED))


def test_handshake_origin(t):
    for path, origin, wanted in [
        ("/echo", "http://test", 101), ("/echo", "https://test", 101), ("/echo", "http://test:81", 403),
        ("/any", "http://evil", 101), ("/listed", "https://a.example", 101), ("/listed", "http://test", 403),
    ]:
        with Raw(t, path, [f"Origin: {origin}"]) as c:
            assert c.answer.status == wanted, (path, origin)


def test_options_are_checked(t):
    with t.connect() as c:
        assert c.request("/bad-options").body == b"refused"


def test_subprotocol_and_client(t):
    with Raw(t, "/greet", ["Sec-WebSocket-Protocol: x, chat.v1"]) as c:
        assert c.answer.header("Sec-WebSocket-Protocol") == "chat.v1"
        assert c.frame() == (TEXT, b"127.0.0.1 chat.v1")
    with Raw(t, "/greet") as c:
        assert c.answer.header("Sec-WebSocket-Protocol") is None
        assert c.frame() == (TEXT, b"127.0.0.1 none")


def test_frames_right_behind_the_request(t):
    for path in "/echo", "/late":
        with Raw(t, path, behind=frame(TEXT, b"early") + frame(PING, b"p")) as c:
            if path == "/late":
                assert c.frame() == (TEXT, b"127.0.0.1 none")
            assert c.frame() == (TEXT, b"early")
            assert c.frame() == (PONG, b"p")


def test_upgrade_behind_other_requests(t):
    with t.connect() as c:
        request = "\r\n".join(["GET /echo HTTP/1.1", "Host: test", *UPGRADE, KEY, "Sec-WebSocket-Version: 13", "", ""])
        c.send(b"GET /status HTTP/1.1\r\nHost: test\r\n\r\n" + request.encode() + frame(TEXT, b"x"))
        assert c.response().status == 200
        assert c.response().status == 101
        wait_until(lambda: len(c.buffer) >= 3 or c._more(), "the echo")
        assert c.buffer == b"\x81\x01x"


# --- frames, case by case ---

SMILE = "\N{GRINNING FACE}".encode()
KOSME = "κόσμε".encode()
BIG = bytes(range(256)) * 300  # more than 64 KiB

# name, what is sent, what comes back; a number is the code of the close that comes then
CASES = [
    ("text", frame(TEXT, b"Hello"), [(TEXT, b"Hello")]),
    ("binary", frame(BINARY, b"\x00\xff"), [(BINARY, b"\x00\xff")]),
    ("empty text", frame(TEXT), [(TEXT, b"")]),
    ("empty binary", frame(BINARY), [(BINARY, b"")]),
    *((f"{n} bytes", frame(BINARY, BIG[:n]), [(BINARY, BIG[:n])])
      for n in (1, 124, 125, 126, 127, 128, 4081, 4082, 4083, 4088, 4096, 4097, 8192, 16384, 65535, 65536, 65537)),
    ("mask of zeros", frame(TEXT, b"abc", key=b"\0\0\0\0"), [(TEXT, b"abc")]),
    ("mask of ones", frame(TEXT, b"abc", key=b"\xff\xff\xff\xff"), [(TEXT, b"abc")]),
    ("several in a row", b"".join(frame(TEXT, b"%d" % i) for i in range(500)), [(TEXT, b"%d" % i) for i in range(500)]),
    ("largest", frame(BINARY, bytes(MIB)), [(BINARY, bytes(MIB))]),
    # fragments
    ("two fragments", frame(TEXT, b"Hel", 0) + frame(CONTINUE, b"lo"), [(TEXT, b"Hello")]),
    ("empty fragments", frame(TEXT, b"", 0) + frame(CONTINUE, b"", 0) + frame(CONTINUE, b""), [(TEXT, b"")]),
    ("the last is empty", frame(BINARY, b"ab", 0) + frame(CONTINUE, b""), [(BINARY, b"ab")]),
    ("the first is empty", frame(BINARY, b"", 0) + frame(CONTINUE, b"ab"), [(BINARY, b"ab")]),
    ("a thousand fragments", frame(BINARY, b"x", 0) + frame(CONTINUE, b"x", 0) * 998 + frame(CONTINUE, b"x"),
     [(BINARY, b"x" * 1000)]),
    ("ping within", frame(TEXT, b"a", 0) + frame(PING, b"p") + frame(CONTINUE, b"b"), [(PONG, b"p"), (TEXT, b"ab")]),
    ("pong within", frame(TEXT, b"a", 0) + frame(PONG, b"p") + frame(CONTINUE, b"b"), [(TEXT, b"ab")]),
    ("close within", frame(TEXT, b"a", 0) + close_frame(1000), [1000]),
    ("large fragments", frame(BINARY, BIG, 0) + frame(CONTINUE, BIG), [(BINARY, BIG + BIG)]),
    ("continuation of nothing", frame(CONTINUE, b"a"), [1002]),
    ("continuation behind the end", frame(TEXT, b"a", 0) + frame(CONTINUE, b"b") + frame(CONTINUE, b"c"),
     [(TEXT, b"ab"), 1002]),
    ("text within a message", frame(TEXT, b"a", 0) + frame(TEXT, b"b"), [1002]),
    ("binary within a message", frame(TEXT, b"a", 0) + frame(BINARY, b"b", 0), [1002]),
    ("too large", frame(BINARY, bytes(MIB + 1)), [1009]),
    ("too large, told before it comes", b"\x82\xff" + struct.pack(">Q", MIB + 1) + b"abcdx", [1009]),
    ("absurdly large", b"\x82\xff" + struct.pack(">Q", (1 << 63) - 1) + b"abcdx", [1009]),
    ("fragments too large", frame(BINARY, bytes(MIB), 0) + frame(CONTINUE, b"x"), [1009]),
    ("fragments as large as may be", frame(BINARY, bytes(MIB - 1), 0) + frame(CONTINUE, b"x"),
     [(BINARY, bytes(MIB - 1) + b"x")]),
    # heads that may not be
    ("not masked", frame(TEXT, b"Hello", key=None), [1002]),
    ("ping not masked", frame(PING, b"", key=None), [1002]),
    ("RSV1", frame(TEXT, b"a", FIN | RSV1), [1002]),
    ("RSV2", frame(TEXT, b"a", FIN | RSV2), [1002]),
    ("RSV3", frame(TEXT, b"a", FIN | RSV3), [1002]),
    ("RSV1 on a ping", frame(PING, b"a", FIN | RSV1), [1002]),
    ("RSV1 on a close", frame(CLOSE, b"", FIN | RSV1), [1002]),
    *((f"opcode {opcode}", frame(opcode, b"a"), [1002]) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *((f"opcode {opcode}, empty", frame(opcode), [1002]) for opcode in (3, 7, 11, 15)),
    ("opcode 3 within a message", frame(TEXT, b"a", 0) + frame(3, b"a"), [1002]),
    ("length of 125 in 16 bits", frame(BINARY, bytes(125), length=16), [1002]),
    ("length of 65535 in 64 bits", frame(BINARY, bytes(65535), length=64), [1002]),
    ("length of 2^63", b"\x82\xff" + struct.pack(">Q", 1 << 63) + b"abcd", [1002]),
    # control frames
    ("ping", frame(PING), [(PONG, b"")]),
    ("ping with data", frame(PING, b"\x00\xff"), [(PONG, b"\x00\xff")]),
    ("ping, 125 bytes", frame(PING, bytes(125)), [(PONG, bytes(125))]),
    ("ping, 126 bytes", frame(PING, bytes(126)), [1002]),
    ("ten pings", b"".join(frame(PING, b"%d" % i) for i in range(10)), [(PONG, b"%d" % i) for i in range(10)]),
    ("ping in fragments", frame(PING, b"a", 0) + frame(CONTINUE, b"b"), [1002]),
    ("pong unasked", frame(PONG, b"x") + frame(TEXT, b"a"), [(TEXT, b"a")]),
    ("pong, 126 bytes", frame(PONG, bytes(126)), [1002]),
    # close
    ("close", frame(CLOSE), [1005]),
    ("close, 1 byte", frame(CLOSE, b"\x03"), [1002]),
    ("close, reason", close_frame(1000, b"bye"), [1000]),
    ("close, 125 bytes", close_frame(1000, b"r" * 123), [1000]),
    ("close, 126 bytes", close_frame(1000, b"r" * 124), [1002]),
    ("close, reason no UTF-8", close_frame(1000, KOSME + b"\xed\xa0\x80"), [1007]),
    ("close in fragments", frame(CLOSE, b"\x03\xe8", 0), [1002]),
    ("text behind a close", close_frame(1000) + frame(TEXT, b"late"), [1000]),
    ("ping behind a close", close_frame(1000) + frame(PING, b"late"), [1000]),
    *((f"close {code}", close_frame(code), [code])
      for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)),
    *((f"close {code}", close_frame(code), [1002])
      for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)),
    # UTF-8
    ("two, three, four bytes", frame(TEXT, KOSME + SMILE), [(TEXT, KOSME + SMILE)]),
    ("a character in two fragments", frame(TEXT, SMILE[:2], 0) + frame(CONTINUE, SMILE[2:]), [(TEXT, SMILE)]),
    ("a character in four fragments", frame(TEXT, SMILE[:1], 0) + frame(CONTINUE, SMILE[1:2], 0)
     + frame(CONTINUE, SMILE[2:3], 0) + frame(CONTINUE, SMILE[3:]), [(TEXT, SMILE)]),
    ("a ping within a character", frame(TEXT, SMILE[:1], 0) + frame(PING) + frame(CONTINUE, SMILE[1:]),
     [(PONG, b""), (TEXT, SMILE)]),
    ("U+FFFF", frame(TEXT, b"\xef\xbf\xbf"), [(TEXT, b"\xef\xbf\xbf")]),
    ("U+10FFFF", frame(TEXT, b"\xf4\x8f\xbf\xbf"), [(TEXT, b"\xf4\x8f\xbf\xbf")]),
    ("NUL", frame(TEXT, b"\0"), [(TEXT, b"\0")]),
    ("beyond U+10FFFF", frame(TEXT, b"\xf4\x90\x80\x80"), [1007]),
    ("surrogate", frame(TEXT, KOSME + b"\xed\xa0\x80edited"), [1007]),
    ("overlong", frame(TEXT, b"\xc0\x80"), [1007]),
    ("stray continuation", frame(TEXT, b"\x80"), [1007]),
    ("cut off", frame(TEXT, SMILE[:3]), [1007]),
    ("cut off in fragments", frame(TEXT, SMILE[:1], 0) + frame(CONTINUE, SMILE[1:3]), [1007]),
    ("wrong in the first fragment: told at once", frame(TEXT, b"\xff", 0), [1007]),
    ("wrong in the middle of a frame: told at once", frame(TEXT, b"ab\xff" + bytes(1000))[:20], [1007]),
    ("the state is not kept", frame(TEXT, b"a", 0) + frame(CONTINUE, b"b") + frame(TEXT, SMILE),
     [(TEXT, b"ab"), (TEXT, SMILE)]),
    ("binary is anything", frame(BINARY, b"\xff\xfe"), [(BINARY, b"\xff\xfe")]),
]


def check_case(c, data, wanted, name):
    if data is not None:
        c.send(data)
    for what in wanted:
        if isinstance(what, int):
            assert c.closed_with()[0] == what, name
            return
        assert c.frame() == what, name
    c.send(frame(PING, b"still there"))
    assert c.frame() == (PONG, b"still there"), name


def test_cases(t):
    for name, data, wanted in CASES:
        with Raw(t) as c:
            check_case(c, data, wanted, name)
    wait_until(lambda: status(t)["open"] == 0, "all are closed")
    assert len(t.find(r"closed /echo")) == len(CASES)


def test_cases_byte_by_byte(t):
    """The same however the bytes are split."""
    for name, data, wanted in CASES:
        if len(data) > 300:
            continue
        with Raw(t) as c:
            for i in range(len(data)):
                try:
                    c.send(data[i : i + 1])
                except OSError:  # it has closed meanwhile
                    break
            check_case(c, None, wanted, name)


def test_split_at_every_position(t):
    """Frames of all header sizes in one stream, cut once at each position."""
    parts = [(TEXT, b"Hello"), (PING, b"ping"), (BINARY, BIG[:126]), (BINARY, BIG[:300]), (TEXT, b"")]
    stream = b"".join(frame(opcode, data) for opcode, data in parts)
    stream += frame(TEXT, b"Hel", 0) + frame(PING) + frame(CONTINUE, b"lo")
    wanted = [(PONG if opcode == PING else opcode, data) for opcode, data in parts] + [(PONG, b""), (TEXT, b"Hello")]
    with Raw(t) as c:
        for cut in range(len(stream) + 1):
            c.send(stream[:cut])
            c.send(stream[cut:])
            for what in wanted:
                assert c.frame() == what, cut


# --- compression ---

LONG = b"The quick brown fox jumps over the lazy dog. " * 40
DEFLATE_CASES = [
    ("small", frame(TEXT, pack(b"Hello"), FIN | RSV1), [(TEXT, b"Hello")]),
    ("not compressed", frame(TEXT, b"Hello"), [(TEXT, b"Hello")]),
    ("long", frame(TEXT, pack(LONG), FIN | RSV1), [(TEXT | RSV1, LONG)]),
    ("long, sent plain", frame(TEXT, LONG), [(TEXT | RSV1, LONG)]),
    ("binary", frame(BINARY, pack(LONG), FIN | RSV1), [(BINARY | RSV1, LONG)]),
    ("empty", frame(TEXT, b"\0", FIN | RSV1), [(TEXT, b"")]),
    ("BFINAL", frame(TEXT, pack(b"Hello", True), FIN | RSV1), [(TEXT, b"Hello")]),
    ("fragments", frame(TEXT, pack(LONG)[:10], RSV1) + frame(CONTINUE, pack(LONG)[10:]), [(TEXT | RSV1, LONG)]),
    ("ping within", frame(TEXT, pack(LONG)[:10], RSV1) + frame(PING, b"p") + frame(CONTINUE, pack(LONG)[10:]),
     [(PONG, b"p"), (TEXT | RSV1, LONG)]),
    ("one after the other", frame(TEXT, pack(b"a"), FIN | RSV1) + frame(TEXT, b"b") + frame(TEXT, pack(b"c"), FIN | RSV1),
     [(TEXT, b"a"), (TEXT, b"b"), (TEXT, b"c")]),
    ("as large as may be", frame(BINARY, pack(bytes(MIB)), FIN | RSV1), [(BINARY, bytes(MIB))]),
    ("one byte more", frame(BINARY, pack(bytes(MIB + 1)), FIN | RSV1), [1009]),
    ("bomb", frame(BINARY, pack(bytes(512 * MIB)), FIN | RSV1), [1009]),
    ("too large as it comes", b"\xc2\xff" + struct.pack(">Q", MIB + MIB // 256 + 65) + b"abcdx", [1009]),
    ("RSV1 on a continuation", frame(TEXT, pack(LONG)[:10], RSV1) + frame(CONTINUE, pack(LONG)[10:], FIN | RSV1), [1002]),
    ("RSV1 on a continuation of plain text", frame(TEXT, b"a", 0) + frame(CONTINUE, b"b", FIN | RSV1), [1002]),
    ("RSV1 on a ping", frame(PING, b"", FIN | RSV1), [1002]),
    ("RSV1 and RSV2", frame(TEXT, pack(b"a"), FIN | RSV1 | RSV2), [1002]),
    ("no such message", frame(TEXT, b"\xff\xff\xff", FIN | RSV1), [1007]),
    ("cut off", frame(TEXT, pack(LONG)[:10], FIN | RSV1), [1007]),
    ("no UTF-8", frame(TEXT, pack(b"\xff" * 10), FIN | RSV1), [1007]),
    ("UTF-8 across fragments", frame(TEXT, pack(KOSME)[:3], RSV1) + frame(CONTINUE, pack(KOSME)[3:]), [(TEXT, KOSME)]),
    ("looks like UTF-8 only when compressed", frame(BINARY, pack(b"\xff"), FIN | RSV1), [(BINARY, b"\xff")]),
]


def test_deflate_cases(t):
    for name, data, wanted in DEFLATE_CASES:
        with Raw(t, deflate=True) as c:
            extension = c.answer.header("Sec-WebSocket-Extensions")
            assert extension == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            c.send(data)
            for what in wanted:
                if isinstance(what, int):
                    assert c.closed_with()[0] == what, name
                    break
                opcode, got = c.frame()
                if opcode & RSV1:
                    got = unpack(got)
                assert (opcode, got) == what, name


def test_deflate_window(t):
    """What is sent keeps to the window the client asked for."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"
    with Raw(t, "/echo", [offer]) as c:
        assert c.answer.header("Sec-WebSocket-Extensions").endswith("; server_max_window_bits=9")
        for data in b"ab" * 5000, os.urandom(600) * 20:  # the latter repeats too far away to be seen
            c.send(frame(BINARY, data))
            opcode, got = c.frame()
            assert opcode == BINARY | RSV1
            assert zlib.decompressobj(-9).decompress(got + b"\0\0\xff\xff") == data


def test_deflate_only_when_both_want_it(t):
    with Raw(t, "/plain", deflate=True) as c:
        assert c.answer.header("Sec-WebSocket-Extensions") is None
        c.send(frame(TEXT, LONG))
        assert c.frame() == (TEXT, LONG)
    with Raw(t, "/echo") as c:
        assert c.answer.header("Sec-WebSocket-Extensions") is None
        c.send(frame(TEXT, LONG))
        assert c.frame() == (TEXT, LONG)


# --- limits, back-pressure ---


def test_limit_of_the_service_and_of_the_configuration(web):
    t = web({"http": {"websocket_max_message": "2K"}})
    for path, limit in ("/small", 1000), ("/echo", 2048), ("/large", 8 * MIB):
        with Raw(t, path) as c:
            c.send(frame(BINARY, bytes(limit)))
            assert c.frame() == (BINARY, bytes(limit))
            c.send(frame(BINARY, bytes(limit + 1)))
            assert c.closed_with()[0] == 1009
    t.wait_log(r"closed /small: 1009")


def memory(t):
    """KiB of memory of the worker's own."""
    with open(f"/proc/{t.worker_pids()[0]}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def push(c, data, seconds):
    """Sends over and over, until nothing is taken for a while. Returns how many bytes were."""
    c.sock.settimeout(seconds)
    sent = 0
    view = memoryview(data * (4 * MIB // len(data) + 1))
    try:
        while sent < 256 * MIB:
            sent += c.sock.send(view[sent % len(data) :])
    except socket.timeout:
        pass
    c.sock.settimeout(DEADLINE)
    return sent


@pytest.mark.parametrize("what", ["messages", "pings", "large messages"])
def test_client_that_sends_and_never_reads(t, what):
    data = {
        "messages": frame(BINARY, bytes(1000)),
        "pings": frame(PING, bytes(125)),
        "large messages": frame(BINARY, bytes(MIB)),
    }[what]
    with Raw(t, receive_buffer=4096) as c:
        before = memory(t)
        sent = push(c, data, 1)
        assert sent < 64 * MIB, "it is held back"
        assert memory(t) - before < 24 * 1024
        assert status(t)["again"] == 0, "a handler that answers each message finds room"
        # and goes on where it stopped when the client reads at last
        n = sent // len(data)
        for _ in range(n):
            opcode, got = c.frame()
            assert opcode == (PONG if what == "pings" else BINARY) and len(got) == len(data) - (
                6 if what == "pings" else 8 if what == "messages" else 14)
        c.send(data[sent % len(data) :] if sent % len(data) else b"")
        if sent % len(data):
            c.frame()
        c.send(frame(TEXT, b"end"))
        assert c.frame() == (TEXT, b"end")


def test_producer_is_held_back_and_goes_on(t):
    with Raw(t, "/flood", receive_buffer=4096) as c:
        wait_until(lambda: status(t)["again"] == 1, "the producer is told to wait")
        assert status(t)["room"] == 1
        before = memory(t)
        for _ in range(3000):
            opcode, data = c.frame()
            assert opcode == BINARY and len(data) == 32768
        assert status(t)["room"] > 1
        assert memory(t) - before < 8 * 1024
        c.send(frame(PING, b"x"))  # what the client says comes through all the same, in its turn
        while c.frame() != (PONG, b"x"):
            pass
        c.send(close_frame(1000))
        while c.frame()[0] != CLOSE:
            pass
    t.wait_log(r"closed /flood: 1000")


def test_broadcast_to_a_slow_client(t):
    """Who does not read holds up nobody else, and is not kept in memory without bound."""
    with Raw(t, "/broadcast", receive_buffer=4096) as slow, Raw(t, "/broadcast") as fast:
        before = memory(t)
        for i in range(300):
            fast.send(frame(BINARY, bytes(60000)))
            assert fast.frame()[0] == BINARY
        assert status(t)["again"] > 100
        assert memory(t) - before < 8 * 1024
        for _ in range(4):
            assert slow.frame() == (BINARY, bytes(60000))


# --- closing ---


def test_close_by_the_service(t):
    with Raw(t, "/close") as c:
        c.send(frame(TEXT, b"4000 enough") + frame(TEXT, b"4001 not heard"))
        assert c.frame() == (CLOSE, struct.pack(">H", 4000) + b"enough")
        c.send(frame(TEXT, b"4002 not heard either") + frame(PING, b"nor this"))
        c.send(close_frame(4000, b"fine"))
        c.sock.shutdown(socket.SHUT_WR)
        assert c.closed()
    t.wait_log(r"closing: again -32, send -32")
    t.wait_log(r"closed /close: 4000 'fine' send -32 close -32")
    assert len(t.find(r"closing: |closed /close")) == 2


def test_close_codes_of_the_service(t):
    with Raw(t, "/close") as c:
        for code in 0, 999, 1002, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000, 70000:
            c.send(frame(TEXT, b"%d" % code))
            assert c.frame() == (TEXT, b"Invalid argument"), code
        c.send(frame(TEXT, b"1000 " + b"r" * 124))
        assert c.frame() == (TEXT, b"Invalid argument")
    for code in 1000, 1001, 1003, 1007, 1008, 1009, 1011, 1014, 3000, 4999:
        with Raw(t, "/close") as c:
            c.send(frame(TEXT, b"%d" % code + b" " + b"r" * 123))
            assert c.frame() == (CLOSE, struct.pack(">H", code) + b"r" * 123)


def test_close_that_is_not_answered(t):
    with Raw(t, "/close") as c:
        began = time.monotonic()
        c.send(frame(TEXT, b"1000"))
        assert c.frame()[0] == CLOSE

        def is_over():  # what is said meanwhile does not help
            try:
                c.send(frame(PING))
            except OSError:
                return True

        wait_until(is_over, "it ends")
        assert time.monotonic() - began > 4
    t.wait_log(r"closed /close: 1006")


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_client_gone(t, how):
    with Raw(t) as c:
        c.send(frame(TEXT, b"half a mess", 0) + frame(CONTINUE, b"age, and then")[:6])
        if how == "reset":
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            c.sock.shutdown(socket.SHUT_WR)
            assert c.closed()
    t.wait_log(r"closed /echo: 1006")
    assert status(t)["open"] == 0


def test_send_is_checked(t):
    with Raw(t, "/badly") as c:
        c.send(frame(TEXT))
        assert c.frame() == (TEXT, b"-22 -22 -90 -22")
        assert c.frame() == (BINARY, bytes(16 * MIB))


def test_ping_when_idle(web):
    t = web({"http": {"websocket_ping": "2s"}})
    with Raw(t) as c, Raw(t) as silent:
        for _ in range(2):
            assert c.frame() == (PING, b"")
            c.send(frame(PONG))
        assert silent.frame() == (PING, b"")
        assert silent.closed(), "no answer to the ping"
        t.wait_log(r"closed /echo: 1006")
        c.send(frame(TEXT, b"x"))
        while c.frame() != (TEXT, b"x"):
            pass
        assert status(t)["open"] == 1


def test_drain(web):
    t = web()
    with Raw(t) as c, Raw(t) as silent, Raw(t, "/close") as closing:
        closing.send(frame(TEXT, b"4000"))
        assert closing.frame()[0] == CLOSE
        t.signal(signal.SIGTERM)
        assert c.frame() == (CLOSE, struct.pack(">H", 1001))
        c.send(close_frame(1001))
        c.sock.shutdown(socket.SHUT_WR)
        assert c.closed()
        assert silent.frame() == (CLOSE, struct.pack(">H", 1001))
        assert t.wait_exit() == 0
    assert len(t.find(r"closed /echo: 1001")) == 2
    assert len(t.find(r"closed /close: 1006")) == 1
    assert t.find(r"module stops with 0 open")


def test_stop_at_once(t):
    with Raw(t) as c, Raw(t, deflate=True) as d:
        c.send(frame(TEXT, b"half", 0))
        d.send(frame(TEXT, pack(LONG), FIN | RSV1))
        d.frame()
        t.stop_at_once()  # nobody is asked: all the more must nothing be left


def test_reload(t):
    """The old generation says goodbye, the new one serves."""
    with Raw(t) as c:
        t.signal(signal.SIGHUP)
        assert c.frame() == (CLOSE, struct.pack(">H", 1001))
        c.send(close_frame(1001))
    with Raw(t) as c:
        c.send(frame(TEXT, b"x"))
        assert c.frame() == (TEXT, b"x")


# --- clients nobody here wrote ---


def url(t, path):
    host, port = t.address()
    return f"ws://{host}:{port}{path}"


async def converse(t, **options):
    async with websockets.connect(url(t, "/large"), max_size=None, **options) as ws:
        for n in (0, 1, 125, 126, 65535, 65536, 3 * MIB):
            for data in "é" * (n // 2), os.urandom(n), b"x" * n:
                await ws.send(data)
                assert await ws.recv() == data
        await ws.send(["Hel", "", "lo", " ", "world"])  # in fragments
        assert await ws.recv() == "Hello world"
        await asyncio.wait_for(await ws.ping(b"data"), DEADLINE)
        for i in range(1000):
            await ws.send(f"message {i}")
        assert [await ws.recv() for _ in range(1000)] == [f"message {i}" for i in range(1000)]
    assert ws.close_code == 1000


def test_python_websockets(t):
    asyncio.run(converse(t))
    asyncio.run(converse(t, compression=None))
    t.wait_log(r"closed /large: 1000", count=2)


PAGE = """
const done = arguments[arguments.length - 1], got = [];
const ws = new WebSocket(arguments[0], ["chat.v1", "x"]);
ws.binaryType = "arraybuffer";
const long = "é€😀 text ".repeat(20000), bytes = new Uint8Array(300000).map((x, i) => i * i);
ws.onopen = () => { ws.send("hello"); ws.send(long); ws.send(bytes); ws.send(""); };
ws.onmessage = e => {
    if (e.data instanceof ArrayBuffer) {
        const b = new Uint8Array(e.data);
        got.push(b.length == bytes.length && b.every((x, i) => x == bytes[i]));
    } else {
        got.push(e.data === long ? "long" : e.data);
    }
    if (got.length == 5) ws.close(4321, "that is all");
};
ws.onclose = e => done(JSON.stringify([got, ws.protocol, ws.extensions, e.code, e.reason, e.wasClean]));
ws.onerror = e => got.push("error");
"""


def test_browser(browser, t):
    host, port = t.address()
    browser.get(f"http://{host}:{port}/status")  # its own origin
    result = json.loads(browser.execute_async_script(PAGE, url(t, "/greet")))
    got, protocol, extensions, code, reason, clean = result
    assert got == ["127.0.0.1 chat.v1", "hello", "long", True, ""]
    assert protocol == "chat.v1" and extensions.startswith("permessage-deflate")
    assert clean and code == 4321
    t.wait_log(r"closed /greet: 4321 'that is all'")
