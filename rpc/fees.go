package rpc

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"
	gethmath "github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/consensus/misc/eip4844"
	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
)

// maxPercentiles bounds the third argument of eth_feeHistory, as in go-ethereum.
const maxPercentiles = 100

// feeAPI is the eth_ methods about fees. The base fee is a parameter of the ledger, which a reconfiguration alone changes, so there is nothing to
// predict, and no tip is needed to be included.
type feeAPI struct{ *node }

// GasPrice is what a legacy transaction has to offer: the base fee.
func (api *feeAPI) GasPrice() *hexutil.Big { return (*hexutil.Big)(api.backend.BaseFee()) }

// MaxPriorityFeePerGas is 0.
func (api *feeAPI) MaxPriorityFeePerGas() *hexutil.Big { return new(hexutil.Big) }

// BaseFee is that of the next block.
func (api *feeAPI) BaseFee() *hexutil.Big { return (*hexutil.Big)(api.backend.BaseFee()) }

// BlobBaseFee is the least there is: the ledger takes no blobs.
func (api *feeAPI) BlobBaseFee() *hexutil.Big {
	return (*hexutil.Big)(api.blobBaseFee(api.backend.CurrentHeader()))
}

func (n *node) blobBaseFee(h *types.Header) *big.Int {
	if h.ExcessBlobGas == nil || n.backend.ChainConfig().BlobScheduleConfig == nil {
		return new(big.Int)
	}
	return eip4844.CalcBlobFee(n.backend.ChainConfig(), h)
}

// feeHistory is the answer of eth_feeHistory: of n blocks, with n+1 base fees.
type feeHistory struct {
	OldestBlock       hexutil.Uint64   `json:"oldestBlock"`
	Reward            [][]*hexutil.Big `json:"reward,omitempty"`
	BaseFeePerGas     []*hexutil.Big   `json:"baseFeePerGas"`
	GasUsedRatio      []float64        `json:"gasUsedRatio"`
	BaseFeePerBlobGas []*hexutil.Big   `json:"baseFeePerBlobGas"`
	BlobGasUsedRatio  []float64        `json:"blobGasUsedRatio"`
}

// FeeHistory describes count blocks up to and including last; fewer if there are fewer, or above the limit. rewardPercentiles
// ask for the tips of each block, weighted by gas.
func (api *feeAPI) FeeHistory(ctx context.Context, count gethmath.HexOrDecimal64, last gethrpc.BlockNumber, rewardPercentiles *[]float64) (*feeHistory, error) {
	var percentiles []float64
	if rewardPercentiles != nil {
		percentiles = *rewardPercentiles
	}
	if err := checkPercentiles(percentiles); err != nil {
		return nil, err
	}
	answer := &feeHistory{BaseFeePerGas: []*hexutil.Big{}, GasUsedRatio: []float64{}, BaseFeePerBlobGas: []*hexutil.Big{}, BlobGasUsedRatio: []float64{}}
	if count == 0 {
		return answer, nil
	}
	head := api.backend.CurrentHeader().Number.Uint64()
	end := api.number(last)
	if end > head {
		return nil, fmt.Errorf("request beyond head block: requested %d, head %d", end, head)
	}
	n := min(uint64(count), api.opts.MaxFeeHistory, end+1)
	if len(percentiles) > 0 {
		held, release, err := api.acquireFor(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
		ctx = held
	}
	answer.OldestBlock = hexutil.Uint64(end + 1 - n)
	for number := end + 1 - n; number <= end; number++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := api.addBlock(answer, number, percentiles); err != nil {
			return nil, err
		}
	}
	next, nextBlob := api.backend.BaseFee(), api.blobBaseFee(api.backend.CurrentHeader())
	if end < head {
		h := api.backend.HeaderByNumber(end + 1)
		if h == nil {
			return nil, errHeaderNotFound
		}
		next, nextBlob = baseFee(h), api.blobBaseFee(h)
	}
	answer.BaseFeePerGas = append(answer.BaseFeePerGas, (*hexutil.Big)(next))
	answer.BaseFeePerBlobGas = append(answer.BaseFeePerBlobGas, (*hexutil.Big)(nextBlob))
	return answer, nil
}

func checkPercentiles(percentiles []float64) error {
	if len(percentiles) > maxPercentiles {
		return fmt.Errorf("invalid reward percentile: over the query limit %d", maxPercentiles)
	}
	for i, p := range percentiles {
		if p < 0 || p > 100 {
			return fmt.Errorf("invalid reward percentile: %f", p)
		}
		if i > 0 && p <= percentiles[i-1] {
			return fmt.Errorf("invalid reward percentile: #%d:%f >= #%d:%f", i-1, percentiles[i-1], i, p)
		}
	}
	return nil
}

func baseFee(h *types.Header) *big.Int {
	if h.BaseFee == nil {
		return new(big.Int)
	}
	return h.BaseFee
}

func (n *node) addBlock(answer *feeHistory, number uint64, percentiles []float64) error {
	h := n.backend.HeaderByNumber(number)
	if h == nil {
		return errHeaderNotFound
	}
	answer.BaseFeePerGas = append(answer.BaseFeePerGas, (*hexutil.Big)(baseFee(h)))
	answer.GasUsedRatio = append(answer.GasUsedRatio, float64(h.GasUsed)/float64(h.GasLimit))
	answer.BaseFeePerBlobGas = append(answer.BaseFeePerBlobGas, (*hexutil.Big)(n.blobBaseFee(h)))
	answer.BlobGasUsedRatio = append(answer.BlobGasUsedRatio, n.blobRatio(h))
	if len(percentiles) == 0 {
		return nil
	}
	hash := h.Hash()
	b, receipts := n.backend.BlockByHash(hash), n.backend.ReceiptsByHash(hash)
	if b == nil || len(b.Transactions()) != len(receipts) {
		return errHeaderNotFound
	}
	answer.Reward = append(answer.Reward, rewards(b, receipts, percentiles))
	return nil
}

func (n *node) blobRatio(h *types.Header) float64 {
	if h.BlobGasUsed == nil || *h.BlobGasUsed == 0 {
		return 0
	}
	return float64(*h.BlobGasUsed) / float64(eip4844.MaxBlobGasPerBlock(n.backend.ChainConfig(), h.Time))
}

// rewards returns, for each percentile p, the tip that the unit of gas at p percent of the block's gas paid, the units being
// sorted by tip. Zeros for an empty block.
func rewards(b *types.Block, receipts types.Receipts, percentiles []float64) []*hexutil.Big {
	type paid struct {
		tip *big.Int
		gas uint64
	}
	all := make([]paid, len(receipts))
	for i, tx := range b.Transactions() {
		tip := effectiveGasPrice(tx, baseFee(b.Header()))
		all[i] = paid{new(big.Int).Sub(tip, baseFee(b.Header())), receipts[i].GasUsed}
	}
	slices.SortStableFunc(all, func(a, b paid) int { return a.tip.Cmp(b.tip) })
	tips := make([]*hexutil.Big, len(percentiles))
	i, sum := 0, uint64(0)
	if len(all) > 0 {
		sum = all[0].gas
	}
	for j, p := range percentiles {
		if len(all) == 0 {
			tips[j] = new(hexutil.Big)
			continue
		}
		for threshold := uint64(float64(b.GasUsed()) * p / 100); sum < threshold && i < len(all)-1; {
			i++
			sum += all[i].gas
		}
		tips[j] = (*hexutil.Big)(all[i].tip)
	}
	return tips
}
