package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/consensus"
)

var (
	// ErrNotImported is returned by Import for a chain whose blocks the log orders.
	ErrNotImported = errors.New("this chain is ordered by its log, and nothing can be imported")
	// ErrBadBlock means that a block to be imported is not valid after those that are there.
	ErrBadBlock = errors.New("bad block")
)

// Import appends ordinary Ethereum blocks to a chain that was made for it (genesis.Section.Imported), in their order, and returns how many were
// new. Each is verified and executed under the rules of its number and time, from proof of work on: header against its parent, uncles, and every
// root that execution gives. Only seals are not looked at. Blocks that are there already are passed over, so that an import can be repeated; if
// one is another block, that is an error. What came before an error stays.
//
// The blocks are below the first entry of the log: their LSN is 0. Import must not be called while Run runs.
// Errors: ErrNotImported, ErrBadBlock, what blocks yields, ctx's.
func (l *Ledger) Import(ctx context.Context, blocks iter.Seq2[*types.Block, error]) (imported int, err error) {
	if !l.genesis.Ledgerd.Imported {
		return 0, ErrNotImported
	}
	l.exec.Lock()
	defer l.exec.Unlock()
	if l.exec.closed {
		return 0, consensus.ErrClosed
	}
	for block, err := range blocks {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return imported, errors.Join(err, l.writer.drain(context.WithoutCancel(ctx)))
		}
		isNew, err := l.importBlock(ctx, block)
		if err != nil {
			return imported, errors.Join(fmt.Errorf("block %d (%v): %w", block.Number(), block.Hash(), err), l.writer.drain(context.WithoutCancel(ctx)))
		}
		if isNew {
			imported++
		}
	}
	if err := l.writer.drain(ctx); err != nil {
		return imported, err
	}
	return imported, l.flush()
}

// importBlock returns false for a block that is there. The caller holds exec.
func (l *Ledger) importBlock(ctx context.Context, block *types.Block) (isNew bool, err error) {
	parent, number := l.exec.head, block.NumberU64()
	if !block.Number().IsUint64() || number > parent.Number.Uint64()+1 {
		return false, fmt.Errorf("%w: the block before it is missing, the chain ends with block %d", ErrBadBlock, parent.Number)
	}
	if number <= parent.Number.Uint64() {
		if err := l.writer.drain(ctx); err != nil {
			return false, err
		}
		if have := l.CanonicalHash(number); have != block.Hash() {
			return false, fmt.Errorf("%w: the chain has another block %d, %v", ErrBadBlock, number, have)
		}
		return false, nil
	}
	if block.ParentHash() != parent.Hash() {
		return false, fmt.Errorf("%w: its parent is %v, the chain ends with %v", ErrBadBlock, block.ParentHash(), parent.Hash())
	}
	if len(block.Uncles()) > 0 { // which may not be uncles of the blocks before: those have to be in the store
		if err := l.writer.drain(ctx); err != nil {
			return false, err
		}
	}
	chain := importChain{l}
	if err := errors.Join(l.engine.VerifyHeader(chain, block.Header()), l.engine.VerifyUncles(chain, block)); err != nil {
		return false, fmt.Errorf("%w: %w", ErrBadBlock, err)
	}
	start := time.Now()
	st, err := state.New(parent.Root, l.store.live)
	if err != nil {
		return false, fmt.Errorf("state of block %d: %w", parent.Number, err)
	}
	receipts, err := l.executor.Replay(ctx, st, block)
	if st.Error() != nil {
		return false, st.Error()
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrBadBlock, err)
	}
	if err := l.commit(st, block); err != nil {
		return false, err
	}
	return true, l.takeImported(block, receipts, start)
}

// takeImported makes an executed block the newest one.
func (l *Ledger) takeImported(block *types.Block, receipts types.Receipts, start time.Time) error {
	done := &executed{block: block, receipts: receipts, published: make(chan struct{})}
	for _, r := range receipts {
		done.logs = append(done.logs, r.Logs...)
	}
	header := block.Header()
	l.unwritten.Store(block.Hash(), header)
	l.setNewest(header)
	next, _ := l.parametersOf(header)
	l.exec.parameters, done.next = next, &next
	if err := l.writer.hand(done); err != nil {
		return err
	}
	l.exec.debt.add(block.Root(), time.Since(start))
	return l.settle()
}

// importChain is the ledger as go-ethereum's engine sees it while blocks come in: the newest ones may not be published yet.
type importChain struct{ *Ledger }

// CurrentHeader implements consensus.ChainHeaderReader.
func (c importChain) CurrentHeader() *types.Header { return c.exec.head }

// GetBlock implements consensus.ChainReader: VerifyUncles looks at the last seven blocks.
func (c importChain) GetBlock(hash common.Hash, number uint64) *types.Block {
	return c.readBlock(hash, number)
}
