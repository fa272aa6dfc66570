package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sort"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus"
	"github.com/ethereum/go-ethereum/consensus/misc/eip1559"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/event"
	"github.com/ethereum/go-ethereum/params"

	"ledgerd/ledger/txpool"
)

// ErrStateUnavailable means that the state of a known block cannot be read: it was pruned, or its index is still being
// built.
var ErrStateUnavailable = errors.New("historical state is not available")

// CurrentHeader returns the published head. It, its receipts and its state can be read. The caller must not change it.
func (l *Ledger) CurrentHeader() *types.Header { return l.head.Load() }

// Genesis returns the header of block 0.
func (l *Ledger) Genesis() *types.Header { return l.first }

// NextParameters returns what the block after the head will have: what the head has, unless a new segment of the log has changed it since. The
// log's chain is known from the start of Run on.
func (l *Ledger) NextParameters() Parameters { return *l.next.Load() }

// BaseFee returns the base fee of the next block, in wei.
func (l *Ledger) BaseFee() *big.Int { return l.NextParameters().BaseFee.ToBig() }

// BaseFeeAfter returns the base fee of a block on parent, in wei: the head's successor has that of the parameters, any other one its parent's, since it
// is fixed; in an imported chain it is what EIP-1559 computes, and 0 before London.
func (l *Ledger) BaseFeeAfter(parent *types.Header) *big.Int {
	config := l.genesis.Config
	switch next := new(big.Int).Add(parent.Number, common.Big1); {
	case l.genesis.Ledgerd.Imported && config.IsLondon(next):
		return eip1559.CalcBaseFee(config, parent)
	case l.genesis.Ledgerd.Imported || parent.BaseFee == nil:
		return new(big.Int)
	case parent.Hash() == l.CurrentHeader().Hash():
		return l.BaseFee()
	}
	return parent.BaseFee
}

// SubscribeHeads sends every new head to ch, in order. The ledger waits for a receiver that does not take it, so ch is
// to be read at once, always.
func (l *Ledger) SubscribeHeads(ch chan<- HeadEvent) event.Subscription { return l.heads.Subscribe(ch) }

// CanonicalHash returns the hash of block number, zero if there is none yet.
func (l *Ledger) CanonicalHash(number uint64) common.Hash {
	head := l.head.Load()
	switch {
	case head == nil: // recovering
	case number == head.Number.Uint64():
		return head.Hash()
	case number > head.Number.Uint64():
		return common.Hash{} // perhaps written, but not published
	}
	return rawdb.ReadCanonicalHash(l.store.db, number)
}

// HeaderByNumber returns the header of block number, nil if there is none yet.
func (l *Ledger) HeaderByNumber(number uint64) *types.Header {
	hash := l.CanonicalHash(number)
	if hash == (common.Hash{}) {
		return nil
	}
	return l.readHeader(hash, number)
}

// HeaderByHash returns a header, nil if it is unknown.
func (l *Ledger) HeaderByHash(hash common.Hash) *types.Header {
	h := l.readHead(hash)
	if h == nil || l.CanonicalHash(h.Number.Uint64()) != hash {
		return nil
	}
	return h
}

func (l *Ledger) readHeader(hash common.Hash, number uint64) *types.Header {
	if h, ok := l.recent.headers.Get(hash); ok {
		return h
	}
	h := rawdb.ReadHeader(l.store.db, hash, number)
	if h != nil {
		l.recent.headers.Add(hash, h)
	}
	return h
}

func (l *Ledger) storedHead() *types.Header {
	return l.readHead(rawdb.ReadHeadBlockHash(l.store.db))
}

// readHead reads a header by its hash, published or not.
func (l *Ledger) readHead(hash common.Hash) *types.Header {
	if h, ok := l.recent.headers.Get(hash); ok {
		return h
	}
	number, ok := rawdb.ReadHeaderNumber(l.store.db, hash)
	if !ok {
		return nil
	}
	return l.readHeader(hash, number)
}

// BlockByNumber returns block number, nil if there is none yet.
func (l *Ledger) BlockByNumber(number uint64) *types.Block {
	hash := l.CanonicalHash(number)
	if hash == (common.Hash{}) {
		return nil
	}
	return l.readBlock(hash, number)
}

// BlockByHash returns a block, nil if it is unknown.
func (l *Ledger) BlockByHash(hash common.Hash) *types.Block {
	header := l.HeaderByHash(hash)
	if header == nil {
		return nil
	}
	return l.readBlock(hash, header.Number.Uint64())
}

func (l *Ledger) readBlock(hash common.Hash, number uint64) *types.Block {
	if b, ok := l.recent.blocks.Get(hash); ok {
		return b
	}
	b := rawdb.ReadBlock(l.store.db, hash, number)
	if b != nil {
		l.recent.blocks.Add(hash, b)
	}
	return b
}

// ReceiptsByHash returns the receipts of a block with all derived fields, nil if the block is unknown.
func (l *Ledger) ReceiptsByHash(hash common.Hash) types.Receipts {
	header := l.HeaderByHash(hash)
	if header == nil {
		return nil
	}
	if r, ok := l.recent.receipts.Get(hash); ok {
		return r
	}
	r := rawdb.ReadReceipts(l.store.db, hash, header.Number.Uint64(), header.Time, l.genesis.Config)
	if r != nil {
		l.recent.receipts.Add(hash, r)
	}
	return r
}

// Transaction returns an included transaction and where it is. ok is false if no published block holds it.
func (l *Ledger) Transaction(hash common.Hash) (tx *types.Transaction, blockHash common.Hash, number, index uint64, ok bool) {
	at := rawdb.ReadTxLookupEntry(l.store.db, hash)
	if at == nil {
		return nil, common.Hash{}, 0, 0, false
	}
	block := l.BlockByNumber(*at)
	if block == nil {
		return nil, common.Hash{}, 0, 0, false
	}
	for i, tx := range block.Transactions() {
		if tx.Hash() == hash {
			return tx, block.Hash(), *at, uint64(i), true
		}
	}
	return nil, common.Hash{}, 0, 0, false
}

// Code returns the contract code with a hash, nil if no contract has it.
func (l *Ledger) Code(hash common.Hash) []byte { return rawdb.ReadCode(l.store.db, hash) }

// TransactionStatus tells what became of a transaction that this node was given, or that a block holds.
func (l *Ledger) TransactionStatus(hash common.Hash) TransactionStatus {
	if _, blockHash, _, _, ok := l.Transaction(hash); ok {
		return TransactionStatus{State: TransactionIncluded, BlockHash: blockHash}
	}
	switch s := l.pool.Status(hash); s.State {
	case txpool.StatePending, txpool.StateQueued:
		return TransactionStatus{State: TransactionPending}
	case txpool.StateInFlight:
		return TransactionStatus{State: TransactionInFlight}
	case txpool.StateDropped:
		return TransactionStatus{State: TransactionDropped, Reason: s.Reason}
	}
	return TransactionStatus{}
}

// WithState calls f with the state after h's block. f only reads. It may be called twice: a live state goes stale when
// 128 blocks have followed it, whereupon its reads return zeros, and f then runs again on the historic state. So f begins by
// resetting what it collects (invariant 6).
// Errors: ErrStateUnavailable, or what f returns.
func (l *Ledger) WithState(ctx context.Context, h *types.Header, f func(*state.StateDB) error) error {
	var problems []error
	for _, open := range []func() (*state.StateDB, error){
		func() (*state.StateDB, error) { return state.New(h.Root, l.store.live) },
		func() (*state.StateDB, error) { return state.New(h.Root, l.store.past) },
		func() (*state.StateDB, error) { return state.New(h.Root, l.store.live) }, // between the two: being merged
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		st, err := open()
		if err != nil {
			problems = append(problems, err)
			continue
		}
		err = f(st)
		if st.Error() == nil {
			return err
		}
		problems = append(problems, st.Error())
	}
	return fmt.Errorf("%w: block %d: %w", ErrStateUnavailable, h.Number, errors.Join(problems...))
}

// OldestState returns the number of the oldest block whose state can be read: 0 in an archive, later if old states are pruned or if the
// ledger began with a snapshot.
func (l *Ledger) OldestState() uint64 {
	return l.oldest(func(root common.Hash) bool {
		_, err := l.store.tdb.HistoricStateReader(root)
		return err == nil
	})
}

// OldestProof returns the number of the oldest block whose state has its trie, which Merkle proofs are made of.
func (l *Ledger) OldestProof() uint64 {
	return l.oldest(func(root common.Hash) bool {
		_, err := l.store.tdb.HistoricNodeReader(root)
		return err == nil
	})
}

// trieLayers is for how many blocks the layers in memory hold values and tries, whatever the options say.
const trieLayers = 128

// StateRetention returns how many blocks back states, and their tries, are kept; 0: all.
func (l *Ledger) StateRetention() (states, proofs uint64) {
	if states, proofs = l.opts.StateHistory, trieLayers; l.opts.ArchiveProofs {
		proofs = 0
	}
	return states, proofs
}

// oldest searches for the first block whose state is in memory or has a history; all later ones have it too.
func (l *Ledger) oldest(inHistory func(root common.Hash) bool) uint64 {
	head := l.CurrentHeader().Number.Uint64()
	return uint64(sort.Search(int(head), func(number int) bool {
		h := l.HeaderByNumber(uint64(number))
		return h != nil && (l.store.hasState(h.Root) || inHistory(h.Root))
	}))
}

// FilterLogs returns the logs that q selects, in the order of blocks and of their index in the block. It stops after
// q.Limit logs if that is not zero, and with ctx's error when ctx ends.
func (l *Ledger) FilterLogs(ctx context.Context, q LogQuery) ([]*types.Log, error) {
	found, _, err := l.search(ctx, q, func(found, more []*types.Log) bool { return q.Limit > 0 && len(found) >= q.Limit })
	if err != nil {
		return nil, err
	}
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
	}
	return found, nil
}

// SearchLogs returns the logs of whole blocks, from q.From on, that q selects, and the first block that was not searched: the one after q.To, or
// after the head if that comes first; an earlier one if with its logs there would be more than q.Limit or q.MaxBytes, unless these are the first ones. When ctx
// ends the error is ctx's, and logs and next say how far the search has come.
func (l *Ledger) SearchLogs(ctx context.Context, q LogQuery) (logs []*types.Log, next uint64, err error) {
	size := 0
	return l.search(ctx, q, func(found, more []*types.Log) bool {
		size += SizeOfLogs(more)
		return len(found) > 0 && (q.Limit > 0 && len(found)+len(more) > q.Limit || q.MaxBytes > 0 && size > q.MaxBytes)
	})
}

// search ends when full is true, which it calls with the logs that it has and those that the next block would add.
func (l *Ledger) search(ctx context.Context, q LogQuery, full func(found, more []*types.Log) bool) (found []*types.Log, next uint64, err error) {
	to := min(q.To, l.CurrentHeader().Number.Uint64())
	if q.From > to {
		return nil, q.From, nil
	}
	next, stopped := q.From, false
	err = q.candidates(ctx, l.store.db, q.From, to, &next, func(number uint64) (bool, error) {
		logs, err := l.blockLogs(number, &q)
		if err != nil {
			return false, err
		}
		if full(found, logs) {
			stopped = true
			return false, nil
		}
		found, next = append(found, logs...), number+1
		return true, nil
	})
	if err == nil && !stopped {
		next = to + 1
	}
	return found, next, err
}

// blockLogs returns the logs of one block that q selects, with all derived fields.
func (l *Ledger) blockLogs(number uint64, q *LogQuery) ([]*types.Log, error) {
	hash := l.CanonicalHash(number)
	var found []*types.Log
	for _, r := range l.ReceiptsByHash(hash) {
		for _, entry := range r.Logs {
			if q.Matches(entry) {
				found = append(found, entry)
			}
		}
	}
	return found, nil
}

// The rest makes the ledger a core.ChainContext, which is how the EVM asks for the hashes of earlier blocks.

// Config implements consensus.ChainHeaderReader.
func (l *Ledger) Config() *params.ChainConfig { return l.genesis.Config }

// Engine implements core.ChainContext. It is asked for a block's author, which is its coinbase.
func (l *Ledger) Engine() consensus.Engine { return l.engine }

// GetHeader implements consensus.ChainHeaderReader. Execution asks it for ancestors, some of which may still be on their
// way to the store.
func (l *Ledger) GetHeader(hash common.Hash, number uint64) *types.Header {
	if h, ok := l.unwritten.Load(hash); ok {
		return h.(*types.Header)
	}
	return l.readHeader(hash, number)
}

// GetHeaderByNumber implements consensus.ChainHeaderReader.
func (l *Ledger) GetHeaderByNumber(number uint64) *types.Header { return l.HeaderByNumber(number) }

// GetHeaderByHash implements consensus.ChainHeaderReader.
func (l *Ledger) GetHeaderByHash(hash common.Hash) *types.Header { return l.HeaderByHash(hash) }

// poolChain is what the pool sees of the ledger.
type poolChain struct{ l *Ledger }

func (c poolChain) Config() *params.ChainConfig { return c.l.genesis.Config }

func (c poolChain) CurrentHeader() *types.Header {
	return c.l.NextParameters().show(c.l.CurrentHeader())
}

func (c poolChain) ReadState(f func(txpool.StateReader) error) error {
	return c.l.WithState(context.Background(), c.l.CurrentHeader(), func(st *state.StateDB) error { return f(st) })
}
