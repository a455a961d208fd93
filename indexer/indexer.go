package indexer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libindex"
	"golang.org/x/sync/errgroup"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/indexer/image"
	"tocsin.dev/tocsin/indexer/sandbox"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/safehttp"
	"tocsin.dev/tocsin/schemas"
)

// JobKind is the kind of this package's jobs.
const JobKind = "manifest"

// Indexed is a manifest whose index report is handed to a [Recorder].
type Indexed struct {
	ID           int32
	Digest       string
	Names        []string
	Labels       map[string]string
	NamingID     int64
	IndexerState string
	// Reindexed says that it had an inventory before.
	Reindexed bool
	Warnings  []string
	// Force asks for an event even if nothing about it is new: a name stands
	// for it again.
	Force bool
}

// Recorder makes inventories of index reports. All methods may be repeated.
type Recorder interface {
	// Indexed records the inventory, sets the manifest's row to indexed, and
	// writes the event, in one transaction.
	Indexed(ctx context.Context, m Indexed, report *claircore.IndexReport) error
	// Forget takes a manifest's inventory out of use.
	Forget(ctx context.Context, manifestID int32) error
	// Retire takes the inventories of the manifests that choose returns out of
	// use, in tx. choose is called once nothing in the transaction can wait for
	// an update of a feed any more.
	Retire(ctx context.Context, tx pgx.Tx, choose func() ([]int32, error)) error
}

// Announcer writes events in the transaction of the rows they speak of.
type Announcer interface {
	JobRejected(ctx context.Context, tx pgx.Tx, data schemas.JobRejected) error
	ManifestIndexFailed(ctx context.Context, tx pgx.Tx, data schemas.ManifestIndexFailed) error
	ManifestRetired(ctx context.Context, tx pgx.Tx, ev schemas.RetiredEvent) error
}

// Jobs is the work queue; [jobs.Store] is one. Its OnFailed hook must call
// [Indexer.JobFailed] for jobs of [JobKind].
type Jobs interface {
	Submit(ctx context.Context, kind, key string, payload any) (jobs.Job, bool, error)
	Reject(ctx context.Context, kind string, payload []byte, reason string) (jobs.Job, error)
	Run(ctx context.Context, kind string, concurrency int, do func(context.Context, jobs.Job) error) error
	List(ctx context.Context, f jobs.Filter) ([]jobs.Job, error)
	Hurry(ctx context.Context, id uuid.UUID) error
	Watch(ctx context.Context, id uuid.UUID) iter.Seq2[jobs.Job, error]
	FailedBefore(ctx context.Context, tx pgx.Tx, job jobs.Job) (bool, error)
}

// Intake hands over the messages of a subject; [bus.Bus] does.
type Intake interface {
	Consume(ctx context.Context, subject string, concurrency int, handle func(context.Context, bus.Message) error) error
}

// Options are what an [Indexer] stands on.
type Options struct {
	Pool      *pgxpool.Pool
	Jobs      Jobs
	Intake    Intake
	Recorder  Recorder
	Announcer Announcer
	// Sealer encrypts what it takes to fetch layers until they are indexed.
	Sealer Sealer
	// Blobs keeps uploaded layers.
	Blobs *blobs.Store
	// DataDir is where layers are unpacked and mapping files are kept. What
	// is in it may be lost; processes may share it.
	DataDir string
	// AllowNetworks are networks outside the public internet that registries
	// and layers may be on: indexer.allow_networks.
	AllowNetworks []netip.Prefix
	// InsecureRegistries ("host:port") speak plain HTTP.
	InsecureRegistries []string
	// Keychain finds registry credentials; nil means the Docker configuration
	// of the process.
	Keychain authn.Keychain
	// RootCAs are the authorities trusted for registries and layers; nil means
	// the system's.
	RootCAs *x509.CertPool
	// Proxy connects to registries and for layers outside AllowNetworks; nil
	// means none.
	Proxy    *url.URL
	Limits   Limits
	Scanners Scanners
	// Scans bound what a scan of a layer may cost.
	Scans sandbox.Limits
	// Concurrency is how many manifests this process indexes at a
	// time. Each takes one database connection beside those of the pool.
	Concurrency int
	// LayerConcurrency is how many layers of a manifest are scanned at a time, at
	// most.
	LayerConcurrency int
	// MaintainEvery is the pause between looks for manifests to index again or
	// to clean up after.
	MaintainEvery time.Duration
	// RetireAfter is how long a manifest is kept in use that no name stands for
	// any more; for ever if zero.
	RetireAfter time.Duration

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Indexer is the role. Its methods may be called concurrently; any number of
// processes may run one on the same database.
type Indexer struct {
	opts     Options
	limits   Limits
	guard    *safehttp.Guard
	registry *image.Registry
	fetcher  safehttp.Options
	blobs    *blobs.Store
	store    *store
	arena    *arena
	children *sandbox.Pool
	confined *confined
	lib      *libindex.Libindex
	mappings map[scannerOf]*mapping
	versions map[scannerOf]string
	state    string
	log      *slog.Logger
	metrics  *metrics
}

// New returns an indexer. It registers claircore's scanners and their state in
// the database, which must be migrated, and starts nothing.
func New(ctx context.Context, o Options) (*Indexer, error) {
	switch {
	case o.Pool == nil || o.Jobs == nil || o.Intake == nil || o.Recorder == nil || o.Announcer == nil:
		return nil, errors.New("indexer: pool, jobs, intake, recorder and announcer are required")
	case o.Sealer == nil || o.Blobs == nil || o.DataDir == "":
		return nil, errors.New("indexer: sealer, blob store and data directory are required")
	}
	d := Defaults()
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), d.Concurrency)
	o.LayerConcurrency = cmp.Or(max(o.LayerConcurrency, 0), d.LayerConcurrency)
	o.MaintainEvery = cmp.Or(max(o.MaintainEvery, 0), d.MaintainEvery)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ix := &Indexer{
		opts: o, limits: o.Limits.withDefaults(), blobs: o.Blobs, store: &store{o.Pool}, log: o.Logger, metrics: newMetrics(o.Registerer),
		guard: safehttp.New("indexer.allow_networks", o.AllowNetworks),
	}
	ix.fetcher = safehttp.Options{HeaderTimeout: ix.limits.StallTimeout, Redirects: 5, RawBody: true, Proxy: o.Proxy}
	if o.RootCAs != nil {
		ix.fetcher.TLS = &tls.Config{RootCAs: o.RootCAs}
	}
	ix.registry = &image.Registry{Transport: ix.guard.Transport(ix.fetcher), Keychain: o.Keychain, Insecure: o.InsecureRegistries}
	var err error
	if ix.children, err = newPool(ctx, o); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	ix.arena, err = newArena(filepath.Join(o.DataDir, "layers"), ix.limits, o.Blobs, ix.guard.Client(ix.fetcher), ix.children)
	if err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	ix.mappings, err = newMappings(o.Scanners, filepath.Join(o.DataDir, "mappings"), scannerClient(), o.Logger)
	if err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	list, err := ecosystems(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	if ix.versions, err = versionsOf(ctx, list); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	ix.confined = &confined{scan: ix.arena.scan, mappings: ix.mappings, log: o.Logger}
	ix.lib, err = newLibindex(ctx, o.Pool, ix.arena, ix.confined, o.LayerConcurrency)
	if err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	if ix.state, err = ix.lib.State(ctx); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	if err := ix.store.register(ctx, ix.state); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	return ix, nil
}

// newPool makes the children that scan, after trying whether the scanners take
// their configuration.
func newPool(ctx context.Context, o Options) (*sandbox.Pool, error) {
	setup, err := newSetup(o.Scanners)
	if err != nil {
		return nil, err
	}
	if _, err := newScanner(ctx, setup); err != nil {
		return nil, err
	}
	return sandbox.New(sandbox.Options{
		Dir: filepath.Join(o.DataDir, "scans"), Setup: setup, Children: o.Concurrency + 1, Limits: o.Scans, Logger: o.Logger,
	})
}

// State identifies the scanners and their versions. A report made under
// another state may be out of date.
func (ix *Indexer) State() string { return ix.state }

// Run takes in requests, runs jobs, and maintains what is known, until ctx
// ends and all of it has stopped.
func (ix *Indexer) Run(ctx context.Context) error {
	if err := ix.arena.clean(); err != nil {
		return fmt.Errorf("indexer: %w", err)
	}
	defer ix.arena.client.CloseIdleConnections()
	if err := ix.children.Warm(); err != nil {
		return fmt.Errorf("indexer: %w", err)
	}
	defer func() {
		if err := ix.children.Close(); err != nil {
			ix.log.Warn("temporary files of scans not removed", "error", err)
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return ix.opts.Intake.Consume(ctx, bus.SubjectManifests, intakeConcurrency, ix.take)
	})
	g.Go(func() error { return ix.opts.Jobs.Run(ctx, JobKind, ix.opts.Concurrency, ix.do) })
	g.Go(func() error { return ix.maintain(ctx) })
	g.Go(func() error { return ix.followAll(ctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("indexer: %w", err)
	}
	return nil
}

// clientOver makes the client that fetches layers through a transport that
// logs in.
func (ix *Indexer) clientOver(rt http.RoundTripper) *http.Client {
	return safehttp.ClientOver(rt, ix.fetcher)
}
