package raft_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

// TestLeaderCrash: power fails at the leader under appends, several times. Nothing acknowledged is lost, nothing is there twice.
func TestLeaderCrash(t *testing.T) {
	c := startCluster(t, 3, nil)
	end := c.load(6)
	for range 5 {
		leader := c.leader()
		at := c.tail(leader)
		c.eventually("appends", func() bool { return c.tail(leader) > at+20 })
		c.crash(leader)
		next := c.leader(leader)
		at = c.tail(next)
		c.eventually("appends under the next leader", func() bool { return c.tail(next) > at+5 })
		c.start(leader)
	}
	c.agree(end())
}

// TestFollowerCrash: one follower after the other, and all at once.
func TestFollowerCrash(t *testing.T) {
	c := startCluster(t, 3, nil)
	end := c.load(6)
	for range 3 {
		leader := c.leader()
		for _, id := range c.others(leader) {
			at := c.tail(leader)
			c.eventually("appends", func() bool { return c.tail(leader) > at+10 })
			c.crash(id)
			c.start(id)
		}
	}
	acked := end()
	before := c.agree(acked)
	c.stop(c.ids()...)
	c.start(c.ids()...)
	c.append(2, 1)
	after := c.agree(acked)
	require.Equal(t, before, after[:len(before)])
}

// TestLeaderPartition: a leader that is cut off acknowledges nothing and has no consistent tail, while the others go on.
func TestLeaderPartition(t *testing.T) {
	c := startCluster(t, 3, nil)
	old := c.leader()
	c.append(old, 5)
	c.net.split([]uint64{old}, c.others(old))

	ctx, cancel := context.WithCancel(c.ctx)
	r := c.record()
	var wait sync.WaitGroup
	var appendErr, tailErr error
	wait.Go(func() { _, appendErr = c.loglet(old).Append(ctx, r) })
	wait.Go(func() { _, tailErr = c.loglet(old).Tail(ctx, consensus.Consistent) })
	next := c.leader(old)
	c.append(next, 5)
	tail, err := c.loglet(next).Tail(c.ctx, consensus.Consistent)
	require.NoError(t, err)
	require.EqualValues(t, 10, tail.Offset)
	c.eventually("the old leader steps down", func() bool { return c.loglet(old).Members().Role != "leader" })
	cancel()
	wait.Wait()
	require.ErrorIs(t, appendErr, consensus.ErrUnknownFate)
	require.ErrorIs(t, tailErr, context.Canceled)
	require.EqualValues(t, 5, c.tail(old))

	c.net.mend()
	o, err := c.loglet(old).Append(c.ctx, r) // again, under the same id
	require.NoError(t, err)
	require.GreaterOrEqual(t, int(o), 10)
	c.agree(map[consensus.RecordID]consensus.Offset{r.ID: o})
}

// TestAsymmetricCut: a leader that is not heard is replaced; one that is heard and does not hear steps down; neither makes for endless elections.
func TestAsymmetricCut(t *testing.T) {
	for _, mute := range []bool{true, false} {
		c := startCluster(t, 3, nil)
		old := c.leader()
		c.append(old, 3)
		if mute {
			c.net.sever([]uint64{old}, c.others(old))
		} else {
			c.net.sever(c.others(old), []uint64{old})
		}
		next := c.leader(old)
		c.append(next, 3)
		term := c.loglet(next).Members().Term
		for range 20 { // while the cut lasts
			c.append(next, 1)
			_, err := c.loglet(next).Tail(c.ctx, consensus.Consistent)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, c.loglet(next).Members().Term, term+2)
		c.net.mend()
		c.append(old, 1)
		c.agree(nil)
	}
}

// TestLossy: a bad network costs time, and nothing else.
func TestLossy(t *testing.T) {
	c := startCluster(t, 5, nil)
	c.net.set(faults{drop: 0.1, double: 0.1, max: 4 * time.Millisecond})
	end := c.load(8)
	leader := c.leader()
	c.eventually("appends", func() bool { return c.tail(leader) > 200 })
	acked := end()
	c.net.set(faults{})
	require.NotEmpty(t, acked)
	c.agree(acked)
}

// small lets raft's log reach back a few entries only, and keeps nearly none in memory.
func small(_ uint64, o *raft.Options) { o.KeepEntries, o.CacheBytes = 8, 1 }

// TestAwayByLog: a member that was away for less than raft's log reaches back gets what it missed from there, though it lies in the log by now.
func TestAwayByLog(t *testing.T) {
	c := startCluster(t, 3, func(_ uint64, o *raft.Options) { o.CacheBytes, o.Fetcher = 1, nil })
	away := c.others(c.leader())[0]
	c.append(away, 3)
	c.stop(away)
	up := c.leader(away)
	c.append(up, 100)
	r := c.record()
	for range 3 { // void entries are replayed as well
		_, err := c.loglet(up).Append(c.ctx, r)
		require.NoError(t, err)
	}
	c.stop(c.others(away)...) // so that what was applied has become references
	c.start(c.ids()...)
	c.append(away, 1)
	require.Len(t, c.agree(nil), 105)
}

// TestAwayBySnapshot: past that, it fetches the entries. It goes on where it was if it crashes meanwhile.
func TestAwayBySnapshot(t *testing.T) {
	var fetches, fail atomic.Int64
	var c *cluster
	c = newCluster(t, 3, func(id uint64, o *raft.Options) {
		small(id, o)
		o.Fetcher = fetcher(func(ctx context.Context, hint uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
			if fetches.Add(1) > fail.Load() {
				return nil, errors.New("no peer is there")
			}
			return c.Fetch(ctx, hint, from, end)
		})
	})
	c.start(c.ids()...)
	away := c.others(c.leader())[0]
	c.append(away, 3)
	c.stop(away)
	up := c.leader(away)
	c.append(up, 100)
	fail.Store(5)
	c.start(away)
	c.eventually("some entries", func() bool { return c.tail(away) > 30 })
	c.eventually("the fetches fail", func() bool { return fetches.Load() > 6 })
	s := c.loglet(away).Status()
	require.Equal(t, raft.StateInstalling, s.State)
	require.EqualValues(t, 38, s.Tail)
	for range 2 { // a crash, and a stop
		c.crash(away)
		c.append(up, 20) // the snapshot is an old one by now
		c.start(away)
		require.True(t, c.loglet(away).Members().Installing)
	}
	fetches.Store(0)
	fail.Store(1 << 40)
	c.append(away, 1)
	require.Len(t, c.agree(nil), 144)

	other := c.others(away, up)[0]
	c.stop(other)
	c.append(away, 1) // its vote and acknowledgements count again
	c.start(other)
	c.agree(nil)
}

type fetcher func(context.Context, uint64, consensus.LSN, consensus.LSN) ([]consensus.Entry, error)

func (f fetcher) Fetch(ctx context.Context, hint uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
	return f(ctx, hint, from, end)
}

// TestForgedFetch: entries that are not those of the log are not applied.
func TestForgedFetch(t *testing.T) {
	var forged atomic.Bool
	forged.Store(true)
	var c *cluster
	c = newCluster(t, 3, func(id uint64, o *raft.Options) {
		small(id, o)
		o.Fetcher = fetcher(func(ctx context.Context, hint uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
			entries, err := c.Fetch(ctx, hint, from, end)
			if err == nil && forged.Load() {
				last := &entries[len(entries)-1]
				last.Record.Payload = []byte("forged")
			}
			return entries, err
		})
	})
	c.start(c.ids()...)
	away := c.others(c.leader())[0]
	c.stop(away)
	c.append(c.leader(away), 40)
	c.start(away)
	c.eventually("a snapshot", func() bool { return c.loglet(away).Status().State == raft.StateInstalling })
	require.Zero(t, c.tail(away))
	forged.Store(false)
	c.append(away, 1)
	require.Len(t, c.agree(nil), 41)
}

// TestStrangers: frames of another epoch identity, of somebody who is no member, or not for this one, change nothing.
func TestStrangers(t *testing.T) {
	c := newCluster(t, 3, nil)
	var mu sync.Mutex
	var seen [][]byte
	c.net.spy = func(_, to uint64, frame []byte) {
		mu.Lock()
		defer mu.Unlock()
		if to == 1 && len(seen) < 50 {
			seen = append(seen, append([]byte(nil), frame...))
		}
	}
	c.start(c.ids()...)
	c.append(1, 5)
	c.agree(nil)
	c.net.mu.Lock()
	port := c.net.members[place{c.nodes[1].store.Segments()[0].Identity, 1}]
	c.net.mu.Unlock()
	refused := c.loglet(1).Members().Refused
	require.Zero(t, refused)
	mu.Lock()
	n := uint64(0)
	for _, frame := range seen {
		for _, at := range []int{0, 1, 33 + 7, 41 + 7} { // version, identity, sender, receiver
			f := append([]byte(nil), frame...)
			f[at] ^= 0x40
			port.deliver(f)
			n++
		}
	}
	mu.Unlock()
	c.eventually("all are refused", func() bool { return c.loglet(1).Members().Refused == n })
	c.append(1, 5)
	require.Len(t, c.agree(nil), 10)
}

// TestLag: a node whose application lags hands the lead over, and does not take it back.
func TestLag(t *testing.T) {
	var lagging atomic.Uint64
	c := startCluster(t, 3, func(id uint64, o *raft.Options) {
		o.MaxLag = 10
		o.Applied = func() consensus.LSN {
			if lagging.Load() == id {
				return 0
			}
			return 1 << 40
		}
	})
	old := c.leader()
	c.append(old, 20)
	lagging.Store(old)
	next := c.leader(old)
	c.append(old, 1)
	require.Equal(t, "follower", c.loglet(old).Members().Role)

	// Without a leader, the third member comes forward, and not the one that lags.
	third := c.others(old, next)[0]
	c.stop(next)
	require.Equal(t, third, c.leader(old)) // at first old may lead, to bring the other up to date
	c.start(next)
	c.agree(nil)

	// If nobody else is there, a slow leader is better than none.
	c.append(old, 1)
	c.stop(old)
	c.leader()
	c.start(old)
	c.append(old, 1)
	c.agree(nil)
}

// TestLagAlone: members that all lag do have a leader.
func TestLagAlone(t *testing.T) {
	c := startCluster(t, 3, func(_ uint64, o *raft.Options) {
		o.MaxLag = 10
		o.Applied = func() consensus.LSN { return 0 }
	})
	c.append(1, 30)
	c.stop(c.ids()...)
	c.start(c.ids()...)
	c.append(1, 1)
	require.Len(t, c.agree(nil), 31)
}

// TestClock: a node whose clock is far off does not lead, and the log's time does not jump.
func TestClock(t *testing.T) {
	var off atomic.Uint64
	c := startCluster(t, 3, func(id uint64, o *raft.Options) {
		o.Now = func() time.Time {
			if off.Load() == id {
				return time.Now().Add(time.Hour)
			}
			return time.Now()
		}
	})
	old := c.leader()
	c.append(old, 3)
	off.Store(old)
	next := c.leader(old)
	c.append(next, 3)
	c.stop(next)
	require.Equal(t, c.others(old, next)[0], c.leader(old)) // at first old may lead, to bring the other up to date
	c.start(next)
	off.Store(0)
	c.append(old, 3)
	entries := c.agree(nil)
	require.Len(t, entries, 9)
	last := time.UnixMilli(int64(entries[8].UnixMilli))
	require.WithinDuration(t, time.Now(), last, time.Minute)
}

// TestNotMember: a disk without the segment's identity takes no part, nor does one that is another member's.
func TestNotMember(t *testing.T) {
	c := newCluster(t, 3, nil)
	open := func(id uint64, o raft.Options) error {
		store := c.openStore(id, nil)
		l, err := raft.Open(store, store.Segments()[0], o)
		if err == nil {
			require.NoError(t, l.Close())
		}
		require.NoError(t, store.Close())
		return err
	}
	vouch := func(id uint64, epoch consensus.Epoch) {
		store := c.openStore(id, nil)
		require.NoError(t, store.Vouch(epoch))
		require.NoError(t, store.Close())
	}
	require.ErrorIs(t, open(1, c.optionsOf(1)), consensus.ErrNotMember, "neither identity nor vouched for")
	vouch(2, 2)
	require.ErrorIs(t, open(2, c.optionsOf(2)), consensus.ErrNotMember, "vouched for from a later epoch on")
	c.nodes[2].disk = vfs.NewCrashableMem()
	vouch(1, 1)
	require.ErrorIs(t, open(1, c.optionsOf(9)), consensus.ErrNotMember, "not in the spec")
	require.NoError(t, open(1, c.optionsOf(1)), "takes the identity on")
	require.NoError(t, open(1, c.optionsOf(1)), "the identity")
	require.ErrorIs(t, open(1, c.optionsOf(2)), consensus.ErrNotMember, "another member's disk")
	c.nodes[1].disk = c.nodes[1].disk.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, open(1, c.optionsOf(1)), "the identity is synced")

	c.start(1, 2, 3)
	c.append(1, 5)
	c.stop(1)
	c.nodes[1].disk = vfs.NewCrashableMem()
	require.ErrorIs(t, open(1, c.optionsOf(1)), consensus.ErrNotMember, "a wiped disk")
}

// TestSlowFollower: one slow disk holds nobody up, and makes for no elections.
func TestSlowFollower(t *testing.T) {
	var slow atomic.Bool
	c := newCluster(t, 3, nil)
	wait := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slow.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			time.Sleep(200 * time.Millisecond) // the fault, not a wait for something
		}
		return nil
	})
	c.nodes[3].disk = errorfs.Wrap(vfs.NewMem(), wait)
	c.start(c.ids()...)
	leader := c.leader()
	if leader == 3 {
		c.stop(3)
		leader = c.leader(3)
		c.start(3)
	}
	c.append(leader, 1)
	c.agree(nil)
	term := c.loglet(leader).Members().Term
	slow.Store(true)
	begun := time.Now()
	const n = 100
	c.append(leader, n)
	require.Less(t, time.Since(begun), n*100*time.Millisecond)
	slow.Store(false)
	c.append(3, 1)
	c.agree(nil)
	require.Equal(t, term, c.loglet(leader).Members().Term)
}

// TestFailedSync: a failed write ends the loglet, through the store's fatal path, without an acknowledgement.
func TestFailedSync(t *testing.T) {
	var broken atomic.Bool
	c := newCluster(t, 1, nil)
	boom := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			return errors.New("injected")
		}
		return nil
	})
	c.nodes[1].disk = errorfs.Wrap(vfs.NewMem(), boom)
	fatal := make(chan error, 1)
	store := c.openStore(1, func(err error) { fatal <- err })
	require.NoError(t, store.Vouch(1))
	l, err := raft.Open(store, store.Segments()[0], c.optionsOf(1))
	require.NoError(t, err)
	_, err = l.Append(c.ctx, c.record())
	require.NoError(t, err)
	broken.Store(true)
	_, err = l.Append(c.ctx, c.record())
	require.ErrorIs(t, err, consensus.ErrFailed)
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
	require.ErrorIs(t, <-fatal, consensus.ErrFailed)
	_, err = l.Append(c.ctx, c.record())
	require.ErrorIs(t, err, consensus.ErrFailed)
	_, err = l.Tail(c.ctx, consensus.Consistent)
	require.ErrorIs(t, err, consensus.ErrFailed)
	require.Equal(t, consensus.StateFailed, l.Status().State)
	require.NoError(t, l.Close())
	require.NoError(t, store.Close())
}

// TestLostWrites: a member whose disk forgot what it had synced, but for the witness, does not take part.
func TestLostWrites(t *testing.T) {
	c := startCluster(t, 3, nil)
	victim := c.others(c.leader())[0]
	c.append(victim, 3)
	c.stop(victim)
	old := c.nodes[victim].disk.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	c.start(victim)
	c.append(victim, 20)
	c.stop(victim)
	const witness = "log/synced-raft-1"
	last, err := c.nodes[victim].disk.Open(witness)
	require.NoError(t, err)
	content, err := io.ReadAll(last)
	require.NoError(t, err)
	require.NoError(t, last.Close())
	file, err := old.OpenReadWrite(witness, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = file.WriteAt(content, 0)
	require.NoError(t, err)
	require.NoError(t, file.Close())

	c.nodes[victim].disk = old
	store := c.openStore(victim, nil)
	_, err = raft.Open(store, store.Segments()[0], c.optionsOf(victim))
	require.ErrorIs(t, err, consensus.ErrCorrupt)
	require.NoError(t, store.Close())
	c.append(c.leader(victim), 5)
}

// TestLostDisk: a member whose disk was put back to an earlier state, all of it, finds out when its leader speaks of what it has acknowledged, and stops
// by itself: the raft library's panic does not take the process, nor the other members, with it. If there is another leader meanwhile, that brings it up.
func TestLostDisk(t *testing.T) {
	c := startCluster(t, 3, nil)
	victim := c.others(c.leader())[0]
	c.append(victim, 3)
	c.stop(victim)
	old := c.nodes[victim].disk.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	c.start(victim)
	c.append(victim, 20)
	c.agree(nil)
	c.stop(victim)
	c.nodes[victim].disk = old
	c.start(victim)
	failed := func() bool { return c.loglet(victim).Status().State == consensus.StateFailed }
	c.eventually("it stops, or is brought up", func() bool { return failed() || c.tail(victim) == 23 })
	if failed() {
		_, err := c.loglet(victim).Append(c.ctx, c.record())
		require.ErrorIs(t, err, consensus.ErrCorrupt)
		require.NotErrorIs(t, err, consensus.ErrUnknownFate)
	}
	c.append(c.leader(victim), 5)
}

// TestDrained: a Seal ends the segment on all members, which answer for it by themselves then; once all have applied it, each knows.
func TestDrained(t *testing.T) {
	c := newCluster(t, 3, nil)
	admin := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	c.spec.Admins, c.spec.Threshold = []ed25519.PublicKey{admin.Public().(ed25519.PublicKey)}, 1
	c.start(c.ids()...)
	c.append(1, 3)
	leader := c.leader()
	behind := c.others(leader)[0]
	c.net.split([]uint64{behind}, c.others(behind))

	request := consensus.Request{NetworkID: testNetwork, Epoch: 2, Spec: consensus.Spec{Engine: "other"}, NotAfter: 100}
	seal := consensus.Seal{Request: request, Signatures: []consensus.Signature{request.Sign(admin)}}.Record()
	o, err := c.loglet(leader).Seal(c.ctx, seal)
	require.NoError(t, err)
	require.EqualValues(t, 3, o)
	_, err = c.loglet(leader).Append(c.ctx, c.record())
	require.ErrorIs(t, err, consensus.ErrSealed)
	require.Equal(t, consensus.StateSealed, c.loglet(leader).Status().State)
	select {
	case <-c.loglet(leader).Drained():
		t.Fatal("one member has not applied the Seal")
	default:
	}

	c.net.mend()
	for _, id := range c.ids() {
		select {
		case <-c.loglet(id).Drained():
		case <-c.ctx.Done():
			t.Fatalf("member %d does not know that all have applied the Seal", id)
		}
	}
	c.stop(c.others(behind)...)
	_, err = c.loglet(behind).Append(c.ctx, c.record()) // needs nobody
	require.ErrorIs(t, err, consensus.ErrSealed)
	o, err = c.loglet(behind).Seal(c.ctx, seal)
	require.NoError(t, err)
	require.EqualValues(t, 3, o)
	tail, err := c.loglet(behind).Tail(c.ctx, consensus.Consistent)
	require.NoError(t, err)
	require.Equal(t, consensus.Tail{Offset: 4, Sealed: true}, tail)
}
