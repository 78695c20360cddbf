/** Picture files by a path, a folder or a pattern. */

import { readdir, stat } from "node:fs/promises";
import path from "node:path";

import { phrase, type Faults } from "../check.js";
import { HimapError } from "../errors.cjs";
import { plural } from "../text.js";
import type { ImageInput } from "../types.js";

/** What a folder is searched for; a pattern may name anything. */
const pictureName = /\.(jpe?g|png|webp)$/i;

export interface Picture {
  /** Path from the folder, or from the part of the pattern that is none, with `/` between names. */
  id: string;
  file: string;
}

/** A path, from `folder` where it is relative; a `file:` URL stays one. */
export function readPicture(value: unknown, where: string, folder: string, faults: Faults): ImageInput | undefined {
  const given = typeof value === "object" && value !== null ? faults.properties(value, where, ["path"]) : { path: value };
  if (!given) return undefined;
  const file = given.path;
  if (typeof file === "string" && file.startsWith("file:")) {
    if (URL.canParse(file)) return new URL(file);
  } else if (typeof file === "string" && file.length > 0 && !/^([a-z][a-z\d+.-]*:\/\/|data:)/i.test(file)) {
    return { path: path.resolve(folder, file) };
  }
  faults.add("the path of a picture", where, file, () => " (nothing is fetched)");
  return undefined;
}

/**
 * Every JPEG, PNG and WebP file below a folder, or every file that a pattern matches: `*` and `?` within a name, `**` for
 * any folders, `[a-z]`, `{one,other}`. In the order of their ids, by code units. Links to folders are not followed.
 * @throws HimapError ERR_INVALID_ARG where there is none, or a folder cannot be read
 */
export async function listPictures(where: string): Promise<Picture[]> {
  const found = await stat(where).catch((cause: NodeJS.ErrnoException) => cause);
  const pictures = found instanceof Error ? await matching(where, found) : await below(where, found.isDirectory());
  return pictures.sort((a, b) => (a.id < b.id ? -1 : 1));
}

async function below(where: string, isFolder: boolean): Promise<Picture[]> {
  if (!isFolder) return [{ id: path.basename(where), file: where }];
  const pictures = (await filesBelow(where)).filter(({ id }) => pictureName.test(id));
  if (pictures.length > 0) return pictures;
  throw refused("a folder with pictures", where, "no file below it ends in .jpg, .jpeg, .png or .webp");
}

/** @param missing why `pattern` is not itself a file or folder */
async function matching(pattern: string, missing: NodeJS.ErrnoException): Promise<Picture[]> {
  const names = pattern.split("/");
  const plain = names.findIndex((name) => /[*?[{]/.test(name));
  if (plain < 0) throw refused("a folder, a file or a pattern", pattern, missing.code ?? missing.message);
  const base = names.slice(0, plain).join("/") || (pattern.startsWith("/") ? "/" : ".");
  const expression = globExpression(names.slice(plain).join("/"));
  const files = await filesBelow(base);
  const pictures = files.filter(({ id }) => expression.test(id));
  if (pictures.length > 0) return pictures;
  throw refused("a pattern that files match", pattern, `no match among ${plural(files.length, "file")} below ${base}`);
}

function refused(expected: string, where: string, reason: string): HimapError {
  return new HimapError("ERR_INVALID_ARG", `${phrase(expected, "--images", where)} (${reason})`);
}

async function filesBelow(folder: string): Promise<Picture[]> {
  const files: Picture[] = [];
  const waiting = [""];
  for (let below = waiting.pop(); below !== undefined; below = waiting.pop()) {
    const entries = await readdir(path.join(folder, below), { withFileTypes: true }).catch((cause: NodeJS.ErrnoException) => {
      const received = phrase("folders that can be read", "--images", path.join(folder, below));
      throw new HimapError("ERR_INVALID_ARG", `${received} (${cause.code})`, { cause });
    });
    for (const entry of entries) {
      const id = below === "" ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory()) waiting.push(id);
      else if (entry.isFile() || entry.isSymbolicLink()) files.push({ id, file: path.join(folder, id) });
    }
  }
  return files;
}

/**
 * A pattern as an expression on whole paths.
 * @internal
 */
export function globExpression(pattern: string): RegExp {
  let source = "";
  let braces = 0;
  for (let at = 0; at < pattern.length; at++) {
    const rest = pattern.slice(at);
    const folders = /^\*\*(\/|$)/.exec(rest);
    const set = /^\[([!^]?)([^\]/]+)\]/.exec(rest);
    if (folders) {
      source += folders[1] === "/" ? "(?:[^/]+/)*" : ".*";
      at += folders[0].length - 1;
    } else if (set) {
      source += `[${set[1] === "" ? "" : "^/"}${set[2]!.replace(/[\\[\]^]/g, "\\$&")}]`;
      at += set[0].length - 1;
    } else if (rest.startsWith("*")) source += "[^/]*";
    else if (rest.startsWith("?")) source += "[^/]";
    else if (rest.startsWith("{") && rest.includes("}")) {
      source += "(?:";
      braces += 1;
    } else if (rest.startsWith("}") && braces > 0) {
      source += ")";
      braces -= 1;
    } else if (rest.startsWith(",") && braces > 0) source += "|";
    else source += rest[0]!.replace(/[.+^$|()\\[\]{}]/, "\\$&");
  }
  try {
    return new RegExp(`^${source}${")".repeat(braces)}$`, "s");
  } catch (cause) {
    throw new HimapError("ERR_INVALID_ARG", phrase("a pattern", "--images", pattern), { cause });
  }
}
