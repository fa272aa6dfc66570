package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/ethereum/go-ethereum/triedb/pathdb"

	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
)

// Keys of our own beside go-ethereum's schema, whose prefixes are letters.
var (
	keyNetworkID = []byte("\xf0network-id")  // 32 bytes
	keyApplied   = []byte("\xf0applied-lsn") // 8 bytes, big endian
)

// store is what is on disk: go-ethereum's key-value schema in pebble, its freezers for old blocks and old states, and
// the path-based trie database on top.
type store struct {
	db   ethdb.Database
	tdb  *triedb.Database
	live *state.MPTDatabase
	past *state.HistoricDB
}

// openStore opens or creates the store in dir.
func openStore(dir string, opts *Options) (*store, error) {
	s, err := openKeyValues(dir, opts)
	if err != nil {
		return nil, err
	}
	s.openTries(dir, opts)
	return s, nil
}

// openKeyValues opens the store without its state.
func openKeyValues(dir string, opts *Options) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	kv, err := pebble.New(filepath.Join(dir, "chaindata"), opts.CacheMiB, opts.FileHandles, "", false)
	if err != nil {
		if strings.Contains(err.Error(), "resource temporarily unavailable") || strings.Contains(err.Error(), "lock") {
			return nil, fmt.Errorf("ledger: %s: %w", dir, consensus.ErrLocked)
		}
		return nil, fmt.Errorf("ledger: open %s: %w", dir, err)
	}
	db, err := rawdb.Open(kv, rawdb.OpenOptions{Ancient: filepath.Join(dir, "chaindata", "ancient")})
	if err != nil {
		kv.Close()
		return nil, fmt.Errorf("ledger: open %s: %w", dir, err)
	}
	return &store{db: db}, nil
}

// writeBuffer is how much state go-ethereum gathers, behind the 128 layers of the newest blocks, until it writes it. Small, so that the state on disk follows the
// head by itself: some 1,000 blocks of one transfer fill it, and are written with one round of fsyncs, where a flush (Ledger.flush) has one for each of the 128
// layers. From some 100 transactions a block on nearly each block fills it, which is no more than those flushes would be.
const writeBuffer = 512 << 10

// openTries opens the state. State history is complete (archive) unless the options bound it, and indexed without the
// delay that go-ethereum has for nodes that are still syncing. Flushes are not asynchronous: after a Commit the state is
// in the key-value store, behind everything that was written there before (invariant 3).
func (s *store) openTries(dir string, opts *Options) {
	config := &pathdb.Config{
		TrieCleanSize:       opts.CacheMiB << 20 / 4,
		StateCleanSize:      opts.CacheMiB << 20 / 4,
		WriteBufferSize:     writeBuffer,
		JournalDirectory:    filepath.Join(dir, "triedb"),
		StateHistory:        opts.StateHistory,
		TrienodeHistory:     -1,
		EnableStateIndexing: true,
		NoHistoryIndexDelay: true,
		NoAsyncFlush:        true,
	}
	if opts.ArchiveProofs {
		config.TrienodeHistory = 0
	}
	s.tdb = triedb.NewDatabase(s.db, &triedb.Config{PathDB: config})
	for range 5 {
		if s.indexServes(opts.ArchiveProofs, 20*time.Millisecond) {
			break
		}
		// At its start go-ethereum's indexer looks once whether it may work, at the same moment as another goroutine says that it
		// may. When it looks too early it looks again after 15 seconds, and until then old states cannot be read. Opening again
		// costs a few milliseconds.
		if err := s.tdb.Close(); err != nil {
			break
		}
		s.tdb = triedb.NewDatabase(s.db, &triedb.Config{PathDB: config})
	}
	codes := state.NewCodeDB(s.db)
	s.live = state.NewMPTDatabase(s.tdb, codes)
	s.past = state.NewHistoricDatabase(s.tdb, codes)
}

// indexServes waits for up to patience until the index of old states answers, and with proofs that of their tries. It is true also if an index has work to do,
// which takes as long as it takes.
func (s *store) indexServes(proofs bool, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if states, tries, err := s.tdb.IndexProgress(); err != nil || states > 0 || (proofs && tries > 0) {
			return true
		}
		_, err := s.tdb.HistoricStateReader(common.Hash{}) // no state has this root: what matters is the reason
		waits := notIndexed(err)
		if proofs {
			_, err = s.tdb.HistoricNodeReader(common.Hash{})
			waits = waits || notIndexed(err)
		}
		if !waits {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func notIndexed(err error) bool { return err != nil && strings.Contains(err.Error(), "fully indexed") }

// init writes the genesis into an empty store, or checks that the stored one is the same.
func (s *store) init(g *genesis.Genesis) (*types.Header, error) {
	id, err := g.NetworkID()
	if err != nil {
		return nil, err
	}
	known, err := s.db.Has(keyNetworkID)
	if err != nil {
		return nil, fmt.Errorf("ledger: read network id: %w", err)
	}
	if known {
		stored, err := s.db.Get(keyNetworkID)
		if err != nil {
			return nil, fmt.Errorf("ledger: read network id: %w", err)
		}
		if consensus.NetworkID(stored) != id {
			return nil, fmt.Errorf("ledger: %w: the data belongs to network %x, the genesis file makes %x", consensus.ErrWrongNetwork, stored, id)
		}
		header := rawdb.ReadHeader(s.db, rawdb.ReadCanonicalHash(s.db, 0), 0)
		if header == nil {
			return nil, fmt.Errorf("ledger: %w: the genesis block is missing from the store", consensus.ErrCorrupt)
		}
		return header, nil
	}
	if lsn := s.applied(); lsn != 0 {
		// A store that lost its beginning is not a new one: rot in pebble's manifest makes whole tables vanish.
		return nil, fmt.Errorf("ledger: %w: lsn %d was applied, and the genesis block is missing from the store", consensus.ErrCorrupt, lsn)
	}
	block, err := g.Commit(s.db, s.tdb, nil)
	if err != nil {
		return nil, fmt.Errorf("ledger: write genesis: %w", err)
	}
	// The id is written last and synced: a store that holds it holds the whole genesis.
	if err := s.db.Put(keyNetworkID, id[:]); err != nil {
		return nil, fmt.Errorf("ledger: write genesis: %w", err)
	}
	if err := s.db.SyncKeyValue(); err != nil {
		return nil, fmt.Errorf("ledger: write genesis: %w", err)
	}
	return block.Header(), nil
}

// checkChain checks that no block up to number is missing: what pebble does not know that it held, it does not miss. Old blocks are
// in the freezer, which knows how many it has; the others cost a microsecond each.
func (s *store) checkChain(number uint64) error {
	next, err := s.db.Ancients()
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	// go-ethereum's prefix of headers and canonical hashes, then the number
	it := s.db.NewIterator([]byte("h"), binary.BigEndian.AppendUint64(nil, next))
	defer it.Release()
	for it.Next() {
		k := it.Key()
		if len(k) != 1+8+1 || k[9] != 'n' {
			continue
		}
		if n := binary.BigEndian.Uint64(k[1:9]); n != next {
			break
		}
		next++
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if next <= number {
		return fmt.Errorf("ledger: %w: block %d is missing from the store, the head is block %d", consensus.ErrCorrupt, next, number)
	}
	return nil
}

// applied returns the LSN that was stored with the newest block.
func (s *store) applied() consensus.LSN {
	raw, err := s.db.Get(keyApplied)
	if err != nil || len(raw) != 8 {
		return 0
	}
	return consensus.LSN(binary.BigEndian.Uint64(raw))
}

func putApplied(w ethdb.KeyValueWriter, lsn consensus.LSN) error {
	return w.Put(keyApplied, binary.BigEndian.AppendUint64(nil, uint64(lsn)))
}

// writeBlock stores a block with all that belongs to it, in one batch (invariant 2). It is not synced.
func (s *store) writeBlock(b *executed, signer types.Signer) error {
	batch := s.db.NewBatch()
	rawdb.WriteBlock(batch, b.block)
	rawdb.WriteReceipts(batch, b.block.Hash(), b.block.NumberU64(), b.receipts)
	rawdb.WriteCanonicalHash(batch, b.block.Hash(), b.block.NumberU64())
	rawdb.WriteTxLookupEntriesByBlock(batch, b.block)
	rawdb.WriteHeadBlockHash(batch, b.block.Hash())
	rawdb.WriteHeadHeaderHash(batch, b.block.Hash())
	rawdb.WriteHeadFastBlockHash(batch, b.block.Hash())
	if err := writeLogIndex(batch, b.block.NumberU64(), b.logs); err != nil {
		return fmt.Errorf("ledger: block %d: %w", b.block.NumberU64(), err)
	}
	if err := s.writeAddressIndex(batch, signer, b); err != nil {
		return fmt.Errorf("ledger: block %d: %w", b.block.NumberU64(), err)
	}
	if err := putApplied(batch, b.lsn); err != nil {
		return fmt.Errorf("ledger: block %d: %w", b.block.NumberU64(), err)
	}
	if err := batch.Write(); err != nil {
		return fmt.Errorf("ledger: block %d: %w: %w", b.block.NumberU64(), consensus.ErrFailed, err)
	}
	return nil
}

// stateOnDisk returns the root of the state that a crash would leave.
func (s *store) stateOnDisk() common.Hash { return rawdb.ReadSnapshotRoot(s.db) }

// hasState says whether the state with this root can be opened for execution.
func (s *store) hasState(root common.Hash) bool {
	_, err := s.live.Reader(root)
	return err == nil
}

// close stores the trie layers that are in memory only, so that the next opening has nothing to execute again, and
// closes everything.
func (s *store) close(head common.Hash) error {
	err := s.tdb.Journal(head)
	return errors.Join(err, s.tdb.Close(), s.db.Close())
}

// abandon closes without the journal: the next opening finds what a crash would have left.
func (s *store) abandon() error {
	return errors.Join(s.tdb.Close(), s.db.Close())
}
