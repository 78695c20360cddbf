import { test } from "uvu";
import * as assert from "uvu/assert";

import { limits } from "../../lib/defaults.js";
import type { Generation } from "../../lib/types.js";
import { Random } from "../helpers/random.js";
import { createWorld } from "../helpers/schedule-world.js";
import { runSchedules } from "../helpers/schedules.js";

test("1,000 random schedules: each request ends once, no page is lost, answers are what they are alone", async () => {
  const { outcomes, requests } = await runSchedules(1_000_000, 1000);
  console.log(`NOTE: 1,000 schedules ended ${requests} requests as ${[...outcomes].sort().map(([end, times]) => `${end} ${times}`).join(", ")}`);
  const ends = ["done", "left", "ERR_ABORTED", "ERR_TIMEOUT", "ERR_DISPOSED", "ERR_QUEUE_FULL", "ERR_OUT_OF_MEMORY", "ERR_BAD_IMAGE", "ERR_TOO_LARGE"];
  for (const end of ends) assert.ok(outcomes.has(end), end);
});

test("nobody starves: under a flood of urgent and small requests, large and patient ones get their turn", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const random = new Random(seed);
    const world = createWorld({ pages: 12, maxBatch: 6, maxQueue: 500 });
    const { engine, clock } = world;
    const words = (count: number): string => Array.from({ length: count }, (_, i) => `w${i}`).join(" ");
    const options = { maxTokens: 4, logitBias: { 2: -Infinity } };
    const flood: Generation[] = [];
    const patient: Generation[] = [];
    let ended = 0;
    for (let turns = 0; ended < 3; turns++) {
      assert.ok(turns < 5000, `seed ${seed}: ${ended} of 3 got their turn`);
      if (turns % 3 === 0 && engine.state.waiting + engine.state.ready < 60) {
        flood.push(engine.generate("hi", { ...options, priority: random.below(3) }));
      }
      if (turns === 20 || turns === 40 || turns === 60) {
        // All of the pool, and behind everybody else.
        const large = engine.generate(words(120), { ...options, maxTokens: 40, priority: -random.below(3) });
        patient.push(large);
        void Promise.resolve(large).then(() => (ended += 1));
      }
      clock.advance(limits.ageingMs / 20);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(patient.every(({ id }) => world.started.some((work) => work.id === id && work.promptTokens > 100)));
    await engine.dispose();
    await Promise.allSettled(flood);
  }
});

test.run();
