/** Commands as data: what they take, read from the command line and explained by it, and how they end. */

import { describe, Faults, nearest, phrase } from "../check.js";
import { HimapError, type HimapErrorOptions } from "../errors.cjs";
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

/** A command line that is not as its help says; exit code 2. */
export class UsageError extends HimapError {
  constructor(faults: readonly string[], options: HimapErrorOptions = {}) {
    super("ERR_INVALID_ARG", faults.join("; "), { ...options, faults });
  }
}

/** Of every command, and none of its own business. */
const general: OptionRules = { help: { kind: "flag", help: "this text" }, debug: { kind: "flag", help: "print the stack of a failure" } };

/** An option's name as it is typed, without its dashes. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The question behind an unknown name: whether it was to be this one. */
export function suggestion(name: string, names: readonly string[], prefix = ""): string {
  const likely = nearest(name, names);
  return likely === undefined ? "" : ` (did you mean ${describe(prefix + likely)}?)`;
}

/** What begins with a single dash and has a space is a prompt. */
const optionForm = /^(--.*|-[^ ]+)$/s;

/**
 * Reads the arguments behind a command's name. The only short option is `-h`; `--` ends the options.
 * @returns `undefined` where the help text was asked for
 * @throws UsageError with every fault
 */
export function readArguments<O extends OptionRules>(command: Command<O>, argv: readonly string[]): Arguments<O> | undefined {
  const rules = new Map<string, readonly [name: string, OptionRule]>(
    Object.entries({ ...command.options, ...general }).map(([name, rule]) => [kebab(name), [name, rule]]),
  );
  const where = `himap ${command.name}`;
  const faults = new Faults();
  const operands: string[] = [];
  const options: Record<string, unknown> = {};
  for (let at = 0; at < argv.length; at++) {
    const item = argv[at]!;
    if (item === "-h") return undefined;
    if (item === "--") {
      operands.push(...argv.slice(at + 1));
      break;
    }
    if (!optionForm.test(item)) {
      operands.push(item);
      continue;
    }
    const equals = item.indexOf("=");
    const [flag, inline] = equals < 0 ? [item] : [item.slice(0, equals), item.slice(equals + 1)];
    const found = flag.startsWith("--") ? rules.get(flag.slice(2)) : undefined;
    if (!found) {
      faults.add("a known option", where, flag, () => suggestion(flag, [...rules.keys()], "--"));
    } else if (found[1].kind === "flag") {
      if (inline === undefined) options[found[0]] = true;
      else faults.add("no value", flag, inline);
    } else if (inline === undefined && (argv[at + 1] ?? "--").startsWith("--")) {
      const received = at + 1 < argv.length ? describe(argv[at + 1]) : "nothing";
      faults.say(() => `expected ${found[1].value ?? "a value"} for ${flag} but received ${received}`);
    } else {
      setOption(options, found, flag, inline ?? argv[++at]!, faults);
    }
  }
  const { help, debug: _, ...own } = options;
  if (help) return undefined;
  const names = Object.keys(command.operands);
  // Behind a misspelt option its value looks like an operand, so only the option is reported.
  if (operands.length !== names.length && faults.count === 0) {
    const received = operands.map((operand) => JSON.stringify(operand)).join(" ");
    faults.say(() => `expected ${names.join(" ") || "no operands"} for ${where} but received ${received || "nothing"}`);
  }
  if (faults.count > 0) throw new UsageError(faults.list);
  return { operands, options: own as Arguments<O>["options"] };
}

function setOption(
  options: Record<string, unknown>, [name, { kind }]: readonly [string, OptionRule], flag: string, value: string, faults: Faults,
): void {
  if (kind === "number") {
    // Number() alone takes "" for 0 and knows hexadecimal.
    if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(value)) options[name] = Number(value);
    else faults.add("a number", flag, value);
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
    throw new UsageError([phrase("JSON", option, text)]);
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
    ...section("Options", rows([
      ...options.map(([name, { value, help }]) => [`--${kebab(name)}${value === undefined ? "" : ` ${value}`}`, help] as const),
      ...(operands.length === 0 ? [] : [["--", "ends the options: what follows is an operand, even where it begins with a dash"] as const]),
    ])),
    ...(command.notes ?? []).flatMap((note) => ["", ...wrap(note, 98)]),
    "",
  ].join("\n");
}
