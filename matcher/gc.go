package matcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrUpdatersRun is returned by [Engine.CollectGarbage] while an updater runs:
// it might be about to use a row that nothing refers to yet.
var ErrUpdatersRun = errors.New("updaters are running, garbage is left for later")

const (
	// A transaction holds the lock, since a session may be a pooler's. It is idle
	// for as long as the work takes; a server may be set to end those sooner.
	stayIdle = `SET LOCAL idle_in_transaction_session_timeout = 0`
	tryLock  = `SELECT pg_try_advisory_xact_lock(@key)`

	// spentOperations lists, oldest first, the operations beyond the newest of
	// an updater that no cursor will look at again.
	spentOperations = `
SELECT o.ref
FROM (
  SELECT id, ref, updater, kind, row_number() OVER (PARTITION BY updater, kind ORDER BY id DESC) AS nth
  FROM public.update_operation
) o
JOIN (
  SELECT updater, op_id, 'vulnerability' AS kind FROM tocsin.cursor
  UNION ALL SELECT updater, op_id, 'enrichment' FROM tocsin.enrichment_cursor
) c ON c.updater = o.updater AND c.kind = o.kind
WHERE o.nth > @keep AND o.id < c.op_id
ORDER BY o.id`

	// spentBatch is how many operations are deleted in one statement, which
	// takes their rows of associations along.
	spentBatch = 20
	// keepAll makes claircore's own collection leave operations alone.
	keepAll = 1 << 30
)

// CollectGarbage deletes update operations beyond the newest Retention of each
// updater, except those that its cursor still needs, then vulnerabilities and
// enrichments that no operation has, then changes older than History. Whoever
// runs updaters holds [UpdateLockKey] shared, and must not let claircore
// collect garbage by itself. Events read the same afterwards.
func (e *Engine) CollectGarbage(ctx context.Context) error {
	unlock, locked, err := e.tryLock(ctx, UpdateLockKey)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if !locked {
		return ErrUpdatersRun
	}
	defer unlock()
	if err := e.collectOperations(ctx); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if e.opts.History > 0 {
		if err := e.forgetHistory(ctx, time.Now().Add(-e.opts.History)); err != nil {
			return fmt.Errorf("collect garbage: %w", err)
		}
	}
	return nil
}

func (e *Engine) collectOperations(ctx context.Context) error {
	rows, err := e.pool.Query(ctx, spentOperations, pgx.NamedArgs{"keep": e.opts.Retention})
	if err != nil {
		return err
	}
	refs, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(refs, spentBatch) {
		if _, err := e.store.DeleteUpdateOperations(ctx, batch...); err != nil {
			return err
		}
	}
	for {
		left, err := e.store.GC(ctx, keepAll)
		if err != nil || left == 0 {
			return err
		}
	}
}

// tryLock takes the lock key for this process, if nobody has it, until unlock.
func (e *Engine) tryLock(ctx context.Context, key int64) (unlock func(), locked bool, err error) {
	tx, err := e.pool.Begin(ctx)
	if err != nil {
		return nil, false, err
	}
	unlock = func() { _ = tx.Rollback(context.WithoutCancel(ctx)) } // a broken connection ends the lock as well
	if _, err = tx.Exec(ctx, stayIdle); err == nil {
		err = tx.QueryRow(ctx, tryLock, pgx.NamedArgs{"key": key}).Scan(&locked)
	}
	if err != nil || !locked {
		unlock()
	}
	return unlock, locked, err
}
