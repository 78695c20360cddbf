#!/usr/bin/env node
'use strict'
// Stands in for node-gyp under prebuildify (`<shim> rebuild --target=... --arch=x64 --release`): a clean CMake build,
// with no Node headers downloaded. For another architecture than this machine's, with the cross compiler of that name.

const fs = require('node:fs')
const path = require('node:path')
const { spawnSync } = require('node:child_process')

const root = path.resolve(__dirname, '..', '..')
const config = process.argv.includes('--debug') ? 'Debug' : 'Release'
const arch = process.argv.find((argument) => argument.startsWith('--arch='))?.slice('--arch='.length) ?? process.arch
const definitions = process.env.HIMAP_CUDA ? [`-DHIMAP_CUDA=${process.env.HIMAP_CUDA}`] : []
if (arch === 'arm64' && process.arch !== 'arm64') {
  definitions.push('-DCMAKE_SYSTEM_NAME=Linux', '-DCMAKE_SYSTEM_PROCESSOR=aarch64', '-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++')
} else if (arch !== process.arch) {
  console.error(`himap: no cross build for ${arch} on ${process.arch}`)
  process.exit(1)
}
for (const folder of [config, 'cmake']) fs.rmSync(path.join(root, 'build', folder), { recursive: true, force: true })
const { status } = spawnSync(process.execPath, [path.join(__dirname, 'cmake.cjs'), `--config=${config}`, ...definitions], { stdio: 'inherit', cwd: root })
process.exit(status ?? 1)
