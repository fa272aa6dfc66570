package raft_test

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

// A network is a Transport in memory that loses, doubles and delays frames as it is told to. Its dice are seeded.
type network struct {
	mu      sync.Mutex
	rng     *rand.Rand
	members map[place]*port
	faults  faults
	cut     map[[2]uint64]bool // from, to
	queue   frames
	seq     uint64
	change  chan struct{}
	stop    chan struct{}
	wait    sync.WaitGroup
	spy     func(from, to uint64, frame []byte)

	delivering sync.Mutex // held while a frame is handed over; taken under mu
}

type faults struct {
	drop, double float64
	min, max     time.Duration
}

// A place is where frames go: a member of an epoch. Two epochs live side by side while one takes over from the other.
type place struct {
	epoch consensus.Digest // its identity
	id    uint64
}

type port struct {
	net     *network
	at      place
	deliver func([]byte)
	busy    sync.WaitGroup
	closed  bool
}

func newNetwork(seed uint64) *network {
	n := &network{
		rng: rand.New(rand.NewPCG(seed, 0)), members: map[place]*port{}, cut: map[[2]uint64]bool{},
		change: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	n.wait.Go(n.run)
	return n
}

func (n *network) close() {
	close(n.stop)
	n.wait.Wait()
}

// Join is raft.Transport's.
func (n *network) Join(seg consensus.Segment, self uint64, deliver func([]byte)) (raft.Peers, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := &port{net: n, at: place{seg.Identity, self}, deliver: deliver}
	n.members[p.at] = p
	return p, nil
}

func (p *port) Send(to uint64, frame []byte) { p.net.send(p, to, frame) }

func (p *port) Close() error {
	p.net.mu.Lock()
	p.closed = true
	if p.net.members[p.at] == p {
		delete(p.net.members, p.at)
	}
	p.net.mu.Unlock()
	p.busy.Wait()
	return nil
}

// silence takes a node's ports away for good: it sends nothing any more, and gets nothing. One that joins anew has others.
func (n *network) silence(id uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for at, p := range n.members {
		if at.id == id {
			p.closed = true
			delete(n.members, at)
		}
	}
}

func (n *network) send(p *port, to uint64, frame []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	from := p.at
	if n.spy != nil {
		n.spy(from.id, to, frame)
	}
	f, port := n.faults, n.members[place{from.epoch, to}]
	if p.closed || port == nil || n.cut[[2]uint64{from.id, to}] || n.rng.Float64() < f.drop {
		return
	}
	for range 1 + map[bool]int{true: 1}[n.rng.Float64() < f.double] {
		delay := f.min
		if f.max > f.min {
			delay += time.Duration(n.rng.Int64N(int64(f.max - f.min)))
		}
		n.seq++
		heap.Push(&n.queue, flight{time.Now().Add(delay), n.seq, port, frame})
	}
	select {
	case n.change <- struct{}{}:
	default:
	}
}

// run delivers what is due.
func (n *network) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n.mu.Lock()
		for len(n.queue) > 0 && !n.queue[0].due.After(time.Now()) {
			f := heap.Pop(&n.queue).(flight)
			if p := f.to; !p.closed { // what was sent to a member before it restarted is lost
				p.busy.Add(1)
				n.delivering.Lock()
				n.mu.Unlock()
				p.deliver(f.frame)
				n.delivering.Unlock()
				p.busy.Done()
				n.mu.Lock()
			}
		}
		next := time.Hour
		if len(n.queue) > 0 {
			next = time.Until(n.queue[0].due)
		}
		n.mu.Unlock()
		timer.Reset(next)
		select {
		case <-n.stop:
			return
		case <-n.change:
		case <-timer.C:
		}
	}
}

// freeze stops the network between two frames.
func (n *network) freeze() (thaw func()) {
	n.mu.Lock()
	n.delivering.Lock()
	return func() {
		n.delivering.Unlock()
		n.mu.Unlock()
	}
}

// set changes the faults from now on.
func (n *network) set(f faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// sever cuts the ways from each of a to each of b; mend mends all.
func (n *network) sever(a, b []uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			n.cut[[2]uint64{x, y}] = true
		}
	}
}

func (n *network) split(a, b []uint64) {
	n.sever(a, b)
	n.sever(b, a)
}

func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

type flight struct {
	due   time.Time
	seq   uint64
	to    *port
	frame []byte
}

type frames []flight

func (f frames) Len() int { return len(f) }
func (f frames) Less(i, j int) bool {
	if f[i].due.Equal(f[j].due) {
		return f[i].seq < f[j].seq
	}
	return f[i].due.Before(f[j].due)
}
func (f frames) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *frames) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *frames) Pop() any {
	old := *f
	x := old[len(old)-1]
	old[len(old)-1] = flight{}
	*f = old[:len(old)-1]
	return x
}
