package ledger

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"ledgerd/consensus"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/txpool"
	"ledgerd/vm"
)

// BatchResult is what a proposer of a batch is told: equal on every replica, but for Published.
type BatchResult struct {
	Header  *types.Header // nil if nothing was included
	Skipped []vm.Skipped
	Err     error // why the record is no batch at all, if it is none

	// Published is closed when what the batch did can be read here.
	Published <-chan struct{}
}

// executed is a block on its way from execution to the store.
type executed struct {
	lsn       consensus.LSN
	block     *types.Block // nil if nothing was included
	receipts  types.Receipts
	logs      []*types.Log
	skipped   []txpool.Skipped
	published chan struct{}
}

// preparation is what Prefetch did for one entry.
type preparation struct {
	txs     []*types.Transaction
	skipped []txpool.Skipped // records that are no transactions
	err     error            // the payload is no batch
	ready   chan struct{}
}

// Prefetch implements view.Prefetcher: it decodes a batch and recovers the senders of its transactions on all cores,
// while earlier blocks are executed. A transaction that this node's pool holds is taken from there, with its sender.
func (l *Ledger) Prefetch(e consensus.Entry) {
	p := &preparation{ready: make(chan struct{})}
	l.prepared.Store(e.LSN, p)
	l.preparing <- struct{}{}
	go func() {
		defer func() { <-l.preparing; close(p.ready) }()
		l.prepare(p, e.Record.Payload)
	}()
}

func (l *Ledger) prepare(p *preparation, payload []byte) {
	raws, err := batch.Decode(payload, batch.Limits{})
	if err != nil {
		p.err = err
		return
	}
	p.txs = make([]*types.Transaction, 0, len(raws))
	for _, raw := range raws {
		if l.pool != nil {
			if tx := l.pool.Get(crypto.Keccak256Hash(raw)); tx != nil {
				p.txs = append(p.txs, tx)
				continue
			}
		}
		tx, err := vm.DecodeTransaction(raw)
		if err != nil {
			p.skipped = append(p.skipped, txpool.Skipped{Hash: crypto.Keccak256Hash(raw), Err: err})
			continue
		}
		p.txs = append(p.txs, tx)
	}
	vm.RecoverSenders(l.executor.Signer(), p.txs)
}

// Apply implements view.View. It executes the batch on the newest block and hands the outcome to the writer. What it has begun
// it finishes, whatever becomes of the context: a block that is executed and not written would be missing after a clean stop.
func (l *Ledger) Apply(_ context.Context, e consensus.Entry) (any, error) {
	p := l.takePreparation(e)

	l.exec.Lock()
	defer l.exec.Unlock()
	if l.exec.closed {
		return nil, consensus.ErrClosed
	}
	if e.LSN <= l.Applied() {
		panic(fmt.Sprintf("ledger: lsn %d is applied already, the ledger is at %d", e.LSN, l.Applied()))
	}
	done := &executed{lsn: e.LSN, skipped: p.skipped, published: make(chan struct{})}
	result := &BatchResult{Err: p.err, Published: done.published}
	if p.err != nil {
		// Somebody appended what is no batch. It is void for every replica alike, and goes into the books.
		l.opts.Logger.Warn("record is not a batch", "lsn", uint64(e.LSN), "err", p.err)
	} else if err := l.execute(done, result, e, p.txs); err != nil {
		return nil, err
	}
	l.applied.Store(uint64(e.LSN))
	if err := l.writer.hand(done); err != nil {
		return nil, err
	}
	if l.exec.debt >= l.opts.FlushDebt {
		if err := l.writer.drain(context.Background()); err != nil {
			return nil, err
		}
		if err := l.flush(); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (l *Ledger) takePreparation(e consensus.Entry) *preparation {
	if ready, ok := l.prepared.LoadAndDelete(e.LSN); ok {
		p := ready.(*preparation)
		<-p.ready
		return p
	}
	p := new(preparation)
	l.prepare(p, e.Record.Payload)
	return p
}

// execute makes the block of one entry and commits its state to the trie layers. The caller holds exec.
func (l *Ledger) execute(done *executed, result *BatchResult, e consensus.Entry, txs []*types.Transaction) error {
	start := time.Now()
	parent := l.exec.head
	st, err := state.New(parent.Root, l.store.live)
	if err != nil {
		return fmt.Errorf("state of block %d: %w", parent.Number, err)
	}
	out, err := l.executor.Execute(st, parent, l.envOf(parent, e), txs)
	if err != nil {
		return fmt.Errorf("execute on block %d: %w", parent.Number, err)
	}
	result.Skipped = out.Skipped
	for _, s := range out.Skipped {
		done.skipped = append(done.skipped, txpool.Skipped{Hash: s.Hash, Tx: txs[s.Index], Err: s.Err})
	}
	l.metrics.skipped.Add(float64(len(out.Skipped)))
	if out.Block == nil {
		return nil
	}
	if err := l.commit(st, out.Block); err != nil {
		return err
	}
	done.block, done.receipts, done.logs = out.Block, out.Receipts, out.Logs
	result.Header = out.Block.Header()
	l.exec.head = result.Header
	l.unwritten.Store(out.Block.Hash(), result.Header)
	took := time.Since(start)
	l.exec.debt += took
	l.metrics.execution.Observe(took.Seconds())
	return nil
}

// commit moves the state that made block into the trie layers.
func (l *Ledger) commit(st *state.StateDB, block *types.Block) error {
	number := block.NumberU64()
	root, err := st.Commit(l.genesis.Config.Rules(block.Number(), true, block.Time()), number)
	if err != nil {
		return fmt.Errorf("commit state of block %d: %w", number, err)
	}
	if root != block.Root() {
		panic(fmt.Sprintf("ledger: block %d has state root %v, its commit gave %v", number, block.Root(), root))
	}
	return nil
}

// Advance implements view.View.
func (l *Ledger) Advance(lsn consensus.LSN) {
	l.exec.Lock()
	defer l.exec.Unlock()
	l.applied.Store(max(l.applied.Load(), uint64(lsn)))
}

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
		if b.lsn == 0 { // a drain request: everything before it is published
			close(b.published)
			continue
		}
		if b.block != nil {
			if err := l.store.writeBlock(b); err != nil {
				return err
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

// drain returns when all that was handed over before has been published.
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
	if b.block == nil {
		if len(b.skipped) > 0 {
			l.pool.Applied(txpool.Applied{Header: l.CurrentHeader(), Skipped: b.skipped})
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
	l.pool.Applied(txpool.Applied{Header: header, Included: b.block.Transactions(), Skipped: b.skipped})
	l.metrics.transactions.Add(float64(len(b.block.Transactions())))
	l.metrics.gas.Add(float64(b.block.GasUsed()))
	position, _ := PositionOf(header)
	l.heads.Send(HeadEvent{Block: b.block, Receipts: b.receipts, Logs: b.logs, Position: position})
}

// recover brings the ledger to the newest stored block (invariants 3 and 4).
func (l *Ledger) recover() error {
	head := l.storedHead()
	if head == nil {
		return fmt.Errorf("ledger: %w: the store names a head block that it does not hold", consensus.ErrCorrupt)
	}
	if err := l.store.checkChain(head.Number.Uint64()); err != nil {
		return err
	}
	base := head
	for !l.store.hasState(base.Root) {
		if base.Number.Sign() == 0 {
			return errors.New("ledger: the state of the genesis block is missing")
		}
		parent := l.readHeader(base.ParentHash, base.Number.Uint64()-1)
		if parent == nil {
			return fmt.Errorf("ledger: block %d is missing, and block %d has no state", base.Number.Uint64()-1, base.Number)
		}
		base = parent
	}
	l.exec.head, l.exec.flushed = base, time.Now()
	if err := l.replay(base, head.Number.Uint64()); err != nil {
		return err
	}
	applied := l.store.applied()
	if position, ok := PositionOf(head); ok && position.LSN > applied {
		return fmt.Errorf("ledger: block %d is from lsn %d, but only lsn %d is noted as applied", head.Number, position.LSN, applied)
	}
	// What an earlier process wrote without syncing may still be with the operating system alone.
	if err := l.store.db.SyncKeyValue(); err != nil {
		return fmt.Errorf("ledger: sync: %w: %w", consensus.ErrFailed, err)
	}
	l.applied.Store(uint64(applied))
	l.durable.Store(uint64(applied))
	l.head.Store(head)
	return nil
}

// replay executes the stored blocks after base up to number again. Bodies are decoded and their senders recovered
// ahead of execution.
func (l *Ledger) replay(base *types.Header, number uint64) error {
	first := base.Number.Uint64() + 1
	if first > number {
		return nil
	}
	start := time.Now()
	l.opts.Logger.Info("executing again what a crash left without state", "from", first, "to", number)

	blocks := make(chan *types.Block, 16)
	quit := make(chan struct{})
	defer close(quit)
	go func() {
		defer close(blocks)
		for n := first; n <= number; n++ {
			block := l.BlockByNumber(n)
			if block != nil {
				vm.RecoverSenders(l.executor.Signer(), block.Transactions())
			}
			select {
			case blocks <- block:
			case <-quit:
				return
			}
		}
	}()
	for n := first; n <= number; n++ {
		block := <-blocks
		if block == nil {
			return fmt.Errorf("ledger: block %d is missing from the store", n)
		}
		if err := l.replayBlock(block); err != nil {
			return err
		}
	}
	l.opts.Logger.Info("recovered", "blocks", number-first+1, "took", time.Since(start))
	return nil
}

// replayBlock executes one stored block again and demands that it comes out with the hash it had.
func (l *Ledger) replayBlock(block *types.Block) error {
	start := time.Now()
	parent := l.exec.head
	st, err := state.New(parent.Root, l.store.live)
	if err != nil {
		return fmt.Errorf("ledger: state of block %d: %w", parent.Number, err)
	}
	if _, err := l.executor.Replay(context.Background(), st, block); errors.Is(err, vm.ErrBlockMismatch) {
		return fmt.Errorf("ledger: %w: %w", ErrDivergence, err)
	} else if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := l.commit(st, block); err != nil {
		return err
	}
	l.exec.head = block.Header()
	l.exec.debt += time.Since(start)
	return nil
}
