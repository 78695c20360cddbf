/**
 * Which items are in flight, on disk, so that the next start knows what a crash may be owed to: `<output>.journal`. It is
 * also the lock of the job. Each start folds what the last one left into its first line,
 *
 *   {"suspects":{"item":0}}   items that were in flight at a crash, and at how many crashes each was alone
 *   {"start":"item"}          before an item is handed to the engine
 *   {"end":true}              the process ends in good order: what is in flight was given up, and is no suspect
 *
 * and an item counts as in flight from its `start` until its record stands in the results. Losing the journal loses no
 * result, only what is known of crashes.
 */

import { stat, unlink } from "node:fs/promises";

import { phrase } from "../check.js";
import { HimapError } from "../errors.cjs";
import { limits } from "../defaults.js";
import { beginsWith, LineFile, readLines } from "./lines.js";

/** Takes an open file for this process alone; false where another has it. */
export type LockFile = (file: { descriptor: number }) => boolean;

const where = "the journal beside --output";

/** What every journal begins with. */
const mark = '{"suspects":';

/** Items that were in flight at a crash: at how many crashes each was alone. */
export type Suspects = Map<string, number>;

export class Journal {
  readonly #file: LineFile;
  readonly #path: string;
  #begun = false;

  private constructor(file: LineFile, path: string) {
    this.#file = file;
    this.#path = path;
  }

  /**
   * Opens and locks the journal of an output.
   * @throws HimapError ERR_INVALID_ARG where another process is at work on it, it is something else, or it cannot be written
   */
  static async open(output: string, lock: LockFile): Promise<Journal> {
    const path = `${output}.journal`;
    for (;;) {
      const file = await LineFile.open(path, where);
      try {
        if (!lock({ descriptor: file.handle.fd })) {
          throw new HimapError("ERR_INVALID_ARG", `expected an --output that no other process writes but received ${JSON.stringify(output)}`, {
            hint: "another himap batch is at work on it; shards need an --output each",
          });
        }
        if (!(await beginsWith(file.handle, mark))) {
          throw new HimapError("ERR_INVALID_ARG", phrase("a journal of himap batch, or no file,", where, path), {
            hint: "choose another --output: nothing is written over",
          });
        }
        // One that ended meanwhile has taken its journal away, and what is locked is not the file of that name.
        const [locked, named] = [await file.handle.stat(), await stat(path).catch(() => undefined)];
        if (named?.ino === locked.ino && named.dev === locked.dev) return new Journal(file, path);
      } catch (cause) {
        await file.close();
        throw cause;
      }
      await file.close();
    }
  }

  /**
   * What earlier processes left, after what a crash left of a line is cut off.
   * @param hasRecord whether an item's record stands in the results
   */
  async suspects(hasRecord: (key: string) => boolean): Promise<Suspects> {
    let suspects: Suspects = new Map();
    let inFlight = new Set<string>();
    let end = 0;
    for await (const line of readLines(this.#file.handle, limits.resultLineBytes)) {
      if (!line.ended) break;
      end = line.end;
      const entry = readEntry(line.bytes);
      if (entry.suspects) [suspects, inFlight] = [new Map(Object.entries(entry.suspects)), new Set()];
      else if (entry.start !== undefined) inFlight.add(entry.start);
      else if (entry.end) inFlight.clear();
    }
    if (end < this.#file.size) await this.#file.truncate(end);
    const open = [...inFlight].filter((key) => !hasRecord(key));
    for (const key of open) suspects.set(key, (suspects.get(key) ?? 0) + (open.length === 1 ? 1 : 0));
    for (const key of suspects.keys()) if (hasRecord(key)) suspects.delete(key);
    return suspects;
  }

  begin(suspects: Suspects): Promise<void> {
    this.#begun = true;
    return this.#file.append(`${JSON.stringify({ suspects: Object.fromEntries(suspects) })}\n`);
  }

  start(key: string): Promise<void> {
    return this.#file.append(`${JSON.stringify({ start: key })}\n`);
  }

  /**
   * Gives the lock back. `forget`: there is nothing for the next start to know; `end`: what is in flight was given up in
   * good order; `crash`: what is in flight has brought the end about.
   */
  async close(how: "forget" | "end" | "crash"): Promise<void> {
    try {
      // Taken away while it is locked: who waits for it finds out, and makes a new one.
      if (how === "forget" || this.#file.size === 0) await unlink(this.#path);
      // Not begun, what an earlier process left stays as it is.
      else if (how === "end" && this.#begun) await this.#file.append('{"end":true}\n');
    } finally {
      await this.#file.close();
    }
  }
}

interface Entry {
  suspects?: Record<string, number>;
  start?: string;
  end?: boolean;
}

/** A line that is none of ours says nothing. */
function readEntry(bytes: Buffer | undefined): Entry {
  try {
    const { suspects, start, end } = JSON.parse(bytes!.toString("utf8")) as Record<string, unknown>;
    return {
      ...(typeof suspects === "object" && suspects !== null && { suspects: suspects as Record<string, number> }),
      ...(typeof start === "string" && { start }),
      ...(end === true && { end }),
    };
  } catch {
    return {};
  }
}
