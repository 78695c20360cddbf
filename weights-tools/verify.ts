/** Checks a checkpoint folder without running it: what a load would check, and on request every value. */

import path from "node:path";

import { tensorIn } from "../lib/checkpoint/fault.js";
import { openCheckpoint, type Checkpoint, type TensorEntry, type WeightType } from "../lib/checkpoint/index.js";
import { HimapError } from "../lib/errors.cjs";
import { llava } from "../lib/families/llava.js";
import { checkAgreement, loadTokenizer } from "../lib/tokenizer/index.js";
import type { LoadProgress } from "../lib/types.js";
import { abortedError } from "../lib/watch.js";
import { openSource, readInto } from "./byte-source.js";
import { typeBytes } from "./number-formats.js";

export interface VerifyOptions {
  /** Read every weight that is used and look for NaN and infinity. Default false: only names, shapes, types and ranges. */
  values?: boolean | undefined;
  /** Bytes read so far, and in all. */
  onProgress?: ((progress: Pick<LoadProgress, "loaded" | "total">) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface Verification {
  folder: string;
  fingerprint: string;
  files: { name: string; bytes: number }[];
  /** Tensors that are used, and their elements. */
  tensors: number;
  parameters: number;
  /** Elements whose values were looked at. */
  values: number;
}

const bufferBytes = 8 << 20;

/** The exponent that NaN and infinity have, and the fraction that tells them apart. */
const special: Record<WeightType, { exponent: number; fraction: number }> = {
  F32: { exponent: 0x7f800000, fraction: 0x7fffff },
  F16: { exponent: 0x7c00, fraction: 0x3ff },
  BF16: { exponent: 0x7f80, fraction: 0x7f },
};

/** Counts values that are no numbers. */
function countSpecial(
  words: Uint16Array | Uint32Array,
  { exponent, fraction }: { exponent: number; fraction: number },
): { nan: number; infinite: number } {
  let nan = 0;
  let infinite = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if ((word & exponent) !== exponent) continue;
    if (word & fraction) nan++;
    else infinite++;
  }
  return { nan, infinite };
}

/** Reads every tensor that is used once through one buffer; a fault for each that holds something else than numbers. */
async function scanValues(
  checkpoint: Checkpoint,
  { onProgress, signal }: VerifyOptions,
): Promise<{ faults: string[]; values: number }> {
  const ranges = new Map<string, TensorEntry>();
  for (const tensor of checkpoint.tensors) {
    const key = `${tensor.file}:${tensor.offset}`;
    if (!ranges.has(key)) ranges.set(key, tensor);
  }
  const total = [...ranges.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  const buffer = new Uint8Array(bufferBytes);
  const faults: string[] = [];
  let loaded = 0;
  let values = 0;
  for (const [index, { path: location }] of checkpoint.files.entries()) {
    const name = path.basename(location);
    const file = await openSource(location, name);
    try {
      for (const tensor of ranges.values()) {
        if (tensor.file !== index) continue;
        let nan = 0;
        let infinite = 0;
        for (let done = 0; done < tensor.bytes; ) {
          if (signal?.aborted) throw abortedError("weights verify", signal.reason);
          const length = Math.min(buffer.length, tensor.bytes - done);
          await readInto(file, buffer.subarray(0, length), tensor.offset + done, name);
          const Words = tensor.type === "F32" ? Uint32Array : Uint16Array;
          const found = countSpecial(new Words(buffer.buffer, 0, length / typeBytes[tensor.type]), special[tensor.type]);
          nan += found.nan;
          infinite += found.infinite;
          done += length;
          onProgress?.({ loaded: (loaded += length), total });
        }
        values += tensor.bytes / typeBytes[tensor.type];
        if (nan + infinite > 0) {
          faults.push(
            `${tensorIn(name, tensor.name)}: expected finite values for all but received ${nan} NaN, ${infinite} infinite`,
          );
        }
      }
    } finally {
      await file.close();
    }
  }
  return { faults, values };
}

/**
 * Verifies a folder: config, names, shapes, types and byte ranges of all tensors, and that the tokenizer belongs to the
 * model. No native code is involved.
 * @throws HimapError as `openCheckpoint` and `loadTokenizer`; ERR_BAD_CHECKPOINT with every tensor that holds NaN or infinity
 * in `faults`; ERR_ABORTED: `options.signal` fired.
 */
export async function verifyCheckpoint(folder: string, options: VerifyOptions = {}): Promise<Verification> {
  const checkpoint = await openCheckpoint(folder, { signal: options.signal });
  const tokenizer = await loadTokenizer(folder);
  checkAgreement(tokenizer, { vocabulary: checkpoint.config.vocabulary, tokens: checkpoint.tokens }, llava.imageToken);
  const scan = options.values ? await scanValues(checkpoint, options) : { faults: [], values: 0 };
  const { faults } = scan;
  if (faults.length > 0) {
    const several = `${folder}: expected finite values for all tensors but received NaN or infinity in ${faults.length} of them`;
    throw new HimapError("ERR_BAD_CHECKPOINT", faults.length === 1 ? faults[0]! : several, { faults });
  }
  return {
    folder: checkpoint.folder,
    fingerprint: checkpoint.fingerprint,
    files: checkpoint.files.map(({ path: location, bytes }) => ({ name: path.basename(location), bytes })),
    tensors: checkpoint.tensors.length,
    parameters: checkpoint.parameters,
    values: scan.values,
  };
}
