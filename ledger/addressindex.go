package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethdb"

	"ledgerd/consensus"
)

// The index of accounts says which transactions dealt with an account. It has the postings of the log index (logindex.go), of two kinds more, and with
// values: the positions of the transactions in the block, ascending, each as the difference to the one before in unsigned varints.
//
//	kind 's': the account sent the transaction
//	kind 't': the transaction dealt with the account in another way (vm.Result.Touched): called, created, paid or delegated to it, at any depth, be it
//	          reverted; named it in its access list; or looked at its code or balance
//
// What a transaction touched within shows only when it is executed. For a block that was stored by a version without this index, or that came here by
// another way than execution, the postings are made from what the block and its receipts show by themselves: sender, recipient, created
// contract, access list, delegating accounts, and the accounts that emitted logs. So there are two marks:
//
//	since   blocks from this one on have complete postings
//	built   blocks from this one on have postings, built <= since; a goroutine of Run moves it down to block 1
//
// Both are stored, with the newest block that has postings: a store whose head is another one was written by a version without the index. A
// change of the format gets other keys, and the index is then built anew.
var (
	keyAddressSince = []byte("\xf0address-index-1-since") // each 8 bytes, big endian
	keyAddressBuilt = []byte("\xf0address-index-1-built")
	keyAddressHead  = []byte("\xf0address-index-1-head")
)

const (
	postingSender  = 's'
	postingTouched = 't'
)

// ErrIndexing means that an answer takes blocks that the index of accounts does not hold yet. It is being built.
var ErrIndexing = errors.New("the index of accounts is being built")

// addressMarks are what the index holds; see above.
type addressMarks struct {
	since, built atomic.Uint64
}

// openAddressIndex reads the marks. A store that has none, or blocks behind them, has its index built from the head down.
func (l *Ledger) openAddressIndex(head uint64) error {
	db := l.store.db
	since, known := readUint64(db, keyAddressSince)
	built, _ := readUint64(db, keyAddressBuilt)
	newest, _ := readUint64(db, keyAddressHead)
	if !known || newest != head {
		since, built = head+1, head+1
		batch := db.NewBatch()
		err := errors.Join(putUint64(batch, keyAddressSince, since), putUint64(batch, keyAddressBuilt, built), putUint64(batch, keyAddressHead, head), batch.Write())
		if err != nil {
			return fmt.Errorf("ledger: index of accounts: %w", err)
		}
	}
	l.addresses.since.Store(since)
	l.addresses.built.Store(built)
	return nil
}

func readUint64(db ethdb.KeyValueReader, key []byte) (uint64, bool) {
	raw, err := db.Get(key)
	if err != nil || len(raw) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(raw), true
}

func putUint64(w ethdb.KeyValueWriter, key []byte, v uint64) error {
	return w.Put(key, binary.BigEndian.AppendUint64(nil, v))
}

// addressPostings are the postings of one block: for each value the positions of transactions.
type addressPostings map[postingValue][]byte

// postingsOf makes the postings of a block. touched is that of its execution, or nil if it was not executed here.
func postingsOf(signer types.Signer, block *types.Block, receipts types.Receipts, touched [][]common.Address) addressPostings {
	txs := block.Transactions()
	postings := make(addressPostings, 2*len(txs))
	last := make(map[postingValue]int, 2*len(txs))
	add := func(kind byte, a common.Address, i int) {
		p := newPosting(kind, a[:])
		before, known := last[p]
		if known && before == i {
			return
		}
		last[p] = i
		postings[p] = binary.AppendUvarint(postings[p], uint64(i-before))
	}
	for i, tx := range txs {
		if from, err := types.Sender(signer, tx); err == nil {
			add(postingSender, from, i)
		}
		accounts := shownBy
		if touched != nil {
			accounts = func(*types.Transaction, *types.Receipt) []common.Address { return touched[i] }
		}
		for _, a := range accounts(tx, receipts[i]) {
			add(postingTouched, a, i)
		}
	}
	return postings
}

// shownBy returns the accounts that a transaction and its receipt show.
func shownBy(tx *types.Transaction, r *types.Receipt) []common.Address {
	var all []common.Address
	if to := tx.To(); to != nil {
		all = append(all, *to)
	} else {
		all = append(all, r.ContractAddress)
	}
	for _, tuple := range tx.AccessList() {
		all = append(all, tuple.Address)
	}
	for _, auth := range tx.SetCodeAuthorizations() {
		all = append(all, auth.Address)
		if authority, err := auth.Authority(); err == nil {
			all = append(all, authority)
		}
	}
	for _, entry := range r.Logs {
		all = append(all, entry.Address)
	}
	return all
}

// writeAddressIndex adds the postings of a block to its batch.
func (s *store) writeAddressIndex(w ethdb.KeyValueWriter, signer types.Signer, b *executed) error {
	number := b.block.NumberU64()
	for p, positions := range postingsOf(signer, b.block, b.receipts, b.touched) { // the order does not matter: they are keys of one batch
		if err := w.Put(binary.BigEndian.AppendUint64(p[:], number), positions); err != nil {
			return err
		}
	}
	if b.touched == nil {
		if err := putUint64(w, keyAddressSince, number+1); err != nil {
			return err
		}
	}
	return putUint64(w, keyAddressHead, number)
}

// buildBatch is how many blocks the index is built for at once.
const buildBatch = 100

// buildAddressIndex makes the postings of the blocks that were stored without. It takes half of one core at most.
func (l *Ledger) buildAddressIndex(ctx context.Context) error {
	built := l.addresses.built.Load()
	if built <= 1 {
		return nil
	}
	l.opts.Logger.Info("building the index of accounts", "blocks", built-1)
	for begin := time.Now(); built > 1; {
		start := time.Now()
		next := max(built, buildBatch+1) - buildBatch
		if err := l.buildAddresses(next, built); err != nil {
			return err
		}
		built = next
		l.addresses.built.Store(built)
		if built == 1 {
			l.opts.Logger.Info("the index of accounts is built", "took", time.Since(begin))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Since(start)):
		}
	}
	return nil
}

// buildAddresses writes the postings of the blocks in [from, to) and that they are written, in one batch.
func (l *Ledger) buildAddresses(from, to uint64) error {
	batch := l.store.db.NewBatch()
	for number := from; number < to; number++ {
		// Not by way of the caches, which are for what clients ask about.
		hash := rawdb.ReadCanonicalHash(l.store.db, number)
		block := rawdb.ReadBlock(l.store.db, hash, number)
		if block == nil {
			return fmt.Errorf("ledger: index of accounts: %w: block %d is missing", consensus.ErrCorrupt, number)
		}
		receipts := rawdb.ReadReceipts(l.store.db, hash, number, block.Time(), l.genesis.Config)
		if len(receipts) != len(block.Transactions()) {
			return fmt.Errorf("ledger: index of accounts: %w: the receipts of block %d are missing", consensus.ErrCorrupt, number)
		}
		signer := types.MakeSigner(l.genesis.Config, block.Number(), block.Time())
		for p, positions := range postingsOf(signer, block, receipts, nil) {
			key := binary.BigEndian.AppendUint64(p[:], number)
			if known, err := l.store.db.Has(key); err == nil && known {
				continue // made when the block was executed: it says more
			}
			if err := batch.Put(key, positions); err != nil {
				return fmt.Errorf("ledger: index of accounts: %w", err)
			}
		}
	}
	if err := errors.Join(putUint64(batch, keyAddressBuilt, from), batch.Write()); err != nil {
		return fmt.Errorf("ledger: index of accounts: %w: %w", consensus.ErrFailed, err)
	}
	return nil
}

// TransactionPlace is where a transaction is included.
type TransactionPlace struct {
	Block uint64
	Index int // in the block
}

// AccountTransactions returns the transactions that dealt with an account in the blocks [from, to], see addressindex.go: oldest first, or newest
// first. It returns at least limit of them if there are as many, and always all of a block; more says whether there are others beyond.
//
// Errors: ErrIndexing if that takes blocks which the index does not hold yet; ctx's.
func (l *Ledger) AccountTransactions(ctx context.Context, account common.Address, from, to uint64, newestFirst bool, limit int) (found []TransactionPlace, more bool, err error) {
	to = min(to, l.CurrentHeader().Number.Uint64())
	built := l.addresses.built.Load()
	first := max(from, built, 1)
	s := accountScan{ctx: ctx, db: l.store.db, account: account, limit: limit}
	if newestFirst {
		found, more, err = s.backwards(first, to)
	} else {
		if max(from, 1) < built {
			return nil, false, fmt.Errorf("%w: it begins with block %d so far", ErrIndexing, built)
		}
		found, more, err = s.forwards(first, to)
	}
	if err == nil && !more && len(found) < limit && max(from, 1) < built {
		err = fmt.Errorf("%w: it begins with block %d so far", ErrIndexing, built)
	}
	if err != nil {
		return nil, false, err
	}
	return found, more, nil
}

// accountScan looks for the postings of one account.
type accountScan struct {
	ctx     context.Context
	db      ethdb.Iteratee
	account common.Address
	limit   int
}

func (s *accountScan) forwards(from, to uint64) (found []TransactionPlace, more bool, err error) {
	if from > to {
		return nil, false, nil
	}
	found, next, err := s.scan(from, to, s.limit)
	return found, next <= to, err
}

// backwards has only iterators that go forwards. It looks at ever larger windows before what it has seen, and halves one that holds far more than is
// asked for.
func (s *accountScan) backwards(from, to uint64) (found []TransactionPlace, more bool, err error) {
	const enough = 8 // times the limit is too much for one window
	for window := uint64(256); from <= to; {
		lo := from
		if to-from >= window {
			lo = to - window + 1
		}
		most := enough * (s.limit + 1)
		if lo == to {
			most = 0
		}
		page, next, err := s.scan(lo, to, most)
		if err != nil {
			return nil, false, err
		}
		if next <= to {
			window = max(1, (to-lo+1)/2)
			continue
		}
		for _, place := range slices.Backward(page) {
			if len(found) >= s.limit && found[len(found)-1].Block != place.Block {
				return found, true, nil
			}
			found = append(found, place)
		}
		if len(found) >= s.limit {
			_, next, err := s.scan(from, lo-1, 1)
			return found, lo > from && next <= lo, err
		}
		if lo == from {
			break
		}
		to, window = lo-1, 4*window
	}
	return found, false, nil
}

// scan returns the account's transactions in [from, to], oldest first. It stops before a block when it has at least most of them, unless most is 0. next
// is that block, or lies behind to if there is none.
func (s *accountScan) scan(from, to uint64, most int) (found []TransactionPlace, next uint64, err error) {
	senders := newPostingList(s.db, newPosting(postingSender, s.account[:]), from, to)
	touched := newPostingList(s.db, newPosting(postingTouched, s.account[:]), from, to)
	defer func() { senders.iter.Release(); touched.iter.Release() }()
	if err := errors.Join(senders.step(), touched.step()); err != nil {
		return nil, 0, err
	}
	for !senders.done || !touched.done {
		if err := s.ctx.Err(); err != nil {
			return nil, 0, err
		}
		number := to
		for _, list := range []*postingList{senders, touched} {
			if !list.done {
				number = min(number, list.number)
			}
		}
		if most > 0 && len(found) >= most {
			return found, number, nil
		}
		var positions []int
		for _, list := range []*postingList{senders, touched} {
			if list.done || list.number != number {
				continue
			}
			if positions, err = appendPositions(positions, list.iter.Value()); err != nil {
				return nil, 0, fmt.Errorf("ledger: index of accounts, block %d: %w", number, err)
			}
			if err := list.step(); err != nil {
				return nil, 0, err
			}
		}
		slices.Sort(positions)
		for _, i := range slices.Compact(positions) {
			found = append(found, TransactionPlace{number, i})
		}
	}
	return found, to + 1, nil
}

func appendPositions(positions []int, encoded []byte) ([]int, error) {
	at := uint64(0)
	for r := bytes.NewReader(encoded); r.Len() > 0; {
		step, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", consensus.ErrCorrupt, err)
		}
		at += step
		positions = append(positions, int(at))
	}
	return positions, nil
}

// TransactionBySenderAndNonce returns where the transaction of an account with a nonce is included; ok is false if there is none. It reads a dozen or two
// of the account's blocks: their nonces ascend.
//
// Errors: ErrIndexing if it may be in a block that the index does not hold yet; ctx's.
func (l *Ledger) TransactionBySenderAndNonce(ctx context.Context, sender common.Address, nonce uint64) (place TransactionPlace, ok bool, err error) {
	built := l.addresses.built.Load()
	value := newPosting(postingSender, sender[:])
	for lo, hi := max(built, 1), l.CurrentHeader().Number.Uint64(); lo <= hi; {
		if err := ctx.Err(); err != nil {
			return place, false, err
		}
		mid := lo + (hi-lo)/2
		number, found, err := firstPosting(l.store.db, value, mid, hi)
		if err != nil {
			return place, false, err
		}
		if !found {
			hi = mid - 1
			continue
		}
		index, order := l.nonceIn(l.BlockByNumber(number), sender, nonce)
		switch {
		case order == 0:
			return TransactionPlace{number, index}, true, nil
		case order < 0:
			hi = mid - 1
		default:
			lo = number + 1
		}
	}
	if built > 1 {
		return place, false, fmt.Errorf("%w: it begins with block %d so far", ErrIndexing, built)
	}
	return place, false, nil
}

// firstPosting returns the first block in [from, to] with a posting.
func firstPosting(db ethdb.Iteratee, value postingValue, from, to uint64) (uint64, bool, error) {
	list := newPostingList(db, value, from, to)
	defer list.iter.Release()
	err := list.step()
	return list.number, !list.done, err
}

// nonceIn looks for a nonce of sender in a block: order is 0 if it is there, below 0 if it comes before the block, else above.
func (l *Ledger) nonceIn(block *types.Block, sender common.Address, nonce uint64) (index, order int) {
	signer := types.MakeSigner(l.genesis.Config, block.Number(), block.Time())
	for i, tx := range block.Transactions() {
		if from, err := types.Sender(signer, tx); err != nil || from != sender {
			continue
		}
		switch {
		case tx.Nonce() == nonce:
			return i, 0
		case tx.Nonce() > nonce:
			return 0, -1
		}
	}
	return 0, 1
}

// AccountBlocks calls f with the number of every block in [from, to] that may hold a transaction which dealt with an account of each list,
// ascending, until f returns false: every block of which the index is not complete, and then those that it names. An empty list demands nothing.
func (l *Ledger) AccountBlocks(ctx context.Context, lists [][]common.Address, from, to uint64, f func(number uint64) (bool, error)) error {
	to = min(to, l.CurrentHeader().Number.Uint64())
	from = max(from, 1)
	criteria := accountCriteria(lists)
	all := min(to+1, l.addresses.since.Load())
	if len(criteria) == 0 {
		all = to + 1
	}
	for ; from < all; from++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err := f(from); err != nil || !more {
			return err
		}
	}
	if from > to {
		return nil
	}
	return leapfrog(ctx, l.store.db, criteria, from, to, new(uint64), f)
}

func accountCriteria(lists [][]common.Address) (criteria [][]postingValue) {
	for _, list := range lists {
		any := make(map[postingValue]struct{}, 2*len(list))
		for _, a := range list {
			any[newPosting(postingSender, a[:])], any[newPosting(postingTouched, a[:])] = struct{}{}, struct{}{}
		}
		if len(any) > 0 {
			criteria = append(criteria, slices.Collect(maps.Keys(any)))
		}
	}
	return criteria
}
