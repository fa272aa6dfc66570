package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ledgerd/consensus"
	"ledgerd/consensus/raft"
)

const raftTick = 100 * time.Millisecond

// engine runs a raft.Driver as raft.Loglet does, but that the seed decides when what it asks for is done, and when it hears of it.
type engine struct {
	n       *node
	seg     consensus.Segment
	self    uint64
	replica *consensus.Replica
	driver  *raft.Driver
	status  *raft.DriverStatus

	in       raft.Inputs // for the next step
	stepping bool        // it has been scheduled
	busy     int         // writes, applies and fetches under way
	offers   []*offer
	closing  func() // set: nothing is taken in any more
}

// offer is an append or a read that waits for the driver's answer.
type offer struct {
	record   *raft.Append // nil: a read
	answered bool
	answer   func(consensus.Offset, error)
}

func newEngine(n *node, seg consensus.Segment) (*engine, error) {
	m, ok := seg.Spec.Member(n.public())
	if !ok {
		return nil, fmt.Errorf("%w: %v", consensus.ErrNotMember, n)
	}
	replica, err := n.store.Replica(seg.Epoch)
	if err != nil {
		return nil, err
	}
	d, err := raft.NewDriver(n.store, replica, raft.Options{
		Self: m.ID, Fetcher: fetcher{n}, HeartbeatTicks: 1, ElectionTicks: 5, KeepEntries: n.w.mix.keep, MaxLag: 40,
	}, n.w.rng.Uint64())
	if err != nil {
		return nil, err
	}
	e := &engine{n: n, seg: seg, self: m.ID, replica: replica, driver: d, status: d.Status()}
	n.every(raftTick, e.tick)
	e.wake()
	return e, nil
}

func (e *engine) tick() {
	if e.closing == nil {
		e.in.Ticks++
		e.wake()
	}
}

// wake lets the driver step soon, with what has come in by then.
func (e *engine) wake() {
	if !e.stepping && e.closing == nil {
		e.stepping = true
		e.n.after(e.n.w.about(500*time.Microsecond), e.step)
	}
}

func (e *engine) step() {
	e.stepping = false
	if e.closing != nil {
		return
	}
	in := e.in
	e.in = raft.Inputs{}
	in.Now = e.n.wall()
	if next, applied := e.replica.Position().Next, e.n.app.applied; next > applied+1 {
		in.Lag = uint64(next - applied - 1)
	}
	act, err := e.driver.Step(in)
	if errors.Is(err, consensus.ErrDiverged) {
		e.n.diverged(err)
		return
	}
	e.n.w.must(err, "%v steps epoch %d", e.n, e.seg.Epoch)
	if act.Write != nil {
		e.write(act.Write)
	}
	if act.Apply != nil {
		e.apply(act.Apply)
	}
	if act.Fetch != nil {
		e.fetch(act.Fetch)
	}
	for _, f := range act.Send {
		e.send(f)
	}
	if in.Ticks > 0 || act.Apply != nil || in.Applied != nil {
		e.note()
	}
}

func (e *engine) note() {
	was := e.status
	e.status = e.driver.Status()
	if was.Leader != e.status.Leader || was.Term != e.status.Term {
		e.n.say("epoch %d: member %d follows %d in term %d", e.seg.Epoch, e.self, e.status.Leader, e.status.Term)
	}
}

// perform lets something be done after a while, in one go or not at all, and reports it after another while. What is under way when the engine closes
// is finished.
func (e *engine) perform(mean time.Duration, do func() error, report func()) {
	e.busy++
	e.n.after(e.n.w.disk(mean), func() {
		if e.n.torn(do) {
			return
		}
		if err := do(); errors.Is(err, consensus.ErrDiverged) {
			e.n.diverged(err)
			return
		} else if err != nil {
			e.n.w.fail("%v, epoch %d: %v", e.n, e.seg.Epoch, err)
		}
		e.n.after(e.n.w.about(time.Millisecond), func() {
			if e.busy--; e.closing != nil {
				e.end()
				return
			}
			report()
			e.wake()
		})
	})
}

func (e *engine) write(w *raft.Write) {
	if e.n.w.opts.Plant == SkipSync {
		w.Sync = false
	}
	e.perform(e.n.w.mix.write, w.Persist, func() { e.in.Written = w })
}

func (e *engine) apply(a *raft.Apply) {
	e.perform(e.n.w.mix.apply, func() error {
		return e.n.applies(func() error { return a.Perform(e.replica) })
	}, func() { e.in.Applied = a })
}

func (e *engine) fetch(f *raft.Fetch) {
	e.perform(20*e.n.w.mix.apply, func() error {
		e.n.w.stats.Fetches++
		err := e.n.applies(func() error { f.Perform(context.Background(), e.replica, fetcher{e.n}); return nil })
		e.n.say("epoch %d: fetches up to lsn %d: %v", e.seg.Epoch, f.Next-1, f.Err)
		return err
	}, func() { e.in.Fetched = f })
}

// fetcher reads from other nodes' stores, a few entries at a time, when the network lets it.
type fetcher struct{ n *node }

func (f fetcher) Fetch(_ context.Context, _ uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
	w := f.n.w
	other := pick(w, w.nodes)
	if !other.up || other == f.n || w.net.cut[[2]int{f.n.index, other.index}] || w.net.cut[[2]int{other.index, f.n.index}] || w.chance(w.mix.drop) {
		return nil, errTimeout
	}
	entries := other.hands(from, min(end, from+consensus.LSN(1+w.rng.IntN(16))))
	if len(entries) == 0 {
		return nil, consensus.ErrUnwritten
	}
	return entries, nil
}

// send hands a frame to the network.
func (e *engine) send(f raft.Frame) {
	m, _ := e.seg.Spec.MemberByID(f.To)
	to := e.n.w.operator.node(m)
	data := f.Data
	e.n.w.net.send(e.n, to, func() {
		if other, ok := to.engines[e.seg.Epoch].(*engine); ok && other.closing == nil {
			if e.n.w.opts.Plant == BaseUnchecked {
				data = to.forgeBase(e.seg, data)
			}
			other.in.Frames = append(other.in.Frames, data)
			other.wake()
		}
	})
}

func (e *engine) append(r consensus.Record, done func(consensus.Offset, error)) func() {
	o := &offer{}
	o.record = &raft.Append{Record: r, Done: func(at consensus.Offset, err error) { e.answer(o, at, err) }}
	if !e.offer(o, done) {
		return func() {}
	}
	e.in.Appends = append(e.in.Appends, o.record)
	if e.n.w.opts.Plant == AckEarly && e.status.Leader == e.self {
		e.n.after(e.n.w.mix.write, func() { e.answer(o, e.seg.Offset(e.replica.Position().Next), nil) })
	}
	return func() {
		if o.record.Withdraw() {
			e.answer(o, 0, context.DeadlineExceeded)
		} else {
			e.answer(o, 0, unknown(context.DeadlineExceeded))
		}
	}
}

func (e *engine) tail(done func(consensus.Tail, error)) func() {
	o := &offer{}
	told := func(_ consensus.Offset, err error) {
		if err != nil {
			done(consensus.Tail{}, err)
			return
		}
		done(e.replica.Tail())
	}
	if !e.offer(o, told) {
		return func() {}
	}
	if e.n.w.opts.Plant == StaleTail {
		e.answer(o, 0, nil)
		return func() {}
	}
	e.in.Reads = append(e.in.Reads, &raft.Read{Done: func(err error) { e.answer(o, 0, err) }, Gone: func() bool { return o.answered }})
	return func() { e.answer(o, 0, context.DeadlineExceeded) }
}

// offer takes an append or a read in, unless the engine is closed.
func (e *engine) offer(o *offer, done func(consensus.Offset, error)) bool {
	o.answer = done
	if e.closing != nil {
		e.answer(o, 0, consensus.ErrClosed)
		return false
	}
	kept := e.offers[:0]
	for _, old := range e.offers {
		if !old.answered {
			kept = append(kept, old)
		}
	}
	e.offers = append(kept, o)
	e.wake()
	return true
}

// answer answers once, a moment later: the driver is in the middle of a step.
func (e *engine) answer(o *offer, at consensus.Offset, err error) {
	if !o.answered {
		o.answered = true
		e.n.after(e.n.w.about(100*time.Microsecond), func() { o.answer(at, err) })
	}
}

// unknown joins what the log says when a record may be in or not.
func unknown(err error) error { return fmt.Errorf("%w: %w", consensus.ErrUnknownFate, err) }

func (e *engine) close(done func()) {
	e.closing = done
	e.end()
}

// end is what raft.Loglet does when it stops, once nothing is under way.
func (e *engine) end() {
	if e.busy > 0 {
		return
	}
	if w := e.driver.Flush(); w != nil {
		e.n.w.must(w.Persist(), "%v flushes epoch %d", e.n, e.seg.Epoch)
	}
	e.n.w.must(e.driver.Close(), "%v closes epoch %d", e.n, e.seg.Epoch)
	for _, o := range e.offers {
		if o.record == nil || o.record.Withdraw() {
			e.answer(o, 0, consensus.ErrClosed)
		} else {
			e.answer(o, 0, unknown(consensus.ErrClosed))
		}
	}
	e.replica.Close()
	e.n.after(0, e.closing)
}

func (e *engine) lost() bool {
	return e.status.Leader == 0 && !e.replica.Position().Sealed
}

func (e *engine) drained() bool { return e.status.Drained }
