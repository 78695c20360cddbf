// A short run of every parser on its corpus and on inputs made of it, the same on every machine. `npm run fuzz` goes on.

import { test } from "uvu";
import * as assert from "uvu/assert";

import { fuzz } from "./fuzz.js";
import { targets } from "./targets.js";

/** Vocabularies are large, and so take longer each. */
const inputsOf: Record<string, number> = { "tokenizer.json": 400, "tokenizer.model": 600, "torch": 1000, "config": 1000 };

for (const [name, target] of Object.entries(targets)) {
  test(`${name}: refused with a typed error, or within its bounds`, async () => {
    const report = await fuzz(name, target, { inputs: inputsOf[name] ?? 2000, seed: 7, limitMs: 10_000, memory: 500e6 });
    assert.is(
      report.finding?.what,
      undefined,
      report.finding && `${report.finding.what}\n${Buffer.from(report.finding.input).toString("base64").slice(0, 4000)}`,
    );
    // Otherwise the seeds are no longer valid, and only the first check is tried.
    assert.ok(report.accepted > 3 && report.corpus > 2, `${report.accepted} accepted, ${report.corpus} kept`);
  });
}

test.run();
