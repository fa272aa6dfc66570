package rpc

import (
	"context"

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
