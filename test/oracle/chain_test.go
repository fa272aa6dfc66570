package oracle

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

const (
	chainID    = 3_503_995_874_084_926 // a large one, as in execution-apis
	blockTime  = 10                    // seconds, of go-ethereum's chain maker
	mergeBlock = 12
	headBlock  = 36
)

// forkAt returns the time of a block.
func forkAt(block uint64) *uint64 { t := block * blockTime; return &t }

func chainConfig() *params.ChainConfig {
	at := func(n int64) *big.Int { return big.NewInt(n) }
	return &params.ChainConfig{
		ChainID:        at(chainID),
		HomesteadBlock: at(0), EIP150Block: at(0), EIP155Block: at(0), EIP158Block: at(0),
		ByzantiumBlock: at(3), ConstantinopleBlock: at(4), PetersburgBlock: at(4), IstanbulBlock: at(5), MuirGlacierBlock: at(6),
		BerlinBlock: at(7), LondonBlock: at(9), ArrowGlacierBlock: at(10), GrayGlacierBlock: at(11),
		TerminalTotalDifficulty: at(131_072 * mergeBlock),
		MergeNetsplitBlock:      at(mergeBlock),
		ShanghaiTime:            forkAt(16), CancunTime: forkAt(20), PragueTime: forkAt(24), OsakaTime: forkAt(28), BPO1Time: forkAt(31), BPO2Time: forkAt(33),
		BlobScheduleConfig: &params.BlobScheduleConfig{
			Cancun: params.DefaultCancunBlobConfig, Prague: params.DefaultPragueBlobConfig,
			BPO1: params.DefaultBPO1BlobConfig, BPO2: params.DefaultBPO2BlobConfig,
		},
	}
}

type account struct {
	key     *ecdsa.PrivateKey
	address common.Address
}

func newAccount(name string) account {
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte("oracle " + name)))
	if err != nil {
		panic(err)
	}
	return account{key, crypto.PubkeyToAddress(key.PublicKey)}
}

var (
	alice     = newAccount("alice")     // sends everything
	bob       = newAccount("bob")       // gets something
	delegator = newAccount("delegator") // signs EIP-7702 authorizations
	pauper    = newAccount("pauper")    // owns nothing
)

// The emitter: called with a word, it stores it in slot 0, emits it as the topic and the data of a log, and returns it. Called with nothing it reverts
// with the reason "no topic"; with one byte it runs until its gas is gone.
var emitterCode = slices.Concat([]byte{
	0x36, 0x80, 0x15, 0x60, 0x22, 0x57, // CALLDATASIZE DUP1 ISZERO PUSH 22 JUMPI
	0x60, 0x01, 0x14, 0x60, 0x2f, 0x57, // PUSH 1 EQ PUSH 2f JUMPI
	0x60, 0x00, 0x35, 0x80, 0x60, 0x00, 0x55, // word = CALLDATALOAD(0); SSTORE(0, word)
	0x80, 0x60, 0x00, 0x52, // MSTORE(0, word)
	0x60, 0x20, 0x60, 0x00, 0xa1, // LOG1(0, 32, word)
	0x60, 0x20, 0x60, 0x00, 0xf3, 0x00, // RETURN(0, 32)
	0x5b, 0x60, 0x64, 0x60, 0x33, 0x60, 0x00, 0x39, // 22: CODECOPY(0, 33, 100)
	0x60, 0x64, 0x60, 0x00, 0xfd, // REVERT(0, 100)
	0x5b, 0x60, 0x2f, 0x56, // 2f: loop
}, revertData)

var revertData = slices.Concat(common.FromHex("0x08c379a0"), common.LeftPadBytes([]byte{32}, 32),
	common.LeftPadBytes([]byte{8}, 32), common.RightPadBytes([]byte("no topic"), 32))

// The many-logger emits logs with 0 to 4 topics; the factory creates an empty contract by CREATE and calls its caller's argument.
var (
	manyLoggerCode = common.FromHex("0x60016000a0" + "602a60016000a1" + "602a602b60016000a2"[:0] + "602b602a60206000a2" + "602c602b602a60206000a3" + "602d602c602b602a60206000a4" + "00")
	factoryCode    = common.FromHex("0x600060006000f060005260206000f3")
	destructCode   = common.FromHex("0x33ff") // SELFDESTRUCT(CALLER)
)

// deploy is init code that returns code.
func deploy(code []byte) []byte {
	return slices.Concat([]byte{0x61, byte(len(code) >> 8), byte(len(code)), 0x80, 0x60, 0x0c, 0x60, 0x00, 0x39, 0x60, 0x00, 0xf3}, code)
}

// Addresses of the contracts of the chain, by the nonces with which alice creates them.
var (
	emitter    = crypto.CreateAddress(alice.address, 0)
	manyLogger = crypto.CreateAddress(alice.address, 1)
	factory    = crypto.CreateAddress(alice.address, 2)
	destruct   = crypto.CreateAddress(alice.address, 3)
)

func chainGenesis() *core.Genesis {
	system := func(code []byte) types.Account { return types.Account{Code: code, Nonce: 1, Balance: new(big.Int)} }
	return &core.Genesis{
		Config: chainConfig(), Difficulty: big.NewInt(131_072), GasLimit: 30_000_000, ExtraData: []byte("oracle"), Nonce: 0x42,
		Alloc: types.GenesisAlloc{
			alice.address:                    {Balance: new(big.Int).Mul(big.NewInt(1_000_000), big.NewInt(params.Ether))},
			delegator.address:                {Balance: big.NewInt(params.Ether)},
			params.BeaconRootsAddress:        system(params.BeaconRootsCode),
			params.HistoryStorageAddress:     system(params.HistoryStorageCode),
			params.WithdrawalQueueAddress:    system(params.WithdrawalQueueCode),
			params.ConsolidationQueueAddress: system(params.ConsolidationQueueCode),
			common.HexToAddress("0x5107"):    {Balance: big.NewInt(1), Storage: map[common.Hash]common.Hash{{31: 1}: {31: 7}, {31: 2}: {31: 9}}, Code: destructCode},
		},
	}
}

// maker fills the blocks.
type maker struct {
	*core.BlockGen
	block uint64
}

func (m *maker) nonce() uint64 { return m.TxNonce(alice.address) }

func (m *maker) send(inner types.TxData) {
	signer := types.MakeSigner(chainConfig(), m.Number(), m.Timestamp())
	m.AddTx(types.MustSignNewTx(alice.key, signer, inner))
}

// price is a gas price that every block takes.
var price = big.NewInt(20 * params.GWei)

func (m *maker) legacy(to *common.Address, value int64, data []byte) {
	m.send(&types.LegacyTx{Nonce: m.nonce(), To: to, Value: big.NewInt(value), Gas: 500_000, GasPrice: price, Data: data})
}

func (m *maker) dynamic(to *common.Address, value int64, data []byte) {
	m.send(&types.DynamicFeeTx{ChainID: big.NewInt(chainID), Nonce: m.nonce(), To: to, Value: big.NewInt(value), Gas: 500_000,
		GasFeeCap: price, GasTipCap: big.NewInt(params.GWei), Data: data})
}

// word is call data of one word.
func word(v int64) []byte { return common.BigToHash(big.NewInt(v)).Bytes() }

var accessed = types.AccessList{{Address: emitter, StorageKeys: []common.Hash{{}, {31: 1}}}, {Address: bob.address, StorageKeys: []common.Hash{}}}

// fill puts transactions into block number m.block.
func (m *maker) fill() {
	switch m.block {
	case 1: // an unprotected transaction, a transfer
		m.AddTx(types.MustSignNewTx(alice.key, types.HomesteadSigner{}, &types.LegacyTx{Nonce: 0, Gas: 1_000_000, GasPrice: price, Data: deploy(emitterCode)}))
	case 2:
		m.legacy(nil, 0, deploy(manyLoggerCode))
		m.legacy(nil, 0, deploy(factoryCode))
		m.legacy(nil, 5, deploy(destructCode))
		m.legacy(&bob.address, 1_000_000, nil)
	case 5: // an uncle, of block 3
		m.AddUncle(&types.Header{ParentHash: m.PrevBlock(2).Hash(), Number: big.NewInt(4), Coinbase: bob.address, GasLimit: 30_000_000, Extra: []byte("uncle")})
	case 7:
		m.send(&types.AccessListTx{ChainID: big.NewInt(chainID), Nonce: m.nonce(), To: &emitter, Gas: 500_000, GasPrice: price, Data: word(7), AccessList: accessed})
	case 9: // of the first type with its own price
		m.dynamic(&emitter, 0, word(9))
		m.dynamic(&emitter, 0, nil) // reverts
	case 13: // empty, without rewards: the state stays as it was
	case 14, 15:
		m.legacy(&manyLogger, 0, nil)
		m.dynamic(&factory, 0, nil)
	case 17:
		m.AddWithdrawal(&types.Withdrawal{Validator: 42, Address: bob.address, Amount: 1337})
		m.dynamic(&destruct, 0, nil)
	case 21, 32, 34:
		m.send(&types.BlobTx{ChainID: uint256.NewInt(chainID), Nonce: m.nonce(), To: bob.address, Gas: 100_000, GasFeeCap: uint256.MustFromBig(price),
			GasTipCap: uint256.NewInt(1), BlobFeeCap: uint256.NewInt(params.GWei), BlobHashes: []common.Hash{{0: 1, 31: byte(m.block)}}})
		m.SetParentBeaconRoot(common.Hash{0xbe, byte(m.block)})
	case 25, 26: // a delegation, and its end
		to := emitter
		if m.block == 26 {
			to = common.Address{}
		}
		authorization, err := types.SignSetCode(delegator.key, types.SetCodeAuthorization{ChainID: *uint256.NewInt(chainID), Address: to, Nonce: m.block - 25})
		if err != nil {
			panic(err)
		}
		m.send(&types.SetCodeTx{ChainID: uint256.NewInt(chainID), Nonce: m.nonce(), To: delegator.address, Gas: 500_000, GasFeeCap: uint256.MustFromBig(price),
			GasTipCap: uint256.NewInt(1), Data: word(25), AuthList: []types.SetCodeAuthorization{authorization}})
	default:
		m.legacy(&emitter, 0, word(int64(m.block)))
		m.legacy(&emitter, 0, []byte{1}) // out of gas
		if m.block > 9 {
			m.dynamic(&bob.address, 3, []byte("data"))
			m.dynamic(&manyLogger, 0, nil)
		}
	}
}

// testChain is the chain that everything here is about.
type testChain struct {
	genesis *core.Genesis
	blocks  []*types.Block // from 1 on
}

var makeChain = sync.OnceValue(func() testChain {
	genesis := chainGenesis()
	_, blocks, _ := core.GenerateChainWithGenesis(genesis, beacon.New(ethash.NewFaker()), headBlock, func(i int, b *core.BlockGen) {
		m := &maker{b, uint64(i) + 1}
		b.SetCoinbase(common.HexToAddress("0xc01bba5e"))
		if m.block >= mergeBlock {
			b.SetPoS()
		}
		m.fill()
	})
	return testChain{genesis, blocks}
})

// write makes genesis.json and chain.rlp of it, in geth's formats.
func (c testChain) write(t testing.TB, dir string) (genesis, chain string) {
	t.Helper()
	genesis, chain = filepath.Join(dir, "genesis.json"), filepath.Join(dir, "chain.rlp")
	text, err := json.Marshal(c.genesis)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(genesis, text, 0o600))
	var export bytes.Buffer
	require.NoError(t, c.genesis.ToBlock().EncodeRLP(&export)) // geth's export begins with it
	for _, b := range c.blocks {
		require.NoError(t, b.EncodeRLP(&export))
	}
	require.NoError(t, os.WriteFile(chain, export.Bytes(), 0o600))
	return genesis, chain
}
