import { test } from "uvu";
import * as assert from "uvu/assert";

import { expNonPositive } from "../../lib/sampling/exp.js";
import { keyOf, philox, uniform, type Words } from "../../lib/sampling/philox.js";

const hex = (words: Words): string => words.map((word) => word.toString(16).padStart(8, "0")).join(" ");

test("the known answers of Philox4x32-10", () => {
  const ones = 0xffffffff;
  assert.is(hex(philox([0, 0], [0, 0, 0, 0])), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  assert.is(hex(philox([ones, ones], [ones, ones, ones, ones])), "408f276d 41c83b0e a20bc7c6 6d5451fd");
  assert.is(hex(philox([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344])), "d16cfe09 94fdcceb 5001e420 24126ea1");
});

test("a seed of up to 53 bits is split into two words", () => {
  assert.equal(keyOf(0), [0, 0]);
  assert.equal(keyOf(2 ** 32), [0, 1]);
  assert.equal(keyOf(Number.MAX_SAFE_INTEGER), [0xffffffff, 0x1fffff]);
});

test("uniform numbers fill [0, 1) evenly and never reach 1", () => {
  assert.is(uniform([0, 0, 0, 0]), 0);
  assert.is(uniform([0xffffffff, 0xffffffff, 0, 0]), 1 - 2 ** -53);
  const buckets = new Array<number>(10).fill(0);
  for (let i = 0; i < 20_000; i++) buckets[Math.floor(uniform(philox([7, 0], [i, 0, 0, 0])) * 10)]! += 1;
  // Chi-square with 9 degrees of freedom; 27.9 is passed by chance once in a thousand seeds, and this seed is fixed.
  const chi = buckets.reduce((sum, count) => sum + (count - 2000) ** 2 / 2000, 0);
  assert.ok(chi < 27.9, String(chi));
});

test("the exponential is within two units in the last place", () => {
  let worst = 0;
  for (let i = 0; i <= 100_000; i++) {
    const x = -i * 0.00701;
    worst = Math.max(worst, Math.abs(expNonPositive(x) / Math.exp(x) - 1));
  }
  assert.ok(worst < 4.5e-16, String(worst));
  assert.is(expNonPositive(0), 1);
  assert.is(expNonPositive(-0), 1);
  assert.is(expNonPositive(-Infinity), 0);
  assert.is(expNonPositive(-1e6), 0);
});

test.run();
