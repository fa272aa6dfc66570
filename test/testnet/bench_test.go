package testnet

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"
)

// BenchmarkReconfigure switches a network of four raft members to another segment, again and again, under a steady load, and reports the longest pause
// between two blocks around the switch, and for comparison in a stretch of the same length before it:
//
//	go test ./test/testnet -run '^$' -bench Reconfigure -benchtime 10x
//
// Nothing that was accepted may be lost: every transaction of every client has to be in the chain in the end.
func BenchmarkReconfigure(b *testing.B) {
	c := newCluster(b, "raft4.toml")
	c.start(c.nodes...)
	l := c.flood(1250)
	eventually(b, "the load runs", func() error {
		if l.included.Load() < 1000 {
			return fmt.Errorf("%d included", l.included.Load())
		}
		return nil
	})
	var gaps, calm []time.Duration
	begun, before := time.Now(), l.included.Load()
	b.ResetTimer()
	for i := range b.N {
		calm = append(calm, c.longestGap(func() { <-time.After(time.Second) }))
		gaps = append(gaps, c.switchGap(i, []string{"--members=4,3,2,1", "--members=1,2,3,4"}[i%2]))
	}
	b.StopTimer()
	rate := float64(l.included.Load()-before) / time.Since(begun).Seconds()
	reportGaps(b, "gap", gaps)
	reportGaps(b, "calm", calm)
	b.ReportMetric(rate, "tx/s")
	b.ReportMetric(0, "ns/op")
	c.complete(l)
}

// BenchmarkSwitchEngines moves a network of four from Raft to CometBFT and back, again and again, under a steady load:
//
//	go test ./test/testnet -run '^$' -bench SwitchEngines -benchtime 10x
func BenchmarkSwitchEngines(b *testing.B) {
	c := newCluster(b, "raft4.toml")
	c.start(c.nodes...)
	l := c.flood(600)
	eventually(b, "the load runs", func() error {
		if l.included.Load() < 1000 {
			return fmt.Errorf("%d included", l.included.Load())
		}
		return nil
	})
	var to [2][]time.Duration // comet, raft
	var calm []time.Duration
	begun, before := time.Now(), l.included.Load()
	b.ResetTimer()
	for i := range 2 * b.N {
		calm = append(calm, c.longestGap(func() { <-time.After(500 * time.Millisecond) }))
		to[i%2] = append(to[i%2], c.switchGap(i, "--engine="+[]string{"comet", "raft"}[i%2]))
	}
	b.StopTimer()
	rate := float64(l.included.Load()-before) / time.Since(begun).Seconds()
	reportGaps(b, "to-comet", to[0])
	reportGaps(b, "to-raft", to[1])
	reportGaps(b, "calm", calm)
	b.ReportMetric(rate, "tx/s")
	b.ReportMetric(0, "ns/op")
	c.complete(l)
}

// switchGap reconfigures at one of the nodes, and returns the longest pause between two blocks around it.
func (c *cluster) switchGap(i int, flags ...string) time.Duration {
	c.t.Helper()
	return c.longestGap(func() {
		c.reconfigure(c.nodes[i%4], flags...)
		<-time.After(200 * time.Millisecond) // what waited comes
	})
}

func reportGaps(b *testing.B, name string, gaps []time.Duration) {
	b.Logf("%s: %v", name, gaps)
	slices.Sort(gaps)
	median := (gaps[(len(gaps)-1)/2] + gaps[len(gaps)/2]) / 2
	b.ReportMetric(float64(median.Milliseconds()), name+"-ms")
	b.ReportMetric(float64(gaps[len(gaps)-1].Milliseconds()), "max-"+name+"-ms")
}

// complete ends the load, and demands that every transaction which was accepted is in the chain, once, on all nodes.
func (c *cluster) complete(l *flood) {
	b := c.t
	b.Helper()
	sent := l.stop()
	head := c.agree()
	client := c.nodes[0].running().Client
	var total uint64
	for _, a := range c.accounts {
		nonce, err := client.NonceAt(c.t.Context(), a.address, nil)
		require.NoError(b, err)
		total += nonce
	}
	require.Equal(b, sent, total, "transactions that were accepted, and those in the chain")
	b.Logf("%d transactions in %d blocks, 0 lost, 0 doubled", total, head)
	c.stop(c.nodes...)
}

// longestGap returns the longest pause between two blocks that were made while f ran.
func (c *cluster) longestGap(f func()) time.Duration {
	c.t.Helper()
	client := c.nodes[0].running().Client
	first, err := client.BlockNumber(c.t.Context())
	require.NoError(c.t, err)
	f()
	last, err := client.BlockNumber(c.t.Context())
	require.NoError(c.t, err)
	var longest, before uint64
	for number := first; number <= last; number++ {
		var block struct{ MilliTimestamp hexutil.Uint64 }
		err := client.Client().CallContext(c.t.Context(), &block, "eth_getBlockByNumber", hexutil.Uint64(number), false)
		require.NoError(c.t, err)
		if at := uint64(block.MilliTimestamp); number > first {
			longest = max(longest, at-before)
		}
		before = uint64(block.MilliTimestamp)
	}
	return time.Duration(longest) * time.Millisecond
}

// A flood is many clients that send batches at a steady rate.
type flood struct {
	included atomic.Int64
	cancel   context.CancelFunc
	wait     sync.WaitGroup
	sent     []uint64
	errs     []error
	t        testing.TB
}

// batch is how many transactions a client sends at a time.
const batch = 10

// flood begins to send so many transactions a second, spread over the accounts and the nodes. A client sends its next batch when the one before is in the
// chain; the clients begin one after the other, so that they take turns within that time, and a pause between two blocks is not one of the load.
func (c *cluster) flood(rate int) *flood {
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &flood{cancel: cancel, sent: make([]uint64, len(c.accounts)), errs: make([]error, len(c.accounts)), t: c.t}
	signer := types.LatestSignerForChainID(new(big.Int).SetUint64(c.manifest.ChainID))
	every := time.Duration(batch*len(c.accounts)) * time.Second / time.Duration(rate)
	for i, a := range c.accounts {
		client := c.nodes[i%len(c.nodes)].running().Client
		l.wait.Go(func() {
			<-time.After(every * time.Duration(i) / time.Duration(len(c.accounts)))
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for ; ; <-ticker.C {
				if ctx.Err() != nil {
					return
				}
				calls := make([]gethrpc.BatchElem, batch)
				var last common.Hash
				for k := range calls {
					tx := types.MustSignNewTx(a.key, signer, &types.LegacyTx{Nonce: l.sent[i] + uint64(k), To: &sink, Value: big.NewInt(1), Gas: 21000, GasPrice: new(big.Int)})
					raw, err := tx.MarshalBinary()
					if err != nil {
						l.errs[i] = err
						return
					}
					last = tx.Hash()
					calls[k] = gethrpc.BatchElem{Method: "eth_sendRawTransaction", Args: []any{hexutil.Encode(raw)}, Result: new(common.Hash)}
				}
				if err := client.Client().BatchCallContext(c.t.Context(), calls); err != nil {
					l.errs[i] = err
					return
				}
				for _, call := range calls {
					if call.Error != nil {
						l.errs[i] = call.Error
						return
					}
				}
				l.sent[i] += batch
				for deadline := time.Now().Add(time.Minute); ; {
					if _, err := client.TransactionReceipt(c.t.Context(), last); err == nil {
						break
					} else if time.Now().After(deadline) {
						l.errs[i] = fmt.Errorf("transaction %v is not in the chain: %w", last, err)
						return
					}
					<-time.After(20 * time.Millisecond)
				}
				l.included.Add(batch)
			}
		})
	}
	return l
}

// stop ends the flood and returns how many transactions were accepted, all of which are in the chain.
func (l *flood) stop() (sent uint64) {
	l.t.Helper()
	l.cancel()
	l.wait.Wait()
	require.NoError(l.t, errors.Join(l.errs...))
	for _, n := range l.sent {
		sent += n
	}
	return sent
}
