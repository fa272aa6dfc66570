package local_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
)

// The baseline and the log are measured in one run, on one disk: what the log costs is the difference to BenchmarkBarePebble. Run with
//
//	go test -run '^$' -bench . -benchtime 2s ./consensus/local

var sizes = []int{1 << 10, 100 << 10}

// BenchmarkBarePebble commits a batch of one key with Sync, one after the other: what one fsync costs here.
func BenchmarkBarePebble(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			db, err := pebble.Open(b.TempDir(), &pebble.Options{MemTableSize: 16 << 20, FormatMajorVersion: pebble.FormatTableFormatV6, Logger: quiet{}})
			require.NoError(b, err)
			defer func() { require.NoError(b, db.Close()) }()
			payload := random(b, size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				require.NoError(b, db.Set(fmt.Appendf(nil, "e%16d", i), payload, pebble.Sync))
			}
		})
	}
}

// BenchmarkAppend is durable appends to the log, through VirtualLog, by a number of appenders that each wait for their acknowledgement.
func BenchmarkAppend(b *testing.B) {
	for _, size := range sizes {
		for _, appenders := range []int{1, 4, 16, 64} {
			b.Run(fmt.Sprintf("bytes=%d/appenders=%d", size, appenders), func(b *testing.B) {
				benchmarkAppend(b, b.TempDir(), size, appenders)
			})
		}
	}
}

// BenchmarkAppendMemory is the same without a disk: what the code itself costs.
func BenchmarkAppendMemory(b *testing.B) {
	for _, appenders := range []int{1, 64} {
		b.Run(fmt.Sprintf("bytes=1024/appenders=%d", appenders), func(b *testing.B) {
			benchmarkAppend(b, "", 1<<10, appenders)
		})
	}
}

func benchmarkAppend(b *testing.B, dir string, size, appenders int) {
	v, err := consensus.Open(context.Background(), consensus.Options{
		Dir:       dir,
		NetworkID: consensus.NetworkID{1},
		Genesis:   consensus.Spec{Engine: local.Name},
		Engines:   map[string]consensus.Engine{local.Name: local.Engine(local.Options{})},
	})
	require.NoError(b, err)
	defer func() { require.NoError(b, v.Close()) }()
	payload := random(b, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var taken atomic.Int64
	var wait sync.WaitGroup
	for range appenders {
		wait.Go(func() {
			for {
				n := taken.Add(1)
				if n > int64(b.N) {
					return
				}
				_, err := v.Append(context.Background(), consensus.Record{App: "bench", ID: consensus.RecordID{Session: 1, Seq: uint64(n)}, Payload: payload})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer() // closing flushes
}

// BenchmarkFollow is reading what is in memory, in steps as a player takes them.
func BenchmarkFollow(b *testing.B) {
	v, err := consensus.Open(context.Background(), consensus.Options{
		NetworkID: consensus.NetworkID{1},
		Genesis:   consensus.Spec{Engine: local.Name},
		Engines:   map[string]consensus.Engine{local.Name: local.Engine(local.Options{})},
	})
	require.NoError(b, err)
	defer func() { require.NoError(b, v.Close()) }()
	const entries = 1024
	var wait sync.WaitGroup
	for i := range entries {
		wait.Go(func() {
			_, err := v.Append(context.Background(), consensus.Record{App: "bench", ID: consensus.RecordID{Session: 1, Seq: uint64(i) + 1}, Payload: random(b, 1<<10)})
			require.NoError(b, err)
		})
	}
	wait.Wait()
	b.SetBytes(1 << 10)
	b.ResetTimer()
	for read := 0; read < b.N; {
		got, err := v.Follow(context.Background(), consensus.LSN(read%entries)+1, 64)
		require.NoError(b, err)
		read += len(got)
	}
	b.StopTimer()
}

func random(tb testing.TB, n int) []byte {
	p := make([]byte, n)
	_, err := rand.Read(p)
	require.NoError(tb, err)
	return p
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}
