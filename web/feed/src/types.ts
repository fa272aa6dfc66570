// The forms of docs/feed.md and protocol/schema.json. Quantities are hexadecimal, as in JSON-RPC: BigInt(quantity) is their value, and viem's formatLog and the
// like take them as they are.

export type Hex = `0x${string}`
export type Address = Hex
export type Hash = Hex
export type Quantity = Hex

type OneOrMany<T> = T | readonly T[] | null

/** Selects events of one kind that meet all of its conditions. */
export type Filter =
  | {
      kind: 'log'
      /** Any of these emitted it. */
      address?: OneOrMany<Address>
      /** Position i holds any of the alternatives; null matches everything. */
      topics?: readonly OneOrMany<Hash>[]
      /** Any of these signed the transaction. */
      from?: OneOrMany<Address>
      /** The transaction went to any of these; a creation goes to none. */
      to?: OneOrMany<Address>
    }
  | { kind: 'transaction' | 'receipt'; from?: OneOrMany<Address>; to?: OneOrMany<Address> }
  | { kind: 'block' | 'segment' }

export type Kind = Filter['kind']

/** As eth_subscribe newHeads gives it. */
export interface Block {
  number: Quantity
  hash: Hash
  parentHash: Hash
  stateRoot: Hash
  transactionsRoot: Hash
  receiptsRoot: Hash
  logsBloom: Hex
  miner: Address
  gasLimit: Quantity
  gasUsed: Quantity
  timestamp: Quantity
  milliTimestamp: Quantity
  extraData: Hex
  logSequenceNumber?: Quantity
  epoch?: Quantity
  engine?: string
  [field: string]: unknown
}

interface Place {
  blockHash: Hash
  blockNumber: Quantity
  transactionIndex: Quantity
  [field: string]: unknown
}

/** As eth_getTransactionByHash gives it. */
export interface Transaction extends Place {
  hash: Hash
  from: Address
  to: Address | null
  nonce: Quantity
  value: Quantity
  gas: Quantity
  gasPrice: Quantity
  input: Hex
  type: Quantity
}

/** As eth_getTransactionReceipt gives it. */
export interface Receipt extends Place {
  transactionHash: Hash
  from: Address
  to: Address | null
  contractAddress: Address | null
  gasUsed: Quantity
  cumulativeGasUsed: Quantity
  effectiveGasPrice: Quantity
  status?: Quantity
  type: Quantity
  logs: Log[]
}

/** As eth_getLogs gives it. */
export interface Log extends Place {
  address: Address
  topics: Hash[]
  data: Hex
  transactionHash: Hash
  logIndex: Quantity
  removed: false
}

/** As log_segments gives it, without end and proof. Only the epoch is always there. */
export interface Segment {
  epoch: Quantity
  base?: Quantity
  engine?: string
  faults?: 'crash' | 'byzantine'
  [field: string]: unknown
}

interface Of<K extends Kind, Data> {
  kind: K
  /** Where to resume once this event is handled. */
  cursor: string
  data: Data
}

export type Event =
  | Of<'segment', Segment>
  | Of<'block', Block>
  | Of<'transaction', Transaction>
  | Of<'receipt', Receipt>
  | Of<'log', Log>
