"""The dashboard in a real browser."""

import itertools
import json
import os
import signal
import threading

import pytest

import harness
from harness import wait_until

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def page(start, folder, browser):
    """A daemon, and its dashboard in the browser."""

    def make(changes=None):
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        t = start(harness.merge({"admin": {"listen": "127.0.0.1:0", "token_file": token}}, changes or {}))
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(f"http://127.0.0.1:{t.admin_port()}/")
        wait_until(lambda: text(browser, "#connection") == "live", "the page is live")
        return t

    yield make
    browser.get("about:blank")


def text(browser, selector):
    return browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)


def tiles(browser):
    """{slot: (pid, state, text)} of the workers' tiles."""
    found = browser.execute_script(
        "return [...document.querySelectorAll('#tiles > li')].map(e => [e.dataset.slot, e.dataset.pid, e.dataset.state, e.textContent])")
    return {int(slot): (int(pid), state, all_text) for slot, pid, state, all_text in found if "worker" in all_text}


def complaints(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_tiles_show_the_workers(page, browser):
    t = page()
    wait_until(lambda: [state for _, state, _ in tiles(browser).values()] == ["ready"] * 2, "a tile for each worker")
    assert {pid for pid, _, _ in tiles(browser).values()} <= set(t.worker_pids())
    wait_until(lambda: "2 of 2 ready" in text(browser, "#facts") and text(browser, "#crashes") == "none", "the rest, too")
    assert complaints(browser) == []


def test_tiles_say_what_there_is_to_say(page, browser):
    page({"admin": {"token_file": None}})
    wait_until(lambda: [state for _, state, _ in tiles(browser).values()] == ["ready"] * 2, "two tiles, ready")
    for _, _, words in tiles(browser).values():
        for word in "ready", "pid", "age", "generation", "connections", "requests/s", "busy", "lag p99", "memory":
            assert word in words, words
    wait_until(lambda: browser.title == "2/2 tined", "the title says so, too")
    assert browser.execute_script("return document.querySelector('#actions').hidden"), "nothing can be done without a token file"


def test_processes_come_in_pieces(page, browser):
    """As they do when there are many."""
    page()
    wait_until(lambda: len(tiles(browser)) == 2, "tiles")
    slots = browser.execute_script("""
        const one = (slot) => ({ role: "worker", slot, state: "ready", pid: 1, age_ms: 1, connections: 0, memory: 1, request_line: "" });
        const shown = () => [...document.querySelectorAll("#tiles > li")].map((e) => Number(e.dataset.slot));
        const seen = [];
        onProcesses({ from: 0, to: 7, processes: [one(1), one(6)] });
        onProcesses({ from: 7, to: 1e9, processes: [one(7), one(9)] });
        seen.push(shown());
        onProcesses({ from: 0, to: 7, processes: [one(2)] });
        seen.push(shown());
        return seen;""")
    assert slots == [[1, 6, 7, 9], [2, 7, 9]]


def test_killed_worker_changes_its_tile(page, browser):
    page()
    slot, (pid, _, _) = next(iter(wait_until(lambda: tiles(browser), "tiles").items()))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: tiles(browser)[slot][0] not in (0, pid) and tiles(browser)[slot][1] == "ready", "another pid is in its tile")
    wait_until(lambda: "killed by signal 9" in text(browser, "#crashes"), "the crash is listed")
    wait_until(lambda: "crash" in text(browser, "#events"), "among the events, too")


def test_plots_and_rates_under_load(page, browser):
    t = page()
    done = threading.Event()

    def load():
        with t.connect() as c:
            while not done.is_set():
                c.request("/")

    client = threading.Thread(target=load)
    client.start()
    try:
        wait_until(lambda: len(browser.execute_script(
            "return document.querySelector('#plots path.a').getAttribute('d') || ''")) > 20, "the plot has points")
        wait_until(lambda: "requests/s 0" not in text(browser, "#plots figcaption"), "and a figure")
    finally:
        done.set()
        client.join()


def test_it_works_while_every_worker_hangs(page, browser, module):
    t = page({"workers": {"count": 1, "hang_timeout": "60s", "probation": "50ms"},
              "module:m": {"path": module, "mount": "/m", "delay": "8s"}})
    with t.connect() as c:
        c.send(b"GET /m/sleep HTTP/1.1\r\nHost: test\r\n\r\n")
        wait_until(lambda: "/m/sleep" in text(browser, "#tiles"), "the tile shows what it is busy with")
        before = text(browser, "#facts")
        wait_until(lambda: text(browser, "#facts") != before, "the page goes on")
    t.stop_at_once()


def test_backtrace_of_a_crash(page, browser, module):
    t = page({"module:m": {"path": module, "mount": "/m"}})
    with pytest.raises((harness.Gone, ConnectionResetError)):
        t.get("/m/abort")
    wait_until(lambda: "on_abort" in text(browser, "#crashes pre"), "the function is named")


def test_what_others_wrote_stays_text(page, browser):
    """The verdict of a reload quotes the file."""
    t = page()
    t.configure({"workers": {"threads": "<img src=x onerror=document.title='owned'>"}})
    t.reload_fails()
    wait_until(lambda: "onerror" in text(browser, "#verdict") and "onerror" in text(browser, "#events"), "it is shown")
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert "owned" not in browser.title


def test_what_clients_wrote_stays_text(page, browser, module):
    """'<' is refused in a request line; as HTML this would become one."""
    t = page({"module:m": {"path": module, "mount": "/m"}})
    with pytest.raises((harness.Gone, ConnectionResetError)):
        t.get("/m/abort?'&lt;img/src=x/onerror=window.harm=1&gt;")
    wait_until(lambda: "&lt;img" in text(browser, "#crashes .serves"), "the request line is shown")
    assert browser.execute_script("return [window.harm ?? null, document.querySelectorAll('main img, main script').length]") == [None, 0]


def test_actions_need_the_token(page, browser):
    t = page()
    wait_until(lambda: browser.execute_script("return !document.querySelector('#actions').hidden"), "buttons are there")
    browser.execute_script("sessionStorage.clear()")
    browser.find_element("css selector", "[data-action=more]").click()
    browser.find_element("css selector", "#token").send_keys("wrong")
    browser.find_element("css selector", "#ask button[value=ok]").click()
    wait_until(lambda: "the token is wrong" in text(browser, "#outcome"), "it is refused")

    def again():
        browser.execute_script("document.querySelector('#outcome').textContent = ''")
        browser.find_element("css selector", "[data-action=more]").click()
        if browser.execute_script("return document.querySelector('#ask').open"):
            browser.find_element("css selector", "#token").send_keys(TOKEN)
            browser.find_element("css selector", "#ask button[value=ok]").click()
        wait_until(lambda: text(browser, "#outcome") not in ("", "…"), "there is an outcome")
        return "of 3 workers ready" in text(browser, "#outcome") or "3 workers" in text(browser, "#outcome")

    wait_until(again, "with the right one there is a worker more")
    wait_until(lambda: len(tiles(browser)) == 3, "and a tile more")
    assert t.find("dashboard: scale 3")
    browser.execute_script("sessionStorage.clear()")
    browser.find_element("css selector", "[data-action=reload]").click()
    browser.find_element("css selector", "#cancel").click()
    wait_until(lambda: not browser.execute_script("return document.querySelector('#ask').open"), "cancelled")
    assert not t.find("reload: begins")


def test_it_comes_back_after_a_reload(page, browser):
    t = page()
    first = wait_until(lambda: browser.execute_script("return state.samples[0]?.t"), "a second was measured")
    t.reload()
    wait_until(lambda: text(browser, "#connection") == "live" and "last reload: generation 2 serves" in text(browser, "#verdict"),
               "the page shows the new generation")
    assert browser.execute_script("return state.samples[0].t") == first, "the plots go on"


def test_it_comes_back_after_a_restart(page, browser):
    t = page({"admin": {"listen": f"127.0.0.1:{harness.free_port()}"}})  # the same one again
    browser.execute_script("window.same = true")
    assert t.stop() == 0
    wait_until(lambda: text(browser, "#connection").startswith("not connected"), "it says so")
    t.start()
    wait_until(lambda: {pid for pid, _, _ in tiles(browser).values()} <= set(t.worker_pids()) and text(browser, "#connection") == "live",
               "it shows the new workers")
    assert browser.execute_script("return window.same") is True, "the page was never loaded anew"


def test_it_fits_and_can_be_read(page, browser, module):
    t = page({"module:m": {"path": module, "mount": "/m"}})
    with pytest.raises((harness.Gone, ConnectionResetError)):
        t.get("/m/abort?" + "long" * 50)
    wait_until(lambda: "signal 6" in text(browser, "#crashes") and len(tiles(browser)) == 2, "a crash is shown")
    browser.execute_script("document.querySelector('#crashes details').open = true")
    try:
        for width, scheme in itertools.product((360, 1280), ("light", "dark")):
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, paper.strip("rgba()").split(",")[:3])) > 3 * 128) == (scheme == "light")
            assert browser.execute_script(FAINT) == [], (width, scheme)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# Texts whose contrast with what is behind them is below what WCAG 2 asks for (AA: 4.5).
FAINT = """
const rgb = (s) => s.match(/[\\d.]+/g).map(Number);
const light = (c) => {
  const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3]) return c.slice(0, 3);
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())).map((e) => {
  const a = light(rgb(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e));
  return [`${e.tagName} ${e.textContent.slice(0, 30)}`, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
}).filter(([_, ratio]) => ratio < 4.5);
"""


def test_it_asks_nobody_else(page, browser):
    t = page()
    wait_until(lambda: tiles(browser), "tiles")
    names = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert names and all(name.startswith("http://127.0.0.1:") for name in names), json.dumps(names)
    assert t.process.poll() is None
