"""builtin:static, what people expect of a file server: ranges, codings, listings, fallback, cold and changing files."""

import concurrent.futures
import gzip
import os
import re
import subprocess
import time

import pytest

from harness import DEADLINE, TINED, tool, wait_until

TEXT = b"".join(b"line %d of many\n" % i for i in range(20000))
BIG = 3 << 20
HUGE = (4 << 30) + 1000


def static(root, **options):
    return {"workers": {"count": 1}, "module:hello": {"path": "builtin:static", "root": root, **options}}


@pytest.fixture
def root(folder):
    root = folder / "site"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("<h1>index</h1>")
    (root / "ten").write_text("0123456789")
    (root / "text.txt").write_bytes(TEXT)
    (root / "big").write_bytes(os.urandom(BIG))
    (root / "empty").write_text("")
    with open(root / "huge", "wb") as f:
        f.seek(HUGE - 3)
        f.write(b"end")
    return root


@pytest.fixture
def site(start, root):
    return start(static(root))


RANGES = [
    ("ten", "bytes=0-0", 206, b"0", "bytes 0-0/10"),
    ("ten", "bytes=3-", 206, b"3456789", "bytes 3-9/10"),
    ("ten", "bytes=-2", 206, b"89", "bytes 8-9/10"),
    ("ten", "bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
    ("ten", "bytes=8-99", 206, b"89", "bytes 8-9/10"),
    ("ten", "bytes=4-5, 90-", 206, b"45", "bytes 4-5/10"),
    ("ten", "bytes=5-4", 200, b"0123456789", None),
    ("ten", "lines=0-1", 200, b"0123456789", None),
    ("ten", "bytes=0-,0-", 200, b"0123456789", None),
    ("ten", "bytes=" + ",".join(["0-0"] * 17), 200, b"0123456789", None),
    ("ten", "bytes=10-", 416, None, "bytes */10"),
    ("ten", "bytes=-0", 416, None, "bytes */10"),
    ("empty", "bytes=0-", 416, None, "bytes */0"),
    ("empty", "bytes=-1", 200, b"", None),
    ("huge", "bytes=-3", 206, b"end", f"bytes {HUGE - 3}-{HUGE - 1}/{HUGE}"),
    ("huge", "bytes=4294967296-4294967299", 206, b"\0\0\0\0", f"bytes 4294967296-4294967299/{HUGE}"),
    ("huge", "bytes=18446744073709551615-", 416, None, f"bytes */{HUGE}"),
]


@pytest.mark.parametrize("name, asked, status, body, said", RANGES)
def test_range(site, name, asked, status, body, said):
    response = site.get("/" + name, headers=[("Range", asked)])
    assert (response.status, response.header("Content-Range")) == (status, said)
    assert response.header("Content-Length") == str(len(response.body))
    if body is not None:
        assert response.body == body
        assert response.header("Accept-Ranges") == "bytes"


@pytest.mark.parametrize("name", ["ten", "text.txt", "big"])
def test_several_ranges(site, root, name):
    content = (root / name).read_bytes()
    wanted = [(1, 3), (len(content) - 2, len(content) - 1), (5, len(content) // 2)]
    asked = "bytes=" + ",".join(f"{first}-{last}" for first, last in wanted)
    with site.connect() as client:
        response = client.request("/" + name, headers=[("Range", asked)])
        assert client.request("/ten").body == b"0123456789"
    kind, boundary = response.header("Content-Type").split("; boundary=")
    assert (response.status, kind) == (206, "multipart/byteranges")
    parts = response.body.split(b"\r\n--" + boundary.encode())
    assert parts[0] == b"" and parts[-1] == b"--\r\n"
    assert len(parts) == len(wanted) + 2
    for (first, last), part in zip(wanted, parts[1:]):
        head, body = part.split(b"\r\n\r\n", 1)
        assert f"Content-Range: bytes {first}-{last}/{len(content)}".encode() in head.split(b"\r\n")
        assert b"Content-Type: " in head
        assert body == content[first : last + 1]


def test_if_range(site, root):
    plain = site.get("/ten")
    etag, date = plain.header("ETag"), plain.header("Last-Modified")
    for validator, status in [(etag, 206), (date, 206), ('"x"', 200), ("W/" + etag, 200), ("yesterday", 200)]:
        assert site.get("/ten", headers=[("Range", "bytes=1-2"), ("If-Range", validator)]).status == status, validator


def test_head_ignores_ranges(site):
    response = site.get("/ten", method="HEAD", headers=[("Range", "bytes=1-2")])
    assert (response.status, response.header("Content-Length")) == (200, "10")


def test_curl_resumes(site, root, folder):
    part = folder / "part"
    part.write_bytes((root / "big").read_bytes()[:1000])
    subprocess.run([tool("curl"), "-sS", "-C", "-", "-o", part, site.url("/big")], check=True, timeout=DEADLINE)
    assert part.read_bytes() == (root / "big").read_bytes()


# --- codings ---


@pytest.mark.parametrize(
    "accepted, coding",
    [
        (None, None),
        ("gzip", "gzip"),
        ("gzip, br", "br"),
        ("br;q=0.5, gzip", "gzip"),
        ("gzip;q=0, br;q=0", None),
        ("*", "br"),
        ("identity", None),
    ],
)
def test_precompressed(start, root, accepted, coding):
    (root / "app.js").write_text("plain")
    (root / "app.js.gz").write_bytes(b"gz bytes")
    (root / "app.js.br").write_bytes(b"br bytes")
    site = start(static(root))
    headers = [("Accept-Encoding", accepted)] if accepted else []
    response = site.get("/app.js", headers=headers)
    assert response.header("Content-Encoding") == coding
    assert response.body == {None: b"plain", "gzip": b"gz bytes", "br": b"br bytes"}[coding]
    assert "javascript" in response.header("Content-Type")
    assert response.header("Vary") == "Accept-Encoding"
    tag = response.header("ETag")
    assert site.get("/app.js", headers=headers + [("If-None-Match", tag)]).status == 304
    others = [site.get("/app.js" + end).header("ETag") for end in ("", ".gz", ".br")]
    assert others.count(tag) == 1


def test_without_compressed_files(site, root):
    response = site.get("/ten", headers=[("Accept-Encoding", "gzip")])
    assert (response.header("Content-Encoding"), response.header("Vary")) == (None, None)
    (root / "ten.gz").write_bytes(b"gz")
    wait_until(lambda: site.get("/ten", headers=[("Accept-Encoding", "gzip")]).body == b"gz", "it is found")


def test_gzip(start, root):
    site = start(static(root, gzip="on"))
    accepts = [("Accept-Encoding", "gzip")]
    first = site.get("/text.txt", headers=accepts)
    assert first.header("Content-Encoding") == "gzip"
    assert gzip.decompress(first.body) == TEXT
    plain = site.get("/text.txt")
    assert plain.body == TEXT
    assert plain.header("Vary") == first.header("Vary") == "Accept-Encoding"
    assert plain.header("ETag") != first.header("ETag")
    assert site.get("/text.txt", headers=accepts + [("If-None-Match", first.header("ETag"))]).status == 304
    part = site.get("/text.txt", headers=accepts + [("Range", "bytes=10-99")])
    assert (part.status, part.body) == (206, first.body[10:100])
    head = site.get("/text.txt", method="HEAD", headers=accepts)
    assert head.header("Content-Length") == str(len(first.body))
    for path in ("/ten", "/big", "/empty"):  # too small, of no type that is text, nothing
        assert site.get(path, headers=accepts).header("Content-Encoding") is None


def test_gzip_of_a_file_kept_in_memory(start, root):
    (root / "small.html").write_bytes(TEXT[:5000])
    site = start(static(root, gzip="on"))
    response = site.get("/small.html", headers=[("Accept-Encoding", "gzip")])
    assert gzip.decompress(response.body) == TEXT[:5000]


def test_gzip_for_many_at_once(start, root):
    site = start(static(root, gzip="on"))

    def get(_):
        return gzip.decompress(site.get("/text.txt", headers=[("Accept-Encoding", "gzip")]).body) == TEXT

    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        assert all(clients.map(get, range(64)))


def test_gzip_of_a_client_that_goes_away(start, root):
    site = start(static(root, gzip="on"))
    for _ in range(20):
        with site.connect() as client:
            client.send(b"GET /text.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
    assert site.get("/ten").body == b"0123456789"


# --- folders ---


def test_listing(start, root):
    (root / "sub" / "a <b> & c.txt").write_text("x")
    (root / "sub" / ".hidden").write_text("x")
    (root / "sub" / "deep").mkdir()
    site = start(static(root, listing="on", cache_control="no-cache"))
    with site.connect() as client:
        response = client.request("/sub/")
        assert client.request("/sub/", method="HEAD").header("Content-Length") == str(len(response.body))
    assert (response.status, response.header("Content-Type")) == (200, "text/html; charset=utf-8")
    assert response.header("Cache-Control") == "no-cache"
    page = response.body.decode()
    assert "a &lt;b&gt; &amp; c.txt" in page and "hidden" not in page
    links = re.findall(r'href="([^"]*)"', page)
    assert links == ["../", "./deep/", "./a%20%3Cb%3E%20&amp;%20c.txt"]
    assert site.get("/sub/a%20%3Cb%3E%20&%20c.txt").body == b"x"
    assert site.get("/").body == b"<h1>index</h1>"
    assert site.get("/sub").status == 301
    assert site.get("/none/").status == 404


def test_listing_is_off(site):
    assert site.get("/sub/").status == 404


def test_cache_control(start, root):
    site = start(static(root, cache_control="public, max-age=60"))
    plain = site.get("/ten")
    again = site.get("/ten", headers=[("If-None-Match", plain.header("ETag"))])
    part = site.get("/ten", headers=[("Range", "bytes=0-1")])
    assert [r.status for r in (plain, again, part)] == [200, 304, 206]
    assert {r.header("Cache-Control") for r in (plain, again, part)} == {"public, max-age=60"}
    assert site.get("/none").header("Cache-Control") is None


@pytest.mark.parametrize(
    "path, status",
    [("/users/7", 200), ("/none", 200), ("/none/", 200), ("/none.js", 404), ("/a.b/c", 200), ("/ten", 200)],
)
def test_fallback(start, root, path, status):
    response = start(static(root, fallback="/index.html")).get(path)
    assert response.status == status
    if path != "/ten" and status == 200:
        assert response.body == b"<h1>index</h1>"
        assert response.header("Content-Type").startswith("text/html")


# --- files that change, files on the disk ---


def test_truncated_while_sent(site, root):
    with open(root / "big", "r+b") as f:
        f.truncate(40 << 20)
    with site.connect(receive_buffer=4096) as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.2)
        os.truncate(root / "big", 1000)
        got = client.rest()
    assert len(got) < 40 << 20
    assert site.get("/ten").status == 200


def drop_from_memory(path):
    """Has the kernel forget a file. Where it does not (tmpfs), the test shows less and still passes."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@pytest.mark.parametrize("name", ["ten", "text.txt", "big"])
def test_cold(site, root, name):
    content = (root / name).read_bytes()
    for _ in range(3):
        drop_from_memory(root / name)
        assert site.get("/" + name).body == content


def test_cold_for_many_at_once(site, root):
    content = (root / "big").read_bytes()

    def get(i):
        if i % 8 == 0:
            drop_from_memory(root / "big")
        return site.get("/big").body == content

    with concurrent.futures.ThreadPoolExecutor(24) as clients:
        assert all(clients.map(get, range(96)))


def test_cold_and_the_client_goes_away(site, root):
    for _ in range(10):
        drop_from_memory(root / "big")
        with site.connect() as client:
            client.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    assert site.get("/big").body == (root / "big").read_bytes()


def test_huge_file(site, root, folder):
    """Beyond 4 GiB, of holes: only the length of it is looked at, and its end."""
    response = site.get("/huge", method="HEAD")
    assert response.header("Content-Length") == str(HUGE)
    end = site.get("/huge", headers=[("Range", f"bytes={(4 << 30) - 1}-")])
    assert end.body == b"\0" * 998 + b"end"


def test_cache_control_that_cannot_be(folder, root):
    config = folder / "bad.ini"
    config.write_text(
        "[listener:web]\naddress = 127.0.0.1:0\n[module:s]\npath = builtin:static\n"
        f"listener = web\nroot = {root}\ncache_control = no\x01cache\n"
    )
    done = subprocess.run([TINED, "--check", "-c", config], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode != 0
