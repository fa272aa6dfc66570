package rpc

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
)

// The shapes are in testdata/explorer; here is what holds between the methods.

// TestAccountSearchPages goes through the transactions of accounts as Otterscan does, from both ends.
func TestAccountSearchPages(t *testing.T) {
	n := startNode(t, Options{})
	tracedChain(n.fakeChain)
	for i := range uint64(10) {
		n.mine(alice.transfer(11+2*i), alice.transfer(12+2*i))
		n.mine(bob.emit(3+i, common.Hash{}))
	}
	c := n.dial(t, "http")
	target := crypto.CreateAddress(alice.address, 6)
	for _, account := range []common.Address{alice.address, bob.address, emitter, target, pauper.address, coinbase, {0x99}} {
		var all []common.Hash // newest first
		for number := n.CurrentHeader().Number.Uint64(); number > 0; number-- {
			found, _, err := n.AccountTransactions(t.Context(), account, number, number, true, 1000)
			require.NoError(t, err)
			for _, at := range found {
				all = append(all, n.BlockByNumber(at.Block).Transactions()[at.Index].Hash())
			}
		}
		for _, size := range []int{1, 3, 25} {
			page := func(method string, number uint64) (search struct {
				Txs                 []transaction
				Receipts            []map[string]any
				FirstPage, LastPage bool
			}) {
				t.Helper()
				require.NoError(t, json.Unmarshal(call(t, c, method, account, number, size), &search))
				require.Len(t, search.Receipts, len(search.Txs))
				for i, r := range search.Receipts {
					require.Equal(t, search.Txs[i].Hash.Hex(), r["transactionHash"])
					require.EqualValues(t, *search.Txs[i].BlockTimestamp, r["timestamp"])
				}
				return search
			}
			var got []common.Hash
			for number, first := uint64(0), true; ; first = false {
				p := page("ots_searchTransactionsBefore", number)
				require.Equal(t, first, p.FirstPage)
				for _, tx := range p.Txs {
					got = append(got, tx.Hash)
				}
				if p.LastPage {
					break
				}
				number = p.Txs[len(p.Txs)-1].BlockNumber.ToInt().Uint64()
			}
			require.Equal(t, all, got, "%v by %d", account, size)

			got = nil
			for number, last := uint64(0), true; ; last = false {
				p := page("ots_searchTransactionsAfter", number)
				require.Equal(t, last, p.LastPage)
				var hashes []common.Hash
				for _, tx := range p.Txs {
					hashes = append(hashes, tx.Hash)
				}
				got = append(hashes, got...)
				if p.FirstPage {
					break
				}
				number = p.Txs[0].BlockNumber.ToInt().Uint64()
			}
			require.Equal(t, all, got, "%v by %d, from the beginning", account, size)
		}
	}
	n.mu.Lock()
	n.indexing = true
	n.mu.Unlock()
	for _, method := range []string{"ots_searchTransactionsBefore", "ots_searchTransactionsAfter"} {
		_, message, _ := callError(t, c, method, alice.address, 0, 5)
		require.Contains(t, message, "the index of accounts is being built")
	}
}

// TestBlockPagesAreTheBlock puts the pages of blocks together.
func TestBlockPagesAreTheBlock(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	for _, b := range tracedChain(n.fakeChain) {
		fees := uint64(0)
		for _, r := range n.ReceiptsByHash(b.Hash()) {
			fees += r.GasUsed * r.EffectiveGasPrice.Uint64()
		}
		var details struct {
			Block     struct{ TransactionCount int }
			TotalFees hexutil.Uint64
		}
		require.NoError(t, json.Unmarshal(call(t, c, "ots_getBlockDetails", b.NumberU64()), &details))
		require.Len(t, b.Transactions(), details.Block.TransactionCount)
		require.EqualValues(t, fees, details.TotalFees)
		for _, size := range []int{1, 2, 4, 100} {
			var hashes []common.Hash
			for page := 0; page <= len(b.Transactions())/size+1; page++ {
				var got struct {
					FullBlock struct{ Transactions []transaction }
					Receipts  []struct{ TransactionHash common.Hash }
				}
				require.NoError(t, json.Unmarshal(call(t, c, "ots_getBlockTransactions", b.NumberU64(), page, size), &got))
				var here []common.Hash
				for i, tx := range got.FullBlock.Transactions {
					require.Equal(t, tx.Hash, got.Receipts[i].TransactionHash)
					require.LessOrEqual(t, len(tx.Input), 4)
					here = append(here, tx.Hash)
				}
				hashes = append(here, hashes...)
			}
			var want []common.Hash
			for _, tx := range b.Transactions() {
				want = append(want, tx.Hash())
			}
			require.Equal(t, want, hashes)
		}
	}
	require.Equal(t, "[]", string(field(t, call(t, c, "ots_getBlockTransactions", 1, uint64(1)<<63, 1000), "receipts")))
}

func field(t *testing.T, object json.RawMessage, name string) json.RawMessage {
	t.Helper()
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(object, &fields))
	return fields[name]
}

// TestFramesAreThoseOfTheCallTracer compares ots_traceTransaction with the callTracer of go-ethereum.
func TestFramesAreThoseOfTheCallTracer(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	type frame struct {
		Type, From, To, Input, Output, Value string
		Calls                                []frame
	}
	for _, b := range tracedChain(n.fakeChain) {
		for i, tx := range b.Transactions() {
			var root frame
			require.NoError(t, json.Unmarshal(call(t, c, "debug_traceTransaction", tx.Hash(), map[string]any{"tracer": "callTracer"}), &root))
			var want []string
			var walk func(f frame, depth int)
			walk = func(f frame, depth int) {
				if f.To == common.BytesToAddress([]byte{4}).Hex() {
					return // a precompile
				}
				if f.Type == "STATICCALL" || f.Type == "DELEGATECALL" {
					f.Value = ""
				}
				want = append(want, fmt.Sprintln(depth, f.Type, f.From, f.To, f.Input, f.Output, f.Value))
				for _, child := range f.Calls {
					walk(child, depth+1)
				}
			}
			walk(root, 0)
			var entries []struct {
				Type, From, To, Input, Output, Value string
				Depth                                int
			}
			require.NoError(t, json.Unmarshal(call(t, c, "ots_traceTransaction", tx.Hash()), &entries))
			var got []string
			for _, e := range entries {
				if e.Output == "0x" {
					e.Output = "" // which the tracer leaves out
				}
				if e.Type == "CREATE" && e.Depth == 0 && n.ReceiptsByHash(b.Hash())[i].Status == types.ReceiptStatusFailed {
					e.To = "" // it failed
				}
				got = append(got, fmt.Sprintln(e.Depth, e.Type, e.From, e.To, e.Input, e.Output, e.Value))
			}
			require.Equal(t, want, got)
		}
	}
}

// TestEveryTransactionByItsNonce asks for every transaction of the chain.
func TestEveryTransactionByItsNonce(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	for _, b := range tracedChain(n.fakeChain) {
		for _, tx := range b.Transactions() {
			from, err := types.Sender(n.signerOf(), tx)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("%q", tx.Hash().Hex()), string(call(t, c, "ots_getTransactionBySenderAndNonce", from, tx.Nonce())))
		}
	}
}

// TestCreatorWhereStatesBegin: what was created after the oldest state is found, what is older is said to be, and what was never there is null.
func TestCreatorWhereStatesBegin(t *testing.T) {
	n := startNode(t, Options{})
	tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	target := crypto.CreateAddress(alice.address, 6)
	var want otsCreator
	require.NoError(t, json.Unmarshal(call(t, c, "ots_getContractCreator", target), &want))
	_, _, created, _, ok := n.Transaction(want.Hash)
	require.True(t, ok)
	for n.oldest = range created {
		var got otsCreator
		require.NoError(t, json.Unmarshal(call(t, c, "ots_getContractCreator", target), &got))
		require.Equal(t, want, got)
	}
	require.Less(t, created, n.CurrentHeader().Number.Uint64())
	for n.oldest = created; n.oldest <= n.CurrentHeader().Number.Uint64(); n.oldest++ {
		code, message, _ := callError(t, c, "ots_getContractCreator", target)
		require.Equal(t, codePruned, code)
		require.Contains(t, message, fmt.Sprintf("created before block %d,", n.oldest+1))
		require.Equal(t, "null", string(call(t, c, "ots_getContractCreator", pauper.address)))
	}
}
