/** As linux-arm64.cts, for `import`. */

import "./linux-arm64.cjs";

export * from "../index.js";
