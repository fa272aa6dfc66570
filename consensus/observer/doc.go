// Package observer is the loglet of a node that holds a segment's log and takes no part in ordering it. Observers are how reads scale out, and how members
// join: they have the log first, and are promoted by a reconfiguration then.
//
// # Model
//
//	                 this node                                              the other nodes
//
//	Read, Follow ─► Replica ◄── Apply, synced ◄── verify ◄── follow one ◄══ the log service of a member, or of whoever else is known
//	                   │                             │            ▲
//	                   │ is it here?                 │ contradicts: another one
//	                   ▼                                          │ somebody else is ahead, and this one gives nothing: another one
//	Append, Seal ─► forward ═════════════════════════════════════ watch ◄══ their status, now and then
//	Tail (consistent) ─┘                              to a member, and only to one that orders
//
// The follower takes chunks of entries from one node at a time and goes on at the next when that one fails. What comes is put into this node's own chain:
// verified, applied, synced, and only then shown. A node that is cut off from its peers does not fail, it has nothing new; so the watch asks all of them how
// far they are, and has the follower leave one that gives nothing for one that is ahead.
//
// An append goes to a member of the segment, and is answered when the entry has come back by the log: so its appender reads its own writes here. A consistent
// tail is a member's, and is answered when this node has come that far.
//
// # Invariants
//
//  1. Nothing is applied but entries that continue this node's log: the next LSN, of this epoch, with the digest that follows from this node's own, not before
//     its predecessor's time, of a record that is an entry there by the rules which all engines share. One that does not is not applied, however many say so.
//  2. What a reader sees is durable on this node.
//  3. An Append that succeeds has its record at that offset of this node's own log, by its key, whatever the other node answered.
//  4. From the Seal on nothing is applied, and no other node is asked: what is asked of the loglet it answers from the store.
//  5. An error of another node's log is never one of this loglet: its sentinels do not get out, but for what it says of the record that it was given
//     (ErrInvalid, ErrTooLarge).
//
// # What is verified, and what is trusted
//
// Digests chain: who gives entries that fit has the same log as this node up to them. That the members ordered them is for a proof of the engine to show
// (Options.Prove): where there is one, nothing is applied without it. Raft has none: there an observer trusts the node that it follows, which TLS has identified. A false entry makes this node's log another one than the
// members'; from then on nobody who has theirs fits any more.
//
// So one node whose entries do not fit lies, or is damaged, and is left alone; but if the members who say so are too many for that (a majority of them, or
// more than a third where lies are to be expected), it is this node that has gone astray: it stops with ErrDiverged. It never cuts back what it has applied.
//
// # When the others have trimmed
//
// If everybody who is ahead has trimmed what comes next, following does not help: the state is "trimmed", Options.OnStuck is told ErrNeedsSnapshot, and the
// loglet goes on asking, since a node that is away may still have the entries. Whoever has opened the log can close it and put one that is restored from a snapshot
// in its place (consensus.RejoinStore).
//
// # What a switch does
//
// A segment that was recovered ends where the recovery says (consensus.Replica.Limit): what a node gives from there on is not looked at.
//
// At the Seal the loglet has done its part; the VirtualLog opens the next segment. An append whose record a member has ordered there is told where (LaterError), when
// this node has come to the Seal, and the VirtualLog waits until it has come to that place, to see the record there. It is not appended again: when a node is far
// behind, more than W other entries may have come meanwhile, and the record would not be known any more and be in the log twice.
//
// If the Seal comes while the members have not answered yet, the same record is appended again in the next segment, at once: it would take more than W
// entries ordered between the two attempts for it to be in the log twice.
package observer
