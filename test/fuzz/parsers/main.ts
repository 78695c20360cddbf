/**
 * npm run fuzz -- --parser NAME --inputs N [--seed S] [--keep]
 *
 * Without --parser every parser in turn. A finding ends the run with exit code 1 and is written to the working directory;
 * --keep adds the inputs that reached new code to the corpus in the repository. The native entries, a `manifest` of their own
 * among them, have `npm run fuzz:native`.
 */

import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { fuzz } from "./fuzz.js";
import { keepInputs, targets } from "./targets.js";

const { values } = parseArgs({
  options: {
    parser: { type: "string" },
    inputs: { type: "string", default: "100000" },
    seed: { type: "string", default: "1" },
    keep: { type: "boolean" },
  },
});
const names = values.parser === undefined ? Object.keys(targets) : [values.parser];
const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
if (!names.every((name) => name in targets) || !(inputs > 0) || !Number.isInteger(seed)) {
  console.error(`usage: npm run fuzz -- [--parser ${Object.keys(targets).join("|")}] [--inputs N] [--seed S] [--keep]\nthe native entries: npm run fuzz:native -- ENTRY`);
  process.exit(2);
}

const nameOf = (input: Uint8Array): string => createHash("sha256").update(input).digest("hex").slice(0, 12);
for (const name of names) {
  const started = performance.now();
  let shown = started;
  const report = await fuzz(name, targets[name]!, {
    inputs, seed, limitMs: 2000, memory: 1e9,
    onProgress(done, { corpus, covered }) {
      if (performance.now() - shown < 30_000) return;
      shown = performance.now();
      console.log(`${name}: ${done} of ${inputs}, ${corpus} kept, ${covered} characters of source reached`);
    },
  });
  const { finding, found, ...figures } = report;
  const seconds = (performance.now() - started) / 1000;
  console.log(
    JSON.stringify({
      parser: name,
      seed,
      seconds: Number(seconds.toFixed(1)),
      perSecond: Math.round(report.inputs / seconds),
      ...figures,
      findings: finding ? 1 : 0,
    }),
  );
  if (values.keep) keepInputs(name, found);
  if (finding) {
    const file = `finding-${name}-${nameOf(finding.input)}.log`;
    writeFileSync(file, finding.input);
    console.error(`${name}: ${finding.what}\nthe input is in ${file}`);
    process.exitCode = 1;
  }
}
