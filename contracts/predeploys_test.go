package contracts_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/stretchr/testify/require"

	"ledgerd/contracts"
	"ledgerd/contracts/bindings/box"
	"ledgerd/contracts/bindings/token"
)

// The code of foreign contracts is what it is on the mainnet: the hashes are eth_getProof's codeHash there.
func TestPredeployedCode(t *testing.T) {
	alloc := contracts.Predeploys()
	require.Equal(t, common.HexToHash("0xd5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891"),
		crypto.Keccak256Hash(alloc[contracts.Multicall3Address].Code))
	require.Equal(t, common.HexToHash("0x2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989"),
		crypto.Keccak256Hash(alloc[contracts.DeterministicProxyAddress].Code))
	for addr, a := range alloc {
		require.NotEmpty(t, a.Code, addr)
		require.EqualValues(t, 1, a.Nonce, addr)
		require.Zero(t, a.Balance.Sign(), addr)
		require.Empty(t, a.Storage, addr)
	}
}

// All that go-ethereum wants in a genesis block is there, but for what belongs to a later fork. If a new version of it
// wants more, the list has to be judged again.
func TestPredeploysCoverSystemContracts(t *testing.T) {
	later := map[common.Address]bool{ // EIP-8282
		params.BuilderDepositAddress: true,
		params.BuilderExitAddress:    true,
	}
	have := contracts.Predeploys()
	for addr, want := range core.SystemContractAllocs() {
		if later[addr] {
			require.NotContains(t, have, addr)
			continue
		}
		require.Contains(t, have, addr)
		require.Equal(t, want.Code, have[addr].Code, addr)
		require.Equal(t, want.Nonce, have[addr].Nonce, addr)
	}
}

// The steps before and after a block's transactions find their contracts, and do with them what the EIPs say.
func TestSystemContractsWork(t *testing.T) {
	c := newChain(t, contracts.Predeploys())
	digest, parent := common.Hash{0xd1}, &types.Header{Number: new(big.Int), ParentHash: common.Hash{1}}

	core.PreExecution(context.Background(), &digest, parent, osaka, c.evm(), big.NewInt(1), 1)
	require.Equal(t, digest[:], c.view(params.BeaconRootsAddress, common.BigToHash(big.NewInt(1)).Bytes()), "EIP-4788, by timestamp")
	hash := parent.Hash()
	require.Equal(t, hash[:], c.view(params.HistoryStorageAddress, new(common.Hash).Bytes()), "EIP-2935, by number")

	requests, _, err := core.PostExecution(context.Background(), osaka, big.NewInt(1), 1, nil, nil, c.evm(), 0)
	require.NoError(t, err)
	require.Empty(t, requests)

	// Without them the steps fail: the test would notice their absence.
	bare := newChain(t, nil)
	_, _, err = core.PostExecution(context.Background(), osaka, big.NewInt(1), 1, nil, nil, bare.evm(), 0)
	require.Error(t, err)
}

// A genesis file is JSON: nothing may be lost on the way.
func TestPredeploysSurviveJSON(t *testing.T) {
	alloc := contracts.Predeploys()
	alloc[contracts.PermissionsAddress] = contracts.Permissions{
		RestrictSend: true, Admins: accounts([]string{"a"}), Senders: accounts([]string{"b"}),
	}.Account()
	raw, err := json.Marshal(alloc)
	require.NoError(t, err)
	var have types.GenesisAlloc
	require.NoError(t, json.Unmarshal(raw, &have))
	hash := func(a types.GenesisAlloc) common.Hash {
		g := core.Genesis{Config: osaka, Alloc: a, Difficulty: new(big.Int)}
		return g.ToBlock().Hash()
	}
	require.Equal(t, hash(alloc), hash(have))
	require.NotEqual(t, hash(contracts.Predeploys()), hash(have), "storage is part of the hash")
}

func TestPredeploysOwnedByCaller(t *testing.T) {
	delete(contracts.Predeploys(), contracts.PermissionsAddress)
	require.Contains(t, contracts.Predeploys(), contracts.PermissionsAddress)
}

func TestDeterministicProxy(t *testing.T) {
	c := newChain(t, contracts.Predeploys())
	initCode := append(common.FromHex(box.BoxMetaData.Bin), box.NewBox().PackConstructor(big.NewInt(7))...)
	salt := common.Hash{31: 1}
	input := append(salt.Bytes(), initCode...)

	ret, _, err := c.transact(account("a"), contracts.DeterministicProxyAddress, input)
	require.NoError(t, err)
	want := crypto.CreateAddress2(contracts.DeterministicProxyAddress, salt, crypto.Keccak256(initCode))
	require.Equal(t, want, common.BytesToAddress(ret))
	value, err := box.NewBox().UnpackValue(c.view(want, box.NewBox().PackValue()))
	require.NoError(t, err)
	require.EqualValues(t, 7, value.Int64())

	_, _, err = c.transact(account("b"), contracts.DeterministicProxyAddress, input)
	require.Error(t, err, "the address is taken")
}

// aggregate3 is the call that clients batch with: a failing call does not spoil the others.
func TestMulticall3(t *testing.T) {
	c := newChain(t, contracts.Predeploys())
	tok := deployToken(c, account("a"), 1000)

	multicall, err := abi.JSON(strings.NewReader(`[{"type":"function","name":"aggregate3","stateMutability":"payable",
		"inputs":[{"name":"calls","type":"tuple[]","components":[{"name":"target","type":"address"},{"name":"allowFailure","type":"bool"},{"name":"callData","type":"bytes"}]}],
		"outputs":[{"name":"returnData","type":"tuple[]","components":[{"name":"success","type":"bool"},{"name":"returnData","type":"bytes"}]}]}]`))
	require.NoError(t, err)
	type call struct {
		Target       common.Address
		AllowFailure bool
		CallData     []byte
	}
	type result struct {
		Success    bool
		ReturnData []byte
	}
	erc20 := token.NewToken()
	failing := call{tok, true, erc20.PackTransfer(account("b"), big.NewInt(1))} // the multicall owns no tokens
	input, err := multicall.Pack("aggregate3", []call{
		{tok, false, erc20.PackBalanceOf(account("a"))},
		failing,
		{tok, false, erc20.PackTotalSupply()},
	})
	require.NoError(t, err)
	var results []result
	require.NoError(t, multicall.UnpackIntoInterface(&results, "aggregate3", c.view(contracts.Multicall3Address, input)))
	word := func(n int64) []byte { return common.BigToHash(big.NewInt(n)).Bytes() }
	require.Len(t, results, 3)
	require.Equal(t, result{true, word(1000)}, results[0])
	require.False(t, results[1].Success)
	require.True(t, bytes.HasPrefix(results[1].ReturnData, token.TokenERC20InsufficientBalanceErrorID().Bytes()[:4]))
	require.Equal(t, result{true, word(1000)}, results[2])

	failing.AllowFailure = false
	input, err = multicall.Pack("aggregate3", []call{failing})
	require.NoError(t, err)
	_, _, err = c.transact(account("a"), contracts.Multicall3Address, input)
	var r *revert
	require.ErrorAs(t, err, &r)
	require.Contains(t, string(r.data), "Multicall3: call failed")
}
