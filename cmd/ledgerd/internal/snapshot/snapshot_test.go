package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"ledgerd/cmd/ledgerd/internal/devkeys"
	"ledgerd/consensus"
	"ledgerd/consensus/peer"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/genesis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const window = 16

func testGenesis() *genesis.Genesis {
	g := genesis.Dev(1337, devkeys.Addresses())
	g.Ledgerd.DedupWindow = window
	return g
}

// item is the n-th of a history of transfers, with an entry of another application after each fourth.
func item(n uint64) consensus.Item {
	r := consensus.Record{App: "other", ID: consensus.RecordID{Session: 1, Seq: n}, Payload: []byte("nothing to the ledger")}
	if n%5 != 0 {
		accounts := devkeys.Accounts()
		tx := types.MustSignNewTx(accounts[0].Key, types.LatestSignerForChainID(big.NewInt(1337)), &types.DynamicFeeTx{
			ChainID: big.NewInt(1337), Nonce: n - n/5 - 1, Gas: 21000, To: &accounts[1].Address, Value: common.Big1, GasFeeCap: common.Big1, GasTipCap: common.Big0,
		})
		raw, err := tx.MarshalBinary()
		if err != nil {
			panic(err)
		}
		r.App, r.Payload = ledger.App, batch.Encode([][]byte{raw})
	}
	return consensus.Item{UnixMilli: 1_700_000_000_000 + n, Record: r}
}

// A twin is a log with the ledger that is made of it, without an engine.
type twin struct {
	t      testing.TB
	store  *consensus.Store
	ledger *ledger.Ledger
}

func openTwin(t testing.TB, dir string) *twin {
	t.Helper()
	g := testGenesis()
	id, err := g.NetworkID()
	require.NoError(t, err)
	store, err := consensus.OpenStore(t.Context(), consensus.StoreOptions{Dir: filepath.Join(dir, "log"), NetworkID: id, Genesis: g.Spec(), Window: window})
	require.NoError(t, err)
	l, err := ledger.Open(filepath.Join(dir, "ledger"), g, ledger.Options{CacheMiB: 16})
	require.NoError(t, err)
	w := &twin{t, store, l}
	t.Cleanup(w.close)
	return w
}

func (w *twin) close() {
	require.NoError(w.t, w.ledger.Close())
	require.NoError(w.t, w.store.Close())
}

// play orders the items from the log's tail up to n, and lets the ledger apply what it has not.
func (w *twin) play(n uint64) {
	w.t.Helper()
	r, err := w.store.Replica(1)
	require.NoError(w.t, err)
	defer r.Close()
	for next := uint64(w.store.Next()); next <= n; next++ {
		verdicts, err := r.Apply(consensus.Batch{Applied: next, Items: []consensus.Item{item(next)}, Sync: true})
		require.NoError(w.t, err)
		require.Equal(w.t, consensus.LSN(next), verdicts[0].LSN)
	}
	entries, err := r.Read(w.t.Context(), consensus.Offset(w.ledger.Applied()), consensus.Offset(n))
	require.NoError(w.t, err)
	for _, e := range entries {
		if e.Record.App != ledger.App {
			w.ledger.Advance(e.LSN)
			continue
		}
		_, err := w.ledger.Apply(w.t.Context(), e)
		require.NoError(w.t, err)
	}
	require.NoError(w.t, w.ledger.Drain(w.t.Context()))
}

func (w *twin) source() Source { return Source{Log: w.store, Ledger: w.ledger} }

func (w *twin) head() *types.Header { return w.ledger.CurrentHeader() }

func noProgress(uint64, uint64) {}

// created returns the path of a snapshot at LSN n, and what it is of.
func created(t testing.TB, w *twin, n uint64) (string, Contents) {
	t.Helper()
	w.play(n)
	path := filepath.Join(t.TempDir(), "a.snapshot")
	c, err := w.source().CreateFile(t.Context(), path)
	require.NoError(t, err)
	return path, c
}

func target(dir string) Target {
	return Target{Dir: dir, Log: "log", Ledger: "ledger", Genesis: testGenesis(), LedgerOptions: ledger.Options{CacheMiB: 16}}
}

// TestRestoredNode goes on with the rest of the log and comes to the same head, from a snapshot at a block, at an entry without one, and from a snapshot
// of a node that was restored itself.
func TestRestoredNode(t *testing.T) {
	const end = 60
	original := openTwin(t, t.TempDir())
	for _, at := range []uint64{1, 39, 40} {
		path, made := created(t, original, at)
		require.Equal(t, consensus.LSN(at), made.LSN)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.EqualValues(t, len(data), made.Size)
		require.Equal(t, consensus.Digest(sha256.Sum256(data)), made.SHA256)

		f, err := OpenFile(t.Context(), path, noProgress)
		require.NoError(t, err)
		require.Equal(t, made, f.Contents)
		dir := filepath.Join(t.TempDir(), "data")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "old"), 0o755))
		var last uint64
		head, err := f.Restore(t.Context(), target(dir), func(done, total uint64) {
			require.True(t, last < done && done <= total, "%d, then %d of %d", last, done, total)
			last = done
		})
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, made.Head, head.Hash())
		require.EqualValues(t, f.Ledger().Size(), last)
		require.Equal(t, []string{"data"}, names(t, filepath.Dir(dir)), "nothing is left beside it")
		require.Equal(t, []string{"ledger", "log"}, names(t, dir), "what was there is gone")

		restored := openTwin(t, dir)
		require.Equal(t, []consensus.LSN{made.LSN, made.LSN, made.LSN + 1}, []consensus.LSN{restored.ledger.Applied(), restored.store.Trimmed(), restored.store.Next()})
		if at == 40 {
			again, c := created(t, restored, 50)
			f, err := OpenFile(t.Context(), again, noProgress)
			require.NoError(t, err)
			dir := filepath.Join(t.TempDir(), "data")
			head, err := f.Restore(t.Context(), target(dir), noProgress)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			require.Equal(t, c.Head, head.Hash())
			restored = openTwin(t, dir)
		}
		restored.play(end)
		fresh := openTwin(t, t.TempDir())
		fresh.play(end)
		require.Equal(t, fresh.head().Hash(), restored.head().Hash())
		require.Equal(t, fresh.ledger.HeaderByNumber(1).Hash(), restored.ledger.HeaderByNumber(1).Hash(), "old blocks come with it")
		want, err := fresh.store.DigestAt(end)
		require.NoError(t, err)
		have, err := restored.store.DigestAt(end)
		require.NoError(t, err)
		require.Equal(t, want, have)
	}
}

// TestExchange crashes between any two steps: afterwards the directory is the one before or the new one, whole, and what was to be kept is somewhere.
func TestExchange(t *testing.T) {
	for _, worth := range []bool{false, true} {
		for crash := 0; ; crash++ {
			dir := filepath.Join(t.TempDir(), "data")
			fresh := dir + restoringSuffix
			write := func(dir, what string) {
				require.NoError(t, os.MkdirAll(dir, 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, what), nil, 0o600))
			}
			write(dir, "old")
			write(fresh, "new")
			steps := exchangeSteps(fresh, dir, worth)
			for _, step := range steps[:min(crash, len(steps))] {
				require.NoError(t, step())
			}
			require.NoError(t, Settle(dir))
			require.NoError(t, Settle(dir), "it has settled")
			has := names(t, dir)[0]
			want := []string{"data"}
			if has == "new" && worth {
				want = append(want, "data"+keptSuffix)
				require.Equal(t, []string{"old"}, names(t, dir+keptSuffix))
			}
			require.Equal(t, want, names(t, filepath.Dir(dir)), "after step %d", crash)
			if crash > len(steps) {
				require.Equal(t, "new", has)
				break
			}
		}
	}
}

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		all = append(all, f.Name())
	}
	return all
}

// TestDamagedFile changes one byte of each part, cuts the file off, and adds to it: the sum tells.
func TestDamagedFile(t *testing.T) {
	path, _ := created(t, openTwin(t, t.TempDir()), 20)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	state := int(binary.BigEndian.Uint32(good[len(magic):]))
	require.Less(t, lengthBytes+state, len(good))
	damaged := filepath.Join(t.TempDir(), "damaged")
	refused := func(b []byte, format string, args ...any) {
		t.Helper()
		require.NoError(t, os.WriteFile(damaged, b, 0o600))
		_, err := OpenFile(t.Context(), damaged, noProgress)
		require.ErrorIs(t, err, ErrBad, append([]any{format}, args...)...)
	}
	step := max(len(good)/300, 1)
	for at := 0; at < len(good); at++ {
		begin := at < lengthBytes+80 || at >= lengthBytes+state && at < lengthBytes+state+ledger.SnapshotHeaderBytes
		if !begin && at < len(good)-sha256.Size && at%step != 0 {
			continue
		}
		b := slices.Clone(good)
		b[at] ^= 1 << (at % 8)
		refused(b, "byte %d", at)
	}
	for cut := 0; cut < len(good); cut += step {
		refused(good[:cut], "cut off at %d", cut)
	}
	refused(good[:len(good)-1], "the last byte is missing")
	refused(append(slices.Clone(good), 0), "a byte more")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = OpenFile(ctx, path, noProgress)
	require.ErrorIs(t, err, context.Canceled)
	_, err = OpenFile(t.Context(), path+".no", noProgress)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// forge makes a file of a good one whose sum is right and whose content is not.
func forge(t testing.TB, path string, change func(state *consensus.LogState, ledger []byte) []byte) string {
	t.Helper()
	f, err := OpenFile(t.Context(), path, noProgress)
	require.NoError(t, err)
	defer f.Close()
	part, err := io.ReadAll(f.Ledger())
	require.NoError(t, err)
	part = change(&f.State, part)
	b := f.State.Encode()
	b = append(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(b))), b...)
	b = append(b, part...)
	sum := sha256.Sum256(b)
	forged := filepath.Join(t.TempDir(), "forged")
	require.NoError(t, os.WriteFile(forged, append(b, sum[:]...), 0o600))
	return forged
}

// TestForgedFile: halves that do not belong together, or to this network, are refused, and nothing is left of the attempt.
func TestForgedFile(t *testing.T) {
	w := openTwin(t, t.TempDir())
	early, _ := created(t, w, 19)
	path, _ := created(t, w, 29)
	other, err := OpenFile(t.Context(), early, noProgress)
	require.NoError(t, err)
	defer other.Close()
	otherLedger, err := io.ReadAll(other.Ledger())
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		change  func(*consensus.LogState, []byte) []byte
		genesis func(*genesis.Genesis)
		err     error
	}{
		"the log of another lsn":    {func(s *consensus.LogState, l []byte) []byte { *s = other.State; return l }, nil, ErrBad},
		"the ledger of another lsn": {func(_ *consensus.LogState, _ []byte) []byte { return otherLedger }, nil, ErrBad},
		"a ledger that lies about its lsn": {func(s *consensus.LogState, _ []byte) []byte {
			l := slices.Clone(otherLedger)
			binary.BigEndian.PutUint64(l[ledger.SnapshotHeaderBytes-8:], uint64(s.LSN))
			sum := sha256.Sum256(l[:len(l)-sha256.Size])
			return append(l[:len(l)-sha256.Size], sum[:]...)
		}, nil, ErrBad},
		"another digest at the head": {func(s *consensus.LogState, l []byte) []byte { s.Last[window-1].Digest[0]++; return l }, nil, ErrBad},
		"a record twice":             {func(s *consensus.LogState, l []byte) []byte { s.Last[0].Key = s.Last[1].Key; return l }, nil, ErrBad},
		"an earlier clock":           {func(s *consensus.LogState, l []byte) []byte { s.UnixMilli = 1; return l }, nil, ErrBad},
		"another window":             {func(_ *consensus.LogState, l []byte) []byte { return l }, func(g *genesis.Genesis) { g.Ledgerd.DedupWindow = 32 }, consensus.ErrWrongNetwork},
		"another chain":              {func(_ *consensus.LogState, l []byte) []byte { return l }, func(g *genesis.Genesis) { g.Coinbase[0]++ }, consensus.ErrWrongNetwork},
		"a state of another root": {func(_ *consensus.LogState, l []byte) []byte {
			at := bytes.LastIndex(l, devkeysAccount())
			require.Positive(t, at)
			l[at+len(devkeysAccount())+1+40]++
			sum := sha256.Sum256(l[:len(l)-sha256.Size])
			return append(l[:len(l)-sha256.Size], sum[:]...)
		}, nil, ledger.ErrBadSnapshot},
		"a ledger that is cut off": {func(_ *consensus.LogState, l []byte) []byte { return l[:len(l)-100] }, nil, ledger.ErrBadSnapshot},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			to := target(dir)
			if tc.genesis != nil {
				tc.genesis(to.Genesis)
			}
			f, err := OpenFile(t.Context(), forge(t, path, tc.change), noProgress)
			if err == nil {
				_, err = f.Restore(t.Context(), to, noProgress)
				require.NoError(t, f.Close())
			}
			require.ErrorIs(t, err, tc.err)
			require.Empty(t, names(t, filepath.Dir(dir)))
		})
	}
}

// devkeysAccount is the beginning of the key under which the flat state of a development account is stored.
func devkeysAccount() []byte {
	return append([]byte("a"), crypto.Keccak256(devkeys.Addresses()[3][:])...)
}

func TestWriteRefuses(t *testing.T) {
	w := openTwin(t, t.TempDir())
	_, err := w.source().Write(t.Context(), io.Discard)
	require.ErrorIs(t, err, ErrEmpty)
	w.play(30)

	behind := openTwin(t, t.TempDir())
	behind.play(29)
	_, err = Source{Log: behind.store, Ledger: w.ledger}.Write(t.Context(), io.Discard)
	require.ErrorIs(t, err, ledger.ErrLogBehind)

	dir := t.TempDir()
	_, err = Source{Log: behind.store, Ledger: w.ledger}.CreateFile(t.Context(), filepath.Join(dir, "f"))
	require.ErrorIs(t, err, ledger.ErrLogBehind)
	require.Empty(t, names(t, dir), "nothing is left of what could not be made")

	r, err := w.store.Replica(1)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Trim(t.Context(), 30-window-1)) // lsn 14: what is W above it has all its ids
	_, err = w.source().Write(t.Context(), io.Discard)
	require.NoError(t, err)
	late := openTwin(t, t.TempDir())
	late.play(40)
	l, err := late.store.Replica(1)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.Trim(t.Context(), 14))
	_, err = Source{Log: late.store, Ledger: w.ledger}.Write(t.Context(), io.Discard)
	require.ErrorIs(t, err, consensus.ErrTrimmed, "lsn 15")

	taken := filepath.Join(dir, "taken")
	require.NoError(t, os.WriteFile(taken, []byte("mine"), 0o600))
	_, err = w.source().CreateFile(t.Context(), taken)
	require.ErrorIs(t, err, ErrExists)
	text, err := os.ReadFile(taken)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))

	full := errors.New("full")
	_, err = w.source().Write(t.Context(), failing{full})
	require.ErrorIs(t, err, full)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestPieces: the ledger's header is found however the ledger cuts what it writes.
func TestPieces(t *testing.T) {
	w := openTwin(t, t.TempDir())
	w.play(20)
	var whole, pieces bytes.Buffer
	_, err := w.source().Write(t.Context(), &whole)
	require.NoError(t, err)
	_, err = Source{Log: w.store, Ledger: bitByBit{w.ledger}}.Write(t.Context(), &pieces)
	require.NoError(t, err)
	require.Equal(t, whole.Bytes(), pieces.Bytes())
}

// bitByBit writes a byte at a time.
type bitByBit struct{ *ledger.Ledger }

func (b bitByBit) Snapshot(ctx context.Context, w io.Writer) error {
	return b.Ledger.Snapshot(ctx, writerFunc(func(p []byte) (int, error) {
		for i := range p {
			if n, err := w.Write(p[i : i+1]); n != 1 || err != nil {
				return i, err
			}
		}
		return len(p), nil
	}))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestManager(t *testing.T) {
	w := openTwin(t, t.TempDir())
	dir := filepath.Join(t.TempDir(), "snapshots")
	open := func() *Manager {
		m, err := OpenManager(dir, 2, w.source(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return m
	}
	m := open()
	require.Empty(t, m.List())
	require.NoDirExists(t, dir, "it is made with the first snapshot")
	require.Equal(t, []consensus.LSN{0, 0}, []consensus.LSN{m.Oldest(), m.Newest()})
	_, err := m.Make(t.Context())
	require.ErrorIs(t, err, ErrEmpty)

	var made []Info
	for _, at := range []uint64{10, 20, 30} {
		w.play(at)
		info, err := m.Make(t.Context())
		require.NoError(t, err)
		require.Equal(t, consensus.LSN(at), info.LSN)
		again, err := m.Make(t.Context())
		require.NoError(t, err)
		require.Equal(t, info, again, "nothing was applied since")
		made = append(made, info)
	}
	require.Equal(t, []Info{made[2], made[1]}, m.List(), "newest first, and no more than two")
	require.Equal(t, []consensus.LSN{20, 30}, []consensus.LSN{m.Oldest(), m.Newest()})
	require.Equal(t, []string{fileName(made[1]), fileName(made[2])}, names(t, dir))

	var got bytes.Buffer
	_, err = io.CopyBuffer(&got, struct{ io.Reader }{io.NewSectionReader(readerAt(func(p []byte, at int64) (int, error) { return m.ReadAt(30, at, p) }), 0, made[2].Size)}, make([]byte, 10_000))
	require.NoError(t, err)
	require.Equal(t, made[2].SHA256, consensus.Digest(sha256.Sum256(got.Bytes())))
	n, err := m.ReadAt(30, made[2].Size-3, make([]byte, 10))
	require.Equal(t, 3, n)
	require.Equal(t, io.EOF, err)
	for _, lsn := range []consensus.LSN{10, 25} {
		_, err = m.ReadAt(lsn, 0, make([]byte, 1))
		require.ErrorIs(t, err, peer.ErrNoSnapshot)
	}

	for _, name := range []string{"making-123.part", "notes.txt", "00000000000000000007-00.snapshot"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	m = open()
	require.Equal(t, []Info{made[2], made[1]}, m.List())
	require.Equal(t, []string{"00000000000000000007-00.snapshot", fileName(made[1]), fileName(made[2]), "notes.txt"}, names(t, dir))
	require.NoError(t, os.Remove(m.Path(made[1])))
	_, err = m.ReadAt(20, 0, make([]byte, 1))
	require.ErrorIs(t, err, peer.ErrNoSnapshot)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.play(31)
	_, err = m.Make(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, made[2].LSN, m.Newest())
	require.Len(t, names(t, dir), 3, "nothing half made")
}

type readerAt func([]byte, int64) (int, error)

func (f readerAt) ReadAt(p []byte, at int64) (int, error) { return f(p, at) }

// TestMakeTakesTurns: of those who ask at once one makes it, and the others get what it made.
func TestMakeTakesTurns(t *testing.T) {
	w := openTwin(t, t.TempDir())
	w.play(5)
	m, err := OpenManager(filepath.Join(t.TempDir(), "snapshots"), 2, w.source(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	got := make(chan Info, 4)
	for range cap(got) {
		go func() {
			info, err := m.Make(context.Background())
			if err != nil {
				t.Errorf("make: %v", err)
			}
			got <- info
		}()
	}
	for range cap(got) {
		<-got
	}
	require.Len(t, m.List(), 1)
}
