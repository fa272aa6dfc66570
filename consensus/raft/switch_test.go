package raft_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/raft"
)

// A village is a network of nodes with whole logs, which reconfigure it.
type village struct {
	testing.TB
	ctx   context.Context
	net   *network
	admin ed25519.PrivateKey
	spec  consensus.Spec // of the first segment
	nodes []*villager
}

type villager struct {
	village *village
	id      uint64
	key     ed25519.PrivateKey
	disk    vfs.FS

	mu  sync.Mutex
	log *consensus.VirtualLog // nil while the node is off
}

func key(name string, n int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Append(nil, name, n))
	return ed25519.NewKeyFromSeed(seed[:])
}

// newVillage makes a village whose first members are on.
func newVillage(t testing.TB, nodes int, members ...uint64) *village {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	v := &village{TB: t, ctx: ctx, net: newNetwork(1), admin: key("administrator", 0)}
	t.Cleanup(v.net.close)
	for i := range nodes {
		v.nodes = append(v.nodes, &villager{village: v, id: uint64(i) + 1, key: key("node", i), disk: vfs.NewCrashableMem()})
	}
	v.spec = v.specOf(raft.Name, members...)
	for _, n := range v.nodes {
		n.init(slices.Contains(members, n.id))
	}
	t.Cleanup(func() {
		for _, n := range v.nodes {
			n.stop()
		}
	})
	return v
}

func (v *village) specOf(engine string, members ...uint64) consensus.Spec {
	s := consensus.Spec{Engine: engine, Admins: []ed25519.PublicKey{v.admin.Public().(ed25519.PublicKey)}, Threshold: 1}
	for _, id := range members {
		s.Members = append(s.Members, consensus.Member{ID: id, NodeKey: v.nodes[id-1].key.Public().(ed25519.PublicKey)})
	}
	return s
}

// init makes a home; a member's disk is vouched for.
func (n *villager) init(member bool) {
	store, err := consensus.OpenStore(n.village.ctx, consensus.StoreOptions{FS: n.disk, Dir: "log", NetworkID: testNetwork, Genesis: n.village.spec})
	require.NoError(n.village, err)
	if member {
		require.NoError(n.village, store.Vouch(1))
	}
	require.NoError(n.village, store.Close())
}

func (n *villager) start() {
	v := n.village
	log, err := consensus.Open(v.ctx, consensus.Options{
		FS: n.disk, Dir: "log", NetworkID: testNetwork, Genesis: v.spec,
		Engines: map[string]consensus.Engine{
			raft.Name:  memberEngine{n},
			local.Name: local.Engine(local.Options{}),
		},
		Observe:  consensus.EngineFunc(n.observe),
		Self:     n.key,
		Peers:    n,
		Switcher: consensus.SwitcherOptions{AskAfter: 200 * time.Millisecond},
		Attempt:  consensus.AttemptOptions{Grace: 100 * time.Millisecond},
		OnFatal:  func(err error) { v.Errorf("node %d: %v", n.id, err) },
	})
	require.NoError(v, err, "node %d", n.id)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = log
}

func (n *villager) stop() {
	n.mu.Lock()
	log := n.log
	n.log = nil
	n.mu.Unlock()
	if log != nil {
		require.NoError(n.village, log.Close())
	}
}

func (n *villager) on() (*consensus.VirtualLog, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.log == nil {
		return nil, errors.New("node is off")
	}
	return n.log, nil
}

// memberEngine is raft as whoever the segment says that the node is.
type memberEngine struct{ n *villager }

func (e memberEngine) Open(ctx context.Context, s *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	self, ok := seg.Spec.Member(e.n.key.Public().(ed25519.PublicKey))
	if !ok {
		return nil, consensus.ErrNotMember
	}
	o := quick()
	o.Self, o.Transport, o.Fetcher = self.ID, e.n.village.net, e.n
	return raft.Engine(o).Open(ctx, s, seg)
}

func (memberEngine) Prepare(context.Context, *consensus.Store, consensus.Segment) error { return nil }

// by returns the node of a member.
func (v *village) by(m consensus.Member) (*consensus.VirtualLog, error) {
	for _, n := range v.nodes {
		if n.key.Public().(ed25519.PublicKey).Equal(m.NodeKey) {
			return n.on()
		}
	}
	return nil, errors.New("no such node")
}

// SegmentEnd is consensus.Peers'.
func (n *villager) SegmentEnd(ctx context.Context, seg consensus.Segment) (end consensus.SegmentEnd, ok bool, err error) {
	err = errors.New("nobody answers")
	for _, other := range n.village.nodes {
		log, off := other.on()
		if other == n || off != nil {
			continue
		}
		if end, ok, err = log.SegmentEnd(ctx, seg.Epoch); err == nil && ok {
			return end, true, end.Verify(seg)
		}
	}
	return end, false, err
}

// Prepare is consensus.Peers'.
func (n *villager) Prepare(ctx context.Context, m consensus.Member, p consensus.Prepare) (consensus.Ready, error) {
	log, err := n.village.by(m)
	if err != nil {
		return consensus.Ready{}, err
	}
	return log.Prepare(ctx, p)
}

// Status is consensus.Peers'.
func (n *villager) Status(_ context.Context, m consensus.Member) (consensus.Status, error) {
	log, err := n.village.by(m)
	if err != nil {
		return consensus.Status{}, err
	}
	return log.Status(), nil
}

// Fetch is raft.Fetcher's.
func (n *villager) Fetch(ctx context.Context, _ uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
	for _, other := range n.village.nodes {
		if log, err := other.on(); err == nil && other != n && log.Status().Tail >= end {
			return log.Follow(ctx, from, int(end-from))
		}
	}
	return nil, errors.New("nobody has it")
}

func (v *village) request(epoch consensus.Epoch, spec consensus.Spec) (consensus.Request, []consensus.Signature) {
	q := consensus.Request{NetworkID: testNetwork, Epoch: epoch, Spec: spec, NotAfter: 1 << 30}
	return q, []consensus.Signature{q.Sign(v.admin)}
}

// A writer appends without a pause, through one node after the other, and remembers what was acknowledged.
type writer struct {
	acked []consensus.RecordID
	done  chan struct{}
	end   context.CancelFunc
}

func (v *village) write(session uint64, nodes ...uint64) *writer {
	ctx, cancel := context.WithCancel(v.ctx)
	w := &writer{done: make(chan struct{}), end: cancel}
	go func() {
		defer close(w.done)
		for seq := uint64(1); ctx.Err() == nil; seq++ {
			r := consensus.Record{App: "test", ID: consensus.RecordID{Session: session, Seq: seq}}
			for i := int(seq); ctx.Err() == nil; i++ {
				log, err := v.nodes[nodes[i%len(nodes)]-1].on()
				if err != nil {
					continue
				}
				if _, err = log.Append(ctx, r); err == nil {
					w.acked = append(w.acked, r.ID)
					break
				}
			}
		}
	}()
	return w
}

func (w *writer) stop() []consensus.RecordID {
	w.end()
	<-w.done
	return w.acked
}

// check compares the logs of nodes: equal, verified, and with every acknowledged record once.
func (v *village) check(acked []consensus.RecordID, nodes ...uint64) {
	v.Helper()
	first, err := v.nodes[nodes[0]-1].on()
	require.NoError(v, err)
	tail, err := first.Tail(v.ctx, consensus.Consistent)
	require.NoError(v, err)
	want, err := first.Read(v.ctx, 1, tail)
	require.NoError(v, err)
	count := map[consensus.RecordID]int{}
	prev := consensus.Digest(testNetwork)
	for _, e := range want {
		require.NoError(v, e.Verify(prev))
		prev = e.Digest
		count[e.Record.ID]++
	}
	for _, id := range acked {
		require.Equal(v, 1, count[id], "acknowledged record %v", id)
	}
	for _, id := range nodes[1:] {
		log, err := v.nodes[id-1].on()
		require.NoError(v, err)
		require.Eventually(v, func() bool { return log.Status().Tail >= tail }, 10*time.Second, time.Millisecond, "node %d catches up", id)
		got, err := log.Read(v.ctx, 1, tail)
		require.NoError(v, err)
		require.Equal(v, want, got, "node %d", id)
	}
}

// TestReconfigure moves a log that is being written to through segments with other members and engines, each time through another node.
func TestReconfigure(t *testing.T) {
	v := newVillage(t, 3, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	w := v.write(7, 1, 2, 3)
	for epoch := consensus.Epoch(2); epoch <= 6; epoch++ {
		by, err := v.nodes[int(epoch)%3].on()
		require.NoError(t, err)
		q, sigs := v.request(epoch, v.specOf(raft.Name, 1, 2, 3))
		var stages []consensus.Stage
		p, err := by.Reconfigure(v.ctx, q, sigs, func(p consensus.Progress) {
			if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
				stages = append(stages, p.Stage)
			}
		})
		require.NoError(t, err)
		require.Equal(t, consensus.Complete, p.Stage)
		require.Equal(t, consensus.Preparing, stages[0])
		t.Logf("epoch %d: base %d, ready %v, gap %v, %v", epoch, p.Base, p.Ready, p.Gap, stages)
	}
	v.check(w.stop(), 1, 2, 3)
}

func (n *villager) observe(context.Context, *consensus.Store, consensus.Segment) (consensus.Loglet, error) {
	return nil, errors.New("no observer here")
}
