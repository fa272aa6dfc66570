package sim

import (
	"errors"
	"fmt"
	"time"

	"ledgerd/consensus"
)

// client appends and reads, one thing at a time, through whatever node it comes to; what has failed it tries again, under the same id, there or
// elsewhere, until it gives up.
type client struct {
	w    *world
	id   int
	seq  uint64
	busy bool
	rec  consensus.Record
	on   *node // only through this node; nil: any
	may  bool  // an attempt at rec has failed and may have put it in
}

func newClient(w *world, id int) *client { return &client{w: w, id: id} }

func (c *client) begin() { c.w.after(c.w.about(c.w.mix.think), c.next) }

func (c *client) next() {
	if c.w.calm {
		return
	}
	if c.w.chance(0.3) {
		c.read()
		c.begin()
		return
	}
	c.fresh()
	c.append()
}

// fresh makes the next record.
func (c *client) fresh() {
	c.seq++
	c.rec = consensus.Record{App: "toy", ID: consensus.RecordID{Session: uint64(c.id) + 1, Seq: c.seq}, Payload: make([]byte, 8+c.w.rng.IntN(64))}
	copy(c.rec.Payload, fmt.Appendf(nil, "%d.%d", c.id, c.seq))
	c.busy, c.on, c.may = true, nil, false
	c.w.check.offered(c.rec.ID)
}

// through appends by way of one node, which must work now.
func (c *client) through(n *node) {
	if n.gone != nil || n.rotten != 0 {
		return
	}
	c.w.after(0, func() {
		if c.busy {
			c.w.after(restTick/4, func() { c.through(n) })
			return
		}
		c.fresh()
		c.on = n
		c.append()
	})
	c.w.run(0, nil)
	c.w.rest(fmt.Sprintf("with an append through %v", n))
}

func (c *client) append() {
	n := c.on
	if n == nil {
		n = pick(c.w, c.w.nodes)
	}
	if !n.up {
		c.w.after(20*time.Millisecond, c.append)
		return
	}
	rec := c.rec
	n.append(rec, c.w.between(patience/4, patience), func(lsn consensus.LSN, err error) {
		switch {
		case err == nil:
			c.w.say("client %d: %v is in at lsn %d, says %v", c.id, rec.ID, lsn, n)
			c.w.stats.Appends++
			c.w.check.acked(n, rec.ID, lsn)
		case errors.Is(err, consensus.ErrUnknownFate) && !c.w.chance(0.15), !c.w.chance(0.15), c.w.calm:
			c.may = c.may || errors.Is(err, consensus.ErrUnknownFate)
			c.w.after(c.w.about(50*time.Millisecond), c.append)
			return
		default:
			c.may = c.may || errors.Is(err, consensus.ErrUnknownFate)
			c.w.say("client %d gives %v up: %v", c.id, rec.ID, err)
			if c.w.stats.Unknown++; !c.may {
				c.w.check.denied(rec.ID)
			}
		}
		c.busy = false
		c.begin()
	})
}

func (c *client) read() {
	n, since := pick(c.w, c.w.nodes), c.w.now
	if !n.up || n.rotten != 0 {
		return
	}
	n.read(patience, func(tail consensus.LSN, digest consensus.Digest, err error) {
		if err == nil && n.rotten == 0 {
			c.w.say("client %d reads up to lsn %d at %v", c.id, tail-1, n)
			c.w.stats.Reads++
			c.w.check.read(n, since, tail, digest)
		}
	})
}
