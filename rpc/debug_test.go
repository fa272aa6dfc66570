package rpc

import (
	"bytes"
	"encoding/json"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/stretchr/testify/require"
)

// TestDebugAnswersHaveTheSpecifiedShape calls every debug_ method that execution-apis specifies.
func TestDebugAnswersHaveTheSpecifiedShape(t *testing.T) {
	s := loadSchemasFrom(t, "testdata/openrpc-debug-results.json.gz")
	n := startNode(t, Options{})
	blocks := tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	checked := make(map[string]bool)
	check := func(method string, args ...any) {
		t.Helper()
		s.check(t, method, call(t, c, method, args...))
		checked[method] = true
	}
	check("debug_getBadBlocks")
	for _, ref := range []any{"earliest", "0x1", "latest", "pending", "safe", "finalized", blocks[0].Hash(), map[string]any{"blockHash": blocks[1].Hash(), "requireCanonical": true}} {
		check("debug_getRawBlock", ref)
		check("debug_getRawHeader", ref)
		check("debug_getRawReceipts", ref)
	}
	for _, b := range blocks {
		for _, tx := range b.Transactions() {
			check("debug_getRawTransaction", tx.Hash())
			for _, config := range tracerConfigs() {
				check("debug_traceTransaction", tx.Hash(), config)
			}
		}
		for _, config := range tracerConfigs() {
			check("debug_traceBlockByHash", b.Hash(), config)
			check("debug_traceBlockByNumber", hexutil.Big(*b.Number()), config)
		}
	}
	check("debug_getRawTransaction", common.Hash{9})
	for method := range s {
		require.True(t, checked[method], "%s is in testdata and was not checked", method)
	}
}

// TestRawForms decodes what debug_getRaw… gives.
func TestRawForms(t *testing.T) {
	n := startNode(t, Options{})
	b := tracedChain(n.fakeChain)[1]
	c := n.dial(t, "http")
	raw := func(method string, arg any) (out hexutil.Bytes) {
		t.Helper()
		require.NoError(t, json.Unmarshal(call(t, c, method, arg), &out))
		return out
	}
	require.Equal(t, b.Hash(), crypto.Keccak256Hash(raw("debug_getRawHeader", "0x2")))
	var decoded types.Block
	require.NoError(t, rlp.DecodeBytes(raw("debug_getRawBlock", b.Hash()), &decoded))
	require.Equal(t, b.Hash(), decoded.Hash())
	require.Len(t, decoded.Transactions(), len(b.Transactions()))
	for _, tx := range b.Transactions() {
		require.Equal(t, tx.Hash(), crypto.Keccak256Hash(raw("debug_getRawTransaction", tx.Hash())))
		require.Equal(t, tx.Hash(), crypto.Keccak256Hash(raw("debug_preimage", tx.Hash())))
	}
	require.Equal(t, b.Hash(), crypto.Keccak256Hash(raw("debug_preimage", b.Hash())))
	require.Equal(t, emitterCode, []byte(raw("debug_preimage", crypto.Keccak256Hash(emitterCode))))
	var receipts []hexutil.Bytes
	require.NoError(t, json.Unmarshal(call(t, c, "debug_getRawReceipts", "0x2"), &receipts))
	require.Len(t, receipts, len(b.Transactions()))
	var buf bytes.Buffer
	for i := range receipts {
		buf.Reset()
		n.ReceiptsByHash(b.Hash()).EncodeIndex(i, &buf)
		require.Equal(t, buf.Bytes(), []byte(receipts[i]))
	}

	for method, text := range map[string]string{
		"debug_getRawHeader": "header not found", "debug_getRawBlock": "header not found", "debug_getRawReceipts": "header not found",
		"debug_getRawBlockAccessList": "header not found",
	} {
		_, message, _ := callError(t, c, method, "0x99")
		require.Equal(t, text, message)
	}
	_, message, _ := callError(t, c, "debug_preimage", common.Hash{9})
	require.Equal(t, "unknown preimage", message)
	code, _, _ := callError(t, c, "debug_getRawBlockAccessList", "latest")
	require.Equal(t, codeNoBlockAccessList, code)
}

// TestStorageRangeAt lists the storage between the transactions of a block.
func TestStorageRangeAt(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	// Called with two words, the contract stores the second in the slot that the first names.
	code := program.New().Push(32).Op(gethvm.CALLDATALOAD).Push0().Op(gethvm.CALLDATALOAD, gethvm.SSTORE).Bytes()
	contract := crypto.CreateAddress(alice.address, 0)
	nonce := uint64(0)
	send := func(to *common.Address, data []byte) *types.Transaction {
		nonce++
		return alice.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), Nonce: nonce - 1, To: to, Gas: 1_000_000, Data: data, GasFeeCap: big.NewInt(params.GWei), GasTipCap: new(big.Int)})
	}
	store := func(slot, value byte) *types.Transaction {
		return send(&contract, append(common.Hash{slot}.Bytes(), common.Hash{value}.Bytes()...))
	}
	n.mine(send(nil, program.New().ReturnViaCodeCopy(code).Bytes()), store(1, 1), store(2, 2), store(3, 3))
	b := n.mine(store(4, 4), store(2, 0), store(1, 9), store(5, 5), store(5, 0))

	list := func(ref any, index, limit int) map[byte]byte {
		t.Helper()
		got := map[byte]byte{}
		for start := (common.Hash{}); ; {
			var page storageRange
			require.NoError(t, json.Unmarshal(call(t, c, "debug_storageRangeAt", ref, index, contract, start, limit), &page))
			require.LessOrEqual(t, len(page.Storage), limit)
			for hash, entry := range page.Storage {
				require.GreaterOrEqual(t, hash.Cmp(start), 0)
				slot := byte(0)
				for i := range byte(8) {
					if crypto.Keccak256Hash(common.Hash{i}.Bytes()) == hash {
						slot = i
					}
				}
				require.NotZero(t, slot)
				require.NotContains(t, got, slot)
				if entry.Key != nil {
					require.Equal(t, common.Hash{slot}, *entry.Key)
				}
				got[slot] = entry.Value[0]
			}
			if page.NextKey == nil {
				return got
			}
			start = *page.NextKey
		}
	}
	for _, limit := range []int{1, 2, 100} {
		for index, want := range []map[byte]byte{
			{1: 1, 2: 2, 3: 3},
			{1: 1, 2: 2, 3: 3, 4: 4},
			{1: 1, 3: 3, 4: 4},
			{1: 9, 3: 3, 4: 4},
			{1: 9, 3: 3, 4: 4, 5: 5},
			{1: 9, 3: 3, 4: 4},
		} {
			require.Equal(t, want, list(b.Hash(), index, limit), "index %d, limit %d", index, limit)
		}
		require.Equal(t, map[byte]byte{1: 1, 2: 2, 3: 3}, list("0x1", 4, limit))
		require.Empty(t, list("0x1", 0, limit))
		require.Empty(t, list("earliest", 0, limit))
	}
	for _, args := range [][]any{{"latest", 6, contract, "0x", 1}, {"latest", -1, contract, "0x", 1}, {"latest", 0, contract, "0x", -1}, {"latest", 0, contract, hexutil.Bytes(make([]byte, 33)), 1}} {
		code, _, _ := callError(t, c, "debug_storageRangeAt", args...)
		require.Equal(t, codeInvalidParams, code)
	}
}

// TestAccountRange pages through all accounts.
func TestAccountRange(t *testing.T) {
	n := startNode(t, Options{})
	tracedChain(n.fakeChain)
	c := n.dial(t, "http")
	code, _, _ := callError(t, c, "debug_accountRange", "latest", "0x", 3, true, true, false)
	require.Equal(t, codeInvalidParams, code)
	found := map[string]bool{}
	for start := (hexutil.Bytes{}); ; {
		var page struct {
			Accounts map[string]struct{ Balance string }
			Next     hexutil.Bytes
		}
		require.NoError(t, json.Unmarshal(call(t, c, "debug_accountRange", "latest", start, 3, true, true, true), &page))
		require.LessOrEqual(t, len(page.Accounts), 3)
		for key, account := range page.Accounts {
			require.False(t, found[key])
			found[key] = true
			require.NotEmpty(t, account.Balance)
		}
		if page.Next == nil {
			break
		}
		start = page.Next
	}
	for _, a := range []common.Address{alice.address, emitter, coinbase} {
		require.True(t, found["pre("+crypto.Keccak256Hash(a[:]).Hex()+")"], "%v in %v", a, found)
	}
}
