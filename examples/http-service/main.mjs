// One engine behind node:http. Requests wait in the engine's own queue, so nothing here has to count them.
//   node examples/http-service/main.mjs [--port 8080] [--model FOLDER]
//   curl --data-binary @picture.png 'http://127.0.0.1:8080/?q=What%20is%20this%3F'

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { HimapError, load } from "himap";

const path = (name) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const { values } = parseArgs({
  options: { port: { type: "string" }, model: { type: "string", default: path("models/pico-llava") } },
});
const maxBytes = 20e6;
const statuses = { ERR_INVALID_ARG: 400, ERR_BAD_IMAGE: 400, ERR_CONTEXT_OVERFLOW: 400, ERR_TOO_LARGE: 413, ERR_QUEUE_FULL: 503 };

const engine = await load(values.model);

/** The body, refused as soon as it is too large. */
async function readBody(request) {
  const pieces = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += piece.length;
    if (bytes > maxBytes) throw new HimapError("ERR_TOO_LARGE", `expected at most ${maxBytes} bytes for the picture`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

async function answer(request, response) {
  const left = new AbortController();
  response.on("close", () => left.abort());
  const text = new URL(request.url, "http://localhost").searchParams.get("q") ?? "Describe the image.";
  const image = await readBody(request);
  const messages = [{ role: "user", content: [{ type: "image", image }, { type: "text", text }] }];
  for await (const delta of engine.generate(messages, { pruning: "himap", maxTokens: 64, signal: left.signal })) {
    // A client that reads slowly holds up its own answer only.
    if (!response.write(delta.text)) await once(response, "drain", { signal: left.signal });
  }
  response.end("\n");
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (response.destroyed) return;
    if (response.headersSent) return void response.destroy(error);
    response.writeHead(statuses[error.code] ?? 500, { "content-type": "text/plain" }).end(`${error.code ?? "ERR"}: ${error.message}\n`);
  });
});
server.listen(Number(values.port ?? 0), "127.0.0.1");
await once(server, "listening");
const address = `http://127.0.0.1:${server.address().port}`;
console.log(`listening on ${address}`);

async function stop() {
  server.close();
  await once(server, "close");
  await engine.dispose();
}
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);

if (values.port === undefined) {
  const picture = await readFile(path("examples/images/scene-1.png"));
  const bad = await fetch(address, { method: "POST", body: "not a picture" });
  console.log(`not a picture: ${bad.status} ${(await bad.text()).split(":")[0]}`);
  const good = await fetch(`${address}/?q=Describe%20the%20image.`, { method: "POST", body: picture });
  console.log(`scene-1.png: ${good.status} ${(await good.text()).trim()}`);
  await stop();
}
