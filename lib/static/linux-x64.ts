/** As linux-x64.cts, for `import`. */

import "./linux-x64.cjs";

export * from "../index.js";
