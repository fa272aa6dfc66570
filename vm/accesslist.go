package vm

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/eth/tracers/logger"
	"github.com/holiman/uint256"
)

// AccessList is what AccessList returns: the list, the gas of the message with it, and why the message failed, if it did.
type AccessList struct {
	List    types.AccessList
	GasUsed uint64
	Err     error // see ResultError
}

// AccessList returns the addresses and slots that msg touches on st, the state after header (EIP-2930), beyond those that are warm anyway:
// sender, recipient, precompiles, authorities of EIP-7702. A list can change what a message does, so it is executed with the list
// until that no longer changes. nonce is the sender's, for the address of a contract that the message creates; nil: the account's. Message
// and options are those of Call, but that blocks are not overridden, precompiles cannot be moved, and nothing is traced; st is changed by
// opts.State alone.
func (x *Executor) AccessList(ctx context.Context, st *state.StateDB, header *types.Header, msg CallMsg, nonce *uint64, opts CallOptions) (*AccessList, error) {
	opts = opts.withDefaults()
	if err := opts.State.Apply(st, nil); err != nil {
		return nil, err
	}
	if nonce == nil {
		n := st.GetNonce(msg.From)
		nonce = &n
	}
	if header.BaseFee == nil && msg.GasPrice == nil && msg.GasFeeCap == nil && msg.GasTipCap == nil {
		msg.GasPrice = new(uint256.Int) // before London there is no other transaction
	}
	warm := x.warm(header, &msg, *nonce)
	ctx, cancel := opts.context(ctx)
	defer cancel()
	before := logger.NewAccessListTracer(msg.AccessList, warm)
	for {
		msg.AccessList = before.AccessList()
		after := logger.NewAccessListTracer(msg.AccessList, warm)
		result, err := x.callTraced(ctx, st.Copy(), header, &msg, *nonce, opts, after)
		if err != nil {
			return nil, err
		}
		if after.Equal(before) {
			return &AccessList{List: msg.AccessList, GasUsed: result.UsedGas, Err: result.Err}, nil
		}
		before = after
	}
}

// warm are the addresses that need not be in a list.
func (x *Executor) warm(header *types.Header, msg *CallMsg, nonce uint64) map[common.Address]struct{} {
	to := crypto.CreateAddress(msg.From, nonce)
	if msg.To != nil {
		to = *msg.To
	}
	warm := map[common.Address]struct{}{msg.From: {}, to: {}}
	for _, p := range gethvm.ActivePrecompiles(x.config.Rules(header.Number, header.Difficulty.Sign() == 0, header.Time)) {
		warm[p] = struct{}{}
	}
	for _, a := range msg.Authorizations {
		if (!a.ChainID.IsZero() && a.ChainID.CmpBig(x.config.ChainID) != 0) || a.Nonce+1 < a.Nonce {
			continue // without effect
		}
		if authority, err := a.Authority(); err == nil {
			warm[authority] = struct{}{}
		}
	}
	return warm
}

// callTraced executes msg once.
func (x *Executor) callTraced(ctx context.Context, st *state.StateDB, header *types.Header, msg *CallMsg, nonce uint64, opts CallOptions, tracer *logger.AccessListTracer) (*core.ExecutionResult, error) {
	message, err := msg.message(header.BaseFee, opts.GasCap)
	if err != nil {
		return nil, err
	}
	message.Nonce = nonce
	blockCtx := core.NewEVMBlockContext(header, x.chain, &header.Coinbase)
	if message.GasPrice.IsZero() {
		blockCtx.BaseFee = new(big.Int) // BASEFEE must not be above GASPRICE
	}
	if message.BlobGasFeeCap != nil && message.BlobGasFeeCap.IsZero() {
		blockCtx.BlobBaseFee = new(big.Int)
	}
	hooks := tracer.Hooks()
	evm := gethvm.NewEVM(blockCtx, state.NewHookedState(st, hooks), x.config, gethvm.Config{NoBaseFee: true, Tracer: hooks})
	defer evm.Release()
	evm.SetJumpDestCache(x.jumpDests)
	stop := context.AfterFunc(ctx, evm.Cancel)
	defer stop()
	result, err := core.ApplyMessage(evm, message, nil)
	switch {
	case st.Error() != nil:
		return nil, st.Error()
	case evm.Cancelled() || ctx.Err() != nil:
		return nil, opts.aborted(ctx)
	case err != nil:
		hash := msg.Transaction(x.config.ChainID, nonce, message.GasLimit).Hash()
		return nil, fmt.Errorf("failed to apply transaction: %v err: %w", hash, err)
	}
	return result, nil
}
