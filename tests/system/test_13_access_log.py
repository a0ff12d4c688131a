"""The access log: one line for each request, in every format and place, through rotation, reload and crash."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from harness import DEADLINE, JOURNAL, Client, Gone, alone, tool, wait_until

COMBINED = re.compile(
    r'^(?P<client>\S+) - - \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] '
    r'"(?P<line>(?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)" (?P<status>\d{3}) (?P<bytes>\d+) '
    r'"(?P<referer>(?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)" "(?P<agent>(?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)"$'
)


class Log:
    """An access log in a file."""

    def __init__(self, path):
        self.path = path

    def lines(self):
        """The whole lines so far."""
        data = self.path.read_bytes() if self.path.exists() else b""
        return data[: data.rfind(b"\n") + 1].decode("utf-8").splitlines()

    def wait(self, n):
        wait_until(lambda: len(self.lines()) >= n, f"{n} lines, not {self.lines()[-5:]}")
        return self.lines()

    def combined(self, n):
        found = [COMBINED.match(line) for line in self.wait(n)]
        assert all(found) and len(found) == n, self.lines()
        return found

    def json(self, n):
        found = [json.loads(line) for line in self.wait(n)]
        assert len(found) == n, found
        return found


@pytest.fixture
def log(folder):
    return Log(folder / "access.log")


@pytest.fixture
def start_with(start, log):
    """Starts a daemon that logs to the file."""

    def go(changes=None, access_format="combined", **options):
        changes = dict(changes or {})
        changes["http"] = {"access_log": f"file:{log.path}", "access_format": access_format, **changes.get("http", {})}
        return start(changes, **options)

    return go


# --- what a line says ---


def test_combined(start_with, log):
    t = start_with()
    with t.connect() as c:
        c.request("/", headers=[("User-Agent", "test/1.0"), ("Referer", "http://e.com/?a=b")])
        c.request("/", method="HEAD")
        c.request("/missing?x=1")
    first, second, third = log.combined(3)
    assert first["client"] == "127.0.0.1"
    assert (first["line"], first["status"], first["bytes"]) == ("GET / HTTP/1.1", "200", "13")
    assert (first["referer"], first["agent"]) == ("http://e.com/?a=b", "test/1.0")
    assert (second["line"], second["status"], second["bytes"]) == ("HEAD / HTTP/1.1", "200", "0")
    assert (second["referer"], second["agent"]) == ("-", "-")
    assert third["line"] == "GET /missing?x=1 HTTP/1.1"
    then = time.mktime(time.strptime(first["time"][:20], "%d/%b/%Y:%H:%M:%S"))
    assert abs(time.time() - then) < 120


def test_json(start_with, log):
    t = start_with({"workers": {"count": 1}}, "json")
    with t.connect() as c:
        c.request("/?q", headers=[("User-Agent", 'a"b\\c'), ("Referer", "é")])  # sent as Latin-1: no UTF-8
        c.send("GET / HTTP/1.1\r\nHost: h.example:80\r\nUser-Agent: Größe 🍴\r\n\r\n".encode())
        c.response()
    one, two = log.json(2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
    assert (one["client"], one["host"], one["worker"]) == ("127.0.0.1", "test", 0)
    assert (one["method"], one["target"], one["protocol"]) == ("GET", "/?q", "HTTP/1.1")
    assert (one["status"], one["bytes"]) == (200, 13)
    assert (one["user_agent"], one["referer"]) == ('a"b\\c', "\ufffd")
    assert 0 <= one["duration_us"] < 60_000_000
    assert (two["host"], two["user_agent"], two["referer"]) == ("h.example:80", "Größe 🍴", "")
    assert "crash" not in one


def test_no_request_can_forge_a_line(start_with, log):
    t = start_with()
    with t.connect() as c:
        c.send(b'GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x5c\x22 \xff\tb" 200 9\r\n\r\n')
        c.response()
    (line,) = log.combined(1)
    assert line["agent"] == r"a\x5C\x22 \xFF\x09b\x22 200 9"


def test_a_request_that_is_none_has_a_line(start_with, log):
    t = start_with()
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"):
        with t.connect() as c:
            c.send(request)
            assert c.response().status == 400
            c.rest()
    assert [line["status"] for line in log.combined(3)] == ["400"] * 3


def test_pipelined_requests_have_a_line_each(start_with, log):
    t = start_with()
    with t.connect() as c:
        c.send(b"".join(b"GET /?%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(500)))
        for _ in range(500):
            c.response()
    assert [line["line"] for line in log.combined(500)] == [f"GET /?{i} HTTP/1.1" for i in range(500)]


def test_long_fields_are_cut(start_with, log):
    t = start_with({"http": {"max_header": "64K"}})
    with t.connect() as c:
        c.request("/" + "x" * 8000, headers=[("User-Agent", '"' * 8000), ("Referer", "y" * 8000)])
    (line,) = log.combined(1)
    assert line["line"].startswith("GET /xxx") and len(line[0]) < 4096


def test_over_a_unix_socket(start_with, log, folder):
    t = start_with({"listener:web": {"address": f"unix:{folder}/web.sock"}})
    with Client(str(folder / "web.sock")) as c:
        c.request("/")
    assert log.combined(1)[0]["client"] == "unix:"
    assert t.find("listening on unix:")


# --- when and where ---


def test_a_line_is_there_within_a_second_or_so(start_with, log):
    """Also when nothing else happens: with the connection open, and with none."""
    t = start_with()
    with t.connect() as c:
        c.request("/")
        log.combined(1)
        c.request("/")
    log.combined(2)


def test_the_end_loses_no_line(start_with, log):
    t = start_with()
    for _ in range(20):
        t.hello()
    assert t.stop() == 0
    log.combined(20)


def test_workers_share_the_file(start_with, log):
    t = start_with({"workers": {"count": 4}})

    def serve():
        with t.connect() as c:
            for _ in range(500):
                c.request("/")

    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.combined(4000)


def test_off_is_off(start, folder):
    t = start({"http": {"access_log": "off"}})
    t.hello()
    assert not list(folder.glob("*.log"))


def test_stderr(start):
    t = start({"http": {"access_log": "stderr"}})
    t.get("/seen")
    t.wait_log(r'^127\.0\.0\.1 - - \[.*"GET /seen HTTP/1\.1" ')


def test_a_stderr_that_nobody_reads_stops_nobody(tined, folder):
    """A pipe that is full: lines are lost, and counted once there is room; requests are served."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    t = tined(
        {"http": {"access_log": "stderr"}, "tined": {"log": f"file:{folder}/tined.log"}},
        wrap=["sh", "-c", f'exec "$@" 2>{fifo}', "sh"],
    ).spawn()
    text = wait_until(
        lambda: re.search(r"listening on \S+:(\d+)", (folder / "tined.log").read_text())
        if (folder / "tined.log").exists() else None, "it listens")
    wait_until(lambda: "generation 1 serves" in (folder / "tined.log").read_text(), "it serves")
    with Client(("127.0.0.1", int(text[1]))) as c:
        for _ in range(3000):
            assert c.request("/").status == 200
    os.close(reader)
    assert t.stop() == 0


def test_the_journal(start, tmp_path):
    with alone("/run"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        if os.path.exists(JOURNAL) or os.geteuid() != 0:
            pytest.skip("needs to be root where no journal runs")
        os.makedirs(os.path.dirname(JOURNAL), exist_ok=True)
        s.bind(JOURNAL)
        os.chmod(JOURNAL, 0o777)
        s.settimeout(DEADLINE)
        try:
            t = start({"http": {"access_log": "journal"}})
            t.get("/seen")
            message = s.recv(65536).decode()
        finally:
            os.unlink(JOURNAL)
    *fields, line, end = message.split("\n")
    assert fields[:3] == ["PRIORITY=6", "SYSLOG_IDENTIFIER=tined", "TINE_ROLE=worker"] and not end
    assert fields[3] in ("TINE_SLOT=0", "TINE_SLOT=1") and fields[4:] == ["TINE_GENERATION=1"]
    assert line.startswith("MESSAGE=127.0.0.1 - - [") and '"GET /seen HTTP/1.1"' in line


def test_the_file_is_opened_with_the_primary_s_rights(root_only, start_with, log, folder):
    """And it is nobody else's business: the folder is root's own."""
    own = folder / "own"
    own.mkdir(mode=0o700)
    log.path = own / "access.log"
    t = start_with({"tined": {"user": "nobody"}})
    t.hello()
    log.combined(1)
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o640
    log.path.rename(own / "old")
    t.signal(signal.SIGUSR1)
    t.wait_log("log reopened")
    wait_until(log.path.exists, "a new file")
    t.hello()
    log.combined(1)


# --- what goes wrong ---


def test_a_file_that_cannot_be_opened_fails_the_start(tined, folder):
    t = tined({"http": {"access_log": "file:/nonexistent/access.log"}})
    assert t.run() == 1
    line = t.line_of("access_log")
    assert f"{t.path}:{line}: http.access_log: /nonexistent/access.log: No such file or directory" in "\n".join(t.errors())


def test_a_file_that_cannot_be_opened_fails_the_reload(start_with, log):
    t = start_with()
    t.configure({"http": {"access_log": "file:/nonexistent/access.log"}})
    errors = t.reload_fails()
    assert "http.access_log: /nonexistent/access.log: No such file or directory" in errors[0]
    t.hello()
    log.combined(1)


def test_a_full_disk_costs_lines_only(start):
    t = start({"http": {"access_log": "file:/dev/full"}})
    with t.connect() as c:
        for _ in range(2000):
            assert c.request("/").status == 200
        t.wait_log(r"access log: \d+ lines were lost: No space left on device; going on")


def test_reload_changes_format_and_file(start_with, log, folder):
    t = start_with()
    t.hello()
    log.combined(1)
    t.configure({"http": {"access_log": "off"}})
    t.reload()
    t.hello()
    other = Log(folder / "other.log")
    t.configure({"http": {"access_log": f"file:{other.path}", "access_format": "json"}})
    t.reload()
    t.hello()
    other.json(1)
    log.combined(1)


# --- rotation ---


def test_usr1_reopens(start_with, log, folder):
    t = start_with()
    t.hello()
    log.combined(1)
    old = Log(folder / "access.log.1")
    log.path.rename(old.path)
    t.signal(signal.SIGUSR1)
    wait_until(log.path.exists, "a new file")
    t.wait_workers(2)
    for _ in range(50):
        t.hello()
    wait_until(lambda: len(log.lines()) + len(old.lines()) == 51, "every line is in one of them")
    size = old.path.stat().st_size
    t.signal(signal.SIGTTIN)  # who comes later has the new one, too
    t.wait_workers(3)
    for _ in range(50):
        t.hello()
    wait_until(lambda: len(log.lines()) + len(old.lines()) == 101, "every line is in one of them")
    assert old.path.stat().st_size == size


def test_rotation_under_load_loses_no_line(start_with, log, folder):
    t = start_with({"workers": {"count": 3}}, "json")
    done, n = threading.Event(), [0] * 4

    def serve(i):
        with t.connect() as c:
            while not done.is_set():
                c.request(f"/?{i}.{n[i]}")
                n[i] += 1

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for i in range(10):
        log.path.rename(folder / f"access.log.{i}")
        t.signal(signal.SIGUSR1)
        wait_until(log.path.exists, "a new file")
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    assert t.stop() == 0
    seen = [json.loads(line)["target"] for path in folder.glob("access.log*") for line in Log(path).lines()]
    assert sorted(seen) == sorted(f"/?{i}.{j}" for i in range(4) for j in range(n[i]))


def test_usr1_when_the_file_cannot_be_opened(start_with, log, folder):
    (folder / "logs").mkdir()
    log.path = folder / "logs" / "access.log"
    t = start_with()
    (folder / "logs").rename(folder / "moved")
    t.signal(signal.SIGUSR1)
    t.wait_log("cannot reopen the access log of generation 1: No such file or directory; writing to the old file")
    t.hello()
    Log(folder / "moved" / "access.log").combined(1)


# --- crashes ---


def crash(t, path):
    with t.connect() as c, pytest.raises((Gone, ConnectionError)):
        c.request(path, headers=[("User-Agent", "unlucky")])


def test_the_request_a_crash_cut_short_has_a_line(start_with, log, module):
    t = start_with({"workers": {"count": 1}, "module:m": {"path": module, "mount": "/m"}})
    t.get("/?before")
    crash(t, "/m/abort?now")
    before, last = log.combined(2)
    assert before["line"] == "GET /?before HTTP/1.1"
    assert (last["line"], last["status"], last["client"]) == ("GET /m/abort?now HTTP/1.1", "000", "127.0.0.1")
    t.hello()
    log.combined(3)


def test_a_crash_in_json(start_with, log, module):
    t = start_with({"workers": {"count": 1}, "module:m": {"path": module, "mount": "/m"}}, "json")
    crash(t, "/m/exit?now")
    (last,) = log.json(1)
    assert (last["target"], last["status"], last["crash"], last["bytes"]) == ("/m/exit?now", 0, True, 0)
    t.hello()


def test_kill_minus_nine_loses_no_line(start_with, log):
    """Lines that waited in the buffer are written by the primary."""
    t = start_with({"workers": {"count": 1}}, "json")
    with t.connect() as c:
        for i in range(50):
            c.request(f"/?{i}")
        os.kill(t.worker_pids()[0], signal.SIGKILL)
    assert [line["target"] for line in log.json(50)] == [f"/?{i}" for i in range(50)]


def test_a_worker_that_hangs_is_accounted_for(start_with, log, module):
    t = start_with(
        {
            "workers": {"count": 1, "hang_timeout": "300ms"},
            "module:m": {"path": module, "mount": "/m", "delay": "30s"},
        },
        "json",
    )
    crash(t, "/m/sleep")
    (last,) = log.json(1)
    assert (last["target"], last["status"]) == ("/m/sleep", 0)
    assert last["duration_us"] >= 300_000


# --- others' eyes ---


def test_awk_reads_it(start_with, log):
    """awk, as people do: the ninth field is the status."""
    t = start_with()
    t.get("/")
    t.get("/nope/at/all")
    log.combined(2)
    found = subprocess.run(["awk", "{print $9}", log.path], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.split()[0] == "200"


def test_curl_s_user_agent(start_with, log):
    if not tool("curl"):
        pytest.skip("no curl here")
    t = start_with()
    subprocess.run(["curl", "-fsS", "-e", "http://from.example/", t.url()], check=True, capture_output=True, timeout=30)
    (line,) = log.combined(1)
    assert line["agent"].startswith("curl/") and line["referer"] == "http://from.example/"
