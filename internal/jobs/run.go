package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/traceparent"
)

const claimSQL = `
UPDATE tocsin.job
SET state = 'running', fence = fence + 1, attempts = attempts + 1, lease_until = now() + @lease::interval, progress = '', updated_at = now()
WHERE id = @id AND kind = @kind
  AND (state = 'queued' AND next_run_at <= now() OR state = 'running' AND lease_until < now())
RETURNING ` + columns

// Run runs jobs of kind with do, up to concurrency at a time in this process,
// and sweeps ([Store.Sweep]). Any number of processes may run one kind. It
// blocks until ctx ends and the running jobs have returned, and returns nil.
//
// do has the job to itself while its context lives. Its error is the reason of
// the failed attempt; the job is tried again as the kind's [Policy] says unless
// the error is [Permanent]. A panic is an error. A job whose do returns an error
// after ctx has ended is given back and loses no attempt.
func (s *Store) Run(ctx context.Context, kind string, concurrency int, do func(context.Context, Job) error) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.sweepLoop(ctx) })
	defer wg.Wait()
	return s.bus.Consume(ctx, bus.SubjectJobs+kind, concurrency, func(ctx context.Context, m bus.Message) error {
		id, err := uuid.ParseBytes(m.Data)
		if err != nil {
			return fmt.Errorf("not a job id: %w: %w", err, bus.ErrTerminate)
		}
		return s.handle(ctx, kind, id, do)
	})
}

// handle claims one job and runs it. The message is done with when it returns
// nil: either the row says how it went, or the job is not to be had, and then
// the row says why and the sweeper publishes it in time.
func (s *Store) handle(ctx context.Context, kind string, id uuid.UUID, do func(context.Context, Job) error) error {
	job, err := one(ctx, s.pool, claimSQL, pgx.NamedArgs{"id": id, "kind": kind, "lease": s.opts.Lease})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("claim job: %w", err)
	}
	ctx = traceparent.Into(ctx, job.traceparent)
	s.bus.Wake(bus.WakeJobs)
	if job.Attempts > s.policy(kind).MaxAttempts {
		return s.finish(ctx, job, outcome{state: Failed, reason: lostReason(job)})
	}

	start := time.Now()
	err = s.attempt(ctx, &job, do)
	s.metrics.took(kind, time.Since(start))
	switch {
	case errors.Is(err, ErrLeaseLost):
		s.metrics.ended(kind, "lost")
		s.log.WarnContext(ctx, "job lost to another runner", "job", job.ID, "kind", kind, "key", job.Key)
		return nil
	case err == nil:
		return s.finish(ctx, job, outcome{state: Done})
	case ctx.Err() != nil:
		if err := s.finish(ctx, job, outcome{released: true}); err != nil {
			return err
		}
		return ctx.Err()
	}
	_, permanent := errors.AsType[permanentError](err)
	if p := s.policy(kind); !permanent && job.Attempts < p.MaxAttempts {
		return s.finish(ctx, job, outcome{state: Queued, reason: err.Error(), wait: jitter(p.backoff(job.Attempts))})
	}
	return s.finish(ctx, job, outcome{state: Failed, reason: err.Error()})
}

// lostReason says why a job fails whose runners never came back.
func lostReason(job Job) string {
	r := fmt.Sprintf("given up: the process that ran it ended or lost touch %d times", job.Attempts-1)
	if job.Reason != "" {
		r += "; before that: " + job.Reason
	}
	return r
}

// attempt calls do while it renews the lease. It returns ErrLeaseLost when the
// lease was lost, whatever do returned. The job's reported progress and result are
// in job afterwards.
func (s *Store) attempt(ctx context.Context, job *Job, do func(context.Context, Job) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &report{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.heartbeat(ctx, *job, r, stop, cancel) })
	err := safely(context.WithValue(ctx, reportKey{}, r), *job, do)
	close(stop)
	wg.Wait()
	job.Progress, job.Result, _ = r.take()
	if errors.Is(context.Cause(ctx), ErrLeaseLost) {
		return ErrLeaseLost
	}
	return err
}

func safely(ctx context.Context, job Job, do func(context.Context, Job) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do(ctx, job)
}

const heartbeatSQL = `
UPDATE tocsin.job
SET lease_until = now() + @lease::interval, progress = @progress, result = @result, updated_at = CASE WHEN @changed THEN now() ELSE updated_at END
WHERE id = @id AND fence = @fence AND state = 'running'`

// progressEvery is how often what a job says of itself is written, at most.
const progressEvery = 500 * time.Millisecond

// heartbeat renews the lease and writes what the job says of itself until stop
// is closed. When the lease is lost, or may be since it could not be renewed in
// time, it cancels the job.
func (s *Store) heartbeat(ctx context.Context, job Job, r *report, stop <-chan struct{}, cancel context.CancelCauseFunc) {
	renewEvery := s.opts.Lease / 3
	tick := time.NewTicker(min(renewEvery, progressEvery))
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		progress, result, changed := r.take()
		if !changed && time.Since(renewed) < renewEvery {
			continue
		}
		sent := time.Now()
		// A shutdown does not take the lease away from a job that is finishing.
		bctx, done := context.WithTimeout(context.WithoutCancel(ctx), renewEvery)
		tag, err := s.pool.Exec(bctx, heartbeatSQL, pgx.NamedArgs{
			"id": job.ID, "fence": job.Fence, "lease": s.opts.Lease, "progress": progress, "result": result, "changed": changed,
		})
		done()
		switch {
		case err == nil && tag.RowsAffected() == 1:
			renewed = sent
			if changed {
				s.bus.Wake(bus.WakeJobs)
			}
		case err == nil:
			cancel(ErrLeaseLost)
			return
		case time.Since(renewed) > s.opts.Lease:
			cancel(fmt.Errorf("%w: %w", ErrLeaseLost, err))
			return
		default:
			r.again()
		}
	}
}
