import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { packageVersion } from "../../lib/package.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const model = `${root}test/golden/full576/checkpoint`;
const picture = `${root}test/golden/full576/short.png`;
const folder = mkdtempSync(path.join(os.tmpdir(), "himap-cli-"));
// What is shipped is what is compiled into dist/, which `npm test` makes before it runs anything.
const compiled = `${root}dist/lib/cli/main.js`;
const program = existsSync(compiled) ? [compiled] : ["--import", fileURLToPath(import.meta.resolve("tsx")), `${root}lib/cli/main.ts`];

interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  out: string;
  err: string;
}

interface Options {
  input?: Uint8Array;
  cwd?: string;
  /** Sees standard output as it comes. */
  onOutput?: (child: ReturnType<typeof spawn>, out: string) => void;
  onStart?: (child: ReturnType<typeof spawn>) => void;
}

/** Runs the program, killed after two minutes. */
function himap(args: string[], { input, cwd = folder, onOutput, onStart }: Options = {}): Promise<End> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...program, ...args], {
      cwd, stdio: ["pipe", "pipe", "pipe"], timeout: 120_000, env: { ...process.env, NO_COLOR: "1" },
    });
    const end = { out: "", err: "" };
    child.stdout.setEncoding("utf8").on("data", (piece: string) => {
      end.out += piece;
      onOutput?.(child, end.out);
    });
    child.stderr.setEncoding("utf8").on("data", (piece: string) => (end.err += piece));
    child.stdin.on("error", () => undefined);
    if (input !== undefined) child.stdin.end(input);
    onStart?.(child);
    child.on("close", (code, signal) => resolve({ code, signal, ...end }));
  });
}

test("run --json: one object on standard output and nothing else, a heatmap beside it", async () => {
  const { code, out, err } = await himap(["run", model, picture, "What is this?", "--pruning", "himap", "--max-tokens", "4", "--json", "--heatmap", "kept.png"]);
  assert.is(code, 0, err);
  assert.is(err, "");
  assert.ok(out.endsWith("}\n") && out.indexOf("\n") === out.length - 1);
  const result = JSON.parse(out) as { tokens: number[]; usage: { imageTokensPerStage: number[] }; cuts: { before: number; kept: number[]; scores: number[] }[] };
  assert.ok(Array.isArray(result.tokens));
  assert.equal(result.usage.imageTokensPerStage, [576, 288, 72]);
  assert.equal(result.cuts.map(({ before, kept, scores }) => [before, kept.length, scores.length]), [[2, 288, 576], [8, 72, 288]]);
  assert.is(readFileSync(path.join(folder, "kept.png")).toString("latin1", 1, 4), "PNG");
});

test("run: the answer on standard output, figures on standard error, the same answer as --json", async () => {
  const options = ["--max-tokens", "6", "--seed", "3", "--temperature", "1.5", "--top-p", "0.9"];
  const plain = await himap(["run", model, picture, "What is this?", ...options]);
  assert.is(plain.code, 0, plain.err);
  assert.match(plain.err, /tokens in, image tokens 576 in 10 layers; \d out \((length|stop)\)\nfirst token .*\nvision and prefill .* KV .*\n$/);
  const json = await himap(["run", model, picture, "What is this?", ...options, "--json"]);
  assert.is(plain.out, `${(JSON.parse(json.out) as { text: string }).text}\n`);
});

test("run: a picture from standard input is the same picture", async () => {
  const args = ["What is this?", "--max-tokens", "3", "--json", "--heatmap", "stdin.png"];
  const [file, piped] = [await himap(["run", model, picture, ...args]), await himap(["run", model, "-", ...args], { input: readFileSync(picture) })];
  assert.is(piped.code, 0, piped.err);
  assert.equal((JSON.parse(piped.out) as { tokens: number[] }).tokens, (JSON.parse(file.out) as { tokens: number[] }).tokens);
});

test("run: a picture may be a file: URL", async () => {
  const { code, err } = await himap(["run", model, pathToFileURL(picture).href, "x", "--max-tokens", "1"]);
  assert.is(code, 0, err);
});

test("run: text only, with a system message and a stop text", async () => {
  const { code, out, err } = await himap(["run", model, "none", "Hello", "--system", "Be brief.", "--stop", "zzz", "--max-tokens", "2", "--logprobs", "2", "--json"]);
  assert.is(code, 0, err);
  assert.is((JSON.parse(out) as { logprobs: unknown[] }).logprobs.length, 2);
});

test("failures: one line with the code, exit code 1, nothing on standard output", async () => {
  writeFileSync(path.join(folder, "broken.png"), "not a picture");
  const cases: [args: string[], expected: RegExp][] = [
    [["run", "/no/such/folder", picture, "x"], /^himap: ERR_INVALID_ARG .*\/no\/such\/folder.*ENOENT/],
    [["run", folder, picture, "x"], /^himap: ERR_\w+ .*config\.json/],
    [["run", model, "/no/such/picture.png", "x"], /^himap: ERR_BAD_IMAGE .*image: picture\.png: .*ENOENT/],
    [["run", model, "broken.png", "x"], /^himap: ERR_\w+ .*image/],
    [["run", model, "-", "x"], /^himap: ERR_\w+ .*image/],
    [["inspect", "/no/such/folder"], /^himap: ERR_INVALID_ARG /],
  ];
  for (const [args, expected] of cases) {
    const { code, out, err } = await himap(args, { input: new Uint8Array() });
    const name = args.join(" ");
    assert.is(code, 1, `${name}: ${err}`);
    assert.match(err, expected, name);
    assert.not.match(err, /\n {4}at /, name);
    assert.is(out, "", name);
  }
  const { err } = await himap(["inspect", "/no/such/folder", "--debug"]);
  assert.match(err, /\n {4}at /);
});

test("an output that cannot be written fails before the model is opened, naming the option", async () => {
  for (const args of [["run", "/no/such/model", picture, "x", "--heatmap", "/no/such/folder/a.png"], ["demo", "--out", "/no/such/folder/a.png"]]) {
    const { code, out, err } = await himap(args);
    assert.equal([code, out], [1, ""]);
    assert.match(err, /^himap: ERR_INVALID_ARG expected a file that can be written for --(heatmap|out) but received .* \(ENOENT\)\n$/);
  }
});

test("a file that is there is kept where there is nothing to write", async () => {
  writeFileSync(path.join(folder, "old.png"), "old");
  assert.is((await himap(["run", model, "/no/such/picture.png", "x", "--heatmap", "old.png"])).code, 1);
  assert.is(readFileSync(path.join(folder, "old.png"), "utf8"), "old");
});

test("a heatmap that fails after all does not take the answer along, which remains the one object", async () => {
  const args = ["run", model, picture, "x", "--max-tokens", "1", "--heatmap", "/dev/full"];
  const [plain, json] = [await himap(args), await himap([...args, "--json"])];
  for (const { code, err } of [plain, json]) {
    assert.is(code, 1);
    assert.match(err, /himap: ERR_INVALID_ARG expected a file that can be written for --heatmap but received "\/dev\/full" \(ENOSPC\)\n$/);
  }
  assert.is(plain.out, `${(JSON.parse(json.out) as { text: string }).text}\n`);
});

test("--json: a failure is one object on standard output, with what had been answered; its text stays on standard error", async () => {
  const late = await himap(["run", model, "none", "Hello", "--min-tokens", "3000", "--max-tokens", "3000", "--timeout-ms", "400", "--json"]);
  assert.is(late.code, 1);
  assert.match(late.err, /^himap: ERR_TIMEOUT .* took longer than its 400 ms\n$/);
  const { code, retryable, partial } = (JSON.parse(late.out) as { error: { code: string; retryable: boolean; partial: { tokens: number[] } } }).error;
  assert.equal([code, retryable], ["ERR_TIMEOUT", true]);
  assert.ok(partial.tokens.length > 0 && partial.tokens.length < 3000);
  const cases: [args: string[], exitCode: number, code: string][] = [
    [["inspect", "/no/such/folder"], 1, "ERR_INVALID_ARG"],
    [["weights", "verify", folder], 1, "ERR_BAD_CHECKPOINT"],
    [["run", model, "/no/such/picture.png", "x"], 1, "ERR_BAD_IMAGE"],
    [["run", model, picture, "x", "--top-p", "7"], 2, "ERR_INVALID_ARG"],
    [["run", model, "--jsn"], 2, "ERR_INVALID_ARG"],
  ];
  for (const [args, exitCode, expected] of cases) {
    const failed = await himap([...args, "--json"]);
    const { error } = JSON.parse(failed.out) as { error: { code: string; message: string } };
    assert.equal([failed.code, error.code], [exitCode, expected], args.join(" "));
    assert.ok(failed.err.includes(error.message), failed.err);
  }
  // Behind `--` it is a prompt.
  assert.is((await himap(["run", model, "/no/such/picture.png", "--", "--json"])).out, "");
});

test("a prompt may begin with a dash", async () => {
  for (const args of [["- What is this?"], ["-h is what?"], ["--", "-5"]]) {
    const { code, out, err } = await himap(["run", model, picture, "--max-tokens", "1", ...args]);
    assert.is(code, 0, err);
    assert.not.match(out, /himap run MODEL/);
  }
});

test("a command line that cannot be understood: exit code 2, and where to find help", async () => {
  const cases: [args: string[], expected: RegExp][] = [
    [["rum"], /expected one of run, batch, demo, .* but received "rum" \(did you mean "run"\?\)/],
    [["help", "runn"], /did you mean "run"\?/],
    [["weigths", "verify"], /did you mean "weights"\?/],
    [["weights", "verfy", "x"], /expected one of weights convert, weights verify for .* "weights verfy" \(did you mean "weights verify"\?\)/],
    [["abacus"], /but received "abacus"\n/],
    [["run", model], /expected MODEL IMAGE PROMPT/],
    [["run", model, picture, "x", "--jsn"], /received "--jsn" \(did you mean "--json"\?\)/],
    [["run", model, picture, "-what"], /expected a known option for himap run but received "-what"\n/],
    [["run", model, picture, "x", "--max-tokens", "many"], /expected a number for --max-tokens but received "many"/],
    [["run", model, picture, "x", "--pruning", "[nonsense"], /expected JSON for --pruning/],
    [["run", model, "none", "x", "--heatmap", "a.png"], /expected a picture for IMAGE for --heatmap but received "none"/],
    [["doctor", "me"], /expected no operands/],
    [["run", model, picture, "x", "--logprobs", "3"], /expected --json with --logprobs/],
    [["run", model, "https://example.org/a.png", "x"], /expected the path of a picture for IMAGE but received "https:.*" \(nothing is fetched\)/],
    [["run", model, picture, "x", "--top-p", "7"], /^himap: expected a number from 0 to 1 for --top-p but received 7/],
    [["run", model, picture, "x", "--max-tokens", "-5"], /^himap: expected an integer .* for --max-tokens but received -5/],
    [["run", model, picture, "x", "--pruning", "hi"], /^himap: expected .*"himap".* for --pruning but received "hi"/],
    [["run", model, picture, "x", "--cache", "hi"], /^himap: expected .* for --cache but received "hi"/],
    [["run", model, picture, "x", "--device", "abacus"], /^himap: expected .* for --device but received "abacus"/],
    [["run", model, picture, "x", "--kv-type", "f8", "--threads", "0"], /^himap: expected .* for --kv-type .*\nhimap: expected .* for --threads but received 0/],
    [["inspect", model, "--kv-type", "f8"], /^himap: expected .* for --kv-type/],
  ];
  for (const [args, expected] of cases) {
    const { code, out, err } = await himap(args);
    assert.is(code, 2, args.join(" "));
    assert.match(err, expected);
    assert.match(err, /himap: try himap --help/);
    assert.is(out, "");
  }
  for (const [args, listed] of [[[], /himap run/], [["weights"], /himap weights convert .*\n +himap weights verify/]] as const) {
    const bare = await himap([...args]);
    assert.equal([bare.code, bare.out], [2, ""]);
    assert.match(bare.err, listed);
  }
});

test("help and version on standard output, exit code 0", async () => {
  for (const args of [["--help"], ["-h"], ["help"]]) {
    const { code, out } = await himap(args);
    assert.is(code, 0);
    for (const name of ["run", "demo", "inspect", "doctor", "build"]) assert.ok(out.includes(`himap ${name}`), name);
  }
  for (const args of [["run", "--help"], ["help", "run"], ["run", "a", "--nonsense", "-h"]]) {
    const { code, out, err } = await himap(args);
    assert.is(code, 0, err);
    assert.match(out, /himap run MODEL IMAGE PROMPT/);
  }
  for (const args of [["weights", "--help"], ["weights", "-h"], ["help", "weights"]]) {
    const { code, out, err } = await himap(args);
    assert.is(code, 0, err);
    assert.match(out, /himap weights convert .*\n +himap weights verify/);
    assert.not.match(out, /himap run/);
  }
  assert.match((await himap(["help", "weights", "verify"])).out, /^himap weights verify FOLDER/);
  assert.is((await himap(["--version"])).out, `${packageVersion}\n`);
});

test("doctor and inspect: a page, and JSON", async () => {
  const page = await himap(["doctor"]);
  assert.is(page.code, 0, page.err);
  assert.match(page.out, /device +auto takes cpu/);
  assert.is((JSON.parse((await himap(["doctor", "--json"])).out) as { device: string }).device, "cpu");
  const inspected = await himap(["inspect", model, "--prompt-tokens", "100", "--max-tokens", "50"]);
  assert.match(inspected.out, /1\.49 million parameters/);
  const { prompt } = JSON.parse((await himap(["inspect", model, "--json", "--images", "2"])).out) as { prompt: { imageTokens: number } };
  assert.is(prompt.imageTokens, 1152);
});

test("a reader that leaves is no failure", async () => {
  const early = await himap(["inspect", model, "--json"], { onStart: (child) => child.stdout!.destroy() });
  assert.is(early.code, 0, early.err);
  assert.is(early.err, "");
  const midway = await himap(["run", model, "none", "Hello", "--max-tokens", "3000", "--min-tokens", "3000"], { onOutput: (child) => child.stdout!.destroy() });
  assert.is(midway.code, 0, midway.err);
  assert.is(midway.err, "");
});

test("Ctrl-C ends a run with 130, SIGTERM with 143", async () => {
  for (const [signal, expected] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    let sent = false;
    const { code, err } = await himap(["run", model, "none", "Hello", "--max-tokens", "3000", "--min-tokens", "3000"], {
      onOutput: (child) => {
        if (!sent) child.kill(signal);
        sent = true;
      },
    });
    assert.is(code, expected, err);
    assert.is(err, "");
  }
  // While it waits for the rest of a picture. More than a pipe holds is only taken once it reads.
  const waiting = await himap(["run", model, "-", "x"], { onStart: (child) => child.stdin!.write(new Uint8Array(1 << 20), () => child.kill("SIGINT")) });
  assert.is(waiting.code, 130, waiting.err);
});

test("demo: runs from anywhere, says what it did and writes its picture", async () => {
  const { code, out, err } = await himap(["demo", "--out", "demo.png"]);
  assert.is(code, 0, err);
  for (const word of ["scene-1.png", "scene-4.png", "unpruned: ", "HiMAP: ", "144 in 2 layers, 72 in 6, 18 in 8", "first token, median", path.join(folder, "demo.png")]) {
    assert.ok(out.includes(word), word);
  }
  assert.is(readFileSync(path.join(folder, "demo.png")).toString("latin1", 1, 4), "PNG");
});

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
