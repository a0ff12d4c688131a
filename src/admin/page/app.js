"use strict";
// The dashboard. Everything that comes from the daemon is put in as text, never as HTML.

const SECONDS = 300;
const EVENTS_SHOWN = 100;
const byId = (id) => document.getElementById(id);
const state = { samples: [], events: [], processes: [], wanted: 0 };

// --- numbers for people ---

function count(n) {
  for (const unit of ["", " k", " M", " G"]) {
    if (n < 10000 || unit === " G") return (unit && n < 100 ? n.toFixed(1) : Math.round(n)) + unit;
    n /= 1000;
  }
}

function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024 || unit === "TiB") return `${unit !== "B" && n < 10 ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1024;
  }
}

function micros(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

function age(ms) {
  const s = ms / 1000;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

// --- building blocks ---

function element(tag, properties = {}, ...children) {
  const e = document.createElement(tag);
  Object.assign(e, properties);
  e.append(...children);
  return e;
}

function pairs(list) {
  return list.map(([name, value]) =>
    element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value })));
}

function clock(time) {
  return element("time", { dateTime: time, textContent: new Date(time).toLocaleTimeString() });
}

// --- plots: one SVG each, redrawn whole ---

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 80;

const PLOTS = [
  { title: "requests/s", lines: [{ key: "requests", name: "" }], show: count },
  { title: "latency", lines: [{ key: "p50_us", name: "p50" }, { key: "p99_us", name: "p99" }], show: micros },
  { title: "connections", lines: [{ key: "connections", name: "" }], show: count },
  { title: "restarts", bars: "restarts", show: count },
];

function plotNew(plot) {
  plot.now = element("span");
  plot.peak = element("span");
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  plot.svg = svg;
  const grid = document.createElementNS(NS, "path");
  grid.setAttribute("class", "grid");
  grid.setAttribute("d", `M0 ${HEIGHT}H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 0H${WIDTH}`);
  svg.append(grid);
  plot.paths = (plot.lines || [{}]).map((_, i) => {
    const path = document.createElementNS(NS, "path");
    path.setAttribute("class", plot.bars ? "bar" : "ab"[i]);
    svg.append(path);
    return path;
  });
  byId("plots").append(element("figure", {},
    element("figcaption", {}, element("strong", { textContent: plot.title }), plot.now, plot.peak), svg));
}

// The newest sample is at the right edge; where a second is missing the line has a gap.
function linePath(samples, key, top) {
  const newest = samples.length ? samples[samples.length - 1].t : 0;
  let d = "", before = null;
  for (const s of samples) {
    const x = WIDTH - (newest - s.t) / 1000 * (WIDTH / SECONDS);
    if (x < 0) continue;
    const y = HEIGHT - Math.min(1, s[key] / top) * HEIGHT;
    d += `${before !== null && s.t - before < 3500 ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    before = s.t;
  }
  return d;
}

function barPath(samples, key, top) {
  const newest = samples.length ? samples[samples.length - 1].t : 0;
  let d = "";
  for (const s of samples) {
    const x = WIDTH - (newest - s.t) / 1000 * (WIDTH / SECONDS);
    if (s[key] > 0 && x >= 0) d += `M${x.toFixed(1)} ${HEIGHT}V${(HEIGHT - s[key] / top * HEIGHT).toFixed(1)}`;
  }
  return d;
}

function plotDraw(plot) {
  const keys = plot.bars ? [plot.bars] : plot.lines.map((line) => line.key);
  const top = Math.max(1, ...state.samples.flatMap((s) => keys.map((key) => s[key])));
  const last = state.samples[state.samples.length - 1];
  keys.forEach((key, i) => plot.paths[i].setAttribute("d",
    plot.bars ? barPath(state.samples, key, top) : linePath(state.samples, key, top)));
  if (!last) return;
  plot.now.replaceChildren(...keys.map((key, i) => element("span", {
    className: plot.lines && plot.lines.length > 1 ? `key-${"ab"[i]}` : "",
    textContent: ` ${plot.lines ? plot.lines[i].name : "now"} ${plot.show(last[key])}`,
  })));
  plot.peak.textContent = `peak ${plot.show(top)}`;
  plot.svg.setAttribute("aria-label", `${plot.title}: now ${keys.map((key) => plot.show(last[key])).join(", ")}`);
}

// --- tiles ---

const MOODS = { ready: "good", failed: "bad", dead: "bad", killing: "bad" };

function tile(p) {
  const word = p.on_trial ? "on trial" : p.leaving && p.state === "ready" ? "leaving" : p.state;
  const busy = p.busy || 0;
  const li = element("li", { className: `tile ${word === "ready" ? "good" : MOODS[p.state] || "changing"}` },
    element("div", { className: "tile-head" },
      element("strong", { textContent: `${p.role} ${p.slot}` }),
      element("span", { className: "state", textContent: word })),
    element("dl", {}, ...pairs([
      ["pid", p.pid || "–"], ["age", age(p.age_ms)],
      ["generation", p.generation], ["connections", count(p.connections)],
      ["requests/s", count(p.requests_per_s || 0)], ["busy", `${(busy * 100).toFixed(busy < 0.1 ? 1 : 0)} %`],
      ["lag p99", micros(p.lag_p99_us || 0)], ["memory", bytes(p.memory)],
    ])),
    element("meter", { min: 0, max: 1, value: busy, title: "busy share of its loop" }),
    element("p", { className: "serves", textContent: p.request_line, title: p.request_line }));
  li.dataset.slot = p.slot;
  li.dataset.pid = p.pid;
  li.dataset.state = p.state;
  return li;
}

// --- crashes and events ---

function crash(c) {
  const open = byId("crashes").querySelector(`details[data-number="${Number(c.number)}"]`)?.open || false;
  const facts = `generation ${c.generation}, pid ${c.pid}, age ${age(c.age_ms)}, ${c.requests} requests, ` +
    `CPU ${c.user_ms} ms user ${c.system_ms} ms system, at most ${bytes(c.max_memory)}` +
    (c.core ? ", core dumped" : "") + (c.hung ? ", it hung" : "");
  const d = element("details", { open },
    element("summary", {}, clock(c.time), `${c.role} ${c.slot}${c.farm ? ` of farm:${c.farm}` : ""}: ${c.how}`),
    element("p", { className: "none", textContent: facts }),
    element("p", { className: "serves", textContent: c.request_line }),
    element("pre", { textContent: c.backtrace || "no backtrace" }));
  d.dataset.number = c.number;
  return d;
}

function showCrashes(list) {
  byId("crashes").replaceChildren(...(list.length ? [...list].reverse().map(crash)
    : [element("p", { className: "none", textContent: "none" })]));
}

function showEvents(list) {
  state.events.push(...list);
  state.events = state.events.slice(-EVENTS_SHOWN);
  byId("events").replaceChildren(...[...state.events].reverse().map((e) =>
    element("li", { className: e.level }, clock(e.time),
      `${e.slot === undefined ? "" : `[${e.slot}] `}${e.text}`)));
}

// --- the bus: the patterns with the most messages, and the way to other machines ---

let lastBus = { at: 0, rows: new Map() };

function showBus(records, nats, at) {
  const rows = records.filter((r) => r.type === "bus_subject");
  const seconds = (at - lastBus.at) / 1000;
  const rate = (r, key) => {
    const old = lastBus.rows.get(r.pattern);
    return count(old && seconds > 0 ? Math.max(0, r[key] - old[key]) / seconds : 0);
  };
  byId("bus").hidden = !rows.length && !nats;
  byId("subjects").tBodies[0].replaceChildren(...rows.map((r) => element("tr", {},
    ...[r.pattern, count(r.subscriptions), count(r.messages), rate(r, "messages"), rate(r, "delivered"),
      count(r.dropped), count(r.refused)].map((text) => element("td", { textContent: text })))));
  lastBus = { at, rows: new Map(rows.map((r) => [r.pattern, r])) };
  byId("nats").hidden = !nats;
  if (!nats) return;
  const lost = Object.values(nats.dropped).reduce((sum, n) => sum + n, 0);
  byId("nats").textContent = `NATS: ${nats.connected ? "connected" : "not connected"}, ${count(nats.received)} received, ` +
    `${count(nats.sent)} sent, ${count(lost)} lost, ${nats.reconnects} reconnects`;
}

// --- farms ---

function showFarms(records) {
  const rows = records.filter((r) => r.type === "farm");
  byId("farms").hidden = !rows.length;
  byId("farm-rows").tBodies[0].replaceChildren(...rows.map((r) => element("tr", {},
    ...[r.name, r.busy, r.failed ? `${r.processes} (${r.failed} failed)` : r.processes, count(r.queued), age(r.oldest_ms),
      count(r.done), count(r.failed_tasks), count(r.crashed), count(r.quarantined), count(r.timed_out)]
      .map((text) => element("td", { textContent: text })))));
}

// --- the head ---

function showStatus(s) {
  state.wanted = s.workers_wanted;
  byId("version").textContent = s.version;
  byId("facts").replaceChildren(...pairs([
    ["workers", `${s.workers_ready} of ${s.workers_wanted} ready`],
    ["generation", s.generation], ["phase", s.reloading ? "reloading" : s.upgrading ? "upgrading" : s.phase],
    ["up", age(s.uptime_ms)], ["pid", s.pid], ["connections", count(s.totals.connections)],
    ["requests", count(s.totals.requests)], ["crashes", s.crashes], ["hangs", s.hangs],
  ]));
  const verdict = byId("verdict");
  verdict.hidden = !s.last_reload;
  verdict.textContent = s.last_reload ? `last reload: ${s.last_reload}` : "";
  verdict.className = s.last_reload && s.last_reload.startsWith("failed") ? "failed" : "";
  document.title = `${s.workers_ready}/${s.workers_wanted} tined`;
}

// --- news ---

function onPast(past) {
  const first = past.samples.length ? past.samples[0].t : Infinity;
  // Another process answers after a reload: it does not know what was before.
  state.samples = [...state.samples.filter((s) => s.t < first), ...past.samples].slice(-SECONDS);
  state.events = [];
  byId("actions").hidden = !past.actions;
  PLOTS.forEach(plotDraw);
}

function onNow(now) {
  showStatus(now.status);
  showBus(now.status.bus || [], now.status.nats, now.sample ? now.sample.t : Date.now());
  showFarms(now.status.farms || []);
  if (now.sample) {
    state.samples.push(now.sample);
    state.samples = state.samples.slice(-SECONDS);
    PLOTS.forEach(plotDraw);
  }
}

// Those of the slots from one number to another; the rest stays.
function onProcesses({ from, to, processes }) {
  state.processes = [...state.processes.filter((p) => p.slot < from || p.slot >= to), ...processes];
  state.processes.sort((a, b) => a.slot - b.slot);
  byId("tiles").replaceChildren(...state.processes.map(tile));
}

function setLive(live) {
  byId("connection").textContent = live ? "live" : "not connected; trying again …";
  byId("connection").className = live ? "live" : "";
  document.body.classList.toggle("stale", !live);
}

function connect() {
  const source = new EventSource("stream");
  for (const [name, show] of Object.entries({
    past: onPast, now: onNow, processes: onProcesses,
    events: (e) => showEvents(e.events), crashes: (e) => showCrashes(e.crashes),
  })) source.addEventListener(name, (e) => { setLive(true); show(JSON.parse(e.data)); });
  source.onerror = () => {
    setLive(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}

// --- actions ---

function askToken() {
  const dialog = byId("ask");
  byId("token").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () =>
    resolve(dialog.returnValue === "ok" ? byId("token").value : null), { once: true }));
}

async function act(path) {
  const token = sessionStorage.getItem("token") || await askToken();
  if (!token) return;
  const outcome = byId("outcome");
  outcome.className = "";
  outcome.textContent = "…";
  try {
    const answer = await fetch(path, { method: "POST", headers: { Authorization: `Bearer ${token}` } });
    const text = await answer.text();
    const said = text.startsWith("{") ? JSON.parse(text) : { error: `${answer.status} ${text}` };
    if (answer.status === 401) sessionStorage.removeItem("token");
    else if (answer.ok || answer.status === 409) sessionStorage.setItem("token", token); // it was looked at
    outcome.textContent = said.ok ? said.text || "done" : said.error;
    outcome.className = said.ok ? "" : "failed";
  } catch (e) {
    outcome.textContent = `no verdict: ${e.message}`;
    outcome.className = "failed";
  }
}

const ACTIONS = {
  reload: () => "api/reload",
  restart: () => "api/restart?slot=all",
  more: () => `api/scale?workers=${state.wanted + 1}`,
  fewer: () => `api/scale?workers=${state.wanted - 1}`,
};

byId("actions").addEventListener("click", async (e) => {
  const button = e.target.closest("button");
  if (!button) return;
  button.disabled = true;
  await act(ACTIONS[button.dataset.action]());
  button.disabled = false;
});

byId("cancel").addEventListener("click", () => byId("ask").close(""));

PLOTS.forEach(plotNew);
connect();
