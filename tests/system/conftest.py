"""Fixtures of the system tests. TINED names the binary to be tested; build/tined when it is not set."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import pytest  # noqa: E402

import harness  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def pytest_report_header():
    return f"tined: {harness.TINED}"


def pytest_sessionstart():
    if not os.access(harness.TINED, os.X_OK):
        pytest.exit(f"{harness.TINED} cannot be executed; build it, or name another in TINED", returncode=2)


@pytest.fixture
def folder():
    """A folder that other users can look into, with a short path (unix sockets)."""
    with tempfile.TemporaryDirectory(prefix="tined-") as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


@pytest.fixture
def tined(folder):
    """Makes daemons; each is stopped and checked at the end of the test. The first has the folder for its own."""
    made = []

    def make(changes=None, **options):
        own = folder / f"tined{len(made)}" if made else folder
        own.mkdir(exist_ok=True)
        made.append(harness.Tined(own, changes, **options))
        return made[-1]

    yield make
    problems = []
    for daemon in reversed(made):
        try:
            daemon.close()
        except AssertionError as e:
            problems.append(str(e))
    assert not problems, "\n".join(problems)


@pytest.fixture
def start(tined):
    """Makes a daemon and waits until it serves."""
    return lambda changes=None, **options: tined(changes, **options).start()


@pytest.fixture(scope="session")
def build_module():
    """Compiles a module: build_module(SOURCE FILE, OPTION OF cc...) gives the shared object."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler here")
    with tempfile.TemporaryDirectory(prefix="tined-module-") as path:
        os.chmod(path, 0o755)

        def build(source, *options):
            out = pathlib.Path(path, f"module{len(os.listdir(path))}.so")
            subprocess.run(
                [compiler, "-std=gnu17", "-O1", "-Wall", "-Werror", "-fPIC", "-shared",
                 f"-I{harness.REPOSITORY}/include", *options, "-o", out, source],
                check=True, timeout=harness.DEADLINE,
            )
            return out

        yield build


@pytest.fixture(scope="session")
def module(build_module):
    """The module of these tests: handlers that crash, hang, or answer late or not at all."""
    return build_module(HERE / "module.c")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, driven by python3-selenium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    try:
        socket.getaddrinfo("localhost", None)
    except OSError:
        pytest.skip("no name localhost here (/etc/hosts), by which Chromium and its driver find each other")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu":
        options.add_argument(flag)
    chrome = webdriver.Chrome(service=webdriver.chrome.service.Service(driver), options=options)
    chrome.set_script_timeout(harness.DEADLINE)
    yield chrome
    chrome.quit()


@pytest.fixture
def root_only():
    if os.geteuid() != 0:
        pytest.skip("needs root")
