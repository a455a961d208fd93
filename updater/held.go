package updater

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/schemas"
)

// ErrNothingHeld says that no update of that name waits to be accepted.
var ErrNothingHeld = errors.New("no update is held back")

// shrunk tells whether an update from before to now rows takes away more than
// it may: what a feed loses in one step is more often its publisher's mistake
// than withdrawn, and every image would be told of it twice.
func (d *drive) shrunk(now int, before int64) bool {
	return before >= emptyAfter && d.maxDrop < 1 && float64(now) < float64(before)*(1-d.maxDrop)
}

// held is the outcome of an update that shrank too far, unless it was accepted.
func (d *drive) held(ctx context.Context, now int, before int64, out Outcome) (Outcome, bool, error) {
	if !d.shrunk(now, before) {
		return out, false, nil
	}
	accepted, err := d.accepted(ctx)
	if err != nil || accepted {
		return out, false, err
	}
	out.Result, out.Rows, out.Offered = Held, before, int64(now)
	return out, true, nil
}

const selectAccepted = `
SELECT coalesce((SELECT accepted_at IS NOT NULL FROM tocsin.updater_run WHERE set_name = @set AND updater = @updater), false)`

func (r *record) accepted(ctx context.Context, set, updater string) (bool, error) {
	var ok bool
	if err := r.pool.QueryRow(ctx, selectAccepted, pgx.NamedArgs{"set": set, "updater": updater}).Scan(&ok); err != nil {
		return false, fmt.Errorf("record of %s %s: %w", set, updater, err)
	}
	return ok, nil
}

const acceptHeld = `
UPDATE tocsin.updater_run SET accepted_at = clock_timestamp()
WHERE held_since IS NOT NULL AND updater <> '' AND (set_name = @name OR updater = @name)
RETURNING set_name`

// Accept lets the held updates of a set, or of one updater, through: their sets
// run at once and store what the feeds have then. [ErrNothingHeld] if none is
// held back.
func (s *Service) Accept(ctx context.Context, name string) ([]jobs.Job, error) {
	sets, err := s.accept(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.RunNow(ctx, sets)
}

// accept marks held updates as accepted, and returns their sets.
func (s *Service) accept(ctx context.Context, name string) ([]string, error) {
	for _, set := range s.known {
		if set.called(name) {
			name = set.Name
		}
	}
	rows, err := s.pool.Query(ctx, acceptHeld, pgx.NamedArgs{"name": name})
	if err != nil {
		return nil, fmt.Errorf("accept the update of %s: %w", name, err)
	}
	sets, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("accept the update of %s: %w", name, err)
	}
	if len(sets) == 0 {
		return nil, fmt.Errorf("%w for %q (`tocsin updaters status` shows which are)", ErrNothingHeld, name)
	}
	slices.Sort(sets)
	return slices.Compact(sets), nil
}

const (
	holdUpdater = `
UPDATE tocsin.updater_run r
SET finished_at = clock_timestamp(), result = 'held', error = '', fingerprint_changed = true, accepted_at = NULL,
    failures = 0, failing_since = NULL, announced_at = NULL, held_rows = @offered, held_since = coalesce(r.held_since, clock_timestamp())
FROM (SELECT held_since FROM tocsin.updater_run WHERE set_name = @set AND updater = @updater) was
WHERE r.set_name = @set AND r.updater = @updater AND r.job_id = @job
RETURNING was.held_since IS NULL`

	releaseUpdater = `
UPDATE tocsin.updater_run SET held_since = NULL, held_rows = NULL, accepted_at = NULL
WHERE set_name = @set AND updater = @updater AND held_since IS NOT NULL`
)

// hold records that an update is held, and announces it once.
func (r *record) hold(ctx context.Context, tx pgx.Tx, set, updater string, args pgx.NamedArgs, out Outcome) error {
	var first bool
	err := tx.QueryRow(ctx, holdUpdater, args).Scan(&first)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // another job has taken over
	}
	if err != nil {
		return fmt.Errorf("record that the update of %s %s is held: %w", set, updater, err)
	}
	if !first {
		return nil
	}
	data := schemas.UpdateHeld{Set: set, Updater: updater, Rows: out.Offered, Before: out.Rows}
	if err := r.announcer.UpdateHeld(ctx, tx, data); err != nil {
		return fmt.Errorf("announce that the update of %s %s is held: %w", set, updater, err)
	}
	return nil
}
