package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
)

// debugStoreAPI is the debug_ methods that show what is stored: encodings, and the state in the order of its keys.
type debugStoreAPI struct{ *node }

// errNotEnumerable: flat state is kept for reading at every block, but in the order of its keys only for the newest ones.
var errNotEnumerable = errors.New("the keys of this state cannot be listed: only those of the newest 128 blocks can")

func (n *node) blockOf(ref gethrpc.BlockNumberOrHash) (*types.Block, error) {
	h, err := n.header(&ref)
	if err != nil {
		return nil, err
	}
	return n.backend.BlockByHash(h.Hash()), nil
}

// GetRawHeader returns the RLP of a header.
func (api *debugStoreAPI) GetRawHeader(ref gethrpc.BlockNumberOrHash) (hexutil.Bytes, error) {
	h, err := api.header(&ref)
	if err != nil {
		return nil, err
	}
	return rlp.EncodeToBytes(h)
}

// GetRawBlock returns the RLP of a block.
func (api *debugStoreAPI) GetRawBlock(ref gethrpc.BlockNumberOrHash) (hexutil.Bytes, error) {
	b, err := api.blockOf(ref)
	if err != nil {
		return nil, err
	}
	return rlp.EncodeToBytes(b)
}

// GetRawReceipts returns the receipts of a block as EIP-2718 encodes them.
func (api *debugStoreAPI) GetRawReceipts(ref gethrpc.BlockNumberOrHash) ([]hexutil.Bytes, error) {
	h, err := api.header(&ref)
	if err != nil {
		return nil, err
	}
	encoded := []hexutil.Bytes{}
	for _, r := range api.backend.ReceiptsByHash(h.Hash()) {
		b, err := r.MarshalBinary()
		if err != nil {
			return nil, err
		}
		encoded = append(encoded, b)
	}
	return encoded, nil
}

// GetRawBlockAccessList returns an error for every block that there is (EIP-7928): they are under the rules of Osaka.
func (api *debugStoreAPI) GetRawBlockAccessList(ref gethrpc.BlockNumberOrHash) (hexutil.Bytes, error) {
	if _, err := api.header(&ref); err != nil {
		return nil, err
	}
	return nil, errNoBlockAccessList
}

// GetRawTransaction returns an included or pending transaction as EIP-2718 encodes it, "0x" if there is none.
func (api *debugStoreAPI) GetRawTransaction(hash common.Hash) (hexutil.Bytes, error) {
	return (&blockAPI{api.node}).GetRawTransactionByHash(hash)
}

// GetBadBlocks is empty: an ordered batch makes a block or none, and no block is bad.
func (api *debugStoreAPI) GetBadBlocks() []struct{} { return []struct{}{} }

// Preimage returns what has a Keccak-256 hash, as far as the node keeps such a thing: the code of a contract, a transaction, a header. What
// contracts hash is not recorded.
func (api *debugStoreAPI) Preimage(hash common.Hash) (hexutil.Bytes, error) {
	if h := api.backend.HeaderByHash(hash); h != nil {
		return rlp.EncodeToBytes(h)
	}
	if tx, _, _, _, ok := api.backend.Transaction(hash); ok {
		return tx.MarshalBinary()
	}
	if code := api.backend.Code(hash); len(code) > 0 {
		return code, nil
	}
	return nil, errors.New("unknown preimage")
}

// storageRange is the answer of debug_storageRangeAt.
type storageRange struct {
	Storage map[common.Hash]storageEntry `json:"storage"` // by the hash of the slot's key
	NextKey *common.Hash                 `json:"nextKey"` // hash at which to go on; null at the end
}

type storageEntry struct {
	Key   *common.Hash `json:"key"` // null if the node knows only its hash
	Value common.Hash  `json:"value"`
}

// maxRange bounds the slots or accounts of one answer, as go-ethereum does for accounts.
const maxRange = 256

// StorageRangeAt returns the storage of a contract before a transaction of a block, in the order of the slots' hashes from start on. With the
// number of its transactions as index, it is the storage after the block. Unlike go-ethereum, it has what the transactions before have changed.
func (api *debugStoreAPI) StorageRangeAt(ctx context.Context, ref gethrpc.BlockNumberOrHash, index int, contract common.Address, start hexutil.Bytes, limit int) (result storageRange, err error) {
	block, err := api.blockOf(ref)
	if err != nil {
		return result, err
	}
	if index < 0 || index > len(block.Transactions()) {
		return result, invalidParams("transaction index %d out of range for block %v", index, block.Hash())
	}
	if limit < 0 || len(start) > common.HashLength {
		return result, invalidParams("keyStart is a hash and maxResult not negative")
	}
	from, limit := common.BytesToHash(common.RightPadBytes(start, common.HashLength)), min(limit, maxRange)
	if block.NumberU64() == 0 {
		return result, api.onState(ctx, block.Header(), func(_ context.Context, st *state.StateDB) (err error) {
			result, err = storageFrom(st, block.Root(), contract, from, limit, nil)
			return err
		})
	}
	parent := api.backend.HeaderByHash(block.ParentHash())
	return result, api.replay(ctx, block, func(ctx context.Context, r *replay) (err error) {
		changed := make(map[common.Hash]common.Hash) // keys by their hashes
		hooks := &tracing.Hooks{OnStorageChange: func(a common.Address, key, _, _ common.Hash) {
			if a == contract {
				changed[crypto.Keccak256Hash(key[:])] = key
			}
		}}
		for r.Index() < index {
			if _, err := r.next(ctx, hooks); err != nil {
				return err
			}
		}
		result, err = storageFrom(r.State(), parent.Root, contract, from, limit, changed)
		return err
	})
}

// storageFrom merges the stored slots at root with those that were changed since, which st has.
func storageFrom(st *state.StateDB, root common.Hash, contract common.Address, from common.Hash, limit int, changed map[common.Hash]common.Hash) (storageRange, error) {
	result := storageRange{Storage: make(map[common.Hash]storageEntry)}
	iteratee, err := st.Database().Iteratee(root)
	if err != nil {
		return result, errNotEnumerable
	}
	stored, err := iteratee.NewStorageIterator(crypto.Keccak256Hash(contract[:]), from)
	if err != nil {
		return result, errNotEnumerable
	}
	defer stored.Release()
	var fresh []common.Hash
	for hash := range changed {
		if hash.Cmp(from) >= 0 {
			fresh = append(fresh, hash)
		}
	}
	slices.SortFunc(fresh, common.Hash.Cmp)
	more := stored.Next()
	for more || len(fresh) > 0 {
		var (
			hash  common.Hash
			entry storageEntry
		)
		if len(fresh) > 0 && (!more || fresh[0].Cmp(stored.Hash()) <= 0) {
			hash, fresh = fresh[0], fresh[1:]
			key := changed[hash]
			entry = storageEntry{&key, st.GetState(contract, key)}
			if more && stored.Hash() == hash {
				more = stored.Next()
			}
		} else {
			hash, entry.Value = stored.Hash(), stored.Slot()
			if key, err := stored.Key(); err == nil {
				entry.Key = &key
			}
			more = stored.Next()
		}
		if entry.Value == (common.Hash{}) {
			continue // deleted since
		}
		if len(result.Storage) == limit {
			result.NextKey = &hash
			break
		}
		result.Storage[hash] = entry
	}
	if err := stored.Error(); err != nil {
		return result, fmt.Errorf("list storage: %w", err)
	}
	return result, nil
}

// AccountRange returns accounts of the state after a block, in the order of the hashes of their addresses from start on. Addresses are not kept beside
// their hashes, so incompletes must be true. Nor are the keys of slots: there is no storage in the answer, whatever nostorage says, but in
// debug_storageRangeAt's.
func (api *debugStoreAPI) AccountRange(ctx context.Context, ref gethrpc.BlockNumberOrHash, start hexutil.Bytes, limit int, nocode, nostorage, incompletes bool) (dump *state.Dump, err error) {
	if !incompletes {
		return nil, invalidParams("the node keeps accounts by the hash of their address; ask with incompletes = true")
	}
	if len(start) > common.HashLength {
		return nil, invalidParams("start is a hash")
	}
	h, err := api.header(&ref)
	if err != nil {
		return nil, err
	}
	if limit <= 0 || limit > maxRange {
		limit = maxRange
	}
	return dump, api.onState(ctx, h, func(_ context.Context, st *state.StateDB) error {
		if _, err := st.Database().Iteratee(h.Root); err != nil {
			return errNotEnumerable
		}
		dump = &state.Dump{Accounts: make(map[string]state.DumpAccount)}
		next, err := st.DumpToCollector(dump, &state.DumpConfig{
			SkipCode: nocode, SkipStorage: true, Start: common.RightPadBytes(start, common.HashLength), Max: uint64(limit),
		})
		dump.Next = next
		return err
	})
}
