package rpc

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/stretchr/testify/require"
)

// Byte code of the contracts that are simulated, given by a state override.
const (
	returnsNumberAndFee = "0x435f524860205260405ff3"   // (NUMBER, BASEFEE)
	returnsTime         = "0x425f5260205ff3"           // TIMESTAMP
	returnsParentHash   = "0x60014303405f5260205ff3"   // BLOCKHASH(NUMBER-1)
	forwardsValue       = "0x5f5f5f5f34623333335af100" // CALL(0x333333, CALLVALUE)
	forwardsAndReverts  = "0x5f5f5f5f34623333335af15f5ffd"
)

// object is JSON that a test writes.
type object = map[string]any

// simulatedResult is what the tests look at.
type simulatedResult struct {
	Number        hexutil.Uint64   `json:"number"`
	Hash          common.Hash      `json:"hash"`
	ParentHash    common.Hash      `json:"parentHash"`
	StateRoot     common.Hash      `json:"stateRoot"`
	Timestamp     hexutil.Uint64   `json:"timestamp"`
	GasUsed       hexutil.Uint64   `json:"gasUsed"`
	BaseFeePerGas *hexutil.Big     `json:"baseFeePerGas"`
	Miner         common.Address   `json:"miner"`
	Transactions  []any            `json:"transactions"`
	Calls         []simulatedEntry `json:"calls"`
}

type simulatedEntry struct {
	ReturnData hexutil.Bytes    `json:"returnData"`
	Logs       []map[string]any `json:"logs"`
	GasUsed    hexutil.Uint64   `json:"gasUsed"`
	Status     hexutil.Uint64   `json:"status"`
	Error      *simulatedError  `json:"error"`
}

func (n *testNode) simulate(t *testing.T, sim object, block string) []simulatedResult {
	t.Helper()
	var blocks []simulatedResult
	require.NoError(t, json.Unmarshal(call(t, n.dial(t, "http"), "eth_simulateV1", sim, block), &blocks))
	return blocks
}

func blocksOf(blocks ...object) object { return object{"blockStateCalls": blocks} }

func at(n uint64) common.Address { return common.BigToAddress(new(big.Int).SetUint64(n)) }

// TestSimulateBlocks: numbers, times and parents of blocks that are asked for and of those between; the state goes on from one to the next.
func TestSimulateBlocks(t *testing.T) {
	n := startNode(t, Options{})
	head := n.mine(alice.emit(0, common.Hash{7}))
	blocks := n.simulate(t, blocksOf(
		object{"calls": []object{{"from": alice.address, "to": pauper.address, "value": "0x5"}}},
		object{"blockOverrides": object{"number": "0x5", "time": "0x77777777", "feeRecipient": at(9)}, "calls": []object{
			{"from": pauper.address, "to": at(0xabc), "value": "0x5"}, // it has what it was sent
		}},
		object{},
	), "latest")
	require.Len(t, blocks, 5)
	parent, now := head.Hash(), head.Time()
	for i, b := range blocks {
		require.EqualValues(t, 2+i, b.Number)
		require.Equal(t, parent, b.ParentHash)
		parent = b.Hash
		if now += 12; i == 3 {
			now = 0x77777777
		}
		require.EqualValues(t, now, b.Timestamp)
		require.Zero(t, b.BaseFeePerGas.ToInt().Sign(), "without validation the base fee is 0")
	}
	require.Equal(t, coinbase, blocks[0].Miner)
	require.Equal(t, at(9), blocks[3].Miner)
	require.Equal(t, at(9), blocks[4].Miner, "what a block has, the next one has too")
	require.EqualValues(t, 21_000, blocks[0].GasUsed)
	require.EqualValues(t, 1, blocks[3].Calls[0].Status)
	require.NotEqual(t, blocks[0].StateRoot, blocks[1].StateRoot, "EIP-2935 writes in every block")
	require.Equal(t, head.Hash(), n.CurrentHeader().Hash(), "nothing is kept")
	require.Equal(t, blocks, n.simulate(t, blocksOf(
		object{"calls": []object{{"from": alice.address, "to": pauper.address, "value": "0x5"}}},
		object{"blockOverrides": object{"number": "0x5", "time": "0x77777777", "feeRecipient": at(9)}, "calls": []object{
			{"from": pauper.address, "to": at(0xabc), "value": "0x5"},
		}},
		object{},
	), head.Hash().Hex()), "the same again, by hash")
}

// TestSimulateEnvironment: what contracts see of a block, with and without validation, and code from an override.
func TestSimulateEnvironment(t *testing.T) {
	n := startNode(t, Options{})
	n.mine(alice.transfer(0))
	word := func(v int64) string { return common.BigToHash(big.NewInt(v)).Hex()[2:] }
	for _, tc := range []struct {
		name string
		sim  object
		want string
	}{
		{"no fee", object{}, word(2) + word(0)},
		{"fee by validation", object{"validation": true}, word(2) + word(testBaseFee)},
		{"fee by override", object{"override": "0x9"}, word(2) + word(9)},
		{"fee by override and validation", object{"override": "0x9", "validation": true}, word(2) + word(9)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			overrides := object{}
			if fee, ok := tc.sim["override"]; ok {
				overrides["baseFeePerGas"] = fee
				delete(tc.sim, "override")
			}
			tc.sim["blockStateCalls"] = []object{{
				"blockOverrides": overrides,
				"stateOverrides": object{at(0xc0de).Hex(): object{"code": returnsNumberAndFee}},
				"calls":          []object{{"from": alice.address, "to": at(0xc0de), "maxFeePerGas": "0x3b9aca00", "gas": "0xffff"}},
			}}
			got := n.simulate(t, tc.sim, "latest")
			require.Equal(t, "0x"+tc.want, got[0].Calls[0].ReturnData.String())
		})
	}
	// A fee that a reconfiguration has changed holds for the next block, and the ones after.
	n.mu.Lock()
	n.nextFee = 3
	n.mu.Unlock()
	two := n.simulate(t, object{"validation": true, "blockStateCalls": []object{{}, {}}}, "latest")
	require.EqualValues(t, 3, two[0].BaseFeePerGas.ToInt().Int64())
	require.EqualValues(t, 3, two[1].BaseFeePerGas.ToInt().Int64())

	// BLOCKHASH knows the base, and simulated blocks.
	hashes := n.simulate(t, blocksOf(
		object{"stateOverrides": object{at(0xc0de).Hex(): object{"code": returnsParentHash}}, "calls": []object{{"to": at(0xc0de)}}},
		object{"calls": []object{{"to": at(0xc0de)}}},
	), "latest")
	for _, b := range hashes {
		require.Equal(t, b.ParentHash.Bytes(), []byte(b.Calls[0].ReturnData))
	}
	early := n.simulate(t, blocksOf(object{"stateOverrides": object{at(1).Hex(): object{"code": returnsTime}}, "calls": []object{{"to": at(1)}}}), "0x0")
	require.Equal(t, "0x"+word(genesisTime+12), early[0].Calls[0].ReturnData.String(), "code instead of a precompile, on an old block")
}

// TestSimulateLogs: the indices of a block's logs have no gaps, what is undone leaves none, and transfers are logs if that is wanted.
func TestSimulateLogs(t *testing.T) {
	n := startNode(t, Options{})
	topic := common.Hash{5}
	sim := blocksOf(object{
		"stateOverrides": object{at(1000).Hex(): object{"code": forwardsValue}, at(1001).Hex(): object{"code": forwardsAndReverts}},
		"calls": []object{
			{"from": alice.address, "to": emitter, "input": topic},
			{"from": alice.address, "to": at(1001), "value": "0x3"},
			{"from": alice.address, "to": at(1000), "value": "0x3"},
			{"from": alice.address, "to": emitter, "input": topic},
		},
	})
	logs := func() (lines []string) {
		for _, c := range n.simulate(t, sim, "latest")[0].Calls {
			var line []string
			for _, l := range c.Logs {
				require.Equal(t, "0x1", l["blockNumber"])
				require.Equal(t, hexutil.EncodeUint64(genesisTime+12), l["blockTimestamp"])
				line = append(line, fmt.Sprint(l["logIndex"], " ", l["address"].(string)[:4], " ", len(l["topics"].([]any))))
			}
			lines = append(lines, strings.Join(line, ", "))
		}
		return lines
	}
	require.Equal(t, []string{"0x0 0xe3 1", "", "", "0x1 0xe3 1"}, logs())
	sim["traceTransfers"] = true
	require.Equal(t, []string{"0x0 0xe3 1", "", "0x1 0xee 3, 0x2 0xee 3", "0x3 0xe3 1"}, logs())
}

// TestSimulateFullTransactions: they are unsigned and of the type that their fields make, and have their senders.
func TestSimulateFullTransactions(t *testing.T) {
	n := startNode(t, Options{})
	sim := blocksOf(object{"calls": []object{
		{"from": alice.address, "to": bob.address},
		{"from": bob.address, "to": bob.address, "gasPrice": "0x0"},
		{"from": bob.address, "to": bob.address, "gasPrice": "0x0", "accessList": []any{}},
		{"from": bob.address, "input": "0x5f5ff3", "nonce": "0x63"},
	}})
	sim["returnFullTransactions"] = true
	b := n.simulate(t, sim, "latest")[0]
	var got []string
	for i, tx := range b.Transactions {
		tx := tx.(map[string]any)
		require.Equal(t, b.Hash.Hex(), tx["blockHash"])
		require.Equal(t, hexutil.EncodeUint64(uint64(i)), tx["transactionIndex"])
		require.Equal(t, "0x0", tx["r"])
		got = append(got, fmt.Sprint(tx["type"], " ", tx["from"].(string)[:6], " ", tx["nonce"]))
	}
	a, o := strings.ToLower(alice.address.Hex()[:6]), strings.ToLower(bob.address.Hex()[:6])
	require.Equal(t, []string{"0x2 " + a + " 0x0", "0x0 " + o + " 0x0", "0x1 " + o + " 0x1", "0x2 " + o + " 0x63"}, got)
}

// TestSimulateErrors: what ends a simulation, with the codes that execution-apis lists, and what is only the outcome of a call.
func TestSimulateErrors(t *testing.T) {
	n := startNode(t, Options{CallGas: 1_000_000})
	c := n.dial(t, "http")
	n.mine(alice.transfer(0))
	validated := func(calls ...object) object {
		return object{"validation": true, "blockStateCalls": []object{{"calls": calls}}}
	}
	many := func(n int, b object) []object {
		list := make([]object, n)
		for i := range list {
			list[i] = b
		}
		return list
	}
	fee := func(o object) object {
		o["from"], o["to"], o["gas"], o["maxFeePerGas"] = alice.address, bob.address, "0x5208", "0x64"
		return o
	}
	for _, tc := range []struct {
		name    string
		sim     object
		code    int
		message string
	}{
		{"empty", blocksOf(), -32602, "empty input"},
		{"number", blocksOf(object{"blockOverrides": object{"number": "0x1"}}), -38020, "block numbers must be in order: 1 <= 1"},
		{"time", blocksOf(object{"blockOverrides": object{"time": "0x10"}}), -38021, fmt.Sprintf("block timestamps must be in order: 16 <= %d", genesisTime+1)},
		{"equal time", blocksOf(object{"blockOverrides": object{"time": "0x77777777"}}, object{"blockOverrides": object{"time": "0x77777777"}}),
			-38021, "block timestamps must be in order: 2004318071 <= 2004318071"},
		{"end of time", blocksOf(object{"blockOverrides": object{"time": "0xffffffffffffffff"}}, object{}), -38021, "block timestamps must be in order: 11 <= 18446744073709551615"},
		{"many blocks", blocksOf(many(257, object{})...), -38026, "too many blocks"},
		{"far block", blocksOf(object{"blockOverrides": object{"number": "0x102"}}), -38026, "too many blocks"},
		{"many calls in a block", blocksOf(object{"calls": many(5001, object{})}), -38026, "too many calls in block: 5001 > 5000"},
		{"many calls", blocksOf(many(3, object{"calls": many(5000, object{})})...), -38026, "too many calls: 15000 > 10000"},
		{"difficulty", blocksOf(object{"blockOverrides": object{"difficulty": "0x1"}}), -32602, "block 2: difficulty override is not allowed after the merge"},
		{"unknown override", blocksOf(object{"blockOverrides": object{"coinbase": at(1)}}), -32602, `invalid argument 0: unknown field "coinbase" in block override`},
		{"twice", blocksOf(object{"blockOverrides": object{"time": "0x1", "Time": "0x2"}}), -32602, `invalid argument 0: keys "Time" and "time" in block override name the same field`},
		{"unknown account override", blocksOf(object{"stateOverrides": object{at(1).Hex(): object{"storage": object{}}}}), -32602,
			`invalid argument 0: unknown field "storage" in state override for 0x0000000000000000000000000000000000000001`},
		{"state and stateDiff", blocksOf(object{"stateOverrides": object{at(99).Hex(): object{"state": object{}, "stateDiff": object{}}}}), -32000,
			"account 0x0000000000000000000000000000000000000063 has both 'state' and 'stateDiff'"},
		{"no precompile", blocksOf(object{"stateOverrides": object{at(99).Hex(): object{"movePrecompileToAddress": at(100)}}}), -32000,
			"account 0x0000000000000000000000000000000000000063 is not a precompile"},
		{"block gas", blocksOf(object{"blockOverrides": object{"gasLimit": "0x5208"}, "calls": []object{
			{"from": alice.address, "to": bob.address}, {"from": alice.address, "to": bob.address, "gas": "0x1"},
		}}), -38015, "block gas limit reached: remaining: 0, required: 1"},
		{"intrinsic gas", blocksOf(object{"calls": []object{{"from": alice.address, "to": bob.address, "gas": "0x10"}}}), -38013,
			"err: intrinsic gas too low: have 16, want 21000 (supplied gas 16)"},
		{"value", blocksOf(object{"calls": []object{{"from": pauper.address, "to": bob.address, "value": "0x1", "gas": "0x5208"}}}), -38014,
			"err: insufficient funds for gas * price + value: address " + pauper.address.Hex() + " have 0 want 1 (supplied gas 21000)"},
		{"nonce low", validated(fee(object{"nonce": "0x0"})), -38010, "err: nonce too low: address " + alice.address.Hex() + ", tx: 0 state: 1 (supplied gas 21000)"},
		{"nonce high", validated(fee(object{"nonce": "0x9"})), -38011, "err: nonce too high: address " + alice.address.Hex() + ", tx: 9 state: 1 (supplied gas 21000)"},
		{"fee", validated(object{"from": alice.address, "to": bob.address, "gas": "0x5208"}), -38012,
			"err: max fee per gas less than block base fee: address " + alice.address.Hex() + ", maxFeePerGas: 0, baseFee: 7 (supplied gas 21000)"},
		{"tip", validated(fee(object{"maxPriorityFeePerGas": "0xffff"})), -32602,
			"err: max priority fee per gas higher than max fee per gas: address " + alice.address.Hex() + ", maxPriorityFeePerGas: 65535, maxFeePerGas: 100 (supplied gas 21000)"},
		{"chain id", blocksOf(object{"calls": []object{{"chainId": "0x2"}}}), -32602, "chainId does not match node's (have=2, want=1337)"},
		{"last nonce", blocksOf(object{"stateOverrides": object{alice.address.Hex(): object{"nonce": "0xffffffffffffffff"}},
			"calls": []object{{"from": alice.address, "to": bob.address}}}), -32603, "nonce has max value: address " + alice.address.Hex() + ", nonce: 18446744073709551615"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, message, _ := callError(t, c, "eth_simulateV1", tc.sim, "latest")
			require.Equal(t, tc.message, message)
			require.Equal(t, tc.code, code)
		})
	}
	code, message, _ := callError(t, c, "eth_simulateV1", blocksOf(object{}), "0x99")
	require.Equal(t, "-32000 header not found", fmt.Sprint(code, " ", message))

	// The calls share the gas of one request, and what they have left over is the next one's.
	outcome := n.simulate(t, blocksOf(object{"calls": []object{
		{"from": alice.address, "to": emitter},                    // reverts
		{"from": alice.address, "input": "0xfe", "gas": "0xffff"}, // INVALID
		{"from": alice.address, "to": emitter, "input": "0x00"},   // runs until the gas is gone
	}}), "latest")[0]
	require.Equal(t, &simulatedError{"execution reverted: no topic", 3, hexutil.Encode(revertData)}, outcome.Calls[0].Error)
	require.EqualValues(t, 0, outcome.Calls[0].Status)
	require.Equal(t, &simulatedError{Message: "invalid opcode: INVALID", Code: -32015}, outcome.Calls[1].Error)
	require.Equal(t, &simulatedError{Message: "out of gas (gas limit was capped by the RPC server's global gas cap)", Code: -32015}, outcome.Calls[2].Error)
	require.EqualValues(t, 1_000_000, outcome.GasUsed)
	code, message, _ = callError(t, c, "eth_simulateV1", blocksOf(object{"calls": []object{{"to": emitter, "input": "0x00"}, {"to": bob.address}}}), "latest")
	require.Equal(t, "-38013 err: intrinsic gas too low: have 0, want 21000 (supplied gas 0)", fmt.Sprint(code, " ", message))
}
