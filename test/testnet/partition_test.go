package testnet

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/testnet"
)

// TestPartitions plays the faults of partitions.toml, whose nodes are on hosts of their own: members and observers that are cut off, split, that hear and cannot
// speak, or speak and cannot hear, or whose line comes and goes.
func TestPartitions(t *testing.T) { play(t, "partitions.toml") }

// TestPartitionsComet is the same for members that order with CometBFT.
func TestPartitionsComet(t *testing.T) {
	if os.Getenv("LEDGERD_TESTNET_ROUNDS") == "" {
		t.Skip("takes as long as TestPartitions: played where LEDGERD_TESTNET_ROUNDS is set, as in .ci/long")
	}
	play(t, "partitions.toml", "--engine", "comet")
}

// disconnect loses what passes between nodes and the others, one way or both.
func (c *cluster) disconnect(what string, nodes []*node) error {
	some, rest := indexes(nodes), indexes(without(c.nodes, nodes))
	var errs []error
	if what != testnet.Deafen {
		errs = append(errs, c.hosts.Cut(some, rest))
	}
	if what != testnet.Mute {
		errs = append(errs, c.hosts.Cut(rest, some))
	}
	return errors.Join(errs...)
}

func indexes(nodes []*node) (all []int) {
	for _, n := range nodes {
		all = append(all, n.index)
	}
	return all
}

// flapping is how long a line that flaps is cut, and how long it is whole.
const flapping = 200 * time.Millisecond

// flap cuts nodes off and connects them again, and so on until undo.
func (c *cluster) flap(nodes []*node) (undo func()) {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ticker := time.NewTicker(flapping)
		defer ticker.Stop()
		for {
			err := c.disconnect(testnet.Cut, nodes)
			<-ticker.C
			if err = errors.Join(err, c.hosts.Heal()); err != nil {
				ended <- err
				return
			}
			select {
			case <-ticker.C:
			case <-stop:
				ended <- nil
				return
			}
		}
	}()
	return func() {
		c.t.Helper()
		close(stop)
		require.NoError(c.t, <-ended)
	}
}

// meanwhile demands what has to be while a fault of the lines lasts: without a quorum nothing is ordered; with one every client is served, by whom it can reach. Of
// a leader whose line comes and goes nothing is demanded.
func (b *book) meanwhile(f testnet.Fault, moment time.Time) {
	t := b.c.t
	t.Helper()
	switch {
	case f.Node == testnet.Half:
		b.still(time.Now(), f.For)
	case f.Do == testnet.Flap && f.Node == testnet.Leader:
	default:
		var first, last time.Duration
		eventually(t, "those who are connected serve every client", func() (err error) {
			var all bool
			if first, last, all = b.after(moment); !all {
				err = errors.New("not all are served")
			}
			return err
		})
		t.Logf("%-24s meanwhile: first client served after %v, last after %v", f, first.Round(time.Millisecond), last.Round(time.Millisecond))
	}
}

// still demands that for a time nothing is acknowledged of what somebody came up with after a moment. What is older may have been ordered, and come through late.
func (b *book) still(moment time.Time, length time.Duration) {
	b.c.t.Helper()
	<-time.After(length)
	b.mu.Lock()
	defer b.mu.Unlock()
	for client, begun := range b.begun {
		if n := len(begun); n > 0 {
			require.False(b.c.t, begun[n-1].After(moment), "client %d was served by a network without quorum", client)
		}
	}
}

// TestReconfigurePartitioned changes the log while a member is cut off: one that stays a member, one that is removed, and the leader. When it is back it finds out,
// and is what it is to be.
func TestReconfigurePartitioned(t *testing.T) {
	c := newCluster(t, "partitions.toml")
	c.start(c.nodes...)
	b := newBook(c)
	members := c.nodes[:c.manifest.Nodes]
	for i, step := range []struct {
		name  string
		who   string
		flags func(away *node) []string
		role  string // of the one that was away
	}{
		{"a member that stays is away", testnet.Follower, func(*node) []string { return []string{"--members=4,3,2,1"} }, "orders"},
		{"the leader is away", testnet.Leader, func(*node) []string { return []string{"--members=1,2,3,4"} }, "orders"},
		{"a member is removed while it is away", testnet.Follower, func(away *node) []string { return []string{"--remove", strconv.Itoa(away.index + 1)} }, "observes"},
	} {
		before := b.count()
		stop := b.load()
		eventually(t, "the load runs", func() error { return b.more(before, 2*len(c.accounts)) })
		away := c.target(step.who)[0]
		heal := c.do(testnet.Cut, away)
		others := without(members, []*node{away})
		begun := time.Now()
		r := c.reconfigure(others[i%len(others)], step.flags(away)...)
		took := time.Since(begun)
		require.EqualValues(t, i+2, r.Epoch)
		c.inEpoch(r.Epoch, "orders", others...)
		moment := time.Now()
		eventually(t, "every client is served in the new segment", func() error {
			if _, _, all := b.after(moment); !all {
				return errors.New("not all are")
			}
			return nil
		})
		s, err := away.status(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, r.Epoch-1, s.Epoch, "who is away does not know")
		heal()
		begun = time.Now()
		c.inEpoch(r.Epoch, step.role, away)
		back := time.Since(begun)
		require.NoError(t, stop())
		b.verify()
		t.Logf("%-36s complete after %v; back %v after the line; %d acknowledged", step.name, took.Round(time.Millisecond), back.Round(time.Millisecond), b.count()-before)
	}
	c.stop(c.nodes...)
	t.Logf("%d transactions acknowledged in %d blocks, 0 lost, 0 doubled", b.count(), len(b.blocks)-1)
}
