package rpc

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	gethmath "github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/vm"
)

// submitAPI is the eth_ methods that bring transactions in.
type submitAPI struct {
	*node
	// signing is held from choosing a nonce until the pool has the transaction, or two requests would choose the same.
	signing *sync.Mutex
}

func newSubmitAPI(n *node) *submitAPI { return &submitAPI{n, new(sync.Mutex)} }

// SendRawTransaction gives a signed transaction to the pool and returns its hash.
func (api *submitAPI) SendRawTransaction(raw hexutil.Bytes) (common.Hash, error) {
	tx, err := vm.DecodeTransaction(raw)
	if err != nil {
		return common.Hash{}, err
	}
	return api.submit(tx)
}

func (n *node) submit(tx *types.Transaction) (common.Hash, error) {
	if !tx.Protected() && !n.opts.AllowUnprotected {
		return common.Hash{}, errors.New("only replay-protected (EIP-155) transactions allowed over RPC")
	}
	if err := n.pool.Add(tx); err != nil {
		return common.Hash{}, err
	}
	return tx.Hash(), nil
}

// SendRawTransactionSync is SendRawTransaction that waits for the receipt (EIP-7966), at most for a number of milliseconds;
// then the error has code 4 and the hash as its data. The transaction stays in the pool.
func (api *submitAPI) SendRawTransactionSync(ctx context.Context, raw hexutil.Bytes, timeout *gethmath.HexOrDecimal64) (*receipt, error) {
	tx, err := vm.DecodeTransaction(raw)
	if err != nil {
		return nil, err
	}
	wait := api.opts.SyncTimeout
	if timeout != nil && *timeout > 0 {
		wait = api.opts.MaxSyncTimeout
		if uint64(*timeout) < uint64(wait/time.Millisecond) {
			wait = time.Duration(*timeout) * time.Millisecond
		}
	}
	ctx, done := api.whileOpen(ctx)
	defer done()
	included, forget := api.hub.await(tx.Hash())
	defer forget()
	hash, err := api.submit(tx)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case r := <-included:
		return r, nil
	case <-timer.C:
		if r := api.receipt(hash); r != nil {
			return r, nil
		}
		return nil, syncTimeoutError(hash, wait)
	case <-api.hub.done:
		return nil, errStopping
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
