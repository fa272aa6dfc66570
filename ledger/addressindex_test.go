package ledger_test

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/view/viewtest"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
)

// forwarder is a contract that calls the address in the first word of its call data.
func forwarderCode() []byte {
	return program.New().Push0().Push0().Push0().Push0().Push0().Push0().Op(0x35, 0x5a, 0xf1).Bytes()
}

// accountHistory is a chain of transfers, forwarded calls and creations, and what each account has to do with its transactions.
type accountHistory struct {
	forwarder common.Address
	log       *viewtest.Log
	nonces    [accounts]uint64
	records   int
	rng       *rand.Rand

	// By account, in order: where it takes part, and where a block shows that by itself.
	within, shown map[common.Address][]ledger.TransactionPlace
	sent          map[common.Address][]ledger.TransactionPlace // by nonce
}

func newAccountHistory(t testing.TB) *accountHistory {
	return &accountHistory{
		forwarder: crypto.CreateAddress(address(0), 0),
		log:       viewtest.NewLog(networkID(t)),
		rng:       rand.New(rand.NewPCG(11, 12)),
		within:    map[common.Address][]ledger.TransactionPlace{},
		shown:     map[common.Address][]ledger.TransactionPlace{},
		sent:      map[common.Address][]ledger.TransactionPlace{},
	}
}

// grow plays n more records. Every one makes a block, whose number is that of the record.
func (h *accountHistory) grow(t testing.TB, l *ledger.Ledger, n int) {
	t.Helper()
	for range n {
		h.records++
		var raws [][]byte
		count := 1 + h.rng.IntN(4)
		if h.records%50 == 0 {
			count = 40
		}
		for i := range count {
			raws = append(raws, h.transaction(ledger.TransactionPlace{Block: uint64(h.records), Index: i}))
		}
		h.log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(h.records)}, Payload: batch.Encode(raws)})
	}
	for int(l.Applied()) < h.records { // a crash may have taken some
		entries, err := h.log.Follow(context.Background(), l.Applied()+1, h.records)
		require.NoError(t, err)
		for _, e := range entries {
			_, err := l.Apply(context.Background(), e)
			require.NoError(t, err)
		}
	}
	require.NoError(t, l.Drain(context.Background()))
	require.EqualValues(t, h.records, l.CurrentHeader().Number.Uint64())
}

func (h *accountHistory) transaction(at ledger.TransactionPlace) []byte {
	from := h.rng.IntN(accounts)
	data := &types.DynamicFeeTx{ChainID: big.NewInt(1337), Gas: 200_000, GasFeeCap: big.NewInt(1), GasTipCap: big.NewInt(1)}
	var shown, within []common.Address
	other := address(h.rng.IntN(accounts))
	if h.rng.IntN(4) == 0 {
		other = common.BigToAddress(big.NewInt(0x100000 + h.rng.Int64N(20))) // one that never sends
	}
	switch kind := h.rng.IntN(4); {
	case h.records == 1 && at.Index == 0:
		from, data.Data = 0, program.New().ReturnViaCodeCopy(forwarderCode()).Bytes()
		shown = append(shown, h.forwarder)
	case kind == 0 && h.records > 1:
		data.To, data.Data = &h.forwarder, common.LeftPadBytes(other[:], 32)
		shown, within = append(shown, h.forwarder), append(within, other)
	case kind == 1:
		shown = append(shown, crypto.CreateAddress(address(from), h.nonces[from]))
	case kind == 2:
		to := address(h.rng.IntN(accounts))
		data.To, data.AccessList = &to, types.AccessList{{Address: other}}
		shown = append(shown, to, other)
	default:
		data.To = &other
		shown = append(shown, other)
	}
	data.Nonce = h.nonces[from]
	h.nonces[from]++
	shown = append(shown, address(from))
	h.sent[address(from)] = append(h.sent[address(from)], at)
	note := func(m map[common.Address][]ledger.TransactionPlace, accounts []common.Address) {
		for _, a := range accounts {
			if list := m[a]; len(list) == 0 || list[len(list)-1] != at {
				m[a] = append(m[a], at)
			}
		}
	}
	note(h.shown, shown)
	note(h.within, append(shown, within...))
	return sign(from, data)
}

// requireAccounts compares every account's transactions with want, in pages of several sizes, in both directions, within random bounds.
func requireAccounts(t *testing.T, l *ledger.Ledger, want map[common.Address][]ledger.TransactionPlace) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 6))
	head := l.CurrentHeader().Number.Uint64()
	for account, all := range want {
		for round, limit := range []int{1, 2, 7, 25, 10_000} {
			from, to := uint64(0), head+5
			if round%2 == 1 {
				from, to = rng.Uint64N(head), rng.Uint64N(head+1)
			}
			var expected []ledger.TransactionPlace
			for _, p := range all {
				if p.Block >= from && p.Block <= to {
					expected = append(expected, p)
				}
			}
			require.Equal(t, expected, pages(t, l, account, from, to, false, limit), "%v [%d, %d] by %d", account, from, to, limit)
			slices.Reverse(expected)
			require.Equal(t, expected, pages(t, l, account, from, to, true, limit), "%v [%d, %d] by %d, backwards", account, from, to, limit)
		}
	}
}

// pages reads page after page until there are no more.
func pages(t *testing.T, l *ledger.Ledger, account common.Address, from, to uint64, newestFirst bool, limit int) (all []ledger.TransactionPlace) {
	t.Helper()
	for {
		page, more, err := l.AccountTransactions(context.Background(), account, from, to, newestFirst, limit)
		require.NoError(t, err)
		all = append(all, page...)
		if !more {
			return all
		}
		require.GreaterOrEqual(t, len(page), limit)
		if last := page[len(page)-1].Block; newestFirst {
			to = last - 1
		} else {
			from = last + 1
		}
	}
}

// TestAccountTransactions compares the index with a model.
func TestAccountTransactions(t *testing.T) {
	h := newAccountHistory(t)
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{})
	h.grow(t, l, 200)
	left := copyDir(t, dir)
	require.NoError(t, l.Close())
	l = open(t, left, ledger.Options{}) // as a crash leaves it
	h.grow(t, l, 200)
	since, built := l.AddressMarks()
	require.EqualValues(t, 1, since)
	require.EqualValues(t, 1, built)
	require.NoError(t, l.BuildAddressIndex(t.Context())) // nothing to do
	requireAccounts(t, l, h.within)
	require.Empty(t, pages(t, l, common.Address{0x99}, 0, 400, true, 5))

	for sender, places := range h.sent {
		for nonce, want := range places {
			got, ok, err := l.TransactionBySenderAndNonce(t.Context(), sender, uint64(nonce))
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, want, got)
		}
		_, ok, err := l.TransactionBySenderAndNonce(t.Context(), sender, uint64(len(places)))
		require.NoError(t, err)
		require.False(t, ok)
	}
	_, ok, err := l.TransactionBySenderAndNonce(t.Context(), common.Address{0x99}, 0)
	require.NoError(t, err)
	require.False(t, ok)

	requireBlocks := func(lists [][]common.Address, from, to uint64, want func(uint64) bool) {
		t.Helper()
		var expected, got []uint64
		for n := max(from, 1); n <= min(to, 400); n++ {
			if want(n) {
				expected = append(expected, n)
			}
		}
		require.NoError(t, l.AccountBlocks(t.Context(), lists, from, to, func(n uint64) (bool, error) { got = append(got, n); return true, nil }))
		require.Equal(t, expected, got)
	}
	in := func(a common.Address) func(uint64) bool {
		return func(n uint64) bool {
			return slices.ContainsFunc(h.within[a], func(p ledger.TransactionPlace) bool { return p.Block == n })
		}
	}
	a, b := address(1), common.BigToAddress(big.NewInt(0x100003))
	requireBlocks([][]common.Address{{a}}, 0, 1000, in(a))
	requireBlocks([][]common.Address{{a}, {b}}, 20, 390, func(n uint64) bool { return in(a)(n) && in(b)(n) })
	requireBlocks([][]common.Address{{a, b}}, 0, 400, func(n uint64) bool { return in(a)(n) || in(b)(n) })
	requireBlocks([][]common.Address{nil, {b}}, 0, 400, in(b))
	requireBlocks(nil, 395, 1000, func(uint64) bool { return true })
	calls := 0
	require.NoError(t, l.AccountBlocks(t.Context(), [][]common.Address{{a}}, 0, 400, func(uint64) (bool, error) { calls++; return calls < 3, nil }))
	require.Equal(t, 3, calls)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = l.AccountTransactions(cancelled, a, 0, 400, true, 5)
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = l.TransactionBySenderAndNonce(cancelled, a, 0)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, l.AccountBlocks(cancelled, nil, 0, 400, nil), context.Canceled)
	require.NoError(t, l.Close())
}

// TestAccountIndexOfAnOlderStore opens a store without the index, and one that an older version has written to since.
func TestAccountIndexOfAnOlderStore(t *testing.T) {
	h := newAccountHistory(t)
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{})
	h.grow(t, l, 250)
	require.NoError(t, l.ForgetAddressIndex())
	require.NoError(t, l.Close())

	l = open(t, dir, ledger.Options{})
	since, built := l.AddressMarks()
	require.EqualValues(t, 251, since)
	require.EqualValues(t, 251, built)
	want := map[common.Address][]ledger.TransactionPlace{}
	for a, places := range h.shown {
		want[a] = slices.Clone(places)
	}
	before := len(h.within)
	h.grow(t, l, 50)
	require.GreaterOrEqual(t, len(h.within), before)
	for a, places := range h.within {
		for _, p := range places {
			if p.Block > 250 {
				want[a] = append(want[a], p)
			}
		}
	}
	// What lies in the new blocks is found, what may lie before is an error.
	busy := address(2)
	page, more, err := l.AccountTransactions(t.Context(), busy, 0, 300, true, 5)
	require.NoError(t, err)
	require.True(t, more || len(page) >= 5)
	for _, newestFirst := range []bool{true, false} {
		_, _, err = l.AccountTransactions(t.Context(), busy, 0, 300, newestFirst, 10_000)
		require.ErrorIs(t, err, ledger.ErrIndexing)
		require.ErrorContains(t, err, "it begins with block 251 so far")
	}
	_, _, err = l.TransactionBySenderAndNonce(t.Context(), address(0), 0)
	require.ErrorIs(t, err, ledger.ErrIndexing)

	// It is built over a restart, and new blocks come meanwhile.
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // ends after the first hundred
	require.NoError(t, l.BuildAddressIndex(ctx))
	_, built = l.AddressMarks()
	require.EqualValues(t, 151, built)
	require.NoError(t, l.Close())
	l = open(t, dir, ledger.Options{})
	since, built = l.AddressMarks()
	require.EqualValues(t, 251, since)
	require.EqualValues(t, 151, built)
	require.NoError(t, l.BuildAddressIndex(t.Context()))
	requireAccounts(t, l, want)
	for nonce, place := range h.sent[address(0)] {
		got, ok, err := l.TransactionBySenderAndNonce(t.Context(), address(0), uint64(nonce))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, place, got)
	}
	// Before the mark every block may hold what the index does not know.
	var blocks []uint64
	require.NoError(t, l.AccountBlocks(t.Context(), [][]common.Address{{{0x99}}}, 240, 300, func(n uint64) (bool, error) { blocks = append(blocks, n); return true, nil }))
	require.Equal(t, []uint64{240, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250}, blocks)
	require.NoError(t, l.Close())
}

// TestAccountIndexTravels restores a snapshot, which holds the index and how far it reaches.
func TestAccountIndexTravels(t *testing.T) {
	h := newAccountHistory(t)
	l := open(t, t.TempDir(), ledger.Options{})
	h.grow(t, l, 60)
	var snapshot bytes.Buffer
	require.NoError(t, l.Snapshot(t.Context(), &snapshot))
	require.NoError(t, l.Close())
	l = open(t, t.TempDir(), ledger.Options{})
	require.NoError(t, l.Restore(t.Context(), &snapshot))
	h.grow(t, l, 20)
	since, built := l.AddressMarks()
	require.EqualValues(t, 1, since)
	require.EqualValues(t, 1, built)
	requireAccounts(t, l, h.within)
	require.NoError(t, l.Close())
}

// BenchmarkApply plays blocks of plain transfers between distinct accounts, all that is done with a block on one core: what the indexes cost shows
// here.
func BenchmarkApply(b *testing.B) {
	for _, perBlock := range []int{1, 200} {
		b.Run(fmt.Sprintf("txs=%d", perBlock), func(b *testing.B) {
			l := open(b, b.TempDir(), ledger.Options{})
			log := viewtest.NewLog(networkID(b))
			nonce := uint64(0)
			for i := range b.N {
				var raws [][]byte
				for range perBlock {
					to := common.BigToAddress(new(big.Int).SetUint64(1_000_000 + nonce))
					raws = append(raws, sign(0, &types.DynamicFeeTx{ChainID: big.NewInt(1337), Nonce: nonce, Gas: 21_000, To: &to, Value: big.NewInt(1), GasFeeCap: big.NewInt(1), GasTipCap: big.NewInt(1)}))
					nonce++
				}
				log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: batch.Encode(raws)})
			}
			entries, err := log.Follow(context.Background(), 1, b.N)
			require.NoError(b, err)
			b.ResetTimer()
			for _, e := range entries {
				if _, err := l.Apply(context.Background(), e); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, l.Drain(context.Background()))
			b.StopTimer()
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*perBlock), "µs/tx")
			require.NoError(b, l.Close())
		})
	}
}
