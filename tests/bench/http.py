"""CPU per request and requests per second: a canned answer, pipelining, small and larger files, the access log.

All servers are up on one CPU; wrk alternates between them on another, a second each, A B B A ...; a ratio is
the median of those of the rounds. So ratios repeat where absolute figures drift. (Pipelined, one CPU of wrk takes about
2 million answers a second and is then the limit: the CPU per request tells what the server could do.)

Access log: a second tined writes one line (combined) per request to a file, beside the one that writes none, and nginx
does so with a buffer of 64 KiB. After each load the lines are counted: there is one for every answer, and the time
until the last one is in the file is part of the load. 10 MiB are compared by bytes, because many an answer is
incomplete when wrk's time is over.
"""

import os

from . import wrk
from .common import BenchError, two_cpus, wait_until
from .compare import Comparison
from .provision import HERE
from .servers import FILES, HELLO, Epoll, H2o, Nginx, Tined

FILE_SIZES = {"1k": 1 << 10, "100k": 100 << 10, "300k": 300 << 10, "10m": 10 << 20}


class LoggingTined(Tined):
    name = "tined-log"

    def __init__(self, folder, cpu):
        super().__init__(folder, cpu)
        self.http = {"access_log": f"file:{self.access_log()}", "access_format": "combined"}


class LoggingNginx(Nginx):
    name = "nginx-log"

    def __init__(self, folder, cpu):
        super().__init__(folder, cpu)
        self.http = f"access_log {self.access_log()} combined buffer=64k flush=1s;"


def logged(server, result):
    """The load's result, wrong if the server owes a line for one of the answers."""
    path = server.access_log()
    if not isinstance(server, (LoggingTined, LoggingNginx)):
        return result
    counted = 0

    def complete():
        nonlocal counted
        counted = path.read_bytes().count(b"\n") if path.exists() else 0
        return counted >= result.requests

    try:
        wait_until(complete, "all lines logged", seconds=3, pause=0.1)
    except BenchError:
        result.errors += f"{result.requests} answers, {counted} lines in the access log"
    if path.exists():
        os.truncate(path, 0)
    return result


def run(options):
    server_cpu, load_cpu = two_cpus()
    seconds, rounds = options.seconds or 1, options.rounds or 8
    for name, size in FILE_SIZES.items():
        (options.folder / "files" / name).write_bytes(os.urandom(size))
    made = [kind(options.folder, server_cpu) for kind in (Tined, Nginx, H2o, Epoll, LoggingTined, LoggingNginx)]
    with made[0] as tined, made[1] as nginx, made[2] as h2o, made[3] as epoll, made[4] as log, made[5] as nginx_log:
        def compare(what, path, *servers, **load):
            def by_wrk(server):
                return logged(server, wrk.run(server.url(path), seconds, cpu=load_cpu, **load))

            return Comparison("http", what, servers, by_wrk).run(rounds)

        hello = compare("hello", HELLO, tined, nginx, epoll)
        logging = compare("hello, access log", HELLO, log, tined, nginx_log, nginx)
        pipelined = compare("hello, pipelined x16", HELLO, tined, nginx, h2o, script=HERE / "pipeline.lua")
        small = compare("1 KiB file", FILES + "1k", tined, nginx, h2o)
        large = compare("100 KiB file", FILES + "100k", tined, nginx, h2o)
        huge = compare("10 MiB file", FILES + "10m", tined, nginx, connections=4, script=HERE / "bytes.lua")
        # An answer that waits for a delayed acknowledgement (40 ms) hides among 64 connections, but not here.
        alone = compare("300 KiB file, one connection", FILES + "300k", tined, nginx, connections=1)
    return [
        hello.cpu(nginx, bar=0.92), hello.cpu(epoll), hello.rate(nginx),
        logging.cpu(tined, bar=1.08), logging.cpu(nginx_log), logging.cpu(nginx, of=nginx_log),
        pipelined.rate(nginx, bar=6), pipelined.rate(h2o), pipelined.cpu(nginx),
        small.cpu(nginx, bar=0.75), small.cpu(h2o), small.rate(nginx),
        large.cpu(nginx, bar=0.80), large.cpu(h2o), large.rate(nginx),
        huge.cpu_per_mib(nginx, bar=1.0), huge.rate(nginx),
        alone.rate(nginx),
    ]
