package rpc

import (
	"context"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/event"
	"github.com/ethereum/go-ethereum/params"

	"ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/vm"
)

// Backend is what this package asks of the ledger; *ledger.Ledger has it. Methods may be called concurrently. What they
// return is shared and must not be changed.
type Backend interface {
	ChainConfig() *params.ChainConfig
	Executor() *vm.Executor

	// CurrentHeader returns the head: the newest block of which everything can be queried.
	CurrentHeader() *types.Header
	// The lookups return nil for what is unknown or lies beyond the head.
	HeaderByNumber(number uint64) *types.Header
	HeaderByHash(hash common.Hash) *types.Header
	BlockByNumber(number uint64) *types.Block
	BlockByHash(hash common.Hash) *types.Block
	// ReceiptsByHash returns the receipts of a block, derived fields filled in.
	ReceiptsByHash(hash common.Hash) types.Receipts
	// Transaction returns an included transaction and its place.
	Transaction(hash common.Hash) (tx *types.Transaction, blockHash common.Hash, number, index uint64, ok bool)
	// SearchLogs returns the matching logs of the blocks from q.From up to, not including, next. It stops before q.To at a block with which there
	// would be more than q.Limit or q.MaxBytes, if others come before it, and when ctx ends, with ctx's error.
	SearchLogs(ctx context.Context, q ledger.LogQuery) (logs []*types.Log, next uint64, err error)

	Explorer

	// WithState runs f on the state after block h. f may run twice, so it resets what it collects when it starts;
	// it may write to the StateDB, which is its own and is thrown away.
	WithState(ctx context.Context, h *types.Header, f func(*state.StateDB) error) error

	// OldestState and OldestProof return the number of the oldest block whose state can be read, and of the oldest one whose state can be
	// proved. StateRetention returns how many blocks back each of them is kept; 0: all.
	OldestState() uint64
	OldestProof() uint64
	StateRetention() (states, proofs uint64)

	// SubscribeHeads announces new heads; see ledger.HeadEvent.
	SubscribeHeads(ch chan<- ledger.HeadEvent) event.Subscription

	// BaseFee is the base fee of the next block, in wei, and BaseFeeAfter that of a block on any other one.
	BaseFee() *big.Int
	BaseFeeAfter(parent *types.Header) *big.Int
	// NextParameters are those of the next block, its base fee among them.
	NextParameters() ledger.Parameters
	// Applied is the LSN of the newest entry that was executed; Drain returns when what was executed before the call is published.
	Applied() consensus.LSN
	Drain(ctx context.Context) error
	TransactionStatus(hash common.Hash) ledger.TransactionStatus
	// Fingerprint is the hash of the newest block that is from an LSN or an earlier one.
	Fingerprint(lsn consensus.LSN) (consensus.Digest, error)
	// Verify checks stored blocks. When ctx ends it returns ctx's error, and how far it has come. What is wrong with a block is a *ledger.BadBlockError.
	Verify(ctx context.Context, q ledger.VerifyQuery) (ledger.Verified, error)
}

// Pool is the transaction pool of this node; *txpool.Pool has it. Methods may be called concurrently.
type Pool interface {
	// Add takes a transaction in. Errors are go-ethereum's sentinels, possibly wrapped, with their texts.
	Add(tx *types.Transaction) error
	// Get returns a transaction that the pool holds, or nil.
	Get(hash common.Hash) *types.Transaction
	// Nonce returns the next nonce of an account: that of the state, or beyond the pool's transactions that follow it
	// without a gap.
	Nonce(account common.Address) uint64
	// Content returns the executable and the waiting transactions by sender, each sorted by nonce.
	Content() (pending, queued map[common.Address][]*types.Transaction)
	// ContentFrom is Content for one sender.
	ContentFrom(account common.Address) (pending, queued []*types.Transaction)
	// Inspect is Content with a line of text for each transaction, by nonce.
	Inspect() (pending, queued map[common.Address]map[uint64]string)
	// Stats counts them.
	Stats() (pending, queued int)
	// SubscribeTransactions announces transactions that became executable.
	SubscribeTransactions(ch chan<- []*types.Transaction) event.Subscription
}

// SharedLog is what the log_ namespace asks of the shared log. Reading it is *consensus.VirtualLog's; methods may be called concurrently.
type SharedLog interface {
	Tail(ctx context.Context, c consensus.Consistency) (consensus.LSN, error)
	Read(ctx context.Context, lo, hi consensus.LSN) ([]consensus.Entry, error)
	Segments() []consensus.Segment
	SegmentEnd(ctx context.Context, epoch consensus.Epoch) (consensus.SegmentEnd, bool, error)
	Status() consensus.Status
	Reconfigurer
}

// A Reconfigurer changes the chain of segments. It lets clients ask again and again for what takes longer than a request should.
type Reconfigurer interface {
	// BeginReconfiguration begins an attempt to bring a request through on this node, which goes on after the call, and returns how it stands. If
	// there is one that runs or has come to its end here, it returns how that one stands; one that failed is begun anew.
	//
	// consensus.ErrInvalid: what is wrong with the request; ErrReconfiguring: an attempt at another one is under way here.
	BeginReconfiguration(ctx context.Context, q consensus.Request, signatures []consensus.Signature) (Reconfiguration, error)
	// Reconfiguration returns how the newest attempt at an epoch stands, if there was one here not long ago.
	Reconfiguration(epoch consensus.Epoch) (Reconfiguration, bool)
	// Members asks all who are or were members how they are; those of the last segment come first.
	Members(ctx context.Context) []MemberStatus
}

// A Reconfiguration is an attempt to bring a request through.
type Reconfiguration struct {
	Request  consensus.Request
	Progress consensus.Progress
	Running  bool
	Err      error // why it ended before it was complete, or nil
}

// MemberStatus is a node that is or was a member of the log.
type MemberStatus struct {
	consensus.Member
	Epoch     consensus.Epoch // the last one it knows; 0: it does not answer
	InSegment bool            // it is a member of the last segment
	MayStop   bool            // nobody needs it: it is not, and a quorum of those who are hold everything that came before
}

// KeyStore holds the keys of accounts that the node itself signs for: in development, ten well-known ones. Methods may be
// called concurrently.
type KeyStore interface {
	// Accounts returns the addresses in a fixed order.
	Accounts() []common.Address
	// Sign returns the 65 byte signature (r, s, v in {0, 1}) of a 32 byte hash, or ErrUnknownAccount.
	Sign(account common.Address, hash []byte) ([]byte, error)
}
