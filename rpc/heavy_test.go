package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// waits makes a request of a client wait in the pool, and returns what tells how it ended.
func waits(t *testing.T, p *heavyPool, ctx context.Context, r heavyRequest, entered chan<- string) <-chan error {
	t.Helper()
	_, before := p.state()
	ended := make(chan error, 1)
	go func() {
		err := p.enter(ctx, r, time.Minute)
		if err == nil {
			entered <- r.client
		}
		ended <- err
	}()
	eventually(t, "it waits", func() bool { _, waiting := p.state(); return waiting == before+1 })
	return ended
}

// TestClientsTakeTurns: who has queued many requests does not make another one wait for all of them.
func TestClientsTakeTurns(t *testing.T) {
	p := newHeavyPool(1, 100, 10)
	require.NoError(t, p.enter(t.Context(), heavyRequest{client: "greedy"}, time.Minute))
	entered := make(chan string, 20)
	for range 6 {
		waits(t, p, t.Context(), heavyRequest{client: "greedy"}, entered)
	}
	waits(t, p, t.Context(), heavyRequest{client: "modest"}, entered)
	waits(t, p, t.Context(), heavyRequest{client: "third"}, entered)
	waits(t, p, t.Context(), heavyRequest{client: "third"}, entered)
	var order []string
	last := "greedy"
	for range 9 {
		p.leave(heavyRequest{client: last})
		last = receive(t, entered)
		order = append(order, last)
	}
	require.Equal(t, []string{"greedy", "modest", "third", "greedy", "third", "greedy", "greedy", "greedy", "greedy"}, order)
	p.leave(heavyRequest{client: last})
	taken, waiting := p.state()
	require.Zero(t, taken+waiting)
	require.Empty(t, p.mu.queues)
	require.Empty(t, p.mu.turns)
	require.Empty(t, p.mu.held)
	require.Zero(t, p.mu.long)
}

// TestHalfOfThePlaces is what long requests may hold, and one client; the others find a place.
func TestHalfOfThePlaces(t *testing.T) {
	p := newHeavyPool(4, 100, 100)
	long := func(client string) heavyRequest { return heavyRequest{client: client, long: true} }
	short := func(client string) heavyRequest { return heavyRequest{client: client} }
	now := func(r heavyRequest) {
		t.Helper()
		require.NoError(t, p.enter(t.Context(), r, 0))
	}
	entered := make(chan string, 10)
	now(long("a"))
	now(long("a"))
	ofA := waits(t, p, t.Context(), short("a"), entered)
	ofB := waits(t, p, t.Context(), long("b"), entered)
	now(short("b"))
	now(short("c"))
	ofC := waits(t, p, t.Context(), short("c"), entered)
	p.leave(short("b")) // a has its half, and b wants what is long
	require.NoError(t, receive(t, ofC))
	p.leave(short("c"))
	require.Equal(t, "c", receive(t, entered))
	taken, waiting := p.state()
	require.Equal(t, []int{3, 2}, []int{taken, waiting})

	// Two wait while a place is free, and one that comes back lets both in.
	p.leave(long("a"))
	require.NoError(t, receive(t, ofA))
	require.NoError(t, receive(t, ofB))
	taken, waiting = p.state()
	require.Equal(t, []int{4, 0}, []int{taken, waiting})

	one := newHeavyPool(1, 100, 100)
	require.NoError(t, one.enter(t.Context(), long("a"), 0))
	one.leave(long("a"))
	require.NoError(t, one.enter(t.Context(), short("a"), 0))

	// This process has no limit of its own.
	own := newHeavyPool(4, 100, 100)
	for range 4 {
		require.NoError(t, own.enter(t.Context(), short(""), 0))
	}
}

// TestHeavyQueueIsBounded: for a client, and for all.
func TestHeavyQueueIsBounded(t *testing.T) {
	p := newHeavyPool(1, 3, 2)
	require.NoError(t, p.enter(t.Context(), heavyRequest{client: "a"}, time.Minute))
	entered := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	first := waits(t, p, ctx, heavyRequest{client: "a"}, entered)
	second := waits(t, p, t.Context(), heavyRequest{client: "a"}, entered)
	refused := func(client, why string) {
		t.Helper()
		err := p.enter(t.Context(), heavyRequest{client: client}, time.Minute)
		require.ErrorContains(t, err, why)
		var coded *codedError
		require.ErrorAs(t, err, &coded)
		require.Equal(t, codeLimitExceeded, coded.code)
	}
	refused("a", "too many calls and searches of one client are waiting, at most 2 may")
	third := waits(t, p, t.Context(), heavyRequest{client: "b"}, entered)
	refused("c", "3 calls and searches are waiting, at most 3 may")

	cancel()
	require.ErrorIs(t, receive(t, first), context.Canceled)
	require.ErrorContains(t, p.enter(t.Context(), heavyRequest{client: "c"}, time.Nanosecond), "no place among the 1 for calls and searches became free in 1ns")
	p.leave(heavyRequest{client: "a"})
	require.NoError(t, receive(t, second))
	p.leave(heavyRequest{client: "a"})
	require.NoError(t, receive(t, third))
	p.leave(heavyRequest{client: "b"})
	require.NoError(t, p.enter(t.Context(), heavyRequest{client: "c"}, time.Minute))
	p.leave(heavyRequest{client: "c"})
	taken, waiting := p.state()
	require.Zero(t, taken+waiting)
}

// TestHeavyPoolUnderLoad: clients that come, lose patience and go never hold more places than there are, and leave none taken.
func TestHeavyPoolUnderLoad(t *testing.T) {
	p := newHeavyPool(5, 1000, 1000)
	var running, long, most, mostLong, served atomic.Int64
	var held, mostHeld [8]atomic.Int64
	count := func(now, most *atomic.Int64) {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
	}
	var all sync.WaitGroup
	for client := range 8 {
		rng := rand.New(rand.NewPCG(1, uint64(client)))
		for range 20 {
			patience := time.Duration(rng.IntN(200)) * time.Microsecond
			r := heavyRequest{client: fmt.Sprint(client), long: rng.IntN(2) == 0}
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience*2)
				defer cancel()
				for range 50 {
					if p.enter(ctx, r, patience) != nil {
						continue
					}
					count(&running, &most)
					count(&held[client], &mostHeld[client])
					if r.long {
						count(&long, &mostLong)
						long.Add(-1)
					}
					served.Add(1)
					held[client].Add(-1)
					running.Add(-1)
					p.leave(r)
				}
			})
		}
	}
	all.Wait()
	require.LessOrEqual(t, most.Load(), int64(5))
	require.LessOrEqual(t, mostLong.Load(), int64(2))
	for i := range mostHeld {
		require.LessOrEqual(t, mostHeld[i].Load(), int64(2))
	}
	require.NotZero(t, served.Load())
	taken, waiting := p.state()
	require.Zero(t, taken+waiting)
	require.Empty(t, p.mu.queues)
	require.Empty(t, p.mu.turns)
	require.Empty(t, p.mu.held)
	require.Zero(t, p.mu.long)
}
