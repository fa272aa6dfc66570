package comet

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// A cluster is a town whose members a test starts and stops one by one. Their logs are in memory, and survive a stop.
type cluster struct {
	*testing.T
	ctx     context.Context
	town    *town
	options func(member int, o *Options) // may change a member's
	disks   []vfs.FS
	stores  []*consensus.Store
	engines []*Engine
	loglets []*Loglet // nil: down
	seq     atomic.Uint64
}

func newCluster(t *testing.T, members int, options func(int, *Options)) *cluster {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	c := &cluster{T: t, ctx: ctx, town: newTown(t, members), options: options}
	c.stores, c.engines, c.loglets = make([]*consensus.Store, members), make([]*Engine, members), make([]*Loglet, members)
	for range members {
		c.disks = append(c.disks, vfs.NewMem())
	}
	t.Cleanup(func() {
		for i := range c.loglets {
			c.stop(i)
		}
		cancel()
	})
	return c
}

// start opens members, which `init` has made such.
func (c *cluster) start(members ...int) {
	c.Helper()
	for _, i := range members {
		c.create(i)
		c.open(i)
	}
}

// create makes a member's store, which is vouched for, and its engine.
func (c *cluster) create(i int) {
	c.Helper()
	c.stores[i] = newStore(c, c.disks[i], c.town.spec())
	require.NoError(c, c.stores[i].Vouch(1))
	opts := c.town.options(i)
	if c.options != nil {
		c.options(i, &opts)
	}
	var err error
	c.engines[i], err = New(opts)
	require.NoError(c, err)
}

// open opens the loglet of a member that was created.
func (c *cluster) open(i int) {
	c.Helper()
	l, err := c.engines[i].Open(c.ctx, c.stores[i], c.stores[i].Segments()[0])
	require.NoError(c, err)
	c.loglets[i] = l.(*Loglet)
}

func startCluster(t *testing.T, members int, options func(int, *Options)) *cluster {
	t.Helper()
	c := newCluster(t, members, options)
	for i := range members {
		c.start(i)
	}
	return c
}

func (c *cluster) stop(i int) {
	if c.loglets[i] == nil {
		return
	}
	require.NoError(c, c.loglets[i].Close())
	require.NoError(c, c.engines[i].Close())
	require.NoError(c, c.stores[i].Close())
	c.loglets[i] = nil
}

func (c *cluster) record() consensus.Record { return record(c.seq.Add(1)) }

// append appends records through a member.
func (c *cluster) append(member, n int) {
	c.Helper()
	for range n {
		_, err := c.loglets[member].Append(c.ctx, c.record())
		require.NoError(c, err)
	}
}

// load appends through members, until the returned function is called, which returns how many were acknowledged.
func (c *cluster) load(members ...int) func() int {
	ctx, cancel := context.WithCancel(c.ctx)
	var wait sync.WaitGroup
	var acked atomic.Int64
	for _, i := range members {
		l := c.loglets[i]
		for range 4 {
			wait.Go(func() {
				for ctx.Err() == nil {
					if _, err := l.Append(ctx, c.record()); err == nil {
						acked.Add(1)
					}
				}
			})
		}
	}
	return func() int {
		cancel()
		wait.Wait()
		return int(acked.Load())
	}
}

// agree checks that members hold the same entries up to the tail of the first of them, each record once, and returns them.
func (c *cluster) agree(members ...int) []consensus.Entry {
	c.Helper()
	tail, err := c.loglets[members[0]].Tail(c.ctx, consensus.Consistent)
	require.NoError(c, err)
	var want []consensus.Entry
	for n, i := range members {
		var got []consensus.Entry
		for consensus.Offset(len(got)) < tail.Offset {
			more, err := c.loglets[i].Follow(c.ctx, consensus.Offset(len(got)), 0)
			require.NoError(c, err)
			got = append(got, more...)
		}
		if got = got[:tail.Offset]; n == 0 {
			want = got
		}
		require.Equal(c, want, got, "member %d", i)
	}
	digest, seen := consensus.Digest(consensus.NetworkID{1}), map[consensus.RecordID]bool{}
	for _, e := range want {
		require.NoError(c, e.Verify(digest))
		require.False(c, seen[e.Record.ID], "%v is there twice", e.Record.ID)
		digest, seen[e.Record.ID] = e.Digest, true
	}
	return want
}

// eventually waits for something that nothing announces.
func (c *cluster) eventually(what string, ok func() bool) {
	c.Helper()
	for !ok() {
		if !rest(c.ctx, 5*time.Millisecond) {
			for i, l := range c.loglets {
				if l != nil {
					c.Logf("member %d: %+v", i, l.Status())
				}
			}
			require.FailNow(c, "never: "+what)
		}
	}
}
