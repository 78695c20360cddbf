// The CUDA bench where there is no card: the same program on the host's SIMT machine, at a tiny shape, with a twin of cuBLASLt
// and a rival that was written down. Every line runs; no time is looked at.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";

interface Row {
  [key: string]: string | number | boolean | null;
}
interface Results {
  card: string;
  short: boolean;
  [table: string]: unknown;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const programs = path.join(root, "build", "native-tests");

/** Runs the bench in a folder of its own; `rival`: the lines that another program would print. */
function bench(options: { args?: string[]; rival?: string; twin?: boolean }): {
  status: number | null;
  stdout: string;
  stderr: string;
  results?: Results;
} {
  const folder = mkdtempSync(path.join(tmpdir(), "himap-bench-"));
  try {
    const json = path.join(folder, "results.json");
    const rival = path.join(folder, "rival.txt");
    writeFileSync(rival, options.rival ?? "");
    const args = ["--tiny", "--backend", "shim", "--library", programs, "--json", json];
    if (options.rival !== undefined) args.push("--rival", `cat '${rival}'; exit 124`);
    const { status, stdout, stderr } = spawnSync(path.join(programs, "bench_cuda_on_host"), [...args, ...(options.args ?? [])], {
      encoding: "utf8",
      env: { ...process.env, HIMAP_CUBLASLT: options.twin ? path.join(programs, "cublaslt_twin.so") : path.join(folder, "none.so") },
    });
    let results: Results | undefined;
    if (status === 0) results = JSON.parse(readFileSync(json, "utf8")) as Results;
    return { status, stdout, stderr, ...(results ? { results } : {}) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const rowsOf = (results: Results, table: string): Row[] => (results[table] as { rows: Row[] }).rows;
const notesOf = (results: Results, table: string): string[] => (results[table] as { notes: string[] }).notes;

test("every section, with both rivals", () => {
  const rival = [
    "note\twritten down",
    "result\tfirst_token\t1\t12\tSDPA\t20.5",
    "result\tfirst_token\t1\t12\tcompiled\t19",
    'failed\tdecode\t1\t12\tcompiled\twhy "not"',
    "noise\n",
  ].join("\n");
  const { status, stdout, stderr, results } = bench({ rival, twin: true });
  assert.is(status, 0, stderr);
  assert.ok(results);
  assert.is(results.card, "host SIMT machine");
  assert.is(results.short, true);
  assert.is(rowsOf(results, "ceilings").length, 4);

  const prompts = rowsOf(results, "prompts");
  assert.equal(prompts.map((row) => [row["prompts"], row["pruning"]]), [[1, "dense"], [1, "himap"], [2, "dense"], [2, "himap"]]);
  for (const row of prompts) {
    assert.ok(Number(row["floorMs"]) > 0 && Number(row["totalMs"]) > 0, JSON.stringify(row));
    assert.is(row["sameBits"], "yes");
    assert.match(String(row["logits"]), /^[0-9a-f]{16}$/);
  }
  assert.is(new Set(prompts.map((row) => row["logits"])).size, 4);
  assert.is(rowsOf(results, "decode").length, 4);
  const graphs = rowsOf(results, "graphs");
  assert.equal(graphs.map((row) => [row["what"], row["refused"]]), [["decode steps", 0], ["vision tower", 0]]);
  for (const row of graphs) assert.ok(Number(row["recorded"]) > 0 && Number(row["replayed"]) > 0, `ran from graphs: ${JSON.stringify(row)}`);
  assert.equal(rowsOf(results, "throughput").map((row) => row["sequences"]), [1, 3]);

  const products = rowsOf(results, "products");
  assert.is(products.length, 22);
  assert.equal(products.filter((row) => row["matrix"] === "tiny tower fc1").map((row) => [row["rows"], row["phase"]]), [[17, "prefill"], [34, "prefill"]]);
  for (const row of products) {
    assert.ok(Number(row["cublasLt"]) > 0, JSON.stringify(row));
    assert.ok(Number(row["difference"]) < 0.02, JSON.stringify(row));
  }
  assert.ok(rowsOf(results, "attentionPrefill").some((row) => row["rows"] === "whole, scores"));
  assert.is(rowsOf(results, "attentionDecode").length, 6);
  const operations = rowsOf(results, "rows").map((row) => row["operation"]);
  assert.is(operations.length, 16);
  assert.is(operations.filter((name) => name === "embed" || name === "rope_kv").length, 4);

  assert.equal(rowsOf(results, "rival").map((row) => [row["what"], row["mode"], row["rivalMs"]]), [
    ["first token", "SDPA", 20.5], ["first token", "compiled", 19], ["decode step", "compiled", 'failed: why "not"'],
  ]);
  assert.equal(notesOf(results, "rival"), ["written down", "The rival ended with status 124: its time was up."]);
  const ahead = rowsOf(results, "thresholds").find((row) => String(row["what"]).startsWith("first token ahead of transformers"));
  assert.ok(ahead && Math.abs(Number(ahead["value"]) - 19 / Number(prompts[0]!["totalMs"])) < 1e-6, "the fastest of the rival's modes counts");
  assert.match(stdout, /^\| matrix \| rows \|/m);
});

test("a part of it, without rivals", () => {
  const { status, stderr, results } = bench({ args: ["--only", "products,rival"] });
  assert.is(status, 0, stderr);
  assert.ok(results);
  assert.equal(rowsOf(results, "products").map((row) => row["cublasLt"]), Array(22).fill(null));
  assert.not.ok("prompts" in results);
  assert.match(notesOf(results, "ceilings")[0]!, /none\.so/);
  assert.match(notesOf(results, "rival")[0]!, /^Not run/);
});

test("what it cannot do is said", () => {
  assert.match(bench({ args: ["--fast"] }).stderr, /received --fast/);
  assert.match(bench({ args: ["--json"] }).stderr, /expected a value after --json/);
  assert.match(bench({ args: ["--only", "product"] }).stderr, /received product/);
  const ended = bench({ args: ["--backend", "none", "--only", "prompts,rows"] });
  assert.is(ended.status, 1);
  assert.match(ended.stdout, /^engine ended: .*libhimap-none\.so does not exist/m);
  assert.match(ended.stdout, /^### Between the products$/m); // the rest ran
  assert.match(bench({ args: ["--only", "ceilings", "--json", "/nowhere/results.json"] }).stderr, /could not be written/);
});

test.run();
