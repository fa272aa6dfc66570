package comet

import (
	"container/list"
	"slices"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/types"
)

// A pool holds the transactions that wait for a block: this node's own, until they are in one or are given up, and what the other members have sent, each
// within a bound of its own, so that one which floods crowds out nobody else. Whatever is lost here its sender sends again.
//
// Blocks are shared in the same way: what is proposed next is the first transaction of the sender that has had the fewest bytes in blocks, among those that have
// something waiting. So they get equal shares, whatever the sizes of their transactions, and one that asks for little is served in the next block.
//
// It is what CometBFT takes for its mempool, and wakes an idle chain: TxsAvailable fires when there is something and no proposal is under way.
type pool struct {
	maxForeign int           // what those of each other member may cost, in bytes (costOf)
	ttl        time.Duration // of what another member sent, after it was last seen

	mu struct {
		sync.Mutex
		queues   []*queue                  // this node's own first
		byKey    map[types.TxKey][]*pooled // the same of several senders, but alone if it is this node's own
		count    int                       // of all
		bytes    int64
		own      []*pooled // by number; holds those that were removed, too, until they are a half
		removed  int       // of own
		numbers  uint64
		closed   bool          // nothing is taken in any more
		notified bool          // TxsAvailable has fired at this height
		added    chan struct{} // closed when something of this node's own is added; nil if nobody waits
	}
	available chan struct{}
}

var _ mempool.Mempool = (*pool)(nil)

// A queue is what waits of one sender: a member, which is known to the switch by its key. There are no more of them than members.
type queue struct {
	from     p2p.ID    // empty: this node's own
	waiting  list.List // of *pooled, oldest first
	cost     int       // of those (costOf)
	barriers int       // how many of those are barriers
	served   int64     // bytes of its in blocks, on a scale that all share; it means something only beside the others'
}

// A pooled transaction.
type pooled struct {
	tx     types.Tx
	key    types.TxKey
	queue  *queue
	at     *list.Element // in it
	number uint64        // of this node's own
	seen   time.Time
	gone   bool
}

// own reports whether it is this node's own.
func (t *pooled) own() bool { return t.queue.from == "" }

func newPool(maxForeign int, ttl time.Duration) *pool {
	p := &pool{maxForeign: maxForeign, ttl: ttl, available: make(chan struct{}, 1)}
	p.mu.byKey, p.mu.queues = map[types.TxKey][]*pooled{}, []*queue{{}}
	return p
}

// addOwn adds a transaction of this node's.
func (p *pool) addOwn(tx []byte, now time.Time) types.TxKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := types.Tx(tx).Key()
	if p.mu.closed {
		return key
	}
	for _, t := range p.mu.byKey[key] {
		if t.own() {
			return key
		}
	}
	p.dropKey(key)
	p.mu.numbers++
	t := &pooled{tx: tx, key: key, queue: p.mu.queues[0], number: p.mu.numbers, seen: now}
	p.mu.own = append(p.mu.own, t)
	p.insert(t)
	if p.mu.added != nil {
		close(p.mu.added)
		p.mu.added = nil
	}
	return key
}

const (
	// pooledOverhead is about what the pool needs for a transaction, beside its bytes. Without it many small ones of one member would take many times its bound.
	pooledOverhead = 256
	// maxForeignBarriers of each other member wait here. An honest one has one under way; this node may not have seen the block of some that it had before.
	maxForeignBarriers = 16
)

// costOf is what a transaction takes of its member's bound, in bytes.
func costOf(tx []byte) int { return len(tx) + pooledOverhead }

func isBarrier(tx []byte) bool { return len(tx) > 0 && tx[0] == kindBarrier }

// addForeign adds what another member has sent, if there is room for it. What one has sent waits in its turn, though another may have sent the same before: one that
// floods cannot have a record of another's wait at its own end.
func (p *pool) addForeign(tx []byte, from p2p.ID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := types.Tx(tx).Key()
	for _, t := range p.mu.byKey[key] {
		if t.own() || t.queue.from == from {
			t.seen = now
			return
		}
	}
	// Nothing is searched for what has expired when there is no room: whoever floods would have that done for each transaction. The next nudge does it.
	if q := p.queueOf(from); !p.mu.closed && p.roomFor(tx, q) {
		p.insert(&pooled{tx: tx, key: key, queue: q, seen: now})
	}
}

func (p *pool) queueOf(from p2p.ID) *queue {
	for _, q := range p.mu.queues {
		if q.from == from {
			return q
		}
	}
	q := &queue{from: from}
	p.mu.queues = append(p.mu.queues, q)
	return q
}

func (p *pool) roomFor(tx []byte, q *queue) bool {
	return q.cost+costOf(tx) <= p.maxForeign && (!isBarrier(tx) || q.barriers < maxForeignBarriers)
}

func (p *pool) insert(t *pooled) {
	q := t.queue
	if q.waiting.Len() == 0 {
		p.join(q)
	}
	t.at = q.waiting.PushBack(t)
	q.cost += costOf(t.tx)
	if isBarrier(t.tx) {
		q.barriers++
	}
	p.mu.byKey[t.key] = append(p.mu.byKey[t.key], t)
	p.mu.count++
	p.mu.bytes += int64(len(t.tx))
	p.notify()
}

// join sets how much a sender has had that begins to wait: what the least served of those who wait have had, since nobody saves up turns; or more, if it has just had
// more. When nobody waits, all begin anew.
func (p *pool) join(q *queue) {
	if least, waits := p.leastServed(); waits {
		q.served = max(q.served, least)
		return
	}
	for _, q := range p.mu.queues {
		q.served = 0
	}
}

// leastServed returns what the one that has had the least has had, of those who wait; false if nobody does.
func (p *pool) leastServed() (least int64, waits bool) {
	for _, q := range p.mu.queues {
		if q.waiting.Len() > 0 && (!waits || q.served < least) {
			least, waits = q.served, true
		}
	}
	return least, waits
}

// close drops everything, and takes nothing in any more: no block can hold it.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	p.dropAll()
}

// notify fires TxsAvailable, once a height.
func (p *pool) notify() {
	if p.mu.notified || p.mu.count == 0 {
		return
	}
	p.mu.notified = true
	select {
	case p.available <- struct{}{}:
	default:
	}
}

// nudge fires TxsAvailable again, if anything waits: should CometBFT have missed it, nothing else would wake the chain. It also forgets what has expired.
func (p *pool) nudge(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(now)
	p.mu.notified = false
	p.notify()
}

func (p *pool) expire(now time.Time) {
	for _, q := range p.mu.queues[1:] {
		for e := q.waiting.Front(); e != nil; {
			next := e.Next()
			if t := e.Value.(*pooled); now.Sub(t.seen) > p.ttl {
				p.drop(t)
			}
			e = next
		}
	}
}

func (p *pool) dropAll() {
	for key := range p.mu.byKey {
		p.dropKey(key)
	}
}

// dropKey drops a transaction, whosoever it is.
func (p *pool) dropKey(key types.TxKey) {
	for _, t := range slices.Clone(p.mu.byKey[key]) {
		p.drop(t)
	}
}

func (p *pool) drop(t *pooled) {
	q := t.queue
	q.waiting.Remove(t.at)
	q.cost -= costOf(t.tx)
	if isBarrier(t.tx) {
		q.barriers--
	}
	same := p.mu.byKey[t.key]
	if i := slices.Index(same, t); len(same) > 1 {
		p.mu.byKey[t.key] = slices.Delete(same, i, i+1)
	} else {
		delete(p.mu.byKey, t.key)
	}
	p.mu.count--
	p.mu.bytes -= int64(len(t.tx))
	t.gone = true
	if !t.own() {
		return
	}
	t.tx = nil
	if p.mu.removed++; p.mu.removed > len(p.mu.own)/2 {
		kept := p.mu.own[:0]
		for _, t := range p.mu.own {
			if !t.gone {
				kept = append(kept, t)
			}
		}
		clear(p.mu.own[len(kept):])
		p.mu.own, p.mu.removed = kept, 0
	}
}

// remove removes transactions, whosoever they are.
func (p *pool) remove(keys ...types.TxKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		p.dropKey(key)
	}
}

// after returns this node's own transactions behind a number, as many as fit the bytes but at least one, with the number of the last, and a channel that is
// closed when there are more. With old not zero it skips those that were added later than that.
func (p *pool) after(number uint64, bytes int, old time.Time) (txs [][]byte, last uint64, added <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last = number
	for _, t := range p.mu.own {
		if t.gone || t.number <= number || !old.IsZero() && t.seen.After(old) {
			continue
		}
		if bytes -= len(t.tx); bytes < 0 && len(txs) > 0 {
			break
		}
		txs, last = append(txs, t.tx), t.number
	}
	if p.mu.added == nil {
		p.mu.added = make(chan struct{})
	}
	return txs, last, p.mu.added
}

// ReapMaxBytesMaxGas implements mempool.Mempool.
func (p *pool) ReapMaxBytesMaxGas(maxBytes, _ int64) types.Txs {
	p.mu.Lock()
	defer p.mu.Unlock()
	var txs types.Txs
	turns, shared := p.turns(), map[types.TxKey]bool{}
	for room := maxBytes; len(turns) > 0; {
		i := nextTurn(turns)
		t := turns[i].next.Value.(*pooled)
		if size := sizeOf(t.tx); !shared[t.key] {
			if room -= size; maxBytes >= 0 && room < 0 {
				break
			}
			txs = append(txs, t.tx)
			turns[i].served += size
			if len(p.mu.byKey[t.key]) > 1 {
				shared[t.key] = true
			}
		}
		if turns[i].next = turns[i].next.Next(); turns[i].next == nil {
			turns = slices.Delete(turns, i, i+1)
		}
	}
	return txs
}

// A turn is how far a sender has come in a proposal that is being made.
type turn struct {
	next   *list.Element // of its queue
	served int64         // as in it, and with what the proposal holds
}

// turns returns those of all who wait.
func (p *pool) turns() (turns []turn) {
	for _, q := range p.mu.queues {
		if q.waiting.Len() > 0 {
			turns = append(turns, turn{q.waiting.Front(), q.served})
		}
	}
	return turns
}

// nextTurn returns the index of the one that has had the least. They are as few as the members.
func nextTurn(turns []turn) int {
	best := 0
	for i, t := range turns {
		if t.served < turns[best].served {
			best = i
		}
	}
	return best
}

// ReapMaxTxs implements mempool.Mempool.
func (p *pool) ReapMaxTxs(n int) types.Txs {
	txs := p.ReapMaxBytesMaxGas(-1, -1)
	if n >= 0 && n < len(txs) {
		txs = txs[:n]
	}
	return txs
}

// Update implements mempool.Mempool: a block was committed.
func (p *pool) Update(_ int64, txs types.Txs, _ []*abci.ExecTxResult, _ mempool.PreCheckFunc, _ mempool.PostCheckFunc) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tx := range txs {
		key := tx.Key()
		for _, t := range p.mu.byKey[key] {
			t.queue.served += sizeOf(tx)
		}
		p.dropKey(key)
	}
	p.boundLeads()
	p.mu.notified = false
	p.notify()
	return nil
}

// maxLead is what a sender can have had more than another that waits, in bytes: a block. Else one whose transactions only this node knows, so that the others' blocks
// serve everybody else, would have this node's for itself for as long afterwards.
const maxLead = maxProposalBytes

func (p *pool) boundLeads() {
	least, waits := p.leastServed()
	for _, q := range p.mu.queues {
		if waits {
			q.served = min(q.served, least+maxLead)
		}
	}
}

// TxsAvailable implements mempool.Mempool.
func (p *pool) TxsAvailable() <-chan struct{} { return p.available }

// Size implements mempool.Mempool.
func (p *pool) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.count
}

// SizeBytes implements mempool.Mempool.
func (p *pool) SizeBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.bytes
}

// CheckTx implements mempool.Mempool. Nobody hands transactions to CometBFT.
func (*pool) CheckTx(types.Tx, func(*abci.ResponseCheckTx), mempool.TxInfo) error {
	panic("comet: CheckTx is not used")
}

// RemoveTxByKey implements mempool.Mempool.
func (p *pool) RemoveTxByKey(key types.TxKey) error {
	p.remove(key)
	return nil
}

// Lock implements mempool.Mempool. A commit need not keep transactions out: that they are good is judged when they are proposed.
func (*pool) Lock() {}

// Unlock implements mempool.Mempool.
func (*pool) Unlock() {}

// FlushAppConn implements mempool.Mempool.
func (*pool) FlushAppConn() error { return nil }

// Flush implements mempool.Mempool.
func (p *pool) Flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropAll()
}

// EnableTxsAvailable implements mempool.Mempool.
func (*pool) EnableTxsAvailable() {}
