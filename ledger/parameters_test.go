package ledger_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/genesis"
)

func TestDecodeParameterChange(t *testing.T) {
	limit, fee, coinbase := uint64(1<<24), uint256.NewInt(7), common.HexToAddress("0xC0FFEE")
	all := ledger.ParameterChange{GasLimit: &limit, BaseFee: fee, Coinbase: &coinbase}
	const largest = "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	for _, good := range []struct {
		raw  string
		want ledger.ParameterChange
	}{
		{"", ledger.ParameterChange{}},
		{"{}", ledger.ParameterChange{}},
		{" {\n} ", ledger.ParameterChange{}},
		{`{"gasLimit": "0x1000000"}`, ledger.ParameterChange{GasLimit: &limit}},
		{`{"baseFee": "0x0"}`, ledger.ParameterChange{BaseFee: new(uint256.Int)}},
		{`{"baseFee": "` + largest + `"}`, ledger.ParameterChange{BaseFee: new(uint256.Int).SetAllOne()}},
		{`{"coinbase": "0x0000000000000000000000000000000000c0ffee", "baseFee": "0x7", "gasLimit": "0x1000000"}`, all},
	} {
		got, err := ledger.DecodeParameterChange([]byte(good.raw))
		require.NoError(t, err, good.raw)
		require.Equal(t, good.want, got, good.raw)
		require.NoError(t, ledger.ValidateParams([]byte(good.raw)))
		again, err := ledger.DecodeParameterChange(got.Encode())
		require.NoError(t, err, good.raw)
		require.Equal(t, got, again)
	}
	for _, bad := range []struct{ raw, want string }{
		{" ", "not a JSON object"},
		{"null", "not a JSON object"},
		{"[]", "not a JSON object"},
		{`"0x1"`, "not a JSON object"},
		{"{\"coinbase\xff\": \"0x1\"}", "not UTF-8"},
		{"{", ""},
		{`{"baseFee": "0x1"`, ""},
		{`{"baseFee"}`, ""},
		{`{"baseFee": "0x1",}`, ""},
		{`{"baseFee": "0x1"} {}`, "more follows"},
		{`{"baseFee": "0x1"} x`, "more follows"},
		{`{"basefee": "0x1"}`, "basefee: unknown parameter"},
		{`{"ruleSet": "0x1"}`, "ruleSet: unknown parameter"},
		{`{"baseFee": "0x1", "baseFee": "0x1"}`, "baseFee: is there twice"},
		{`{"gasLimit": "0x1000000", "gasLimit": "0x1000000"}`, "gasLimit: is there twice"},
		{`{"baseFee": 1}`, "baseFee: 1 is not a string"},
		{`{"baseFee": null}`, "not a string"},
		{`{"baseFee": {"baseFee": "0x1"}}`, "not a string"},
		{`{"baseFee": "1"}`, "without 0x prefix"},
		{`{"baseFee": "0x01"}`, "leading zero"},
		{`{"baseFee": "-0x1"}`, ""},
		{`{"baseFee": "` + largest + `0"}`, "256"},
		{`{"gasLimit": "0xffffff"}`, "below 16777216"},
		{`{"gasLimit": "0x10000000000000000"}`, "64"},
		{`{"coinbase": "0xc0ffee"}`, "3 bytes are not an address"},
		{`{"coinbase": ""}`, ""},
	} {
		_, err := ledger.DecodeParameterChange([]byte(bad.raw))
		require.ErrorIs(t, err, ledger.ErrBadParameters, bad.raw)
		require.ErrorContains(t, err, bad.want, bad.raw)
		require.ErrorIs(t, ledger.ValidateParams([]byte(bad.raw)), ledger.ErrBadParameters)
	}
}

func FuzzDecodeParameterChange(f *testing.F) {
	f.Add([]byte(`{"gasLimit": "0x8f0d180", "baseFee": "0x3b9aca00", "coinbase": "0x0000000000000000000000000000000000c0ffee"}`))
	f.Add([]byte(`{"baseFee":"0x0","baseFee":"0x0"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		change, err := ledger.DecodeParameterChange(raw)
		if err != nil {
			require.ErrorIs(t, err, ledger.ErrBadParameters)
			require.Zero(t, change)
			return
		}
		again, err := ledger.DecodeParameterChange(change.Encode())
		require.NoError(t, err)
		require.Equal(t, change, again)
	})
}

// switching is a network of one node that orders alone, whose chain of segments the test extends.
type switching struct {
	t       testing.TB
	genesis *genesis.Genesis
	log     *consensus.VirtualLog
	admin   ed25519.PrivateKey
	nonces  [accounts]uint64
	records uint64
}

func newSwitching(t testing.TB) *switching {
	admin := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	g := testGenesis()
	g.Ledgerd.Administrators = []genesis.HexKey{genesis.HexKey(admin.Public().(ed25519.PublicKey))}
	g.Ledgerd.Threshold = 1
	require.NoError(t, g.Validate())
	id, err := g.NetworkID()
	require.NoError(t, err)
	log, err := consensus.Open(context.Background(), consensus.Options{
		NetworkID: id, Genesis: g.Spec(), Engines: map[string]consensus.Engine{local.Name: local.Engine(local.Options{})},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	return &switching{t: t, genesis: g, log: log, admin: admin}
}

// seal ends the last segment; the next one has params for the ledger.
func (s *switching) seal(params string) {
	id, err := s.genesis.NetworkID()
	require.NoError(s.t, err)
	q := consensus.Request{NetworkID: id, Epoch: consensus.Epoch(len(s.log.Segments()) + 1), Spec: s.genesis.Spec(), NotAfter: 1 << 40}
	q.Spec.Ledger = []byte(params)
	seal := consensus.Seal{Request: q, Signatures: []consensus.Signature{q.Sign(s.admin)}}
	_, err = s.log.Append(context.Background(), seal.Record())
	require.NoError(s.t, err)
}

// transfer appends a batch of one transfer at a price.
func (s *switching) transfer(from int, price int64) {
	to := address((from + 1) % accounts)
	raw := sign(from, &types.LegacyTx{Nonce: s.nonces[from], Gas: 21_000, GasPrice: big.NewInt(price), To: &to, Value: big.NewInt(1)})
	s.nonces[from]++
	s.append(ledger.App, batch.Encode([][]byte{raw}))
}

func (s *switching) append(app string, payload []byte) {
	s.records++
	r := consensus.Record{App: app, ID: consensus.RecordID{Session: 1, Seq: s.records}, Payload: payload}
	_, err := s.log.Append(context.Background(), r)
	require.NoError(s.t, err)
}

func (s *switching) open(dir string, opts ledger.Options) *ledger.Ledger {
	s.t.Helper()
	opts.CacheMiB = 16
	l, err := ledger.Open(dir, s.genesis, opts)
	require.NoError(s.t, err)
	return l
}

// start runs l and returns a function that ends it. Run has begun to play when start returns.
func (s *switching) start(l *ledger.Ledger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, s.log) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); require.NoError(s.t, <-ended) }) }
	s.t.Cleanup(stop)
	s.eventually("run", func() bool { return l.Sync(ctx) == nil })
	return stop
}

// catchUp plays into l what the log holds.
func (s *switching) catchUp(l *ledger.Ledger) {
	s.t.Helper()
	s.start(l)()
}

func (s *switching) eventually(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		require.True(s.t, time.Now().Before(deadline), what)
	}
}

// parameters are those that a header has.
func parameters(h *types.Header) string {
	return fmt.Sprintf("%d %v %x", h.GasLimit, h.BaseFee, h.Coinbase[18:])
}

func inForce(p ledger.Parameters) string {
	return fmt.Sprintf("%d %v %x", p.GasLimit, p.BaseFee, p.Coinbase[18:])
}

// TestParametersBySegment changes parameters at the borders of segments, of which one has no block, one changes nothing, and one
// brings what does not decode. The blocks follow; and they have the same hashes in a ledger that sees it happen, in ones that
// crash anywhere, in one that replays, and in one that continues from a snapshot.
func TestParametersBySegment(t *testing.T) {
	s := newSwitching(t)
	var logged bytes.Buffer
	watching := s.open(filepath.Join(t.TempDir(), "watching"), ledger.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	stop := s.start(watching)

	const a, b = "0x00000000000000000000000000000000000000aa", "0x00000000000000000000000000000000000000bb"
	steps := []struct {
		params string // of the segment that begins; none before the first
		blocks int
		want   string
	}{
		{"", 2, "150000000 0 0000"},
		{`{"baseFee": "0x7"}`, 2, "150000000 7 0000"},
		{`{"gasLimit": "0x1000000", "coinbase": "` + a + `"}`, 0, ""}, // no block
		{`{"baseFee": "0x5"}`, 1, "16777216 5 00aa"},
		{``, 1, "16777216 5 00aa"},
		{`{"baseFee": "0x1", "surprise": "0x1"}`, 1, "16777216 5 00aa"}, // does not decode
		{`{"baseFee": "0x0", "gasLimit": "0x2000000", "coinbase": "` + b + `"}`, 3, "33554432 0 00bb"},
	}
	var want []string
	for i, step := range steps {
		if i > 0 {
			s.seal(step.params)
			s.append("another", []byte("between the Seal and the first block"))
		}
		for n := range step.blocks {
			s.transfer((i+n)%accounts, 7)
			want = append(want, step.want)
		}
	}
	require.NoError(t, watching.Sync(context.Background()))
	stop()
	var got []string
	epochs := map[consensus.Epoch]int{}
	for n := uint64(1); n <= watching.CurrentHeader().Number.Uint64(); n++ {
		h := watching.HeaderByNumber(n)
		got = append(got, parameters(h))
		p, ok := ledger.PositionOf(h)
		require.True(t, ok)
		epochs[p.Epoch]++
	}
	require.Equal(t, want, got)
	require.Equal(t, map[consensus.Epoch]int{1: 2, 2: 2, 4: 1, 5: 1, 6: 1, 7: 3}, epochs)
	require.Contains(t, logged.String(), "surprise: unknown parameter")
	require.Contains(t, logged.String(), "segment=6")
	hashes := headers(watching)

	t.Run("Replay", func(t *testing.T) {
		l := s.open(filepath.Join(t.TempDir(), "replayed"), ledger.Options{})
		s.catchUp(l)
		require.Equal(t, hashes, headers(l))
		require.NoError(t, l.Close())
	})
	t.Run("Snapshot", func(t *testing.T) {
		var snapshot bytes.Buffer
		require.NoError(t, watching.Snapshot(context.Background(), &snapshot))
		l := s.open(filepath.Join(t.TempDir(), "restored"), ledger.Options{})
		require.NoError(t, l.Restore(context.Background(), &snapshot))
		require.Equal(t, hashes, headers(l))
		require.Equal(t, inForce(watching.NextParameters()), inForce(l.NextParameters()))
		require.NoError(t, l.Close())
	})
	require.NoError(t, watching.Close())
	t.Run("CrashAnywhere", func(t *testing.T) {
		tail, err := s.log.Tail(context.Background(), consensus.Fast)
		require.NoError(t, err)
		entries, err := s.log.Read(context.Background(), 1, tail)
		require.NoError(t, err)
		for at := range entries {
			testCrashAfter(t, s, entries[:at+1], hashes)
		}
	})
}

// testCrashAfter plays some entries and then the others in a ledger that was killed between. No state has reached the disk, so that all blocks
// are executed again, without a log.
func testCrashAfter(t *testing.T, s *switching, entries []consensus.Entry, want []common.Hash) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	l := s.open(dir, ledger.Options{FlushDebt: time.Hour, SyncInterval: time.Millisecond})
	part := &prefix{VirtualLog: s.log, end: entries[len(entries)-1].LSN + 1}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, part) }()
	s.eventually("play and sync", func() bool { return l.Durable()+1 == part.end })
	played := headers(l)
	cancel()
	require.NoError(t, <-ended)
	left := copyDir(t, dir)
	require.NoError(t, l.Close())

	l = s.open(left, ledger.Options{})
	require.Equal(t, played, headers(l), "recovered from a crash after lsn %d", part.end-1)
	s.catchUp(l)
	require.Equal(t, want, headers(l), "crash after lsn %d", part.end-1)
	require.NoError(t, l.Close())
}

// prefix is a log as it was when it ended before end.
type prefix struct {
	*consensus.VirtualLog
	end consensus.LSN
}

func (p *prefix) Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error) {
	if from >= p.end {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return p.VirtualLog.Follow(ctx, from, min(limit, int(p.end-from)))
}

// TestPoolFollowsSegments: pool and fees go by what the next block will have as soon as the Seal has been played. No block has to come first, which
// perhaps nobody could pay for.
func TestPoolFollowsSegments(t *testing.T) {
	s := newSwitching(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	l := s.open(dir, ledger.Options{})
	stop := s.start(l)
	s.transfer(0, 0)
	send := func(from int, gas uint64, price int64) (common.Hash, error) {
		to := address(from)
		tx := new(types.Transaction)
		require.NoError(t, tx.UnmarshalBinary(sign(from, &types.LegacyTx{Nonce: l.Pool().Nonce(address(from)), Gas: gas, GasPrice: big.NewInt(price), To: &to})))
		return tx.Hash(), l.Pool().Add(tx)
	}
	included := func(hash common.Hash) *types.Header {
		s.eventually("include", func() bool { return l.TransactionStatus(hash).State == ledger.TransactionIncluded })
		_, block, _, _, _ := l.Transaction(hash)
		return l.HeaderByHash(block)
	}
	hash, err := send(1, 1<<24, 0)
	require.NoError(t, err)
	require.Equal(t, "150000000 0 0000", parameters(included(hash)))

	s.seal(`{"gasLimit": "0x1000000", "baseFee": "0x64"}`)
	require.NoError(t, l.Sync(context.Background()))
	require.Equal(t, uint64(genesis.DefaultGasLimit), l.CurrentHeader().GasLimit, "no block has been made since")
	require.Equal(t, big.NewInt(100), l.BaseFee())
	_, err = send(1, 21_000, 99)
	require.ErrorIs(t, err, core.ErrFeeCapTooLow)

	// What the pool knew is what a new process knows.
	stop()
	require.NoError(t, l.Close())
	l = s.open(dir, ledger.Options{})
	stop = s.start(l)
	require.Equal(t, big.NewInt(100), l.BaseFee())
	_, err = send(1, 21_000, 99)
	require.ErrorIs(t, err, core.ErrFeeCapTooLow)

	// Batches are cut for the new limit: these would go into one block of the old one, and fill two of the new one.
	var last []common.Hash
	for from := range 4 {
		hash, err := send(from, 1<<23, 100)
		require.NoError(t, err)
		last = append(last, hash)
	}
	for _, hash := range last {
		h := included(hash)
		require.Equal(t, "16777216 100 0000", parameters(h))
		require.LessOrEqual(t, len(l.BlockByHash(h.Hash()).Transactions()), 2)
	}

	// A transaction that is pooled when the fee rises leaves the pool with a reason.
	to := address(5)
	tx := new(types.Transaction)
	require.NoError(t, tx.UnmarshalBinary(sign(5, &types.LegacyTx{Nonce: 1, Gas: 21_000, GasPrice: big.NewInt(100), To: &to})))
	require.NoError(t, l.Pool().Add(tx), "queued: nonce 0 is missing")
	s.seal(`{"baseFee": "0x65"}`)
	require.NoError(t, l.Sync(context.Background()))
	hash, err = send(5, 21_000, 101)
	require.NoError(t, err)
	require.Equal(t, "16777216 101 0000", parameters(included(hash)))
	s.eventually("drop", func() bool { return l.TransactionStatus(tx.Hash()).State == ledger.TransactionDropped })
	require.Contains(t, l.TransactionStatus(tx.Hash()).Reason, core.ErrFeeCapTooLow.Error())
	stop()
	require.NoError(t, l.Close())
}

// TestEntryOfUnknownSegment: without the log's chain there is no telling what a block of another segment has, so that none is made.
func TestEntryOfUnknownSegment(t *testing.T) {
	s := newSwitching(t)
	s.transfer(0, 0)
	s.seal(`{"baseFee": "0x1"}`)
	s.transfer(0, 1)
	entries, err := s.log.Read(context.Background(), 1, 4)
	require.NoError(t, err)
	l := s.open(t.TempDir(), ledger.Options{})
	_, err = l.Apply(context.Background(), entries[0])
	require.NoError(t, err)
	l.Advance(entries[1].LSN)
	_, err = l.Apply(context.Background(), entries[2])
	require.ErrorContains(t, err, "nobody has told of a segment after epoch 1")
	require.NoError(t, l.Drain(context.Background()))
	require.Equal(t, uint64(1), l.CurrentHeader().Number.Uint64())
	require.NoError(t, l.Close())
}
