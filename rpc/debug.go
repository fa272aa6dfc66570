package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"runtime/debug"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/tracers"
	"github.com/ethereum/go-ethereum/rlp"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/vm"
)

// debugTraceAPI is the debug_ methods that trace. Their arguments and results are go-ethereum's.
type debugTraceAPI struct{ *node }

// transactionTrace is the trace of one transaction of a block.
type transactionTrace struct {
	TxHash common.Hash     `json:"txHash"`
	Result json.RawMessage `json:"result"`
}

// TraceTransaction traces an included transaction.
func (api *debugTraceAPI) TraceTransaction(ctx context.Context, hash common.Hash, config *tracers.TraceConfig) (result json.RawMessage, err error) {
	_, blockHash, _, index, ok := api.backend.Transaction(hash)
	if !ok {
		return nil, errTraceNotFound
	}
	return api.traceAt(ctx, api.backend.BlockByHash(blockHash), int(index), config)
}

// traceAt traces one transaction of a block.
func (n *node) traceAt(ctx context.Context, block *types.Block, index int, config *tracers.TraceConfig) (result json.RawMessage, err error) {
	if _, err := checkTracer(config); err != nil {
		return nil, err
	}
	err = n.replay(ctx, block, func(ctx context.Context, r *replay) (err error) {
		if err = r.skipTo(ctx, index); err == nil {
			result, err = r.trace(ctx, config)
		}
		return err
	})
	return result, err
}

// TraceBlockByNumber traces all transactions of a block.
func (api *debugTraceAPI) TraceBlockByNumber(ctx context.Context, number gethrpc.BlockNumber, config *tracers.TraceConfig) ([]transactionTrace, error) {
	block := api.blockByNumber(number)
	if block == nil {
		return nil, fmt.Errorf("block #%d not found", number)
	}
	return api.traceBlock(ctx, block, config)
}

// TraceBlockByHash traces all transactions of a block.
func (api *debugTraceAPI) TraceBlockByHash(ctx context.Context, hash common.Hash, config *tracers.TraceConfig) ([]transactionTrace, error) {
	block := api.backend.BlockByHash(hash)
	if block == nil {
		return nil, fmt.Errorf("block %v not found", hash)
	}
	return api.traceBlock(ctx, block, config)
}

// TraceBlock traces all transactions of a block that is given as RLP. It need not be one of the chain, but its parent must.
func (api *debugTraceAPI) TraceBlock(ctx context.Context, blob hexutil.Bytes, config *tracers.TraceConfig) ([]transactionTrace, error) {
	block := new(types.Block)
	if err := rlp.DecodeBytes(blob, block); err != nil {
		return nil, invalidParams("could not decode block: %v", err)
	}
	return api.traceBlock(ctx, block, config)
}

func (n *node) traceBlock(ctx context.Context, block *types.Block, config *tracers.TraceConfig) (results []transactionTrace, err error) {
	if _, err := checkTracer(config); err != nil {
		return nil, err
	}
	err = n.replay(ctx, block, func(ctx context.Context, r *replay) error {
		results = make([]transactionTrace, 0, len(block.Transactions()))
		for _, tx := range block.Transactions() {
			result, err := r.trace(ctx, config)
			if err != nil {
				return err
			}
			results = append(results, transactionTrace{tx.Hash(), result})
		}
		return nil
	})
	return results, err
}

// traceCallConfig is the third argument of debug_traceCall.
type traceCallConfig struct {
	tracers.TraceConfig
	StateOverrides *vm.StateOverride
	BlockOverrides *vm.BlockOverrides
	TxIndex        *hexutil.Uint // the state before this transaction of the block; absent: after all of them
}

// TraceCall traces a message on the state after a block, or before one of its transactions.
func (api *debugTraceAPI) TraceCall(ctx context.Context, args callArgs, ref *gethrpc.BlockNumberOrHash, config *traceCallConfig) (result json.RawMessage, err error) {
	if config == nil {
		config = new(traceCallConfig)
	}
	if err := args.check((*hexutil.Big)(api.backend.ChainConfig().ChainID)); err != nil {
		return nil, err
	}
	if _, err := checkTracer(&config.TraceConfig); err != nil {
		return nil, err
	}
	header, err := api.header(ref)
	if err != nil {
		return nil, err
	}
	run := func(ctx context.Context, st *state.StateDB) (err error) {
		result, err = api.traceCallOn(ctx, st, header, &args, config)
		return err
	}
	if config.TxIndex == nil {
		return result, api.onState(ctx, header, run)
	}
	block := api.backend.BlockByHash(header.Hash())
	if uint64(*config.TxIndex) >= uint64(len(block.Transactions())) {
		return nil, invalidParams("transaction index %d out of range for block %v", *config.TxIndex, block.Hash())
	}
	return result, api.replay(ctx, block, func(ctx context.Context, r *replay) error {
		if err := r.skipTo(ctx, int(*config.TxIndex)); err != nil {
			return err
		}
		return run(ctx, r.State())
	})
}

// onState runs f on the state after a block, as one of the heavy requests that trace.
func (n *node) onState(ctx context.Context, header *types.Header, f func(context.Context, *state.StateDB) error) error {
	ctx, release, err := n.acquireLong(ctx)
	if err != nil {
		return err
	}
	defer release()
	return timedOut(ctx, n.backend.WithState(ctx, header, func(st *state.StateDB) error { return f(ctx, st) }))
}

func (n *node) traceCallOn(ctx context.Context, st *state.StateDB, header *types.Header, args *callArgs, config *traceCallConfig) (json.RawMessage, error) {
	timeout, err := n.traceTimeout(&config.TraceConfig)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	t, err := n.newTracer(&config.TraceConfig, new(tracers.Context), stop)
	if err != nil {
		return nil, err
	}
	opts := n.callOptions(config.StateOverrides, config.BlockOverrides)
	opts.Tracer, opts.Timeout = t.Hooks, timeout
	_, err = n.backend.Executor().Call(ctx, st, nextIfAsked(header, config.BlockOverrides), args.message(), opts)
	var refused *codedError
	if cause := context.Cause(ctx); errors.As(cause, &refused) {
		return nil, refused // too large
	}
	if err != nil {
		return nil, err
	}
	return t.result()
}

// nextIfAsked returns a header for a message that overrides the number of h with that of the next block: BLOCKHASH then knows h.
func nextIfAsked(h *types.Header, overrides *vm.BlockOverrides) *types.Header {
	next := new(big.Int).Add(h.Number, common.Big1)
	if overrides == nil || overrides.Number == nil || overrides.Number.ToInt().Cmp(next) != 0 {
		return h
	}
	child := types.CopyHeader(h)
	child.ParentHash, child.Number = h.Hash(), next
	return child
}

// blockTraces is what debug_subscribe("traceChain", …) announces: the traces of one block.
type blockTraces struct {
	Block  hexutil.Uint64     `json:"block"`
	Hash   common.Hash        `json:"hash"`
	Traces []transactionTrace `json:"traces"`
	Error  string             `json:"error,omitempty"` // why the subscription ends here
}

// TraceChain is the subscription "traceChain": the traces of the blocks after start up to end, one announcement for each block, in their order. It goes
// as fast as the client reads.
func (api *debugTraceAPI) TraceChain(ctx context.Context, start, end gethrpc.BlockNumber, config *tracers.TraceConfig) (*gethrpc.Subscription, error) {
	from, to := api.number(start), api.number(end)
	for _, number := range []uint64{from, to} {
		if api.backend.HeaderByNumber(number) == nil {
			return nil, fmt.Errorf("block #%d not found", number)
		}
	}
	if from >= to {
		return nil, invalidParams("end block (#%d) needs to come after start block (#%d)", to, from)
	}
	notifier, ok := gethrpc.NotifierFromContext(ctx)
	if !ok {
		return nil, gethrpc.ErrNotificationsUnsupported
	}
	sock, leave, err := api.enterChainTrace(ctx)
	if err != nil {
		return nil, err
	}
	remote := notifier.CreateSubscription()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the client is still that of the request
	stop := func() bool { return true }
	if sock != nil {
		stop = context.AfterFunc(sock.open, cancel)
	}
	api.sockets.running.Add(2)
	go func() {
		defer api.sockets.running.Done()
		defer cancel()
		select {
		case <-remote.Err(): // unsubscribed, or the connection has ended
		case <-api.hub.done:
		case <-ctx.Done():
		}
	}()
	go func() {
		defer api.sockets.running.Done()
		defer cancel()
		defer leave()
		defer stop()
		for number := from + 1; number <= to && ctx.Err() == nil; number++ {
			result := api.traceForChain(ctx, number, config)
			if notifier.Notify(remote.ID, result) != nil || result.Error != "" {
				return
			}
		}
	}()
	return remote, nil
}

// maxChainTraces is how many subscriptions "traceChain" there may be: each holds the traces of a block until its client has taken them. One client has half of
// them, if it is not on this machine.
const maxChainTraces = 16

// enterChainTrace counts one in, also as a subscription.
func (n *node) enterChainTrace(ctx context.Context) (sock *socket, leave func(), err error) {
	client := shareOf(remoteOf(ctx))
	if n.chains.take(client, 1) != shareHad {
		return nil, nil, limitExceeded("too many subscriptions traceChain, at most %d, of one client %d", n.chains.all, n.chains.one)
	}
	sock, left, err := n.enterSubscription(ctx)
	if err != nil {
		n.chains.give(client, 1)
		return nil, nil, err
	}
	return sock, func() { left(); n.chains.give(client, 1) }, nil
}

// traceForChain traces a block. It runs in no request, whose panics are caught (invariant 6).
func (n *node) traceForChain(ctx context.Context, number uint64, config *tracers.TraceConfig) (result blockTraces) {
	result = blockTraces{Block: hexutil.Uint64(number)}
	failed := func(format string, args ...any) {
		result.Traces, result.Error = []transactionTrace{}, fmt.Sprintf(format, args...)
	}
	defer func() {
		if p := recover(); p != nil {
			n.opts.Logger.Error("tracing a chain crashed", "block", number, "panic", p, "stack", string(debug.Stack()))
			failed("method handler crashed") // go-ethereum's text
		}
	}()
	block := n.backend.BlockByNumber(number)
	if block == nil { // it was removed since
		failed("block #%d not found", number)
		return result
	}
	result.Hash = block.Hash()
	traces, err := n.traceBlock(ctx, block, config)
	if err != nil {
		failed("%v", err)
		return result
	}
	result.Traces = traces
	return result
}

// IntermediateRoots returns the state root after each transaction of a block. The trie of the state before must be there: that of the newest blocks is.
// Nothing in config applies.
func (api *debugTraceAPI) IntermediateRoots(ctx context.Context, hash common.Hash, config *tracers.TraceConfig) (roots []common.Hash, err error) {
	block := api.backend.BlockByHash(hash)
	if block == nil {
		return nil, fmt.Errorf("block %v not found", hash)
	}
	rules := api.backend.ChainConfig().Rules(block.Number(), block.Difficulty().Sign() == 0, block.Time())
	err = api.replay(ctx, block, func(ctx context.Context, r *replay) error {
		roots = make([]common.Hash, 0, len(block.Transactions()))
		for range block.Transactions() {
			if _, err := r.next(ctx, nil); err != nil {
				return err
			}
			roots = append(roots, r.State().IntermediateRoot(rules))
		}
		return nil
	})
	return roots, err
}
