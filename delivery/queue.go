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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/schemas"
)

// WakeSubject is where a hint says that something was enqueued.
const WakeSubject = "tocsin.wake.delivery"

// Waker hears hints. They are lossy and carry nothing: the queue also looks by
// itself every Options.Poll.
type Waker interface {
	OnWake(ctx context.Context, subject string) <-chan struct{}
}

// Announcer tells the world about a subscription's health, in the transaction
// that records it.
type Announcer interface {
	SubscriptionFailing(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error
	SubscriptionRecovered(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error
	// SubscriptionDisabled also disables the subscription.
	SubscriptionDisabled(ctx context.Context, tx pgx.Tx, s schemas.SubscriptionState) error
}

// Options is what a queue works with. Subscriptions, Events, Openers and
// Announcer are needed by Run; a queue that only enqueues or answers questions
// does without.
type Options struct {
	Subscriptions Subscriptions
	Events        Events
	// Openers by protocol: "HTTP", "AMQP", "STOMP", "NATS".
	Openers   map[string]Opener
	Announcer Announcer
	// Announced is called when an announcement has been committed; nil for
	// nothing. It must not block.
	Announced func()
	Waker     Waker // nil: polling alone
	Logger    *slog.Logger
	// Registerer gets the metrics; nil for none.
	Registerer prometheus.Registerer
	// Defaults fill in what a subscription leaves open.
	Defaults Config
	// Name shows in tocsin.replica.
	Name string
	// Lease is how long after its last sign of life a replica's subscriptions
	// go to another; 10 s.
	Lease time.Duration
	// Poll is the longest time between looks at the queue; 1 s.
	Poll time.Duration
	// Refresh is how soon a change of a subscription takes effect; 2 s.
	Refresh time.Duration
	// Retention is how long settled deliveries and their attempts are kept;
	// 30 days. What is still owed is kept whatever its age.
	Retention time.Duration
	// CacheBytes bounds the memory for rendered events; 64 MiB.
	CacheBytes int
	// Drain is how long attempts under way may go on after Run's context has
	// ended; 10 s.
	Drain time.Duration
	// Extra is how many attempts a replica makes at once beyond the one that
	// every subscription may make whatever the others do; 512. It bounds
	// connections and memory: while slow targets use it up, others go on with
	// one attempt at a time.
	Extra int
	// Conns is how many database connections the workers have of their own; 6.
	Conns int32
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Lease = cmp.Or(o.Lease, 10*time.Second)
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Refresh = cmp.Or(o.Refresh, 2*time.Second)
	o.Retention = cmp.Or(o.Retention, 30*24*time.Hour)
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	o.Drain = cmp.Or(o.Drain, 10*time.Second)
	o.Extra = cmp.Or(o.Extra, 512)
	o.Conns = cmp.Or(o.Conns, 6)
	if o.Announced == nil {
		o.Announced = func() {}
	}
	o.Defaults = o.Defaults.WithDefaults()
	return o
}

// Queue is the delivery queue. All methods are safe for concurrent use.
type Queue struct {
	o       Options
	log     *slog.Logger
	db      *pgxpool.Pool
	metrics *metrics

	// The rest belongs to Run.
	id      atomic.Value // uuid.UUID, once registered
	hot     *pgxpool.Pool
	workers sync.WaitGroup
	events  *renderer
	fetches *fetcher
	settles *settler
	extra   budget

	// leased is the last moment, as time since started, at which this replica
	// may act on its lanes; since is when it last became so.
	started  time.Time
	leased   atomic.Int64
	since    atomic.Int64
	replicas atomic.Int64
	surplus  atomic.Int64 // lanes to give up, by the last look at the queue
	kick     chan struct{}

	mu     sync.Mutex
	lanes  map[uuid.UUID]*lane
	parked map[uuid.UUID]int64     // inactive subscriptions, by the version that was
	unseen map[uuid.UUID]time.Time // due, unowned and left to others since
}

// New returns a queue over db. It starts nothing and registers its metrics.
func New(db *pgxpool.Pool, o Options) *Queue {
	o = o.withDefaults()
	return &Queue{o: o, log: o.Logger, db: db, metrics: newMetrics(o.Registerer), kick: make(chan struct{}, 1)}
}

// Run delivers until ctx ends, then lets attempts under way finish for up to
// Options.Drain and gives its subscriptions back. It may be called once. It
// returns nil after a clean end; while the database is away it waits.
func (q *Queue) Run(ctx context.Context) error {
	if q.o.Subscriptions == nil || q.o.Events == nil || q.o.Announcer == nil {
		return errors.New("delivery: Run needs Subscriptions, Events and Announcer")
	}
	if err := q.openHot(ctx); err != nil {
		return err
	}
	defer q.hot.Close()
	q.started = time.Now()
	q.lanes = map[uuid.UUID]*lane{}
	q.parked = map[uuid.UUID]int64{}
	q.unseen = map[uuid.UUID]time.Time{}

	q.maintainNow(ctx)
	// life outlives ctx: what is under way must still be settled.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	q.events = newRenderer(q.o.Events, q.o.CacheBytes)
	q.fetches = newFetcher(q)
	q.settles = newSettler(q)
	q.extra.left.Store(int64(q.o.Extra))

	var services, loops sync.WaitGroup
	for range 2 {
		services.Go(func() { q.fetches.run(life) })
		services.Go(func() { q.settles.run(life) })
	}
	services.Go(func() { q.heartbeats(life) })
	loops.Go(func() { q.discoveries(ctx, life) })
	loops.Go(func() { q.refreshes(ctx, life) })
	loops.Go(func() { q.maintenance(ctx) })
	loops.Go(func() { q.gauge(ctx) })

	<-ctx.Done()
	loops.Wait()
	q.drain(life)
	q.leave(life)
	end()
	services.Wait()
	q.workers.Wait()
	return nil
}

// hotParams suit statements that are prepared once, touch few rows by index
// and run all the time.
var hotParams = map[string]string{
	"plan_cache_mode": "force_generic_plan",
	"enable_seqscan":  "off",
	"jit":             "off",
}

// patience bounds one exchange with the database, so that one that accepts and
// says nothing does not hold a worker for ever.
const patience = 30 * time.Second

// openHot opens the workers' own connections, so that neither they nor the
// rest of the process can use up the other's.
func (q *Queue) openHot(ctx context.Context) error {
	cfg := q.db.Config()
	cfg.MaxConns = q.o.Conns
	cfg.MinConns = 0
	maps.Copy(cfg.ConnConfig.RuntimeParams, hotParams)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	q.hot = pool
	return nil
}

// wake makes the queue look again, soon.
func (q *Queue) wake() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// owned returns the lanes of this replica.
func (q *Queue) owned() []*lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Values(q.lanes))
}

// forget takes a lane out once it has ended.
func (q *Queue) forget(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lanes[l.id] == l {
		delete(q.lanes, l.id)
		q.metrics.lanes.Dec()
	}
}

// drain stops every lane and waits for what is under way, up to Options.Drain.
func (q *Queue) drain(ctx context.Context) {
	lanes := q.owned()
	for _, l := range lanes {
		l.end(endShutdown)
	}
	deadline := time.After(q.o.Drain)
	for _, l := range lanes {
		select {
		case <-l.ended:
			continue
		case <-deadline:
		}
		break
	}
	for _, l := range q.owned() {
		l.abort()
	}
	// Aborted attempts end at once; a database that is away must not hold us.
	deadline = time.After(2 * time.Second)
	for _, l := range lanes {
		select {
		case <-l.ended:
			continue
		case <-deadline:
		case <-ctx.Done():
		}
		break
	}
}

// budget is a number of permits.
type budget struct{ left atomic.Int64 }

func (b *budget) take() bool {
	if b.left.Add(-1) < 0 {
		b.left.Add(1)
		return false
	}
	return true
}

func (b *budget) give() { b.left.Add(1) }
