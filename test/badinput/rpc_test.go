package badinput

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
)

const (
	chainIDRequest = `{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`
	chainIDAnswer  = `{"jsonrpc":"2.0","id":1,"result":"0x539"}`
)

// TestBadBodies: what is not JSON-RPC gets an HTTP status or a JSON-RPC error, never a closed connection or silence.
func TestBadBodies(t *testing.T) {
	n := process.Dev(t, binary, newHome(t))
	var c canary
	request := func(method, params string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
	}
	address := `"` + addressOf(canaryKey).Hex() + `"`
	cases := []struct {
		name, contentType, body string
		status                  int
		want                    string // in the body
	}{
		{"empty", "application/json", "", 200, ``}, // as go-ethereum answers it, for probes that know no better
		{"cut off", "application/json", chainIDRequest[:40], 200, `"code":-32700,"message":"parse error"`},
		{"garbage", "application/json", string(noise("garbage", 1000)), 200, `-32700`},
		{"zeros", "application/json", strings.Repeat("\x00", 1000), 200, `-32700`},
		{"number", "application/json", "17", 200, `-32600`},
		{"null", "application/json", "null", 200, `-32600`},
		{"string", "application/json", `"eth_chainId"`, 200, `-32600`},
		{"two values", "application/json", chainIDRequest + chainIDRequest, 200, ``},
		{"no version", "application/json", `{"id":1,"method":"eth_chainId"}`, 200, `-32600`},
		{"no method", "application/json", `{"jsonrpc":"2.0","id":1}`, 200, `-32600`},
		{"method is a number", "application/json", `{"jsonrpc":"2.0","id":1,"method":7}`, 200, `-32`},
		{"params is an object", "application/json", request("eth_getBalance", `{"a":1}`), 200, `"code":-32602,"message":"non-array args"`},
		{"form", "application/x-www-form-urlencoded", chainIDRequest, 415, "invalid content type"},
		{"text", "text/plain", chainIDRequest, 415, "invalid content type"},
		{"no content type", "", chainIDRequest, 415, "invalid content type"},
		{"empty batch", "application/json", "[]", 200, `"code":-32600,"message":"empty batch"`},
		{"batch of 1001", "application/json", "[" + strings.Repeat(chainIDRequest+",", 1000) + chainIDRequest + "]", 200, `"code":-32600,"message":"batch too large"`},
		{"batch of bad things", "application/json", `[1,null,{},[],` + chainIDRequest + `]`, 200, chainIDAnswer},
		{"larger than 5 MiB", "application/json", request("web3_sha3", `["0x`+strings.Repeat("00", 3<<20)+`"]`), 413, ""},
		{"100,000 arrays", "application/json", request("eth_call", strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)), 200, `"error"`},
		{"100,000 objects", "application/json", request("eth_call", strings.Repeat(`[{"a":`, 50_000)+"1"+strings.Repeat("}]", 50_000)), 200, `"error"`},
		{"never closed", "application/json", strings.Repeat("[", 100_000), 200, `"error"`},

		{"unknown method", "application/json", request("eth_nonsense", "[]"), 200, `"code":-32601,"message":"the method eth_nonsense does not exist/is not available"`},
		{"unknown namespace", "application/json", request("personal_unlockAccount", "[]"), 200, `"code":-32601`},
		{"debug is not open", "application/json", request("debug_setHead", `["0x0"]`), 200, `"code":-32601`},
		{"method without namespace", "application/json", request("chainId", "[]"), 200, `"code":-32601`},
		{"method name of 1 MB", "application/json", request("eth_"+strings.Repeat("a", 1<<20), "[]"), 200, `"error"`},
		{"too many params", "application/json", request("eth_chainId", "[1]"), 200, `"code":-32602,"message":"too many arguments`},
		{"missing param", "application/json", request("eth_getBalance", "[]"), 200, `"code":-32602,"message":"missing value for required argument 0"`},
		{"address too short", "application/json", request("eth_getBalance", `["0x12","latest"]`), 200, `"code":-32602`},
		{"address is a number", "application/json", request("eth_getBalance", `[12,"latest"]`), 200, `"code":-32602`},
		{"block is a float", "application/json", request("eth_getBalance", `[`+address+`,1.5]`), 200, `"code":-32602`},
		{"block of 100 digits", "application/json", request("eth_getBalance", `[`+address+`,"0x`+strings.Repeat("f", 100)+`"]`), 200, `"code":-32602`},
		{"block with zeros in front", "application/json", request("eth_getBalance", `[`+address+`,"0x00"]`), 200, `"code":-32602`},
		{"block of the future", "application/json", request("eth_getBalance", `[`+address+`,"0xffffff"]`), 200, `"code":-32000,"message":"header not found"`},
		{"block hash that is not there", "application/json", request("eth_getBalance", `[`+address+`,{"blockHash":"0x`+strings.Repeat("11", 32)+`"}]`), 200, `"code":-32000,"message":"header for hash not found"`},
		{"slot too long", "application/json", request("eth_getStorageAt", `[`+address+`,"0x`+strings.Repeat("1", 65)+`","latest"]`), 200, `"code":-32602`},
		{"transaction hash too short", "application/json", request("eth_getTransactionReceipt", `["0x12"]`), 200, `"code":-32602`},
		{"receipt that is not there", "application/json", request("eth_getTransactionReceipt", `["0x`+strings.Repeat("11", 32)+`"]`), 200, `"result":null`},
		{"value of 257 bits", "application/json", request("eth_call", `[{"to":`+address+`,"value":"0x1`+strings.Repeat("0", 64)+`"},"latest"]`), 200, `"code":-32602`},
		{"negative value", "application/json", request("eth_call", `[{"to":`+address+`,"value":"-0x1"},"latest"]`), 200, `"code":-32602`},
		{"two kinds of fee", "application/json", request("eth_call", `[{"to":`+address+`,"gasPrice":"0x1","maxFeePerGas":"0x1"},"latest"]`), 200, `"code":-32602`},
		{"other chain", "application/json", request("eth_call", `[{"to":`+address+`,"chainId":"0x1"},"latest"]`), 200, `"code":-32602`},
		{"data and input differ", "application/json", request("eth_sendTransaction", `[{"from":`+address+`,"to":`+address+`,"data":"0x01","input":"0x02"}]`), 200, `both \"data\" and \"input\" are set and not equal`},
		{"logs, upside down", "application/json", request("eth_getLogs", `[{"fromBlock":"0x1","toBlock":"0x0"}]`), 200, `"code":-32602,"message":"invalid block range params"`},
		{"logs of the future", "application/json", request("eth_getLogs", `[{"fromBlock":"0x0","toBlock":"0xffffff"}]`), 200, `"code":-32602,"message":"block range extends beyond current head block"`},
		{"logs, five topics", "application/json", request("eth_getLogs", `[{"topics":[null,null,null,null,null]}]`), 200, `"code":-32602`},
		{"logs, address that is none", "application/json", request("eth_getLogs", `[{"address":"0x"}]`), 200, `"code":-32602`},
		{"logs, hash and range", "application/json", request("eth_getLogs", `[{"blockHash":"0x`+strings.Repeat("11", 32)+`","fromBlock":"0x0"}]`), 200, `"code":-32602`},
		{"filter that is not there", "application/json", request("eth_getFilterChanges", `["0x1"]`), 200, `"code":-32000,"message":"filter not found"`},
		{"subscribe by HTTP", "application/json", request("eth_subscribe", `["newHeads"]`), 200, `"message":"notifications not supported"`},
		{"feeHistory of 2^63 blocks", "application/json", request("eth_feeHistory", `["0x8000000000000000","latest",[]]`), 200, `"jsonrpc"`},
		{"feeHistory, percentiles that fall", "application/json", request("eth_feeHistory", `["0x1","latest",[50,40]]`), 200, `"error"`},
		{"feeHistory, 200 percent", "application/json", request("eth_feeHistory", `["0x1","latest",[200]]`), 200, `"error"`},
		{"log_read, upside down", "application/json", request("log_read", `["0x2","0x1"]`), 200, `"code":-32602`},
		{"log_read from 0", "application/json", request("log_read", `["0x0","0x1"]`), 200, `"code":-32602`},
		{"log_read of the future", "application/json", request("log_read", `["0xffffff","0xfffffff"]`), 200, `"code":-32001`},
		{"sign for a stranger", "application/json", request("eth_sendTransaction", `[{"from":"0x`+strings.Repeat("11", 20)+`","to":`+address+`}]`), 200, `"code":-32000,"message":"unknown account"`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			status, body := post(t, n, tc.contentType, tc.body)
			shown := body[:min(len(body), 500)]
			require.Equal(t, tc.status, status, shown)
			require.True(t, strings.Contains(body, tc.want), "wanted %s, got %s", tc.want, shown)
			require.NotContains(t, body, "goroutine ", "a stack leaks")
			if tc.status == http.StatusOK {
				require.True(t, json.Valid([]byte(body)) || tc.want == "", "not JSON: %s", shown)
			}
		})
		c.sing(t, n)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		r, err := http.NewRequestWithContext(t.Context(), method, n.URL, strings.NewReader(chainIDRequest))
		require.NoError(t, err)
		got, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		got.Body.Close()
		require.Equal(t, http.StatusMethodNotAllowed, got.StatusCode, method)
	}
	c.remembers(t, n)
	n.Terminate(t)
}

// dialRaw opens a connection on which a test writes HTTP by hand.
func dialRaw(t *testing.T, n *process.Node) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSlowClients: a client that sends its request by drops, or lies about its length, is let go; meanwhile others are served.
// It takes the ten seconds of the node's read timeout.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	n := process.Dev(t, binary, newHome(t))
	var c canary
	starts := map[string]string{
		"says nothing":             "",
		"half a header":            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Ty",
		"half a body":              "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n" + chainIDRequest[:20],
		"a chunk that never comes": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{",
	}
	var wg sync.WaitGroup
	began := time.Now()
	for name, start := range starts {
		conn := dialRaw(t, n)
		_, err := io.WriteString(conn, start)
		require.NoError(t, err)
		wg.Go(func() {
			conn.SetReadDeadline(time.Now().Add(process.Patience))
			text, err := io.ReadAll(conn) // up to the end that the node makes
			if err != nil && !strings.Contains(err.Error(), "reset by peer") {
				t.Errorf("%s: after %v: %q, %v", name, time.Since(began), text, err)
			}
			if strings.Contains(string(text), `"result"`) {
				t.Errorf("%s: answered with %q", name, text)
			}
		})
	}
	c.sing(t, n)
	wg.Wait()
	require.Less(t, time.Since(began), 30*time.Second, "until the last slow client was let go")
	c.sing(t, n)
	n.Terminate(t)
}

// TestManyConnections: above the limit a connection is closed at once, and once others are gone there is room again.
func TestManyConnections(t *testing.T) {
	n := process.Dev(t, binary, newHome(t))
	var c canary
	c.sing(t, n)
	var idle []net.Conn
	closed := 0
	for range 700 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
		require.NoError(t, err)
		idle = append(idle, conn)
	}
	for _, conn := range slices.Backward(idle) { // the last ones were too many
		conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
			closed++
		}
		if closed == 100 {
			break
		}
	}
	require.GreaterOrEqual(t, closed, 100, "of 700 connections at least 100 are above the limit of 500")
	c.sing(t, n) // on a connection that was open before
	for _, conn := range idle {
		conn.Close()
	}
	eventually(t, "a new connection is served again", func() bool {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
		got, err := client.Post(n.URL, "application/json", strings.NewReader(chainIDRequest))
		if err != nil {
			return false
		}
		defer got.Body.Close()
		return got.StatusCode == http.StatusOK
	})
	c.sing(t, n)
	c.remembers(t, n)
	n.Terminate(t)
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// TestWebsocketGarbage: bad frames end their own connection, with a code that says why, and no other.
func TestWebsocketGarbage(t *testing.T) {
	n := process.Dev(t, binary, newHome(t))
	var c canary
	url := "ws" + strings.TrimPrefix(n.URL, "http")
	dial := func() *websocket.Conn {
		conn, _, err := websocket.DefaultDialer.Dial(url, nil)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(process.Patience)))
		return conn
	}
	bystander := dial()
	require.NoError(t, bystander.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`)))
	_, subscribed, err := bystander.ReadMessage()
	require.NoError(t, err)
	require.Contains(t, string(subscribed), `"result":"0x`)

	frame := func(first byte, payload []byte) []byte { // one masked frame of a client
		var b bytes.Buffer
		b.WriteByte(first)
		require.Less(t, len(payload), 126)
		b.Write([]byte{0x80 | byte(len(payload)), 0, 0, 0, 0})
		b.Write(payload)
		return b.Bytes()
	}
	cases := []struct {
		name  string
		bytes []byte // as they are on the wire
		kind  int    // or a message
		text  string
		close int // the code with which the connection is closed; 0: any end
	}{
		{name: "not JSON", kind: websocket.TextMessage, text: "hello"},
		{name: "half a request", kind: websocket.TextMessage, text: chainIDRequest[:30]},
		{name: "binary garbage", kind: websocket.BinaryMessage, text: string(noise("ws", 2000))},
		{name: "100,000 arrays", kind: websocket.TextMessage, text: strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)},
		{name: "larger than 5 MiB", kind: websocket.TextMessage, text: `["` + strings.Repeat("a", 5<<20) + `"]`, close: websocket.CloseMessageTooBig},
		{name: "reserved bits", bytes: frame(0xf1, []byte("{}")), close: websocket.CloseProtocolError},
		{name: "reserved opcode", bytes: frame(0x83, []byte("{}")), close: websocket.CloseProtocolError},
		{name: "continuation of nothing", bytes: frame(0x80, []byte("{}")), close: websocket.CloseProtocolError},
		{name: "fragmented ping", bytes: frame(0x09, nil), close: websocket.CloseProtocolError},
		{name: "not masked", bytes: []byte{0x81, 2, '{', '}'}, close: websocket.CloseProtocolError},
		{name: "length of 2^63", bytes: []byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
		{name: "HTTP", bytes: []byte("GET / HTTP/1.1\r\n\r\n")},
	}
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			conn := dial()
			if tc.bytes != nil {
				_, err := conn.NetConn().Write(tc.bytes)
				require.NoError(t, err)
			} else if err := conn.WriteMessage(tc.kind, []byte(tc.text)); err != nil {
				t.Logf("write: %v", err) // the node may end it before all of it is sent
			}
			var said []string
			for {
				_, message, err := conn.ReadMessage()
				if err == nil {
					said = append(said, string(message[:min(len(message), 300)]))
					require.Contains(t, said[len(said)-1], `"error"`)
					if tc.name == "100,000 arrays" {
						break // JSON, though not a request: the connection may stay
					}
					continue
				}
				require.False(t, isTimeout(err), "neither an error nor an end; it said %q", said)
				if tc.close != 0 {
					require.True(t, websocket.IsCloseError(err, tc.close), "wanted close code %d, got %v", tc.close, err)
				}
				break
			}
		})
		c.sing(t, n)
		_, head, err := bystander.ReadMessage()
		require.NoError(t, err, "another client's subscription")
		var event struct {
			Params struct{ Result struct{ Hash common.Hash } }
		}
		require.NoError(t, json.Unmarshal(head, &event))
		require.Equal(t, c.receipts[i].BlockHash, event.Params.Result.Hash)
	}
	c.remembers(t, n)
	n.Terminate(t)
}
