/** The items of a batch job, from lines of JSON or from pictures, in the order of the input. */

import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import path from "node:path";

import { Faults, phrase } from "../check.js";
import { limits } from "../defaults.js";
import { HimapError } from "../errors.cjs";
import { openToRead } from "../open-file.js";
import { conversationOf } from "../prompt/conversation.js";
import { pruningFromJson } from "../pruning/json.js";
import type { GenerateOptions, ImageInput, Message, Part } from "../types.js";
import { readLines } from "./lines.js";
import { readPicture } from "./pictures.js";
import type { ItemId } from "./records.js";

/** What to ask of the engine. */
export interface ItemRequest {
  messages: Message[];
  options: GenerateOptions;
}

export interface Item {
  id: ItemId;
  /** The id as a string: no two items have the same. */
  key: string;
  /** From 0, among all items of the input; which shard an item belongs to follows from it. */
  index: number;
  /** Hash of what the input says of it: a resumed job must find it unchanged. */
  job: string;
  /** The request, or what is wrong with the item. */
  request: ItemRequest | HimapError;
}

/** What every item shares. */
export interface ItemDefaults {
  options: GenerateOptions;
  /** System message of items that are a prompt. */
  system?: string | undefined;
}

/** One shard of several, numbered from 1: every `count`th item. */
export interface Shard {
  number: number;
  count: number;
}

export const inShard = ({ index }: Pick<Item, "index">, { number, count }: Shard): boolean => index % count === number - 1;

/** Pictures, each asked the same. */
export function* pictureItems(pictures: readonly { id: string; file: string }[], prompt: string, defaults: ItemDefaults): Generator<Item, void> {
  for (const [index, { id, file }] of pictures.entries()) {
    const messages = conversationOf(prompt, [{ path: file }], defaults.system);
    yield { id, key: id, index, job: hashOf(id), request: { messages, options: defaults.options } };
  }
}

/**
 * Items of a file with a JSON object in each line; lines of nothing but spaces are no items. What is wrong with a line is
 * that item's failure. A line without an `id` of its own, or with one that an earlier line has, is `#N` by its number.
 * @throws HimapError ERR_INVALID_ARG where the file cannot be read
 */
export async function* lineItems(file: string, defaults: ItemDefaults): AsyncGenerator<Item, void> {
  const handle = await openJobs(file);
  const folder = path.dirname(path.resolve(file));
  /** By key: the line that has it. */
  const seen = new Map<string, number>();
  let index = 0;
  try {
    for await (const { number, bytes } of readLines(handle, limits.jobLineBytes)) {
      const text = bytes && trimmed(bytes, number);
      if (text?.length === 0) continue;
      const read = readItem(text, folder, defaults);
      const earlier = read.id === undefined ? undefined : seen.get(String(read.id));
      const id = read.id === undefined || earlier !== undefined ? `#${number}` : read.id;
      seen.set(String(id), number);
      const twice = phrase(`an id that no earlier line has (line ${earlier})`, "id", read.id);
      yield {
        id, key: String(id), index: index++, job: hashOf(text ?? ""),
        request: earlier === undefined ? read.request : new HimapError("ERR_INVALID_ARG", `line ${number}: ${twice}`),
      };
    }
  } finally {
    await handle.close();
  }
}

/**
 * What the places of a job file's items hang on: a hash of all its bytes.
 * @throws HimapError ERR_INVALID_ARG where the file cannot be read
 */
export async function hashOfJobs(file: string): Promise<string> {
  const handle = await openJobs(file);
  const hash = createHash("sha256");
  for await (const chunk of handle.createReadStream()) hash.update(chunk as Buffer);
  return shortHash(hash);
}

async function openJobs(file: string): Promise<FileHandle> {
  const refuse = (received: string, cause?: unknown): never => {
    throw new HimapError("ERR_INVALID_ARG", `${phrase("a file of jobs", "--input", file)} (${received})`, { cause });
  };
  const handle = await openToRead(file).catch((cause: NodeJS.ErrnoException) => refuse(cause.code ?? cause.message, cause));
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  return refuse("it is read more than once, so a pipe or directory will not do");
}

/** Without the spaces around it, and without a byte order mark. */
function trimmed(bytes: Buffer, number: number): Buffer {
  const isSpace = (at: number): boolean => [9, 10, 13, 32].includes(bytes[at]!);
  let [start, end] = [number === 1 && bytes.subarray(0, 3).equals(byteOrderMark) ? 3 : 0, bytes.length];
  while (start < end && isSpace(start)) start += 1;
  while (end > start && isSpace(end - 1)) end -= 1;
  return bytes.subarray(start, end);
}

const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

/** 12 hexadecimal digits. */
export const hashOf = (text: string | Uint8Array): string => shortHash(createHash("sha256").update(text));

const shortHash = (hash: Hash): string => hash.digest("hex").slice(0, 12);

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * @param text `undefined` where the line is too long
 * @internal
 */
export function readItem(text: Buffer | undefined, folder: string, defaults: ItemDefaults): { id?: ItemId; request: Item["request"] } {
  const faults = new Faults();
  const id = { value: undefined as ItemId | undefined };
  let request: Item["request"] | undefined;
  try {
    request = readJob(text, folder, defaults, id, faults);
    faults.raise("job");
  } catch (cause) {
    request = cause as HimapError;
  }
  return { ...(id.value !== undefined && { id: id.value }), request: request! };
}

const jobNames = ["id", "prompt", "image", "images", "system", "messages", "options"] as const;

function readJob(
  text: Buffer | undefined, folder: string, defaults: ItemDefaults, id: { value: ItemId | undefined }, faults: Faults,
): ItemRequest | undefined {
  if (!text) throw new HimapError("ERR_TOO_LARGE", `job: expected a line of at most ${limits.jobLineBytes} bytes but received a longer one`);
  const job = faults.properties(parse(text), "a job", jobNames);
  if (!job) return undefined;
  if (job.id !== undefined) id.value = readId(job.id, faults);
  const options = job.options === undefined ? defaults.options : readOptions(job.options, defaults.options, faults);
  if (job.messages !== undefined) {
    for (const name of ["prompt", "image", "images", "system"] as const) {
      if (job[name] !== undefined) faults.add(`no ${name} beside messages`, name, job[name]);
    }
    return { messages: readMessages(job.messages, folder, faults), options };
  }
  const prompt = faults.string(job.prompt, "prompt (or a list for messages)");
  const system = job.system === undefined ? defaults.system : faults.string(job.system, "system");
  if (job.image !== undefined && job.images !== undefined) faults.add("either image or images", "images", job.images);
  const images = job.image !== undefined ? [job.image] : job.images === undefined ? [] : (faults.elements(job.images, "images", limits.images) ?? []);
  const pictures = images.map((image, i) => readPicture(image, job.image !== undefined ? "image" : `images[${i}]`, folder, faults));
  return { messages: conversationOf(prompt ?? "", pictures as ImageInput[], system), options };
}

function parse(text: Buffer): unknown {
  try {
    return JSON.parse(decoder.decode(text));
  } catch (cause) {
    throw new HimapError("ERR_INVALID_ARG", `job: ${phrase("one JSON object in UTF-8", "a line", text.toString("utf8"))}`, { cause });
  }
}

/** `#` and a number is the name of a line without one. A longer integer has lost its last digits when JSON has been read. */
function readId(value: unknown, faults: Faults): ItemId | undefined {
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    faults.add("an integer of up to 53 bits", "id", value, () => " (write it as text)");
    return undefined;
  }
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (typeof value === "string" && value.length > 0 && value.length <= limits.idCharacters && !/^#\d+$/.test(value)) return value;
  faults.add(`a number or a text of 1 to ${limits.idCharacters} characters, and not # with a number,`, "id", value);
  return undefined;
}

function readOptions(value: unknown, defaults: GenerateOptions, faults: Faults): GenerateOptions {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    faults.add("an object", "options", value);
    return defaults;
  }
  const { pruning, ...options } = value as Record<string, unknown>;
  return { ...defaults, ...options, ...(pruning !== undefined && { pruning: pruningFromJson(pruning, "options.pruning", faults) }) };
}

/** Pictures by path become what the library takes; all else is its to check. */
function readMessages(value: unknown, folder: string, faults: Faults): Message[] {
  const list = faults.elements(value, "messages", limits.messages) ?? [];
  return list.map((message, i) => {
    const { content } = (message ?? {}) as { content?: unknown };
    if (!Array.isArray(content)) return message as Message;
    const parts = content.map((part: unknown, j) => {
      if (typeof part !== "object" || part === null || !("image" in part)) return part as Part;
      return { ...part, image: readPicture(part.image, `messages[${i}].content[${j}].image`, folder, faults) } as Part;
    });
    return { ...(message as Message), content: parts };
  });
}
