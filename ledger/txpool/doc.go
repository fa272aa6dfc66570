// Package txpool holds the transactions that a node has accepted and the shared log has not ordered yet, and
// appends them to the log in batches. It is local: other nodes do not see it, and nothing in it decides what a
// block says.
//
//	Add ──► checks ──► Pool ──► take ──► Batcher ──► Propose ──► shared log
//	                    ▲                   │                        │
//	                    │◄──── release ─────┘ Propose returned       │
//	                    └◄──── Applied ─────────── ledger ◄──────────┘ every entry, also other nodes'
//
// For each sender the pool knows its nonce at the head and keeps its transactions sorted by nonce:
//
//	nonce at the head = 7         transactions  7  8  9  10  11      13  14
//	                                            └─┬┘  └──┬───┘       └─┬─┘
//	                                        in flight  executable    queued
//	                                            └──────┬─────┘
//	                                                pending            pending nonce = 12
//
// A transaction is in flight while an append that holds it has not returned, executable if all nonces before it are
// there, and queued otherwise. A sender whose turn came without the funds for it is held: its transactions are
// queued, without a gap, until a read of the state shows that something has changed.
//
// # Order
//
// Senders with executable transactions wait in a line. A batch takes one transaction of each sender in the line,
// from its front, then the next of each, round after round, until it is full or nothing is left. A sender comes
// back to the end of the line when its append has returned. So a sender with ten thousand transactions delays one
// with a single transaction by no more than the batches in flight, and within a sender nonces are consecutive. Tips
// buy no place: with a fixed base fee there is no fee market to order by, and first come, first served is what a
// consortium expects of its members.
//
// # What the pool believes, and what it knows
//
// Nonces are told by the ledger with every entry. Balances and permissions are read when a transaction is added and
// then cached, and may change without the pool being told. Hence one rule: nobody is refused on the word of a
// cache. An Add that would fail reads the state first. In the other direction the cache may be too kind; the
// executor judges every transaction at its turn, and what it skips comes back with a reason, by which the pool
// keeps, holds or drops it. This is also why there is no limit of one transaction for accounts with an EIP-7702
// delegation, as go-ethereum's pool has: to sweep such an account costs a few skipped transactions, no gossip and
// no block space.
//
// # Invariants
//
//  1. An accepted transaction is in one place: in the pool until it is included, or in the bounded history of
//     dropped ones with the reason. It is dropped only when its nonce is used, it is invalid for good, it was
//     replaced, or it was queued and had to make room or waited longer than the TTL. An executable one is never
//     dropped for room.
//  2. A sender is in at most one append in flight, since two may be reordered. Within a batch its nonces are
//     consecutive and start at its first pooled nonce, which is its nonce at the head as far as known here.
//  3. What is in flight is not replaced or evicted. When its append returns, with whatever error, what is still in
//     the pool is executable again: an append of unknown fate may have been ordered, and then the second copy is
//     skipped.
//  4. The gas limits of a batch sum up to no more than the block gas limit, and its payload decodes within the
//     limits of package batch.
//  5. Memory is bounded: transactions by count and bytes, in all and per sender; senders by transactions, or by an
//     append in flight; dropped ones by the size of the history; a subscriber by its own channel.
//  6. Work under the lock is proportional to what an operation touches: a transaction, a batch, the transactions of a
//     block, or what one sender has queued when it expires; never the pool. Content and Inspect are the exceptions.
//
// # Locks
//
// Pool.mu guards everything but the subscribers, which have feed.mu; it is taken inside mu. Neither is held while
// calling out of the package: signature recovery, state reads and Propose happen before or after, and a counter of
// applied entries tells whether the world moved in between. So Chain may take any lock it likes, and Applied may be
// called under the ledger's own.
package txpool
