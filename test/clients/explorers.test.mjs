// ledgerd as explorers and indexers see it: what Otterscan, Blockscout and The Graph call, with what they do with the answers, and cast run.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, test } from 'node:test'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Contract, ContractFactory, JsonRpcProvider, Wallet, getAddress, toQuantity } from 'ethers'
import { CHAIN_ID, MULTICALL3, Token, accounts, startNode } from './node.mjs'

const run = promisify(execFile)
const arch = process.arch === 'x64' ? 'amd64' : process.arch
const cast = join(import.meta.dirname, `node_modules/@foundry-rs/cast-${process.platform}-${arch}/bin/cast`)
const multicall = ['function aggregate3(tuple(address target, bool allowFailure, bytes callData)[]) payable returns (tuple(bool success, bytes data)[])']

let node, provider, alice, token, deployed, direct, internal, failed

const send = (method, ...args) => provider.send(method, args)
const address = (account) => account.toLowerCase()

before(async () => {
  node = await startNode()
  provider = new JsonRpcProvider(node.http, CHAIN_ID, { staticNetwork: true, cacheTimeout: -1, pollingInterval: 50 })
  alice = new Wallet(accounts[0].privateKey, provider)
  token = await new ContractFactory(Token.abi, Token.bytecode, alice).deploy('Gold', 'GLD', 10n ** 24n)
  deployed = await token.deploymentTransaction().wait()
  direct = await (await token.transfer(accounts[1].address, 42)).wait()
  // By way of Multicall3 the token is called by a contract: once well, once in a way that reverts.
  const calls = [
    [token.target, true, token.interface.encodeFunctionData('approve', [accounts[1].address, 7])],
    [token.target, true, token.interface.encodeFunctionData('transfer', [accounts[1].address, 1])],
  ]
  internal = await (await new Contract(MULTICALL3, multicall, alice).aggregate3(calls, { gasLimit: 300_000 })).wait()
  const sent = await alice.sendTransaction({ to: token.target, data: token.interface.encodeFunctionData('transfer', [accounts[1].address, 10n ** 30n]), gasLimit: 100_000 })
  failed = await provider.waitForTransaction(sent.hash).catch((error) => error.receipt)
  assert.equal(failed.status, 0)
})

after(async () => {
  provider?.destroy()
  await node?.stop()
})

test('Otterscan: probe, blocks and their pages', async () => {
  assert.equal(await send('ots_getApiLevel'), 8)
  assert.equal((await send('erigon_getHeaderByNumber', 1)).number, '0x1')
  const details = await send('ots_getBlockDetails', deployed.blockNumber)
  assert.equal(details.block.transactionCount, 1)
  assert.equal(BigInt(details.totalFees), deployed.gasUsed * deployed.gasPrice)
  assert.equal(details.block.logsBloom, null)
  assert.deepEqual(await send('ots_getBlockDetailsByHash', deployed.blockHash), details)
  const page = await send('ots_getBlockTransactions', deployed.blockNumber, 0, 25)
  assert.equal(page.fullblock.transactions[0].input, Token.bytecode.slice(0, 10))
  assert.equal(page.receipts[0].contractAddress, address(token.target))
})

test('Otterscan: the transactions of an account, newest first', async () => {
  const search = await send('ots_searchTransactionsBefore', token.target, 0, 25)
  assert.deepEqual(search.txs.map((tx) => tx.hash), [failed, internal, direct, deployed].map((receipt) => receipt.hash))
  assert.ok(search.firstPage && search.lastPage)
  assert.ok(search.receipts.every((receipt) => Number.isInteger(receipt.timestamp) && Array.isArray(receipt.logs)))
  const page = await send('ots_searchTransactionsBefore', token.target, failed.blockNumber, 1)
  assert.deepEqual(page.txs.map((tx) => tx.hash), [internal.hash])
  assert.ok(!page.firstPage && !page.lastPage)
  assert.equal(await send('ots_getTransactionBySenderAndNonce', alice.address, 2), internal.hash)
  assert.equal(await send('ots_getTransactionBySenderAndNonce', alice.address, 99), null)
  const creator = await send('ots_getContractCreator', token.target)
  assert.deepEqual(creator, { hash: deployed.hash, creator: address(alice.address) })
  assert.equal(await send('ots_hasCode', token.target, 'latest'), true)
  assert.equal(await send('ots_hasCode', token.target, deployed.blockNumber - 1), false)
})

test('Otterscan: within a transaction', async () => {
  const entries = await send('ots_traceTransaction', internal.hash)
  assert.deepEqual(entries.map(({ type, depth, to }) => [type, depth, to]), [['CALL', 0, address(MULTICALL3)], ['CALL', 1, address(token.target)], ['CALL', 1, address(token.target)]])
  assert.deepEqual(await send('ots_getInternalOperations', internal.hash), [])
  assert.equal(await send('ots_getTransactionError', internal.hash), '0x')
  const data = await send('ots_getTransactionError', failed.hash)
  assert.notEqual(data, '0x')

  // Every change has one kind: "+", "-", "*", or is "=".
  const { stateDiff } = await send('trace_replayTransaction', direct.hash, ['stateDiff'])
  const changes = stateDiff[address(token.target)]
  assert.equal(changes.balance, '=')
  assert.equal(Object.keys(changes.storage).length, 2)
  for (const change of Object.values(changes.storage)) {
    assert.deepEqual(Object.keys(change), ['*'])
    assert.deepEqual(Object.keys(change['*']), ['from', 'to'])
  }
})

test('The Graph: calls of a contract', async () => {
  const traces = await send('trace_filter', { fromBlock: '0x0', toBlock: toQuantity(failed.blockNumber), toAddress: [token.target] })
  const expected = [[deployed, 'create'], [direct, 'call'], [internal, 'call'], [internal, 'call'], [failed, 'call']]
  assert.deepEqual(traces.map((trace) => [trace.transactionHash, trace.type]), expected.map(([receipt, type]) => [receipt.hash, type]))
  for (const trace of traces) {
    assert.equal(trace.blockNumber, (await provider.getTransactionReceipt(trace.transactionHash)).blockNumber)
    assert.equal('error' in trace, trace.result === null)
  }
  const [block] = await send('debug_traceBlockByNumber', toQuantity(internal.blockNumber), { tracer: 'callTracer' })
  assert.equal(block.txHash, internal.hash)
  assert.equal(block.result.calls.length, 2)
})

test('Blockscout: internal transactions', async () => {
  const replays = await send('trace_replayBlockTransactions', toQuantity(internal.blockNumber), ['trace'])
  assert.equal(replays[0].transactionHash, internal.hash)
  assert.deepEqual(replays[0].trace.map((trace) => trace.traceAddress), [[], [0], [1]])
  const traced = await send('debug_traceTransaction', internal.hash, { tracer: 'callTracer', timeout: '60s' })
  assert.equal(BigInt(traced.gasUsed), internal.gasUsed)
  assert.equal((await send('trace_block', toQuantity(deployed.blockNumber)))[0].result.address, address(token.target))
  await assert.rejects(send('debug_traceTransaction', internal.hash, { tracer: '{ result: () => 1 }' }), /JavaScript tracers are not supported/)
})

test('cast run executes a transaction again and comes to its gas', async () => {
  const { stdout } = await run(cast, ['run', internal.hash, '--rpc-url', node.http], { env: { ...process.env, NO_COLOR: '1' }, timeout: 60_000 })
  assert.match(stdout, new RegExp(`Gas used: ${internal.gasUsed}`))
  assert.ok(stdout.includes(getAddress(token.target)))
})

test('an error of a contract is decoded from its trace', async () => {
  const traced = await send('debug_traceCall', { from: alice.address, to: token.target, data: token.interface.encodeFunctionData('transfer', [accounts[1].address, 10n ** 30n]) }, 'latest', { tracer: 'callTracer' })
  assert.equal(traced.error, 'execution reverted')
  assert.equal(traced.output, await send('ots_getTransactionError', failed.hash))
})
