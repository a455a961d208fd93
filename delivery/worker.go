package delivery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/schemas"
)

// Waker hears hints. They are lossy and carry nothing: a worker also looks by
// itself every Options.Poll.
type Waker interface {
	OnWake(ctx context.Context, subject string) <-chan struct{}
}

// Announcer announces a subscription's health to the other subscriptions, in
// the transaction that records it.
type Announcer interface {
	SubscriptionFailing(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error
	SubscriptionRecovered(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error
	// SubscriptionDisabled also disables the subscription.
	SubscriptionDisabled(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error
}

// Options is what a worker works with. Subscriptions, Events, Openers and
// Announcer are required; [Defaults] says what the numbers are that are zero.
type Options struct {
	Subscriptions Subscriptions
	Events        Events
	// Openers by protocol: "HTTP", "AMQP", "STOMP", "NATS".
	Openers    map[string]Opener
	Announcer  Announcer
	Waker      Waker                 // nil: polling alone
	Registerer prometheus.Registerer // gets the metrics; nil for none
	Logger     *slog.Logger          // nil for none
	Clock      func() time.Time      // nil for time.Now

	// Config fills in what a subscription leaves open.
	Config Config
	// Name shows in tocsin.replica.
	Name string
	// Lease is how long after its last sign of life a replica's subscriptions
	// go to another.
	Lease time.Duration
	// Poll is the longest time between looks at the queue.
	Poll time.Duration
	// Refresh is how soon a change of a subscription takes effect.
	Refresh time.Duration
	// Retention is how long settled deliveries and their attempts are kept.
	// What is pending is kept whatever its age.
	Retention time.Duration
	// CacheBytes bounds the memory for rendered events.
	CacheBytes int
	// Drain is how long attempts under way may go on after Run's context has
	// ended.
	Drain time.Duration
	// Extra is how many attempts a replica makes at once beyond the one that
	// every subscription may make whatever the others do. It bounds
	// connections and memory: while slow targets use it up, others go on with
	// one attempt at a time.
	Extra int
	// Conns is how many database connections the worker has of its own.
	Conns int32
}

// Defaults are the options with which a worker runs unless told otherwise.
func Defaults() Options {
	return Options{
		Config: Config{}.WithDefaults(), Lease: 10 * time.Second, Poll: time.Second, Refresh: 2 * time.Second,
		Retention: 30 * 24 * time.Hour, CacheBytes: 64 << 20, Drain: 10 * time.Second, Extra: 512, Conns: 6,
	}
}

func (o Options) withDefaults() Options {
	d := Defaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.Config = o.Config.WithDefaults()
	o.Lease = cmp.Or(o.Lease, d.Lease)
	o.Poll = cmp.Or(o.Poll, d.Poll)
	o.Refresh = cmp.Or(o.Refresh, d.Refresh)
	o.Retention = cmp.Or(o.Retention, d.Retention)
	o.CacheBytes = cmp.Or(o.CacheBytes, d.CacheBytes)
	o.Drain = cmp.Or(o.Drain, d.Drain)
	o.Extra = cmp.Or(o.Extra, d.Extra)
	o.Conns = cmp.Or(o.Conns, d.Conns)
	return o
}

// Worker delivers what is in the queue, as one replica of it.
type Worker struct {
	o       Options
	log     *slog.Logger
	db      *pgxpool.Pool
	metrics *metrics
	now     func() time.Time

	// The rest belongs to Run.
	replica replica
	hot     *pgxpool.Pool
	started sync.WaitGroup // lanes, their workers and what they leave behind
	events  *renderer
	fetches *fetcher
	settles *settler
	extra   *budget
	kick    chan struct{}

	replicas atomic.Int64 // with a lease, by the last look at the queue

	mu      sync.Mutex
	lanes   map[uuid.UUID]*lane
	surplus []*lane                 // to give up, by the last look at the queue
	parked  map[uuid.UUID]int64     // inactive subscriptions, by their version then
	unseen  map[uuid.UUID]time.Time // due, without an owner and left to others since
}

// NewWorker returns a worker for the queue in db. It starts nothing and
// registers its metrics.
func NewWorker(db *pgxpool.Pool, o Options) *Worker {
	o = o.withDefaults()
	return &Worker{
		o: o, log: o.Logger, db: db, now: o.Clock, metrics: newMetrics(o.Registerer), kick: make(chan struct{}, 1),
		replica: replica{now: o.Clock, started: o.Clock(), lease: o.Lease}, extra: newBudget(o.Extra),
		lanes: map[uuid.UUID]*lane{}, parked: map[uuid.UUID]int64{}, unseen: map[uuid.UUID]time.Time{},
	}
}

// Run delivers until ctx ends, then lets attempts under way finish for up to
// Options.Drain and gives its subscriptions back. It may be called once. It
// returns nil after a clean end; while the database is away it waits.
func (w *Worker) Run(ctx context.Context) error {
	if w.o.Subscriptions == nil || w.o.Events == nil || w.o.Announcer == nil {
		return errors.New("delivery: Run needs Options.Subscriptions, Events and Announcer")
	}
	if err := w.openHot(ctx); err != nil {
		return err
	}
	defer w.hot.Close()
	w.maintainNow(ctx)
	// life outlives ctx: what is under way must still be settled.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	w.events = newRenderer(w.o.Events, w.o.CacheBytes)
	w.fetches = newFetcher(w)
	w.settles = newSettler(w)

	var services, loops sync.WaitGroup
	for range 2 {
		services.Go(func() { w.fetches.run(life) })
		services.Go(func() { w.settles.run(life) })
	}
	services.Go(func() { w.heartbeats(life) })
	loops.Go(func() { w.discoveries(ctx, life) })
	loops.Go(func() { w.refreshes(ctx) })
	loops.Go(func() { w.maintenance(ctx) })
	loops.Go(func() { w.gauge(ctx) })

	<-ctx.Done()
	loops.Wait()
	w.drain(life)
	w.leave(life)
	end()
	services.Wait()
	w.started.Wait()
	return nil
}

// hotSettings suit statements that are prepared once, touch few rows by index
// and run all the time. They are set by a statement on every new connection, since
// poolers refuse them as connection parameters.
const hotSettings = `SET plan_cache_mode TO force_generic_plan; SET enable_seqscan TO off; SET jit TO off`

// patience bounds one exchange with the database, so that one which accepts
// connections and never answers does not hold a goroutine for ever.
const patience = 30 * time.Second

// openHot opens the worker's own connections, so that neither it nor the rest
// of the process can use up the other's.
func (w *Worker) openHot(ctx context.Context) error {
	cfg := w.db.Config()
	cfg.MaxConns = w.o.Conns
	cfg.MinConns = 0
	if cfg.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement { // else a pooler shares connections out by transaction
		first := cfg.ConnConfig.AfterConnect
		cfg.ConnConfig.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
			if first != nil {
				if err := first(ctx, c); err != nil {
					return err
				}
			}
			_, err := c.Exec(ctx, hotSettings).ReadAll()
			return err
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	w.hot = pool
	return nil
}

// wake makes the worker look at the queue again, soon.
func (w *Worker) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// owned returns the lanes of this replica.
func (w *Worker) owned() []*lane {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.lanes))
}

// drain ends every lane and waits for what is under way, up to Options.Drain.
func (w *Worker) drain(ctx context.Context) {
	lanes := w.owned()
	for _, l := range lanes {
		l.post(end(endShutdown))
	}
	if wait(ctx, lanes, w.o.Drain) {
		return
	}
	for _, l := range lanes {
		l.stop()
	}
	// Attempts given up end at once; a database that is away must not hold us.
	wait(ctx, lanes, 2*time.Second)
}

// wait says whether all lanes have ended within the given time.
func wait(ctx context.Context, lanes []*lane, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for _, l := range lanes {
		select {
		case <-l.ended:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
