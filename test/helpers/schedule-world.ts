/** An engine without a model: the real scheduler and public calls over a fake native engine, a tiny vocabulary and a clock that tests move. */

import { fakeModule, FakeEngine, type FakeOptions } from "./fake-native.js";
import { FakeClock } from "./clock.js";
import { ModelEngine } from "../../lib/engine.js";
import type { Model } from "../../lib/model.js";
import type { Observer, StepFacts, WorkFacts } from "../../lib/schedule/observer.js";
import type { Tokenizer } from "../../lib/tokenizer/types.js";
import type { ModelInfo } from "../../lib/types.js";

const vocabulary = 64;
const layers = 2;

/** Words to ids; ids 0 to 2 are special, the others letters. */
const tokenizer: Tokenizer = {
  size: vocabulary,
  bos: 1,
  eos: 2,
  unk: 0,
  encode: (text) => text.split(" ").filter(Boolean).map((word) => 3 + ([...word].reduce((sum, c) => sum * 31 + c.charCodeAt(0), 7) >>> 0) % (vocabulary - 3)),
  decode: (ids) => Array.from(ids, letter).join(""),
  stream: () => ({ push: letter, end: () => "" }),
  specialId: () => undefined,
  piece: letter,
};

function letter(id: number): string {
  return id < 3 ? "" : String.fromCharCode(62 + id);
}

export interface WorldOptions {
  pages?: number;
  maxBatch?: number;
  maxQueue?: number;
  fake?: FakeOptions;
  /** Called where a picture would be decoded. */
  decode?: () => Promise<void>;
}

export interface World {
  engine: ModelEngine;
  native: FakeEngine;
  clock: FakeClock;
  /** How often each request was told to have ended, by id, and the works themselves. */
  ends: Map<string, { times: number; outcome: string }>;
  queued: Set<string>;
  started: WorkFacts[];
  firsts: Map<string, number>;
  steps: StepFacts[];
}

export function createWorld({ pages = 200, maxBatch = 4, maxQueue = 100, fake = {}, decode = async () => {} }: WorldOptions = {}): World {
  const native = new FakeEngine({ vocabulary, layers, logits: 6, ...fake });
  const clock = new FakeClock();
  const world = { ends: new Map(), queued: new Set<string>(), started: [], firsts: new Map(), steps: [] } as Pick<World, "ends" | "queued" | "started" | "firsts" | "steps">;
  const observer: Observer = {
    queued: ({ id }) => void world.queued.add(id),
    started: (work) => void world.started.push(work),
    firstToken: ({ id }) => void world.firsts.set(id, (world.firsts.get(id) ?? 0) + 1),
    stepped: (step) => void world.steps.push(step),
    ended: ({ id }, { outcome }) => void world.ends.set(id, { times: (world.ends.get(id)?.times ?? 0) + 1, outcome }),
  };
  const module = fakeModule({}, native);
  const model = {
    checkpoint: {
      config: {
        layers, maxPositions: 512, hidden: 8, ffn: 16, heads: 1, kvHeads: 1, headDim: 8, vocabulary, imageTokens: 8,
        vision: { layers: 1, hidden: 8, heads: 1, ffn: 16, imageSize: 14, patchSize: 14 },
      },
    },
    tokenizer,
    template: "llava_v1",
    native: module,
    engine: native,
    kvType: "f32",
    pageBytes: 1,
    poolPages: pages,
    maxBatch,
    maxQueue,
    clock,
    longestPiece: 20,
    facts: {
      layers, hidden: 8, vocabulary, eos: 2, imageTokens: 8, imageSize: 14, fingerprint: "f", pruning: "none", imageAspectRatio: "pad",
      mostSamples: Math.min(64, maxBatch),
    },
    preparePicture: async () => {
      await decode();
      return { image: { pixels: new Float32Array(3 * 14 * 14).fill(0.5) }, placement: { width: 1, height: 1, grid: [2, 4], placed: { x: 0, y: 0, width: 1, height: 1 } } };
    },
  } as unknown as Model;
  return { ...world, engine: new ModelEngine(model, {} as ModelInfo, observer), native, clock };
}
