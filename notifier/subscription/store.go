package subscription

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// waker passes hints, which may be lost, between processes.
type waker interface {
	Wake(subject string)
}

// sinkChecker knows the protocols that events are delivered over; package
// delivery/protocols does.
type sinkChecker interface {
	// ProtocolOf is the protocol that goes with a sink's scheme, "" if none
	// does.
	ProtocolOf(sink string) string
	// Check says everything that keeps a subscription from ever being
	// delivered to, without making a connection. Its Protocol is filled in, its
	// credential in clear.
	Check(spec schemas.Subscription) []problem.Field
}

// Options is what a Store works with. Pool and Filters are needed; Keyring to
// store and to open secrets. The rest has defaults.
type Options struct {
	Pool    *pgxpool.Pool
	Filters *filter.Compiler
	Keyring *secrets.Keyring
	Waker   waker // nil: no hints
	Logger  *slog.Logger

	// MaxPerOwner is how many subscriptions an owner may have; default 1,000.
	MaxPerOwner int

	// sinkChecker checks where subscriptions are delivered to, so that one that could
	// never be is refused and not accepted in vain. Nil checks nothing, and
	// protocols have to be given.
	Sinks sinkChecker
}

// Store is the subscriptions in the database. It is safe for concurrent use.
type Store struct {
	Options
	vault
}

// vault seals and opens the secrets of subscriptions in their rows. Without a
// keyring it refuses to.
type vault struct{ keyring *secrets.Keyring }

// New returns a store; it starts nothing and does not touch the database.
func New(o Options) (*Store, error) {
	if o.Pool == nil || o.Filters == nil {
		return nil, fmt.Errorf("subscription: a store needs a database pool and a compiler of filters")
	}
	o.MaxPerOwner = cmp.Or(o.MaxPerOwner, 1000)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return &Store{Options: o, vault: vault{o.Keyring}}, nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// wake hints that a subscription's deliveries may be due.
func (st *Store) wake() {
	if st.Waker != nil {
		st.Waker.Wake(bus.WakeDelivery)
	}
}
