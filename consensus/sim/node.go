package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"ledgerd/consensus"
)

// logDir is where a node's store lies on its disk.
const logDir = "log"

// How a node looks at what no event tells, as VirtualLog does, and what it allows one question to a peer.
const (
	nodeTick       = 50 * time.Millisecond
	askTimeout     = 500 * time.Millisecond
	prepareTimeout = 2 * time.Second
	statusTimeout  = 500 * time.Millisecond
)

// node is one member or observer of the network. What it loses in a crash lies in life; what it does, it does as VirtualLog does, which the names follow.
type node struct {
	w     *world
	index int
	key   ed25519.PrivateKey

	disk    *disk
	wipes   int             // how many disks it has lost
	durable consensus.Epoch // how far the chain is on the disk, as far as it cannot go back
	up      bool
	life    int             // grows with each start and each end
	gone    error           // why it will not come back
	rotten  consensus.Epoch // in which its copy began to differ (Rot); 0: it does not

	rate   float64       // of its clock
	offset time.Duration // of its wall clock

	store    *consensus.Store
	app      *app
	seen     consensus.LSN // the first one that the checker has not seen
	looked   int           // how many segments of its chain it has
	switcher *consensus.Switcher
	epoch    consensus.Epoch // that the links are for
	engines  map[consensus.Epoch]loglet
	link     link
	waiting  []func() // for another link
	calls    []*call
	attempts []*attempt
	drained  map[consensus.Epoch]bool
}

// link is the last segment that something serves.
type link struct {
	seg    consensus.Segment
	loglet loglet
}

// loglet is consensus.Loglet, as far as it cannot be had from the store, without a goroutine that waits. What append and tail return gives the call up.
type loglet interface {
	append(r consensus.Record, done func(consensus.Offset, error)) (cancel func())
	tail(done func(consensus.Tail, error)) (cancel func())
	close(done func())
	lost() bool
	drained() bool
}

func newNode(w *world, index int) *node {
	seed := sha256.Sum256(fmt.Appendf(nil, "node %d", index))
	n := &node{w: w, index: index, key: ed25519.NewKeyFromSeed(seed[:]), disk: newDisk(nil), rate: 1 + (w.rng.Float64()-0.5)/10}
	n.app = newApp(n)
	return n
}

func (n *node) String() string { return string(rune('A' + n.index)) }

func (n *node) public() ed25519.PublicKey { return n.key.Public().(ed25519.PublicKey) }

// after lets f happen if the node lives on until then.
func (n *node) after(d time.Duration, f func()) {
	life := n.life
	n.w.after(d, func() {
		if n.life == life {
			f()
		}
	})
}

// every lets f happen again and again, by the node's clock.
func (n *node) every(d time.Duration, f func()) {
	n.after(time.Duration(float64(d)/n.rate*(0.9+n.w.rng.Float64()/5)), func() {
		life := n.life
		if f(); n.life == life {
			n.every(d, f)
		}
	})
}

func (n *node) say(format string, args ...any) { n.w.say("%v "+format, append([]any{n}, args...)...) }

// mono is the clock that never jumps, wall the one that people set.
func (n *node) mono() time.Time {
	return time.UnixMilli(1_700_000_000_000).Add(time.Duration(float64(n.w.now) * n.rate))
}

func (n *node) wall() time.Time { return n.mono().Add(n.offset) }

// create makes the node as `init` does.
func (n *node) create() {
	n.open()
	if _, ok := n.w.operator.genesis.Member(n.public()); ok {
		n.w.must(n.store.Vouch(1), "%v vouches", n)
	}
	n.start()
}

// boot starts a node that was down.
func (n *node) boot() {
	n.open()
	n.say("boots at lsn %d of epoch %d, disk %d", n.store.Next(), len(n.store.Segments()), n.wipes)
	n.w.check.booted(n)
	if n.w.opts.Plant == WipedVotes && n.wipes > 0 {
		n.w.must(n.store.Vouch(1), "%v vouches", n)
	}
	n.start()
}

func (n *node) open() {
	store, err := consensus.OpenStore(context.Background(), consensus.StoreOptions{
		FS: n.disk.fs, Dir: logDir, NetworkID: n.w.operator.network, Genesis: n.w.operator.genesis, Window: n.w.mix.window,
		OnFatal: func(error) {}, // of a disk that is gone
	})
	n.w.must(err, "%v opens its store", n)
	n.life++
	n.up, n.store, n.seen = true, store, store.Next()
	n.durable = max(n.durable, consensus.Epoch(len(store.Segments())))
}

func (n *node) start() {
	n.switcher = consensus.NewSwitcher(consensus.SwitcherOptions{Self: n.public(), Linger: 3 * time.Second, AskAfter: 500 * time.Millisecond})
	n.epoch, n.link = 0, link{}
	n.engines, n.drained = map[consensus.Epoch]loglet{}, map[consensus.Epoch]bool{}
	n.waiting, n.calls, n.attempts = nil, nil, nil
	n.app.start()
	n.step(consensus.SwitchInputs{})
	n.every(nodeTick, n.tick)
}

// crash ends a life. What the disk is left with is the loss's to say.
func (n *node) crash(l loss) {
	n.w.stats.Crashes++
	n.say("crashes, lost of what was not synced: %v", l)
	disk := n.disk.after(n.store, l, n.w.rng.Uint64())
	n.discard()
	n.disk = disk
	n.app.crash()
}

// discard ends a life without saving anything.
func (n *node) discard() {
	if !n.up {
		return
	}
	n.up = false
	n.life++
	for _, c := range n.calls {
		c.fail(errCrashed)
	}
	for epoch := consensus.Epoch(1); epoch <= n.epoch; epoch++ {
		if e, ok := n.engines[epoch].(*engine); ok {
			_ = e.driver.Close()
		}
	}
	_ = n.store.EngineArea(noEpoch).Fail(errCrashed) // so that Close moves nothing
	_ = n.store.Close()
}

// wipe ends a life and loses the disk.
func (n *node) wipe() {
	n.w.stats.Wipes++
	n.say("loses its disk")
	n.discard()
	n.disk, n.durable, n.rotten = newDisk(nil), 0, 0
	n.wipes++
	n.app.wipe()
}

// torn performs something that writes, and may crash in the middle of it. It reports whether it did.
func (n *node) torn(write func() error) bool {
	if n.w.calm || !n.w.chance(n.w.mix.tear) {
		return false
	}
	n.w.stats.Torn++
	n.disk.arm()
	durable := n.durable
	defer func() { n.durable = durable }() // whatever the write was to make so
	if err := write(); errors.Is(err, consensus.ErrDiverged) {
		n.diverged(err)
		return true
	} else if err != nil {
		n.w.fail("%v writes: %v", n, err)
	}
	n.crash(pick(n.w, []loss{none, some, some}))
	n.w.restart(n)
	return true
}

// tick looks at what no event tells.
func (n *node) tick() {
	for epoch := consensus.Epoch(1); epoch <= n.epoch; epoch++ {
		if l := n.engines[epoch]; l != nil && !n.drained[epoch] && l.drained() {
			n.drained[epoch] = true
			n.step(consensus.SwitchInputs{Drained: []consensus.Epoch{epoch}})
		}
	}
	l := n.engines[n.epoch]
	n.step(consensus.SwitchInputs{Lost: l != nil && n.switcher.Running() && l.lost()})
	for _, t := range n.attempts {
		t.step(consensus.AttemptInputs{})
	}
}

// step steps the Switcher and sets going what it asks for.
func (n *node) step(in consensus.SwitchInputs) {
	segments := n.store.Segments()
	last := segments[len(segments)-1]
	in.Now, in.Last = n.mono(), &last
	if last.Epoch > n.epoch {
		n.shelve(segments)
	}
	act := n.switcher.Step(in)
	for _, epoch := range act.Close {
		n.retire(epoch)
	}
	if act.Ask != nil {
		n.ask(*act.Ask)
	}
	if act.Open != nil {
		o := *act.Open
		n.after(n.w.about(5*time.Millisecond), func() { n.serve(o) })
	}
}

// shelve lets the stored copy serve what has ended.
func (n *node) shelve(segments []consensus.Segment) {
	n.epoch = segments[len(segments)-1].Epoch
	n.link = link{}
	if n.epoch > 1 {
		ended := segments[n.epoch-2]
		replica, err := n.store.Replica(ended.Epoch)
		n.w.must(err, "%v shelves epoch %d", n, ended.Epoch)
		n.link = link{ended, copied{n, replica}}
	}
	n.changed()
}

func (n *node) changed() {
	waiting := n.waiting
	n.waiting = nil
	for _, f := range waiting {
		n.after(0, f)
	}
}

// serve opens a loglet for the last segment.
func (n *node) serve(o consensus.Opening) {
	var l loglet
	var err error
	open := func() error { l, err = n.openLoglet(o); return nil }
	if n.torn(open) {
		return
	}
	_ = open()
	n.say("opens epoch %d, %v: %v", o.Segment.Epoch, o.Role, err)
	if err != nil && !errors.Is(err, consensus.ErrNotMember) {
		n.w.fail("%v opens epoch %d, %v: %v", n, o.Segment.Epoch, o.Role, err)
	}
	if err == nil {
		n.engines[o.Segment.Epoch] = l
		if o.Segment.Epoch == n.epoch {
			n.link = link{o.Segment, l}
			n.changed()
		}
	}
	n.after(n.w.about(time.Millisecond), func() {
		n.step(consensus.SwitchInputs{Opened: &consensus.OpenAnswer{Epoch: o.Segment.Epoch, Err: err}})
	})
}

func (n *node) openLoglet(o consensus.Opening) (loglet, error) {
	if o.Role == consensus.Observes {
		return newObserver(n, o.Segment), nil
	}
	e, err := newEngine(n, o.Segment)
	if err != nil {
		return nil, err
	}
	n.w.check.orders(n, o.Segment)
	return e, nil
}

func (n *node) retire(epoch consensus.Epoch) {
	l := n.engines[epoch]
	if l == nil {
		n.w.fail("%v is to close epoch %d, which is not open", n, epoch)
	}
	n.say("closes epoch %d", epoch)
	delete(n.engines, epoch)
	l.close(func() { n.step(consensus.SwitchInputs{Closed: epoch}) })
}

// ask asks the others whether a segment has ended: all of them, and is content with the first who knows an end, or with some who do not.
func (n *node) ask(seg consensus.Segment) {
	told, left := false, len(n.w.nodes)-1
	enough := 1 + n.w.rng.IntN(left)
	tell := func(ended bool) {
		if !told {
			told = true
			n.say("hears that epoch %d has ended: %v", seg.Epoch, ended)
			n.step(consensus.SwitchInputs{Ended: &consensus.EndedAnswer{Epoch: seg.Epoch, Ended: ended}})
		}
	}
	for _, other := range n.w.nodes {
		if other == n {
			continue
		}
		n.call(other, askTimeout, func(reply func(any)) {
			end, ok, err := other.store.SegmentEnd(seg.Epoch)
			if n.w.must(err, "%v answers for epoch %d", other, seg.Epoch); ok {
				reply(end.Encode())
			} else {
				reply([]byte(nil))
			}
		}, func(v any, err error) {
			left--
			if b, _ := v.([]byte); b != nil {
				end, err := consensus.DecodeSegmentEnd(b)
				n.w.must(errors.Join(err, end.Verify(seg)), "%v is told the end of epoch %d", n, seg.Epoch)
				tell(true)
			} else if err == nil {
				enough--
			}
			if enough <= 0 || left == 0 {
				tell(false)
			}
		})
	}
}

// diverged ends the node for good: it has found that its history is not the members'.
func (n *node) diverged(err error) {
	n.say("has another history: %v", err)
	if n.rotten == 0 {
		n.w.fail("%v has another history: %v", n, err)
	}
	n.gone = err
	n.w.stats.Stopped++
	n.discard()
}

// restless says what the node still has to do.
func (n *node) restless() string {
	if n.gone != nil || n.rotten != 0 {
		return ""
	}
	if !n.up {
		return "is down"
	}
	n.dropEnded()
	tail := n.w.check.tail()
	switch {
	case n.store.Next() != tail:
		return fmt.Sprintf("is at lsn %d of epoch %d as %v, others are at %d", n.store.Next(), n.epoch, n.switcher.Role(), tail)
	case !n.switcher.Running():
		return fmt.Sprintf("has nothing that serves epoch %d", n.epoch)
	case n.app.applied+1 != tail:
		return fmt.Sprintf("has applied up to lsn %d of %d", n.app.applied, tail-1)
	case len(n.attempts) > 0:
		return fmt.Sprintf("attempts epoch %d, %v", n.attempts[0].request.Epoch, n.attempts[0].a.Progress().Stage)
	}
	return ""
}
