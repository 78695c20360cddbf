// Writes prebuilds/<platform>-<arch>/ through prebuildify. The folder is emptied first: prebuildify never cleans it,
// and a stale file with more tags in its name would win over the fresh one.

import { rmSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
rmSync(new URL('../prebuilds', import.meta.url), { recursive: true, force: true })
const { status } = spawnSync(
  process.execPath,
  ['node_modules/prebuildify/bin.js', '--napi', '--strip', '--tag-libc', '--node-gyp', './scripts/build/gyp-shim.cjs'],
  { cwd: root, stdio: 'inherit' }
)
process.exit(status ?? 1)
