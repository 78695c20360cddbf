const { doctor, load } = require("himap/linux-x64");

import("./answer.mjs").then(async ({ answer }) => {
  console.log(await answer(load));
  console.log((await doctor()).binary.why);
});
