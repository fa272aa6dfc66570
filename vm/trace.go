package vm

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/holiman/uint256"
)

// ErrNotTraceable is returned by Rerun for a block that cannot be executed: the genesis block, one whose parent is unknown, or one whose header
// lacks what its rules ask for.
var ErrNotTraceable = errors.New("block cannot be executed again")

// A Rerun executes the transactions of a finished block again, one after the other, so that each of them can be watched. Blocks replay under the
// plain EVM rules (invariant 3), so neither permissions nor skipped transactions play a part, and the receipts are those that the block had.
// It is used by one goroutine.
type Rerun struct {
	x      *Executor
	st     *state.StateDB
	block  *types.Block
	ctx    gethvm.BlockContext
	signer types.Signer
	gas    *core.GasPool
	index  int
}

// Rerun begins to execute block again on st, the state after its parent. st belongs to the Rerun from then on. The block may be one that never was
// part of the chain, as long as its parent is.
//
// Errors: ErrNotTraceable, or what the state database reported.
func (x *Executor) Rerun(ctx context.Context, st *state.StateDB, block *types.Block) (*Rerun, error) {
	header := block.Header()
	parent, err := x.parentOf(header)
	if err != nil {
		return nil, err
	}
	r := &Rerun{
		x: x, st: st, block: block,
		ctx:    core.NewEVMBlockContext(header, x.chain, &header.Coinbase),
		signer: types.MakeSigner(x.config, header.Number, header.Time),
		gas:    core.NewGasPool(header.GasLimit),
	}
	evm := r.newEVM(nil)
	defer evm.Release()
	core.PreExecution(ctx, header.ParentBeaconRoot, parent, x.config, evm, header.Number, header.Time)
	if err := st.Error(); err != nil {
		return nil, fmt.Errorf("block %d: pre-execution: %w", header.Number, err)
	}
	return r, nil
}

// parentOf finds the parent of a header from anywhere, and refuses a header with which the EVM could not run.
func (x *Executor) parentOf(h *types.Header) (*types.Header, error) {
	if !h.Number.IsUint64() {
		return nil, fmt.Errorf("%w: number %v", ErrNotTraceable, h.Number)
	}
	number := h.Number.Uint64()
	if number == 0 {
		return nil, fmt.Errorf("%w: genesis is not traceable", ErrNotTraceable)
	}
	parent := x.chain.GetHeader(h.ParentHash, number-1)
	switch {
	case parent == nil || parent.Number.Uint64() != number-1:
		return nil, fmt.Errorf("%w: the parent %v of block %d is not a known block %d", ErrNotTraceable, h.ParentHash, number, number-1)
	case x.config.IsLondon(h.Number) && h.BaseFee == nil:
		return nil, fmt.Errorf("%w: block %d has no base fee", ErrNotTraceable, number)
	case x.config.IsCancun(h.Number, h.Time) && (h.ExcessBlobGas == nil || h.ParentBeaconRoot == nil):
		return nil, fmt.Errorf("%w: block %d lacks excessBlobGas or parentBeaconBlockRoot", ErrNotTraceable, number)
	}
	return parent, nil
}

func (r *Rerun) newEVM(hooks *tracing.Hooks) *gethvm.EVM {
	var st gethvm.StateDB = r.st
	if hooks != nil {
		st = state.NewHookedState(r.st, hooks)
	}
	evm := gethvm.NewEVM(r.ctx, st, r.x.config, gethvm.Config{Tracer: hooks})
	evm.SetJumpDestCache(r.x.jumpDests)
	return evm
}

// Index is the position in the block of the transaction that Next executes next.
func (r *Rerun) Index() int { return r.index }

// State is the state between two transactions. Whoever changes it cannot go on with the block.
func (r *Rerun) State() *state.StateDB { return r.st }

// Next executes the next transaction under hooks (nil watches nothing) and returns its receipt, without the block's hash in it. When ctx ends first,
// Next returns its cause. After any error the Rerun is of no use.
func (r *Rerun) Next(ctx context.Context, hooks *tracing.Hooks) (*types.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	tx := r.block.Transactions()[r.index]
	fail := func(err error) (*types.Receipt, error) {
		return nil, fmt.Errorf("block %d: transaction %d (%s): %w", r.block.NumberU64(), r.index, tx.Hash(), err)
	}
	msg, err := core.TransactionToMessage(tx, r.signer, r.block.BaseFee())
	if err != nil {
		return fail(err)
	}
	evm := r.newEVM(hooks)
	defer evm.Release()
	stop := context.AfterFunc(ctx, evm.Cancel)
	defer stop()
	r.st.SetTxContext(tx.Hash(), r.index, uint32(r.index+1))
	receipt, _, err := core.ApplyTransactionWithEVM(ctx, msg, r.gas, r.st, r.block.Number(), common.Hash{}, r.block.Time(), tx, evm)
	// A state that could not be read looks like an empty one, so its error goes first.
	if dbErr := r.st.Error(); dbErr != nil {
		return fail(dbErr)
	}
	if evm.Cancelled() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return fail(err)
	}
	r.index++
	return receipt, nil
}

// applyCall is core.ApplyMessage, with what tracers of transactions expect around it if there is one that does.
func applyCall(evm *gethvm.EVM, st *state.StateDB, message *core.Message) (result *core.ExecutionResult, err error) {
	hooks := evm.Config.Tracer
	if hooks == nil || (hooks.OnTxStart == nil && hooks.OnTxEnd == nil) {
		return core.ApplyMessage(evm, message, nil)
	}
	tx := transactionOf(message, evm)
	if hooks.OnTxStart != nil {
		hooks.OnTxStart(evm.GetVMContext(), tx, message.From)
	}
	st.SetTxContext(common.Hash{}, 0, 1)
	result, err = core.ApplyMessage(evm, message, nil)
	var receipt *types.Receipt
	if err == nil {
		evm.StateDB.Finalise(evm.GetRules())
		receipt = core.MakeReceipt(evm, result, st, evm.Context.BlockNumber, common.Hash{}, evm.Context.Time, tx, result.UsedGas, nil)
	}
	if hooks.OnTxEnd != nil {
		hooks.OnTxEnd(receipt, err)
	}
	return result, err
}

// transactionOf is the transaction, without a signature, that would be sent to have message executed.
func transactionOf(m *core.Message, evm *gethvm.EVM) *types.Transaction {
	if m.SetCodeAuthorizations != nil && m.To != nil {
		return types.NewTx(&types.SetCodeTx{
			ChainID: uint256.MustFromBig(evm.ChainConfig().ChainID), Nonce: m.Nonce, To: *m.To, Gas: m.GasLimit, GasFeeCap: m.GasFeeCap, GasTipCap: m.GasTipCap,
			Value: m.Value, Data: m.Data, AccessList: m.AccessList, AuthList: m.SetCodeAuthorizations,
		})
	}
	return types.NewTx(&types.DynamicFeeTx{
		ChainID: evm.ChainConfig().ChainID, Nonce: m.Nonce, To: m.To, Gas: m.GasLimit, GasFeeCap: m.GasFeeCap.ToBig(), GasTipCap: m.GasTipCap.ToBig(),
		Value: m.Value.ToBig(), Data: m.Data, AccessList: m.AccessList,
	})
}
