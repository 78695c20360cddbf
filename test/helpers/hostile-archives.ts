/** Archives that must be refused, each with what is wrong with it and what the refusal says. */

import type { ErrorCode } from "../../lib/errors.cjs";
import { pickleLimits } from "../../weights-tools/pickle.js";
import {
  bytesOf, little, op, pickledDict, pickledStorage, pickledTensor, torchEntries, torchFile, zipOf, type EntryToZip, type Part,
  type TensorToPickle, type ZipOptions,
} from "./torch-writer.js";

export interface HostileArchive {
  name: string;
  code: ErrorCode;
  says: string;
  bytes: () => Uint8Array;
}

const bad = "ERR_BAD_CHECKPOINT";
const foreign = "ERR_UNSUPPORTED_FILE";
const large = "ERR_TOO_LARGE";
const storage = new Uint8Array(24);
const good = pickledDict([{ name: "w", shape: [6] }]);

/** An archive around opcodes, which stand between PROTO and STOP. */
const pickle = (name: string, code: ErrorCode, says: string, ...parts: Part[]): HostileArchive => ({
  name: `pickle: ${name}`,
  code,
  says,
  bytes: () => zipOf(torchEntries(bytesOf(op.proto, ...parts, op.stop), [storage])),
});

/** A state dict of one tensor that is written as asked. */
const tensor = (name: string, code: ErrorCode, says: string, written: Omit<TensorToPickle, "name">): HostileArchive =>
  pickle(name, code, says, op.dict, op.text("w"), pickledTensor(written), op.setItem);

const zip = (
  name: string,
  code: ErrorCode,
  says: string,
  edit: (entries: EntryToZip[]) => ZipOptions | void,
): HostileArchive => ({
  name: `zip: ${name}`,
  code,
  says,
  bytes: () => {
    const entries = torchEntries(good, [storage]);
    const options = edit(entries) ?? {};
    return zipOf(entries, options);
  },
});

const file = (name: string, code: ErrorCode, says: string, bytes: () => Uint8Array): HostileArchive => ({
  name: `file: ${name}`,
  code,
  says,
  bytes,
});

/** An archive around opcodes beyond a limit, made when they are wanted. */
const flood = (name: string, says: string, opcodes: () => Uint8Array): HostileArchive =>
  file(name, large, says, () => zipOf(torchEntries(bytesOf(op.proto, opcodes(), op.stop), [])));

const entry = (name: string, data: Uint8Array = storage): EntryToZip => ({ name: `archive/${name}`, data });
/** The archive's record of a storage, in the order of `torchEntries`. */
const data0 = 2;
const repeat = (part: Part, times: number): Uint8Array => Buffer.concat(Array.from({ length: times }, () => bytesOf(part)));

/** Opcodes of Python's table that no state dict needs; some of them build objects or call what they find. */
const forbidden: [name: string, ...parts: Part[]][] = [
  ["INST", op.mark, "ios\nsystem\n"],
  ["OBJ", op.mark, op.global("collections OrderedDict"), "o"],
  ["NEWOBJ", op.global("collections OrderedDict"), op.emptyTuple, [0x81]],
  ["NEWOBJ_EX", op.global("collections OrderedDict"), op.emptyTuple, op.dict, [0x92]],
  ["STACK_GLOBAL", op.text("os"), op.text("system"), [0x93]],
  ["EXT1", [0x82, 1]],
  ["EXT2", [0x83, 1, 0]],
  ["EXT4", [0x84, 1, 0, 0, 0]],
  ["PERSID", "Pid\n"],
  ["FRAME", [0x95], little(8, 0)],
  ["MEMOIZE", op.dict, [0x94]],
  ["POP", op.dict, "0"], ["POP_MARK", op.mark, "1"], ["DUP", op.dict, "2"], ["PUT", op.dict, "p0\n"], ["GET", "g0\n"],
  ["INT", "I1\n"], ["LONG", "L1L\n"],
  ["LONG4", [0x8b], little(4, 1), [1]],
  ["STRING", "S'a'\n"], ["BINSTRING", "T", little(4, 1), "a"], ["UNICODE", "Va\n"], ["FLOAT", "F1\n"], ["DICT", op.mark, "d"],
  ["LIST", op.mark, "l"],
  ["EMPTY_SET", [0x8f]],
  ["ADDITEMS", [0x8f], op.mark, [0x90]],
  ["FROZENSET", op.mark, [0x91]],
  ["BINBYTES", "B", little(4, 1), "a"],
  ["SHORT_BINBYTES", "C", [1], "a"],
  ["BYTEARRAY8", [0x96], little(8, 1), "a"],
  ["NEXT_BUFFER", [0x97]],
  ["READONLY_BUFFER", [0x98]],
  ["BINUNICODE8", [0x8d], little(8, 1), "a"],
  ["SHORT_BINUNICODE", [0x8c, 1], "a"],
];

const globals = [
  "os system", "posix system", "builtins eval", "builtins exec", "__builtin__ eval", "subprocess Popen", "nt system",
  "torch load", "torch._utils _rebuild_tensor", "torch.storage _load_from_bytes", "torch.hub load",
  "numpy.core.multiarray _reconstruct", "argparse Namespace", "collections defaultdict", "functools partial",
  "runpy _run_code", "webbrowser open", "torch  FloatStorage", "torch FloatStorage ", "Torch FloatStorage",
  "torch UntypedStorage", "__main__ Model", " ",
];

export const hostileArchives: HostileArchive[] = [
  ...forbidden.map(([name, ...parts]) => pickle(`opcode ${name}`, foreign, "an opcode of a saved state dict", ...parts)),
  ...globals.map((name) =>
    pickle(
      `name ${JSON.stringify(name)}`,
      foreign, "a name of a saved state dict", op.global(name), op.text("id"), op.tuple1, op.reduce,
    ),
  ),
  pickle("protocol 4", foreign, "protocol 4", [0x80, 4], op.dict),
  pickle("nothing at all", bad, "the stack"),
  pickle("two values", bad, "one value", op.dict, op.dict),
  pickle("a memo that was never set", bad, "memo 7", op.get(7)),
  pickle("a mark that is never used", bad, "the stack", op.dict, op.mark),
  pickle("a tuple without its mark", bad, "an open mark", op.dict, op.tuple),
  pickle("a pair below a mark", bad, "2 values", op.dict, op.dict, op.mark, op.tuple2),
  pickle("items for a tuple", bad, "a dict", op.emptyTuple, op.text("a"), op.none, op.setItem),
  pickle("items for a list", bad, "a dict", op.list, op.text("a"), op.none, op.setItem),
  pickle("an odd number of items", bad, "pairs", op.dict, op.mark, op.text("a"), op.setItems),
  pickle("a key that is a tuple", bad, "a string or a number", op.dict, op.emptyTuple, op.none, op.setItem),
  pickle("a key twice", bad, "stands once", op.dict, op.text("a"), op.none, op.setItem, op.text("a"), op.none, op.setItem),
  pickle("a number for a key twice", bad, "stands once", op.dict, op.int(7), op.none, op.setItem, op.int(7), op.none, op.setItem),
  pickle("a number for a tensor's name", foreign, "received 7", op.dict, op.int(7), pickledTensor({ shape: [6] }), op.setItem),
  pickle("an item for a dict", bad, "a list", op.dict, op.none, op.append),
  pickle("a string beyond the end", bad, "more bytes", "X", little(4, 1000), "a"),
  pickle("a string of 4 GB", large, "at most 65536", "X", [255, 255, 255, 255]),
  pickle("a string that is no UTF-8", bad, "UTF-8", "X", little(4, 2), [0xff, 0xfe]),
  pickle("a number of 255 bytes", large, "at most 8 bytes", [0x8a, 255], new Uint8Array(255)),
  pickle("a number beyond 2^53", large, "less than 2^53", op.dict, [0x8a, 8], [255, 255, 255, 255, 255, 255, 255, 127]),
  pickle("a name without its line's end", bad, "a line", "ctorch"),
  pickle("more after the end", bad, "more after its end", op.dict, op.stop, op.dict),
  pickle("marks without end", large, "the open marks", repeat(op.mark, 65)),
  pickle("a stack without end", large, "the stack", repeat(op.none, 100_001)),
  pickle("a memo numbered far beyond what it holds", large, "a number of the memo", op.dict, [0x72], little(4, pickleLimits.memo)),
  flood("a memo without end", "the memo", () => bytesOf(op.dict, memoFlood())),
  flood("opcodes without end", "the opcodes", () => bytesOf(op.dict, Buffer.alloc(2 * pickleLimits.opcodes, op.put(0)))),
  flood("dicts without end", "the dicts, lists and tuples", () => containerFlood(op.dict)),
  flood("lists without end", "the dicts, lists and tuples", () => containerFlood(op.list)),
  flood("empty tuples without end", "the dicts, lists and tuples", () => containerFlood(op.emptyTuple)),
  flood("tuples without end, each around the one before", "the dicts, lists and tuples", () =>
    bytesOf(op.none, Buffer.alloc(pickleLimits.containers + 1, Buffer.from(op.tuple1))),
  ),
  flood("calls of OrderedDict without end", "the dicts, lists and tuples", () =>
    bytesOf(
      op.global("collections OrderedDict"), op.put(0), op.emptyTuple, op.put(1), op.reduce,
      containerFlood(bytesOf(op.get(0), op.get(1), op.reduce)),
    ),
  ),
  flood("a pickle of 33 MB", "at most 32000000 bytes", () => new Uint8Array(33_000_000)),
  pickle("a call of what is no name", bad, "a name", op.text("os.system"), op.emptyTuple, op.reduce),
  pickle("a call without a tuple", bad, "a tuple", op.global("collections OrderedDict"), op.dict, op.reduce),
  pickle(
    "a storage type called", foreign, "a call as torch.save writes it", op.global("torch FloatStorage"), op.int(5), op.tuple1,
    op.reduce,
  ),
  pickle(
    "an OrderedDict of arguments", foreign, "a call as torch.save", op.global("collections OrderedDict"), op.list, op.tuple1,
    op.reduce,
  ),
  pickle(
    "a parameter of what is no tensor", foreign, "a call as torch.save", op.global("torch._utils _rebuild_parameter"),
    op.none, op.yes, op.dict, op.tuple3, op.reduce,
  ),
  pickle(
    "a tensor of no arguments", bad, "(storage, offset", op.global("torch._utils _rebuild_tensor_v2"), op.emptyTuple,
    op.reduce,
  ),
  pickle("state for a tensor", foreign, "the metadata of a dict", pickledTensor({ shape: [6] }), op.dict, op.build),
  pickle("state that is no dict", foreign, "the metadata of a dict", op.dict, op.text("__reduce__"), op.build),
  pickle("a persistent id that is a string", bad, "a persistent id", op.text("storage"), op.persistent),
  pickle(
    "a persistent id of another kind", bad, "a persistent id", op.mark, op.text("module"), op.none, op.text("0"),
    op.text("cpu"), op.int(1), op.tuple, op.persistent,
  ),
  pickle("a storage of a type that is none", bad, "a storage type", pickledStorage("collections OrderedDict", "0", 6)),
  pickle(
    "a storage key that leads elsewhere", bad, "an entry under data/", pickledStorage("torch FloatStorage", "../version", 1),
  ),
  pickle("a storage key without an entry", bad, "an entry under data/", pickledStorage("torch FloatStorage", "9", 1)),
  pickle("a storage larger than its entry", bad, "at most 24 bytes", pickledStorage("torch FloatStorage", "0", 7)),
  pickle("a storage of 2^52 elements", bad, "at most 24 bytes", pickledStorage("torch DoubleStorage", "0", 2 ** 52)),
  pickle("a negative storage", bad, "a whole number from 0", pickledStorage("torch FloatStorage", "0", -1)),
  pickle("a result that is no dict", foreign, "a dict of tensors", op.list),
  pickle("a result that is a tensor", foreign, "a dict of tensors", pickledTensor({ shape: [6] })),
  pickle(
    "a value that is no tensor", foreign, "a tensor", op.dict, op.text("w"),
    pickledTensor({ shape: [6] }),
    op.setItem, op.text("lr"), op.float(0.1), op.setItem,
  ),
  pickle("a name that is a number", foreign, "strings", op.dict, op.int(1), pickledTensor({ shape: [6] }), op.setItem),
  pickle("a dict that holds itself", foreign, "a tensor", op.dict, op.put(0), op.text("state_dict"), op.get(0), op.setItem),
  pickle(
    "a name of 2 KB", large, "at most 1024 bytes", op.dict,
    op.text("w".repeat(2048)),
    pickledTensor({ shape: [6] }),
    op.setItem,
  ),
  tensor("a tensor beyond its storage", bad, "the end of a tensor", { elements: 6, shape: [7] }),
  tensor("a tensor beyond its storage by its offset", bad, "the end of a tensor", { elements: 6, offset: 1, shape: [6] }),
  tensor("an offset of 2^52", bad, "the end of a tensor", { elements: 6, offset: 2 ** 52, shape: [1] }),
  tensor("a negative offset", bad, "the offset of a tensor", { elements: 6, offset: -1, shape: [6] }),
  tensor("a negative side", bad, "whole numbers from 0", { elements: 6, shape: [-1], stride: [1] }),
  tensor("sides whose product leaves 2^53", bad, "less than 2^53", { elements: 6, shape: [2 ** 30, 2 ** 30] }),
  tensor("sides whose product comes round to few", bad, "less than 2^53", {
    elements: 6,
    shape: [2 ** 32, 2 ** 32],
    stride: [0, 0],
  }),
  tensor("columns before rows", foreign, "lies row by row", { elements: 6, shape: [2, 3], stride: [1, 2] }),
  tensor("a step of two", foreign, "lies row by row", { elements: 6, shape: [3], stride: [2] }),
  tensor("one element for many", foreign, "lies row by row", { elements: 6, shape: [6], stride: [0] }),
  tensor("a negative stride", bad, "the stride of a tensor", { elements: 6, shape: [6], stride: [-1] }),
  tensor("strides of another rank", bad, "as its size has", { elements: 6, shape: [6], stride: [6, 1] }),
  tensor("nine dimensions", large, "at most 8 dimensions", { elements: 1, shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] }),

  zip("a compressed entry", foreign, "compression method", (entries) => void (entries[data0]!.method = 8)),
  zip("a compressed pickle", foreign, "compression method", (entries) => void (entries[0]!.method = 8)),
  zip("an encrypted entry", foreign, "no encryption", (entries) => void (entries[0]!.flags = 1)),
  zip("two data.pkl", bad, "one data.pkl", (entries) => void entries.push({ name: "other/data.pkl", data: good })),
  zip("no data.pkl", bad, "one data.pkl", (entries) => void entries.shift()),
  zip("a doubled name", bad, "stands once", (entries) => void entries.push(entry("data/0"))),
  zip("a second folder", bad, "names under", (entries) => void entries.push({ name: "elsewhere/data/0", data: storage })),
  zip("TorchScript", foreign, "TorchScript", (entries) => void entries.push(entry("code/__torch__.py"))),
  zip("TorchScript by its constants", foreign, "TorchScript", (entries) => void entries.push(entry("constants.pkl"))),
  zip("big-endian", foreign, "little", (entries) => void (entries[1]!.data = Buffer.from("big"))),
  zip("an order of bytes of a megabyte", foreign, "little", (entries) => void (entries[1]!.data = new Uint8Array(1 << 20))),
  zip("entries that overlap", bad, "where the entry before it ends", (entries) => void (entries[data0]!.lies = { size: 40 })),
  zip(
    "two names of one entry",
    bad,
    "the same name",
    (entries) => void entries.push({ ...entry("data/1"), lies: { localOffset: 0 } }),
  ),
  zip(
    "an entry beyond the directory",
    bad,
    "where the directory begins",
    (entries) => void (entries[data0]!.lies = { size: 1e6 }),
  ),
  zip("an entry of 4 GB", bad, "where the directory begins", (entries) => void (entries[data0]!.lies = { size: 0xfffffffe })),
  zip(
    "a place beyond the file",
    bad,
    "where the directory begins",
    (entries) => void (entries[data0]!.lies = { localOffset: 1e9 }),
  ),
  zip("a place within another entry", bad, "a local header", (entries) => void (entries[data0]!.lies = { localOffset: 1 })),
  zip(
    "another name in the local header",
    bad,
    "the same name",
    (entries) => void (entries[data0]!.lies = { localName: "archive/data/7" }),
  ),
  zip("a packed size that differs", bad, "as it is stored", (entries) => void (entries[data0]!.lies = { packed: 3 })),
  zip("another disk", bad, "disk 0", (entries) => void (entries[data0]!.lies = { disk: 1 })),
  file("a name that is no UTF-8", bad, "UTF-8", () => {
    const bytes = Buffer.from(zipOf(torchEntries(good, [storage])));
    bytes[bytes.lastIndexOf("archive/version")] = 0xff;
    return bytes;
  }),
  zip("a name of 2 KB", large, "at most 1024 bytes", (entries) => void entries.push(entry("x".repeat(2048)))),
  zip(
    "zip64 sizes without their field",
    bad,
    "a zip64 field",
    (entries) => void (entries[data0]!.lies = { local64: true, extra: new Uint8Array(0) }),
  ),
  zip(
    "a zip64 field that is short",
    bad,
    "8 bytes for each value",
    (entries) => void (entries[data0]!.lies = { local64: true, extra: bytesOf(little(2, 1), little(2, 8), little(8, 24)) }),
  ),
  zip(
    "a zip64 field cut short",
    bad,
    "whole fields",
    (entries) => void (entries[data0]!.lies = { local64: true, extra: bytesOf(little(2, 1), little(2, 24), little(8, 24)) }),
  ),
  zip("a zip64 size of 2^63", bad, "less than 2^53", (entries) => {
    const most = bytesOf([255, 255, 255, 255, 255, 255, 255, 127]);
    entries[data0]!.lies = { local64: true, extra: bytesOf(little(2, 1), little(2, 24), most, most, little(8, 0)) };
  }),
  zip("a zip64 end that says more entries", bad, "as the zip64 end record says", () => ({ end64: { entries: 9 } })),
  zip("a zip64 end that says another place", bad, "as the zip64 end record says", () => ({ end64: { offset: 0 } })),
  zip("zip64 marks without a zip64 end", bad, "a zip64 end record", () => ({ end: { entries: 0xffff } })),
  zip("a zip64 end elsewhere", bad, "its place", () => ({ end64: { place: 0 } })),
  zip("a zip64 end with another signature", bad, "its signature", () => ({ end64: { record: new Uint8Array(56) } })),
  zip("a zip64 end of another size", bad, "its size", () => ({
    end64: { record: bytesOf("PK\x06\x06", little(8, 99), new Uint8Array(44)) },
  })),
  zip("a zip64 directory of 2^40 entries", large, "at most 110000 entries", () => ({
    end: { entries: 0xffff },
    end64: { entries: 2 ** 40 },
  })),
  zip("fewer entries than the directory has", bad, "what its 3 entries take", () => ({ end: { entries: 3 } })),
  zip("more entries than the directory has", bad, "an entry", () => ({ end: { entries: 9 } })),
  zip("a directory elsewhere", bad, "where the end records begin", () => ({ end: { offset: 7 } })),
  zip("a directory longer than it is", bad, "where the end records begin", () => ({ end: { bytes: 9999 } })),
  zip("another disk's directory", bad, "one disk", () => ({ end: { disk: 3 } })),
  zip("bytes behind the directory", bad, "where the end records begin", () => ({ tail: storage })),

  file("nothing", bad, "a zip archive", () => new Uint8Array(0)),
  file("noise", bad, "a zip archive", () => new Uint8Array(5000).fill(7)),
  file("the form before torch 1.6", foreign, "torch 1.6", () =>
    bytesOf(op.proto, [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19], op.stop, good),
  ),
  file("a bare pickle", bad, "a zip archive", () => good),
  file("safetensors under another name", bad, "a zip archive", () => bytesOf(little(8, 2), "{}")),
  file("a Git LFS pointer", bad, "a Git LFS pointer", () =>
    Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
  ),
  file("a zip's beginning and no end", bad, "an end record", () => bytesOf("PK\x03\x04", new Uint8Array(100))),
  file("an end record alone", bad, "one data.pkl", () => zipOf([])),
  file("bytes behind the end record", bad, "an end record", () => bytesOf(torchFile([{ name: "w", shape: [6] }]), [0])),
];

/** One value remembered under more keys than are allowed. */
function memoFlood(): Uint8Array {
  const puts = Buffer.alloc(5 * (pickleLimits.memo + 1));
  for (let i = 0; i <= pickleLimits.memo; i++) {
    puts[5 * i] = 0x72;
    puts.writeUInt32LE(i, 5 * i + 1);
  }
  return puts;
}

/** A list of more containers than are allowed, appended by the thousand so that the stack stays small. */
function containerFlood(container: Part): Uint8Array {
  const thousand = bytesOf(op.mark, repeat(container, 1000), op.appends);
  return bytesOf(op.list, repeat(thousand, pickleLimits.containers / 1000 + 1));
}
