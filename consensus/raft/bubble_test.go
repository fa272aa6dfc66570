package raft_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

// TestBubble is the second layer of the simulation. Package sim plays the step functions in one goroutine, and does with callbacks what VirtualLog, raft.Loglet and
// the observer do around them; here these run themselves, with all their goroutines and pebble's, in a bubble of synctest, whose clock moves only when all of them
// wait. A seed decides the faults: which node stops in front of which write or fsync and what of its disk is left, what the network loses, doubles, delays and cuts,
// who is asked to become a member. It does not decide how the goroutines interleave, so that a seed which failed once may pass; what it promises holds each time.
//
//	LEDGERD_BUBBLE_SEEDS=1000 go test ./consensus/raft -run TestBubble -timeout 1h
//	LEDGERD_BUBBLE_SEED=7 go test ./consensus/raft -run TestBubble -v
func TestBubble(t *testing.T) {
	first, seeds := uint64(1), fromEnvironment(t, "LEDGERD_BUBBLE_SEEDS", 12)
	if one := fromEnvironment(t, "LEDGERD_BUBBLE_SEED", 0); one != 0 {
		first, seeds = one, 1
	}
	var all bubbleStats
	for seed := first; seed < first+seeds; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { all.add(playBubble(t, seed)) })
		})
	}
	t.Logf("%+v", all)
	if seeds >= 12 && !t.Failed() { // it was no quiet time
		for what, count := range map[string]int{"crashes": all.crashes, "in front of a write": all.caught, "switches": all.switches, "appends": all.acked} {
			require.Positive(t, count, what)
		}
	}
}

func fromEnvironment(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}

type bubbleStats struct {
	crashes, caught int // caught: in front of a write or an fsync, and not in idleness
	switches, acked int
}

func (s *bubbleStats) add(o bubbleStats) {
	s.crashes += o.crashes
	s.caught += o.caught
	s.switches += o.switches
	s.acked += o.acked
}

// Time in a bubble costs nothing but what is done in it.
const (
	troubled = 20 * time.Second // of faults
	atRest   = time.Minute      // within which everything has to be well again
)

type bubble struct {
	*village
	rng   *rand.Rand // the nemesis's; clients have their own
	disks []*brink   // by node
	stats bubbleStats
	asked sync.WaitGroup // reconfigurations under way
	using sync.WaitGroup // clients

	mu       sync.Mutex
	switches int
}

// playBubble plays one seed, and returns what happened in it.
func playBubble(t *testing.T, seed uint64) bubbleStats {
	v := newVillage(t, 5, 1, 2, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	v.ctx = ctx
	b := &bubble{village: v, rng: rand.New(rand.NewPCG(seed, 2))}
	v.Cleanup(func() { // a bubble whose test has failed ends too
		cancel()
		b.asked.Wait()
		b.using.Wait()
	})
	for _, n := range v.nodes {
		d := newBrink(n.disk.(*vfs.MemFS))
		b.disks, n.disk = append(b.disks, d), d.fs
		n.start()
	}
	v.net.set(faults{drop: 0.1 * b.rng.Float64(), double: 0.1 * b.rng.Float64(), min: time.Millisecond, max: time.Millisecond * time.Duration(2+b.rng.IntN(60))})
	clients := make([]*bubbleClient, 4)
	for i := range clients {
		clients[i] = b.client(uint64(i)+100, rand.New(rand.NewPCG(seed, uint64(i)+3)))
	}
	for end := time.Now().Add(troubled); time.Now().Before(end); {
		b.trouble()
		time.Sleep(time.Duration(50+b.rng.IntN(1000)) * time.Millisecond)
	}
	v.net.mend()
	v.net.set(faults{min: time.Millisecond, max: 2 * time.Millisecond})
	b.asked.Wait()
	begun := time.Now()
	var acked []consensus.RecordID
	for _, c := range clients { // what was begun comes to its end
		close(c.enough)
		<-c.done
		acked = append(acked, c.acked...)
	}
	b.settle()
	v.check(acked, 1, 2, 3, 4, 5)
	require.Less(t, time.Since(begun), atRest, "until all is well")
	b.stats.acked, b.stats.switches = len(acked), b.switches
	return b.stats
}

// trouble is one thing that happens.
func (b *bubble) trouble() {
	n := 1 + b.rng.IntN(len(b.nodes))
	switch b.rng.IntN(8) {
	case 0, 1, 2:
		b.crash(n)
	case 3: // the power of the house fails
		for id := 1; id <= len(b.nodes); id++ {
			b.crash(id)
		}
	case 4:
		b.net.split([]uint64{uint64(n)}, b.others(n))
	case 5:
		b.net.sever([]uint64{uint64(n)}, b.others(n))
	case 6:
		b.net.mend()
	case 7:
		b.ask(n)
	}
}

func (b *bubble) others(n int) (all []uint64) {
	for id := 1; id <= len(b.nodes); id++ {
		if id != n {
			all = append(all, uint64(id))
		}
	}
	return all
}

// crash ends a node in front of one of its next writes or fsyncs, and starts it again on what that leaves.
func (b *bubble) crash(id int) {
	n, d := b.nodes[id-1], b.disks[id-1]
	left, caught := d.stop(1+b.rng.IntN(20), vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[b.rng.IntN(3)], RNG: rand.New(rand.NewPCG(b.rng.Uint64(), 0))})
	b.net.silence(n.id)
	n.mu.Lock()
	log := n.log
	n.log = nil
	n.mu.Unlock()
	d.release() // what it does from now on has no witness
	require.NoError(b, log.Close())
	b.stats.crashes++
	if caught {
		b.stats.caught++
	}
	d = newBrink(left)
	b.disks[id-1], n.disk = d, d.fs
	n.start()
}

// ask has a node bring a request through, of which may come nothing.
func (b *bubble) ask(by int) {
	log, err := b.nodes[by-1].on()
	require.NoError(b, err)
	members := b.rng.Perm(len(b.nodes))[:1+b.rng.IntN(len(b.nodes))]
	ids := make([]uint64, len(members))
	for i, m := range members {
		ids[i] = uint64(m) + 1
	}
	q, signatures := b.request(log.Status().Epoch+1, b.specOf(raft.Name, ids...))
	b.asked.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		defer cancel()
		if p, err := log.Reconfigure(ctx, q, signatures, nil); err == nil && p.Stage == consensus.Complete {
			b.mu.Lock()
			b.switches++
			b.mu.Unlock()
		}
	})
}

// settle waits until all nodes are in the last epoch, and appends by each of them.
func (b *bubble) settle() {
	b.Helper()
	for _, n := range b.nodes {
		log, err := n.on()
		require.NoError(b, err)
		r := consensus.Record{App: "test", ID: consensus.RecordID{Session: 99, Seq: n.id}}
		ctx, cancel := context.WithTimeout(b.ctx, atRest)
		_, err = log.Append(ctx, r)
		cancel()
		require.NoError(b, err, "node %d", n.id)
	}
	require.Eventually(b, func() bool {
		epochs := map[consensus.Epoch]bool{}
		for _, n := range b.nodes {
			log, err := n.on()
			require.NoError(b, err)
			epochs[log.Status().Epoch] = true
		}
		return len(epochs) == 1
	}, atRest, 10*time.Millisecond, "all are in one epoch")
}

// A bubbleClient appends one record after the other, each until it is acknowledged, through whatever node answers.
type bubbleClient struct {
	acked  []consensus.RecordID
	enough chan struct{}
	done   chan struct{}
}

func (b *bubble) client(session uint64, rng *rand.Rand) *bubbleClient {
	c := &bubbleClient{enough: make(chan struct{}), done: make(chan struct{})}
	b.using.Go(func() {
		defer close(c.done)
		for seq := uint64(1); b.ctx.Err() == nil; seq++ {
			r := consensus.Record{App: "test", ID: consensus.RecordID{Session: session, Seq: seq}, Payload: fmt.Append(nil, session, seq)}
			for !b.append(b.nodes[rng.IntN(len(b.nodes))], r) {
				if b.ctx.Err() != nil {
					return
				}
				time.Sleep(time.Duration(1+rng.IntN(20)) * time.Millisecond)
			}
			c.acked = append(c.acked, r.ID)
			select {
			case <-c.enough:
				return
			case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
			}
		}
	})
	return c
}

// append reports whether a node has said, while it was alive, that it has r.
func (b *bubble) append(n *villager, r consensus.Record) bool {
	log, err := n.on()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	_, err = log.Append(ctx, r)
	return err == nil && n.still(log) == nil
}

// A brink is a disk that can be stopped in front of a write or an fsync: whoever comes to one waits there, while the node goes on with what it has in memory. So
// what it says until it is taken off the network rests on what the crash leaves.
type brink struct {
	mem *vfs.MemFS
	fs  vfs.FS

	mu struct {
		sync.Mutex
		cfg   vfs.CrashCloneCfg
		steps int        // until it stops; 0: it is not to
		left  *vfs.MemFS // what the crash leaves; nil before
	}
	stopped  chan struct{} // closed when left is there
	released chan struct{}
}

func newBrink(mem *vfs.MemFS) *brink {
	d := &brink{mem: mem, stopped: make(chan struct{}), released: make(chan struct{})}
	d.fs = fresh{errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && d.step() {
			<-d.released
		}
		return nil
	}))}
	return d
}

// step counts a write, and reports whether it has to wait.
func (d *brink) step() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.steps > 0 {
		if d.mu.steps--; d.mu.steps == 0 {
			d.crash()
		}
	}
	return d.mu.left != nil
}

func (d *brink) crash() {
	d.mu.left = d.mem.CrashClone(d.mu.cfg)
	close(d.stopped)
}

// stop stops the disk in front of the so manyth write from now, or where it is if there are not so many in a while, and returns what is left of it.
func (d *brink) stop(steps int, cfg vfs.CrashCloneCfg) (left *vfs.MemFS, caught bool) {
	d.mu.Lock()
	d.mu.steps, d.mu.cfg = steps, cfg
	d.mu.Unlock()
	select {
	case <-d.stopped:
		caught = true
	case <-time.After(time.Second):
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.left == nil {
		d.mu.steps = 0
		d.crash()
	}
	return d.mu.left, caught
}

func (d *brink) release() { close(d.released) }

// fresh makes a new file where an old one might be written over, which errorfs does not watch.
type fresh struct{ vfs.FS }

func (f fresh) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Remove(old); err != nil {
		return nil, err
	}
	return f.Create(name, category)
}
