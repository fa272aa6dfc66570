import { FeedError, UnavailableError } from './errors.js'
import type { Event, Filter, Kind } from './types.js'

export interface Request {
  type: 'subscribe'
  filters: readonly Filter[]
  credit: number
  cursor?: string
  start?: string
}

export type Message =
  | { type: 'subscribed'; cursor: string }
  | { type: 'event'; event: Event }
  | { type: 'progress'; cursor: string; live: boolean }
  | { type: 'error'; error: FeedError }
  /** Of a later version. */
  | { type: 'unknown' }

const kinds: readonly string[] = ['segment', 'block', 'transaction', 'receipt', 'log'] satisfies Kind[]

/** Reads what a node sends. Throws an UnavailableError if it is no message of a feed. */
export function parseMessage(text: unknown): Message {
  const m = parseObject(text)
  switch (m['type']) {
    case 'subscribed':
      return { type: 'subscribed', cursor: stringOf(m, 'cursor') }
    case 'progress':
      return { type: 'progress', cursor: stringOf(m, 'cursor'), live: m['live'] === true }
    case 'error': {
      const cursor = typeof m['cursor'] === 'string' ? m['cursor'] : undefined
      return { type: 'error', error: new FeedError(stringOf(m, 'code'), stringOf(m, 'message'), cursor) }
    }
    case 'event': {
      const { kind, data } = m
      if (!kinds.includes(stringOf(m, 'kind')) || typeof data !== 'object' || data === null) return { type: 'unknown' }
      // The data's fields are the node's promise (schema.json): they are not looked at one by one here.
      return { type: 'event', event: { kind, cursor: stringOf(m, 'cursor'), data } as Event }
    }
    default:
      return { type: 'unknown' }
  }
}

function parseObject(text: unknown): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(String(text))
  } catch (cause) {
    throw new UnavailableError('what came is not JSON', { cause })
  }
  if (typeof value !== 'object' || value === null) throw new UnavailableError('what came is not a message')
  return value as Record<string, unknown>
}

function stringOf(m: Record<string, unknown>, field: string): string {
  const value = m[field]
  if (typeof value !== 'string') throw new UnavailableError(`a message of type ${String(m['type'])} has no ${field}`)
  return value
}
