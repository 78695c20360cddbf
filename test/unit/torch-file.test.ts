import { test } from "uvu";
import * as assert from "uvu/assert";

import type { StoredTensor } from "../../lib/checkpoint/safetensors.js";
import { HimapError, type ErrorCode } from "../../lib/errors.cjs";
import { memorySource } from "../../weights-tools/byte-source.js";
import { unpickle, type PickledDict } from "../../weights-tools/pickle.js";
import { readTorchTensors } from "../../weights-tools/torch-file.js";
import { assertAsQuick, chosenNumbers } from "../helpers/chosen-keys.js";
import { hostileArchives } from "../helpers/hostile-archives.js";
import {
  bytesOf, op, pickledDict, pickledStorage, pickledTensor, torchEntries, torchFile, zipOf,
  type TensorToPickle,
} from "../helpers/torch-writer.js";

const read = (bytes: Uint8Array): Promise<StoredTensor[]> => readTorchTensors(memorySource(bytes, "model.bin"));
const archive = (pickle: Uint8Array, storages = 1): Uint8Array =>
  zipOf(
    torchEntries(
      pickle,
      Array.from({ length: storages }, () => new Uint8Array(24)),
    ),
  );

test("names, types, shapes and places of tensors", async () => {
  const tensors: TensorToPickle[] = [
    { name: "a", shape: [2, 3] },
    { name: "b", storage: "torch HalfStorage", shape: [4] },
    { name: "c", storage: "torch BFloat16Storage", shape: [1, 5, 1], stride: [99, 1, 7] },
    { name: "d", storage: "torch LongStorage", shape: [] },
    { name: "e", shape: [3, 0] },
  ];
  const bytes = torchFile(tensors);
  const found = await read(bytes);
  assert.equal(found.map(({ name, type, shape, bytes: length }) => [name, type, shape, length]), [
    ["a", "F32", [2, 3], 24], ["b", "F16", [4], 8], ["c", "BF16", [1, 5, 1], 10], ["d", "I64", [], 8], ["e", "F32", [3, 0], 0],
  ]);
  for (const { offset, bytes: length } of found) assert.ok(offset % 64 === 0 && offset + length <= bytes.length);
});

test("tensors that share a storage, at offsets; a tensor of which a part is used", async () => {
  const found = await read(archive(bytesOf(
    op.proto, op.dict,
    op.text("all"), pickledTensor({ elements: 6, shape: [6] }), op.setItem,
    op.text("end"), pickledTensor({ elements: 6, offset: 4, shape: [2] }), op.setItem,
    op.stop,
  )));
  assert.is(found[1]!.offset, found[0]!.offset + 16);
  assert.is(found[1]!.bytes, 8);
});

test("what torch writes around a state dict: metadata, parameters, memo, training scripts' wrappers, zip64", async () => {
  const tensor = pickledTensor({ shape: [6] });
  const ordered = bytesOf(op.global("collections OrderedDict"), op.put(0), op.emptyTuple, op.reduce, op.put(1));
  const pickles = [
    bytesOf(
      op.proto, ordered, op.mark, op.text("w"), tensor, op.setItems, op.dict, op.text("_metadata"), op.get(1), op.setItem,
      op.build, op.stop,
    ),
    bytesOf(
      op.proto, op.dict, op.text("w"), op.global("torch._utils _rebuild_parameter"), tensor, op.yes, ordered, op.tuple3,
      op.reduce, op.setItem, op.stop,
    ),
    bytesOf(
      op.proto, op.dict, op.text("epoch"), op.int(3), op.setItem, op.text("state_dict"),
      pickledDict([{ name: "w", shape: [6] }]).subarray(2, -1),
      op.setItem,
      op.stop,
    ),
    bytesOf(op.proto, op.dict, op.text("model"), op.dict, op.text("w"), tensor, op.setItem, op.setItem, op.stop),
    bytesOf(op.proto, op.dict, op.text("w"), tensor, op.setItem, op.stop),
  ];
  for (const pickle of pickles) assert.equal((await read(archive(pickle))).map(({ name, shape }) => [name, shape]), [["w", [6]]]);

  const entries = torchEntries(pickles.at(-1)!, [new Uint8Array(24)]);
  for (const end of [{}, { entries: 0xffff, offset: -1, bytes: -1 }]) {
    assert.is((await read(zipOf(entries, { end64: {}, end }))).length, 1);
  }
  const wide = entries.map((entry) => ({ ...entry, lies: { local64: true } }));
  assert.is((await read(zipOf(wide, { comment: Buffer.from("PK\x05\x06 in a comment") }))).length, 1);
});

test("a storage that its entry holds with room to spare", async () => {
  assert.is(
    (
      await read(
        archive(bytesOf(op.proto, op.dict, op.text("w"), pickledTensor({ elements: 5, shape: [5] }), op.setItem, op.stop)),
      )
    )[0]!.bytes,
    20,
  );
});

test("a state dict of 30,000 parameters is within the limits", async () => {
  const ordered = bytesOf(op.global("collections OrderedDict"), op.emptyTuple, op.reduce);
  const parameter = bytesOf(
    op.global("torch._utils _rebuild_parameter"), pickledTensor({ elements: 6, shape: [2, 3] }), op.yes, ordered, op.tuple3,
    op.reduce,
  );
  const items = Array.from({ length: 30_000 }, (_, i) => bytesOf(op.text(`w${i}`), parameter));
  const found = await read(archive(bytesOf(op.proto, ordered, op.mark, ...items, op.setItems, op.stop)));
  assert.is(found.length, 30_000);
});

test("numbers that a pickle chose for keys cost no more than others", () => {
  const count = 16_000;
  const dict = (keys: readonly number[]) => {
    const pickle = bytesOf(op.proto, op.dict, op.mark, ...keys.flatMap((key) => [op.int(key), op.none]), op.setItems, op.stop);
    return () => unpickle(pickle, "data.pkl", () => undefined);
  };
  assertAsQuick(dict(chosenNumbers(count)), dict(Array.from({ length: count }, (_, i) => i)), "keys of a dict");
});

test("values may be remembered in any order, with gaps", () => {
  const pickle = bytesOf(
    op.proto, op.dict,
    op.text("w"), op.put(200), op.none, op.setItem,
    op.text("x"), op.put(3), op.get(200), op.setItem,
    op.text("y"), op.get(3), op.setItem, op.stop,
  );
  const { entries } = unpickle(pickle, "data.pkl", () => undefined) as PickledDict;
  assert.equal([...entries], [["w", null], ["x", "w"], ["y", "x"]]);
});

test("the corpus of hostile archives is large, and its names are all different", () => {
  assert.ok(hostileArchives.length >= 100, String(hostileArchives.length));
  assert.is(new Set(hostileArchives.map(({ name }) => name)).size, hostileArchives.length);
  console.log(`NOTE: ${hostileArchives.length} hostile archives`);
});

for (const { name, code, says, bytes } of hostileArchives) {
  test(`refused with ${code}: ${name}`, async () => {
    const error: unknown = await read(bytes()).then(() => undefined, (cause: unknown) => cause);
    assert.instance(error, HimapError, `expected a HimapError but received ${error instanceof Error ? error.stack : "tensors"}`);
    const { code: found, message } = error as HimapError;
    assert.is(found, code satisfies ErrorCode, message);
    assert.ok(message.includes(says), `expected ${JSON.stringify(says)} in: ${message}`);
    assert.match(message, /^model\.bin.*: expected .+ for .+ but received /s);
    assert.ok(message.length < 2000, "a message that repeats the file's content at length");
  });
}

test("cut short anywhere, an archive is refused", async () => {
  const whole = torchFile([{ name: "a", shape: [2, 3] }]);
  for (let length = 0; length < whole.length; length++) {
    const outcome: unknown = await read(whole.subarray(0, length)).catch((error: unknown) => error);
    assert.instance(outcome, HimapError, `${length} bytes`);
  }
});

test("a pickle that ends anywhere, in an archive that is whole, is refused", async () => {
  const whole = pickledDict([{ name: "a", shape: [6] }]);
  for (let length = 0; length < whole.length; length++) {
    const outcome: unknown = await read(archive(whole.subarray(0, length))).catch((error: unknown) => error);
    assert.instance(outcome, HimapError, `${length} bytes`);
  }
});

test("no opcode outside the list is taken, whatever stands on the stack", async () => {
  // What the machine knows, by the letters and numbers of Python's own table.
  const known = new Set(
    [..."}])(tcRbQXUJKMGNqrhjsuae."].map((letter) => letter.charCodeAt(0)).concat([0x80, 0x85, 0x86, 0x87, 0x8a, 0x88, 0x89]),
  );
  let refused = 0;
  for (let opcode = 0; opcode < 256; opcode++) {
    const pickle = bytesOf(
      op.proto,
      op.dict,
      op.text("w"),
      pickledTensor({ shape: [6] }),
      op.mark, op.text("os"), op.text("system"), [opcode], op.stop,
    );
    const outcome: unknown = await read(archive(pickle)).catch((error: unknown) => error);
    assert.instance(outcome, HimapError, `opcode 0x${opcode.toString(16)}`);
    if ((outcome as HimapError).code === "ERR_UNSUPPORTED_FILE" && !known.has(opcode)) refused++;
  }
  assert.is(refused, 256 - known.size);
});

test("a storage that two tensors name with different types is refused", async () => {
  const pickle = bytesOf(
    op.proto,
    op.dict,
    op.text("w"),
    pickledTensor({ shape: [6] }),
    op.setItem,
    pickledStorage("torch HalfStorage", "0", 6),
    op.stop,
  );
  const outcome: unknown = await read(archive(pickle)).catch((error: unknown) => error);
  assert.is((outcome as HimapError).code, "ERR_BAD_CHECKPOINT");
});

test.run();
