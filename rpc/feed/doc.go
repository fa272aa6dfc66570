// Package feed is the resumable feed: a client names what it wants and a cursor, and gets every such event from there on, what is
// past first and what is new as it comes, each with the cursor of what follows it. Whoever was away, by its own doing or another's, resumes
// where it was. docs/feed.md describes it to users, the package protocol has its messages.
//
//	GET /feed       websocket, with credit: the client says how many events it has room for
//	GET /feed/sse   server-sent events, for EventSource and curl: TCP's window is the credit
//	GET /feed/schema.json
//
//	             head announced              published blocks, postings of logs and accounts
//	                   │                                   │ read, by cursor
//	                   ▼                                   ▼
//	Feed.Run ──► wake everybody      search (which block next?) ──► block (its events, encoded once) ──► match
//	                   │                                                                                   │
//	                   └───────────► subscription: one goroutine for each client ◄────────────────────────┘
//	                                        │ as long as there is credit
//	                                        ▼
//	                                   websocket or SSE
//
// Nothing is queued for anybody. A subscription is a position in the chain; it reads the next event when its client has room for it, so
// a client that is slow, or gone, costs a goroutine or nothing, and neither loses events nor delays those of others. What is new is read
// as what is old is: the announcement of a head only wakes.
//
// Invariants:
//
//  1. Positions are a function of the chain alone (protocol.Position): the same on every node, whatever the filters, for ever.
//  2. A subscription sends, in the order of positions, every event that a filter selects and lies at or after its cursor, once. If it cannot, it
//     ends with an error that says so. Nothing is skipped in silence.
//  3. The cursor of a message is that of the first position after everything that was sent or looked at, so resuming there has neither gap nor
//     duplicate. Cursors also come when nothing matches (progress), so that a rare filter does not search twice.
//  4. An event is sent only after everything about it can be queried.
//  5. No client delays another, nor the ledger, nor the hub of subscriptions. What it may hold is bounded: one block's events, one message,
//     one window of the log index, a filter of limited size.
//  6. A cursor that belongs elsewhere (another chain, another history, beyond the head, below what is kept) is refused with its own code.
package feed
