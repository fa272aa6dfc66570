package txpool

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/prometheus/client_golang/prometheus"

	"ledgerd/contracts"
	"ledgerd/vm"
)

var _ StateReader = (*state.StateDB)(nil)

// The texts are what wallets, libraries and scripts match, so they are compared whole.
func TestAddErrors(t *testing.T) {
	alice, bob := newUser(1), newUser(2)
	for _, tt := range []struct {
		name  string
		setup func(*fixture)
		opts  Options
		tx    *types.Transaction
		is    error
		want  string
	}{
		{name: "blob", tx: alice.sign(&types.BlobTx{ChainID: uint256.NewInt(1337), BlobHashes: []common.Hash{{1}}}),
			is: core.ErrTxTypeNotSupported, want: "transaction type not supported: blob transactions (type 3) cannot be sent to this chain"},
		{name: "128 KiB", tx: alice.transfer(0, data(MaxTransactionBytes), gas(900_000)),
			is: txpool.ErrOversizedData, want: "oversized data: transaction size 131181, limit 131072"},
		{name: "EIP-7825", setup: func(f *fixture) { f.chain.header.GasLimit = 30_000_000 }, tx: alice.transfer(0, gas(1<<24+1)),
			is: core.ErrGasLimitTooHigh, want: "transaction gas limit too high (cap: 16777216, tx: 16777217)"},
		{name: "block gas limit", tx: alice.transfer(0, gas(testGasLimit+1)),
			is: txpool.ErrGasLimit, want: "exceeds block gas limit"},
		{name: "intrinsic gas", tx: alice.transfer(0, gas(20_999)),
			is: core.ErrIntrinsicGas, want: "intrinsic gas too low: gas 20999, minimum needed 21000"},
		{name: "floor data gas", tx: alice.transfer(0, data(100), gas(21_500)),
			is: core.ErrFloorDataGas, want: "insufficient gas for floor data gas cost: gas 21500, minimum needed 22000"},
		{name: "init code", tx: alice.transfer(0, func(d *types.DynamicFeeTx) {
			d.To, d.Data, d.Gas = nil, make([]byte, params.MaxInitCodeSize+1), 900_000
		}),
			is: nil, want: "max initcode size exceeded: code size 49153 limit 49152"},
		{name: "tip above fee cap", tx: alice.transfer(0, fee(1, 2)),
			is: core.ErrTipAboveFeeCap, want: "max priority fee per gas higher than max fee per gas"},
		{name: "another chain", tx: types.MustSignNewTx(alice.key, types.LatestSignerForChainID(big.NewInt(5)), &types.LegacyTx{Gas: 21_000, To: &common.Address{}, GasPrice: new(big.Int)}),
			is: txpool.ErrInvalidSender, want: "invalid sender: invalid chain id for signer: have 5 want 1337"},
		{name: "no signature", tx: types.NewTx(&types.DynamicFeeTx{ChainID: testConfig.ChainID, Gas: 21_000, To: &common.Address{}}),
			is: txpool.ErrInvalidSender, want: "invalid sender: invalid transaction v, r, s values"},
		{name: "last nonce", tx: alice.transfer(math.MaxUint64),
			is: core.ErrNonceMax, want: "nonce has max value"},
		{name: "no authorizations", tx: alice.sign(&types.SetCodeTx{ChainID: uint256.NewInt(1337), Gas: 50_000, AuthList: nil}),
			want: "set code tx must have at least one authorization tuple"},
		{name: "tip", opts: Options{MinTip: big.NewInt(2)}, tx: alice.transfer(0, fee(9, 1)),
			is: txpool.ErrTxGasPriceTooLow, want: "transaction gas price below minimum: gas tip cap 1, minimum needed 2"},
		{name: "base fee", setup: func(f *fixture) { f.chain.header.BaseFee = big.NewInt(7) }, tx: alice.transfer(0, fee(6, 0)),
			is: core.ErrFeeCapTooLow, want: "max fee per gas less than block base fee: address " + alice.address.Hex() + ", maxFeePerGas: 6, baseFee: 7"},
		{name: "nonce", setup: func(f *fixture) { f.chain.nonces[alice.address] = 3 }, tx: alice.transfer(2),
			is: core.ErrNonceTooLow, want: "nonce too low: next nonce 3, tx nonce 2"},
		{name: "funds", setup: func(f *fixture) { f.chain.fund(alice, 21_004) }, tx: alice.transfer(0, fee(1, 1), value(5)),
			is: core.ErrInsufficientFunds, want: "insufficient funds for gas * price + value: balance 21004, tx cost 21005, overshot 1"},
		{name: "funds with others", setup: func(f *fixture) { f.chain.fund(alice, 10); f.add(alice.transfer(0, value(7))) }, tx: alice.transfer(1, value(4)),
			is: core.ErrInsufficientFunds, want: "insufficient funds for gas * price + value: balance 10, queued cost 7, tx cost 4, overshot 1"},
		{name: "funds with replacement", setup: func(f *fixture) {
			f.chain.fund(alice, 50_000)
			f.add(alice.transfer(0, value(30_000)), alice.transfer(1, value(20_000)))
		}, tx: alice.transfer(1, value(0), fee(1, 1)),
			is: core.ErrInsufficientFunds, want: "insufficient funds for gas * price + value: balance 50000, queued cost 50000, tx bumped 1000, overshot 1000"},
		{name: "cost beyond 256 bits", setup: func(f *fixture) { f.chain.balances[alice.address] = new(uint256.Int).SetAllOne() },
			tx: alice.transfer(0, func(d *types.DynamicFeeTx) { d.Value, d.GasFeeCap = new(uint256.Int).SetAllOne().ToBig(), common.Big1 }),
			is: core.ErrInsufficientFunds,
			want: fmt.Sprintf("insufficient funds for gas * price + value: balance %v, tx cost %v, overshot 21000", new(uint256.Int).SetAllOne(),
				new(big.Int).Add(new(uint256.Int).SetAllOne().ToBig(), big.NewInt(21_000)))},
		{name: "known", setup: func(f *fixture) { f.add(alice.transfer(0)) }, tx: alice.transfer(0),
			is: txpool.ErrAlreadyKnown, want: "already known"},
		{name: "replacement", setup: func(f *fixture) { f.add(alice.transfer(0)) }, tx: alice.transfer(0, data(1), gas(30_000)),
			is: txpool.ErrReplaceUnderpriced, want: "replacement transaction underpriced"},
		{name: "replacement in flight", setup: func(f *fixture) { f.chain.fund(alice, 1e9); f.add(alice.transfer(0)); f.takeAll() }, tx: alice.transfer(0, fee(9, 9)),
			is: ErrReplaceInFlight, want: "replacement transaction underpriced: the pooled transaction is being ordered"},
		{name: "too many of one", opts: Options{MaxPerSender: 2}, setup: func(f *fixture) { f.add(alice.transfers(0, 2)...) }, tx: alice.transfer(2),
			is: txpool.ErrAccountLimitExceeded, want: "account limit exceeded: pooled 2 txs"},
		{name: "too long of one", opts: Options{MaxBytesPerSender: 1000}, setup: func(f *fixture) { f.add(alice.transfer(0, data(700), gas(900_000))) }, tx: alice.transfer(1, data(500), gas(900_000)),
			is: txpool.ErrAccountLimitExceeded, want: "account limit exceeded: pooled 807 bytes"},
		{name: "full", opts: Options{MaxTransactions: 2, MaxPerSender: 2}, setup: func(f *fixture) { f.add(alice.transfers(0, 2)...) }, tx: bob.transfer(0),
			is: ErrPoolFull, want: "txpool is full"},
		{name: "send", setup: func(f *fixture) {
			f.chain.restrict(contracts.RestrictSend)
			f.chain.permit(alice, contracts.FlagDeploy)
		}, tx: alice.transfer(0),
			is: vm.ErrSendNotPermitted, want: vm.ErrSendNotPermitted.Error() + ": address " + alice.address.Hex()},
		{name: "deploy", setup: func(f *fixture) {
			f.chain.restrict(contracts.RestrictDeploy)
			f.chain.permit(alice, contracts.FlagSend)
		}, tx: alice.transfer(0, creates()),
			is: vm.ErrDeployNotPermitted, want: vm.ErrDeployNotPermitted.Error() + ": address " + alice.address.Hex()},
		{name: "state", setup: func(f *fixture) { f.chain.err = errNoState }, tx: alice.transfer(0),
			is: errNoState, want: "read sender's state: no state"},
		{name: "closed", setup: func(f *fixture) { f.Close() }, tx: alice.transfer(0),
			is: ErrClosed, want: "txpool is closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.opts)
			if tt.setup != nil {
				tt.setup(f)
				f.head.Store(f.chain.header) // a header that setup has changed
			}
			pending, queued := f.Stats()
			err := f.Add(tt.tx)
			if err == nil || err.Error() != tt.want {
				t.Fatalf("got  %v\nwant %v", err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("%v is not %v", err, tt.is)
			}
			f.wantStats(pending, queued)
			checkPool(t, f.Pool)
		})
	}
}

// Each type that the ledger executes is taken in, a legacy transaction without chain id too, which well-known
// deployment proxies need.
func TestTypes(t *testing.T) {
	f, u, friend := newFixture(t, Options{}), newUser(1), newUser(2)
	auth, err := types.SignSetCode(friend.key, types.SetCodeAuthorization{ChainID: *uint256.NewInt(1337), Address: common.Address{1}})
	if err != nil {
		t.Fatal(err)
	}
	f.add(
		types.MustSignNewTx(u.key, types.HomesteadSigner{}, &types.LegacyTx{Nonce: 0, Gas: 21_000, GasPrice: new(big.Int), To: &common.Address{}}),
		u.sign(&types.LegacyTx{Nonce: 1, Gas: 21_000, GasPrice: new(big.Int), To: &common.Address{}}),
		u.sign(&types.AccessListTx{ChainID: testConfig.ChainID, Nonce: 2, Gas: 21_000, GasPrice: new(big.Int), To: &common.Address{}}),
		u.transfer(3),
		u.sign(&types.SetCodeTx{ChainID: uint256.NewInt(1337), Nonce: 4, Gas: 100_000, AuthList: []types.SetCodeAuthorization{auth}}),
		u.transfer(5, creates()),
	)
	f.wantStats(6, 0)
	checkBatch(t, f.takeAll().txs, testGasLimit)
}

func TestGaps(t *testing.T) {
	f, u := newFixture(t, Options{}), newUser(1)
	f.chain.nonces[u.address] = 7
	ch := make(chan []*types.Transaction, 10)
	defer f.SubscribeTransactions(ch).Unsubscribe()
	f.wantNonce(u, 7)

	f.add(u.transfer(9), u.transfer(11))
	f.wantStats(0, 2)
	f.wantNonce(u, 7)
	if len(ch) != 0 {
		t.Fatal("queued transactions were announced")
	}
	f.add(u.transfer(7))
	f.wantNonce(u, 8)
	f.add(u.transfer(8))
	f.wantStats(3, 1)
	f.wantNonce(u, 10)
	wantNonces(t, "first announcement", <-ch, 7)
	wantNonces(t, "second announcement", <-ch, 8, 9)
	f.wantStatus(u.transfer(9), StatePending, "")
	f.wantStatus(u.transfer(11), StateQueued, "")
	f.wantStatus(u.transfer(10), StateUnknown, "")

	pending, queued := f.ContentFrom(u.address)
	wantNonces(t, "pending", pending, 7, 8, 9)
	wantNonces(t, "queued", queued, 11)
	all, waiting := f.Content()
	wantNonces(t, "all pending", all[u.address], 7, 8, 9)
	wantNonces(t, "all queued", waiting[u.address], 11)
	lines, _ := f.Inspect()
	if got, want := lines[u.address][8], (common.Address{0xee}).Hex()+": 0 wei + 21000 gas × 0 wei"; got != want {
		t.Fatalf("inspect: %q, want %q", got, want)
	}
	if f.Get(u.transfer(9).Hash()) == nil || !f.Has(u.transfer(11).Hash()) || f.Has(u.transfer(10).Hash()) {
		t.Fatal("Get and Has disagree with Content")
	}
	if pending, queued := f.ContentFrom(newUser(9).address); pending != nil || queued != nil {
		t.Fatal("content of a stranger")
	}
}

func TestReplacement(t *testing.T) {
	for _, tt := range []struct {
		oldCap, oldTip, cap, tip int64
		ok                       bool
	}{
		{0, 0, 0, 0, false},
		{0, 0, 1, 0, false}, // both have to rise
		{0, 0, 1, 1, true},  // at price 0, 1 wei will do
		{1, 1, 2, 2, true},
		{9, 9, 10, 10, true}, // 9.9 rounded down, as go-ethereum has it
		{100, 10, 110, 11, true},
		{100, 10, 109, 11, false},
		{100, 10, 200, 10, false},
		{100, 10, 110, 10, false},
	} {
		f, u := newFixture(t, Options{}), newUser(1)
		f.chain.fund(u, 1e9)
		old, tx := u.transfer(0, fee(tt.oldCap, tt.oldTip)), u.transfer(0, fee(tt.cap, tt.tip), data(1), gas(30_000))
		f.add(old, u.transfer(1))
		ch := make(chan []*types.Transaction, 1)
		sub := f.SubscribeTransactions(ch)
		err := f.Add(tx)
		checkPool(t, f.Pool)
		f.wantStats(2, 0)
		if !tt.ok {
			if !errors.Is(err, txpool.ErrReplaceUnderpriced) || f.Get(old.Hash()) == nil || len(ch) != 0 {
				t.Fatalf("%+v: %v", tt, err)
			}
			sub.Unsubscribe()
			continue
		}
		if err != nil {
			t.Fatalf("%+v: %v", tt, err)
		}
		f.wantStatus(old, StateDropped, fmt.Sprintf("replaced by %v", tx.Hash()))
		f.wantStatus(tx, StatePending, "")
		wantNonces(t, "announcement", <-ch, 0)
		sub.Unsubscribe()
		if got := f.takeAll().txs[0].Hash(); got != tx.Hash() {
			t.Fatalf("%+v: the old one is in the batch", tt)
		}
	}
}

// In flight means: not to be replaced, while the nonces behind may be, and are not in a second append (invariants 2 and 3).
func TestInFlight(t *testing.T) {
	f, u := newFixture(t, Options{}), newUser(1)
	f.chain.fund(u, 1e9)
	f.add(u.transfers(0, 2)...)
	first := f.takeAll()
	wantNonces(t, "batch", first.txs, 0, 1)
	f.add(u.transfer(2))
	f.add(u.transfer(2, fee(1, 1))) // replaces
	f.wantStats(3, 0)
	f.wantNonce(u, 3)
	f.wantStatus(u.transfer(1), StateInFlight, "")
	f.wantStatus(u.transfer(2, fee(1, 1)), StatePending, "")
	if t2 := f.takeAll(); t2 != nil {
		t.Fatalf("sender in a second append: nonces %v", nonces(t2.txs))
	}
	if err := f.Add(u.transfer(1, fee(1, 1))); !errors.Is(err, ErrReplaceInFlight) {
		t.Fatal(err)
	}

	// The entry of a failed append may have been ordered or not. Here it was, but for its end.
	f.apply(u.transfer(0))
	f.wantStatus(u.transfer(1), StateInFlight, "")
	f.release(first, errors.New("unknown fate"))
	checkPool(t, f.Pool)
	f.wantStatus(u.transfer(1), StatePending, "")
	wantNonces(t, "next batch", f.takeAll().txs, 1, 2)
}

// A sender is remembered while it has something in flight, even if nothing of it is left.
func TestEmptiedInFlight(t *testing.T) {
	f, u := newFixture(t, Options{}), newUser(1)
	f.add(u.transfer(0))
	first := f.takeAll()
	f.apply(u.transfer(0))
	f.add(u.transfer(1))
	if f.takeAll() != nil {
		t.Fatal("in a second append before the first returned")
	}
	f.release(first, nil)
	wantNonces(t, "batch", f.takeAll().txs, 1)
}

func TestEviction(t *testing.T) {
	f := newFixture(t, Options{MaxTransactions: 10, MaxPerSender: 10})
	crowd, small, runner := newUser(1), newUser(2), newUser(3)
	f.add(crowd.transfers(5, 6)...) // all gapped
	f.add(small.transfers(5, 2)...)
	f.add(runner.transfers(0, 2)...)
	f.wantStats(2, 8)

	// Executable ones displace the far end of the most crowded.
	f.add(runner.transfer(2))
	f.wantStatus(crowd.transfer(10), StateDropped, "evicted from the full pool")
	// A queued one does so only while the other has more left than it.
	f.add(small.transfer(7)) // crowd 5 -> 4, small 3
	f.wantStatus(crowd.transfer(9), StateDropped, "evicted from the full pool")
	if err := f.Add(small.transfer(8)); !errors.Is(err, ErrPoolFull) {
		t.Fatalf("crowd of 4 gave way to the fourth of another: %v", err)
	}
	// Closing the gap makes them executable: safe, even if that costs the sender its own far end.
	f.add(crowd.transfers(0, 5)...)
	f.wantStats(9, 1) // runner 3, crowd 0..5, small 1
	f.add(runner.transfer(3))
	if err := f.Add(runner.transfer(4)); !errors.Is(err, ErrPoolFull) {
		t.Fatalf("an executable one was displaced: %v", err)
	}
	f.wantStats(10, 0)
	if err := f.Add(newUser(4).transfer(1)); !errors.Is(err, ErrPoolFull) {
		t.Fatal(err)
	}
	// What is evicted may come again.
	f.apply(f.takeAll().txs...)
	f.add(crowd.transfer(9))
	f.wantStatus(crowd.transfer(9), StateQueued, "")
}

// Eviction may take the only other transaction of the sender for whose sake it happens.
func TestEvictionOfSelf(t *testing.T) {
	f, u := newFixture(t, Options{MaxTransactions: 1, MaxPerSender: 2}), newUser(1)
	f.add(u.transfer(1))
	f.add(u.transfer(0))
	f.wantStats(1, 0)
	f.wantStatus(u.transfer(1), StateDropped, "evicted from the full pool")
}

func TestByteLimit(t *testing.T) {
	f := newFixture(t, Options{MaxBytes: 3000, MaxBytesPerSender: 3000})
	a, b := newUser(1), newUser(2)
	f.chain.fund(b, 1e12)
	f.add(a.transfer(1, data(1000), gas(100_000)), a.transfer(2, data(1000), gas(100_000)))
	f.add(b.transfer(0, data(1700), gas(100_000)))
	f.wantStats(1, 1)
	f.wantStatus(a.transfer(2, data(1000), gas(100_000)), StateDropped, "evicted from the full pool")
	if err := f.Add(b.transfer(0, data(2000), gas(200_000), fee(1, 1))); !errors.Is(err, ErrPoolFull) {
		t.Fatalf("a replacement that does not fit: %v", err)
	}
	if err := f.Add(b.transfer(1, data(2900), gas(200_000))); !errors.Is(err, txpool.ErrAccountLimitExceeded) {
		t.Fatal(err)
	}
}

func TestExpiry(t *testing.T) {
	f := newFixture(t, Options{QueueTTL: time.Hour})
	a, b := newUser(1), newUser(2)
	f.add(a.transfer(0), a.transfer(2))
	f.now = f.now.Add(40 * time.Minute)
	f.add(a.transfer(3), b.transfer(5))
	f.now = f.now.Add(20*time.Minute - 1)
	f.tidy()
	f.wantStats(1, 3)
	f.now = f.now.Add(1)
	f.tidy()
	checkPool(t, f.Pool)
	f.wantStatus(a.transfer(2), StateDropped, "queued for too long")
	f.wantStats(1, 2)
	f.now = f.now.Add(40 * time.Minute)
	f.add(newUser(3).transfer(0)) // adding is an occasion, too
	f.wantStats(2, 0)
	f.wantStatus(a.transfer(0), StatePending, "") // what is executable does not expire
}

// What becomes queued late is not older for it, also if its sender has others queued already. All count from the setback.
func TestExpiryCountsFromSetback(t *testing.T) {
	f, u := newFixture(t, Options{QueueTTL: time.Hour}), newUser(1)
	f.chain.restrict(contracts.RestrictDeploy)
	f.chain.permit(u, contracts.FlagDeploy)
	f.add(u.transfer(0, creates()), u.transfer(1))
	f.now = f.now.Add(2 * time.Hour)
	f.add(u.transfer(5))
	f.now = f.now.Add(30 * time.Minute)
	f.chain.permit(u, 0)
	f.apply(u.transfer(0, creates())) // skipped, dropped: nonce 1 is gapped now
	f.wantStats(0, 2)
	f.now = f.now.Add(time.Hour - 1)
	f.tidy()
	f.wantStats(0, 2)
	f.now = f.now.Add(1)
	f.tidy()
	f.wantStats(0, 0)
	f.wantStatus(u.transfer(1), StateDropped, "queued for too long")
}

func TestAppliedOutcomes(t *testing.T) {
	f := newFixture(t, Options{})
	a, b, deployer, silenced := newUser(1), newUser(2), newUser(3), newUser(4)
	f.chain.fund(a, 1e9)
	other := a.transfer(1, fee(1, 1))
	f.add(a.transfers(0, 4)...)
	f.add(b.transfers(0, 2)...)
	f.add(deployer.transfer(0, creates()), deployer.transfer(1))
	f.add(silenced.transfer(0))
	f.chain.restrict(contracts.RestrictSend | contracts.RestrictDeploy)
	for _, u := range []user{a, b, deployer} {
		f.chain.permit(u, contracts.FlagSend)
	}
	// Another node's entry: it holds another transaction for nonce 1 of a, and more.
	f.apply(a.transfer(0), other, deployer.transfer(0, creates()), silenced.transfer(0), newUser(5).transfer(0))
	f.wantStatus(a.transfer(0), StateUnknown, "")
	f.wantStatus(a.transfer(1), StateDropped, "nonce too low: next nonce 2, tx nonce 1")
	f.wantStatus(a.transfer(2), StatePending, "")
	f.wantStatus(deployer.transfer(0, creates()), StateDropped, fmt.Sprintf("%v: %v", vm.ErrDeployNotPermitted, deployer.address))
	f.wantStatus(deployer.transfer(1), StateQueued, "")
	f.wantStatus(silenced.transfer(0), StateDropped, fmt.Sprintf("%v: %v", vm.ErrSendNotPermitted, silenced.address))
	f.wantStats(4, 1)
	f.wantNonce(a, 4)
	f.wantNonce(deployer, 0)

	// Skipped for the block's sake, or for an earlier nonce's: kept.
	f.Applied(Applied{Header: f.chain.header, Included: newUser(6).transfers(0, 1), Skipped: []Skipped{{Hash: b.transfer(0).Hash(), Err: core.ErrGasLimitReached},
		{Hash: b.transfer(1).Hash(), Err: core.ErrNonceTooHigh}, {Hash: common.Hash{1}, Err: core.ErrNonceTooHigh}}})
	f.wantStatus(b.transfer(0), StatePending, "")
	f.wantStatus(b.transfer(1), StatePending, "")
	// Invalid in a way that the pool has no word for: gone, or it would go round for ever.
	f.Applied(Applied{Header: f.chain.header, Skipped: []Skipped{{Hash: b.transfer(0).Hash(), Err: core.ErrSenderNoEOA}}})
	checkPool(t, f.Pool)
	f.wantStatus(b.transfer(0), StateDropped, core.ErrSenderNoEOA.Error())
	f.wantStatus(b.transfer(1), StateQueued, "")

	// No gas left in a block that has used none: no block will ever have it.
	f.Applied(Applied{Header: f.chain.header, Skipped: []Skipped{{Hash: a.transfer(2).Hash(), Err: core.ErrGasLimitReached}}})
	checkPool(t, f.Pool)
	f.wantStatus(a.transfer(2), StateDropped, "exceeds block gas limit")

	// Dropped here, included by another node: no longer dropped.
	f.chain.restrict(0)
	f.apply(silenced.transfer(0))
	f.wantStatus(silenced.transfer(0), StateUnknown, "")
}

// A sender without funds is held, and comes back when it is funded, not before (no spinning through the log).
func TestHeldForFunds(t *testing.T) {
	f, poor, rich := newFixture(t, Options{}), newUser(1), newUser(2)
	f.chain.fund(poor, 10)
	f.chain.fund(rich, 100)
	f.add(poor.transfer(0, value(4)), poor.transfer(1, value(5)))
	f.chain.fund(poor, 3)
	batch := f.takeAll()
	f.apply(batch.txs...)
	f.release(batch, nil)
	checkPool(t, f.Pool)
	f.wantStats(0, 2)
	f.wantNonce(poor, 2)
	for range 3 {
		f.apply(rich.transfer(f.chain.nonces[rich.address], value(0)))
		f.recheck()
		checkPool(t, f.Pool)
		if f.takeAll() != nil {
			t.Fatal("without funds in a batch")
		}
	}
	reads := f.chain.reads
	if f.recheck() || f.chain.reads != reads {
		t.Fatal("read twice without an entry between")
	}
	f.apply(rich.transfer(f.chain.nonces[rich.address], to(poor), value(1)))
	f.recheck()
	checkPool(t, f.Pool)
	f.wantStats(2, 0) // enough for the first; the second will be judged at its turn
	batch = f.takeAll()
	f.apply(batch.txs...)
	f.release(batch, nil)
	checkPool(t, f.Pool)
	f.wantStats(0, 1)

	// If the executor keeps seeing what the pool does not, it does not come back with the same balance.
	f.chain.fund(poor, 5)
	f.recheck()
	f.wantStats(1, 0)
	for range 2 {
		f.Applied(Applied{Header: f.chain.header, Skipped: []Skipped{{Hash: poor.transfer(1, value(5)).Hash(), Err: core.ErrInsufficientFunds}}})
		f.recheck()
		checkPool(t, f.Pool)
		f.wantStats(0, 1)
	}
	// A cheaper replacement is a change.
	f.chain.fund(poor, 21_001)
	f.add(poor.transfer(1, fee(1, 1)))
	f.wantStats(1, 0)
}

// A nonce can move without a transaction of its account (EIP-7702). Then the first skip has it read again.
func TestStrayNonce(t *testing.T) {
	f, u := newFixture(t, Options{}), newUser(1)
	f.add(u.transfers(0, 5)...)
	f.chain.nonces[u.address] = 3
	f.apply(f.takeAll().txs[0])
	f.wantStatus(u.transfer(0), StateDropped, fmt.Sprintf("nonce too low: address %v, tx: 0 state: 3", u.address))
	f.wantStatus(u.transfer(1), StateInFlight, "")
	f.recheck()
	checkPool(t, f.Pool)
	f.wantNonce(u, 5)
	f.wantStatus(u.transfer(2), StateDropped, "nonce too low: next nonce 3, tx nonce 2")
	f.wantStats(2, 0)

	// The other way round should not happen; if it does, the pool believes the state.
	v := newUser(2)
	f.chain.nonces[v.address] = 6
	f.add(v.transfer(6))
	f.chain.nonces[v.address] = 5
	f.apply(v.transfer(6))
	f.wantStats(2, 1)
	f.recheck()
	checkPool(t, f.Pool)
	f.wantNonce(v, 5)
	f.wantStats(2, 1)
	f.add(v.transfer(5))
	f.wantNonce(v, 7)
}

// Nobody is refused on the word of a cache.
func TestRefusalsReadTheState(t *testing.T) {
	f, u := newFixture(t, Options{}), newUser(1)
	f.chain.fund(u, 5)
	f.add(u.transfer(0, value(5)))
	if err := f.Add(u.transfer(1, value(1))); !errors.Is(err, core.ErrInsufficientFunds) {
		t.Fatal(err)
	}
	f.chain.fund(u, 6) // by somebody's transfer, of which the pool is not told
	f.add(u.transfer(1, value(1)))
	reads := f.chain.reads
	f.add(u.transfers(2, 5)...)
	if f.chain.reads != reads {
		t.Fatalf("%d reads for a sender whose state is known", f.chain.reads-reads)
	}
}

// An entry that is applied while Add reads the state must not be lost.
func TestReadOvertaken(t *testing.T) {
	f, u := newFixture(t, Options{}), newUser(1)
	poor := newUser(2) // held, and read again after each entry: its place in the list must not hide the other
	f.chain.fund(poor, 1)
	f.add(poor.transfer(0, value(1)))
	f.chain.fund(poor, 0)
	f.apply(poor.transfer(0, value(1)))
	next, overtakes := uint64(0), 0
	f.chain.onRead = func() {
		if overtakes > 0 {
			overtakes--
			f.Applied(f.chain.execute([]*types.Transaction{u.transfer(next)}))
			next++
			if overtakes == 0 {
				f.recheck()
			}
		}
	}
	overtakes = 1
	if err := f.Add(u.transfer(0)); !errors.Is(err, core.ErrNonceTooLow) {
		t.Fatalf("added on a state that had passed: %v", err)
	}
	overtakes = maxReads // more often than Add tries: taken in, but not executable before a reading holds
	f.add(u.transfer(5))
	f.wantStats(0, 2)
	f.chain.onRead = nil
	if !f.tidy() || !f.recheck() {
		t.Fatal("the doubt is forgotten")
	}
	checkPool(t, f.Pool)
	f.wantNonce(u, 4)
	f.add(u.transfer(4))
	f.wantStats(2, 1)
}

// The line is fair: one transaction of each sender, then the next of each.
func TestOrder(t *testing.T) {
	f := newFixture(t, Options{})
	flood, a, b := newUser(1), newUser(2), newUser(3)
	f.add(flood.transfers(0, 60)...) // 47 fit a block
	f.add(a.transfer(0), b.transfer(0), b.transfer(1))
	first := f.takeAll()
	senders := func(txs []*types.Transaction) (s string) {
		names := map[common.Address]string{flood.address: "f", a.address: "a", b.address: "b"}
		for _, tx := range txs {
			from, _ := types.Sender(testSigner, tx)
			s += names[from]
		}
		return s
	}
	if got, want := senders(first.txs), "fabfb"+strings.Repeat("f", 42); got != want {
		t.Fatalf("order %s, want %s", got, want)
	}
	checkBatch(t, first.txs, testGasLimit)
	f.add(a.transfer(1))
	if f.takeAll() != nil {
		t.Fatal("all senders are in flight")
	}
	f.release(first, errors.New("failed")) // back to where they were
	if got := senders(f.takeAll().txs); got != "fabfab"+strings.Repeat("f", 41) {
		t.Fatalf("order after a failure %s", got)
	}
}

// A batch closes at the first transaction that does not fit, and never passes a limit (invariant 4).
func TestBatchLimits(t *testing.T) {
	t.Run("gas", func(t *testing.T) {
		f := newFixture(t, Options{})
		for i := range 3 {
			f.add(newUser(i).transfer(0, gas(600_000)))
		}
		f.add(newUser(3).transfer(0))
		got := f.takeAll()
		if len(got.txs) != 1 || got.gas != 600_000 {
			t.Fatalf("%d transactions of %d gas: the small one overtook", len(got.txs), got.gas)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		f := newFixture(t, Options{})
		f.chain.header.GasLimit = 100_000_000
		f.head.Store(f.chain.header)
		for i := range 6 {
			f.add(newUser(i).transfer(0, data(120<<10), gas(6_000_000)))
		}
		got := f.takeAll()
		if len(got.txs) != 4 {
			t.Fatalf("%d transactions of 120 KiB in a batch", len(got.txs))
		}
		if txs := decode(t, got.payload()); len(txs) != 4 {
			t.Fatal("lost on the way")
		}
	})
	t.Run("lowered by a reconfiguration", func(t *testing.T) {
		f, u := newFixture(t, Options{}), newUser(1)
		f.add(u.transfer(0, gas(500_000)), u.transfer(1))
		h := types.CopyHeader(f.chain.header)
		h.GasLimit = 400_000
		f.chain.header = h
		f.apply(newUser(2).transfer(0))
		if f.takeAll() != nil {
			t.Fatal("does not fit any block")
		}
		f.wantStatus(u.transfer(0, gas(500_000)), StateDropped, "exceeds block gas limit")
		f.wantStats(0, 1)
	})
	t.Run("changed before there is a block", func(t *testing.T) {
		f, u := newFixture(t, Options{}), newUser(1)
		f.chain.fund(u, 1e9)
		f.add(u.transfer(0, fee(6, 0)))
		h := types.CopyHeader(f.chain.header)
		h.GasLimit, h.BaseFee = 400_000, big.NewInt(7)
		f.Applied(Applied{Header: h})
		checkPool(t, f.Pool)
		if err := f.Add(newUser(2).transfer(0, gas(400_001), fee(7, 0))); !errors.Is(err, txpool.ErrGasLimit) {
			t.Fatalf("above the new gas limit: %v", err)
		}
		if err := f.Add(newUser(2).transfer(0, fee(6, 0))); !errors.Is(err, core.ErrFeeCapTooLow) {
			t.Fatalf("below the new base fee: %v", err)
		}
		if f.takeAll() != nil {
			t.Fatal("pays less than the next block asks")
		}
		f.add(u.transfer(0, gas(400_000), fee(7, 0)))
		wantNonces(t, "batch", f.takeAll().txs, 0)
	})
	t.Run("base fee raised by a reconfiguration", func(t *testing.T) {
		f, u := newFixture(t, Options{}), newUser(1)
		f.chain.fund(u, 1e9)
		f.add(u.transfer(0, fee(8, 0)), u.transfer(1, fee(6, 0)))
		h := types.CopyHeader(f.chain.header)
		h.BaseFee = big.NewInt(7)
		f.chain.header = h
		f.apply(newUser(2).transfer(0))
		wantNonces(t, "batch", f.takeAll().txs, 0)
	})
}

func TestFeed(t *testing.T) {
	f, u := newFixture(t, Options{}), newUser(1)
	slow, fast := make(chan []*types.Transaction, 1), make(chan []*types.Transaction, 10)
	s1, s2 := f.SubscribeTransactions(slow), f.SubscribeTransactions(fast)
	f.add(u.transfers(0, 3)...) // would hang if it waited for the slow one
	if len(slow) != 1 || len(fast) != 3 {
		t.Fatalf("%d and %d announcements", len(slow), len(fast))
	}
	s1.Unsubscribe()
	s1.Unsubscribe()
	if _, open := <-s1.Err(); open {
		t.Fatal("an error after Unsubscribe")
	}
	<-slow
	f.add(u.transfer(3))
	if len(slow) != 0 || len(fast) != 4 {
		t.Fatal("sent after Unsubscribe")
	}
	f.Close()
	f.Close()
	<-s2.Err()
	s2.Unsubscribe()
	<-f.SubscribeTransactions(fast).Err()
}

// The drop history is bounded (invariant 5).
func TestDropHistory(t *testing.T) {
	f, u := newFixture(t, Options{DropHistory: 2}), newUser(1)
	f.chain.fund(u, 1e12)
	for price := range int64(4) {
		f.add(u.transfer(0, fee(2*price, 2*price)))
	}
	f.wantStatus(u.transfer(0, fee(0, 0)), StateUnknown, "")
	f.wantStatus(u.transfer(0, fee(4, 4)), StateDropped, fmt.Sprintf("replaced by %v", u.transfer(0, fee(6, 6)).Hash()))
	if n := f.mu.dropped.Len(); n != 2 {
		t.Fatalf("%d in the history", n)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	f, u := newFixture(t, Options{Registerer: reg}), newUser(1)
	f.add(u.transfer(0), u.transfer(2))
	f.Add(u.transfer(0))
	f.Add(u.transfer(2, gas(30_000)))
	f.takeAll()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.Metric {
			name := strings.TrimPrefix(family.GetName(), "ledgerd_txpool_")
			for _, l := range m.Label {
				name += "/" + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{"pending": 1, "queued": 1, "inflight": 1, "senders": 1, "added_total": 2,
		"rejected_total/already_known": 1, "rejected_total/replace_underpriced": 1} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v; all: %v", name, v, want, got)
		}
	}
}

func TestOptions(t *testing.T) {
	bad := Options{MaxTransactions: -1, QueueTTL: -1, MinTip: big.NewInt(-1)}
	err := bad.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, name := range []string{"MaxTransactions", "QueueTTL", "MinTip"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is missing in: %v", name, err)
		}
	}
}

// On a real state: accounts and the slots of the Permissions contract as genesis lays them out.
func TestRealState(t *testing.T) {
	st, err := state.New(types.EmptyRootHash, state.NewDatabaseForTesting())
	if err != nil {
		t.Fatal(err)
	}
	sender, deployer, stranger := newUser(1), newUser(2), newUser(3)
	account := contracts.Permissions{RestrictSend: true, RestrictDeploy: true,
		Senders: []common.Address{sender.address, deployer.address}, Deployers: []common.Address{deployer.address},
		Admins: []common.Address{sender.address}}.Account()
	for slot, value := range account.Storage {
		st.SetState(contracts.PermissionsAddress, slot, value)
	}
	st.SetNonce(sender.address, 4, tracing.NonceChangeUnspecified)
	st.AddBalance(sender.address, uint256.NewInt(9), tracing.BalanceChangeUnspecified)
	p := New(realChain{newChain(), st}, Options{})
	for i, tt := range []struct {
		tx   *types.Transaction
		want error
	}{
		{sender.transfer(3), core.ErrNonceTooLow},
		{sender.transfer(4, value(10)), core.ErrInsufficientFunds},
		{sender.transfer(4, value(9)), nil},
		{sender.transfer(5, creates()), vm.ErrDeployNotPermitted},
		{deployer.transfer(0, creates()), nil},
		{stranger.transfer(0), vm.ErrSendNotPermitted},
	} {
		if err := p.Add(tt.tx); !errors.Is(err, tt.want) {
			t.Errorf("%d: %v, want %v", i, err, tt.want)
		}
	}
	if n := p.Nonce(sender.address); n != 5 {
		t.Errorf("nonce %d", n)
	}
}

type realChain struct {
	*fakeChain
	st *state.StateDB
}

func (c realChain) ReadState(f func(StateReader) error) error { return f(c.st) }

func TestLabels(t *testing.T) {
	wrapped := fmt.Errorf("%w: more", ErrReplaceInFlight)
	if got := []string{label(wrapped), label(txpool.ErrReplaceUnderpriced), label(errors.New("x"))}; !slices.Equal(got, []string{"replace_in_flight", "replace_underpriced", "other"}) {
		t.Fatal(got)
	}
}
