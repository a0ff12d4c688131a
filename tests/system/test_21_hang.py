"""Hangs and crashes with evidence: what it did, where it was, what it served. The module is hang_module.c."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

import harness
from harness import TINED, Gone, wait_until
from conftest import HERE

ANSI_ESCAPE = "\033"


@pytest.fixture(scope="session")
def hangs(build_module):
    """With debugging information, and not optimized into one function."""
    return build_module(HERE / "hang_module.c", "-D_GNU_SOURCE", "-g", "-pthread", "-fno-optimize-sibling-calls")


@pytest.fixture(scope="session")
def hangs_without_debug(build_module):
    """Names come from .symtab alone."""
    return build_module(HERE / "hang_module.c", "-D_GNU_SOURCE", "-g0", "-pthread", "-fno-optimize-sibling-calls")


@pytest.fixture
def with_hangs(start, hangs):
    def make(workers=None, **options):
        settings = {"count": 1, "hang_timeout": "1s", "crash_limit": "100/1s", "backoff_min": "1ms", **(workers or {})}
        return start({"workers": settings, "module:m": {"path": hangs, "mount": "/m", **options}})

    return make


def ask(t, path):
    """The answer never comes."""
    with t.connect() as c, contextlib.suppress(Gone, ConnectionResetError):
        answer = c.request(path)
        raise AssertionError(f"answered: {answer}")


def frames(t, since=0):
    """The frames of the last backtrace in the log."""
    found = [m for m in t.find(r"worker\[\d+\]:   #(\d+) (.*)", since)]
    first = max(i for i, m in enumerate(found) if m[1] == "0")
    return [m[2] for m in found[first:]]


def wait_backtrace(t, since=0):
    """Waits until the place has been told, which comes after the frames."""
    t.wait_log(r"it was in ", since)
    return frames(t, since)


def place_of(name, line=True):
    where = r" \(hang_module\.c:\d+\)" if line else ""
    return re.compile(rf"^{name}{where} in module\d+\.so$")


def index_of(pattern, lines):
    found = [i for i, text in enumerate(lines) if pattern.search(text)]
    assert found, (pattern.pattern, lines)
    return found[0]


# --- hangs ---


@pytest.mark.parametrize("path, name, did", [
    ("/m/loop", "stuck_in_loop", "burnt CPU"),
    ("/m/sleep", "stuck_in_sleep", "slept"),
])
def test_hung_handler_is_named(with_hangs, path, name, did):
    t = with_hangs()
    ask(t, path)
    served = re.escape(f'serving "GET {path} HTTP/1.1"')
    t.wait_log(rf"warning tined: worker\[0\]: its loop stands still: no answer for \d+ ms, in which it ({did}) .*{served}")
    t.wait_log(rf"error tined: worker\[0\]: hung: no answer for \d+ ms, in which it ({did}) .*{served}")
    t.wait_log(r"crash: killed by signal 6 \(Aborted\)")
    lines = wait_backtrace(t)
    inner = index_of(place_of(name), lines)
    caller = index_of(place_of("on_" + name.removeprefix("stuck_in_")), lines)
    assert inner < caller, lines
    assert any(re.search(r"^worker_main .*in tined$", line) for line in lines), lines
    t.wait_log(rf"it was in {name} \(hang_module\.c:\d+\)")
    t.wait_log(r"starting -> ready", count=2)
    t.hello()


def test_names_need_no_debugging_information(start, hangs_without_debug):
    t = start({"workers": {"count": 1}, "module:m": {"path": hangs_without_debug, "mount": "/m"}})
    ask(t, "/m/null")
    lines = wait_backtrace(t)
    assert index_of(place_of("dies_by_null", line=False), lines) < index_of(place_of("on_null", line=False), lines)


def test_addresses_are_left_where_there_is_no_program_for_names(with_hangs, folder, monkeypatch):
    (folder / "bin").mkdir()
    monkeypatch.setattr(harness, "TINED", shutil.copy(harness.TINED, folder / "bin"))
    if any(pathlib.Path("/usr/lib").glob("**/tined/tined-symbolize")):
        pytest.skip("it is installed on this machine, and would be found there")
    t = with_hangs()
    ask(t, "/m/null")
    t.wait_log(r"warning tined: \S*/tined/tined-symbolize: No such file or directory; backtraces are left as addresses")
    t.wait_log(r"worker\[0\]:   /\S+/module\d+\.so\+0x[0-9a-f]+$")
    t.wait_log(r"starting -> ready", count=2)
    t.hello()


def symbolize(text):
    program = pathlib.Path(harness.TINED).parent / "tined-symbolize"
    return subprocess.run([program], input=text, capture_output=True, text=True, timeout=30, check=False)


def test_program_for_names(hangs):
    binary = harness.TINED
    assert symbolize("").stdout == ""
    known = subprocess.run(["nm", hangs], capture_output=True, text=True, check=True).stdout
    address = int(re.search(r"^(\w+) \w stuck_in_loop$", known, re.M)[1], 16)
    done = symbolize(f"{hangs}+{address:#x}\n{binary}+0x0\n/no/such+file+0x12\nnonsense\n+0x1\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"#0 stuck_in_loop \(hang_module\.c:\d+\) in module\d+\.so", lines[0])
    assert re.match(r"#1 .* in tined", lines[1])
    assert lines[2:] == ["#2 0x12 in /no/such+file", "#3 nonsense", "#4 +0x1"]
    many = symbolize("\n".join(f"/no/such+{n:#x}" for n in range(1000)) + "\n" + "x" * 100000)
    assert many.returncode == 0 and len(many.stdout.splitlines()) == 24


def test_stopped_worker_tells_where_it_was(with_hangs):
    t = with_hangs()
    (pid,) = t.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    t.wait_log(r"warning tined: worker\[0\]: its loop stands still: .* was stopped by a signal")
    t.wait_log(r"error tined: worker\[0\]: hung: .* was stopped by a signal")
    t.wait_log(rf"crash: .* pid {pid}, ")
    lines = wait_backtrace(t)
    assert any("worker_main" in line for line in lines), lines
    t.wait_log(r"starting -> ready", count=2)
    t.hello()


def test_loop_that_turns_again_is_spared(with_hangs):
    t = with_hangs({"hang_timeout": "20s"})
    (pid,) = t.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    t.wait_log(r"its loop stands still")
    os.kill(pid, signal.SIGCONT)
    t.wait_log(r"its loop turns again, after \d+ ms")
    assert t.worker_pids() == [pid]
    assert not t.errors()


def test_module_that_hangs_in_its_start_is_named(tined, hangs):
    t = tined({"workers": {"count": 1, "start_timeout": "2s"},
               "module:m": {"path": hangs, "mount": "/m", "start": "hang"}}).spawn()
    t.expected_status = 1
    t.wait_log(r"not ready after \d+ ms, in which it slept")
    lines = wait_backtrace(t)
    index_of(place_of("stuck_in_start"), lines)
    assert t.wait_exit() == 1


def test_one_hang_kill_at_a_time(with_hangs):
    """Both hang; the second is only taken down when the first one's slot is served again."""
    t = with_hangs({"count": 2})
    pids = t.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    t.wait_log(r"ready -> killing: hung", count=2)
    t.wait_log(r"starting -> ready", count=4)
    log = t.log()
    kills = [i for i, text in enumerate(log) if re.search(r"ready -> killing: hung", text)]
    slots = [re.search(r"worker\[(\d)\]", log[i])[1] for i in kills]
    assert len(kills) == 2 and slots[0] != slots[1]
    between = log[kills[0] : kills[1]]
    assert any(f"worker[{slots[0]}]: starting -> ready" in text for text in between), t.tail()
    t.hello()


# --- crashes ---


@pytest.mark.parametrize("path, name, sig", [
    ("/m/null", "dies_by_null", 11),
    ("/m/abort", "dies_by_abort", 6),
    ("/m/overflow", "dies_by_overflow", 11),
    ("/m/thread", "dies_by_null", 11),
])
def test_crash_is_named(tined, hangs, path, name, sig):
    # The sanitizer, where there is one, is not to catch these: it would report them and exit.
    quiet = "handle_segv=0:handle_abort=0:" + os.environ.get("ASAN_OPTIONS", "")
    t = tined({"workers": {"count": 1}, "module:m": {"path": hangs, "mount": "/m"}}, env={"ASAN_OPTIONS": quiet}).start()
    ask(t, path)
    t.wait_log(rf'crash: killed by signal {sig} .*serving "GET {path} HTTP/1.1"')
    lines = wait_backtrace(t)
    inner = index_of(place_of(name), lines)
    if path == "/m/thread":
        assert inner < index_of(place_of("dies_in_thread"), lines)
    elif path != "/m/overflow":  # whose frames fill the entry
        assert inner < index_of(place_of("on_" + path.removeprefix("/m/")), lines)
    t.wait_log(rf"it was in {name} ")
    t.wait_log(r"starting -> ready", count=2)
    t.hello()


def test_call_of_a_wild_pointer_is_told(tined, hangs):
    """There is no function to name; what had called it is."""
    quiet = "handle_segv=0:" + os.environ.get("ASAN_OPTIONS", "")
    t = tined({"workers": {"count": 1}, "module:m": {"path": hangs, "mount": "/m"}}, env={"ASAN_OPTIONS": quiet}).start()
    ask(t, "/m/nowhere")
    t.wait_log(r"crash: killed by signal 11 ")
    t.wait_log(r"#0 .*0x10")
    t.wait_log(r"starting -> ready", count=2)
    t.hello()


def test_crash_record_holds_the_backtrace(with_hangs):
    t = with_hangs()
    (pid,) = t.worker_pids()
    ask(t, "/m/sleep")
    wait_backtrace(t)
    (crash,) = crashes(t)
    assert crash["pid"] == pid and crash["slot"] == 0 and crash["generation"] == 1 and crash["hung"] is True
    assert crash["signal"] in (6, "SIGABRT", "ABRT")
    assert "stuck_in_sleep" in json.dumps(crash["backtrace"])
    assert crash["request_line"] == "GET /m/sleep HTTP/1.1"


def crashes(t):
    tinectl = os.path.join(os.path.dirname(os.environ.get("TINED", TINED)), "tinectl")
    if not os.access(tinectl, os.X_OK):
        pytest.skip("there is no tinectl beside tined")
    done = subprocess.run([tinectl, "-s", str(t.folder / "control.sock"), "crashes", "--json"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [answer for answer in answers if "backtrace" in answer]  # not the last line, which says how it went


def test_all_that_crash_at_the_same_time_are_named(with_hangs):
    t = with_hangs({"count": 4})
    for pid in t.worker_pids():
        os.kill(pid, signal.SIGSEGV)
    t.wait_log(r"it was in \w+", count=4)  # most of them in worker_main, in an idle loop
    assert not t.find(r"worker\[\d\]:   #\d+ /")
    t.wait_log(r"starting -> ready", count=8)
    t.hello()


@pytest.mark.parametrize("lie", range(5))
def test_child_that_lies_about_its_backtrace_harms_nobody(with_hangs, lie):
    t = with_hangs(scribble=lie)
    primary = t.pid
    for n in range(1, 3):
        ask(t, "/m/scribble")
        t.wait_log(r"crash: killed by signal 9 ", count=n)
        t.wait_log(r"starting -> ready", count=n + 1)
    wait_until(lambda: len(t.family()) == 2, "the symbolizer has ended")
    assert all(ANSI_ESCAPE not in text and "root:" not in text for text in t.log())
    assert t.pid == primary
    t.hello()
