package comet

import (
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

func misbehavior(height int64) []abci.Misbehavior {
	return []abci.Misbehavior{{Type: abci.MisbehaviorType_DUPLICATE_VOTE, Height: height}}
}

// TestOffencesBeforeMark: the evidence of a block is in the register before the block is applied, and not twice when the block comes again.
func TestOffencesBeforeMark(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.append(0, 1)
	l := c.loglets[0]
	require.NoError(t, l.consensus.Stop()) // the test commits in its place
	<-l.ended
	a, at := l.app, l.replica.Position()
	stored := func() uint64 {
		again, err := openOffences(l.area, l.memberAt, l.logger)
		require.NoError(t, err)
		pieces, last := again.sum()
		require.Contains(t, last, "DUPLICATE_VOTE")
		return pieces
	}
	commit := func(height uint64, items ...consensus.Item) error {
		a.decided.height, a.decided.block, a.decided.misbehavior = int64(height), block{items: items}, misbehavior(1)
		_, err := a.Commit(t.Context(), nil)
		return err
	}
	foreign := l.replica.Segment()
	foreign.Base++
	require.ErrorIs(t, commit(at.Applied+1, consensus.Item{Record: consensus.BaseRecord(foreign)}), consensus.ErrDiverged)
	require.Equal(t, at, l.replica.Position(), "the block is not applied")
	require.EqualValues(t, 1, stored(), "as if the node had crashed now")
	require.NoError(t, commit(at.Applied+1))
	require.EqualValues(t, 1, stored(), "it is the same block")
	require.NoError(t, commit(at.Applied+2))
	require.EqualValues(t, 2, stored())
}

// TestOffencesFormat: a register is read as it was written, and what is none is refused.
func TestOffencesFormat(t *testing.T) {
	store := newStore(t, vfs.NewMem(), consensus.Spec{Engine: Name})
	defer func() { require.NoError(t, store.Close()) }()
	area := store.EngineArea(1)
	open := func(v []byte) (*offences, error) {
		require.NoError(t, area.Write(false, func(b *consensus.EngineBatch) error { return b.Set([]byte{keyOffences}, v) }))
		return openOffences(area, func([]byte) string { return "1" }, slog.New(slog.DiscardHandler))
	}
	o, err := open(append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 4}, "member 3"...))
	require.NoError(t, err)
	pieces, last := o.sum()
	require.EqualValues(t, 7, pieces)
	require.Equal(t, "member 3", last)
	require.NoError(t, o.add(4, misbehavior(3)), "it is in already")
	require.NoError(t, o.add(5, misbehavior(4)))
	pieces, _ = o.sum()
	require.EqualValues(t, 8, pieces)
	for _, bad := range [][]byte{{}, {1, 2}, {1, 0, 0, 0, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}} {
		_, err := open(bad)
		require.ErrorIs(t, err, consensus.ErrCorrupt, "%v", bad)
	}
}
