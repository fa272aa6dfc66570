package logtest

import (
	"errors"
	"sync"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// checkSeal: the first valid Seal is the last entry, for ever, and the store's chain says what comes next.
func checkSeal(tb TB, h Harness) {
	w := newWorld(tb, h)
	rs := w.fill(5)
	seal := w.seal(2, nil)
	o, err := w.loglets[0].Seal(w.ctx, seal)
	require.NoError(tb, err)
	require.Equal(tb, consensus.Offset(5), o)

	sealed := func() {
		l := w.loglets[0]
		require.Equal(tb, consensus.Tail{Offset: 6, Sealed: true}, w.tail(0))
		_, err := l.Append(w.ctx, w.record())
		require.ErrorIs(tb, err, consensus.ErrSealed)
		_, err = l.Seal(w.ctx, w.sealRecord(2, consensus.Spec{Engine: "other"}, 3, nil))
		require.ErrorIs(tb, err, consensus.ErrSealed, "another Seal")
		o, err := l.Seal(w.ctx, seal)
		require.NoError(tb, err, "the same Seal again")
		require.Equal(tb, consensus.Offset(5), o)
		o, err = l.Append(w.ctx, rs[2])
		require.NoError(tb, err, "what is in is in, sealed or not")
		require.Equal(tb, consensus.Offset(2), o)
		entries := w.all(0, 6)
		w.verifyFirst(entries)
		require.Equal(tb, seal, entries[5].Record)

		segments := w.stores[0].Segments()
		require.Len(tb, segments, 2)
		next := segments[1]
		require.Equal(tb, consensus.Epoch(2), next.Epoch)
		require.Equal(tb, consensus.LSN(7), next.Base)
		require.Equal(tb, entries[5].Digest, next.BaseDigest)
		require.Equal(tb, entries[5].UnixMilli, next.BaseUnixMilli)
		require.NotEqual(tb, segments[0].Identity, next.Identity)
	}
	sealed()
	segments := w.stores[0].Segments()
	w.close()
	store := w.openStore(0)
	require.Equal(tb, segments, store.Segments(), "the stored chain")
	require.NoError(tb, store.Close())
}

// checkInvalidSeals: a Seal that is not authorised, or not for this place, is void; the segment goes on.
func checkInvalidSeals(tb TB, h Harness) {
	w := newWorld(tb, h)
	w.fill(2)
	spec := w.cluster.Spec
	spec.Members = nil
	for name, r := range map[string]consensus.Record{
		"too few signatures": w.seal(1, nil),
		"unsigned":           w.seal(0, nil),
		"another network":    w.seal(2, func(q *consensus.Request) { q.NetworkID[0]++ }),
		"this epoch":         w.sealRecord(1, spec, 2, nil),
		"epoch after next":   w.sealRecord(3, spec, 2, nil),
		"too late":           w.seal(2, func(q *consensus.Request) { q.NotAfter = 2 }),
		"bad spec":           w.seal(2, func(q *consensus.Request) { q.Spec.Threshold = 9 }),
		"several members": w.seal(2, func(q *consensus.Request) {
			q.Spec.Members = []consensus.Member{{ID: 1}, {ID: 2}}
		}),
		"not a log record": {App: "test", ID: consensus.RecordID{Session: 9, Seq: 1}, Payload: w.seal(2, nil).Payload},
	} {
		_, err := w.loglets[0].Seal(w.ctx, r)
		require.ErrorIs(tb, err, consensus.ErrInvalid, name)
		require.Equal(tb, consensus.Tail{Offset: 2}, w.tail(0), name)
	}
	// The last LSN it is good for is good enough.
	_, err := w.loglets[0].Seal(w.ctx, w.seal(2, func(q *consensus.Request) { q.NotAfter = 3 }))
	require.NoError(tb, err)
	require.Equal(tb, consensus.Tail{Offset: 3, Sealed: true}, w.tail(0))
	w.verifyFirst(w.all(0, 3))
}

// checkSealUnderLoad: among appenders and sealers in flight, one Seal wins; what was acknowledged lies below it, and what got ErrSealed is nowhere.
func checkSealUnderLoad(tb TB, h Harness) {
	for range 10 {
		w := newWorld(tb, h)
		const appenders, sealers = 8, 4
		var acked [appenders]map[consensus.Offset]consensus.RecordID
		var refused [appenders]consensus.RecordID
		var wait, begun sync.WaitGroup
		begun.Add(appenders)
		for a := range appenders {
			acked[a] = map[consensus.Offset]consensus.RecordID{}
			wait.Go(func() {
				for first := true; ; first = false {
					r := w.record()
					o, err := w.loglets[a%h.members()].Append(w.ctx, r)
					if first {
						begun.Done()
					}
					if err == nil {
						acked[a][o] = r.ID
						continue
					}
					if !errors.Is(err, consensus.ErrSealed) {
						tb.Errorf("append: %v", err)
					}
					refused[a] = r.ID
					return
				}
			})
		}
		begun.Wait()
		var won []consensus.Offset
		var mu sync.Mutex
		for s := range sealers {
			wait.Go(func() {
				o, err := w.loglets[s%h.members()].Seal(w.ctx, w.seal(2+s%2, func(q *consensus.Request) { q.NotAfter += consensus.LSN(s) }))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, o)
				} else if !errors.Is(err, consensus.ErrSealed) {
					tb.Errorf("seal: %v", err)
				}
			})
		}
		wait.Wait()
		require.Len(tb, won, 1)
		require.Equal(tb, consensus.Tail{Offset: won[0] + 1, Sealed: true}, w.tail(0))
		for m := range h.members() {
			entries := w.all(m, won[0]+1)
			w.verifyFirst(entries)
			require.Equal(tb, consensus.AppLog, entries[won[0]].Record.App)
			for a := range appenders {
				for o, id := range acked[a] {
					require.Less(tb, o, won[0])
					require.Equal(tb, id, entries[o].Record.ID)
				}
				require.False(tb, contains(entries, refused[a]), "%v got ErrSealed", refused[a])
			}
		}
		w.close()
	}
}

// checkFollowToSeal: readers get everything up to the Seal, and then learn that there is no more: those that were already blocked, too.
func checkFollowToSeal(tb TB, h Harness) {
	w := newWorld(tb, h)
	const readers, n = 6, 20
	var wait sync.WaitGroup
	for i := range readers {
		wait.Go(func() {
			for from := consensus.Offset(0); ; {
				entries, err := w.loglets[i%h.members()].Follow(w.ctx, from, 7)
				if err != nil {
					if !errors.Is(err, consensus.ErrSealed) || from != n+1 {
						tb.Errorf("reader %d at offset %d: %v", i, from, err)
					}
					return
				}
				from += consensus.Offset(len(entries))
			}
		})
		wait.Go(func() { // one that waits for what never comes
			if _, err := w.loglets[i%h.members()].Follow(w.ctx, n+50, 0); !errors.Is(err, consensus.ErrSealed) {
				tb.Errorf("reader ahead of the Seal: %v", err)
			}
		})
	}
	w.fill(n)
	_, err := w.loglets[0].Seal(w.ctx, w.seal(2, nil))
	require.NoError(tb, err)
	wait.Wait()
}
