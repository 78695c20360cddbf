// The presets, one table. In CommonJS, like the errors, so that both entries of the package export the same data.

import type { Cut, Preset } from "../types.js" with { "resolution-mode": "import" };

export interface PresetEntry {
  readonly description: string;
  /** The cuts for a decoder of `layers` layers; `seed` is what a random draw starts from. */
  readonly cuts: (layers: number, seed: number) => Cut[];
}

/** HiMAP's schedule for short answers: half before layer 2, a quarter of those before layer 8. */
const himapCuts = (first: Cut["score"], second: Cut["score"]): Cut[] => [
  { before: 2, score: first, keep: { ratio: 0.5 } },
  { before: 8, score: second, keep: { ratio: 0.25 } },
];

export const presets: Readonly<Record<Preset, PresetEntry>> = {
  none: {
    description: "every image token everywhere",
    cuts: () => [],
  },
  himap: {
    description: "before layer 2 keep 50 % by what the instruction looks at, before layer 8 keep 25 % of those by what the image looks at",
    cuts: () => himapCuts({ rows: "instruction" }, { rows: "image" }),
  },
  "himap-caption": {
    description: "as himap, for long answers: the second cut keeps 50 %, before layer 15",
    cuts: () => [
      { before: 2, score: { rows: "instruction" }, keep: { ratio: 0.5 } },
      { before: 15, score: { rows: "image" }, keep: { ratio: 0.5 } },
    ],
  },
  fastv: {
    description: "before layer 2 keep 50 % by what the last row looks at",
    cuts: () => [{ before: 2, score: { rows: "last" }, keep: { ratio: 0.5 } }],
  },
  random: {
    description: "the cuts and counts of himap, drawn at random",
    cuts: (_, seed) => himapCuts({ random: seed }, { random: seed }),
  },
  grid: {
    description: "the cuts and counts of himap, evenly spaced",
    cuts: () => himapCuts({ grid: true }, { grid: true }),
  },
  vtw: {
    description: "drop every image token before the middle layer",
    cuts: (layers) => [{ before: Math.floor(layers / 2), score: { grid: true }, keep: { count: 0 } }],
  },
};
