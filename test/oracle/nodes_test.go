package oracle

import (
	"context"
	"iter"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/eth/filters"
	"github.com/ethereum/go-ethereum/node"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"

	"ledgerd/ledger"
	"ledgerd/ledger/genesis"
	"ledgerd/rpc"
)

// startGeth runs go-ethereum with a chain, whose last block is also safe and final. It listens on HTTP, on a free port of loopback.
func startGeth(t testing.TB, g *core.Genesis, blocks []*types.Block) (url string) {
	t.Helper()
	stack, err := node.New(&node.Config{Name: "oracle", HTTPHost: "127.0.0.1", HTTPModules: []string{"eth", "net", "web3", "txpool", "debug"}, HTTPPort: freePort(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stack.Close()) })
	config := ethconfig.Defaults
	config.Genesis, config.NetworkId, config.SyncMode = g, g.Config.ChainID.Uint64(), ethconfig.FullSync
	config.NoPruning, config.StateScheme, config.TransactionHistory, config.LogHistory = true, "hash", 0, 0
	config.RPCEVMTimeout = rpcOptions().CallTimeout
	backend, err := eth.New(stack, &config)
	require.NoError(t, err)
	system := filters.NewFilterSystem(backend.APIBackend, filters.Config{LogCacheSize: 32, LogQueryLimit: 1000})
	stack.RegisterAPIs([]gethrpc.API{{Namespace: "eth", Service: filters.NewFilterAPI(system)}})
	require.NoError(t, stack.Start())
	_, err = backend.BlockChain().InsertChain(blocks)
	require.NoError(t, err)
	head := backend.BlockChain().CurrentHeader()
	backend.BlockChain().SetFinalized(head)
	backend.BlockChain().SetSafe(head)
	backend.SetSynced()
	awaitLogIndex(t, backend, head.Number.Uint64())
	return stack.HTTPEndpoint()
}

// awaitLogIndex waits until go-ethereum has all blocks up to head in its log index, which it makes behind the chain: of 100,000 blocks in some 20 minutes. What it lacks it
// searches block by block.
func awaitLogIndex(t testing.TB, backend *eth.Ethereum, head uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	matcher := backend.APIBackend.NewMatcherBackend()
	defer matcher.Close()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		r, err := matcher.SyncLogIndex(ctx)
		require.NoError(t, err)
		if !r.IndexedBlocks.IsEmpty() && r.IndexedBlocks.First() == 0 && r.IndexedBlocks.Last() == head {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.FailNow(t, "geth's log index", "has blocks %v of %d", r.IndexedBlocks, head)
		}
	}
}

// freePort returns a port that was free a moment ago: go-ethereum takes 0 for its default.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// rpcOptions are ours, with go-ethereum's limits where the two have other defaults.
func rpcOptions() rpc.Options {
	o := rpc.Options{AllowUnprotected: false}
	o.EnsureDefaults()
	o.Registerer = nil
	return o
}

// startLedgerd serves an imported chain.
func startLedgerd(t testing.TB, g *core.Genesis, blocks []*types.Block) (url string) {
	t.Helper()
	text, err := g.MarshalJSON()
	require.NoError(t, err)
	ours, err := genesis.ParseForInit(text)
	require.NoError(t, err)
	require.True(t, ours.Ledgerd.Imported)
	l, err := ledger.Open(t.TempDir(), ours, ledger.Options{CacheMiB: 16, ArchiveProofs: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	n, err := l.Import(context.Background(), sequence(blocks))
	require.NoError(t, err)
	require.Equal(t, len(blocks), n)
	server, err := rpc.New(l, l.Pool(), nil, rpcOptions())
	require.NoError(t, err)
	web := httptest.NewServer(server.Handler())
	t.Cleanup(web.Close)
	return web.URL
}

func sequence(blocks []*types.Block) iter.Seq2[*types.Block, error] {
	return func(yield func(*types.Block, error) bool) {
		for _, b := range blocks {
			if !yield(b, nil) {
				return
			}
		}
	}
}

// lines reads a file of testdata without its comments.
func lines(t testing.TB, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}
