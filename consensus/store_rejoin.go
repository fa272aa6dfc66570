package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// How a node that is behind everybody's trim point goes on: its log is replaced by one that is restored from a snapshot, and what the node has promised goes over
// into that, in the one batch that makes it. The caller makes the replacement beside the log that there is, and exchanges the two.
//
//	goes over                                            because
//
//	from which epoch on the disk is vouched for          it is true of the disk, whatever log is on it
//	the last epoch's EngineArea, and the engine's        it is what the node has voted and acknowledged there. The engine has to know that the log
//	position: if the engine can go on with it            is ahead of its position now, and so to have waited for entries up to a place that the
//	                                                     snapshot is not behind
//
// If the engine's area does not go over, the node is an observer in the epoch: the area's being gone is what tells.

// RejoinStore is RestoreStore for a node that has a log and is behind: the new log, in another directory, takes over what old has promised. keepEngine says that
// the engine of the last segment can go on from the state. Nothing may run on old.
//
// ErrInvalid: the state is not ahead of old; or keepEngine, and the state is of a later segment, or the engine is not to go on in this one anyhow. ErrDiverged: old
// is no beginning of the log that the state is of, as far as can be told. Others as of RestoreStore.
func RejoinStore(ctx context.Context, opts StoreOptions, state LogState, old *Store, keepEngine bool) error {
	kept, err := old.keepsake(state, keepEngine)
	if err != nil {
		return fmt.Errorf("rejoin at lsn %d: %w", state.LSN, err)
	}
	return restoreStore(ctx, opts, state, kept)
}

// A keepsake is what a node's log has that the one in its place takes over.
type keepsake struct {
	vouched Epoch  // see Store.Vouch; 0: from none
	engine  bool   // the last epoch's engine goes on
	applied uint64 // its position
	area    []pair // what it has stored
}

type pair struct{ key, value []byte }

func (s *Store) keepsake(state LogState, engine bool) (k keepsake, err error) {
	if err := s.enter(); err != nil {
		return k, err
	}
	defer s.leave()
	if err := s.continuedBy(state); err != nil {
		return k, err
	}
	if k.vouched, err = s.vouchedSince(); err != nil || !engine {
		return k, err
	}
	s.mu.RLock()
	n := len(s.mu.segments)
	mark := s.mu.marks[n-1]
	s.mu.RUnlock()
	if _, pending := s.Pending(); len(state.Segments) != n || mark.observed || pending {
		return k, fmt.Errorf("%w: the engine of epoch %d cannot go on in epoch %d (observed %v, recovered %v)", ErrInvalid, n, len(state.Segments), mark.observed, pending)
	}
	k.engine, k.applied = true, mark.applied
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key(keyEngine, Epoch(n)), UpperBound: key(keyEngine, Epoch(n+1))})
	if err != nil {
		return k, openError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return k, openError(err)
		}
		k.area = append(k.area, pair{bytes.Clone(it.Key()), bytes.Clone(v)})
	}
	return k, it.Error()
}

// continuedBy returns an error unless a state is one of the log that this is a beginning of, as far as the two have something in common.
func (s *Store) continuedBy(state LogState) error {
	segments := s.Segments()
	next := s.Next()
	switch pending, waits := s.Pending(); {
	case state.LSN < next:
		return fmt.Errorf("%w: this node holds the log up to lsn %d", ErrInvalid, next-1)
	case len(state.Segments) < len(segments):
		return fmt.Errorf("%w: the state knows %d segments, this node %d", ErrDiverged, len(state.Segments), len(segments))
	case waits && len(state.Segments) == len(segments):
		return fmt.Errorf("%w: epoch %d was recovered, and the state is of before", ErrInvalid, pending.Epoch-1)
	}
	for i, seg := range segments {
		if !bytes.Equal(seg.Encode(), state.Segments[i].Encode()) {
			return fmt.Errorf("%w: epoch %d is another one here", ErrDiverged, i+1)
		}
	}
	digest, err := s.digestAt(next - 1)
	if err != nil {
		return err
	}
	if theirs, known := state.DigestAt(next - 1); known && theirs != digest {
		return fmt.Errorf("%w: at lsn %d the state has digest %v, this node %v", ErrDiverged, next-1, theirs, digest)
	}
	return nil
}

// set writes what is kept, over what a restored log has in its place.
func (k keepsake) set(b *pebble.Batch, state LogState) error {
	var errs []error
	if k.vouched != 0 {
		errs = append(errs, b.Set([]byte{keyVouch}, binary.BigEndian.AppendUint64(nil, uint64(k.vouched)), nil))
	}
	if k.engine {
		m := state.mark()
		m.applied = k.applied
		errs = append(errs, b.Set(key(keyApplied, Epoch(len(state.Segments))), m.encode(), nil))
	}
	for _, p := range k.area {
		errs = append(errs, b.Set(p.key, p.value, nil))
	}
	return errors.Join(errs...)
}
