// Package consensus is the shared log: one sequence of records that all nodes of a network agree on, above any engine that can agree.
//
// # Model
//
// Applications see a VirtualLog. Below it, the log is a chain of segments, each ordered by a loglet: one engine under one fixed configuration (after
// Delos, OSDI '20). A segment ends with a Seal, which names the next one.
//
//	VirtualLog      lsn 1 . . . . . 7 8 . . . . . . . . 17 18 . . . . . ─► tail
//	                ┌───────────────┐ ┌───────────────────┐ ┌────────────
//	chain           │ epoch 1     S │ │ epoch 2         S │ │ epoch 3        S: the Seal, a segment's last entry
//	                └───────────────┘ └───────────────────┘ └────────────
//	loglets         offset 0 ..... 6  offset 0 .......... 9  offset 0 ...
//	engines         local             (stored copy)          whatever the spec in the second Seal says
//
// How a record becomes an entry, on each node:
//
//	Append(record)
//	     │                  any node, any number of times: the same record
//	     ▼
//	  engine                orders items (raw clock, record): Raft, CometBFT, a queue
//	     │
//	     ▼                  ── from here on a pure function of the items, the same code for all engines ──
//	  Sequencer             void? duplicate? sealed? ─► entry: lsn, epoch, milliseconds, record, digest
//	     │
//	     ▼
//	  Store                 entries + keys + mark (+ chain, if it is the Seal) in one atomic batch
//	     │
//	     ▼
//	  Read, Follow          every entry verified against its predecessor's digest
//
// An engine supplies the first step and hands batches to a Replica, which does the rest. Package local is the smallest example, package logtest the
// contract as a suite.
//
// # Words
//
// An LSN is a position in the log, dense from 1; an offset is one in a loglet, dense from 0. A record is what an application appends, an entry what
// the log made of it. The tail is the first unwritten position; to trim drops a prefix on this node. A segment is a loglet at its place in the chain,
// and the epoch is its number. The base of a segment is the LSN of its first entry. A record is known by its key, a hash of all of it. W is the
// dedup window: how many of the last entries' keys are remembered.
//
// # Invariants
//
//  1. The LSNs of entries are dense from 1. A record that is void takes none, and leaves no trace in the State.
//  2. Of all records with the same key, at most one is an entry within any W+1 consecutive LSNs. The others' appenders are told its LSN. Nobody else's record
//     has the key of one that he did not make, so nobody can have an append answered, or made void, by something else.
//  3. digest(n) is a function of the entries 1 to n and the network id, injective up to collisions of SHA-256. What is read from the disk has been
//     verified against it.
//  4. What was acknowledged is durable at a quorum, readable on the node that acknowledged it, and lies at or below the segment's Seal if there
//     is one.
//  5. UnixMilli never decreases from entry to entry, across segments and restarts too, whatever the engines' clocks do.
//  6. The first valid Seal in a segment's order is its last entry. Validity is a pure function of segment, LSN and record; an invalid Seal is void
//     and seals nothing. So the sealed tail is the same on every replica.
//  7. A mark, the entries up to it, and with the Seal the chain's extension, are one atomic batch. The stored chain is a function of the stored
//     entries, never ahead of the engine and at most behind it, when the engine repeats what is missing.
//  8. The stored chain alone decides which engine is started. Configuration and genesis matter on an empty directory only.
//  9. The trim point never moves back. The keys of the last W entries are kept, so a trim does not change what is a duplicate.
//  10. After a failed write or fsync nothing more is written or acknowledged by this process.
//  11. What was stored is taken back by a Recovery alone, on a node that is stopped, and is kept in a file. A running node never cuts its log.
//
// # Reconfiguration
//
// A segment is ended and the next one begun by VirtualLog.Reconfigure, on any node, for a Request that enough administrators of the last segment signed
// (Spec.Threshold). What happens in which order, and what a crash at each step leaves:
//
//	1 prepare    each next member learns from a quorum that the epoch has not begun, catches up, lets the others connect, has its disk vouched for, and
//	             signs a Ready: what it has of the log, and of the application, at one LSN that is the same for all.
//	             Left behind: nothing that harms. The disk *is* vouched for; whether the epoch comes is another matter.
//	2 seal       the Seal is appended: the request, the signatures, the statements of a quorum of the next members (Spec.Quorum). The first valid one
//	             wins. Its record has a key made of the request, so it may be appended again by anybody.
//	             Left behind: either nothing, or a segment that has ended on every replica that comes to the Seal.
//	3 base       each member that has applied the Seal opens the next engine; whoever comes to lead orders the Base first. A replica that has another log
//	             than the Base says stops (ErrDiverged). From then on the new segment orders: "switched".
//	4 complete   a quorum of the next members is known to have the Seal stored, and so all that lies before it.
//
// Attempt is these steps as a step function; a second one for the same request, wherever, goes on where the first one stopped. Switcher decides, on each
// node, what serves the last segment: the engine, or the observer (Options.Observe). A sealed engine lingers until its members have reported the Seal, or
// for 30 s. A member that was away asks its peers for the SegmentEnd before it starts an engine, and while that finds nobody to order with; if there is one,
// it follows the log service up to the Seal instead.
// A Seal that a peer tells of has to be ahead of what this node holds, or to verify right behind it; whether the entries up to it are those of its digest is seen
// when they come. A recovery goes before a Seal: members that should have been fenced may have ordered one since.
//
// Beyond the invariants above:
//
//  12. A node orders in an epoch only if the segment's spec names its key and its disk holds the epoch's identity, or is vouched for (Store.Vouch) from that
//     epoch on or before, which is used up by entering. Nothing vouches for a disk that was lost and filled again.
//  13. What an observer brought into a segment, its engine does not go on behind (Position.Observed).
//  14. A claim counts for the member that signed it. A node stops only if so many members claim one other history that they cannot all be wrong: a majority
//     where they may crash, more than may lie where they may lie.
//
// # Digest
//
//	digest(0) = network id
//	digest(n) = SHA-256 of
//
//	    offset  bytes
//	    0       16     "ledgerd/entry/1" 0x00      tag with version
//	    16      32     digest(n-1)
//	    48      8      lsn = n
//	    56      8      epoch
//	    64      8      milliseconds since 1970 UTC
//	    72      1      length a of app
//	    73      a      app
//	    73+a    16     id: session, sequence
//	    89+a    4      length p of payload
//	    93+a    p      payload
//
// All integers, here and below, are big endian.
//
// # Record and entry
//
//	record, version 1 (also what engines carry)        entry, version 1 (also what nodes hand to each other)
//
//	    0     1   version = 1                              0     1   version = 1
//	    1     1   length a of app                          1     8   lsn
//	    2     a   app                                      9     8   epoch
//	    2+a   16  id: session, sequence                    17    8   milliseconds
//	    18+a  .   payload, to the end                      25    32  digest
//	                                                       57    .   record, to the end
//
//	key of a record    first 16 bytes of the SHA-256 of "ledgerd/record/1" 0x00 | record
//	                   A record of app `log` is hashed without its payload: its id is made of that, below.
//
// # Request, statement and segment
//
// A string, a byte string and a list are preceded by their length in four bytes; a list's is the number of its elements.
//
//	spec        engine string | fault model 1 | parameters: list of (name string, value string), by ascending name
//	            | members: list of (id 8, node key bytes, consensus key bytes, peer address string, 2 CometBFT addresses string)
//	            | administrators: list of key bytes | threshold 4 | ledger parameters bytes
//
//	request     version = 2 | network id 32 | epoch 8 | last LSN for its Seal 8 | spec
//	  hash      SHA-256 of "ledgerd/request/1" 0x00 | request
//	  signed    "ledgerd/reconfigure/1" 0x00 | hash                       (ed25519, an administrator's key)
//	  identity  SHA-256 of "ledgerd/epoch/1" 0x00 | network id 32 | epoch 8 | hash 32 | recovery count 8
//	            of the epoch that the request asks for
//
//	ready       key 32 | lsn 8 | digest 32 | head 32 | rules 4 | signature 64
//	  signed    "ledgerd/ready/1" 0x00 | hash of the request | lsn | digest | head | rules      (ed25519, a node key)
//
//	prepare     version = 1 | request bytes | signatures: list of (key 32, signature 64), by ascending key | lsn 8
//
//	segment     version = 2 | network id 32 | epoch 8 | recovery count 8 | base 8 | base digest 32 | base milliseconds 8 | identity 32 | spec
//
//	its end     1 | entry of the Seal, bytes | proof of the engine, bytes
//	            2 | signed recovery
//
//	recovery    version = 1 | network id 32 | epoch 8 | count 8 | base 8 | base digest 32 | base milliseconds 8 | spec
//	  hash      SHA-256 of "ledgerd/recovery/1" 0x00 | recovery
//	  signed    "ledgerd/recover/1" 0x00 | hash                           (ed25519, the key of an administrator of the dead segment)
//	  identity  of the epoch that it begins: that of a request, with the recovery's hash and count
//
//	signed recovery    recovery bytes | signatures: list of (key 32, signature 64), by ascending key
//
// # Records of app `log`
//
// The first byte of the payload is the kind, the second the version of that kind.
//
//	Seal        1, 2 | request bytes | signatures: list of (key 32, signature 64), by ascending key | list of ready, by ascending key
//	            The id is made of the request's hash: its first eight bytes with the lowest bit set, and the next eight.
//	Base        2, 1 | epoch identity 32 | base 8 | base digest 32
//	            Ordered first in a segment, by its engine. It is no entry.
//	claim       3, 1 | member 8 | epoch 8 | lsn 8 | head 32 | signature 64
//	            The id is made in the same way of the SHA-256 of the payload.
//	  signed    "ledgerd/claim/1" 0x00 | epoch identity 32 | member | lsn | head                (ed25519, the member's node key)
//
// # Store
//
// One pebble instance holds the whole log. A key is one byte, followed by an eight-byte number for the kinds that have one:
//
//	'f'            version = 2 | network id 32 | W 8
//	's' epoch      segment
//	'a' epoch      mark: version = 2 | engine's position 8 | next lsn 8 | milliseconds 8 | digest 32 | flags 1: 1 sealed, 2 based, 4 observed
//	'e' lsn        entry
//	'i' lsn        record key 16 | digest 32        kept for the last W entries and for all that are not trimmed
//	't'            lsn 8 | digest 32        the trim point; absent if nothing was trimmed
//	'r'            signed recovery of the last segment, which ends where this node has not come to yet; absent: none is waited for
//	'v'            epoch 8         the first epoch in which this disk may take on a membership (Vouch); absent: in none
//	'z' epoch      the segment's end
//	'x' epoch ...  what the engine of that epoch keeps (EngineArea); each engine draws its own
//
// The record keys are apart from the entries so that the dedup window is loaded without reading payloads, and the digests with them so that a read can begin
// anywhere.
//
// Beside pebble's files lies one of ours, `synced`, which the next section is about:
//
//	version = 1 | next lsn 8 | digest before it 32 | CRC-32C of these 4
//
// # Log state
//
// What stands for the entries up to an LSN when they are gone (LogState): in a node's snapshot, and on the way to a node that joins by one. The store that is
// made of it has its trim point there, and goes on as the store that it was taken from: the same records are duplicates, get the same LSNs, times and
// digests. If it is made for a node that has fallen behind (RejoinStore), it takes over what that has promised.
//
//	version = 2 | network id 32 | W 8 | lsn 8 | milliseconds at it 8
//	| segments: list of segment bytes, up to the one that lsn+1 falls into
//	| their ends: list of end bytes, one fewer
//	| list of (record key 16, digest 32), of the last min(W, lsn) entries, ascending
//
// The chain in it is verified from the genesis on, by the administrators' signatures. The digests are as good as their source: see LogState.Verify.
//
// # The end of the write-ahead log
//
// After a crash, the last write-ahead log may end in the middle of a batch that was being written. Such a batch was not acknowledged, and is dropped.
// What was synced and has rotted must not be taken for it. Pebble tells the two apart by the synced offset that later chunks carry, but looks for them
// from the next block of 32 KiB on only: it drops whatever stands behind a damaged place in the last block. So the store keeps a witness of its own, a
// file that says how far the log was synced, overwritten after each synced commit and never synced itself. If the log ends before it, the error is
// ErrCorrupt and names the first LSN that is gone.
//
// What is left: after a power failure the witness is as old as the kernel's last write-back (half a minute, by Linux' defaults), and rot in the last
// block that is younger than that goes unnoticed. With several members the others know; and a clean Close leaves no such records, since it moves
// everything into tables, whose blocks have checksums.
package consensus
