"""scripts/bench: arguments in, rows out."""

import argparse
import importlib
import os
import pathlib
import signal
import sys
import tempfile

from . import rows as results
from .common import BenchError, WrongAnswer

NAMES = ("http", "websocket", "slow", "stalled", "cold", "fairness", "crash", "reload", "rollback", "upgrade",
         "leaks", "memory", "hang", "budget", "supervision", "relay", "hub", "bridge", "work", "farm")
FAILED, CANNOT = 1, 2


def first_line(name):
    return importlib.import_module(f".{name}", __package__).__doc__.splitlines()[0]


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures tined side by side with others. Peers are installed from Debian's packages when they are "
        "missing; tined is built into build/, or taken from TINED=PATH.",
        epilog="Exit status: 0 every bar was met, 1 one was missed or a load had errors, 2 it could not be run.",
    )
    parser.add_argument("name", nargs="?", choices=NAMES, metavar="NAME", help="the benchmark: " + ", ".join(NAMES))
    parser.add_argument("--list", action="store_true", help="say what each benchmark measures")
    parser.add_argument("--json", action="store_true", help="print an array of rows")
    parser.add_argument("--seconds", type=int, help="length of one load (default: the benchmark's own)")
    parser.add_argument("--rounds", type=int, help="repetitions (default: the benchmark's own)")
    options = parser.parse_args()
    if not options.name and not options.list:
        parser.error("a NAME is needed, or --list")
    if any(number is not None and number < 1 for number in (options.seconds, options.rounds)):
        parser.error("--seconds and --rounds are 1 or more")
    return options


SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def on_signal(number, _):
    """Unwinds, once, so that every server is stopped."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise BenchError(f"stopped by {signal.Signals(number).name}")


def main():
    options = arguments()
    if options.list:
        for name in NAMES:
            print(f"{name:13}{first_line(name)}")
        return 0
    for number in SIGNALS:
        signal.signal(number, on_signal)
    try:
        with tempfile.TemporaryDirectory(prefix="tined-bench-") as folder:
            os.chmod(folder, 0o755)  # servers started as root drop to users of their own
            options.folder = pathlib.Path(folder)
            (options.folder / "files").mkdir()
            rows = importlib.import_module(f".{options.name}", __package__).run(options)
    except BenchError as e:
        print(f"bench: {e}", file=sys.stderr)
        return FAILED if isinstance(e, WrongAnswer) else CANNOT
    print(results.as_json(rows) if options.json else results.as_table(rows))
    return FAILED if any(row.passed is False for row in rows) else 0
