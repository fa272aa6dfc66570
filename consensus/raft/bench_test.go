package raft_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/raft"
)

// One body over the engines: durable appends of 1 KiB on one disk, by appenders that each wait for their acknowledgement. The members of a raft share the
// disk and the processors, which real ones do not, and their network is a queue. Run with
//
//	go test -run '^$' -bench . -benchtime 2s ./consensus/raft
func BenchmarkAppend(b *testing.B) {
	for _, memory := range []bool{false, true} {
		disk := map[bool]string{true: "memory", false: "disk"}[memory]
		for _, members := range []int{0, 1, 3} {
			engine := map[int]string{0: "local", 1: "raft-1", 3: "raft-3"}[members]
			for _, appenders := range []int{1, 16, 64, 256} {
				b.Run(fmt.Sprintf("%s/%s/appenders=%d", disk, engine, appenders), func(b *testing.B) {
					benchmarkAppend(b, members, appenders, memory)
				})
			}
		}
	}
}

func benchmarkAppend(b *testing.B, members, appenders int, memory bool) {
	net := newNetwork(1)
	defer net.close()
	loglets := openBench(b, net, members, memory)
	payload := make([]byte, 1<<10)
	_, err := rand.Read(payload)
	require.NoError(b, err)
	appendOne := func(l consensus.Loglet, n uint64) error {
		_, err := l.Append(context.Background(), consensus.Record{App: "bench", ID: consensus.RecordID{Session: 1, Seq: n}, Payload: payload})
		return err
	}
	require.NoError(b, appendOne(loglets[0], 1<<40)) // there is a leader
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	b.ResetTimer()
	var taken atomic.Int64
	var wait sync.WaitGroup
	for a := range appenders {
		wait.Go(func() {
			for n := taken.Add(1); n <= int64(b.N); n = taken.Add(1) {
				if err := appendOne(loglets[a%len(loglets)], uint64(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer()
}

// openBench opens a loglet on each member; no members means the local engine.
func openBench(b *testing.B, net *network, members int, memory bool) []consensus.Loglet {
	var loglets []consensus.Loglet
	genesis := spec(members)
	if members == 0 {
		genesis.Engine = local.Name
	}
	dir := b.TempDir()
	for i := range max(1, members) {
		opts := consensus.StoreOptions{Dir: filepath.Join(dir, fmt.Sprint(i)), NetworkID: testNetwork, Genesis: genesis}
		if memory {
			opts.FS = vfs.NewMem()
		}
		store, err := consensus.OpenStore(context.Background(), opts)
		require.NoError(b, err)
		engine := local.Engine(local.Options{})
		if members > 0 {
			require.NoError(b, store.Vouch(1))
			engine = raft.Engine(raft.Options{Self: uint64(i) + 1, Transport: net, Tick: 10 * time.Millisecond})
		}
		l, err := engine.Open(context.Background(), store, store.Segments()[0])
		require.NoError(b, err)
		b.Cleanup(func() {
			require.NoError(b, l.Close())
			require.NoError(b, store.Close())
		})
		loglets = append(loglets, l)
	}
	return loglets
}
