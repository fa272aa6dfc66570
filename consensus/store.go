package consensus

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	crdberrors "github.com/cockroachdb/errors"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DefaultWindow is the dedup window of a network whose genesis names none.
const DefaultWindow = 65536

// fatalExit is the exit code after a failed write or fsync: EX_IOERR of sysexits.h.
const fatalExit = 74

// StoreOptions of OpenStore.
type StoreOptions struct {
	FS        vfs.FS    // nil: with a Dir the operating system's, without one memory
	Dir       string    // of the pebble instance; made if it does not exist
	NetworkID NetworkID // must be that of the directory's log
	Genesis   Spec      // of the first segment; only used to make the log
	Window    int       // W, a constant of the network; 0: DefaultWindow

	// CacheBytes bounds the payloads of the newest entries, kept in memory so that followers do not go to the disk for what was just written.
	// 0: 16 MiB.
	CacheBytes int64

	Logger *slog.Logger // nil: discards

	// OnFatal is called when the storage has failed in a way that a running process must not paper over: a failed write or fsync (the kernel has
	// already marked the page clean, so a retry would lie). It should not return; nil logs and ends the process with exit code 74. If it does
	// return, the store answers everything that writes with ErrFailed from then on.
	OnFatal func(error)

	onTail  func(LSN)            // called after each commit, in order
	onClaim func(Segment, Entry) // called with each claim, in order; must not block
}

// EnsureDefaults fills in what is zero.
func (o *StoreOptions) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
		if o.Dir == "" {
			o.FS, o.Dir = vfs.NewMem(), "log"
		}
	}
	o.Window = cmp.Or(o.Window, DefaultWindow)
	o.CacheBytes = cmp.Or(o.CacheBytes, 16<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) { os.Exit(fatalExit) }
	}
	if o.onTail == nil {
		o.onTail = func(LSN) {}
	}
	if o.onClaim == nil {
		o.onClaim = func(Segment, Entry) {}
	}
}

// Validate returns everything that is wrong, joined.
func (o *StoreOptions) Validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, fmt.Errorf("%w: no directory", ErrInvalid))
	}
	if o.NetworkID == (NetworkID{}) {
		errs = append(errs, fmt.Errorf("%w: no network id", ErrInvalid))
	}
	if o.Window < 1 {
		errs = append(errs, fmt.Errorf("%w: window of %d", ErrInvalid, o.Window))
	}
	return errors.Join(append(errs, o.Genesis.Validate())...)
}

// A Store is a node's own copy of the whole log: entries, record keys, marks and the chain of segments, in one pebble instance. Engines write it through a
// Replica and do not see its keys. It is the only thing on this node that decides which segment is the last.
//
// Methods may be called concurrently. Locks are taken in the order life, apply, trim, mu.
type Store struct {
	opts    StoreOptions
	db      *pebble.DB
	witness *witness // written under apply

	// life is held shared by whoever uses db, and exclusively by Close: pebble panics if it is used after its end. It guards nothing else, so
	// that I/O happens under it is its purpose.
	life struct {
		sync.RWMutex
		closed bool
	}
	failed atomic.Pointer[error] // set once, by fatal

	// apply makes writers of entries take turns, through the fsync.
	apply struct {
		sync.Mutex
		seq *Sequencer // of the last segment
	}

	trim sync.Mutex // makes trims take turns

	mu struct {
		sync.RWMutex
		segments []Segment       // the chain, by epoch, from 1
		marks    []mark          // marks[i] is that of segments[i]
		pending  *SignedRecovery // of the last segment, and begins behind next; nil if there is none
		next     LSN             // tail: the first LSN not written and synced as its engine asked for
		data     LSN             // of the newest entry of an application, as far as this process has seen one
		trimmed  LSN
		recent   recent
		held     map[Epoch]int // EngineAreas that are in use
		wake     chan struct{} // closed at the next change of anything above; nil if nobody waits
		extended chan struct{} // closed at the next change of segments; nil if nobody waits
	}
}

// A mark says how far a segment was applied on this node. It is written in one batch with the entries that it covers (invariant 7).
type mark struct {
	applied   uint64 // the engine's own position: everything up to it is in the store
	next      LSN    // State of the log after it
	unixMilli uint64
	digest    Digest
	sealed    bool
	observed  bool // entries have come by another way than the segment's engine
	based     bool // the members have ordered the Base, or an entry; always in the first segment, which takes nothing over
}

// OpenStore opens the log in the directory, or makes one. ErrLocked if somebody else has it open, ErrWrongNetwork if it is the log of another
// network, ErrCorrupt if what it finds does not hold together. The context is only asked for its end.
func OpenStore(ctx context.Context, opts StoreOptions) (*Store, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Store{opts: opts}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open log store %s: %w", opts.Dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	db, err := pebble.Open(s.opts.Dir, s.pebbleOptions())
	if err != nil {
		return openError(err)
	}
	s.db = db
	if s.witness, err = openWitness(s.opts.FS, s.opts.Dir); err != nil {
		return errors.Join(err, db.Close())
	}
	if err := s.load(); err != nil {
		return errors.Join(err, s.witness.file.Close(), db.Close())
	}
	return nil
}

// pebbleOptions pins the format, so that a newer pebble does not make a home unreadable for an older ledgerd without our saying so. From
// FormatWALSyncChunks on a write-ahead log tells rot from a torn tail; see "The end of the write-ahead log" in doc.go.
func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                 s.opts.FS,
		FormatMajorVersion: pebble.FormatTableFormatV6,
		CacheSize:          32 << 20,
		MemTableSize:       16 << 20,
		Logger:             storeLogger{s},
	}
	// A read that meets rot returns its error to the reader, who names the LSN. By default pebble would end the process here.
	o.EventListener = &pebble.EventListener{
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.opts.Logger.Error("log store corrupt", "detail", info.String())
		},
		// Pebble retries a flush or a compaction that failed, for ever and without a pause; Close would wait for it. A write that
		// failed once is not trusted again. Rot that a compaction meets is for the reader to find.
		BackgroundError: func(err error) {
			if !pebble.IsCorruptionError(err) {
				s.fatal(err)
			}
		},
	}
	return o
}

// openError turns pebble's errors into ours.
func openError(err error) error {
	var path *fs.PathError
	held := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) && !errors.As(err, &path)
	switch {
	case held || strings.Contains(err.Error(), "lock held by current process"): // pebble has no sentinel for it
		return fmt.Errorf("%w: is another ledgerd running on this home? (%v)", ErrLocked, err)
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w (%s)", ErrCorrupt, err, crdberrors.FlattenDetails(err)) // the details say where
	}
	return err
}

// storeLogger forwards pebble's own words.
type storeLogger struct{ s *Store }

func (l storeLogger) Infof(format string, args ...any) {
	if l.s.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		l.s.opts.Logger.Debug("pebble", "detail", fmt.Sprintf(format, args...))
	}
}

func (l storeLogger) Errorf(format string, args ...any) {
	l.s.opts.Logger.Error("pebble", "detail", fmt.Sprintf(format, args...))
}

func (l storeLogger) Fatalf(format string, args ...any) {
	f := fatalError{text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok {
			f.causes = append(f.causes, err)
		}
	}
	l.s.fatal(f)
}

// A fatalError keeps the errors among pebble's words, so that errors.Is finds the operating system's.
type fatalError struct {
	text   string
	causes []error
}

func (e fatalError) Error() string   { return e.text }
func (e fatalError) Unwrap() []error { return e.causes }

func (s *Store) fatal(cause error) {
	err := fmt.Errorf("log store %s: %w: %w", s.opts.Dir, ErrFailed, cause)
	if !s.failed.CompareAndSwap(nil, &err) {
		return
	}
	s.opts.Logger.Error("log store failed", "err", err)
	s.opts.OnFatal(err)
}

// failure returns the ErrFailed of a store that has failed, or nil. It must be asked after every commit too: pebble reports a failed commit
// through Fatalf alone, and if that returns, so does Apply, without an error.
func (s *Store) failure() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Keys: one byte says what, eight say where. doc.go draws them with their values.
const (
	keyApplied = 'a' // epoch -> mark
	keyEntry   = 'e' // lsn -> entry
	keyFormat  = 'f' // -> version, network id, window
	keyRecord  = 'i' // lsn -> record key, digest
	keyPending = 'r' // -> SignedRecovery
	keySegment = 's' // epoch -> segment
	keyTrim    = 't' // -> lsn, digest at it
	keyVouch   = 'v' // -> first epoch that this disk may begin to vote in
	keySealed  = 'z' // epoch -> SegmentEnd

	storeVersion = 2
	keyBytes     = 1 + 8
	pastBytes    = recordKeyBytes + len(Digest{})
)

func key[N ~uint64](what byte, n N) []byte { return putKey(make([]byte, keyBytes), what, n) }

func putKey[N ~uint64](k []byte, what byte, n N) []byte {
	k[0] = what
	binary.BigEndian.PutUint64(k[1:], uint64(n))
	return k
}

// keyEnd is past all keys of a kind.
func keyEnd(what byte) []byte { return []byte{what + 1} }

func keyNumber(k []byte) (uint64, error) {
	if len(k) != keyBytes {
		return 0, fmt.Errorf("%w: key %x in the log store", ErrCorrupt, k)
	}
	return binary.BigEndian.Uint64(k[1:]), nil
}

func (m mark) encode() []byte {
	w := &writer{b: []byte{markVersion}}
	w.u64(m.applied)
	w.u64(uint64(m.next))
	w.u64(m.unixMilli)
	w.fixed(m.digest[:])
	flags := byte(0)
	if m.sealed {
		flags |= markSealed
	}
	if m.based {
		flags |= markBased
	}
	if m.observed {
		flags |= markObserved
	}
	w.u8(flags)
	return w.b
}

const (
	markSealed = 1 << iota
	markBased
	markObserved
)

func decodeMark(b []byte) (mark, error) {
	r := &reader{b: b}
	if v := r.u8(); v != markVersion {
		r.fail("mark of version %d, want %d", v, markVersion)
	}
	m := mark{applied: r.u64(), next: LSN(r.u64()), unixMilli: r.u64(), digest: r.digest()}
	flags := r.u8()
	if flags&^(markSealed|markBased|markObserved) != 0 {
		r.fail("mark with the flags %x", flags)
	}
	m.sealed, m.based, m.observed = flags&markSealed != 0, flags&markBased != 0, flags&markObserved != 0
	return m, r.end()
}

func firstMark(seg Segment) mark {
	return mark{next: seg.Base, unixMilli: seg.BaseUnixMilli, digest: seg.BaseDigest, based: seg.Epoch == 1}
}

// load reads everything but the entries into memory, making the log first if the directory is new, and checks it.
func (s *Store) load() error {
	made, err := s.loadFormat()
	if err != nil {
		return err
	}
	if !made {
		if err := s.create(); err != nil {
			return err
		}
	}
	if err := s.loadChain(); err != nil {
		return err
	}
	trimmed, _, err := s.loadTrim()
	if err != nil {
		return err
	}
	s.mu.trimmed = trimmed
	head := s.mu.marks[len(s.mu.marks)-1]
	s.mu.next = head.next
	s.mu.recent.first = head.next
	if err := s.loadPending(head); err != nil {
		return err
	}
	window, err := s.loadWindow(head, keyEnd(keyRecord))
	if err != nil {
		return err
	}
	s.apply.seq = NewSequencer(s.mu.segments[len(s.mu.segments)-1], State{
		Next: head.next, Digest: head.digest, UnixMilli: head.unixMilli, Window: window,
	})
	if err := s.checkWitness(head); err != nil {
		return err
	}
	return s.checkEnd(head, trimmed)
}

func (s *Store) create() error {
	seg := genesisSegment(s.opts.NetworkID, s.opts.Genesis)
	format := &writer{b: []byte{storeVersion}}
	format.fixed(s.opts.NetworkID[:])
	format.u64(uint64(s.opts.Window))
	err := s.write(true, func(b *pebble.Batch) error {
		return errors.Join(
			b.Set([]byte{keyFormat}, format.b, nil),
			b.Set(key(keySegment, seg.Epoch), seg.Encode(), nil),
			b.Set(key(keyApplied, seg.Epoch), firstMark(seg).encode(), nil))
	})
	if err != nil {
		return err
	}
	// Pebble raises the format of a new database after it has begun the write-ahead log, which therefore lacks the synced offsets. Begin another.
	return s.db.Flush()
}

// loadFormat reports whether the directory holds a log; if so, it is one of this version, network and window.
func (s *Store) loadFormat() (bool, error) {
	v, err := s.get([]byte{keyFormat})
	if errors.Is(err, pebble.ErrNotFound) {
		it, err := s.db.NewIter(nil)
		if err != nil {
			return false, err
		}
		used := it.First()
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return false, err
		}
		if used {
			return false, fmt.Errorf("%w: the directory is not empty, but holds no log", ErrCorrupt)
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(v) == 0 || v[0] != storeVersion {
		return false, fmt.Errorf("log format %x is not known to this ledgerd, which reads %d", v[:min(1, len(v))], storeVersion)
	}
	r := &reader{b: v[1:]}
	network, window := NetworkID(r.digest()), r.u64()
	switch {
	case r.end() != nil:
		return false, fmt.Errorf("%w: format record: %v", ErrCorrupt, r.err)
	case network != s.opts.NetworkID:
		return false, fmt.Errorf("%w: the log is of network %v, the genesis of %v", ErrWrongNetwork, network, s.opts.NetworkID)
	case window != uint64(s.opts.Window):
		return false, fmt.Errorf("%w: the log was made with a window of %d, the options say %d", ErrInvalid, window, s.opts.Window)
	}
	return true, nil
}

// loadChain reads the segments and their marks, and checks that each begins where its predecessor ends.
func (s *Store) loadChain() error {
	err := s.scan(keySegment, 0, func(n uint64, v []byte) error {
		seg, err := DecodeSegment(v)
		if err != nil {
			return fmt.Errorf("%w: segment %d: %v", ErrCorrupt, n, err)
		}
		raw, err := s.get(key(keyApplied, n))
		if err != nil {
			return fmt.Errorf("%w: applied mark of epoch %d: %w", ErrCorrupt, n, err)
		}
		m, err := decodeMark(raw)
		if err != nil {
			return fmt.Errorf("%w: applied mark of epoch %d: %v", ErrCorrupt, n, err)
		}
		i := len(s.mu.segments)
		if n != uint64(i+1) || seg.Epoch != Epoch(n) || seg.Network != s.opts.NetworkID {
			return fmt.Errorf("%w: the chain has epoch %d of network %v at place %d", ErrCorrupt, seg.Epoch, seg.Network, i+1)
		}
		if i > 0 {
			if last := s.mu.marks[i-1]; !last.sealed || last.next != seg.Base || last.digest != seg.BaseDigest {
				return fmt.Errorf("%w: epoch %d starts at lsn %d, its predecessor ends before %d (sealed: %v)", ErrCorrupt, n, seg.Base, last.next, last.sealed)
			}
		}
		s.mu.segments = append(s.mu.segments, seg)
		s.mu.marks = append(s.mu.marks, m)
		return nil
	})
	if err != nil {
		return err
	}
	if n := len(s.mu.marks); n == 0 || s.mu.marks[n-1].sealed {
		return fmt.Errorf("%w: the chain of %d segments has no last one that is open", ErrCorrupt, n)
	}
	return nil
}

// loadTrim returns the trim point and the digest at it.
func (s *Store) loadTrim() (LSN, Digest, error) {
	v, err := s.get([]byte{keyTrim})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, Digest(s.opts.NetworkID), nil
	}
	if err != nil {
		return 0, Digest{}, err
	}
	r := &reader{b: v}
	lsn, digest := LSN(r.u64()), r.digest()
	if err := r.end(); err != nil {
		return 0, Digest{}, fmt.Errorf("%w: trim point: %v", ErrCorrupt, err)
	}
	return lsn, digest, nil
}

// loadWindow reads the record keys of the last W entries, which no trim has dropped. Those from the key end on are not looked at.
func (s *Store) loadWindow(head mark, end []byte) (*Window, error) {
	from := LSN(1)
	if w := LSN(s.opts.Window); head.next > w {
		from = head.next - w
	}
	window := NewWindow(s.opts.Window, from)
	err := s.scanTo(keyRecord, uint64(from), end, func(n uint64, v []byte) error {
		switch lsn := LSN(n); {
		case lsn != window.next:
			return corrupt(window.next, "its record key is missing, the next one there is of lsn %d", lsn)
		case len(v) != pastBytes:
			return corrupt(lsn, "its record key has %d bytes", len(v))
		case lsn == head.next-1 && Digest(v[recordKeyBytes:]) != head.digest:
			return corrupt(lsn, "its digest is not that of the applied mark")
		}
		window.add(LSN(n), RecordKey(v[:recordKeyBytes]))
		return nil
	})
	if err == nil && window.next != head.next {
		err = corrupt(window.next, "its record key is missing, the log was applied up to lsn %d", head.next-1)
	}
	return window, err
}

// checkedAtOpen is how many of the last entries are looked for at open; only the very last is read and verified.
const checkedAtOpen = 64

// checkEnd checks that the last entries are there, that there is nothing past them, and that the last one is what the mark says.
func (s *Store) checkEnd(head mark, trimmed LSN) error {
	if trimmed >= head.next {
		return fmt.Errorf("%w: trimmed up to lsn %d, applied up to %d", ErrCorrupt, trimmed, head.next-1)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key(keyEntry, trimmed+1), UpperBound: keyEnd(keyEntry)})
	if err != nil {
		return err
	}
	defer it.Close()
	want := head.next - 1
	for ok := it.Last(); ok && head.next-want <= checkedAtOpen; ok = it.Prev() {
		n, err := keyNumber(it.Key())
		if err != nil {
			return err
		}
		if LSN(n) != want {
			return corrupt(want, "the entry is missing, the one before it is lsn %d, the log was applied up to %d", n, head.next-1)
		}
		want--
	}
	if err := it.Error(); err != nil {
		return readError(want, err)
	}
	if want > trimmed && head.next-want <= checkedAtOpen {
		return corrupt(want, "the entry is missing, the log was trimmed up to %d and applied up to %d", trimmed, head.next-1)
	}
	if head.next == trimmed+1 {
		return nil
	}
	last, err := s.read(context.Background(), head.next-1, head.next, 1, 0)
	if err != nil {
		return err
	}
	if last[0].Digest != head.digest {
		return corrupt(head.next-1, "digest is %v, the applied mark says %v", last[0].Digest, head.digest)
	}
	return nil
}

// get returns a copy of a value.
func (s *Store) get(k []byte) ([]byte, error) {
	v, closer, err := s.db.Get(k)
	if err != nil {
		return nil, err
	}
	return slices.Clone(v), closer.Close()
}

// scan calls f for the keys of a kind from a number on. The value is valid during the call only.
func (s *Store) scan(what byte, from uint64, f func(n uint64, v []byte) error) error {
	return s.scanTo(what, from, keyEnd(what), f)
}

// scanTo ends before a key.
func (s *Store) scanTo(what byte, from uint64, end []byte, f func(n uint64, v []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key(what, from), UpperBound: end})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n, err := keyNumber(it.Key())
		if err != nil {
			return err
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return openError(err)
		}
		if err := f(n, v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return openError(err)
	}
	return nil
}

// write fills a batch and commits it. After an error nothing may be assumed about what is stored, and the store takes no more writes.
func (s *Store) write(sync bool, fill func(*pebble.Batch) error) error {
	if err := s.failure(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	err := fill(b)
	if err == nil {
		err = b.Commit(&pebble.WriteOptions{Sync: sync})
	}
	if err != nil {
		s.fatal(err)
	}
	return s.failure()
}

// enter keeps the database open until leave. ErrClosed if it is not.
func (s *Store) enter() error {
	s.life.RLock()
	if s.life.closed {
		s.life.RUnlock()
		return ErrClosed
	}
	return nil
}

func (s *Store) leave() { s.life.RUnlock() }

// Close ends the store; no call is in it any more when it returns, and blocked followers get ErrClosed. What was written is moved from the
// write-ahead log into tables first, whose checksums cover every block: the last record of a write-ahead log has no witness against rot.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.life.closed {
		return nil
	}
	s.life.closed = true
	s.publish(func() {})
	var err error
	if s.failure() == nil {
		err = s.db.Flush()
	}
	if err = errors.Join(err, s.witness.file.Close(), s.db.Close()); err != nil && s.failure() == nil {
		return fmt.Errorf("close log store %s: %w", s.opts.Dir, err)
	}
	return nil // a store that has failed has said so; pebble's complaints about it say nothing new
}

// publish changes what followers see, and wakes them.
func (s *Store) publish(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chain := len(s.mu.segments)
	change()
	wake(&s.mu.wake)
	if len(s.mu.segments) != chain {
		wake(&s.mu.extended)
	}
}

// wake closes the channel that others wait on, if there is one.
func wake(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

// waitOn returns the channel that the next wake closes. Since it is made on demand, a commit that nobody waits for makes none.
func waitOn(c *chan struct{}) <-chan struct{} {
	if *c == nil {
		*c = make(chan struct{})
	}
	return *c
}

// Segments returns the chain. The slice is the caller's; what its Specs point to is not.
func (s *Store) Segments() []Segment {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.mu.segments)
}

// Extended returns a channel that is closed when a segment has been added to the chain after the call.
func (s *Store) Extended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return waitOn(&s.mu.extended)
}

// lastData returns the LSN of the newest entry of an application that this process has seen; 0 if it has seen none.
func (s *Store) lastData() LSN {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.data
}

// based reports whether the last segment's members have begun to order, as far as this node knows.
func (s *Store) based() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.marks[len(s.mu.marks)-1].based
}

// Next returns the first LSN that this node does not hold.
func (s *Store) Next() LSN {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.next
}

// Trimmed returns the trim point: the last LSN that is gone, 0 if none is.
func (s *Store) Trimmed() LSN {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.trimmed
}

// Options returns what the store was opened with, defaults filled in, for engines to share its file system and logger.
func (s *Store) Options() StoreOptions { return s.opts }
