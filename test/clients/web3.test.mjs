// ledgerd as web3.js 4 sees it.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { Web3 } from 'web3'
import { CHAIN_ID, Token, accounts, startNode, within } from './node.mjs'

const [alice, bob, carol] = accounts
const SUPPLY = 10n ** 24n

let node, web3, socket, token

before(async () => {
  node = await startNode()
  web3 = new Web3(node.http)
  web3.eth.transactionPollingInterval = 20
  socket = new Web3(node.ws)
  for (const w of [web3, socket]) w.eth.accounts.wallet.add(alice.privateKey)
  const contract = new web3.eth.Contract(Token.abi)
  token = await contract.deploy({ data: Token.bytecode, arguments: ['Gold', 'GLD', SUPPLY] }).send({ from: alice.address })
})

after(async () => {
  socket?.provider?.disconnect()
  await node?.stop()
})

test('the node says who it is', async () => {
  assert.equal(await web3.eth.getChainId(), BigInt(CHAIN_ID))
  assert.equal(await web3.eth.net.getId(), BigInt(CHAIN_ID))
  assert.match(await web3.eth.getNodeInfo(), /^ledgerd\/v/)
  assert.equal(await web3.eth.isSyncing(), false)
})

test('a contract is called, sent to, and its past events are found', async () => {
  assert.equal(await token.methods.totalSupply().call(), SUPPLY)
  const receipt = await token.methods.transfer(bob.address, 42n).send({ from: alice.address })
  assert.equal(receipt.status, 1n)
  assert.equal(receipt.events.Transfer.returnValues.value, 42n)
  assert.equal(await token.methods.balanceOf(bob.address).call(), 42n)
  const found = await token.getPastEvents('Transfer', { filter: { to: bob.address }, fromBlock: 'earliest' })
  assert.deepEqual(found.map((e) => [e.transactionHash, e.returnValues.value]), [[receipt.transactionHash, 42n]])
})

test('a transfer, its fees and its receipt', async () => {
  const before = await web3.eth.getBalance(carol.address)
  const receipt = await web3.eth.sendTransaction({ from: alice.address, to: carol.address, value: 5n })
  assert.equal(receipt.gasUsed, 21_000n)
  assert.equal(await web3.eth.getBalance(carol.address), before + 5n)
  const tx = await web3.eth.getTransaction(receipt.transactionHash)
  assert.equal(tx.type, 2n)
  assert.equal(tx.blockHash, receipt.blockHash)
  const block = await web3.eth.getBlock(receipt.blockNumber, true)
  assert.ok(block.transactions.some((t) => t.hash === receipt.transactionHash))
  assert.equal(await web3.eth.getTransactionReceipt(`0x${'11'.repeat(32)}`).catch((err) => err.name), 'TransactionNotFound')
})

test('a revert is shown with its reason', async () => {
  await assert.rejects(token.methods.transfer(bob.address, 1n).call({ from: carol.address }), (err) => {
    assert.equal(err.cause?.errorName ?? err.innerError?.errorName, 'ERC20InsufficientBalance')
    return true
  })
})

test('what the node refuses keeps its words', async () => {
  const old = await web3.eth.accounts.signTransaction({ to: bob.address, value: 1, gas: 21_000, nonce: 0, maxFeePerGas: 1, maxPriorityFeePerGas: 1, chainId: CHAIN_ID }, alice.privateKey)
  await assert.rejects(web3.eth.sendSignedTransaction(old.rawTransaction), /nonce too low/)
})

test('a batch', async () => {
  const batch = new web3.BatchRequest()
  const answers = ['eth_chainId', 'eth_blockNumber'].map((method, id) => batch.add({ jsonrpc: '2.0', id: id + 1, method, params: [] }))
  await batch.execute()
  assert.equal(await answers[0], '0x539')
  assert.ok(BigInt(await answers[1]) > 0n)
})

test('subscriptions to heads and to the logs of a contract', async () => {
  const heads = await socket.eth.subscribe('newBlockHeaders')
  const logs = await socket.eth.subscribe('logs', { address: token.options.address })
  const head = once(heads, 'data')
  const log = once(logs, 'data')
  const receipt = await token.methods.transfer(bob.address, 1n).send({ from: alice.address })
  const [h] = await within(10_000, 'a head', head)
  assert.equal(h.number, receipt.blockNumber)
  const [l] = await within(10_000, 'a log', log)
  assert.equal(l.transactionHash, receipt.transactionHash)
  await heads.unsubscribe()
  await logs.unsubscribe()
})
