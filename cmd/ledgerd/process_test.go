package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/devkeys"
	"ledgerd/cmd/ledgerd/internal/home"
)

// asProgram makes this test binary the program itself.
const asProgram = "LEDGERD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what takes a fraction of a second on an idle machine.
const patience = time.Minute

// process is a ledgerd in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout []string // up to and including the ready line
	stderr *syncBuffer
	http   string
	ended  chan struct{}
}

// syncBuffer collects what a process writes while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var readyLine = regexp.MustCompile(`^ready http=(http://127\.0\.0\.1:[0-9]+) ws=(ws://127\.0\.0\.1:[0-9]+)$`)

func program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// launch starts a process and returns when it has printed its ready line.
func launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: program(context.Background(), args...), stderr: new(syncBuffer), ended: make(chan struct{})}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("stderr of ledgerd %v:\n%s", args, p.stderr)
		}
	})
	ready := make(chan bool, 1)
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.stdout = append(p.stdout, lines.Text())
			if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
				p.http = m[1]
				break
			}
		}
		ready <- p.http != ""
		_, _ = io.Copy(io.Discard, out)
		_ = p.cmd.Wait()
	}()
	select {
	case ok := <-ready:
		require.True(t, ok, "it ended before it was ready:\n%s", p.stderr)
	case <-time.After(patience):
		t.Fatalf("not ready after %v:\n%s", patience, p.stderr)
	}
	return p
}

// signal sends a signal and returns the exit code; -1 if the signal itself ended the process.
func (p *process) signal(s os.Signal) int {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("still running %v after %v:\n%s", patience, s, p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

// client connects to the node.
func (p *process) client() *ethclient.Client {
	p.t.Helper()
	c, err := ethclient.DialContext(p.t.Context(), p.http)
	require.NoError(p.t, err)
	p.t.Cleanup(c.Close)
	return c
}

// head returns the newest block's header.
func (p *process) head() *types.Header {
	p.t.Helper()
	h, err := p.client().HeaderByNumber(p.t.Context(), nil)
	require.NoError(p.t, err)
	return h
}

// get fetches a path of an HTTP server.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// transfer moves wei between two development accounts and waits for the receipts.
func (p *process) transfer(n int) {
	p.t.Helper()
	p.transferFrom(devkeys.Accounts()[0].Key, n)
}

// transferFrom moves wei from an account to a development account.
func (p *process) transferFrom(key *ecdsa.PrivateKey, n int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	to, c := devkeys.Accounts()[1].Address, p.client()
	id, err := c.ChainID(ctx)
	require.NoError(p.t, err)
	nonce, err := c.PendingNonceAt(ctx, crypto.PubkeyToAddress(key.PublicKey))
	require.NoError(p.t, err)
	for range n {
		tx, err := types.SignNewTx(key, types.LatestSignerForChainID(id), &types.DynamicFeeTx{
			ChainID: id, Nonce: nonce, Gas: 21000, To: &to, Value: common.Big1, GasFeeCap: common.Big1, GasTipCap: common.Big0,
		})
		require.NoError(p.t, err)
		raw, err := tx.MarshalBinary()
		require.NoError(p.t, err)
		var receipt *types.Receipt
		require.NoError(p.t, c.Client().CallContext(ctx, &receipt, "eth_sendRawTransactionSync", fmt.Sprintf("0x%x", raw)))
		require.Equal(p.t, types.ReceiptStatusSuccessful, receipt.Status)
		nonce++
	}
}

// once runs a command that is expected to end by itself.
func once(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := program(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the code tells
	require.NoError(t, ctx.Err(), "did not end:\n%s", &errs)
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestDevKeepsNothing is `ledgerd dev` without arguments, from its ready line to its clean end.
func TestDevKeepsNothing(t *testing.T) {
	tmp := t.TempDir()
	p := launch(t, []string{"TMPDIR=" + tmp}, "dev", "--http", "127.0.0.1:0")

	ready := 0
	for _, line := range p.stdout {
		if strings.HasPrefix(line, "ready") {
			ready++
		}
	}
	require.Equal(t, 1, ready)
	banner := strings.Join(p.stdout, "\n")
	for i, a := range devkeys.Accounts() {
		require.Contains(t, banner, fmt.Sprintf("(%d) %s", i, a.Address))
		require.Contains(t, banner, fmt.Sprintf("(%d) %s", i, a.Hex()))
	}

	c := p.client()
	id, err := c.ChainID(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1337), id.Uint64())
	for _, a := range devkeys.Addresses() {
		balance, err := c.BalanceAt(t.Context(), a, nil)
		require.NoError(t, err)
		require.Equal(t, "10000000000000000000000", balance.String())
	}
	p.transfer(1)
	require.Equal(t, uint64(1), p.head().Number.Uint64())

	var version string
	require.NoError(t, c.Client().CallContext(t.Context(), &version, "web3_clientVersion"))
	require.True(t, strings.HasPrefix(version, "ledgerd/v"+release), version)
	var hash common.Hash
	require.NoError(t, c.Client().CallContext(t.Context(), &hash, "eth_sendTransaction", map[string]any{
		"from": devkeys.Addresses()[3], "to": devkeys.Addresses()[4], "value": "0x1",
	}), "the node signs for the accounts")

	ws, err := gethrpc.DialContext(t.Context(), "ws"+strings.TrimPrefix(p.http, "http"))
	require.NoError(t, err, "the websocket is on the same port")
	ws.Close()

	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "ledgerd_build_info{"} {
		status, body := get(t, p.http+path)
		require.Equal(t, http.StatusOK, status, path)
		require.Contains(t, body, want)
	}
	_, metrics := get(t, p.http+"/metrics")
	for _, name := range []string{"go_goroutines", "process_open_fds", "ledgerd_ledger_head_block 2", "ledgerd_view_applied_lsn"} {
		require.Contains(t, metrics, name)
	}

	require.Equal(t, 0, p.signal(syscall.SIGTERM))
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left, "something was kept")
	require.NotContains(t, p.stderr.String(), "level=WARN")
	require.NotContains(t, p.stderr.String(), "level=ERROR")
}

// TestDevKeepsItsChain stops a chain cleanly and by kill -9, and finds it again both times.
func TestDevKeepsItsChain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "chain")
	p := launch(t, nil, "dev", "--datadir", dir, "--http", "127.0.0.1:0", "--chain-id", "31337")
	p.transfer(3)
	first := p.head()
	require.Equal(t, uint64(3), first.Number.Uint64())

	_, stderr, code := once(t, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
	require.Equal(t, int(exitInUse), code, "a second process is refused")
	require.Contains(t, stderr, "data directory "+dir+" is in use by another ledgerd process (process "+fmt.Sprint(p.cmd.Process.Pid)+")")

	require.Equal(t, 0, p.signal(os.Interrupt))
	p = launch(t, nil, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
	require.Equal(t, first.Hash(), p.head().Hash())
	id, err := p.client().ChainID(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(31337), id.Uint64(), "the stored genesis decides")

	p.transfer(2)
	second := p.head()
	require.Equal(t, -1, p.signal(syscall.SIGKILL))
	p = launch(t, nil, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
	require.Equal(t, second.Hash(), p.head().Hash())
	require.Equal(t, 0, p.signal(syscall.SIGTERM))

	_, stderr, code = once(t, "dev", "--datadir", dir, "--http", "127.0.0.1:0", "--chain-id", "1")
	require.Equal(t, int(exitMismatch), code)
	require.Contains(t, stderr, "says chain id 31337, --chain-id says 1")

	stdout, stderr, code := once(t, "verify", "--home", dir, "--json")
	require.Equal(t, 0, code, stderr)
	var v struct {
		Entries, Block   uint64
		Stored, Replayed common.Hash
		Equal            bool
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &v))
	require.True(t, v.Equal)
	require.Equal(t, uint64(5), v.Block)
	require.Equal(t, second.Hash(), v.Stored)
	require.Equal(t, second.Hash(), v.Replayed)
	require.GreaterOrEqual(t, v.Entries, uint64(5))
}

// TestOtherGenesis exchanges the genesis.json under a chain: the data say that they belong to another network.
func TestOtherGenesis(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "chain")
	p := launch(t, nil, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
	p.transfer(1)
	require.Equal(t, 0, p.signal(syscall.SIGTERM))

	path := home.Home(dir).Genesis()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	changed := strings.Replace(string(text), `"chainId": 1337`, `"chainId": 1338`, 1)
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(path, []byte(changed), 0o644))
	_, stderr, code := once(t, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
	require.Equal(t, int(exitMismatch), code, stderr)
	require.Contains(t, stderr, "network")

	require.NoError(t, os.WriteFile(path, text, 0o644))
	p = launch(t, nil, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
	require.Equal(t, uint64(1), p.head().Number.Uint64(), "nothing was lost")
}

// TestOtherLog exchanges the log under a ledger, by that of a chain with the same genesis: neither start nor verify
// takes it for the ledger's own.
func TestOtherLog(t *testing.T) {
	var dirs []string
	for range 2 {
		dir := filepath.Join(t.TempDir(), "chain")
		p := launch(t, nil, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
		p.transfer(2)
		require.Equal(t, 0, p.signal(syscall.SIGTERM))
		dirs = append(dirs, dir)
	}
	a, b := home.Home(dirs[0]), home.Home(dirs[1])
	require.NoError(t, os.RemoveAll(a.LogDir()))
	require.NoError(t, os.Rename(b.LogDir(), a.LogDir()))

	stdout, stderr, code := once(t, "verify", "--home", dirs[0])
	require.Equal(t, int(exitDivergence), code, stderr)
	require.Contains(t, stdout, "different from block 1 (lsn 1) on")

	_, stderr, code = once(t, "dev", "--datadir", dirs[0], "--http", "127.0.0.1:0")
	require.Equal(t, int(exitDivergence), code, stderr)
	require.Contains(t, stderr, "at lsn 2 the log has digest")
}

// TestStart runs a home that init made: two listeners, JSON messages, and the log commands against it.
func TestStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	_, stderr, code := once(t, "init", "--home", dir)
	require.Equal(t, 0, code, stderr)
	env := []string{"LEDGERD_RPC_LISTEN=127.0.0.1:0", "LEDGERD_METRICS_LISTEN=127.0.0.1:0", "LEDGERD_LOG_FORMAT=json"}
	p := launch(t, env, "start", "--home", dir)
	p.transfer(5)

	var metricsURL string
	for line := range strings.Lines(p.stderr.String()) {
		var m struct{ Msg, URL string }
		require.NoError(t, json.Unmarshal([]byte(line), &m), "messages are JSON: %s", line)
		if m.Msg == "metrics" {
			metricsURL = m.URL
		}
	}
	require.NotEmpty(t, metricsURL)
	_, body := get(t, metricsURL)
	require.Contains(t, body, "ledgerd_ledger_head_block 5")
	for path, want := range map[string]string{"healthz": "ok\n", "readyz": "ready\n"} {
		status, body := get(t, strings.TrimSuffix(metricsURL, "metrics")+path)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, want, body)
	}
	status, _ := get(t, p.http+"/metrics")
	require.Equal(t, http.StatusNotFound, status, "not on the port that clients reach")
	var hash common.Hash
	err := p.client().Client().CallContext(t.Context(), &hash, "eth_sendTransaction", map[string]any{
		"from": devkeys.Addresses()[3], "to": devkeys.Addresses()[4], "value": "0x1",
	})
	require.Error(t, err, "a node holds no accounts")

	testLogCommands(t, p)
	require.Equal(t, 0, p.signal(syscall.SIGTERM))
}

func testLogCommands(t *testing.T, p *process) {
	out, stderr, code := command(t, "log", "tail", "--rpc", p.http)
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, "6\n", out)
	out, _, _ = command(t, "log", "tail", "--rpc", p.http, "--json")
	require.Equal(t, "\"0x6\"\n", out)

	out, _, code = command(t, "log", "status", "--rpc", p.http)
	require.Equal(t, exitOK, code)
	require.Regexp(t, `(?m)^engine +local \(ordering\)$`, out)
	require.Regexp(t, `(?m)^tail +6$`, out)
	require.Regexp(t, `(?m)^applied +5$`, out)
	require.Regexp(t, `(?m)^head +block 5 `+p.head().Hash().Hex()+`$`, out)

	out, _, code = command(t, "log", "segments", "--rpc", p.http)
	require.Equal(t, exitOK, code)
	require.Regexp(t, `(?m)^1 +local +1 +- +0$`, out)
	out, _, code = command(t, "log", "members", "--rpc", p.http, "--json")
	require.Equal(t, exitOK, code)
	require.JSONEq(t, "[]", out)

	out, _, code = command(t, "log", "read", "--rpc", p.http)
	require.Equal(t, exitOK, code)
	require.Equal(t, 5, strings.Count(out, "app=ledger"))
	out, _, code = command(t, "log", "read", "--rpc", p.http, "--from", "2", "--limit", "2", "--json")
	require.Equal(t, exitOK, code)
	var lsns []string
	for line := range strings.Lines(out) {
		var e struct{ LSN string }
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		lsns = append(lsns, e.LSN)
	}
	require.Equal(t, []string{"0x2", "0x3"}, lsns)
	out, _, code = command(t, "log", "read", "--rpc", p.http, "--from", "6")
	require.Equal(t, exitOK, code)
	require.Empty(t, out, "nothing is at the tail yet")
	_, stderr, code = command(t, "log", "read", "--rpc", p.http, "--from", "5", "--to", "9")
	require.Equal(t, exitError, code)
	require.Contains(t, stderr, "log_read")
}

// TestAddressInUse: a port that is taken is an error that names it, and nothing stays locked.
func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "chain")
	_, stderr, code := once(t, "dev", "--datadir", dir, "--http", l.Addr().String())
	require.Equal(t, int(exitUnavailable), code, stderr)
	require.Contains(t, stderr, l.Addr().String())

	_, stderr, unreachable := command(t, "log", "tail", "--rpc", "http://127.0.0.1:1")
	require.Equal(t, exitUnavailable, unreachable, stderr)

	p := launch(t, nil, "dev", "--datadir", dir, "--http", "127.0.0.1:0")
	require.Equal(t, 0, p.signal(syscall.SIGTERM))
}

// TestSignalBeforeReady: a process that is told to stop while it starts stops, with code 0.
func TestSignalBeforeReady(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := run(ctx, console{&out, &errs, func(string) string { return "" }}, []string{"dev", "--http", "127.0.0.1:0"})
	require.Equal(t, exitOK, code, errs.String())
}

// TestTokens: a home whose configuration names a secret serves those who have it, on an address that it would refuse without.
func TestTokens(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	run := func(args ...string) (string, error) {
		out, err := program(t.Context(), args...).CombinedOutput()
		return string(out), err
	}
	out, err := run("init", "--home", dir)
	require.NoError(t, err, out)
	env := []string{"LEDGERD_RPC_LISTEN=0.0.0.0:0", "LEDGERD_METRICS_LISTEN="}
	refused := program(t.Context(), "start", "--home", dir)
	refused.Env = append(refused.Env, env...)
	text, err := refused.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(text), "rpc.listen: 0.0.0.0:0 can be reached from other machines, and nothing would authenticate them")

	secret := filepath.Join(dir, "jwt.hex")
	out, err = run("keys", "jwt", secret)
	require.NoError(t, err, out)
	p := launch(t, []string{"LEDGERD_RPC_LISTEN=127.0.0.1:0", "LEDGERD_METRICS_LISTEN=", "LEDGERD_RPC_JWT_SECRET=jwt.hex"}, "start", "--home", dir)
	for _, url := range []string{p.http, strings.Replace(p.http, "http", "ws", 1)} {
		out, err = run("log", "tail", "--rpc", url)
		require.Error(t, err)
		require.Regexp(t, "401|bad handshake", out)
		out, err = run("log", "status", "--rpc", url, "--jwt-secret", secret)
		require.NoError(t, err, out)
		require.Contains(t, out, "local")
	}
	require.Zero(t, p.signal(syscall.SIGTERM))
}
