import { UnavailableError } from './errors.js'
import { parseMessage, type Message, type Request } from './messages.js'

/** What is used of a WebSocket: that of browsers, of Node 22, or of the package ws. */
export interface Socket {
  send(text: string): void
  close(): void
  addEventListener(type: 'open', listener: () => void): void
  addEventListener(type: 'error', listener: () => void): void
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener(type: 'close', listener: (event: { code: number; reason: string }) => void): void
}

export type SocketConstructor = new (url: string) => Socket

/**
 * One connection: it subscribes, and queues what comes until it is taken. The credit that the request gives bounds how many events that can be; progress
 * messages replace each other while nobody takes them.
 */
export class Connection {
  readonly #socket: Socket
  readonly #silence: number
  readonly #queue: Message[] = []
  #ended: Error | undefined
  #wake: (() => void) | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(WebSocket: SocketConstructor, url: string, request: Request, silence: number) {
    this.#silence = silence
    this.#socket = new WebSocket(url)
    this.#socket.addEventListener('open', () => this.#socket.send(JSON.stringify(request)))
    this.#socket.addEventListener('message', (event) => this.#take(event.data))
    this.#socket.addEventListener('error', () => this.#end(new UnavailableError('the connection failed')))
    this.#socket.addEventListener('close', (event) => this.#end(new UnavailableError(`the connection was closed: ${event.code} ${event.reason}`)))
    this.#alive()
  }

  /** The next message; once there are no more, it throws why. */
  async next(): Promise<Message> {
    for (;;) {
      const message = this.#queue.shift()
      if (message !== undefined) return message
      if (this.#ended !== undefined) throw this.#ended
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Gives the node room for more events. */
  grant(credit: number): void {
    if (this.#ended === undefined) this.#socket.send(JSON.stringify({ type: 'credit', credit }))
  }

  close(why: Error = new UnavailableError('closed')): void {
    this.#queue.length = 0
    this.#end(why)
  }

  #take(data: unknown): void {
    if (this.#ended !== undefined) return
    this.#alive()
    let message: Message
    try {
      message = parseMessage(data)
    } catch (err) {
      this.#end(err instanceof Error ? err : new UnavailableError(String(err)))
      return
    }
    if (message.type === 'progress' && this.#queue.at(-1)?.type === 'progress') this.#queue.pop()
    this.#queue.push(message)
    this.#wake?.()
  }

  #end(why: Error): void {
    if (this.#ended !== undefined) return
    this.#ended = why
    clearTimeout(this.#timer)
    this.#wake?.()
    this.#socket.close()
  }

  /** A node says something every 15 s. */
  #alive(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#end(new UnavailableError(`nothing came for ${this.#silence} ms`)), this.#silence)
  }
}
