package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// An Item is one record as an engine has ordered it, with the raw clock that the engine stamped it with.
type Item struct {
	UnixMilli uint64
	Record    Record
}

// A Batch is what an engine applies at a time.
type Batch struct {
	// Applied is the engine's own position of the last item: a Raft index, a CometBFT height, a counter. After a restart the engine goes on
	// behind it. It never decreases.
	Applied uint64
	Items   []Item
	// Sync makes the batch durable before Apply returns. An engine whose items are durable elsewhere may do without; a batch with the Seal is
	// synced in any case.
	Sync bool
	// Observed: it is not the segment's engine that brings the items. On this node it does not order there again (Position.Observed).
	Observed bool
	// Proof shows, to those who do not trust this node, that the members ordered the Seal; nil if the engine has none, or the Seal is not among the items.
	Proof []byte
}

// A Replica is one node's copy of one segment: what an engine applies to, and the reading half of its Loglet. It owns everything below the border
// "items in an agreed order": sequencing, storing, tail, reads, followers. Methods may be called concurrently.
type Replica struct {
	store *Store
	seg   Segment
	index int // of the segment in the chain
	done  chan struct{}
	close sync.Once
}

// Replica returns the replica of a segment of the chain. It must be closed.
func (s *Store) Replica(epoch Epoch) (*Replica, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if epoch < 1 || int(epoch) > len(s.mu.segments) {
		return nil, fmt.Errorf("%w: epoch %d of a chain of %d", ErrInvalid, epoch, len(s.mu.segments))
	}
	i := int(epoch) - 1
	return &Replica{store: s, seg: s.mu.segments[i], index: i, done: make(chan struct{})}, nil
}

// Segment returns the segment that the replica is of.
func (r *Replica) Segment() Segment { return r.seg }

// Applied returns the engine's position up to which everything is in the store.
func (r *Replica) Applied() uint64 {
	r.store.mu.RLock()
	defer r.store.mu.RUnlock()
	return r.store.mu.marks[r.index].applied
}

// Apply sequences the items of a batch, stores the entries among them with the mark, in one atomic batch, and shows them to readers. If the Seal is
// among them, the chain is extended in that same batch. The verdicts are the items', one for one. Payloads are kept, not copied.
//
// If a recovery ends the segment (Store.Await), it does so at the entry before its base, as a Seal would; that takes no record.
//
// An error means that the storage failed and nothing is known about the batch; the store takes no more writes (ErrFailed), or was closed. Or that the
// members begin the segment from another log than this node's, or that this log is not the one that was recovered (ErrDiverged): then nothing of the batch is
// applied, and the node must not go on. A batch that goes back behind what was applied is a bug of the engine, and panics.
func (r *Replica) Apply(b Batch) ([]Verdict, error) {
	s := r.store
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.apply.Lock()
	defer s.apply.Unlock()
	if err := s.failure(); err != nil {
		return nil, err
	}
	if at := r.Applied(); b.Applied < at {
		panic(fmt.Sprintf("consensus: epoch %d is applied up to %d, and is given a batch up to %d", r.seg.Epoch, at, b.Applied))
	}
	for _, item := range b.Items { // before anything changes
		if IsBase(item.Record) {
			if err := ValidBase(r.seg, item.Record); errors.Is(err, ErrDiverged) {
				return nil, err
			}
		}
	}
	seq := r.sequencer()
	verdicts := make([]Verdict, len(b.Items))
	entries := make([]Entry, 0, len(b.Items))
	var end *SegmentEnd
	recovery, based := r.recovery(), r.mark().based
	for i, item := range b.Items {
		v := seq.Next(item.UnixMilli, item.Record)
		switch {
		case v.Kind == Data:
			entries, based = append(entries, v.Entry), true
		case v.Kind == Based:
			based = true
		}
		verdicts[i] = v
		switch {
		case v.Next != nil && recovery != nil:
			return nil, fmt.Errorf("%w: epoch %d is sealed at lsn %d, and was recovered as if it were not, up to %d", ErrDiverged, r.seg.Epoch, v.LSN, recovery.Base-1)
		case v.Next != nil:
			end = &SegmentEnd{Seal: v.Entry, Proof: b.Proof}
		case v.Kind == Data && recovery != nil && v.LSN+1 == recovery.Base:
			if err := recovery.continues(seq.state.Digest, seq.state.UnixMilli); err != nil {
				return nil, err
			}
			seq.state.Sealed, end = true, &SegmentEnd{Recovery: recovery}
		}
	}
	return verdicts, r.commit(b, seq.state, based, entries, end)
}

// sequencer returns the one that judges this segment's items. The caller holds the store's apply lock.
func (r *Replica) sequencer() *Sequencer {
	if seq := r.store.apply.seq; seq.seg.Epoch == r.seg.Epoch {
		return seq
	}
	return r.sealedSequencer(r.store.apply.seq.state)
}

// Judge returns the verdicts that Apply would give on items if they came next, and changes nothing. It is for an engine that refuses beforehand what would be
// void; and it is how one asks whether a record is in the log.
func (r *Replica) Judge(items []Item) ([]Verdict, error) {
	if err := r.store.enter(); err != nil {
		return nil, err
	}
	defer r.store.leave()
	r.store.apply.Lock()
	defer r.store.apply.Unlock()
	state := r.sequencer().state
	state.Window = state.Window.fork()
	seq := &Sequencer{seg: r.seg, state: state}
	verdicts := make([]Verdict, len(items))
	for i, item := range items {
		verdicts[i] = seq.Next(item.UnixMilli, item.Record)
	}
	return verdicts, nil
}

// recovery returns the recovery that ends the segment behind what this node holds of it, or nil.
func (r *Replica) recovery() *SignedRecovery {
	r.store.mu.RLock()
	defer r.store.mu.RUnlock()
	if p := r.store.mu.pending; p != nil && p.Epoch == r.seg.Epoch+1 {
		return p
	}
	return nil
}

// Limit returns the first LSN that the segment does not have, if a Recovery says so before this node has come there: an entry of another node from there on
// is not part of the log. Otherwise 0.
func (r *Replica) Limit() LSN {
	if recovery := r.recovery(); recovery != nil {
		return recovery.Base
	}
	return 0
}

// sealedSequencer judges what an engine still orders after its Seal: nothing becomes an entry, but a duplicate is told from what is surely not in.
func (r *Replica) sealedSequencer(head State) *Sequencer {
	m := r.mark()
	return &Sequencer{seg: r.seg, state: State{Next: m.next, Digest: m.digest, UnixMilli: m.unixMilli, Window: head.Window, Sealed: true}}
}

func (r *Replica) mark() mark {
	r.store.mu.RLock()
	defer r.store.mu.RUnlock()
	return r.store.mu.marks[r.index]
}

func (r *Replica) commit(b Batch, to State, based bool, entries []Entry, end *SegmentEnd) error {
	s := r.store
	var next *Segment
	if end != nil {
		next = end.next(r.seg)
	}
	m := mark{
		applied: b.Applied, next: to.Next, unixMilli: to.UnixMilli, digest: to.Digest, sealed: to.Sealed, based: based,
		observed: b.Observed || r.mark().observed,
	}
	err := s.write(b.Sync || next != nil, func(pb *pebble.Batch) error {
		for _, e := range entries {
			if err := setEntry(pb, e); err != nil {
				return err
			}
		}
		if next != nil {
			if err := setEnd(pb, *end, *next); err != nil {
				return err
			}
		}
		return pb.Set(key(keyApplied, r.seg.Epoch), m.encode(), nil)
	})
	if err == nil && (b.Sync || next != nil) {
		if err = s.witness.write(to.Next, to.Digest); err != nil {
			s.fatal(err)
			err = s.failure()
		}
	}
	if err != nil {
		return fmt.Errorf("apply to epoch %d at lsn %d: %w", r.seg.Epoch, to.Next, err)
	}
	if next != nil {
		to.Sealed = false
		s.apply.seq = NewSequencer(*next, to)
	}
	s.publish(func() {
		s.mu.marks[r.index] = m
		if next != nil {
			s.mu.segments = append(s.mu.segments, *next)
			s.mu.marks = append(s.mu.marks, firstMark(*next))
			s.mu.pending = nil
		}
		if len(entries) > 0 {
			s.mu.next = to.Next
			if last := lastData(entries); last >= 0 {
				s.mu.data = entries[last].LSN
			}
			s.mu.recent.add(entries, s.opts.CacheBytes)
		}
	})
	if len(entries) > 0 {
		s.opts.onTail(to.Next)
	}
	for _, e := range entries {
		if isClaim(e.Record) {
			s.opts.onClaim(r.seg, e)
		}
	}
	return nil
}

// lastData returns the index of the last entry of an application; -1 if there is none.
func lastData(entries []Entry) int {
	for i, e := range slices.Backward(entries) {
		if e.Record.App != AppLog {
			return i
		}
	}
	return -1
}

// setEnd extends the chain. No recovery is waited for any more.
func setEnd(pb *pebble.Batch, end SegmentEnd, next Segment) error {
	return errors.Join(
		pb.Set(key(keySealed, next.Epoch-1), end.Encode(), nil),
		pb.Set(key(keySegment, next.Epoch), next.Encode(), nil),
		pb.Set(key(keyApplied, next.Epoch), firstMark(next).encode(), nil),
		pb.Delete([]byte{keyPending}, nil))
}

// setEntry encodes straight into the batch: entries are large.
func setEntry(b *pebble.Batch, e Entry) error {
	op := b.SetDeferred(keyBytes, entryHeaderBytes+e.Record.Size())
	putKey(op.Key, keyEntry, e.LSN)
	AppendEntry(op.Value[:0], e)
	if err := op.Finish(); err != nil {
		return err
	}
	op = b.SetDeferred(keyBytes, pastBytes)
	putKey(op.Key, keyRecord, e.LSN)
	PastEntry{e.Record.Key(), e.Digest}.put(op.Value)
	return op.Finish()
}

// Answer turns the verdict on a record into what Append returns for it.
func (s Segment) Answer(v Verdict) (Offset, error) {
	switch {
	case v.Kind == Void:
		return 0, v.Err
	case v.LSN < s.Base:
		return 0, DuplicateError{LSN: v.LSN}
	}
	return s.Offset(v.LSN), nil
}

// Based reports whether the segment's members have begun to order, as far as this node knows.
func (r *Replica) Based() bool { return r.mark().based }

// Tail returns the first offset that this node does not hold.
func (r *Replica) Tail() (Tail, error) {
	if err := r.live(); err != nil {
		return Tail{}, err
	}
	m := r.mark()
	return Tail{Offset: r.seg.Offset(m.next), Sealed: m.sealed}, nil
}

// Status is a loglet's as far as its replica tells it, with what the loglet stopped for, or nil: closed, failed, sealed, or else ordering, which the engine refines.
func (r *Replica) Status(engine string, stopped error) LogletStatus {
	tail, err := r.Tail()
	s := LogletStatus{Engine: engine, Epoch: r.seg.Epoch, State: StateOrdering, Tail: tail.Offset, Sealed: tail.Sealed}
	switch {
	case errors.Is(stopped, ErrClosed), err != nil:
		s.State = StateClosed
	case stopped != nil:
		s.State = StateFailed
	case tail.Sealed:
		s.State = StateSealed
	}
	return s
}

// live returns ErrClosed after Close of the replica or of its store.
func (r *Replica) live() error {
	select {
	case <-r.done:
		return ErrClosed
	default:
		return nil
	}
}

// Read is Loglet.Read.
func (r *Replica) Read(ctx context.Context, lo, hi Offset) ([]Entry, error) {
	if err := errors.Join(r.live(), ctx.Err()); err != nil {
		return nil, err
	}
	if err := r.store.enter(); err != nil {
		return nil, err
	}
	defer r.store.leave()
	end := r.seg.Offset(r.mark().next)
	switch {
	case lo > hi:
		return nil, fmt.Errorf("epoch %d: read offsets %d to %d: %w", r.seg.Epoch, lo, hi, ErrInvalid)
	case lo == hi:
		return nil, nil
	case hi > end:
		return nil, fmt.Errorf("epoch %d: read offsets %d to %d: tail is %d: %w", r.seg.Epoch, lo, hi, end, ErrUnwritten)
	}
	return r.store.read(ctx, r.seg.LSN(lo), r.seg.LSN(hi), int(hi-lo), 0)
}

// Follow is Loglet.Follow.
func (r *Replica) Follow(ctx context.Context, from Offset, limit int) ([]Entry, error) {
	if limit <= 0 {
		limit = DefaultFollowLimit
	}
	for {
		if err := errors.Join(r.live(), ctx.Err()); err != nil {
			return nil, err
		}
		entries, changed, err := r.followed(ctx, from, limit)
		if err != nil || entries != nil {
			return entries, err
		}
		select {
		case <-changed:
		case <-r.done:
		case <-ctx.Done():
		}
	}
}

// followed returns entries, or an error, or what to wait for.
func (r *Replica) followed(ctx context.Context, from Offset, limit int) ([]Entry, <-chan struct{}, error) {
	s := r.store
	if err := s.enter(); err != nil {
		return nil, nil, err
	}
	defer s.leave()
	m := r.mark()
	if end := r.seg.Offset(m.next); from < end {
		entries, err := s.read(ctx, r.seg.LSN(from), m.next, limit, MaxFollowBytes)
		return entries, nil, err
	}
	if m.sealed {
		return nil, nil, fmt.Errorf("epoch %d: follow from offset %d: %w", r.seg.Epoch, from, ErrSealed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.marks[r.index] != m { // something came between
		return nil, closedChannel, nil
	}
	return nil, waitOn(&s.mu.wake), nil
}

var closedChannel = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Trim is Loglet.Trim.
func (r *Replica) Trim(ctx context.Context, upTo Offset) error {
	if err := errors.Join(r.live(), ctx.Err()); err != nil {
		return err
	}
	if err := r.store.enter(); err != nil {
		return err
	}
	defer r.store.leave()
	if end := r.seg.Offset(r.mark().next); upTo >= end {
		return fmt.Errorf("epoch %d: trim up to offset %d: tail is %d: %w", r.seg.Epoch, upTo, end, ErrUnwritten)
	}
	return r.store.trimTo(r.seg.LSN(upTo))
}

// Close makes the replica's calls, blocked ones too, return ErrClosed. The store stays open.
func (r *Replica) Close() { r.close.Do(func() { close(r.done) }) }
