/**
 * A state dict out of a pickle without Python: a machine for the few opcodes that `torch.save` writes for one, which knows a
 * closed list of names and gives each a meaning of its own. Nothing is looked up, imported, called or built beyond that, so
 * a pickle can only describe tensors here. Everything outside the lists is refused by name.
 */

import { fault, quote } from "../lib/checkpoint/fault.js";
import { safetensorsLimits } from "../lib/checkpoint/safetensors.js";

/**
 * A tensor takes some 40 opcodes of 300 bytes, 6 to 9 containers and 10 values of the memo, so these have room for more than
 * 30,000 tensors in one file, and a pickle that is all containers still costs less than 100 MB.
 */
export const pickleLimits = {
  bytes: 32_000_000, opcodes: 1_500_000, containers: 300_000, stack: 100_000, memo: 500_000, marks: 64, stringBytes: 65_536,
} as const;

/** Storage types by their Python names, as safetensors calls them, and the bytes of an element. */
const storages = new Map<string, { type: string; size: number }>([
  ["torch FloatStorage", { type: "F32", size: 4 }], ["torch HalfStorage", { type: "F16", size: 2 }],
  ["torch BFloat16Storage", { type: "BF16", size: 2 }], ["torch DoubleStorage", { type: "F64", size: 8 }],
  ["torch LongStorage", { type: "I64", size: 8 }], ["torch IntStorage", { type: "I32", size: 4 }],
  ["torch ShortStorage", { type: "I16", size: 2 }], ["torch CharStorage", { type: "I8", size: 1 }],
  ["torch ByteStorage", { type: "U8", size: 1 }], ["torch BoolStorage", { type: "BOOL", size: 1 }],
]);
const orderedDict = "collections OrderedDict";
const rebuildTensor = "torch._utils _rebuild_tensor_v2";
const rebuildParameter = "torch._utils _rebuild_parameter";
const torchSize = "torch Size";

/** A run of elements in an entry of the archive. */
export interface PickledStorage {
  /** Name of the entry under `data/`. */
  key: string;
  type: string;
  /** Bytes of an element. */
  size: number;
  elements: number;
}

/** A row-major view of a storage. */
export class PickledTensor {
  constructor(
    readonly storage: PickledStorage,
    /** In elements. */
    readonly offset: number,
    readonly shape: readonly number[],
  ) {}

  get elements(): number {
    return this.shape.reduce((product, side) => product * side, 1);
  }
}

class Global {
  constructor(readonly name: string) {}
}
const globals = new Map(
  [orderedDict, rebuildTensor, rebuildParameter, torchSize, ...storages.keys()].map((name) => [name, new Global(name)]),
);
class Tuple {
  constructor(readonly items: readonly PickleValue[]) {}
}
class List {
  readonly items: PickleValue[] = [];
}
export class PickledDict {
  /** By `keyOf`. */
  readonly entries = new Map<string, PickleValue>();
}
class Storage {
  constructor(readonly storage: PickledStorage) {}
}
export type PickleValue = null | boolean | number | string | Global | Tuple | List | PickledDict | Storage | PickledTensor;

/** Half a surrogate pair, which no text of a pickle holds, since that is UTF-8. */
const numberMark = "\ud800";

/**
 * What an entry of a dict is found by. A number is marked text there: its own hash in a Map has no seed, so that a file could
 * choose a hundred thousand that collide.
 */
function keyOf(key: string | number): string {
  return typeof key === "string" ? key : `${numberMark}${key}`;
}

/** The number under which an entry of a dict stands, as text; undefined where its key is a string. */
export function numberOfKey(key: string): string | undefined {
  return key.startsWith(numberMark) ? key.slice(numberMark.length) : undefined;
}

/** Names a value in messages. */
export function describePickled(value: PickleValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null || typeof value === "boolean" || typeof value === "number") return String(value);
  if (typeof value === "string") return quote(value);
  if (value instanceof Global) return value.name;
  if (value instanceof PickledDict) return `a dict of ${value.entries.size}`;
  if (value instanceof Tuple) return `a tuple of ${value.items.length}`;
  return value instanceof List ? "a list" : value instanceof Storage ? "a storage" : "a tensor";
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

class Machine {
  #at = 0;
  #opcodeAt = 0;
  #containers = 0;
  readonly #view: DataView;
  readonly #stack: PickleValue[] = [];
  /** Heights of the stack where a mark was set. */
  readonly #marks: number[] = [];
  readonly #memo: PickleValue[] = [];
  readonly #storages = new Map<string, PickledStorage>();

  constructor(
    private readonly bytes: Uint8Array,
    private readonly where: string,
    private readonly entryBytes: (key: string) => number | undefined,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): PickleValue {
    for (let count = 0; ; count++) {
      if (count >= pickleLimits.opcodes) this.#tooLarge(`at most ${pickleLimits.opcodes}`, "the opcodes", "more");
      this.#opcodeAt = this.#at;
      const opcode = this.#byte();
      if (opcode === 0x2e) break; // STOP
      this.#step(opcode);
      if (this.#stack.length > pickleLimits.stack) this.#tooLarge(`at most ${pickleLimits.stack}`, "the stack", "more");
    }
    const result = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) {
      this.#bad("one value", "the end of the pickle", `${this.#stack.length + 1}`);
    }
    if (this.#at !== this.bytes.length) this.#bad(`${this.#at} bytes`, "the pickle", `${this.bytes.length}, more after its end`);
    return result;
  }

  /** One opcode; the comments give the names that Python has for them. */
  #step(opcode: number): void {
    switch (opcode) {
      case 0x80: { // PROTO
        const version = this.#byte();
        if (version !== 2) this.#unsupported("protocol 2, which torch.save writes,", "the pickle", `protocol ${version}`);
        return;
      }
      case 0x7d: return this.#pushContainer(new PickledDict()); // EMPTY_DICT
      case 0x5d: return this.#pushContainer(new List()); // EMPTY_LIST
      case 0x29: return this.#pushContainer(new Tuple([])); // EMPTY_TUPLE
      case 0x4e: return this.#push(null); // NONE
      case 0x88: return this.#push(true); // NEWTRUE
      case 0x89: return this.#push(false); // NEWFALSE
      case 0x28: // MARK
        if (this.#marks.push(this.#stack.length) > pickleLimits.marks) {
          this.#tooLarge(`at most ${pickleLimits.marks}`, "the open marks", "more");
        }
        return;
      case 0x74: return this.#pushContainer(new Tuple(this.#popMark())); // TUPLE
      case 0x85: return this.#pushContainer(new Tuple(this.#popMany(1))); // TUPLE1
      case 0x86: return this.#pushContainer(new Tuple(this.#popMany(2))); // TUPLE2
      case 0x87: return this.#pushContainer(new Tuple(this.#popMany(3))); // TUPLE3
      case 0x4b: return this.#push(this.#byte()); // BININT1
      case 0x4d: return this.#push(this.#take(2, (at) => this.#view.getUint16(at, true))); // BININT2
      case 0x4a: return this.#push(this.#take(4, (at) => this.#view.getInt32(at, true))); // BININT
      case 0x8a: return this.#push(this.#long()); // LONG1
      case 0x47: return this.#push(this.#take(8, (at) => this.#view.getFloat64(at, false))); // BINFLOAT
      case 0x58: return this.#push(this.#text(this.#take(4, (at) => this.#view.getUint32(at, true)))); // BINUNICODE
      case 0x55: return this.#push(this.#text(this.#byte())); // SHORT_BINSTRING
      case 0x63: return this.#push(this.#global()); // GLOBAL
      case 0x71: return this.#remember(this.#byte()); // BINPUT
      case 0x72: return this.#remember(this.#take(4, (at) => this.#view.getUint32(at, true))); // LONG_BINPUT
      case 0x68: return this.#recall(this.#byte()); // BINGET
      case 0x6a: return this.#recall(this.#take(4, (at) => this.#view.getUint32(at, true))); // LONG_BINGET
      case 0x73: return this.#setItems(this.#popMany(2)); // SETITEM
      case 0x75: return this.#setItems(this.#popMark()); // SETITEMS
      case 0x61: return this.#append(this.#popMany(1)); // APPEND
      case 0x65: return this.#append(this.#popMark()); // APPENDS
      case 0x51: return this.#push(this.#storage(this.#pop())); // BINPERSID
      case 0x52: return this.#reduce(); // REDUCE
      case 0x62: return this.#build(); // BUILD
      default:
        return this.#unsupported("an opcode of a saved state dict", "the pickle", `0x${opcode.toString(16).padStart(2, "0")}`);
    }
  }

  #place(): string {
    return `${this.where}, byte ${this.#opcodeAt}`;
  }
  #bad(expected: string, subject: string, received: string): never {
    return fault("ERR_BAD_CHECKPOINT", this.#place(), expected, subject, received);
  }
  #tooLarge(expected: string, subject: string, received: string): never {
    return fault("ERR_TOO_LARGE", this.#place(), expected, subject, received);
  }
  #unsupported(expected: string, subject: string, received: string): never {
    return fault("ERR_UNSUPPORTED_FILE", this.#place(), expected, subject, received, {
      hint: "only plain state dicts of tensors are read, and nothing in a pickle is ever run; save the model with safetensors",
    });
  }

  #take<T>(length: number, read: (at: number) => T): T {
    const at = this.#at;
    if (length > this.bytes.length - at) this.#bad(`${length} more bytes`, "an opcode's argument", `${this.bytes.length - at}`);
    this.#at += length;
    return read(at);
  }
  #byte(): number {
    return this.#take(1, (at) => this.bytes[at]!);
  }
  #text(length: number): string {
    if (length > pickleLimits.stringBytes) this.#tooLarge(`at most ${pickleLimits.stringBytes} bytes`, "a string", `${length}`);
    const bytes = this.#take(length, (at) => this.bytes.subarray(at, at + length));
    try {
      return utf8.decode(bytes);
    } catch {
      return this.#bad("UTF-8", "a string", "other bytes");
    }
  }
  /** A whole number of up to 8 bytes, two's complement. */
  #long(): number {
    const length = this.#byte();
    if (length > 8) this.#tooLarge("at most 8 bytes", "a whole number", `${length}`);
    const digits = this.#take(length, (at) => this.bytes.subarray(at, at + length));
    const value = BigInt.asIntN(8 * length, digits.reduceRight((sum, digit) => (sum << 8n) | BigInt(digit), 0n));
    if (!Number.isSafeInteger(Number(value))) this.#tooLarge("less than 2^53", "a whole number", `${value}`);
    return Number(value);
  }
  #line(): string {
    const end = this.bytes.indexOf(0x0a, this.#at);
    if (end < 0) this.#bad("a line", "an opcode's argument", "the end of the pickle");
    const text = this.#text(end - this.#at);
    this.#at += 1;
    return text;
  }
  #global(): Global {
    const name = `${this.#line()} ${this.#line()}`;
    return globals.get(name) ?? this.#unsupported("a name of a saved state dict", "GLOBAL", quote(name));
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }
  /** One byte of a pickle makes a dict of 230 bytes, so these are counted. */
  #pushContainer(value: Tuple | List | PickledDict): void {
    if (++this.#containers > pickleLimits.containers) {
      this.#tooLarge(`at most ${pickleLimits.containers}`, "the dicts, lists and tuples", "more");
    }
    this.#push(value);
  }
  /** What stands above the last mark. */
  #popMany(count: number): PickleValue[] {
    const above = this.#stack.length - (this.#marks.at(-1) ?? 0);
    if (count > above) this.#bad(`${count} values`, "the stack", `${above}`);
    return this.#stack.splice(this.#stack.length - count);
  }
  #pop(): PickleValue {
    return this.#popMany(1)[0]!;
  }
  #popMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) this.#bad("an open mark", "the stack", "none");
    return this.#stack.splice(mark);
  }
  #top(): PickleValue {
    const [value] = this.#popMany(1) as [PickleValue];
    this.#stack.push(value);
    return value;
  }
  /** Every writer numbers its values from 0, so one beyond the limit is refused whatever came before it. */
  #remember(key: number): void {
    if (key >= pickleLimits.memo) this.#tooLarge(`less than ${pickleLimits.memo}`, "a number of the memo", `${key}`);
    this.#memo[key] = this.#top();
  }
  #recall(key: number): void {
    const value = this.#memo[key];
    if (value === undefined) this.#bad("a value that was remembered", `memo ${key}`, "none");
    this.#push(value);
  }

  #setItems(items: PickleValue[]): void {
    const target = this.#top();
    if (!(target instanceof PickledDict)) this.#bad("a dict", "the target of items", describePickled(target));
    if (items.length % 2 !== 0) this.#bad("pairs", "the items of a dict", `${items.length} values`);
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i]!;
      if (typeof key !== "string" && typeof key !== "number") this.#bad("a string or a number", "a key", describePickled(key));
      const name = keyOf(key);
      if (target.entries.has(name)) this.#bad("a key that stands once", "a dict", describePickled(key));
      target.entries.set(name, items[i + 1]!);
    }
  }
  #append(items: PickleValue[]): void {
    const target = this.#top();
    if (!(target instanceof List)) this.#bad("a list", "the target of items", describePickled(target));
    for (const item of items) target.items.push(item);
  }

  /** ("storage", type, key, location, elements); the location is where the tensor was, and is of no matter here. */
  #storage(value: PickleValue): Storage {
    const items = value instanceof Tuple ? value.items : [];
    const [kind, marker, key, location, elements] = items;
    if (items.length !== 5 || kind !== "storage" || typeof key !== "string" || typeof location !== "string") {
      this.#bad('("storage", type, key, location, elements)', "a persistent id", describePickled(value));
    }
    const type = marker instanceof Global ? storages.get(marker.name) : undefined;
    if (type === undefined) this.#bad("a storage type", "a persistent id", describePickled(marker));
    if (typeof elements !== "number" || !Number.isSafeInteger(elements) || elements < 0) {
      this.#bad("a whole number from 0", "the elements of a storage", describePickled(elements));
    }
    const bytes = /^[0-9]{1,16}$/.test(key) ? this.entryBytes(key) : undefined;
    if (bytes === undefined) this.#bad("an entry under data/", "the key of a storage", quote(key));
    if (elements * type.size > bytes) {
      this.#bad(`at most ${bytes} bytes, its entry's,`, `storage ${key}`, `${elements * type.size}`);
    }
    const known = this.#storages.get(key);
    if (known !== undefined && (known.type !== type.type || known.elements !== elements)) {
      this.#bad(`${known.elements} elements of ${known.type}, as before,`, `storage ${key}`, `${elements} of ${type.type}`);
    }
    const storage = known ?? { key, type: type.type, size: type.size, elements };
    this.#storages.set(key, storage);
    return new Storage(storage);
  }

  /** What the allowed names mean when they are called. */
  #reduce(): void {
    const [callable, argument] = this.#popMany(2) as [PickleValue, PickleValue];
    if (!(callable instanceof Global)) this.#bad("a name", "REDUCE", describePickled(callable));
    if (!(argument instanceof Tuple)) this.#bad("a tuple", `the arguments of ${callable.name}`, describePickled(argument));
    const { items } = argument;
    if (callable.name === rebuildTensor) this.#push(this.#tensor(items));
    else if (callable.name === rebuildParameter && items.length === 3 && items[0] instanceof PickledTensor) this.#push(items[0]);
    else if (callable.name === orderedDict && items.length === 0) this.#pushContainer(new PickledDict());
    else if (callable.name === torchSize && items.length === 1 && items[0] instanceof Tuple) this.#push(items[0]);
    else this.#unsupported("a call as torch.save writes it", callable.name, describePickled(argument));
  }

  /** (storage, offset, size, stride, requires_grad, hooks[, metadata]) */
  #tensor(items: readonly PickleValue[]): PickledTensor {
    const [source, offset, size, stride, requiresGrad, hooks] = items;
    if (items.length < 6 || items.length > 7 || !(source instanceof Storage) || typeof requiresGrad !== "boolean") {
      this.#bad("(storage, offset, size, stride, requires_grad, hooks)", rebuildTensor, `${items.length} values`);
    }
    if (!(hooks instanceof PickledDict) || hooks.entries.size > 0) {
      this.#unsupported("no hooks", "a tensor", describePickled(hooks));
    }
    const shape = this.#sizes(size, "the size of a tensor");
    const strides = this.#sizes(stride, "the stride of a tensor");
    if (strides.length !== shape.length) {
      this.#bad(`${shape.length} numbers, as its size has,`, "the stride of a tensor", `${strides.length}`);
    }
    const { storage } = source;
    if (typeof offset !== "number" || !Number.isSafeInteger(offset) || offset < 0) {
      this.#bad("a whole number from 0", "the offset of a tensor", describePickled(offset));
    }
    const elements = shape.reduce((product, side) => product * side, 1);
    if (!Number.isSafeInteger(elements)) this.#bad("less than 2^53", "the elements of a tensor", `size [${shape}]`);
    if (elements > 0 && elements > storage.elements - offset) {
      this.#bad(`at most ${storage.elements}, what its storage has,`, "the end of a tensor", `${offset + elements}`);
    }
    this.#checkRowMajor(shape, strides);
    return new PickledTensor(storage, elements > 0 ? offset : 0, shape);
  }

  /** Strides of a side of one, and of a tensor without elements, are of no matter. */
  #checkRowMajor(shape: number[], strides: number[]): void {
    if (shape.includes(0)) return;
    let wanted = 1;
    for (let side = shape.length - 1; side >= 0; side--) {
      if (shape[side] !== 1 && strides[side] !== wanted) {
        this.#unsupported("a tensor that lies row by row", `size [${shape}]`, `strides [${strides}]`);
      }
      wanted *= shape[side]!;
    }
  }

  #sizes(value: PickleValue | undefined, subject: string): number[] {
    const items = value instanceof Tuple ? value.items : undefined;
    if (items === undefined) return this.#bad("a tuple", subject, describePickled(value));
    if (items.length > safetensorsLimits.rank) {
      this.#tooLarge(`at most ${safetensorsLimits.rank} dimensions`, subject, `${items.length}`);
    }
    return items.map((item) => {
      if (typeof item === "number" && Number.isSafeInteger(item) && item >= 0) return item;
      return this.#bad("whole numbers from 0", subject, describePickled(item));
    });
  }

  /** The state of an OrderedDict, `_metadata`, is dropped; nothing else may have one. */
  #build(): void {
    const [target, state] = this.#popMany(2) as [PickleValue, PickleValue];
    if (!(target instanceof PickledDict) || !(state instanceof PickledDict)) {
      this.#unsupported("the metadata of a dict", "BUILD", `${describePickled(state)} for ${describePickled(target)}`);
    }
    this.#push(target);
  }
}

/**
 * Reads a pickle as `torch.save` writes one for a state dict.
 * @param where The file, for messages.
 * @param entryBytes Size of the archive's entry of a storage, by key; undefined where there is none.
 * @returns The one value that the pickle ends with.
 * @throws HimapError ERR_UNSUPPORTED_FILE: an opcode, a name, a call or a stride outside what is read; ERR_BAD_CHECKPOINT:
 * damaged or contradictory; ERR_TOO_LARGE: beyond `pickleLimits`.
 */
export function unpickle(bytes: Uint8Array, where: string, entryBytes: (key: string) => number | undefined): PickleValue {
  return new Machine(bytes, where, entryBytes).run();
}
