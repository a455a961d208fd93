package matcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/quay/claircore/datastore"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/libvuln"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/schemas"
)

// Keys of PostgreSQL advisory locks that processes meet at.
const (
	// BarrierKey is taken shared by the transaction that records an inventory
	// and exclusively by the one that records a change, so that a manifest
	// indexed during an update sees the cursors from before or from after.
	BarrierKey int64 = 0x746f6373_00040001
	// ChangeKey is taken exclusively by the transaction of a change, so that
	// the cursors of other updaters stand still while one change is judged.
	ChangeKey int64 = 0x746f6373_00040002
	// UpdateLockKey is taken shared by whoever runs updaters and exclusively by
	// garbage collection of the vulnerability store.
	UpdateLockKey int64 = 0x746f6373_00040003
)

// Defaults of [Options].
const (
	DefaultRetention     = 10
	DefaultInterval      = 30 * time.Second
	DefaultGCInterval    = time.Hour
	DefaultEPSSThreshold = 0.1
)

// Options are what an [Engine] stands on. Pool is required; the rest has
// defaults.
type Options struct {
	// Pool is the database that holds claircore's tables and Tocsin's.
	Pool *pgxpool.Pool
	// Store is claircore's matcher store; by default the one on Pool.
	Store datastore.MatcherStore
	// Reports finds index reports; without it [Engine.Report] fails.
	Reports IndexReports
	// Announcer writes events; without it [Engine.Indexed] and
	// [Engine.ProcessUpdates] fail.
	Announcer Announcer
	// Matchers are matchers beside claircore's, such as out-of-tree ones.
	Matchers []driver.Matcher
	// MatcherNames picks some of claircore's matchers by name; nil is all.
	MatcherNames []string
	// MatcherConfigs configures claircore's matchers by name.
	MatcherConfigs map[string]driver.MatcherConfigUnmarshaler
	// Client is for matchers that need the network; by default one that
	// refuses every request.
	Client *http.Client
	// Enrichers are used in reports; by default claircore's CVSS, EPSS and KEV.
	Enrichers []driver.Enricher
	// EPSSThreshold is the EPSS score, 0 to 1, whose crossing revises a
	// finding; 0 means DefaultEPSSThreshold.
	EPSSThreshold float64
	// Retention is how many update operations of an updater are kept at least.
	Retention int
	// History is how long changes are kept, and the inventories that only they
	// speak of; it must be longer than events are. 0 keeps them for ever.
	History time.Duration
	// Interval is the longest time between two looks for updates, GCInterval
	// between two garbage collections.
	Interval, GCInterval time.Duration
	// Fresh, if set, says when updaters last found their data up to date.
	Fresh func(ctx context.Context) (map[string]time.Time, error)
	// Unrecorded, if set, finds index reports of Clair's to record.
	Unrecorded Unrecorded
	// Wake, if set, gives hints that an update operation has landed.
	Wake Waker
	// Links, if set, makes the links of a rendered event.
	Links func(key schemas.ChangeKey, digest string) schemas.Links

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Engine finds what updates change. It is safe for concurrent use, and any
// number of processes may run one on the same database.
type Engine struct {
	pool      *pgxpool.Pool
	store     datastore.MatcherStore
	scanner   *libvuln.Libvuln
	declared  *matcherSet // as registered
	matchers  *matcherSet // the same with their bits, once adopted
	announcer Announcer
	reports   IndexReports
	opts      Options
	log       *slog.Logger
	metrics   *metrics
	sql       sqlTexts

	process   uuid.UUID // of this engine in tocsin.matcher_process
	prepareMu sync.Mutex
	ready     bool // the stored masks are known to be those of matchers

	surroundings surroundings
}

// New returns an engine. It starts nothing and does not touch the database. A
// matcher with a constraint that claircore's store can't serve is an error.
func New(ctx context.Context, o Options) (*Engine, error) {
	if o.Pool == nil {
		return nil, errors.New("matcher: a database pool is required")
	}
	o.setDefaults()
	set, err := newMatcherSet(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("matcher: %w", err)
	}
	e := &Engine{
		pool: o.Pool, store: o.Store, declared: set, announcer: o.Announcer,
		reports: o.Reports, opts: o, log: o.Logger, metrics: newMetrics(o.Registerer),
		process: uuid.New(),
	}
	lenient := make([]driver.Matcher, len(set.all))
	for i, m := range set.all {
		lenient[i] = Lenient(m)
	}
	e.scanner, err = libvuln.New(ctx, &libvuln.Options{
		Store: Store(o.Store), Client: o.Client, Enrichers: o.Enrichers,
		MatcherNames: []string{}, Matchers: lenient, UpdaterSets: []string{},
		UpdateRetention: max(o.Retention, 2), DisableBackgroundUpdates: true,
	})
	if err != nil {
		return nil, fmt.Errorf("matcher: %w", err)
	}
	return e, nil
}

func (o *Options) setDefaults() {
	if o.Store == nil {
		o.Store = postgres.NewMatcherStore(o.Pool)
	}
	if o.Client == nil {
		o.Client = &http.Client{Transport: noNetwork{}}
	}
	if o.Enrichers == nil {
		o.Enrichers = defaultEnrichers()
	}
	if o.EPSSThreshold == 0 {
		o.EPSSThreshold = DefaultEPSSThreshold
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.GCInterval == 0 {
		o.GCInterval = DefaultGCInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// noNetwork is the transport of an engine that was given no client.
type noNetwork struct{}

func (noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("matcher has no HTTP client, so %s can't be asked (set Options.Client)", r.URL.Redacted())
}
