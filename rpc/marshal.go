package rpc

import (
	"encoding/json"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/ledger"
)

// This file is invariant 3: the JSON forms of blocks, transactions and receipts, after the schemas of
// ethereum/execution-apis and, where these are silent, after what go-ethereum sends. A log is a types.Log, whose own
// encoding has every field.

// header is the JSON form of a block header. The last three fields are the ledger's own.
type header struct {
	Number                *hexutil.Big     `json:"number"`
	Hash                  common.Hash      `json:"hash"`
	ParentHash            common.Hash      `json:"parentHash"`
	Nonce                 types.BlockNonce `json:"nonce"`
	MixHash               common.Hash      `json:"mixHash"`
	UncleHash             common.Hash      `json:"sha3Uncles"`
	LogsBloom             types.Bloom      `json:"logsBloom"`
	StateRoot             common.Hash      `json:"stateRoot"`
	Miner                 common.Address   `json:"miner"`
	Difficulty            *hexutil.Big     `json:"difficulty"`
	ExtraData             hexutil.Bytes    `json:"extraData"`
	GasLimit              hexutil.Uint64   `json:"gasLimit"`
	GasUsed               hexutil.Uint64   `json:"gasUsed"`
	Timestamp             hexutil.Uint64   `json:"timestamp"`
	TransactionsRoot      common.Hash      `json:"transactionsRoot"`
	ReceiptsRoot          common.Hash      `json:"receiptsRoot"`
	BaseFeePerGas         *hexutil.Big     `json:"baseFeePerGas,omitempty"`
	WithdrawalsRoot       *common.Hash     `json:"withdrawalsRoot,omitempty"`
	BlobGasUsed           *hexutil.Uint64  `json:"blobGasUsed,omitempty"`
	ExcessBlobGas         *hexutil.Uint64  `json:"excessBlobGas,omitempty"`
	ParentBeaconBlockRoot *common.Hash     `json:"parentBeaconBlockRoot,omitempty"`
	RequestsHash          *common.Hash     `json:"requestsHash,omitempty"`

	MilliTimestamp    hexutil.Uint64  `json:"milliTimestamp"`              // Unix time in milliseconds
	LogSequenceNumber *hexutil.Uint64 `json:"logSequenceNumber,omitempty"` // absent if the block did not come from the log
	Epoch             *hexutil.Uint64 `json:"epoch,omitempty"`
	Engine            string          `json:"engine,omitempty"` // that orders the epoch
}

// newHeader asks engines for the name of the block's; nil: it has none.
func newHeader(h *types.Header, engines *engineNames) *header {
	j := &header{
		Number:                (*hexutil.Big)(h.Number),
		Hash:                  h.Hash(),
		ParentHash:            h.ParentHash,
		Nonce:                 h.Nonce,
		MixHash:               h.MixDigest,
		UncleHash:             h.UncleHash,
		LogsBloom:             h.Bloom,
		StateRoot:             h.Root,
		Miner:                 h.Coinbase,
		Difficulty:            (*hexutil.Big)(h.Difficulty),
		ExtraData:             h.Extra,
		GasLimit:              hexutil.Uint64(h.GasLimit),
		GasUsed:               hexutil.Uint64(h.GasUsed),
		Timestamp:             hexutil.Uint64(h.Time),
		TransactionsRoot:      h.TxHash,
		ReceiptsRoot:          h.ReceiptHash,
		BaseFeePerGas:         (*hexutil.Big)(h.BaseFee),
		WithdrawalsRoot:       h.WithdrawalsHash,
		BlobGasUsed:           (*hexutil.Uint64)(h.BlobGasUsed),
		ExcessBlobGas:         (*hexutil.Uint64)(h.ExcessBlobGas),
		ParentBeaconBlockRoot: h.ParentBeaconRoot,
		RequestsHash:          h.RequestsHash,
		MilliTimestamp:        hexutil.Uint64(h.Time * 1000),
	}
	if p, ok := ledger.PositionOf(h); ok {
		lsn, epoch := hexutil.Uint64(p.LSN), hexutil.Uint64(p.Epoch)
		j.MilliTimestamp, j.LogSequenceNumber, j.Epoch = hexutil.Uint64(p.UnixMilli), &lsn, &epoch
		if engines != nil {
			j.Engine = engines.of(p.Epoch)
		}
	}
	return j
}

// block is the JSON form of a block.
type block struct {
	*header
	Size         hexutil.Uint64      `json:"size"`
	Transactions any                 `json:"transactions,omitempty"` // []common.Hash or []*transaction; nil in an uncle
	Uncles       []common.Hash       `json:"uncles"`                 // of imported blocks from before the merge
	Withdrawals  []*types.Withdrawal `json:"withdrawals,omitzero"`
}

// newBlock gives the transactions in full or as hashes.
func newBlock(b *types.Block, full bool, signer types.Signer, engines *engineNames) *block {
	j := &block{
		header: newHeader(b.Header(), engines),
		Size:   hexutil.Uint64(b.Size()),
		Uncles: []common.Hash{},
	}
	for _, uncle := range b.Uncles() {
		j.Uncles = append(j.Uncles, uncle.Hash())
	}
	if b.Header().WithdrawalsHash != nil {
		j.Withdrawals = append([]*types.Withdrawal{}, b.Withdrawals()...)
	}
	txs := b.Transactions()
	if !full {
		hashes := make([]common.Hash, len(txs))
		for i, tx := range txs {
			hashes[i] = tx.Hash()
		}
		j.Transactions = hashes
		return j
	}
	objects := make([]*transaction, len(txs))
	for i, tx := range txs {
		objects[i] = newTransaction(tx, signer, &place{b.Header(), j.Hash, uint64(i)})
	}
	j.Transactions = objects
	return j
}

// transaction is the JSON form of a transaction. The fields that say where it is are null while it is pending.
type transaction struct {
	BlockHash            *common.Hash                 `json:"blockHash"`
	BlockNumber          *hexutil.Big                 `json:"blockNumber"`
	BlockTimestamp       *hexutil.Uint64              `json:"blockTimestamp"`
	TransactionIndex     *hexutil.Uint64              `json:"transactionIndex"`
	From                 common.Address               `json:"from"`
	Gas                  hexutil.Uint64               `json:"gas"`
	GasPrice             *hexutil.Big                 `json:"gasPrice"` // what was paid, once it is included; the fee cap until then
	MaxFeePerGas         *hexutil.Big                 `json:"maxFeePerGas,omitempty"`
	MaxPriorityFeePerGas *hexutil.Big                 `json:"maxPriorityFeePerGas,omitempty"`
	MaxFeePerBlobGas     *hexutil.Big                 `json:"maxFeePerBlobGas,omitempty"` // the ledger takes no blob transactions, an imported chain may have some
	BlobVersionedHashes  []common.Hash                `json:"blobVersionedHashes,omitempty"`
	Hash                 common.Hash                  `json:"hash"`
	Input                hexutil.Bytes                `json:"input"`
	Nonce                hexutil.Uint64               `json:"nonce"`
	To                   *common.Address              `json:"to"`
	Value                *hexutil.Big                 `json:"value"`
	Type                 hexutil.Uint64               `json:"type"`
	AccessList           *types.AccessList            `json:"accessList,omitempty"`
	ChainID              *hexutil.Big                 `json:"chainId,omitempty"`
	AuthorizationList    []types.SetCodeAuthorization `json:"authorizationList,omitempty"`
	V                    *hexutil.Big                 `json:"v"`
	R                    *hexutil.Big                 `json:"r"`
	S                    *hexutil.Big                 `json:"s"`
	YParity              *hexutil.Uint64              `json:"yParity,omitempty"`
}

// place is where a transaction is included.
type place struct {
	header *types.Header
	hash   common.Hash // of the header, which costs to compute
	index  uint64
}

// newTransaction takes a nil place for a pending transaction.
func newTransaction(tx *types.Transaction, signer types.Signer, at *place) *transaction {
	from, _ := types.Sender(signer, tx) // whatever is in a pool or a block has been recovered before
	v, r, s := tx.RawSignatureValues()
	j := &transaction{
		From:     from,
		Gas:      hexutil.Uint64(tx.Gas()),
		GasPrice: (*hexutil.Big)(tx.GasPrice()), // of a dynamic fee transaction this is the fee cap
		Hash:     tx.Hash(),
		Input:    tx.Data(),
		Nonce:    hexutil.Uint64(tx.Nonce()),
		To:       tx.To(),
		Value:    (*hexutil.Big)(tx.Value()),
		Type:     hexutil.Uint64(tx.Type()),
		V:        (*hexutil.Big)(v),
		R:        (*hexutil.Big)(r),
		S:        (*hexutil.Big)(s),
	}
	if at != nil {
		time, index := hexutil.Uint64(at.header.Time), hexutil.Uint64(at.index)
		j.BlockHash, j.BlockNumber, j.BlockTimestamp, j.TransactionIndex = &at.hash, (*hexutil.Big)(at.header.Number), &time, &index
	}
	if tx.Type() == types.LegacyTxType {
		if id := tx.ChainId(); id.Sign() != 0 {
			j.ChainID = (*hexutil.Big)(id)
		}
		return j
	}
	parity := hexutil.Uint64(v.Uint64())
	j.YParity = &parity
	j.ChainID = (*hexutil.Big)(tx.ChainId())
	list := wholeAccessList(tx.AccessList())
	j.AccessList = &list
	if tx.Type() == types.AccessListTxType {
		return j
	}
	j.MaxFeePerGas = (*hexutil.Big)(tx.GasFeeCap())
	j.MaxPriorityFeePerGas = (*hexutil.Big)(tx.GasTipCap())
	j.AuthorizationList = tx.SetCodeAuthorizations()
	if tx.Type() == types.BlobTxType {
		j.MaxFeePerBlobGas, j.BlobVersionedHashes = (*hexutil.Big)(tx.BlobGasFeeCap()), tx.BlobHashes()
	}
	if at != nil && at.header.BaseFee != nil {
		j.GasPrice = (*hexutil.Big)(effectiveGasPrice(tx, at.header.BaseFee))
	}
	return j
}

// wholeAccessList returns a list whose empty parts encode as [] and not as null.
func wholeAccessList(l types.AccessList) types.AccessList {
	list := make(types.AccessList, len(l))
	for i, tuple := range l {
		if tuple.StorageKeys == nil {
			tuple.StorageKeys = []common.Hash{}
		}
		list[i] = tuple
	}
	return list
}

// effectiveGasPrice is min(tip cap + base fee, fee cap), EIP-1559.
func effectiveGasPrice(tx *types.Transaction, baseFee *big.Int) *big.Int {
	price := new(big.Int).Add(tx.GasTipCap(), baseFee)
	if price.Cmp(tx.GasFeeCap()) > 0 {
		return tx.GasFeeCap()
	}
	return price
}

// receipt is the JSON form of a receipt.
type receipt struct {
	BlockHash         common.Hash     `json:"blockHash"`
	BlockNumber       *hexutil.Big    `json:"blockNumber"`
	TransactionHash   common.Hash     `json:"transactionHash"`
	TransactionIndex  hexutil.Uint64  `json:"transactionIndex"`
	From              common.Address  `json:"from"`
	To                *common.Address `json:"to"`
	GasUsed           hexutil.Uint64  `json:"gasUsed"`
	CumulativeGasUsed hexutil.Uint64  `json:"cumulativeGasUsed"`
	ContractAddress   *common.Address `json:"contractAddress"`
	Logs              []*types.Log    `json:"logs"`
	LogsBloom         types.Bloom     `json:"logsBloom"`
	Type              hexutil.Uint64  `json:"type"`
	EffectiveGasPrice *hexutil.Big    `json:"effectiveGasPrice"`
	Root              hexutil.Bytes   `json:"root,omitempty"` // instead of status, in imported blocks from before Byzantium
	Status            *hexutil.Uint64 `json:"status,omitempty"`
	BlobGasUsed       *hexutil.Uint64 `json:"blobGasUsed,omitempty"`
	BlobGasPrice      *hexutil.Big    `json:"blobGasPrice,omitempty"`
}

// newReceipt wants a receipt with its derived fields, and the transaction that it is of.
func newReceipt(r *types.Receipt, tx *types.Transaction, signer types.Signer) *receipt {
	from, _ := types.Sender(signer, tx)
	j := &receipt{
		BlockHash:         r.BlockHash,
		BlockNumber:       (*hexutil.Big)(r.BlockNumber),
		TransactionHash:   tx.Hash(),
		TransactionIndex:  hexutil.Uint64(r.TransactionIndex),
		From:              from,
		To:                tx.To(),
		GasUsed:           hexutil.Uint64(r.GasUsed),
		CumulativeGasUsed: hexutil.Uint64(r.CumulativeGasUsed),
		Logs:              r.Logs,
		LogsBloom:         r.Bloom,
		Type:              hexutil.Uint64(tx.Type()),
		EffectiveGasPrice: (*hexutil.Big)(r.EffectiveGasPrice),
	}
	if j.Logs == nil {
		j.Logs = []*types.Log{}
	}
	if len(r.PostState) > 0 {
		j.Root = r.PostState
	} else {
		status := hexutil.Uint64(r.Status)
		j.Status = &status
	}
	if tx.Type() == types.BlobTxType {
		used := hexutil.Uint64(r.BlobGasUsed)
		j.BlobGasUsed, j.BlobGasPrice = &used, (*hexutil.Big)(r.BlobGasPrice)
	}
	if tx.To() == nil {
		address := r.ContractAddress
		j.ContractAddress = &address
	}
	return j
}

// newReceipts is the receipts of a block.
func newReceipts(rs types.Receipts, txs types.Transactions, signer types.Signer) []*receipt {
	js := make([]*receipt, len(rs))
	for i, r := range rs {
		js[i] = newReceipt(r, txs[i], signer)
	}
	return js
}

// encode makes JSON of one of this file's forms, which always succeeds.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("rpc: " + err.Error())
	}
	return b
}
