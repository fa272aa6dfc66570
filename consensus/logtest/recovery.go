package logtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

func checkReopen(tb TB, h Harness) {
	w := newWorld(tb, h)
	before := []consensus.Entry{}
	for range 5 {
		w.fill(7)
		n := w.tail(0).Offset
		entries := w.all(0, n)
		w.verifyFirst(entries)
		require.Equal(tb, before, entries[:len(before)])
		before = entries
		w.reopen()
		require.Equal(tb, consensus.Tail{Offset: n}, w.tail(0))
		require.Equal(tb, before, w.all(0, n))
	}
}

// A ledger of what was acknowledged, to hold against what is there later.
type acks struct {
	sync.Mutex
	at    map[consensus.RecordID]consensus.LSN
	count chan struct{} // a token for every acknowledgement, as long as there is room
}

func newAcks() *acks {
	return &acks{at: map[consensus.RecordID]consensus.LSN{}, count: make(chan struct{}, 1024)}
}

func (a *acks) add(id consensus.RecordID, lsn consensus.LSN) {
	a.Lock()
	defer a.Unlock()
	a.at[id] = lsn
	select {
	case a.count <- struct{}{}:
	default:
	}
}

// snapshot returns what is acknowledged by now.
func (a *acks) snapshot() map[consensus.RecordID]consensus.LSN {
	a.Lock()
	defer a.Unlock()
	m := make(map[consensus.RecordID]consensus.LSN, len(a.at))
	for id, lsn := range a.at {
		m[id] = lsn
	}
	return m
}

// load appends from several goroutines until ctx ends; errors that a context or a Close explains end an appender quietly.
func (w *world) load(ctx context.Context, wait *sync.WaitGroup, got *acks, appenders int, do func(context.Context, int, consensus.Record) (consensus.LSN, error)) {
	for a := range appenders {
		wait.Go(func() {
			for {
				r := w.record()
				r.Payload = append(r.Payload, make([]byte, (a%4)*3000)...)
				lsn, err := do(ctx, a, r)
				if err != nil {
					if ctx.Err() == nil {
						w.Errorf("append: %v", err)
					}
					return
				}
				got.add(r.ID, lsn)
			}
		})
	}
}

// checkCrash: power fails in the middle of concurrent appends, again and again. What was acknowledged before is there, at its place and with its digest;
// whatever else is there is what was ordered, without a gap.
func checkCrash(tb TB, h Harness) {
	w := newWorld(tb, h)
	got := newAcks()
	for round := range 25 {
		ctx, cancel := context.WithCancel(w.ctx)
		var wait sync.WaitGroup
		w.load(ctx, &wait, got, 6, func(ctx context.Context, a int, r consensus.Record) (consensus.LSN, error) {
			o, err := w.loglets[a%h.members()].Append(ctx, r)
			return 1 + consensus.LSN(o), err
		})
		for range 1 + w.rng.IntN(40) {
			select {
			case <-got.count:
			case <-w.ctx.Done():
				w.Errorf("round %d: appends have stopped", round)
				cancel()
				wait.Wait()
				return
			}
		}
		acked := got.snapshot()
		disks := w.crashed()
		cancel()
		wait.Wait()
		w.append(0)                           // a barrier: what was handed over by cancelled appends is in before it
		ordered := w.all(0, w.tail(0).Offset) // what the crashed node had ordered, and went on to order
		w.close()
		w.disks = disks
		w.open()

		left := w.all(0, w.tail(0).Offset)
		w.verifyFirst(left)
		require.LessOrEqual(tb, len(left), len(ordered), "round %d", round)
		require.Equal(tb, ordered[:len(left)], left, "round %d: not a prefix of what was ordered", round)
		for id, lsn := range acked {
			require.LessOrEqual(tb, int(lsn), len(left), "round %d: lsn %d was acknowledged and is gone", round, lsn)
			require.Equal(tb, id, left[lsn-1].Record.ID, "round %d", round)
		}
		// Whoever does not know better appends again: what survived is told from what did not.
		if n := len(left); n > 0 {
			o, err := w.loglets[0].Append(w.ctx, left[n-1].Record)
			require.NoError(tb, err)
			require.Equal(tb, consensus.Offset(n-1), o)
		}
		got.at = acked // the rest was acknowledged by a node that is no more
		for len(got.count) > 0 {
			<-got.count
		}
	}
}

// checkTime: the log's clock follows the wall clock forwards, and stands still while that is behind: across restarts too.
func checkTime(tb TB, h Harness) {
	w := newWorld(tb, h)
	start := w.clock.ms.Load()
	var want []uint64
	at := func(ms int64, expect int64) {
		w.clock.ms.Store(start + ms)
		w.append(0)
		want = append(want, uint64(start+expect))
	}
	at(0, 0)
	at(5, 5)
	at(-1000, 5)
	at(4, 5)
	at(9, 9)
	w.clock.ms.Store(start - 100_000)
	w.reopen()
	at(-50_000, 9)
	at(20, 20)
	w.clock.ms.Store(-1)
	w.append(0) // a clock before 1970 is no reason to fail
	want = append(want, uint64(start+20))
	entries := w.all(0, consensus.Offset(len(want)))
	w.verifyFirst(entries)
	for i, e := range entries {
		require.Equal(tb, want[i], e.UnixMilli, "entry %d", i)
	}
}

// checkCorruption: an entry that was changed, cut off or lost behind the engine's back is named by its LSN, and never handed out.
func checkCorruption(tb TB, h Harness) {
	const n, bad = 120, 11 // the damage is at offset 11, lsn 12: too far from the end to be found when the log is opened
	for name, damage := range map[string]func([]byte) []byte{
		"bit flip in the payload": func(v []byte) []byte { v[len(v)-1] ^= 4; return v },
		"bit flip in the header":  func(v []byte) []byte { v[20] ^= 1; return v },
		"cut off":                 func(v []byte) []byte { return v[:30] },
		"unknown version":         func(v []byte) []byte { v[0] = 77; return v },
		"lost":                    func([]byte) []byte { return nil },
	} {
		w := newWorld(tb, h)
		w.fill(bad)
		marked := w.record()
		marked.Payload = make([]byte, 64)
		_, err := rand.Read(marked.Payload)
		require.NoError(tb, err)
		_, err = w.loglets[0].Append(w.ctx, marked)
		require.NoError(tb, err)
		w.fill(n - bad - 1)
		for member := range h.members() {
			w.all(member, n) // it is on every disk
		}
		w.close()
		for _, disk := range w.disks {
			corrupt(tb, disk, marked.Payload, damage)
		}
		w.open()
		l := w.loglets[0]
		named := func(err error) {
			var at *consensus.CorruptError
			require.ErrorIs(tb, err, consensus.ErrCorrupt, name)
			require.True(tb, errors.As(err, &at), name)
			require.Equal(tb, consensus.LSN(bad+1), at.LSN, name)
			require.Contains(tb, err.Error(), "lsn 12", name)
		}
		_, err = l.Read(w.ctx, bad, bad+1)
		named(err)
		_, err = l.Read(w.ctx, 0, n)
		named(err)
		_, err = l.Follow(w.ctx, bad, 1)
		named(err)
		for _, r := range [][2]consensus.Offset{{0, bad}, {bad + 1, n}} {
			entries, err := l.Read(w.ctx, r[0], r[1])
			require.NoError(tb, err, "%s: the others are as they were", name)
			require.Len(tb, entries, int(r[1]-r[0]))
		}
		w.close()
	}
}

// corrupt changes the one stored entry that contains what; nil deletes it. An engine may keep a copy of its own.
func corrupt(tb TB, disk vfs.FS, what []byte, damage func([]byte) []byte) {
	db, err := pebble.Open(dir, &pebble.Options{FS: disk, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: silent{tb}})
	require.NoError(tb, err)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'e'}, UpperBound: []byte{'e' + 1}}) // package consensus, doc.go: entries
	require.NoError(tb, err)
	var key, value []byte
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.Contains(it.Value(), what) {
			require.Nil(tb, key, "two values hold it")
			key, value = bytes.Clone(it.Key()), bytes.Clone(it.Value())
		}
	}
	require.NoError(tb, errors.Join(it.Error(), it.Close()))
	require.NotNil(tb, key, "no value holds it")
	if value = damage(value); value == nil {
		require.NoError(tb, db.Delete(key, pebble.Sync))
	} else {
		require.NoError(tb, db.Set(key, value, pebble.Sync))
	}
	require.NoError(tb, db.Close())
}

// silent is a pebble logger that only speaks of what must not be.
type silent struct{ TB }

func (silent) Infof(string, ...any)             {}
func (s silent) Fatalf(format string, a ...any) { s.Errorf("pebble: "+format, a...) }
