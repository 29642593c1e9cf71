// The worker of bunqueue, and the two tasks of record.py in JavaScript: bun bunqueue_worker.mjs CLIENT HOST PORT WORKERS.

import { openSync, writeSync } from "node:fs";
import { dlopen, ptr } from "bun:ffi";

const [client, host, port, workers] = process.argv.slice(2);
const { Worker } = await import(client);

const notes = openSync(process.env.BENCH_QUEUES_FILE, "a");
const napMs = 1000 * Number(process.env.BENCH_QUEUES_NAP_S ?? "0.01");

// The clocks of Bun begin with its process. Notes are by that of the machine.
const MONOTONIC = 1;
const { symbols } = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } });
const time = new BigInt64Array(2);
const now = () => {
  symbols.clock_gettime(MONOTONIC, ptr(time));
  return Number(time[0]) + Number(time[1]) / 1e9;
};

// A job of 10 ms waits, as those in Python do, and does not block the others.
const run = async (job) => {
  if (job.name === "nap") await Bun.sleep(napMs);
  writeSync(notes, new Float64Array([job.data.sent, now()]));
};

// As its documentation has it for many jobs: up to 100 come at once, and a look waits for the next.
new Worker("bench", run, {
  connection: { host, port: Number(port) },
  concurrency: Number(workers),
  batchSize: 100,
  pollTimeout: 5000,
});
