"""The servers that are compared. Each serves the same paths, as far as it can:

/             13 bytes, Hello, World!
/files/NAME   a file of the folder files/
/who          {"pid":N}: the process that answered (tined and nginx)
/MODULE       the modules here, which a benchmark names (tined)
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess

from . import processes, provision
from .client import fetch
from .common import BenchError, wait_until

HELLO = "/"
WHO = "/who"
FILES = "/files/"
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server in a folder of its own below `folder`, which also holds files/. Use it as a context: it serves
    inside, and nothing of it is left behind."""

    name = None
    programs = ()  # to be installed when missing

    def __init__(self, folder, cpu=None, workers=1, connections=1024, first=False, own_session=True):
        """own_session: a session of its own, which the kernel's autogroups (sched(7)) treat as one when CPUs are short. cpu: the only one it may use. connections: how many each worker must be able to hold. first: run before all
        else on that CPU (if it is permitted), where times are measured and what else runs must not count."""
        self.files = folder / "files"
        self.folder = folder / self.name
        self.cpu = cpu
        self.first = first
        self.own_session = own_session
        self.n_workers = workers
        self.n_connections = connections
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.process = None

    def command(self):
        """Writes the configuration. Returns what is to be run."""
        raise NotImplementedError

    def __enter__(self):
        provision.need(*self.programs)
        self.folder.mkdir()
        command = self.command()
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=self.own_session, process_group=None if self.own_session else 0,
                preexec_fn=self.prepare,
            )
        try:
            wait_until(self.serves, f"{self.name} serves")
        except BaseException as e:
            self.stop()
            if isinstance(e, BenchError):
                raise BenchError(f"{e}\n{self.log()[-2000:]}") from None
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def prepare(self):
        """Runs in the new process."""
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if self.cpu is not None:
            os.sched_setaffinity(0, {self.cpu})
        if self.first:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    def serves(self):
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended with status {self.process.returncode}")
        try:
            return self.complete() and fetch(self.address, HELLO)[0] == 200
        except OSError:
            return False

    def complete(self):
        """Whether all workers are there: one alone may answer before."""
        return True

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group: only what it started itself
        except ProcessLookupError:
            pass
        self.process.wait()

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def access_log(self):
        """Where it is, if there is one."""
        return self.folder / "access.log"

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def family(self):
        return processes.family(self.process.pid)

    def workers(self):
        """The processes that serve now."""
        return [
            pid for pid in processes.children(self.process.pid)
            if "worker" in processes.title(pid) and "shutting down" not in processes.title(pid)
        ]

    def who(self):
        """The process that answers a new connection."""
        status, body = fetch(self.address, WHO)
        found = re.search(rb'"pid":(\d+)', body)
        if status != 200 or not found:
            raise BenchError(f"{self.name}: {WHO} answered {status} {body[:200]!r}")
        return int(found[1])

    def reload(self):
        """Tells it to reload. Returns what becomes true when the new workers serve."""
        raise NotImplementedError


class Tined(Server):
    name = "tined"

    def __init__(self, *args, options=None, http=None, modules=(), keys=None, sections=None, **more):
        """options: keys of [workers]; http: keys of [http]; modules: of those here, each mounted at /NAME; keys: their
        own options, for all of them; sections: others, with their keys."""
        super().__init__(*args, **more)
        self.options = options or {}
        self.http = http or {}
        self.modules = modules
        self.keys = keys or {}
        self.sections = sections or {}

    def command(self):
        sections = {
            "tined": {"log": "stderr", "control": self.folder / "control.sock"},
            "workers": {
                "count": self.n_workers, "max_connections": self.n_connections, "drain_timeout": "3s", **self.options,
            },
            "listener:web": {"address": f"127.0.0.1:{self.port}"},
            "http": {"idle_timeout": "10m", "header_timeout": "10m", "body_timeout": "10m", **self.http},
            "module:hello": {"path": "builtin:hello", "mount": HELLO},
            "module:who": {"path": "builtin:whoami", "mount": WHO},
            "module:site": {"path": "builtin:static", "mount": FILES.rstrip("/"), "root": self.files},
        }
        for name in self.modules:
            sections[f"module:{name}"] = {"path": provision.module(name), "mount": f"/{name}", **self.keys}
        sections.update(self.sections)
        path = self.folder / "tined.ini"
        with open(path, "w", encoding="utf-8") as f:
            for section, keys in sections.items():
                f.write(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()))
        return [provision.tined(), "-c", path]

    def complete(self):
        return "start: generation 1 serves" in self.log()

    def control(self, *arguments, timeout=60):
        """tinectl, run to its end."""
        command = [provision.tinectl(), "-s", self.folder / "control.sock", *arguments]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)

    def reload(self):
        done = self.log().count("reload: generation ")
        processes.kill(self.process.pid, signal.SIGHUP)

        def serves():
            log = self.log()
            if "reload: failed" in log:
                raise BenchError(f"tined: reload failed:\n{log[-2000:]}")
            return log.count("reload: generation ") > done

        return serves


class Nginx(Server):
    name = "nginx"
    programs = ("nginx",)

    CONFIG = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes {workers};
events {{ worker_connections {connections}; }}
http {{
    {http}
    server_tokens off;
    sendfile on;
    open_file_cache max=1000;
    keepalive_requests 100000000;
    keepalive_timeout 10m;
    types {{ }}
    default_type application/octet-stream;
    {temporary}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {root};
        location / {{ default_type text/plain; return 200 "Hello, World!"; }}
        location = /who {{ return 200 '{{"pid":$pid}}'; }}
        location /files/ {{ }}
    }}
}}
"""

    def __init__(self, *args, http="access_log off;", **more):
        """http: directives."""
        super().__init__(*args, **more)
        self.http = http

    def command(self):
        temporary = " ".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path = self.folder / "nginx.conf"
        path.write_text(self.CONFIG.format(
            folder=self.folder, workers=self.n_workers, connections=self.n_connections, port=self.port,
            root=self.files.parent, temporary=temporary, http=self.http))
        return [provision.find("nginx"), "-p", self.folder, "-c", path, "-e", self.folder / "error.log"]

    def complete(self):
        return len(self.workers()) == self.n_workers

    def log(self):
        error_log = self.folder / "error.log"
        return super().log() + (error_log.read_text(errors="replace") if error_log.exists() else "")

    def reload(self):
        before = set(self.workers())
        processes.kill(self.process.pid, signal.SIGHUP)
        return lambda: len(set(self.workers()) - before) == self.n_workers


class H2o(Server):
    """Has no canned answer short of mruby, so its / is a 13-byte file."""

    name = "h2o"
    programs = ("h2o",)

    CONFIG = """
num-threads: {workers}
max-connections: {connections}
http1-upgrade-to-http2: OFF
listen:
  host: 127.0.0.1
  port: {port}
hosts:
  default:
    paths:
      /files/:
        file.dir: {files}
      /:
        file.dir: {folder}/root
        file.index: [ hello.txt ]
"""

    def command(self):
        (self.folder / "root").mkdir()
        (self.folder / "root" / "hello.txt").write_text("Hello, World!")
        path = self.folder / "h2o.conf"
        path.write_text(self.CONFIG.format(
            folder=self.folder, workers=self.n_workers, connections=self.n_connections, port=self.port,
            files=self.files))
        return [provision.find("h2o"), "-c", path]


class Epoll(Server):
    """The floor: see epoll.c."""

    name = "epoll"

    def command(self):
        return [provision.compiled("epoll"), str(self.port)]


class NodeWs(Server):
    """The npm package ws with its default settings: see ws_echo.js."""

    name = "ws"
    programs = ("node",)

    def command(self):
        packages, self.version = provision.npm("ws", 8)
        os.symlink(packages, self.folder / "node_modules")
        shutil.copy(provision.HERE / "ws_echo.js", self.folder)
        return [provision.find("node"), self.folder / "ws_echo.js", str(self.port)]

    @staticmethod
    def node_version():
        return subprocess.run(
            [provision.find("node"), "--version"], capture_output=True, text=True, check=True).stdout.strip()
