package txpool

import (
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/ledger/batch"
)

// senders is among how many accounts the transactions of a benchmark are spread.
const senders = 2000

// transferring makes n transactions, in rounds of nonces, whose senders are recovered: what is measured is the rest.
func transferring(n int) []*types.Transaction {
	txs := make([]*types.Transaction, n)
	for i := range txs {
		txs[i] = newUser(i % senders).transfer(uint64(i / senders))
		types.Sender(testSigner, txs[i])
	}
	return txs
}

func filled(b *testing.B, txs []*types.Transaction) *Pool {
	chain := newChain()
	chain.header.GasLimit = 150_000_000
	p := New(chain, Options{})
	for _, tx := range txs {
		if err := p.Add(tx); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

// BenchmarkAdd is the cost of an Add beyond the recovery of the sender.
func BenchmarkAdd(b *testing.B) {
	txs := transferring(20_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		filled(b, txs)
		n += len(txs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/tx")
}

// BenchmarkAddParallel is what many clients get out of it, who share the lock.
func BenchmarkAddParallel(b *testing.B) {
	txs := transferring(20_000)
	const clients = 8
	n := 0
	for b.Loop() {
		p := filled(b, nil)
		var g sync.WaitGroup
		for i := range clients {
			g.Go(func() {
				for k := i; k < len(txs); k += clients {
					if err := p.Add(txs[k]); err != nil {
						b.Error(err)
					}
				}
			})
		}
		g.Wait()
		n += len(txs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/tx")
}

// BenchmarkHead is what a head of 100 transactions costs with 10,000 to 20,000 pending, from taking the batch to its release.
// Only Applied is on the way of the ledger; it has a figure of its own.
func BenchmarkHead(b *testing.B) {
	txs := transferring(20_000)
	p, left := filled(b, txs), len(txs)
	var applied time.Duration
	heads := 0
	b.ReportAllocs()
	for b.Loop() {
		t := p.take(batch.Limits{Transactions: 100, Bytes: batch.MaxBytes})
		start := time.Now()
		p.Applied(Applied{Header: p.head.Load(), Included: t.txs})
		applied += time.Since(start)
		p.release(t, nil)
		heads++
		if left -= len(t.txs); left < 10_000 {
			b.StopTimer()
			p, left = filled(b, txs), len(txs)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(applied.Nanoseconds())/float64(heads), "ns/applied")
}
