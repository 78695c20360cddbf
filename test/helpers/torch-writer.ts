/** Writes `torch.save` archives part by part, so that a test can spoil any part of one. */

export type Part = Uint8Array | string | readonly number[];

/** Joins parts; strings are UTF-8. */
export function bytesOf(...parts: Part[]): Uint8Array {
  return Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part as Uint8Array))));
}

/** Opcodes of a pickle, by the names that Python has for them. */
export const op = {
  proto: [0x80, 2],
  mark: [0x28],
  dict: [0x7d],
  list: [0x5d],
  emptyTuple: [0x29],
  tuple: [0x74],
  tuple1: [0x85],
  tuple2: [0x86],
  tuple3: [0x87],
  none: [0x4e],
  yes: [0x88],
  no: [0x89],
  setItem: [0x73],
  setItems: [0x75],
  append: [0x61],
  appends: [0x65],
  persistent: [0x51],
  reduce: [0x52],
  build: [0x62],
  stop: [0x2e],
  put: (key: number): Uint8Array => bytesOf([0x71, key]),
  get: (key: number): Uint8Array => bytesOf([0x68, key]),
  global: (name: string): Uint8Array => bytesOf("c", name.replace(" ", "\n"), "\n"),
  text: (text: string): Uint8Array => bytesOf("X", little(4, Buffer.byteLength(text)), text),
  int: (value: number): Uint8Array =>
    value >= -(2 ** 31) && value < 2 ** 31 ? bytesOf("J", little(4, value)) : bytesOf([0x8a, 8], little(8, value)),
  float: (value: number): Uint8Array => {
    const bytes = Buffer.alloc(9, "G");
    bytes.writeDoubleBE(value, 1);
    return bytes;
  },
} as const;

/** A whole number, little-endian, two's complement. */
export function little(bytes: number, value: number): Uint8Array {
  const out = Buffer.alloc(8);
  out.writeBigInt64LE(BigInt(value));
  return out.subarray(0, bytes);
}

export interface TensorToPickle {
  name: string;
  /** Python's name of the storage type. Default `torch FloatStorage`. */
  storage?: string;
  /** Entry under data/. Default: the tensor's index. */
  key?: string;
  /** Of the storage. Default: what the shape takes. */
  elements?: number;
  offset?: number;
  shape: number[];
  /** Default: row-major. */
  stride?: number[];
}

function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, side) => shape.slice(side + 1).reduce((product, length) => product * length, 1));
}

const tupleOf = (items: readonly number[]): Uint8Array => bytesOf(op.mark, ...items.map(op.int), op.tuple);

/** ("storage", type, key, "cpu", elements), taken as a persistent id. */
export function pickledStorage(storage: string, key: string, elements: number): Uint8Array {
  return bytesOf(
    op.mark, op.text("storage"), op.global(storage), op.text(key), op.text("cpu"), op.int(elements), op.tuple, op.persistent,
  );
}

export function pickledTensor({
  storage = "torch FloatStorage",
  key = "0",
  elements,
  offset = 0,
  shape,
  stride = rowMajor(shape),
}: Omit<TensorToPickle, "name">): Uint8Array {
  const held = elements ?? shape.reduce((product, side) => product * side, 1);
  return bytesOf(
    op.global("torch._utils _rebuild_tensor_v2"),
    op.mark, pickledStorage(storage, key, held), op.int(offset), tupleOf(shape), tupleOf(stride), op.no,
    op.global("collections OrderedDict"), op.emptyTuple, op.reduce, op.tuple, op.reduce,
  );
}

/** A state dict of some tensors. */
export function pickledDict(tensors: readonly TensorToPickle[]): Uint8Array {
  const items = tensors.map((tensor, i) => bytesOf(op.text(tensor.name), pickledTensor({ key: String(i), ...tensor })));
  return bytesOf(op.proto, op.dict, op.mark, ...items, op.setItems, op.stop);
}

export interface EntryToZip {
  name: string;
  data: Uint8Array;
  method?: number;
  flags?: number;
  /** What the records say in place of the truth. */
  lies?: {
    localName?: string;
    localOffset?: number;
    size?: number;
    packed?: number;
    local64?: boolean;
    extra?: Uint8Array;
    disk?: number;
  };
}

export interface ZipOptions {
  comment?: Uint8Array;
  /** Write zip64 end records, with these values in place of the truth. */
  end64?: { entries?: number; offset?: number; bytes?: number; place?: number; record?: Uint8Array };
  /** What the end record says in place of the truth. */
  end?: { entries?: number; offset?: number; bytes?: number; disk?: number };
  /** Between the last entry and the directory, and behind the directory. */
  gap?: Uint8Array;
  tail?: Uint8Array;
}

/** Stored entries, each aligned to 64 bytes as torch aligns them. */
export function zipOf(
  entries: readonly EntryToZip[],
  { comment = new Uint8Array(0), end64, end = {}, gap, tail }: ZipOptions = {},
): Uint8Array {
  const parts: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let at = 0;
  const add = (part: Uint8Array): void => {
    parts.push(part);
    at += part.length;
  };
  for (const { name, data, method = 0, flags = 0, lies = {} } of entries) {
    const local = at;
    const localName = Buffer.from(lies.localName ?? name);
    const padding = (64 - ((at + 30 + localName.length + 4) % 64)) % 64;
    const size = lies.size ?? data.length;
    const packed = lies.packed ?? size;
    add(
      bytesOf(
        "PK\x03\x04", little(2, 20), little(2, flags), little(2, method),
        new Uint8Array(8),
        little(4, packed), little(4, size), little(2, localName.length), little(2, padding + 4), localName, "FB",
        little(2, padding),
        new Uint8Array(padding).fill(0x5a),
      ),
    );
    add(data);
    const place = lies.localOffset ?? local;
    const extra =
      lies.extra ??
      (lies.local64
        ? bytesOf(little(2, 1), little(2, 24), little(8, size), little(8, packed), little(8, place))
        : new Uint8Array(0));
    const short = (value: number): Uint8Array => (lies.local64 ? bytesOf([255, 255, 255, 255]) : little(4, value));
    central.push(
      bytesOf(
        "PK\x01\x02", little(2, 20), little(2, 20), little(2, flags), little(2, method),
        new Uint8Array(8),
        short(packed),
        short(size),
        little(2, Buffer.byteLength(name)),
        little(2, extra.length),
        little(2, 0),
        little(2, lies.disk ?? 0),
        new Uint8Array(6),
        short(place),
        name,
        extra,
      ),
    );
  }
  if (gap) add(gap);
  const directory = { entries: entries.length, offset: at, bytes: central.reduce((sum, record) => sum + record.length, 0) };
  central.forEach(add);
  if (tail) add(tail);
  if (end64) {
    const place = at;
    const wide = { ...directory, ...end64 };
    add(end64.record ?? bytesOf(
      "PK\x06\x06", little(8, 44), little(2, 45), little(2, 45), little(8, 0), little(8, wide.entries), little(8, wide.entries),
      little(8, wide.bytes), little(8, wide.offset),
    ));
    add(bytesOf("PK\x06\x07", little(4, 0), little(8, end64.place ?? place), little(4, 1)));
  }
  const said = { ...directory, ...end };
  add(bytesOf(
    "PK\x05\x06", little(2, end.disk ?? 0), little(2, 0), little(2, said.entries), little(2, said.entries), little(4, said.bytes),
    little(4, said.offset), little(2, comment.length), comment,
  ));
  return Buffer.concat(parts);
}

/** Entries of an archive of `torch.save`: the pickle, a run of bytes for each storage, and the rest. */
export function torchEntries(pickle: Uint8Array, data: readonly Uint8Array[], folder = "archive"): EntryToZip[] {
  return [
    { name: `${folder}/data.pkl`, data: pickle },
    { name: `${folder}/byteorder`, data: Buffer.from("little") },
    ...data.map((bytes, i) => ({ name: `${folder}/data/${i}`, data: bytes })),
    { name: `${folder}/version`, data: Buffer.from("3\n") },
  ];
}

/** An archive of tensors whose bytes are all `fill`. */
export function torchFile(tensors: readonly TensorToPickle[], fill = 0): Uint8Array {
  const widths: Record<string, number> = { "torch FloatStorage": 4, "torch DoubleStorage": 8, "torch LongStorage": 8 };
  const data = tensors.map(({ storage = "torch FloatStorage", elements, shape }) =>
    Buffer.alloc((elements ?? shape.reduce((product, side) => product * side, 1)) * (widths[storage] ?? 2), fill));
  return zipOf(torchEntries(pickledDict(tensors), data));
}
