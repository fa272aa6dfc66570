package rpc

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"golang.org/x/sync/errgroup"

	"ledgerd/ledger"
)

// Bounds of the intake. Heads that do not fit are read from the store, so their number only says how much memory may wait.
const (
	maxIntakeHeads        = 64
	maxIntakeTransactions = 16384
)

// hub brings what the ledger and the pool announce to the subscribers (invariants 1 and 2). Three goroutines:
//
//	intake:    take from the feeds at once, so that neither ledger nor pool ever waits for a client. Full: drop the oldest.
//	dispatch:  for each head, in order: what the intake dropped is loaded; encode once; offer to every subscriber.
//	syncing:   from time to time: is the node behind?
//
// A subscriber's own goroutine writes to its connection, which may block; only its queue feels it.
type hub struct {
	*node
	done chan struct{} // closed when run ends: nothing will be announced any more

	intake struct {
		sync.Mutex
		heads        []ledger.HeadEvent
		transactions []*types.Transaction
	}
	wake chan struct{} // capacity 1: the intake has something

	mu struct {
		sync.Mutex
		subscribers map[*subscriber]struct{}
		waiters     map[common.Hash][]chan<- *receipt // of eth_sendRawTransactionSync; capacity 1
	}
}

func newHub(n *node) *hub {
	h := &hub{node: n, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	h.mu.subscribers = make(map[*subscriber]struct{})
	h.mu.waiters = make(map[common.Hash][]chan<- *receipt)
	return h
}

func (h *hub) run(ctx context.Context) error {
	defer close(h.done)
	heads := make(chan ledger.HeadEvent, 16)
	headSub := h.backend.SubscribeHeads(heads)
	defer headSub.Unsubscribe()
	txs := make(chan []*types.Transaction, 16)
	txSub := h.pool.SubscribeTransactions(txs)
	defer txSub.Unsubscribe()
	next := h.backend.CurrentHeader().Number.Uint64() + 1 // read after subscribing: none is missed between the two

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		headsEnd, txsEnd := headSub.Err(), txSub.Err()
		for {
			select {
			case ev := <-heads:
				h.takeHead(ev)
			case batch := <-txs:
				h.takeTransactions(batch)
			case <-headsEnd: // the ledger was closed: there is nothing more to come, and that is all
				headsEnd = nil
			case <-txsEnd:
				txsEnd = nil
			case <-ctx.Done():
				return nil
			}
		}
	})
	g.Go(func() error {
		for {
			select {
			case <-h.wake:
				events, transactions := h.takeIntake()
				h.dispatchTransactions(transactions)
				for _, ev := range events {
					next = h.dispatchFrom(next, ev)
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	g.Go(func() error {
		tick := time.NewTicker(h.opts.SyncingInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.dispatchSyncing(ctx)
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// dispatchSyncing tells those who asked for it whether the node is behind.
func (h *hub) dispatchSyncing(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var progress *syncProgress
	asked := false
	for s := range h.mu.subscribers {
		if s.onSyncing == nil {
			continue
		}
		if !asked {
			var err error
			if progress, err = h.syncProgress(ctx); err != nil {
				return // the next tick may know
			}
			asked = true
		}
		s.offer(s.onSyncing(progress))
	}
}

func (h *hub) takeHead(ev ledger.HeadEvent) {
	h.intake.Lock()
	if len(h.intake.heads) == maxIntakeHeads {
		h.intake.heads = append(h.intake.heads[:0], h.intake.heads[1:]...)
	}
	h.intake.heads = append(h.intake.heads, ev)
	h.intake.Unlock()
	h.wakeUp()
}

func (h *hub) takeTransactions(batch []*types.Transaction) {
	h.intake.Lock()
	h.intake.transactions = append(h.intake.transactions, batch...)
	if over := len(h.intake.transactions) - maxIntakeTransactions; over > 0 {
		h.intake.transactions = append(h.intake.transactions[:0], h.intake.transactions[over:]...)
		h.metrics.droppedTxs.Add(float64(over))
	}
	h.intake.Unlock()
	h.wakeUp()
}

func (h *hub) wakeUp() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hub) takeIntake() (heads []ledger.HeadEvent, txs []*types.Transaction) {
	h.intake.Lock()
	defer h.intake.Unlock()
	heads, txs = h.intake.heads, h.intake.transactions
	h.intake.heads, h.intake.transactions = nil, nil
	return heads, txs
}

// dispatchFrom announces the blocks from number next up to ev's and returns the number after it.
func (h *hub) dispatchFrom(next uint64, ev ledger.HeadEvent) uint64 {
	number := ev.Block.NumberU64()
	for ; next < number; next++ {
		missed, ok := h.load(next)
		if !ok {
			// Only a block that this node does not hold (a snapshot was installed) can be missing.
			h.opts.Logger.Warn("head not announced", "block", next)
			continue
		}
		h.metrics.reloaded.Inc()
		h.dispatchHead(missed)
	}
	if next == number {
		h.dispatchHead(ev)
		next++
	}
	return next
}

// load makes the announcement of a block from the store.
func (h *hub) load(number uint64) (ledger.HeadEvent, bool) {
	b := h.backend.BlockByNumber(number)
	if b == nil {
		return ledger.HeadEvent{}, false
	}
	ev := ledger.HeadEvent{Block: b, Receipts: h.backend.ReceiptsByHash(b.Hash())}
	if len(ev.Receipts) != len(b.Transactions()) {
		return ledger.HeadEvent{}, false
	}
	for _, r := range ev.Receipts {
		ev.Logs = append(ev.Logs, r.Logs...)
	}
	ev.Position, _ = ledger.PositionOf(b.Header())
	return ev, true
}

func (h *hub) dispatchHead(ev ledger.HeadEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := newAnnouncement(ev, h.signer, h.engines)
	if len(h.mu.waiters) > 0 {
		h.answerWaiters(a)
	}
	for s := range h.mu.subscribers {
		if s.onHead != nil {
			s.offer(s.onHead(a))
		}
	}
}

func (h *hub) answerWaiters(a *announcement) {
	for i, tx := range a.Block.Transactions() {
		for _, w := range h.mu.waiters[tx.Hash()] {
			w <- a.receiptForms()[i]
		}
		delete(h.mu.waiters, tx.Hash())
	}
}

func (h *hub) dispatchTransactions(txs []*types.Transaction) {
	if len(txs) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &pendingAnnouncement{transactions: txs, signer: h.signer}
	for s := range h.mu.subscribers {
		if s.onTransactions != nil {
			s.offer(s.onTransactions(a))
		}
	}
}

// await registers for the receipt of a transaction that will be announced; forget must be called in the end.
func (h *hub) await(hash common.Hash) (ch <-chan *receipt, forget func()) {
	w := make(chan *receipt, 1)
	h.mu.Lock()
	h.mu.waiters[hash] = append(h.mu.waiters[hash], w)
	h.mu.Unlock()
	return w, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		left := h.mu.waiters[hash][:0]
		for _, other := range h.mu.waiters[hash] {
			if other != w {
				left = append(left, other)
			}
		}
		if h.mu.waiters[hash] = left; len(left) == 0 {
			delete(h.mu.waiters, hash)
		}
	}
}

// subscribe puts s among those that get everything announced from now on.
func (h *hub) subscribe(s *subscriber) {
	s.limit, s.wake = h.opts.MaxQueueBytes, make(chan struct{}, 1)
	h.mu.Lock()
	h.mu.subscribers[s] = struct{}{}
	h.mu.Unlock()
	h.metrics.subscriptions.WithLabelValues(s.kind).Inc()
}

func (h *hub) unsubscribe(s *subscriber) {
	h.mu.Lock()
	delete(h.mu.subscribers, s)
	h.mu.Unlock()
	h.metrics.subscriptions.WithLabelValues(s.kind).Dec()
}

// subscriber is one receiver of announcements with its queue. onHead, onTransactions and onSyncing choose and encode what it gets;
// they run under the hub's lock and must not block. Lock order: hub.mu before subscriber.mu.
type subscriber struct {
	kind           string
	onHead         func(*announcement) []json.RawMessage
	onTransactions func(*pendingAnnouncement) []json.RawMessage
	onSyncing      func(*syncProgress) []json.RawMessage // nil: not behind
	onOverflow     func()                                // called once, by the dispatcher, when the queue was full; nothing is queued after that

	limit int
	wake  chan struct{} // capacity 1: the queue has something
	mu    struct {
		sync.Mutex
		queue []json.RawMessage
		bytes int
		full  bool
	}
}

// offer queues messages, all or none. An empty queue takes any number, or a block with more logs than the limit could never
// be announced.
func (s *subscriber) offer(messages []json.RawMessage) {
	if len(messages) == 0 {
		return
	}
	size := 0
	for _, m := range messages {
		size += len(m)
	}
	s.mu.Lock()
	overflow := false
	switch {
	case s.mu.full:
	case s.mu.bytes > 0 && s.mu.bytes+size > s.limit:
		s.mu.full, overflow = true, true
		s.mu.queue, s.mu.bytes = nil, 0
	default:
		s.mu.queue = append(s.mu.queue, messages...)
		s.mu.bytes += size
	}
	s.mu.Unlock()
	if overflow {
		s.onOverflow()
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take removes the first message of the queue.
func (s *subscriber) take() (m json.RawMessage, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.queue) == 0 {
		return nil, false
	}
	m = s.mu.queue[0]
	s.mu.queue[0] = nil
	s.mu.queue = s.mu.queue[1:]
	s.mu.bytes -= len(m)
	return m, true
}

// takeAll empties the queue.
func (s *subscriber) takeAll() []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.mu.queue
	s.mu.queue, s.mu.bytes = nil, 0
	return all
}

// overflown says that messages were lost and that no more are queued.
func (s *subscriber) overflown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.full
}
