package delivery

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// Enqueue writes down in tx that each event is owed to its subscription; a
// pair that stands twice in owed is owed once. Deliveries of one subscription
// are in the order of owed. After the transaction has committed, a hint on
// [WakeSubject] saves the queue's poll interval.
//
// The caller sees to it that an event is enqueued in one transaction only.
func (q *Queue) Enqueue(ctx context.Context, tx pgx.Tx, owed []schemas.Owed) error {
	seen := make(map[schemas.Owed]struct{}, len(owed))
	next := 0
	rows := pgx.CopyFromFunc(func() ([]any, error) {
		for next < len(owed) {
			o := owed[next]
			next++
			if _, dup := seen[o]; dup {
				continue
			}
			seen[o] = struct{}{}
			id, err := uuid.NewV7()
			if err != nil {
				return nil, err
			}
			return []any{[16]byte(id), o.EventID, o.SubscriptionID}, nil
		}
		return nil, nil
	})
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"tocsin", "queue"}, []string{"id", "event_id", "subscription_id"}, rows); err != nil {
		return fmt.Errorf("enqueue %d deliveries: %w", len(owed), err)
	}
	return nil
}
