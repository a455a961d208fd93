package subscription

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
)

const subscriptionsOwned = `SELECT id FROM tocsin.subscription WHERE owner = @owner`

// OwnedBy lists the ids of an owner's subscriptions, deleted ones included,
// since their deliveries are still there. It never returns nil.
func (st *Store) OwnedBy(ctx context.Context, owner string) ([]uuid.UUID, error) {
	rows, err := st.Pool.Query(ctx, subscriptionsOwned, pgx.NamedArgs{"owner": owner})
	if err != nil {
		return nil, fmt.Errorf("subscription: read an owner's subscriptions: %w", err)
	}
	ids, err := pgx.AppendRows([]uuid.UUID{}, rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("subscription: read an owner's subscriptions: %w", err)
	}
	return ids, nil
}

// The lock is the owner's, so that creations at the same time count one another.
const (
	lockOwner = `SELECT pg_advisory_xact_lock(hashtextextended('tocsin.subscriptions.' || @owner::text, 0))`

	countOwned = `
SELECT count(*), coalesce(bool_or(key = @key), false) FROM tocsin.subscription WHERE owner = @owner AND deleted_at IS NULL`
)

// room refuses one subscription more than an owner may have. One with a key that
// the owner has used already is none more.
func (st *Store) room(ctx context.Context, tx pgx.Tx, owner, key string) error {
	if _, err := tx.Exec(ctx, lockOwner, pgx.NamedArgs{"owner": owner}); err != nil {
		return fmt.Errorf("subscription: count an owner's subscriptions: %w", err)
	}
	var n int
	var known bool
	if err := tx.QueryRow(ctx, countOwned, pgx.NamedArgs{"owner": owner, "key": key}).Scan(&n, &known); err != nil {
		return fmt.Errorf("subscription: count an owner's subscriptions: %w", err)
	}
	if n >= st.MaxPerOwner && !known {
		return problem.New(problem.Conflict, "%s has %d subscriptions, which is the limit (notifier.max_subscriptions); delete some that are not needed", owner, n)
	}
	return nil
}

// listed is a subscription in a list that says how each fares.
type listed struct {
	ID          uuid.UUID
	Name, State string
}

const statesOfOwner = `
SELECT id, coalesce(spec->>'name', ''), state FROM tocsin.subscription
WHERE deleted_at IS NULL AND (@owner = '' OR owner = @owner) ORDER BY id`

// States lists an owner's subscriptions, or everybody's if owner is
// empty, oldest first.
func (st *Store) States(ctx context.Context, owner string) ([]listed, error) {
	rows, err := st.Pool.Query(ctx, statesOfOwner, pgx.NamedArgs{"owner": owner})
	if err != nil {
		return nil, fmt.Errorf("subscription: read states of subscriptions: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[listed])
	if err != nil {
		return nil, fmt.Errorf("subscription: read states of subscriptions: %w", err)
	}
	return list, nil
}
