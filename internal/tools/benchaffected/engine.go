package main

import (
	"context"
	"crypto/sha256"

	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

// newEngine puts together what the matcher role of a server runs: the engine,
// which announces to the event log, which enqueues deliveries; and the
// subscriptions.
func newEngine(ctx context.Context, pool *pgxpool.Pool) (*matcher.Engine, *subscription.Store, error) {
	key := sha256.Sum256([]byte("benchaffected"))
	ring, err := secrets.New(key[:])
	if err != nil {
		return nil, nil, err
	}
	filters, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		return nil, nil, err
	}
	subs, err := subscription.New(subscription.Options{Pool: pool, Filters: filters, Keyring: ring, Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	writer, err := eventlog.NewWriter(eventlog.WriterOptions{Pool: pool})
	if err != nil {
		return nil, nil, err
	}
	announcer, err := notifier.NewAnnouncer(notifier.AnnouncerOptions{
		Events: writer, Subscriptions: subs, Enqueuer: delivery.NewStore(pool, delivery.StoreOptions{}), Logger: quiet,
	})
	if err != nil {
		return nil, nil, err
	}
	e, err := matcher.New(ctx, matcher.Options{Pool: pool, Announcer: announcer, Logger: quiet})
	return e, subs, err
}

// subscribe makes the one subscription there is: to everything.
func subscribe(ctx context.Context, subs *subscription.Store) error {
	_, _, err := subs.Create(ctx, "bench", schemas.Subscription{
		Name: "everything", Protocol: schemas.ProtocolHTTP, Sink: "https://receiver.example/events",
	})
	return err
}
