package rpc

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"
)

func install(t *testing.T, c *gethrpc.Client, method string, args ...any) (id string) {
	t.Helper()
	require.NoError(t, json.Unmarshal(call(t, c, method, args...), &id))
	return id
}

func changes[T any](t *testing.T, c *gethrpc.Client, id string) (found []T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(call(t, c, "eth_getFilterChanges", id), &found))
	require.NotNil(t, found, "empty, not null")
	return found
}

// TestFilters: each poll gives what came since the one before, exactly once.
func TestFilters(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	n.mine(alice.emit(0, common.Hash{1}))
	blocks := install(t, c, "eth_newBlockFilter")
	logs := install(t, c, "eth_newFilter", map[string]any{"topics": []any{common.Hash{1}}, "fromBlock": "0x0"})
	bounded := install(t, c, "eth_newFilter", map[string]any{"toBlock": "0x2"})
	pending := install(t, c, "eth_newPendingTransactionFilter")
	full := install(t, c, "eth_newPendingTransactionFilter", true)
	require.Empty(t, changes[common.Hash](t, c, blocks))
	require.Empty(t, changes[types.Log](t, c, logs))

	b2 := n.mine(alice.emit(1, common.Hash{2}), alice.emit(2, common.Hash{1}))
	b3 := n.mine(alice.emit(3, common.Hash{1}))
	require.Equal(t, []common.Hash{b2.Hash(), b3.Hash()}, changes[common.Hash](t, c, blocks))
	require.Empty(t, changes[common.Hash](t, c, blocks))
	found := changes[types.Log](t, c, logs)
	require.Len(t, found, 2)
	require.Equal(t, []uint{1, 0}, []uint{found[0].Index, found[1].Index})
	require.Empty(t, changes[types.Log](t, c, logs))
	require.Len(t, changes[types.Log](t, c, bounded), 2)
	n.mine(alice.emit(4, common.Hash{1}))
	require.Len(t, changes[types.Log](t, c, logs), 1)
	require.Empty(t, changes[types.Log](t, c, bounded))
	var all []types.Log
	require.NoError(t, c.Call(&all, "eth_getFilterLogs", logs))
	require.Len(t, all, 4, "with those from before the filter")

	tx := alice.transfer(5)
	require.NoError(t, fakePool{n.fakeChain}.Add(tx))
	eventually(t, "it is announced", func() bool {
		hashes := changes[common.Hash](t, c, pending)
		return len(hashes) == 1 && hashes[0] == tx.Hash()
	})
	require.Empty(t, changes[common.Hash](t, c, pending))
	var objects []map[string]any
	eventually(t, "it is announced in full", func() bool {
		objects = changes[map[string]any](t, c, full)
		return len(objects) == 1
	})
	require.Equal(t, tx.Hash().Hex(), objects[0]["hash"])

	require.Equal(t, "true", string(call(t, c, "eth_uninstallFilter", blocks)))
	require.Equal(t, "false", string(call(t, c, "eth_uninstallFilter", blocks)))
	_, message, _ := callError(t, c, "eth_getFilterChanges", blocks)
	require.Equal(t, "filter not found", message)
	_, message, _ = callError(t, c, "eth_getFilterLogs", pending)
	require.Equal(t, "filter not found", message, "not a filter of logs")
}

// TestFilterOfManyLogs: a poll that would be too large ends with a block, and the next goes on there. A block that is too
// large by itself comes whole.
func TestFilterOfManyLogs(t *testing.T) {
	n := startNode(t, Options{MaxLogs: 4})
	c := n.dial(t, "http")
	logs := install(t, c, "eth_newFilter", map[string]any{})
	nonce := uint64(0)
	for _, count := range []int{2, 2, 1, 6, 1} {
		var txs []*types.Transaction
		for range count {
			txs = append(txs, alice.emit(nonce, common.Hash{}))
			nonce++
		}
		n.mine(txs...)
	}
	var sizes []int
	for {
		found := changes[types.Log](t, c, logs)
		if len(found) == 0 {
			break
		}
		sizes = append(sizes, len(found))
	}
	require.Equal(t, []int{4, 1, 6, 1}, sizes)
}

func TestFilterLimits(t *testing.T) {
	n := startNode(t, Options{MaxFilters: 2, MaxQueueBytes: 100})
	c := n.dial(t, "http")
	installed := func() float64 { return valueOf(n.server.metrics.filters) }
	idle, polled := install(t, c, "eth_newBlockFilter"), install(t, c, "eth_newBlockFilter")
	code, message, _ := callError(t, c, "eth_newBlockFilter")
	require.Equal(t, codeLimitExceeded, code)
	require.Equal(t, "too many filters, at most 2", message)

	// One that nobody polls goes.
	table := n.server.filters
	table.mu.Lock()
	now := table.filters[gethrpc.ID(idle)].used.Add(n.server.opts.FilterTimeout + time.Second)
	table.filters[gethrpc.ID(polled)].used = now
	table.mu.Unlock()
	table.expire(now)
	require.EqualValues(t, 1, installed())
	callError(t, c, "eth_getFilterChanges", idle)
	changes[common.Hash](t, c, polled)

	// One with more pending transactions than its queue holds goes too, instead of losing some without a word.
	pending := install(t, c, "eth_newPendingTransactionFilter")
	queue := table.use(gethrpc.ID(pending)).pending
	queued := func() bool {
		queue.mu.Lock()
		defer queue.mu.Unlock()
		return queue.mu.bytes > 0
	}
	require.NoError(t, fakePool{n.fakeChain}.Add(alice.transfer(0)))
	eventually(t, "the first is queued", queued)
	require.NoError(t, fakePool{n.fakeChain}.Add(alice.transfer(1)))
	eventually(t, "the queue is full", func() bool { return valueOf(n.server.metrics.slow) == 1 })
	_, message, _ = callError(t, c, "eth_getFilterChanges", pending)
	require.Equal(t, "filter not found", message)
	require.EqualValues(t, 1, installed())
}
