package engines

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus/comet"
	"ledgerd/consensus/local"
	"ledgerd/consensus/raft"
	"ledgerd/ledger"
	"ledgerd/ledger/txpool"
)

// each is how many transactions a sender sends: every chore several times, and not as often as the others.
const each = 57

// An outcome is what a receipt says that does not depend on where the transaction stands.
type outcome struct {
	Type            uint8
	Status          uint64
	GasUsed         uint64
	GasPrice        string
	ContractAddress common.Address
	Logs            []logged
}

type logged struct {
	Address common.Address
	Topics  []common.Hash
	Data    hexutil.Bytes
}

func outcomeOf(r *types.Receipt) outcome {
	o := outcome{Type: r.Type, Status: r.Status, GasUsed: r.GasUsed, GasPrice: r.EffectiveGasPrice.String(), ContractAddress: r.ContractAddress}
	for _, l := range r.Logs {
		o.Logs = append(o.Logs, logged{l.Address, l.Topics, l.Data})
	}
	return o
}

// A result is what a live run came to.
type result struct {
	outcomes map[common.Hash]outcome
	state    map[common.Hash]contents // by the hash of the address; without the accounts of the system
	system   []contents               // these
	blocks   int
}

// contents are an account's. Code and storage are covered by their hashes; the slots say what differs if these do.
type contents struct {
	Nonce             uint64
	Balance           string
	CodeHash, Storage common.Hash
	Slots             map[common.Hash]common.Hash // by the hash of the key
}

// systemAccounts are those that every block writes itself into.
var systemAccounts = []common.Address{params.BeaconRootsAddress, params.HistoryStorageAddress}

// stateOf reads the whole state at the head, by the hash of the address.
func stateOf(t testing.TB, l *ledger.Ledger) (all map[common.Hash]contents) {
	t.Helper()
	head := l.CurrentHeader()
	require.NoError(t, l.WithState(t.Context(), head, func(st *state.StateDB) error {
		all = make(map[common.Hash]contents)
		from, err := st.Database().Iteratee(head.Root)
		if err != nil {
			return err
		}
		accounts, err := from.NewAccountIterator(common.Hash{})
		if err != nil {
			return err
		}
		defer accounts.Release()
		for accounts.Next() {
			a := accounts.Account()
			c := contents{Nonce: a.Nonce, Balance: a.Balance.String(), CodeHash: common.BytesToHash(a.CodeHash), Storage: a.Root, Slots: map[common.Hash]common.Hash{}}
			slots, err := from.NewStorageIterator(accounts.Hash(), common.Hash{})
			if err != nil {
				return err
			}
			for slots.Next() {
				c.Slots[slots.Hash()] = slots.Slot()
			}
			slots.Release()
			if err := slots.Error(); err != nil {
				return err
			}
			all[accounts.Hash()] = c
		}
		return accounts.Error()
	}))
	return all
}

// work returns what every sender sends, in the order of its nonces.
func work() (all [][]*types.Transaction) {
	for s := range senders {
		var txs []*types.Transaction
		for n := range uint64(each) {
			txs = append(txs, choreOf(n).make(s, n))
		}
		all = append(all, txs)
	}
	return all
}

// live sends the work to a ledger over a log of that engine, and plays it.
func live(t testing.TB, engine string, batcher txpool.BatcherOptions, work [][]*types.Transaction) (r result) {
	t.Helper()
	log, closeLog := newSite(t, engine, time.Now).open()
	defer closeLog()
	p := openLedger(t, filepath.Join(t.TempDir(), "ledger"), batcher)
	// A third is there when the ledger begins, so that it has something to put together.
	var begun, sent sync.WaitGroup
	start := make(chan struct{})
	for s, txs := range work {
		begun.Add(1)
		sent.Go(func() {
			for i, tx := range txs {
				if i == len(txs)/3 {
					begun.Done()
					<-start
				}
				if err := send(p.ledger, tx); err != nil {
					t.Errorf("%s: sender %d, nonce %d: %v", engine, s, i, err)
				}
			}
		})
	}
	begun.Wait()
	p.run(log)
	close(start)

	r.outcomes = make(map[common.Hash]outcome)
	p.until(func(h ledger.HeadEvent) bool {
		r.blocks++
		for _, receipt := range h.Receipts {
			require.NotContains(t, r.outcomes, receipt.TxHash)
			r.outcomes[receipt.TxHash] = outcomeOf(receipt)
		}
		return len(r.outcomes) == len(work)*each
	})
	sent.Wait()
	r.state = stateOf(t, p.ledger)
	for _, a := range systemAccounts {
		hash := crypto.Keccak256Hash(a[:])
		r.system = append(r.system, r.state[hash])
		delete(r.state, hash)
	}
	p.close()
	return r
}

// send puts a transaction into the pool as it comes from outside: nobody has recovered its sender yet.
func send(l *ledger.Ledger, tx *types.Transaction) error {
	raw, err := tx.MarshalBinary()
	if err != nil {
		return err
	}
	fresh := new(types.Transaction)
	if err := fresh.UnmarshalBinary(raw); err != nil {
		return err
	}
	return l.Pool().Add(fresh)
}

// TestLive: the same transactions, live at every engine and in blocks that are cut differently, have the same receipts and lead to the same state.
func TestLive(t *testing.T) {
	runs := []struct {
		engine  string
		batcher txpool.BatcherOptions
	}{
		{local.Name, txpool.BatcherOptions{MaxTransactions: 1}}, // a block for each transaction
		{local.Name, txpool.BatcherOptions{}},
		{raft.Name, txpool.BatcherOptions{MaxTransactions: 11}},
		{comet.Name, txpool.BatcherOptions{MaxTransactions: 17, MaxInFlight: 2}},
		{comet.Name, txpool.BatcherOptions{}},
	}
	work := work()
	var reference result
	for i, run := range runs {
		name := fmt.Sprintf("%s,batch=%d", run.engine, run.batcher.MaxTransactions)
		ok := t.Run(name, func(t *testing.T) {
			got := live(t, run.engine, run.batcher, work)
			t.Logf("%d transactions in %d blocks", len(got.outcomes), got.blocks)
			if i == 0 {
				reference = got
				checkWork(t, work, got)
				require.Equal(t, len(got.outcomes), got.blocks, "a block for each transaction")
				return
			}
			require.Less(t, got.blocks, reference.blocks)
			for s, txs := range work {
				for n, tx := range txs {
					require.Equal(t, reference.outcomes[tx.Hash()], got.outcomes[tx.Hash()], "sender %d, %s", s, choreOf(uint64(n)).name)
				}
			}
			for address, want := range reference.state {
				require.Equal(t, want, got.state[address], "account with hash %v", address)
			}
			require.Len(t, got.state, len(reference.state))
			for k, a := range systemAccounts { // these were other blocks
				require.NotEqual(t, reference.system[k].Storage, got.system[k].Storage, "%v", a)
			}
		})
		require.True(t, ok)
	}
}

// checkWork demands that the transactions did what they are for, and that the state which is compared has it.
func checkWork(t testing.TB, work [][]*types.Transaction, r result) {
	t.Helper()
	var logs int
	for s, txs := range work {
		for n, tx := range txs {
			c, o := choreOf(uint64(n)), r.outcomes[tx.Hash()]
			require.Equal(t, c.succeeds, o.Status == types.ReceiptStatusSuccessful, "sender %d, %s: %+v", s, c.name, o)
			logs += len(o.Logs)
		}
	}
	require.Greater(t, logs, 400)
	at := func(a common.Address) contents { return r.state[crypto.Keccak256Hash(a[:])] }
	for s := range senders {
		require.Equal(t, uint64(each), at(senders[s].address).Nonce)
		created := at(crypto.CreateAddress(senders[s].address, 2))
		require.Equal(t, crypto.Keccak256Hash(loudCode), created.CodeHash)
		require.Len(t, created.Slots, 1)
		delegation := types.AddressToDelegation(tally)
		require.Equal(t, crypto.Keccak256Hash(delegation), at(newAccount("authority", s, uint64(6)).address).CodeHash)
	}
	require.Len(t, at(notes).Slots, len(senders)*(each/kinds))
	require.Len(t, at(tally).Slots, 1+len(senders), "each sender is in the middle of a round")
	require.Empty(t, at(reverter).Slots)
	require.NotEqual(t, "0", at(coinbase).Balance)
	require.NotEqual(t, "0", at(sink).Balance)
}
