package vm

import (
	"context"
	"crypto/ecdsa"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/ethereum/go-ethereum/triedb/hashdb"
	"github.com/ethereum/go-ethereum/triedb/pathdb"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

const testChainID = 1337

var gwei = big.NewInt(params.GWei)

// An account is a key that is the same in every run, and what it signs.
type account struct {
	key  *ecdsa.PrivateKey
	addr common.Address
}

func newAccount(name string) account {
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte(name)))
	if err != nil {
		panic(err)
	}
	return account{key, crypto.PubkeyToAddress(key.PublicKey)}
}

var (
	alice    = newAccount("alice")
	bob      = newAccount("bob")
	carol    = newAccount("carol")
	pauper   = newAccount("pauper") // owns nothing
	coinbase = common.HexToAddress("0xc01bba5e00000000000000000000000000000001")
)

func (a account) sign(inner types.TxData) *types.Transaction {
	return types.MustSignNewTx(a.key, types.LatestSigner(OsakaConfig(testChainID)), inner)
}

// transfer is a type 2 transaction of 1 wei.
func (a account) transfer(nonce uint64, to common.Address) *types.Transaction {
	return a.sign(&types.DynamicFeeTx{
		ChainID: big.NewInt(testChainID), Nonce: nonce, To: &to, Gas: 21_000, Value: big.NewInt(1),
		GasFeeCap: gwei, GasTipCap: new(big.Int),
	})
}

func (a account) call(nonce uint64, to common.Address, gas uint64, data []byte) *types.Transaction {
	return a.sign(&types.DynamicFeeTx{
		ChainID: big.NewInt(testChainID), Nonce: nonce, To: &to, Gas: gas, Data: data,
		GasFeeCap: gwei, GasTipCap: new(big.Int),
	})
}

func (a account) create(nonce uint64, gas uint64, initCode []byte) *types.Transaction {
	return a.sign(&types.DynamicFeeTx{
		ChainID: big.NewInt(testChainID), Nonce: nonce, Gas: gas, Data: initCode,
		GasFeeCap: gwei, GasTipCap: new(big.Int),
	})
}

// A testChain is what Execute needs around it: a state database and the headers, in memory. Every block that it
// executes is replayed under the plain EVM rules on another state, which must come to the same header (invariant 3), and
// rerun under a tracer, which must come to the same receipts and see no account that Touched does not have.
type testChain struct {
	tb      testing.TB
	x       *Executor
	config  *params.ChainConfig
	sdb     state.Database
	headers map[common.Hash]*types.Header
	head    *types.Header

	// Of the next block.
	gasLimit uint64
	baseFee  *uint256.Int
}

// The ways to keep a state, between which no block may differ.
var (
	pathScheme  = triedb.Config{PathDB: pathdb.Defaults}
	hashScheme  = triedb.Config{HashDB: hashdb.Defaults}
	tinyBuffers = triedb.Config{PathDB: &pathdb.Config{WriteBufferSize: 1, TrieCleanSize: 0, StateCleanSize: 0}}
)

func newChain(tb testing.TB, alloc types.GenesisAlloc) *testChain {
	return newChainOn(tb, pathScheme, alloc)
}

func newChainOn(tb testing.TB, scheme triedb.Config, alloc types.GenesisAlloc) *testChain {
	tb.Helper()
	genesis := &core.Genesis{
		Config: OsakaConfig(testChainID), GasLimit: 150_000_000, Timestamp: 1_700_000_000,
		Difficulty: new(big.Int), BaseFee: new(big.Int), Alloc: types.GenesisAlloc{},
	}
	for _, c := range systemContracts {
		genesis.Alloc[c.address] = types.Account{Nonce: 1, Code: c.code, Balance: new(big.Int)}
	}
	for _, a := range []account{alice, bob, carol} {
		genesis.Alloc[a.addr] = types.Account{Balance: new(big.Int).Mul(big.NewInt(1000), big.NewInt(params.Ether))}
	}
	for address, account := range alloc {
		genesis.Alloc[address] = account
	}
	require.NoError(tb, ValidateAlloc(genesis.Alloc))

	db := rawdb.NewMemoryDatabase()
	tdb := triedb.NewDatabase(db, &scheme)
	tb.Cleanup(func() { tdb.Close() })
	block, err := genesis.Commit(db, tdb, nil)
	require.NoError(tb, err)
	c := &testChain{
		tb: tb, config: genesis.Config, sdb: state.NewMPTDatabase(tdb, state.NewCodeDB(db)),
		headers: map[common.Hash]*types.Header{block.Hash(): block.Header()}, head: block.Header(),
		gasLimit: genesis.GasLimit, baseFee: new(uint256.Int),
	}
	c.x = NewExecutor(c.config, c)
	return c
}

// core.ChainContext.

func (c *testChain) Config() *params.ChainConfig                    { return c.config }
func (c *testChain) Engine() consensus.Engine                       { return beacon.New(ethash.NewFaker()) }
func (c *testChain) CurrentHeader() *types.Header                   { return c.head }
func (c *testChain) GetHeaderByHash(hash common.Hash) *types.Header { return c.headers[hash] }
func (c *testChain) GetHeaderByNumber(n uint64) *types.Header {
	for h := c.head; h != nil; h = c.headers[h.ParentHash] {
		if h.Number.Uint64() == n {
			return h
		}
	}
	return nil
}

func (c *testChain) GetHeader(hash common.Hash, number uint64) *types.Header {
	if h := c.headers[hash]; h != nil && h.Number.Uint64() == number {
		return h
	}
	return nil
}

func (c *testChain) state() *state.StateDB {
	c.tb.Helper()
	st, err := state.New(c.head.Root, c.sdb)
	require.NoError(c.tb, err)
	return st
}

func (c *testChain) env() Env {
	number := c.head.Number.Uint64() + 1
	return Env{
		Number: number, Time: c.head.Time + number%2, ParentHash: c.head.Hash(), GasLimit: c.gasLimit, BaseFee: c.baseFee,
		Coinbase: coinbase, PrevRandao: crypto.Keccak256Hash([]byte("randao"), c.head.Hash().Bytes()),
		BeaconRoot: crypto.Keccak256Hash([]byte("digest"), c.head.Hash().Bytes()), Extra: []byte{1, 2, 3},
	}
}

// try executes a block and forgets it.
func (c *testChain) try(txs ...*types.Transaction) *Result {
	c.tb.Helper()
	res, _ := c.execute(txs)
	return res
}

// block executes a block and makes it the head. Something must be included.
func (c *testChain) block(txs ...*types.Transaction) *Result {
	c.tb.Helper()
	res, st := c.execute(txs)
	require.NotNil(c.tb, res.Block, "nothing included: %v", res.Skipped)
	root, err := st.Commit(c.config.Rules(res.Block.Number(), true, res.Block.Time()), res.Block.NumberU64())
	require.NoError(c.tb, err)
	require.Equal(c.tb, res.Block.Root(), root)
	c.head = res.Block.Header()
	c.headers[c.head.Hash()] = c.head
	return res
}

// mustBlock is block, of which every transaction must be included and succeed.
func (c *testChain) mustBlock(txs ...*types.Transaction) *Result {
	c.tb.Helper()
	res := c.block(txs...)
	require.Empty(c.tb, res.Skipped)
	for i, r := range res.Receipts {
		require.Equal(c.tb, types.ReceiptStatusSuccessful, r.Status, "transaction %d failed", i)
	}
	return res
}

func (c *testChain) execute(txs []*types.Transaction) (*Result, *state.StateDB) {
	c.tb.Helper()
	st := c.state()
	res, err := c.x.Execute(st, c.head, c.env(), txs)
	require.NoError(c.tb, err)
	if res.Block != nil {
		receipts, err := c.x.Replay(context.Background(), c.state(), res.Block)
		require.NoError(c.tb, err)
		require.Equal(c.tb, res.Receipts, receipts)
		c.requireRerun(res)
	}
	return res, st
}

func (c *testChain) slot(address common.Address, slot int64) *uint256.Int {
	c.tb.Helper()
	h := c.state().GetState(address, common.BigToHash(big.NewInt(slot)))
	return new(uint256.Int).SetBytes32(h[:])
}

// contractAt returns a genesis allocation with code at an address, and the address.
func contractAt(code []byte) (common.Address, types.GenesisAlloc) {
	address := common.HexToAddress("0xc0de000000000000000000000000000000000001")
	return address, types.GenesisAlloc{address: {Code: code, Nonce: 1, Balance: big.NewInt(1)}}
}

// runCode puts code into the genesis, calls it once with data, and returns the chain, the contract and the receipt.
func runCode(t *testing.T, code, data []byte) (*testChain, common.Address, *types.Receipt) {
	t.Helper()
	address, alloc := contractAt(code)
	c := newChain(t, alloc)
	res := c.block(alice.call(0, address, 10_000_000, data))
	require.Empty(t, res.Skipped)
	return c, address, res.Receipts[0]
}

// deployer returns init code that deploys code.
func deployer(code []byte) []byte { return program.New().ReturnViaCodeCopy(code).Bytes() }

// storeCode is a contract that writes calldata's second word into the slot that its first word names.
var storeCode = program.New().Push(32).Op(gethvm.CALLDATALOAD).Push(0).Op(gethvm.CALLDATALOAD, gethvm.SSTORE).Bytes()

func storeData(slot common.Hash, value uint64) []byte {
	return append(slot.Bytes(), common.BigToHash(new(big.Int).SetUint64(value)).Bytes()...)
}
