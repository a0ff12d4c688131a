"""builtin:static: a folder over HTTP."""

import email.utils
import os
import subprocess
import time

import pytest

from harness import DEADLINE, TINED, as_nobody, tool

BIG = 5 << 20


@pytest.fixture
def root(folder):
    """A folder to be served, with a secret beside it."""
    root = folder / "site"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "index.html").write_text("<h1>index</h1>")
    (root / "sub" / "index.html").write_text("sub index")
    (root / "plain.txt").write_text("plain text")
    (root / "nothing").write_text("")
    (root / "two words & more.txt").write_text("odd name")
    (root / ".hidden").write_text("hidden")
    (folder / "secret.txt").write_text("SECRET")
    os.symlink(folder / "secret.txt", root / "absolute-link")
    os.symlink("../secret.txt", root / "relative-link")
    os.symlink("..", root / "folder-link")
    os.symlink("plain.txt", root / "good-link")
    os.symlink("nowhere", root / "dangling-link")
    return root


@pytest.fixture
def site(start, root):
    return start({"workers": {"count": 1}, "module:hello": {"path": "builtin:static", "root": root}})


def test_index(site):
    response = site.get("/")
    assert (response.status, response.body) == (200, b"<h1>index</h1>")
    assert response.header("Content-Type").startswith("text/html")
    assert site.get("/sub/").body == b"sub index"
    assert site.get("/index.html").body == b"<h1>index</h1>"


@pytest.mark.parametrize(
    "path, location",
    [("/sub", "/sub/"), ("/empty", "/empty/"), ("/sub/deep", "/sub/deep/"), ("/sub?a=b", "/sub/?a=b")],
)
def test_folder_without_slash_is_redirected(site, path, location):
    response = site.get(path)
    assert (response.status, response.header("Location")) == (301, location)


@pytest.mark.parametrize("path", ["/empty/", "/sub/deep/"])
def test_folder_without_index(site, path):
    assert site.get(path).status in (403, 404)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("a.html", "text/html"),
        ("a.css", "text/css"),
        ("a.js", ("text/javascript", "application/javascript")),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.svg", "image/svg+xml"),
        ("A.JPG", "image/jpeg"),
        ("a.txt", "text/plain"),
        ("a.unknown-kind", ("application/octet-stream", None)),
    ],
)
def test_content_type(site, root, name, kind):
    (root / name).write_text("x")
    said = site.get("/" + name).header("Content-Type")
    assert (said and said.split(";")[0]) in (kind if isinstance(kind, tuple) else (kind,))


@pytest.mark.parametrize(
    "path, body",
    [
        ("/plain.txt", b"plain text"),
        ("/nothing", b""),
        ("/two%20words%20%26%20more.txt", b"odd name"),
        ("/sub/../plain.txt", b"plain text"),
        ("/sub/%2e%2e/plain.txt", b"plain text"),
        ("//plain.txt", b"plain text"),
        ("/./plain.txt?query", b"plain text"),
        ("/good-link", b"plain text"),
    ],
)
def test_file(site, path, body):
    response = site.get(path)
    assert (response.status, response.body) == (200, body)
    assert response.header("Content-Length") == str(len(body))


@pytest.mark.parametrize(
    "path",
    ["/missing", "/missing/", "/plain.txt/", "/plain.txt/x", "/sub/no", "/dangling-link", "/%ff%fe", "/" + "a" * 300],
)
def test_not_found(site, path):
    response = site.get(path)
    assert response.status == 404
    assert not response.closes


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/../../../../../../etc/passwd",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/.%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/....//secret.txt",
        "/..;/secret.txt",
        "/sub/..%00/secret.txt",
        "//etc/passwd",
        "///etc/passwd",
        "/%2fetc/passwd",
        "/absolute-link",
        "/relative-link",
        "/folder-link/secret.txt",
        "/folder-link/",
        "/folder-link",
        "/proc/self/root/etc/passwd",
        "http://test/../secret.txt",
    ],
)
def test_no_way_out_of_the_root(site, path):
    response = site.get(path)
    assert response.status in (400, 403, 404), response
    assert b"SECRET" not in response.body and b"root:" not in response.body
    site.get("/plain.txt")


def test_neither_devices_nor_pipes(site, root):
    """Opening a pipe that nobody writes would block the worker for ever."""
    os.mkfifo(root / "pipe")
    assert site.get("/pipe").status in (403, 404)
    assert site.get("/plain.txt").status == 200


def test_unreadable_file(start, root):
    (root / "locked").write_text("locked")
    (root / "locked").chmod(0)
    t = start({"tined": {"control": None}, "module:hello": {"path": "builtin:static", "root": root}}, before=as_nobody)
    assert t.get("/locked").status == 403
    assert t.get("/plain.txt").status == 200


def test_head(site):
    with site.connect() as c:
        get, head = c.request("/plain.txt"), c.request("/plain.txt", "HEAD")
        assert head.status == 200
        assert [f for f in head.fields if f[0] != "Date"] == [f for f in get.fields if f[0] != "Date"]
        assert c.request("/sub", "HEAD").status == 301
        assert c.request("/missing", "HEAD").status == 404
        assert c.request("/plain.txt").body == b"plain text"


def test_methods(site):
    response = site.get("/plain.txt", method="POST")
    assert (response.status, response.header("Allow")) == (405, "GET, HEAD, OPTIONS")


# --- conditions ---


def test_304_by_etag(site):
    with site.connect() as c:
        etag = c.request("/plain.txt").header("ETag")
        assert etag.strip("W/").startswith('"')
        for field, status in [
            (etag, 304),
            (f'"other", {etag}', 304),
            ("*", 304),
            ('"other"', 200),
            (etag.strip('"').strip("W/"), 200),  # not quoted: no tag at all
        ]:
            response = c.request("/plain.txt", headers=[("If-None-Match", field)])
            assert response.status == status, field
            assert response.body == (b"" if status == 304 else b"plain text")
            assert response.header("ETag") == etag
        assert c.request("/plain.txt", "HEAD", headers=[("If-None-Match", etag)]).status == 304


def test_304_by_date(site, root):
    with site.connect() as c:
        then = c.request("/plain.txt").header("Last-Modified")
        assert abs(email.utils.parsedate_to_datetime(then).timestamp() - (root / "plain.txt").stat().st_mtime) <= 1
        stamp = email.utils.parsedate_to_datetime(then).timestamp()
        later, earlier = (email.utils.formatdate(stamp + d, usegmt=True) for d in (60, -60))
        for field, status in [(then, 304), (later, 304), (earlier, 200), ("yesterday", 200), ("", 200)]:
            assert c.request("/plain.txt", headers=[("If-Modified-Since", field)]).status == status, field
        both = [("If-None-Match", '"other"'), ("If-Modified-Since", later)]
        assert c.request("/plain.txt", headers=both).status == 200, "the tag counts, not the date"


def test_changed_file_is_noticed(site, root):
    """Bound: the cache of descriptors may be a little behind, but not for long."""
    first = site.get("/plain.txt")
    replacement = root / "new"
    replacement.write_text("something else")
    os.utime(replacement, (time.time(), time.time() + 5))
    os.rename(replacement, root / "plain.txt")
    end = time.monotonic() + DEADLINE
    while site.get("/plain.txt").body != b"something else":
        assert time.monotonic() < end
        time.sleep(0.05)
    second = site.get("/plain.txt", headers=[("If-None-Match", first.header("ETag"))])
    assert (second.status, second.body) == (200, b"something else")


def test_file_that_appears_and_goes(site, root):
    assert site.get("/later.txt").status == 404
    (root / "later.txt").write_text("here")
    end = time.monotonic() + DEADLINE
    while site.get("/later.txt").status != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    (root / "later.txt").unlink()
    while site.get("/later.txt").status != 404:
        assert time.monotonic() < end
        time.sleep(0.05)


# --- large files ---


@pytest.fixture
def big(root):
    data = os.urandom(1 << 16) * (BIG >> 16)
    (root / "big").write_bytes(data)
    return data


def test_big_file(site, big):
    with site.connect() as c:
        for _ in range(2):
            response = c.request("/big")
            assert response.status == 200
            assert response.body == big


def test_big_file_to_a_slow_reader(site, big):
    with site.connect(receive_buffer=4096) as c:
        c.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(20):
            c.buffer += c.sock.recv(1000)
            time.sleep(0.005)
        assert site.get("/plain.txt").status == 200, "others are served meanwhile"
        assert c.response().body == big
        assert c.request("/plain.txt").body == b"plain text"


def test_big_files_pipelined_among_small_ones(site, big):
    paths = ["/big", "/plain.txt", "/missing", "/big", "/nothing", "/plain.txt"]
    with site.connect() as c:
        c.send(b"".join(f"GET {p} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for p in paths))
        got = [c.response() for _ in paths]
        assert [r.status for r in got] == [200, 200, 404, 200, 200, 200]
        assert got[0].body == got[3].body == big
        assert got[1].body == got[5].body == b"plain text"


def test_big_file_with_close(site, big):
    with site.connect() as c:
        c.send(b"GET /big HTTP/1.0\r\n\r\n")
        assert c.response().body == big
        assert c.closed()


def test_client_leaves_in_the_middle_of_a_file(site, big):
    (worker,) = site.worker_pids()
    for _ in range(5):
        with site.connect(receive_buffer=4096) as c:
            c.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            c.sock.recv(100)
    assert site.get("/big").body == big
    assert site.worker_pids() == [worker]


def test_file_replaced_while_it_is_sent(site, root, big):
    """The answer is the file as it was when it was opened."""
    with site.connect(receive_buffer=4096) as c:
        c.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        c.buffer += c.sock.recv(1000)
        (root / "new").write_bytes(b"new")
        os.rename(root / "new", root / "big")
        assert c.response().body == big


def test_file_cut_off_while_it_is_sent(site, root, big):
    """The length that was announced can no longer be kept: the connection ends, and nothing else suffers."""
    (worker,) = site.worker_pids()
    with site.connect(receive_buffer=4096) as c:
        c.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        c.buffer += c.sock.recv(1000)
        os.truncate(root / "big", 1000)
        try:
            assert len(c.rest()) < BIG
        except ConnectionResetError:
            pass
    assert site.get("/plain.txt").status == 200
    assert site.worker_pids() == [worker]


def test_stop_finishes_a_file_under_way(site, big):
    with site.connect(receive_buffer=4096) as c:
        c.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        c.buffer += c.sock.recv(1000)
        site.signal(15)
        site.wait_draining()
        assert c.response().body == big
    assert site.stop() == 0


# --- options ---


def test_other_index(start, root):
    t = start({"module:hello": {"path": "builtin:static", "root": root, "index": "plain.txt"}})
    assert t.get("/").body == b"plain text"
    assert t.get("/sub/").status in (403, 404)


def test_below_a_mount_point(start, root):
    t = start({"module:hello": {"path": "builtin:static", "root": root, "mount": "/files"}})
    assert t.get("/files/plain.txt").body == b"plain text"
    assert t.get("/files/").body == b"<h1>index</h1>"
    response = t.get("/files/sub")
    assert (response.status, response.header("Location")) == (301, "/files/sub/")
    response = t.get("/files")
    assert response.status == 200 or response.header("Location") == "/files/"
    assert t.get("/plain.txt").status == 404
    assert t.get("/files/../secret.txt").status == 404


def test_relative_root_is_sought_beside_the_configuration(start, root):
    t = start({"module:hello": {"path": "builtin:static", "root": "site"}}, before=lambda: os.chdir("/"))
    assert t.get("/plain.txt").body == b"plain text"


def test_bundled_site_without_any_configuration(tined):
    """The embedded default is what --print-config prints without a file; here on a free port."""
    text = subprocess.run([TINED, "--print-config"], capture_output=True, text=True, timeout=DEADLINE).stdout
    assert "127.0.0.1:8080" in text
    t = tined(text=text.replace("127.0.0.1:8080", "127.0.0.1:0"))
    t.start()
    response = t.get("/")
    assert response.status == 200
    assert b"tined" in response.body


@pytest.mark.skipif(not tool("curl"), reason="curl is not installed")
def test_curl_gets_the_big_file(site, big, folder):
    out = folder / "out"
    done = subprocess.run(["curl", "-sS", "-o", out, site.url("/big")], capture_output=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert out.read_bytes() == big


@pytest.mark.skipif(not tool("curl"), reason="curl is not installed")
def test_curl_time_condition(site, folder):
    """curl -z sends If-Modified-Since."""
    (folder / "mine").write_text("mine")
    done = subprocess.run(
        ["curl", "-sS", "-o", folder / "out", "-w", "%{http_code}", "-z", folder / "mine", site.url("/plain.txt")],
        capture_output=True, timeout=DEADLINE,
    )
    assert done.stdout == b"304"
