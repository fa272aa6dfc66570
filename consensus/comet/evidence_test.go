package comet

import (
	"encoding/binary"
	"fmt"
	"testing"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/evidence"
	"github.com/cometbft/cometbft/p2p"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
)

// skipEvidenceUnderRace skips a test in which evidence is found.
func skipEvidenceUnderRace(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("CometBFT's evidence reactor copies itself (evidence/reactor.go: prepareEvidenceMessage has a value receiver) while it is being stopped, which the race detector reports")
	}
}

// signedTwice returns votes of a member for two blocks at one place; numbers give other ones each.
func (c *cluster) signedTwice(member int, height int64, round int32, number uint32) (a, b *types.Vote) {
	k := cmted25519.PrivKey(key("votes", member))
	sign := func(block byte) *types.Vote {
		v := vote(cmtproto.PrecommitType, height, round, block, 1)
		binary.BigEndian.PutUint32(v.BlockID.Hash[1:], number)
		v.ValidatorAddress = k.PubKey().Address()
		var err error
		v.Signature, err = k.Sign(types.VoteSignBytes(c.loglets[0].chainID, v))
		require.NoError(c, err)
		signed, err := types.VoteFromProto(v)
		require.NoError(c, err)
		return signed
	}
	return sign(1), sign(2)
}

// proofs returns evidence, each piece another, that a member has signed two things for each of so many rounds of the first height.
func (c *cluster) proofs(member, rounds, pieces int) (list []cmtproto.Evidence) {
	meta, vals := c.loglets[0].blocks.LoadBlockMeta(1), validatorSet(c.loglets[0].seg)
	for i := range pieces {
		a, b := c.signedTwice(member, 1, int32(i%rounds), uint32(i))
		e, err := types.NewDuplicateVoteEvidence(a, b, meta.Header.Time, vals)
		require.NoError(c, err)
		pb, err := types.EvidenceToProto(e)
		require.NoError(c, err)
		list = append(list, *pb)
	}
	return list
}

// pending returns how many places of a member's wait for a block.
func (p *evidencePool) pending(member int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.members[string(cmted25519.PrivKey(key("votes", member)).PubKey().Address())]
}

// TestFloodOfEvidence: a member that sends thousands of valid pieces of evidence against itself, while no block takes them, fills nobody's pool, nor crowds out
// evidence against another. Who sends it, or hands it on, stays connected; the members order on, and it is named.
func TestFloodOfEvidence(t *testing.T) {
	skipEvidenceUnderRace(t)
	c := startCluster(t, 4, nil)
	c.append(0, 3)
	for _, l := range c.loglets {
		c.eventually("it can judge evidence of the first height", func() bool { return l.evidence.State().LastBlockHeight >= 2 })
	}
	flood := append(c.proofs(3, 1, 1000), c.proofs(3, 1000, 1000)...)
	send := func(list []cmtproto.Evidence) {
		for _, peer := range c.loglets[3].peers.Peers().List() {
			require.True(t, peer.Send(p2p.Envelope{ChannelID: evidence.EvidenceChannel, Message: &cmtproto.EvidenceList{Evidence: list}}))
		}
	}
	for i := 0; i < len(flood); i += 500 {
		send(flood[i : i+500])
	}
	send(c.proofs(2, 1, 1)) // comes behind the rest
	for i := range 3 {
		l := c.loglets[i]
		c.eventually("it has it all", func() bool { return l.evidence.pending(2) == 1 })
		require.Positive(t, l.evidence.pending(3))
		require.LessOrEqual(t, l.evidence.pending(3), maxPendingEvidence)
		require.EqualValues(t, l.evidence.pending(3)+1, l.evidence.Size())
		require.Equal(t, 4, l.connected())
	}
	l := c.loglets[2]
	require.NoError(t, l.Close())
	list, _ := l.evidence.PendingEvidence(-1)
	require.Empty(t, list, "it reads nothing any more")
	require.Equal(t, fmt.Sprint(l.evidence.Size()), l.Status().Detail["evidence"], "and Status does not read")

	c.eventually("both are named", func() bool {
		c.append(0, 1)
		pieces, _ := c.loglets[0].app.offences.sum()
		return pieces > 1 && c.loglets[0].evidence.Size() == 0
	})
	require.Contains(t, c.loglets[0].Status().Detail["offender"], "DUPLICATE_VOTE at height 1")
	c.agree(0, 1)
}

// TestConflictingVotes: votes that contradict each other are noted once for each place, however often they come before the height is over, and a few for each member.
func TestConflictingVotes(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.append(0, 3)
	l, p := c.loglets[0], c.loglets[0].evidence
	c.eventually("the last block is done with", func() bool { return p.State().LastBlockHeight == int64(l.replica.Applied()) })
	first, second := c.signedTwice(0, 1, 0, 0)
	for range 1000 {
		p.ReportConflictingVotes(first, second)
		require.Equal(t, 1, p.pending(0))
	}
	for round := range int32(100) {
		p.ReportConflictingVotes(c.signedTwice(0, 1, round, 1))
		require.LessOrEqual(t, p.pending(0), maxPendingEvidence)
	}
	require.Zero(t, p.Size(), "the height is not over")
	c.append(0, 2)
	c.eventually("they are committed", func() bool {
		c.append(0, 1)
		return p.Size() == 0
	})
	pieces, _ := l.app.offences.sum()
	require.EqualValues(t, maxPendingEvidence, pieces)
	require.Zero(t, p.pending(0), "there is room again")
}
