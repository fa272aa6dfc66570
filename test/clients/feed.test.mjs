// The feed of a node, by web/feed and by an EventSource that knows nothing of ledgerd.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { ContractFactory, JsonRpcProvider, NonceManager, Wallet, id, zeroPadValue } from 'ethers'
import { EventSource } from 'eventsource'
import { WebSocket } from 'ws'
import { CHAIN_ID, Token, accounts, startNode, within } from './node.mjs'

const built = new URL('../../web/feed/dist/index.js', import.meta.url)
assert.ok(existsSync(built), 'web/feed is not built: make clients does it, or npm ci && npm run build there')
const { follow, FeedError } = await import(built)

const [alice, bob, carol] = accounts
const transfer = id('Transfer(address,address,uint256)')
const toBob = [transfer, null, zeroPadValue(bob.address.toLowerCase(), 32)]

let node, provider, token

before(async () => {
  node = await startNode()
  provider = new JsonRpcProvider(node.http, CHAIN_ID, { staticNetwork: true, pollingInterval: 20, cacheTimeout: -1 })
  const signer = new NonceManager(new Wallet(alice.privateKey, provider))
  token = await (await new ContractFactory(Token.abi, Token.bytecode, signer).deploy('Gold', 'GLD', 10n ** 24n)).waitForDeployment()
})

after(async () => {
  provider?.destroy()
  await node?.stop()
})

/** Transfers to, again and again. */
async function send(count, to = bob) {
  const sent = []
  for (let i = 0; i < count; i++) sent.push(await token.transfer(to.address, 1n, { gasLimit: 100_000n, maxFeePerGas: 0n, maxPriorityFeePerGas: 0n }))
  await Promise.all(sent.map((tx) => tx.wait()))
}

test('web/feed: a follower that is interrupted again and again has every log once, as eth_getLogs has them', async () => {
  const address = await token.getAddress()
  await send(20)
  await send(5, carol)
  const sending = send(60)
  const got = []
  let cursor
  while (got.length < 80) {
    // A new subscription each time, as after a crash. Both filters select the logs to bob: they come once.
    const feed = follow(node.http, { filters: [{ kind: 'log', address, topics: toBob }, { kind: 'log', to: address, topics: [transfer, null, toBob[2]] }], cursor, start: 'earliest', window: 4, WebSocket })
    for await (const event of feed) {
      assert.equal(event.kind, 'log')
      got.push(event.data)
      cursor = event.cursor
      if (got.length % 7 === 0) break
      if (got.length === 80) break
    }
  }
  await sending
  const want = await provider.send('eth_getLogs', [{ fromBlock: '0x0', address, topics: toBob }])
  assert.deepEqual(got, want)
})

test('web/feed: blocks, transactions and receipts of a sender as they come', async () => {
  const stop = new AbortController()
  const kinds = []
  const live = Promise.withResolvers?.() ?? deferred()
  const following = (async () => {
    const filters = [{ kind: 'block' }, { kind: 'transaction', from: carol.address }, { kind: 'receipt', from: [carol.address] }]
    for await (const event of follow(node.ws, { filters, WebSocket, signal: stop.signal, onProgress: (_, now) => now && live.resolve() })) {
      kinds.push([event.kind, event.kind === 'receipt' ? event.data.transactionHash : event.data.hash])
      if (kinds.length === 3) stop.abort()
    }
  })()
  await within(10_000, 'the end of the past', live.promise)
  const sent = await new Wallet(carol.privateKey, provider).sendTransaction({ to: bob.address, value: 1n })
  const { blockHash } = await sent.wait()
  await within(10_000, 'three events', following)
  assert.deepEqual(kinds, [['block', blockHash], ['transaction', sent.hash], ['receipt', sent.hash]])
})

function deferred() {
  const d = {}
  d.promise = new Promise((resolve) => { d.resolve = resolve })
  return d
}

test('web/feed: a cursor of another chain ends it with its code', async () => {
  const feed = follow(node.http, { filters: [{ kind: 'block' }], cursor: '1-1-0-0-0000000000000000', WebSocket })
  await assert.rejects(feed[Symbol.asyncIterator]().next(), (err) => err instanceof FeedError && err.code === 'cursor_other_chain')
})

test('EventSource: from the beginning, and on at the last id', async () => {
  const address = await token.getAddress()
  const want = await provider.send('eth_getLogs', [{ fromBlock: '0x0', address, topics: toBob }])
  const url = `${node.http}/feed/sse?kind=log&address=${address}&topic0=${transfer}&topic2=${toBob[2]}&start=earliest`
  const half = Math.floor(want.length / 2)
  const first = await listen(new EventSource(url), half)
  const rest = await listen(new EventSource(`${url.replace('&start=earliest', '')}&cursor=${first.lastEventId}`), want.length - half)
  assert.deepEqual([...first.logs, ...rest.logs], want)
})

/** The first n logs, and the id of the last. */
async function listen(source, n) {
  const logs = []
  let lastEventId
  try {
    await within(10_000, `${n} logs`, new Promise((resolve, reject) => {
      source.addEventListener('failure', (e) => reject(new Error(e.data)))
      source.addEventListener('error', (e) => reject(new Error(e.message)))
      source.addEventListener('log', (e) => {
        if (logs.length === n) return
        logs.push(JSON.parse(e.data).data)
        lastEventId = e.lastEventId
        if (logs.length === n) resolve()
      })
    }))
  } finally {
    source.close()
  }
  return { logs, lastEventId }
}

test('EventSource: a request that is refused is not tried again', async () => {
  const source = new EventSource(`${node.http}/feed/sse?kind=uncle`)
  const err = await within(10_000, 'an error', new Promise((resolve) => source.addEventListener('error', resolve)))
  assert.equal(err.code, 400)
  assert.equal(source.readyState, EventSource.CLOSED)
})
