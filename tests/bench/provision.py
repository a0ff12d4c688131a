"""Gets ready what a benchmark needs: peers, a release build of tined, the C programs here."""

import functools
import json
import os
import pathlib
import shutil
import subprocess

from .common import BenchError, say

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
BUILD = REPOSITORY / "build"
OWN_BUILD = REPOSITORY / "build-bench"
INCLUDE = REPOSITORY / "include"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tined-bench"
PACKAGES = {"wrk": "wrk", "nginx": "nginx", "h2o": "h2o", "cc": "gcc", "meson": "meson", "ninja": "ninja-build",
            "node": "nodejs", "npm": "npm", "nats-server": "nats-server"}


def need_file(path, package):
    """The same for what is not a program."""
    if not os.path.exists(path):
        install([package])
    if not os.path.exists(path):
        raise BenchError(f"{path} is still missing after {package} was installed")


def find(program):
    return shutil.which(program, path=PATH)


def run(command, what, **options):
    """Runs a command, its output into ours for errors only."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", check=False, **options,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BenchError(f"{what}: {e}") from None
    if done.returncode != 0:
        raise BenchError(f"{what}: {' '.join(map(str, command))} failed:\n{done.stdout.strip()[-2000:]}")


def numbers(command, what, timeout=120, **options):
    """What a program prints: numbers."""
    try:
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False, **options)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{what} did not finish") from None
    if done.returncode != 0:
        raise BenchError(f"{what}: {done.stderr.strip()[-1000:]}")
    return [float(word) for word in done.stdout.split()]


def node(script, *arguments, **options):
    """The numbers that one of the programs here prints under Node."""
    return numbers([find("node"), HERE / script, *arguments], script, **options)


def install(missing):
    """Installs Debian's packages."""
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    if as_root and not find("sudo"):
        raise BenchError(f"not root and no sudo here; as root, run: apt-get install {' '.join(missing)}")
    say(f"installing {' '.join(missing)}{' with sudo' if as_root else ''}")
    # RUNLEVEL=1: no package's own server is started by its installation.
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
    run([*apt, "update"], "package lists", timeout=300)
    run([*apt, "install", "-y", "--no-install-recommends", *missing], "packages", timeout=900)


def need(*programs):
    """Installs from Debian's packages what is missing."""
    missing = sorted({PACKAGES[program] for program in programs if not find(program)})
    if not missing:
        return
    install(missing)
    for program in programs:
        if not find(program):
            raise BenchError(f"{program} is still missing after its package was installed")


@functools.cache
def tined():
    """The path of a release build that is up to date; or the binary that TINED names, as it is."""
    if "TINED" in os.environ:
        binary = pathlib.Path(os.environ["TINED"]).resolve()
        if not os.access(binary, os.X_OK):
            raise BenchError(f"{binary} (from TINED) cannot be executed")
        return binary
    run([REPOSITORY / "scripts" / "deps", "run"], "what tined is built from", timeout=900)
    if not (BUILD / "build.ninja").exists():
        say("setting up build/")
        run(["meson", "setup", BUILD, "--buildtype=release"], "build", cwd=REPOSITORY, timeout=300)
    options = json.loads((BUILD / "meson-info" / "intro-buildoptions.json").read_text())
    built = {option["name"]: option["value"] for option in options}
    if built["buildtype"] != "release" or built["b_sanitize"] != "none":
        raise BenchError("build/ is not a release build; remove it, or name a binary in TINED")
    run(["ninja", "-C", BUILD, "tined", "tined-symbolize", "tined-nats.so"], "build", timeout=900)
    return BUILD / "tined"


def tinectl():
    """The client that was built with it."""
    binary = tined().parent / "tinectl"
    if "TINED" not in os.environ:
        run(["ninja", "-C", BUILD, "tinectl"], "build", timeout=900)
    if not os.access(binary, os.X_OK):
        raise BenchError(f"{binary} cannot be executed")
    return binary


def compile_c(source, binary, *flags, newest=0.0):
    """Compiles when the binary is older than its source, or than `newest`."""
    need("cc")
    if not binary.exists() or binary.stat().st_mtime < max(source.stat().st_mtime, newest):
        OWN_BUILD.mkdir(exist_ok=True)
        run([find("cc"), "-O2", "-std=gnu17", "-Wall", "-Wextra", "-o", binary, source, *flags], source.name, timeout=60)
    return binary


def compiled(name):
    """One of the C programs here."""
    return compile_c(HERE / f"{name}.c", OWN_BUILD / name)


def module(name):
    """One of the modules for tined here."""
    headers = [*(INCLUDE / "tine").iterdir(), *HERE.glob("*.h"), HERE.parent / "module.h"]
    newest = max(header.stat().st_mtime for header in headers)
    return compile_c(
        HERE / f"{name}.c", OWN_BUILD / f"{name}.so", "-shared", "-fPIC", "-I", INCLUDE, newest=newest)


def npm(name, version):
    """The folder of packages that has this one from npm, and which version of it."""
    need("node", "npm")
    folder = CACHE / f"{name}-{version}"
    about = folder / "node_modules" / name / "package.json"
    if not about.exists():
        say(f"installing {name}@{version} from npm into {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        run([find("npm"), "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts",
             f"{name}@{version}"], name, timeout=300)
    return folder / "node_modules", json.loads(about.read_text())["version"]
