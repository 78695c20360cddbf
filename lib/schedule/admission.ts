/** Which of those that are ready join the coming step. */

import { limits } from "../defaults.js";
import type { Entry } from "./queue.js";

/** What the engine has left for those that join. */
export interface Room {
  pages: number;
  sequences: number;
  /** Prefill rows that works which run make in every step. */
  standingRows: number;
}

export interface Choice {
  joining: Entry[];
  /** Those that did not fit while others, of a later turn, did: how many went past each. */
  passed: Map<Entry, number>;
  /** More would fit, but not into the same step. */
  more: boolean;
}

/**
 * Chooses in the order of turns. One that does not fit is passed, at most `limits.overtakes` times; then those behind it
 * wait until it fits, so that small works never keep a large one out. A prefill is never split: the first of a step may
 * be of any length, and others join it within the step's budget of rows and images.
 */
export function choose(ready: Iterable<Entry>, room: Room): Choice {
  const choice: Choice = { joining: [], passed: new Map(), more: false };
  const { joining, passed } = choice;
  let { pages, sequences, standingRows } = room;
  let [rows, images] = [0, 0];
  for (const entry of ready) {
    for (const [held, times] of passed) if (held.overtaken + times >= limits.overtakes) return choice;
    const { demand } = entry;
    const fits = demand.pages <= pages && demand.sequences <= sequences
      && (!demand.standing || standingRows === 0 || standingRows + demand.rows <= limits.prefillRows);
    if (!fits) {
      passed.set(entry, 0);
      continue;
    }
    const inStep = (rows === 0 || demand.rows === 0 || room.standingRows + rows + demand.rows <= limits.prefillRows)
      && (images === 0 || demand.images === 0 || images + demand.images <= limits.stepImages);
    if (!inStep) return { ...choice, more: true };
    joining.push(entry);
    for (const [held, times] of passed) passed.set(held, times + 1);
    pages -= demand.pages;
    sequences -= demand.sequences;
    if (demand.standing) standingRows += demand.rows;
    rows += demand.rows;
    images += demand.images;
  }
  return choice;
}
