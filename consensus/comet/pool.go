package comet

import (
	"container/list"
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
// It is what CometBFT takes for its mempool, and wakes an idle chain: TxsAvailable fires when there is something and no proposal is under way.
type pool struct {
	maxForeign int           // what those of each other member may cost, in bytes (costOf)
	ttl        time.Duration // of what another member sent, after it was last seen

	mu struct {
		sync.Mutex
		order    list.List // of *pooled, oldest first
		byKey    map[types.TxKey]*list.Element
		bytes    int64
		foreign  map[p2p.ID]int // what those of each other member cost
		barriers map[p2p.ID]int // how many of those are barriers
		own      []*pooled      // by number; holds those that were removed, too, until they are a half
		removed  int            // of own
		numbers  uint64
		closed   bool          // nothing is taken in any more
		notified bool          // TxsAvailable has fired at this height
		added    chan struct{} // closed when something of this node's own is added; nil if nobody waits
	}
	available chan struct{}
}

var _ mempool.Mempool = (*pool)(nil)

// A pooled transaction.
type pooled struct {
	tx     types.Tx
	key    types.TxKey
	from   p2p.ID // empty: this node's own
	number uint64 // of this node's own
	seen   time.Time
	gone   bool
}

func newPool(maxForeign int, ttl time.Duration) *pool {
	p := &pool{maxForeign: maxForeign, ttl: ttl, available: make(chan struct{}, 1)}
	p.mu.byKey, p.mu.foreign, p.mu.barriers = map[types.TxKey]*list.Element{}, map[p2p.ID]int{}, map[p2p.ID]int{}
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
	if e := p.mu.byKey[key]; e != nil {
		if e.Value.(*pooled).from == "" {
			return key
		}
		p.drop(e)
	}
	p.mu.numbers++
	t := &pooled{tx: tx, key: key, number: p.mu.numbers, seen: now}
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

// addForeign adds what another member has sent, if there is room for it.
func (p *pool) addForeign(tx []byte, from p2p.ID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := types.Tx(tx).Key()
	if e := p.mu.byKey[key]; e != nil {
		e.Value.(*pooled).seen = now
		return
	}
	if p.mu.closed {
		return
	}
	if !p.roomFor(tx, from) {
		p.expire(now)
		if !p.roomFor(tx, from) {
			return
		}
	}
	p.mu.foreign[from] += costOf(tx)
	if isBarrier(tx) {
		p.mu.barriers[from]++
	}
	p.insert(&pooled{tx: tx, key: key, from: from, seen: now})
}

func (p *pool) roomFor(tx []byte, from p2p.ID) bool {
	return p.mu.foreign[from]+costOf(tx) <= p.maxForeign && (!isBarrier(tx) || p.mu.barriers[from] < maxForeignBarriers)
}

func (p *pool) insert(t *pooled) {
	p.mu.byKey[t.key] = p.mu.order.PushBack(t)
	p.mu.bytes += int64(len(t.tx))
	p.notify()
}

// close drops everything, and takes nothing in any more: no block can hold it.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	for p.mu.order.Len() > 0 {
		p.drop(p.mu.order.Front())
	}
}

// notify fires TxsAvailable, once a height.
func (p *pool) notify() {
	if p.mu.notified || p.mu.order.Len() == 0 {
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
	for e := p.mu.order.Front(); e != nil; {
		next := e.Next()
		if t := e.Value.(*pooled); t.from != "" && now.Sub(t.seen) > p.ttl {
			p.drop(e)
		}
		e = next
	}
}

func (p *pool) drop(e *list.Element) {
	t := p.mu.order.Remove(e).(*pooled)
	delete(p.mu.byKey, t.key)
	p.mu.bytes -= int64(len(t.tx))
	t.gone = true
	if t.from != "" {
		if p.mu.foreign[t.from] -= costOf(t.tx); p.mu.foreign[t.from] == 0 {
			delete(p.mu.foreign, t.from)
		}
		if isBarrier(t.tx) {
			if p.mu.barriers[t.from]--; p.mu.barriers[t.from] == 0 {
				delete(p.mu.barriers, t.from)
			}
		}
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
		if e := p.mu.byKey[key]; e != nil {
			p.drop(e)
		}
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
	room := maxBytes
	for e := p.mu.order.Front(); e != nil; e = e.Next() {
		tx := e.Value.(*pooled).tx
		if room -= types.ComputeProtoSizeForTxs([]types.Tx{tx}); maxBytes >= 0 && room < 0 {
			break
		}
		txs = append(txs, tx)
	}
	return txs
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
		if e := p.mu.byKey[tx.Key()]; e != nil {
			p.drop(e)
		}
	}
	p.mu.notified = false
	p.notify()
	return nil
}

// TxsAvailable implements mempool.Mempool.
func (p *pool) TxsAvailable() <-chan struct{} { return p.available }

// Size implements mempool.Mempool.
func (p *pool) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.order.Len()
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
	for p.mu.order.Len() > 0 {
		p.drop(p.mu.order.Front())
	}
}

// EnableTxsAvailable implements mempool.Mempool.
func (*pool) EnableTxsAvailable() {}
