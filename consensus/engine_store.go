package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// What an engine with a log of its own needs of the Store: a place beside the entries, in the same pebble instance and so in the same write-ahead log,
// and a look at its segment's mark.
//
// Since there is one write-ahead log, what survives a crash is a prefix of what was written, whether or not it was synced: a write to an engine's area
// that begins after an Apply has returned never survives without it, nor the other way round.

// keyEngine is the kind of the engines' keys: 'x' | epoch 8 | the engine's own key. What the values hold is the engine's to draw.
const keyEngine = 'x'

// An EngineArea is the part of a node's log store that belongs to the engine of one epoch. Its methods may be called concurrently.
type EngineArea struct {
	store  *Store
	prefix []byte
}

// EngineArea returns the area of an epoch's engine. The epoch need not be in the chain yet: an engine that is being prepared already writes to it.
func (s *Store) EngineArea(epoch Epoch) *EngineArea {
	return &EngineArea{store: s, prefix: key(keyEngine, epoch)}
}

// Hold notes that an engine uses the area, until release is called. It keeps nobody from anything: see Held.
func (a *EngineArea) Hold() (release func()) {
	epoch := a.epoch()
	add := func(n int) {
		a.store.mu.Lock()
		defer a.store.mu.Unlock()
		if a.store.mu.held == nil {
			a.store.mu.held = map[Epoch]int{}
		}
		if a.store.mu.held[epoch] += n; a.store.mu.held[epoch] == 0 {
			delete(a.store.mu.held, epoch)
		}
	}
	add(1)
	return sync.OnceFunc(func() { add(-1) })
}

// Held reports whether an engine uses the area: a sealed one does for a while beside those of the next epochs.
func (a *EngineArea) Held() bool {
	a.store.mu.RLock()
	defer a.store.mu.RUnlock()
	return a.store.mu.held[a.epoch()] > 0
}

func (a *EngineArea) epoch() Epoch { return Epoch(binary.BigEndian.Uint64(a.prefix[1:])) }

func (a *EngineArea) key(k []byte) []byte {
	return append(append(make([]byte, 0, len(a.prefix)+len(k)), a.prefix...), k...)
}

// Get returns a copy of a value, or nil if there is none.
func (a *EngineArea) Get(k []byte) ([]byte, error) {
	if err := a.store.enter(); err != nil {
		return nil, err
	}
	defer a.store.leave()
	v, err := a.store.get(a.key(k))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, openError(err)
	case v == nil:
		return []byte{}, nil
	}
	return v, nil
}

// Scan calls f for the keys in [lo, hi), in order, until it returns an error. Key and value are valid during the call only.
func (a *EngineArea) Scan(lo, hi []byte, f func(k, v []byte) error) error {
	if err := a.store.enter(); err != nil {
		return err
	}
	defer a.store.leave()
	it, err := a.store.db.NewIter(&pebble.IterOptions{LowerBound: a.key(lo), UpperBound: a.key(hi)})
	if err != nil {
		return openError(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return openError(err)
		}
		if err := f(it.Key()[len(a.prefix):], v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return openError(err)
	}
	return nil
}

// Write fills a batch and commits it atomically; with sync, it is durable when Write returns. An error is ErrClosed, or means that the storage has
// failed: then nothing may be assumed about what is stored, and the store takes no more writes (invariant 10).
func (a *EngineArea) Write(sync bool, fill func(*EngineBatch) error) error {
	if err := a.store.enter(); err != nil {
		return err
	}
	defer a.store.leave()
	return a.store.write(sync, func(b *pebble.Batch) error { return fill(&EngineBatch{area: a, b: b}) })
}

// An EngineBatch collects the changes of one Write.
type EngineBatch struct {
	area *EngineArea
	b    *pebble.Batch
}

// Set stores the concatenation of the parts under a key.
func (b *EngineBatch) Set(k []byte, parts ...[]byte) error {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	op := b.b.SetDeferred(len(b.area.prefix)+len(k), size)
	copy(op.Key[copy(op.Key, b.area.prefix):], k)
	v := op.Value[:0]
	for _, p := range parts {
		v = append(v, p...)
	}
	return op.Finish()
}

// Delete removes a key, which need not be there.
func (b *EngineBatch) Delete(k []byte) error { return b.b.Delete(b.area.key(k), nil) }

// DeleteRange removes the keys in [lo, hi).
func (b *EngineBatch) DeleteRange(lo, hi []byte) error {
	return b.b.DeleteRange(b.area.key(lo), b.area.key(hi), nil)
}

// Enter notes, in the batch in which an engine stores that this disk is a member's of its epoch, that the disk's being vouched for has been used up.
func (b *EngineBatch) Enter() error {
	return b.b.Set([]byte{keyVouch}, binary.BigEndian.AppendUint64(nil, uint64(b.area.epoch())+1), nil)
}

// Vouch notes, synced, that this disk has been this node's only one since before an epoch began, so that the node cannot have voted in that epoch, nor
// in any later one, on a disk that is gone. Who says so: `init`, for the first epoch, and the preparation of a reconfiguration, while a quorum confirms
// that the epoch asked for has not begun. It stays true whatever becomes of the epoch, so a preparation that is abandoned need not take it back.
func (s *Store) Vouch(epoch Epoch) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	since, err := s.vouchedSince()
	if err != nil || since != 0 { // it is already, or has been and entered an epoch since: then it is from the next one on
		return err
	}
	return s.write(true, func(b *pebble.Batch) error {
		return b.Set([]byte{keyVouch}, binary.BigEndian.AppendUint64(nil, uint64(epoch)), nil)
	})
}

// Vouched reports whether this disk may take on a membership in an epoch. It is what keeps a wiped disk from voting with an empty past: one that a
// member has lost, and that was filled again by following the log, is not vouched for.
func (s *Store) Vouched(epoch Epoch) (bool, error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	since, err := s.vouchedSince()
	return since != 0 && since <= epoch, err
}

func (s *Store) vouchedSince() (Epoch, error) {
	v, err := s.get([]byte{keyVouch})
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, openError(err)
	case len(v) != 8:
		return 0, fmt.Errorf("%w: vouching record of %d bytes", ErrCorrupt, len(v))
	}
	return Epoch(binary.BigEndian.Uint64(v)), nil
}

// SegmentEnd returns how a segment of the chain ended; false if it did not yet, as far as this node knows.
func (s *Store) SegmentEnd(epoch Epoch) (SegmentEnd, bool, error) {
	if err := s.enter(); err != nil {
		return SegmentEnd{}, false, err
	}
	defer s.leave()
	return s.segmentEnd(epoch)
}

func (s *Store) segmentEnd(epoch Epoch) (SegmentEnd, bool, error) {
	v, err := s.get(key(keySealed, epoch))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return SegmentEnd{}, false, nil
	case err != nil:
		return SegmentEnd{}, false, openError(err)
	}
	end, err := DecodeSegmentEnd(v)
	if err != nil {
		return SegmentEnd{}, false, fmt.Errorf("%w: end of epoch %d: %v", ErrCorrupt, epoch, err)
	}
	return end, true, nil
}

// continuedByEnd returns an error if a Seal is not one behind what this node holds of its last segment: then either of the two is of another log.
func (s *Store) continuedByEnd(end SegmentEnd) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	e, next := end.Seal, s.Next()
	switch {
	case end.Recovery != nil || e.LSN > next: // nothing to compare
		return nil
	case e.LSN < next:
		return fmt.Errorf("%w: epoch %d is said to end at lsn %d, and this node holds it up to %d", ErrInvalid, e.Epoch, e.LSN, next-1)
	}
	digest, err := s.digestAt(e.LSN - 1)
	if err != nil {
		return err
	}
	return e.Verify(digest)
}

// A Position is how far a segment was applied on this node, all of one moment.
type Position struct {
	Applied   uint64 // the engine's own position
	Next      LSN    // the first LSN not held
	UnixMilli uint64 // of the entry at Next-1
	Digest    Digest // of the log up to Next-1
	Sealed    bool
	Based     bool // see Replica.Based
	// Observed: entries of the segment have come by another way than its engine, whose own position says nothing any more. It must not go on from there.
	Observed bool
}

// Position returns the replica's.
func (r *Replica) Position() Position {
	m := r.mark()
	return Position{Applied: m.applied, Next: m.next, UnixMilli: m.unixMilli, Digest: m.digest, Sealed: m.sealed, Based: m.based, Observed: m.observed}
}

// AnswerSealed returns what an append to a sealed segment gets: the place of a record that is in, else ErrSealed. It needs nobody else, since nothing
// can be ordered in the segment any more. It panics if this node does not know the segment sealed.
func (r *Replica) AnswerSealed(rec Record) (Offset, error) {
	if err := r.live(); err != nil {
		return 0, err
	}
	if !r.mark().sealed {
		panic(fmt.Sprintf("consensus: epoch %d is not sealed on this node", r.seg.Epoch))
	}
	r.store.apply.Lock()
	defer r.store.apply.Unlock()
	return r.seg.Answer(r.sealedSequencer(r.store.apply.seq.state).Next(0, rec))
}

// Fail ends the store, for an engine whose own write beside it has failed (invariant 10), and returns the ErrFailed that everybody gets from now on.
func (a *EngineArea) Fail(cause error) error {
	a.store.fatal(cause)
	return a.store.failure()
}
