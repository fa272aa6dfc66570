package consensus

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appends *prometheus.CounterVec
	bytes   prometheus.Counter
	retries prometheus.Counter
	latency prometheus.Histogram
	tail    prometheus.Gauge
	dissent prometheus.Counter
	epoch   prometheus.Gauge
	orders  prometheus.Gauge
}

// newMetrics registers the log's collectors, or takes those that another log has registered with the same registerer.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		appends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerd_log_appends_total", Help: "Appends by their end: ok, unknown (fate unknown), refused.",
		}, []string{"result"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_log_append_bytes_total", Help: "Payload bytes of acknowledged appends.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_log_append_retries_total", Help: "Attempts that were repeated because the fate of the one before was unknown.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ledgerd_log_append_seconds", Help: "Time from the call of an append to its acknowledgement.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16), // 100 us to 3.3 s
		}),
		tail: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ledgerd_log_tail_lsn", Help: "First unwritten LSN on this node.",
		}),
		dissent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledgerd_log_dissent_total", Help: "Claims of members that contradict this node's history.",
		}),
	}
	m.epoch = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ledgerd_log_epoch", Help: "Epoch of the last segment that this node knows."})
	m.orders = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ledgerd_log_orders", Help: "1 if this node orders in the last segment, 0 if it observes."})
	if reg == nil {
		return m, nil
	}
	err := errors.Join(
		RegisterMetric(reg, &m.appends), RegisterMetric(reg, &m.bytes), RegisterMetric(reg, &m.retries), RegisterMetric(reg, &m.latency), RegisterMetric(reg, &m.tail),
		RegisterMetric(reg, &m.dissent), RegisterMetric(reg, &m.epoch), RegisterMetric(reg, &m.orders))
	return m, err
}

// RegisterMetric registers *c, or sets it to the collector that has been registered with reg under these names before, so that what is opened a second time counts
// on. It is an error if that one is of another type, or if only some of the names are taken.
func RegisterMetric[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	var already prometheus.AlreadyRegisteredError
	if !errors.As(err, &already) {
		return err
	}
	other, ok := already.ExistingCollector.(C)
	if !ok {
		return fmt.Errorf("metric is taken by another collector: %w", err)
	}
	*c = other
	return nil
}

func (m *metrics) appended(r Record, err error, took time.Duration) {
	result := "ok"
	switch {
	case err == nil:
		m.bytes.Add(float64(len(r.Payload)))
		m.latency.Observe(took.Seconds())
	case errors.Is(err, ErrUnknownFate):
		result = "unknown"
	default:
		result = "refused"
	}
	m.appends.WithLabelValues(result).Inc()
}
