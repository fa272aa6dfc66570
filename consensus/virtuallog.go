package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Options of Open. Zero means the default.
type Options struct {
	FS        vfs.FS    // nil: with a Dir the operating system's, without one memory
	Dir       string    // the log's own directory
	NetworkID NetworkID // hash of the genesis file
	Genesis   Spec      // of the first segment; the stored chain, once there is one, alone decides what is opened
	Window    int       // W: within how many LSNs a repeated record id is void. A constant of the network. Default DefaultWindow

	// Engines opens the loglet of a segment that this node orders, by the engine's name. `cmd` fills it in: nothing else names an engine.
	Engines map[string]Engine
	// Observe opens that of a segment which this node does not order. nil: a node that is no member cannot open the log (ErrNotMember).
	Observe Engine

	Self        ed25519.PrivateKey // node key; nil: this node has no name, takes every segment to be its own to order, and prepares for none with members
	Peers       Peers              // nil: there are none
	Application Application        // whose log it is
	Switcher    SwitcherOptions    // its Self and Alone are set from the fields above
	Attempt     AttemptOptions     // of Reconfigure
	Claims      ClaimOptions

	// OnChain is called with the stored chain, and the segments that this node has prepared for, before anything is done about a change of either: who may
	// connect follows from it. It must not block.
	OnChain func(chain, prepared []Segment)
	// OnHalt is called once when this node must not go on: its history is not the members' (ErrDiverged), or holds more than a recovery has left (ErrCutOff), or
	// its engine has failed (ErrEngineFailed). The process should end. nil: it is logged, and the log answers with the error.
	OnHalt func(error)

	CacheBytes int64                 // see StoreOptions
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics are shown. Logs that share one add up; wrap it with a label to tell them apart
	OnFatal    func(error)           // see StoreOptions
}

// A VirtualLog is the log that applications use: one sequence of entries over a chain of segments. Its methods may be called concurrently. A
// context that ends lets a blocked call return its error; after Close, every call that can fail returns ErrClosed, blocked ones too.
type VirtualLog struct {
	opts    Options
	store   *Store
	logger  *slog.Logger
	metrics *metrics
	claims  *claims

	closing chan struct{} // closed by Close
	cancel  context.CancelFunc
	wait    sync.WaitGroup // for the switching goroutine, and whatever it started
	once    sync.Once
	err     error // of Close

	halted atomic.Pointer[error] // set once: why this node must not go on (Options.OnHalt)

	// What serves the segments, decided by the Switcher. Only Open and then the switching goroutine touch it.
	switching struct {
		switcher *Switcher
		engines  map[Epoch]Loglet // that were opened and not closed
		events   chan func(*SwitchInputs)

		explaining bool // an engine stopped with ErrDiverged
	}

	mu struct {
		sync.RWMutex
		links    []link        // of the chain, by epoch from 1; may be one short of the stored chain while an engine opens
		role     Role          // in the last of them
		changed  chan struct{} // closed when links has changed; nil if nobody waits
		problem  error         // why the last stored segment has no link
		denied   error         // why this node, a member of it, does not order
		prepared []Segment     // requests for the next epoch that this node is ready for
	}
}

// A link is a segment with the loglet that serves it: an engine for the last one, the stored copy for the others.
type link struct {
	seg    Segment
	loglet Loglet
}

// Bounds of the pause between two attempts, at an append of unknown fate and at opening an engine.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Open opens the log in opts.Dir, or makes it, and starts the engine of the last segment in the stored chain. ErrLocked, ErrWrongNetwork and
// ErrCorrupt as in OpenStore; ErrInvalid for bad options or an engine that opts.Engines does not have. The context bounds the opening.
func Open(ctx context.Context, opts Options) (*VirtualLog, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	v := &VirtualLog{opts: opts, logger: opts.Logger, metrics: m, closing: make(chan struct{})}
	v.claims = newClaims(v)
	v.store, err = OpenStore(ctx, StoreOptions{
		FS: opts.FS, Dir: opts.Dir, NetworkID: opts.NetworkID, Genesis: opts.Genesis, Window: opts.Window, CacheBytes: opts.CacheBytes,
		Logger: opts.Logger, OnFatal: opts.OnFatal,
		onTail:  func(lsn LSN) { m.tail.Set(float64(lsn)) },
		onClaim: v.claims.ordered,
	})
	if err != nil {
		return nil, err
	}
	m.tail.Set(float64(v.store.Next()))
	if err := v.openLast(ctx); err != nil {
		close(v.closing)
		v.wait.Wait()
		return nil, errors.Join(err, v.closeLoglets(), v.store.Close())
	}
	running, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	v.wait.Go(func() { v.switchSegments(running) })
	v.wait.Go(func() { v.claims.run(running) })
	return v, nil
}

// current returns the last link and a channel that is closed when there is another.
func (v *VirtualLog) current() (link, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.links[len(v.mu.links)-1], waitOn(&v.mu.changed)
}

// at returns the link that an LSN falls into, and the first LSN after it; 0 for the last link, which has no end.
func (v *VirtualLog) at(lsn LSN) (link, LSN) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	end := LSN(0)
	for _, l := range slices.Backward(v.mu.links) {
		if l.seg.Base <= lsn {
			return l, end
		}
		end = l.seg.Base
	}
	panic(fmt.Sprintf("consensus: no segment holds lsn %d", lsn))
}

func (v *VirtualLog) live() error {
	select {
	case <-v.closing:
		return ErrClosed
	default:
	}
	if err := v.halted.Load(); err != nil {
		return *err
	}
	return nil
}

// sleep waits for the pause, or less if ctx or closing ends, and doubles it.
func sleep(ctx context.Context, closing <-chan struct{}, pause *time.Duration) {
	t := time.NewTimer(*pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-closing:
	}
	*pause = min(2**pause, maxBackoff)
}

// settle waits for the successor of a sealed or closed link. nil: look again.
func (v *VirtualLog) settle(ctx context.Context, changed <-chan struct{}) error {
	if err := v.live(); err != nil {
		return err
	}
	select {
	case <-changed:
		return v.live()
	case <-v.closing:
		return ErrClosed
	case <-ctx.Done():
		v.mu.RLock()
		defer v.mu.RUnlock()
		return errors.Join(ctx.Err(), v.mu.problem)
	}
}

// Append orders r and returns its LSN once it is durable at a quorum and readable here. The log keeps r.Payload, which must not be changed any
// more. A record that is one of the last W entries already (Record.Key) is not ordered again: its LSN is returned.
//
// Append goes on, with the same record, when the fate of an attempt is unknown, and in the next segment when one is sealed, until it knows or ctx
// ends. ErrInvalid, ErrTooLarge, and ErrClosed or a context error without ErrUnknownFate, mean that r is surely not in the log.
func (v *VirtualLog) Append(ctx context.Context, r Record) (LSN, error) {
	start := time.Now()
	lsn, err := v.append(ctx, r)
	v.metrics.appended(r, err, time.Since(start))
	if err != nil {
		return 0, fmt.Errorf("append %s record %v: %w", r.App, r.ID, err)
	}
	return lsn, nil
}

func (v *VirtualLog) append(ctx context.Context, r Record) (LSN, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	var a Appending
	for pause := minBackoff; ; {
		if err := errors.Join(v.live(), ctx.Err()); err != nil {
			return 0, a.Err(err)
		}
		cur, changed := v.current()
		offset, err := cur.loglet.Append(ctx, r)
		lsn, next := a.Answered(cur.seg, offset, err, ctx.Err() != nil)
		switch next {
		case AppendDone:
			return lsn, nil
		case AppendEnd:
			return 0, a.Err(err)
		case AppendElsewhere:
			if err := v.settle(ctx, changed); err != nil {
				return 0, a.Err(err)
			}
		case AppendLook:
			switch held, err := v.holds(ctx, lsn, r); {
			case err != nil:
				return 0, a.Err(err)
			case held:
				return lsn, nil
			}
		case AppendAgain:
			v.metrics.retries.Inc()
			v.logger.Debug("append again", "segment", cur.seg.Epoch, "err", err)
			sleep(ctx, v.closing, &pause)
		}
	}
}

// holds waits until this node has come to an LSN, and reports whether a record is there. If it is trimmed already, it cannot be told.
func (v *VirtualLog) holds(ctx context.Context, lsn LSN, r Record) (bool, error) {
	entries, err := v.Follow(ctx, lsn, 1)
	if errors.Is(err, ErrTrimmed) {
		return false, nil
	}
	return err == nil && entries[0].Record.Key() == r.Key(), err
}

// Tail returns the first unwritten LSN: 1 on an empty log. With Consistent it is not below any append that was acknowledged, to anybody, before the
// call; with Fast it is what this node holds.
func (v *VirtualLog) Tail(ctx context.Context, c Consistency) (LSN, error) {
	for {
		if err := errors.Join(v.live(), ctx.Err()); err != nil {
			return 0, fmt.Errorf("tail: %w", err)
		}
		if c == Fast {
			return v.store.Next(), nil
		}
		cur, changed := v.current()
		tail, err := cur.loglet.Tail(ctx, c)
		if err == nil && !tail.Sealed {
			return cur.seg.LSN(tail.Offset), nil
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			return 0, fmt.Errorf("tail: %w", err)
		}
		if err := v.settle(ctx, changed); err != nil { // sealed: its successor may have taken appends
			return 0, fmt.Errorf("tail: %w", err)
		}
	}
}

// Read returns the entries in [lo, hi), each verified against its predecessor's digest. The caller owns the slice, not the payloads. lo == hi reads
// nothing, without an error. ErrTrimmed if lo is gone, ErrUnwritten if hi lies past this node's tail, ErrInvalid if lo > hi or lo is 0, ErrCorrupt,
// naming the LSN, if what is stored cannot be trusted. All of the range is held in memory: use Follow to walk.
func (v *VirtualLog) Read(ctx context.Context, lo, hi LSN) ([]Entry, error) {
	if lo == 0 || lo > hi {
		return nil, fmt.Errorf("read lsn %d to %d: %w", lo, hi, ErrInvalid)
	}
	if err := errors.Join(v.live(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("read lsn %d to %d: %w", lo, hi, err)
	}
	if next := v.store.Next(); lo < hi && hi > next {
		return nil, fmt.Errorf("read lsn %d to %d: tail is %d: %w", lo, hi, next, ErrUnwritten)
	}
	var all []Entry
	for at := lo; at < hi; {
		cur, end := v.at(at)
		if end == 0 || end > hi {
			end = hi
		}
		entries, err := cur.loglet.Read(ctx, cur.seg.Offset(at), cur.seg.Offset(end))
		if again, err := v.again(ctx, cur, err); err != nil {
			return nil, fmt.Errorf("read lsn %d to %d: %w", lo, hi, err)
		} else if again {
			continue
		}
		if all == nil {
			all = entries
		} else {
			all = append(all, entries...)
		}
		at = end
	}
	return all, nil
}

// again decides about a read error. A loglet that was replaced under a reader returns ErrClosed, and one that was sealed does not know the entries
// that lie in its successor: the reader looks the link up again, waiting for it if need be.
func (v *VirtualLog) again(ctx context.Context, used link, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	if closed := v.live(); closed != nil {
		return false, closed
	}
	if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrSealed) && !(errors.Is(err, ErrUnwritten) && v.sealed(used)) {
		return false, err
	}
	for {
		cur, changed := v.current()
		if cur.seg.Epoch > used.seg.Epoch || cur.loglet != used.loglet {
			return true, nil
		}
		if err := v.settle(ctx, changed); err != nil {
			return false, err
		}
	}
}

// sealed says whether the stored chain goes on behind a link.
func (v *VirtualLog) sealed(l link) bool {
	segments := v.store.Segments()
	return segments[len(segments)-1].Epoch > l.seg.Epoch
}

// Follow blocks until there is an entry at from, and returns the entries from there on: at least one, at most limit (<= 0: DefaultFollowLimit), no
// more than fit MaxFollowBytes after the first, and all of one segment. ErrInvalid if from is 0; ErrTrimmed and ErrCorrupt as in Read.
func (v *VirtualLog) Follow(ctx context.Context, from LSN, limit int) ([]Entry, error) {
	if from == 0 {
		return nil, fmt.Errorf("follow from lsn 0: %w", ErrInvalid)
	}
	for {
		if err := errors.Join(v.live(), ctx.Err()); err != nil {
			return nil, fmt.Errorf("follow from lsn %d: %w", from, err)
		}
		cur, _ := v.at(from)
		entries, err := cur.loglet.Follow(ctx, cur.seg.Offset(from), limit)
		if again, err := v.again(ctx, cur, err); err != nil {
			return nil, fmt.Errorf("follow from lsn %d: %w", from, err)
		} else if !again {
			return entries, nil
		}
	}
}

// Trim drops the entries up to and including upTo from this node, and no others'. It is idempotent, never moves back, and leaves what the dedup
// window needs. ErrUnwritten if upTo is not below the tail.
func (v *VirtualLog) Trim(ctx context.Context, upTo LSN) error {
	if next := v.store.Next(); upTo >= next {
		return fmt.Errorf("trim up to lsn %d: tail is %d: %w", upTo, next, errors.Join(v.live(), ErrUnwritten))
	}
	for at := v.Trimmed() + 1; at <= upTo; {
		if err := errors.Join(v.live(), ctx.Err()); err != nil {
			return fmt.Errorf("trim up to lsn %d: %w", upTo, err)
		}
		cur, end := v.at(at)
		last := upTo
		if end != 0 {
			last = min(upTo, end-1)
		}
		err := cur.loglet.Trim(ctx, cur.seg.Offset(last))
		if again, err := v.again(ctx, cur, err); err != nil {
			return fmt.Errorf("trim up to lsn %d: %w", upTo, err)
		} else if !again {
			at = last + 1
		}
	}
	return v.live()
}

// Trimmed returns the last trimmed LSN; 0 if none is.
func (v *VirtualLog) Trimmed() LSN { return v.store.Trimmed() }

// DigestAt returns the digest of the log up to and including an LSN; that of 0 is the network id. ErrUnwritten at or past this node's tail;
// ErrTrimmed for what lies so far below the trim point, and below the dedup window, that this node has forgotten it.
func (v *VirtualLog) DigestAt(ctx context.Context, lsn LSN) (Digest, error) {
	if err := errors.Join(v.live(), ctx.Err()); err != nil {
		return Digest{}, fmt.Errorf("digest at lsn %d: %w", lsn, err)
	}
	return v.store.DigestAt(lsn)
}

// Segments returns the chain as this node has stored it. The slice is the caller's; what its Specs point to is not.
func (v *VirtualLog) Segments() []Segment { return v.store.Segments() }

// NetworkID returns the network's id.
func (v *VirtualLog) NetworkID() NetworkID { return v.store.opts.NetworkID }

// Status says how the log is, for people and dashboards. It never blocks on I/O.
func (v *VirtualLog) Status() Status {
	segments := v.store.Segments()
	last := segments[len(segments)-1]
	v.mu.RLock()
	loglet, role, problem, prepared := v.mu.links[len(v.mu.links)-1].loglet, v.mu.role, v.mu.problem, v.mu.prepared
	denied := v.mu.denied
	v.mu.RUnlock()
	s := Status{
		NetworkID: v.NetworkID(),
		Epoch:     last.Epoch,
		Base:      last.Base,
		Engine:    last.Spec.Engine,
		Tail:      v.store.Next(),
		Trimmed:   v.store.Trimmed(),
		Loglet:    loglet.Status(),
		Based:     v.store.based(),
		Role:      role.String(),
		Dissent:   v.claims.dissenters(),
	}
	for _, p := range prepared {
		s.Prepared = append(s.Prepared, p.Identity)
	}
	if denied != nil {
		s.Notice = denied.Error()
	}
	if problem != nil {
		s.Problem = problem.Error()
	}
	return s
}

// Close closes the engine and the store, and returns when the last goroutine has ended. Closing again returns the same error.
func (v *VirtualLog) Close() error {
	v.once.Do(func() {
		close(v.closing)
		v.cancel()
		v.wait.Wait()
		v.err = errors.Join(v.closeLoglets(), v.store.Close())
	})
	return v.err
}
