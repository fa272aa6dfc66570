package vm

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/trie"
)

// ErrBlockMismatch is returned by Replay when the block's header is not what its transactions make.
var ErrBlockMismatch = errors.New("block does not replay to its header")

// Replay executes a finished block on st, the state after its parent, as any Ethereum client would: every transaction
// must be valid, and permissions are not asked for. It returns the block's receipts, all derived fields set, with st
// ready to Commit. The executor's chain must know the parent header. The rules are those of the block's number and
// time, which for a block from elsewhere may be older than Osaka.
//
// The error wraps ErrBlockMismatch, naming the fields, if the header is another one. What a consensus engine would
// check of a header (its time, gas limit and base fee against the parent's) is not looked at.
func (x *Executor) Replay(ctx context.Context, st *state.StateDB, block *types.Block) (types.Receipts, error) {
	res, err := core.NewStateProcessor(x.chain).Process(ctx, block, st, x.jumpDests, nil, gethvm.Config{}, nil)
	if dbErr := st.Error(); dbErr != nil {
		return nil, fmt.Errorf("replay block %d: %w", block.NumberU64(), dbErr)
	}
	if err != nil {
		return nil, fmt.Errorf("replay block %d: %w", block.NumberU64(), err)
	}
	got := block.Header()
	got.GasUsed = res.GasUsed
	got.Root = st.IntermediateRoot(x.config.Rules(block.Number(), block.Difficulty().Sign() == 0, block.Time()))
	if err := st.Error(); err != nil {
		return nil, fmt.Errorf("replay block %d: state root: %w", block.NumberU64(), err)
	}
	if res.Requests != nil {
		hash := types.CalcRequestsHash(res.Requests)
		got.RequestsHash = &hash
	}
	if got.BlobGasUsed != nil {
		got.BlobGasUsed = new(uint64)
		for _, r := range res.Receipts {
			*got.BlobGasUsed += r.BlobGasUsed
		}
	}
	// NewBlock computes what is left: the roots of transactions, receipts and withdrawals, the uncles' hash, the bloom.
	rebuilt := types.NewBlock(got, block.Body(), res.Receipts, trie.NewStackTrie(nil))
	if err := compareHeaders(rebuilt.Header(), block.Header()); err != nil {
		return nil, err
	}
	for i, r := range res.Receipts {
		tx := block.Transactions()[i]
		msg, err := core.TransactionToMessage(tx, types.MakeSigner(x.config, block.Number(), block.Time()), block.BaseFee())
		if err != nil {
			return nil, fmt.Errorf("replay block %d: %w", block.NumberU64(), err) // it has just executed
		}
		r.EffectiveGasPrice = msg.GasPrice.ToBig()
	}
	return res.Receipts, nil
}

// compareHeaders names the fields that execution gives and that differ.
func compareHeaders(got, want *types.Header) error {
	if got.Hash() == want.Hash() {
		return nil
	}
	var problems []error
	differ := func(field string, got, want any) {
		if got != want {
			problems = append(problems, fmt.Errorf("%s %v, header has %v", field, got, want))
		}
	}
	differ("gasUsed", got.GasUsed, want.GasUsed)
	differ("blobGasUsed", amountOrNone(got.BlobGasUsed), amountOrNone(want.BlobGasUsed))
	differ("stateRoot", got.Root, want.Root)
	differ("transactionsRoot", got.TxHash, want.TxHash)
	differ("receiptsRoot", got.ReceiptHash, want.ReceiptHash)
	differ("sha3Uncles", got.UncleHash, want.UncleHash)
	differ("logsBloom", got.Bloom, want.Bloom)
	differ("withdrawalsRoot", hashOrNone(got.WithdrawalsHash), hashOrNone(want.WithdrawalsHash))
	differ("requestsHash", hashOrNone(got.RequestsHash), hashOrNone(want.RequestsHash))
	return fmt.Errorf("%w: block %d: %w", ErrBlockMismatch, want.Number, errors.Join(problems...))
}

func amountOrNone(v *uint64) string {
	if v == nil {
		return "none"
	}
	return fmt.Sprint(*v)
}

func hashOrNone(h *common.Hash) string {
	if h == nil {
		return "none"
	}
	return h.Hex()
}
