"""The admin process: metrics, health checks, status, actions."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness
from harness import Client, wait_until

TOKEN = "correct-horse-battery-staple"
HANG = {"workers": {"hang_timeout": "60s"}}


@pytest.fixture
def admin(start, folder):
    """Makes a daemon with an admin process on a free port."""

    def make(changes=None, **options):
        port = harness.free_port()
        sections = {"admin": {"listen": f"127.0.0.1:{port}"}}
        for name, keys in (changes or {}).items():
            sections[name] = {**sections.get(name, {}), **keys}
        t = start(sections, **options)
        t.admin = ("127.0.0.1", port)
        return t

    return make


@pytest.fixture
def token_file(folder):
    path = folder / "token"
    path.write_text(TOKEN + "\n")
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
    m = wait_until(lambda: (m := metrics(t))["tined_requests_total"] == 17 and m, "those of the old generation, too")
    assert m["tined_reloads_total"] == 1 and m["tined_reload_failures_total"] == 0
    assert m["tined_generation"] == 2 and m["tined_workers_ready"] == 2
    n = m["tined_request_duration_seconds_count"]
    assert n in (16, 17), "its last answer may not have been measured when the worker was killed"
    assert m['tined_request_duration_seconds_bucket{le="+Inf"}'] == n
    assert 0 < m["tined_request_duration_seconds_sum"] < 17


def test_buckets_only_grow(admin):
    t = admin()
    for _ in range(20):
        t.hello()
    text = get(t, "/metrics").body.decode()
    for name in "request_duration", "loop_lag":
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


def test_content_types_and_safety(admin):
    t = admin()
    for path, kind in ("/metrics", "text/plain; version=0.0.4"), ("/status.json", "application/json"), ("/", "text/html"), \
            ("/app.js", "text/javascript"), ("/style.css", "text/css"):
        r = get(t, path)
        assert r.status == 200 and r.header("Content-Type").startswith(kind)
        assert "default-src 'none'" in r.header("Content-Security-Policy") and r.header("X-Content-Type-Options") == "nosniff"
    assert get(t, "/nothing").status == 404 and get(t, "/../../etc/passwd").status in (400, 404)


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
    for _ in range(2):
        pids = [p["pid"] for p in get(t, "/status.json").json()["processes"] if p["role"] == "worker" and p["pid"]]
        if pids:
            os.kill(pids[0], signal.SIGKILL)
        time.sleep(0.1)
    t.wait_log("giving the slot up")
    r = wait_until(lambda: (r := get(t, "/readyz")).status == 503 and r, "nobody is ready")
    assert b"no worker is ready" in r.body
    assert metrics(t)["tined_workers_failed"] == 1


# --- the process itself ---


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


def test_it_moves_with_a_reload(admin):
    t = admin()
    old = t.admin
    t.admin = ("127.0.0.1", harness.free_port())
    t.configure({"admin": {"listen": f"127.0.0.1:{t.admin[1]}"}})
    t.reload()
    wait_until(lambda: get(t, "/livez").status == 200, "it serves there")
    wait_until(lambda: harness.refuses(old), "and no longer here")


def test_it_goes_and_comes_with_its_section(admin):
    t = admin()
    t.configure({"admin": None})
    t.reload()
    wait_until(lambda: harness.refuses(t.admin), "it is gone")
    t.configure({"admin": {"listen": f"127.0.0.1:{t.admin[1]}"}})
    t.reload()
    wait_until(lambda: get(t, "/livez").status == 200, "it is back")


def test_on_a_unix_socket(start, folder):
    t = start({"admin": {"listen": f"unix:{folder}/admin.sock"}})
    t.admin = f"{folder}/admin.sock"
    assert get(t, "/livez").status == 200


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


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN])
def test_wrong_tokens(admin, token_file, header):
    t = admin({"admin": {"token_file": token_file}})
    headers = [("Content-Length", "0")] + ([("Authorization", header)] if header else [])
    r = get(t, "/api/reload", method="POST", headers=headers)
    assert r.status == 401 and r.header("WWW-Authenticate") == "Bearer"
    assert act(t, "/api/reload").status == 429, "no guessing as fast as one can"
    assert not t.find("reload: begins")
    wait_until(lambda: act(t, "/api/scale?workers=2").status == 200, "the right one is good after a moment")


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


@pytest.mark.parametrize("text, mode, said", [("short\n", 0o600, "the token is too short"), (TOKEN, 0o644, "everybody may read it"),
                                              (None, 0, "No such file")])
def test_token_files_that_will_not_do(tined, folder, text, mode, said):
    path = folder / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    t = tined({"admin": {"listen": f"127.0.0.1:{harness.free_port()}", "token_file": path}})
    assert t.run() == 1
    assert any(f"admin.token_file: {path}: {said}" in e for e in t.errors()), t.tail()


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
