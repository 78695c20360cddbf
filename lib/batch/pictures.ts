/** Picture files by a folder or a pattern. */

import { readdir, stat } from "node:fs/promises";
import path from "node:path";

import { phrase } from "../check.js";
import { HimapError } from "../errors.cjs";

/** What a folder is searched for; a pattern may name anything. */
const pictureName = /\.(jpe?g|png|webp)$/i;

export interface Picture {
  /** Path from the folder, or from the part of the pattern that is none, with `/` between names. */
  id: string;
  file: string;
}

/**
 * Every JPEG, PNG and WebP file below a folder, or every file that a pattern matches: `*` and `?` within a name, `**` for
 * any folders, `[a-z]`, `{one,other}`. In the order of their ids, by code units. Links to folders are not followed.
 * @throws HimapError ERR_INVALID_ARG where there is none, or a folder cannot be read
 */
export async function listPictures(where: string): Promise<Picture[]> {
  const found = (await stat(where).catch(() => undefined)) ? await belowFolder(where) : await matching(where);
  if (found.length > 0) return found.sort((a, b) => (a.id < b.id ? -1 : 1));
  throw new HimapError("ERR_INVALID_ARG", phrase("a folder with pictures, or a pattern that files match,", "--images", where));
}

async function belowFolder(folder: string): Promise<Picture[]> {
  if (!(await stat(folder)).isDirectory()) return [{ id: path.basename(folder), file: folder }];
  return (await filesBelow(folder)).filter(({ id }) => pictureName.test(id));
}

async function matching(pattern: string): Promise<Picture[]> {
  const names = pattern.split("/");
  const plain = names.findIndex((name) => /[*?[{]/.test(name));
  if (plain < 0) return [];
  const base = names.slice(0, plain).join("/") || (pattern.startsWith("/") ? "/" : ".");
  const expression = globExpression(names.slice(plain).join("/"));
  return (await filesBelow(base)).filter(({ id }) => expression.test(id));
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
