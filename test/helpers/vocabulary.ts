/** The real LLaMA vocabulary, from a development dependency, in both file forms; and small ones to break. */

import { LlamaTokenizer } from "llama-tokenizer-js";

export interface ModelPiece {
  text: string;
  score: number;
  /** SentencePiece's number: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  type: number;
}

/** Gives pieces the kinds and scores that the published model has: rank by id, runs of space marks last. */
export function scored(texts: readonly string[]): ModelPiece[] {
  return texts.map((text, id) => {
    if (id < 3) return { text, score: 0, type: id === 0 ? 2 : 3 };
    if (id < 259) return { text, score: 0, type: 6 };
    return { text, score: /^▁+$/.test(text) ? -1e9 : -(id - 259), type: 1 };
  });
}

/** All 32,000 pieces, by id. */
export function llamaPieces(): ModelPiece[] {
  return scored(new LlamaTokenizer().vocabById);
}

const byteTexts = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);

/** A vocabulary of control and byte pieces and what is given. */
export function smallPieces(texts: readonly string[] = ["▁a", "ab", "▁", "a", "b"]): ModelPiece[] {
  return scored(["<unk>", "<s>", "</s>", ...byteTexts, ...texts]);
}

const utf8 = new TextEncoder();

/** A length-delimited field. */
export function message(field: number, body: Uint8Array | string): Buffer {
  const bytes = typeof body === "string" ? utf8.encode(body) : body;
  return Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes]);
}

export function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

export function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(field * 8 + 5), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    if (rest <= 0x7fn) return Buffer.from(bytes);
  }
}

export const llamaTrainer = [number(3, 2), number(35, 1), number(40, 0), number(41, 1), number(42, 2), number(43, -1)];
export const llamaNormalizer = [message(1, "identity"), message(2, ""), number(3, 1), number(4, 0), number(5, 1)];

export function modelPiece({ text, score, type }: ModelPiece): Buffer {
  return message(1, Buffer.concat([message(1, text), float(2, score), number(3, type)]));
}

/** A `tokenizer.model`. */
export function modelFile(pieces: readonly ModelPiece[], trainer = llamaTrainer, normalizer = llamaNormalizer): Buffer {
  return Buffer.concat([...pieces.map(modelPiece), message(2, Buffer.concat(trainer)), message(3, Buffer.concat(normalizer))]);
}

/** Every way to cut a normal piece into two normal pieces, best score first, then by ids: as the converter writes them. */
export function mergesOf(pieces: readonly ModelPiece[]): [string, string][] {
  const ids = new Map(pieces.flatMap(({ text, type }, id) => (type === 1 ? [[text, id] as const] : [])));
  const merges: { parts: [string, string]; order: [number, number, number] }[] = [];
  for (const { text, score, type } of pieces) {
    for (let cut = 1; type === 1 && cut < text.length; cut++) {
      const parts: [string, string] = [text.slice(0, cut), text.slice(cut)];
      const [left, right] = [ids.get(parts[0]), ids.get(parts[1])];
      if (left !== undefined && right !== undefined) merges.push({ parts, order: [-score, left, right] });
    }
  }
  merges.sort(({ order: a }, { order: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return merges.map(({ parts }) => parts);
}

const special = (id: number, content: string) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });

export const prependNormalizer = {
  type: "Sequence",
  normalizers: [{ type: "Prepend", prepend: "▁" }, { type: "Replace", pattern: { String: " " }, content: "▁" }],
};
export const firstMetaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: false };

/** A `tokenizer.json` as an object, for tests to change before they write it. */
export function jsonForm(pieces: readonly ModelPiece[], prefix: "prepend" | "first", mergeForm: "strings" | "pairs" = "strings") {
  const merges = mergesOf(pieces);
  return {
    version: "1.0",
    added_tokens: [
      ...pieces.flatMap(({ text, type }, id) => (type === 2 || type === 3 ? [special(id, text)] : [])),
      special(pieces.length, "<image>"),
      special(pieces.length + 1, "<pad>"),
    ] as Record<string, unknown>[],
    normalizer: (prefix === "prepend" ? prependNormalizer : null) as unknown,
    pre_tokenizer: (prefix === "first" ? firstMetaspace : null) as unknown,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    } as unknown,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    } as unknown,
    model: {
      type: "BPE" as unknown, dropout: null as unknown, unk_token: "<unk>" as unknown, continuing_subword_prefix: null as unknown,
      end_of_word_suffix: null as unknown, fuse_unk: true as unknown, byte_fallback: true as unknown,
      vocab: Object.fromEntries(pieces.map(({ text }, id) => [text, id])) as Record<string, unknown>,
      merges: (mergeForm === "pairs" ? merges : merges.map((pair) => pair.join(" "))) as unknown[],
    },
  };
}

/** JSON as bytes. */
export function jsonBytes(value: unknown): Uint8Array {
  return utf8.encode(JSON.stringify(value));
}
