package sim

import (
	"bytes"
	"math"
	"time"

	"github.com/anishathalye/porcupine"

	"ledgerd/consensus"
)

// checker sees what no node can: all of them. It is told of every entry that any store takes in, of every answer that a client gets, and compares.
type checker struct {
	w     *world
	log   []stored // log[lsn-1]: what the first node took in there
	chain []consensus.Segment
	at    map[consensus.RecordID]consensus.LSN

	ops   []*operation // appends, in the order in which they were first offered
	byID  map[consensus.RecordID]*operation
	reads []porcupine.Operation
	disks map[seat]int // with which disk a node took part in an epoch
}

type stored struct {
	entry consensus.Entry
	head  consensus.Digest // of the toy application after it
}

type seat struct {
	node  int
	epoch consensus.Epoch
}

// operation is an append, by whomever, however often.
type operation struct {
	id     consensus.RecordID
	since  time.Duration
	until  time.Duration // the first answer that it is in; 0: there was none
	denied bool          // somebody was told that it is surely not in, and nobody else offered it
}

func newChecker(w *world) *checker {
	return &checker{w: w, at: map[consensus.RecordID]consensus.LSN{}, byID: map[consensus.RecordID]*operation{}, disks: map[seat]int{}}
}

// tail is the first LSN that no node holds.
func (c *checker) tail() consensus.LSN { return consensus.LSN(len(c.log)) + 1 }

func (c *checker) head(lsn consensus.LSN) consensus.Digest {
	if lsn == 0 {
		return consensus.Digest{}
	}
	return c.log[lsn-1].head
}

// stored looks at what a node has taken in since the last look.
func (c *checker) stored(n *node) {
	next := n.store.Next()
	if next > n.seen {
		for _, e := range n.entries(n.seen, next) {
			c.entry(n, e)
		}
		n.seen = next
	}
	c.segments(n)
}

// entry compares one with what others hold at its place.
func (c *checker) entry(n *node, e consensus.Entry) {
	if n.rotten != 0 && e.Epoch <= n.rotten {
		return
	}
	if e.LSN < c.tail() {
		if have := c.log[e.LSN-1].entry; have.Digest != e.Digest || have.Epoch != e.Epoch {
			c.w.fail("%v has %v in epoch %d at lsn %d, others %v in epoch %d", n, e.Record.ID, e.Epoch, e.LSN, have.Record.ID, have.Epoch)
		}
		return
	}
	before := consensus.Entry{Digest: consensus.Digest(c.w.operator.network)}
	if len(c.log) > 0 {
		before = c.log[len(c.log)-1].entry
	}
	switch {
	case e.LSN != c.tail():
		c.w.fail("%v takes in lsn %d after %d", n, e.LSN, c.tail()-1)
	case e.Verify(before.Digest) != nil:
		c.w.fail("%v: the digest at lsn %d does not follow from the one before", n, e.LSN)
	case e.UnixMilli < before.UnixMilli:
		c.w.fail("%v: the clock goes back at lsn %d", n, e.LSN)
	case e.Epoch < before.Epoch || e.Epoch > before.Epoch+1:
		c.w.fail("%v: lsn %d is of epoch %d, the one before of %d", n, e.LSN, e.Epoch, before.Epoch)
	}
	if was, ok := c.at[e.Record.ID]; ok && e.LSN-was <= consensus.LSN(c.w.mix.window) {
		c.w.fail("%v: %v is there twice, at lsn %d and %d", n, e.Record.ID, was, e.LSN)
	}
	c.at[e.Record.ID] = e.LSN
	c.log = append(c.log, stored{e, fold(c.head(e.LSN-1), e)})
}

// segments compares a node's chain with what others have.
func (c *checker) segments(n *node) {
	if n.rotten != 0 {
		return
	}
	segments := n.store.Segments()
	if len(segments) == n.looked {
		return
	}
	n.looked = len(segments)
	for i, seg := range segments {
		if i < len(c.chain) {
			if !bytes.Equal(seg.Encode(), c.chain[i].Encode()) {
				c.w.fail("%v has another epoch %d: %+v, others %+v", n, seg.Epoch, seg, c.chain[i])
			}
			continue
		}
		c.segment(n, seg)
	}
}

// segment looks at one that is new to all.
func (c *checker) segment(n *node, seg consensus.Segment) {
	if i := len(c.chain); i > 0 {
		q, ok := c.w.operator.valid[seg.Identity]
		last := c.log[seg.Base-2].entry
		switch {
		case !ok:
			c.w.fail("%v: epoch %d is one that nobody was to ask for", n, seg.Epoch)
		case seg.Epoch != consensus.Epoch(i)+1 || last.Epoch != seg.Epoch-1 || last.Digest != seg.BaseDigest || last.UnixMilli != seg.BaseUnixMilli:
			c.w.fail("%v: epoch %d does not begin where epoch %d ends: %+v", n, seg.Epoch, i, seg)
		case last.LSN > q.NotAfter:
			c.w.fail("%v: epoch %d was sealed at lsn %d, its request was good up to %d", n, seg.Epoch, last.LSN, q.NotAfter)
		}
		c.w.stats.Switches++
		c.w.say("epoch %d begins at lsn %d: %s", seg.Epoch, seg.Base, c.w.operator.names(seg.Spec))
	}
	c.chain = append(c.chain, seg)
}

// booted looks at what a node has found on its disk.
func (c *checker) booted(n *node) {
	n.looked = 0
	next := n.store.Next()
	if next > c.tail() {
		c.w.fail("%v comes up at lsn %d, past all others", n, next)
	}
	digest, err := n.store.DigestAt(next - 1)
	c.w.must(err, "%v comes up at lsn %d", n, next)
	if next > 1 && n.rotten == 0 && digest != c.log[next-2].entry.Digest {
		c.w.fail("%v comes up with another history at lsn %d", n, next-1)
	}
	if have := consensus.Epoch(len(n.store.Segments())); have < n.durable {
		c.w.fail("%v comes up in epoch %d, it had stored %d", n, have, n.durable)
	}
	c.segments(n)
}

// orders is told that a node takes part in an epoch.
func (c *checker) orders(n *node, seg consensus.Segment) {
	s := seat{n.index, seg.Epoch}
	if was, ok := c.disks[s]; ok && was != n.wipes {
		c.w.fail("%v takes part in epoch %d with its disk %d, and did with disk %d", n, seg.Epoch, n.wipes, was)
	}
	c.disks[s] = n.wipes
}

// voters counts the members of an epoch that have taken part in it, still have the disk with which they did, and are not the one left out.
func (c *checker) voters(seg consensus.Segment, without *node) (count int) {
	for _, n := range c.w.nodes {
		was, ok := c.disks[seat{n.index, seg.Epoch}]
		if ok && was == n.wipes && n != without && n.gone == nil {
			count++
		}
	}
	return count
}

// offered is told that somebody is about to append a record.
func (c *checker) offered(id consensus.RecordID) {
	if c.byID[id] == nil {
		o := &operation{id: id, since: c.w.now}
		c.byID[id] = o
		c.ops = append(c.ops, o)
	}
}

// acked is told that a node said where a record is.
func (c *checker) acked(n *node, id consensus.RecordID, lsn consensus.LSN) {
	if o := c.byID[id]; o.until == 0 {
		o.until = c.w.now
	}
	if lsn >= c.tail() {
		c.w.fail("%v says that %v is at lsn %d, which nobody holds", n, id, lsn)
	}
	if have := c.log[lsn-1].entry.Record.ID; have != id {
		c.w.fail("%v says that %v is at lsn %d, where %v is", n, id, lsn, have)
	}
	if n.up && lsn >= n.store.Next() {
		c.w.fail("%v says that %v is at lsn %d, and is itself at %d", n, id, lsn, n.store.Next())
	}
}

// denied is told that a record is surely not in.
func (c *checker) denied(id consensus.RecordID) { c.byID[id].denied = true }

// read is told what a client has read.
func (c *checker) read(n *node, since time.Duration, tail consensus.LSN, digest consensus.Digest) {
	if have := c.log; tail > 1 && have[tail-2].entry.Digest != digest {
		c.w.fail("%v reads another history up to lsn %d", n, tail-1)
	}
	c.reads = append(c.reads, porcupine.Operation{Input: access{}, Call: int64(since), Output: tail, Return: int64(c.w.now)})
}

// attempted is told how an attempt ended.
func (c *checker) attempted(q consensus.Request, p consensus.Progress) {
	if p.Stage != consensus.Complete {
		return
	}
	hold := 0
	for _, m := range q.Spec.Members {
		if c.w.operator.node(m).durable >= q.Epoch {
			hold++
		}
	}
	if hold < q.Spec.Quorum() {
		c.w.fail("epoch %d is said to be complete, and %d of its members hold what is below it", q.Epoch, hold)
	}
}

// end looks at everything once more.
func (c *checker) end() {
	for _, n := range c.w.nodes {
		if n.gone == nil && n.rotten == 0 {
			n.seen, n.looked = 1, 0
			c.stored(n)
		}
	}
	for _, o := range c.ops {
		switch _, in := c.at[o.id]; {
		case o.until != 0 && !in:
			c.w.fail("%v was acknowledged and is not in the log", o.id)
		case o.denied && in:
			c.w.fail("%v is in the log, and was said not to be", o.id)
		}
	}
	c.linearizable()
}

// access is the input of an operation on the log: an append, of a record that is at an LSN in the end, or a read of the tail.
type access struct{ lsn consensus.LSN }

// model is the log as its users see it: its state is the tail. An append moves it on by one, to where the record was found in the end, unless
// the record is there already; a read returns it. What is below the tail need not be in the state, since all stores have been found to agree on it.
var model = porcupine.Model{
	Init: func() any { return consensus.LSN(1) },
	Step: func(state, input, output any) (bool, any) {
		tail := state.(consensus.LSN)
		switch at := input.(access).lsn; {
		case at == 0:
			return output.(consensus.LSN) == tail, tail
		case at == tail:
			return true, tail + 1
		default:
			return at < tail, tail
		}
	},
}

// linearizable asks whether there is an order of all appends and reads, within the times at which they took place, that one log on one machine would show.
func (c *checker) linearizable() {
	history := append([]porcupine.Operation(nil), c.reads...)
	known := 0
	for _, o := range c.ops {
		lsn, in := c.at[o.id]
		if !in {
			continue
		}
		known++
		until := int64(math.MaxInt64)
		if o.until != 0 {
			until = int64(o.until)
		}
		history = append(history, porcupine.Operation{Input: access{lsn}, Call: int64(o.since), Return: until})
	}
	if known != len(c.log) {
		c.w.fail("%d of %d entries are ones that somebody appended", known, len(c.log))
	}
	if got := porcupine.CheckOperationsTimeout(model, history, 30*time.Second); got != porcupine.Ok {
		c.w.fail("the history of %d appends and %d reads is not linearizable (%v)", known, len(c.reads), got)
	}
}
