/** `himap weights convert` and `himap weights verify`: checkpoints as files. */

import { convertCheckpoint, type Conversion } from "../../weights-tools/convert.js";
import { verifyCheckpoint, type Verification } from "../../weights-tools/verify.js";
import { HimapError } from "../errors.cjs";
import { bytesText, countText, millisecondsText, plural } from "../text.js";
import { defineCommand, type Terminal } from "./command.js";
import { jsonText } from "./output.js";
import { progressBar } from "./progress.js";

export const weightsConvert = defineCommand({
  name: "weights convert",
  summary: "write a checkpoint of pickles, such as an original LLaVA 1.5, as one folder of safetensors",
  operands: { FOLDER: "the checkpoint's folder", OUT: "a folder that does not exist yet" },
  options: {
    vision: { kind: "text", value: "FOLDER", help: "the CLIP checkpoint that an original LLaVA was trained with" },
    shardBytes: { kind: "number", value: "N", help: "bytes of tensors in one file at most, but for a larger tensor (default 5000000000)" },
    json: { kind: "flag", help: "one JSON object on standard output" },
  },
  notes: [
    "Nothing in a pickle is run: a closed list of opcodes and names describes the tensors, anything else is refused. "
      + "Values are copied byte for byte, config and tokenizer are kept, and OUT appears once it is complete.",
    "For example: himap weights convert ./llava-v1.5-7b ./llava-7b --vision ./clip-vit-large-patch14-336",
  ],
  async run({ operands: [folder, out], options: { json, ...options } }, terminal) {
    const started = performance.now();
    const bar = progressBar(terminal, "copying");
    const conversion = await convertCheckpoint(folder!, out!, {
      ...options,
      signal: terminal.signal,
      onProgress: bar.update,
    }).finally(() => bar.end());
    await terminal.write(json ? jsonText(conversion) : formatConversion(conversion, performance.now() - started));
  },
});

export function formatConversion({ folder, tensors, bytes, files }: Conversion, ms: number): string {
  return `${folder}: ${tensors} tensors, ${bytesText(bytes)} in ${plural(files.length, "file")}, ${millisecondsText(ms)}\n`;
}

export const weightsVerify = defineCommand({
  name: "weights verify",
  summary: "check a checkpoint without loading it: config, names, shapes and ranges of all tensors, tokenizer",
  operands: { FOLDER: "the checkpoint's folder" },
  options: {
    values: { kind: "flag", help: "read every weight that is used and look for NaN and infinity" },
    json: { kind: "flag", help: "one JSON object on standard output" },
  },
  async run({ operands: [folder], options: { json, values } }, terminal) {
    const bar = progressBar(terminal, "reading");
    try {
      const options = { values, signal: terminal.signal, onProgress: bar.update };
      const report = await verifyCheckpoint(folder!, options).finally(() => bar.end());
      await terminal.write(json ? jsonText(report) : formatVerification(report));
    } catch (cause) {
      if (cause instanceof HimapError && !json && !terminal.signal.aborted) noteFaults(cause, terminal);
      throw cause;
    }
  },
});

const shownFaults = 100;

/** What a failure has beyond its message, which is printed where it ends: each fault in a line. */
function noteFaults({ faults = [] }: HimapError, terminal: Terminal): void {
  if (faults.length <= 1) return;
  for (const fault of faults.slice(0, shownFaults)) terminal.note(`${fault}\n`);
  if (faults.length > shownFaults) terminal.note(`and ${faults.length - shownFaults} more\n`);
}

export function formatVerification({ folder, tensors, parameters, files, values, fingerprint }: Verification): string {
  const bytes = bytesText(files.reduce((sum, file) => sum + file.bytes, 0));
  return [
    `${folder}: good`,
    `  ${tensors} tensors, ${countText(parameters)} parameters, ${bytes} in ${plural(files.length, "file")}`,
    values > 0 ? `  ${countText(values)} values, all finite` : "  values were not looked at (--values does)",
    `  fingerprint ${fingerprint}`,
    "",
  ].join("\n");
}
