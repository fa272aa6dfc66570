package ledger

import (
	"context"

	"github.com/ethereum/go-ethereum/ethdb"
)

// What the tests outside of the package need from within.

// BuildAddressIndex is what Run does beside its other work.
func (l *Ledger) BuildAddressIndex(ctx context.Context) error { return l.buildAddressIndex(ctx) }

// AddressMarks returns from which blocks on the index of accounts is complete, and from which on it is there.
func (l *Ledger) AddressMarks() (since, built uint64) {
	return l.addresses.since.Load(), l.addresses.built.Load()
}

// ForgetAddressIndex leaves a store as a version without the index of accounts wrote it.
func (l *Ledger) ForgetAddressIndex() error {
	return deletePostings(l.store.db, keyAddressSince, keyAddressBuilt, keyAddressHead)
}

func deletePostings(db ethdb.Database, keys ...[]byte) error {
	for _, kind := range []byte{postingSender, postingTouched} {
		it := db.NewIterator([]byte{postingPrefix, kind}, nil)
		for it.Next() {
			if len(it.Key()) == postingKeyLen {
				keys = append(keys, append([]byte{}, it.Key()...))
			}
		}
		it.Release()
	}
	for _, key := range keys {
		if err := db.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
