package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Figure is one value of a polled metric, with the values of its labels.
type Figure struct {
	Labels []string
	Value  float64
}

// Polled is a gauge whose values are asked for when somebody reads the metrics,
// at most once in Every: figures of the database, which are the same in every
// process. While they cannot be had, the metric is absent, and everything else is
// answered as ever.
type Polled struct {
	Name, Help string
	Labels     []string
	Every      time.Duration
	// Ask returns the figures. Its context ends after five seconds.
	Ask func(context.Context) ([]Figure, error)
	Log *slog.Logger
}

// pollTimeout bounds one question.
const pollTimeout = 5 * time.Second

// Register adds the metric to a registry.
func (p Polled) Register(r prometheus.Registerer) error {
	return r.Register(&polled{Polled: p, desc: prometheus.NewDesc(p.Name, p.Help, p.Labels, nil)})
}

type polled struct {
	Polled
	desc *prometheus.Desc

	mu    sync.Mutex
	asked time.Time
	last  []Figure
}

// Describe implements [prometheus.Collector].
func (p *polled) Describe(ch chan<- *prometheus.Desc) { ch <- p.desc }

// Collect implements [prometheus.Collector].
func (p *polled) Collect(ch chan<- prometheus.Metric) {
	for _, f := range p.figures() {
		ch <- prometheus.MustNewConstMetric(p.desc, prometheus.GaugeValue, f.Value, f.Labels...)
	}
}

func (p *polled) figures() []Figure {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked.IsZero() && time.Since(p.asked) < p.Every {
		return p.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), pollTimeout)
	defer cancel()
	figures, err := p.Ask(ctx)
	if err != nil {
		p.Log.WarnContext(ctx, "figures of a metric could not be had", "metric", p.Name, "error", err)
	}
	p.asked, p.last = time.Now(), figures
	return figures
}
