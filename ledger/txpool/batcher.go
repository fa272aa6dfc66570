package txpool

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/ledger/batch"
)

// taken is a batch from take to release.
type taken struct {
	senders []*sender // in the order of the line
	txs     []*types.Transaction
	gas     uint64 // sum of the gas limits
	items   int    // sum of the sizes in a payload
}

// add puts e into the batch, or tells that the batch is full.
func (t *taken) add(e *entry, gasLimit uint64, limits batch.Limits) bool {
	items := t.items + batch.ItemSize(e.size)
	if len(t.txs) == limits.Transactions || t.gas+e.gas > gasLimit || batch.Size(items) > limits.Bytes {
		return false
	}
	t.txs, t.gas, t.items = append(t.txs, e.tx), t.gas+e.gas, items
	return true
}

// take returns the next batch, whose transactions are in flight until it is released, or nil if nothing is
// executable. It closes the batch at the first transaction that does not fit, so that a large one is not overtaken
// for ever by small ones.
func (p *Pool) take(limits batch.Limits) *taken {
	p.mu.Lock()
	defer p.mu.Unlock()
	var (
		head  = p.head.Load()
		t     = new(taken)
		unfit []*sender
		open  = true
	)
	for s := p.mu.line.front; s != nil; s = p.mu.line.next(s) {
		e := s.list[0]
		if e.fits(head) != nil {
			unfit = append(unfit, s)
			continue
		}
		if open = t.add(e, head.GasLimit, limits); !open {
			break
		}
		s.flightEnd = e.nonce + 1
		t.senders = append(t.senders, s)
	}
	rest := slices.Clone(t.senders)
	for round := 1; open && len(rest) > 0; round++ {
		more := rest[:0]
		for _, s := range rest {
			if round == s.ready || s.list[round].fits(head) != nil {
				continue
			}
			if open = t.add(s.list[round], head.GasLimit, limits); !open {
				break
			}
			s.flightEnd = s.list[round].nonce + 1
			more = append(more, s)
		}
		rest = more
	}
	for _, s := range t.senders {
		s.flight = t
		p.settle(s)
	}
	for _, s := range unfit {
		p.drop(s, s.list[0], s.list[0].fits(head), p.opts.Now())
		p.settle(s)
	}
	if len(t.txs) == 0 {
		return nil
	}
	return t
}

// release ends the flight of t. What is still in the pool is executable again: after an error at the front of
// the line, where it was, else at the back.
func (p *Pool) release(t *taken, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		slices.Reverse(t.senders)
	}
	for _, s := range t.senders {
		s.flight, s.flightEnd = nil, 0
		p.settle(s)
		if err != nil && s.links[lineList].in {
			p.mu.line.remove(s)
			p.mu.line.pushFront(s)
		}
	}
}

// await has the Batcher woken when n transactions wait, and returns how many do.
func (p *Pool) await(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.wakeAt = n
	return p.mu.waiting
}

// tidy does what is due when nothing else happens, and tells whether held senders are to be read.
func (p *Pool) tidy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(p.opts.Now())
	return p.unchecked()
}

// ProposeFunc appends a payload to the shared log. It returns nil after the record was applied here and
// Pool.Applied has been told, and an error if that did not happen or is not known. It returns soon after ctx has
// ended.
type ProposeFunc func(ctx context.Context, payload []byte) error

// BatcherOptions configure a Batcher. Zero means the default.
type BatcherOptions struct {
	// MaxInFlight is how many appends may be in flight at once. Default 4.
	MaxInFlight int
	// Linger is how long after the start of an append the next one waits while others are in flight, unless there is a
	// full batch. Default 5 ms.
	Linger time.Duration
	// MinInterval is the least time between the starts of two appends, for chains whose timestamps must increase.
	// Default 0.
	MinInterval time.Duration
	// MaxTransactions and MaxBytes bound a batch below the limits of package batch, which are the defaults.
	MaxTransactions int
	MaxBytes        int
	// MinBackoff and MaxBackoff bound the pause after a failed append, which doubles each time. Defaults 20 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
}

// EnsureDefaults fills in what is zero, and brings the limits into the range in which every valid transaction fits.
func (o *BatcherOptions) EnsureDefaults() {
	o.MaxInFlight = max(1, cmp.Or(o.MaxInFlight, 4))
	o.Linger = cmp.Or(o.Linger, 5*time.Millisecond)
	o.MinBackoff = cmp.Or(o.MinBackoff, 20*time.Millisecond)
	o.MaxBackoff = max(o.MinBackoff, cmp.Or(o.MaxBackoff, 5*time.Second))
	o.MaxTransactions = min(max(1, cmp.Or(o.MaxTransactions, batch.MaxTransactions)), batch.MaxTransactions)
	least := batch.Size(batch.ItemSize(MaxTransactionBytes))
	o.MaxBytes = min(max(least, cmp.Or(o.MaxBytes, batch.MaxBytes)), batch.MaxBytes)
}

const (
	recheckInterval = 100 * time.Millisecond // between two readings of held senders
	tidyInterval    = 10 * time.Second       // between two looks at the clock while nothing happens
)

// Batcher appends the transactions of a pool to the shared log. A pool has at most one at a time.
//
// When no append is in flight, what waits is appended at once: on a quiet network a transaction is not held up.
// While appends are in flight the next batch gathers, and is appended when the last of them returns, when it is
// full, or Linger after the last one started. So batches grow with the load by themselves, up to MaxInFlight of
// them hide the latency of a slow engine, and a fast one is not made to order (and every replica to execute) a
// block for each transaction.
type Batcher struct {
	pool    *Pool
	propose ProposeFunc
	opts    BatcherOptions

	// Owned by the goroutine of Run.
	returned  chan outcome
	inFlight  int
	last      time.Time     // start of the last append
	notBefore time.Time     // end of the pause after a failure
	backoff   time.Duration // the last pause; 0 after a success
	recheckAt time.Time
}

// outcome is what an append came to.
type outcome struct {
	batch *taken
	start time.Time
	err   error
}

// NewBatcher returns a batcher that takes from pool.
func NewBatcher(pool *Pool, propose ProposeFunc, opts BatcherOptions) *Batcher {
	opts.EnsureDefaults()
	return &Batcher{pool: pool, propose: propose, opts: opts, returned: make(chan outcome)}
}

// Run appends until ctx ends, and returns its error after every append has returned. It may be called again then.
func (b *Batcher) Run(ctx context.Context) error {
	timer := time.NewTimer(tidyInterval)
	defer timer.Stop()
	defer b.pool.await(math.MaxInt)
	for ctx.Err() == nil {
		timer.Reset(time.Until(b.step(ctx, time.Now())))
		select {
		case <-ctx.Done():
		case out := <-b.returned:
			b.finish(ctx, out)
		case <-b.pool.wake:
		case <-timer.C:
		}
	}
	for b.inFlight > 0 {
		b.finish(ctx, <-b.returned)
	}
	return ctx.Err()
}

// step does all there is to do now, and returns when to look again if nothing happens before.
func (b *Batcher) step(ctx context.Context, now time.Time) time.Time {
	next := now.Add(tidyInterval)
	if b.pool.tidy() {
		if !now.Before(b.recheckAt) && b.pool.recheck() {
			b.recheckAt = now.Add(recheckInterval)
		}
		next = b.recheckAt
	}
	for b.inFlight < b.opts.MaxInFlight {
		waiting := b.pool.await(1)
		if waiting == 0 {
			return next
		}
		if enough, at := b.due(now); waiting < enough && at.After(now) {
			if b.pool.await(enough) >= enough {
				continue // enough have come between the two
			}
			return earlier(next, at)
		}
		t := b.pool.take(batch.Limits{Transactions: b.opts.MaxTransactions, Bytes: b.opts.MaxBytes})
		if t == nil {
			continue // nothing fitted, and what does not fit has been dropped
		}
		b.start(ctx, t, now)
	}
	b.pool.await(math.MaxInt) // an append has to return first
	return next
}

// due returns how many waiting transactions are enough to start an append now, and when any number is.
func (b *Batcher) due(now time.Time) (enough int, at time.Time) {
	at = b.notBefore
	if b.opts.MinInterval > 0 && !b.last.IsZero() {
		at = later(at, b.last.Add(b.opts.MinInterval))
	}
	if at.After(now) {
		return math.MaxInt, at
	}
	if b.inFlight == 0 {
		return 1, now
	}
	return b.opts.MaxTransactions, b.last.Add(b.opts.Linger)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (b *Batcher) start(ctx context.Context, t *taken, now time.Time) {
	b.inFlight++
	b.last = now
	b.pool.metrics.batchSize.Observe(float64(len(t.txs)))
	go func() {
		b.returned <- outcome{batch: t, start: now, err: b.propose(ctx, t.payload())}
	}()
}

// payload encodes the batch.
func (t *taken) payload() []byte {
	raw := make([][]byte, len(t.txs))
	for i, tx := range t.txs {
		var err error
		if raw[i], err = tx.MarshalBinary(); err != nil {
			panic(fmt.Sprintf("txpool: transaction %v was accepted but does not encode: %v", tx.Hash(), err))
		}
	}
	payload := batch.Encode(raw)
	if len(payload) > batch.MaxBytes || len(payload) != batch.Size(t.items) {
		panic(fmt.Sprintf("txpool: batch of %d transactions has %d bytes, expected %d, limit %d",
			len(raw), len(payload), batch.Size(t.items), batch.MaxBytes))
	}
	return payload
}

// finish takes back what an append held. After a failure there is a pause, since what made one append
// fail (a log that is being switched, a lost quorum) will make the next fail too.
func (b *Batcher) finish(ctx context.Context, out outcome) {
	b.inFlight--
	b.pool.release(out.batch, out.err)
	b.pool.metrics.batchSeconds.Observe(time.Since(out.start).Seconds())
	if out.err == nil {
		b.backoff, b.notBefore = 0, time.Time{}
		return
	}
	b.pool.metrics.batchFailed.Inc()
	now := time.Now()
	if ctx.Err() != nil || now.Before(b.notBefore) {
		return // shutting down, or one more of those that failed for the same cause
	}
	b.backoff = min(max(2*b.backoff, b.opts.MinBackoff), b.opts.MaxBackoff)
	b.notBefore = now.Add(b.backoff)
	b.pool.opts.Logger.Warn("append failed, its transactions wait for the next one",
		"transactions", len(out.batch.txs), "retry_in", b.backoff, "err", out.err)
}
