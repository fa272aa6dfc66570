package vm

import (
	"context"
	"encoding/json"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"ledgerd/contracts"
)

// rpc.Error and rpc.DataError are how the JSON-RPC server finds code and data.
var (
	_ rpc.Error     = (*RevertError)(nil)
	_ rpc.DataError = (*RevertError)(nil)
)

// returning is code that returns the word that ops leave on the stack.
func returning(ops ...gethvm.OpCode) []byte {
	return program.New().Op(ops...).Push0().Op(gethvm.MSTORE).Return(0, 32).Bytes()
}

func (c *testChain) call(msg CallMsg, opts CallOptions) (*core.ExecutionResult, error) {
	return c.x.Call(c.tb.Context(), c.state(), c.head, msg, opts)
}

// word calls a contract of returning.
func (c *testChain) word(msg CallMsg, opts CallOptions) *uint256.Int {
	c.tb.Helper()
	res, err := c.call(msg, opts)
	require.NoError(c.tb, err)
	require.NoError(c.tb, ResultError(res))
	return new(uint256.Int).SetBytes(res.Return())
}

func TestCallContext(t *testing.T) {
	address := common.HexToAddress("0xc0de000000000000000000000000000000000001")
	run := func(op gethvm.OpCode, msg CallMsg, opts CallOptions) *uint256.Int {
		c := newChain(t, types.GenesisAlloc{address: {Code: returning(op)}})
		c.baseFee = uint256.NewInt(7)
		c.mustBlock(alice.transfer(0, bob.addr))
		msg.To = &address
		return c.word(msg, opts)
	}
	big := func(v int64) *hexutil.Big { return (*hexutil.Big)(big.NewInt(v)) }
	u64 := func(v uint64) *hexutil.Uint64 { return (*hexutil.Uint64)(&v) }
	fee := CallMsg{From: alice.addr, GasFeeCap: uint256.NewInt(100), GasTipCap: uint256.NewInt(2)}

	require.Equal(t, new(uint256.Int).SetBytes(alice.addr[:]), run(gethvm.CALLER, CallMsg{From: alice.addr}, CallOptions{}))
	require.EqualValues(t, 5, run(gethvm.CALLVALUE, CallMsg{From: alice.addr, Value: uint256.NewInt(5)}, CallOptions{}).Uint64())
	require.EqualValues(t, testChainID, run(gethvm.CHAINID, CallMsg{}, CallOptions{}).Uint64())
	require.EqualValues(t, 1, run(gethvm.NUMBER, CallMsg{}, CallOptions{}).Uint64())
	require.Equal(t, new(uint256.Int).SetBytes(coinbase[:]), run(gethvm.COINBASE, CallMsg{}, CallOptions{}))

	require.EqualValues(t, 0, run(gethvm.BASEFEE, CallMsg{}, CallOptions{}).Uint64(), "a call without fees is not asked for them")
	require.EqualValues(t, 0, run(gethvm.GASPRICE, CallMsg{}, CallOptions{}).Uint64())
	require.EqualValues(t, 7, run(gethvm.BASEFEE, fee, CallOptions{}).Uint64())
	require.EqualValues(t, 9, run(gethvm.GASPRICE, fee, CallOptions{}).Uint64())
	require.EqualValues(t, 8, run(gethvm.GASPRICE, CallMsg{From: alice.addr, GasPrice: uint256.NewInt(8)}, CallOptions{}).Uint64())

	overrides := &BlockOverrides{Number: big(99), Time: u64(5), GasLimit: u64(77), FeeRecipient: &bob.addr, PrevRandao: &common.Hash{31: 4}, BaseFeePerGas: big(50), BlobBaseFee: big(6)}
	opts := CallOptions{Block: overrides}
	require.EqualValues(t, 99, run(gethvm.NUMBER, CallMsg{}, opts).Uint64())
	require.EqualValues(t, 5, run(gethvm.TIMESTAMP, CallMsg{}, opts).Uint64())
	require.EqualValues(t, 77, run(gethvm.GASLIMIT, CallMsg{}, opts).Uint64())
	require.Equal(t, new(uint256.Int).SetBytes(bob.addr[:]), run(gethvm.COINBASE, CallMsg{}, opts))
	require.EqualValues(t, 4, run(gethvm.PREVRANDAO, CallMsg{}, opts).Uint64())
	require.EqualValues(t, 52, run(gethvm.GASPRICE, fee, opts).Uint64(), "the price follows the overridden base fee")
	require.EqualValues(t, 6, run(gethvm.BLOBBASEFEE, CallMsg{}, opts).Uint64())
}

func TestCallGasCap(t *testing.T) {
	address, alloc := contractAt(returning(gethvm.GAS))
	c := newChain(t, alloc)
	gas := func(msg CallMsg, opts CallOptions) uint64 {
		msg.To = &address
		return c.word(msg, opts).Uint64()
	}
	const spent = 21_000 + 2
	require.EqualValues(t, DefaultCallGasCap-spent, gas(CallMsg{}, CallOptions{}), "above EIP-7825's cap: a call is no transaction")
	require.EqualValues(t, 100_000-spent, gas(CallMsg{Gas: 100_000}, CallOptions{}))
	require.EqualValues(t, 70_000-spent, gas(CallMsg{Gas: 100_000}, CallOptions{GasCap: 70_000}))
}

// Calls do not need what transactions need, but a call with a fee or value needs the money.
func TestCallChecks(t *testing.T) {
	c := newChain(t, types.GenesisAlloc{codeOwner.addr: {Code: []byte{0}}})
	for _, test := range []struct {
		name string
		msg  CallMsg
		opts CallOptions
		want string
	}{
		{name: "nothing at all", msg: CallMsg{}},
		{name: "from a contract", msg: CallMsg{From: codeOwner.addr, To: &bob.addr}},
		{name: "value without money", msg: CallMsg{From: pauper.addr, To: &bob.addr, Value: uint256.NewInt(1)},
			want: "err: insufficient funds for gas * price + value: address " + pauper.addr.Hex() + " have 0 want 1 (supplied gas 50000000)"},
		{name: "too little gas", msg: CallMsg{To: &bob.addr, Gas: 1}, want: "err: intrinsic gas too low: have 1, want 21000 (supplied gas 1)"},
		{name: "two kinds of fees", msg: CallMsg{GasPrice: uint256.NewInt(1), GasTipCap: uint256.NewInt(1)},
			want: "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"},
		{name: "blobs that create", msg: CallMsg{BlobHashes: []common.Hash{{1}}}, want: core.ErrBlobTxCreate.Error()},
		{name: "authorizations that create", msg: CallMsg{Authorizations: []types.SetCodeAuthorization{{}}}, want: core.ErrSetCodeTxCreate.Error()},
		{name: "beacon root", opts: CallOptions{Block: &BlockOverrides{BeaconRoot: &common.Hash{}}}, want: `block override "beaconRoot" is not supported for this RPC method`},
		{name: "withdrawals", opts: CallOptions{Block: &BlockOverrides{Withdrawals: &types.Withdrawals{}}}, want: `block override "withdrawals" is not supported for this RPC method`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.call(test.msg, test.opts)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, test.want)
		})
	}
}

func TestCallTimeout(t *testing.T) {
	address, alloc := contractAt([]byte{byte(gethvm.JUMPDEST), byte(gethvm.PUSH0), byte(gethvm.JUMP)})
	c := newChain(t, alloc)
	msg, opts := CallMsg{To: &address}, CallOptions{GasCap: math.MaxInt64, Timeout: 20 * time.Millisecond}
	_, err := c.call(msg, opts)
	require.EqualError(t, err, "execution aborted (timeout = 20ms)")
	_, err = c.x.EstimateGas(t.Context(), c.state(), c.head, msg, CallOptions{Timeout: time.Nanosecond})
	require.EqualError(t, err, "execution aborted (timeout = 1ns)")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.x.Call(ctx, c.state(), c.head, msg, CallOptions{GasCap: math.MaxInt64, Timeout: -1})
	require.ErrorIs(t, err, context.Canceled)
}

func TestRevertErrors(t *testing.T) {
	encode := func(selector string, words ...string) []byte {
		data := common.FromHex(selector)
		for _, w := range words {
			data = append(data, common.FromHex(w)...)
		}
		return data
	}
	word := func(v int64) string { return common.BigToHash(big.NewInt(v)).Hex() }
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"no data", nil, "execution reverted"},
		{"Error(string)", encode("0x08c379a0", word(32), word(5), "0x68656c6c6f000000000000000000000000000000000000000000000000000000"), "execution reverted: hello"},
		{"Panic(uint256)", encode("0x4e487b71", word(0x11)), "execution reverted: arithmetic underflow or overflow"},
		{"unknown panic", encode("0x4e487b71", word(0x99)), "execution reverted: unknown panic code: 0x99"},
		{"a contract's own error", encode("0xdeadbeef", word(1)), "execution reverted"},
		{"garbage", encode("0x08c379a0", word(1)), "execution reverted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := program.New()
			if len(test.data) > 0 {
				p.Mstore(test.data, 0)
			}
			address, alloc := contractAt(p.Push(len(test.data)).Push0().Op(gethvm.REVERT).Bytes())
			c := newChain(t, alloc)
			res, err := c.call(CallMsg{To: &address}, CallOptions{})
			require.NoError(t, err)
			_, estimateErr := c.x.EstimateGas(t.Context(), c.state(), c.head, CallMsg{To: &address}, CallOptions{})
			for _, err := range []error{ResultError(res), estimateErr} {
				var revert *RevertError
				require.ErrorAs(t, err, &revert)
				require.ErrorIs(t, err, gethvm.ErrExecutionReverted)
				require.EqualError(t, err, test.want)
				require.Equal(t, 3, revert.ErrorCode())
				require.Equal(t, hexutil.Encode(test.data), revert.ErrorData())
			}
		})
	}
	c := newChain(t, nil)
	res, err := c.call(CallMsg{Data: []byte{0xfe}}, CallOptions{})
	require.NoError(t, err)
	require.EqualError(t, ResultError(res), "invalid opcode: INVALID")
}

func TestCallTracer(t *testing.T) {
	address, alloc := contractAt(returning(gethvm.ADDRESS))
	c := newChain(t, alloc)
	var ops []gethvm.OpCode
	_, err := c.call(CallMsg{To: &address}, CallOptions{Tracer: &tracing.Hooks{
		OnOpcode: func(pc uint64, op byte, gas, cost uint64, scope tracing.OpContext, rData []byte, depth int, err error) {
			ops = append(ops, gethvm.OpCode(op))
		},
	}})
	require.NoError(t, err)
	require.Equal(t, gethvm.ADDRESS, ops[0])
	require.Equal(t, gethvm.RETURN, ops[len(ops)-1])
}

// A state that cannot be read is an error of its own, not an empty account or a contract without code.
func TestCallStateError(t *testing.T) {
	address, alloc := contractAt(returning(gethvm.ADDRESS))
	c := newChain(t, alloc)
	for n := 0; ; n++ {
		reads, st := c.failingState(n)
		_, err := c.x.Call(t.Context(), st, c.head, CallMsg{From: alice.addr, To: &address}, CallOptions{})
		if reads.left >= 0 {
			require.NoError(t, err)
			require.NotZero(t, n)
			return
		}
		require.ErrorIs(t, err, errDisk, "read %d", n)
	}
}

func TestEstimateGas(t *testing.T) {
	burner, alloc := contractAt(program.New().Sstore(1, 2).Bytes()) // 22106 above the base
	c := newChain(t, alloc)
	c.mustBlock(bob.transfer(0, carol.addr))
	estimate := func(msg CallMsg, opts CallOptions) (uint64, error) {
		return c.x.EstimateGas(t.Context(), c.state(), c.head, msg, opts)
	}
	gas, err := estimate(CallMsg{From: alice.addr, To: &bob.addr, Value: uint256.NewInt(1)}, CallOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 21_000, gas)

	gas, err = estimate(CallMsg{From: alice.addr, To: &burner}, CallOptions{})
	require.NoError(t, err)
	require.InDelta(t, 43_106, gas, 43_106*estimateErrorRatio)
	require.GreaterOrEqual(t, gas, uint64(43_106))
	c.mustBlock(alice.call(0, burner, gas, nil))

	for _, test := range []struct {
		name string
		msg  CallMsg
		opts CallOptions
		want string
	}{
		{"the caller's limit", CallMsg{To: &burner, Gas: 22_000, Data: []byte{1}}, CallOptions{}, "gas required exceeds allowance (22000)"},
		{"the cap", CallMsg{To: &burner, Data: []byte{1}}, CallOptions{GasCap: 22_000}, "gas required exceeds allowance (22000)"},
		{"funds", CallMsg{From: pauper.addr, To: &burner, GasPrice: uint256.NewInt(1)},
			CallOptions{State: StateOverride{pauper.addr: {Balance: (*hexutil.Big)(big.NewInt(1000))}}}, "gas required exceeds allowance (1000)"},
		{"value", CallMsg{From: pauper.addr, To: &burner, GasPrice: uint256.NewInt(1), Value: uint256.NewInt(1)}, CallOptions{}, core.ErrInsufficientFundsForTransfer.Error()},
		{"EIP-7825", CallMsg{Data: []byte{byte(gethvm.JUMPDEST), byte(gethvm.PUSH0), byte(gethvm.JUMP)}}, CallOptions{}, "gas required exceeds allowance (16777216)"},
		{"moved precompile", CallMsg{}, CallOptions{State: StateOverride{ripemd: {MovePrecompileTo: &bob.addr}}}, "movePrecompileToAddress is not supported for this RPC method"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := estimate(test.msg, test.opts)
			require.EqualError(t, err, test.want)
		})
	}
}

func TestEstimateGasAsksPermissions(t *testing.T) {
	c := newChain(t, permissionsAlloc(contracts.RestrictSend|contracts.RestrictDeploy, map[account]uint64{alice: contracts.FlagSend}))
	estimate := func(msg CallMsg) error {
		_, err := c.x.EstimateGas(t.Context(), c.state(), c.head, msg, CallOptions{})
		return err
	}
	require.NoError(t, estimate(CallMsg{From: alice.addr, To: &bob.addr}))
	require.ErrorIs(t, estimate(CallMsg{From: alice.addr, Data: []byte{0}}), ErrDeployNotPermitted)
	require.ErrorIs(t, estimate(CallMsg{From: bob.addr, To: &bob.addr}), ErrSendNotPermitted)
	require.NoError(t, estimate(CallMsg{To: &bob.addr}))
}

func parseOverride(t *testing.T, text string) (o StateOverride) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &o))
	return o
}

func TestStateOverrides(t *testing.T) {
	address, alloc := contractAt(program.New().Push0().Op(gethvm.SLOAD).Push(1).Op(gethvm.SLOAD, gethvm.ADD).Push0().Op(gethvm.MSTORE).Return(0, 32).Bytes())
	contract := alloc[address]
	contract.Storage = map[common.Hash]common.Hash{{}: {31: 3}, {31: 1}: {31: 4}}
	alloc[address] = contract
	c := newChain(t, alloc)
	word := func(v byte) string { return common.Hash{31: v}.Hex() }
	name := address.Hex()
	sum := func(override string) uint64 {
		return c.word(CallMsg{From: alice.addr, To: &address}, CallOptions{State: parseOverride(t, override)}).Uint64()
	}
	require.EqualValues(t, 7, sum(`{}`))
	require.EqualValues(t, 14, sum(`{"`+name+`":{"stateDiff":{"`+word(1)+`":"`+word(11)+`"}}}`))
	require.EqualValues(t, 11, sum(`{"`+name+`":{"state":{"`+word(1)+`":"`+word(11)+`"}}}`))
	require.EqualValues(t, 0x1d, sum(`{"`+name+`":{"code":"`+hexutil.Encode(program.New().Push(0x1d).Push0().Op(gethvm.MSTORE).Return(0, 32).Bytes())+`"}}`))
	require.EqualValues(t, 7, sum(`{}`), "an override is for one call")

	balance := returning(gethvm.SELFBALANCE)
	require.EqualValues(t, 0x64, c.word(CallMsg{To: &address}, CallOptions{State: parseOverride(t, `{"`+name+`":{"balance":"0x64","nonce":"0x5","code":"`+hexutil.Encode(balance)+`"}}`)}).Uint64())

	// An override is the state before the transaction, for the prices of SSTORE too: clearing an overridden slot costs
	// 5000 and refunds 4800.
	clearing := `{"` + name + `":{"code":"0x5f5f55","stateDiff":{"` + word(0) + `":"` + word(5) + `"}}}`
	res, err := c.call(CallMsg{To: &address}, CallOptions{State: parseOverride(t, clearing)})
	require.NoError(t, err)
	require.EqualValues(t, 21_000+2+2+5_000-4_800, res.UsedGas)

	rich := CallMsg{From: pauper.addr, To: &bob.addr, Value: uint256.NewInt(5)}
	_, err = c.call(rich, CallOptions{State: parseOverride(t, `{"`+pauper.addr.Hex()+`":{"balance":"0x5"}}`)})
	require.NoError(t, err)

	// The identity precompile, moved, with something else in its place.
	moved := common.HexToAddress("0x1234")
	opts := CallOptions{State: parseOverride(t, `{"0x0000000000000000000000000000000000000004":{"movePrecompileToAddress":"`+moved.Hex()+`","code":"`+hexutil.Encode(balance)+`"}}`)}
	require.EqualValues(t, 9, c.word(CallMsg{To: &moved, Data: common.Hash{31: 9}.Bytes()}, opts).Uint64())
	require.EqualValues(t, 0, c.word(CallMsg{To: &common.Address{19: 4}, Data: common.Hash{31: 9}.Bytes()}, opts).Uint64())

	for override, want := range map[string]string{
		`{"` + name + `":{"state":{},"stateDiff":{}}}`:                                                                "has both 'state' and 'stateDiff'",
		`{"` + name + `":{"balance":"0x1` + common.Hash{}.Hex()[2:] + `"}}`:                                           "",
		`{"` + name + `":{"movePrecompileToAddress":"` + moved.Hex() + `"}}`:                                          "is not a precompile",
		`{"0x0000000000000000000000000000000000000001":{"movePrecompileToAddress":"` + name + `"},"` + name + `":{}}`: "is already overridden",
	} {
		var o StateOverride
		err := json.Unmarshal([]byte(override), &o)
		if want == "" {
			require.Error(t, err, "more than 256 bits")
			continue
		}
		require.NoError(t, err)
		_, err = c.call(CallMsg{To: &address}, CallOptions{State: o})
		require.ErrorContains(t, err, want)
	}
}

// Estimates see the overrides too.
func TestEstimateGasOverrides(t *testing.T) {
	address, alloc := contractAt([]byte{0xfe})
	c := newChain(t, alloc)
	gas, err := c.x.EstimateGas(t.Context(), c.state(), c.head, CallMsg{From: pauper.addr, To: &address, GasFeeCap: uint256.NewInt(params.GWei), Data: []byte{1}}, CallOptions{
		State: parseOverride(t, `{"`+address.Hex()+`":{"code":"0x00"},"`+pauper.addr.Hex()+`":{"balance":"0xde0b6b3a7640000"}}`),
		Block: &BlockOverrides{BaseFeePerGas: (*hexutil.Big)(big.NewInt(params.GWei))},
	})
	require.NoError(t, err)
	require.InDelta(t, 21_040, gas, 21_040*estimateErrorRatio)

	_, err = c.x.EstimateGas(t.Context(), c.state(), c.head, CallMsg{From: alice.addr, To: &address, GasFeeCap: uint256.NewInt(1), Data: []byte{1}}, CallOptions{
		Block: &BlockOverrides{BaseFeePerGas: (*hexutil.Big)(big.NewInt(2))},
	})
	require.ErrorIs(t, err, core.ErrFeeCapTooLow)
}
