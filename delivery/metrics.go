package delivery

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/uuid7"
)

// metrics are the queue's; labels are the four protocols and the values of [Class].
type metrics struct {
	attempts   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	lanes      prometheus.Gauge
	discover   prometheus.Histogram
	settleSize prometheus.Histogram
	settleTime prometheus.Histogram
	backlog    prometheus.Gauge
	oldest     prometheus.Gauge
	open       prometheus.Gauge
	dead       *prometheus.CounterVec
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
	m.backlog = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tocsin_delivery_backlog", Help: "Deliveries pending, over all replicas, as of the last quarter of a minute.",
	})
	m.oldest = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tocsin_delivery_oldest_seconds", Help: "Age of the oldest pending delivery.",
	})
	m.open = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tocsin_delivery_breakers_open", Help: "Subscriptions whose breaker is not closed.",
	})
	m.dead = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tocsin_delivery_dead_letters_total", Help: "Deliveries that became dead letters, by subscription id.",
	}, []string{"subscription"})
	if reg != nil {
		reg.MustRegister(m.dead, m.attempts, m.seconds, m.lanes, m.discover, m.settleSize, m.settleTime, m.backlog, m.oldest, m.open)
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

const gaugesSQL = `
SELECT (SELECT count(*) FROM tocsin.queue), (SELECT id FROM tocsin.queue ORDER BY id LIMIT 1),
  (SELECT count(*) FROM tocsin.lane WHERE breaker <> 'closed')`

// gaugeEvery is how often the gauges of the queue are set.
const gaugeEvery = 15 * time.Second

// gauge sets the gauges of the queue until ctx ends.
func (w *Worker) gauge(ctx context.Context) {
	t := time.NewTicker(gaugeEvery)
	defer t.Stop()
	for {
		var (
			backlog, open int64
			oldest        *uuid.UUID
		)
		if err := w.db.QueryRow(ctx, gaugesSQL).Scan(&backlog, &oldest, &open); err == nil {
			w.metrics.backlog.Set(float64(backlog))
			w.metrics.open.Set(float64(open))
			age := 0.0
			if oldest != nil {
				age = w.now().Sub(uuid7.Time(*oldest)).Seconds()
			}
			w.metrics.oldest.Set(age)
		} else if ctx.Err() == nil {
			w.log.WarnContext(ctx, "size of the delivery queue not read", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
