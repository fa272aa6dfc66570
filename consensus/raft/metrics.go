package raft

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"ledgerd/consensus"
)

// metrics is what a node's engine tells, whichever epoch it orders: gauges of the newest loglet, as of its driver's last step, and counts of all that there were.
// On a node that does not order on Raft now there are no gauges.
type metrics struct {
	current atomic.Pointer[Loglet]

	elections     prometheus.Counter
	leaderChanges prometheus.Counter
	refused       prometheus.Counter
	sync          prometheus.Histogram
}

// The gauges.
var (
	descTerm       = gauge("term", "Raft term.")
	descLeader     = gauge("leader", "Id of the member that leads, as far as this node knows; 0: nobody.")
	descIsLeader   = gauge("is_leader", "1 if this node leads.")
	descCommit     = gauge("commit_index", "Raft index up to which the log is committed, as far as this node knows.")
	descApplied    = gauge("applied_index", "Raft index up to which this node has applied the log.")
	descInstalling = gauge("installing", "1 while entries that no member's raft log reaches back to are being fetched.")
	descQueued     = gauge("queued_appends", "Appends on this node that have had no answer yet.")
	descProposals  = gauge("proposals", "Records that this node, leading, has proposed and that are not applied yet.")
	descPeerLag    = gauge("peer_lag", "On the leader: how many raft entries a member is not known to hold.", "member")
	descPeerRecent = gauge("peer_recent", "1 if a member was heard of within two election timeouts.", "member")

	descs = []*prometheus.Desc{
		descTerm, descLeader, descIsLeader, descCommit, descApplied, descInstalling, descQueued, descProposals, descPeerLag, descPeerRecent,
	}
)

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ledgerd_raft_"+name, help, labels, nil)
}

// newMetrics registers the metrics, or takes those that another loglet has registered with the same registerer.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		elections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_raft_elections_total", Help: "Elections that this node has stood in.",
		}),
		leaderChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_raft_leader_changes_total", Help: "How often another member than before came to lead, as far as this node knows.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_raft_refused_frames_total", Help: "Frames of members that make no sense here.",
		}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ledgerd_raft_sync_seconds", Help: "Time for a write of raft's log, with its fsync.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16), // 100 us to 3.3 s
		}),
	}
	if reg == nil {
		return m, nil
	}
	err := consensus.RegisterMetric(reg, &m)
	return m, err
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descs {
		to <- d
	}
	for _, c := range m.counts() {
		c.Describe(to)
	}
}

func (m *metrics) counts() []prometheus.Collector {
	return []prometheus.Collector{m.elections, m.leaderChanges, m.refused, m.sync}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.counts() {
		c.Collect(to)
	}
	l := m.current.Load()
	if l == nil {
		return
	}
	set := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := l.status.Load()
	leads := s.Role == roleLeader
	set(descTerm, float64(s.Term))
	set(descLeader, float64(s.Leader))
	set(descIsLeader, number(leads))
	set(descCommit, float64(s.Committed))
	set(descApplied, float64(s.Applied))
	set(descInstalling, number(s.Installing))
	set(descQueued, float64(s.Queued))
	set(descProposals, float64(s.Proposed))
	for _, p := range s.Members {
		if p.ID == l.opts.Self {
			continue
		}
		member := strconv.FormatUint(p.ID, 10)
		set(descPeerRecent, number(p.Recent), member)
		if leads {
			set(descPeerLag, float64(s.Last-min(s.Last, p.Match)), member)
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// begin makes the gauges those of a loglet.
func (m *metrics) begin(l *Loglet) { m.current.Store(l) }

// end takes the gauges of a loglet away, unless they are those of a later one by now.
func (m *metrics) end(l *Loglet) { m.current.CompareAndSwap(l, nil) }

// count adds what has happened between two states of a driver.
func (m *metrics) count(from, to *DriverStatus) {
	m.elections.Add(float64(to.Elections - from.Elections))
	m.leaderChanges.Add(float64(to.LeaderChanges - from.LeaderChanges))
	m.refused.Add(float64(to.Refused - from.Refused))
}
