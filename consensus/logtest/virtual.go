package logtest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// newLogs makes a world of VirtualLogs, of which those of the members from 1 on are open.
func newLogs(tb TB, h Harness, window int) *world {
	tb.Helper()
	w := newDisks(tb, h, window)
	if h.members() == 1 {
		return w
	}
	spec := w.cluster.Spec
	for i := range spec.Members { // who is ready has to sign it
		spec.Members[i].NodeKey = nodeKey(i).Public().(ed25519.PublicKey)
	}
	for i := 1; i < h.members(); i++ {
		v, err := w.openLogOf(i, nil)
		require.NoError(tb, err)
		w.others = append(w.others, v)
		tb.Cleanup(func() {
			if err := v.Close(); err != nil {
				tb.Errorf("close log of member %d: %v", i, err)
			}
		})
	}
	return w
}

// openLog opens the VirtualLog of the first member. change may alter the options.
func (w *world) openLog(change func(*consensus.Options)) (*consensus.VirtualLog, error) {
	return w.openLogOf(0, change)
}

func (w *world) openLogOf(member int, change func(*consensus.Options)) (*consensus.VirtualLog, error) {
	fs, dir := w.place(member)
	opts := consensus.Options{
		FS: fs, Dir: dir, NetworkID: network, Genesis: w.cluster.Spec, Window: w.window,
		Engines: map[string]consensus.Engine{w.cluster.Spec.Engine: w.cluster.Engine(member)},
		OnFatal: func(err error) { w.Errorf("fatal: %v", err) },
	}
	if change != nil {
		change(&opts)
	}
	return consensus.Open(w.ctx, opts)
}

func (w *world) mustOpenLog() *consensus.VirtualLog {
	w.Helper()
	v, err := w.openLog(nil)
	require.NoError(w, err)
	w.Cleanup(func() {
		if err := v.Close(); err != nil {
			w.Errorf("close log: %v", err)
		}
	})
	return v
}

// appendTo appends n records and returns them.
func (w *world) appendTo(v *consensus.VirtualLog, n int) []consensus.Record {
	w.Helper()
	var rs []consensus.Record
	for range n {
		r := w.record()
		_, err := v.Append(w.ctx, r)
		require.NoError(w, err)
		rs = append(rs, r)
	}
	return rs
}

// same makes sure that the other members have the same entries.
func (w *world) same(entries []consensus.Entry) {
	w.Helper()
	for i, v := range w.others {
		_, err := v.Follow(w.ctx, consensus.LSN(len(entries)), 1)
		require.NoError(w, err, "member %d: %+v", i+1, v.Status())
		got, err := v.Read(w.ctx, 1, consensus.LSN(len(entries))+1)
		require.NoError(w, err, "member %d", i+1)
		require.Equal(w, entries, got, "member %d", i+1)
	}
}

// switchTo seals the last segment and returns its Seal.
func (w *world) switchTo(v *consensus.VirtualLog, next consensus.Spec) consensus.Record {
	w.Helper()
	segments := v.Segments()
	r := w.sealRecord(segments[len(segments)-1].Epoch+1, next, 2, nil)
	_, err := v.Append(w.ctx, r)
	require.NoError(w, err)
	return r
}

// entries returns the whole log, read in two ways.
func (w *world) entries(v *consensus.VirtualLog) []consensus.Entry {
	w.Helper()
	tail, err := v.Tail(w.ctx, consensus.Consistent)
	require.NoError(w, err)
	var all []consensus.Entry
	for at := v.Trimmed() + 1; at < tail; {
		more, err := v.Follow(w.ctx, at, 5)
		require.NoError(w, err)
		require.NotEmpty(w, more)
		all = append(all, more...)
		at += consensus.LSN(len(more))
	}
	read, err := v.Read(w.ctx, v.Trimmed()+1, tail)
	require.NoError(w, err)
	all = all[:len(read)] // Follow may have gone past the tail of before
	require.Equal(w, all, read)
	return all
}

// checkSwitch: a chain of segments is one log. Appends go on in the next one, duplicates are found across the border, and what is stored, not what is
// configured, decides what is opened.
func checkSwitch(tb TB, h Harness) {
	w := newLogs(tb, h, 1024)
	var wait sync.WaitGroup
	tb.Cleanup(wait.Wait) // after the log is closed, also when the check has failed
	v := w.mustOpenLog()
	tail, err := v.Tail(w.ctx, consensus.Consistent)
	require.NoError(tb, err)
	require.Equal(tb, consensus.LSN(1), tail)

	// A reader that is there before anything is sees it all.
	var followed []consensus.Entry
	wait.Go(func() {
		for len(followed) < 18 {
			more, err := v.Follow(w.ctx, consensus.LSN(len(followed))+1, 4)
			if err != nil {
				tb.Errorf("follow from lsn %d: %v", len(followed)+1, err)
				return
			}
			followed = append(followed, more...)
		}
	})

	want := w.appendTo(v, 5)
	next := w.cluster.Spec
	next.Ledger = []byte("new parameters")
	want = append(want, w.switchTo(v, next))
	want = append(want, w.appendTo(v, 5)...)
	want = append(want, w.switchTo(v, w.cluster.Spec))
	want = append(want, w.appendTo(v, 6)...)
	wait.Wait()

	check := func(v *consensus.VirtualLog) {
		entries := w.entries(v)
		w.verifyFirst(entries)
		w.same(entries)
		require.Equal(tb, want, records(entries))
		for i, e := range entries {
			epoch := map[bool]consensus.Epoch{true: 1}[i < 6] + map[bool]consensus.Epoch{true: 2}[i >= 6 && i < 12] + map[bool]consensus.Epoch{true: 3}[i >= 12]
			require.Equal(tb, epoch, e.Epoch, "lsn %d", e.LSN)
		}
		for lo := consensus.LSN(1); lo <= 18; lo++ {
			for hi := lo; hi <= 19; hi++ {
				part, err := v.Read(w.ctx, lo, hi)
				require.NoError(tb, err)
				require.Len(tb, part, int(hi-lo))
				require.True(tb, slices.EqualFunc(entries[lo-1:hi-1], part, func(a, b consensus.Entry) bool { return a.Digest == b.Digest }))
			}
			d, err := v.DigestAt(w.ctx, lo)
			require.NoError(tb, err)
			require.Equal(tb, entries[lo-1].Digest, d)
			lsn, err := v.Append(w.ctx, want[lo-1])
			require.NoError(tb, err, "duplicate of lsn %d", lo)
			require.Equal(tb, lo, lsn)
		}
		d, err := v.DigestAt(w.ctx, 0)
		require.NoError(tb, err)
		require.Equal(tb, consensus.Digest(network), d)
		_, err = v.DigestAt(w.ctx, 19)
		require.ErrorIs(tb, err, consensus.ErrUnwritten)
		_, err = v.Read(w.ctx, 1, 20)
		require.ErrorIs(tb, err, consensus.ErrUnwritten)
		_, err = v.Read(w.ctx, 0, 1)
		require.ErrorIs(tb, err, consensus.ErrInvalid)

		segments := v.Segments()
		require.Len(tb, segments, 3)
		require.Equal(tb, []consensus.LSN{1, 7, 13}, []consensus.LSN{segments[0].Base, segments[1].Base, segments[2].Base})
		require.Equal(tb, []byte("new parameters"), segments[1].Spec.Ledger)
		s := v.Status()
		require.Equal(tb, consensus.Epoch(3), s.Epoch)
		require.Equal(tb, consensus.LSN(19), s.Tail)
		require.Equal(tb, consensus.Offset(6), s.Loglet.Tail)
		require.Empty(tb, s.Problem)
	}
	check(v)
	require.Equal(tb, want, records(followed))
	_, err = v.Append(w.ctx, w.sealRecord(3, w.cluster.Spec, 2, func(q *consensus.Request) { q.NotAfter++ }))
	require.ErrorIs(tb, err, consensus.ErrInvalid, "a Seal for an epoch that has begun")
	require.NoError(tb, v.Close())

	other, err := w.openLog(func(o *consensus.Options) { o.Genesis = consensus.Spec{Engine: "another"} })
	require.NoError(tb, err, "the stored chain decides")
	check(other)
	require.NoError(tb, other.Close())

	_, err = w.openLog(func(o *consensus.Options) { o.NetworkID[0]++ })
	require.ErrorIs(tb, err, consensus.ErrWrongNetwork)
}

func checkSwitchTrim(tb TB, h Harness) {
	w := newLogs(tb, h, 4)
	v := w.mustOpenLog()
	w.appendTo(v, 5)
	w.switchTo(v, w.cluster.Spec)
	w.appendTo(v, 5)
	entries := w.entries(v)
	for _, upTo := range []consensus.LSN{3, 2, 6, 9, 1, 11} {
		before := v.Trimmed()
		require.NoError(tb, v.Trim(w.ctx, upTo))
		require.Equal(tb, max(before, upTo), v.Trimmed())
		_, err := v.Read(w.ctx, v.Trimmed(), 12)
		require.ErrorIs(tb, err, consensus.ErrTrimmed)
		_, err = v.Follow(w.ctx, 1, 0)
		require.ErrorIs(tb, err, consensus.ErrTrimmed)
		left, err := v.Read(w.ctx, v.Trimmed()+1, 12)
		require.NoError(tb, err)
		require.Len(tb, left, int(11-v.Trimmed()))
		d, err := v.DigestAt(w.ctx, v.Trimmed())
		require.NoError(tb, err, "the digest at the trim point is what the rest is checked against")
		require.Equal(tb, entries[v.Trimmed()-1].Digest, d)
		if upTo == 9 {
			require.NoError(tb, v.Close())
			v = w.mustOpenLog()
			require.Equal(tb, consensus.LSN(9), v.Trimmed())
		}
	}
	require.ErrorIs(tb, v.Trim(w.ctx, 12), consensus.ErrUnwritten)
	_, err := v.DigestAt(w.ctx, 1)
	require.ErrorIs(tb, err, consensus.ErrTrimmed)
	lsn, err := v.Append(w.ctx, w.record())
	require.NoError(tb, err)
	require.Equal(tb, consensus.LSN(12), lsn)
}

// loadLog appends through a VirtualLog, and the other members', until ctx ends.
func (w *world) loadLog(ctx context.Context, wait *sync.WaitGroup, got *acks, v *consensus.VirtualLog) {
	logs := append([]*consensus.VirtualLog{v}, w.others...)
	w.load(ctx, wait, got, 6, func(ctx context.Context, a int, r consensus.Record) (consensus.LSN, error) {
		return logs[a%len(logs)].Append(ctx, r)
	})
}

// checkSwitchUnderLoad: appenders notice nothing of a switch; nothing is lost, nothing is there twice, and readers see it all.
func checkSwitchUnderLoad(tb TB, h Harness) {
	w := newLogs(tb, h, 1<<16)
	v := w.mustOpenLog()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	got := newAcks()
	var wait sync.WaitGroup
	w.loadLog(ctx, &wait, got, v)
	const readers = 3
	var reading sync.WaitGroup
	var seen [readers][]consensus.Entry
	for i := range readers {
		reading.Go(func() {
			for {
				more, err := v.Follow(w.ctx, consensus.LSN(len(seen[i]))+1, 0)
				if err != nil {
					tb.Errorf("reader %d: %v", i, err)
					return
				}
				seen[i] = append(seen[i], more...)
				if slices.ContainsFunc(more, func(e consensus.Entry) bool { return e.Record.App == "last" }) {
					return
				}
			}
		})
	}
	const switches = 8
	for range switches {
		for range 30 {
			select {
			case <-got.count:
			case <-w.ctx.Done():
				tb.Errorf("appends have stopped")
				return
			}
		}
		w.switchTo(v, w.cluster.Spec)
	}
	cancel()
	wait.Wait()
	last := w.record()
	last.App = "last"
	_, err := v.Append(w.ctx, last)
	require.NoError(tb, err)
	reading.Wait()
	entries := w.entries(v)
	w.verifyFirst(entries)
	w.same(entries)
	require.Equal(tb, consensus.Epoch(switches+1), entries[len(entries)-1].Epoch)
	for id, lsn := range got.at {
		require.Equal(tb, id, entries[lsn-1].Record.ID)
	}
	for i := range seen {
		require.Equal(tb, entries, seen[i], "reader %d", i)
	}
}

// checkSwitchCrash: power fails around a switch. The chain is that of the entries that survived, and every acknowledged record is where it was.
func checkSwitchCrash(tb TB, h Harness) {
	w := newDisks(tb, h, 1<<16)
	got := newAcks()
	for round := range 12 {
		v := w.mustOpenLog()
		ctx, cancel := context.WithCancel(w.ctx)
		var wait sync.WaitGroup
		w.loadLog(ctx, &wait, got, v)
		wait.Go(func() {
			segments := v.Segments()
			r := w.sealRecord(segments[len(segments)-1].Epoch+1, w.cluster.Spec, 2, nil)
			if lsn, err := v.Append(ctx, r); err == nil {
				got.add(r.ID, lsn)
			} else if ctx.Err() == nil {
				tb.Errorf("seal: %v", err)
			}
		})
		for range 1 + w.rng.IntN(12) {
			select {
			case <-got.count:
			case <-w.ctx.Done():
				cancel()
				wait.Wait()
				tb.Errorf("round %d: appends have stopped", round)
				return
			}
		}
		acked := got.snapshot()
		disks := w.crashed()
		cancel()
		wait.Wait()
		w.appendTo(v, 1) // a barrier: what was handed over by cancelled appends is in before it
		ordered, segments := w.entries(v), v.Segments()
		require.NoError(tb, v.Close())
		w.disks = disks

		v = w.mustOpenLog()
		left := w.entries(v)
		w.verifyFirst(left)
		require.Equal(tb, ordered[:len(left)], left, "round %d", round)
		for id, lsn := range acked {
			require.LessOrEqual(tb, int(lsn), len(left), "round %d: lsn %d was acknowledged and is gone", round, lsn)
			require.Equal(tb, id, left[lsn-1].Record.ID)
		}
		seals := 0
		for _, e := range left {
			if e.Record.App == consensus.AppLog {
				seals++
			}
		}
		chain := v.Segments()
		require.Len(tb, chain, seals+1, "round %d: the chain is not that of the entries", round)
		require.Equal(tb, segments[:len(chain)], chain)
		require.NoError(tb, v.Close())
		got.at = acked
		for len(got.count) > 0 {
			<-got.count
		}
	}
}

func checkVirtualClose(tb TB, h Harness) {
	w := newLogs(tb, h, 1024)
	v := w.mustOpenLog()
	w.appendTo(v, 3)
	w.switchTo(v, w.cluster.Spec)
	w.appendTo(v, 3)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if _, err := v.Follow(w.ctx, 1<<40, 0); !errors.Is(err, consensus.ErrClosed) {
				tb.Errorf("blocked follow: %v", err)
			}
		})
		wait.Go(func() {
			for {
				if _, err := v.Append(w.ctx, w.record()); err != nil {
					if !errors.Is(err, consensus.ErrClosed) {
						tb.Errorf("append while closing: %v", err)
					}
					return
				}
			}
		})
	}
	if _, err := v.Follow(w.ctx, 9, 0); err != nil { // the appenders are at work
		tb.Errorf("follow: %v", err)
	}
	require.NoError(tb, v.Close())
	require.NoError(tb, v.Close())
	wait.Wait()
	_, err := v.Append(w.ctx, w.record())
	require.ErrorIs(tb, err, consensus.ErrClosed)
	_, err = v.Tail(w.ctx, consensus.Fast)
	require.ErrorIs(tb, err, consensus.ErrClosed)
	_, err = v.Read(w.ctx, 1, 2)
	require.ErrorIs(tb, err, consensus.ErrClosed)
	_, err = v.Follow(w.ctx, 1, 0)
	require.ErrorIs(tb, err, consensus.ErrClosed)
	require.ErrorIs(tb, v.Trim(w.ctx, 1), consensus.ErrClosed)
	_, err = v.DigestAt(w.ctx, 1)
	require.ErrorIs(tb, err, consensus.ErrClosed)
}

// checkUnknownEngine: a node that cannot run the next segment says so and goes on serving what it has; with the engine, it goes on.
func checkUnknownEngine(tb TB, h Harness) {
	w := newDisks(tb, h, 1024)
	v := w.mustOpenLog()
	want := w.appendTo(v, 3)
	next := w.cluster.Spec
	next.Engine = "from-the-future"
	want = append(want, w.switchTo(v, next))

	for v.Status().Problem == "" { // the switch is another goroutine's
		require.NoError(tb, w.ctx.Err(), "the log does not tell its problem")
	}
	// An append waits for the next segment, and is surely not in if it is given up. Given up too early, while the old engine was still
	// refusing it, its fate may be unknown; so it is given more time until it was waiting.
	r := w.record()
	err := consensus.ErrUnknownFate
	for patience := 20 * time.Millisecond; errors.Is(err, consensus.ErrUnknownFate); patience *= 2 {
		require.NoError(tb, w.ctx.Err(), "the fate of an append behind the Seal stays unknown")
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		_, err = v.Append(ctx, r)
		cancel()
	}
	require.ErrorIs(tb, err, context.DeadlineExceeded)
	require.Contains(tb, v.Status().Problem, "from-the-future")
	entries, err := v.Read(w.ctx, 1, 5)
	require.NoError(tb, err)
	require.Equal(tb, want, records(entries))
	require.NoError(tb, v.Close())

	_, err = w.openLog(nil)
	require.ErrorIs(tb, err, consensus.ErrInvalid)
	require.ErrorContains(tb, err, "from-the-future")
	v, err = w.openLog(func(o *consensus.Options) { o.Engines["from-the-future"] = w.cluster.Engine(0) })
	require.NoError(tb, err)
	lsn, err := v.Append(w.ctx, r)
	require.NoError(tb, err)
	require.Equal(tb, consensus.LSN(5), lsn)
	require.NoError(tb, v.Close())
}
