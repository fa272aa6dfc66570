package consensus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

const testDir = "a/b/log"

func storeOptions(fs vfs.FS) StoreOptions {
	c := newChain()
	return StoreOptions{FS: fs, Dir: testDir, NetworkID: c.network, Genesis: c.spec, Window: 16}
}

func openStore(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	s, err := OpenStore(context.Background(), storeOptions(fs))
	require.NoError(t, err)
	return s
}

// replicaOf returns the replica of the last segment.
func replicaOf(t *testing.T, s *Store) *Replica {
	t.Helper()
	segments := s.Segments()
	r, err := s.Replica(segments[len(segments)-1].Epoch)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

// payload is incompressible, so that it is found as it is in tables.
func payload(seed uint64, n int) []byte {
	p := make([]byte, n)
	for i, rng := 0, rand.New(rand.NewPCG(seed, 1)); i < n; i++ {
		p[i] = byte(rng.Uint32())
	}
	return p
}

func testRecord(n uint64) Record {
	return Record{App: "app", ID: RecordID{1, n}, Payload: payload(n, 200)}
}

func items(from, to uint64) (list []Item) {
	for n := from; n <= to; n++ {
		list = append(list, Item{UnixMilli: n, Record: testRecord(n)})
	}
	return list
}

func apply(t *testing.T, r *Replica, list []Item) []Verdict {
	t.Helper()
	v, err := r.Apply(Batch{Applied: r.Applied() + uint64(len(list)), Items: list, Sync: true})
	require.NoError(t, err)
	return v
}

func TestStoreOpen(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	require.Equal(t, LSN(1), s.Next())
	require.Equal(t, []Segment{newChain().segment()}, s.Segments())
	d, err := s.DigestAt(0)
	require.NoError(t, err)
	require.Equal(t, Digest(newChain().network), d)

	_, err = OpenStore(context.Background(), storeOptions(fs))
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "another ledgerd")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.DigestAt(0)
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.Replica(1)
	require.ErrorIs(t, err, ErrClosed)

	other := storeOptions(fs)
	other.NetworkID[0]++
	_, err = OpenStore(context.Background(), other)
	require.ErrorIs(t, err, ErrWrongNetwork)
	require.ErrorContains(t, err, other.NetworkID.String())
	require.ErrorContains(t, err, newChain().network.String())
	other = storeOptions(fs)
	other.Window++
	_, err = OpenStore(context.Background(), other)
	require.ErrorIs(t, err, ErrInvalid)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = OpenStore(ctx, storeOptions(fs))
	require.ErrorIs(t, err, context.Canceled)
	_, err = OpenStore(context.Background(), StoreOptions{FS: fs, Window: -1})
	require.ErrorIs(t, err, ErrInvalid)
	for _, what := range []string{"directory", "network id", "window", "engine"} {
		require.ErrorContains(t, err, what, "all problems at once")
	}
}

// TestStoreLockedOnDisk: the same with the operating system's locks.
func TestStoreLockedOnDisk(t *testing.T) {
	opts := storeOptions(nil)
	opts.Dir = t.TempDir() + "/home/log"
	s, err := OpenStore(context.Background(), opts)
	require.NoError(t, err)
	_, err = OpenStore(context.Background(), opts)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, s.Close())
	s, err = OpenStore(context.Background(), opts)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// TestStoreForeignDirectory: another pebble database is not taken for an empty log.
func TestStoreForeignDirectory(t *testing.T) {
	fs := vfs.NewMem()
	change(t, fs, func(db *pebble.DB) { require.NoError(t, db.Set([]byte("x"), nil, pebble.Sync)) })
	_, err := OpenStore(context.Background(), storeOptions(fs))
	require.ErrorIs(t, err, ErrCorrupt)
	fs = vfs.NewMem()
	change(t, fs, func(db *pebble.DB) { require.NoError(t, db.Set([]byte{keyFormat}, []byte{9}, pebble.Sync)) })
	_, err = OpenStore(context.Background(), storeOptions(fs))
	require.ErrorContains(t, err, "format 09")
}

// change opens the database of a closed store.
func change(t *testing.T, fs vfs.FS, f func(*pebble.DB)) {
	t.Helper()
	s := &Store{opts: StoreOptions{FS: fs, Dir: testDir}}
	s.opts.EnsureDefaults()
	db, err := pebble.Open(testDir, s.pebbleOptions())
	require.NoError(t, err)
	f(db)
	require.NoError(t, db.Close())
}

// TestApply: the verdicts of a batch with everything in it, and what is stored of it.
func TestApply(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	r := replicaOf(t, s)
	extended := s.Extended()
	c := newChain()
	seal, second := c.seal(2).Record(), c.sign(c.other(2), 0, 1).Record()
	bad := c.sign(c.request(2), 0).Record()
	at := func(n uint64, r Record) Item { return Item{UnixMilli: n, Record: r} }
	list := []Item{
		at(5, testRecord(1)), at(6, bad), at(4, testRecord(2)), at(9, testRecord(1)), at(7, seal),
		at(10, testRecord(3)), at(10, second), at(10, testRecord(2)), at(10, seal),
	}
	verdicts := apply(t, r, list)
	for i, want := range []struct {
		kind   Kind
		offset Offset
		err    error
	}{
		{Data, 0, nil}, {Void, 0, ErrInvalid}, {Data, 1, nil}, {Duplicate, 0, nil}, {Data, 2, nil},
		{Void, 0, ErrSealed}, {Void, 0, ErrSealed}, {Duplicate, 1, nil}, {Duplicate, 2, nil},
	} {
		require.Equal(t, want.kind, verdicts[i].Kind, "item %d", i)
		offset, err := r.Segment().Answer(verdicts[i])
		require.Equal(t, want.offset, offset, "item %d", i)
		require.ErrorIs(t, err, want.err, "item %d", i)
	}
	<-extended
	check := func(s *Store, r *Replica) {
		tail, err := r.Tail()
		require.NoError(t, err)
		require.Equal(t, Tail{Offset: 3, Sealed: true}, tail)
		require.Equal(t, uint64(9), r.Applied())
		entries, err := r.Read(context.Background(), 0, 3)
		require.NoError(t, err)
		require.Equal(t, []uint64{5, 5, 7}, []uint64{entries[0].UnixMilli, entries[1].UnixMilli, entries[2].UnixMilli})
		require.Equal(t, seal, entries[2].Record)
		segments := s.Segments()
		require.Len(t, segments, 2)
		require.Equal(t, LSN(4), segments[1].Base)
		require.Equal(t, EpochIdentity(c.network, 2, c.request(2).Hash(), 0), segments[1].Identity)
	}
	check(s, r)

	// What the engine goes on to order is void, and moves its position only.
	require.Equal(t, Void, apply(t, r, []Item{at(20, testRecord(4))})[0].Kind)
	require.Equal(t, uint64(10), r.Applied())
	require.Equal(t, LSN(4), s.Next())

	// The next segment knows the ids of this one.
	r2 := replicaOf(t, s)
	require.Equal(t, uint64(0), r2.Applied())
	verdicts = apply(t, r2, []Item{at(1, testRecord(2)), at(1, testRecord(4))})
	_, err := r2.Segment().Answer(verdicts[0])
	require.Equal(t, DuplicateError{LSN: 2}, err)
	require.Equal(t, LSN(4), verdicts[1].LSN)
	require.Equal(t, uint64(7), verdicts[1].Entry.UnixMilli)
	require.NoError(t, s.Close())

	s = openStore(t, fs)
	require.Equal(t, LSN(5), s.Next())
	r, err = s.Replica(1)
	require.NoError(t, err)
	require.Equal(t, uint64(10), r.Applied())
	verdicts = apply(t, replicaOf(t, s), []Item{at(1, testRecord(1)), at(1, testRecord(4))})
	require.Equal(t, []LSN{1, 4}, []LSN{verdicts[0].LSN, verdicts[1].LSN})
	_, err = s.Replica(3)
	require.ErrorIs(t, err, ErrInvalid)
	require.NoError(t, s.Close())
}

func TestApplyBackwards(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	r := replicaOf(t, s)
	apply(t, r, items(1, 3))
	require.PanicsWithValue(t, "consensus: epoch 1 is applied up to 3, and is given a batch up to 2", func() {
		_, _ = r.Apply(Batch{Applied: 2})
	})
}

// TestUnsyncedApply: an engine that is durable elsewhere loses its unsynced batches in a crash, mark and entries together; the Seal's never.
func TestUnsyncedApply(t *testing.T) {
	for _, seal := range []bool{false, true} {
		fs := vfs.NewCrashableMem()
		s := openStore(t, fs)
		r := replicaOf(t, s)
		apply(t, r, items(1, 3))
		list := items(4, 6)
		if seal {
			list = append(list, Item{Record: newChain().seal(2).Record()})
		}
		_, err := r.Apply(Batch{Applied: 3 + uint64(len(list)), Items: list})
		require.NoError(t, err)
		clone := fs.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, s.Close())

		s = openStore(t, clone)
		r, err = s.Replica(1)
		require.NoError(t, err)
		if seal {
			require.Equal(t, uint64(7), r.Applied())
			require.Equal(t, LSN(8), s.Next())
			require.Len(t, s.Segments(), 2)
		} else {
			require.Equal(t, uint64(3), r.Applied())
			require.Equal(t, LSN(4), s.Next())
			verdicts := apply(t, r, items(4, 6)) // the engine repeats them
			require.Equal(t, LSN(6), verdicts[2].LSN)
		}
		require.NoError(t, s.Close())
	}
}

// TestFailedSync: after an fsync that fails nothing is acknowledged, nothing more is written, and the hook has been told.
func TestFailedSync(t *testing.T) {
	var fail atomic.Bool
	boom := errors.New("boom")
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) && strings.HasSuffix(op.Path, ".log") {
			return boom
		}
		return nil
	}))
	var told []error
	opts := storeOptions(fs)
	opts.OnFatal = func(err error) { told = append(told, err) }
	s, err := OpenStore(context.Background(), opts)
	require.NoError(t, err)
	r := replicaOf(t, s)
	apply(t, r, items(1, 3))
	fail.Store(true)
	_, err = r.Apply(Batch{Applied: 4, Items: items(4, 4), Sync: true})
	require.ErrorIs(t, err, ErrFailed)
	require.ErrorIs(t, err, boom)
	require.Len(t, told, 1)
	require.ErrorIs(t, told[0], boom)
	fail.Store(false)
	_, err = r.Apply(Batch{Applied: 4, Items: items(4, 4), Sync: true})
	require.ErrorIs(t, err, ErrFailed, "a retry would lie")
	require.ErrorIs(t, r.Trim(context.Background(), 1), ErrFailed)
	require.Len(t, told, 1)
	entries, err := r.Read(context.Background(), 0, 3)
	require.NoError(t, err, "what is there can be read")
	require.Len(t, entries, 3)
	_, err = r.Read(context.Background(), 3, 4)
	require.ErrorIs(t, err, ErrUnwritten)
	require.NoError(t, s.Close())
}

// TestCheckedAtOpen: what is wrong near the end is found when the log is opened, with its LSN.
func TestCheckedAtOpen(t *testing.T) {
	const n = 40
	for name, c := range map[string]struct {
		damage func(t *testing.T, db *pebble.DB)
		lsn    LSN // 0: the error has no place
	}{
		"last entry lost":    {del(key(keyEntry, LSN(n))), n},
		"an entry lost":      {del(key(keyEntry, LSN(n-10))), n - 10},
		"first entry lost":   {del(key(keyEntry, LSN(1))), 1},
		"last entry changed": {flip(key(keyEntry, LSN(n)), -1), n},
		"last entry cut off": {set(key(keyEntry, LSN(n)), []byte{1, 2}), n},
		"entry past the end": {set(key(keyEntry, LSN(n+1)), []byte{1, 2}), n},
		"id lost":            {del(key(keyRecord, LSN(n-3))), n - 3},
		"last id lost":       {del(key(keyRecord, LSN(n))), n},
		"id cut off":         {set(key(keyRecord, LSN(n-3)), []byte{1}), n - 3},
		"last digest":        {flip(key(keyRecord, LSN(n)), -1), n},
		"mark lost":          {del(key(keyApplied, Epoch(1))), 0},
		"mark cut off":       {set(key(keyApplied, Epoch(1)), []byte{markVersion}), 0},
		"mark's digest":      {flip(key(keyApplied, Epoch(1)), -2), n},
		"segment lost":       {del(key(keySegment, Epoch(1))), 0},
		"segment changed":    {flip(key(keySegment, Epoch(1)), 0), 0},
		"a segment too many": {set(key(keySegment, Epoch(2)), newChain().segment().Encode()), 0},
		"trim point":         {set([]byte{keyTrim}, []byte{1}), 0},
		"trimmed too far":    {set([]byte{keyTrim}, append(key(0, LSN(n+1))[1:], make([]byte, 32)...)), 0},
		"format":             {set([]byte{keyFormat}, []byte{storeVersion, 1}), 0},
		"another history":    {set(key(keyRecord, LSN(n-1)), nil), n - 1},
		"strange key":        {set([]byte{keyEntry, 0, 1}, nil), 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			fs := vfs.NewMem()
			s := openStore(t, fs)
			apply(t, replicaOf(t, s), items(1, n))
			require.NoError(t, s.Close())
			change(t, fs, func(db *pebble.DB) { c.damage(t, db) })
			s, err := OpenStore(context.Background(), storeOptions(fs))
			if s != nil {
				require.NoError(t, s.Close())
			}
			require.ErrorIs(t, err, ErrCorrupt)
			var at *CorruptError
			if errors.As(err, &at); c.lsn != 0 {
				require.NotNil(t, at, "%v", err)
				require.Equal(t, c.lsn, at.LSN, "%v", err)
			}
		})
	}
}

func del(k []byte) func(*testing.T, *pebble.DB) {
	return func(t *testing.T, db *pebble.DB) { require.NoError(t, db.Delete(k, pebble.Sync)) }
}

func set(k, v []byte) func(*testing.T, *pebble.DB) {
	return func(t *testing.T, db *pebble.DB) { require.NoError(t, db.Set(k, v, pebble.Sync)) }
}

// flip changes a bit of the i-th byte of a value, from the end if i is negative.
func flip(k []byte, i int) func(*testing.T, *pebble.DB) {
	return func(t *testing.T, db *pebble.DB) {
		v, closer, err := db.Get(k)
		require.NoError(t, err)
		v = bytes.Clone(v)
		require.NoError(t, closer.Close())
		if i < 0 {
			i += len(v)
		}
		v[i] ^= 8
		require.NoError(t, db.Set(k, v, pebble.Sync))
	}
}

// files returns the log's files with a suffix.
func files(t *testing.T, fs vfs.FS, suffix string) (paths []string) {
	t.Helper()
	names, err := fs.List(testDir)
	require.NoError(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, suffix) {
			paths = append(paths, fs.PathJoin(testDir, n))
		}
	}
	return paths
}

// rot flips a bit where what stands in one of the files, and says whether it was found.
func rot(t *testing.T, fs vfs.FS, paths []string, what []byte) bool {
	t.Helper()
	for _, path := range paths {
		f, err := fs.Open(path)
		require.NoError(t, err)
		data, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		if i := bytes.Index(data, what); i >= 0 {
			data[i] ^= 1
			w, err := fs.Create(path, vfs.WriteCategoryUnspecified)
			require.NoError(t, err)
			_, err = w.Write(data)
			require.NoError(t, err)
			require.NoError(t, errors.Join(w.Sync(), w.Close()))
			return true
		}
	}
	return false
}

// TestRotInTable: a block of a table that fails its checksum is reported with the LSN at which reading ended, and the process goes on.
func TestRotInTable(t *testing.T) {
	fs := vfs.NewMem()
	opts := storeOptions(fs)
	opts.OnFatal = func(err error) { t.Errorf("fatal: %v", err) }
	s, err := OpenStore(context.Background(), opts)
	require.NoError(t, err)
	apply(t, replicaOf(t, s), items(1, 2000)) // 400 KB, in many blocks
	require.NoError(t, s.Close())
	require.True(t, rot(t, fs, files(t, fs, ".sst"), testRecord(1000).Payload[:50]))

	s, err = OpenStore(context.Background(), opts)
	require.NoError(t, err)
	r := replicaOf(t, s)
	for _, read := range []func() ([]Entry, error){
		func() ([]Entry, error) { return r.Read(context.Background(), 0, 2000) },
		func() ([]Entry, error) { return r.Read(context.Background(), 999, 1000) },
		func() ([]Entry, error) { return r.Follow(context.Background(), 999, 1) },
	} {
		_, err = read()
		require.ErrorIs(t, err, ErrCorrupt)
		var at *CorruptError
		require.True(t, errors.As(err, &at))
		require.LessOrEqual(t, at.LSN, LSN(1000))
		require.Greater(t, at.LSN, LSN(900), "in its block")
	}
	entries, err := r.Read(context.Background(), 1500, 2000)
	require.NoError(t, err)
	require.Len(t, entries, 500)
	require.NoError(t, s.Close())
}

// TestRotInWAL: after a crash, rot in the write-ahead log is told from a torn tail as long as something bears witness that it was synced: a later
// block of the file, or the witness.
func TestRotInWAL(t *testing.T) {
	const n = 300 // in several blocks of 32 KiB
	run := func() (fs *vfs.MemFS, kill, power *vfs.MemFS) {
		fs = vfs.NewCrashableMem()
		s := openStore(t, fs)
		r := replicaOf(t, s)
		for i := uint64(1); i <= n; i++ {
			apply(t, r, items(i, i))
		}
		kill = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
		power = fs.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, s.Close())
		return fs, kill, power
	}
	refused := func(fs *vfs.MemFS) error {
		s, err := OpenStore(context.Background(), storeOptions(fs))
		if s != nil {
			require.NoError(t, s.Close())
		}
		require.ErrorIs(t, err, ErrCorrupt)
		return err
	}
	damage := func(fs *vfs.MemFS, n uint64) {
		require.True(t, rot(t, fs, files(t, fs, ".log"), testRecord(n).Payload))
	}

	_, _, power := run()
	damage(power, 20)
	require.ErrorContains(t, refused(power), "offset", "where, as well as pebble knows it")

	for _, bad := range []uint64{n - 5, n} { // in the last block, so pebble takes it for torn
		_, kill, _ := run()
		damage(kill, bad)
		var at *CorruptError
		require.True(t, errors.As(refused(kill), &at))
		require.Equal(t, LSN(bad), at.LSN)
	}

	// When power fails, the last one may have no witness. It is gone, and nothing else is.
	_, _, power = run()
	damage(power, n)
	s := openStore(t, power)
	require.Equal(t, LSN(n), s.Next())
	require.NoError(t, s.Close())

	// A clean Close leaves nothing that depends on the end of the write-ahead log.
	clean, _, _ := run()
	for rot(t, clean, files(t, clean, ".log"), testRecord(n).Payload) {
	}
	s = openStore(t, clean)
	require.Equal(t, LSN(n+1), s.Next())
	require.NoError(t, s.Close())
}

// TestTrimKeepsWindow: what a trim leaves is what the dedup window needs, and nothing else.
func TestTrimKeepsWindow(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs) // W is 16
	r := replicaOf(t, s)
	apply(t, r, items(1, 100))
	require.NoError(t, r.Trim(context.Background(), 98)) // lsn 99
	count := func(what byte) (n int) {
		require.NoError(t, s.scan(what, 0, func(uint64, []byte) error { n++; return nil }))
		return n
	}
	require.Equal(t, 1, count(keyEntry))
	require.Equal(t, 16, count(keyRecord))
	require.NoError(t, s.Close())
	s = openStore(t, fs)
	verdicts := apply(t, replicaOf(t, s), items(85, 100))
	for i, v := range verdicts {
		require.Equal(t, Duplicate, v.Kind)
		require.Equal(t, LSN(85+i), v.LSN)
	}
	require.NoError(t, s.Close())
}

// TestTrimWhileReading: a reader sees an entry or ErrTrimmed, never a gap.
func TestTrimWhileReading(t *testing.T) {
	opts := storeOptions(vfs.NewMem())
	opts.CacheBytes = 1 // from the disk
	s, err := OpenStore(context.Background(), opts)
	require.NoError(t, err)
	defer s.Close()
	r := replicaOf(t, s)
	const n = 120
	apply(t, r, items(1, n))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for o := range Offset(n - 1) {
			if err := r.Trim(context.Background(), o); err != nil {
				t.Errorf("trim: %v", err)
			}
		}
	}()
	for at := Offset(0); at < n-1; {
		entries, err := r.Read(context.Background(), at, n)
		switch {
		case errors.Is(err, ErrTrimmed):
			at++
		case err != nil:
			t.Fatalf("read from offset %d: %v", at, err)
		default:
			require.Len(t, entries, int(n-at))
		}
	}
	<-done
}

// TestRecentCache: what is kept in memory stays within its bound, and is what is on the disk.
func TestRecentCache(t *testing.T) {
	opts := storeOptions(vfs.NewMem())
	opts.CacheBytes = 1000 // five payloads
	s, err := OpenStore(context.Background(), opts)
	require.NoError(t, err)
	defer s.Close()
	r := replicaOf(t, s)
	for i := uint64(1); i <= 50; i++ {
		apply(t, r, items(i, i))
		require.LessOrEqual(t, s.mu.recent.bytes, opts.CacheBytes)
		require.Equal(t, s.mu.next, s.mu.recent.first+LSN(len(s.mu.recent.entries)))
	}
	require.Len(t, s.mu.recent.entries, 5)
	whole, err := r.Read(context.Background(), 0, 50)
	require.NoError(t, err)
	cached, err := r.Read(context.Background(), 45, 50)
	require.NoError(t, err)
	require.Equal(t, whole[45:], cached)
	require.NoError(t, r.Trim(context.Background(), 47))
	require.Len(t, s.mu.recent.entries, 2)
	require.Equal(t, int64(400), s.mu.recent.bytes)
}

// TestApplyOtherBase: a segment whose members take over another log than this node's is not applied, nor anything that comes with it.
func TestApplyOtherBase(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	r := replicaOf(t, s)
	apply(t, r, items(1, 3))
	before := r.Position()
	other := r.Segment()
	other.BaseDigest[0]++
	_, err := r.Apply(Batch{Applied: 9, Items: append(items(4, 6), Item{Record: BaseRecord(other)})})
	require.ErrorIs(t, err, ErrDiverged)
	require.Equal(t, before, r.Position())
	stale := r.Segment()
	stale.Identity[0]++
	verdicts, err := r.Apply(Batch{Applied: 10, Items: append(items(4, 6), Item{Record: BaseRecord(stale)}, Item{Record: BaseRecord(r.Segment())})})
	require.NoError(t, err)
	require.ErrorIs(t, verdicts[3].Err, ErrInvalid)
	require.Equal(t, Based, verdicts[4].Kind)
	require.Equal(t, before.Next+3, r.Position().Next)
}
