package engines

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/txpool"
)

const records = 80

// A script is what is appended, and what the clock shows then.
type script struct {
	records []consensus.Record
	clock   []time.Time
	blocks  int // of the records that make one
}

// newScript makes records of every kind: batches of all chores, in which there are transactions that have to be skipped; batches that were there before; what is no
// batch; and those of another application. The clock stands still now and then, and jumps in both directions.
func newScript(t testing.TB, delay time.Duration) *script {
	t.Helper()
	s := new(script)
	rng := rand.New(rand.NewPCG(4, 4))
	nonces := make([]uint64, len(senders))
	now := time.UnixMilli(1_750_000_000_123).Add(delay)
	var last []byte // a batch
	for i := range records {
		r := consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i) + 1}}
		switch {
		case i%13 == 5:
			r.Payload = []byte("no batch at all")
		case i%13 == 8:
			r.App, r.Payload = "other", fmt.Append(nil, "somebody else's ", i)
		case i%13 == 11:
			r.Payload = last // every transaction of it is there already
		default:
			r.Payload = encode(t, randomBatch(rng, nonces, uint64(s.blocks)), i)
			last = r.Payload
			s.blocks++
		}
		switch {
		case i%10 == 4:
			now = now.Add(-time.Hour)
		case i%10 == 6:
			now = now.Add(time.Hour + 5*time.Second)
		case i%3 > 0:
			now = now.Add(137 * time.Millisecond)
		}
		s.records, s.clock = append(s.records, r), append(s.clock, now)
	}
	for _, n := range nonces {
		require.GreaterOrEqual(t, n, uint64(kinds), "no sender leaves a chore out")
	}
	return s
}

// randomBatch is some chores of some senders, what has to be skipped among them, and a call of the witness.
func randomBatch(rng *rand.Rand, nonces []uint64, read uint64) (txs []*types.Transaction) {
	for range 4 + rng.IntN(4) {
		s := rng.IntN(len(senders))
		tx := choreOf(nonces[s]).make(s, nonces[s])
		txs = append(txs, tx)
		switch nonces[s]++; rng.IntN(12) {
		case 0:
			txs = append(txs, tx) // twice
		case 1:
			txs = append(txs, senders[s].call(nonces[s]+3, &sink, 1, nil)) // after a gap
		case 2:
			txs = append(txs, pauper.call(0, &sink, 1, nil))
		case 3:
			other := types.LatestSignerForChainID(big.NewInt(chainID + 1))
			txs = append(txs, types.MustSignNewTx(senders[s].key, other, &types.DynamicFeeTx{
				ChainID: big.NewInt(chainID + 1), Nonce: nonces[s], To: &sink, Gas: enough, GasFeeCap: new(big.Int), GasTipCap: new(big.Int),
			}))
		}
	}
	return append(txs, reader.call(read, &witness, 0, nil))
}

// encode makes a payload, which now and then also has an item that is no transaction.
func encode(t testing.TB, txs []*types.Transaction, i int) []byte {
	t.Helper()
	var raws [][]byte
	for _, tx := range txs {
		raw, err := tx.MarshalBinary()
		require.NoError(t, err)
		raws = append(raws, raw)
	}
	if i%7 == 0 {
		raws = append(raws, []byte{2, 0xde, 0xad})
	}
	return batch.Encode(raws)
}

// A history is what became of a script: the log, and the chain that a ledger made of it.
type history struct {
	entries []consensus.Entry
	blocks  []block
}

// A block is its header and receipts, in JSON. The header has its hash, with the roots and whatever else says what differs if that does.
type block struct {
	hash     common.Hash
	header   string
	receipts []string
}

// entriesOf reads a whole log by the engine's read path.
func entriesOf(t testing.TB, log *consensus.VirtualLog) []consensus.Entry {
	t.Helper()
	tail, err := log.Tail(t.Context(), consensus.Consistent)
	require.NoError(t, err)
	entries, err := log.Read(t.Context(), 1, tail)
	require.NoError(t, err)
	return entries
}

// blocksOf reads a whole chain.
func blocksOf(t testing.TB, l *ledger.Ledger) (blocks []block) {
	t.Helper()
	text := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return string(b)
	}
	for n := uint64(0); n <= l.CurrentHeader().Number.Uint64(); n++ {
		h := l.HeaderByNumber(n)
		b := block{hash: h.Hash(), header: text(h)}
		for _, r := range l.ReceiptsByHash(h.Hash()) {
			r := *r
			if r.Logs == nil { // in those that were executed a moment ago; what the store gives back is empty
				r.Logs = []*types.Log{}
			}
			b.receipts = append(b.receipts, text(r))
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// require compares a history with another one.
func (h history) require(t testing.TB, got history) {
	t.Helper()
	require.Len(t, got.entries, len(h.entries))
	for i, want := range h.entries {
		require.Equal(t, want, got.entries[i])
	}
	require.Len(t, got.blocks, len(h.blocks))
	for i, want := range h.blocks {
		require.Equal(t, want.header, got.blocks[i].header)
		require.Equal(t, want.hash, got.blocks[i].hash)
		require.Equal(t, want.receipts, got.blocks[i].receipts, "block %d", i)
	}
}

// perform appends a script at a site, one record after the other, while a ledger plays it. In the middle both are closed and opened again.
func (s *site) perform(sc *script, clock *atomic.Int64) history {
	t := s.t
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	half := len(sc.records) / 2
	var h history
	for _, part := range [][2]int{{0, half}, {half, len(sc.records)}} {
		log, closeLog := s.open()
		p := openLedger(t, dir, txpool.BatcherOptions{})
		p.run(log)
		for i := part[0]; i < part[1]; i++ {
			clock.Store(sc.clock[i].UnixMilli())
			lsn, err := log.Append(t.Context(), sc.records[i])
			require.NoError(t, err)
			require.Equal(t, consensus.LSN(i+1), lsn)
			if i%9 == 0 { // and what is appended again is there already
				lsn, err := log.Append(t.Context(), sc.records[i])
				require.NoError(t, err)
				require.Equal(t, consensus.LSN(i+1), lsn)
			}
		}
		p.await(consensus.LSN(part[1]))
		h = history{entriesOf(t, log), blocksOf(t, p.ledger)}
		p.close()
		closeLog()
	}
	return h
}

// await waits for the block of an entry.
func (p *player) await(lsn consensus.LSN) {
	p.t.Helper()
	p.until(func(h ledger.HeadEvent) bool { return h.Position.LSN >= lsn })
}

// replay plays a log from its first entry on into a new ledger.
func replay(t testing.TB, log *consensus.VirtualLog) history {
	t.Helper()
	p := openLedger(t, filepath.Join(t.TempDir(), "ledger"), txpool.BatcherOptions{})
	defer p.close()
	p.run(log)
	p.await(records)
	return history{entriesOf(t, log), blocksOf(t, p.ledger)}
}

// TestSameEntries: the same records at every engine are the same entries, and the same blocks.
func TestSameEntries(t *testing.T) {
	sc := newScript(t, 0)
	performed := make(map[string]history)
	reference := engineNames[0]
	for _, engine := range engineNames {
		ok := t.Run(engine, func(t *testing.T) {
			var clock atomic.Int64
			clock.Store(sc.clock[0].UnixMilli())
			s := newSite(t, engine, func() time.Time { return time.UnixMilli(clock.Load()) })
			h := s.perform(sc, &clock)
			performed[engine] = h
			performed[reference].require(t, h)

			log, closeLog := s.open()
			defer closeLog()
			h.require(t, replay(t, log))
			observed, closeObserved := s.observe(log)
			defer closeObserved()
			require.Equal(t, consensus.Observes.String(), observed.Status().Role)
			h.require(t, replay(t, observed))
		})
		require.True(t, ok)
	}
	sc.check(t, performed[reference])

	t.Run("another clock", func(t *testing.T) {
		// That hashes are equal says something only if they depend on the entries.
		late := newScript(t, time.Millisecond)
		var clock atomic.Int64
		h := newSite(t, local.Name, func() time.Time { return time.UnixMilli(clock.Load()) }).perform(late, &clock)
		for i, want := range performed[reference].blocks[1:] {
			require.NotEqual(t, want.hash, h.blocks[i+1].hash)
		}
	})
}

// check demands that a history has in it what the script is about.
func (s *script) check(t testing.TB, h history) {
	t.Helper()
	require.Len(t, h.entries, records)
	require.Len(t, h.blocks, 1+s.blocks)
	for i, e := range h.entries[1:] {
		require.GreaterOrEqual(t, e.UnixMilli, h.entries[i].UnixMilli, "the clock of the log goes back")
	}
	var failed, logs, created int
	digests := make(map[common.Hash]bool)
	for _, e := range h.entries {
		digests[common.Hash(e.Digest)] = true
	}
	for i, b := range h.blocks[1:] {
		for k, text := range b.receipts {
			var r types.Receipt
			require.NoError(t, json.Unmarshal([]byte(text), &r))
			if r.Status == types.ReceiptStatusFailed {
				failed++
			}
			if r.ContractAddress != (common.Address{}) {
				created++
			}
			logs += len(r.Logs)
			if k == len(b.receipts)-1 { // the witness
				require.Len(t, r.Logs, 1)
				require.Equal(t, witness, r.Logs[0].Address)
				seen := r.Logs[0].Data
				require.Equal(t, h.blocks[i].hash, common.BytesToHash(seen[7*32:8*32]), "the hash of the parent")
				require.True(t, digests[common.BytesToHash(seen[8*32:])], "the digest in EIP-4788")
			}
		}
	}
	t.Logf("%d entries, %d blocks, %d failed transactions, %d created contracts, %d logs", len(h.entries), s.blocks, failed, created, logs)
	require.Greater(t, failed, 40)
	require.Greater(t, created, 20)
	require.Greater(t, logs, 200)
}
