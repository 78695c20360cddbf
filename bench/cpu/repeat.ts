/** Repetitions on a machine that may not be quiet. */

import { median } from "../../lib/cli/output.js";
import { LoadWatch, type Additions, type Others } from "./machine.js";

/** A repetition, and what others took meanwhile. */
export type Watched<T> = T & Others;

/** Below these others hardly matter: processors that they took, and the share of our cores' speed. */
const quiet = { others: 0.05, company: 0.1 };
const isQuiet = ({ others, company = 0 }: Others): boolean => others < quiet.others && company < quiet.company;
const remark = ({ others, company = 0 }: Others): string =>
  (others < quiet.others ? "" : `, while others took ${others.toFixed(2)} processors`) +
  (company < quiet.company ? "" : `, additions slowed by ${(100 * company).toFixed(0)} %`);
const disturbance = ({ others, company = 0 }: Others): number => others + company;

/** How often each is to be measured on a quiet machine, and for how many seconds more turns may begin for that. */
export interface Repetitions {
  count: number;
  seconds: number;
}

export interface Contender<T> {
  name: string;
  run(): Promise<T>;
}

/**
 * Lets contenders take turns, the order reversed each time, `count` of them and more until each has been run so often on a quiet
 * machine or the `seconds` are over; then those repetitions count that others disturbed least. Their own times decide nothing here.
 *
 * @param additions samples the company on our cores before and after each; without it only this machine's other processes count
 * @param clock seconds
 */
export async function repeat<T extends { processor: number }>(
  contenders: readonly Contender<T>[], { count, seconds: allowed }: Repetitions, tell: (line: string) => void, additions?: Additions,
  clock = (): number => performance.now() / 1000,
): Promise<Watched<T>[][]> {
  const taken = contenders.map((): { run: T; others: Others; seconds?: number }[] => []);
  // What a sample tells is known better with every one that follows.
  const watched = (index: number): Watched<T>[] =>
    taken[index]!.map(({ run, others, seconds }) => ({ ...run, ...others, ...(seconds !== undefined && { company: additions!.lost(seconds) }) }));
  const done = (): boolean => contenders.every((_, index) => watched(index).filter(isQuiet).length >= count);
  const started = clock();
  let before = additions?.sample();
  for (let turn = 0; turn < count || (!done() && clock() - started < allowed); turn++) {
    const order = contenders.map((_, i) => (turn % 2 === 0 ? i : contenders.length - 1 - i));
    for (const index of order) {
      const watch = new LoadWatch();
      const run = await contenders[index]!.run();
      const others = watch.others(run.processor);
      const after = additions?.sample();
      taken[index]!.push({ run, others, ...(before !== undefined && after !== undefined && { seconds: (before + after) / 2 }) });
      before = after;
      tell(`${contenders[index]!.name}${remark(watched(index).at(-1)!)}`);
    }
  }
  return contenders.map((_, index) => watched(index).sort((a, b) => disturbance(a) - disturbance(b)).slice(0, count));
}

/** Median of one of the figures. */
export function medianOf<T>(runs: readonly T[], figure: (run: T) => number): number {
  return median(runs.map(figure));
}

/** The same of every run, as it must be. */
export function same<T>(runs: readonly T[], what: (run: T) => string | number | undefined, name: string): string {
  const values = new Set(runs.map((run) => String(what(run))));
  if (values.size !== 1) throw new Error(`expected one ${name} for all runs but received ${[...values].join(", ")}`);
  return [...values][0]!;
}
