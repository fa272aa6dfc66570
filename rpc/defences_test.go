package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/golang-jwt/jwt/v4"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

var testSecret = bytes.Repeat([]byte{7}, MinJWTSecret)

// token signs claims.
func token(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return s
}

// TestTokens: which are taken, and when.
func TestTokens(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	hs256 := func(claims jwt.MapClaims) string { return token(t, jwt.SigningMethodHS256, testSecret, claims) }
	fresh := hs256(jwt.MapClaims{"iat": at(0)})
	header, rest, _ := strings.Cut(fresh, ".")
	for _, tc := range []struct {
		name, token, want string
	}{
		{"fresh", fresh, ""},
		{"clock behind", hs256(jwt.MapClaims{"iat": at(-time.Minute)}), ""},
		{"clock ahead", hs256(jwt.MapClaims{"iat": at(time.Minute)}), ""},
		{"stale", hs256(jwt.MapClaims{"iat": at(-61 * time.Second)}), "which is more than 1m0s from now"},
		{"from the future", hs256(jwt.MapClaims{"iat": at(61 * time.Second)}), "which is more than 1m0s from now"},
		{"with an end", hs256(jwt.MapClaims{"exp": at(time.Hour), "iat": at(-time.Hour)}), ""},
		{"after its end", hs256(jwt.MapClaims{"exp": at(0), "iat": at(0)}), "token is expired"},
		{"before its beginning", hs256(jwt.MapClaims{"exp": at(time.Hour), "nbf": at(time.Second)}), "token is not valid yet"},
		{"no times", hs256(jwt.MapClaims{"sub": "x"}), "token has neither exp nor iat"},
		{"other key", token(t, jwt.SigningMethodHS256, []byte("another"), jwt.MapClaims{"iat": at(0)}), "signature is invalid"},
		{"other hash", token(t, jwt.SigningMethodHS512, testSecret, jwt.MapClaims{"iat": at(0)}), "signing method HS512 is invalid"},
		{"unsigned", token(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"iat": at(0)}), "signing method none is invalid"},
		{"relabelled", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + rest, "signing method none is invalid"},
		{"cut off", header, "token contains an invalid number of segments"},
		{"empty", "", "token contains an invalid number of segments"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := checkToken(tc.token, testSecret, now)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// TestAuthentication: without a token nothing is served but whether the node is well, by HTTP and by websocket.
func TestAuthentication(t *testing.T) {
	n := startNode(t, Options{
		JWTSecret: testSecret, CORS: []string{"https://dapp.example"},
		Metrics:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "metrics") }),
		Fallback: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fallback") }),
	})
	good := make(http.Header)
	require.NoError(t, Bearer(testSecret)(good))
	bearer := good.Get("Authorization")
	page := "https://dapp.example"
	for _, tc := range []struct {
		name   string
		in     exchange
		status int
	}{
		{"none", exchange{"POST", "/", chainIDRequest, nil}, 401},
		{"none for metrics", exchange{"GET", "/metrics", "", nil}, 401},
		{"none for the feed", exchange{"GET", "/feed", "", nil}, 401},
		{"other scheme", exchange{"POST", "/", chainIDRequest, map[string]string{"Authorization": "Basic " + bearer[7:]}}, 401},
		{"of a page", exchange{"POST", "/", chainIDRequest, map[string]string{"Origin": page}}, 401},
		{"good", exchange{"POST", "/", chainIDRequest, map[string]string{"Authorization": bearer}}, 200},
		{"lower case", exchange{"POST", "/", chainIDRequest, map[string]string{"Authorization": "bearer " + bearer[7:]}}, 200},
		{"good for metrics", exchange{"GET", "/metrics", "", map[string]string{"Authorization": bearer}}, 200},
		{"good for the feed, which is a websocket", exchange{"GET", "/feed", "", map[string]string{"Authorization": bearer}}, 426},
		{"none for its events", exchange{"GET", "/feed/sse?kind=block", "", nil}, 401},
		{"good for its schema", exchange{"GET", "/feed/schema.json", "", map[string]string{"Authorization": bearer}}, 200},
		{"good of a strange host", exchange{"POST", "/", chainIDRequest, map[string]string{"Authorization": bearer, "Host": "evil.example"}}, 403},
		{"healthz", exchange{"GET", "/healthz", "", nil}, 200},
		{"readyz", exchange{"GET", "/readyz", "", nil}, 200},
		{"preflight", exchange{"OPTIONS", "/", "", map[string]string{"Origin": page}}, 204},
		{"preflight for metrics", exchange{"OPTIONS", "/metrics", "", nil}, 204},
		{"preflight for the feed", exchange{"OPTIONS", "/feed/sse", "", map[string]string{"Origin": page}}, 204},
		{"preflight for the rest", exchange{"OPTIONS", "/else", "", nil}, 204},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, header, body := n.do(t, tc.in)
			require.Equal(t, tc.status, status, body)
			if status == 204 {
				require.Empty(t, body)
			}
			if status == 401 {
				require.Equal(t, "Bearer", header.Get("WWW-Authenticate"))
			}
			if tc.in.header["Origin"] == page {
				require.Equal(t, page, header.Get("Access-Control-Allow-Origin"))
			}
		})
	}
	_, answer, err := n.websocket(t, nil)
	require.Error(t, err)
	require.Equal(t, 401, answer.StatusCode)
	for _, scheme := range []string{"http", "ws"} {
		c, err := gethrpc.DialOptions(t.Context(), scheme+"://"+n.address, gethrpc.WithHTTPAuth(Bearer(testSecret)))
		require.NoError(t, err)
		call(t, c, "eth_chainId")
		c.Close()
	}
	_, err = New(n, fakePool{n.fakeChain}, nil, Options{JWTSecret: testSecret[1:]})
	require.ErrorContains(t, err, "JWTSecret has 31 bytes")
}

// TestZip: a long answer is compressed for whoever takes it so, a short one is not.
func TestZip(t *testing.T) {
	n := startNode(t, Options{})
	n.mine(allTypes()...)
	long := `{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x1",true]}`
	_, _, plain := n.do(t, exchange{"POST", "/", long, map[string]string{"Accept-Encoding": "identity"}})
	require.Greater(t, len(plain), minZipBytes)
	for _, tc := range []struct {
		body, accept string
		zipped       bool
	}{
		{long, "gzip", true},
		{long, "br;q=1.0, gzip;q=0.5", true},
		{long, "*", true},
		{long, "gzip;q=0", false},
		{long, "br", false},
		{chainIDRequest, "gzip", false},
	} {
		_, header, body := n.do(t, exchange{"POST", "/", tc.body, map[string]string{"Accept-Encoding": tc.accept}})
		require.Equal(t, tc.zipped, header.Get("Content-Encoding") == "gzip", tc.accept)
		require.Equal(t, "Accept-Encoding", header.Get("Vary"))
		if !tc.zipped {
			continue
		}
		require.Less(t, len(body), len(plain))
		z, err := gzip.NewReader(strings.NewReader(body))
		require.NoError(t, err)
		got, err := io.ReadAll(z)
		require.NoError(t, err)
		require.Equal(t, plain, string(got))
	}
}

// TestHTTP2: what knows that it may speaks HTTP/2 without TLS, many requests at a time on one connection.
func TestHTTP2(t *testing.T) {
	n := startNode(t, Options{MaxConnections: 1})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	answers := make(chan string, 20)
	for i := range cap(answers) {
		ask := func() {
			answer, err := client.Post("http://"+n.address, "application/json", strings.NewReader(chainIDRequest))
			if err != nil {
				answers <- err.Error()
				return
			}
			defer answer.Body.Close()
			b, _ := io.ReadAll(answer.Body)
			answers <- answer.Proto + " " + strings.TrimSpace(string(b))
		}
		if i == 0 {
			ask() // opens the connection
		} else {
			go ask()
		}
	}
	for range cap(answers) {
		require.Equal(t, "HTTP/2.0 "+chainIDAnswer, receive(t, answers))
	}
}

// TestResponseLimit: an answer that is too long is an error with its id, on every transport, and the connection goes on.
func TestResponseLimit(t *testing.T) {
	n := startNode(t, Options{MaxResponseBytes: 1000})
	n.mine(allTypes()...)
	long := `{"jsonrpc":"2.0","id":"\"x","method":"eth_getBlockByNumber","params":["0x1",true]}`
	check := func(answer string) {
		t.Helper()
		require.Regexp(t, `^{"jsonrpc":"2.0","id":"\\"x","error":{"code":-32003,"message":"response too large: \d+ bytes, at most 1000"}}\s*$`, answer)
	}
	status, _, body := n.do(t, exchange{"POST", "/", long, nil})
	require.Equal(t, 200, status)
	check(body)
	c, _, err := n.websocket(t, nil)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(long)))
		_, answer, err := c.ReadMessage()
		require.NoError(t, err)
		check(string(answer))
	}
}

// TestDeepRequest: nesting costs no stack.
func TestDeepRequest(t *testing.T) {
	n := startNode(t, Options{})
	for _, deep := range []string{"[", `{"a":`} {
		body := `{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[` + strings.Repeat(deep, 800_000)
		status, _, answer := n.do(t, exchange{"POST", "/", body, nil})
		require.Equal(t, 200, status)
		require.Contains(t, answer, `"code":-32700`)
		status, _, answer = n.do(t, exchange{"POST", "/", chainIDRequest, nil})
		require.Equal(t, 200, status)
		require.Contains(t, answer, `"0x539"`)
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"eth_call","params":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}"
	_, _, answer := n.do(t, exchange{"POST", "/", body, nil})
	require.Contains(t, answer, `"error"`)
}

// TestClientsShareFilters: one client cannot have them all, and what it gives back it may have again.
func TestClientsShareFilters(t *testing.T) {
	n := startNode(t, Options{MaxFilters: 5, MaxClientFilters: 3})
	from := func(source string) *gethrpc.Client {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		transport := &http.Transport{DialContext: dialer.DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		c, err := gethrpc.DialOptions(t.Context(), "http://"+n.address, gethrpc.WithHTTPClient(&http.Client{Transport: transport}))
		require.NoError(t, err)
		return c
	}
	first, second := from("127.0.0.1"), from("127.0.0.2")
	var ids []json.RawMessage
	for range 3 {
		ids = append(ids, call(t, first, "eth_newBlockFilter"))
	}
	code, message, _ := callError(t, first, "eth_newFilter", object{})
	require.Equal(t, "-32005 too many filters of one client, at most 3; uninstall those that are not polled", fmt.Sprint(code, " ", message))
	call(t, second, "eth_newPendingTransactionFilter")
	call(t, second, "eth_newFilter", object{})
	code, message, _ = callError(t, second, "eth_newBlockFilter")
	require.Equal(t, "-32005 too many filters, at most 5", fmt.Sprint(code, " ", message))
	require.Equal(t, "true", string(call(t, first, "eth_uninstallFilter", ids[0])))
	call(t, first, "eth_newBlockFilter")

	for _, tc := range []struct{ remote, want string }{
		{"10.0.0.1:99", "10.0.0.1"}, {"10.0.0.1:99#7", "10.0.0.1"}, {"[::ffff:10.0.0.1]:99", "10.0.0.1"},
		{"[2001:db8:1:2:3::4%eth0]:99", "2001:db8:1:2::/64"}, {"", ""}, {"pipe", "pipe"},
	} {
		require.Equal(t, tc.want, clientOf(contextOf(tc.remote)), tc.remote)
	}
}

// TestSubscribersLimit is for all websockets together.
func TestSubscribersLimit(t *testing.T) {
	n := startNode(t, Options{MaxSubscribers: 2})
	subscribe := func() error {
		_, err := n.dial(t, "ws").EthSubscribe(t.Context(), make(chan any), "newHeads")
		return err
	}
	require.NoError(t, subscribe())
	require.NoError(t, subscribe())
	require.EqualError(t, subscribe(), "too many subscriptions, at most 2")
}

// TestClientsShareSubscriptions: one client cannot have them all, unless it is on this machine, and what it gives back it may have again.
func TestClientsShareSubscriptions(t *testing.T) {
	n := startNode(t, Options{MaxSubscribers: 4, MaxClientSubscriptions: 2})
	enter := func(remote string) (leave func(), err error) {
		_, leave, err = n.server.enterSubscription(contextOf(remote))
		return leave, err
	}
	leave, err := enter("10.0.0.1:1#1")
	require.NoError(t, err)
	_, err = enter("10.0.0.1:2#2")
	require.NoError(t, err)
	_, err = enter("10.0.0.1:3#3")
	require.EqualError(t, err, "too many subscriptions of one client, at most 2")
	leave()
	_, err = enter("10.0.0.1:3#3")
	require.NoError(t, err)
	for range 2 {
		_, err = enter("127.0.0.1:1#1")
		require.NoError(t, err)
	}
	_, err = enter("10.0.0.2:1#1")
	require.EqualError(t, err, "too many subscriptions, at most 4")
}

// TestLogsAreBoundedByTimeAndResults: a range of any length may be asked for; what takes too long or finds too much is refused with the range that would do.
func TestLogsAreBoundedByTimeAndResults(t *testing.T) {
	n := startNode(t, Options{MaxLogs: 4, LogTimeout: time.Hour})
	c := n.dial(t, "http")
	for i := range uint64(3) {
		n.mine(alice.emit(2*i, common.Hash{1}), alice.emit(2*i+1, common.Hash{2}))
	}
	all := object{"fromBlock": "0x0"}
	code, message, data := callError(t, c, "eth_getLogs", all)
	require.Equal(t, "-32005 query returned more than 4 results. Try with this block range [0x0, 0x2].", fmt.Sprint(code, " ", message))
	require.Equal(t, map[string]any{"from": "0x0", "to": "0x2"}, data)
	var some []*types.Log
	require.NoError(t, c.Call(&some, "eth_getLogs", object{"fromBlock": "0x0", "toBlock": "0x2"}))
	require.Len(t, some, 4)

	large := startNode(t, Options{MaxResponseBytes: 3 * 1000})
	for i := range uint64(3) {
		large.mine(alice.emit(2*i, common.Hash{1}), alice.emit(2*i+1, common.Hash{2}))
	}
	code, message, _ = callError(t, large.dial(t, "http"), "eth_getLogs", all)
	require.Equal(t, "-32005 query returned more than 3000 bytes. Try with this block range [0x0, 0x1].", fmt.Sprint(code, " ", message))
	_, _, answer := large.do(t, exchange{"POST", "/", `{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x0","toBlock":"0x1"}]}`, nil})
	require.Contains(t, answer, `"result":[{`)

	slow := startNode(t, Options{LogTimeout: 500 * time.Millisecond})
	c = slow.dial(t, "http")
	for i := range uint64(3) {
		slow.mine(alice.emit(i, common.Hash{1}))
	}
	slow.mu.Lock()
	slow.searched = func(ctx context.Context, block uint64) {
		if block == 2 {
			<-ctx.Done()
		}
	}
	slow.mu.Unlock()
	code, message, _ = callError(t, c, "eth_getLogs", all)
	require.Equal(t, "-32005 query timed out after 500ms. Try with this block range [0x0, 0x2].", fmt.Sprint(code, " ", message))
}

// TestHeavyRequestsLeaveRoom: while endless executions use all there is for them, and more wait, what is light is answered.
func TestHeavyRequestsLeaveRoom(t *testing.T) {
	n := startNode(t, Options{MaxHeavy: 4, CallTimeout: time.Minute, CallGas: 1 << 60})
	ended := make(chan error, 16)
	heavy := n.dial(t, "ws")
	for range cap(ended) {
		go func() {
			ended <- heavy.CallContext(context.Background(), new(json.RawMessage), "eth_call", object{"to": emitter, "input": "0x00"}, "latest")
		}()
	}
	eventually(t, "the client has its part of the pool", func() bool { taken, waiting := n.server.heavy.state(); return taken == 2 && waiting == cap(ended)-2 })
	light := n.dial(t, "http")
	for range 20 {
		call(t, light, "eth_blockNumber")
		call(t, light, "eth_getBalance", alice.address, "latest")
	}
	require.Empty(t, ended, "they are still at it")
	heavy.Close()
	for range cap(ended) {
		require.Error(t, receive(t, ended))
	}
	eventually(t, "who has gone does not use it", func() bool { taken, waiting := n.server.heavy.state(); return taken+waiting == 0 })
}

// TestPoolContentIsHeavy: a full pool is as large as any answer.
func TestPoolContentIsHeavy(t *testing.T) {
	n := startNode(t, Options{MaxHeavy: 1, CallTimeout: time.Millisecond})
	c := n.dial(t, "http")
	requests := map[string][]any{"txpool_content": nil, "txpool_inspect": nil, "txpool_contentFrom": {alice.address}}
	for method, args := range requests {
		call(t, c, method, args...)
	}
	other := heavyRequest{client: "other"}
	require.NoError(t, n.server.heavy.enter(t.Context(), other, patience))
	for method, args := range requests {
		code, message, _ := callError(t, c, method, args...)
		require.Equal(t, codeLimitExceeded, code, method)
		require.Contains(t, message, "the node is busy", method)
	}
	call(t, c, "txpool_status")
	n.server.heavy.leave(other)
}

// TestClosedWebsocketEndsItsCalls: what waits for a quorum, or for a receipt, does not keep the connection of who has gone, nor the server from stopping.
func TestClosedWebsocketEndsItsCalls(t *testing.T) {
	n := startNode(t, Options{})
	hangs := n.loseQuorum()
	raw, err := alice.transfer(0).MarshalBinary()
	require.NoError(t, err)
	request := func(id int, method string, params ...any) json.RawMessage {
		b, err := json.Marshal(object{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
		require.NoError(t, err)
		return b
	}
	batch, err := json.Marshal([]json.RawMessage{request(4, "log_tail"), request(5, "log_members")})
	require.NoError(t, err)
	for name, leave := range map[string]func(*websocket.Conn) error{
		"hangs up":      func(c *websocket.Conn) error { return c.Close() },
		"talks garbage": func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte("{")) },
	} {
		c, _, err := n.websocket(t, nil)
		require.NoError(t, err)
		for _, message := range [][]byte{
			request(1, "log_tail"), request(2, "log_members"), request(3, "log_reconfigure", logRequest(3), []any{}), batch,
			request(6, "eth_sendRawTransactionSync", hexutil.Bytes(raw), 60_000),
		} {
			require.NoError(t, c.WriteMessage(websocket.TextMessage, message))
		}
		for range 4 {
			receive(t, hangs)
		}
		eventually(t, "the transaction is waited for", func() bool { return n.Get(alice.transfer(0).Hash()) != nil })
		require.NoError(t, leave(c))
		eventually(t, "who "+name+" is let go", func() bool { return valueOf(n.server.metrics.websockets) == 0 })
	}
}

// TestTailHasABound: also for who stays.
func TestTailHasABound(t *testing.T) {
	n := startNode(t, Options{MaxSyncTimeout: time.Millisecond, SyncTimeout: time.Millisecond})
	hangs := n.loseQuorum()
	go func() { <-hangs }()
	_, message, _ := callError(t, n.dial(t, "http"), "log_tail")
	require.Equal(t, `no quorum has confirmed the tail of the log within 1ms; "fast" is as far as this node knows`, message)
	call(t, n.dial(t, "http"), "log_tail", "fast")
}

// contextOf is the context of a request that came from an address.
func contextOf(remote string) (ctx context.Context) {
	server := gethrpc.NewServer()
	defer server.Stop()
	probe := &contextProbe{}
	if err := server.RegisterName("probe", probe); err != nil {
		panic(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.ServeCodec(gethrpc.NewCodec(remoteConn{b, remote}), 0)
	}()
	fmt.Fprintln(a, `{"jsonrpc":"2.0","id":1,"method":"probe_keep"}`)
	if _, err := a.Read(make([]byte, 100)); err != nil {
		panic(err)
	}
	a.Close()
	<-done
	return probe.ctx
}

type remoteConn struct {
	net.Conn
	remote string
}

func (c remoteConn) RemoteAddr() string { return c.remote }

type contextProbe struct{ ctx context.Context }

func (p *contextProbe) Keep(ctx context.Context) bool { p.ctx = ctx; return true }
