package vm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/consensus/misc/eip4844"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/holiman/uint256"
)

// Limits of one simulation, those of go-ethereum.
const (
	MaxSimulatedBlocks        = 256    // from the base on, those that fill gaps included
	MaxSimulatedCallsPerBlock = 5_000  // in one block
	MaxSimulatedCalls         = 10_000 // in all blocks
)

// simulatedBlockTime is what lies between a block and the next one that names no time, in seconds. It is Ethereum's slot, which
// the tests of execution-apis expect; a ledger has no such clock.
const simulatedBlockTime = 12

// What is wrong with a simulation as a whole. The texts are go-ethereum's, with numbers behind some of them.
var (
	ErrSimulationEmpty        = errors.New("empty input")
	ErrSimulationTooLarge     = errors.New("too many blocks or calls")
	ErrSimulatedNumberOrder   = errors.New("block numbers must be in order")
	ErrSimulatedTimeOrder     = errors.New("block timestamps must be in order")
	ErrSimulatedGasLimit      = errors.New("block gas limit reached")
	ErrSimulatedDifficulty    = errors.New("difficulty override is not allowed after the merge")
	ErrSimulationGasExhausted = errors.New("RPC gas cap exhausted")
)

// An InvalidCallError ends a simulation: a call that could not be a transaction of its block. Its text is that of the cause.
type InvalidCallError struct{ Err error }

func (e *InvalidCallError) Error() string { return e.Err.Error() }
func (e *InvalidCallError) Unwrap() error { return e.Err }

// SimulateBlock is one block of a simulation, as it is asked for.
type SimulateBlock struct {
	Block *BlockOverrides // nil: what follows from the block before
	State StateOverride   // applied before the block's calls
	Calls []SimulateCall
}

// SimulateCall is a message with what Call leaves open. Its CallMsg.Gas is not used.
type SimulateCall struct {
	CallMsg
	Nonce    *uint64 // nil: the account's
	GasLimit *uint64 // nil: what is left in the block
}

// SimulateOptions bound a simulation and choose its rules.
type SimulateOptions struct {
	GasCap  uint64        // of all calls together. 0: DefaultCallGasCap
	Timeout time.Duration // of all together. 0: DefaultCallTimeout; negative: none but ctx's
	// Validate demands of each call what is demanded of a transaction but for its signature, EIP-3607 and EIP-7825's cap: nonce,
	// funds, fees, and the ledger's permissions.
	Validate bool
	// TraceTransfers adds a log for each movement of ether, in the form of an ERC-20 Transfer of the address of ERC-7528.
	TraceTransfers bool
	// BaseFee is the base fee of a block with Validate, unless it is overridden; nil: its parent's, since a ledger's is fixed.
	BaseFee func(parent *types.Header) *big.Int
}

// SimulatedBlock is what became of a SimulateBlock, or of a block that filled a gap before it.
type SimulatedBlock struct {
	Block   *types.Block     // its transactions are unsigned
	Calls   []SimulatedCall  // one for each transaction
	Senders []common.Address // one for each transaction
}

// SimulatedCall is the outcome of one call.
type SimulatedCall struct {
	ReturnData []byte
	Logs       []*types.Log // none if it failed
	GasUsed    uint64
	MaxUsedGas uint64 // before refunds
	Err        error  // nil: it succeeded; see ResultError
}

// Simulate makes blocks of calls on st, the state after base: eth_simulateV1 of execution-apis. st is changed: give it one of its own.
//
// Blocks are numbered upwards from base, and gaps are filled with empty ones. Without Validate, a call may have any nonce and the base
// fee is 0; with it the first call that is not valid ends the simulation. A call that fails in the EVM is a result.
//
// The state root of a block is zero if st cannot give it: historic states of which only the values are kept.
//
// Errors: the sentinels above; *InvalidCallError, with go-ethereum's sentinel inside; for overrides that make no sense; and whatever the
// state database reported.
func (x *Executor) Simulate(ctx context.Context, st *state.StateDB, base *types.Header, blocks []SimulateBlock, opts SimulateOptions) ([]SimulatedBlock, error) {
	if err := checkSimulation(blocks); err != nil {
		return nil, err
	}
	blocks, err := fillSimulation(base, blocks)
	if err != nil {
		return nil, err
	}
	bounds := CallOptions{GasCap: opts.GasCap, Timeout: opts.Timeout}.withDefaults()
	ctx, cancel := bounds.context(ctx)
	defer cancel()
	s := &simulation{x: x, st: st, opts: opts, bounds: bounds, gasLeft: bounds.GasCap, chain: &simulatedChain{ChainContext: x.chain}}
	if _, err := st.Database().OpenTrie(base.Root); err == nil {
		s.hasTrie = true
	}
	results := make([]SimulatedBlock, len(blocks))
	parent := base
	for i := range blocks {
		s.chain.headers = append(s.chain.headers, parent)
		if results[i], err = s.block(ctx, parent, &blocks[i]); err != nil {
			return nil, err
		}
		parent = results[i].Block.Header()
	}
	return results, nil
}

// checkSimulation holds the limits that need no look at the chain.
func checkSimulation(blocks []SimulateBlock) error {
	switch {
	case len(blocks) == 0:
		return ErrSimulationEmpty
	case len(blocks) > MaxSimulatedBlocks:
		return limitError("too many blocks")
	}
	total := 0
	for _, b := range blocks {
		if n := len(b.Calls); n > MaxSimulatedCallsPerBlock {
			return limitError(fmt.Sprintf("too many calls in block: %d > %d", n, MaxSimulatedCallsPerBlock))
		}
		if total += len(b.Calls); total > MaxSimulatedCalls {
			return limitError(fmt.Sprintf("too many calls: %d > %d", total, MaxSimulatedCalls))
		}
	}
	return nil
}

// limitError is ErrSimulationTooLarge with go-ethereum's text.
type limitError string

func (e limitError) Error() string        { return string(e) }
func (e limitError) Is(target error) bool { return target == ErrSimulationTooLarge }

// fillSimulation returns the blocks with their numbers, times and withdrawals, and with the empty ones between them.
func fillSimulation(base *types.Header, blocks []SimulateBlock) ([]SimulateBlock, error) {
	var filled []SimulateBlock
	number, seconds := base.Number, base.Time
	for _, b := range blocks {
		var overrides BlockOverrides
		if b.Block != nil {
			overrides = *b.Block
		}
		want := new(big.Int).Add(number, common.Big1)
		if overrides.Number != nil {
			want = overrides.Number.ToInt()
		}
		if want.Cmp(number) <= 0 {
			return nil, fmt.Errorf("%w: %d <= %d", ErrSimulatedNumberOrder, want, number)
		}
		if new(big.Int).Sub(want, base.Number).Cmp(big.NewInt(MaxSimulatedBlocks)) > 0 {
			return nil, limitError("too many blocks")
		}
		for next := new(big.Int).Add(number, common.Big1); next.Cmp(want) < 0; next = new(big.Int).Add(next, common.Big1) {
			var err error
			if seconds, err = simulatedTime(seconds, nil); err != nil {
				return nil, err
			}
			filled = append(filled, emptySimulated(BlockOverrides{}, next, seconds))
		}
		var err error
		if seconds, err = simulatedTime(seconds, overrides.Time); err != nil {
			return nil, err
		}
		number = want
		full := emptySimulated(overrides, number, seconds)
		full.State, full.Calls = b.State, b.Calls
		filled = append(filled, full)
	}
	return filled, nil
}

// simulatedTime returns the time of the block after one of the given time.
func simulatedTime(before uint64, override *hexutil.Uint64) (uint64, error) {
	after := before + simulatedBlockTime
	if override != nil {
		after = uint64(*override)
	}
	if after <= before {
		return 0, fmt.Errorf("%w: %d <= %d", ErrSimulatedTimeOrder, after, before)
	}
	return after, nil
}

func emptySimulated(o BlockOverrides, number *big.Int, seconds uint64) SimulateBlock {
	o.Number, o.Time = (*hexutil.Big)(number), (*hexutil.Uint64)(&seconds)
	if o.Withdrawals == nil {
		o.Withdrawals = &types.Withdrawals{}
	}
	return SimulateBlock{Block: &o}
}

// simulation is a simulation under way.
type simulation struct {
	x       *Executor
	st      *state.StateDB
	opts    SimulateOptions
	bounds  CallOptions
	gasLeft uint64 // of bounds.GasCap
	hasTrie bool   // st can give state roots
	chain   *simulatedChain
}

// header returns the header of a block, but for what execution gives.
func (s *simulation) header(parent *types.Header, o *BlockOverrides) (*types.Header, error) {
	config, number, seconds := s.x.config, o.Number.ToInt(), uint64(*o.Time)
	h := &types.Header{
		ParentHash: parent.Hash(),
		UncleHash:  types.EmptyUncleHash,
		Coinbase:   parent.Coinbase,
		Difficulty: parent.Difficulty,
		Number:     number,
		GasLimit:   parent.GasLimit,
		Time:       seconds,
	}
	if config.IsPostMerge(number.Uint64(), seconds) {
		h.Difficulty = new(big.Int)
	}
	if o.Difficulty != nil && h.Difficulty.Sign() == 0 {
		return nil, fmt.Errorf("block %d: %w", number, ErrSimulatedDifficulty)
	}
	if o.Difficulty != nil {
		h.Difficulty = o.Difficulty.ToInt()
	}
	if config.IsShanghai(number, seconds) {
		h.WithdrawalsHash = &types.EmptyWithdrawalsHash
	}
	if config.IsCancun(number, seconds) {
		h.ParentBeaconRoot = new(common.Hash)
		if o.BeaconRoot != nil {
			h.ParentBeaconRoot = o.BeaconRoot
		}
		h.ExcessBlobGas = new(uint64)
		if config.IsCancun(parent.Number, parent.Time) {
			*h.ExcessBlobGas = eip4844.CalcExcessBlobGas(config, parent, seconds)
		}
	}
	if config.IsLondon(number) {
		h.BaseFee = s.baseFee(parent)
	}
	return o.Header(h), nil
}

// baseFee is 0 without validation: a call without a price would pay less than the base fee, which the EVM has no notion of.
func (s *simulation) baseFee(parent *types.Header) *big.Int {
	switch {
	case !s.opts.Validate:
		return new(big.Int)
	case s.opts.BaseFee != nil:
		return s.opts.BaseFee(parent)
	case parent.BaseFee == nil:
		return new(big.Int)
	}
	return parent.BaseFee
}

// block executes one block.
func (s *simulation) block(ctx context.Context, parent *types.Header, in *SimulateBlock) (out SimulatedBlock, err error) {
	header, err := s.header(parent, in.Block)
	if err != nil {
		return out, err
	}
	run, err := s.newRun(header, in)
	if err != nil {
		return out, err
	}
	defer run.evm.Release()
	stop := context.AfterFunc(ctx, run.evm.Cancel)
	defer stop()

	system := context.Background() // go-ethereum's tracing spans want one; the EVM is cancelled above
	core.PreExecution(system, header.ParentBeaconRoot, parent, s.x.config, run.evm, header.Number, header.Time)
	for i := range in.Calls {
		if err := run.call(ctx, &in.Calls[i]); err != nil {
			return out, err
		}
	}
	if err := run.finish(system, *in.Block.Withdrawals); err != nil {
		return out, err
	}
	if ctx.Err() != nil { // a system call that was cancelled looks like one that ended
		return out, &InvalidCallError{s.bounds.aborted(ctx)}
	}
	return run.out, nil
}

// simulatedRun is a block of a simulation under execution.
type simulatedRun struct {
	*simulation
	header   *types.Header
	evm      *gethvm.EVM
	gas      *core.GasPool
	logs     *logCollector
	out      SimulatedBlock
	txs      []*types.Transaction
	receipts types.Receipts
	blobGas  uint64
}

func (s *simulation) newRun(header *types.Header, in *SimulateBlock) (*simulatedRun, error) {
	blockCtx := core.NewEVMBlockContext(header, s.chain, &header.Coinbase)
	if fee := in.Block.blobBaseFee(); fee != nil {
		blockCtx.BlobBaseFee = fee
	}
	precompiles := gethvm.ActivePrecompiledContracts(s.x.config.Rules(header.Number, header.Difficulty.Sign() == 0, header.Time))
	if err := in.State.Apply(s.st, precompiles); err != nil {
		return nil, err
	}
	logs := &logCollector{transfers: s.opts.TraceTransfers, number: header.Number.Uint64(), time: header.Time}
	evm := gethvm.NewEVM(blockCtx, state.NewHookedState(s.st, logs.hooks()), s.x.config,
		gethvm.Config{NoBaseFee: !s.opts.Validate, Tracer: logs.hooks()})
	evm.SetJumpDestCache(s.x.jumpDests)
	evm.SetPrecompiles(precompiles)
	n := len(in.Calls)
	return &simulatedRun{
		simulation: s, header: header, evm: evm, gas: core.NewGasPool(header.GasLimit), logs: logs,
		out: SimulatedBlock{Calls: make([]SimulatedCall, 0, n), Senders: make([]common.Address, 0, n)},
	}, nil
}

// call executes the next call of the block.
func (r *simulatedRun) call(ctx context.Context, c *SimulateCall) error {
	if err := ctx.Err(); err != nil {
		return &InvalidCallError{r.bounds.aborted(ctx)}
	}
	nonce := r.st.GetNonce(c.From)
	if !r.opts.Validate && nonce == math.MaxUint64 { // EIP-2681 holds for accounts, whatever a call's nonce is
		return &InvalidCallError{fmt.Errorf("%w: address %v, nonce: %d", core.ErrNonceMax, c.From.Hex(), nonce)}
	}
	if c.Nonce != nil {
		nonce = *c.Nonce
	}
	gas := r.gas.Available(false)
	if c.GasLimit != nil {
		if *c.GasLimit > gas {
			return fmt.Errorf("%w: remaining: %d, required: %d", ErrSimulatedGasLimit, gas, *c.GasLimit)
		}
		gas = *c.GasLimit
	}
	if r.header.BaseFee == nil && c.GasPrice == nil && c.GasFeeCap == nil && c.GasTipCap == nil {
		c.GasPrice = new(uint256.Int) // before London there is no other transaction
	}
	capped := gas > r.gasLeft
	gas = min(gas, r.gasLeft)
	message, err := r.message(c, nonce, gas)
	if err != nil {
		return err
	}
	tx := c.Transaction(r.x.config.ChainID, nonce, gas)
	index := len(r.txs)
	r.st.SetTxContext(tx.Hash(), index, uint32(index+1))
	r.logs.begin(tx.Hash(), index)
	result, err := core.ApplyMessage(r.evm, message, r.gas)
	switch {
	case r.st.Error() != nil:
		return r.st.Error()
	case r.evm.Cancelled():
		return &InvalidCallError{r.bounds.aborted(ctx)}
	case err != nil:
		return &InvalidCallError{fmt.Errorf("err: %w (supplied gas %d)", err, message.GasLimit)}
	case result.UsedGas > r.gasLeft:
		return fmt.Errorf("%w: need %d, remaining %d", ErrSimulationGasExhausted, result.UsedGas, r.gasLeft)
	}
	r.gasLeft -= result.UsedGas
	r.include(tx, c.From, result, capped)
	return nil
}

// message returns the message of a call, and what a transaction would be refused for that go-ethereum does not look at here.
func (r *simulatedRun) message(c *SimulateCall, nonce, gas uint64) (*core.Message, error) {
	if r.header.BaseFee == nil && (c.GasFeeCap != nil || c.GasTipCap != nil) {
		return nil, errors.New("maxFeePerGas and maxPriorityFeePerGas are not valid before London is active")
	}
	if r.opts.Validate {
		if err := Permitted(r.st, c.From, c.To == nil); err != nil {
			return nil, &InvalidCallError{err}
		}
	}
	message, err := c.message(r.header.BaseFee, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	// Built again, since what a message skips cannot be taken back.
	checked := &core.Message{
		From: message.From, To: message.To, Nonce: nonce, Value: message.Value, GasLimit: gas, GasPrice: message.GasPrice,
		GasFeeCap: message.GasFeeCap, GasTipCap: message.GasTipCap, Data: message.Data, AccessList: message.AccessList,
		SetCodeAuthorizations: message.SetCodeAuthorizations, BlobHashes: message.BlobHashes, BlobGasFeeCap: message.BlobGasFeeCap,
	}
	if !r.opts.Validate {
		checked.SkipNonceCheck()
	}
	return checked.SkipEOACheck().SkipGasLimitCapCheck(), nil
}

// include takes a call that was executed into the block.
func (r *simulatedRun) include(tx *types.Transaction, from common.Address, result *core.ExecutionResult, capped bool) {
	var root []byte
	if rules := r.evm.GetRules(); rules.IsByzantium {
		r.st.Finalise(rules)
	} else if r.hasTrie {
		root = r.st.IntermediateRoot(rules).Bytes()
	}
	receipt := core.MakeReceipt(r.evm, result, r.st, r.header.Number, common.Hash{}, r.header.Time, tx, r.gas.CumulativeUsed(), root)
	r.blobGas += receipt.BlobGasUsed
	r.txs, r.receipts = append(r.txs, tx), append(r.receipts, receipt)
	out := SimulatedCall{
		ReturnData: result.Return(), Logs: r.logs.end(), GasUsed: result.UsedGas, MaxUsedGas: result.MaxUsedGas, Err: ResultError(result),
	}
	if out.Err != nil && capped && !errors.Is(out.Err, gethvm.ErrExecutionReverted) {
		out.Err = fmt.Errorf("%w (gas limit was capped by the RPC server's global gas cap)", out.Err)
	}
	r.out.Calls, r.out.Senders = append(r.out.Calls, out), append(r.out.Senders, from)
}

// finish does what follows the last call, and makes the block.
func (r *simulatedRun) finish(ctx context.Context, withdrawals types.Withdrawals) error {
	config, h := r.x.config, r.header
	h.GasUsed = r.gas.Used()
	if config.IsCancun(h.Number, h.Time) {
		h.BlobGasUsed = &r.blobGas
	}
	body := &types.Body{Transactions: r.txs}
	if config.IsShanghai(h.Number, h.Time) {
		body.Withdrawals = withdrawals
	}
	var logs []*types.Log
	for _, c := range r.out.Calls {
		logs = append(logs, c.Logs...)
	}
	requests, _, err := core.PostExecution(ctx, config, h.Number, h.Time, logs, body.Withdrawals, r.evm, uint32(len(r.txs)+1))
	if r.st.Error() != nil {
		return r.st.Error()
	}
	if err != nil {
		return err
	}
	if requests != nil {
		hash := types.CalcRequestsHash(requests)
		h.RequestsHash = &hash
	}
	r.x.chain.Engine().Finalize(r.x.chain, h, r.st, body) // the rewards of proof of work
	if r.hasTrie {
		h.Root = r.st.IntermediateRoot(config.Rules(h.Number, h.Difficulty.Sign() == 0, h.Time))
	} else {
		r.st.Finalise(config.Rules(h.Number, h.Difficulty.Sign() == 0, h.Time))
	}
	if err := r.st.Error(); err != nil {
		return err
	}
	r.out.Block = types.NewBlock(h, body, r.receipts, trie.NewStackTrie(nil))
	hash := r.out.Block.Hash()
	for _, c := range r.out.Calls {
		for _, l := range c.Logs {
			l.BlockHash = hash
		}
	}
	return nil
}

// simulatedChain is the chain as simulated blocks see it: BLOCKHASH walks through the simulated ones to the real ones.
type simulatedChain struct {
	core.ChainContext
	headers []*types.Header // the base and what has been simulated on it, by number
}

// GetHeader implements consensus.ChainHeaderReader.
func (c *simulatedChain) GetHeader(hash common.Hash, number uint64) *types.Header {
	if base := c.headers[0].Number.Uint64(); number >= base {
		if i := number - base; i < uint64(len(c.headers)) && c.headers[i].Hash() == hash {
			return c.headers[i]
		}
		return nil
	}
	return c.ChainContext.GetHeader(hash, number)
}

// Transaction returns the unsigned transaction that m would be. With a gas price it is of type 0, or 1 if it has an access list; else of
// type 2, or 3 if it has blobs, or 4 if it has authorizations. The last two need a recipient.
func (m *CallMsg) Transaction(chainID *big.Int, nonce, gas uint64) *types.Transaction {
	value, list := orZero(m.Value), m.AccessList
	feeCap, tipCap := orZero(m.GasFeeCap), orZero(m.GasTipCap)
	switch {
	case m.GasPrice != nil && list != nil:
		return types.NewTx(&types.AccessListTx{
			ChainID: chainID, Nonce: nonce, GasPrice: m.GasPrice.ToBig(), Gas: gas, To: m.To, Value: value.ToBig(), Data: m.Data, AccessList: list,
		})
	case m.GasPrice != nil:
		return types.NewTx(&types.LegacyTx{Nonce: nonce, GasPrice: m.GasPrice.ToBig(), Gas: gas, To: m.To, Value: value.ToBig(), Data: m.Data})
	case m.Authorizations != nil:
		return types.NewTx(&types.SetCodeTx{
			ChainID: uint256.MustFromBig(chainID), Nonce: nonce, GasTipCap: tipCap, GasFeeCap: feeCap,
			Gas: gas, To: *m.To, Value: value, Data: m.Data, AccessList: list, AuthList: m.Authorizations,
		})
	case m.BlobHashes != nil:
		return types.NewTx(&types.BlobTx{
			ChainID: uint256.MustFromBig(chainID), Nonce: nonce, GasTipCap: tipCap, GasFeeCap: feeCap,
			Gas: gas, To: *m.To, Value: value, Data: m.Data, AccessList: list, BlobFeeCap: orZero(m.BlobFeeCap), BlobHashes: m.BlobHashes,
		})
	default:
		return types.NewTx(&types.DynamicFeeTx{
			ChainID: chainID, Nonce: nonce, GasTipCap: tipCap.ToBig(), GasFeeCap: feeCap.ToBig(),
			Gas: gas, To: m.To, Value: value.ToBig(), Data: m.Data, AccessList: list,
		})
	}
}
