// The same with Node's worker_threads: 64 bytes there and back, one at a time, and one way. usage: trip N | up SECONDS | down SECONDS
"use strict";
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");

const SIZE = 64;
const BURST = 1000; // messages between two turns of the loop

function pour(port, seconds) {
    const end = performance.now() + 1000 * seconds;
    let n = 0;
    (function more() {
        for (let i = 0; i < BURST; i++, n++) port.postMessage(Buffer.alloc(SIZE));
        if (performance.now() < end) setImmediate(more);
        else port.postMessage(null);
    })();
}

function count(port, done) {
    let n = 0;
    port.on("message", (message) => (message === null ? done(n) : n++));
}

if (!isMainThread) {
    const { what, amount } = workerData;
    if (what === "trip") parentPort.on("message", (message) => parentPort.postMessage(message));
    else if (what === "up") pour(parentPort, amount);
    else count(parentPort, (n) => parentPort.postMessage(n));
} else {
    const what = process.argv[2], amount = Number(process.argv[3]);
    const worker = new Worker(__filename, { workerData: { what, amount } });
    worker.on("online", () => {
        const begun = performance.now();
        const say = (n) => {
            console.log(`${n} ${(performance.now() - begun) / 1000}`);
            process.exit();
        };
        if (what === "trip") {
            const times = [];
            let asked = performance.now();
            const data = Buffer.alloc(SIZE);
            worker.on("message", () => {
                times.push((performance.now() - asked) * 1000);
                if (times.length === amount) {
                    times.sort((a, b) => a - b);
                    console.log(`${times[amount >> 1]} ${times[Math.floor(amount * 0.99)]}`);
                    process.exit();
                }
                asked = performance.now();
                worker.postMessage(data);
            });
            worker.postMessage(data);
        } else if (what === "up") {
            count(worker, say);
        } else {
            worker.on("message", say);
            pour(worker, amount);
        }
    });
}
