package ledger_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/params"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/view"
	"ledgerd/consensus/view/viewtest"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/genesis"
)

// emitter is a contract that logs its call data: LOG2 with the first two words as topics and the rest as data.
//
//	calldatasize 0 0 calldatacopy            (copy all)
//	mload(32) mload(0) calldatasize-64 64    LOG2
var (
	emitterAddress = common.HexToAddress("0xe317")
	emitterCode    = common.FromHex("365f5f37602051" + "5f51" + "60403603" + "6040" + "a2" + "00")
)

const accounts = 8

func key(i int) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(crypto.Keccak256(fmt.Appendf(nil, "account %d", i)))
	if err != nil {
		panic(err)
	}
	return k
}

func address(i int) common.Address { return crypto.PubkeyToAddress(key(i).PublicKey) }

func testGenesis() *genesis.Genesis {
	var funded []common.Address
	for i := range accounts {
		funded = append(funded, address(i))
	}
	g := genesis.Dev(1337, funded)
	g.Alloc[emitterAddress] = types.Account{Code: emitterCode, Nonce: 1, Balance: new(big.Int)}
	return g
}

// history makes the records of a chain: transfers, logs, duplicates, gaps, junk. Record i is the same for every caller.
type history struct {
	nonces   [accounts]uint64
	payloads [][]byte
}

func (h *history) payload(i int) []byte {
	for len(h.payloads) <= i {
		h.payloads = append(h.payloads, h.next(len(h.payloads)))
	}
	return h.payloads[i]
}

func (h *history) next(i int) []byte {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	switch {
	case i%11 == 7:
		return []byte("no batch at all")
	case i%11 == 9:
		return h.payloads[i-1] // every transaction of it is there already
	}
	var raws [][]byte
	for range 1 + rng.IntN(6) {
		from := rng.IntN(accounts)
		data := &types.DynamicFeeTx{ChainID: big.NewInt(1337), Nonce: h.nonces[from], Gas: 100_000, GasFeeCap: big.NewInt(1), GasTipCap: big.NewInt(1)}
		switch rng.IntN(5) {
		case 0: // a gap: skipped, and its nonce stays free
			data.Nonce += 3
			data.To = &emitterAddress
			raws = append(raws, sign(from, data))
			continue
		case 1, 2:
			to := address(rng.IntN(accounts))
			data.To, data.Value = &to, big.NewInt(int64(rng.IntN(1000)))
		default:
			data.To, data.Data = &emitterAddress, logCall(uint64(rng.IntN(4)), uint64(rng.IntN(50)))
		}
		h.nonces[from]++
		raws = append(raws, sign(from, data))
	}
	return batch.Encode(raws)
}

func logCall(topics ...uint64) []byte {
	var data []byte
	for _, t := range topics {
		data = append(data, common.BigToHash(new(big.Int).SetUint64(t)).Bytes()...)
	}
	return append(data, "some data"...)
}

func sign(from int, data types.TxData) []byte {
	raw, err := types.MustSignNewTx(key(from), types.LatestSignerForChainID(big.NewInt(1337)), data).MarshalBinary()
	if err != nil {
		panic(err)
	}
	return raw
}

func open(t testing.TB, dir string, opts ledger.Options) *ledger.Ledger {
	t.Helper()
	if opts.CacheMiB == 0 {
		opts.CacheMiB = 16
	}
	l, err := ledger.Open(dir, testGenesis(), opts)
	require.NoError(t, err)
	return l
}

// play applies the records [l.Applied(), n) of h.
func play(t testing.TB, l *ledger.Ledger, h *history, n int) {
	t.Helper()
	log := viewtest.NewLog(networkID(t))
	for i := range n {
		log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: h.payload(i)})
	}
	if n == int(l.Applied()) {
		return
	}
	for from := l.Applied() + 1; int(from) <= n; {
		entries, err := log.Follow(context.Background(), from, 50)
		require.NoError(t, err)
		for _, e := range entries {
			l.Prefetch(e)
		}
		for _, e := range entries {
			_, err := l.Apply(context.Background(), e)
			require.NoError(t, err)
		}
		from += consensus.LSN(len(entries))
	}
	require.NoError(t, l.Drain(context.Background()))
}

func networkID(t testing.TB) consensus.NetworkID {
	id, err := testGenesis().NetworkID()
	require.NoError(t, err)
	return id
}

// headers returns the hash of every block.
func headers(l *ledger.Ledger) []common.Hash {
	var all []common.Hash
	for n := uint64(0); n <= l.CurrentHeader().Number.Uint64(); n++ {
		all = append(all, l.HeaderByNumber(n).Hash())
	}
	return all
}

// replica keeps a ledger in a directory. A crash is a copy of the directory while the ledger runs: what a kill -9 would
// leave, since everything that was written is with the operating system.
type replica struct {
	dir  string
	open *ledger.Ledger
}

func (r *replica) Open(t testing.TB) view.View {
	r.open = open(t, r.dir, ledger.Options{FlushDebt: time.Hour})
	return r.open
}

func (r *replica) Crash(t testing.TB) {
	left := copyDir(t, r.dir)
	require.NoError(t, r.open.Close())
	r.dir = left
}

func copyDir(t testing.TB, from string) string {
	to := filepath.Join(t.TempDir(), "crashed")
	require.NoError(t, filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a file that pebble removed meanwhile
		}
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	}))
	return to
}

// TestLedgerIsAView runs the suite of all views on the ledger.
func TestLedgerIsAView(t *testing.T) {
	h := new(history)
	viewtest.Run(t, viewtest.Harness{
		App:     ledger.App,
		New:     func(t testing.TB) viewtest.Instance { return &replica{dir: filepath.Join(t.TempDir(), "ledger")} },
		Payload: h.payload,
	})
}

// TestHeadersDoNotDependOnTheNode checks invariant 1: other cache sizes, pipeline depths and flush intervals, one crash on
// the way: the same hash for every block.
func TestHeadersDoNotDependOnTheNode(t *testing.T) {
	h := new(history)
	const records = 300
	reference := open(t, t.TempDir(), ledger.Options{})
	play(t, reference, h, records)
	want := headers(reference)
	require.Greater(t, len(want), 200)
	require.NoError(t, reference.Close())

	for name, opts := range map[string]ledger.Options{
		"tiny cache, no pipeline": {CacheMiB: 16, PipelineDepth: 1, FlushDebt: time.Nanosecond},
		"large cache, deep":       {CacheMiB: 64, PipelineDepth: 64, FlushDebt: time.Hour},
		"proofs of old states":    {ArchiveProofs: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir, opts)
			play(t, l, h, records/2)
			dir = copyDir(t, dir)
			require.NoError(t, l.Close())
			l = open(t, dir, opts)
			play(t, l, h, records)
			require.Equal(t, want, headers(l))
			require.NoError(t, l.Close())
		})
	}
}

// TestLogsAgainstScan compares FilterLogs with a scan of all receipts, for random queries.
func TestLogsAgainstScan(t *testing.T) {
	h := new(history)
	l := open(t, t.TempDir(), ledger.Options{})
	play(t, l, h, 250)
	head := l.CurrentHeader().Number.Uint64()
	rng := rand.New(rand.NewPCG(3, 4))
	topic := func(n uint64) common.Hash { return common.BigToHash(new(big.Int).SetUint64(n)) }
	var total int
	for range 300 {
		q := ledger.LogQuery{From: rng.Uint64N(head), To: rng.Uint64N(head + 10)}
		if rng.IntN(2) == 0 {
			q.Addresses = []common.Address{emitterAddress, address(1)}[rng.IntN(2):]
		}
		for range rng.IntN(3) {
			var any []common.Hash
			for range rng.IntN(3) {
				any = append(any, topic(rng.Uint64N(20)))
			}
			q.Topics = append(q.Topics, any)
		}
		got, err := l.FilterLogs(context.Background(), q)
		require.NoError(t, err)
		require.Equal(t, scan(l, q), got, "%+v", q)
		total += len(got)
	}
	require.Greater(t, total, 100, "the queries found next to nothing")

	limited, err := l.FilterLogs(context.Background(), ledger.LogQuery{To: head, Limit: 3})
	require.NoError(t, err)
	require.Len(t, limited, 3)

	// In parts, each of whole blocks and within the limit unless it is of one block, they are the same.
	const most = 3000
	var parts []*types.Log
	for from := uint64(0); from <= head; {
		logs, next, err := l.SearchLogs(context.Background(), ledger.LogQuery{From: from, To: head, MaxBytes: most})
		require.NoError(t, err)
		require.Greater(t, next, from)
		if ledger.SizeOfLogs(logs) > most {
			require.Equal(t, logs[0].BlockNumber, logs[len(logs)-1].BlockNumber)
		}
		if next <= head {
			block := scan(l, ledger.LogQuery{From: next, To: head})[0].BlockNumber
			require.Greater(t, ledger.SizeOfLogs(scan(l, ledger.LogQuery{From: from, To: block})), most, "it ended too soon")
		}
		parts, from = append(parts, logs...), next
	}
	require.Equal(t, scan(l, ledger.LogQuery{To: head}), parts)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = l.FilterLogs(ctx, ledger.LogQuery{To: head})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, l.Close())
}

// scan is FilterLogs without an index.
func scan(l *ledger.Ledger, q ledger.LogQuery) []*types.Log {
	var found []*types.Log
	contains := func(list []common.Hash, h common.Hash) bool {
		for _, x := range list {
			if x == h {
				return true
			}
		}
		return len(list) == 0
	}
	for n := q.From; n <= min(q.To, l.CurrentHeader().Number.Uint64()); n++ {
		for _, r := range l.ReceiptsByHash(l.HeaderByNumber(n).Hash()) {
		next:
			for _, entry := range r.Logs {
				if len(q.Addresses) > 0 && entry.Address != q.Addresses[0] && (len(q.Addresses) < 2 || entry.Address != q.Addresses[1]) {
					continue
				}
				if len(q.Topics) > len(entry.Topics) {
					continue
				}
				for i, any := range q.Topics {
					if !contains(any, entry.Topics[i]) {
						continue next
					}
				}
				found = append(found, entry)
			}
		}
	}
	return found
}

// TestOldStates reads a balance at every block, those whose layers are long gone too, and compares it with what the receipts say.
func TestOldStates(t *testing.T) {
	h := new(history)
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{})
	play(t, l, h, 400)
	check := func() {
		nonces := map[common.Address]uint64{}
		for n := uint64(0); n <= l.CurrentHeader().Number.Uint64(); n++ {
			block := l.BlockByNumber(n)
			for _, tx := range block.Transactions() {
				from, err := types.Sender(types.LatestSignerForChainID(big.NewInt(1337)), tx)
				require.NoError(t, err)
				nonces[from]++
			}
			if n%7 != 0 {
				continue
			}
			for i := range accounts {
				var got uint64
				read := func() error {
					return l.WithState(context.Background(), block.Header(), func(st *state.StateDB) error {
						got = st.GetNonce(address(i))
						return nil
					})
				}
				// The index of old states may take some seconds after an opening.
				err := read()
				for deadline := time.Now().Add(30 * time.Second); errors.Is(err, ledger.ErrStateUnavailable) && time.Now().Before(deadline); err = read() {
					time.Sleep(10 * time.Millisecond)
				}
				require.NoError(t, err)
				require.Equal(t, nonces[address(i)], got, "block %d account %d", n, i)
			}
		}
	}
	check()
	require.NoError(t, l.Close())
	l = open(t, dir, ledger.Options{})
	check()
	require.NoError(t, l.Close())
}

// TestDivergenceStops changes a stored block behind the ledger's back. When a crash makes it execute that block again, it refuses
// to open.
func TestDivergenceStops(t *testing.T) {
	h := new(history)
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{FlushDebt: time.Hour})
	play(t, l, h, 300)
	crashed := copyDir(t, dir)
	require.NoError(t, l.Close())

	kv, err := pebble.New(filepath.Join(crashed, "chaindata"), 16, 16, "", false)
	require.NoError(t, err)
	db := rawdb.NewDatabase(kv)
	hash := rawdb.ReadHeadBlockHash(db)
	number, _ := rawdb.ReadHeaderNumber(db, hash)
	require.NotZero(t, number, "nothing of the chain had reached the operating system")
	header := rawdb.ReadHeader(db, hash, number)
	header.Root[0] ^= 1
	// The block keeps its key: as if its bytes had rotted, or an older binary had computed it.
	rawdb.DeleteHeader(db, hash, number)
	rawdb.WriteHeader(db, header)
	rawdb.WriteBody(db, header.Hash(), number, rawdb.ReadBody(db, hash, number))
	rawdb.WriteCanonicalHash(db, header.Hash(), number)
	rawdb.WriteHeadBlockHash(db, header.Hash())
	require.NoError(t, kv.Close())

	_, err = ledger.Open(crashed, testGenesis(), ledger.Options{CacheMiB: 16})
	require.ErrorIs(t, err, ledger.ErrDivergence)
	require.ErrorContains(t, err, "stateRoot")
}

func TestOtherGenesisIsRefused(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, open(t, dir, ledger.Options{}).Close())
	other := testGenesis()
	other.Ledgerd.DedupWindow++
	_, err := ledger.Open(dir, other, ledger.Options{CacheMiB: 16})
	require.ErrorIs(t, err, consensus.ErrWrongNetwork)
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{})
	_, err := ledger.Open(dir, testGenesis(), ledger.Options{CacheMiB: 16})
	require.ErrorIs(t, err, consensus.ErrLocked)
	require.NoError(t, l.Close())
}

// TestHeader checks what a header takes from the log.
func TestHeader(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	log := viewtest.NewLog(networkID(t))
	h := new(history)
	for i := range 3 {
		log.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: h.payload(i)})
	}
	entries, err := log.Follow(context.Background(), 1, 10)
	require.NoError(t, err)
	parent := l.Genesis()
	for _, e := range entries {
		out, err := l.Apply(context.Background(), e)
		require.NoError(t, err)
		header := out.(*ledger.BatchResult).Header
		position, ok := ledger.PositionOf(header)
		require.True(t, ok)
		require.Equal(t, ledger.Position{LSN: e.LSN, Epoch: e.Epoch, UnixMilli: e.UnixMilli}, position)
		require.Equal(t, e.UnixMilli/1000, header.Time)
		require.Equal(t, common.Hash(e.Digest), *header.ParentBeaconRoot)
		require.Equal(t, crypto.Keccak256Hash(parent.Hash().Bytes(), binary.BigEndian.AppendUint64(nil, uint64(e.LSN))), header.MixDigest)
		require.Equal(t, uint64(genesis.DefaultGasLimit), header.GasLimit)
		require.Zero(t, header.BaseFee.Sign())
		require.Equal(t, parent.Hash(), header.ParentHash)
		require.LessOrEqual(t, len(header.Extra), int(params.MaximumExtraDataSize))
		parent = header
	}
	require.NoError(t, l.Close())
}

// TestStrictTimestamps checks the genesis switch under which every block has a later second.
func TestStrictTimestamps(t *testing.T) {
	g := testGenesis()
	g.Ledgerd.StrictTimestamps = true
	l, err := ledger.Open(t.TempDir(), g, ledger.Options{CacheMiB: 16})
	require.NoError(t, err)
	play(t, l, new(history), 30)
	for n := uint64(1); n <= l.CurrentHeader().Number.Uint64(); n++ {
		require.Greater(t, l.HeaderByNumber(n).Time, l.HeaderByNumber(n-1).Time)
	}
	require.NoError(t, l.Close())
}

// TestAnnouncedIsThere checks invariant 2: whatever a head event names can be queried when the event arrives, and no block
// is announced twice or left out.
func TestAnnouncedIsThere(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	events := make(chan ledger.HeadEvent)
	sub := l.SubscribeHeads(events)
	done := make(chan error, 1)
	const records = 60
	go func() {
		next := uint64(1)
		for {
			select {
			case e := <-events:
				hash := e.Block.Hash()
				switch {
				case e.Block.NumberU64() != next:
					done <- fmt.Errorf("block %d announced, want %d", e.Block.NumberU64(), next)
					return
				case l.BlockByHash(hash) == nil, len(l.ReceiptsByHash(hash)) != len(e.Block.Transactions()):
					done <- fmt.Errorf("block %d cannot be queried", next)
					return
				}
				for _, tx := range e.Block.Transactions() {
					if _, _, number, _, ok := l.Transaction(tx.Hash()); !ok || number != next {
						done <- fmt.Errorf("a transaction of block %d cannot be queried", next)
						return
					}
				}
				next++
			case <-sub.Err():
				done <- nil
				return
			}
		}
	}()
	play(t, l, new(history), records)
	sub.Unsubscribe()
	require.NoError(t, <-done)
	require.NoError(t, l.Close())
}

// TestRunRefusesAnotherLog checks that a ledger plays on only from the log that it was made from.
func TestRunRefusesAnotherLog(t *testing.T) {
	h := new(history)
	dir := t.TempDir()
	l := open(t, dir, ledger.Options{})
	play(t, l, h, 20)
	require.ErrorIs(t, l.Run(context.Background(), viewtest.NewLog(networkID(t))), ledger.ErrLogBehind)

	other := viewtest.NewLog(consensus.NetworkID{0xbad & 0xff})
	for i := range 30 {
		other.Put(consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: uint64(i + 1)}, Payload: h.payload(i)})
	}
	require.ErrorIs(t, l.Run(context.Background(), other), ledger.ErrDivergence)
	require.NoError(t, l.Close())
}

// TestRun sends transactions through pool, batcher, log and player.
func TestRun(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	log := viewtest.NewLog(networkID(t))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, log) }()

	const each = 50
	var hashes []common.Hash
	for n := range each {
		for from := range accounts {
			to := address((from + 1) % accounts)
			tx := new(types.Transaction)
			require.NoError(t, tx.UnmarshalBinary(sign(from, &types.LegacyTx{Nonce: uint64(n), Gas: 21000, GasPrice: new(big.Int), To: &to, Value: big.NewInt(1)})))
			require.NoError(t, l.Pool().Add(tx))
			hashes = append(hashes, tx.Hash())
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for _, h := range hashes {
		for l.TransactionStatus(h).State != ledger.TransactionIncluded {
			require.True(t, time.Now().Before(deadline), "transaction %v is %+v", h, l.TransactionStatus(h))
			time.Sleep(time.Millisecond)
		}
	}
	require.NoError(t, l.Sync(ctx))
	for i := range accounts {
		require.Equal(t, uint64(each), l.Pool().Nonce(address(i)))
	}
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, l.Close())
}

// TestSnapshotOfAnotherNetworkIsRefused is the one refusal that the suite of views cannot know of.
func TestSnapshotOfAnotherNetworkIsRefused(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	play(t, l, new(history), 10)
	var snapshot bytes.Buffer
	require.NoError(t, l.Snapshot(context.Background(), &snapshot))
	require.NoError(t, l.Close())

	g := testGenesis()
	g.Ledgerd.DedupWindow++
	other, err := ledger.Open(filepath.Join(t.TempDir(), "other"), g, ledger.Options{CacheMiB: 16})
	require.NoError(t, err)
	require.ErrorIs(t, other.Restore(context.Background(), &snapshot), consensus.ErrWrongNetwork)
	require.NoError(t, other.Close())
}

// TestSnapshotTwice: a snapshot can be made when the state is on disk already, be it by another one or since nothing has been executed, and when it is in the
// journal of a clean stop alone.
func TestSnapshotTwice(t *testing.T) {
	dir, h := t.TempDir(), &history{}
	l := open(t, dir, ledger.Options{FlushDebt: time.Hour})
	var last bytes.Buffer
	snapshot := func() {
		t.Helper()
		last.Reset()
		require.NoError(t, l.Snapshot(context.Background(), &last))
	}
	snapshot() // of the genesis
	play(t, l, h, 10)
	snapshot()
	first := bytes.Clone(last.Bytes())
	snapshot()
	require.Equal(t, first, last.Bytes())
	play(t, l, h, 20)
	want := headers(l)
	require.NoError(t, l.Close())

	l = open(t, dir, ledger.Options{FlushDebt: time.Hour})
	snapshot()
	require.NoError(t, l.Close())
	restored := open(t, filepath.Join(t.TempDir(), "restored"), ledger.Options{})
	require.NoError(t, restored.Restore(context.Background(), &last))
	require.Equal(t, want, headers(restored))
	require.NoError(t, restored.Close())
}

func TestSnapshotHeader(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	play(t, l, &history{}, 10)
	var b bytes.Buffer
	require.NoError(t, l.Snapshot(context.Background(), &b))
	header, err := ledger.DecodeSnapshotHeader(b.Bytes()[:ledger.SnapshotHeaderBytes])
	require.NoError(t, err)
	require.Equal(t, ledger.SnapshotHeader{Network: networkID(t), Head: l.CurrentHeader().Hash(), Applied: 10}, header)
	require.NoError(t, l.Close())
	for _, bad := range [][]byte{nil, b.Bytes()[:ledger.SnapshotHeaderBytes-1], b.Bytes()[1 : ledger.SnapshotHeaderBytes+1]} {
		_, err := ledger.DecodeSnapshotHeader(bad)
		require.ErrorIs(t, err, ledger.ErrBadSnapshot)
	}
}

// TestRunEndedAtOnce: being told to stop is no error, however early.
func TestRunEndedAtOnce(t *testing.T) {
	l := open(t, t.TempDir(), ledger.Options{})
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 20 {
		require.NoError(t, l.Run(ctx, viewtest.NewLog(networkID(t))))
	}
}
