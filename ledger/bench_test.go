package ledger_test

import (
	"context"
	"math/big"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/view"
	"ledgerd/consensus/view/viewtest"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
)

// BenchmarkCatchUp is how fast a ledger plays what a log already holds, in blocks of one transfer: the most expensive way to have a transaction, and what an
// idle chain consists of. cpu-ms/block tells more than the wall time on a machine that is busy with something else.
//
//	go test ./ledger -run '^$' -bench CatchUp -benchtime 20000x
func BenchmarkCatchUp(b *testing.B) {
	log := viewtest.NewLog(networkID(b))
	for i := range b.N {
		to := address((i + 1) % accounts)
		raw := sign(i%accounts, &types.DynamicFeeTx{
			ChainID: big.NewInt(1337), Nonce: uint64(i / accounts), Gas: 21_000, GasFeeCap: new(big.Int), GasTipCap: new(big.Int), To: &to, Value: big.NewInt(1),
		})
		log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: batch.Encode([][]byte{raw})})
	}
	l := open(b, b.TempDir(), ledger.Options{CacheMiB: 128})
	player, err := view.NewPlayer(log, ledger.App, l, view.Options{})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	b.ResetTimer()
	before := cpu(b)
	go func() { ended <- player.Run(ctx) }()
	require.NoError(b, player.WaitApplied(ctx, consensus.LSN(b.N)))
	require.NoError(b, l.Drain(ctx))
	used := cpu(b) - before
	b.StopTimer()
	cancel()
	require.NoError(b, <-ended)
	require.EqualValues(b, b.N, l.CurrentHeader().Number.Uint64())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
	b.ReportMetric(used.Seconds()*1000/float64(b.N), "cpu-ms/block")
	require.NoError(b, l.Close())
}

// cpu is what this process has used of all cores.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
