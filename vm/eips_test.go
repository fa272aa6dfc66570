package vm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

// What this file is: an example by hand for each change of the forks from Berlin to Osaka that a contract or a wallet
// can see, executed in a block. It is the yardstick for "the Osaka rules" here, since Ethereum's own state tests
// (ethereum/tests, execution-spec-tests) are published as archives and not as a module that a build could pin. The
// EVM underneath is go-ethereum's, which those tests do cover; what these examples add is that the ledger's rules,
// header fields and system calls switch all of it on.

// EIP-1153: transient storage lives as long as the transaction.
func TestEIP1153TransientStorage(t *testing.T) {
	// With calldata: TSTORE(0, 42). Always: SSTORE(calldatasize, TLOAD(0)).
	code := program.New().Op(gethvm.CALLDATASIZE, gethvm.ISZERO).Push(10).Op(gethvm.JUMPI).Tstore(0, 42)
	require.EqualValues(t, 10, code.Label(), "the jump leads over TSTORE")
	code.Op(gethvm.JUMPDEST).Push(0).Op(gethvm.TLOAD, gethvm.CALLDATASIZE, gethvm.SSTORE)
	address, alloc := contractAt(code.Bytes())
	c := newChain(t, alloc)
	c.mustBlock(alice.call(0, address, 100_000, []byte{1}), alice.call(1, address, 100_000, nil))
	require.EqualValues(t, 42, c.slot(address, 1).Uint64(), "in the transaction that wrote it")
	require.Zero(t, c.slot(address, 0).Uint64(), "in the next one of the block")
}

// EIP-5656: MCOPY, here with overlap.
func TestEIP5656Mcopy(t *testing.T) {
	code := program.New().
		Push(0x1234).Push(0).Op(gethvm.MSTORE).
		Push(32).Push(0).Push(2).Op(gethvm.MCOPY). // to 2, from 0, 32 bytes
		Push(2).Op(gethvm.MLOAD).Push(0).Op(gethvm.SSTORE).Bytes()
	c, address, receipt := runCode(t, code, nil)
	require.EqualValues(t, 1, receipt.Status)
	require.EqualValues(t, 0x1234, c.slot(address, 0).Uint64())
}

// EIP-3855: PUSH0 costs 2.
func TestEIP3855Push0(t *testing.T) {
	_, _, receipt := runCode(t, []byte{byte(gethvm.PUSH0), byte(gethvm.POP)}, nil)
	require.EqualValues(t, 1, receipt.Status)
	require.EqualValues(t, 21_000+2+2, receipt.GasUsed)
}

// EIP-2929 and EIP-2930: a cold slot costs 2100, one from the access list 1900 up front and 100.
func TestEIP2929AccessLists(t *testing.T) {
	address, alloc := contractAt(program.New().Push(1).Op(gethvm.SLOAD, gethvm.POP).Bytes())
	c := newChain(t, alloc)
	withList := alice.sign(&types.AccessListTx{ChainID: big.NewInt(testChainID), Nonce: 1, To: &address, Gas: 100_000, GasPrice: gwei,
		AccessList: types.AccessList{{Address: address, StorageKeys: []common.Hash{{31: 1}}}}})
	res := c.mustBlock(alice.call(0, address, 100_000, nil), withList)
	require.EqualValues(t, 21_000+3+2100+2, res.Receipts[0].GasUsed)
	require.EqualValues(t, 21_000+2400+1900+3+100+2, res.Receipts[1].GasUsed)
}

// EIP-3651: the coinbase is warm.
func TestEIP3651WarmCoinbase(t *testing.T) {
	_, _, receipt := runCode(t, program.New().Op(gethvm.COINBASE, gethvm.BALANCE, gethvm.POP).Bytes(), nil)
	require.EqualValues(t, 21_000+2+100+2, receipt.GasUsed)
}

// EIP-3529: clearing a slot refunds 4800, and a refund is at most a fifth of the gas.
func TestEIP3529Refunds(t *testing.T) {
	for _, test := range []struct{ slots, want uint64 }{
		{1, 21_000 + 5_005 - 4_800},
		{10, (21_000 + 10*5_005) - (21_000+10*5_005)/5},
	} {
		code, storage := program.New(), map[common.Hash]common.Hash{}
		for i := range test.slots {
			code.Push0().Push(i + 1).Op(gethvm.SSTORE)
			storage[common.Hash{31: byte(i + 1)}] = common.Hash{1}
		}
		address, alloc := contractAt(code.Bytes())
		a := alloc[address]
		a.Storage = storage
		alloc[address] = a
		c := newChain(t, alloc)
		require.Equal(t, test.want, c.mustBlock(alice.call(0, address, 1_000_000, nil)).GasUsed)
	}
}

// EIP-3860: init code costs 2 a word and has at most 49152 bytes (more is a skip, see TestSkips). Without a JUMPDEST
// or a return, it deploys nothing.
func TestEIP3860InitCode(t *testing.T) {
	c := newChain(t, nil)
	res := c.mustBlock(alice.create(0, 100_000, []byte{0}), alice.create(1, 1_000_000, make([]byte, params.MaxInitCodeSize)))
	require.EqualValues(t, 53_000+4+2, res.Receipts[0].GasUsed)
	// EIP-7623's floor is above what the data costs.
	require.EqualValues(t, 21_000+10*params.MaxInitCodeSize, res.Receipts[1].GasUsed)
}

// EIP-3541 and EIP-170: no code that starts with 0xEF, none above 24576 bytes.
func TestCodeLimits(t *testing.T) {
	c := newChain(t, nil)
	res := c.block(
		alice.create(0, 1_000_000, deployer([]byte{0xef})),
		alice.create(1, 10_000_000, program.New().Return(0, params.MaxCodeSize+1).Bytes()),
		alice.create(2, 10_000_000, program.New().Return(0, params.MaxCodeSize).Bytes()),
	)
	require.Empty(t, res.Skipped)
	require.Equal(t, []uint64{0, 0, 1}, []uint64{res.Receipts[0].Status, res.Receipts[1].Status, res.Receipts[2].Status})
}

// EIP-7623: calldata costs at least 10 a token, a token being a zero byte or a quarter of another.
func TestEIP7623CalldataFloor(t *testing.T) {
	c := newChain(t, nil)
	res := c.mustBlock(alice.call(0, bob.addr, 100_000, bytes.Repeat([]byte{1}, 100)))
	require.EqualValues(t, 21_000+100*4*10, res.GasUsed)
}

// EIP-6780: SELFDESTRUCT moves the balance, but deletes only what was created in the same transaction.
func TestEIP6780SelfDestruct(t *testing.T) {
	code := program.New().Selfdestruct(bob.addr).Bytes()
	address, alloc := contractAt(code)
	c := newChain(t, alloc)
	before := c.state().GetBalance(bob.addr).Clone()
	// Init code that destructs itself: created and gone.
	res := c.mustBlock(alice.call(0, address, 100_000, nil), alice.create(1, 100_000, code))
	st := c.state()
	require.Equal(t, code, st.GetCode(address))
	require.True(t, st.GetBalance(address).IsZero())
	require.Equal(t, new(uint256.Int).AddUint64(before, 1), st.GetBalance(bob.addr))
	require.False(t, st.Exist(res.Receipts[1].ContractAddress))
}

// EIP-7702: whoever signs an authorization gets code, whoever sends it pays. Bad authorizations are ignored one by one.
func TestEIP7702Delegation(t *testing.T) {
	address, alloc := contractAt(program.New().Op(gethvm.CALLER).Push(0).Op(gethvm.SSTORE).Bytes())
	c := newChain(t, alloc)
	authorize := func(a account, chainID, nonce uint64, to common.Address) types.SetCodeAuthorization {
		auth, err := types.SignSetCode(a.key, types.SetCodeAuthorization{ChainID: *uint256.NewInt(chainID), Address: to, Nonce: nonce})
		require.NoError(t, err)
		return auth
	}
	setCode := func(nonce uint64, to common.Address, auths ...types.SetCodeAuthorization) *types.Transaction {
		return alice.sign(&types.SetCodeTx{ChainID: uint256.NewInt(testChainID), Nonce: nonce, To: to, Gas: 500_000,
			GasFeeCap: uint256.NewInt(params.GWei), GasTipCap: new(uint256.Int), AuthList: auths})
	}
	res := c.mustBlock(setCode(0, pauper.addr,
		authorize(pauper, testChainID, 0, address),
		authorize(bob, 1, 0, address),             // another chain's
		authorize(bob, testChainID, 5, address),   // wrong nonce
		authorize(carol, 0, 0, carol.addr),        // any chain's
		authorize(alice, testChainID, 1, address), // the sender herself: her nonce is 1 by now
	))
	st := c.state()
	require.Equal(t, types.AddressToDelegation(address), st.GetCode(pauper.addr))
	require.EqualValues(t, 1, st.GetNonce(pauper.addr))
	require.Equal(t, new(uint256.Int).SetBytes(alice.addr[:]), c.slot(pauper.addr, 0), "ran on the authority's storage")
	require.Empty(t, st.GetCode(bob.addr))
	require.Zero(t, st.GetNonce(bob.addr))
	require.Equal(t, types.AddressToDelegation(carol.addr), st.GetCode(carol.addr))
	require.EqualValues(t, 2, st.GetNonce(alice.addr))
	require.EqualValues(t, types.SetCodeTxType, res.Receipts[0].Type)

	// A delegated account can still send (EIP-3607 makes the exception), and can take the code off again.
	c.mustBlock(carol.transfer(1, bob.addr), setCode(2, bob.addr, authorize(pauper, testChainID, 1, common.Address{})))
	require.Empty(t, c.state().GetCode(pauper.addr))
}

// EIP-7939: CLZ counts leading zero bits, for 5 gas.
func TestEIP7939CountLeadingZeros(t *testing.T) {
	for value, want := range map[uint64]uint64{0: 256, 1: 255, 0xffff: 240} {
		c, address, receipt := runCode(t, program.New().Push(value).Op(gethvm.CLZ).Push(0).Op(gethvm.SSTORE).Bytes(), nil)
		require.EqualValues(t, 1, receipt.Status)
		require.Equal(t, want, c.slot(address, 0).Uint64(), "CLZ(%d)", value)
	}
	_, _, receipt := runCode(t, []byte{byte(gethvm.PUSH0), byte(gethvm.CLZ), byte(gethvm.POP)}, nil)
	require.EqualValues(t, 21_000+2+5+2, receipt.GasUsed)
}

// EIP-4788 and EIP-2935: a contract can read the log digest (the "beacon root") and the parent hash of the block.
func TestSystemContractsAreReadable(t *testing.T) {
	ask := func(p *program.Program, contract common.Address, slot int) {
		p.Push(0).Op(gethvm.MSTORE)
		p.StaticCall(nil, contract, 0, 32, 32, 32).Op(gethvm.POP)
		p.Push(32).Op(gethvm.MLOAD).Push(slot).Op(gethvm.SSTORE)
	}
	p := program.New()
	ask(p.Op(gethvm.TIMESTAMP), params.BeaconRootsAddress, 0)
	ask(p.Push(1).Op(gethvm.NUMBER, gethvm.SUB), params.HistoryStorageAddress, 1)
	p.Push(1).Op(gethvm.NUMBER, gethvm.SUB, gethvm.BLOCKHASH).Push(2).Op(gethvm.SSTORE)
	p.Push(3).Op(gethvm.NUMBER, gethvm.SUB, gethvm.BLOCKHASH).Push(3).Op(gethvm.SSTORE)
	p.Op(gethvm.PREVRANDAO).Push(4).Op(gethvm.SSTORE)
	p.Op(gethvm.BLOBBASEFEE).Push(5).Op(gethvm.SSTORE)

	address, alloc := contractAt(p.Bytes())
	c := newChain(t, alloc)
	genesis := c.head.Hash()
	c.mustBlock(bob.transfer(0, alice.addr))
	c.mustBlock(bob.transfer(1, alice.addr))
	env := c.env()
	c.mustBlock(alice.call(0, address, 1_000_000, nil))
	st := c.state()
	get := func(slot byte) common.Hash { return st.GetState(address, common.Hash{31: slot}) }
	require.Equal(t, env.BeaconRoot, get(0))
	require.Equal(t, env.ParentHash, get(1))
	require.Equal(t, env.ParentHash, get(2))
	require.Equal(t, genesis, get(3), "BLOCKHASH walks the headers")
	require.Equal(t, env.PrevRandao, get(4))
	require.Equal(t, common.Hash{31: 1}, get(5), "no blob, so the least fee")
}

// EIP-7002 and EIP-7685: a request that a contract queued is dequeued after the block and is in the header.
func TestEIP7002Requests(t *testing.T) {
	c := newChain(t, nil)
	request := bytes.Repeat([]byte{7}, 48+8) // public key, amount
	res := c.mustBlock(alice.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), To: &params.WithdrawalQueueAddress, Gas: 1_000_000,
		GasFeeCap: gwei, GasTipCap: new(big.Int), Value: big.NewInt(1), Data: request}))
	want := types.CalcRequestsHash([][]byte{append(append([]byte{1}, alice.addr[:]...), request...)})
	require.Equal(t, want, *res.Block.Header().RequestsHash)
	require.Equal(t, types.EmptyRequestsHash, *c.mustBlock(alice.transfer(1, bob.addr)).Block.Header().RequestsHash)
}

// EIP-1559: the base fee is burnt, the tip goes to the coinbase, and the sender pays no more than both.
func TestFees(t *testing.T) {
	c := newChain(t, nil)
	c.baseFee = uint256.NewInt(params.GWei)
	balances := func() (a, b, miner *big.Int) {
		st := c.state()
		return st.GetBalance(alice.addr).ToBig(), st.GetBalance(bob.addr).ToBig(), st.GetBalance(coinbase).ToBig()
	}
	a0, b0, _ := balances()
	res := c.mustBlock(alice.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), To: &bob.addr, Gas: 50_000, Value: big.NewInt(5),
		GasFeeCap: big.NewInt(10 * params.GWei), GasTipCap: big.NewInt(2 * params.GWei)}))
	a1, b1, miner := balances()
	require.Equal(t, big.NewInt(3*params.GWei), res.Receipts[0].EffectiveGasPrice)
	require.Equal(t, big.NewInt(21_000*3*params.GWei+5), a0.Sub(a0, a1))
	require.Equal(t, big.NewInt(5), b1.Sub(b1, b0))
	require.Equal(t, big.NewInt(21_000*2*params.GWei), miner)
	require.Equal(t, big.NewInt(params.GWei), c.head.BaseFee)
}

// A base fee of 0 stays 0 through a block that is more than half full, and transactions may pay nothing.
func TestFreeGas(t *testing.T) {
	c := newChain(t, nil)
	c.gasLimit = 30_000
	free := func(nonce uint64) *types.Transaction {
		return alice.sign(&types.DynamicFeeTx{ChainID: big.NewInt(testChainID), Nonce: nonce, To: &bob.addr, Gas: 21_000, GasFeeCap: new(big.Int), GasTipCap: new(big.Int)})
	}
	before := c.state().GetBalance(alice.addr).Clone()
	for nonce := range uint64(3) {
		c.mustBlock(free(nonce))
		require.Zero(t, c.head.BaseFee.Sign())
	}
	require.Equal(t, before, c.state().GetBalance(alice.addr))
	require.False(t, c.state().Exist(coinbase), "a tip of nothing leaves no empty account")
}

// precompileProxy calls the precompile named by calldata's second word with the gas in its first and the input behind
// them, and stores: slot 0 success, slot 1 the hash of the output, slot 2 its size.
var precompileProxy = program.New().
	Push(64).Op(gethvm.CALLDATASIZE, gethvm.SUB).
	Op(gethvm.DUP1).Push(64).Push0().Op(gethvm.CALLDATACOPY).
	Push0().Push0().Op(gethvm.DUP3).Push0().
	Push(32).Op(gethvm.CALLDATALOAD).Push0().Op(gethvm.CALLDATALOAD, gethvm.STATICCALL).
	Push0().Op(gethvm.SSTORE).
	Op(gethvm.RETURNDATASIZE).Push0().Push0().Op(gethvm.RETURNDATACOPY).
	Op(gethvm.RETURNDATASIZE).Push0().Op(gethvm.KECCAK256).Push(1).Op(gethvm.SSTORE).
	Op(gethvm.RETURNDATASIZE).Push(2).Op(gethvm.SSTORE).Bytes()

func modexpInput(base, exponent, modulus []byte) []byte {
	var in []byte
	for _, v := range [][]byte{base, exponent, modulus} {
		in = append(in, common.BigToHash(big.NewInt(int64(len(v)))).Bytes()...)
	}
	return append(append(append(in, base...), exponent...), modulus...)
}

func p256Input(tamper bool) []byte {
	hash := crypto.Keccak256([]byte("message"))
	secret := crypto.Keccak256([]byte("p256"))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret)
	if err != nil {
		panic(err)
	}
	public, err := key.PublicKey.Bytes() // 0x04, x, y
	if err != nil {
		panic(err)
	}
	// A signature with the nonce 1, whose r is the base point's x: fine for a test, and the same in every run.
	n := key.Params().N
	r := new(big.Int).Mod(key.Params().Gx, n)
	s := new(big.Int).Mul(r, new(big.Int).SetBytes(secret))
	s.Add(s, new(big.Int).SetBytes(hash)).Mod(s, n)
	if tamper {
		s.Add(s, common.Big1)
	}
	in := append([]byte{}, hash...)
	for _, v := range []*big.Int{r, s} {
		in = append(in, common.BigToHash(v).Bytes()...)
	}
	return append(in, public[1:]...)
}

var blsG1 = append(append(make([]byte, 16), common.FromHex("17f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb")...),
	append(make([]byte, 16), common.FromHex("08b3f481e3aaa0f1a09e30ed741d8ae4fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1")...)...)

// The precompiles that Prague and Osaka brought or repriced: the price, to the gas, and the output.
func TestPrecompiles(t *testing.T) {
	one := common.BigToHash(common.Big1).Bytes()
	for _, test := range []struct {
		name    string
		address byte
		high    byte // second byte of the address from the right
		input   []byte
		gas     uint64
		want    []byte
	}{
		{name: "MODEXP costs at least 500 (EIP-7883)", address: 5, input: modexpInput([]byte{3}, []byte{2}, []byte{5}), gas: 500, want: []byte{4}},
		{name: "MODEXP of 64 bytes to the 65537th (EIP-7883)", address: 5,
			input: modexpInput(append(make([]byte, 63), 2), []byte{1, 0, 1}, bytes.Repeat([]byte{255}, 64)), gas: 2048,
			want: new(big.Int).Exp(common.Big2, big.NewInt(65537), new(big.Int).SetBytes(bytes.Repeat([]byte{255}, 64))).FillBytes(make([]byte, 64))},
		{name: "P256VERIFY (EIP-7951)", high: 1, input: p256Input(false), gas: 6900, want: one},
		{name: "P256VERIFY, wrong signature", high: 1, input: p256Input(true), gas: 6900, want: nil},
		{name: "BLS12_G1ADD (EIP-2537)", address: 0x0b, input: append(make([]byte, 128), blsG1...), gas: 375, want: blsG1},
	} {
		t.Run(test.name, func(t *testing.T) {
			precompile := common.Address{18: test.high, 19: test.address}
			call := func(gas uint64) []byte {
				return append(append(common.BigToHash(new(big.Int).SetUint64(gas)).Bytes(), common.LeftPadBytes(precompile[:], 32)...), test.input...)
			}
			c, proxy, receipt := runCode(t, precompileProxy, call(test.gas))
			require.EqualValues(t, 1, receipt.Status)
			require.EqualValues(t, 1, c.slot(proxy, 0).Uint64(), "the call succeeds")
			require.EqualValues(t, len(test.want), c.slot(proxy, 2).Uint64())
			require.Equal(t, crypto.Keccak256Hash(test.want), common.Hash(c.slot(proxy, 1).Bytes32()))

			c.mustBlock(alice.call(1, proxy, 10_000_000, call(test.gas-1)))
			require.Zero(t, c.slot(proxy, 0).Uint64(), "with one gas less it does not")
		})
	}
}

// EIP-7823: no input of MODEXP has more than 1024 bytes.
func TestEIP7823ModexpBounds(t *testing.T) {
	for size, want := range map[int]uint64{1024: 1, 1025: 0} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			input := modexpInput(make([]byte, size), []byte{1}, []byte{5})
			data := append(append(common.BigToHash(big.NewInt(1_000_000)).Bytes(), common.Hash{31: 5}.Bytes()...), input...)
			c, proxy, receipt := runCode(t, precompileProxy, data)
			require.EqualValues(t, 1, receipt.Status)
			require.Equal(t, want, c.slot(proxy, 0).Uint64())
		})
	}
}

// EIP-7825 caps a transaction at 2^24 gas; the cap itself is allowed.
func TestEIP7825Cap(t *testing.T) {
	c := newChain(t, nil)
	c.mustBlock(alice.call(0, bob.addr, 1<<24, nil))
}
