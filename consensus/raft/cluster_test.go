package raft_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

const patience = 2 * time.Minute

// A cluster is members with disks of their own and a network between them.
type cluster struct {
	*testing.T
	ctx     context.Context
	net     *network
	rng     *rand.Rand
	spec    consensus.Spec
	options func(id uint64, o *raft.Options) // may change a member's
	seq     atomic.Uint64

	mu    sync.Mutex
	nodes map[uint64]*node
}

type node struct {
	disk   vfs.FS
	store  *consensus.Store
	loglet *raft.Loglet // nil: down
}

// newCluster makes a cluster, not open yet.
func newCluster(t *testing.T, members int, options func(uint64, *raft.Options)) *cluster {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c := &cluster{T: t, ctx: ctx, net: newNetwork(7), rng: rand.New(rand.NewPCG(7, 7)), spec: spec(members), options: options, nodes: map[uint64]*node{}}
	for _, m := range c.spec.Members {
		c.nodes[m.ID] = &node{disk: vfs.NewCrashableMem()}
	}
	t.Cleanup(func() {
		cancel()
		c.stop(c.ids()...)
		c.net.close()
	})
	return c
}

func startCluster(t *testing.T, members int, options func(uint64, *raft.Options)) *cluster {
	t.Helper()
	c := newCluster(t, members, options)
	c.start(c.ids()...)
	return c
}

func (c *cluster) ids() []uint64 {
	var ids []uint64
	for _, m := range c.spec.Members {
		ids = append(ids, m.ID)
	}
	return ids
}

func (c *cluster) others(of ...uint64) []uint64 {
	return slices.DeleteFunc(c.ids(), func(id uint64) bool { return slices.Contains(of, id) })
}

var testNetwork = consensus.NetworkID{1, 2, 3}

func (c *cluster) openStore(id uint64, onFatal func(error)) *consensus.Store {
	c.Helper()
	if onFatal == nil {
		onFatal = func(err error) { c.Errorf("member %d: %v", id, err) }
	}
	store, err := consensus.OpenStore(c.ctx, consensus.StoreOptions{
		FS: c.nodes[id].disk, Dir: "log", NetworkID: testNetwork, Genesis: c.spec, OnFatal: onFatal,
	})
	require.NoError(c, err)
	return store
}

func (c *cluster) optionsOf(id uint64) raft.Options {
	o := quick()
	o.Self, o.Transport, o.Fetcher = id, c.net, c
	if c.options != nil {
		c.options(id, &o)
	}
	return o
}

// start opens members, which `init` has made such.
func (c *cluster) start(ids ...uint64) {
	c.Helper()
	for _, id := range ids {
		store := c.openStore(id, nil)
		require.NoError(c, store.Vouch(1))
		l, err := raft.Open(store, store.Segments()[0], c.optionsOf(id))
		require.NoError(c, err)
		c.mu.Lock()
		c.nodes[id].store, c.nodes[id].loglet = store, l
		c.mu.Unlock()
	}
}

func (c *cluster) loglet(id uint64) *raft.Loglet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id].loglet
}

func (c *cluster) stop(ids ...uint64) {
	for _, id := range ids {
		c.mu.Lock()
		n := c.nodes[id]
		l, s := n.loglet, n.store
		n.loglet, n.store = nil, nil
		c.mu.Unlock()
		if l == nil {
			continue
		}
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			c.Errorf("stop member %d: %v", id, err)
		}
	}
}

// crash ends a member as if its power failed: what it had not synced is lost, in part.
func (c *cluster) crash(id uint64) {
	all := c.others(id)
	c.net.split([]uint64{id}, all) // nothing it does from now on has a witness
	disk := c.nodes[id].disk.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: c.rng})
	c.stop(id)
	c.nodes[id].disk = disk
	c.net.mend()
}

// Fetch is raft.Fetcher's, from any member that is up.
func (c *cluster) Fetch(ctx context.Context, hint uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
	for _, id := range append([]uint64{hint}, c.ids()...) {
		c.mu.Lock()
		n := c.nodes[id]
		var l *raft.Loglet
		if n != nil {
			l = n.loglet
		}
		c.mu.Unlock()
		if l == nil {
			continue
		}
		hi := min(end, from+7) - 1
		entries, err := l.Read(ctx, consensus.Offset(from-1), consensus.Offset(hi))
		if err == nil {
			return entries, nil
		}
	}
	return nil, consensus.ErrUnwritten
}

// eventually waits for something that nothing announces.
func (c *cluster) eventually(what string, ok func() bool) {
	c.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-c.ctx.Done():
			for _, id := range c.ids() {
				if l := c.loglet(id); l != nil {
					c.Logf("member %d: %+v", id, l.Status())
				}
			}
			require.FailNow(c, "never: "+what)
		}
	}
}

// leader waits for one that is none of these, and knows itself to lead.
func (c *cluster) leader(not ...uint64) (leader uint64) {
	c.Helper()
	c.eventually(fmt.Sprintf("a leader but for %v", not), func() bool {
		for _, id := range c.others(not...) {
			if l := c.loglet(id); l != nil && l.Members().Role == "leader" {
				leader = id
				return true
			}
		}
		return false
	})
	return leader
}

func (c *cluster) record() consensus.Record {
	n := c.seq.Add(1)
	return consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: n}, Payload: fmt.Appendf(nil, "payload %d", n)}
}

func (c *cluster) append(id uint64, n int) {
	c.Helper()
	for range n {
		_, err := c.loglet(id).Append(c.ctx, c.record())
		require.NoError(c, err)
	}
}

// load appends through all members, again and under the same id if one goes away, until the returned function is called, which returns what was
// acknowledged.
func (c *cluster) load(appenders int) func() map[consensus.RecordID]consensus.Offset {
	ctx, cancel := context.WithCancel(c.ctx)
	acked := map[consensus.RecordID]consensus.Offset{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for a := range appenders {
		wait.Go(func() {
			for ctx.Err() == nil {
				r := c.record()
				for try := a; ctx.Err() == nil; try++ {
					l := c.loglet(uint64(try%len(c.nodes)) + 1)
					if l == nil {
						continue
					}
					attempt, stop := context.WithTimeout(ctx, 500*time.Millisecond)
					o, err := l.Append(attempt, r)
					stop()
					if err == nil {
						mu.Lock()
						acked[r.ID] = o
						mu.Unlock()
						break
					}
				}
			}
		})
	}
	return func() map[consensus.RecordID]consensus.Offset {
		cancel()
		wait.Wait()
		return acked
	}
}

// agree checks that all members hold the same entries, each acknowledged one at its place and once, and returns them.
func (c *cluster) agree(acked map[consensus.RecordID]consensus.Offset) []consensus.Entry {
	c.Helper()
	tail, err := c.loglet(c.ids()[0]).Tail(c.ctx, consensus.Consistent)
	require.NoError(c, err)
	var want []consensus.Entry
	for i, id := range c.ids() {
		var got []consensus.Entry
		for consensus.Offset(len(got)) < tail.Offset {
			more, err := c.loglet(id).Follow(c.ctx, consensus.Offset(len(got)), 0)
			require.NoError(c, err)
			got = append(got, more...)
		}
		got = got[:tail.Offset]
		if i == 0 {
			want = got
		}
		require.Equal(c, want, got, "member %d", id)
	}
	prev, seen := consensus.Digest(testNetwork), map[consensus.RecordID]bool{}
	for i, e := range want {
		require.NoError(c, e.Verify(prev))
		prev = e.Digest
		require.False(c, seen[e.Record.ID], "%v is there twice", e.Record.ID)
		seen[e.Record.ID] = true
		require.Equal(c, consensus.LSN(i)+1, e.LSN)
	}
	for id, o := range acked {
		require.Less(c, int(o), len(want))
		require.Equal(c, id, want[o].Record.ID)
	}
	return want
}

func (c *cluster) tail(id uint64) consensus.Offset {
	t, err := c.loglet(id).Tail(c.ctx, consensus.Fast)
	require.NoError(c, err)
	return t.Offset
}
