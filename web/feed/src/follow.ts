import { FeedError, UnavailableError } from './errors.js'
import type { Request } from './messages.js'
import { pause } from './pause.js'
import { Connection, type SocketConstructor } from './socket.js'
import type { Event, Filter } from './types.js'
import { feedURL } from './url.js'

export interface FollowOptions {
  filters: readonly Filter[]
  /** Where to go on: the cursor of the last event that was handled. */
  cursor?: string | undefined
  /** Where to begin without a cursor: 'earliest', 'latest' (after the head, the default) or a block number in hexadecimal. */
  start?: 'earliest' | 'latest' | `0x${string}`
  /** How many events may be on their way, or waiting here, at a time. Default 256. */
  window?: number
  /** Between two attempts to connect, in milliseconds; doubles from the least to the greatest. Defaults 100 and 10,000. */
  minPause?: number
  maxPause?: number
  /** After so many milliseconds without a word a connection is dead. A node says something every 15 s. Default 45,000. */
  silence?: number
  /** For how many milliseconds nodes may answer that the cursor lies beyond their head, as one that catches up does. Default 60,000. */
  behind?: number
  /** Ends the iteration. */
  signal?: AbortSignal
  /** Called with cursors that come when nothing matches; live: that is all there is so far. */
  onProgress?: (cursor: string, live: boolean) => void
  /** Called when a connection could not be made or broke, before the next attempt. */
  onInterruption?: (why: Error) => void
  /** By default that of the platform. Node 20 has none: give it that of the package ws. */
  WebSocket?: SocketConstructor
}

export interface Subscription extends AsyncIterable<Event> {
  /** Where a new subscription would have to go on: everything before it was handled, or does not match. */
  readonly cursor: string | undefined
}

/**
 * Every event that a filter selects, from the cursor on, past and new, once. It reconnects by itself, to the next node if several are given, at the cursor of
 * the last event that was handled: an event is handled when the next is asked for. It is iterated once.
 *
 * Throws a FeedError that another attempt would not change, and ends when the signal does.
 */
export function follow(urls: string | readonly string[], options: FollowOptions): Subscription {
  return new Follower(typeof urls === 'string' ? [urls] : urls, options)
}

class Follower implements Subscription {
  readonly #urls: readonly string[]
  readonly #options: FollowOptions
  readonly #window: number
  readonly #WebSocket: SocketConstructor
  #cursor: string | undefined

  constructor(urls: readonly string[], options: FollowOptions) {
    if (urls.length === 0) throw new TypeError('no URL')
    if (options.filters.length === 0) throw new TypeError('no filters: nothing is asked for')
    const WebSocket = options.WebSocket ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket
    if (WebSocket === undefined) throw new TypeError('this platform has no WebSocket: give one in the options, such as that of the package ws')
    this.#urls = urls.map(feedURL)
    this.#options = options
    this.#window = Math.max(1, Math.floor(options.window ?? 256))
    this.#WebSocket = WebSocket
    this.#cursor = options.cursor
  }

  get cursor(): string | undefined {
    return this.#cursor
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    const { minPause = 100, maxPause = 10_000, behind = 60_000, signal, onInterruption } = this.#options
    let wait = minPause
    let behindSince: number | undefined
    for (let attempt = 0; !signal?.aborted; attempt++) {
      const session = new Session()
      try {
        yield* this.#connect(this.#urls[attempt % this.#urls.length] as string, session)
      } catch (err) {
        if (signal?.aborted) return
        if (!(err instanceof UnavailableError || (err instanceof FeedError && err.temporary))) throw err
        if (session.served) {
          wait = minPause
          behindSince = undefined
        } else if (err instanceof FeedError && err.code === 'cursor_beyond_head') {
          behindSince ??= Date.now()
          if (Date.now() - behindSince > behind) throw err
        }
        onInterruption?.(err)
      }
      await pause(wait * (0.5 + Math.random() / 2), signal)
      wait = Math.min(2 * wait, maxPause)
    }
  }

  /** The events of one connection. */
  async *#connect(url: string, session: Session): AsyncGenerator<Event, void, undefined> {
    const { silence = 45_000, signal, onProgress } = this.#options
    const connection = new Connection(this.#WebSocket, url, this.#request(), silence)
    const abort = (): void => connection.close()
    signal?.addEventListener('abort', abort)
    try {
      for (let handled = 0; ; ) {
        if (handled > this.#window / 2) {
          connection.grant(handled)
          handled = 0
        }
        const message = await connection.next()
        switch (message.type) {
          case 'subscribed':
            session.served = true
            this.#cursor = message.cursor
            break
          case 'event':
            yield message.event
            this.#cursor = message.event.cursor
            handled++
            break
          case 'progress':
            this.#cursor = message.cursor
            onProgress?.(message.cursor, message.live)
            break
          case 'error':
            throw message.error
        }
      }
    } finally {
      signal?.removeEventListener('abort', abort)
      connection.close()
    }
  }

  #request(): Request {
    const { filters, start } = this.#options
    const request: Request = { type: 'subscribe', filters, credit: this.#window }
    if (this.#cursor !== undefined) request.cursor = this.#cursor
    else if (start !== undefined) request.start = start
    return request
  }
}

/** What is known of a connection. */
class Session {
  /** The node took the subscription. */
  served = false
}
