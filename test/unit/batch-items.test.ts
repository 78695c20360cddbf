import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { hashOf, hashOfJobs, inShard, lineItems, pictureItems, type Item } from "../../lib/batch/items.js";
import { globExpression, listPictures } from "../../lib/batch/pictures.js";
import { limits } from "../../lib/defaults.js";
import { HimapError } from "../../lib/errors.cjs";
import type { GenerateOptions } from "../../lib/types.js";
import { withFolder } from "../helpers/tiny-checkpoint.js";

const defaults = { options: { maxTokens: 8, seed: 3 } as GenerateOptions, system: "Be brief." };

async function itemsOf(text: string | Uint8Array, folder: string): Promise<Item[]> {
  const file = path.join(folder, "jobs.jsonl");
  writeFileSync(file, text);
  const items: Item[] = [];
  for await (const item of lineItems(file, defaults)) items.push(item);
  return items;
}

const lines = (...values: unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join("");

/** What is wrong with an item. */
function fault(item: Item | undefined): string {
  assert.instance(item?.request, HimapError);
  const { code, message } = item!.request as HimapError;
  return `${code} ${message}`;
}

test("prompt, pictures and options; paths from the file's folder", () =>
  withFolder(async (folder) => {
    const [one, two, three] = await itemsOf(
      lines(
        { id: "a", prompt: "What?", image: "x/1.png", options: { maxTokens: 2, pruning: "himap" } },
        { prompt: "Which?", images: ["/abs/2.png", { path: "3.png" }], system: "Be long." },
        { id: 7, prompt: "Why?" },
      ),
      folder,
    );
    assert.equal([one!.id, one!.key, one!.index, two!.id, three!.key], ["a", "a", 0, "#2", "7"]);
    assert.equal(one!.request, {
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: [{ type: "image", image: { path: path.join(folder, "x/1.png") } }, { type: "text", text: "What?" }] },
      ],
      options: { maxTokens: 2, seed: 3, pruning: "himap" },
    });
    const second = two!.request as Exclude<Item["request"], HimapError>;
    assert.equal(second.messages[0], { role: "system", content: "Be long." });
    assert.equal((second.messages[1]!.content as unknown[]).slice(0, 2), [
      { type: "image", image: { path: "/abs/2.png" } }, { type: "image", image: { path: path.join(folder, "3.png") } },
    ]);
    assert.equal((three!.request as Exclude<Item["request"], HimapError>).messages[1], { role: "user", content: "Why?" });
  }));

test("whole conversations, with pictures by path, object or file: URL; lists of a policy", () =>
  withFolder(async (folder) => {
    const image = [{ type: "image", image: "1.png" }, { type: "image", image: { path: "2.png" } }, { type: "image", image: "file:///3.png" }];
    const [item] = await itemsOf(
      lines({ messages: [{ role: "user", content: image }], options: { pruning: [{ before: 0, score: { kept: [1, 5] } }] } }),
      folder,
    );
    const { messages, options } = item!.request as Exclude<Item["request"], HimapError>;
    assert.equal(messages, [
      {
        role: "user",
        content: [
          { type: "image", image: { path: path.join(folder, "1.png") } },
          { type: "image", image: { path: path.join(folder, "2.png") } },
          { type: "image", image: new URL("file:///3.png") },
        ],
      },
    ]);
    assert.equal(options.pruning, { cuts: [{ before: 0, score: { kept: Uint32Array.of(1, 5) } }] });
  }));

test("blank lines, a byte order mark, carriage returns, and no newline at the end", () =>
  withFolder(async (folder) => {
    const items = await itemsOf('\ufeff{"prompt":"a"}\r\n\n  \t\r\n{"prompt":"b"}', folder);
    assert.equal(items.map(({ id, index, request }) => [id, index, request instanceof HimapError]), [["#1", 0, false], ["#4", 1, false]]);
    assert.equal(await itemsOf("", folder), []);
    assert.equal(await itemsOf("\n\n", folder), []);
  }));

test("what is wrong with a line is that item's failure, and says what came", () =>
  withFolder(async (folder) => {
    const cases: [line: string, expected: RegExp][] = [
      ["{", /ERR_INVALID_ARG job: expected one JSON object in UTF-8 for a line but received "\{"/],
      ["[1]", /expected an object for a job but received an array of 1/],
      ["null", /expected an object for a job but received null/],
      ['"text"', /expected an object for a job/],
      ["{}", /expected a string for prompt \(or a list for messages\) but received undefined/],
      ['{"promt":"x"}', /did you mean "prompt"/],
      ['{"prompt":7}', /expected a string for prompt .* but received 7/],
      ['{"prompt":"x","image":"a.png","images":[]}', /expected either image or images/],
      ['{"prompt":"x","images":"a.png"}', /expected an array for images/],
      ['{"prompt":"x","image":""}', /expected the path of a picture for image but received ""/],
      ['{"prompt":"x","image":{"path":"a.png","page":2}}', /expected a known option for image but received "page"/],
      ['{"prompt":"x","image":"https://example.org/a.png"}', /expected the path of a picture .*\(nothing is fetched\)/],
      ['{"prompt":"x","image":"data:image/png;base64,AAAA"}', /nothing is fetched/],
      ['{"prompt":"x","image":{"pixels":[1]}}', /expected the path of a picture/],
      ['{"prompt":"x","options":[]}', /expected an object for options/],
      ['{"prompt":"x","options":{"pruning":{"cuts":[{"before":1,"score":{"rows":"last","weights":[1,null]}}]}}}', /numbers for weights in options\.pruning but received null/],
      ['{"prompt":"x","options":{"pruning":{"cuts":[{"before":1,"score":{"kept":[-1]}}]}}}', /indices of image tokens for kept in options\.pruning but received -1/],
      ['{"prompt":"x","messages":[]}', /expected no prompt beside messages/],
      ['{"messages":"x"}', /expected an array for messages/],
      ['{"prompt":"x","id":""}', /for id but received ""/],
      ['{"prompt":"x","id":"#3"}', /for id but received "#3"/],
      ['{"prompt":"x","id":{}}', /for id but received an object/],
      ['{"prompt":"x","id":1e999}', /for id but received Infinity/],
      ['{"prompt":"x","id":9007199254740993}', /expected an integer of up to 53 bits for id but received 9007199254740992 \(write it as text\)/],
      ['{"prompt":"x","id":-9007199254740992}', /write it as text/],
      ['{"prompt":"x","id":1e300}', /write it as text/],
      [`{"prompt":"x","id":"${"i".repeat(2000)}"}`, /for id but received "i+"\.\.\. \(2000 characters\)/],
    ];
    const items = await itemsOf(cases.map(([line]) => `${line}\n`).join(""), folder);
    assert.is(items.length, cases.length);
    cases.forEach(([line, expected], i) => assert.match(fault(items[i]), expected, line));
    assert.equal(items.map(({ id }) => id), cases.map((_, i) => `#${i + 1}`));
    const [odd] = await itemsOf(Uint8Array.from([...Buffer.from('{"prompt":"'), 0xff, 0xfe, ...Buffer.from('"}')]), folder);
    assert.match(fault(odd), /in UTF-8/);
  }));

test("all faults of a line at once", () =>
  withFolder(async (folder) => {
    const [item] = await itemsOf('{"id":"","prompt":1,"system":2,"image":3,"odd":4}', folder);
    assert.is((item!.request as HimapError).faults!.length, 5);
  }));

test("an id that an earlier line has is that line's failure, under a name of its own", () =>
  withFolder(async (folder) => {
    const items = await itemsOf(lines({ id: "a", prompt: "1" }, { id: 5, prompt: "2" }, { id: "a", prompt: "3" }, { id: "5", prompt: "4" }), folder);
    assert.equal(items.map(({ key }) => key), ["a", "5", "#3", "#4"]);
    assert.match(fault(items[2]), /line 3: expected an id that no earlier line has \(line 1\) for id but received "a"/);
    assert.match(fault(items[3]), /\(line 2\) for id but received "5"/);
  }));

test("a line that is too long is refused without being kept", () =>
  withFolder(async (folder) => {
    const long = Buffer.alloc(limits.jobLineBytes + 1, "x");
    const items = await itemsOf(Buffer.concat([Buffer.from('{"prompt":"a"}\n'), long, Buffer.from('\n{"prompt":"b"}\n')]), folder);
    assert.equal(items.map(({ id, request }) => [id, request instanceof HimapError]), [["#1", false], ["#2", true], ["#3", false]]);
    assert.match(fault(items[1]), /^ERR_TOO_LARGE/);
  }));

test("a line's hash is that of its text: another text is another job", () =>
  withFolder(async (folder) => {
    const [one] = await itemsOf('{"prompt":"a"}\n', folder);
    const [same] = await itemsOf('  {"prompt":"a"}  \n', folder);
    const [other] = await itemsOf('{"prompt":"b"}\n', folder);
    assert.is(one!.job, same!.job);
    assert.is.not(one!.job, other!.job);
    assert.match(one!.job, /^[0-9a-f]{12}$/);
  }));

test("the hash of a job file is that of its bytes", () =>
  withFolder(async (folder) => {
    const file = path.join(folder, "jobs.jsonl");
    const text = '{"prompt":"a"}\n'.repeat(10_000);
    writeFileSync(file, text);
    assert.is(await hashOfJobs(file), hashOf(text));
    writeFileSync(file, `${text}\n`);
    assert.is.not(await hashOfJobs(file), hashOf(text));
  }));

test("a file that cannot be read ends the run", () =>
  withFolder(async (folder) => {
    const refuse = async (file: string): Promise<string> => {
      try {
        await lineItems(file, defaults).next();
      } catch (error) {
        assert.instance(error, HimapError);
        return (error as HimapError).message;
      }
      throw new Error("expected a failure");
    };
    assert.match(await refuse(path.join(folder, "none.jsonl")), /a file of jobs for --input .*\(ENOENT\)/);
    assert.match(await refuse(folder), /a pipe or directory will not do/);
    const pipe = path.join(folder, "pipe");
    assert.is(spawnSync("mkfifo", [pipe]).status, 0);
    assert.match(await refuse(pipe), /a pipe or directory will not do/);
  }));

test("shards take turns, together have everything, and none twice", () => {
  const indices = Array.from({ length: 100 }, (_, index) => ({ index }));
  const shards = [1, 2, 3].map((number) => indices.filter((item) => inShard(item, { number, count: 3 })).map(({ index }) => index));
  assert.equal(shards.map((shard) => shard.slice(0, 2)), [[0, 3], [1, 4], [2, 5]]);
  assert.equal(shards.flat().sort((a, b) => a - b), indices.map(({ index }) => index));
});

test("pictures of a folder, or of a pattern, in order", () =>
  withFolder(async (folder) => {
    for (const name of ["b.png", "a.JPG", "notes.txt", "sub/c.webp", "sub/deep/d.jpeg", "sub/e.tiff"]) {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), "");
    }
    symlinkSync("b.png", path.join(folder, "link.png"));
    symlinkSync("..", path.join(folder, "sub", "up"));
    const ids = async (where: string): Promise<string[]> => (await listPictures(where)).map(({ id }) => id);
    assert.equal(await ids(folder), ["a.JPG", "b.png", "link.png", "sub/c.webp", "sub/deep/d.jpeg"]);
    assert.equal(await ids(`${folder}/*.png`), ["b.png", "link.png"]);
    assert.equal(await ids(`${folder}/**/*.{webp,tiff}`), ["sub/c.webp", "sub/e.tiff"]);
    assert.equal(await ids(`${folder}/sub/[cd].*`), ["c.webp"]);
    assert.equal(await ids(`${folder}/b.png`), ["b.png"]);
    mkdirSync(`${folder}/sub/empty`);
    const cases: [where: string, expected: RegExp][] = [
      ["none", /a folder, a file or a pattern for --images .*none" \(ENOENT\)$/],
      ["*.gif", /a pattern that files match for --images .*\*\.gif" \(no match among 8 files below /],
      ["none/*.png", /folders that can be read for --images .*none" \(ENOENT\)$/],
      ["sub/empty", /a folder with pictures for --images .* \(no file below it ends in \.jpg, \.jpeg, \.png or \.webp\)$/],
      ["[b-a].png", /a pattern for --images/],
    ];
    for (const [where, expected] of cases) {
      const error: unknown = await ids(`${folder}/${where}`).catch((cause: unknown) => cause);
      assert.instance(error, HimapError, where);
      assert.match((error as HimapError).message, expected);
    }
    const [item] = [...pictureItems(await listPictures(`${folder}/b.png`), "What?", defaults)];
    assert.equal([item!.id, item!.index], ["b.png", 0]);
    assert.equal((item!.request as Exclude<Item["request"], HimapError>).messages[1]!.content, [
      { type: "image", image: { path: `${folder}/b.png` } }, { type: "text", text: "What?" },
    ]);
  }));

test("patterns", () => {
  const matches: [pattern: string, yes: string[], no: string[]][] = [
    ["*.png", ["a.png", ".png"], ["a/b.png", "a.pngx", "apng"]],
    ["**/*.png", ["a.png", "a/b/c.png"], ["a.jpg"]],
    ["a/**", ["a/b", "a/b/c"], ["b/a", "a"]],
    ["?.png", ["a.png"], ["ab.png", "/.png"]],
    ["[!a].png", ["b.png"], ["a.png", "/.png"]],
    ["x{1,2{a,b}}.png", ["x1.png", "x2a.png", "x2b.png"], ["x2.png", "x.png"]],
    ["a+(b).png", ["a+(b).png"], ["aab.png"]],
  ];
  for (const [pattern, yes, no] of matches) {
    for (const name of yes) assert.ok(globExpression(pattern).test(name), `${pattern} ${name}`);
    for (const name of no) assert.not(globExpression(pattern).test(name), `${pattern} ${name}`);
  }
});

test.run();
