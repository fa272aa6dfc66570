package view

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"ledgerd/consensus"
)

// ErrStopped is wrapped by everything that a player returns after its view stopped.
var ErrStopped = errors.New("view stopped")

// StopError says which entry a view could not play. errors.Is(err, ErrStopped) holds.
type StopError struct {
	App string
	LSN consensus.LSN
	Err error
}

func (e *StopError) Error() string {
	return fmt.Sprintf("view %s stopped at lsn %d: %v", e.App, e.LSN, e.Err)
}

// Unwrap returns the cause.
func (e *StopError) Unwrap() error { return e.Err }

// Is reports that every StopError is an ErrStopped.
func (e *StopError) Is(target error) bool { return target == ErrStopped }

// Options configure a player. The zero value is usable.
type Options struct {
	// QueueEntries bounds how many entries are read ahead of Apply. Default 256.
	QueueEntries int
	// QueueBytes bounds the payload of those entries. Default 32 MiB. One entry is always let in.
	QueueBytes int

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o *Options) ensureDefaults() {
	if o.QueueEntries == 0 {
		o.QueueEntries = 256
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Player plays the log for one application.
type Player struct {
	log     Log
	app     string
	view    View
	opts    Options
	session uint64
	seq     atomic.Uint64
	applied atomic.Uint64
	done    chan struct{} // closed when Run has ended

	mu struct {
		sync.Mutex
		proposals map[consensus.RecordKey]chan Outcome
		waiters   []waiter
		err       error // why Run ended
	}
}

type waiter struct {
	lsn consensus.LSN
	ch  chan struct{}
}

// NewPlayer returns a player of app's entries. Nothing happens until Run.
func NewPlayer(log Log, app string, v View, opts Options) (*Player, error) {
	opts.ensureDefaults()
	session, err := consensus.NewSession()
	if err != nil {
		return nil, fmt.Errorf("view %s: %w", app, err)
	}
	p := &Player{log: log, app: app, view: v, opts: opts, session: session, done: make(chan struct{})}
	p.mu.proposals = make(map[consensus.RecordKey]chan Outcome)
	p.applied.Store(uint64(v.Applied()))
	if opts.Registerer != nil {
		err := opts.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "ledgerd_view_applied_lsn",
			Help:        "LSN up to which the application has played the log.",
			ConstLabels: prometheus.Labels{"app": app},
		}, func() float64 { return float64(p.Applied()) }))
		if err != nil {
			return nil, fmt.Errorf("view %s: register metrics: %w", app, err)
		}
	}
	return p, nil
}

// Applied returns the LSN up to which the log has been played.
func (p *Player) Applied() consensus.LSN { return consensus.LSN(p.applied.Load()) }

// Run plays the log until ctx ends (it then returns nil), the log fails, or the view stops (a *StopError). It is
// called once.
func (p *Player) Run(ctx context.Context) error {
	queue := make(chan consensus.Entry, p.opts.QueueEntries)
	budget := newBudget(p.opts.QueueBytes)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { defer close(queue); return p.read(gctx, queue, budget) })
	g.Go(func() error { return p.play(gctx, queue, budget) })
	err := g.Wait()
	if ctx.Err() != nil && !errors.Is(err, ErrStopped) {
		err = nil
	}
	p.end(err)
	return err
}

// read follows the log and fills the queue.
func (p *Player) read(ctx context.Context, queue chan<- consensus.Entry, budget *budget) error {
	prefetcher, _ := p.view.(Prefetcher)
	next := p.Applied() + 1
	for {
		entries, err := p.log.Follow(ctx, next, p.opts.QueueEntries)
		if err != nil {
			return fmt.Errorf("view %s: follow lsn %d: %w", p.app, next, err)
		}
		for _, e := range entries {
			if e.LSN != next {
				panic(fmt.Sprintf("view %s: the log gave lsn %d, want %d", p.app, e.LSN, next))
			}
			if err := budget.take(ctx, len(e.Record.Payload)); err != nil {
				return err
			}
			if prefetcher != nil && e.Record.App == p.app {
				prefetcher.Prefetch(e)
			}
			select {
			case queue <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
			next++
		}
	}
}

// play applies what is in the queue.
func (p *Player) play(ctx context.Context, queue <-chan consensus.Entry, budget *budget) error {
	for e := range queue {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		result, err := p.apply(ctx, e)
		if err != nil {
			stop := &StopError{App: p.app, LSN: e.LSN, Err: err}
			p.opts.Logger.Error("view stopped", "app", p.app, "lsn", uint64(e.LSN), "err", err)
			return stop
		}
		budget.give(len(e.Record.Payload))
		p.applied.Store(uint64(e.LSN))
		p.resolve(e, result)
	}
	return ctx.Err()
}

// apply hands one entry to the view. A panic in the view is a stop of this view, not of the process: the log and its
// other views are sound.
func (p *Player) apply(ctx context.Context, e consensus.Entry) (result any, err error) {
	if e.Record.App != p.app {
		p.view.Advance(e.LSN)
		return nil, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return p.view.Apply(ctx, e)
}

// resolve wakes the proposer of e, if it is here, and whoever waits for its LSN.
func (p *Player) resolve(e consensus.Entry, result any) {
	key := e.Record.Key()
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch, ok := p.mu.proposals[key]; ok {
		delete(p.mu.proposals, key)
		ch <- Outcome{LSN: e.LSN, Result: result}
	}
	waiting := p.mu.waiters[:0]
	for _, w := range p.mu.waiters {
		if w.lsn <= e.LSN {
			close(w.ch)
			continue
		}
		waiting = append(waiting, w)
	}
	p.mu.waiters = waiting
}

// end records why Run returned and lets every waiting call go.
func (p *Player) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		err = ErrStopped
	} else if !errors.Is(err, ErrStopped) {
		err = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	p.mu.err = err
	close(p.done)
}

// stopped returns the reason after done is closed.
func (p *Player) stopped() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.err
}

// Propose implements Proposer.
func (p *Player) Propose(ctx context.Context, payload []byte) (Outcome, error) {
	r := consensus.Record{App: p.app, ID: consensus.RecordID{Session: p.session, Seq: p.seq.Add(1)}, Payload: payload}
	key := r.Key()
	ch := make(chan Outcome, 1)
	p.mu.Lock()
	p.mu.proposals[key] = ch
	p.mu.Unlock()

	if _, err := p.log.Append(ctx, r); err != nil {
		p.forget(key)
		return Outcome{}, fmt.Errorf("propose to %s: %w", p.app, err)
	}
	select {
	case out := <-ch:
		return out, nil
	case <-ctx.Done():
		p.forget(key)
		return Outcome{}, fmt.Errorf("propose to %s: %w", p.app, ctx.Err())
	case <-p.done:
		p.forget(key)
		select {
		case out := <-ch: // applied, and Run ended afterwards
			return out, nil
		default:
			return Outcome{}, fmt.Errorf("propose to %s: %w", p.app, p.stopped())
		}
	}
}

func (p *Player) forget(key consensus.RecordKey) {
	p.mu.Lock()
	delete(p.mu.proposals, key)
	p.mu.Unlock()
}

// Sync implements Proposer.
func (p *Player) Sync(ctx context.Context) (consensus.LSN, error) {
	tail, err := p.log.Tail(ctx, consensus.Consistent)
	if err != nil {
		return 0, fmt.Errorf("sync %s: %w", p.app, err)
	}
	if err := p.WaitApplied(ctx, tail-1); err != nil {
		return 0, fmt.Errorf("sync %s: %w", p.app, err)
	}
	return p.Applied(), nil
}

// WaitApplied returns once everything up to lsn has been applied here, or with ctx's error, or with ErrStopped.
func (p *Player) WaitApplied(ctx context.Context, lsn consensus.LSN) error {
	p.mu.Lock()
	if p.Applied() >= lsn {
		p.mu.Unlock()
		return nil
	}
	w := waiter{lsn: lsn, ch: make(chan struct{})}
	p.mu.waiters = append(p.mu.waiters, w)
	p.mu.Unlock()
	select {
	case <-w.ch:
		return nil
	case <-ctx.Done():
		p.dropWaiter(w)
		return ctx.Err()
	case <-p.done:
		if p.Applied() >= lsn {
			return nil
		}
		return p.stopped()
	}
}

func (p *Player) dropWaiter(gone waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.mu.waiters[:0]
	for _, w := range p.mu.waiters {
		if w.ch != gone.ch {
			waiting = append(waiting, w)
		}
	}
	p.mu.waiters = waiting
}

// budget bounds the bytes between the reader and the applier. A single entry larger than all of it passes alone.
type budget struct {
	max  int
	room chan struct{} // has a token when bytes were given back
	mu   struct {
		sync.Mutex
		used int
	}
}

func newBudget(maxBytes int) *budget {
	return &budget{max: maxBytes, room: make(chan struct{}, 1)}
}

func (b *budget) take(ctx context.Context, n int) error {
	for {
		b.mu.Lock()
		if b.mu.used == 0 || b.mu.used+n <= b.max {
			b.mu.used += n
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		select {
		case <-b.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.mu.used -= n
	b.mu.Unlock()
	select {
	case b.room <- struct{}{}:
	default:
	}
}
