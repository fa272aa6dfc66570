package vm

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/ethereum/go-ethereum/core/types"
)

// recoverChunk is how many senders a worker takes at once: about a millisecond of work, so that starting a goroutine
// costs nothing beside it and the last worker is not long alone.
const recoverChunk = 16

// RecoverSenders recovers the senders of txs, on at most GOMAXPROCS goroutines, and returns when all are done. Each is
// cached in its transaction object, where Execute finds it if signer is the executor's ([Executor.Signer]). Recovery
// is a third of what a transfer costs and needs no state, so it can run while the block before is still executing.
//
// A transaction whose sender is cached already costs nothing. A bad signature is not reported: it is found again, and
// skipped, when the transaction executes.
func RecoverSenders(signer types.Signer, txs []*types.Transaction) {
	workers := min(runtime.GOMAXPROCS(0), (len(txs)+recoverChunk-1)/recoverChunk)
	var (
		next atomic.Int64 // first transaction that nobody has taken
		wg   sync.WaitGroup
	)
	work := func() {
		for {
			hi := int(next.Add(recoverChunk))
			lo := hi - recoverChunk
			if lo >= len(txs) {
				return
			}
			for _, tx := range txs[lo:min(hi, len(txs))] {
				_, _ = types.Sender(signer, tx)
			}
		}
	}
	for range workers - 1 {
		wg.Go(work)
	}
	work() // this goroutine is one of them
	wg.Wait()
}
