package sim_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus/sim"
)

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(t, err, name)
	return n
}

// TestSeeds plays many seeds, or the one of a failure.
//
//	LEDGERD_SIM_SEEDS=5000 LEDGERD_SIM_FIRST=1000000 go test ./consensus/sim -run TestSeeds -timeout 1h -v
//	LEDGERD_SIM_SEED=913 go test ./consensus/sim -run TestSeeds -v      with its whole trace
func TestSeeds(t *testing.T) {
	if os.Getenv("LEDGERD_SIM_SEED") != "" {
		opts := sim.Options{Seed: number(t, "LEDGERD_SIM_SEED", 0), Plant: sim.Fault(number(t, "LEDGERD_SIM_PLANT", 0))}
		if testing.Verbose() {
			opts.Trace = os.Stdout
		}
		got := sim.Run(opts)
		t.Logf("%+v", got.Stats)
		require.NoError(t, got.Err)
		return
	}
	seeds, first := number(t, "LEDGERD_SIM_SEEDS", defaultSeeds), number(t, "LEDGERD_SIM_FIRST", 1)
	var all sim.Stats
	for seed := first; seed < first+seeds; seed++ {
		got := sim.Run(sim.Options{Seed: seed})
		if all.Add(got.Stats); got.Err != nil {
			t.Error(got.Err)
		}
	}
	t.Logf("%+v", all)
	if seeds >= 200 { // it was no quiet time
		for what, count := range map[string]int{
			"crashes": all.Crashes, "torn writes": all.Torn, "wipes": all.Wipes, "switches": all.Switches, "forged seals": all.Forged,
			"appends given up": all.Unknown, "entries observed": all.Observed, "fetches": all.Fetches, "reads": all.Reads,
		} {
			require.Positive(t, count, what)
		}
	}
}

// TestSame plays seeds twice: the trace is the same to the byte, so that a seed is a bug report.
func TestSame(t *testing.T) {
	for seed := range uint64(10) {
		first, second := sim.Run(sim.Options{Seed: seed + 1}), sim.Run(sim.Options{Seed: seed + 1})
		require.Equal(t, first, second, "seed %d has two traces", seed+1)
	}
}

// TestPlanted checks the checks: each fault that is planted is found.
func TestPlanted(t *testing.T) {
	for _, fault := range []sim.Fault{
		sim.SkipSync, sim.AckEarly, sim.AcceptSealed, sim.LoseReappend, sim.ApplyTwice, sim.WrongBase, sim.WipedVotes, sim.StaleTail, sim.BaseUnchecked,
	} {
		t.Run(fault.String(), func(t *testing.T) {
			for seed := range uint64(60) {
				if got := sim.Run(sim.Options{Seed: seed + 1, Plant: fault}); got.Err != nil {
					t.Logf("found by seed %d: %.150s", seed+1, got.Err.(*sim.Failure).What)
					return
				}
			}
			t.Error("60 seeds do not find it")
		})
	}
}

// TestRot lets a node's copy come to differ: the node notices when it is to order from there on, and stops; the others go on.
func TestRot(t *testing.T) {
	stopped := 0
	for seed := range uint64(10) {
		got := sim.Run(sim.Options{Seed: seed + 1, Plant: sim.Rot})
		require.NoError(t, got.Err)
		stopped += got.Stats.Stopped
	}
	require.Positive(t, stopped)
}
