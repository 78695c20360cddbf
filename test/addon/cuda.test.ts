/**
 * `device: "cuda"` from TypeScript down, where the host's SIMT machine is the card: a folder that holds the binary, the
 * CPU's library and the machine's under the name of CUDA's.
 */

import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { nativePath } from "../../lib/binding/load.js";
import type { NativeModule } from "../../lib/binding/native.js";
import { load, type Cut, type Engine, type Message, type Pruning } from "../../lib/index.js";
import { loadWith } from "../../lib/load.js";
import { checkLoad } from "../../lib/request/load.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const golden = `${root}/test/golden/mha`;
const machine = `${root}/build/native-tests/libhimap-shim.so`;
const picture = readFileSync(`${golden}/short.png`);
const ask: Message[] = [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text: "What colour is the circle?" }] }];
const himap: Pruning = {
  cuts: [{ before: 2, score: { rows: "instruction" }, keep: { ratio: 0.5 } }, { before: 3, score: { rows: "image" }, keep: { ratio: 0.25 } }],
};

if (!existsSync(machine)) console.log("SKIP: the native tests were not built");
const onMachine = existsSync(machine) ? test : test.skip;

let folder: string;
let native: NativeModule;
let card: Engine;
let cpu: Engine;
test.before(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), "himap-cuda-"));
  if (!existsSync(machine)) return;
  const release = path.dirname(nativePath());
  copyFileSync(nativePath(), path.join(folder, "himap.node"));
  copyFileSync(path.join(release, "libhimap-cpu.so"), path.join(folder, "libhimap-cpu.so"));
  copyFileSync(machine, path.join(folder, "libhimap-cuda.so"));
  native = createRequire(import.meta.url)(path.join(folder, "himap.node")) as NativeModule;
  card = await loadWith(() => native, checkLoad(`${golden}/checkpoint`, { device: "cuda" }));
  cpu = await load(`${golden}/checkpoint`, { device: "cpu" });
});
test.after(async () => {
  await card?.dispose();
  await cpu?.dispose();
  rmSync(folder, { recursive: true });
});

onMachine("backends() lists both; auto takes the card and says so in the engine's facts", async () => {
  assert.equal(native.backends().map(({ name, usable }) => [name, usable]), [["cpu", true], ["cuda", true]]);
  const engine = await loadWith(() => native, checkLoad(`${golden}/checkpoint`, {}));
  assert.equal([engine.info.device, engine.info.kvType], ["cuda", "bf16"]);
  await engine.dispose();
});

onMachine("a pruned answer from pixels: the survivors of the float32 engine but for close ones, the same bits again", async () => {
  const once = await card.generate(ask, { pruning: himap, maxTokens: 3, scores: true });
  const again = await card.generate(ask, { pruning: himap, maxTokens: 3, scores: true });
  assert.equal([...again.tokens], [...once.tokens]);
  const expected = await cpu.generate(ask, { pruning: himap, maxTokens: 3 });
  for (const [index, { kept, scores }] of once.cuts.entries()) {
    const missed = [...expected.cuts[index]!.kept].filter((token) => !kept.includes(token));
    assert.ok(missed.length <= 2, `cut ${index}: ${missed.length} of ${kept.length} missed`);
    assert.equal(scores, again.cuts[index]!.scores);
  }
});

onMachine("every kind of policy keeps what it keeps on the CPU", async () => {
  const cuts: Cut[][] = [
    [{ before: 0, score: { grid: true }, keep: { count: 4 } }],
    [{ before: 2, score: { random: 3 }, keep: { count: 7 } }],
    [{ before: 1, score: { kept: Uint32Array.of(1, 5, 9) } }],
    [{ before: 3, score: { rows: "all" }, keep: { count: 0 } }],
  ];
  for (const list of cuts) {
    const kept = async (engine: Engine): Promise<number[][]> => (await engine.generate(ask, { pruning: { cuts: list }, maxTokens: 1 })).cuts.map((cut) => [...cut.kept]);
    assert.equal(await kept(card), await kept(cpu), JSON.stringify(list));
  }
});

onMachine("requests side by side, each as alone", async () => {
  const options = { temperature: 1, seed: 5, maxTokens: 3, pruning: himap } as const;
  const alone = await card.generate(ask, options);
  const crowd = await Promise.all([card.generate(ask, options), card.generate("hi", { maxTokens: 3 }), card.generate(ask, options)]);
  assert.equal([...crowd[0].tokens], [...alone.tokens]);
  assert.equal([...crowd[2].tokens], [...alone.tokens]);
});

test.run();
