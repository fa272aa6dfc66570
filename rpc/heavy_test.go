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
func waits(t *testing.T, p *heavyPool, ctx context.Context, client string, entered chan<- string) <-chan error {
	t.Helper()
	_, before := p.state()
	ended := make(chan error, 1)
	go func() {
		err := p.enter(ctx, client, time.Minute)
		if err == nil {
			entered <- client
		}
		ended <- err
	}()
	eventually(t, "it waits", func() bool { _, waiting := p.state(); return waiting == before+1 })
	return ended
}

// TestClientsTakeTurns: who has queued many requests does not make another one wait for all of them.
func TestClientsTakeTurns(t *testing.T) {
	p := newHeavyPool(1, 100, 10)
	require.NoError(t, p.enter(t.Context(), "greedy", time.Minute))
	entered := make(chan string, 20)
	for range 6 {
		waits(t, p, t.Context(), "greedy", entered)
	}
	waits(t, p, t.Context(), "modest", entered)
	waits(t, p, t.Context(), "third", entered)
	waits(t, p, t.Context(), "third", entered)
	var order []string
	for range 9 {
		p.leave()
		order = append(order, receive(t, entered))
	}
	require.Equal(t, []string{"greedy", "modest", "third", "greedy", "third", "greedy", "greedy", "greedy", "greedy"}, order)
	p.leave()
	taken, waiting := p.state()
	require.Zero(t, taken+waiting)
	require.Empty(t, p.mu.queues)
	require.Empty(t, p.mu.turns)
}

// TestHeavyQueueIsBounded: for a client, and for all.
func TestHeavyQueueIsBounded(t *testing.T) {
	p := newHeavyPool(1, 3, 2)
	require.NoError(t, p.enter(t.Context(), "a", time.Minute))
	entered := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	first := waits(t, p, ctx, "a", entered)
	second := waits(t, p, t.Context(), "a", entered)
	refused := func(client, why string) {
		t.Helper()
		err := p.enter(t.Context(), client, time.Minute)
		require.ErrorContains(t, err, why)
		var coded *codedError
		require.ErrorAs(t, err, &coded)
		require.Equal(t, codeLimitExceeded, coded.code)
	}
	refused("a", "too many calls and searches of one client are waiting, at most 2 may")
	third := waits(t, p, t.Context(), "b", entered)
	refused("c", "3 calls and searches are waiting, at most 3 may")

	cancel()
	require.ErrorIs(t, receive(t, first), context.Canceled)
	require.ErrorContains(t, p.enter(t.Context(), "c", time.Nanosecond), "no place among them became free in 1ns")
	for _, ended := range []<-chan error{second, third} {
		p.leave()
		require.NoError(t, receive(t, ended))
	}
	p.leave()
	require.NoError(t, p.enter(t.Context(), "c", time.Minute))
	p.leave()
	taken, waiting := p.state()
	require.Zero(t, taken+waiting)
}

// TestHeavyPoolUnderLoad: clients that come, lose patience and go never hold more places than there are, and leave none taken.
func TestHeavyPoolUnderLoad(t *testing.T) {
	p := newHeavyPool(3, 1000, 1000)
	var running, most, served atomic.Int64
	var all sync.WaitGroup
	for client := range 8 {
		rng := rand.New(rand.NewPCG(1, uint64(client)))
		for range 20 {
			patience := time.Duration(rng.IntN(200)) * time.Microsecond
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience*2)
				defer cancel()
				for range 50 {
					if p.enter(ctx, fmt.Sprint(client), patience) != nil {
						continue
					}
					now := running.Add(1)
					for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
					}
					served.Add(1)
					running.Add(-1)
					p.leave()
				}
			})
		}
	}
	all.Wait()
	require.LessOrEqual(t, most.Load(), int64(3))
	require.NotZero(t, served.Load())
	taken, waiting := p.state()
	require.Zero(t, taken+waiting)
	require.Empty(t, p.mu.queues)
	require.Empty(t, p.mu.turns)
}
