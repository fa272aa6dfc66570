// Package comet is the engine of a log whose members need not trust each other: a loglet on CometBFT, which bears that less than a third of them lie.
//
// # Model
//
// Each epoch is a CometBFT chain of its own, in this process, under a chain id made of the epoch's identity. It is assembled from CometBFT's parts: the
// consensus, the block executor, the evidence pool and the p2p switch are CometBFT's; the mempool, the signer and the databases are ours.
//
//	Append ─► pool ══ gossip ══► pools of the others            a transaction: one record, or a barrier
//	           │                        │
//	           └───────────┬────────────┘
//	                       ▼  the proposer of the height
//	            PrepareProposal    head | Base? | records that would become entries, by turns of their senders | barriers
//	                       │
//	                       ▼  every member
//	            ProcessProposal    is it what an honest proposer could have made?
//	                       │
//	               votes, > ⅔ of the members, twice
//	                       │
//	                       ▼  every member
//	            FinalizeBlock, Commit ─► Replica.Apply ─► answer the own appends in it
//
// A node answers an append when it has itself applied the record, as package raft does. What a member sends, it sends again until a block has it: a member that
// is still starting drops what it gets, and a proposal may pass.
//
// An idle chain makes no blocks. The pool wakes it (TxsAvailable); the app hash is constant, since a changing one would be followed by an empty block each
// time.
//
// # The head
//
// CometBFT's block time is of the last height, and so as old as the last append. So the proposer puts a head in front: its clock, and the LSN and digest of the
// log that the block continues. ProcessProposal holds it against this node's own log. Thereby one block with its commit proves the digest of the whole log
// before it, to whom the log has not, and everything in the block: that is what a proof is (Attest, Verify).
//
// # Tail
//
// A consistent tail orders a barrier, a transaction that takes no LSN, and is answered when a block has brought it: what was acknowledged before the call stands
// in an earlier block, or in the same. All who ask while one is under way share the next.
//
// # Preparation, and the end
//
// Prepare starts all but the consensus, so that the members of an epoch that may come are connected already when its place in the log is known; Open then
// starts the consensus, whose first block brings the Base. Nothing is signed before. What does not come is taken down by the next Prepare, or after a while.
//
// Two epochs live side by side while one takes over from the other. Each member therefore has two addresses for CometBFT, for even and for odd epochs. A sealed
// epoch that still lingers makes way when the epoch after the next is prepared.
//
// # Invariants, beyond those of package consensus
//
//  1. A member signs nothing that contradicts what it has signed, across restarts too: what it signed last is stored, synced, before the signature leaves the
//     signer. Each epoch has its own.
//  2. A node takes part in an epoch only if its store holds the epoch's identity, which is written once, while the disk is vouched for
//     (consensus.Store.Vouch).
//  3. The segment's mark never leads CometBFT's block store, and at most one block behind it: the block is stored and synced before Commit, and all lies in one
//     write-ahead log, of which a crash leaves a prefix. CometBFT repeats what the mark lacks.
//  4. ProcessProposal is a pure function of the block and the log before it, but for the wall clock, which bounds the head's from above only (15 s, or the log's
//     own clock if that is later). So a block that members are locked on cannot become bad later.
//  5. A block that honest members vote for holds a head, the Base if and only if the segment has none yet, and records that each become an entry, in their order;
//     so its digests follow from it alone. Void records, duplicates, whatever lies behind a Seal, and more bytes than one record of the largest size needs keep a
//     block from being voted for.
//  6. A block that was committed and does not continue this node's log means that this node has diverged: it stops (ErrDiverged).
//  7. Nobody but the epoch's other members gets a connection; CometBFT knows them by their node keys. Peers are not exchanged.
//  8. What a member sends to be ordered takes room of its own (MaxForeignBytes), and a few barriers: a flood crowds out nobody else, and no proposer makes
//     a block of it that CometBFT would not bear. Those who have something waiting get equal shares of the blocks that an honest member proposes, in bytes. What no
//     honest member sends ends the connection, for that time. Evidence about a member takes a few places of its own too.
//  9. A member whose next block all the others have dropped, as far as they can be believed, says that it is trimmed, and stays in its place.
//  10. If CometBFT's consensus ends by itself, which it does at a panic while the rest of it lives on, the loglet stops with ErrEngineFailed.
//
// # Transactions
//
//	head      0 | version = 1 | milliseconds since 1970 UTC 8 | next lsn 8 | digest before it 32
//	record    1 | record (package consensus), to the end
//	barrier   2 | nonce 16
//
// Beside transactions, members tell each other on the same channel:
//
//	report    3 | height applied 8 | height of the first block stored 8 | 1 if the Seal is applied, else 0
//
// # Proof
//
//	version = 1 | header in CometBFT's protobuf, with its length in four bytes | commit, likewise
//	| number of transactions 4 | the block's transactions, each with its length in four bytes
//
// # Store
//
// In the engine's area of the node's log store (package consensus, EngineArea):
//
//	'm'          version = 1 | identity 32 | member 8       this disk is that member of this epoch
//	'v'          version = 1 | height 8 | round 4 | step 1 | signature 64 | what was signed, to the end
//	'n' lsn      height 8                                   the log grew up to that LSN, exclusively, with the block at that height
//	'o'          version = 1 | pieces of evidence 8 | height of the last block that held some 8 | what the last one is about, to the end
//	'b' ...      CometBFT's block store
//	's' ...      CometBFT's state
//	'e' ...      CometBFT's evidence
//
// Blocks are dropped when their entries are trimmed, and the whole area when the segment is. CometBFT's own write-ahead log, which holds the messages of the
// height that is being agreed on, is files in Options.Dir: one folder for each epoch, named by its number and the beginning of its identity.
//
// # What is CometBFT's to mend
//
// A stopped chain leaves two goroutines and a ticker behind (autofile), and for half a second others that still read.
// One whose consensus could not be started leaves two more, and a dial that was let go one until it ends by itself.
package comet
