package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/consensus"
	"ledgerd/vm"
)

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
	l.setNewest(base)
	l.exec.flushed = time.Now()
	if err := l.replay(base, head.Number.Uint64()); err != nil {
		return err
	}
	if err := l.openAddressIndex(head.Number.Uint64()); err != nil {
		return err
	}
	applied := l.store.applied()
	if position, ok := l.positionOf(head); ok && position.LSN > applied {
		return fmt.Errorf("ledger: block %d is from lsn %d, but only lsn %d is noted as applied", head.Number, position.LSN, applied)
	}
	// What an earlier process wrote without syncing may still be with the operating system alone.
	if err := l.store.db.SyncKeyValue(); err != nil {
		return fmt.Errorf("ledger: sync: %w: %w", consensus.ErrFailed, err)
	}
	next, epoch := l.parametersOf(head)
	l.exec.parameters, l.exec.epoch = next, epoch
	l.next.Store(&next)
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
	l.setNewest(block.Header())
	l.exec.debt.add(block.Root(), time.Since(start))
	return nil
}
