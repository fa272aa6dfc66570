// Package batch is the payload of the ledger's records in the shared log: a list of signed transactions, as their
// senders encoded them. It knows bytes and limits, not what a transaction means.
//
// A payload, version 1:
//
//	offset  bytes  what
//	0       1      version, 0x01
//	1       1..9   RLP list header of the batch
//	.       1..9   RLP list header of its one field, the transactions
//	.       n      one RLP string for each transaction, in order of execution: the EIP-2718 encoding
//	               (type byte ++ RLP for typed transactions, RLP alone for legacy ones), as eth_sendRawTransaction takes it
//
// For example, a batch of the two (much too short) transactions 0xaabb and 0x02cc:
//
//	01 c7 c6 82 aa bb 82 02 cc
//	│  │  │  │        └ string of 2
//	│  │  │  └ string of 2
//	│  │  └ list of 6: the transactions
//	│  └ list of 7: the batch
//	└ version
//
// The outer list is there so that a later version may add fields beside the transactions; version 1 has none, and a
// decoder that met one would have to skip what it cannot execute, so it refuses instead.
//
// Invariants:
//
//  1. Decoding is a pure function of the payload: every replica accepts it or every replica finds the same fault. A
//     record that does not decode is void; it takes its place in the log and changes nothing.
//  2. A payload has one encoding only: what Decode accepts, Encode writes back byte for byte. So nobody can make
//     two records of different bytes and digests that mean the same.
//  3. Decode allocates nothing that the payload's own length does not bound.
package batch
