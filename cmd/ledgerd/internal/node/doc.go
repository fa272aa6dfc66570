// Package node puts the parts of one running ledgerd together, and takes them apart again in the right order.
//
//	          Open, upwards                                 Run                       stop, downwards
//
//	listeners: RPC, operator's         ┌─► rpc.Server.Serve    (requests)     1. no new requests, answer those begun
//	        ▲                          │
//	ledger.Open: recover the store     ├─► ledger.Run          (player,       2. batcher, then player
//	        ▲                          │                        batcher)      3. ledger: journal, close
//	consensus.Open: recover the log,   └─► operator's server                  4. the peers' log service
//	start the engine                                                          5. log: close, and its engine
//	        ▲                                                                 6. listener for the peers
//	listener for the peers, if any                                            7. lock of the home
//	        ▲
//	lock of the home
//
// This package and the commands are the only code that names concrete engines (engines.go).
//
// Invariants:
//
//  1. Nothing above is started before what it stands on is open, and nothing below is closed while something above
//     still uses it. A failed Open closes what it had opened.
//  2. The ledger is closed cleanly whenever the process is asked to stop, so that a restart replays nothing. When
//     that takes longer than the configured time, Run returns anyway: the log holds all that was acknowledged.
//  3. When a part fails for good (the store, the log, a divergence), the node stops serving at once and Run
//     returns the cause. A node that is wrong about the chain must not go on answering.
//  4. A failed write or fsync of the log is told to Options.Fatal, on the goroutine that saw it and before any
//     append that it concerns is answered. There is no second try: after a failed fsync the kernel may hold the page
//     for clean. Nor is anything closed then: there is nothing left to close cleanly, and closing could wait for the disk.
//  5. A node takes part in ordering only as the member whose node key it holds, and only with the log store that Prepare
//     made, or with which it took part before.
//  6. The log is trimmed only where the snapshots that are kept stand for what is dropped, and the ledger would survive a power cut without it (trim.go).
//  7. The data of a home are restored whole or not at all, and never over data that an entry of the log is in, but by a log that is ahead and has taken over what the
//     node has promised (rejoin.go).
package node
