package rpc

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"

	"ledgerd/ledger"
)

// What Explorer asks of a fakeChain: everything is looked through.

func (c *fakeChain) Code(hash common.Hash) []byte { return rawdb.ReadCode(c.db, hash) }

func (c *fakeChain) AccountTransactions(ctx context.Context, account common.Address, from, to uint64, newestFirst bool, limit int) (found []ledger.TransactionPlace, more bool, err error) {
	if c.indexing {
		return nil, false, ledger.ErrIndexing
	}
	var numbers []uint64
	for n := from; n <= min(to, c.CurrentHeader().Number.Uint64()); n++ {
		numbers = append(numbers, n)
	}
	if newestFirst {
		slices.Reverse(numbers)
	}
	for _, n := range numbers {
		var here []ledger.TransactionPlace
		for i, tx := range c.BlockByNumber(n).Transactions() {
			if sender, _ := types.Sender(c.executor.Signer(), tx); sender == account || slices.Contains(c.touched[n][i], account) {
				here = append(here, ledger.TransactionPlace{Block: n, Index: i})
			}
		}
		if len(here) > 0 && len(found) >= limit {
			return found, true, nil
		}
		if newestFirst {
			slices.Reverse(here)
		}
		found = append(found, here...)
	}
	return found, false, ctx.Err()
}

func (c *fakeChain) AccountBlocks(ctx context.Context, lists [][]common.Address, from, to uint64, f func(uint64) (bool, error)) error {
	for n := max(from, 1); n <= min(to, c.CurrentHeader().Number.Uint64()); n++ {
		candidate := true
		for _, list := range lists {
			any := len(list) == 0
			for _, a := range list {
				found, _, err := c.AccountTransactions(ctx, a, n, n, false, 1)
				if err != nil {
					return err
				}
				any = any || len(found) > 0
			}
			candidate = candidate && any
		}
		if !candidate {
			continue
		}
		if more, err := f(n); err != nil || !more {
			return err
		}
	}
	return nil
}

func (c *fakeChain) TransactionBySenderAndNonce(_ context.Context, sender common.Address, nonce uint64) (ledger.TransactionPlace, bool, error) {
	if c.indexing {
		return ledger.TransactionPlace{}, false, ledger.ErrIndexing
	}
	for _, b := range c.blocks {
		for i, tx := range b.Transactions() {
			if from, _ := types.Sender(c.executor.Signer(), tx); from == sender && tx.Nonce() == nonce {
				return ledger.TransactionPlace{Block: b.NumberU64(), Index: i}, true, nil
			}
		}
	}
	return ledger.TransactionPlace{}, false, nil
}

func TestPlainNumbers(t *testing.T) {
	for text, want := range map[string]uint64{`7`: 7, `"7"`: 7, `"0x7"`: 7, `0`: 0} {
		var u plainUint
		require.NoError(t, json.Unmarshal([]byte(text), &u), text)
		require.EqualValues(t, want, u)
	}
	for _, text := range []string{`-1`, `1.5`, `"x"`, `"0x"`, `"0x07"`, `[1]`, `18446744073709551616`} {
		require.Error(t, json.Unmarshal([]byte(text), new(plainUint)), text)
	}
	for text, want := range map[string]gethrpc.BlockNumber{`7`: 7, `"0x7"`: 7, `"latest"`: gethrpc.LatestBlockNumber, `"earliest"`: gethrpc.EarliestBlockNumber} {
		var n plainNumber
		require.NoError(t, json.Unmarshal([]byte(text), &n), text)
		require.EqualValues(t, want, n)
	}
	for _, text := range []string{`-1`, `18446744073709551615`, `"7"`, `{}`} {
		require.Error(t, json.Unmarshal([]byte(text), new(plainNumber)), text)
	}
	hash := common.Hash{1}
	for text, want := range map[string]gethrpc.BlockNumberOrHash{
		`7`: gethrpc.BlockNumberOrHashWithNumber(7), `"` + hash.Hex() + `"`: gethrpc.BlockNumberOrHashWithHash(hash, false),
		`"latest"`: gethrpc.BlockNumberOrHashWithNumber(gethrpc.LatestBlockNumber),
	} {
		var r plainRef
		require.NoError(t, json.Unmarshal([]byte(text), &r), text)
		require.Equal(t, want, gethrpc.BlockNumberOrHash(r))
	}
}
