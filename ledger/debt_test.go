package ledger

import (
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func TestDebt(t *testing.T) {
	var d debt
	root := func(n int) common.Hash { return common.Hash{byte(n)} }
	d.paid(root(1))
	for n := 1; n <= 5; n++ {
		d.add(root(n), time.Duration(n))
	}
	require.EqualValues(t, 15, d.sum)
	d.paid(root(2))
	require.EqualValues(t, 3+4+5, d.sum)
	d.paid(root(2)) // nothing new was written
	d.paid(root(9)) // a state from before the process began
	require.EqualValues(t, 3+4+5, d.sum)
	d.add(root(6), 6)
	d.paid(root(4))
	require.EqualValues(t, 5+6, d.sum)
	require.Len(t, d.blocks, 2)
	d.paid(root(6))
	require.Zero(t, d.sum)
	d.add(root(7), 7)
	d.clear()
	require.Equal(t, debt{blocks: d.blocks[:0]}, d)
}
