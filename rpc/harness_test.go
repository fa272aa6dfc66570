package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/ethdb"
	"github.com/ethereum/go-ethereum/event"
	"github.com/ethereum/go-ethereum/params"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/holiman/uint256"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	logconsensus "ledgerd/consensus"
	"ledgerd/contracts"
	"ledgerd/ledger"
	ledgerpool "ledgerd/ledger/txpool"
	"ledgerd/vm"
)

const (
	testChainID  = 1337
	testGasLimit = 150_000_000
	testBaseFee  = 7
	genesisTime  = 1_700_000_000
	patience     = 10 * time.Second // for what must happen
)

// account is a key that is the same in every run.
type account struct {
	key     *ecdsa.PrivateKey
	address common.Address
}

func newAccount(name string) account {
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte(name)))
	if err != nil {
		panic(err)
	}
	return account{key, crypto.PubkeyToAddress(key.PublicKey)}
}

var (
	alice     = newAccount("alice")
	bob       = newAccount("bob")
	pauper    = newAccount("pauper")    // owns nothing
	delegator = newAccount("delegator") // signs an EIP-7702 authorization
	coinbase  = common.HexToAddress("0xc01bba5e00000000000000000000000000000001")
)

func (a account) sign(inner types.TxData) *types.Transaction {
	return types.MustSignNewTx(a.key, types.LatestSigner(vm.OsakaConfig(testChainID)), inner)
}

func (a account) transfer(nonce uint64) *types.Transaction {
	return a.sign(&types.DynamicFeeTx{
		ChainID: big.NewInt(testChainID), Nonce: nonce, To: &bob.address, Gas: 21_000, Value: big.NewInt(1),
		GasFeeCap: big.NewInt(params.GWei), GasTipCap: big.NewInt(2),
	})
}

// emit makes the emitter log a topic.
func (a account) emit(nonce uint64, topic common.Hash) *types.Transaction {
	return a.sign(&types.DynamicFeeTx{
		ChainID: big.NewInt(testChainID), Nonce: nonce, To: &emitter, Gas: 100_000, Data: topic[:],
		GasFeeCap: big.NewInt(params.GWei), GasTipCap: new(big.Int),
	})
}

// The emitter: called with a word, it stores it in slot 0, emits it as the topic and the data of a log, and returns it. Called
// with nothing it reverts with the reason "no topic"; with one byte it runs until the gas is used up.
var emitter = common.HexToAddress("0xe317700000000000000000000000000000000001")

var emitterCode = append([]byte{
	0x36, 0x80, 0x15, 0x60, 0x1d, 0x57, // CALLDATASIZE DUP1 ISZERO PUSH 1d JUMPI
	0x60, 0x01, 0x14, 0x60, 0x28, 0x57, // PUSH 1 EQ PUSH 28 JUMPI
	0x5f, 0x35, 0x80, 0x5f, 0x55, // word = CALLDATALOAD(0); SSTORE(0, word)
	0x80, 0x5f, 0x52, // MSTORE(0, word)
	0x60, 0x20, 0x5f, 0xa1, // LOG1(0, 32, word)
	0x60, 0x20, 0x5f, 0xf3, // RETURN(0, 32)
	0x00,
	0x5b, 0x60, 0x64, 0x60, 0x2c, 0x5f, 0x39, // 1d: CODECOPY(0, 2c, 100)
	0x60, 0x64, 0x5f, 0xfd, // REVERT(0, 100)
	0x5b, 0x60, 0x28, 0x56, // 28: loop
}, revertData...)

// revertData is Error("no topic") in Solidity's ABI.
var revertData = slices.Concat(common.FromHex("0x08c379a0"), common.LeftPadBytes([]byte{32}, 32),
	common.LeftPadBytes([]byte{8}, 32), common.RightPadBytes([]byte("no topic"), 32))

// What cmd puts together.
var (
	_ Backend   = (*ledger.Ledger)(nil)
	_ Pool      = (*ledgerpool.Pool)(nil)
	_ SharedLog = struct {
		*logconsensus.VirtualLog
		Reconfigurer
	}{}
)

// fakeChain is a Backend, a Pool and a SharedLog in memory. Its blocks are made by the real executor; mine is all the
// consensus there is.
type fakeChain struct {
	tb       testing.TB
	config   *params.ChainConfig
	executor *vm.Executor
	db       ethdb.Database
	sdb      state.Database
	heads    event.FeedOf[ledger.HeadEvent]
	pendings event.FeedOf[[]*types.Transaction]

	mu                   sync.Mutex
	blocks               []*types.Block
	numbers              map[common.Hash]uint64 // of blocks
	receipts             map[common.Hash]types.Receipts
	touched              [][][]common.Address   // by block and transaction
	included             map[common.Hash]uint64 // block numbers of transactions
	pool                 map[common.Address]map[uint64]*types.Transaction
	refuse               error            // what Add returns
	nextFee              int64            // base fee of the next block
	behind               logconsensus.LSN // entries that are ordered and not applied
	noQuorum             chan struct{}    // what needs a quorum sends here and then waits for its context; nil: there is one
	indexing             bool             // the index of accounts is being built
	badBlock, verifyUpTo uint64           // for Verify
	oldest               uint64           // block whose state is kept
	attempt              *Reconfiguration
	searched             func(ctx context.Context, block uint64) // called after each block of a search for logs; nil does nothing
}

func newFakeChain(tb testing.TB) *fakeChain {
	genesis := &core.Genesis{
		Config: vm.OsakaConfig(testChainID), GasLimit: testGasLimit, Timestamp: genesisTime,
		Difficulty: new(big.Int), BaseFee: big.NewInt(testBaseFee), Alloc: contracts.Predeploys(),
	}
	genesis.Alloc[emitter] = types.Account{Code: emitterCode, Balance: new(big.Int)}
	for _, a := range []account{alice, bob} {
		genesis.Alloc[a.address] = types.Account{Balance: big.NewInt(params.Ether)}
	}
	db := rawdb.NewMemoryDatabase()
	tdb := triedb.NewDatabase(db, triedb.HashDefaults)
	tb.Cleanup(func() { tdb.Close() })
	block, err := genesis.Commit(db, tdb, nil)
	require.NoError(tb, err)
	c := &fakeChain{
		tb:       tb,
		config:   genesis.Config,
		db:       db,
		sdb:      state.NewDatabase(tdb, nil),
		blocks:   []*types.Block{block},
		touched:  [][][]common.Address{nil},
		numbers:  map[common.Hash]uint64{block.Hash(): 0},
		receipts: map[common.Hash]types.Receipts{block.Hash(): {}},
		included: make(map[common.Hash]uint64),
		pool:     make(map[common.Address]map[uint64]*types.Transaction),
		nextFee:  testBaseFee,
	}
	c.executor = vm.NewExecutor(c.config, c)
	return c
}

// mine makes a block of txs, all of which must be valid, and announces it.
func (c *fakeChain) mine(txs ...*types.Transaction) *types.Block {
	c.tb.Helper()
	parent := c.CurrentHeader()
	number := parent.Number.Uint64() + 1
	millis := (genesisTime+number)*1000 + 123
	extra := []byte{1}
	for _, v := range []uint64{1, 2 * number, millis} { // epoch, LSN, time
		extra = binary.BigEndian.AppendUint64(extra, v)
	}
	st, err := state.New(parent.Root, c.sdb)
	require.NoError(c.tb, err)
	result, err := c.executor.Execute(st, parent, vm.Env{
		Number: number, Time: millis / 1000, ParentHash: parent.Hash(), GasLimit: testGasLimit,
		BaseFee: uint256.MustFromBig(c.BaseFee()), Coinbase: coinbase, Extra: extra,
	}, txs)
	require.NoError(c.tb, err)
	require.Empty(c.tb, result.Skipped)
	_, err = st.Commit(c.config.Rules(result.Block.Number(), true, result.Block.Time()), number)
	require.NoError(c.tb, err)

	c.mu.Lock()
	hash := result.Block.Hash()
	c.blocks = append(c.blocks, result.Block)
	c.touched = append(c.touched, result.Touched)
	c.numbers[hash], c.receipts[hash] = number, result.Receipts
	signer := c.executor.Signer()
	for _, tx := range txs {
		c.included[tx.Hash()] = number
		from, _ := types.Sender(signer, tx)
		delete(c.pool[from], tx.Nonce())
	}
	c.mu.Unlock()
	position, ok := ledger.PositionOf(result.Block.Header())
	require.True(c.tb, ok)
	c.heads.Send(ledger.HeadEvent{Block: result.Block, Receipts: result.Receipts, Logs: result.Logs, Position: position})
	return result.Block
}

func (c *fakeChain) ChainConfig() *params.ChainConfig { return c.config }
func (c *fakeChain) Executor() *vm.Executor           { return c.executor }

func (c *fakeChain) BaseFee() *big.Int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return big.NewInt(c.nextFee)
}

func (c *fakeChain) CurrentHeader() *types.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocks[len(c.blocks)-1].Header()
}

func (c *fakeChain) BlockByNumber(number uint64) *types.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number >= uint64(len(c.blocks)) {
		return nil
	}
	return c.blocks[number]
}

func (c *fakeChain) BlockByHash(hash common.Hash) *types.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	number, ok := c.numbers[hash]
	if !ok {
		return nil
	}
	return c.blocks[number]
}

func (c *fakeChain) HeaderByNumber(number uint64) *types.Header {
	return headerOf(c.BlockByNumber(number))
}

func (c *fakeChain) HeaderByHash(hash common.Hash) *types.Header {
	return headerOf(c.BlockByHash(hash))
}

func headerOf(b *types.Block) *types.Header {
	if b == nil {
		return nil
	}
	return b.Header()
}

func (c *fakeChain) ReceiptsByHash(hash common.Hash) types.Receipts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.receipts[hash]
}

func (c *fakeChain) Transaction(hash common.Hash) (*types.Transaction, common.Hash, uint64, uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	number, ok := c.included[hash]
	if !ok {
		return nil, common.Hash{}, 0, 0, false
	}
	b := c.blocks[number]
	index := slices.IndexFunc(b.Transactions(), func(tx *types.Transaction) bool { return tx.Hash() == hash })
	return b.Transactions()[index], b.Hash(), number, uint64(index), true
}

func (c *fakeChain) SearchLogs(ctx context.Context, q ledger.LogQuery) (found []*types.Log, next uint64, err error) {
	for next = q.From; next <= min(q.To, c.CurrentHeader().Number.Uint64()); next++ {
		if err := ctx.Err(); err != nil {
			return found, next, err
		}
		var logs []*types.Log
		for _, r := range c.ReceiptsByHash(c.BlockByNumber(next).Hash()) {
			for _, l := range r.Logs {
				if logMatches(l, q.Addresses, q.Topics) {
					logs = append(logs, l)
				}
			}
		}
		if len(found) > 0 && (q.Limit > 0 && len(found)+len(logs) > q.Limit || q.MaxBytes > 0 && ledger.SizeOfLogs(found)+ledger.SizeOfLogs(logs) > q.MaxBytes) {
			return found, next, nil
		}
		found = append(found, logs...)
		if c.searched != nil {
			c.searched(ctx, next)
		}
	}
	return found, next, nil
}

func (c *fakeChain) WithState(ctx context.Context, h *types.Header, f func(*state.StateDB) error) error {
	if h.Number.Uint64() < c.oldest {
		return fmt.Errorf("state of block %d: pruned", h.Number)
	}
	st, err := state.New(h.Root, c.sdb)
	if err != nil {
		return err
	}
	return f(st)
}

func (c *fakeChain) OldestState() uint64                     { return c.oldest }
func (c *fakeChain) OldestProof() uint64                     { return 0 }
func (c *fakeChain) StateRetention() (states, proofs uint64) { return 0, 0 }

func (c *fakeChain) SubscribeHeads(ch chan<- ledger.HeadEvent) event.Subscription {
	return c.heads.Subscribe(ch)
}

func (c *fakeChain) BaseFeeAfter(parent *types.Header) *big.Int {
	if parent.Hash() == c.CurrentHeader().Hash() {
		return c.BaseFee()
	}
	return parent.BaseFee
}

func (c *fakeChain) NextParameters() ledger.Parameters {
	return ledger.Parameters{GasLimit: testGasLimit, BaseFee: uint256.MustFromBig(c.BaseFee()), Coinbase: coinbase}
}

func (c *fakeChain) Applied() logconsensus.LSN {
	return logconsensus.LSN(2 * c.CurrentHeader().Number.Uint64())
}

func (c *fakeChain) Drain(context.Context) error { return nil }

func (c *fakeChain) TransactionStatus(hash common.Hash) ledger.TransactionStatus {
	if _, blockHash, _, _, ok := c.Transaction(hash); ok {
		return ledger.TransactionStatus{State: ledger.TransactionIncluded, BlockHash: blockHash}
	}
	if c.Get(hash) != nil {
		return ledger.TransactionStatus{State: ledger.TransactionPending}
	}
	return ledger.TransactionStatus{}
}

func (c *fakeChain) Fingerprint(lsn logconsensus.LSN) (logconsensus.Digest, error) {
	return logconsensus.Digest(c.BlockByNumber(uint64(lsn / 2)).Hash()), nil
}

// Verify finds all in order but for the block badBlock, and comes to block verifyUpTo before the time is up. 0: neither.
func (c *fakeChain) Verify(ctx context.Context, q ledger.VerifyQuery) (v ledger.Verified, err error) {
	for n := q.From; n <= q.To; n++ {
		hash := c.BlockByNumber(n).Hash()
		if c.verifyUpTo != 0 && n > c.verifyUpTo {
			<-ctx.Done()
			return v, ctx.Err()
		}
		if c.badBlock != 0 && n == c.badBlock {
			return v, &ledger.BadBlockError{Number: n, Hash: hash, Err: logconsensus.ErrCorrupt}
		}
		v.Blocks++
		v.Hash = hash
		if q.Execute {
			v.Executed++
		}
	}
	return v, nil
}

// core.ChainContext, for the executor.

func (c *fakeChain) Config() *params.ChainConfig { return c.config }
func (c *fakeChain) Engine() consensus.Engine    { return beacon.New(ethash.NewFaker()) }
func (c *fakeChain) GetHeader(hash common.Hash, _ uint64) *types.Header {
	return c.HeaderByHash(hash)
}
func (c *fakeChain) GetHeaderByNumber(number uint64) *types.Header  { return c.HeaderByNumber(number) }
func (c *fakeChain) GetHeaderByHash(hash common.Hash) *types.Header { return c.HeaderByHash(hash) }

// fakePool is the chain as a Pool: it keeps what it is given until it is mined. Only the first gap in the nonces makes
// a transaction queued.
type fakePool struct{ *fakeChain }

func (c *fakeChain) Get(hash common.Hash) *types.Transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, txs := range c.pool {
		for _, tx := range txs {
			if tx.Hash() == hash {
				return tx
			}
		}
	}
	return nil
}

func (p fakePool) stateNonce(account common.Address) (nonce uint64) {
	err := p.WithState(context.Background(), p.CurrentHeader(), func(st *state.StateDB) error {
		nonce = st.GetNonce(account)
		return nil
	})
	if err != nil {
		panic(err)
	}
	return nonce
}

func (p fakePool) Add(tx *types.Transaction) error {
	from, err := types.Sender(p.executor.Signer(), tx)
	if err != nil {
		return txpool.ErrInvalidSender
	}
	nonce := p.stateNonce(from)
	p.mu.Lock()
	if p.refuse != nil {
		defer p.mu.Unlock()
		return p.refuse
	}
	if old := p.pool[from][tx.Nonce()]; old != nil && old.Hash() == tx.Hash() {
		defer p.mu.Unlock()
		return txpool.ErrAlreadyKnown
	}
	if tx.Nonce() < nonce {
		defer p.mu.Unlock()
		return core.ErrNonceTooLow
	}
	if p.pool[from] == nil {
		p.pool[from] = make(map[uint64]*types.Transaction)
	}
	p.pool[from][tx.Nonce()] = tx
	p.mu.Unlock()
	p.pendings.Send([]*types.Transaction{tx})
	return nil
}

func (p fakePool) Nonce(account common.Address) uint64 {
	nonce := p.stateNonce(account)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.pool[account][nonce] != nil {
		nonce++
	}
	return nonce
}

func (p fakePool) ContentFrom(account common.Address) (pending, queued []*types.Transaction) {
	end := p.Nonce(account)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, nonce := range slices.Sorted(maps.Keys(p.pool[account])) {
		if nonce < end {
			pending = append(pending, p.pool[account][nonce])
		} else {
			queued = append(queued, p.pool[account][nonce])
		}
	}
	return pending, queued
}

func (p fakePool) Content() (pending, queued map[common.Address][]*types.Transaction) {
	pending, queued = make(map[common.Address][]*types.Transaction), make(map[common.Address][]*types.Transaction)
	for _, a := range []account{alice, bob} {
		executable, waiting := p.ContentFrom(a.address)
		if executable != nil {
			pending[a.address] = executable
		}
		if waiting != nil {
			queued[a.address] = waiting
		}
	}
	return pending, queued
}

func (p fakePool) Inspect() (pending, queued map[common.Address]map[uint64]string) {
	lines := func(content map[common.Address][]*types.Transaction) map[common.Address]map[uint64]string {
		out := make(map[common.Address]map[uint64]string)
		for account, txs := range content {
			out[account] = make(map[uint64]string)
			for _, tx := range txs {
				out[account][tx.Nonce()] = "nonce " + strconv.FormatUint(tx.Nonce(), 10)
			}
		}
		return out
	}
	p1, q1 := p.Content()
	return lines(p1), lines(q1)
}

func (p fakePool) Stats() (pending, queued int) {
	p1, q1 := p.Content()
	for _, txs := range p1 {
		pending += len(txs)
	}
	for _, txs := range q1 {
		queued += len(txs)
	}
	return pending, queued
}

func (p fakePool) SubscribeTransactions(ch chan<- []*types.Transaction) event.Subscription {
	return p.pendings.Subscribe(ch)
}

// fakeLog is the chain as a SharedLog: LSN 2n became block n, and the odd ones are of another application.
type fakeLog struct{ *fakeChain }

func (l fakeLog) Tail(ctx context.Context, c logconsensus.Consistency) (logconsensus.LSN, error) {
	if c == logconsensus.Consistent {
		if err := l.quorum(ctx); err != nil {
			return 0, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return logconsensus.LSN(2*(len(l.blocks)-1)) + 1 + l.behind, nil
}

// quorum waits for one.
func (l fakeLog) quorum(ctx context.Context) error {
	l.mu.Lock()
	hangs := l.noQuorum
	l.mu.Unlock()
	if hangs == nil {
		return nil
	}
	select {
	case hangs <- struct{}{}:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

// loseQuorum makes everything that needs a quorum hang, which sends on the channel.
func (c *fakeChain) loseQuorum() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noQuorum = make(chan struct{})
	return c.noQuorum
}

const fakeTrimmed = 2

func (l fakeLog) Read(ctx context.Context, lo, hi logconsensus.LSN) ([]logconsensus.Entry, error) {
	tail, _ := l.Tail(ctx, logconsensus.Fast)
	switch {
	case lo <= fakeTrimmed:
		return nil, logconsensus.ErrTrimmed
	case hi > tail:
		return nil, logconsensus.ErrUnwritten
	}
	var entries []logconsensus.Entry
	for lsn := lo; lsn < hi; lsn++ {
		record := logconsensus.Record{App: "evm", ID: logconsensus.RecordID{Session: 9, Seq: uint64(lsn)}, Payload: make([]byte, 1000)}
		entries = append(entries, logconsensus.Entry{LSN: lsn, Epoch: 1, UnixMilli: genesisTime * 1000, Record: record, Digest: [32]byte{byte(lsn)}})
	}
	return entries, nil
}

func (l fakeLog) Segments() []logconsensus.Segment {
	member := logconsensus.Member{ID: 1, PeerAddress: "127.0.0.1:1", NodeKey: make([]byte, 32)}
	return []logconsensus.Segment{
		{Epoch: 1, Base: 1, Spec: logconsensus.Spec{Engine: "local"}},
		{Epoch: 2, Base: 5, Spec: logconsensus.Spec{Engine: "raft", Members: []logconsensus.Member{member}, Threshold: 1, Ledger: []byte("{}")}},
	}
}

func (l fakeLog) SegmentEnd(_ context.Context, epoch logconsensus.Epoch) (logconsensus.SegmentEnd, bool, error) {
	return logconsensus.SegmentEnd{Proof: []byte{0xab}}, epoch == 1, nil
}

func (l fakeLog) Status() logconsensus.Status {
	tail, _ := l.Tail(context.Background(), logconsensus.Fast)
	return logconsensus.Status{
		Epoch: 2, Base: 5, Engine: "raft", Role: "orders", Tail: tail, Trimmed: fakeTrimmed,
		Prepared: []logconsensus.Digest{{1, 2}}, Dissent: map[uint64]logconsensus.LSN{9: 17, 3: 16},
	}
}

// BeginReconfiguration takes up epoch 3 if there is a signature, once.
func (l fakeLog) BeginReconfiguration(ctx context.Context, q logconsensus.Request, sigs []logconsensus.Signature) (Reconfiguration, error) {
	if err := l.quorum(ctx); err != nil {
		return Reconfiguration{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.attempt != nil:
		return Reconfiguration{}, ErrReconfiguring
	case q.Epoch != 3 || len(sigs) != 1 || !ed25519.Verify(sigs[0].Key, q.SigningMessage(), sigs[0].Bytes[:]):
		return Reconfiguration{}, fmt.Errorf("epoch %d: %w: not signed", q.Epoch, logconsensus.ErrInvalid)
	}
	l.attempt = &Reconfiguration{Request: q, Running: true, Progress: logconsensus.Progress{Ready: []uint64{1}}}
	return *l.attempt, nil
}

func (l fakeLog) Reconfiguration(epoch logconsensus.Epoch) (Reconfiguration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attempt == nil || l.attempt.Request.Epoch != epoch {
		return Reconfiguration{}, false
	}
	return *l.attempt, true
}

func (l fakeLog) Members(ctx context.Context) []MemberStatus {
	if l.quorum(ctx) != nil {
		return nil
	}
	s := l.Segments()[1].Spec.Members
	return []MemberStatus{
		{Member: s[0], Epoch: 2, InSegment: true}, {Member: logconsensus.Member{ID: 2, NodeKey: make([]byte, 32)}, MayStop: true},
	}
}

// fakeSnapshots keeps snapshots of a chain. making, if there is one, gets a value when one is begun, and lets it end with one.
type fakeSnapshots struct {
	chain  *fakeChain
	making chan struct{}
	mu     sync.Mutex
	list   []Snapshot
}

func (s *fakeSnapshots) Make(ctx context.Context) (Snapshot, error) {
	if s.making != nil {
		s.making <- struct{}{}
		select {
		case <-s.making:
		case <-ctx.Done():
			return Snapshot{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if lsn := s.chain.Applied(); len(s.list) == 0 || s.list[0].LSN < lsn {
		s.list = append([]Snapshot{{LSN: lsn, File: fmt.Sprintf("%020d-00.snapshot", lsn), Size: 4711, SHA256: logconsensus.Digest{7}}}, s.list...)
	}
	return s.list[0], nil
}

func (s *fakeSnapshots) List() []Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// fakeKeys is a KeyStore.
type fakeKeys []account

func (k fakeKeys) Accounts() []common.Address {
	addresses := make([]common.Address, len(k))
	for i, a := range k {
		addresses[i] = a.address
	}
	return addresses
}

func (k fakeKeys) Sign(address common.Address, hash []byte) ([]byte, error) {
	for _, a := range k {
		if a.address == address {
			return crypto.Sign(hash, a.key)
		}
	}
	return nil, ErrUnknownAccount
}

// fakeNetwork is a Network of a number of peers.
type fakeNetwork int

func (n fakeNetwork) Self() NodeInfo {
	return NodeInfo{Key: make([]byte, 32), ListenAddress: "127.0.0.1:7001"}
}

func (n fakeNetwork) Peers() []PeerInfo {
	peers := make([]PeerInfo, n)
	for i := range peers {
		peers[i] = PeerInfo{Key: append(make([]byte, 31), byte(i+1)), Address: fmt.Sprintf("127.0.0.1:%d", 7002+i), Member: uint64(i + 2)}
	}
	return peers
}

// faultyAPI is a namespace with a bug.
type faultyAPI struct{}

func (faultyAPI) Panic() int { panic("a bug") }

// testNode is a running server over a fake chain.
type testNode struct {
	*fakeChain
	server  *Server
	address string // host:port
	stop    func() // and wait until it has
}

func startNode(t *testing.T, opts Options) *testNode {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return startNodeOn(t, l, opts)
}

func startNodeOn(t *testing.T, l net.Listener, opts Options) *testNode {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	chain := newFakeChain(t)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if kept, ok := opts.Snapshots.(*fakeSnapshots); ok {
		kept.chain = chain
	}
	server, err := New(chain, fakePool{chain}, fakeLog{chain}, opts)
	require.NoError(t, err)
	require.NoError(t, server.Register("test", faultyAPI{}))
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-served:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
	})
	t.Cleanup(stop)
	return &testNode{fakeChain: chain, server: server, address: l.Addr().String(), stop: stop}
}

func (n *testNode) dial(t *testing.T, scheme string) *gethrpc.Client {
	t.Helper()
	client, err := gethrpc.Dial(scheme + "://" + n.address)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func (n *testNode) ethclient(t *testing.T) *ethclient.Client {
	return ethclient.NewClient(n.dial(t, "http"))
}

// call returns the result as it is on the wire.
func call(t *testing.T, c *gethrpc.Client, method string, args ...any) json.RawMessage {
	t.Helper()
	var result json.RawMessage
	require.NoError(t, c.Call(&result, method, args...), method)
	return result
}

// callError returns code, message and data of the error that a call must have.
func callError(t *testing.T, c *gethrpc.Client, method string, args ...any) (code int, message string, data any) {
	t.Helper()
	err := c.Call(new(json.RawMessage), method, args...)
	require.Error(t, err, method)
	var withCode gethrpc.Error
	require.True(t, errors.As(err, &withCode), "%v", err)
	var withData gethrpc.DataError
	if errors.As(err, &withData) {
		data = withData.ErrorData()
	}
	return withCode.ErrorCode(), err.Error(), data
}

// valueOf reads a counter or a gauge.
func valueOf(m prometheus.Metric) float64 {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// receive takes the next value from ch.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, time.Millisecond, what)
}
