package feed

import (
	"context"
	"crypto/ecdsa"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/event"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/trie"

	"ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/rpc/feed/protocol"
)

const genesisTime = 1_700_000_000

var (
	chainID   = big.NewInt(1337)
	signer    = types.LatestSignerForChainID(chainID)
	senders   = keys(3)
	addresses = []common.Address{{1}, {2}, {3}, {4}}
	topics    = []common.Hash{{1}, {2}, {3}, {4}}
)

func keys(n int) (all []*ecdsa.PrivateKey) {
	for i := range n {
		key, err := crypto.ToECDSA(crypto.Keccak256([]byte{byte(i)}))
		if err != nil {
			panic(err)
		}
		all = append(all, key)
	}
	return all
}

func senderOf(tx *types.Transaction) common.Address {
	from, err := types.Sender(signer, tx)
	if err != nil {
		panic(err)
	}
	return from
}

// testChain is a Backend whose blocks nobody executed: transactions and logs are what a test says.
type testChain struct {
	heads event.FeedOf[ledger.HeadEvent]

	mu       sync.Mutex
	config   *params.ChainConfig
	blocks   []*types.Block
	receipts []types.Receipts
	numbers  map[common.Hash]uint64
	kept     uint64 // blocks below are pruned
	searches []ledger.LogQuery
	segments []consensus.Segment
	applied  consensus.LSN
}

func newTestChain() *testChain {
	c := &testChain{
		config: params.AllDevChainProtocolChanges, numbers: make(map[common.Hash]uint64), segments: []consensus.Segment{{Epoch: 1, Base: 1}},
	}
	config := *c.config
	config.ChainID = chainID
	c.config = &config
	c.add(types.NewBlock(&types.Header{Number: new(big.Int), Time: genesisTime, Difficulty: new(big.Int), BaseFee: new(big.Int)}, nil, nil, trie.NewStackTrie(nil)), nil)
	return c
}

func (c *testChain) add(b *types.Block, receipts types.Receipts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.numbers[b.Hash()] = b.NumberU64()
	c.blocks = append(c.blocks, b)
	c.receipts = append(c.receipts, receipts)
}

// call is a transaction with the logs that it emits.
type call struct {
	tx   *types.Transaction
	logs []*types.Log
}

// randomCalls makes up to n of them.
func randomCalls(rng *rand.Rand, n int) (calls []call) {
	for range rng.IntN(n + 1) {
		inner := &types.LegacyTx{Nonce: rng.Uint64(), Gas: 21000, GasPrice: new(big.Int)}
		if rng.IntN(4) > 0 {
			inner.To = &addresses[rng.IntN(len(addresses))]
		}
		c := call{tx: types.MustSignNewTx(senders[rng.IntN(len(senders))], signer, inner)}
		for range rng.IntN(3) {
			l := &types.Log{Address: addresses[rng.IntN(len(addresses))]}
			for range rng.IntN(4) {
				l.Topics = append(l.Topics, topics[rng.IntN(len(topics))])
			}
			c.logs = append(c.logs, l)
		}
		calls = append(calls, c)
	}
	return calls
}

// mine makes a block in an epoch and announces it. Its entry has the first free LSN.
func (c *testChain) mine(epoch consensus.Epoch, calls ...call) *types.Block {
	parent := c.CurrentHeader()
	number := parent.Number.Uint64() + 1
	c.mu.Lock()
	c.applied++
	extra := []byte{1}
	for _, v := range []uint64{uint64(epoch), uint64(c.applied), (genesisTime + number) * 1000} {
		extra = binary.BigEndian.AppendUint64(extra, v)
	}
	c.mu.Unlock()
	header := &types.Header{
		ParentHash: parent.Hash(), Number: new(big.Int).SetUint64(number), Time: genesisTime + number, Extra: extra, Difficulty: new(big.Int), BaseFee: new(big.Int),
	}
	var body types.Body
	var receipts types.Receipts
	var logs []*types.Log
	for i, call := range calls {
		body.Transactions = append(body.Transactions, call.tx)
		r := &types.Receipt{Status: 1, TxHash: call.tx.Hash(), TransactionIndex: uint(i), BlockNumber: header.Number, EffectiveGasPrice: new(big.Int), Logs: call.logs}
		for _, l := range call.logs {
			l.BlockNumber, l.TxHash, l.TxIndex, l.Index, l.BlockTimestamp = number, r.TxHash, uint(i), uint(len(logs)), header.Time
			logs = append(logs, l)
		}
		receipts = append(receipts, r)
	}
	block := types.NewBlock(header, &body, receipts, trie.NewStackTrie(nil))
	for _, r := range receipts {
		r.BlockHash = block.Hash()
		for _, l := range r.Logs {
			l.BlockHash = block.Hash()
		}
	}
	c.add(block, receipts)
	c.heads.Send(ledger.HeadEvent{Block: block, Receipts: receipts, Logs: logs})
	return block
}

// seal begins another segment, and says that its Seal has been applied.
func (c *testChain) seal() consensus.Epoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applied++
	epoch := consensus.Epoch(len(c.segments) + 1)
	c.segments = append(slices.Clone(c.segments), consensus.Segment{Epoch: epoch, Base: c.applied + 1})
	return epoch
}

func (c *testChain) Segments() []consensus.Segment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.segments
}

func (c *testChain) ChainConfig() *params.ChainConfig { return c.config }

func (c *testChain) CurrentHeader() *types.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocks[len(c.blocks)-1].Header()
}

func (c *testChain) HeaderByNumber(number uint64) *types.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number >= uint64(len(c.blocks)) || number < c.kept {
		return nil
	}
	return c.blocks[number].Header()
}

func (c *testChain) BlockByHash(hash common.Hash) *types.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number, ok := c.numbers[hash]; ok && number >= c.kept {
		return c.blocks[number]
	}
	return nil
}

func (c *testChain) ReceiptsByHash(hash common.Hash) types.Receipts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number, ok := c.numbers[hash]; ok && number >= c.kept {
		return c.receipts[number]
	}
	return nil
}

// SearchLogs is the ledger's without its index: a look at every block.
func (c *testChain) SearchLogs(_ context.Context, q ledger.LogQuery) (found []*types.Log, next uint64, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.searches = append(c.searches, q)
	for next = q.From; next <= q.To && next < uint64(len(c.blocks)); next++ {
		var here []*types.Log
		for _, r := range c.receipts[next] {
			for _, l := range r.Logs {
				if q.Matches(l) && next >= c.kept {
					here = append(here, l)
				}
			}
		}
		if len(found) > 0 && len(found)+len(here) > q.Limit {
			return found, next, nil
		}
		found = append(found, here...)
	}
	return found, next, nil
}

// AccountBlocks has more than it must: a block counts if each list has an account of any transaction in it.
func (c *testChain) AccountBlocks(_ context.Context, lists [][]common.Address, from, to uint64, f func(uint64) (bool, error)) error {
	for number := max(from, 1); number <= to; number++ {
		c.mu.Lock()
		accounts := make(map[common.Address]bool)
		for _, tx := range c.blocks[number].Transactions() {
			accounts[senderOf(tx)] = true
			if tx.To() != nil {
				accounts[*tx.To()] = true
			}
		}
		c.mu.Unlock()
		if slices.ContainsFunc(lists, func(list []common.Address) bool {
			return len(list) > 0 && !slices.ContainsFunc(list, func(a common.Address) bool { return accounts[a] })
		}) {
			continue
		}
		if more, err := f(number); err != nil || !more {
			return err
		}
	}
	return nil
}

func (c *testChain) SubscribeHeads(ch chan<- ledger.HeadEvent) event.Subscription {
	return c.heads.Subscribe(ch)
}

func (c *testChain) Applied() consensus.LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applied
}

func (c *testChain) Drain(context.Context) error { return nil }

// testForms say of each thing only which it is.
type testForms struct{}

func (testForms) Header(h *types.Header) any { return map[string]any{"number": h.Number.Uint64()} }

func (testForms) Transaction(tx *types.Transaction, block *types.Header, _ common.Hash, index uint64) any {
	return map[string]any{"number": block.Number.Uint64(), "index": index, "hash": tx.Hash()}
}

func (testForms) Receipt(r *types.Receipt, tx *types.Transaction) any {
	return map[string]any{"number": r.BlockNumber.Uint64(), "index": r.TransactionIndex, "hash": tx.Hash()}
}

func (testForms) Segment(s consensus.Segment) any { return map[string]any{"epoch": uint64(s.Epoch)} }

// expected is what a subscription must send, by a reading of docs/feed.md that shares nothing with the feed but the order of events.
func (c *testChain) expected(filters []protocol.Filter, from protocol.Position) (events []protocol.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	any := func(list []common.Address, a common.Address) bool { return len(list) == 0 || slices.Contains(list, a) }
	for number, b := range c.blocks {
		var index uint32
		visit := func(selected func(f protocol.Filter) bool) {
			at := protocol.Position{Block: uint64(number), Index: index}
			if (at.Block > from.Block || at.Block == from.Block && at.Index >= from.Index) && slices.ContainsFunc(filters, selected) {
				events = append(events, at)
			}
			index++
		}
		if number > 0 {
			for range epochOf(b.Header()) - epochOf(c.blocks[number-1].Header()) {
				visit(func(f protocol.Filter) bool { return f.Kind == protocol.KindSegment })
			}
		}
		visit(func(f protocol.Filter) bool { return f.Kind == protocol.KindBlock })
		concerns := func(f protocol.Filter, tx *types.Transaction) bool {
			to := common.Address{0xff}
			if tx.To() != nil {
				to = *tx.To()
			}
			return any(f.From, senderOf(tx)) && any(f.To, to)
		}
		for _, kind := range []protocol.Kind{protocol.KindTransaction, protocol.KindReceipt} {
			for _, tx := range b.Transactions() {
				visit(func(f protocol.Filter) bool { return f.Kind == kind && concerns(f, tx) })
			}
		}
		for i, r := range c.receipts[number] {
			for _, l := range r.Logs {
				visit(func(f protocol.Filter) bool {
					if f.Kind != protocol.KindLog || !any(f.Address, l.Address) || !concerns(f, b.Transactions()[i]) || len(f.Topics) > len(l.Topics) {
						return false
					}
					for i, alternatives := range f.Topics {
						if len(alternatives) > 0 && !slices.Contains(alternatives, l.Topics[i]) {
							return false
						}
					}
					return true
				})
			}
		}
	}
	return events
}

// randomFilters makes a few, of which some select much and some little.
func randomFilters(rng *rand.Rand) (filters []protocol.Filter) {
	some := func(from []common.Address) (list []common.Address) {
		for range rng.IntN(3) {
			list = append(list, from[rng.IntN(len(from))])
		}
		return list
	}
	var froms []common.Address
	for _, key := range senders {
		froms = append(froms, crypto.PubkeyToAddress(key.PublicKey))
	}
	for range 1 + rng.IntN(3) {
		f := protocol.Filter{Kind: protocol.Kinds[rng.IntN(len(protocol.Kinds))]}
		if rng.IntN(2) == 0 {
			f.Kind = protocol.KindLog
		}
		if f.Kind == protocol.KindLog {
			f.Address = some(addresses)
			for range rng.IntN(3) {
				var alternatives []common.Hash
				for range rng.IntN(3) {
					alternatives = append(alternatives, topics[rng.IntN(len(topics))])
				}
				f.Topics = append(f.Topics, alternatives)
			}
		}
		if f.Kind != protocol.KindBlock && f.Kind != protocol.KindSegment && rng.IntN(2) == 0 {
			f.From, f.To = some(froms), some(addresses)
		}
		filters = append(filters, f)
	}
	return filters
}
