package raft_test

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

// TestRejoin: a member that is behind everybody's trim point says so, and goes on, as the member that it was, from a log that is restored from a snapshot.
func TestRejoin(t *testing.T) {
	var c *cluster
	c = newCluster(t, 3, func(id uint64, o *raft.Options) {
		small(id, o)
		o.Fetcher = fetcher(func(ctx context.Context, hint uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
			entries, err := c.Fetch(ctx, hint, from, end)
			if err != nil && from <= 60 {
				err = consensus.ErrTrimmed
			}
			return entries, err
		})
	})
	c.start(c.ids()...)
	away := c.others(c.leader())[0]
	c.append(away, 3)
	c.stop(away)
	up := c.leader(away)
	c.append(up, 100)
	other := c.others(away, up)[0]
	c.eventually("the other has all", func() bool { return c.tail(other) == 103 })
	for _, id := range []uint64{up, other} {
		require.NoError(t, c.loglet(id).Trim(c.ctx, 59))
	}
	c.start(away)
	c.eventually("it says so", func() bool { return c.loglet(away).Status().State == consensus.StateTrimmed })
	require.Contains(t, c.loglet(away).Status().Detail["problem"], "trimmed")
	held := c.tail(away)
	c.append(up, 20)
	c.stop(away)

	old := c.openStore(away, nil)
	seg := old.Segments()[0]
	before, ok, err := raft.Awaited(old, seg)
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, before, consensus.LSN(90))
	state, err := c.nodes[up].store.Snapshot(c.ctx, 80)
	require.NoError(t, err)
	disk := vfs.NewCrashableMem()
	opts := old.Options()
	opts.FS = disk
	require.NoError(t, consensus.RejoinStore(c.ctx, opts, state, old, true))
	require.EqualValues(t, held+1, old.Next(), "nothing has happened to the old one")
	require.NoError(t, old.Close())

	c.nodes[away].disk = disk
	c.start(away)
	c.crash(away)
	c.start(away)
	c.append(away, 1)
	_, err = c.loglet(away).Read(c.ctx, 79, 80)
	require.ErrorIs(t, err, consensus.ErrTrimmed)
	same := func() {
		tail := c.tail(away)
		c.eventually("the other has it too", func() bool { return c.tail(up) >= tail })
		want, err := c.loglet(up).Read(c.ctx, 80, tail)
		require.NoError(t, err)
		got, err := c.loglet(away).Read(c.ctx, 80, tail)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.EqualValues(t, 124, c.tail(away))
	same()

	c.stop(other)
	c.append(away, 1) // its acknowledgements count, and so does its vote
	c.stop(up)
	c.start(other)
	c.append(away, 1)
	c.start(up)
	c.append(up, 1)
	c.append(away, 1)
	same()
}
