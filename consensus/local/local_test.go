package local_test

import (
	"testing"

	"go.uber.org/goleak"

	"ledgerd/consensus"
	"ledgerd/consensus/local"
	"ledgerd/consensus/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func harness(opts local.Options) logtest.Harness {
	return logtest.Harness{New: func(_ logtest.TB, env logtest.Env) logtest.Cluster {
		opts := opts
		opts.Now = env.Now
		return logtest.Cluster{
			Spec:   consensus.Spec{Engine: local.Name},
			Engine: func(int) consensus.Engine { return local.Engine(opts) },
		}
	}}
}

func TestLoglet(t *testing.T) { logtest.Run(t, harness(local.Options{})) }

// TestLogletOnDisk runs the suite on the operating system's file system; TestLoglet has one in memory, which can also crash.
func TestLogletOnDisk(t *testing.T) {
	h := harness(local.Options{})
	h.RealDisk = true
	logtest.Run(t, h)
}

// TestLogletSmall runs the suite with a commit for nearly every record, and a queue that is nearly always full of the large ones.
func TestLogletSmall(t *testing.T) {
	logtest.Run(t, harness(local.Options{MaxBatchBytes: 1, MaxQueueBytes: consensus.MaxRecordBytes}))
}
