/** The results file of a batch job: begun, taken up again, and appended to. */

import { open, realpath, rename, unlink } from "node:fs/promises";
import path from "node:path";

import { HimapError } from "../errors.cjs";
import { limits } from "../defaults.js";
import { openToRead } from "../open-file.js";
import { beginsWith, fileError, LineFile, readLines } from "./lines.js";
import { checkSame, headerLine, headerMark, readHeader, readRecord, recordLine, type Failure, type FailureCount, type Header, type ItemRecord } from "./records.js";

const where = "--output";

const suffix = ".new";

/** Characters that are written at once when a file is replaced. */
const replaceBy = 1 << 16;

/** A results file, open for this process alone: the journal's lock is held before it is opened. */
export class Results {
  readonly #file: LineFile;
  /** By item: the hash that its record names. */
  readonly #ended: Map<string, string>;
  readonly #failures: Failures;

  private constructor(file: LineFile, ended: Map<string, string>, failures: Failures) {
    this.#file = file;
    this.#ended = ended;
    this.#failures = failures;
  }

  /**
   * Begins a file that is not there or empty; takes up one that is there, and cuts off what a crash left of a line. Nothing of
   * anybody else's is touched, and a file keeps its permissions.
   * @param retryFailed forget the failures, so that their items are run again
   * @throws HimapError ERR_INVALID_ARG where it cannot be written, is something else, or was begun otherwise
   */
  static async open(output: string, header: Header, retryFailed: boolean): Promise<Results> {
    let file = await LineFile.open(output, where);
    try {
      const { ended, failures, end } = await read(file, header, path.basename(output));
      if (end < file.size) await file.truncate(end);
      if (end === 0) await file.append(headerLine(header));
      const fresh = await besideTarget(output);
      await clearLeftover(fresh);
      if (!retryFailed || failures.keys.size === 0) return new Results(file, ended, failures);
      await replace(file, fresh, linesWithout(file, failures.keys));
      for (const key of failures.keys) ended.delete(key);
      await file.close();
      file = await LineFile.open(output, where);
      return new Results(file, ended, new Failures());
    } catch (cause) {
      await file.close().catch(() => undefined);
      throw cause;
    }
  }

  /** Items that have ended, well or not, and those that failed. */
  get ended(): number {
    return this.#ended.size;
  }
  get failed(): number {
    return this.#failures.keys.size;
  }

  /** By code, in the order in which each first came. */
  get failures(): FailureCount[] {
    return this.#failures.counts();
  }

  has(key: string): boolean {
    return this.#ended.has(key);
  }

  /** The hash of the item as it was when it ended. */
  jobOf(key: string): string | undefined {
    return this.#ended.get(key);
  }

  async append(record: ItemRecord): Promise<void> {
    const key = String(record.id);
    if (this.#ended.has(key)) throw new HimapError("ERR_INTERNAL", `expected one record for item ${key} but received a second`);
    this.#ended.set(key, record.job);
    if (!record.ok) this.#failures.add(key, record.error);
    await this.#file.append(recordLine(record));
  }

  sync(): Promise<void> {
    return this.#file.sync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** The items that failed, and why. */
class Failures {
  readonly keys = new Set<string>();
  readonly #byCode = new Map<string, FailureCount>();

  add(key: string, { code, message }: Pick<Failure, "code" | "message">): void {
    this.keys.add(key);
    const same = this.#byCode.get(code);
    if (same) same.count += 1;
    else this.#byCode.set(code, { code, count: 1, message });
  }

  counts(): FailureCount[] {
    return [...this.#byCode.values()];
  }
}

/** Every record; `end` is where the last whole line ends, 0 where not even the header was written to its end. */
async function read(file: LineFile, header: Header, name: string): Promise<{ ended: Map<string, string>; failures: Failures; end: number }> {
  const ended = new Map<string, string>();
  const failures = new Failures();
  let end = 0;
  for await (const line of readLines(file.handle, limits.resultLineBytes)) {
    if (line.number === 1) {
      if (!(await beginsWith(file.handle, headerMark))) throw otherFile(name);
      if (!line.ended) break;
      const begun = readHeader(line.bytes);
      if (!begun) throw otherFile(name);
      checkSame(begun, header, name);
    } else if (line.ended) {
      const record = readRecord(line.bytes);
      if (!record || ended.has(record.key)) throw damaged(name, line.number, record?.key);
      ended.set(record.key, record.job);
      if (record.error) failures.add(record.key, record.error);
    }
    if (line.ended) end = line.end;
  }
  return { ended, failures, end };
}

function otherFile(name: string): HimapError {
  return new HimapError("ERR_INVALID_ARG", `${name}: expected results of himap batch, or no file, for ${where} but received another file`, {
    hint: "choose another --output: nothing is written over",
  });
}

function damaged(name: string, number: number, twice: string | undefined): HimapError {
  const received = twice === undefined ? "something else" : `a second one of item ${JSON.stringify(twice)}`;
  return new HimapError("ERR_INVALID_ARG", `${name}: expected an item's record in line ${number} but received ${received}`, {
    hint: "the file was changed by something else; take the line out, or choose another --output",
  });
}

async function* linesWithout(file: LineFile, failed: ReadonlySet<string>): AsyncGenerator<string, void> {
  for await (const { number, bytes } of readLines(file.handle, limits.resultLineBytes)) {
    const record = number === 1 ? undefined : readRecord(bytes);
    if (!record || !failed.has(record.key)) yield `${bytes!.toString("utf8")}\n`;
  }
}

/** Where the file is written anew: beside the file itself, and not beside a link to it. */
async function besideTarget(output: string): Promise<string> {
  return (await realpath(output).catch(() => output)) + suffix;
}

/** Takes away what a process left that ended while it wrote the file anew: what counts is the file itself. */
async function clearLeftover(fresh: string): Promise<void> {
  const handle = await openToRead(fresh).catch(() => undefined);
  if (!handle) return;
  try {
    if ((await handle.stat()).isFile() && (await beginsWith(handle, headerMark))) await unlink(fresh);
  } catch (cause) {
    throw fileError(fresh, where, cause);
  } finally {
    await handle.close();
  }
}

/** Puts `fresh` with these lines in the place of a file at once: at no moment is there half of it. */
async function replace(file: LineFile, fresh: string, lines: AsyncIterable<string>): Promise<void> {
  let made = false;
  try {
    const mode = (await file.handle.stat()).mode & 0o777;
    const handle = await open(fresh, "wx", mode);
    made = true;
    try {
      await handle.chmod(mode); // whatever the umask
      let text = "";
      for await (const line of lines) {
        text += line;
        if (text.length < replaceBy) continue;
        await handle.appendFile(text);
        text = "";
      }
      await handle.appendFile(text);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    await rename(fresh, fresh.slice(0, -suffix.length));
  } catch (cause) {
    if (made) await unlink(fresh).catch(() => undefined);
    throw cause instanceof HimapError ? cause : fileError(fresh, where, cause);
  }
}
