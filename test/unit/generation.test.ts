import { spawnSync } from "node:child_process";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError } from "../../lib/errors.cjs";
import { GenerationStream, type GenerationControls } from "../../lib/generation.js";
import type { Delta, Result } from "../../lib/types.js";

const result = { text: "ab" } as Result;
const piece = (text: string, sample = 0): Delta => ({ sample, text, tokens: [text.charCodeAt(0)] });
const failure = new HimapError("ERR_INTERNAL", "broken");
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A generation whose maker answers an abort as the engine does. */
function create(): GenerationControls & { aborts: unknown[] } {
  const aborts: unknown[] = [];
  const controls = GenerationStream.create("g", (reason) => {
    aborts.push(reason);
    controls.fail(new HimapError("ERR_ABORTED", "aborted", { cause: reason }));
  });
  return { ...controls, aborts };
}

async function read(generation: AsyncIterable<Delta>): Promise<string> {
  let text = "";
  for await (const delta of generation) text += delta.text;
  return text;
}

const rejection = async (promise: PromiseLike<unknown>): Promise<HimapError> => {
  try {
    await promise;
  } catch (error) {
    return error as HimapError;
  }
  throw new Error("expected a rejection");
};

test("awaited: the result, as often as one likes", async () => {
  const { generation, push, finish } = create();
  push(piece("a"));
  finish(result);
  assert.is(await generation, result);
  assert.is(await generation, result);
});

test("it is a promise in full: catch, finally, and a tag", async () => {
  const good = create();
  const promise: Promise<Result> = good.generation;
  let ends = 0;
  const count = (): void => void ends++;
  const [caught, ended] = [promise.catch(() => "caught"), promise.finally(count)];
  good.finish(result);
  assert.is(await caught, result);
  assert.is(await ended, result);

  const bad = create();
  bad.fail(failure);
  assert.is(await bad.generation.catch((error: unknown) => error), failure);
  assert.is(await rejection(bad.generation.finally(count)), failure);
  assert.is(ends, 2);
  assert.is(String(bad.generation), "[object Generation]");
});

test("iterated: pieces in order, whether they come before or while somebody waits", async () => {
  const { generation, push, finish } = create();
  push(piece("a"));
  const reading = read(generation);
  await turn();
  push(piece("b"));
  await turn();
  push(piece("c"));
  finish(result);
  assert.is(await reading, "abc");
});

test("both at once on the same object", async () => {
  const { generation, push, finish } = create();
  const [text, awaited] = [read(generation), generation];
  push(piece("a"));
  finish(result);
  assert.is(await text, "a");
  assert.is(await awaited, result);
});

test("read after the end, everything is there", async () => {
  const { generation, push, finish } = create();
  for (const text of "abc") push(piece(text));
  finish(result);
  await turn();
  assert.is(await read(generation), "abc");
});

test("a failure comes behind the pieces before it, to the reader and to whoever awaits", async () => {
  const { generation, push, fail } = create();
  push(piece("a"));
  fail(failure);
  const seen: string[] = [];
  const reading = (async () => {
    for await (const delta of generation) seen.push(delta.text);
  })();
  assert.is(await rejection(reading), failure);
  assert.equal(seen, ["a"]);
  assert.is(await rejection(generation), failure);
});

test("a reader who waits gets the failure; later calls get the end", async () => {
  const { generation, fail } = create();
  const reader = generation[Symbol.asyncIterator]();
  const [first, second] = [reader.next(), reader.next()];
  fail(failure);
  assert.is(await rejection(first), failure);
  assert.equal(await second, { done: true, value: undefined });
  assert.equal(await reader.next(), { done: true, value: undefined });
});

test("leaving the loop aborts quietly", async () => {
  const { generation, push, aborts } = create();
  push(piece("a"));
  push(piece("b"));
  for await (const delta of generation) {
    assert.is(delta.text, "a");
    break;
  }
  assert.equal(aborts, [undefined]);
  assert.is((await rejection(generation)).code, "ERR_ABORTED");
});

test("leaving the loop after the end aborts nothing", async () => {
  const { generation, push, finish, aborts } = create();
  push(piece("a"));
  finish(result);
  for await (const _ of generation) break;
  assert.equal(aborts, []);
  assert.is(await generation, result);
});

test("abort with a reason; a second one does nothing", async () => {
  const { generation, aborts } = create();
  const reading = read(generation);
  generation.abort("enough");
  generation.abort("again");
  assert.equal(aborts, ["enough"]);
  assert.is((await rejection(generation)).cause, "enough");
  assert.is((await rejection(reading)).code, "ERR_ABORTED");
});

test("only the first end counts, and nothing is pushed after it", async () => {
  const { generation, push, finish, fail } = create();
  finish(result);
  push(piece("x"));
  fail(failure);
  finish({ text: "other" } as Result);
  assert.is(await generation, result);
  assert.is(await read(generation), "");
});

test("a second reader is refused, a stream being one", async () => {
  const { generation, finish } = create();
  generation[Symbol.asyncIterator]();
  for (const again of [() => generation[Symbol.asyncIterator](), () => generation.textStream()]) {
    assert.throws(again, (error: unknown) => error instanceof HimapError && error.code === "ERR_INVALID_ARG");
  }
  finish(result);
  assert.is(await generation, result);
});

test("textStream: the text, a failure, and cancelling as leaving", async () => {
  const one = create();
  one.push(piece("a"));
  one.push(piece("of another sample", 1));
  one.push(piece("b"));
  one.finish(result);
  const texts: string[] = [];
  for await (const text of one.generation.textStream()) texts.push(text);
  assert.equal(texts, ["a", "b"]);

  const two = create();
  const reader = two.generation.textStream().getReader();
  two.fail(failure);
  assert.is(await rejection(reader.read()), failure);

  const three = create();
  await three.generation.textStream().cancel("away");
  assert.is(three.aborts.length, 1);
});

test("asyncDispose aborts what runs and leaves what has ended", async () => {
  const running = create();
  await running.generation[Symbol.asyncDispose]();
  assert.is(running.aborts.length, 1);
  const ended = create();
  ended.finish(result);
  await ended.generation[Symbol.asyncDispose]();
  assert.is(ended.aborts.length, 0);
});

test("a failed generation that nobody awaits raises no unhandled rejection; one that is awaited without a catch does", () => {
  const module = new URL("../../lib/generation.ts", import.meta.url).href;
  const run = (tail: string) =>
    spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", `
      const { GenerationStream } = await import(${JSON.stringify(module)});
      const { generation, push, fail } = GenerationStream.create("g", () => {});
      push({ text: "a", tokens: [1] });
      ${tail}
      fail(new Error("broken"));
      await new Promise((resolve) => setTimeout(resolve, 20));
      console.log("alive");
    `], { encoding: "utf8", cwd: new URL("../..", import.meta.url) });
  const ignored = run("");
  assert.match(ignored.stdout, "alive");
  assert.is(ignored.status, 0);
  const streamed = run("generation.textStream();");
  assert.is(streamed.status, 0, streamed.stderr);
  const caught = run("generation.catch(() => {});");
  assert.is(caught.status, 0, caught.stderr);
  for (const tail of ["generation.then(() => {});", "generation.finally(() => {});"]) {
    const awaited = run(tail);
    assert.is(awaited.status, 1, tail);
    assert.match(awaited.stderr, "broken");
  }
});

test.run();
