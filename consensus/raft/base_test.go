package raft

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// successors returns the stores of three members that begin a second epoch. The logs of those named differ from the others' in the entry before.
func successors(t *testing.T, astray ...uint64) []*actor {
	admin := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	spec := consensus.Spec{Engine: Name, Admins: []ed25519.PublicKey{admin.Public().(ed25519.PublicKey)}, Threshold: 1}
	var keys []ed25519.PrivateKey
	for id := range uint64(3) {
		keys = append(keys, ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), byte(id)+1)))
		spec.Members = append(spec.Members, consensus.Member{ID: id + 1, NodeKey: keys[id].Public().(ed25519.PublicKey)})
	}
	seal := consensus.Seal{Request: consensus.Request{NetworkID: consensus.NetworkID{1}, Epoch: 2, Spec: spec, NotAfter: 10}}
	seal.Signatures = []consensus.Signature{seal.Request.Sign(admin)}
	for _, k := range keys {
		seal.Ready = append(seal.Ready, consensus.SignReady(k, seal.Request.Hash(), 0, consensus.Digest{1}, consensus.Digest{}, 1))
	}
	var actors []*actor
	for _, m := range spec.Members {
		store, err := consensus.OpenStore(context.Background(), consensus.StoreOptions{
			FS: vfs.NewMem(), Dir: "log", NetworkID: consensus.NetworkID{1}, Genesis: spec,
		})
		require.NoError(t, err)
		require.NoError(t, store.Vouch(1))
		replica, err := store.Replica(1)
		require.NoError(t, err)
		r := consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: 1}, Payload: []byte("the same")}
		for _, id := range astray {
			if id == m.ID {
				r.Payload = []byte("another")
			}
		}
		_, err = replica.Apply(consensus.Batch{Applied: 2, Items: []consensus.Item{{Record: r}, {Record: seal.Record()}}})
		require.NoError(t, err)
		next, err := store.Replica(2)
		require.NoError(t, err)
		actors = append(actors, &actor{id: m.ID, store: store, replica: next})
	}
	return actors
}

// TestBaseOfAnotherLog: a leader whose log is not the others' is not followed, whoever comes first, and however often. Those whose log a quorum has go on;
// the others stop once the quorum has begun.
func TestBaseOfAnotherLog(t *testing.T) {
	for name, astray := range map[string][]uint64{"the first leader": {1}, "a follower": {3}, "a majority": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			minority := map[uint64]bool{}
			for _, id := range astray {
				minority[id] = true
			}
			if len(astray) == 2 {
				minority = map[uint64]bool{3: true}
			}
			s := &stage{t: t, frames: map[[2]uint64][][]byte{}, actors: successors(t, astray...)}
			s.opts.HeartbeatTicks, s.opts.ElectionTicks = 1, 10
			defer s.close()
			stopped := map[uint64]bool{}
			step := func(a *actor, in Inputs) {
				if stopped[a.id] {
					return
				}
				in.Now = time.UnixMilli(1_700_000_000_000)
				act, err := a.driver.Step(in)
				if errors.Is(err, consensus.ErrDiverged) {
					stopped[a.id] = true
					return
				}
				require.NoError(t, err)
				for _, f := range act.Send {
					way := [2]uint64{f.To, a.id}
					s.frames[way] = append(s.frames[way], f.Data)
				}
				if act.Write != nil {
					a.write = act.Write
				}
				if act.Apply != nil {
					a.apply = act.Apply
				}
			}
			for _, a := range s.actors {
				s.open(a)
				step(a, Inputs{})
			}
			for range 500 {
				for _, a := range s.actors {
					if w := a.write; w != nil {
						a.write = nil
						require.NoError(t, w.Persist())
						step(a, Inputs{Written: w})
					}
					if p := a.apply; p != nil {
						a.apply = nil
						require.NoError(t, p.Perform(a.replica), "member %d applies", a.id)
						step(a, Inputs{Applied: p})
					}
					for _, b := range s.actors {
						way := [2]uint64{a.id, b.id}
						frames := s.frames[way]
						delete(s.frames, way)
						step(a, Inputs{Frames: frames})
					}
					step(a, Inputs{Ticks: 1})
				}
			}
			require.Equal(t, minority, stopped)
			for _, a := range s.actors {
				require.Equal(t, !minority[a.id], a.replica.Based(), "member %d", a.id)
			}
		})
	}
}
