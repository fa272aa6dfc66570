package consensus

import (
	"testing"

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

// TestTallyForgets: what is counted is bounded, and of one epoch.
func TestTallyForgets(t *testing.T) {
	var ty tally
	seg := Segment{Epoch: 1, Spec: Spec{Members: []Member{{ID: 1}, {ID: 2}, {ID: 3}}}}
	for at := LSN(1); at < 10*maxTally; at++ {
		_, err := ty.add(seg, Claim{Member: 1, Epoch: 1, At: at, Head: Digest{9}}, Digest{1})
		require.NoError(t, err)
	}
	require.Len(t, ty.heads, maxTally)
	require.Len(t, ty.lsns, maxTally)
	seg.Epoch = 2
	_, err := ty.add(seg, Claim{Member: 2, Epoch: 2, At: 1, Head: Digest{9}}, Digest{1})
	require.NoError(t, err)
	require.Len(t, ty.heads, 1)
	require.Equal(t, map[uint64]LSN{2: 1}, ty.dissent)
}
