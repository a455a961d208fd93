package app

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
)

// stats answers httpapi.Stats: it sums up across the roles' tables, which is
// why it is here and in none of them.
type stats struct {
	pool       *pgxpool.Pool
	deliveries deliveries
}

const (
	countManifests = `SELECT state, count(*) FROM tocsin.manifest GROUP BY state`
	countJobs      = `SELECT state, count(*) FROM tocsin.job GROUP BY state`

	// countPending counts updaters whose newest operation has not been worked
	// through: what latest_update_operations says against both kinds of cursor.
	countPending = `
SELECT count(*)
FROM (SELECT DISTINCT ON (updater, kind) updater, kind, id FROM public.update_operation ORDER BY updater, kind, id DESC) newest
LEFT JOIN tocsin.cursor v ON newest.kind = 'vulnerability' AND v.updater = newest.updater
LEFT JOIN tocsin.enrichment_cursor e ON newest.kind = 'enrichment' AND e.updater = newest.updater
WHERE coalesce(v.op_id, e.op_id, 0) < newest.id`
)

func (s stats) Stats(ctx context.Context, owner string) (v1.Stats, error) {
	var out v1.Stats
	var err error
	if out.Images, err = s.byState(ctx, countManifests); err != nil {
		return out, fmt.Errorf("count manifests: %w", err)
	}
	if out.Jobs, err = s.byState(ctx, countJobs); err != nil {
		return out, fmt.Errorf("count jobs: %w", err)
	}
	if err := s.pool.QueryRow(ctx, countPending).Scan(&out.PendingUpdates); err != nil {
		return out, fmt.Errorf("count pending updates: %w", err)
	}
	if out.Deliveries, out.Subscriptions, err = s.deliveries.stats(ctx, owner); err != nil {
		return out, fmt.Errorf("sum up deliveries: %w", err)
	}
	return out, nil
}

func (s stats) byState(ctx context.Context, sql string) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		out[state] = n
		return nil
	})
	return out, err
}
