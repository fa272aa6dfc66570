package comet

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cometbft/cometbft/types"

	"ledgerd/consensus"
)

// Name is the engine's name in a consensus.Spec.
const Name = "comet"

// Options of the engine. Zero means the default.
type Options struct {
	NodeKey      ed25519.PrivateKey // this node's; the other members know it by it. Required
	ConsensusKey ed25519.PrivateKey // with which it votes. Required
	// Dir is the folder of CometBFT's own write-ahead logs, one for each epoch, on the operating system's file system. Required.
	Dir string
	// Listen are the addresses to listen on, in even and in odd epochs. Default: those at which the spec has the others reach this node.
	Listen [2]string
	// Address says where another member is reached, in even (0) or odd (1) epochs. Default: where the spec says.
	Address func(m consensus.Member, parity int) string
	// Now is the wall clock that this node's proposals are stamped with. Default time.Now. It may jump; the log's clock does not go back.
	Now func() time.Time

	MaxQueueBytes   int           // of own appends that are not answered; more wait. Default 64 MiB, not less than one record
	MaxForeignBytes int           // of memory for appends that wait here for another member, for each of them; more are refused and come again. Default 16 MiB
	PrepareTimeout  time.Duration // after which what was prepared for an epoch that has not come is taken down. Default 2 min

	Metrics *Metrics // nil: none

	villain func(l *Loglet, honest types.PrivValidator) villain // makes a member that lies, in a build that has one; nil: an honest member
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Address == nil {
		o.Address = func(m consensus.Member, parity int) string { return m.CometAddresses[parity] }
	}
	o.MaxQueueBytes = cmp.Or(o.MaxQueueBytes, 64<<20)
	o.MaxForeignBytes = cmp.Or(o.MaxForeignBytes, 16<<20)
	o.PrepareTimeout = cmp.Or(o.PrepareTimeout, 2*time.Minute)
}

// Validate returns everything that is wrong, joined.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{consensus.ErrInvalid}, args...)...))
	}
	if len(o.NodeKey) != ed25519.PrivateKeySize || len(o.ConsensusKey) != ed25519.PrivateKeySize {
		bad("NodeKey or ConsensusKey is missing")
	}
	if o.Dir == "" {
		bad("Dir is missing")
	}
	if min(o.MaxQueueBytes, o.MaxForeignBytes) < consensus.MaxRecordBytes {
		bad("MaxQueueBytes %d, MaxForeignBytes %d: less than one record of %d", o.MaxQueueBytes, o.MaxForeignBytes, consensus.MaxRecordBytes)
	}
	return errors.Join(errs...)
}

// An Engine is the engine on one node. It holds what is prepared for an epoch that may come. Close it when the log is closed.
type Engine struct {
	opts Options
	mu   struct {
		sync.Mutex
		closed   bool
		prepared *Loglet     // nil: nothing is
		expires  *time.Timer // of prepared
		kept     uint64      // how often expires was set
		last     [2]*Loglet  // opened, by parity of the epoch: it is in the way of the next one on its port
	}
}

var (
	_ consensus.Engine   = (*Engine)(nil)
	_ consensus.Attester = (*Engine)(nil)
)

// New returns the engine with these options.
func New(opts Options) (*Engine, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("comet engine: %w", err)
	}
	return &Engine{opts: opts}, nil
}

// Open implements consensus.Engine. What Prepare has begun for the epoch goes on; else the loglet begins here, or where it stood when it was closed.
func (e *Engine) Open(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	l, err := e.open(ctx, store, seg)
	if err != nil {
		return nil, fmt.Errorf("open comet loglet: %w", err)
	}
	return l, nil
}

func (e *Engine) open(ctx context.Context, store *consensus.Store, seg consensus.Segment) (*Loglet, error) {
	replica, err := store.Replica(seg.Epoch)
	if err != nil {
		return nil, err
	}
	l, fresh, err := e.admit(store, seg, replica)
	if err != nil {
		return nil, err
	}
	if l == nil {
		e.makeWay(seg.Epoch, nil)
		if fresh {
			if err := wipeWAL(e.walDir(seg)); err != nil {
				return nil, err
			}
		}
		if l, err = e.build(ctx, store, seg, replica); err != nil {
			return nil, err
		}
	}
	e.forgetWALs(seg.Epoch)
	if err := l.begin(seg, replica); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	e.makeWay(seg.Epoch, l)
	return l, nil
}

// admit has this node enter the epoch, and returns what is prepared for it, if anything is. Both under the lock: no Prepare removes what Open has written.
func (e *Engine) admit(store *consensus.Store, seg consensus.Segment, replica *consensus.Replica) (prepared *Loglet, fresh bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	prepared = e.take(seg)
	fresh, err = e.enter(store, seg, replica, prepared != nil)
	if err != nil && prepared != nil {
		prepared.discard()
	}
	return prepared, fresh, err
}

// Prepare implements consensus.Engine: CometBFT is started, without its consensus, and connects to the next members. It signs nothing before Open. What was
// prepared before for another request is taken down.
func (e *Engine) Prepare(ctx context.Context, store *consensus.Store, next consensus.Segment) error {
	if err := e.prepare(ctx, store, next); err != nil {
		return fmt.Errorf("prepare comet loglet: %w", err)
	}
	return nil
}

func (e *Engine) prepare(ctx context.Context, store *consensus.Store, next consensus.Segment) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		return consensus.ErrClosed
	}
	if p := e.mu.prepared; p != nil && p.seg.Identity == next.Identity {
		e.keep()
		return nil
	}
	e.abandon()
	if err := e.clean(store, next); err != nil {
		return err
	}
	if old := e.mu.last[parity(next.Epoch)]; old != nil {
		old.leave() // it is of two epochs before
		e.mu.last[parity(next.Epoch)] = nil
	}
	l, err := e.build(ctx, store, next, nil)
	if err != nil {
		return err
	}
	e.mu.prepared = l
	e.keep()
	return nil
}

// keep has what is prepared taken down after a while, counted from now. The caller holds the lock.
func (e *Engine) keep() {
	if e.mu.expires != nil {
		e.mu.expires.Stop()
	}
	e.mu.kept++
	kept := e.mu.kept
	e.mu.expires = time.AfterFunc(e.opts.PrepareTimeout, func() { e.expire(kept) })
}

// expire takes down what is prepared, unless it was asked for again since: Stop does not hold back a timer that waits for the lock.
func (e *Engine) expire(kept uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.kept == kept {
		e.abandon()
	}
}

// abandon takes down what is prepared. The caller holds the lock.
func (e *Engine) abandon() {
	if p := e.mu.prepared; p != nil {
		e.mu.expires.Stop()
		p.discard()
		e.mu.prepared = nil
	}
}

// take returns what is prepared for a segment, or nil, and takes down what is prepared for another in its place. The caller holds the lock.
func (e *Engine) take(seg consensus.Segment) *Loglet {
	p := e.mu.prepared
	switch {
	case p == nil || p.seg.Epoch > seg.Epoch:
		return nil
	case p.seg.Identity != seg.Identity:
		e.abandon()
		return nil
	}
	e.mu.expires.Stop()
	e.mu.prepared = nil
	return p
}

// makeWay has the loglet that was opened last on an epoch's port leave it, if it is there still, and notes who has it now.
func (e *Engine) makeWay(epoch consensus.Epoch, l *Loglet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.mu.last[parity(epoch)]; old != nil && old != l {
		old.leave()
	}
	e.mu.last[parity(epoch)] = l
}

// Close takes down what is prepared.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.closed = true
	e.abandon()
	return nil
}

// A Loglet is a consensus.Loglet whose members agree by CometBFT.
type Loglet struct {
	node // CometBFT, and what it is given

	opts    Options
	seg     consensus.Segment // its place in the log is not known while it is only prepared
	store   *consensus.Store
	replica *consensus.Replica // nil while it is only prepared
	room    *consensus.Room
	closing chan struct{} // closed by Close
	begun   bool          // consensus was started
	wait    sync.WaitGroup
	drained chan struct{} // closed once every member has reported the Seal
	drain   sync.Once     // of its closing
	left    sync.Once

	mu struct {
		sync.Mutex
		closed   bool
		offer    offer                                // of the block that comes next
		err      error                                // set once nothing is taken in any more: ErrClosed, or why it stopped
		waiting  map[consensus.RecordKey][]*appending // own appends
		barriers map[nonce]chan struct{}              // closed when a block has brought it
		round    *tailRound                           // that is under way
		next     *tailRound                           // for whoever asks meanwhile
	}
}

var _ interface {
	consensus.Loglet
	consensus.Drainer
	consensus.Stopper
} = (*Loglet)(nil)

// An appending is an append of this node's that waits for its answer.
type appending struct {
	record consensus.Record
	key    consensus.RecordKey
	tx     types.TxKey
	answer chan answer // buffered
}

type answer struct {
	offset consensus.Offset
	err    error
}

// Append is consensus.Loglet.Append. What was handed to the members is not taken back: if ctx ends then, its fate is unknown.
func (l *Loglet) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if err := errors.Join(r.Validate(), ctx.Err()); err != nil {
		return 0, err
	}
	if err := l.room.Acquire(ctx, r.Size()); err != nil {
		return 0, err
	}
	defer l.room.Release(r.Size())
	tx := encodeRecord(r)
	a := &appending{record: r, key: r.Key(), tx: types.Tx(tx).Key(), answer: make(chan answer, 1)}
	if err := l.expect(a); err != nil {
		return 0, err
	}
	defer l.forget(a)
	// Expected first, looked up then: whatever brings the record in meanwhile is seen by one of the two.
	if in, offset, err := l.lookup(r); in || err != nil {
		return offset, err
	}
	l.pool.addOwn(tx, time.Now())
	select {
	case got := <-a.answer:
		return got.offset, got.err
	case <-ctx.Done():
	}
	select {
	case got := <-a.answer: // it was answered just now
		return got.offset, got.err
	default:
		return 0, fmt.Errorf("%w: %w", consensus.ErrUnknownFate, ctx.Err())
	}
}

// lookup asks the log for a record. An error says that it is not there, and could not be.
func (l *Loglet) lookup(r consensus.Record) (in bool, offset consensus.Offset, err error) {
	if l.replica.Position().Sealed {
		offset, err = l.replica.AnswerSealed(r)
		return true, offset, err
	}
	verdicts, err := l.replica.Judge([]consensus.Item{{Record: r}})
	if err != nil {
		return false, 0, err
	}
	switch v := verdicts[0]; v.Kind {
	case consensus.Data:
		return false, 0, nil
	case consensus.Based:
		return false, 0, fmt.Errorf("%w: a Base is the engine's to append", consensus.ErrInvalid)
	default:
		offset, err = l.replica.Segment().Answer(v)
		return true, offset, err
	}
}

func (l *Loglet) expect(a *appending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	l.mu.waiting[a.key] = append(l.mu.waiting[a.key], a)
	return nil
}

// forget ends the waiting of an append, whatever it came to. If nobody else waits for the record, it is not sent any more.
func (l *Loglet) forget(a *appending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.mu.waiting[a.key][:0:0]
	same := false
	for _, other := range l.mu.waiting[a.key] {
		if other != a {
			rest, same = append(rest, other), same || other.tx == a.tx
		}
	}
	if len(rest) > 0 {
		l.mu.waiting[a.key] = rest
	} else {
		delete(l.mu.waiting, a.key)
	}
	if !same {
		l.pool.remove(a.tx)
	}
}

// blockCommitted answers whoever waits for what a block brought. It is called by the app, on CometBFT's goroutine.
func (l *Loglet) blockCommitted(b block, verdicts []consensus.Verdict) {
	sealed := l.replica.Position().Sealed
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, v := range verdicts {
		if v.Kind == consensus.Data || v.Kind == consensus.Duplicate {
			offset, err := l.replica.Segment().Answer(v)
			l.answer(b.items[i].Record.Key(), answer{offset, err})
		}
	}
	for _, n := range b.nonces {
		if done := l.mu.barriers[n]; done != nil {
			close(done)
			delete(l.mu.barriers, n)
		}
	}
	if sealed {
		for key, waiting := range l.mu.waiting {
			offset, err := l.replica.AnswerSealed(waiting[0].record)
			l.answer(key, answer{offset, err})
		}
		for n, done := range l.mu.barriers {
			close(done)
			delete(l.mu.barriers, n)
		}
		l.pool.close()
	} else {
		l.rejudge()
	}
	l.gossip.tell(l.report(sealed))
	if sealed {
		l.wait.Go(l.checkDrained)
	}
}

func (l *Loglet) answer(key consensus.RecordKey, got answer) {
	for _, a := range l.mu.waiting[key] {
		select {
		case a.answer <- got:
		default: // it has one already
		}
	}
}

// rejudge answers those of the log's own records that wait here and could not be entries any more, such as a Seal that has expired. Others do not become void.
func (l *Loglet) rejudge() {
	for key, waiting := range l.mu.waiting {
		if r := waiting[0].record; r.App == consensus.AppLog {
			if in, offset, err := l.lookup(r); in || err != nil {
				l.answer(key, answer{offset, err})
			}
		}
	}
}

// Seal is consensus.Loglet.Seal. Whether the Seal is valid is decided at its turn.
func (l *Loglet) Seal(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if _, err := consensus.SealOf(r); err != nil {
		return 0, err
	}
	return l.Append(ctx, r)
}

// A tailRound is a barrier and those who wait for it.
type tailRound struct {
	nonce nonce
	done  chan struct{} // closed when it is in the log, or the loglet has stopped
}

// Tail is consensus.Loglet.Tail. For a consistent one a barrier is ordered: whatever was acknowledged before, to whomever, stands in a block before it. All who
// ask while one is under way share the next.
func (l *Loglet) Tail(ctx context.Context, c consensus.Consistency) (consensus.Tail, error) {
	if err := ctx.Err(); err != nil {
		return consensus.Tail{}, err
	}
	if c == consensus.Consistent {
		if err := l.barrier(ctx); err != nil {
			return consensus.Tail{}, err
		}
	}
	return l.replica.Tail()
}

// barrier waits until a barrier that was handed over after the call is in the log here, or the segment is sealed.
func (l *Loglet) barrier(ctx context.Context) error {
	if l.replica.Position().Sealed {
		return nil
	}
	l.mu.Lock()
	if l.mu.err != nil {
		defer l.mu.Unlock()
		return l.mu.err
	}
	if l.mu.next == nil {
		l.mu.next = &tailRound{done: make(chan struct{})}
		_, _ = rand.Read(l.mu.next.nonce[:]) // it does not fail
	}
	round := l.mu.next
	if l.mu.round == nil {
		l.beginRound()
	}
	l.mu.Unlock()
	select {
	case <-round.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// beginRound begins the next round. The caller holds the lock.
func (l *Loglet) beginRound() {
	round, in := l.mu.next, make(chan struct{})
	l.mu.round, l.mu.next = round, nil
	l.mu.barriers[round.nonce] = in
	l.wait.Go(func() {
		key := l.pool.addOwn(round.nonce.encode(), time.Now())
		sealed := make(chan struct{})
		if l.replica.Position().Sealed { // before blockCommitted could see the barrier
			close(sealed)
		}
		select {
		case <-in:
		case <-sealed:
		case <-l.closing:
		case <-l.node.ended:
		}
		l.pool.remove(key)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.mu.barriers, round.nonce)
		if l.mu.round = nil; l.mu.next != nil {
			if l.mu.err == nil {
				l.beginRound()
			} else {
				close(l.mu.next.done)
			}
		}
		close(round.done)
	})
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

// Drained is consensus.Drainer's.
func (l *Loglet) Drained() <-chan struct{} { return l.drained }

// Stopped is consensus.Stopper's: why the loglet stopped by itself, or nil.
func (l *Loglet) Stopped() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.mu.err, consensus.ErrClosed) {
		return nil
	}
	return l.mu.err
}

// stop refuses whatever waits and whatever comes. The first cause is the one that is told.
func (l *Loglet) stop(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err == nil {
		l.mu.err = err
	}
	for key := range l.mu.waiting {
		l.answer(key, answer{err: fmt.Errorf("%w: %w", consensus.ErrUnknownFate, err)})
	}
}

// Close is consensus.Loglet.Close.
func (l *Loglet) Close() error {
	l.mu.Lock()
	first := !l.mu.closed
	l.mu.closed = true
	if first && l.mu.err != nil {
		l.mu.err = nil // after a failure, too, it is ErrClosed from now on
	}
	l.mu.Unlock()
	l.stop(consensus.ErrClosed)
	if first {
		close(l.closing)
	}
	l.leave()
	l.wait.Wait()
	if l.replica != nil {
		l.replica.Close()
	}
	return nil
}

// leave ends this node's part in the epoch: its port is free afterwards. What the loglet has it still shows.
func (l *Loglet) leave() {
	l.left.Do(func() {
		l.opts.Metrics.end(l)
		l.node.stop()
	})
}
