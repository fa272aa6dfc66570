package txpool

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"go.uber.org/goleak"

	"ledgerd/ledger/batch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// append1 is one call of a proposer that waits to be told how it ends.
type append1 struct {
	txs   []*types.Transaction
	at    time.Time
	reply chan error
}

// blockingLog is a log whose appends end when the test says so.
type blockingLog struct {
	t     *testing.T
	calls chan *append1
}

func (l *blockingLog) propose(ctx context.Context, payload []byte) error {
	c := &append1{txs: decode(l.t, payload), at: time.Now(), reply: make(chan error, 1)}
	l.calls <- c
	select {
	case err := <-c.reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next returns the append that has been started by now.
func (l *blockingLog) next() *append1 {
	l.t.Helper()
	synctest.Wait()
	select {
	case c := <-l.calls:
		return c
	default:
		l.t.Fatal("no append was started")
		return nil
	}
}

func (l *blockingLog) none() {
	l.t.Helper()
	synctest.Wait()
	if len(l.calls) != 0 {
		l.t.Fatal("an append was started")
	}
}

// batcherFixture runs a batcher on a blocking log, in the fake time of synctest.
type batcherFixture struct {
	*fixture
	*blockingLog
	stop func() error
}

func runBatcher(t *testing.T, opts BatcherOptions, body func(t *testing.T, f *batcherFixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := &batcherFixture{fixture: newFixture(t, Options{}), blockingLog: &blockingLog{t: t, calls: make(chan *append1, 100)}}
		f.opts.Now = time.Now
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		b := NewBatcher(f.Pool, f.propose, opts)
		go func() { ended <- b.Run(ctx) }()
		f.stop = sync.OnceValue(func() error {
			cancel()
			return <-ended
		})
		defer f.stop() // also if body fails
		body(t, f)
		if err := f.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		checkPool(t, f.Pool)
		if f.mu.counts.inFlight != 0 {
			t.Errorf("%d in flight after Run", f.mu.counts.inFlight)
		}
	})
}

// land has the ledger apply c, and then the append return.
func (f *batcherFixture) land(c *append1) {
	f.apply(c.txs...)
	c.reply <- nil
	synctest.Wait()
}

// When idle, a transaction is appended at once; while appends are in flight, a batch gathers.
func TestNaturalBatching(t *testing.T) {
	runBatcher(t, BatcherOptions{Linger: time.Hour}, func(t *testing.T, f *batcherFixture) {
		start := time.Now()
		f.add(newUser(0).transfer(0))
		first := f.next()
		if len(first.txs) != 1 || !first.at.Equal(start) {
			t.Fatalf("%d transactions after %v", len(first.txs), first.at.Sub(start))
		}
		for i := range 20 {
			f.add(newUser(i).transfer(uint64(1)), newUser(i+20).transfer(0))
		}
		f.none()
		f.wantStats(22, 19) // user 0's nonce 1 follows its nonce 0; the others lack one
		f.land(first)
		second := f.next()
		if len(second.txs) != 21 || !second.at.Equal(start) {
			t.Fatalf("%d transactions after %v", len(second.txs), second.at.Sub(start))
		}
		f.land(second)
		f.none()
		f.wantStats(0, 19)
	})
}

// Beside others an append starts after Linger, and no more than MaxInFlight do.
func TestMaxInFlight(t *testing.T) {
	runBatcher(t, BatcherOptions{MaxInFlight: 3, Linger: 5 * time.Millisecond}, func(t *testing.T, f *batcherFixture) {
		start := time.Now()
		f.add(newUser(0).transfer(0))
		calls := []*append1{f.next()}
		for i := 1; i < 3; i++ {
			f.add(newUser(i).transfer(0))
			f.none()
			time.Sleep(5 * time.Millisecond)
			c := f.next()
			if got, want := c.at.Sub(start), time.Duration(i)*5*time.Millisecond; got != want || len(c.txs) != 1 {
				t.Errorf("append %d of %d after %v", i, len(c.txs), got)
			}
			calls = append(calls, c)
		}
		f.add(newUser(3).transfer(0), newUser(4).transfer(0))
		time.Sleep(time.Minute)
		f.none()
		f.land(calls[1])
		wantNonces(t, "after one returned", f.next().txs, 0, 0)
	})
}

// A full batch does not linger.
func TestFullBatch(t *testing.T) {
	runBatcher(t, BatcherOptions{MaxTransactions: 3, Linger: time.Hour}, func(t *testing.T, f *batcherFixture) {
		start := time.Now()
		u := newUser(1)
		f.add(u.transfer(0))
		f.next()
		f.add(u.transfer(1), u.transfer(2), u.transfer(3)) // wait for their sender, so they fill nothing
		f.add(newUser(2).transfer(0), newUser(3).transfer(0))
		f.none()
		f.add(newUser(2).transfer(1))
		if c := f.next(); len(c.txs) != 3 || !c.at.Equal(start) {
			t.Fatalf("%d transactions after %v", len(c.txs), c.at.Sub(start))
		}
	})
}

// After a failure everything is executable again, and tried again after a pause that doubles.
func TestBackoff(t *testing.T) {
	runBatcher(t, BatcherOptions{MinBackoff: 20 * time.Millisecond, MaxBackoff: 50 * time.Millisecond}, func(t *testing.T, f *batcherFixture) {
		u := newUser(1)
		f.add(u.transfer(0))
		c := f.next()
		for i, pause := range []time.Duration{20, 40, 50, 50} {
			c.reply <- errors.New("sealed")
			synctest.Wait()
			f.wantStatus(u.transfer(0), StatePending, "")
			f.add(newUser(2 + i).transfer(1)) // queued: no reason to hurry
			time.Sleep(pause*time.Millisecond - 1)
			f.none()
			time.Sleep(time.Nanosecond)
			c = f.next()
			wantNonces(t, "again", c.txs, 0)
		}
		f.land(c)
		f.add(u.transfer(1))
		c = f.next() // a success ends the pauses
		c.reply <- errors.New("sealed")
		time.Sleep(20 * time.Millisecond)
		f.next()
	})
}

// What comes during a pause waits for its end, without anything else that would wake the batcher.
func TestAddDuringBackoff(t *testing.T) {
	runBatcher(t, BatcherOptions{MinBackoff: time.Second}, func(t *testing.T, f *batcherFixture) {
		f.add(newUser(1).transfer(0))
		c := f.next()
		f.apply(newUser(1).transfer(0)) // ordered, but the append did not learn of it
		c.reply <- errors.New("connection lost")
		synctest.Wait()
		f.add(newUser(2).transfer(0))
		f.none()
		time.Sleep(time.Second)
		wantNonces(t, "after the pause", f.next().txs, 0)
	})
}

func TestMinInterval(t *testing.T) {
	runBatcher(t, BatcherOptions{MinInterval: time.Second}, func(t *testing.T, f *batcherFixture) {
		start := time.Now()
		for i := range 3 {
			f.add(newUser(i).transfer(0))
			time.Sleep(time.Second)
			c := f.next()
			if want := start.Add(time.Duration(i) * time.Second); !c.at.Equal(want) {
				t.Errorf("append %d after %v", i, c.at.Sub(start))
			}
			f.land(c)
		}
	})
}

// A batcher that ends gives everything back, and another run goes on where it was.
func TestRunEnds(t *testing.T) {
	runBatcher(t, BatcherOptions{Linger: time.Millisecond}, func(t *testing.T, f *batcherFixture) {
		f.add(newUser(1).transfer(0))
		f.next()
		f.add(newUser(2).transfer(0))
		time.Sleep(time.Millisecond)
		f.next()
		if err := f.stop(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		f.wantStatus(newUser(1).transfer(0), StatePending, "")
		f.add(newUser(3).transfer(0))
		f.none()

		ctx, cancel := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { NewBatcher(f.Pool, f.propose, BatcherOptions{}).Run(ctx) })
		if c := f.next(); len(c.txs) != 3 {
			t.Fatalf("%d transactions", len(c.txs))
		}
		cancel()
		g.Wait()
	})
}

// The batcher has the state of held senders read: at once after an entry, and in turns if there are many.
func TestBatcherRechecks(t *testing.T) {
	runBatcher(t, BatcherOptions{}, func(t *testing.T, f *batcherFixture) {
		const n = maxRechecks + 10
		for i := range n {
			f.chain.fund(newUser(i), 5)
			f.add(newUser(i).transfer(0, value(5)))
			f.chain.fund(newUser(i), 0)
		}
		for landed := 0; landed < n; {
			c := f.next()
			landed += len(c.txs)
			f.land(c)
			time.Sleep(20 * time.Millisecond)
		}
		f.wantStats(0, n)
		for i := range n {
			f.chain.fund(newUser(i), 5)
		}
		f.apply(newUser(500).transfer(0))
		synctest.Wait()
		time.Sleep(3 * recheckInterval)
		sent := 0
		for sent < n {
			c := f.next()
			sent += len(c.txs)
			f.land(c)
			time.Sleep(10 * time.Millisecond)
		}
		f.wantStats(0, 0)
	})
}

// Nothing else has to happen for what is queued to expire.
func TestBatcherExpires(t *testing.T) {
	runBatcher(t, BatcherOptions{}, func(t *testing.T, f *batcherFixture) {
		f.add(newUser(1).transfer(1))
		time.Sleep(f.opts.QueueTTL + tidyInterval)
		synctest.Wait()
		f.wantStats(0, 0)
	})
}

// Many clients, a log that fails now and then and may have ordered what it failed to acknowledge, in real time: all is included in the end.
func TestTogether(t *testing.T) {
	const clients, each = 8, 60
	chain := newChain()
	p := New(chain, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var order sync.Mutex // the ledger's one goroutine
	propose := func(ctx context.Context, payload []byte) error {
		txs := decode(t, payload)
		checkBatch(t, txs, testGasLimit)
		dice := rand.IntN(10)
		if dice == 0 {
			return errors.New("lost")
		}
		order.Lock()
		p.Applied(chain.execute(txs))
		order.Unlock()
		if dice == 1 {
			return errors.New("unknown fate")
		}
		return nil
	}
	var g sync.WaitGroup
	g.Go(func() {
		NewBatcher(p, propose, BatcherOptions{MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond, MaxTransactions: 50}).Run(ctx)
	})
	announced := make(chan []*types.Transaction, clients*each)
	sub := p.SubscribeTransactions(announced)
	defer sub.Unsubscribe()
	var adders sync.WaitGroup
	for i := range clients {
		txs := newUser(i).transfers(0, each)
		for k := 0; k+3 < each; k += 3 { // not in order
			slices.Reverse(txs[k : k+3])
		}
		adders.Go(func() {
			for _, tx := range txs {
				if err := p.Add(tx); err != nil {
					t.Errorf("add: %v", err)
				}
				p.Status(tx.Hash())
				p.Content()
			}
		})
	}
	adders.Wait()
	deadline := time.After(30 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for done := false; !done; {
		select {
		case <-deadline:
			t.Fatal("not all included")
		case <-poll.C:
			pending, queued := p.Stats()
			done = pending+queued == 0
		}
	}
	cancel()
	g.Wait()
	checkPool(t, p)
	for i := range clients {
		if n := chain.nonces[newUser(i).address]; n != each {
			t.Errorf("client %d: %d of %d included", i, n, each)
		}
	}
	heard := 0
	for len(announced) > 0 {
		heard += len(<-announced)
	}
	if heard != clients*each {
		t.Errorf("%d announced, want %d", heard, clients*each)
	}
}

func TestBatcherOptions(t *testing.T) {
	o := BatcherOptions{MaxTransactions: 5000, MaxBytes: 1, MaxInFlight: -1, MinBackoff: time.Minute}
	o.EnsureDefaults()
	want := BatcherOptions{MaxInFlight: 1, Linger: 5 * time.Millisecond, MaxTransactions: batch.MaxTransactions,
		MaxBytes: batch.Size(batch.ItemSize(MaxTransactionBytes)), MinBackoff: time.Minute, MaxBackoff: time.Minute}
	if o != want {
		t.Fatalf("%+v, want %+v", o, want)
	}
}
