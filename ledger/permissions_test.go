package ledger_test

import (
	"context"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/view/viewtest"
	"ledgerd/contracts"
	"ledgerd/contracts/bindings/permissions"
	"ledgerd/ledger"
	"ledgerd/ledger/genesis"
)

// heldLog lets an append through only when the test says so, in the order of the calls.
type heldLog struct {
	*viewtest.Log
	arrived chan struct{}
	release chan struct{}
}

func (l *heldLog) Append(ctx context.Context, r consensus.Record) (consensus.LSN, error) {
	select {
	case l.arrived <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-l.release:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return l.Log.Append(ctx, r)
}

// TestRevokedWhilePooled revokes a sender whose transaction is on its way to the log. It was accepted when it was permitted; it
// is judged at its turn.
func TestRevokedWhilePooled(t *testing.T) {
	const admin, bob = 0, 1
	g := testGenesis()
	g.Ledgerd.Permissions = &genesis.Permissions{
		RestrictSend: true, Administrators: []common.Address{address(admin)}, Senders: []common.Address{address(bob)},
	}
	g.Complete()
	require.NoError(t, g.Validate())
	id, err := g.NetworkID()
	require.NoError(t, err)
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger"), g, ledger.Options{CacheMiB: 16})
	require.NoError(t, err)
	log := &heldLog{Log: viewtest.NewLog(id), arrived: make(chan struct{}), release: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, log) }()

	decode := func(from int, data types.TxData) *types.Transaction {
		tx := new(types.Transaction)
		require.NoError(t, tx.UnmarshalBinary(sign(from, data)))
		return tx
	}
	revoke := permissions.NewPermissions().PackRevoke(address(bob), new(big.Int).SetUint64(contracts.FlagSend))
	revocation := decode(admin, &types.LegacyTx{To: &contracts.PermissionsAddress, Data: revoke, Gas: 200_000, GasPrice: new(big.Int)})
	to := address(2)
	transfer := decode(bob, &types.LegacyTx{To: &to, Value: big.NewInt(1), Gas: 21_000, GasPrice: new(big.Int)})

	require.ErrorContains(t, l.Pool().Add(decode(3, &types.LegacyTx{To: &to, Gas: 21_000, GasPrice: new(big.Int)})), "not permitted")

	require.NoError(t, l.Pool().Add(revocation))
	<-log.arrived // the revocation is under way ...
	require.NoError(t, l.Pool().Add(transfer))
	<-log.arrived // ... and the transfer behind it, in an append of its own
	log.release <- struct{}{}
	require.Eventually(t, func() bool { return l.TransactionStatus(revocation.Hash()).State == ledger.TransactionIncluded }, 10*time.Second, time.Millisecond)
	log.release <- struct{}{}
	require.Eventually(t, func() bool { return l.TransactionStatus(transfer.Hash()).State == ledger.TransactionDropped }, 10*time.Second, time.Millisecond)
	require.Contains(t, l.TransactionStatus(transfer.Hash()).Reason, "not permitted")

	require.NoError(t, l.Sync(ctx))
	require.Equal(t, uint64(1), l.CurrentHeader().Number.Uint64(), "the entry with the transfer alone makes no block")
	require.NoError(t, l.WithState(ctx, l.CurrentHeader(), func(st *state.StateDB) error {
		require.Zero(t, st.GetNonce(address(bob)))
		return nil
	}))
	require.ErrorContains(t, l.Pool().Add(transfer), "not permitted")
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, l.Close())
}
