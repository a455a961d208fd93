package notifier

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// Ping sends a test event to one subscription, whatever its filters, and returns
// the event's id.
func (n *Notifier) Ping(ctx context.Context, owner, id string) (string, error) {
	s, err := n.Subscriptions.Get(ctx, owner, id)
	if err != nil {
		return "", err
	}
	if s.State == schemas.StateDisabled {
		return "", problem.New(problem.Conflict, "subscription %s is disabled; resume it first", id)
	}
	r, err := n.Events.New(ctx, schemas.TypePing, "", schemas.Extensions{}, schemas.Ping{
		Subscription: s.ID, Message: "This is a test. Had this been a vulnerability, you would know by now.",
	})
	if err != nil {
		return "", err
	}
	r.Scope = &eventlog.Scope{Subscription: s.ID}
	err = pgx.BeginFunc(ctx, n.Pool, func(tx pgx.Tx) error {
		if err := r.Insert(ctx, tx); err != nil {
			return err
		}
		n.hint(tx)
		return n.enqueue(ctx, tx, []schemas.NewDelivery{{EventID: r.UUID, SubscriptionID: uuid.MustParse(s.ID)}})
	})
	if err != nil {
		return "", err
	}
	n.metrics.events.WithLabelValues(r.Type).Inc()
	return r.ID, nil
}
