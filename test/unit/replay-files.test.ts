import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { caseFolder, replayCases, replayText } from "../../scripts/make-replay.js";

for (const name of replayCases) {
  test(`test/golden/${name}/replay.txt is what scripts/make-replay.ts writes`, async () => {
    assert.is(readFileSync(path.join(caseFolder(name), "replay.txt"), "utf8"), await replayText(name));
  });
}

test.run();
