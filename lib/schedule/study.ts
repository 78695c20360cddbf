/** Works of one step: a prefill for study, and the encoding of a picture. */

import type { StepToken } from "../binding/native.js";
import type { HimapError } from "../errors.cjs";
import { checkCharacters, checkDemand, checkLength, demandOf, type Demand, type Model } from "../model.js";
import { renderIds, renderPrompt, type Prompt } from "../prompt/index.js";
import { compileCuts } from "../pruning/compile.js";
import { imageWhere } from "../request/messages.js";
import type { EncodeRequest, ForwardRequest } from "../request/study.js";
import { checkNumbers } from "../sampling/sampler.js";
import type { ForwardResult, ImageEmbedding } from "../types.js";
import { firstPositions, packSpans, pageTables } from "./layout.js";
import type { Lease } from "./pages.js";
import { preparePictures, type Pictures } from "./pictures.js";
import type { Work, WorkDemand, WorkOutput, WorkStep } from "./work.js";

/** How a work of one step hands on its outcome. */
export interface Settle<T> {
  resolve(value: T): void;
  reject(error: HimapError): void;
}

/** What works of one step have in common. */
abstract class Study {
  readonly id: string;
  readonly priority = 0;
  readonly samples = 0;
  readonly tokens = 0;
  protected readonly model: Model;
  protected output: WorkOutput | undefined;

  constructor(id: string, model: Model) {
    this.id = id;
    this.model = model;
  }

  /** Its one pass is its last. */
  take(_sequence: number, { candidates }: StepToken): boolean {
    if (candidates) checkNumbers(candidates);
    return true;
  }

  accept(output: WorkOutput): boolean {
    this.output = output;
    return true;
  }
}

export class ForwardStudy extends Study implements Work {
  readonly kind = "forward";
  readonly #request: ForwardRequest;
  readonly #settle: Settle<ForwardResult>;
  #prompt: Prompt | undefined;
  #demand!: Demand;
  #images: Pictures["images"] = [];
  #pages!: Int32Array;

  constructor(id: string, model: Model, request: ForwardRequest, settle: Settle<ForwardResult>) {
    super(id, model);
    this.#request = request;
    this.#settle = settle;
  }

  get promptTokens(): number {
    return this.#prompt?.ids.length ?? 0;
  }
  get imageTokens(): number {
    return this.#prompt ? this.#demand.stages[0]!.imageTokens : 0;
  }
  get keptImageTokens(): number {
    return this.#prompt ? this.#demand.stages.at(-1)!.imageTokens : 0;
  }

  measure(): WorkDemand {
    const { template, tokenizer, facts, poolPages } = this.model;
    const { prompt: given, cuts } = this.#request;
    const { imageTokens } = facts;
    if ("messages" in given) checkCharacters(given.messages, 0, this.model);
    const prompt = "messages" in given ? renderPrompt(given.messages, { template, tokenizer, imageTokens }) : renderIds(given.ids, imageTokens);
    const { length } = prompt.ids;
    checkLength(length, 0, this.model);
    this.#demand = demandOf(this.model, { length, imageTokens: length - prompt.textTokens, newTokens: 0, samples: 1, cuts });
    checkDemand(this.#demand, poolPages);
    this.#prompt = prompt;
    return { pages: this.#demand.pages, sequences: 1, rows: length, images: prompt.spans.length, standing: false };
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { prompt: given, imageAspectRatio } = this.#request;
    if ("messages" in given) {
      const where = (image: number): string => `forward: ${imageWhere(given.messages, image)}`;
      this.#images = (await preparePictures(this.model, this.#prompt!.images, where, { imageAspectRatio, autoOrient: false, signal })).images;
    } else {
      this.#images = given.features?.map((features) => ({ features })) ?? given.pixels?.map((pixels) => ({ pixels })) ?? [];
    }
  }

  start({ pages }: Lease): void {
    this.#pages = pages;
  }

  next(): WorkStep {
    const { logits, hidden, scores, images, cuts } = this.#request;
    const { ids, spans } = this.#prompt!;
    return {
      images: this.#images.map((image) => (images ? { ...image, returnFeatures: true, returnVision: image.pixels !== undefined } : image)),
      sequences: [{
        phase: "prefill",
        ids,
        positions: firstPositions(ids.length),
        spans: packSpans(spans),
        cuts: compileCuts(cuts),
        stages: pageTables(this.#demand.stages, this.#pages),
        stop: new Int32Array(0),
        burst: 1,
        sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 },
        study: { logits, hidden, scores },
        returnScores: scores,
      }],
    };
  }

  finish(): void {
    const { images, sequences } = this.output!;
    const { logits, positions, hidden, colsum, blocks, cuts } = sequences[0]!;
    const vision = images.flatMap((image) => image.vision ?? []);
    const features = images.flatMap((image) => image.features ?? []);
    this.#settle.resolve({
      ids: this.#prompt!.ids,
      logits: logits!,
      positions: positions!,
      cuts: cuts.map((cut, i) => ({ before: this.#request.cuts[i]!.before, ...cut })),
      ...(hidden && { hidden }),
      ...(colsum && { colsum }),
      ...(blocks && { blocks }),
      ...(vision.length > 0 && { vision }),
      ...(features.length > 0 && { features }),
    });
  }

  fail(error: HimapError): void {
    this.#settle.reject(error);
  }
}

export class ImageEncoding extends Study implements Work {
  readonly kind = "encodeImage";
  readonly promptTokens = 0;
  readonly imageTokens = 0;
  readonly keptImageTokens = 0;
  readonly #request: EncodeRequest;
  readonly #settle: Settle<ImageEmbedding>;
  #pictures!: Pictures;

  constructor(id: string, model: Model, request: EncodeRequest, settle: Settle<ImageEmbedding>) {
    super(id, model);
    this.#request = request;
    this.#settle = settle;
  }

  measure(): WorkDemand {
    return { pages: 0, sequences: 0, rows: 0, images: 1, standing: false };
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { image, imageAspectRatio, autoOrient } = this.#request;
    this.#pictures = await preparePictures(this.model, [image], () => "encodeImage: image", { imageAspectRatio, autoOrient, signal });
  }

  start(): void {}

  next(): WorkStep {
    return { images: this.#pictures.images.map((image) => ({ ...image, returnFeatures: true })), sequences: [] };
  }

  finish(): void {
    const { images } = this.output!;
    const { facts } = this.model;
    this.#settle.resolve({
      features: images[0]!.features!,
      tokens: facts.imageTokens,
      fingerprint: facts.fingerprint,
      image: this.#pictures.placements[0]!,
    });
  }

  fail(error: HimapError): void {
    this.#settle.reject(error);
  }
}
