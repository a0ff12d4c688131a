// What scripts/bench relay asks of Node's cluster: a worker sends to another through the primary, as its documentation shows it.
// usage: node relay_node.js rate SECONDS SIZE | trip N SIZE     prints "MESSAGES SECONDS" or "P50 P99" (microseconds)
'use strict';
const cluster = require('cluster');
const [what, amount, size] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

function primary() {
  const a = cluster.fork({ PART: 'sender' }), b = cluster.fork({ PART: 'receiver' });
  a.on('message', (m) => { if (m.print) { console.log(m.print); process.exit(0); } else b.send(m); });
  b.on('message', (m) => { if (m.ready) a.send({ go: true }); else a.send(m); });
}

const now = () => Number(process.hrtime.bigint()) / 1e9;
const payload = 'x'.repeat(size);

function rate() {
  const begun = now(), end = begun + amount;
  let sent = 0;
  process.on('message', (m) => process.send({ print: `${m.count} ${now() - begun}` }));
  // A hundred at a time, each lot after the one before has been written.
  const lot = () => {
    if (now() >= end) return process.send({ n: -1 });
    for (let i = 0; i < 99; i++) process.send({ n: sent++, payload });
    process.send({ n: sent++, payload }, lot);
  };
  lot();
}

function trip() {
  const times = [];
  let asked = now();
  process.on('message', () => {
    times.push((now() - asked) * 1e6);
    if (times.length < amount) { asked = now(); process.send({ n: 0, payload }); return; }
    times.sort((x, y) => x - y);
    process.send({ print: `${times[amount >> 1]} ${times[Math.floor(amount * 0.99)]}` });
  });
  process.send({ n: 0, payload });
}

function receiver() {
  let count = 0;
  process.on('message', (m) => {
    if (m.n < 0) process.send({ count });
    else if (what === 'trip') process.send(m);
    else count++;
  });
  process.send({ ready: true });
}

if (cluster.isPrimary) primary();
else if (process.env.PART === 'receiver') receiver();
else process.once('message', () => (what === 'rate' ? rate() : trip()));
