package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/eth/tracers"

	"ledgerd/ledger"
)

// otsAPI is the ots_ namespace: what the explorer Otterscan asks for. Shapes are those of its documentation (docs/custom-jsonrpc.md in
// otterscan/otterscan), and where that is silent those of Erigon, whose clients it was made with.
type otsAPI struct{ *node }

// erigonAPI is the one method of another namespace that Otterscan calls, to see whether somebody is there.
type erigonAPI struct{ *node }

// GetHeaderByNumber returns a block without its body.
func (api *erigonAPI) GetHeaderByNumber(number plainNumber) *header {
	return (&blockAPI{api.node}).GetHeaderByNumber(number.rpc())
}

// otsLevel is the version of the namespace.
const otsLevel = 8

// maxPage bounds the transactions of one page. Otterscan asks for 25.
const maxPage = 1000

// GetApiLevel is the version of this namespace.
func (api *otsAPI) GetApiLevel() uint8 { return otsLevel }

// HasCode says whether an account has code in the state after a block, a delegation (EIP-7702) included.
func (api *otsAPI) HasCode(ctx context.Context, account common.Address, ref *plainRef) (has bool, err error) {
	h, err := api.header(ref.rpc())
	if err != nil {
		return false, err
	}
	return has, api.backend.WithState(ctx, h, func(st *state.StateDB) error {
		has = st.GetCodeSize(account) > 0
		return nil
	})
}

// otsBlock is a block without its bloom, and perhaps without its transactions.
type otsBlock struct {
	*header
	LogsBloom        *types.Bloom        `json:"logsBloom"` // null
	Size             hexutil.Uint64      `json:"size"`
	TransactionCount int                 `json:"transactionCount"`
	Transactions     *[]*transaction     `json:"transactions,omitempty"`
	Uncles           []common.Hash       `json:"uncles"`
	Withdrawals      []*types.Withdrawal `json:"withdrawals,omitzero"`
}

func (n *node) otsBlock(b *types.Block) otsBlock {
	full := newBlock(b, false, nil, n.engines)
	return otsBlock{header: full.header, Size: full.Size, TransactionCount: len(b.Transactions()), Uncles: full.Uncles, Withdrawals: full.Withdrawals}
}

// otsBlockDetails is a block with what was paid in it.
type otsBlockDetails struct {
	Block     otsBlock     `json:"block"`
	Issuance  *otsIssuance `json:"issuance"`
	TotalFees *hexutil.Big `json:"totalFees"`
}

// otsIssuance is what a block created: nothing. It is empty for an imported block from before the merge, whose reward is not computed.
type otsIssuance struct {
	BlockReward *hexutil.Big `json:"blockReward,omitempty"`
	UncleReward *hexutil.Big `json:"uncleReward,omitempty"`
	Issuance    *hexutil.Big `json:"issuance,omitempty"`
}

// GetBlockDetails returns a block without its transactions, and the fees of all of them together.
func (api *otsAPI) GetBlockDetails(number plainNumber) *otsBlockDetails {
	return api.details(api.blockByNumber(number.rpc()))
}

// GetBlockDetailsByHash returns a block without its transactions, and the fees of all of them together.
func (api *otsAPI) GetBlockDetailsByHash(hash common.Hash) *otsBlockDetails {
	return api.details(api.backend.BlockByHash(hash))
}

func (api *otsAPI) details(b *types.Block) *otsBlockDetails {
	if b == nil {
		return nil
	}
	fees := new(big.Int)
	for _, r := range api.backend.ReceiptsByHash(b.Hash()) {
		if r.EffectiveGasPrice != nil {
			fees.Add(fees, new(big.Int).Mul(r.EffectiveGasPrice, new(big.Int).SetUint64(r.GasUsed)))
		}
	}
	details := &otsBlockDetails{Block: api.otsBlock(b), Issuance: new(otsIssuance), TotalFees: (*hexutil.Big)(fees)}
	if b.Difficulty().Sign() == 0 {
		none := new(hexutil.Big)
		*details.Issuance = otsIssuance{none, none, none}
	}
	return details
}

// otsBlockPage is a page of the transactions of a block.
type otsBlockPage struct {
	FullBlock otsBlock       `json:"fullblock"`
	Receipts  []*lessReceipt `json:"receipts"`
}

// lessReceipt is a receipt without its logs.
type lessReceipt struct {
	*receipt
	Logs      []*types.Log `json:"logs"`      // null
	LogsBloom *types.Bloom `json:"logsBloom"` // null
}

// GetBlockTransactions returns a page of the transactions of a block, and their receipts. Page 0 holds its last ones. Of the input there is but the
// selector.
func (api *otsAPI) GetBlockTransactions(number plainNumber, page, size plainUint) (*otsBlockPage, error) {
	if size > maxPage {
		return nil, invalidParams("page size %d, at most %d", size, maxPage)
	}
	b := api.blockByNumber(number.rpc())
	if b == nil {
		return nil, nil
	}
	count := uint64(len(b.Transactions()))
	end := count - min(count, uint64(min(page, plainUint(count)))*uint64(size))
	start := end - min(end, uint64(size))

	result := &otsBlockPage{FullBlock: api.otsBlock(b), Receipts: []*lessReceipt{}}
	txs := []*transaction{}
	for i, r := range newReceipts(api.backend.ReceiptsByHash(b.Hash()), b.Transactions(), api.signer)[start:end] {
		index := start + uint64(i)
		tx := newTransaction(b.Transactions()[index], api.signer, &place{b.Header(), b.Hash(), index})
		tx.Input = tx.Input[:min(4, len(tx.Input))]
		txs = append(txs, tx)
		result.Receipts = append(result.Receipts, &lessReceipt{receipt: r})
	}
	result.FullBlock.Transactions = &txs
	return result, nil
}

// otsSearch is a page of the transactions of an account, newest first.
type otsSearch struct {
	Txs       []*transaction `json:"txs"`
	Receipts  []*timeReceipt `json:"receipts"`
	FirstPage bool           `json:"firstPage"` // there are no newer ones
	LastPage  bool           `json:"lastPage"`  // there are no older ones
}

// timeReceipt is a receipt with the time of its block.
type timeReceipt struct {
	*receipt
	Timestamp uint64 `json:"timestamp"` // seconds
}

// SearchTransactionsBefore returns transactions that dealt with an account in the blocks before one, or in all for block 0: the newest of them, size or
// more, since those of a block come together.
func (api *otsAPI) SearchTransactionsBefore(ctx context.Context, account common.Address, number, size plainUint) (*otsSearch, error) {
	to := api.backend.CurrentHeader().Number.Uint64()
	if number > 0 {
		to = min(to, uint64(number)-1)
	}
	found, more, err := api.searchAccount(ctx, account, 0, to, true, size)
	if err != nil {
		return nil, err
	}
	return api.marshalSearch(found, number == 0, !more), nil
}

// SearchTransactionsAfter returns transactions that dealt with an account in the blocks after one: the oldest of them, size or more, newest
// first.
func (api *otsAPI) SearchTransactionsAfter(ctx context.Context, account common.Address, number, size plainUint) (*otsSearch, error) {
	if uint64(number) >= api.backend.CurrentHeader().Number.Uint64() {
		return api.marshalSearch(nil, true, number == 0), nil
	}
	found, more, err := api.searchAccount(ctx, account, uint64(number)+1, api.backend.CurrentHeader().Number.Uint64(), false, size)
	if err != nil {
		return nil, err
	}
	slices.Reverse(found)
	return api.marshalSearch(found, !more, number == 0), nil
}

func (api *otsAPI) searchAccount(ctx context.Context, account common.Address, from, to uint64, newestFirst bool, size plainUint) ([]ledger.TransactionPlace, bool, error) {
	if size == 0 || size > maxPage {
		return nil, false, invalidParams("page size %d, between 1 and %d", size, maxPage)
	}
	ctx, release, err := api.acquireLong(ctx)
	if err != nil {
		return nil, false, err
	}
	defer release()
	found, more, err := api.backend.AccountTransactions(ctx, account, from, to, newestFirst, int(size))
	return found, more, timedOut(ctx, err)
}

func (api *otsAPI) marshalSearch(found []ledger.TransactionPlace, first, last bool) *otsSearch {
	result := &otsSearch{Txs: []*transaction{}, Receipts: []*timeReceipt{}, FirstPage: first, LastPage: last}
	for _, at := range found {
		b := api.backend.BlockByNumber(at.Block)
		tx := b.Transactions()[at.Index]
		result.Txs = append(result.Txs, newTransaction(tx, api.signer, &place{b.Header(), b.Hash(), uint64(at.Index)}))
		r := newReceipt(api.backend.ReceiptsByHash(b.Hash())[at.Index], tx, api.signer)
		result.Receipts = append(result.Receipts, &timeReceipt{r, b.Time()})
	}
	return result
}

// GetTransactionBySenderAndNonce returns the hash of the transaction that an account sent with a nonce.
func (api *otsAPI) GetTransactionBySenderAndNonce(ctx context.Context, sender common.Address, nonce plainUint) (*common.Hash, error) {
	at, ok, err := api.backend.TransactionBySenderAndNonce(ctx, sender, uint64(nonce))
	if err != nil || !ok {
		return nil, err
	}
	hash := api.backend.BlockByNumber(at.Block).Transactions()[at.Index].Hash()
	return &hash, nil
}

// otsCreator says how a contract came to be.
type otsCreator struct {
	Hash    common.Hash    `json:"hash"`    // of the transaction
	Creator common.Address `json:"creator"` // who executed the creation: an account or a contract
}

// GetContractCreator returns who created a contract, null for what is none or was there from the beginning. It bisects the states for the block in
// which the code appeared: under the rules of this ledger, code stays (EIP-6780). A contract that is older than the states of this node is 4444.
func (api *otsAPI) GetContractCreator(ctx context.Context, contract common.Address) (*otsCreator, error) {
	head, oldest := api.backend.CurrentHeader().Number.Uint64(), api.backend.OldestState()
	if has, err := api.isContract(ctx, contract, head); err != nil || !has {
		return nil, err
	}
	var failed error
	number := oldest + uint64(sort.Search(int(head-oldest), func(i int) bool {
		if failed != nil {
			return true
		}
		has, err := api.isContract(ctx, contract, oldest+uint64(i))
		failed = err
		return has
	}))
	switch {
	case failed != nil || number == 0:
		return nil, failed
	case number == oldest:
		return nil, &codedError{code: codePruned, message: fmt.Sprintf("the contract was created before block %d, where the states of this node begin", oldest+1)}
	}
	return api.creatorIn(ctx, api.backend.BlockByNumber(number), contract)
}

// isContract says whether an account is a contract after a block.
func (api *otsAPI) isContract(ctx context.Context, account common.Address, number uint64) (is bool, err error) {
	return is, api.backend.WithState(ctx, api.backend.HeaderByNumber(number), func(st *state.StateDB) error {
		_, delegated := types.ParseDelegation(st.GetCode(account))
		is = st.GetCodeSize(account) > 0 && !delegated
		return nil
	})
}

// creatorIn looks for the creation of a contract in the block that holds it.
func (api *otsAPI) creatorIn(ctx context.Context, b *types.Block, contract common.Address) (creator *otsCreator, err error) {
	for i, r := range api.backend.ReceiptsByHash(b.Hash()) {
		tx := b.Transactions()[i]
		if from, err := types.Sender(api.signer, tx); err == nil && tx.To() == nil && r.ContractAddress == contract && r.Status == types.ReceiptStatusSuccessful {
			return &otsCreator{tx.Hash(), from}, nil
		}
	}
	err = api.replay(ctx, b, func(ctx context.Context, r *replay) error {
		creator = nil
		for _, tx := range b.Transactions() {
			var from common.Address // of the last attempt in this transaction; of several only the last can have come true
			_, err := r.next(ctx, &tracing.Hooks{OnEnter: func(_ int, op byte, creator, created common.Address, _ []byte, _ uint64, _ *big.Int) {
				if op := gethvm.OpCode(op); created == contract && (op == gethvm.CREATE || op == gethvm.CREATE2) {
					from = creator
				}
			}})
			if err != nil {
				return err
			}
			if r.State().GetCodeSize(contract) > 0 {
				creator = &otsCreator{tx.Hash(), from}
				return nil
			}
		}
		return fmt.Errorf("the creation of %v is not in block %d, whose state holds it", contract, b.Number())
	})
	return creator, err
}

// GetTransactionError returns what a transaction reverted with, "0x" if it did not, null if it is unknown.
func (api *otsAPI) GetTransactionError(ctx context.Context, hash common.Hash) (*hexutil.Bytes, error) {
	frames, err := api.framesOf(ctx, hash)
	if err != nil || frames == nil {
		return nil, err
	}
	var data hexutil.Bytes
	if frames[0].reverted {
		data = frames[0].output
	}
	return &data, nil
}

// otsEntry is a call frame of a transaction.
type otsEntry struct {
	Type   string         `json:"type"`
	Depth  int            `json:"depth"`
	From   common.Address `json:"from"`
	To     common.Address `json:"to"`
	Value  *hexutil.Big   `json:"value"` // null where none can be sent
	Input  hexutil.Bytes  `json:"input"`
	Output hexutil.Bytes  `json:"output"`
}

// TraceTransaction returns the call frames of a transaction in the order in which they began, without those of precompiles; null if it is
// unknown.
func (api *otsAPI) TraceTransaction(ctx context.Context, hash common.Hash) ([]otsEntry, error) {
	frames, err := api.framesOf(ctx, hash)
	if err != nil || frames == nil {
		return nil, err
	}
	entries := []otsEntry{}
	for _, f := range frames {
		entries = append(entries, otsEntry{f.op.String(), f.depth, f.from, f.to, (*hexutil.Big)(f.value), f.input, f.output})
	}
	return entries, nil
}

// The kinds of otsOperation.
const (
	otsTransfer = iota
	otsSelfDestruct
	otsCreate
	otsCreate2
)

// otsOperation is something that happened to accounts within a transaction.
type otsOperation struct {
	Type  int            `json:"type"`
	From  common.Address `json:"from"`
	To    common.Address `json:"to"`
	Value *hexutil.Big   `json:"value"`
}

// GetInternalOperations returns the transfers, creations and self-destructions that calls within a transaction made, in their order; null if
// it is unknown. What was reverted did not happen.
func (api *otsAPI) GetInternalOperations(ctx context.Context, hash common.Hash) ([]otsOperation, error) {
	frames, err := api.framesOf(ctx, hash)
	if err != nil || frames == nil {
		return nil, err
	}
	operations := []otsOperation{}
	for _, f := range frames[1:] {
		var kind int
		switch {
		case f.undone:
			continue
		case f.op == gethvm.CALL && f.value.Sign() > 0:
			kind = otsTransfer
		case f.op == gethvm.SELFDESTRUCT:
			kind = otsSelfDestruct
		case f.op == gethvm.CREATE:
			kind = otsCreate
		case f.op == gethvm.CREATE2:
			kind = otsCreate2
		default:
			continue
		}
		operations = append(operations, otsOperation{kind, f.from, f.to, (*hexutil.Big)(f.value)})
	}
	return operations, nil
}

// callFrame is a call, a creation or a self-destruction.
type callFrame struct {
	op            gethvm.OpCode
	depth         int
	from, to      common.Address
	value         *big.Int // nil if the kind of call sends none
	input, output []byte
	reverted      bool // it ended with REVERT, and output is the reason
	undone        bool // it or a frame around it failed
}

// frameRecorder is a tracer that takes down the call frames of a transaction.
type frameRecorder struct {
	frames      []callFrame
	open        []int // indexes into frames; -1: a precompile, which is left out
	precompiles []common.Address
	stopped     atomic.Bool
}

func (f *frameRecorder) tracer() *tracers.Tracer {
	return &tracers.Tracer{
		Hooks:     &tracing.Hooks{OnEnter: f.enter, OnExit: f.exit},
		GetResult: func() (json.RawMessage, error) { return nil, nil },
		Stop:      func(error) { f.stopped.Store(true) },
	}
}

func (f *frameRecorder) enter(depth int, code byte, from, to common.Address, input []byte, _ uint64, value *big.Int) {
	if f.stopped.Load() {
		return
	}
	op := gethvm.OpCode(code)
	if depth > 0 && op != gethvm.SELFDESTRUCT && slices.Contains(f.precompiles, to) {
		f.open = append(f.open, -1)
		return
	}
	if op == gethvm.STATICCALL || op == gethvm.DELEGATECALL {
		value = nil
	}
	f.open = append(f.open, len(f.frames))
	f.frames = append(f.frames, callFrame{op: op, depth: depth, from: from, to: to, value: value, input: slices.Clone(input)})
}

func (f *frameRecorder) exit(_ int, output []byte, _ uint64, err error, _ bool) {
	if f.stopped.Load() {
		return
	}
	i := f.open[len(f.open)-1]
	f.open = f.open[:len(f.open)-1]
	if i < 0 {
		return
	}
	f.frames[i].output = slices.Clone(output)
	if err != nil {
		f.frames[i].reverted = errors.Is(err, gethvm.ErrExecutionReverted)
		for j := range f.frames[i:] {
			f.frames[i+j].undone = true
		}
	}
}

// framesOf executes a transaction again and returns its call frames, the transaction's own first; nil if it is unknown.
func (n *node) framesOf(ctx context.Context, hash common.Hash) (frames []callFrame, err error) {
	_, blockHash, _, index, ok := n.backend.Transaction(hash)
	if !ok {
		return nil, nil
	}
	b := n.backend.BlockByHash(blockHash)
	rules := n.backend.ChainConfig().Rules(b.Number(), b.Difficulty().Sign() == 0, b.Time())
	err = n.replay(ctx, b, func(ctx context.Context, r *replay) error {
		if err := r.skipTo(ctx, int(index)); err != nil {
			return err
		}
		recorder := &frameRecorder{precompiles: gethvm.ActivePrecompiles(rules)}
		_, err := r.watch(ctx, n.opts.TraceTimeout, func(tooLarge func(error)) (*tracer, error) {
			t := &tracer{Tracer: recorder.tracer(), max: n.opts.MaxTraceBytes, copies: 1}
			t.Hooks = t.metered(tooLarge)
			return t, nil
		})
		frames = recorder.frames
		return err
	})
	return frames, err
}
