package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/protocols"
	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/indexer/sandbox"
	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/api"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/clair"
	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/httpapi"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/internal/web"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/notifier"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
	"tocsin.dev/tocsin/updater"
)

// services are the five roles, wired to one another.
type services struct {
	indexer       *indexer.Indexer
	updater       *updater.Service
	matcher       *matcher.Engine
	subscriptions *subscription.Store
	announcer     *notifier.Announcer
	events        *eventlog.Log
	notifier      *notifier.Notifier
	jobs          *jobs.Store
	queue         *delivery.Store
	delivery      *delivery.Worker
	tokens        *access.Store
	audit         *access.Audit
	keys          *keyWatch
	clock         *clockWatch
	api           *httpapi.Handler
	pages         *web.Handler
	doctor        *doctor
}

// run is the loop of a role.
func (s *services) run(role string) func(context.Context) error {
	return map[string]func(context.Context) error{
		"indexer": s.indexer.Run, "updater": s.updater.Run, "matcher": s.matcher.Run,
		"notifier": s.notifier.Run, "delivery": s.delivery.Run,
	}[role]
}

func (a *App) services(ctx context.Context, pool *pgxpool.Pool, b *bus.Bus) (*services, error) {
	s := &services{
		tokens: access.NewStore(pool),
		audit:  access.NewAudit(pool, a.config.Auth.AuditRetention.Std(), a.log.With("part", "audit")),
		queue:  delivery.NewStore(pool, delivery.StoreOptions{Wake: func() { b.Wake(delivery.WakeSubject) }}),
	}
	keyring, err := a.keyring(ctx, pool)
	if err != nil {
		return nil, err
	}
	s.keys = &keyWatch{pool: pool, ring: keyring, log: a.log}
	if err := s.keys.observe(a.registry, a.health); err != nil {
		return nil, err
	}
	s.clock = &clockWatch{pool: pool, log: a.log, now: time.Now}
	if err := s.clock.observe(a.registry, a.health); err != nil {
		return nil, err
	}
	if err = a.newAnnouncer(s, pool, b, keyring); err != nil {
		return nil, fmt.Errorf("notifier: %w", err)
	}
	queue := a.newJobs(pool, b, func(ctx context.Context, tx pgx.Tx, job jobs.Job) error {
		return s.jobFailed(ctx, tx, job)
	})
	s.jobs = queue
	uploads, err := a.uploads(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("uploaded layers: %w", err)
	}
	store := postgres.NewMatcherStore(pool)
	record := new(recorder)
	if s.indexer, err = a.newIndexer(ctx, pool, b, queue, keyring, uploads, record, s.announcer); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	if s.updater, err = a.newUpdater(pool, b, queue, s); err != nil {
		return nil, fmt.Errorf("updaters: %w", err)
	}
	if s.matcher, err = a.newMatcher(ctx, pool, b, store, s); err != nil {
		return nil, err
	}
	record.engine = s.matcher
	if err = a.newNotifier(s, pool, b); err != nil {
		return nil, fmt.Errorf("notifier: %w", err)
	}
	if s.delivery, err = a.newDelivery(pool, b, s); err != nil {
		return nil, err
	}
	s.api, err = a.newAPI(pool, b, s, queue, uploads, store)
	if err != nil {
		return nil, err
	}
	return s, a.figures(pool, b, s)
}

// jobFailed notes a failed job where its kind has something to say of it. The
// updaters announce their failures themselves, once and not at every run.
func (s *services) jobFailed(ctx context.Context, tx pgx.Tx, job jobs.Job) error {
	switch {
	case job.Kind == indexer.JobKind:
		return s.indexer.JobFailed(ctx, tx, job)
	case job.Rejected:
		return s.announcer.JobRejected(ctx, tx, schemas.JobRejected{Job: job.ID.String(), Kind: job.Kind, Reason: job.Reason, Payload: job.Message()})
	}
	return nil
}

// newAnnouncer makes what the other roles announce with: the subscriptions and
// the writing side of the event log.
func (a *App) newAnnouncer(s *services, pool *pgxpool.Pool, b *bus.Bus, keyring *secrets.Keyring) error {
	a.notePublicURL()
	log := a.log.With("role", "notifier")
	filters, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		return err
	}
	if s.subscriptions, err = subscription.New(subscription.Options{
		Pool: pool, Filters: filters, Keyring: keyring, Waker: b, Logger: log, MaxPerOwner: a.config.Notifier.MaxSubscriptions, Sinks: protocols.Checker{Reachable: a.checkSink, Refuse: a.ownIntake},
	}); err != nil {
		return err
	}
	writer, err := eventlog.NewWriter(eventlog.WriterOptions{Pool: pool, Source: a.config.Notifier.Source, PublicURL: a.publicURL(), Now: time.Now})
	if err != nil {
		return err
	}
	s.announcer, err = notifier.NewAnnouncer(notifier.AnnouncerOptions{
		Events: writer, Subscriptions: s.subscriptions, Waker: b, Logger: log, Registerer: a.registry,
		Enqueuer: s.queue,
	})
	return err
}

// newNotifier makes the reading side, which needs the matcher to render events.
func (a *App) newNotifier(s *services, pool *pgxpool.Pool, b *bus.Bus) (err error) {
	n := a.config.Notifier
	if s.events, err = eventlog.New(eventlog.Options{
		Pool: pool, Renderer: s.matcher, Publisher: b, Waker: b, Logger: a.log.With("role", "notifier"), Registerer: a.registry, Now: time.Now,
		Retention: n.Retention.Std(), DataLimit: int(n.EventSize),
	}); err != nil {
		return err
	}
	s.notifier, err = notifier.New(notifier.Options{Announcer: s.announcer, Log: s.events, Pool: pool, EveryFinding: n.DisableSummary})
	return err
}

func (a *App) newJobs(pool *pgxpool.Pool, b *bus.Bus, onFailed func(context.Context, pgx.Tx, jobs.Job) error) *jobs.Store {
	j := a.config.Jobs
	policy := jobPolicy(j)
	return jobs.New(pool, b, jobs.Options{
		Policies: map[string]jobs.Policy{indexer.JobKind: policy, updater.Kind: policy},
		RunBy:    map[string]string{indexer.JobKind: "indexer", updater.Kind: "updater"},
		KeepDone: j.KeepDone.Std(), KeepFailed: j.KeepFailed.Std(), OnFailed: onFailed, Logger: a.log, Registerer: a.registry,
	})
}

func (a *App) newIndexer(ctx context.Context, pool *pgxpool.Pool, b *bus.Bus, queue *jobs.Store, keyring *secrets.Keyring,
	uploads *blobs.Store, record *recorder, announcer indexer.Announcer) (*indexer.Indexer, error) {
	c := a.config.Indexer
	roots, proxy, err := egress("indexer", c.CAFile, c.Proxy)
	if err != nil {
		return nil, err
	}
	return indexer.New(ctx, indexer.Options{
		RootCAs: roots, Proxy: proxy,
		Pool: pool, Jobs: queue, Intake: b, Recorder: record, Announcer: announcer, Sealer: keyring, Blobs: uploads,
		DataDir: filepath.Join(a.config.DataDir, "indexer"), AllowNetworks: config.Prefixes(c.AllowNetworks), InsecureRegistries: c.InsecureRegistries,
		Limits: indexerLimits(c),
		Scanners: indexer.Scanners{
			Package: decoders(c.Scanners.Package), Dist: decoders(c.Scanners.Dist), Repo: decoders(c.Scanners.Repo), File: decoders(c.Scanners.File),
		},
		Scans:       sandbox.Limits{Timeout: c.ScanTimeout.Std(), Memory: int64(c.ScanMemory), Disk: int64(c.ScanDisk)},
		Concurrency: c.Concurrency, LayerConcurrency: c.LayerConcurrency, RetireAfter: c.RetireAfter.Std(), Logger: a.log.With("role", "indexer"), Registerer: a.registry,
	})
}

func (a *App) newMatcher(ctx context.Context, pool *pgxpool.Pool, b *bus.Bus, store *postgres.MatcherStore, s *services) (*matcher.Engine, error) {
	c := a.config.Matcher
	configs := map[string]driver.MatcherConfigUnmarshaler{}
	for name, decode := range decoders(c.Config) {
		configs[name] = decode
	}
	var names []string
	if len(c.Names) > 0 {
		names = c.Names
	}
	return matcher.New(ctx, matcher.Options{
		Pool: pool, Store: store, Reports: s.indexer, Announcer: s.announcer, MatcherNames: names, MatcherConfigs: configs,
		EPSSThreshold: c.EPSSThreshold, Unrecorded: unrecorded{s.indexer}, Retention: c.Retention, History: a.config.Notifier.Retention.Std() + 48*time.Hour,
		Fresh: s.updater.Fresh, Wake: b, Logger: a.log.With("role", "matcher"), Registerer: a.registry,
	})
}

func (a *App) newUpdater(pool *pgxpool.Pool, b *bus.Bus, queue *jobs.Store, s *services) (*updater.Service, error) {
	transport, err := feedTransport(a.config.Updaters)
	if err != nil {
		return nil, err
	}
	return updater.New(updater.Options{
		Transport: transport,
		Config:    UpdaterConfig(a.config), Pool: pool, Queue: queue, Intake: b, Waker: b, Announcer: s.announcer,
		Dependents: func(ctx context.Context, updaters ...string) (int, bool, error) {
			return s.matcher.Dependents(ctx, updaters...)
		},
		UpdateLock: matcher.UpdateLockKey, UserAgent: a.userAgent(), Logger: a.log.With("role", "updater"), Registerer: a.registry,
	})
}

// UpdaterConfig is the updaters' part of a configuration.
func UpdaterConfig(c config.Config) updater.Config {
	u, l := c.Updaters, c.Updaters.Limits
	return updater.Config{
		Sets: u.Sets, Filter: u.Filter, Settings: updater.Settings(u.Config), Schedules: u.Schedules, Concurrency: u.Concurrency,
		SetConcurrency: u.SetConcurrency, StaleAfter: u.StaleAfter.Std(), Fetches: u.Fetches, AcceptEmpty: u.AcceptEmpty, MaxDrop: u.MaxDrop,
		Limits: updater.Limits{
			Response: int64(l.Response), Unpacked: int64(l.Unpacked), Entry: int64(l.Entry), Requests: l.Requests, Probes: l.Probes,
			Stall: l.Stall.Std(), Updater: l.Updater.Std(), Set: l.Set.Std(),
		},
	}
}

func (a *App) newDelivery(pool *pgxpool.Pool, b *bus.Bus, s *services) (*delivery.Worker, error) {
	c := a.config.Delivery
	psk, err := a.psk()
	if err != nil {
		return nil, err
	}
	var clairToken func() (string, error)
	if psk != nil {
		clairToken = psk.NotifierToken
	}
	roots, proxy, err := egress("delivery", c.CAFile, c.Proxy)
	if err != nil {
		return nil, err
	}
	guard := a.deliveryGuard()
	dial, proxied := guard.DialContext, (func(*http.Transport))(nil)
	if proxy != nil {
		dial, proxied = guard.Through(proxy), func(t *http.Transport) { guard.Proxy(t, proxy) }
	}
	return delivery.NewWorker(pool, delivery.Options{
		Subscriptions: s.subscriptions, Events: s.events, Announcer: s.announcer, Waker: b, Logger: a.log.With("role", "delivery"), Registerer: a.registry,
		Openers: protocols.Openers(delivery.Environment{
			Dial: dial, Proxied: proxied, RootCAs: roots, UserAgent: a.userAgent(), ClairCallback: a.publicURL() + "/notifier/api/v1/notification/",
			ClairToken: clairToken, ClairNotification: clair.NotificationJSON(clair.Notices(s.notifier)),
		}),
		Config:    deliveryConfig(c),
		Retention: c.Retention.Std(), CacheBytes: int(c.CacheSize), Drain: c.Drain.Std(), Conns: c.Conns,
	}), nil
}

// jitter is the configured share as delivery reads it, where 0 means the
// default and a negative number none.
func jitter(share float64) float64 {
	if share == 0 {
		return -1
	}
	return share
}

// psk is the key shared with Clair's clients, nil if there is none.
func (a *App) psk() (*clair.PSK, error) {
	k := a.config.Auth.PSK
	if k.Key.Empty() {
		return nil, nil
	}
	raw, err := base64.StdEncoding.DecodeString(k.Key.Reveal())
	if err != nil {
		return nil, errors.New("auth.psk.key: not base64")
	}
	return &clair.PSK{Key: raw, Issuers: k.Issuers}, nil
}

func (a *App) userAgent() string { return "Tocsin/" + a.version.Version }

// newAPI makes the HTTP interface. Clair's part of it wants a token like the
// rest, or a JWT if there is a pre-shared key.
func (a *App) newAPI(pool *pgxpool.Pool, b *bus.Bus, s *services, queue *jobs.Store, uploads *blobs.Store, store *postgres.MatcherStore) (*httpapi.Handler, error) {
	gate := access.NewGate(s.tokens, time.Now)
	psk, err := a.psk()
	if err != nil {
		return nil, err
	}
	var verify func(string) error
	if psk != nil {
		verify = psk.Verify
	}
	var handler *httpapi.Handler
	s.pages, err = web.New(web.Options{
		API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }), As: httpapi.As, Client: httpapi.Client,
		Gate: gate, Sessions: access.NewSessions(pool), Version: a.version, Stopping: a.stopping, Log: a.log.With("part", "page"), Now: time.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	faces := api.Services(api.Roles{
		Indexer: s.indexer, Uploads: uploads, Jobs: queue, Matcher: s.matcher, Updater: s.updater, Events: s.events,
		Notifier: s.notifier, Subscriptions: s.subscriptions, Delivery: s.queue, Tokens: s.tokens, Audit: s.audit,
		GitHubSecret: a.config.Ingest.GitHubSecret.Reveal(),
	})
	s.doctor = &doctor{app: a, pool: pool, bus: b, roles: s, stats: faces.Stats, now: time.Now}
	faces.Doctor = s.doctor
	handler = httpapi.New(httpapi.Options{
		Pages: s.pages, Services: faces,
		Gate: gate,
		Clair: clair.New(clair.Options{
			Indexer: clair.Images(s.indexer, s.matcher), Matcher: clair.Feeds(store, s.matcher), Notifications: clair.Notices(s.notifier),
			Authenticate: httpapi.ClairAuth(gate, verify, false), CacheAge: a.config.Matcher.CacheAge.Std(),
			IndexConcurrency: a.config.Indexer.RequestConcurrency, Log: a.log,
		}),
		Schemas: schemas.Files, MaxLayer: int64(a.config.Indexer.MaxLayerSize), MaxImport: int64(a.config.Updaters.Limits.Import),
		TrustedProxies: config.Prefixes(a.config.HTTP.TrustedProxies),
		Version:        a.version, Registerer: a.registry, Log: a.log.With("part", "api"), Now: time.Now,
	})
	return handler, nil
}

// decoders turns claircore's own keys, as the configuration file has them, into
// the functions that claircore asks for: each decodes into what it is given.
func decoders(f config.Foreign) map[string]func(any) error {
	if len(f) == 0 {
		return nil
	}
	out := make(map[string]func(any) error, len(f))
	for name, value := range f {
		out[name] = func(into any) error {
			b, err := json.Marshal(value)
			if err != nil {
				return fmt.Errorf("configuration of %s: %w", name, err)
			}
			if err := json.Unmarshal(b, into); err != nil {
				return fmt.Errorf("configuration of %s: %w", name, err)
			}
			return nil
		}
	}
	return out
}
