"""builtin:hub beside nginx with nchan: many subscribers by server-sent events, one publisher.

tined's builtin:hub and nginx with libnginx-mod-nchan, each with two workers on the same CPU, in turn; the load (hub_load.c) on
another: 5,000 clients that have subscribed to one subject, and one that publishes messages of 64 bytes. CPU per delivery is that of
all processes of the server, by the messages that came to their readers. Then tined alone, under the same load: a worker is killed, and
the configuration reloaded; those cut off come back with Last-Event-ID, and nobody may miss a message or get one twice.
"""

import json
import os
import statistics
import subprocess

from . import processes, provision
from .client import fetch
from .common import BenchError, WrongAnswer, many_descriptors, say, two_cpus, wait_until
from .rows import Bar, Row
from .servers import Nginx, Tined

N_CLIENTS, WORKERS = 5000, 2
RATES = (100, 20)  # messages/s
NCHAN = "/usr/lib/nginx/modules/ngx_nchan_module.so"


class Hub(Tined):
    subscribe = publish = "/hub/bench"

    def command(self):
        command = super().command()
        with open(command[-1], "a", encoding="utf-8") as f:
            f.write("[module:hub]\npath = builtin:hub\nmount = /hub\nclient_rate = 0\n")
        return command

    def info(self, path):
        status, body = fetch(self.address, path)
        if status != 200:
            raise BenchError(f"{self.name}: {path} answered {status} {body[:200]!r}")
        return json.loads(body)

    def last_id(self):
        """From where on a client wants everything."""
        return [self.info(self.subscribe)["last_id"]]

    def published(self):
        return self.info("/hub/")["published"]


class Nchan(Nginx):
    name = "nchan"
    subscribe, publish = "/subscribe", "/publish"
    CONFIG = f"load_module {NCHAN};\n" + Nginx.CONFIG.replace("location /files/", """
        location = /subscribe {{ nchan_subscriber eventsource; nchan_channel_id bench;
            nchan_subscriber_first_message newest; }}
        location = /publish {{ nchan_publisher http; nchan_channel_id bench; nchan_message_buffer_length 10000; }}
        location /files/""", 1)

    @staticmethod
    def last_id():
        return []  # it is not cut off

    def __init__(self, *args, **more):
        provision.need("nginx")
        provision.need_file(NCHAN, "libnginx-mod-nchan")
        super().__init__(*args, http="access_log off; nchan_shared_memory_size 128M;", **more)


class Load:
    """Use it as a context: inside, all clients have subscribed."""

    def __init__(self, server, cpu, rate, seconds):
        self.server, self.seconds = server, seconds
        command = [provision.compiled("hub_load"), server.port, server.subscribe, server.publish, N_CLIENTS, rate, seconds,
                   *server.last_id()]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            self.process.kill()
            raise BenchError(f"{self.server.name}: {N_CLIENTS} clients could not subscribe\n{self.server.log()[-1000:]}")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        found = json.loads(self.process.stdout.readline() or "null")
        if not found:
            raise WrongAnswer(f"{self.server.name}: the load broke off\n{self.server.log()[-1000:]}")
        return found


def check(server, found, cut_off=False):
    wrong = {key: found[key] for key in ("missing", "twice", "incomplete", "gaps") if found[key]}
    if not cut_off:
        wrong |= {key: found[key] for key in ("failed", "lost", "cut") if found[key]}
    elif found["lost"] > found["failed"]:
        wrong["lost"] = found["lost"]
    if wrong:
        raise WrongAnswer(f"{server.name}: {wrong} of {found}\n{server.log()[-1000:]}")


def measure(server, cpu, rate, seconds):
    """One load: what became of it, with the CPU time of a delivery in µs."""
    with Load(server, cpu, rate, seconds) as load:
        before = processes.cpu_ns(server.family())
        load.begin()
        found = load.end()
        found["cpu_us"] = (processes.cpu_ns(server.family()) - before) / 1000 / found["delivered"]
    check(server, found)
    say(f"hub: {server.name}: {rate} messages/s to {N_CLIENTS}: {found['cpu_us']:.2f} us/delivery, "
        f"{found['delivered'] / found['all_s']:.0f} deliveries/s, published in {found['publish_s']:.1f} s, "
        f"latency p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms")
    return found


def compare(servers, cpu, rate, seconds, rounds):
    """Rows of one rate."""
    found = {server: [] for server in servers}
    for i in range(rounds):
        for server in servers if i % 2 == 0 else reversed(servers):
            found[server].append(measure(server, cpu, rate, seconds))
    ours, peer = servers

    def median(server, key):
        return statistics.median(each[key] for each in found[server])

    def rate_of(server):
        return statistics.median(each["delivered"] / each["all_s"] for each in found[server])

    ratio = statistics.median(a["cpu_us"] / b["cpu_us"] for a, b in zip(found[ours], found[peer]))
    what = f"{N_CLIENTS} subscribers, {rate} messages/s"
    return [
        Row(f"{what}: CPU per delivery", "us", median(ours, "cpu_us"), median(peer, "cpu_us"), peer.name, ratio,
            Bar("ratio", "<=", 1)),
        Row(f"{what}: deliveries", "/s", rate_of(ours), rate_of(peer), peer.name),
        Row(f"{what}: latency p50", "ms", median(ours, "p50_ms"), median(peer, "p50_ms"), peer.name),
        Row(f"{what}: latency p99", "ms", median(ours, "p99_ms"), median(peer, "p99_ms"), peer.name),
    ]


def per_subscriber(server, cpu):
    """PSS that each subscriber adds, in bytes."""
    before = processes.pss_kib(server.family())
    with Load(server, cpu, 1, 1):
        return (processes.pss_kib(server.family()) - before) * 1024 / N_CLIENTS


def disturb(server, cpu, rate, seconds):
    """A kill and a reload in the middle."""
    def is_whole():
        return len(server.workers()) == WORKERS

    with Load(server, cpu, rate, seconds) as load:
        n = server.published()
        load.begin()
        wait_until(lambda: server.published() > n + rate, "messages come", 60)
        processes.kill(server.workers()[0])
        wait_until(is_whole, "the worker is replaced", 60)
        n = server.published()
        wait_until(lambda: server.published() > n + rate, "messages go on", 60)
        wait_until(server.reload(), "the new generation serves", 60)
        found = load.end()
    check(server, found, cut_off=True)
    say(f"hub: killed and reloaded: {found}")
    return [
        Row(f"{N_CLIENTS} subscribers, a kill, a reload: cut off and come back", "", found["cut"], None, "",
            bar=Bar("ours", ">=", N_CLIENTS)),
        Row("messages that one missed or got twice", "", found["missing"] + found["twice"] + found["gaps"], None, "",
            bar=Bar("ours", "<=", 0)),
    ]



def run(options):
    server_cpu, load_cpu = two_cpus()
    seconds, rounds = options.seconds or 5, options.rounds or 3
    many_descriptors(2 * N_CLIENTS + 1000)
    rows = []
    more = {"workers": WORKERS, "connections": N_CLIENTS + 1000}
    with Hub(options.folder, server_cpu, **more) as ours, Nchan(options.folder, server_cpu, **more) as peer:
        memory = [per_subscriber(server, load_cpu) for server in (ours, peer)]  # first: nothing is allocated yet
        for rate in RATES:
            rows += compare((ours, peer), load_cpu, rate, seconds, rounds)
        rows.append(Row(f"{N_CLIENTS} subscribers: PSS of each", "bytes", *memory, peer.name))
        rows += disturb(ours, load_cpu, RATES[0], max(seconds, 5) * 2)
    return rows
