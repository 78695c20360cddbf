// package.json by its own name: the path is the same from lib/ and from dist/lib/, and a bundler copies it into the bundle.

export const packageJson = require("himap/package.json") as { version: string };
