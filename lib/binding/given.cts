// The binaries that static entries name (lib/static/), by platform: what a bundler can follow, where node-gyp-build
// searches folders that a bundle no longer has. In CommonJS so that both kinds of entry share it.

export const given: Record<string, (() => unknown) | undefined> = {};
