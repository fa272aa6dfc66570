package vm

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
)

// StateOverride is the third argument of eth_call and eth_estimateGas (execution-apis: StateOverride): accounts as
// they are to be for this one execution.
type StateOverride map[common.Address]AccountOverride

// AccountOverride replaces what is not nil.
type AccountOverride struct {
	Nonce     *hexutil.Uint64             `json:"nonce,omitempty"`
	Code      *hexutil.Bytes              `json:"code,omitempty"`
	Balance   *hexutil.Big                `json:"balance,omitempty"`
	State     map[common.Hash]common.Hash `json:"state,omitempty"`     // the whole storage
	StateDiff map[common.Hash]common.Hash `json:"stateDiff,omitempty"` // these slots only; excludes State

	// MovePrecompileTo makes the precompile at this address answer at another one, so that its own can hold code.
	MovePrecompileTo *common.Address `json:"movePrecompileToAddress,omitempty"`
}

// Apply writes o into st as a transaction before the call would have, so that SSTORE's prices see it as the original
// value, and moves the precompiles in the given set. With a nil set, nothing can be moved and precompiles stay.
func (o StateOverride) Apply(st *state.StateDB, precompiles gethvm.PrecompiledContracts) error {
	moved := make(map[common.Address]bool)
	for _, address := range slices.SortedFunc(maps.Keys(o), common.Address.Cmp) {
		account := o[address]
		if moved[address] {
			return fmt.Errorf("account %s has already been overridden by a precompile", address)
		}
		if to := account.MovePrecompileTo; to != nil {
			if precompiles == nil {
				return errors.New("movePrecompileToAddress is not supported for this RPC method")
			}
			contract, ok := precompiles[address]
			if !ok {
				return fmt.Errorf("account %s is not a precompile", address)
			}
			if _, ok := o[*to]; ok {
				return fmt.Errorf("account %s is already overridden", *to)
			}
			precompiles[*to] = contract
			moved[*to] = true
		}
		// Whoever overrides a precompile's account wants the account.
		delete(precompiles, address)
		if err := account.apply(st, address); err != nil {
			return err
		}
	}
	// No rules: an account overridden to be empty stays.
	st.Finalise(params.Rules{})
	return nil
}

func (a AccountOverride) apply(st *state.StateDB, address common.Address) error {
	if a.State != nil && a.StateDiff != nil {
		return fmt.Errorf("account %s has both 'state' and 'stateDiff'", address)
	}
	if a.Nonce != nil {
		st.SetNonce(address, uint64(*a.Nonce), tracing.NonceChangeUnspecified)
	}
	if a.Code != nil {
		st.SetCode(address, *a.Code, tracing.CodeChangeUnspecified)
	}
	if a.Balance != nil {
		balance, overflow := uint256.FromBig(a.Balance.ToInt())
		if overflow {
			return fmt.Errorf("account %s: balance exceeds 256 bits", address)
		}
		st.SetBalance(address, balance, tracing.BalanceChangeUnspecified)
	}
	if a.State != nil {
		st.SetStorage(address, a.State)
	}
	for slot, value := range a.StateDiff {
		st.SetState(address, slot, value)
	}
	return nil
}

// BlockOverrides is the fourth argument of eth_call and eth_estimateGas (execution-apis: BlockOverrides): fields of the
// block in which the execution is to happen. What is nil is the header's.
type BlockOverrides struct {
	Number        *hexutil.Big       `json:"number,omitempty"`
	Difficulty    *hexutil.Big       `json:"difficulty,omitempty"` // without effect since the merge
	Time          *hexutil.Uint64    `json:"time,omitempty"`
	GasLimit      *hexutil.Uint64    `json:"gasLimit,omitempty"`
	FeeRecipient  *common.Address    `json:"feeRecipient,omitempty"`
	PrevRandao    *common.Hash       `json:"prevRandao,omitempty"`
	BaseFeePerGas *hexutil.Big       `json:"baseFeePerGas,omitempty"`
	BlobBaseFee   *hexutil.Big       `json:"blobBaseFee,omitempty"`
	BeaconRoot    *common.Hash       `json:"beaconRoot,omitempty"`  // eth_simulateV1 only
	Withdrawals   *types.Withdrawals `json:"withdrawals,omitempty"` // eth_simulateV1 only
}

// check refuses fields that act when a block is made, not when a message runs in one.
func (o *BlockOverrides) check() error {
	switch {
	case o == nil:
		return nil
	case o.BeaconRoot != nil:
		return errors.New(`block override "beaconRoot" is not supported for this RPC method`)
	case o.Withdrawals != nil:
		return errors.New(`block override "withdrawals" is not supported for this RPC method`)
	}
	return nil
}

// Apply writes o into a block context. A nil o writes nothing.
func (o *BlockOverrides) Apply(ctx *gethvm.BlockContext) error {
	if o == nil {
		return nil
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.Number != nil {
		ctx.BlockNumber = o.Number.ToInt()
	}
	if o.Time != nil {
		ctx.Time = uint64(*o.Time)
	}
	if o.GasLimit != nil {
		ctx.GasLimit = uint64(*o.GasLimit)
	}
	if o.FeeRecipient != nil {
		ctx.Coinbase = *o.FeeRecipient
	}
	if o.PrevRandao != nil {
		ctx.Random = o.PrevRandao
	}
	if o.BaseFeePerGas != nil {
		ctx.BaseFee = o.BaseFeePerGas.ToInt()
	}
	if o.BlobBaseFee != nil {
		ctx.BlobBaseFee = o.BlobBaseFee.ToInt()
	}
	return nil
}

// Header returns h with o written into it, h itself if o is nil. The blob base fee is not a field of a header.
func (o *BlockOverrides) Header(h *types.Header) *types.Header {
	if o == nil {
		return h
	}
	h = types.CopyHeader(h)
	if o.Number != nil {
		h.Number = o.Number.ToInt()
	}
	if o.Time != nil {
		h.Time = uint64(*o.Time)
	}
	if o.GasLimit != nil {
		h.GasLimit = uint64(*o.GasLimit)
	}
	if o.FeeRecipient != nil {
		h.Coinbase = *o.FeeRecipient
	}
	if o.PrevRandao != nil {
		h.MixDigest = *o.PrevRandao
	}
	if o.BaseFeePerGas != nil {
		h.BaseFee = o.BaseFeePerGas.ToInt()
	}
	return h
}

func (o *BlockOverrides) blobBaseFee() *big.Int {
	if o == nil || o.BlobBaseFee == nil {
		return nil
	}
	return o.BlobBaseFee.ToInt()
}
