package peer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// BenchmarkRoundTrip is a frame there and a frame back: two ways through queue, HTTP/2 and TLS.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := newCluster(b, 2, func(o *Options) { o.LinkPingInterval = time.Hour })
			back := make(chan struct{}, 1)
			var echo *Membership
			m, err := c.nodes[1].Join(c.seg, 1, func([]byte) { back <- struct{}{} })
			require.NoError(b, err)
			ready := make(chan struct{})
			echo, err = c.nodes[2].Join(c.seg, 2, func(frame []byte) { <-ready; echo.Send(1, frame) })
			require.NoError(b, err)
			close(ready)
			frame := make([]byte, size)
			m.Send(2, frame)
			<-back
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				m.Send(2, frame)
				<-back
			}
		})
	}
}

// BenchmarkFrames is how many frames a second one link carries.
func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := newCluster(b, 2, func(o *Options) { o.LinkPingInterval = time.Hour })
			m, err := c.nodes[1].Join(c.seg, 1, func([]byte) {})
			require.NoError(b, err)
			credit := make(chan struct{}, max(16, 4<<20/size))
			for range cap(credit) {
				credit <- struct{}{}
			}
			_, err = c.nodes[2].Join(c.seg, 2, func([]byte) { credit <- struct{}{} })
			require.NoError(b, err)
			frame := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				<-credit
				m.Send(2, frame)
			}
			for range cap(credit) { // until the last one is there
				<-credit
			}
		})
	}
}

// BenchmarkFollow is how fast an observer that is far behind gets the log, without verifying it.
func BenchmarkFollow(b *testing.B) {
	for _, size := range []int{200, 16 << 10, 512 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, v, client := logCluster(b, nil)
			entries := uint64(max(16, min(20000, 32<<20/size)))
			appends := make(chan error, entries)
			for n := uint64(1); n <= entries; n++ {
				r := record(n)
				r.Payload = make([]byte, size)
				go func() { _, err := v.Append(context.Background(), r); appends <- err }()
			}
			for range entries {
				require.NoError(b, <-appends)
			}
			b.SetBytes(int64(entries) * int64(size))
			for b.Loop() {
				next := consensus.LSN(1)
				for got, err := range client.Follow(context.Background(), next) {
					require.NoError(b, err)
					if next += consensus.LSN(len(got)); next > consensus.LSN(entries) {
						break
					}
				}
			}
			b.ReportMetric(float64(b.N)*float64(entries)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
