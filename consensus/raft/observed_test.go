package raft

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// TestObserved: what a node has of a segment by another way than its engine, the engine does not know. It would order again what is there, or leave out
// what is not.
func TestObserved(t *testing.T) {
	actors := successors(t)
	for _, other := range actors[1:] {
		require.NoError(t, other.store.Close())
	}
	a := actors[0]
	d, err := NewDriver(a.store, a.replica, Options{Self: 1}, 1)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	_, err = a.replica.Apply(consensus.Batch{Applied: 100, Observed: true, Sync: true, Items: []consensus.Item{
		{Record: consensus.Record{App: "test", ID: consensus.RecordID{Session: 1, Seq: 2}}},
	}})
	require.NoError(t, err)
	_, err = NewDriver(a.store, a.replica, Options{Self: 1}, 2)
	require.ErrorIs(t, err, consensus.ErrNotMember)

	require.NoError(t, a.store.Close()) // it is the disk that remembers
	o := a.store.Options()
	store, err := consensus.OpenStore(context.Background(), o)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	replica, err := store.Replica(2)
	require.NoError(t, err)
	_, err = NewDriver(store, replica, Options{Self: 1}, 3)
	require.ErrorIs(t, err, consensus.ErrNotMember)
}
