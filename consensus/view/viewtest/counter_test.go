package viewtest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus/view"
	"ledgerd/consensus/view/viewtest"
)

// instance keeps a Counter on a file system that loses what was not synced.
type instance struct {
	fs   *vfs.MemFS
	open *viewtest.Counter
	rng  *rand.Rand
}

func (i *instance) Open(t testing.TB) view.View {
	c, err := viewtest.OpenCounter(i.fs, "counters")
	require.NoError(t, err)
	i.open = c
	return c
}

func (i *instance) Crash(t testing.TB) {
	left := i.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: i.rng})
	require.NoError(t, i.open.Close())
	i.fs = left
}

func TestCounter(t *testing.T) {
	viewtest.Run(t, viewtest.Harness{
		App: viewtest.CounterApp,
		New: func(testing.TB) viewtest.Instance {
			return &instance{fs: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(1, 2))}
		},
		Payload: func(i int) []byte {
			if i%7 == 3 {
				return []byte("nonsense")
			}
			return fmt.Appendf(nil, "name%d %d", i%4, i)
		},
	})
}
