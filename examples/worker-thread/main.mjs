// An engine in a worker thread: questions in, pieces of answers out, over a message port.
//   node examples/worker-thread/main.mjs

import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker } from "node:worker_threads";

import { load } from "himap";

const path = (name) => fileURLToPath(new URL(`../../${name}`, import.meta.url));

async function serve() {
  const engine = await load(path("models/pico-llava"));
  parentPort.on("message", async ({ id, picture, text }) => {
    try {
      const content = [{ type: "image", image: { path: picture } }, { type: "text", text }];
      for await (const delta of engine.generate([{ role: "user", content }], { pruning: "himap", maxTokens: 64 })) {
        parentPort.postMessage({ id, text: delta.text });
      }
      parentPort.postMessage({ id, done: true });
    } catch (error) {
      // An error's class does not survive the crossing; its code does.
      parentPort.postMessage({ id, done: true, error: `${error.code}: ${error.message}` });
    }
  });
}

/** Asks the worker, and gathers the pieces that come with the question's number. */
function ask(worker, id, picture, text) {
  return new Promise((resolve, reject) => {
    let answer = "";
    const listen = (message) => {
      if (message.id !== id) return;
      answer += message.text ?? "";
      if (!message.done) return;
      worker.off("message", listen);
      if (message.error) reject(new Error(message.error));
      else resolve(answer);
    };
    worker.on("message", listen);
    worker.postMessage({ id, picture, text });
  });
}

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url));
  await once(worker, "online");
  const questions = [["scene-2.png", "Where is the black cross?"], ["scene-1.png", "Describe the image."]];
  const answers = await Promise.all(questions.map(([file, text], id) => ask(worker, id, path(`examples/images/${file}`), text)));
  for (const [i, [file, text]] of questions.entries()) console.log(`${file}: ${text} ${answers[i]}`);
  await worker.terminate();
} else {
  await serve();
}
