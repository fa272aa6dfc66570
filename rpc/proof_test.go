package rpc

import (
	"encoding/json"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethdb/memorydb"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

// verify returns what nodes prove about key under root: its value, nil if it has none.
func verify(t *testing.T, root common.Hash, key []byte, nodes []hexutil.Bytes) []byte {
	t.Helper()
	db := memorydb.New()
	for _, node := range nodes {
		require.NoError(t, db.Put(crypto.Keccak256(node), node))
	}
	value, err := trie.VerifyProof(root, crypto.Keccak256(key), db)
	require.NoError(t, err)
	return value
}

// TestProofs: an independent verifier finds account and slots, present and absent ones, under the state root of the block.
func TestProofs(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	b := n.mine(alice.emit(0, common.HexToHash("0x1234")))
	n.mine(alice.emit(1, common.HexToHash("0x5678")))
	short, long := "0x0", common.Hash{}.Hex()
	for _, block := range []string{"0x1", b.Hash().Hex()} {
		var p accountProof
		require.NoError(t, json.Unmarshal(call(t, c, "eth_getProof", emitter, []string{short, long, "0x07"}, block), &p))
		var account types.StateAccount
		require.NoError(t, rlp.DecodeBytes(verify(t, b.Root(), emitter[:], p.AccountProof), &account))
		require.Equal(t, account, types.StateAccount{
			Nonce: uint64(p.Nonce), Balance: uint256.MustFromBig(p.Balance.ToInt()), Root: p.StorageHash, CodeHash: p.CodeHash[:],
		})
		require.Equal(t, crypto.Keccak256Hash(emitterCode), p.CodeHash)
		require.Equal(t, []string{"0x0", long, "0x7"}, []string{p.StorageProof[0].Key, p.StorageProof[1].Key, p.StorageProof[2].Key}, "as they were asked for")
		for _, slot := range p.StorageProof[:2] {
			require.Equal(t, "0x1234", slot.Value.String())
			var value []byte
			require.NoError(t, rlp.DecodeBytes(verify(t, p.StorageHash, make([]byte, 32), slot.Proof), &value))
			require.Equal(t, []byte{0x12, 0x34}, value)
		}
		require.Equal(t, "0x0", p.StorageProof[2].Value.String())
		require.Nil(t, verify(t, p.StorageHash, common.LeftPadBytes([]byte{7}, 32), p.StorageProof[2].Proof))
	}
	var absent accountProof
	require.NoError(t, json.Unmarshal(call(t, c, "eth_getProof", pauper.address, []string{short}, "latest"), &absent))
	require.Nil(t, verify(t, n.CurrentHeader().Root, pauper.address[:], absent.AccountProof))
	require.Len(t, absent.StorageProof, 1)
	require.Equal(t, "0x0", absent.StorageProof[0].Value.String())
	require.Equal(t, []hexutil.Bytes{}, absent.StorageProof[0].Proof)

	for _, tc := range []struct {
		keys    []string
		code    int
		message string
	}{
		{make([]string, 1025), -32602, "too many storage keys requested (max 1024, got 1025)"},
		{[]string{"0xzz"}, -32602, `invalid hex in storage key: "0xzz"`},
		{[]string{long + "00"}, -32602, `storage key too long (want at most 32 bytes): "` + long + `00"`},
	} {
		code, message, _ := callError(t, c, "eth_getProof", emitter, tc.keys, "latest")
		require.Equal(t, tc.code, code)
		require.Equal(t, tc.message, message)
	}
}
