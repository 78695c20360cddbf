/**
 * An engine in a process of its own, so that two of them never share threads, allocator or pages, and each can be timed while
 * the other sleeps: the parent asks, the child answers one request at a time.
 */

import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

/** What a child does, by name. */
export type Handlers = Record<string, (argument: never) => Promise<unknown>>;

type Answer = { value: unknown } | { error: string };

/** The child's side: answers until the parent disconnects. */
export function serve(handlers: Handlers): void {
  process.on("message", ({ name, argument }: { name: string; argument: never }) => {
    const answer = (message: Answer): void => void process.send!(message);
    handlers[name]!(argument).then((value) => answer({ value }), (error: Error) => answer({ error: error.stack ?? String(error) }));
  });
  process.on("disconnect", () => process.exit());
}

/** The parent's side. */
export class Peer<H extends Handlers> {
  readonly #child: ChildProcess;

  /** @param script file in this folder */
  constructor(script: string) {
    this.#child = fork(fileURLToPath(new URL(script, import.meta.url)), { execArgv: ["--import", "tsx"], stdio: ["ignore", 2, 2, "ipc"], serialization: "advanced" });
  }

  ask<K extends keyof H & string>(name: K, argument: Parameters<H[K]>[0]): Promise<Awaited<ReturnType<H[K]>>> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null, signal: string | null): void => reject(new Error(`expected an answer to ${name} but the process ended with ${signal ?? code}`));
      this.#child.once("exit", ended);
      this.#child.once("message", (answer: Answer) => {
        this.#child.off("exit", ended);
        if ("value" in answer) resolve(answer.value as Awaited<ReturnType<H[K]>>);
        else reject(new Error(answer.error));
      });
      this.#child.send({ name, argument });
    });
  }

  /** Resolves when the process has ended. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#child.once("exit", () => resolve());
      this.#child.disconnect();
    });
  }
}
