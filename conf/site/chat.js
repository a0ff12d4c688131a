// A chat on builtin:hub: reads server-sent events, publishes with POST. The room is what follows # in the address.
"use strict";

const SHOWN = 500;
const room = /^#([a-z0-9_-]{1,32})$/i.exec(location.hash)?.[1] ?? "lobby";
const subject = `hub/chat/${room}`;
const byId = (id) => document.getElementById(id);
const list = byId("messages");

function add(element) {
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 40;
  list.append(element);
  while (list.children.length > SHOWN) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function show({ id, time, data }) {
  const item = document.createElement("li");
  const who = document.createElement("b");
  const when = document.createElement("time");
  const what = document.createElement("span");
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    message = null;
  }
  if (typeof message?.text !== "string") message = { name: "?", text: data };
  item.id = id;
  who.textContent = String(message.name).slice(0, 32);
  when.textContent = new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  what.textContent = message.text;
  item.append(who, when, what);
  add(item);
}

function showGap() {
  const item = document.createElement("li");
  item.className = "gap";
  item.textContent = "Older messages are gone.";
  add(item);
}

async function showPresence() {
  const response = await fetch(subject, { cache: "no-store" });
  if (!response.ok) throw new Error(response.status === 404 ? "builtin:hub must be mounted at /hub" : `status ${response.status}`);
  const { subscribers } = await response.json();
  byId("here").textContent = subscribers === 1 ? "You are alone here." : `${subscribers} are here.`;
}

function connect() {
  const source = new EventSource(`${subject}?format=json&last_event_id=0`);
  source.onopen = () => {
    byId("state").textContent = `Connected to ${room}.`;
    showPresence().catch(() => {});
  };
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.addEventListener("gap", showGap);
  source.onerror = () => {
    byId("state").textContent = "Connecting again…";
    if (source.readyState !== EventSource.CLOSED) return;
    showPresence().catch((error) => (byId("state").textContent = `No answer: ${error.message}.`));
    setTimeout(connect, 5000);
    list.replaceChildren(); // it begins with all there is
  };
}

async function send(event) {
  event.preventDefault();
  const name = byId("name").value.trim(), text = byId("text").value.trim();
  if (!name || !text) return;
  byId("error").textContent = "";
  try {
    const response = await fetch(subject, { method: "POST", body: JSON.stringify({ name, text }) });
    if (!response.ok) throw new Error(await response.text());
    byId("text").value = "";
    localStorage.setItem("name", name);
  } catch (error) {
    byId("error").textContent = `Not sent: ${error.message}`;
  }
}

byId("name").value = localStorage.getItem("name") ?? "";
byId("form").addEventListener("submit", send);
addEventListener("hashchange", () => location.reload());
setInterval(() => showPresence().catch(() => {}), 10000);
connect();
