package subscription

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/notifier/filter"
)

// Waker passes hints, which may be lost, between processes.
type Waker interface {
	Wake(subject string)
}

// wakeDelivery is the subject of the hint that deliveries may be due.
const wakeDelivery = "tocsin.wake.delivery"

// Options is what a Store works with. Pool and Filters are needed; Keyring to
// store and to open secrets. The rest has defaults.
type Options struct {
	Pool    *pgxpool.Pool
	Filters *filter.Compiler
	Keyring *secrets.Keyring
	Waker   Waker // nil: no hints
	Logger  *slog.Logger

	// CheckSink says why a sink, or a broker of failover, may never be called,
	// so that a subscription to it is refused and not accepted in vain. It gets
	// a URL with a host and resolves no names. A [problem.Field] it returns
	// keeps its hint. Nil checks nothing.
	CheckSink func(rawURL string) error
}

// Store is the subscriptions in the database. It is safe for concurrent use.
type Store struct{ Options }

// New returns a store; it starts nothing and does not touch the database.
func New(o Options) (*Store, error) {
	if o.Pool == nil || o.Filters == nil {
		return nil, fmt.Errorf("subscription: a store needs a database pool and a compiler of filters")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return &Store{o}, nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// wake hints that a subscription's deliveries may be due.
func (st *Store) wake() {
	if st.Waker != nil {
		st.Waker.Wake(wakeDelivery)
	}
}
