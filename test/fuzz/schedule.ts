/**
 * Random schedules over the fake engine, or one of them again: `npm run fuzz:schedule -- [COUNT] [FIRST SEED]`.
 * Default: 100,000 from seed 1.
 */

import { runSchedules } from "../helpers/schedules.js";

// A schedule that fails is named by its seed; stacks are most of what an error costs.
Error.stackTraceLimit = 0;
const [count = "100000", first = "1"] = process.argv.slice(2);
const started = performance.now();
const tally = await runSchedules(Number(first), Number(count), (done) => {
  if (done % 2000 === 0) console.log(`${done} schedules, ${((performance.now() - started) / 1000).toFixed(0)} s`);
});
console.log(`${count} schedules, ${tally.requests} requests, ${tally.steps} steps in ${((performance.now() - started) / 1000).toFixed(0)} s`);
for (const [outcome, times] of [...tally.outcomes].sort()) console.log(`  ${outcome} ${times}`);
