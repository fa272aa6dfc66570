package comet

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what the engine shows of itself. A nil one shows nothing.
type Metrics struct {
	height, round, connected, pool, evidence prometheus.Gauge
}

// NewMetrics registers the engine's metrics, once for all epochs.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "ledgerd", Subsystem: "comet", Name: name, Help: help})
	}
	m := &Metrics{
		height:    gauge("height", "Height of the last block applied, in the epoch that runs."),
		round:     gauge("round", "Round at the height that is being agreed on. Above 0: a proposer is late, or votes are split."),
		connected: gauge("connected_members", "Members that this node is connected to, itself included."),
		pool:      gauge("pool_transactions", "Transactions that wait for a block."),
		evidence:  gauge("evidence", "Pieces of evidence, committed and pending, that a member has signed two things for one place."),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.height, m.round, m.connected, m.pool, m.evidence} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// observe sets the metrics from a loglet that runs.
func (m *Metrics) observe(l *Loglet) {
	if m == nil || !l.ready.Load() || l.replica.Position().Sealed {
		return
	}
	pieces, _ := l.offended()
	m.height.Set(float64(l.replica.Applied()))
	m.round.Set(float64(l.consensus.GetRoundState().Round))
	m.connected.Set(float64(l.connected()))
	m.pool.Set(float64(l.pool.Size()))
	m.evidence.Set(float64(pieces))
}
