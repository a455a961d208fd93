package matcher

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an engine counts.
type metrics struct {
	changes  *prometheus.CounterVec
	duration *prometheus.HistogramVec
	skipped  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_matcher_changes_total", Help: "Update operations worked through, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tocsin_matcher_change_seconds", Help: "Time from looking at an update operation to its committed events.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 10),
		}, []string{"kind"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_matcher_skipped_total", Help: "Pairs of vulnerability and package that no matcher could judge.",
		}, []string{"updater"}),
	}
	if reg != nil {
		reg.MustRegister(m.changes, m.duration, m.skipped)
	}
	return m
}
