import { test } from "uvu";
import * as assert from "uvu/assert";

import { StopScanner } from "../../lib/sampling/stop.js";

/** What passes, and whether a stop string came. */
function scan(stops: string[], pieces: string[]): { text: string; stopped: boolean } {
  const scanner = new StopScanner(stops);
  let text = "";
  for (const piece of pieces) text += scanner.push(piece);
  return { text: text + scanner.end(), stopped: scanner.stopped };
}

/** The rule itself, one character after the other: the stop string complete first, of several the longest. */
function reference(stops: string[], text: string): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length)[0];
    if (complete !== undefined) return { text: text.slice(0, end - complete.length), stopped: true };
  }
  return { text, stopped: false };
}

test("without stop strings text passes at once", () => {
  const scanner = new StopScanner([]);
  assert.is(scanner.push("ab"), "ab");
  assert.is(scanner.end(), "");
});

test("the beginning of a stop string is held back, and given when it was none", () => {
  const scanner = new StopScanner(["END"]);
  assert.is(scanner.push("the E"), "the ");
  assert.is(scanner.push("N"), "");
  assert.is(scanner.push("T"), "ENT");
  assert.is(scanner.push("EN"), "");
  assert.is(scanner.end(), "EN");
});

test("a stop string across pieces ends the text, and nothing passes after it", () => {
  const scanner = new StopScanner(["\n\n"]);
  assert.is(scanner.push("one\n"), "one");
  assert.is(scanner.push("\ntwo"), "");
  assert.ok(scanner.stopped);
  assert.is(scanner.push("three"), "");
  assert.is(scanner.end(), "");
});

test("stop strings that begin in one another", () => {
  assert.equal(scan(["aab"], ["a", "a", "a", "b"]), { text: "a", stopped: true });
  assert.equal(scan(["abcd", "bc"], ["abcd"]), { text: "a", stopped: true });
  assert.equal(scan(["c", "abc"], ["xabc"]), { text: "x", stopped: true });
  assert.equal(scan(["ab", "abc"], ["abc"]), { text: "", stopped: true });
});

test("any cutting into pieces gives what the rule gives: 20,000 random texts", () => {
  let state = 12345;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const word = (length: number): string => Array.from({ length }, () => "ab\u{1F600}"[random(3)]).join("");
  for (let round = 0; round < 20_000; round++) {
    const stops = Array.from({ length: random(4) }, () => word(1 + random(4)));
    const text = word(random(16));
    const pieces: string[] = [];
    for (let at = 0; at < text.length; ) {
      const length = random(4);
      pieces.push(text.slice(at, at + length));
      at += length;
    }
    assert.equal(scan(stops, pieces), reference(stops, text), JSON.stringify({ stops, pieces }));
  }
});

test.run();
