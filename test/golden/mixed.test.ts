import { suite } from "uvu";
import * as assert from "uvu/assert";

import { load, type Engine, type Result } from "../../lib/index.js";
import { goldenRequests } from "../helpers/golden.js";
import { Random } from "../helpers/random.js";

/** All that a result says but how long it took, bit by bit. */
function said({ timings: _, ...result }: Result): string {
  return JSON.stringify(result, (_key, value: unknown) => (ArrayBuffer.isView(value) ? Array.from(value as Float32Array) : value));
}

for (const name of ["mha", "gqa", "hd128", "full576"]) {
  const test = suite(`golden ${name}, mixed`);
  const { folder, geometry, requests } = goldenRequests(name);
  let engine: Engine;
  test.before(async () => {
    engine = await load(folder, { imageAspectRatio: geometry });
  });
  test.after(() => engine.dispose());

  test("every golden answer in one batch with the others and with strangers: bit-equal to alone", async () => {
    const ask = ({ messages, pruning }: (typeof requests)[number]): PromiseLike<Result> =>
      engine.generate(messages, { pruning, maxTokens: 12, logprobs: 64, scores: true });
    const alone: string[] = [];
    for (const request of requests) {
      const result = await ask(request);
      assert.equal([...result.tokens], request.tokens, request.name);
      alone.push(said(result));
    }
    const random = new Random(3);
    for (let round = 0; round < 2; round++) {
      const order = requests.map((_, i) => i).sort(() => random.below(3) - 1);
      const strangers: PromiseLike<unknown>[] = [];
      const together = await Promise.all(order.map((i) => {
        const { messages } = requests[random.below(requests.length)]!;
        strangers.push(
          random.below(2) === 0
            ? engine.generate(messages, { maxTokens: 1 + random.below(30), temperature: 2, seed: i, n: 1 + random.below(3) })
            : engine.forward(messages, { scores: true, logits: "all" }),
        );
        return ask(requests[i]!);
      }));
      order.forEach((i, at) => assert.is(said(together[at]!), alone[i], requests[i]!.name));
      await Promise.all(strangers);
    }
  });
  test.run();
}
