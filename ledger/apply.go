package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
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

// executed is what became of an entry, on its way from execution to the store: a block, skipped transactions, other parameters, or nothing at all.
type executed struct {
	lsn       consensus.LSN
	block     *types.Block // nil if nothing was included
	receipts  types.Receipts
	logs      []*types.Log
	touched   [][]common.Address // vm.Result.Touched; nil: the block was not executed here
	skipped   []txpool.Skipped
	next      *Parameters // of the blocks after this one; nil: no change
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
	if err := l.settle(); err != nil {
		return nil, err
	}
	return result, nil
}

// lookEvery bounds how many blocks the debt remembers for nothing.
const lookEvery = 1024

// settle keeps the debt within its bound. Most of it is paid by the trie layers themselves, which write their buffer in one piece when it is full; what is left
// is flushed layer by layer, at fifteen fsyncs each. The caller holds exec.
func (l *Ledger) settle() error {
	owes := &l.exec.debt
	if owes.sum < l.opts.FlushDebt && (len(owes.blocks) == 0 || len(owes.blocks)%lookEvery != 0) {
		return nil
	}
	owes.paid(l.store.stateOnDisk())
	if owes.sum < l.opts.FlushDebt {
		return nil
	}
	if err := l.writer.drain(context.Background()); err != nil {
		return err
	}
	return l.flush()
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
	if err := l.enter(e.Epoch); err != nil {
		return err
	}
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
	done.block, done.receipts, done.logs, done.touched = out.Block, out.Receipts, out.Logs, out.Touched
	result.Header = out.Block.Header()
	l.unwritten.Store(out.Block.Hash(), result.Header)
	l.setNewest(result.Header)
	took := time.Since(start)
	l.exec.debt.add(result.Header.Root, took)
	l.metrics.execution.Observe(took.Seconds())
	return nil
}

// setNewest makes h what the next block is executed on. The caller holds exec, or is alone.
func (l *Ledger) setNewest(h *types.Header) {
	l.exec.head = h
	l.newest.Store(h)
}

// commit moves the state that made block into the trie layers.
func (l *Ledger) commit(st *state.StateDB, block *types.Block) error {
	number := block.NumberU64()
	root, err := st.Commit(l.genesis.Config.Rules(block.Number(), block.Difficulty().Sign() == 0, block.Time()), number)
	if err != nil {
		return fmt.Errorf("commit state of block %d: %w", number, err)
	}
	if root != block.Root() {
		panic(fmt.Sprintf("ledger: block %d has state root %v, its commit gave %v", number, block.Root(), root))
	}
	return nil
}

// Advance implements view.View. One of the entries that are not the ledger's may be a Seal: what comes after it has other parameters.
func (l *Ledger) Advance(lsn consensus.LSN) {
	l.exec.Lock()
	defer l.exec.Unlock()
	if l.exec.closed {
		return
	}
	if err := l.enterAt(lsn); err != nil {
		l.opts.Logger.Error("enter segment", "lsn", uint64(lsn), "err", err) // the next entry that needs it stops the view
	}
	l.applied.Store(max(l.applied.Load(), uint64(lsn)))
}
