package rpc

import (
	"context"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
)

// txpoolAPI is the txpool_ namespace: the pool of this node.
type txpoolAPI struct{ *node }

// byNonce holds the transactions of one account under their nonces in decimal.
type byNonce[T any] map[string]T

// poolContent has go-ethereum's form: addresses with their checksum as keys.
type poolContent[T any] struct {
	Pending map[string]byNonce[T] `json:"pending"`
	Queued  map[string]byNonce[T] `json:"queued"`
}

// accountContent is the part of one account.
type accountContent struct {
	Pending byNonce[*transaction] `json:"pending"`
	Queued  byNonce[*transaction] `json:"queued"`
}

// poolStatus counts transactions.
type poolStatus struct {
	Pending hexutil.Uint `json:"pending"`
	Queued  hexutil.Uint `json:"queued"`
}

// Status counts the pool's transactions.
func (api *txpoolAPI) Status() poolStatus {
	pending, queued := api.pool.Stats()
	return poolStatus{hexutil.Uint(pending), hexutil.Uint(queued)}
}

// Content returns the pool's transactions by sender and nonce.
func (api *txpoolAPI) Content(ctx context.Context) (content poolContent[*transaction], err error) {
	_, release, err := api.acquireFor(ctx) // a full pool is large
	if err != nil {
		return content, err
	}
	defer release()
	forms := func(content map[common.Address][]*types.Transaction) map[string]byNonce[*transaction] {
		out := make(map[string]byNonce[*transaction], len(content))
		for account, txs := range content {
			out[account.Hex()] = api.pooled(txs)
		}
		return out
	}
	pending, queued := api.pool.Content()
	return poolContent[*transaction]{forms(pending), forms(queued)}, nil
}

func (n *node) pooled(txs []*types.Transaction) byNonce[*transaction] {
	out := make(byNonce[*transaction], len(txs))
	for _, tx := range txs {
		out[strconv.FormatUint(tx.Nonce(), 10)] = newTransaction(tx, n.signer, nil)
	}
	return out
}

// ContentFrom returns one sender's transactions by nonce.
func (api *txpoolAPI) ContentFrom(ctx context.Context, account common.Address) (content accountContent, err error) {
	_, release, err := api.acquireFor(ctx)
	if err != nil {
		return content, err
	}
	defer release()
	pending, queued := api.pool.ContentFrom(account)
	return accountContent{api.pooled(pending), api.pooled(queued)}, nil
}

// Inspect returns a line of text for each transaction.
func (api *txpoolAPI) Inspect(ctx context.Context) (content poolContent[string], err error) {
	_, release, err := api.acquireFor(ctx)
	if err != nil {
		return content, err
	}
	defer release()
	lines := func(content map[common.Address]map[uint64]string) map[string]byNonce[string] {
		out := make(map[string]byNonce[string], len(content))
		for account, txs := range content {
			byNonce := make(byNonce[string], len(txs))
			for nonce, line := range txs {
				byNonce[strconv.FormatUint(nonce, 10)] = line
			}
			out[account.Hex()] = byNonce
		}
		return out
	}
	pending, queued := api.pool.Inspect()
	return poolContent[string]{lines(pending), lines(queued)}, nil
}
