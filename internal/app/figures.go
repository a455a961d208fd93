package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/telemetry"
)

const (
	// figuresEvery is how old the figures of a metric may be, sizesEvery those
	// that cost more to find out.
	figuresEvery = 15 * time.Second
	sizesEvery   = time.Minute
)

// figures adds the metrics of what all processes have in common.
func (a *App) figures(pool *pgxpool.Pool, b *bus.Bus, s *services) error {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tocsin_build_info", Help: "1, with what is running.",
		ConstLabels: prometheus.Labels{"version": cmp.Or(a.version.Version, "unknown"), "commit": a.version.Commit, "go": a.version.Go},
	})
	build.Set(1)
	err := a.registry.Register(build)
	byState := func(count func(context.Context) (map[string]int, error)) func(context.Context) ([]telemetry.Figure, error) {
		return func(ctx context.Context) ([]telemetry.Figure, error) {
			counts, err := count(ctx)
			var out []telemetry.Figure
			for state, n := range counts {
				out = append(out, telemetry.Figure{Labels: []string{state}, Value: float64(n)})
			}
			return out, err
		}
	}
	for _, p := range []telemetry.Polled{
		{Name: "tocsin_images", Help: "Manifests that are known, by state.", Labels: []string{"state"}, Every: sizesEvery, Ask: byState(s.indexer.CountByState)},
		{Name: "tocsin_jobs", Help: "Jobs that are kept, by state.", Labels: []string{"state"}, Every: figuresEvery, Ask: byState(s.jobs.CountByState)},
		{Name: "tocsin_job_oldest_seconds", Help: "Age of the oldest queued job, by kind; absent when none is queued.", Labels: []string{"kind"}, Every: figuresEvery, Ask: func(ctx context.Context) ([]telemetry.Figure, error) {
			ages, err := s.jobs.OldestQueued(ctx)
			var out []telemetry.Figure
			for kind, age := range ages {
				out = append(out, telemetry.Figure{Labels: []string{kind}, Value: age.Seconds()})
			}
			return out, err
		}},
		{Name: "tocsin_feed_age_seconds", Help: "Time since an enabled set's worst updater last found its data up to date; absent before its first success.", Labels: []string{"set"}, Every: figuresEvery, Ask: s.feedAges},
		{Name: "tocsin_feed_failing_updaters", Help: "Updaters of an enabled set whose last run failed.", Labels: []string{"set"}, Every: figuresEvery, Ask: s.feedFailures},
		{Name: "tocsin_feed_held_updaters", Help: "Updaters of a set whose update is held back until somebody accepts it.", Labels: []string{"set"}, Every: figuresEvery, Ask: s.feedHeld},
		{Name: "tocsin_matcher_pending_updates", Help: "Updaters whose newest update has not been worked out and told of yet.", Every: figuresEvery, Ask: func(ctx context.Context) ([]telemetry.Figure, error) {
			n, err := s.matcher.PendingUpdates(ctx)
			return one(float64(n)), err
		}},
		{Name: "tocsin_intake_messages", Help: "Messages on NATS that wait to be recorded, by subject.", Labels: []string{"subject"}, Every: figuresEvery, Ask: func(ctx context.Context) ([]telemetry.Figure, error) {
			var out []telemetry.Figure
			for _, subject := range []string{bus.SubjectManifests, bus.SubjectUpdates} {
				n, err := b.Backlog(ctx, bus.StreamIntake, subject)
				if err != nil {
					return nil, err
				}
				out = append(out, telemetry.Figure{Labels: []string{subject}, Value: float64(n)})
			}
			return out, nil
		}},
		{Name: "tocsin_database_bytes", Help: "Size of the database.", Every: sizesEvery, Ask: func(ctx context.Context) ([]telemetry.Figure, error) {
			server, err := postgres.Examine(ctx, pool)
			return one(float64(server.Bytes)), err
		}},
	} {
		p.Log = a.log
		err = errors.Join(err, p.Register(a.registry))
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

func one(value float64) []telemetry.Figure { return []telemetry.Figure{{Value: value}} }

func (s *services) feedAges(ctx context.Context) ([]telemetry.Figure, error) {
	sets, err := s.updater.Status(ctx)
	var out []telemetry.Figure
	for _, set := range sets {
		worst := -1.0
		for _, u := range set.Updaters {
			if u.LastSuccess != nil {
				worst = max(worst, u.Age)
			}
		}
		if set.Enabled && worst >= 0 {
			out = append(out, telemetry.Figure{Labels: []string{set.Set}, Value: worst})
		}
	}
	return out, err
}

func (s *services) feedFailures(ctx context.Context) ([]telemetry.Figure, error) {
	sets, err := s.updater.Status(ctx)
	var out []telemetry.Figure
	for _, set := range sets {
		n := 0
		if set.Error != "" {
			n = 1 // the set could not say which updaters it has
		}
		for _, u := range set.Updaters {
			if u.Failures > 0 {
				n++
			}
		}
		if set.Enabled {
			out = append(out, telemetry.Figure{Labels: []string{set.Set}, Value: float64(n)})
		}
	}
	return out, err
}

func (s *services) feedHeld(ctx context.Context) ([]telemetry.Figure, error) {
	sets, err := s.updater.Status(ctx)
	var out []telemetry.Figure
	for _, set := range sets {
		n := 0
		for _, u := range set.Updaters {
			if u.HeldSince != nil {
				n++
			}
		}
		out = append(out, telemetry.Figure{Labels: []string{set.Set}, Value: float64(n)})
	}
	return out, err
}
