package raft

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"ledgerd/consensus"
)

// TestSnapshotRefused: a snapshot that does not fit this segment, or contradicts what this node holds, is refused; one that fits is installed.
func TestSnapshotRefused(t *testing.T) {
	s := &stage{t: t}
	defer s.close()
	s.start(3, 100)
	s.run(0)
	a := s.actors[2]
	digest := a.replica.Position().Digest
	good := func() *raftpb.Message {
		return &raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(3)), Term: new(uint64(1)),
			Snapshot: &raftpb.Snapshot{
				Data: place{next: 5, digest: consensus.Digest{9}}.encode(),
				Metadata: &raftpb.SnapshotMetadata{
					Index: new(uint64(10)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
				},
			},
		}
	}
	deliver := func(m *raftpb.Message) {
		frame, err := appendMessage(header{identity: a.driver.seg.Identity, from: 1, to: 3}.append(nil), message{kind: kindRaft, raft: m})
		require.NoError(t, err)
		s.step(a, Inputs{Frames: [][]byte{frame}})
	}
	for name, change := range map[string]func(*raftpb.Message){
		"no data":         func(m *raftpb.Message) { m.Snapshot.Data = nil },
		"unknown version": func(m *raftpb.Message) { m.Snapshot.Data[0] = 77 },
		"no snapshot":     func(m *raftpb.Message) { m.Snapshot = nil },
		"other members":   func(m *raftpb.Message) { m.Snapshot.Metadata.ConfState.Voters[2] = 4 },
		"a learner":       func(m *raftpb.Message) { m.Snapshot.Metadata.ConfState.Learners = []uint64{4} },
		"term to come":    func(m *raftpb.Message) { m.Snapshot.Metadata.Term = new(uint64(2)) },
		"no term":         func(m *raftpb.Message) { m.Snapshot.Metadata.Term = nil },
		"before the base": func(m *raftpb.Message) { m.Snapshot.Data = place{digest: digest}.encode() },
		"another log here": func(m *raftpb.Message) {
			m.Snapshot.Metadata.Index = new(uint64(1))
			m.Snapshot.Data = place{next: 1, digest: consensus.Digest{9}}.encode()
		},
	} {
		refused := a.driver.wrong
		m := good()
		change(m)
		deliver(m)
		require.Equal(t, refused+1, a.driver.wrong, name)
		require.Nil(t, a.driver.install, name)
	}
	deliver(good())
	require.NotNil(t, a.driver.install)
	require.NotNil(t, a.write)
}

// TestInstallUnserved: of three members, one that was away is to fetch what only the leader has applied, and the leader is lost for good. The two that are left
// are a quorum: they go on, also if the one has fetched more by then than the other has applied, and after restarts.
func TestInstallUnserved(t *testing.T) {
	for name, fetched := range map[string]consensus.LSN{"nothing was fetched": 0, "as much as the other has": 7, "more than the other has": 9} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", name, restart), func(t *testing.T) {
				reader := crand.Reader
				defer func() { crand.Reader = reader }()
				crand.Reader = late{}
				s := &stage{t: t}
				defer s.close()
				s.start(3, 2)
				leader, other, away := s.actors[0], s.actors[1], s.actors[2]
				s.run(0)
				for seq := range uint64(7) {
					s.step(leader, Inputs{Appends: []*Append{s.append(leader, seq+1)}})
					s.run(away.id)
				}
				for seq := range uint64(3) { // the other acknowledges three more, and hears of no commit
					s.step(leader, Inputs{Appends: []*Append{s.append(leader, seq+8)}})
					s.write(leader)
					s.deliver(other.id, leader.id)
					s.write(other)
					s.deliver(leader.id, other.id)
					s.apply(leader)
					delete(s.frames, [2]uint64{other.id, leader.id})
				}
				require.EqualValues(t, 8, other.replica.Position().Next)
				require.EqualValues(t, 11, leader.replica.Position().Next)
				for away.write == nil {
					s.step(leader, Inputs{Ticks: 1})
					s.deliver(away.id, leader.id)
					s.deliver(leader.id, away.id)
				}
				s.write(away)
				require.NotNil(t, away.fetch)
				if fetched > 0 {
					s.fetch(away, leader, fetched)
					require.EqualValues(t, fetched+1, away.replica.Position().Next)
				}

				alone := []*actor{other, away}
				if restart {
					for _, a := range alone {
						s.open(a)
						s.step(a, Inputs{})
					}
				}
				s.frames = map[[2]uint64][][]byte{}
				s.out.Reset()
				s.step(away, Inputs{Appends: []*Append{s.append(away, 1)}})
				for range 40 * other.driver.opts.ElectionTicks {
					for _, a := range alone {
						s.step(a, Inputs{Ticks: 1})
					}
					s.run(leader.id)
					if away.fetch != nil {
						s.fetch(away, other, 0)
					}
				}
				said := s.out.String()
				require.Equal(t, 1, strings.Count(said, "3 append 1: 10, <nil>"))
				require.False(t, strings.Contains(said, "3 to 2: MsgPreVote term"), "who lacks entries does not ask to lead")
				for _, a := range alone {
					require.EqualValues(t, 12, a.replica.Position().Next)
					require.Nil(t, a.driver.log.pending)
				}
				require.Equal(t, other.replica.Position().Digest, away.replica.Position().Digest)
			})
		}
	}
}

// TestReadsBounded: reads that find no leader wait, up to a bound, and are forgotten when their callers are.
func TestReadsBounded(t *testing.T) {
	s := &stage{t: t, opts: Options{MaxReads: 2}}
	defer s.close()
	s.start(3, 100)
	d := s.actors[1].driver
	gone := false
	var answers []error
	read := func() *Read {
		return &Read{Done: func(err error) { answers = append(answers, err) }, Gone: func() bool { return gone }}
	}
	s.step(s.actors[1], Inputs{Reads: []*Read{read(), read(), read()}})
	require.Len(t, answers, 1)
	require.ErrorIs(t, answers[0], ErrOverloaded)
	gone = true
	s.step(s.actors[1], Inputs{Ticks: d.opts.ElectionTicks})
	require.Empty(t, d.reads)
}

// TestWithdraw: an append that was not handed over can be taken back for sure; one that was, cannot, and is forgotten after a while.
func TestWithdraw(t *testing.T) {
	s := &stage{t: t}
	defer s.close()
	s.start(3, 100)
	a := s.actors[1]
	var early, late *Append
	early = s.append(a, 1)
	s.step(a, Inputs{Appends: []*Append{early}}) // there is no leader yet
	require.True(t, early.Withdraw())
	s.run(0)
	late = s.append(a, 2)
	s.step(a, Inputs{Appends: []*Append{late}})
	require.False(t, late.Withdraw())
	require.Len(t, a.driver.byKey, 1)
	require.Equal(t, late.Record.Size(), a.driver.handed)
	s.step(a, Inputs{Ticks: a.driver.opts.ElectionTicks})
	require.Empty(t, a.driver.own)
	require.Empty(t, a.driver.byKey)
	require.Zero(t, a.driver.handed)
	s.run(0)
	require.EqualValues(t, 2, a.replica.Position().Next, "it was on its way, and the early one was not")
}

// TestCache: what is read from memory, from the disk, and from references is the same.
func TestCache(t *testing.T) {
	s := &stage{t: t}
	defer s.close()
	s.start(1, 1000)
	a := s.actors[0]
	s.run(0)
	for i := range uint64(200) {
		seq := i + 1
		if i%7 == 0 {
			seq = 1 // a duplicate, which becomes no reference
		}
		s.step(a, Inputs{Appends: []*Append{s.append(a, seq)}})
		s.run(0)
	}
	log := a.driver.log
	want, err := log.Entries(1, log.last+1, 1<<40)
	require.NoError(t, err)
	require.Len(t, want, int(log.last))
	require.Equal(t, uint64(1), log.cache[0].GetIndex())
	got, err := log.stored(1, log.last+1, 1<<40)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].GetIndex(), got[i].GetIndex())
		require.Equal(t, want[i].GetTerm(), got[i].GetTerm())
		require.True(t, bytes.Equal(want[i].GetData(), got[i].GetData()), "entry %d", want[i].GetIndex())
	}
	part, err := log.stored(5, log.last+1, 1)
	require.NoError(t, err)
	require.Len(t, part, 1)

	// An entry that this node has trimmed is no more to be had from its raft log.
	require.NoError(t, a.replica.Trim(context.Background(), 50))
	log.cache, log.bytes = nil, 0
	_, err = log.Entries(2, 10, 1<<40)
	require.Error(t, err)
	_, err = log.Entries(150, 160, 1<<40)
	require.NoError(t, err)
}
