package delivery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the queue's; labels are the four protocols and the [Classes].
type metrics struct {
	attempts   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	lanes      prometheus.Gauge
	discover   prometheus.Histogram
	settleSize prometheus.Histogram
	settleTime prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	quick := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_delivery_attempts_total", Help: "Delivery attempts by protocol and outcome class.",
		}, []string{"protocol", "class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tocsin_delivery_attempt_seconds", Help: "Time an attempt took.", Buckets: append(quick, 5, 10, 15, 30),
		}, []string{"protocol"}),
		lanes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tocsin_delivery_lanes", Help: "Subscriptions that this replica delivers to now.",
		}),
		discover: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tocsin_delivery_discover_seconds", Help: "Time of one look at the queue for due work.", Buckets: quick,
		}),
		settleSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tocsin_delivery_settled", Help: "Outcomes written in one statement.", Buckets: []float64{1, 4, 16, 64, 256, 512},
		}),
		settleTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tocsin_delivery_settle_seconds", Help: "Time of one statement that writes outcomes.", Buckets: quick,
		}),
	}
	if reg != nil {
		reg.MustRegister(m.attempts, m.seconds, m.lanes, m.discover, m.settleSize, m.settleTime)
	}
	return m
}

func (m *metrics) attempt(protocol string, c Class, took time.Duration) {
	m.attempts.WithLabelValues(protocol, string(c)).Inc()
	m.seconds.WithLabelValues(protocol).Observe(took.Seconds())
}

func (m *metrics) settled(n int, took time.Duration) {
	m.settleSize.Observe(float64(n))
	m.settleTime.Observe(took.Seconds())
}
