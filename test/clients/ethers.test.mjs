// ledgerd as ethers v6 sees it.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import {
  ContractFactory,
  JsonRpcProvider,
  NonceManager,
  Wallet,
  WebSocketProvider,
  getCreateAddress,
  id,
  isError,
  parseEther,
  parseUnits,
  recoverAddress,
  hashMessage,
  zeroPadValue,
} from 'ethers'
import { CHAIN_ID, Token, accounts, post, startNode, within } from './node.mjs'

const SUPPLY = parseEther('1000000')
const [alice, bob, carol, dave, erin, frank, grace] = accounts
const nobody = '0x00000000000000000000000000000000000B0b00'

/** Knows when its subscriptions stand: ethers resolves on() before the node has answered. */
class Socket extends WebSocketProvider {
  #standing = 0

  _register(filterId, subscriber) {
    super._register(filterId, subscriber)
    this.#standing++
  }

  /** Resolves once n more subscriptions stand than at the last call. */
  async stand(n) {
    const deadline = Date.now() + 5_000
    while (this.#standing < n) {
      if (Date.now() > deadline) throw new Error(`${this.#standing} of ${n} subscriptions stand`)
      await this.getBlockNumber()
    }
    this.#standing -= n
  }
}

let node, provider, socket, deployer, token, deployed

before(async () => {
  node = await startNode()
  // No cache and no detection round trips: every call of a test reaches the node.
  provider = new JsonRpcProvider(node.http, CHAIN_ID, { staticNetwork: true, cacheTimeout: -1, pollingInterval: 50 })
  socket = new Socket(node.ws, CHAIN_ID, { staticNetwork: true, cacheTimeout: -1 })
  deployer = new Wallet(alice.privateKey, provider)
  const contract = await new ContractFactory(Token.abi, Token.bytecode, deployer).deploy('Gold', 'GLD', SUPPLY)
  deployed = await contract.deploymentTransaction().wait()
  token = contract
})

after(async () => {
  provider?.destroy()
  await socket?.destroy()
  await node?.stop()
})

test('the node says who it is', async () => {
  assert.match(await provider.send('web3_clientVersion', []), /^ledgerd\/v/)
  assert.equal(await provider.send('net_version', []), String(CHAIN_ID))
  assert.equal(await provider.send('eth_chainId', []), '0x539')
  assert.equal(await provider.send('net_listening', []), true)
  assert.equal(await provider.send('eth_syncing', []), false)
  assert.equal((await new JsonRpcProvider(node.http).getNetwork()).chainId, BigInt(CHAIN_ID))
})

test('a contract is deployed', async () => {
  assert.equal(deployed.status, 1)
  const { nonce } = await deployed.getTransaction()
  assert.equal(deployed.contractAddress, getCreateAddress({ from: alice.address, nonce }))
  assert.equal(await token.getAddress(), deployed.contractAddress)
  assert.notEqual(await provider.getCode(token), '0x')
  assert.equal(await token.name(), 'Gold')
  assert.equal(await token.symbol(), 'GLD')
  assert.equal(await token.totalSupply(), SUPPLY)
  assert.equal(await token.balanceOf(alice.address), SUPPLY)
  assert.equal(await provider.getCode(token, deployed.blockNumber - 1), '0x', 'no code before it was deployed')
})

test('a transfer moves tokens, and its event is found by filters', async () => {
  const before = await token.balanceOf(alice.address)
  const receipt = await (await token.transfer(bob.address, 1234n)).wait()
  assert.equal(receipt.status, 1)
  assert.equal(await token.balanceOf(bob.address), 1234n)
  assert.equal(await token.balanceOf(alice.address), before - 1234n)
  assert.equal(await token.balanceOf(alice.address, { blockTag: receipt.blockNumber - 1 }), before, 'old state answers as it was')

  const [event, ...more] = await token.queryFilter(token.filters.Transfer(alice.address, bob.address), receipt.blockNumber, receipt.blockNumber)
  assert.equal(more.length, 0)
  assert.deepEqual([...event.args], [alice.address, bob.address, 1234n])
  assert.equal(event.transactionHash, receipt.hash)
  assert.equal(event.blockHash, receipt.blockHash)
  assert.equal(event.index, receipt.logs[0].index)

  assert.deepEqual(await token.queryFilter(token.filters.Transfer(carol.address), 0), [], 'nobody else sent any')
  assert.deepEqual(await token.queryFilter(token.filters.Transfer(), 0, deployed.blockNumber - 1), [], 'none before it was deployed')
  // By block hash, and with alternatives at one topic position.
  const logs = await provider.getLogs({
    blockHash: receipt.blockHash,
    topics: [[id('Approval(address,address,uint256)'), id('Transfer(address,address,uint256)')], zeroPadValue(alice.address, 32)],
  })
  assert.deepEqual(logs.map((l) => l.transactionHash), [receipt.hash])
})

test('events, heads and pending transactions arrive by subscription', async () => {
  const live = token.connect(socket)
  const hashes = []
  const event = new Promise((resolve) => live.once(live.filters.Transfer(null, erin.address), resolve))
  const head = new Promise((resolve) => socket.once('block', resolve))
  const pending = new Promise((resolve) => socket.once('pending', (hash) => resolve(hashes.push(hash))))
  await socket.stand(3)

  const sent = await token.transfer(erin.address, 7n)
  const receipt = await sent.wait()
  const payload = await within(5_000, 'a log by subscription', event)
  assert.equal(payload.log.transactionHash, sent.hash)
  assert.deepEqual([...payload.args], [alice.address, erin.address, 7n])
  assert.ok(await within(5_000, 'a head by subscription', head) <= receipt.blockNumber)
  await within(5_000, 'a pending transaction by subscription', pending)
  assert.ok(hashes.includes(sent.hash))
  await socket.removeAllListeners()
})

test('what was announced can be queried', async () => {
  const wallet = new Wallet(carol.privateKey, provider)
  const asked = new Promise((resolve, reject) => {
    socket.on('block', (number) => {
      socket.getBlock(number, true).then((block) => {
        if (block === null) return reject(new Error(`head ${number} was announced and is unknown`))
        if (block.transactions.length > 0) resolve(socket.getTransactionReceipt(block.transactions[0]))
      }, reject)
    })
  })
  await socket.stand(1)
  const sent = await wallet.sendTransaction({ to: nobody, value: 1n })
  assert.equal((await within(5_000, 'the receipt of what a head announced', asked)).hash, sent.hash)
  await socket.removeAllListeners()
})

test('a custom error is decoded, in calls, estimates and receipts', async () => {
  const poor = token.connect(new Wallet(dave.privateKey, provider))
  const decoded = (err) => {
    assert.ok(isError(err, 'CALL_EXCEPTION'), `${err.code}: ${err.message}`)
    // ethers decodes by itself what a call reverted with, and hands out the data of an estimate.
    const revert = err.revert ?? token.interface.parseError(err.data)
    assert.equal(revert?.name, 'ERC20InsufficientBalance')
    assert.deepEqual([...revert.args], [dave.address, 0n, 5n])
    return true
  }
  await assert.rejects(poor.transfer.staticCall(bob.address, 5n), decoded)
  await assert.rejects(poor.transfer.estimateGas(bob.address, 5n), decoded)
  await assert.rejects(poor.transfer(bob.address, 5n), decoded)

  // Sent all the same: it is included, costs gas, uses its nonce and changes nothing.
  const nonce = await provider.getTransactionCount(dave.address)
  const sent = await poor.transfer(bob.address, 5n, { gasLimit: 100_000n })
  await assert.rejects(sent.wait(), (err) => isError(err, 'CALL_EXCEPTION') && err.receipt.status === 0 && err.receipt.hash === sent.hash)
  assert.equal(await provider.getTransactionCount(dave.address), nonce + 1)
  assert.equal(await token.balanceOf(dave.address), 0n)
})

test('native coin: what the sender lost is what the receiver got and the gas', async () => {
  const to = Wallet.createRandom().address
  const before = await provider.getBalance(carol.address)
  const sent = await new Wallet(carol.privateKey, provider).sendTransaction({ to, value: parseEther('1.5') })
  const receipt = await sent.wait()
  assert.equal(receipt.gasUsed, 21_000n)
  assert.equal(await provider.getBalance(to), parseEther('1.5'))
  assert.equal(await provider.getBalance(carol.address), before - parseEther('1.5') - receipt.gasUsed * receipt.gasPrice)
  assert.equal(await provider.getBalance(to, receipt.blockNumber - 1), 0n)
})

test('fifty parallel sends of one account are all included, in nonce order', async () => {
  const manager = new NonceManager(new Wallet(frank.privateKey, provider))
  const first = await provider.getTransactionCount(frank.address)
  const sent = await Promise.all(Array.from({ length: 50 }, (_, i) => manager.sendTransaction({ to: nobody, value: BigInt(i) })))
  const receipts = await Promise.all(sent.map((tx) => tx.wait()))
  assert.ok(receipts.every((r) => r.status === 1))
  const ordered = sent
    .map((tx, i) => ({ nonce: tx.nonce, at: receipts[i].blockNumber * 1e6 + receipts[i].index }))
    .sort((a, b) => a.nonce - b.nonce)
  assert.deepEqual(ordered.map((o) => o.nonce), Array.from({ length: 50 }, (_, i) => first + i))
  assert.ok(ordered.every((o, i) => i === 0 || ordered[i - 1].at < o.at), 'a later nonce came first')
  assert.equal(await provider.getTransactionCount(frank.address), first + 50)
})

test('transactions that arrive last nonce first wait for each other', async () => {
  const wallet = new Wallet(grace.privateKey)
  const first = await provider.getTransactionCount(grace.address)
  const signed = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      wallet.signTransaction({ chainId: CHAIN_ID, type: 2, nonce: first + i, to: nobody, value: 1n, gasLimit: 21_000n, maxFeePerGas: 0n, maxPriorityFeePerGas: 0n }),
    ),
  )
  const sent = []
  for (const raw of signed.slice(1).reverse()) sent.push(await provider.broadcastTransaction(raw))
  assert.equal(await provider.getTransactionCount(grace.address, 'pending'), first, 'the gap is not counted')
  sent.push(await provider.broadcastTransaction(signed[0]))
  const receipts = await Promise.all(sent.map((tx) => tx.wait()))
  assert.ok(receipts.every((r) => r.status === 1))
  assert.equal(await provider.getTransactionCount(grace.address, 'pending'), first + 20)
})

for (const [type, name, fields] of [
  [0, 'legacy', { gasPrice: parseUnits('2', 'gwei') }],
  [1, 'EIP-2930', { gasPrice: parseUnits('2', 'gwei'), accessList: [{ address: nobody, storageKeys: [`0x${'00'.repeat(32)}`] }] }],
  [2, 'EIP-1559', { maxFeePerGas: parseUnits('2', 'gwei'), maxPriorityFeePerGas: parseUnits('1', 'gwei') }],
]) {
  test(`${name} transactions keep their type and fields`, async () => {
    const wallet = new Wallet(erin.privateKey, provider)
    const sent = await wallet.sendTransaction({ type, to: nobody, value: 3n, data: '0x1234', ...fields })
    const receipt = await sent.wait()
    assert.equal(receipt.type, type)
    assert.equal(receipt.status, 1)
    const seen = await provider.getTransaction(sent.hash)
    assert.equal(seen.type, type)
    assert.equal(seen.from, erin.address)
    assert.equal(seen.data, '0x1234')
    assert.equal(seen.chainId, BigInt(CHAIN_ID))
    for (const key of ['maxFeePerGas', 'maxPriorityFeePerGas']) if (key in fields) assert.equal(seen[key], fields[key])
    if (fields.accessList) assert.deepEqual(seen.accessList.map((e) => ({ ...e })), fields.accessList)
    // The base fee is 0: what is paid is the whole gas price, or the tip.
    assert.equal(receipt.gasPrice, type === 2 ? fields.maxPriorityFeePerGas : fields.gasPrice)
    const block = await provider.getBlock(receipt.blockHash, true)
    assert.equal(block.prefetchedTransactions[receipt.index].hash, sent.hash)
  })
}

test('what does not exist is null', async () => {
  const unknown = id('never sent')
  assert.equal(await provider.getTransaction(unknown), null)
  assert.equal(await provider.getTransactionReceipt(unknown), null)
  assert.equal(await provider.getBlock(unknown), null)
  assert.equal(await provider.getBlock(1_000_000_000), null)
})

test('ethers classifies what the node refuses', async () => {
  const wallet = new Wallet(dave.privateKey, provider)
  const nonce = await provider.getTransactionCount(dave.address)
  const fees = { gasLimit: 21_000n, maxFeePerGas: parseUnits('1', 'gwei'), maxPriorityFeePerGas: parseUnits('1', 'gwei') }

  await (await wallet.sendTransaction({ to: nobody, nonce, ...fees })).wait()
  await assert.rejects(wallet.sendTransaction({ to: nobody, value: 1n, nonce, ...fees }), (err) => isError(err, 'NONCE_EXPIRED'))

  const penniless = Wallet.createRandom(provider)
  await assert.rejects(penniless.sendTransaction({ to: nobody, value: 1n, nonce: 0, ...fees }), (err) => isError(err, 'INSUFFICIENT_FUNDS'))

  // A transaction that waits for an earlier nonce can be replaced, for a better price only.
  const waiting = await wallet.sendTransaction({ to: nobody, value: 1n, nonce: nonce + 2, ...fees })
  await assert.rejects(wallet.sendTransaction({ to: nobody, value: 2n, nonce: nonce + 2, ...fees }), (err) => isError(err, 'REPLACEMENT_UNDERPRICED'))
  const better = await wallet.sendTransaction({ to: nobody, value: 3n, nonce: nonce + 2, gasLimit: 21_000n, maxFeePerGas: parseUnits('2', 'gwei'), maxPriorityFeePerGas: parseUnits('2', 'gwei') })
  await (await wallet.sendTransaction({ to: nobody, nonce: nonce + 1, ...fees })).wait()
  assert.equal((await better.wait()).status, 1)
  assert.equal(await provider.getTransactionReceipt(waiting.hash), null)

  const otherChain = await new Wallet(dave.privateKey).signTransaction({ chainId: 1, type: 2, nonce: nonce + 3, to: nobody, ...fees })
  await assert.rejects(provider.broadcastTransaction(otherChain), /chain ?id/i)
  assert.equal(await provider.getTransactionCount(dave.address, 'pending'), nonce + 3)
})

test('estimates suffice and are not far off', async () => {
  assert.equal(await provider.estimateGas({ from: alice.address, to: Wallet.createRandom().address, value: 1n }), 21_000n)
  const estimate = await token.transfer.estimateGas(bob.address, 1n)
  const receipt = await (await token.transfer(bob.address, 1n, { gasLimit: estimate })).wait()
  assert.equal(receipt.status, 1)
  assert.ok(estimate >= receipt.gasUsed && estimate <= (receipt.gasUsed * 13n) / 10n, `${estimate} for ${receipt.gasUsed}`)
})

test('fees: a base fee of 0 and its history', async () => {
  const head = await provider.getBlock('latest')
  assert.equal(head.baseFeePerGas, 0n)
  const history = await provider.send('eth_feeHistory', ['0x2', 'latest', [25, 75]])
  assert.equal(history.baseFeePerGas.length, 3)
  assert.ok(history.baseFeePerGas.every((fee) => fee === '0x0'))
  assert.equal(history.gasUsedRatio.length, 2)
  assert.equal(history.reward.length, 2)
  assert.equal(BigInt(history.oldestBlock), BigInt(head.number - 1))
  const { maxFeePerGas, maxPriorityFeePerGas } = await provider.getFeeData()
  assert.ok(maxFeePerGas >= maxPriorityFeePerGas)
})

test('JSON-RPC batches are answered whole, by ethers and by hand', async () => {
  const balances = await Promise.all(accounts.map((a) => provider.getBalance(a.address)))
  assert.ok(balances.every((b) => b > 0n))

  const answers = await post(node.http, [
    { jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] },
    { jsonrpc: '2.0', id: 'two', method: 'eth_noSuchMethod', params: [] },
    { jsonrpc: '2.0', method: 'eth_blockNumber', params: [] }, // a notification: no answer
    { jsonrpc: '2.0', id: 3, method: 'eth_getBalance', params: ['0x12', 'latest'] },
  ])
  assert.deepEqual(answers.map((a) => a.id), [1, 'two', 3])
  assert.equal(answers[0].result, '0x539')
  assert.equal(answers[1].error.code, -32601)
  assert.equal(answers[2].error.code, -32602)

  assert.equal((await post(node.http, '{"jsonrpc":"2.0",')).error.code, -32700)
})

test('the accounts of the development mnemonic can be used through the node', async () => {
  assert.deepEqual((await provider.send('eth_accounts', [])).map((a) => a.toLowerCase()), accounts.map((a) => a.address.toLowerCase()))
  const signer = await provider.getSigner(bob.address)
  const receipt = await (await signer.sendTransaction({ to: nobody, value: 1n })).wait()
  assert.equal(receipt.from, bob.address)
  const signature = await signer._legacySignMessage('a message')
  assert.equal(recoverAddress(hashMessage('a message'), signature), bob.address)
})
