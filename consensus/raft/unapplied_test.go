package raft

import (
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// TestUnapplied: what a member has acknowledged and not applied can be read when it is stopped, and is what the leader made of it.
func TestUnapplied(t *testing.T) {
	s := &stage{t: t}
	defer s.close()
	s.start(3, 100)
	s.run(0)
	leader, survivor := s.actors[0], s.actors[1]
	s.step(leader, Inputs{Appends: []*Append{s.append(leader, 1)}})
	s.run(0)
	tail, err := Unapplied(survivor.store, survivor.driver.seg)
	require.NoError(t, err)
	require.Empty(t, tail)
	for seq := range uint64(3) { // acknowledged by the two, applied by the leader, and the other does not hear of it
		s.step(leader, Inputs{Appends: []*Append{s.append(leader, seq+2), s.append(leader, 1)}}) // with one that is there already
		s.write(leader)
		s.deliver(survivor.id, leader.id)
		s.write(survivor)
		s.deliver(leader.id, survivor.id)
		s.apply(leader)
		delete(s.frames, [2]uint64{survivor.id, leader.id})
	}
	require.EqualValues(t, 5, leader.replica.Position().Next)
	before := survivor.replica.Position()
	require.EqualValues(t, 2, before.Next)

	tail, err = Unapplied(survivor.store, survivor.driver.seg)
	require.NoError(t, err)
	require.Equal(t, []uint64{1, survivor.driver.log.last}, []uint64{tail.Term, tail.Index})
	require.Len(t, tail.Indexes, len(tail.Items))
	var last consensus.Verdict
	data := 0
	verdicts, err := survivor.replica.Judge(tail.Items)
	require.NoError(t, err)
	for _, v := range verdicts {
		if v.Kind == consensus.Data {
			last, data = v, data+1
		}
	}
	require.Equal(t, 3, data)
	require.Equal(t, leader.replica.Position().Digest, last.Entry.Digest)
	require.Equal(t, before, survivor.replica.Position(), "nothing has been applied")

	behind := s.actors[2]
	tail, err = Unapplied(behind.store, behind.driver.seg)
	require.NoError(t, err)
	require.Empty(t, tail.Items)
}
