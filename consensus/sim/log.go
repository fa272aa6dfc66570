package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ledgerd/consensus"
)

// This file is what VirtualLog makes of loglets: appends and reads that go on across segments, the preparation of the next one, and attempts. What
// decides is consensus's (Appending, Switcher, Attempt); what waits there, is called back here.

// call is one that somebody waits for.
type call struct {
	n      *node
	done   bool
	over   bool   // nobody waits any longer
	cancel func() // gives up what is under way; nil: it waits for another link
	try    func()
	end    func(error)
}

// begin starts a call, which ends by itself when patience does.
func (n *node) begin(patience time.Duration, end func(error)) *call {
	c := &call{n: n, end: end}
	kept := n.calls[:0]
	for _, old := range n.calls {
		if !old.done {
			kept = append(kept, old)
		}
	}
	n.calls = append(kept, c)
	n.after(patience, func() {
		if c.over = true; c.cancel != nil {
			c.cancel()
		} else {
			c.fail(context.DeadlineExceeded)
		}
	})
	return c
}

func (c *call) fail(err error) {
	if !c.done {
		c.done = true
		c.end(err)
	}
}

// again tries again, once there is another link than that which was tried, or after a pause.
func (c *call) again(pause time.Duration, tried link) {
	c.cancel = nil
	retry := func() {
		if !c.done {
			c.try()
		}
	}
	switch {
	case c.over:
		c.fail(context.DeadlineExceeded)
	case pause > 0:
		c.n.after(pause, retry)
	case c.n.link.loglet != tried.loglet:
		c.n.after(0, retry)
	default:
		c.n.waiting = append(c.n.waiting, retry)
	}
}

// append is VirtualLog.Append.
func (n *node) append(r consensus.Record, patience time.Duration, done func(consensus.LSN, error)) {
	var state consensus.Appending
	c := n.begin(patience, func(err error) {
		if errors.Is(err, errCrashed) {
			done(0, unknown(err)) // whoever called hears nothing any more
			return
		}
		done(0, state.Err(err))
	})
	pause := 5 * time.Millisecond
	c.try = func() {
		l := n.link
		if l.loglet == nil {
			c.again(0, l)
			return
		}
		c.cancel = l.loglet.append(r, func(o consensus.Offset, err error) {
			if c.done {
				return
			}
			lsn, next := state.Answered(l.seg, o, err, c.over)
			switch next = n.w.opts.Plant.answered(next, err); next {
			case consensus.AppendDone:
				c.done = true
				done(n.w.opts.Plant.lsn(n, l.seg, lsn), nil)
			case consensus.AppendEnd:
				c.fail(err)
			case consensus.AppendElsewhere:
				c.again(0, l)
			case consensus.AppendLook:
				n.look(lsn, c, func(e consensus.Entry) {
					if e.Record.Key() != r.Key() {
						c.again(pause, l)
						return
					}
					c.done = true
					done(lsn, nil)
				})
			case consensus.AppendAgain:
				c.again(pause, l)
				pause = min(2*pause, 200*time.Millisecond)
			}
		})
	}
	c.try()
}

// look calls then with the entry at an LSN when this node has come to it, unless the call ends before.
func (n *node) look(lsn consensus.LSN, c *call, then func(consensus.Entry)) {
	switch {
	case c.done:
	case c.over:
		c.fail(context.DeadlineExceeded)
	case n.store.Next() > lsn:
		then(n.entries(lsn, lsn+1)[0])
	default:
		n.after(n.w.between(5*time.Millisecond, 40*time.Millisecond), func() { n.look(lsn, c, then) })
	}
}

// tail is VirtualLog.Tail, consistent.
func (n *node) tail(patience time.Duration, done func(consensus.LSN, error)) {
	c := n.begin(patience, func(err error) { done(0, err) })
	c.try = func() {
		l := n.link
		if l.loglet == nil {
			c.again(0, l)
			return
		}
		c.cancel = l.loglet.tail(func(t consensus.Tail, err error) {
			switch {
			case c.done:
			case err == nil && !t.Sealed:
				c.done = true
				done(l.seg.LSN(t.Offset), nil)
			case err != nil && !errors.Is(err, consensus.ErrClosed):
				c.fail(err)
			default:
				c.again(0, l)
			}
		})
	}
	c.try()
}

// poll looks until something has come true, or ctx would have ended.
func (n *node) poll(patience time.Duration, ready func() bool, then func(error)) {
	if ready() {
		then(nil)
		return
	}
	if patience <= 0 {
		then(context.DeadlineExceeded)
		return
	}
	pause := n.w.between(5*time.Millisecond, 40*time.Millisecond)
	n.after(pause, func() { n.poll(patience-pause, ready, then) })
}

// read returns a consistent tail, and the digest of the log before it as this node holds it.
func (n *node) read(patience time.Duration, done func(consensus.LSN, consensus.Digest, error)) {
	n.tail(patience, func(tail consensus.LSN, err error) {
		if err != nil {
			done(0, consensus.Digest{}, err)
			return
		}
		n.poll(patience, func() bool { return n.store.Next() >= tail }, func(err error) {
			if err != nil {
				done(0, consensus.Digest{}, err)
				return
			}
			digest, err := n.store.DigestAt(tail - 1)
			n.w.must(err, "%v reads lsn %d", n, tail-1)
			n.entries(max(1, tail-min(tail, 4)), tail)
			done(tail, digest, nil)
		})
	})
}

// entries returns [lo, hi), all of which the node must hold. They are verified on their way from the disk.
func (n *node) entries(lo, hi consensus.LSN) (all []consensus.Entry) {
	for lo < hi {
		got := n.readable(lo, hi)
		if len(got) == 0 {
			n.w.fail("%v has nothing at lsn %d, its tail is %d", n, lo, n.store.Next())
		}
		all, lo = append(all, got...), got[len(got)-1].LSN+1
	}
	return all
}

// readable returns entries from lo on, as far as the node holds them, below hi and in one segment.
func (n *node) readable(lo, hi consensus.LSN) []consensus.Entry {
	segments := n.store.Segments()
	hi = min(hi, n.store.Next())
	for i := len(segments) - 1; i >= 0; i-- {
		seg := segments[i]
		if seg.Base > lo {
			hi = min(hi, seg.Base)
			continue
		}
		if lo >= hi {
			return nil
		}
		replica, err := n.store.Replica(seg.Epoch)
		n.w.must(err, "%v reads epoch %d", n, seg.Epoch)
		entries, err := replica.Read(context.Background(), seg.Offset(lo), seg.Offset(hi))
		n.w.must(err, "%v reads lsn %d to %d", n, lo, hi)
		return entries
	}
	return nil
}

// hands returns what another node is given. One whose copy differs from the others' gives nothing: whoever has it from there has it too (package observer,
// "What is verified, and what is trusted").
func (n *node) hands(lo, hi consensus.LSN) []consensus.Entry {
	if n.rotten != 0 {
		return nil
	}
	return n.readable(lo, hi)
}

// applies does something that may add entries, and shows them to the checker.
func (n *node) applies(do func() error) error {
	err := do()
	n.w.check.stored(n)
	n.durable = max(n.durable, consensus.Epoch(len(n.store.Segments()))) // a Seal is synced
	if n.epoch < consensus.Epoch(len(n.store.Segments())) {
		n.after(n.w.about(time.Millisecond), func() { n.step(consensus.SwitchInputs{}) })
	}
	return err
}

// orders reports whether the node can order what others hand it.
func (n *node) orders() bool {
	return n.switcher.Running() && n.switcher.Role() == consensus.Orders
}

// applied is VirtualLog's: up to where the application has played what is held.
func (n *node) applied() consensus.LSN { return min(n.store.Next()-1, n.app.applied) }

// prepare is VirtualLog.Prepare.
func (n *node) prepare(p consensus.Prepare, done func(consensus.Ready, error)) {
	q := p.Request
	refuse := func(err error) { done(consensus.Ready{}, err) }
	if _, ok := q.Spec.Member(n.public()); !ok {
		refuse(fmt.Errorf("%w: not among the members", consensus.ErrInvalid))
		return
	}
	if err := q.Spec.Validate(); err != nil {
		refuse(err)
		return
	}
	n.tail(prepareTimeout, func(tail consensus.LSN, err error) {
		if err != nil {
			refuse(err)
			return
		}
		n.poll(prepareTimeout, func() bool { return n.store.Next() >= tail }, func(err error) {
			if err != nil {
				refuse(err)
				return
			}
			segments := n.store.Segments()
			if err := q.Authorised(segments[len(segments)-1], p.Signatures); err != nil {
				refuse(err)
				return
			}
			n.vouch(p, done)
		})
	})
}

// vouch is the second half: what the node takes upon itself, and what it states.
func (n *node) vouch(p consensus.Prepare, done func(consensus.Ready, error)) {
	q := p.Request
	write := func() error { return n.store.Vouch(q.Epoch) }
	if n.torn(write) {
		return
	}
	n.w.must(write(), "%v vouches for epoch %d", n, q.Epoch)
	n.poll(prepareTimeout, func() bool { return n.applied() >= p.At }, func(err error) {
		if err != nil {
			done(consensus.Ready{}, err)
			return
		}
		digest, err := n.store.DigestAt(p.At)
		if err != nil {
			done(consensus.Ready{}, err)
			return
		}
		n.say("is ready for epoch %d at lsn %d", q.Epoch, p.At)
		done(consensus.SignReady(n.key, q.Hash(), p.At, digest, n.app.fingerprint(p.At), 1), nil)
	})
}

// attempt performs a consensus.Attempt, as VirtualLog.Reconfigure does. It ends with its node.
type attempt struct {
	n       *node
	a       *consensus.Attempt
	request consensus.Request
	ended   bool
}

func (n *node) reconfigure(q consensus.Request, signatures []consensus.Signature) {
	a, err := consensus.NewAttempt(consensus.AttemptOptions{Patience: 3 * time.Second, Grace: 200 * time.Millisecond}, n.store.Segments(), q, signatures, n.applied(), n.mono())
	n.say("attempts epoch %d with %s: %v", q.Epoch, n.w.operator.names(q.Spec), err)
	if err != nil {
		return
	}
	n.dropEnded()
	n.w.stats.Attempts++
	t := &attempt{n: n, a: a, request: q}
	n.attempts = append(n.attempts, t)
	t.step(consensus.AttemptInputs{})
}

func (n *node) dropEnded() {
	kept := n.attempts[:0:0]
	for _, t := range n.attempts {
		if !t.ended {
			kept = append(kept, t)
		}
	}
	n.attempts = kept
}

func (t *attempt) step(in consensus.AttemptInputs) {
	if t.ended {
		return
	}
	n := t.n
	in.Now, in.Segments = n.mono(), n.store.Segments()
	in.Based = n.status().Based
	before := t.a.Progress().Stage
	act := t.a.Step(in)
	for _, m := range act.Prepare {
		t.prepare(m)
	}
	for _, m := range act.Ask {
		t.ask(m)
	}
	if r := act.Append; r != nil {
		n.w.operator.sealing(t.request)
		n.w.check.offered(r.ID)
		n.append(*r, patience, func(lsn consensus.LSN, err error) {
			if err == nil {
				n.w.check.acked(n, r.ID, lsn)
			}
			if n.up {
				t.step(consensus.AttemptInputs{Appended: &consensus.AppendAnswer{Err: err}})
			}
		})
	}
	if now := t.a.Progress(); now.Stage != before || now.Stage == consensus.Complete || now.Stage == consensus.Abandoned {
		n.say("attempt at epoch %d: %v, %v", t.request.Epoch, now.Stage, now.Err)
		if t.ended = now.Stage == consensus.Complete || now.Stage == consensus.Abandoned; t.ended {
			n.w.check.attempted(t.request, now)
		}
	}
}

func (t *attempt) prepare(m consensus.Member) {
	n, p := t.n, t.a.Prepare()
	type answered struct {
		ready []byte
		err   error
	}
	take := func(r consensus.Ready, err error) {
		t.step(consensus.AttemptInputs{Prepared: []consensus.PrepareAnswer{{Member: m.ID, Ready: r, Err: err}}})
	}
	to := n.w.operator.node(m)
	if to == n {
		n.prepare(p, func(r consensus.Ready, err error) {
			if n.up {
				take(r, err)
			}
		})
		return
	}
	n.call(to, 2*prepareTimeout, func(reply func(any)) {
		q, err := consensus.DecodePrepare(p.Encode())
		n.w.must(err, "%v is asked to prepare", to)
		to.prepare(q, func(r consensus.Ready, err error) {
			if err != nil {
				reply(answered{nil, err})
			} else {
				reply(answered{r.Encode(), nil})
			}
		})
	}, func(v any, err error) {
		got, _ := v.(answered)
		if err = errors.Join(err, got.err); err != nil {
			take(consensus.Ready{}, err)
			return
		}
		take(consensus.DecodeReady(got.ready))
	})
}

func (t *attempt) ask(m consensus.Member) {
	n := t.n
	take := func(s consensus.Status, err error) {
		t.step(consensus.AttemptInputs{Statuses: []consensus.StatusAnswer{{Member: m.ID, Epoch: s.Epoch, Based: s.Based, Err: err}}})
	}
	to := n.w.operator.node(m)
	if to == n {
		n.after(0, func() { take(n.status(), nil) })
		return
	}
	n.call(to, statusTimeout, func(reply func(any)) { reply(to.status()) }, func(v any, err error) {
		s, _ := v.(consensus.Status)
		take(s, err)
	})
}

// status is VirtualLog.Status, as far as an attempt looks at it.
func (n *node) status() consensus.Status {
	epoch := consensus.Epoch(len(n.store.Segments()))
	replica, err := n.store.Replica(epoch)
	n.w.must(err, "%v tells its status", n)
	return consensus.Status{Epoch: epoch, Based: replica.Based()}
}
