package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// recovery is one of a store's last segment with the log up to a base.
func (c chain) recovery(t *testing.T, s *Store, base LSN, count uint64) SignedRecovery {
	t.Helper()
	segments := s.Segments()
	seg := segments[len(segments)-1]
	r := Recovery{NetworkID: c.network, Epoch: seg.Epoch + 1, Count: count, Base: base, Digest: seg.BaseDigest, UnixMilli: seg.BaseUnixMilli, Spec: c.spec}
	if base > seg.Base {
		entries, err := replicaOf(t, s).Read(context.Background(), seg.Offset(base-1), seg.Offset(base))
		require.NoError(t, err)
		r.Digest, r.UnixMilli = entries[0].Digest, entries[0].UnixMilli
	}
	return c.recover(r)
}

func (c chain) recover(r Recovery) SignedRecovery {
	return SignedRecovery{Recovery: r, Signatures: []Signature{r.Sign(c.keys[0]), r.Sign(c.keys[2])}}
}

// storeWith is one that holds n records.
func storeWith(t *testing.T, fs vfs.FS, n uint64) *Store {
	t.Helper()
	s := openStore(t, fs)
	apply(t, replicaOf(t, s), items(1, n))
	return s
}

// reopened closes a store and opens it again.
func reopened(t *testing.T, s *Store, fs vfs.FS) *Store {
	t.Helper()
	require.NoError(t, s.Close())
	s = openStore(t, fs)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestRecover: whatever a disk holds of a dead segment, after the recovery, and what is missing, it has the same log.
func TestRecover(t *testing.T) {
	c := newChain()
	survivor := storeWith(t, vfs.NewMem(), 10)
	defer survivor.Close()
	r := c.recovery(t, survivor, 11, 1)
	seal := Item{UnixMilli: 20, Record: c.seal(2).Record()}
	for _, tt := range []struct {
		name     string
		fill     func(*testing.T, *Store)
		cut      LSN
		segments int // that are cut off
		pending  bool
	}{
		{name: "equal", fill: func(t *testing.T, s *Store) { apply(t, replicaOf(t, s), items(1, 10)) }},
		{name: "shorter", fill: func(t *testing.T, s *Store) { apply(t, replicaOf(t, s), items(1, 4)) }, pending: true},
		{name: "empty", fill: func(*testing.T, *Store) {}, pending: true},
		{name: "longer", fill: func(t *testing.T, s *Store) { apply(t, replicaOf(t, s), items(1, 30)) }, cut: 11},
		{name: "sealed", fill: func(t *testing.T, s *Store) { apply(t, replicaOf(t, s), append(items(1, 10), seal)) }, cut: 11, segments: 1},
		{name: "sealed and gone on", fill: func(t *testing.T, s *Store) {
			apply(t, replicaOf(t, s), append(items(1, 12), seal))
			apply(t, replicaOf(t, s), append(items(13, 14), Item{UnixMilli: 20, Record: c.seal(3).Record()}))
			apply(t, replicaOf(t, s), items(15, 16))
		}, cut: 11, segments: 2},
		{name: "recovered shorter", fill: func(t *testing.T, s *Store) {
			apply(t, replicaOf(t, s), items(1, 4))
			first := c.recovery(t, s, 5, 1)
			first.Spec.Ledger = []byte("first")
			_, err := s.Recover(c.recover(first.Recovery))
			require.NoError(t, err)
			apply(t, replicaOf(t, s), items(21, 24))
		}, cut: 5, segments: 1, pending: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := r
			if tt.name == "recovered shorter" {
				r = c.recovery(t, survivor, 11, 2)
			}
			fs := vfs.NewMem()
			s := openStore(t, fs)
			tt.fill(t, s)
			held := s.Next()
			plan, err := s.PlanRecovery(r)
			require.NoError(t, err)
			require.Equal(t, held, s.Next(), "a plan is no deed")
			require.Equal(t, held, plan.Held)
			require.Equal(t, []any{tt.pending, tt.segments}, []any{plan.Pending, len(plan.Segments)})
			if tt.cut == 0 {
				require.Equal(t, held, plan.Cut)
				require.Empty(t, plan.File)
			} else {
				require.Equal(t, tt.cut, plan.Cut)
				require.ErrorIs(t, s.Await(r), ErrCutOff)
				require.Equal(t, held, s.Next())
			}
			var want []Entry
			if tt.cut > 0 {
				want, err = s.read(context.Background(), plan.Cut, held, 1000, 0)
				require.NoError(t, err)
			}
			done, err := s.Recover(r)
			require.NoError(t, err)
			require.Equal(t, plan, done)
			checkCut(t, fs, plan, want)

			for range 2 { // as it is, and opened again
				again, err := s.Recover(r)
				require.NoError(t, err)
				require.True(t, again.Done)
				require.Equal(t, tt.pending, again.Pending)
				p, pending := s.Pending()
				require.Equal(t, tt.pending, pending)
				if pending {
					require.Equal(t, r.Hash(), p.Hash())
					require.Len(t, s.Segments(), 1)
					require.Equal(t, LSN(11), replicaOf(t, s).Limit())
				}
				s = reopened(t, s, fs)
			}
			if tt.pending { // the rest comes, and what the dead segment went on with
				old := replicaOf(t, s)
				verdicts := apply(t, old, items(uint64(s.Next()), 13))
				require.ErrorIs(t, verdicts[len(verdicts)-3].Err, ErrSealed)
				require.ErrorIs(t, verdicts[len(verdicts)-1].Err, ErrSealed)
				require.Equal(t, Data, verdicts[len(verdicts)-4].Kind)
				tail, err := old.Tail()
				require.NoError(t, err)
				require.Equal(t, Tail{10, true}, tail)
				_, pending := s.Pending()
				require.False(t, pending)
			}
			require.Equal(t, LSN(11), s.Next())
			segments := s.Segments()
			require.Equal(t, []Segment{c.segment(), r.Segment()}, segments)
			end, ok, err := s.SegmentEnd(1)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, r.Hash(), end.Recovery.Hash())
			require.NoError(t, end.Verify(c.segment()))

			// What was cut off is forgotten, and what is before it is not.
			verdicts := apply(t, replicaOf(t, s), append(items(5, 5), items(11, 14)...))
			require.Equal(t, Duplicate, verdicts[0].Kind)
			require.Equal(t, LSN(11), verdicts[1].LSN)
			require.Equal(t, uint64(11), verdicts[1].Entry.UnixMilli)
			s = reopened(t, s, fs)
			digest, err := s.DigestAt(14)
			require.NoError(t, err)
			require.Equal(t, verdicts[4].Entry.Digest, digest)
			require.Equal(t, LSN(15), s.Next())
		})
	}
}

// checkCut reads a plan's file.
func checkCut(t *testing.T, fs vfs.FS, p RecoveryPlan, want []Entry) {
	t.Helper()
	if len(want) == 0 {
		require.Empty(t, p.File)
		return
	}
	var have []Entry
	head, err := ReadCut(bytes.NewReader(readFile(t, fs, p.File)), func(e Entry) error { have = append(have, e); return nil })
	require.NoError(t, err)
	require.Equal(t, want, have)
	require.Equal(t, []any{p.Cut, p.Held, p.Segment.Identity}, []any{head.From, head.To, head.Identity})
}

func readFile(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	require.NoError(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	return b
}

// TestRecoverEmpty: a segment that was sealed into and never began is recovered as one with nothing in it.
func TestRecoverEmpty(t *testing.T) {
	c, fs := newChain(), vfs.NewMem()
	s := openStore(t, fs)
	apply(t, replicaOf(t, s), append(items(1, 3), Item{UnixMilli: 9, Record: c.seal(2).Record()}))
	r := c.recovery(t, s, 5, 1)
	plan, err := s.Recover(r)
	require.NoError(t, err)
	require.False(t, plan.Cuts())
	s = reopened(t, s, fs)
	require.Len(t, s.Segments(), 3)
	require.Equal(t, uint64(1), s.Segments()[2].Recovery)
	verdicts := apply(t, replicaOf(t, s), items(3, 4))
	require.Equal(t, []LSN{3, 5}, []LSN{verdicts[0].LSN, verdicts[1].LSN})
	require.Equal(t, uint64(9), verdicts[1].Entry.UnixMilli)
}

// TestRecoveryRefused: what is not this segment's, not signed, or not this node's log changes nothing.
func TestRecoveryRefused(t *testing.T) {
	c, fs := newChain(), vfs.NewMem()
	s := storeWith(t, fs, 10)
	good := c.recovery(t, s, 8, 1).Recovery
	change := func(f func(*Recovery)) SignedRecovery { r := good; f(&r); return c.recover(r) }
	for name, tt := range map[string]struct {
		r    SignedRecovery
		want error
	}{
		"unsigned":       {SignedRecovery{Recovery: good}, ErrInvalid},
		"under-signed":   {SignedRecovery{Recovery: good, Signatures: []Signature{good.Sign(c.keys[1])}}, ErrInvalid},
		"signed twice":   {SignedRecovery{Recovery: good, Signatures: []Signature{good.Sign(c.keys[1]), good.Sign(c.keys[1])}}, ErrInvalid},
		"stranger":       {SignedRecovery{Recovery: good, Signatures: []Signature{good.Sign(c.keys[1]), good.Sign(c.keys[3])}}, ErrInvalid},
		"other's":        {SignedRecovery{Recovery: good, Signatures: change(func(r *Recovery) { r.Base-- }).Signatures}, ErrInvalid},
		"network":        {change(func(r *Recovery) { r.NetworkID[0]++ }), ErrInvalid},
		"first epoch":    {change(func(r *Recovery) { r.Epoch = 1 }), ErrInvalid},
		"unknown epoch":  {change(func(r *Recovery) { r.Epoch = 3 }), ErrInvalid},
		"no count":       {change(func(r *Recovery) { r.Count = 0 }), ErrInvalid},
		"before the log": {change(func(r *Recovery) { r.Base = 0 }), ErrInvalid},
		"no members":     {change(func(r *Recovery) { r.Spec.Members = nil }), ErrInvalid},
		"other log":      {change(func(r *Recovery) { r.Digest[0]++ }), ErrDiverged},
		"other time":     {change(func(r *Recovery) { r.UnixMilli++ }), ErrDiverged},
		"other length":   {change(func(r *Recovery) { r.Base++ }), ErrDiverged},
	} {
		_, err := s.PlanRecovery(tt.r)
		require.ErrorIs(t, err, tt.want, name)
		_, err = s.Recover(tt.r)
		require.ErrorIs(t, err, tt.want, name)
		require.ErrorIs(t, s.Await(tt.r), tt.want, name)
	}
	require.Equal(t, LSN(11), s.Next())
	s = reopened(t, s, fs)
	require.Len(t, s.Segments(), 1)

	// Nor does another one of the same count, or of a segment that was sealed before.
	_, err := s.Recover(c.recover(good))
	require.NoError(t, err)
	_, err = s.Recover(change(func(r *Recovery) { r.Spec.Ledger = nil }))
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "recovered already")
	sealed := openStore(t, vfs.NewMem())
	defer sealed.Close()
	apply(t, replicaOf(t, sealed), append(items(1, 5), Item{UnixMilli: 7, Record: c.seal(2).Record()}))
	_, err = sealed.Recover(c.recover(good))
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "segment to recover is epoch 2")
}

// TestRecoverOtherLog: a node that finds, when it comes to the base, that its log is not the one that was recovered, stops before it.
func TestRecoverOtherLog(t *testing.T) {
	c, fs := newChain(), vfs.NewMem()
	survivor, s := storeWith(t, vfs.NewMem(), 10), storeWith(t, fs, 4)
	defer survivor.Close()
	require.NoError(t, s.Await(c.recovery(t, survivor, 11, 1)))
	r := replicaOf(t, s)
	_, err := r.Apply(Batch{Applied: 20, Items: items(21, 30), Sync: true})
	require.ErrorIs(t, err, ErrDiverged)
	s = reopened(t, s, fs)
	require.Equal(t, LSN(5), s.Next())
	r = replicaOf(t, s)
	_, err = r.Apply(Batch{Applied: 20, Items: append(items(5, 6), Item{Record: c.seal(2).Record()}), Sync: true})
	require.ErrorIs(t, err, ErrDiverged)
	require.ErrorContains(t, err, "sealed")
	s = reopened(t, s, fs)
	apply(t, replicaOf(t, s), items(5, 10))
	require.Len(t, s.Segments(), 2)
}

// TestRecoverTrimmed: a log is not cut back so far that the dedup window before the cut has a hole.
func TestRecoverTrimmed(t *testing.T) {
	c := newChain()
	survivor := storeWith(t, vfs.NewMem(), 100)
	defer survivor.Close()
	for _, tt := range []struct {
		trim, base LSN
		want       error
	}{
		{trim: 50, base: 50, want: ErrTrimmed},
		{trim: 50, base: 51, want: ErrTrimmed}, // ids from 51 on are there, and those from 35 on are wanted
		{trim: 50, base: 66, want: ErrTrimmed},
		{trim: 50, base: 67},
		{trim: 50, base: 101},
		{trim: 100, base: 101},
		{trim: 100, base: 100, want: ErrTrimmed},
		{trim: 5, base: 6, want: ErrTrimmed},
		{trim: 5, base: 5, want: ErrTrimmed},
		{trim: 0, base: 2},
		{trim: 0, base: 1},
	} {
		t.Run(fmt.Sprint(tt.trim, " ", tt.base), func(t *testing.T) {
			fs := vfs.NewMem()
			s := storeWith(t, fs, 100)
			if tt.trim > 0 {
				require.NoError(t, replicaOf(t, s).Trim(context.Background(), Offset(tt.trim-1)))
			}
			_, err := s.Recover(c.recovery(t, survivor, tt.base, 1))
			require.ErrorIs(t, err, tt.want)
			s = reopened(t, s, fs)
			require.Equal(t, tt.want == nil, s.Next() == tt.base)
			apply(t, replicaOf(t, s), items(200, 201))
		})
	}
}

// TestRecoverVouches: a disk that voted in what is cut off may vote in what begins in its place; one that was lost may not.
func TestRecoverVouches(t *testing.T) {
	c := newChain()
	for _, tt := range []struct {
		entered Epoch // the last epoch that the disk entered; 0: it is not vouched for
		want    bool
	}{{0, false}, {1, true}, {2, true}, {3, true}} {
		fs := vfs.NewMem()
		s := storeWith(t, fs, 3)
		r := c.recovery(t, s, 3, 1)
		apply(t, replicaOf(t, s), []Item{{Record: c.seal(2).Record()}})
		apply(t, replicaOf(t, s), []Item{{Record: c.seal(3).Record()}})
		if tt.entered > 0 {
			require.NoError(t, s.Vouch(1))
			require.NoError(t, s.EngineArea(tt.entered).Write(true, func(b *EngineBatch) error {
				return errors.Join(b.Set([]byte("identity"), []byte("of the epoch")), b.Enter())
			}))
		}
		_, err := s.Recover(r)
		require.NoError(t, err)
		s = reopened(t, s, fs)
		vouched, err := s.Vouched(2)
		require.NoError(t, err)
		require.Equal(t, tt.want, vouched, "entered %d", tt.entered)
		for epoch := Epoch(1); epoch <= 3; epoch++ {
			v, err := s.EngineArea(epoch).Get([]byte("identity"))
			require.NoError(t, err)
			require.Equal(t, epoch == 1 && tt.entered == 1, v != nil, "what an engine kept goes with its epoch")
		}
	}
}

// TestRecoverCrash: a crash at any write, sync or rename of a recovery, whatever of the unsynced is lost, leaves the log as it was or as it is to be, and the
// recovery can be repeated.
func TestRecoverCrash(t *testing.T) {
	c := newChain()
	survivor := storeWith(t, vfs.NewMem(), 10)
	defer survivor.Close()
	for _, n := range []uint64{4, 10, 40} {
		r := c.recovery(t, survivor, 11, 1)
		mem := vfs.NewCrashableMem()
		var clones []vfs.FS
		rng, watching := rand.New(rand.NewPCG(n, 1)), false
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if watching && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				for _, kept := range []int{0, 50, 100} {
					clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rng}))
				}
			}
			return nil
		}))
		s := storeWith(t, fs, n)
		require.NoError(t, s.witness.file.Sync()) // as the kernel does after a while
		watching = true
		_, err := s.Recover(r)
		require.NoError(t, err)
		watching = false
		clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{}))
		require.NoError(t, s.Close())
		want := min(LSN(n+1), 11)
		old, recovered := 0, 0
		for i, clone := range clones {
			s := openStore(t, clone)
			_, pending := s.Pending()
			if pending || len(s.Segments()) == 2 {
				require.Equal(t, want, s.Next())
				recovered++
				if n > 10 {
					_, err := clone.Stat("a/b/cut-epoch-2-recovery-1-lsn-11-40")
					require.NoError(t, err, "clone %d: what is cut off is in the file before it is cut off", i)
				}
			} else {
				require.Equal(t, LSN(n+1), s.Next())
				old++
			}
			plan, err := s.Recover(r)
			require.NoError(t, err)
			if plan.File != "" {
				entries := 0
				_, err := ReadCut(bytes.NewReader(readFile(t, clone, plan.File)), func(Entry) error { entries++; return nil })
				require.NoError(t, err)
				require.Equal(t, int(n-10), entries)
			}
			s = reopened(t, s, clone)
			require.Equal(t, want, s.Next())
		}
		require.Positive(t, old)
		require.Positive(t, recovered)
	}
}

// TestReadCut: a file that was changed or cut off anywhere is not taken for what was written.
func TestReadCut(t *testing.T) {
	fs := vfs.NewMem()
	s := storeWith(t, fs, 12)
	plan, err := s.Recover(newChain().recovery(t, s, 11, 1))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	good := readFile(t, fs, plan.File)
	read := func(b []byte) error {
		_, err := ReadCut(bytes.NewReader(b), func(Entry) error { return nil })
		return err
	}
	require.NoError(t, read(good))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		require.ErrorIs(t, read(bad), ErrCorrupt, "byte %d", i)
		require.ErrorIs(t, read(good[:i]), ErrCorrupt, "%d bytes", i)
	}
	require.ErrorIs(t, read(append(good, 0)), ErrCorrupt)
	stop := errors.New("stop")
	_, err = ReadCut(bytes.NewReader(good), func(Entry) error { return stop })
	require.ErrorIs(t, err, stop)
}

// TestRecoveredSnapshot: a node that is made of a snapshot has the recovery in its chain, and goes on as the original.
func TestRecoveredSnapshot(t *testing.T) {
	c := newChain()
	s := storeWith(t, vfs.NewMem(), 30)
	defer s.Close()
	_, err := s.Recover(c.recovery(t, s, 21, 1))
	require.NoError(t, err)
	for _, lsn := range []LSN{20, 25} {
		apply(t, replicaOf(t, s), items(uint64(s.Next())+100, uint64(lsn)+100))
		state, err := s.Snapshot(context.Background(), lsn)
		require.NoError(t, err)
		state, err = DecodeLogState(state.Encode())
		require.NoError(t, err)
		fs := vfs.NewMem()
		require.NoError(t, RestoreStore(context.Background(), storeOptions(fs), state))
		restored := openStore(t, fs)
		require.Equal(t, s.Segments(), restored.Segments())
		require.Equal(t, apply(t, replicaOf(t, s), items(200+uint64(lsn), 202+uint64(lsn))), apply(t, replicaOf(t, restored), items(200+uint64(lsn), 202+uint64(lsn))))
		require.NoError(t, restored.Close())

		bad := state
		bad.Ends = []SegmentEnd{{Recovery: &SignedRecovery{Recovery: state.Ends[0].Recovery.Recovery}}}
		require.ErrorIs(t, bad.Verify(c.network, c.spec), ErrInvalid, "unsigned")
		other := state.Ends[0].Recovery.Recovery
		other.Digest[0]++
		signed := c.recover(other)
		bad.Ends, bad.Segments = []SegmentEnd{{Recovery: &signed}}, []Segment{state.Segments[0], other.Segment()}
		require.ErrorIs(t, bad.Verify(c.network, c.spec), ErrInvalid, "another log than the ids'")
	}
}

func TestPendingChecked(t *testing.T) {
	c := newChain()
	survivor := storeWith(t, vfs.NewMem(), 10)
	defer survivor.Close()
	for name, v := range map[string][]byte{
		"nothing":    {},
		"unsigned":   SignedRecovery{Recovery: c.recovery(t, survivor, 11, 1).Recovery}.Encode(),
		"not behind": c.recovery(t, survivor, 5, 1).Encode(),
	} {
		fs := vfs.NewMem()
		require.NoError(t, storeWith(t, fs, 4).Close())
		change(t, fs, func(db *pebble.DB) { require.NoError(t, db.Set([]byte{keyPending}, v, pebble.Sync)) })
		_, err := OpenStore(context.Background(), storeOptions(fs))
		require.ErrorIs(t, err, ErrCorrupt, name)
	}
}

func TestRecoveryCanonical(t *testing.T) {
	c := newChain()
	r := Recovery{NetworkID: c.network, Epoch: 3, Count: 2, Base: 7, Digest: Digest{1}, UnixMilli: 8, Spec: c.spec}
	again, err := DecodeRecovery(r.Encode())
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.NotEqual(t, Request{NetworkID: c.network, Epoch: 3, Spec: c.spec}.SigningMessage()[:16], r.SigningMessage()[:16])
	more := r
	more.Count++
	require.NotEqual(t, r.Segment().Identity, more.Segment().Identity)

	s := c.recover(r)
	end := SegmentEnd{Recovery: &s}
	decoded, err := DecodeSegmentEnd(end.Encode())
	require.NoError(t, err)
	require.Equal(t, end.Encode(), decoded.Encode())
	require.Equal(t, r, decoded.Recovery.Recovery)
	require.Equal(t, []any{Epoch(2), LSN(7)}, []any{decoded.Epoch(), decoded.Tail()})
	for i := range end.Encode() {
		_, err := DecodeSegmentEnd(end.Encode()[:i])
		require.ErrorIs(t, err, ErrInvalid)
	}
	_, err = DecodeSegmentEnd(append(end.Encode(), 0))
	require.ErrorIs(t, err, ErrInvalid)
}

func FuzzDecodeSegmentEnd(f *testing.F) {
	c := newChain()
	s := c.recover(Recovery{NetworkID: c.network, Epoch: 2, Count: 1, Base: 7, Spec: c.spec})
	f.Add(SegmentEnd{Recovery: &s}.Encode())
	f.Add(SegmentEnd{Seal: Entry{LSN: 3, Epoch: 1, Record: c.seal(2).Record()}, Proof: []byte("proof")}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeSegmentEnd(b)
		if err != nil {
			require.True(t, errors.Is(err, ErrInvalid) || errors.Is(err, ErrTooLarge))
			return
		}
		require.Equal(t, b, e.Encode())
	})
}
