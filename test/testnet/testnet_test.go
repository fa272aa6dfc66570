package testnet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
	"ledgerd/testnet"
)

// TestRaft plays the faults of raft4.toml; LEDGERD_TESTNET_ROUNDS says how often.
func TestRaft(t *testing.T) { play(t, "raft4.toml") }

// TestOneMember: what is true of four members is true of one.
func TestOneMember(t *testing.T) { play(t, "raft1.toml") }

// TestLocal is the same for the engine that is none.
func TestLocal(t *testing.T) { play(t, "local1.toml") }

// play starts the network of a manifest, has a client send to every node, and then plays the faults one by one, each under load. A
// fault is over when every client was served again; then the nodes must agree and hold all that was acknowledged.
func play(t *testing.T, manifest string, flags ...string) {
	c := newCluster(t, manifest, flags...)
	c.start(c.nodes...)
	b := newBook(c)
	for i := range c.accounts {
		at, err := b.submit(t.Context(), i, i%len(c.nodes))
		require.NoError(t, err)
		require.Equal(t, i%len(c.nodes), at, "the node that was asked did not answer")
	}
	b.verify()
	for range rounds(t) {
		for _, f := range c.manifest.Faults {
			b.suffer(f)
			b.verify()
		}
	}
	c.stop(c.nodes...)
	t.Logf("%d transactions acknowledged in %d blocks, 0 lost, 0 doubled", b.count(), len(b.blocks)-1)
}

// suffer plays one fault under load. How long it takes until all are served again is a figure in the log, and not a verdict: a machine that is busy with something
// else is no bug.
func (b *book) suffer(f testnet.Fault) {
	t := b.c.t
	t.Helper()
	before := b.count()
	stop := b.load()
	eventually(t, "the load runs", func() error {
		if n := b.count() - before; n < 5*len(b.c.accounts) {
			return fmt.Errorf("%d acknowledged", n)
		}
		return nil
	})
	nodes := b.c.target(f.Node)
	moment := time.Now()
	undo := b.c.do(f.Do, nodes...)
	if f.Lines() {
		b.meanwhile(f, moment)
	}
	<-time.After(time.Until(moment.Add(f.For))) // the fault's length is part of the scenario
	if f.Lines() {
		moment = time.Now() // what the others do meanwhile has been seen, and what counts is that all go on
	}
	undone := time.Now()
	undo()
	back := time.Since(undone)
	var first, last time.Duration
	eventually(t, "every client is served again", func() error {
		var all bool
		if first, last, all = b.after(moment); !all {
			return fmt.Errorf("%d acknowledged since", b.count()-before)
		}
		return nil
	})
	require.NoError(t, stop())
	t.Logf("%-24s node %d: first client served again after %v, last after %v; undone in %v; %d acknowledged", f, nodes[0].index,
		first.Round(time.Millisecond), last.Round(time.Millisecond), back.Round(time.Millisecond), b.count()-before)
}

// four are the networks of four members: what a test demands of both does not depend on the engine.
//
// Some tests of real nodes are of one engine, and why:
//   - TestReconfigure, TestOldMembersOff: other members, and no engine at all. TestCometMembers does the same to validators, TestSwitchEngines to the engine.
//   - TestOneMember, TestLocal: one member alone has nobody to distrust; consensus/logtest has one validator alone.
//   - TestRejoin: a Raft member stays one. A validator votes only behind blocks that it has, and here they are gone everywhere: TestRejoinComet.
//   - TestUp, TestUpReports: they are about the supervisor, which knows no engine.
var four = []string{"raft4.toml", "comet4.toml"}

// TestQuorum takes two of four members away. The others say so, order nothing, and go on when one is back.
func TestQuorum(t *testing.T) {
	for _, manifest := range four {
		t.Run(manifest, func(t *testing.T) { loseQuorum(t, manifest) })
	}
}

func loseQuorum(t *testing.T, manifest string) {
	c := newCluster(t, manifest)
	c.start(c.nodes...)
	b := newBook(c)
	_, err := b.submit(t.Context(), 0, 0)
	require.NoError(t, err)

	leader := c.leader()
	a, z := c.nodes[(leader+1)%4], c.nodes[(leader+2)%4]
	asked := c.nodes[(leader+3)%4]
	c.do(testnet.Kill, a)
	missing := regexp.MustCompile(fmt.Sprintf(`(?m)^quorum +3 of 4; missing: %d; present: `, a.index+1))
	eventually(t, "log status names who is missing", func() error {
		stdout, stderr, code := process.Run(t, binary, "log", "status", "--rpc", asked.url)
		if code != 0 || !missing.MatchString(stdout) {
			return fmt.Errorf("code %d\n%s%s", code, stdout, stderr)
		}
		return nil
	})
	stdout, _, _ := process.Run(t, binary, "log", "status", "--rpc", asked.url)
	require.Regexp(t, fmt.Sprintf(`(?m)^%d +missing +`, a.index+1), stdout)
	if c.manifest.Engine == "raft" {
		require.Regexp(t, fmt.Sprintf(`(?m)^leader +member %d, term `, leader+1), stdout)
		require.Regexp(t, fmt.Sprintf(`(?m)^%d +leads +`, leader+1), stdout)
		require.Regexp(t, fmt.Sprintf(`(?m)^%d +follows +`, z.index+1), stdout)
	} else {
		require.Regexp(t, `(?m)^proposer +member [1-4], height [0-9]+, round [0-9]+$`, stdout)
		require.Regexp(t, fmt.Sprintf(`(?m)^%d +present +[0-9]+ +[0-9]+$`, z.index+1), stdout)
	}
	stdout, _, code := process.Run(t, binary, "log", "members", "--rpc", asked.url)
	require.Equal(t, 0, code)
	require.Equal(t, 5, strings.Count(stdout, "\n"), stdout)
	_, err = b.submit(t.Context(), 0, asked.index)
	require.NoError(t, err, "three of four order")

	c.do(testnet.Kill, z)
	for _, n := range []*node{c.nodes[leader], asked} {
		eventually(t, "a member without quorum is not ready", func() error { return readyz(c, n, http.StatusServiceUnavailable) })
		_, err := n.running().Client.BlockNumber(t.Context())
		require.NoError(t, err, "it can still be read")
	}
	ctx, cancel := context.WithTimeout(t.Context(), attempt)
	_, err = b.submit(ctx, 1, asked.index)
	cancel()
	require.Error(t, err, "two of four have ordered")

	c.start(a)
	eventually(t, "ready again", func() error { return readyz(c, asked, http.StatusOK) })
	_, err = b.submit(t.Context(), 1, asked.index)
	require.NoError(t, err)
	c.start(z)
	b.verify()
	c.stop(c.nodes...)
}

// readyz returns nil if a node's /readyz has this status.
func readyz(c *cluster, n *node, want int) error {
	resp, err := http.Get("http://" + address(c.manifest.Port(n.index, testnet.PortMetrics)) + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		return fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return nil
}

// TestNoMember: a node orders only with the key and with the log of a member. Any other observes, and says why.
func TestNoMember(t *testing.T) {
	for _, manifest := range four {
		t.Run(manifest, func(t *testing.T) { startNoMember(t, manifest) })
	}
}

func startNoMember(t *testing.T, manifest string) {
	c := newCluster(t, manifest)
	c.start(c.nodes...)
	b := newBook(c)
	_, err := b.submit(t.Context(), 0, 0)
	require.NoError(t, err)

	n := c.nodes[(c.leader()+1)%4]
	c.stop(n)
	stdout, stderr, code := process.Run(t, binary, "verify", "--home", n.home)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "equal")
	require.NoError(t, os.RemoveAll(filepath.Join(n.home, "data")))
	c.start(n)
	stdout, stderr, code = process.Run(t, binary, "log", "status", "--rpc", n.url)
	require.Equal(t, 0, code, stderr)
	require.Regexp(t, `(?m)^epoch .*; this node observes$`, stdout)
	require.Regexp(t, `(?m)^notice .*nothing vouches for it`, stdout)
	_, err = b.submit(t.Context(), 1, n.index)
	require.NoError(t, err, "it hands on what it is sent")
	b.verify()

	c.stop(n)
	key := filepath.Join(n.home, "node.key")
	require.NoError(t, os.Rename(key, key+".old"))
	_, stderr, code = process.Run(t, binary, "keys", "new", key)
	require.Equal(t, 0, code, stderr)
	c.start(n)
	eventually(t, "a stranger is let in by nobody", func() error { return readyz(c, n, http.StatusServiceUnavailable) })
	_, err = n.running().Client.BlockNumber(t.Context())
	require.NoError(t, err, "what it has can be read")
	c.stop(c.nodes...)
}

// supervisor is a running `ledgerd testnet up`.
type supervisor struct {
	cmd    *exec.Cmd
	stdout *bufio.Scanner
	stderr *said
	urls   map[int]string
	pids   map[int]int
	file   string // accounts.json
}

// said is what a process has written so far.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var readyLine = regexp.MustCompile(`^ready node=([0-9]+) http=(http://\S+) ws=ws://\S+ pid=([0-9]+)$`)

// up runs `ledgerd testnet up` and returns when all its nodes are ready.
func up(t *testing.T, nodes int, args ...string) *supervisor {
	t.Helper()
	s := &supervisor{cmd: exec.Command(binary, append([]string{"testnet", "up"}, args...)...), stderr: new(said), urls: map[int]string{}, pids: map[int]int{}}
	s.cmd.Stderr = s.stderr
	out, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.stdout = bufio.NewScanner(out)
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // and with it its nodes
		_ = s.cmd.Wait()
	})
	for len(s.urls) < nodes && s.stdout.Scan() {
		if rest, ok := strings.CutPrefix(s.stdout.Text(), "accounts "); ok {
			s.file = rest
		}
		if m := readyLine.FindStringSubmatch(s.stdout.Text()); m != nil {
			i, err := strconv.Atoi(m[1])
			require.NoError(t, err)
			s.urls[i] = m[2]
			s.pids[i], err = strconv.Atoi(m[3])
			require.NoError(t, err)
		}
	}
	require.Len(t, s.urls, nodes, "%s", s.stderr)
	return s
}

// end sends a signal and returns the exit code.
func (s *supervisor) end(t *testing.T, signal os.Signal) int {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(signal))
	for s.stdout.Scan() { // up to its end
	}
	_ = s.cmd.Wait() // the code tells
	return s.cmd.ProcessState.ExitCode()
}

// TestUp is the network of one command: it serves, stops cleanly, and leaves nothing.
func TestUp(t *testing.T) {
	m := testnet.Default()
	m.BasePort = freePorts(t, m)
	t.Setenv("TMPDIR", t.TempDir())
	s := up(t, m.Nodes, "--nodes", "4", "--engine", "raft", "--base-port", strconv.Itoa(m.BasePort))
	accounts := readAccounts(t, s.file)
	require.Len(t, accounts, m.Accounts)
	for i := range m.Nodes {
		require.Equal(t, "http://"+address(m.Port(i, 0)), s.urls[i])
		client, err := ethclient.Dial(s.urls[i])
		require.NoError(t, err)
		id, err := client.ChainID(t.Context())
		require.NoError(t, err)
		require.Equal(t, m.ChainID, id.Uint64())
		balance, err := client.BalanceAt(t.Context(), accounts[i].address, nil)
		require.NoError(t, err)
		require.Equal(t, "10000000000000000000000", balance.String())
		client.Close()
	}
	require.Equal(t, 0, s.end(t, os.Interrupt), "%s", s.stderr)
	require.Empty(t, s.stderr.String())
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestUpReports: a node that ends by itself is reported, and the others go on; paused ones are stopped like the others; and the
// same folder comes up again.
func TestUpReports(t *testing.T) {
	m := testnet.Default()
	m.BasePort = freePorts(t, m)
	dir := filepath.Join(t.TempDir(), "net")
	_, stderr, code := process.Run(t, binary, "testnet", "up", "--dir", dir)
	require.Equal(t, 2, code, stderr)
	require.Contains(t, stderr, "holds no network")

	s := up(t, m.Nodes, "--dir", dir, "--nodes", "4", "--base-port", strconv.Itoa(m.BasePort))
	require.NoError(t, syscall.Kill(s.pids[2], syscall.SIGKILL))
	require.NoError(t, syscall.Kill(s.pids[1], syscall.SIGSTOP))
	eventually(t, "the death is reported", func() error {
		if text := s.stderr.String(); !strings.Contains(text, "node 2 ended by itself (signal: killed)") {
			return errors.New(text)
		}
		return nil
	})
	client, err := ethclient.Dial(s.urls[0])
	require.NoError(t, err)
	defer client.Close()
	_, err = client.BlockNumber(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, s.end(t, syscall.SIGTERM))
	require.NotContains(t, s.stderr.String(), "node 1")

	s = up(t, m.Nodes, "--dir", dir)
	require.Equal(t, 0, s.end(t, syscall.SIGTERM), "%s", s.stderr)
	_, stderr, code = process.Run(t, binary, "testnet", "init", "--dir", dir)
	require.Equal(t, 73, code)
	require.Contains(t, stderr, "is not empty")

	// A node that cannot start takes the others down with it, and its exit code tells why.
	require.NoError(t, os.Remove(filepath.Join(dir, "node3", "genesis.json"))) // three nodes are left of the folder ...
	require.NoError(t, os.Chmod(filepath.Join(dir, "node1", "node.key"), 0o644))
	_, stderr, code = process.Run(t, binary, "testnet", "up", "--dir", dir)
	require.Equal(t, 77, code, stderr)
	require.Contains(t, stderr, "node 1 ended by itself (exit status 77)")
}
