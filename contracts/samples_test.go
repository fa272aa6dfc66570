package contracts_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"ledgerd/contracts/bindings/box"
	"ledgerd/contracts/bindings/factory"
	"ledgerd/contracts/bindings/token"
)

// deployToken has owner deploy a token of which it owns the whole supply.
func deployToken(c *chain, owner common.Address, supply int64) common.Address {
	c.t.Helper()
	addr, err := c.create(owner, append(common.FromHex(token.TokenMetaData.Bin),
		token.NewToken().PackConstructor("Sample", "SMP", big.NewInt(supply))...))
	require.NoError(c.t, err)
	return addr
}

func TestToken(t *testing.T) {
	c := newChain(t, nil)
	erc20 := token.NewToken()
	a, b := account("a"), account("b")
	addr := deployToken(c, a, 1000)

	symbol, err := erc20.UnpackSymbol(c.view(addr, erc20.PackSymbol()))
	require.NoError(t, err)
	require.Equal(t, "SMP", symbol)

	_, logs, err := c.transact(a, addr, erc20.PackTransfer(b, big.NewInt(300)))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	e, err := erc20.UnpackTransferEvent(logs[0])
	require.NoError(t, err)
	require.Equal(t, []any{a, b, int64(300)}, []any{e.From, e.To, e.Value.Int64()})

	for owner, want := range map[common.Address]int64{a: 700, b: 300} {
		have, err := erc20.UnpackBalanceOf(c.view(addr, erc20.PackBalanceOf(owner)))
		require.NoError(t, err)
		require.Equal(t, want, have.Int64())
	}

	_, _, err = c.transact(b, addr, erc20.PackTransfer(a, big.NewInt(301)))
	require.Equal(t, "ERC20InsufficientBalance(b, 300, 301)", errorName(t, erc20.GetABI(), err, show))
}

func TestFactory(t *testing.T) {
	c := newChain(t, nil)
	boxes, fac := box.NewBox(), factory.NewFactory()
	addr, err := c.create(account("a"), common.FromHex(factory.FactoryMetaData.Bin))
	require.NoError(t, err)

	// made checks the event of one creation, and the box itself.
	made := func(input []byte, want int64) common.Address {
		t.Helper()
		_, logs, err := c.transact(account("b"), addr, input)
		require.NoError(t, err)
		require.Len(t, logs, 1)
		e, err := fac.UnpackBoxCreatedEvent(logs[0])
		require.NoError(t, err)
		require.Equal(t, account("b"), e.Creator)
		require.Equal(t, want, e.Value.Int64())
		value, err := boxes.UnpackValue(c.view(e.Box, boxes.PackValue()))
		require.NoError(t, err)
		require.Equal(t, want, value.Int64())
		return e.Box
	}
	require.NotEqual(t, made(fac.PackCreate(big.NewInt(7)), 7), made(fac.PackCreate(big.NewInt(7)), 7))

	salt := [32]byte{1}
	want, err := fac.UnpackBoxAddress(c.view(addr, fac.PackBoxAddress(salt, big.NewInt(8))))
	require.NoError(t, err)
	require.Equal(t, want, made(fac.PackCreate2(salt, big.NewInt(8)), 8))

	_, _, err = c.transact(account("b"), addr, fac.PackCreate2(salt, big.NewInt(8)))
	var r *revert
	require.ErrorAs(t, err, &r, "the address is taken")
	require.Empty(t, r.data)
}
