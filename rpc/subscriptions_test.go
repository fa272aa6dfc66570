package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	logconsensus "ledgerd/consensus"
	"ledgerd/ledger"
)

// TestSubscriptionsInOrderExactlyOnce: every head and every matching log comes once, in order, on each of several connections,
// and can be queried when it comes (invariant 1).
func TestSubscriptionsInOrderExactlyOnce(t *testing.T) {
	const blocks = 200
	n := startNode(t, Options{})
	type subscriber struct {
		c     *ethclient.Client
		heads chan *types.Header
		logs  chan types.Log
	}
	wanted := common.Hash{31: 2}
	subscribers := make([]subscriber, 3)
	for i := range subscribers {
		s := subscriber{ethclient.NewClient(n.dial(t, "ws")), make(chan *types.Header, blocks), make(chan types.Log, blocks)}
		headSub, err := s.c.SubscribeNewHead(t.Context(), s.heads)
		require.NoError(t, err)
		defer headSub.Unsubscribe()
		logSub, err := s.c.SubscribeFilterLogs(t.Context(), ethereum.FilterQuery{Addresses: []common.Address{emitter}, Topics: [][]common.Hash{{wanted}}}, s.logs)
		require.NoError(t, err)
		defer logSub.Unsubscribe()
		subscribers[i] = s
	}
	go func() {
		for i := range blocks {
			n.mine(alice.emit(uint64(2*i), common.Hash{31: byte(i % 3)}), alice.emit(uint64(2*i+1), common.Hash{31: 9}))
		}
	}()
	for _, s := range subscribers {
		for number := uint64(1); number <= blocks; number++ {
			h := receive(t, s.heads)
			require.Equal(t, number, h.Number.Uint64())
			if number%50 == 0 {
				_, err := s.c.BlockByHash(t.Context(), h.Hash())
				require.NoError(t, err)
			}
		}
		for number := uint64(3); number <= blocks; number += 3 {
			l := receive(t, s.logs)
			require.Equal(t, number, l.BlockNumber)
			require.Equal(t, wanted, l.Topics[0])
		}
		require.Empty(t, s.heads)
		require.Empty(t, s.logs)
	}
}

func TestPendingTransactionSubscriptions(t *testing.T) {
	n := startNode(t, Options{})
	c := n.dial(t, "ws")
	hashes, objects := make(chan common.Hash, 9), make(chan map[string]any, 9)
	sub, err := c.EthSubscribe(t.Context(), hashes, "newPendingTransactions")
	require.NoError(t, err)
	defer sub.Unsubscribe()
	sub, err = c.EthSubscribe(t.Context(), objects, "newPendingTransactions", true)
	require.NoError(t, err)
	defer sub.Unsubscribe()
	for nonce := range uint64(5) {
		tx := alice.transfer(nonce)
		require.NoError(t, ethclient.NewClient(c).SendTransaction(t.Context(), tx))
		require.Equal(t, tx.Hash(), receive(t, hashes))
		object := receive(t, objects)
		require.Equal(t, tx.Hash().Hex(), object["hash"])
		require.Nil(t, object["blockHash"])
		require.Contains(t, object, "transactionIndex")
	}
}

func TestUnsubscribe(t *testing.T) {
	n := startNode(t, Options{MaxSubscriptions: 2})
	c := n.dial(t, "ws")
	var ids [2]string
	for i := range ids {
		require.NoError(t, c.Call(&ids[i], "eth_subscribe", "newHeads"))
	}
	code, message, _ := callError(t, c, "eth_subscribe", "newHeads")
	require.Equal(t, codeLimitExceeded, code)
	require.Equal(t, "too many subscriptions on one connection, at most 2", message)
	for _, method := range []string{"logs", "syncing"} {
		code, _, _ = callError(t, c, "eth_subscribe", method)
		require.Less(t, code, 0, method)
	}
	count := func() float64 {
		return valueOf(n.server.metrics.subscriptions.WithLabelValues("newHeads"))
	}
	require.EqualValues(t, 2, count())
	require.Equal(t, "true", string(call(t, c, "eth_unsubscribe", ids[0])))
	eventually(t, "one is left", func() bool { return count() == 1 })
	c.Close()
	eventually(t, "a closed connection leaves none", func() bool { return count() == 0 })
}

// smallBuffers is a listener whose connections take little before a write blocks.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

// smallReader dials websockets whose receive buffer has so many bytes.
type smallReader int

func (size smallReader) dial(address string) (*websocket.Conn, error) {
	dialer := websocket.Dialer{NetDial: func(network, address string) (net.Conn, error) {
		c, err := net.Dial(network, address)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(int(size))
		}
		return c, err
	}}
	conn, _, err := dialer.Dial("ws://"+address, nil)
	return conn, err
}

// TestReasonReachesATalker: a client that goes on sending is told why its connection ends, though there is more to read before the reason than it has room
// for, and announcements go on. A connection that is closed under what the client sends is reset, and what is on its way to it is lost.
func TestReasonReachesATalker(t *testing.T) {
	n := startNode(t, Options{})
	conn, err := smallReader(16 << 10).dial(n.address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`)))
	_, _, err = conn.ReadMessage()
	require.NoError(t, err)
	const backlog = 80
	for nonce := range uint64(backlog) {
		n.mine(alice.transfer(nonce))
	}
	talk := func() error {
		return conn.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","method":"eth_chainId"}`)) // a notification has no answer
	}
	n.server.sockets.mu.Lock()
	for _, sock := range n.server.sockets.mu.open {
		go n.server.sockets.end(sock, websocket.CloseTryAgainLater, "slow consumer")
	}
	n.server.sockets.mu.Unlock()
	for said := 0; said < 5000 && talk() == nil; said++ {
	}
	n.mine(alice.transfer(backlog)) // an announcement that cannot be written any more does not close the connection
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	for err == nil {
		_, _, err = conn.ReadMessage()
	}
	require.True(t, websocket.IsCloseError(err, websocket.CloseTryAgainLater), "%v", err)
}

// TestSlowConsumer: a client that stops reading holds up nobody, is cut off with code 1013 and counted, and what it got before that
// has no gap (invariant 2).
func TestSlowConsumer(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := startNodeOn(t, smallBuffers{inner}, Options{MaxQueueBytes: 20_000})
	slow, err := smallReader(4096).dial(n.address)
	require.NoError(t, err)
	defer slow.Close()
	require.NoError(t, slow.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`)))
	_, _, err = slow.ReadMessage()
	require.NoError(t, err)

	heads := make(chan *types.Header, 10_000)
	sub, err := ethclient.NewClient(n.dial(t, "ws")).SubscribeNewHead(t.Context(), heads)
	require.NoError(t, err)
	defer sub.Unsubscribe()
	mined := uint64(0)
	for valueOf(n.server.metrics.slow) == 0 {
		require.Less(t, mined, uint64(10_000))
		n.mine(alice.transfer(mined))
		mined++
		require.Equal(t, mined, receive(t, heads).Number.Uint64(), "another client goes on")
	}

	require.NoError(t, slow.SetReadDeadline(time.Now().Add(patience)))
	for number := uint64(1); ; number++ {
		_, message, err := slow.ReadMessage()
		if err != nil {
			var closed *websocket.CloseError
			require.True(t, errors.As(err, &closed), "%v", err)
			require.Equal(t, websocket.CloseTryAgainLater, closed.Code)
			require.Contains(t, closed.Text, "slow consumer")
			break
		}
		require.Contains(t, string(message), fmt.Sprintf(`"number":"%#x"`, number))
	}
	eventually(t, "only the other one is left", func() bool {
		return valueOf(n.server.metrics.websockets) == 1
	})
}

// TestIntakeOverflow: heads that the intake had to drop are announced all the same, from the store.
func TestIntakeOverflow(t *testing.T) {
	const blocks = maxIntakeHeads + 20
	chain := newFakeChain(t)
	server, err := New(chain, fakePool{chain}, nil, Options{})
	require.NoError(t, err)
	hub := server.hub
	var got []string
	sub := &subscriber{kind: "test", onHead: func(a *announcement) []json.RawMessage {
		return []json.RawMessage{encode(fmt.Sprintf("%d: %d logs", a.Block.NumberU64(), len(a.Logs))), a.encodedLog(0)}
	}}
	hub.subscribe(sub)
	events := make(chan ledger.HeadEvent, blocks)
	feed := chain.SubscribeHeads(events)
	defer feed.Unsubscribe()
	for i := range blocks {
		chain.mine(alice.emit(uint64(i), common.Hash{31: byte(i)}))
		hub.takeHead(<-events)
	}
	heads, _ := hub.takeIntake()
	require.Len(t, heads, maxIntakeHeads)
	next := uint64(1)
	for _, ev := range heads {
		next = hub.dispatchFrom(next, ev)
	}
	require.EqualValues(t, blocks+1, next)
	require.Equal(t, next, hub.dispatchFrom(next, heads[0]), "an old head is not announced again")
	require.EqualValues(t, 20, valueOf(server.metrics.reloaded))
	for _, m := range sub.takeAll() {
		got = append(got, string(m))
	}
	require.Len(t, got, 2*blocks)
	for i := range blocks {
		require.Equal(t, fmt.Sprintf(`"%d: 1 logs"`, i+1), got[2*i])
		require.Contains(t, got[2*i+1], common.Hash{31: byte(i)}.Hex())
	}
}

// TestQueue: all or none of an announcement is queued, an empty queue takes any size, and after an overflow nothing is.
func TestQueue(t *testing.T) {
	overflows := 0
	s := &subscriber{limit: 10, wake: make(chan struct{}, 1), onOverflow: func() { overflows++ }}
	message := func(size int) []json.RawMessage { return []json.RawMessage{make([]byte, size)} }
	s.offer(message(50))
	_, ok := s.take()
	require.True(t, ok)
	_, ok = s.take()
	require.False(t, ok)
	s.offer(message(4))
	s.offer(message(6))
	require.Zero(t, overflows)
	s.offer(message(1))
	s.offer(message(1))
	require.Equal(t, 1, overflows)
	require.True(t, s.overflown())
	require.Empty(t, s.takeAll())
}

// TestSyncingSubscription: a node that has caught up says so once; one that is behind tells how far it is until it has.
func TestSyncingSubscription(t *testing.T) {
	n := startNode(t, Options{SyncingInterval: time.Millisecond})
	behind := func(lsns logconsensus.LSN) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.behind = lsns
	}
	states := make(chan json.RawMessage, 1)
	sub, err := n.dial(t, "ws").EthSubscribe(t.Context(), states, "syncing")
	require.NoError(t, err)
	defer sub.Unsubscribe()
	require.Equal(t, "false", string(receive(t, states)))
	behind(65)
	require.JSONEq(t, `{"syncing":true,"status":{"startingBlock":"0x0","currentBlock":"0x0","highestBlock":"0x41"}}`, string(receive(t, states)))
	behind(64)
	for string(receive(t, states)) != "false" {
	}
}
