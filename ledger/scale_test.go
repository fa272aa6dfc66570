package ledger_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/view/viewtest"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
)

// TestLongChain makes a chain of LEDGERD_BLOCKS blocks (2,000 where it is not set; .ci/long runs 100,000) and checks that it
// opens again after a clean stop and after a crash, and that a rare topic is found over all of it. It prints the times.
func TestLongChain(t *testing.T) {
	blocks := 2000
	if s := os.Getenv("LEDGERD_BLOCKS"); s != "" {
		var err error
		blocks, err = strconv.Atoi(s)
		require.NoError(t, err, "LEDGERD_BLOCKS")
	}
	dir := filepath.Join(t.TempDir(), "ledger")
	l := open(t, dir, ledger.Options{CacheMiB: 128})
	start := time.Now()
	const rareEvery = 1000
	log := extend(t, l, blocks, func(i int) uint64 {
		if i%rareEvery == rareEvery/2 {
			return 999
		}
		return uint64(i % 7)
	})
	t.Logf("%d blocks made in %v (%.2f ms each)", blocks, time.Since(start).Round(time.Millisecond), time.Since(start).Seconds()*1000/float64(blocks))

	crashed := copyDir(t, dir)
	start = time.Now()
	require.NoError(t, l.Close())
	t.Logf("clean stop %v", time.Since(start).Round(time.Millisecond))

	start = time.Now()
	l = open(t, dir, ledger.Options{CacheMiB: 128})
	t.Logf("clean start %v", time.Since(start).Round(time.Millisecond))
	require.Equal(t, uint64(blocks), l.CurrentHeader().Number.Uint64())
	head := l.CurrentHeader().Hash()

	rare := ledger.LogQuery{To: uint64(blocks), Topics: [][]common.Hash{{}, {common.BigToHash(big.NewInt(999))}}}
	for range 3 {
		start = time.Now()
		found, err := l.FilterLogs(context.Background(), rare)
		require.NoError(t, err)
		require.Len(t, found, (blocks+rareEvery/2-1)/rareEvery)
		t.Logf("%d logs of a rare topic over %d blocks: %v", len(found), blocks, time.Since(start).Round(time.Microsecond))
	}
	require.NoError(t, l.Close())

	// What had not reached the operating system comes from the log.
	start = time.Now()
	l = open(t, crashed, ledger.Options{CacheMiB: 128})
	recovered := l.CurrentHeader().Number
	replay(t, l, log)
	t.Logf("start after a crash %v, %d blocks of it from the log", time.Since(start).Round(time.Millisecond), uint64(blocks)-recovered.Uint64())
	require.NoError(t, l.Drain(context.Background()))
	require.Equal(t, head, l.CurrentHeader().Hash())
	require.NoError(t, l.Close())
}

// TestStateFollows: the state on disk comes behind the head by itself, as blocks are made, and not by flushes alone, which cost a second each where the disk is
// busy. What a crash leaves to be executed again is a part of the chain.
func TestStateFollows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	l := open(t, dir, ledger.Options{FlushDebt: time.Hour})
	extend(t, l, 2000, func(int) uint64 { return 1 })
	made := headers(l)
	crashed := copyDir(t, dir) // maybe without the last blocks, which pebble still holds
	require.NoError(t, l.Close())

	var said bytes.Buffer
	l = open(t, crashed, ledger.Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	first := regexp.MustCompile(`without state" from=([0-9]+) to=[0-9]+`).FindStringSubmatch(said.String())
	require.NotNil(t, first, said.String())
	from, err := strconv.Atoi(first[1])
	require.NoError(t, err)
	require.Greater(t, from, 500)
	head := l.CurrentHeader()
	require.Greater(t, int(head.Number.Uint64()), from)
	require.Equal(t, made[head.Number.Uint64()], head.Hash())
	require.NoError(t, l.Close())
}

// extend applies n records of one logging transaction each; topic gives the second topic of the i-th.
func extend(t testing.TB, l *ledger.Ledger, n int, topic func(i int) uint64) *viewtest.Log {
	log := viewtest.NewLog(networkID(t))
	for i := range n {
		raw := sign(i%accounts, &types.DynamicFeeTx{
			ChainID: big.NewInt(1337), Nonce: uint64(i / accounts), Gas: 100_000, GasFeeCap: new(big.Int), GasTipCap: new(big.Int),
			To: &emitterAddress, Data: logCall(1, topic(i)),
		})
		log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: batch.Encode([][]byte{raw})})
		replay(t, l, log)
	}
	require.NoError(t, l.Drain(context.Background()))
	return log
}

// replay applies what log holds beyond l.
func replay(t testing.TB, l *ledger.Ledger, log *viewtest.Log) {
	for {
		tail, err := log.Tail(context.Background(), consensus.Fast)
		require.NoError(t, err)
		if l.Applied()+1 == tail {
			return
		}
		entries, err := log.Follow(context.Background(), l.Applied()+1, 256)
		require.NoError(t, err)
		for _, e := range entries {
			_, err = l.Apply(context.Background(), e)
			require.NoError(t, err)
		}
	}
}
