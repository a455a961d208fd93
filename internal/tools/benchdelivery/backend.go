package main

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/schemas"
)

const (
	createSQL = `CREATE TABLE bench_event (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), data bytea NOT NULL)`
	readSQL   = `SELECT id, at, data FROM bench_event WHERE id = ANY(@ids::uuid[])`
)

// backend stands for the rest of Tocsin: an event log in PostgreSQL, and
// subscriptions.
type backend struct {
	pool *pgxpool.Pool
	body []byte // of every event, as it goes over the wire
	data []byte

	mu   sync.Mutex
	subs map[uuid.UUID]schemas.Target
}

func newBackend(ctx context.Context, pool *pgxpool.Pool, size int) (*backend, error) {
	w := &backend{pool: pool, subs: map[uuid.UUID]schemas.Target{}}
	w.data = []byte(`{"message":"` + strings.Repeat("x", size) + `"}`)
	var b strings.Builder
	e := w.event(uuid7.New(), time.Now(), w.data)
	if err := event.WriteJson(&e, &b); err != nil {
		return nil, err
	}
	w.body = []byte(b.String())
	_, err := pool.Exec(ctx, createSQL)
	return w, err
}

func (w *backend) event(id uuid.UUID, at time.Time, data []byte) event.Event {
	e := event.New()
	e.SetID(id.String())
	e.SetSource("urn:tocsin:bench")
	e.SetType(schemas.TypeVulnerabilitiesChanged)
	e.SetSubject("sha256:" + strings.Repeat("0", 64))
	e.SetTime(at)
	e.SetDataContentType(event.ApplicationJSON)
	e.SetExtension("severity", "Critical")
	e.SetExtension("severityrank", int32(5))
	e.SetExtension("fixable", true)
	e.SetExtension("updater", "osv/go")
	e.DataEncoded = data
	return e
}

// subscribe makes a subscription for each sink.
func (w *backend) subscribe(sinks ...string) []uuid.UUID {
	ids := make([]uuid.UUID, len(sinks))
	for i, s := range sinks {
		ids[i] = uuid7.New()
		w.add(ids[i], s)
	}
	return ids
}

// add makes a subscription.
func (w *backend) add(id uuid.UUID, sink string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(sink, amqpScheme) {
		w.subs[id] = brokerTarget(id, sink)
		return
	}
	w.subs[id] = schemas.Target{
		Subscription: schemas.Subscription{
			ID: id.String(), Sink: sink, Protocol: schemas.ProtocolHTTP, State: schemas.StateActive, Version: 1,
		},
		SigningSecrets: []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))},
	}
}

// remove deletes subscriptions.
func (w *backend) remove(ids []uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.subs, id)
	}
}

// Targets implements [delivery.Subscriptions].
func (w *backend) Targets(_ context.Context, ids []uuid.UUID) (map[uuid.UUID]schemas.Target, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[uuid.UUID]schemas.Target, len(ids))
	for _, id := range ids {
		if t, ok := w.subs[id]; ok {
			out[id] = t
		}
	}
	return out, nil
}

// Events implements [delivery.Events].
func (w *backend) Events(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]event.Event, error) {
	rows, err := w.pool.Query(ctx, readSQL, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, err
	}
	out := make(map[uuid.UUID]event.Event, len(ids))
	var (
		id   uuid.UUID
		at   time.Time
		data []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &at, &data}, func() error {
		out[id] = w.event(id, at, append([]byte(nil), data...))
		return nil
	})
	return out, err
}

// SubscriptionFailing implements [delivery.Announcer].
func (w *backend) SubscriptionFailing(context.Context, pgx.Tx, schemas.SubscriptionState) error {
	return nil
}

// SubscriptionRecovered implements [delivery.Announcer].
func (w *backend) SubscriptionRecovered(context.Context, pgx.Tx, schemas.SubscriptionState) error {
	return nil
}

// SubscriptionDisabled implements [delivery.Announcer].
func (w *backend) SubscriptionDisabled(context.Context, pgx.Tx, schemas.SubscriptionState) error {
	return nil
}

var (
	_ delivery.Subscriptions = (*backend)(nil)
	_ delivery.Events        = (*backend)(nil)
	_ delivery.Announcer     = (*backend)(nil)
)
