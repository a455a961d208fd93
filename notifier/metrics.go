package notifier

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what is announced. They work unregistered too.
type metrics struct {
	events     *prometheus.CounterVec
	deliveries prometheus.Counter
	matching   prometheus.Histogram
	uncompiled prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_notifier_events_total", Help: "Events written, by type; those of transactions rolled back included.",
		}, []string{"type"}),
		deliveries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_notifier_deliveries_total", Help: "Deliveries enqueued; those of transactions rolled back included.",
		}),
		matching: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tocsin_notifier_announce_seconds", Help: "How long writing and matching the events of one announcement took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		uncompiled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_notifier_broken_subscriptions", Help: "Stored subscriptions whose filters this version refuses.",
		}),
	}
	if r != nil {
		r.MustRegister(m.events, m.deliveries, m.matching, m.uncompiled)
	}
	return m
}

// since observes how long an announcement took that began at start.
func (m *metrics) since(start time.Time) { m.matching.Observe(time.Since(start).Seconds()) }
