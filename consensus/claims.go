package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// ClaimOptions say how often a member claims its history. Zero means the default.
type ClaimOptions struct {
	Every LSN           // claims are about LSNs that this divides, at most one a tick, so that members claim the same ones. A power of two. Default 1,024
	Idle  time.Duration // and one about the last entry of the application when there was none after it for this long. Default 5 s
}

// EnsureDefaults fills in what is zero.
func (o *ClaimOptions) EnsureDefaults() {
	o.Every = cmp.Or(o.Every, 1024)
	o.Idle = cmp.Or(o.Idle, 5*time.Second)
}

// claims makes this member's claims, and compares those of the others with this node's history.
type claims struct {
	log  *VirtualLog
	opts ClaimOptions

	mu struct {
		sync.Mutex
		inbox inbox
		tally tally
	}
}

// ordered is a claim in the log of a segment.
type ordered struct {
	seg   Segment
	lsn   LSN
	claim Claim
}

const (
	claimTick  = 250 * time.Millisecond
	maxClaims  = 64               // of a member, that wait here
	claimBound = 10 * time.Second // of one append
)

func newClaims(v *VirtualLog) *claims {
	c := &claims{log: v, opts: v.opts.Claims}
	c.opts.EnsureDefaults()
	c.mu.inbox = inbox{}
	return c
}

// ordered takes in a claim from the log.
func (c *claims) ordered(seg Segment, e Entry) {
	claim, err := DecodeClaim(e.Record.Payload)
	if err != nil {
		panic(fmt.Sprintf("consensus: the claim at lsn %d was valid and does not decode: %v", e.LSN, err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.inbox.add(ordered{seg, e.LSN, claim})
}

// An inbox holds, by member, the claims that wait to be compared, in the order of the log. One that is full drops the oldest, and no other member's: the newest
// stands for all of a history.
type inbox map[uint64][]ordered

func (b inbox) add(o ordered) {
	list := append(b[o.claim.Member], o)
	b[o.claim.Member] = list[max(0, len(list)-maxClaims):]
}

// take removes the claims about what has been applied, and returns them in the order of the log.
func (b inbox) take(applied LSN) (ready []ordered) {
	for member, list := range b {
		var rest []ordered
		for _, o := range list {
			if o.claim.At > applied {
				rest = append(rest, o)
			} else {
				ready = append(ready, o)
			}
		}
		if b[member] = rest; len(rest) == 0 {
			delete(b, member)
		}
	}
	slices.SortFunc(ready, func(a, b ordered) int { return cmp.Compare(a.lsn, b.lsn) })
	return ready
}

// run claims and compares until ctx ends.
func (c *claims) run(ctx context.Context) {
	if c.log.opts.Application.Fingerprint == nil {
		return
	}
	ticker := time.NewTicker(claimTick)
	defer ticker.Stop()
	var made LSN
	var busy chan struct{}
	quiet := quietness{}
	for {
		select {
		case <-busy:
			busy = nil
		case <-ticker.C:
			data := c.log.store.lastData()
			if at, member := c.due(made, data, quiet.since(data, time.Now())); at > made && busy == nil {
				made, busy = at, make(chan struct{})
				go c.claim(ctx, member, at, busy)
			}
			c.compareAll()
		case <-ctx.Done():
			if busy != nil {
				<-busy
			}
			return
		}
	}
}

// quietness remembers since when a number has not changed.
type quietness struct {
	lsn LSN
	at  time.Time
}

func (q *quietness) since(lsn LSN, now time.Time) time.Duration {
	if lsn != q.lsn || q.at.IsZero() {
		q.lsn, q.at = lsn, now
	}
	return now.Sub(q.at)
}

// landmark returns the LSN in (lo, hi] that the largest power of two divides. Members that look at different moments at a log which grows fast come to the
// same ones: each of them passes every multiple of a power larger than what they see at a time.
func landmark(lo, hi LSN) LSN {
	for hi > lo {
		rounder := hi & (hi - 1)
		if rounder <= lo {
			return hi
		}
		hi = rounder
	}
	return 0
}

// due returns what this node should claim after what it made last, and as which member; 0 if nothing.
func (c *claims) due(made, data LSN, quiet time.Duration) (LSN, uint64) {
	v := c.log
	segments := v.store.Segments()
	seg := segments[len(segments)-1]
	if v.opts.Self == nil || len(seg.Spec.Members) < 2 {
		return 0, 0
	}
	m, ok := seg.Spec.Member(publicOf(v.opts.Self))
	if !ok {
		return 0, 0
	}
	applied := v.applied()
	at := landmark(made, applied)
	if at%c.opts.Every != 0 {
		at = 0
	}
	if quiet >= c.opts.Idle && data <= applied {
		at = max(at, data)
	}
	return at, m.ID
}

// claim puts one into the log. If that fails, a later one takes its place.
func (c *claims) claim(ctx context.Context, member uint64, at LSN, done chan<- struct{}) {
	defer close(done)
	ctx, cancel := context.WithTimeout(ctx, claimBound)
	defer cancel()
	head, err := c.log.opts.Application.Fingerprint(at)
	if err == nil {
		segments := c.log.store.Segments()
		seg := segments[len(segments)-1]
		_, err = c.log.Append(ctx, SignClaim(c.log.opts.Self, seg, member, at, head).Record())
	}
	if err != nil && ctx.Err() == nil {
		c.log.logger.Debug("claim", "lsn", at, "err", err)
	}
}

// compareAll compares the claims about what the application has come to.
func (c *claims) compareAll() {
	applied := c.log.applied()
	c.mu.Lock()
	ready := c.mu.inbox.take(applied)
	c.mu.Unlock()
	for _, o := range ready {
		c.compare(o)
	}
}

// compare compares a claim with this node's history.
func (c *claims) compare(o ordered) {
	own, err := c.log.opts.Application.Fingerprint(o.claim.At)
	switch {
	case errors.Is(err, ErrUnwritten): // it is just being opened
		c.mu.Lock()
		c.mu.inbox.add(o)
		c.mu.Unlock()
		return
	case err != nil: // too old to be known, or it cannot be read: then whoever reads it finds out
		return
	}
	c.mu.Lock()
	wrong, err := c.mu.tally.add(o.seg, o.claim, own)
	c.mu.Unlock()
	if wrong > 0 {
		c.log.metrics.dissent.Inc()
	}
	if wrong&(wrong-1) == 0 && wrong > 0 { // whoever claims it again and again gets fewer and fewer lines
		c.log.logger.Error("a member claims another history", "segment", o.seg.Epoch, "member", o.claim.Member, "lsn", o.claim.At,
			"head", o.claim.Head.String(), "here", own.String(), "claims", wrong)
	}
	if err != nil {
		c.log.halt(err)
	}
}

// dissenters returns the members whose last claim contradicts this node's history, with the LSN that it was about.
func (c *claims) dissenters() map[uint64]LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.mu.tally.dissent)
}

// A tally counts the claims of one segment's members. Whoever lies, lies for himself: a history counts for what as many members claim as the fault model
// says cannot all be wrong, and however many claims a member makes, they take the place of its own only.
type tally struct {
	epoch   Epoch
	claimed map[uint64]*claimed // by member
	dissent map[uint64]LSN
}

// claimed is what a member has claimed.
type claimed struct {
	heads map[LSN]Digest
	lsns  []LSN  // in the order in which they came up
	wrong uint64 // claims that contradicted this node's history
}

// maxTally bounds the LSNs that are counted of a member. Members claim the same ones within seconds of each other.
const maxTally = 64

func (m *claimed) add(at LSN, head Digest) {
	if _, again := m.heads[at]; !again {
		if m.lsns = append(m.lsns, at); len(m.lsns) > maxTally {
			delete(m.heads, m.lsns[0])
			m.lsns = m.lsns[1:]
		}
	}
	m.heads[at] = head
}

// add counts a claim. wrong is how many claims of that member have contradicted this node's history, with this one; 0 if this one agrees with own, this node's
// fingerprint at that LSN. The error is an ErrDiverged: so many members agree on another history that this node's is wrong.
func (t *tally) add(seg Segment, c Claim, own Digest) (wrong uint64, err error) {
	if t.epoch != seg.Epoch || t.claimed == nil {
		*t = tally{epoch: seg.Epoch, claimed: map[uint64]*claimed{}, dissent: map[uint64]LSN{}}
	}
	m := t.claimed[c.Member]
	if m == nil {
		m = &claimed{heads: map[LSN]Digest{}}
		t.claimed[c.Member] = m
	}
	m.add(c.At, c.Head)
	if c.Head == own {
		delete(t.dissent, c.Member)
		return 0, nil
	}
	t.dissent[c.Member] = c.At
	m.wrong++
	agree := 0
	for _, other := range t.claimed {
		if head, ok := other.heads[c.At]; ok && head == c.Head {
			agree++
		}
	}
	if enough := convincing(seg.Spec); agree >= enough {
		return m.wrong, fmt.Errorf("%w: %d of %d members of epoch %d have head %v after lsn %d, here it is %v",
			ErrDiverged, agree, len(seg.Spec.Members), seg.Epoch, c.Head, c.At, own)
	}
	return m.wrong, nil
}

// convincing returns how many members cannot all be wrong: a majority where they may only crash, more than may lie where they may.
func convincing(s Spec) int {
	if s.Faults == ByzantineFaults {
		return len(s.Members) - s.Quorum() + 1
	}
	return s.Quorum()
}
