package jobs

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const countByState = `SELECT state, count(*) FROM tocsin.job GROUP BY state`

// CountByState counts the jobs in each state; a state without any is absent.
func (s *Store) CountByState(ctx context.Context) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, countByState)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		counts[state] = n
		return nil
	})
	return counts, err
}

const oldestQueued = `
SELECT kind, extract(epoch FROM clock_timestamp() - min(created_at))::float8
FROM tocsin.job WHERE state = 'queued' GROUP BY kind`

// OldestQueued is how long the oldest queued job of each kind has waited; a kind
// without any is absent.
func (s *Store) OldestQueued(ctx context.Context) (map[string]time.Duration, error) {
	rows, err := s.pool.Query(ctx, oldestQueued)
	if err != nil {
		return nil, err
	}
	ages := map[string]time.Duration{}
	var kind string
	var seconds float64
	_, err = pgx.ForEachRow(rows, []any{&kind, &seconds}, func() error {
		ages[kind] = time.Duration(seconds * float64(time.Second))
		return nil
	})
	return ages, err
}
