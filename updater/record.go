package updater

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/schemas"
)

// An Announcer records events about updates in the transaction that it is given.
type Announcer interface {
	UpdateFailed(ctx context.Context, tx pgx.Tx, data schemas.UpdateFailed) error
	UpdateHeld(ctx context.Context, tx pgx.Tx, data schemas.UpdateHeld) error
	UpdateStale(ctx context.Context, tx pgx.Tx, data schemas.UpdateStale) error
}

// announceAgain is how long a failure that was announced and goes on is kept
// quiet about.
const announceAgain = 24 * time.Hour

// A record keeps what every updater last did, and announces failures.
type record struct {
	pool      *pgxpool.Pool
	announcer Announcer
	// staleAfter is how long an updater may fail before its data are announced
	// to be stale.
	staleAfter time.Duration
	// dependents counts the images that feeds speak of; known is false for feeds
	// that were never loaded. May be nil.
	dependents func(ctx context.Context, updaters ...string) (images int, known bool, err error)
	log        *slog.Logger
}

// claim marks the set as started by the job, and reports whether it is the
// job's to run. A job of the schedule names the start that it was counted from:
// if another start came in between, its tick has been served. A job that was
// interrupted finds its own claim.
func (r *record) claim(ctx context.Context, set string, job uuid.UUID, manual bool, after time.Time) (bool, error) {
	args := pgx.NamedArgs{"set": set, "job": job, "manual": manual, "after": nil}
	if !after.IsZero() {
		args["after"] = after
	}
	tag, err := r.pool.Exec(ctx, claimSet, args)
	if err != nil {
		return false, fmt.Errorf("claim the run of %s: %w", set, err)
	}
	return tag.RowsAffected() == 1, nil
}

const claimSet = `
INSERT INTO tocsin.updater_run AS r (set_name, updater, job_id, started_at, result)
VALUES (@set, '', @job, clock_timestamp(), 'running')
ON CONFLICT (set_name, updater) DO UPDATE
SET job_id = @job, started_at = clock_timestamp(), finished_at = NULL, result = 'running', error = ''
WHERE @manual::boolean OR r.job_id = @job OR r.started_at IS NOT DISTINCT FROM @after::timestamptz`

// last returns what the schedule needs to know, by set.
func (r *record) last(ctx context.Context) (map[string]lastRun, error) {
	rows, err := r.pool.Query(ctx, selectLast)
	if err != nil {
		return nil, fmt.Errorf("last runs: %w", err)
	}
	out := make(map[string]lastRun)
	var (
		set      string
		last     lastRun
		finished *time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&set, &last.started, &finished, &last.failures}, func() error {
		out[set] = last
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("last runs: %w", err)
	}
	return out, nil
}

// A set counts as failed when it could not be discovered or one of its updaters
// failed: all are tried again, and those that did well find nothing new.
const selectLast = `
SELECT s.set_name, s.started_at, s.finished_at,
       greatest(s.failures, coalesce((SELECT max(u.failures) FROM tocsin.updater_run u
                                      WHERE u.set_name = s.set_name AND u.result = 'failed'), 0))
FROM tocsin.updater_run s
WHERE s.updater = ''`

// start marks an updater of the set as running.
func (r *record) start(ctx context.Context, set, updater string, job uuid.UUID) error {
	_, err := r.pool.Exec(ctx, startUpdater, pgx.NamedArgs{"set": set, "updater": updater, "job": job})
	if err != nil {
		return fmt.Errorf("record the start of %s: %w", updater, err)
	}
	return nil
}

const startUpdater = `
INSERT INTO tocsin.updater_run (set_name, updater, job_id, started_at, result)
VALUES (@set, @updater, @job, clock_timestamp(), 'running')
ON CONFLICT (set_name, updater) DO UPDATE
SET job_id = @job, started_at = clock_timestamp(), finished_at = NULL, result = 'running', error = ''`

// present marks the updaters that the set no longer has.
func (r *record) present(ctx context.Context, set string, updaters []string) error {
	_, err := r.pool.Exec(ctx, markGone, pgx.NamedArgs{"set": set, "updaters": updaters})
	if err != nil {
		return fmt.Errorf("record the updaters of %s: %w", set, err)
	}
	return nil
}

const markGone = `
UPDATE tocsin.updater_run
SET result = 'gone', error = '', failures = 0, failing_since = NULL, announced_at = NULL, stale_at = NULL
WHERE set_name = @set AND updater <> '' AND NOT updater = ANY(@updaters::text[])`

// finish records how an updater's run ended, or the set's if updater is empty,
// and announces a failure, and that the data are stale, if that is due.
func (r *record) finish(ctx context.Context, set, updater string, job uuid.UUID, out Outcome) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if out.Result == Held {
			args := pgx.NamedArgs{"set": set, "updater": updater, "job": job, "offered": out.Offered}
			return r.hold(ctx, tx, set, updater, args, out)
		}
		var (
			f      failing
			lastOK *time.Time
			now    time.Time
		)
		err := tx.QueryRow(ctx, selectFailing, pgx.NamedArgs{"set": set, "updater": updater, "job": job}).Scan(&f.count, &f.since, &f.announced, &f.stale, &lastOK, &now)
		if errors.Is(err, pgx.ErrNoRows) {
			// Another job has taken over and records the end itself.
			return nil
		}
		if err != nil {
			return fmt.Errorf("record of %s %s: %w", set, updater, err)
		}
		f, announce := f.after(out.Result == Failed, now)
		stale := f.isStale(lastOK, now, r.staleAfter)
		var images *int
		if stale {
			if images, err = r.imagesOf(ctx, tx, set, updater); err != nil {
				return err
			}
			// Nobody misses it yet. If somebody comes to, the next run says so.
			stale = images == nil || *images > 0
		}
		if stale {
			f.stale = &now
		}
		args := pgx.NamedArgs{
			"set": set, "updater": updater, "result": string(out.Result), "error": "", "ref": nil, "rows": out.Rows,
			"changed": out.FingerprintChanged, "failures": f.count, "since": f.since, "announced": f.announced, "stale": f.stale,
		}
		if out.Err != nil {
			args["error"] = reason(out.Err)
		}
		if out.Ref != uuid.Nil {
			args["ref"] = out.Ref
		}
		if _, err := tx.Exec(ctx, finishUpdater, args); err != nil {
			return fmt.Errorf("record the end of %s %s: %w", set, updater, err)
		}
		if out.Result == Updated || out.Result == Unchanged {
			if _, err := tx.Exec(ctx, releaseUpdater, pgx.NamedArgs{"set": set, "updater": updater}); err != nil {
				return fmt.Errorf("record that nothing of %s %s is held: %w", set, updater, err)
			}
		}
		if updater == "" && out.Result == Failed {
			if _, err := tx.Exec(ctx, giveUpUpdaters, pgx.NamedArgs{"set": set, "job": job, "error": args["error"]}); err != nil {
				return fmt.Errorf("record that the run of %s was given up: %w", set, err)
			}
		}
		if stale {
			data := schemas.UpdateStale{Set: set, Updater: updater, Reason: reason(out.Err), FailingSince: f.since.UTC(), LastSuccess: lastOK, Images: images}
			if err := r.announcer.UpdateStale(ctx, tx, data); err != nil {
				return fmt.Errorf("announce that %s %s is stale: %w", set, updater, err)
			}
		}
		if !announce {
			return nil
		}
		if err := r.announcer.UpdateFailed(ctx, tx, schemas.UpdateFailed{Set: set, Updater: updater, Reason: reason(out.Err)}); err != nil {
			return fmt.Errorf("announce the failure of %s %s: %w", set, updater, err)
		}
		return nil
	})
}

// imagesOf counts the images that an updater's feed speaks of, or any of the
// set's if updater is empty; nil if that is not known.
func (r *record) imagesOf(ctx context.Context, tx pgx.Tx, set, updater string) (*int, error) {
	if r.dependents == nil {
		return nil, nil
	}
	updaters := []string{updater}
	if updater == "" {
		rows, err := tx.Query(ctx, selectUpdaters, pgx.NamedArgs{"set": set})
		if err == nil {
			updaters, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			return nil, fmt.Errorf("updaters of %s: %w", set, err)
		}
	}
	n, known, err := r.dependents(ctx, updaters...)
	if err != nil {
		// It is stale all the same.
		r.log.WarnContext(ctx, "images that depend on a stale feed could not be counted", "set", set, "updater", updater, "reason", err)
		return nil, nil
	}
	if !known {
		return nil, nil
	}
	return &n, nil
}

const (
	selectUpdaters = `SELECT updater FROM tocsin.updater_run WHERE set_name = @set AND updater <> '' AND result <> 'gone'`

	// The updaters that were under way when their set was given up.
	giveUpUpdaters = `
UPDATE tocsin.updater_run
SET result = 'failed', error = @error, finished_at = clock_timestamp(), failures = failures + 1,
    failing_since = coalesce(failing_since, clock_timestamp())
WHERE set_name = @set AND updater <> '' AND job_id = @job AND result = 'running'`

	selectFailing = `
SELECT failures, failing_since, announced_at, stale_at, succeeded_at, clock_timestamp() FROM tocsin.updater_run
WHERE set_name = @set AND updater = @updater AND job_id = @job
FOR UPDATE`

	finishUpdater = `
UPDATE tocsin.updater_run
SET finished_at = clock_timestamp(), result = @result, error = @error, fingerprint_changed = @changed,
    failures = @failures, failing_since = @since, announced_at = @announced, stale_at = @stale,
    ref = coalesce(@ref::uuid, ref),
    stored_at = CASE WHEN @ref::uuid IS NULL THEN stored_at ELSE clock_timestamp() END,
    vulnerabilities = CASE WHEN @result = 'failed' THEN vulnerabilities ELSE @rows END,
    succeeded_at = CASE WHEN @result = 'failed' THEN succeeded_at ELSE clock_timestamp() END
WHERE set_name = @set AND updater = @updater`
)

// reason is an error's text as a row and an event may hold it: a feed's address,
// which claircore's errors quote, without its password, and what a server made
// claircore say as valid text of bounded length.
func reason(err error) string {
	const most = 2 << 10
	return text.Clip(text.Clean(text.Redact(err.Error())), most)
}

// failing is what is remembered of failures in a row.
type failing struct {
	count     int
	since     *time.Time
	announced *time.Time
	stale     *time.Time
}

// after returns the state after one more run, and whether to announce it: the
// first failure of a row is announced, and then one a day while it lasts.
func (f failing) after(failed bool, now time.Time) (failing, bool) {
	if !failed {
		return failing{}, false
	}
	f.count++
	if f.since == nil {
		f.since = &now
	}
	if f.announced != nil && now.Sub(*f.announced) < announceAgain {
		return f, false
	}
	f.announced = &now
	return f, true
}

// isStale reports whether it is due to say that the data are stale: an updater
// goes on failing, and it was longer ago than it may be that it last ran well
// or, if it never has, that it began to fail.
func (f failing) isStale(lastOK *time.Time, now time.Time, limit time.Duration) bool {
	if f.since == nil || f.stale != nil {
		return false
	}
	good := *f.since
	if lastOK != nil {
		good = *lastOK
	}
	return now.Sub(good) > limit
}
