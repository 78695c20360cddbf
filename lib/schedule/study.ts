/** Works of one step: a prefill for study, and the encoding of a picture. */

import type { HimapError } from "../errors.cjs";
import { checkCharacters, checkDemand, checkLength, demandOf, type Demand, type Model } from "../model.js";
import { renderIds, renderPrompt, type Prompt } from "../prompt/index.js";
import { compileCuts } from "../pruning/compile.js";
import type { EncodeRequest, ForwardRequest } from "../request/study.js";
import type { ForwardResult, ImageEmbedding } from "../types.js";
import { firstPositions, packSpans, pageTables } from "./layout.js";
import { preparePictures, type Pictures } from "./pictures.js";
import type { Work, WorkOutput, WorkStep } from "./work.js";

/** How a work of one step hands on its outcome. */
export interface Settle<T> {
  resolve(value: T): void;
  reject(error: HimapError): void;
}

export class ForwardStudy implements Work {
  readonly #model: Model;
  readonly #request: ForwardRequest;
  readonly #settle: Settle<ForwardResult>;
  #prompt!: Prompt;
  #demand!: Demand;
  #images: Pictures["images"] = [];
  #pages!: Int32Array;

  constructor(model: Model, request: ForwardRequest, settle: Settle<ForwardResult>) {
    this.#model = model;
    this.#request = request;
    this.#settle = settle;
  }

  get pageCount(): number {
    return this.#demand.pages;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { template, tokenizer, facts, poolPages } = this.#model;
    const { prompt: given, imageAspectRatio, cuts } = this.#request;
    const { imageTokens } = facts;
    if ("messages" in given) {
      checkCharacters(given.messages, 0, this.#model);
      this.#prompt = renderPrompt(given.messages, { template, tokenizer, imageTokens });
    } else {
      this.#prompt = renderIds(given.ids, imageTokens);
    }
    const { ids, textTokens, images } = this.#prompt;
    checkLength(ids.length, 0, this.#model);
    this.#demand = demandOf(this.#model, { length: ids.length, imageTokens: ids.length - textTokens, newTokens: 0, cuts });
    checkDemand(this.#demand, poolPages);
    if ("messages" in given) {
      this.#images = (await preparePictures(this.#model, images, { imageAspectRatio, autoOrient: false, signal })).images;
    } else {
      this.#images = given.features?.map((features) => ({ features })) ?? given.pixels?.map((pixels) => ({ pixels })) ?? [];
    }
  }

  start(pages: Int32Array): void {
    this.#pages = pages;
  }

  next(): WorkStep {
    const { logits, hidden, scores, images, cuts } = this.#request;
    const { ids, spans } = this.#prompt;
    return {
      images: this.#images.map((image) => (images ? { ...image, returnFeatures: true, returnVision: image.pixels !== undefined } : image)),
      sequence: {
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
      },
    };
  }

  accept({ images, sequence }: WorkOutput): boolean {
    const { logits, positions, hidden, colsum, blocks, cuts } = sequence!;
    const vision = images.flatMap((image) => image.vision ?? []);
    const features = images.flatMap((image) => image.features ?? []);
    this.#settle.resolve({
      ids: this.#prompt.ids,
      logits: logits!,
      positions: positions!,
      cuts: cuts.map((cut, i) => ({ before: this.#request.cuts[i]!.before, ...cut })),
      ...(hidden && { hidden }),
      ...(colsum && { colsum }),
      ...(blocks && { blocks }),
      ...(vision.length > 0 && { vision }),
      ...(features.length > 0 && { features }),
    });
    return true;
  }

  fail(error: HimapError): void {
    this.#settle.reject(error);
  }
}

export class ImageEncoding implements Work {
  readonly pageCount = 0;
  readonly #model: Model;
  readonly #request: EncodeRequest;
  readonly #settle: Settle<ImageEmbedding>;
  #pictures!: Pictures;

  constructor(model: Model, request: EncodeRequest, settle: Settle<ImageEmbedding>) {
    this.#model = model;
    this.#request = request;
    this.#settle = settle;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { image, imageAspectRatio, autoOrient } = this.#request;
    this.#pictures = await preparePictures(this.#model, [image], { imageAspectRatio, autoOrient, signal });
  }

  start(): void {}

  next(): WorkStep {
    return { images: this.#pictures.images.map((image) => ({ ...image, returnFeatures: true })) };
  }

  accept({ images }: WorkOutput): boolean {
    const { facts } = this.#model;
    this.#settle.resolve({
      features: images[0]!.features!,
      tokens: facts.imageTokens,
      fingerprint: facts.fingerprint,
      image: this.#pictures.placements[0]!,
    });
    return true;
  }

  fail(error: HimapError): void {
    this.#settle.reject(error);
  }
}
