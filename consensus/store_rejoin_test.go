package consensus

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestRejoinStore: a log in the place of one that is behind takes over what that has promised, and is refused where the two do not belong together.
func TestRejoinStore(t *testing.T) {
	ctx := context.Background()
	ahead := twoSegments(t, vfs.NewMem())
	defer ahead.Close()
	behind := func(n uint64) *Store {
		s := openStore(t, vfs.NewMem())
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		apply(t, replicaOf(t, s), items(1, min(n, 29)))
		if n > 29 {
			apply(t, replicaOf(t, s), []Item{{UnixMilli: 30, Record: newChain().seal(2).Record()}})
			apply(t, replicaOf(t, s), items(31, n))
		}
		return s
	}
	promise := func(s *Store, epoch Epoch) {
		require.NoError(t, s.Vouch(epoch))
		require.NoError(t, s.EngineArea(epoch).Write(true, func(b *EngineBatch) error {
			require.NoError(t, b.Enter())
			return b.Set([]byte("vote"), []byte{byte(epoch)})
		}))
	}
	rejoin := func(old *Store, lsn LSN, engine bool) (*Store, error) {
		fs := vfs.NewCrashableMem()
		if err := RejoinStore(ctx, storeOptions(fs), stateAt(t, ahead, lsn), old, engine); err != nil {
			return nil, err
		}
		s := openStore(t, fs.CrashClone(vfs.CrashCloneCfg{})) // it is synced when RejoinStore returns
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		require.Equal(t, []LSN{lsn, lsn + 1}, []LSN{s.Trimmed(), s.Next()})
		return s, nil
	}
	vote := func(s *Store, epoch Epoch) []byte {
		v, err := s.EngineArea(epoch).Get([]byte("vote"))
		require.NoError(t, err)
		return v
	}
	vouched := func(s *Store, epoch Epoch) bool {
		ok, err := s.Vouched(epoch)
		require.NoError(t, err)
		return ok
	}

	old := behind(33)
	promise(old, 2)
	position := replicaOf(t, old).Position()
	s, err := rejoin(old, 45, true)
	require.NoError(t, err)
	require.Equal(t, []byte{2}, vote(s, 2))
	require.Equal(t, []bool{false, true}, []bool{vouched(s, 2), vouched(s, 3)})
	got := replicaOf(t, s).Position()
	require.Equal(t, Position{Applied: position.Applied, Next: 46, UnixMilli: 45, Digest: stateAt(t, ahead, 45).Digest(), Based: true}, got)
	more := apply(t, replicaOf(t, s), items(46, 50))
	require.Equal(t, stateAt(t, ahead, 50).Digest(), more[len(more)-1].Entry.Digest)

	s, err = rejoin(old, 45, false)
	require.NoError(t, err)
	require.Nil(t, vote(s, 2), "an engine that does not go on has no say in the epoch")
	require.False(t, vouched(s, 2))

	earlier := behind(20)
	promise(earlier, 1)
	_, err = rejoin(earlier, 45, true)
	require.ErrorIs(t, err, ErrInvalid, "its engine is not that of the state's last segment")
	s, err = rejoin(earlier, 45, false)
	require.NoError(t, err)
	require.True(t, vouched(s, 2), "it is the node's disk still")

	_, err = rejoin(old, 34, true)
	require.NoError(t, err)
	_, err = rejoin(old, 33, true)
	require.ErrorIs(t, err, ErrInvalid, "it is not ahead")
	_, err = rejoin(behind(40), 29, false)
	require.ErrorIs(t, err, ErrInvalid)

	other := openStore(t, vfs.NewMem())
	defer other.Close()
	apply(t, replicaOf(t, other), items(1001, 1020))
	_, err = rejoin(other, 25, false)
	require.ErrorIs(t, err, ErrDiverged, "another history, within the window")
	apply(t, replicaOf(t, other), append(items(1021, 1025), Item{UnixMilli: 2000, Record: newChain().seal(2).Record()}))
	_, err = rejoin(other, 45, false)
	require.ErrorIs(t, err, ErrDiverged, "another second segment")
}
