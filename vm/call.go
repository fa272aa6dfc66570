package vm

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/eth/gasestimator"
	"github.com/holiman/uint256"
)

// Defaults of CallOptions, those of go-ethereum.
const (
	DefaultCallGasCap  = 50_000_000
	DefaultCallTimeout = 5 * time.Second
)

// ErrAborted is in the error of an execution whose time was up, or whose caller went away.
var ErrAborted = errors.New("execution aborted")

// estimateErrorRatio is how far above the least sufficient gas an estimate may be. Wallets add more than that, and
// the last steps of a binary search cost as much as the first.
const estimateErrorRatio = 0.015

// CallMsg is a message to simulate. The zero value calls nothing from the zero address.
type CallMsg struct {
	From common.Address
	To   *common.Address // nil creates a contract
	Gas  uint64          // limit; 0, or more than the cap, is the cap

	// Fees. Either GasPrice or the other two; nil is 0. With all 0 the base fee is not asked for, and BASEFEE shows 0.
	GasPrice, GasFeeCap, GasTipCap *uint256.Int

	Value          *uint256.Int // wei; nil is 0
	Data           []byte
	AccessList     types.AccessList
	Authorizations []types.SetCodeAuthorization // EIP-7702

	// Blob fields are accepted so that BLOBHASH can be simulated.
	BlobHashes []common.Hash
	BlobFeeCap *uint256.Int
}

// CallOptions bound a simulation and bend the state and block it runs on.
type CallOptions struct {
	GasCap  uint64          // 0: DefaultCallGasCap
	Timeout time.Duration   // 0: DefaultCallTimeout; negative: none but ctx's
	State   StateOverride   // applied first
	Block   *BlockOverrides // nil: the header's own
	Tracer  *tracing.Hooks  // of Call only, OnTxStart and OnTxEnd around it; nil traces nothing
}

func (o CallOptions) withDefaults() CallOptions {
	if o.GasCap == 0 {
		o.GasCap = DefaultCallGasCap
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultCallTimeout
	}
	return o
}

func (o CallOptions) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.Timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, o.Timeout)
}

// aborted is what a call ends with whose context ended first. The text is go-ethereum's, for which clients look.
func (o CallOptions) aborted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w (timeout = %v)", ErrAborted, o.Timeout)
	}
	return fmt.Errorf("%w: %w", ErrAborted, context.Cause(ctx))
}

// Call simulates msg on st, the state after header, in a block like header. Nonce, EIP-3607, EIP-7825's cap and the
// permissions are not checked; a message that sets a fee must be able to pay it. st is changed: give it one of its
// own, and check nothing else on it afterwards but what the call was to change.
//
// An execution that fails is a result (see [ResultError]). An error is returned for a message that cannot start, with
// go-ethereum's sentinel and text ("err: insufficient funds … (supplied gas …)"), when the time is up ("execution
// aborted (timeout = 5s)"), for overrides that make no sense, and for whatever the state database reported.
func (x *Executor) Call(ctx context.Context, st *state.StateDB, header *types.Header, msg CallMsg, opts CallOptions) (*core.ExecutionResult, error) {
	opts = opts.withDefaults()
	blockCtx := core.NewEVMBlockContext(header, x.chain, &header.Coinbase)
	if err := opts.Block.Apply(&blockCtx); err != nil {
		return nil, err
	}
	precompiles := gethvm.ActivePrecompiledContracts(x.config.Rules(blockCtx.BlockNumber, blockCtx.Random != nil, blockCtx.Time))
	if err := opts.State.Apply(st, precompiles); err != nil {
		return nil, err
	}
	message, err := msg.message(blockCtx.BaseFee, opts.GasCap)
	if err != nil {
		return nil, err
	}
	if message.GasPrice.IsZero() {
		blockCtx.BaseFee = new(big.Int) // BASEFEE must not be above GASPRICE
	}
	if message.BlobGasFeeCap != nil && message.BlobGasFeeCap.IsZero() {
		blockCtx.BlobBaseFee = new(big.Int)
	}
	var evmState gethvm.StateDB = st
	if opts.Tracer != nil {
		evmState = state.NewHookedState(st, opts.Tracer)
	}
	evm := gethvm.NewEVM(blockCtx, evmState, x.config, gethvm.Config{NoBaseFee: true, Tracer: opts.Tracer})
	defer evm.Release()
	evm.SetJumpDestCache(x.jumpDests)
	evm.SetPrecompiles(precompiles)

	ctx, cancel := opts.context(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, evm.Cancel)
	defer stop()

	result, err := applyCall(evm, st, message)
	// A state that could not be read looks like an empty one, so its error goes first.
	if dbErr := st.Error(); dbErr != nil {
		return nil, dbErr
	}
	if evm.Cancelled() {
		return nil, opts.aborted(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("err: %w (supplied gas %d)", err, message.GasLimit)
	}
	return result, nil
}

// EstimateGas returns a gas limit with which msg succeeds on st, at most 1.5 % above the least one. msg.Gas bounds it,
// as do the sender's funds if msg sets a fee, the block's gas limit and EIP-7825's cap. Message and options are those
// of Call, but that precompiles cannot be moved and nothing is traced; st is changed by opts.State alone.
//
// A sender that Execute would skip for its permissions is told so (unless it is the zero address, the default of
// clients that do not say who asks): an estimate is the last thing a wallet does before it sends. A factory that
// creates contracts is not noticed here.
//
// A reverted execution gives a *RevertError.
func (x *Executor) EstimateGas(ctx context.Context, st *state.StateDB, header *types.Header, msg CallMsg, opts CallOptions) (uint64, error) {
	opts = opts.withDefaults()
	if err := opts.Block.check(); err != nil {
		return 0, err
	}
	if err := opts.State.Apply(st, nil); err != nil {
		return 0, err
	}
	if msg.From != (common.Address{}) {
		if err := Permitted(st, msg.From, msg.To == nil); err != nil {
			return 0, err
		}
	}
	header = opts.Block.Header(header)
	message, err := msg.message(header.BaseFee, opts.GasCap)
	if err != nil {
		return 0, err
	}
	// The estimator knows its own upper bound; a limit is one only if the caller set it.
	message.GasLimit = min(msg.Gas, opts.GasCap)

	ctx, cancel := opts.context(ctx)
	defer cancel()
	gas, revert, err := gasestimator.Estimate(ctx, message, &gasestimator.Options{
		Config:      x.config,
		Chain:       x.chain,
		Header:      header,
		State:       st,
		BlobBaseFee: opts.Block.blobBaseFee(),
		ErrorRatio:  estimateErrorRatio,
	}, opts.GasCap)
	switch {
	case st.Error() != nil:
		return 0, st.Error()
	case ctx.Err() != nil:
		// An execution that was cancelled looks like one that ended: the estimate is worth nothing.
		return 0, opts.aborted(ctx)
	case errors.Is(err, gethvm.ErrExecutionReverted):
		return 0, NewRevertError(revert)
	case err != nil:
		return 0, err
	}
	return gas, nil
}

// message returns the message that go-ethereum applies.
func (m *CallMsg) message(baseFee *big.Int, gasCap uint64) (*core.Message, error) {
	price, feeCap, tipCap, err := m.fees(baseFee)
	if err != nil {
		return nil, err
	}
	if m.To == nil && m.BlobHashes != nil {
		return nil, core.ErrBlobTxCreate
	}
	if m.To == nil && m.Authorizations != nil {
		return nil, core.ErrSetCodeTxCreate
	}
	gas := m.Gas
	if gas == 0 || gas > gasCap {
		gas = gasCap
	}
	msg := &core.Message{
		From:                  m.From,
		To:                    m.To,
		Value:                 orZero(m.Value),
		GasLimit:              gas,
		GasPrice:              price,
		GasFeeCap:             feeCap,
		GasTipCap:             tipCap,
		Data:                  m.Data,
		AccessList:            m.AccessList,
		SetCodeAuthorizations: m.Authorizations,
		BlobHashes:            m.BlobHashes,
	}
	if m.BlobHashes != nil {
		msg.BlobGasFeeCap = orZero(m.BlobFeeCap)
	}
	return msg.SkipNonceCheck().SkipEOACheck().SkipGasLimitCapCheck(), nil
}

// fees returns the effective gas price and the two caps (EIP-1559; a legacy price is both caps).
func (m *CallMsg) fees(baseFee *big.Int) (price, feeCap, tipCap *uint256.Int, err error) {
	if m.GasPrice != nil {
		if m.GasFeeCap != nil || m.GasTipCap != nil {
			return nil, nil, nil, errors.New("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
		}
		return m.GasPrice, m.GasPrice, m.GasPrice, nil
	}
	feeCap, tipCap, price = orZero(m.GasFeeCap), orZero(m.GasTipCap), new(uint256.Int)
	if feeCap.IsZero() && tipCap.IsZero() {
		return price, feeCap, tipCap, nil
	}
	base := new(uint256.Int) // none before London
	if baseFee != nil && base.SetFromBig(baseFee) {
		return nil, nil, nil, errors.New("base fee exceeds 256 bits")
	}
	if _, overflow := price.AddOverflow(tipCap, base); overflow || price.Gt(feeCap) {
		price.Set(feeCap)
	}
	return price, feeCap, tipCap, nil
}

func orZero(v *uint256.Int) *uint256.Int {
	if v == nil {
		return new(uint256.Int)
	}
	return v
}

// ResultError returns nil for an execution that succeeded, a *RevertError for one that reverted, and else the EVM's
// error (out of gas, invalid opcode, ...).
func ResultError(result *core.ExecutionResult) error {
	if errors.Is(result.Err, gethvm.ErrExecutionReverted) {
		return NewRevertError(result.Revert())
	}
	return result.Err
}

// RevertError is an execution that ended in REVERT, in the form that JSON-RPC clients know: code 3, the return data
// as hex, and a text with the reason if the data is Solidity's Error(string) or Panic(uint256).
type RevertError struct {
	data   []byte
	reason string // empty: none, or one that only the contract's ABI can read
}

// NewRevertError returns the error for a revert that returned data. It keeps data.
func NewRevertError(data []byte) *RevertError {
	reason, err := abi.UnpackRevert(data)
	if err != nil {
		return &RevertError{data: data}
	}
	return &RevertError{data: data, reason: reason}
}

// Error returns "execution reverted" or "execution reverted: reason".
func (e *RevertError) Error() string {
	if e.reason == "" {
		return gethvm.ErrExecutionReverted.Error()
	}
	return gethvm.ErrExecutionReverted.Error() + ": " + e.reason
}

// Unwrap lets errors.Is find core/vm's ErrExecutionReverted.
func (e *RevertError) Unwrap() error { return gethvm.ErrExecutionReverted }

// ErrorCode is the JSON-RPC error code (go-ethereum/rpc.Error).
func (e *RevertError) ErrorCode() int { return 3 }

// ErrorData is the JSON-RPC error data: what the contract returned, as 0x-prefixed hex (go-ethereum/rpc.DataError).
func (e *RevertError) ErrorData() any { return hexutil.Encode(e.data) }
