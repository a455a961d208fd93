package indexer

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/indexer/image"
)

type metrics struct {
	attempts *prometheus.CounterVec
	seconds  prometheus.Histogram
	intake   *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_indexer_attempts_total",
			Help: "Attempts to index a manifest or to resolve a reference, by outcome: ok, layer (one could not be fetched or read), image (the registry refused) or error.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tocsin_indexer_attempt_seconds",
			Help:    "How long an attempt took.",
			Buckets: prometheus.ExponentialBuckets(0.05, 3, 10),
		}),
		intake: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_indexer_messages_total",
			Help: "Messages taken from NATS, by outcome: accepted or rejected.",
		}, []string{"outcome"}),
	}
	if r != nil {
		r.MustRegister(m.attempts, m.seconds, m.intake)
	}
	return m
}

func (m *metrics) attempted(err error, took time.Duration) {
	outcome := "ok"
	if _, ok := errors.AsType[*FetchError](err); ok {
		outcome = "layer"
	} else if _, ok := errors.AsType[*image.Error](err); ok {
		outcome = "image"
	} else if err != nil {
		outcome = "error"
	}
	m.attempts.WithLabelValues(outcome).Inc()
	m.seconds.Observe(took.Seconds())
}
