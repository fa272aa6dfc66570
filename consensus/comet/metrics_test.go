package comet

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestMetrics: the gauges are those of the loglet that runs, and there are none once it is sealed, or closed.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, err := NewMetrics(registry)
	require.NoError(t, err)
	gauges := func() map[string]float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		values := map[string]float64{}
		for _, f := range families {
			values[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		return values
	}
	require.Empty(t, gauges())
	c := startCluster(t, 1, func(_ int, o *Options) { o.Metrics = m })
	c.append(0, 3)
	got := gauges()
	require.Len(t, got, len(descs))
	require.EqualValues(t, c.loglets[0].replica.Applied(), got["ledgerd_comet_height"])
	require.EqualValues(t, 1, got["ledgerd_comet_connected_members"])
	require.Zero(t, got["ledgerd_comet_evidence"])

	c.stop(0)
	require.Empty(t, gauges(), "closed")
	c.start(0)
	require.Len(t, gauges(), len(descs))
	m.end(&Loglet{})
	require.Len(t, gauges(), len(descs), "another one has ended")
	_, err = c.loglets[0].Seal(c.ctx, c.town.seal())
	require.NoError(t, err)
	require.Empty(t, gauges(), "sealed")
}
