/** Intervals and tests for shares of right answers. */

import { keyOf, philox } from "../../lib/sampling/philox.js";

export interface Interval {
  low: number;
  high: number;
}

/** Two-sided 95 % of the normal distribution. */
const z = 1.959964;

/** Wilson's 95 % interval of a share. */
export function wilson(right: number, count: number): Interval {
  if (count === 0) return { low: 0, high: 1 };
  const share = right / count;
  const scale = 1 + (z * z) / count;
  const middle = (share + (z * z) / (2 * count)) / scale;
  const reach = (z / scale) * Math.sqrt((share * (1 - share)) / count + (z * z) / (4 * count * count));
  return { low: Math.max(0, middle - reach), high: Math.min(1, middle + reach) };
}

/**
 * McNemar's exact test: how likely discordant pairs split at least so unevenly if neither side were better.
 * @param lost pairs right only before
 * @param won pairs right only after
 */
export function mcnemar(lost: number, won: number): number {
  const pairs = lost + won;
  const least = Math.min(lost, won);
  // Terms of the binomial distribution, each from the one before, as logarithms: 2^-pairs alone would be 0 at 1,100.
  let term = -pairs * Math.LN2;
  let tail = 0;
  for (let i = 0; i <= least; i++) {
    tail += Math.exp(term);
    term += Math.log((pairs - i) / (i + 1));
  }
  return Math.min(1, 2 * tail);
}

/**
 * 95 % interval of the mean of one number per question when groups are drawn anew: questions about one
 * scene stand or fall together, so scenes are drawn and not questions. Every list sees the same draws.
 * @param groups the group of each question
 */
export function bootstrapOver(groups: readonly number[], draws = 10_000): (values: readonly number[]) => Interval {
  const index = new Map([...new Set(groups)].map((group, i) => [group, i]));
  const drawn = new Uint16Array(draws * index.size);
  for (let draw = 0, at = 0; draw < draws; draw++) {
    for (let i = 0; i < index.size; i += 4) {
      for (const word of philox(keyOf(0), [draw, i, 0, 0]).slice(0, index.size - i)) drawn[at++] = Math.floor((word / 2 ** 32) * index.size);
    }
  }
  return (values) => {
    const sums = new Float64Array(index.size);
    const counts = new Float64Array(index.size);
    values.forEach((value, i) => {
      const group = index.get(groups[i]!)!;
      sums[group]! += value;
      counts[group]! += 1;
    });
    const means = Float64Array.from({ length: draws }, (_, draw) => {
      let sum = 0;
      let count = 0;
      for (const group of drawn.subarray(draw * index.size, (draw + 1) * index.size)) {
        sum += sums[group]!;
        count += counts[group]!;
      }
      return sum / count;
    }).sort();
    return { low: means[Math.round(draws * 0.025)]!, high: means[Math.round(draws * 0.975) - 1]! };
  };
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
