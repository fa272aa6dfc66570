package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"ledgerd/consensus"
)

// Keys in the engine's area; doc.go draws them with their values.
const (
	keyCompacted = 'c'
	keyHard      = 'h'
	keyLog       = 'l'
	keyMember    = 'm'
	keyPending   = 'p'

	memberVersion = 1

	slotData = 0
	slotRef  = 1
)

func slotKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyLog}, index)
}

var slotEnd = []byte{keyLog + 1}

func isMember(stored []byte, identity consensus.Digest) bool {
	return len(stored) == 1+32+8 && stored[0] == memberVersion && consensus.Digest(stored[1:33]) == identity
}

// A ref says which entry of the log a raft entry became.
type ref struct {
	index, term uint64
	lsn         consensus.LSN
}

// mark is a raft index with its term.
type mark struct{ index, term uint64 }

// run is a stretch of raft's log in one term: from an index to the next run's.
type run struct{ from, term uint64 }

// hardState is raftpb.HardState without its pointers.
type hardState struct{ term, vote, commit uint64 }

// storage is raft's log on this node: a raft.Storage, with an image in memory of what is durable. Only the Driver touches the image; what is written,
// is written by persist, which does not, and enters the image when that has returned. So the image never leads the disk.
type storage struct {
	store   *consensus.Store
	area    *consensus.EngineArea
	replica *consensus.Replica
	logger  *slog.Logger
	self    uint64
	members []uint64

	release   func() // of the area
	witness   *witness
	writes    uint64 // number of the last write asked for
	hard      hardState
	compacted mark
	last      uint64           // index of the last entry
	runs      []run            // terms of (compacted.index, last]
	cache     []*raftpb.Entry  // the newest entries, without a gap up to last
	bytes     int              // of their data
	maxBytes  int              // of the cache
	pending   *pendingSnapshot // being installed
	position  consensus.Position
}

// pendingSnapshot is a snapshot whose entries are not all here yet.
type pendingSnapshot struct {
	mark
	place
}

// openStorage loads the image, after it has made sure that this disk may take part.
func openStorage(store *consensus.Store, replica *consensus.Replica, self uint64, cacheBytes int) (*storage, error) {
	seg := replica.Segment()
	s := &storage{
		store: store, area: store.EngineArea(seg.Epoch), replica: replica, logger: store.Options().Logger, self: self, maxBytes: cacheBytes,
		position: replica.Position(),
	}
	for _, m := range seg.Spec.Members {
		s.members = append(s.members, m.ID)
	}
	slices.Sort(s.members)
	if err := s.enter(store, seg); err != nil {
		return nil, err
	}
	var err error
	if s.witness, err = openWitness(store.Options(), seg); err != nil {
		return nil, err
	}
	s.release = s.area.Hold()
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("load raft log: %w", err), s.close())
	}
	if err := forget(store, seg.Epoch-1); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close lets go of the store. A sealed segment's engine is not opened again.
func (s *storage) close() error {
	s.release()
	err := s.witness.file.Close()
	if s.position.Sealed {
		err = errors.Join(err, drop(s.store, s.replica.Segment().Epoch))
	}
	return err
}

// forget drops what is left of raft's engines up to an epoch, as far as they do not run any more: they do until their members have all heard of their segment's end,
// and drop it themselves then. So there is something to do after a crash only.
func forget(store *consensus.Store, upTo consensus.Epoch) error {
	chain := store.Segments()
	for epoch := upTo; epoch > 0; epoch-- {
		area := store.EngineArea(epoch)
		if chain[epoch-1].Spec.Engine != Name || area.Held() {
			continue
		}
		member, err := area.Get([]byte{keyMember})
		if err != nil {
			return err
		}
		if member == nil {
			break
		}
		if err := drop(store, epoch); err != nil {
			return err
		}
	}
	return nil
}

// drop removes all that an engine has stored.
func drop(store *consensus.Store, epoch consensus.Epoch) error {
	_ = store.Options().FS.Remove(witnessPath(store.Options(), epoch)) // if it stays, it says nothing: of another epoch identity, or of a write that is not there
	return store.EngineArea(epoch).Write(false, func(b *consensus.EngineBatch) error { return b.DeleteRange([]byte{0}, []byte{0xff}) })
}

// enter checks the identity, or takes it on if the disk is vouched for: that is used up, and the identity written, in one synced batch.
func (s *storage) enter(store *consensus.Store, seg consensus.Segment) error {
	if !slices.Contains(s.members, s.self) {
		return fmt.Errorf("%w: the spec of epoch %d does not name member %d", consensus.ErrNotMember, seg.Epoch, s.self)
	}
	if s.position.Observed {
		return fmt.Errorf("%w: this node has followed epoch %d without its engine, which does not know how far", consensus.ErrNotMember, seg.Epoch)
	}
	stored, err := s.area.Get([]byte{keyMember})
	if err != nil {
		return err
	}
	if isMember(stored, seg.Identity) {
		if id := binary.BigEndian.Uint64(stored[33:]); id != s.self {
			return fmt.Errorf("%w: this disk is member %d of epoch %d, not %d", consensus.ErrNotMember, id, seg.Epoch, s.self)
		}
		return nil
	}
	vouched, err := store.Vouched(seg.Epoch)
	if err != nil {
		return err
	}
	if !vouched {
		return fmt.Errorf("%w: the store does not hold the identity of epoch %d, and nothing vouches for it; it may have been lost and filled again", consensus.ErrNotMember, seg.Epoch)
	}
	if s.position.Applied > 0 || s.position.Next > seg.Base {
		return fmt.Errorf("%w: entries of epoch %d are in the store, but not its identity", consensus.ErrNotMember, seg.Epoch)
	}
	return s.area.Write(true, func(b *consensus.EngineBatch) error {
		id := binary.BigEndian.AppendUint64(nil, s.self)
		return errors.Join(
			b.DeleteRange([]byte{0}, []byte{0xff}), // what an abandoned preparation of this epoch left
			b.Set([]byte{keyMember}, []byte{memberVersion}, seg.Identity[:], id),
			b.Enter())
	})
}

func (s *storage) load() error {
	if err := s.loadMarks(); err != nil {
		return err
	}
	s.last = s.compacted.index
	err := s.area.Scan(slotKey(s.compacted.index+1), slotEnd, func(k, v []byte) error {
		index := binary.BigEndian.Uint64(k[1:])
		e, _, err := decodeSlot(index, v)
		if err != nil {
			return err
		}
		if index != s.last+1 {
			return fmt.Errorf("%w: raft entry %d is missing, the next one there is %d", consensus.ErrCorrupt, s.last+1, index)
		}
		s.extend(index, e.GetTerm())
		return nil
	})
	if err != nil {
		return err
	}
	if synced, err := s.witness.read(); err != nil {
		return err
	} else if synced > s.writes {
		return fmt.Errorf("%w: write %d was synced, and the last one there is %d: the end of the write-ahead log is damaged", consensus.ErrCorrupt, synced, s.writes)
	}
	applied := s.position.Applied
	if p := s.pending; p != nil && s.position.Next > p.next {
		return fmt.Errorf("%w: the log goes up to lsn %d, the snapshot that is being installed ends before %d", consensus.ErrCorrupt, s.position.Next-1, p.next)
	}
	if s.pending == nil && s.last < applied {
		return fmt.Errorf("%w: the raft log ends at %d, the segment was applied up to %d", consensus.ErrCorrupt, s.last, applied)
	}
	s.hard.commit = min(max(s.hard.commit, applied, s.compacted.index), s.last)
	return nil
}

func (s *storage) loadMarks() error {
	hard, err1 := s.numbers(keyHard, 4)
	compacted, err2 := s.numbers(keyCompacted, 2)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	s.hard, s.writes = hardState{hard[0], hard[1], hard[2]}, hard[3]
	s.compacted = mark{compacted[0], compacted[1]}
	v, err := s.area.Get([]byte{keyPending})
	if err != nil || v == nil {
		return err
	}
	if len(v) != 16+snapshotDataBytes {
		return fmt.Errorf("%w: pending snapshot of %d bytes", consensus.ErrCorrupt, len(v))
	}
	at, err := decodePlace(v[16:])
	if err != nil {
		return fmt.Errorf("%w: pending snapshot: %v", consensus.ErrCorrupt, err)
	}
	s.pending = &pendingSnapshot{mark{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}, at}
	return nil
}

// Awaited returns the place in the log that a member which is stopped waits for, to go on in a segment: it is installing a snapshot, and lacks the entries before.
// They may come by another way as long as they do not go beyond: a store that is restored from a state with an LSN below that, and keeps the engine's area
// (consensus.RejoinStore), is one in which some of them have been fetched. ok is false if the member, or this store's node if it is none, does not wait.
func Awaited(store *consensus.Store, seg consensus.Segment) (before consensus.LSN, ok bool, err error) {
	s := &storage{area: store.EngineArea(seg.Epoch)}
	member, err := s.area.Get([]byte{keyMember})
	if err != nil || !isMember(member, seg.Identity) {
		return 0, false, err
	}
	if err := s.loadMarks(); err != nil || s.pending == nil {
		return 0, false, err
	}
	return s.pending.next, true, nil
}

// An UnappliedTail is what a member that is stopped has in its raft log behind what it has applied: promised to leaders, and perhaps committed.
type UnappliedTail struct {
	Items   []consensus.Item // as they would be applied
	Indexes []uint64         // raft's, of each of them
	Term    uint64           // of the last entry of the raft log, by which members compare who has more (Raft thesis §3.6.1), ...
	Index   uint64           // ... and its index
}

// Unapplied reads that. It has no items if the node is no member of the segment, or is installing a snapshot: its raft log does not go on from where the log is
// then. ErrCorrupt if it is not what was written.
func Unapplied(store *consensus.Store, seg consensus.Segment) (tail UnappliedTail, err error) {
	replica, err := store.Replica(seg.Epoch)
	if err != nil {
		return tail, err
	}
	defer replica.Close()
	s := &storage{area: store.EngineArea(seg.Epoch), position: replica.Position()}
	member, err := s.area.Get([]byte{keyMember})
	if err != nil || !isMember(member, seg.Identity) || s.position.Observed {
		return tail, err
	}
	if s.witness, err = openWitness(store.Options(), seg); err != nil {
		return tail, err
	}
	defer s.witness.file.Close()
	if err := s.load(); err != nil || s.pending != nil || s.last <= s.position.Applied {
		return tail, err
	}
	tail.Index = s.last
	if tail.Term, err = s.Term(s.last); err != nil {
		return tail, err
	}
	err = s.area.Scan(slotKey(s.position.Applied+1), slotEnd, func(k, v []byte) error {
		index := binary.BigEndian.Uint64(k[1:])
		e, lsn, err := decodeSlot(index, v)
		if err != nil || len(e.GetData()) == 0 && lsn == 0 {
			return err
		}
		if lsn != 0 {
			return fmt.Errorf("%w: raft entry %d is lsn %d, and was not applied", consensus.ErrCorrupt, index, lsn)
		}
		item, err := decodeEnvelope(slices.Clone(e.GetData()))
		if err != nil {
			return fmt.Errorf("%w: raft entry %d: %v", consensus.ErrCorrupt, index, err)
		}
		tail.Items, tail.Indexes = append(tail.Items, item), append(tail.Indexes, index)
		return nil
	})
	return tail, err
}

// numbers reads a value of n numbers; zeros if it is absent.
func (s *storage) numbers(k byte, n int) ([]uint64, error) {
	v, err := s.area.Get([]byte{k})
	if err != nil {
		return nil, err
	}
	ns := make([]uint64, n)
	if v == nil {
		return ns, nil
	}
	if len(v) != 8*n {
		return nil, fmt.Errorf("%w: raft's %q of %d bytes", consensus.ErrCorrupt, k, len(v))
	}
	for i := range ns {
		ns[i] = binary.BigEndian.Uint64(v[8*i:])
	}
	return ns, nil
}

func encodeNumbers(ns ...uint64) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// decodeSlot returns a stored raft entry. If it is a reference, the entry has no data, and lsn is not 0. The data points into v.
func decodeSlot(index uint64, v []byte) (e *raftpb.Entry, lsn consensus.LSN, err error) {
	if len(v) < 9 {
		return nil, 0, fmt.Errorf("%w: raft entry %d of %d bytes", consensus.ErrCorrupt, index, len(v))
	}
	e = &raftpb.Entry{Index: new(index), Term: new(binary.BigEndian.Uint64(v)), Type: raftpb.EntryNormal.Enum()}
	switch {
	case v[8] == slotData:
		e.Data = v[9:]
	case v[8] == slotRef && len(v) == 17:
		lsn = consensus.LSN(binary.BigEndian.Uint64(v[9:]))
	default:
		return nil, 0, fmt.Errorf("%w: raft entry %d of kind %d and %d bytes", consensus.ErrCorrupt, index, v[8], len(v))
	}
	return e, lsn, nil
}

// A Write is what the Driver wants stored, in one atomic batch. Persist it, then give it back in Inputs.Written.
type Write struct {
	Sync bool

	store     *storage
	number    uint64
	hard      hardState
	cut       uint64 // drop the stored entries from this index on; 0: none
	entries   []*raftpb.Entry
	refs      []ref
	compacted mark             // drop the entries up to it; zero: none
	pending   *pendingSnapshot // begin to install
	installed bool             // what was pending is installed
	rebased   mark             // the log begins anew behind it; zero: it goes on
	responses []*raftpb.Message
}

// newWrite returns an empty write, the next in number.
func (s *storage) newWrite() *Write {
	return &Write{store: s, number: s.writes + 1, hard: s.hard}
}

// Persist stores the write. An error means that the storage has failed, or was closed. It may run beside Driver.Step.
func (w *Write) Persist() error {
	err := w.commit()
	if err != nil || !w.Sync {
		return err
	}
	if err := w.store.witness.write(w.number); err != nil {
		return w.store.area.Fail(err)
	}
	return nil
}

func (w *Write) commit() error {
	return w.store.area.Write(w.Sync, func(b *consensus.EngineBatch) error {
		var errs []error
		add := func(err error) { errs = append(errs, err) }
		if w.rebased != (mark{}) {
			add(b.DeleteRange([]byte{keyLog}, slotEnd))
		}
		if w.installed {
			add(b.Delete([]byte{keyPending}))
		}
		if w.compacted != (mark{}) {
			add(b.DeleteRange([]byte{keyLog}, slotKey(w.compacted.index+1)))
			add(b.Set([]byte{keyCompacted}, encodeNumbers(w.compacted.index, w.compacted.term)))
		}
		if p := w.pending; p != nil {
			add(b.Set([]byte{keyPending}, encodeNumbers(p.index, p.term), p.place.encode()))
		}
		for _, r := range w.refs {
			var v [17]byte
			binary.BigEndian.PutUint64(v[:], r.term)
			v[8] = slotRef
			binary.BigEndian.PutUint64(v[9:], uint64(r.lsn))
			add(b.Set(slotKey(r.index), v[:]))
		}
		if w.cut != 0 {
			add(b.DeleteRange(slotKey(w.cut), slotEnd))
		}
		for _, e := range w.entries {
			var head [9]byte
			binary.BigEndian.PutUint64(head[:], e.GetTerm())
			add(b.Set(slotKey(e.GetIndex()), head[:], e.GetData()))
		}
		add(b.Set([]byte{keyHard}, encodeNumbers(w.hard.term, w.hard.vote, w.hard.commit, w.number)))
		return errors.Join(errs...)
	})
}

// written takes a persisted write into the image.
func (s *storage) written(w *Write) {
	s.hard, s.writes = w.hard, w.number
	if r := w.rebased; r != (mark{}) {
		s.last, s.runs, s.cache, s.bytes = r.index, nil, nil, 0
	}
	if w.installed {
		s.pending = nil
	}
	if w.pending != nil {
		s.pending = w.pending
	}
	if w.compacted != (mark{}) {
		s.compact(w.compacted)
	}
	if w.cut != 0 {
		s.truncate(w.cut)
	}
	for _, e := range w.entries {
		s.extend(e.GetIndex(), e.GetTerm())
		s.cache = append(s.cache, e)
		s.bytes += len(e.GetData())
	}
	s.shrink()
}

func (s *storage) extend(index, term uint64) {
	if index != s.last+1 {
		panic(fmt.Sprintf("raft: entry %d after %d", index, s.last))
	}
	s.last = index
	if n := len(s.runs); n == 0 || s.runs[n-1].term != term {
		s.runs = append(s.runs, run{index, term})
	}
}

// truncate forgets the entries from an index on.
func (s *storage) truncate(from uint64) {
	if from <= s.position.Applied && s.pending == nil {
		panic(fmt.Sprintf("raft: entry %d is replaced, %d was applied", from, s.position.Applied))
	}
	for n := len(s.runs); n > 0 && s.runs[n-1].from >= from; n-- {
		s.runs = s.runs[:n-1]
	}
	for n := len(s.cache); n > 0 && s.cache[n-1].GetIndex() >= from; n-- {
		s.bytes -= len(s.cache[n-1].GetData())
		s.cache[n-1] = nil
		s.cache = s.cache[:n-1]
	}
	s.last = from - 1
}

func (s *storage) compact(to mark) {
	s.compacted = to
	for len(s.runs) > 1 && s.runs[1].from <= to.index+1 {
		s.runs = s.runs[1:]
	}
	switch {
	case s.last <= to.index:
		s.runs = nil
	case len(s.runs) > 0:
		s.runs[0].from = max(s.runs[0].from, to.index+1)
	}
	for len(s.cache) > 0 && s.cache[0].GetIndex() <= to.index {
		s.evict()
	}
}

// shrink keeps the cache within its bound. What is not applied yet can be read from the disk too, so nothing is pinned.
func (s *storage) shrink() {
	const maxEntries = 1 << 16 // small ones would let the slice grow without the bytes' ever biting
	for s.bytes > s.maxBytes || len(s.cache) > maxEntries {
		s.evict()
	}
}

func (s *storage) evict() {
	s.bytes -= len(s.cache[0].GetData())
	s.cache[0] = nil
	s.cache = s.cache[1:]
}

// InitialState is raft.Storage's.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	conf := &raftpb.ConfState{Voters: slices.Clone(s.members)}
	if s.hard == (hardState{}) {
		return nil, conf, nil
	}
	return &raftpb.HardState{Term: new(s.hard.term), Vote: new(s.hard.vote), Commit: new(s.hard.commit)}, conf, nil
}

// FirstIndex is raft.Storage's.
func (s *storage) FirstIndex() (uint64, error) { return s.compacted.index + 1, nil }

// LastIndex is raft.Storage's.
func (s *storage) LastIndex() (uint64, error) { return s.last, nil }

// Term is raft.Storage's.
func (s *storage) Term(i uint64) (uint64, error) {
	switch {
	case i == s.compacted.index:
		return s.compacted.term, nil
	case i < s.compacted.index:
		return 0, raft.ErrCompacted
	case i > s.last:
		return 0, raft.ErrUnavailable
	}
	for _, r := range slices.Backward(s.runs) {
		if r.from <= i {
			return r.term, nil
		}
	}
	panic(fmt.Sprintf("raft: no term for entry %d of (%d, %d]", i, s.compacted.index, s.last))
}

// Entries is raft.Storage's. What cannot be read any more, since this node has trimmed it or the disk has lost it, is answered as compacted: whoever
// wanted it gets it from another node.
func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	switch {
	case lo <= s.compacted.index:
		return nil, raft.ErrCompacted
	case hi > s.last+1:
		return nil, raft.ErrUnavailable
	case len(s.cache) > 0 && s.cache[0].GetIndex() <= lo:
		first := s.cache[0].GetIndex()
		return limited(s.cache[lo-first:hi-first], maxSize), nil
	}
	entries, err := s.stored(lo, hi, maxSize)
	if err != nil && !errors.Is(err, consensus.ErrClosed) {
		s.logger.Warn("raft entries cannot be read", "index", lo, "err", err)
	}
	if err != nil {
		return nil, raft.ErrCompacted
	}
	return entries, nil
}

// limited returns a copy of the prefix that fits maxSize, and at least one entry.
func limited(entries []*raftpb.Entry, maxSize uint64) []*raftpb.Entry {
	size := uint64(0)
	for i, e := range entries {
		if size += uint64(len(e.GetData())) + 24; i > 0 && size > maxSize {
			return slices.Clone(entries[:i])
		}
	}
	return slices.Clone(entries)
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

// stored reads entries from the disk, and what they refer to from the log.
func (s *storage) stored(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	var entries []*raftpb.Entry
	var ahead []consensus.Entry // read from the log, from where the next reference is likely to point
	size, want := uint64(0), lo
	err := s.area.Scan(slotKey(lo), slotKey(hi), func(k, v []byte) error {
		index := binary.BigEndian.Uint64(k[1:])
		if index != want {
			return fmt.Errorf("%w: raft entry %d is missing", consensus.ErrCorrupt, want)
		}
		want++
		e, lsn, err := decodeSlot(index, v)
		if err != nil {
			return err
		}
		if e.Data = slices.Clone(e.Data); lsn != 0 {
			if len(ahead) == 0 || ahead[0].LSN != lsn {
				if ahead, err = s.replica.Follow(context.Background(), s.replica.Segment().Offset(lsn), readAhead); err != nil {
					return err
				}
			}
			e.Data, ahead = envelopeOf(ahead[0]), ahead[1:]
		}
		if size += uint64(len(e.GetData())) + 24; len(entries) > 0 && size > maxSize {
			return errEnough
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: raft entry %d is missing", consensus.ErrCorrupt, lo)
	}
	return entries, nil
}

// readAhead is how many entries of the log are read at a time. What is referred to has been applied, so Follow does not block.
const readAhead = 64

// envelopeOf makes the envelope of an entry of the log. It carries the log's clock, not the raw one: every replica makes the same of both, since the one
// is the maximum of the other and what went before.
func envelopeOf(e consensus.Entry) []byte {
	return appendEnvelope(make([]byte, 0, envelopeHeaderBytes+e.Record.Size()), e.UnixMilli, e.Record)
}

// had reports whether the log was at a place, as far as this node can tell: what it has trimmed it may have forgotten.
func (s *storage) had(at place) bool {
	digest, err := s.store.DigestAt(at.next - 1)
	return err != nil || digest == at.digest
}

// Snapshot is raft.Storage's: where this node is. The entries themselves are the Fetcher's business.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	p := s.position
	if p.Applied == 0 || s.pending != nil { // the log is ahead of the index
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	term, err := s.Term(p.Applied)
	if err != nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{
		Data: place{next: p.Next, digest: p.Digest}.encode(),
		Metadata: &raftpb.SnapshotMetadata{
			ConfState: &raftpb.ConfState{Voters: slices.Clone(s.members)}, Index: new(p.Applied), Term: new(term),
		},
	}, nil
}
