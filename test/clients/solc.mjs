#!/usr/bin/env node
// The compiler of the lock file under the command line of solc, as far as forge uses it: --version, and standard JSON from stdin.

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const solc = createRequire(import.meta.url)('solc')

if (process.argv.includes('--version')) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version().replace('.Emscripten.clang', '')}`)
} else {
  process.stdout.write(solc.compile(readFileSync(0, 'utf8')))
}
