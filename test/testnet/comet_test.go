package testnet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
	"ledgerd/testnet"
)

// TestComet plays the faults of comet4.toml.
func TestComet(t *testing.T) { play(t, "comet4.toml") }

// TestSwitchEngines moves a network from Raft to CometBFT and back, under load, twice. After each switch a member is killed, and after the load everybody: what
// starts then is what the stored chain says, and no other engine.
func TestSwitchEngines(t *testing.T) {
	c := newCluster(t, "reconfigure.toml")
	c.start(c.nodes...)
	b := newBook(c)
	orders, observes := c.nodes[:4], c.nodes[4:]
	for i, engine := range []string{"comet", "raft", "comet", "raft"} {
		before := b.count()
		stop := b.load()
		eventually(t, "the load runs", func() error { return b.more(before, 2*len(c.accounts)) })
		r := c.reconfigure(c.nodes[i%len(c.nodes)], "--engine", engine)
		require.EqualValues(t, i+2, r.Epoch)
		eventually(t, "the load goes on", func() error { return b.more(before, 4*len(c.accounts)) })
		c.orderedBy(engine, c.nodes...)
		c.inEpoch(r.Epoch, "orders", orders...)
		c.inEpoch(r.Epoch, "observes", observes...)
		c.do(testnet.Kill, c.nodes[(i+1)%4])()
		moment := time.Now()
		eventually(t, "every client is served again", func() error {
			if _, _, all := b.after(moment); !all {
				return errors.New("not all are")
			}
			return nil
		})
		require.NoError(t, stop())
		b.verify()
		c.do(testnet.Kill, c.nodes...)()
		c.orderedBy(engine, c.nodes...)
		c.inEpoch(r.Epoch, "orders", orders...)
		_, err := b.submit(t.Context(), 0, 5)
		require.NoError(t, err)
		b.verify()
		var block struct{ Engine string }
		require.NoError(t, c.nodes[4].running().Client.Client().CallContext(t.Context(), &block, "eth_getBlockByNumber", "latest", false))
		require.Equal(t, engine, block.Engine)
		t.Logf("to %-5s gap %.1f ms, %d acknowledged", engine, r.GapMilliseconds, b.count()-before)
	}
	c.stop(c.nodes...)
	t.Logf("%d transactions acknowledged in %d blocks, 0 lost, 0 doubled", b.count(), len(b.blocks)-1)
}

// TestCrashDuringSwitch kills a member, another each time, somewhere on the way from one engine to the other: while the next members get ready, around the Seal,
// around the Base, and when it is over. The request is sent again until it has come true; then all agree, and nothing is lost.
func TestCrashDuringSwitch(t *testing.T) {
	c := newCluster(t, "raft4.toml")
	c.start(c.nodes...)
	b := newBook(c)
	for round := range 6 {
		engine := []string{"comet", "raft"}[round%2]
		file := filepath.Join(t.TempDir(), "req.json")
		_, stderr, code := process.Run(t, binary, "log", "reconfigure", "--engine", engine, "--out", file, "--rpc", c.nodes[3].url)
		require.Equal(t, 0, code, stderr)
		before := b.count()
		stop := b.load()
		eventually(t, "the load runs", func() error { return b.more(before, len(c.accounts)) })
		args := []string{"log", "reconfigure", "--request", file, "--key", filepath.Join(c.dir, "admin.key"), "--timeout", "2s"}
		for i := range c.nodes {
			args = append(args, "--rpc", c.nodes[(round+i)%4].url)
		}
		asked := make(chan string, 1)
		go func() {
			out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
			asked <- fmt.Sprint(string(out), err)
		}()
		<-time.After(time.Duration(round) * 40 * time.Millisecond) // where on the way it is then, the machine decides
		c.do(testnet.Kill, c.nodes[(round+round/4)%4])()
		t.Logf("to %s, killed after %d ms: %s", engine, 40*round, strings.ReplaceAll(strings.TrimSpace(<-asked), "\n", "; "))
		eventually(t, "the switch has come true", func() error {
			if out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		c.orderedBy(engine, c.nodes...)
		c.inEpoch(hexutil.Uint64(round+2), "orders", c.nodes...)
		after := b.count()
		eventually(t, "the load goes on", func() error { return b.more(after, len(c.accounts)) })
		require.NoError(t, stop())
		b.verify()
	}
	c.stop(c.nodes...)
	t.Logf("%d transactions acknowledged in %d blocks, 0 lost, 0 doubled", b.count(), len(b.blocks)-1)
}

// TestTwentySwitches moves a network from one engine to the other twenty times, and counts what each node holds before and after: goroutines and open files do not
// grow, but for the two goroutines that each closed CometBFT leaves.
func TestTwentySwitches(t *testing.T) {
	c := newCluster(t, "raft4.toml")
	c.start(c.nodes...)
	b := newBook(c)
	engine := func(i int) string { return []string{"comet", "raft"}[i%2] }
	for i := range 2 { // what is made once
		c.reconfigure(c.nodes[0], "--engine", engine(i))
	}
	goroutines, files := make([]float64, 4), make([]float64, 4)
	for i, n := range c.nodes {
		goroutines[i], files[i] = c.settled(n)
	}
	const switches = 20
	for i := range switches {
		c.reconfigure(c.nodes[i%4], "--engine", engine(i))
		_, err := b.submit(t.Context(), i, i%4)
		require.NoError(t, err)
	}
	b.verify()
	for i, n := range c.nodes {
		var g, f float64
		for deadline := time.Now().Add(time.Minute); ; { // a sealed engine may linger for half a minute
			g, f = c.settled(n)
			if g <= goroutines[i]+2*switches/2+20 && f <= files[i]+10 {
				break
			}
			require.True(t, time.Now().Before(deadline), "node %d: %v goroutines, %v before; %v files, %v before", i, g, goroutines[i], f, files[i])
		}
		t.Logf("node %d: %v goroutines, %v before; %v files, %v before", i, g, goroutines[i], f, files[i])
	}
	c.stop(c.nodes...)
}

// settled returns how many goroutines and open files a node has, once they are not fewer than a second before.
func (c *cluster) settled(n *node) (goroutines, files float64) {
	c.t.Helper()
	goroutines = math.Inf(1)
	for {
		m := c.metrics(n)
		g := m["go_goroutines"]
		if files = m["process_open_fds"]; g >= goroutines {
			return goroutines, files
		}
		goroutines = g
		<-time.After(time.Second)
	}
}

// metrics returns a node's metrics that have no labels.
func (c *cluster) metrics(n *node) map[string]float64 {
	c.t.Helper()
	resp, err := http.Get("http://" + address(c.manifest.Port(n.index, testnet.PortMetrics)) + "/metrics")
	require.NoError(c.t, err)
	defer resp.Body.Close()
	all := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = v
		}
	}
	require.NotZero(c.t, all["go_goroutines"])
	return all
}

// memberList writes a file for --members that names nodes, as members.json has them.
func (c *cluster) memberList(nodes ...*node) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "members.json"))
	require.NoError(c.t, err)
	var all, some []json.RawMessage
	require.NoError(c.t, json.Unmarshal(text, &all))
	for _, n := range nodes {
		some = append(some, all[n.index])
	}
	text, err = json.Marshal(some)
	require.NoError(c.t, err)
	path := filepath.Join(c.t.TempDir(), "members.json")
	require.NoError(c.t, os.WriteFile(path, text, 0o600))
	return path
}

// TestCometMembers changes who orders under CometBFT: two observers become validators, the old ones go and are turned off, and what remains serves, also after a
// restart of all.
func TestCometMembers(t *testing.T) {
	c := newCluster(t, "reconfigure-comet.toml")
	c.start(c.nodes...)
	b := newBook(c)
	n := c.nodes
	stop := b.load()
	eventually(t, "the load runs", func() error { return b.more(0, 2*len(c.accounts)) })
	r := c.reconfigure(n[5], "--members", c.memberList(n[2:]...))
	c.inEpoch(r.Epoch, "orders", n[2:]...)
	c.inEpoch(r.Epoch, "observes", n[:2]...)
	require.NoError(t, stop())
	b.verify()
	stdout, stderr, code := process.Run(t, binary, "log", "members", "--rpc", n[4].url)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, 2, strings.Count(stdout, "may be turned off"), stdout)
	c.do(testnet.Kill, n[:2]...)
	rest := *c
	rest.nodes = n[2:]
	b.c = &rest
	rest.do(testnet.Kill, rest.nodes...)()
	for i := range c.accounts {
		_, err := b.submit(t.Context(), i, i%4)
		require.NoError(t, err)
	}
	b.verify()
	rest.do(testnet.Kill, rest.nodes[0]) // three of four
	_, err := b.submit(t.Context(), 0, 2)
	require.NoError(t, err)
	rest.start(rest.nodes[0])
	b.verify()

	// An old validator that comes back believes that its segment is over, since a commit proves it, and follows.
	c.start(n[0])
	c.inEpoch(r.Epoch, "observes", n[0])
	c.do(testnet.Kill, n[0])
	rest.stop(rest.nodes...)
}

// orderedBy waits until nodes say that an engine orders the last segment.
func (c *cluster) orderedBy(engine string, nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		eventually(c.t, fmt.Sprintf("node %d has engine %s", n.index, engine), func() error {
			s, err := n.status(c.t.Context())
			if err == nil && s.Engine != engine {
				err = fmt.Errorf("engine %s", s.Engine)
			}
			return err
		})
	}
}
