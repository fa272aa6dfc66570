package comet

import (
	"bytes"
	"errors"
	"sync/atomic"

	dbm "github.com/cometbft/cometbft-db"

	"ledgerd/consensus"
)

// A database is one of CometBFT's, in the engine's area of the node's log store.
//
// CometBFT closes its databases under goroutines that still read, and panics, there, at the error which such a read gets. So Close does nothing, and once
// the engine has stopped, or the store was closed, there is nothing to be found any more, which they bear.
//
// Since all lies in one write-ahead log, what survives a crash is a prefix of what was written. That is why a database whose content the next synced write
// of another one follows need not sync itself (lazy).
type database struct {
	area    *consensus.EngineArea
	prefix  byte
	lazy    bool
	stopped *atomic.Bool
}

var _ dbm.DB = database{}

var (
	errEmptyKey = errors.New("empty key")
	errNilValue = errors.New("nil value")
)

func (d database) key(k []byte) []byte { return append([]byte{d.prefix}, k...) }

// Get implements dbm.DB: nil if there is none.
func (d database) Get(k []byte) ([]byte, error) {
	if len(k) == 0 {
		return nil, errEmptyKey
	}
	if d.stopped.Load() {
		return nil, nil
	}
	v, err := d.area.Get(d.key(k))
	if errors.Is(err, consensus.ErrClosed) {
		return nil, nil
	}
	return v, err
}

// Has implements dbm.DB.
func (d database) Has(k []byte) (bool, error) {
	v, err := d.Get(k)
	return v != nil, err
}

// Set implements dbm.DB.
func (d database) Set(k, v []byte) error { return d.one(k, v, false) }

// SetSync implements dbm.DB.
func (d database) SetSync(k, v []byte) error { return d.one(k, v, true) }

func (d database) one(k, v []byte, sync bool) error {
	b := d.NewBatch().(*dbBatch)
	if err := b.Set(k, v); err != nil {
		return err
	}
	return b.write(sync)
}

// Delete implements dbm.DB.
func (d database) Delete(k []byte) error { return d.remove(k, false) }

// DeleteSync implements dbm.DB.
func (d database) DeleteSync(k []byte) error { return d.remove(k, true) }

func (d database) remove(k []byte, sync bool) error {
	b := d.NewBatch().(*dbBatch)
	if err := b.Delete(k); err != nil {
		return err
	}
	return b.write(sync)
}

// Iterator implements dbm.DB. It holds the range in memory: all that is iterated is the evidence that waits for a block, which is bounded (evidencePool).
func (d database) Iterator(start, end []byte) (dbm.Iterator, error) {
	it := &dbIterator{start: start, end: end}
	if d.stopped.Load() {
		return it, nil
	}
	hi := []byte{d.prefix + 1}
	if end != nil {
		hi = d.key(end)
	}
	err := d.area.Scan(d.key(start), hi, func(k, v []byte) error {
		it.keys, it.values = append(it.keys, bytes.Clone(k[1:])), append(it.values, bytes.Clone(v))
		return nil
	})
	if errors.Is(err, consensus.ErrClosed) {
		err = nil
	}
	return it, err
}

// ReverseIterator implements dbm.DB.
func (d database) ReverseIterator(start, end []byte) (dbm.Iterator, error) {
	it, err := d.Iterator(start, end)
	if err != nil {
		return nil, err
	}
	i := it.(*dbIterator)
	for lo, hi := 0, len(i.keys)-1; lo < hi; lo, hi = lo+1, hi-1 {
		i.keys[lo], i.keys[hi], i.values[lo], i.values[hi] = i.keys[hi], i.keys[lo], i.values[hi], i.values[lo]
	}
	return i, nil
}

// Close implements dbm.DB.
func (database) Close() error { return nil }

// Print implements dbm.DB.
func (database) Print() error { return nil }

// Stats implements dbm.DB.
func (database) Stats() map[string]string { return nil }

// Compact implements dbm.DB.
func (database) Compact(_, _ []byte) error { return nil }

// NewBatch implements dbm.DB.
func (d database) NewBatch() dbm.Batch { return &dbBatch{d: d} }

type dbBatch struct {
	d   database
	ops []dbOp
}

// A dbOp sets a key, or deletes it if the value is nil.
type dbOp struct{ key, value []byte }

// Set implements dbm.Batch.
func (b *dbBatch) Set(k, v []byte) error {
	switch {
	case len(k) == 0:
		return errEmptyKey
	case v == nil:
		return errNilValue
	}
	b.ops = append(b.ops, dbOp{b.d.key(k), v})
	return nil
}

// Delete implements dbm.Batch.
func (b *dbBatch) Delete(k []byte) error {
	if len(k) == 0 {
		return errEmptyKey
	}
	b.ops = append(b.ops, dbOp{key: b.d.key(k)})
	return nil
}

// Write implements dbm.Batch.
func (b *dbBatch) Write() error { return b.write(false) }

// WriteSync implements dbm.Batch.
func (b *dbBatch) WriteSync() error { return b.write(true) }

func (b *dbBatch) write(sync bool) error {
	if b.d.stopped.Load() {
		return consensus.ErrClosed
	}
	return b.d.area.Write(sync && !b.d.lazy, func(batch *consensus.EngineBatch) error {
		var errs []error
		for _, op := range b.ops {
			if op.value == nil {
				errs = append(errs, batch.Delete(op.key))
			} else {
				errs = append(errs, batch.Set(op.key, op.value))
			}
		}
		return errors.Join(errs...)
	})
}

// Close implements dbm.Batch.
func (*dbBatch) Close() error { return nil }

type dbIterator struct {
	start, end   []byte
	keys, values [][]byte
	at           int
}

// Domain implements dbm.Iterator.
func (i *dbIterator) Domain() (start, end []byte) { return i.start, i.end }

// Valid implements dbm.Iterator.
func (i *dbIterator) Valid() bool { return i.at < len(i.keys) }

// Next implements dbm.Iterator.
func (i *dbIterator) Next() { i.at++ }

// Key implements dbm.Iterator.
func (i *dbIterator) Key() []byte { return i.keys[i.at] }

// Value implements dbm.Iterator.
func (i *dbIterator) Value() []byte { return i.values[i.at] }

// Error implements dbm.Iterator.
func (*dbIterator) Error() error { return nil }

// Close implements dbm.Iterator.
func (*dbIterator) Close() error { return nil }
