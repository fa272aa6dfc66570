package consensus

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func TestLandmark(t *testing.T) {
	for _, tc := range []struct{ lo, hi, want LSN }{
		{0, 0, 0}, {5, 5, 0}, {6, 5, 0}, {0, 1, 1}, {0, 7, 4}, {4, 7, 6}, {6, 7, 7}, {0, 1023, 512}, {1000, 1100, 1024}, {1024, 1100, 1088}, {4095, 5000, 4096},
	} {
		require.Equal(t, tc.want, landmark(tc.lo, tc.hi), "(%d, %d]", tc.lo, tc.hi)
	}
}

// TestLandmarksMeet: however members cut a log that grows, they claim the same LSNs now and then.
func TestLandmarksMeet(t *testing.T) {
	claimed := func(first, step LSN) map[LSN]bool {
		all := map[LSN]bool{}
		made := LSN(0)
		for at := first; at < 100_000; at += step {
			if l := landmark(made, at); l != 0 {
				all[l], made = true, l
			}
		}
		return all
	}
	a, b, c := claimed(17, 900), claimed(400, 1100), claimed(871, 777)
	common := 0
	for lsn := range a {
		if b[lsn] && c[lsn] {
			common++
		}
	}
	require.Greater(t, common, 40)
}

func TestTally(t *testing.T) {
	spec := func(members int, faults FaultModel) Segment {
		s := Segment{Epoch: 3, Spec: Spec{Faults: faults}}
		for i := range members {
			s.Spec.Members = append(s.Spec.Members, Member{ID: uint64(i) + 1})
		}
		return s
	}
	own, other, third := Digest{1}, Digest{2}, Digest{3}
	claim := func(member uint64, at LSN, head Digest) Claim {
		return Claim{Member: member, Epoch: 3, At: at, Head: head}
	}
	for name, tc := range map[string]struct {
		seg      Segment
		claims   []Claim
		diverged bool
		dissent  map[uint64]LSN
	}{
		"all agree":                          {spec(4, CrashFaults), []Claim{claim(1, 8, own), claim(2, 8, own), claim(3, 8, own)}, false, map[uint64]LSN{}},
		"one dissents":                       {spec(4, CrashFaults), []Claim{claim(1, 8, own), claim(2, 8, other)}, false, map[uint64]LSN{2: 8}},
		"one dissents often":                 {spec(4, CrashFaults), []Claim{claim(2, 8, other), claim(2, 9, other), claim(2, 10, other)}, false, map[uint64]LSN{2: 10}},
		"one comes round":                    {spec(4, CrashFaults), []Claim{claim(2, 8, other), claim(2, 9, own)}, false, map[uint64]LSN{}},
		"half dissent":                       {spec(4, CrashFaults), []Claim{claim(2, 8, other), claim(3, 8, other)}, false, map[uint64]LSN{2: 8, 3: 8}},
		"a majority dissents":                {spec(4, CrashFaults), []Claim{claim(2, 8, other), claim(3, 8, other), claim(4, 8, other)}, true, map[uint64]LSN{2: 8, 3: 8, 4: 8}},
		"a majority, not of one mind":        {spec(4, CrashFaults), []Claim{claim(2, 8, other), claim(3, 8, third), claim(4, 8, other)}, false, map[uint64]LSN{2: 8, 3: 8, 4: 8}},
		"a majority, of different positions": {spec(4, CrashFaults), []Claim{claim(2, 8, other), claim(3, 9, other), claim(4, 10, other)}, false, map[uint64]LSN{2: 8, 3: 9, 4: 10}},
		"one may lie":                        {spec(4, ByzantineFaults), []Claim{claim(2, 8, other)}, false, map[uint64]LSN{2: 8}},
		"more than may lie":                  {spec(4, ByzantineFaults), []Claim{claim(2, 8, other), claim(3, 8, other)}, true, map[uint64]LSN{2: 8, 3: 8}},
	} {
		var tally tally
		var last error
		for _, c := range tc.claims {
			if _, err := tally.add(tc.seg, c, own); err != nil {
				last = err
			}
		}
		if tc.diverged {
			require.ErrorIs(t, last, ErrDiverged, name)
		} else {
			require.NoError(t, last, name)
		}
		require.Equal(t, tc.dissent, tally.dissent, name)
	}
}

// TestTallyForgets: what is counted of a member is bounded, and of one epoch.
func TestTallyForgets(t *testing.T) {
	var ty tally
	seg := Segment{Epoch: 1, Spec: Spec{Members: []Member{{ID: 1}, {ID: 2}, {ID: 3}}}}
	for at := LSN(1); at < 10*maxTally; at++ {
		wrong, err := ty.add(seg, Claim{Member: 1, Epoch: 1, At: at, Head: Digest{9}}, Digest{1})
		require.NoError(t, err)
		require.Equal(t, uint64(at), wrong)
	}
	require.Len(t, ty.claimed, 1)
	require.Len(t, ty.claimed[1].heads, maxTally)
	require.Len(t, ty.claimed[1].lsns, maxTally)
	seg.Epoch = 2
	wrong, err := ty.add(seg, Claim{Member: 2, Epoch: 2, At: 1, Head: Digest{9}}, Digest{1})
	require.NoError(t, err)
	require.Equal(t, uint64(1), wrong)
	require.Len(t, ty.claimed, 1)
	require.Len(t, ty.claimed[2].heads, 1)
	require.Equal(t, map[uint64]LSN{2: 1}, ty.dissent)
}

// TestInbox: a member whose claims are too many loses the oldest of its own, nobody else any, and they come out in the order of the log once the application is there.
func TestInbox(t *testing.T) {
	b := inbox{}
	of := func(member uint64, lsn, at LSN) ordered {
		return ordered{lsn: lsn, claim: Claim{Member: member, At: at}}
	}
	b.add(of(1, 10, 5))
	b.add(of(2, 11, 9))
	for lsn := LSN(100); lsn < 100+3*maxClaims; lsn++ {
		b.add(of(3, lsn, 5))
	}
	b.add(of(1, 1000, 6))
	require.Empty(t, b.take(4))
	ready := b.take(8)
	require.Equal(t, 2+maxClaims, len(ready))
	require.Equal(t, of(1, 10, 5), ready[0])
	require.Equal(t, of(3, 100+2*maxClaims, 5), ready[1])
	require.Equal(t, of(1, 1000, 6), ready[len(ready)-1])
	require.Len(t, b, 1)
	require.Equal(t, []ordered{of(2, 11, 9)}, b.take(9))
	require.Empty(t, b)
}

// TestFloodOfClaims: false claims of one member, about more LSNs than are counted, neither hide that others contradict this node nor fill the messages.
func TestFloodOfClaims(t *testing.T) {
	const history, flood = 500, 5 * maxClaims
	own, other := Digest{1}, Digest{2}
	s := openStore(t, vfs.NewMem())
	defer func() { require.NoError(t, s.Close()) }()
	apply(t, replicaOf(t, s), items(1, history))
	var messages bytes.Buffer
	var halted error
	m, err := newMetrics(nil)
	require.NoError(t, err)
	c := newClaims(&VirtualLog{
		store: s, metrics: m, logger: slog.New(slog.NewTextHandler(&messages, nil)),
		opts: Options{
			Application: Application{Fingerprint: func(LSN) (Digest, error) { return own, nil }},
			OnHalt:      func(err error) { halted = err },
		},
	})
	seg := Segment{Epoch: 1, Spec: Spec{Faults: ByzantineFaults}}
	for id := range uint64(7) { // two of them may lie
		seg.Spec.Members = append(seg.Spec.Members, Member{ID: id + 1})
	}
	next := LSN(history)
	say := func(member uint64, at LSN, head Digest) {
		next++
		c.ordered(seg, Entry{LSN: next, Record: Claim{Member: member, Epoch: 1, At: at, Head: head}.Record()})
	}
	floods := func() {
		for at := range LSN(flood) {
			say(7, at, Digest{7})
			if at%maxClaims == 0 {
				c.compareAll()
			}
		}
	}
	floods()
	for member := range uint64(2) { // as many as may lie
		say(member+1, 256, other)
		floods()
		say(member+1, 300, other)
		floods()
	}
	say(4, 300, own)
	floods()
	c.compareAll()
	require.NoError(t, halted)
	require.Equal(t, map[uint64]LSN{1: 300, 2: 300, 7: flood - 1}, c.dissenters())
	for member, atMost := range map[uint64]int{1: 2, 2: 2, 7: 12} {
		lines := strings.Count(messages.String(), fmt.Sprintf(" member=%d ", member))
		require.Positive(t, lines, "member %d", member)
		require.LessOrEqual(t, lines, atMost, "member %d", member)
	}
	floods()
	say(3, 300, other) // one more than may lie
	floods()
	c.compareAll()
	require.ErrorIs(t, halted, ErrDiverged)
}
