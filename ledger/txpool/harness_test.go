package txpool

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"

	"ledgerd/contracts"
	"ledgerd/ledger/batch"
	"ledgerd/vm"
)

const testGasLimit = 1_000_000

var (
	testConfig = vm.OsakaConfig(1337)
	testSigner = types.LatestSigner(testConfig)
	// errNoState is what a chain answers whose state cannot be read.
	errNoState = fmt.Errorf("no state")
)

// user is an account that signs.
type user struct {
	key     *ecdsa.PrivateKey
	address common.Address
}

func newUser(i int) user {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("txpool"), uint64(i)))
	key, err := crypto.ToECDSA(seed[:])
	if err != nil {
		panic(err)
	}
	return user{key: key, address: crypto.PubkeyToAddress(key.PublicKey)}
}

func (u user) sign(data types.TxData) *types.Transaction {
	return types.MustSignNewTx(u.key, testSigner, data)
}

// shape changes what transfer makes.
type shape func(*types.DynamicFeeTx)

func value(v int64) shape { return func(d *types.DynamicFeeTx) { d.Value = big.NewInt(v) } }
func gas(g uint64) shape  { return func(d *types.DynamicFeeTx) { d.Gas = g } }
func data(n int) shape    { return func(d *types.DynamicFeeTx) { d.Data = make([]byte, n) } }
func creates() shape      { return func(d *types.DynamicFeeTx) { d.To, d.Gas = nil, 60_000 } }
func to(u user) shape     { return func(d *types.DynamicFeeTx) { d.To = &u.address } }
func fee(cap, tip int64) shape {
	return func(d *types.DynamicFeeTx) { d.GasFeeCap, d.GasTipCap = big.NewInt(cap), big.NewInt(tip) }
}

// transfer is a transaction of no value and no price, unless shaped otherwise.
func (u user) transfer(nonce uint64, shapes ...shape) *types.Transaction {
	d := &types.DynamicFeeTx{ChainID: testConfig.ChainID, Nonce: nonce, Gas: params.TxGas, To: &common.Address{0xee},
		GasFeeCap: new(big.Int), GasTipCap: new(big.Int), Value: new(big.Int)}
	for _, s := range shapes {
		s(d)
	}
	return u.sign(d)
}

// transfers makes consecutive ones.
func (u user) transfers(from, n uint64, shapes ...shape) []*types.Transaction {
	var txs []*types.Transaction
	for i := range n {
		txs = append(txs, u.transfer(from+i, shapes...))
	}
	return txs
}

// fakeChain executes transfers on a state of two maps. It is the judge that the pool has to get along with.
type fakeChain struct {
	mu       sync.Mutex
	header   *types.Header
	nonces   map[common.Address]uint64
	balances map[common.Address]*uint256.Int
	slots    map[common.Hash]common.Hash
	reads    int
	onRead   func() // runs after a read, without the lock
	err      error
}

func newChain() *fakeChain {
	return &fakeChain{
		header:   &types.Header{Number: big.NewInt(0), Difficulty: new(big.Int), GasLimit: testGasLimit, BaseFee: new(big.Int)},
		nonces:   make(map[common.Address]uint64),
		balances: make(map[common.Address]*uint256.Int),
		slots:    make(map[common.Hash]common.Hash),
	}
}

func (c *fakeChain) Config() *params.ChainConfig { return testConfig }

func (c *fakeChain) CurrentHeader() *types.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header
}

func (c *fakeChain) ReadState(f func(StateReader) error) error {
	err := func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.reads++
		if c.err != nil {
			return c.err
		}
		return f((*fakeState)(c))
	}()
	if hook := c.onRead; hook != nil {
		hook()
	}
	return err
}

// fakeState reads the chain while it is locked.
type fakeState fakeChain

func (s *fakeState) GetNonce(a common.Address) uint64 { return s.nonces[a] }

func (s *fakeState) GetBalance(a common.Address) *uint256.Int {
	if b := s.balances[a]; b != nil {
		return b
	}
	return new(uint256.Int)
}

func (s *fakeState) GetState(a common.Address, slot common.Hash) common.Hash {
	if a != contracts.PermissionsAddress {
		return common.Hash{}
	}
	return s.slots[slot]
}

func (c *fakeChain) fund(u user, wei uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.balances[u.address] = uint256.NewInt(wei)
}

func (c *fakeChain) restrict(bits uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots[contracts.RestrictionsSlot] = common.BigToHash(new(big.Int).SetUint64(bits))
}

func (c *fakeChain) permit(u user, flags uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots[contracts.PermissionsSlot(u.address)] = common.BigToHash(new(big.Int).SetUint64(flags))
}

// execute makes a block of txs and returns what the ledger would tell the pool.
func (c *fakeChain) execute(txs []*types.Transaction) Applied {
	c.mu.Lock()
	defer c.mu.Unlock()
	var a Applied
	left := c.header.GasLimit
	for _, tx := range txs {
		if err := c.run(tx, &left); err != nil {
			a.Skipped = append(a.Skipped, Skipped{Hash: tx.Hash(), Tx: tx, Err: err})
		} else {
			a.Included = append(a.Included, tx)
		}
	}
	if len(a.Included) > 0 {
		h := types.CopyHeader(c.header)
		h.Number.Add(h.Number, common.Big1)
		c.header = h
	}
	a.Header = c.header
	return a
}

func (c *fakeChain) run(tx *types.Transaction, left *uint64) error {
	from, err := types.Sender(testSigner, tx)
	if err != nil {
		return err
	}
	st := (*fakeState)(c)
	restrictions, flags := word(st, contracts.RestrictionsSlot), word(st, contracts.PermissionsSlot(from))
	cost := uint256.MustFromBig(tx.Cost())
	switch have := c.nonces[from]; {
	case restrictions&contracts.RestrictSend != 0 && flags&contracts.FlagSend == 0:
		return fmt.Errorf("%w: %v", vm.ErrSendNotPermitted, from)
	case tx.Nonce() < have:
		return fmt.Errorf("%w: address %v, tx: %d state: %d", core.ErrNonceTooLow, from, tx.Nonce(), have)
	case tx.Nonce() > have:
		return fmt.Errorf("%w: address %v, tx: %d state: %d", core.ErrNonceTooHigh, from, tx.Nonce(), have)
	case tx.Gas() > *left:
		return core.ErrGasLimitReached
	case st.GetBalance(from).Lt(cost):
		return fmt.Errorf("%w: address %v have %v want %v", core.ErrInsufficientFunds, from, st.GetBalance(from), cost)
	case tx.To() == nil && restrictions&contracts.RestrictDeploy != 0 && flags&contracts.FlagDeploy == 0:
		return fmt.Errorf("%w: %v", vm.ErrDeployNotPermitted, from)
	}
	*left -= tx.Gas()
	c.nonces[from]++
	c.balances[from] = new(uint256.Int).Sub(st.GetBalance(from), cost)
	if tx.To() != nil {
		c.balances[*tx.To()] = new(uint256.Int).Add(st.GetBalance(*tx.To()), uint256.MustFromBig(tx.Value()))
	}
	return nil
}

// decode is what a replica does with a payload.
func decode(t testing.TB, payload []byte) []*types.Transaction {
	t.Helper()
	raw, err := batch.Decode(payload, batch.Limits{})
	if err != nil {
		t.Fatalf("batch does not decode: %v", err)
	}
	txs := make([]*types.Transaction, len(raw))
	for i := range raw {
		txs[i] = new(types.Transaction)
		if err := txs[i].UnmarshalBinary(raw[i]); err != nil {
			t.Fatalf("transaction %d does not decode: %v", i, err)
		}
	}
	return txs
}

// fixture is a pool on a fake chain with a clock that stands still.
type fixture struct {
	*Pool
	t     testing.TB
	chain *fakeChain
	now   time.Time
}

func newFixture(t testing.TB, opts Options) *fixture {
	f := &fixture{t: t, chain: newChain(), now: time.Unix(1_700_000_000, 0)}
	opts.Now = func() time.Time { return f.now }
	f.Pool = New(f.chain, opts)
	return f
}

func (f *fixture) add(txs ...*types.Transaction) {
	f.t.Helper()
	for _, tx := range txs {
		if err := f.Add(tx); err != nil {
			f.t.Fatalf("add nonce %d: %v", tx.Nonce(), err)
		}
	}
	checkPool(f.t, f.Pool)
}

// apply has the ledger execute txs as one entry.
func (f *fixture) apply(txs ...*types.Transaction) Applied {
	f.t.Helper()
	a := f.chain.execute(txs)
	f.Applied(a)
	checkPool(f.t, f.Pool)
	return a
}

func (f *fixture) takeAll() *taken {
	f.t.Helper()
	t := f.take(batch.Limits{Transactions: batch.MaxTransactions, Bytes: batch.MaxBytes})
	checkPool(f.t, f.Pool)
	return t
}

func (f *fixture) wantStats(pending, queued int) {
	f.t.Helper()
	if p, q := f.Stats(); p != pending || q != queued {
		f.t.Fatalf("%d pending, %d queued; want %d, %d", p, q, pending, queued)
	}
}

func (f *fixture) wantStatus(tx *types.Transaction, state State, reason string) {
	f.t.Helper()
	if got := f.Status(tx.Hash()); got != (Status{State: state, Reason: reason}) {
		f.t.Fatalf("nonce %d is %v %q; want %v %q", tx.Nonce(), got.State, got.Reason, state, reason)
	}
}

func (f *fixture) wantNonce(u user, want uint64) {
	f.t.Helper()
	if got := f.Nonce(u.address); got != want {
		f.t.Fatalf("pending nonce is %d, want %d", got, want)
	}
}

// checkPool recounts everything that the pool derives.
func checkPool(t testing.TB, p *Pool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var (
		total   counts
		bytes   int
		waiting int
		listed  int
	)
	fail := func(s *sender, format string, args ...any) {
		t.Helper()
		t.Fatalf("sender %v: %s", s.address, fmt.Sprintf(format, args...))
	}
	for address, s := range p.mu.senders {
		if address != s.address || len(s.list) == 0 && s.flight == nil {
			fail(s, "kept at %v without transactions", address)
		}
		var cost uint256.Int
		size, ready := 0, 0
		for i, e := range s.list {
			if p.mu.all[e.hash] != e || e.from != address {
				fail(s, "transaction %d is not in all", i)
			}
			if e.nonce < s.nonce || i > 0 && e.nonce <= s.list[i-1].nonce {
				fail(s, "nonces out of order at %d", i)
			}
			if e.nonce == s.nonce+uint64(i) {
				ready++
			}
			cost.Add(&cost, &e.cost)
			size += e.size
		}
		if ready != s.ready || cost != s.cost || size != s.bytes {
			fail(s, "ready %d, cost %v, bytes %d; counted %d, %v, %d", s.ready, &s.cost, s.bytes, ready, &cost, size)
		}
		c := counts{}
		for i, e := range s.list {
			inFlight := s.flight != nil && e.nonce < s.flightEnd
			if inFlight {
				c.inFlight++
			}
			if inFlight || s.hold == free && i < ready {
				c.pending++
			} else {
				c.queued++
			}
		}
		if c != s.counted {
			fail(s, "counts %+v, counted %+v", s.counted, c)
		}
		runs := s.flight == nil && s.hold == free && ready > 0
		if runs != s.links[lineList].in || runs && s.waiting != ready || !runs && s.waiting != 0 {
			fail(s, "runnable %v, in line %v, waiting %d of %d", runs, s.links[lineList].in, s.waiting, ready)
		}
		if held := s.hold != free && len(s.list) > 0; held != s.links[heldList].in {
			fail(s, "held %v, in the list %v", held, s.links[heldList].in)
		}
		for _, h := range []*senderHeap{&p.mu.expiry, &p.mu.crowds} {
			if at := s.at[h.which]; (at > 0) != (c.queued > 0) || at > 0 && h.items[at-1] != s {
				fail(s, "at %d in heap %d with %d queued", at, h.which, c.queued)
			}
		}
		if s.crowd != c.queued || len(s.list) > p.opts.MaxPerSender || s.bytes > p.opts.MaxBytesPerSender {
			fail(s, "crowd %d, %d transactions, %d bytes", s.crowd, len(s.list), s.bytes)
		}
		total.pending, total.queued, total.inFlight = total.pending+c.pending, total.queued+c.queued, total.inFlight+c.inFlight
		bytes, waiting, listed = bytes+size, waiting+s.waiting, listed+len(s.list)
	}
	if total != p.mu.counts || bytes != p.mu.bytes || waiting != p.mu.waiting || listed != len(p.mu.all) {
		t.Fatalf("pool counts %+v, %d bytes, %d waiting, %d in all; recounted %+v, %d, %d, %d",
			p.mu.counts, p.mu.bytes, p.mu.waiting, len(p.mu.all), total, bytes, waiting, listed)
	}
	if listed > p.opts.MaxTransactions || bytes > p.opts.MaxBytes {
		t.Fatalf("%d transactions of %d bytes are over the limits", listed, bytes)
	}
	for _, l := range []*senderList{&p.mu.line, &p.mu.held} {
		var last *sender
		for s := l.front; s != nil; s = l.next(s) {
			if s.links[l.which].prev != last || p.mu.senders[s.address] != s {
				t.Fatalf("list %d is broken at %v", l.which, s.address)
			}
			last = s
		}
		if l.back != last {
			t.Fatalf("list %d does not end at its back", l.which)
		}
	}
	for _, h := range []*senderHeap{&p.mu.expiry, &p.mu.crowds} {
		for i := 1; i < h.Len(); i++ {
			if h.Less(i, (i-1)/2) {
				t.Fatalf("heap %d is out of order at %d", h.which, i)
			}
		}
	}
}

// checkBatch checks what holds of every batch (invariants 2 and 4).
func checkBatch(t testing.TB, txs []*types.Transaction, gasLimit uint64) {
	t.Helper()
	var sum uint64
	last := make(map[common.Address]uint64)
	for _, tx := range txs {
		sum += tx.Gas()
		from, err := types.Sender(testSigner, tx)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := last[from]; ok && tx.Nonce() != before+1 {
			t.Fatalf("nonce %d follows %d in a batch", tx.Nonce(), before)
		}
		last[from] = tx.Nonce()
	}
	if sum > gasLimit {
		t.Fatalf("batch of %d gas, limit %d", sum, gasLimit)
	}
}

func nonces(txs []*types.Transaction) []uint64 {
	out := []uint64{}
	for _, tx := range txs {
		out = append(out, tx.Nonce())
	}
	return out
}

func wantNonces(t testing.TB, what string, txs []*types.Transaction, want ...uint64) {
	t.Helper()
	if got := nonces(txs); !slices.Equal(got, want) {
		t.Fatalf("%s: nonces %v, want %v", what, got, want)
	}
}
