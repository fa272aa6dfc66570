package ledger

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/consensus"
)

// Position says where in the shared log a block comes from: the entry whose batch became the block, the segment that
// ordered it, and the time the engine gave it. It is part of the header (in extraData), so it is covered by the block
// hash and identical on all replicas.
type Position struct {
	LSN       consensus.LSN
	Epoch     consensus.Epoch
	UnixMilli uint64 // never below that of an earlier entry; the header's timestamp is this in whole seconds
}

// HeadEvent announces a new head. It is published only after everything in it can be queried, once per block, in the
// order of the chain and without gaps. Receivers share what it points to and must not change it.
type HeadEvent struct {
	Block    *types.Block
	Receipts types.Receipts // in the order of the transactions, derived fields filled in
	Logs     []*types.Log   // in the order of their log index, derived fields filled in
	Position Position
}

// LogQuery selects event logs.
type LogQuery struct {
	From, To  uint64           // block numbers, both inclusive; To beyond the head is read as the head
	Addresses []common.Address // any of these emitted it; empty = every address
	Topics    [][]common.Hash  // position i holds any of Topics[i]; an empty list matches everything, as in eth_getLogs
	Limit     int              // at most this many logs are wanted; 0 = no limit
	MaxBytes  int              // of SizeOfLogs, at most so much is wanted of SearchLogs; 0 = no limit
}

// logOverhead is what a log holds besides topics and data, in bytes.
const logOverhead = 250

// SizeOfLogs is about what logs hold in memory, in bytes. In JSON they take up to three times as much.
func SizeOfLogs(logs []*types.Log) (size int) {
	for _, l := range logs {
		size += logOverhead + len(l.Topics)*common.HashLength + len(l.Data)
	}
	return size
}

// TransactionState says how far a transaction has come on the node that is asked.
type TransactionState int

const (
	TransactionUnknown  TransactionState = iota // never seen here, or forgotten
	TransactionPending                          // in the pool
	TransactionInFlight                         // handed to the log, its fate not yet known
	TransactionIncluded                         // in a block
	TransactionDropped                          // left the pool without being included
)

// TransactionStatus is the answer of ledger_transactionStatus. The pool is local to a node: only Included means the same
// on every node.
type TransactionStatus struct {
	State     TransactionState
	Reason    string      // why it was dropped; empty otherwise
	BlockHash common.Hash // where it is included; zero otherwise
}
