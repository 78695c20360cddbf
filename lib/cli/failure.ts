/** How a command fails: which of the library's faults are the command line's own, and what is told of a failure. */

import { HimapError } from "../errors.cjs";
import { kebab, UsageError } from "./command.js";
import { jsonText } from "./output.js";

/** Options that the library keeps inside others. */
const grouped: Readonly<Record<string, string>> = {
  "memory.kvBytes": "kvBytes", "memory.embeddingBytes": "embeddingBytes", "pruning.cache": "cache",
};

/** A fault up to its subject, the subject (an option and what of it), and the rest. */
const faultForm = /^(.*?) for ((\w+)([.:[][^"]*)?)( but received .*)$/s;

/**
 * A fault that the library found in an option of the command line, in the command line's words; anything else as it is.
 * @param given the options by the library's names
 */
export function asUsage(cause: unknown, given: Readonly<Record<string, unknown>>): unknown {
  if (!(cause instanceof HimapError) || cause.code !== "ERR_INVALID_ARG") return cause;
  const faults = cause.faults ?? [cause.message.replace(/^[\w ]+: (?=expected )/, "")];
  const translated = faults.map((fault) => inFlags(fault, given));
  return translated.some((fault, i) => fault !== faults[i]) ? new UsageError(translated, { hint: cause.hint, cause }) : cause;
}

function inFlags(fault: string, given: Readonly<Record<string, unknown>>): string {
  const [, expected, subject = "", name = "", rest = "", received] = faultForm.exec(fault) ?? [];
  const inside = grouped[subject] ?? "";
  if (Object.hasOwn(given, inside)) return `${expected} for --${kebab(inside)}${received}`;
  return Object.hasOwn(given, name) ? `${expected} for --${kebab(name)}${partText(rest)}${received}` : fault;
}

/** What of an option's value: of a policy where in it; of a list nothing, as each element was an option. */
const partText = (rest: string): string => (rest === "" || rest.startsWith("[") ? "" : `: ${rest.replace(/^[.:] ?/, "")}`);

/** A line for each thing that is wrong, and one with the cure where it is known. */
export function failureText(cause: unknown): string {
  if (cause instanceof UsageError) return linesOf(...cause.faults!, cause.hint, "try himap --help, or himap COMMAND --help");
  if (cause instanceof HimapError) return linesOf(`${cause.code} ${cause.message}`, cause.hint);
  const { code = "", message } = cause as NodeJS.ErrnoException;
  return linesOf(`${code && !message.startsWith(code) ? `${code} ` : ""}${message}`);
}

const linesOf = (...lines: (string | undefined)[]): string => lines.map((line) => (line === undefined ? "" : `himap: ${line}\n`)).join("");

/** The same for a program, and what had been answered. */
export function failureJson(cause: unknown): string {
  if (!(cause instanceof HimapError)) {
    const { code = "ERR_INTERNAL", message } = cause as NodeJS.ErrnoException;
    return jsonText({ error: { code, message, retryable: false } });
  }
  return jsonText({ error: { ...cause.toJSON(), partial: cause.partial } });
}
