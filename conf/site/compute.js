// The same computation in six places, and what it does to small requests beside it: examples/compute must be mounted at /compute.
"use strict";

const NAMES = { inline: "in line", slices: "in slices", pool: "thread pool", thread: "worker thread", farm: "task farm", child: "child process" };
const RUN_MS = 4000, STEP_MS = 250, SMALL = 4, HEAVY = 1, SHOWN_MS = 30000;
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 800, HEIGHT = 260, LEFT = 56, BOTTOM = 24, MIN_MS = 0.25, MAX_MS = 2000;

const plot = { points: [], marks: [] }; // {at, ms}; {at, name}
let running = false;

function percentile(sorted, share) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] : NaN;
}

const ascending = (list) => [...list].sort((a, b) => a - b);
const inMs = (ms) => (Number.isNaN(ms) ? "–" : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`);

// --- the plot: time to the right, milliseconds upwards on a logarithmic scale ---

function element(name, attributes, text) {
  const e = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (text) e.textContent = text;
  return e;
}

function yOf(ms) {
  const share = Math.log(Math.min(Math.max(ms, MIN_MS), MAX_MS) / MIN_MS) / Math.log(MAX_MS / MIN_MS);
  return (HEIGHT - BOTTOM) * (1 - share) + 4 * share;
}

function draw() {
  const now = performance.now();
  const xOf = (at) => WIDTH - ((now - at) / SHOWN_MS) * (WIDTH - LEFT);
  const shown = plot.points.filter((p) => now - p.at < SHOWN_MS);
  const svg = byId("plot");

  plot.points = shown;
  plot.marks = plot.marks.filter((m) => now - m.at < SHOWN_MS);
  svg.replaceChildren();
  for (const ms of [1, 10, 100, 1000]) {
    svg.append(element("line", { x1: LEFT, x2: WIDTH, y1: yOf(ms), y2: yOf(ms), class: "grid" }));
    svg.append(element("text", { x: LEFT - 8, y: yOf(ms) + 5, class: "label", "text-anchor": "end" }, ms < 1000 ? `${ms} ms` : "1 s"));
  }
  for (const mark of plot.marks) {
    svg.append(element("line", { x1: xOf(mark.at), x2: xOf(mark.at), y1: 0, y2: HEIGHT - BOTTOM, class: "mark" }));
    svg.append(element("text", { x: xOf(mark.at) + 4, y: HEIGHT - 6, class: "label" }, mark.name));
  }
  const path = shown.map((p, i) => `${i ? "L" : "M"}${xOf(p.at).toFixed(1)} ${yOf(p.ms).toFixed(1)}`).join("");
  svg.append(element("path", { d: path, class: "curve" }));
}

// --- loads ---

// The small ones, one after the other, until `end`; each time into `times`.
async function askSmall(end, times) {
  while (performance.now() < end) {
    const begun = performance.now();
    const response = await fetch("compute/tiny", { cache: "no-store" });
    await response.text();
    if (!response.ok) throw new Error(`status ${response.status}`);
    times.push(performance.now() - begun);
  }
}

async function compute(way, end) {
  let n = 0;
  while (performance.now() < end) {
    const response = await fetch(`compute/run?how=${way}`, { cache: "no-store" });
    const text = await response.text();
    if (!response.ok) throw new Error(text.trim() || `status ${response.status}`);
    n++;
  }
  return n;
}

// Both at a time; a point of the plot for each step.
async function measure(way) {
  const begun = performance.now(), end = begun + RUN_MS, all = [];
  let times = [];
  const timer = setInterval(() => {
    const sorted = ascending(times);
    all.push(...sorted);
    times = [];
    plot.points.push({ at: performance.now(), ms: sorted.length ? percentile(sorted, 0.99) : STEP_MS });
    draw();
  }, STEP_MS);
  const into = { push: (ms) => times.push(ms) };

  plot.marks.push({ at: begun, name: NAMES[way] });
  try {
    const small = Array.from({ length: SMALL }, () => askSmall(end, into));
    const heavy = Array.from({ length: HEAVY }, () => compute(way, end));
    const [counts] = await Promise.all([Promise.all(heavy), Promise.all(small)]);
    const seconds = (performance.now() - begun) / 1000, sorted = ascending([...all, ...times]);
    return { done: counts.reduce((a, b) => a + b, 0) / seconds, small: sorted.length / seconds, sorted };
  } finally {
    clearInterval(timer);
  }
}

// --- the page ---

function show(way, result) {
  const id = `result-${way}`;
  const row = byId(id) ?? byId("results").appendChild(document.createElement("tr"));
  const cells = [NAMES[way], result.done.toFixed(1), result.small.toFixed(0), inMs(percentile(result.sorted, 0.5)),
    inMs(percentile(result.sorted, 0.99)), inMs(result.sorted.at(-1) ?? NaN)];
  row.id = id;
  row.replaceChildren(...cells.map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  }));
}

async function run(ways) {
  if (running) return;
  running = true;
  try {
    for (const way of ways) {
      byId("state").textContent = `Computing: ${NAMES[way]}…`;
      show(way, await measure(way));
    }
    byId("state").textContent = "Done.";
  } catch (error) {
    byId("state").textContent = `No answer: ${error.message}.`;
  }
  running = false;
}

function button(text, ways) {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  b.dataset.ways = ways.join(" ");
  b.addEventListener("click", () => run(ways));
  return b;
}

async function begin() {
  try {
    const response = await fetch("compute/ways", { cache: "no-store" });
    if (!response.ok) throw new Error(response.status === 404 ? "examples/compute must be mounted at /compute" : `status ${response.status}`);
    const ways = (await response.json()).filter((way) => way in NAMES);
    byId("ways").append(...ways.map((way) => button(NAMES[way], [way])), button("all of them", ways));
  } catch (error) {
    byId("state").textContent = `No answer: ${error.message}.`;
  }
  draw();
}

begin();
