import { Worker } from "node:worker_threads";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { nativePath } from "../../lib/binding/load.js";
import { runModule } from "../helpers/child.js";
import { openBench, Pages, prefill } from "../helpers/steps.js";

/** A long burst of three prompts, as a worker or a child can be given it. */
const bench = await openBench("mha");
const pages = new Pages();
const prompts = Array.from({ length: 3 }, () => ({ ...prefill(bench, bench.prompt("text"), [], pages, 0, 1000), burst: 900 }));
const job = { path: nativePath(), manifest: bench.checkpoint.manifest, input: { images: [], sequences: prompts } };
const options = { backend: "cpu", threads: 2, weights: "map", kvType: "f32", kvPages: 4096 };

const burst = `
  const engine = await native.open(job.manifest, ${JSON.stringify(options)});
  let told = 0;
  const step = engine.step(job.input, (tokens) => { told += tokens.length; onTold(); });
`;

test("workers terminated in mid-burst, while tokens are on their way, leave the others alone", async () => {
  const text = `const { parentPort, workerData: job } = require("node:worker_threads");
    const native = require(job.path);
    const onTold = () => parentPort.postMessage("told");
    (async () => { ${burst} await step; })().catch(() => {});`;
  const engine = await bench.open();
  const expected = (await engine.step({ ...job.input, sequences: [{ ...prompts[0]!, burst: 20 }] })).sequences[0]!.tokens;
  for (let round = 0; round < 12; round++) {
    const workers = Array.from({ length: 2 }, () => new Worker(text, { eval: true, workerData: job }));
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("message", resolve))));
    const own = engine.step({ ...job.input, sequences: [{ ...prompts[0]!, burst: 20 }] });
    await new Promise((resolve) => setTimeout(resolve, (round * 5) % 30));
    await Promise.all(workers.map((worker) => worker.terminate()));
    assert.equal((await own).sequences[0]!.tokens, expected);
  }
  await engine.close();
});

const child = (end: string): string => {
  const sequences = prompts.map((prompt) => ({
    ...prompt,
    ids: [...prompt.ids],
    positions: [...prompt.positions],
    stages: prompt.stages.map((stage) => ({ ...stage, pages: [...stage.pages] })),
  }));
  return `import { createRequire } from "node:module";
    const native = createRequire(import.meta.url)(${JSON.stringify(job.path)});
    const job = ${JSON.stringify({ manifest: job.manifest, input: { images: [], sequences } })};
    for (const one of job.input.sequences) {
      for (const name of ["ids", "positions"]) one[name] = Int32Array.from(one[name]);
      for (const stage of one.stages) stage.pages = Int32Array.from(stage.pages);
      one.spans = new Int32Array(0); one.stop = new Int32Array(0);
    }
    const onTold = () => { ${end} };
    ${burst}
    await step; console.log(told);`;
};

for (const [name, end, expected] of [
  ["process.exit", "process.exit(7)", 7],
  ["an uncaught error", "setImmediate(() => { throw new Error('on purpose') })", 1],
  ["nothing", "", 0],
] as const) {
  test(`${name} in the middle of a burst ends the process with its own code`, async () => {
    const { code, signal, output } = await runModule(child(end));
    assert.equal([code, signal], [expected, null], output);
    if (expected === 0) assert.is(output, `${3 * 900}\n`);
  });
}

test.run();
