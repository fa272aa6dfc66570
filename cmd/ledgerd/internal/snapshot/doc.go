// Package snapshot makes, keeps and restores snapshots of a node: one file that stands for all entries of the log up to an LSN. A node begins with it
// where it would otherwise have to play the log from its beginning, which others may have trimmed by then.
//
//	ledger.Snapshot ──┐                                            ┌──► consensus.RestoreStore   log: trimmed up to the LSN
//	                  ├──► file ──► Manager, List, ReadAt ──► file ┤
//	Store.Snapshot ───┘    (another node, a backup)                └──► ledger.Restore           ledger: applied up to the LSN
//
// The LSN is the one that the ledger has applied, which it says at the beginning of its own snapshot: it goes on meanwhile. The log must hold that LSN, and
// the ids of the dedup window before it; a trim leaves them.
//
// # File
//
//	0     24  "ledgerd node snapshot 1\n"     name and version
//	24    4   n
//	28    n   state of the log at the LSN     drawn in package consensus, Log state
//	28+n  .   snapshot of the ledger          drawn in package ledger
//	end   32  SHA-256 of all that precedes
//
// Integers are big endian.
//
// # Invariants
//
//  1. A file under its final name is whole, after a power cut too: it is written under another name, synced, and renamed.
//  2. Nothing of a file is used before all of it has been read and its sum is right; and nothing that is made of it before both halves have been verified
//     and found to be of one network, one genesis and one LSN. Verified means: the chain of segments by the administrators' signatures, from the genesis
//     on; the accounts, slots and codes by the state root of the head block; and the digest in the head block by the one that the log's state has at its
//     position, if that is within the dedup window.
//  3. What that leaves is for the source to vouch for: that the head is the network's. Whoever made the file could have made up a history with a state to
//     go with it. A node that joins notices as soon as it reads on: the members' next entry does not verify on a made up digest.
//  4. A restored node has its data whole, or what it had before (Settle). Its log is not vouched for, and it does not vote, but where it takes over what the
//     node's own log before it has promised (Target.MakeLog).
//  5. The newest snapshots are kept, as many as asked for, and at least one. One that is being read may go; its reader is told, and begins anew.
package snapshot
