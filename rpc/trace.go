package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/tracers"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/vm"
)

// traceAPI is the trace_ namespace that OpenEthereum had, for indexers and explorers that ask for it (The Graph, Blockscout). The frames are those of
// go-ethereum's flatCallTracer, with OpenEthereum's texts of errors. As there, what failed has an error and no result. There are no reward traces:
// nothing is paid for a block.
type traceAPI struct{ *node }

// parityTrace is a call frame. The fields that say where it is are absent in traces of what was not found by its place (trace_replay…, trace_call).
type parityTrace struct {
	Action              parityAction  `json:"action"`
	BlockHash           *common.Hash  `json:"blockHash,omitempty"`
	BlockNumber         *uint64       `json:"blockNumber,omitempty"`
	Error               string        `json:"error,omitempty"`
	Result              *parityResult `json:"result"` // null for a self-destruction and for what failed
	Subtraces           int           `json:"subtraces"`
	TraceAddress        []int         `json:"traceAddress"`
	TransactionHash     *common.Hash  `json:"transactionHash,omitempty"`
	TransactionPosition *uint64       `json:"transactionPosition,omitempty"`
	Type                string        `json:"type"` // call, create, suicide
}

type parityAction struct {
	// Of a self-destruction.
	Address       *common.Address `json:"address,omitempty"`
	Balance       *hexutil.Big    `json:"balance,omitempty"`
	RefundAddress *common.Address `json:"refundAddress,omitempty"`
	// Of a call or a creation.
	CallType       string          `json:"callType,omitempty"`
	CreationMethod string          `json:"creationMethod,omitempty"`
	From           *common.Address `json:"from,omitempty"`
	Gas            *hexutil.Uint64 `json:"gas,omitempty"`
	Init           *hexutil.Bytes  `json:"init,omitempty"`
	Input          *hexutil.Bytes  `json:"input,omitempty"`
	To             *common.Address `json:"to,omitempty"`
	Value          *hexutil.Big    `json:"value,omitempty"`
}

type parityResult struct {
	Address *common.Address `json:"address,omitempty"`
	Code    *hexutil.Bytes  `json:"code,omitempty"`
	GasUsed *hexutil.Uint64 `json:"gasUsed,omitempty"`
	Output  *hexutil.Bytes  `json:"output,omitempty"`
}

// parityCalls is the tracer behind all that trace_ says of calls.
var parityCalls = &tracers.TraceConfig{Tracer: stringOf("flatCallTracer"), TracerConfig: json.RawMessage(`{"convertParityErrors":true}`)}

func stringOf(s string) *string { return &s }

// parseTraces decodes what flatCallTracer gives.
func parseTraces(raw json.RawMessage) (traces []*parityTrace, output hexutil.Bytes, err error) {
	if err := json.Unmarshal(raw, &traces); err != nil {
		return nil, nil, fmt.Errorf("flatCallTracer: %w", err)
	}
	for i, t := range traces {
		if i == 0 && t.Result != nil {
			switch {
			case t.Result.Output != nil:
				output = *t.Result.Output
			case t.Result.Code != nil:
				output = *t.Result.Code
			}
		}
		if t.Error != "" {
			t.Result = nil
		}
	}
	return traces, output, nil
}

// blockTracesOf returns the traces of a block, in the order of execution.
func (n *node) blockTracesOf(ctx context.Context, b *types.Block) ([]*parityTrace, error) {
	if b.NumberU64() == 0 || len(b.Transactions()) == 0 {
		return []*parityTrace{}, nil
	}
	raws, err := n.traceBlock(ctx, b, parityCalls)
	if err != nil {
		return nil, err
	}
	var all []*parityTrace
	for _, raw := range raws {
		traces, _, err := parseTraces(raw.Result)
		if err != nil {
			return nil, err
		}
		all = append(all, traces...)
	}
	return all, nil
}

// Block returns the traces of a block, null if it is unknown.
func (api *traceAPI) Block(ctx context.Context, ref plainRef) ([]*parityTrace, error) {
	h, err := api.header(ref.rpc())
	if err != nil {
		return nil, nil
	}
	return api.blockTracesOf(ctx, api.backend.BlockByHash(h.Hash()))
}

// Transaction returns the traces of a transaction, null if it is unknown.
func (api *traceAPI) Transaction(ctx context.Context, hash common.Hash) ([]*parityTrace, error) {
	_, blockHash, _, index, ok := api.backend.Transaction(hash)
	if !ok {
		return nil, nil
	}
	raw, err := api.traceAt(ctx, api.backend.BlockByHash(blockHash), int(index), parityCalls)
	if err != nil {
		return nil, err
	}
	traces, _, err := parseTraces(raw)
	return traces, err
}

// Get returns the trace of a transaction at a trace address, null if there is none. The empty address is the transaction itself.
func (api *traceAPI) Get(ctx context.Context, hash common.Hash, address []plainUint) (*parityTrace, error) {
	traces, err := api.Transaction(ctx, hash)
	if err != nil {
		return nil, err
	}
	for _, t := range traces {
		if slices.EqualFunc(t.TraceAddress, address, func(i int, j plainUint) bool { return uint64(i) == uint64(j) }) {
			return t, nil
		}
	}
	return nil, nil
}

// traceFilter is the argument of trace_filter.
type traceFilter struct {
	FromBlock   *plainNumber     `json:"fromBlock"` // default: the first
	ToBlock     *plainNumber     `json:"toBlock"`   // default: the head
	FromAddress []common.Address `json:"fromAddress"`
	ToAddress   []common.Address `json:"toAddress"`
	After       *plainUint       `json:"after"` // so many matches are left out
	Count       *plainUint       `json:"count"` // so many are wanted at most
	Mode        string           `json:"mode"`  // of both lists of addresses: "intersection" (default), "union"
}

// matches says whether a trace is asked for. The recipient of a creation is the contract, that of a self-destruction whoever gets what is left.
func (f *traceFilter) matches(t *parityTrace) bool {
	from, to := t.Action.From, t.Action.To
	switch {
	case t.Type == "suicide":
		from, to = t.Action.Address, t.Action.RefundAddress
	case t.Type == "create" && t.Result != nil:
		to = t.Result.Address
	}
	in := func(list []common.Address, a *common.Address) bool { return a != nil && slices.Contains(list, *a) }
	byFrom, byTo := in(f.FromAddress, from), in(f.ToAddress, to)
	switch {
	case len(f.FromAddress) == 0 && len(f.ToAddress) == 0:
		return true
	case f.Mode == "union":
		return byFrom || byTo
	}
	return (byFrom || len(f.FromAddress) == 0) && (byTo || len(f.ToAddress) == 0)
}

// lists are the accounts of which a block must hold one each to be looked at.
func (f *traceFilter) lists() [][]common.Address {
	if f.Mode == "union" {
		return [][]common.Address{slices.Concat(f.FromAddress, f.ToAddress)}
	}
	return [][]common.Address{f.FromAddress, f.ToAddress}
}

// bounds resolves the ends of the range.
func (f *traceFilter) bounds(n *node) (from, to uint64, err error) {
	head := n.backend.CurrentHeader().Number.Uint64()
	to = head
	if f.FromBlock != nil {
		from = n.number(f.FromBlock.rpc())
	}
	if f.ToBlock != nil {
		to = n.number(f.ToBlock.rpc())
	}
	switch {
	case from > to:
		return 0, 0, errInvalidBlockRange
	case to > head:
		return 0, 0, errRangeIntoFuture
	case f.Mode != "" && f.Mode != "union" && f.Mode != "intersection":
		return 0, 0, invalidParams(`mode %q: "intersection" or "union"`, f.Mode)
	case len(f.FromAddress) > n.opts.MaxLogCriteria || len(f.ToAddress) > n.opts.MaxLogCriteria:
		return 0, 0, errTooManyCriteria
	}
	return from, to, nil
}

// Filter returns the traces of a range of blocks that match. The blocks in which the accounts asked for took part are known and executed again; without
// accounts that is every block. The range is not limited, but the time and the matches are.
func (api *traceAPI) Filter(ctx context.Context, filter traceFilter) ([]*parityTrace, error) {
	from, to, err := filter.bounds(api.node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, api.opts.TraceTimeout, errTraceTimeout)
	defer cancel()
	skip, want := uint64(0), uint64(api.opts.MaxTraces)+1 // one more than allowed shows that there are too many
	if filter.After != nil {
		skip = uint64(*filter.After)
	}
	if filter.Count != nil {
		want = min(want, uint64(*filter.Count))
	}
	from = max(from, 1) // nothing was executed in block 0
	m := traceMatches{filter: &filter, skip: skip, want: want, maxBytes: api.opts.MaxTraceBytes, found: []*parityTrace{}}
	at, err := api.collect(ctx, &m, from, to)
	tooMuch := ""
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errTraceTimeout) && at > from:
		return nil, tryRange(fmt.Sprintf("query took longer than %v", api.opts.TraceTimeout), from, at-1)
	case err != nil:
		return nil, timedOut(ctx, err)
	case len(m.found) > api.opts.MaxTraces:
		tooMuch = fmt.Sprintf("query returned more than %d results", api.opts.MaxTraces)
	case m.size > m.maxBytes:
		tooMuch = fmt.Sprintf("query returned more than %d bytes", m.maxBytes)
	default:
		return m.found, nil
	}
	if at > from {
		return nil, tryRange(tooMuch, from, at-1)
	}
	return nil, limitExceeded("%s from one block; use after and count", tooMuch)
}

// traceMatches are what a filter has found.
type traceMatches struct {
	filter     *traceFilter
	skip, want uint64 // how many more are left out; how many are wanted in all
	maxBytes   int
	found      []*parityTrace
	size       int // of found, in bytes
}

// add takes what matches. It is false if that is enough, or too much.
func (m *traceMatches) add(traces []*parityTrace) (more bool) {
	for _, t := range traces {
		switch {
		case !m.filter.matches(t):
		case m.skip > 0:
			m.skip--
		default:
			m.found = append(m.found, t)
			m.size += t.size()
		}
		if uint64(len(m.found)) == m.want || m.size > m.maxBytes {
			return false
		}
	}
	return true
}

// size is about how long a trace is in JSON, in bytes.
func (t *parityTrace) size() int {
	bytes := func(b *hexutil.Bytes) int {
		if b == nil {
			return 0
		}
		return 2 * len(*b)
	}
	size := frameOverhead + bytes(t.Action.Init) + bytes(t.Action.Input)
	if t.Result != nil {
		size += bytes(t.Result.Code) + bytes(t.Result.Output)
	}
	return size
}

// collect goes through the blocks of a range. at is the block that it has come to: those before it have been looked at.
func (api *traceAPI) collect(ctx context.Context, m *traceMatches, from, to uint64) (at uint64, err error) {
	if m.want == 0 {
		return from, nil
	}
	for next := from; next <= to; {
		at = next
		var numbers []uint64
		if numbers, next, err = api.candidates(ctx, m.filter, next, to); err != nil {
			return at, err
		}
		for _, number := range numbers {
			at = number
			traces, err := api.blockTracesOf(ctx, api.backend.BlockByNumber(number))
			if err != nil || !m.add(traces) {
				return at, err
			}
		}
	}
	return to, nil
}

// maxCandidates is how many blocks are taken out of the index at a time: it is read while a place is held, which is given back before each of them waits for its own.
const maxCandidates = 64

// candidates returns the first blocks of a range that may hold traces which a filter asks for, and where to look for more.
func (n *node) candidates(ctx context.Context, filter *traceFilter, from, to uint64) (numbers []uint64, next uint64, err error) {
	ctx, release, err := n.acquireLong(ctx)
	if err != nil {
		return nil, from, err
	}
	defer release()
	next = to + 1
	err = n.backend.AccountBlocks(ctx, filter.lists(), from, to, func(number uint64) (bool, error) {
		numbers = append(numbers, number)
		if len(numbers) == maxCandidates {
			next = number + 1
			return false, nil
		}
		return true, nil
	})
	return numbers, next, err
}

// The parts that a replay can be asked for.
const (
	partTrace     = "trace"
	partStateDiff = "stateDiff"
	partVMTrace   = "vmTrace"
)

// parityReplay is what trace_replay… and trace_call give.
type parityReplay struct {
	Output          hexutil.Bytes                    `json:"output"`
	StateDiff       map[common.Address]*parityChange `json:"stateDiff"` // null if it was not asked for
	Trace           []*parityTrace                   `json:"trace"`     // empty if it was not asked for
	TransactionHash *common.Hash                     `json:"transactionHash,omitempty"`
	VMTrace         *struct{}                        `json:"vmTrace"` // null
}

// replayConfig is the tracer that finds the parts of a replay.
func replayConfig(parts []string) (*tracers.TraceConfig, error) {
	config := map[string]json.RawMessage{*parityCalls.Tracer: parityCalls.TracerConfig} // also for the output
	for _, part := range parts {
		switch part {
		case partTrace:
		case partStateDiff:
			config["prestateTracer"] = json.RawMessage(`{"diffMode":true}`)
		case partVMTrace:
			return nil, invalidParams("vmTrace is not supported; debug_traceTransaction and debug_traceCall give every step")
		default:
			return nil, invalidParams("unknown trace type %q: \"trace\" or \"stateDiff\"", part)
		}
	}
	encoded, err := json.Marshal(config)
	return &tracers.TraceConfig{Tracer: stringOf(muxTracer), TracerConfig: encoded}, err
}

// parseReplay decodes what replayConfig's tracer gives.
func parseReplay(raw json.RawMessage, parts []string) (*parityReplay, error) {
	var traced struct {
		Calls json.RawMessage `json:"flatCallTracer"`
		State *prestateDiff   `json:"prestateTracer"`
	}
	if err := json.Unmarshal(raw, &traced); err != nil {
		return nil, fmt.Errorf("muxTracer: %w", err)
	}
	traces, output, err := parseTraces(traced.Calls)
	if err != nil {
		return nil, err
	}
	result := &parityReplay{Output: output, Trace: []*parityTrace{}}
	if slices.Contains(parts, partTrace) {
		for _, t := range traces {
			t.BlockHash, t.BlockNumber, t.TransactionHash, t.TransactionPosition = nil, nil, nil, nil
		}
		result.Trace = traces
	}
	if traced.State != nil {
		result.StateDiff = traced.State.changes()
	}
	return result, nil
}

// ReplayTransaction executes an included transaction again, null if it is unknown.
func (api *traceAPI) ReplayTransaction(ctx context.Context, hash common.Hash, parts []string) (*parityReplay, error) {
	config, err := replayConfig(parts)
	if err != nil {
		return nil, err
	}
	_, blockHash, _, index, ok := api.backend.Transaction(hash)
	if !ok {
		return nil, nil
	}
	raw, err := api.traceAt(ctx, api.backend.BlockByHash(blockHash), int(index), config)
	if err != nil {
		return nil, err
	}
	return parseReplay(raw, parts)
}

// ReplayBlockTransactions executes the transactions of a block again, null if it is unknown.
func (api *traceAPI) ReplayBlockTransactions(ctx context.Context, ref plainRef, parts []string) ([]*parityReplay, error) {
	config, err := replayConfig(parts)
	if err != nil {
		return nil, err
	}
	h, err := api.header(ref.rpc())
	if err != nil {
		return nil, nil
	}
	replays := []*parityReplay{}
	b := api.backend.BlockByHash(h.Hash())
	if b.NumberU64() == 0 {
		return replays, nil
	}
	raws, err := api.traceBlock(ctx, b, config)
	if err != nil {
		return nil, err
	}
	for i := range raws {
		r, err := parseReplay(raws[i].Result, parts)
		if err != nil {
			return nil, err
		}
		r.TransactionHash = &raws[i].TxHash
		replays = append(replays, r)
	}
	return replays, nil
}

// Call executes a message on the state after a block.
func (api *traceAPI) Call(ctx context.Context, args callArgs, parts []string, ref *plainRef) (*parityReplay, error) {
	results, err := api.CallMany(ctx, []parityCall{{args, parts}}, ref)
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

// parityCall is a message and the parts that are asked for, in JSON an array of the two.
type parityCall struct {
	args  callArgs
	parts []string
}

// UnmarshalJSON takes [message, [part, …]].
func (c *parityCall) UnmarshalJSON(raw []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return errors.New("a call is [transaction object, [trace type, …]]")
	}
	return errors.Join(json.Unmarshal(pair[0], &c.args), json.Unmarshal(pair[1], &c.parts))
}

// CallMany executes messages on the state after a block, each on what the ones before have left.
func (api *traceAPI) CallMany(ctx context.Context, calls []parityCall, ref *plainRef) (results []*parityReplay, err error) {
	configs := make([]*traceCallConfig, len(calls))
	for i := range calls {
		config, err := replayConfig(calls[i].parts)
		if err != nil {
			return nil, err
		}
		if err := calls[i].args.check((*hexutil.Big)(api.backend.ChainConfig().ChainID)); err != nil {
			return nil, err
		}
		configs[i] = &traceCallConfig{TraceConfig: *config}
	}
	h, err := api.header(ref.rpc())
	if err != nil {
		return nil, err
	}
	return results, api.onState(ctx, h, func(ctx context.Context, st *state.StateDB) error {
		results = make([]*parityReplay, 0, len(calls))
		size := 0
		for i := range calls {
			raw, err := api.traceCallOn(ctx, st, h, &calls[i].args, configs[i])
			if err != nil {
				return err
			}
			if size += len(raw); size > api.opts.MaxTraceBytes {
				return limitExceeded("traces are larger than %d bytes; ask for fewer calls at once", api.opts.MaxTraceBytes)
			}
			result, err := parseReplay(raw, calls[i].parts)
			if err != nil {
				return err
			}
			results = append(results, result)
		}
		return nil
	})
}

// RawTransaction executes a signed transaction on the state after the head, without sending it and whatever its nonce.
func (api *traceAPI) RawTransaction(ctx context.Context, raw hexutil.Bytes, parts []string) (*parityReplay, error) {
	tx, err := vm.DecodeTransaction(raw)
	if err != nil {
		return nil, invalidParams("%v", err)
	}
	from, err := types.Sender(api.signer, tx)
	if err != nil {
		return nil, invalidParams("%v", err)
	}
	gas, list := hexutil.Uint64(tx.Gas()), tx.AccessList()
	input := hexutil.Bytes(tx.Data())
	args := callArgs{
		From: &from, To: tx.To(), Gas: &gas, Value: (*hexutil.Big)(tx.Value()), Input: &input, AccessList: &list, AuthorizationList: tx.SetCodeAuthorizations(),
	}
	if tx.Type() == types.LegacyTxType || tx.Type() == types.AccessListTxType {
		args.GasPrice = (*hexutil.Big)(tx.GasPrice())
	} else {
		args.MaxFeePerGas, args.MaxPriorityFeePerGas = (*hexutil.Big)(tx.GasFeeCap()), (*hexutil.Big)(tx.GasTipCap())
	}
	latest := plainRef(gethrpc.BlockNumberOrHashWithNumber(gethrpc.LatestBlockNumber))
	return api.Call(ctx, args, parts, &latest)
}
