/**
 * A batch job that is killed again and again: nothing may be lost, nothing there twice, every record as in an unbroken run.
 *
 *   npm run test:kill [-- --kills 1000] [-- --items 3000]     two jobs at once, half of the kills each
 *
 * The first looks into crashes, as jobs do by default, so that the journal's suspects are killed too; it gives none of them
 * up, for every one is innocent. The second has --max-crashes off.
 *
 * Half of the kills come at a random moment of the start, the loading or the run; the other half at a write or rename of
 * the files, with part of the line on disk. A fifth of the starts also take up the failures again, which rewrites the file.
 */

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { loadSharp } from "../../lib/image/sharp.js";
import { Random } from "../helpers/random.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = path.join(root, "dist", "lib", "cli", "main.js");
const preload = new URL("kill-preload.mjs", import.meta.url).href;
const model = path.join(root, "models", "pico-llava");
const evaluation = path.join(root, "bench", "pico-eval");

export interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

/** Runs `himap batch` on the shipped model; `kill` is the moment for SIGKILL in milliseconds. */
export function runBatch(args: readonly string[], env: Record<string, string> = {}, kill?: number): Promise<End> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--import", preload, program, "batch", model, "--max-tokens", "24", "--threads", "1", ...args], {
      cwd: root, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1", ...env },
    });
    const timer = kill === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), kill);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, output });
    });
  });
}

/** Questions of pico-eval about their scenes, some unpruned and some pruned, and now and then an item that must fail. */
export async function writeJob(folder: string, items: number): Promise<string> {
  const sharp = await loadSharp();
  const side = 168;
  const questions = readFileSync(path.join(evaluation, "questions.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line) as { scene: number; question: string });
  const lines: string[] = [];
  const scenes = new Set<number>();
  for (let i = 0; i < items; i++) {
    const { scene, question } = questions[(i * 7) % questions.length]!;
    if (i % 97 === 50) {
      lines.push(i % 2 === 0 ? "no JSON" : JSON.stringify({ id: `q${i}`, prompt: question, image: "missing.png" }));
      continue;
    }
    scenes.add(scene);
    lines.push(JSON.stringify({ id: `q${i}`, prompt: question, image: `${scene}.png`, ...(i % 3 === 0 && { options: { pruning: "himap" } }) }));
  }
  mkdirSync(folder, { recursive: true });
  for (const scene of scenes) {
    const tile = { left: side * (scene % 20), top: side * Math.floor(scene / 20), width: side, height: side };
    await sharp(path.join(evaluation, "scenes.png")).extract(tile).png().toFile(path.join(folder, `${scene}.png`));
  }
  const file = path.join(folder, "jobs.jsonl");
  writeFileSync(file, `${lines.join("\n")}\n`);
  return file;
}

/** The records of a results file by id, each as it stands there. */
export function recordsOf(file: string): Map<string, string> {
  const text = readFileSync(file, "utf8");
  if (!text.endsWith("\n")) throw new Error(`${file}: the last line is torn`);
  const records = new Map<string, string>();
  for (const line of text.trimEnd().split("\n").slice(1)) {
    const id = String((JSON.parse(line) as { id: string }).id);
    if (records.has(id)) throw new Error(`${file}: ${id} is there twice`);
    records.set(id, line);
  }
  return records;
}

export interface Tally {
  kills: number;
  /** Kills that left half a line behind, or nothing at all. */
  torn: number;
  empty: number;
  starts: number;
  /** Records when the last kill had been. */
  recorded: number;
}

/** More crashes than there are kills, or none looked into. */
const crashModes = ["999999999", "off"] as const;

/** Starts a job of so many items and kills it, `kills` times, and then lets it finish. */
export async function killed(
  input: string, output: string, items: number, kills: number, seed: number, maxCrashes: string, report: (text: string) => void,
): Promise<Tally> {
  const random = new Random(seed);
  const job = ["--input", input, "--output", output, "--max-crashes", maxCrashes];
  const tally: Tally = { kills: 0, torn: 0, empty: 0, starts: 0, recorded: 0 };
  /** Milliseconds in which a start gets to its first records; learned, for machines differ. */
  let startMs = 800;
  while (tally.kills < kills) {
    const args = [...job, ...(random.below(5) === 0 ? ["--retry-failed"] : [])];
    const atWrite = random.below(2) === 0;
    const began = performance.now();
    // Killed early where the job is ahead of its kills, so that there is something left to lose until the last of them.
    const ahead = tally.recorded / items > (0.95 * (tally.kills + 1)) / kills;
    const { code, signal, output: said } = atWrite
      ? await runBatch(args, { KILL_AT: String(1 + random.below(ahead ? 3 : 20)) })
      : await runBatch(args, {}, random.below(Math.round(startMs * (ahead ? 0.8 : 1.5))));
    tally.starts += 1;
    if (signal === "SIGKILL") {
      tally.kills += 1;
      if (tally.kills % 100 === 0) report(`job ${seed}: ${tally.kills} kills, ${tally.recorded} records`);
    } else if (code !== 1) throw new Error(`expected a kill, or the exit code 1 of a job with failures, but received ${code ?? signal}: ${said}`);
    if (atWrite) startMs = 0.8 * startMs + 0.2 * (performance.now() - began);
    const left = existsSync(output) ? readFileSync(output) : Buffer.alloc(0);
    if (left.length === 0) tally.empty += 1;
    else if (left.at(-1) !== 10) tally.torn += 1;
    tally.recorded = Math.max(0, left.toString("latin1").split("\n").length - 2);
    if (tally.starts > 3 * kills + 10) throw new Error("the job was done long before its kills were");
  }
  const { code, output: said } = await runBatch(job);
  if (code !== 1) throw new Error(`expected exit code 1 of a job with failures but received ${code}: ${said}`);
  if (existsSync(`${output}.journal`) || existsSync(`${output}.new`)) throw new Error("something is left beside the results");
  return tally;
}

/** Compares by id; returns what differs. */
export function differences(reference: Map<string, string>, records: Map<string, string>): string[] {
  const lost = [...reference.keys()].filter((id) => !records.has(id)).map((id) => `${id} is lost`);
  const strange = [...records.keys()].filter((id) => !reference.has(id)).map((id) => `${id} is none of the job's`);
  const other = [...reference].filter(([id, line]) => records.has(id) && records.get(id) !== line).map(([id, line]) => `${id}: ${records.get(id)} instead of ${line}`);
  return [...lost, ...strange, ...other];
}

/** Runs one job unbroken and `jobs` killed ones, at once. */
export async function compare(items: number, kills: number, jobs: number, report: (text: string) => void): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), "himap-kill-"));
  try {
    const input = await writeJob(folder, items);
    const unbroken = path.join(folder, "unbroken.jsonl");
    const { code, output } = await runBatch(["--input", input, "--output", unbroken]);
    if (code !== 1) throw new Error(`expected exit code 1 of a job with failures but received ${code}: ${output}`);
    const reference = recordsOf(unbroken);
    if (reference.size !== items) throw new Error(`expected ${items} records but received ${reference.size}`);
    const outputs = Array.from({ length: jobs }, (_, i) => path.join(folder, `killed-${i}.jsonl`));
    const started = performance.now();
    const tallies = await Promise.all(outputs.map((file, i) => killed(input, file, items, Math.ceil(kills / jobs), i + 1, crashModes[i % 2]!, report)));
    for (const [i, file] of outputs.entries()) {
      const { kills: count, torn, empty, starts, recorded } = tallies[i]!;
      const found = differences(reference, recordsOf(file));
      report(`--max-crashes ${crashModes[i % 2]}: ${items} items, ${count} kills in ${starts} starts (${empty} left no file or an empty one, ${torn} a torn line; ${recorded} records at the last kill)`);
      if (found.length > 0) throw new Error(`${found.length} differences: ${found.slice(0, 5).join("; ")}`);
      report("0 lost, 0 twice, equal by id to an unbroken run");
    }
    report(`${Math.round((performance.now() - started) / 1000)} s`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { kills, items } = parseArgs({ options: { kills: { type: "string", default: "1000" }, items: { type: "string", default: "3000" } } }).values;
  await compare(Number(items), Number(kills), 2, (text) => console.log(text));
}
