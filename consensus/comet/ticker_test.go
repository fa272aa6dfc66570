package comet

import (
	"reflect"
	"testing"
	"time"

	cs "github.com/cometbft/cometbft/consensus"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// timeoutOf makes a timeout of the kind that k takes.
func timeoutOf[T any](_ ticker[T], height int64, d time.Duration) (timeout T) {
	v := reflect.ValueOf(&timeout).Elem()
	v.FieldByName("Height").SetInt(height)
	v.FieldByName("Duration").SetInt(int64(d))
	return timeout
}

// TestCappedTicker: of CometBFT's own timeouts, long ones are cut, short ones are left alone.
func TestCappedTicker(t *testing.T) {
	const most = 20 * time.Millisecond
	capped := capTimeouts(cs.NewTimeoutTicker(), most)
	require.NoError(t, capped.Start())
	defer func() { require.NoError(t, capped.Stop()) }()
	for i, asked := range []time.Duration{time.Hour, time.Millisecond, 0} {
		capped.ScheduleTimeout(timeoutOf(capped, int64(i)+1, asked))
		select {
		case got := <-capped.Chan():
			v := reflect.ValueOf(got)
			require.EqualValues(t, i+1, v.FieldByName("Height").Int())
			require.Equal(t, min(asked, most), time.Duration(v.FieldByName("Duration").Int()))
		case <-time.After(10 * time.Second):
			t.Fatalf("a timeout of %v does not end", asked)
		}
	}
}

// TestTimeouts: a segment's parameters are CometBFT's settings.
func TestTimeouts(t *testing.T) {
	seg := consensus.Segment{Spec: newTown(t, 4).spec()}
	s, err := settingsOf(seg, "wal")
	require.NoError(t, err)
	require.Equal(t, 150*time.Millisecond, s.Consensus.TimeoutPropose)
	require.Equal(t, 5*time.Second, s.longest)
	seg.Spec.Params = map[string]string{"timeout_propose": "1s", "timeout_max": "30s"}
	require.NoError(t, Validate(seg.Spec))
	s, err = settingsOf(seg, "wal")
	require.NoError(t, err)
	require.Equal(t, time.Second, s.Consensus.TimeoutPropose)
	require.Equal(t, 30*time.Second, s.longest)
	seg.Spec.Params["timeout_max"] = "61s"
	require.ErrorContains(t, Validate(seg.Spec), `timeout_max is "61s", want a duration from 1ms to 1m0s`)
}
