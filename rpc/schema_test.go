package rpc

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// schemas are the result schemas of testdata, compiled.
type schemas map[string]*jsonschema.Schema

func loadSchemas(t *testing.T) schemas {
	t.Helper()
	return loadSchemasFrom(t, "testdata/openrpc-results.json.gz")
}

func loadSchemasFrom(t *testing.T, file string) schemas {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(z)
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	out := make(schemas)
	for method, schema := range document.(map[string]any) {
		if strings.HasPrefix(method, "eth_getFilter") || method == "eth_getLogs" {
			anyOf(schema) // an empty list is of both forms
		}
		require.NoError(t, compiler.AddResource("spec:"+method, schema))
		out[method], err = compiler.Compile("spec:" + method)
		require.NoError(t, err, method)
	}
	return out
}

func anyOf(schema any) {
	object := schema.(map[string]any)
	object["anyOf"] = object["oneOf"]
	delete(object, "oneOf")
}

func (s schemas) check(t *testing.T, method string, result json.RawMessage) {
	t.Helper()
	schema := s[method]
	require.NotNil(t, schema, "no schema for %s", method)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(result))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(value), "%s\n%s", method, result)
}

// allTypes is one transaction of each type, and a contract creation.
func allTypes() []*types.Transaction {
	fee, id := big.NewInt(params.GWei), big.NewInt(testChainID)
	list := types.AccessList{{Address: emitter, StorageKeys: []common.Hash{{}}}, {Address: bob.address}}
	authorization, err := types.SignSetCode(delegator.key, types.SetCodeAuthorization{ChainID: *uint256.NewInt(testChainID), Address: emitter})
	if err != nil {
		panic(err)
	}
	word := common.Hash{1}
	return []*types.Transaction{
		alice.sign(&types.LegacyTx{Nonce: 0, To: &emitter, Gas: 100_000, GasPrice: fee, Data: word[:]}),
		alice.sign(&types.AccessListTx{ChainID: id, Nonce: 1, To: &emitter, Gas: 100_000, GasPrice: fee, Data: word[:], AccessList: list}),
		alice.sign(&types.DynamicFeeTx{ChainID: id, Nonce: 2, To: &bob.address, Gas: 30_000, GasFeeCap: fee, GasTipCap: big.NewInt(3), Value: big.NewInt(1)}),
		alice.sign(&types.SetCodeTx{ChainID: uint256.MustFromBig(id), Nonce: 3, To: pauper.address, Gas: 100_000,
			GasFeeCap: uint256.MustFromBig(fee), GasTipCap: uint256.NewInt(1), AuthList: []types.SetCodeAuthorization{authorization}}),
		alice.sign(&types.DynamicFeeTx{ChainID: id, Nonce: 4, Gas: 200_000, GasFeeCap: fee, GasTipCap: new(big.Int),
			Data: []byte{0x60, 0x00, 0x5f, 0xf3}}), // RETURN(0, 0)
		alice.sign(&types.LegacyTx{Nonce: 5, To: &emitter, Gas: 100_000, GasPrice: fee}), // reverts
	}
}

// TestAnswersHaveTheSpecifiedShape calls every method that execution-apis specifies and this package has.
func TestAnswersHaveTheSpecifiedShape(t *testing.T) {
	s := loadSchemas(t)
	n := startNode(t, Options{KeyStore: fakeKeys{alice}})
	own, recorded := n.ownSchemas(t), newExchanges(n)
	c := n.dial(t, "http")
	block := n.mine(allTypes()...)
	txs := block.Transactions()
	n.mine(alice.transfer(6))
	require.NoError(t, fakePool{n.fakeChain}.Add(alice.transfer(7)))
	require.NoError(t, fakePool{n.fakeChain}.Add(alice.transfer(9)))
	logFilter := call(t, c, "eth_newFilter", map[string]any{"fromBlock": "earliest"})
	blockFilter := call(t, c, "eth_newBlockFilter")
	n.mine(alice.emit(7, common.Hash{2}))
	object := map[string]any{"from": alice.address, "to": bob.address, "value": "0x1"}
	emit := map[string]any{"from": alice.address, "to": emitter, "input": common.Hash{2}}
	full := map[string]any{"from": alice.address, "to": bob.address, "gas": "0x5208", "gasPrice": "0x10", "nonce": "0x20"}

	checked := make(map[string]bool)
	check := func(method string, args ...any) {
		t.Helper()
		answer := recorded.ask(t, method, args...)
		s.check(t, method, answer)
		own.check(t, method, answer)
		checked[method] = true
	}
	check("eth_accounts")
	check("eth_baseFee")
	check("eth_blobBaseFee")
	check("eth_blockNumber")
	check("eth_chainId")
	check("eth_gasPrice")
	check("eth_maxPriorityFeePerGas")
	check("eth_syncing")
	check("net_version")
	check("eth_call", emit, "latest")
	check("eth_estimateGas", emit)
	check("eth_feeHistory", "0x3", "latest", []float64{10, 50})
	check("eth_feeHistory", 2, "0x1", []float64{})
	check("eth_feeHistory", 0, "latest", nil)
	check("eth_getBalance", alice.address, "latest")
	check("eth_getCode", emitter, "latest")
	check("eth_getCode", pauper.address, "latest")
	check("eth_getStorageAt", emitter, "0x0", "latest")
	check("eth_getTransactionCount", alice.address, "pending")
	for _, number := range []string{"earliest", "0x1", "latest", "pending", "safe", "finalized", "0x99"} {
		for _, full := range []bool{false, true} {
			check("eth_getBlockByNumber", number, full)
		}
		check("eth_getBlockTransactionCountByNumber", number)
		check("eth_getBlockReceipts", number)
	}
	check("eth_getBlockByHash", block.Hash(), true)
	check("eth_getBlockByHash", common.Hash{9}, true)
	check("eth_getBlockTransactionCountByHash", block.Hash())
	for i, tx := range txs {
		check("eth_getTransactionByHash", tx.Hash())
		check("eth_getTransactionReceipt", tx.Hash())
		check("eth_getTransactionByBlockHashAndIndex", block.Hash(), hexutil.Uint(i))
		check("eth_getTransactionByBlockNumberAndIndex", "0x1", hexutil.Uint(i))
	}
	check("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x63")
	check("eth_getTransactionReceipt", common.Hash{9})
	check("eth_getLogs", map[string]any{"fromBlock": "0x0", "address": emitter})
	check("eth_getLogs", map[string]any{"blockHash": block.Hash(), "topics": []any{nil}})
	check("eth_getLogs", map[string]any{"topics": []any{common.Hash{9}}})
	s.check(t, "eth_newFilter", logFilter)
	checked["eth_newFilter"] = true
	s.check(t, "eth_newBlockFilter", blockFilter)
	checked["eth_newBlockFilter"] = true
	check("eth_newPendingTransactionFilter")
	check("eth_getFilterLogs", logFilter)
	check("eth_getFilterChanges", logFilter)
	check("eth_getFilterChanges", logFilter) // empty by now
	check("eth_getFilterChanges", blockFilter)
	check("eth_uninstallFilter", blockFilter)
	check("txpool_content")
	check("txpool_contentFrom", alice.address)
	check("txpool_status")
	check("eth_sign", alice.address, "0xdeadbeef")
	check("eth_signTransaction", full)
	check("eth_fillTransaction", object)
	check("eth_sendTransaction", object)
	raw, err := alice.transfer(11).MarshalBinary()
	require.NoError(t, err)
	check("eth_sendRawTransaction", hexutil.Bytes(raw))
	check("eth_capabilities")
	check("eth_coinbase")
	check("eth_config")
	check("eth_createAccessList", emit, "latest")
	check("eth_getBlockAccessList", "0x99")
	check("eth_getProof", emitter, []string{"0x0", common.Hash{1}.Hex()}, "latest")
	check("eth_getProof", pauper.address, []string{"0x0"}, "latest")
	check("eth_getStorageValues", map[string]any{emitter.Hex(): []common.Hash{{}, {1}}}, "latest")
	for _, full := range []bool{false, true} {
		check("eth_simulateV1", map[string]any{"blockStateCalls": []any{
			map[string]any{"calls": []any{emit, map[string]any{"to": emitter}, map[string]any{"input": "0x5f5ff3"}}}, map[string]any{},
		}, "returnFullTransactions": full, "traceTransfers": true}, "latest")
	}
	recorded.noOthers(t, "eth", "txpool")
	for method := range s {
		require.True(t, checked[method], "%s is in testdata and was not checked", method)
	}
}

// TestOneFormForEachThing is invariant 3: the same bytes for the same block, transaction, receipt and log by every path.
func TestOneFormForEachThing(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "ws")
	heads, logs, receipts := make(chan map[string]any, 1), make(chan map[string]any, 9), make(chan []map[string]any, 1)
	for _, subscribe := range []func() (*gethrpc.ClientSubscription, error){
		func() (*gethrpc.ClientSubscription, error) { return c.EthSubscribe(t.Context(), heads, "newHeads") },
		func() (*gethrpc.ClientSubscription, error) {
			return c.EthSubscribe(t.Context(), logs, "logs", map[string]any{})
		},
		func() (*gethrpc.ClientSubscription, error) {
			return c.EthSubscribe(t.Context(), receipts, "transactionReceipts")
		},
	} {
		sub, err := subscribe()
		require.NoError(t, err)
		defer sub.Unsubscribe()
	}
	b := n.mine(allTypes()...)
	get := func(v any, method string, args ...any) {
		t.Helper()
		require.NoError(t, json.Unmarshal(call(t, c, method, args...), v))
	}
	var byNumber, byHash, header map[string]any
	get(&byNumber, "eth_getBlockByNumber", "0x1", true)
	get(&byHash, "eth_getBlockByHash", b.Hash(), true)
	get(&header, "eth_getHeaderByHash", b.Hash())
	require.Equal(t, byNumber, byHash)
	require.Equal(t, header, receive(t, heads))
	for field, value := range header {
		require.Equal(t, value, byNumber[field], field)
	}
	require.Equal(t, b.Hash().Hex(), header["hash"])
	require.Equal(t, "0x1", header["epoch"])
	require.Equal(t, "local", header["engine"])
	require.Equal(t, "0x2", header["logSequenceNumber"])
	require.Equal(t, hexutil.EncodeUint64((genesisTime+1)*1000+123), header["milliTimestamp"])
	require.Equal(t, []any{}, byNumber["withdrawals"])
	require.NotContains(t, header, "totalDifficulty")

	var ofBlock []map[string]any
	get(&ofBlock, "eth_getBlockReceipts", "0x1")
	require.Equal(t, ofBlock, receive(t, receipts))
	var found []map[string]any
	get(&found, "eth_getLogs", map[string]any{"fromBlock": "0x1"})
	for i, tr := range b.Transactions() {
		var tx map[string]any
		get(&tx, "eth_getTransactionByHash", tr.Hash())
		require.Equal(t, byNumber["transactions"].([]any)[i], any(tx))
		var receipt map[string]any
		get(&receipt, "eth_getTransactionReceipt", tr.Hash())
		require.Equal(t, ofBlock[i], receipt)
		require.Equal(t, tx["gasPrice"], receipt["effectiveGasPrice"])
		for _, l := range receipt["logs"].([]any) {
			require.Equal(t, l, any(found[0]))
			require.Equal(t, l, any(receive(t, logs)))
			require.Equal(t, byNumber["timestamp"], found[0]["blockTimestamp"])
			found = found[1:]
		}
	}
	require.Empty(t, found)
	created := ofBlock[4]
	require.Nil(t, created["to"])
	require.NotNil(t, created["contractAddress"])
	require.Equal(t, "0x0", ofBlock[5]["status"])
	require.Nil(t, ofBlock[5]["contractAddress"])
}
