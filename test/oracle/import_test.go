package oracle

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"ledgerd/ledger"
	"ledgerd/ledger/genesis"
	"ledgerd/test/internal/process"
)

func importedGenesis(t *testing.T) *genesis.Genesis {
	t.Helper()
	text, err := makeChain().genesis.MarshalJSON()
	require.NoError(t, err)
	g, err := genesis.ParseForInit(text)
	require.NoError(t, err)
	require.Equal(t, makeChain().genesis.ToBlock().Hash(), g.ToBlock().Hash(), "nothing is added to it")
	canonical, err := g.JSON()
	require.NoError(t, err)
	again, err := genesis.Parse(canonical)
	require.NoError(t, err)
	require.True(t, again.Ledgerd.Imported)
	require.Equal(t, g.ToBlock().Hash(), again.ToBlock().Hash())
	return g
}

func openImported(t *testing.T, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(dir, importedGenesis(t), ledger.Options{CacheMiB: 16})
	require.NoError(t, err)
	return l
}

// TestImport: in parts, again, and after the ledger was closed and opened, it comes to the same chain.
func TestImport(t *testing.T) {
	c, dir := makeChain(), t.TempDir()
	l := openImported(t, dir)
	first := sequence(append([]*types.Block{c.genesis.ToBlock()}, c.blocks[:20]...))
	n, err := l.Import(context.Background(), first)
	require.NoError(t, err)
	require.Equal(t, 20, n, "the genesis block is there already")
	n, err = l.Import(context.Background(), first)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, l.Close())
	l = openImported(t, dir)
	n, err = l.Import(context.Background(), sequence(c.blocks))
	require.NoError(t, err)
	require.Equal(t, headBlock-20, n)
	require.Equal(t, c.blocks[headBlock-1].Hash(), l.CurrentHeader().Hash())
	require.Zero(t, l.Applied(), "imported blocks are below the first entry of the log")
	require.NoError(t, l.Close())
	l = openImported(t, dir)
	defer l.Close()
	require.Equal(t, c.blocks[headBlock-1].Hash(), l.CurrentHeader().Hash())
	for _, b := range c.blocks {
		require.Equal(t, b.Hash(), l.HeaderByNumber(b.NumberU64()).Hash())
		require.Len(t, l.ReceiptsByHash(b.Hash()), len(b.Transactions()))
	}
}

// TestImportRefuses: a block that is not what its header says, or not the next one, is refused by name; what came before it stays.
func TestImportRefuses(t *testing.T) {
	c := makeChain()
	changed := func(block int, change func(h *types.Header, body *types.Body)) *types.Block {
		b := c.blocks[block-1]
		header, body := b.Header(), b.Body()
		change(header, body)
		return types.NewBlockWithHeader(header).WithBody(*body)
	}
	for _, tc := range []struct {
		name  string
		until int // blocks that are good before it
		block *types.Block
		want  string
	}{
		{"gap", 4, c.blocks[5], "the block before it is missing, the chain ends with block 4"},
		{"another parent", 4, changed(5, func(h *types.Header, _ *types.Body) { h.ParentHash = common.Hash{1} }), "its parent is 0x01"},
		{"another block of that number", 4, changed(3, func(h *types.Header, _ *types.Body) { h.Extra = []byte("x") }), "the chain has another block 3"},
		{"time", 4, changed(5, func(h *types.Header, _ *types.Body) { h.Time = 40 }), "timestamp older than parent"},
		{"difficulty", 4, changed(5, func(h *types.Header, _ *types.Body) { h.Difficulty = common.Big1 }), "invalid difficulty"},
		{"gas limit", 4, changed(5, func(h *types.Header, _ *types.Body) { h.GasLimit *= 2 }), "invalid gas limit"},
		{"uncle that is none", 4, changed(5, func(h *types.Header, b *types.Body) {
			b.Uncles = []*types.Header{c.blocks[3].Header()}
			h.UncleHash = types.CalcUncleHash(b.Uncles)
		}), "uncle is ancestor"},
		{"proof of work again", 14, changed(15, func(h *types.Header, _ *types.Body) { h.Difficulty = common.Big1 }), "invalid terminal block"},
		{"base fee", 9, changed(10, func(h *types.Header, _ *types.Body) { h.BaseFee = common.Big1 }), "invalid baseFee"},
		{"state root", 4, changed(5, func(h *types.Header, _ *types.Body) { h.Root = common.Hash{1} }), "stateRoot"},
		{"receipts", 9, changed(10, func(h *types.Header, _ *types.Body) { h.ReceiptHash = common.Hash{1} }), "receiptsRoot"},
		{"transaction left out", 9, changed(10, func(_ *types.Header, b *types.Body) { b.Transactions = b.Transactions[1:] }), "bad block"},
		{"withdrawal", 16, changed(17, func(_ *types.Header, b *types.Body) { b.Withdrawals = nil }), "bad block"},
		{"blob gas", 20, changed(21, func(h *types.Header, _ *types.Body) { h.BlobGasUsed = new(uint64) }), "blobGasUsed"},
		{"requests", 23, changed(24, func(h *types.Header, _ *types.Body) { h.RequestsHash = &common.Hash{1} }), "requestsHash"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := openImported(t, t.TempDir())
			defer l.Close()
			n, err := l.Import(context.Background(), sequence(append(append([]*types.Block{}, c.blocks[:tc.until]...), tc.block)))
			require.ErrorIs(t, err, ledger.ErrBadBlock)
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, tc.until, n)
			require.Equal(t, c.blocks[tc.until-1].Hash(), l.CurrentHeader().Hash())
			_, err = l.Import(context.Background(), sequence(c.blocks))
			require.NoError(t, err, "the good ones go on")
		})
	}
	broken := errors.New("the file ends here")
	var failing iter.Seq2[*types.Block, error] = func(yield func(*types.Block, error) bool) {
		if yield(c.blocks[0], nil) {
			yield(nil, broken)
		}
	}
	l := openImported(t, t.TempDir())
	defer l.Close()
	n, err := l.Import(context.Background(), failing)
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, n)

	own, err := ledger.Open(t.TempDir(), genesis.Dev(1337, nil), ledger.Options{CacheMiB: 16})
	require.NoError(t, err)
	defer own.Close()
	_, err = own.Import(context.Background(), sequence(c.blocks))
	require.ErrorIs(t, err, ledger.ErrNotImported)
}

// TestImportCommand is the way of an operator: init, import, start; and what goes wrong on it.
func TestImportCommand(t *testing.T) {
	c, dir := makeChain(), t.TempDir()
	genesisFile, chainFile := c.write(t, dir)
	home := filepath.Join(dir, "home")
	p := build(t)
	out := p.run(t, 0, "init", "--home", home, "--genesis", genesisFile)
	require.Contains(t, out, "This is the chain of another network")
	bad := filepath.Join(dir, "bad.rlp")
	text, err := os.ReadFile(chainFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(bad, text[:len(text)-10], 0o600))
	require.Contains(t, p.run(t, 1, "import", "--home", home, bad), "is no block")
	var done struct {
		Blocks int         `json:"blocks"`
		Block  uint64      `json:"block"`
		Head   common.Hash `json:"head"`
	}
	require.NoError(t, json.Unmarshal([]byte(p.run(t, 0, "import", "--home", home, "--json", chainFile)), &done))
	require.EqualValues(t, headBlock, done.Block)
	require.Equal(t, 1, done.Blocks, "the last one: the others came before the bad file's end")
	require.Equal(t, c.blocks[headBlock-1].Hash(), done.Head)

	require.Contains(t, p.run(t, 1, "verify", "--home", home), "its chain was imported")
	url := p.start(t, home)
	for _, tag := range []string{"latest", "safe", "finalized"} {
		answer := ask(t, url, request{method: "eth_getBlockByNumber", params: args(tag, false)}.body(t))
		require.Contains(t, string(answer), done.Head.Hex())
	}
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":false}`, string(ask(t, url, request{method: "eth_syncing"}.body(t))))
	pending := poolRequests()[1] // of one who has no funds: the pool looks at it
	require.Contains(t, string(ask(t, url, pending.body(t))), "insufficient funds")

	other := filepath.Join(dir, "other")
	p.run(t, 0, "init", "--home", other)
	require.Contains(t, p.run(t, 1, "import", "--home", other, chainFile), "nothing can be imported")
}

// binary is ledgerd, built.
type binary string

func build(t *testing.T) binary {
	t.Helper()
	path, err := process.Build(t.TempDir())
	require.NoError(t, err)
	return binary(path)
}

// run returns what a command says, on both of its outputs.
func (b binary) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	stdout, stderr, got := process.Run(t, string(b), args...)
	require.Equal(t, code, got, "%v\n%s%s", args, stdout, stderr)
	return stdout + stderr
}

// start serves a home until the test ends, on a port that the system picks.
func (b binary) start(t *testing.T, home string) (url string) {
	t.Helper()
	cmd := exec.Command(string(b), "start", "--home", home)
	cmd.Env = append(os.Environ(), "LEDGERD_RPC_LISTEN=127.0.0.1:0", "LEDGERD_METRICS_LISTEN=")
	n := process.Start(t, cmd)
	require.Contains(t, n.Stderr(), "this chain was made elsewhere")
	t.Cleanup(func() { n.Terminate(t) })
	return n.URL
}
