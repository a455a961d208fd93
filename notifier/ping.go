package notifier

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// PingSubscription sends a test event to a subscription alone, whatever its
// filters, and returns the event's id.
func (l *Log) PingSubscription(ctx context.Context, owner, id string) (string, error) {
	s, err := l.GetSubscription(ctx, owner, id)
	if err != nil {
		return "", err
	}
	if s.State == schemas.StateDisabled {
		return "", fmt.Errorf("subscription %s is disabled; resume it first: %w", id, ErrConflict)
	}
	r, err := l.newRecord(ctx, schemas.TypePing, "", schemas.Extensions{}, schemas.Ping{
		Subscription: s.ID, Message: "This is a test. Had this been a vulnerability, you would know by now.",
	})
	if err != nil {
		return "", err
	}
	r.scope = &scope{Subscription: s.ID}
	err = pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
		if err := r.insert(ctx, tx); err != nil {
			return err
		}
		return l.enqueue(ctx, tx, []schemas.Owed{{EventID: r.id, SubscriptionID: uuid.MustParse(s.ID)}})
	})
	if err != nil {
		return "", err
	}
	l.metrics.events.WithLabelValues(r.Type).Inc()
	l.wakeDelivery()
	return r.ID, nil
}
