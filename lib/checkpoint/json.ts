/**
 * Strict JSON for files that nobody vouches for. `JSON.parse` keeps the last of two equal keys in silence, so a header
 * could show one tensor to a scanner and another to the engine; here a second key is an error. Objects become maps, so
 * that no key can reach a prototype.
 */

import { describe as describeValue } from "../check.js";
import { fault } from "./fault.js";

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
export type JsonObject = Map<string, JsonValue>;

export interface JsonLimits {
  /** Nested arrays and objects. */
  depth: number;
  /** Values of any kind: up to 90 bytes each in a large object, whatever they take in the file. */
  values: number;
  /** Of them objects, which take 200 bytes even where they are empty. */
  objects: number;
}

/** Quotes what stands at a place, for messages: short, and without control characters. */
function excerpt(text: string, at: number): string {
  return at >= text.length ? "the end of the text" : JSON.stringify(text.slice(at, at + 16));
}

// Strings and spaces are scanned by hand and digits are counted: an expression that repeats without bound overflows its
// stack on a hundred megabytes of one character.
const numberForm = /-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,9})?/y;
const words = new Map<string, JsonValue>([["true", true], ["false", false], ["null", null]]);
const [kTab, kLineFeed, kReturn, kSpace, kQuote, kBackslash] = [9, 10, 13, 32, 34, 92];

class Reader {
  private at = 0;
  private values = 0;
  private objects = 0;
  /** Items of the arrays that are open: an array that grows by itself keeps room for 17 from the first on. */
  private readonly items: JsonValue[] = [];

  constructor(
    private readonly text: string,
    private readonly where: string,
    private readonly limits: JsonLimits,
  ) {}

  document(): JsonValue {
    const value = this.value(0);
    this.skipSpaces();
    if (this.at < this.text.length) this.fail("the end of the JSON text");
    return value;
  }

  private fail(expected: string): never {
    fault("ERR_BAD_CHECKPOINT", this.where, expected, `character ${this.at} of the JSON text`, excerpt(this.text, this.at));
  }

  private skipSpaces(): void {
    for (;; this.at++) {
      const code = this.text.charCodeAt(this.at);
      if (code !== kSpace && code !== kLineFeed && code !== kReturn && code !== kTab) return;
    }
  }

  /** Moves past one character if it is there, and the white space before it. */
  private take(character: string): boolean {
    this.skipSpaces();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private value(depth: number): JsonValue {
    this.skipSpaces();
    if (++this.values > this.limits.values) this.fail(`at most ${this.limits.values} values`);
    const first = this.text[this.at];
    if (first === '"') return this.string();
    if (first === "{" || first === "[") {
      if (depth >= this.limits.depth) this.fail(`at most ${this.limits.depth} levels of nesting`);
      return first === "{" ? this.object(depth + 1) : this.array(depth + 1);
    }
    for (const [word, value] of words) {
      if (!this.text.startsWith(word, this.at)) continue;
      this.at += word.length;
      return value;
    }
    return this.number();
  }

  private number(): number {
    numberForm.lastIndex = this.at;
    const digits = numberForm.exec(this.text)?.[0] ?? this.fail("a JSON value");
    this.at += digits.length;
    return Number(digits);
  }

  private string(): string {
    const start = this.at++;
    let escaped = false;
    for (;; this.at++) {
      const code = this.text.charCodeAt(this.at);
      if (code === kQuote) break;
      // NaN, past the end, fails this comparison too.
      if (!(code >= kSpace)) this.fail("a closed string without control characters");
      if (code !== kBackslash) continue;
      escaped = true;
      this.at += this.text[this.at + 1] === "u" ? 5 : 1;
    }
    this.at++;
    if (!escaped) return this.text.slice(start + 1, this.at - 1);
    try {
      return JSON.parse(this.text.slice(start, this.at)) as string;
    } catch {
      this.at = start;
      return this.fail("a string with valid escapes");
    }
  }

  private array(depth: number): JsonValue[] {
    this.at++;
    if (this.take("]")) return [];
    const start = this.items.length;
    do this.items.push(this.value(depth));
    while (this.take(","));
    if (!this.take("]")) this.fail("`,` or `]`");
    return this.items.splice(start);
  }

  private object(depth: number): JsonObject {
    if (++this.objects > this.limits.objects) this.fail(`at most ${this.limits.objects} objects`);
    this.at++;
    const entries: JsonObject = new Map();
    if (this.take("}")) return entries;
    do {
      this.skipSpaces();
      const start = this.at;
      if (this.text[start] !== '"') this.fail("a key");
      const key = this.string();
      if (entries.has(key)) {
        this.at = start;
        this.fail("a key that stands once");
      }
      if (!this.take(":")) this.fail("`:`");
      entries.set(key, this.value(depth));
    } while (this.take(","));
    if (!this.take("}")) this.fail("`,` or `}`");
    return entries;
  }
}

/**
 * Parses UTF-8 JSON.
 * @param bytes The whole text, without a byte order mark.
 * @param where The file's name, for messages.
 * @throws HimapError ERR_BAD_CHECKPOINT: not UTF-8, not JSON, a doubled key, or beyond `limits`.
 */
export function parseJson(bytes: Uint8Array, where: string, limits: JsonLimits): JsonValue {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    fault("ERR_BAD_CHECKPOINT", where, "UTF-8", "the JSON text", "other bytes", { cause });
  }
  return new Reader(text, where, limits).document();
}

/** As `parseJson`, for files whose top level must be an object. */
export function parseJsonObject(bytes: Uint8Array, where: string, limits: JsonLimits): JsonObject {
  const value = parseJson(bytes, where, limits);
  if (!(value instanceof Map)) fault("ERR_BAD_CHECKPOINT", where, "a JSON object", "the whole file", describe(value));
  return value;
}

/** Names a value in messages; what is absent came as nothing. */
export function describe(value: JsonValue | undefined): string {
  return value === undefined ? "nothing" : value instanceof Map ? "an object" : describeValue(value);
}
