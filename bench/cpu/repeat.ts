/** Repetitions on a machine that may not be quiet. */

import { median } from "../../lib/cli/output.js";
import { LoadWatch, type Others } from "./machine.js";

/** A repetition, and what others took meanwhile. */
export type Watched<T> = T & Others;

/** Below this others hardly matter. */
const quiet = 0.05;

/** How often each is to be measured on a quiet machine, and how often it may be tried for that. */
export interface Repetitions {
  count: number;
  most: number;
}

export interface Contender<T> {
  name: string;
  run(): Promise<T>;
}

/**
 * Lets contenders take turns, the order reversed each time, until each has been run `count` times on a quiet machine, or `most`
 * times in all; then those repetitions count that others disturbed least. Times decide nothing here.
 */
export async function repeat<T extends { processor: number }>(
  contenders: readonly Contender<T>[], { count, most }: Repetitions, tell: (line: string) => void,
): Promise<Watched<T>[][]> {
  const runs = contenders.map((): Watched<T>[] => []);
  const done = (): boolean => runs.every((one) => one.filter(({ others }) => others < quiet).length >= count);
  for (let turn = 0; turn < most && !done(); turn++) {
    const order = contenders.map((_, i) => (turn % 2 === 0 ? i : contenders.length - 1 - i));
    for (const index of order) {
      const watch = new LoadWatch();
      const run = await contenders[index]!.run();
      const taken = watch.others(run.processor);
      runs[index]!.push({ ...run, ...taken });
      tell(`${contenders[index]!.name}${taken.others < quiet ? "" : `, while others took ${taken.others.toFixed(2)} processors`}`);
    }
  }
  return runs.map((one) => [...one].sort((a, b) => a.others - b.others).slice(0, count));
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
