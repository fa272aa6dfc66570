package testnet

import (
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
)

// TestJoinBySnapshot lets a node with an empty disk begin with a snapshot of the others, while clients write: it does not have what was before, follows from
// there, comes to the same head, and can become a member.
func TestJoinBySnapshot(t *testing.T) {
	for _, manifest := range observed {
		t.Run(manifest, func(t *testing.T) { joinBySnapshot(t, manifest) })
	}
}

func joinBySnapshot(t *testing.T, manifest string) {
	c := newCluster(t, manifest)
	late := c.nodes[5]
	early := *c
	early.nodes = c.nodes[:5]
	c.env = []string{"LEDGERD_SNAPSHOT_EVERY=100", "LEDGERD_NODE_JOIN=snapshot"}
	early.env = c.env[:1]
	early.start(early.nodes...)
	b := newBook(&early)
	stop := b.load()
	eventually(t, "every member has made a snapshot", func() error {
		for _, n := range c.nodes[:4] {
			if files, _ := filepath.Glob(filepath.Join(n.home, "data", "snapshots", "*")); len(files) == 0 {
				files, _ = filepath.Glob(filepath.Join(n.home, "snapshots", "*"))
				if len(files) == 0 {
					return fmt.Errorf("node %d has none", n.index)
				}
			}
		}
		return nil
	})
	require.NoError(t, os.RemoveAll(filepath.Join(late.home, "data")))
	c.start(late)
	require.NoError(t, stop())
	b.verify()
	b.c = c
	b.verify()
	require.Contains(t, late.running().Stderr(), "joined by a snapshot")
	var status struct{ Trimmed hexutil.Uint64 }
	require.NoError(t, late.running().Client.Client().CallContext(t.Context(), &status, "log_status"))
	require.GreaterOrEqual(t, uint64(status.Trimmed), uint64(100), "the log begins at the snapshot")
	_, err := b.submit(t.Context(), 0, late.index)
	require.NoError(t, err, "it hands on what it is sent")

	r := c.reconfigure(late, "--members", c.memberList(append(slices.Clone(c.nodes[:4]), late)...))
	c.inEpoch(r.Epoch, "orders", c.nodes[:4]...)
	c.inEpoch(r.Epoch, "orders", late)
	c.do("kill", late)()
	c.inEpoch(r.Epoch, "orders", late)
	b.verify()
	c.stop(c.nodes...)
	stdout, stderr, code := process.Run(t, binary, "log", "recover", "status", "--home", late.home)
	require.Equal(t, 0, code, errors.New(stderr))
	require.True(t, strings.Contains(stdout, "epoch"), stdout)
}

// TestObserverCatchesUp starts an observer when the chain has LEDGERD_BLOCKS blocks (default 2,000, or 500 of CometBFT, which takes more fsyncs to make one), and
// reports how fast it comes to the same head. Of an epoch of CometBFT it applies nothing that is not proven.
func TestObserverCatchesUp(t *testing.T) {
	for engine, blocks := range map[string]uint64{"raft": 2000, "comet": 500} {
		t.Run(engine, func(t *testing.T) { catchUp(t, engine, blocks) })
	}
}

func catchUp(t *testing.T, engine string, want uint64) {
	if text := os.Getenv("LEDGERD_BLOCKS"); text != "" {
		var err error
		want, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "LEDGERD_BLOCKS")
	}
	c := newCluster(t, "observer.toml", "--engine", engine)
	c.patience = process.Patience + time.Duration(want)*time.Millisecond*5
	c.start(c.nodes[0])
	c.orderedBy(engine, c.nodes[0])
	alone := *c
	alone.nodes = c.nodes[:1]
	b := newBook(&alone)
	stop := b.load()
	client := c.nodes[0].running().Client
	for head := uint64(0); head < want; <-time.After(50 * time.Millisecond) {
		var err error
		head, err = client.BlockNumber(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, stop())
	head, err := client.HeaderByNumber(t.Context(), nil)
	require.NoError(t, err)

	begun := time.Now()
	c.start(c.nodes[1]) // it is ready when it has caught up
	took := time.Since(begun)
	same, err := c.nodes[1].running().Client.HeaderByNumber(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, head.Hash(), same.Hash())
	t.Logf("%d blocks in %v: %.0f blocks/s", head.Number, took.Round(time.Millisecond), float64(head.Number.Uint64())/took.Seconds())
	b.c = c
	_, err = b.submit(t.Context(), 0, 1)
	require.NoError(t, err)
	c.stop(c.nodes...)
}
