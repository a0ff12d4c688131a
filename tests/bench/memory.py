"""Memory: two idle workers, and what an idle keep-alive connection costs.

PSS of all processes of the server, one server at a time. Connections: 9,000 to one worker, each having made one
request, against the same server before them.
"""

import socket

from . import processes
from .client import one_request
from .common import many_descriptors, say, wait_until
from .rows import Bar, Row
from .servers import HELLO, Nginx, Tined

N_CONNECTIONS = 9000
MIB = 1024


def idle(kind, folder):
    """MiB of a server with two workers that has answered one request."""
    with kind(folder, workers=2) as server:
        return processes.pss_kib(server.family()) / MIB


def per_connection(kind, folder, n):
    """Bytes that each of n idle connections adds."""
    say(f"memory: {kind.name}: {n} connections")
    connections = []
    with kind(folder, workers=1, connections=n + 100) as server:
        try:
            for _ in range(2):  # code and tables of the first requests are not the connections'
                with socket.create_connection(server.address, 5) as s:
                    one_request(s, HELLO)
            wait_until(lambda: processes.n_connections(server.workers(), server.port) == [0], "no connections")
            before = processes.pss_kib(server.family())
            for _ in range(n):
                connections.append(socket.create_connection(server.address, 5))
                one_request(connections[-1], HELLO)
            after = processes.pss_kib(server.family())
        finally:
            for s in connections:
                s.close()
    return (after - before) * 1024 / n


def run(options):
    n = N_CONNECTIONS
    many_descriptors(n + 1000)
    rows = []

    def both(what, unit, bar, measure, *more):
        figures = []
        for kind in (Tined, Nginx):
            folder = options.folder / f"{len(rows)}-{kind.name}"
            (folder / "files").mkdir(parents=True)
            figures.append(measure(kind, folder, *more))
        rows.append(Row(what, unit, *figures, "nginx", bar=Bar("ours", "<=", bar)))

    both("two workers, idle: PSS of all processes", "MiB", 5, idle)
    both(f"{n} idle keep-alive connections: PSS of each", "bytes", 536, per_connection, n)
    return rows
