package logtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPlantedFaults runs checks against engines that are wrong on purpose. A check that lets its fault pass checks nothing.
func TestPlantedFaults(t *testing.T) {
	for name, fault := range map[string]struct {
		plant  func(consensus.Loglet) consensus.Loglet
		caught []string // by each of these
	}{
		"none":                             {func(l consensus.Loglet) consensus.Loglet { return l }, nil},
		"acknowledges before it is stored": {plantEager, []string{"Crash", "SwitchCrash"}},
		"orders a duplicate":               {plantRename, []string{"Duplicates", "DuplicatesAtOnce", "DedupWindow", "Switch"}},
		"loses the order":                  {plantSwap, []string{"AppendAndRead", "ConcurrentAppends", "Follow", "ReadRanges", "Reopen"}},
		"drops what it acknowledged":       {plantDrop, []string{"AppendAndRead", "ConcurrentAppends"}},
		"acknowledges behind the Seal":     {plantDeaf, []string{"Seal", "SealUnderLoad"}},
		"seals for anybody":                {plantGullible, []string{"InvalidSeals"}},
		"calls an unknown fate surely not": {plantDenial, []string{"Cancel"}},
		"has a tail behind its appends":    {plantStale, []string{"Tail"}},
		"trims what it was not told to":    {plantGreedy, []string{"Trim", "SwitchTrim"}},
		"says closed without closing":      {plantOpen, []string{"Close"}},
	} {
		h := logtest.Harness{New: func(_ logtest.TB, env logtest.Env) logtest.Cluster {
			engine := local.Engine(local.Options{Now: env.Now})
			return logtest.Cluster{
				Spec: consensus.Spec{Engine: local.Name},
				Engine: func(int) consensus.Engine {
					return consensus.EngineFunc(func(ctx context.Context, s *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
						l, err := engine.Open(ctx, s, seg)
						if err != nil {
							return nil, err
						}
						return fault.plant(l), nil
					})
				},
			}
		}}
		for _, c := range logtest.Checks(h) {
			want := slices.Contains(fault.caught, c.Name)
			if !want && name != "none" {
				continue // others may see it too, or not
			}
			t.Run(strings.ReplaceAll(name, " ", "-")+"/"+c.Name, func(t *testing.T) {
				if name == "none" && testing.Short() {
					t.Skip("SKIPPED with -short: the engine's own test runs these")
				}
				r := record(t.Name(), func(tb logtest.TB) { c.Run(tb, h) })
				if r.failed != want {
					t.Errorf("check failed: %v, want %v\n%s", r.failed, want, r.log.String())
				}
			})
		}
	}
}

// A recorder is a TB whose failures are results.
type recorder struct {
	name     string
	mu       sync.Mutex
	failed   bool
	log      strings.Builder
	cleanups []func()
}

// record runs a check to its end, or to its FailNow, and then its cleanups.
func record(name string, check func(logtest.TB)) *recorder {
	r := &recorder{name: name}
	run := func(f func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		<-done
	}
	run(func() { check(r) })
	for _, f := range slices.Backward(r.cleanups) {
		run(f)
	}
	return r
}

func (r *recorder) Helper()          {}
func (r *recorder) Name() string     { return r.name }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&r.log, format+"\n", args...)
}

func (r *recorder) Errorf(format string, args ...any) {
	r.Logf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) FailNow() {
	r.mu.Lock()
	r.failed = true
	r.mu.Unlock()
	runtime.Goexit()
}

// eager acknowledges as soon as it has a place in a queue of its own.
type eager struct {
	consensus.Loglet
	mu    sync.Mutex
	next  consensus.Offset
	queue chan consensus.Record
	wait  sync.WaitGroup
}

func plantEager(l consensus.Loglet) consensus.Loglet {
	tail, err := l.Tail(context.Background(), consensus.Fast)
	if err != nil {
		panic(err)
	}
	queue := make(chan consensus.Record, 64)
	e := &eager{Loglet: l, next: tail.Offset, queue: queue}
	e.wait.Go(func() {
		for r := range queue {
			_, _ = e.Loglet.Append(context.Background(), r)
		}
	})
	return e
}

func (e *eager) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.queue == nil {
		return 0, consensus.ErrClosed
	}
	select {
	case e.queue <- r:
		e.next++
		return e.next - 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (e *eager) Close() error {
	e.mu.Lock()
	if e.queue != nil {
		close(e.queue)
		e.queue = nil
	}
	e.mu.Unlock()
	e.wait.Wait()
	return e.Loglet.Close()
}

// rename gives every append an id of its own, so that none is a duplicate.
type rename struct {
	consensus.Loglet
	mu sync.Mutex
	n  uint64
}

func plantRename(l consensus.Loglet) consensus.Loglet { return &rename{Loglet: l} }

func (f *rename) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	f.mu.Lock()
	f.n++
	r.ID.Session = f.n<<32 | r.ID.Session
	f.mu.Unlock()
	return f.Loglet.Append(ctx, r)
}

// swap exchanges neighbours now and then.
type swap struct{ consensus.Loglet }

func plantSwap(l consensus.Loglet) consensus.Loglet { return swap{l} }

func swapped(entries []consensus.Entry, err error) ([]consensus.Entry, error) {
	if n := len(entries); n > 1 {
		entries[n-1], entries[n-2] = entries[n-2], entries[n-1]
	}
	return entries, err
}

func (f swap) Read(ctx context.Context, lo, hi consensus.Offset) ([]consensus.Entry, error) {
	return swapped(f.Loglet.Read(ctx, lo, hi))
}

func (f swap) Follow(ctx context.Context, from consensus.Offset, limit int) ([]consensus.Entry, error) {
	return swapped(f.Loglet.Follow(ctx, from, limit))
}

// drop forgets one append in ten, and answers with the tail.
type drop struct {
	consensus.Loglet
	mu sync.Mutex
	n  int
}

func plantDrop(l consensus.Loglet) consensus.Loglet { return &drop{Loglet: l} }

func (f *drop) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	f.mu.Lock()
	f.n++
	lose := f.n%10 == 0
	f.mu.Unlock()
	if lose {
		tail, err := f.Loglet.Tail(ctx, consensus.Fast)
		return tail.Offset, err
	}
	return f.Loglet.Append(ctx, r)
}

// deaf does not hear at once that it was sealed.
type deaf struct {
	consensus.Loglet
	heard atomic.Bool
}

func plantDeaf(l consensus.Loglet) consensus.Loglet { return &deaf{Loglet: l} }

func (f *deaf) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	o, err := f.Loglet.Append(ctx, r)
	if errors.Is(err, consensus.ErrSealed) && !f.heard.Swap(true) {
		return 1 << 20, nil
	}
	return o, err
}

// gullible answers to an invalid Seal as to a valid one.
type gullible struct{ consensus.Loglet }

func plantGullible(l consensus.Loglet) consensus.Loglet { return gullible{l} }

func (f gullible) Seal(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	o, err := f.Loglet.Seal(ctx, r)
	if errors.Is(err, consensus.ErrInvalid) {
		return o, nil
	}
	return o, err
}

// denial gives up waiting when the context ends, and claims that nothing happened.
type denial struct{ consensus.Loglet }

func plantDenial(l consensus.Loglet) consensus.Loglet { return denial{l} }

func (f denial) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	o, err := f.Loglet.Append(context.WithoutCancel(ctx), r)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return o, err
}

// stale remembers an old tail.
type stale struct{ consensus.Loglet }

func plantStale(l consensus.Loglet) consensus.Loglet { return stale{l} }

func (f stale) Tail(ctx context.Context, c consensus.Consistency) (consensus.Tail, error) {
	tail, err := f.Loglet.Tail(ctx, c)
	if tail.Offset > 10 {
		tail.Offset--
	}
	return tail, err
}

// greedy trims one more.
type greedy struct{ consensus.Loglet }

func plantGreedy(l consensus.Loglet) consensus.Loglet { return greedy{l} }

func (f greedy) Trim(ctx context.Context, upTo consensus.Offset) error {
	return f.Loglet.Trim(ctx, upTo+1)
}

// open acknowledges some appends after Close, and tells readers another reason.
type open struct{ consensus.Loglet }

func plantOpen(l consensus.Loglet) consensus.Loglet { return open{l} }

func (f open) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	o, err := f.Loglet.Append(ctx, r)
	if errors.Is(err, consensus.ErrClosed) && r.ID.Seq%2 == 0 {
		return 0, nil
	}
	return o, err
}

func (f open) Follow(ctx context.Context, from consensus.Offset, limit int) ([]consensus.Entry, error) {
	entries, err := f.Loglet.Follow(ctx, from, limit)
	if errors.Is(err, consensus.ErrClosed) {
		return nil, context.Canceled
	}
	return entries, err
}
