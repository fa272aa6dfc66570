package sim

import (
	"context"
	"errors"
	"time"

	"ledgerd/consensus"
)

// observer serves a segment that its node does not order: it follows the other nodes' stores, verifies, applies, and hands appends to those who order.
type observer struct {
	n       *node
	seg     consensus.Segment
	replica *consensus.Replica
	asking  bool
	closed  bool
	waits   []func() // for more entries
}

func newObserver(n *node, seg consensus.Segment) *observer {
	replica, err := n.store.Replica(seg.Epoch)
	n.w.must(err, "%v observes epoch %d", n, seg.Epoch)
	o := &observer{n: n, seg: seg, replica: replica}
	n.every(30*time.Millisecond, o.follow)
	return o
}

// follow asks some node for what comes next.
func (o *observer) follow() {
	for _, f := range o.waits {
		f()
	}
	o.waits = nil
	w := o.n.w
	from, other := o.replica.Position().Next, pick(w, w.nodes)
	if o.closed || o.asking || o.replica.Position().Sealed || other == o.n {
		return
	}
	o.asking = true
	limit := consensus.LSN(1 + w.rng.IntN(w.mix.chunk))
	o.n.call(other, 300*time.Millisecond, func(reply func(any)) {
		reply(other.hands(from, from+limit))
	}, func(v any, _ error) {
		entries, _ := v.([]consensus.Entry)
		if len(entries) == 0 || o.closed {
			o.asking = false
			return
		}
		o.n.after(w.disk(w.mix.apply), func() { o.apply(entries) })
	})
}

// apply verifies entries against this node's own digest, and applies what stands the test, as package observer does.
func (o *observer) apply(entries []consensus.Entry) {
	o.asking = false
	if o.closed {
		return
	}
	at := o.replica.Position()
	b := consensus.Batch{Sync: true, Observed: true}
	next, digest := at.Next, at.Digest
	for _, e := range entries {
		if e.LSN != next || e.Epoch != o.seg.Epoch {
			break
		}
		if err := e.Verify(digest); err != nil && o.n.rotten != o.seg.Epoch {
			if o.n.w.opts.rot() {
				return // another node will have what fits
			}
			o.n.w.fail("%v observes lsn %d: %v", o.n, e.LSN, err)
		}
		next, digest = next+1, e.Digest
		b.Items = append(b.Items, o.n.rot(o.seg, consensus.Item{UnixMilli: e.UnixMilli, Record: e.Record}))
	}
	if len(b.Items) == 0 {
		return
	}
	b.Applied = max(at.Applied, uint64(next-1))
	write := func() error {
		return o.n.applies(func() error { _, err := o.replica.Apply(b); return err })
	}
	if o.n.torn(write) {
		return
	}
	o.n.w.must(write(), "%v observes", o.n)
	o.n.w.stats.Observed += len(b.Items)
}

// someone returns a node that may order in the segment, or another one.
func (o *observer) someone() *node {
	if members := o.seg.Spec.Members; o.n.w.chance(0.8) && len(members) > 0 {
		return o.n.w.operator.node(pick(o.n.w, members))
	}
	return pick(o.n.w, o.n.w.nodes)
}

// errNotOrdering is what a node answers that cannot order what it was handed.
var errNotOrdering = errors.New("this node does not order")

func (o *observer) append(r consensus.Record, done func(consensus.Offset, error)) func() {
	answer := once(done)
	to := o.someone()
	if o.closed || to == o.n {
		o.n.after(time.Millisecond, func() { answer(0, o.end(errNotOrdering)) })
		return func() {}
	}
	type answered struct {
		lsn consensus.LSN
		err error
	}
	o.n.call(to, patience, func(reply func(any)) {
		if !to.orders() {
			reply(answered{0, errNotOrdering})
			return
		}
		to.append(r, patience, func(lsn consensus.LSN, err error) { reply(answered{lsn, err}) })
	}, func(v any, err error) {
		got, _ := v.(answered)
		switch err = errors.Join(err, got.err); {
		case errors.Is(err, consensus.ErrInvalid), errors.Is(err, consensus.ErrTooLarge):
			answer(0, err)
		case err != nil:
			answer(0, unknown(err))
		default:
			o.held(got.lsn, func() { answer(o.offset(got.lsn)) }, func() { answer(0, o.later(got.lsn)) })
		}
	})
	return func() { answer(0, unknown(context.DeadlineExceeded)) }
}

// offset is where a record is in the segment; an earlier one has none.
func (o *observer) offset(lsn consensus.LSN) (consensus.Offset, error) {
	if lsn < o.seg.Base {
		return 0, consensus.DuplicateError{LSN: lsn}
	}
	return o.seg.Offset(lsn), nil
}

// later is what an append ends with of which another node has said where it is, and that has not come here before the observer was closed.
func (o *observer) later(lsn consensus.LSN) error {
	if p := o.replica.Position(); p.Sealed && lsn >= p.Next {
		return consensus.LaterError{LSN: lsn}
	}
	return unknown(o.end(nil))
}

// end is what a call ends with that the observer does not answer any more.
func (o *observer) end(err error) error {
	if o.closed {
		return consensus.ErrClosed
	}
	return err
}

// held calls then once the node holds an LSN, or over if the observer is closed before.
func (o *observer) held(lsn consensus.LSN, then, over func()) {
	switch {
	case o.n.store.Next() > lsn:
		then()
	case o.closed:
		over()
	default:
		o.waits = append(o.waits, func() { o.held(lsn, then, over) })
	}
}

func (o *observer) tail(done func(consensus.Tail, error)) func() {
	answered := false
	answer := func(t consensus.Tail, err error) {
		if !answered {
			answered = true
			done(t, err)
		}
	}
	to := o.someone()
	if o.closed || to == o.n {
		o.n.after(time.Millisecond, func() { answer(consensus.Tail{}, o.end(errNotOrdering)) })
		return func() {}
	}
	o.n.call(to, patience, func(reply func(any)) {
		if !to.orders() {
			reply(consensus.LSN(0))
			return
		}
		to.tail(patience, func(lsn consensus.LSN, _ error) { reply(lsn) })
	}, func(v any, err error) {
		lsn, _ := v.(consensus.LSN)
		if err == nil && lsn < o.seg.Base {
			err = errNotOrdering
		}
		if err != nil {
			answer(consensus.Tail{}, err)
			return
		}
		answer(consensus.Tail{Offset: o.seg.Offset(lsn)}, nil)
	})
	return func() { answer(consensus.Tail{}, context.DeadlineExceeded) }
}

func (o *observer) close(done func()) {
	o.closed = true
	o.replica.Close()
	o.n.after(o.n.w.about(time.Millisecond), done)
}

func (o *observer) lost() bool    { return false }
func (o *observer) drained() bool { return false }

// copied serves a segment that has ended from this node's copy, as VirtualLog's stored loglet does.
type copied struct {
	n       *node
	replica *consensus.Replica
}

func (c copied) append(r consensus.Record, done func(consensus.Offset, error)) func() {
	c.n.after(0, func() { done(c.replica.AnswerSealed(r)) })
	return func() {}
}

func (c copied) tail(done func(consensus.Tail, error)) func() {
	c.n.after(0, func() { done(c.replica.Tail()) })
	return func() {}
}

func (c copied) close(func())  {}
func (c copied) lost() bool    { return false }
func (c copied) drained() bool { return false }

func once(f func(consensus.Offset, error)) func(consensus.Offset, error) {
	called := false
	return func(o consensus.Offset, err error) {
		if !called {
			called = true
			f(o, err)
		}
	}
}
