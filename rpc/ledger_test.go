package rpc

import (
	"context"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"

	logconsensus "ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/genesis"
)

// realLedger is a ledger on disk, and a client in its process.
type realLedger struct {
	*ledger.Ledger
	client *gethrpc.Client
	nonces map[common.Address]uint64
}

func newRealLedger(tb testing.TB, opts Options) *realLedger {
	g := genesis.Dev(testChainID, []common.Address{alice.address, bob.address})
	g.Alloc[emitter] = types.Account{Code: emitterCode, Balance: new(big.Int)}
	l, err := ledger.Open(tb.TempDir(), g, ledger.Options{CacheMiB: 16, FlushDebt: 300 * time.Millisecond})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, l.Close()) })
	server, err := New(l, l.Pool(), nil, opts)
	require.NoError(tb, err)
	client := server.Client()
	tb.Cleanup(func() { client.Close(); server.rpc.Stop() })
	return &realLedger{l, client, make(map[common.Address]uint64)}
}

// apply makes a block of transactions, each from an account to one or to none.
func (l *realLedger) apply(tb testing.TB, txs ...*types.Transaction) {
	var raws [][]byte
	for _, tx := range txs {
		raw, err := tx.MarshalBinary()
		require.NoError(tb, err)
		raws = append(raws, raw)
	}
	lsn := l.Applied() + 1
	_, err := l.Apply(context.Background(), logconsensus.Entry{
		LSN: lsn, Epoch: 1, UnixMilli: genesisTime*1000 + uint64(lsn),
		Record: logconsensus.Record{App: ledger.App, ID: logconsensus.RecordID{Session: 1, Seq: uint64(lsn)}, Payload: batch.Encode(raws)},
	})
	require.NoError(tb, err)
}

func (l *realLedger) tx(from account, to *common.Address, gas uint64, data []byte) *types.Transaction {
	nonce := l.nonces[from.address]
	l.nonces[from.address]++
	return from.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), Nonce: nonce, To: to, Gas: gas, Data: data, GasFeeCap: big.NewInt(params.GWei), GasTipCap: big.NewInt(1)})
}

// grow adds n blocks that call everything, and returns the contract.
func (l *realLedger) grow(tb testing.TB, n int) common.Address {
	target := crypto.CreateAddress(alice.address, 0)
	if l.Applied() == 0 {
		l.apply(tb, l.tx(alice, nil, 3_000_000, program.New().ReturnViaCodeCopy(everything()).Bytes()))
	}
	for i := range n {
		l.apply(tb, l.tx(alice, &target, 500_000, nil), l.tx(bob, &emitter, 100_000, common.Hash{byte(i)}.Bytes()), l.tx(alice, &emitter, 50_000, nil))
	}
	require.NoError(tb, l.Drain(context.Background()))
	return target
}

// TestTracesOfOldBlocks traces every transaction of a chain on disk whose first states are long out of memory, while blocks are being
// added, and compares with the receipts.
func TestTracesOfOldBlocks(t *testing.T) {
	l := newRealLedger(t, Options{CallTimeout: 6 * patience, TraceTimeout: 6 * patience})
	target := l.grow(t, 160)
	head := l.CurrentHeader().Number.Uint64()
	ctx, cancel := context.WithCancel(context.Background())
	grown := make(chan struct{})
	go func() {
		defer close(grown)
		for ctx.Err() == nil && l.CurrentHeader().Number.Uint64() < head+100 {
			l.apply(t, l.tx(bob, &emitter, 100_000, common.Hash{1}.Bytes()))
		}
	}()
	defer func() { cancel(); <-grown }()
	for number := uint64(1); number <= head; number += 3 {
		var traces []struct {
			TxHash common.Hash
			Result struct {
				GasUsed hexutil.Uint64
				Error   string
			}
		}
		require.NoError(t, json.Unmarshal(call(t, l.client, "debug_traceBlockByNumber", hexutil.Uint64(number), map[string]any{"tracer": "callTracer"}), &traces))
		receipts := l.ReceiptsByHash(l.HeaderByNumber(number).Hash())
		require.Len(t, traces, len(receipts))
		for i, r := range receipts {
			require.Equal(t, r.TxHash, traces[i].TxHash)
			require.EqualValues(t, r.GasUsed, traces[i].Result.GasUsed)
			require.Equal(t, r.Status == types.ReceiptStatusSuccessful, traces[i].Result.Error == "")
		}
	}
	// Traces of an account alone are those among all.
	all := tracesOf(t, l.client, "trace_filter", map[string]any{"fromBlock": "0x1", "toBlock": hexutil.Uint64(30)})
	for _, a := range []common.Address{target, emitter, pauper.address, alice.address} {
		var want []*parityTrace
		for _, trace := range all {
			if (&traceFilter{ToAddress: []common.Address{a}}).matches(trace) {
				want = append(want, trace)
			}
		}
		got := tracesOf(t, l.client, "trace_filter", map[string]any{"fromBlock": "0x1", "toBlock": hexutil.Uint64(30), "toAddress": []any{a}})
		require.ElementsMatch(t, want, got)
	}
	child := crypto.CreateAddress(target, 2)
	var creator otsCreator
	require.NoError(t, json.Unmarshal(call(t, l.client, "ots_getContractCreator", child), &creator))
	require.Equal(t, otsCreator{l.BlockByNumber(2).Transactions()[0].Hash(), target}, creator)

	_, message, _ := callError(t, l.client, "debug_storageRangeAt", "0x5", 0, target, "0x", 10)
	require.Equal(t, errNotEnumerable.Error(), message)
	_, message, _ = callError(t, l.client, "debug_accountRange", "0x5", "0x", 10, true, true, true)
	require.Equal(t, errNotEnumerable.Error(), message)
	_, message, _ = callError(t, l.client, "debug_intermediateRoots", l.HeaderByNumber(5).Hash())
	require.Contains(t, message, "historical state is not available")

	cancel()
	<-grown
	require.NoError(t, l.Drain(t.Context()))
	newest := l.BlockByNumber(l.CurrentHeader().Number.Uint64())
	var roots []common.Hash
	require.NoError(t, json.Unmarshal(call(t, l.client, "debug_intermediateRoots", newest.Hash()), &roots))
	require.Len(t, roots, len(newest.Transactions()))
	var page storageRange
	require.NoError(t, json.Unmarshal(call(t, l.client, "debug_storageRangeAt", "latest", 0, target, "0x", 10), &page))
	require.Len(t, page.Storage, 2)
	require.Nil(t, page.NextKey)
}

// BenchmarkExplorer asks a chain on disk: what explorers ask.
func BenchmarkExplorer(b *testing.B) {
	l := newRealLedger(b, Options{})
	target := l.grow(b, 2000)
	head := l.CurrentHeader().Number.Uint64()
	for name, request := range map[string][]any{
		"traceBlock/head":     {"debug_traceBlockByNumber", hexutil.Uint64(head), map[string]any{"tracer": "callTracer"}},
		"traceBlock/old":      {"debug_traceBlockByNumber", "0x100", map[string]any{"tracer": "callTracer"}},
		"structLogs/old":      {"debug_traceBlockByNumber", "0x100"},
		"trace_block/old":     {"trace_block", "0x100"},
		"trace_filter/rare":   {"trace_filter", map[string]any{"fromAddress": []any{alice.address}, "toAddress": []any{crypto.CreateAddress(alice.address, 0)}, "toBlock": "0x1"}},
		"search/busy, newest": {"ots_searchTransactionsBefore", target, 0, 25},
		"search/busy, middle": {"ots_searchTransactionsBefore", target, 1000, 25},
		"search/oldest":       {"ots_searchTransactionsAfter", target, 0, 25},
		"byNonce":             {"ots_getTransactionBySenderAndNonce", bob.address, 777},
		"creator":             {"ots_getContractCreator", crypto.CreateAddress(target, 1000)},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var result json.RawMessage
				if err := l.client.Call(&result, request[0].(string), request[1:]...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
