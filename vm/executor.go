package vm

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/holiman/uint256"
)

// ErrInvalidEnv is returned by Execute for an environment that cannot follow its parent. The ledger made it, so it
// is a bug or another ledger's data, never a user's doing.
var ErrInvalidEnv = errors.New("invalid block environment")

// Env is everything about a block that does not come from executing it. The ledger derives it from the log entry and
// the parent; the field comments say where RPC shows it.
type Env struct {
	Number     uint64
	Time       uint64         // seconds; may repeat, never runs back
	ParentHash common.Hash    // hash of the parent header given to Execute
	GasLimit   uint64         // the real cap on the block's gas
	BaseFee    *uint256.Int   // wei, fixed by the ledger's parameters; nil is 0
	Coinbase   common.Address // receives the tips
	PrevRandao common.Hash    // mixHash; the PREVRANDAO opcode. No promise of randomness
	BeaconRoot common.Hash    // parentBeaconBlockRoot; contracts read it through EIP-4788
	Extra      []byte         // extraData, at most 32 bytes
}

// Result is what a batch came to. Its memory belongs to the caller.
type Result struct {
	Block    *types.Block   // nil if no transaction was included; then the rest but Skipped is empty
	Receipts types.Receipts // of Block, all derived fields set
	Logs     []*types.Log   // of Block, in order; the same objects as in Receipts
	Skipped  []Skipped      // in order of the input
	GasUsed  uint64

	// Touched holds for each transaction of Block the accounts that it dealt with beside its sender; see recorder. It is for an index of this
	// node and part of nothing that is agreed on.
	Touched [][]common.Address
}

// Skipped is a transaction that was not valid at its turn.
type Skipped struct {
	Index int         // position in the input
	Hash  common.Hash // of the transaction
	// Err says why. errors.Is knows go-ethereum's sentinels (core.ErrNonceTooLow, core.ErrInsufficientFunds, ...)
	// and this package's. The text may hold addresses and amounts.
	Err error
}

// An Executor executes blocks, calls and replays for one chain. It holds nothing but caches: all methods may be called
// concurrently, each with a StateDB of its own.
type Executor struct {
	config    *params.ChainConfig
	chain     core.ChainContext
	signer    types.Signer
	jumpDests gethvm.JumpDestCache // results of JUMPDEST analysis by code hash, shared by all blocks and calls
}

// NewExecutor returns an executor for the chain with the given rules (see [ValidateChainConfig]). chain supplies
// headers by parent hash for BLOCKHASH and its Config must be config; it is not asked for anything else while a block
// executes, so it may be incomplete until the first call.
func NewExecutor(config *params.ChainConfig, chain core.ChainContext) *Executor {
	return &Executor{
		config:    config,
		chain:     chain,
		signer:    types.LatestSigner(config),
		jumpDests: core.NewJumpDestCache(),
	}
}

// Config returns the chain's rules. They must not be changed.
func (x *Executor) Config() *params.ChainConfig { return x.config }

// Signer returns the signer under which the executor recovers senders. A sender recovered by it ahead of time
// ([RecoverSenders], the pool) is cached in the transaction and not recovered again.
func (x *Executor) Signer() types.Signer { return x.signer }

// Execute runs txs in order on st, the state after parent, in the block described by env. st is left with the block's
// changes applied and its root computed, ready for the caller to Commit; if Result.Block is nil or on error the
// caller throws st away.
//
// A transaction that is not valid at its turn is skipped (invariant 2): wrong nonce, funds that do not suffice, a
// limit above the gas left in the block or above EIP-7825's cap, too little gas for its data, init code too large, a
// fee cap below the base fee, a bad signature or chain id, a blob transaction, or a sender without permission.
//
// The error is ErrInvalidEnv, or what the state database reported, or a failed system call (a genesis without the
// system contracts). None depends on a transaction.
func (x *Executor) Execute(st *state.StateDB, parent *types.Header, env Env, txs []*types.Transaction) (*Result, error) {
	header, err := x.newHeader(parent, env)
	if err != nil {
		return nil, err
	}
	run := newBlockRun(x, st, header)
	defer run.release()

	ctx := context.Background() // go-ethereum's tracing spans want one; there is nothing to cancel
	core.PreExecution(ctx, header.ParentBeaconRoot, parent, x.config, run.evm, header.Number, header.Time)
	if err := st.Error(); err != nil {
		return nil, fmt.Errorf("block %d: pre-execution: %w", env.Number, err)
	}
	res := &Result{}
	for i, tx := range txs {
		err := run.apply(tx)
		// Before anything is concluded from err: a state that could not be read looks like an empty one.
		if dbErr := st.Error(); dbErr != nil {
			return nil, fmt.Errorf("block %d: transaction %d (%s): %w", env.Number, i, tx.Hash(), dbErr)
		}
		if err != nil {
			res.Skipped = append(res.Skipped, Skipped{Index: i, Hash: tx.Hash(), Err: err})
		}
	}
	if len(run.txs) == 0 {
		return res, nil
	}
	requests, _, err := core.PostExecution(ctx, x.config, header.Number, header.Time, run.logs, types.Withdrawals{}, run.evm, uint32(len(run.txs)+1))
	if dbErr := st.Error(); dbErr != nil {
		err = dbErr
	}
	if err != nil {
		return nil, fmt.Errorf("block %d: post-execution: %w", env.Number, err)
	}
	requestsHash := types.CalcRequestsHash(requests)
	header.RequestsHash = &requestsHash
	header.GasUsed = run.gas.Used()
	header.Root = st.IntermediateRoot(run.rules)
	if err := st.Error(); err != nil {
		return nil, fmt.Errorf("block %d: state root: %w", env.Number, err)
	}
	body := &types.Body{Transactions: run.txs, Withdrawals: types.Withdrawals{}}
	res.Block = types.NewBlock(header, body, run.receipts, trie.NewStackTrie(nil))
	res.Receipts, res.Logs, res.GasUsed, res.Touched = run.receipts, run.logs, header.GasUsed, run.touched
	setBlockHash(res.Receipts, res.Block.Hash())
	return res, nil
}

// newHeader returns the header of the block that env describes, but for the fields that execution gives.
func (x *Executor) newHeader(parent *types.Header, env Env) (*types.Header, error) {
	number := new(big.Int).SetUint64(env.Number)
	switch {
	case parent.Number.Uint64()+1 != env.Number:
		return nil, fmt.Errorf("%w: number %d does not follow parent %d", ErrInvalidEnv, env.Number, parent.Number)
	case parent.Hash() != env.ParentHash:
		return nil, fmt.Errorf("%w: block %d: parent hash %s, parent is %s", ErrInvalidEnv, env.Number, env.ParentHash, parent.Hash())
	case env.Time < parent.Time:
		return nil, fmt.Errorf("%w: block %d: time %d is before the parent's %d", ErrInvalidEnv, env.Number, env.Time, parent.Time)
	case uint64(len(env.Extra)) > params.MaximumExtraDataSize:
		return nil, fmt.Errorf("%w: block %d: %d bytes of extra data, at most %d", ErrInvalidEnv, env.Number, len(env.Extra), params.MaximumExtraDataSize)
	case !x.config.IsOsaka(number, env.Time) || x.config.IsAmsterdam(number, env.Time):
		return nil, fmt.Errorf("%w: block %d at time %d is not under the Osaka rules", ErrInvalidEnv, env.Number, env.Time)
	}
	baseFee := new(big.Int)
	if env.BaseFee != nil {
		baseFee = env.BaseFee.ToBig()
	}
	beaconRoot := env.BeaconRoot
	return &types.Header{
		ParentHash:       env.ParentHash,
		UncleHash:        types.EmptyUncleHash,
		Coinbase:         env.Coinbase,
		Difficulty:       new(big.Int),
		Number:           number,
		GasLimit:         env.GasLimit,
		Time:             env.Time,
		Extra:            common.CopyBytes(env.Extra),
		MixDigest:        env.PrevRandao,
		BaseFee:          baseFee,
		WithdrawalsHash:  &types.EmptyWithdrawalsHash,
		BlobGasUsed:      new(uint64),
		ExcessBlobGas:    new(uint64), // EIP-7918 gives 0 too, as no block ever uses blob gas
		ParentBeaconRoot: &beaconRoot,
	}, nil
}

// blockRun is a block under execution: what has been included so far, and the EVM that executes the rest.
type blockRun struct {
	x      *Executor
	st     *state.StateDB
	header *types.Header
	ctx    gethvm.BlockContext
	rules  params.Rules
	evm    *gethvm.EVM
	gas    *core.GasPool

	accounts recorder // st, as evm sees it

	// Invariant: txs[i] has receipts[i] and touched[i], and logs is the receipts' logs in order.
	txs      []*types.Transaction
	receipts types.Receipts
	touched  [][]common.Address
	logs     []*types.Log
}

func newBlockRun(x *Executor, st *state.StateDB, header *types.Header) *blockRun {
	r := &blockRun{
		x:      x,
		st:     st,
		header: header,
		ctx:    core.NewEVMBlockContext(header, x.chain, &header.Coinbase),
		rules:  x.config.Rules(header.Number, true, header.Time),
		gas:    core.NewGasPool(header.GasLimit),

		accounts: recorder{StateDB: st, coinbase: header.Coinbase},
	}
	r.newEVM()
	return r
}

func (r *blockRun) newEVM() {
	r.evm = gethvm.NewEVM(r.ctx, &r.accounts, r.x.config, gethvm.Config{})
	r.evm.SetJumpDestCache(r.x.jumpDests)
}

func (r *blockRun) release() { r.evm.Release() }

// apply executes tx and includes it, or returns why it is skipped, with state and gas pool as they were.
func (r *blockRun) apply(tx *types.Transaction) error {
	if tx.Type() == types.BlobTxType {
		return ErrBlobTransaction
	}
	msg, err := core.TransactionToMessage(tx, r.x.signer, r.header.BaseFee)
	if err != nil {
		return err
	}
	guard, err := r.permit(msg)
	if err != nil {
		return err
	}
	r.st.SetTxContext(tx.Hash(), len(r.txs), uint32(len(r.txs)+1))
	snapshot, gas := r.st.Snapshot(), r.gas.Snapshot()
	r.accounts.begin()
	result, err := r.run(msg, guard)
	if err != nil {
		// go-ethereum buys the gas before it looks at the last conditions, so there may be something to undo. Every
		// change since the snapshot is in the journal: balances, nonces, code and storage, created accounts, logs,
		// the refund counter, warm addresses and transient storage (which Prepare resets before the next one anyway).
		r.st.RevertToSnapshot(snapshot)
		r.gas.Set(gas)
		return err
	}
	r.st.Finalise(r.rules)
	receipt := core.MakeReceipt(r.evm, result, r.st, r.header.Number, common.Hash{}, r.header.Time, tx, r.gas.CumulativeUsed(), nil)
	receipt.EffectiveGasPrice = msg.GasPrice.ToBig()
	r.txs = append(r.txs, tx)
	r.receipts = append(r.receipts, receipt)
	r.touched = append(r.touched, r.accounts.end(msg, receipt))
	r.logs = append(r.logs, receipt.Logs...)
	return nil
}

// run applies the message. With a guard, an attempt to create a contract makes it fail.
func (r *blockRun) run(msg *core.Message, guard *deployGuard) (*core.ExecutionResult, error) {
	if guard == nil {
		return core.ApplyMessage(r.evm, msg, r.gas)
	}
	guard.evm = r.evm
	r.evm.StateDB = guard
	result, err := core.ApplyMessage(r.evm, msg, r.gas)
	r.evm.StateDB = &r.accounts
	if !guard.tripped {
		return result, err
	}
	// Cancelled is for ever: the rest of the block needs another EVM.
	r.evm.Release()
	r.newEVM()
	return nil, guard.err()
}

// setBlockHash fills in the one field of receipts and logs that is known only when the block is.
func setBlockHash(receipts types.Receipts, hash common.Hash) {
	for _, r := range receipts {
		r.BlockHash = hash
		for _, l := range r.Logs {
			l.BlockHash = hash
		}
	}
}
