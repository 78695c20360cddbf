import { test } from "uvu";
import * as assert from "uvu/assert";

import type { NativeStage } from "../../lib/binding/native.js";
import { limits } from "../../lib/defaults.js";
import { choose, type Choice, type Room } from "../../lib/schedule/admission.js";
import { forkCopies, sampleTables } from "../../lib/schedule/layout.js";
import { Lease, PagePool } from "../../lib/schedule/pages.js";
import { Queue, rankOf, type Entry } from "../../lib/schedule/queue.js";
import type { WorkDemand } from "../../lib/schedule/work.js";
import { Random } from "../helpers/random.js";

const entry = (demand: Partial<WorkDemand>, overtaken = 0, rank = 0): Entry =>
  ({ demand: { pages: 1, sequences: 1, rows: 10, images: 0, standing: false, ...demand }, overtaken, rank }) as Entry;
const room = (given: Partial<Room> = {}): Room => ({ pages: 100, sequences: 10, standingRows: 0, ...given });

/** What `choose` says, by place in the list. */
function chosen(list: Entry[], given: Room): { joining: number[]; passed: [number, number][]; more: boolean } {
  const { joining, passed, more }: Choice = choose(list, given);
  return { joining: joining.map((one) => list.indexOf(one)), passed: [...passed].map(([one, times]) => [list.indexOf(one), times]), more };
}

test("what fits joins, in the order of turns, and what does not is passed and counted", () => {
  const list = [entry({ pages: 40 }), entry({ pages: 70 }), entry({ pages: 50 }), entry({ pages: 10 }), entry({ pages: 1 })];
  assert.equal(chosen(list, room()), { joining: [0, 2, 3], passed: [[1, 2], [4, 0]], more: false });
  assert.equal(chosen(list, room({ sequences: 2 })).joining, [0, 2]);
  assert.equal(chosen(list, room({ sequences: 0 })).joining, []);
  assert.equal(chosen([], room()), { joining: [], passed: [], more: false });
});

test("one that has been passed often enough holds the others up", () => {
  const big = (overtaken: number): Entry => entry({ pages: 101 }, overtaken);
  assert.equal(chosen([big(limits.overtakes), entry({})], room()).joining, []);
  assert.equal(chosen([big(limits.overtakes - 2), entry({}), entry({}), entry({})], room()).joining, [1, 2]);
  assert.equal(chosen([entry({}), big(limits.overtakes), entry({})], room()).joining, [0], "those before it go first all the same");
});

test("a step has a budget of rows and of images beyond its first prompt", () => {
  const half = limits.prefillRows / 2;
  assert.equal(chosen([entry({ rows: 9 * half }), entry({ rows: 1 })], room()), { joining: [0], passed: [], more: true });
  assert.equal(chosen([entry({ rows: half }), entry({ rows: half }), entry({ rows: 1 })], room()), { joining: [0, 1], passed: [], more: true });
  const pictures = (images: number): Entry => entry({ images, rows: 0, pages: 0, sequences: 0 });
  assert.equal(chosen([pictures(99), pictures(1)], room()), { joining: [0], passed: [], more: true });
  assert.equal(chosen([pictures(limits.stepImages - 1), pictures(1), entry({})], room()), { joining: [0, 1, 2], passed: [], more: false });
});

test("works that prefill in every step take from that budget as long as they run", () => {
  const half = limits.prefillRows / 2;
  const standing = entry({ rows: half + 1, standing: true });
  assert.equal(chosen([standing, standing], room()).joining.length, 1);
  assert.equal(chosen([standing], room({ standingRows: half })), { joining: [], passed: [[0, 0]], more: false });
  assert.equal(chosen([entry({ rows: half })], room({ standingRows: 2 * half })).joining, [0], "one prompt always finds its step");
  assert.equal(chosen([entry({ rows: half }), entry({ rows: half })], room({ standingRows: 1 })), { joining: [0], passed: [], more: true });
});

test("turns: a level of priority is worth its time of waiting, and equals keep their order", () => {
  const queue = new Queue();
  const add = (submitted: number, priority: number): Entry => {
    const one = entry({}, 0, rankOf(submitted, priority, 10));
    queue.add(one);
    return one;
  };
  const [a, b, c, d, e] = [add(0, 0), add(5, 0), add(5, 1), add(16, 1), add(5, 0)];
  assert.equal([...queue].map((one) => [a, b, c, d, e].indexOf(one)), [2, 0, 1, 4, 3]);
  queue.delete(b!);
  queue.delete(b!);
  assert.is(queue.size, 4);
  assert.is(queue.shift(), c);
});

test("tables of samples: the prompt's full blocks in all of them, the others in one; copies are those filled in part", () => {
  const random = new Random(4);
  for (let round = 0; round < 300; round++) {
    let first = 0;
    const stages: NativeStage[] = Array.from({ length: 1 + random.below(3) }, () => {
      const tokens = random.below(4) === 0 ? 32 * random.below(4) : random.below(130);
      const capacity = tokens + 1 + random.below(70);
      const end = first + random.below(4);
      const stage = { first, end, tokens, imageTokens: 0, capacity, blocks: Math.ceil(capacity / 32) };
      first = end;
      return stage;
    });
    const samples = 1 + random.below(5);
    const own = stages.reduce((sum, { first: from, end, blocks, tokens }) => sum + (end - from) * (blocks - (tokens >> 5)), 0);
    const perTable = stages.reduce((sum, { first: from, end, blocks }) => sum + (end - from) * blocks, 0);
    const pool = new PagePool(perTable + (samples - 1) * own);
    const lease = new Lease(pool, pool.take(pool.size)!);
    const tables = sampleTables(stages, lease.pages, samples, 32);
    assert.ok(tables.every((table) => table.length === perTable));
    assert.is(new Set(tables.flatMap((table) => [...table])).size, pool.size, "every page has its place");
    lease.split(tables);
    assert.is(pool.free, 0);

    const copies = forkCopies(stages, tables[0]!, tables, 32);
    const partly = stages.reduce((sum, { first: from, end, tokens }) => sum + (tokens % 32 ? end - from : 0), 0);
    assert.is(copies.length, 2 * (samples - 1) * partly);
    for (let i = 0; i < copies.length; i += 2) assert.ok(tables[0]!.includes(copies[i]!) && !tables[0]!.includes(copies[i + 1]!));

    const order = tables.map((_, i) => i).sort(() => random.below(3) - 1);
    order.slice(1).forEach((i) => lease.give(tables[i]!));
    assert.is(pool.inUse, perTable, "the last one keeps what was shared");
    lease.give(tables[order[1]!] ?? new Int32Array(0));
    lease.end();
    assert.is(pool.inUse, 0);
  }
});

test("a page is free after its last user", () => {
  const pool = new PagePool(3);
  const pages = pool.take(2)!;
  pool.share(pages);
  pool.share(pages.subarray(0, 1));
  pool.give(pages);
  assert.is(pool.inUse, 2);
  pool.give(pages);
  assert.equal([pool.inUse, pool.free], [1, 2]);
  assert.throws(() => pool.share(pages.subarray(1)), /in use to be shared/);
  pool.give(pages.subarray(0, 1));
  assert.is(pool.inUse, 0);
});

test.run();
