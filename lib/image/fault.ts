/** What failed with a picture, told with which picture it was. */

import path from "node:path";

import { HimapError } from "../errors.cjs";
import type { PictureInput } from "./decode.js";

/** @param where the call, and the picture's place in it */
export function pictureError(cause: unknown, where: string, input: PictureInput): unknown {
  if (!(cause instanceof HimapError) || cause.code === "ERR_ABORTED") return cause;
  // A message may reach a client: it names the file, and not where the server keeps it.
  const file = "path" in input ? `${path.basename(input.path)}: ` : "";
  const { code, message, hint } = cause;
  return new HimapError(code, `${where}: ${file}${message}`, { hint, ...("cause" in cause && { cause: cause.cause }) });
}
