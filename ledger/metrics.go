package ledger

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the ledger's figures. Their names are part of the interface: dashboards use them.
type metrics struct {
	transactions, skipped, gas prometheus.Counter
	execution, flush           prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, l *Ledger) (*metrics, error) {
	m := &metrics{
		transactions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_ledger_transactions_total", Help: "Transactions included in blocks since the start of the process.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_ledger_skipped_transactions_total", Help: "Ordered transactions that were not valid at their turn.",
		}),
		gas: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_ledger_gas_used_total", Help: "Gas used by blocks since the start of the process.",
		}),
		execution: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ledgerd_ledger_execution_seconds", Help: "Time to execute a block, with its state root and commit.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14),
		}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ledgerd_ledger_flush_seconds", Help: "Time to write the state to disk.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}),
	}
	if reg == nil {
		return m, nil
	}
	head := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ledgerd_ledger_head_block", Help: "Number of the published head.",
	}, func() float64 {
		if h := l.CurrentHeader(); h != nil {
			return float64(h.Number.Uint64())
		}
		return 0
	})
	durable := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ledgerd_ledger_durable_lsn", Help: "LSN up to which the ledger survives a power cut without the log.",
	}, func() float64 { return float64(l.Durable()) })
	var problems []error
	for _, c := range []prometheus.Collector{m.transactions, m.skipped, m.gas, m.execution, m.flush, head, durable} {
		problems = append(problems, reg.Register(c))
	}
	return m, errors.Join(problems...)
}
