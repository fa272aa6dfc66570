package engines

import (
	"crypto/ecdsa"
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

	"ledgerd/consensus"
	"ledgerd/contracts"
	"ledgerd/ledger/genesis"
)

const chainID = 1337

// An account is a key that is the same in every run.
type account struct {
	key     *ecdsa.PrivateKey
	address common.Address
}

func newAccount(name ...any) account {
	key, err := crypto.ToECDSA(crypto.Keccak256(fmt.Append(nil, name...)))
	if err != nil {
		panic(err)
	}
	return account{key, crypto.PubkeyToAddress(key.PublicKey)}
}

func (a account) sign(data types.TxData) *types.Transaction {
	return types.MustSignNewTx(a.key, types.LatestSignerForChainID(big.NewInt(chainID)), data)
}

// call is a type 2 transaction; to nil creates a contract.
func (a account) call(nonce uint64, to *common.Address, value int64, data []byte) *types.Transaction {
	return a.sign(&types.DynamicFeeTx{
		ChainID: big.NewInt(chainID), Nonce: nonce, To: to, Gas: enough, GasFeeCap: big.NewInt(2), GasTipCap: big.NewInt(1), Value: big.NewInt(value), Data: data,
	})
}

// enough gas for every transaction that is to succeed, and for a block of many of them.
const enough = 400_000

var (
	senders = func() (all []account) {
		for i := range 8 {
			all = append(all, newAccount("sender", i))
		}
		return all
	}()
	reader = newAccount("reader") // calls the witness
	pauper = newAccount("pauper") // owns nothing

	sink     = common.HexToAddress("0x51")
	coinbase = common.HexToAddress("0xc01bba5e")
)

// The contracts of the genesis block. None but the witness looks at its block. What senders share is added to, which may be done in any order, and costs the same
// whatever it was before.
var (
	tally     = common.HexToAddress("0xc0de01")
	loud      = common.HexToAddress("0xc0de02")
	reverter  = common.HexToAddress("0xc0de03")
	burner    = common.HexToAddress("0xc0de04")
	broken    = common.HexToAddress("0xc0de05")
	forwarder = common.HexToAddress("0xc0de06")
	notes     = common.HexToAddress("0xc0de07")
	witness   = common.HexToAddress("0xc0de08")

	// tallyCode adds the first word of its data to the slot named by the caller, logs the sum, and counts its calls in slot 0.
	tallyCode = program.New().
			Push0().Op(gethvm.CALLDATALOAD, gethvm.CALLER, gethvm.SLOAD, gethvm.ADD).
			Op(gethvm.DUP1, gethvm.CALLER, gethvm.SSTORE).
			Push0().Op(gethvm.MSTORE, gethvm.CALLER).Push(32).Push0().Op(gethvm.LOG1).
			Push(1).Push0().Op(gethvm.SLOAD, gethvm.ADD).Push0().Op(gethvm.SSTORE).Bytes()

	// loudCode logs its data with none to four topics: caller, value, origin and itself.
	loudCode = program.New().
			Op(gethvm.CALLDATASIZE).Push0().Push0().Op(gethvm.CALLDATACOPY).
			Op(gethvm.CALLDATASIZE).Push0().Op(gethvm.LOG0).
			Op(gethvm.CALLER, gethvm.CALLDATASIZE).Push0().Op(gethvm.LOG1).
			Op(gethvm.CALLVALUE, gethvm.CALLER, gethvm.CALLDATASIZE).Push0().Op(gethvm.LOG2).
			Op(gethvm.ORIGIN, gethvm.CALLVALUE, gethvm.CALLER, gethvm.CALLDATASIZE).Push0().Op(gethvm.LOG3).
			Op(gethvm.ADDRESS, gethvm.ORIGIN, gethvm.CALLVALUE, gethvm.CALLER, gethvm.CALLDATASIZE).Push0().Op(gethvm.LOG4).Bytes()

	// reverterCode writes, logs, and takes both back.
	reverterCode = program.New().Sstore(0, 1).Push0().Push0().Op(gethvm.LOG0).
			Op(gethvm.CALLDATASIZE).Push0().Push0().Op(gethvm.CALLDATACOPY).
			Op(gethvm.CALLDATASIZE).Push0().Op(gethvm.REVERT).Bytes()

	burnerCode = program.New().Op(gethvm.JUMPDEST).Push0().Op(gethvm.JUMP).Bytes()

	// forwarderCode calls the reverter, logs whether that went well (it did not) and succeeds.
	forwarderCode = program.New().Call(nil, reverter, 0, 0, 32, 0, 0).Push0().Op(gethvm.MSTORE).Push(32).Push0().Op(gethvm.LOG0).Bytes()

	// notesCode writes the second word of its data into the slot that the first names.
	notesCode = program.New().Push(32).Op(gethvm.CALLDATALOAD).Push0().Op(gethvm.CALLDATALOAD, gethvm.SSTORE).Bytes()

	// witnessCode logs whatever a contract can learn of its block, and last what EIP-4788 has for its time: the digest of the log.
	witnessCode = func() []byte {
		p := program.New()
		for i, op := range []gethvm.OpCode{gethvm.NUMBER, gethvm.TIMESTAMP, gethvm.PREVRANDAO, gethvm.GASLIMIT, gethvm.COINBASE, gethvm.BASEFEE, gethvm.GASPRICE} {
			p.Op(op).Push(32 * i).Op(gethvm.MSTORE)
		}
		p.Push(1).Op(gethvm.NUMBER, gethvm.SUB, gethvm.BLOCKHASH).Push(7 * 32).Op(gethvm.MSTORE)
		p.StaticCall(nil, params.BeaconRootsAddress, 32, 32, 8*32, 32).Op(gethvm.POP)
		return p.Push(9 * 32).Push0().Op(gethvm.LOG0).Bytes()
	}()
)

// What transactions create.
var (
	deploysLoud = program.New().Op(gethvm.CALLER).Push0().Push0().Op(gethvm.LOG1).Op(gethvm.CALLVALUE).Push0().Op(gethvm.SSTORE).ReturnViaCodeCopy(loudCode).Bytes()
	reverts     = program.New().Sstore(0, 1).Push0().Push0().Op(gethvm.REVERT).Bytes()
	tooDear     = program.New().Return(0, params.MaxCodeSize).Bytes() // 200 gas for each byte of it, which is more than enough
	vanishes    = program.New().Sstore(0, 1).Selfdestruct(sink).Bytes()
)

func newGenesis() *genesis.Genesis {
	funded := []common.Address{reader.address}
	for _, s := range senders {
		funded = append(funded, s.address)
	}
	g := genesis.Dev(chainID, funded)
	g.Coinbase = coinbase
	for address, code := range map[common.Address][]byte{
		tally: tallyCode, loud: loudCode, reverter: reverterCode, burner: burnerCode, broken: {byte(gethvm.INVALID)}, forwarder: forwarderCode, notes: notesCode,
		witness: witnessCode,
	} {
		g.Alloc[address] = types.Account{Code: code, Nonce: 1, Balance: new(big.Int)}
	}
	count := g.Alloc[tally] // not zero, which would make the first call dearer than the others
	count.Storage = map[common.Hash]common.Hash{{}: {31: 1}}
	g.Alloc[tally] = count
	return g
}

func networkID(t testing.TB) consensus.NetworkID {
	id, err := newGenesis().NetworkID()
	require.NoError(t, err)
	return id
}

// kinds is how many chores there are.
const kinds = 17

// A chore is one kind of transaction, and whether it succeeds. A sender does one after the other, over and over.
type chore struct {
	name     string
	succeeds bool
	make     func(sender int, nonce uint64) *types.Transaction
}

var chores = [kinds]chore{
	{"legacy transfer", true, func(s int, n uint64) *types.Transaction {
		return senders[s].sign(&types.LegacyTx{Nonce: n, To: &sink, Gas: params.TxGas, GasPrice: big.NewInt(3), Value: big.NewInt(int64(n) + 1)})
	}},
	{"tally", true, func(s int, n uint64) *types.Transaction {
		return senders[s].sign(&types.AccessListTx{
			ChainID: big.NewInt(chainID), Nonce: n, To: &tally, Gas: enough, GasPrice: big.NewInt(1), Data: word(int64(round(n)) + 1),
			AccessList: types.AccessList{{Address: tally, StorageKeys: []common.Hash{{}}}},
		})
	}},
	{"create", true, func(s int, n uint64) *types.Transaction { return senders[s].call(n, nil, 5, deploysLoud) }},
	{"logs", true, func(s int, n uint64) *types.Transaction {
		return senders[s].call(n, &loud, 7, fmt.Append(nil, "note ", n))
	}},
	{"revert", false, func(s int, n uint64) *types.Transaction { return senders[s].call(n, &reverter, 1, word(int64(n))) }},
	{"out of gas", false, func(s int, n uint64) *types.Transaction { return senders[s].call(n, &burner, 0, nil) }},
	{"delegate", true, setCode},
	{"create by the proxy", true, func(s int, n uint64) *types.Transaction {
		salt := crypto.Keccak256(senders[s].address[:], word(int64(n)))
		return senders[s].call(n, &contracts.DeterministicProxyAddress, 0, append(salt, deploysLoud...))
	}},
	{"call what was created", true, func(s int, n uint64) *types.Transaction {
		created := crypto.CreateAddress(senders[s].address, n-8+2)
		return senders[s].call(n, &created, 1, word(int64(n)))
	}},
	{"creation that reverts", false, func(s int, n uint64) *types.Transaction { return senders[s].call(n, nil, 1, reverts) }},
	{"tally back to zero", true, func(s int, n uint64) *types.Transaction {
		return senders[s].call(n, &tally, 0, word(-int64(round(n))-1))
	}},
	{"creation out of gas", false, func(s int, n uint64) *types.Transaction { return senders[s].call(n, nil, 0, tooDear) }},
	{"revert inside", true, func(s int, n uint64) *types.Transaction { return senders[s].call(n, &forwarder, 0, nil) }},
	{"invalid instruction", false, func(s int, n uint64) *types.Transaction { return senders[s].call(n, &broken, 0, nil) }},
	{"store", true, func(s int, n uint64) *types.Transaction {
		slot := crypto.Keccak256(senders[s].address[:], word(int64(n)))
		return senders[s].call(n, &notes, 0, append(slot, word(int64(n))...))
	}},
	{"create and destroy", true, func(s int, n uint64) *types.Transaction { return senders[s].call(n, nil, 9, vanishes) }},
	{"transfer to a sender", true, func(s int, n uint64) *types.Transaction {
		return senders[s].call(n, &senders[(s+1)%len(senders)].address, 11, nil)
	}},
}

// round is how often a sender has done all chores before that nonce.
func round(nonce uint64) uint64 { return nonce / kinds }

func choreOf(nonce uint64) chore { return chores[nonce%kinds] }

// setCode lets an account of its own be the tally, and calls it.
func setCode(s int, n uint64) *types.Transaction {
	authority := newAccount("authority", s, n)
	auth, err := types.SignSetCode(authority.key, types.SetCodeAuthorization{ChainID: *uint256.NewInt(chainID), Address: tally})
	if err != nil {
		panic(err)
	}
	return senders[s].sign(&types.SetCodeTx{
		ChainID: uint256.NewInt(chainID), Nonce: n, To: authority.address, Gas: enough, GasFeeCap: uint256.NewInt(2), GasTipCap: uint256.NewInt(1),
		Value: new(uint256.Int), Data: word(int64(n) + 1), AuthList: []types.SetCodeAuthorization{auth},
	})
}

// word is v as 32 bytes, in two's complement.
func word(v int64) []byte {
	u := uint256.NewInt(uint64(max(v, -v)))
	if v < 0 {
		u.Neg(u)
	}
	b := u.Bytes32()
	return b[:]
}
