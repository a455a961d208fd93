package notifier

import (
	"cmp"
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

// enqueuer writes deliveries in the caller's transaction; package delivery
// does.
type enqueuer interface {
	Enqueue(ctx context.Context, tx pgx.Tx, owed []schemas.NewDelivery) error
}

// waker passes hints, which may be lost, between processes.
type waker interface {
	Wake(subject string)
	OnWake(ctx context.Context, subject string) <-chan struct{}
}

// AnnouncerOptions is what an Announcer works with. Events, Subscriptions and
// enqueuer are needed; the rest has defaults.
type AnnouncerOptions struct {
	Events        *eventlog.Writer
	Subscriptions *subscription.Store
	Enqueuer      enqueuer
	Waker         waker // nil: polling alone
	Logger        *slog.Logger
	Registerer    prometheus.Registerer // nil: no metrics
	Batch         int                   // events matched at a time; default 2,048
}

// Announcer makes events of what happens in other packages: it writes each in
// the caller's transaction, with a delivery for every subscription whose filters
// its attributes pass, and passes a hint on when that has been committed. It is
// safe for concurrent use.
type Announcer struct {
	AnnouncerOptions
	subscribers *subscribers
	metrics     *metrics
}

// NewAnnouncer returns an announcer; it starts nothing and does not touch the
// database.
func NewAnnouncer(o AnnouncerOptions) (*Announcer, error) {
	if o.Events == nil || o.Subscriptions == nil || o.Enqueuer == nil {
		return nil, errors.New("notifier: an announcer needs an event log, subscriptions and a queue")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Batch = cmp.Or(o.Batch, 2048)
	m := newMetrics(o.Registerer)
	return &Announcer{AnnouncerOptions: o, metrics: m, subscribers: &subscribers{filters: o.Subscriptions.Filters, log: o.Logger, broken: m.uncompiled}}, nil
}

// hint has the loops that publish and deliver woken once tx has been committed.
// The transaction that announces does it itself, so that nobody who commits can
// forget it; without it, work is found by polling.
func (a *Announcer) hint(tx pgx.Tx) {
	if a.Waker == nil {
		return
	}
	postgres.AfterCommit(tx, a, func() {
		a.Waker.Wake(bus.WakeOutbox)
		a.Waker.Wake(bus.WakeDelivery)
	})
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
