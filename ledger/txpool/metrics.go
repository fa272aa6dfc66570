package txpool

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of a pool and its batcher. Labels come from a fixed set (label).
type metrics struct {
	added    prometheus.Counter
	rejected *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	missed   prometheus.Counter

	batchSize    prometheus.Histogram
	batchSeconds prometheus.Histogram
	batchFailed  prometheus.Counter
}

func newMetrics(r prometheus.Registerer, p *Pool) *metrics {
	with := promauto.With(r)
	gauge := func(name, help string, value func() int) {
		with.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "ledgerd", Subsystem: "txpool", Name: name, Help: help}, func() float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return float64(value())
		})
	}
	gauge("pending", "Transactions that are executable or in flight.", func() int { return p.mu.counts.pending })
	gauge("queued", "Transactions that wait for an earlier nonce or for funds.", func() int { return p.mu.counts.queued })
	gauge("inflight", "Transactions in an append that has not returned.", func() int { return p.mu.counts.inFlight })
	gauge("bytes", "Sum of the encodings of all transactions.", func() int { return p.mu.bytes })
	gauge("senders", "Accounts with transactions in the pool.", func() int { return len(p.mu.senders) })

	opts := func(subsystem, name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "ledgerd", Subsystem: subsystem, Name: name, Help: help}
	}
	return &metrics{
		added:    with.NewCounter(opts("txpool", "added_total", "Transactions taken in.")),
		rejected: with.NewCounterVec(opts("txpool", "rejected_total", "Transactions refused, by reason."), []string{"reason"}),
		dropped:  with.NewCounterVec(opts("txpool", "dropped_total", "Transactions that left without being included, by reason."), []string{"reason"}),
		missed:   with.NewCounter(opts("txpool", "missed_total", "Transactions that a subscriber was too slow for.")),

		batchSize: with.NewHistogram(prometheus.HistogramOpts{Namespace: "ledgerd", Subsystem: "batcher", Name: "batch_transactions",
			Help: "Transactions in a batch.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}}),
		batchSeconds: with.NewHistogram(prometheus.HistogramOpts{Namespace: "ledgerd", Subsystem: "batcher", Name: "append_seconds",
			Help: "From the start of an append until it was applied here.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		batchFailed: with.NewCounter(opts("batcher", "failed_total", "Appends that returned an error.")),
	}
}
