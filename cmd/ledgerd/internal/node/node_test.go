package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
)

// options are those of a node on free ports, at h or, if that is empty, nowhere.
func options(t *testing.T, h home.Home) Options {
	t.Helper()
	c := config.Default()
	c.RPC.Listen, c.Metrics.Listen = "127.0.0.1:0", "127.0.0.1:0"
	g := genesis.Dev(1337, nil)
	if h != "" && !h.Exists() {
		text, err := g.JSON()
		require.NoError(t, err)
		require.NoError(t, h.Create(c.TOML(), text, nil))
	}
	return Options{Config: c, Genesis: g, Home: h}
}

// run runs a node until the test calls stop, which returns what Run returned.
func run(t *testing.T, n *Node) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.Run(ctx, func() { close(started) }) }()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("ended before it had started: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not started after a minute")
	}
	return func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Minute):
			return errors.New("not stopped after a minute")
		}
	}
}

// TestNothingIsLeft is the whole life of a node that keeps nothing: no goroutine, port, file or lock outlives it.
func TestNothingIsLeft(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Setenv("TMPDIR", t.TempDir())
	n, err := Open(t.Context(), options(t, ""))
	require.NoError(t, err)
	stop := run(t, n)
	resp, err := http.Get("http://" + n.MetricsAddr().String() + "/readyz")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	require.NoError(t, stop())

	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Empty(t, left)
	for _, a := range []net.Addr{n.Addr(), n.MetricsAddr()} {
		l, err := net.Listen("tcp", a.String())
		require.NoError(t, err, "the port is free again")
		l.Close()
	}
	goleak.VerifyNone(t, before)
}

// TestFailedOpenClosesAll makes the last step of Open fail, and opens the same home again (invariant 1).
func TestFailedOpenClosesAll(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	opts := options(t, home.Home(filepath.Join(t.TempDir(), "node")))
	opts.Config.Metrics.Listen = taken.Addr().String()
	_, err = Open(t.Context(), opts)
	require.ErrorIs(t, err, ErrListen)
	require.ErrorContains(t, err, "metrics.listen")

	opts.Config.Metrics.Listen = ""
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	require.Nil(t, n.MetricsAddr())
	_, err = Open(t.Context(), opts)
	require.ErrorIs(t, err, home.ErrInUse)
	require.NoError(t, n.Close())
	require.NoError(t, n.Close(), "twice is fine")
}

// TestPartFails closes the log under a running node: Run ends by itself and says why (invariant 3).
func TestPartFails(t *testing.T) {
	n, err := Open(t.Context(), options(t, ""))
	require.NoError(t, err)
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() { ended <- n.Run(t.Context(), func() { close(started) }) }()
	<-started
	require.NoError(t, n.log.Close())
	select {
	case err := <-ended:
		require.ErrorIs(t, err, consensus.ErrClosed)
	case <-time.After(time.Minute):
		t.Fatal("still serving")
	}
	_, err = net.DialTimeout("tcp", n.Addr().String(), time.Second)
	require.Error(t, err, "still listening")
}

// TestStopTimeout: a stop that cannot end is given up, with an error that says what that means.
func TestStopTimeout(t *testing.T) {
	opts := options(t, "")
	opts.Config.Node.StopTimeout = time.Millisecond
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	hold := make(chan struct{})
	n.onClose(func() error { <-hold; return nil })
	stop := run(t, n)
	require.ErrorIs(t, stop(), ErrStopTimeout)
	close(hold)
}

func TestUnknownEngine(t *testing.T) {
	opts := options(t, "")
	opts.Genesis.Ledgerd.Engine = "paxos"
	_, err := Open(t.Context(), opts)
	require.ErrorIs(t, err, ErrUnknownEngine)
	require.ErrorContains(t, err, "local")
}

// TestOtherNetwork opens a home with another genesis than it was made with.
func TestOtherNetwork(t *testing.T) {
	opts := options(t, home.Home(filepath.Join(t.TempDir(), "node")))
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	require.NoError(t, n.Close())
	opts.Genesis = genesis.Dev(7, nil)
	_, err = Open(t.Context(), opts)
	require.ErrorIs(t, err, consensus.ErrWrongNetwork)
}

// TestEveryNamespaceIsServed: what the configuration lets an operator name, the server knows.
func TestEveryNamespaceIsServed(t *testing.T) {
	opts := options(t, "")
	opts.Config.RPC.Namespaces = config.Namespaces
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	defer n.Close()
	client := n.rpc.Client()
	defer client.Close()
	for _, ns := range config.Namespaces {
		method := map[string]string{
			"eth": "eth_chainId", "net": "net_version", "web3": "web3_clientVersion", "txpool": "txpool_status", "log": "log_segments",
			"ledger": "ledger_transactionStatus", "debug": "debug_getBadBlocks", "trace": "trace_block", "ots": "ots_getApiLevel",
			"erigon": "erigon_getHeaderByNumber", "admin": "admin_nodeInfo",
		}[ns]
		require.NotEmpty(t, method, ns)
		var args []any
		switch ns {
		case "ledger":
			args = append(args, fmt.Sprintf("0x%064x", 1))
		case "trace", "erigon":
			args = append(args, "latest")
		}
		var answer any
		require.NoError(t, client.Call(&answer, method, args...), method)
	}
}

func TestGuard(t *testing.T) {
	try := func(p any) (err error) {
		defer guard(&err)
		if p != nil {
			panic(p)
		}
		return nil
	}
	require.NoError(t, try(nil))
	require.ErrorIs(t, try(errors.New("fatal: commit")), consensus.ErrFailed)
	require.ErrorIs(t, try(&os.PathError{Op: "sync", Path: "x", Err: syscall.EIO}), consensus.ErrFailed)
	require.Panics(t, func() { _ = try(errors.New("index out of range")) })
	require.Panics(t, func() { _ = try("invariant 3") })
}
