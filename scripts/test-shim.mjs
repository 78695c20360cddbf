// The full matrix of the device code's tests on the host's SIMT machine: lane orders x timings of asynchronous copies and
// products, each as compiled for speed, under AddressSanitizer with UBSan, and under ThreadSanitizer. `npm run test:shim [-- AREA ...]`
// runs only the programs whose name contains one of the words. The last line reads `N passed, N failed, 0 skipped`.

import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const words = process.argv.slice(2)
const wanted = (name) => words.length === 0 || words.some((word) => name.includes(word))
const builds = [
  { name: 'plain', sanitize: '', orders: ['forward', 'reverse', 'random'], seeds: [1, 2, 3] },
  { name: 'address', sanitize: 'address', orders: ['forward', 'random'], seeds: [1] },
  // A race is a race in any order; the sanitizer remembers what ran.
  { name: 'thread', sanitize: 'thread', orders: ['random'], seeds: [1] },
]
// Only the linear layers and the wrappers know asynchronous products.
const timings = (program) =>
  ['early', 'late'].flatMap((copies) => (/linear|sm90/.test(program) ? ['early', 'late'] : ['early']).map((products) => [copies, products]))
let passed = 0
let failed = 0

function run(command, args, env) {
  return spawnSync(command, args, { cwd: root, env: { ...process.env, ...env }, encoding: 'utf8', maxBuffer: 1 << 28 })
}

for (const { name, sanitize, orders, seeds } of builds) {
  const folder = path.join('build', `shim-${name}`)
  const programs = path.join(root, folder, 'programs')
  for (const args of [
    ['-S', '.', '-B', folder, '-DHIMAP_ADDON=OFF', '-DHIMAP_TESTS=ON', '-DHIMAP_CUDA=OFF', `-DHIMAP_SANITIZE=${sanitize}`, `-DHIMAP_DEVICE_TESTS=${programs}`],
    ['--build', folder, '--target', 'himap_shim_tests', '--parallel', '2'],
  ]) {
    const { status, stdout, stderr } = run('cmake', args)
    if (status === 0) continue
    console.error(`${stdout}${stderr}`)
    process.exit(1)
  }
  for (const program of readdirSync(programs).filter(wanted).sort()) {
    for (const order of orders) {
      for (const [copies, products] of timings(program)) {
        for (const seed of order === 'random' ? seeds : [1]) {
          const started = Date.now()
          // Four OS threads whatever the machine has: blocks that meet each other are what the thread build looks for.
          const env = { HIMAP_SIMT_ORDER: order, HIMAP_SIMT_COPIES: copies, HIMAP_SIMT_PRODUCTS: products, HIMAP_SIMT_SEED: String(seed), HIMAP_SIMT_THREADS: '4' }
          const { status, signal, stdout, stderr } = run(path.join(programs, program), [], env)
          const ok = status === 0
          ok ? passed++ : failed++
          console.log(`${ok ? 'ok  ' : 'FAIL'} ${program} ${name} ${order}${order === 'random' ? ` ${seed}` : ''} ${copies} ${products}  ${((Date.now() - started) / 1000).toFixed(1)} s`)
          if (!ok) console.log(`${stdout}${stderr}${signal ?? ''}`.replace(/^/gm, '     '))
        }
      }
    }
  }
}
console.log(`${passed} passed, ${failed} failed, 0 skipped`)
process.exit(failed ? 1 : 0)
