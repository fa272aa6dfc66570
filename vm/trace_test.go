package vm

import (
	"context"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/stretchr/testify/require"
)

// requireRerun executes a block again under a tracer.
func (c *testChain) requireRerun(res *Result) {
	c.tb.Helper()
	require.Len(c.tb, res.Touched, len(res.Receipts))
	run, err := c.x.Rerun(context.Background(), c.state(), res.Block)
	require.NoError(c.tb, err)
	precompiles := gethvm.ActivePrecompiles(c.config.Rules(res.Block.Number(), true, res.Block.Time()))
	for i, want := range res.Receipts {
		tx := res.Block.Transactions()[i]
		sender, err := types.Sender(c.x.Signer(), tx)
		require.NoError(c.tb, err)
		require.Equal(c.tb, i, run.Index())
		var started, ended bool
		var created []common.Address // of the CREATEs that run, innermost last
		seen := func(a common.Address) {
			if a != sender && !slices.Contains(precompiles, a) {
				require.Contains(c.tb, res.Touched[i], a)
			}
		}
		got, err := run.Next(context.Background(), &tracing.Hooks{
			OnTxStart: func(_ *tracing.VMContext, tx *types.Transaction, from common.Address) {
				started = tx.Hash() == want.TxHash && from == sender
			},
			OnTxEnd: func(r *types.Receipt, err error) { ended = err == nil && r.GasUsed == want.GasUsed },
			OnEnter: func(_ int, op byte, from, to common.Address, _ []byte, _ uint64, _ *big.Int) {
				if op := gethvm.OpCode(op); op == gethvm.CREATE || op == gethvm.CREATE2 {
					created = append(created, to)
					return
				}
				created = append(created, common.Address{})
				seen(from)
				seen(to)
			},
			OnExit: func(_ int, _ []byte, _ uint64, err error, _ bool) {
				to := created[len(created)-1]
				created = created[:len(created)-1]
				// A CREATE whose endowment is not there, or that is too deep, creates nothing.
				if to != (common.Address{}) && !errors.Is(err, gethvm.ErrInsufficientBalance) && !errors.Is(err, gethvm.ErrDepth) {
					seen(to)
				}
			},
		})
		require.NoError(c.tb, err)
		require.True(c.tb, started && ended)
		require.NotContains(c.tb, res.Touched[i], sender)
		// The receipt of a transaction by itself does not know its block, nor what was paid for gas.
		got.BlockHash, got.EffectiveGasPrice = want.BlockHash, want.EffectiveGasPrice
		for _, l := range got.Logs {
			l.BlockHash = want.BlockHash
		}
		require.Equal(c.tb, want, got)
	}
}

// TestTouched looks at the accounts that EVM code reaches in other ways than by a plain call.
func TestTouched(t *testing.T) {
	a, b, fresh := common.Address{0xa}, common.Address{0xb}, common.Address{0xc}
	failing := append(program.New().Call(nil, b, 0, 0, 0, 0, 0).Bytes(), byte(gethvm.INVALID))
	for name, test := range map[string]struct {
		code []byte
		want []common.Address
	}{
		"call with value":      {program.New().Call(nil, fresh, 1, 0, 0, 0, 0).Bytes(), []common.Address{fresh}},
		"in what is reverted":  {program.New().Call(nil, a, 0, 0, 0, 0, 0).Bytes(), []common.Address{a, b}},
		"the same again":       {program.New().Call(nil, b, 0, 0, 0, 0, 0).Call(nil, b, 0, 0, 0, 0, 0).Bytes(), []common.Address{b}},
		"the coinbase":         {program.New().Call(nil, coinbase, 1, 0, 0, 0, 0).Bytes(), []common.Address{coinbase}},
		"selfdestruct":         {program.New().Selfdestruct(fresh).Bytes(), []common.Address{fresh}},
		"a precompile is none": {program.New().StaticCall(nil, 4, 0, 0, 0, 0).Bytes(), nil},
		"nothing":              {program.New().Sstore(1, 1).Bytes(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			address, alloc := contractAt(test.code)
			alloc[a] = types.Account{Code: failing, Balance: new(big.Int)}
			res := newChain(t, alloc).mustBlock(alice.call(0, address, 1_000_000, nil))
			require.ElementsMatch(t, append(test.want, address), res.Touched[0])
		})
	}
}

func TestTouchedOfOneTransactionOnly(t *testing.T) {
	c := newChain(t, nil)
	res := c.mustBlock(alice.transfer(0, carol.addr), alice.create(1, 1_000_000, deployer([]byte{0})), bob.transfer(0, bob.addr))
	require.Equal(t, [][]common.Address{{carol.addr}, {res.Receipts[1].ContractAddress}, {}}, res.Touched)
	many := types.AccessList{}
	var want []common.Address
	for i := range 40 { // beyond what is compared one by one
		many = append(many, types.AccessTuple{Address: common.Address{byte(i % 20), 1}})
	}
	for i := range 20 {
		want = append(want, common.Address{byte(i), 1})
	}
	res = c.mustBlock(alice.sign(&types.AccessListTx{ChainID: big.NewInt(testChainID), Nonce: 2, To: &alice.addr, Gas: 500_000, GasPrice: gwei, AccessList: many}))
	require.ElementsMatch(t, want, res.Touched[0])
}

// TestRerunOfOtherBlocks runs what never was on the chain, and what cannot run.
func TestRerunOfOtherBlocks(t *testing.T) {
	c := newChain(t, nil)
	parent := c.head
	res := c.mustBlock(alice.transfer(0, bob.addr))
	header := res.Block.Header()
	edit := func(f func(*types.Header)) *types.Block {
		h := types.CopyHeader(header)
		f(h)
		return types.NewBlockWithHeader(h).WithBody(*res.Block.Body())
	}
	c.head = parent
	run := func(b *types.Block) error {
		r, err := c.x.Rerun(t.Context(), c.state(), b)
		if err == nil {
			_, err = r.Next(t.Context(), nil)
		}
		return err
	}
	require.NoError(t, run(edit(func(h *types.Header) { h.Time += 100 })))
	for _, f := range []func(*types.Header){
		func(h *types.Header) { h.Number = new(big.Int) },
		func(h *types.Header) { h.Number = new(big.Int).Lsh(big.NewInt(1), 70) },
		func(h *types.Header) { h.ParentHash = common.Hash{1} },
		func(h *types.Header) { h.Number = big.NewInt(7) },
		func(h *types.Header) { h.BaseFee = nil },
		func(h *types.Header) { h.ExcessBlobGas = nil },
		func(h *types.Header) { h.ParentBeaconRoot = nil },
	} {
		require.ErrorIs(t, run(edit(f)), ErrNotTraceable)
	}
	require.ErrorContains(t, run(edit(func(h *types.Header) { h.GasLimit = 100 })), "gas limit reached")
	require.ErrorContains(t, run(edit(func(h *types.Header) { h.BaseFee = new(big.Int).Lsh(gwei, 10) })), "max fee per gas less than block base fee")
}

// TestRerunEnds ends an execution that would go on for its whole gas.
func TestRerunEnds(t *testing.T) {
	address, alloc := contractAt(loopCode)
	c := newChain(t, alloc)
	parent := c.head
	res := c.block(alice.call(0, address, 16_000_000, nil))
	c.head = parent
	r, err := c.x.Rerun(t.Context(), c.state(), res.Block)
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	steps := 0
	_, err = r.Next(ctx, &tracing.Hooks{OnOpcode: func(uint64, byte, uint64, uint64, tracing.OpContext, []byte, int, error) {
		if steps++; steps == 1 {
			cancel(enough)
		}
	}})
	require.ErrorIs(t, err, enough)
	_, err = r.Next(ctx, nil)
	require.ErrorIs(t, err, enough)
}

// loopCode runs until its gas is used up.
var loopCode = []byte{byte(gethvm.JUMPDEST), byte(gethvm.PUSH0), byte(gethvm.JUMP)}
