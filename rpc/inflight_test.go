package rpc

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// waitingAPI is a namespace with a method that returns when it may.
type waitingAPI struct {
	inside, most atomic.Int64
	leave        chan struct{}
}

func (w *waitingAPI) Wait() bool {
	n := w.inside.Add(1)
	for most := w.most.Load(); n > most && !w.most.CompareAndSwap(most, n); most = w.most.Load() {
	}
	<-w.leave
	w.inside.Add(-1)
	return true
}

func (n *testNode) registerWaiting(t *testing.T) *waitingAPI {
	t.Helper()
	w := &waitingAPI{leave: make(chan struct{})}
	require.NoError(t, n.server.rpc.RegisterName("waiting", w))
	return w
}

// TestUnansweredMessages: a websocket is read only as far as it is answered, whatever comes by it: requests, notifications, and batches of them; and what has no
// answer, or an unusual one, does not use the room up.
func TestUnansweredMessages(t *testing.T) {
	const notification = `{"jsonrpc":"2.0","method":"waiting_wait"}`
	for name, tc := range map[string]struct {
		message string
		answers bool
	}{
		"requests":      {`{"jsonrpc":"2.0","id":1,"method":"waiting_wait"}`, true},
		"batches":       {`[` + notification + `,{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}]`, true},
		"notifications": {notification, false},
		"silent batch":  {" [ " + notification + "]", false},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, Options{})
			w := n.registerWaiting(t)
			c, _, err := n.websocket(t, nil)
			require.NoError(t, err)
			const messages = 2 * maxUnanswered
			for range messages {
				require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(tc.message)))
			}
			eventually(t, "as many as may be are under way", func() bool { return w.inside.Load() >= maxUnanswered })
			close(w.leave)
			if tc.answers {
				for range messages {
					_, answer, err := c.ReadMessage()
					require.NoError(t, err)
					require.Contains(t, string(answer), `"id":1`)
				}
			}
			require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(chainIDRequest)))
			_, answer, err := c.ReadMessage()
			require.NoError(t, err)
			require.Equal(t, chainIDAnswer, strings.TrimSpace(string(answer)))
			require.EqualValues(t, maxUnanswered, w.most.Load())
		})
	}
}

// TestEveryMessageHasOneAnswer: the room of a websocket comes back after everything that a peer may send, and what the peer reads is what it read before there
// was such a thing.
func TestEveryMessageHasOneAnswer(t *testing.T) {
	n := startNode(t, Options{MaxBatchItems: 2})
	const invalid = `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"invalid request"}}`
	c, _, err := n.websocket(t, nil)
	require.NoError(t, err)
	for _, tc := range []struct{ message, answer string }{
		{`1`, invalid},
		{`null`, invalid},
		{`{}`, invalid},
		{`{"ID":1,"jsonrpc":"2.0"}`, invalid},
		{`[]`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"empty batch"}}`},
		{`[1,null]`, `[` + invalid + `,` + invalid + `]`},
		{`[{},{},{}]`, `[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}]`},
		{`{"jsonrpc":"2.0","id":1,"result":true}`, ``},
		{`[{"jsonrpc":"2.0","id":1,"error":{}},{"jsonrpc":"2.0","method":"eth_chainId"}]`, ``},
		{`{"jsonrpc":"2.0","method":"test_panic"}`, ``},
		{`{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1"}}`, ``},
		{`{"jsonrpc":"2.0","method":"nothing"}`, ``},
	} {
		for range maxUnanswered + 1 {
			require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(tc.message)))
			if tc.answer != "" {
				_, answer, err := c.ReadMessage()
				require.NoError(t, err)
				require.Equal(t, tc.answer, strings.TrimSpace(string(answer)), tc.message)
			}
		}
		require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(chainIDRequest)))
		_, answer, err := c.ReadMessage()
		require.NoError(t, err, tc.message)
		require.Equal(t, chainIDAnswer, strings.TrimSpace(string(answer)), tc.message)
	}
}

// TestWindow: the longer the answers, the fewer are under way; short ones open it again.
func TestWindow(t *testing.T) {
	room := func(w *window) (n int) {
		for ; !w.full(); n++ {
			w.begin()
		}
		w.mu.begun = 0
		return n
	}
	w := newWindow()
	require.Equal(t, maxUnanswered, room(w))
	for _, tc := range []struct{ answer, room int }{
		{100, maxUnanswered}, {unansweredBytes / 16, 16}, {unansweredBytes / 8, 8}, {unansweredBytes, minUnanswered}, {100 * unansweredBytes, minUnanswered},
	} {
		w.begin()
		w.end(tc.answer)
		require.Equal(t, tc.room, room(w), tc.answer)
	}
	for range 200 {
		w.begin()
		w.end(100)
	}
	require.Equal(t, maxUnanswered, room(w))
}

func TestQuota(t *testing.T) {
	q := newQuota(5, 3)
	require.Equal(t, shareHad, q.take("a", 2))
	require.Equal(t, shareHad, q.take("a", 1))
	require.Equal(t, shareOfOne, q.take("a", 1))
	require.Equal(t, shareHad, q.take("", 2), "nobody has no share")
	require.Equal(t, shareOfNone, q.take("b", 1))
	q.give("", 2)
	require.Equal(t, shareHad, q.take("b", 2))
	q.give("a", 1)
	q.give("a", 2)
	q.give("b", 2)
	require.Empty(t, q.mu.clients)
	require.Zero(t, q.mu.taken)
	for remote, want := range map[string]string{"127.0.0.1:1": "", "[::1]:1": "", "10.0.0.1:1": "10.0.0.1", "[2001:db8::1]:1": "2001:db8::/64", "pipe": ""} {
		require.Equal(t, want, shareOf(remote), remote)
	}
	for remote, want := range map[string]string{"127.0.0.1:1": "127.0.0.1 true", "10.0.0.1:1": "10.0.0.1 false", "[2001:db8::1]:1": "2001:db8::/64 false"} {
		name, local := feedPeer(&http.Request{RemoteAddr: remote})
		require.Equal(t, want, fmt.Sprint(name, " ", local))
	}
}

// TestRequestsInFlight: what comes above the requests that may be served at a time, of one client or of all, is told so at once, and may come again.
func TestRequestsInFlight(t *testing.T) {
	n := startNode(t, Options{})
	n.server.requests = newQuota(4, 2)
	w := n.registerWaiting(t)
	post := func(from, method string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q}`, method)))
		r.RemoteAddr, r.Host = from, "localhost"
		r.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		n.server.Handler().ServeHTTP(answer, r)
		return answer
	}
	answers := make(chan *httptest.ResponseRecorder, 4)
	occupy := func(from string) {
		before := w.inside.Load()
		go func() { answers <- post(from, "waiting_wait") }()
		eventually(t, "it is being served", func() bool { return w.inside.Load() == before+1 })
	}
	occupy("10.0.0.1:1")
	occupy("10.0.0.1:2")
	refused := post("10.0.0.1:3", "eth_chainId")
	require.Equal(t, http.StatusTooManyRequests, refused.Code)
	require.Equal(t, "1", refused.Header().Get("Retry-After"))
	require.Equal(t, http.StatusOK, post("10.0.0.2:1", "eth_chainId").Code)
	occupy("10.0.0.2:1")
	occupy("127.0.0.1:1")
	require.Equal(t, http.StatusServiceUnavailable, post("10.0.0.3:1", "eth_chainId").Code)
	require.EqualValues(t, 1, valueOf(n.server.metrics.refused.WithLabelValues("client requests")))
	require.EqualValues(t, 1, valueOf(n.server.metrics.refused.WithLabelValues("requests")))
	close(w.leave)
	for range cap(answers) {
		require.Equal(t, http.StatusOK, receive(t, answers).Code)
	}
	require.Equal(t, http.StatusOK, post("10.0.0.1:4", "eth_chainId").Code)
}

// TestLongAnswers: what waits to be read has a bound in bytes; beyond it an answer is an error with its id, and short ones go on.
func TestLongAnswers(t *testing.T) {
	n := startNode(t, Options{MaxResponseBytes: 4 * longAnswer})
	n.server.answers = newQuota(4*longAnswer, 2*longAnswer)
	answer := func(id string, size int) []byte {
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":"%s"}`, id, strings.Repeat("x", size))
	}
	first, firstDone := n.server.sending("10.0.0.1", answer("1", longAnswer))
	require.Len(t, first, len(answer("1", longAnswer)))
	second, secondDone := n.server.sending("10.0.0.1", answer(`"two"`, longAnswer))
	const busy = `"error":{"code":-32005,"message":"the node is busy: too many long answers are waiting to be read"}}`
	require.Equal(t, `{"jsonrpc":"2.0","id":"two",`+busy, string(second))
	secondDone()
	batch, batchDone := n.server.sending("10.0.0.1", append(append([]byte{'['}, answer("3", longAnswer)...), ']'))
	require.Equal(t, `{"jsonrpc":"2.0","id":null,`+busy, string(batch))
	batchDone()
	other, otherDone := n.server.sending("10.0.0.2", answer("1", longAnswer))
	require.Greater(t, len(other), longAnswer)
	announced, announcedDone := n.server.sending("10.0.0.1", fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"eth_subscription","params":"%s"}`, strings.Repeat("x", longAnswer)))
	require.Greater(t, len(announced), longAnswer)
	announcedDone()
	short, shortDone := n.server.sending("10.0.0.1", answer("1", 1000))
	require.Len(t, short, len(answer("1", 1000)))
	for _, done := range []func(){firstDone, otherDone, shortDone} {
		done()
	}
	require.Zero(t, n.server.answers.mu.taken)
	require.EqualValues(t, 2, valueOf(n.server.metrics.refused.WithLabelValues("answers")))
}
