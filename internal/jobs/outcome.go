package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/retry"
)

// An outcome is how an attempt ended.
type outcome struct {
	state    string        // Done, Failed, or Queued for another attempt
	reason   string        // why it failed
	wait     time.Duration // before another attempt
	released bool          // given back, the attempt not counted
}

func (o outcome) label() string {
	switch {
	case o.released:
		return "released"
	case o.state == Queued:
		return "retried"
	}
	return o.state
}

const (
	endSQL = `
UPDATE tocsin.job
SET state = @state, reason = @reason, progress = @progress, result = @result, lease_until = NULL,
    next_run_at = now() + @wait::interval, published_at = CASE WHEN @state <> 'queued' THEN published_at END, updated_at = now()
WHERE id = @id AND fence = @fence AND state = 'running'
RETURNING ` + columns

	releaseSQL = `
UPDATE tocsin.job
SET state = 'queued', attempts = attempts - 1, progress = '', lease_until = NULL, next_run_at = now(), updated_at = now()
WHERE id = @id AND fence = @fence AND state = 'running'
RETURNING ` + columns
)

// finish writes an outcome to the job's row. It keeps trying for as long as a
// lease while the database is away, also after ctx has ended. If another runner
// has the job by then, it leaves it alone.
func (s *Store) finish(ctx context.Context, job Job, o outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Lease)
	defer cancel()
	var ours bool
	err := retry.Pauses{First: 50 * time.Millisecond, Most: 2 * time.Second}.Do(ctx, func() (err error) {
		ours, err = s.write(ctx, job, o)
		return err
	})
	if err != nil {
		return fmt.Errorf("write the outcome of job %s: %w", job.ID, err)
	}
	s.logOutcome(ctx, job, o, ours)
	return nil
}

// write does it once; ours is false if another runner has the job.
func (s *Store) write(ctx context.Context, job Job, o outcome) (ours bool, err error) {
	args := pgx.NamedArgs{
		"id": job.ID, "fence": job.Fence, "state": o.state, "reason": clean(o.reason, maxReason),
		"progress": job.Progress, "result": job.Result, "wait": o.wait,
	}
	sql := endSQL
	if o.released {
		sql = releaseSQL
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args)
		if err != nil {
			return err
		}
		ended, err := pgx.CollectRows(rows, scan)
		if err != nil || len(ended) == 0 {
			return err
		}
		ours = true
		if ended[0].State != Failed {
			return nil
		}
		return s.announce(ctx, tx, ended[0])
	})
	return ours, err
}

func (s *Store) logOutcome(ctx context.Context, job Job, o outcome, ours bool) {
	if !ours {
		s.metrics.ended(job.Kind, "lost")
		s.log.WarnContext(ctx, "job lost to another runner", "job", job.ID, "kind", job.Kind, "key", job.Key)
		return
	}
	s.metrics.ended(job.Kind, o.label())
	s.bus.Wake(bus.WakeJobs)
	log := s.log.With("job", job.ID, "kind", job.Kind, "key", job.Key, "attempt", job.Attempts)
	switch {
	case o.released:
		log.InfoContext(ctx, "job given back: this process stops")
	case o.state == Done:
		log.DebugContext(ctx, "job done")
	case o.state == Queued:
		log.WarnContext(ctx, "job failed; trying again", "in", o.wait.Round(time.Millisecond).String(), "reason", o.reason)
	default:
		log.ErrorContext(ctx, "job failed for good", "reason", o.reason)
	}
}
