const { load } = require("himap");

import("./answer.mjs").then(async ({ answer }) => console.log(await answer(load)));
