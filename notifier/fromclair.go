package notifier

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Notifications that Clair's own notifier made, on a database that was taken
// over from it: clients that Clair told of them may still read them.

const hasClairNotifier = `SELECT to_regclass('public.receipt') IS NOT NULL AND to_regclass('public.notification_body') IS NOT NULL`

// No migration here makes these tables.
var (
	clairBodies = `
SELECT b.id, b.body
FROM public.notification_body b JOIN public.receipt r ON r.notification_id = b.notification_id AND r.status::text <> 'deleted'
WHERE b.notification_id = @id AND b.id > @after ORDER BY b.id LIMIT @limit`

	clairDelete = `UPDATE public.receipt SET status = 'deleted', ts = now() WHERE notification_id = @id`
)

// clairChange is one change of a notification that Clair's notifier made. Body
// is what Clair wrote of it, without its id.
type clairChange struct {
	ID   uuid.UUID
	Body json.RawMessage
}

// ClairNotification is like [Notifier.Notification], of what Clair's notifier
// left in the database. There are no changes if it was never Clair's.
func (n *Notifier) ClairNotification(ctx context.Context, id, after uuid.UUID, limit int) (changes []clairChange, more bool, err error) {
	if ok, err := n.clairWasHere(ctx); err != nil || !ok {
		return nil, false, err
	}
	rows, err := n.Pool.Query(ctx, clairBodies, pgx.NamedArgs{"id": id, "after": after, "limit": limit + 1})
	if err == nil {
		changes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[clairChange])
	}
	if err != nil {
		return nil, false, fmt.Errorf("notifier: read a notification of Clair's: %w", err)
	}
	if len(changes) > limit {
		return changes[:limit], true, nil
	}
	return changes, false, nil
}

func (n *Notifier) clairWasHere(ctx context.Context) (ok bool, err error) {
	if err := n.Pool.QueryRow(ctx, hasClairNotifier).Scan(&ok); err != nil {
		return false, fmt.Errorf("notifier: look for Clair's tables: %w", err)
	}
	return ok, nil
}

// deleteClair marks a notification of Clair's as Clair does, and reports whether
// there was one.
func (n *Notifier) deleteClair(ctx context.Context, id uuid.UUID) (bool, error) {
	if ok, err := n.clairWasHere(ctx); err != nil || !ok {
		return false, err
	}
	tag, err := n.Pool.Exec(ctx, clairDelete, pgx.NamedArgs{"id": id})
	if err != nil {
		return false, fmt.Errorf("notifier: delete a notification of Clair's: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}
