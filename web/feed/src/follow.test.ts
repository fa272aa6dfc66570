import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { FeedError, follow, type FollowOptions, type SocketConstructor } from './index.js'

const cursor = (n: number): string => `1-1337-${n}-0-0000000000000000`

/** The server's side of a connection, and what the client asked for. */
class Peer {
  readonly said: Record<string, unknown>[] = []

  constructor(readonly socket: WebSocket, readonly request: Record<string, unknown>) {
    socket.on('message', (text) => this.said.push(JSON.parse(String(text)) as Record<string, unknown>))
  }

  send(message: Record<string, unknown>): void {
    this.socket.send(JSON.stringify(message))
  }

  subscribed(n: number): void {
    this.send({ type: 'subscribed', cursor: cursor(n), chainId: '0x539', head: '0x0' })
  }

  /** Sends the event before cursor n. */
  event(n: number): void {
    this.send({ type: 'event', kind: 'block', cursor: cursor(n), data: { number: `0x${n.toString(16)}` } })
  }

  error(code: string): void {
    this.send({ type: 'error', code, message: 'because', cursor: cursor(5) })
    this.socket.close(1008, code)
  }
}

const servers: WebSocketServer[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    for (const client of server.clients) client.terminate()
    server.close()
  }
})

/** A server that plays one connection after the other; the last scene is repeated. */
async function script(...scenes: ((peer: Peer) => void)[]): Promise<{ url: string; requests: Record<string, unknown>[] }> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  servers.push(server)
  const requests: Record<string, unknown>[] = []
  server.on('connection', (socket) => {
    socket.once('message', (text) => {
      const request = JSON.parse(String(text)) as Record<string, unknown>
      const scene = scenes[Math.min(requests.length, scenes.length - 1)]
      requests.push(request)
      scene?.(new Peer(socket, request))
    })
  })
  await once(server, 'listening')
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests }
}

const options = (more: Partial<FollowOptions> = {}): FollowOptions => ({
  filters: [{ kind: 'block' }],
  minPause: 1,
  maxPause: 5,
  WebSocket: WebSocket as unknown as SocketConstructor,
  ...more,
})

async function take(feed: ReturnType<typeof follow>, n: number): Promise<number[]> {
  const got: number[] = []
  for await (const event of feed) {
    assert.equal(event.kind, 'block')
    got.push(Number(event.data['number']))
    if (got.length === n) break
  }
  return got
}

test('it begins where it is told to, and goes on where it was', async () => {
  const live: unknown[] = []
  const { url, requests } = await script(
    (peer) => {
      peer.subscribed(0)
      peer.socket.close()
    },
    (peer) => {
      peer.subscribed(0)
      peer.event(1)
      peer.event(2)
      setTimeout(() => peer.socket.terminate(), 20)
    },
    (peer) => {
      peer.subscribed(2)
      peer.event(3)
      peer.send({ type: 'progress', cursor: cursor(7), head: '0x6', live: true })
      peer.send({ type: 'poem' })
      setTimeout(() => peer.socket.close(1001), 20)
    },
    (peer) => {
      peer.subscribed(7)
      peer.event(8)
      peer.event(9)
    },
  )
  const feed = follow(url, options({ start: 'earliest', window: 7, onProgress: (...args) => live.push(args) }))
  assert.equal(feed.cursor, undefined)
  assert.deepEqual(await take(feed, 4), [1, 2, 3, 8])
  assert.deepEqual(live, [[cursor(7), true]])
  assert.deepEqual(
    requests.map((r) => [r['cursor'], r['start'], r['credit']]),
    [
      [undefined, 'earliest', 7],
      [cursor(0), undefined, 7],
      [cursor(2), undefined, 7],
      [cursor(7), undefined, 7],
    ],
  )
  assert.equal(feed.cursor, cursor(7), 'the event at which the iteration was left is not handled')
})

test('an event that waits here when the connection breaks comes once', async () => {
  const { url, requests } = await script(
    (peer) => {
      peer.subscribed(0)
      for (let n = 1; n <= 5; n++) peer.event(n)
      setTimeout(() => peer.socket.terminate(), 20)
    },
    (peer) => {
      const from = Number(String(peer.request['cursor']).split('-')[2])
      peer.subscribed(from)
      for (let n = from + 1; n <= 8; n++) peer.event(n)
    },
  )
  const got: number[] = []
  for await (const event of follow(url, options())) {
    got.push(Number(event.data['number']))
    if (got.length === 2) await new Promise((resolve) => setTimeout(resolve, 60)) // meanwhile it breaks
    if (got.length === 8) break
  }
  assert.deepEqual(got, [1, 2, 3, 4, 5, 6, 7, 8])
  assert.equal(requests.length, 2)
})

test('credit is given back as events are handled', async () => {
  let peer: Peer | undefined
  const { url } = await script((p) => {
    peer = p
    p.subscribed(0)
    for (let n = 1; n <= 10; n++) p.event(n)
  })
  const feed = follow(url, options({ window: 10 }))
  let handled = 0
  for await (const _ of feed) {
    if (++handled < 7) assert.deepEqual(peer?.said, [])
    if (handled === 10) break
  }
  while (peer?.said.length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  assert.deepEqual(peer?.said, [{ type: 'credit', credit: 6 }])
})

for (const code of ['invalid_request', 'cursor_other_chain', 'cursor_other_history', 'history_pruned']) {
  test(`${code} ends it, what is temporary does not`, async () => {
    const { url, requests } = await script((p) => p.error('overloaded'), (p) => p.error('internal'), (p) => p.error(code))
    await assert.rejects(take(follow(url, options()), 1), (err) => {
      assert.ok(err instanceof FeedError)
      assert.equal(err.code, code)
      assert.equal(err.cursor, cursor(5))
      assert.match(err.message, /because/)
      return true
    })
    assert.equal(requests.length, 3)
  })
}

test('a cursor beyond the head is borne for a while', async () => {
  const { url, requests } = await script((p) => p.error('cursor_beyond_head'))
  await assert.rejects(take(follow(url, options({ cursor: cursor(1), behind: 50 })), 1), /cursor_beyond_head/)
  assert.ok(requests.length > 3)
})

test('with several nodes it goes on with the next', async () => {
  const { url } = await script((p) => {
    p.subscribed(0)
    p.event(1)
  })
  const interruptions: Error[] = []
  assert.deepEqual(await take(follow(['ws://127.0.0.1:1', url], options({ onInterruption: (why) => interruptions.push(why) })), 1), [1])
  assert.equal(interruptions.length, 1)
  assert.equal(interruptions[0]?.name, 'UnavailableError')
})

test('a connection from which nothing comes is given up', async () => {
  const { url } = await script(
    (p) => p.subscribed(0),
    (p) => {
      p.subscribed(0)
      p.event(1)
    },
  )
  assert.deepEqual(await take(follow(url, options({ silence: 50 })), 1), [1])
})

test('what is no feed is tried again', async () => {
  const { url } = await script(
    (p) => p.socket.send('{'),
    (p) => p.socket.send('7'),
    (p) => p.send({ type: 'event', kind: 'block', data: {} }),
    (p) => {
      p.subscribed(0)
      p.event(1)
    },
  )
  assert.deepEqual(await take(follow(url, options()), 1), [1])
})

test('the signal ends it, also while it waits', async () => {
  const { url } = await script((p) => {
    p.subscribed(0)
    p.event(1)
  })
  const stop = new AbortController()
  const got: unknown[] = []
  for await (const event of follow(url, options({ signal: stop.signal }))) {
    got.push(event)
    setTimeout(() => stop.abort(), 10)
  }
  assert.equal(got.length, 1)
  for await (const _ of follow(url, options({ signal: AbortSignal.abort() }))) assert.fail()
  const unreachable = new AbortController()
  setTimeout(() => unreachable.abort(), 20)
  for await (const _ of follow('ws://127.0.0.1:1', options({ signal: unreachable.signal, minPause: 60_000, maxPause: 60_000 }))) assert.fail()
})

test('an error of the application is its own', async () => {
  const { url, requests } = await script((p) => {
    p.subscribed(0)
    p.event(1)
  })
  const feed = follow(url, options())
  await assert.rejects(async () => {
    for await (const _ of feed) throw new RangeError('mine')
  }, RangeError)
  assert.equal(requests.length, 1)
  assert.equal(feed.cursor, cursor(0))
})

test('bad options are refused at once', () => {
  assert.throws(() => follow([], options()), TypeError)
  assert.throws(() => follow('ftp://x', options()), TypeError)
  assert.throws(() => follow('http://x', options({ filters: [] })), TypeError)
})
