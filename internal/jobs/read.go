package jobs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tocsin.dev/tocsin/internal/bus"
)

const (
	defaultLimit = 50
	// MaxLimit bounds a page of List.
	MaxLimit = 500
	// watchEvery is how long a lost hint delays Watch.
	watchEvery = 2 * time.Second
)

const (
	getSQL = `SELECT ` + columns + ` FROM tocsin.job WHERE id = @id`

	listSQL = `
SELECT ` + columns + ` FROM tocsin.job
WHERE (@kind::text = '' OR kind = @kind) AND (@state::text = '' OR state = @state) AND (@key::text = '' OR key = @key)
  AND (@before::uuid IS NULL OR id < @before)
ORDER BY id DESC LIMIT @limit`

	retrySQL = `
UPDATE tocsin.job
SET state = 'queued', attempts = 0, progress = '', result = '', next_run_at = now(), published_at = NULL, updated_at = now()
WHERE id = @id AND state = 'failed' AND NOT rejected
RETURNING ` + columns
)

// A Filter selects jobs; an empty field selects all.
type Filter struct {
	Kind, State, Key string
	// Before selects those that are older than the job with this id: the last
	// of the page before.
	Before uuid.UUID
	// Limit is the size of the page: 50 if zero, at most MaxLimit.
	Limit int
}

// List returns the newest jobs that f selects, newest first.
func (s *Store) List(ctx context.Context, f Filter) ([]Job, error) {
	if f.Limit <= 0 {
		f.Limit = defaultLimit
	}
	rows, err := s.pool.Query(ctx, listSQL, pgx.NamedArgs{
		"kind": f.Kind, "state": f.State, "key": f.Key,
		"before": uuid.NullUUID{UUID: f.Before, Valid: f.Before != uuid.Nil},
		"limit":  min(f.Limit, MaxLimit),
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, nil
}

// Get returns one job, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (Job, error) {
	job, err := one(ctx, s.pool, getSQL, pgx.NamedArgs{"id": id})
	if errors.Is(err, pgx.ErrNoRows) {
		return Job{}, fmt.Errorf("job %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	return job, nil
}

// Retry queues a failed job again, with all its attempts. It returns
// ErrNotFound, ErrNotFailed, ErrRejected or ErrActive when that can't be.
func (s *Store) Retry(ctx context.Context, id uuid.UUID) (Job, error) {
	job, err := one(ctx, s.pool, retrySQL, pgx.NamedArgs{"id": id})
	if err == nil {
		s.hand(ctx, job)
		return job, nil
	}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.ConstraintName == "job_active" {
		return Job{}, fmt.Errorf("retry job %s: %w", id, ErrActive)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return Job{}, fmt.Errorf("retry job %s: %w", id, err)
	}
	job, err = s.Get(ctx, id)
	switch {
	case err != nil:
		return Job{}, err
	case job.Rejected:
		return Job{}, fmt.Errorf("retry job %s: %w", id, ErrRejected)
	default:
		return Job{}, fmt.Errorf("retry job %s, which is %s: %w", id, job.State, ErrNotFailed)
	}
}

// Watch yields a job as it is and then after each change, until it has ended or
// ctx has. States that follow each other quickly may be skipped; the last one
// is not.
func (s *Store) Watch(ctx context.Context, id uuid.UUID) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		woken := s.bus.OnWake(ctx, bus.WakeJobs)
		poll := time.NewTicker(watchEvery)
		defer poll.Stop()
		var last Job
		for {
			job, err := s.Get(ctx, id)
			if err != nil {
				yield(Job{}, err)
				return
			}
			changed := !job.UpdatedAt.Equal(last.UpdatedAt) || job.State != last.State
			if changed && !yield(job, nil) || !job.Active() {
				return
			}
			last = job
			select {
			case <-ctx.Done():
				yield(Job{}, ctx.Err())
				return
			case <-woken:
			case <-poll.C:
			}
		}
	}
}
