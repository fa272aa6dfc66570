// Package throughput measures a whole node without its RPC: pool, batcher, durable log, execution, storage.
package throughput

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/view/viewtest"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/genesis"
)

const (
	senders      = 200
	transactions = 20_000 // of one iteration
	batchSize    = 500
)

// load is what one iteration sends: transfers from every sender, nonces ascending.
type load struct {
	genesis *genesis.Genesis
	txs     []*types.Transaction
}

func newLoad() *load {
	signer := types.LatestSignerForChainID(big.NewInt(1337))
	var keys []*ecdsa.PrivateKey
	var funded []common.Address
	for i := range senders {
		key, err := crypto.ToECDSA(crypto.Keccak256(fmt.Appendf(nil, "sender %d", i)))
		if err != nil {
			panic(err)
		}
		keys = append(keys, key)
		funded = append(funded, crypto.PubkeyToAddress(key.PublicKey))
	}
	l := &load{genesis: genesis.Dev(1337, funded)}
	for i := range transactions {
		to := common.BigToAddress(big.NewInt(int64(1_000_000 + i)))
		l.txs = append(l.txs, types.MustSignNewTx(keys[i%senders], signer, &types.DynamicFeeTx{
			ChainID: big.NewInt(1337), Nonce: uint64(i / senders), Gas: 21000, GasFeeCap: new(big.Int), GasTipCap: new(big.Int), To: &to, Value: big.NewInt(1),
		}))
	}
	return l
}

// fresh returns the transactions as they arrive from outside: without a cached sender.
func (l *load) fresh() []*types.Transaction {
	txs := make([]*types.Transaction, len(l.txs))
	for i, tx := range l.txs {
		txs[i] = types.NewTx(&types.DynamicFeeTx{
			ChainID: tx.ChainId(), Nonce: tx.Nonce(), Gas: tx.Gas(), GasFeeCap: tx.GasFeeCap(), GasTipCap: tx.GasTipCap(), To: tx.To(), Value: tx.Value(),
		})
		v, r, s := tx.RawSignatureValues()
		signature := make([]byte, 65)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:64])
		signature[64] = byte(v.Uint64())
		var err error
		if txs[i], err = txs[i].WithSignature(types.LatestSignerForChainID(tx.ChainId()), signature); err != nil {
			panic(err)
		}
	}
	return txs
}

// BenchmarkNode sends 20,000 transfers through a node, its log on the disk or in memory, and compares with executing the same
// transfers in batches of 500 without pool and log. Figures are transactions a second.
func BenchmarkNode(b *testing.B) {
	l := newLoad()
	b.Run("log=disk", func(b *testing.B) { benchmarkNode(b, l, true) })
	b.Run("log=memory", func(b *testing.B) { benchmarkNode(b, l, false) })
	b.Run("execution-alone", func(b *testing.B) { benchmarkExecution(b, l) })
}

func report(b *testing.B) {
	b.ReportMetric(float64(transactions)*float64(b.N)/b.Elapsed().Seconds(), "tx/s")
}

func benchmarkNode(b *testing.B, load *load, durable bool) {
	for b.Loop() {
		b.StopTimer()
		n := openNode(b, load, durable)
		txs := load.fresh()
		b.StartTimer()
		n.send(b, txs)
		b.StopTimer()
		n.close(b)
		b.StartTimer()
	}
	report(b)
}

type node struct {
	log    *consensus.VirtualLog
	ledger *ledger.Ledger
	cancel context.CancelFunc
	ended  chan error
}

func openNode(b *testing.B, load *load, durable bool) *node {
	dir := b.TempDir()
	id, err := load.genesis.NetworkID()
	check(b, err)
	fs, logDir := vfs.Default, filepath.Join(dir, "log")
	if !durable {
		fs, logDir = vfs.NewMem(), "log"
	}
	n := &node{ended: make(chan error, 1)}
	n.log, err = consensus.Open(context.Background(), consensus.Options{
		FS: fs, Dir: logDir, NetworkID: id, Genesis: load.genesis.Spec(), Window: int(load.genesis.Ledgerd.DedupWindow),
		Engines: map[string]consensus.Engine{local.Name: local.Engine(local.Options{})},
	})
	check(b, err)
	n.ledger, err = ledger.Open(filepath.Join(dir, "ledger"), load.genesis, ledger.Options{})
	check(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.ended <- n.ledger.Run(ctx, n.log) }()
	return n
}

func (n *node) send(b *testing.B, txs []*types.Transaction) {
	heads := make(chan ledger.HeadEvent, 16)
	sub := n.ledger.SubscribeHeads(heads)
	defer sub.Unsubscribe()
	var wg sync.WaitGroup
	const clients = 8
	for c := range clients {
		wg.Go(func() {
			for i, tx := range txs {
				if i%senders%clients != c {
					continue
				}
				if err := n.ledger.Pool().Add(tx); err != nil {
					b.Errorf("transaction %d: %v", i, err)
					return
				}
			}
		})
	}
	deadline := time.After(2 * time.Minute)
	for included := 0; included < len(txs); {
		select {
		case h := <-heads:
			included += len(h.Block.Transactions())
		case <-deadline:
			b.Fatalf("%d of %d included", included, len(txs))
		}
	}
	wg.Wait()
}

func (n *node) close(b *testing.B) {
	n.cancel()
	check(b, <-n.ended)
	check(b, n.ledger.Close())
	check(b, n.log.Close())
}

func benchmarkExecution(b *testing.B, load *load) {
	for b.Loop() {
		b.StopTimer()
		l, err := ledger.Open(filepath.Join(b.TempDir(), "ledger"), load.genesis, ledger.Options{})
		check(b, err)
		id, err := load.genesis.NetworkID()
		check(b, err)
		log := viewtest.NewLog(id)
		for i := 0; i < len(load.txs); i += batchSize {
			var raws [][]byte
			for _, tx := range load.txs[i : i+batchSize] {
				raw, err := tx.MarshalBinary()
				check(b, err)
				raws = append(raws, raw)
			}
			log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: batch.Encode(raws)})
		}
		entries, err := log.Follow(context.Background(), 1, transactions)
		check(b, err)
		b.StartTimer()
		go func() {
			for _, e := range entries {
				l.Prefetch(e)
			}
		}()
		for _, e := range entries {
			_, err := l.Apply(context.Background(), e)
			check(b, err)
		}
		check(b, l.Drain(context.Background()))
		b.StopTimer()
		check(b, l.Close())
		b.StartTimer()
	}
	report(b)
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
