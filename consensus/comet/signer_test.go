package comet

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// newStore opens the log of a node whose members are a town's.
func newStore(tb testing.TB, fs vfs.FS, spec consensus.Spec) *consensus.Store {
	tb.Helper()
	store, err := consensus.OpenStore(context.Background(), consensus.StoreOptions{
		FS: fs, Dir: "log", NetworkID: consensus.NetworkID{1}, Genesis: spec, OnFatal: func(err error) { tb.Errorf("store: %v", err) },
	})
	require.NoError(tb, err)
	return store
}

func vote(kind cmtproto.SignedMsgType, height int64, round int32, block byte, at int64) *cmtproto.Vote {
	id := cmtproto.BlockID{}
	if block != 0 {
		id = cmtproto.BlockID{Hash: make([]byte, 32), PartSetHeader: cmtproto.PartSetHeader{Total: 1, Hash: make([]byte, 32)}}
		id.Hash[0], id.PartSetHeader.Hash[0] = block, block
	}
	return &cmtproto.Vote{Type: kind, Height: height, Round: round, BlockID: id, Timestamp: time.Unix(at, 0).UTC(), ValidatorAddress: make([]byte, 20)}
}

// TestSigner: a signer moves forward only, and for one place signs one thing, across crashes that lose whatever was not synced.
func TestSigner(t *testing.T) {
	const prevote, precommit = cmtproto.PrevoteType, cmtproto.PrecommitType
	k := key("votes")
	disk := vfs.NewCrashableMem()
	store := newStore(t, disk, consensus.Spec{Engine: Name})
	s, err := openSigner(store.EngineArea(1), k)
	require.NoError(t, err)
	sign := func(v *cmtproto.Vote) error { return s.SignVote("chain", v) }
	good := func(v *cmtproto.Vote) *cmtproto.Vote {
		t.Helper()
		require.NoError(t, sign(v))
		require.True(t, s.key.PubKey().VerifySignature(types.VoteSignBytes("chain", v), v.Signature))
		return v
	}
	for range 3 { // and twice after a crash
		base := s.mu.last.height + 1
		first := good(vote(prevote, base, 0, 1, 10))
		again := good(vote(prevote, base, 0, 1, 20))
		require.Equal(t, first.Signature, again.Signature)
		require.Equal(t, first.Timestamp, again.Timestamp, "the time is that of what was signed")
		require.ErrorIs(t, sign(vote(prevote, base, 0, 2, 10)), errConflict)
		require.ErrorIs(t, sign(vote(prevote, base, 0, 0, 10)), errConflict)
		require.ErrorIs(t, s.SignProposal("chain", &cmtproto.Proposal{Type: cmtproto.ProposalType, Height: base, Round: 0}), errConflict, "its step is over")
		good(vote(precommit, base, 0, 1, 11))
		require.ErrorIs(t, sign(vote(prevote, base, 0, 1, 10)), errConflict)
		p := &cmtproto.Proposal{Type: cmtproto.ProposalType, Height: base, Round: 3, BlockID: first.BlockID, Timestamp: time.Unix(5, 0).UTC()}
		require.NoError(t, s.SignProposal("chain", p))
		require.True(t, s.key.PubKey().VerifySignature(types.ProposalSignBytes("chain", p), p.Signature))
		other := *p
		other.BlockID = vote(prevote, 0, 0, 9, 0).BlockID
		require.ErrorIs(t, s.SignProposal("chain", &other), errConflict)
		later := *p
		later.Timestamp = time.Unix(50, 0).UTC()
		require.NoError(t, s.SignProposal("chain", &later))
		require.Equal(t, p.Signature, later.Signature)
		last := good(vote(prevote, base, 3, 0, 12))

		disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 1))})
		require.NoError(t, store.Close())
		store = newStore(t, disk, consensus.Spec{Engine: Name})
		s, err = openSigner(store.EngineArea(1), k)
		require.NoError(t, err)
		require.ErrorIs(t, sign(vote(prevote, base, 3, 7, 12)), errConflict)
		require.Equal(t, last.Signature, good(vote(prevote, base, 3, 0, 99)).Signature)
		require.ErrorIs(t, sign(vote(prevote, base, 2, 1, 12)), errConflict)
		require.ErrorIs(t, sign(vote(precommit, base-1, 9, 1, 12)), errConflict)
	}
	// Another epoch is another chain: its heights begin anew.
	other, err := openSigner(store.EngineArea(2), k)
	require.NoError(t, err)
	require.NoError(t, other.SignVote("chain 2", vote(prevote, 1, 0, 1, 1)))
	require.NoError(t, store.Close())
}

// TestSignerCorrupt: what cannot be what was signed last is not taken for nothing.
func TestSignerCorrupt(t *testing.T) {
	store := newStore(t, vfs.NewMem(), consensus.Spec{Engine: Name})
	area := store.EngineArea(1)
	for _, v := range [][]byte{{}, {1, 2, 3}, append([]byte{2}, make([]byte, signedHeaderBytes)...)} {
		require.NoError(t, area.Write(true, func(b *consensus.EngineBatch) error { return b.Set([]byte{keySigned}, v) }))
		_, err := openSigner(area, key("votes"))
		require.ErrorIs(t, err, consensus.ErrCorrupt)
	}
	require.NoError(t, store.Close())
}
