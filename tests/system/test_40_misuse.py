"""The functions of the headers where they are misused, or at their limits. The module is misuse_module.c."""

import pytest

from conftest import HERE


@pytest.fixture(scope="session")
def module(build_module):
    return build_module(HERE / "misuse_module.c", "-D_GNU_SOURCE")


@pytest.fixture
def misused(start, module):
    def make(changes=None):
        return start({"workers": {"count": 1, "probe": "off"},
                      "module:m": {"path": module, "listener": "web", "mount": "/m"}, **(changes or {})})

    return make


def ask(t, path):
    answer = t.get(f"/m/{path}")
    assert answer.status == 200, answer
    return answer.body.decode()


def test_what_never_has_room_is_not_to_wait_for_it(misused):
    assert ask(misused(), "too-large") == "full too large invalid"
