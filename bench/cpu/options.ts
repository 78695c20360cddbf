/** What `npm run bench:cpu` is asked for. */

import { parseArgs } from "node:util";

import type { WeightType } from "../../lib/checkpoint/types.js";
import { resultFile, unusual } from "../result.js";
import type { Repetitions } from "./repeat.js";
import type { TextSettings } from "./text.js";

const usual = { types: "F32,F16,BF16", threads: "1,2", shape: "1b", prompt: "640" };
/** What checkpoints are published in. */
const typesOfShort = "F16";

const parts = ["text", "picture"] as const;
type Part = (typeof parts)[number];

export interface CpuBench {
  types: WeightType[];
  threadCounts: number[];
  shape: string;
  /** "text" and "picture", or one of them. */
  parts: readonly Part[];
  visionRival: boolean;
  settings: TextSettings;
  /** Of the picture; those of the text are in its settings. */
  pictureRepetitions: Repetitions;
  /** Where the figures go. */
  out: string;
}

export function cpuBench(args: readonly string[]): CpuBench {
  const { values } = parseArgs({
    args: [...args],
    options: {
      "short": { type: "boolean", default: false },
      "only": { type: "string" },
      "vision-rival": { type: "boolean", default: false },
      "types": { type: "string" },
      "threads": { type: "string", default: usual.threads },
      "shape": { type: "string", default: usual.shape },
      "prompt": { type: "string", default: usual.prompt },
      "out": { type: "string" },
    },
  });
  const { short, shape, threads, prompt, only } = values;
  const wanted = parts.filter((part) => only === undefined || part === only);
  if (wanted.length === 0) throw new Error(`expected --only to be ${parts.join(" or ")} but received "${only}"`);
  const usualTypes = short ? typesOfShort : usual.types;
  const types = values.types?.toUpperCase() ?? usualTypes;
  const repetitions = (seconds: number): Repetitions => (short ? { count: 1, seconds: 0 } : { count: 3, seconds });
  const joined = (list: string): string => list.toLowerCase().replaceAll(",", "-");
  return {
    types: types.split(",") as WeightType[],
    threadCounts: threads.split(",").map(Number),
    shape,
    parts: wanted,
    visionRival: values["vision-rival"],
    // For each of six lines: the whole is to stay under forty minutes in a loud hour too.
    settings: { prompt: Number(prompt), steps: 32, repetitions: repetitions(150) },
    pictureRepetitions: repetitions(90),
    out: values.out ?? resultFile("cpu", [
      only,
      unusual(shape, usual.shape),
      unusual(types, usualTypes, joined(types)),
      unusual(threads, usual.threads, `${joined(threads)}-thread${threads === "1" ? "" : "s"}`),
      unusual(prompt, usual.prompt, `prompt-${prompt}`),
      short ? "short" : undefined,
    ]),
  };
}
