package feed

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"ledgerd/rpc/feed/protocol"
)

// TestPeersShareTheFeed: one peer has half of the places, unless it is on this machine, and what it gives back it may have again.
func TestPeersShareTheFeed(t *testing.T) {
	f := startFeed(t, Options{MaxClients: 4, Peer: func(r *http.Request) (string, bool) { return r.RemoteAddr, r.RemoteAddr == "here" }})
	enter := func(from string) (leave func(), err error) {
		r := httptest.NewRequest(http.MethodGet, "/feed/sse", nil)
		r.RemoteAddr = from
		_, leave, err = f.feed.enter("sse", r)
		return leave, err
	}
	var leave []func()
	must := func(from string) {
		l, err := enter(from)
		require.NoError(t, err)
		leave = append(leave, l)
	}
	refused := func(from, message string) {
		_, err := enter(from)
		require.Equal(t, protocol.Errorf(protocol.CodeOverloaded, "%s", message), err)
	}
	must("a")
	must("a")
	refused("a", "too many clients of the feed from one address, at most 2")
	leave[0]()
	leave = leave[1:]
	must("a")
	for _, l := range leave {
		l()
	}
	leave = nil
	for range 3 {
		must("here")
	}
	must("a")
	refused("b", "too many clients of the feed, at most 4")
	for _, l := range leave {
		l()
	}
	require.Empty(t, f.feed.clients.peers)
	require.EqualValues(t, 2, counter(t, f.feed.metrics.refused.WithLabelValues("overloaded")))
}

// TestPeersTakeTurns: one that searches much does not make another wait for all of it.
func TestPeersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places, searches = 2, 10
		f := &Feed{searching: make(chan struct{}, places)}
		many, one := &peer{searching: make(chan struct{}, places)}, &peer{searching: make(chan struct{}, places)}
		finish := make(chan struct{})
		var order []string
		var running int
		search := func(name string, p *peer) {
			release, err := f.acquire(t.Context(), p, true)
			if err != nil {
				t.Error(err)
				return
			}
			running++ // one goroutine at a time runs between two Waits
			order = append(order, name)
			<-finish
			running--
			release()
		}
		for i := range searches {
			go search(fmt.Sprint("many ", i), many)
			synctest.Wait()
		}
		go search("one", one)
		synctest.Wait()
		for range searches + 1 {
			require.LessOrEqual(t, running, places)
			finish <- struct{}{}
			synctest.Wait()
		}
		require.Len(t, order, searches+1)
		require.Equal(t, places, slices.Index(order, "one"), "%v", order)
		require.Empty(t, many.searching)
		require.Empty(t, f.searching)
	})
}

// TestEncodingsOfThePast: a block far from the head is one subscription's, which sends each event once: it keeps none of them.
func TestEncodingsOfThePast(t *testing.T) {
	f := startFeed(t, Options{})
	for range near + 2 {
		f.mine(1)
	}
	head := f.CurrentHeader().Number.Uint64()
	kept := func(number uint64) (same bool) {
		b, err := f.feed.block(number, head)
		require.NoError(t, err)
		first, err := b.message(0)
		require.NoError(t, err)
		again, err := f.feed.block(number, head)
		require.NoError(t, err)
		second, err := again.message(0)
		require.NoError(t, err)
		require.Equal(t, first.text, second.text)
		_, ok := b.encoded.Load(uint32(0))
		require.Equal(t, ok, first == second)
		return ok
	}
	require.True(t, kept(head))
	require.False(t, kept(1))
}
