// Runs the tests: type check, every test/**/*.test.ts in a process of its own with a time limit, every native test
// program. `npm test -- WORD ...` runs only the files whose path contains one of the words.
// The last line reads `N passed, N failed, N skipped`.

import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const words = process.argv.slice(2)
const limitMs = 10 * 60_000
const total = { passed: 0, failed: 0, skipped: 0 }

/** Runs one command; kills it at the limit. */
function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } })
    let output = ''
    let late = false
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, limitMs)
    child.on('error', (error) => (output += error.message))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ output, ok: code === 0, end: late ? `killed after ${limitMs / 1000} s` : signal ? `ended by ${signal}` : `exit ${code}` })
    })
  })
}

/** The counts that a test program printed last: uvu's summary, or the plain line of the native tests. */
function countsOf(output) {
  const uvu = [...output.matchAll(/Total:\s+(\d+)\s+Passed:\s+(\d+)\s+Skipped:\s+(\d+)/g)].at(-1)
  if (uvu) return { passed: Number(uvu[2]), failed: Number(uvu[1]) - Number(uvu[2]), skipped: Number(uvu[3]) }
  const plain = [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1)
  return plain ? { passed: Number(plain[1]), failed: Number(plain[2]), skipped: Number(plain[3]) } : undefined
}

async function report(name, command, args, count = countsOf) {
  const started = Date.now()
  const { output, ok, end } = await run(command, args)
  const counts = count(output, ok) ?? { passed: 0, failed: 0, skipped: 0 }
  // A program that died, or said nothing, has failed whatever it counted before.
  if (counts.failed === 0 && (!ok || counts.passed + counts.skipped === 0)) counts.failed = 1
  for (const key of Object.keys(total)) total[key] += counts[key]
  const seconds = ((Date.now() - started) / 1000).toFixed(1)
  console.log(`${counts.failed ? 'FAIL' : 'ok  '} ${name}  ${counts.passed} passed${counts.failed ? `, ${counts.failed} failed (${end})` : ''}${counts.skipped ? `, ${counts.skipped} skipped` : ''}  ${seconds} s`)
  if (counts.failed) console.log(output.replace(/^/gm, '     '))
  // Not only where a line begins: uvu's dots stand before what a test prints.
  else for (const line of output.match(/\b(SKIP|NOTE): .*$/gm) ?? []) console.log(`     ${line}`)
}

const wanted = (name) => words.length === 0 || words.some((word) => name.includes(word))
const testFiles = readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts')).map((name) => path.join('test', name)).sort()
const nativeFolder = path.join('build', 'native-tests')
const nativePrograms = existsSync(path.join(root, nativeFolder)) ? readdirSync(path.join(root, nativeFolder)).filter((name) => name.startsWith('test_')).sort() : []

if (wanted('types')) {
  await report('types', process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.test.json'], (_, ok) => ({ passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 }))
}
for (const program of nativePrograms) {
  const name = path.join(nativeFolder, program)
  if (wanted(name)) await report(name, path.join(root, name), [])
}
for (const file of testFiles) if (wanted(file)) await report(file, process.execPath, ['--import', 'tsx', file])

console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exit(total.failed ? 1 : 0)
