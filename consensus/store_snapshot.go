package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// A LogState is all that a node needs to go on with a log after LSN without the entries up to there: the chain of segments, where the log has come to,
// and the record keys of the dedup window. It is a function of the log alone, so every node that holds the same entries, and W record keys before LSN, makes the same
// one. doc.go draws its encoding.
type LogState struct {
	Network   NetworkID
	Window    int          // W
	LSN       LSN          // of the last entry that the state stands for; at least 1
	UnixMilli uint64       // of that entry
	Segments  []Segment    // the chain up to the segment that LSN+1 falls into
	Ends      []SegmentEnd // Ends[i] is the end of Segments[i]; the last segment has none
	Last      []PastEntry  // what is remembered of the last min(W, LSN) entries: Last[len(Last)-1] is at LSN
}

// A PastEntry is what is left of an entry in the dedup window when the entry is gone.
type PastEntry struct {
	Key    RecordKey
	Digest Digest // of the log up to and including the entry
}

// put writes the form in which the store keeps it, pastBytes long.
func (p PastEntry) put(b []byte) { copy(b[copy(b, p.Key[:]):], p.Digest[:]) }

// pastEntry is the inverse of put.
func pastEntry(b []byte) PastEntry { return PastEntry{RecordKey(b), Digest(b[recordKeyBytes:])} }

const logStateVersion = 2

// Digest returns the digest of the log up to and including LSN.
func (s LogState) Digest() Digest {
	d, _ := s.DigestAt(s.LSN)
	return d
}

// DigestAt returns the digest of the log up to and including an LSN, if the state has it: it does for the last W entries, and at the borders of
// segments.
func (s LogState) DigestAt(lsn LSN) (Digest, bool) {
	if p, ok := s.past(lsn); ok {
		return p.Digest, true
	}
	for _, seg := range s.Segments {
		if seg.Base == lsn+1 {
			return seg.BaseDigest, true
		}
	}
	return Digest{}, false
}

// past returns what is remembered of the entry at lsn.
func (s LogState) past(lsn LSN) (PastEntry, bool) {
	if n := LSN(len(s.Last)); lsn <= s.LSN && s.LSN-lsn < n {
		return s.Last[n-1-(s.LSN-lsn)], true
	}
	return PastEntry{}, false
}

// Encode returns the form in which the state is kept in files and handed to other nodes.
func (s LogState) Encode() []byte {
	w := &writer{b: []byte{logStateVersion}}
	w.fixed(s.Network[:])
	w.u64(uint64(s.Window))
	w.u64(uint64(s.LSN))
	w.u64(s.UnixMilli)
	w.u32(uint32(len(s.Segments)))
	for _, seg := range s.Segments {
		w.bytes(seg.Encode())
	}
	w.u32(uint32(len(s.Ends)))
	for _, end := range s.Ends {
		w.bytes(end.Encode())
	}
	w.u32(uint32(len(s.Last)))
	for _, p := range s.Last {
		w.fixed(p.Key[:])
		w.fixed(p.Digest[:])
	}
	return w.b
}

// DecodeLogState is the strict inverse of Encode. It checks the form only: see Verify. The error is ErrInvalid.
func DecodeLogState(b []byte) (LogState, error) {
	r := &reader{b: b}
	if v := r.u8(); v != logStateVersion {
		r.fail("log state of version %d, want %d", v, logStateVersion)
	}
	s := LogState{Network: NetworkID(r.digest())}
	window := r.u64()
	s.Window, s.LSN, s.UnixMilli = int(window), LSN(r.u64()), r.u64()
	if window > maxWindow {
		r.fail("window of %d, the limit is %d", window, maxWindow)
	}
	s.Segments = decodeEach(r, DecodeSegment)
	s.Ends = decodeEach(r, DecodeSegmentEnd)
	for range r.count(pastBytes) {
		s.Last = append(s.Last, pastEntry(r.take(pastBytes)))
	}
	if err := r.end(); err != nil {
		return LogState{}, fmt.Errorf("log state: %w", err)
	}
	return s, nil
}

// maxWindow bounds what is taken for a W from outside, so that it fits an int and memory.
const maxWindow = 1 << 28

// decodeEach reads a list whose elements are byte strings.
func decodeEach[T any](r *reader, decode func([]byte) (T, error)) (all []T) {
	for range r.count(4) {
		v, err := decode(r.bytes())
		if err != nil {
			r.fail("%v", err)
		}
		if r.err != nil {
			return nil
		}
		all = append(all, v)
	}
	return all
}

// Verify returns an error unless the state can be one of the network with this genesis: ErrWrongNetwork, or ErrInvalid with what does not hold
// together. What is checked: every link of the chain, from the genesis on, is what the end of the one before it says, and each Seal, or Recovery in its place, is authorised by the
// administrators of its segment; the record keys are as many as they must be, and none is there twice; wherever two places speak of one digest, they agree.
//
// What cannot be checked without the entries is that these digests and keys are the log's. Who uses a state must have its digest at LSN from a source
// that it trusts, or hold against others what is made of it: the ledger's head names the digest at its position (parentBeaconBlockRoot) and is named
// by whoever gave the snapshot, and the next entry that the members give only verifies on the digest at LSN. Of the keys, nothing but the sum of the
// file that they came in speaks for them; a node with wrong ones would judge a duplicate otherwise than the members, and see it at once in the digest
// of its next entry.
func (s LogState) Verify(network NetworkID, genesis Spec) error {
	if s.Network != network {
		return fmt.Errorf("%w: the log state is of network %v, want %v", ErrWrongNetwork, s.Network, network)
	}
	if err := errors.Join(s.verifyForm(), s.verifyKeys()); err != nil {
		return fmt.Errorf("log state at lsn %d: %w", s.LSN, err)
	}
	if err := s.verifyChain(genesis); err != nil {
		return fmt.Errorf("log state at lsn %d: %w", s.LSN, err)
	}
	return nil
}

func (s LogState) verifyForm() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	switch {
	case s.LSN < 1:
		return bad("it stands for no entry")
	case s.Window < 1 || s.Window > maxWindow:
		return bad("window of %d", s.Window)
	case LSN(len(s.Last)) != min(LSN(s.Window), s.LSN):
		return bad("%d record keys, the window is of %d", len(s.Last), s.Window)
	case len(s.Segments) == 0 || len(s.Ends) != len(s.Segments)-1:
		return bad("%d segments, %d of them ended", len(s.Segments), len(s.Ends))
	}
	return nil
}

func (s LogState) verifyKeys() error {
	seen := make(map[RecordKey]bool, len(s.Last))
	for _, p := range s.Last {
		if seen[p.Key] {
			return fmt.Errorf("%w: the record key %v is there twice", ErrInvalid, p.Key)
		}
		seen[p.Key] = true
	}
	return nil
}

// verifyChain walks the chain from the genesis on. The form has been checked.
func (s LogState) verifyChain(genesis Spec) error {
	want := genesisSegment(s.Network, genesis)
	for i, seg := range s.Segments {
		if !bytes.Equal(seg.Encode(), want.Encode()) {
			return fmt.Errorf("%w: segment %d is not what the one before it, or the genesis, says", ErrInvalid, i+1)
		}
		if i == len(s.Ends) {
			return s.verifyLast(seg)
		}
		var err error
		if want, err = s.verifyEnd(seg, s.Ends[i]); err != nil {
			return err
		}
	}
	return nil
}

// verifyEnd checks a Seal or a Recovery, against what is remembered of the entries too, and returns the segment that it opens.
func (s LogState) verifyEnd(seg Segment, end SegmentEnd) (Segment, error) {
	if err := end.Verify(seg); err != nil {
		return Segment{}, err
	}
	if r := end.Recovery; r != nil {
		if digest, ok := s.DigestAt(r.Base - 1); r.Base > s.LSN+1 || r.UnixMilli < seg.BaseUnixMilli || ok && digest != r.Digest {
			return Segment{}, fmt.Errorf("%w: epoch %d was recovered up to lsn %d, at %d ms, with the digest %v", ErrInvalid, seg.Epoch, r.Base-1, r.UnixMilli, r.Digest)
		}
		return r.Segment(), nil
	}
	e := end.Seal
	if e.LSN > s.LSN || e.UnixMilli < seg.BaseUnixMilli {
		return Segment{}, fmt.Errorf("%w: epoch %d ends at lsn %d, at %d ms", ErrInvalid, e.Epoch, e.LSN, e.UnixMilli)
	}
	if p, ok := s.past(e.LSN); ok && (p.Key != e.Record.Key() || p.Digest != e.Digest) {
		return Segment{}, fmt.Errorf("%w: lsn %d ends epoch %d, and is remembered as another entry", ErrInvalid, e.LSN, e.Epoch)
	}
	if prev, ok := s.DigestAt(e.LSN - 1); ok {
		if err := e.Verify(prev); err != nil {
			return Segment{}, fmt.Errorf("%w: end of epoch %d: %w", ErrInvalid, e.Epoch, err)
		}
	}
	return nextSegment(seg, e)
}

// verifyLast checks that the state is one of seg, which has not ended.
func (s LogState) verifyLast(seg Segment) error {
	if s.LSN+1 < seg.Base || s.UnixMilli < seg.BaseUnixMilli || s.LSN+1 == seg.Base && s.UnixMilli != seg.BaseUnixMilli {
		return fmt.Errorf("%w: epoch %d begins at lsn %d, at %d ms", ErrInvalid, seg.Epoch, seg.Base, seg.BaseUnixMilli)
	}
	return nil
}

// mark is that of the last segment, as Apply leaves it behind the entry at LSN. A position of the engine's own is not in a LogState, since an entry
// has none; LSNs serve as well for one that goes by them, as an observer does.
func (s LogState) mark() mark {
	seg := s.Segments[len(s.Segments)-1]
	m := firstMark(seg)
	if s.LSN >= seg.Base {
		m = mark{applied: uint64(s.LSN), next: s.LSN + 1, unixMilli: s.UnixMilli, digest: s.Digest(), based: true}
	}
	return m
}

// Snapshot returns the state of the log at an LSN. ErrUnwritten at or past the tail, ErrInvalid for 0, ErrTrimmed if this node has forgotten the entry or
// an id of the W entries that end there: it has them for every LSN that is above the trim point by W.
func (s *Store) Snapshot(ctx context.Context, lsn LSN) (LogState, error) {
	if err := s.enter(); err != nil {
		return LogState{}, err
	}
	defer s.leave()
	state, err := s.snapshot(ctx, lsn)
	if err != nil {
		return LogState{}, fmt.Errorf("log state at lsn %d: %w", lsn, err)
	}
	return state, nil
}

func (s *Store) snapshot(ctx context.Context, lsn LSN) (LogState, error) {
	switch next := s.Next(); {
	case lsn == 0:
		return LogState{}, fmt.Errorf("%w: it stands for no entry", ErrInvalid)
	case lsn >= next:
		return LogState{}, fmt.Errorf("tail is %d: %w", next, ErrUnwritten)
	}
	state := LogState{Network: s.opts.NetworkID, Window: s.opts.Window, LSN: lsn}
	for _, seg := range s.Segments() {
		if seg.Base <= lsn+1 {
			state.Segments = append(state.Segments, seg)
		}
	}
	var err error
	if state.Ends, err = s.ends(len(state.Segments) - 1); err != nil {
		return LogState{}, err
	}
	if state.Last, err = s.lastRecords(ctx, lsn); err != nil {
		return LogState{}, err
	}
	state.UnixMilli, err = s.unixMilliAt(ctx, lsn)
	return state, err
}

// ends returns the ends of the first n segments.
func (s *Store) ends(n int) ([]SegmentEnd, error) {
	var all []SegmentEnd
	for i := range n {
		v, err := s.get(key(keySealed, Epoch(i+1)))
		if err != nil {
			return nil, fmt.Errorf("%w: end of epoch %d: %w", ErrCorrupt, i+1, openError(err))
		}
		end, err := DecodeSegmentEnd(v)
		if err != nil {
			return nil, fmt.Errorf("%w: end of epoch %d: %v", ErrCorrupt, i+1, err)
		}
		all = append(all, end)
	}
	return all, nil
}

// lastRecords reads what is remembered of the W entries that end at lsn.
func (s *Store) lastRecords(ctx context.Context, lsn LSN) ([]PastEntry, error) {
	from := LSN(1)
	if w := LSN(s.opts.Window); lsn > w {
		from = lsn - w + 1
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key(keyRecord, from), UpperBound: key(keyRecord, lsn+1)})
	if err != nil {
		return nil, openError(err)
	}
	defer it.Close()
	all := make([]PastEntry, 0, lsn+1-from)
	want := from
	for ok := it.First(); ok; ok = it.Next() {
		if want%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n, err := keyNumber(it.Key())
		if err != nil {
			return nil, err
		}
		if LSN(n) != want {
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, readError(want, err)
		}
		if len(v) != pastBytes {
			return nil, corrupt(want, "its record key has %d bytes", len(v))
		}
		all = append(all, pastEntry(v))
		want++
	}
	if err := it.Error(); err != nil {
		return nil, readError(want, err)
	}
	if want <= lsn {
		return nil, s.missing(want)
	}
	return all, nil
}

// unixMilliAt returns the log's clock at lsn, which lies below the tail: from the chain or the mark if it is at the end of a segment or of the log, else
// from the entry.
func (s *Store) unixMilliAt(ctx context.Context, lsn LSN) (uint64, error) {
	s.mu.RLock()
	for _, m := range s.mu.marks {
		if m.next == lsn+1 {
			s.mu.RUnlock()
			return m.unixMilli, nil
		}
	}
	s.mu.RUnlock()
	entries, err := s.read(ctx, lsn, lsn+1, 1, 0)
	if err != nil {
		return 0, err
	}
	return entries[0].UnixMilli, nil
}

// RestoreStore makes the log of a node that begins behind a state's LSN: that is its trim point, and OpenStore then finds a log that goes on as the
// one whose state it was. After an error, or a crash, there is no log in the directory, or the whole one.
//
// The directory must not hold a log: ErrInvalid, ErrWrongNetwork or ErrCorrupt, by what it holds. The state must be of the options' network, genesis
// and window, and pass Verify.
//
// Nothing vouches for the new log (Store.Vouch): the node may have voted, on a disk that is gone, behind LSN. So it is an observer, until a
// reconfiguration makes it a member again. An engine without votes takes it as it is.
func RestoreStore(ctx context.Context, opts StoreOptions, state LogState) error {
	return restoreStore(ctx, opts, state, keepsake{})
}

func restoreStore(ctx context.Context, opts StoreOptions, state LogState, kept keepsake) error {
	opts.EnsureDefaults()
	err := opts.Validate()
	if err == nil {
		err = state.Verify(opts.NetworkID, opts.Genesis)
	}
	if err == nil && state.Window != opts.Window {
		err = fmt.Errorf("%w: the log state has a window of %d, the options say %d", ErrInvalid, state.Window, opts.Window)
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return fmt.Errorf("restore log store %s: %w", opts.Dir, err)
	}
	s := &Store{opts: opts}
	if s.db, err = pebble.Open(opts.Dir, s.pebbleOptions()); err != nil {
		return fmt.Errorf("restore log store %s: %w", opts.Dir, openError(err))
	}
	if err = s.restore(state, kept); err != nil {
		return errors.Join(fmt.Errorf("restore log store %s: %w", opts.Dir, err), s.db.Close())
	}
	if err = s.db.Close(); err != nil && s.failure() == nil {
		return fmt.Errorf("restore log store %s: %w", opts.Dir, err)
	}
	return s.failure()
}

// restore writes all in one batch, as create does.
func (s *Store) restore(state LogState, kept keepsake) error {
	switch made, err := s.loadFormat(); {
	case err != nil:
		return err
	case made:
		return fmt.Errorf("%w: the directory holds a log already", ErrInvalid)
	}
	err := s.write(true, func(b *pebble.Batch) error {
		if err := s.setStart(b, state); err != nil {
			return err
		}
		first := state.LSN + 1 - LSN(len(state.Last))
		for i, p := range state.Last {
			v := make([]byte, pastBytes)
			p.put(v)
			if err := b.Set(key(keyRecord, first+LSN(i)), v, nil); err != nil {
				return err
			}
		}
		return kept.set(b, state)
	})
	if err != nil {
		return err
	}
	return errors.Join(s.db.Flush(), s.failure()) // see create
}

// setStart writes everything but the record keys.
func (s *Store) setStart(b *pebble.Batch, state LogState) error {
	format := &writer{b: []byte{storeVersion}}
	format.fixed(s.opts.NetworkID[:])
	format.u64(uint64(s.opts.Window))
	point, digest := &writer{}, state.Digest()
	point.u64(uint64(state.LSN))
	point.fixed(digest[:])
	errs := []error{b.Set([]byte{keyFormat}, format.b, nil), b.Set([]byte{keyTrim}, point.b, nil)}
	for i, seg := range state.Segments {
		m := state.mark()
		if i < len(state.Ends) {
			next := state.Segments[i+1]
			m = mark{applied: uint64(next.Base - 1), next: next.Base, unixMilli: next.BaseUnixMilli, digest: next.BaseDigest, sealed: true, based: true}
			errs = append(errs, b.Set(key(keySealed, seg.Epoch), state.Ends[i].Encode(), nil))
		}
		errs = append(errs, b.Set(key(keySegment, seg.Epoch), seg.Encode(), nil), b.Set(key(keyApplied, seg.Epoch), m.encode(), nil))
	}
	return errors.Join(errs...)
}

// Snapshot is Store.Snapshot.
func (v *VirtualLog) Snapshot(ctx context.Context, lsn LSN) (LogState, error) {
	if err := errors.Join(v.live(), ctx.Err()); err != nil {
		return LogState{}, fmt.Errorf("log state at lsn %d: %w", lsn, err)
	}
	return v.store.Snapshot(ctx, lsn)
}
