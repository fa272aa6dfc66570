package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestContinuedByEnd: a Seal is one of a node's log if it is ahead of it, or verifies right behind it.
func TestContinuedByEnd(t *testing.T) {
	ahead := twoSegments(t, vfs.NewMem()) // the Seal is at 30
	defer ahead.Close()
	end, ok, err := ahead.SegmentEnd(1)
	require.NoError(t, err)
	require.True(t, ok)
	for _, n := range []uint64{0, 5, 28, 29, 30, 35} {
		s := openStore(t, vfs.NewMem())
		defer s.Close()
		apply(t, replicaOf(t, s), items(1, n))
		err := s.continuedByEnd(end)
		if n <= 29 {
			require.NoError(t, err, "%d entries", n)
		} else {
			require.ErrorIs(t, err, ErrInvalid, "%d entries, and none of them is the Seal", n)
		}
	}
	other := openStore(t, vfs.NewMem())
	defer other.Close()
	apply(t, replicaOf(t, other), items(101, 129))
	require.ErrorIs(t, other.continuedByEnd(end), ErrCorrupt, "another history")
	r := newChain().recovery(t, ahead, 20, 1)
	require.NoError(t, other.continuedByEnd(SegmentEnd{Recovery: &r}), "whether that is this node's log, Await says")
}

func TestOverrides(t *testing.T) {
	seal := SegmentEnd{Seal: Entry{LSN: 9}}
	first, second := SegmentEnd{Recovery: &SignedRecovery{Recovery: Recovery{Count: 1}}}, SegmentEnd{Recovery: &SignedRecovery{Recovery: Recovery{Count: 2}}}
	for _, c := range []struct {
		a, b SegmentEnd
		want bool
	}{{seal, seal, false}, {seal, first, false}, {first, seal, true}, {first, second, false}, {second, first, true}, {first, first, false}} {
		require.Equal(t, c.want, c.a.Overrides(c.b))
	}
}
