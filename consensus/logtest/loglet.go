package logtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// checkAppendAndRead: one appender gets dense offsets in its order, through any member, and every member reads what was appended.
func checkAppendAndRead(tb TB, h Harness) {
	w := newWorld(tb, h)
	const n = 40
	var want []consensus.Record
	for i := range consensus.Offset(n) {
		r, o := w.append(int(i) % h.members())
		require.Equal(tb, i, o)
		want = append(want, r)
	}
	for m := range h.members() {
		entries := w.all(m, n)
		w.verifyFirst(entries)
		require.Equal(tb, want, records(entries))
		for _, e := range entries {
			require.Equal(tb, consensus.Epoch(1), e.Epoch)
		}
	}
}

// checkConcurrentAppends: several appenders share one total order, in which each finds its own, and which respects what happened before.
func checkConcurrentAppends(tb TB, h Harness) {
	w := newWorld(tb, h)
	const appenders, each = 16, 30
	acks := make([]map[consensus.Offset]consensus.Record, appenders)
	var wait sync.WaitGroup
	for a := range appenders {
		acks[a] = map[consensus.Offset]consensus.Record{}
		wait.Go(func() {
			last := -1
			for range each {
				r := w.record()
				o, err := w.loglets[a%h.members()].Append(w.ctx, r)
				if err != nil {
					tb.Errorf("append: %v", err)
					return
				}
				if int(o) <= last {
					tb.Errorf("an append began after offset %d was acknowledged, and got %d", last, o)
				}
				last = int(o)
				acks[a][o] = r
			}
		})
	}
	wait.Wait()
	require.Equal(tb, consensus.Tail{Offset: appenders * each}, w.tail(0))
	for m := range h.members() {
		entries := w.all(m, appenders*each)
		w.verifyFirst(entries)
		for _, acked := range acks {
			require.Len(tb, acked, each)
			for o, r := range acked {
				require.Equal(tb, r, entries[o].Record, "member %d, offset %d", m, o)
			}
		}
	}
}

func checkReadRanges(tb TB, h Harness) {
	w := newWorld(tb, h)
	l := w.loglets[0]
	read := func(lo, hi consensus.Offset) ([]consensus.Entry, error) { return l.Read(w.ctx, lo, hi) }

	entries, err := read(0, 0)
	require.NoError(tb, err)
	require.Empty(tb, entries)
	_, err = read(0, 1)
	require.ErrorIs(tb, err, consensus.ErrUnwritten)

	want := w.fill(10)
	for _, r := range [][2]consensus.Offset{{0, 10}, {0, 1}, {9, 10}, {3, 7}, {4, 4}, {10, 10}} {
		entries, err := read(r[0], r[1])
		require.NoError(tb, err, "%v", r)
		require.Equal(tb, want[r[0]:r[1]], records(entries), "%v", r)
	}
	for _, r := range [][2]consensus.Offset{{0, 11}, {9, 11}, {10, 11}, {50, 60}} {
		_, err := read(r[0], r[1])
		require.ErrorIs(tb, err, consensus.ErrUnwritten, "%v", r)
	}
	_, err = read(5, 4)
	require.ErrorIs(tb, err, consensus.ErrInvalid)

	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	_, err = l.Read(ctx, 0, 10)
	require.ErrorIs(tb, err, context.Canceled)

	entries, err = read(2, 4)
	require.NoError(tb, err)
	entries[0], entries[1] = entries[1], entries[0] // the slice is the caller's
	entries, err = read(2, 4)
	require.NoError(tb, err)
	require.Equal(tb, want[2:4], records(entries))
}

// checkFollow: readers that block get what is appended afterwards, all of it, in order, each for itself.
func checkFollow(tb TB, h Harness) {
	w := newWorld(tb, h)
	const readers, n = 8, 200
	got := make([][]consensus.Entry, readers)
	var wait sync.WaitGroup
	for i := range readers {
		wait.Go(func() {
			for len(got[i]) < n {
				entries, err := w.loglets[i%h.members()].Follow(w.ctx, consensus.Offset(len(got[i])), 1+i*3)
				if err != nil {
					tb.Errorf("reader %d at %d: %v", i, len(got[i]), err)
					return
				}
				if len(entries) == 0 || len(entries) > 1+i*3 {
					tb.Errorf("reader %d with limit %d got %d entries", i, 1+i*3, len(entries))
					return
				}
				got[i] = append(got[i], entries...)
			}
		})
	}
	want := w.fill(n)
	wait.Wait()
	for i := range got {
		w.verifyFirst(got[i])
		require.Equal(tb, want, records(got[i]), "reader %d", i)
	}

	// A reader ahead of the tail waits for its entry too, and a context ends the wait.
	ahead := make(chan []consensus.Entry, 1)
	wait.Go(func() {
		entries, err := w.loglets[0].Follow(w.ctx, n+2, 0)
		if err != nil {
			tb.Errorf("reader ahead: %v", err)
		}
		ahead <- entries
	})
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	wait.Go(func() {
		_, err := w.loglets[0].Follow(ctx, n+1000, 0)
		ended <- err
	})
	rs := w.fill(3)
	cancel()
	require.ErrorIs(tb, <-ended, context.Canceled)
	entries := <-ahead
	require.NotEmpty(tb, entries)
	require.Equal(tb, rs[2], entries[0].Record)
	wait.Wait()
}

// checkFollowBounds: Follow returns at most what fits its bounds, and at least one entry however large.
func checkFollowBounds(tb TB, h Harness) {
	w := newWorld(tb, h)
	const n, size = 7, 1000 << 10
	for range n {
		r := w.record()
		r.Payload = make([]byte, size)
		_, err := w.loglets[0].Append(w.ctx, r)
		require.NoError(tb, err)
	}
	for from, limit := 0, 0; from < n; limit = 2 - limit { // with and without a limit
		entries, err := w.loglets[0].Follow(w.ctx, consensus.Offset(from), limit)
		require.NoError(tb, err)
		require.NotEmpty(tb, entries)
		if limit > 0 {
			require.LessOrEqual(tb, len(entries), limit)
		}
		require.LessOrEqual(tb, (len(entries)-1)*size, consensus.MaxFollowBytes)
		from += len(entries)
	}
}

// checkTail: a consistent tail is not below what anybody's append has acknowledged before; no tail moves back.
func checkTail(tb TB, h Harness) {
	w := newWorld(tb, h)
	require.Equal(tb, consensus.Tail{}, w.tail(0))
	var wait sync.WaitGroup
	defer wait.Wait()
	stop := make(chan struct{})
	defer close(stop)
	for _, l := range w.loglets {
		wait.Go(func() {
			for last := (consensus.Tail{}); ; {
				tail, err := l.Tail(w.ctx, consensus.Fast)
				if err != nil || tail.Offset < last.Offset || tail.Sealed {
					tb.Errorf("fast tail %v after %v: %v", tail, last, err)
					return
				}
				last = tail
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	n := 60 / h.members() // of appends, each followed by a question to every member's quorum
	for i := range n {
		_, o := w.append(i % h.members())
		for m := range h.members() {
			require.Greater(tb, w.tail(m).Offset, o)
		}
	}
	require.Equal(tb, consensus.Tail{Offset: consensus.Offset(n)}, w.tail(0))
}

func checkTrim(tb TB, h Harness) {
	w := newWorldWindow(tb, h, 8)
	want := w.fill(30)
	l := w.loglets[0]
	require.ErrorIs(tb, l.Trim(w.ctx, 30), consensus.ErrUnwritten)
	trimmed := func(upTo consensus.Offset) {
		l := w.loglets[0]
		_, err := l.Read(w.ctx, upTo, upTo+1)
		require.ErrorIs(tb, err, consensus.ErrTrimmed)
		_, err = l.Read(w.ctx, 0, 30)
		require.ErrorIs(tb, err, consensus.ErrTrimmed)
		_, err = l.Follow(w.ctx, upTo, 0)
		require.ErrorIs(tb, err, consensus.ErrTrimmed)
		entries, err := l.Read(w.ctx, upTo+1, 30)
		require.NoError(tb, err)
		require.Equal(tb, want[upTo+1:30], records(entries))
	}
	for _, upTo := range []consensus.Offset{4, 4, 12} {
		require.NoError(tb, l.Trim(w.ctx, upTo))
		trimmed(upTo)
	}
	require.NoError(tb, l.Trim(w.ctx, 6), "trimming below the trim point does nothing")
	trimmed(12)
	w.reopen()
	trimmed(12)
	require.NoError(tb, w.loglets[0].Trim(w.ctx, 5))
	trimmed(12)
	require.NoError(tb, w.loglets[0].Trim(w.ctx, 20))
	trimmed(20)

	// All of it may go; the log goes on, and still knows the last W ids.
	require.NoError(tb, w.loglets[0].Trim(w.ctx, 29))
	w.reopen()
	require.Equal(tb, consensus.Tail{Offset: 30}, w.tail(0))
	o, err := w.loglets[0].Append(w.ctx, want[29])
	require.NoError(tb, err)
	require.Equal(tb, consensus.Offset(29), o, "a duplicate of a trimmed entry")
	r, o := w.append(0)
	require.Equal(tb, consensus.Offset(30), o)
	entries, err := w.loglets[0].Read(w.ctx, 30, 31)
	require.NoError(tb, err)
	require.Equal(tb, []consensus.Record{r}, records(entries))
}

func checkInvalidRecords(tb TB, h Harness) {
	w := newWorld(tb, h)
	good := w.record()
	for name, c := range map[string]struct {
		change func(*consensus.Record)
		want   error
	}{
		"no app":           {func(r *consensus.Record) { r.App = "" }, consensus.ErrInvalid},
		"bad app":          {func(r *consensus.Record) { r.App = "Ledger" }, consensus.ErrInvalid},
		"long app":         {func(r *consensus.Record) { r.App = fmt.Sprintf("%065d", 0) }, consensus.ErrInvalid},
		"no id":            {func(r *consensus.Record) { r.ID = consensus.RecordID{} }, consensus.ErrInvalid},
		"too large":        {func(r *consensus.Record) { r.Payload = make([]byte, consensus.MaxRecordBytes) }, consensus.ErrTooLarge},
		"unknown log kind": {func(r *consensus.Record) { r.App = consensus.AppLog }, consensus.ErrInvalid},
	} {
		r := good
		c.change(&r)
		_, err := w.loglets[0].Append(w.ctx, r)
		require.ErrorIs(tb, err, c.want, name)
	}
	require.Equal(tb, consensus.Tail{}, w.tail(0))
	empty, largest := w.record(), w.record()
	empty.Payload = []byte{}
	largest.Payload = make([]byte, consensus.MaxRecordBytes-(largest.Size()-len(largest.Payload)))
	for i, r := range []consensus.Record{empty, largest} {
		o, err := w.loglets[0].Append(w.ctx, r)
		require.NoError(tb, err)
		require.Equal(tb, consensus.Offset(i), o)
	}
	w.reopen() // so that it is read from the disk
	require.Equal(tb, []consensus.Record{empty, largest}, records(w.all(0, 2)))
}

// checkDuplicates: a record that is in already keeps its place, whoever offers it again and whatever it holds now.
func checkDuplicates(tb TB, h Harness) {
	w := newWorld(tb, h)
	rs := w.fill(10)
	again := func() {
		for i, r := range rs {
			o, err := w.loglets[i%h.members()].Append(w.ctx, r)
			require.NoError(tb, err)
			require.Equal(tb, consensus.Offset(i), o)
		}
		require.Equal(tb, consensus.Tail{Offset: 10}, w.tail(0))
	}
	again()
	w.reopen()
	again()
	entries := w.all(0, 10)
	w.verifyFirst(entries)
	require.Equal(tb, rs, records(entries))
	_, o := w.append(0)
	require.Equal(tb, consensus.Offset(10), o)
}

// checkForeignIDs: whoever appends something else under the id of another's record gets an entry of his own, and the other one too, whoever is first.
func checkForeignIDs(tb TB, h Harness) {
	w := newWorld(tb, h)
	theirs, own := w.record(), w.record()
	own.ID = theirs.ID
	want := map[consensus.Offset]consensus.Record{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for i, r := range []consensus.Record{theirs, own} {
		wait.Go(func() {
			o, err := w.loglets[i%h.members()].Append(w.ctx, r)
			if err != nil {
				tb.Errorf("append %d: %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			want[o] = r
		})
	}
	wait.Wait()
	entries := w.all(0, 2)
	w.verifyFirst(entries)
	require.Len(tb, want, 2)
	for o, r := range want {
		require.Equal(tb, r, entries[o].Record)
	}
}

// checkDuplicatesAtOnce: copies that are in flight together become one entry.
func checkDuplicatesAtOnce(tb TB, h Harness) {
	w := newWorld(tb, h)
	const rounds, copies = 20, 8
	for round := range consensus.Offset(rounds) {
		r := w.record()
		var wait sync.WaitGroup
		for i := range copies {
			wait.Go(func() {
				if o, err := w.loglets[i%h.members()].Append(w.ctx, r); err != nil || o != round {
					tb.Errorf("copy of a record at offset %d: %d, %v", round, o, err)
				}
			})
		}
		wait.Wait()
	}
	w.verifyFirst(w.all(0, rounds))
	require.Equal(tb, consensus.Tail{Offset: rounds}, w.tail(0))
}

// checkDedupWindow: a record counts as seen while its entry is one of the last W, and not one entry longer.
func checkDedupWindow(tb TB, h Harness) {
	const window = 16
	for _, restart := range []bool{false, true} {
		w := newWorldWindow(tb, h, window)
		w.fill(3)
		old, at := w.append(0)
		w.fill(window - 1) // old is now the first of the last W
		if restart {
			w.reopen()
		}
		o, err := w.loglets[0].Append(w.ctx, old)
		require.NoError(tb, err)
		require.Equal(tb, at, o, "still in the window")
		w.fill(1)
		if restart {
			w.reopen()
		}
		o, err = w.loglets[0].Append(w.ctx, old)
		require.NoError(tb, err)
		require.Equal(tb, at+window+1, o, "out of the window: a new entry")
		w.verifyFirst(w.all(0, o+1))
		w.close()
	}
}

// checkCancel: an append whose context ended did not happen, or its fate is unknown; the error says which.
func checkCancel(tb TB, h Harness) {
	w := newWorld(tb, h)
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	_, err := w.loglets[0].Append(ctx, w.record())
	require.ErrorIs(tb, err, context.Canceled)
	require.NotErrorIs(tb, err, consensus.ErrUnknownFate, "a context that was over at the call")
	require.Equal(tb, consensus.Tail{}, w.tail(0))

	const appenders, each = 8, 40
	var acked, surelyNot [appenders][]consensus.RecordID
	var wait sync.WaitGroup
	for a := range appenders {
		wait.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(w.ctx)
				var cancelling sync.WaitGroup
				if i%2 == 0 {
					cancelling.Go(cancel) // at about the same time
				}
				r := w.record()
				_, err := w.loglets[a%h.members()].Append(ctx, r)
				cancelling.Wait()
				cancel()
				switch {
				case err == nil:
					acked[a] = append(acked[a], r.ID)
				case isContext(err):
					surelyNot[a] = append(surelyNot[a], r.ID)
				case !errors.Is(err, consensus.ErrUnknownFate) || !errors.Is(err, context.Canceled):
					tb.Errorf("cancelled append: %v", err)
				}
			}
		})
	}
	wait.Wait()
	w.append(0) // a barrier: the queue is empty behind it
	entries := w.all(0, w.tail(0).Offset)
	w.verifyFirst(entries)
	for a := range appenders {
		for _, id := range acked[a] {
			require.True(tb, contains(entries, id), "%v was acknowledged", id)
		}
		for _, id := range surelyNot[a] {
			require.False(tb, contains(entries, id), "%v was surely not in", id)
		}
	}
}

// checkClose: blocked calls end, with the truth about their record, and later ones get ErrClosed.
func checkClose(tb TB, h Harness) {
	w := newWorld(tb, h)
	w.fill(5)
	var wait sync.WaitGroup
	for m := range h.members() {
		for range 4 {
			wait.Go(func() {
				if _, err := w.loglets[m].Follow(w.ctx, 1<<40, 0); !errors.Is(err, consensus.ErrClosed) {
					tb.Errorf("blocked follow: %v", err)
				}
			})
		}
	}
	started := make(chan struct{}, 8)
	var acked, surelyNot [8][]consensus.RecordID
	for a := range 8 {
		wait.Go(func() {
			for first := true; ; first = false {
				r := w.record()
				_, err := w.loglets[a%h.members()].Append(w.ctx, r)
				if first {
					started <- struct{}{}
				}
				switch {
				case err == nil:
					acked[a] = append(acked[a], r.ID)
					continue
				case !errors.Is(err, consensus.ErrClosed):
					tb.Errorf("append while closing: %v", err)
				case !errors.Is(err, consensus.ErrUnknownFate):
					surelyNot[a] = append(surelyNot[a], r.ID)
				}
				return
			}
		})
	}
	for range 8 {
		<-started
	}
	for m := range h.members() {
		require.NoError(tb, w.loglets[m].Close())
		require.NoError(tb, w.loglets[m].Close(), "again")
	}
	wait.Wait()
	for _, l := range w.loglets {
		_, err := l.Append(w.ctx, w.record())
		require.ErrorIs(tb, err, consensus.ErrClosed)
		_, err = l.Seal(w.ctx, w.seal(2, nil))
		require.ErrorIs(tb, err, consensus.ErrClosed)
		_, err = l.Tail(w.ctx, consensus.Fast)
		require.ErrorIs(tb, err, consensus.ErrClosed)
		_, err = l.Read(w.ctx, 0, 1)
		require.ErrorIs(tb, err, consensus.ErrClosed)
		_, err = l.Follow(w.ctx, 0, 0)
		require.ErrorIs(tb, err, consensus.ErrClosed)
		require.ErrorIs(tb, l.Trim(w.ctx, 0), consensus.ErrClosed)
		require.Equal(tb, consensus.StateClosed, l.Status().State)
	}
	w.reopen()
	entries := w.all(0, w.tail(0).Offset)
	w.verifyFirst(entries)
	for a := range acked {
		for _, id := range acked[a] {
			require.True(tb, contains(entries, id), "%v was acknowledged", id)
		}
		for _, id := range surelyNot[a] {
			require.False(tb, contains(entries, id), "%v was surely not in", id)
		}
	}
}

func checkStatus(tb TB, h Harness) {
	w := newWorld(tb, h)
	w.fill(3)
	s := w.loglets[0].Status()
	require.Equal(tb, w.cluster.Spec.Engine, s.Engine)
	require.Equal(tb, consensus.Epoch(1), s.Epoch)
	require.Equal(tb, consensus.Offset(3), s.Tail)
	require.False(tb, s.Sealed)
	_, err := w.loglets[0].Seal(w.ctx, w.seal(2, nil))
	require.NoError(tb, err)
	s = w.loglets[0].Status()
	require.Equal(tb, consensus.StateSealed, s.State)
	require.True(tb, s.Sealed)
	require.Equal(tb, consensus.Offset(4), s.Tail)
}
