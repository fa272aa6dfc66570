package raft

import (
	"context"

	"ledgerd/consensus"
)

// A Transport carries frames between the members of segments. It is what a package that owns connections supplies; it has checked who the peer is
// before it delivers, and need not look into a frame.
type Transport interface {
	// Join makes the node reachable as a member of the segment. From then on deliver is called with the frames that are sent to it; it never blocks,
	// may be called concurrently, and keeps the frame. An error means that nothing will be delivered.
	Join(seg consensus.Segment, self uint64, deliver func(frame []byte)) (Peers, error)
}

// Peers are the other members, seen from one.
type Peers interface {
	// Send hands over a frame for a member. It never blocks, and keeps the frame, which is not changed any more. Frames may be lost, doubled, delayed
	// and overtake each other.
	Send(to uint64, frame []byte)
	// Close ends the membership. When it has returned, deliver is not called any more.
	Close() error
}

// A Fetcher brings entries that raft's log has no more from the peers' log services.
type Fetcher interface {
	// Fetch returns entries of the log from an LSN on: at least one, and none at or past end. The hint is a member that is said to have them; any
	// other will do. The entries are verified by the caller.
	Fetch(ctx context.Context, hint uint64, from, end consensus.LSN) ([]consensus.Entry, error)
}
