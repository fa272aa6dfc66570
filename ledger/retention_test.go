package ledger_test

import (
	"context"
	"testing"

	"github.com/ethereum/go-ethereum/core/state"
	"github.com/stretchr/testify/require"

	"ledgerd/ledger"
)

// TestRetention: what is said to be the oldest state and the oldest provable one can be read and proved, and the one before cannot.
func TestRetention(t *testing.T) {
	const records = 420 // which make more blocks than there are layers in memory
	for _, tc := range []struct {
		name           string
		opts           ledger.Options
		states, proofs func(oldest uint64) bool
	}{
		{"archive", ledger.Options{}, isZero, isLater},
		{"archive with proofs", ledger.Options{ArchiveProofs: true}, isZero, isZero},
		{"pruned", ledger.Options{StateHistory: 20}, isLater, isLater},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := open(t, t.TempDir(), tc.opts)
			defer func() { require.NoError(t, l.Close()) }()
			play(t, l, new(history), records)
			require.Greater(t, l.CurrentHeader().Number.Uint64(), uint64(200))
			states, proofs := l.OldestState(), l.OldestProof()
			require.True(t, tc.states(states), "oldest state %d", states)
			require.True(t, tc.proofs(proofs), "oldest proof %d", proofs)
			read := func(number uint64) error {
				return l.WithState(context.Background(), l.HeaderByNumber(number), func(st *state.StateDB) error {
					st.GetNonce(address(0))
					return nil
				})
			}
			prove := func(number uint64) error {
				h := l.HeaderByNumber(number)
				return l.WithState(context.Background(), h, func(st *state.StateDB) error {
					_, err := st.Database().OpenTrie(h.Root)
					return err
				})
			}
			require.NoError(t, read(states))
			require.NoError(t, prove(proofs))
			require.NoError(t, prove(l.CurrentHeader().Number.Uint64()))
			if states > 0 {
				require.ErrorIs(t, read(states-1), ledger.ErrStateUnavailable)
			}
			if proofs > 0 {
				require.Error(t, prove(proofs-1))
			}
		})
	}
}

func isZero(n uint64) bool  { return n == 0 }
func isLater(n uint64) bool { return n > 0 }
