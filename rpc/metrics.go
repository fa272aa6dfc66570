package rpc

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections   prometheus.Gauge
	refused       *prometheus.CounterVec // by reason: what the defences turned away
	websockets    prometheus.Gauge
	subscriptions *prometheus.GaugeVec // by kind
	filters       prometheus.Gauge
	slow          prometheus.Counter
	droppedTxs    prometheus.Counter
	reloaded      prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "ledgerd", Subsystem: "rpc", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts(gauge(name, help))
	}
	m := &metrics{
		connections:   prometheus.NewGauge(gauge("connections", "Open connections.")),
		refused:       prometheus.NewCounterVec(counter("refused_total", "Connections and requests that were turned away."), []string{"reason"}),
		websockets:    prometheus.NewGauge(gauge("websockets", "Open websockets.")),
		subscriptions: prometheus.NewGaugeVec(gauge("subscriptions", "Subscriptions, by kind."), []string{"kind"}),
		filters:       prometheus.NewGauge(gauge("filters", "Installed filters.")),
		slow:          prometheus.NewCounter(counter("slow_consumers_total", "Subscribers that were cut off because their queue was full.")),
		droppedTxs:    prometheus.NewCounter(counter("dropped_transaction_announcements_total", "Pending transactions that were not announced.")),
		reloaded:      prometheus.NewCounter(counter("reloaded_heads_total", "Heads that were read from the store because the intake was full.")),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connections, m.refused, m.websockets, m.subscriptions, m.filters, m.slow, m.droppedTxs, m.reloaded} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
