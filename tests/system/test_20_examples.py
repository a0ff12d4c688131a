"""The examples, a new module and tine.pc, each through the real binary and with clients that nobody here wrote."""

import asyncio
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import zlib

import pytest
import websockets

import harness
from harness import DEADLINE, REPOSITORY, Client, wait_until

NAMES = ["compute", "hello", "json", "streaming", "tcp", "upload", "websocket"]
BUILD = pathlib.Path(os.environ.get("TINED", REPOSITORY / "build" / "tined")).parent
NEW_MODULE = REPOSITORY / "scripts" / "new-module"
TOKEN = "Authorization: Bearer secret"


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, **options)


def curl(*arguments, data=None):
    """(status, header fields in lower case, body) of one request."""
    command = ["curl", "-s", "-S", "-i", "--http1.1", "--max-time", str(DEADLINE), *map(str, arguments)]
    raw = subprocess.run(command, input=data, capture_output=True, check=True, timeout=DEADLINE + 5).stdout
    while True:  # interim answers come before the final one
        head, _, raw = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        status = int(lines[0].split()[1])
        if status >= 200:
            break
    fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
    return status, fields, raw


def memory(pid):
    """Bytes of a process's own memory."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", text)[1]) * 1024


def settings(text, changes):
    """The text of a configuration with other values for some of its keys."""
    for key, value in {"address": "127.0.0.1:0", **changes}.items():
        old = r" .*\.so" if key == "path" else ".*"  # not those that are built in
        text, n = re.subn(rf"^{key} ={old}$", f"{key} = {value}", text, flags=re.M)
        assert n == 1, f"{key} in\n{text}"
    return text


@pytest.fixture
def example(tined):
    """Starts an example as Meson built it, with its own configuration but for the changes."""

    def start(name, **changes):
        if not (BUILD / "examples" / f"{name}.so").exists():
            pytest.skip(f"{BUILD} has no {name}.so: a library it needs is not installed")
        text = (BUILD / "examples" / f"{name}.ini").read_text()
        return tined(text=settings(text, {"path": BUILD / "examples" / f"{name}.so", **changes})).start()

    return start


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `meson install` puts where, under another root; the environment in which pkg-config looks there."""
    if not (BUILD / "build.ninja").exists():
        pytest.skip(f"{BUILD} is no build folder")
    root = tmp_path_factory.mktemp("installed")
    command = ["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root]
    subprocess.run(command, check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)
    pc = next(root.rglob("tine.pc"))
    return {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(root), "PKG_CONFIG_LIBDIR": str(pc.parent)}


# --- building ---


@pytest.mark.parametrize("name", NAMES)
def test_line_in_the_comment(folder, name):
    """The cc line that the example itself gives makes what its configuration loads."""
    (folder / "include").symlink_to(REPOSITORY / "include")
    shutil.copytree(REPOSITORY / "examples" / name, folder / "examples" / name, ignore=shutil.ignore_patterns("*.so"))
    source = folder / "examples" / name / f"{name}.c"
    lines = re.findall(r"^ \*\t(cc .*)$", source.read_text(), re.M)
    assert len(lines) == 1
    built = run("sh", "-c", lines[0], cwd=folder)
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    # What has to be there before it can be served; --check looks at no folder.
    checked = run(harness.TINED, "-c", source.with_suffix(".ini"), "--check")
    assert checked.returncode == 0, checked.stderr


def test_pkg_config(installed):
    def pkg_config(*arguments):
        result = run("pkg-config", *arguments, "tine", env=installed)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    include = pathlib.Path(pkg_config("--cflags").removeprefix("-I"))
    assert {p.name for p in (include / "tine").iterdir()} == {p.name for p in (REPOSITORY / "include/tine").iterdir()}
    assert pkg_config("--libs") == ""
    assert pkg_config("--modversion") == run(harness.TINED, "--version").stdout.split()[-1]
    assert pkg_config("--variable=moduledir").endswith("/tined")


def test_out_of_tree_module(tined, folder, installed):
    """One cc line, with nothing of this repository in sight."""
    shutil.copy(REPOSITORY / "examples/hello/hello.c", folder)
    built = run("sh", "-c", "cc -shared -fPIC $(pkg-config --cflags tine) -o hello.so hello.c", cwd=folder, env=installed)
    assert (built.returncode, built.stderr) == (0, "")
    text = (REPOSITORY / "examples/hello/hello.ini").read_text()
    t = tined(text=settings(text, {})).start()
    assert curl(t.url("/"))[2] == b"Hello, World!\n"


# --- hello ---


@pytest.mark.parametrize(
    "path, status, body",
    [
        ("/", 200, "Hello, World!\n"),
        ("/hello/you", 200, "Hello, you!\n"),
        ("/hello/J%C3%BCrgen", 200, "Hello, Jürgen!\n"),
        ("/hello/a%20b", 200, "Hello, a b!\n"),
        ("/hello/" + "x" * 300, 414, None),
        ("/hello", 200, "Hello, World!\n"),
    ],
)
def test_hello(example, path, status, body):
    got, fields, content = curl(example("hello").url(path))
    assert got == status
    if body is not None:
        assert (content.decode(), fields["content-type"]) == (body, "text/plain; charset=utf-8")


def test_hello_option(example):
    t = example("hello", greeting="Good day")
    assert curl(t.url("/hello/you"))[2] == b"Good day, you!\n"
    status, fields, body = curl("-I", t.url("/hello/you"))
    assert (status, fields["content-length"], body) == (200, "15", b"")
    status, fields, _ = curl("-X", "POST", t.url("/hello/you"))
    assert status == 405
    assert {"GET", "HEAD"} <= set(fields["allow"].split(", "))


# --- json ---


def api(t, method, path, body=None, token=TOKEN):
    arguments = ["-X", method, t.url(path)] + (["-H", token] if token else [])
    if body is not None:
        arguments += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    status, fields, content = curl(*arguments, data=body and body.encode("utf-8", "surrogateescape"))
    if content:
        assert fields["content-type"] == "application/json"
    return status, json.loads(content) if content else None, fields


def test_json(example):
    t = example("json")
    assert api(t, "GET", "/items")[:2] == (200, [])
    status, item, fields = api(t, "POST", "/items", '{"name": "tea", "price": 3}')
    assert (status, item, fields["location"]) == (201, {"name": "tea", "price": 3, "id": 1}, "items/1")
    assert api(t, "POST", "/items", '{"name": "Käse", "id": 77}')[1] == {"name": "Käse", "id": 2}
    assert api(t, "GET", "/items")[1] == [item, {"name": "Käse", "id": 2}]
    assert api(t, "GET", "/items/1")[:2] == (200, item)
    assert api(t, "DELETE", "/items/1")[:2] == (204, None)
    for method in "GET", "DELETE":
        assert api(t, method, "/items/1")[:2] == (404, {"error": "there is no such item"})
    assert api(t, "POST", "/items", '{"name": "next"}')[1]["id"] == 3


@pytest.mark.parametrize("body", ["", "{", "[1]", '"x"', "{}", '{"name": 1}', '{"name": "a", "name": "b"}', '{"name": "\udcff"}'])
def test_json_refused(example, body):
    t = example("json")
    status, answer, _ = api(t, "POST", "/items", body)
    assert (status, list(answer)) == (400, ["error"])
    assert api(t, "GET", "/items")[1] == []


@pytest.mark.parametrize("token", [None, "Bearer secreT", "Bearer secrets", "Bearer s", "Bearer", "Basic secret"])
@pytest.mark.parametrize("path", ["/items", "/items/1", "/nowhere"])
def test_json_token(example, token, path):
    """The middleware guards everything, also what is not there."""
    token = token and f"Authorization: {token}"
    status, answer, fields = api(example("json"), "GET", path, token=token)
    assert (status, list(answer), fields["www-authenticate"]) == (401, ["error"], "Bearer")


def test_json_answers(example):
    t = example("json")
    assert api(t, "GET", "/nowhere")[0] == 404
    assert api(t, "GET", "/items/" + "1" * 100)[0] == 404
    status, fields, _ = curl("-X", "PUT", "-H", TOKEN, t.url("/items/1"))
    assert status == 405
    assert {"GET", "HEAD", "DELETE"} <= set(fields["allow"].split(", "))


def test_json_needs_a_token(tined):
    text = (BUILD / "examples" / "json.ini").read_text()
    t = tined(text=settings(text, {"path": BUILD / "examples" / "json.so", "token": ""}))
    assert t.run() != 0
    assert any("module:json.token: write a token" in error for error in t.errors())


# --- ratelimit ---


def test_ratelimit(example):
    """Whichever worker they come to, and over a crash of all of them."""
    t = example("ratelimit", period="1h")  # one comes back in 6 minutes
    statuses = [curl(t.url(path))[0] for path in ("/hello", "/hello", "/", "/hello", "/", "/hello", "/")]
    assert statuses == [200] * 5 + [429] * 2
    before = set(t.worker_pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: t.serving_pids() and not before & set(t.worker_pids()), "others serve in their place")
    status, fields, _ = curl(t.url("/hello"))
    assert (status, 0 < int(fields["retry-after"]) <= 360) == (429, True)


def test_ratelimit_numbers(example):
    t = example("ratelimit", requests=10, burst=3, period="1h")  # nothing comes back while this runs
    assert [curl(t.url("/hello"))[1]["x-ratelimit-remaining"] for _ in range(2)] == ["2", "1"]
    assert curl(t.url("/"))[2] == b"3 requests served, 0 refused, by all workers\n"
    assert curl(t.url("/"))[0] == 429
    t.path.write_text(t.path.read_text().replace("burst = 3", "burst = 6"))
    t.reload()
    # A bucket that was empty is as far from full as before: there are three more now.
    assert [curl(t.url("/"))[0] for _ in range(4)] == [200] * 3 + [429]


def test_ratelimit_options(example, tined):
    t = example("ratelimit")
    t.path.write_text(t.path.read_text().replace("requests = 10", "requests = 1000000").replace("1m", "999ms"))
    assert any("module:ratelimit.period: must be 1s to 366d" in e for e in t.reload_fails())
    t.path.write_text(t.path.read_text().replace("999ms", "1s").replace("clients = 10000", "clients = 1000000"))
    assert any("raise [workers] shared_memory" in e for e in t.reload_fails())


# --- upload ---

MIB = 1 << 20


@pytest.fixture
def uploads(folder):
    path = folder / "uploads"
    path.mkdir()
    return path


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 100_000, 64 * MIB])
def test_upload(example, folder, uploads, size, chunked):
    """All of it arrives, and the worker's memory does not grow with it."""
    t = example("upload", folder=uploads)
    data = os.urandom(size)
    source = folder / "source"
    source.write_bytes(data)
    what = {"data": data} if chunked else {}  # curl cannot know how much comes from a pipe
    before = {pid: memory(pid) for pid in t.worker_pids()}
    status, fields, body = curl("-T", "-" if chunked else source, t.url("/files/some.bin"), **what)
    assert (status, fields["content-type"]) == (201, "application/json")
    assert json.loads(body) == {"name": "some.bin", "size": size, "crc32": f"{zlib.crc32(data):08x}"}
    assert (uploads / "some.bin").read_bytes() == data
    for pid, bytes_before in before.items():
        assert memory(pid) - bytes_before < 8 * MIB


def test_upload_overwrites_nothing(example, uploads):
    t = example("upload", folder=uploads)
    (uploads / "there").write_text("mine")
    assert curl("-T", "-", t.url("/files/there"), data=b"yours")[0] == 409
    assert (uploads / "there").read_text() == "mine"


def test_uploads_of_one_name_at_once(example, uploads):
    """The first one that is complete gets the name."""
    t = example("upload", folder=uploads)
    head = b"PUT /files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    with t.connect() as slow, t.connect() as fast:
        slow.send(head + b"sl")
        fast.send(head + b"fast")
        assert fast.response().status == 201
        slow.send(b"ow")
        assert slow.response().status == 409
    assert (uploads / "x").read_text() == "fast"


@pytest.mark.parametrize("name", [".hidden", "a%20b", "a%5Cb", "%C3%BC", "x" * 128])
def test_upload_name(example, uploads, name):
    assert curl("-T", "-", example("upload", folder=uploads).url(f"/files/{name}"), data=b"x")[0] == 400
    assert not list(uploads.iterdir())


@pytest.mark.parametrize("chunked", [False, True])
def test_upload_too_large(example, folder, uploads, chunked):
    t = example("upload", folder=uploads, max_size="64K")
    source = folder / "source"
    arguments = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    for size, expected in ((65536, 201), (65537, 413)):
        source.write_bytes(b"x" * size)
        assert curl("-T", source, *arguments, t.url(f"/files/{size}"))[0] == expected
    assert [p.name for p in uploads.iterdir()] == ["65536"]


@pytest.mark.parametrize("leave", ["close", "half"])
def test_upload_broken_off(example, uploads, leave):
    """Nothing is left of it: no file, no descriptor."""
    t = example("upload", folder=uploads)
    before = {pid: harness.n_descriptors(pid) for pid in t.worker_pids()}
    c = t.connect()
    c.send(b"PUT /files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nfirst")
    wait_until(lambda: sum(map(harness.n_descriptors, before)) > sum(before.values()) + 1, "it is being written")
    if leave == "half":
        c.sock.shutdown(socket.SHUT_WR)
        c.rest()
    c.close()
    wait_until(lambda: {pid: harness.n_descriptors(pid) for pid in before} == before, "it is given up")
    assert not list(uploads.iterdir())


def test_upload_rate(example, folder, uploads):
    """Reading is paused, so that the client is held to the rate."""
    t = example("upload", folder=uploads, rate="1M")
    source = folder / "source"
    source.write_bytes(b"x" * (MIB // 2))
    begun = time.monotonic()
    assert curl("-T", source, t.url("/files/x"))[0] == 201
    assert time.monotonic() - begun > 0.4
    assert (uploads / "x").stat().st_size == MIB // 2


# --- streaming ---


def lines(n):
    return b"".join(b"line %d\n" % i for i in range(1, n + 1))


@pytest.mark.parametrize("n", [1, 1000, 300_000])
def test_lines(example, n):
    status, fields, body = curl(example("streaming").url(f"/lines/{n}"))
    assert (status, fields["transfer-encoding"], "content-length" in fields) == (200, "chunked", False)
    assert body == lines(n)


def test_lines_to_an_old_client(example):
    """HTTP/1.0 has no chunks: the end of the connection is the end of the answer."""
    status, fields, body = curl("--http1.0", example("streaming").url("/lines/100000"))
    assert (status, "transfer-encoding" in fields) == (200, False)
    assert body == lines(100_000)


@pytest.mark.parametrize("n", ["0", "x", "-1", "+1", "1x", "1000000000", "9" * 30])
def test_lines_refused(example, n):
    assert curl(example("streaming").url(f"/lines/{n}"))[0] == 404


def test_lines_to_a_slow_reader(example):
    """Who does not read costs no memory, keeps nobody waiting, and gets all of it in the end."""
    t = example("streaming")
    n = 1_000_000
    before = {pid: memory(pid) for pid in t.worker_pids()}
    with Client(t.address(), receive_buffer=4096) as slow:
        slow.send(f"GET /lines/{n} HTTP/1.0\r\n\r\n".encode())
        wait_until(lambda: slow.sock.recv(1, socket.MSG_PEEK), "it begins")
        time.sleep(0.2)
        assert curl(t.url("/lines/1000"))[2] == lines(1000)
        for pid, bytes_before in before.items():
            assert memory(pid) - bytes_before < 2 * MIB
        assert slow.rest().partition(b"\r\n\r\n")[2] == lines(n)


def test_lines_and_nobody_reads_on(example):
    t = example("streaming")
    for _ in range(3):
        with t.connect() as c:
            c.send(b"GET /lines/999999999 HTTP/1.1\r\nHost: a\r\n\r\n")
            c.sock.recv(1000)
    assert curl(t.url("/lines/1"))[0] == 200


def read_events(stream, n):
    """So many events of a stream, each as a dictionary."""
    events = []
    while len(events) < n:
        event = {}
        while (line := stream.readline().decode()) not in ("\n", ""):
            if not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                event[name] = value
        assert line, "the stream has ended"
        if event:
            events.append(event)
    return events


@pytest.fixture
def listen():
    """curl that goes on listening to a stream of events."""
    clients = []

    def begin(url):
        clients.append(subprocess.Popen(["curl", "-s", "-N", "--max-time", str(DEADLINE), url], stdout=subprocess.PIPE))
        return clients[-1]

    yield begin
    for client in clients:
        client.kill()
        client.wait()
        client.stdout.close()


def test_clock(example, listen):
    t = example("streaming", interval="50ms")
    clients = [listen(t.url("/clock")) for _ in range(3)]
    for client in clients:
        events = read_events(client.stdout, 3)
        assert [sorted(e) for e in events] == [["data", "event", "id"]] * 3
        first = int(events[0]["id"])
        assert [int(e["id"]) for e in events] == [first, first + 1, first + 2]
        assert all(e["event"] == "tick" for e in events)
        told = datetime.datetime.strptime(events[-1]["data"], "%Y-%m-%dT%H:%M:%S%z")
        assert abs((datetime.datetime.now(datetime.timezone.utc) - told).total_seconds()) < DEADLINE
    clients[0].kill()
    clients[0].wait()
    read_events(clients[1].stdout, 3)  # the others are told on


def test_clock_ends_when_the_worker_drains(example, listen):
    t = example("streaming", interval="50ms")
    client = listen(t.url("/clock"))
    read_events(client.stdout, 1)
    t.stop()
    client.stdout.read()
    assert client.wait(DEADLINE) == 0  # in good order, says curl


# --- websocket ---


def websocket(t, path, play):
    """Runs a coroutine with connect(), which opens another connection to the path."""

    def connect(**options):
        return websockets.connect(f"ws://127.0.0.1:{t.port()}{path}", open_timeout=DEADLINE, close_timeout=DEADLINE, **options)

    asyncio.run(asyncio.wait_for(play(connect), DEADLINE))


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websocket_echo(example, compression):
    async def play(connect):
        async with connect(compression=compression) as ws:
            for message in "", "a", "Grüße, 世界", "x" * 70_000, b"", bytes(range(256)), os.urandom(70_000):
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["in ", "", "parts"])
            assert await ws.recv() == "in parts"
            await (await ws.ping())

    websocket(example("websocket"), "/echo", play)


def test_websocket_chat(example):
    async def play(connect):
        async with connect() as a, connect() as b:
            async with connect() as c:
                await c.send("hello")
                for ws in a, b, c:
                    assert await ws.recv() == "hello"
            await a.send(b"two left")
            for ws in a, b:
                assert await ws.recv() == b"two left"

    websocket(example("websocket"), "/chat", play)


def test_websocket_message_too_large(example):
    async def play(connect):
        async with connect() as ws, connect() as other:
            await ws.send("x" * 4096)
            assert len(await ws.recv()) == 4096
            await ws.send("x" * 4097)
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await ws.recv()
            assert closed.value.rcvd.code == 1009
            assert len(await other.recv()) == 4096
            await other.send("still here")
            assert await other.recv() == "still here"

    websocket(example("websocket"), "/chat", play)


def test_websocket_goes_away(example):
    t = example("websocket")

    async def play(connect):
        async with connect() as ws:
            await ws.send("x")
            await ws.recv()
            t.signal(signal.SIGTERM)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd.code == 1001

    websocket(t, "/chat", play)
    assert t.wait_exit() == 0


def test_websocket_slow_member(example):
    """Who does not read is disconnected; the others are not kept waiting, and memory stays where it was."""
    t = example("websocket")
    [worker] = t.worker_pids()
    before = memory(worker)

    async def play(connect):
        async with connect(compression=None) as ws:
            with Client(t.address(), receive_buffer=4096) as slow:
                slow.send(
                    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
                slow.sock.recv(4096)
                for _ in range(2500):
                    await ws.send("x" * 4000)
                    await ws.recv()
                assert memory(worker) - before < 8 * MIB
                assert len(slow.rest()) < 10_000_000

    websocket(t, "/chat", play)


@pytest.mark.parametrize("path", ["/echo", "/chat"])
def test_websocket_wants_a_handshake(example, path):
    assert curl(example("websocket").url(path))[0] in (400, 426)


# --- tcp ---


def test_tcp(example):
    t = example("tcp")
    command = ["curl", "-s", "-N", "--max-time", str(DEADLINE), f"telnet://127.0.0.1:{t.port('echo')}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        client.stdin.write(b"one\ntwo\n")
        client.stdin.close()
        assert client.stdout.read(8) == b"one\ntwo\n"
        client.kill()


def test_tcp_end(example):
    """The client's last byte is echoed, then its end is answered."""
    t = example("tcp")
    with t.connect("echo") as c:
        c.send(b"x" * 10_000)
        c.sock.shutdown(socket.SHUT_WR)
        assert c.rest() == b"x" * 10_000


def test_tcp_to_a_slow_reader(example):
    """Who does not read its echo can send no more, and gets all of it in the end."""
    t = example("tcp")
    before = {pid: memory(pid) for pid in t.worker_pids()}
    data, sent = os.urandom(1 << 16), 0
    with Client(t.address("echo"), receive_buffer=4096) as c:
        c.sock.settimeout(0.5)
        with pytest.raises(socket.timeout):
            while sent < 1 << 30:
                sent += c.sock.send(data[sent % len(data) :])
        for pid, bytes_before in before.items():
            assert memory(pid) - bytes_before < 2 * MIB
        c.sock.settimeout(DEADLINE)
        got = 0
        while got < sent:
            piece = c.sock.recv(min(65536, sent - got))
            assert piece == (data * 3)[got % len(data) :][: len(piece)]
            got += len(piece)
        c.send(b"end")
        assert c.sock.recv(3) == b"end"


def test_tcp_idle(example):
    t = example("tcp", idle="1s")
    with t.connect("echo") as c:
        c.send(b"x")
        assert c.sock.recv(1) == b"x"
        assert c.closed()


# --- scripts/new-module ---


@pytest.mark.parametrize("name", ["shop", "my-shop_2"])
def test_new_module(tined, folder, name):
    made = run(NEW_MODULE, name, cwd=folder)
    assert made.returncode == 0, made.stderr
    assert f"cd {name}" in made.stdout
    assert sorted(os.listdir(folder / name)) == sorted(["Makefile", f"{name}.c", f"{name}.ini"])
    built = run("make", "CFLAGS=-Wall -Wextra -Wshadow -Wno-unused-parameter -Werror", cwd=folder / name)
    assert (built.returncode, built.stderr) == (0, "")
    checked = run("make", "check", f"TINED={harness.TINED}", cwd=folder / name)
    assert checked.returncode == 0, checked.stderr
    text = (folder / name / f"{name}.ini").read_text()
    t = tined(text=settings(text, {"path": folder / name / f"{name}.so", "greeting": "Servus"})).start()
    assert curl(t.url("/"))[2] == f"{name} works; try /hello/you\n".encode()
    with t.connect() as c:
        assert c.request("/hello/you").body == b"Servus, you! You are number 1.\n"
        assert c.request("/hello/me").body == b"Servus, me! You are number 2.\n"


def test_new_module_elsewhere(folder):
    made = run(NEW_MODULE, "shop", folder / "a folder" / "deeper", cwd="/")
    assert made.returncode == 0, made.stderr
    built = run("make", cwd=folder / "a folder" / "deeper")
    assert built.returncode == 0, built.stderr


@pytest.mark.parametrize("there", ["shop.c", "shop.ini", "Makefile"])
def test_new_module_overwrites_nothing(folder, there):
    (folder / there).write_text("mine")
    made = run(NEW_MODULE, "shop", folder)
    assert (made.returncode, made.stdout) == (1, "")
    assert f"{folder / there} is there already" in made.stderr
    assert os.listdir(folder) == [there]
    assert (folder / there).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "Shop", "9lives", "-x", "--help", "a b", "a/b", "../x", ".x", "a.b", "ü", "x" * 33, "a\nb"])
def test_new_module_name(folder, name):
    made = run(NEW_MODULE, name, cwd=folder)
    assert (made.returncode, made.stdout) == (1, "")
    assert "is no name for a module" in made.stderr
    assert not os.listdir(folder)


@pytest.mark.parametrize("arguments", [(), ("a", "b", "c")])
def test_new_module_usage(folder, arguments):
    made = run(NEW_MODULE, *arguments, cwd=folder)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.startswith("usage: scripts/new-module NAME")
    assert not os.listdir(folder)
