package matcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

const (
	// Another updater's operation counts on both sides: a row that feeds share
	// is in reports as long as one of them has it.
	insertOps = `
INSERT INTO op (uo, before, after)
SELECT op_id, true, true FROM tocsin.cursor WHERE updater <> @updater
UNION ALL SELECT @cur::bigint, false, true
UNION ALL SELECT @prev::bigint, true, false WHERE @prev <> 0`

	insertTouched = `
INSERT INTO touched (identity, updater, name)
SELECT row_number() OVER (), t.updater, t.name
FROM (
  SELECT DISTINCT v.updater, v.name
  FROM (
    (SELECT vuln FROM public.uo_vuln WHERE uo = @cur EXCEPT SELECT vuln FROM public.uo_vuln WHERE uo = @prev)
    UNION ALL
    (SELECT vuln FROM public.uo_vuln WHERE uo = @prev EXCEPT SELECT vuln FROM public.uo_vuln WHERE uo = @cur)
  ) d JOIN public.vuln v ON v.id = d.vuln
  WHERE NOT v.not_vulnerable
) t`

	// countAdvisories counts the advisories that the step added, removed and
	// revised, whether or not an image has them.
	countAdvisories = `
SELECT count(*) FILTER (WHERE after AND NOT before), count(*) FILTER (WHERE before AND NOT after),
  count(*) FILTER (WHERE before AND after AND differs)
FROM (
  SELECT bool_or(before) AS before, bool_or(after) AS after, bool_or(before <> after) AS differs
  FROM (SELECT identity, bool_or(before) AS before, bool_or(after) AS after FROM considered GROUP BY identity, sig) s
  GROUP BY identity
) a`

	// insertFindings compares before and after. A revised finding is spoken for
	// by the rows that make the difference.
	insertFindings = `
INSERT INTO finding (occurrence, kind, vuln, previous)
SELECT occurrence, CASE WHEN NOT before THEN 0 WHEN NOT after THEN 1 ELSE 2 END,
  CASE WHEN NOT after THEN old WHEN before THEN coalesce(fresh, new) ELSE new END & ((1::bigint << 56) - 1),
  CASE WHEN before AND after THEN coalesce(stale, old) & ((1::bigint << 56) - 1) END
FROM (
  SELECT occurrence, bool_or(before) AS before, bool_or(after) AS after, bool_or(before <> after) AS differs,
    min(old) AS old, min(new) AS new, min(new) FILTER (WHERE NOT before) AS fresh, min(old) FILTER (WHERE NOT after) AS stale
  FROM (
    SELECT c.identity, d.occurrence, bool_or(c.before AND r.before) AS before, bool_or(c.after AND r.after) AS after,
      min(r.pref) FILTER (WHERE c.before AND r.before) AS old, min(r.pref) FILTER (WHERE c.after AND r.after) AS new
    FROM verdict d JOIN considered c ON c.vuln = d.vuln JOIN rated r ON r.vuln = d.vuln
    GROUP BY c.identity, d.occurrence, r.sig
  ) s
  WHERE before OR after
  GROUP BY identity, occurrence
) f
WHERE NOT (before AND after) OR differs`
)

// vulnerabilityChange does one step of a vulnerability updater. What takes
// long happens before indexing is held up: of the occurrences, only those that
// come in the meantime are judged under the barrier.
func (e *Engine) vulnerabilityChange(ctx context.Context, tx pgx.Tx, s *step) (done schemas.UpdateCompleted, err error) {
	w, err := e.begin(ctx, tx)
	if err != nil {
		return done, err
	}
	args := pgx.NamedArgs{"updater": s.updater, "cur": s.cur.id, "prev": s.prevID()}
	if _, err := w.exec(ctx, insertOps, args); err != nil {
		return done, err
	}
	if _, err := w.exec(ctx, insertTouched, args); err != nil {
		return done, fmt.Errorf("difference of the operations: %w", err)
	}
	if err := w.consider(ctx); err != nil {
		return done, err
	}
	done.Update = s.update()
	if err := tx.QueryRow(ctx, countAdvisories).Scan(&done.Added, &done.Removed, &done.Revised); err != nil {
		return done, err
	}
	if err := w.judgeUnderBarrier(ctx); err != nil {
		return done, err
	}
	ops, err := enrichmentOps(ctx, tx)
	if err != nil {
		return done, err
	}
	if err := w.compare(ctx, ops, ops); err != nil {
		return done, err
	}
	return w.finish(ctx, s, done)
}

// compare finds what has changed among the vulnerable pairs, with the
// enrichments of before and of after, and stores what the findings say.
func (w *work) compare(ctx context.Context, before, after enrichments) error {
	if err := w.rate(ctx, before, after); err != nil {
		return err
	}
	if _, err := w.exec(ctx, insertFindings, nil); err != nil {
		return fmt.Errorf("findings: %w", err)
	}
	if err := w.describe(ctx, before, after); err != nil {
		return err
	}
	if _, err := w.exec(ctx, insertAdvisories, nil); err != nil {
		return fmt.Errorf("advisories: %w", err)
	}
	return nil
}

// judgeUnderBarrier judges what can be judged while manifests are indexed,
// stops indexing until the transaction ends, and judges the rest.
func (w *work) judgeUnderBarrier(ctx context.Context) error {
	if err := w.judgeAll(ctx, w.sql.allCandidates); err != nil {
		return err
	}
	if _, err := w.exec(ctx, lockBarrier, pgx.NamedArgs{"key": BarrierKey}); err != nil {
		return err
	}
	return w.judgeAll(ctx, w.sql.newCandidates)
}

const insertChange = `
INSERT INTO tocsin.change (kind, updater, ref, previous, date, first_load)
VALUES (@kind, @updater, @ref, @previous, @date, @first) RETURNING id`

// finish writes the change, moves the cursor, and announces. It returns done,
// completed.
func (w *work) finish(ctx context.Context, s *step, done schemas.UpdateCompleted) (schemas.UpdateCompleted, error) {
	args := pgx.NamedArgs{
		"kind": s.kind, "updater": s.updater, "ref": s.cur.ref, "previous": nil, "date": s.cur.date, "first": s.prev == nil,
	}
	if s.prev != nil {
		args["previous"] = s.prev.ref
	}
	var change int64
	if err := w.tx.QueryRow(ctx, insertChange, args).Scan(&change); err != nil {
		return done, fmt.Errorf("change: %w", err)
	}
	affected, err := w.expand(ctx, change)
	if err != nil {
		return done, err
	}
	if err := s.move(ctx, w.tx); err != nil {
		return done, fmt.Errorf("cursor: %w", err)
	}
	if affected > 0 {
		if _, err := w.announcer.ManifestsChanged(ctx, w.tx, change, done.Update); err != nil {
			return done, fmt.Errorf("announce changed manifests: %w", err)
		}
	}
	done.Manifests = int(affected)
	done.Skipped, done.Reasons = w.skips.Count(), w.skips.reasons()
	if err := w.announcer.UpdateCompleted(ctx, w.tx, done); err != nil {
		return done, fmt.Errorf("announce the update: %w", err)
	}
	return done, nil
}
