/**
 * A process or a worker ends at every stage of an engine's life, in every way, and each time with the right exit code and in
 * time. The children run the compiled package.
 *   npm run test:exits -- [--terminations 400]
 */

import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const entry = pathToFileURL(path.join(root, "dist", "lib", "index.js")).href;
const checkpoint = path.join(root, "test", "golden", "mha", "checkpoint");
const release = path.join(root, "build", "Release");
/** What ends later than this hangs, on a busy machine too; a worker takes a tenth of a second on an idle one. */
const limitMs = 120_000;
const workerLimitMs = 3_000;

/** What a child or a worker begins with. `wait` lets the engine's own thread get anywhere. */
const setUp = `
  const { load } = await import(${JSON.stringify(entry)});
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const quiet = (promise) => promise.then(() => {}, () => {});
  const open = () => load(${JSON.stringify(checkpoint)}, { threads: 2 });
  const text = "Tell me of it at length";
  let engine, running;
`;

/** How each stage is reached. */
export const stages = {
  loading: `quiet(open()); await wait(Math.random() * 20);`,
  idle: `engine = await open();`,
  "in a step": `engine = await open(); running = quiet(engine.generate(text, { maxTokens: 300 })); await wait(Math.random() * 20);`,
  streaming: `engine = await open(); running = engine.generate(text, { maxTokens: 300 }); await running[Symbol.asyncIterator]().next();`,
  disposing: `engine = await open(); running = quiet(engine.generate(text, { maxTokens: 300 })); await wait(5); quiet(engine.dispose());`,
};

/** How it ends there, and what its parent sees. */
export const ends = {
  "by itself": { code: "", expected: 0 },
  "process.exit": { code: "process.exit(7);", expected: 7 },
  "an uncaught exception": { code: "setImmediate(() => { throw new Error('on purpose'); }); await wait(10_000);", expected: 1 },
  SIGTERM: { code: "process.kill(process.pid, 'SIGTERM'); await wait(10_000);", expected: "SIGTERM" },
  "garbage collection": { code: "engine = running = undefined; for (let i = 0; i < 5; i++) { await wait(2); gc(); }", expected: 0 },
};

export interface End {
  /** The exit code, or the signal that ended it. */
  how: number | NodeJS.Signals | "hung";
  output: string;
}

/** Runs a module given as text in a Node of its own; it hangs if it has not ended after `limit` milliseconds. */
export function runChild(text: string, limit = limitMs): Promise<End> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--expose-gc", "--input-type=module", "--eval", text], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (piece: string) => (output += piece));
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      child.kill("SIGKILL");
    }, limit);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ how: hung ? "hung" : (signal ?? code ?? "hung"), output });
    });
  });
}

export const endAt = (stage: keyof typeof stages, end: keyof typeof ends): Promise<End> => runChild(`${setUp}${stages[stage]}${ends[end].code}`);

/** The child's own engine answers before and after; a line it prints says what happened. */
const witness = (body: string): string => `${setUp}
  const { Worker } = await import("node:worker_threads");
  const own = await open();
  const answer = async () => String((await own.generate(text, { maxTokens: 6 })).tokens);
  const expected = await answer();
  const stages = ${JSON.stringify(Object.values(stages))};
  const begin = async (stage) => {
    const worker = new Worker(\`(async () => { ${"${"}${JSON.stringify(setUp)}}; ${"${"}stage} (await import("node:worker_threads")).parentPort.postMessage("there"); await wait(60_000); })()\`, { eval: true });
    worker.on("error", (error) => { console.error(error); process.exit(3); });
    await new Promise((resolve) => worker.once("message", resolve));
    return worker;
  };
  ${body}
  if (await answer() !== expected) process.exit(4);
  await own.dispose();
`;

/** Workers ended in the middle of every stage, four at a time. */
export const terminations = (count: number): Promise<End> => runChild(witness(`
  let done = 0;
  const rss = () => Math.round(process.memoryUsage().rss / 2 ** 20);
  const before = rss();
  let halfway;
  while (done < ${count}) {
    if (done >= ${count} / 2) halfway ??= rss();
    const workers = await Promise.all(Array.from({ length: Math.min(4, ${count} - done) }, (_, i) => begin(stages[(done + i) % stages.length])));
    await wait(Math.random() * 10);
    done += (await Promise.all(workers.map((worker) => worker.terminate()))).length;
  }
  console.log(\`NOTE: \${done} workers terminated in a row, resident \${before} -> \${halfway} (halfway) -> \${rss()} MB\`);
`), limitMs + count * workerLimitMs);

/** Eight workers answer at once, each with an engine of its own, and end by themselves. */
export const manyWorkers = (): Promise<End> => runChild(witness(`
  const text8 = \`(async () => { ${"${"}${JSON.stringify(setUp)}}; engine = await open(); const { tokens } = await engine.generate(text, { maxTokens: 6 });
    (await import("node:worker_threads")).parentPort.postMessage(String(tokens)); })()\`;
  await Promise.all(Array.from({ length: 8 }, () => new Promise((resolve, reject) => {
    const worker = new Worker(text8, { eval: true });
    let got;
    worker.on("message", (message) => (got = message));
    worker.on("error", reject);
    worker.on("exit", (code) => (code === 0 && got === expected ? resolve() : reject(new Error(code + " " + got))));
  })));
`));

/** A second copy of the addon from another folder, both at work at once. */
export const twoCopies = (): Promise<End> => runChild(`
  import { cpSync, mkdtempSync, rmSync } from "node:fs";
  import { createRequire } from "node:module";
  import { tmpdir } from "node:os";
  ${setUp}
  const folder = mkdtempSync(tmpdir() + "/himap-copy-");
  cpSync(${JSON.stringify(release)}, folder, { recursive: true });
  const require = createRequire(import.meta.url);
  const copies = [${JSON.stringify(release)}, folder].map((from) => require(from + "/himap.node"));
  if (copies[0] === copies[1] || copies[1].backends()[0].path === copies[0].backends()[0].path) process.exit(5);
  const job = { pixels: new Uint8Array(900 * 700 * 3).fill(9), width: 900, height: 700, channels: 3, geometry: "pad", side: 56, mean: [0, 0, 0], std: [1, 1, 1] };
  const { openCheckpoint } = await import(${JSON.stringify(new URL("checkpoint/index.js", entry).href)});
  const { manifest } = await openCheckpoint(${JSON.stringify(checkpoint)});
  const step = { images: [], sequences: [{ phase: "prefill", ids: Int32Array.of(1, 5, 9), positions: Int32Array.of(0, 1, 2), spans: new Int32Array(0), cuts: [],
    stages: [{ cached: 0, blocks: 1, pages: Int32Array.from({ length: 5 }, (_, i) => i) }], stop: new Int32Array(0), burst: 1,
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 } }] };
  const answers = await Promise.all(copies.map(async (native) => {
    const one = await native.open(manifest, { backend: "cpu", threads: 2, weights: "map", kvType: "f32", kvPages: 64 });
    const pixels = native.preprocess(job);
    const { sequences } = await one.step(step);
    await one.close();
    return [...sequences[0].candidates[0].ids, ...(await pixels).bytes].join();
  }));
  if (answers[0] !== answers[1]) process.exit(6);
  rmSync(folder, { recursive: true });
`);

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { terminations: { type: "string", default: "400" } } });
  let failed = 0;
  const report = (name: string, { how, output }: End, expected: number | string): void => {
    const right = how === expected;
    if (!right) failed += 1;
    console.log(`${right ? "ok  " : "FAIL"} ${name}: ${how}${right ? "" : `, expected ${expected}\n${output}`}`);
    for (const note of output.match(/^NOTE: .*$/gm) ?? []) console.log(`     ${note}`);
  };
  for (const stage of Object.keys(stages) as (keyof typeof stages)[]) {
    for (const end of Object.keys(ends) as (keyof typeof ends)[]) report(`${stage}, ends ${end}`, await endAt(stage, end), ends[end].expected);
  }
  report("two copies of the addon", await twoCopies(), 0);
  report("eight workers at once", await manyWorkers(), 0);
  report(`${values.terminations} terminations`, await terminations(Number(values.terminations)), 0);
  process.exitCode = failed === 0 ? 0 : 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
