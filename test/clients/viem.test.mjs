// ledgerd as viem 2 sees it.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import {
  BlockNotFoundError,
  ContractFunctionRevertedError,
  InsufficientFundsError,
  NonceTooLowError,
  TransactionNotFoundError,
  TransactionReceiptNotFoundError,
  createPublicClient,
  createWalletClient,
  defineChain,
  getContractAddress,
  http,
  keccak256,
  parseEther,
  parseEventLogs,
  parseGwei,
  webSocket,
} from 'viem'
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts'
import { createNonceManager, jsonRpc } from 'viem/nonce'
import { CHAIN_ID, MULTICALL3, Token, accounts, post, startNode, within } from './node.mjs'

const SUPPLY = parseEther('1000000')
const keys = accounts.map((a) => a.privateKey)
const [alice, bob, carol, dave, erin, frank, grace] = keys.map((key) => privateKeyToAccount(key))
const nobody = '0x00000000000000000000000000000000000B0b00'
const abi = Token.abi

let node, chain, client, live, wallet, token

before(async () => {
  node = await startNode()
  chain = defineChain({
    id: CHAIN_ID,
    name: 'ledgerd',
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [node.http], webSocket: [node.ws] } },
    contracts: { multicall3: { address: MULTICALL3 } },
  })
  const options = { chain, pollingInterval: 50, cacheTime: 0 }
  client = createPublicClient({ ...options, transport: http() })
  live = createPublicClient({ ...options, transport: webSocket() })
  wallet = createWalletClient({ ...options, account: alice, transport: http() })
  const receipt = await done(wallet.deployContract({ abi, bytecode: Token.bytecode, args: ['Gold', 'GLD', SUPPLY] }))
  token = { address: receipt.contractAddress, abi }
})

after(async () => {
  await live?.transport.getRpcClient().then((socket) => socket.close())
  await node?.stop()
})

/** The receipt of what is being sent; it must have succeeded. */
async function done(sending) {
  const receipt = await client.waitForTransactionReceipt({ hash: await sending, timeout: 10_000 })
  assert.equal(receipt.status, 'success')
  return receipt
}

const balanceOf = (account, at = {}) => client.readContract({ ...token, functionName: 'balanceOf', args: [account], ...at })

/** Matches a rejection that has an error of this class in its chain of causes. */
const caused = (kind) => (err) => {
  assert.ok(err.walk?.((cause) => cause instanceof kind) instanceof kind, `no ${kind.name} in: ${err.message}`)
  return true
}

test('a contract is deployed and read', async () => {
  assert.equal(await client.getChainId(), CHAIN_ID)
  assert.notEqual(await client.getCode({ address: token.address }), undefined)
  const read = (functionName) => client.readContract({ ...token, functionName })
  assert.deepEqual(await Promise.all(['name', 'symbol', 'decimals', 'totalSupply'].map(read)), ['Gold', 'GLD', 18, SUPPLY])
})

test('Multicall3 is there, at the address that tools expect', async () => {
  const results = await client.multicall({
    contracts: [
      { ...token, functionName: 'symbol' },
      { ...token, functionName: 'balanceOf', args: [nobody] },
      { ...token, functionName: 'transfer', args: [nobody, 1n] }, // reverts: the multicall itself holds nothing
    ],
  })
  assert.deepEqual(results.slice(0, 2).map((r) => r.result), ['GLD', 0n])
  assert.equal(results[2].status, 'failure')
})

test('a transfer moves tokens, and its event is found by getLogs and by filters', async () => {
  const filter = await client.createContractEventFilter({ ...token, eventName: 'Transfer', args: { to: bob.address } })
  const had = await balanceOf(bob.address)
  const receipt = await done(wallet.writeContract({ ...token, functionName: 'transfer', args: [bob.address, 99n] }))
  assert.equal(await balanceOf(bob.address), had + 99n)
  assert.equal(await balanceOf(bob.address, { blockNumber: receipt.blockNumber - 1n }), had)

  const [own] = parseEventLogs({ abi, logs: receipt.logs, eventName: 'Transfer' })
  assert.deepEqual(own.args, { from: alice.address, to: bob.address, value: 99n })
  const stored = await client.getContractEvents({ ...token, eventName: 'Transfer', args: { to: bob.address }, fromBlock: receipt.blockNumber })
  assert.deepEqual(stored.map((l) => [l.transactionHash, l.logIndex, l.args.value]), [[receipt.transactionHash, own.logIndex, 99n]])
  assert.deepEqual((await client.getFilterChanges({ filter })).map((l) => l.transactionHash), [receipt.transactionHash])
  assert.deepEqual(await client.getFilterChanges({ filter }), [], 'what was fetched is not given again')
  assert.equal((await client.getFilterLogs({ filter })).length, 1)
  assert.equal(await client.uninstallFilter({ filter }), true)
  assert.deepEqual(await client.getContractEvents({ ...token, eventName: 'Transfer', args: { from: nobody }, fromBlock: 0n }), [])
})

test('heads, logs and pending transactions arrive by subscription', async () => {
  const socket = await live.transport.getRpcClient()
  // With viem's own transport, but past its watch actions, which do not say when they stand.
  const subscribe = async (...params) => {
    let push
    const received = []
    const { subscriptionId, unsubscribe } = await live.transport.subscribe({
      params,
      onData: ({ result }) => { received.push(result); push?.() },
      onError: (err) => { received.push(err); push?.() },
    })
    assert.match(subscriptionId, /^0x/)
    const until = async (found) => {
      while (!received.some(found)) await new Promise((resolve) => { push = resolve })
      return received.find(found)
    }
    return { until: (what, found) => within(5_000, what, until(found)), unsubscribe }
  }
  const heads = await subscribe('newHeads')
  const logs = await subscribe('logs', { address: token.address, topics: [] })
  const pending = await subscribe('newPendingTransactions')

  const receipt = await done(wallet.writeContract({ ...token, functionName: 'transfer', args: [bob.address, 1n] }))
  const log = await logs.until('the log', (l) => l.transactionHash === receipt.transactionHash)
  assert.equal(log.removed, false)
  const head = await heads.until('the head', (h) => h.hash === receipt.blockHash)
  assert.equal(BigInt(head.number), receipt.blockNumber)
  await pending.until('the pending transaction', (hash) => hash === receipt.transactionHash)
  for (const subscription of [heads, logs, pending]) await subscription.unsubscribe()
  assert.equal(socket.socket.readyState, 1)
})

test('viem\'s watch actions deliver every block and event in order', async () => {
  const numbers = []
  const values = []
  let push
  const watching = [
    live.watchBlockNumber({ onBlockNumber: (n) => { numbers.push(n); push?.() }, onError: assert.ifError, emitOnBegin: false }),
    live.watchContractEvent({ ...token, eventName: 'Transfer', args: { to: grace.address }, onLogs: (logs) => { values.push(...logs.map((l) => l.args.value)); push?.() }, onError: assert.ifError }),
  ]
  // Send until the first event arrives: from then on the subscription stands, and nothing may be missing.
  const until = (enough) => within(5_000, 'what is watched', (async () => {
    while (!enough()) await new Promise((resolve) => { push = resolve })
  })())
  const send = (value) => done(wallet.writeContract({ ...token, functionName: 'transfer', args: [grace.address, value] }))
  let value = 1n
  for (; values.length === 0 && value < 100n; value++) await send(value)
  const first = values[0]
  for (const last = value + 5n; value < last; value++) await send(value)
  await until(() => values.at(-1) === value - 1n)
  assert.deepEqual(values, Array.from({ length: Number(value - first) }, (_, i) => first + BigInt(i)))
  assert.ok(numbers.every((n, i) => i === 0 || n === numbers[i - 1] + 1n), `blocks out of order or missing: ${numbers}`)
  watching.forEach((stop) => stop())
})

test('a custom error is decoded', async () => {
  const transfer = { ...token, functionName: 'transfer', args: [bob.address, 5n], account: dave }
  const decoded = (err) => {
    const reverted = err.walk((cause) => cause instanceof ContractFunctionRevertedError)
    assert.equal(reverted?.data?.errorName, 'ERC20InsufficientBalance', err.message)
    assert.deepEqual(reverted.data.args, [dave.address, 0n, 5n])
    return true
  }
  await assert.rejects(client.simulateContract(transfer), decoded)
  await assert.rejects(client.estimateContractGas(transfer), decoded)
  const hash = await wallet.writeContract({ ...transfer, gas: 100_000n })
  assert.equal((await client.waitForTransactionReceipt({ hash })).status, 'reverted')
})

test('native coin: what the sender lost is what the receiver got and the gas', async () => {
  const to = privateKeyToAccount(generatePrivateKey()).address
  const had = await client.getBalance({ address: carol.address })
  const receipt = await done(wallet.sendTransaction({ account: carol, to, value: parseEther('2') }))
  assert.equal(await client.getBalance({ address: to }), parseEther('2'))
  assert.equal(await client.getBalance({ address: carol.address }), had - parseEther('2') - receipt.gasUsed * receipt.effectiveGasPrice)
})

test('fifty parallel sends with viem\'s nonce manager are all included', async () => {
  const account = privateKeyToAccount(keys[5], { nonceManager: createNonceManager({ source: jsonRpc() }) })
  const first = await client.getTransactionCount({ address: frank.address })
  const hashes = await Promise.all(Array.from({ length: 50 }, () => wallet.sendTransaction({ account, to: nobody, value: 1n })))
  const receipts = await Promise.all(hashes.map((hash) => done(Promise.resolve(hash))))
  assert.equal(new Set(receipts.map((r) => r.transactionHash)).size, 50)
  const nonces = await Promise.all(hashes.map(async (hash) => (await client.getTransaction({ hash })).nonce))
  assert.deepEqual(nonces.sort((a, b) => a - b), Array.from({ length: 50 }, (_, i) => first + i))
  assert.equal(await client.getTransactionCount({ address: frank.address, blockTag: 'pending' }), first + 50)
})

for (const [type, fields] of [
  ['legacy', { gasPrice: parseGwei('2') }],
  ['eip2930', { gasPrice: parseGwei('2'), accessList: [{ address: nobody.toLowerCase(), storageKeys: [`0x${'00'.repeat(32)}`] }] }],
  ['eip1559', { maxFeePerGas: parseGwei('2'), maxPriorityFeePerGas: parseGwei('1') }],
]) {
  test(`${type} transactions keep their type and fields`, async () => {
    const receipt = await done(wallet.sendTransaction({ account: erin, type, to: nobody, value: 3n, data: '0x1234', ...fields }))
    assert.equal(receipt.type, type)
    assert.equal(receipt.effectiveGasPrice, type === 'eip1559' ? parseGwei('1') : parseGwei('2'))
    const seen = await client.getTransaction({ hash: receipt.transactionHash })
    assert.equal(seen.type, type)
    assert.equal(seen.input, '0x1234')
    assert.equal(seen.from, erin.address.toLowerCase())
    for (const [name, value] of Object.entries(fields)) {
      if (type !== 'eip1559' || name !== 'gasPrice') assert.deepEqual(seen[name], value, name)
    }
  })
}

test('eip7702: an account takes on a contract\'s code, and drops it', async () => {
  const account = privateKeyToAccount(generatePrivateKey())
  // Somebody else pays: the account itself holds nothing.
  const delegate = async (contractAddress) => {
    const authorization = await wallet.signAuthorization({ account, contractAddress })
    const receipt = await done(wallet.sendTransaction({ account: erin, to: account.address, authorizationList: [authorization], data: '0x313ce567' }))
    assert.equal(receipt.type, 'eip7702')
    const seen = await client.getTransaction({ hash: receipt.transactionHash })
    assert.equal(seen.authorizationList?.[0].address.toLowerCase(), contractAddress.toLowerCase())
  }
  await delegate(token.address)
  assert.equal(await client.getCode({ address: account.address }), `0xef0100${token.address.slice(2).toLowerCase()}`)
  assert.equal(await client.readContract({ address: account.address, abi, functionName: 'decimals' }), 18)
  assert.equal(await client.readContract({ address: account.address, abi, functionName: 'totalSupply' }), 0n, 'the code is the token\'s, the storage is not')
  assert.equal(await client.getTransactionCount({ address: account.address }), 1, 'an authorization uses a nonce')

  await delegate('0x0000000000000000000000000000000000000000')
  assert.equal(await client.getCode({ address: account.address }), undefined)
})

test('sendRawTransactionSync returns the receipt, and everything can be queried by then', async () => {
  const request = await wallet.prepareTransactionRequest({ account: grace, to: nobody, value: 5n })
  const serializedTransaction = await grace.signTransaction(request)
  const receipt = await wallet.sendRawTransactionSync({ serializedTransaction })
  assert.equal(receipt.status, 'success')
  assert.equal(receipt.transactionHash, keccak256(serializedTransaction))
  const [head, transaction, nonce, again] = await Promise.all([
    client.getBlockNumber(),
    client.getTransaction({ hash: receipt.transactionHash }),
    client.getTransactionCount({ address: grace.address }),
    client.getTransactionReceipt({ hash: receipt.transactionHash }),
  ])
  assert.ok(head >= receipt.blockNumber)
  assert.equal(transaction.blockHash, receipt.blockHash)
  assert.equal(nonce, request.nonce + 1)
  assert.deepEqual(again, receipt)

  const failing = await grace.signTransaction({ ...request, nonce: nonce + 1 })
  await assert.rejects(wallet.sendRawTransactionSync({ serializedTransaction: failing, timeout: 100 }), 'it waits for an earlier nonce')
})

test('what does not exist is told as such', async () => {
  const hash = keccak256('0x00')
  await assert.rejects(client.getTransaction({ hash }), caused(TransactionNotFoundError))
  await assert.rejects(client.getTransactionReceipt({ hash }), caused(TransactionReceiptNotFoundError))
  await assert.rejects(client.getBlock({ blockHash: hash }), caused(BlockNotFoundError))
  await assert.rejects(client.getBlock({ blockNumber: 1_000_000_000n }), caused(BlockNotFoundError))
})

test('viem classifies what the node refuses', async () => {
  const account = dave
  const nonce = await client.getTransactionCount({ address: dave.address })
  const plain = { account, to: nobody, gas: 21_000n, maxFeePerGas: parseGwei('1'), maxPriorityFeePerGas: parseGwei('1') }
  await done(wallet.sendTransaction({ ...plain, nonce }))
  await assert.rejects(wallet.sendTransaction({ ...plain, value: 1n, nonce }), caused(NonceTooLowError))
  const penniless = privateKeyToAccount(generatePrivateKey())
  await assert.rejects(wallet.sendTransaction({ ...plain, account: penniless, value: 1n, nonce: 0 }), caused(InsufficientFundsError))

  const waiting = await wallet.sendTransaction({ ...plain, value: 1n, nonce: nonce + 2 })
  await assert.rejects(wallet.sendTransaction({ ...plain, value: 2n, nonce: nonce + 2 }), /replacement transaction underpriced/)
  const better = wallet.sendTransaction({ ...plain, value: 3n, nonce: nonce + 2, maxFeePerGas: parseGwei('2'), maxPriorityFeePerGas: parseGwei('2') })
  await better
  await done(wallet.sendTransaction({ ...plain, nonce: nonce + 1 }))
  await done(better)
  await assert.rejects(client.getTransactionReceipt({ hash: waiting }), caused(TransactionReceiptNotFoundError))
})

test('estimates, fees and their history', async () => {
  assert.equal(await client.estimateGas({ account: alice, to: privateKeyToAccount(generatePrivateKey()).address, value: 1n }), 21_000n)
  const history = await client.getFeeHistory({ blockCount: 3, rewardPercentiles: [50] })
  assert.deepEqual(history.baseFeePerGas, [0n, 0n, 0n, 0n])
  assert.equal(history.gasUsedRatio.length, 3)
  assert.equal(history.reward.length, 3)
  const fees = await client.estimateFeesPerGas()
  assert.ok(fees.maxFeePerGas >= fees.maxPriorityFeePerGas)
  assert.equal((await client.getBlock()).baseFeePerGas, 0n)
})

test('finalized and safe are the latest block: what is ordered is final', async () => {
  const [latest, safe, finalized] = await Promise.all(['latest', 'safe', 'finalized'].map((blockTag) => client.getBlock({ blockTag })))
  assert.equal(safe.hash, latest.hash)
  assert.equal(finalized.hash, latest.hash)
})

test('JSON-RPC batches, through viem\'s transport', async () => {
  const batched = createPublicClient({ chain, transport: http(node.http, { batch: { batchSize: 100 } }) })
  const balances = await Promise.all(accounts.map((a) => batched.getBalance({ address: a.address })))
  assert.ok(balances.every((b) => b > 0n))
  const answers = await post(node.http, Array.from({ length: 50 }, (_, id) => ({ jsonrpc: '2.0', id, method: 'eth_blockNumber', params: [] })))
  assert.deepEqual(answers.map((a) => a.id), Array.from({ length: 50 }, (_, id) => id))
})
