package rpc

import (
	"context"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth/tracers"
	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rlp"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

// oracle is a fakeChain as go-ethereum's tracers want it.
type oracle struct{ *fakeChain }

func (o oracle) HeaderByHash(_ context.Context, hash common.Hash) (*types.Header, error) {
	return o.fakeChain.HeaderByHash(hash), nil
}

func (o oracle) HeaderByNumber(_ context.Context, number gethrpc.BlockNumber) (*types.Header, error) {
	return o.fakeChain.HeaderByNumber(o.number(number)), nil
}

func (o oracle) number(number gethrpc.BlockNumber) uint64 {
	if number < 0 {
		return o.CurrentHeader().Number.Uint64()
	}
	return uint64(number)
}

func (o oracle) BlockByHash(_ context.Context, hash common.Hash) (*types.Block, error) {
	return o.fakeChain.BlockByHash(hash), nil
}

func (o oracle) BlockByNumber(_ context.Context, number gethrpc.BlockNumber) (*types.Block, error) {
	return o.fakeChain.BlockByNumber(o.number(number)), nil
}

func (o oracle) GetCanonicalTransaction(hash common.Hash) (bool, *types.Transaction, common.Hash, uint64, uint64) {
	tx, blockHash, number, index, ok := o.Transaction(hash)
	return ok, tx, blockHash, number, index
}

func (o oracle) TxIndexDone() bool       { return true }
func (o oracle) RPCGasCap() uint64       { return 50_000_000 }
func (o oracle) ChainDb() ethdb.Database { return nil }

func (o oracle) StateAtBlock(_ context.Context, b *types.Block, _ *state.StateDB, _, _ bool) (*state.StateDB, tracers.StateReleaseFunc, error) {
	st, err := state.New(b.Root(), o.sdb)
	return st, func() {}, err
}

func (o oracle) StateAtTransaction(ctx context.Context, b *types.Block, index int) (*types.Transaction, gethvm.BlockContext, *state.StateDB, tracers.StateReleaseFunc, error) {
	parent := o.fakeChain.BlockByHash(b.ParentHash())
	st, release, err := o.StateAtBlock(ctx, parent, nil, true, false)
	if err != nil {
		return nil, gethvm.BlockContext{}, nil, nil, err
	}
	blockCtx := core.NewEVMBlockContext(b.Header(), o, nil)
	evm := gethvm.NewEVM(blockCtx, st, o.config, gethvm.Config{})
	core.PreExecution(ctx, b.BeaconRoot(), parent.Header(), o.config, evm, b.Number(), b.Time())
	for i, tx := range b.Transactions()[:index] {
		msg, err := core.TransactionToMessage(tx, types.LatestSigner(o.config), b.BaseFee())
		if err != nil {
			return nil, gethvm.BlockContext{}, nil, nil, err
		}
		st.SetTxContext(tx.Hash(), i, uint32(i+1))
		if _, err := core.ApplyMessage(evm, msg, nil); err != nil {
			return nil, gethvm.BlockContext{}, nil, nil, err
		}
		st.Finalise(evm.GetRules())
	}
	return b.Transactions()[index], blockCtx, st, release, nil
}

func (o oracle) GetHeaderByNumber(number uint64) *types.Header {
	return o.fakeChain.HeaderByNumber(number)
}

// everything is a contract that calls in every way: the emitter plainly, by STATICCALL (which fails), DELEGATECALL and CALLCODE; a
// precompile; what is out of gas or reverts; it pays, creates twice, destroys what it has created, and uses storage of both kinds.
func everything() []byte {
	child := program.New().Selfdestruct(bob.address).Bytes()
	p := program.New().
		Sstore(1, 7).Sstore(1, 8).Tstore(1, 9).
		Mstore(common.Hash{3}.Bytes(), 0).
		Call(nil, emitter, 0, 0, 32, 0, 32).Op(gethvm.POP).
		StaticCall(uint256.NewInt(10_000), emitter, 0, 32, 0, 0).Op(gethvm.POP).
		DelegateCall(nil, emitter, 0, 32, 0, 0).Op(gethvm.POP).
		CallCode(nil, emitter, 0, 0, 32, 0, 0).Op(gethvm.POP).
		Call(nil, emitter, 0, 0, 0, 0, 0).Op(gethvm.POP). // reverts with a reason
		StaticCall(nil, 4, 0, 32, 0, 32).Op(gethvm.POP).
		Call(nil, pauper.address, 3, 0, 0, 0, 0).Op(gethvm.POP).
		Call(uint256.NewInt(1000), emitter, 0, 0, 32, 0, 0).Op(gethvm.POP) // out of gas
	p.Create2ThenCall(program.New().ReturnViaCodeCopy(child).Bytes(), 5)
	init := program.New().ReturnViaCodeCopy([]byte{byte(gethvm.STOP)}).Bytes()
	p.Mstore(init, 0).Push(len(init)).Push0().Push0().Op(gethvm.CREATE, gethvm.POP)
	return p.Return(0, 32).Bytes()
}

// tracedChain mines blocks with all that tracers tell apart, and returns them, oldest first.
func tracedChain(c *fakeChain) []*types.Block {
	fee, id := big.NewInt(params.GWei), big.NewInt(testChainID)
	call := func(from account, nonce uint64, to *common.Address, gas uint64, value int64, data []byte) *types.Transaction {
		return from.sign(&types.DynamicFeeTx{ChainID: id, Nonce: nonce, To: to, Gas: gas, Value: big.NewInt(value), Data: data, GasFeeCap: fee, GasTipCap: big.NewInt(1)})
	}
	target := crypto.CreateAddress(alice.address, 6)
	blocks := []*types.Block{c.mine(allTypes()...)}
	blocks = append(blocks, c.mine(
		call(alice, 6, nil, 3_000_000, 0, program.New().ReturnViaCodeCopy(everything()).Bytes()),
		call(bob, 0, &target, 1_000_000, 100, []byte("hello, world")),
		call(alice, 7, &emitter, 50_000, 0, []byte{1}), // out of gas
		call(bob, 1, &target, 2_000_000, 0, nil),
	))
	blocks = append(blocks, c.mine(
		call(bob, 2, &target, 1_500_000, 5, nil),
		call(alice, 8, &bob.address, 21_000, 1, nil),
		call(alice, 9, nil, 100_000, 0, []byte{byte(gethvm.INVALID)}), // a creation that fails
		alice.emit(10, common.Hash{7}),
	))
	return blocks
}

// tracerConfigs are the ways to trace that a test compares, by name.
func tracerConfigs() map[string]map[string]any {
	configs := map[string]map[string]any{
		"struct logs":             nil,
		"struct logs, everything": {"enableMemory": true, "enableReturnData": true},
		"struct logs, little":     {"disableStack": true, "disableStorage": true, "limit": 2000},
		"callTracer, logs":        {"tracer": "callTracer", "tracerConfig": map[string]any{"withLog": true}},
		"callTracer, top":         {"tracer": "callTracer", "tracerConfig": map[string]any{"onlyTopCall": true}},
		"prestateTracer, diff":    {"tracer": "prestateTracer", "tracerConfig": map[string]any{"diffMode": true}},
		"prestateTracer, less":    {"tracer": "prestateTracer", "tracerConfig": map[string]any{"disableCode": true, "disableStorage": true}},
		"flatCallTracer, parity":  {"tracer": "flatCallTracer", "tracerConfig": map[string]any{"convertParityErrors": true, "includePrecompiles": true}},
		"muxTracer": {"tracer": "muxTracer", "tracerConfig": map[string]any{
			"callTracer": map[string]any{"withLog": true}, "4byteTracer": nil, "prestateTracer": map[string]any{"diffMode": true},
		}},
	}
	for _, name := range nativeTracers {
		if name != muxTracer {
			configs[name] = map[string]any{"tracer": name}
		}
	}
	return configs
}

// TestTracesAreThoseOfGoEthereum compares with go-ethereum's tracing API on the same blocks, transaction by transaction and byte by byte.
func TestTracesAreThoseOfGoEthereum(t *testing.T) {
	n := startNode(t, Options{})
	blocks := tracedChain(n.fakeChain)
	ours := n.dial(t, "http")
	server := gethrpc.NewServer()
	defer server.Stop()
	require.NoError(t, server.RegisterName("debug", tracers.NewAPI(oracle{n.fakeChain})))
	theirs := gethrpc.DialInProc(server)
	defer theirs.Close()
	same := func(method string, args ...any) json.RawMessage {
		t.Helper()
		want, got := call(t, theirs, method, args...), call(t, ours, method, args...)
		require.JSONEq(t, string(want), string(got), "%s(%v)", method, args)
		return got
	}
	for name, config := range tracerConfigs() {
		t.Run(name, func(t *testing.T) {
			for i, b := range blocks {
				same("debug_traceBlockByNumber", hexutil.Uint64(i+1), config)
				same("debug_traceBlockByHash", b.Hash(), config)
				for _, tx := range b.Transactions() {
					same("debug_traceTransaction", tx.Hash(), config)
				}
			}
			raw, err := rlp.EncodeToBytes(blocks[1])
			require.NoError(t, err)
			same("debug_traceBlock", hexutil.Bytes(raw), config)

			target := crypto.CreateAddress(alice.address, 6)
			withCall := map[string]any{}
			for k, v := range config {
				withCall[k] = v
			}
			for _, args := range []map[string]any{
				{"from": alice.address, "to": target, "value": "0x64", "gas": "0xf4240"},
				{"from": alice.address, "to": emitter, "input": common.Hash{9}, "maxFeePerGas": "0x3b9aca00", "maxPriorityFeePerGas": "0x1", "gas": "0xf4240"},
				{"to": emitter, "gasPrice": "0x3b9aca00", "from": alice.address, "gas": "0xf4240"},
				{"from": bob.address, "data": "0x60005ff3"},
				{"from": bob.address, "to": target, "accessList": []any{map[string]any{"address": emitter, "storageKeys": []any{common.Hash{}}}}},
			} {
				delete(withCall, "txIndex")
				same("debug_traceCall", args, "0x3", withCall)
				same("debug_traceCall", args, "0x1", withCall)
				withCall["txIndex"] = "0x1"
				same("debug_traceCall", args, "0x2", withCall)
			}
			delete(withCall, "txIndex")
			withCall["stateOverrides"] = map[string]any{emitter.Hex(): map[string]any{"code": "0x4360005243405f5260205ff3", "balance": "0x5"}}
			withCall["blockOverrides"] = map[string]any{"number": "0x4", "time": "0x6553f200"}
			same("debug_traceCall", map[string]any{"to": emitter}, "0x3", withCall)
		})
	}
	same("debug_intermediateRoots", blocks[1].Hash())
	same("debug_intermediateRoots", blocks[2].Hash(), map[string]any{})

	require.ElementsMatch(t, nativeTracers, knownTracers())
}

// knownTracers asks the directory for every name in use.
func knownTracers() (known []string) {
	for _, name := range append([]string{"opcodeCounterTracer", "callTracerLegacy", "prestateTracerLegacy", "supplyTracer", "jsTracer"}, nativeTracers...) {
		if !tracers.DefaultDirectory.IsJS(name) {
			known = append(known, name)
		}
	}
	return known
}

// TestTracesAgreeWithReceipts compares every transaction's trace with its receipt.
func TestTracesAgreeWithReceipts(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	failed := 0
	for _, b := range tracedChain(n.fakeChain) {
		for i, r := range n.ReceiptsByHash(b.Hash()) {
			var structs struct {
				Gas    uint64
				Failed bool
			}
			require.NoError(t, json.Unmarshal(call(t, c, "debug_traceTransaction", b.Transactions()[i].Hash()), &structs))
			require.Equal(t, r.GasUsed, structs.Gas)
			require.Equal(t, r.Status != types.ReceiptStatusSuccessful, structs.Failed)
			if structs.Failed {
				failed++
			}
			var calls struct {
				GasUsed hexutil.Uint64
				Error   string
			}
			require.NoError(t, json.Unmarshal(call(t, c, "debug_traceTransaction", b.Transactions()[i].Hash(), map[string]any{"tracer": "callTracer"}), &calls))
			require.Equal(t, r.GasUsed, uint64(calls.GasUsed))
			require.Equal(t, r.Status != types.ReceiptStatusSuccessful, calls.Error != "")
		}
	}
	require.Equal(t, 3, failed)

	// A receipt that says something else is noticed.
	tx := n.BlockByNumber(2).Transactions()[3].Hash()
	n.receipts[n.BlockByNumber(2).Hash()][1].GasUsed++
	_, message, _ := callError(t, c, "debug_traceTransaction", tx)
	require.Contains(t, message, "its receipt has status 1")
}

// TestTracesHaveBounds asks for more than the node gives.
func TestTracesHaveBounds(t *testing.T) {
	n := startNode(t, Options{CallGas: 1 << 40, TraceTimeout: 200 * time.Millisecond})
	c := n.dial(t, "http")
	burn := map[string]any{"to": emitter, "data": "0x01", "gas": "0xffffffffff"}
	for _, config := range []map[string]any{{"tracer": "noopTracer"}, {"tracer": "noopTracer", "timeout": "1h"}, {"tracer": "noopTracer", "timeout": "1ms"}} {
		_, message, _ := callError(t, c, "debug_traceCall", burn, "latest", config)
		require.Regexp(t, "execution timeout|execution aborted", message)
	}

	n = startNode(t, Options{MaxTraceBytes: 200_000, CallTimeout: patience})
	blocks := tracedChain(n.fakeChain)
	c = n.dial(t, "http")
	// Struct logs of an endless loop stop at the limit, and say so; a limit of the client's own is no error.
	code, message, _ := callError(t, c, "debug_traceTransaction", blocks[1].Transactions()[2].Hash())
	require.Equal(t, codeLimitExceeded, code)
	require.Contains(t, message, "trace is larger than 200000 bytes")
	require.Less(t, len(call(t, c, "debug_traceTransaction", blocks[1].Transactions()[2].Hash(), map[string]any{"limit": 1000})), 2000)

	// The same memory as the input of many calls.
	many := program.New().Mstore(make([]byte, 32), 50_000)
	for range 20 {
		many.Call(nil, pauper.address, 0, 0, 50_000, 0, 0).Op(gethvm.POP)
	}
	overrides := map[string]any{emitter.Hex(): map[string]any{"code": hexutil.Bytes(many.Bytes())}}
	for _, name := range []string{"callTracer", "flatCallTracer", "erc7562Tracer"} {
		for _, config := range []map[string]any{{"tracer": name}, {"tracer": "muxTracer", "tracerConfig": map[string]any{name: nil}}} {
			config["stateOverrides"] = overrides
			code, message, _ := callError(t, c, "debug_traceCall", map[string]any{"to": emitter}, "latest", config)
			require.Equal(t, codeLimitExceeded, code, "%v", config)
			require.Contains(t, message, "trace is larger")
		}
	}
	// Each tracer of a muxTracer keeps its own frames.
	few := program.New()
	for range 100 {
		few.Call(nil, pauper.address, 0, 0, 0, 0, 0).Op(gethvm.POP)
	}
	overrides = map[string]any{emitter.Hex(): map[string]any{"code": hexutil.Bytes(few.Bytes())}}
	mux := func(names ...string) map[string]any {
		inner := make(map[string]any)
		for _, name := range names {
			inner[name] = nil
		}
		return map[string]any{"tracer": "muxTracer", "tracerConfig": inner, "stateOverrides": overrides}
	}
	call(t, c, "debug_traceCall", map[string]any{"to": emitter}, "latest", mux("callTracer"))
	call(t, c, "debug_traceCall", map[string]any{"to": emitter}, "latest", mux("callTracer", "prestateTracer", "noopTracer"))
	code, _, _ = callError(t, c, "debug_traceCall", map[string]any{"to": emitter}, "latest", mux("callTracer", "flatCallTracer"))
	require.Equal(t, codeLimitExceeded, code)
	// The sum of a block counts too.
	code, _, _ = callError(t, c, "debug_traceBlockByNumber", "0x2", map[string]any{"enableMemory": true, "limit": 120_000})
	require.Equal(t, codeLimitExceeded, code)
}

// TestTracesOfBadRequests names what a client may have got wrong.
func TestTracesOfBadRequests(t *testing.T) {
	n := startNode(t, Options{})
	blocks := tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	tx := blocks[0].Transactions()[0].Hash()
	orphan := types.NewBlockWithHeader(&types.Header{Number: big.NewInt(5), Difficulty: new(big.Int), ParentHash: common.Hash{1}})
	raw, err := rlp.EncodeToBytes(orphan)
	require.NoError(t, err)
	odd := types.CopyHeader(blocks[1].Header())
	odd.BaseFee = new(big.Int).Lsh(big.NewInt(params.Ether), 20)
	rawOdd, err := rlp.EncodeToBytes(types.NewBlockWithHeader(odd).WithBody(*blocks[1].Body()))
	require.NoError(t, err)
	skewed := types.CopyHeader(blocks[1].Header())
	skewed.Number = big.NewInt(7)
	rawSkewed, err := rlp.EncodeToBytes(types.NewBlockWithHeader(skewed).WithBody(*blocks[1].Body()))
	require.NoError(t, err)
	for _, test := range []struct {
		code   int
		text   string
		method string
		args   []any
	}{
		{-32000, "transaction not found", "debug_traceTransaction", []any{common.Hash{9}}},
		{-32000, "genesis is not traceable", "debug_traceBlockByNumber", []any{"0x0"}},
		{-32000, "block #9 not found", "debug_traceBlockByNumber", []any{"0x9"}},
		{-32000, "not found", "debug_traceBlockByHash", []any{common.Hash{9}}},
		{-32602, "could not decode block", "debug_traceBlock", []any{"0x01"}},
		{-32000, "parent 0x01", "debug_traceBlock", []any{hexutil.Bytes(raw)}},
		{-32000, "less than block base fee", "debug_traceBlock", []any{hexutil.Bytes(rawOdd)}},
		{-32000, "is not a known block 6", "debug_traceBlock", []any{hexutil.Bytes(rawSkewed)}},
		{-32602, "JavaScript tracers are not supported", "debug_traceTransaction", []any{tx, map[string]any{"tracer": "{data: [], step: function() {}, fault: function() {}, result: function() { return 1 }}"}}},
		{-32602, `no native tracer "fooTracer"`, "debug_traceTransaction", []any{tx, map[string]any{"tracer": "fooTracer"}}},
		{-32602, `no native tracer "fooTracer"`, "debug_traceTransaction", []any{tx, map[string]any{"tracer": "muxTracer", "tracerConfig": map[string]any{"fooTracer": nil}}}},
		{-32602, "cannot be within another one", "debug_traceTransaction", []any{tx, map[string]any{"tracer": "muxTracer", "tracerConfig": map[string]any{"noopTracer": nil, "muxTracer": map[string]any{"noopTracer": nil}}}}},
		{-32602, "cannot be within another one", "debug_traceBlockByNumber", []any{"0x1", map[string]any{"tracer": "muxTracer", "tracerConfig": map[string]any{"muxTracer": nil}}}},
		{-32602, "cannot be within another one", "debug_traceCall", []any{map[string]any{"to": emitter}, "latest", map[string]any{"tracer": "muxTracer", "tracerConfig": map[string]any{"muxTracer": nil}}}},
		{-32602, "tracerConfig has 65538 bytes, at most 65536 are read", "debug_traceTransaction", []any{tx, map[string]any{"tracer": "noopTracer", "tracerConfig": strings.Repeat("a", maxTracerConfig)}}},
		{-32602, "tracerConfig must map", "debug_traceTransaction", []any{tx, map[string]any{"tracer": "muxTracer"}}},
		{-32602, "tracer callTracer", "debug_traceTransaction", []any{tx, map[string]any{"tracer": "callTracer", "tracerConfig": []int{1}}}},
		{-32602, "cannot use diffMode with includeEmpty", "debug_traceTransaction", []any{tx, map[string]any{"tracer": "prestateTracer", "tracerConfig": map[string]any{"diffMode": true, "includeEmpty": true}}}},
		{-32602, "must be a duration", "debug_traceTransaction", []any{tx, map[string]any{"timeout": "soon"}}},
		{-32602, "must be a duration", "debug_traceTransaction", []any{tx, map[string]any{"timeout": "-1s"}}},
		{-32602, "transaction index 4 out of range", "debug_traceCall", []any{map[string]any{}, "0x2", map[string]any{"txIndex": "0x4"}}},
		{-32602, "both gasPrice and", "debug_traceCall", []any{map[string]any{"gasPrice": "0x1", "maxFeePerGas": "0x1"}, "latest"}},
		{-32000, "header not found", "debug_traceCall", []any{map[string]any{}, "0x99"}},
		{-32000, "insufficient funds", "debug_traceCall", []any{map[string]any{"from": pauper.address, "to": bob.address, "value": "0xffff"}, "latest"}},
		{-32601, "does not exist", "debug_traceBlockFromFile", []any{"/etc/passwd"}},
		{-32601, "does not exist", "debug_standardTraceBlockToFile", []any{tx}},
	} {
		code, message, _ := callError(t, c, test.method, test.args...)
		require.Equal(t, test.code, code, "%s(%v): %s", test.method, test.args, message)
		require.Contains(t, message, test.text)
	}
}

// TestTracingEndsWithItsClient cancels a request whose execution would go on for a minute.
func TestTracingEndsWithItsClient(t *testing.T) {
	n := startNode(t, Options{CallGas: 1 << 50, MaxHeavy: 1, CallTimeout: time.Minute})
	tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, c.CallContext(ctx, nil, "debug_traceCall", map[string]any{"to": emitter, "data": "0x01", "gas": "0xffffffffffff"}, "latest", map[string]any{"tracer": "noopTracer"}))
	call(t, c, "debug_traceBlockByNumber", "0x2") // the only token is back
}

// TestTraceChain subscribes to the traces of a stretch of blocks.
func TestTraceChain(t *testing.T) {
	n := startNode(t, Options{MaxSubscriptions: 2})
	blocks := tracedChain(n.fakeChain)
	c := n.dial(t, "ws")
	results := make(chan json.RawMessage, 10)
	sub, err := c.Subscribe(t.Context(), "debug", results, "traceChain", "0x0", "latest", map[string]any{"tracer": "callTracer"})
	require.NoError(t, err)
	for i, b := range blocks {
		var got blockTraces
		require.NoError(t, json.Unmarshal(receive(t, results), &got))
		require.EqualValues(t, i+1, got.Block)
		require.Equal(t, b.Hash(), got.Hash)
		want, err := json.Marshal(got.Traces)
		require.NoError(t, err)
		require.JSONEq(t, string(call(t, c, "debug_traceBlockByHash", b.Hash(), map[string]any{"tracer": "callTracer"})), string(want))
	}
	sub.Unsubscribe()

	sub, err = c.Subscribe(t.Context(), "debug", results, "traceChain", "0x1", "0x3", map[string]any{"tracer": "fooTracer"})
	require.NoError(t, err)
	defer sub.Unsubscribe()
	require.Contains(t, string(receive(t, results)), "no native tracer")

	for _, ends := range [][2]string{{"0x3", "0x1"}, {"0x1", "0x1"}, {"0x1", "0x99"}} {
		_, err = c.Subscribe(t.Context(), "debug", results, "traceChain", ends[0], ends[1])
		require.Error(t, err)
	}
	_, message, _ := callError(t, n.dial(t, "http"), "debug_subscribe", "traceChain", "0x0", "0x1")
	require.Contains(t, message, "notifications not supported")
}

// TestTraceChainsAreFew: what a chain of traces holds is bounded, it waits for its turn as its client, and it ends with its websocket even while a call of that goes on.
func TestTraceChainsAreFew(t *testing.T) {
	n := startNode(t, Options{MaxHeavy: 1, CallTimeout: time.Minute})
	tracedChain(n.fakeChain)
	n.server.chains = newQuota(1, 1)
	w := n.registerWaiting(t)
	_, release, err := n.server.acquireFor(contextOf("10.0.0.1:1#1"))
	require.NoError(t, err)
	defer release()
	c := n.dial(t, "ws")
	_, err = c.Subscribe(t.Context(), "debug", make(chan json.RawMessage), "traceChain", "0x0", "latest")
	require.NoError(t, err)
	_, err = c.Subscribe(t.Context(), "debug", make(chan json.RawMessage), "traceChain", "0x0", "latest")
	require.EqualError(t, err, "too many subscriptions traceChain, at most 1, of one client 1")
	eventually(t, "it waits as its client", func() bool {
		n.server.heavy.mu.Lock()
		defer n.server.heavy.mu.Unlock()
		return len(n.server.heavy.mu.queues["127.0.0.1"]) == 1
	})
	go c.Call(nil, "waiting_wait")
	eventually(t, "a call that does not end", func() bool { return w.inside.Load() == 1 })
	c.Close()
	eventually(t, "it has ended", func() bool { return n.server.chains.take("", 1) == shareHad })
	_, waiting := n.server.heavy.state()
	require.Zero(t, waiting)
	require.Zero(t, n.server.subs.mu.taken)
	close(w.leave)
}

// brokenChain holds no block 1, and has a bug with block 2.
type brokenChain struct{ *fakeChain }

func (c brokenChain) BlockByNumber(number uint64) *types.Block {
	switch number {
	case 1:
		return nil
	case 2:
		panic("a bug")
	}
	return c.fakeChain.BlockByNumber(number)
}

// TestTraceChainFails: a block that was removed meanwhile, or a bug, ends the subscription, and not the node.
func TestTraceChainFails(t *testing.T) {
	chain := newFakeChain(t)
	blocks := tracedChain(chain)
	server, err := New(brokenChain{chain}, fakePool{chain}, nil, Options{})
	require.NoError(t, err)
	require.Equal(t, blockTraces{Block: 1, Traces: []transactionTrace{}, Error: "block #1 not found"}, server.traceForChain(t.Context(), 1, nil))
	require.Equal(t, blockTraces{Block: 2, Traces: []transactionTrace{}, Error: "method handler crashed"}, server.traceForChain(t.Context(), 2, nil))
	result := server.traceForChain(t.Context(), 3, nil)
	require.Empty(t, result.Error)
	require.Equal(t, blocks[2].Hash(), result.Hash)
}
