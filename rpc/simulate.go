package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/vm"
)

// simulation is the argument of eth_simulateV1.
type simulation struct {
	BlockStateCalls        []simulationBlock `json:"blockStateCalls"`
	TraceTransfers         bool              `json:"traceTransfers"`
	Validation             bool              `json:"validation"`
	ReturnFullTransactions bool              `json:"returnFullTransactions"`
}

// simulationBlock is a block to be simulated.
type simulationBlock struct {
	BlockOverrides *vm.BlockOverrides `json:"blockOverrides"`
	StateOverrides vm.StateOverride   `json:"stateOverrides"`
	Calls          []callArgs         `json:"calls"`
}

// UnmarshalJSON refuses unknown keys of overrides: a misspelt override would silently simulate something else.
func (b *simulationBlock) UnmarshalJSON(input []byte) error {
	var raw struct {
		BlockOverrides json.RawMessage                    `json:"blockOverrides"`
		StateOverrides map[common.Address]json.RawMessage `json:"stateOverrides"`
	}
	if err := json.Unmarshal(input, &raw); err != nil {
		return err
	}
	if err := knownKeys(raw.BlockOverrides, reflect.TypeFor[vm.BlockOverrides](), "block override"); err != nil {
		return err
	}
	for _, address := range slices.SortedFunc(maps.Keys(raw.StateOverrides), common.Address.Cmp) {
		if err := knownKeys(raw.StateOverrides[address], reflect.TypeFor[vm.AccountOverride](), "state override for "+address.Hex()); err != nil {
			return err
		}
	}
	type plain simulationBlock
	return json.Unmarshal(input, (*plain)(b))
}

// knownKeys reports a key of an object that is no field of t, or that names the same field as another one does. What is no object is left to
// the decoder.
func knownKeys(object json.RawMessage, t reflect.Type, what string) error {
	var keys map[string]json.RawMessage
	if json.Unmarshal(object, &keys) != nil {
		return nil
	}
	seen := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		field, ok := t.FieldByNameFunc(func(name string) bool {
			f, _ := t.FieldByName(name)
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return strings.EqualFold(key, tag)
		})
		if !ok {
			return fmt.Errorf("unknown field %q in %s", key, what)
		}
		if other, ok := seen[field.Name]; ok {
			return fmt.Errorf("keys %q and %q in %s name the same field", other, key, what)
		}
		seen[field.Name] = key
	}
	return nil
}

// simulatedBlock is the JSON form of a simulated block: that of a block, and what its calls did.
type simulatedBlock struct {
	*block
	Calls []simulatedCall `json:"calls"`
}

// simulatedCall is the JSON form of what a call did.
type simulatedCall struct {
	ReturnData hexutil.Bytes   `json:"returnData"`
	Logs       []*types.Log    `json:"logs"`
	GasUsed    hexutil.Uint64  `json:"gasUsed"`
	MaxUsedGas hexutil.Uint64  `json:"maxUsedGas"` // before refunds
	Status     hexutil.Uint64  `json:"status"`
	Error      *simulatedError `json:"error,omitempty"`
}

// simulatedError is why a call failed.
type simulatedError struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
	Data    string `json:"data,omitempty"` // what a REVERT returned
}

// SimulateV1 makes blocks of calls on the state after a block (the head, if none is given), with overrides of state and block before each,
// and returns the blocks with what their calls did. Nothing of it is kept.
func (api *callAPI) SimulateV1(ctx context.Context, sim simulation, ref *gethrpc.BlockNumberOrHash) (blocks []simulatedBlock, err error) {
	h, err := api.header(ref)
	if err != nil {
		return nil, err
	}
	ctx, release, err := api.acquireFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	err = api.backend.WithState(ctx, h, func(st *state.StateDB) error {
		in, err := api.simulateBlocks(sim.BlockStateCalls)
		if err != nil {
			return err
		}
		out, err := api.backend.Executor().Simulate(ctx, st, h, in, vm.SimulateOptions{
			GasCap: api.opts.CallGas, Timeout: api.opts.CallTimeout,
			Validate: sim.Validation, TraceTransfers: sim.TraceTransfers, BaseFee: api.backend.BaseFeeAfter,
		})
		if err != nil {
			return simulationError(err)
		}
		blocks = make([]simulatedBlock, len(out))
		for i := range out {
			blocks[i] = newSimulatedBlock(&out[i], sim.ReturnFullTransactions, api.signer)
		}
		return nil
	})
	return blocks, err
}

// simulateBlocks gives the arguments the form of package vm.
func (n *node) simulateBlocks(blocks []simulationBlock) ([]vm.SimulateBlock, error) {
	chainID := (*hexutil.Big)(n.backend.ChainConfig().ChainID)
	in := make([]vm.SimulateBlock, len(blocks))
	for i, b := range blocks {
		in[i] = vm.SimulateBlock{Block: b.BlockOverrides, State: b.StateOverrides, Calls: make([]vm.SimulateCall, len(b.Calls))}
		for j := range b.Calls {
			args := &b.Calls[j]
			if err := args.check(chainID); err != nil {
				return nil, err
			}
			in[i].Calls[j] = vm.SimulateCall{CallMsg: args.message(), Nonce: (*uint64)(args.Nonce), GasLimit: (*uint64)(args.Gas)}
		}
	}
	return in, nil
}

func newSimulatedBlock(b *vm.SimulatedBlock, full bool, signer types.Signer) simulatedBlock {
	j := simulatedBlock{block: newBlock(b.Block, full, signer, nil), Calls: make([]simulatedCall, len(b.Calls))}
	if objects, ok := j.Transactions.([]*transaction); ok {
		for i, tx := range objects {
			tx.From = b.Senders[i] // nobody has signed
		}
	}
	for i, c := range b.Calls {
		j.Calls[i] = simulatedCall{
			ReturnData: c.ReturnData, Logs: notNil(c.Logs), GasUsed: hexutil.Uint64(c.GasUsed), MaxUsedGas: hexutil.Uint64(c.MaxUsedGas),
			Status: hexutil.Uint64(types.ReceiptStatusSuccessful), Error: newSimulatedError(c.Err),
		}
		if c.Err != nil {
			j.Calls[i].Status = hexutil.Uint64(types.ReceiptStatusFailed)
		}
	}
	return j
}

func newSimulatedError(err error) *simulatedError {
	var revert *vm.RevertError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revert):
		data, _ := revert.ErrorData().(string)
		return &simulatedError{Message: err.Error(), Code: revert.ErrorCode(), Data: data}
	default:
		return &simulatedError{Message: err.Error(), Code: codeExecutionFailed}
	}
}

// simulationError gives what ends a simulation its code.
func simulationError(err error) error {
	for _, known := range []struct {
		err  error
		code int
	}{
		{vm.ErrSimulationEmpty, codeInvalidParams},
		{vm.ErrSimulatedDifficulty, codeInvalidParams},
		{vm.ErrSimulationTooLarge, codeSimulationLimit},
		{vm.ErrSimulatedNumberOrder, codeNumberOrder},
		{vm.ErrSimulatedTimeOrder, codeTimeOrder},
		{vm.ErrSimulatedGasLimit, codeBlockGasLimit},
		{vm.ErrAborted, codeExecutionTimeout},
		{core.ErrNonceTooHigh, codeNonceTooHigh},
		{core.ErrNonceTooLow, codeNonceTooLow},
		{core.ErrSenderNoEOA, codeSenderNotEOA},
		{core.ErrFeeCapVeryHigh, codeInvalidParams},
		{core.ErrTipVeryHigh, codeInvalidParams},
		{core.ErrTipAboveFeeCap, codeInvalidParams},
		{core.ErrFeeCapTooLow, codeFeeCapTooLow},
		{core.ErrInsufficientFunds, codeInsufficientFunds},
		{core.ErrInsufficientFundsForTransfer, codeInsufficientFunds},
		{core.ErrIntrinsicGas, codeIntrinsicGas},
		{gethvm.ErrMaxInitCodeSizeExceeded, codeInitCodeTooLarge},
		{vm.ErrSendNotPermitted, codeTransactionRejected},
		{vm.ErrDeployNotPermitted, codeTransactionRejected},
	} {
		if errors.Is(err, known.err) {
			return &codedError{code: known.code, message: err.Error()}
		}
	}
	var invalid *vm.InvalidCallError
	if errors.As(err, &invalid) {
		return &codedError{code: codeInternal, message: err.Error()}
	}
	return err
}
