/** The wire format of protocol buffers, as far as a reader of one schema needs it. */

import { fault } from "../checkpoint/fault.js";

/** A field as it stands: a number (varint), or the bytes of a string, message or fixed-width value. */
export interface Field {
  number: number;
  wire: "varint" | "fixed64" | "bytes" | "fixed32";
  /** Of a varint, as a signed number of 64 bits; exact up to 2^53. */
  value: number;
  /** A view of the input; empty for a varint. */
  bytes: Uint8Array;
}

const wires = ["varint", "fixed64", "bytes", undefined, undefined, "fixed32"] as const;
const none = new Uint8Array(0);

/**
 * Walks through the fields of one message.
 * @throws HimapError ERR_BAD_CHECKPOINT where the bytes are no such sequence.
 */
export function* fieldsOf(message: Uint8Array, where: string, subject: string): Generator<Field> {
  let at = 0;
  const varint = (): number => {
    // Nearly all are one byte long: keys, kinds, lengths.
    if (message[at]! < 0x80) return message[at++]!;
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = message[at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(BigInt.asIntN(64, value));
    }
    return fault("ERR_BAD_CHECKPOINT", where, "a number of at most 10 bytes", subject, `none at byte ${at - 1} of ${message.length}`);
  };
  while (at < message.length) {
    const key = varint();
    const wire = wires[key & 7];
    const number = Math.floor(key / 8);
    if (wire === undefined || number < 1) {
      fault("ERR_BAD_CHECKPOINT", where, "a field of a known wire type", subject, `key ${key} before byte ${at}`);
    }
    if (wire === "varint") {
      yield { number, wire, value: varint(), bytes: none };
      continue;
    }
    const length = wire === "bytes" ? varint() : wire === "fixed64" ? 8 : 4;
    if (length < 0 || length > message.length - at) {
      const expected = `at most the ${message.length - at} bytes that follow`;
      fault("ERR_BAD_CHECKPOINT", where, expected, `field ${number} of ${subject}`, String(length));
    }
    yield { number, wire, value: 0, bytes: message.subarray(at, at + length) };
    at += length;
  }
}
