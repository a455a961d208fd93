package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

// WakeSubject is where a hint says that something is due.
const WakeSubject = bus.WakeDelivery

// StoreOptions is what a store works with. The zero value is usable.
type StoreOptions struct {
	// Wake is called when deliveries were made due, so that workers need not
	// find out by themselves: a hint on [WakeSubject]. It must not block.
	Wake func()
	// Clock tells the time; [time.Now].
	Clock func() time.Time
}

// Store is the delivery queue as those see it who put something in, ask what
// became of it, or have it sent again. A [Worker] delivers what is in it. All
// methods are safe for concurrent use.
type Store struct {
	db   *pgxpool.Pool
	wake func()
	now  func() time.Time
}

// NewStore returns the queue in db.
func NewStore(db *pgxpool.Pool, o StoreOptions) *Store {
	s := &Store{db: db, wake: o.Wake, now: o.Clock}
	if s.wake == nil {
		s.wake = func() {}
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Enqueue writes down in tx that each event is to go to its subscription; a
// pair that stands twice in pending is delivered once. Deliveries of one
// subscription are in the order of pending. After the transaction has
// committed, a hint on [WakeSubject] saves the workers' poll interval.
//
// The caller sees to it that an event is enqueued in one transaction only.
func (s *Store) Enqueue(ctx context.Context, tx pgx.Tx, pending []schemas.NewDelivery) error {
	seen := make(map[schemas.NewDelivery]struct{}, len(pending))
	next := 0
	rows := pgx.CopyFromFunc(func() ([]any, error) {
		for next < len(pending) {
			p := pending[next]
			next++
			if _, dup := seen[p]; dup {
				continue
			}
			seen[p] = struct{}{}
			id := uuid7.New()
			return []any{[16]byte(id), p.EventID, p.SubscriptionID}, nil
		}
		return nil, nil
	})
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"tocsin", "queue"}, []string{"id", "event_id", "subscription_id"}, rows); err != nil {
		return fmt.Errorf("enqueue %d deliveries: %w", len(pending), err)
	}
	return nil
}
