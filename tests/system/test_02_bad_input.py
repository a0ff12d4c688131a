"""What cannot work at the start: exit status 1, one clear line, nothing left behind."""

import os
import pwd
import resource
import shutil
import socket

import pytest

from harness import HELLO, NOBODY, REPOSITORY, Client, as_nobody, wait_until

def refuses(t, *words):
    """It fails to start; one error line has all the words, and no other line is an error."""
    assert t.run() == 1, t.tail()
    t.wait_exit()
    errors = t.errors() or t.log()  # configuration errors come before there is a log
    assert len(errors) == 1, t.tail()
    for word in words:
        assert str(word) in errors[0]
    assert not t.find("serves,")
    assert not t.find(r"\[\d+\]: crash"), "a failure that the worker explained is no crash"
    assert t.family() == []
    return errors[0]


def leaves_only(folder, *names):
    assert sorted(os.listdir(folder)) == sorted(["tined.ini", *names])


def test_taken_port(tined, folder):
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = f"127.0.0.1:{s.getsockname()[1]}"
        t = tined({"listener:web": {"address": address}})
        refuses(t, f"{t.path}:{t.line_of('address =')}: listener:web.address: {address}: Address already in use")
    leaves_only(folder)


def test_second_of_two_listeners_taken(tined, folder):
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = f"127.0.0.1:{s.getsockname()[1]}"
        t = tined(
            {
                "listener:web": {"address": f"unix:{folder}/first.sock"},
                "listener:second": {"address": address},
                "tined": {"pid_file": folder / "pid"},
            }
        )
        refuses(t, f"{t.path}:{t.line_of(address)}: listener:second.address: {address}: Address already in use")
    leaves_only(folder)


def test_address_of_another_machine(tined):
    t = tined({"listener:web": {"address": "192.0.2.1:0"}})
    refuses(t, t.path, "listener:web.address: 192.0.2.1:0: Cannot assign requested address")


def test_privileged_port(tined):
    try:
        limit = int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read())
    except OSError:
        limit = 1024
    if limit <= 81:
        pytest.skip("every port is open to everybody here")
    t = tined({"listener:web": {"address": "127.0.0.1:81"}}, before=as_nobody)
    refuses(t, f"{t.path}:{t.line_of('address =')}: listener:web.address: 127.0.0.1:81: Permission denied")


def test_taken_port_leaves_the_pid_file_of_who_has_it(start, tined, folder):
    """The same service started twice: the second one must not harm the first."""
    pid_file = folder / "tined.pid"
    first = start({"tined": {"pid_file": pid_file}})
    second = tined({"tined": {"pid_file": pid_file}, "listener:web": {"address": f"127.0.0.1:{first.port()}"}})
    refuses(second, "Address already in use")
    assert pid_file.read_text() == f"{first.pid}\n"
    first.hello()


# --- modules ---


def test_missing_module(tined, folder):
    t = tined({"module:m": {"path": "/nonexistent/m.so", "mount": "/m"}, "tined": {"pid_file": folder / "pid"}})
    refuses(t, f"{t.path}:{t.line_of('m.so')}: module:m.path: ", "/nonexistent/m.so", "No such file or directory")
    leaves_only(folder)


def test_shared_object_that_is_no_module(tined):
    t = tined({"module:m": {"path": "/lib/x86_64-linux-gnu/libc.so.6", "mount": "/m"}})
    if not os.path.exists("/lib/x86_64-linux-gnu/libc.so.6"):
        pytest.skip("libc lies elsewhere here")
    refuses(t, f"{t.path}:{t.line_of('libc.so.6')}: module:m.path: ", "no symbol `tine_module`")


def test_module_that_is_no_shared_object(tined, folder):
    path = folder / "m.so"
    path.write_text("not an ELF file, and long enough to be read as one" * 10)
    t = tined({"module:m": {"path": path, "mount": "/m"}})
    refuses(t, f"{t.path}:{t.line_of('m.so')}: module:m.path: ", path, "invalid ELF header")


def test_relative_module_is_sought_beside_the_configuration(tined, folder, module):
    shutil.copy(module, folder / "own.so")
    t = tined({"module:m": {"path": "own.so", "mount": "/m"}}, before=lambda: os.chdir("/")).start()
    assert t.get("/m/").body == b"module"


def test_unknown_builtin(tined):
    t = tined({"module:m": {"path": "builtin:helo", "mount": "/m"}})
    refuses(t, f"{t.path}:{t.line_of('builtin:helo')}: module:m.path: ", "helo")


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("flavour", "sweet", "unknown option; this module has: fail, fail_file, text, delay"),
        ("delay", "soon", "must be a duration such as 250ms, 10s or 5m, not \"soon\""),
        ("delay", "2h", "must be 1ms to 1h, not 2h"),
    ],
)
def test_wrong_module_option(tined, module, key, value, said):
    t = tined({"module:m": {"path": module, "mount": "/m", key: value}})
    refuses(t, f"{t.path}:{t.line_of(key + ' =')}: module:m.{key}: {said}")


def test_option_of_a_module_without_options(tined):
    t = tined({"module:hello": {"text": "hi"}})
    refuses(t, f"{t.path}:{t.line_of('text =')}: module:hello.text: unknown option; this module has none")


@pytest.mark.parametrize("where", ["configure", "start"])
def test_module_that_refuses(tined, module, where):
    t = tined({"module:m": {"path": module, "mount": "/m", "fail": where}})
    refuses(t, "told to fail in " + ("configure" if where == "configure" else "worker_start"), "module:m", t.path)


@pytest.mark.parametrize("abi, size", [("TINE_ABI + 1", "sizeof(struct tine_module)"), ("TINE_ABI", "8"), ("0", "0")])
def test_module_of_another_abi(tined, build_module, folder, abi, size):
    source = folder / "old.c"
    source.write_text(f"#include <tine/module.h>\nTINE_MODULE = {{.abi = {abi}, .size = {size}, .name = \"old\"}};\n")
    t = tined({"module:old": {"path": build_module(source), "mount": "/old"}})
    refuses(t, f"{t.path}:", "module:old.path: was built for another tined and must be built again: ABI ")


def test_module_with_an_option_of_an_unknown_type(tined, build_module, folder):
    source = folder / "odd.c"
    source.write_text(
        "#include <tine/module.h>\n"
        'static const struct tine_option rows[] = {{.name = "odd", .type = (enum tine_option_type)99, .def = "1"}, {0}};\n'
        'TINE_MODULE = {.abi = TINE_ABI, .size = sizeof(struct tine_module), .name = "odd", .options = rows};\n'
    )
    t = tined({"module:odd": {"path": build_module(source), "mount": "/odd"}})
    refuses(t, f"{t.path}:", "module:odd.odd: is of a type this version does not know")


def test_the_module_of_the_readme(start, build_module, folder):
    """The first thing a newcomer copies."""
    text = (REPOSITORY / "README.md").read_text()
    source = folder / "hello.c"
    source.write_text(text.split("```c\n")[1].split("```")[0])
    t = start({"module:hello": {"path": build_module(source)}})
    t.hello()


def test_module_on_a_tcp_listener(tined):
    t = tined({"listener:raw": {"address": "127.0.0.1:0", "protocol": "tcp"}, "module:hello": {"listener": "raw"}})
    refuses(t, f"{t.path}:", "module:hello.listener: ", "plain tcp", "protocol = http", "raw")


def test_mount_point_taken(tined):
    t = tined({"module:second": {"path": "builtin:hello", "mount": "/"}})
    refuses(t, t.path, "module:second", "mount")


def test_unreadable_root(tined, folder):
    root = folder / "site"
    root.mkdir(0o000)
    t = tined({"tined": {"control": None}, "module:hello": {"path": "builtin:static", "root": root}},
              before=as_nobody)
    refuses(t, f"{t.path}:{t.line_of('root =')}: module:hello.root: {root}: Permission denied")


@pytest.mark.parametrize("kind, said", [("missing", "No such file or directory"), ("file", "Not a directory")])
def test_root_that_is_no_folder(tined, folder, kind, said):
    root = folder / "site"
    if kind == "file":
        root.write_text("")
    t = tined({"module:hello": {"path": "builtin:static", "root": root}})
    refuses(t, f"{t.path}:{t.line_of('root =')}: module:hello.root: {root}: {said}")


@pytest.mark.parametrize("how, said", [("exit", "exited with status 3"), ("abort", "killed by signal 6 (Aborted)")])
def test_module_that_dies_at_start(tined, module, how, said):
    """That is a crash, and one line more says that the start failed."""
    t = tined({"module:m": {"path": module, "mount": "/m", "fail": how}, "workers": {"count": 1}})
    assert t.run() == 1
    assert t.find(rf"worker\[0\]: crash: {said}".replace("(", r"\(").replace(")", r"\)"))
    assert any(e.startswith(f"worker[0] of the new generation did not get ready: {said}") for e in t.errors())


def test_module_that_never_gets_ready(tined, module):
    hanging = {"path": module, "mount": "/m", "fail": "hang"}
    t = tined({"module:m": hanging, "workers": {"count": 1, "start_timeout": "2s"}})
    assert t.run() == 1
    assert t.find(r"worker\[0\]: not ready after \d+ ms, in which it slept \(\d+ ms of CPU\); killing it")
    assert t.find(r"starting -> killing: start_timeout is over; sending a request for a backtrace")
    assert t.find(r"worker\[0\] of the new generation did not get ready: killed by .*, for it was not ready within start_timeout")


# --- users, files ---


def test_unknown_user(tined, folder):
    t = tined({"tined": {"user": "no-such-user"}})
    refuses(t, f"{t.path}:", "tined.user: no-such-user", "no such user")
    leaves_only(folder)


def test_only_root_can_become_another_user(tined):
    t = tined({"tined": {"user": "root" if os.geteuid() else "bin"}}, before=as_nobody)
    refuses(t, t.path, "tined.user: only root can become")


def test_workers_run_as_the_user(start, root_only):
    t = start({"tined": {"user": NOBODY}})
    t.hello()
    uid = pwd.getpwnam(NOBODY).pw_uid
    for pid in t.worker_pids():
        status = open(f"/proc/{pid}/status").read()
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status
        assert "CapEff:\t0000000000000000\n" in status
        assert "NoNewPrivs:\t1\n" in status
    assert not t.find("workers run as root")


@pytest.mark.parametrize("target, said", [("/nonexistent/log", "No such file or directory"), ("/", "Is a directory")])
def test_log_file_that_cannot_be_opened(tined, folder, target, said):
    t = tined({"tined": {"log": f"file:{target}"}})
    refuses(t, t.path, f"tined.log: {target}: {said}")
    leaves_only(folder)


def test_unwritable_log_file(tined, folder):
    (folder / "locked").mkdir(0o555)
    t = tined({"tined": {"log": f"file:{folder}/locked/log"}}, before=as_nobody)
    refuses(t, t.path, f"tined.log: {folder}/locked/log: Permission denied")


@pytest.mark.parametrize("content", ["precious\n", "12345678901234567890123456789012345\n", None])
def test_file_in_place_of_the_pid_file_is_left_alone(tined, folder, content):
    path = folder / "precious"
    if content is None:
        path.symlink_to(folder / "elsewhere")
    else:
        path.write_text(content)
    refuses(tined({"tined": {"pid_file": path}}), f"tined.pid_file: {path}: there is something else than a pid file")
    assert path.is_symlink() if content is None else path.read_text() == content


@pytest.mark.parametrize("target, said", [("nowhere/pid", "No such file or directory"), ("taken", "Is a directory")])
def test_pid_file_that_cannot_be_written(tined, folder, target, said):
    (folder / "taken").mkdir()
    t = tined({"tined": {"pid_file": folder / target}, "listener:web": {"address": f"unix:{folder}/web.sock"}})
    refuses(t, t.path, f"tined.pid_file: {folder / target}: {said}")
    leaves_only(folder, "taken")


def test_unwritable_pid_file(tined, folder):
    (folder / "locked").mkdir(0o555)
    t = tined({"tined": {"pid_file": folder / "locked/pid"}}, before=as_nobody)
    refuses(t, t.path, f"tined.pid_file: {folder}/locked/pid: Permission denied")


# --- sockets that are files, sockets that were not passed ---


def test_systemd_socket_that_was_not_passed(tined):
    t = tined({"listener:web": {"address": "systemd:web"}})
    refuses(t, f"{t.path}:{t.line_of('systemd:web')}: listener:web.address: systemd:web: ", "no socket of that name")


def test_unix_socket_in_use(tined, folder):
    path = f"{folder}/web.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen()
        t = tined({"listener:web": {"address": f"unix:{path}"}})
        refuses(t, f"{t.path}:{t.line_of('web.sock')}: listener:web.address: unix:{path}: Address already in use")
        leaves_only(folder, "web.sock")
        Client(path).close()  # it still belongs to who had it


def test_stale_unix_socket_is_replaced(tined, folder):
    path = f"{folder}/web.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
    t = tined({"listener:web": {"address": f"unix:{path}"}}).start()
    with Client(path) as c:
        assert c.request().body == HELLO
    assert t.stop() == 0
    leaves_only(folder)


def test_file_in_the_place_of_a_unix_socket_is_left_alone(tined, folder):
    path = folder / "web.sock"
    path.write_text("precious")
    t = tined({"listener:web": {"address": f"unix:{path}"}})
    refuses(t, f"listener:web.address: unix:{path}: Address already in use")
    assert path.read_text() == "precious"


def test_unix_socket_in_a_folder_that_is_not_there(tined):
    t = tined({"listener:web": {"address": "unix:/nonexistent/web.sock"}})
    refuses(t, f"{t.path}:{t.line_of('web.sock')}: listener:web.address: unix:/nonexistent/web.sock: No such file")


# --- configuration (the golden tests have the rest) ---


def test_unknown_key(tined):
    t = tined({"workers": {"cuont": 2}})
    refuses(t, f"{t.path}:{t.line_of('cuont')}: workers.cuont: ", "count")


def test_all_errors_are_reported(tined):
    t = tined({"workers": {"count": 0, "hang_timeout": "soon"}, "http": {"max_body": "-1"}})
    assert t.run() == 1
    assert len(t.log()) == 3


def test_empty_file(tined):
    t = tined(text="")
    refuses(t, t.path, "listener")


def test_no_room_for_processes(tined, root_only):
    """fork(2) fails: the start fails with the reason, and the primary does not hang."""

    def limit():
        as_nobody()
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

    t = tined({"tined": {"control": None}}, before=limit, env={"ASAN_OPTIONS": "detect_leaks=0"})  # its leak checker needs a process, too
    assert t.run() == 1
    assert any("cannot fork: Resource temporarily unavailable" in e for e in t.errors())
    wait_until(lambda: not t.family(), "nothing is left")
