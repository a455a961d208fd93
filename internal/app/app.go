package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/netlimit"
	"tocsin.dev/tocsin/internal/postgres"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/internal/telemetry"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/updater"
)

// proofAge is how long a write that was taken speaks for readiness, so that
// frequent probes do not write at every look.
const proofAge = 5 * time.Second

// RunFile is the name, under the data directory, of the file that says where a
// running server is.
const RunFile = "run.json"

// Addresses are where a running server listens. That of the embedded NATS server
// holds the login for clients.
type Addresses struct {
	PID           int    `json:"pid"`
	API           string `json:"api"`
	Introspection string `json:"introspection"`
	NATS          string `json:"nats"`
}

// App is one process of Tocsin.
type App struct {
	config   config.Config
	version  v1.Version
	log      *slog.Logger
	registry *prometheus.Registry
	notice   func(string)
	health   *telemetry.Health
	addr     Addresses
	stopping chan struct{} // closed when the process begins to stop
}

// New returns a process of the given configuration, which must be valid. It
// starts nothing. notice, if not nil, is told in words for people what happens
// while it starts.
func New(c config.Config, version v1.Version, log *slog.Logger, notice func(string)) *App {
	if notice == nil {
		notice = func(string) {}
	}
	return &App{config: c, version: version, log: log, registry: telemetry.NewRegistry(), notice: notice, health: telemetry.NewHealth(), stopping: make(chan struct{})}
}

// Run starts everything, blocks until ctx ends or a part of it fails, and
// returns when all of it has stopped.
func (a *App) Run(ctx context.Context) (err error) {
	if err := os.MkdirAll(a.config.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w (set --data-dir or TOCSIN_DATA_DIR to one that can be written)", err)
	}
	slog.SetDefault(slog.New(claircoreLog{a.log.Handler()})) // claircore logs there
	life := newLifecycle(ctx, a.log)
	defer func() {
		a.health.Stopping()
		stopped := life.stop()
		if err != nil && errors.Is(stopped, err) {
			err = nil // it is in stopped already
		}
		err = errors.Join(err, stopped)
	}()
	if err := a.start(ctx, life); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting
		}
		select {
		case failed := <-life.failed: // the cause, where a stage's end was it
			return failed
		default:
			return err
		}
	}
	defer close(a.stopping)
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
		return a.leave(life)
	case err := <-life.failed:
		return err
	}
}

// leave goes on serving for the configured delay, while readiness says that the
// process stops: whoever sends requests here needs a while to notice.
func (a *App) leave(life *lifecycle) error {
	a.health.Stopping()
	select {
	case <-time.After(a.config.ShutdownDelay.Std()):
		return nil
	case err := <-life.failed:
		return err
	}
}

func (a *App) start(ctx context.Context, life *lifecycle) error {
	listeners, err := a.listen()
	if err != nil {
		return err
	}
	served := false
	defer func() {
		if !served {
			listeners.api.Close()
		}
	}()
	life.start("introspection", serveHTTP(listeners.introspection, a.serveIntrospection(telemetry.Introspection(a.registry, a.health))))
	a.health.Step("connecting to PostgreSQL, and bringing the database up to date")
	pool, err := a.database(ctx, life)
	if err != nil {
		return err
	}
	a.health.Step("connecting to NATS")
	b, err := a.bus(ctx, life)
	if err != nil {
		return err
	}
	a.health.Step("starting the roles")
	s, err := a.services(ctx, pool, b)
	if err != nil {
		return err
	}
	if err := s.matcher.BeginTakeover(ctx); err != nil {
		return err
	}
	if a.config.Auth.Bootstrap {
		created, err := s.tokens.Bootstrap(ctx, filepath.Join(a.config.DataDir, access.File))
		if err != nil {
			return fmt.Errorf("first token: %w", err)
		}
		if created {
			a.log.InfoContext(ctx, "first token made", "file", access.File)
			a.notice("API token written to " + filepath.Join(a.config.DataDir, access.File))
		}
	}
	life.start("watch of sealing keys", s.keys.run)
	life.start("watch of the clock", s.clock.run)
	life.start("audit log", s.audit.Run)
	for _, role := range a.roles() {
		life.start(role, s.run(role))
	}
	served = true
	life.start("api", serveHTTP(listeners.api, httpapi.Serve(s.api, a.log)))
	a.health.Check("postgres", telemetry.Proof(proofAge, func(ctx context.Context) error { return postgres.CheckWrite(ctx, pool) }))
	a.health.Check("nats", telemetry.Proof(proofAge, b.Check))
	a.health.Ready()
	if err := a.writeRunFile(); err != nil {
		return err
	}
	a.log.Info("ready", "api", a.addr.API, "introspection", a.addr.Introspection, "nats", text.RedactURL(a.addr.NATS), "roles", a.roles())
	a.notice("API on http://" + a.addr.API + ", NATS on " + text.RedactURL(a.addr.NATS) + ", metrics and health on http://" + a.addr.Introspection)
	return nil
}

func (a *App) roles() []string {
	if len(a.config.Roles) == 0 {
		return config.Roles
	}
	return a.config.Roles
}

type listeners struct{ api, introspection *netlimit.Listener }

// listen opens both addresses, and tries that of the embedded NATS server,
// before anything else, so that an address in use is reported at once.
func (a *App) listen() (listeners, error) {
	var l listeners
	api, err := net.Listen("tcp", a.config.Listen)
	if err != nil {
		return l, fmt.Errorf("listen: %w (another server on it? set listen or TOCSIN_LISTEN)", err)
	}
	introspection, err := net.Listen("tcp", a.config.Introspection)
	if err != nil {
		api.Close()
		return l, fmt.Errorf("introspection: %w (another server on it? set introspection or TOCSIN_INTROSPECTION)", err)
	}
	if err := a.tryNATS(); err != nil {
		api.Close()
		introspection.Close()
		return l, err
	}
	a.addr = Addresses{PID: os.Getpid(), API: api.Addr().String(), Introspection: introspection.Addr().String()}
	return a.limit(api, introspection)
}

// tryNATS reports whether the embedded server, if there is to be one, can listen
// where it is told to.
func (a *App) tryNATS() error {
	if a.config.NATS.URL.Reveal() != "" {
		return nil
	}
	l, err := net.Listen("tcp", a.config.NATS.Listen)
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		return fmt.Errorf("embedded NATS: %w (another server on it? set nats.listen or TOCSIN_NATS_LISTEN, or nats.url to use a server of your own)", err)
	}
	return nil
}

// database opens Postgres, the configured one or a private cluster, and brings
// it up to date.
func (a *App) database(ctx context.Context, life *lifecycle) (*pgxpool.Pool, error) {
	url := a.config.Database.URL.Reveal()
	if url == "" {
		a.notice("starting a private Postgres in " + filepath.Join(a.config.DataDir, "postgres"))
		c := postgres.PrivateCluster(postgres.ClusterOptions{Dir: filepath.Join(a.config.DataDir, "postgres"), Logger: a.log})
		life.start("postgres", c.Run)
		var err error
		if url, err = c.URL(ctx); err != nil {
			return nil, err
		}
	}
	direct := a.config.Database.DirectURL.Reveal()
	if direct != "" {
		if err := a.migrateDirectly(ctx, direct); err != nil {
			return nil, err
		}
	}
	options := []postgres.Option{postgres.WithApplicationName("tocsin"), postgres.WithMaxConns(a.config.Database.MaxConns)}
	if a.config.Database.TransactionPooling {
		options = append(options, postgres.WithTransactionPooling())
	}
	pool, err := postgres.Open(ctx, url, options...)
	if err != nil {
		return nil, err
	}
	life.start("database pool", func(ctx context.Context) error {
		<-ctx.Done()
		pool.Close()
		return ctx.Err()
	})
	if err := telemetry.ObservePool(a.registry, "main", pool); err != nil {
		return nil, err
	}
	if direct != "" {
		return pool, nil
	}
	if err := postgres.Migrate(ctx, pool, a.log); err != nil {
		return nil, fmt.Errorf("migrate the database: %w", err)
	}
	return pool, nil
}

// migrateDirectly brings the database up to date on connections of its own.
func (a *App) migrateDirectly(ctx context.Context, url string) error {
	pool, err := postgres.Open(ctx, url, postgres.WithApplicationName("tocsin"), postgres.WithMaxConns(2))
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool, a.log); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	if a.config.Database.TransactionPooling {
		return postgres.PreparePooling(ctx, pool)
	}
	return nil
}

// bus connects to NATS, the configured one or a server inside.
func (a *App) bus(ctx context.Context, life *lifecycle) (*bus.Bus, error) {
	n := a.config.NATS
	o := bus.Options{
		Name: "tocsin", InboxPrefix: n.InboxPrefix, CredentialsFile: n.CredentialsFile, CAFile: n.CAFile, CertFile: n.CertFile, KeyFile: n.KeyFile, Logger: a.log,
		Streams: bus.StreamOptions{
			JobKinds: []string{indexer.JobKind, updater.Kind},
			Replicas: n.Replicas, IntakeMaxBytes: int64(n.IntakeMaxBytes), EventsMaxBytes: int64(n.EventsMaxBytes), EventsMaxAge: n.EventsMaxAge.Std(),
		},
	}
	var b *bus.Bus
	var err error
	if url := n.URL.Reveal(); url != "" {
		a.addr.NATS = n.URL.String()
		b, err = bus.Connect(ctx, url, o)
	} else {
		user, password := n.User, n.Password.Reveal()
		if user == "" {
			user = natsUser
			if password, err = secrets.Password(filepath.Join(a.config.DataDir, natsPasswordFile)); err != nil {
				return nil, err
			}
		}
		server := bus.Embedded(bus.ServerOptions{
			Dir: filepath.Join(a.config.DataDir, "nats"), Listen: n.Listen, User: user, Password: password,
			MaxStore: int64(n.MaxStore), Logger: a.log,
		})
		life.start("nats", server.Run)
		var at string
		if at, err = server.URL(ctx); err != nil {
			return nil, err
		}
		if a.addr.NATS, err = withLogin(at, user, password); err != nil {
			return nil, err
		}
		b, err = server.Connect(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	life.start("nats connection", func(ctx context.Context) error {
		<-ctx.Done()
		b.Close()
		return ctx.Err()
	})
	return b, nil
}

// The login of the embedded NATS server's clients unless the configuration has one:
// this user, and a password made once, in this file under the data directory.
const (
	natsUser         = "tocsin"
	natsPasswordFile = "nats.password"
)

// withLogin puts a login into a URL.
func withLogin(text, user, password string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("address of the embedded NATS server: %w", err)
	}
	u.User = url.UserPassword(user, password)
	return u.String(), nil
}

// writeRunFile says where this server is, for scripts and for the command line of
// the same user: it holds the login of the NATS server.
func (a *App) writeRunFile() error {
	b, err := json.Marshal(a.addr)
	if err != nil {
		return err
	}
	path := filepath.Join(a.config.DataDir, RunFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("run file: %w", err)
	}
	return os.Rename(path+".new", path)
}
