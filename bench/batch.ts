/**
 * Many requests at once: what batching brings, what pruning adds to it, what it does to the event loop.
 *
 *   npm run bench:batch [-- --only pico|text|pictures] [-- --shape 1b] [-- --repetitions 1] [-- --requests 64] [-- --out FILE]
 *
 * pico-llava with 1, 8, 32 and 128 of 256 requests at once; a LLaVA of random weights whose decoder has about a billion (made once,
 * with its GGUF, in build/bench-cpu), with 1 and 8 sequences, text against node-llama-cpp, pictures dense and with himap.
 * Under ten minutes on two cores. Figures go to bench/results/batch.json, those of any other choice to a name that tells it.
 * Linux x64.
 */

import { cpus } from "node:os";
import { parseArgs } from "node:util";

import { atLeast, atMost, type Aim } from "./batch/aims.js";
import { aimsTable, decodeGain, picoTable, randomModelTable } from "./batch/markdown.js";
import { benchPico, type PicoRow } from "./batch/pico.js";
import { benchPictures, benchText, type RandomModelRow, type RandomModelSettings } from "./batch/random-model.js";
import { benchModel } from "./cpu/models.js";
import { installRival } from "./cpu/rivals.js";
import { beginRun, resultFile, unusual } from "./result.js";

const usual = { shape: "1b", repetitions: "2", requests: "256" };
const { values } = parseArgs({
  options: {
    only: { type: "string" },
    shape: { type: "string", default: usual.shape },
    repetitions: { type: "string", default: usual.repetitions },
    requests: { type: "string", default: usual.requests },
    out: { type: "string" },
  },
});
const out = values.out ?? resultFile("batch", [
  values.only,
  unusual(values.shape, usual.shape),
  unusual(values.repetitions, usual.repetitions, `${values.repetitions}-repetitions`),
  unusual(values.requests, usual.requests, `${values.requests}-requests`),
]);
const wanted = (part: string): boolean => values.only === undefined || values.only === part;
const settings: RandomModelSettings = { threads: cpus().length, sequences: [1, 8], promptTokens: 64, newTokens: 32 };
const concurrencies = [1, 8, 32, 128];
const picoRequests = Number(values.requests);
// Never more, however disturbed: the time is bounded, and the JSON says what others took.
const repetitions = { count: Number(values.repetitions), seconds: 0 };

const rival = wanted("text") ? installRival("node-llama-cpp") : undefined;
const write = await beginRun(out);
let pico: PicoRow[] = [];
const random: RandomModelRow[] = [];

function aims(): Aim[] {
  const fullLoad = pico.filter(({ concurrency }) => concurrency === Math.max(...concurrencies)).flatMap(({ runs }) => runs);
  const largest = (figures: number[]): number | undefined => (figures.length === 0 ? undefined : Math.max(...figures));
  const text = random.filter(({ engine, input }) => engine === "himap" && input === "text");
  const [alone, together] = [text.find(({ sequences }) => sequences === 1), text.find(({ sequences }) => sequences === 8)];
  return [
    atLeast("1B, text: tokens/s of 8 decoding sequences over one's", alone && together && decodeGain(together, alone), 3),
    ...(["none", "himap"] as const).map((pruning) =>
      atLeast(
        `pico, ${pruning}: requests/s of 32 at once over one at a time`,
        pico.find((row) => row.pruning === pruning && row.concurrency === 32)?.againstOne,
        1,
      ),
    ),
    atMost("pico: the engine idle while requests are there, 32 and 128 at once", largest(pico.filter(({ concurrency }) => concurrency >= 32).map(({ idleShare }) => idleShare)), 0.05),
    atMost("pico, 128 at once: event loop delay, p99", largest(fullLoad.map(({ loop }) => loop.p99)), 20, " ms"),
    atMost("pico, 128 at once: reading a small file, slowest", largest(fullLoad.map(({ loop }) => loop.readFile.max)), 50, " ms"),
  ];
}

function save(): void {
  write({ shape: values.shape, settings, rival, aims: aims(), pico, random });
}

if (wanted("pico")) {
  pico = await benchPico(settings.threads, concurrencies, picoRequests, repetitions);
  save();
}
if (wanted("text") || wanted("pictures")) {
  const model = await benchModel(values.shape, "F16");
  if (wanted("text")) random.push(...(await benchText(model, settings, repetitions)));
  save();
  // Minutes in all: once.
  if (wanted("pictures")) random.push(...(await benchPictures(model, settings, { count: 1, seconds: 0 })));
  save();
}
console.log([pico.length > 0 && picoTable(pico), random.length > 0 && randomModelTable(random), aimsTable(aims())].filter(Boolean).join("\n"));
