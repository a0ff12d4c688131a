"""The admin process: metrics, health checks, status, actions."""

import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import harness
from harness import Client, wait_until

TOKEN = "correct-horse-battery-staple"
HANG = {"workers": {"hang_timeout": "60s"}}
OWN = 4096  # where in a slot what the process itself writes begins (shared/scoreboard.h)


@pytest.fixture
def admin(start, folder):
    """Makes a daemon with an admin process on a free port."""

    def make(changes=None, **options):
        sections = {"admin": {"listen": "127.0.0.1:0"}}
        for name, keys in (changes or {}).items():
            sections[name] = {**sections.get(name, {}), **keys}
        t = start(sections, **options)
        t.admin = ("127.0.0.1", t.admin_port())
        return t

    return make


@pytest.fixture
def token_file(folder):
    path = folder / "token"
    path.write_text(TOKEN + "\nwhat follows does not count\n")
    path.chmod(0o600)
    return path


def get(t, path, method="GET", **options):
    with Client(t.admin) as c:
        return c.request(path, method=method, **options)


def act(t, path, token=TOKEN):
    return get(t, path, method="POST", headers=[("Authorization", f"Bearer {token}"), ("Content-Length", "0")])


def metrics(t):
    text = get(t, "/metrics").body.decode()
    return {name: float(value) for name, value in re.findall(r"^(tined_\S+) (\S+)$", text, re.M)}


def admin_pid(t):
    return [p["pid"] for p in get(t, "/status.json").json()["processes"] if p["role"] == "admin"][0]


# --- metrics ---


def test_metrics_are_right_over_crashes_and_reloads(admin, module):
    t = admin({"module:m": {"path": module, "mount": "/m"}})
    for _ in range(10):
        t.hello()
    wait_until(lambda: metrics(t)["tined_requests_total"] == 10, "ten requests are counted")
    victim = t.whoami()["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: metrics(t)["tined_crashes_total"] == 1, "the crash is counted")
    for _ in range(5):
        t.hello()
    wait_until(lambda: metrics(t)["tined_requests_total"] == 16, "those of the dead are still counted")
    t.reload()
    t.hello()

    def counted():
        """Each is measured after its answer, the last one before the worker was killed perhaps never."""
        m = metrics(t)
        return m["tined_requests_total"] == 17 and m["tined_request_duration_seconds_count"] in (16, 17) and m

    t.control("status")  # the primary is through with the reload
    m = wait_until(counted, "those of the old generation, too")
    assert m["tined_reloads_total"] == 1 and m["tined_reload_failures_total"] == 0
    assert m["tined_generation"] == 2 and m["tined_workers_ready"] == 2
    n = m["tined_request_duration_seconds_count"]
    assert m['tined_request_duration_seconds_bucket{le="+Inf"}'] == n
    assert 0 < m["tined_request_duration_seconds_sum"] < 17


def test_buckets_only_grow(admin):
    t = admin()
    for _ in range(20):
        t.hello()
    text = get(t, "/metrics").body.decode()
    for name in "request_duration", "loop_lag", "pool_wait", "pool_run":
        values = [(float(le), int(n)) for le, n in re.findall(rf'tined_{name}_seconds_bucket{{le="([\d.]+)"}} (\d+)', text)]
        assert len(values) > 20 and values == sorted(values) and [n for _, n in values] == sorted(n for _, n in values)


def test_promtool_likes_the_metrics(admin):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    t = admin()
    t.hello()
    check = subprocess.run([promtool, "check", "metrics"], input=get(t, "/metrics").body, capture_output=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_labels_are_few(admin):
    """A series for each generation would be one more for each reload, for ever."""
    t = admin()
    t.reload()
    wait_until(lambda: metrics(t)["tined_workers_ready"] == 2, "the workers are ready")
    text = get(t, "/metrics").body.decode()
    assert set(re.findall(r'[{,](\w+)="', text)) == {"slot", "role", "state", "le", "version"}
    assert set(re.findall(r'role="(\w+)"', text)) == {"worker", "admin"}
    generations = re.findall(r'^tined_process_generation{slot="\d+",role="worker"} (\d+)$', text, re.M)
    assert generations.count("2") == 2


def test_start_time_stays(admin):
    before = time.time()
    t = admin()
    first = metrics(t)["tined_start_time_seconds"]
    assert before - 1 < first < time.time() + 1
    wait_until(lambda: int(time.time() * 10) % 10 == 5, "another part of a second")
    assert metrics(t)["tined_start_time_seconds"] == first


class Watch:
    """Asks for something again and again, beside what the test does."""

    def __init__(self, look):
        self.look, self.seen, self.error, self.over = look, [], None, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            try:
                self.seen.append(self.look())
            except (ConnectionError, harness.Gone):
                pass  # the process that was asked has just gone
            except Exception as e:  # pylint: disable=broad-except
                self.error = e
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()
        assert self.error is None, self.error


def try_hello(t):
    try:
        t.hello()
    except (OSError, harness.Gone):
        pass  # its worker was killed


def try_whoami(t):
    try:
        return t.whoami()
    except (OSError, harness.Gone):
        return None


def test_counters_never_go_back(admin):
    """While workers are killed, retired and replaced under load."""
    t = admin({"workers": {"crash_limit": "1000/1s", "backoff_min": "1ms", "backoff_max": "1ms"}})
    with Watch(lambda: try_hello(t)), Watch(lambda: metrics(t)) as watch:
        for _ in range(3):
            for _ in range(5):
                n = metrics(t)["tined_crashes_total"]
                os.kill(wait_until(lambda: try_whoami(t), "somebody answers")["pid"], signal.SIGKILL)
                wait_until(lambda: metrics(t)["tined_crashes_total"] > n, "it is counted")
            t.reload()
        wait_until(lambda: len(watch.seen) > 20, "it has looked often")
    for before, after in zip(watch.seen, watch.seen[1:]):
        for name, value in after.items():
            if re.search(r"^(?!tined_process_).*(_total|_bucket{.*|_sum|_count)$", name):
                assert value >= before[name], name
        for name in "request_duration", "loop_lag", "pool_wait", "pool_run":
            assert after[f'tined_{name}_seconds_bucket{{le="+Inf"}}'] == after[f"tined_{name}_seconds_count"]
    t.control("status")  # the primary is through with the last reload
    last = metrics(t)
    assert (last["tined_crashes_total"], last["tined_reloads_total"], last["tined_generation"]) == (15, 3, 4)


def test_ready_throughout_a_reload(admin):
    """It is, and no more workers are said to be than there are to be."""
    t = admin({"workers": {"probation": "300ms"}})
    with Watch(lambda: get(t, "/readyz").status) as ready, Watch(lambda: metrics(t)["tined_workers_ready"]) as workers:
        t.reload()
        wait_until(lambda: admin_pid(t) and len(workers.seen) > 5, "it answers")
    assert set(ready.seen) == {200} and max(workers.seen) == 2


def test_scoreboard_full_of_anything(admin, root_only):
    """What workers write of themselves into shared memory is shown, and nothing else is done with it."""
    t = admin()
    before = admin_pid(t)
    pids = set(t.worker_pids()) - {before}
    dice = random.Random(1)
    with open(f"/proc/{t.pid}/mem", "r+b", buffering=0) as memory:
        slots = sorted(find_slots(t, memory, pids))
        size = min(b - a for a, b in zip(slots, slots[1:])) - OWN
        assert len(slots) == 2 and size > 1000
        for n, fill in enumerate([b"\xff" * size, *(dice.randbytes(size) for _ in range(5))]):
            for slot in slots:
                memory.seek(slot + OWN)
                memory.write(fill)
            said = get(t, "/status.json").json()
            assert len(said["processes"]) == 3 and get(t, "/readyz").status in (200, 503)
            check_metrics(get(t, "/metrics").body)
            with Client(t.admin) as c:
                c.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
                data = b""
                while data.count(b"event: processes") < (2 if n == 0 else 1) or not data.endswith(b"\n\r\n"):
                    data += c.sock.recv(65536)
            for line in re.findall(rb"^data: (.*)$", data, re.M):
                json.loads(line)
        for slot in slots:
            memory.seek(slot + OWN)
            memory.write(bytes(size))
    assert admin_pid(t) == before and pids < set(t.worker_pids())


def find_slots(t, memory, pids):
    """Where the slots of these processes are: each begins with its state and its pid (shared/scoreboard.h)."""
    with open(f"/proc/{t.pid}/maps", encoding="ascii") as maps:
        shared = [line.split()[0].split("-") for line in maps if " rw-s " in line and "tined-scoreboard" in line]
    for begin, end in shared:
        memory.seek(int(begin, 16))
        data = memory.read(int(end, 16) - int(begin, 16))
        for pid in pids:
            at = data.find(struct.pack("<II", 2, pid))
            if at >= 0 and at % OWN == 0:
                yield int(begin, 16) + at


def control_workers(t):
    """What `tinectl workers` is answered."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(harness.DEADLINE)
        s.connect(str(t.folder / "control.sock"))
        s.sendall(b"workers\n")
        lines = [json.loads(line) for line in s.makefile()]
    assert lines[-1]["ok"]
    return [line for line in lines if "slot" in line]


@pytest.mark.parametrize("fill", ["ff", "7f", "00", "01", "rr"])
def test_worker_that_writes_over_all_shared_memory_it_can(admin, build_module, folder, fill):
    """It says of itself what it likes. Nobody else is shown otherwise than before, nor serves worse."""
    module = build_module(harness.REPOSITORY / "tests/system/scribble_module.c")
    t = admin({"workers": {"count": "3"}, "module:m": {"path": module, "mount": "/m"},
               "http": {"max_total": "1000", "max_per_client": "900", "access_log": f"file:{folder}/access.log"}})
    before = {p["slot"]: p for p in get(t, "/status.json").json()["processes"]}
    with t.connect() as c:
        liar = c.request("/whoami").json()
        assert 0 < int(c.request(f"/m/?{fill}").body) < 1 << 20, "some of it is its own"
    for _ in range(2):
        status, text = get(t, "/status.json").body, get(t, "/metrics").body
        check_metrics(text)
        assert len(status) < 20000 and len(text) < 100000
        for processes in json.loads(status)["processes"], control_workers(t):
            assert {(p["slot"], p["pid"], p["role"], p["state"]) for p in processes} == \
                {(p["slot"], p["pid"], p["role"], p["state"]) for p in before.values()}
        end = time.monotonic() + harness.DEADLINE
        for _ in range(2 * harness.DEADLINE):
            t.hello()
            assert time.monotonic() < end
    others = [p for p in get(t, "/status.json").json()["processes"] if p["role"] == "worker" and p["pid"] != liar["pid"]]
    assert len(others) == 2 and all(0 <= p["connections"] < 900 and p["requests"] < 1000 for p in others)
    os.kill(liar["pid"], signal.SIGKILL)
    t.wait_log(r"crash: killed by signal 9")
    os.kill(others[0]["pid"], signal.SIGKILL)
    t.wait_log(r"crash: killed by signal 9", count=2)
    t.wait_log(r"starting -> ready", count=6)
    assert not t.find(r"worker\[\d\]:   #") and not t.find("it was in")


def test_worker_that_only_says_it_would_accept_is_not_waited_for(admin, root_only):
    """It stands still, while its slot says it turns and has nothing to do."""
    t = admin({"workers": {"hang_timeout": "60s"}})
    with t.connect() as held:
        worker = t.worker_of(held)
        liar = next(pid for pid in t.scoreboard() if pid != worker)
        with open(f"/proc/{t.pid}/mem", "r+b", buffering=0) as memory:
            slot = next(find_slots(t, memory, [liar]))
            os.kill(liar, signal.SIGSTOP)

            def lie():
                memory.seek(slot + OWN)
                memory.write(struct.pack("<IIQ", 1, 0, time.monotonic_ns() // 1000 + 900_000))  # as far ahead as is believed
                time.sleep(0.01)

            with Watch(lie) as lies:
                wait_until(lambda: lies.seen, "it has lied")
                before, began = t.scoreboard()[worker]["stepped_back"], time.monotonic()
                for _ in range(600):
                    t.hello()
                waited, seconds = t.scoreboard()[worker]["stepped_back"] - before, time.monotonic() - began
        os.kill(liar, signal.SIGCONT)
    assert 50 < waited <= 100 * (1 + seconds), "a hundred times a second at most"


def check_metrics(text):
    for line in text.decode("ascii").splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) tined_\w+ .*|tined_\w+({(\w+="[\w.+]+",?)+})? [-\d.e+]+', line), line


def test_content_types_and_safety(admin):
    t = admin()
    for path, kind in ("/metrics", "text/plain; version=0.0.4"), ("/status.json", "application/json"), ("/", "text/html"), \
            ("/app.js", "text/javascript"), ("/style.css", "text/css"):
        r = get(t, path)
        assert r.status == 200 and r.header("Content-Type").startswith(kind)
        assert "default-src 'none'" in r.header("Content-Security-Policy") and r.header("X-Content-Type-Options") == "nosniff"
        assert (r.header("Referrer-Policy"), r.header("Cache-Control")) == ("no-referrer", "no-store")
        assert r.header("Cross-Origin-Resource-Policy") == "same-origin"
        head = get(t, path, method="HEAD")
        assert head.status == 200 and head.header("Content-Type") == r.header("Content-Type")
        assert get(t, path, method="POST").status == 405 and get(t, path, method="DELETE").status == 405
    assert get(t, "/nothing").status == 404 and get(t, "/../../etc/passwd").status in (400, 404)
    assert get(t, "/metrics/more").status == 404 and get(t, "/metrics", method="BREW").status == 501


def test_head_of_the_stream_is_an_answer(admin):
    t = admin()
    with Client(t.admin) as c:
        for _ in range(2):
            r = c.request("/stream", method="HEAD")
            assert r.status == 200 and r.header("Content-Type") == "text/event-stream"
        assert c.request("/livez").status == 200


# --- health ---


def test_live_and_ready(admin):
    t = admin()
    assert get(t, "/livez").status == 200 and get(t, "/readyz").status == 200


def test_not_ready_while_every_worker_hangs(admin, module):
    t = admin({"workers": {"hang_timeout": "4s", "count": 1}, "module:m": {"path": module, "mount": "/m", "delay": "30s"}})
    with t.connect() as c:
        c.send(b"GET /m/sleep HTTP/1.1\r\nHost: test\r\n\r\n")
        r = wait_until(lambda: (r := get(t, "/readyz")).status == 503 and r, "it says that it is not")
        assert b"stand still" in r.body or b"no worker" in r.body
        assert get(t, "/livez").status == 200 and get(t, "/status.json").status == 200
    wait_until(lambda: get(t, "/readyz").status == 200, "it is replaced, and ready again")


def test_not_live_while_the_primary_is_stopped(admin):
    t = admin()
    os.kill(t.pid, signal.SIGSTOP)
    try:
        r = wait_until(lambda: (r := get(t, "/livez")).status == 503 and r, "it says so")
        assert b"the primary has been silent" in r.body
    finally:
        os.kill(t.pid, signal.SIGCONT)
    wait_until(lambda: get(t, "/livez").status == 200, "it lives again")


def test_not_ready_without_workers(admin):
    t = admin({"workers": {"count": 1, "crash_limit": "1/60s", "backoff_min": "1ms"}})
    killed = []

    def another():
        processes = get(t, "/status.json").json()["processes"]
        return [p["pid"] for p in processes if p["role"] == "worker" and p["pid"] and p["pid"] not in killed]

    for n in 1, 2:
        killed += wait_until(another, "there is one")
        os.kill(killed[-1], signal.SIGKILL)
        t.wait_log("crash: killed by signal 9", count=n)
    t.wait_log("giving the slot up")
    r = wait_until(lambda: (r := get(t, "/readyz")).status == 503 and r, "nobody is ready")
    assert b"no worker is ready" in r.body
    assert metrics(t)["tined_workers_failed"] == 1


# --- the process itself ---


def test_who_does_nothing_is_left_alone(admin):
    """The admin process and the workers: none is taken for one that hangs or has left."""
    t = admin()
    begun, family = time.monotonic(), sorted(p.pid for p in t.family())
    said = len(t.log())
    wait_until(lambda: time.monotonic() - begun > 5, "five seconds")
    assert sorted(p.pid for p in t.family()) == family
    assert t.log()[said:] == []


def test_its_crash_is_nobody_elses(admin):
    t = admin()
    before = set(t.worker_pids()) - {admin_pid(t)}
    victim = admin_pid(t)
    os.kill(victim, signal.SIGKILL)
    t.wait_log(r"admin\[\d+\]: crash: killed by signal 9")

    def is_back():
        try:
            return admin_pid(t) != victim
        except OSError:
            return False

    wait_until(is_back, "another one is there")
    assert before <= set(t.worker_pids())


def test_its_frames_are_told_as_its_own(admin):
    t = admin()
    os.kill(admin_pid(t), signal.SIGSEGV)
    t.wait_log(r"admin\[\d+\]:   #0 ")


def test_it_moves_with_a_reload(admin):
    t = admin()
    old = t.admin
    t.admin = ("127.0.0.1", harness.free_port())
    t.configure({"admin": {"listen": f"127.0.0.1:{t.admin[1]}"}})
    t.reload()
    wait_until(lambda: get(t, "/livez").status == 200, "it serves there")
    wait_until(lambda: harness.refuses(old), "and no longer here")


def test_it_goes_and_comes_with_its_section(admin):
    t = admin({"admin": {"listen": f"127.0.0.1:{harness.free_port()}"}})
    t.configure({"admin": None})
    t.reload()
    wait_until(lambda: harness.refuses(t.admin), "it is gone")
    t.configure({"admin": {"listen": f"127.0.0.1:{t.admin[1]}"}})
    t.reload()
    wait_until(lambda: get(t, "/livez").status == 200, "it is back")


def test_on_a_unix_socket(start, folder, token_file):
    t = start({"admin": {"listen": f"unix:{folder}/admin.sock", "token_file": token_file}})
    t.admin = f"{folder}/admin.sock"
    assert get(t, "/livez").status == 200
    assert act(t, "/api/scale?workers=3").status == 200
    assert [r.status for r in act_twice(t, "/api/scale?workers=3", "Bearer wrong")] == [401, 429]


def test_it_has_no_listening_socket_of_the_workers(admin):
    t = admin()
    with open("/proc/net/tcp", encoding="ascii") as tcp:
        listening = {f"socket:[{line.split()[9]}]" for line in tcp if f":{t.port():04X} " in line and line.split()[3] == "0A"}
    pid = admin_pid(t)
    worker = next(p for p in t.worker_pids() if p != pid)
    assert len(listening) == 1 and listening <= harness.sockets(worker)
    assert not listening & harness.sockets(pid) and harness.n_descriptors(pid) < 20


def test_silent_connections_are_closed(admin):
    t = admin()
    with Client(t.admin) as nothing, Client(t.admin) as half:
        half.send(b"GET / HTTP/1.1\r\nHo")
        assert half.rest()[:12] in (b"", b"HTTP/1.1 408")
        assert nothing.rest()[:12] in (b"", b"HTTP/1.1 408")


def test_address_in_use(tined):
    with socket.create_server(("127.0.0.1", 0)) as s:
        t = tined({"admin": {"listen": f"127.0.0.1:{s.getsockname()[1]}"}})
        assert t.run() == 1
        assert any(f"tined.ini:{t.line_of('listen =')}: admin.listen: " in e and "in use" in e for e in t.errors())


def test_it_runs_as_the_user(admin, root_only):
    t = admin({"tined": {"user": harness.NOBODY}})
    uid = os.stat(f"/proc/{admin_pid(t)}").st_uid
    assert uid == __import__("pwd").getpwnam(harness.NOBODY).pw_uid


def test_many_clients_are_bounded(admin):
    t = admin()
    crowd = []
    for _ in range(300):
        crowd.append(Client(t.admin))
    for c in crowd[:100]:
        c.close()
    wait_until(lambda: get(t, "/livez").status == 200, "there is room again")
    for c in crowd[100:]:
        c.close()


def test_readers_that_do_not_read_are_dropped(admin):
    """Every page gets a second's news at most so often, and goes when it does not take them."""
    t = admin()
    crowd = [Client(t.admin, receive_buffer=4096) for _ in range(70)]
    for c in crowd:
        c.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
    wait_until(lambda: get(t, "/livez").status == 200, "others are answered")
    refused = sum(b" 503 " in c.sock.recv(20) for c in crowd[-6:])
    assert refused == 6, "64 pages at a time"
    for c in crowd:
        c.close()


def test_stream_begins_with_the_past(admin):
    t = admin()
    t.hello()
    with Client(t.admin) as c:
        c.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        data = b""
        while data.count(b"event: now") < 3:
            data += c.sock.recv(65536)
    assert data.index(b"event: past") < data.index(b"event: now")
    assert b'"samples":' in data and b'"processes":' in data


# --- actions ---


def test_without_a_token_file_it_only_shows(admin):
    t = admin()
    r = act(t, "/api/reload")
    assert r.status == 403 and "token_file" in r.json()["error"]
    assert not t.find("reload: begins")


def test_actions_with_the_token(admin, token_file):
    t = admin({"admin": {"token_file": token_file}})
    r = act(t, "/api/scale?workers=3")
    assert r.status == 200 and r.json()["ok"] is True
    t.wait_workers(4)
    assert act(t, "/api/restart?slot=all").json()["ok"] is True
    r = act(t, "/api/reload")
    assert (r.status, r.json()["ok"]) == (200, True) and "generation 2 serves" in r.json()["text"]
    t.configure({"workers": {"nonsense": "1"}})
    r = wait_until(lambda: try_act(t, "/api/reload"), "it is asked again")
    assert r.status == 409 and "nonsense" in r.json()["error"]
    assert t.find("dashboard: scale 3")


def try_act(t, path):
    try:
        return act(t, path)
    except (OSError, harness.Gone):
        return None


def act_twice(t, path, header):
    """With this in the field Authorization, and with the right token; in one piece, for who comes later is heard. Returns both answers."""
    with Client(t.admin) as c:
        c.send(b"".join(f"POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: {value}\r\nContent-Length: 0\r\n\r\n".encode()
                        for value in (header, f"Bearer {TOKEN}")))
        return c.response(), c.response()


@pytest.mark.parametrize("header", ["Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", ""])
def test_wrong_tokens(admin, token_file, header):
    t = admin({"admin": {"token_file": token_file}})
    r, again = act_twice(t, "/api/reload", header)
    assert r.status == 401 and r.header("WWW-Authenticate") == "Bearer"
    assert again.status == 429, "no guessing as fast as one can"
    assert not t.find("reload: begins")
    wait_until(lambda: act(t, "/api/scale?workers=2").status == 200, "the right one is good after a moment")


def act_from(t, source, token=TOKEN):
    """The status of an action from another address of this machine."""
    with socket.create_connection(t.admin, harness.DEADLINE, (source, 0)) as s:
        s.sendall(f"POST /api/scale?workers=2 HTTP/1.1\r\nHost: t\r\nAuthorization: bearer {token}\r\n"
                  "Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        return int(s.recv(65536).split()[1])


def test_who_guesses_keeps_nobody_else_out(admin, token_file):
    t = admin({"admin": {"token_file": token_file}})
    others = [act_from(t, f"127.0.0.{n}") for n in range(2, 6) if act_from(t, "127.0.0.1", "wrong") in (401, 429)]
    assert len(others) == 4 and 200 in others, others  # by chance one of them may share a place with the guesser


def test_page_elsewhere_keeps_nobody_out(admin, token_file):
    """A form of any site can be sent here, but no such header with it."""
    t = admin({"admin": {"token_file": token_file}})
    for kind in "application/x-www-form-urlencoded", "text/plain":
        r = get(t, f"/api/scale?workers=3&token={TOKEN}", method="POST", headers=[
            ("Content-Length", "0"), ("Content-Type", kind), ("Origin", "http://elsewhere.example"), ("Cookie", f"token={TOKEN}")])
        assert r.status == 401
    r = get(t, "/api/scale?workers=3", method="OPTIONS", headers=[
        ("Origin", "http://elsewhere.example"), ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization")])
    assert not [name for name, _ in r.fields if name.lower().startswith("access-control")], "a browser asks first, and is not told to go on"
    assert act(t, "/api/scale?workers=2").status == 200


@pytest.mark.parametrize("path", ["/api/scale", "/api/scale?workers=", "/api/scale?n=3", "/api/scale?workers=3%0astop",
                                  "/api/restart?slot=all;stop", "/api/drain?slot=0 1"])
def test_wrong_arguments(admin, token_file, path):
    t = admin({"admin": {"token_file": token_file}})
    with Client(t.admin) as c:
        c.send(f"POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n".encode())
        assert c.response().status == 400
    assert t.process.poll() is None


def test_get_does_nothing(admin, token_file):
    t = admin({"admin": {"token_file": token_file}})
    assert get(t, "/api/reload", headers=[("Authorization", f"Bearer {TOKEN}")]).status == 405


@pytest.mark.parametrize("text, mode, said", [
    (None, 0, "No such file"), ("", 0o600, "the token is too short"), ("short\n", 0o600, "the token is too short"),
    ("x" * 300, 0o600, "the token is too long"), (TOKEN, 0o644, "everybody may read it"), (TOKEN, 0o622, "everybody may write it"),
    (TOKEN + " \n", 0o600, "visible ASCII"), (f"{TOKEN}é", 0o600, "visible ASCII"), (f"a bearer {TOKEN}", 0o600, "visible ASCII"),
])
def test_token_files_that_will_not_do(tined, folder, text, mode, said):
    path = folder / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    t = tined({"admin": {"listen": "127.0.0.1:0", "token_file": path}})
    assert t.run() == 1
    where = f"tined.ini:{t.line_of('token_file =')}: admin.token_file: {path}: "
    assert any(f"{where}{said}" in e or f"{where}the token is to be of {said}" in e for e in t.errors()), t.tail()


def test_token_file_of_another_user(tined, token_file, root_only):
    t = tined({"tined": {"user": harness.NOBODY}, "admin": {"listen": "127.0.0.1:0", "token_file": token_file}})
    assert t.run() == 1
    assert any(f"{token_file}: Permission denied" in e for e in t.errors()), t.tail()


def test_bad_token_file_fails_the_reload(admin, token_file):
    t = admin({"admin": {"token_file": token_file}})
    token_file.write_text("short")
    assert any(str(token_file) in line for line in t.reload_fails())
    assert act(t, "/api/scale?workers=2").status == 200, "the old one is good"


def test_token_is_never_written_down(admin, token_file):
    t = admin({"admin": {"token_file": token_file}})
    assert act(t, "/api/scale?workers=3").status == 200
    act(t, "/api/scale?workers=2", token=TOKEN + "wrong")
    for path in "/status.json", "/metrics":
        assert TOKEN.encode() not in get(t, path).body
    assert not t.find(TOKEN)


def test_page_that_leaves_during_its_action(admin, token_file):
    t = admin({"admin": {"token_file": token_file}, "workers": {"probation": "1s"}})
    with Client(t.admin) as c:
        c.send(f"POST /api/reload HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n".encode())
        t.wait_log("reload: begins")
    t.wait_log("reload: generation 2 serves")
    wait_until(lambda: get(t, "/livez").status == 200, "it serves")


def test_it_dies_during_an_action(admin, token_file):
    t = admin({"admin": {"token_file": token_file}, "workers": {"probation": "1s"}})
    victim = admin_pid(t)
    thread = threading.Thread(target=try_act, args=(t, "/api/reload"))
    thread.start()
    t.wait_log("reload: begins")
    os.kill(victim, signal.SIGKILL)
    t.wait_log("reload: generation 2 serves")
    thread.join()
    assert json.loads(get(t, "/status.json").body)["phase"] == "serving"
