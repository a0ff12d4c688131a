"""Requests that fail while the server is reloaded 50 times in a row.

Keep-alive clients check every answer to the last byte while wrk adds load; half of the clients pause up to 20 ms
between requests, so that a reload meets busy and idle connections. A client lets go of a connection only after
`Connection: close`: any other end counts as a failed request. Each SIGHUP is sent when the reload before it is
complete: tined says so in its log (probation = 100ms); nginx has its new workers.
"""

import collections
import statistics
import time

from . import wrk
from .client import Checkers
from .common import say, wait_until
from .rows import Bar, Row
from .servers import HELLO, Nginx, Tined

N_WORKERS = 2
N_CLIENTS = 32
BODY = b"Hello, World!"


def reload_many(server, n):
    """Returns failed requests, all requests, and milliseconds of each reload."""
    say(f"reload: {server.name}: {n} reloads")
    times = []
    with Checkers(server.address, HELLO, BODY, N_CLIENTS) as clients, \
            wrk.Load(server.url(HELLO), n * 10 + 60, connections=16) as load:
        for _ in range(n):
            start = time.perf_counter()
            wait_until(server.reload(), f"{server.name} has reloaded")
            times.append((time.perf_counter() - start) * 1000)
        result = load.result(stop=True)
        n_requests, n_renewed, failures = clients.result()
    say(f"reload: {server.name}: {n_requests} checked requests, {n_renewed} connections renewed when asked to, "
        f"{len(failures)} failed; {result.requests} more by wrk, {result.n_errors} failed")
    for why, count in collections.Counter(failures).most_common(5):
        say(f"reload: {server.name}: {count} x {why}")
    return len(failures) + result.n_errors, n_requests + result.requests, times


def run(options):
    n = options.rounds or 50
    with Tined(options.folder, workers=N_WORKERS, options={"probation": "100ms"}) as tined:
        ours, our_requests, our_times = reload_many(tined, n)
    with Nginx(options.folder, workers=N_WORKERS) as nginx:
        theirs, their_requests, their_times = reload_many(nginx, n)
    return [
        Row(f"requests failed over {n} reloads", "1", ours, theirs, "nginx", bar=Bar("ours", "==", 0)),
        Row("requests checked meanwhile", "1", our_requests, their_requests, "nginx"),
        Row("time of a reload, median", "ms", statistics.median(our_times), statistics.median(their_times), "nginx"),
    ]
