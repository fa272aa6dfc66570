package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
)

func open(t *testing.T, change func(*consensus.Options)) *consensus.VirtualLog {
	t.Helper()
	opts := consensus.Options{
		NetworkID: consensus.NetworkID{1},
		Genesis:   consensus.Spec{Engine: local.Name},
		Engines:   map[string]consensus.Engine{local.Name: local.Engine(local.Options{})},
	}
	if change != nil {
		change(&opts)
	}
	v, err := consensus.Open(context.Background(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

func newRecord(n uint64) consensus.Record {
	return consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: n}, Payload: fmt.Append(nil, n)}
}

// A flaky loglet does not know what became of two appends in three: one of these is in, the other is not.
type flaky struct {
	consensus.Loglet
	n atomic.Uint64
}

func (f *flaky) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	switch f.n.Add(1) % 3 {
	case 0:
		return f.Loglet.Append(ctx, r)
	case 1:
		if _, err := f.Loglet.Append(ctx, r); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("leader is gone: %w", consensus.ErrUnknownFate)
	default:
		return 0, errors.New("connection reset")
	}
}

func flakyEngine(ctx context.Context, s *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	l, err := local.Open(s, seg, local.Options{})
	return &flaky{Loglet: l}, err
}

// TestAppendUnknownFate: VirtualLog appends again until it knows, and the record is in once.
func TestAppendUnknownFate(t *testing.T) {
	reg := prometheus.NewRegistry()
	v := open(t, func(o *consensus.Options) {
		o.Engines[local.Name] = consensus.EngineFunc(flakyEngine)
		o.Registerer = reg
	})
	const n = 12
	lsns := make([]consensus.LSN, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			lsn, err := v.Append(context.Background(), newRecord(uint64(i)+1))
			if err != nil {
				t.Errorf("append: %v", err)
			}
			lsns[i] = lsn
		})
	}
	wait.Wait()
	tail, err := v.Tail(context.Background(), consensus.Consistent)
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(n+1), tail)
	entries, err := v.Read(context.Background(), 1, tail)
	require.NoError(t, err)
	for i, lsn := range lsns {
		require.Equal(t, newRecord(uint64(i)+1), entries[lsn-1].Record)
	}
	require.Equal(t, float64(n), metric(t, reg, "ledgerd_log_appends_total"))
	require.Equal(t, float64(n+1), metric(t, reg, "ledgerd_log_tail_lsn"))
	require.Positive(t, metric(t, reg, "ledgerd_log_append_retries_total"))
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// lost loses every append, as an engine without a quorum does.
type lost struct {
	consensus.Loglet
	tried chan struct{}
}

func (l lost) Append(context.Context, consensus.Record) (consensus.Offset, error) {
	select {
	case l.tried <- struct{}{}:
	default:
	}
	return 0, consensus.ErrUnknownFate
}

// TestAppendEnds: the caller of an append that never succeeds is let go by its context and by Close, and is told that the fate is unknown.
func TestAppendEnds(t *testing.T) {
	tried := make(chan struct{})
	v := open(t, func(o *consensus.Options) {
		o.Engines[local.Name] = consensus.EngineFunc(func(_ context.Context, s *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
			l, err := local.Open(s, seg, local.Options{})
			return lost{l, tried}, err
		})
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := v.Append(ctx, newRecord(1))
		ended <- err
	}()
	<-tried
	<-tried
	cancel()
	err := <-ended
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
	go func() {
		_, err := v.Append(context.Background(), newRecord(2))
		ended <- err
	}()
	<-tried
	require.NoError(t, v.Close())
	err = <-ended
	require.ErrorIs(t, err, consensus.ErrClosed)
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
}

// TestAppendAfterFailure: a failed disk ends appends at once instead of having them retried for ever.
func TestAppendAfterFailure(t *testing.T) {
	var fail atomic.Bool
	boom := errors.New("boom")
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, ".log") {
			return boom
		}
		return nil
	}))
	told := make(chan error, 1)
	v := open(t, func(o *consensus.Options) {
		o.FS, o.Dir = disk, "log"
		o.OnFatal = func(err error) { told <- err }
	})
	_, err := v.Append(context.Background(), newRecord(1))
	require.NoError(t, err)
	fail.Store(true)
	_, err = v.Append(context.Background(), newRecord(2))
	require.ErrorIs(t, err, consensus.ErrFailed)
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
	require.ErrorIs(t, <-told, boom)
	_, err = v.Append(context.Background(), newRecord(3))
	require.ErrorIs(t, err, consensus.ErrFailed)
	require.NotErrorIs(t, err, consensus.ErrUnknownFate, "it was not even tried")
	require.Equal(t, consensus.StateFailed, v.Status().Loglet.State)
	entries, err := v.Read(context.Background(), 1, 2)
	require.NoError(t, err, "reads go on")
	require.Len(t, entries, 1)
}

// TestSharedRegisterer: two logs in one process do not collide.
func TestSharedRegisterer(t *testing.T) {
	reg := prometheus.NewRegistry()
	for i := range 2 {
		v := open(t, func(o *consensus.Options) { o.Registerer = reg })
		_, err := v.Append(context.Background(), newRecord(uint64(i)+1))
		require.NoError(t, err)
	}
	require.Equal(t, 2.0, metric(t, reg, "ledgerd_log_appends_total"))

	reg = prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ledgerd_log_append_bytes_total", Help: "Payload bytes of acknowledged appends.",
	}))
	_, err := consensus.Open(context.Background(), consensus.Options{
		NetworkID: consensus.NetworkID{1}, Genesis: consensus.Spec{Engine: local.Name}, Registerer: reg,
	})
	require.Error(t, err, "somebody else's metric of the same name")
}

func TestOpenErrors(t *testing.T) {
	_, err := consensus.Open(context.Background(), consensus.Options{})
	require.ErrorIs(t, err, consensus.ErrInvalid)
	_, err = consensus.Open(context.Background(), consensus.Options{NetworkID: consensus.NetworkID{1}, Genesis: consensus.Spec{Engine: "none"}})
	require.ErrorIs(t, err, consensus.ErrInvalid)
	require.ErrorContains(t, err, `"none"`)
}

// Example appends two records to a log in memory and reads them back.
func Example() {
	ctx := context.Background()
	log, err := consensus.Open(ctx, consensus.Options{ // no Dir: in memory
		NetworkID: consensus.NetworkID{1},
		Genesis:   consensus.Spec{Engine: local.Name},
		Engines:   map[string]consensus.Engine{local.Name: local.Engine(local.Options{})},
	})
	if err != nil {
		panic(err)
	}
	defer log.Close()
	session, err := consensus.NewSession()
	if err != nil {
		panic(err)
	}
	for i, word := range []string{"hello", "world"} {
		r := consensus.Record{App: "example", ID: consensus.RecordID{Session: session, Seq: uint64(i)}, Payload: []byte(word)}
		if _, err := log.Append(ctx, r); err != nil {
			panic(err)
		}
	}
	entries, err := log.Follow(ctx, 1, 10)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		fmt.Println(e.LSN, e.Epoch, string(e.Record.Payload))
	}
	// Output:
	// 1 1 hello
	// 2 1 world
}

// stopping is a loglet that stops by itself when it is told to.
type stopping struct {
	consensus.Loglet
	err atomic.Pointer[error]
}

func (s *stopping) Stopped() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// TestEngineFailed: a node whose engine has stopped by itself is told so, once, and its log answers with the reason.
func TestEngineFailed(t *testing.T) {
	var loglet stopping
	halts := make(chan error, 8)
	v := open(t, func(o *consensus.Options) {
		o.Engines[local.Name] = consensus.EngineFunc(func(_ context.Context, s *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
			l, err := local.Open(s, seg, local.Options{})
			loglet.Loglet = l
			return &loglet, err
		})
		o.OnHalt = func(err error) { halts <- err }
	})
	_, err := v.Append(context.Background(), newRecord(1))
	require.NoError(t, err)
	failure := fmt.Errorf("%w: for no reason", consensus.ErrEngineFailed)
	loglet.err.Store(&failure)
	require.ErrorIs(t, <-halts, consensus.ErrEngineFailed)
	_, err = v.Append(context.Background(), newRecord(2))
	require.ErrorIs(t, err, consensus.ErrEngineFailed)
	require.ErrorContains(t, err, "for no reason")
	require.Empty(t, halts)
}
