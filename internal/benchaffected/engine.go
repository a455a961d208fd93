package main

import (
	"context"
	"crypto/sha256"

	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/schemas"
)

// newEngine puts together what the matcher role of a server runs: the engine,
// which announces to the event log, which owes deliveries to the queue.
func newEngine(ctx context.Context, pool *pgxpool.Pool) (*matcher.Engine, *notifier.Log, error) {
	key := sha256.Sum256([]byte("benchaffected"))
	ring, err := secrets.New(key[:])
	if err != nil {
		return nil, nil, err
	}
	queue := delivery.New(pool, delivery.Options{Logger: quiet})
	log, err := notifier.New(notifier.Options{Pool: pool, Enqueuer: queue, Keyring: ring, Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	e, err := matcher.New(ctx, matcher.Options{Pool: pool, Announcer: log, Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	log.Use(e, nil)
	return e, log, nil
}

// subscribe makes the one subscription there is: to everything.
func subscribe(ctx context.Context, log *notifier.Log) error {
	_, _, err := log.CreateSubscription(ctx, "bench", schemas.Subscription{
		Name: "everything", Protocol: schemas.ProtocolHTTP, Sink: "https://receiver.example/events",
	})
	return err
}
