package contracts_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/core/vm/runtime"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/stretchr/testify/require"
)

// osaka is the rule set of the ledger.
var osaka = func() *params.ChainConfig {
	c := *params.MergedTestChainConfig
	return &c
}()

// A chain is the state after a genesis block, and an EVM on top of it. There are no blocks, fees or nonces: the
// contracts see none of these.
type chain struct {
	t     testing.TB
	state *state.StateDB
	calls int
}

// newChain writes alloc to a database as a genesis block, so that accounts take the way they take on a ledger.
func newChain(t testing.TB, alloc types.GenesisAlloc) *chain {
	t.Helper()
	db := rawdb.NewMemoryDatabase()
	tdb := triedb.NewDatabase(db, nil)
	t.Cleanup(func() { require.NoError(t, tdb.Close()) })
	genesis := core.Genesis{Config: osaka, Alloc: alloc, Difficulty: new(big.Int), GasLimit: 150_000_000}
	block, err := genesis.Commit(db, tdb, nil)
	require.NoError(t, err)
	st, err := state.New(block.Root(), state.NewDatabase(tdb, nil))
	require.NoError(t, err)
	return &chain{t: t, state: st}
}

func (c *chain) config(from common.Address) *runtime.Config {
	return &runtime.Config{
		ChainConfig: osaka,
		Origin:      from,
		BlockNumber: big.NewInt(1),
		Time:        1,
		Difficulty:  new(big.Int),
		GasLimit:    params.MaxTxGas,
		GasPrice:    new(big.Int),
		Value:       new(big.Int),
		BaseFee:     new(big.Int),
		BlobBaseFee: new(big.Int),
		Random:      new(common.Hash),
		GetHashFn:   func(uint64) common.Hash { return common.Hash{} },
		State:       c.state,
	}
}

// transact calls to, and keeps what changed. It returns the logs, or a *revert, or another error of the EVM.
func (c *chain) transact(from, to common.Address, data []byte) ([]byte, []*types.Log, error) {
	id := c.begin()
	ret, _, err := runtime.Call(to, data, c.config(from))
	return ret, c.end(id), asRevert(ret, err)
}

// create deploys initCode and keeps it.
func (c *chain) create(from common.Address, initCode []byte) (common.Address, error) {
	id := c.begin()
	ret, addr, _, err := runtime.Create(initCode, c.config(from))
	c.end(id)
	return addr, asRevert(ret, err)
}

// view calls to and takes back what changed.
func (c *chain) view(to common.Address, data []byte) []byte {
	c.t.Helper()
	snapshot := c.state.Snapshot()
	ret, _, err := runtime.Call(to, data, c.config(common.Address{}))
	require.NoError(c.t, asRevert(ret, err))
	c.state.RevertToSnapshot(snapshot)
	return ret
}

func (c *chain) slot(addr common.Address, slot common.Hash) uint64 {
	c.t.Helper()
	v := c.state.GetState(addr, slot).Big()
	require.NoError(c.t, c.state.Error())
	require.True(c.t, v.IsUint64(), "slot %s holds %s", slot, v)
	return v.Uint64()
}

// evm is for what core does around the transactions of a block.
func (c *chain) evm() *vm.EVM { return runtime.NewEnv(c.config(common.Address{})) }

func (c *chain) begin() common.Hash {
	c.calls++
	var id common.Hash
	binary.BigEndian.PutUint64(id[24:], uint64(c.calls))
	c.state.SetTxContext(id, c.calls, uint32(c.calls))
	return id
}

func (c *chain) end(id common.Hash) []*types.Log {
	c.state.Finalise(osaka.Rules(big.NewInt(1), true, 1))
	return c.state.GetLogs(id, 1, common.Hash{}, 1)
}

// A revert is an error that the contract raised.
type revert struct{ data []byte }

func (r *revert) Error() string { return fmt.Sprintf("execution reverted: %x", r.data) }

func asRevert(ret []byte, err error) error {
	if errors.Is(err, vm.ErrExecutionReverted) {
		return &revert{ret}
	}
	return err
}

// errorName decodes a revert with the custom errors of a contract: `Name(arg, …)`.
func errorName(t testing.TB, contract abi.ABI, err error, show func(any) string) string {
	t.Helper()
	var r *revert
	require.ErrorAs(t, err, &r)
	require.GreaterOrEqual(t, len(r.data), 4, "revert without data")
	e, err := contract.ErrorByID([4]byte(r.data[:4]))
	require.NoError(t, err)
	args, err := e.Inputs.Unpack(r.data[4:])
	require.NoError(t, err)
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = show(a)
	}
	return e.Name + "(" + strings.Join(words, ", ") + ")"
}
