package feed

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	clients *prometheus.GaugeVec   // by transport
	events  *prometheus.CounterVec // by kind
	refused *prometheus.CounterVec // by code
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "ledgerd", Subsystem: "feed", Name: name, Help: help}
	}
	m := &metrics{
		clients: prometheus.NewGaugeVec(gauge("clients", "Clients of the feed, by transport."), []string{"transport"}),
		events:  prometheus.NewCounterVec(prometheus.CounterOpts(gauge("events_total", "Events sent, by kind.")), []string{"kind"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts(gauge("refused_total", "Subscriptions that were refused, by code.")), []string{"code"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.clients, m.events, m.refused} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
