package matcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/schemas"
)

// ProcessUpdates works through every update operation that is newer than its
// updater's cursor, one change at a time in the order in which they landed, and
// returns when there is none left. An updater that fails does not keep the
// others; the errors come joined. Several processes may do it at once.
func (e *Engine) ProcessUpdates(ctx context.Context) error {
	if e.announcer == nil {
		return errors.New("matcher: the engine has no announcer")
	}
	var errs []error
	failed := make(map[feed]bool)
	for ctx.Err() == nil {
		start := time.Now()
		var f *feed
		err := e.prepared(ctx, func() (err error) {
			f, err = e.advance(ctx, failed)
			return err
		})
		switch {
		case err != nil && f == nil:
			return errors.Join(append(errs, err)...)
		case f == nil:
			return errors.Join(append(errs, e.refreshLatest(ctx))...)
		case err != nil:
			failed[*f] = true
			e.metrics.changes.WithLabelValues(f.kind, "failed").Inc()
			errs = append(errs, fmt.Errorf("updater %q: %w", f.updater, err))
		default:
			e.metrics.changes.WithLabelValues(f.kind, "done").Inc()
			e.metrics.duration.WithLabelValues(f.kind).Observe(time.Since(start).Seconds())
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

const (
	// isStale tells whether an operation is missing from the view that reports
	// are made by.
	isStale = `
SELECT EXISTS (
  SELECT FROM (SELECT DISTINCT ON (updater) id, kind FROM public.update_operation ORDER BY updater, id DESC) o
  WHERE o.kind = 'vulnerability' AND NOT EXISTS (SELECT FROM public.latest_update_operations l WHERE l.id = o.id)
)`
	refreshView = `REFRESH MATERIALIZED VIEW CONCURRENTLY public.latest_update_operations`
)

// refreshLatest makes reports see what has been announced. claircore does so
// after it has committed an operation, and forgets if it dies in between.
func (e *Engine) refreshLatest(ctx context.Context) error {
	var stale bool
	if err := e.pool.QueryRow(ctx, isStale).Scan(&stale); err != nil || !stale {
		return err
	}
	_, err := e.pool.Exec(ctx, refreshView)
	return err
}

// advance does the oldest step of a feed that has not failed, in one
// transaction, and returns whose it was; nil if there is none. Feeds may share
// rows, so that the order matters: it is found out under the lock that changes
// take, not before.
func (e *Engine) advance(ctx context.Context, failed map[feed]bool) (of *feed, err error) {
	// Events say what is covered, by this update's feed too.
	if err := e.refreshScopes(ctx); err != nil {
		return nil, err
	}
	var done schemas.UpdateCompleted
	silent := false
	err = pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockBarrier, pgx.NamedArgs{"key": ChangeKey}); err != nil {
			return err
		}
		if err := e.checkMatchers(ctx, tx); err != nil {
			return err
		}
		var waits bool
		if err := tx.QueryRow(ctx, isTakingOver).Scan(&waits); err != nil || waits {
			return err
		}
		feeds, err := pending(ctx, tx)
		if err != nil {
			return err
		}
		for _, f := range feeds {
			if failed[f] {
				continue
			}
			of = &f
			s, err := f.next(ctx, tx)
			if err != nil {
				return err
			}
			if told, err := s.passTold(ctx, tx); err != nil || told {
				silent = told
				return err
			}
			if s.kind == kindEnrichment {
				done, err = e.enrichmentChange(ctx, tx, s)
			} else {
				done, err = e.vulnerabilityChange(ctx, tx, s)
			}
			return err
		}
		return nil
	})
	if err != nil || of == nil || silent {
		return of, err
	}
	e.metrics.skipped.WithLabelValues(of.updater).Add(float64(done.Skipped))
	e.log.InfoContext(ctx, "update worked through", "updater", of.updater, "kind", of.kind, "ref", done.Update.Ref,
		"first_load", done.Update.FirstLoad, "added", done.Added, "removed", done.Removed, "revised", done.Revised,
		"manifests", done.Manifests, "skipped", done.Skipped)
	return of, nil
}

// Run processes updates when a hint comes and at least every Interval, and
// collects garbage every GCInterval, until ctx ends. It returns nil then. While
// it runs, processes with other matchers refuse to work ([ErrOtherMatchers]).
func (e *Engine) Run(ctx context.Context) error {
	e.seen(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { e.stayAlive(ctx) })
	var wake <-chan struct{}
	if e.opts.Wake != nil {
		wake = e.opts.Wake.OnWake(ctx, bus.WakeMatcher)
	}
	updates, garbage := time.NewTicker(e.opts.Interval), time.NewTicker(e.opts.GCInterval)
	defer updates.Stop()
	defer garbage.Stop()
	collect, look := false, true
	for {
		if look {
			err := e.TakeOver(ctx)
			if err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "images of Clair's could not be recorded; it is tried again", "reason", err)
			}
			// Another process that does it may end before it is done.
			state, stateErr := e.Takeover(ctx)
			look = err != nil || stateErr != nil || state != nil && state.Finished == nil
		}
		if err := e.ProcessUpdates(ctx); err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "updates could not be worked through; they are tried again", "reason", err)
		}
		if err := e.refreshScopes(ctx); err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "what feeds speak of could not be noted; it is tried again", "reason", err)
		}
		if collect {
			// Processes of an earlier version, in a rolling upgrade, do not note it.
			if err := e.surroundAll(ctx); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "what surrounds packages could not be noted; it is tried again", "reason", err)
			}
			err := e.CollectGarbage(ctx)
			if err != nil && !errors.Is(err, ErrUpdatersRun) && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "garbage could not be collected; it is tried again", "reason", err)
			}
			collect = err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-updates.C:
		case <-garbage.C:
			collect, look = true, true // Clair may still be running on this database
		}
	}
}
