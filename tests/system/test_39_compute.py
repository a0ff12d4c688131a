"""examples/compute and its page: the same computation in six places."""

import json
import os
import re

import pytest

from harness import REPOSITORY, wait_until
from test_20_examples import BUILD, curl

WAYS = ["inline", "slices", "pool", "thread", "farm", "child"]
NUMBERS = 20000


def steps(numbers):
    """What the example computes, done again."""
    known = {1: 0}
    for i in range(2, numbers + 1):
        n, row = i, []
        while n not in known:
            row.append(n)
            n = n // 2 if n % 2 == 0 else 3 * n + 1
        for k, m in enumerate(reversed(row), 1):
            known[m] = known[n] + k
    return sum(known[i] for i in range(1, numbers + 1))


@pytest.fixture
def compute(tined):
    """The example with its own configuration, but for the port and how much it computes."""

    def start(farm="compute"):
        text = (REPOSITORY / "examples/compute/compute.ini").read_text()
        text = text.replace("compute.so", str(BUILD / "examples/compute.so")).replace(":8080", ":0")
        text = re.sub(r"^farm = .*$", f"farm = {farm}\nnumbers = {NUMBERS}", text, flags=re.M)
        return tined(text=text).start()

    return start


def test_all_ways_come_to_the_same(compute):
    t = compute()
    assert json.loads(curl(t.url("/compute/ways"))[2]) == WAYS
    expected = steps(NUMBERS)
    for way in WAYS:
        status, _, body = curl(t.url(f"/compute/run?how={way}"))
        answer = json.loads(body) if status == 200 else body
        assert status == 200 and (answer["how"], answer["steps"]) == (way, expected), answer


def test_a_farm_that_is_not_there(compute):
    t = compute(farm="")
    assert json.loads(curl(t.url("/compute/ways"))[2]) == [way for way in WAYS if way != "farm"]
    assert curl(t.url("/compute/run?how=farm"))[0] == 400
    t = compute(farm="other")
    status, _, body = curl(t.url("/compute/run?how=farm"))
    assert status == 500 and b"farm" in body


def test_the_page(compute, browser):
    """One way, chosen by hand: it is counted, and the plot has a curve."""
    t = compute()
    browser.get(t.url("/compute.html"))
    wait_until(lambda: len(browser.find_elements("css selector", "#ways button")) == len(WAYS) + 1, "the ways are there")
    browser.find_element("css selector", "button[data-ways=farm]").click()
    wait_until(lambda: browser.find_element("id", "state").text == "Done.", "it is measured")
    cells = [cell.text for cell in browser.find_elements("css selector", "#result-farm td")]
    assert cells[0] == "task farm" and float(cells[1]) > 0 and int(cells[2]) > 0, cells
    assert browser.find_element("css selector", "#plot .curve").get_attribute("d").count("L") > 5
    if os.environ.get("SCREENSHOTS"):
        browser.save_screenshot(f"{os.environ['SCREENSHOTS']}/compute.png")


def test_the_page_without_the_example(tined, browser):
    t = tined({"module:hello": {"path": "builtin:static", "root": REPOSITORY / "conf/site"}}).start()
    browser.get(t.url("/compute.html"))
    wait_until(lambda: "must be mounted at /compute" in browser.find_element("id", "state").text, "it says what is missing")
