package testnet

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
)

// account is one of the network's.
type account struct {
	address common.Address
	key     *ecdsa.PrivateKey
}

// readAccounts reads an accounts.json.
func readAccounts(t testing.TB, path string) (accounts []account) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var lines []struct {
		Address    common.Address
		PrivateKey hexutil.Bytes
	}
	require.NoError(t, json.Unmarshal(text, &lines))
	for _, l := range lines {
		key, err := crypto.ToECDSA(l.PrivateKey)
		require.NoError(t, err)
		require.Equal(t, crypto.PubkeyToAddress(key.PublicKey), l.Address)
		accounts = append(accounts, account{l.Address, key})
	}
	return accounts
}

// sink is where all transfers go.
var sink = common.HexToAddress("0x51")

// A book is what the clients know, and what of the chain has been read.
type book struct {
	c      *cluster
	signer types.Signer

	mu           sync.Mutex
	acknowledged map[common.Hash]common.Hash // transaction -> block
	times        [][]time.Time               // by client, of its acknowledgements, in order
	begun        [][]time.Time               // by client, when it came up with what was acknowledged then
	nonces       []uint64                    // by client, the next one

	blocks   []common.Hash
	included map[common.Hash]common.Hash
	counted  map[common.Address]uint64
}

func newBook(c *cluster) *book {
	return &book{
		c: c, signer: types.LatestSignerForChainID(new(big.Int).SetUint64(c.manifest.ChainID)),
		acknowledged: map[common.Hash]common.Hash{}, times: make([][]time.Time, len(c.accounts)), begun: make([][]time.Time, len(c.accounts)), nonces: make([]uint64, len(c.accounts)),
		included: map[common.Hash]common.Hash{}, counted: map[common.Address]uint64{},
	}
}

// attempt is how long a client waits for one node before it turns to the next one.
const attempt = time.Second

// submit sends the next transfer of a client until a node has answered with its receipt. It starts with the node at and returns the
// one that answered.
func (b *book) submit(ctx context.Context, client, at int) (int, error) {
	tx := types.MustSignNewTx(b.c.accounts[client].key, b.signer, &types.LegacyTx{
		Nonce: b.nonces[client], To: &sink, Value: big.NewInt(1), Gas: 21000, GasPrice: new(big.Int),
	})
	raw, err := tx.MarshalBinary()
	if err != nil {
		return at, err
	}
	begun := time.Now()
	for ; ; at = (at + 1) % len(b.c.nodes) {
		receipt, err := b.try(ctx, b.c.nodes[at], tx.Hash(), raw)
		if err == nil {
			return at, b.record(client, begun, tx.Hash(), receipt)
		}
		select {
		case <-ctx.Done():
			return at, fmt.Errorf("transaction %v: %w", tx.Hash(), errors.Join(ctx.Err(), err))
		case <-time.After(10 * time.Millisecond): // a client that does not hammer nodes which are down
		}
	}
}

func (b *book) try(ctx context.Context, n *node, hash common.Hash, raw []byte) (*types.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	p := n.running()
	if p == nil {
		return nil, errors.New("not running")
	}
	var receipt *types.Receipt
	err := p.Client.Client().CallContext(ctx, &receipt, "eth_sendRawTransactionSync", hexutil.Encode(raw))
	for err != nil && (strings.Contains(err.Error(), "already known") || strings.Contains(err.Error(), "nonce too low")) {
		// This node has it from an earlier attempt, or from the log: the receipt is here or comes.
		if receipt, err2 := p.Client.TransactionReceipt(ctx, hash); err2 == nil {
			return receipt, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return receipt, err
}

func (b *book) record(client int, begun time.Time, hash common.Hash, r *types.Receipt) error {
	if r == nil || r.TxHash != hash || r.Status != types.ReceiptStatusSuccessful {
		return fmt.Errorf("receipt %+v for transaction %v", r, hash)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acknowledged[hash] = r.BlockHash
	b.times[client] = append(b.times[client], time.Now())
	b.begun[client] = append(b.begun[client], begun)
	b.nonces[client]++
	return nil
}

// count returns how many transactions were acknowledged.
func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.acknowledged)
}

// load lets every client send one transaction after the other, each to a node of its own while that answers, until stop is
// called, which returns the first error of any of them.
func (b *book) load() (stop func() error) {
	ctx, cancel := context.WithCancel(b.c.t.Context())
	errs := make([]error, len(b.c.accounts))
	var wg sync.WaitGroup
	for client := range b.c.accounts {
		wg.Go(func() {
			at := client % len(b.c.nodes)
			for ctx.Err() == nil && errs[client] == nil {
				// One that has begun is brought to its end, so that its nonce is used or not, but known.
				one, done := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
				at, errs[client] = b.submit(one, client, at)
				done()
			}
		})
	}
	return func() error {
		cancel()
		wg.Wait()
		return errors.Join(errs...)
	}
}

// after returns how long after a moment the first and the last of the clients had its next acknowledgement; false until all had.
// An answer that was on its way at the moment does not count: at least one whole exchange has to lie behind it.
func (b *book) after(moment time.Time) (first, last time.Duration, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, times := range b.times {
		seen := 0
		for _, at := range times {
			if at.After(moment) {
				if seen++; seen == 2 {
					took := at.Sub(moment)
					if first == 0 || took < first {
						first = took
					}
					last = max(last, took)
					break
				}
			}
		}
		if seen < 2 {
			return 0, 0, false
		}
	}
	return first, last, true
}

// verify demands of every node that all of them have one chain, and of the chain:
//
//   - every acknowledged transaction is there, in the block that the receipt named;
//   - no transaction is in two blocks, and no nonce of a sender is missing or there twice;
//   - each block names its parent, and no block that was seen before became another one;
//   - the balances are what the transactions make of them.
func (b *book) verify() {
	t := b.c.t
	t.Helper()
	head := b.c.agree()
	client := b.c.nodes[len(b.blocks)%len(b.c.nodes)].running().Client // any
	ctx := t.Context()
	require.GreaterOrEqual(t, head+1, uint64(len(b.blocks)), "the chain became shorter")
	if last := len(b.blocks) - 1; last >= 0 {
		h, err := client.HeaderByNumber(ctx, big.NewInt(int64(last)))
		require.NoError(t, err)
		require.Equal(t, b.blocks[last], h.Hash(), "block %d became another one", last)
	}
	for number := uint64(len(b.blocks)); number <= head; number++ {
		block, err := client.BlockByNumber(ctx, new(big.Int).SetUint64(number))
		require.NoError(t, err)
		if number > 0 {
			require.Equal(t, b.blocks[number-1], block.ParentHash(), "block %d", number)
		}
		b.blocks = append(b.blocks, block.Hash())
		for _, tx := range block.Transactions() {
			other, doubled := b.included[tx.Hash()]
			require.False(t, doubled, "transaction %v is in %v and in %v", tx.Hash(), other, block.Hash())
			b.included[tx.Hash()] = block.Hash()
			from, err := types.Sender(b.signer, tx)
			require.NoError(t, err)
			require.Equal(t, b.counted[from], tx.Nonce(), "block %d: nonces of %v", number, from)
			b.counted[from]++
		}
	}
	for hash, block := range b.acknowledged {
		require.Equal(t, block, b.included[hash], "transaction %v was acknowledged", hash)
	}
	for _, n := range b.c.nodes {
		balance, err := n.running().Client.BalanceAt(ctx, sink, nil)
		require.NoError(t, err)
		require.Equal(t, uint64(len(b.included)), balance.Uint64(), "node %d", n.index)
	}
}
