// ledgerd as Foundry's cast sees it.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, test } from 'node:test'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { AbiCoder, getAddress, getCreateAddress } from 'ethers'
import { CHAIN_ID, MULTICALL3, Token, accounts, startNode } from './node.mjs'

const run = promisify(execFile)
// The program itself: npm's wrapper around it ends with 0 whatever happened.
const arch = process.arch === 'x64' ? 'amd64' : process.arch
const binary = join(import.meta.dirname, `node_modules/@foundry-rs/cast-${process.platform}-${arch}/bin/cast`)
const [alice, bob, carol] = accounts
const nobody = '0x00000000000000000000000000000000000B0b00'
const SUPPLY = 10n ** 24n

let node, token, deployed

/** Runs cast and returns what it printed. */
async function cast(...args) {
  const { stdout } = await run(binary, args.map(String), { env: { ...process.env, ETH_RPC_URL: node.http, NO_COLOR: '1' }, timeout: 30_000 })
  return stdout.trim()
}

const send = async (...args) => JSON.parse(await cast('send', '--json', '--private-key', alice.privateKey, ...args))
const balanceOf = async (account) => BigInt((await cast('call', token, 'balanceOf(address)(uint256)', account)).split(' ')[0])

before(async () => {
  node = await startNode()
  const args = AbiCoder.defaultAbiCoder().encode(['string', 'string', 'uint256'], ['Gold', 'GLD', SUPPLY])
  deployed = await send('--create', Token.bytecode + args.slice(2))
  token = getAddress(deployed.contractAddress)
})

after(() => node?.stop())

test('chain-id, client, block-number', async () => {
  assert.equal(await cast('chain-id'), String(CHAIN_ID))
  assert.match(await cast('client'), /^ledgerd\/v/)
  assert.ok(Number(await cast('block-number')) >= Number(deployed.blockNumber))
})

test('send --create and code', async () => {
  assert.equal(deployed.status, '0x1')
  assert.equal(token, getCreateAddress({ from: alice.address, nonce: 0 }))
  assert.ok((await cast('code', token)).length > 1_000)
  assert.ok((await cast('code', MULTICALL3)).length > 1_000, 'Multicall3 is predeployed')
  assert.equal(await cast('code', bob.address), '0x')
})

test('send, call, receipt, tx and logs of a token transfer', async () => {
  const sent = await send(token, 'transfer(address,uint256)', bob.address, 42)
  assert.equal(sent.status, '0x1')
  assert.equal(await balanceOf(bob.address), 42n)
  assert.equal(await balanceOf(alice.address), SUPPLY - 42n)

  const receipt = JSON.parse(await cast('receipt', '--json', sent.transactionHash))
  assert.equal(receipt.blockHash, sent.blockHash)
  assert.equal(receipt.logs.length, 1)
  assert.equal(await cast('receipt', sent.transactionHash, 'status'), 'true')
  const tx = JSON.parse(await cast('tx', '--json', sent.transactionHash))
  assert.equal(getAddress(tx.from), alice.address)
  assert.equal(getAddress(tx.to), token)

  const signature = 'Transfer(address indexed,address indexed,uint256)'
  const logs = JSON.parse(await cast('logs', '--json', '--from-block', 0, '--to-block', 'latest', '--address', token, signature, alice.address, bob.address))
  assert.deepEqual(logs.map((l) => [l.transactionHash, BigInt(l.data)]), [[sent.transactionHash, 42n]])
  assert.equal(JSON.parse(await cast('logs', '--json', '--from-block', 0, '--address', token, signature, carol.address)).length, 0)
})

test('block and nonce', async () => {
  const before = Number(await cast('nonce', alice.address))
  const sent = await send(bob.address, '--value', '1')
  assert.equal(Number(await cast('nonce', alice.address)), before + 1)
  const block = JSON.parse(await cast('block', '--json', BigInt(sent.blockNumber)))
  assert.equal(block.hash, sent.blockHash)
  assert.deepEqual(block.transactions, [sent.transactionHash])
  assert.equal(BigInt(block.baseFeePerGas), 0n)
  assert.match(await cast('block', 'latest'), /stateRoot/)
})

test('balance and estimate', async () => {
  const had = BigInt(await cast('balance', bob.address))
  await send(bob.address, '--value', '1ether')
  assert.equal(BigInt(await cast('balance', bob.address)), had + 10n ** 18n)
  assert.equal(await cast('balance', '--ether', nobody), '0.000000000000000000')
  assert.equal(await cast('estimate', nobody, '--value', '1', '--from', alice.address), '21000')
  assert.ok(Number(await cast('estimate', token, 'transfer(address,uint256)', bob.address, 1, '--from', alice.address)) > 21_000)
})

test('legacy and access-list transactions', async () => {
  assert.equal((await send(bob.address, '--value', '1', '--legacy')).type, '0x0')
  assert.equal((await send(token, 'transfer(address,uint256)', bob.address, 1, '--access-list', '[]', '--gas-price', '1gwei', '--legacy')).status, '0x1')
})

test('a revert is shown with its data', async () => {
  // cast names an error that it knows only with its signature database, so look for the selector
  // of ERC20InsufficientBalance(address,uint256,uint256) or for its name.
  const refused = (err) => {
    assert.match(err.stderr, /execution reverted/)
    assert.match(err.stderr, /e450d38c|ERC20InsufficientBalance/)
    return true
  }
  await assert.rejects(cast('call', token, 'transfer(address,uint256)', bob.address, 1, '--from', carol.address), refused)
  await assert.rejects(cast('estimate', token, 'transfer(address,uint256)', bob.address, 1, '--from', carol.address), refused)
})

test('publish of a signed transaction, and its status by ledger_transactionStatus', async () => {
  const raw = await cast('mktx', '--private-key', carol.privateKey, bob.address, '--value', '5')
  const { transactionHash, blockHash } = JSON.parse(await cast('rpc', 'eth_sendRawTransactionSync', raw))
  assert.deepEqual(JSON.parse(await cast('rpc', 'ledger_transactionStatus', transactionHash)), { status: 'included', blockHash })
  const unknown = `0x${'11'.repeat(32)}`
  assert.deepEqual(JSON.parse(await cast('rpc', 'ledger_transactionStatus', unknown)), { status: 'unknown' })
  await assert.rejects(cast('publish', raw), (err) => /nonce too low|already known/.test(err.stderr))
})

test('the log below the chain', async () => {
  const tail = BigInt(JSON.parse(await cast('rpc', 'log_tail')))
  await send(bob.address, '--value', '1')
  assert.ok(BigInt(JSON.parse(await cast('rpc', 'log_tail'))) > tail, 'every transaction goes through the shared log')
})
