package testnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
	"ledgerd/testnet"
)

// reconfiguration is what `ledgerd log reconfigure --json` prints.
type reconfiguration struct {
	Epoch, Base        hexutil.Uint64
	GapMilliseconds    float64
	Switched, Complete bool
	Ready, Over        []hexutil.Uint64
}

// reconfigure runs the command at a node, and demands that it says complete.
func (c *cluster) reconfigure(by *node, flags ...string) (r reconfiguration) {
	c.t.Helper()
	args := append([]string{"log", "reconfigure", "--key", filepath.Join(c.dir, "admin.key"), "--rpc", by.url, "--json"}, flags...)
	stdout, stderr, code := process.RunOn(c.t, by.host, binary, args...)
	require.Equal(c.t, 0, code, "%s\n%s", stdout, stderr)
	require.NoError(c.t, json.Unmarshal([]byte(stdout), &r), stdout)
	require.True(c.t, r.Switched && r.Complete, stdout)
	return r
}

// members returns the --members flag for nodes, whose ids are their numbers from 1.
func members(nodes ...*node) string {
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = strconv.Itoa(n.index + 1)
	}
	return "--members=" + strings.Join(ids, ",")
}

// addition returns the value of --add for a node that is no member yet.
func (c *cluster) addition(n *node) string {
	c.t.Helper()
	key, stderr, code := process.Run(c.t, binary, "keys", "show", filepath.Join(n.home, "node.key"))
	require.Equal(c.t, 0, code, stderr)
	return strings.TrimSpace(key) + "@" + c.manifest.Address(n.index, testnet.PortPeer)
}

// inEpoch waits until nodes are in an epoch, and have a role in it.
func (c *cluster) inEpoch(epoch hexutil.Uint64, role string, nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		eventually(c.t, fmt.Sprintf("node %d %s in epoch %d", n.index, role, epoch), func() error {
			s, err := n.status(c.t.Context())
			if err != nil {
				return err
			}
			if s.Epoch != epoch || s.Role != role {
				return fmt.Errorf("epoch %d, %s", s.Epoch, s.Role)
			}
			return nil
		})
	}
}

// TestReconfigure changes who orders, and how, while clients write, and restarts nodes after each change: the stored chain says what they start.
func TestReconfigure(t *testing.T) {
	c := newCluster(t, "reconfigure.toml")
	c.start(c.nodes...)
	b := newBook(c)
	n := c.nodes
	for i, step := range []struct {
		name    string
		flags   []string
		orders  []*node
		restart []*node // killed and started when it is complete
	}{
		{"the same members", []string{"--members=4,3,2,1"}, n[:4], n[:1]},
		{"two observers become members", []string{"--add", c.addition(n[4]), "--add", c.addition(n[5])}, n, n[4:5]},
		{"three members go", []string{"--remove", "1", "--remove", "2", "--remove", "3"}, n[3:], n},
		{"one orders alone", []string{"--engine", "local", members(n[4])}, n[4:5], n[4:5]},
		{"all order", []string{"--engine", "raft", members(n...)}, n, n},
		{"the first four", []string{members(n[:4]...)}, n[:4], n[2:]},
	} {
		before := b.count()
		stop := b.load()
		eventually(t, "the load runs", func() error { return b.more(before, 2*len(c.accounts)) })
		r := c.reconfigure(n[(i*2)%len(n)], step.flags...)
		require.EqualValues(t, i+2, r.Epoch)
		eventually(t, "the load goes on", func() error { return b.more(before, 4*len(c.accounts)) })
		c.inEpoch(r.Epoch, "orders", step.orders...)
		c.inEpoch(r.Epoch, "observes", without(n, step.orders)...)
		c.do(testnet.Kill, step.restart...)()
		moment := time.Now()
		eventually(t, "every client is served again", func() error {
			if _, _, all := b.after(moment); !all {
				return errors.New("not all are")
			}
			return nil
		})
		require.NoError(t, stop())
		c.inEpoch(r.Epoch, "orders", step.orders...)
		b.verify()
		t.Logf("%-30s ready %v, gap %.1f ms, %d acknowledged", step.name, r.Ready, r.GapMilliseconds, b.count()-before)
	}
	stdout, stderr, code := process.Run(t, binary, "log", "members", "--rpc", n[0].url)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, 2, strings.Count(stdout, "may be turned off"), stdout)

	c.do(testnet.Kill, n...)() // all of it is stored
	_, err := b.submit(t.Context(), 0, 5)
	require.NoError(t, err)
	b.verify()
	c.stop(n...)
	t.Logf("%d transactions acknowledged in %d blocks, 0 lost, 0 doubled", b.count(), len(b.blocks)-1)
}

// more returns nil when there are so many more acknowledged transactions than there were.
func (b *book) more(than, by int) error {
	if n := b.count() - than; n < by {
		return fmt.Errorf("%d acknowledged", n)
	}
	return nil
}

func without(nodes, some []*node) []*node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return slices.Contains(some, n) })
}

// TestOldMembersOff hands the log to other members and turns the old ones off when they may be: what remains serves, also after all of it was restarted.
func TestOldMembersOff(t *testing.T) {
	c := newCluster(t, "reconfigure.toml")
	c.start(c.nodes...)
	b := newBook(c)
	for i := range c.accounts {
		_, err := b.submit(t.Context(), i, i%len(c.nodes))
		require.NoError(t, err)
	}
	b.verify()
	n := c.nodes
	c.reconfigure(n[0], "--add", c.addition(n[4]), "--add", c.addition(n[5]), "--remove", "1", "--remove", "2", "--remove", "3")
	stdout, stderr, code := process.Run(t, binary, "log", "members", "--rpc", n[4].url)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, 3, strings.Count(stdout, "may be turned off"), stdout)
	c.do(testnet.Kill, n[:3]...)
	rest := *c
	rest.nodes = n[3:]
	b.c = &rest
	for i := range c.accounts {
		_, err := b.submit(t.Context(), i, i%3)
		require.NoError(t, err)
	}
	b.verify()
	rest.do(testnet.Kill, rest.nodes...)()
	_, err := b.submit(t.Context(), 0, 2)
	require.NoError(t, err)
	b.verify()

	// An old member that comes back finds its segment over, and follows.
	c.start(n[0])
	c.inEpoch(2, "observes", n[0])
	c.do(testnet.Kill, n[0])
	rest.stop(rest.nodes...)
}

// observed are the networks of four members and two observers.
var observed = []string{"reconfigure.toml", "reconfigure-comet.toml"}

// TestWipedDisk loses the disk of a member. It comes back as an observer, and is a member again, under a new id, by a reconfiguration.
func TestWipedDisk(t *testing.T) {
	for _, manifest := range observed {
		t.Run(manifest, func(t *testing.T) { wipeDisk(t, manifest) })
	}
}

func wipeDisk(t *testing.T, manifest string) {
	c := newCluster(t, manifest)
	c.start(c.nodes...)
	b := newBook(c)
	stop := b.load()
	eventually(t, "the load runs", func() error { return b.more(0, 2*len(c.accounts)) })
	lost := c.nodes[(c.leader()+1)%4]
	undo := c.do(testnet.Kill, lost)
	require.NoError(t, os.RemoveAll(filepath.Join(lost.home, "data")))
	undo()
	c.inEpoch(1, "observes", lost)
	r := c.reconfigure(lost, "--remove", strconv.Itoa(lost.index+1), "--add", c.addition(lost))
	c.inEpoch(r.Epoch, "orders", c.nodes[:4]...)
	require.NoError(t, stop())
	b.verify()

	// It counts: with another member gone, the quorum needs it.
	other := c.nodes[(lost.index+1)%4]
	c.do(testnet.Kill, other)()
	b.verify()
	c.do(testnet.Kill, other)
	_, err := b.submit(t.Context(), 0, lost.index)
	require.NoError(t, err)
	c.start(other)
	b.verify()
	c.stop(c.nodes...)
}

// TestSeveralAdministrators gathers the signatures offline: neither one of them alone nor a stranger's will do.
func TestSeveralAdministrators(t *testing.T) {
	for _, manifest := range four {
		t.Run(manifest, func(t *testing.T) { gatherSignatures(t, manifest) })
	}
}

func gatherSignatures(t *testing.T, manifest string) {
	c := newCluster(t, manifest)
	c.start(c.nodes...)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	run := func(want int, args ...string) string {
		t.Helper()
		stdout, stderr, code := process.Run(t, binary, args...)
		require.Equal(t, want, code, "%v: %s%s", args, stdout, stderr)
		return strings.TrimSpace(stdout) + stderr
	}
	a, z := run(0, "keys", "new", path("a.key")), run(0, "keys", "new", path("z.key"))
	c.reconfigure(c.nodes[1], "--admin", a, "--admin", z, "--threshold", "2")

	url := c.nodes[2].url
	run(0, "log", "reconfigure", "--remove", "4", "--out", path("req.json"), "--rpc", url)
	run(0, "keys", "sign", path("req.json"), "--key", path("a.key"), "--out", path("a.json"))
	run(0, "keys", "sign", path("req.json"), "--key", path("z.key"), "--out", path("z.json"))
	run(0, "keys", "sign", path("req.json"), "--key", filepath.Join(c.dir, "admin.key"), "--out", path("old.json"))
	out := run(70, "log", "reconfigure", "--request", path("req.json"), "--sig", path("a.json"), "--sig", path("old.json"), "--rpc", url)
	require.Contains(t, out, "1 good signatures of administrators of epoch 2, want 2")
	run(0, "log", "reconfigure", "--request", path("req.json"), "--sig", path("a.json"), "--sig", path("z.json"), "--rpc", url)
	c.inEpoch(3, "orders", c.nodes[:3]...)
	c.inEpoch(3, "observes", c.nodes[3])
	c.stop(c.nodes...)
}
