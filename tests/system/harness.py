"""Drives the real tined: writes its configuration, starts it, reads its log, talks HTTP to it, sends signals, and
sees to it that nothing of it is left behind. Every wait is for a condition and has a deadline."""

import atexit
import collections
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import pwd
import random
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _within_everybodys_reach(binary):
    """A copy that an ordinary user may execute too: the checkout may lie in a folder of root's own."""
    if os.geteuid() != 0 or not os.access(binary, os.X_OK):
        return binary
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tined-binary-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    copy = folder / "tined"
    shutil.copy(binary, copy)
    copy.chmod(0o755)
    for name in "tined-nats.so", "tined-symbolize":  # where tined looks for them
        beside = pathlib.Path(binary).parent / name
        if beside.exists():
            shutil.copy(beside, folder)
    site = pathlib.Path(binary).parent / "site"
    if site.exists():  # where builtin:static looks for the bundled one
        (folder / "site").symlink_to(site.resolve())
    return str(copy)


TINED = _within_everybodys_reach(os.path.abspath(os.environ.get("TINED", REPOSITORY / "build" / "tined")))
DEADLINE = 30  # seconds; only ever a bound, for builds with sanitizers on busy machines
ROLES = {f"tined-{role}" for role in ("worker", "admin", "bridge", "task")}
HELLO = b"Hello, World!"
JOURNAL = "/run/systemd/journal/socket"  # alone("/run") where it matters whether it is there
NOBODY = "nobody"  # an ordinary user that every Debian has
# The log may also hold a report of a sanitizer, which is always a failure.
ALARMS = re.compile(r"Sanitizer|runtime error")
LINE = re.compile(r"^\S+ (?P<level>error|warning|info|debug) (?P<who>[a-z]+(?:\[\d+\])?): (?P<text>.*)$")

BASE = {
    "tined": {"log": "stderr"},
    "workers": {"count": 2, "probation": "50ms"},
    "listener:web": {"address": "127.0.0.1:0"},
    "module:hello": {"path": "builtin:hello", "listener": "web", "mount": "/"},
    "module:who": {"path": "builtin:whoami", "listener": "web", "mount": "/whoami"},
}


def merge(base, changes):
    """base with changes made to its sections; None takes a section or a key away."""
    sections = {name: dict(keys) for name, keys in base.items()}
    for name, keys in changes.items():
        if keys is None:
            sections.pop(name, None)
            continue
        section = sections.setdefault(name, {})
        section.update(keys)
        sections[name] = {key: value for key, value in section.items() if value is not None}
    return sections


def ini(sections):
    return "\n".join(
        "[{}]\n{}".format(name, "".join(f"{key} = {value}\n" for key, value in keys.items()))
        for name, keys in sections.items()
    )


def wait_until(condition, what, deadline=DEADLINE):
    """Returns what condition() returns as soon as that is true."""
    end = time.monotonic() + deadline
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(0.01)


# --- processes ---

Process = collections.namedtuple("Process", "pid state ppid session ticks")


def process(pid):
    """What /proc says of a process; None when there is none. ticks: CPU time used."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return Process(int(pid), fields[0], int(fields[1]), int(fields[3]), int(fields[11]) + int(fields[12]))


def name(pid):
    """What the process calls itself."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def processes():
    found = (process(name) for name in os.listdir("/proc") if name.isdigit())
    return [p for p in found if p and p.state not in "ZX"]


def alive(pid):
    p = process(pid)
    return p is not None and p.state not in "ZX"


def cpu_seconds(pid):
    return process(pid).ticks / os.sysconf("SC_CLK_TCK")


def refuses(address):
    """Whether nobody listens at an address any more."""
    try:
        Client(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def _own_ports():
    """None that the kernel gives away (ip_local_port_range), or that another process of this test run is looking for."""
    first = 10000 + 2000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 10)
    return itertools.cycle(random.sample(range(first, first + 2000, 2), 1000))


_ports = _own_ports()


def free_port():
    """A port of 127.0.0.1 for what cannot use 0: it and the next one are free."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
            return port


@contextlib.contextmanager
def alone(folder):
    """For what there is but one of on a machine: of all tests one at a time has the folder for its own."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def as_nobody():
    """Gives up root, for what root may do anyway; nothing when we are an ordinary user already."""
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam(NOBODY)
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def n_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def no_descriptors(pid):
    """For a while a process can have no more of them."""
    normal = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, normal[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, normal)


def links(pid):
    """What its descriptors are, as the kernel names it."""
    found, names = set(), []
    with contextlib.suppress(OSError):  # it has just gone
        names = os.listdir(f"/proc/{pid}/fd")
    for fd in names:
        with contextlib.suppress(OSError):  # it has just been closed
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def sockets(pid):
    """Those that are sockets."""
    return {link for link in links(pid) if link.startswith("socket:")}


# --- HTTP ---


class Gone(Exception):
    """The connection ended before the answer did."""


class Response:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.version, status, self.reason = (lines[0].split(" ", 2) + [""])[:3]
        self.status = int(status)
        self.fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
        self.body = body

    def header(self, name, default=None):
        for key, value in self.fields:
            if key.lower() == name.lower():
                return value
        return default

    @property
    def closes(self):
        return self.header("Connection", "").lower() == "close"

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.version} {self.status} {self.fields} {len(self.body)} bytes>"


class Client:
    """One connection. address: (host, port) or the path of a unix socket."""

    def __init__(self, address, timeout=DEADLINE, receive_buffer=None):
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.buffer = b""
        try:
            self.sock.connect(address)
            if family != socket.AF_UNIX:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone(f"closed after {len(self.buffer)} bytes: {self.buffer[:200]!r}")
        self.buffer += data

    def response(self, method="GET"):
        """The next answer; its framing is the Content-Length, as tined always writes one."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        response = Response(head, b"")
        length = int(response.header("Content-Length", 0))
        if method == "HEAD" or response.status in (204, 304):
            length = 0
        while len(self.buffer) < length:
            self._more()
        response.body, self.buffer = self.buffer[:length], self.buffer[length:]
        return response

    def request(self, path="/", method="GET", headers=(), version="1.1"):
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.send(f"{method} {path} HTTP/{version}\r\nHost: test\r\n{fields}\r\n".encode("latin-1"))
        return self.response(method)

    def rest(self):
        """Everything until the peer closes."""
        data, self.buffer = self.buffer, b""
        while True:
            more = self.sock.recv(65536)
            if not more:
                return data
            data += more

    def closed(self):
        """Waits for the peer to close; True when it did so without another byte."""
        return self.rest() == b""


# --- lines, of plain services ---


def line(client, text=None):
    """The next line from the client's stream; sends one before."""
    if text is not None:
        client.send(text.encode() + b"\n")
    while b"\n" not in client.buffer:
        client._more()
    answer, client.buffer = client.buffer.split(b"\n", 1)
    return answer.decode()


# --- the daemon ---


class Tined:
    """One daemon in a folder of its own.

    changes: to BASE, by section and key. text: the whole configuration instead. wrap: a command that executes the
    daemon (taskset, setpriv). before: called in the child before it executes. arguments: instead of -c FILE.
    """

    def __init__(self, folder, changes=None, *, text=None, wrap=(), env=None, before=None, pass_fds=(), arguments=None):
        self.folder = pathlib.Path(folder)
        self.path = self.folder / "tined.ini"
        self.sections = merge(BASE, {"tined": {"control": self.folder / "control.sock"}})
        self.process = None
        self.expected_status = 0
        self.lines = []  # (monotonic seconds, text)
        self.changed = threading.Condition()
        self.env = env or {}
        self.wrap, self.before, self.pass_fds = list(wrap), before, pass_fds
        self.arguments = ["-c", str(self.path)] if arguments is None else arguments
        self.checked = False
        self.stderr, self.partial, self.ended = None, b"", True  # what is read of it: nothing before it is started
        self.configure(changes or {}, text)

    # configuration

    def configure(self, changes=None, text=None):
        """Writes the configuration: what it was, with changes, or this text."""
        self.sections = merge(self.sections, changes or {})
        self.path.write_text(ini(self.sections) if text is None else text)

    def line_of(self, wanted):
        """Number of the first line of the configuration that holds the text."""
        lines = self.path.read_text().split("\n")
        return next(i for i, line in enumerate(lines, 1) if wanted in line)

    # start and end

    def _before_exec(self):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if self.before:
            self.before()

    def spawn(self):
        """Starts the process and waits for nothing."""
        env = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "LISTEN_FDS", "JOURNAL_STREAM")}
        env.update(self.env)
        self.process = subprocess.Popen(
            [*self.wrap, TINED, *self.arguments],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that all of its descendants can be told by their session
            preexec_fn=self._before_exec,
            pass_fds=self.pass_fds,
        )
        self.stderr, self.partial, self.ended = self.process.stderr.fileno(), b"", False
        os.set_blocking(self.stderr, False)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        return self

    def start(self):
        """Starts it and waits until it serves."""
        self.spawn()
        self.wait_log(r"start: generation 1 serves")
        return self

    def run(self):
        """For a start that is to fail: returns its exit status, by itself and bounded."""
        self.spawn()
        status = self.wait_exit()
        self.expected_status = status
        return status

    @property
    def pid(self):
        return self.process.pid

    def _read(self):
        poll = select.poll()
        poll.register(self.stderr, select.POLLIN)
        while not self._catch_up():
            poll.poll()

    def _catch_up(self):
        """Takes what has been written, whoever asks. Returns whether nothing more can come."""
        with self.changed:
            while not self.ended:
                try:
                    data = os.read(self.stderr, 65536)
                except BlockingIOError:
                    return False
                self.ended = not data
                *lines, self.partial = (self.partial + data).split(b"\n")
                if self.ended and self.partial:
                    lines.append(self.partial)
                self.lines += [(time.monotonic(), raw.decode("utf-8", "backslashreplace")) for raw in lines]
                self.changed.notify_all()
            return True

    def wait_exit(self, deadline=DEADLINE):
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline} s\n{self.tail()}") from None
        wait_until(lambda: not self.family(), "every child ends with the primary", deadline)
        self.reader.join(deadline)
        return status

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.signal(sig)
        return self.wait_exit()

    def stop_at_once(self):
        """Asks again: not at the same moment as the first time, which would count as one."""

        def asked_again():
            self.signal(signal.SIGTERM)
            time.sleep(0.1)
            return self.find(r"stopping at once") or self.process.poll() is not None

        wait_until(asked_again, "it stops at once")
        assert self.wait_exit() == 0

    def family(self):
        """Every living process of this daemon, the primary too, also when it has been orphaned."""
        return [p for p in processes() if p.session == self.pid]

    def _check(self):
        """Stops it and returns what is wrong with how it ended."""
        problems = []
        try:
            status = self.stop()
            if status != self.expected_status:
                problems.append(f"exit status {status}, not {self.expected_status}")
        except AssertionError as e:
            problems.append(str(e))
        left = [p.pid for p in self.family()]
        if left:
            problems.append(f"processes are left over: {left}")
        alarms = [text for text in self.log() if ALARMS.search(text)]
        if alarms:
            problems.append(f"sanitizer: {alarms[0]}")
        return problems

    def close(self):
        """The end of a test: nothing may be left, and it must have ended well."""
        if self.process is None or self.checked:
            return
        self.checked = True
        try:
            problems = self._check()
        finally:
            for p in self.family():
                os.kill(p.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()
            self.reader.join(DEADLINE)
            self.process.stderr.close()
        assert not problems, "; ".join(problems) + "\n" + self.tail(200)

    # the log

    def log(self, since=0):
        """Lines so far, from the mark on: all that have been written, whether or not anybody has waited for them."""
        self._catch_up()
        with self.changed:
            return [text for _, text in self.lines[since:]]

    def tail(self, n=40):
        return "\n".join(self.log()[-n:])

    def mark(self):
        """What has been written so far is before it."""
        return len(self.log())

    def find(self, pattern, since=0):
        """Matches of the pattern in the log, one for each line that has one."""
        found = (re.search(pattern, text) for text in self.log(since))
        return [m for m in found if m]

    def wait_log(self, pattern, since=0, count=1, deadline=DEADLINE):
        """Waits for the count-th line that holds the pattern. Returns the match."""
        end = time.monotonic() + deadline
        with self.changed:
            while True:
                matches = self.find(pattern, since)
                if len(matches) >= count:
                    return matches[count - 1]
                left = end - time.monotonic()
                if left <= 0 or self.ended:
                    why = "it ended" if self.ended else f"not within {deadline} s"
                    raise AssertionError(f"{why}: log line {pattern!r} ({len(matches)} of {count})\n{self.tail()}")
                self.changed.wait(left)

    def errors(self, since=0):
        """The error lines' texts, without time and name."""
        found = (LINE.match(text) for text in self.log(since))
        return [m["text"] for m in found if m and m["level"] == "error"]

    # signals and workers

    def signal(self, sig):
        self.process.send_signal(sig)

    def reload(self):
        """HUP; waits until the new generation serves and the old one takes no more. Returns the log mark before it."""
        mark, old = self.mark(), self.worker_pids()
        self.signal(signal.SIGHUP)
        match = self.wait_log(r"reload: (generation \d+ serves|failed)", mark)
        assert match[1] != "failed", self.tail()
        self.wait_draining(old)
        return mark

    def reload_fails(self):
        """HUP; waits until it is said that the old generation serves on. Returns the error lines."""
        mark = self.mark()
        self.signal(signal.SIGHUP)
        match = self.wait_log(r"reload: (generation \d+ serves|failed; generation \d+ serves on)", mark)
        assert match[1].startswith("failed"), self.tail()
        return self.errors(mark)

    def worker_pids(self):
        """
        Workers, and the admin process if there is one, in order of their pids. What has no name of its own yet may become anything,
        and what has another one is no role of ours.
        """
        return sorted(p.pid for p in self.family() if p.ppid == self.pid and name(p.pid) in ROLES)

    def wait_workers(self, n):
        """Waits until there are exactly n worker processes. Returns their pids."""
        wait_until(lambda: len(self.worker_pids()) == n, f"{n} workers, not {self.worker_pids()}\n{self.tail()}")
        return self.worker_pids()

    def listens(self, pid):
        """Whether a worker still has a listening socket: the only ones it shares with the primary."""
        return bool(sockets(self.pid) & sockets(pid))

    def wait_draining(self, pids=None):
        """Waits until these workers, or all, have given up their listening sockets."""
        for pid in self.worker_pids() if pids is None else pids:
            wait_until(lambda: not self.listens(pid), f"worker {pid} drains")

    def serving_pids(self):
        """The workers that take connections."""
        return [pid for pid in self.worker_pids() if self.listens(pid)]

    def n_descriptors(self):
        """Of the primary, when it has done all that it has been told of."""
        self.control("status")  # answered in a turn of its own, and closed
        return n_descriptors(self.pid)

    # talking to it

    def port(self, listener="web"):
        return int(self.wait_log(rf"listening on \S+:(\d+) \(listener:{listener}\)")[1])

    def admin_port(self):
        return int(self.wait_log(r"listening on \S+:(\d+) \(admin\)")[1])

    def address(self, listener="web"):
        return ("127.0.0.1", self.port(listener))

    def connect(self, listener="web", **options):
        return Client(self.address(listener), **options)

    def url(self, path="/", listener="web"):
        return f"http://127.0.0.1:{self.port(listener)}{path}"

    def get(self, path="/", listener="web", **options):
        with self.connect(listener) as c:
            return c.request(path, **options)

    def hello(self, listener="web"):
        """One request; the answer must be right."""
        response = self.get("/", listener)
        assert (response.status, response.body) == (200, HELLO), response
        return response

    def control(self, command):
        """What it answers at the control socket, which no configuration of the test may have moved: records."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(DEADLINE)
            s.connect(str(self.folder / "control.sock"))
            s.sendall(command.encode() + b"\n")
            lines = s.makefile().read().splitlines()
        assert json.loads(lines[-1])["ok"], lines
        return [json.loads(line) for line in lines[:-1]]

    def scoreboard(self):
        """What it says of each worker, by its pid."""
        return {w["pid"]: w for w in self.control("workers") if w.get("role") == "worker"}

    def whoami(self):
        """Who answers: worker (its slot), generation, pid."""
        response = self.get("/whoami")
        assert response.status == 200, response
        return response.json()

    def worker_of(self, client):
        """The pid of the worker that serves a connection."""
        return client.request("/whoami").json()["pid"]


def tool(name):
    """The path of a program that not every machine has, or None."""
    return shutil.which(name)
