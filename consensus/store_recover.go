package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// How a Recovery gets into a node's store.
//
//	                       the node holds of the dead segment
//	      less than was recovered        just that              more, or what came after the Seal or a recovery with a lower count
//	                │                      │                                  │
//	                │                      │                       keep it in a file, cut it off (Recover alone, never Await)
//	                │                      │                                  │
//	                ▼                      ▼                                  ▼
//	     wait for it (pending): ──Apply──► extend the chain ◄── one synced batch
//	     observe the dead segment
//
// # Who may vote in the segment that begins
//
// A disk is vouched for from an epoch on (Vouch) if the node cannot have voted in that epoch, or a later one, on a disk that is gone. A member of the dead
// segment that still has its disk has been vouched for the next epoch since it entered the dead one, and no recovery changes what disks are gone: nothing is
// to be done. A disk that had entered epochs which are cut off is vouched for the one that begins in their place: it has been the node's disk all along, and
// under the new identity it has not voted yet. A recovery vouches for nobody else. An observer that it makes a member, or a member that lost its disk, needs
// the word (Vouch) of whoever applies it there, that the node has not taken it on another disk before.

// A RecoveryPlan is what a Recovery does to a node's store.
type RecoveryPlan struct {
	Dead     Segment   // that is recovered
	Segment  Segment   // that begins behind it
	Held     LSN       // the first LSN that this node does not hold, before
	Cut      LSN       // the first LSN of those that are cut off; Held if none are
	Segments []Segment // that leave the chain: with what is cut, or empty ones
	File     string    // that keeps what is cut; empty if nothing is
	Pending  bool      // this node lacks entries before the base, and takes them from the others first
	Done     bool      // nothing is to be done any more
}

// Cuts reports whether something is taken back.
func (p RecoveryPlan) Cuts() bool { return p.Cut < p.Held || len(p.Segments) > 0 }

// PlanRecovery says what Recover would do. Errors as there.
func (s *Store) PlanRecovery(r SignedRecovery) (RecoveryPlan, error) {
	if err := s.enter(); err != nil {
		return RecoveryPlan{}, err
	}
	defer s.leave()
	s.apply.Lock()
	defer s.apply.Unlock()
	c, err := s.planRecovery(r)
	return c.RecoveryPlan, err
}

// Recover ends the dead segment here as the recovery says, and begins the next one, or waits until this node has the entries that lie before it. Whatever this
// node holds behind the end is first written to a file beside the store, and then leaves it, in one synced batch with the chain's change. So it can be repeated
// after a crash, and again when it is done. No loglet may be open, nor a Replica: a running node uses Await.
//
// ErrInvalid: the recovery is not authorised, not of a segment that this node knows, or not to be had any more: a later one was applied, or the segment has
// ended by a Seal before the base. ErrDiverged: this node's log before the base is another one, and it must be rebuilt. ErrTrimmed: too much was trimmed here to
// cut so far back; the node can be rebuilt from a snapshot.
func (s *Store) Recover(r SignedRecovery) (RecoveryPlan, error) { return s.recover(r, true) }

// Await is Recover on a running node, and cuts nothing: where something would have to be cut it is ErrCutOff, and the node must not go on.
func (s *Store) Await(r SignedRecovery) error {
	_, err := s.recover(r, false)
	return err
}

func (s *Store) recover(r SignedRecovery, cut bool) (RecoveryPlan, error) {
	if err := s.enter(); err != nil {
		return RecoveryPlan{}, err
	}
	defer s.leave()
	s.apply.Lock()
	defer s.apply.Unlock()
	if err := s.failure(); err != nil {
		return RecoveryPlan{}, err
	}
	c, err := s.planRecovery(r)
	if !cut && c.Cuts() && (err == nil || errors.Is(err, ErrTrimmed)) {
		err = fmt.Errorf("%w: the segment ends before lsn %d, this node holds the log up to %d, and %d segments behind it", ErrCutOff, r.Base, c.Held-1, len(c.Segments))
	}
	if err == nil && !c.Done {
		err = s.cutBack(r, c)
	}
	if err != nil {
		return c.RecoveryPlan, fmt.Errorf("recover epoch %d at lsn %d: %w", r.Epoch-1, r.Base, err)
	}
	return c.RecoveryPlan, nil
}

// A cutback is a plan with what the store is like afterwards.
type cutback struct {
	RecoveryPlan
	mark   mark // of the dead segment
	window *Window
}

// planRecovery decides. The caller holds apply, or nobody else writes.
func (s *Store) planRecovery(r SignedRecovery) (c cutback, err error) {
	s.mu.RLock()
	segments, marks, trimmed := slices.Clone(s.mu.segments), slices.Clone(s.mu.marks), s.mu.trimmed
	c.Held, c.Cut = s.mu.next, s.mu.next
	s.mu.RUnlock()
	if r.Epoch < 2 || r.Epoch-1 > Epoch(len(segments)) {
		return c, fmt.Errorf("%w: the recovery begins epoch %d, and this node knows epochs 1 to %d only; it gets the others, and the recovery, from its peers",
			ErrInvalid, r.Epoch, len(segments))
	}
	c.Dead, c.Segment, c.mark = segments[r.Epoch-2], r.Segment(), marks[r.Epoch-2]
	if err := r.Authorised(c.Dead); err != nil {
		return c, err
	}
	if c.Done, err = s.recovered(r); err != nil || c.Done {
		c.Pending = c.Done && int(c.Dead.Epoch) == len(segments)
		return c, err
	}
	c.Segments = segments[c.Dead.Epoch:]
	c.Pending = r.Base > c.mark.next
	c.Cut = min(c.mark.next, r.Base)
	if err := s.locate(r.Recovery, &c, trimmed); err != nil {
		return c, err
	}
	c.mark.sealed = !c.Pending
	if c.Cut < c.Held {
		c.File = s.opts.FS.PathJoin(s.opts.FS.PathDir(s.opts.Dir), cutName(r.Recovery, c.Cut, c.Held))
	}
	c.window, err = s.loadWindow(c.mark, key(keyRecord, c.Cut))
	return c, err
}

// recovered compares a recovery with how the dead segment ended here, or is known to end. It is an error if that is to stay.
func (s *Store) recovered(r SignedRecovery) (done bool, err error) {
	s.mu.RLock()
	have := s.mu.pending
	s.mu.RUnlock()
	if have != nil && have.Epoch != r.Epoch {
		have = nil
	}
	end, ended, err := s.segmentEnd(r.Epoch - 1)
	if err != nil {
		return false, err
	}
	if ended {
		have = end.Recovery
	}
	switch {
	case have != nil && have.Hash() == r.Hash():
		return true, nil
	case have != nil && have.Count >= r.Count:
		return false, fmt.Errorf("%w: epoch %d was recovered already, from lsn %d on, with count %d; this recovery has %d", ErrInvalid, r.Epoch-1, have.Base, have.Count, r.Count)
	case ended && have == nil && r.Base >= end.Tail():
		return false, fmt.Errorf("%w: epoch %d was sealed at lsn %d, before the recovery's base; the segment to recover is epoch %d", ErrInvalid, r.Epoch-1, end.Tail()-1, r.Epoch)
	}
	return false, nil
}

// locate makes the mark of the dead segment that of the cut, after it has made sure that it can be made, and that the log up to there is the one recovered.
func (s *Store) locate(r Recovery, c *cutback, trimmed LSN) error {
	if c.Cut < c.Held {
		if from := LSN(max(1, int64(c.Cut)-int64(s.opts.Window))); c.Cut <= trimmed || !s.knows(from, c.Cut) {
			return fmt.Errorf("%w up to lsn %d: too much to cut the log back to %d and still tell a repeated record (the window is %d)", ErrTrimmed, trimmed, c.Cut-1, s.opts.Window)
		}
	}
	if c.Cut < c.mark.next {
		digest, err := s.digestAt(c.Cut - 1)
		if err != nil {
			return err
		}
		c.mark.next, c.mark.digest = c.Cut, digest
		if c.mark.unixMilli, err = s.clockBefore(c.Dead, c.Cut, trimmed, r.UnixMilli); err != nil {
			return err
		}
	}
	if c.Pending {
		return nil
	}
	return r.continues(c.mark.digest, c.mark.unixMilli)
}

// knows reports whether the record keys of [from, to) are held, from the first one on; the others are then too.
func (s *Store) knows(from, to LSN) bool {
	if from == to {
		return true
	}
	_, err := s.get(key(keyRecord, from))
	return err == nil
}

// clockBefore returns the log's clock at the last LSN before a cut in a segment. That of an entry that is trimmed can be told by nobody here: it is taken for
// what it is said to be, which is as good as the digest's being right.
func (s *Store) clockBefore(seg Segment, cut, trimmed LSN, said uint64) (uint64, error) {
	switch {
	case cut == seg.Base:
		return seg.BaseUnixMilli, nil
	case cut <= trimmed+1:
		return said, nil
	}
	return s.unixMilliAt(context.Background(), cut-1)
}

// cutBack performs a plan.
func (s *Store) cutBack(r SignedRecovery, c cutback) error {
	if c.Cut < c.Held {
		if err := s.keepCut(r.Recovery, c); err != nil {
			return err
		}
		// The witness must not say that more was synced than there will be, not even after a power failure; that the log was synced up to the cut is true.
		if err := errors.Join(s.witness.write(c.mark.next, c.mark.digest), s.witness.file.Sync()); err != nil {
			s.fatal(err)
			return s.failure()
		}
	}
	since, err := s.vouchedSince()
	if err != nil {
		return err
	}
	err = s.write(true, func(b *pebble.Batch) error {
		errs := []error{
			b.Set(key(keyApplied, c.Dead.Epoch), c.mark.encode(), nil),
			b.Delete(key(keySealed, c.Dead.Epoch), nil),
		}
		if c.Cut < c.Held {
			errs = append(errs, b.DeleteRange(key(keyEntry, c.Cut), keyEnd(keyEntry), nil), b.DeleteRange(key(keyRecord, c.Cut), keyEnd(keyRecord), nil))
		}
		if n := len(c.Segments); n > 0 {
			for _, kind := range []byte{keySegment, keyApplied, keySealed, keyEngine} {
				errs = append(errs, b.DeleteRange(key(kind, r.Epoch), key(kind, c.Segments[n-1].Epoch+1), nil))
			}
		}
		if since > r.Epoch {
			errs = append(errs, b.Set([]byte{keyVouch}, binary.BigEndian.AppendUint64(nil, uint64(r.Epoch)), nil))
		}
		if c.Pending {
			errs = append(errs, b.Set([]byte{keyPending}, r.Encode(), nil))
		} else {
			errs = append(errs, setEnd(b, SegmentEnd{Recovery: &r}, c.Segment))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	s.adopt(r, c)
	return nil
}

// adopt takes a plan that was performed into memory.
func (s *Store) adopt(r SignedRecovery, c cutback) {
	last := c.Dead
	s.publish(func() {
		n := int(c.Dead.Epoch)
		s.mu.segments, s.mu.marks = slices.Clone(s.mu.segments[:n]), slices.Clone(s.mu.marks[:n])
		s.mu.marks[n-1] = c.mark
		if s.mu.pending = &r; !c.Pending {
			last, s.mu.pending = c.Segment, nil
			s.mu.segments, s.mu.marks = append(s.mu.segments, c.Segment), append(s.mu.marks, firstMark(c.Segment))
		}
		if c.Cut < c.Held {
			s.mu.next, s.mu.data, s.mu.recent = c.Cut, 0, recent{first: c.Cut}
		}
	})
	s.apply.seq = NewSequencer(last, State{Next: c.mark.next, Digest: c.mark.digest, UnixMilli: c.mark.unixMilli, Window: c.window})
	s.opts.onTail(c.mark.next)
}

// loadPending reads the recovery that is waited for.
func (s *Store) loadPending(head mark) error {
	v, err := s.get([]byte{keyPending})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return openError(err)
	}
	r, err := DecodeSignedRecovery(v)
	if err == nil {
		err = r.Authorised(s.mu.segments[len(s.mu.segments)-1])
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: pending recovery: %v", ErrCorrupt, err)
	case r.Base <= head.next:
		return fmt.Errorf("%w: a recovery at lsn %d is pending, and the log was applied up to %d", ErrCorrupt, r.Base, head.next-1)
	}
	s.mu.pending = &r
	return nil
}

// Pending returns the recovery of the last segment whose base this node has not come to yet, if there is one. The segment is then not to be ordered any more.
func (s *Store) Pending() (SignedRecovery, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mu.pending == nil {
		return SignedRecovery{}, false
	}
	return *s.mu.pending, true
}
