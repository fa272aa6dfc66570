package testnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/stretchr/testify/require"

	"ledgerd/rpc/feed/feedclient"
	"ledgerd/rpc/feed/protocol"
	"ledgerd/testnet"
)

// TestFeedOverSegmentsAndNodes: a client of the feed that knows all nodes follows blocks and changes of segment, while the log changes hands, and engines, and the node
// that serves it is killed. A cursor of one node is good at every other: it has every block and every segment once, in order, those that each node tells under the
// same cursors.
func TestFeedOverSegmentsAndNodes(t *testing.T) {
	c := newCluster(t, "raft4.toml")
	c.start(c.nodes...)
	b := newBook(c)
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.url)
	}
	follower := follow(t, urls...)
	stop := b.load()
	eventually(t, "the load runs", func() error { return b.more(0, len(c.accounts)) })
	reverse := members(c.nodes[3], c.nodes[2], c.nodes[1], c.nodes[0])
	for i, flags := range [][]string{
		{reverse}, {"--engine", "comet"}, {members(c.nodes...)}, {"--engine", "raft"}, {"--engine", "comet"},
	} {
		before := b.count()
		c.reconfigure(c.nodes[3], flags...)
		undo := c.do(testnet.Kill, c.nodes[i%3])
		eventually(t, "the load goes on", func() error { return b.more(before, len(c.accounts)) })
		undo()
	}
	require.NoError(t, stop())
	c.agree()
	// Nobody makes a block in the last segment, which is told all the same.
	last := c.reconfigure(c.nodes[3], reverse)
	c.orderedBy("comet", c.nodes...)
	follower.until(func() bool { return follower.segments == int(last.Epoch)-1 })
	head := c.agree()
	require.EqualValues(t, head, follower.blocks-1, "it is past the last block")

	events := follower.stop()
	for _, n := range c.nodes {
		alone := follow(t, n.url)
		alone.until(func() bool { return alone.segments == int(last.Epoch)-1 })
		require.Equal(t, events, alone.stop(), "node %d", n.index)
	}
	c.stop(c.nodes...)
	t.Logf("%d blocks and %d changes of segment, each once", head+1, last.Epoch-1)
}

// follower is a client of the feed, and what it was told.
type follower struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error

	mu       sync.Mutex
	events   []string // with their cursors
	blocks   int
	segments int
}

// follow starts one at the beginning. It fails the test if a block or a segment is missing, or comes twice.
func follow(t *testing.T, urls ...string) *follower {
	t.Helper()
	client, err := feedclient.New(urls, feedclient.Options{
		Filters: []protocol.Filter{{Kind: protocol.KindSegment}, {Kind: protocol.KindBlock}}, Start: protocol.StartEarliest, MaxPause: 200 * time.Millisecond,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t: t, cancel: cancel, ended: make(chan error, 1)}
	go func() {
		f.ended <- client.Run(ctx, func(_ context.Context, e feedclient.Event) error { return f.take(e) })
	}()
	return f
}

func (f *follower) take(e feedclient.Event) error {
	var data struct{ Number, Epoch hexutil.Uint64 }
	if err := e.Decode(&data); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, fmt.Sprintf("%s %s %d", e.Cursor, e.Kind, data.Number))
	switch e.Kind {
	case protocol.KindBlock:
		if int(data.Number) != f.blocks {
			return fmt.Errorf("block %d, want %d", data.Number, f.blocks)
		}
		f.blocks++
		if epoch := int(data.Epoch); data.Number > 0 && epoch != f.segments+1 {
			return fmt.Errorf("block %d is of epoch %d, after %d changes of segment", data.Number, epoch, f.segments)
		}
	case protocol.KindSegment:
		f.segments++
		if int(data.Epoch) != f.segments+1 {
			return fmt.Errorf("segment %d, want %d", data.Epoch, f.segments+1)
		}
	}
	return nil
}

// until waits until it was told enough.
func (f *follower) until(enough func() bool) {
	f.t.Helper()
	eventually(f.t, "the feed tells enough", func() error {
		select {
		case err := <-f.ended:
			f.ended <- err
			f.t.Fatalf("the client ended: %v", err)
		default:
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if enough() {
			return nil
		}
		return errors.New("not yet")
	})
}

func (f *follower) stop() []string {
	f.t.Helper()
	f.cancel()
	require.ErrorIs(f.t, <-f.ended, context.Canceled)
	return slices.Clone(f.events)
}
