"""Ready-made work on the thread pool: files, names, digests and keys, compression. The module is ready_module.c."""

import gzip
import hashlib
import os
import select
import signal
import subprocess
import threading

import pytest

from conftest import HERE
from harness import DEADLINE, Gone, n_descriptors, wait_until

MIB = 1 << 20


@pytest.fixture(scope="session")
def ready(build_module):
    return build_module(HERE / "ready_module.c", "-D_GNU_SOURCE")


@pytest.fixture
def serving(start, ready, folder):
    def make(workers=None, **options):
        files = folder / "files"
        files.mkdir()
        settings = {"count": 1, "crash_limit": "100/1s", "backoff_min": "1ms", "probe": "off", **(workers or {})}
        module = {"path": ready, "mount": "/r", "listener": "web", "folder": files, **options}
        t = start({"workers": settings, "module:r": module, "http": {"max_body": "64M"}})
        t.files = files
        return t

    return make


def ask(t, path, body=None):
    """The body of the answer, or "500 text"."""
    with t.connect() as c:
        answer = exchange(c, path, body)
    return answer.body if answer.status == 200 else f"{answer.status} {answer.body.decode()}"


def exchange(c, path, body=None):
    send(c, path, body)
    return c.response()


def send(c, path, body=None):
    if body is None:
        c.send(f"GET /r{path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    else:
        c.send(f"POST /r{path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def stream_head(length):
    """Of HTTP/1.0, which is answered until the connection closes."""
    return f"POST /r/stream HTTP/1.0\r\nHost: test\r\nContent-Length: {length}\r\n\r\n".encode()


def body_of(answer):
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b" 200 " in head, head
    return body


def test_files(serving):
    t = serving()
    data = os.urandom(MIB)
    before = n_descriptors(t.worker_pids()[0])
    assert ask(t, "/save/a", data) == str(MIB).encode()
    assert (t.files / "a").read_bytes() == data
    assert ask(t, "/load/a") == data
    assert ask(t, "/copy/a/b", b"") == str(MIB).encode()
    assert ask(t, "/save/a", b"new") == b"3"
    assert ask(t, "/load/a") == b"new"
    assert ask(t, "/load/b") == data
    assert ask(t, "/list") == b"a\nb\n"
    wait_until(lambda: n_descriptors(t.worker_pids()[0]) <= before + 1, "nothing is left open")


def test_errors_say_what_and_where(serving):
    t = serving()
    assert ask(t, "/load/none") == f"500 load: {t.files}/none: No such file or directory"
    (t.files / "large").write_bytes(bytes(MIB + 1))
    assert ask(t, "/load/large") == f"500 load: {t.files}/large: more than {MIB} bytes"
    assert ask(t, "/copy/none/b", b"") == f"500 copy: {t.files}/none -> {t.files}/b: No such file or directory"
    assert ask(t, "/digest/MD5", b"x") == "500 refused -22"
    assert ask(t, "/key/P-1") == "500 refused -22"
    assert ask(t, "/gunzip", b"no gzip") == "500 inflate: incorrect header check"
    assert ask(t, "/list") == b"large\n"


def test_names(serving):
    t = serving()
    assert ask(t, "/lookup/localhost") == b"7f000001"
    assert ask(t, "/lookup/192.0.2.1") == b"c0000201"
    assert ask(t, "/lookup/no%20name").startswith("500 lookup: no name: ")


def test_digests_and_keys(serving, folder):
    t = serving()
    data = os.urandom(3 * MIB)
    assert ask(t, "/digest/SHA-256", data) == hashlib.sha256(data).digest()
    assert ask(t, "/digest/sha512", b"") == hashlib.sha512(b"").digest()
    for algorithm, check in ("RSA", "rsa"), ("P-256", "ec"):
        pair = folder / "pair.pem"
        pair.write_bytes(ask(t, f"/key/{algorithm}"))
        private = subprocess.run(["openssl", check, "-in", pair, "-pubout"], check=True, capture_output=True).stdout
        assert pair.read_bytes().endswith(private)  # the public half is that of the private one


def test_compression(serving):
    t = serving()
    data = b"".join(b"line %d of many\n" % i for i in range(40000))
    packed = ask(t, "/gzip", data)
    assert len(packed) < len(data) / 2
    assert gzip.decompress(packed) == data
    assert ask(t, "/gunzip", gzip.compress(data)) == data
    bomb = gzip.compress(bytes(100 * MIB))
    assert ask(t, "/gunzip", bomb) == f"500 inflate: more than {MIB} bytes come out"


def test_stream_holds_up_its_source(serving):
    """A client that does not read its answer cannot make the worker take in all that it has to send."""
    t = serving()
    data = os.urandom(16 * MIB)
    head = stream_head(len(data))
    with t.connect(receive_buffer=64 << 10) as c:
        c.sock.setblocking(False)
        left = memoryview(head + data)
        while select.select([], [c.sock], [], 1)[1]:
            left = left[c.sock.send(left[: 64 << 10]) :]
            assert left, "it has taken in everything"
        c.sock.settimeout(DEADLINE)
        sender = threading.Thread(target=c.sock.sendall, args=(left,))
        sender.start()
        answer = c.rest()
        sender.join()
    assert gzip.decompress(body_of(answer)) == data


def test_stream_of_a_client_that_goes(serving):
    t = serving()
    pid = t.worker_pids()[0]
    before = n_descriptors(pid)
    for sent in 0, 100, MIB:
        with t.connect() as c:
            c.send(stream_head(9999999) + os.urandom(sent))
    wait_until(lambda: n_descriptors(pid) <= before, "they are gone")
    data = b"still here" * 1000
    with t.connect() as c:
        c.send(stream_head(len(data)) + data)
        assert gzip.decompress(body_of(c.rest())) == data


def test_the_loop_goes_on(serving):
    """Others are answered while passwords are hashed, on the same loop."""
    t = serving()
    with t.connect() as slow:
        for _ in range(2):  # one after the other
            send(slow, "/scrypt", b"password")
        for _ in range(5):
            assert t.get("/r/list").status == 200
        while select.select([slow.sock], [], [], 0)[0]:
            slow._more()
        assert slow.buffer.count(b"HTTP/1.1 200 ") < 2, "the slow ones were first"
        expected = hashlib.scrypt(b"password", salt=b"salt", n=32768, r=8, p=8, maxmem=MIB * 64, dklen=32)
        assert [slow.response().body for _ in range(2)] == [expected] * 2


def test_saved_files_are_whole_whatever_dies(serving):
    """The worker is killed again and again while it writes: at the path there is one of the files that were saved."""
    t = serving()
    versions = [bytes([65 + i]) * MIB for i in range(4)]
    assert ask(t, "/save/f", versions[0]) == str(MIB).encode()
    stopping = False
    saved = []

    def save():
        while not stopping:
            for version in versions:
                try:
                    saved.append(ask(t, "/save/f", version))
                except (Gone, OSError):
                    pass

    thread = threading.Thread(target=save)
    thread.start()
    try:
        for _ in range(8):
            n = len(saved)
            wait_until(lambda: len(saved) > n and t.worker_pids(), "files are saved")
            os.kill(t.worker_pids()[0], signal.SIGKILL)
            assert (t.files / "f").read_bytes() in versions
    finally:
        stopping = True
        thread.join()
    assert set(saved) == {str(MIB).encode()}
    wait_until(lambda: ask(t, "/load/f") in versions, "there is a file")


def test_the_end_waits_for_no_key(serving):
    """A worker that is told to go while it searches for primes, which would take minutes, gives up and says so."""
    t = serving()
    assert ask(t, "/forget", b"").startswith("204")
    t.stop()
    assert t.find(r"ready module: key: canceled")
