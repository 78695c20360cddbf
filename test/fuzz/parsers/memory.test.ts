// What a file may cost: every parser holds a bounded number of bytes for each byte of its file, and files that ask for the
// most that the limits allow are read or refused by a process that has little.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { parseJson } from "../../../lib/checkpoint/json.js";
import { unpickle } from "../../../weights-tools/pickle.js";
import { runModule } from "../../helpers/child.js";
import { bytesOf, op } from "../../helpers/torch-writer.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Bytes of heap that stay taken by what `make` returns. */
function heldBy(make: () => unknown): number {
  collect();
  const before = process.memoryUsage().heapUsed;
  const held = make();
  collect();
  const after = process.memoryUsage().heapUsed;
  assert.ok(held !== undefined);
  return after - before;
}

/** What this process itself may take in between. */
const noise = 1_000_000;
const limits = { depth: 64, values: 1_000_000, objects: 1_000_000 };
const runs = { numRuns: 30, seed: 20_261_122 };

test("pickle: at most 256 bytes of heap for a byte of file, whatever is repeated", () => {
  const value = fc.constantFrom<Uint8Array>(
    ...[op.dict, op.list, op.emptyTuple, op.none].map((code) => bytesOf(code)), bytesOf(op.none, op.tuple1), op.int(1), op.float(0.5),
    bytesOf("U", [2], "ab"), op.global("torch Size"), bytesOf(op.list, op.none, op.append), bytesOf(op.dict, op.int(1), op.none, op.setItem),
  );
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 4 }), (values) => {
      const part = bytesOf(op.mark, ...values, op.appends);
      const file = bytesOf(op.proto, op.list, Buffer.alloc(part.length * Math.ceil(40_000 / part.length), part), op.stop);
      const held = heldBy(() => unpickle(file, "p", () => undefined));
      assert.ok(held < 256 * file.length + noise, `${held} bytes for ${file.length}`);
    }),
    runs,
  );
});

test("JSON: at most 80 bytes of heap for a byte of file, whatever is repeated", () => {
  const value = fc.constantFrom("{}", "[]", "[0]", "[[]]", '{"a":0}', '["ab","c"]', "0", "0.5", '""', '"abc"', '"abcdefghijklmnop"', '"\\u00e9"');
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 4 }), (values) => {
      const part = `${values.join()},`;
      const file = Buffer.from(`[${part.repeat(Math.ceil(100_000 / part.length))}0]`);
      const held = heldBy(() => parseJson(file, "j", limits));
      assert.ok(held < 80 * file.length + noise, `${held} bytes for ${file.length}`);
    }),
    runs,
  );
});

// Bounded by opcodes and values alone, the first four ask for 0.4 to 2.3 GB.
const floods: [name: string, parser: "pickle" | "tokenizer" | "header", file: string][] = [
  ["dicts", "pickle", 'pickle("}")'],
  ["lists of one", "pickle", 'pickle("]Na")'],
  ["objects in tokenizer.json", "tokenizer", 'array("{}", 2e6)'],
  ["objects in a header", "header", 'array("{}", 2e6)'],
  ["arrays in a header", "header", 'array("[0]", 2e6)'],
  ["keys in tokenizer.json", "tokenizer", "keys(2e6)"],
];

test("files that ask for the most are refused by a process with 256 MB of heap", async () => {
  const script = `
    import { HimapError } from "./lib/errors.cjs";
    import { parseSafetensorsHeader } from "./lib/checkpoint/safetensors.ts";
    import { parseTokenizerJson } from "./lib/tokenizer/tokenizer-json.ts";
    import { unpickle } from "./weights-tools/pickle.ts";
    const repeat = (text, count) => Buffer.alloc(text.length * count, text, "latin1");
    const pickle = (part) => Buffer.concat([Buffer.from("\\x80\\x02]", "latin1"), repeat("(" + part.repeat(1000) + "e", 1e4), Buffer.from(".")]);
    const array = (item, count) => Buffer.concat([Buffer.from('{"a":['), repeat(item + ",", count), Buffer.from("0]}")]);
    const keys = (count) => {
      const entries = repeat('"0000000":0,', count);
      for (let i = 0; i < count; i++) entries.write(String(i).padStart(7, "0"), 12 * i + 1, "latin1");
      return Buffer.concat([Buffer.from("{"), entries, Buffer.from('"a":0}')]);
    };
    const header = (text) => {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(text.length));
      return Buffer.concat([length, text]);
    };
    const parsers = {
      pickle: (file) => unpickle(file, "f", () => undefined),
      tokenizer: (file) => parseTokenizerJson(file, "f"),
      header: (file) => parseSafetensorsHeader(header(file), file.length + 8, "f"),
    };
    const floods = [${floods.map(([name, parser, file]) => `[${JSON.stringify(name)}, "${parser}", () => ${file}]`).join()}];
    for (const [name, parser, file] of floods) {
      console.log("begun: " + name);
      try {
        parsers[parser](file());
      } catch (error) {
        if (!(error instanceof HimapError)) throw error;
        console.log("refused: " + name + ": " + error.message);
      }
    }
  `;
  const { code, output } = await runModule(script, ["--max-old-space-size=256"]);
  assert.is(code, 0, output.slice(-2000));
  for (const [name] of floods) assert.match(output, new RegExp(`^refused: ${name}: .*expected at most \\d+`, "m"), name);
});

test.run();
