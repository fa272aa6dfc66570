package feedclient

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNothingOfTheNode: a client links nothing of the node.
func TestNothingOfTheNode(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	for _, name := range strings.Fields(string(out)) {
		require.False(t, strings.HasPrefix(name, "ledgerd/") && !strings.HasPrefix(name, "ledgerd/rpc/feed/"), "imports %s", name)
		require.NotEqual(t, "ledgerd/rpc/feed", name)
		require.NotContains(t, name, "pebble")
		require.NotContains(t, name, "go-ethereum/core")
	}
}
