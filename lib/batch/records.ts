/**
 * The results of a batch job as lines of JSON: the one place that knows their form (docs/batch.md has it for readers). The
 * first line says what the job was begun with; each further one is the end of one item, and no item has two.
 */

import { describe } from "../check.js";
import { HimapError, type ErrorCode } from "../errors.cjs";
import type { FinishReason, Result, Usage } from "../types.js";
import { keptImageTokens } from "./tally.js";

const format = 1;

/** An item's name: of the job's line, or its picture's path. 7 and "7" are the same item. */
export type ItemId = string | number;

/** What an item that ended its process again and again is recorded with; no `HimapError` has it. */
export const crashed = "ERR_CRASHED";

/** What a job was begun with: only a job that is to be run with the same may go on. */
export interface Header {
  /** Of the model: `engine.info.fingerprint`. */
  fingerprint: string;
  /** Every option that may change a result, by the name that the command line gives it. */
  settings: Readonly<Record<string, unknown>>;
}

export interface Failure {
  code: ErrorCode | typeof crashed;
  message: string;
  retryable: boolean;
  hint?: string;
}

/** Failures of one code, and what the first of them said. */
export interface FailureCount {
  code: Failure["code"];
  count: number;
  message: string;
}

interface Identity {
  id: ItemId;
  /** Hash of the item as it stood in the input. */
  job: string;
}

export interface Success extends Identity {
  ok: true;
  text: string;
  finishReason: FinishReason;
  usage: Usage;
  /** Image tokens behind the last cut. */
  kept: number;
  /** With `n` above 1: every answer, the first of which is the one above. */
  samples?: { text: string; finishReason: FinishReason }[];
}

export interface Failed extends Identity {
  ok: false;
  error: Failure;
}

export type ItemRecord = Success | Failed;

/** No times: two runs of a job have the same lines, in another order. */
export function successOf({ id, job }: Identity, result: Result): Success {
  const { text, finishReason, usage } = result;
  const samples = result.samples?.map((sample) => ({ text: sample.text, finishReason: sample.finishReason }));
  return { id, job, ok: true, text, finishReason, usage, kept: keptImageTokens(result), ...(samples && { samples }) };
}

export function failureOf({ id, job }: Identity, { code, message, retryable, hint }: Failure): Failed {
  return { id, job, ok: false, error: { code, message, retryable, ...(hint !== undefined && { hint }) } };
}

/** What every header begins with, and so every results file. */
export const headerMark = '{"himap":"batch",';

export const headerLine = ({ fingerprint, settings }: Header): string => `${JSON.stringify({ himap: "batch", format, fingerprint, settings })}\n`;

export const recordLine = (record: ItemRecord): string => `${JSON.stringify(record)}\n`;

/** @returns `undefined` where the line is no header of a batch job */
export function readHeader(bytes: Buffer | undefined): Header | undefined {
  const header = parseObject(bytes);
  if (header?.himap !== "batch" || header.format !== format) return undefined;
  const { fingerprint, settings } = header;
  if (typeof fingerprint !== "string" || typeof settings !== "object" || settings === null) return undefined;
  return { fingerprint, settings: settings as Header["settings"] };
}

/** What a resumed job needs to know of a record; `undefined` where the line is none. */
export function readRecord(bytes: Buffer | undefined): { key: string; job: string; error?: Pick<Failure, "code" | "message"> } | undefined {
  const { id, job, ok, error } = parseObject(bytes) ?? {};
  if ((typeof id !== "string" && typeof id !== "number") || typeof job !== "string" || typeof ok !== "boolean") return undefined;
  if (ok) return { key: String(id), job };
  const { code, message } = (error ?? {}) as Partial<Failure>;
  if (typeof code !== "string" || typeof message !== "string") return undefined;
  return { key: String(id), job, error: { code, message } };
}

function parseObject(bytes: Buffer | undefined): Record<string, unknown> | undefined {
  if (!bytes) return undefined;
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Refuses to go on with another model or other options.
 * @throws HimapError ERR_INVALID_ARG that names every difference
 */
export function checkSame(begun: Header, now: Header, file: string): void {
  const names = [...new Set([...Object.keys(begun.settings), ...Object.keys(now.settings)])];
  const differences = names
    .filter((name) => canonical(begun.settings[name]) !== canonical(now.settings[name]))
    .map((name) => `${name} ${textOf(begun.settings[name])} but received ${textOf(now.settings[name])}`);
  if (begun.fingerprint !== now.fingerprint) {
    differences.unshift(`the model with fingerprint ${describe(begun.fingerprint)} but received ${describe(now.fingerprint)}`);
  }
  if (differences.length === 0) return;
  throw new HimapError("ERR_INVALID_ARG", `${file} was begun otherwise: expected ${differences.join("; ")}`, {
    faults: differences,
    hint: "go on with the model and options that it was begun with, or choose another --output",
  });
}

const textOf = (value: unknown): string => (value === undefined ? "not given" : JSON.stringify(value));

/** JSON with the names of objects in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  ) ?? "";
}
