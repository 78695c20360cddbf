/** Commands as data: what they take, read from the command line and explained by it, and how they end. */

import { parseArgs } from "node:util";

import { Faults, phrase } from "../check.js";
import { wrap } from "../text.js";

/** What an option takes: nothing, a text, a number, or a text each time that it is given. */
export type OptionKind = "flag" | "text" | "number" | "texts";

export interface OptionRule {
  kind: OptionKind;
  /** Stands for the value in the help text. */
  value?: string;
  help: string;
}

/** By the names of the library's own options; the command line writes them in kebab case. */
export type OptionRules = Readonly<Record<string, OptionRule>>;

interface ValueOf {
  flag: true;
  text: string;
  number: number;
  texts: string[];
}

export interface Arguments<O extends OptionRules> {
  /** One for each of the command's operands. */
  operands: string[];
  options: { [K in keyof O]?: ValueOf[O[K]["kind"]] };
}

/** Where a command writes, and what stops it. */
export interface Terminal {
  /** Writes to standard output, and waits while its reader is behind. Rejects when the reader has gone. */
  write(text: string): Promise<void>;
  /** Writes to standard error. */
  note(text: string): void;
  /** Whether standard output and standard error are terminals. */
  readonly isTerminal: { readonly output: boolean; readonly error: boolean };
  /** Characters in a line. */
  readonly columns: number;
  /** Fires on Ctrl-C, on SIGTERM, and when the reader of standard output has gone. */
  readonly signal: AbortSignal;
  /**
   * For a command that can finish what it has begun: the first Ctrl-C or SIGTERM then fires the signal that this returns,
   * with a `Stop` as its reason, and only the next one `signal`.
   */
  drain(): AbortSignal;
}

/** Why a run was stopped from outside, and the exit code that this gives. */
export class Stop {
  constructor(readonly exitCode: number) {}
}

export interface Command<O extends OptionRules = OptionRules> {
  /** One word, or two: `weights convert`. */
  name: string;
  summary: string;
  /** What each operand stands for; all must be given. */
  operands: Readonly<Record<string, string>>;
  options: O;
  /** Further paragraphs of the help text. */
  notes?: readonly string[];
  /** Returns the exit code where it is not 0. Failures are thrown. */
  run(given: Arguments<O>, terminal: Terminal): Promise<number | void>;
}

/** Gives `run` the types of the options. */
export function defineCommand<const O extends OptionRules>(command: Command<O>): Command<O> {
  return command;
}

/** A command line that cannot be understood; exit code 2. */
export class UsageError extends Error {}

/** Of every command, and none of its own business. */
const general: OptionRules = { help: { kind: "flag", help: "this text" }, debug: { kind: "flag", help: "print the stack of a failure" } };

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/**
 * Reads the arguments behind a command's name.
 * @returns `undefined` where the help text was asked for
 * @throws UsageError with every fault
 */
export function readArguments<O extends OptionRules>(command: Command<O>, argv: readonly string[]): Arguments<O> | undefined {
  const rules = new Map<string, readonly [name: string, OptionRule]>(
    Object.entries({ ...command.options, ...general }).map(([name, rule]) => [kebab(name), [name, rule]]),
  );
  const { tokens } = parseArgs({
    args: [...argv],
    options: Object.fromEntries([...rules].map(([name, [, { kind }]]) => [name, { type: kind === "flag" ? "boolean" : "string" } as const])),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const where = `himap ${command.name}`;
  const faults = new Faults();
  const operands: string[] = [];
  const options: Record<string, unknown> = {};
  for (const token of tokens) {
    if (token.kind === "positional") operands.push(token.value);
    if (token.kind !== "option") continue;
    if (token.rawName === "-h") return undefined;
    const found = token.rawName.startsWith("--") ? rules.get(token.name) : undefined;
    // The names are listed anew for each fault, which then comes with the likely name.
    if (!found) faults.properties({ [token.rawName.replace(/^-+/, "")]: true }, where, [...rules.keys()]);
    else setOption(options, found, token, faults);
  }
  const { help, debug: _, ...own } = options;
  if (help) return undefined;
  const names = Object.keys(command.operands);
  // Behind a misspelt option its value looks like an operand, so only the option is reported.
  if (operands.length !== names.length && faults.list.length === 0) {
    const received = operands.map((operand) => JSON.stringify(operand)).join(" ");
    faults.list.push(`expected ${names.join(" ") || "no operands"} for ${where} but received ${received || "nothing"}`);
  }
  if (faults.list.length > 0) throw new UsageError(faults.list.join("\nhimap: "));
  return { operands, options: own as Arguments<O>["options"] };
}

function setOption(
  options: Record<string, unknown>, [name, { kind, value: placeholder }]: readonly [string, OptionRule],
  { rawName, value, inlineValue }: { rawName: string; value?: string | undefined; inlineValue?: boolean | undefined }, faults: Faults,
): void {
  if (kind === "flag") {
    if (value === undefined) options[name] = true;
    else faults.add("no value", rawName, value);
  } else if (value === undefined || (value.startsWith("--") && !inlineValue)) {
    const received = value === undefined ? "nothing" : JSON.stringify(value);
    faults.list.push(`expected ${placeholder ?? "a value"} for ${rawName} but received ${received}`);
  } else if (kind === "number") {
    // Number() alone takes "" for 0 and knows hexadecimal.
    if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(value)) options[name] = Number(value);
    else faults.add("a number", rawName, value);
  } else if (kind === "texts") {
    options[name] = [...((options[name] as string[] | undefined) ?? []), value];
  } else {
    options[name] = value;
  }
}

/** Reads an option's value as JSON. */
export function readJson(text: string, option: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(phrase("JSON", option, text));
  }
}

/** Help of one command. */
export function commandHelp(command: Command): string {
  const options = Object.entries({ ...command.options, ...general });
  const operands = Object.entries(command.operands);
  const rows = (entries: readonly (readonly [string, string])[]): string[] => {
    const width = Math.max(...entries.map(([name]) => name.length)) + 2;
    return entries.flatMap(([name, help]) => wrap(help, 96 - width).map((line, i) => `  ${(i === 0 ? name : "").padEnd(width)}${line}`));
  };
  const section = (title: string, lines: string[]): string[] => (lines.length === 0 ? [] : ["", title, ...lines]);
  return [
    `himap ${[command.name, ...operands.map(([name]) => name)].join(" ")} [options]`,
    "",
    ...wrap(command.summary, 98),
    ...section("Operands", operands.length === 0 ? [] : rows(operands)),
    ...section("Options", rows(options.map(([name, { value, help }]) => [`--${kebab(name)}${value === undefined ? "" : ` ${value}`}`, help]))),
    ...(command.notes ?? []).flatMap((note) => ["", ...wrap(note, 98)]),
    "",
  ].join("\n");
}
