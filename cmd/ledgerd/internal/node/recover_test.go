package node

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/recovery"
	"ledgerd/cmd/ledgerd/internal/request"
	"ledgerd/consensus"
	"ledgerd/consensus/raft"
	"ledgerd/ledger/genesis"
)

// TestRecoverSalvages: of three members one survives, which has acknowledged two entries and not applied them. The recovery takes them over, and the survivor comes to
// its base by itself; another node waits for them.
func TestRecoverSalvages(t *testing.T) {
	key := func(n byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	}
	public := func(n byte) genesis.HexKey { return genesis.HexKey(key(n).Public().(ed25519.PublicKey)) }
	opts := snapshotOptions(t, func(g *genesis.Genesis) {
		g.Ledgerd.Engine = raft.Name
		g.Ledgerd.Administrators, g.Ledgerd.Threshold = []genesis.HexKey{public(100)}, 1
		for id := byte(1); id <= 3; id++ {
			g.Ledgerd.Members = append(g.Ledgerd.Members, genesis.Member{ID: uint64(id), NodeKey: public(id), PeerAddress: "127.0.0.1:1"})
		}
	})
	behind := withHome(t, opts)
	records := []consensus.Record{transferRecord(t, 1), transferRecord(t, 2), transferRecord(t, 3)}

	store, replica := openStore(t, opts)
	require.NoError(t, store.Vouch(1))
	identity := store.Segments()[0].Identity
	numbers := func(ns ...uint64) (b []byte) {
		for _, n := range ns {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		return b
	}
	// What raft stores, as package raft draws it: member 1, in term 1, with an entry of the leader's and three records.
	require.NoError(t, store.EngineArea(1).Write(true, func(b *consensus.EngineBatch) error {
		require.NoError(t, b.Enter())
		require.NoError(t, b.Set([]byte("m"), []byte{1}, identity[:], numbers(1)))
		require.NoError(t, b.Set([]byte("h"), numbers(1, 2, 2, 5)))
		require.NoError(t, b.Set(append([]byte("l"), numbers(1)...), numbers(1), []byte{0}))
		for i, r := range records {
			entry := append([]byte{0, 1}, numbers(1000+uint64(i))...)
			require.NoError(t, b.Set(append([]byte("l"), numbers(uint64(i)+2)...), numbers(1), consensus.AppendRecord(entry, r)))
		}
		return nil
	}))
	_, err := replica.Apply(consensus.Batch{Applied: 2, Items: []consensus.Item{{UnixMilli: 1000, Record: records[0]}}, Sync: true})
	require.NoError(t, err)
	replica.Close()
	require.NoError(t, store.Close())

	status, err := RecoveryStatus(t.Context(), opts, nil)
	require.NoError(t, err)
	require.Equal(t, []consensus.LSN{2, 4}, []consensus.LSN{status.Tail, status.Unapplied.Tail})
	p, err := recovery.Propose([]recovery.Status{status}, request.Change{IDs: []uint64{1}}, Faults)
	require.NoError(t, err)
	require.Equal(t, consensus.LSN(4), p.Base)
	signed := consensus.SignedRecovery{Recovery: p.Recovery, Signatures: []consensus.Signature{p.Sign(key(100))}}

	for range 2 { // looking changes nothing
		done, err := Recover(t.Context(), opts, signed, false, true)
		require.NoError(t, err)
		require.Equal(t, []bool{true, false, true}, []bool{done.Salvaged, done.Pending, done.Vouched})
	}
	store, replica = openStore(t, opts) // a crash after the first half
	replica.Close()
	plan, err := store.Recover(signed)
	require.NoError(t, err)
	require.True(t, plan.Pending)
	require.NoError(t, store.Close())
	done, err := Recover(t.Context(), opts, signed, false, false)
	require.NoError(t, err)
	require.True(t, done.Salvaged)
	done, err = Recover(t.Context(), opts, signed, false, false)
	require.NoError(t, err)
	require.True(t, done.Done)

	store, replica = openStore(t, opts)
	defer store.Close()
	require.Len(t, store.Segments(), 2)
	require.Equal(t, []any{consensus.LSN(4), p.Digest}, []any{store.Next(), replica.Position().Digest})
	entries, err := replica.Read(t.Context(), 0, 3)
	require.NoError(t, err)
	require.Equal(t, records[2], entries[2].Record)

	done, err = Recover(t.Context(), behind, signed, false, false)
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, []bool{done.Salvaged, done.Pending}, "it has no raft log")
}
