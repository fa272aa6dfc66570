package rpc

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/stretchr/testify/require"

	logconsensus "ledgerd/consensus"
)

// TestClientLibrary drives the server with go-ethereum's client, which checks what it gets: a block's hash against its fields,
// a body against the header's roots, and every field that it needs.
func TestClientLibrary(t *testing.T) {
	n := startNode(t, Options{Network: fakeNetwork(3)})
	c := n.ethclient(t)
	ctx := t.Context()
	mined := n.mine(allTypes()...)

	b, err := c.BlockByNumber(ctx, big.NewInt(1))
	require.NoError(t, err)
	require.Equal(t, mined.Hash(), b.Hash())
	require.Equal(t, types.DeriveSha(mined.Transactions(), trie.NewStackTrie(nil)), types.DeriveSha(b.Transactions(), trie.NewStackTrie(nil)))
	for i, tx := range mined.Transactions() {
		got, pending, err := c.TransactionByHash(ctx, tx.Hash())
		require.NoError(t, err)
		require.False(t, pending)
		require.Equal(t, tx.Hash(), got.Hash())
		r, err := c.TransactionReceipt(ctx, tx.Hash())
		require.NoError(t, err)
		require.Equal(t, uint(i), r.TransactionIndex)
		sender, err := c.TransactionSender(ctx, got, b.Hash(), uint(i))
		require.NoError(t, err)
		require.Equal(t, alice.address, sender)
	}
	genesis, err := c.HeaderByNumber(ctx, new(big.Int))
	require.NoError(t, err)
	require.Equal(t, n.BlockByNumber(0).Hash(), genesis.Hash())
	id, err := c.NetworkID(ctx)
	require.NoError(t, err)
	require.EqualValues(t, testChainID, id.Int64())
	peers, err := c.PeerCount(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 3, peers)
	progress, err := c.SyncProgress(ctx)
	require.NoError(t, err)
	require.Nil(t, progress)
	history, err := c.FeeHistory(ctx, 2, nil, []float64{0, 100})
	require.NoError(t, err)
	require.Len(t, history.BaseFee, 3)
	require.Len(t, history.GasUsedRatio, 2)
	require.Equal(t, "[[0 0] [0 999999993]]", fmt.Sprint(history.Reward))
	for _, fee := range history.BaseFee {
		require.EqualValues(t, testBaseFee, fee.Int64())
	}
	gas, err := c.EstimateGas(ctx, ethereum.CallMsg{From: alice.address, To: &bob.address, Value: big.NewInt(1)})
	require.NoError(t, err)
	require.GreaterOrEqual(t, gas, uint64(21_000))
	require.NoError(t, c.SendTransaction(ctx, alice.transfer(6)))
	_, pending, err := c.TransactionByHash(ctx, alice.transfer(6).Hash())
	require.NoError(t, err)
	require.True(t, pending)
}

// TestAnswers is a table of requests and their exact results.
func TestAnswers(t *testing.T) {
	n := startNode(t, Options{Version: "v1.2.3"})
	c := n.dial(t, "http")
	pool := fakePool{n.fakeChain}
	topic := common.HexToHash("0x11")
	block := n.mine(alice.emit(0, topic))
	n.mine(alice.transfer(1))
	for _, nonce := range []uint64{2, 3, 5} {
		require.NoError(t, pool.Add(alice.transfer(nonce)))
	}
	at := func(ref any) []any { return []any{alice.address, ref} }
	for _, tc := range []struct {
		method string
		args   []any
		want   string
	}{
		{"web3_sha3", []any{"0x"}, `"0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"`},
		{"net_version", nil, `"1337"`},
		{"net_listening", nil, `true`},
		{"net_peerCount", nil, `"0x0"`},
		{"eth_chainId", nil, `"0x539"`},
		{"eth_blockNumber", nil, `"0x2"`},
		{"eth_gasPrice", nil, `"0x7"`},
		{"eth_baseFee", nil, `"0x7"`},
		{"eth_maxPriorityFeePerGas", nil, `"0x0"`},
		{"eth_blobBaseFee", nil, `"0x1"`},
		{"eth_syncing", nil, `false`},
		{"eth_accounts", nil, `[]`},

		// The tags, and what EIP-1898 allows.
		{"eth_getTransactionCount", at("earliest"), `"0x0"`},
		{"eth_getTransactionCount", at("0x1"), `"0x1"`},
		{"eth_getTransactionCount", at("latest"), `"0x2"`},
		{"eth_getTransactionCount", at("safe"), `"0x2"`},
		{"eth_getTransactionCount", at("finalized"), `"0x2"`},
		{"eth_getTransactionCount", at("pending"), `"0x4"`},
		{"eth_getTransactionCount", []any{alice.address}, `"0x2"`},
		{"eth_getTransactionCount", at(block.Hash()), `"0x1"`},
		{"eth_getTransactionCount", at(map[string]any{"blockNumber": "0x1"}), `"0x1"`},
		{"eth_getTransactionCount", at(map[string]any{"blockHash": block.Hash(), "requireCanonical": true}), `"0x1"`},
		{"eth_getStorageAt", []any{emitter, "0x0", "latest"}, fmt.Sprintf("%q", topic)},
		{"eth_getStorageAt", []any{emitter, "0x", "0x0"}, fmt.Sprintf("%q", common.Hash{})},
		{"eth_getCode", []any{emitter, "latest"}, fmt.Sprintf("%q", hexutil.Encode(emitterCode))},
		{"eth_getCode", []any{pauper.address, "latest"}, `"0x"`},
		{"eth_getBalance", []any{pauper.address, "latest"}, `"0x0"`},

		// What does not exist is null (invariant 4).
		{"eth_getBlockByNumber", []any{"0x3", false}, `null`},
		{"eth_getBlockByHash", []any{common.Hash{1}, false}, `null`},
		{"eth_getHeaderByNumber", []any{"0x3"}, `null`},
		{"eth_getTransactionByHash", []any{common.Hash{1}}, `null`},
		{"eth_getTransactionReceipt", []any{common.Hash{1}}, `null`},
		{"eth_getTransactionReceipt", []any{alice.transfer(2).Hash()}, `null`},
		{"eth_getTransactionByBlockNumberAndIndex", []any{"0x1", "0x1"}, `null`},
		{"eth_getTransactionByBlockHashAndIndex", []any{common.Hash{1}, "0x0"}, `null`},
		{"eth_getBlockTransactionCountByNumber", []any{"0x3"}, `null`},
		{"eth_getBlockTransactionCountByHash", []any{common.Hash{1}}, `null`},
		{"eth_getBlockReceipts", []any{"0x3"}, `null`},
		{"eth_getBlockReceipts", []any{common.Hash{1}}, `null`},
		{"eth_getUncleByBlockNumberAndIndex", []any{"0x1", "0x0"}, `null`},
		{"eth_getUncleCountByBlockNumber", []any{"0x1"}, `"0x0"`},
		{"eth_getUncleCountByBlockNumber", []any{"0x3"}, `null`},
		{"eth_getRawTransactionByHash", []any{common.Hash{1}}, `"0x"`},
		{"eth_getBlockReceipts", []any{"0x0"}, `[]`},
		{"eth_getBlockTransactionCountByNumber", []any{"0x0"}, `"0x0"`},
		{"eth_getLogs", []any{map[string]any{"fromBlock": "0x2"}}, `[]`},

		// Executing.
		{"eth_call", []any{map[string]any{"to": emitter, "data": topic}}, fmt.Sprintf("%q", topic)},
		{"eth_call", []any{map[string]any{"to": emitter, "input": topic, "data": "0x00"}, "latest"}, fmt.Sprintf("%q", topic)},
		{"eth_call", []any{map[string]any{"to": pauper.address}, "latest", map[string]any{
			pauper.address.Hex(): map[string]any{"code": "0x445f5260205ff3"}}, // PREVRANDAO, stored and returned
			map[string]any{"prevRandao": topic}}, fmt.Sprintf("%q", topic)},
		{"txpool_status", nil, `{"pending":"0x2","queued":"0x1"}`},
		{"txpool_inspect", nil, fmt.Sprintf(`{"pending":{%q:{"2":"nonce 2","3":"nonce 3"}},"queued":{%q:{"5":"nonce 5"}}}`, alice.address, alice.address)},

		{"log_tail", nil, `"0x5"`},
		{"log_tail", []any{"fast"}, `"0x5"`},
		{"ledger_transactionStatus", []any{common.Hash{1}}, `{"status":"unknown"}`},
		{"ledger_transactionStatus", []any{alice.transfer(2).Hash()}, `{"status":"pending"}`},
		{"ledger_transactionStatus", []any{block.Transactions()[0].Hash()}, fmt.Sprintf(`{"status":"included","blockHash":%q}`, block.Hash())},
		{"eth_feeHistory", []any{"0x0", "latest", nil},
			`{"oldestBlock":"0x0","baseFeePerGas":[],"gasUsedRatio":[],"baseFeePerBlobGas":[],"blobGasUsedRatio":[]}`},
	} {
		t.Run(tc.method, func(t *testing.T) {
			require.Equal(t, tc.want, string(call(t, c, tc.method, tc.args...)))
		})
	}
	require.Regexp(t, `^"ledgerd/v1\.2\.3/[a-z0-9]+-[a-z0-9]+/go1\..*"$`, string(call(t, c, "web3_clientVersion")))

	var pending, latest map[string]any
	require.NoError(t, json.Unmarshal(call(t, c, "eth_getBlockByNumber", "pending", false), &pending))
	require.NoError(t, json.Unmarshal(call(t, c, "eth_getBlockByNumber", "latest", false), &latest))
	require.Equal(t, latest, pending)

	n.mu.Lock()
	n.behind = 100
	n.mu.Unlock()
	require.Equal(t, `{"startingBlock":"0x0","currentBlock":"0x2","highestBlock":"0x66"}`, string(call(t, c, "eth_syncing")))
}

// TestErrors is a table of requests and the exact error of each: tools match codes and texts.
func TestErrors(t *testing.T) {
	n := startNode(t, Options{MaxLogBlocks: 3, MaxLogs: 2, MaxLogReadEntries: 10})
	c := n.dial(t, "http")
	for i := range 5 {
		n.mine(alice.emit(uint64(2*i), common.Hash{1}), alice.emit(uint64(2*i+1), common.Hash{2}))
	}
	raw := func(tx *types.Transaction) hexutil.Bytes {
		b, err := tx.MarshalBinary()
		require.NoError(t, err)
		return b
	}
	unprotected, err := types.SignTx(types.NewTx(&types.LegacyTx{Gas: 21000, To: &bob.address, GasPrice: big.NewInt(9)}), types.HomesteadSigner{}, alice.key)
	require.NoError(t, err)
	logs := func(kv ...any) []any {
		q := make(map[string]any)
		for i := 0; i < len(kv); i += 2 {
			q[kv[i].(string)] = kv[i+1]
		}
		return []any{q}
	}
	const unknownHash = "0x0100000000000000000000000000000000000000000000000000000000000000"
	for _, tc := range []struct {
		method  string
		args    []any
		code    int
		message string
		data    any
	}{
		{"hardhat_metadata", nil, -32601, "the method hardhat_metadata does not exist/is not available", nil},
		{"eth_foo", nil, -32601, "the method eth_foo does not exist/is not available", nil},
		{"eth_subscribe", []any{"newHeads"}, -32601, "notifications not supported", nil},
		{"eth_getBalance", nil, -32602, "missing value for required argument 0", nil},
		{"eth_getBalance", []any{"0x12"}, -32602, "invalid argument 0: hex string has length 2, want 40 for common.Address", nil},
		{"eth_chainId", []any{1}, -32602, "too many arguments, want at most 0", nil},

		{"eth_getBalance", []any{alice.address, "0x63"}, -32000, "header not found", nil},
		{"eth_getBalance", []any{alice.address, unknownHash}, -32000, "header for hash not found", nil},
		{"eth_call", []any{map[string]any{"to": emitter}, "0x63"}, -32000, "header not found", nil},
		{"eth_getStorageAt", []any{emitter, "0x" + strings.Repeat("0", 66), "latest"}, -32602,
			fmt.Sprintf("storage key too long (want at most 32 bytes): %q", "0x"+strings.Repeat("0", 66)), nil},
		{"eth_getStorageAt", []any{emitter, "0xzz", "latest"}, -32602, `invalid hex in storage key: "0xzz"`, nil},

		{"eth_call", []any{map[string]any{"to": emitter}}, 3, "execution reverted: no topic", hexutil.Encode(revertData)},
		{"eth_estimateGas", []any{map[string]any{"to": emitter}}, 3, "execution reverted: no topic", hexutil.Encode(revertData)},
		{"eth_call", []any{map[string]any{"to": emitter, "data": "0x00"}}, -32000, "out of gas", nil},
		{"eth_call", []any{map[string]any{"to": emitter, "gasPrice": "0x1", "maxFeePerGas": "0x1"}}, -32602,
			"both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified", nil},
		{"eth_call", []any{map[string]any{"to": emitter, "chainId": "0x1"}}, -32602, "chainId does not match node's (have=1, want=1337)", nil},
		{"eth_call", []any{map[string]any{"to": emitter, "value": "0x1" + strings.Repeat("0", 64)}}, -32602,
			"invalid argument 0: json: cannot unmarshal hex number > 256 bits into Go struct field callArgs.value of type *hexutil.Big", nil},

		{"eth_getLogs", logs("fromBlock", "0x2", "toBlock", "0x1"), -32602, "invalid block range params", nil},
		{"eth_getLogs", logs("fromBlock", "0x4", "toBlock", "0x63"), -32602, "block range extends beyond current head block", nil},
		{"eth_getLogs", logs("fromBlock", "pending"), -32602, "pending logs are not supported", nil},
		{"eth_getLogs", logs("blockHash", unknownHash), -32000, "unknown block", nil},
		{"eth_getLogs", logs("fromBlock", "0x1"), -32005, "query exceeds max block range 3. Try with this block range [0x1, 0x3].",
			map[string]any{"from": "0x1", "to": "0x3"}},
		{"eth_getLogs", logs("fromBlock", "0x3"), -32005, "query returned more than 2 results. Try with this block range [0x3, 0x3].",
			map[string]any{"from": "0x3", "to": "0x3"}},
		{"eth_newFilter", logs("fromBlock", "0x2", "toBlock", "0x1"), -32602, "invalid block range params", nil},
		{"eth_getFilterChanges", []any{"0x1"}, -32000, "filter not found", nil},
		{"eth_getFilterLogs", []any{"0x1"}, -32000, "filter not found", nil},
		{"eth_feeHistory", []any{1, "0x63", nil}, -32000, "request beyond head block: requested 99, head 5", nil},
		{"eth_feeHistory", []any{1, "latest", []float64{101}}, -32000, "invalid reward percentile: 101.000000", nil},
		{"eth_feeHistory", []any{1, "latest", []float64{5, 5}}, -32000, "invalid reward percentile: #0:5.000000 >= #1:5.000000", nil},

		{"eth_sendRawTransaction", []any{raw(alice.transfer(0))}, -32000, core.ErrNonceTooLow.Error(), nil},
		{"eth_sendRawTransaction", []any{raw(unprotected)}, -32000, "only replay-protected (EIP-155) transactions allowed over RPC", nil},
		{"eth_sendRawTransaction", []any{"0x03"}, -32000, "blob transactions are not supported", nil},
		{"eth_sendRawTransactionSync", []any{raw(alice.transfer(0))}, -32000, core.ErrNonceTooLow.Error(), nil},
		{"eth_sendTransaction", []any{map[string]any{"from": alice.address, "to": bob.address}}, -32000, "unknown account", nil},
		{"eth_sign", []any{alice.address, "0x00"}, -32000, "unknown account", nil},
		{"eth_signTransaction", []any{map[string]any{"from": alice.address}}, -32000, "gas not specified", nil},

		{"log_read", []any{0, 1}, -32602, "empty range [0, 1): LSNs start at 1", nil},
		{"log_read", []any{"0x1", "0x2"}, 4444, "trimmed", nil},
		{"log_read", []any{9, 99}, -32001, "unwritten", nil},
		{"log_tail", []any{"slow"}, -32602, `consistency is "slow", want "consistent" or "fast"`, nil},
		{"log_reconfigure", []any{"0x", []any{}}, -32602, "request: invalid: 1 bytes wanted, 0 left", nil},
		{"log_reconfigure", []any{logRequest(2), []any{}}, -32602, "epoch 2: invalid: not signed", nil},
		{"log_reconfigure", []any{logRequest(3), []any{map[string]string{"key": "0x01", "signature": "0x"}}}, -32602,
			"signature 0: a key of 1 bytes and a signature of 0; want 32 and 64", nil},
	} {
		t.Run(tc.method, func(t *testing.T) {
			code, message, data := callError(t, c, tc.method, tc.args...)
			require.Equal(t, tc.code, code, message)
			require.Equal(t, tc.message, message)
			require.Equal(t, tc.data, data)
		})
	}
}

// TestPoolErrorsReachTheClient: the pool's errors keep their texts, wrapped or not, and get -32000.
func TestPoolErrorsReachTheClient(t *testing.T) {
	n := startNode(t, Options{})
	c := n.ethclient(t)
	for _, refuse := range []error{
		txpool.ErrAlreadyKnown, txpool.ErrReplaceUnderpriced, core.ErrInsufficientFunds,
		fmt.Errorf("%w: balance 0, tx cost 1, overshot 1", core.ErrInsufficientFunds),
	} {
		n.mu.Lock()
		n.refuse = refuse
		n.mu.Unlock()
		err := c.SendTransaction(t.Context(), alice.transfer(0))
		require.EqualError(t, err, refuse.Error())
		require.Equal(t, -32000, err.(gethrpc.Error).ErrorCode())
	}
}

func TestSendRawTransactionSync(t *testing.T) {
	n := startNode(t, Options{MaxSyncTimeout: 30 * time.Millisecond})
	c := n.dial(t, "http")
	raw := func(nonce uint64) hexutil.Bytes {
		b, err := alice.transfer(nonce).MarshalBinary()
		require.NoError(t, err)
		return b
	}

	// Not included in time, whether the client's or the server's limit is the lower: the hash is in the error, and the
	// transaction stays.
	hash := alice.transfer(0).Hash()
	code, message, data := callError(t, c, "eth_sendRawTransactionSync", raw(0), 1)
	require.Equal(t, 4, code)
	require.Equal(t, "The transaction was added to the transaction pool but wasn't processed in 1ms", message)
	require.Equal(t, hash.Hex(), data)
	_, message, _ = callError(t, c, "eth_sendRawTransactionSync", raw(1), "0xffffffffffffffff")
	require.Equal(t, "The transaction was added to the transaction pool but wasn't processed in 30ms", message)
	require.NotNil(t, n.Get(hash))

	n.server.opts.MaxSyncTimeout = patience
	type answer struct {
		receipt *types.Receipt
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		var r *types.Receipt
		err := c.Call(&r, "eth_sendRawTransactionSync", raw(2), patience.Milliseconds())
		answers <- answer{r, err}
	}()
	eventually(t, "the transaction is in the pool", func() bool { return n.Get(alice.transfer(2).Hash()) != nil })
	b := n.mine(alice.transfer(0), alice.transfer(1), alice.transfer(2))
	a := receive(t, answers)
	require.NoError(t, a.err)
	require.Equal(t, b.Hash(), a.receipt.BlockHash)
	require.EqualValues(t, 2, a.receipt.TransactionIndex)
	eventually(t, "nobody is waited for", func() bool {
		n.server.hub.mu.Lock()
		defer n.server.hub.mu.Unlock()
		return len(n.server.hub.mu.waiters) == 0
	})
}

// TestAccounts: what the node signs is what the account would have signed.
func TestAccounts(t *testing.T) {
	n := startNode(t, Options{KeyStore: fakeKeys{alice, bob}})
	c := n.dial(t, "http")
	require.Equal(t, fmt.Sprintf("[%q,%q]", strings.ToLower(alice.address.Hex()), strings.ToLower(bob.address.Hex())), string(call(t, c, "eth_accounts")))

	var signature hexutil.Bytes
	require.NoError(t, c.Call(&signature, "eth_sign", bob.address, hexutil.Bytes("hello")))
	require.Contains(t, []byte{27, 28}, signature[64])
	signature[64] -= 27
	hash := crypto.Keccak256([]byte("\x19Ethereum Signed Message:\n5hello"))
	key, err := crypto.SigToPub(hash, signature)
	require.NoError(t, err)
	require.Equal(t, bob.address, crypto.PubkeyToAddress(*key))

	typed := `{"types":{"EIP712Domain":[{"name":"name","type":"string"}],"M":[{"name":"text","type":"string"}]},"primaryType":"M","domain":{"name":"d"},"message":{"text":"t"}}`
	inObject := call(t, c, "eth_signTypedData_v4", bob.address, json.RawMessage(typed))
	require.Equal(t, string(inObject), string(call(t, c, "eth_signTypedData_v4", bob.address, typed)), "ethers sends a string")

	// Without a nonce each transaction gets the next.
	send := func(args map[string]any) *types.Transaction {
		t.Helper()
		var hash common.Hash
		require.NoError(t, c.Call(&hash, "eth_sendTransaction", args))
		tx := n.Get(hash)
		require.NotNil(t, tx)
		return tx
	}
	first := send(map[string]any{"from": alice.address, "to": bob.address, "value": "0x1"})
	second := send(map[string]any{"from": alice.address, "to": emitter, "data": common.Hash{3}, "gasPrice": "0x10", "accessList": []any{}})
	third := send(map[string]any{"from": alice.address, "data": "0x60005ff3", "gasPrice": "0x10"})
	require.Equal(t, []uint64{0, 1, 2}, []uint64{first.Nonce(), second.Nonce(), third.Nonce()})
	require.Equal(t, []uint8{2, 1, 0}, []uint8{first.Type(), second.Type(), third.Type()})
	require.EqualValues(t, 2*testBaseFee, first.GasFeeCap().Int64())
	n.mine(first, second, third)

	code, message, _ := callError(t, c, "eth_sendTransaction", map[string]any{"from": alice.address, "to": emitter})
	require.Equal(t, 3, code, "the estimate reverts")
	require.Equal(t, "execution reverted: no topic", message)
	_, message, _ = callError(t, c, "eth_sendTransaction", map[string]any{"from": pauper.address, "to": emitter})
	require.Equal(t, "unknown account", message)

	var signed struct {
		Raw hexutil.Bytes
		Tx  map[string]any
	}
	require.NoError(t, c.Call(&signed, "eth_signTransaction", map[string]any{
		"from": alice.address, "to": bob.address, "gas": "0x5208", "maxFeePerGas": "0x20", "maxPriorityFeePerGas": "0x0", "nonce": "0x3"}))
	tx := new(types.Transaction)
	require.NoError(t, tx.UnmarshalBinary(signed.Raw))
	require.Equal(t, tx.Hash().Hex(), signed.Tx["hash"])
	n.mine(tx)
}

// TestFeeHistory: tips are weighted by gas, the block count is bounded, and the base fee never moves.
func TestFeeHistory(t *testing.T) {
	n := startNode(t, Options{MaxFeeHistory: 2})
	c := n.ethclient(t)
	tip := func(nonce uint64, tip int64) *types.Transaction {
		return alice.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), Nonce: nonce, To: &pauper.address, Gas: 21_000,
			GasFeeCap: big.NewInt(1000), GasTipCap: big.NewInt(tip)})
	}
	n.mine(tip(0, 1))
	n.mine(tip(1, 40), tip(2, 10), tip(3, 30), tip(4, 20))
	h, err := c.FeeHistory(t.Context(), 5, nil, []float64{0, 25, 26, 75, 100})
	require.NoError(t, err)
	require.EqualValues(t, 1, h.OldestBlock.Int64())
	require.Equal(t, "[[1 1 1 1 1] [10 10 20 30 40]]", fmt.Sprint(h.Reward))
	require.Equal(t, "[7 7 7]", fmt.Sprint(h.BaseFee))
	require.Equal(t, []float64{21_000. / testGasLimit, 84_000. / testGasLimit}, h.GasUsedRatio)
}

// TestBaseFeeChanges lowers and raises the base fee as a reconfiguration does, and asks before a block has it: for the fee, and for an estimate at
// the price that was named.
func TestBaseFeeChanges(t *testing.T) {
	n := startNode(t, Options{})
	c := n.ethclient(t)
	n.mine(alice.transfer(0))
	for i, fee := range []int64{testBaseFee - 2, testBaseFee + 2} {
		n.mu.Lock()
		n.nextFee = fee
		n.mu.Unlock()
		price, err := c.SuggestGasPrice(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, fee, price.Int64())
		history, err := c.FeeHistory(t.Context(), 1, nil, nil)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint([]*big.Int{n.CurrentHeader().BaseFee, price}), fmt.Sprint(history.BaseFee))

		msg := ethereum.CallMsg{From: alice.address, To: &bob.address, Value: big.NewInt(1), GasPrice: price}
		_, err = c.EstimateGas(t.Context(), msg)
		require.NoError(t, err, "fee %d", fee)
		msg.GasPrice = big.NewInt(fee - 1)
		_, err = c.EstimateGas(t.Context(), msg)
		require.ErrorContains(t, err, "max fee per gas less than block base fee", "fee %d", fee)
		_, err = c.EstimateGasAtBlock(t.Context(), ethereum.CallMsg{To: &bob.address, GasPrice: big.NewInt(testBaseFee), From: alice.address}, big.NewInt(0))
		require.NoError(t, err, "an old block has the fee that it had")

		block := n.mine(alice.sign(&types.LegacyTx{Nonce: uint64(i + 1), To: &bob.address, Gas: 21_000, GasPrice: price}))
		require.EqualValues(t, fee, block.BaseFee().Int64())
	}
}

// TestLogNamespace reads the shared log through RPC.
func TestLogNamespace(t *testing.T) {
	n := startNode(t, Options{MaxLogReadEntries: 20, MaxLogReadBytes: 10_000})
	c := n.dial(t, "http")
	for i := range 30 {
		n.mine(alice.transfer(uint64(i)))
	}
	var entries []logEntry
	require.NoError(t, c.Call(&entries, "log_read", 3, "0x6"))
	require.Len(t, entries, 3)
	require.EqualValues(t, 3, entries[0].LSN)
	require.EqualValues(t, 3, entries[0].Digest[0])
	require.Len(t, entries[0].Payload, 1000)
	// As many as the limits allow: of bytes, here; the next read goes on.
	require.NoError(t, c.Call(&entries, "log_read", 3, 60))
	require.Len(t, entries, 16)
	n.server.opts.MaxLogReadBytes = 1 << 20
	require.NoError(t, c.Call(&entries, "log_read", 3, 60))
	require.Len(t, entries, 20)

	var segments []map[string]any
	require.NoError(t, c.Call(&segments, "log_segments"))
	require.Len(t, segments, 2)
	require.Equal(t, "0x5", segments[0]["end"])
	require.Nil(t, segments[1]["end"])
	require.Equal(t, "0xab", segments[0]["proof"])
	require.Nil(t, segments[1]["proof"])
	require.Equal(t, "raft", segments[1]["engine"])
	require.Len(t, segments[1]["members"], 1)
	require.Equal(t, "0x", segments[0]["ledger"])
	require.Equal(t, "0x7b7d", segments[1]["ledger"])
	require.Equal(t, "crash", segments[1]["faults"])
	var status map[string]any
	require.NoError(t, c.Call(&status, "log_status"))
	require.Equal(t, "0x3d", status["tail"])
	require.Equal(t, "0x3c", status["applied"])
	require.Equal(t, "0x1e", status["headBlock"])
	require.Equal(t, n.CurrentHeader().Hash().Hex(), status["headHash"])
	require.Equal(t, "orders", status["role"])
	require.Equal(t, []any{"0x0102" + strings.Repeat("00", 30)}, status["prepared"])
	require.Equal(t, []any{map[string]any{"member": "0x3", "lsn": "0x10"}, map[string]any{"member": "0x9", "lsn": "0x11"}}, status["dissent"])
}

// logRequest is a request for an epoch, as log_reconfigure takes it.
func logRequest(epoch logconsensus.Epoch) hexutil.Bytes {
	return logconsensus.Request{Epoch: epoch, NotAfter: 100, Spec: logconsensus.Spec{Engine: "local"}}.Encode()
}

// TestReconfigure begins one and follows it to its end.
func TestReconfigure(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	var r map[string]any
	require.NoError(t, c.Call(&r, "log_reconfiguration", 3))
	require.Nil(t, r)

	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	q, err := logconsensus.DecodeRequest(logRequest(3))
	require.NoError(t, err)
	sig := q.Sign(key)
	signatures := []logSignature{{Key: hexutil.Bytes(sig.Key), Signature: sig.Bytes[:]}}
	require.NoError(t, c.Call(&r, "log_reconfigure", logRequest(3), signatures))
	hash, identity := q.Hash(), q.Segment().Identity
	want := map[string]any{
		"epoch": "0x3", "request": hexutil.Encode(hash[:]), "identity": hexutil.Encode(identity[:]), "engine": "local", "stage": "preparing",
		"ready": []any{"0x1"}, "over": []any{}, "base": nil, "gapMilliseconds": nil,
		"running": true, "switched": false, "complete": false, "superseded": false, "error": nil,
	}
	require.Equal(t, want, r)
	code, message, _ := callError(t, c, "log_reconfigure", logRequest(3), signatures)
	require.Equal(t, -32000, code)
	require.Equal(t, ErrReconfiguring.Error(), message)

	n.mu.Lock()
	n.attempt.Progress = logconsensus.Progress{Stage: logconsensus.Completing, Ready: []uint64{1}, Base: 17, Gap: 12_345_678}
	n.mu.Unlock()
	r = nil
	require.NoError(t, c.Call(&r, "log_reconfiguration", 3))
	want["stage"], want["base"], want["gapMilliseconds"], want["switched"] = "completing", "0x11", 12.346, true
	require.Equal(t, want, r)

	n.mu.Lock()
	n.attempt.Progress, n.attempt.Running = logconsensus.Progress{Stage: logconsensus.Abandoned}, false
	n.attempt.Err = fmt.Errorf("epoch 3: %w", logconsensus.ErrSuperseded)
	n.mu.Unlock()
	r = nil
	require.NoError(t, c.Call(&r, "log_reconfiguration", "0x3"))
	want["stage"], want["base"], want["gapMilliseconds"], want["switched"] = "abandoned", nil, nil, false
	want["ready"], want["running"], want["superseded"], want["error"] = []any{}, false, true, "epoch 3: another request was sealed first"
	require.Equal(t, want, r)

	var members []map[string]any
	require.NoError(t, c.Call(&members, "log_members"))
	require.Len(t, members, 2)
	for i, want := range []map[string]any{
		{"id": "0x1", "epoch": "0x2", "inSegment": true, "reachable": true, "mayStop": false, "peerAddress": "127.0.0.1:1"},
		{"id": "0x2", "epoch": nil, "inSegment": false, "reachable": false, "mayStop": true, "peerAddress": ""},
	} {
		for key, value := range want {
			require.Equal(t, value, members[i][key], key)
		}
	}
}

// TestRawAndBySender: transactions by their place, as bytes, and by who sent them.
func TestRawAndBySender(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	first, second := n.mine(alice.transfer(0), alice.transfer(1)), n.mine(alice.transfer(2))
	n.mine(bob.transfer(0))
	pending := alice.transfer(4)
	require.NoError(t, fakePool{n.fakeChain}.Add(pending))
	raw := func(tx *types.Transaction) string {
		b, err := tx.MarshalBinary()
		require.NoError(t, err)
		return hexutil.Encode(b)
	}
	for _, tc := range []struct {
		method string
		args   []any
		want   string
	}{
		{"eth_getRawTransactionByBlockNumberAndIndex", []any{"0x1", "0x1"}, raw(first.Transactions()[1])},
		{"eth_getRawTransactionByBlockHashAndIndex", []any{second.Hash(), "0x0"}, raw(second.Transactions()[0])},
		{"eth_getRawTransactionByBlockNumberAndIndex", []any{"0x1", "0x2"}, "0x"},
		{"eth_getRawTransactionByBlockNumberAndIndex", []any{"0x99", "0x0"}, "0x"},
		{"eth_getRawTransactionByBlockHashAndIndex", []any{common.Hash{9}, "0x0"}, "0x"},
	} {
		require.Equal(t, fmt.Sprintf("%q", tc.want), string(call(t, c, tc.method, tc.args...)), tc.method)
	}
	for nonce, want := range []*types.Transaction{first.Transactions()[0], first.Transactions()[1], second.Transactions()[0], nil, pending, nil} {
		got := call(t, c, "eth_getTransactionBySenderAndNonce", alice.address, hexutil.Uint64(nonce))
		if want == nil {
			require.Equal(t, "null", string(got), nonce)
			continue
		}
		require.JSONEq(t, string(call(t, c, "eth_getTransactionByHash", want.Hash())), string(got), nonce)
	}
	require.Equal(t, "null", string(call(t, c, "eth_getBlockAccessList", common.Hash{9})))
	code, message, _ := callError(t, c, "eth_getBlockAccessList", "latest")
	require.Equal(t, "4445 Block access list not available for pre-Amsterdam blocks", fmt.Sprint(code, " ", message))
}

// TestCreateAccessList: the list holds what the message touches and is not warm anyway; a failure is part of the answer.
func TestCreateAccessList(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	list := func(args object, more ...any) (result accessListResult) {
		t.Helper()
		require.NoError(t, json.Unmarshal(call(t, c, "eth_createAccessList", append([]any{args}, more...)...), &result))
		return result
	}
	slot := []any{map[string]any{"address": emitter, "storageKeys": []common.Hash{{}}}}
	got := list(object{"from": alice.address, "to": emitter, "input": common.Hash{1}})
	require.Equal(t, types.AccessList{{Address: emitter, StorageKeys: []common.Hash{{}}}}, got.AccessList)
	var used hexutil.Uint64
	sim := n.simulate(t, blocksOf(object{"calls": []object{{"from": alice.address, "to": emitter, "input": common.Hash{1}, "accessList": slot}}}), "latest")
	used = sim[0].Calls[0].GasUsed
	require.Equal(t, used, got.GasUsed, "the gas is that of the message with the list")
	require.Equal(t, `{"accessList":[],"gasUsed":"0x5208"}`, string(call(t, c, "eth_createAccessList", object{"from": alice.address, "to": bob.address})))
	failed := list(object{"from": alice.address, "to": emitter})
	require.Equal(t, "execution reverted", failed.Error)
	require.Empty(t, failed.AccessList)
	// EXTCODESIZE of an address and of the contract itself, which is warm; in code from an override.
	code := "0x621111113b50303b5000"
	other := list(object{"from": alice.address, "to": at(500), "maxPriorityFeePerGas": "0x1"}, "latest", object{at(500).Hex(): object{"code": code}})
	require.Equal(t, types.AccessList{{Address: at(0x111111), StorageKeys: []common.Hash{}}}, other.AccessList)
	errCode, message, _ := callError(t, c, "eth_createAccessList", object{"from": pauper.address, "to": bob.address, "value": "0x1"})
	require.Equal(t, -32000, errCode)
	require.Regexp(t, "^failed to apply transaction: 0x[0-9a-f]{64} err: insufficient funds for gas", message)
}

// TestNodeAsASource: what routers and operators ask a node about itself.
func TestNodeAsASource(t *testing.T) {
	n := startNode(t, Options{Version: "v1", Network: fakeNetwork(2)})
	c := n.dial(t, "http")
	head := n.mine(alice.transfer(0))
	all := `{"disabled":false,"oldestBlock":"0x0"}`
	require.JSONEq(t, fmt.Sprintf(`{"head":{"number":"0x1","hash":%q},"state":%s,"tx":%s,"logs":%s,"receipts":%s,"blocks":%s,"stateproofs":%s}`,
		head.Hash().Hex(), all, all, all, all, all, all), string(call(t, c, "eth_capabilities")))
	require.Equal(t, fmt.Sprintf("%q", strings.ToLower(coinbase.Hex())), string(call(t, c, "eth_coinbase")))

	var rules chainRules
	require.NoError(t, json.Unmarshal(call(t, c, "eth_config"), &rules))
	require.Nil(t, rules.Next)
	require.Nil(t, rules.Last)
	require.Zero(t, rules.Current.ActivationTime)
	require.EqualValues(t, testChainID, rules.Current.ChainID.ToInt().Int64())
	require.Len(t, rules.Current.ForkID, 4)
	require.Equal(t, common.HexToAddress("0x100"), rules.Current.Precompiles["P256VERIFY"], "Osaka has it")
	require.Equal(t, params.HistoryStorageAddress, rules.Current.SystemContracts["HISTORY_STORAGE_ADDRESS"])
	require.Equal(t, params.DefaultPragueBlobConfig, rules.Current.BlobSchedule)

	var modules map[string]string
	require.NoError(t, json.Unmarshal(call(t, c, "rpc_modules"), &modules))
	for _, namespace := range []string{"admin", "eth", "ledger", "log", "net", "rpc", "txpool", "web3"} {
		require.Equal(t, "1.0", modules[namespace], namespace)
	}
	var self nodeInfo
	require.NoError(t, json.Unmarshal(call(t, c, "admin_nodeInfo"), &self))
	require.Equal(t, strings.Repeat("0", 64), self.ID)
	require.Equal(t, "127.0.0.1", self.IP)
	require.Equal(t, 7001, self.Ports.Listener)
	require.Equal(t, head.Hash(), self.Protocols.Ledgerd.Head)
	require.Equal(t, "raft", self.Protocols.Ledgerd.Engine)
	var peers []peerInfo
	require.NoError(t, json.Unmarshal(call(t, c, "admin_peers"), &peers))
	require.Len(t, peers, 2)
	require.Equal(t, "member 3", peers[1].Name)
	require.Equal(t, "127.0.0.1:7003", peers[1].Network.RemoteAddress)
	require.Equal(t, `"0x2"`, string(call(t, c, "net_peerCount")))
}
