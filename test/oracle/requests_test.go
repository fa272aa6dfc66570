package oracle

import (
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
)

type object = map[string]any

// requests is everything that is asked.
func requests(c testChain) []request {
	var all []request
	for _, part := range [][]request{
		sweep(c), blockRequests(c), transactionRequests(c), stateRequests(), callRequests(), overrideRequests(), logRequests(c), feeRequests(), nodeRequests(),
		simulations(), poolRequests(),
	} {
		all = append(all, part...)
	}
	return all
}

// sweep asks for every block and every transaction in each way, and for every account at every block.
func sweep(c testChain) (all []request) {
	add := func(method string, params ...any) { all = append(all, request{method: method, params: params}) }
	for n := range uint64(headBlock + 2) {
		number := hexutil.EncodeUint64(n)
		for _, method := range []string{"eth_getBlockTransactionCountByNumber", "eth_getBlockReceipts", "eth_getUncleCountByBlockNumber", "eth_getHeaderByNumber"} {
			add(method, number)
		}
		add("eth_getBlockByNumber", number, false)
		add("eth_getBlockByNumber", number, true)
		add("eth_getUncleByBlockNumberAndIndex", number, "0x0")
		for _, a := range []common.Address{alice.address, bob.address, emitter, delegator.address, pauper.address, common.HexToAddress("0xc01bba5e")} {
			add("eth_getBalance", a, number)
			add("eth_getTransactionCount", a, number)
			add("eth_getCode", a, number)
			add("eth_getStorageAt", a, "0x0", number)
			add("eth_getProof", a, []string{"0x0", "0x1", common.Hash{31: 7}.Hex()}, number)
		}
		add("eth_call", object{"from": alice.address, "to": emitter, "input": hexutil.Bytes(word(3))}, number)
		add("eth_estimateGas", object{"from": alice.address, "to": emitter, "input": hexutil.Bytes(word(3))}, number)
		add("eth_createAccessList", object{"from": alice.address, "to": emitter, "input": hexutil.Bytes(word(3))}, number)
		add("eth_feeHistory", "0x3", number, []int{10, 60})
	}
	for _, b := range c.blocks {
		add("eth_getBlockByHash", b.Hash(), true)
		add("eth_getHeaderByHash", b.Hash())
		add("eth_getBlockReceipts", b.Hash())
		add("eth_getUncleCountByBlockHash", b.Hash())
		add("eth_getBlockTransactionCountByHash", b.Hash())
		add("eth_getLogs", object{"blockHash": b.Hash()})
		for i, tx := range b.Transactions() {
			index := hexutil.EncodeUint64(uint64(i))
			add("eth_getTransactionByHash", tx.Hash())
			add("eth_getTransactionReceipt", tx.Hash())
			add("eth_getRawTransactionByHash", tx.Hash())
			add("eth_getTransactionByBlockNumberAndIndex", hexutil.EncodeBig(b.Number()), index)
			add("eth_getTransactionByBlockHashAndIndex", b.Hash(), index)
			add("eth_getRawTransactionByBlockNumberAndIndex", hexutil.EncodeBig(b.Number()), index)
			add("eth_getRawTransactionByBlockHashAndIndex", b.Hash(), index)
		}
	}
	return all
}

// named makes recorded requests of one method.
type named struct {
	name, about string
	params      []any
}

func of(method string, list ...named) (all []request) {
	for _, n := range list {
		all = append(all, request{n.name, n.about, method, n.params})
	}
	return all
}

func args(params ...any) []any { return params }

func blockRequests(c testChain) (all []request) {
	missing := common.Hash{0xde, 0xad}
	for _, method := range []string{"eth_getBlockByNumber", "eth_getBlockByHash"} {
		var list []named
		for name, n := range map[string]int{"pow": 2, "uncle": 5, "merged": 14, "withdrawal": 17, "blob": 21, "set-code": 25, "bpo2": 34} {
			ref := any(hexutil.EncodeUint64(uint64(n)))
			if method == "eth_getBlockByHash" {
				ref = c.blocks[n-1].Hash()
			}
			list = append(list, named{"block-" + name, "", args(ref, true)})
		}
		all = append(all, of(method, list...)...)
	}
	for _, tag := range []string{"earliest", "latest", "safe", "finalized", "pending"} {
		all = append(all, of("eth_getBlockByNumber", named{"tag-" + tag, "", args(tag, false)})...)
		all = append(all, of("eth_getHeaderByNumber", named{"tag-" + tag, "", args(tag)})...)
		all = append(all, of("eth_getBlockTransactionCountByNumber", named{"tag-" + tag, "", args(tag)})...)
		all = append(all, of("eth_getBlockReceipts", named{"tag-" + tag, "", args(tag)})...)
	}
	all = append(all, of("eth_getBlockByNumber",
		named{"not-found", "a block that is not there is null", args("0x3e8", true)},
		named{"no-flag", "the second parameter is required", args("0x1")},
		named{"leading-zero", "", args("0x01", true)},
		named{"decimal", "", args("1", true)},
		named{"number", "", args(1, true)},
		named{"unknown-tag", "", args("newest", true)},
		named{"empty-string", "", args("", true)},
		named{"too-large", "", args("0x10000000000000000", true)},
		named{"string-flag", "", args("0x1", "true")},
		named{"too-many", "", args("0x1", true, true)},
	)...)
	all = append(all, of("eth_getBlockByHash",
		named{"not-found", "a block that is not there is null", args(missing, true)},
		named{"short-hash", "", args("0x1234", true)},
		named{"no-prefix", "", args(missing.Hex()[2:], true)},
		named{"tag", "", args("latest", true)},
	)...)
	all = append(all, of("eth_getBlockReceipts",
		named{"not-found-number", "", args("0x3e8")},
		named{"not-found-hash", "", args(missing)},
		named{"by-object", "EIP-1898", args(object{"blockHash": c.blocks[8].Hash(), "requireCanonical": true})},
		named{"both-in-object", "", args(object{"blockHash": c.blocks[8].Hash(), "blockNumber": "0x9"})},
	)...)
	all = append(all, of("eth_getUncleByBlockNumberAndIndex",
		named{"uncle", "an uncle has no transactions", args("0x5", "0x0")}, named{"no-uncle", "", args("0x5", "0x1")}, named{"not-found", "", args("0x3e8", "0x0")})...)
	all = append(all, of("eth_getUncleByBlockHashAndIndex", named{"uncle", "", args(c.blocks[4].Hash(), "0x0")}, named{"not-found", "", args(missing, "0x0")})...)
	all = append(all, of("eth_getHeaderByHash", named{"not-found", "", args(missing)})...)
	return all
}

func transactionRequests(c testChain) (all []request) {
	for _, pick := range []struct {
		name  string
		block int
		index int
	}{
		{"unprotected-create", 1, 0}, {"legacy-transfer", 2, 3}, {"before-byzantium", 2, 1}, {"access-list", 7, 0}, {"dynamic", 9, 0}, {"reverted", 9, 1},
		{"out-of-gas", 10, 1}, {"many-logs", 14, 0}, {"factory", 14, 1}, {"self-destruct", 17, 0}, {"blob", 21, 0}, {"set-code", 25, 0}, {"delegated", 26, 0},
	} {
		hash := c.blocks[pick.block-1].Transactions()[pick.index].Hash()
		for _, method := range []string{"eth_getTransactionByHash", "eth_getTransactionReceipt"} {
			all = append(all, of(method, named{pick.name, "", args(hash)})...)
		}
	}
	for _, method := range []string{"eth_getTransactionByHash", "eth_getTransactionReceipt", "eth_getRawTransactionByHash"} {
		all = append(all, of(method,
			named{"not-found", "what is not there is null, or empty", args(common.Hash{0xde, 0xad})}, named{"short-hash", "", args("0x12")}, named{"nothing", "", nil})...)
	}
	for _, method := range []string{"eth_getTransactionByBlockNumberAndIndex", "eth_getRawTransactionByBlockNumberAndIndex"} {
		all = append(all, of(method,
			named{"first", "", args("0x9", "0x0")}, named{"latest", "", args("latest", "0x0")}, named{"beyond", "", args("0x9", "0x63")},
			named{"no-block", "", args("0x3e8", "0x0")}, named{"large-index", "", args("0x9", "0x100000000")}, named{"negative-index", "", args("0x9", "-0x1")})...)
	}
	return all
}

func stateRequests() (all []request) {
	refs := map[string]any{
		"latest": "latest", "earliest": "earliest", "safe": "safe", "finalized": "finalized", "number": "0x9", "not-found": "0x3e8",
		"hash-not-found": common.Hash{0xde, 0xad}, "object-number": object{"blockNumber": "0x9"}, "object-not-found": object{"blockHash": common.Hash{0xde, 0xad}},
		"object-empty": object{}, "unknown-tag": "newest", "no-prefix": "9", "wrong-type": 9,
	}
	for name, ref := range refs {
		all = append(all, of("eth_getBalance", named{name, "", args(alice.address, ref)})...)
		all = append(all, of("eth_getCode", named{name, "", args(emitter, ref)})...)
		all = append(all, of("eth_getTransactionCount", named{name, "", args(alice.address, ref)})...)
		all = append(all, of("eth_getStorageAt", named{name, "", args(emitter, "0x0", ref)})...)
		all = append(all, of("eth_getProof", named{name, "", args(emitter, []string{"0x0"}, ref)})...)
		all = append(all, of("eth_getStorageValues", named{name, "", args(object{emitter.Hex(): []common.Hash{{}}}, ref)})...)
	}
	long := "0x" + strings.Repeat("0", 63) + "1"
	all = append(all, of("eth_getStorageAt",
		named{"no-block", "the block is the latest one if none is given", args(emitter, "0x0")},
		named{"long-key", "", args(emitter, long, "latest")}, named{"odd-key", "", args(emitter, "0x001", "latest")},
		named{"no-prefix-key", "", args(emitter, "01", "latest")}, named{"bad-key", "", args(emitter, "0xzz", "latest")},
		named{"too-long-key", "", args(emitter, long+"00", "latest")}, named{"no-contract", "", args(pauper.address, "0x0", "latest")},
	)...)
	all = append(all, of("eth_getBalance", named{"no-block", "", args(alice.address)}, named{"no-account", "", args(pauper.address)},
		named{"short-address", "", args("0x12")}, named{"nothing", "", nil}, named{"object", "", args(object{})})...)
	all = append(all, of("eth_getProof",
		named{"absent-account", "", args(pauper.address, []string{}, "latest")}, named{"several-slots", "", args(common.HexToAddress("0x5107"), []string{"0x1", long, "0x5"}, "latest")},
		named{"bad-key", "", args(emitter, []string{"0xzz"}, "latest")}, named{"too-long-key", "", args(emitter, []string{long + "00"}, "latest")},
		named{"no-contract", "", args(bob.address, []string{"0x0"}, "latest")},
	)...)
	all = append(all, of("eth_getStorageValues", named{"empty", "", args(object{}, "latest")}, named{"no-slots", "", args(object{emitter.Hex(): []string{}}, "latest")},
		named{"several", "", args(object{emitter.Hex(): []common.Hash{{}, {31: 1}}, pauper.address.Hex(): []common.Hash{{}}}, "latest")},
		named{"short-slot", "", args(object{emitter.Hex(): []string{"0x0"}}, "latest")})...)
	return all
}

func callRequests() (all []request) {
	topic := hexutil.Bytes(word(5))
	list := []named{
		{"return", "", args(object{"to": emitter, "input": topic}, "latest")},
		{"data", "the old name of input", args(object{"to": emitter, "data": topic}, "latest")},
		{"no-block", "", args(object{"to": emitter, "input": topic})},
		{"revert", "a revert has code 3, its reason in the text and what it returned as data", args(object{"to": emitter}, "latest")},
		{"revert-no-reason", "", args(object{"input": "0x60006000fd"}, "latest")},
		{"out-of-gas", "", args(object{"to": emitter, "input": "0x01", "gas": "0x186a0"}, "latest")},
		{"invalid-opcode", "", args(object{"input": "0xfe"}, "latest")},
		{"stack-underflow", "", args(object{"input": "0x50"}, "latest")},
		{"invalid-jump", "", args(object{"input": "0x600956"}, "latest")},
		{"intrinsic-gas", "", args(object{"from": alice.address, "to": bob.address, "gas": "0x5207"}, "latest")},
		{"no-funds", "", args(object{"from": pauper.address, "to": bob.address, "value": "0x1"}, "latest")},
		{"no-funds-for-gas", "", args(object{"from": pauper.address, "to": bob.address, "gasPrice": "0xba43b7400", "gas": "0x5208"}, "latest")},
		{"fee-below-base-fee", "", args(object{"from": alice.address, "to": bob.address, "maxFeePerGas": "0x1"}, "0x9")},
		{"tip-above-fee", "", args(object{"from": alice.address, "to": bob.address, "maxFeePerGas": "0xba43b7400", "maxPriorityFeePerGas": "0xba43b7401"}, "latest")},
		{"price-and-fee", "", args(object{"to": bob.address, "gasPrice": "0x1", "maxFeePerGas": "0x1"}, "latest")},
		{"chain-id", "", args(object{"to": bob.address, "chainId": "0x1"}, "latest")},
		{"create", "", args(object{"input": hexutil.Bytes(deploy(emitterCode))}, "latest")},
		{"large-init-code", "", args(object{"input": hexutil.Bytes(make([]byte, 49153))}, "latest")},
		{"unknown-block", "", args(object{"to": emitter}, "0x3e8")},
		{"delegated", "code by EIP-7702", args(object{"to": delegator.address, "input": topic}, "0x19")},
		{"delegate-in-call", "", args(object{"from": alice.address, "to": delegator.address, "authorizationList": []any{}}, "latest")},
		{"blob-hashes", "", args(object{"to": bob.address, "blobVersionedHashes": []common.Hash{{0: 1}}, "maxFeePerBlobGas": "0x1"}, "latest")},
		{"blob-fee-alone", "", args(object{"to": bob.address, "maxFeePerBlobGas": "0x1"}, "latest")},
		{"input-and-data", "", args(object{"to": emitter, "input": topic, "data": "0x"}, "latest")},
		{"precompile", "identity", args(object{"to": common.HexToAddress("0x4"), "input": "0x1234"}, "latest")},
		{"p256", "there since Osaka", args(object{"to": common.HexToAddress("0x100"), "input": "0x"}, "latest")},
		{"string-value", "", args(object{"to": bob.address, "value": "1"}, "latest")},
		{"nothing", "", nil},
		{"not-an-object", "", args("0x1", "latest")},
	}
	for _, method := range []string{"eth_call", "eth_estimateGas"} {
		all = append(all, of(method, list...)...)
	}
	for _, n := range list {
		switch n.name { // there is no creation to be had with a list, and so on
		case "return", "revert", "out-of-gas", "intrinsic-gas", "no-funds", "create", "chain-id", "unknown-block", "delegated", "price-and-fee":
			all = append(all, of("eth_createAccessList", n)...)
		}
	}
	return append(all, of("eth_createAccessList",
		named{"given-list", "", args(object{"from": alice.address, "to": emitter, "input": topic, "accessList": accessed}, "latest")},
		named{"given-fee", "", args(object{"from": alice.address, "to": emitter, "input": topic, "gasPrice": "0xba43b7400"}, "latest")},
	)...)
}

func overrideRequests() (all []request) {
	at := common.HexToAddress("0xc0de")
	env := "0x435f52426020524860405245606052416080525a60a05260a05ff3" // NUMBER TIMESTAMP BASEFEE GASLIMIT COINBASE
	for _, method := range []string{"eth_call", "eth_estimateGas"} {
		call := func(name string, state any, block any) named {
			return named{name, "", args(object{"from": alice.address, "to": at}, "latest", state, block)}
		}
		all = append(all, of(method,
			call("override-code", object{at.Hex(): object{"code": env}}, object{}),
			call("override-block", object{at.Hex(): object{"code": env}}, object{"number": "0x99", "time": "0x999", "gasLimit": "0x9999999", "feeRecipient": bob.address, "baseFeePerGas": "0x9"}),
			call("override-state-and-diff", object{at.Hex(): object{"state": object{}, "stateDiff": object{}}}, nil),
			call("override-not-precompile", object{at.Hex(): object{"movePrecompileToAddress": bob.address}}, nil),
			call("override-beacon-root", object{}, object{"beaconRoot": common.Hash{1}}),
			call("override-withdrawals", object{}, object{"withdrawals": []any{}}),
			call("override-balance", object{alice.address.Hex(): object{"balance": "0x0"}}, nil),
			call("override-bad-balance", object{alice.address.Hex(): object{"balance": "1"}}, nil),
		)...)
	}
	return all
}

func logRequests(c testChain) []request {
	topic := common.Hash{31: 10}
	filter := func(name string, o object) named { return named{name, "", args(o)} }
	topics := make([]any, 5)
	return of("eth_getLogs",
		filter("all", object{"fromBlock": "earliest", "toBlock": "latest"}),
		filter("latest", object{}),
		filter("address", object{"fromBlock": "0x0", "address": manyLogger}),
		filter("addresses", object{"fromBlock": "0x0", "address": []common.Address{manyLogger, emitter}}),
		filter("no-addresses", object{"fromBlock": "0x0", "toBlock": "0x9", "address": []common.Address{}}),
		filter("topic", object{"fromBlock": "0x0", "topics": []any{topic}}),
		filter("second-topic", object{"fromBlock": "0x0", "topics": []any{nil, common.Hash{31: 42}}}),
		filter("alternatives", object{"fromBlock": "0x0", "topics": []any{[]common.Hash{topic, {31: 18}}}}),
		filter("four-topics", object{"fromBlock": "0x0", "topics": []any{nil, nil, nil, nil}}),
		filter("five-topics", object{"fromBlock": "0x0", "topics": topics}),
		filter("block-hash", object{"blockHash": c.blocks[13].Hash()}),
		filter("block-hash-and-range", object{"blockHash": c.blocks[13].Hash(), "fromBlock": "0x1"}),
		filter("unknown-block-hash", object{"blockHash": common.Hash{0xde, 0xad}}),
		filter("reversed", object{"fromBlock": "0x9", "toBlock": "0x8"}),
		filter("future", object{"fromBlock": "0x9", "toBlock": "0x3e8"}),
		filter("all-future", object{"fromBlock": "0x3e8", "toBlock": "0x3e9"}),
		filter("pending", object{"fromBlock": "pending"}),
		filter("bad-address", object{"address": "0x12"}),
		filter("bad-topic", object{"topics": []any{"0x12"}}),
		filter("string-topics", object{"topics": "0x12"}),
		named{"nothing", "", nil},
	)
}

func feeRequests() []request {
	all := of("eth_feeHistory",
		named{"london", "over the block that brings the base fee", args("0x4", "0xa", []int{})}, named{"rewards", "", args("0x5", "latest", []int{0, 25, 50, 100})},
		named{"decimal-count", "", args(2, "latest", nil)}, named{"zero", "", args("0x0", "latest", []int{})}, named{"more-than-there-are", "", args("0x3e8", "0x2", []int{})},
		named{"future", "", args("0x1", "0x3e8", []int{})}, named{"descending", "", args("0x1", "latest", []int{50, 10})}, named{"above-100", "", args("0x1", "latest", []int{101})},
		named{"negative", "", args("0x1", "latest", []int{-1})}, named{"equal", "", args("0x1", "latest", []int{10, 10})}, named{"nothing", "", nil},
	)
	for _, method := range []string{"eth_baseFee", "eth_blobBaseFee", "eth_gasPrice", "eth_maxPriorityFeePerGas"} {
		all = append(all, of(method, named{"fee", "", nil})...)
	}
	return all
}

func nodeRequests() (all []request) {
	for _, method := range []string{
		"eth_chainId", "eth_blockNumber", "eth_syncing", "eth_config", "eth_capabilities", "eth_accounts", "net_version", "net_listening", "eth_coinbase",
	} {
		all = append(all, of(method, named{"get", "", nil})...)
	}
	all = append(all, of("web3_sha3", named{"empty", "", args("0x")}, named{"some", "", args("0x68656c6c6f")}, named{"odd", "", args("0x1")})...)
	all = append(all, of("eth_chainId", named{"too-many", "", args(1)})...)
	for _, unknown := range []string{"eth_nothing", "nothing_at_all", "nothing", "hardhat_metadata", "eth_"} {
		all = append(all, request{method: unknown})
	}
	return all
}

func poolRequests() (all []request) {
	signer := types.LatestSigner(chainConfig())
	raw := func(a account, tx types.TxData) hexutil.Bytes {
		b, err := types.MustSignNewTx(a.key, signer, tx).MarshalBinary()
		if err != nil {
			panic(err)
		}
		return b
	}
	unprotected, _ := types.MustSignNewTx(alice.key, types.HomesteadSigner{}, &types.LegacyTx{Nonce: 0, Gas: 21_000, GasPrice: price, To: &bob.address}).MarshalBinary()
	fee := func(nonce uint64, gas uint64, cap, tip int64) *types.DynamicFeeTx {
		return &types.DynamicFeeTx{ChainID: chainConfig().ChainID, Nonce: nonce, Gas: gas, GasFeeCap: hexBig(cap), GasTipCap: hexBig(tip), To: &bob.address}
	}
	other := fee(0, 21_000, 1e10, 1)
	other.ChainID = hexBig(7)
	otherChain, _ := types.MustSignNewTx(alice.key, types.LatestSignerForChainID(hexBig(7)), other).MarshalBinary()
	all = of("eth_sendRawTransaction",
		named{"nonce-too-low", "", args(raw(alice, fee(0, 21_000, 1e11, 1e9)))},
		named{"no-funds", "", args(raw(pauper, fee(0, 21_000, 1e11, 1e9)))},
		named{"intrinsic-gas", "", args(raw(alice, fee(999, 20_999, 1e11, 1e9)))},
		named{"gas-above-cap", "", args(raw(alice, fee(999, 1<<24+1, 1e9, 1)))},
		named{"tip-above-fee", "", args(raw(alice, fee(999, 21_000, 1e9, 1e11)))},
		named{"unprotected", "", args(hexutil.Bytes(unprotected))},
		named{"other-chain", "", args(hexutil.Bytes(otherChain))},
		named{"empty", "", args("0x")},
		named{"garbage", "", args("0x1234")},
		named{"unknown-type", "", args("0x7f01")},
		named{"not-hex", "", args("transfer")},
		named{"nothing", "", nil},
	)
	for _, method := range []string{"txpool_status", "txpool_content", "txpool_inspect"} {
		all = append(all, of(method, named{"empty", "", nil})...)
	}
	return append(all, of("txpool_contentFrom", named{"empty", "", args(alice.address)})...)
}

// simulations are requests of eth_simulateV1, on the head and on blocks under other rules.
func simulations() (all []request) {
	topic := hexutil.Bytes(word(5))
	at := func(n byte) common.Address { return common.Address{19: n, 18: 0xc0} }
	blocks := func(b ...object) object { return object{"blockStateCalls": b} }
	with := func(o object, key string, value any) object { o[key] = value; return o }
	call := object{"from": alice.address, "to": emitter, "input": topic}
	list := []named{
		{"empty", "", args(blocks(), "latest")},
		{"empty-block", "", args(blocks(object{}), "latest")},
		{"call", "", args(blocks(object{"calls": []object{call}}), "latest")},
		{"two-blocks", "", args(blocks(object{"calls": []object{call, call}}, object{"calls": []object{call}}), "latest")},
		{"gap", "", args(blocks(object{"blockOverrides": object{"number": "0x28"}, "calls": []object{call}}), "latest")},
		{"full-transactions", "", args(with(blocks(object{"calls": []object{call, {"from": alice.address, "to": bob.address, "gasPrice": "0x0", "accessList": []any{}}}}), "returnFullTransactions", true), "latest")},
		{"transfers", "", args(with(blocks(object{"calls": []object{{"from": alice.address, "to": bob.address, "value": "0x5"}, {"from": alice.address, "to": factory, "value": "0x5"}}}), "traceTransfers", true), "latest")},
		{"revert", "", args(blocks(object{"calls": []object{{"to": emitter}, call}}), "latest")},
		{"out-of-gas", "", args(blocks(object{"calls": []object{{"to": emitter, "input": "0x01", "gas": "0xffff"}}}), "latest")},
		{"create", "", args(blocks(object{"calls": []object{{"from": alice.address, "input": hexutil.Bytes(deploy(emitterCode))}}}), "latest")},
		{"overrides", "", args(blocks(object{
			"stateOverrides": object{at(1).Hex(): object{"code": "0x435f52426020524860405245606052416080525a60a05260a05ff3", "balance": "0x64"}, emitter.Hex(): object{"stateDiff": object{common.Hash{}.Hex(): common.Hash{1}}}},
			"blockOverrides": object{"time": "0xfffff", "gasLimit": "0xfffff", "feeRecipient": bob.address, "prevRandao": common.Hash{2}, "baseFeePerGas": "0x9", "blobBaseFee": "0x7"},
			"calls":          []object{{"from": at(1), "to": at(1)}},
		}, object{"calls": []object{{"from": at(1), "to": at(1)}}}), "latest")},
		{"beacon-root-and-withdrawals", "", args(blocks(object{"blockOverrides": object{"beaconRoot": common.Hash{3}, "withdrawals": []object{{"index": "0x1", "validatorIndex": "0x2", "address": bob.address, "amount": "0x3"}}}}), "latest")},
		{"move-precompile", "", args(blocks(object{"stateOverrides": object{"0x0000000000000000000000000000000000000004": object{"movePrecompileToAddress": at(9)}}, "calls": []object{{"to": at(9), "input": "0x1234"}}}), "latest")},
		{"move-nothing", "", args(blocks(object{"stateOverrides": object{at(8).Hex(): object{"movePrecompileToAddress": at(9)}}}), "latest")},
		{"unknown-key", "", args(blocks(object{"blockOverrides": object{"coinbase": at(1)}}), "latest")},
		{"number-order", "", args(blocks(object{"blockOverrides": object{"number": "0x24"}}), "latest")},
		{"time-order", "", args(blocks(object{"blockOverrides": object{"time": "0x1"}}), "latest")},
		{"too-many-blocks", "", args(blocks(object{"blockOverrides": object{"number": "0x3e8"}}), "latest")},
		{"block-gas", "", args(blocks(object{"blockOverrides": object{"gasLimit": "0x5208"}, "calls": []object{{"from": alice.address, "to": bob.address}, {"from": alice.address, "to": bob.address, "gas": "0x5208"}}}), "latest")},
		{"intrinsic-gas", "", args(blocks(object{"calls": []object{{"to": bob.address, "gas": "0x1"}}}), "latest")},
		{"no-funds", "", args(blocks(object{"calls": []object{{"from": pauper.address, "to": bob.address, "value": "0x1"}}}), "latest")},
		{"validated", "", args(with(blocks(object{"calls": []object{{"from": alice.address, "to": bob.address, "maxFeePerGas": "0x4a817c800", "maxPriorityFeePerGas": "0x1"}}}, object{}), "validation", true), "latest")},
		{"validated-fee", "", args(with(blocks(object{"calls": []object{{"from": alice.address, "to": bob.address, "maxFeePerGas": "0x0"}}}), "validation", true), "latest")},
		{"validated-nonce-low", "", args(with(blocks(object{"calls": []object{{"from": alice.address, "to": bob.address, "nonce": "0x0", "maxFeePerGas": "0x4a817c800"}}}), "validation", true), "latest")},
		{"validated-nonce-high", "", args(with(blocks(object{"calls": []object{{"from": alice.address, "to": bob.address, "nonce": "0x999", "maxFeePerGas": "0x4a817c800"}}}), "validation", true), "latest")},
		{"validated-no-funds", "", args(with(blocks(object{"calls": []object{{"from": pauper.address, "to": bob.address, "maxFeePerGas": "0x4a817c800"}}}), "validation", true), "latest")},
		{"difficulty", "", args(blocks(object{"blockOverrides": object{"difficulty": "0x1"}}), "latest")},
		{"blob", "", args(blocks(object{"calls": []object{{"from": alice.address, "to": bob.address, "blobVersionedHashes": []common.Hash{{0: 1}}, "maxFeePerBlobGas": "0xffffff"}}}), "latest")},
		{"chain-id", "", args(blocks(object{"calls": []object{{"chainId": "0x1"}}}), "latest")},
		{"nonce-max", "", args(blocks(object{"stateOverrides": object{alice.address.Hex(): object{"nonce": "0xffffffffffffffff"}}, "calls": []object{call}}), "latest")},
		{"blockhash", "", args(blocks(object{"stateOverrides": object{at(1).Hex(): object{"code": "0x60014303405f5260205ff3"}}, "calls": []object{{"to": at(1)}}}, object{"calls": []object{{"to": at(1)}}}), "latest")},
		{"self-destruct", "", args(with(blocks(object{"calls": []object{{"from": alice.address, "to": common.HexToAddress("0x5107")}}}), "traceTransfers", true), "latest")},
		{"unknown-block", "", args(blocks(object{}), "0x3e8")},
		{"no-block", "", args(blocks(object{"calls": []object{call}}))},
		{"nothing", "", nil},
	}
	for block, rules := range map[string]string{"0x2": "homestead", "0x3": "byzantium", "0x8": "berlin", "0x9": "london", "0xb": "merge", "0xd": "paris", "0x10": "shanghai", "0x14": "cancun", "0x18": "prague"} {
		list = append(list, named{"rules-" + rules, "", args(blocks(object{"calls": []object{call, {"from": alice.address, "to": bob.address, "value": "0x1"}}}, object{"calls": []object{call}}), block)})
	}
	return of("eth_simulateV1", list...)
}

func hexBig(v int64) *big.Int { return big.NewInt(v) }
