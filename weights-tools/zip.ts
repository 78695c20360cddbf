/**
 * The directory of a zip archive whose entries are stored, not compressed, so that each entry is a range of the file. Sizes
 * come from the central directory, and every range is checked: within the file, before the directory, no two overlapping.
 * Nothing is unpacked, so no archive can grow.
 */

import { fault, quote } from "../lib/checkpoint/fault.js";
import type { ByteSource } from "./byte-source.js";

export interface ZipEntry {
  name: string;
  /** Of its bytes, from the start of the file. */
  offset: number;
  bytes: number;
}

/** A checkpoint has one entry per tensor and a few more. */
export const zipLimits = { entries: 110_000, directoryBytes: 64_000_000, nameBytes: 1024 } as const;

const signatures = { local: 0x04034b50, central: 0x02014b50, end: 0x06054b50, end64: 0x06064b50, locator64: 0x07064b50 };
/** Bytes of the fixed part of each record. */
const sizes = { local: 30, central: 46, end: 22, end64: 56, locator64: 20 };
const commentLimit = 0xffff;
/** Values that send the reader to the zip64 records. */
const marker16 = 0xffff;
const marker32 = 0xffffffff;
const zip64Field = 0x0001;
const encryptedFlags = 0x0001 | 0x0040 | 0x2000;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function bad(where: string, expected: string, subject: string, received: string | number): never {
  return fault("ERR_BAD_CHECKPOINT", where, expected, subject, String(received));
}

/** A 64-bit number that a double holds exactly. */
function wide(view: DataView, at: number, where: string, subject: string): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) bad(where, "less than 2^53", subject, String(value));
  return Number(value);
}

interface Directory {
  entries: number;
  offset: number;
  bytes: number;
}

/** The last record of the file: a signature whose comment ends exactly where the file does. */
async function findEnd(source: ByteSource): Promise<{ view: DataView; at: number }> {
  const length = Math.min(source.size, sizes.end + commentLimit);
  const tail = await source.read(source.size - length, length);
  const view = viewOf(tail);
  for (let at = length - sizes.end; at >= 0; at--) {
    if (view.getUint32(at, true) !== signatures.end || at + sizes.end + view.getUint16(at + 20, true) !== length) continue;
    return { view: viewOf(tail.subarray(at)), at: source.size - length + at };
  }
  return bad(source.name, "an end record", "a zip archive", "none, the file is cut short or no zip");
}

/** The zip64 end record, where there is one; it must stand just before its locator. */
async function readEnd64(source: ByteSource, endAt: number): Promise<(Directory & { at: number }) | undefined> {
  const locatorAt = endAt - sizes.locator64;
  if (locatorAt < sizes.end64) return undefined;
  const locator = viewOf(await source.read(locatorAt, sizes.locator64));
  if (locator.getUint32(0, true) !== signatures.locator64) return undefined;
  const where = `${source.name}, zip64 end`;
  const at = wide(locator, 8, where, "its place");
  if (at !== locatorAt - sizes.end64) bad(where, String(locatorAt - sizes.end64), "its place", at);
  if (locator.getUint32(4, true) !== 0 || locator.getUint32(16, true) > 1) bad(where, "one disk", "the archive", "several");
  const record = viewOf(await source.read(at, sizes.end64));
  if (record.getUint32(0, true) !== signatures.end64) bad(where, "its signature", "the record", record.getUint32(0, true));
  if (record.getBigUint64(4, true) !== BigInt(sizes.end64 - 12)) {
    bad(where, String(sizes.end64 - 12), "its size", String(record.getBigUint64(4, true)));
  }
  if (record.getUint32(16, true) !== 0 || record.getUint32(20, true) !== 0) bad(where, "one disk", "the archive", "several");
  const entries = wide(record, 32, where, "the number of entries");
  if (wide(record, 24, where, "the number of entries") !== entries) {
    bad(where, "all entries on one disk", "the archive", "several");
  }
  return {
    entries,
    bytes: wide(record, 40, where, "the directory's size"),
    offset: wide(record, 48, where, "the directory's place"),
    at,
  };
}

/** Where the central directory lies: from the end record, or from the zip64 one where a value does not fit or both are there. */
async function findDirectory(source: ByteSource): Promise<Directory> {
  const { view, at } = await findEnd(source);
  const where = `${source.name}, end record`;
  const end64 = await readEnd64(source, at);
  if (view.getUint16(4, true) % marker16 !== 0 || view.getUint16(6, true) % marker16 !== 0) {
    bad(where, "one disk", "the archive", "several");
  }
  const pick = (value: number, marker: number, wideValue: number | undefined, subject: string): number => {
    if (value === marker && wideValue === undefined) bad(where, "a zip64 end record", subject, "none");
    if (value !== marker && wideValue !== undefined && wideValue !== value) {
      bad(where, `${wideValue}, as the zip64 end record says,`, subject, value);
    }
    return wideValue ?? value;
  };
  const directory = {
    entries: pick(view.getUint16(10, true), marker16, end64?.entries, "the number of entries"),
    bytes: pick(view.getUint32(12, true), marker32, end64?.bytes, "the directory's size"),
    offset: pick(view.getUint32(16, true), marker32, end64?.offset, "the directory's place"),
  };
  if (pick(view.getUint16(8, true), marker16, end64?.entries, "the entries of this disk") !== directory.entries) {
    bad(where, "all entries on one disk", "the archive", "several");
  }
  const end = end64?.at ?? at;
  if (directory.offset + directory.bytes !== end) {
    bad(where, `${end}, where the end records begin,`, "the directory's end", directory.offset + directory.bytes);
  }
  if (directory.entries > zipLimits.entries || directory.bytes > zipLimits.directoryBytes) {
    fault(
      "ERR_TOO_LARGE",
      source.name,
      `at most ${zipLimits.entries} entries and ${zipLimits.directoryBytes} bytes`,
      "the directory",
      `${directory.entries} in ${directory.bytes}`,
    );
  }
  return directory;
}

interface CentralEntry {
  name: string;
  nameBytes: Uint8Array;
  local: number;
  bytes: number;
}

/** 64-bit sizes and place, in this order, each only where the record itself has the marker. */
function readZip64Field(extra: Uint8Array, wanted: boolean[], where: string): (number | undefined)[] {
  if (!wanted.some(Boolean)) return wanted.map(() => undefined);
  const view = viewOf(extra);
  for (let at = 0; at + 4 <= extra.length; ) {
    const length = view.getUint16(at + 2, true);
    if (at + 4 + length > extra.length) bad(where, "whole fields", "the extra data", "one cut short");
    if (view.getUint16(at, true) === zip64Field) {
      let next = at + 4;
      return wanted.map((present) => {
        if (!present) return undefined;
        if (next + 8 > at + 4 + length) bad(where, "8 bytes for each value that needs them", "the zip64 field", length);
        next += 8;
        return wide(view, next - 8, where, "a value of the zip64 field");
      });
    }
    at += 4 + length;
  }
  return bad(where, "a zip64 field", "the extra data", "none");
}

function readCentral(directory: Uint8Array, at: number, file: string): { entry: CentralEntry; next: number } {
  const view = viewOf(directory);
  if (at + sizes.central > directory.length || view.getUint32(at, true) !== signatures.central) {
    bad(
      file,
      "an entry",
      `byte ${at} of the zip directory`,
      at + sizes.central > directory.length ? "its end" : "something else",
    );
  }
  const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [
    number,
    number,
    number,
  ];
  const next = at + sizes.central + nameLength + extraLength + commentLength;
  if (next > directory.length) bad(file, `at most ${directory.length} bytes`, "the zip directory", next);
  if (nameLength > zipLimits.nameBytes) {
    fault("ERR_TOO_LARGE", file, `at most ${zipLimits.nameBytes} bytes`, "the name of an entry", String(nameLength));
  }
  const nameBytes = directory.subarray(at + sizes.central, at + sizes.central + nameLength);
  let name: string;
  try {
    name = decoder.decode(nameBytes);
  } catch {
    return bad(file, "UTF-8", `the name of the entry at byte ${at} of the zip directory`, "other bytes");
  }
  const where = `${file}, entry ${quote(name)}`;
  if (view.getUint16(at + 8, true) & encryptedFlags) {
    fault("ERR_UNSUPPORTED_FILE", where, "no encryption", "the entry", "an encrypted one");
  }
  const method = view.getUint16(at + 10, true);
  if (method !== 0) fault("ERR_UNSUPPORTED_FILE", where, "0, stored,", "the compression method", String(method));
  const [packed, bytes, local] = [20, 24, 42].map((field) => view.getUint32(at + field, true)) as [number, number, number];
  const extra = directory.subarray(at + sizes.central + nameLength, at + sizes.central + nameLength + extraLength);
  // The field holds the plain size first, then the packed one, then the place.
  const [bytes64, packed64, local64] = readZip64Field(
    extra,
    [bytes === marker32, packed === marker32, local === marker32],
    where,
  );
  if ((bytes64 ?? bytes) !== (packed64 ?? packed)) {
    bad(where, `${bytes64 ?? bytes}, as it is stored,`, "the packed size", packed64 ?? packed);
  }
  if (view.getUint16(at + 34, true) !== 0) bad(where, "disk 0", "the entry", view.getUint16(at + 34, true));
  return { entry: { name, nameBytes, local: local64 ?? local, bytes: bytes64 ?? bytes }, next };
}

/** Finds an entry's bytes behind its local header, whose extra data has a length of its own. */
async function locate(
  source: ByteSource,
  { name, nameBytes, local, bytes }: CentralEntry,
  end: number,
): Promise<ZipEntry & { local: number }> {
  const where = `${source.name}, entry ${quote(name)}`;
  if (local + sizes.local + nameBytes.length > end) {
    bad(where, `at most ${end}, where the directory begins,`, "the end of its header", local + sizes.local + nameBytes.length);
  }
  const header = await source.read(local, sizes.local + nameBytes.length);
  const view = viewOf(header);
  if (view.getUint32(0, true) !== signatures.local) bad(where, "a local header", `byte ${local}`, "something else");
  if (view.getUint16(6, true) & encryptedFlags || view.getUint16(8, true) !== 0) {
    bad(where, "stored, as the directory says,", "its local header", "another method");
  }
  const own = header.subarray(sizes.local);
  if (view.getUint16(26, true) !== nameBytes.length || own.some((byte, i) => byte !== nameBytes[i])) {
    bad(where, "the same name", "its local header", "another");
  }
  const offset = local + sizes.local + nameBytes.length + view.getUint16(28, true);
  if (offset + bytes > end) bad(where, `at most ${end}, where the directory begins,`, "the end of its bytes", offset + bytes);
  return { name, offset, bytes, local };
}

/**
 * Reads the directory of an archive.
 * @returns Entries by name, in the order of the directory.
 * @throws HimapError ERR_BAD_CHECKPOINT: damaged, contradictory, overlapping or doubled entries; ERR_UNSUPPORTED_FILE: a
 * compressed or encrypted entry; ERR_TOO_LARGE: beyond `zipLimits`.
 */
export async function readZip(source: ByteSource): Promise<Map<string, ZipEntry>> {
  const directory = await findDirectory(source);
  const bytes = await source.read(directory.offset, directory.bytes);
  const central: CentralEntry[] = [];
  let at = 0;
  for (let i = 0; i < directory.entries; i++) {
    const { entry, next } = readCentral(bytes, at, source.name);
    central.push(entry);
    at = next;
  }
  if (at !== bytes.length) {
    bad(source.name, `${at} bytes, what its ${central.length} entries take,`, "the zip directory", bytes.length);
  }

  const entries = new Map<string, ZipEntry & { local: number }>();
  for (const entry of central) {
    if (entries.has(entry.name)) bad(source.name, "a name that stands once", "the zip directory", quote(entry.name));
    entries.set(entry.name, await locate(source, entry, directory.offset));
  }
  let end = 0;
  for (const { name, local, offset, bytes } of [...entries.values()].sort((left, right) => left.local - right.local)) {
    if (local < end) {
      bad(`${source.name}, entry ${quote(name)}`, `at least ${end}, where the entry before it ends,`, "its place", local);
    }
    end = offset + bytes;
  }
  return new Map(Array.from(entries, ([name, { offset, bytes }]) => [name, { name, offset, bytes }]));
}
