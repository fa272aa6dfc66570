package testnet

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/stretchr/testify/require"
)

// TestRejoin stops a member and an observer until everybody else has trimmed what comes next for them, while clients write. Started again, both go on by themselves
// from a snapshot, and come to the same head. The member is still one: it votes, and the network bears the loss of another one.
func TestRejoin(t *testing.T) {
	c, b, stop := leaveBehind(t, "raft")
	staying, away, observer := c.nodes[:3], c.nodes[3], c.nodes[4]
	// A leader has what it has written lately in memory. The others must not find it there.
	for _, n := range staying {
		c.stop(n)
		c.start(n)
	}
	c.start(away, observer)
	for _, n := range []*node{away, observer} {
		eventually(t, fmt.Sprintf("node %d goes on from a snapshot", n.index), func() error { return trimmed(t, n, 300) })
	}
	require.NoError(t, stop())
	b.verify()
	require.Contains(t, away.running().Stderr(), "member=true")
	require.Contains(t, observer.running().Stderr(), "member=false")
	for _, n := range []*node{away, observer} {
		kept, err := filepath.Glob(filepath.Join(n.home, "data*"))
		require.NoError(t, err)
		require.Equal(t, []string{filepath.Join(n.home, "data"), filepath.Join(n.home, "data.before-rejoin")}, kept, "a whole history is kept")
	}
	c.inEpoch(1, "orders", c.nodes[:4]...)
	c.inEpoch(1, "observes", observer)

	c.do("kill", away)()
	c.inEpoch(1, "orders", away)
	undo := c.do("stop", staying[0]) // the three that are left are a quorum, with it
	_, err := b.submit(t.Context(), 0, away.index)
	require.NoError(t, err)
	undo()
	b.verify()
	c.stop(c.nodes...)
}

// held returns an error until a node's log has come to an LSN.
func held(t *testing.T, n *node, lsn uint64) error {
	var s struct{ Tail hexutil.Uint64 }
	return positions(t, n, &s, func() bool { return uint64(s.Tail) > lsn })
}

// trimmed returns an error until a node's log begins behind an LSN.
func trimmed(t *testing.T, n *node, lsn uint64) error {
	var s struct{ Trimmed hexutil.Uint64 }
	return positions(t, n, &s, func() bool { return uint64(s.Trimmed) > lsn })
}

func positions(t *testing.T, n *node, status any, good func() bool) error {
	if err := n.running().Client.Client().CallContext(t.Context(), status, "log_status"); err != nil {
		return err
	}
	if !good() {
		return fmt.Errorf("node %d: %+v", n.index, status)
	}
	return nil
}

// leaveBehind runs the network of rejoin.toml, whose nodes make snapshots and trim all the time, under load, and stops its last member and its observer until the others
// have trimmed what comes next for them. The load goes on until stop.
func leaveBehind(t *testing.T, engine string) (c *cluster, b *book, stop func() error) {
	t.Helper()
	c = newCluster(t, "rejoin.toml", "--engine", engine)
	c.env = []string{
		"LEDGERD_SNAPSHOT_EVERY=200", "LEDGERD_SNAPSHOT_KEEP=2", "LEDGERD_LOG_RETAIN=500",
		"LEDGERD_LEDGER_FLUSH_INTERVAL=1s", "LEDGERD_LEDGER_RESTART_DEBT=100ms", "LEDGERD_BATCHER_MAX_TRANSACTIONS=1",
	}
	c.start(c.nodes...)
	b = newBook(c)
	stop = b.load()
	eventually(t, "the log has begun", func() error { return held(t, c.nodes[3], 20) })
	c.stop(c.nodes[3], c.nodes[4])
	eventually(t, "everybody has trimmed", func() error {
		for _, n := range c.nodes[:3] {
			if err := trimmed(t, n, 300); err != nil {
				return err
			}
		}
		return nil
	})
	return c, b, stop
}

// TestRejoinComet does the same to a validator and an observer: the blocks that prove what they lack are gone, and a quorum confirms the snapshot. A snapshot holds no
// votes, so the validator observes from then on, until a reconfiguration takes it in again.
func TestRejoinComet(t *testing.T) {
	if os.Getenv("LEDGERD_TESTNET_ROUNDS") == "" {
		t.Skip("takes a minute for some thousand blocks: played where LEDGERD_TESTNET_ROUNDS is set, as in .ci/long")
	}
	c, b, stop := leaveBehind(t, "comet")
	staying, away, observer := c.nodes[:3], c.nodes[3], c.nodes[4]
	c.start(away, observer)
	for _, n := range []*node{away, observer} {
		eventually(t, fmt.Sprintf("node %d goes on from a snapshot", n.index), func() error { return trimmed(t, n, 300) })
		c.inEpoch(1, "observes", n)
	}
	require.NoError(t, stop())
	b.verify()
	require.Contains(t, away.running().Stderr(), "member=false")

	r := c.reconfigure(away, "--members", c.memberList(c.nodes[:4]...))
	c.inEpoch(r.Epoch, "orders", c.nodes[:4]...)
	undo := c.do("stop", staying[0])
	_, err := b.submit(t.Context(), 0, away.index)
	require.NoError(t, err)
	undo()
	b.verify()
	c.stop(c.nodes...)
}
