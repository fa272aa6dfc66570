package observer_test

import (
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/observer"
	"ledgerd/consensus/peer"
	"ledgerd/consensus/raft"
)

// A town is a network as `cmd` puts it together: logs ordered by raft, nodes that talk over TLS, and each with a roster made of its own chain.
type town struct {
	testing.TB
	ctx    context.Context
	grace  time.Duration
	places []consensus.Member // of all nodes, by id from 1
	spec   consensus.Spec     // of the first segment
	nodes  map[uint64]*townsman
}

type townsman struct {
	id        uint64
	disk      *vfs.MemFS
	directory *peer.Directory
	node      *peer.Node
	log       *consensus.VirtualLog // nil: off
}

// newTown makes a town of n nodes, of which the first members order. grace is how long a reconfiguration waits for a next member, if a quorum is ready: one
// that it does not wait for observes.
func newTown(t testing.TB, n, members uint64, grace time.Duration) *town {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	w := &town{TB: t, ctx: ctx, grace: grace, nodes: map[uint64]*townsman{}}
	for id := uint64(1); id <= n; id++ {
		w.nodes[id] = &townsman{id: id, disk: vfs.NewMem(), directory: peer.NewDirectory()}
		w.listen(id, "127.0.0.1:0")
		w.places = append(w.places, consensus.Member{ID: id, NodeKey: public(id), PeerAddress: w.nodes[id].node.Addr().String()})
	}
	w.spec = w.specOf(1, members)
	for id := uint64(1); id <= n; id++ {
		w.init(id)
		w.open(id)
	}
	t.Cleanup(func() {
		for id := range w.nodes {
			w.stop(id)
		}
	})
	return w
}

// specOf is one whose members are the nodes from a first to a last.
func (w *town) specOf(first, last uint64) consensus.Spec {
	return consensus.Spec{Engine: raft.Name, Members: w.places[first-1 : last], Admins: []ed25519.PublicKey{public(90)}, Threshold: 1}
}

func (w *town) listen(id uint64, address string) {
	w.Helper()
	node, err := peer.Listen(peer.Options{Key: key(id), Network: network, Roster: w.nodes[id].directory, Address: address})
	require.NoError(w, err)
	w.nodes[id].node = node
}

// init makes a disk; a member's is vouched for.
func (w *town) init(id uint64) {
	w.Helper()
	store, err := consensus.OpenStore(w.ctx, consensus.StoreOptions{FS: w.nodes[id].disk, Dir: "log", NetworkID: network, Genesis: w.spec})
	require.NoError(w, err)
	if _, ok := w.spec.Member(public(id)); ok {
		require.NoError(w, store.Vouch(1))
	}
	require.NoError(w, store.Close())
}

func (w *town) open(id uint64) {
	w.Helper()
	n := w.nodes[id]
	peers := n.node.Peers(func() []consensus.Member { return w.places })
	var err error
	n.log, err = consensus.Open(w.ctx, consensus.Options{
		FS: n.disk, Dir: "log", NetworkID: network, Genesis: w.spec, Self: key(id), Peers: peers,
		Engines:  map[string]consensus.Engine{raft.Name: consensus.EngineFunc(n.raft)},
		Observe:  observer.Engine(observer.Options{Peers: peers, CheckInterval: quick}),
		Switcher: consensus.SwitcherOptions{AskAfter: 200 * time.Millisecond},
		Attempt:  consensus.AttemptOptions{Grace: w.grace},
		OnChain: func(chain, prepared []consensus.Segment) {
			n.directory.Set(peer.View{Segments: chain, Prepared: prepared, Observers: w.keys(), Bootstrap: w.places})
		},
		OnFatal: func(err error) { w.Errorf("node %d: %v", id, err) },
	})
	require.NoError(w, err)
	n.node.Serve(n.log)
}

func (w *town) keys() (all []ed25519.PublicKey) {
	for _, m := range w.places {
		all = append(all, m.NodeKey)
	}
	return all
}

// raft opens raft as whoever the segment says that this node is.
func (n *townsman) raft(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	self, ok := seg.Spec.Member(public(n.id))
	if !ok {
		return nil, consensus.ErrNotMember
	}
	return raft.Engine(raft.Options{
		Self: self.ID, Transport: transport{n.node}, Fetcher: n.node.LogClient(func() []consensus.Member { return seg.Spec.Members }),
		Tick: 5 * time.Millisecond, ElectionTicks: 20,
	}).Open(ctx, store, seg)
}

type transport struct{ *peer.Node }

func (t transport) Join(seg consensus.Segment, self uint64, deliver func([]byte)) (raft.Peers, error) {
	m, err := t.Node.Join(seg, self, deliver)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (w *town) stop(id uint64) {
	w.Helper()
	if n := w.nodes[id]; n.log != nil {
		n.node.Serve(nil)
		require.NoError(w, n.log.Close())
		require.NoError(w, n.node.Close())
		n.log = nil
	}
}

// appendAt appends one record at a node after the other, and returns the LSN of the last.
func (w *town) appendAt(from uint64, ids ...uint64) (last consensus.LSN) {
	w.Helper()
	for i, id := range ids {
		lsn, err := w.nodes[id].log.Append(w.ctx, record(from+uint64(i)))
		require.NoError(w, err, "node %d: %+v", id, w.nodes[id].log.Status())
		entries, err := w.nodes[id].log.Read(w.ctx, lsn, lsn+1)
		require.NoError(w, err, "it is readable where it was appended")
		require.Equal(w, record(from+uint64(i)), entries[0].Record)
		last = lsn
	}
	return last
}

func (w *town) role(id uint64, role consensus.Role) {
	w.Helper()
	require.True(w, waitFor(w.ctx, func() bool { return w.nodes[id].log.Status().Role == role.String() }), "node %d: %+v", id, w.nodes[id].log.Status())
}

// reconfigure moves the log, by a request made at a node, to the nodes from a first to a last.
func (w *town) reconfigure(at uint64, epoch consensus.Epoch, first, last uint64) {
	w.Helper()
	q := consensus.Request{NetworkID: network, Epoch: epoch, Spec: w.specOf(first, last), NotAfter: 1 << 30}
	done, err := w.nodes[at].log.Reconfigure(w.ctx, q, []consensus.Signature{q.Sign(key(90))}, nil)
	require.NoError(w, err)
	require.Equal(w, consensus.Complete, done.Stage)
}

// same compares the logs of two nodes up to an LSN.
func (w *town) same(a, b uint64, last consensus.LSN) {
	w.Helper()
	var logs [2][]consensus.Entry
	for i, id := range []uint64{a, b} {
		log := w.nodes[id].log
		_, err := log.Follow(w.ctx, last, 1)
		require.NoError(w, err)
		logs[i], err = log.Read(w.ctx, 1, last+1)
		require.NoError(w, err)
	}
	require.Equal(w, logs[0], logs[1])
}

// TestPromotion: observers follow a raft segment, outlive a member, take over from all of its members, and are followed by these.
func TestPromotion(t *testing.T) {
	w := newTown(t, 6, 3, patience)
	w.role(4, consensus.Observes)
	w.appendAt(1, 1, 4, 5, 2, 6, 4)
	tail, err := w.nodes[5].log.Tail(w.ctx, consensus.Consistent)
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(7), tail)
	w.stop(3)
	w.appendAt(100, 4, 5, 6, 1, 4)

	w.reconfigure(4, 2, 4, 6)
	for _, id := range []uint64{4, 5, 6} {
		w.role(id, consensus.Orders)
	}
	w.role(1, consensus.Observes)
	w.role(2, consensus.Observes)
	w.appendAt(200, 4, 1, 5, 2, 6)
	w.stop(1)
	last := w.appendAt(300, 2, 4)
	w.stop(2)
	w.appendAt(400, 5, 6, 4)
	w.same(4, 5, last)
}

// TestComesBack: a member is away while the log moves on, twice, and all members that it knows of are turned off. It comes back as an observer, from one that
// its configuration names, and is made a member again.
func TestComesBack(t *testing.T) {
	w := newTown(t, 6, 3, 100*time.Millisecond)
	w.appendAt(1, 1, 2, 3)
	w.stop(3)
	w.reconfigure(1, 2, 2, 4) // by one that will not be a member
	w.appendAt(100, 2, 4, 1)
	w.stop(1)
	w.reconfigure(4, 3, 4, 6)
	last := w.appendAt(200, 4, 5, 6)
	w.stop(2)

	w.listen(3, w.places[2].PeerAddress)
	w.open(3)
	w.role(3, consensus.Observes)
	w.same(3, 4, last)
	w.appendAt(300, 3, 4, 3)
	w.reconfigure(3, 4, 3, 5)
	w.role(3, consensus.Orders)
	w.stop(4)
	last = w.appendAt(400, 3, 5, 3)
	w.same(3, 5, last)
}
