package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/tracers"
	"github.com/ethereum/go-ethereum/eth/tracers/logger"
	_ "github.com/ethereum/go-ethereum/eth/tracers/native" // puts the tracers into tracers.DefaultDirectory

	"ledgerd/vm"
)

// This file executes blocks again for the namespaces debug, trace and ots. The tracers are go-ethereum's; what drives them is ours, since its
// tracers.API opens files that a client names, takes a name that it does not know for JavaScript (and panics without an interpreter), goes on
// after a client has gone, and bounds neither the time of a whole block nor the memory of a trace. A test compares with it.

// muxTracer runs other tracers, by name.
const muxTracer = "muxTracer"

// nativeTracers are for the message to who asks for another one; a test compares with the directory.
var nativeTracers = []string{"4byteTracer", "callTracer", "erc7562Tracer", "flatCallTracer", "keccak256PreimageTracer", muxTracer, "noopTracer", "prestateTracer"}

var (
	// The text is go-ethereum's.
	errTraceTimeout  = errors.New("execution timeout")
	errTraceNotFound = errors.New("transaction not found")
)

// maxTracerConfig bounds what a client says of a tracer, in bytes: it is read for each transaction.
const maxTracerConfig = 64 << 10

// frameless are the tracers that keep nothing of call frames.
var frameless = []string{"4byteTracer", "keccak256PreimageTracer", "noopTracer", "prestateTracer"}

// A tracer watches one transaction, within a budget of memory.
type tracer struct {
	*tracers.Tracer
	max    int
	copies int // of each call frame that are kept: one in each tracer of a muxTracer
}

// newTracer makes the tracer that a client asks for, struct logs by default. tooLarge is called, once or more often, when it holds more than the node
// allows; the transaction is then to be ended.
func (n *node) newTracer(config *tracers.TraceConfig, at *tracers.Context, tooLarge func(error)) (t *tracer, err error) {
	t = &tracer{max: n.opts.MaxTraceBytes, copies: 1}
	if config == nil || config.Tracer == nil || *config.Tracer == "" {
		var lc logger.Config
		if config != nil && config.Config != nil {
			lc = *config.Config
		}
		if lc.Limit <= 0 || lc.Limit > t.max {
			lc.Limit = t.max // it stops recording there, which result notices
		}
		structs := logger.NewStructLogger(&lc)
		t.Tracer = &tracers.Tracer{Hooks: structs.Hooks(), GetResult: structs.GetResult, Stop: structs.Stop}
		return t, nil
	}
	if t.copies, err = checkTracer(config); err != nil {
		return nil, err
	}
	made, err := tracers.DefaultDirectory.New(*config.Tracer, at, config.TracerConfig, n.backend.ChainConfig())
	if err != nil {
		return nil, invalidParams("tracer %s: %v", *config.Tracer, err)
	}
	t.Tracer = made
	t.Hooks = t.metered(tooLarge)
	return t, nil
}

// checkTracer refuses JavaScript, also within a muxTracer, and a muxTracer within a muxTracer: each level would read the configurations of those below it again and
// hold their results once more. copies is how many of the tracers keep call frames, at least 1.
func checkTracer(config *tracers.TraceConfig) (copies int, err error) {
	if config == nil || config.Tracer == nil || *config.Tracer == "" {
		return 1, nil
	}
	if len(config.TracerConfig) > maxTracerConfig {
		return 0, invalidParams("tracerConfig has %d bytes, at most %d are read", len(config.TracerConfig), maxTracerConfig)
	}
	if err := checkNative(*config.Tracer); err != nil || *config.Tracer != muxTracer {
		return 1, err
	}
	var inner map[string]json.RawMessage
	if err := json.Unmarshal(config.TracerConfig, &inner); err != nil {
		return 0, invalidParams("tracer %s: tracerConfig must map names of tracers to their configurations", muxTracer)
	}
	for name := range inner {
		if name == muxTracer {
			return 0, invalidParams("tracer %s: it cannot be within another one", muxTracer)
		}
		if err := checkNative(name); err != nil {
			return 0, err
		}
		if !slices.Contains(frameless, name) {
			copies++
		}
	}
	return max(copies, 1), nil
}

func checkNative(name string) error {
	if !tracers.DefaultDirectory.IsJS(name) {
		return nil
	}
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	return invalidParams("no native tracer %q; JavaScript tracers are not supported, the native ones are %s", name, strings.Join(nativeTracers, ", "))
}

// Each call frame holds the call's input and output, in hexadecimal in the end, and some hundred bytes more. The same memory can be the input of many
// calls, at a hundred gas each: what a trace holds is not bounded by gas.
const frameOverhead = 500

// metered returns t's hooks, which count what calls add to a trace. What the opcodes can add is bounded by their gas.
func (t *tracer) metered(tooLarge func(error)) *tracing.Hooks {
	left := t.max
	spend := func(bytes int) {
		if left -= t.copies * (2*bytes + frameOverhead); left < 0 {
			err := t.tooLarge()
			t.Stop(err)
			tooLarge(err)
		}
	}
	hooks := *t.Hooks
	if enter := hooks.OnEnter; enter != nil {
		hooks.OnEnter = func(depth int, op byte, from, to common.Address, input []byte, gas uint64, value *big.Int) {
			spend(len(input))
			enter(depth, op, from, to, input, gas, value)
		}
	}
	if enter := hooks.OnEnterV2; enter != nil {
		hooks.OnEnterV2 = func(depth int, op byte, from, to common.Address, input []byte, gas tracing.Gas, value *big.Int) {
			spend(len(input))
			enter(depth, op, from, to, input, gas, value)
		}
	}
	if exit := hooks.OnExit; exit != nil {
		hooks.OnExit = func(depth int, output []byte, gasUsed uint64, err error, reverted bool) {
			spend(len(output))
			exit(depth, output, gasUsed, err, reverted)
		}
	}
	if exit := hooks.OnExitV2; exit != nil {
		hooks.OnExitV2 = func(depth int, output []byte, gasLeft tracing.Gas, err error, reverted bool) {
			spend(len(output))
			exit(depth, output, gasLeft, err, reverted)
		}
	}
	return &hooks
}

func (t *tracer) tooLarge() error {
	return limitExceeded("trace is larger than %d bytes; trace one transaction, with a tracer or with less recorded (disableStack, disableStorage, limit)", t.max)
}

// result returns the trace of a transaction that was executed to its end.
func (t *tracer) result() (json.RawMessage, error) {
	result, err := t.GetResult()
	if err == nil && len(result) > t.max {
		err = t.tooLarge()
	}
	return result, err
}

// A replay executes the transactions of a block again, one after the other.
type replay struct {
	*vm.Rerun
	node     *node
	block    *types.Block
	hash     common.Hash    // zero for a block that is not of the chain
	receipts types.Receipts // nil for a block that is not of the chain
	size     int            // of the traces so far
}

// replay runs f with block before its first transaction, as one of the heavy requests, which all together may take as long as the node allows one
// request to trace. f may run twice, as with Backend.WithState.
func (n *node) replay(ctx context.Context, block *types.Block, f func(context.Context, *replay) error) error {
	parent := n.backend.HeaderByHash(block.ParentHash())
	switch {
	case block.NumberU64() == 0:
		return errors.New("genesis is not traceable")
	case parent == nil:
		return fmt.Errorf("parent %v of block %d not found", block.ParentHash(), block.NumberU64())
	}
	ctx, release, err := n.acquireLong(ctx)
	if err != nil {
		return err
	}
	defer release()
	hash := block.Hash()
	receipts := n.backend.ReceiptsByHash(hash)
	if n.backend.HeaderByHash(hash) == nil {
		hash = common.Hash{}
	}
	err = n.backend.WithState(ctx, parent, func(st *state.StateDB) error {
		run, err := n.backend.Executor().Rerun(ctx, st, block)
		if err != nil {
			return err
		}
		return f(ctx, &replay{Rerun: run, node: n, block: block, hash: hash, receipts: receipts})
	})
	return timedOut(ctx, err)
}

// timedOut says errTraceTimeout instead of what became of it on its way.
func timedOut(ctx context.Context, err error) error {
	if err != nil && errors.Is(err, context.DeadlineExceeded) && errors.Is(context.Cause(ctx), errTraceTimeout) {
		return errTraceTimeout
	}
	return err
}

// next executes one transaction. It must come to what its receipt says: a trace of something else would be worth less than none.
func (r *replay) next(ctx context.Context, hooks *tracing.Hooks) (*types.Receipt, error) {
	i := r.Index()
	got, err := r.Next(ctx, hooks)
	if err != nil || i >= len(r.receipts) {
		return got, err
	}
	if want := r.receipts[i]; got.GasUsed != want.GasUsed || (len(want.PostState) == 0 && got.Status != want.Status) {
		return nil, fmt.Errorf("transaction %s executes to status %d with %d gas, its receipt has status %d with %d gas",
			want.TxHash, got.Status, got.GasUsed, want.Status, want.GasUsed)
	}
	return got, nil
}

// skipTo executes the transactions before index i, unwatched.
func (r *replay) skipTo(ctx context.Context, i int) error {
	for r.Index() < i {
		if _, err := r.next(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// trace executes the next transaction under the tracer of config and returns what that has to say.
func (r *replay) trace(ctx context.Context, config *tracers.TraceConfig) (json.RawMessage, error) {
	timeout, err := r.node.traceTimeout(config)
	if err != nil {
		return nil, err
	}
	at := &tracers.Context{BlockHash: r.hash, BlockNumber: r.block.Number(), TxIndex: r.Index(), TxHash: r.block.Transactions()[r.Index()].Hash()}
	t, err := r.watch(ctx, timeout, func(tooLarge func(error)) (*tracer, error) { return r.node.newTracer(config, at, tooLarge) })
	if err != nil {
		return nil, err
	}
	result, err := t.result()
	if err != nil {
		return nil, err
	}
	if r.size += len(result); r.size > t.max {
		return nil, t.tooLarge()
	}
	return result, nil
}

// watch executes the next transaction under the tracer that begin makes, for at most timeout.
func (r *replay) watch(ctx context.Context, timeout time.Duration, begin func(tooLarge func(error)) (*tracer, error)) (*tracer, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTraceTimeout)
	defer cancel()
	t, err := begin(stop)
	if err != nil {
		return nil, err
	}
	_, err = r.next(ctx, t.Hooks)
	return t, err
}

// traceTimeout is how long one transaction may take: what the client says, but no longer than the node allows a whole request.
func (n *node) traceTimeout(config *tracers.TraceConfig) (time.Duration, error) {
	if config == nil || config.Timeout == nil {
		return min(n.opts.CallTimeout, n.opts.TraceTimeout), nil
	}
	timeout, err := time.ParseDuration(*config.Timeout)
	if err != nil || timeout <= 0 {
		return 0, invalidParams("timeout %q: must be a duration above 0, such as \"5s\"", *config.Timeout)
	}
	return min(timeout, n.opts.TraceTimeout), nil
}
