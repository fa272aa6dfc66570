package peer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/peer/peerpb"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

func record(n uint64) consensus.Record {
	return consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: n}, Payload: fmt.Append(nil, "payload ", n)}
}

func openLog(t testing.TB) *consensus.VirtualLog {
	t.Helper()
	v, err := consensus.Open(context.Background(), consensus.Options{
		NetworkID: testNetwork, Genesis: consensus.Spec{Engine: local.Name}, Window: 16,
		Engines: map[string]consensus.Engine{local.Name: local.Engine(local.Options{})},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

func appendAll(t testing.TB, v *consensus.VirtualLog, from, to uint64) {
	t.Helper()
	for n := from; n <= to; n++ {
		lsn, err := v.Append(context.Background(), record(n))
		require.NoError(t, err)
		require.Equal(t, consensus.LSN(n), lsn)
	}
}

// logCluster is a cluster in which nodes 2 and 3 serve one log, and node 1 asks.
func logCluster(t testing.TB, change func(*Options)) (*cluster, *consensus.VirtualLog, *LogClient) {
	v := openLog(t)
	c := newCluster(t, 3, change)
	c.nodes[2].Serve(v)
	c.nodes[3].Serve(v)
	return c, v, c.nodes[1].LogClient(c.members)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestLogService(t *testing.T) {
	c, v, client := logCluster(t, nil)
	ctx := testContext(t)
	tail, err := client.Tail(ctx, consensus.Consistent)
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(1), tail)

	// Forwarded, and forwarded again under the same id: one entry.
	lsn, err := client.Append(ctx, record(1))
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(1), lsn)
	lsn, err = client.Append(ctx, record(1))
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(1), lsn)
	appendAll(t, v, 2, 3000)
	tail, err = client.Tail(ctx, consensus.Fast)
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(3001), tail)

	want, err := v.Read(ctx, 1, 3001)
	require.NoError(t, err)
	got, err := client.Read(ctx, 1, 3001)
	require.NoError(t, err)
	require.Equal(t, want, got, "more than one answer's worth")
	nothing, err := client.Read(ctx, 5, 5)
	require.NoError(t, err)
	require.Empty(t, nothing)
	prev := consensus.Digest(testNetwork)
	for _, e := range got {
		require.NoError(t, e.Verify(prev))
		prev = e.Digest
	}

	fetched, err := client.Fetch(ctx, 3, 2990, 2995)
	require.NoError(t, err)
	require.Equal(t, want[2989:2994], fetched)

	segments, err := client.Segments(ctx)
	require.NoError(t, err)
	require.Equal(t, v.Segments(), segments)
	status, err := client.Status(ctx, 3)
	require.NoError(t, err)
	require.Equal(t, v.Status(), status)
	_, err = client.Status(ctx, 1)
	require.ErrorIs(t, err, consensus.ErrInvalid, "oneself")
	_, err = client.Status(ctx, 99)
	require.ErrorIs(t, err, consensus.ErrInvalid)

	// The hint is asked first, and another if it cannot.
	c.nodes[3].Serve(nil)
	_, err = client.Status(ctx, 3)
	require.ErrorIs(t, err, ErrNotServing)
	fetched, err = client.Fetch(ctx, 3, 1, 2)
	require.NoError(t, err)
	require.Equal(t, want[:1], fetched)
	require.NoError(t, c.nodes[3].Close())
	_, err = client.Status(ctx, 3)
	require.ErrorIs(t, err, ErrNotServing, "and not reached at all")
	for range 20 { // the connection's end may be noticed or not when the call is made
		_, err = client.Tail(ctx, consensus.Fast)
		require.NoError(t, err)
	}
}

func TestSentinelsCross(t *testing.T) {
	_, v, client := logCluster(t, nil)
	ctx := testContext(t)
	appendAll(t, v, 1, 10)
	require.NoError(t, v.Trim(ctx, 4))
	_, err := client.Read(ctx, 4, 8)
	require.ErrorIs(t, err, consensus.ErrTrimmed)
	_, err = client.Fetch(ctx, 2, 11, 12)
	require.ErrorIs(t, err, consensus.ErrUnwritten)
	_, err = client.Fetch(ctx, 2, 12, 11)
	require.ErrorIs(t, err, consensus.ErrInvalid)
	for _, err = range client.Follow(ctx, 2) {
		require.ErrorIs(t, err, consensus.ErrTrimmed, "of all")
	}
	require.ErrorIs(t, err, consensus.ErrTrimmed)
	for _, err = range client.Follow(ctx, 0) {
		require.ErrorIs(t, err, consensus.ErrInvalid)
	}
	require.ErrorIs(t, err, consensus.ErrInvalid)
	_, err = client.Append(ctx, consensus.Record{App: "UPPER", ID: consensus.RecordID{Session: 1, Seq: 1}})
	require.ErrorIs(t, err, consensus.ErrInvalid)
	_, err = client.Append(ctx, consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: 1}, Payload: make([]byte, consensus.MaxRecordBytes)})
	require.ErrorIs(t, err, consensus.ErrTooLarge)
}

// TestServerChecks: the other side does not trust the client to have checked.
func TestServerChecks(t *testing.T) {
	c, v, _ := logCluster(t, nil)
	ctx := testContext(t)
	appendAll(t, v, 1, 3)
	p, err := c.nodes[1].logPeer(c.members()[1])
	require.NoError(t, err)
	_, err = p.client.Append(ctx, connect.NewRequest(&peerpb.AppendRequest{Record: []byte("no record")}))
	require.ErrorIs(t, fromWire(err), consensus.ErrInvalid)
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	_, err = p.client.Append(ctx, connect.NewRequest(&peerpb.AppendRequest{Record: make([]byte, consensus.MaxRecordBytes+1)}))
	require.ErrorIs(t, fromWire(err), consensus.ErrTooLarge)
	_, err = p.client.Append(ctx, connect.NewRequest(&peerpb.AppendRequest{Record: make([]byte, 2*consensus.MaxRecordBytes)}))
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "before it is decoded")
	for _, r := range [][2]uint64{{0, 1}, {2, 2}, {3, 2}} {
		_, err = p.client.Read(ctx, connect.NewRequest(&peerpb.ReadRequest{From: r[0], End: r[1]}))
		require.ErrorIs(t, fromWire(err), consensus.ErrInvalid)
	}
	follow, err := p.client.Follow(ctx, connect.NewRequest(&peerpb.FollowRequest{From: 2, End: 4}))
	require.NoError(t, err)
	require.True(t, follow.Receive())
	require.Len(t, follow.Msg().GetEntries(), 2)
	require.False(t, follow.Receive(), "a range has an end")
	require.NoError(t, follow.Err())
	require.NoError(t, follow.Close())
	_, err = c.nodes[1].logPeer(consensus.Member{ID: 4})
	require.ErrorIs(t, err, ErrNotServing)
	_, err = c.nodes[1].logPeer(consensus.Member{ID: 4, NodeKey: publicOf(44)})
	require.ErrorIs(t, err, ErrNotServing)
}

// TestLargeEntries: what fits the log fits an answer.
func TestLargeEntries(t *testing.T) {
	_, v, client := logCluster(t, nil)
	ctx := testContext(t)
	for n := uint64(1); n <= 12; n++ {
		r := record(n)
		r.Payload = nil
		r.Payload = make([]byte, consensus.MaxRecordBytes-r.Size())
		_, err := client.Append(ctx, r)
		require.NoError(t, err)
	}
	want, err := v.Read(ctx, 1, 13)
	require.NoError(t, err)
	got, err := client.Read(ctx, 1, 13)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// TestFollowResumes kills the node that is being followed, again and again, and gets every entry once.
func TestFollowResumes(t *testing.T) {
	c, v, client := logCluster(t, nil)
	ctx := testContext(t)
	appendAll(t, v, 1, 100)
	next := consensus.LSN(1)
	victim, rounds := uint64(2), 0
	for entries, err := range client.Follow(ctx, 1) {
		require.NoError(t, err)
		for _, e := range entries {
			require.Equal(t, next, e.LSN)
			next++
		}
		tail, err := v.Tail(ctx, consensus.Fast)
		require.NoError(t, err)
		if next < tail {
			continue
		}
		if rounds++; rounds > 6 {
			break
		}
		address := c.nodes[victim].Addr().String()
		require.NoError(t, c.nodes[victim].Close())
		c.listen(t, victim, address).Serve(v)
		victim = 5 - victim
		appendAll(t, v, uint64(tail), uint64(tail)+10)
	}
	require.Equal(t, consensus.LSN(100+6*11+1), next)
}

// TestFollowWaits: an entry that comes is there at once, and whoever has enough leaves nothing behind.
func TestFollowWaits(t *testing.T) {
	c, v, client := logCluster(t, nil)
	for n := uint64(1); n <= 20; n++ {
		next := n
		done := make(chan struct{})
		go func() {
			defer close(done)
			for entries, err := range client.Follow(testContext(t), consensus.LSN(next)) {
				if err == nil && entries[0].LSN == consensus.LSN(next) {
					return
				}
				t.Errorf("follow: %v, %v", entries, err)
				return
			}
		}()
		if n%2 == 0 { // half of them have to wait
			eventually(t, func() bool { return sessions(c.nodes[2])+sessions(c.nodes[3]) > 0 }, "the call is there")
		}
		appendAll(t, v, n, n)
		<-done
		eventually(t, func() bool { return sessions(c.nodes[2])+sessions(c.nodes[3]) == 0 }, "the call is gone")
	}
}

func sessions(n *Node) int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.mu.sessions)
}

// TestLostRightEndsFollow: a right that goes takes the running call with it.
func TestLostRightEndsFollow(t *testing.T) {
	c, v, client := logCluster(t, nil)
	appendAll(t, v, 1, 1)
	ctx, cancel := context.WithCancel(testContext(t))
	got := make(chan consensus.LSN, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for entries, err := range client.Follow(ctx, 1) {
			if err == nil {
				got <- entries[0].LSN
			}
		}
	}()
	require.Equal(t, consensus.LSN(1), <-got)
	c.directory.Set(View{Segments: []consensus.Segment{without(c.seg, 1)}})
	eventually(t, func() bool { return sessions(c.nodes[2])+sessions(c.nodes[3]) == 0 }, "nobody follows any more")
	appendAll(t, v, 2, 2)
	c.directory.Set(View{Segments: []consensus.Segment{c.seg}})
	require.Equal(t, consensus.LSN(2), <-got, "and goes on when it comes back")
	cancel()
	<-done
}

// A shaky log does what was asked and says something else.
type shaky struct {
	Log
	appends atomic.Int64
	answer  func(n int64, lsn consensus.LSN, err error) (consensus.LSN, error)
}

func (s *shaky) Append(ctx context.Context, r consensus.Record) (consensus.LSN, error) {
	lsn, err := s.Log.Append(ctx, r)
	return s.answer(s.appends.Add(1), lsn, err)
}

// TestAppendOfUnknownFate: the client appends again until it knows, and the log has it once.
func TestAppendOfUnknownFate(t *testing.T) {
	c, v, client := logCluster(t, nil)
	ctx := testContext(t)
	log := &shaky{Log: v, answer: func(n int64, lsn consensus.LSN, err error) (consensus.LSN, error) {
		if n%3 != 0 {
			return 0, fmt.Errorf("leader is gone: %w", consensus.ErrUnknownFate)
		}
		return lsn, err
	}}
	c.nodes[2].Serve(log)
	c.nodes[3].Serve(log)
	for n := uint64(1); n <= 10; n++ {
		lsn, err := client.Append(ctx, record(n))
		require.NoError(t, err)
		require.Equal(t, consensus.LSN(n), lsn)
	}
	require.Greater(t, log.appends.Load(), int64(10))

	// When the caller has no more time, it is told what is not known.
	log.answer = func(int64, consensus.LSN, error) (consensus.LSN, error) { return 0, consensus.ErrUnknownFate }
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := client.Append(short, record(11))
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestAppendNobodyServes: surely not in.
func TestAppendNobodyServes(t *testing.T) {
	c, _, _ := logCluster(t, nil)
	c.nodes[2].Serve(nil)
	require.NoError(t, c.nodes[3].Close())
	ctx, cancel := context.WithCancel(testContext(t))
	rounds := 0
	client := c.nodes[1].LogClient(func() []consensus.Member { // is asked at the start of each round
		if rounds++; rounds > 3 {
			cancel()
		}
		return c.members()
	})
	_, err := client.Append(ctx, record(1))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, ErrNotServing)
	require.NotErrorIs(t, err, consensus.ErrUnknownFate)
	_, err = c.nodes[1].LogClient(func() []consensus.Member { return nil }).Tail(context.Background(), consensus.Fast)
	require.ErrorIs(t, err, ErrNotServing, "nobody to ask")
}

// TestServeNilWaits: when it has returned, the log may be closed under nobody's feet.
func TestServeNilWaits(t *testing.T) {
	c, v, client := logCluster(t, nil)
	c.nodes[3].Serve(nil)
	var inside atomic.Int64
	entered := make(chan struct{}, 1)
	c.nodes[2].Serve(&slow{Log: v, inside: &inside, entered: entered})
	failed := make(chan error, 1)
	go func() {
		_, err := client.Tail(context.Background(), consensus.Consistent)
		failed <- err
	}()
	<-entered
	c.nodes[2].Serve(nil)
	require.Zero(t, inside.Load())
	require.ErrorIs(t, <-failed, ErrNotServing)
}

// A slow log answers when its context ends.
type slow struct {
	Log
	inside  *atomic.Int64
	entered chan struct{}
}

func (s *slow) Tail(ctx context.Context, _ consensus.Consistency) (consensus.LSN, error) {
	s.inside.Add(1)
	defer s.inside.Add(-1)
	s.entered <- struct{}{}
	<-ctx.Done()
	return 0, ctx.Err()
}

// liar serves what no log holds.
type liar struct {
	Log
	entries []consensus.Entry
}

func (l liar) Tail(context.Context, consensus.Consistency) (consensus.LSN, error) { return 100, nil }

func (l liar) Follow(context.Context, consensus.LSN, int) ([]consensus.Entry, error) {
	return l.entries, nil
}

// TestNonsenseAnswers: a gap, another place, too much, nothing. The next member is asked.
func TestNonsenseAnswers(t *testing.T) {
	c, v, client := logCluster(t, nil)
	ctx := testContext(t)
	appendAll(t, v, 1, 10)
	good, err := v.Read(ctx, 1, 11)
	require.NoError(t, err)
	for name, entries := range map[string][]consensus.Entry{
		"nothing": nil, "gap": {good[1], good[3]}, "elsewhere": good[4:6], "too much": good[1:6],
	} {
		t.Run(name, func(t *testing.T) {
			c.nodes[3].Serve(liar{v, entries})
			got, err := client.Fetch(ctx, 3, 2, 4)
			require.NoError(t, err)
			require.Equal(t, good[1:3], got, "from the other one")
			c.nodes[2].Serve(nil)
			_, err = client.Fetch(ctx, 3, 2, 4)
			require.ErrorContains(t, err, "no sense")
			require.NotErrorIs(t, err, consensus.ErrInvalid)
			c.nodes[2].Serve(v)
		})
	}
}

func TestErrorsOnTheWire(t *testing.T) {
	for _, w := range wire {
		back := fromWire(overTheWire(t, toWire(fmt.Errorf("doing it: %w", w.sentinel))))
		for _, other := range wire {
			require.Equal(t, other.sentinel == w.sentinel, errors.Is(back, other.sentinel), "%v as %v", w.sentinel, other.sentinel)
		}
		require.Contains(t, back.Error(), "doing it")
	}
	back := fromWire(overTheWire(t, toWire(fmt.Errorf("%w: %w", consensus.ErrUnknownFate, consensus.ErrClosed))))
	require.ErrorIs(t, back, consensus.ErrUnknownFate)
	require.ErrorIs(t, back, consensus.ErrClosed)
	require.False(t, surelyNot(back))
	back = fromWire(overTheWire(t, toWire(fmt.Errorf("read: %w", &consensus.CorruptError{LSN: 7, Cause: errors.New("rot")}))))
	var corrupt *consensus.CorruptError
	require.ErrorAs(t, back, &corrupt)
	require.Equal(t, consensus.LSN(7), corrupt.LSN)
	back = fromWire(overTheWire(t, toWire(errors.New("open /secret/path: no"))))
	require.NotContains(t, back.Error(), "secret")
	require.False(t, surelyNot(back))
	require.ErrorIs(t, fromWire(overTheWire(t, toWire(context.Canceled))), context.Canceled)
	require.ErrorIs(t, fromWire(overTheWire(t, toWire(context.DeadlineExceeded))), context.DeadlineExceeded)
}

// overTheWire takes an error through a real call.
func overTheWire(t *testing.T, err error) error {
	t.Helper()
	_, handler := peerpbconnect.NewLogHandler(failing{err: err})
	client := peerpbconnect.NewLogClient(inProcess{handler}, "http://x")
	_, out := client.Tail(context.Background(), connect.NewRequest(&peerpb.TailRequest{}))
	require.Error(t, out)
	return out
}

type failing struct {
	peerpbconnect.UnimplementedLogHandler
	err error
}

func (f failing) Tail(context.Context, *connect.Request[peerpb.TailRequest]) (*connect.Response[peerpb.TailResponse], error) {
	return nil, f.err
}

// inProcess is an HTTP client without a network.
type inProcess struct{ http.Handler }

func (p inProcess) Do(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}
