// Package raft is the engine of a log with several members that trust each other and may crash: a loglet on go.etcd.io/raft.
//
// # Model
//
//	Append ─► own appends ─┐  leader here: propose                       ┌─► every node: Replica.Apply ─► answer the own appends in it
//	                       ├───────────────────► raft log ─► committed ──┤
//	peers ─► forwarded ────┘  leader elsewhere: forward to it            └─► the raft entry becomes a reference to the log's entry
//
// A node answers an append when it has itself applied the record: so nothing has to come back from the leader, and whoever forwards, forwards again
// after a while or to the next leader, as the same record. Copies that are ordered twice are void by the rule that all engines share (package
// consensus, Sequencer). The fate of an append is therefore unknown only to a caller that does not wait for it.
//
// The protocol is the Driver: a step function, messages and completed writes in, writes and messages out, without a clock, a goroutine or a lock.
// The Loglet is what runs it: one goroutine that steps, one that writes and syncs the raft log, one that applies.
//
//	frames, appends, reads, ticks
//	     │
//	     ▼           Write                     Apply
//	  Driver ─────────────────► writer (fsync)   ·
//	   ▲ │ ▲ ◄──────────────── written           ·
//	   │ │ └──────────────────────────────── applied ◄── applier (Replica.Apply)
//	   │ ▼
//	frames, answers
//
// There is no timer that waits for company: a lone append is proposed at once. While a write is under way, the appends that come in gather, and the
// next proposal takes them all, so one fsync, one message to each follower and one batch serve as many as came in during the last fsync.
//
// # Invariants, beyond those of package consensus
//
//  1. A vote or an acknowledgement of an entry leaves a node only after what it promises has been synced. (Messages wait for their Write.)
//  2. A node takes part in a segment only if its store holds the segment's identity, which is written once, while the disk is vouched for
//     (consensus.Store.Vouch): so a wiped disk does not vote with an empty past. One that has followed the segment as an observer does not come back to it:
//     its raft log does not say what came meanwhile.
//  3. A frame of another epoch identity, from or to anybody but members, is refused before anything in it is decoded.
//  4. Members are static: raft's log holds no configuration changes, and one that comes in a message is refused.
//  5. An entry is applied only once it is synced here. The raft log may lose what is past that in a crash, the mark never leads it.
//  6. A raft entry that was applied is replaced by a reference to the log's entry, in a later write: the log's payloads are stored once.
//  7. Every queue is bounded: appends by MaxQueueBytes (more of them wait), forwarded ones by MaxForwardedBytes (more are refused and come again),
//     frames by MaxInboxBytes (more are dropped, as by a network), reads by MaxReads (more get ErrOverloaded).
//  8. A leader orders nothing while its clock is more than MaxClockOffset off the members' median. It hands the lead over then, and while its
//     application lags by more than MaxLag and another member's does not.
//  9. A leader that begins the segment from another log than this node's is not followed. A Base is committed therefore only if a quorum has that log, and
//     who has another then stops (ErrDiverged); one member that has gone astray stops nobody else, if it leads first, too.
//  10. While a snapshot is being installed nothing is applied but the entries that are fetched, in the order of the log. The state is stored, so this holds across a
//     restart. The node votes and acknowledges meanwhile, by what its raft log holds, and does not campaign.
//
// # Raft entry
//
// The data of a raft entry is empty (a new leader's first one) or an envelope. The clock is the leader's, raw.
//
//	0   1   version = 1
//	1   8   milliseconds since 1970 UTC
//	9   .   record (package consensus), to the end
//
// # Frame
//
// What travels between members, one way, with no promise that it arrives, or once, or in order:
//
//	0   1   version = 1
//	1   32  epoch identity
//	33  8   sender
//	41  8   receiver
//	49  8   sender's clock, milliseconds since 1970 UTC
//	57  8   raft index up to which the sender has applied
//	65  8   by how many entries the sender's application lags
//	73  .   messages, each: kind 1 | length 4 | body
//
//	kind 1  raft    a raftpb.Message in protobuf
//	kind 2  append  record, forwarded to the leader
//	kind 3  refuse  record key 16: a forwarded append was not taken; it may come again
//
// # Snapshot
//
// The data of a raft snapshot is the place in the log that the snapshot's raft index stands for. The entries below it are not in it: a Fetcher brings
// them from a peer's log service, and they are verified against the digest.
//
//	MsgSnap ─► pending, synced ─► fetch ─► ... ─► the last entry, under the snapshot's index ─► raft's log goes on, or begins anew behind the index
//	           applying waits     any number of times, across restarts                          applying goes on behind it
//
// Raft is told of the snapshot at the end only: until then it is as if the message had not come. So a member whose fetch nobody can serve (the leader that sent the
// snapshot is lost, and alone had applied so much) still votes for another one, and acknowledges to it what commits the entries that are missing. If that
// leader sends a snapshot in turn, of less than was pending but no more than this node holds, raft's log begins anew behind it, and what was pending stays.
// A newer snapshot takes the place of one that nobody serves.
//
//	0   1   version = 1
//	1   8   next lsn
//	9   32  digest at next lsn - 1
//
// # Store
//
// In the engine's area of the node's log store (package consensus, EngineArea), so in the same write-ahead log as the entries:
//
//	'm'         version = 1 | identity 32 | member 8            this disk is that member of this segment
//	'h'         term 8 | vote 8 | commit 8 | number 8           hard state, and the number of the write that it came with
//	'c'         index 8 | term 8                                everything up to this raft index is compacted away
//	'p'         index 8 | term 8 | snapshot's data              a snapshot that is being installed
//	'l' index   term 8 | kind 1 | .                             raft entry: kind 0 data follows, 1 lsn 8 of the entry it became
//
// The file synced-raft-EPOCH beside the store's is the witness.
//
// It is dropped when the engine of a sealed segment is closed, or, after a crash, when that of a later one is opened. Several may be there at a time: an engine runs
// until its members have heard of its end, whatever epochs have begun since.
//
// The hard state's commit index is written along with what has to be written anyhow. It may be old: what was committed and applied is known from the
// segment's mark.
package raft
