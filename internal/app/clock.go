package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/partition"
	"tocsin.dev/tocsin/internal/telemetry"
)

// Bounds of the watch of the clock.
const (
	clockWatchInterval = time.Minute
	clockTolerance     = 5 * time.Second
)

// clockWatch compares this process's clock with the database's, which alone decides
// what is old: at the start and every minute, in the log when it goes wrong or
// right, in /readyz and as a metric.
type clockWatch struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	now  func() time.Time
	skew prometheus.Gauge
	said atomic.Pointer[string]
}

func (c *clockWatch) observe(r prometheus.Registerer, h *telemetry.Health) error {
	c.skew = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tocsin_clock_skew_seconds",
		Help: "How far this process's clock is ahead of the database's; negative if it is behind.",
	})
	h.Note("clock", func() string {
		if s := c.said.Load(); s != nil {
			return *s
		}
		return ""
	})
	return r.Register(c.skew)
}

// run looks until ctx ends; the first look is at once.
func (c *clockWatch) run(ctx context.Context) error {
	tick := time.NewTicker(clockWatchInterval)
	defer tick.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "the clocks could not be compared", "reason", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *clockWatch) look(ctx context.Context) error {
	skew, at, err := partition.Skew(ctx, c.pool, c.now)
	if err != nil {
		return err
	}
	c.skew.Set(skew.Seconds())
	wrong, before := "", c.said.Load()
	if skew.Abs() > clockTolerance {
		direction := "ahead of"
		if skew < 0 {
			direction = "behind"
		}
		wrong = fmt.Sprintf("this machine's clock is %v %s the database's; set them by NTP", skew.Abs().Round(time.Second), direction)
	}
	c.said.Store(&wrong)
	switch was := before != nil && *before != ""; {
	case wrong != "" && !was:
		c.log.ErrorContext(ctx, "the clocks of this machine and of the database are apart", "skew", skew.Round(time.Second).String(), "database", at)
	case wrong == "" && was:
		c.log.InfoContext(ctx, "the clocks of this machine and of the database agree again")
	}
	return nil
}
