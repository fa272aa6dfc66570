package txpool

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"
)

// sender is an account that has transactions in the pool, or in an append in flight.
type sender struct {
	address common.Address
	nonce   uint64 // at the head, as told or read last
	account account
	fresh   bool // account is of the newest entry that is known to concern it

	// list holds the transactions by nonce. Invariant: nonces are distinct and none is below nonce.
	list  []*entry
	ready int // how long the prefix of list is that begins at nonce and has no gap
	cost  uint256.Int
	bytes int

	// flight is the append in flight that holds the transactions with nonces below flightEnd, or nil.
	flight    *taken
	flightEnd uint64

	// hold says that the sender may not come to its turn before its state has been read again.
	hold    hold
	checked uint64  // Pool.mu.applied at that last read
	retried attempt // what the sender looked like when it was let go the last time
	since   time.Time

	// What the pool counts of this sender. settle keeps it up to date.
	counted  counts
	waiting  int       // executable transactions while in the line, else 0
	deadline time.Time // no queued transaction expires before. Key in Pool.mu.expiry
	crowd    int       // queued transactions. Key in Pool.mu.crowds

	links [2]link // in the lists lineList and heldList
	at    [2]int  // 1 + position in the heaps expiryHeap and crowdHeap, 0 if not there
}

// hold is why a sender is held.
type hold int

const (
	free hold = iota
	// lacksFunds: a transaction came to its turn without the funds for it. It is released when the balance covers the next
	// one and something is not as it was at the last release, so that a wrong belief cannot make it spin through the log.
	lacksFunds
	// strayNonce: its nonce is not what is believed here. Released by reading it.
	strayNonce
)

// attempt tells two tries of a sender apart.
type attempt struct {
	nonce   uint64
	balance uint256.Int
	first   common.Hash
}

type counts struct{ pending, queued, inFlight int }

// find returns where the transaction with this nonce is, or would be.
func (s *sender) find(nonce uint64) (int, bool) {
	if n := len(s.list); n > 0 && s.list[n-1].nonce < nonce {
		return n, false // what a sender sends next usually follows the rest
	}
	return slices.BinarySearchFunc(s.list, nonce, func(e *entry, nonce uint64) int { return cmp.Compare(e.nonce, nonce) })
}

// pooled returns the transaction with this nonce, or nil.
func (s *sender) pooled(nonce uint64) *entry {
	if i, ok := s.find(nonce); ok {
		return s.list[i]
	}
	return nil
}

// inFlight returns how many transactions are in an append. They are the first ones.
func (s *sender) inFlight() int {
	if s.flight == nil {
		return 0
	}
	i, _ := s.find(s.flightEnd)
	return i
}

// pending returns how many transactions are in flight or executable: a prefix of list. The others are queued.
func (s *sender) pending() int {
	n := s.inFlight()
	if s.hold == free {
		n = max(n, s.ready)
	}
	return n
}

func (s *sender) insert(e *entry) {
	i, _ := s.find(e.nonce)
	s.list = slices.Insert(s.list, i, e)
	s.cost.Add(&s.cost, &e.cost)
	s.bytes += e.size
}

func (s *sender) replace(old, e *entry) {
	i, _ := s.find(old.nonce)
	s.list[i] = e
	s.cost.Sub(&s.cost, &old.cost)
	s.cost.Add(&s.cost, &e.cost)
	s.bytes += e.size - old.size
}

// remove takes the transaction at i out. It leaves a gap: use popFront for nonces that are used.
func (s *sender) remove(i int) *entry {
	e := s.list[i]
	s.list = slices.Delete(s.list, i, i+1)
	s.ready = min(s.ready, i)
	s.forget(e)
	return e
}

// popFront takes the first transaction out, whose nonce has been used.
func (s *sender) popFront() *entry {
	e := s.list[0]
	s.list[0] = nil
	s.list = s.list[1:] // amortised: append copies what is left when it runs out of room
	s.ready = max(0, s.ready-1)
	s.forget(e)
	return e
}

func (s *sender) forget(e *entry) {
	s.cost.Sub(&s.cost, &e.cost)
	s.bytes -= e.size
}

// advance moves the nonce at the head, which never goes back, and calls gone for each transaction whose nonce is
// used by then.
func (s *sender) advance(nonce uint64, gone func(*entry)) {
	s.nonce = max(s.nonce, nonce)
	for len(s.list) > 0 && s.list[0].nonce < s.nonce {
		gone(s.popFront())
	}
}

// expiresAt is when the transaction at i, which is queued, has waited for ttl. One that became queued long after it was
// added, because its sender was held or one before it was dropped, counts from then.
func (s *sender) expiresAt(i int, ttl time.Duration) time.Time {
	begin := s.list[i].added
	if s.since.After(begin) {
		begin = s.since
	}
	return begin.Add(ttl)
}

// settle makes all that is derived from s right again, after any change of it: the executable prefix, the counters,
// and whether s is in the line, among the held ones, and in the orders of expiry and eviction. The caller holds mu.
func (p *Pool) settle(s *sender) {
	p.extend(s)
	p.count(s)
	s.waiting, p.mu.waiting = 0, p.mu.waiting-s.waiting
	if s.flight == nil && s.hold == free {
		s.waiting = s.ready
		p.mu.waiting += s.ready
	}
	p.mu.line.keep(s, s.waiting > 0)
	if held := s.hold != free && len(s.list) > 0; held && s.hold == strayNonce && !s.links[heldList].in {
		p.mu.held.pushFront(s) // such a one is rare, and let go at its first read
	} else {
		p.mu.held.keep(s, held)
	}
	p.rank(s)
	if len(s.list) == 0 && s.flight == nil {
		delete(p.mu.senders, s.address)
	}
}

// extend lets the executable prefix grow, and announces what is executable for the first time.
func (p *Pool) extend(s *sender) {
	var news []*types.Transaction
	for s.ready < len(s.list) && s.list[s.ready].nonce == s.nonce+uint64(s.ready) {
		if e := s.list[s.ready]; !e.announced {
			e.announced = true
			news = append(news, e.tx)
		}
		s.ready++
	}
	if news != nil {
		p.feed.send(news)
	}
}

func (p *Pool) count(s *sender) {
	now := counts{pending: s.pending(), inFlight: s.inFlight()}
	now.queued = len(s.list) - now.pending
	p.mu.counts.pending += now.pending - s.counted.pending
	p.mu.counts.queued += now.queued - s.counted.queued
	p.mu.counts.inFlight += now.inFlight - s.counted.inFlight
	s.counted = now
}

// rank keeps s in the orders of expiry and eviction while it has queued transactions.
func (p *Pool) rank(s *sender) {
	queued := s.counted.queued
	switch was := s.crowd; {
	case queued == was:
	case was == 0:
		s.crowd = queued
		s.deadline = p.opts.Now().Add(p.opts.QueueTTL)
		heap.Push(&p.mu.expiry, s)
		heap.Push(&p.mu.crowds, s)
	case queued == 0:
		s.crowd = 0
		heap.Remove(&p.mu.expiry, s.at[expiryHeap]-1)
		heap.Remove(&p.mu.crowds, s.at[crowdHeap]-1)
	default:
		s.crowd = queued
		heap.Fix(&p.mu.crowds, s.at[crowdHeap]-1)
	}
}

const (
	lineList = iota
	heldList
)

const (
	expiryHeap = iota
	crowdHeap
)

// link is a place in a senderList.
type link struct {
	prev, next *sender
	in         bool
}

// senderList is a doubly linked list through the senders themselves: to join and leave it costs no allocation. which tells
// the links of one list from those of another.
type senderList struct {
	front, back *sender
	which       int
}

// keep makes s a member or not; a new one goes to the back.
func (l *senderList) keep(s *sender, member bool) {
	switch at := &s.links[l.which]; {
	case member && !at.in:
		l.pushBack(s)
	case !member && at.in:
		l.remove(s)
	}
}

func (l *senderList) next(s *sender) *sender { return s.links[l.which].next }

func (l *senderList) pushBack(s *sender) {
	s.links[l.which] = link{prev: l.back, in: true}
	if l.back == nil {
		l.front = s
	} else {
		l.back.links[l.which].next = s
	}
	l.back = s
}

func (l *senderList) pushFront(s *sender) {
	s.links[l.which] = link{next: l.front, in: true}
	if l.front == nil {
		l.back = s
	} else {
		l.front.links[l.which].prev = s
	}
	l.front = s
}

func (l *senderList) remove(s *sender) {
	at := s.links[l.which]
	if at.prev == nil {
		l.front = at.next
	} else {
		at.prev.links[l.which].next = at.next
	}
	if at.next == nil {
		l.back = at.prev
	} else {
		at.next.links[l.which].prev = at.prev
	}
	s.links[l.which] = link{}
}

// senderHeap is a heap for container/heap of senders that know their place in it.
type senderHeap struct {
	items []*sender
	which int
}

func (h *senderHeap) Len() int { return len(h.items) }

func (h *senderHeap) Less(i, j int) bool {
	a, b := h.items[i], h.items[j]
	if h.which == expiryHeap {
		return a.deadline.Before(b.deadline)
	}
	return a.crowd > b.crowd
}

func (h *senderHeap) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].at[h.which], h.items[j].at[h.which] = i+1, j+1
}

func (h *senderHeap) Push(x any) {
	s := x.(*sender)
	h.items = append(h.items, s)
	s.at[h.which] = len(h.items)
}

func (h *senderHeap) Pop() any {
	last := len(h.items) - 1
	s := h.items[last]
	h.items[last] = nil
	h.items = h.items[:last]
	s.at[h.which] = 0
	return s
}
