package comet

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// TestProof: every entry can be proven, by any member, to whoever knows no more than the segment and the digest; and nothing else can.
func TestProof(t *testing.T) {
	c := startCluster(t, 4, nil)
	c.append(0, 3)
	stop := c.load(0, 1, 2, 3)
	c.eventually("blocks hold several records", func() bool {
		tail, err := c.loglets[0].Tail(c.ctx, consensus.Fast)
		return err == nil && tail.Offset > 40
	})
	stop()
	entries := c.agree(0, 1, 2, 3)
	seg := c.stores[0].Segments()[0]
	for i, e := range entries {
		proof, err := c.engines[i%4].Attest(c.stores[i%4], seg, e.LSN)
		require.NoError(t, err)
		require.NoError(t, Verify(seg, e.LSN, e.Digest, proof), "lsn %d", e.LSN)
		require.ErrorIs(t, Verify(seg, e.LSN, consensus.Digest{1}, proof), consensus.ErrInvalid)
		require.ErrorIs(t, Verify(seg, e.LSN+1000, e.Digest, proof), consensus.ErrInvalid)
		require.ErrorIs(t, Verify(seg, e.LSN, e.Digest, proof[:len(proof)-1]), consensus.ErrInvalid)
		require.ErrorIs(t, Verify(seg, e.LSN, e.Digest, append(proof, 0)), consensus.ErrInvalid)
	}
	_, err := c.engines[0].Attest(c.stores[0], seg, 1<<40)
	require.ErrorIs(t, err, consensus.ErrUnwritten)

	e := entries[len(entries)/2]
	raw, err := c.engines[0].Attest(c.stores[0], seg, e.LSN)
	require.NoError(t, err)
	for name, tamper := range map[string]func(p *proof, seg *consensus.Segment){
		"another epoch":      func(_ *proof, seg *consensus.Segment) { seg.Identity[0]++ },
		"other members":      func(_ *proof, seg *consensus.Segment) { seg.Spec.Members = seg.Spec.Members[:3] },
		"another header":     func(p *proof, _ *consensus.Segment) { p.header.Time = p.header.Time.Add(time.Second) },
		"other transactions": func(p *proof, _ *consensus.Segment) { p.txs = p.txs[:len(p.txs)-1] },
		"of another block":   func(p *proof, _ *consensus.Segment) { p.commit.BlockID.Hash = make([]byte, 32) },
		"too few signatures": func(p *proof, _ *consensus.Segment) {
			for i := range p.commit.Signatures[:2] {
				p.commit.Signatures[i] = types.NewCommitSigAbsent()
			}
		},
		"forged signatures": func(p *proof, _ *consensus.Segment) {
			for i := range p.commit.Signatures {
				p.commit.Signatures[i].Signature = make([]byte, 64)
			}
		},
		"another height": func(p *proof, _ *consensus.Segment) { p.header.Height++ },
	} {
		p, err := decodeProof(raw)
		require.NoError(t, err)
		of := seg
		tamper(&p, &of)
		require.ErrorIs(t, p.verify(of, e.LSN, e.Digest), consensus.ErrInvalid, name)
	}
}

// TestRetain: blocks go with the entries that they brought, and what is left can still be proven, and still brings a member back. Evidence about them can still be judged.
func TestRetain(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.append(0, 3*retainEvery)
	l := c.loglets[0]
	require.NoError(t, l.Trim(c.ctx, 100))
	c.append(0, retainEvery)
	c.eventually("blocks are dropped", func() bool { return l.blocks.Base() > 90 })
	require.LessOrEqual(t, l.blocks.Base(), int64(103), "lsn 102 and what follows is still needed")
	seg := c.stores[0].Segments()[0]
	_, err := c.engines[0].Attest(c.stores[0], seg, 50)
	require.Error(t, err)
	entries, err := l.Read(c.ctx, 101, 110)
	require.NoError(t, err)
	for _, e := range entries {
		proof, err := c.engines[0].Attest(c.stores[0], seg, e.LSN)
		require.NoError(t, err)
		require.NoError(t, Verify(seg, e.LSN, e.Digest, proof))
	}
	c.append(0, 1)

	// CometBFT keeps the headers for as long as there may be evidence. What is about a height that is not there is dropped, without blame.
	e, err := types.EvidenceFromProto(&c.proofs(0, 1, 1)[0])
	require.NoError(t, err)
	require.NoError(t, l.evidence.AddEvidence(e))
	require.EqualValues(t, 1, l.evidence.Size())
	future := *e.(*types.DuplicateVoteEvidence)
	future.VoteA, future.VoteB = c.signedTwice(0, 1<<40, 0, 0)
	require.NoError(t, l.evidence.AddEvidence(&future))
	require.EqualValues(t, 1, l.evidence.Size())
	var invalid *types.ErrInvalidEvidence
	forged := *e.(*types.DuplicateVoteEvidence)
	forged.VoteA, forged.VoteB = c.signedTwice(0, 1, 1, 0)
	forged.VoteB.Signature = forged.VoteA.Signature
	require.ErrorAs(t, l.evidence.AddEvidence(&forged), &invalid)
	require.Equal(t, 1, l.evidence.pending(0))
	c.stop(0)
	c.start(0)
	require.Equal(t, 1, c.loglets[0].evidence.pending(0), "it is still to be told")
	c.append(0, 1)
	c.eventually("it is told", func() bool {
		c.append(0, 1)
		return c.loglets[0].evidence.Size() == 0
	})
	pieces, _ := c.loglets[0].app.offences.sum()
	require.EqualValues(t, 1, pieces)
}

// TestStranger: neither a node that is no member gets a connection, nor one that belongs to another epoch. The members are asked: the
// stranger itself takes the connection for good until it learns that it is refused.
func TestStranger(t *testing.T) {
	c := newCluster(t, 4, nil)
	c.start(0, 1, 2) // the stranger has the last one's key once
	c.append(0, 1)
	outside := newTown(t, 1)
	for name, change := range map[string]func(seg *consensus.Segment, o *Options){
		"no member": func(seg *consensus.Segment, o *Options) { // it says that it is, to itself
			o.NodeKey, o.ConsensusKey = key("stranger"), key("stranger's votes")
			seg.Spec.Members = append([]consensus.Member{{
				ID: 9, NodeKey: publicKey(o.NodeKey), ConsensusKey: publicKey(o.ConsensusKey), CometAddresses: outside.members[0].CometAddresses,
			}}, seg.Spec.Members...)
		},
		"another epoch": func(seg *consensus.Segment, _ *Options) { seg.Identity[0]++ },
	} {
		seg := c.stores[0].Segments()[0]
		opts := c.town.options(3)
		var dials atomic.Int64
		opts.Address = func(m consensus.Member, parity int) string {
			dials.Add(1)
			return m.CometAddresses[parity]
		}
		opts.Dir = t.TempDir()
		change(&seg, &opts)
		id := peerID(consensus.Member{NodeKey: publicKey(opts.NodeKey)})
		engine, err := New(opts)
		require.NoError(t, err)
		require.NoError(t, engine.Prepare(c.ctx, newStore(t, vfs.NewMem(), c.town.spec()), seg), name)
		c.eventually("it has tried", func() bool {
			for _, l := range c.loglets[:3] {
				require.False(t, l.peers.Peers().Has(id), "%s: a member has taken it", name)
			}
			return dials.Load() > 20
		})
		require.NoError(t, engine.Close())
	}
	c.append(0, 1)
}
