package node

import (
	"context"

	"ledgerd/consensus"
)

// offline is the loglet of a segment on a node that takes no part in it: what the store holds, to be read. It is how a log is
// looked at while its node is stopped, without calling the other members or starting an election.
type offline struct {
	*consensus.Replica
	engine string
}

// openOffline is a consensus.Engine.
func openOffline(_ context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	r, err := store.Replica(seg.Epoch)
	if err != nil {
		return nil, err
	}
	return offline{r, seg.Spec.Engine}, nil
}

// Append implements consensus.Loglet. Nothing can be ordered here.
func (o offline) Append(context.Context, consensus.Record) (consensus.Offset, error) {
	return 0, consensus.ErrClosed
}

// Seal implements consensus.Loglet.
func (o offline) Seal(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	return o.Append(ctx, r)
}

// Tail implements consensus.Loglet. It is that of the store, whatever is asked for.
func (o offline) Tail(context.Context, consensus.Consistency) (consensus.Tail, error) {
	return o.Replica.Tail()
}

// Status implements consensus.Loglet.
func (o offline) Status() consensus.LogletStatus {
	s := consensus.LogletStatus{Engine: o.engine, Epoch: o.Segment().Epoch, State: "offline"}
	if tail, err := o.Replica.Tail(); err == nil {
		s.Tail, s.Sealed = tail.Offset, tail.Sealed
	}
	return s
}

// Close implements consensus.Loglet.
func (o offline) Close() error {
	o.Replica.Close()
	return nil
}
