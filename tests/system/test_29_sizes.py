"""Modules that were built against an older or a newer header: the sizes of their options. The module is sizes_module.c."""

import errno
import http.client

import pytest

from conftest import HERE
from harness import DEADLINE

INVALID, UNKNOWN, THERE, NOBODY, ANSWERED = (
    -number for number in (errno.EINVAL, errno.ENOTSUP, errno.EEXIST, errno.ENOENT, errno.EALREADY))

# What each says when nothing is wrong with the size.
CALLS = {
    "open_bus": THERE, "post": 0, "subscribe": 0, "spawn": 0, "submit_task": NOBODY, "open_files": 0, "add_route": THERE,
    "accept_websocket": ANSWERED, "walk": 0, "find_limit": 0, "start_thread": 0, "send_to_thread": 0, "start_threads": 0,
    "submit_work": 0, "digest": 0, "look_up": 0, "reverse": 0, "list": 0, "deflate": 0, "open_zlib": 0,
}


@pytest.fixture
def answers(start, build_module):
    """{function: what it returned}."""
    module = build_module(HERE / "sizes_module.c", "-D_GNU_SOURCE")
    t = start({"workers": {"count": 1, "probe": "off"}, "module:s": {"path": module, "mount": "/s"}})
    client = http.client.HTTPConnection(*t.address(), timeout=DEADLINE)
    client.request("GET", "/s/try")
    lines = client.getresponse().read().decode().splitlines()
    client.close()
    return {name: [int(number) for number in numbers] for name, *numbers in map(str.split, lines)}


def test_sizes(answers):
    figures = answers.pop("ask_figures")
    assert figures == [INVALID] * 3 + [0] * 4 + [INVALID], "it is filled in as far as it is known"
    assert answers == {
        # 0, a pointer's, too little; the first version, ours, a newer one; one that uses what we do not know; garbage
        name: [INVALID] * 3 + [fine] * 3 + [UNKNOWN, INVALID] for name, fine in CALLS.items()
    }
