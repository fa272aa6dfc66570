package view

import (
	"context"
	"io"

	"ledgerd/consensus"
)

// An Applier is the deterministic part of an application.
type Applier interface {
	// Apply plays one entry and returns what its proposer is to be told. A record that the application has to refuse
	// is not an error: it is a result, equal on every replica. An error means that this replica cannot go on (its disk
	// failed, its state differs); the player stops for good. Apply does not keep e.Record.Payload.
	Apply(ctx context.Context, e consensus.Entry) (result any, err error)
}

// A View is an application as its player sees it: an Applier with a position. The player calls Apply and Advance from
// one goroutine; the other methods may be called concurrently.
type View interface {
	Applier

	// Advance says that every entry up to and including lsn has been seen and that those since the last Apply are not
	// this application's. It must be cheap: a view notes lsn and stores it with its next write.
	Advance(lsn consensus.LSN)

	// Applied returns the LSN up to which the state holds the log, 0 for an empty state. After an opening it says where
	// to go on; it may then lie before what an earlier run had applied, never before what it had made durable.
	Applied() consensus.LSN

	// Durable returns the LSN up to which the state survives a power cut. The log below it is not needed to rebuild
	// the view.
	Durable() consensus.LSN

	// Digest returns a fingerprint of the state at Applied(): equal states, and only those, have equal digests.
	Digest() (consensus.Digest, error)

	// Snapshot writes the state at Applied() to w. It may run while the player goes on applying; the position that the
	// snapshot stands for is in the snapshot.
	Snapshot(ctx context.Context, w io.Writer) error

	// Restore replaces the state by a snapshot, whole or not at all. Only before the player runs.
	Restore(ctx context.Context, r io.Reader) error

	Close() error
}

// A Prefetcher is a View that can prepare for an entry before its turn (recover signatures, warm caches). Prefetch is
// called in LSN order by one goroutine, ahead of Apply and concurrently with it. It must not change the state.
type Prefetcher interface {
	Prefetch(e consensus.Entry)
}

// A Proposer appends records for one application. *Player is one.
type Proposer interface {
	// Propose appends payload and returns after it was applied here. An error leaves the fate of the record unknown,
	// except where it wraps consensus.ErrTooLarge or consensus.ErrInvalid: those were not appended.
	Propose(ctx context.Context, payload []byte) (Outcome, error)

	// Sync returns after everything that was acknowledged anywhere before the call has been applied here, with the LSN
	// up to which it was: a read that follows is linearizable.
	Sync(ctx context.Context) (consensus.LSN, error)
}

// Outcome tells where a record was ordered and what Apply returned for it.
type Outcome struct {
	LSN    consensus.LSN
	Result any
}

// Log is what a player needs of the shared log. *consensus.VirtualLog is one.
type Log interface {
	Append(ctx context.Context, r consensus.Record) (consensus.LSN, error)
	Tail(ctx context.Context, c consensus.Consistency) (consensus.LSN, error)
	Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error)
}
