package rpc

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"
)

// logMatches says in the plainest way whether a log is asked for.
func logMatches(l *types.Log, addresses []common.Address, topics [][]common.Hash) bool {
	if len(addresses) > 0 && !slices.Contains(addresses, l.Address) {
		return false
	}
	if len(topics) > len(l.Topics) {
		return false
	}
	for i, alternatives := range topics {
		if len(alternatives) > 0 && !slices.Contains(alternatives, l.Topics[i]) {
			return false
		}
	}
	return true
}

// TestLogIndex compares what an index finds with a look at every log, for blocks and criteria that were drawn by lot.
func TestLogIndex(t *testing.T) {
	lot := rand.New(rand.NewPCG(1, 2))
	draw := func(most int) []common.Hash {
		hashes := make([]common.Hash, lot.IntN(most))
		for i := range hashes {
			hashes[i] = common.Hash{31: byte(lot.IntN(6))}
		}
		return hashes
	}
	address := func(h common.Hash) common.Address { return common.BytesToAddress(h[:]) }
	found := 0
	for range 3000 {
		index := &logIndex{}
		for range lot.IntN(12) {
			index.logs = append(index.logs, &types.Log{BlockNumber: 7, Address: address(common.Hash{31: byte(lot.IntN(6))}), Topics: draw(5)})
		}
		var addresses []common.Address
		for _, h := range draw(8) {
			addresses = append(addresses, address(h))
		}
		topics := make([][]common.Hash, lot.IntN(5))
		for i := range topics {
			topics[i] = draw(5)
		}
		for _, m := range []*logMatcher{newLogMatcher(0, 7, addresses, topics), newLogMatcher(7, 9, nil, topics)} {
			var want []int
			for i, l := range index.logs {
				if (m.to == 9 || logMatches(l, addresses, nil)) && logMatches(l, nil, topics) {
					want = append(want, i)
				}
			}
			require.Equal(t, want, index.find(m), "%v %v", addresses, topics)
			found += len(want)
		}
		for _, m := range []*logMatcher{newLogMatcher(0, 6, nil, nil), newLogMatcher(8, 9, nil, nil)} {
			require.Empty(t, index.find(m))
		}
	}
	require.Greater(t, found, 1000)
}

// TestEncodingsAreShared: what many subscribers get is made once, and their queues hold the same bytes.
func TestEncodingsAreShared(t *testing.T) {
	chain := newFakeChain(t)
	server, err := New(chain, fakePool{chain}, nil, Options{})
	require.NoError(t, err)
	full := true
	var pairs [][2]*subscriber
	for range 2 {
		pairs = append(pairs, [2]*subscriber{server.newPendingSubscriber(nil), server.newPendingSubscriber(&full)})
	}
	receipts := []*subscriber{newReceiptSubscriber(nil), newReceiptSubscriber(nil)}
	for _, s := range []*subscriber{pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1], receipts[0], receipts[1]} {
		server.hub.subscribe(s)
	}
	tx := alice.emit(0, common.Hash{1})
	server.hub.dispatchTransactions([]*types.Transaction{tx})
	chain.mine(tx)
	ev, ok := server.hub.load(1)
	require.True(t, ok)
	server.hub.dispatchHead(ev)
	same := func(a, b *subscriber) json.RawMessage {
		ours, theirs := a.takeAll(), b.takeAll()
		require.Len(t, ours, 1)
		require.Len(t, theirs, 1)
		require.Same(t, &ours[0][0], &theirs[0][0])
		return ours[0]
	}
	require.JSONEq(t, string(encode(tx.Hash())), string(same(pairs[0][0], pairs[1][0])))
	require.JSONEq(t, string(encode(newTransaction(tx, server.signer, nil))), string(same(pairs[0][1], pairs[1][1])))
	require.JSONEq(t, string(encode(newReceipts(ev.Receipts, ev.Block.Transactions(), server.signer))), string(same(receipts[0], receipts[1])))
}
