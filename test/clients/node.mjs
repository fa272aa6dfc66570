// A ledgerd for the tests: built from the tree, started on a free port, ended with SIGTERM.
//
// LEDGERD_BIN  a binary that is already built (make clients sets it, so that the test files, which
//              node runs in processes of their own, build once)
// LEDGERD_URL  a node that is already running, instead of one of our own; it must be fresh, have
//              chain id 1337 and a base fee of 0, and fund the accounts of the test mnemonic

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { HDNodeWallet, Mnemonic } from 'ethers'

const here = import.meta.dirname

export const CHAIN_ID = 1337
export const MULTICALL3 = '0xcA11bde05977b3631167028862bE2a173976CA11'

/** The sample ERC-20: constructor(name, symbol, supply). */
export const Token = JSON.parse(readFileSync(join(here, '../../contracts/artifacts/Token.json'), 'utf8'))

const mnemonic = Mnemonic.fromPhrase('test test test test test test test test test test test junk')

/** The ten accounts that a development ledger funds, as {address, privateKey}. */
export const accounts = Array.from({ length: 10 }, (_, i) => {
  const { address, privateKey } = HDNodeWallet.fromMnemonic(mnemonic, `m/44'/60'/0'/0/${i}`)
  return { address, privateKey }
})

/** Resolves like promise, but fails after ms, saying what was waited for. */
export async function within(ms, what, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** One JSON-RPC body (a request or a batch), past every library; returns the parsed answer. */
export async function post(url, body) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await response.text()
  return text === '' ? undefined : JSON.parse(text)
}

/**
 * Starts a development node and returns {http, ws, stop}. stop ends it with SIGTERM and demands
 * that it ends by itself, with status 0.
 */
export async function startNode(...args) {
  if (process.env.LEDGERD_URL) {
    const http = process.env.LEDGERD_URL
    return { http, ws: http.replace(/^http/, 'ws'), stop: async () => {} }
  }
  const dir = mkdtempSync(join(tmpdir(), 'ledgerd-clients-'))
  const child = spawn(binary(dir), ['dev', '--http', '127.0.0.1:0', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = once(child, 'exit')
  // What it said last, for the message when it fails. Draining both pipes also keeps it from blocking.
  const said = []
  const hear = (line) => {
    said.push(line)
    if (said.length > 60) said.shift()
  }
  createInterface(child.stderr).on('line', hear)
  const ready = new Promise((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      hear(line)
      const match = /^ready http=(\S+) ws=(\S+)/.exec(line)
      if (match) resolve({ http: match[1], ws: match[2] })
    })
    ended.then(([code, signal]) => reject(new Error(`ended with ${code ?? signal} before it was ready`)), reject)
  })
  // A test process that dies takes its node along.
  const orphan = () => child.kill('SIGKILL')
  process.once('exit', orphan)
  try {
    const { http, ws } = await within(60_000, 'the ready line', ready)
    return { http, ws, stop }
  } catch (err) {
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
    throw new Error(`ledgerd dev: ${err.message}; it said:\n${said.join('\n')}`, { cause: err })
  }

  async function stop() {
    assert.equal(child.exitCode, null, `ledgerd ended by itself; it said:\n${said.join('\n')}`)
    child.kill('SIGTERM')
    const [code, signal] = await within(20_000, 'the end of ledgerd after SIGTERM', ended)
    process.off('exit', orphan)
    rmSync(dir, { recursive: true, force: true })
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `after SIGTERM; it said:\n${said.join('\n')}`)
  }
}

function binary(dir) {
  if (process.env.LEDGERD_BIN) return process.env.LEDGERD_BIN
  const out = join(dir, 'ledgerd')
  execFileSync('go', ['build', '-o', out, './cmd/ledgerd'], { cwd: join(here, '../..'), stdio: 'inherit' })
  return out
}
