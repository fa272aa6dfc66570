package observer_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/logtest"
	"ledgerd/consensus/observer"
	"ledgerd/consensus/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ observer.Peers = (*peer.Peers)(nil)
	_ peer.Log       = ordering{}
)

const (
	patience = 2 * time.Minute
	quick    = 10 * time.Millisecond // CheckInterval
)

func key(n uint64) ed25519.PrivateKey {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("key"), n))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(n uint64) ed25519.PublicKey { return key(n).Public().(ed25519.PublicKey) }

// A net is nodes that know each other, on loopback sockets.
type net struct {
	network   consensus.NetworkID
	directory *peer.Directory // of the members
	own       *peer.Directory // of the observer
	nodes     map[uint64]*peer.Node
	members   []consensus.Member
}

// newNet makes nodes 0 to n-1, of which 0 is to be the observer, and the others are members.
func newNet(tb logtest.TB, network consensus.NetworkID, n uint64) *net {
	tb.Helper()
	c := &net{network: network, directory: peer.NewDirectory(), own: peer.NewDirectory(), nodes: map[uint64]*peer.Node{}}
	view := peer.View{}
	for id := range n {
		view.Observers = append(view.Observers, public(id))
		c.listen(tb, id, "127.0.0.1:0")
		if id > 0 {
			c.members = append(c.members, consensus.Member{ID: id, NodeKey: public(id), PeerAddress: c.nodes[id].Addr().String()})
		}
	}
	c.directory.Set(view)
	c.own.Set(view)
	tb.Cleanup(func() {
		for id, node := range c.nodes {
			if err := node.Close(); err != nil {
				tb.Errorf("close node %d: %v", id, err)
			}
		}
	})
	return c
}

func (c *net) listen(tb logtest.TB, id uint64, address string) {
	tb.Helper()
	roster := c.directory
	if id == 0 {
		roster = c.own
	}
	node, err := peer.Listen(peer.Options{Key: key(id), Network: c.network, Roster: roster, Address: address})
	require.NoError(tb, err)
	c.nodes[id] = node
}

// peers are the others, seen from the observer.
func (c *net) peers() *peer.Peers { return c.nodes[0].Peers(func() []consensus.Member { return nil }) }

// ordering is a bare loglet of the first segment, served as a VirtualLog serves it.
type ordering struct{ consensus.Loglet }

func (o ordering) Append(ctx context.Context, r consensus.Record) (consensus.LSN, error) {
	offset, err := o.Loglet.Append(ctx, r)
	return 1 + consensus.LSN(offset), settle(ctx, err)
}

func (o ordering) Tail(ctx context.Context, c consensus.Consistency) (consensus.LSN, error) {
	tail, err := o.Loglet.Tail(ctx, c)
	return 1 + consensus.LSN(tail.Offset), settle(ctx, err)
}

func (o ordering) Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error) {
	entries, err := o.Loglet.Follow(ctx, consensus.Offset(from-1), limit)
	return entries, settle(ctx, err)
}

func (o ordering) Segments() []consensus.Segment { return nil }

func (o ordering) Status() consensus.Status {
	s := o.Loglet.Status()
	return consensus.Status{Tail: 1 + consensus.LSN(s.Tail), Loglet: s}
}

// settle waits for a next segment, in vain.
func settle(ctx context.Context, err error) error {
	if errors.Is(err, consensus.ErrSealed) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// TestLoglet holds the observer to the contract of all loglets: member 0 of the suite, with which it does most, is the observer, and member 1 orders.
func TestLoglet(t *testing.T) {
	logtest.Run(t, logtest.Harness{Members: 2, New: func(tb logtest.TB, env logtest.Env) logtest.Cluster {
		c := newNet(tb, consensus.NetworkID(sha256.Sum256([]byte("logtest"))), 2)
		return logtest.Cluster{
			Spec: consensus.Spec{Engine: local.Name}, // its Seals hand over to nobody, which one with members must not
			Engine: func(member int) consensus.Engine {
				if member == 0 {
					return consensus.EngineFunc(func(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
						seg.Spec.Members = c.members
						return observer.Engine(observer.Options{Peers: c.peers(), CheckInterval: quick}).Open(ctx, store, seg)
					})
				}
				return consensus.EngineFunc(func(_ context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
					l, err := local.Open(store, seg, local.Options{Now: env.Now})
					if err != nil {
						return nil, err
					}
					c.nodes[1].Serve(ordering{l})
					return l, nil
				})
			},
		}
	}})
}

var network = consensus.NetworkID{1, 2, 3}

func record(n uint64) consensus.Record {
	return consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: n}, Payload: fmt.Append(nil, "payload ", n)}
}

// A world is members that all serve one log, and an observer of it.
type world struct {
	testing.TB
	*net
	ctx   context.Context
	spec  consensus.Spec
	log   *consensus.VirtualLog // of the members
	disk  *vfs.MemFS            // of the observer
	store *consensus.Store
	seen  *observer.Loglet
	stuck chan error
}

func newWorld(t testing.TB, members uint64) *world {
	w := &world{TB: t, net: newNet(t, network, members+1), disk: vfs.NewCrashableMem(), stuck: make(chan error, 16)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	w.ctx = ctx
	w.spec = consensus.Spec{Engine: local.Name, Members: w.members, Admins: []ed25519.PublicKey{public(90)}, Threshold: 1}
	w.log = w.open(nil, consensus.EngineFunc(func(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
		seg.Spec.Members = nil // it is one disk that orders, whoever serves it
		return local.Engine(local.Options{}).Open(ctx, store, seg)
	}))
	for id := uint64(1); id <= members; id++ {
		w.nodes[id].Serve(w.log)
	}
	return w
}

func (w *world) open(disk vfs.FS, engine consensus.Engine) *consensus.VirtualLog {
	w.Helper()
	opts := consensus.Options{NetworkID: network, Genesis: w.spec, Window: 1024, Engines: map[string]consensus.Engine{local.Name: engine}}
	if disk != nil {
		opts.FS, opts.Dir = disk, "log"
	}
	v, err := consensus.Open(w.ctx, opts)
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, v.Close()) })
	return v
}

func (w *world) options() observer.Options {
	return observer.Options{Peers: w.peers(), CheckInterval: quick, OnStuck: func(err error) { w.stuck <- err }}
}

// reason returns why the observer is stuck, when it is.
func (w *world) reason() error {
	w.Helper()
	select {
	case err := <-w.stuck:
		return err
	case <-w.ctx.Done():
		require.FailNow(w, "it is not stuck")
		return nil
	}
}

func (w *world) openStore() {
	w.Helper()
	store, err := consensus.OpenStore(w.ctx, consensus.StoreOptions{
		FS: w.disk, Dir: "log", NetworkID: network, Genesis: w.spec, Window: 1024, OnFatal: func(err error) { w.Errorf("fatal: %v", err) },
	})
	require.NoError(w, err)
	w.store = store
	w.Cleanup(func() { require.NoError(w, store.Close()) })
}

// observe opens the observer.
func (w *world) observe() {
	w.Helper()
	if w.store == nil {
		w.openStore()
	}
	l, err := observer.Open(w.store, w.store.Segments()[0], w.options())
	require.NoError(w, err)
	w.seen = l
	w.Cleanup(func() { require.NoError(w, l.Close()) })
}

// fill appends records numbered from the tail on, straight to the members' log.
func (w *world) fill(n int) {
	w.Helper()
	for range n {
		tail, err := w.log.Tail(w.ctx, consensus.Fast)
		require.NoError(w, err)
		_, err = w.log.Append(w.ctx, record(uint64(tail)))
		require.NoError(w, err)
	}
}

// same waits until the observer has what the members have, and compares it.
func (w *world) same() {
	w.Helper()
	tail, err := w.log.Tail(w.ctx, consensus.Consistent)
	require.NoError(w, err)
	want, err := w.log.Read(w.ctx, 1, tail)
	require.NoError(w, err)
	if len(want) > 0 {
		_, err = w.seen.Follow(w.ctx, consensus.Offset(len(want)-1), 1)
		require.NoError(w, err, "%v", w.seen.Status())
	}
	got, err := w.seen.Read(w.ctx, 0, consensus.Offset(len(want)))
	require.NoError(w, err)
	require.Equal(w, want, got)
}

func (w *world) eventually(condition func(consensus.LogletStatus) bool, what string) {
	w.Helper()
	if !waitFor(w.ctx, func() bool { return condition(w.seen.Status()) }) {
		require.Fail(w, what, "%v", w.seen.Status())
	}
}

func waitFor(ctx context.Context, condition func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// TestFailover kills whoever is being followed, again and again.
func TestFailover(t *testing.T) {
	w := newWorld(t, 3)
	w.observe()
	for range 8 {
		w.fill(50)
		w.same()
		_, err := w.seen.Append(w.ctx, record(1_000_000+uint64(w.seen.Status().Tail)))
		require.NoError(t, err)
		w.same()
		var source uint64
		_, err = fmt.Sscan(w.seen.Status().Detail["from"], &source)
		require.NoError(t, err)
		address := w.nodes[source].Addr().String()
		require.NoError(t, w.nodes[source].Close())
		w.fill(10)
		w.same()
		w.listen(t, source, address)
		w.nodes[source].Serve(w.log)
	}
	require.Empty(t, w.stuck)
}

// TestNobodyServes: a call waits for the others, and ends with its context; then they come.
func TestNobodyServes(t *testing.T) {
	w := newWorld(t, 2)
	w.fill(3)
	for id := uint64(1); id <= 2; id++ {
		w.nodes[id].Serve(nil)
	}
	w.observe()
	w.eventually(func(s consensus.LogletStatus) bool { return s.Detail["problem"] != "" }, "it says what is missing")
	ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := w.seen.Append(ctx, record(9))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = w.seen.Tail(ctx, consensus.Consistent)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	done := make(chan error, 1)
	go func() {
		tail, err := w.seen.Tail(w.ctx, consensus.Consistent)
		if err == nil && tail.Offset != 3 {
			err = fmt.Errorf("tail is %d", tail.Offset)
		}
		done <- err
	}()
	w.nodes[2].Serve(w.log)
	require.NoError(t, <-done)
	w.same()
	w.eventually(func(s consensus.LogletStatus) bool {
		return s.State == observer.StateFollowing && s.Detail["problem"] == ""
	}, "it is over")
}

// A forger changes what it serves.
type forger struct {
	peer.Log
	forge func([]consensus.Entry) []consensus.Entry
}

func (f forger) Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error) {
	entries, err := f.Log.Follow(ctx, from, limit)
	if err != nil {
		return nil, err
	}
	return f.forge(entries), nil
}

// at changes one entry, if it is among them.
func at(lsn consensus.LSN, change func(*consensus.Entry)) func([]consensus.Entry) []consensus.Entry {
	return func(entries []consensus.Entry) []consensus.Entry {
		for i := range entries {
			if entries[i].LSN == lsn {
				change(&entries[i])
			}
		}
		return entries
	}
}

// forgeries of an entry, each with the digest that would make it fit.
func forgeries(v *consensus.VirtualLog, lsn consensus.LSN) map[string]func([]consensus.Entry) []consensus.Entry {
	fitting := func(change func(*consensus.Entry)) func([]consensus.Entry) []consensus.Entry {
		return at(lsn, func(e *consensus.Entry) {
			change(e)
			prev, err := v.DigestAt(context.Background(), lsn-1)
			if err == nil {
				e.Digest = consensus.NextDigest(prev, *e)
			}
		})
	}
	return map[string]func([]consensus.Entry) []consensus.Entry{
		"payload":   at(lsn, func(e *consensus.Entry) { e.Record.Payload = []byte("forged") }),
		"digest":    at(lsn, func(e *consensus.Entry) { e.Digest[0]++ }),
		"epoch":     fitting(func(e *consensus.Entry) { e.Epoch++ }),
		"time back": fitting(func(e *consensus.Entry) { e.UnixMilli = 1 }),
		"an unsigned Seal": fitting(func(e *consensus.Entry) {
			e.Record.App = consensus.AppLog
			e.Record.Payload = consensus.Seal{}.Encode()
		}),
		"a repeated record": fitting(func(e *consensus.Entry) { e.Record = record(2) }),
		"an unsigned claim": fitting(func(e *consensus.Entry) {
			e.Record = consensus.Claim{Member: 1, Epoch: 1, At: 1}.Record()
		}),
		"a Base":             fitting(func(e *consensus.Entry) { e.Record.App = consensus.AppLog; e.Record.Payload = []byte{2, 1} }),
		"of a forged prefix": at(lsn, func(e *consensus.Entry) { e.Digest = consensus.NextDigest(consensus.Digest{7}, *e) }),
	}
}

// TestOneLiar: one member out of three says something else. The others are followed, and nothing of its is applied but what fits.
func TestOneLiar(t *testing.T) {
	for name := range forgeries(nil, 0) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.fill(20)
			forge := forgeries(w.log, 10)[name]
			w.nodes[1].Serve(forger{w.log, forge})
			w.observe()
			w.same()
			w.fill(20)
			w.same()
			require.Equal(t, observer.StateFollowing, w.seen.Status().State)
			require.Empty(t, w.stuck)
		})
	}
}

// TestDiverged: a majority of the members contradicts. It is this node that is wrong, and it stops.
func TestDiverged(t *testing.T) {
	for name := range forgeries(nil, 0) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.fill(20)
			forge := forgeries(w.log, 10)[name]
			w.nodes[3].Serve(nil)
			w.nodes[1].Serve(forger{w.log, forge})
			w.observe()
			w.nodes[2].Serve(forger{w.log, forge})
			err := w.reason()
			require.ErrorIs(t, err, consensus.ErrDiverged)
			require.Contains(t, err.Error(), "2 of 3")
			tail, err := w.seen.Tail(w.ctx, consensus.Fast)
			require.NoError(t, err)
			require.Equal(t, consensus.Offset(9), tail.Offset, "up to the entry in question")
			w.eventually(func(s consensus.LogletStatus) bool { return s.State == consensus.StateFailed }, "failed")
			_, err = w.seen.Append(w.ctx, record(77))
			require.ErrorIs(t, err, consensus.ErrDiverged)
			_, err = w.seen.Tail(w.ctx, consensus.Consistent)
			require.ErrorIs(t, err, consensus.ErrDiverged)
		})
	}
}

// TestRulesDiffer: entries that fit, and are none by this node's rules, of all members that there are.
func TestRulesDiffer(t *testing.T) {
	w := newWorld(t, 1)
	w.fill(3)
	prev := consensus.Digest(network)
	w.nodes[1].Serve(forger{w.log, func(entries []consensus.Entry) []consensus.Entry {
		for i := range entries {
			entries[i].Record = record(5) // the same one
			entries[i].Digest = consensus.NextDigest(prev, entries[i])
			prev = entries[i].Digest
		}
		return entries
	}})
	w.observe()
	err := w.reason()
	require.ErrorIs(t, err, consensus.ErrDiverged)
	require.ErrorContains(t, err, "lsn 2 contradicts")
}

// frozen is the log of a node that is cut off from the others: it serves what it had.
type frozen struct {
	peer.Log
	tail consensus.LSN
}

func (f frozen) Status() consensus.Status {
	s := f.Log.Status()
	s.Tail = f.tail
	return s
}

func (f frozen) Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error) {
	if from >= f.tail {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return f.Log.Follow(ctx, from, int(min(f.tail-from, consensus.DefaultFollowLimit)))
}

// TestCutOffSource: a node that does not fail, but has nothing more, is left for one that has.
func TestCutOffSource(t *testing.T) {
	w := newWorld(t, 2)
	w.fill(10)
	w.nodes[2].Serve(nil)
	w.nodes[1].Serve(frozen{w.log, 6})
	w.observe()
	w.eventually(func(s consensus.LogletStatus) bool { return s.Tail == 5 && s.Detail["from"] == "1" }, "as far as that one is")
	w.nodes[2].Serve(w.log)
	w.same()
	require.Equal(t, "2", w.seen.Status().Detail["from"])
	require.Equal(t, "0", w.seen.Status().Detail["behind"])
}

// TestBehind: the status tells how much is missing.
func TestBehind(t *testing.T) {
	w := newWorld(t, 1)
	w.fill(10)
	hold := make(chan struct{})
	w.nodes[1].Serve(forger{w.log, func(entries []consensus.Entry) []consensus.Entry { <-hold; return entries }})
	w.observe()
	w.eventually(func(s consensus.LogletStatus) bool { return s.Detail["behind"] == "10" }, "nothing yet")
	close(hold)
	w.same()
	w.eventually(func(s consensus.LogletStatus) bool { return s.Detail["behind"] == "0" }, "all")
}

// TestTrimmed: what comes next is gone everywhere. The observer says so, and goes on when somebody comes back who has it.
func TestTrimmed(t *testing.T) {
	w := newWorld(t, 2)
	w.fill(10)
	kept := w.open(nil, observer.Engine(observer.Options{Peers: w.peers(), CheckInterval: quick})) // another's copy
	_, err := kept.Follow(w.ctx, 10, 1)
	require.NoError(t, err)
	require.NoError(t, w.log.Trim(w.ctx, 4))
	w.observe()
	require.ErrorIs(t, w.reason(), observer.ErrNeedsSnapshot)
	w.eventually(func(s consensus.LogletStatus) bool { return s.State == observer.StateTrimmed }, "trimmed")
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
	defer cancel()
	_, err = w.seen.Tail(ctx, consensus.Consistent)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, consensus.ErrTrimmed, "it is not this log that is")
	w.nodes[2].Serve(kept)
	_, err = w.seen.Follow(w.ctx, 9, 1)
	require.NoError(t, err)
	w.eventually(func(s consensus.LogletStatus) bool { return s.State == observer.StateFollowing }, "it is over")
	got, err := w.seen.Read(w.ctx, 0, 10)
	require.NoError(t, err)
	want, err := kept.Read(w.ctx, 1, 11)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// TestCrash: power fails while the observer catches up. What a reader has seen is there, and it goes on from there.
func TestCrash(t *testing.T) {
	w := newWorld(t, 2)
	w.fill(3000)
	for round := range consensus.Offset(6) {
		w.observe()
		_, err := w.seen.Follow(w.ctx, round*500, 1)
		require.NoError(t, err)
		tail, err := w.seen.Tail(w.ctx, consensus.Fast)
		require.NoError(t, err)
		disk := w.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, uint64(round)))})
		require.NoError(t, w.seen.Close())
		require.NoError(t, w.store.Close())
		w.disk = disk
		w.openStore()
		require.GreaterOrEqual(t, w.store.Next(), 1+consensus.LSN(tail.Offset))
		w.fill(10)
	}
	w.observe()
	w.same()
}

// TestLyingAnswer: an append is acknowledged for what is here, not for what a member says.
func TestLyingAnswer(t *testing.T) {
	w := newWorld(t, 1)
	w.fill(3)
	w.observe()
	w.nodes[1].Serve(answering{w.log, func(context.Context, consensus.Record) (consensus.LSN, error) { return 2, nil }})
	_, err := w.seen.Append(w.ctx, record(9))
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
	w.nodes[1].Serve(answering{w.log, func(context.Context, consensus.Record) (consensus.LSN, error) { return 0, consensus.ErrCorrupt }})
	ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = w.seen.Append(ctx, record(9))
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
	require.NotErrorIs(t, err, consensus.ErrCorrupt, "that is another's log")
	w.nodes[1].Serve(answering{w.log, func(context.Context, consensus.Record) (consensus.LSN, error) { return 100, nil }})
	ctx, cancel = context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = w.seen.Append(ctx, record(9))
	require.ErrorIs(t, err, consensus.ErrUnknownFate, "it does not come")
}

// answering is a log that answers appends otherwise.
type answering struct {
	peer.Log
	append func(context.Context, consensus.Record) (consensus.LSN, error)
}

func (a answering) Append(ctx context.Context, r consensus.Record) (consensus.LSN, error) {
	return a.append(ctx, r)
}

// TestFarBehind: a record that an observer forwards while it is more than W entries behind, across a switch, is in the log once.
func TestFarBehind(t *testing.T) {
	w := newWorld(t, 2)
	w.fill(10)
	gate := make(chan struct{})
	for id := uint64(1); id <= 2; id++ {
		w.nodes[id].Serve(gated{w.log, 11, gate})
	}
	v := w.open(nil, observer.Engine(w.options()))
	_, err := v.Follow(w.ctx, 10, 1)
	require.NoError(t, err)
	seal, err := w.log.Append(w.ctx, w.seal(2))
	require.NoError(t, err)
	r := record(1 << 20)
	type answer struct {
		lsn consensus.LSN
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		lsn, err := v.Append(w.ctx, r)
		answers <- answer{lsn, err}
	}()
	require.True(t, waitFor(w.ctx, func() bool {
		tail, err := w.log.Tail(w.ctx, consensus.Fast)
		return err == nil && tail > seal+1
	}))
	w.fill(1500) // W is 1,024
	close(gate)
	got := <-answers
	require.NoError(t, got.err)
	require.Equal(t, seal+1, got.lsn)
	_, err = v.Append(w.ctx, record(1<<20+1)) // behind whatever else the observer may have handed on
	require.NoError(t, err)
	tail, err := v.Tail(w.ctx, consensus.Consistent)
	require.NoError(t, err)
	all, err := v.Read(w.ctx, 1, tail)
	require.NoError(t, err)
	var found []consensus.LSN
	for _, e := range all {
		if e.Record.ID == r.ID {
			found = append(found, e.LSN)
		}
	}
	require.Equal(t, []consensus.LSN{got.lsn}, found)
}

// gated is a log whose entries from an LSN on are not given before a gate is open.
type gated struct {
	peer.Log
	from consensus.LSN
	open chan struct{}
}

func (g gated) Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error) {
	if from >= g.from {
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.Log.Follow(ctx, from, limit)
}

// TestSwitches: an observer follows through the segments of a chain while records are appended at it and at a member.
func TestSwitches(t *testing.T) {
	w := newWorld(t, 2)
	v := w.open(nil, observer.Engine(w.options()))
	ctx, cancel := context.WithCancel(w.ctx)
	var wait sync.WaitGroup
	acked := make([]map[consensus.LSN]consensus.RecordID, 4)
	counts := make([]atomic.Int64, len(acked))
	for a := range acked {
		acked[a] = map[consensus.LSN]consensus.RecordID{}
		wait.Go(func() {
			log := []*consensus.VirtualLog{v, w.log}[a%2]
			for n := uint64(1); ctx.Err() == nil; n++ {
				r := consensus.Record{App: "test", ID: consensus.RecordID{Session: 100 + uint64(a), Seq: n}, Payload: []byte{1}}
				lsn, err := log.Append(ctx, r)
				if err == nil {
					acked[a][lsn] = r.ID
					counts[a].Add(1)
				} else if ctx.Err() == nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	for epoch := consensus.Epoch(2); epoch <= 5; epoch++ {
		for a := range counts { // each of them gets something into each segment
			before := counts[a].Load()
			require.True(t, waitFor(w.ctx, func() bool { return counts[a].Load() > before+1 }), "%v", v.Status())
		}
		log := []*consensus.VirtualLog{v, w.log}[epoch%2] // the Seal, too, comes from the one or the other
		_, err := log.Append(w.ctx, w.seal(epoch))
		require.NoError(t, err)
		require.True(t, waitFor(w.ctx, func() bool { return len(v.Segments()) == int(epoch) }))
	}
	cancel()
	wait.Wait()
	tail, err := v.Tail(w.ctx, consensus.Consistent)
	require.NoError(t, err)
	got, err := v.Read(w.ctx, 1, tail)
	require.NoError(t, err)
	want, err := w.log.Read(w.ctx, 1, tail)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, w.log.Segments(), v.Segments())
	for _, acked := range acked {
		for lsn, id := range acked {
			require.Equal(t, id, got[lsn-1].Record.ID)
		}
	}
	require.Empty(t, w.stuck)
}

// seal is one for the same members again, who are all ready.
func (w *world) seal(epoch consensus.Epoch) consensus.Record {
	q := consensus.Request{NetworkID: network, Epoch: epoch, Spec: w.spec, NotAfter: 1 << 40}
	s := consensus.Seal{Request: q, Signatures: []consensus.Signature{q.Sign(key(90))}}
	for _, m := range w.members {
		s.Ready = append(s.Ready, consensus.SignReady(key(m.ID), q.Hash(), 0, consensus.Digest{}, consensus.Digest{}, 1))
	}
	return s.Record()
}

// TestBootstrap: all members that this node's chain names are gone, and those of today are strangers to it. It begins with one that its configuration names.
func TestBootstrap(t *testing.T) {
	w := newWorld(t, 3)
	w.fill(20)
	w.openStore()
	first := w.store.Segments()
	first[0].Spec.Members = w.members[:2]
	today := w.members[2:]
	w.own.Set(peer.View{Segments: first})
	for id := uint64(1); id <= 2; id++ {
		require.NoError(t, w.nodes[id].Close())
	}
	opts := w.options()
	opts.Peers = w.nodes[0].Peers(func() []consensus.Member { return today })
	l, err := observer.Open(w.store, first[0], opts)
	require.NoError(t, err)
	w.seen = l
	defer func() { require.NoError(t, l.Close()) }()
	w.eventually(func(s consensus.LogletStatus) bool {
		return strings.Contains(s.Detail["problem"], consensus.ErrUnknownNode.Error())
	}, "a stranger is not dialled")
	w.own.Set(peer.View{Segments: first, Bootstrap: today})
	w.same()
}
