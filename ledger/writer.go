package ledger

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"ledgerd/consensus"
	"ledgerd/ledger/txpool"
)

// writer is the last stage: it stores executed blocks in order, tells the pool, and publishes.
type writer struct {
	queue  chan *executed
	idle   chan chan struct{} // a drain request
	done   chan struct{}
	failed chan struct{} // closed after err is set
	err    error
	once   sync.Once
}

func (w *writer) start(l *Ledger, depth int) {
	w.queue = make(chan *executed, depth)
	w.idle = make(chan chan struct{})
	w.done = make(chan struct{})
	w.failed = make(chan struct{})
	go func() {
		defer close(w.done)
		if err := w.run(l); err != nil {
			w.err = err
			close(w.failed)
			l.opts.Logger.Error("ledger cannot write", "err", err)
		}
	}()
}

// run ends with an error that wraps consensus.ErrFailed if the store fails. Pebble, as go-ethereum opens it, panics when it
// cannot write.
func (w *writer) run(l *Ledger) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("ledger: %w: panic: %v\n%s", consensus.ErrFailed, r, debug.Stack())
		}
	}()
	for b := range w.queue {
		if b.block != nil {
			if err := l.store.writeBlock(b, l.executor.Signer()); err != nil {
				return err
			}
			if b.touched == nil {
				l.addresses.since.Store(b.block.NumberU64() + 1)
			}
		}
		l.publish(b)
		close(b.published)
	}
	return nil
}

// hand queues b. It waits while the queue is full: the writer goes on until it is stopped, or fails.
func (w *writer) hand(b *executed) error {
	select {
	case w.queue <- b:
		return nil
	case <-w.failed:
		return w.err
	}
}

// drain hands over an entry of which nothing became, and returns when it, and so all that was handed over before, has been published.
func (w *writer) drain(ctx context.Context) error {
	marker := &executed{published: make(chan struct{})}
	if err := w.hand(marker); err != nil {
		return err
	}
	select {
	case <-marker.published:
		return nil
	case <-w.failed:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the writer after it has written everything. Nothing may be handed over afterwards.
func (w *writer) stop() error {
	w.once.Do(func() { close(w.queue) })
	<-w.done
	return w.err
}

// publish makes b's block the head that everybody sees and tells the pool and the subscribers, in that order: what a
// subscriber asks about on hearing of a head is there, and the pool's pending nonces are those of that head.
func (l *Ledger) publish(b *executed) {
	if b.next != nil {
		l.next.Store(b.next)
	}
	next := l.next.Load()
	if b.block == nil {
		if len(b.skipped) > 0 || b.next != nil {
			l.pool.Applied(txpool.Applied{Header: next.show(l.CurrentHeader()), Skipped: b.skipped})
		}
		return
	}
	hash := b.block.Hash()
	header := b.block.Header()
	l.recent.headers.Add(hash, header)
	l.recent.blocks.Add(hash, b.block)
	l.recent.receipts.Add(hash, b.receipts)
	l.head.Store(header)
	l.unwritten.Delete(hash)
	l.pool.Applied(txpool.Applied{Header: next.show(header), Included: b.block.Transactions(), Skipped: b.skipped})
	l.metrics.transactions.Add(float64(len(b.block.Transactions())))
	l.metrics.gas.Add(float64(b.block.GasUsed()))
	position, _ := l.positionOf(header)
	l.heads.Send(HeadEvent{Block: b.block, Receipts: b.receipts, Logs: b.logs, Position: position})
}
