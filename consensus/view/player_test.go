package view_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"ledgerd/consensus"
	"ledgerd/consensus/view"
	"ledgerd/consensus/view/viewtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fragile is a view that a test can make fail.
type fragile struct {
	applied atomic.Uint64
	apply   func(e consensus.Entry) (any, error)
}

func (f *fragile) Apply(_ context.Context, e consensus.Entry) (any, error) {
	out, err := f.apply(e)
	if err == nil {
		f.applied.Store(uint64(e.LSN))
	}
	return out, err
}
func (f *fragile) Advance(lsn consensus.LSN)                 { f.applied.Store(uint64(lsn)) }
func (f *fragile) Applied() consensus.LSN                    { return consensus.LSN(f.applied.Load()) }
func (f *fragile) Durable() consensus.LSN                    { return 0 }
func (f *fragile) Digest() (consensus.Digest, error)         { return consensus.Digest{}, nil }
func (f *fragile) Snapshot(context.Context, io.Writer) error { return errors.New("has no snapshots") }
func (f *fragile) Restore(context.Context, io.Reader) error  { return errors.New("has no snapshots") }
func (f *fragile) Close() error                              { return nil }

func newPlayer(t *testing.T, log view.Log, app string, v view.View) (*view.Player, <-chan error) {
	p, err := view.NewPlayer(log, app, v, view.Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	finished := make(chan struct{})
	go func() { defer close(finished); ended <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-finished })
	return p, ended
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestViewStopsAlone checks invariant 4: an error and a panic each stop one view at a named LSN, proposals to it fail, and the
// other view on the same log goes on.
func TestViewStopsAlone(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("disk gone") },
		"panic": func() error { panic("broken invariant") },
	} {
		t.Run(name, func(t *testing.T) {
			log := viewtest.NewLog(consensus.NetworkID{1})
			bad, ended := newPlayer(t, log, "bad", &fragile{apply: func(e consensus.Entry) (any, error) {
				if string(e.Record.Payload) == "poison" {
					return nil, fail()
				}
				return string(e.Record.Payload), nil
			}})
			counter, err := viewtest.OpenCounter(vfs.NewMem(), "c")
			require.NoError(t, err)
			good, _ := newPlayer(t, log, viewtest.CounterApp, counter)

			out, err := bad.Propose(within(t), []byte("fine"))
			require.NoError(t, err)
			require.Equal(t, "fine", out.Result)

			_, err = bad.Propose(within(t), []byte("poison"))
			require.ErrorIs(t, err, view.ErrStopped)
			var stop *view.StopError
			require.ErrorAs(t, <-ended, &stop)
			require.Equal(t, consensus.LSN(2), stop.LSN)
			require.Equal(t, "bad", stop.App)
			require.ErrorIs(t, bad.WaitApplied(within(t), 2), view.ErrStopped)
			require.NoError(t, bad.WaitApplied(within(t), 1))

			out, err = good.Propose(within(t), []byte("x 5"))
			require.NoError(t, err)
			require.Equal(t, viewtest.CounterResult{Value: 5}, out.Result)
			t.Cleanup(func() { require.NoError(t, counter.Close()) })
		})
	}
}

// TestProposeConcurrently has many proposers; each is told the outcome of its own record.
func TestProposeConcurrently(t *testing.T) {
	log := viewtest.NewLog(consensus.NetworkID{1})
	p, _ := newPlayer(t, log, "echo", &fragile{apply: func(e consensus.Entry) (any, error) {
		return string(e.Record.Payload), nil
	}})
	var wg sync.WaitGroup
	seen := sync.Map{}
	for i := range 100 {
		wg.Go(func() {
			want := fmt.Sprint(i)
			out, err := p.Propose(within(t), []byte(want))
			if err != nil || out.Result != want {
				t.Errorf("proposal %s: %v, %v", want, out, err)
			}
			if other, taken := seen.LoadOrStore(out.LSN, want); taken {
				t.Errorf("%s and %s both have lsn %d", other, want, out.LSN)
			}
		})
	}
	wg.Wait()
}

// TestSyncSeesWhatWasAcknowledged checks that a read after Sync is linearizable.
func TestSyncSeesWhatWasAcknowledged(t *testing.T) {
	log := viewtest.NewLog(consensus.NetworkID{1})
	release := make(chan struct{})
	v := &fragile{apply: func(consensus.Entry) (any, error) { <-release; return nil, nil }}
	p, _ := newPlayer(t, log, "slow", v)
	lsn := log.Put(consensus.Record{App: "slow", ID: consensus.RecordID{Session: 9, Seq: 1}})
	synced := make(chan consensus.LSN, 1)
	go func() {
		at, err := p.Sync(within(t))
		if err == nil {
			synced <- at
		}
	}()
	select {
	case <-synced:
		t.Fatal("Sync returned before the entry was applied")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	require.GreaterOrEqual(t, <-synced, lsn)
}

// failingLog acknowledges nothing.
type failingLog struct{ *viewtest.Log }

func (failingLog) Append(context.Context, consensus.Record) (consensus.LSN, error) {
	return 0, consensus.ErrTooLarge
}

func TestProposeReturnsTheLogsError(t *testing.T) {
	p, _ := newPlayer(t, failingLog{viewtest.NewLog(consensus.NetworkID{1})}, "x", &fragile{})
	_, err := p.Propose(within(t), nil)
	require.ErrorIs(t, err, consensus.ErrTooLarge)
}

func TestCancelledProposal(t *testing.T) {
	log := viewtest.NewLog(consensus.NetworkID{1})
	p, err := view.NewPlayer(log, "idle", &fragile{}, view.Options{}) // never run
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Propose(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, p.WaitApplied(ctx, 1), context.Canceled)
}
