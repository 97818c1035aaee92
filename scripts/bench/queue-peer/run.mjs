// Queues jobs that do nothing with graphile-worker, and runs them: run.mjs URL JOBS single|batched
//
// "single" is how it works unless told otherwise. "batched" takes and ends jobs in batches, as its
// documentation recommends for throughput. Prints the seconds of both halves as JSON.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const [url, count, mode] = process.argv.slice(2);
const AT_ONCE = 16;
const jobs = Number(count);
const logger = new Logger(() => (level, message) => level === "error" && console.error(message));

const pool = new pg.Pool({ connectionString: url, max: AT_ONCE });
pool.on("error", (error) => console.error(error.message));
pool.on("connect", (client) => client.on("error", (error) => console.error(error.message)));
const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();
// What came before is no job's cost.
console.log("ready");
for await (const _ of process.stdin) break;

let began = performance.now();
let queued = 0;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (queued < jobs) {
      queued += 1;
      await utils.addJob("nothing", {});
    }
  }),
);
const queuedSeconds = (performance.now() - began) / 1000;

began = performance.now();
let left = jobs;
let finish;
const finished = new Promise((resolve) => (finish = resolve));
const batched = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
const runner = await run({
  pgPool: pool,
  logger,
  noHandleSignals: true,
  taskList: {
    nothing: async () => {
      left -= 1;
      if (left === 0) finish();
    },
  },
  preset: { worker: { concurrentJobs: AT_ONCE, ...(mode === "batched" ? batched : {}) } },
});
await finished;
await runner.stop();
const ranSeconds = (performance.now() - began) / 1000;

const rest = await pool.query("select count(*)::int as rest from graphile_worker.jobs");
if (rest.rows[0].rest !== 0) throw new Error(`${rest.rows[0].rest} jobs are left`);
await utils.release();
await pool.end();
console.log(JSON.stringify({ queued_seconds: queuedSeconds, ran_seconds: ranSeconds }));
process.exit(0);
