package matcher

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// ErrUnknownOperation is returned for a reference that is no vulnerability
// update operation, or no more. It is an [ErrUnknownChange].
var ErrUnknownOperation = fmt.Errorf("%w: no such update operation (it may have been garbage-collected)", ErrUnknownChange)

// ManifestDiff is what lies between two update operations for one manifest.
type ManifestDiff struct {
	Manifest schemas.Manifest
	Added    []schemas.Finding
	Removed  []schemas.Finding
	Revised  []schemas.RevisedFinding
}

const findOperation = `SELECT id, ref, date, updater FROM public.update_operation WHERE ref = @ref AND kind = 'vulnerability'`

// diffPage is how many manifests are rendered at a time.
const diffPage = 200

// Diff streams what lies between two update operations of one updater for the
// manifests as they are now, by manifest, leaving out those that don't differ.
// A nil prev is before the first. Nothing is written or announced; a
// transaction stays open until the sequence ends. Errors end it:
// [ErrUnknownOperation], [ErrBadQuestion].
func (e *Engine) Diff(ctx context.Context, prev, cur uuid.UUID) iter.Seq2[ManifestDiff, error] {
	return func(yield func(ManifestDiff, error) bool) {
		stopped := false
		err := e.ask(ctx, func(w *work) error {
			if err := w.between(ctx, prev, cur); err != nil {
				return err
			}
			var after int32
			for {
				found, dict, err := w.holders(ctx, after, diffPage)
				if err != nil || len(found) == 0 {
					return err
				}
				for _, h := range found {
					d, err := h.diff(dict)
					if err != nil {
						return err
					}
					if stopped = !yield(d, nil); stopped {
						return nil
					}
				}
				after = found[len(found)-1].id
			}
		})
		if err != nil && !stopped {
			yield(ManifestDiff{}, fmt.Errorf("difference of updates: %w", err))
		}
	}
}

// between computes the findings between two operations.
func (w *work) between(ctx context.Context, prev, cur uuid.UUID) error {
	s, err := w.stepBetween(ctx, prev, cur)
	if err != nil {
		return err
	}
	args := pgx.NamedArgs{"updater": s.updater, "cur": s.cur.id, "prev": s.prevID()}
	for _, sql := range []string{insertOps, insertTouched} {
		if _, err := w.exec(ctx, sql, args); err != nil {
			return err
		}
	}
	if err := w.consider(ctx); err != nil {
		return err
	}
	if err := w.judgeAll(ctx, w.sql.allCandidates); err != nil {
		return err
	}
	ops, err := enrichmentOps(ctx, w.tx)
	if err != nil {
		return err
	}
	if err := w.rate(ctx, ops, ops); err != nil {
		return err
	}
	if _, err := w.exec(ctx, insertFindings, nil); err != nil {
		return err
	}
	return w.describe(ctx, ops, ops)
}

func (w *work) stepBetween(ctx context.Context, prev, cur uuid.UUID) (*step, error) {
	s := &step{feed: feed{kind: kindVulnerability}}
	read := func(ref uuid.UUID, o *operation) (updater string, err error) {
		err = w.tx.QueryRow(ctx, findOperation, pgx.NamedArgs{"ref": ref}).Scan(&o.id, &o.ref, &o.date, &updater)
		if errors.Is(err, pgx.ErrNoRows) {
			return "", fmt.Errorf("%s: %w", ref, ErrUnknownOperation)
		}
		return updater, err
	}
	var err error
	if s.updater, err = read(cur, &s.cur); err != nil || prev == uuid.Nil {
		return s, err
	}
	s.prev = new(operation)
	updater, err := read(prev, s.prev)
	if err == nil && updater != s.updater {
		err = fmt.Errorf("%w: %s is an update of %s, %s one of %s", ErrBadQuestion, prev, updater, cur, s.updater)
	}
	return s, err
}

func (h *held) diff(dict *dictionary) (ManifestDiff, error) {
	d := ManifestDiff{
		Manifest: h.manifest,
		Added:    []schemas.Finding{}, Removed: []schemas.Finding{}, Revised: []schemas.RevisedFinding{},
	}
	for _, l := range h.lines {
		f, changes, err := dict.finding(l)
		if err != nil {
			return d, err
		}
		switch l.kind {
		case added:
			d.Added = append(d.Added, f)
		case removed:
			d.Removed = append(d.Removed, f)
		case revised:
			d.Revised = append(d.Revised, schemas.RevisedFinding{Finding: f, Changes: changes})
		}
	}
	return d, nil
}
