package streams

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"ledgerd/test/internal/process"
)

// head is what the test wants to know of a header.
type head struct {
	Number           hexutil.Uint64
	Hash, ParentHash common.Hash
}

// TestTwoHundredSubscribers: 200 websocket clients of eth_subscribe newHeads, while 2,000 transactions make blocks. Every client sees every head once, in order.
func TestTwoHundredSubscribers(t *testing.T) {
	const (
		clients      = 200
		transactions = 2000
		batch        = 20
	)
	n := process.Dev(t, binary, filepath.Join(t.TempDir(), "home"))
	s := newSender(t, n)
	s.deploy()
	ctx, cancel := within(t, 5*process.Patience) // it takes seconds; a loaded machine with the race detector takes minutes
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	var last atomic.Uint64 // number of the last head; 0: not known yet
	known := make(chan struct{})
	var headers atomic.Int64
	before, err := n.Client.HeaderByNumber(ctx, nil)
	require.NoError(t, err)
	first := before.Number.Uint64()
	for i := range clients {
		c, err := gethrpc.DialContext(ctx, "ws"+n.URL[len("http"):])
		require.NoError(t, err)
		heads := make(chan head, 16)
		sub, err := c.EthSubscribe(ctx, heads, "newHeads")
		require.NoError(t, err)
		g.Go(func() error {
			defer c.Close()
			defer sub.Unsubscribe()
			next, parent, end := first+1, before.Hash(), known
			for {
				if number := last.Load(); number > 0 && next == number+1 {
					return nil
				}
				select {
				case h := <-heads:
					if uint64(h.Number) != next || h.ParentHash != parent {
						return fmt.Errorf("client %d: head %d on %v, want %d on %v", i, h.Number, h.ParentHash, next, parent)
					}
					next, parent = next+1, h.Hash
					headers.Add(1)
				case <-end:
					end = nil
				case err := <-sub.Err():
					return fmt.Errorf("client %d at head %d: %w", i, next, err)
				case <-gctx.Done():
					return fmt.Errorf("client %d waits for head %d: %w", i, next, gctx.Err())
				}
			}
		})
	}
	begin := time.Now()
	for range transactions / batch {
		require.NoError(t, s.batch(ctx, batch))
	}
	end, err := n.Client.BlockNumber(ctx)
	require.NoError(t, err)
	last.Store(end)
	close(known)
	require.NoError(t, g.Wait())
	require.EqualValues(t, clients*(end-first), headers.Load())
	t.Logf("%d clients saw %d heads each, of %d transactions, in %v", clients, end-first, transactions, time.Since(begin).Round(time.Millisecond))
	n.Terminate(t)
}
