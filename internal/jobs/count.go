package jobs

import (
	"context"
	"fmt"
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

const failedBefore = `
SELECT EXISTS (
  SELECT FROM tocsin.job
  WHERE kind = @kind AND key = @key AND id <> @id AND state = 'failed' AND reason = @reason AND updated_at > now() - interval '1 day')`

// FailedBefore reports whether another job of the same kind and key failed for
// the same reason within a day, so that there is nothing new to tell.
func (s *Store) FailedBefore(ctx context.Context, tx pgx.Tx, job Job) (failed bool, err error) {
	args := pgx.NamedArgs{"kind": job.Kind, "key": job.Key, "id": job.ID, "reason": job.Reason}
	if err := tx.QueryRow(ctx, failedBefore, args).Scan(&failed); err != nil {
		return false, fmt.Errorf("look for an earlier failure of %s %s: %w", job.Kind, job.Key, err)
	}
	return failed, nil
}
