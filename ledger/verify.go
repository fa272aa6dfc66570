package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/trie"

	"ledgerd/consensus"
	"ledgerd/ledger/batch"
)

// A BadBlockError is what Verify has against a block. It is the first one: the blocks before it, from where Verify began, are sound.
type BadBlockError struct {
	Number uint64
	Hash   common.Hash // by which the chain names it; zero if the chain lacks it
	Err    error       // consensus.ErrCorrupt: what is stored does not fit together; ErrDivergence: its execution comes to something else
}

func (e *BadBlockError) Error() string {
	return fmt.Sprintf("block %d (%v): %v", e.Number, e.Hash, e.Err)
}
func (e *BadBlockError) Unwrap() error { return e.Err }

// VerifyQuery says what is to be verified.
type VerifyQuery struct {
	From, To uint64    // numbers of blocks, both inclusive; To is not beyond the head
	Log      LogReader // where the entries are that the blocks were made from; nil: they are not compared
	Execute  bool      // execute the blocks again
}

// LogReader is the shared log, to be read. *consensus.VirtualLog is one.
type LogReader interface {
	// Read returns entries from lo on, at least one, up to, not including, hi. consensus.ErrTrimmed if lo is gone.
	Read(ctx context.Context, lo, hi consensus.LSN) ([]consensus.Entry, error)
}

// Verified says of which blocks what has been verified.
type Verified struct {
	Blocks       uint64      // how many, from VerifyQuery.From on
	Hash         common.Hash // of the last of them, which stands for all that is before it
	Transactions uint64
	Executed     uint64 // of the blocks: executed again, to the same receipts; of the others the state before them is not kept
	StateRoots   uint64 // of those: to the same state root too; of the others only the values of the state are kept, not its trie
	Entries      uint64 // of the blocks: found to be made of the log's entry, by the digests of the log; of the others the entry is trimmed
}

// Verify reads blocks from the store, past all caches, and checks of each, in order:
//
//   - its header: that it has the hash by which the chain names it, follows its parent, and that position and time do not go back;
//   - its transactions, receipts, bloom and gas by the roots in the header, and that each transaction is found by its hash;
//   - the log: that each entry since the parent's has the digest that follows from the one before, and that the block is of the last of these: its digest, position
//     and time, and no transaction that is not in it;
//   - its execution, on the state after its parent: the same receipts, and where that state has its trie, the same state root.
//
// It writes nothing, and the ledger goes on meanwhile. When ctx ends the error is ctx's, and the answer says how far it has come.
// Other errors: a *BadBlockError; what q.Log returns.
func (l *Ledger) Verify(ctx context.Context, q VerifyQuery) (v Verified, err error) {
	if head := l.CurrentHeader().Number.Uint64(); q.From > q.To || q.To > head {
		return v, fmt.Errorf("verify blocks %d to %d: the head is block %d", q.From, q.To, head)
	}
	check := verification{Ledger: l, query: &q}
	if q.From > 0 {
		if check.parent = rawdb.ReadHeader(l.store.db, rawdb.ReadCanonicalHash(l.store.db, q.From-1), q.From-1); check.parent == nil {
			return v, &BadBlockError{Number: q.From - 1, Err: fmt.Errorf("%w: its header is missing", consensus.ErrCorrupt)}
		}
	}
	for n := q.From; n <= q.To; n++ {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		hash := rawdb.ReadCanonicalHash(l.store.db, n)
		header, err := check.block(ctx, &v, n, hash)
		switch {
		case errors.Is(err, consensus.ErrCorrupt) || errors.Is(err, ErrDivergence):
			return v, &BadBlockError{n, hash, err}
		case err != nil:
			return v, fmt.Errorf("verify block %d: %w", n, err)
		}
		v.Hash, check.parent = hash, header
		v.Blocks++
	}
	return v, nil
}

// verification is one run of Verify, which has come to the block after parent.
type verification struct {
	*Ledger
	query  *VerifyQuery
	parent *types.Header // nil before block 0
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", consensus.ErrCorrupt, fmt.Errorf(format, args...))
}

// block checks one block, counts what was checked, and returns its header. Nothing is counted of a block with an error.
func (c *verification) block(ctx context.Context, v *Verified, number uint64, hash common.Hash) (*types.Header, error) {
	header := rawdb.ReadHeader(c.store.db, hash, number)
	if header == nil {
		return nil, corrupt("its header is missing")
	}
	if err := c.header(header, number, hash); err != nil || number == 0 {
		return header, err
	}
	block, err := c.content(header, hash)
	if err != nil {
		return nil, err
	}
	compared, err := c.entry(ctx, block)
	if err != nil {
		return nil, err
	}
	executed, rooted, err := c.execution(ctx, block)
	if err != nil {
		return nil, err
	}
	v.Transactions += uint64(len(block.Transactions()))
	for count, done := range map[*uint64]bool{&v.Entries: compared, &v.Executed: executed, &v.StateRoots: rooted} {
		if done {
			*count++
		}
	}
	return header, nil
}

func (c *verification) header(h *types.Header, number uint64, hash common.Hash) error {
	switch got := h.Hash(); {
	case got != hash:
		return corrupt("its header has hash %v", got)
	case h.Number.Uint64() != number:
		return corrupt("its header has number %v", h.Number)
	case number == 0 && hash != c.first.Hash():
		return corrupt("it is not the genesis block %v", c.first.Hash())
	case number == 0:
		return nil
	case h.ParentHash != c.parent.Hash():
		return corrupt("its parent is %v, block %d is %v", h.ParentHash, number-1, c.parent.Hash())
	case h.Time < c.parent.Time:
		return corrupt("its timestamp %d is before the one of its parent, %d", h.Time, c.parent.Time)
	}
	at, ok := c.positionOf(h)
	if !ok {
		if c.genesis.Ledgerd.Imported {
			return nil
		}
		return corrupt("its extraData is no position in the log")
	}
	before, _ := c.positionOf(c.parent)
	switch {
	case at.LSN <= before.LSN || at.Epoch < before.Epoch || at.UnixMilli < before.UnixMilli:
		return corrupt("it is of lsn %d, epoch %d, millisecond %d, and its parent of %d, %d, %d", at.LSN, at.Epoch, at.UnixMilli, before.LSN, before.Epoch, before.UnixMilli)
	case h.MixDigest != prevRandao(h.ParentHash, at.LSN):
		return corrupt("its prevRandao is not that of lsn %d", at.LSN)
	}
	return nil
}

// content checks what a block holds by what its header says.
func (c *verification) content(h *types.Header, hash common.Hash) (*types.Block, error) {
	number := h.Number.Uint64()
	body := rawdb.ReadBody(c.store.db, hash, number)
	if body == nil {
		return nil, corrupt("its body is missing")
	}
	receipts := rawdb.ReadReceipts(c.store.db, hash, number, h.Time, c.genesis.Config)
	if len(receipts) != len(body.Transactions) {
		return nil, corrupt("it has %d transactions and %d receipts", len(body.Transactions), len(receipts))
	}
	block := types.NewBlockWithHeader(h).WithBody(*body)
	switch hasher := trie.NewStackTrie(nil); {
	case types.DeriveSha(block.Transactions(), hasher) != h.TxHash:
		return nil, corrupt("its transactions are not those of its transactionsRoot")
	case types.CalcUncleHash(body.Uncles) != h.UncleHash:
		return nil, corrupt("its uncles are not those of its sha3Uncles")
	case (h.WithdrawalsHash == nil) != (body.Withdrawals == nil):
		return nil, corrupt("its withdrawals are not those of its withdrawalsRoot")
	case h.WithdrawalsHash != nil && types.DeriveSha(types.Withdrawals(body.Withdrawals), hasher) != *h.WithdrawalsHash:
		return nil, corrupt("its withdrawals are not those of its withdrawalsRoot")
	case types.DeriveSha(receipts, hasher) != h.ReceiptHash:
		return nil, corrupt("its receipts are not those of its receiptsRoot")
	case types.MergeBloom(receipts) != h.Bloom:
		return nil, corrupt("its logsBloom is not that of its receipts")
	case len(receipts) > 0 && receipts[len(receipts)-1].CumulativeGasUsed != h.GasUsed:
		return nil, corrupt("its gasUsed is %d, its receipts have %d", h.GasUsed, receipts[len(receipts)-1].CumulativeGasUsed)
	}
	for _, tx := range block.Transactions() {
		if at := rawdb.ReadTxLookupEntry(c.store.db, tx.Hash()); at == nil || *at != number {
			return nil, corrupt("its transaction %v is not found by its hash", tx.Hash())
		}
	}
	return block, nil
}

// verifyStep is how many entries are asked of the log at a time, of at most 1 MiB each.
const verifyStep = 8

// entry follows the log from the entry of the parent to that of the block. It is false if some of them are trimmed, or if there is no log.
func (c *verification) entry(ctx context.Context, b *types.Block) (compared bool, err error) {
	at, ok := c.positionOf(b.Header())
	if !ok || c.query.Log == nil {
		return false, nil
	}
	before, ok := c.positionOf(c.parent)
	var digest consensus.Digest
	if ok {
		digest = consensus.Digest(*c.parent.ParentBeaconRoot)
	} else { // the parent is the genesis block, and the log begins with the network
		id, err := c.genesis.NetworkID()
		if err != nil {
			return false, err
		}
		digest = consensus.Digest(id)
	}
	for next := before.LSN + 1; next <= at.LSN; {
		entries, err := c.query.Log.Read(ctx, next, min(at.LSN+1, next+verifyStep))
		switch {
		case errors.Is(err, consensus.ErrTrimmed):
			return false, nil
		case err != nil:
			return false, err
		case len(entries) == 0:
			return false, fmt.Errorf("the log gives no entry at lsn %d", next)
		}
		for _, e := range entries {
			if e.LSN != next {
				return false, corrupt("the log has lsn %d where %d should be", e.LSN, next)
			}
			if err := e.Verify(digest); err != nil {
				return false, err
			}
			if digest, next = e.Digest, next+1; e.LSN == at.LSN {
				return true, sameEntry(b, at, e)
			}
		}
	}
	return false, nil
}

// sameEntry checks that a block is of an entry. What is in the entry and not in the block was skipped.
func sameEntry(b *types.Block, at Position, e consensus.Entry) error {
	switch root := b.BeaconRoot(); {
	case root == nil || consensus.Digest(*root) != e.Digest:
		return corrupt("its parentBeaconBlockRoot is not %v, the digest of the log at lsn %d", e.Digest, e.LSN)
	case e.Record.App != App || e.Epoch != at.Epoch || e.UnixMilli != at.UnixMilli:
		return corrupt("the entry at lsn %d is of %q in epoch %d, millisecond %d; the block says epoch %d, millisecond %d", e.LSN, e.Record.App, e.Epoch, e.UnixMilli, at.Epoch, at.UnixMilli)
	}
	raws, err := batch.Decode(e.Record.Payload, batch.Limits{})
	if err != nil {
		return corrupt("the entry at lsn %d: %w", e.LSN, err)
	}
	for _, tx := range b.Transactions() {
		raw, err := tx.MarshalBinary()
		if err != nil {
			return corrupt("transaction %v: %w", tx.Hash(), err)
		}
		for len(raws) > 0 && string(raws[0]) != string(raw) {
			raws = raws[1:]
		}
		if len(raws) == 0 {
			return corrupt("transaction %v is not in the entry at lsn %d, or not in its place", tx.Hash(), e.LSN)
		}
		raws = raws[1:]
	}
	return nil
}

// execution executes a block again, as far as the state before it is kept.
func (c *verification) execution(ctx context.Context, b *types.Block) (executed, rooted bool, err error) {
	if !c.query.Execute {
		return false, false, nil
	}
	err = c.WithState(ctx, c.parent, func(st *state.StateDB) error {
		if _, err := st.Database().OpenTrie(c.parent.Root); err == nil {
			rooted = true
			_, err := c.executor.Replay(ctx, st, b)
			return err
		}
		rooted = false
		return c.receipts(ctx, st, b)
	})
	switch {
	case err == nil:
		return true, rooted, nil
	case errors.Is(err, ErrStateUnavailable):
		return false, false, nil
	case ctx.Err() != nil:
		return false, false, ctx.Err()
	}
	return false, false, fmt.Errorf("%w: %w", ErrDivergence, err)
}

// receipts executes a block on a state of which only the values are kept.
func (c *verification) receipts(ctx context.Context, st *state.StateDB, b *types.Block) error {
	run, err := c.executor.Rerun(ctx, st, b)
	if err != nil {
		return err
	}
	receipts := make(types.Receipts, 0, len(b.Transactions()))
	for range b.Transactions() {
		r, err := run.Next(ctx, nil)
		if err != nil {
			return err
		}
		receipts = append(receipts, r)
	}
	if types.DeriveSha(receipts, trie.NewStackTrie(nil)) != b.ReceiptHash() {
		return errors.New("the receipts of its execution are not those of its receiptsRoot")
	}
	return nil
}
