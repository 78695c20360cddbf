// Makes a fresh checkout ready: installs the locked dependencies, builds the native code, compiles TypeScript.
// Each step is skipped when what it reads has not changed since it last succeeded (`--force`: none is).

import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const force = process.argv.includes('--force')
const quiet = !process.argv.includes('--verbose')
const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 17)) {
  console.error(`himap: Node 20.17 or newer is needed, this is ${process.versions.node}; see https://nodejs.org`)
  process.exit(1)
}

/** Every file below the given files and folders, sorted. */
function filesOf(entries) {
  return entries.flatMap((entry) => {
    const full = path.join(root, entry)
    if (!existsSync(full)) return []
    if (!statSync(full).isDirectory()) return [entry]
    return filesOf(readdirSync(full).sort().map((name) => path.join(entry, name)))
  })
}

/** Runs `work` unless `made` exists and nothing in `sources` changed since it last succeeded. */
function step(name, sources, made, work) {
  const hash = createHash('sha256').update(process.version)
  for (const file of filesOf(sources)) hash.update(file).update(readFileSync(path.join(root, file)))
  const stamp = path.join(root, 'build', 'stamps', name)
  const digest = hash.digest('hex')
  if (!force && existsSync(path.join(root, made)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return
  rmSync(stamp, { force: true })
  process.stderr.write(`himap: ${name}\n`)
  for (const [command, ...args] of work) {
    const result = spawnSync(command, args, { cwd: root, stdio: quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit', encoding: 'utf8', maxBuffer: 1 << 28 })
    if (result.status !== 0) {
      process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error ? `${result.error.message}\n` : ''}`)
      process.stderr.write(`himap: "${name}" failed\n`)
      process.exit(result.status ?? 1)
    }
  }
  mkdirSync(path.dirname(stamp), { recursive: true })
  writeFileSync(stamp, digest)
}

const native = ['CMakeLists.txt', 'native', 'kernels', 'scripts/build', 'test/native', 'bench/native']
step('installing dependencies', ['package.json', 'package-lock.json'], 'node_modules', [['npm', 'ci', '--no-audit', '--no-fund', '--ignore-scripts']])
// nvcc takes minutes, so a checkout has the CUDA backend when asked (HIMAP_CUDA=ON npm run build); the tests compile it apart.
const cuda = `-DHIMAP_CUDA=${process.env.HIMAP_CUDA ?? 'OFF'}`
step('building the native code', native, 'build/Release/himap.node', [[process.execPath, 'scripts/build/cmake.cjs', '-DHIMAP_TESTS=ON', cuda]])
step('compiling TypeScript', ['tsconfig.json', 'package-lock.json', 'lib', 'weights-tools'], 'dist/lib/index.js', [
  [process.execPath, '-e', "require('node:fs').rmSync('dist', { recursive: true, force: true })"],
  [process.execPath, 'node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'],
])
