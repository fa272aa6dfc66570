package consensus

import "context"

// Consistency says how much a Tail must know.
type Consistency int

const (
	// Fast asks this node alone: a lower bound of the tail, exact on the node that ordered the last entry.
	Fast Consistency = iota
	// Consistent asks the engine's quorum: not below any append that was acknowledged, to anybody, before the call.
	Consistent
)

// A Tail is the first unwritten offset of a loglet. Once it is Sealed, the offset never changes again (invariant 6).
type Tail struct {
	Offset Offset
	Sealed bool
}

// A Loglet is one stretch of the log under one fixed configuration, as one node takes part in it (after Delos, OSDI '20 §3). It is what an engine
// implements; logtest.Run is this contract as code. All methods may be called concurrently. A context that ends lets a blocked call return its
// error. After Close every method returns ErrClosed, and calls that were blocked return it too.
//
// The entries of a loglet are what its Sequencer makes of the items its protocol orders, so records that are void (duplicates, invalid Seals,
// whatever is ordered after the Seal) take no offset.
type Loglet interface {
	// Append orders r and returns its offset once r is durable at a quorum, below any valid Seal, and readable on this node. The loglet keeps
	// r.Payload, which must not be changed any more. A record that is in this loglet already, within the dedup window, is not appended again:
	// its offset is returned; if an earlier segment holds it, the error is a DuplicateError, and a LaterError if a later one is said to. A Seal may be appended
	// like any other record.
	//
	// ErrSealed, ErrInvalid, ErrTooLarge, a plain ErrClosed and a plain context error mean that r is surely not in the loglet and will not be.
	// After any other error, of which ErrUnknownFate is the usual one, r may be in or may still come; appending it again is safe.
	Append(ctx context.Context, r Record) (Offset, error)

	// Tail returns the first unwritten offset. It never moves back.
	Tail(ctx context.Context, c Consistency) (Tail, error)

	// Read returns the entries in [lo, hi), every one verified against its predecessor's digest. The caller owns the slice, not the payloads.
	// lo == hi reads nothing, without an error. ErrTrimmed if lo is gone, ErrUnwritten if hi lies past this node's tail, ErrInvalid if
	// lo > hi, ErrCorrupt if what is stored cannot be trusted.
	Read(ctx context.Context, lo, hi Offset) ([]Entry, error)

	// Follow blocks until there is an entry at from, and returns the entries from there on: at least one, at most limit (<= 0 means
	// DefaultFollowLimit), and no more than fit MaxFollowBytes after the first. ErrSealed once from is the tail of a sealed loglet; ErrTrimmed and
	// ErrCorrupt as in Read.
	Follow(ctx context.Context, from Offset, limit int) ([]Entry, error)

	// Trim drops the entries up to and including upTo from this node. It is idempotent and never moves back: trimming below the trim point does
	// nothing. ErrUnwritten if upTo is not below the tail.
	Trim(ctx context.Context, upTo Offset) error

	// Seal appends a Seal record and returns its offset, which is the loglet's last. The first valid one in the loglet's order wins: for any other,
	// ErrSealed. A Seal that does not satisfy ValidSeal at its turn is void, seals nothing and returns ErrInvalid. Sealing again with the same
	// record returns the same offset. Errors otherwise as in Append.
	Seal(ctx context.Context, r Record) (Offset, error)

	// Status says how the loglet is, for people and dashboards. It never blocks on I/O.
	Status() LogletStatus

	// Close ends the loglet on this node: it stops taking part, and returns when its last goroutine has ended. The Store stays open.
	Close() error
}

// How much Follow returns at a time.
const (
	DefaultFollowLimit = 1024
	MaxFollowBytes     = 4 << 20 // of payloads, not counting the first entry's
)

// LogletStatus is a loglet's state on this node.
type LogletStatus struct {
	Engine string            `json:"engine"`
	Epoch  Epoch             `json:"epoch"`
	State  string            `json:"state"` // "ordering", "sealed", "failed" or "closed"; engines with peers add their own
	Tail   Offset            `json:"tail"`
	Sealed bool              `json:"sealed"`
	Detail map[string]string `json:"detail,omitempty"` // what else the engine tells: queue lengths, leader, term
}

// States of a loglet that every engine knows.
const (
	StateOrdering = "ordering"
	StateElecting = "electing" // no one is known who orders
	StateTrimmed  = "trimmed"  // what comes next for this node has been trimmed by those who are ahead: it can go on from a snapshot
	StateSealed   = "sealed"
	StateFailed   = "failed"
	StateClosed   = "closed"
)

// Status is the log's state on this node.
type Status struct {
	NetworkID NetworkID    `json:"networkId"`
	Epoch     Epoch        `json:"epoch"` // of the last segment of the chain
	Base      LSN          `json:"base"`  // of that segment
	Engine    string       `json:"engine"`
	Tail      LSN          `json:"tail"` // first unwritten LSN on this node
	Trimmed   LSN          `json:"trimmed"`
	Loglet    LogletStatus `json:"loglet"`
	// Based: the members of the last segment have begun to order, as far as this node knows.
	Based bool `json:"based"`
	// Role of this node in the last segment: "orders" or "observes".
	Role string `json:"role"`
	// Prepared are the identities of the next epochs that this node has stated to be ready for.
	Prepared []Digest `json:"prepared,omitempty"`
	// Dissent names the members that claim another history than this node's, with the LSN of their last claim.
	Dissent map[uint64]LSN `json:"dissent,omitempty"`
	// Notice says why this node observes a segment that names it as a member; empty otherwise.
	Notice string `json:"notice,omitempty"`
	// Problem says why the last segment's engine is not running, or is empty.
	Problem string `json:"problem,omitempty"`
}

// An Engine makes loglets of one kind.
type Engine interface {
	// Open opens the loglet of a segment on this node, over the node's store. It is called for the last segment of the stored chain only. The context
	// bounds the opening, not the loglet's life. ErrNotMember if this node must not order in the segment.
	Open(ctx context.Context, store *Store, seg Segment) (Loglet, error)
	// Prepare gets this node ready to order an epoch that may come: what Open would lose time with once it has, such as connections to the other
	// members. next has no base yet. It may never come, and Prepare may be called again for the same epoch; what it did must do no harm then.
	Prepare(ctx context.Context, store *Store, next Segment) error
}

// An Attester is an Engine whose order can be proven to those who do not trust the member that tells it. How a proof is verified is the engine's to say.
type Attester interface {
	// Attest returns a proof of the log up to and including an LSN of a segment, made of what this node has stored of the segment. ErrUnwritten if it has
	// nothing about that LSN: it did not order there, or has not come so far. ErrTrimmed if it has it no more.
	Attest(store *Store, seg Segment, lsn LSN) ([]byte, error)
}

// An EngineFunc is the Open of an Engine that has nothing to prepare.
type EngineFunc func(ctx context.Context, store *Store, seg Segment) (Loglet, error)

// Open is Engine.Open.
func (f EngineFunc) Open(ctx context.Context, store *Store, seg Segment) (Loglet, error) {
	return f(ctx, store, seg)
}

// Prepare is Engine.Prepare.
func (EngineFunc) Prepare(context.Context, *Store, Segment) error { return nil }

// A Drainer is a Loglet with peers, which need it for a while after it was sealed.
type Drainer interface {
	// Drained returns a channel that is closed once every member has reported that it applied the Seal.
	Drained() <-chan struct{}
}

// A Stopper is a Loglet that can stop by itself.
type Stopper interface {
	// Stopped returns why it did, or nil. ErrDiverged and ErrEngineFailed mean that this node must not go on.
	Stopped() error
}
