"""A slow disk for some processes: a block I/O cgroup, which limits what they read to so many bytes per second.

What is in the page cache stays as fast as it is. The file system and the cache are the real ones, so a read that has to wait
does so where it would with a slow disk: in the process that asked for the page. Needs root and one of the controllers
blkio (cgroup v1) and io (v2).
"""

import os
import pathlib

from .common import say

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def disk_of(path):
    """MAJOR:MINOR of the whole disk a file is on; None if that is not on one."""
    device = os.stat(path).st_dev
    found = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not found.exists():
        return None
    whole = found.resolve().parent if (found / "partition").exists() else found
    return (whole / "dev").read_text().strip()


class Throttle:
    """As a context: servers are to be stopped inside, the group has to be empty at its end."""

    def __init__(self, path, bytes_per_second):
        self.path, self.limit = path, bytes_per_second
        self.group = None  # none: it cannot be done here

    def __enter__(self):
        disk = disk_of(self.path)
        for parent, key, value in (
                (CGROUPS / "blkio", "blkio.throttle.read_bps_device", f"{disk} {self.limit}"),
                (CGROUPS, "io.max", f"{disk} rbps={self.limit}")):
            if disk and self.make(parent / f"tined-bench-{os.getpid()}", key, value):
                break
        else:
            say("no block I/O cgroup here: the disk is as fast as it is")
        return self

    def make(self, group, key, value):
        try:
            if (group.parent / "cgroup.subtree_control").exists():
                (group.parent / "cgroup.subtree_control").write_text("+io")
            group.mkdir()
        except OSError:
            return False
        try:
            (group / key).write_text(value)
        except OSError:
            group.rmdir()
            return False
        self.group = group
        return True

    def __exit__(self, *_):
        if self.group:
            self.group.rmdir()

    def add(self, pids):
        for pid in pids if self.group else ():
            (self.group / "cgroup.procs").write_text(str(pid))
