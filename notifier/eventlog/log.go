package eventlog

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/poll"
	"tocsin.dev/tocsin/schemas"
)

// renderer renders the data of vulnerabilities_changed events; package matcher
// does. It answers one data a key, in their order, each of about limit bytes
// of JSON at most, its lists cut; all of it if limit is 0.
type renderer interface {
	RenderChanges(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error)
}

// publisher publishes a message to NATS and returns once it has been stored.
// Messages with one id are stored once.
type publisher interface {
	Publish(ctx context.Context, subject, id string, data []byte) error
}

// waker hears hints, which may be lost, from other processes.
type waker interface {
	OnWake(ctx context.Context, subject string) <-chan struct{}
}

// Options is what a Log works with. Pool is needed; Renderer to read events of
// updates; Publisher to relay the outbox. The rest has defaults.
type Options struct {
	Pool       *pgxpool.Pool
	Renderer   renderer
	Publisher  publisher // nil: Run relays nothing
	Waker      waker     // nil: polling alone
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time

	Retention time.Duration // of events, kept by days
	DataLimit int           // bytes of an event's data
	Poll      time.Duration // how often to look for work without a hint
}

// Defaults are the options that nobody has to set.
func Defaults() Options {
	return Options{Retention: 90 * 24 * time.Hour, DataLimit: 256 << 10, Poll: 2 * time.Second}
}

// Log reads the event log, publishes its outbox and keeps its partitions. It is
// safe for concurrent use.
type Log struct {
	Options
	relayed, relayFails prometheus.Counter
}

// New returns a log; it starts nothing and does not touch the database.
func New(o Options) (*Log, error) {
	if o.Pool == nil {
		return nil, errors.New("eventlog: a log needs a database pool")
	}
	d := Defaults()
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Retention, o.DataLimit, o.Poll = cmp.Or(o.Retention, d.Retention), cmp.Or(o.DataLimit, d.DataLimit), cmp.Or(o.Poll, d.Poll)
	l := &Log{
		Options: o,
		relayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_notifier_relayed_total", Help: "Events published on NATS.",
		}),
		relayFails: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tocsin_notifier_relay_failures_total", Help: "Attempts to publish an event on NATS that failed.",
		}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(l.relayed, l.relayFails)
	}
	return l, nil
}

// Run publishes the outbox and keeps the partitions, until ctx ends and all that
// has ended too. Any number of replicas may run. A database or NATS that fails
// is logged and waited out.
func (l *Log) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { l.keepPartitions(ctx) })
	if l.Publisher != nil {
		var hints <-chan struct{}
		if l.Waker != nil {
			hints = l.Waker.OnWake(ctx, bus.WakeOutbox)
		}
		wg.Go(func() { poll.Loop{Hints: hints, Every: l.Poll, Logger: l.Logger}.Run(ctx, l.relay) })
	}
	wg.Wait()
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
