"""The functions of the headers where they are misused, or at their limits. The module is misuse_module.c."""

import pytest

from conftest import HERE
from harness import line
from test_30_bus import members
from test_33_nats import machines, pytestmark as needs_nats, server, service  # noqa: F401


@pytest.fixture(scope="session")
def module(build_module):
    return build_module(HERE / "misuse_module.c", "-D_GNU_SOURCE")


@pytest.fixture
def misused(start, module):
    def make(changes=None, workers=None):
        return start({"workers": {"count": 1, "probe": "off", **(workers or {})},
                      "module:m": {"path": module, "listener": "web", "mount": "/m"}, **(changes or {})})

    return make


def ask(t, path):
    answer = t.get(f"/m/{path}")
    assert answer.status == 200, answer
    return answer.body.decode()


def test_what_never_has_room_is_not_to_wait_for_it(misused):
    assert ask(misused(), "too-large") == "full too large invalid"


def test_sizes_that_no_structure_has(misused):
    assert ask(misused(), "figures") == 4 * "invalid " + "ok known"


def test_no_connection_begins_when_the_worker_has_ended_them(misused, module):
    """What is adopted then would not be closed; and where each end adopts another one, there would be no end."""
    t = misused({"listener:tcp": {"address": "127.0.0.1:0", "protocol": "tcp"},
                 "module:m": {"path": module, "listener": "tcp", "stream": "on"}}, {"drain_timeout": "1s"})
    with t.connect("tcp") as client:
        assert line(client, "hello") == "hello"
        t.stop()
    t.wait_log(r"drain: deadline; closing 1 ")
    assert [m[1] for m in t.find(r"adopted (.*)")] == ["in on_close: closed", "in worker_stop: closed"]
    assert t.find(r"1 opened, 1 closed")


def test_nothing_is_called_after_worker_stop(misused):
    """Also when what was sent last cannot be written any more."""
    t = misused()
    t.stop()
    assert t.find(r"sent in worker_stop: ok")
    assert t.errors() == []


@pytest.mark.parametrize("group", ["two words", "t\u00f6", "\x1b[2J"])
@needs_nats[0]
@needs_nats[1]
def test_a_group_of_which_nats_cannot_be_told_stays_on_its_machine(server, machines, group):  # noqa: F811
    """Its members elsewhere would not know that it has had a message."""
    nats = server()
    everybody = [w for t in machines(nats, 2) for w in members(t)]
    for w in everybody:
        w.ask("subscribe", pattern="work", group=group)
        w.ask("subscribe", pattern="end")
    nats.wait_subscribed("end", 2)
    assert everybody[0].ask("send", subject="work", data="once") == "ok"
    assert everybody[0].ask("send", subject="end", data="end") == "ok"
    got = []
    for w in everybody:  # they come in this order
        while not got or got[-1] != "end":
            got += [text.split(" ", 3)[3] for text in w.ask("got").splitlines()]
        got.pop()
    assert got == ["once"]
