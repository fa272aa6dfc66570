// Package vm executes transactions: a pre-state, a block environment and a list of transactions go in; a block,
// receipts, logs and the list of what was skipped come out. It is go-ethereum's EVM and state transition behind one
// narrow face, at the Osaka rules.
//
//	parent header ─┐
//	Env (from log) ┼─► Executor.Execute ─► Result{Block, Receipts, Logs, Skipped}     the caller commits the state
//	StateDB        │        │
//	transactions  ─┘        └─ per transaction: included (receipt, gas) or skipped (no trace)
//
// The order of a ledger is decided before it is executed, so a transaction that is not valid at its turn cannot make
// a block invalid: it is skipped. What is left is an ordinary Ethereum block. [Executor.Replay] runs such a block as
// any Ethereum client would, without knowing of skips or permissions, and must come to the same header.
//
// Invariants:
//
//  1. Execute is a function of its arguments and of the headers it can reach by parent hash. It sees no clock, no
//     randomness, no floats, no configuration of the node, and nothing that a map iteration ordered. Same arguments,
//     same header hash, on every node.
//  2. A skipped transaction leaves no trace: no state change, no gas, no log, no refund, no access-list entry, no
//     index. A block with skipped transactions among its input is, byte for byte, the block without them.
//  3. A block replays under the plain EVM rules. Whatever is decided beyond them (permissions, the skip rule) is
//     decided by leaving a transaction out, never by running it differently.
//  4. Permissions are read at the transaction's turn: what an earlier transaction of the same block changed counts.
//  5. An error of the state database is never a skip. It ends Execute, since the database of another node may have
//     answered.
//  6. A header is complete for its rules: a real types.Header, whose hash is keccak(RLP), with every field that the
//     Osaka fork demands and none of a later fork.
//
// [Executor.Rerun] executes a finished block again, transaction by transaction, for tracers; by invariant 3 they see what Execute did.
// Result.Touched says which accounts each transaction dealt with: an index for explorers, in which nothing of the chain takes part.
//
// [Executor.Call], [Executor.EstimateGas], [Executor.AccessList] and [Executor.Simulate] run messages that are not transactions, for RPC. They read the wall clock
// (a timeout), may be cancelled, and their results go to one client and into no block: invariants 1 to 4 are not
// theirs.
package vm
