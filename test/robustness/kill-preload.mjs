// Loaded into a child by --import: ends it by SIGKILL at a chosen moment.
//
//   KILL_AT=N     at the Nth moment that matters to the files: a write, of which only a part may get through, and before
//                 and behind a rename
//   KILL_ITEM=W   a moment after an item has been begun whose conversation holds the word W
//
// Plain JavaScript: a child starts a thousand times, and a loader would be most of its life.

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const { KILL_AT, KILL_ITEM } = process.env;

const die = () => {
  process.kill(process.pid, "SIGKILL");
  // The signal is on its way; nothing else happens before it arrives.
  for (;;);
};

if (KILL_AT !== undefined) {
  let left = Number(KILL_AT);
  const moment = () => --left === 0;

  const handle = await fs.promises.open(process.execPath);
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  const { write } = prototype;
  prototype.write = async function (buffer, offset, length, ...rest) {
    const last = moment();
    // Pieces, as a system may well write them, and the last one torn.
    const part = last ? Math.floor(Math.random() * (length + 1)) : Math.random() < 0.5 ? length : 1 + Math.floor(Math.random() * length);
    const written = part === 0 ? { bytesWritten: 0, buffer } : await write.call(this, buffer, offset, part, ...rest);
    if (last) die();
    return written;
  };

  const { rename } = fs.promises;
  fs.promises.rename = async (...args) => {
    if (moment()) die();
    await rename(...args);
    if (moment()) die();
  };
  syncBuiltinESMExports();
}

if (KILL_ITEM !== undefined) {
  const { ModelEngine } = await import(new URL("../../dist/lib/engine.js", import.meta.url).href);
  const { batch } = ModelEngine.prototype;
  ModelEngine.prototype.batch = function (jobs, options) {
    const watched = async function* () {
      for await (const job of jobs) {
        if (JSON.stringify(job.messages).includes(KILL_ITEM)) setTimeout(die, 5);
        yield job;
      }
    };
    return batch.call(this, watched(), options);
  };
}
