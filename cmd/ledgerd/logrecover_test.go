package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
)

// freePorts returns the first of n ports that nobody listens on.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for base := 21000 + os.Getpid()%2000*10; base < 60000; base += n {
		free := true
		for i := 0; i < n && free; i++ {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+i)))
			if free = err == nil; free {
				require.NoError(t, l.Close())
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// must runs a command that succeeds.
func must(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := once(t, args...)
	require.Zero(t, code, "%v: %s", args, stderr)
	return stdout
}

// TestRecoverCommands: of three nodes the two that hold most are away; the third goes on alone with what it has, and one of the others joins it when what
// nobody else has is cut off, from its log and its ledger.
func TestRecoverCommands(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir := filepath.Join(t.TempDir(), "net")
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, "testnet", "init", "--dir", dir, "--nodes", "3", "--engine", "raft", "--permissioned=false", "--base-port", strconv.Itoa(freePorts(t, 30)))
	text, err := os.ReadFile(at("accounts.json"))
	require.NoError(t, err)
	var accounts []struct{ PrivateKey hexutil.Bytes }
	require.NoError(t, json.Unmarshal(text, &accounts))
	key, err := crypto.ToECDSA(accounts[0].PrivateKey)
	require.NoError(t, err)

	var nodes []*process
	for i := range 3 {
		nodes = append(nodes, launch(t, nil, "start", "--home", at(fmt.Sprint("node", i))))
	}
	same := func(a, b *process) *types.Header {
		t.Helper()
		want := a.head()
		require.Eventually(t, func() bool { return b.head().Hash() == want.Hash() }, patience, 10*time.Millisecond)
		return want
	}
	nodes[0].transferFrom(key, 3)
	kept := same(nodes[0], nodes[2])
	require.Zero(t, nodes[2].signal(syscall.SIGTERM))
	nodes[0].transferFrom(key, 2)
	same(nodes[0], nodes[1])
	require.Zero(t, nodes[0].signal(syscall.SIGTERM))
	require.Zero(t, nodes[1].signal(syscall.SIGTERM))

	require.Contains(t, must(t, "log", "recover", "status", "--home", at("node2")), "vouched  true")
	require.NoError(t, os.WriteFile(at("status.json"), []byte(must(t, "log", "recover", "status", "--home", at("node2"), "--json")), 0o600))
	recovery, sig := at("recovery.json"), at("sig.json")
	said := must(t, "log", "recover", "propose", "--status", at("status.json"), "--out", recovery)
	require.Contains(t, said, "1 of the 3 members of epoch 1 survive")
	require.Contains(t, said, "fence member 1")
	require.Contains(t, said, "fence member 2")
	require.Contains(t, must(t, "keys", "sign", recovery, "--key", at("admin.key"), "--out", sig), "ends")

	apply := func(node string, more ...string) (string, string, int) {
		return once(t, append([]string{"log", "recover", "apply", "--home", at(node), recovery}, more...)...)
	}
	_, stderr, code := apply("node2", "--yes")
	require.Equal(t, int(exitError), code)
	require.Contains(t, stderr, "0 good signatures")
	stdout, _, code := apply("node2", "--sig", sig)
	require.Zero(t, code)
	require.Contains(t, stdout, "add --yes")
	stdout, _, code = apply("node2", "--sig", sig, "--yes")
	require.Zero(t, code)
	require.NotContains(t, stdout, "cut off")
	stdout, _, code = apply("node2", "--sig", sig, "--yes")
	require.Zero(t, code)
	require.Contains(t, stdout, "nothing to do")
	nodes[2] = launch(t, nil, "start", "--home", at("node2"))
	require.Equal(t, kept.Hash(), nodes[2].head().Hash())
	nodes[2].transferFrom(key, 2)

	_, stderr, code = once(t, "start", "--home", at("node0"))
	require.Equal(t, int(exitCutOff), code, stderr)
	require.Contains(t, stderr, "ledgerd log recover apply")
	stdout, stderr, code = apply("node0", "--sig", sig, "--yes")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "cut off")
	require.Contains(t, stdout, "made anew")
	cut, err := filepath.Glob(filepath.Join(at("node0"), "data", "*cut-epoch-2-recovery-1*"))
	require.NoError(t, err)
	require.Len(t, cut, 2, "the log's suffix and the ledger")
	nodes[0] = launch(t, nil, "start", "--home", at("node0"))
	same(nodes[2], nodes[0])
	nodes[0].transferFrom(key, 1) // an observer hands it on
	same(nodes[0], nodes[2])
	require.Zero(t, nodes[0].signal(syscall.SIGTERM))
	require.Zero(t, nodes[2].signal(syscall.SIGTERM))
	require.Contains(t, must(t, "verify", "--home", at("node0")), "equal")
}
