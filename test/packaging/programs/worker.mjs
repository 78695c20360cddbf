// The same question in the main thread and in three workers at once; then one worker ended in the middle of its answer.
import { once } from "node:events";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { load } from "himap";
import { answer } from "./answer.mjs";

const start = () => new Worker(new URL(import.meta.url));
if (isMainThread) {
  const workers = [start(), start(), start()];
  const [own, ...others] = await Promise.all([answer(load), ...workers.map(async (worker) => (await once(worker, "message"))[0])]);
  if (others.some((other) => other !== own)) throw new Error(`answers differ: ${[own, ...others].join(" | ")}`);
  const ended = start();
  await once(ended, "online");
  await new Promise((resolve) => setTimeout(resolve, 300));
  await ended.terminate();
  console.log(await answer(load));
} else {
  parentPort.postMessage(await answer(load));
}
