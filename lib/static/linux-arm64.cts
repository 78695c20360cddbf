// The entry for bundlers on linux-arm64: the package's own entry, with its binary named where a bundler sees it.
// The backends' libraries have to lie beside the binary (docs/packaging.md).

import { given } from "../binding/given.cjs";

// Loaded when first needed, like any other binary. The path holds in the package, where this file lies in dist/lib/static.
given["linux-arm64"] = () => require("../../../prebuilds/linux-arm64/himap.glibc.node") as unknown;

export * from "../cjs.cjs";
