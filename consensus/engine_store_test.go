package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestEngineAreaHeld: an area is in use until all who hold it have let go, each once.
func TestEngineAreaHeld(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	first, second := s.EngineArea(1), s.EngineArea(2)
	release, again := first.Hold(), s.EngineArea(1).Hold()
	require.Equal(t, []bool{true, false}, []bool{s.EngineArea(1).Held(), second.Held()})
	release()
	release()
	require.True(t, first.Held())
	again()
	require.False(t, first.Held())
}
