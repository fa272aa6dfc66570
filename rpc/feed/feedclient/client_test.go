package feedclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"ledgerd/rpc/feed/feedclient"
	"ledgerd/rpc/feed/protocol"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func cursor(n int) string { return fmt.Sprintf("1-1337-%d-0-0000000000000000", n) }

// script is a server that plays one connection after the other, each its own function; the last is repeated.
type script struct {
	*httptest.Server
	connections atomic.Int64
}

// connection is the server's side.
type connection struct {
	*websocket.Conn
	t       *testing.T
	request protocol.Request
}

func (c *connection) send(m protocol.Message) {
	if err := c.WriteJSON(m); err != nil {
		c.t.Log(err)
	}
}

// event sends the event before cursor n.
func (c *connection) event(n int) {
	c.send(protocol.Message{Type: protocol.TypeEvent, Kind: protocol.KindBlock, Cursor: cursor(n), Data: json.RawMessage(fmt.Sprint(n))})
}

func newScript(t *testing.T, scenes ...func(*connection)) *script {
	s := new(script)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(s.connections.Add(1)) - 1
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		c := &connection{Conn: conn, t: t}
		if err := conn.ReadJSON(&c.request); err != nil {
			t.Error(err)
			return
		}
		scenes[min(n, len(scenes)-1)](c)
	}))
	t.Cleanup(s.Close)
	return s
}

var blocks = []protocol.Filter{{Kind: protocol.KindBlock}}

func run(t *testing.T, c *feedclient.Client, until int) (got []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	enough := errors.New("enough")
	err = c.Run(ctx, func(_ context.Context, e feedclient.Event) error {
		if len(got) == until {
			return enough
		}
		got = append(got, string(e.Data))
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return got, err
}

// TestResumes: it begins where it is told to, and after each interruption where it was, also where only a cursor came.
func TestResumes(t *testing.T) {
	var requests []protocol.Request
	note := func(c *connection) {
		requests = append(requests, c.request)
		c.send(protocol.Message{Type: protocol.TypeSubscribed, Cursor: cursor(len(requests)*10 - 10)})
	}
	live := true
	s := newScript(t,
		note, // and gone
		func(c *connection) { note(c); c.event(11); c.event(12) },
		func(c *connection) {
			note(c)
			c.event(21)
			c.send(protocol.Message{Type: protocol.TypeProgress, Cursor: cursor(25), Live: &live})
			c.send(protocol.Message{Type: "poem", Cursor: cursor(99)}) // of a later version
		},
		func(c *connection) { note(c); c.event(31); c.event(32) },
	)
	var progress []string
	c, err := feedclient.New([]string{s.URL}, feedclient.Options{
		Filters: blocks, Start: protocol.StartEarliest, MinPause: time.Millisecond, Window: 7,
		Progress: func(cursor string, live bool) { progress = append(progress, fmt.Sprint(cursor, live)) },
	})
	require.NoError(t, err)
	require.Empty(t, c.Cursor())
	got, err := run(t, c, 4)
	require.NoError(t, err)
	require.Equal(t, []string{"11", "12", "21", "31"}, got)
	require.Equal(t, cursor(31), c.Cursor(), "the event whose handler failed is not behind it")
	require.Equal(t, []string{cursor(25) + "true"}, progress)
	require.Equal(t, protocol.StartEarliest, requests[0].Start)
	for i, want := range []string{"", cursor(0), cursor(12), cursor(25)} {
		require.Equal(t, want, requests[i].Cursor)
		require.EqualValues(t, 7, requests[i].Credit)
	}
}

// TestCredit: room is given back as events are handled, and no sooner.
func TestCredit(t *testing.T) {
	granted := make(chan uint64, 100)
	s := newScript(t, func(c *connection) {
		c.send(protocol.Message{Type: protocol.TypeSubscribed, Cursor: cursor(0)})
		for n := range 10 {
			c.event(n + 1)
		}
		for {
			var g protocol.Grant
			if c.ReadJSON(&g) != nil {
				return
			}
			granted <- g.Credit
		}
	})
	c, err := feedclient.New([]string{s.URL}, feedclient.Options{Filters: blocks, Window: 10})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	handled := 0
	err = c.Run(ctx, func(context.Context, feedclient.Event) error {
		if handled == 6 {
			require.EqualValues(t, 6, <-granted)
		}
		require.Empty(t, granted)
		if handled++; handled == 10 {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
}

// TestFinalErrors: what another attempt cannot change ends it, what it can does not.
func TestFinalErrors(t *testing.T) {
	fail := func(code protocol.Code) func(*connection) {
		return func(c *connection) {
			c.send(protocol.Message{Type: protocol.TypeError, Code: code, Text: "because", Cursor: cursor(5)})
		}
	}
	for _, code := range []protocol.Code{
		protocol.CodeInvalidRequest, protocol.CodeLimitExceeded, protocol.CodeOtherChain, protocol.CodeOtherHistory, protocol.CodePruned,
	} {
		s := newScript(t, fail(protocol.CodeOverloaded), fail(protocol.CodeInternal), fail(code))
		c, err := feedclient.New([]string{s.URL}, feedclient.Options{Filters: blocks, MinPause: time.Millisecond})
		require.NoError(t, err)
		_, err = run(t, c, 1)
		var known *protocol.Error
		require.ErrorAs(t, err, &known)
		require.Equal(t, protocol.Error{Code: code, Message: "because", Cursor: cursor(5)}, *known)
		require.EqualValues(t, 3, s.connections.Load())
	}
	s := newScript(t, fail(protocol.CodeBeyondHead))
	c, err := feedclient.New([]string{s.URL}, feedclient.Options{Filters: blocks, MinPause: time.Millisecond, MaxPause: time.Millisecond, Behind: 20 * time.Millisecond})
	require.NoError(t, err)
	_, err = run(t, c, 1)
	require.ErrorContains(t, err, "cursor_beyond_head")
	require.Greater(t, s.connections.Load(), int64(5))

	for status, final := range map[int]bool{http.StatusUnauthorized: true, http.StatusNotFound: true, http.StatusBadGateway: false} {
		var asked atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			http.Error(w, "no", status)
		}))
		c, err := feedclient.New([]string{server.URL}, feedclient.Options{Filters: blocks, MinPause: time.Millisecond, MaxPause: time.Millisecond})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err = c.Run(ctx, nil)
		cancel()
		server.Close()
		if final {
			require.ErrorContains(t, err, fmt.Sprint(status))
			require.EqualValues(t, 1, asked.Load())
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Greater(t, asked.Load(), int64(2))
		}
	}
}

// TestNextNode: with several nodes it goes on with the next.
func TestNextNode(t *testing.T) {
	bad := httptest.NewServer(http.NotFoundHandler())
	bad.Close()
	good := newScript(t, func(c *connection) {
		c.send(protocol.Message{Type: protocol.TypeSubscribed, Cursor: cursor(0)})
		c.event(1)
		c.event(2)
	})
	c, err := feedclient.New([]string{bad.URL, good.URL}, feedclient.Options{Filters: blocks, MinPause: time.Millisecond})
	require.NoError(t, err)
	got, err := run(t, c, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, got)
}

// TestSilence: a connection from which nothing comes is given up.
func TestSilence(t *testing.T) {
	s := newScript(t,
		func(c *connection) {
			c.send(protocol.Message{Type: protocol.TypeSubscribed, Cursor: cursor(7)})
			_, _, _ = c.ReadMessage() // says nothing until the client hangs up
		},
		func(c *connection) {
			c.send(protocol.Message{Type: protocol.TypeSubscribed, Cursor: cursor(7)})
			c.event(8)
			c.event(9)
		})
	c, err := feedclient.New([]string{s.URL}, feedclient.Options{Filters: blocks, MinPause: time.Millisecond, Silence: 50 * time.Millisecond})
	require.NoError(t, err)
	got, err := run(t, c, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"8"}, got)
}

// TestAuth: a token is made for every connection.
func TestAuth(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen = append(seen, r.Header.Get("Authorization")); len(seen) < 3 {
			http.Error(w, "busy", http.StatusBadGateway)
			return
		}
		http.Error(w, "token is expired", http.StatusUnauthorized)
	}))
	defer server.Close()
	tokens := 0
	c, err := feedclient.New([]string{server.URL}, feedclient.Options{Filters: blocks, MinPause: time.Millisecond, Auth: func(h http.Header) error {
		tokens++
		h.Set("Authorization", fmt.Sprint("Bearer ", tokens))
		return nil
	}})
	require.NoError(t, err)
	_, err = run(t, c, 1)
	require.ErrorContains(t, err, "401")
	require.Equal(t, []string{"Bearer 1", "Bearer 2", "Bearer 3"}, seen)
}

func TestBadOptions(t *testing.T) {
	for _, tc := range []struct {
		urls []string
		opts feedclient.Options
	}{
		{nil, feedclient.Options{Filters: blocks}},
		{[]string{"ftp://x"}, feedclient.Options{Filters: blocks}},
		{[]string{"://"}, feedclient.Options{Filters: blocks}},
		{[]string{"http://x"}, feedclient.Options{}},
		{[]string{"http://x"}, feedclient.Options{Filters: blocks, Cursor: "x"}},
		{[]string{"http://x"}, feedclient.Options{Filters: []protocol.Filter{{Kind: "uncle"}}}},
	} {
		_, err := feedclient.New(tc.urls, tc.opts)
		require.Error(t, err)
	}
}
