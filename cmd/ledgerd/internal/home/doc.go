// Package home is a node's home directory: what lies in it, who may open it, and how its files are written.
//
//	H/config.toml     what this node chose                                  0644
//	H/genesis.json    what the network began from                           0644
//	H/node.key        the ed25519 key that identifies the node to others    0600
//	H/consensus.key   the ed25519 key with which it votes under CometBFT    0600
//	H/data/log        the store of the shared log
//	H/data/ledger     the store of the ledger
//	H/data/comet      CometBFT's own write-ahead logs, if it orders or is about to
//	H/snapshots       snapshots of both, if any were made
//	H/LOCK            held, with flock, by the process that has the home open; its text is that process's id
//
// Invariants:
//
//  1. Two processes never have a home open at a time. The lock is the kernel's, not the file's: it is gone when its
//     process is, however that ended, so that a crash leaves nothing to clean up.
//  2. A file here is either absent, its old self or its new self, after a power cut too: it is written aside,
//     synced and renamed, and the directory is synced.
//  3. A file that holds a secret can be read by its owner alone. One that others can read is refused, not repaired:
//     the secret may be out already, and only the operator can judge that.
//  4. Nothing is overwritten. Create fails when the home has been made before.
package home
