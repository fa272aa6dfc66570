export { follow, type FollowOptions, type Subscription } from './follow.js'
export { FeedError, UnavailableError, type ErrorCode } from './errors.js'
export type {
  Address,
  Block,
  Event,
  Filter,
  Hash,
  Hex,
  Kind,
  Log,
  Quantity,
  Receipt,
  Segment,
  Transaction,
} from './types.js'
export type { Socket, SocketConstructor } from './socket.js'
