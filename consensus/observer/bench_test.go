package observer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/observer"
)

// BenchmarkCatchUp is how fast an observer that is far behind comes up with the log: over TLS, verified, and synced to this machine's disk.
func BenchmarkCatchUp(b *testing.B) {
	for _, size := range []int{200, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			entries := consensus.Offset(max(500, min(100_000, 64<<20/size)))
			w := newWorld(b, 2)
			appends := make(chan error, entries)
			for n := range uint64(entries) {
				r := record(n + 1)
				r.Payload = make([]byte, size)
				go func() { _, err := w.log.Append(context.Background(), r); appends <- err }()
			}
			for range entries {
				require.NoError(b, <-appends)
			}
			b.SetBytes(int64(entries) * int64(size))
			for b.Loop() {
				store, err := consensus.OpenStore(w.ctx, consensus.StoreOptions{Dir: b.TempDir(), NetworkID: network, Genesis: w.spec, Window: 1024})
				require.NoError(b, err)
				l, err := observer.Open(store, store.Segments()[0], observer.Options{Peers: w.peers()})
				require.NoError(b, err)
				_, err = l.Follow(context.Background(), entries-1, 1)
				require.NoError(b, err)
				b.StopTimer()
				require.NoError(b, l.Close())
				require.NoError(b, store.Close())
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)*float64(entries)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
