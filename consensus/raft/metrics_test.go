package raft_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus/raft"
)

// gathered returns the values of all metrics of a registry, by name and member.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			switch {
			case m.GetGauge() != nil:
				values[name] = m.GetGauge().GetValue()
			case m.GetCounter() != nil:
				values[name] = m.GetCounter().GetValue()
			case m.GetHistogram() != nil:
				values[name] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return values
}

// TestMetrics: who leads, how far everybody is, and what was counted; and that they are of a loglet that is open.
func TestMetrics(t *testing.T) {
	registries := map[uint64]*prometheus.Registry{1: prometheus.NewPedanticRegistry(), 2: prometheus.NewPedanticRegistry(), 3: prometheus.NewPedanticRegistry()}
	c := startCluster(t, 3, func(id uint64, o *raft.Options) { o.Registerer = registries[id] })
	leader := c.leader()
	c.append(leader, 10)
	away := c.others(leader)[0]
	c.stop(away)
	c.append(leader, 10)
	c.eventually("the leader sees who is behind", func() bool {
		m := gathered(t, registries[leader])
		return m["ledgerd_raft_peer_lag member="+id(away)] >= 10 && m["ledgerd_raft_peer_recent member="+id(away)] == 0 &&
			m["ledgerd_raft_peer_lag member="+id(c.others(leader, away)[0])] == 0 && m["ledgerd_raft_applied_index"] >= 21
	})
	m := gathered(t, registries[leader])
	require.Equal(t, []float64{1, float64(leader), 0, 0}, []float64{
		m["ledgerd_raft_is_leader"], m["ledgerd_raft_leader"], m["ledgerd_raft_queued_appends"], m["ledgerd_raft_installing"],
	})
	require.GreaterOrEqual(t, m["ledgerd_raft_commit_index"], m["ledgerd_raft_applied_index"])
	require.Positive(t, m["ledgerd_raft_term"])
	require.Positive(t, m["ledgerd_raft_elections_total"])
	require.Positive(t, m["ledgerd_raft_leader_changes_total"])
	require.Positive(t, m["ledgerd_raft_sync_seconds"])
	other := gathered(t, registries[c.others(leader, away)[0]])
	require.Equal(t, []float64{0, float64(leader)}, []float64{other["ledgerd_raft_is_leader"], other["ledgerd_raft_leader"]})
	require.NotContains(t, other, "ledgerd_raft_peer_lag member="+id(away), "that only the leader knows")

	off := gathered(t, registries[away])
	require.NotContains(t, off, "ledgerd_raft_term")
	syncs := off["ledgerd_raft_sync_seconds"]
	c.start(away) // with the same registry
	c.append(away, 1)
	on := gathered(t, registries[away])
	require.Contains(t, on, "ledgerd_raft_term")
	require.Greater(t, on["ledgerd_raft_sync_seconds"], syncs)
}

func id(member uint64) string { return string(rune('0' + member)) }
