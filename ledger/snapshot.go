package ledger

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/ethdb"

	"ledgerd/consensus"
)

// A snapshot is everything in the key-value store at one moment when the state of the head is on disk, followed by the blocks
// that have moved to the freezer. Old states are not in it: on the receiver they begin with the snapshot.
//
//	+------------------------+------------+-----------+-------------+
//	| "ledgerd snapshot v1\n" | network id | head hash | applied LSN |
//	|        20 bytes        |     32     |    32     |      8      |
//	+------------------------+------------+-----------+-------------+
//	| key length | value length | key | value |   repeated, lengths in 4 bytes
//	+------------+--------------+-----+-------+
//	| 0xffffffff | SHA-256 of all that precedes |
//	+------------+------------------------------+
//
// Integers are big endian.
const (
	snapshotMagic  = "ledgerd snapshot v1\n"
	snapshotEnd    = 0xffffffff
	maxSnapshotKey = 1 << 10
	maxSnapshotVal = 1 << 28 // a block of all that a batch may hold is below 1 MiB; a generous bound before allocating
)

// ErrBadSnapshot means that a snapshot is damaged, or is not of this network.
var ErrBadSnapshot = errors.New("bad snapshot")

// Snapshot implements view.View. The ledger stops for as long as it takes to write the state of its head to disk; what
// is then streamed to w is a consistent view of that moment.
func (l *Ledger) Snapshot(ctx context.Context, w io.Writer) error {
	iter, head, applied, err := l.freeze(ctx)
	if err != nil {
		return err
	}
	defer iter.Release()
	id, err := l.genesis.NetworkID()
	if err != nil {
		return err
	}
	out := newSnapshotWriter(w)
	out.bytes([]byte(snapshotMagic), id[:], head[:], binary.BigEndian.AppendUint64(nil, uint64(applied)))
	for iter.Next() && out.err == nil && ctx.Err() == nil {
		if localKey(iter.Key()) {
			continue
		}
		out.err = out.Put(iter.Key(), iter.Value())
	}
	if err := errors.Join(iter.Error(), ctx.Err(), out.err); err != nil {
		return fmt.Errorf("ledger: snapshot: %w", err)
	}
	if err := l.writeFrozen(ctx, out); err != nil {
		return fmt.Errorf("ledger: snapshot: %w", err)
	}
	if err := out.finish(); err != nil {
		return fmt.Errorf("ledger: snapshot: %w", err)
	}
	return nil
}

// freeze brings the state of the head to disk and opens an iterator over that moment.
func (l *Ledger) freeze(ctx context.Context) (iter ethdb.Iterator, head common.Hash, applied consensus.LSN, err error) {
	l.exec.Lock()
	defer l.exec.Unlock()
	if l.exec.closed {
		return nil, head, 0, consensus.ErrClosed
	}
	if err := l.writer.drain(ctx); err != nil {
		return nil, head, 0, err
	}
	if err := l.flush(); err != nil {
		return nil, head, 0, err
	}
	if err := putApplied(l.store.db, l.Applied()); err != nil {
		return nil, head, 0, fmt.Errorf("ledger: %w", err)
	}
	return l.store.db.NewIterator(nil, nil), l.exec.head.Hash(), l.Applied(), nil
}

// localKey says whether a key describes this node's history of states, which a snapshot does not carry: state ids count
// the entries of a freezer that stays here.
func localKey(key []byte) bool {
	if len(key) == 1+common.HashLength && key[0] == 'L' { // state root -> state id
		return true
	}
	if key[0] == 'm' { // the index of state history
		return true
	}
	switch string(key) {
	case "LastStateID", "LastStateHistoryIndex", "LastTrienodeHistoryIndex", "TrieJournal", "InvalidBlock", "unclean-shutdown":
		return true
	}
	return false
}

// writeFrozen appends the blocks of the freezer, as the key-value pairs they were before they moved there.
func (l *Ledger) writeFrozen(ctx context.Context, out *snapshotWriter) error {
	frozen, err := l.store.db.Ancients()
	if err != nil {
		return err
	}
	for n := uint64(0); n < frozen; n++ {
		if err := errors.Join(ctx.Err(), out.err); err != nil {
			return err
		}
		block := l.BlockByNumber(n)
		if block == nil {
			return fmt.Errorf("block %d is missing", n)
		}
		batch := rawdb.NewMemoryDatabase().NewBatch()
		rawdb.WriteBlock(batch, block)
		rawdb.WriteReceipts(batch, block.Hash(), n, l.ReceiptsByHash(block.Hash()))
		rawdb.WriteCanonicalHash(batch, block.Hash(), n)
		if err := batch.Replay(out); err != nil {
			return err
		}
	}
	return nil
}

// snapshotWriter writes pairs and sums what it wrote. It is an ethdb.KeyValueWriter.
type snapshotWriter struct {
	buf *bufio.Writer
	sum hash.Hash
	err error
}

func newSnapshotWriter(w io.Writer) *snapshotWriter {
	return &snapshotWriter{buf: bufio.NewWriterSize(w, 1<<20), sum: sha256.New()}
}

func (w *snapshotWriter) bytes(parts ...[]byte) {
	for _, p := range parts {
		if w.err != nil {
			return
		}
		w.sum.Write(p)
		_, w.err = w.buf.Write(p)
	}
}

func (w *snapshotWriter) Put(key, value []byte) error {
	lengths := binary.BigEndian.AppendUint32(nil, uint32(len(key)))
	lengths = binary.BigEndian.AppendUint32(lengths, uint32(len(value)))
	w.bytes(lengths, key, value)
	return w.err
}

// Delete completes the interface; a snapshot is made of pairs alone.
func (w *snapshotWriter) Delete([]byte) error { return errors.New("a snapshot has no deletions") }

// DeleteRange completes the interface.
func (w *snapshotWriter) DeleteRange(_, _ []byte) error {
	return errors.New("a snapshot has no deletions")
}

func (w *snapshotWriter) finish() error {
	w.bytes(binary.BigEndian.AppendUint32(nil, snapshotEnd))
	if w.err == nil {
		_, w.err = w.buf.Write(w.sum.Sum(nil))
	}
	if w.err == nil {
		w.err = w.buf.Flush()
	}
	return w.err
}

// Restore implements view.View. The ledger must be at its genesis. The snapshot is written beside it and checked whole:
// its sum, its network, that the head block is the one that it names, and that the accounts, slots and codes it holds make the
// state root of that block. Only then does it take the place of the empty ledger.
func (l *Ledger) Restore(ctx context.Context, r io.Reader) error {
	l.exec.Lock()
	defer l.exec.Unlock()
	if l.Applied() != 0 || l.exec.head.Number.Sign() != 0 {
		return fmt.Errorf("ledger: restore: the ledger is at block %d already; restore into an empty one", l.exec.head.Number)
	}
	fresh := l.dir + ".restoring"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("ledger: restore: %w", err)
	}
	if err := l.loadSnapshot(ctx, fresh, r); err != nil {
		return errors.Join(fmt.Errorf("ledger: restore: %w", err), os.RemoveAll(fresh))
	}
	if err := l.exchange(fresh); err != nil {
		return fmt.Errorf("ledger: restore: %w", err)
	}
	return l.recover()
}

// loadSnapshot fills the new directory fresh and verifies what it then holds.
func (l *Ledger) loadSnapshot(ctx context.Context, fresh string, r io.Reader) error {
	s, err := openKeyValues(fresh, &l.opts)
	if err != nil {
		return err
	}
	head, err := l.readSnapshot(ctx, s.db, r)
	if err == nil {
		err = s.db.SyncKeyValue()
	}
	if err != nil {
		return errors.Join(err, s.db.Close())
	}
	s.openTries(fresh, &l.opts)
	err = verifySnapshot(s, head)
	return errors.Join(err, s.abandon())
}

func verifySnapshot(s *store, head common.Hash) error {
	number, ok := rawdb.ReadHeaderNumber(s.db, head)
	if !ok || rawdb.ReadHeadBlockHash(s.db) != head || rawdb.ReadCanonicalHash(s.db, number) != head {
		return fmt.Errorf("%w: it does not hold its head block %v", ErrBadSnapshot, head)
	}
	header := rawdb.ReadHeader(s.db, head, number)
	if header == nil || header.Hash() != head {
		return fmt.Errorf("%w: block %d is not %v", ErrBadSnapshot, number, head)
	}
	if err := s.tdb.VerifyState(header.Root); err != nil {
		return fmt.Errorf("%w: state of block %d: %w", ErrBadSnapshot, number, err)
	}
	return nil
}

// readSnapshot writes the pairs of r into db.
func (l *Ledger) readSnapshot(ctx context.Context, db ethdb.Database, r io.Reader) (head common.Hash, err error) {
	sum := sha256.New()
	buffered := bufio.NewReaderSize(r, 1<<20)
	in := io.TeeReader(buffered, sum)
	bad := func(format string, args ...any) (common.Hash, error) {
		return head, fmt.Errorf("%w: "+format, append([]any{ErrBadSnapshot}, args...)...)
	}
	start := make([]byte, len(snapshotMagic)+32+32+8)
	if _, err := io.ReadFull(in, start); err != nil {
		return bad("its beginning: %w", err)
	}
	id, err := l.genesis.NetworkID()
	if err != nil {
		return head, err
	}
	rest, isSnapshot := bytes.CutPrefix(start, []byte(snapshotMagic))
	if !isSnapshot {
		return bad("it does not begin like one")
	}
	if !bytes.Equal(rest[:32], id[:]) {
		return bad("%w: it is of network %x", consensus.ErrWrongNetwork, rest[:32])
	}
	copy(head[:], rest[32:64])

	batch := db.NewBatch()
	for ctx.Err() == nil {
		var keyLen, valueLen uint32
		if err := binary.Read(in, binary.BigEndian, &keyLen); err != nil {
			return bad("it is cut off: %w", err)
		}
		if keyLen == snapshotEnd {
			break
		}
		if err := binary.Read(in, binary.BigEndian, &valueLen); err != nil {
			return bad("it is cut off: %w", err)
		}
		if keyLen == 0 || keyLen > maxSnapshotKey || valueLen > maxSnapshotVal {
			return bad("a pair of %d and %d bytes", keyLen, valueLen)
		}
		pair := make([]byte, keyLen+valueLen)
		if _, err := io.ReadFull(in, pair); err != nil {
			return bad("it is cut off: %w", err)
		}
		if localKey(pair[:keyLen]) {
			return bad("it has a key %q that belongs to one node", pair[:keyLen])
		}
		if err := batch.Put(pair[:keyLen], pair[keyLen:]); err != nil {
			return head, err
		}
		if batch.ValueSize() > ethdb.IdealBatchSize {
			if err := batch.Write(); err != nil {
				return head, err
			}
			batch.Reset()
		}
	}
	if err := errors.Join(ctx.Err(), batch.Write()); err != nil {
		return head, err
	}
	want := sum.Sum(nil)
	got := make([]byte, sha256.Size)
	if _, err := io.ReadFull(buffered, got); err != nil {
		return bad("it is cut off: %w", err)
	}
	if !bytes.Equal(got, want) {
		return bad("its sum is %x, its bytes make %x", got, want)
	}
	return head, nil
}

// exchange puts the directory fresh in the place of the ledger's own, which is empty, and opens it. A crash on the way
// leaves either of the two: the rename is the only step that counts.
func (l *Ledger) exchange(fresh string) error {
	if err := l.store.abandon(); err != nil {
		return err
	}
	old := l.dir + ".empty"
	err := errors.Join(os.RemoveAll(old), os.Rename(l.dir, old), os.Rename(fresh, l.dir), os.RemoveAll(old), syncDir(filepath.Dir(l.dir)))
	if err != nil {
		return err
	}
	s, err := openStore(l.dir, &l.opts)
	if err != nil {
		return err
	}
	l.store = s
	l.recent.purge()
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
