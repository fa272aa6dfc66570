package rpc

import (
	"context"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"ledgerd/vm"
)

// callAPI is the eth_ methods that execute without a transaction.
type callAPI struct{ *node }

// callArgs is a transaction object as clients send it: of eth_call and eth_estimateGas, and of the methods that make a
// transaction of it (accounts.go).
type callArgs struct {
	From                 *common.Address              `json:"from"`
	To                   *common.Address              `json:"to"`
	Gas                  *hexutil.Uint64              `json:"gas"`
	GasPrice             *hexutil.Big                 `json:"gasPrice"`
	MaxFeePerGas         *hexutil.Big                 `json:"maxFeePerGas"`
	MaxPriorityFeePerGas *hexutil.Big                 `json:"maxPriorityFeePerGas"`
	MaxFeePerBlobGas     *hexutil.Big                 `json:"maxFeePerBlobGas"`
	Value                *hexutil.Big                 `json:"value"`
	Nonce                *hexutil.Uint64              `json:"nonce"`
	Data                 *hexutil.Bytes               `json:"data"` // the old name of input
	Input                *hexutil.Bytes               `json:"input"`
	AccessList           *types.AccessList            `json:"accessList"`
	ChainID              *hexutil.Big                 `json:"chainId"`
	BlobVersionedHashes  []common.Hash                `json:"blobVersionedHashes"`
	AuthorizationList    []types.SetCodeAuthorization `json:"authorizationList"`
}

func (a *callArgs) from() common.Address {
	if a.From == nil {
		return common.Address{}
	}
	return *a.From
}

func (a *callArgs) input() []byte {
	switch {
	case a.Input != nil:
		return *a.Input
	case a.Data != nil:
		return *a.Data
	}
	return nil
}

// check finds what can never be right, on the chain with the given id.
func (a *callArgs) check(chainID *hexutil.Big) error {
	if a.GasPrice != nil && (a.MaxFeePerGas != nil || a.MaxPriorityFeePerGas != nil) {
		return invalidParams("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
	}
	if a.ChainID != nil && a.ChainID.ToInt().Cmp(chainID.ToInt()) != 0 {
		return invalidParams("chainId does not match node's (have=%v, want=%v)", a.ChainID.ToInt(), chainID.ToInt())
	}
	if a.MaxFeePerBlobGas != nil && len(a.BlobVersionedHashes) == 0 {
		return invalidParams("maxFeePerBlobGas specified without blobVersionedHashes")
	}
	return nil
}

// message wants checked arguments.
func (a *callArgs) message() vm.CallMsg {
	m := vm.CallMsg{
		From:           a.from(),
		To:             a.To,
		GasPrice:       uint256Of(a.GasPrice),
		GasFeeCap:      uint256Of(a.MaxFeePerGas),
		GasTipCap:      uint256Of(a.MaxPriorityFeePerGas),
		Value:          uint256Of(a.Value),
		Data:           a.input(),
		Authorizations: a.AuthorizationList,
		BlobHashes:     a.BlobVersionedHashes,
		BlobFeeCap:     uint256Of(a.MaxFeePerBlobGas),
	}
	if a.Gas != nil {
		m.Gas = uint64(*a.Gas)
	}
	if a.AccessList != nil {
		m.AccessList = *a.AccessList
	}
	return m
}

// uint256Of wants a number that was decoded from JSON: hexutil.Big takes neither negative ones nor more than 256 bits.
func uint256Of(v *hexutil.Big) *uint256.Int {
	if v == nil {
		return nil
	}
	return uint256.MustFromBig(v.ToInt())
}

func (n *node) callOptions(overrides *vm.StateOverride, blockOverrides *vm.BlockOverrides) vm.CallOptions {
	o := vm.CallOptions{GasCap: n.opts.CallGas, Timeout: n.opts.CallTimeout, Block: blockOverrides}
	if overrides != nil {
		o.State = *overrides
	}
	return o
}

// Call executes a message on the state after a block (the head, if none is given) and returns what it returned.
func (api *callAPI) Call(ctx context.Context, args callArgs, ref *gethrpc.BlockNumberOrHash, overrides *vm.StateOverride, blockOverrides *vm.BlockOverrides) (result hexutil.Bytes, err error) {
	err = api.execute(ctx, &args, ref, func(ctx context.Context, st *state.StateDB, h *types.Header) error {
		r, err := api.backend.Executor().Call(ctx, st, h, args.message(), api.callOptions(overrides, blockOverrides))
		if err != nil {
			return err
		}
		result = r.Return()
		return vm.ResultError(r)
	})
	return result, err
}

// EstimateGas returns a gas limit with which a message succeeds.
func (api *callAPI) EstimateGas(ctx context.Context, args callArgs, ref *gethrpc.BlockNumberOrHash, overrides *vm.StateOverride, blockOverrides *vm.BlockOverrides) (hexutil.Uint64, error) {
	gas, err := api.estimate(ctx, &args, ref, overrides, blockOverrides)
	return hexutil.Uint64(gas), err
}

// accessListResult is the answer of eth_createAccessList.
type accessListResult struct {
	AccessList types.AccessList `json:"accessList"`
	Error      string           `json:"error,omitempty"` // why the message fails, with the list too
	GasUsed    hexutil.Uint64   `json:"gasUsed"`
}

// CreateAccessList returns the access list (EIP-2930) with which a message finds everything warm that it touches.
func (api *callAPI) CreateAccessList(ctx context.Context, args callArgs, ref *gethrpc.BlockNumberOrHash, overrides *vm.StateOverride) (result *accessListResult, err error) {
	if args.GasPrice == nil && (args.MaxFeePerGas != nil || args.MaxPriorityFeePerGas != nil) {
		if err := api.fillFees(&args); err != nil {
			return nil, err
		}
	}
	err = api.execute(ctx, &args, ref, func(ctx context.Context, st *state.StateDB, h *types.Header) error {
		found, err := api.backend.Executor().AccessList(ctx, st, h, args.message(), (*uint64)(args.Nonce), api.callOptions(overrides, nil))
		if err != nil {
			return err
		}
		result = &accessListResult{AccessList: wholeAccessList(found.List), GasUsed: hexutil.Uint64(found.GasUsed)}
		if found.Err != nil {
			result.Error = found.Err.Error()
		}
		return nil
	})
	return result, err
}

func (n *node) estimate(ctx context.Context, args *callArgs, ref *gethrpc.BlockNumberOrHash, overrides *vm.StateOverride, blockOverrides *vm.BlockOverrides) (gas uint64, err error) {
	err = n.execute(ctx, args, ref, func(ctx context.Context, st *state.StateDB, h *types.Header) (err error) {
		blockOverrides := n.nextBaseFee(h, blockOverrides)
		gas, err = n.backend.Executor().EstimateGas(ctx, st, h, args.message(), n.callOptions(overrides, blockOverrides))
		return err
	})
	return gas, err
}

// nextBaseFee adds to overrides the base fee of the next block if h is the head and has another one. Who asks for an estimate is about to send, at
// the price that eth_gasPrice names; after a reconfiguration has lowered the base fee the head would refuse that price.
func (n *node) nextBaseFee(h *types.Header, overrides *vm.BlockOverrides) *vm.BlockOverrides {
	next := n.backend.BaseFee()
	if h.Number.Cmp(n.backend.CurrentHeader().Number) != 0 || next.Cmp(baseFee(h)) == 0 || (overrides != nil && overrides.BaseFeePerGas != nil) {
		return overrides
	}
	var with vm.BlockOverrides
	if overrides != nil {
		with = *overrides
	}
	with.BaseFeePerGas = (*hexutil.Big)(next)
	return &with
}

// execute runs f on the state after a block, as one of the heavy requests. The context that f gets ends with the connection.
func (n *node) execute(ctx context.Context, args *callArgs, ref *gethrpc.BlockNumberOrHash, f func(context.Context, *state.StateDB, *types.Header) error) error {
	if err := args.check((*hexutil.Big)(n.backend.ChainConfig().ChainID)); err != nil {
		return err
	}
	h, err := n.header(ref)
	if err != nil {
		return err
	}
	ctx, release, err := n.acquireFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	return n.backend.WithState(ctx, h, func(st *state.StateDB) error { return f(ctx, st, h) })
}
