import { Readable } from "node:stream";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { describe, phrase } from "../../lib/check.js";
import { HimapError } from "../../lib/errors.cjs";
import { checkGenerate } from "../../lib/request/generate.js";
import { checkLoad } from "../../lib/request/load.js";
import { checkEncode, checkForward, checkIds, checkPlan, checkText, type StudyFacts } from "../../lib/request/study.js";

const facts: StudyFacts = {
  layers: 16, hidden: 8, vocabulary: 448, eos: 2, imageTokens: 64, imageSize: 112, fingerprint: "f", pruning: "none", imageAspectRatio: "crop",
  mostSamples: 16,
};
const image = { type: "image", image: new Uint8Array(4) } as const;
const picture = [{ role: "user", content: [image, { type: "text", text: "?" }] }];

/** The faults of a call, which has to fail with one ERR_INVALID_ARG. */
function faults(call: () => unknown): readonly string[] {
  try {
    call();
  } catch (error) {
    assert.instance(error, HimapError);
    const { code, faults: list, message } = error as HimapError;
    assert.is(code, "ERR_INVALID_ARG");
    assert.ok(list && list.length > 0);
    for (const fault of list!) assert.ok(message.includes(fault));
    return list!;
  }
  return [];
}

const thrower = {
  get role(): never {
    throw new Error("getter");
  },
};
const revoked = Proxy.revocable({}, {});
revoked.revoke();
const embedding = { features: new Float32Array(64 * 8), tokens: 64, fingerprint: "f", image: { width: 1, height: 1, grid: [8, 8], placed: {} } };
const user = (content: unknown): unknown => [{ role: "user", content }];
const withImage = (input: unknown): unknown => user([{ type: "image", image: input }]);

const badMessages: [name: string, messages: unknown, says: RegExp][] = [
  ["undefined", undefined, /an array for messages but received undefined/],
  ["null", null, /received null/],
  ["a number", 3, /received 3/],
  ["no messages", [], /at least one message/],
  ["too many", Array.from({ length: 4097 }, () => ({ role: "user", content: "" })), /at most 4096 elements/],
  ["a message that is null", [null], /an object for messages\[0\]/],
  ["a message that is a string", ["hi"], /an object for messages\[0\]/],
  ["a revoked proxy", [revoked.proxy], /messages\[0\]/],
  ["revoked proxy as list", revoked.proxy, /an array for messages/],
  ["a getter that throws", [thrower], /properties can be read for messages\[0\]/],
  ["no role", [{ content: "x" }], /messages\[0\].role but received undefined/],
  ["a role that is none", [{ role: "tool", content: "x" }], /one of "system", "user", "assistant".*"tool"/],
  ["an unknown field", [{ role: "user", content: "x", name: "y" }], /known option for messages\[0\].*"name"/],
  ["a system message later", [{ role: "user", content: "x" }, { role: "system", content: "y" }, { role: "user", content: "z" }], /only at the start/],
  ["an answer last", [{ role: "user", content: "x" }, { role: "assistant", content: "y" }], /last message is what is answered/],
  ["no content", [{ role: "user" }], /an array for messages\[0\].content/],
  ["no parts", user([]), /at least one part/],
  ["a part that is a string", user(["x"]), /an object for messages\[0\].content\[0\]/],
  ["a part of no type", user([{ text: "x" }]), /content\[0\].type/],
  ["a part of another type", user([{ type: "image_url", image_url: "x" }]), /"image_url" \(here "image"\).*one of "text", "image"/],
  ["text that is a number", user([{ type: "text", text: 3 }]), /a string for messages\[0\].content\[0\].text/],
  ["an image in a text part", user([{ type: "text", text: "", image: new Uint8Array(1) }]), /no image in a text part/],
  ["text in an image part", user([{ ...image, text: "x" }]), /no text in an image part/],
  ["an image in an answer", [{ role: "assistant", content: [image] }, { role: "user", content: "x" }], /images only in user messages/],
  ["no image", withImage(undefined), /bytes, a Blob.*received undefined/],
  ["a path as a bare string", withImage("/etc/passwd"), /a file is \{ path \}/],
  ["an image that is an object", withImage({ url: "http:" }), /bytes, a Blob/],
  ["an array of bytes", withImage([1, 2]), /bytes, a Blob/],
  ["a SharedArrayBuffer", withImage(new SharedArrayBuffer(4)), /bytes, a Blob.*SharedArrayBuffer/],
  ["a path that is a number", withImage({ path: 3 }), /the path of a file for .*image\.path but received 3$/],
  ["a path of no characters", withImage({ path: "" }), /the path of a file/],
  ["a path and pixels", withImage({ path: "x", pixels: new Uint8Array(3) }), /^expected no pixels beside path for messages\[0\]\.content\[0\]\.image\.pixels/],
  ["a path and a word of its own", withImage({ path: "x", mime: "image/png" }), /known option for messages\[0\]\.content\[0\]\.image but received "mime"$/],
  ["a URL of the web", withImage(new URL("https://example.com/a.png")), /a file: URL of this machine.*nothing is fetched/],
  ["a stream of Node", withImage(Readable.from([])), /Readable\.toWeb\(stream\)\)$/],
  ["raw pixels without their size", withImage({ pixels: new Uint8Array(3) }), /image\.width.*image\.height.*image\.channels/],
  ["raw pixels too few", withImage({ pixels: new Uint8Array(3), width: 2, height: 1, channels: 3 }), /channels = 6 bytes for .*image\.pixels but received Uint8Array of 3/],
  ["too many images", user(Array.from({ length: 257 }, () => image)), /at most 256 images/],
  ["too much text", "x".repeat(1_000_001), /at most 1000000 characters/],
  ["an embedding of another engine", withImage({ embedding: { ...embedding, fingerprint: "g" } }), /the fingerprint f of this engine/],
  ["an embedding of another size", withImage({ embedding: { ...embedding, features: new Float32Array(7) } }), /a Float32Array of 512/],
  ["an embedding of another number of tokens", withImage({ embedding: { ...embedding, tokens: 63 } }), /expected 64 for .*tokens but received 63/],
  ["an embedding with a NaN", withImage({ embedding: { ...embedding, features: new Float32Array(512).fill(NaN, 7, 9) } }), /a finite number for .*features\[7\] but received NaN/],
  ["an embedding without a placement", withImage({ embedding: { ...embedding, image: null } }), /placement/],
  ["an embedding that is null", withImage({ embedding: null }), /an object for messages\[0\]\.content\[0\]\.image\.embedding but received null/],
  ["an embedding and a path", withImage({ embedding, path: "x" }), /no embedding beside path/],
];
for (const [name, messages, says] of badMessages) {
  test(`messages refused: ${name}`, () => assert.match(faults(() => checkGenerate(messages, {}, facts)).join("; "), says));
}

const badOptions: [options: unknown, says: RegExp][] = [
  [null, /an object for options but received null/],
  [3, /an object for options/],
  [[], /an object for options but received an array of 0/],
  [revoked.proxy, /options/],
  [{ max_tokens: 3 }, /"max_tokens" \(did you mean "maxTokens"\?\)/],
  [{ temprature: 3 }, /did you mean "temperature"/],
  [{ topp: 3 }, /did you mean "topP"/],
  [{ best_of: 3 }, /known option for options but received "best_of"$/],
  [{ __proto__: null, best: 2 }, /"best"/],
  [{ maxTokens: 0 }, /an integer of at least 1 for maxTokens but received 0/],
  [{ seed: 2 ** 53 }, /from 0 to 9007199254740991 for seed but received 9007199254740992/],
  [{ max_new_tokens: 3 }, /"max_new_tokens" \(here "maxTokens"\)/],
  [{ maxNewTokens: 3 }, /"maxNewTokens" \(here "maxTokens"\)/],
  [{ do_sample: true }, /\(here "temperature": 0, the default, is greedy\)/],
  [{ top_p: 1 }, /did you mean "topP"/],
  [{ repeat_penalty: 1 }, /here "repetitionPenalty"/],
  [{ device_map: "auto" }, /received "device_map"$/],
  [{ maxTokens: "3" }, /received "3"/],
  [{ maxTokens: 1.5 }, /an integer/],
  [{ maxTokens: NaN }, /received NaN/],
  [{ maxTokens: Infinity }, /received Infinity/],
  [{ maxTokens: 2 ** 53 }, /received 9007199254740992/],
  [{ maxTokens: null }, /received null/],
  [{ maxTokens: 3n }, /received 3n/],
  [{ maxTokens: Symbol("x") }, /received a symbol/],
  [{ minTokens: -1 }, /minTokens but received -1/],
  [{ minTokens: 5, maxTokens: 4 }, /at most 4, that is maxTokens, for minTokens but received 5/],
  [{ temperature: -0.1 }, /a number from 0 to 100/],
  [{ temperature: 101 }, /received 101/],
  [{ temperature: 1e308 }, /received 1e\+308/],
  [{ topP: 1.1 }, /from 0 to 1 for topP/],
  [{ topK: -1 }, /for topK/],
  [{ topK: 1.5 }, /for topK/],
  [{ minP: 2 }, /for minP/],
  [{ seed: -1 }, /for seed/],
  [{ seed: 2 ** 53 }, /for seed/],
  [{ repetitionPenalty: 0 }, /from 0.01 to 100/],
  [{ presencePenalty: NaN }, /for presencePenalty/],
  [{ frequencyPenalty: -101 }, /for frequencyPenalty/],
  [{ logitBias: [1] }, /from token id to number/],
  [{ logitBias: { x: 1 } }, /a token id from 0 to 447 for a key of logitBias but received "x"/],
  [{ logitBias: { "-1": 1 } }, /received "-1"/],
  [{ logitBias: { "1e1": 1 } }, /received "1e1"/],
  [{ logitBias: { 448: 1 } }, /received "448"/],
  [{ logitBias: { 3: Infinity } }, /logitBias\[3\] but received Infinity/],
  [{ logitBias: { 3: NaN } }, /received NaN/],
  [{ logitBias: { get 3(): never { throw new Error("getter"); } } }, /from token id to number/],
  [{ stop: "" }, /1 to 1024 characters for stop but received ""/],
  [{ stop: ["a", 3] }, /stop\[1\] but received 3/],
  [{ stop: ["x".repeat(1025)] }, /stop\[0\]/],
  [{ stop: { 0: "a" } }, /an array for stop/],
  [{ stopTokenIds: 3 }, /an array for stopTokenIds/],
  [{ stopTokenIds: [448] }, /stopTokenIds\[0\] but received 448/],
  [{ stopTokenIds: [0.5] }, /received 0.5/],
  [{ logprobs: 65 }, /from 0 to 64/],
  [{ logprobs: true }, /received true/],
  [{ pruning: "himapp" }, /for pruning/],
  [{ pruning: { cuts: [{ before: 16, score: { grid: true }, keep: { count: 1 } }] } }, /the depth of this model/],
  [{ imageAspectRatio: "square" }, /one of "pad", "crop"/],
  [{ autoOrient: 1 }, /true or false for autoOrient/],
  [{ scores: "yes" }, /true or false for scores/],
  [{ signal: {} }, /an AbortSignal/],
  [{ signal: new AbortController() }, /an AbortSignal/],
  [{ signal: { aborted: false, addEventListener() {} } }, /an AbortSignal/],
  [{ timeoutMs: 0 }, /for timeoutMs/],
  [{ n: 0 }, /from 1 to 16 for n/],
  [{ n: 17 }, /from 1 to 16 for n/],
  [{ n: 1.5 }, /for n/],
  [{ n: 2, pruning: { preset: "himap", cache: "redecide" } }, /expected 1, as cache: "redecide"/],
  [{ priority: 101 }, /from -100 to 100 for priority/],
  [{ priority: "high" }, /for priority/],
  [{ timeoutMs: 2 ** 31 }, /for timeoutMs/],
];
badOptions.forEach(([options, says], i) => {
  test(`options refused: ${i} ${describe(options)}`, () => assert.match(faults(() => checkGenerate("hi", options, facts)).join("; "), says));
});

test("the corpus of refused requests is large", () => {
  const count = badMessages.length + badOptions.length;
  assert.ok(count >= 100, String(count));
  console.log(`NOTE: ${count} requests refused for their messages or options`);
});

test("all faults of messages, options and pruning in one error", () => {
  const raw = { pixels: new Uint8Array(3), width: 0, height: 1, channels: 3 };
  assert.is(faults(() => checkGenerate(withImage(raw), { maxTokens: 0 }, facts)).length, 2);
  const found = faults(() => checkGenerate([{ role: "user", content: [{ type: "image", image: 3 }] }, { role: "x", content: 1 }], {
    maxTokens: 0, temperature: -1, stop: [1, 2], logitBias: { y: 1 }, pruning: { cuts: [{}] }, nonsense: true,
  }, facts));
  assert.is(found.length, 12, found.join("\n"));
});

test("counts of a policy are checked against the images of the request", () => {
  const pruning = { cuts: [{ before: 1, score: { rows: "last" }, keep: { count: 65 } }] };
  assert.match(faults(() => checkGenerate(picture, { pruning }, facts)).join(), /at most 64/);
  assert.is(checkGenerate([{ role: "user", content: [image, image] }], { pruning }, facts).cuts[0]!.keep, 65);
  assert.equal(checkGenerate("no image", { pruning }, facts).cuts, []);
});

test("defaults", () => {
  const request = checkGenerate("hi", undefined, facts);
  assert.equal([checkGenerate("hi", {}, facts, 5).timeoutMs, checkGenerate("hi", { timeoutMs: 7 }, facts, 5).timeoutMs], [5, 7]);
  assert.equal(request.messages, [{ role: "user", content: "hi" }]);
  assert.is(request.maxTokens, 512);
  assert.equal(request.sampling, { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 });
  assert.equal([...request.adjust.stopIds], [2]);
  assert.equal([request.stop, request.logprobs, request.scores, request.autoOrient, request.timeoutMs], [[], undefined, false, false, 3_600_000]);
  assert.equal([request.n, request.priority], [1, 0]);
  assert.is(request.imageAspectRatio, "crop");
  assert.is(checkGenerate(picture, {}, { ...facts, pruning: "himap" }).cuts.length, 2);
  assert.is(checkGenerate(picture, { pruning: "none" }, { ...facts, pruning: "himap" }).cuts.length, 0);
});

test("undefined counts as absent, -0 as 0", () => {
  const request = checkGenerate("hi", { maxTokens: undefined, temperature: -0, seed: undefined, stop: undefined }, facts);
  assert.is(request.maxTokens, 512);
  assert.ok(Object.is(request.sampling.temperature, 0));
});

test("the request keeps nothing of the caller's objects but pictures", () => {
  const content = [image, { type: "text" as const, text: "before" }];
  const options = { stop: ["a"], stopTokenIds: [5], logitBias: { 3: 1 } };
  const request = checkGenerate([{ role: "user", content }], options, facts);
  content[1] = { type: "text", text: "after" };
  options.stop[0] = "b";
  options.logitBias[3] = 9;
  assert.equal(request.messages[0]!.content[1], { type: "text", text: "before" });
  assert.equal([request.stop, request.adjust.logitBias.get(3), [...request.adjust.stopIds]], [["a"], 1, [2, 5]]);
});

test("every form of picture is taken", () => {
  const stream = new ReadableStream();
  const inputs = [new Uint8Array(3), new ArrayBuffer(3), new Blob([]), stream, new URL("file:///x"), { path: "x" }, { pixels: new Uint8Array(3), width: 1, height: 1, channels: 3 }, { embedding }];
  for (const input of inputs) assert.is(checkGenerate(withImage(input), {}, facts).messages.length, 1);
});

test("each property is read once", () => {
  let reads = 0;
  const options = {
    get maxTokens(): number {
      return ++reads === 1 ? 5 : -1;
    },
  };
  assert.is(checkGenerate("hi", options, facts).maxTokens, 5);
});

test("forward: ids and what the images hold", () => {
  const pixels = new Float32Array(3 * 112 * 112);
  const bad: [unknown, unknown, RegExp][] = [
    [undefined, {}, /an object for input/],
    [{}, {}, /an array for ids/],
    [{ ids: [] }, {}, /at least one id/],
    [{ ids: [448] }, {}, /ids\[0\] but received 448/],
    [{ ids: [-1] }, {}, /or -200 for an image/],
    [{ ids: [1, 1.5] }, {}, /ids\[1\]/],
    [{ ids: [-200] }, {}, /each of the 1 images among the ids for input but received 0/],
    [{ ids: [1], pixels: [pixels] }, {}, /each of the 0 images/],
    [{ ids: [-200], pixels: [new Float32Array(3)] }, {}, /Float32Array of 37632 for pixels\[0\]/],
    [{ ids: [-200], features: [new Float32Array(3)] }, {}, /Float32Array of 512 for features\[0\]/],
    [{ ids: [-200], features: [new Float32Array(512).fill(Infinity, 511)] }, {}, /a finite number for features\[0\]\[511\] but received Infinity/],
    [{ ids: [-200], features: [], pixels: [] }, {}, /either pixels or features/],
    [{ ids: [1], pixel: 1 }, {}, /did you mean "pixels"/],
    [{ ids: [1] }, { logits: "some" }, /one of "all", "last"/],
    [{ ids: [1] }, { hidden: 1, scores: 1, images: 1 }, /hidden.*scores.*images/],
    [{ ids: [1] }, { maxTokens: 1 }, /known option/],
    [[], {}, /at least one message/],
  ];
  for (const [input, options, says] of bad) assert.match(faults(() => checkForward(input, options, facts)).join("; "), says);
  const request = checkForward({ ids: Int32Array.of(1, -200, 5), pixels: [pixels] }, { pruning: { preset: "vtw" }, logits: "all" }, facts);
  assert.equal([request.logits, request.hidden, request.cuts.length], ["all", false, 1]);
  assert.is(checkForward(picture, undefined, facts).logits, "last");
});

test("encodeImage, plan, tokenize, detokenize", () => {
  assert.match(faults(() => checkEncode("x.png", { size: 3 }, facts)).join("; "), /a file is \{ path \}.*known option/);
  assert.is(checkEncode(new Uint8Array(1), { imageAspectRatio: "pad" }, facts).imageAspectRatio, "pad");
  assert.is(faults(() => checkPlan({ images: -1, promptTokens: 0, maxTokens: "1", pruning: 1 }, facts)).length, 4);
  assert.equal(checkPlan(undefined, facts), { images: 1, promptTokens: 64, maxTokens: 512, n: 1, cuts: [], cache: "frozen" });
  assert.equal(checkPlan({ images: 2, pruning: "vtw" }, facts).cuts.map(({ before, keep }) => [before, keep]), [[8, 0]]);
  assert.is(faults(() => checkText(3)).length, 1);
  assert.is(faults(() => checkText("x".repeat(1_000_001))).length, 1);
  assert.is(faults(() => checkIds([1, -1], 448)).length, 1);
  assert.equal([...checkIds(Uint32Array.of(1, 447), 448)], [1, 447]);
});

test("load", () => {
  const found = faults(() => checkLoad(3, {
    device: "tpu", kvType: "q8", threads: 0, weights: "read", imageAspectRatio: "fit", template: "chatml", memory: { kvBytes: -1, vram: 1 },
    maxPixels: 0, onProgress: 1, signal: 1, logger: 1, dtype: "f16", maxBatch: 0, maxQueue: 1.5,
  }));
  assert.is(found.length, 16, found.join("\n"));
  const request = checkLoad("folder", { logger() { throw new Error("logger"); } });
  request.logger("info", "x");
  assert.equal([request.kvType, request.threads, request.weights, request.template, request.kvBytes, request.maxPixels], ["auto", 0, "map", "auto", "auto", 64_000_000]);
  for (const folder of ["a\0b", "", 3, undefined, revoked.proxy, new URL("https://huggingface.co/a/b"), new URL("file://elsewhere/b")]) {
    assert.match(faults(() => checkLoad(folder, {})).join("; "), /^expected the path of a checkpoint folder, or its file: URL, for folder but received [^;]*$/);
  }
  assert.is(checkLoad(new URL("file:///a%20b"), {}).folder, "/a b");
  assert.match(faults(() => checkLoad("a", { device_map: "auto" })).join(), /here "device"/);
});

test("a value is described in few words, whatever it is", () => {
  const texts = [undefined, null, -0, 1.5, "a\n", "x".repeat(100), 10n, Symbol("s"), () => 1, [1], {}, new Map(), new Float32Array(3), revoked.proxy, Object.create(null)].map(describe);
  assert.equal(texts, [
    "undefined", "null", "-0", "1.5", '"a\\n"', `"${"x".repeat(40)}"... (100 characters)`, "10n", "a symbol", "a function", "an array of 1", "an object",
    "an object of class Map", "Float32Array of 3", "an object that cannot be read", "an object",
  ]);
  assert.is(phrase("a number", "x", "y"), 'expected a number for x but received "y"');
});

test("of very many faults the first hundred are told, and the others cost next to nothing", () => {
  const parts = Array.from({ length: 4096 }, () => 0);
  const options = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`option${i}`, 1]));
  const before = process.memoryUsage().heapUsed;
  try {
    checkGenerate(Array.from({ length: 250 }, () => ({ role: "user", content: parts })), options, facts);
    assert.unreachable();
  } catch (error) {
    const { message, faults: list } = error as HimapError;
    assert.is(list!.length, 100);
    assert.match(message, new RegExp(`^generate: ${250 * 4096 + 20_000} faults: .*; and ${250 * 4096 + 20_000 - 100} more$`));
    assert.ok(message.length < 20_000, String(message.length));
  }
  assert.ok(process.memoryUsage().heapUsed - before < 2e8);
});

test("3,000 random requests: a typed error or a request, never anything else", () => {
  const values = [undefined, null, true, -1, 0, 1, 2, 0.5, 1e308, NaN, Infinity, 2 ** 53, -0, "", "3", "himap", [], [1], ["a"], {}, { preset: "vtw" }, 5n, Symbol("x"), () => 1, new Uint8Array(2), new AbortController().signal, revoked.proxy, new Date(0)];
  const names = ["maxTokens", "minTokens", "temperature", "topP", "topK", "minP", "seed", "repetitionPenalty", "logitBias", "stop", "stopTokenIds", "logprobs", "pruning", "imageAspectRatio", "scores", "signal", "timeoutMs", "zzz"];
  let state = 7;
  const pick = <T>(list: readonly T[]): T => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return list[Math.floor((state / 2 ** 32) * list.length)]!;
  };
  let accepted = 0;
  for (let round = 0; round < 3000; round++) {
    const options = Object.fromEntries(Array.from({ length: pick([0, 1, 2, 3]) }, () => [pick(names), pick(values)]));
    const messages = pick([picture, "hi", pick(values), user(pick(values)), withImage(pick(values))]);
    try {
      const request = checkGenerate(messages, options, facts);
      assert.ok(request.maxTokens >= 1 && request.sampling.temperature >= 0);
      accepted += 1;
    } catch (error) {
      if (!(error instanceof HimapError) || error.code !== "ERR_INVALID_ARG") throw error;
    }
  }
  assert.ok(accepted > 300, String(accepted));
});

test.run();
