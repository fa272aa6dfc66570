package badinput

import (
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
)

// TestBadTransactions: each is refused with words that tell why, by both methods that take a transaction, and leaves nothing
// in the pool.
func TestBadTransactions(t *testing.T) {
	home := newHome(t)
	n := process.Dev(t, binary, home)
	var c canary
	c.sing(t, n)
	to := common.HexToAddress("0x70")
	receipt, err := submit(n, transfer(senderKey, 0, to))
	require.NoError(t, err)
	require.Equal(t, types.ReceiptStatusSuccessful, receipt.Status)

	legacy := func(change func(*types.LegacyTx)) string {
		tx := &types.LegacyTx{Nonce: 1, To: &to, Value: common.Big1, Gas: 21000, GasPrice: new(big.Int)}
		change(tx)
		return encode(types.MustSignNewTx(senderKey, signer, tx))
	}
	dynamic := func(change func(*types.DynamicFeeTx)) string {
		tx := &types.DynamicFeeTx{ChainID: big.NewInt(process.ChainID), Nonce: 1, To: &to, Value: common.Big1, Gas: 21000, GasFeeCap: new(big.Int), GasTipCap: new(big.Int)}
		change(tx)
		return encode(types.MustSignNewTx(senderKey, types.LatestSignerForChainID(tx.ChainID), tx))
	}
	good := dynamic(func(*types.DynamicFeeTx) {})
	goodBytes := hexutil.MustDecode(good)
	withType := func(kind byte) string {
		raw := append([]byte{}, goodBytes...)
		raw[0] = kind
		return hexutil.Encode(raw)
	}
	ether := func(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(params.Ether)) }
	otherSigner := types.LatestSignerForChainID(big.NewInt(1))
	cases := []struct {
		name, raw string
		code      int
		words     string
	}{
		{"nothing", "0x", -32000, "malformed transaction"},
		{"an odd digit", "0x123", -32602, "hex string of odd length"},
		{"no prefix", strings.TrimPrefix(good, "0x"), -32602, "hex string without 0x prefix"},
		{"not hex", "0xzz", -32602, "invalid hex string"},
		{"RLP of a string", "0x83636174", -32000, ""},
		{"RLP of an empty list", "0xc0", -32000, "malformed transaction"},
		{"RLP list that ends early", "0xf86c", -32000, "malformed transaction"},
		{"RLP that promises 2^63 bytes", "0xff7fffffffffffffff", -32000, "malformed transaction"},
		{"bytes after the end", good + "00", -32000, "malformed transaction"},
		{"type byte alone", "0x02", -32000, "malformed transaction"},
		{"typed, cut in the middle", hexutil.Encode(goodBytes[:len(goodBytes)/2]), -32000, "malformed transaction"},
		{"typed, last byte missing", hexutil.Encode(goodBytes[:len(goodBytes)-1]), -32000, "malformed transaction"},
		{"type of another shape", withType(1), -32000, "malformed transaction"},
		{"type of the future", withType(0x7e), -32000, "transaction type not supported"},
		{"blob", encode(types.MustSignNewTx(senderKey, signer, &types.BlobTx{ChainID: uint256.NewInt(process.ChainID), Nonce: 1, To: to, Gas: 21000, BlobHashes: []common.Hash{{1}}})),
			-32000, "blob transactions"},

		{"other chain, typed", dynamic(func(tx *types.DynamicFeeTx) { tx.ChainID = common.Big1 }), -32000, "invalid sender"},
		{"other chain, legacy", encode(types.MustSignNewTx(senderKey, otherSigner, &types.LegacyTx{Nonce: 1, To: &to, Gas: 21000, GasPrice: new(big.Int)})), -32000, "invalid sender"},
		{"unprotected", encode(types.MustSignNewTx(senderKey, types.HomesteadSigner{}, &types.LegacyTx{Nonce: 1, To: &to, Gas: 21000, GasPrice: new(big.Int)})), -32000, "only replay-protected (EIP-155) transactions allowed"},
		{"no signature", encode(types.NewTx(&types.DynamicFeeTx{ChainID: big.NewInt(process.ChainID), Nonce: 1, To: &to, Gas: 21000})), -32000, "invalid sender"},

		{"nonce used", legacy(func(tx *types.LegacyTx) { tx.Nonce = 0 }), -32000, "nonce too low: next nonce 1, tx nonce 0"},
		{"nonce at its end", legacy(func(tx *types.LegacyTx) { tx.Nonce = 1<<64 - 1 }), -32000, "nonce has max value"},
		{"more than it has", legacy(func(tx *types.LegacyTx) { tx.Value = ether(10_001) }), -32000, "insufficient funds for gas * price + value"},
		{"fee that it does not have", legacy(func(tx *types.LegacyTx) { tx.GasPrice = ether(1) }), -32000, "insufficient funds for gas * price + value"},
		{"owns nothing", encode(transfer(poor("owns nothing"), 0, to)), -32000, "insufficient funds for gas * price + value"},
		{"tip above the cap", dynamic(func(tx *types.DynamicFeeTx) { tx.GasTipCap = common.Big1 }), -32000, "max priority fee per gas higher than max fee per gas"},
		{"too little gas", legacy(func(tx *types.LegacyTx) { tx.Gas = 20_999 }), -32000, "intrinsic gas too low"},
		{"too little gas for its data", legacy(func(tx *types.LegacyTx) { tx.Gas, tx.Data = 21_000+16*100, noise("data", 100) }), -32000, "insufficient gas for floor data gas cost"},
		{"more gas than a block", legacy(func(tx *types.LegacyTx) { tx.Gas = 1 << 40 }), -32000, "transaction gas limit too high"},
		{"more gas than EIP-7825 allows", legacy(func(tx *types.LegacyTx) { tx.Gas = 1<<24 + 1 }), -32000, "transaction gas limit too high"},
		{"init code too large", legacy(func(tx *types.LegacyTx) { tx.To, tx.Gas, tx.Data = nil, 1<<24, make([]byte, params.MaxInitCodeSize+1) }), -32000, "max initcode size exceeded"},
		{"larger than 128 KiB", legacy(func(tx *types.LegacyTx) { tx.Gas, tx.Data = 1<<24, make([]byte, 128<<10) }), -32000, "transaction too large"},
		{"no authorization in a 7702", encode(types.MustSignNewTx(senderKey, signer, &types.SetCodeTx{ChainID: uint256.NewInt(process.ChainID), Nonce: 1, To: to, Gas: 100_000})), -32000, "set code tx must have at least one authorization tuple"},
	}
	for _, tc := range cases {
		for _, method := range []string{"eth_sendRawTransaction", "eth_sendRawTransactionSync"} {
			t.Run(tc.name+"/"+method, func(t *testing.T) {
				call(t, n, method, tc.raw).refused(t, tc.code, tc.words)
			})
		}
		c.sing(t, n)
	}
	require.JSONEq(t, `{"pending":"0x0","queued":"0x0"}`, string(call(t, n, "txpool_status").Result), "what was refused is in the pool")

	// What is refused for a reason that passes is taken once the reason has passed.
	require.Empty(t, call(t, n, "eth_sendRawTransactionSync", good).Error, "the transaction that all of these were made from")
	c.remembers(t, n)
	n.Kill()
	n = process.Dev(t, binary, home)
	c.remembers(t, n)
	c.sing(t, n)
	n.Terminate(t)
}

// TestNonces: a gap is queued, told about, and executed once it is filled; a replacement has to pay more.
func TestNonces(t *testing.T) {
	n := process.Dev(t, binary, newHome(t))
	var c canary
	to := common.HexToAddress("0x71")
	price := func(nonce uint64, wei int64) *types.Transaction {
		return types.MustSignNewTx(senderKey, signer, &types.LegacyTx{Nonce: nonce, To: &to, Value: common.Big1, Gas: 21000, GasPrice: big.NewInt(wei)})
	}
	status := func(tx *types.Transaction) string {
		return string(call(t, n, "ledger_transactionStatus", tx.Hash()).Result)
	}
	var gapped []*types.Transaction
	for nonce := uint64(1); nonce <= 5; nonce++ {
		tx := price(nonce, 100)
		gapped = append(gapped, tx)
		require.Nil(t, call(t, n, "eth_sendRawTransaction", encode(tx)).Error)
	}
	require.JSONEq(t, `{"status":"pending"}`, status(gapped[0]))
	require.JSONEq(t, `{"pending":"0x0","queued":"0x5"}`, string(call(t, n, "txpool_status").Result))
	require.JSONEq(t, `"0x0"`, string(call(t, n, "eth_getTransactionCount", addressOf(senderKey), "pending").Result), "none is executable")

	call(t, n, "eth_sendRawTransaction", encode(gapped[2])).refused(t, -32000, "already known")
	call(t, n, "eth_sendRawTransactionSync", encode(gapped[2]), "0x1").refused(t, -32000, "already known")
	call(t, n, "eth_sendRawTransaction", encode(price(3, 109))).refused(t, -32000, "replacement transaction underpriced")
	replaced, better := gapped[2], price(3, 110)
	require.Nil(t, call(t, n, "eth_sendRawTransaction", encode(better)).Error)
	gapped[2] = better
	require.JSONEq(t, `{"status":"dropped","reason":"replaced by `+better.Hash().Hex()+`"}`, status(replaced))
	a := call(t, n, "eth_sendRawTransactionSync", encode(price(7, 100)), 50)
	a.refused(t, 4, "wasn't processed in 50ms")
	require.JSONEq(t, `"`+price(7, 100).Hash().Hex()+`"`, string(a.Error.Data), "the hash, to ask for later")
	c.sing(t, n)

	receipt, err := submit(n, price(0, 100))
	require.NoError(t, err)
	require.Equal(t, types.ReceiptStatusSuccessful, receipt.Status)
	eventually(t, "the queued transactions are executed once the gap is filled", func() bool {
		nonce, err := n.Client.NonceAt(t.Context(), addressOf(senderKey), nil)
		require.NoError(t, err)
		return nonce == 6
	})
	for _, tx := range gapped {
		require.Contains(t, status(tx), `"status":"included"`)
	}
	require.Nil(t, call(t, n, "eth_sendRawTransaction", encode(price(6, 100))).Error)
	eventually(t, "the one after the second gap too", func() bool {
		return strings.Contains(status(price(7, 100)), "included")
	})
	call(t, n, "eth_sendRawTransaction", encode(price(7, 200))).refused(t, -32000, "nonce too low: next nonce 8, tx nonce 7")
	balance, err := n.Client.BalanceAt(t.Context(), to, nil)
	require.NoError(t, err)
	require.EqualValues(t, 8, balance.Uint64(), "each executed once")
	c.sing(t, n)
	c.remembers(t, n)
	n.Terminate(t)
}
