package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
)

const (
	// sweepBatch bounds one transaction of the sweeper.
	sweepBatch = 500
	// lateAfter is how many times its patience a job waits before it counts as
	// overtaken.
	lateAfter  = 6
	pruneEvery = 10 * time.Minute
)

const (
	// A runner that has gone leaves its job to the next.
	expiredSQL = `
UPDATE tocsin.job SET state = 'queued', lease_until = NULL, next_run_at = now(), published_at = NULL, updated_at = now()
WHERE id IN (SELECT id FROM tocsin.job WHERE state = 'running' AND lease_until < now() LIMIT @batch FOR UPDATE SKIP LOCKED)`

	// A new job is left to its submitter for a moment.
	unpublishedSQL = `
SELECT id, kind FROM tocsin.job
WHERE state = 'queued' AND next_run_at <= now() AND published_at IS NULL
  AND (attempts > 0 OR created_at < now() - interval '2 seconds')
ORDER BY next_run_at LIMIT @batch FOR UPDATE SKIP LOCKED`

	waitingKindsSQL = `
SELECT DISTINCT kind FROM tocsin.job
WHERE state = 'queued' AND next_run_at <= now() AND published_at < now() - @patience::interval`

	unpublishSQL = `
UPDATE tocsin.job SET published_at = NULL
WHERE kind = @kind AND state = 'queued' AND next_run_at <= now() AND published_at < now() - @patience::interval`

	// overtakenSQL finds the lost message of one job while the stream has others
	// of its kind. Messages come in their order: a job was overtaken if one that
	// was published well after it has been claimed, and its message is lost if the
	// runners of its kind are idle. A few of those will do at a time, as idle may
	// be a moment between two jobs of a long queue.
	overtakenSQL = `
WITH kinds AS MATERIALIZED (
  SELECT w.kind, EXISTS (SELECT FROM tocsin.job r WHERE r.kind = w.kind AND r.state = 'running') AS busy,
    (SELECT max(c.published_at) FROM tocsin.job c WHERE c.kind = w.kind AND c.state <> 'queued') AS claimed
  FROM (SELECT DISTINCT kind FROM tocsin.job
        WHERE state = 'queued' AND next_run_at <= now() AND published_at < now() - @late::interval) w
)
UPDATE tocsin.job SET published_at = NULL
WHERE id IN (
  SELECT j.id FROM kinds k
  CROSS JOIN LATERAL (
    SELECT id FROM tocsin.job
    WHERE kind = k.kind AND state = 'queued' AND next_run_at <= now()
      AND published_at < CASE WHEN k.busy THEN k.claimed ELSE now() END - @late::interval
    ORDER BY published_at LIMIT 20) j)`

	nextDueSQL = `
SELECT min(next_run_at) - now() FROM tocsin.job WHERE state = 'queued' AND published_at IS NULL AND next_run_at > now()`

	pruneSQL = `
DELETE FROM tocsin.job WHERE id IN (
  SELECT id FROM tocsin.job
  WHERE state = 'done' AND updated_at < now() - @done::interval OR state = 'failed' AND updated_at < now() - @failed::interval
  LIMIT @batch)`
)

// Sweep publishes what the rows say is due and no message is known to carry:
// jobs whose wait is over, whose runner has gone, which could not be published,
// or whose message the server has lost. Many processes may sweep at once.
//
// A message counts as lost when jobs of a kind wait and the stream has none for
// it, or when others overtake it, so a long queue is not published over and over.
func (s *Store) Sweep(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, expiredSQL, pgx.NamedArgs{"batch": sweepBatch}); err != nil {
		return fmt.Errorf("sweep jobs: %w", err)
	}
	if err := s.unpublishLost(ctx); err != nil {
		return fmt.Errorf("sweep jobs: %w", err)
	}
	if _, err := s.pool.Exec(ctx, overtakenSQL, pgx.NamedArgs{"late": lateAfter * s.patience()}); err != nil {
		return fmt.Errorf("sweep jobs: %w", err)
	}
	for {
		n, err := s.publishDue(ctx)
		if err != nil {
			return fmt.Errorf("sweep jobs: %w", err)
		}
		if n < sweepBatch {
			return nil
		}
	}
}

// patience is how long a published job may wait before it is asked where its
// message is.
func (s *Store) patience() time.Duration { return min(s.opts.SweepEvery, 5*time.Second) }

// unpublishLost marks jobs whose message the server has lost.
func (s *Store) unpublishLost(ctx context.Context) error {
	patience := s.patience()
	rows, err := s.pool.Query(ctx, waitingKindsSQL, pgx.NamedArgs{"patience": patience})
	if err != nil {
		return err
	}
	kinds, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		n, err := s.bus.Backlog(ctx, bus.StreamJobs, bus.SubjectJobs+kind)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		tag, err := s.pool.Exec(ctx, unpublishSQL, pgx.NamedArgs{"kind": kind, "patience": patience})
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			s.log.InfoContext(ctx, "jobs without a message; publishing them again", "kind", kind, "jobs", tag.RowsAffected())
		}
	}
	return nil
}

// publishDue publishes one batch. The rows are marked after it, in the
// transaction that holds them: a crash in between publishes them twice.
func (s *Store) publishDue(ctx context.Context) (n int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, unpublishedSQL, pgx.NamedArgs{"batch": sweepBatch})
		if err != nil {
			return err
		}
		byKind := map[string][]uuid.UUID{}
		var id uuid.UUID
		var kind string
		var all []uuid.UUID
		if _, err = pgx.ForEachRow(rows, []any{&id, &kind}, func() error {
			byKind[kind] = append(byKind[kind], id)
			all = append(all, id)
			return nil
		}); err != nil {
			return err
		}
		for kind, ids := range byKind {
			if err := s.publish(ctx, kind, ids...); err != nil {
				return err
			}
		}
		n = len(all)
		if n == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, publishedSQL, pgx.NamedArgs{"ids": all})
		return err
	})
	return n, err
}

// sweepLoop sweeps when a job's wait is over, when NATS has come back, and
// every now and then. An error is logged; the next sweep makes up for it.
func (s *Store) sweepLoop(ctx context.Context) {
	woken := s.bus.OnWake(ctx, bus.WakeJobs)
	var pruned time.Time
	for ctx.Err() == nil {
		err := s.Sweep(ctx)
		if err == nil && time.Since(pruned) > pruneEvery {
			err = s.prune(ctx)
			pruned = time.Now()
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "jobs not swept; trying again", "error", err)
		}
		due := time.Now().Add(s.nextSweep(ctx))
		timer := time.NewTimer(time.Until(due))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-timer.C:
				waiting = false
			case <-woken:
				// A hint comes with every change of a job; what matters here
				// is whether one is due earlier. Never later: where jobs change
				// all the time, there would be no sweep at all.
				if earlier := time.Now().Add(s.nextSweep(ctx)); earlier.Before(due) {
					due = earlier
					timer.Reset(time.Until(due))
				}
			}
		}
		timer.Stop()
	}
}

// nextSweep is how long until there may be something to sweep.
func (s *Store) nextSweep(ctx context.Context) time.Duration {
	var due *time.Duration
	if err := s.pool.QueryRow(ctx, nextDueSQL).Scan(&due); err != nil && !errors.Is(err, context.Canceled) {
		s.log.DebugContext(ctx, "next due job not known", "error", err)
	}
	if due == nil {
		return s.opts.SweepEvery
	}
	// A little later than the database says, so that the job is due then.
	return min(s.opts.SweepEvery, *due+10*time.Millisecond)
}

func (s *Store) prune(ctx context.Context) error {
	args := pgx.NamedArgs{"done": s.opts.KeepDone, "failed": s.opts.KeepFailed, "batch": sweepBatch}
	for {
		tag, err := s.pool.Exec(ctx, pruneSQL, args)
		if err != nil {
			return fmt.Errorf("prune jobs: %w", err)
		}
		if tag.RowsAffected() < sweepBatch {
			return nil
		}
	}
}
