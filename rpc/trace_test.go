package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"
)

// tracesOf calls a method that gives a list of traces.
func tracesOf(t *testing.T, c *gethrpc.Client, method string, args ...any) (traces []*parityTrace) {
	t.Helper()
	require.NoError(t, json.Unmarshal(call(t, c, method, args...), &traces))
	return traces
}

// TestTraceMethodsAgree compares the methods of trace_ with each other, with the receipts, and trace_get with trace_transaction.
func TestTraceMethodsAgree(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	var whole []*parityTrace
	for _, b := range tracedChain(n.fakeChain) {
		var ofBlock []*parityTrace
		for i, tx := range b.Transactions() {
			traces := tracesOf(t, c, "trace_transaction", tx.Hash())
			r := n.ReceiptsByHash(b.Hash())[i]
			require.Equal(t, r.Status == types.ReceiptStatusSuccessful, traces[0].Error == "")
			if traces[0].Error == "" {
				require.EqualValues(t, r.GasUsed, *traces[0].Result.GasUsed)
			}
			children := map[string]int{}
			for _, trace := range traces {
				require.Equal(t, tx.Hash(), *trace.TransactionHash)
				require.EqualValues(t, i, *trace.TransactionPosition)
				require.Equal(t, b.Hash(), *trace.BlockHash)
				require.Equal(t, b.NumberU64(), *trace.BlockNumber)
				require.Equal(t, trace.Error != "" || trace.Type == "suicide", trace.Result == nil)
				if at := trace.TraceAddress; len(at) > 0 {
					children[fmt.Sprint(at[:len(at)-1])]++
				}
				got := new(parityTrace)
				require.NoError(t, json.Unmarshal(call(t, c, "trace_get", tx.Hash(), trace.TraceAddress), got))
				require.Equal(t, trace, got)
			}
			for _, trace := range traces {
				require.Equal(t, children[fmt.Sprint(trace.TraceAddress)], trace.Subtraces)
			}
			ofBlock = append(ofBlock, traces...)
		}
		require.Equal(t, ofBlock, tracesOf(t, c, "trace_block", hexutil.Big(*b.Number())))
		require.Equal(t, ofBlock, tracesOf(t, c, "trace_block", b.Hash()))
		whole = append(whole, ofBlock...)

		var replays []parityReplay
		require.NoError(t, json.Unmarshal(call(t, c, "trace_replayBlockTransactions", b.Hash(), []string{"trace", "stateDiff"}), &replays))
		for i, tx := range b.Transactions() {
			require.Equal(t, tx.Hash(), *replays[i].TransactionHash)
			replays[i].TransactionHash = nil
			one, err := json.Marshal(replays[i])
			require.NoError(t, err)
			require.JSONEq(t, string(call(t, c, "trace_replayTransaction", tx.Hash(), []string{"stateDiff", "trace"})), string(one))
		}
	}
	require.Equal(t, whole, tracesOf(t, c, "trace_filter", map[string]any{}))
}

// TestTraceFilter compares with a scan of all traces.
func TestTraceFilter(t *testing.T) {
	n := startNode(t, Options{})
	tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	all := tracesOf(t, c, "trace_filter", map[string]any{"fromBlock": "earliest", "toBlock": "latest"})
	target := crypto.CreateAddress(alice.address, 6)
	lists := [][]common.Address{nil, {alice.address}, {target}, {emitter, pauper.address}, {bob.address, target}, {crypto.CreateAddress(target, 2)}, {{0x99}}}
	matched := 0
	for _, from := range lists {
		for _, to := range lists {
			for _, mode := range []string{"", "union", "intersection"} {
				for _, bounds := range [][2]int{{0, 3}, {2, 2}, {1, 2}} {
					filter := map[string]any{"fromBlock": hexutil.Uint(bounds[0]), "toBlock": bounds[1], "mode": mode}
					if from != nil {
						filter["fromAddress"] = from
					}
					if to != nil {
						filter["toAddress"] = to
					}
					want := []*parityTrace{}
					for _, trace := range all {
						if number := int(*trace.BlockNumber); number >= bounds[0] && number <= bounds[1] && (&traceFilter{FromAddress: from, ToAddress: to, Mode: mode}).matches(trace) {
							want = append(want, trace)
						}
					}
					require.Equal(t, want, tracesOf(t, c, "trace_filter", filter), "%v", filter)
					matched += len(want)
					for _, page := range [][2]int{{0, 1}, {1, 2}, {2, 0}, {len(want), 5}, {len(want) + 3, 5}, {0, 1000}} {
						filter["after"], filter["count"] = page[0], hexutil.Uint(page[1])
						first := min(page[0], len(want))
						require.Equal(t, want[first:min(first+page[1], len(want))], tracesOf(t, c, "trace_filter", filter), "%v", filter)
					}
				}
			}
		}
	}
	require.Greater(t, matched, 500, "the filters found next to nothing")

	// What matches is decided without the code above.
	require.Len(t, tracesOf(t, c, "trace_filter", map[string]any{"toAddress": []any{pauper.address}}), 4) // the EIP-7702 transaction, and each call of everything
	require.Len(t, tracesOf(t, c, "trace_filter", map[string]any{"fromAddress": []any{target}, "toAddress": []any{crypto.CreateAddress(target, 2)}}), 1)
}

// TestTraceFilterHasBounds asks for more than the node gives.
func TestTraceFilterHasBounds(t *testing.T) {
	n := startNode(t, Options{MaxTraces: 20, MaxLogCriteria: 2})
	tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	code, message, data := callError(t, c, "trace_filter", map[string]any{})
	require.Equal(t, codeLimitExceeded, code)
	require.Equal(t, "query returned more than 20 results. Try with this block range [0x1, 0x1].", message)
	require.Equal(t, map[string]any{"from": "0x1", "to": "0x1"}, data)
	require.NotEmpty(t, tracesOf(t, c, "trace_filter", map[string]any{"toBlock": "0x1"}))
	_, message, _ = callError(t, c, "trace_filter", map[string]any{"fromBlock": "0x2", "toBlock": "0x2"})
	require.Equal(t, "query returned more than 20 results from one block; use after and count", message)
	require.Len(t, tracesOf(t, c, "trace_filter", map[string]any{"fromBlock": "0x2", "after": 10, "count": 10}), 10)
	code, _, _ = callError(t, c, "trace_filter", map[string]any{"toAddress": []common.Address{{1}, {2}, {3}}})
	require.Equal(t, codeInvalidParams, code)

	slow := startNode(t, Options{TraceTimeout: time.Nanosecond})
	tracedChain(slow.fakeChain)
	_, message, _ = callError(t, slow.dial(t, "http"), "trace_filter", map[string]any{})
	require.Equal(t, "execution timeout", message)
}

// TestTraceFilterIsBoundedInBytes: of all blocks together, and the error says up to where.
func TestTraceFilterIsBoundedInBytes(t *testing.T) {
	n := startNode(t, Options{MaxTraceBytes: 1500})
	for i := range uint64(3) {
		n.mine(alice.emit(i, common.Hash{1}))
	}
	c := n.dial(t, "http")
	code, message, _ := callError(t, c, "trace_filter", object{})
	require.Equal(t, codeLimitExceeded, code)
	require.Equal(t, "query returned more than 1500 bytes. Try with this block range [0x1, 0x2].", message)
	require.Len(t, tracesOf(t, c, "trace_filter", object{"toBlock": "0x2"}), 2)
}

// TestTraceFilterHoldsOnePlaceAtATime: it looks into the index with a place, and has given that back when a block wants one.
func TestTraceFilterHoldsOnePlaceAtATime(t *testing.T) {
	n := startNode(t, Options{MaxHeavy: 1, CallTimeout: time.Second})
	const blocks = 2*maxCandidates + 10
	for i := range uint64(blocks) {
		n.mine(alice.transfer(i))
	}
	c := n.dial(t, "http")
	found := tracesOf(t, c, "trace_filter", object{"fromAddress": []any{alice.address}})
	require.Len(t, found, blocks)
	for i, trace := range found {
		require.EqualValues(t, i+1, *trace.BlockNumber)
	}
	require.Len(t, tracesOf(t, c, "trace_filter", object{"fromBlock": "0x2", "toBlock": hexutil.Uint64(maxCandidates + 1)}), maxCandidates, "a full window")

	other := heavyRequest{client: "other"}
	require.NoError(t, n.server.heavy.enter(t.Context(), other, patience))
	defer n.server.heavy.leave(other)
	_, message, _ := callError(t, c, "trace_filter", object{"fromAddress": []any{pauper.address}})
	require.Contains(t, message, "the node is busy")
}

// TestStateDiffIsTheDifference compares state diffs with the states before and after each transaction, at every account that it dealt with.
func TestStateDiffIsTheDifference(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	type change struct{ Balance, Code, Nonce any }
	differences := 0
	for _, b := range tracedChain(n.fakeChain) {
		require.NoError(t, n.WithState(t.Context(), n.HeaderByHash(b.ParentHash()), func(st *state.StateDB) error {
			run, err := n.Executor().Rerun(context.Background(), st, b)
			require.NoError(t, err)
			for i, tx := range b.Transactions() {
				before := st.Copy()
				_, err := run.Next(context.Background(), nil)
				require.NoError(t, err)
				var replay struct {
					StateDiff map[common.Address]struct {
						change
						Storage map[common.Hash]any
					}
				}
				require.NoError(t, json.Unmarshal(call(t, c, "trace_replayTransaction", tx.Hash(), []string{"stateDiff"}), &replay))
				sender, err := types.Sender(n.signerOf(), tx)
				require.NoError(t, err)
				for _, a := range append(slices.Clone(n.touched[b.NumberU64()][i]), sender, coinbase) {
					existed, exists := before.Exist(a), st.Exist(a)
					part := func(from, to any) any {
						switch {
						case !existed:
							return map[string]any{"+": to}
						case !exists:
							return map[string]any{"-": from}
						case from == to:
							return "="
						}
						return map[string]any{"*": map[string]any{"from": from, "to": to}}
					}
					want := change{
						part(hexutil.EncodeBig(before.GetBalance(a).ToBig()), hexutil.EncodeBig(st.GetBalance(a).ToBig())),
						part(hexutil.Encode(before.GetCode(a)), hexutil.Encode(st.GetCode(a))),
						part(hexutil.EncodeUint64(before.GetNonce(a)), hexutil.EncodeUint64(st.GetNonce(a))),
					}
					got, ok := replay.StateDiff[a]
					if !ok {
						unchanged := (!existed && !exists) || want == change{"=", "=", "="}
						require.True(t, unchanged, "%v of transaction %d.%d: %v", a, b.NumberU64(), i, want)
						continue
					}
					differences++
					require.Equal(t, want, got.change, "%v of transaction %d.%d", a, b.NumberU64(), i)
					for _, slot := range []common.Hash{{}, {31: 1}} {
						from, to := before.GetState(a, slot), st.GetState(a, slot)
						if from == to {
							require.NotContains(t, got.Storage, slot)
							continue
						}
						require.Equal(t, part(from.Hex(), to.Hex()), got.Storage[slot])
					}
				}
			}
			return nil
		}))
	}
	require.Greater(t, differences, 25)
}

func (c *fakeChain) signerOf() types.Signer { return c.executor.Signer() }

// TestRawTransactionTrace traces what is not sent.
func TestRawTransactionTrace(t *testing.T) {
	n := startNode(t, Options{})
	tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	for i, tx := range allTypes() { // their nonces are used, which does not matter
		raw, err := tx.MarshalBinary()
		require.NoError(t, err)
		var got parityReplay
		require.NoError(t, json.Unmarshal(call(t, c, "trace_rawTransaction", hexutil.Bytes(raw), []string{"trace"}), &got))
		require.Equal(t, alice.address, *got.Trace[0].Action.From, "%d", i)
		require.EqualValues(t, tx.Gas(), *got.Trace[0].Action.Gas)
	}
	require.EqualValues(t, 3, n.CurrentHeader().Number.Uint64())
}
