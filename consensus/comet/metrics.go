package comet

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what the engine shows of itself: gauges of the loglet that was opened last, as of now. While the node does not order by CometBFT there are none. A nil one
// shows nothing.
type Metrics struct {
	current atomic.Pointer[Loglet]
}

// The gauges.
var (
	descHeight    = gauge("height", "Height of the last block applied, in the epoch that runs.")
	descRound     = gauge("round", "Round at the height that is being agreed on. Above 0: a proposer is late, or votes are split.")
	descConnected = gauge("connected_members", "Members that this node is connected to, itself included.")
	descPool      = gauge("pool_transactions", "Transactions that wait for a block.")
	descEvidence  = gauge("evidence", "Pieces of evidence, committed and pending, that a member has signed two things for one place.")

	descs = []*prometheus.Desc{descHeight, descRound, descConnected, descPool, descEvidence}
)

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("ledgerd_comet_"+name, help, nil, nil)
}

var _ prometheus.Collector = (*Metrics)(nil)

// NewMetrics registers the engine's metrics, once for all epochs.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{}
	return m, r.Register(m)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	l := m.current.Load()
	if l == nil || l.replica.Position().Sealed {
		return
	}
	set := func(d *prometheus.Desc, v float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	pieces, _ := l.offended()
	set(descHeight, float64(l.replica.Applied()))
	set(descRound, float64(l.node.round.Load().round))
	set(descConnected, float64(l.connected()))
	set(descPool, float64(l.pool.Size()))
	set(descEvidence, float64(pieces))
}

// begin makes the gauges those of a loglet.
func (m *Metrics) begin(l *Loglet) {
	if m != nil {
		m.current.Store(l)
	}
}

// end takes the gauges of a loglet away, unless they are those of a later one by now.
func (m *Metrics) end(l *Loglet) {
	if m != nil {
		m.current.CompareAndSwap(l, nil)
	}
}
