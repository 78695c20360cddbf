#!/usr/bin/env node
'use strict'
// Stands in for node-gyp under prebuildify (`<shim> rebuild --target=... --arch=x64 --release`): a clean CMake build,
// with no Node headers downloaded.

const fs = require('node:fs')
const path = require('node:path')
const { spawnSync } = require('node:child_process')

const root = path.resolve(__dirname, '..', '..')
const config = process.argv.includes('--debug') ? 'Debug' : 'Release'
fs.rmSync(path.join(root, 'build', config), { recursive: true, force: true })
const { status } = spawnSync(process.execPath, [path.join(__dirname, 'cmake.cjs'), `--config=${config}`], { stdio: 'inherit', cwd: root })
process.exit(status ?? 1)
