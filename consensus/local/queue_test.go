package local_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
)

// A gate is a wall clock that the committer must pass before each commit: a test holds it there, and sees how many commits there were.
type gate struct {
	arrived chan struct{}
	pass    chan struct{}
}

func newGate() gate { return gate{arrived: make(chan struct{}, 1000), pass: make(chan struct{}, 1000)} }

func (g gate) Now() time.Time {
	g.arrived <- struct{}{}
	<-g.pass
	return time.UnixMilli(1)
}

// openGated returns a loglet whose committer stands at the gate.
func openGated(t *testing.T, opts local.Options) (*local.Loglet, gate) {
	t.Helper()
	g := newGate()
	opts.Now = g.Now
	store, err := consensus.OpenStore(context.Background(), consensus.StoreOptions{
		NetworkID: consensus.NetworkID{1}, Genesis: consensus.Spec{Engine: local.Name},
	})
	require.NoError(t, err)
	l, err := local.Open(store, store.Segments()[0], opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		close(g.pass)
		require.NoError(t, l.Close())
		require.NoError(t, store.Close())
	})
	return l, g
}

func record(n, size int) consensus.Record {
	return consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: uint64(n)}, Payload: make([]byte, size)}
}

type result struct {
	offset consensus.Offset
	err    error
}

// start appends in the background.
func start(ctx context.Context, l *local.Loglet, r consensus.Record) chan result {
	done := make(chan result, 1)
	go func() {
		o, err := l.Append(ctx, r)
		done <- result{o, err}
	}()
	return done
}

// queued waits until n appends are in the queue.
func queued(t *testing.T, l *local.Loglet, n string) {
	t.Helper()
	require.Eventually(t, func() bool { return l.Status().Detail["queued"] == n }, 10*time.Second, time.Millisecond)
}

// TestGroupCommit: whatever gathers while a commit runs is the next one, within the bound.
func TestGroupCommit(t *testing.T) {
	ctx := context.Background()
	l, g := openGated(t, local.Options{MaxBatchBytes: 10_000})
	first := start(ctx, l, record(1, 10))
	<-g.arrived
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			if _, err := l.Append(ctx, record(2+i, 10)); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	queued(t, l, "50")
	g.pass <- struct{}{} // the first
	g.pass <- struct{}{} // all the others
	wait.Wait()
	require.NoError(t, (<-first).err)
	require.Len(t, g.arrived, 1, "51 appends in two commits")

	// Three that do not fit one commit together take two.
	<-g.arrived
	first = start(ctx, l, record(100, 10))
	<-g.arrived
	for i := range 3 {
		wait.Go(func() {
			if _, err := l.Append(ctx, record(101+i, 4000)); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	queued(t, l, "3")
	for range 3 {
		g.pass <- struct{}{}
	}
	wait.Wait()
	require.NoError(t, (<-first).err)
	require.Len(t, g.arrived, 2)
}

// TestWithdraw: a context that ends takes back what is still in the queue, and cannot take back what is being committed.
func TestWithdraw(t *testing.T) {
	l, g := openGated(t, local.Options{})
	takenCtx, cancelTaken := context.WithCancel(context.Background())
	taken := start(takenCtx, l, record(1, 10))
	<-g.arrived
	queuedCtx, cancelQueued := context.WithCancel(context.Background())
	inQueue := start(queuedCtx, l, record(2, 10))
	queued(t, l, "1")
	behind := start(context.Background(), l, record(3, 10))
	queued(t, l, "2")

	cancelTaken()
	r := <-taken
	require.ErrorIs(t, r.err, consensus.ErrUnknownFate)
	require.ErrorIs(t, r.err, context.Canceled)
	cancelQueued()
	r = <-inQueue
	require.ErrorIs(t, r.err, context.Canceled)
	require.NotErrorIs(t, r.err, consensus.ErrUnknownFate)

	g.pass <- struct{}{}
	g.pass <- struct{}{}
	r = <-behind
	require.NoError(t, r.err)
	require.Equal(t, consensus.Offset(1), r.offset)
	entries, err := l.Read(context.Background(), 0, 2)
	require.NoError(t, err)
	require.Equal(t, record(1, 10), entries[0].Record, "it was in after all")
	require.Equal(t, record(3, 10), entries[1].Record)
}

// TestBackpressure: a full queue blocks, and a blocked append ends with its context, with room, or with Close.
func TestBackpressure(t *testing.T) {
	l, g := openGated(t, local.Options{MaxQueueBytes: consensus.MaxRecordBytes})
	big := start(context.Background(), l, record(1, 900_000))
	<-g.arrived
	ctx, cancel := context.WithCancel(context.Background())
	cancelled := start(ctx, l, record(2, 900_000))
	closed := start(context.Background(), l, record(3, 900_000))
	small := start(context.Background(), l, record(4, 900_000))
	cancel()
	r := <-cancelled
	require.ErrorIs(t, r.err, context.Canceled)
	require.NotErrorIs(t, r.err, consensus.ErrUnknownFate)
	require.Equal(t, "0", l.Status().Detail["queued"])

	closing := make(chan error, 1)
	go func() { closing <- l.Close() }()
	for _, blocked := range []chan result{closed, small} {
		r = <-blocked
		require.ErrorIs(t, r.err, consensus.ErrClosed)
		require.NotErrorIs(t, r.err, consensus.ErrUnknownFate)
	}
	g.pass <- struct{}{}
	require.NoError(t, (<-big).err, "what was being committed is finished and acknowledged")
	require.NoError(t, <-closing)
}

func TestOptions(t *testing.T) {
	opts := local.Options{MaxBatchBytes: -1, MaxQueueBytes: 5}
	opts.EnsureDefaults()
	err := opts.Validate()
	require.ErrorIs(t, err, consensus.ErrInvalid)
	require.ErrorContains(t, err, "MaxBatchBytes")
	require.ErrorContains(t, err, "MaxQueueBytes")
}
