package comet

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// BenchmarkAppend appends 1 KiB records on one disk, which the members share, as they share the processors. The metric p50-ms is what one append took at the
// median. With one appender each append finds an idle chain. Run with
//
//	go test -run '^$' -bench Append -benchtime 3s ./consensus/comet
func BenchmarkAppend(b *testing.B) {
	for _, members := range []int{1, 4} {
		for _, appenders := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("members=%d/appenders=%d", members, appenders), func(b *testing.B) { benchmarkAppend(b, members, appenders) })
		}
	}
}

func benchmarkAppend(b *testing.B, members, appenders int) {
	loglets := openBench(b, members)
	payload := make([]byte, 1<<10)
	_, err := rand.Read(payload)
	require.NoError(b, err)
	appendOne := func(l consensus.Loglet, n uint64) error {
		_, err := l.Append(context.Background(), consensus.Record{App: "bench", ID: consensus.RecordID{Session: 1, Seq: n}, Payload: payload})
		return err
	}
	require.NoError(b, appendOne(loglets[0], 1<<40)) // they are connected
	b.SetBytes(int64(len(payload)))
	b.ResetTimer()
	took := make([]time.Duration, b.N)
	var taken atomic.Int64
	var wait sync.WaitGroup
	for a := range appenders {
		wait.Go(func() {
			for n := taken.Add(1); n <= int64(b.N); n = taken.Add(1) {
				begun := time.Now()
				if err := appendOne(loglets[(a+int(n))%len(loglets)], uint64(n)); err != nil {
					b.Error(err)
					return
				}
				took[n-1] = time.Since(begun)
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
}

// openBench opens a loglet on each member, without anything between them.
func openBench(b *testing.B, members int) []consensus.Loglet {
	town := newTown(b, members)
	var loglets []consensus.Loglet
	for i := range members {
		store, err := consensus.OpenStore(context.Background(), consensus.StoreOptions{
			Dir: filepath.Join(b.TempDir(), fmt.Sprint(i)), NetworkID: consensus.NetworkID{1}, Genesis: town.spec(),
		})
		require.NoError(b, err)
		require.NoError(b, store.Vouch(1))
		opts := town.options(i)
		opts.Address = nil
		engine, err := New(opts)
		require.NoError(b, err)
		l, err := engine.Open(context.Background(), store, store.Segments()[0])
		require.NoError(b, err)
		b.Cleanup(func() {
			require.NoError(b, l.Close())
			require.NoError(b, engine.Close())
			require.NoError(b, store.Close())
		})
		loglets = append(loglets, l)
	}
	return loglets
}
