package vm

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	gethvm "github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/program"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"ledgerd/contracts"
)

// permissionsAlloc is the contract's place and layout with code that lets anyone write any slot: what is tested here
// is what the executor makes of the slots, not who may change them.
func permissionsAlloc(restrictions uint64, flags map[account]uint64) types.GenesisAlloc {
	storage := map[common.Hash]common.Hash{contracts.RestrictionsSlot: common.BigToHash(new(big.Int).SetUint64(restrictions))}
	for a, f := range flags {
		storage[contracts.PermissionsSlot(a.addr)] = common.BigToHash(new(big.Int).SetUint64(f))
	}
	return types.GenesisAlloc{contracts.PermissionsAddress: {Code: storeCode, Nonce: 1, Storage: storage, Balance: new(big.Int)}}
}

// setFlags is a transaction that changes the flags of an account.
func setFlags(by account, nonce uint64, of account, flags uint64) *types.Transaction {
	return by.call(nonce, contracts.PermissionsAddress, 100_000, storeData(contracts.PermissionsSlot(of.addr), flags))
}

func setRestrictions(by account, nonce uint64, restrictions uint64) *types.Transaction {
	return by.call(nonce, contracts.PermissionsAddress, 100_000, storeData(contracts.RestrictionsSlot, restrictions))
}

func TestPermittedTable(t *testing.T) {
	const (
		send, deploy = contracts.FlagSend, contracts.FlagDeploy
		rSend, rDep  = contracts.RestrictSend, contracts.RestrictDeploy
	)
	for _, test := range []struct {
		restrictions, flags uint64
		call, create        error
	}{
		{0, 0, nil, nil},
		{rSend, 0, ErrSendNotPermitted, ErrSendNotPermitted},
		{rSend, deploy, ErrSendNotPermitted, ErrSendNotPermitted},
		{rSend, send, nil, nil},
		{rDep, 0, nil, ErrDeployNotPermitted},
		{rDep, send, nil, ErrDeployNotPermitted},
		{rDep, deploy, nil, nil},
		{rSend | rDep, send, nil, ErrDeployNotPermitted},
		{rSend | rDep, send | deploy, nil, nil},
		{rSend | rDep, contracts.FlagAdmin, ErrSendNotPermitted, ErrSendNotPermitted},
		{1 << 7, 0, nil, nil}, // a restriction of the future restricts nothing that we know
	} {
		t.Run(fmt.Sprintf("restrictions %b flags %b", test.restrictions, test.flags), func(t *testing.T) {
			c := newChain(t, permissionsAlloc(test.restrictions, map[account]uint64{alice: test.flags}))
			check := func(tx *types.Transaction, want error) {
				create := tx.To() == nil
				got := Permitted(c.state(), alice.addr, create)
				res := c.try(tx)
				if want == nil {
					require.NoError(t, got)
					require.Empty(t, res.Skipped)
					return
				}
				require.ErrorIs(t, got, want)
				require.Len(t, res.Skipped, 1)
				require.ErrorIs(t, res.Skipped[0].Err, want)
				require.Nil(t, res.Block)
			}
			require.Equal(t, AccountPermissions{
				RestrictSend: test.restrictions&rSend != 0, RestrictDeploy: test.restrictions&rDep != 0,
				Send: test.flags&send != 0, Deploy: test.flags&deploy != 0, Administer: test.flags&contracts.FlagAdmin != 0,
			}, PermissionsOf(c.state(), alice.addr))
			check(alice.transfer(0, bob.addr), test.call)
			check(alice.create(0, 100_000, []byte{0}), test.create)
		})
	}
}

// A ledger without the contract, or with other things at its place, is open.
func TestPermissionsAbsent(t *testing.T) {
	require.NoError(t, Permitted(newChain(t, nil).state(), alice.addr, true))
}

// Invariant 4, in both directions: revoked and granted earlier in the same block.
func TestPermissionsAtTheTurn(t *testing.T) {
	all := contracts.FlagSend | contracts.FlagDeploy
	c := newChain(t, permissionsAlloc(contracts.RestrictSend|contracts.RestrictDeploy, map[account]uint64{alice: all, bob: all}))
	res := c.block(
		bob.create(0, 100_000, []byte{0}),
		carol.transfer(0, bob.addr), // not yet
		setFlags(alice, 0, bob, contracts.FlagSend),
		bob.create(1, 100_000, []byte{0}), // no longer
		bob.transfer(1, carol.addr),
		setFlags(alice, 1, carol, contracts.FlagSend),
		carol.transfer(0, bob.addr),
		setFlags(alice, 2, bob, 0),
		bob.transfer(2, carol.addr), // no longer
		bob.transfer(0, carol.addr), // used, which is said first
		setRestrictions(alice, 3, 0),
		bob.create(2, 100_000, []byte{0}),
		setFlags(alice, 4, alice, 0),
		alice.transfer(5, bob.addr),
		setRestrictions(alice, 6, contracts.RestrictSend),
		alice.transfer(7, bob.addr), // locked out by her own hand
	)
	want := map[int]error{1: ErrSendNotPermitted, 3: ErrDeployNotPermitted, 8: ErrSendNotPermitted, 9: core.ErrNonceTooLow, 15: ErrSendNotPermitted}
	require.Len(t, res.Skipped, len(want))
	for _, s := range res.Skipped {
		require.ErrorIs(t, s.Err, want[s.Index], "transaction %d", s.Index)
	}
}

// A change of permissions that its transaction reverts is none.
func TestRevertedPermissionChange(t *testing.T) {
	caller, alloc := contractAt(program.New().
		Mstore(storeData(contracts.RestrictionsSlot, contracts.RestrictSend), 0).
		Call(nil, contracts.PermissionsAddress, 0, 0, 64, 0, 0).Push0().Push0().Op(gethvm.REVERT).Bytes())
	for address, account := range permissionsAlloc(0, nil) {
		alloc[address] = account
	}
	c := newChain(t, alloc)
	res := c.block(alice.call(0, caller, 200_000, nil), alice.transfer(1, bob.addr))
	require.Empty(t, res.Skipped)
	require.Zero(t, res.Receipts[0].Status)
}

// factories are contracts that create others, each by a different way.
func factories() map[string][]byte {
	child := deployer([]byte{0x60, 1})
	create := func() *program.Program {
		return program.New().Mstore(child, 0).Push(len(child)).Push0().Push0().Op(gethvm.CREATE)
	}
	inner := common.HexToAddress("0xc0de000000000000000000000000000000000002")
	return map[string][]byte{
		"CREATE":                  create().Bytes(),
		"CREATE2":                 program.New().Create2(child, 1).Bytes(),
		"CREATE of empty code":    program.New().Push0().Push0().Push0().Op(gethvm.CREATE).Bytes(),
		"CREATE, then revert":     create().Push0().Push0().Op(gethvm.REVERT).Bytes(),
		"CREATE, init reverts":    program.New().Mstore([]byte{0x5f, 0x5f, 0xfd}, 0).Push(3).Push0().Push0().Op(gethvm.CREATE).Bytes(),
		"CREATE in a call":        program.New().Call(nil, inner, 0, 0, 0, 0, 0).Bytes(),
		"CREATE in a delegate":    program.New().DelegateCall(nil, inner, 0, 0, 0, 0).Bytes(),
		"CREATE, then endless":    create().Append([]byte{0x5b, 0x60, byte(create().Size()), 0x56}).Bytes(),
		"CREATE after side ones":  append(program.New().Sstore(1, 2).Tstore(1, 2).Push0().Push0().Op(gethvm.LOG0).Call(nil, bob.addr, 1, 0, 0, 0, 0).Bytes(), create().Bytes()...),
		"CREATE and selfdestruct": create().Selfdestruct(bob.addr).Bytes(),
	}
}

var innerFactory = types.GenesisAlloc{common.HexToAddress("0xc0de000000000000000000000000000000000002"): {
	Nonce: 1, Balance: big.NewInt(1), Code: program.New().Create2(deployer([]byte{0x60, 1}), 2).Bytes(),
}}

// deploy is attributed to tx.origin: a factory is no way around it, whatever it does afterwards, and the block is as
// if the transaction had not been there. Who has the flag may use the factory.
func TestFactories(t *testing.T) {
	for name, code := range factories() {
		t.Run(name, func(t *testing.T) {
			factory, alloc := contractAt(code)
			for _, more := range []types.GenesisAlloc{innerFactory, permissionsAlloc(contracts.RestrictDeploy, map[account]uint64{alice: contracts.FlagDeploy})} {
				for address, account := range more {
					alloc[address] = account
				}
			}
			c := newChain(t, alloc)
			first, last := alice.transfer(0, bob.addr), bob.transfer(0, carol.addr)
			want := c.try(first, last)
			got := c.try(first, bob.call(0, factory, 1_000_000, nil), last)
			require.Len(t, got.Skipped, 1)
			require.ErrorIs(t, got.Skipped[0].Err, ErrDeployNotPermitted)
			require.ErrorContains(t, got.Skipped[0].Err, bob.addr.Hex())
			require.Equal(t, want.Block.Hash(), got.Block.Hash(), "the skipped transaction left a trace")
			require.Equal(t, want.Receipts, got.Receipts)

			require.Empty(t, c.try(alice.call(0, factory, 1_000_000, nil)).Skipped)
		})
	}
}

// A tripped guard stops the interpreter. No block shows whether it does: without it, an endless loop behind the CREATE
// would burn its gas, 2^24 at most, before it is skipped.
func TestGuardStopsTheExecution(t *testing.T) {
	c := newChain(t, nil)
	run := newBlockRun(c.x, c.state(), &types.Header{Number: common.Big1, Difficulty: new(big.Int), BaseFee: new(big.Int)})
	defer run.release()
	guard := &deployGuard{recorder: &run.accounts, evm: run.evm, sender: bob.addr}
	guard.CreateContract(carol.addr)
	require.True(t, guard.tripped)
	require.True(t, run.evm.Cancelled())
}

// What only looks like a deployment is none: a CREATE that is never reached, or that fails before it creates.
func TestGuardDoesNotOverreach(t *testing.T) {
	for name, code := range map[string][]byte{
		"not reached":          append([]byte{0}, program.New().Create2([]byte{0}, 1).Bytes()...),
		"endowment not there":  program.New().Push0().Push0().Push(1000).Op(gethvm.CREATE, gethvm.POP).Bytes(),
		"calls and logs":       program.New().Sstore(1, 2).Push0().Push0().Op(gethvm.LOG0).Call(nil, bob.addr, 1, 0, 0, 0, 0).Bytes(),
		"reverts before":       append(program.New().Push0().Push0().Op(gethvm.REVERT).Bytes(), byte(gethvm.CREATE)),
		"out of gas before it": program.New().Push(1).Push(1<<30).Op(gethvm.MSTORE, gethvm.CREATE).Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			address, alloc := contractAt(code)
			for a, account := range permissionsAlloc(contracts.RestrictDeploy, nil) {
				alloc[a] = account
			}
			open := newChain(t, func() types.GenesisAlloc { _, a := contractAt(code); return a }())
			restricted := newChain(t, alloc)
			tx := bob.call(0, address, 1_000_000, nil)
			got, want := restricted.try(tx), open.try(tx)
			require.Empty(t, got.Skipped)
			require.Equal(t, want.GasUsed, got.GasUsed, "reading the permissions must cost no gas")
			require.Equal(t, want.Receipts[0].Status, got.Receipts[0].Status)
		})
	}
}

// The sender of a set-code transaction is who sends it; the authorities need no permission.
func TestPermissionsOfSponsors(t *testing.T) {
	address, alloc := contractAt([]byte{0})
	for a, account := range permissionsAlloc(contracts.RestrictSend, map[account]uint64{alice: contracts.FlagSend}) {
		alloc[a] = account
	}
	c := newChain(t, alloc)
	auth, err := types.SignSetCode(bob.key, types.SetCodeAuthorization{Address: address})
	require.NoError(t, err)
	setCode := func(by account) *types.Transaction {
		return by.sign(&types.SetCodeTx{ChainID: uint256.NewInt(testChainID), To: bob.addr, Gas: 100_000,
			GasFeeCap: uint256.NewInt(params.GWei), GasTipCap: new(uint256.Int), AuthList: []types.SetCodeAuthorization{auth}})
	}
	res := c.block(setCode(carol), setCode(alice))
	require.Len(t, res.Skipped, 1)
	require.ErrorIs(t, res.Skipped[0].Err, ErrSendNotPermitted)
	require.Equal(t, types.AddressToDelegation(address), c.state().GetCode(bob.addr))
}

// Invariant 2 where it is hardest to keep: transactions that do anything at all before the CREATE for which they are
// skipped. Each of them is a random program; the block with them must be the block without.
func TestRandomSkippedPrograms(t *testing.T) {
	const seed = 42
	random := rand.New(rand.NewPCG(seed, 0))
	targets := []common.Address{
		bob.addr, carol.addr, coinbase, contracts.PermissionsAddress, ripemd, {19: 1}, {19: 0xff}, params.HistoryStorageAddress,
		common.HexToAddress("0xc0de000000000000000000000000000000000001"),
	}
	small := func() int { return random.IntN(4) }
	target := func() common.Address { return targets[random.IntN(len(targets))] }
	steps := []func(*program.Program){
		func(p *program.Program) { p.Sstore(small(), small()) },
		func(p *program.Program) { p.Tstore(small(), small()) },
		func(p *program.Program) { p.Push(small()).Op(gethvm.SLOAD, gethvm.POP) },
		func(p *program.Program) { p.Push(target()).Op(gethvm.BALANCE, gethvm.POP) },
		func(p *program.Program) { p.Push(target()).Op(gethvm.EXTCODEHASH, gethvm.POP) },
		func(p *program.Program) { p.Push(small()).Push(32).Push(0).Op(gethvm.LOG1) },
		func(p *program.Program) {
			p.Call(uint256.NewInt(50_000), target(), small(), 0, 32, 0, 0).Op(gethvm.POP)
		},
		func(p *program.Program) { p.DelegateCall(uint256.NewInt(50_000), target(), 0, 32, 0, 0).Op(gethvm.POP) },
		func(p *program.Program) { p.Push(32).Push0().Op(gethvm.KECCAK256, gethvm.POP) },
	}
	for i := range 150 {
		p := program.New()
		for range random.IntN(10) {
			steps[random.IntN(len(steps))](p)
		}
		init := program.New()
		for range random.IntN(4) {
			steps[random.IntN(len(steps))](init)
		}
		if random.IntN(3) == 0 {
			init.Selfdestruct(target())
		}
		p.Mstore(init.Bytes(), 0).Push(init.Size()).Push0().Push0().Op(gethvm.CREATE, gethvm.POP)
		for range random.IntN(4) {
			steps[random.IntN(len(steps))](p)
		}
		address, alloc := contractAt(p.Bytes())
		contract := alloc[address]
		contract.Balance, contract.Storage = big.NewInt(1000), map[common.Hash]common.Hash{{31: 1}: {31: 1}, {31: 2}: {31: 2}}
		alloc[address] = contract
		for a, account := range permissionsAlloc(contracts.RestrictDeploy, map[account]uint64{alice: contracts.FlagDeploy}) {
			alloc[a] = account
		}
		if i%2 == 0 {
			alloc[ripemd] = types.Account{Balance: common.Big1}
		}
		c := newChain(t, alloc)
		clean := []*types.Transaction{
			alice.call(0, address, 2_000_000, nil),
			carol.sign(&types.LegacyTx{To: &ripemd, Gas: 30_000, GasPrice: gwei, Value: common.Big1}),
			alice.call(1, address, 2_000_000, nil), bob.transfer(0, carol.addr),
		}
		dirty := []*types.Transaction{
			bob.call(0, address, 2_000_000, nil), clean[0], bob.call(0, address, 2_000_000, nil), clean[1],
			bob.call(0, address, 1_999_999, nil), clean[2], bob.call(0, address, 2_000_000, nil), clean[3],
		}
		want, got := c.try(clean...), c.try(dirty...)
		require.Equal(t, want.Block.Hash(), got.Block.Hash(), "seed %d, program %d: %x", seed, i, p.Bytes())
		require.Len(t, got.Skipped, 4)
		for _, s := range got.Skipped {
			require.ErrorIs(t, s.Err, ErrDeployNotPermitted)
		}
	}
}

// The slots are Solidity's: mapping(address => uint256) at slot 0.
func TestPermissionsSlot(t *testing.T) {
	want := crypto.Keccak256Hash(common.LeftPadBytes(alice.addr[:], 32), make([]byte, 32))
	require.Equal(t, want, contracts.PermissionsSlot(alice.addr))
}

// method encodes a call of one of the Permissions contract's functions, of words.
func method(signature string, words ...any) []byte {
	data := crypto.Keccak256([]byte(signature))[:4]
	for _, w := range words {
		switch w := w.(type) {
		case common.Address:
			data = append(data, common.LeftPadBytes(w[:], 32)...)
		case uint64:
			data = append(data, common.BigToHash(new(big.Int).SetUint64(w)).Bytes()...)
		default:
			panic(fmt.Sprintf("no word: %T", w))
		}
	}
	return data
}

// The real contract: it says of every account what the executor does, for all flags and restrictions, and what it is
// told in a block counts for the rest of the block.
func TestPermissionsContract(t *testing.T) {
	all := contracts.FlagSend | contracts.FlagDeploy
	genesis := contracts.Predeploys()
	genesis[contracts.PermissionsAddress] = contracts.Permissions{
		RestrictSend: true, RestrictDeploy: true, Admins: []common.Address{alice.addr}, Senders: []common.Address{bob.addr}, Deployers: []common.Address{bob.addr},
	}.Account()
	c := newChain(t, genesis)

	nonce := uint64(0)
	change := func(signature string, words ...any) *types.Transaction {
		nonce++
		return alice.call(nonce-1, contracts.PermissionsAddress, 200_000, method(signature, words...))
	}
	agree := func(a common.Address) {
		asks := func(signature string) bool {
			return !c.word(CallMsg{To: &contracts.PermissionsAddress, Data: method(signature, a)}, CallOptions{}).IsZero()
		}
		send, deploy := permissions(c.state(), a)
		require.Equal(t, asks("maySend(address)"), send)
		require.Equal(t, asks("mayDeploy(address)"), deploy)
	}

	res := c.block(
		bob.create(0, 200_000, deployer([]byte{0})),
		change("revoke(address,uint256)", bob.addr, contracts.FlagDeploy),
		bob.create(1, 200_000, deployer([]byte{0})),
		carol.transfer(0, bob.addr),
		change("grant(address,uint256)", carol.addr, contracts.FlagSend),
		carol.transfer(0, bob.addr),
	)
	require.Len(t, res.Skipped, 2)
	require.ErrorIs(t, res.Skipped[0].Err, ErrDeployNotPermitted)
	require.ErrorIs(t, res.Skipped[1].Err, ErrSendNotPermitted)

	for restrictions := range contracts.RestrictSend | contracts.RestrictDeploy + 1 {
		for flags := range all + 1 {
			c.mustBlock(change("setRestrictions(uint256)", restrictions), change("setPermissions(address,uint256)", bob.addr, flags))
			agree(bob.addr)
			agree(alice.addr)
			agree(pauper.addr)
		}
	}
}
