// How long eth_sendRawTransactionSync of a transfer takes on an idle node: ledgerd, durable, against
// Anvil, which keeps nothing. Run with `make bench-latency`.
//
// Both nodes run at the same time and are asked in turn, so that what else the machine does hits
// both alike. Each has one keep-alive connection; transactions are signed beforehand. eth_chainId
// over the same connection shows how much of it is HTTP and Node.
//
// LEDGERD_SAMPLES (300) and LEDGERD_WARMUP (50) say how many.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Wallet } from 'ethers'
import { CHAIN_ID, accounts, startNode, within } from './node.mjs'

const SAMPLES = Number(process.env.LEDGERD_SAMPLES ?? 300)
const WARMUP = Number(process.env.LEDGERD_WARMUP ?? 50)

const dir = mkdtempSync(join(tmpdir(), 'ledgerd-latency-'))
const nodes = []
try {
  nodes.push({ name: 'ledgerd dev --datadir', ...(await startNode('--datadir', join(dir, 'data'))) })
  nodes.push({ name: 'anvil', ...(await startAnvil()) })
  for (const node of nodes) await prepare(node)
  for (let i = 0; i < WARMUP + SAMPLES; i++) {
    // The order changes each time: neither is always the first after a pause.
    for (const node of i % 2 ? nodes : nodes.toReversed()) {
      await sample(node.chainId, node, 'eth_chainId', [])
      const receipt = await sample(node.sends, node, 'eth_sendRawTransactionSync', [node.signed[i]])
      assert.equal(receipt.status, '0x1', `${node.name}: ${JSON.stringify(receipt)}`)
    }
  }
  report()
} finally {
  for (const node of nodes) {
    node.agent?.destroy()
    await node.stop()
  }
  rmSync(dir, { recursive: true, force: true })
}

async function startAnvil() {
  const arch = process.arch === 'x64' ? 'amd64' : process.arch
  const program = join(import.meta.dirname, `node_modules/@foundry-rs/anvil-${process.platform}-${arch}/bin/anvil`)
  const child = spawn(program, ['--port', '0', '--chain-id', String(CHAIN_ID), '--base-fee', '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const listening = new Promise((resolve) => {
    createInterface(child.stdout).on('line', (line) => {
      const match = /Listening on (\S+)/.exec(line)
      if (match) resolve(`http://${match[1]}`)
    })
  })
  const stop = async () => {
    child.kill('SIGTERM')
    await ended
  }
  return { http: await within(20_000, 'anvil to listen', listening), stop }
}

async function prepare(node) {
  node.agent = new Agent({ keepAlive: true, maxSockets: 1 })
  node.chainId = []
  node.sends = []
  const wallet = new Wallet(accounts[0].privateKey)
  node.signed = await Promise.all(
    Array.from({ length: WARMUP + SAMPLES }, (_, nonce) =>
      wallet.signTransaction({
        type: 2,
        chainId: CHAIN_ID,
        nonce,
        to: accounts[1].address,
        value: 1n,
        gasLimit: 21_000n,
        maxFeePerGas: 2_000_000_000n,
        maxPriorityFeePerGas: 1_000_000_000n,
      }),
    ),
  )
}

/** Calls the node and appends to times how many milliseconds it took, body parsed. */
async function sample(times, node, method, params) {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
  const began = performance.now()
  const answer = JSON.parse(await exchange(node, body))
  times.push(performance.now() - began)
  if (answer.error) throw new Error(`${node.name}: ${method}: ${answer.error.message}`)
  return answer.result
}

function exchange(node, body) {
  return new Promise((resolve, reject) => {
    const call = request(node.http, {
      method: 'POST',
      agent: node.agent,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    })
    call.on('error', reject)
    call.on('response', (response) => {
      response.setEncoding('utf8')
      let text = ''
      response.on('data', (chunk) => { text += chunk })
      response.on('end', () => resolve(text))
    })
    call.end(body)
  })
}

function report() {
  console.log(`${SAMPLES} samples each, after ${WARMUP}; ${cpus().length} cores, ${cpus()[0].model}; milliseconds`)
  const rows = nodes.map((node) => {
    const sends = node.sends.slice(WARMUP)
    return { node: node.name, median: quantile(sends, 0.5), p90: quantile(sends, 0.9), p99: quantile(sends, 0.99), 'eth_chainId median': quantile(node.chainId.slice(WARMUP), 0.5) }
  })
  console.table(rows)
  console.log(`ratio of the medians: ${(rows[0].median / rows[1].median).toFixed(2)}`)
}

function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b)
  return Number(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))].toFixed(3))
}
