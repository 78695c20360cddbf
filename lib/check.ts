/**
 * Checks of arguments. One phrase says every fault, "expected X for Y but received Z", and a collector reports all
 * faults of a call in one error. Values from outside are read once, and may throw when they are read.
 */

import { HimapError } from "./errors.cjs";

/** A value in a few words, for an error message. Never throws, whatever the value does. */
export function describe(value: unknown): string {
  try {
    switch (typeof value) {
      case "string":
        return value.length > 40 ? `${JSON.stringify(value.slice(0, 40))}... (${value.length} characters)` : JSON.stringify(value);
      case "function":
        return "a function";
      case "symbol":
        return "a symbol";
      case "bigint":
        return `${String(value).slice(0, 40)}n`;
      case "object":
        if (value === null) return "null";
        if (Array.isArray(value)) return `an array of ${value.length}`;
        if (ArrayBuffer.isView(value)) return `${nameOf(value)} of ${(value as Uint8Array).length ?? value.byteLength}`;
        return nameOf(value) === "Object" ? "an object" : `an object of class ${nameOf(value)}`;
      default:
        return Object.is(value, -0) ? "-0" : String(value);
    }
  } catch {
    return "an object that cannot be read";
  }
}

function nameOf(value: object): string {
  const name: unknown = value.constructor?.name;
  return typeof name === "string" && name !== "" ? name.slice(0, 40) : "Object";
}

/** The one phrase. */
export function phrase(expected: string, where: string, received: unknown): string {
  return `expected ${expected} for ${where} but received ${describe(received)}`;
}

export interface NumberRule {
  min: number;
  max: number;
  integer?: boolean;
}

function ruleText({ min, max, integer }: NumberRule, received: unknown): string {
  const kind = integer ? "an integer" : "a number";
  if (min === -Infinity && max === Infinity) return kind;
  // The last integer that a double holds exactly is an end only to who went beyond it.
  const open = max === Infinity || (max === Number.MAX_SAFE_INTEGER && !(typeof received === "number" && received > max));
  return open ? `${kind} of at least ${min}` : `${kind} from ${min} to ${max}`;
}

/** Faults that are kept in words. A request of a megabyte can hold a hundred thousand of them, and nobody reads more. */
const mostFaults = 100;

/** Collects the faults of one call. Each check returns the value where it is right, and `undefined` otherwise. */
export class Faults {
  /** The first hundred. */
  readonly list: string[] = [];
  /** All of them. */
  count = 0;

  add(expected: string, where: string, received: unknown, remark: () => string = () => ""): void {
    this.say(() => phrase(expected, where, received) + remark());
  }

  /** A fault in words of its own, made only where it is kept. */
  say(words: () => string): void {
    this.count += 1;
    if (this.list.length < mostFaults) this.list.push(words());
  }

  /** Throws one ERR_INVALID_ARG with the faults, if there is any. `what` names the call. */
  raise(what: string): void {
    if (this.count === 0) return;
    const more = this.count > this.list.length ? `; and ${this.count - this.list.length} more` : "";
    const text = this.count === 1 ? this.list[0] : `${this.count} faults: ${this.list.join("; ")}${more}`;
    throw new HimapError("ERR_INVALID_ARG", `${what}: ${text}`, { faults: [...this.list] });
  }

  /**
   * Reads the named properties of an options object, each once. Other names are faults, with the likely one named.
   * An `undefined` property counts as absent.
   */
  properties<K extends string>(value: unknown, where: string, names: readonly K[]): Partial<Record<K, unknown>> | undefined {
    if (typeof value !== "object" || value === null || isArray(value)) {
      this.add("an object", where, value);
      return undefined;
    }
    const found: Partial<Record<K, unknown>> = {};
    try {
      for (const name of names) {
        const property = (value as Record<K, unknown>)[name];
        if (property !== undefined) found[name] = property;
      }
      for (const name of Object.keys(value)) {
        if ((names as readonly string[]).includes(name)) continue;
        this.add("a known option", where, name, () => helpWith(name, names));
      }
    } catch {
      this.add("an object whose properties can be read", where, value);
      return undefined;
    }
    return found;
  }

  number(value: unknown, where: string, rule: NumberRule): number | undefined {
    // Written so that NaN fails it.
    const right = typeof value === "number" && value >= rule.min && value <= rule.max && (!rule.integer || Number.isSafeInteger(value));
    // + 0 turns -0 into 0.
    if (right) return value + 0;
    this.add(ruleText(rule, value), where, value);
    return undefined;
  }

  /** `length` finite numbers. One that is none would make its whole answer none. */
  floats(value: unknown, where: string, length: number): Float32Array | undefined {
    if (!(value instanceof Float32Array) || value.length !== length) {
      this.add(`a Float32Array of ${length}`, where, value);
      return undefined;
    }
    // Millions of them: findIndex takes ten times as long.
    for (let i = 0; i < length; i++) {
      if (Number.isFinite(value[i])) continue;
      this.add("a finite number", `${where}[${i}]`, value[i]);
      return undefined;
    }
    return value;
  }

  boolean(value: unknown, where: string): boolean | undefined {
    if (typeof value === "boolean") return value;
    this.add("true or false", where, value);
    return undefined;
  }

  string(value: unknown, where: string): string | undefined {
    if (typeof value === "string") return value;
    this.add("a string", where, value);
    return undefined;
  }

  oneOf<T extends string>(value: unknown, where: string, choices: readonly T[]): T | undefined {
    if ((choices as readonly unknown[]).includes(value)) return value as T;
    this.add(`one of ${choices.map((choice) => JSON.stringify(choice)).join(", ")}`, where, value);
    return undefined;
  }

  callback<T extends (...args: never[]) => unknown>(value: unknown, where: string): T | undefined {
    if (typeof value === "function") return value as T;
    this.add("a function", where, value);
    return undefined;
  }

  /** An AbortSignal of any realm. */
  signal(value: unknown, where: string): AbortSignal | undefined {
    try {
      const signal = value as AbortSignal;
      const { aborted, addEventListener, removeEventListener } = signal;
      if (typeof aborted === "boolean" && [addEventListener, removeEventListener].every((method) => typeof method === "function")) return signal;
    } catch {
      // Not one.
    }
    this.add("an AbortSignal", where, value);
    return undefined;
  }

  /** The elements of an array or typed array, copied. */
  elements(value: unknown, where: string, most: number): unknown[] | undefined {
    try {
      if (isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
        const source = value as ArrayLike<unknown>;
        if (source.length <= most) return Array.from(source);
        this.add(`at most ${most} elements`, where, value);
        return undefined;
      }
    } catch {
      // Cannot be read.
    }
    this.add("an array", where, value);
    return undefined;
  }
}

/** Array.isArray that does not throw on a revoked proxy. */
export function isArray(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** A name without what styles differ in: `max_new_tokens` and `maxNewTokens` are one. */
const plain = (name: string): string => name.replace(/[-_]/g, "").toLowerCase();

/**
 * What transformers, the OpenAI API, vLLM and llama.cpp call what an option here does: that option, and what to say of it
 * where its name alone does not.
 */
const neighbours = new Map<string, readonly [option: string, says?: string]>([
  ["maxnewtokens", ["maxTokens"]],
  ["maxcompletiontokens", ["maxTokens"]],
  ["maxoutputtokens", ["maxTokens"]],
  ["maxlength", ["maxTokens", "of the answer alone"]],
  ["npredict", ["maxTokens"]],
  ["numpredict", ["maxTokens"]],
  ["minnewtokens", ["minTokens"]],
  ["dosample", ["temperature", "0, the default, is greedy"]],
  ["repeatpenalty", ["repetitionPenalty"]],
  ["numreturnsequences", ["n"]],
  ["eostokenid", ["stopTokenIds"]],
  ["stopsequences", ["stop"]],
  ["stopstrings", ["stop"]],
  ["toplogprobs", ["logprobs"]],
  ["badwordsids", ["logitBias", "-Infinity forbids an id"]],
  ["timeout", ["timeoutMs"]],
  ["imageurl", ["image"]],
  ["devicemap", ["device"]],
  ["ngpulayers", ["device"]],
  ["nthreads", ["threads"]],
  ["numthreads", ["threads"]],
  ["maxnumseqs", ["maxBatch"]],
  ["chattemplate", ["template"]],
]);

/** What to say of an option that is not known: which of `names` it most likely is. */
function helpWith(name: string, names: readonly string[]): string {
  const [option, says] = neighbours.get(plain(name)) ?? [];
  const ours = option && names.find((candidate) => plain(candidate) === plain(option));
  if (ours) return ` (here ${describe(ours)}${says ? `: ${says}` : ""})`;
  const likely = nearest(name, names);
  return likely ? ` (did you mean ${describe(likely)}?)` : "";
}

/** The name that a misspelt one most likely meant: same letters in another style, or up to two slips of the hand. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  if (name.length > 40) return undefined;
  let best: string | undefined;
  let bestDistance = 3;
  for (const candidate of names) {
    const distance = editDistance(plain(name), plain(candidate));
    if (distance < bestDistance && distance < candidate.length / 2) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
