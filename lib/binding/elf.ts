/** Whether a shared library's file is all there. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/**
 * What is wrong with a library's file, as an interrupted download or a full disk leaves it. The system maps a library
 * and does not read it, so that opening one that is cut short can end the process: this is asked first.
 */
export function elfFault(file: string): string | undefined {
  const descriptor = openSync(file, "r");
  try {
    const header = Buffer.alloc(64);
    const { size } = fstatSync(descriptor);
    if (readSync(descriptor, header, 0, 64, 0) < 64 || header.readUInt32BE(0) !== 0x7f454c46) {
      return `expected a shared library but received ${size} bytes of something else`;
    }
    const is64Bit = header[4] === 2;
    if (!is64Bit) return undefined;
    // The table of sections is the last thing in the file.
    const end = Number(header.readBigUInt64LE(0x28)) + header.readUInt16LE(0x3a) * header.readUInt16LE(0x3c);
    return size < end ? `expected a shared library of ${end} bytes but received its first ${size}` : undefined;
  } finally {
    closeSync(descriptor);
  }
}
