package subscription

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/schemas"
)

const setState = `
UPDATE tocsin.subscription SET state = @state, reason = '', version = version + 1
WHERE id = @id AND deleted_at IS NULL AND (@owner = '' OR owner = @owner) AND state = ANY(@from)`

// Pause holds deliveries back: they wait until the subscription is resumed. One
// that is disabled can't be paused: [problem.Conflict].
func (st *Store) Pause(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return st.setState(ctx, owner, id, schemas.StatePaused, schemas.StateActive)
}

// Resume delivers what waited while the subscription was paused. One that was
// disabled is matched again from now on. One that is active, and left alone
// because its target asked for a pause or its breaker is open, is tried now.
func (st *Store) Resume(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return st.setState(ctx, owner, id, schemas.StateActive, schemas.StateActive, schemas.StatePaused, schemas.StateDisabled)
}

func (st *Store) setState(ctx context.Context, owner, id, state string, from ...string) (schemas.Subscription, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return schemas.Subscription{}, noSuch(id)
	}
	tag, err := st.Pool.Exec(ctx, setState, pgx.NamedArgs{"id": u, "owner": owner, "state": state, "from": from})
	if err != nil {
		return schemas.Subscription{}, fmt.Errorf("notifier: set subscription %s: %w", state, err)
	}
	s, err := st.Get(ctx, owner, id)
	if err == nil && tag.RowsAffected() == 0 && s.State != state {
		return s, problem.New(problem.Conflict, "subscription %s is %s; resume it first", id, s.State)
	}
	st.wake()
	return s, err
}

const disableSubscription = `
UPDATE tocsin.subscription SET state = 'disabled', reason = @reason, version = version + 1
WHERE id = @id AND state <> 'disabled' AND deleted_at IS NULL`

// Disable disables a subscription in tx, and reports whether it did: one that
// is disabled or deleted already is not changed.
func Disable(ctx context.Context, tx pgx.Tx, id uuid.UUID, reason string) (bool, error) {
	tag, err := tx.Exec(ctx, disableSubscription, pgx.NamedArgs{"id": id, "reason": reason})
	if err != nil {
		return false, fmt.Errorf("notifier: disable subscription %s: %w", id, err)
	}
	return tag.RowsAffected() > 0, nil
}

const ownerOf = `SELECT owner FROM tocsin.subscription WHERE id = @id`

// Owner is a subscription's owner, as db sees it; "" if it has none or does not
// exist.
func Owner(ctx context.Context, db querier, id uuid.UUID) (owner string, err error) {
	err = db.QueryRow(ctx, ownerOf, pgx.NamedArgs{"id": id}).Scan(&owner)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("notifier: read the owner of subscription %s: %w", id, err)
	}
	return owner, nil
}
