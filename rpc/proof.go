package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/ledger"
)

// maxSlots bounds the slots of one eth_getProof or eth_getStorageValues, as in go-ethereum.
const maxSlots = 1024

// errNoTrie is in the error of whoever needs the trie of a state of which only the values are kept.
var errNoTrie = errors.New("the trie of this state is not kept")

// accountProof is the answer of eth_getProof (EIP-1186).
type accountProof struct {
	Address      common.Address  `json:"address"`
	AccountProof []hexutil.Bytes `json:"accountProof"` // nodes from the state root down
	Balance      *hexutil.Big    `json:"balance"`
	CodeHash     common.Hash     `json:"codeHash"`
	Nonce        hexutil.Uint64  `json:"nonce"`
	StorageHash  common.Hash     `json:"storageHash"`
	StorageProof []storageProof  `json:"storageProof"`
}

// storageProof is the part for one slot.
type storageProof struct {
	Key   string          `json:"key"` // as it was asked for: 32 bytes, or a quantity
	Value *hexutil.Big    `json:"value"`
	Proof []hexutil.Bytes `json:"proof"` // nodes from the storage root down
}

// proofNodes gathers the nodes that go-ethereum proves with.
type proofNodes []hexutil.Bytes

// Put implements ethdb.KeyValueWriter.
func (p *proofNodes) Put(_, node []byte) error {
	*p = append(*p, common.CopyBytes(node))
	return nil
}

// Delete implements ethdb.KeyValueWriter.
func (p *proofNodes) Delete([]byte) error { panic("rpc: a proof does not delete") }

// proofKey is a storage key with the form in which it is returned.
type proofKey struct {
	slot common.Hash
	text string
}

func proofKeys(texts []string) ([]proofKey, error) {
	if len(texts) > maxSlots {
		return nil, invalidParams("too many storage keys requested (max %d, got %d)", maxSlots, len(texts))
	}
	keys := make([]proofKey, len(texts))
	for i, text := range texts {
		slot, err := storageKey(text)
		if err != nil {
			return nil, err
		}
		keys[i] = proofKey{slot, hexutil.EncodeBig(slot.Big())}
		if len(strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X")) > 2*common.HashLength-2 {
			keys[i].text = slot.Hex()
		}
	}
	return keys, nil
}

// GetProof returns an account and some of its slots with Merkle proofs against the state root of a block. Of old blocks only a node that
// keeps their tries can prove anything (ledger.archive_proofs); eth_capabilities tells.
func (api *stateAPI) GetProof(ctx context.Context, account common.Address, storageKeys []string, ref *gethrpc.BlockNumberOrHash) (*accountProof, error) {
	keys, err := proofKeys(storageKeys)
	if err != nil {
		return nil, err
	}
	h, err := api.header(ref)
	if err != nil {
		return nil, err
	}
	ctx, release, err := api.acquireFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	var proof *accountProof
	prove := func(st *state.StateDB) (err error) {
		proof, err = proveAccount(ctx, st, h, account, keys)
		return err
	}
	err = api.backend.WithState(ctx, h, prove)
	if errors.Is(err, errNoTrie) { // or the state has just left the layers in memory: then it is on disk by now
		err = api.backend.WithState(ctx, h, prove)
	}
	if errors.Is(err, errNoTrie) || errors.Is(err, ledger.ErrStateUnavailable) {
		return nil, &codedError{code: codePruned, message: fmt.Sprintf(
			"proofs for block %d are not available: this node keeps the tries from block %d on (see ledger.archive_proofs)", h.Number, api.backend.OldestProof())}
	}
	return proof, err
}

func proveAccount(ctx context.Context, st *state.StateDB, h *types.Header, account common.Address, keys []proofKey) (*accountProof, error) {
	accounts, err := st.Database().OpenTrie(h.Root)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTrie, err)
	}
	answer := &accountProof{
		Address:      account,
		Balance:      (*hexutil.Big)(st.GetBalance(account).ToBig()),
		CodeHash:     st.GetCodeHash(account),
		Nonce:        hexutil.Uint64(st.GetNonce(account)),
		StorageHash:  st.GetStorageRoot(account),
		StorageProof: make([]storageProof, len(keys)),
	}
	if answer.AccountProof, err = prove(accounts, account[:]); err != nil {
		return nil, err
	}
	var slots state.Trie
	if root := answer.StorageHash; len(keys) > 0 && root != (common.Hash{}) && root != types.EmptyRootHash {
		if slots, err = st.Database().OpenStorageTrie(h.Root, account, root, accounts); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoTrie, err)
		}
	}
	for i, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := storageProof{Key: key.text, Value: new(hexutil.Big), Proof: []hexutil.Bytes{}}
		if slots != nil {
			part.Value = (*hexutil.Big)(st.GetState(account, key.slot).Big())
			if part.Proof, err = prove(slots, key.slot[:]); err != nil {
				return nil, err
			}
		}
		answer.StorageProof[i] = part
	}
	return answer, nil
}

// prove returns the nodes on the way to a key, or to where it would be.
func prove(t state.Trie, key []byte) ([]hexutil.Bytes, error) {
	nodes := proofNodes{}
	if err := t.Prove(crypto.Keccak256(key), &nodes); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTrie, err)
	}
	return nodes, nil
}

// GetStorageValues returns slots of several accounts.
func (api *stateAPI) GetStorageValues(ctx context.Context, requests map[common.Address][]common.Hash, ref *gethrpc.BlockNumberOrHash) (values map[common.Address][]common.Hash, err error) {
	total := 0
	for _, slots := range requests {
		total += len(slots)
	}
	switch {
	case total > maxSlots:
		return nil, &codedError{code: codeSimulationLimit, message: fmt.Sprintf("too many slots (max %d)", maxSlots)}
	case total == 0:
		return nil, invalidParams("empty request")
	}
	err = api.read(ctx, ref, func(st *state.StateDB) {
		values = make(map[common.Address][]common.Hash, len(requests))
		for account, slots := range requests {
			values[account] = make([]common.Hash, len(slots))
			for i, slot := range slots {
				values[account][i] = st.GetState(account, slot)
			}
		}
	})
	return values, err
}
