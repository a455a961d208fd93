package notifier

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

const setState = `
UPDATE tocsin.subscription SET state = @state, reason = '', version = version + 1
WHERE id = @id AND deleted_at IS NULL AND (@owner = '' OR owner = @owner) AND state = ANY(@from)`

// PauseSubscription holds deliveries back; they gather until it is resumed. A
// disabled subscription is ErrConflict.
func (l *Log) PauseSubscription(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return l.setState(ctx, owner, id, schemas.StatePaused, schemas.StateActive)
}

// ResumeSubscription delivers what gathered while the subscription was paused.
// One that was disabled is matched again from now on; what it missed, Select
// finds.
func (l *Log) ResumeSubscription(ctx context.Context, owner, id string) (schemas.Subscription, error) {
	return l.setState(ctx, owner, id, schemas.StateActive, schemas.StatePaused, schemas.StateDisabled)
}

func (l *Log) setState(ctx context.Context, owner, id, state string, from ...string) (schemas.Subscription, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return schemas.Subscription{}, fmt.Errorf("subscription %s: %w", clip(id), ErrNotFound)
	}
	tag, err := l.Pool.Exec(ctx, setState, pgx.NamedArgs{"id": u, "owner": owner, "state": state, "from": from})
	if err != nil {
		return schemas.Subscription{}, fmt.Errorf("notifier: set subscription %s: %w", state, err)
	}
	s, err := l.GetSubscription(ctx, owner, id)
	if err == nil && tag.RowsAffected() == 0 && s.State != state {
		return s, fmt.Errorf("subscription %s is %s; resume it first: %w", id, s.State, ErrConflict)
	}
	l.wakeDelivery()
	return s, err
}

func (l *Log) wakeDelivery() {
	if l.Waker != nil {
		l.Waker.Wake(WakeDelivery)
	}
}
