// Package ledger is the EVM ledger: a view of the shared log whose entries are batches of signed transactions and
// whose state is an Ethereum chain.
//
//	eth_sendRawTransaction                                  eth_call, eth_getLogs, …
//	        │                                                        ▲
//	        ▼                                                        │ published head
//	  txpool.Pool ──► txpool.Batcher ──► shared log                  │
//	        ▲                               │ entry                  │
//	        │                               ▼                        │
//	        │         Prefetch: decode, recover senders (in parallel, ahead)
//	        │                               ▼
//	        │         Apply:    execute, state root, commit to the trie layers (serial)
//	        │                               ▼ bounded queue
//	        └─────── writer:    block, receipts, indexes, applied LSN in one batch; publish
//
// Ordering comes first and execution second: a transaction that is not valid at its turn is skipped and leaves no
// trace, so a duplicate is harmless and there are no invalid blocks. An entry of which nothing is included makes no
// block, but the applied LSN advances.
//
// Invariants:
//
//  1. The same entries give the same header hashes on every replica, engine and machine. Nothing in a header is local.
//  2. A block, its receipts, its indexes (logindex.go, addressindex.go) and the applied LSN reach the store in one atomic batch, in block order. The
//     published head is always one whose batch has been written, so whatever it announces can be queried.
//  3. The batch of block n is written before the state of block n can reach the disk. After a crash the newest block whose state is
//     on disk is thus a block that is stored; the blocks after it are executed again from their own bodies, and
//     what is beyond them comes from the log.
//  4. A block that is executed again must get the hash it had. Another hash is ErrDivergence, and the ledger does not
//     open or go on.
//  5. Nothing here is synced per block: the log is the write-ahead log. Durable() moves when the store is synced, every few
//     seconds, and bounds how far the log may be trimmed.
//  6. A read never mixes states: WithState checks the error that go-ethereum keeps aside when a trie layer goes stale,
//     and runs the read again on the historic state.
//  7. What a block has of the ledger's parameters (gas limit, base fee, coinbase) is what its parent has, with the changes of the log's segments
//     that began between the two. The header holds it, so that no block needs the log's chain twice; and the pool and RPC go by what the next
//     block will have, which may be known before there is one.
package ledger
