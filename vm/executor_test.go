package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

// typedTransactions are one transaction of each type that a ledger takes, a deployment, and one that fails, from one
// sender in order of nonce; target is a contract of storeCode.
func typedTransactions(target common.Address) []*types.Transaction {
	id := big.NewInt(testChainID)
	auth, err := types.SignSetCode(bob.key, types.SetCodeAuthorization{ChainID: *uint256.NewInt(testChainID), Address: target})
	if err != nil {
		panic(err)
	}
	data := storeData(common.Hash{31: 1}, 7)
	logger := func() *program.Program { return program.New().Push(99).Push(0).Push(0).Op(gethvm.LOG1) }
	return []*types.Transaction{
		alice.sign(&types.LegacyTx{Nonce: 0, To: &bob.addr, Gas: 21_000, GasPrice: gwei, Value: big.NewInt(5)}),
		types.MustSignNewTx(alice.key, types.HomesteadSigner{}, &types.LegacyTx{Nonce: 1, To: &bob.addr, Gas: 21_000, GasPrice: gwei}),
		alice.sign(&types.AccessListTx{ChainID: id, Nonce: 2, To: &target, Gas: 100_000, GasPrice: gwei, Data: data,
			AccessList: types.AccessList{{Address: target, StorageKeys: []common.Hash{{31: 1}}}}}),
		alice.sign(&types.DynamicFeeTx{ChainID: id, Nonce: 3, To: &target, Gas: 100_000, GasFeeCap: big.NewInt(3 * params.GWei), GasTipCap: gwei, Data: data}),
		alice.sign(&types.SetCodeTx{ChainID: uint256.NewInt(testChainID), Nonce: 4, To: bob.addr, Gas: 200_000,
			GasFeeCap: uint256.NewInt(params.GWei), GasTipCap: uint256.NewInt(1), Data: data, AuthList: []types.SetCodeAuthorization{auth}}),
		alice.create(5, 200_000, logger().ReturnViaCodeCopy(storeCode).Bytes()),
		alice.call(6, target, 21_800, data), // out of gas
		alice.create(7, 200_000, logger().Append(logger().Bytes()).Bytes()),
	}
}

func TestEveryTransactionType(t *testing.T) {
	target, alloc := contractAt(storeCode)
	c := newChain(t, alloc)
	c.baseFee = uint256.NewInt(10)
	txs := typedTransactions(target)
	res := c.block(txs...)
	require.Empty(t, res.Skipped)
	require.Len(t, res.Receipts, len(txs))

	status := make([]uint64, len(txs))
	for i, r := range res.Receipts {
		status[i] = r.Status
	}
	require.Equal(t, []uint64{1, 1, 1, 1, 1, 1, 0, 1}, status)

	st := c.state()
	require.EqualValues(t, 8, st.GetNonce(alice.addr))
	require.EqualValues(t, 7, c.slot(target, 1).Uint64())
	require.EqualValues(t, 7, c.slot(bob.addr, 1).Uint64(), "bob runs the target's code on his own storage")
	require.Equal(t, types.AddressToDelegation(target), st.GetCode(bob.addr))
	require.Equal(t, storeCode, st.GetCode(res.Receipts[5].ContractAddress))
	require.Equal(t, crypto.CreateAddress(alice.addr, 5), res.Receipts[5].ContractAddress)

	require.Len(t, res.Logs, 3)
	for i, l := range res.Logs {
		require.EqualValues(t, i, l.Index)
		require.Equal(t, res.Block.Hash(), l.BlockHash)
		require.Equal(t, res.Block.Time(), l.BlockTimestamp)
	}
	require.EqualValues(t, 5, res.Logs[0].TxIndex)
	require.EqualValues(t, 7, res.Logs[2].TxIndex)
	require.Equal(t, res.GasUsed, res.Receipts[7].CumulativeGasUsed)
}

// Invariant 6, and what Env says of each field.
func TestHeader(t *testing.T) {
	c := newChain(t, nil)
	c.baseFee = uint256.NewInt(3)
	env, parent := c.env(), c.head
	h := c.mustBlock(alice.transfer(0, bob.addr)).Block.Header()

	empty := types.EmptyRequestsHash
	require.Equal(t, &types.Header{
		ParentHash: parent.Hash(), UncleHash: types.EmptyUncleHash, Coinbase: coinbase, Difficulty: new(big.Int),
		Number: big.NewInt(1), GasLimit: env.GasLimit, GasUsed: 21_000, Time: env.Time, Extra: env.Extra,
		MixDigest: env.PrevRandao, BaseFee: big.NewInt(3), WithdrawalsHash: &types.EmptyWithdrawalsHash,
		BlobGasUsed: new(uint64), ExcessBlobGas: new(uint64), ParentBeaconRoot: &env.BeaconRoot, RequestsHash: &empty,
		Root: h.Root, TxHash: h.TxHash, ReceiptHash: h.ReceiptHash,
	}, h)

	// The form in which it is stored and sent.
	enc, err := rlp.EncodeToBytes(h)
	require.NoError(t, err)
	require.Equal(t, crypto.Keccak256Hash(enc), h.Hash())
}

func TestInvalidEnv(t *testing.T) {
	c := newChain(t, nil)
	for name, change := range map[string]func(*Env){
		"number":      func(e *Env) { e.Number++ },
		"parent hash": func(e *Env) { e.ParentHash[0]++ },
		"time":        func(e *Env) { e.Time = c.head.Time - 1 },
		"extra":       func(e *Env) { e.Extra = make([]byte, 33) },
	} {
		t.Run(name, func(t *testing.T) {
			env := c.env()
			change(&env)
			_, err := c.x.Execute(c.state(), c.head, env, nil)
			require.ErrorIs(t, err, ErrInvalidEnv)
		})
	}
	t.Run("rules", func(t *testing.T) {
		config := OsakaConfig(testChainID)
		config.AmsterdamTime = new(uint64)
		_, err := NewExecutor(config, c).Execute(c.state(), c.head, c.env(), nil)
		require.ErrorIs(t, err, ErrInvalidEnv)
	})
}

// The receipts are those that a client derives from the stored block.
func TestReceiptsAreDerived(t *testing.T) {
	target, alloc := contractAt(storeCode)
	c := newChain(t, alloc)
	c.baseFee = uint256.NewInt(10)
	res := c.block(typedTransactions(target)...)

	stored := make(types.Receipts, len(res.Receipts))
	for i, r := range res.Receipts {
		enc, err := rlp.EncodeToBytes((*types.ReceiptForStorage)(r))
		require.NoError(t, err)
		stored[i] = new(types.Receipt)
		require.NoError(t, rlp.DecodeBytes(enc, (*types.ReceiptForStorage)(stored[i])))
	}
	require.NoError(t, stored.DeriveFields(c.config, res.Block.Hash(), 1, res.Block.Time(), res.Block.BaseFee(), big.NewInt(1), res.Block.Transactions()))
	for i := range stored {
		stored[i].Bloom = types.CreateBloom(stored[i])
		want, err := json.Marshal(stored[i])
		require.NoError(t, err)
		got, err := json.Marshal(res.Receipts[i])
		require.NoError(t, err)
		// As JSON, where nil and empty are the same.
		require.JSONEq(t, string(want), strings.Replace(string(got), `"logs":null`, `"logs":[]`, 1), "receipt %d", i)
	}
}

// skips is every reason for which Execute leaves a transaction out. Each is built on a chain at genesis where alice's
// transaction 0 is included first.
var skips = []struct {
	name string
	tx   *types.Transaction
	want error
}{
	{"duplicate", alice.transfer(0, bob.addr), core.ErrNonceTooLow},
	{"nonce used by another", alice.transfer(0, carol.addr), core.ErrNonceTooLow},
	{"nonce gap", alice.transfer(2, bob.addr), core.ErrNonceTooHigh},
	{"nobody's money", pauper.transfer(0, bob.addr), core.ErrInsufficientFunds},
	{"more value than funds", bob.sign(&types.LegacyTx{To: &alice.addr, Gas: 21_000, GasPrice: gwei,
		Value: new(big.Int).Mul(big.NewInt(1000), big.NewInt(params.Ether))}), core.ErrInsufficientFunds},
	{"price times gas overflows", bob.sign(&types.LegacyTx{To: &alice.addr, Gas: 21_000, GasPrice: new(big.Int).Lsh(common.Big1, 255)}), core.ErrInsufficientFunds},
	{"price above 256 bits", bob.sign(&types.LegacyTx{To: &alice.addr, Gas: 21_000, GasPrice: new(big.Int).Lsh(common.Big1, 256)}), core.ErrFeeCapVeryHigh},
	{"above the cap of EIP-7825", bob.call(0, alice.addr, params.MaxTxGas+1, nil), core.ErrGasLimitTooHigh},
	{"more than the block has left", bob.call(0, alice.addr, 1_000_000, nil), core.ErrGasLimitReached},
	{"below the intrinsic gas", bob.call(0, alice.addr, 20_999, nil), core.ErrIntrinsicGas},
	{"below the intrinsic gas of its data", bob.call(0, alice.addr, 21_015, []byte{1}), core.ErrIntrinsicGas},
	{"below the floor of EIP-7623", bob.call(0, alice.addr, 21_039, []byte{1}), core.ErrFloorDataGas},
	{"init code too large", bob.create(0, 900_000, make([]byte, params.MaxInitCodeSize+1)), gethvm.ErrMaxInitCodeSizeExceeded},
	{"fee cap below the base fee", bob.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), To: &alice.addr, Gas: 21_000,
		GasFeeCap: big.NewInt(9), GasTipCap: new(big.Int)}), core.ErrFeeCapTooLow},
	{"legacy price below the base fee", bob.sign(&types.LegacyTx{To: &alice.addr, Gas: 21_000, GasPrice: big.NewInt(9)}), core.ErrFeeCapTooLow},
	{"tip above the fee cap", bob.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), To: &alice.addr, Gas: 21_000,
		GasFeeCap: big.NewInt(20), GasTipCap: big.NewInt(21)}), core.ErrTipAboveFeeCap},
	{"another chain's", types.MustSignNewTx(bob.key, types.LatestSignerForChainID(big.NewInt(1)),
		&types.DynamicFeeTx{ChainID: big.NewInt(1), To: &alice.addr, Gas: 21_000, GasFeeCap: gwei, GasTipCap: new(big.Int)}), types.ErrInvalidChainId},
	{"another chain's, legacy", types.MustSignNewTx(bob.key, types.NewEIP155Signer(big.NewInt(1)),
		&types.LegacyTx{To: &alice.addr, Gas: 21_000, GasPrice: gwei}), types.ErrInvalidChainId},
	{"no signature", unsigned, types.ErrInvalidSig},
	{"blob", bob.sign(&types.BlobTx{ChainID: uint256.NewInt(testChainID), To: alice.addr, Gas: 21_000, GasFeeCap: uint256.NewInt(params.GWei),
		GasTipCap: new(uint256.Int), BlobFeeCap: uint256.NewInt(params.GWei), BlobHashes: []common.Hash{{1}}}), ErrBlobTransaction},
	{"no authorizations", bob.sign(&types.SetCodeTx{ChainID: uint256.NewInt(testChainID), To: alice.addr, Gas: 100_000,
		GasFeeCap: uint256.NewInt(params.GWei), GasTipCap: new(uint256.Int), AuthList: []types.SetCodeAuthorization{}}), core.ErrEmptyAuthList},
	{"the sender is a contract", codeOwner.transfer(0, bob.addr), core.ErrSenderNoEOA},
}

var unsigned = types.NewTx(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), To: &alice.addr, Gas: 21_000, GasFeeCap: gwei, GasTipCap: new(big.Int)})

// codeOwner has a key and, in skipChain's genesis, code too (EIP-3607).
var codeOwner = newAccount("code owner")

func skipChain(t *testing.T) *testChain {
	c := newChain(t, types.GenesisAlloc{codeOwner.addr: {Balance: big.NewInt(params.Ether), Code: []byte{0}}})
	c.baseFee = uint256.NewInt(10)
	c.gasLimit = 1_000_000
	return c
}

func TestSkips(t *testing.T) {
	for _, test := range skips {
		t.Run(test.name, func(t *testing.T) {
			c := skipChain(t)
			first, last := alice.transfer(0, bob.addr), alice.transfer(1, bob.addr)
			want := c.try(first, last)
			got := c.try(first, test.tx, last)
			require.Len(t, got.Skipped, 1)
			require.Equal(t, 1, got.Skipped[0].Index)
			require.Equal(t, test.tx.Hash(), got.Skipped[0].Hash)
			require.ErrorIs(t, got.Skipped[0].Err, test.want)
			require.Equal(t, want.Block.Hash(), got.Block.Hash(), "the skipped transaction left a trace")
			require.Equal(t, want.Receipts, got.Receipts)
		})
	}
}

func TestNothingIncluded(t *testing.T) {
	c := skipChain(t)
	for _, txs := range [][]*types.Transaction{nil, {alice.transfer(1, bob.addr), pauper.transfer(0, bob.addr)}} {
		res := c.try(txs...)
		require.Nil(t, res.Block)
		require.Empty(t, res.Receipts)
		require.Len(t, res.Skipped, len(txs))
	}
}

// A skipped transaction is valid again once its turn has come, and one block can hold a whole row of nonces.
func TestSkippedIsExecutableAgain(t *testing.T) {
	c := newChain(t, nil)
	late := alice.transfer(1, bob.addr)
	res := c.block(late, alice.transfer(0, bob.addr))
	require.Len(t, res.Skipped, 1)
	require.Equal(t, late.Hash(), res.Skipped[0].Hash)
	c.mustBlock(late, alice.transfer(2, bob.addr), alice.transfer(3, bob.addr))
	require.EqualValues(t, 4, c.state().GetNonce(alice.addr))
}

// The gas pool is as full after a skip as before it: a transaction that fits exactly still fits.
func TestGasPoolIsRestored(t *testing.T) {
	c := newChain(t, nil)
	c.gasLimit = 42_000
	res := c.try(
		alice.transfer(0, bob.addr),
		bob.call(0, carol.addr, 21_001, nil), // does not fit
		bob.call(1, carol.addr, 21_000, nil), // gap, fits
		bob.call(0, carol.addr, 20_999, nil), // reserved, then found to be too little
		carol.transfer(0, bob.addr),
	)
	require.Len(t, res.Skipped, 3)
	require.ErrorIs(t, res.Skipped[0].Err, core.ErrGasLimitReached)
	require.ErrorIs(t, res.Skipped[1].Err, core.ErrNonceTooHigh)
	require.ErrorIs(t, res.Skipped[2].Err, core.ErrIntrinsicGas)
	require.EqualValues(t, 42_000, res.GasUsed)
}

// The deterministic deployment proxy is deployed by a transaction that nobody signed: its signature was made up, and
// the sender is what it recovers to. It has no chain id, and a gas price of 100 gwei.
func TestKeylessDeployment(t *testing.T) {
	raw := common.FromHex("0xf8a58085174876e800830186a08080b853604580600e600039806000f350fe7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf31ba02222222222222222222222222222222222222222222222222222222222222222a02222222222222222222222222222222222222222222222222222222222222222")
	tx, err := DecodeTransaction(raw)
	require.NoError(t, err)
	deployer := common.HexToAddress("0x3fab184622dc19b6109349b94811493bf2a45362")
	c := newChain(t, types.GenesisAlloc{deployer: {Balance: big.NewInt(params.Ether / 100)}})
	res := c.mustBlock(tx)
	require.Equal(t, common.HexToAddress("0x4e59b44847b379578588920ca78fbf26c0b4956c"), res.Receipts[0].ContractAddress)
}

// Invariant 1: neither how the state is kept, nor who recovered the senders and when, nor other junk between the
// transactions, moves a header.
func TestDeterminism(t *testing.T) {
	target, alloc := contractAt(storeCode)
	variants := []struct {
		name     string
		scheme   triedb.Config
		prefetch bool
		recover  bool
		junk     int
	}{
		{name: "path scheme", scheme: pathScheme},
		{name: "path scheme, prefetcher, senders ahead", scheme: pathScheme, prefetch: true, recover: true},
		{name: "path scheme, tiny buffers, junk", scheme: tinyBuffers, junk: 5},
		{name: "hash scheme, junk, senders ahead", scheme: hashScheme, recover: true, junk: 3},
	}
	var want []common.Hash
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			c := newChainOn(t, v.scheme, alloc)
			c.baseFee = uint256.NewInt(10)
			var hashes []common.Hash
			for n := range uint64(4) {
				txs := typedTransactions(target)
				if n > 0 {
					txs = nil
					for i := range uint64(20) {
						txs = append(txs, alice.call(8+(n-1)*20+i, target, 60_000, storeData(common.Hash{30: byte(n), 31: byte(i)}, n)))
						txs = append(txs, carol.transfer((n-1)*20+i, common.Address{1, byte(n), byte(i)}))
					}
				}
				txs = reencode(t, txs)
				for i := range v.junk {
					txs = slices.Insert(txs, 2*i, skips[3+i].tx) // those that are never valid
				}
				if v.recover {
					RecoverSenders(c.x.Signer(), txs)
				}
				st := c.state()
				if v.prefetch {
					st.StartPrefetcher("test", nil)
				}
				res, err := c.x.Execute(st, c.head, c.env(), txs)
				require.NoError(t, err)
				st.StopPrefetcher()
				_, err = st.Commit(c.config.Rules(res.Block.Number(), true, res.Block.Time()), res.Block.NumberU64())
				require.NoError(t, err)
				c.head = res.Block.Header()
				c.headers[c.head.Hash()] = c.head
				hashes = append(hashes, c.head.Hash())
			}
			if want == nil {
				want = hashes
			}
			require.Equal(t, want, hashes)
		})
	}
}

// reencode returns the transactions as another node gets them, without cached senders.
func reencode(t testing.TB, txs []*types.Transaction) []*types.Transaction {
	out := make([]*types.Transaction, len(txs))
	for i, tx := range txs {
		raw, err := tx.MarshalBinary()
		require.NoError(t, err)
		out[i], err = DecodeTransaction(raw)
		require.NoError(t, err)
	}
	return out
}

// A header that this version makes must be the one that every version made: this hash changes only with the rules of
// the chain, and then old chains no longer replay.
func TestGoldenBlock(t *testing.T) {
	target, alloc := contractAt(storeCode)
	c := newChain(t, alloc)
	c.baseFee = uint256.NewInt(10)
	require.Equal(t, goldenGenesis, c.head.Hash().Hex())
	require.Equal(t, goldenBlock, c.block(typedTransactions(target)...).Block.Hash().Hex())
}

const (
	goldenGenesis = "0x57877b49880efc6182721acbfa8ccf7bfc3e0327c18b75a3717188f2a77b64fe"
	goldenBlock   = "0x8e5bbc1d541f84f579c9111123cd9751549143ee71f4509dd6312e758d0f4632"
)

// failingReader is a state reader whose n-th read fails.
type failingReader struct {
	state.Reader
	left int
}

var errDisk = errors.New("disk on fire")

func (r *failingReader) fail() bool {
	r.left--
	return r.left < 0
}

func (r *failingReader) Account(address common.Address) (*types.StateAccount, error) {
	if r.fail() {
		return nil, errDisk
	}
	return r.Reader.Account(address)
}

func (r *failingReader) Storage(address common.Address, slot common.Hash) (common.Hash, error) {
	if r.fail() {
		return common.Hash{}, errDisk
	}
	return r.Reader.Storage(address, slot)
}

// failingState is the state at the head, good for n reads.
func (c *testChain) failingState(n int) (*failingReader, *state.StateDB) {
	c.tb.Helper()
	reader, err := c.sdb.Reader(c.head.Root)
	require.NoError(c.tb, err)
	failing := &failingReader{Reader: reader, left: n}
	st, err := state.NewWithReader(c.head.Root, c.sdb, failing)
	require.NoError(c.tb, err)
	return failing, st
}

// Invariant 5: whichever read of the state fails, Execute does. A failed read looks like an empty account, so without
// the check the first transaction would just be skipped for want of funds.
func TestStateErrorIsFatal(t *testing.T) {
	target, alloc := contractAt(storeCode)
	c := newChain(t, alloc)
	txs := typedTransactions(target)
	want := c.try(txs...).Block.Hash()
	for n := 0; ; n++ {
		require.Less(t, n, 1000, "the reads never end")
		failing, st := c.failingState(n)
		res, err := c.x.Execute(st, c.head, c.env(), txs)
		if failing.left >= 0 {
			require.NoError(t, err)
			require.Equal(t, want, res.Block.Hash())
			require.Greater(t, n, 10, "the test reaches no reads")
			return
		}
		require.ErrorIs(t, err, errDisk, "read %d", n)
	}
}

// Without the request queues' code a block cannot be finished, and that is nobody's transaction's fault.
func TestMissingSystemContract(t *testing.T) {
	c := newChain(t, nil)
	st := c.state()
	st.SetCode(params.WithdrawalQueueAddress, nil, 0)
	st.Finalise(params.Rules{})
	_, err := c.x.Execute(st, c.head, c.env(), []*types.Transaction{alice.transfer(0, bob.addr)})
	require.ErrorContains(t, err, "post-execution")
}

// Replay is the yardstick of most tests here, so it must notice.
func TestReplayRefuses(t *testing.T) {
	target, alloc := contractAt(storeCode)
	c := newChain(t, alloc)
	block := c.try(typedTransactions(target)...).Block
	replay := func(change func(h *types.Header)) error {
		h := block.Header()
		change(h)
		_, err := c.x.Replay(t.Context(), c.state(), block.WithSeal(h))
		return err
	}
	require.NoError(t, replay(func(*types.Header) {}))
	for field, change := range map[string]func(h *types.Header){
		"gasUsed":          func(h *types.Header) { h.GasUsed++ },
		"stateRoot":        func(h *types.Header) { h.Root[0]++ },
		"transactionsRoot": func(h *types.Header) { h.TxHash[0]++ },
		"receiptsRoot":     func(h *types.Header) { h.ReceiptHash[0]++ },
		"logsBloom":        func(h *types.Header) { h.Bloom[0]++ },
		"requestsHash":     func(h *types.Header) { h.RequestsHash = new(common.Hash) },
		"withdrawalsRoot":  func(h *types.Header) { h.WithdrawalsHash = new(common.Hash) },
		"sha3Uncles":       func(h *types.Header) { h.UncleHash[0]++ },
	} {
		err := replay(change)
		require.ErrorIs(t, err, ErrBlockMismatch, field)
		require.ErrorContains(t, err, field)
	}
	// A block with a transaction that is not valid at its turn is not a block.
	txs := append(types.Transactions{}, block.Transactions()...)
	txs[0], txs[1] = txs[1], txs[0]
	_, err := c.x.Replay(t.Context(), c.state(), types.NewBlock(block.Header(), &types.Body{Transactions: txs, Withdrawals: types.Withdrawals{}}, nil, trie.NewStackTrie(nil)))
	require.ErrorIs(t, err, core.ErrNonceTooHigh)
}

func TestRecoverSenders(t *testing.T) {
	for _, n := range []int{0, 1, recoverChunk, recoverChunk + 1, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var txs []*types.Transaction
			for i := range n {
				txs = append(txs, []account{alice, bob, carol}[i%3].transfer(uint64(i), bob.addr))
			}
			txs = append(txs, unsigned)
			txs = reencode(t, txs)
			signer := &countingSigner{Signer: types.LatestSigner(OsakaConfig(testChainID))}
			RecoverSenders(signer, txs)
			require.EqualValues(t, n+1, signer.recovered.Load())
			for i, tx := range txs[:n] {
				from, err := types.Sender(signer, tx)
				require.NoError(t, err)
				require.Equal(t, []account{alice, bob, carol}[i%3].addr, from)
			}
			require.EqualValues(t, n+1, signer.recovered.Load(), "senders were not cached")
		})
	}
}

type countingSigner struct {
	types.Signer
	recovered atomic.Int64
}

func (s *countingSigner) Equal(other types.Signer) bool { return s == other }
func (s *countingSigner) Sender(tx *types.Transaction) (common.Address, error) {
	s.recovered.Add(1)
	return s.Signer.Sender(tx)
}

// A row of random batches, each executed as it is and with junk strewn in: the chains stay the same.
func TestRandomJunk(t *testing.T) {
	const seed = 20250912
	random := rand.New(rand.NewPCG(seed, 0))
	target, alloc := contractAt(storeCode)
	c := newChain(t, alloc)
	accounts := []account{alice, bob, carol}
	nonces := make([]uint64, len(accounts))
	for range 20 {
		var clean, dirty []*types.Transaction
		for range 1 + random.IntN(15) {
			for range random.IntN(3) {
				k := random.IntN(len(accounts))
				junk := []*types.Transaction{
					accounts[k].transfer(nonces[k]+1+random.Uint64N(3), bob.addr),
					accounts[k].call(nonces[k], target, 21_000, bytes.Repeat([]byte{1}, 1+random.IntN(100))),
					accounts[k].call(nonces[k], target, params.MaxTxGas+1, nil),
					pauper.transfer(0, alice.addr),
				}
				dirty = append(dirty, junk[random.IntN(len(junk))])
			}
			k := random.IntN(len(accounts))
			tx := accounts[k].call(nonces[k], target, 60_000, storeData(common.Hash{31: byte(random.IntN(8))}, random.Uint64N(3)))
			nonces[k]++
			clean, dirty = append(clean, tx), append(dirty, tx)
		}
		dirty = append(dirty, clean...) // the whole batch again
		res := c.try(dirty...)
		require.Len(t, res.Skipped, len(dirty)-len(clean))
		require.Equal(t, res.Block.Hash(), c.mustBlock(clean...).Block.Hash(), "seed %d", seed)
	}
}
