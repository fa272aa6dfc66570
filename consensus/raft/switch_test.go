package raft_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/observer"
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
	epoch consensus.Epoch // the last one that was begun by reconfigure
	grace time.Duration   // that a reconfiguration has for a next member, if a quorum is ready. One that it does not wait for is not vouched for, and observes
}

type villager struct {
	village *village
	id      uint64
	key     ed25519.PrivateKey
	disk    vfs.FS

	// head is the fingerprint of the node's application after an LSN; nil: it has none.
	head     func(log *consensus.VirtualLog, lsn consensus.LSN) consensus.Digest
	diverged chan error // holds why the node must not go on

	mu  sync.Mutex
	log *consensus.VirtualLog // nil while the node is off
}

func key(name string, n int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Append(nil, name, n))
	return ed25519.NewKeyFromSeed(seed[:])
}

// newVillage makes a village whose first members are on.
func newVillage(t testing.TB, nodes int, members ...uint64) *village {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	v := &village{TB: t, ctx: ctx, net: newNetwork(1), admin: key("administrator", 0), epoch: 1, grace: 100 * time.Millisecond}
	t.Cleanup(v.net.close)
	for i := range nodes {
		v.nodes = append(v.nodes, &villager{village: v, id: uint64(i) + 1, key: key("node", i), disk: vfs.NewCrashableMem(), diverged: make(chan error, 1)})
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
	require.NoError(n.village, n.open(), "node %d", n.id)
}

func (n *villager) open() error {
	v := n.village
	log, err := consensus.Open(v.ctx, consensus.Options{
		Application: n.application(),
		Claims:      consensus.ClaimOptions{Every: 16, Idle: 100 * time.Millisecond},
		OnHalt:      n.stray,

		FS: n.disk, Dir: "log", NetworkID: testNetwork, Genesis: v.spec,
		Engines: map[string]consensus.Engine{
			raft.Name:  memberEngine{n},
			local.Name: memberEngine{n},
		},
		Observe:  observer.Engine(observer.Options{Peers: n, CheckInterval: 100 * time.Millisecond}),
		Self:     n.key,
		Peers:    n,
		Switcher: consensus.SwitcherOptions{AskAfter: 200 * time.Millisecond, AskEvery: 200 * time.Millisecond},
		Attempt:  consensus.AttemptOptions{Grace: v.grace, Patience: 2 * time.Second},
		OnFatal:  func(err error) { v.Errorf("node %d: %v", n.id, err) },
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = log
	return nil
}

// stray is told that the node must not go on.
func (n *villager) stray(err error) {
	select {
	case n.diverged <- err:
	default:
	}
}

func (n *villager) application() (a consensus.Application) {
	if n.head != nil {
		a.Fingerprint = func(lsn consensus.LSN) (consensus.Digest, error) {
			log, err := n.on()
			if err != nil {
				return consensus.Digest{}, consensus.ErrUnwritten
			}
			return n.head(log, lsn), nil
		}
	}
	return a
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

// memberEngine is raft, or local, as whoever the segment says that the node is.
type memberEngine struct{ n *villager }

func (e memberEngine) Open(ctx context.Context, s *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	self, ok := seg.Spec.Member(e.n.key.Public().(ed25519.PublicKey))
	if !ok {
		return nil, consensus.ErrNotMember
	}
	if seg.Spec.Engine == local.Name {
		return local.Engine(local.Options{}).Open(ctx, s, seg)
	}
	o := quick()
	o.Self, o.Transport, o.Fetcher = self.ID, e.n.village.net, e.n
	return raft.Engine(o).Open(ctx, s, seg)
}

func (memberEngine) Prepare(context.Context, *consensus.Store, consensus.Segment) error { return nil }

// by returns the node of a member, which is on.
func (v *village) by(m consensus.Member) (*villager, *consensus.VirtualLog, error) {
	for _, n := range v.nodes {
		if n.is(m) {
			log, err := n.on()
			return n, log, err
		}
	}
	return nil, nil, errors.New("no such node")
}

// still says that log is what the node runs: what comes from one that was, after a crash, nobody has heard.
func (n *villager) still(log *consensus.VirtualLog) error {
	if now, err := n.on(); err != nil || now != log {
		return errors.New("the node went off meanwhile")
	}
	return nil
}

// SegmentEnd is consensus.Peers'.
func (n *villager) SegmentEnd(ctx context.Context, seg consensus.Segment) (end consensus.SegmentEnd, ok bool, err error) {
	err = errors.New("nobody answers")
	for _, other := range n.village.nodes {
		log, off := other.on()
		if other == n || off != nil {
			continue
		}
		end, ok, err = log.SegmentEnd(ctx, seg.Epoch)
		if err = errors.Join(err, other.still(log)); err == nil && ok {
			return end, true, end.Verify(seg)
		}
	}
	return end, false, err
}

// Prepare is consensus.Peers'.
func (n *villager) Prepare(ctx context.Context, m consensus.Member, p consensus.Prepare) (consensus.Ready, error) {
	other, log, err := n.village.by(m)
	if err != nil {
		return consensus.Ready{}, err
	}
	ready, err := log.Prepare(ctx, p)
	return ready, errors.Join(err, other.still(log))
}

// Status is consensus.Peers'.
func (n *villager) Status(_ context.Context, m consensus.Member) (consensus.Status, error) {
	other, log, err := n.village.by(m)
	if err != nil {
		return consensus.Status{}, err
	}
	return log.Status(), other.still(log)
}

func (n *villager) is(m consensus.Member) bool {
	return n.key.Public().(ed25519.PublicKey).Equal(m.NodeKey)
}

// Known is observer.Peers'.
func (n *villager) Known([]consensus.Member) (all []consensus.Member) {
	for _, other := range n.village.nodes {
		if other != n {
			all = append(all, consensus.Member{ID: other.id, NodeKey: other.key.Public().(ed25519.PublicKey)})
		}
	}
	return all
}

// Follow is observer.Peers'.
func (n *villager) Follow(ctx context.Context, m consensus.Member, from consensus.LSN, take func([]consensus.Entry) error) error {
	other, log, err := n.village.by(m)
	for err == nil {
		var entries []consensus.Entry
		entries, err = log.Follow(ctx, from, 0)
		if err = errors.Join(err, other.still(log)); err == nil {
			from += consensus.LSN(len(entries))
			err = take(entries)
		}
	}
	return err
}

// Append is observer.Peers'.
func (n *villager) Append(ctx context.Context, among []consensus.Member, r consensus.Record) (lsn consensus.LSN, err error) {
	err = errors.New("nobody is there")
	for _, m := range among {
		other, log, off := n.village.by(m)
		if off != nil || n.is(m) || log.Status().Role == consensus.Observes.String() { // who observes takes nothing from others, or two of them could hand it on for ever
			continue
		}
		lsn, err = log.Append(ctx, r)
		if err = errors.Join(err, other.still(log)); err == nil {
			return lsn, nil
		}
		err = fmt.Errorf("%w: %w", consensus.ErrUnknownFate, err)
	}
	return 0, err
}

// Tail is observer.Peers'.
func (n *villager) Tail(ctx context.Context, among []consensus.Member, c consensus.Consistency) (lsn consensus.LSN, err error) {
	err = errors.New("nobody is there")
	for _, m := range among {
		if other, log, off := n.village.by(m); off == nil && !n.is(m) && log.Status().Role != consensus.Observes.String() {
			lsn, err = log.Tail(ctx, c)
			if err = errors.Join(err, other.still(log)); err == nil {
				return lsn, nil
			}
		}
	}
	return 0, err
}

// Fetch is raft.Fetcher's.
func (n *villager) Fetch(ctx context.Context, _ uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
	for _, other := range n.village.nodes {
		if log, err := other.on(); err == nil && other != n && log.Status().Tail >= end {
			entries, err := log.Follow(ctx, from, int(end-from))
			return entries, errors.Join(err, other.still(log))
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
	acked  []consensus.RecordID
	done   chan struct{}
	end    context.CancelFunc
	enough atomic.Bool
}

func (v *village) write(session uint64, nodes ...uint64) *writer {
	ctx, cancel := context.WithCancel(v.ctx)
	w := &writer{done: make(chan struct{}), end: cancel}
	go func() {
		defer close(w.done)
		for seq := uint64(1); ctx.Err() == nil && !w.enough.Load(); seq++ {
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

// finish waits for the last record: nothing is under way afterwards.
func (w *writer) finish() []consensus.RecordID {
	w.enough.Store(true)
	<-w.done
	return w.stop()
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
		require.Eventually(v, func() bool { return log.Status().Tail >= tail }, patience, time.Millisecond, "node %d catches up", id)
		got, err := log.Read(v.ctx, 1, tail)
		require.NoError(v, err)
		require.Equal(v, want, got, "node %d", id)
	}
}

// reconfigure brings a request for the next epoch through, by way of a node.
func (v *village) reconfigure(by uint64, spec consensus.Spec) consensus.Progress {
	v.Helper()
	log, err := v.nodes[by-1].on()
	require.NoError(v, err)
	require.Eventually(v, func() bool { return log.Status().Epoch == v.epoch }, patience, time.Millisecond, "node %d learns of epoch %d", by, v.epoch)
	v.epoch++
	q, sigs := v.request(v.epoch, spec)
	p, err := log.Reconfigure(v.ctx, q, sigs, nil)
	require.NoError(v, err)
	require.Equal(v, consensus.Complete, p.Stage)
	v.Logf("epoch %d, %s of %d: base %d, ready %v, gap %v", q.Epoch, spec.Engine, len(spec.Members), p.Base, p.Ready, p.Gap)
	return p
}

// TestReconfigure moves a log that is being written to through segments with other members and engines, each time by way of another node. Who is no member
// observes.
func TestReconfigure(t *testing.T) {
	v := newVillage(t, 6, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	w := v.write(7, 1, 2, 3, 4, 5, 6)
	for i, step := range []struct {
		engine  string
		members []uint64
	}{
		{raft.Name, []uint64{1, 2, 3}},
		{raft.Name, []uint64{1, 2, 3, 4, 5}},
		{raft.Name, []uint64{4, 5, 6}},
		{local.Name, []uint64{6}},
		{local.Name, []uint64{2}},
		{raft.Name, []uint64{3}},
		{raft.Name, []uint64{1, 2, 3}},
		{raft.Name, []uint64{3, 2, 1}},
	} {
		p := v.reconfigure(uint64(i*5%6)+1, v.specOf(step.engine, step.members...))
		require.NotZero(t, p.Base)
	}
	acked := w.stop()
	v.check(acked, 1, 2, 3, 4, 5, 6)
	for _, n := range v.nodes {
		log, err := n.on()
		require.NoError(t, err)
		require.Len(t, log.Segments(), 9)
		role := map[bool]string{true: "orders", false: "observes"}[n.id <= 3]
		require.Eventually(t, func() bool { return log.Status().Role == role }, patience, time.Millisecond, "node %d", n.id)
	}
	for _, n := range v.nodes { // and all of it is stored
		n.stop()
	}
	for _, n := range v.nodes {
		n.start()
	}
	v.check(acked, 1, 2, 3, 4, 5, 6)
}

// TestReconfigureWithoutOne leaves a member out that is down, which comes back when its segment, and the one after, are long over.
func TestReconfigureWithoutOne(t *testing.T) {
	v := newVillage(t, 4, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	w := v.write(7, 1, 2, 4)
	v.nodes[2].stop()
	v.reconfigure(1, v.specOf(raft.Name, 1, 2, 3)) // a quorum is ready
	v.reconfigure(4, v.specOf(raft.Name, 1, 2, 4))
	v.nodes[0].stop()
	v.reconfigure(2, v.specOf(raft.Name, 1, 2, 4))
	v.nodes[0].start()
	v.nodes[2].start()
	acked := w.stop()
	v.check(acked, 1, 2, 3, 4)
	// It was a member all the time, and its disk is its own: it may be one again.
	v.reconfigure(3, v.specOf(raft.Name, 2, 3, 4))
	log, err := v.nodes[2].on()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return log.Status().Role == "orders" }, patience, time.Millisecond) // complete takes a quorum, not all
}

// TestWipedDisk: a member whose disk was lost does not vote, but observes, until a reconfiguration takes it in again.
func TestWipedDisk(t *testing.T) {
	v := newVillage(t, 3, 1, 2, 3)
	v.grace = patience
	for _, n := range v.nodes {
		n.start()
	}
	w := v.write(7, 1, 2)
	v.reconfigure(1, v.specOf(raft.Name, 1, 2, 3))
	v.nodes[2].stop()
	v.nodes[2].disk = vfs.NewCrashableMem()
	v.nodes[2].start()
	log, err := v.nodes[2].on()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return log.Status().Epoch == 2 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return log.Status().Role == "observes" }, patience, time.Millisecond)
	v.reconfigure(1, v.specOf(raft.Name, 1, 2, 3))
	require.Eventually(t, func() bool { return log.Status().Role == "orders" }, patience, time.Millisecond)
	v.check(w.stop(), 1, 2, 3)
}

// TestRefusedRequests: what is not authorised, not for now or not possible changes nothing.
func TestRefusedRequests(t *testing.T) {
	v := newVillage(t, 3, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	log, err := v.nodes[0].on()
	require.NoError(t, err)
	stranger := key("stranger", 0)
	good := v.specOf(raft.Name, 1, 2, 3)
	for name, change := range map[string]func(*consensus.Request, *[]consensus.Signature){
		"unsigned":      func(_ *consensus.Request, s *[]consensus.Signature) { *s = nil },
		"by a stranger": func(q *consensus.Request, s *[]consensus.Signature) { *s = []consensus.Signature{q.Sign(stranger)} },
		"this epoch": func(q *consensus.Request, s *[]consensus.Signature) {
			q.Epoch = 1
			*s = []consensus.Signature{q.Sign(v.admin)}
		},
		"epoch after next": func(q *consensus.Request, s *[]consensus.Signature) {
			q.Epoch = 3
			*s = []consensus.Signature{q.Sign(v.admin)}
		},
		"another network": func(q *consensus.Request, s *[]consensus.Signature) {
			q.NetworkID[0]++
			*s = []consensus.Signature{q.Sign(v.admin)}
		},
		"expired": func(q *consensus.Request, s *[]consensus.Signature) {
			q.NotAfter = 0
			*s = []consensus.Signature{q.Sign(v.admin)}
		},
		"an unknown engine": func(q *consensus.Request, s *[]consensus.Signature) {
			q.Spec.Engine = "paxos"
			*s = []consensus.Signature{q.Sign(v.admin)}
		},
		"nobody to order it": func(q *consensus.Request, s *[]consensus.Signature) {
			q.Spec.Members = nil
			*s = []consensus.Signature{q.Sign(v.admin)}
		},
	} {
		q, sigs := v.request(2, good)
		change(&q, &sigs)
		_, err := log.Reconfigure(v.ctx, q, sigs, nil)
		require.ErrorIs(t, err, consensus.ErrInvalid, name)
	}
	require.Len(t, log.Segments(), 1)

	// Two of three members of the next segment are off: nobody seals.
	impatient := v.specOf(raft.Name, 1, 2, 3)
	impatient.Members = append(impatient.Members, consensus.Member{ID: 8, NodeKey: key("off", 8).Public().(ed25519.PublicKey)},
		consensus.Member{ID: 9, NodeKey: key("off", 9).Public().(ed25519.PublicKey)}, consensus.Member{ID: 10, NodeKey: key("off", 10).Public().(ed25519.PublicKey)})
	q, sigs := v.request(2, impatient)
	_, err = log.Reconfigure(v.ctx, q, sigs, nil)
	require.ErrorContains(t, err, "3 of the next members are ready, it takes 4")
	require.Len(t, log.Segments(), 1)

	// What was prepared and abandoned is in nobody's way.
	v.reconfigure(2, good)
	_, err = log.Reconfigure(v.ctx, q, sigs, nil)
	require.ErrorIs(t, err, consensus.ErrSuperseded)
}

// TestRacingRequests: of several requests for one epoch, one is sealed, and the others are told so. Who asks again for the one that won finds it done.
func TestRacingRequests(t *testing.T) {
	v := newVillage(t, 3, 1, 2, 3)
	for _, n := range v.nodes {
		n.start()
	}
	for epoch := consensus.Epoch(2); epoch < 6; epoch++ {
		var wait sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			spec := v.specOf(raft.Name, 1, 2, 3)
			spec.Params = map[string]string{"request": fmt.Sprint(i % 3)} // each is asked for by two nodes
			q, sigs := v.request(epoch, spec)
			log, err := v.nodes[(i/3+i)%3].on()
			require.NoError(t, err)
			wait.Go(func() { _, errs[i] = log.Reconfigure(v.ctx, q, sigs, nil) })
		}
		wait.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
			} else {
				require.ErrorIs(t, err, consensus.ErrSuperseded, "request %d", i)
			}
		}
		require.Equal(t, 2, won, "%v", errs)
	}
	v.check(nil, 1, 2, 3)
}

// honest is the head of an application that is in step with the log.
func honest(log *consensus.VirtualLog, lsn consensus.LSN) consensus.Digest {
	d, err := log.DigestAt(context.Background(), lsn)
	if err != nil {
		return consensus.Digest{}
	}
	return d
}

// TestLiar: a member that lies in every claim is named by the others, and halts nobody.
func TestLiar(t *testing.T) {
	v := newVillage(t, 4, 1, 2, 3, 4)
	const liar = 3
	for _, n := range v.nodes {
		if n.id != liar { // it makes no claims but those below: an honest one in between would take the lie back
			n.head = honest
		}
		n.start()
	}
	log, err := v.nodes[liar-1].on()
	require.NoError(t, err)
	w := v.write(7, 1, 2, 3, 4)
	for seq := uint64(1); seq <= 20; seq++ {
		at := log.Status().Tail - 1
		claim := consensus.SignClaim(v.nodes[liar-1].key, log.Segments()[0], liar, at, consensus.Digest{byte(seq), 0xff})
		_, err := log.Append(v.ctx, claim.Record())
		require.NoError(t, err)
		forged := consensus.SignClaim(v.nodes[0].key, log.Segments()[0], liar, at, consensus.Digest{1})
		_, err = log.Append(v.ctx, forged.Record())
		require.ErrorIs(t, err, consensus.ErrInvalid, "nobody can lie for another")
		if seq == 10 { // what they claim later is not held against others
			v.reconfigure(1, v.specOf(raft.Name, 1, 2, 3, 4))
			claim = consensus.SignClaim(v.nodes[liar-1].key, log.Segments()[1], liar, at, consensus.Digest{0xee})
			_, err = log.Append(v.ctx, claim.Record())
			require.NoError(t, err)
			for _, n := range v.nodes[:2] {
				log, err := n.on()
				require.NoError(t, err)
				require.Eventually(t, func() bool { return log.Status().Dissent[liar] != 0 }, patience, time.Millisecond, "node %d names the liar", n.id)
				require.Len(t, log.Status().Dissent, 1)
			}
			break
		}
	}
	v.check(w.stop(), 1, 2, 3, 4)
	for _, n := range v.nodes {
		require.Empty(t, n.diverged, "node %d", n.id)
	}
}

// TestDivergence: a node whose application has another history than the majority's stops, alone; the others go on, and name it.
func TestDivergence(t *testing.T) {
	v := newVillage(t, 4, 1, 2, 3, 4)
	const wrong = 2
	for _, n := range v.nodes {
		n.head = honest
		if n.id == wrong {
			n.head = func(log *consensus.VirtualLog, lsn consensus.LSN) consensus.Digest {
				d := honest(log, lsn)
				if lsn > 20 { // from some block on
					d[0]++
				}
				return d
			}
		}
		n.start()
	}
	w := v.write(7, 1, 3, 4)
	select {
	case err := <-v.nodes[wrong-1].diverged:
		require.ErrorIs(t, err, consensus.ErrDiverged)
		require.ErrorContains(t, err, "3 of 4 members")
	case <-v.ctx.Done():
		t.Fatal("it does not notice")
	}
	log, err := v.nodes[wrong-1].on()
	require.NoError(t, err)
	_, err = log.Append(v.ctx, consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: 1}})
	require.ErrorIs(t, err, consensus.ErrDiverged)
	v.nodes[wrong-1].stop()
	v.check(w.stop(), 1, 3, 4)
	other, err := v.nodes[0].on()
	require.NoError(t, err)
	require.Contains(t, other.Status().Dissent, uint64(wrong))
	for _, n := range v.nodes {
		require.Empty(t, n.diverged, "node %d", n.id)
	}
}
