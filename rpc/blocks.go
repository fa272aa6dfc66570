package rpc

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
)

// blockAPI is the eth_ methods that read blocks, transactions and receipts. What is unknown is null (invariant 4).
type blockAPI struct{ *node }

// number resolves a tag; see doc.go for what the tags mean here.
func (n *node) number(bn gethrpc.BlockNumber) uint64 {
	switch {
	case bn >= 0:
		return uint64(bn)
	case bn == gethrpc.EarliestBlockNumber:
		return 0
	default:
		return n.backend.CurrentHeader().Number.Uint64()
	}
}

func (n *node) blockByNumber(bn gethrpc.BlockNumber) *types.Block {
	return n.backend.BlockByNumber(n.number(bn))
}

// header resolves a block reference of EIP-1898 to a header, or to the error of the methods that need the block to be
// there. requireCanonical asks for nothing: every block that is known is.
func (n *node) header(ref *gethrpc.BlockNumberOrHash) (*types.Header, error) {
	if ref == nil {
		return n.backend.CurrentHeader(), nil
	}
	if hash, ok := ref.Hash(); ok {
		if h := n.backend.HeaderByHash(hash); h != nil {
			return h, nil
		}
		return nil, errHeaderOfHashNotFound
	}
	bn, _ := ref.Number()
	if bn < 0 && bn != gethrpc.EarliestBlockNumber {
		return n.backend.CurrentHeader(), nil
	}
	if h := n.backend.HeaderByNumber(n.number(bn)); h != nil {
		return h, nil
	}
	return nil, errHeaderNotFound
}

// GetBlockByNumber returns a block with its transactions, in full or as hashes.
func (api *blockAPI) GetBlockByNumber(number gethrpc.BlockNumber, full bool) *block {
	return api.marshalBlock(api.blockByNumber(number), full)
}

// GetBlockByHash returns a block with its transactions, in full or as hashes.
func (api *blockAPI) GetBlockByHash(hash common.Hash, full bool) *block {
	return api.marshalBlock(api.backend.BlockByHash(hash), full)
}

func (n *node) marshalBlock(b *types.Block, full bool) *block {
	if b == nil {
		return nil
	}
	return newBlock(b, full, n.signer, n.engines)
}

// GetHeaderByNumber returns a block without its body.
func (api *blockAPI) GetHeaderByNumber(number gethrpc.BlockNumber) *header {
	return api.marshalHeader(api.backend.HeaderByNumber(api.number(number)))
}

// GetHeaderByHash returns a block without its body.
func (api *blockAPI) GetHeaderByHash(hash common.Hash) *header {
	return api.marshalHeader(api.backend.HeaderByHash(hash))
}

func (n *node) marshalHeader(h *types.Header) *header {
	if h == nil {
		return nil
	}
	return newHeader(h, n.engines)
}

// GetBlockTransactionCountByNumber counts a block's transactions.
func (api *blockAPI) GetBlockTransactionCountByNumber(number gethrpc.BlockNumber) *hexutil.Uint {
	return transactionCount(api.blockByNumber(number))
}

// GetBlockTransactionCountByHash counts a block's transactions.
func (api *blockAPI) GetBlockTransactionCountByHash(hash common.Hash) *hexutil.Uint {
	return transactionCount(api.backend.BlockByHash(hash))
}

func transactionCount(b *types.Block) *hexutil.Uint {
	if b == nil {
		return nil
	}
	n := hexutil.Uint(len(b.Transactions()))
	return &n
}

// GetUncleCountByBlockNumber counts a block's uncles: only blocks of an imported chain, from before the merge, have any.
func (api *blockAPI) GetUncleCountByBlockNumber(number gethrpc.BlockNumber) *hexutil.Uint {
	return uncleCount(api.blockByNumber(number))
}

// GetUncleCountByBlockHash counts a block's uncles.
func (api *blockAPI) GetUncleCountByBlockHash(hash common.Hash) *hexutil.Uint {
	return uncleCount(api.backend.BlockByHash(hash))
}

func uncleCount(b *types.Block) *hexutil.Uint {
	if b == nil {
		return nil
	}
	n := hexutil.Uint(len(b.Uncles()))
	return &n
}

// GetUncleByBlockNumberAndIndex returns an uncle, as a block whose transactions are not told.
func (api *blockAPI) GetUncleByBlockNumberAndIndex(number gethrpc.BlockNumber, index hexutil.Uint) *block {
	return api.uncleAt(api.blockByNumber(number), uint64(index))
}

// GetUncleByBlockHashAndIndex returns an uncle, as a block whose transactions are not told.
func (api *blockAPI) GetUncleByBlockHashAndIndex(hash common.Hash, index hexutil.Uint) *block {
	return api.uncleAt(api.backend.BlockByHash(hash), uint64(index))
}

func (n *node) uncleAt(b *types.Block, index uint64) *block {
	if b == nil || index >= uint64(len(b.Uncles())) {
		return nil
	}
	uncle := newBlock(types.NewBlockWithHeader(b.Uncles()[index]), false, n.signer, nil)
	uncle.Transactions = nil // it has some, which nobody here knows
	return uncle
}

// GetBlockReceipts returns the receipts of a block in the order of its transactions.
func (api *blockAPI) GetBlockReceipts(ref gethrpc.BlockNumberOrHash) []*receipt {
	h, err := api.header(&ref)
	if err != nil {
		return nil
	}
	hash := h.Hash()
	b := api.backend.BlockByHash(hash)
	if b == nil {
		return nil
	}
	return newReceipts(api.backend.ReceiptsByHash(hash), b.Transactions(), api.signer)
}

// GetTransactionByHash returns an included transaction, or a pending one.
func (api *blockAPI) GetTransactionByHash(hash common.Hash) *transaction {
	if tx, blockHash, _, index, ok := api.backend.Transaction(hash); ok {
		return newTransaction(tx, api.signer, &place{api.backend.HeaderByHash(blockHash), blockHash, index})
	}
	if tx := api.pool.Get(hash); tx != nil {
		return newTransaction(tx, api.signer, nil)
	}
	// Between the two lookups it may have moved from the pool into a block.
	if tx, blockHash, _, index, ok := api.backend.Transaction(hash); ok {
		return newTransaction(tx, api.signer, &place{api.backend.HeaderByHash(blockHash), blockHash, index})
	}
	return nil
}

// GetTransactionByBlockNumberAndIndex returns a transaction by its place.
func (api *blockAPI) GetTransactionByBlockNumberAndIndex(number gethrpc.BlockNumber, index hexutil.Uint) *transaction {
	return api.transactionAt(api.blockByNumber(number), uint64(index))
}

// GetTransactionByBlockHashAndIndex returns a transaction by its place.
func (api *blockAPI) GetTransactionByBlockHashAndIndex(hash common.Hash, index hexutil.Uint) *transaction {
	return api.transactionAt(api.backend.BlockByHash(hash), uint64(index))
}

func (n *node) transactionAt(b *types.Block, index uint64) *transaction {
	if b == nil || index >= uint64(len(b.Transactions())) {
		return nil
	}
	return newTransaction(b.Transactions()[index], n.signer, &place{b.Header(), b.Hash(), index})
}

// GetTransactionReceipt returns the receipt of an included transaction.
func (api *blockAPI) GetTransactionReceipt(hash common.Hash) *receipt { return api.receipt(hash) }

func (n *node) receipt(hash common.Hash) *receipt {
	tx, blockHash, _, index, ok := n.backend.Transaction(hash)
	if !ok {
		return nil
	}
	receipts := n.backend.ReceiptsByHash(blockHash)
	if index >= uint64(len(receipts)) {
		return nil
	}
	return newReceipt(receipts[index], tx, n.signer)
}

// GetRawTransactionByHash returns the encoding of an included or pending transaction, "0x" if there is none.
func (api *blockAPI) GetRawTransactionByHash(hash common.Hash) (hexutil.Bytes, error) {
	tx, _, _, _, ok := api.backend.Transaction(hash)
	if !ok {
		if tx = api.pool.Get(hash); tx == nil {
			return nil, nil
		}
	}
	return tx.MarshalBinary()
}

// GetRawTransactionByBlockNumberAndIndex returns the encoding of a transaction by its place, "0x" if there is none.
func (api *blockAPI) GetRawTransactionByBlockNumberAndIndex(number gethrpc.BlockNumber, index hexutil.Uint) (hexutil.Bytes, error) {
	return rawTransactionAt(api.blockByNumber(number), uint64(index))
}

// GetRawTransactionByBlockHashAndIndex returns the encoding of a transaction by its place, "0x" if there is none.
func (api *blockAPI) GetRawTransactionByBlockHashAndIndex(hash common.Hash, index hexutil.Uint) (hexutil.Bytes, error) {
	return rawTransactionAt(api.backend.BlockByHash(hash), uint64(index))
}

func rawTransactionAt(b *types.Block, index uint64) (hexutil.Bytes, error) {
	if b == nil || index >= uint64(len(b.Transactions())) {
		return nil, nil
	}
	return b.Transactions()[index].MarshalBinary()
}

// GetBlockAccessList returns what the transactions of a block read and wrote (EIP-7928): null if there is no such block, and an error for those that
// there are, since they are under the rules of Osaka.
func (api *blockAPI) GetBlockAccessList(ref gethrpc.BlockNumberOrHash) (any, error) {
	if _, err := api.header(&ref); err != nil {
		return nil, nil
	}
	return nil, errNoBlockAccessList
}

// GetTransactionBySenderAndNonce returns the transaction, pending or included, with which an account used a nonce. It is null if there is none, which
// is also so for nonces that were used otherwise (EIP-7702, and contracts that create contracts).
func (api *blockAPI) GetTransactionBySenderAndNonce(ctx context.Context, account common.Address, nonce hexutil.Uint64) (*transaction, error) {
	number, ok, err := api.nonceUsedIn(ctx, account, uint64(nonce))
	if err != nil {
		return nil, err
	}
	if !ok {
		pending, queued := api.pool.ContentFrom(account)
		for _, tx := range slices.Concat(pending, queued) {
			if tx.Nonce() == uint64(nonce) {
				return newTransaction(tx, api.signer, nil), nil
			}
		}
		return nil, nil
	}
	b := api.backend.BlockByNumber(number)
	if b == nil {
		return nil, errHeaderNotFound
	}
	for i, tx := range b.Transactions() {
		if from, err := types.Sender(api.signer, tx); err == nil && from == account && tx.Nonce() == uint64(nonce) {
			return api.transactionAt(b, uint64(i)), nil
		}
	}
	return nil, nil
}

// nonceUsedIn returns the block in which an account's nonce passed a value, searching for it in the states of old blocks.
func (n *node) nonceUsedIn(ctx context.Context, account common.Address, nonce uint64) (number uint64, ok bool, err error) {
	used := func(number uint64) bool {
		if err != nil {
			return true
		}
		var now hexutil.Uint64
		ref := gethrpc.BlockNumberOrHashWithNumber(gethrpc.BlockNumber(number))
		now, err = (&stateAPI{n}).GetTransactionCount(ctx, account, &ref)
		return uint64(now) > nonce
	}
	ctx, release, err := n.acquireFor(ctx)
	if err != nil {
		return 0, false, err
	}
	defer release()
	head, oldest := n.backend.CurrentHeader().Number.Uint64(), n.backend.OldestState()
	if !used(head) || err != nil {
		return 0, false, err
	}
	found := oldest + uint64(sort.Search(int(head-oldest), func(i int) bool { return used(oldest + uint64(i)) }))
	if err != nil {
		return 0, false, err
	}
	if found == oldest && oldest > 0 {
		return 0, false, &codedError{code: codePruned, message: fmt.Sprintf("the nonce was used before block %d, where the states of this node begin", oldest+1)}
	}
	return found, true, nil
}
