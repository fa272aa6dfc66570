package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/node"
)

// TestSnapshotCommands: a node runs, is stopped, and another one is made of its snapshot, which then serves the same head and goes on from there. With the
// exit codes of what can go wrong.
func TestSnapshotCommands(t *testing.T) {
	dir := t.TempDir()
	first, second, other := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "other")
	file := filepath.Join(dir, "node.snapshot")
	ports := []string{"LEDGERD_RPC_LISTEN=127.0.0.1:0", "LEDGERD_METRICS_LISTEN=127.0.0.1:0"}
	for _, home := range []string{first, second} {
		_, stderr, code := once(t, "init", "--home", home)
		require.Zero(t, code, stderr)
	}
	p := launch(t, ports, "start", "--home", first)
	p.transfer(3)
	_, stderr, code := once(t, "snapshot", "create", "--home", first, "--out", file)
	require.Equal(t, int(exitInUse), code, stderr)
	want := p.head()
	require.Zero(t, p.signal(syscall.SIGTERM))

	stdout, stderr, code := once(t, "snapshot", "create", "--home", first, "--out", file, "--json")
	require.Zero(t, code, stderr)
	var made node.Made
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	require.Equal(t, want.Hash(), made.Head)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, made.Size, info.Size())
	_, stderr, code = once(t, "snapshot", "create", "--home", first, "--out", file)
	require.Equal(t, int(exitCannotMake), code, stderr)

	stdout, stderr, code = once(t, "snapshot", "restore", "--home", second, file, "--json")
	require.Zero(t, code, stderr)
	var restored node.Restored
	require.NoError(t, json.Unmarshal([]byte(stdout), &restored))
	require.Equal(t, []any{made.LSN, made.Block, made.Head, false}, []any{restored.LSN, restored.Block, restored.Head, restored.Observer})
	_, stderr, code = once(t, "snapshot", "restore", "--home", second, file)
	require.Equal(t, int(exitCannotMake), code, stderr)

	p = launch(t, ports, "start", "--home", second)
	require.Equal(t, want.Hash(), p.head().Hash())
	p.transfer(2)
	require.Equal(t, want.Number.Uint64()+2, p.head().Number.Uint64())
	require.Zero(t, p.signal(syscall.SIGTERM))
	http.DefaultClient.CloseIdleConnections()

	_, stderr, code = once(t, "init", "--home", other, "--chain-id", "4242")
	require.Zero(t, code, stderr)
	_, stderr, code = once(t, "snapshot", "restore", "--home", other, file)
	require.Equal(t, int(exitMismatch), code, stderr)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data[:len(data)-1], 0o600))
	_, stderr, code = once(t, "snapshot", "restore", "--home", other, file)
	require.Equal(t, int(exitData), code, stderr)
}
