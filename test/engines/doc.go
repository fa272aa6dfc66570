// Package engines holds that what the EVM comes to does not depend on the engine that ordered its transactions.
//
// # Model
//
// Each engine orders a log of its own with one member, over a disk in memory, and a ledger plays it. All of them have one network id and one genesis of the
// ledger; only the specs of their first segments differ.
//
//	                     ┌─► local ─► ledger ─┐
//	records, a clock ────┼─► raft  ─► ledger ─┼─► compared
//	                     └─► comet ─► ledger ─┘
//
// What is demanded:
//
//  1. The same records, appended in one order by one clock, become the same entries, digest for digest, and these the same headers, hash for hash. So do they after
//     both are opened again, in a ledger that plays them from the first one on, and at an observer.
//  2. The same signed transactions, sent by several senders at once to the pools of ledgers whose clocks run and whose blocks are cut differently, get the same
//     receipts but for where they stand in the chain, and leave the same state but for the accounts of EIP-4788 and EIP-2935: there the blocks themselves are
//     written down.
//
// The second holds for contracts that look neither at the block nor at what other senders have done, and for no others: order among senders is the engine's to choose.
// The transactions of work_test.go keep to that, and say how.
package engines
