#!/usr/bin/env node
/** The program `himap`: finds the command, runs it, and turns how it ended into an exit code. */

import { once } from "node:events";

import { phrase } from "../check.js";
import { packageVersion } from "../package.js";
import { batch } from "./batch.js";
import { build } from "./build.js";
import { commandHelp, readArguments, Stop, suggestion, UsageError, type Command, type Terminal } from "./command.js";
import { demo } from "./demo.js";
import { doctorCommand } from "./doctor.js";
import { asUsage, failureJson, failureText } from "./failure.js";
import { inspectCommand } from "./inspect.js";
import { run } from "./run.js";
import { weightsConvert, weightsVerify } from "./weights.js";

const commands: readonly Command[] = [run, batch, demo, inspectCommand, weightsConvert, weightsVerify, doctorCommand, build];

/** Exit codes beside 0. A run stopped by a signal ends with 128 and the signal's number, as a shell reports it. */
const exitCodes = { failure: 1, usage: 2, SIGINT: 130, SIGTERM: 143 } as const;

/** Help of several commands. */
function helpText(listed: readonly Command[]): string {
  const width = Math.max(...listed.map(({ name }) => name.length)) + 2;
  return [
    `himap ${packageVersion}: vision-language models with HiMAP visual-token pruning`,
    "",
    ...listed.map(({ name, summary }) => `  himap ${name.padEnd(width)}${summary}`),
    "",
    "himap COMMAND --help explains a command; himap --version prints the version.",
    "With --json a command that fails writes { \"error\": { code, message, ... } } on standard output.",
    "Exit codes: 0 done, 1 failure, 2 a command line that is not as its help says, 130 or 143 interrupted.",
    "",
  ].join("\n");
}

/** `hasWritten`: whether anything has gone to standard output. */
function openTerminal(): { terminal: Terminal; hasWritten: () => boolean } {
  const { stdout, stderr } = process;
  const stop = new AbortController();
  let draining: AbortController | undefined;
  let written = false;
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
  const terminal: Terminal = {
    async write(text) {
      stop.signal.throwIfAborted();
      written = true;
      if (!stdout.write(text)) await once(stdout, "drain", { signal: stop.signal });
    },
    note: (text) => void stderr.write(text),
    isTerminal: { output: stdout.isTTY === true, error: stderr.isTTY === true },
    columns: Math.max(40, stdout.columns ?? 100),
    signal: stop.signal,
    drain: () => (draining ??= new AbortController()).signal,
  };
  return { terminal, hasWritten: () => written };
}

const helpFlags: readonly (string | undefined)[] = ["--help", "-h"];

/** Commands of two words that share the first. */
const groupOf = (word: string | undefined): readonly Command[] => commands.filter(({ name }) => name.startsWith(`${word} `));

/** Finds the command, of one word or two, and what follows its name. */
function findCommand(words: readonly string[]): [Command, rest: readonly string[]] {
  const group = groupOf(words[0]);
  const length = group.length > 0 ? 2 : 1;
  const typed = words.slice(0, length).join(" ");
  const found = commands.find(({ name }) => name === typed);
  if (found) return [found, words.slice(length)];
  const names = (group.length > 0 ? group : commands).map(({ name }) => name);
  const likely = suggestion(typed, [...names, ...names.map((name) => name.split(" ")[0]!)]);
  throw new UsageError([phrase(`one of ${names.join(", ")}`, "the command", typed) + likely]);
}

async function execute(argv: readonly string[], terminal: Terminal): Promise<number> {
  const [first, ...others] = argv;
  if (first === "--version" || first === "-v") {
    await terminal.write(`${packageVersion}\n`);
    return 0;
  }
  const words = first === "help" ? others : argv;
  const [word, next] = words;
  const isEnd = (text: string | undefined): boolean => text === undefined || helpFlags.includes(text);
  // Where a name is only begun, or not even that, it is said how it may go on.
  const listed = isEnd(word) ? commands : isEnd(next) ? groupOf(word) : [];
  if (listed.length > 0) {
    if (first === "help" || helpFlags.includes(word) || helpFlags.includes(next)) {
      await terminal.write(helpText(listed));
      return 0;
    }
    terminal.note(helpText(listed));
    return exitCodes.usage;
  }
  const [command, rest] = findCommand(words);
  const given = first === "help" ? undefined : readArguments(command, rest);
  if (!given) {
    await terminal.write(commandHelp(command));
    return 0;
  }
  try {
    return (await command.run(given, terminal)) ?? 0;
  } catch (cause) {
    throw asUsage(cause, given.options);
  }
}

async function main(argv: readonly string[]): Promise<number> {
  const { terminal, hasWritten } = openTerminal();
  try {
    return await execute(argv, terminal);
  } catch (cause) {
    const reason: unknown = terminal.signal.reason;
    if (reason instanceof Stop) return reason.exitCode;
    const failure = terminal.signal.aborted ? reason : cause;
    // No option takes a flag's name as its value, so what stands before `--` is a flag.
    const flags = argv.slice(0, argv.includes("--") ? argv.indexOf("--") : undefined);
    if (flags.includes("--debug")) terminal.note(`${failure instanceof Error ? failure.stack : String(failure)}\n`);
    terminal.note(failureText(failure));
    // One object at most: behind an answer that has been written, the exit code tells. The reader may have gone meanwhile.
    if (flags.includes("--json") && !hasWritten()) await terminal.write(failureJson(failure)).catch(() => undefined);
    return failure instanceof UsageError ? exitCodes.usage : exitCodes.failure;
  }
}

process.exitCode = await main(process.argv.slice(2));
