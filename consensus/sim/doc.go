// Package sim plays whole networks, from one seed, in one goroutine: three to five nodes with their disks and clocks, the network between them, clients,
// the operator, and everything that can go wrong. It is how the rules of a switch are tested, of which the interleavings that break them are rare.
//
// # Model
//
//	   clients            operator           nemesis
//	 append, read       reconfigure       crash, cut, wipe
//	      │              forge Seals       set clocks
//	      ▼                   ▼                ▼
//	┌──────────────────────── node ────────────────────────┐      ┌─────────┐
//	│ append, tail, prepare, attempts (log.go)             │ ◄──► │ network │ ◄──► other nodes
//	│ Appending · Switcher · Attempt          app          │      └─────────┘
//	│ raft.Driver per live epoch │ observer  (toy)         │
//	│ consensus.Store over pebble                          │
//	└───────────────┬──────────────────────────────────────┘
//	                ▼                        what any store takes in, what any client is told
//	     disk: what is synced, what is not  ─────────────────────────────────────────────► checker
//
// The world is a queue of events in the order of a clock that nothing else moves. What a step function of package consensus or raft asks for (a write, a
// batch to apply, a frame to send, an engine to open, a peer to ask) becomes an event at a moment that the seed picks, and the report that it is done
// another one; between any two events any node may crash. A run has trouble for some seconds of its time, then all faults end, and everything must come to
// rest: one tail and one chain at all nodes, every append answered, every attempt over. Then an append through each node must succeed.
//
// How much there is of each kind of trouble is drawn for each seed (mix), so that some runs have much of one and none of another. A seed's run is the same
// each time, to the byte of its trace.
//
// # What is the real thing, and what is not
//
// Real are the Store on pebble, Replica and Sequencer, raft.Driver with its storage and frames, Switcher, Attempt and Appending, the encodings of what nodes
// hand to each other, and all signatures. What VirtualLog, raft.Loglet and package observer do around them with goroutines and channels is done here
// anew, with callbacks, under the same names; it decides nothing that is not theirs to decide. (They themselves, with all their goroutines, are played in package
// raft, TestBubble: there a seed decides the faults, and not every interleaving.) VirtualLog's preparation of a segment is such a sequence
// too (log.go, prepare), and its order matters: the consistent tail, the log up to there, the administrators' signatures, and only then Vouch.
//
// Not simulated: package peer (connections, identities, rights), package local, claims, trimming, snapshots of applications, rot of what was synced,
// ENOSPC, and members that lie.
//
// # Disks
//
// A crash keeps what was synced, and of the rest all (the process was killed), nothing, or some blocks (the power failed). What was not synced lies partly in
// pebble's buffers, and pebble's goroutines, which are real, write it out when they come to it. Right before an fsync, though, everything is written, and
// whoever wants it waits: so a crash that leaves something of it takes place there, in the middle of a write (torn) or in one that is made for it. Old
// write-ahead logs are not written over, but begun anew.
//
// A wipe takes a disk away. The network bears it only where a quorum of the last segment's members keeps theirs, so the nemesis asks the operator first.
//
// # Checks
//
//  1. One order: all stores hold equal entries at equal LSNs, in segments with equal bases; each digest and time follows from its predecessor's.
//  2. Nothing twice within the window, and nothing in the log that nobody appended.
//  3. What was acknowledged is at its LSN on the node that said so, and in the log in the end. What was said to be surely not in, is not.
//  4. Linearizability: some order of all appends and consistent reads, within their times, is one that a single log would show (porcupine).
//  5. The chain has only segments that enough administrators asked for, sealed while the request was good. A forged Seal (unsigned, under-signed, signed
//     by others, expired, for another epoch or network, without statements, with stale, future or contradicting ones) seals nothing.
//  6. A disk that came after another one does not vote where that one did. A chain that was stored does not get shorter.
//  7. An attempt that says complete has a quorum of the next members that hold what lies below the base.
//  8. The application, which folds every entry into its state and plays again what it had not saved, comes to the same state everywhere.
//  9. Rest, as above, within a bound. No assertion of the code itself fails meanwhile, and none of the raft library's.
//
// The checks are checked: a Fault is planted in what the simulation does for the code under test, and found.
package sim
