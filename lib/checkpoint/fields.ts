/** Typed look-ups in a JSON object: each says which file and field it is about, its range, and its default. */

import type { ErrorCode } from "../errors.cjs";
import { fault } from "./fault.js";
import { describe, type JsonObject, type JsonValue } from "./json.js";

export interface NumberRange {
  min: number;
  max: number;
  /** Without a default the field must be there. */
  default?: number;
}

/** One object of a file. A field that is null counts as absent: the library writes both. */
export class Fields {
  constructor(
    private readonly object: JsonObject,
    readonly file: string,
    private readonly path: string = "",
  ) {}

  /** The field's value, null as undefined. */
  value(key: string): JsonValue | undefined {
    return this.object.get(key) ?? undefined;
  }

  has(key: string): boolean {
    return this.value(key) !== undefined;
  }

  /** The field's full name, as messages have it. */
  name(key: string): string {
    return this.path === "" ? key : `${this.path}.${key}`;
  }

  fail(code: ErrorCode, expected: string, key: string, received: string = describe(this.value(key))): never {
    return fault(code, this.file, expected, this.name(key), received);
  }

  integer(key: string, range: NumberRange): number {
    const value = this.value(key) ?? range.default;
    if (typeof value !== "number" || !Number.isInteger(value) || value < range.min || value > range.max) {
      this.fail("ERR_BAD_CHECKPOINT", `a whole number from ${range.min} to ${range.max}`, key, describe(value));
    }
    return value;
  }

  number(key: string, range: NumberRange): number {
    const value = this.value(key) ?? range.default;
    if (typeof value !== "number" || !(value >= range.min && value <= range.max)) {
      this.fail("ERR_BAD_CHECKPOINT", `a number from ${range.min} to ${range.max}`, key, describe(value));
    }
    return value;
  }

  boolean(key: string, absent: boolean): boolean {
    const value = this.value(key) ?? absent;
    if (typeof value !== "boolean") this.fail("ERR_BAD_CHECKPOINT", "true or false", key);
    return value;
  }

  /** One of a few words; another word is a model that is not run. */
  word<Word extends string>(key: string, words: readonly Word[], absent: Word): Word {
    const value = this.value(key) ?? absent;
    if (typeof value !== "string") this.fail("ERR_BAD_CHECKPOINT", "a string", key);
    if (!(words as readonly string[]).includes(value)) {
      this.fail("ERR_UNSUPPORTED_MODEL", words.map((word) => `"${word}"`).join(" or "), key);
    }
    return value as Word;
  }

  /** Refuses a model that sets a field to anything but `only`. */
  require(key: string, only: boolean): void {
    if (this.boolean(key, only) !== only) this.fail("ERR_UNSUPPORTED_MODEL", String(only), key);
  }

  /** Numbers of a fixed count. */
  numbers(key: string, count: number, range: { min: number; max: number }, absent: readonly number[]): number[] {
    const values = this.value(key) ?? [...absent];
    if (!Array.isArray(values) || values.length !== count) this.fail("ERR_BAD_CHECKPOINT", `${count} numbers`, key);
    return values.map((value) => {
      if (typeof value !== "number" || !(value >= range.min && value <= range.max)) {
        this.fail("ERR_BAD_CHECKPOINT", `numbers from ${range.min} to ${range.max}`, key, describe(value));
      }
      return value;
    });
  }

  /** A nested object; undefined where it is absent. */
  section(key: string): Fields | undefined {
    const value = this.value(key);
    if (value === undefined) return undefined;
    if (!(value instanceof Map)) this.fail("ERR_BAD_CHECKPOINT", "an object", key);
    return new Fields(value, this.file, this.name(key));
  }
}
