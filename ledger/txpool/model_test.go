package txpool

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"

	"ledgerd/ledger/batch"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "seed of TestModel; 0 takes one from the clock")
	modelRuns  = flag.Int("model.runs", 30, "runs of TestModel")
	modelSteps = flag.Int("model.steps", 400, "steps of a run of TestModel")
)

// TestModel does at random what can happen to a pool: transactions of all kinds, batches that are ordered, lost, or of unknown
// fate, entries of other nodes, changing funds, permissions, nonces and limits, and time. After each step every
// derived number is recounted, and every transaction that was ever accepted must be in one place.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for run := range *modelRuns {
		seed := seed + uint64(run)
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(t, seed)
			for range *modelSteps {
				m.step()
				m.check()
			}
			m.drain()
		})
		if !ok {
			t.Fatalf("again with -model.seed=%d -model.runs=1", seed)
		}
	}
}

type model struct {
	*fixture
	t         *testing.T
	rnd       *rand.Rand
	users     []user
	accepted  map[common.Hash]*types.Transaction
	included  map[common.Hash]bool
	announced map[common.Hash]bool
	feed      chan []*types.Transaction
	flights   []*taken
	late      [][]*types.Transaction // batches whose append failed, and which will be ordered all the same
	steps     []string
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		fixture: newFixture(t, Options{MaxTransactions: 40, MaxPerSender: 15, MaxBytes: 8000, MaxBytesPerSender: 4000,
			QueueTTL: time.Hour, DropHistory: 1 << 16}),
		t:         t,
		rnd:       rand.New(rand.NewPCG(seed, 1)),
		accepted:  make(map[common.Hash]*types.Transaction),
		included:  make(map[common.Hash]bool),
		announced: make(map[common.Hash]bool),
		feed:      make(chan []*types.Transaction, 100),
	}
	sub := m.SubscribeTransactions(m.feed)
	t.Cleanup(func() {
		sub.Unsubscribe()
		if t.Failed() {
			t.Logf("last steps: %v", m.steps[max(0, len(m.steps)-12):])
		}
	})
	for i := range 7 {
		m.users = append(m.users, newUser(i))
		m.chain.fund(m.users[i], 2_000_000)
	}
	m.chain.header.GasLimit = 250_000
	return m
}

func (m *model) note(format string, args ...any) {
	m.steps = append(m.steps, fmt.Sprintf(format, args...))
}

func (m *model) user() user { return m.users[m.rnd.IntN(len(m.users))] }

// some returns a transaction of u, most likely the next one that makes sense.
func (m *model) some(u user) *types.Transaction {
	nonce := m.Nonce(u.address)
	switch m.rnd.IntN(8) {
	case 0:
		nonce += uint64(m.rnd.IntN(5))
	case 1:
		nonce -= min(nonce, uint64(m.rnd.IntN(5)))
	}
	price := int64(m.rnd.IntN(4))
	shapes := []shape{fee(price, price), value(int64(m.rnd.IntN(1000))), to(m.user())}
	switch m.rnd.IntN(12) {
	case 0:
		shapes = append(shapes, creates())
	case 1:
		shapes = append(shapes, data(m.rnd.IntN(600)), gas(60_000))
	case 2:
		shapes = append(shapes, gas(200_000))
	case 3:
		shapes = append(shapes, value(1_000_000))
	}
	return u.transfer(nonce, shapes...)
}

// order has the ledger apply txs as one entry.
func (m *model) order(txs []*types.Transaction) {
	a := m.chain.execute(txs)
	for _, tx := range a.Included {
		m.included[tx.Hash()] = true
	}
	m.Applied(a)
}

func (m *model) step() {
	switch k := m.rnd.IntN(100); {
	case k < 50:
		tx := m.some(m.user())
		err := m.Add(tx)
		m.note("add %x: %v", tx.Hash().Bytes()[:3], err)
		if err == nil {
			m.accepted[tx.Hash()] = tx
		}
	case k < 60:
		m.take()
	case k < 72:
		m.land()
	case k < 76:
		if len(m.late) > 0 {
			m.note("late batch")
			m.order(m.late[0])
			m.late = m.late[1:]
		}
	case k < 82:
		var txs []*types.Transaction
		for range 1 + m.rnd.IntN(5) {
			txs = append(txs, m.some(m.user()))
		}
		if pending, _ := m.ContentFrom(m.user().address); len(pending) > 0 && m.rnd.IntN(2) == 0 {
			txs = append(pending[:1+m.rnd.IntN(len(pending))], txs...) // the client sent it to another node, too
		}
		m.note("foreign entry of %d", len(txs))
		m.order(txs)
	case k < 85:
		m.note("fund")
		m.chain.fund(m.user(), uint64(m.rnd.IntN(1_500_000)))
	case k < 88:
		m.note("restrict")
		often, rarely := m.rnd.IntN(4), m.rnd.IntN(4)
		m.chain.restrict(uint64(often & rarely)) // each bit in a quarter of the cases
		m.chain.permit(m.user(), uint64(m.rnd.IntN(4)))
	case k < 89:
		m.note("stray nonce")
		m.chain.nonces[m.user().address]++
	case k < 91:
		m.note("gas limit")
		h := types.CopyHeader(m.chain.header)
		h.GasLimit = 100_000 + uint64(m.rnd.IntN(200_000))
		m.chain.header = h
	case k < 93:
		m.note("clock")
		m.now = m.now.Add(time.Duration(m.rnd.IntN(40)) * time.Minute)
	case k < 94:
		m.note("tidy")
		m.tidy()
	default:
		m.note("recheck")
		m.recheck()
	}
}

func (m *model) take() *taken {
	if len(m.flights) == 3 {
		return nil
	}
	t := m.Pool.take(batch.Limits{Transactions: 8, Bytes: batch.MaxBytes})
	if t == nil {
		return nil
	}
	m.note("take %d", len(t.txs))
	checkBatch(m.t, t.txs, m.head.Load().GasLimit)
	if len(t.txs) > 8 {
		m.t.Fatalf("batch of %d", len(t.txs))
	}
	seen := make(map[*sender]bool)
	for _, s := range t.senders {
		seen[s] = true
	}
	for _, other := range m.flights {
		for _, s := range other.senders {
			if seen[s] {
				m.t.Fatalf("sender %v is in two appends", s.address)
			}
		}
	}
	for _, tx := range t.txs {
		if m.hear(); !m.announced[tx.Hash()] {
			m.t.Fatalf("transaction %v was never announced", tx.Hash())
		}
	}
	m.flights = append(m.flights, t)
	return t
}

// land ends an append in one of the ways in which it can end.
func (m *model) land() {
	if len(m.flights) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.flights))
	t := m.flights[i]
	m.flights = slices.Delete(m.flights, i, i+1)
	txs := decode(m.t, t.payload())
	switch m.rnd.IntN(6) {
	case 0:
		m.note("lost")
		m.release(t, errors.New("lost"))
	case 1:
		m.note("unknown")
		m.release(t, errors.New("unknown"))
		m.late = append(m.late, txs)
	case 2:
		m.note("applied, but failed")
		m.order(txs)
		m.release(t, errors.New("ended"))
	default:
		m.note("applied")
		m.order(txs)
		m.release(t, nil)
	}
}

func (m *model) hear() {
	for len(m.feed) > 0 {
		for _, tx := range <-m.feed {
			m.announced[tx.Hash()] = true
		}
	}
}

func (m *model) check() {
	checkPool(m.t, m.Pool)
	m.hear()
	for hash, tx := range m.accepted {
		places := 0
		for _, here := range []bool{m.Has(hash), m.included[hash], m.Status(hash).State == StateDropped} {
			if here {
				places++
			}
		}
		if places != 1 {
			m.t.Fatalf("nonce %d %v: pooled %v, included %v, status %v", tx.Nonce(), hash, m.Has(hash), m.included[hash], m.Status(hash))
		}
	}
}

// drain heals the world: then everything executable must become included, in a bounded number of blocks.
func (m *model) drain() {
	for _, t := range m.flights {
		m.release(t, errors.New("shutdown"))
	}
	m.flights = nil
	m.chain.restrict(0)
	h := types.CopyHeader(m.chain.header)
	h.GasLimit = 300_000
	m.chain.header = h
	for _, u := range m.users {
		m.chain.balances[u.address] = uint256.NewInt(1 << 50)
	}
	m.order([]*types.Transaction{m.users[0].transfer(m.chain.nonces[m.users[0].address], fee(100, 100))})
	for rounds := 0; ; rounds++ {
		m.recheck()
		m.check()
		t := m.take()
		if t == nil {
			break
		}
		if rounds > 60 {
			m.t.Fatalf("%d rounds, and %d still pending", rounds, m.mu.counts.pending)
		}
		m.flights = nil
		m.order(t.txs)
		m.release(t, nil)
	}
	if pending, _ := m.Stats(); pending != 0 || m.mu.held.front != nil {
		m.t.Fatalf("%d pending and held %v after all", pending, m.mu.held.front)
	}
}
