package observer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"ledgerd/consensus"
)

// ErrNeedsSnapshot: the other nodes have trimmed the entries that come next. This node can go on from a snapshot, or when one comes back that has them.
var ErrNeedsSnapshot = errors.New("entries are trimmed everywhere: a snapshot is needed")

// Peers are the other nodes. A consensus/peer.Peers is one. Its methods may be called concurrently; a context that ends lets them return.
type Peers interface {
	// Known returns the members, and whoever else may be asked: each node once, and not this one. It does not block.
	Known(members []consensus.Member) []consensus.Member
	// Follow calls take with a node's entries from an LSN on, dense, until take returns an error, which is returned as it is, or the node fails.
	Follow(ctx context.Context, m consensus.Member, from consensus.LSN, take func([]consensus.Entry) error) error
	// Status returns how a node's log is.
	Status(ctx context.Context, m consensus.Member) (consensus.Status, error)
	// Append lets one of the members order r, and goes on until it knows or ctx ends. ErrUnknownFate if r may be in. ErrInvalid and ErrTooLarge end it.
	Append(ctx context.Context, among []consensus.Member, r consensus.Record) (consensus.LSN, error)
	// Tail returns the tail as one of the members knows it.
	Tail(ctx context.Context, among []consensus.Member, c consensus.Consistency) (consensus.LSN, error)
}

// Options of the loglet. Zero means the default.
type Options struct {
	Peers Peers // required

	// Prove returns a proof that the segment's members ordered a log with that digest at an LSN, which it has from a node and has verified; an error if there is
	// none. Nothing is applied that is not proven. nil: the node that is followed is trusted.
	Prove func(ctx context.Context, from consensus.Member, seg consensus.Segment, lsn consensus.LSN, digest consensus.Digest) ([]byte, error)

	// CheckInterval is how often the other nodes are asked how far they are: after that long an observer leaves a node that gives it nothing for one that
	// is ahead. Default 2 s.
	CheckInterval time.Duration

	// OnStuck is told when the loglet cannot go on by itself: ErrNeedsSnapshot each time that it begins to be so, ErrDiverged and ErrFailed once. It must not
	// block, nor close the log from inside. Default: nobody is told.
	OnStuck func(error)
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	o.CheckInterval = cmp.Or(o.CheckInterval, 2*time.Second)
	if o.OnStuck == nil {
		o.OnStuck = func(error) {}
	}
}

// Validate returns everything that is wrong, joined.
func (o *Options) Validate() error {
	var errs []error
	if o.Peers == nil {
		errs = append(errs, fmt.Errorf("%w: Peers is missing", consensus.ErrInvalid))
	}
	if o.CheckInterval < 0 {
		errs = append(errs, fmt.Errorf("%w: CheckInterval is %v", consensus.ErrInvalid, o.CheckInterval))
	}
	return errors.Join(errs...)
}

// Engine returns the engine with these options: it opens any segment, whatever orders it.
func Engine(opts Options) consensus.Engine {
	return consensus.EngineFunc(func(_ context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
		l, err := Open(store, seg, opts)
		if err != nil {
			return nil, err
		}
		return l, nil
	})
}

// A Loglet is a consensus.Loglet on a node that does not order in the segment.
type Loglet struct {
	replica *consensus.Replica
	seg     consensus.Segment
	opts    Options
	logger  *slog.Logger
	cancel  context.CancelFunc // of run
	closing chan struct{}      // closed by Close
	ended   chan struct{}      // closed when nothing is applied any more: sealed, failed or closed
	look    chan struct{}      // holds a token if the watch should look now
	wait    sync.WaitGroup     // for run

	mu struct {
		sync.Mutex
		closed  bool
		err     error                       // why nothing is applied any more; nil if it is for the Seal or Close
		problem error                       // what is in the way now, for people
		trimmed bool                        // everybody who is ahead has trimmed what comes next
		heard   consensus.LSN               // the highest tail that a node has told of
		source  consensus.Member            // being followed, or the last that was
		leave   context.CancelFunc          // makes the follower leave it; nil if it follows nobody
		first   consensus.Member            // to be followed next
		against map[string]consensus.Member // by node key: whose entries contradict this node's log where it stands
	}
}

var (
	_ consensus.Loglet  = (*Loglet)(nil)
	_ consensus.Stopper = (*Loglet)(nil)
)

// StateFollowing and StateTrimmed are the states beside those that every engine has.
const (
	StateFollowing = "following"
	StateTrimmed   = consensus.StateTrimmed // ErrNeedsSnapshot
)

// Open opens the loglet of a segment over the store. The node follows from now on.
func Open(store *consensus.Store, seg consensus.Segment, opts Options) (*Loglet, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open observer: %w", err)
	}
	replica, err := store.Replica(seg.Epoch)
	if err != nil {
		return nil, fmt.Errorf("open observer: %w", err)
	}
	l := &Loglet{
		replica: replica, seg: seg, opts: opts, logger: store.Options().Logger.With("segment", seg.Epoch),
		closing: make(chan struct{}), ended: make(chan struct{}), look: make(chan struct{}, 1),
	}
	l.mu.against = map[string]consensus.Member{}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.wait.Go(func() { l.run(ctx) })
	return l, nil
}

// run follows until the Seal, a failure or Close.
func (l *Loglet) run(ctx context.Context) {
	defer close(l.ended)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { l.watch(watching) })
	err := l.follow(ctx)
	stop()
	watch.Wait()
	if err == nil || ctx.Err() != nil {
		return
	}
	l.logger.Error("observer stopped", "err", err)
	l.mu.Lock()
	l.mu.err = err
	l.mu.Unlock()
	l.opts.OnStuck(err)
}

// bound returns a context that ends with ctx, with Close, and when nothing is applied any more.
func (l *Loglet) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-l.closing:
			cancel()
		case <-l.ended:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel()
		watch.Wait()
	}
}

// Append is consensus.Loglet.Append: a member orders r, and the answer is given when the entry is here.
func (l *Loglet) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	if err := errors.Join(l.live(), ctx.Err()); err != nil {
		return 0, err
	}
	if tail, err := l.replica.Tail(); err != nil || tail.Sealed {
		return l.answerSealed(r, err)
	}
	bounded, done := l.bound(ctx)
	defer done()
	lsn, err := l.opts.Peers.Append(bounded, l.seg.Spec.Members, r)
	switch {
	case err != nil:
		return l.refused(ctx, r, err)
	case lsn < l.seg.Base:
		return 0, consensus.DuplicateError{LSN: lsn}
	}
	l.hear(lsn + 1)
	o := l.seg.Offset(lsn)
	e, err := l.await(bounded, o)
	if err != nil && l.sealed() {
		return l.ordered(ctx, r, lsn)
	}
	switch {
	case err == nil && e != nil && e.Record.Key() != r.Key():
		return 0, fmt.Errorf("%w: a peer said that record %v is lsn %d, which is %v", consensus.ErrUnknownFate, r.ID, lsn, e.Record.ID)
	case err == nil:
		return o, nil
	}
	return 0, fmt.Errorf("%w: it was ordered as lsn %d, which is not here yet: %w", consensus.ErrUnknownFate, lsn, l.reason(ctx, err))
}

// ordered answers an append after the Seal of which a member has said that it is at an LSN. If that lies in the next segments, ErrSealed would have it appended again
// there, when more than W others may have come since.
func (l *Loglet) ordered(ctx context.Context, r consensus.Record, lsn consensus.LSN) (consensus.Offset, error) {
	tail, err := l.replica.Tail()
	if err == nil && l.seg.Offset(lsn) < tail.Offset {
		e, err := l.await(ctx, l.seg.Offset(lsn))
		if err != nil || e == nil || e.Record.Key() == r.Key() {
			return l.seg.Offset(lsn), err
		}
	}
	o, err := l.answerSealed(r, err)
	if errors.Is(err, consensus.ErrSealed) && l.seg.Offset(lsn) >= tail.Offset {
		return 0, consensus.LaterError{LSN: lsn}
	}
	return o, err
}

// refused says what an append is told that no member has taken.
func (l *Loglet) refused(ctx context.Context, r consensus.Record, err error) (consensus.Offset, error) {
	unknown := errors.Is(err, consensus.ErrUnknownFate)
	switch {
	case l.sealed(): // this node knows by itself what became of r
		return l.answerSealed(r, nil)
	case errors.Is(err, consensus.ErrTooLarge) && !unknown:
		return 0, fmt.Errorf("%w: %v", consensus.ErrTooLarge, err)
	case errors.Is(err, consensus.ErrInvalid) && !unknown:
		// A Seal is not invalid but late if another one was first. The peer, who has gone on to the next segment, no longer tells one from the other.
		if r.App == consensus.AppLog {
			if tail, err := l.Tail(ctx, consensus.Consistent); err == nil && tail.Sealed {
				return l.answerSealed(r, nil)
			}
		}
		return 0, fmt.Errorf("%w: %v", consensus.ErrInvalid, err)
	case unknown:
		return 0, fmt.Errorf("%w: %w", consensus.ErrUnknownFate, l.reason(ctx, err))
	}
	return 0, l.reason(ctx, err)
}

// answerSealed answers an append after the Seal, or, with an error, why it cannot.
func (l *Loglet) answerSealed(r consensus.Record, err error) (consensus.Offset, error) {
	if err != nil {
		return 0, err
	}
	return l.replica.AnswerSealed(r)
}

// reason returns why a call that needed the others ended: its own context, the loglet's end, or else what they said, of which the sentinels are theirs.
func (l *Loglet) reason(ctx context.Context, err error) error {
	l.mu.Lock()
	problem := errors.Join(l.mu.err, l.mu.problem)
	l.mu.Unlock()
	switch {
	case l.live() != nil:
		return l.live()
	case l.Stopped() != nil:
		return l.Stopped()
	case ctx.Err() != nil && problem != nil:
		return fmt.Errorf("%w: %v: %v", ctx.Err(), err, problem)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %v", ctx.Err(), err)
	case errors.Is(err, consensus.ErrClosed): // the connections to the others are
		return fmt.Errorf("%w: %v", consensus.ErrClosed, err)
	}
	return fmt.Errorf("%w: %v", errPeers, err)
}

// errPeers is an error of others.
var errPeers = errors.New("peers")

// await waits until there is an entry at o. nil without an error: it has been here, and was trimmed.
func (l *Loglet) await(ctx context.Context, o consensus.Offset) (*consensus.Entry, error) {
	entries, err := l.replica.Follow(ctx, o, 1)
	switch {
	case errors.Is(err, consensus.ErrTrimmed):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &entries[0], nil
}

// Seal is consensus.Loglet.Seal. Whether the Seal is valid is decided at its turn.
func (l *Loglet) Seal(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if _, err := consensus.SealOf(r); err != nil {
		return 0, err
	}
	return l.Append(ctx, r)
}

// Tail is consensus.Loglet.Tail. A consistent one is that of a member, which this node waits for: until ctx ends, if no member can say or it is far behind.
func (l *Loglet) Tail(ctx context.Context, c consensus.Consistency) (consensus.Tail, error) {
	if err := errors.Join(l.live(), ctx.Err()); err != nil {
		return consensus.Tail{}, err
	}
	if c == consensus.Fast || l.sealed() {
		return l.replica.Tail()
	}
	bounded, done := l.bound(ctx)
	defer done()
	for pause := minPause; ; {
		lsn, err := l.opts.Peers.Tail(bounded, l.seg.Spec.Members, consensus.Consistent)
		if err == nil && lsn > l.seg.Base {
			l.hear(lsn)
			_, err = l.await(bounded, l.seg.Offset(lsn-1))
		}
		switch {
		case err == nil, l.sealed():
			return l.replica.Tail()
		case bounded.Err() != nil:
			return consensus.Tail{}, l.reason(ctx, err)
		}
		rest(bounded, nil, &pause)
	}
}

// Read is consensus.Loglet.Read.
func (l *Loglet) Read(ctx context.Context, lo, hi consensus.Offset) ([]consensus.Entry, error) {
	return l.replica.Read(ctx, lo, hi)
}

// Follow is consensus.Loglet.Follow.
func (l *Loglet) Follow(ctx context.Context, from consensus.Offset, limit int) ([]consensus.Entry, error) {
	return l.replica.Follow(ctx, from, limit)
}

// Trim is consensus.Loglet.Trim.
func (l *Loglet) Trim(ctx context.Context, upTo consensus.Offset) error {
	return l.replica.Trim(ctx, upTo)
}

func (l *Loglet) live() error {
	select {
	case <-l.closing:
		return consensus.ErrClosed
	default:
		return nil
	}
}

func (l *Loglet) sealed() bool { return l.replica.Position().Sealed }

// Stopped is consensus.Stopper.Stopped: ErrDiverged, or what became of the storage.
func (l *Loglet) Stopped() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// hear notes that somebody's tail is at least there.
func (l *Loglet) hear(tail consensus.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.heard = max(l.mu.heard, tail)
}

// Status is consensus.Loglet.Status. The detail tells how many entries this node is known to be behind, whom it follows, and what is in its way.
func (l *Loglet) Status() consensus.LogletStatus {
	p := l.replica.Position()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := consensus.LogletStatus{
		Engine: l.seg.Spec.Engine, Epoch: l.seg.Epoch, State: StateFollowing, Tail: l.seg.Offset(p.Next), Sealed: p.Sealed,
		Detail: map[string]string{"role": "observer", "behind": "0", "from": strconv.FormatUint(l.mu.source.ID, 10)},
	}
	if l.mu.heard > p.Next && !p.Sealed {
		s.Detail["behind"] = strconv.FormatUint(uint64(l.mu.heard-p.Next), 10)
	}
	if err := cmp.Or(l.mu.err, l.mu.problem); err != nil {
		s.Detail["problem"] = err.Error()
	}
	switch {
	case l.mu.closed:
		s.State = consensus.StateClosed
	case l.mu.err != nil:
		s.State = consensus.StateFailed
	case p.Sealed:
		s.State = consensus.StateSealed
	case l.mu.trimmed:
		s.State = StateTrimmed
	}
	return s
}

// Close is consensus.Loglet.Close.
func (l *Loglet) Close() error {
	l.mu.Lock()
	first := !l.mu.closed
	l.mu.closed = true
	l.mu.Unlock()
	if first {
		close(l.closing)
		l.cancel()
	}
	l.wait.Wait()
	l.replica.Close()
	return nil
}
