// What scripts/bench farm asks of Node's farms: empty tasks in two processes (worker-farm) or threads (piscina), so many in flight.
// usage: node farm_node.js worker-farm|piscina SECONDS IN_FLIGHT [AT_ONCE]     prints "TASKS SECONDS"
// AT_ONCE: how many tasks a process of worker-farm is given at a time; by itself 10.
'use strict';
const path = require('path');
const [which, seconds, inFlight] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const atOnce = process.argv[5] ? { maxConcurrentCallsPerWorker: Number(process.argv[5]) } : {};
const TASKS = path.join(__dirname, 'farm_node_tasks.js');
const now = () => Number(process.hrtime.bigint()) / 1e9;

const farms = {
  'worker-farm': () => {
    const farm = require('worker-farm');
    const workers = farm({ maxConcurrentWorkers: 2, ...atOnce }, TASKS, ['callback']);
    return [(n, done) => workers.callback(n, done), () => farm.end(workers)];
  },
  piscina: () => {
    const { Piscina } = require('piscina');
    const pool = new Piscina({ filename: TASKS, minThreads: 2, maxThreads: 2 });
    return [(n, done) => pool.run(n, { name: 'direct' }).then((m) => done(null, m), done), () => pool.destroy()];
  },
};

const [submit, end] = farms[which]();

// For so long; then says how many.
function load(time, done) {
  const begun = now();
  let [submitted, ended] = [0, 0];
  const next = () => {
    const n = submitted++;
    submit(n, (error, m) => {
      if (error || m !== n) throw error || new Error(`task ${n} answered ${m}`);
      ended++;
      if (now() - begun < time) next();
      else if (ended === submitted) done(ended, now() - begun);
    });
  };
  for (let i = 0; i < inFlight; i++) next();
}

load(0.5, () => load(seconds, (n, took) => { // the first one is for the compiler
  console.log(`${n} ${took}`);
  end();
}));
