// What spawn.py asks of Node's child_process.spawn: PROGRAM again and again, FLIGHT at a time, each one after the 'close' of another.
// usage: node spawn_node.js PROGRAM SECONDS FLIGHT pipe|ignore MIB     prints "CHILDREN SECONDS"
'use strict';
const { spawn } = require('child_process');
const [program, stdio] = [process.argv[2], process.argv[5]];
const [seconds, flight, mib] = [3, 4, 6].map((i) => Number(process.argv[i]));
const memory = mib ? Buffer.alloc(mib * 1048576, 1) : null;
const now = () => Number(process.hrtime.bigint()) / 1e9;
const begun = now();
let done = 0, running = 0;

function one() {
  running++;
  const child = spawn(program, [], { stdio });
  child.on('error', (e) => { throw e; });
  child.on('close', (code) => {
    if (code !== 0) throw new Error(`status ${code}`);
    done++;
    running--;
    if (now() < begun + seconds) one();
    else if (running === 0) console.log(`${done} ${now() - begun} ${memory ? memory[0] : ''}`);
  });
}

for (let i = 0; i < flight; i++) one();
