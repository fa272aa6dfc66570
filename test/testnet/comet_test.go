package testnet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
		t.Logf("to %-5s gap %.1f ms, %d acknowledged", engine, r.GapMilliseconds, b.count()-before)
	}
	c.stop(c.nodes...)
	t.Logf("%d transactions acknowledged in %d blocks, 0 lost, 0 doubled", b.count(), len(b.blocks)-1)
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
