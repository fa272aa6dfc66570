package ledger_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/ledger"
)

// fingerprints looks for the newest block at or below each LSN up to last the slow way.
func fingerprints(l *ledger.Ledger, last consensus.LSN) []consensus.Digest {
	all := make([]consensus.Digest, last+1)
	next := uint64(1)
	all[0] = consensus.Digest(l.Genesis().Hash())
	for lsn := consensus.LSN(1); lsn <= last; lsn++ {
		all[lsn] = all[lsn-1]
		for h := l.HeaderByNumber(next); h != nil; h = l.HeaderByNumber(next) {
			if p, _ := ledger.PositionOf(h); p.LSN > lsn {
				break
			}
			all[lsn] = consensus.Digest(h.Hash())
			next++
		}
	}
	return all
}

func TestFingerprint(t *testing.T) {
	const records, foreign = 200, 5
	h, dir := new(history), t.TempDir()
	l := open(t, dir, ledger.Options{PipelineDepth: 64})
	play(t, l, h, records)
	l.Advance(records + foreign) // entries of other applications
	want := fingerprints(l, l.Applied())
	blocks := l.CurrentHeader().Number.Uint64()
	require.Less(t, blocks, uint64(records), "no entry without a block")
	require.Equal(t, want[records], want[records+foreign])

	check := func(t *testing.T, l *ledger.Ledger) {
		for lsn, w := range want {
			got, err := l.Fingerprint(consensus.LSN(lsn))
			require.NoError(t, err)
			require.Equal(t, w, got, "lsn %d", lsn)
		}
		_, err := l.Fingerprint(l.Applied() + 1)
		require.ErrorIs(t, err, consensus.ErrUnwritten)
	}
	t.Run("Running", func(t *testing.T) { check(t, l) })

	var snapshot bytes.Buffer
	require.NoError(t, l.Snapshot(context.Background(), &snapshot))
	require.NoError(t, l.Close())
	t.Run("OpenedAgain", func(t *testing.T) {
		l := open(t, dir, ledger.Options{})
		check(t, l)
		require.NoError(t, l.Close())
	})
	t.Run("Restored", func(t *testing.T) {
		l := open(t, filepath.Join(t.TempDir(), "restored"), ledger.Options{})
		empty, err := l.Fingerprint(0)
		require.NoError(t, err)
		require.Equal(t, want[0], empty)
		require.NoError(t, l.Restore(context.Background(), &snapshot))
		check(t, l)
		require.NoError(t, l.Close())
	})
	t.Run("WithoutOldStates", func(t *testing.T) {
		l := open(t, filepath.Join(t.TempDir(), "pruned"), ledger.Options{StateHistory: 1})
		play(t, l, h, records)
		l.Advance(records + foreign)
		check(t, l)
		require.NoError(t, l.Close())
	})
}

// TestFingerprintWhileRunning asks about what is applied while blocks are on their way through the pipeline: there is always an answer,
// and it is the one that is given for ever.
func TestFingerprintWhileRunning(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{PipelineDepth: 64})
	stop := make(chan struct{})
	var asking sync.WaitGroup
	answers := make([]map[consensus.LSN]consensus.Digest, 2)
	errs := make([]error, len(answers))
	for i := range answers {
		answers[i] = make(map[consensus.LSN]consensus.Digest)
		asking.Go(func() {
			for {
				applied := l.Applied()
				lsn := applied - min(applied, consensus.LSN(i*30))
				got, err := l.Fingerprint(lsn)
				if before, ok := answers[i][lsn]; err == nil && ok && before != got {
					err = fmt.Errorf("lsn %d had fingerprint %v, and now has %v", lsn, before, got)
				}
				if errs[i] = err; err != nil {
					return
				}
				answers[i][lsn] = got
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	play(t, l, new(history), 200)
	close(stop)
	asking.Wait()
	want := fingerprints(l, l.Applied())
	for i := range answers {
		require.NoError(t, errs[i])
		for lsn, got := range answers[i] {
			require.Equal(t, want[lsn], got, "lsn %d", lsn)
		}
	}
	require.NoError(t, l.Close())
}

// BenchmarkFingerprint asks for the fingerprint of an entry so many below the last one.
func BenchmarkFingerprint(b *testing.B) {
	l := open(b, b.TempDir(), ledger.Options{})
	const records = 4000
	play(b, l, new(history), records)
	for _, behind := range []consensus.LSN{0, 1, 100, 3999} {
		b.Run(fmt.Sprintf("behind=%d", behind), func(b *testing.B) {
			for b.Loop() {
				if _, err := l.Fingerprint(records - behind); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	require.NoError(b, l.Close())
}
