package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	outcomes *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_job_attempts_total",
			Help: "Attempts at jobs by how they ended: done, retried, failed, rejected, released (the process stopped) or lost (the lease).",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tocsin_job_attempt_seconds",
			Help:    "How long an attempt at a job took.",
			Buckets: prometheus.ExponentialBuckets(0.05, 3, 10),
		}, []string{"kind"}),
	}
	if r != nil {
		r.MustRegister(m.outcomes, m.seconds)
	}
	return m
}

func (m *metrics) ended(kind, outcome string) { m.outcomes.WithLabelValues(kind, outcome).Inc() }

func (m *metrics) took(kind string, d time.Duration) {
	m.seconds.WithLabelValues(kind).Observe(d.Seconds())
}
