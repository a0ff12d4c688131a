"""Arguments, start and stop."""

import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

from harness import DEADLINE, HELLO, REPOSITORY, TINED, Client, free_port, refuses, tool, wait_until


def run(*arguments, **options):
    return subprocess.run([TINED, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE, **options)


def test_version():
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"tined \d+\.\d+\.\d+\n", done.stdout)


def test_exports_the_public_functions_and_nothing_else():
    """Modules link against the running binary: all of <tine/...> must be there, and nothing they could come to rely on."""
    nm = tool("nm") or pytest.skip("no nm here")
    table = subprocess.run([nm, "-D", "--defined-only", TINED], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in table.splitlines()}
    exported = {n for n in names if "@" not in n and not n.startswith("_") and n not in ("data_start", "edata", "end")}
    headers = "".join(path.read_text() for path in (REPOSITORY / "include/tine").glob("*.h"))
    promised = set(re.findall(r"TINE_EXPORT[^;#]*?\b(tine_[a-z0-9_]+)\(", headers))
    assert len(promised) > 15
    assert exported == promised


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option):
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: tined ")
    for word in ("--config", "--check", "--print-config", "--version", "HUP", "USR1", "TTIN"):
        assert word in done.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--nonsense"], "unrecognized option '--nonsense'"),
        (["-x"], "invalid option -- 'x'"),
        (["-c"], "option requires an argument -- 'c'"),
        (["conf.ini"], "unexpected argument 'conf.ini'"),
        (["-c", "/nonexistent/tined.ini"], "/nonexistent/tined.ini"),
        (["-c", "/"], "/"),
    ],
)
def test_wrong_arguments(arguments, said):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_check_of_a_good_file(tined):
    t = tined()
    done = run("-c", t.path, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{t.path}: the configuration is good\n", "")


def test_check_reports_every_error_with_its_line(tined):
    t = tined({"workers": {"count": "many", "sped": 1}})
    done = run("-c", t.path, "--check")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert any(line.startswith(f"{t.path}:{t.line_of('count = many')}: workers.count: ") for line in lines)
    assert any(line.startswith(f"{t.path}:{t.line_of('sped = 1')}: workers.sped: ") for line in lines)


def test_check_touches_no_socket(tined, start):
    serving = start()
    other = tined({"listener:web": {"address": f"127.0.0.1:{serving.port()}"}})
    assert run("-c", other.path, "--check").returncode == 0
    serving.hello()


def test_check_finds_what_only_the_module_knows(tined, module):
    t = tined({"module:m": {"path": module, "mount": "/m", "fail": "configure"}})
    done = run("-c", t.path, "--check")
    assert done.returncode == 1
    assert done.stderr == f"{t.path}:{t.line_of('fail = configure')}: module:m.fail: told to fail in configure\n"


def test_print_config_parses_again(tined):
    t = tined({"workers": {"count": 3, "hang_timeout": "1500ms"}, "http": {"max_body": "2M"}})
    first = run("-c", t.path, "--print-config")
    assert first.returncode == 0
    for line in ("count = 3\n", "hang_timeout = 1500ms\n", "max_body = 2M\n"):
        assert line in first.stdout
    again = t.folder / "again.ini"
    again.write_text(first.stdout)
    second = run("-c", again, "--print-config")
    assert (second.returncode, second.stdout) == (0, first.stdout)


def test_printed_config_serves(tined):
    t = tined()
    t.configure(text=run("-c", t.path, "--print-config").stdout)
    t.start().hello()


def test_print_config_into_a_full_disk(tined):
    with open("/dev/full", "w") as full:
        command = [TINED, "-c", tined().path, "--print-config"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_start_says_what_it_does_and_answers(start):
    t = start()
    assert len(t.find(r"worker\[\d\]: starting -> ready: generation 1, started in [\d.]+ ms")) == 2
    assert t.find(r"start: generation 1 serves, 2 workers, after \d+ ms")
    assert len(t.worker_pids()) == 2
    response = t.hello()
    assert response.body == HELLO and len(HELLO) == 13
    assert response.version == "HTTP/1.1" and response.reason == "OK"
    assert response.header("Content-Type") == "text/plain"
    assert response.header("Content-Length") == "13"
    assert not t.errors()


def test_whoami_names_a_worker(start):
    t = start()
    who = t.whoami()
    assert who["pid"] in t.worker_pids()
    assert who["worker"] in (0, 1)
    assert who["generation"] == 1
    assert f"tined {who['version']}\n" == run("--version").stdout


def test_configuration_with_a_relative_path(tined):
    t = tined(arguments=["-c", "tined.ini"])
    t.start().hello()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT], ids=lambda s: s.name)
def test_stop(start, sig):
    t = start()
    t.hello()
    assert t.stop(sig) == 0
    assert t.find(f"received {sig.name} from pid ")
    assert len(t.find(r"worker\[\d\]: draining -> dead: exited with status 0")) == 2
    assert t.find(r"tined: stopped$")
    assert not t.errors()


def test_stop_at_once_after_start(tined):
    """TERM that comes while the first workers are still on their way."""
    t = tined({"workers": {"count": 4}}).spawn()
    t.wait_log(r"worker\[0\]: empty -> starting")
    assert t.stop() == 0


def test_stop_finishes_the_request_in_flight(start):
    t = start()
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        t.hello()  # the worker has had time to read
        t.signal(signal.SIGTERM)
        t.wait_draining()
        c.send(b"\r\n")
        response = c.response()
        assert (response.status, response.body, response.closes) == (200, HELLO, True)
        assert c.closed()
    assert t.stop() == 0
    assert t.errors() == []


def test_stop_refuses_new_connections(start):
    """While a request in flight holds it up nobody else is left waiting in vain."""
    t = start()
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        t.hello()
        t.signal(signal.SIGTERM)
        t.wait_draining()
        wait_until(lambda: refuses(t.address()), "the port is closed", 5)
        c.send(b"\r\n")
        assert c.response().status == 200
    assert t.stop() == 0


def test_second_term_stops_at_once(start):
    t = start({"workers": {"drain_timeout": "1h"}, "http": {"header_timeout": "1h"}})
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\n")
        t.hello()
        t.signal(signal.SIGTERM)
        t.wait_log(r"ready -> draining: stopping", count=2)
        t.wait_log(r"draining -> dead: exited with status 0")  # the other worker
        assert t.process.poll() is None
        t.stop_at_once()
        assert t.find(r"draining -> killing: stop at once")
        assert not t.errors()


def test_term_twice_at_the_same_moment_is_one_request(start):
    """timeout(1) and some shells signal the process and then its group."""
    t = start({"workers": {"drain_timeout": "1h"}, "http": {"header_timeout": "1h"}})
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        t.hello()
        t.signal(signal.SIGSTOP)  # it gets both when it goes on
        t.signal(signal.SIGTERM)
        t.signal(signal.SIGINT)
        t.signal(signal.SIGCONT)
        t.wait_log(r"received SIGINT")
        t.wait_draining()
        c.send(b"\r\n")
        assert c.response().body == HELLO
    assert t.stop() == 0


def test_drain_timeout_bounds_the_stop(start):
    t = start({"workers": {"drain_timeout": "300ms"}, "http": {"header_timeout": "1h"}})
    with t.connect() as c:
        c.send(b"GET / HTTP/1.1\r\n")
        t.hello()
        assert t.stop() == 0
        assert t.find(r"drain: deadline; closing 1 connections")


def test_idle_connections_are_closed_at_a_stop(start):
    t = start({"workers": {"drain_timeout": "2s"}})
    with t.connect() as c:
        assert c.request().status == 200
        t.signal(signal.SIGTERM)
        assert c.closed()
    assert t.stop() == 0


def test_pid_file(start, folder):
    path = folder / "tined.pid"
    t = start({"tined": {"pid_file": path}})
    assert path.read_text() == f"{t.pid}\n"
    t.stop()
    assert not path.exists()


def test_log_to_a_file(tined, folder):
    path = folder / "tined.log"
    t = tined({"tined": {"log": f"file:{path}"}}).spawn()
    wait_until(lambda: path.exists() and "generation 1 serves" in path.read_text(), "it serves")
    assert t.stop() == 0
    assert t.log() == []
    assert "draining -> dead: exited with status 0" in path.read_text()


@pytest.mark.parametrize("level", ["error", "warning", "info"])
def test_log_level(tined, folder, level):
    t = tined({"tined": {"log_level": level}, "listener:web": {"address": f"unix:{folder}/s"}}).spawn()
    wait_until(lambda: not refuses(f"{folder}/s"), "it listens")
    wait_until(lambda: len(t.worker_pids()) == 2, "workers")
    assert t.stop() == 0
    assert bool(t.find(" info ")) == (level == "info")
    assert not t.find(" debug ")
    if level == "error":
        assert t.log() == []


# --- odd surroundings ---


def test_log_on_a_full_disk(tined, folder):
    """Lines are lost, service is not."""
    t = tined({"tined": {"log": "file:/dev/full"}, "listener:web": {"address": f"unix:{folder}/s"}})
    t.spawn()
    wait_until(lambda: not refuses(f"{folder}/s"), "it listens")
    with Client(f"{folder}/s") as c:
        assert c.request().body == HELLO
    assert t.stop() == 0


def test_nobody_reads_stderr(tined, folder):
    """A broken pipe is no reason to end."""
    reading, writing = os.pipe()
    t = tined({"listener:web": {"address": f"unix:{folder}/s"}}, before=lambda: os.dup2(writing, 2), pass_fds=[2])
    t.spawn()
    os.close(reading)
    os.close(writing)
    wait_until(lambda: not refuses(f"{folder}/s"), "it listens")
    with Client(f"{folder}/s") as c:
        assert c.request().body == HELLO
    assert t.stop() == 0


def test_started_without_standard_streams(tined, folder):
    """Descriptors 0 to 2 must not become sockets that stray output goes to."""
    path = folder / "log"
    t = tined(
        {"tined": {"log": f"file:{path}"}, "listener:web": {"address": f"unix:{folder}/s"}},
        wrap=["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"],
    ).spawn()
    wait_until(lambda: path.exists() and "generation 1 serves" in path.read_text(), "it serves")
    with Client(f"{folder}/s") as c:
        assert c.request().body == HELLO
    for pid in [t.pid, *t.worker_pids()]:
        for fd in range(3):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    assert t.stop() == 0


# --- scripts/run ---

BUILD = pathlib.Path(os.environ.get("TINED", REPOSITORY / "build" / "tined")).resolve().parent


@pytest.fixture
def checkout(folder):
    """As after a build: nothing is to be installed or built."""
    if not os.access(BUILD / "tinectl", os.X_OK):
        pytest.skip("tinectl is not beside the binary under test")
    for path in "scripts", "build":
        (folder / path).mkdir()
    for path in "scripts/run", "conf", "examples":
        (folder / path).symlink_to(REPOSITORY / path)
    for path in "tined", "tinectl", "examples":
        (folder / "build" / path).symlink_to(BUILD / path)
    (folder / "build/build.ninja").touch()
    (folder / "scripts/deps").symlink_to("/bin/true")
    return folder


def run_script(checkout, port, *arguments):
    env = {**os.environ, "PORT": str(port)}
    return subprocess.run([checkout / "scripts/run", *arguments], capture_output=True, text=True, timeout=DEADLINE, env=env, cwd="/",
                          check=False)


def test_script_says_where_when_it_serves(checkout):
    port = free_port()
    with subprocess.Popen([checkout / "scripts/run"], stderr=subprocess.PIPE, text=True, env={**os.environ, "PORT": str(port)}, cwd="/") as process:
        try:
            assert any(f"open http://127.0.0.1:{port}/" in line for line in process.stderr)
            for p, path in (port, "/"), (port, "/compute.html"), (port + 1, "/livez"):
                with Client(("127.0.0.1", p)) as c:
                    assert c.request(path).status == 200
            again = run_script(checkout, port)
            assert again.returncode == 1 and "it runs already" in again.stderr and "tinectl -s build/control.sock stop" in again.stderr
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
        assert process.wait(DEADLINE) == 0 and "stopped" in rest and "open http" not in rest


@pytest.mark.parametrize("which", [0, 1], ids=["site", "dashboard"])
def test_script_names_the_port_that_is_taken(checkout, which):
    port = free_port()
    with socket.create_server(("127.0.0.1", port + which)):
        done = run_script(checkout, port)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"port {port + which} is taken" in done.stderr and "PORT=" in done.stderr


def test_script_does_not_say_where_when_it_cannot_serve(checkout):
    (checkout / "build/examples").unlink()
    done = run_script(checkout, free_port())
    assert done.returncode == 1 and "compute.so" in done.stderr and "open http" not in done.stderr


@pytest.mark.parametrize("port", ["abc", "0", "-1", "8080x"])
def test_script_wants_a_port(checkout, port):
    done = run_script(checkout, port)
    assert done.returncode == 1 and f'PORT is "{port}"' in done.stderr


def test_script_passes_options_on(checkout):
    done = run_script(checkout, 8080, "--version")
    assert done.returncode == 0 and "\ntined " in "\n" + done.stdout and not done.stderr
