package rpc

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/ledger"
)

// Explorer is what the namespaces debug, trace and ots ask of the ledger beside the rest of Backend. Methods may be called concurrently. Those with an
// error return ledger.ErrIndexing when they take what the node has not indexed yet.
type Explorer interface {
	// Code returns the contract code with a hash, nil if no contract has it.
	Code(hash common.Hash) []byte
	// AccountTransactions returns the transactions that dealt with an account in the blocks [from, to]; see ledger.AccountTransactions.
	AccountTransactions(ctx context.Context, account common.Address, from, to uint64, newestFirst bool, limit int) (found []ledger.TransactionPlace, more bool, err error)
	// AccountBlocks calls f with the blocks in [from, to] that may hold a transaction which dealt with an account of each list; see
	// ledger.AccountBlocks.
	AccountBlocks(ctx context.Context, lists [][]common.Address, from, to uint64, f func(number uint64) (bool, error)) error
	// TransactionBySenderAndNonce returns where the transaction of an account with a nonce is included.
	TransactionBySenderAndNonce(ctx context.Context, sender common.Address, nonce uint64) (place ledger.TransactionPlace, ok bool, err error)
}

// Otterscan sends numbers as JSON numbers, other clients of the same methods as hexadecimal strings. The types here take both.

// plainUint is a number.
type plainUint uint64

// UnmarshalJSON takes 12, "12" and "0xc".
func (u *plainUint) UnmarshalJSON(raw []byte) error {
	if text, ok := bytes.CutPrefix(bytes.Trim(raw, `"`), []byte("0x")); ok {
		var h hexutil.Uint64
		if err := h.UnmarshalText(append([]byte("0x"), text...)); err != nil {
			return err
		}
		*u = plainUint(h)
		return nil
	}
	return json.Unmarshal(bytes.Trim(raw, `"`), (*uint64)(u))
}

// plainNumber is a block number or tag.
type plainNumber gethrpc.BlockNumber

// UnmarshalJSON takes numbers too.
func (n *plainNumber) UnmarshalJSON(raw []byte) error {
	return (*gethrpc.BlockNumber)(n).UnmarshalJSON(quoted(raw))
}

// plainRef is a block number, tag or hash.
type plainRef gethrpc.BlockNumberOrHash

// UnmarshalJSON takes numbers too.
func (r *plainRef) UnmarshalJSON(raw []byte) error {
	return (*gethrpc.BlockNumberOrHash)(r).UnmarshalJSON(quoted(raw))
}

func (n plainNumber) rpc() gethrpc.BlockNumber { return gethrpc.BlockNumber(n) }

func (r *plainRef) rpc() *gethrpc.BlockNumberOrHash { return (*gethrpc.BlockNumberOrHash)(r) }

// quoted turns a JSON number into the hexadecimal string that go-ethereum's types take, and leaves the rest alone.
func quoted(raw []byte) []byte {
	var number uint64
	if json.Unmarshal(raw, &number) != nil {
		return raw
	}
	return []byte(`"` + hexutil.EncodeUint64(number) + `"`)
}
