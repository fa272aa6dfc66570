package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestJudge: what Judge says of items is what Apply then makes of them, however they are cut into batches, and nothing has changed meanwhile.
func TestJudge(t *testing.T) {
	history := mixedHistory()
	for _, size := range []int{1, 7, 40, len(history)} {
		s := openStore(t, vfs.NewMem())
		for at := 0; at < len(history); at += size {
			batch := history[at:min(at+size, len(history))]
			r := replicaOf(t, s)
			before := r.Position()
			judged, err := r.Judge(batch)
			require.NoError(t, err)
			require.Equal(t, before, r.Position())
			again, err := r.Judge(batch)
			require.NoError(t, err)
			require.Equal(t, judged, again)
			require.Equal(t, judged, apply(t, r, batch), "batches of %d, at %d", size, at)
		}
		require.NoError(t, s.Close())
		_, err := replicaOfEpoch(s, 1).Judge(history[:1])
		require.ErrorIs(t, err, ErrClosed)
	}
}

func replicaOfEpoch(s *Store, epoch Epoch) *Replica {
	return &Replica{store: s, seg: s.mu.segments[epoch-1], index: int(epoch) - 1, done: make(chan struct{})}
}

// TestProofIsKept: the engine's proof of the Seal is part of the segment's end, and of nothing else.
func TestProofIsKept(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	r := replicaOf(t, s)
	list := append(items(1, 3), Item{Record: newChain().seal(2).Record()})
	_, err := r.Apply(Batch{Applied: 4, Items: list, Proof: []byte("proof")})
	require.NoError(t, err)
	end, ended, err := s.SegmentEnd(1)
	require.NoError(t, err)
	require.True(t, ended)
	require.Equal(t, []byte("proof"), end.Proof)
	require.NoError(t, s.Close())
}

// TestTrimDropsAreas: what an engine keeps goes when all of its segment is trimmed, unless it may still be needed: by the last segment, and by the one before,
// which lingers.
func TestTrimDropsAreas(t *testing.T) {
	c := newChain()
	s := openStore(t, vfs.NewMem())
	for epoch := Epoch(1); epoch <= 4; epoch++ { // entries 1 to 10 and so on, the tenth the Seal
		list := items(uint64(epoch)*100, uint64(epoch)*100+8)
		if epoch < 4 {
			list = append(list, Item{Record: c.seal(epoch + 1).Record()})
		}
		apply(t, replicaOf(t, s), list)
		require.NoError(t, s.EngineArea(epoch).Write(true, func(b *EngineBatch) error { return b.Set([]byte("k"), []byte("v")) }))
	}
	kept := func() (epochs []Epoch) {
		for epoch := Epoch(1); epoch <= 4; epoch++ {
			if v, err := s.EngineArea(epoch).Get([]byte("k")); err == nil && v != nil {
				epochs = append(epochs, epoch)
			}
		}
		return epochs
	}
	for _, tt := range []struct {
		upTo LSN
		want []Epoch
	}{{9, []Epoch{1, 2, 3, 4}}, {10, []Epoch{2, 3, 4}}, {15, []Epoch{2, 3, 4}}, {25, []Epoch{3, 4}}, {38, []Epoch{3, 4}}} {
		require.NoError(t, replicaOfEpoch(s, 1).store.trimTo(tt.upTo))
		require.Equal(t, tt.want, kept(), "trimmed up to %d", tt.upTo)
	}
	_, err := s.Replica(1)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
