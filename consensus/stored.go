package consensus

import "context"

// A stored loglet serves a sealed segment from this node's copy. It has no engine: what its members ordered is in the store up to the Seal, and
// nothing can follow that.
type stored struct{ *Replica }

func openStored(store *Store, seg Segment) (Loglet, error) {
	r, err := store.Replica(seg.Epoch)
	if err != nil {
		return nil, err
	}
	return stored{r}, nil
}

// Append finds a record that is in the log already; no other can get in.
func (l stored) Append(ctx context.Context, r Record) (Offset, error) {
	if err := l.live(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	l.store.apply.Lock()
	defer l.store.apply.Unlock()
	return l.seg.Answer(l.sealedSequencer(l.store.apply.seq.state).Next(0, r))
}

func (l stored) Seal(ctx context.Context, r Record) (Offset, error) { return l.Append(ctx, r) }

func (l stored) Tail(ctx context.Context, _ Consistency) (Tail, error) {
	if err := ctx.Err(); err != nil {
		return Tail{}, err
	}
	return l.Replica.Tail()
}

func (l stored) Status() LogletStatus {
	m := l.mark()
	return LogletStatus{Engine: l.seg.Spec.Engine, Epoch: l.seg.Epoch, State: StateSealed, Tail: l.seg.Offset(m.next), Sealed: true}
}

func (l stored) Close() error {
	l.Replica.Close()
	return nil
}
