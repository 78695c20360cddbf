'use strict'
// Builds the native code through CMake: called by binding.gyp, by prebuildify (gyp-shim.cjs), by `npm run setup`
// and by `himap build`. Uses cmake-js where it is installed (a checkout), plain CMake elsewhere (an install).
//   --config=Release  --out=build/Release  --node-include=DIR  -DNAME=VALUE ...

const { spawnSync } = require('node:child_process')
const path = require('node:path')

const root = path.resolve(__dirname, '..', '..')
const option = (name, fallback) => {
  const given = process.argv.find((argument) => argument.startsWith(`--${name}=`))
  return given === undefined ? fallback : given.slice(name.length + 3)
}
const config = option('config', 'Release')
const out = path.resolve(root, option('out', `build/${config}`))
const work = path.resolve(root, option('work', 'build/cmake'))
const nodeInclude = option('node-include', '')
const definitions = process.argv.filter((argument) => argument.startsWith('-D'))

/** Runs a command in the package's folder; its failure is ours. */
function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', cwd: root })
  if (error) console.error(`himap: could not run ${command}: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}

/** Ends with one sentence when a tool is missing. */
function need(command, args, sentence) {
  if (spawnSync(command, args, { stdio: 'ignore' }).status !== 0) {
    console.error(`himap: ${sentence}`)
    process.exit(1)
  }
}

need('cmake', ['--version'], 'CMake 3.18 or newer was not found; install it (Debian and Ubuntu: apt-get install cmake; macOS: brew install cmake; else https://cmake.org/download).')
need(process.env.CXX || 'c++', ['--version'], 'a C++17 compiler was not found; install one (Debian and Ubuntu: apt-get install g++; macOS: xcode-select --install), or name it in CXX.')

definitions.push(`-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${out}`)
let cmakeJs
try {
  cmakeJs = require.resolve('cmake-js/bin/cmake-js')
} catch {} // not a checkout: plain CMake does the same
if (cmakeJs) {
  run(process.execPath, cmakeJs, 'build', '--log-level', 'error', '-d', root, '-O', work, '-B', config, '-p', String(require('node:os').cpus().length),
    ...definitions.map((definition) => `--CD${definition.slice(2)}`))
} else {
  const napi = [nodeInclude, require('node-addon-api').include_dir].filter(Boolean).join(';')
  run('cmake', '-S', root, '-B', work, `-DCMAKE_BUILD_TYPE=${config}`, ...(nodeInclude ? [`-DCMAKE_JS_INC=${napi}`] : []), ...definitions)
  run('cmake', '--build', work, '--parallel')
}
