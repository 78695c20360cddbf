#!/usr/bin/env node
/** The program `himap`: finds the command, runs it, and turns how it ended into an exit code. */

import { once } from "node:events";

import { describe } from "../check.js";
import { HimapError } from "../errors.cjs";
import { packageVersion } from "../package.js";
import { batch } from "./batch.js";
import { build } from "./build.js";
import { commandHelp, readArguments, Stop, UsageError, type Command, type Terminal } from "./command.js";
import { demo } from "./demo.js";
import { doctorCommand } from "./doctor.js";
import { inspectCommand } from "./inspect.js";
import { run } from "./run.js";
import { weightsConvert, weightsVerify } from "./weights.js";

const commands: readonly Command[] = [run, batch, demo, inspectCommand, weightsConvert, weightsVerify, doctorCommand, build];

/** Exit codes beside 0. A run stopped by a signal ends with 128 and the signal's number, as a shell reports it. */
const exitCodes = { failure: 1, usage: 2, SIGINT: 130, SIGTERM: 143 } as const;

function helpText(): string {
  const width = Math.max(...commands.map(({ name }) => name.length)) + 2;
  return [
    `himap ${packageVersion}: vision-language models with HiMAP visual-token pruning`,
    "",
    ...commands.map(({ name, summary }) => `  himap ${name.padEnd(width)}${summary}`),
    "",
    "himap COMMAND --help explains a command; himap --version prints the version.",
    "Exit codes: 0 done, 1 failure, 2 a command line that cannot be understood, 130 or 143 interrupted.",
    "",
  ].join("\n");
}

function openTerminal(): Terminal {
  const { stdout, stderr } = process;
  const stop = new AbortController();
  let draining: AbortController | undefined;
  // What has been told to stop is ended by the next signal as usual, for each is only heard once.
  const listen = (name: "SIGINT" | "SIGTERM"): unknown =>
    process.once(name, () => {
      const reason = new Stop(exitCodes[name]);
      if (!draining || draining.signal.aborted) return stop.abort(reason);
      listen(name); // first, as whoever reads of the drain may signal at once
      draining.abort(reason);
    });
  listen("SIGINT");
  listen("SIGTERM");
  // A reader that has seen enough, like `head`, is no failure.
  stdout.on("error", (error: NodeJS.ErrnoException) => stop.abort(error.code === "EPIPE" ? new Stop(0) : error));
  stderr.on("error", () => undefined);
  return {
    async write(text) {
      stop.signal.throwIfAborted();
      if (!stdout.write(text)) await once(stdout, "drain", { signal: stop.signal });
    },
    note: (text) => void stderr.write(text),
    isTerminal: { output: stdout.isTTY === true, error: stderr.isTTY === true },
    columns: Math.max(40, stdout.columns ?? 100),
    signal: stop.signal,
    drain: () => (draining ??= new AbortController()).signal,
  };
}

/** Finds the command, of one word or two, and what follows its name. */
function findCommand(argv: readonly string[]): [Command, rest: readonly string[]] {
  for (const words of [2, 1]) {
    const name = argv.slice(0, words).join(" ");
    const found = commands.find((command) => command.name === name && argv.length >= words);
    if (found) return [found, argv.slice(words)];
  }
  throw new UsageError(`expected one of ${commands.map(({ name }) => name).join(", ")} for the command but received ${describe(argv[0])}`);
}

async function execute(argv: readonly string[], terminal: Terminal): Promise<number> {
  const [first, ...others] = argv;
  if (first === undefined) {
    terminal.note(helpText());
    return exitCodes.usage;
  }
  if (first === "--version" || first === "-v") {
    await terminal.write(`${packageVersion}\n`);
    return 0;
  }
  if (first === "--help" || first === "-h" || (first === "help" && others.length === 0)) {
    await terminal.write(helpText());
    return 0;
  }
  const [command, rest] = findCommand(first === "help" ? others : argv);
  const given = first === "help" ? undefined : readArguments(command, rest);
  if (given) return (await command.run(given, terminal)) ?? 0;
  await terminal.write(commandHelp(command));
  return 0;
}

/** One line that says what failed, and one with the cure where it is known. */
function failureText(cause: unknown): string {
  if (cause instanceof HimapError) return `himap: ${cause.code} ${cause.message}\n${cause.hint === undefined ? "" : `himap: ${cause.hint}\n`}`;
  const { code = "", message } = cause as NodeJS.ErrnoException;
  return `himap: ${code && !message.startsWith(code) ? `${code} ` : ""}${message}\n`;
}

async function main(argv: readonly string[]): Promise<number> {
  const terminal = openTerminal();
  try {
    return await execute(argv, terminal);
  } catch (cause) {
    const reason: unknown = terminal.signal.reason;
    if (reason instanceof Stop) return reason.exitCode;
    if (cause instanceof UsageError) {
      terminal.note(`himap: ${cause.message}\nhimap: try himap --help, or himap COMMAND --help\n`);
      return exitCodes.usage;
    }
    const failure = terminal.signal.aborted ? reason : cause;
    terminal.note(argv.includes("--debug") ? `${failure instanceof Error ? failure.stack : String(failure)}\n` : "");
    terminal.note(failureText(failure));
    return exitCodes.failure;
  }
}

process.exitCode = await main(process.argv.slice(2));
