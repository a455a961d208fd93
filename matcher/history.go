package matcher

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// readMarks is asked under the locks, so that no smaller id comes later.
	readMarks = `
SELECT coalesce((SELECT max(id) FROM tocsin.change), 0), coalesce((SELECT max(id) FROM tocsin.inventory), 0)`

	// spentOccurrences lists what only old changes and inventories speak of.
	spentOccurrences = `
WITH spent AS MATERIALIZED (
  SELECT unnest(occurrences) AS id FROM tocsin.inventory WHERE NOT current AND retired_at < @before
  UNION
  SELECT f.occurrence_id FROM tocsin.change_finding f JOIN tocsin.change c ON c.id = f.change_id WHERE c.created_at < @before
)
SELECT s.id FROM spent s
EXCEPT SELECT unnest(occurrences) FROM tocsin.inventory WHERE current OR retired_at >= @before
EXCEPT SELECT f.occurrence_id FROM tocsin.change_finding f JOIN tocsin.change c ON c.id = f.change_id WHERE c.created_at >= @before
ORDER BY 1`

	// forgetOccurrences looks again at what came since the marks. A retired
	// inventory that was there before them was looked at already, and a current
	// one is found by its index.
	forgetOccurrences = `
DELETE FROM tocsin.occurrence o
WHERE o.id = ANY(@ids)
  AND NOT EXISTS (SELECT FROM tocsin.inventory i WHERE i.current AND i.occurrences @> ARRAY[o.id])
  AND NOT o.id = ANY(ARRAY(SELECT unnest(i.occurrences) FROM tocsin.inventory i WHERE i.id > @inventory AND NOT i.current))
  AND NOT o.id = ANY(ARRAY(SELECT f.occurrence_id FROM tocsin.change_finding f WHERE f.change_id > @change))`

	forgetInventories = `DELETE FROM tocsin.inventory WHERE NOT current AND retired_at < @before`
	forgetFindings    = `
DELETE FROM tocsin.change_finding WHERE change_id IN (SELECT id FROM tocsin.change WHERE created_at < @before)`
	forgetChanges    = `DELETE FROM tocsin.change WHERE created_at < @before`
	forgetAdvisories = `
DELETE FROM tocsin.advisory a
WHERE NOT EXISTS (SELECT FROM tocsin.change_finding f WHERE f.advisory_id = a.id)
  AND NOT EXISTS (SELECT FROM tocsin.change_finding f WHERE f.previous_advisory_id = a.id)`

	// forgetBatch is how many occurrences are deleted under one hold of the locks.
	forgetBatch = 1000
)

// forgetHistory deletes changes older than before and what only they spoke of.
// Occurrences go first: what an interruption leaves is found by the inventories
// and findings that are still there.
func (e *Engine) forgetHistory(ctx context.Context, before time.Time) error {
	if err := e.forgetOccurrences(ctx, before); err != nil {
		return err
	}
	args := pgx.NamedArgs{"before": before}
	if _, err := e.pool.Exec(ctx, forgetInventories, args); err != nil {
		return err
	}
	// A change that is being written may speak of an advisory that is there.
	return e.exclusively(ctx, []int64{ChangeKey}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetFindings, args); err != nil {
			return err
		}
		changes, err := tx.Exec(ctx, forgetChanges, args)
		if err != nil || changes.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, forgetAdvisories)
		return err
	})
}

// forgetOccurrences finds without a lock what nothing else refers to, and holds
// up indexing and changes only for a batch of it at a time.
func (e *Engine) forgetOccurrences(ctx context.Context, before time.Time) error {
	both := []int64{ChangeKey, BarrierKey}
	var change, inventory int64
	err := e.exclusively(ctx, both, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, readMarks).Scan(&change, &inventory)
	})
	if err != nil {
		return err
	}
	rows, err := e.pool.Query(ctx, spentOccurrences, pgx.NamedArgs{"before": before})
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(ids, forgetBatch) {
		err := e.exclusively(ctx, both, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, forgetOccurrences, pgx.NamedArgs{"ids": batch, "inventory": inventory, "change": change})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// exclusively runs f in a transaction that holds the locks.
func (e *Engine) exclusively(ctx context.Context, keys []int64, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
		for _, key := range keys {
			if _, err := tx.Exec(ctx, lockBarrier, pgx.NamedArgs{"key": key}); err != nil {
				return err
			}
		}
		return f(tx)
	})
}
