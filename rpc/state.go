package rpc

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
)

// stateAPI is the eth_ methods that read the state after a block; without one, after the head.
type stateAPI struct{ *node }

// read runs f on the state after the referenced block.
func (n *node) read(ctx context.Context, ref *gethrpc.BlockNumberOrHash, f func(*state.StateDB)) error {
	h, err := n.header(ref)
	if err != nil {
		return err
	}
	return n.backend.WithState(ctx, h, func(st *state.StateDB) error {
		f(st)
		return st.Error()
	})
}

// GetBalance returns an account's balance in wei.
func (api *stateAPI) GetBalance(ctx context.Context, account common.Address, ref *gethrpc.BlockNumberOrHash) (balance *hexutil.Big, err error) {
	err = api.read(ctx, ref, func(st *state.StateDB) { balance = (*hexutil.Big)(st.GetBalance(account).ToBig()) })
	return balance, err
}

// GetCode returns an account's code, "0x" if it has none.
func (api *stateAPI) GetCode(ctx context.Context, account common.Address, ref *gethrpc.BlockNumberOrHash) (code hexutil.Bytes, err error) {
	err = api.read(ctx, ref, func(st *state.StateDB) { code = st.GetCode(account) })
	return code, err
}

// GetStorageAt returns a storage slot. The key may leave out leading zeros.
func (api *stateAPI) GetStorageAt(ctx context.Context, account common.Address, key string, ref *gethrpc.BlockNumberOrHash) (value hexutil.Bytes, err error) {
	slot, err := storageKey(key)
	if err != nil {
		return nil, err
	}
	err = api.read(ctx, ref, func(st *state.StateDB) {
		v := st.GetState(account, slot)
		value = v[:]
	})
	return value, err
}

func storageKey(s string) (common.Hash, error) {
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	if len(digits) > 2*common.HashLength {
		return common.Hash{}, invalidParams("storage key too long (want at most 32 bytes): %q", s)
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return common.Hash{}, invalidParams("invalid hex in storage key: %q", s)
	}
	return common.BytesToHash(b), nil
}

// GetTransactionCount returns an account's nonce; for "pending", the next one after what this node's pool holds.
func (api *stateAPI) GetTransactionCount(ctx context.Context, account common.Address, ref *gethrpc.BlockNumberOrHash) (nonce hexutil.Uint64, err error) {
	if ref != nil {
		if bn, ok := ref.Number(); ok && bn == gethrpc.PendingBlockNumber {
			return hexutil.Uint64(api.pool.Nonce(account)), nil
		}
	}
	err = api.read(ctx, ref, func(st *state.StateDB) { nonce = hexutil.Uint64(st.GetNonce(account)) })
	return nonce, err
}
