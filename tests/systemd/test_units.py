"""The units, installed by `meson install`, under a real systemd in namespaces of its own."""

import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("TINED_PLAIN_BUILD", ROOT / "build"))  # without sanitizers: the unit forbids them


def run_testbed(*arguments, timeout=90):
    return subprocess.run(
        [HERE / "testbed", "-j", *map(str, arguments)], capture_output=True, text=True, timeout=timeout + 30
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """What `meson install` puts on a machine, and a testbed that boots."""
    if os.geteuid() != 0:
        pytest.skip("the systemd testbed needs root")
    boot = run_testbed("-t", "20", "/bin/true")
    if boot.returncode != 0:
        pytest.skip(f"the systemd testbed cannot boot here: {boot.stderr.strip()[-200:]}")
    path = tmp_path_factory.mktemp("installed")
    path.chmod(0o755)  # it is laid over /, which everybody must be able to search
    subprocess.run(
        ["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", path],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    modules = path / "usr/lib/tined"
    modules.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["cc", "-std=gnu17", "-Wall", "-Werror", "-fPIC", "-shared", f"-I{ROOT}/include", "-o", modules / "slow.so",
         HERE / "slow.c"],
        check=True,
    )
    return path


def test_install_puts_everything_where_debian_expects_it(tree):
    for name in (
        "usr/sbin/tined",
        "usr/bin/tinectl",
        "usr/include/tine/module.h",
        "usr/include/tine/http.h",
        "etc/tined/tined.ini",
        "usr/share/tined/site/index.html",
        "usr/share/man/man8/tined.8",
        "usr/share/man/man5/tined.ini.5",
        "usr/lib/systemd/system/tined.service",
        "usr/lib/systemd/system/tined.socket",
        "usr/lib/sysusers.d/tined.conf",
        "usr/lib/tmpfiles.d/tined.conf",
    ):
        assert list(tree.glob(name + "*")), f"{name} was not installed"


SCENARIOS = (
    "verify", "service", "slow_start", "failed_start", "reload", "socket", "restart", "kill", "kill_reuseport", "kill_hung",
    "upgrade", "journal", "watchdog",
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(tree, scenario):
    run = run_testbed("-t", "80", "-b", HERE.parent, "-x", tree, HERE / "inside", scenario)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"scenario {scenario}: good" in run.stdout
    print(run.stdout)
