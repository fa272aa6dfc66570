package feed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"ledgerd/consensus"
	"ledgerd/rpc/feed/protocol"
)

const patience = 10 * time.Second // for what must happen

// testFeed is a feed that serves a test chain.
type testFeed struct {
	*testChain
	feed    *Feed
	address string
	stop    func() // and wait until it has
}

func startFeed(t testing.TB, opts Options) *testFeed {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	c := newTestChain()
	opts.Segments = c.Segments
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	f, err := New(c, testForms{}, opts)
	require.NoError(t, err)
	server := httptest.NewServer(f)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(func() {
		stop()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &testFeed{testChain: c, feed: f, address: strings.TrimPrefix(server.URL, "http://"), stop: stop}
}

// client is a websocket of the feed.
type client struct {
	*websocket.Conn
	t testing.TB
}

func (f *testFeed) dial(t testing.TB) *client {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+f.address+"/feed", nil)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return &client{conn, t}
}

func (c *client) send(v any) {
	c.t.Helper()
	if text, ok := v.(string); ok {
		require.NoError(c.t, c.WriteMessage(websocket.TextMessage, []byte(text)))
		return
	}
	require.NoError(c.t, c.WriteJSON(v))
}

func (c *client) receive() protocol.Message {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	var m protocol.Message
	require.NoError(c.t, c.ReadJSON(&m))
	return m
}

// subscribe sends a request and returns the cursor at which it begins.
func (c *client) subscribe(q protocol.Request) protocol.Cursor {
	c.t.Helper()
	q.Type = protocol.TypeSubscribe
	c.send(q)
	m := c.receive()
	require.Equal(c.t, protocol.TypeSubscribed, m.Type, "%+v", m)
	return parse(c.t, m.Cursor)
}

// event returns the next event; what is between is skipped.
func (c *client) event() protocol.Message {
	c.t.Helper()
	for {
		switch m := c.receive(); m.Type {
		case protocol.TypeEvent:
			return m
		case protocol.TypeProgress:
		default:
			require.Fail(c.t, "want an event", "%+v", m)
		}
	}
}

// closed reads up to the end and returns its code and the last message.
func (c *client) closed() (code int, last protocol.Message) {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	for {
		var m protocol.Message
		err := c.ReadJSON(&m)
		if err == nil {
			last = m
			continue
		}
		var end *websocket.CloseError
		require.ErrorAs(c.t, err, &end)
		return end.Code, last
	}
}

func parse(t testing.TB, s string) protocol.Cursor {
	t.Helper()
	c, err := protocol.ParseCursor(s)
	require.NoError(t, err)
	return c
}

// position is that of an event, by its cursor.
func position(t testing.TB, m protocol.Message) protocol.Position {
	t.Helper()
	p := parse(t, m.Cursor).Position
	require.NotZero(t, p.Index)
	p.Index--
	return p
}

func seed(t testing.TB) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("LEDGERD_SEED"); text != "" {
		var err error
		s, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("LEDGERD_SEED=%d", s)
	return s
}

// TestEveryEventOnce is invariants 2 and 3: while a chain with changing segments grows, clients with random filters and little credit begin at random
// places, break off at random points, and resume at the cursor of the last event or progress that they saw. Each has seen in the end exactly what the
// chain has for it, in order.
func TestEveryEventOnce(t *testing.T) {
	const (
		before  = 200 // blocks
		during  = 200
		clients = 12
	)
	seed := seed(t)
	f := startFeed(t, Options{Heartbeat: 5 * time.Millisecond, Progress: time.Nanosecond, SegmentInterval: time.Millisecond})
	f.feed.window = window{blocks: 11, finds: 4}
	rng := rand.New(rand.NewPCG(seed, 0))
	epoch := consensus.Epoch(1)
	grow := func() {
		for rng.IntN(15) == 0 {
			epoch = f.seal()
		}
		f.mine(epoch, randomCalls(rng, 5)...)
	}
	for range before {
		grow()
	}
	var all sync.WaitGroup
	for i := range clients {
		rng := rand.New(rand.NewPCG(seed, uint64(i)+1))
		filters := randomFilters(rng)
		start := rng.Uint64N(before + 1)
		all.Go(func() {
			got := f.follow(t, rng, filters, start, i%3 == 0, before+during)
			want := f.expected(filters, protocol.Position{Block: start})
			if !slicesEqual(want, got) {
				t.Errorf("client %d from block %d with %+v:\nwant %v\nhave %v", i, start, filters, want, got)
			}
		})
	}
	for range during {
		grow()
	}
	all.Wait()
}

func slicesEqual(a, b []protocol.Position) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// follow plays a client until it has seen everything up to block end.
func (f *testFeed) follow(t *testing.T, rng *rand.Rand, filters []protocol.Filter, start uint64, sse bool, end uint64) (got []protocol.Position) {
	q := protocol.Request{Type: protocol.TypeSubscribe, Filters: filters, Start: fmt.Sprintf("%#x", start)}
	for {
		messages, hangUp := f.connect(t, q, rng, sse)
		for left := 1 + rng.IntN(40); left > 0; left-- {
			m, ok := <-messages
			if !ok {
				t.Error("the connection ended")
				return got
			}
			switch m.Type {
			case protocol.TypeEvent:
				got = append(got, position(t, m))
			case protocol.TypeSubscribed, protocol.TypeProgress:
			default:
				t.Errorf("unexpected %+v", m)
				hangUp()
				return got
			}
			q.Cursor, q.Start = m.Cursor, ""
			if parse(t, m.Cursor).Block > end {
				hangUp()
				return got
			}
		}
		hangUp()
	}
}

// connect brings what a connection says to a channel, which it closes at the end of the connection.
func (f *testFeed) connect(t *testing.T, q protocol.Request, rng *rand.Rand, sse bool) (messages <-chan protocol.Message, hangUp func()) {
	if sse {
		return f.connectSSE(t, q)
	}
	c := f.dial(t)
	q.Credit = rng.Uint64N(4)
	c.send(q)
	ch := make(chan protocol.Message)
	done := make(chan struct{})
	grant := rng.Uint64N(5) + 1
	go func() {
		defer close(ch)
		credit := q.Credit
		for {
			if credit == 0 {
				if c.WriteJSON(protocol.Grant{Type: protocol.TypeCredit, Credit: grant}) != nil {
					return
				}
				credit += grant
			}
			var m protocol.Message
			if c.ReadJSON(&m) != nil {
				return
			}
			if m.Type == protocol.TypeEvent {
				if credit--; credit > 1<<60 {
					t.Error("an event without credit")
				}
			}
			select {
			case ch <- m:
			case <-done:
				return
			}
		}
	}()
	return ch, func() { close(done); c.Close(); drain(ch) }
}

func (f *testFeed) connectSSE(t *testing.T, q protocol.Request) (messages <-chan protocol.Message, hangUp func()) {
	filters, err := json.Marshal(q.Filters)
	require.NoError(t, err)
	values := url.Values{"filters": {string(filters)}}
	if q.Start != "" {
		values.Set("start", q.Start)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.address+"/feed/sse?"+values.Encode(), nil)
	require.NoError(t, err)
	if q.Cursor != "" {
		r.Header.Set("Last-Event-ID", q.Cursor)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	ch := make(chan protocol.Message)
	go func() {
		defer close(ch)
		defer response.Body.Close()
		for e := range readEvents(response.Body) {
			var m protocol.Message
			if err := json.Unmarshal([]byte(e.data), &m); err != nil {
				t.Error(err)
				return
			}
			if m.Cursor != e.id || m.Type == protocol.TypeEvent && string(m.Kind) != e.event {
				t.Errorf("id %q, event %q of %+v", e.id, e.event, m)
			}
			select {
			case ch <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, func() { cancel(); drain(ch) }
}

func drain(ch <-chan protocol.Message) {
	for range ch {
	}
}

// sse is one server-sent event.
type sse struct{ id, event, data string }

// readEvents parses a stream, up to its end.
func readEvents(body io.Reader) func(yield func(sse) bool) {
	return func(yield func(sse) bool) {
		var e sse
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				e.id = value
			case "event":
				e.event = value
			case "data":
				e.data = value
			case "":
				if e.data != "" && !yield(e) {
					return
				}
				e = sse{}
			}
		}
	}
}

// TestRequestsThatAreRefused: each with its code, and the connection ends with it.
func TestRequestsThatAreRefused(t *testing.T) {
	f := startFeed(t, Options{MaxFilters: 2, MaxCriteria: 3, MaxRequestBytes: 2000, RequestTimeout: 200 * time.Millisecond})
	for range 10 {
		f.mine(1)
	}
	hash := func(number int) (h [8]byte) {
		copy(h[:], f.blocks[number].Hash().Bytes())
		return h
	}
	cursor := func(chain string, block uint64, index uint32, of int) string {
		return protocol.Cursor{Chain: chain, Position: protocol.Position{Block: block, Index: index}, Hash: hash(of)}.String()
	}
	with := func(s string) string {
		return fmt.Sprintf(`{"type":"subscribe","credit":1,"filters":[{"kind":"block"}],"cursor":%q}`, s)
	}
	address := `"0x` + strings.Repeat("12", 20) + `"`
	filters := func(s string) string { return fmt.Sprintf(`{"type":"subscribe","credit":1,"filters":[%s]}`, s) }
	for _, tc := range []struct {
		name, request string
		code          protocol.Code // "": it is served
	}{
		{"good", with(cursor("1337", 5, 0, 4)), ""},
		{"good, in a block", with(cursor("1337", 5, 1, 5)), ""},
		{"good, after the head", with(cursor("1337", 11, 0, 10)), ""},
		{"good, the beginning", with(cursor("1337", 0, 0, 0)), ""},
		{"good, null conditions", filters(`{"kind":"log","address":null,"topics":[null,[]]}`), ""},

		{"nothing", ``, protocol.CodeInvalidRequest},
		{"no JSON", `{`, protocol.CodeInvalidRequest},
		{"null", `null`, protocol.CodeInvalidRequest},
		{"a list", `[]`, protocol.CodeInvalidRequest},
		{"two values", filters(`{"kind":"block"}`) + `{}`, protocol.CodeInvalidRequest},
		{"a bracket too many", filters(`{"kind":"block"}`) + `]`, protocol.CodeInvalidRequest},
		{"credit first", `{"type":"credit","credit":1}`, protocol.CodeInvalidRequest},
		{"unknown field", `{"type":"subscribe","credit":1,"filters":[{"kind":"block"}],"form":1}`, protocol.CodeInvalidRequest},
		{"negative credit", `{"type":"subscribe","credit":-1,"filters":[{"kind":"block"}]}`, protocol.CodeInvalidRequest},
		{"no filters", filters(``), protocol.CodeInvalidRequest},
		{"no kind", filters(`{}`), protocol.CodeInvalidRequest},
		{"unknown kind", filters(`{"kind":"uncle"}`), protocol.CodeInvalidRequest},
		{"unknown condition", filters(`{"kind":"log","emitter":` + address + `}`), protocol.CodeInvalidRequest},
		{"address of a block", filters(`{"kind":"block","address":` + address + `}`), protocol.CodeInvalidRequest},
		{"topics of a receipt", filters(`{"kind":"receipt","topics":[null]}`), protocol.CodeInvalidRequest},
		{"sender of a segment", filters(`{"kind":"segment","from":` + address + `}`), protocol.CodeInvalidRequest},
		{"short address", filters(`{"kind":"log","address":"0x12"}`), protocol.CodeInvalidRequest},
		{"null among addresses", filters(`{"kind":"log","address":[null]}`), protocol.CodeInvalidRequest},
		{"five topics", filters(`{"kind":"log","topics":[null,null,null,null,null]}`), protocol.CodeInvalidRequest},
		{"start and cursor", `{"type":"subscribe","credit":1,"filters":[{"kind":"block"}],"start":"earliest","cursor":"` + cursor("1337", 5, 0, 4) + `"}`, protocol.CodeInvalidRequest},
		{"decimal start", `{"type":"subscribe","credit":1,"filters":[{"kind":"block"}],"start":"12"}`, protocol.CodeInvalidRequest},
		{"start beyond the head", `{"type":"subscribe","credit":1,"filters":[{"kind":"block"}],"start":"0xc"}`, protocol.CodeBeyondHead},

		{"many filters", filters(`{"kind":"block"},{"kind":"block"},{"kind":"block"}`), protocol.CodeLimitExceeded},
		{"many addresses", filters(`{"kind":"log","address":[` + address + "," + address + `],"from":[` + address + "," + address + `]}`), protocol.CodeLimitExceeded},

		{"cursor of nothing", with("latest"), protocol.CodeInvalidCursor},
		{"cursor of another version", with("2" + cursor("1337", 5, 0, 4)[1:]), protocol.CodeInvalidCursor},
		{"cursor with a leading zero", with("1-01337-5-0-0102030405060708"), protocol.CodeInvalidCursor},
		{"cursor with capitals", with("1-1337-5-0-0102030405ABCDEF"), protocol.CodeInvalidCursor},
		{"long cursor", with(strings.Repeat("1", 500)), protocol.CodeInvalidCursor},
		{"cursor of another chain", with(cursor("1", 5, 0, 4)), protocol.CodeOtherChain},
		{"cursor of another history", with(cursor("1337", 5, 0, 3)), protocol.CodeOtherHistory},
		{"cursor of another block", with(cursor("1337", 5, 1, 4)), protocol.CodeOtherHistory},
		{"cursor beyond the head", with(cursor("1337", 12, 0, 10)), protocol.CodeBeyondHead},
		{"cursor in the block after the head", with(cursor("1337", 11, 1, 10)), protocol.CodeBeyondHead},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := f.dial(t)
			require.NoError(t, c.WriteMessage(websocket.TextMessage, []byte(tc.request)))
			if tc.code == "" {
				require.Equal(t, protocol.TypeSubscribed, c.receive().Type)
				return
			}
			end, last := c.closed()
			require.Equal(t, protocol.TypeError, last.Type)
			require.Equal(t, tc.code, last.Code, last.Text)
			require.NotEmpty(t, last.Text)
			require.Equal(t, websocket.ClosePolicyViolation, end)
		})
	}
	t.Run("too long", func(t *testing.T) {
		c := f.dial(t)
		c.send(filters(`{"kind":"log","address":[` + strings.Repeat(address+",", 100) + address + `]}`))
		end, _ := c.closed()
		require.Equal(t, websocket.CloseMessageTooBig, end)
	})
	t.Run("silence", func(t *testing.T) {
		end, last := f.dial(t).closed()
		require.Equal(t, protocol.CodeInvalidRequest, last.Code)
		require.Equal(t, websocket.ClosePolicyViolation, end)
	})
	for name, second := range map[string]string{
		"second request": filters(`{"kind":"block"}`), "no credit": `{"type":"credit","credit":0}`, "not JSON": `x`, "huge credit": `{"type":"credit","credit":99999999999999999999}`,
	} {
		t.Run("then "+name, func(t *testing.T) {
			c := f.dial(t)
			c.subscribe(protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindBlock}}})
			c.send(second)
			end, last := c.closed()
			require.Equal(t, protocol.CodeInvalidRequest, last.Code)
			require.Equal(t, websocket.ClosePolicyViolation, end)
		})
	}
}

// TestQueriesThatAreRefused is the same for server-sent events, by status.
func TestQueriesThatAreRefused(t *testing.T) {
	f := startFeed(t, Options{MaxClients: 1})
	f.mine(1)
	for _, tc := range []struct {
		query  string
		status int
		code   protocol.Code
	}{
		{"", 400, protocol.CodeInvalidRequest},
		{"?kind=uncle", 400, protocol.CodeInvalidRequest},
		{"?kinds=log", 400, protocol.CodeInvalidRequest},
		{"?kind=log&address=0x1", 400, protocol.CodeInvalidRequest},
		{"?kind=log&topic0=0x1", 400, protocol.CodeInvalidRequest},
		{"?kind=log&topic4=0x1", 400, protocol.CodeInvalidRequest},
		{"?filters=[{}]", 400, protocol.CodeInvalidRequest},
		{"?filters=[", 400, protocol.CodeInvalidRequest},
		{"?filters=[{%22kind%22:%22log%22}]&kind=log", 400, protocol.CodeInvalidRequest},
		{"?kind=log&cursor=1&cursor=2", 400, protocol.CodeInvalidRequest},
		{"?kind=log;", 400, protocol.CodeInvalidRequest},
		{"?kind=log&cursor=x", 400, protocol.CodeInvalidCursor},
		{"?kind=log&cursor=1-1-0-0-0000000000000000", 409, protocol.CodeOtherChain},
		{"?kind=log&cursor=1-1337-1-0-0000000000000000", 409, protocol.CodeOtherHistory},
		{"?kind=log&start=0x99", 409, protocol.CodeBeyondHead},
	} {
		t.Run(tc.query, func(t *testing.T) {
			status, m := f.get(t, tc.query)
			require.Equal(t, tc.status, status)
			require.Equal(t, tc.code, m.Code, m.Text)
		})
	}
	c := f.dial(t)
	c.subscribe(protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindBlock}}})
	status, m := f.get(t, "?kind=log")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, protocol.CodeOverloaded, m.Code)
	_, response, err := websocket.DefaultDialer.Dial("ws://"+f.address+"/feed", nil)
	require.ErrorIs(t, err, websocket.ErrBadHandshake)
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.EqualValues(t, 2, counter(t, f.feed.metrics.refused.WithLabelValues("overloaded")))

	for path, want := range map[string]int{"/feed": http.StatusUpgradeRequired, "/feed/": 404, "/feed/schema.json": 200} {
		response, err := http.Get("http://" + f.address + path)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, want, response.StatusCode, path)
	}
	response, err = http.Post("http://"+f.address+"/feed/sse?kind=log", "text/plain", nil)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
}

func (f *testFeed) get(t *testing.T, query string) (status int, m protocol.Message) {
	t.Helper()
	response, err := http.Get("http://" + f.address + "/feed/sse" + query)
	require.NoError(t, err)
	defer response.Body.Close()
	require.NoError(t, json.NewDecoder(response.Body).Decode(&m))
	return response.StatusCode, m
}

func counter(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	require.NoError(t, m.Write(&out))
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// TestSimpleQuery: the filters of a URL that a person writes.
func TestSimpleQuery(t *testing.T) {
	a, b := common.Address{1}.Hex(), common.Address{2}.Hex()
	x, y, z := common.Hash{1}.Hex(), common.Hash{2}.Hex(), common.Hash{3}.Hex()
	values, err := url.ParseQuery("kind=log,block&kind=receipt&address=" + a + "," + b + "&topic0=" + x + "&topic2=" + y + "&topic2=" + z + "&from=" + a + "&to=" + b + "&start=earliest")
	require.NoError(t, err)
	q, err := decodeQuery(values)
	require.NoError(t, err)
	require.Equal(t, "earliest", q.Start)
	require.Len(t, q.Filters, 3)
	require.Equal(t, protocol.Filter{
		Kind: protocol.KindLog, Address: []common.Address{{1}, {2}}, Topics: [][]common.Hash{{{1}}, nil, {{2}, {3}}}, From: []common.Address{{1}}, To: []common.Address{{2}},
	}, q.Filters[0])
	require.Equal(t, protocol.KindBlock, q.Filters[1].Kind)
	require.Error(t, q.Validate(), "a block has no address")
}

// TestPruned: a cursor below what the node holds is refused, and the error has the oldest one that is not; also when it comes to pass during a subscription.
func TestPruned(t *testing.T) {
	f := startFeed(t, Options{})
	for range 100 {
		f.mine(1, randomCalls(rand.New(rand.NewPCG(1, 1)), 3)...)
	}
	c := f.dial(t)
	q := protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindBlock}}, Start: protocol.StartEarliest, Credit: 1}
	c.subscribe(q)
	at := c.event().Cursor
	f.mu.Lock()
	f.kept = 50
	f.mu.Unlock()

	c.send(protocol.Grant{Type: protocol.TypeCredit, Credit: 10})
	_, last := c.closed()
	require.Equal(t, protocol.CodePruned, last.Code)
	require.EqualValues(t, 51, parse(t, last.Cursor).Block, "block 50 has no parent here, so it is not known where its events begin")

	again := f.dial(t)
	again.send(protocol.Request{Type: protocol.TypeSubscribe, Filters: q.Filters, Cursor: at, Credit: 1})
	_, refused := again.closed()
	require.Equal(t, last, refused)

	resumed := f.dial(t)
	resumed.subscribe(protocol.Request{Filters: q.Filters, Cursor: refused.Cursor, Credit: 100})
	for number := uint64(51); number <= 100; number++ {
		require.Equal(t, number, position(t, resumed.event()).Block)
	}

	status, _ := f.get(t, "?kind=block&start=earliest")
	require.Equal(t, http.StatusGone, status)
}

// TestSegmentWithoutBlock: that the log has begun another segment is told before there is a block in it, once, under the position that it keeps.
func TestSegmentWithoutBlock(t *testing.T) {
	f := startFeed(t, Options{SegmentInterval: time.Millisecond})
	f.mine(1)
	filters := []protocol.Filter{{Kind: protocol.KindSegment}, {Kind: protocol.KindBlock}}
	c := f.dial(t)
	c.subscribe(protocol.Request{Filters: filters, Credit: 100})
	f.seal()
	m := c.event()
	require.Equal(t, protocol.KindSegment, m.Kind)
	require.JSONEq(t, `{"epoch":2}`, string(m.Data))
	require.Equal(t, protocol.Position{Block: 2}, position(t, m))
	epoch := f.seal()
	m = c.event()
	require.JSONEq(t, `{"epoch":3}`, string(m.Data))
	require.Equal(t, protocol.Position{Block: 2, Index: 1}, position(t, m))

	late := f.dial(t)
	late.subscribe(protocol.Request{Filters: filters, Cursor: m.Cursor, Credit: 100})
	f.mine(epoch)
	for _, c := range []*client{c, late} {
		m := c.event()
		require.Equal(t, protocol.KindBlock, m.Kind)
		require.Equal(t, protocol.Position{Block: 2, Index: 2}, position(t, m))
	}
	all := f.dial(t)
	all.subscribe(protocol.Request{Filters: filters, Start: "0x2", Credit: 100})
	for index := range uint32(3) {
		require.Equal(t, protocol.Position{Block: 2, Index: index}, position(t, all.event()))
	}
}

// TestUnappliedSegmentWaits: the log may know of a segment while the ledger still executes what came before.
func TestUnappliedSegmentWaits(t *testing.T) {
	f := startFeed(t, Options{SegmentInterval: time.Millisecond})
	f.mine(1)
	f.mu.Lock()
	f.segments = append(f.segments, consensus.Segment{Epoch: 2, Base: 4}) // LSN 2 is a block to come, 3 the Seal
	f.mu.Unlock()
	c := f.dial(t)
	c.subscribe(protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindSegment}, {Kind: protocol.KindBlock}}, Credit: 100})
	f.mine(1)
	require.Equal(t, protocol.KindBlock, c.event().Kind)
	f.mu.Lock()
	f.applied++
	f.mu.Unlock()
	m := c.event()
	require.Equal(t, protocol.KindSegment, m.Kind)
	require.Equal(t, protocol.Position{Block: 3}, position(t, m))
}

// TestRareFilterInHistory: the past is searched by the index of logs, not block by block, and the progress of a filter that matches nothing is a cursor
// behind everything that was searched.
func TestRareFilterInHistory(t *testing.T) {
	f := startFeed(t, Options{Heartbeat: time.Millisecond})
	rare := call{
		tx:   types.MustSignNewTx(senders[0], signer, &types.LegacyTx{}),
		logs: []*types.Log{{Address: common.Address{9}, Topics: []common.Hash{{9}}}},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		if n == 999 {
			f.mine(1, append(randomCalls(rng, 2), rare)...)
			continue
		}
		f.mine(1, randomCalls(rng, 2)...)
	}
	c := f.dial(t)
	c.subscribe(protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindLog, Address: []common.Address{{9}}}}, Start: protocol.StartEarliest, Credit: 9})
	m := c.receive()
	require.Equal(t, protocol.TypeEvent, m.Type)
	require.EqualValues(t, 1000, position(t, m).Block)
	m = c.receive()
	require.Equal(t, protocol.TypeProgress, m.Type)
	require.True(t, *m.Live)
	require.Equal(t, "0x7d0", m.Head)
	require.Equal(t, protocol.Position{Block: 2001}, parse(t, m.Cursor).Position)
	require.LessOrEqual(t, len(f.searches), 3)

	f.mine(1)
	for at := m.Cursor; parse(t, at).Block != 2002; at = m.Cursor { // a heartbeat brings a cursor also when nothing matches
		m = c.receive()
		require.Equal(t, protocol.TypeProgress, m.Type)
	}
}

// TestSlowClients is invariant 5: clients that take nothing, for want of credit or because they do not read, are not cut off, delay nobody, and cost no
// memory that grows with what they have not taken. When they go on, nothing is missing.
func TestSlowClients(t *testing.T) {
	const (
		blocks = 1000
		slow   = 20
	)
	f := startFeed(t, Options{Heartbeat: 10 * time.Millisecond, ReadTimeout: time.Minute})
	filters := []protocol.Filter{{Kind: protocol.KindBlock}, {Kind: protocol.KindLog}}
	rng := rand.New(rand.NewPCG(3, 3))
	calls := make([][]call, blocks)
	for i := range calls {
		calls[i] = randomCalls(rng, 2)
	}
	var clients []*client
	for range slow {
		c := f.dial(t)
		c.subscribe(protocol.Request{Filters: filters, Credit: 1})
		clients = append(clients, c)
	}
	quick := f.dial(t)
	quick.subscribe(protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindBlock}}, Credit: 1 << 20})
	for i := range 100 {
		f.mine(1, calls[i]...)
		require.EqualValues(t, i+1, position(t, quick.event()).Block)
	}
	before := heap()
	chain := 0
	for i := 100; i < blocks; i++ {
		b := f.mine(1, calls[i]...)
		chain += 20 * int(b.Size())
		require.EqualValues(t, i+1, position(t, quick.event()).Block, "the quick one is not held up")
	}
	grown := heap() - before
	t.Logf("the heap grew by %d KiB", grown>>10)
	require.Less(t, grown, int64(chain)+8<<20, "the test chain keeps its blocks; the slow clients must keep nothing")

	want := f.expected(filters, protocol.Position{Block: 1})
	for _, c := range clients[:2] {
		c.send(protocol.Grant{Type: protocol.TypeCredit, Credit: 1 << 20})
		for _, at := range want {
			require.Equal(t, at, position(t, c.event()))
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestDeadClient: one that does not even answer a ping is let go, one that does nothing else is not.
func TestDeadClient(t *testing.T) {
	f := startFeed(t, Options{Heartbeat: 10 * time.Millisecond, ReadTimeout: 2 * time.Second}) // long enough for the living one on a busy machine
	request := protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindBlock}}, Credit: 0}
	alive, dead := f.dial(t), f.dial(t)
	dead.SetPingHandler(func(string) error { return nil })
	alive.subscribe(request)
	dead.subscribe(request)
	go func() { // answers pings
		for {
			if _, _, err := alive.ReadMessage(); err != nil {
				return
			}
		}
	}()
	code, last := dead.closed()
	require.Equal(t, websocket.ClosePolicyViolation, code)
	require.Contains(t, last.Text, "nothing came")
	require.Eventually(t, func() bool { return counter(t, f.feed.metrics.clients.WithLabelValues("websocket")) == 1 }, patience, time.Millisecond)
	require.NoError(t, alive.Close())
}

// TestStop: a feed that stops tells its clients, also one that takes nothing, and has ended soon.
func TestStop(t *testing.T) {
	f := startFeed(t, Options{})
	filters := []protocol.Filter{{Kind: protocol.KindBlock}}
	var clients []*client
	for range 3 {
		c := f.dial(t)
		c.subscribe(protocol.Request{Filters: filters})
		clients = append(clients, c)
	}
	silent := f.dial(t) // has not asked for anything
	events, hangUp := f.connectSSE(t, protocol.Request{Filters: filters})
	defer hangUp()
	require.Equal(t, protocol.TypeSubscribed, (<-events).Type)
	f.stop()
	for _, c := range append(clients, silent) {
		code, _ := c.closed()
		require.Equal(t, websocket.CloseGoingAway, code)
	}
	for m := range events {
		require.Equal(t, protocol.TypeProgress, m.Type)
	}
	status, m := f.get(t, "?kind=block")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, protocol.CodeOverloaded, m.Code)
}

// TestStopWithAFullConnection: a client that has credit and does not read fills its connection; that neither cuts it off at once nor holds up the stop for longer
// than the grace of a last message.
func TestStopWithAFullConnection(t *testing.T) {
	f := startFeed(t, Options{})
	dialer := websocket.Dialer{NetDial: func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(4 << 10)
		}
		return conn, err
	}}
	conn, _, err := dialer.Dial("ws://"+f.address+"/feed", nil)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.WriteJSON(protocol.Request{Type: protocol.TypeSubscribe, Filters: []protocol.Filter{{Kind: protocol.KindLog}}, Start: protocol.StartEarliest, Credit: 1 << 20}))
	big := call{tx: types.MustSignNewTx(senders[0], signer, &types.LegacyTx{})}
	for range 64 {
		big.logs = append(big.logs, &types.Log{Data: make([]byte, 32<<10)})
	}
	for range 10 {
		var logs []*types.Log
		for _, l := range big.logs {
			logs = append(logs, &types.Log{Data: l.Data})
		}
		f.mine(1, call{big.tx, logs})
	}
	sent := func() float64 { return counter(t, f.feed.metrics.events.WithLabelValues("log")) }
	last, same := 0.0, 0
	require.Eventually(t, func() bool { // until nothing goes through any more
		now := sent()
		if same++; now != last || now == 0 {
			last, same = now, 0
		}
		return same == 5
	}, patience, 100*time.Millisecond)
	require.Less(t, last, 640.0)
	f.stop() // fails if it does not come to an end
}

// TestNegativeOptions: every problem at once.
func TestNegativeOptions(t *testing.T) {
	_, err := New(newTestChain(), testForms{}, Options{MaxClients: -1, WriteTimeout: -1, Heartbeat: time.Hour})
	require.ErrorContains(t, err, "MaxClients is negative")
	require.ErrorContains(t, err, "WriteTimeout is negative")
	require.ErrorContains(t, err, "ReadTimeout 1m0s must be above Heartbeat 1h0m0s")
}
