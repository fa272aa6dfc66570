package raft_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ledgerd/consensus"
	"ledgerd/consensus/logtest"
	"ledgerd/consensus/raft"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick are options for tests: on a busy machine a tick must not be so short that a follower gives its leader up.
func quick() raft.Options {
	return raft.Options{Tick: 5 * time.Millisecond, HeartbeatTicks: 2, ElectionTicks: 20}
}

func spec(members int) consensus.Spec {
	s := consensus.Spec{Engine: raft.Name}
	for i := range members {
		s.Members = append(s.Members, consensus.Member{ID: uint64(i) + 1})
	}
	return s
}

// engine is that of a member which `init` has made one.
func engine(opts raft.Options) consensus.Engine {
	return consensus.EngineFunc(func(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
		if err := store.Vouch(1); err != nil {
			return nil, err
		}
		if len(seg.Spec.Members) == 0 { // the suite hands over to a spec without members
			seg.Spec.Members = spec(1).Members
		}
		return raft.Engine(opts).Open(ctx, store, seg)
	})
}

func harness(members int, opts raft.Options, f faults) logtest.Harness {
	return logtest.Harness{Members: members, Switch: true, New: func(tb logtest.TB, env logtest.Env) logtest.Cluster {
		n := newNetwork(1)
		n.set(f)
		tb.Cleanup(n.close)
		return logtest.Cluster{
			Spec:   spec(members),
			Freeze: n.freeze,
			Engine: func(member int) consensus.Engine {
				opts := opts
				opts.Self, opts.Now, opts.Transport = uint64(member)+1, env.Now, n
				return engine(opts)
			},
		}
	}}
}

func TestLoglet(t *testing.T) {
	for _, members := range []int{1, 3, 5} {
		t.Run(fmt.Sprintf("members=%d", members), func(t *testing.T) {
			h := harness(members, quick(), faults{})
			logtest.Run(t, h)
		})
	}
}

// TestLogletSmall runs the suite with a proposal, a write and a message for nearly every record, queues that are nearly always full, and nothing in
// memory that can be had from the disk.
func TestLogletSmall(t *testing.T) {
	opts := quick()
	opts.MaxBatchBytes, opts.MaxMessageBytes, opts.MaxInflight, opts.CacheBytes = 1, 1, 1, 1
	opts.MaxQueueBytes, opts.MaxForwardedBytes = consensus.MaxRecordBytes, consensus.MaxRecordBytes
	h := harness(3, opts, faults{})
	logtest.Run(t, h)
}

// TestLogletLossy runs what of the suite is about order and duplicates over a network that loses, doubles and reorders.
func TestLogletLossy(t *testing.T) {
	h := harness(3, quick(), faults{drop: 0.05, double: 0.05, max: 3 * time.Millisecond})
	for _, c := range logtest.Checks(h) {
		switch c.Name {
		case "AppendAndRead", "ConcurrentAppends", "SealUnderLoad", "Duplicates", "DuplicatesAtOnce", "Cancel", "Close", "Switch", "SwitchUnderLoad":
			t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
		}
	}
}
