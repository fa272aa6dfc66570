// Package rpc serves the ledger to Ethereum's tools: JSON-RPC over HTTP and websocket on one port, subscriptions, filters,
// and the HTTP server with its defences. It holds no rules of its own: what a transaction may do is decided in ledger and
// vm, and an error from there reaches the client with its text unchanged, since tools match it.
//
//	listener ── connection limit
//	   │
//	Host allowlist ──────────────────┬── GET /healthz /readyz
//	                                 │
//	tokens ── CORS, Origin ──────────┼── GET /metrics
//	                                 ├── POST /        ┐
//	                                 ├── upgrade /     ┴─► go-ethereum's rpc.Server ─► eth_ net_ web3_ txpool_ log_ ledger_ debug_ trace_ ots_ admin_
//	                                 ├── /feed, /feed/sse ─► package feed ─► Backend          │
//	                                 └── the rest (Options.Fallback: explorer)                │
//	                                                                                      Backend
//	                                                                                          │ heads, transactions
//	websocket ◄── bounded queue ◄── one dispatcher (hub) ◄── bounded intake ◄─────────────────┘
//
// A namespace is one or more receiver types whose exported methods are the RPC methods (blocks.go, state.go, call.go, ...);
// each embeds *node, which has no exported methods and holds what they share. A new method is a method; a namespace
// of another package is added with Server.Register.
//
// The chain never reorganises, so latest, safe, finalized and, for state, pending are one block: the head. A pending
// nonce counts the pool of this node. A block asked for as "pending" is the head, and not an invention with a number and no
// hash: nobody can know what the log will order next. earliest is block 0.
//
// Invariants:
//
//  1. Nothing is announced (newHeads, logs, receipts, filters) before it can be queried, and announcements come in
//     the order of the chain, every one exactly once. What the intake had to drop is read from the store.
//  2. No client makes the ledger wait. Every queue has a bound; the subscriber whose queue is full loses its connection with
//     a reason (close code 1013), and is counted. It is never left with a silent gap. Announcements of pending
//     transactions are the exception: they are a hint, and their intake drops the oldest.
//  3. A block has one JSON form, whichever method or subscription shows it. The same holds for a transaction, a receipt and a log.
//  4. What does not exist (yet) is null, and not an error; arguments that cannot be right are -32602.
//  5. Error codes are given here (errors.go), but for a revert's, which vm.RevertError has. Texts come from below unchanged.
//  6. A panic in a method is that request's -32603; the node lives.
//  7. Whatever one request may cost is bounded: bytes, batch items, answer size, gas, time, logs, traces, subscriptions. What may cost much holds one of
//     few places (acquireFor), so that it cannot starve what costs little, and what waits ends when the websocket that
//     asked is gone (whileOpen). What is under way at a time is bounded too (inflight.go): requests, messages that a
//     websocket has not had answered, long answers that nobody reads.
//  8. A trace comes to the gas and the status of the transaction's receipt, or it is an error (tracers.go).
//  9. With a secret, whoever has no token learns nothing but whether the node is well.
package rpc
