package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/gorilla/websocket"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"ledgerd/rpc/feed"
	"ledgerd/rpc/feed/protocol"
)

// feedSchema is the committed one, compiled.
func feedSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(protocol.Schema))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("feed", document))
	schema, err := compiler.Compile("feed")
	require.NoError(t, err)
	return schema
}

func valid(t *testing.T, schema *jsonschema.Schema, message []byte) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(message))
	require.NoError(t, err, "%s", message)
	return schema.Validate(value)
}

// readFeed subscribes and returns all messages up to the one that says that there is nothing more.
func (n *testNode) readFeed(t *testing.T, q protocol.Request) (messages []json.RawMessage) {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+n.address+"/feed", nil)
	require.NoError(t, err)
	defer conn.Close()
	q.Type, q.Credit = protocol.TypeSubscribe, 1<<20
	require.NoError(t, conn.WriteJSON(q))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	for {
		_, text, err := conn.ReadMessage()
		require.NoError(t, err)
		messages = append(messages, text)
		var m protocol.Message
		require.NoError(t, json.Unmarshal(text, &m))
		if m.Type == protocol.TypeProgress && *m.Live || m.Type == protocol.TypeError {
			return messages
		}
	}
}

func events(t *testing.T, messages []json.RawMessage) (found []protocol.Message) {
	t.Helper()
	for _, text := range messages {
		var m protocol.Message
		require.NoError(t, json.Unmarshal(text, &m))
		if m.Type == protocol.TypeEvent {
			found = append(found, m)
		}
	}
	return found
}

// TestFeedMessagesKeepTheSchema: every kind of message of the server, with real blocks of every type of transaction, and of the client.
func TestFeedMessagesKeepTheSchema(t *testing.T) {
	schema := feedSchema(t)
	n := startNode(t, Options{Feed: feed.Options{SegmentInterval: time.Millisecond}})
	n.mine(allTypes()...)
	n.mine(alice.transfer(6))
	n.mine(alice.emit(7, common.Hash{1}))
	var all []protocol.Filter
	for _, kind := range protocol.Kinds {
		all = append(all, protocol.Filter{Kind: kind})
	}
	seen := make(map[string]int)
	check := func(messages []json.RawMessage) {
		for _, text := range messages {
			var m protocol.Message
			require.NoError(t, json.Unmarshal(text, &m))
			require.NoError(t, valid(t, schema, text), "%s", text)
			seen[m.Type+" "+string(m.Kind)]++
		}
	}
	// Of the segments of the fake log no block tells, so the second is an event ahead of all blocks.
	require.Eventually(t, func() bool {
		clear(seen)
		check(n.readFeed(t, protocol.Request{Filters: all, Start: protocol.StartEarliest}))
		return seen["event segment"] == 1
	}, patience, time.Millisecond)
	require.Equal(t, map[string]int{
		"subscribed ": 1, "progress ": 1, "event segment": 1, "event block": 4, "event transaction": 8, "event receipt": 8, "event log": 3,
	}, seen)
	for _, cursor := range []string{"x", "1-1-0-0-0000000000000000", "1-1337-0-0-0000000000000000", "1-1337-99-0-0000000000000000"} {
		check(n.readFeed(t, protocol.Request{Filters: all, Cursor: cursor}))
	}
	require.Equal(t, 4, seen["error "])

	for text, good := range map[string]bool{
		`{"type":"subscribe","filters":[{"kind":"log","address":"0x0100000000000000000000000000000000000000","topics":[null,[],["0x` + strings.Repeat("0", 64) + `"]],"from":[],"to":null}],"credit":5,"start":"0x1f"}`: true,
		`{"type":"subscribe","filters":[{"kind":"block"}],"credit":0,"cursor":"1-1337-42-3-9f86d081884c7d65"}`:                                                                                                          true,
		`{"type":"credit","credit":1}`:                                                                                true,
		`{"type":"credit","credit":0}`:                                                                                false,
		`{"type":"subscribe","filters":[],"credit":0}`:                                                                false,
		`{"type":"subscribe","filters":[{}],"credit":0}`:                                                              false,
		`{"type":"subscribe","filters":[{"kind":"uncle"}],"credit":0}`:                                                false,
		`{"type":"subscribe","filters":[{"kind":"log","emitter":[]}],"credit":0}`:                                     false,
		`{"type":"subscribe","filters":[{"kind":"block","topics":["0x` + strings.Repeat("0", 64) + `"]}],"credit":0}`: false,
		`{"type":"subscribe","filters":[{"kind":"block"}],"credit":0,"start":"12"}`:                                   false,
		`{"type":"subscribe","filters":[{"kind":"block"}],"credit":0,"cursor":"12"}`:                                  false,
		`{"type":"event","kind":"block","cursor":"1-1337-42-3-9f86d081884c7d65","data":{}}`:                           false,
	} {
		require.Equal(t, good, valid(t, schema, []byte(text)) == nil, text)
		if good && strings.Contains(text, "subscribe") {
			_, err := protocol.DecodeRequest([]byte(text))
			require.NoError(t, err, text)
		}
	}
}

// TestFeedHasTheFormsOfTheMethods is invariant 3 for the feed.
func TestFeedHasTheFormsOfTheMethods(t *testing.T) {
	n := startNode(t, Options{Feed: feed.Options{SegmentInterval: time.Millisecond}})
	c := n.dial(t, "http")
	block := n.mine(allTypes()...)
	n.mine(alice.transfer(6)) // it takes two entries each to come to the second segment
	same := func(m protocol.Message, result json.RawMessage) {
		t.Helper()
		require.JSONEq(t, string(result), string(m.Data))
	}
	read := func(kind protocol.Kind) []protocol.Message {
		return events(t, n.readFeed(t, protocol.Request{Filters: []protocol.Filter{{Kind: kind}}, Start: "0x1"}))
	}
	same(read(protocol.KindBlock)[0], call(t, c, "eth_getHeaderByHash", block.Hash()))
	txs, receipts := read(protocol.KindTransaction), read(protocol.KindReceipt)
	require.Equal(t, len(block.Transactions())+1, len(txs))
	for i, tx := range block.Transactions() {
		same(txs[i], call(t, c, "eth_getTransactionByHash", tx.Hash()))
		same(receipts[i], call(t, c, "eth_getTransactionReceipt", tx.Hash()))
	}
	var logs []json.RawMessage
	require.NoError(t, json.Unmarshal(call(t, c, "eth_getLogs", map[string]any{"fromBlock": "0x1"}), &logs))
	for i, m := range read(protocol.KindLog) {
		same(m, logs[i])
	}
	var segments []map[string]any
	require.NoError(t, json.Unmarshal(call(t, c, "log_segments"), &segments))
	require.Contains(t, segments[1], "end")
	delete(segments[1], "end")
	delete(segments[1], "proof")
	want, err := json.Marshal(segments[1])
	require.NoError(t, err)
	var found []protocol.Message
	require.Eventually(t, func() bool { found = read(protocol.KindSegment); return len(found) > 0 }, patience, time.Millisecond)
	same(found[0], want)
}

// TestFeedSelectsWhatGetLogsDoes: random filters, the same JSON for both, the same logs from both.
func TestFeedSelectsWhatGetLogsDoes(t *testing.T) {
	const blocks = 60
	n := startNode(t, Options{})
	c := n.dial(t, "http")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var nonce uint64
	for range blocks {
		txs := []*types.Transaction{alice.transfer(nonce)}
		nonce++
		for range rng.IntN(4) {
			txs = append(txs, alice.emit(nonce, common.Hash{byte(rng.IntN(3))}))
			nonce++
		}
		n.mine(txs...)
	}
	topic := func() any { return common.Hash{byte(rng.IntN(4))} }
	found := 0
	for range 60 {
		filter := map[string]any{}
		switch rng.IntN(4) {
		case 0:
			filter["address"] = emitter
		case 1:
			filter["address"] = []common.Address{emitter, bob.address}
		case 2:
			filter["address"] = bob.address
		}
		switch rng.IntN(6) {
		case 0:
			filter["topics"] = []any{topic()}
		case 1:
			filter["topics"] = []any{[]any{topic(), topic()}}
		case 2:
			filter["topics"] = []any{nil}
		case 3:
			filter["topics"] = []any{nil, topic()} // the logs have one
		case 4:
			filter["topics"] = []any{}
		}
		start := uint64(rng.IntN(blocks + 1))
		filter["fromBlock"] = fmt.Sprintf("%#x", start)
		var want []json.RawMessage
		require.NoError(t, json.Unmarshal(call(t, c, "eth_getLogs", filter), &want))

		delete(filter, "fromBlock")
		filter["kind"] = "log"
		text, err := json.Marshal(filter)
		require.NoError(t, err)
		var f protocol.Filter
		require.NoError(t, json.Unmarshal(text, &f))
		got := events(t, n.readFeed(t, protocol.Request{Filters: []protocol.Filter{f}, Start: fmt.Sprintf("%#x", start)}))
		require.Len(t, got, len(want), "%s from block %d", text, start)
		for i := range want {
			require.JSONEq(t, string(want[i]), string(got[i].Data))
		}
		found += len(want)
	}
	require.NotZero(t, found)
}

// TestFeedIsServedWhereEthIs: who does not show eth_ does not show it by the feed.
func TestFeedIsServedWhereEthIs(t *testing.T) {
	for namespace, want := range map[string]int{"eth": http.StatusOK, "net": http.StatusNotFound} {
		n := startNode(t, Options{Namespaces: []string{namespace}})
		response, err := http.Get("http://" + n.address + "/feed/schema.json")
		require.NoError(t, err)
		response.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		require.Equal(t, want, response.StatusCode, namespace)
	}
}

// TestFeedOutlivesTheServersTimeouts: a stream is not a request that takes too long.
func TestFeedOutlivesTheServersTimeouts(t *testing.T) {
	const timeout = time.Second // also for the request to come in: long enough for a busy machine
	n := startNode(t, Options{ReadTimeout: timeout, WriteTimeout: timeout, MaxSyncTimeout: time.Millisecond, TraceTimeout: time.Millisecond, Feed: feed.Options{Heartbeat: 10 * time.Millisecond}})
	begin := time.Now()
	response, err := http.Get("http://" + n.address + "/feed/sse?kind=block")
	require.NoError(t, err)
	defer response.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	heartbeats := 0
	b := make([]byte, 1<<10)
	for heartbeats <= 5 || time.Since(begin) < timeout*5/4 {
		read, err := response.Body.Read(b)
		require.NoError(t, err)
		heartbeats += bytes.Count(b[:read], []byte(":\n\n"))
	}
	n.mine(alice.transfer(0))
	var got []byte
	for !bytes.Contains(got, []byte("event: block")) {
		read, err := response.Body.Read(b)
		require.NoError(t, err)
		got = append(got, b[:read]...)
	}
}
