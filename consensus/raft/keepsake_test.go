package raft

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"ledgerd/consensus"
)

// TestRejoinRemembers: a member's log is replaced by one that is restored from a snapshot, and it remembers what it has voted and acknowledged. Without that it is
// no member any more.
func TestRejoinRemembers(t *testing.T) {
	s := &stage{t: t}
	defer s.close()
	s.start(3, 2)
	leader, away := s.actors[0], s.actors[2]
	s.run(0)
	s.step(leader, Inputs{Appends: []*Append{s.append(leader, 1)}})
	s.run(0)
	for seq := range uint64(9) {
		s.step(leader, Inputs{Appends: []*Append{s.append(leader, seq+2)}})
		s.run(away.id)
	}
	for away.write == nil {
		s.step(leader, Inputs{Ticks: 1})
		s.deliver(away.id, leader.id)
		s.deliver(leader.id, away.id)
	}
	s.write(away)
	vote := func(d *Driver, candidate uint64) Actions {
		frame, err := appendMessage(header{identity: d.seg.Identity, from: candidate, to: 3}.append(nil), message{kind: kindRaft, raft: &raftpb.Message{
			Type: raftpb.MsgVote.Enum(), From: new(candidate), To: new(uint64(3)), Term: new(uint64(5)), LogTerm: new(uint64(1)), Index: new(uint64(11)),
			Context: []byte("CampaignTransfer"), // or it would not be looked at while there is a leader
		}})
		require.NoError(t, err)
		act, err := d.Step(Inputs{Frames: [][]byte{frame}})
		require.NoError(t, err)
		return act
	}
	act := vote(away.driver, 2)
	require.NoError(t, act.Write.Persist())
	_, err := away.driver.Step(Inputs{Written: act.Write})
	require.NoError(t, err)
	was := away.driver.log
	require.Equal(t, hardState{5, 2, was.hard.commit}, was.hard)
	require.NotZero(t, was.last)

	before, ok, err := Awaited(away.store, away.driver.seg)
	require.NoError(t, err)
	require.True(t, ok)
	state, err := leader.store.Snapshot(context.Background(), before-2)
	require.NoError(t, err)
	rejoin := func(keep bool) (*Driver, error) {
		opts := away.store.Options()
		opts.FS = vfs.NewMem()
		require.NoError(t, consensus.RejoinStore(context.Background(), opts, state, away.store, keep))
		store, err := consensus.OpenStore(context.Background(), opts)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		replica, err := store.Replica(1)
		require.NoError(t, err)
		require.Equal(t, state.LSN+1, replica.Position().Next)
		o := s.opts
		o.Self = away.id
		return NewDriver(store, replica, o, 2)
	}
	_, err = rejoin(false)
	require.ErrorIs(t, err, consensus.ErrNotMember)
	d, err := rejoin(true)
	require.NoError(t, err)
	defer d.Close()
	is := d.log
	require.Equal(t, []any{was.hard, was.writes, was.compacted, was.last, was.runs, was.pending}, []any{is.hard, is.writes, is.compacted, is.last, is.runs, is.pending})
	require.Equal(t, was.position.Applied, is.position.Applied)
	act = vote(d, 1)
	require.Nil(t, act.Write)
	require.Len(t, act.Send, 1)
	_, body, err := decodeHeader(act.Send[0].Data)
	require.NoError(t, err)
	answers, err := decodeMessages(body)
	require.NoError(t, err)
	require.Equal(t, []any{1, raftpb.MsgVoteResp, true}, []any{len(answers), answers[0].raft.GetType(), answers[0].raft.GetReject()}, "it has voted for another in that term")

	// What is not ahead is no way on.
	opts := away.store.Options()
	opts.FS = vfs.NewMem()
	early, err := leader.store.Snapshot(context.Background(), 1)
	require.NoError(t, err)
	require.ErrorIs(t, consensus.RejoinStore(context.Background(), opts, early, away.store, true), consensus.ErrInvalid)
}
