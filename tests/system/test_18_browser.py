"""A browser as the client (conftest.py:browser), on a page served by builtin:static."""

import pytest

from harness import REPOSITORY

PAGE = """<!doctype html><meta charset="utf-8"><title>probe</title><script src="site.js"></script>"""


@pytest.fixture
def t(start, build_module, folder):
    site = folder / "site"
    site.mkdir()
    (site / "index.html").write_text(PAGE)
    (site / "site.js").write_text("window.loaded = true;\n" + "// text that compresses well\n" * 500)
    (site / "numbers").write_bytes(bytes(range(256)) * 100)
    modules = {name: build_module(REPOSITORY / "examples" / name / f"{name}.c") for name in ("websocket", "streaming")}
    return start({
        "module:hello": None,
        "module:site": {"path": "builtin:static", "mount": "/", "root": site, "gzip": "on", "listener": "web"},
        "module:ws": {"path": modules["websocket"], "mount": "/ws", "listener": "web"},
        "module:events": {"path": modules["streaming"], "mount": "/events", "listener": "web"},
    })


def run(browser, t, script):
    """What the script hands to done(), on a page of the daemon's."""
    browser.get(t.url("/"))
    assert browser.title == "probe"
    return browser.execute_async_script("const done = arguments[0];" + script)


def test_page_and_its_script(browser, t):
    found = run(browser, t, """
        const entry = performance.getEntriesByName(location.origin + '/site.js')[0];
        done({loaded: window.loaded, coded: entry.encodedBodySize, decoded: entry.decodedBodySize});""")
    assert found["loaded"] is True
    assert found["coded"] < found["decoded"] / 10  # gzip, made by tined


def test_websocket(browser, t):
    """Text and binary of all sizes, compressed as the browser asks for, and a proper end."""
    found = run(browser, t, """
        const ws = new WebSocket('ws://' + location.host + '/ws/echo'), got = [];
        const sent = ['x', 'grüß dich '.repeat(20000), new Uint8Array(70000).fill(7)];
        ws.binaryType = 'arraybuffer';
        ws.onopen = () => sent.forEach(m => ws.send(m));
        ws.onmessage = e => {
            got.push(typeof e.data == 'string' ? e.data === sent[got.length] : e.data.byteLength === 70000);
            if (got.length == 3) ws.close(1000, 'enough');
        };
        ws.onclose = e => done({got, code: e.code, clean: e.wasClean, extensions: ws.extensions});""")
    assert found == {"got": [True] * 3, "code": 1000, "clean": True, "extensions": found["extensions"]}
    assert "permessage-deflate" in found["extensions"]


def test_event_source(browser, t):
    found = run(browser, t, """
        const source = new EventSource('/events/clock'), got = [];
        const on = e => { got.push(e.data); if (got.length == 3) { source.close(); done(got); } };
        for (const name of ['message', 'tick', 'time', 'clock']) source.addEventListener(name, on);""")
    assert len(found) == 3 and all(found)


def test_range_and_stream(browser, t):
    found = run(browser, t, """
        (async () => {
            const part = await fetch('/numbers', {headers: {Range: 'bytes=256-259'}});
            const bytes = Array.from(new Uint8Array(await part.arrayBuffer()));
            const lines = await (await fetch('/events/lines/1000')).text();
            const twice = await (await fetch('/nothing/here')).status;
            done({status: part.status, bytes, lines: lines.trim().split('\\n').length, twice});
        })();""")
    assert found == {"status": 206, "bytes": [0, 1, 2, 3], "lines": 1000, "twice": 404}
