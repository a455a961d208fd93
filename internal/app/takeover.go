package app

import (
	"context"
	"errors"

	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/matcher"
)

// PlanTakeover says what a start on the configured database would take over from
// Clair. It changes nothing there.
func (a *App) PlanTakeover(ctx context.Context) (*matcher.Takeover, error) {
	url := a.config.Database.URL.Reveal()
	if url == "" {
		return nil, errors.New("no database: give Clair's with --database-url or database.url")
	}
	pool, err := postgres.Open(ctx, url, postgres.WithApplicationName("tocsin"), postgres.WithMaxConns(2))
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	return matcher.PlanTakeover(ctx, pool)
}

// TakeOver does what the first start on Clair's database does, and returns when
// the inventories of its images are recorded.
func (a *App) TakeOver(ctx context.Context) (state *matcher.TakeoverState, err error) {
	if a.config.Database.URL.Reveal() == "" {
		return nil, errors.New("no database: give Clair's with --database-url or database.url")
	}
	life := newLifecycle(ctx, a.log)
	defer func() { err = errors.Join(err, life.stop()) }()
	pool, err := a.database(ctx, life)
	if err != nil {
		return nil, err
	}
	b, err := a.bus(ctx, life)
	if err != nil {
		return nil, err
	}
	s, err := a.services(ctx, pool, b)
	if err != nil {
		return nil, err
	}
	if err := s.matcher.BeginTakeover(ctx); err != nil {
		return nil, err
	}
	a.notice("recording the images that Clair has indexed")
	if err := s.matcher.TakeOver(ctx); err != nil {
		return nil, err
	}
	return s.matcher.Takeover(ctx)
}
