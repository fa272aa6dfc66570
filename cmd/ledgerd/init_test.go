package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/home"
)

// TestInitObserver: the home of a node that the genesis does not name is made only if that is asked for, and has no log that it could vote with.
func TestInitObserver(t *testing.T) {
	dir := t.TempDir()
	net, h := filepath.Join(dir, "net"), home.Home(filepath.Join(dir, "observer"))
	must(t, "testnet", "init", "--dir", net, "--nodes", "2", "--engine", "raft")
	genesis := filepath.Join(net, "node0", "genesis.json")
	_, stderr, code := command(t, "init", "--home", string(h), "--genesis", genesis)
	require.Equal(t, exitNotMember, code, stderr)
	require.False(t, h.Exists())
	must(t, "init", "--home", string(h), "--genesis", genesis, "--observer")
	require.True(t, h.Exists())
	require.NoDirExists(t, h.LogDir())
	_, stderr, code = command(t, "init", "--home", filepath.Join(dir, "alone"), "--observer")
	require.Equal(t, exitUsage, code, stderr)
}
