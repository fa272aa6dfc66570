package rpc

import (
	"context"
	"errors"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/state"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/ledger"
	"ledgerd/vm"
)

// ledgerAPI is the ledger_ namespace.
type ledgerAPI struct{ *node }

var transactionStates = map[ledger.TransactionState]string{
	ledger.TransactionUnknown:  "unknown",
	ledger.TransactionPending:  "pending",
	ledger.TransactionInFlight: "inflight",
	ledger.TransactionIncluded: "included",
	ledger.TransactionDropped:  "dropped",
}

// transactionStatus is the answer of ledger_transactionStatus.
type transactionStatus struct {
	Status    string       `json:"status"`              // "unknown", "pending", "inflight", "included" or "dropped"
	Reason    string       `json:"reason,omitempty"`    // why it was dropped
	BlockHash *common.Hash `json:"blockHash,omitempty"` // where it is included
}

// TransactionStatus says what became of a transaction, as far as this node knows: only "included" is the same on every
// node.
func (api *ledgerAPI) TransactionStatus(hash common.Hash) transactionStatus {
	s := api.backend.TransactionStatus(hash)
	answer := transactionStatus{Status: transactionStates[s.State], Reason: s.Reason}
	if s.State == ledger.TransactionIncluded {
		answer.BlockHash = &s.BlockHash
	}
	return answer
}

// accountPermissions is the answer of ledger_permissions.
type accountPermissions struct {
	MaySend    bool `json:"maySend"`    // transactions
	MayDeploy  bool `json:"mayDeploy"`  // create contracts, itself or through others
	Administer bool `json:"administer"` // change permissions

	RestrictSend   bool `json:"restrictSend"`   // only accounts with the permission may send; else everybody may
	RestrictDeploy bool `json:"restrictDeploy"` // the same for creating contracts
}

// Permissions says what an account may do after a block, or after the head: what the Permissions contract says, which the pool and each block go by.
func (api *ledgerAPI) Permissions(ctx context.Context, account common.Address, block *gethrpc.BlockNumberOrHash) (answer accountPermissions, err error) {
	err = api.read(ctx, block, func(st *state.StateDB) {
		p := vm.PermissionsOf(st, account)
		answer = accountPermissions{
			MaySend:        !p.RestrictSend || p.Send,
			MayDeploy:      (!p.RestrictSend || p.Send) && (!p.RestrictDeploy || p.Deploy),
			Administer:     p.Administer,
			RestrictSend:   p.RestrictSend,
			RestrictDeploy: p.RestrictDeploy,
		}
	})
	return answer, err
}

// ledgerParameters is the answer of ledger_parameters.
type ledgerParameters struct {
	GasLimit hexutil.Uint64 `json:"gasLimit"` // of a block
	BaseFee  *hexutil.Big   `json:"baseFee"`  // of every block, in wei
	Coinbase common.Address `json:"coinbase"` // gets the tips
}

// Parameters are those of the next block. They change only with a segment of the log (log_reconfigure).
func (api *ledgerAPI) Parameters() ledgerParameters {
	p := api.backend.NextParameters()
	return ledgerParameters{hexutil.Uint64(p.GasLimit), (*hexutil.Big)(p.BaseFee.ToBig()), p.Coinbase}
}

// ledgerVerification is the answer of ledger_verify.
type ledgerVerification struct {
	FromBlock    hexutil.Uint64 `json:"fromBlock"`
	ToBlock      hexutil.Uint64 `json:"toBlock"`      // the last that was verified; before the one that was asked for if time was up: then ask on from the next
	BlockHash    common.Hash    `json:"blockHash"`    // of toBlock, which stands for all that is before it
	Transactions hexutil.Uint64 `json:"transactions"` // in all of them, like their receipts compared with the roots in the headers
	LogEntries   hexutil.Uint64 `json:"logEntries"`   // blocks that were found to be made of the log's entries, by the digests of the log; of the others entries are trimmed
	Executed     hexutil.Uint64 `json:"executed"`     // blocks that were executed again, to the same receipts; of the others the state before them is not kept
	StateRoots   hexutil.Uint64 `json:"stateRoots"`   // blocks whose execution gave the same state root; of the others the trie before them is not kept
}

// badBlock is the data of the error of ledger_verify.
type badBlock struct {
	BlockNumber hexutil.Uint64 `json:"blockNumber"`
	BlockHash   common.Hash    `json:"blockHash"` // by which the chain names it
}

// Verify reads a range of blocks from the disk and checks them: hashes, the roots of transactions and receipts, the digests of the log that they were made from, and,
// unless execute is false, their execution. The range is not limited, but the time is, and toBlock says how far it has come. An error names the first
// block that is wrong, also in its data.
func (api *ledgerAPI) Verify(ctx context.Context, fromBlock, toBlock gethrpc.BlockNumber, execute *bool) (*ledgerVerification, error) {
	from, to := api.number(fromBlock), api.number(toBlock)
	switch {
	case from > to:
		return nil, errInvalidBlockRange
	case to > api.backend.CurrentHeader().Number.Uint64():
		return nil, errRangeIntoFuture
	}
	ctx, release, err := api.acquireLong(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	q := ledger.VerifyQuery{From: from, To: to, Execute: execute == nil || *execute}
	if api.log != nil {
		q.Log = api.log
	}
	v, err := api.backend.Verify(ctx, q)
	var bad *ledger.BadBlockError
	switch {
	case errors.As(err, &bad):
		return nil, &codedError{code: codeDefault, message: err.Error(), data: badBlock{hexutil.Uint64(bad.Number), bad.Hash}}
	case err != nil && (v.Blocks == 0 || !errors.Is(context.Cause(ctx), errTraceTimeout)):
		return nil, timedOut(ctx, err)
	}
	return &ledgerVerification{
		FromBlock: hexutil.Uint64(from), ToBlock: hexutil.Uint64(from + v.Blocks - 1), BlockHash: v.Hash, Transactions: hexutil.Uint64(v.Transactions),
		LogEntries: hexutil.Uint64(v.Entries), Executed: hexutil.Uint64(v.Executed), StateRoots: hexutil.Uint64(v.StateRoots),
	}, nil
}
