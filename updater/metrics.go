package updater

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	runs    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	rows    *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_updater_runs_total",
			Help: "Runs of updaters in this process by how they ended: updated, unchanged or failed.",
		}, []string{"set", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tocsin_updater_set_seconds",
			Help:    "How long a run of a set took.",
			Buckets: prometheus.ExponentialBuckets(0.1, 4, 9),
		}, []string{"set"}),
		rows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tocsin_updater_rows",
			Help: "Vulnerabilities, or records of an enricher, of an updater's data when this process last ran it.",
		}, []string{"set", "updater"}),
	}
	if r != nil {
		r.MustRegister(m.runs, m.seconds, m.rows)
	}
	return m
}

func (m *metrics) ended(set, updater string, out Outcome) {
	m.runs.WithLabelValues(set, string(out.Result)).Inc()
	if out.Result != Failed {
		m.rows.WithLabelValues(set, updater).Set(float64(out.Rows))
	}
}

func (m *metrics) took(set string, d time.Duration) {
	m.seconds.WithLabelValues(set).Observe(d.Seconds())
}
