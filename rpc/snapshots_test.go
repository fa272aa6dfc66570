package rpc

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSnapshots: what is made is described by its block, those who ask meanwhile wait for the same, and none is begun for whom nothing vouches for.
func TestSnapshots(t *testing.T) {
	kept := &fakeSnapshots{making: make(chan struct{})}
	n := startNode(t, Options{Snapshots: kept})
	n.mine(alice.transfer(0))
	head := n.mine(alice.transfer(1))
	c := n.dial(t, "http")
	answers := make(chan json.RawMessage, 3)
	ask := func() {
		var answer json.RawMessage
		if err := c.CallContext(context.Background(), &answer, "ledger_snapshot"); err != nil {
			t.Error(err)
		}
		answers <- answer
	}
	go ask()
	receive(t, kept.making)
	taken, _ := n.server.heavy.state()
	require.Zero(t, taken, "it keeps nobody from what is heavy")
	gone, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { // not by HTTP: that request might come in when the attempt is over
		_, err := (&ledgerAPI{n.server.node}).Snapshot(gone)
		ended <- err
	}()
	cancel()
	require.ErrorIs(t, receive(t, ended), context.Canceled)
	go ask()
	require.JSONEq(t, "[]", string(call(t, c, "ledger_snapshots")))
	kept.making <- struct{}{}
	first := receive(t, answers)
	// The second has joined the first, or came after it and begins another one, which finds nothing new.
	select {
	case second := <-answers:
		require.Equal(t, first, second)
	case <-kept.making:
		kept.making <- struct{}{}
		require.Equal(t, first, receive(t, answers))
	}
	var form ledgerSnapshot
	require.NoError(t, json.Unmarshal(first, &form))
	require.EqualValues(t, 4, form.LSN)
	require.EqualValues(t, 2, *form.BlockNumber)
	require.Equal(t, head.Hash(), *form.BlockHash)
	require.Equal(t, head.Root(), *form.StateRoot)
	require.Equal(t, byte(4), (*form.Digest)[0])
	require.JSONEq(t, "["+string(first)+"]", string(call(t, c, "ledger_snapshots")))

	stranger := contextOf("192.0.2.1:4711")
	_, err := (&ledgerAPI{n.server.node}).Snapshot(stranger)
	require.ErrorIs(t, err, errNotTrusted)
	_, err = (&ledgerAPI{startNode(t, Options{}).server.node}).Snapshot(t.Context())
	require.ErrorIs(t, err, errNoSnapshots)
}

// TestWhoMayMakeSnapshots is who is trusted with what costs the whole node.
func TestWhoMayMakeSnapshots(t *testing.T) {
	open, closed := &node{}, &node{opts: Options{JWTSecret: testSecret}}
	for _, local := range []string{"127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.2]:1", "127.0.0.1:1#17", ""} {
		require.True(t, open.trusted(contextOf(local)), local)
	}
	for _, remote := range []string{"192.0.2.1:1", "[2001:db8::1]:1#3", "pipe"} {
		require.False(t, open.trusted(contextOf(remote)), remote)
		require.True(t, closed.trusted(contextOf(remote)), "who gets here has shown a token")
	}
}

// TestNoSnapshotForNobody: none is begun when whoever asked has gone, or when nobody would wait for its end.
func TestNoSnapshotForNobody(t *testing.T) {
	kept := &fakeSnapshots{}
	n := startNode(t, Options{Snapshots: kept})
	api := &ledgerAPI{n.server.node}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := api.Snapshot(gone)
	require.ErrorIs(t, err, context.Canceled)
	n.stop()
	_, err = api.Snapshot(t.Context())
	require.ErrorIs(t, err, errStopping)
	require.Empty(t, kept.List())
}

// TestSnapshotEndsWithTheServer: Serve does not return before what it has begun has ended.
func TestSnapshotEndsWithTheServer(t *testing.T) {
	kept := &fakeSnapshots{making: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := startNodeOn(t, l, Options{Snapshots: kept, ShutdownTimeout: 10 * time.Millisecond})
	c := n.dial(t, "http")
	ended := make(chan error, 1)
	go func() { ended <- c.CallContext(context.Background(), new(json.RawMessage), "ledger_snapshot") }()
	receive(t, kept.making)
	n.stop()
	require.Error(t, receive(t, ended))
	require.Empty(t, kept.List())
}

// TestVerify: the answer says how far it came, and an error names the block.
func TestVerify(t *testing.T) {
	n := startNode(t, Options{TraceTimeout: 50 * time.Millisecond})
	c := n.dial(t, "http")
	for nonce := range uint64(3) {
		n.mine(alice.transfer(nonce))
	}
	verify := func(args ...any) (v ledgerVerification) {
		require.NoError(t, json.Unmarshal(call(t, c, "ledger_verify", args...), &v))
		return v
	}
	v := verify("0x1", "latest")
	require.EqualValues(t, 3, v.ToBlock)
	require.EqualValues(t, 3, v.Executed)
	require.Equal(t, n.CurrentHeader().Hash(), v.BlockHash)
	require.Zero(t, verify("earliest", "0x2", false).Executed)

	n.verifyUpTo = 2
	require.EqualValues(t, 2, verify("0x1", "latest").ToBlock)
	_, message, _ := callError(t, c, "ledger_verify", "0x3", "latest")
	require.Equal(t, errTraceTimeout.Error(), message)

	n.badBlock = 2
	code, message, data := callError(t, c, "ledger_verify", "0x1", "latest")
	require.Equal(t, codeDefault, code)
	require.Contains(t, message, "block 2 ("+n.BlockByNumber(2).Hash().Hex()+")")
	require.Equal(t, map[string]any{"blockNumber": "0x2", "blockHash": n.BlockByNumber(2).Hash().Hex()}, data)

	for _, args := range [][]any{{"0x2", "0x1"}, {"0x1", "0x9"}} {
		code, _, _ = callError(t, c, "ledger_verify", args...)
		require.Equal(t, codeInvalidParams, code)
	}
}

// TestVerifyOnDisk is the same with a ledger on disk.
func TestVerifyOnDisk(t *testing.T) {
	l := newRealLedger(t, Options{})
	l.grow(t, 150)
	var v ledgerVerification
	require.NoError(t, json.Unmarshal(call(t, l.client, "ledger_verify", "earliest", "latest"), &v))
	head := l.CurrentHeader()
	require.EqualValues(t, head.Number.Uint64(), v.ToBlock)
	require.EqualValues(t, head.Number.Uint64(), v.Executed)
	require.Equal(t, head.Hash(), v.BlockHash)
	require.Less(t, v.StateRoots, v.Executed, "tries of old states are not kept")
	require.Zero(t, v.LogEntries, "this server has no log")
	_, message, _ := callError(t, l.client, "ledger_snapshot")
	require.Equal(t, errNoSnapshots.Error(), message)
}
