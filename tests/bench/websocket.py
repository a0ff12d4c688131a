"""WebSocket echo of 64 bytes beside Node's ws: messages per second, CPU and memory.

64 connections, text and binary, each connection with 1 and with 16 messages in flight; the load (ws_load.c) checks every echo
and its order. tined runs the module echo_ws.c, the peer is the npm package ws with its default settings (so without
permessage-deflate, which the load does not offer), both with one process on the same CPU, in turn. The bar of 100,000
messages a second holds for 16 in flight: with one, much of the time goes into waking up on either side. Memory: PSS
of the server by 5,000 connections that have echoed one message each; Node's includes what it has not collected yet.
"""

import dataclasses
import os
import subprocess

from . import processes, provision, wrk
from .common import BenchError, WrongAnswer, many_descriptors, say, two_cpus
from .compare import Comparison
from .rows import Bar, Row
from .servers import NodeWs, Tined

PATH = "/echo_ws"
CONNECTIONS, IN_FLIGHT = 64, (1, 16)
N_IDLE = 5000
BAR = 100_000


def command(server, connections, in_flight, seconds, kind):
    return [provision.compiled("ws_load"), *map(str, (server.port, PATH, connections, in_flight, seconds)), kind]


def load(server, cpu, in_flight, seconds, kind):
    done = subprocess.run(
        command(server, CONNECTIONS, in_flight, seconds, kind), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", check=False, timeout=seconds + 60, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    if done.returncode != 0:
        raise WrongAnswer(f"{server.name}: {done.stderr.strip()}\n{server.log()[-1000:]}")
    n, took = done.stdout.split()
    return wrk.Result(int(n), int(n) / float(took), 0, "")


def per_connection(server):
    """Bytes that each of many idle connections adds."""
    say(f"websocket: {server.name}: {N_IDLE} idle connections")
    with subprocess.Popen(command(server, 2, 1, 1, "text"), stdout=subprocess.DEVNULL) as first:
        first.wait(60)  # code and tables of the first ones are not the connections'
    before = processes.pss_kib(server.family())
    with subprocess.Popen(
            command(server, N_IDLE, 1, 0, "text"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise BenchError(f"{server.name}: {N_IDLE} WebSockets could not be opened")
            return (processes.pss_kib(server.family()) - before) * 1024 / N_IDLE
        finally:
            process.kill()


def run(options):
    server_cpu, load_cpu = two_cpus()
    seconds, rounds = options.seconds or 1, options.rounds or 5
    many_descriptors(N_IDLE + 1000)
    rows = []
    with Tined(options.folder, server_cpu, connections=N_IDLE + 100, modules=("echo_ws",)) as tined, \
            NodeWs(options.folder, server_cpu) as ws:
        say(f"websocket: the peer is ws {ws.version} on node {ws.node_version()}")
        for in_flight in IN_FLIGHT:
            for kind in ("text", "binary"):
                def by_ws_load(server, in_flight=in_flight, kind=kind):
                    return load(server, load_cpu, in_flight, seconds, kind)

                what = f"64 bytes of {kind}, {in_flight} in flight"
                comparison = Comparison("websocket", what, (tined, ws), by_ws_load, noun="message").run(rounds)
                rate = comparison.rate(ws)
                if in_flight == max(IN_FLIGHT):
                    rate = dataclasses.replace(rate, bar=Bar("ours", ">=", BAR))
                rows += [rate, comparison.cpu(ws)]
        idle = [per_connection(server) for server in (tined, ws)]
    return rows + [Row(f"{N_IDLE} idle WebSockets: PSS of each", "bytes", *idle, "ws")]
