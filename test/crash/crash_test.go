// Package crash kills a real node again and again in the middle of a load, and demands that nothing it acknowledged is lost.
package crash

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
)

const (
	senders         = 50
	defaultRounds   = 20
	loadPerRound    = 5000
	restartDeadline = 10 * time.Second
)

// TestKillUnderLoad runs LEDGERD_CRASH_ROUNDS rounds (20 where it is not set). Each starts a load of 5,000 transactions from 50
// accounts, kills the node with SIGKILL somewhere in it, starts it again and checks:
//
//   - it serves within ten seconds;
//   - every transaction that was acknowledged by a receipt is there, in the block that the receipt named;
//   - no transaction is in two blocks;
//   - every block's hash is the hash of its header, and names its parent;
//   - the balances add up: nothing was created or destroyed, and each account's is what its transactions make.
func TestKillUnderLoad(t *testing.T) {
	rounds := defaultRounds
	if s := os.Getenv("LEDGERD_CRASH_ROUNDS"); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		require.NoError(t, err, "LEDGERD_CRASH_ROUNDS")
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LEDGERD_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, "LEDGERD_SEED")
	}
	t.Logf("LEDGERD_SEED=%d LEDGERD_CRASH_ROUNDS=%d", seed, rounds)
	rng := rand.New(rand.NewPCG(seed, 0))

	binary, err := process.Build(t.TempDir())
	require.NoError(t, err)
	home := filepath.Join(t.TempDir(), "home")
	w := newWorld()
	n := process.Dev(t, binary, home)
	w.fund(t, n)
	var slowest time.Duration
	var acknowledged int
	for round := range rounds {
		killAfter := 1 + rng.IntN(loadPerRound*3/4) // acknowledgements
		got := w.load(t, n, killAfter)
		acknowledged += got
		start := time.Now()
		n = process.Dev(t, binary, home)
		took := time.Since(start)
		slowest = max(slowest, took)
		require.Less(t, took, restartDeadline, "round %d: restart", round)
		w.verify(t, n)
		t.Logf("round %d: killed after %d acknowledgements, served again after %v", round, got, took.Round(time.Millisecond))
	}
	w.rewind()
	w.verify(t, n)
	t.Logf("%d rounds, %d transactions acknowledged, 0 lost, 0 doubled, slowest restart %v", rounds, acknowledged, slowest.Round(time.Millisecond))
	n.Terminate(t)
}

// world is what the test knows: the keys, and what was acknowledged.
type world struct {
	signer types.Signer
	keys   [senders]*ecdsa.PrivateKey
	sink   common.Address

	mu           sync.Mutex
	acknowledged map[common.Hash]common.Hash // transaction -> block

	// What verify has read of the chain.
	blocks   []common.Hash
	included map[common.Hash]common.Hash
	nonces   map[common.Address]uint64
}

func newWorld() *world {
	w := &world{
		signer:       types.LatestSignerForChainID(big.NewInt(process.ChainID)),
		sink:         common.HexToAddress("0x51"),
		acknowledged: map[common.Hash]common.Hash{},
	}
	for i := range w.keys {
		w.keys[i], _ = crypto.ToECDSA(crypto.Keccak256(fmt.Appendf(nil, "crash %d", i)))
	}
	w.rewind()
	return w
}

func (w *world) address(i int) common.Address { return crypto.PubkeyToAddress(w.keys[i].PublicKey) }

// fund gives every sender one ether from the first development account.
func (w *world) fund(t *testing.T, n *process.Node) {
	rich, err := crypto.HexToECDSA("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	require.NoError(t, err)
	for i := range w.keys {
		to := w.address(i)
		tx := types.MustSignNewTx(rich, w.signer, &types.LegacyTx{Nonce: uint64(i), To: &to, Value: big.NewInt(1e18), Gas: 21000, GasPrice: new(big.Int)})
		require.NoError(t, w.send(n, tx))
	}
}

// send submits tx and waits for its receipt. It retries while the node says that the transaction is known, so that what a
// crash left unknown ends in one of the two: a receipt, or an error.
func (w *world) send(n *process.Node, tx *types.Transaction) error {
	raw, err := tx.MarshalBinary()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var receipt *types.Receipt
	if err := n.Client.Client().CallContext(ctx, &receipt, "eth_sendRawTransactionSync", hexutil.Encode(raw)); err != nil {
		return err
	}
	if receipt == nil || receipt.TxHash != tx.Hash() || receipt.Status != types.ReceiptStatusSuccessful {
		return fmt.Errorf("receipt %+v for transaction %v", receipt, tx.Hash())
	}
	w.mu.Lock()
	w.acknowledged[tx.Hash()] = receipt.BlockHash
	w.mu.Unlock()
	return nil
}

// load sends up to loadPerRound transactions from all senders at once and kills the node after killAfter of them were
// acknowledged. It returns how many were.
func (w *world) load(t *testing.T, n *process.Node, killAfter int) int {
	ctx := context.Background()
	var next [senders]uint64
	for i := range w.keys {
		nonce, err := n.Client.NonceAt(ctx, w.address(i), nil)
		require.NoError(t, err)
		next[i] = nonce
	}
	var acknowledged atomic.Int64
	var killed atomic.Bool
	var wg sync.WaitGroup
	for i := range w.keys {
		wg.Go(func() {
			for range loadPerRound / senders {
				tx := types.MustSignNewTx(w.keys[i], w.signer, &types.LegacyTx{Nonce: next[i], To: &w.sink, Value: big.NewInt(1), Gas: 21000, GasPrice: new(big.Int)})
				next[i]++
				if err := w.send(n, tx); err != nil {
					if !killed.Load() {
						t.Errorf("sender %d: %v", i, err)
					}
					return
				}
				if acknowledged.Add(1) == int64(killAfter) {
					killed.Store(true)
					n.Kill()
					return
				}
			}
		})
	}
	wg.Wait()
	require.True(t, killed.Load(), "the load ended before the kill")
	return int(acknowledged.Load())
}

// verify reads the blocks that it has not seen and checks everything that TestKillUnderLoad promises. What it saw before hangs
// on the hash of the last block it saw; rewind makes it read all of it again.
func (w *world) verify(t *testing.T, n *process.Node) {
	ctx := context.Background()
	head, err := n.Client.BlockNumber(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, head+1, uint64(len(w.blocks)), "the chain became shorter")
	if last := len(w.blocks) - 1; last >= 0 {
		require.Equal(t, w.blocks[last], w.block(t, n, uint64(last)).Hash, "block %d became another one", last)
	}
	for number := uint64(len(w.blocks)); number <= head; number++ {
		b := w.block(t, n, number)
		require.Equal(t, b.Hash, b.header.Hash(), "block %d: the hash is not that of its header", number)
		if number > 0 {
			require.Equal(t, w.blocks[number-1], b.header.ParentHash, "block %d", number)
		}
		w.blocks = append(w.blocks, b.Hash)
		for _, tx := range b.Transactions {
			other, doubled := w.included[tx.Hash()]
			require.False(t, doubled, "transaction %v is in %v and in %v", tx.Hash(), other, b.Hash)
			w.included[tx.Hash()] = b.Hash
			from, err := types.Sender(w.signer, tx)
			require.NoError(t, err)
			require.Equal(t, w.nonces[from], tx.Nonce(), "block %d: nonces of %v", number, from)
			w.nonces[from]++
		}
	}
	w.verifyAccounts(t, n)
}

// rewind forgets what verify has seen.
func (w *world) rewind() {
	w.blocks, w.included, w.nonces = nil, map[common.Hash]common.Hash{}, map[common.Address]uint64{}
}

// block is a block as eth_getBlockByNumber gives it.
type block struct {
	Hash         common.Hash          `json:"hash"`
	Transactions []*types.Transaction `json:"transactions"`
	header       types.Header
}

func (w *world) block(t *testing.T, n *process.Node, number uint64) *block {
	var raw json.RawMessage
	require.NoError(t, n.Client.Client().Call(&raw, "eth_getBlockByNumber", hexutil.EncodeUint64(number), true))
	b := new(block)
	require.NoError(t, json.Unmarshal(raw, b))
	require.NoError(t, json.Unmarshal(raw, &b.header))
	return b
}

// verifyAccounts compares what was acknowledged, and the balances, with what is in the blocks.
func (w *world) verifyAccounts(t *testing.T, n *process.Node) {
	ctx := context.Background()
	for hash, block := range w.acknowledged {
		require.Equal(t, block, w.included[hash], "transaction %v was acknowledged", hash)
	}
	total := new(big.Int)
	var sent uint64
	for i := range w.keys {
		balance, err := n.Client.BalanceAt(ctx, w.address(i), nil)
		require.NoError(t, err)
		count := w.nonces[w.address(i)]
		require.Equal(t, new(big.Int).Sub(big.NewInt(1e18), new(big.Int).SetUint64(count)), balance, "balance of sender %d", i)
		total.Add(total, balance)
		sent += count
	}
	sunk, err := n.Client.BalanceAt(ctx, w.sink, nil)
	require.NoError(t, err)
	require.Equal(t, sent, sunk.Uint64())
	require.Equal(t, new(big.Int).Mul(big.NewInt(senders), big.NewInt(1e18)), total.Add(total, sunk))
}
