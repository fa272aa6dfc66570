package recovery

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/request"
	"ledgerd/consensus"
)

func key(n int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(n)}, ed25519.SeedSize))
}

func public(n int) ed25519.PublicKey { return key(n).Public().(ed25519.PublicKey) }

var network = consensus.NetworkID{1}

// spec has five members and an administrator.
func spec() consensus.Spec {
	s := consensus.Spec{Engine: "raft", Admins: []ed25519.PublicKey{public(100)}, Threshold: 1}
	for id := range 5 {
		s.Members = append(s.Members, consensus.Member{ID: uint64(id + 1), NodeKey: public(id + 1), PeerAddress: fmt.Sprintf("n%d:1", id+1)})
	}
	return s
}

// node is a store of a node that holds n entries of a session.
func node(t *testing.T, session, n uint64) *consensus.Store {
	t.Helper()
	s, err := consensus.OpenStore(t.Context(), consensus.StoreOptions{NetworkID: network, Genesis: spec(), Window: 16})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Vouch(1))
	fill(t, s, session, 1, n)
	return s
}

// fill appends records to the last segment.
func fill(t *testing.T, s *consensus.Store, session, from, to uint64) {
	t.Helper()
	r, err := s.Replica(consensus.Epoch(len(s.Segments())))
	require.NoError(t, err)
	defer r.Close()
	b := consensus.Batch{Applied: to, Sync: true}
	for seq := from; seq <= to; seq++ {
		b.Items = append(b.Items, consensus.Item{UnixMilli: seq, Record: consensus.Record{App: "test", ID: consensus.RecordID{Session: session, Seq: seq}}})
	}
	_, err = r.Apply(b)
	require.NoError(t, err)
}

// status goes through a file.
func status(t *testing.T, s *consensus.Store, id int, at ...consensus.LSN) Status {
	t.Helper()
	st, err := ReadStatus(s, public(id), at...)
	require.NoError(t, err)
	text, err := json.Marshal(st)
	require.NoError(t, err)
	again, err := DecodeStatus(text)
	require.NoError(t, err)
	require.Equal(t, st, again)
	return again
}

func faults(string) (consensus.FaultModel, error) { return consensus.CrashFaults, nil }

func sign(r consensus.Recovery) consensus.SignedRecovery {
	return consensus.SignedRecovery{Recovery: r, Signatures: []consensus.Signature{r.Sign(key(100))}}
}

// TestPropose: the longest log is taken over, what it proposes can be applied to every survivor, and what is to be known is said.
func TestPropose(t *testing.T) {
	long, short := node(t, 1, 1000), node(t, 1, 990)
	p, err := Propose([]Status{status(t, short, 2), status(t, long, 4)}, request.Change{}, faults)
	require.NoError(t, err)
	require.Equal(t, []any{consensus.Epoch(2), uint64(1), consensus.LSN(1001)}, []any{p.Epoch, p.Count, p.Base})
	require.Equal(t, []uint64{2, 4}, []uint64{p.Spec.Members[0].ID, p.Spec.Members[1].ID})
	said := strings.Join(p.Warnings, "\n")
	require.Contains(t, said, "2 of the 5 members of epoch 1 survive: entries behind lsn 1000 that were acknowledged may be lost")
	for _, id := range []string{"member 1 ", "member 3 ", "member 5 "} {
		require.Contains(t, said, "fence "+id)
	}
	require.Len(t, p.Warnings, 4)
	for _, s := range []*consensus.Store{long, short} {
		_, err := s.Recover(sign(p.Recovery))
		require.NoError(t, err)
	}

	p, err = Propose([]Status{status(t, node(t, 1, 5), 1), status(t, node(t, 1, 5), 2), status(t, node(t, 1, 5), 3)}, request.Change{}, faults)
	require.NoError(t, err)
	require.Contains(t, p.Warnings[0], "start them, and nothing is lost")

	// A survivor that is no member has to be named, and vouched for.
	observer := node(t, 1, 5)
	_, err = Propose([]Status{status(t, observer, 9)}, request.Change{}, faults)
	require.ErrorContains(t, err, "name the members")
	st := status(t, observer, 9)
	st.Vouched = false
	p, err = Propose([]Status{st}, request.Change{IDs: []uint64{1}, Add: []config.PeerAddress{{Key: public(9), Address: "n9:1"}}}, faults)
	require.NoError(t, err)
	require.Equal(t, uint64(6), p.Spec.Members[1].ID)
	require.Contains(t, strings.Join(p.Warnings, "\n"), "member 6 does not vote before it is applied there with --vouch")
}

// TestProposeContradiction: logs that are not one another's beginnings are not taken for one; where the digests do not tell, that is said.
func TestProposeContradiction(t *testing.T) {
	_, err := Propose([]Status{status(t, node(t, 1, 300), 1), status(t, node(t, 2, 290), 2)}, request.Change{}, faults)
	require.ErrorIs(t, err, ErrContradiction)

	long, short := node(t, 1, 5000), node(t, 1, 1101)
	p, err := Propose([]Status{status(t, long, 1), status(t, short, 2)}, request.Change{}, faults)
	require.NoError(t, err)
	require.Contains(t, p.Warnings[0], "was compared up to lsn")
	require.Contains(t, p.Warnings[0], "--at 1101")
	p, err = Propose([]Status{status(t, long, 1, 1101), status(t, short, 2)}, request.Change{}, faults)
	require.NoError(t, err)
	require.NotContains(t, p.Warnings[0], "compared")

	other := status(t, short, 2)
	other.Network[5]++
	_, err = Propose([]Status{status(t, long, 1), other}, request.Change{}, faults)
	require.Error(t, err)
	_, err = Propose(nil, request.Change{}, faults)
	require.Error(t, err)
}

// TestProposeAgain: a longer log that turns up after a recovery takes its place, with a higher count.
func TestProposeAgain(t *testing.T) {
	long, short := node(t, 1, 50), node(t, 1, 20)
	p, err := Propose([]Status{status(t, short, 2)}, request.Change{}, faults)
	require.NoError(t, err)
	_, err = short.Recover(sign(p.Recovery))
	require.NoError(t, err)
	fill(t, short, 3, 1, 5)
	p, err = Propose([]Status{status(t, short, 2), status(t, long, 4)}, request.Change{}, faults)
	require.NoError(t, err)
	require.Equal(t, []any{consensus.Epoch(2), uint64(2), consensus.LSN(51)}, []any{p.Epoch, p.Count, p.Base})
	plan, err := short.Recover(sign(p.Recovery))
	require.NoError(t, err)
	require.True(t, plan.Pending)
	require.Equal(t, consensus.LSN(21), plan.Cut)
	p, err = Propose([]Status{status(t, short, 2), status(t, long, 4)}, request.Change{}, faults)
	require.NoError(t, err)
	require.Equal(t, uint64(3), p.Count, "the second is pending at a survivor")
}

// promised is the status of a node whose engine has promised more entries of a session than it has applied, up to an LSN.
func promised(t *testing.T, s *consensus.Store, id int, session, to, term uint64) Status {
	t.Helper()
	st := status(t, s, id)
	r, err := s.Replica(1)
	require.NoError(t, err)
	defer r.Close()
	var items []consensus.Item
	for seq := uint64(st.Tail); seq <= to; seq++ {
		items = append(items, consensus.Item{UnixMilli: seq, Record: consensus.Record{App: "test", ID: consensus.RecordID{Session: session, Seq: seq}}})
	}
	verdicts, err := r.Judge(items)
	require.NoError(t, err)
	st.GoOn(verdicts, term, to)
	text, err := json.Marshal(st)
	require.NoError(t, err)
	again, err := DecodeStatus(text)
	require.NoError(t, err)
	require.Equal(t, st, again)
	return again
}

// TestProposeSalvage: behind the longest log, what a survivor has promised is taken over: that of the one which would be elected.
func TestProposeSalvage(t *testing.T) {
	long, short := node(t, 1, 100), node(t, 1, 90)
	propose := func(all ...Status) Proposal {
		t.Helper()
		p, err := Propose(all, request.Change{}, faults)
		require.NoError(t, err)
		return p
	}
	p := propose(promised(t, short, 2, 1, 105, 1), promised(t, long, 4, 1, 103, 1))
	require.Equal(t, consensus.LSN(106), p.Base, "it is not the one that has applied most")
	require.Equal(t, []byte(public(2)), []byte(p.From.NodeKey))
	require.Contains(t, strings.Join(p.Warnings, "\n"), "lsn 101 to 105 are only promised")
	whole := node(t, 1, 105)
	require.Equal(t, status(t, whole, 1).Digest, p.Digest)

	p = propose(promised(t, short, 2, 1, 105, 1), promised(t, long, 4, 3, 102, 2))
	require.Equal(t, consensus.LSN(103), p.Base, "a later term goes before a longer log")

	other := promised(t, short, 2, 7, 120, 9) // of a leader that was not followed
	p = propose(other, status(t, long, 4))
	require.Equal(t, consensus.LSN(101), p.Base)
	require.Contains(t, strings.Join(p.Warnings, "\n"), "do not go on from the longest log")
	require.Nil(t, promised(t, short, 2, 1, 90, 1).Unapplied)
}
