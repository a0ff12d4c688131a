"""What /proc knows of the servers."""

import os
import pathlib
import signal

from .common import BenchError


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def family(pid):
    """A process and all that descend from it."""
    return [pid] + [member for child in children(pid) for member in family(child)]


def title(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cpu_ns(pids):
    """CPU time used so far. A thread that ends takes its share along, so none may end between two readings."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def memory_kib(pid, field):
    """A field of smaps_rollup: Pss, Rss, Private_Dirty, ..."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise BenchError(f"no {field} in /proc/{pid}/smaps_rollup")


def pss_kib(pids):
    return sum(memory_kib(pid, "Pss") for pid in pids)


def n_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def sockets(pid):
    """The inodes of a process's sockets."""
    inodes = set()
    folder = f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{fd}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def established(port):
    """The inodes of the server's ends of the connections to a local port; those not yet accepted have none."""
    inodes = set()
    with open("/proc/net/tcp", encoding="ascii") as table:
        next(table)
        for line in table:
            fields = line.split()
            if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(int(fields[9]))
    return inodes - {0}


def n_connections(pids, port):
    """Accepted connections of each process."""
    ours = established(port)
    return [len(ours & sockets(pid)) for pid in pids]


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)
