package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

// mix says how much of what a run has. It is drawn anew for each seed, so that some have much of one thing and none of another: faults that hide behind
// each other get their turns.
type mix struct {
	nodes, members, clients int
	window                  int // W
	keep                    int // raft entries behind the applied ones
	chunk                   int // entries that an observer gets at a time, at most

	think                            time.Duration // of a client between two operations
	latency                          time.Duration // of the network, mean
	drop, double, late               float64
	write, apply, play               time.Duration // of disks and applications, mean
	stall, lag, tear                 float64
	crash, cut, clock, wipe          time.Duration // between two, mean; 0: never
	reconfigure, forge               time.Duration
	minDown, maxDown, minCut, maxCut time.Duration
}

func newMix(w *world) mix {
	sometimes := func(p float64, mean time.Duration) time.Duration {
		if !w.chance(p) {
			return 0
		}
		return mean/2 + w.about(mean)
	}
	level := func(p, most float64) float64 {
		if !w.chance(p) {
			return 0
		}
		return w.rng.Float64() * most
	}
	m := mix{
		nodes: 3 + w.rng.IntN(3), clients: 2 + w.rng.IntN(3), window: 4096, keep: pick(w, []int{4, 32, 1000}), chunk: pick(w, []int{2, 16, 64}),
		think: w.between(10*time.Millisecond, 300*time.Millisecond), latency: w.between(time.Millisecond, 15*time.Millisecond),
		drop: level(0.6, 0.2), double: level(0.5, 0.2), late: level(0.5, 0.1),
		write: w.between(500*time.Microsecond, 8*time.Millisecond), apply: w.between(200*time.Microsecond, 8*time.Millisecond),
		play: w.between(5*time.Millisecond, 50*time.Millisecond), stall: level(0.5, 0.05), lag: level(0.4, 0.9), tear: level(0.5, 0.004),
		crash: sometimes(0.8, 3*time.Second), cut: sometimes(0.7, 4*time.Second), clock: sometimes(0.4, 5*time.Second), wipe: sometimes(0.4, 5*time.Second),
		reconfigure: sometimes(0.85, 3*time.Second), forge: sometimes(0.5, 2*time.Second),
		minDown: 20 * time.Millisecond, maxDown: w.between(500*time.Millisecond, 6*time.Second),
		minCut: 100 * time.Millisecond, maxCut: w.between(time.Second, 5*time.Second),
	}
	m.members = pick(w, []int{1, 3, 3, m.nodes})
	if w.opts.rot() {
		m.nodes, m.members, m.wipe, m.reconfigure = 5, 3, 0, time.Second
	}
	return m
}

// disk is how long something takes that goes to the disk.
func (w *world) disk(mean time.Duration) time.Duration {
	d := w.about(mean)
	if w.chance(w.mix.stall) {
		d += w.about(50 * mean)
	}
	return d
}

// trouble sets the faults going.
func (w *world) trouble() {
	w.repeat(w.mix.crash, w.crashes)
	w.repeat(w.mix.cut, func() {
		w.net.partition()
		w.after(w.between(w.mix.minCut, w.mix.maxCut), func() { w.net.cut = nil })
	})
	w.repeat(w.mix.clock, func() {
		n := pick(w, w.nodes)
		n.offset = w.between(-30*time.Second, 30*time.Second)
		n.say("clock is set to be off by %v", n.offset)
	})
	w.repeat(w.mix.wipe, func() {
		if n := pick(w, w.nodes); n.up && w.operator.mayWipe(n) {
			n.wipe()
			w.restart(n)
		}
	})
	w.repeat(w.mix.reconfigure, w.operator.reconfigure)
	w.repeat(w.mix.forge, w.operator.forge)
}

// repeat lets f happen again and again until the faults end.
func (w *world) repeat(mean time.Duration, f func()) {
	if mean == 0 {
		return
	}
	w.after(w.about(mean), func() {
		if !w.calm {
			f()
			w.repeat(mean, f)
		}
	})
}

// crashes takes down one node, or all that are up.
func (w *world) crashes() {
	victims := []*node{pick(w, w.nodes)}
	if w.chance(0.1) {
		victims = w.nodes
	}
	for _, n := range victims {
		if n.up {
			n.crash(pick(w, []loss{none, some, most}))
			w.restart(n)
		}
	}
}

// restart brings a node up again, later.
func (w *world) restart(n *node) {
	life := n.life
	w.after(w.between(w.mix.minDown, w.mix.maxDown), func() {
		if !n.up && n.life == life {
			n.boot()
		}
	})
}

// heal ends all faults.
func (w *world) heal() {
	w.say("the faults end")
	w.calm = true
	w.net.cut = nil
	w.mix.drop, w.mix.double, w.mix.late, w.mix.stall, w.mix.latency = 0, 0, 0, 0, 2*time.Millisecond
	for _, n := range w.nodes {
		n.offset = 0
		if !n.up && n.gone == nil {
			n.boot()
		}
	}
}

// operator is who runs the network: it holds the administrators' keys.
type operator struct {
	w       *world
	network consensus.NetworkID
	genesis consensus.Spec
	admins  []ed25519.PrivateKey
	forged  uint64
	valid   map[consensus.Digest]consensus.Request // that were signed by enough, by the identity of the epoch
	recent  []signed
	open    []consensus.Request // that somebody tried to seal, and that may not be settled
}

type signed struct {
	request    consensus.Request
	signatures []consensus.Signature
}

func newOperator(w *world) *operator {
	o := &operator{w: w, network: sha256.Sum256([]byte("simulation")), valid: map[consensus.Digest]consensus.Request{}}
	for i := range 3 {
		seed := sha256.Sum256(fmt.Appendf(nil, "administrator %d", i))
		o.admins = append(o.admins, ed25519.NewKeyFromSeed(seed[:]))
	}
	var members []*node
	for i := range w.mix.members {
		members = append(members, newNode(w, i))
	}
	o.genesis = o.spec(members)
	return o
}

// spec makes these nodes members. One that has lost a disk is another member than it was.
func (o *operator) spec(nodes []*node) consensus.Spec {
	s := consensus.Spec{Engine: raft.Name, Threshold: 2}
	for _, a := range o.admins {
		s.Admins = append(s.Admins, a.Public().(ed25519.PublicKey))
	}
	for _, n := range nodes {
		s.Members = append(s.Members, consensus.Member{ID: uint64(100*n.wipes + n.index + 1), NodeKey: n.public()})
	}
	return s
}

// node returns the one that is a member.
func (o *operator) node(m consensus.Member) *node {
	for _, n := range o.w.nodes {
		if m.NodeKey.Equal(n.public()) {
			return n
		}
	}
	panic(fmt.Sprintf("sim: member %d is no node", m.ID))
}

func (o *operator) names(s consensus.Spec) (names string) {
	for _, m := range s.Members {
		names += o.node(m).String()
	}
	return names
}

// sign signs with some of the administrators' keys.
func (o *operator) sign(q consensus.Request, keys ...int) (signatures []consensus.Signature) {
	for _, i := range keys {
		signatures = append(signatures, q.Sign(o.admins[i]))
	}
	return signatures
}

// someone returns a node that is up, or nil.
func (o *operator) someone() *node {
	if n := pick(o.w, o.w.nodes); n.up {
		return n
	}
	return nil
}

// reconfigure attempts a change of members at some node; now and then another one at another node at the same time, or one that was tried before.
func (o *operator) reconfigure() {
	for range 1 + o.w.rng.IntN(5)/4 {
		n := o.someone()
		if n == nil {
			return
		}
		if len(o.recent) > 0 && o.w.chance(0.25) {
			again := pick(o.w, o.recent)
			n.reconfigure(again.request, again.signatures)
			continue
		}
		s := o.request(n)
		o.recent = append(o.recent, s)
		o.valid[s.request.Segment().Identity] = s.request
		n.reconfigure(s.request, s.signatures)
	}
}

// request makes a good one, as a node sees the log.
func (o *operator) request(n *node) signed {
	nodes := append([]*node(nil), o.w.nodes...)
	o.w.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	size := min(pick(o.w, []int{1, 2, 3, 3, 3, 4, 5, 5}), len(nodes))
	if o.w.opts.rot() {
		size = 5
	}
	segments := n.store.Segments()
	q := consensus.Request{
		NetworkID: o.network, Epoch: segments[len(segments)-1].Epoch + 1, Spec: o.spec(nodes[:size]), NotAfter: n.store.Next() + consensus.LSN(5+o.w.rng.IntN(150)),
	}
	return signed{q, o.sign(q, pick(o.w, [][]int{{0, 1}, {1, 2}, {0, 1, 2}})...)}
}

// sealing is told of an attempt that has come so far.
func (o *operator) sealing(q consensus.Request) { o.open = append(o.open, q) }

// mayWipe says whether a node may lose its disk without the network's losing more than it can bear: a quorum of the last epoch's members keeps the disks
// with which they take part, and no Seal that may come counts on this node.
func (o *operator) mayWipe(n *node) bool {
	c := o.w.check
	if len(c.chain) == 0 {
		return false
	}
	last := c.chain[len(c.chain)-1]
	for _, other := range o.w.nodes {
		if other.dropEnded(); len(other.attempts) > 0 {
			return false
		}
	}
	for _, q := range o.open {
		if _, member := q.Spec.Member(n.public()); member && q.Epoch > last.Epoch && q.NotAfter >= c.tail() {
			return false
		}
	}
	return c.voters(last, n) >= last.Spec.Quorum()
}

// forge appends a Seal that must seal nothing.
func (o *operator) forge() {
	n := o.someone()
	if n == nil || n.store.Next() < 3 {
		return
	}
	q, at := o.request(n).request, n.store.Next()-1
	o.forged++
	q.Spec.Params = map[string]string{"forged": fmt.Sprint(o.forged)} // so that it is not one that is good, by chance
	digest, err := n.store.DigestAt(at)
	o.w.must(err, "%v forges", n)
	statements := func(q consensus.Request, at consensus.LSN, digest consensus.Digest) (ready []consensus.Ready) {
		for _, m := range q.Spec.Members {
			ready = append(ready, consensus.SignReady(o.node(m).key, q.Hash(), at, digest, consensus.Digest{1}, 1))
		}
		return ready
	}
	seal := consensus.Seal{Request: q, Signatures: o.sign(q, 0, 1), Ready: statements(q, at, digest)}
	kind := o.w.rng.IntN(10)
	switch kind {
	case 0: // unsigned
		seal.Signatures = nil
	case 1: // under-signed
		seal.Signatures = o.sign(q, o.w.rng.IntN(3))
	case 2: // signed by others
		key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
		seal.Signatures = append(o.sign(q, 0), q.Sign(key))
	case 3: // expired
		q.NotAfter = at
	case 4: // for an epoch that is over, or not next
		q.Epoch += pick(o.w, []consensus.Epoch{^consensus.Epoch(0), 7})
	case 5: // for another network
		q.NetworkID[0]++
	case 6: // nobody is ready
		seal.Ready = nil
	case 7: // statements for another request
		other := q
		other.NotAfter++
		seal.Ready = statements(other, at, digest)
	case 8: // statements about what is yet to come
		seal.Ready = statements(q, at+10_000, digest)
	case 9: // too few agree
		for i := range seal.Ready {
			m, _ := q.Spec.Member(seal.Ready[i].Key)
			seal.Ready[i] = consensus.SignReady(o.node(m).key, q.Hash(), at, consensus.Digest{byte(i)}, consensus.Digest{}, 1)
		}
		if len(seal.Ready) == 1 {
			seal.Ready = nil
		}
	}
	if kind == 3 || kind == 4 || kind == 5 {
		seal = consensus.Seal{Request: q, Signatures: o.sign(q, 0, 1), Ready: statements(q, at-1, digest)}
	}
	o.w.stats.Forged++
	record := seal.Record()
	n.say("is handed a forged seal of kind %d for epoch %d", kind, q.Epoch)
	n.append(record, patience, func(lsn consensus.LSN, err error) {
		if err == nil {
			o.w.fail("%v took a forged seal of kind %d at lsn %d", n, kind, lsn)
		}
	})
}
