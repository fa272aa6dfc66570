package txpool

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/lru"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/event"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/prometheus/client_golang/prometheus"
)

// StateReader is what the pool reads of a state. *state.StateDB is one.
type StateReader interface {
	GetNonce(common.Address) uint64
	GetBalance(common.Address) *uint256.Int
	GetState(common.Address, common.Hash) common.Hash
}

// Chain is what the pool needs of the ledger. Its methods are called from many goroutines and never under a lock of
// the pool.
type Chain interface {
	Config() *params.ChainConfig
	// CurrentHeader returns the head, for what the next block inherits from it: fork rules, gas limit and base fee. Where the next block
	// is to have another gas limit or base fee than the head, the header has those of the next block.
	CurrentHeader() *types.Header
	// ReadState calls f with the state at the head, which is at least as new as the last Applied. It may
	// call f again if the first state went stale meanwhile.
	ReadState(f func(StateReader) error) error
}

// Options configure a Pool. Zero means the default.
type Options struct {
	// MaxTransactions is how many transactions the pool holds. Default 65,536.
	MaxTransactions int
	// MaxBytes bounds the sum of their encodings. Default 128 MiB.
	MaxBytes int
	// MaxPerSender is how many of one sender it holds, pending and queued. Default a quarter of MaxTransactions.
	MaxPerSender int
	// MaxBytesPerSender bounds the sum of the encodings of one sender. Default a quarter of MaxBytes.
	MaxBytesPerSender int
	// QueueTTL is how long a transaction may be queued. Default 3 h.
	QueueTTL time.Duration
	// PriceBump is by how many percent a replacement must raise both of its caps, and by at least 1 wei. Default 10.
	PriceBump int
	// MinTip is the least tip cap, in wei, that is taken in. Default 0.
	MinTip *big.Int
	// DropHistory is of how many dropped transactions the reason is kept. Default 16,384.
	DropHistory int

	// Now is the clock, for the TTL alone. Default time.Now.
	Now        func() time.Time
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics to itself
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	o.MaxTransactions = cmp.Or(o.MaxTransactions, 1<<16)
	o.MaxBytes = cmp.Or(o.MaxBytes, 128<<20)
	o.MaxPerSender = cmp.Or(o.MaxPerSender, max(1, o.MaxTransactions/4))
	o.MaxBytesPerSender = cmp.Or(o.MaxBytesPerSender, max(MaxTransactionBytes, o.MaxBytes/4))
	o.QueueTTL = cmp.Or(o.QueueTTL, 3*time.Hour)
	o.PriceBump = cmp.Or(o.PriceBump, 10)
	o.DropHistory = cmp.Or(o.DropHistory, 1<<14)
	if o.MinTip == nil {
		o.MinTip = new(big.Int)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports every field that makes no sense.
func (o *Options) Validate() error {
	var errs []error
	positive := func(name string, v int) {
		if v < 0 {
			errs = append(errs, fmt.Errorf("txpool: %s is %d, must not be negative", name, v))
		}
	}
	positive("MaxTransactions", o.MaxTransactions)
	positive("MaxBytes", o.MaxBytes)
	positive("MaxPerSender", o.MaxPerSender)
	positive("MaxBytesPerSender", o.MaxBytesPerSender)
	positive("PriceBump", o.PriceBump)
	positive("DropHistory", o.DropHistory)
	if o.QueueTTL < 0 {
		errs = append(errs, fmt.Errorf("txpool: QueueTTL is %v, must not be negative", o.QueueTTL))
	}
	if o.MinTip != nil && o.MinTip.Sign() < 0 {
		errs = append(errs, fmt.Errorf("txpool: MinTip is %v, must not be negative", o.MinTip))
	}
	return errors.Join(errs...)
}

// Pool holds accepted transactions until they are ordered. All methods may be called concurrently.
type Pool struct {
	chain   Chain
	opts    Options
	signer  types.Signer
	rules   txpool.ValidationOptions
	metrics *metrics
	feed    feed

	head atomic.Pointer[types.Header]
	wake chan struct{} // tells the Batcher that there may be work for it

	mu struct {
		sync.Mutex
		closed bool

		all     map[common.Hash]*entry
		senders map[common.Address]*sender
		bytes   int
		counts  // Invariant: pending + queued == len(all), inFlight <= pending
		dropped lru.BasicLRU[common.Hash, error]

		line    senderList // senders with executable transactions, who waited longest first
		waiting int        // executable transactions of the senders in line
		held    senderList // senders whose state has to be read again, who was read least recently first
		expiry  senderHeap // senders with queued transactions, who may expire next first
		crowds  senderHeap // the same, the most crowded first

		applied uint64 // number of calls of Applied: the version of what was told
		wakeAt  int    // how many waiting transactions wake the Batcher; never 0
	}
}

// New returns an empty pool. It panics if opts is not valid.
func New(chain Chain, opts Options) *Pool {
	if err := opts.Validate(); err != nil {
		panic(err)
	}
	opts.EnsureDefaults()
	p := &Pool{
		chain:  chain,
		opts:   opts,
		signer: types.LatestSigner(chain.Config()),
		rules: txpool.ValidationOptions{
			Config:  chain.Config(),
			Accept:  acceptedTypes,
			MaxSize: MaxTransactionBytes,
			MinTip:  opts.MinTip,
		},
		wake: make(chan struct{}, 1),
	}
	p.head.Store(chain.CurrentHeader())
	p.mu.all = make(map[common.Hash]*entry)
	p.mu.senders = make(map[common.Address]*sender)
	p.mu.dropped = lru.NewBasicLRU[common.Hash, error](opts.DropHistory)
	p.mu.line.which, p.mu.held.which = lineList, heldList
	p.mu.expiry.which, p.mu.crowds.which = expiryHeap, crowdHeap
	p.mu.wakeAt = math.MaxInt // until a Batcher runs
	p.metrics = newMetrics(opts.Registerer, p)
	p.feed.missed = p.metrics.missed
	return p
}

// Close refuses further transactions and ends the subscriptions. What the pool holds can still be read.
func (p *Pool) Close() {
	p.mu.Lock()
	p.mu.closed = true
	p.mu.Unlock()
	p.feed.close()
}

// errStale tells Add that what it knows of the sender's state does not suffice for a verdict.
var errStale = errors.New("stale")

// maxReads is how often Add reads a sender's state that changes faster than it can be read, before it takes
// the transaction in and leaves the doubt to the Batcher.
const maxReads = 3

// Add takes tx in, or says why not: in go-ethereum's words (see errors.go for the few of our own). The
// caller does not change tx afterwards. What Add accepts is pending or queued; Status and Content tell which.
func (p *Pool) Add(tx *types.Transaction) error {
	err := p.add(tx)
	if err != nil {
		p.metrics.rejected.WithLabelValues(label(err)).Inc()
		return err
	}
	p.metrics.added.Inc()
	return nil
}

func (p *Pool) add(tx *types.Transaction) error {
	hash := tx.Hash()
	if p.Get(hash) != nil { // before the recovery, since clients send again what they do not see included
		return txpool.ErrAlreadyKnown
	}
	e, err := p.newEntry(tx, hash, p.head.Load())
	if err != nil {
		return err
	}
	err = p.insert(e, nil)
	for reads := 1; errors.Is(err, errStale); reads++ {
		r := reading{last: reads == maxReads, applied: p.applied()}
		accounts, readErr := p.readAccounts(e.from)
		if readErr != nil {
			return readErr
		}
		r.account = accounts[0]
		err = p.insert(e, &r)
	}
	return err
}

// reading is a sender's state that was read while applied was the version of what had been told.
type reading struct {
	account
	applied uint64
	last    bool // there will be no other: make do with this one
}

func (p *Pool) applied() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.applied
}

// insert puts e into the pool if the sender's state allows it and there is room. Without a reading it works from what is
// cached; it answers errStale if that is missing or would lead to a refusal, or if the reading was overtaken.
func (p *Pool) insert(e *entry, r *reading) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return ErrClosed
	}
	if p.mu.all[e.hash] != nil {
		return txpool.ErrAlreadyKnown
	}
	p.expire(e.added)
	s := p.mu.senders[e.from]
	overtaken := r != nil && r.applied != p.mu.applied
	switch {
	case r == nil && (s == nil || !s.fresh), overtaken && !r.last:
		return errStale
	case s == nil:
		s = &sender{address: e.from, nonce: r.nonce}
		if overtaken { // its nonce may be an older one, which nobody will tell again
			s.hold, s.checked = strayNonce, r.applied
		}
	}
	if r != nil {
		s.account, s.fresh = r.account, !overtaken
		s.account.nonce = max(s.account.nonce, s.nonce)
	}
	old := s.pooled(e.nonce)
	if err := e.admit(s.account, &s.cost, old); err != nil {
		if r == nil {
			return errStale
		}
		return err
	}
	if old != nil {
		return p.replace(s, old, e)
	}
	return p.append(s, e)
}

// replace puts e where old is.
func (p *Pool) replace(s *sender, old, e *entry) error {
	if s.flight != nil && e.nonce < s.flightEnd {
		return ErrReplaceInFlight
	}
	if !outbids(e.tx, old.tx, p.opts.PriceBump) {
		return txpool.ErrReplaceUnderpriced
	}
	growth := e.size - old.size
	if s.bytes+growth > p.opts.MaxBytesPerSender {
		return fmt.Errorf("%w: pooled %d bytes", txpool.ErrAccountLimitExceeded, s.bytes)
	}
	if p.mu.bytes+growth > p.opts.MaxBytes {
		return ErrPoolFull // evicting could hit old itself; a replacement that grows into a full pool is rare
	}
	s.replace(old, e)
	p.leave(old, fmt.Errorf("%w by %v", ErrReplaced, e.hash))
	p.accept(s, e)
	if e.announced = old.announced; e.announced {
		p.feed.send([]*types.Transaction{e.tx})
	}
	return nil
}

// append puts e at a nonce that is free.
func (p *Pool) append(s *sender, e *entry) error {
	if len(s.list) >= p.opts.MaxPerSender {
		return fmt.Errorf("%w: pooled %d txs", txpool.ErrAccountLimitExceeded, len(s.list))
	}
	if s.bytes+e.size > p.opts.MaxBytesPerSender {
		return fmt.Errorf("%w: pooled %d bytes", txpool.ErrAccountLimitExceeded, s.bytes)
	}
	executable := s.hold == free && e.nonce <= s.nonce+uint64(s.ready)
	if !p.makeRoom(s, e.size, executable) {
		return ErrPoolFull
	}
	s.insert(e)
	p.accept(s, e)
	return nil
}

// accept does what is left once e is in the list of its sender, which may be new or have been emptied by makeRoom.
func (p *Pool) accept(s *sender, e *entry) {
	p.mu.senders[s.address] = s
	p.mu.all[e.hash] = e
	p.mu.bytes += e.size
	p.mu.dropped.Remove(e.hash)
	if s.hold == lacksFunds && s.fresh {
		p.reconsider(s)
	}
	p.settle(s)
	p.signal(s.hold == strayNonce)
}

// makeRoom evicts queued transactions until one of size bytes has room, and tells whether it has. They are taken
// from the sender that has the most, from its far end. An executable transaction may displace any queued one; one
// that will be queued itself only those of a sender that then still has no fewer, so that two cannot push each
// other out in turns.
func (p *Pool) makeRoom(s *sender, size int, executable bool) bool {
	for len(p.mu.all) >= p.opts.MaxTransactions || p.mu.bytes+size > p.opts.MaxBytes {
		if p.mu.crowds.Len() == 0 {
			return false
		}
		victim := p.mu.crowds.items[0]
		if !executable && victim.crowd <= s.crowd+1 {
			return false
		}
		p.leave(victim.remove(len(victim.list)-1), ErrEvicted)
		p.settle(victim)
	}
	return true
}

// leave ends the stay of a transaction that is in no list any more. Without a reason it was included.
func (p *Pool) leave(e *entry, reason error) {
	p.mu.bytes -= e.size
	if p.mu.all[e.hash] != e {
		return // included: Applied took it out of all
	}
	delete(p.mu.all, e.hash)
	p.mu.dropped.Add(e.hash, reason)
	p.metrics.dropped.WithLabelValues(label(reason)).Inc()
}

// maxScans bounds how many senders one call of expire looks at.
const maxScans = 64

// expire drops what has been queued for too long.
func (p *Pool) expire(now time.Time) {
	for range maxScans {
		if p.mu.expiry.Len() == 0 || p.mu.expiry.items[0].deadline.After(now) {
			return
		}
		s := p.mu.expiry.items[0]
		next := now.Add(p.opts.QueueTTL)
		pending := s.pending()
		for i := len(s.list) - 1; i >= pending; i-- {
			if at := s.expiresAt(i, p.opts.QueueTTL); !at.After(now) {
				p.leave(s.remove(i), ErrExpired)
			} else if at.Before(next) {
				next = at
			}
		}
		s.deadline = next
		heap.Fix(&p.mu.expiry, 0)
		p.settle(s)
	}
}

// signal wakes the Batcher if there are as many transactions as it waits for, or if held senders are to be read.
func (p *Pool) signal(held bool) {
	if p.mu.waiting >= p.mu.wakeAt || held && p.unchecked() {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// unchecked tells whether there are held senders whose state has not been read since the last entry.
func (p *Pool) unchecked() bool {
	return p.mu.held.front != nil && p.mu.held.front.checked != p.mu.applied
}

// Get returns the pooled transaction with this hash, or nil. Its sender is cached in it.
func (p *Pool) Get(hash common.Hash) *types.Transaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.mu.all[hash]; e != nil {
		return e.tx
	}
	return nil
}

// Has tells whether the pool holds the transaction with this hash.
func (p *Pool) Has(hash common.Hash) bool { return p.Get(hash) != nil }

// Nonce returns the nonce that the next transaction of account should have: its nonce at the head, and beyond
// the pooled ones that follow it without a gap. If the state cannot be read, which is logged, it is 0.
func (p *Pool) Nonce(account common.Address) uint64 {
	p.mu.Lock()
	if s := p.mu.senders[account]; s != nil {
		defer p.mu.Unlock()
		return s.nonce + uint64(s.ready)
	}
	p.mu.Unlock()
	var nonce uint64
	err := p.chain.ReadState(func(st StateReader) error {
		nonce = st.GetNonce(account)
		return nil
	})
	if err != nil {
		p.opts.Logger.Error("read nonce", "account", account, "err", err)
		return 0
	}
	return nonce
}

// State is where a transaction is.
type State int

const (
	StateUnknown  State = iota // not here: never seen, included, or dropped long ago
	StatePending               // executable, waiting for the next append
	StateQueued                // waits for an earlier nonce, or for its sender's funds
	StateInFlight              // being ordered
	StateDropped               // gone without being included, see Reason
)

var stateNames = [...]string{"unknown", "pending", "queued", "in flight", "dropped"}

func (s State) String() string { return stateNames[s] }

// Status is what became of a transaction, as far as the pool knows. Included ones are the ledger's to tell.
type Status struct {
	State  State
	Reason string // why it was dropped
}

// Status tells what became of the transaction with this hash.
func (p *Pool) Status(hash common.Hash) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.mu.all[hash]; e != nil {
		s := p.mu.senders[e.from]
		switch i, _ := s.find(e.nonce); {
		case i < s.inFlight():
			return Status{State: StateInFlight}
		case i < s.pending():
			return Status{State: StatePending}
		}
		return Status{State: StateQueued}
	}
	if reason, ok := p.mu.dropped.Get(hash); ok {
		return Status{State: StateDropped, Reason: reason.Error()}
	}
	return Status{}
}

// Stats counts the transactions: pending (executable or in flight) and queued.
func (p *Pool) Stats() (pending, queued int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.counts.pending, p.mu.counts.queued
}

// Content returns all transactions by sender, sorted by nonce.
func (p *Pool) Content() (pending, queued map[common.Address][]*types.Transaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pending, queued = make(map[common.Address][]*types.Transaction), make(map[common.Address][]*types.Transaction)
	for address, s := range p.mu.senders {
		if txs := transactions(s.list[:s.pending()]); len(txs) > 0 {
			pending[address] = txs
		}
		if txs := transactions(s.list[s.pending():]); len(txs) > 0 {
			queued[address] = txs
		}
	}
	return pending, queued
}

// ContentFrom returns the transactions of one sender, sorted by nonce.
func (p *Pool) ContentFrom(account common.Address) (pending, queued []*types.Transaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.mu.senders[account]
	if s == nil {
		return nil, nil
	}
	return transactions(s.list[:s.pending()]), transactions(s.list[s.pending():])
}

func transactions(list []*entry) []*types.Transaction {
	txs := make([]*types.Transaction, len(list))
	for i, e := range list {
		txs[i] = e.tx
	}
	return txs
}

// Inspect returns a line for each transaction, by sender and nonce, as txpool_inspect prints it.
func (p *Pool) Inspect() (pending, queued map[common.Address]map[uint64]string) {
	lines := func(content map[common.Address][]*types.Transaction) map[common.Address]map[uint64]string {
		out := make(map[common.Address]map[uint64]string, len(content))
		for account, txs := range content {
			out[account] = make(map[uint64]string, len(txs))
			for _, tx := range txs {
				out[account][tx.Nonce()] = summary(tx)
			}
		}
		return out
	}
	p1, q1 := p.Content()
	return lines(p1), lines(q1)
}

func summary(tx *types.Transaction) string {
	to := "contract creation"
	if tx.To() != nil {
		to = tx.To().Hex()
	}
	return fmt.Sprintf("%s: %v wei + %v gas × %v wei", to, tx.Value(), tx.Gas(), tx.GasPrice())
}

// SubscribeTransactions sends to ch what becomes executable, in nonce order for each sender. It never waits: what ch has no
// room for is missed, and counted in a metric. The channel should be buffered. Close ends the subscription.
func (p *Pool) SubscribeTransactions(ch chan<- []*types.Transaction) event.Subscription {
	return p.feed.subscribe(ch)
}
