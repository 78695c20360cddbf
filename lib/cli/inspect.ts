/** `himap inspect`: what a checkpoint is and needs. */

import { formatInspection, inspect } from "../../weights-tools/inspect.js";
import { defineCommand } from "./command.js";
import { jsonText } from "./output.js";

export const inspectCommand = defineCommand({
  name: "inspect",
  summary: "what a checkpoint is, and the memory and operations that one prompt needs, with and without pruning",
  operands: { FOLDER: "the checkpoint's folder" },
  options: {
    images: { kind: "number", value: "N", help: "images of the prompt (default 1)" },
    promptTokens: { kind: "number", value: "N", help: "its text tokens (default 64)" },
    maxTokens: { kind: "number", value: "N", help: "tokens answered (default 512)" },
    kvType: { kind: "text", value: "TYPE", help: "storage type of the KV cache: f32 (default), f16 or bf16" },
    json: { kind: "flag", help: "one JSON object on standard output" },
  },
  notes: ["Of each tensor 4 KiB are read, for the fingerprint, so this is quick whatever the checkpoint's size."],
  async run({ operands: [folder], options: { json, kvType, ...prompt } }, terminal) {
    // The library checks the type and says what came.
    const report = await inspect(folder!, { ...prompt, ...(kvType !== undefined && { kvType: kvType as "f32" }), signal: terminal.signal });
    await terminal.write(json ? jsonText(report) : `${formatInspection(report)}\n`);
  },
});
