package matcher

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// countPending counts updaters whose newest operation is beyond their
	// cursor: latest_update_operations against both kinds of cursor.
	countPending = `
SELECT count(*)
FROM (SELECT DISTINCT ON (updater, kind) updater, kind, id FROM public.update_operation ORDER BY updater, kind, id DESC) newest
LEFT JOIN tocsin.cursor v ON newest.kind = 'vulnerability' AND v.updater = newest.updater
LEFT JOIN tocsin.enrichment_cursor e ON newest.kind = 'enrichment' AND e.updater = newest.updater
WHERE coalesce(v.op_id, e.op_id, 0) < newest.id`

	anyNeeded = `
SELECT EXISTS (
  SELECT FROM public.update_operation o
  LEFT JOIN tocsin.cursor v ON v.updater = o.updater AND o.kind = 'vulnerability'
  LEFT JOIN tocsin.enrichment_cursor e ON e.updater = o.updater AND o.kind = 'enrichment'
  WHERE o.ref = ANY(@refs::uuid[]) AND o.id >= coalesce(v.op_id, e.op_id, 0)
)`
)

// PendingUpdates counts the updaters, of vulnerabilities and of enrichments,
// whose newest update operation has not been processed.
func (e *Engine) PendingUpdates(ctx context.Context) (n int, err error) {
	err = e.pool.QueryRow(ctx, countPending).Scan(&n)
	return n, err
}

// Needs reports whether a cursor still needs one of the update operations,
// because the difference to the next is worked out from it.
func (e *Engine) Needs(ctx context.Context, refs ...uuid.UUID) (needed bool, err error) {
	err = e.pool.QueryRow(ctx, anyNeeded, pgx.NamedArgs{"refs": refs}).Scan(&needed)
	return needed, err
}
