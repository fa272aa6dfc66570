package ledger_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/view/viewtest"
	"ledgerd/ledger"
)

// entries is the log of a history, as far as it is not trimmed.
type entries struct {
	list    []consensus.Entry // from LSN 1 on
	trimmed consensus.LSN
}

func (e entries) Read(_ context.Context, lo, hi consensus.LSN) ([]consensus.Entry, error) {
	if lo <= e.trimmed {
		return nil, consensus.ErrTrimmed
	}
	return e.list[lo-1 : hi-1], nil
}

func logOf(t *testing.T, h *history, n int) entries {
	log := viewtest.NewLog(networkID(t))
	for i := range n {
		log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: h.payload(i)})
	}
	var all entries
	for len(all.list) < n {
		some, err := log.Follow(t.Context(), consensus.LSN(len(all.list)+1), n)
		require.NoError(t, err)
		all.list = append(all.list, some...)
	}
	return all
}

// TestVerify verifies a sound chain: which blocks can be executed again, and to a root, depends on what of old states is kept.
func TestVerify(t *testing.T) {
	for _, tc := range []struct {
		name    string
		opts    ledger.Options
		roots   bool // of all blocks
		trimmed consensus.LSN
	}{
		{"archive", ledger.Options{}, false, 0},
		{"archive of tries", ledger.Options{ArchiveProofs: true}, true, 0},
		{"trimmed log", ledger.Options{}, false, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := new(history)
			l := open(t, t.TempDir(), tc.opts)
			defer func() { require.NoError(t, l.Close()) }()
			play(t, l, h, 300)
			log := logOf(t, h, 300)
			log.trimmed = tc.trimmed
			head := l.CurrentHeader()
			q := ledger.VerifyQuery{To: head.Number.Uint64(), Log: log, Execute: true}
			v, err := l.Verify(t.Context(), q)
			require.NoError(t, err)
			require.Equal(t, q.To+1, v.Blocks)
			require.Equal(t, head.Hash(), v.Hash)
			transactions, inLog := 0, 0
			for n := uint64(1); n <= q.To; n++ {
				transactions += len(l.BlockByNumber(n).Transactions())
				if before, _ := ledger.PositionOf(l.HeaderByNumber(n - 1)); before.LSN >= log.trimmed {
					inLog++
				}
			}
			require.EqualValues(t, transactions, v.Transactions)
			require.EqualValues(t, inLog, v.Entries)
			require.Equal(t, q.To, v.Executed)
			if tc.roots {
				require.Equal(t, q.To, v.StateRoots)
			} else {
				require.Greater(t, v.StateRoots, uint64(100)) // the layers in memory
				require.Less(t, v.StateRoots, q.To)
			}

			part, err := l.Verify(t.Context(), ledger.VerifyQuery{From: 100, To: 109})
			require.NoError(t, err)
			require.EqualValues(t, 10, part.Blocks)
			require.Equal(t, l.CanonicalHash(109), part.Hash)
			require.Zero(t, part.Executed+part.Entries+part.StateRoots)

			over, cancel := context.WithCancel(t.Context())
			cancel()
			none, err := l.Verify(over, q)
			require.ErrorIs(t, err, context.Canceled)
			require.Zero(t, none.Blocks)
			for _, bad := range []ledger.VerifyQuery{{From: 2, To: 1}, {From: 1, To: q.To + 1}} {
				_, err := l.Verify(t.Context(), bad)
				require.ErrorContains(t, err, "the head is block")
			}
		})
	}
}

// TestVerifyFindsDamage damages what is stored of one block and demands that this block, and what is wrong with it, is named.
func TestVerifyFindsDamage(t *testing.T) {
	h := new(history)
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{FlushDebt: time.Hour})
	play(t, l, h, 100)
	head := l.CurrentHeader().Number.Uint64()
	block := l.BlockByNumber(40)
	receipts := l.ReceiptsByHash(block.Hash())
	hash, tx := block.Hash(), block.Transactions()[0].Hash()
	require.NoError(t, l.Close())
	log := logOf(t, h, 100)

	for _, tc := range []struct {
		name    string
		damage  func(db ethdb.Database, log *entries)
		problem string
		is      error
	}{
		{"header", func(db ethdb.Database, _ *entries) {
			header := block.Header()
			header.GasLimit++
			rotten, err := rlp.EncodeToBytes(header)
			require.NoError(t, err)
			key := binary.BigEndian.AppendUint64([]byte("h"), 40) // go-ethereum's prefix of headers
			require.NoError(t, db.Put(append(key, hash[:]...), rotten))
		}, "its header has hash", consensus.ErrCorrupt},
		{"no header", func(db ethdb.Database, _ *entries) { rawdb.DeleteHeader(db, hash, 40) }, "its header is missing", consensus.ErrCorrupt},
		{"other block", func(db ethdb.Database, _ *entries) {
			header := block.Header()
			header.ParentHash[0] ^= 1
			rawdb.WriteHeader(db, header)
			rawdb.WriteCanonicalHash(db, header.Hash(), 40)
		}, "its parent is", consensus.ErrCorrupt},
		{"no body", func(db ethdb.Database, _ *entries) { rawdb.DeleteBody(db, hash, 40) }, "its body is missing", consensus.ErrCorrupt},
		{"transaction gone", func(db ethdb.Database, _ *entries) {
			body := *block.Body()
			body.Transactions = body.Transactions[1:]
			rawdb.WriteBody(db, hash, 40, &body)
			rawdb.WriteReceipts(db, hash, 40, receipts[1:])
		}, "transactionsRoot", consensus.ErrCorrupt},
		{"receipt", func(db ethdb.Database, _ *entries) {
			other := *receipts[0]
			other.Status ^= 1
			rawdb.WriteReceipts(db, hash, 40, append(types.Receipts{&other}, receipts[1:]...))
		}, "receiptsRoot", consensus.ErrCorrupt},
		{"index", func(db ethdb.Database, _ *entries) { rawdb.DeleteTxLookupEntry(db, tx) }, "is not found by its hash", consensus.ErrCorrupt},
		{"state root", func(db ethdb.Database, _ *entries) {
			header := block.Header()
			header.Root[0] ^= 1
			rawdb.WriteHeader(db, header)
			rawdb.WriteBody(db, header.Hash(), 40, block.Body())
			rawdb.WriteReceipts(db, header.Hash(), 40, receipts)
			rawdb.WriteCanonicalHash(db, header.Hash(), 40)
		}, "stateRoot", ledger.ErrDivergence},
		{"entry", func(_ ethdb.Database, log *entries) {
			at, _ := ledger.PositionOf(block.Header())
			log.list[at.LSN-1].Record.Payload = []byte("something else")
		}, "digest is", consensus.ErrCorrupt},
		{"other log", func(_ ethdb.Database, log *entries) { // that is sound in itself, from the entry on
			at, _ := ledger.PositionOf(block.Header())
			e := &log.list[at.LSN-1]
			e.Record.Payload = log.list[0].Record.Payload
			e.Digest = consensus.NextDigest(log.list[at.LSN-2].Digest, *e)
		}, "the digest of the log at lsn", consensus.ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			damaged, log := copyDir(t, dir), entries{list: append([]consensus.Entry{}, log.list...)}
			kv, err := pebble.New(filepath.Join(damaged, "chaindata"), 16, 16, "", false)
			require.NoError(t, err)
			tc.damage(rawdb.NewDatabase(kv), &log)
			require.NoError(t, kv.Close())
			l := open(t, damaged, ledger.Options{})
			defer func() { require.NoError(t, l.Close()) }()
			v, err := l.Verify(t.Context(), ledger.VerifyQuery{From: 1, To: head, Log: log, Execute: true})
			var bad *ledger.BadBlockError
			require.ErrorAs(t, err, &bad)
			require.EqualValues(t, 40, bad.Number)
			require.ErrorContains(t, err, tc.problem)
			require.ErrorIs(t, err, tc.is)
			require.EqualValues(t, 39, v.Blocks)
			require.Equal(t, block.ParentHash(), v.Hash)
			require.NotEqual(t, common.Hash{}, v.Hash)
		})
	}
}
