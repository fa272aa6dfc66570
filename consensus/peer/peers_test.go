package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/peer/peerpb"
)

// A taking log has what a log that takes part in reconfigurations has.
type taking struct {
	Log
	end      func(consensus.Epoch) (consensus.SegmentEnd, bool, error)
	prepare  func(consensus.Prepare) (consensus.Ready, error)
	observes bool
}

func (l *taking) SegmentEnd(_ context.Context, epoch consensus.Epoch) (consensus.SegmentEnd, bool, error) {
	return l.end(epoch)
}

func (l *taking) Prepare(_ context.Context, p consensus.Prepare) (consensus.Ready, error) {
	return l.prepare(p)
}

func (l *taking) Status() consensus.Status {
	s := l.Log.Status()
	if l.observes {
		s.Role = consensus.Observes.String()
	}
	return s
}

// sealedLog is the log of some members, whose first segment has ended, and how.
func sealedLog(t testing.TB, members []consensus.Member) (*consensus.VirtualLog, consensus.Request, consensus.SegmentEnd) {
	t.Helper()
	spec := consensus.Spec{Engine: local.Name, Members: members, Admins: []ed25519.PublicKey{publicOf(90)}, Threshold: 1}
	alone := consensus.EngineFunc(func(_ context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
		seg.Spec.Members = nil // it is one disk that orders, whoever serves it
		return local.Open(store, seg, local.Options{})
	})
	v, err := consensus.Open(context.Background(), consensus.Options{
		NetworkID: testNetwork, Genesis: spec, Engines: map[string]consensus.Engine{local.Name: alone},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	appendAll(t, v, 1, 3)
	q := consensus.Request{NetworkID: testNetwork, Epoch: 2, Spec: spec, NotAfter: 100}
	seal := consensus.Seal{Request: q, Signatures: []consensus.Signature{q.Sign(testKey(90))}}
	for _, m := range members {
		seal.Ready = append(seal.Ready, consensus.SignReady(testKey(m.ID), q.Hash(), 3, consensus.Digest{1}, consensus.Digest{2}, 3))
	}
	lsn, err := v.Append(context.Background(), seal.Record())
	require.NoError(t, err)
	entries, err := v.Read(context.Background(), lsn, lsn+1)
	require.NoError(t, err)
	return v, q, consensus.SegmentEnd{Seal: entries[0], Proof: []byte("proof")}
}

func TestSegmentEnd(t *testing.T) {
	c := newCluster(t, 4, nil)
	v, _, end := sealedLog(t, c.members()[:3]) // the fourth is only known
	seg := v.Segments()[0]
	ctx := testContext(t)
	peers := c.nodes[1].Peers(func() []consensus.Member { return c.members()[3:] })
	unknown := func(consensus.Epoch) (consensus.SegmentEnd, bool, error) { return consensus.SegmentEnd{}, false, nil }
	serve := func(id uint64, end func(consensus.Epoch) (consensus.SegmentEnd, bool, error)) {
		c.nodes[id].Serve(&taking{Log: v, end: end})
	}
	knows := func(e consensus.Epoch) (consensus.SegmentEnd, bool, error) { return end, e == 1, nil }

	_, ok, err := peers.SegmentEnd(ctx, seg)
	require.ErrorIs(t, err, ErrNotServing, "nobody serves")
	require.False(t, ok)
	c.nodes[2].Serve(plain{v})
	_, _, err = peers.SegmentEnd(ctx, seg)
	require.ErrorIs(t, err, ErrNotServing, "a log that cannot tell is no answer")

	serve(2, unknown)
	_, ok, err = peers.SegmentEnd(ctx, seg)
	require.NoError(t, err, "one answer is enough")
	require.False(t, ok)
	serve(3, knows)
	got, ok, err := peers.SegmentEnd(ctx, seg)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, end, got)
	serve(3, unknown)
	serve(4, knows)
	got, ok, err = peers.SegmentEnd(ctx, seg)
	require.NoError(t, err)
	require.True(t, ok, "no member, but known")
	require.Equal(t, end, got)

	// What does not end the segment is no answer.
	forged := end
	forged.Seal.Record.Payload = append([]byte(nil), end.Seal.Record.Payload...)
	forged.Seal.Record.Payload[20]++
	for name, bad := range map[string]consensus.SegmentEnd{"forged": forged, "of another epoch": {Seal: with(end.Seal, func(e *consensus.Entry) { e.Epoch = 2 })}} {
		serve(4, func(consensus.Epoch) (consensus.SegmentEnd, bool, error) { return bad, true, nil })
		_, ok, err = peers.SegmentEnd(ctx, seg)
		require.NoError(t, err, name)
		require.False(t, ok, name)
		c.nodes[2].Serve(nil)
		c.nodes[3].Serve(nil)
		_, _, err = peers.SegmentEnd(ctx, seg)
		require.ErrorContains(t, err, "no sense", name)
		require.NotErrorIs(t, err, consensus.ErrInvalid, name)
		serve(2, unknown)
	}

	// A recovery is believed before a Seal, which members that were not fenced may have ordered since; of two recoveries, the later.
	recovery := func(count uint64) consensus.SegmentEnd {
		r := consensus.Recovery{NetworkID: seg.Network, Epoch: 2, Count: count, Base: 2, Digest: consensus.Digest{1}, Spec: seg.Spec}
		return consensus.SegmentEnd{Recovery: &consensus.SignedRecovery{Recovery: r, Signatures: []consensus.Signature{r.Sign(testKey(90))}}}
	}
	telling := func(end consensus.SegmentEnd, after <-chan struct{}) func(consensus.Epoch) (consensus.SegmentEnd, bool, error) {
		return func(consensus.Epoch) (consensus.SegmentEnd, bool, error) {
			<-after
			return end, true, nil
		}
	}
	now, told := make(chan struct{}), make(chan struct{})
	close(now)
	serve(2, func(e consensus.Epoch) (consensus.SegmentEnd, bool, error) {
		defer close(told)
		return knows(e)
	})
	serve(3, telling(recovery(2), told))
	serve(4, telling(recovery(1), now))
	got, ok, err = peers.SegmentEnd(ctx, seg)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, recovery(2).Encode(), got.Encode())
	serve(2, unknown)

	// One that does not answer does not stand in the way of one that knows, and at the end of the time the others' answers count.
	hang := make(chan struct{})
	defer close(hang)
	serve(3, func(consensus.Epoch) (consensus.SegmentEnd, bool, error) {
		<-hang
		return consensus.SegmentEnd{}, false, nil
	})
	serve(4, knows)
	_, ok, err = peers.SegmentEnd(ctx, seg)
	require.NoError(t, err)
	require.True(t, ok)
	serve(4, unknown)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, ok, err = peers.SegmentEnd(short, seg)
	require.NoError(t, err)
	require.False(t, ok)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err = peers.SegmentEnd(ended, seg)
	require.ErrorIs(t, err, context.Canceled)
}

func with(e consensus.Entry, change func(*consensus.Entry)) consensus.Entry {
	change(&e)
	return e
}

func TestPrepare(t *testing.T) {
	c := newCluster(t, 2, nil)
	v, q, _ := sealedLog(t, c.members())
	ctx := testContext(t)
	peers := c.nodes[1].Peers(func() []consensus.Member { return nil })
	m := c.members()[1]
	asked := consensus.Prepare{Request: q, Signatures: []consensus.Signature{q.Sign(testKey(90))}, At: 3}
	sign := func(key uint64, p consensus.Prepare) consensus.Ready {
		return consensus.SignReady(testKey(key), p.Request.Hash(), p.At, consensus.Digest{1}, consensus.Digest{2}, 3)
	}
	var got consensus.Prepare
	answer := func(p consensus.Prepare) (consensus.Ready, error) { got = p; return sign(2, p), nil }
	c.nodes[2].Serve(&taking{Log: v, prepare: func(p consensus.Prepare) (consensus.Ready, error) { return answer(p) }})

	ready, err := peers.Prepare(ctx, m, asked)
	require.NoError(t, err)
	require.Equal(t, sign(2, asked), ready)
	require.Equal(t, asked.Encode(), got.Encode())

	later := asked
	later.At++
	other := asked
	other.Request.NotAfter++
	for name, lie := range map[string]func(consensus.Prepare) (consensus.Ready, error){
		"another's":       func(p consensus.Prepare) (consensus.Ready, error) { return sign(1, p), nil },
		"of another lsn":  func(consensus.Prepare) (consensus.Ready, error) { return sign(2, later), nil },
		"another request": func(consensus.Prepare) (consensus.Ready, error) { return sign(2, other), nil },
		"none":            func(consensus.Prepare) (consensus.Ready, error) { return consensus.Ready{}, nil },
	} {
		answer = lie
		_, err = peers.Prepare(ctx, m, asked)
		require.ErrorContains(t, err, "no sense", name)
	}
	for _, kind := range []error{consensus.ErrNotMember, consensus.ErrDiverged, consensus.ErrUnwritten, consensus.ErrInvalid} {
		answer = func(consensus.Prepare) (consensus.Ready, error) {
			return consensus.Ready{}, fmt.Errorf("prepare: %w", kind)
		}
		_, err = peers.Prepare(ctx, m, asked)
		require.ErrorIs(t, err, kind)
	}
	_, err = peers.Prepare(ctx, c.members()[0], asked)
	require.ErrorIs(t, err, consensus.ErrInvalid, "oneself")
	stranger := m
	stranger.NodeKey = testKey(77).Public().(ed25519.PublicKey)
	_, err = peers.Prepare(ctx, stranger, asked)
	require.ErrorIs(t, err, consensus.ErrUnknownNode)
	require.ErrorIs(t, err, ErrNotServing)
	c.nodes[2].Serve(plain{v})
	_, err = peers.Prepare(ctx, m, asked)
	require.ErrorIs(t, err, ErrNotServing)
	p, err := c.nodes[1].logPeer(m)
	require.NoError(t, err)
	c.nodes[2].Serve(&taking{Log: v})
	_, err = p.client.Prepare(ctx, connect.NewRequest(&peerpb.PrepareRequest{Prepare: []byte("nonsense")}))
	require.ErrorIs(t, fromWire(err), consensus.ErrInvalid, "before the log sees it")
}

func TestStatusOfOne(t *testing.T) {
	c, v, _ := logCluster(t, nil)
	ctx := testContext(t)
	peers := c.nodes[1].Peers(func() []consensus.Member { return nil })
	want := consensus.Status{
		NetworkID: testNetwork, Epoch: 1, Base: 2, Engine: "local", Tail: 3, Trimmed: 4, Role: "orders", Based: true,
		Prepared: []consensus.Digest{{1}, {2}}, Dissent: map[uint64]consensus.LSN{3: 4, 5: 6}, Problem: "none", Notice: "so",
		Loglet: consensus.LogletStatus{Engine: "raft", Epoch: 7, State: "failed", Tail: 8, Sealed: true, Detail: map[string]string{"a": "b"}},
	}
	for _, part := range []reflect.Value{reflect.ValueOf(want), reflect.ValueOf(want.Loglet)} {
		for i := range part.NumField() {
			require.False(t, part.Field(i).IsZero(), "%s: a field that is added must be told, and stand here", part.Type().Field(i).Name)
		}
	}
	c.nodes[3].Serve(telling{v, want})
	status, err := peers.Status(ctx, c.members()[2])
	require.NoError(t, err)
	require.Equal(t, want, status)
	_, err = peers.Status(ctx, c.members()[0])
	require.ErrorIs(t, err, consensus.ErrInvalid, "oneself")
	_, err = peers.Status(ctx, consensus.Member{ID: 3})
	require.ErrorIs(t, err, consensus.ErrInvalid, "no key")
	c.nodes[3].Serve(nil)
	_, err = peers.Status(ctx, c.members()[2])
	require.ErrorIs(t, err, ErrNotServing, "and no other is asked")
	require.NoError(t, c.nodes[1].Close())
	_, err = peers.Status(ctx, c.members()[1])
	require.ErrorIs(t, err, consensus.ErrClosed)
	require.ErrorIs(t, err, ErrNotServing)
}

// TestFollowOne: one node is followed, and no other takes its place.
func TestFollowOne(t *testing.T) {
	c, v, _ := logCluster(t, nil)
	ctx := testContext(t)
	appendAll(t, v, 1, 10)
	peers := c.nodes[1].Peers(func() []consensus.Member { return nil })
	enough := errors.New("enough")
	next := consensus.LSN(4)
	err := peers.Follow(ctx, c.members()[1], next, func(entries []consensus.Entry) error {
		for _, e := range entries {
			require.Equal(t, next, e.LSN)
			next++
		}
		if next > 10 {
			return enough
		}
		return nil
	})
	require.Equal(t, enough, err, "as it is")
	err = peers.Follow(ctx, c.members()[1], 10, func([]consensus.Entry) error { c.nodes[2].Serve(nil); return nil })
	require.ErrorIs(t, err, ErrNotServing)
	require.NoError(t, v.Trim(ctx, 5))
	err = peers.Follow(ctx, c.members()[2], 5, func([]consensus.Entry) error { return enough })
	require.ErrorIs(t, err, consensus.ErrTrimmed)
	err = peers.Follow(ctx, c.members()[0], 5, nil)
	require.ErrorIs(t, err, consensus.ErrInvalid)
}

// TestObserversTakeNothing: what is appended at a node that observes goes to one that orders, and not round in circles.
func TestObserversTakeNothing(t *testing.T) {
	c, v, client := logCluster(t, nil)
	ctx := testContext(t)
	var passed atomic.Int64
	follower := &shaky{Log: v, answer: func(int64, consensus.LSN, error) (consensus.LSN, error) {
		passed.Add(1)
		return 0, consensus.ErrUnknownFate
	}}
	c.nodes[2].Serve(&taking{Log: follower, observes: true})
	only := c.nodes[1].Peers(func() []consensus.Member { return nil })
	for n := uint64(1); n <= 3; n++ {
		lsn, err := client.Append(ctx, record(n))
		require.NoError(t, err)
		require.Equal(t, consensus.LSN(n), lsn)
	}
	_, err := only.Tail(ctx, c.members()[1:2], consensus.Consistent)
	require.ErrorIs(t, err, ErrNotServing)
	tail, err := only.Tail(ctx, c.members()[1:2], consensus.Fast)
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(4), tail)
	tail, err = only.Tail(ctx, c.members(), consensus.Consistent)
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(4), tail)
	require.Zero(t, passed.Load())
	lsn, err := only.Append(ctx, c.members(), record(4))
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(4), lsn)
}

// A plain log has the methods of a Log, and no others.
type plain struct{ Log }

// A telling log tells this of itself.
type telling struct {
	Log
	status consensus.Status
}

func (l telling) Status() consensus.Status { return l.status }
