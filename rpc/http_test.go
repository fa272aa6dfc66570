package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

type exchange struct {
	method, path, body string
	header             map[string]string
}

// do makes one HTTP request on a connection of its own.
func (n *testNode) do(t *testing.T, e exchange) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequest(e.method, "http://"+n.address+e.path, strings.NewReader(e.body))
	require.NoError(t, err)
	if e.method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range e.header {
		r.Header.Set(k, v)
		if k == "Host" {
			r.Host = v
		}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, answer.Header, string(b)
}

const chainIDRequest = `{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`
const chainIDAnswer = `{"jsonrpc":"2.0","id":1,"result":"0x539"}`

func TestHTTP(t *testing.T) {
	n := startNode(t, Options{
		Hosts:   []string{"localhost", "node.example"},
		CORS:    []string{"https://dapp.example"},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "metrics") }),
		Fallback: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "fallback %s", r.URL.Path)
		}),
		MaxBodyBytes:  2000,
		MaxBatchItems: 3,
	})
	host := func(h string) map[string]string { return map[string]string{"Host": h} }
	origin := func(o string) map[string]string { return map[string]string{"Origin": o} }
	rpc := func(body string) exchange { return exchange{method: "POST", path: "/", body: body} }
	errorAnswer := func(id string, code int, message string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, id, code, message)
	}
	for _, tc := range []struct {
		name   string
		in     exchange
		status int
		body   string // "" is not compared
		allow  string // Access-Control-Allow-Origin
	}{
		{"call", rpc(chainIDRequest), 200, chainIDAnswer, ""},
		{"batch", rpc("[" + chainIDRequest + "," + chainIDRequest + "]"), 200, "[" + chainIDAnswer + "," + chainIDAnswer + "]", ""},
		{"empty batch", rpc("[]"), 200, errorAnswer("null", -32600, "empty batch"), ""},
		{"large batch", rpc("[" + strings.Repeat(chainIDRequest+",", 3) + chainIDRequest + "]"), 200, "[" + errorAnswer("1", -32600, "batch too large") + "]", ""},
		{"not json", rpc(`{"jsonrpc"`), 200, errorAnswer("null", -32700, "parse error"), ""},
		{"not a request", rpc(`{"id":7}`), 200, errorAnswer("7", -32600, "invalid request"), ""},
		{"no version", rpc(`{"id":7,"method":"eth_chainId"}`), 200, errorAnswer("7", -32600, "invalid request"), ""},
		{"not an array", rpc(`{"jsonrpc":"2.0","id":7,"method":"eth_call","params":{}}`), 200, errorAnswer("7", -32602, "non-array args"), ""},
		{"panic", rpc(`{"jsonrpc":"2.0","id":7,"method":"test_panic"}`), 200, errorAnswer("7", -32603, "method handler crashed"), ""},
		{"call after panic", rpc(chainIDRequest), 200, chainIDAnswer, ""},
		{"large body", rpc(strings.Repeat(" ", 2001)), 413, "", ""},
		{"form", exchange{"POST", "/", chainIDRequest, map[string]string{"Content-Type": "text/plain"}}, 415, "", ""},
		{"put", exchange{"PUT", "/", "", nil}, 405, "", ""},

		{"listed name", exchange{"POST", "/", chainIDRequest, host("Node.Example:80")}, 200, chainIDAnswer, ""},
		{"localhost", exchange{"POST", "/", chainIDRequest, host("localhost")}, 200, chainIDAnswer, ""},
		{"address", exchange{"POST", "/", chainIDRequest, host("[::1]:8545")}, 200, chainIDAnswer, ""},
		{"rebound name", exchange{"POST", "/", chainIDRequest, host("evil.example")}, 403, "", ""},
		{"rebound name, other path", exchange{"GET", "/metrics", "", host("evil.example")}, 403, "", ""},

		{"preflight", exchange{"OPTIONS", "/", "", origin("https://dapp.example")}, 204, "", "https://dapp.example"},
		{"preflight of another", exchange{"OPTIONS", "/", "", origin("https://evil.example")}, 204, "", ""},
		{"page", exchange{"POST", "/", chainIDRequest, origin("https://dapp.example")}, 200, chainIDAnswer, "https://dapp.example"},
		{"own page", exchange{"POST", "/", chainIDRequest, origin("http://" + n.address)}, 200, chainIDAnswer, "http://" + n.address},

		{"healthz", exchange{"GET", "/healthz", "", nil}, 200, "ok\n", ""},
		{"readyz", exchange{"GET", "/readyz", "", nil}, 200, "ready\n", ""},
		{"metrics", exchange{"GET", "/metrics", "", nil}, 200, "metrics", ""},
		{"explorer", exchange{"GET", "/", "", nil}, 200, "fallback /", ""},
		{"explorer's page", exchange{"GET", "/feeds", "", nil}, 200, "fallback /feeds", ""},

		{"feed without upgrade", exchange{"GET", "/feed", "", nil}, 426, "", ""},
		{"feed without filter", exchange{"GET", "/feed/sse", "", origin("https://dapp.example")}, 400, "", "https://dapp.example"},
		{"feed for another page", exchange{"GET", "/feed/sse?kind=block", "", origin("https://evil.example")}, 403, "", ""},
		{"feed by a rebound name", exchange{"GET", "/feed/sse?kind=block", "", host("evil.example")}, 403, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, header, body := n.do(t, tc.in)
			require.Equal(t, tc.status, status, body)
			if tc.body != "" {
				require.Equal(t, tc.body, strings.TrimSuffix(body, "\n")+strings.Repeat("\n", strings.Count(tc.body, "\n")))
			}
			require.Equal(t, tc.allow, header.Get("Access-Control-Allow-Origin"))
		})
	}
	n.mu.Lock()
	n.behind = 65
	n.mu.Unlock()
	status, _, body := n.do(t, exchange{"GET", "/readyz", "", nil})
	require.Equal(t, 503, status)
	require.Equal(t, "catching up: 65 log entries behind\n", body)
}

func TestNamespacesAndBareServer(t *testing.T) {
	n := startNode(t, Options{Namespaces: []string{"eth", "net"}, Ready: func(context.Context) error { return errors.New("no quorum") }})
	c := n.dial(t, "http")
	call(t, c, "eth_chainId")
	for _, method := range []string{"web3_clientVersion", "txpool_status", "log_tail", "ledger_transactionStatus"} {
		code, _, _ := callError(t, c, method)
		require.Equal(t, -32601, code, method)
	}
	status, _, body := n.do(t, exchange{"GET", "/readyz", "", nil})
	require.Equal(t, 503, status)
	require.Equal(t, "no quorum\n", body)
	status, _, _ = n.do(t, exchange{"GET", "/", "", nil})
	require.Equal(t, 200, status)
	status, _, _ = n.do(t, exchange{"GET", "/metrics", "", nil})
	require.Equal(t, 404, status)

	chain := newFakeChain(t)
	_, err := New(chain, fakePool{chain}, nil, Options{Namespaces: []string{"personal"}, MaxLogs: -1})
	require.ErrorContains(t, err, `unknown namespace "personal"`)
	require.ErrorContains(t, err, "a limit is negative")
}

func (n *testNode) websocket(t *testing.T, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	c, answer, err := websocket.DefaultDialer.Dial("ws://"+n.address, header)
	if err == nil {
		t.Cleanup(func() { c.Close() })
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	}
	return c, answer, err
}

func TestWebsocket(t *testing.T) {
	n := startNode(t, Options{CORS: []string{"https://dapp.example"}, MaxMessageBytes: 1000})
	_, answer, err := n.websocket(t, http.Header{"Origin": {"https://evil.example"}})
	require.Error(t, err)
	require.Equal(t, 403, answer.StatusCode)
	for _, origin := range []string{"https://dapp.example", "http://" + n.address} {
		_, _, err := n.websocket(t, http.Header{"Origin": {origin}})
		require.NoError(t, err, origin)
	}

	c, _, err := n.websocket(t, nil)
	require.NoError(t, err)
	ask := func(message string) string {
		t.Helper()
		require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(message)))
		_, got, err := c.ReadMessage()
		require.NoError(t, err)
		return string(got)
	}
	require.Equal(t, chainIDAnswer, ask(chainIDRequest))
	require.Equal(t, "["+chainIDAnswer+"]", ask("["+chainIDRequest+"]"))
	require.Equal(t, chainIDAnswer, ask(chainIDRequest))
	// What is cut off is a parse error, and not the beginning of the next message.
	require.Contains(t, ask(chainIDRequest[:20]), `"code":-32700`)
	_, _, err = c.ReadMessage()
	require.Error(t, err, "closed")

	c, _, err = n.websocket(t, nil)
	require.NoError(t, err)
	require.NoError(t, c.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte(" "), 1001)))
	_, _, err = c.ReadMessage()
	require.True(t, websocket.IsCloseError(err, websocket.CloseMessageTooBig), "%v", err)
}

// TestConnectionLimit: what comes above it is closed at once, and a closed connection makes room.
func TestConnectionLimit(t *testing.T) {
	n := startNode(t, Options{MaxConnections: 2})
	var open []net.Conn
	answers := func() (net.Conn, bool) {
		c, err := net.Dial("tcp", n.address)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		b := make([]byte, 15)
		_, err = io.ReadFull(c, b)
		return c, err == nil && string(b) == "HTTP/1.1 200 OK"
	}
	for range 2 {
		c, ok := answers()
		require.True(t, ok)
		open = append(open, c)
	}
	_, ok := answers()
	require.False(t, ok)
	open[0].Close()
	eventually(t, "there is room again", func() bool { _, ok := answers(); return ok })
}

// comers is a listener to which connections come from the addresses that are sent.
type comers chan string

type comer struct {
	net.Conn
	from net.Addr
}

func (c comer) RemoteAddr() net.Addr { return c.from }

func (c comers) Accept() (net.Conn, error) {
	from, ok := <-c
	if !ok {
		return nil, net.ErrClosed
	}
	conn, _ := net.Pipe()
	return comer{conn, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}, nil
}

func (comers) Close() error   { return nil }
func (comers) Addr() net.Addr { return &net.TCPAddr{} }

// TestClientConnectionLimit: no client takes all connections, but those on this machine, of which a proxy may be one.
func TestClientConnectionLimit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit int
		come  []string
		taken []bool
	}{
		{"an address", 2, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1"}, []bool{true, true, false, true}},
		{"an IPv6 network", 2, []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8:0:1::1]:1"}, []bool{true, true, false, true}},
		{"of both kinds", 1, []string{"192.0.2.1:1", "[::ffff:192.0.2.1]:1"}, []bool{true, false}},
		{"this machine", 1, []string{"127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "[::1]:2", "[::ffff:127.0.0.1]:1"}, []bool{true, true, true, true, true}},
		{"all together", 2, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5", "192.0.2.1:1"}, []bool{true, true, true, true, true, false}},
		{"no limit", 0, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, []bool{true, true, true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := newMetrics(prometheus.NewRegistry())
			require.NoError(t, err)
			come := make(comers, len(tc.come))
			l := newLimitListener(come, 5, tc.limit, m)
			var open []net.Conn
			for i, from := range tc.come {
				come <- from
				if !tc.taken[i] {
					continue // closed, and the next one looked at
				}
				c, err := l.Accept()
				require.NoError(t, err)
				require.Equal(t, netip.MustParseAddrPort(from).Port(), c.RemoteAddr().(*net.TCPAddr).AddrPort().Port())
				open = append(open, c)
			}
			close(come)
			_, err = l.Accept()
			require.ErrorIs(t, err, net.ErrClosed, "none is left")
			for _, c := range open {
				c.Close()
				c.Close() // counts once
			}
			require.Zero(t, l.mu.open)
			require.Empty(t, l.mu.clients)
			require.Zero(t, valueOf(m.connections))
		})
	}
}

// TestStop: Serve ends though clients hold connections; subscribers learn why, and a request that waits gets an answer.
func TestStop(t *testing.T) {
	n := startNode(t, Options{ShutdownTimeout: patience})
	c, _, err := n.websocket(t, nil)
	require.NoError(t, err)
	require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`)))
	_, _, err = c.ReadMessage()
	require.NoError(t, err)
	client := n.dial(t, "http")
	raw, err := alice.transfer(0).MarshalBinary()
	require.NoError(t, err)
	waiting := make(chan error, 1)
	go func() {
		waiting <- client.Call(new(json.RawMessage), "eth_sendRawTransactionSync", fmt.Sprintf("%#x", raw))
	}()
	eventually(t, "it waits", func() bool { return n.Get(alice.transfer(0).Hash()) != nil })
	n.stop()
	_, _, err = c.ReadMessage()
	require.True(t, websocket.IsCloseError(err, websocket.CloseGoingAway), "%v", err)
	require.EqualError(t, receive(t, waiting), "the node is stopping")
}
