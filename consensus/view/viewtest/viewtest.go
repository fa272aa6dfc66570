// Package viewtest is the contract of view.View as a test suite, and a small view that passes it.
//
// Every application on the log calls Run: it plays the same entries in different ways (other batch cuts, foreign
// entries between, crashes at random points, a snapshot on the way) and demands the same digest each time.
package viewtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/view"
)

// An Instance is one replica's place to keep a view: a directory, or a file system in memory.
type Instance interface {
	// Open opens the view, empty or as an earlier opening left it.
	Open(t testing.TB) view.View
	// Crash ends the open view as a kill -9 would and leaves what had reached the disk. Open follows.
	Crash(t testing.TB)
}

// A Harness tells the suite about an application.
type Harness struct {
	App string
	// New returns a fresh place for a view.
	New func(t testing.TB) Instance
	// Payload returns the payload of the i-th record. The suite makes the history of one test from one sequence of
	// calls with i ascending from 0; some payloads should be ones that the application refuses.
	Payload func(i int) []byte
	// Records is the length of the history. Default 60.
	Records int
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.Records == 0 {
		h.Records = 60
	}
	entries := h.history()
	want := h.playStraight(t, entries)

	t.Run("TwoReplicasAgree", func(t *testing.T) {
		require.Equal(t, want, h.playStraight(t, entries))
	})
	t.Run("DigestTellsStatesApart", func(t *testing.T) {
		require.NotEqual(t, want, h.playStraight(t, entries[:len(entries)/2]), "half of the history has the digest of all")
	})
	t.Run("BatchCuts", func(t *testing.T) { h.testCuts(t, entries, want) })
	t.Run("ForeignEntriesAdvance", func(t *testing.T) { h.testForeign(t, entries) })
	t.Run("CrashAnywhere", func(t *testing.T) { h.testCrashes(t, entries, want) })
	t.Run("CleanRestart", func(t *testing.T) { h.testRestart(t, entries, want) })
	t.Run("SnapshotAndRestore", func(t *testing.T) { h.testSnapshot(t, entries, want) })
	t.Run("DamagedSnapshotIsRefused", func(t *testing.T) { h.testDamagedSnapshot(t, entries) })
	t.Run("ProposeReadsItsOwnWrite", h.testPropose)
}

// history makes entries as a log would order them, every fifth one another application's.
func (h *Harness) history() []consensus.Entry {
	l := NewLog(consensus.NetworkID{1})
	for i := range h.Records {
		l.Put(consensus.Record{App: h.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: h.Payload(i)})
		if i%5 == 4 {
			l.Put(consensus.Record{App: "stranger", ID: consensus.RecordID{Session: 2, Seq: uint64(i + 1)}, Payload: h.Payload(i)})
		}
	}
	return l.entries
}

// feed gives v the entries after what it has applied.
func (h *Harness) feed(t testing.TB, v view.View, entries []consensus.Entry) {
	t.Helper()
	for _, e := range entries {
		if e.LSN <= v.Applied() {
			continue
		}
		if e.Record.App != h.App {
			v.Advance(e.LSN)
			continue
		}
		if p, ok := v.(view.Prefetcher); ok && e.LSN%2 == 0 { // preparing must not matter
			p.Prefetch(e)
		}
		_, err := v.Apply(context.Background(), e)
		require.NoError(t, err, "lsn %d", e.LSN)
		require.Equal(t, e.LSN, v.Applied())
		require.LessOrEqual(t, v.Durable(), v.Applied())
	}
}

func digestOf(t testing.TB, v view.View) consensus.Digest {
	t.Helper()
	d, err := v.Digest()
	require.NoError(t, err)
	return d
}

func (h *Harness) playStraight(t testing.TB, entries []consensus.Entry) consensus.Digest {
	v := h.New(t).Open(t)
	h.feed(t, v, entries)
	d := digestOf(t, v)
	require.NoError(t, v.Close())
	return d
}

// testCuts plays through a real player over logs that deliver other numbers of entries at a time.
func (h *Harness) testCuts(t *testing.T, entries []consensus.Entry, want consensus.Digest) {
	for _, cut := range []int{1, 2, 7, 1000} {
		for _, queue := range []int{1, 64} {
			t.Run(fmt.Sprintf("cut=%d,queue=%d", cut, queue), func(t *testing.T) {
				log := NewLog(consensus.NetworkID{1})
				log.MaxRead = cut
				for _, e := range entries {
					log.Put(e.Record)
				}
				v := h.New(t).Open(t)
				p, err := view.NewPlayer(log, h.App, v, view.Options{QueueEntries: queue, QueueBytes: 1024})
				require.NoError(t, err)
				stop := start(t, p)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				_, err = p.Sync(ctx)
				require.NoError(t, err)
				stop()
				require.Equal(t, want, digestOf(t, v))
				require.NoError(t, v.Close())
			})
		}
	}
}

func (h *Harness) testForeign(t *testing.T, entries []consensus.Entry) {
	instance := h.New(t)
	v := instance.Open(t)
	h.feed(t, v, entries)
	before := digestOf(t, v)
	tail := entries[len(entries)-1].LSN
	v.Advance(tail + 100)
	require.Equal(t, tail+100, v.Applied())
	require.Equal(t, before, digestOf(t, v), "another application's entries changed the state")
	require.NoError(t, v.Close())
	v = instance.Open(t)
	require.Equal(t, tail+100, v.Applied(), "after a clean close")
	require.NoError(t, v.Close())
}

func (h *Harness) testCrashes(t *testing.T, entries []consensus.Entry, want consensus.Digest) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			instance := h.New(t)
			v := instance.Open(t)
			for done := 0; done < len(entries); {
				done += 1 + rng.IntN(len(entries)/3)
				done = min(done, len(entries))
				h.feed(t, v, entries[:done])
				applied, durable := v.Applied(), v.Durable()
				instance.Crash(t)
				v = instance.Open(t)
				require.LessOrEqual(t, v.Applied(), applied)
				require.GreaterOrEqual(t, v.Applied(), durable, "what was durable is gone after the crash")
			}
			h.feed(t, v, entries)
			require.Equal(t, want, digestOf(t, v))
			require.NoError(t, v.Close())
		})
	}
}

func (h *Harness) testRestart(t *testing.T, entries []consensus.Entry, want consensus.Digest) {
	instance := h.New(t)
	for i := range entries {
		if i%17 != 0 {
			continue
		}
		v := instance.Open(t)
		h.feed(t, v, entries[:i])
		applied := v.Applied()
		require.NoError(t, v.Close())
		v = instance.Open(t)
		require.Equal(t, applied, v.Applied(), "a clean close loses nothing")
		require.NoError(t, v.Close())
	}
	v := instance.Open(t)
	h.feed(t, v, entries)
	require.Equal(t, want, digestOf(t, v))
	require.NoError(t, v.Close())
}

func (h *Harness) snapshotOf(t *testing.T, entries []consensus.Entry) (snapshot []byte, at consensus.LSN) {
	v := h.New(t).Open(t)
	h.feed(t, v, entries)
	var buf bytes.Buffer
	require.NoError(t, v.Snapshot(context.Background(), &buf))
	at = v.Applied()
	require.NoError(t, v.Close())
	return buf.Bytes(), at
}

func (h *Harness) testSnapshot(t *testing.T, entries []consensus.Entry, want consensus.Digest) {
	snapshot, at := h.snapshotOf(t, entries[:len(entries)/2])
	instance := h.New(t)
	v := instance.Open(t)
	require.NoError(t, v.Restore(context.Background(), bytes.NewReader(snapshot)))
	require.Equal(t, at, v.Applied())
	h.feed(t, v, entries[:len(entries)*3/4])
	require.NoError(t, v.Close())
	v = instance.Open(t)
	h.feed(t, v, entries)
	require.Equal(t, want, digestOf(t, v))
	require.NoError(t, v.Close())
}

func (h *Harness) testDamagedSnapshot(t *testing.T, entries []consensus.Entry) {
	snapshot, _ := h.snapshotOf(t, entries[:len(entries)/2])
	flipped := bytes.Clone(snapshot)
	flipped[len(flipped)*2/3] ^= 0x40
	for name, bad := range map[string][]byte{"cut": snapshot[:len(snapshot)*2/3], "flipped": flipped, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			v := h.New(t).Open(t)
			empty := digestOf(t, v)
			require.Error(t, v.Restore(context.Background(), bytes.NewReader(bad)))
			require.Equal(t, empty, digestOf(t, v), "a refused snapshot left something behind")
			require.Zero(t, v.Applied())
			require.NoError(t, v.Close())
		})
	}
}

func (h *Harness) testPropose(t *testing.T) {
	log := NewLog(consensus.NetworkID{1})
	v := h.New(t).Open(t)
	p, err := view.NewPlayer(log, h.App, v, view.Options{})
	require.NoError(t, err)
	stop := start(t, p)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range 10 {
		out, err := p.Propose(ctx, h.Payload(i))
		require.NoError(t, err)
		require.GreaterOrEqual(t, v.Applied(), out.LSN, "told before it was applied")
	}
	stop()
	_, err = p.Propose(ctx, h.Payload(10))
	require.ErrorIs(t, err, view.ErrStopped)
	require.NoError(t, v.Close())
}

// start runs p and returns a function that ends it and waits.
func start(t testing.TB, p *view.Player) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			require.NoError(t, err)
		}
	}
}

// Log is a log in memory, without an engine: it orders what it is given. It is for tests of views.
type Log struct {
	// MaxRead bounds how many entries Follow returns at once. 0: no bound.
	MaxRead int

	network consensus.NetworkID
	mu      sync.Mutex
	entries []consensus.Entry
	grown   chan struct{} // closed at the next append
}

// NewLog returns an empty log.
func NewLog(network consensus.NetworkID) *Log {
	return &Log{network: network, grown: make(chan struct{})}
}

// Put appends r.
func (l *Log) Put(r consensus.Record) consensus.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := consensus.Entry{
		LSN: consensus.LSN(len(l.entries) + 1), Epoch: 1,
		UnixMilli: 1_700_000_000_000 + uint64(len(l.entries))*300, Record: r,
	}
	prev := consensus.Digest(l.network)
	if n := len(l.entries); n > 0 {
		prev = l.entries[n-1].Digest
	}
	e.Digest = consensus.NextDigest(prev, e)
	l.entries = append(l.entries, e)
	close(l.grown)
	l.grown = make(chan struct{})
	return e.LSN
}

// Append implements view.Log.
func (l *Log) Append(ctx context.Context, r consensus.Record) (consensus.LSN, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return l.Put(r), nil
}

// Tail implements view.Log.
func (l *Log) Tail(context.Context, consensus.Consistency) (consensus.LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return consensus.LSN(len(l.entries) + 1), nil
}

// Follow implements view.Log.
func (l *Log) Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error) {
	for {
		l.mu.Lock()
		rest, grown := l.entries[min(int(from-1), len(l.entries)):], l.grown
		l.mu.Unlock()
		if l.MaxRead > 0 {
			limit = min(limit, l.MaxRead)
		}
		if len(rest) > 0 {
			return rest[:min(limit, len(rest))], nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// DigestAt returns the digest at lsn.
func (l *Log) DigestAt(_ context.Context, lsn consensus.LSN) (consensus.Digest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lsn == 0 {
		return consensus.Digest(l.network), nil
	}
	if int(lsn) > len(l.entries) {
		return consensus.Digest{}, consensus.ErrUnwritten
	}
	return l.entries[lsn-1].Digest, nil
}

// Segments returns the one segment that this log has.
func (l *Log) Segments() []consensus.Segment {
	return []consensus.Segment{{Network: l.network, Epoch: 1, Base: 1, BaseDigest: consensus.Digest(l.network)}}
}

// Trimmed returns 0: this log keeps everything.
func (l *Log) Trimmed() consensus.LSN { return 0 }
