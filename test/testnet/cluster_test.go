// Package testnet runs whole networks of real nodes, does to them what happens to nodes, and demands that nothing which a client
// was told is lost.
package testnet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/netns"
	"ledgerd/test/internal/process"
	"ledgerd/testnet"
)

// binary is the ledgerd under test.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ledgerd-testnet-")
	if err == nil {
		binary, err = process.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A cluster is a network whose nodes the test starts and stops one by one.
type cluster struct {
	t        testing.TB
	dir      string
	manifest testnet.Manifest
	hosts    *netns.Network // of the nodes; nil if the manifest gives them none
	accounts []account
	nodes    []*node
	env      []string      // of every node, beside the test's own
	patience time.Duration // for a start; 0: process.Patience
}

// A node is one member, running or not.
type node struct {
	index int
	home  string
	url   string       // the same across restarts
	host  process.Host // nil: this machine

	binary string   // that it runs; empty: the one under test
	env    []string // beside the test's own, and the network's

	mu      sync.Mutex
	process *process.Node // the newest; it may have ended
}

func (n *node) running() *process.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// freePorts finds a base port such that all ports of a manifest are free now. They are those of clients too, so that now and then
// one is taken before its node comes to it; the range below that of Linux makes it rare.
func freePorts(t testing.TB, m testnet.Manifest) int {
	t.Helper()
	for range 100 {
		m.BasePort = 12000 + 10*rand.IntN(1800)
		free := true
		for i := range m.All() {
			for _, distance := range []int{0, testnet.PortPeer, testnet.PortComet, testnet.PortComet + 1, testnet.PortMetrics} {
				l, err := net.Listen("tcp", address(m.Port(i, distance)))
				if err != nil {
					free = false
					continue
				}
				l.Close()
			}
		}
		if free {
			return m.BasePort
		}
	}
	t.Fatal("no free ports")
	return 0
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// newCluster makes the network of a manifest, and of flags of `testnet init` that say otherwise. Nothing runs yet.
func newCluster(t testing.TB, name string, flags ...string) *cluster {
	t.Helper()
	file := filepath.Join("..", "..", "testnet", name)
	m, err := testnet.Load(file)
	require.NoError(t, err)
	hosts := newHosts(t, m)
	if hosts == nil {
		m.BasePort = freePorts(t, m)
	}
	dir := filepath.Join(t.TempDir(), "net")
	stdout, stderr, code := process.Run(t, binary, append([]string{"testnet", "init", "--dir", dir, "--manifest", file,
		"--base-port", strconv.Itoa(m.BasePort), "--json"}, flags...)...)
	require.Equal(t, 0, code, stderr)
	var made struct {
		Accounts string
		Nodes    []struct{ Home, HTTP string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	require.Len(t, made.Nodes, m.All())
	c := &cluster{t: t, dir: dir, manifest: m, hosts: hosts, accounts: readAccounts(t, made.Accounts)}
	for i, n := range made.Nodes {
		c.nodes = append(c.nodes, &node{index: i, home: n.Home, url: n.HTTP})
		if hosts != nil {
			c.nodes[i].host = hosts.Host(i)
		}
	}
	return c
}

// newHosts makes the hosts of a manifest that has them. Where this machine gives none, the test is skipped, and says why.
func newHosts(t testing.TB, m testnet.Manifest) *netns.Network {
	t.Helper()
	if !m.Hosts.IsValid() {
		return nil
	}
	hosts, err := netns.New(m.Hosts, m.All())
	if errors.Is(err, netns.ErrUnavailable) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hosts.Close()) })
	return hosts
}

// start starts nodes, all at once, since none of them is ready before enough of them are there.
func (c *cluster) start(nodes ...*node) {
	c.t.Helper()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			cmd := exec.Command(cmp.Or(n.binary, binary), "start", "--home", n.home)
			cmd.Env = slices.Concat(os.Environ(), c.env, n.env)
			p, err := process.TryStartOn(c.t, n.host, cmd, cmp.Or(c.patience, process.Patience))
			if err == nil && p.URL != n.url {
				err = fmt.Errorf("node %d serves at %s, not at %s", n.index, p.URL, n.url)
			}
			if errs[i] = err; err == nil {
				n.mu.Lock()
				n.process = p
				n.mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.NoError(c.t, errors.Join(errs...))
}

// stop ends nodes by SIGTERM, all at once.
func (c *cluster) stop(nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		require.NoError(c.t, n.running().Cmd.Process.Signal(syscall.SIGTERM))
	}
	for _, n := range nodes {
		require.Equal(c.t, 0, n.running().Wait(c.t, process.Patience), "node %d: a clean stop ends with code 0:\n%s", n.index, n.running().Stderr())
	}
}

// do does something to nodes and returns what undoes it.
func (c *cluster) do(what string, nodes ...*node) (undo func()) {
	c.t.Helper()
	switch what {
	case testnet.Kill:
		for _, n := range nodes { // all, before the first one is waited for
			require.NoError(c.t, n.running().Cmd.Process.Kill())
		}
		for _, n := range nodes {
			n.running().Kill()
		}
	case testnet.Stop:
		c.stop(nodes...)
	case testnet.Pause:
		c.signal(syscall.SIGSTOP, nodes...)
		return func() { c.signal(syscall.SIGCONT, nodes...) }
	case testnet.Cut, testnet.Mute, testnet.Deafen:
		require.NoError(c.t, c.disconnect(what, nodes))
		return func() { require.NoError(c.t, c.hosts.Heal()) }
	case testnet.Flap:
		return c.flap(nodes)
	}
	return func() { c.start(nodes...) }
}

func (c *cluster) signal(s os.Signal, nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		require.NoError(c.t, n.running().Cmd.Process.Signal(s))
	}
}

// target finds the nodes that a fault is about.
func (c *cluster) target(who string) []*node {
	c.t.Helper()
	switch who {
	case testnet.All:
		return c.nodes
	case testnet.Leader:
		leader := c.leader() // asked once: whose turn it is to propose changes with each block
		return c.nodes[leader : leader+1]
	case testnet.Half:
		leader, members := c.leader(), c.nodes[:c.manifest.Nodes]
		return slices.Concat(members[leader:], members[:leader])[:len(members)/2]
	case testnet.Observer:
		i := c.manifest.Nodes + rand.IntN(c.manifest.Observers)
		return c.nodes[i : i+1]
	case testnet.Follower:
		members := c.manifest.Nodes
		if members == 1 {
			return c.nodes[:1]
		}
		i := (c.leader() + 1 + rand.IntN(members-1)) % members
		return c.nodes[i : i+1]
	}
	i, err := strconv.Atoi(who)
	require.NoError(c.t, err)
	return c.nodes[i : i+1]
}

// logStatus is the answer of log_status, as far as it is looked at here.
type logStatus struct {
	Network, HeadHash string
	Engine, Role      string
	Epoch             hexutil.Uint64
	Loglet            struct {
		State  string
		Detail map[string]string
	}
}

func (n *node) status(ctx context.Context) (s logStatus, err error) {
	p := n.running()
	if p == nil {
		return s, errors.New("not running")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return s, p.Client.Client().CallContext(ctx, &s, "log_status")
}

// leader returns the index of the node that leads, or is to propose next; 0 if the engine knows no such.
func (c *cluster) leader() int {
	c.t.Helper()
	leader := -1
	eventually(c.t, "somebody leads", func() error {
		for _, n := range c.nodes {
			s, err := n.status(c.t.Context())
			if err != nil {
				return err
			}
			if s.Role == "observes" {
				continue
			}
			if id, err := strconv.Atoi(s.Loglet.Detail["proposer"]); err == nil {
				leader = id - 1
				return nil
			}
			if s.Loglet.Detail["leader"] == "" { // an engine without one
				leader = 0
				return nil
			}
			if s.Loglet.Detail["role"] == "leader" {
				leader = n.index
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}

// eventually polls until f returns nil.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(process.Patience)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		err := f()
		if err == nil {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v: %v", what, process.Patience, err)
		}
	}
}

// agree waits until all nodes have one and the same head, and returns its number.
func (c *cluster) agree() uint64 {
	c.t.Helper()
	var head uint64
	eventually(c.t, "all nodes have the same head", func() error {
		var hash common.Hash
		for i, n := range c.nodes {
			h, err := n.running().Client.HeaderByNumber(c.t.Context(), nil)
			if err != nil {
				return fmt.Errorf("node %d: %w", n.index, err)
			}
			if i == 0 {
				head, hash = h.Number.Uint64(), h.Hash()
			}
			if h.Hash() != hash {
				return fmt.Errorf("node %d has block %d %v, node 0 has %d %v", n.index, h.Number, h.Hash(), head, hash)
			}
		}
		return nil
	})
	return head
}

// rounds is how often a test plays the faults of its manifest.
func rounds(t *testing.T) int {
	text := os.Getenv("LEDGERD_TESTNET_ROUNDS")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	require.NoError(t, err, "LEDGERD_TESTNET_ROUNDS")
	return n
}
