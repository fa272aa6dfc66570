package vm

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
	"github.com/stretchr/testify/require"

	"ledgerd/contracts"
)

// benchAccounts are senders with money, on an open ledger.
func benchAccounts(n int) ([]account, types.GenesisAlloc) {
	accounts, alloc := make([]account, n), contracts.Predeploys()
	for i := range accounts {
		accounts[i] = newAccount(fmt.Sprint("bench ", i))
		alloc[accounts[i].addr] = types.Account{Balance: big.NewInt(params.Ether)}
	}
	return accounts, alloc
}

// BenchmarkExecute executes one block of transfers over and over, from opening the state to the header: 1 is what a
// block costs at least, 1000 is what a transfer costs under load. "recover" has senders recovered within Execute.
func BenchmarkExecute(b *testing.B) {
	accounts, alloc := benchAccounts(1000)
	for _, n := range []int{1, 1000} {
		c := newChain(b, alloc)
		txs := make([]*types.Transaction, n)
		for i := range txs {
			var to common.Address
			binary.BigEndian.PutUint64(to[:], uint64(i)+1)
			txs[i] = accounts[i].transfer(0, to)
		}
		RecoverSenders(c.x.Signer(), txs)
		for _, recovered := range []bool{true, false} {
			b.Run(fmt.Sprintf("txs=%d/recover=%t", n, !recovered), func(b *testing.B) {
				for b.Loop() {
					run := txs
					if !recovered {
						b.StopTimer()
						run = reencode(b, txs)
						b.StartTimer()
					}
					res, err := c.x.Execute(c.state(), c.head, c.env(), run)
					require.NoError(b, err)
					require.Len(b, res.Receipts, n)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/tx")
			})
		}
	}
}

func BenchmarkRecoverSenders(b *testing.B) {
	accounts, _ := benchAccounts(1000)
	txs := make([]*types.Transaction, len(accounts))
	for i := range txs {
		txs[i] = accounts[i].transfer(0, common.Address{1})
	}
	signer := types.LatestSigner(OsakaConfig(testChainID))
	for b.Loop() {
		b.StopTimer()
		fresh := reencode(b, txs)
		b.StartTimer()
		RecoverSenders(signer, fresh)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(txs)), "µs/tx")
}
