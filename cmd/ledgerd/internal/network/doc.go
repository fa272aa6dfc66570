// Package network makes and runs whole networks on one machine: the homes of their nodes as files, and the nodes as child
// processes.
//
//	D/node0 …            homes (package home), each with its ledgerd.log while it has run under Up
//	D/admin.key          the ed25519 key that signs reconfigurations        0600
//	D/accounts.json      [{address, privateKey}], funded in the genesis     0600
//
// Invariants:
//
//  1. Init makes all of a network or nothing: it writes beside D and renames.
//  2. Each member's first log is made here, with the one-time mark that lets it take part in the first segment. A home whose log
//     is gone has no such mark, and does not vote with an empty past. An observer's has none either.
//  3. Up never starts a node twice. One that ends by itself is reported when it does, and in the error at the end.
//  4. No node outlives Up: where the system can tell a child of its parent's death (Linux), not even one that is killed.
package network
