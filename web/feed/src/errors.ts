/** The codes of docs/feed.md. */
export type ErrorCode =
  | 'invalid_request'
  | 'limit_exceeded'
  | 'cursor_invalid'
  | 'cursor_other_chain'
  | 'cursor_other_history'
  | 'cursor_beyond_head'
  | 'history_pruned'
  | 'overloaded'
  | 'internal'

const temporary: ReadonlySet<string> = new Set<ErrorCode>(['cursor_beyond_head', 'overloaded', 'internal'])

/** The node ended the subscription, or did not take it, and says why. */
export class FeedError extends Error {
  override readonly name = 'FeedError'
  /** One of ErrorCode, or one of a later version. */
  readonly code: ErrorCode | (string & {})
  /** Of history_pruned: the oldest cursor that the node can serve. */
  readonly cursor: string | undefined

  constructor(code: string, message: string, cursor?: string) {
    super(`${code}: ${message}`)
    this.code = code
    this.cursor = cursor
  }

  /** Whether the same request can succeed later, or on another node. */
  get temporary(): boolean {
    return temporary.has(this.code)
  }
}

/** The connection could not be made, or broke, or what came is no feed. The client tries again. */
export class UnavailableError extends Error {
  override readonly name = 'UnavailableError'
}
