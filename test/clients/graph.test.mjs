// What The Graph's graph-node asks an Ethereum node for, in the order and the form in which it asks (its ethereum adapter): which chain it is, blocks by hash,
// logs in windows, receipts of a block by its hash, and calls of contracts at the hash of a block.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ContractFactory, Interface, JsonRpcProvider, NonceManager, Wallet, id, zeroPadValue } from 'ethers'
import { CHAIN_ID, Token, accounts, post, startNode } from './node.mjs'

const [alice, bob] = accounts
const erc20 = new Interface(Token.abi)
const TRANSFERS = 120

let node, token, next = 1

/** Calls the node; what it answers with an error is returned as the error. */
async function call(method, ...params) {
  const { result, error } = await post(node.http, { jsonrpc: '2.0', id: next++, method, params })
  return error ?? result
}

const hex = (n) => `0x${n.toString(16)}`

before(async () => {
  node = await startNode()
  const provider = new JsonRpcProvider(node.http, CHAIN_ID, { staticNetwork: true, pollingInterval: 20 })
  const signer = new NonceManager(new Wallet(alice.privateKey, provider))
  const contract = await (await new ContractFactory(Token.abi, Token.bytecode, signer).deploy('Gold', 'GLD', 10n ** 24n)).waitForDeployment()
  token = (await contract.getAddress()).toLowerCase()
  const fees = { gasLimit: 100_000n, maxFeePerGas: 0n, maxPriorityFeePerGas: 0n }
  const sent = []
  for (let i = 0; i < TRANSFERS; i++) sent.push(await contract.transfer(bob.address, BigInt(i + 1), fees))
  await Promise.all(sent.map((tx) => tx.wait()))
  provider.destroy()
})

after(() => node?.stop())

test('which chain: network version and the hash of block 0', async () => {
  assert.equal(await call('net_version'), String(CHAIN_ID))
  const genesis = await call('eth_getBlockByNumber', '0x0', false)
  assert.match(genesis.hash, /^0x[0-9a-f]{64}$/)
  assert.match(await call('web3_clientVersion'), /^ledgerd/)
})

test('the head, and its ancestors by parent hash', async () => {
  let block = await call('eth_getBlockByNumber', 'latest', false)
  for (let i = 0; i < 20 && block.number !== '0x0'; i++) {
    const parent = await call('eth_getBlockByHash', block.parentHash, true)
    assert.equal(BigInt(parent.number), BigInt(block.number) - 1n)
    block = parent
  }
  assert.equal(await call('eth_getBlockByHash', `0x${'11'.repeat(32)}`, false), null)
})

test('logs in windows of blocks: together they are all of them, each once, with what graph-node reads of a log', async () => {
  const head = Number(await call('eth_blockNumber'))
  const seen = []
  for (let from = 0; from <= head; from += 7) {
    const logs = await call('eth_getLogs', { fromBlock: hex(from), toBlock: hex(Math.min(head, from + 6)), address: [token], topics: [[id('Transfer(address,address,uint256)')]] })
    for (const log of logs) {
      for (const field of ['address', 'topics', 'data', 'blockHash', 'blockNumber', 'transactionHash', 'transactionIndex', 'logIndex']) assert.ok(log[field] != null, field)
      assert.equal(log.removed, false)
    }
    seen.push(...logs)
  }
  assert.equal(seen.length, TRANSFERS + 1)
  assert.equal(new Set(seen.map((l) => `${l.blockHash} ${l.logIndex}`)).size, seen.length)
  const whole = await call('eth_getLogs', { fromBlock: '0x0', toBlock: 'latest', topics: [null, null, [zeroPadValue(bob.address.toLowerCase(), 32)]] })
  assert.equal(whole.length, TRANSFERS)
  const byHash = await call('eth_getLogs', { blockHash: whole[0].blockHash, address: token })
  assert.ok(byHash.some((l) => l.transactionHash === whole[0].transactionHash))
})

test('the receipts of a block by its hash, as EIP-1898 has it, and one by one in a batch', async () => {
  const [{ blockHash }] = await call('eth_getLogs', { fromBlock: '0x0', toBlock: 'latest', address: token })
  const block = await call('eth_getBlockByHash', blockHash, true)
  const receipts = await call('eth_getBlockReceipts', { blockHash })
  assert.deepEqual(await call('eth_getBlockReceipts', blockHash), receipts)
  assert.deepEqual(receipts.map((r) => r.transactionHash), block.transactions.map((t) => t.hash))
  const answers = await post(node.http, block.transactions.map((t, i) => ({ jsonrpc: '2.0', id: i, method: 'eth_getTransactionReceipt', params: [t.hash] })))
  assert.deepEqual(answers.map((a) => a.result), receipts)
})

test('calls at the hash of a block, now and long ago', async () => {
  const logs = await call('eth_getLogs', { fromBlock: '0x0', toBlock: 'latest', topics: [null, null, zeroPadValue(bob.address.toLowerCase(), 32)] })
  const data = erc20.encodeFunctionData('balanceOf', [bob.address])
  const sums = new Map()
  let sum = 0n
  for (const log of logs) sums.set(log.blockHash, (sum += BigInt(log.data)))
  for (const [blockHash, want] of sums) {
    const answer = await call('eth_call', { to: token, data, gas: '0x2faf080' }, { blockHash })
    assert.equal(BigInt(answer), want)
  }
  assert.equal(await call('eth_getCode', token, { blockHash: logs[0].blockHash }), await call('eth_getCode', token, 'latest'))
})

test('a call that reverts is told by the words that graph-node looks for', async () => {
  const data = erc20.encodeFunctionData('transfer', [bob.address, 1n])
  const error = await call('eth_call', { from: `0x${'22'.repeat(20)}`, to: token, data }, 'latest')
  assert.equal(error.code, 3)
  assert.match(error.message, /execution reverted/)
  assert.match(error.data, /^0xe450d38c/)
})
