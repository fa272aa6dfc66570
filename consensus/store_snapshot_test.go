package consensus

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// twoSegments fills a store: entries 1 to 29, the Seal at 30, entries 31 to 50. The dedup window is 16.
func twoSegments(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	s := openStore(t, fs)
	apply(t, replicaOf(t, s), append(items(1, 29), Item{UnixMilli: 30, Record: newChain().seal(2).Record()}))
	apply(t, replicaOf(t, s), items(31, 50))
	require.Equal(t, LSN(51), s.Next())
	return s
}

func stateAt(t *testing.T, s *Store, lsn LSN) LogState {
	t.Helper()
	state, err := s.Snapshot(context.Background(), lsn)
	require.NoError(t, err)
	return state
}

// restored returns the store that is made of a state that has been encoded and decoded.
func restored(t *testing.T, fs vfs.FS, state LogState) *Store {
	t.Helper()
	decoded, err := DecodeLogState(state.Encode())
	require.NoError(t, err)
	require.Equal(t, state, decoded)
	require.NoError(t, RestoreStore(context.Background(), storeOptions(fs), decoded))
	s := openStore(t, fs)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestSnapshotState(t *testing.T) {
	s := twoSegments(t, vfs.NewMem())
	defer s.Close()
	for lsn := LSN(1); lsn <= 50; lsn++ {
		state := stateAt(t, s, lsn)
		require.NoError(t, state.Verify(newChain().network, newChain().spec))
		require.Equal(t, uint64(lsn), state.UnixMilli)
		require.Len(t, state.Last, int(min(lsn, 16)))
		want, err := s.DigestAt(lsn)
		require.NoError(t, err)
		require.Equal(t, want, state.Digest())
		segments := 1
		if lsn >= 30 { // its Seal decides where the next entry falls
			segments = 2
		}
		require.Len(t, state.Segments, segments, "lsn %d", lsn)
		require.Len(t, state.Ends, segments-1)
	}
	_, err := s.Snapshot(context.Background(), 0)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Snapshot(context.Background(), 51)
	require.ErrorIs(t, err, ErrUnwritten)
	require.NoError(t, s.Close())
	_, err = s.Snapshot(context.Background(), 50)
	require.ErrorIs(t, err, ErrClosed)
}

func TestSnapshotDigests(t *testing.T) {
	s := twoSegments(t, vfs.NewMem())
	defer s.Close()
	state := stateAt(t, s, 48)
	for lsn := range LSN(60) {
		d, ok := state.DigestAt(lsn)
		known := lsn == 0 || lsn == 30 || lsn > 32 && lsn <= 48 // the bases, and the window
		require.Equal(t, known, ok, "lsn %d", lsn)
		if ok {
			want, err := s.DigestAt(lsn)
			require.NoError(t, err)
			require.Equal(t, want, d)
		}
	}
}

// TestSnapshotAfterTrim: what a trim leaves is enough W above the trim point, and below that the answer is ErrTrimmed.
func TestSnapshotAfterTrim(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	r := replicaOf(t, s)
	apply(t, r, items(1, 100))
	before := make(map[LSN]LogState)
	for lsn := LSN(1); lsn <= 100; lsn++ {
		before[lsn] = stateAt(t, s, lsn)
	}
	require.NoError(t, r.Trim(context.Background(), 39)) // lsn 40
	for lsn := LSN(1); lsn <= 100; lsn++ {
		state, err := s.Snapshot(context.Background(), lsn)
		if lsn-40 < 16 || lsn < 40 {
			require.ErrorIs(t, err, ErrTrimmed, "lsn %d", lsn)
			continue
		}
		require.NoError(t, err, "lsn %d", lsn)
		require.Equal(t, before[lsn], state)
	}
}

// mixedHistory has duplicates of before and after any cut, junk, a clock that goes back and forth, and a Seal.
func mixedHistory() (history []Item) {
	rng := rand.New(rand.NewPCG(7, 7))
	for n := uint64(1); len(history) < 150; {
		item := Item{UnixMilli: 1000 + uint64(rng.IntN(200)), Record: testRecord(n)}
		switch {
		case n == 40:
			item.Record = newChain().seal(2).Record()
			n++
		case n > 2 && rng.IntN(3) == 0:
			item.Record = testRecord(n - 1 - uint64(rng.IntN(int(min(n-1, 24))))) // W is 16: some are forgotten by now
		case n > 2 && rng.IntN(10) == 0:
			item.Record.App = "NO"
		default:
			n++
		}
		history = append(history, item)
	}
	return history
}

// TestRestoredTwin: a store that was made of a state, at any LSN, goes on as the one that it was taken from: the verdicts, the chain, the mark and the
// state at the end are the same.
func TestRestoredTwin(t *testing.T) {
	history := mixedHistory()
	original := openStore(t, vfs.NewMem())
	defer original.Close()
	verdicts, states := make([]Verdict, len(history)), make([]LogState, len(history))
	kinds := make(map[Kind]int)
	for i, item := range history {
		verdicts[i] = apply(t, replicaOf(t, original), []Item{item})[0]
		states[i] = stateAt(t, original, original.Next()-1)
		kinds[verdicts[i].Kind]++
	}
	require.Len(t, original.Segments(), 2)
	for _, k := range []Kind{Data, Duplicate, Void} {
		require.Greater(t, kinds[k], 10, "%v", k)
	}
	want := replicaOf(t, original).Position()
	for cut := range history {
		if cut%6 != 0 && verdicts[cut].Next == nil {
			continue
		}
		twin := restored(t, vfs.NewMem(), states[cut])
		at := states[cut].LSN
		require.Equal(t, []LSN{at, at + 1}, []LSN{twin.Trimmed(), twin.Next()})
		require.Equal(t, states[cut], stateAt(t, twin, at), "a state can be taken again at once")
		for i := cut + 1; i < len(history); i++ {
			require.Equal(t, verdicts[i], apply(t, replicaOf(t, twin), history[i:i+1])[0], "cut %d, item %d", cut, i)
		}
		require.Equal(t, original.Segments(), twin.Segments())
		require.Equal(t, states[len(states)-1], stateAt(t, twin, twin.Next()-1))
		have := replicaOf(t, twin).Position()
		have.Applied = want.Applied // the engine's own
		require.Equal(t, want, have)
	}
}

// TestRestoredStore: what such a store says of what it does not have, and that nothing vouches for it.
func TestRestoredStore(t *testing.T) {
	original := twoSegments(t, vfs.NewMem())
	defer original.Close()
	require.NoError(t, original.Vouch(1))
	s := restored(t, vfs.NewMem(), stateAt(t, original, 45))
	for _, epoch := range []Epoch{1, 2, 3} {
		vouched, err := s.Vouched(epoch)
		require.NoError(t, err)
		require.False(t, vouched)
	}
	end, ok, err := s.SegmentEnd(1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, LSN(31), end.Tail())
	_, ok, err = s.SegmentEnd(2)
	require.NoError(t, err)
	require.False(t, ok)

	first, err := s.Replica(1)
	require.NoError(t, err)
	defer first.Close()
	require.True(t, first.Position().Sealed)
	_, err = first.Follow(context.Background(), 0, 0)
	require.ErrorIs(t, err, ErrTrimmed)
	_, err = first.Follow(context.Background(), 30, 0)
	require.ErrorIs(t, err, ErrSealed)
	offset, err := first.AnswerSealed(testRecord(45)) // an append to the sealed epoch that had got in later
	require.NoError(t, err)
	require.Equal(t, Offset(44), offset)

	last := replicaOf(t, s)
	require.Equal(t, uint64(45), last.Applied())
	require.True(t, last.Based())
	_, err = last.Read(context.Background(), 14, 15) // lsn 45
	require.ErrorIs(t, err, ErrTrimmed)
	for lsn, known := range map[LSN]bool{0: true, 1: false, 29: false, 30: true, 45: true} {
		d, err := s.DigestAt(lsn)
		if !known {
			require.ErrorIs(t, err, ErrTrimmed, "lsn %d", lsn)
			continue
		}
		require.NoError(t, err)
		want, err := original.DigestAt(lsn)
		require.NoError(t, err)
		require.Equal(t, want, d)
	}
	// The entries that follow are verified on what was restored, and it can be trimmed on.
	apply(t, last, items(46, 80))
	entries, err := last.Read(context.Background(), 15, 50)
	require.NoError(t, err)
	require.Len(t, entries, 35)
	require.NoError(t, last.Trim(context.Background(), 40))
	require.Equal(t, LSN(71), s.Trimmed())
}

func TestRestoreRefuses(t *testing.T) {
	c := newChain()
	original := twoSegments(t, vfs.NewMem())
	defer original.Close()
	good := stateAt(t, original, 45)
	for name, tc := range map[string]struct {
		change func(*LogState, *StoreOptions)
		err    error
		text   string
	}{
		"another network":        {func(_ *LogState, o *StoreOptions) { o.NetworkID[0]++ }, ErrWrongNetwork, "network"},
		"another genesis":        {func(_ *LogState, o *StoreOptions) { o.Genesis.Threshold = 1 }, ErrInvalid, "segment 1"},
		"another window":         {func(_ *LogState, o *StoreOptions) { o.Window = 17 }, ErrInvalid, "window of 16"},
		"no window":              {func(s *LogState, _ *StoreOptions) { s.Window = 0 }, ErrInvalid, "window of 0"},
		"no entry":               {func(s *LogState, _ *StoreOptions) { s.LSN, s.Last = 0, nil }, ErrInvalid, "no entry"},
		"a key too few":          {func(s *LogState, _ *StoreOptions) { s.Last = s.Last[1:] }, ErrInvalid, "15 record keys"},
		"a key too many":         {func(s *LogState, _ *StoreOptions) { s.Last = append(s.Last, PastEntry{Key: RecordKey{9, 9}}) }, ErrInvalid, "17 record keys"},
		"a key twice":            {func(s *LogState, _ *StoreOptions) { s.Last[3].Key = s.Last[4].Key }, ErrInvalid, "twice"},
		"no segments":            {func(s *LogState, _ *StoreOptions) { s.Segments, s.Ends = nil, nil }, ErrInvalid, "0 segments"},
		"an end too few":         {func(s *LogState, _ *StoreOptions) { s.Ends = nil }, ErrInvalid, "2 segments, 0"},
		"a segment too few":      {func(s *LogState, _ *StoreOptions) { s.Segments = s.Segments[:1] }, ErrInvalid, "1 segments, 1"},
		"another last segment":   {func(s *LogState, _ *StoreOptions) { s.Segments[1].BaseUnixMilli++ }, ErrInvalid, "segment 2"},
		"the Seal's key differs": {func(s *LogState, _ *StoreOptions) { s.Last[0].Key[0]++ }, ErrInvalid, "another entry"},
		"its digest differs":     {func(s *LogState, _ *StoreOptions) { s.Last[0].Digest[0]++ }, ErrInvalid, "another entry"},
		"the Seal comes later":   {func(s *LogState, _ *StoreOptions) { s.LSN = 29 }, ErrInvalid, "ends at lsn 30"},
		"before its segment":     {func(s *LogState, _ *StoreOptions) { s.UnixMilli = 29 }, ErrInvalid, "begins at lsn 31"},
		"an unsigned Seal": {func(s *LogState, _ *StoreOptions) {
			s.Ends[0].Seal.Record = c.sign(c.request(2), 1).Record()
		}, ErrInvalid, "signatures"},
		"a Seal that does not follow": {func(s *LogState, _ *StoreOptions) {
			*s = stateAt(t, original, 31)
			s.Last[len(s.Last)-3].Digest[0]++ // lsn 29
		}, ErrInvalid, "digest"},
	} {
		fs := vfs.NewMem()
		opts := storeOptions(fs)
		state, err := DecodeLogState(good.Encode())
		require.NoError(t, err)
		tc.change(&state, &opts)
		err = RestoreStore(context.Background(), opts, state)
		require.ErrorIs(t, err, tc.err, name)
		require.ErrorContains(t, err, tc.text, name)
		list, err := fs.List("")
		require.NoError(t, err)
		require.Empty(t, list, "%s: nothing is made", name)
	}
}

// TestRestoreIntoUsed: no log is overwritten, not even an empty one, and nobody else's database is taken for none.
func TestRestoreIntoUsed(t *testing.T) {
	original := twoSegments(t, vfs.NewMem())
	defer original.Close()
	state := stateAt(t, original, 45)
	fs := vfs.NewMem()
	require.NoError(t, openStore(t, fs).Close())
	require.ErrorIs(t, RestoreStore(context.Background(), storeOptions(fs), state), ErrInvalid)
	s := openStore(t, fs)
	require.Equal(t, LSN(1), s.Next())
	require.ErrorIs(t, RestoreStore(context.Background(), storeOptions(fs), state), ErrLocked)
	require.NoError(t, s.Close())

	fs = vfs.NewMem()
	change(t, fs, func(db *pebble.DB) { require.NoError(t, db.Set([]byte("x"), nil, pebble.Sync)) })
	require.ErrorIs(t, RestoreStore(context.Background(), storeOptions(fs), state), ErrCorrupt)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, RestoreStore(ctx, storeOptions(vfs.NewMem()), state), context.Canceled)
}

// TestRestoreCrash cuts the power after each write and sync of a restore: then there is no log, and the restore can be repeated, or the whole one.
func TestRestoreCrash(t *testing.T) {
	original := twoSegments(t, vfs.NewMem())
	defer original.Close()
	state := stateAt(t, original, 45)
	outcomes := make(map[bool]int)
	for stop := int32(1); ; stop++ {
		mem := vfs.NewCrashableMem()
		var clone *vfs.MemFS
		var n atomic.Int32
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && n.Add(1) == stop {
				clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(stop), 1))})
			}
			return nil
		}))
		require.NoError(t, RestoreStore(context.Background(), storeOptions(fs), state))
		if clone == nil {
			break
		}
		opts := storeOptions(clone)
		err := RestoreStore(context.Background(), opts, state)
		whole := errors.Is(err, ErrInvalid)
		if !whole {
			require.NoError(t, err, "write %d", stop)
		}
		outcomes[whole]++
		s := openStore(t, clone)
		require.Equal(t, state, stateAt(t, s, 45))
		require.NoError(t, s.Close())
	}
	require.Positive(t, outcomes[true])
	require.Positive(t, outcomes[false])
}

// TestRestoreFails: a write that fails is an error, and not a log that seems to be there.
func TestRestoreFails(t *testing.T) {
	original := twoSegments(t, vfs.NewMem())
	defer original.Close()
	state := stateAt(t, original, 45)
	boom := errors.New("boom")
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) && strings.HasSuffix(op.Path, ".log") {
			return boom
		}
		return nil
	}))
	opts := storeOptions(fs)
	opts.OnFatal = func(error) {}
	err := RestoreStore(context.Background(), opts, state)
	require.ErrorIs(t, err, ErrFailed)
	require.ErrorIs(t, err, boom)
}

// TestLogStateFormat holds the encoding against the drawing in doc.go, byte by byte.
func TestLogStateFormat(t *testing.T) {
	c := newChain()
	state := LogState{
		Network: c.network, Window: 16, LSN: 2, UnixMilli: 3, Segments: []Segment{c.segment()},
		Last: []PastEntry{{RecordKey{4, 5}, Digest{6}}, {RecordKey{7, 8}, Digest{9}}},
	}
	seg := c.segment().Encode()
	want := "02" + c.network.String() + "0000000000000010" + "0000000000000002" + "0000000000000003" +
		"00000001" + fmt.Sprintf("%08x", len(seg)) + hex.EncodeToString(seg) + "00000000" +
		"00000002" + RecordKey{4, 5}.String() + Digest{6}.String() + RecordKey{7, 8}.String() + Digest{9}.String()
	require.Equal(t, want, hex.EncodeToString(state.Encode()))
	decoded, err := DecodeLogState(state.Encode())
	require.NoError(t, err)
	require.Equal(t, state, decoded)
}

func FuzzDecodeLogState(f *testing.F) {
	c := newChain()
	end := SegmentEnd{Seal: Entry{LSN: 1, Epoch: 1, Record: c.seal(2).Record()}, Proof: []byte{1}}
	f.Add(LogState{
		Network: c.network, Window: 16, LSN: 2, UnixMilli: 3, Segments: []Segment{c.segment(), c.segment()}, Ends: []SegmentEnd{end},
		Last: []PastEntry{{RecordKey{4, 5}, Digest{6}}, {RecordKey{7, 8}, Digest{9}}},
	}.Encode())
	f.Add(LogState{Window: 1, LSN: 1 << 63}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeLogState(b)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			return
		}
		require.Equal(t, b, s.Encode(), "two encodings of one state")
		_ = s.Verify(c.network, c.spec) // whatever it says, without a panic
		s.Digest()
	})
}
