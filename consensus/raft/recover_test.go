package raft_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

// offline opens the store of a node that is off.
func (n *villager) offline(f func(*consensus.Store)) {
	v := n.village
	v.Helper()
	store, err := consensus.OpenStore(v.ctx, consensus.StoreOptions{FS: n.disk, Dir: "log", NetworkID: testNetwork, Genesis: v.spec})
	require.NoError(v, err)
	f(store)
	require.NoError(v, store.Close())
}

// survive makes the recovery that takes a node's log for the segment's.
func (n *villager) survive(members ...uint64) (r consensus.SignedRecovery) {
	v := n.village
	n.offline(func(s *consensus.Store) {
		segments := s.Segments()
		replica, err := s.Replica(segments[len(segments)-1].Epoch)
		require.NoError(v, err)
		p := replica.Position()
		r.Recovery = consensus.Recovery{
			NetworkID: testNetwork, Epoch: replica.Segment().Epoch + 1, Count: 1,
			Base: p.Next, Digest: p.Digest, UnixMilli: p.UnixMilli, Spec: v.specOf(raft.Name, members...),
		}
	})
	r.Signatures = []consensus.Signature{r.Sign(v.admin)}
	return r
}

// apply applies a recovery to a node that is off.
func (n *villager) apply(r consensus.SignedRecovery) (plan consensus.RecoveryPlan) {
	n.offline(func(s *consensus.Store) {
		var err error
		plan, err = s.Recover(r)
		require.NoError(n.village, err)
	})
	return plan
}

// level waits until nodes hold the same log.
func (v *village) level(nodes ...uint64) {
	v.Helper()
	require.Eventually(v, func() bool {
		var tails []consensus.LSN
		for _, id := range nodes {
			log, err := v.nodes[id-1].on()
			require.NoError(v, err)
			tails = append(tails, log.Status().Tail)
		}
		for _, tail := range tails {
			if tail != tails[0] {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
}

func (v *village) status(id uint64) consensus.Status {
	log, err := v.nodes[id-1].on()
	require.NoError(v, err)
	return log.Status()
}

// TestLostQuorum: of five members three are gone. One goes on alone from what it holds; one that holds less takes the rest by itself; those who come back
// with more do not go on before it is cut off; and the segment grows by reconfigurations again.
func TestLostQuorum(t *testing.T) {
	v := newVillage(t, 6, 1, 2, 3, 4, 5)
	for _, n := range v.nodes {
		n.start()
	}
	w := v.write(7, 1, 2)
	require.Eventually(t, func() bool { return v.status(5).Tail > 20 }, patience, time.Millisecond)
	v.nodes[4].stop() // it will hold less
	require.Eventually(t, func() bool { return v.status(4).Tail > 40 }, patience, time.Millisecond)
	acked := w.finish()
	v.level(1, 2, 3, 4, 6)
	v.nodes[3].stop() // the survivor
	v.nodes[5].stop() // an observer with as much
	w = v.write(8, 1, 2)
	tail := v.status(3).Tail
	require.Eventually(t, func() bool { return v.status(3).Tail > tail+10 }, patience, time.Millisecond)
	require.NotEmpty(t, w.finish()) // acknowledged, and lost: no survivor has them
	for _, n := range v.nodes[:3] {
		n.stop()
	}

	r := v.nodes[3].survive(4)
	plan := v.nodes[3].apply(r)
	require.False(t, plan.Cuts() || plan.Pending)
	v.nodes[3].start()
	v.epoch = 2
	w = v.write(9, 4)
	v.nodes[4].start() // took part in the dead segment, and holds less
	v.nodes[5].start() // did not, and holds all
	require.Eventually(t, func() bool { return v.status(5).Epoch == 2 && v.status(6).Epoch == 2 }, patience, time.Millisecond)

	for i, n := range v.nodes[:3] {
		require.ErrorIs(t, n.open(), consensus.ErrCutOff)
		if i == 2 {
			break // it stays away until the others have reconfigured
		}
		require.ErrorIs(t, n.open(), consensus.ErrCutOff)
		plan := n.apply(r)
		require.Equal(t, r.Base, plan.Cut)
		require.NotEmpty(t, plan.File)
		n.start()
	}
	v.reconfigure(4, v.specOf(raft.Name, 1, 2, 4))
	v.reconfigure(5, v.specOf(raft.Name, 2, 4, 5))
	require.ErrorIs(t, v.nodes[2].open(), consensus.ErrCutOff)
	v.nodes[2].apply(r)
	v.nodes[2].start()
	v.reconfigure(3, v.specOf(raft.Name, 1, 2, 3, 4, 5))
	v.check(append(acked, w.stop()...), 1, 2, 3, 4, 5, 6)
}

// TestRecoverUnderRunningNodes: members and observers that are running when the segment is recovered take it as it comes.
func TestRecoverUnderRunningNodes(t *testing.T) {
	v := newVillage(t, 5, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	w := v.write(7, 1, 2)
	require.Eventually(t, func() bool { return v.status(4).Tail > 20 }, patience, time.Millisecond)
	acked := w.finish()
	v.level(1, 2, 3, 4, 5)
	v.nodes[3].stop()
	v.nodes[0].stop()
	w, tail := v.write(8, 2), v.status(2).Tail
	require.Eventually(t, func() bool { return min(v.status(3).Tail, v.status(5).Tail) > tail+10 }, patience, time.Millisecond)
	w.finish()
	v.nodes[1].stop()

	// The member that is left holds more than was recovered, and so does the observer; only node 1, and the other observer, hold just that.
	require.Eventually(t, func() bool { return v.status(3).Loglet.State == consensus.StateElecting }, patience, time.Millisecond)
	blocked := make(chan error, 1)
	log, err := v.nodes[2].on()
	require.NoError(t, err)
	go func() {
		_, err := log.Append(context.Background(), consensus.Record{App: "test", ID: consensus.RecordID{Session: 9, Seq: 1}})
		blocked <- err
	}()
	r := v.nodes[0].survive(1, 4)
	v.nodes[0].apply(r)
	v.nodes[3].offline(func(s *consensus.Store) { require.NoError(t, s.Vouch(2)) }) // an observer that the recovery makes a member
	v.nodes[3].apply(r)
	v.nodes[3].start()
	v.nodes[0].start()
	for _, id := range []uint64{3, 5} {
		log, err := v.nodes[id-1].on()
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, err := log.Tail(v.ctx, consensus.Fast)
			return err != nil
		}, patience, time.Millisecond)
		_, err = log.Tail(v.ctx, consensus.Fast)
		require.ErrorIs(t, err, consensus.ErrCutOff, "node %d", id)
		_, err = log.Append(v.ctx, consensus.Record{App: "test", ID: consensus.RecordID{Session: 9, Seq: 9}})
		require.ErrorIs(t, err, consensus.ErrCutOff, "node %d", id)
		if id == 3 {
			require.ErrorIs(t, <-blocked, consensus.ErrCutOff, "what waited before")
		}
		v.nodes[id-1].stop()
		v.nodes[id-1].apply(r)
		v.nodes[id-1].start()
	}
	w = v.write(10, 1, 3, 4, 5)
	v.epoch = 2
	v.reconfigure(5, v.specOf(raft.Name, 1, 3, 4))
	v.check(append(acked, w.stop()...), 1, 3, 4, 5)
}

// TestRecoverLevelMember: a member that holds just what was recovered goes from the dead segment to the next one without a stop.
func TestRecoverLevelMember(t *testing.T) {
	v := newVillage(t, 4, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	w := v.write(7, 1, 2, 3)
	require.Eventually(t, func() bool { return v.status(4).Tail > 20 }, patience, time.Millisecond)
	acked := w.finish()
	v.level(1, 2, 3, 4)
	v.nodes[0].stop()
	v.nodes[1].stop()
	v.nodes[2].stop()
	r := v.nodes[0].survive(1, 3)
	v.nodes[2].start() // alone, in the dead segment
	require.Equal(t, consensus.Epoch(1), v.status(3).Epoch)
	v.nodes[0].apply(r)
	v.nodes[0].start()
	w = v.write(8, 1, 3, 4)
	for _, id := range []uint64{1, 3} {
		require.Eventually(t, func() bool { s := v.status(id); return s.Epoch == 2 && s.Role == "orders" }, patience, time.Millisecond)
	}
	require.Eventually(t, func() bool { return v.status(4).Tail > r.Base+20 }, patience, time.Millisecond)
	v.check(append(acked, w.stop()...), 1, 3, 4)
}

// TestPendingNeverOrders: a member that lacks entries of the recovered segment does not order in it, even if nobody tells it again.
func TestPendingNeverOrders(t *testing.T) {
	v := newVillage(t, 3, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	v.nodes[2].stop()
	w := v.write(7, 1, 2)
	require.Eventually(t, func() bool { return v.status(1).Tail > 20 }, patience, time.Millisecond)
	acked := w.finish()
	v.level(1, 2)
	v.nodes[0].stop()
	v.nodes[1].stop()
	r := v.nodes[0].survive(1)
	for _, id := range []uint64{2, 3} {
		require.Equal(t, id == 3, v.nodes[id-1].apply(r).Pending)
	}
	v.nodes[2].start()
	require.Equal(t, "observes", v.status(3).Role)
	ctx, cancel := context.WithTimeout(v.ctx, 500*time.Millisecond)
	defer cancel()
	log, err := v.nodes[2].on()
	require.NoError(t, err)
	_, err = log.Append(ctx, consensus.Record{App: "test", ID: consensus.RecordID{Session: 9, Seq: 9}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	v.nodes[0].apply(r)
	v.nodes[0].start()
	v.check(acked, 1, 3)
	require.Eventually(t, func() bool { return v.status(3).Epoch == 2 }, patience, time.Millisecond)
}
