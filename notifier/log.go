package notifier

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// Renderer renders the data of vulnerabilities_changed events; package matcher
// does. It answers one data a key, in their order, each of about limit bytes
// of JSON at most, its lists cut; all of it if limit is 0.
type Renderer interface {
	RenderChanges(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error)
}

// Enqueuer writes deliveries in the caller's transaction; package delivery
// does.
type Enqueuer interface {
	Enqueue(ctx context.Context, tx pgx.Tx, owed []schemas.Owed) error
}

// Publisher publishes a message to NATS and returns once it has been stored.
// Messages with one id are stored once.
type Publisher interface {
	Publish(ctx context.Context, subject, id string, data []byte) error
}

// Waker passes hints, which may be lost, between processes.
type Waker interface {
	Wake(subject string)
	OnWake(ctx context.Context, subject string) <-chan struct{}
}

// Subjects of hints: that there is something in the outbox, and that there are
// deliveries.
const (
	WakeOutbox   = "tocsin.wake.outbox"
	WakeDelivery = "tocsin.wake.delivery"
)

// Options is what a Log works with. Pool is needed; Renderer to read events of
// updates and to run; Enqueuer to announce; Keyring for subscriptions;
// Publisher to relay the outbox. The rest has defaults.
type Options struct {
	Pool       *pgxpool.Pool
	Renderer   Renderer
	Enqueuer   Enqueuer
	Publisher  Publisher // nil: Run relays nothing
	Waker      Waker     // nil: polling alone
	Keyring    *secrets.Keyring
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time

	// CheckSink says why a sink, or a broker of failover, may never be called,
	// so that a subscription to it is refused and not accepted in vain. It gets
	// a URL with a host and resolves no names. A [FieldError] it returns keeps
	// its hint. Nil checks nothing.
	CheckSink func(rawURL string) error

	Source    string        // of events; default urn:tocsin:<instance>
	PublicURL string        // this server as others reach it, for links in new events; default http://127.0.0.1:6060
	Retention time.Duration // of events; default 90 days, kept by days
	DataLimit int           // bytes of an event's data; default 256 KiB
	Batch     int           // events matched or relayed at a time; default 2,048
	Poll      time.Duration // how often to look for work without a hint; default 2 s
	Filters   filter.Limits
}

// Log is the event log and the subscriptions. It is safe for concurrent use.
type Log struct {
	Options
	compiler *filter.Compiler
	metrics  *metrics
	view     atomic.Pointer[view]
	source   atomic.Pointer[string]
	base     atomic.Pointer[base]
}

// New returns a log; it starts nothing and does not touch the database.
func New(o Options) (*Log, error) {
	if o.Pool == nil {
		return nil, fmt.Errorf("notifier: no database pool")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	o.PublicURL = strings.TrimRight(cmp.Or(o.PublicURL, "http://127.0.0.1:6060"), "/")
	o.Retention = cmp.Or(o.Retention, 90*24*time.Hour)
	o.DataLimit = cmp.Or(o.DataLimit, 256<<10)
	o.Batch = cmp.Or(o.Batch, 2048)
	o.Poll = cmp.Or(o.Poll, 2*time.Second)
	compiler, err := filter.NewCompiler(o.Filters)
	if err != nil {
		return nil, err
	}
	l := &Log{Options: o, compiler: compiler, metrics: newMetrics(o.Registerer)}
	if o.Source != "" {
		l.source.Store(&o.Source)
	}
	return l, nil
}

// Use gives the log those it can't be made with because they are made with it.
// It must be called before anything else; nil changes nothing.
func (l *Log) Use(r Renderer, e Enqueuer) {
	if r != nil {
		l.Renderer = r
	}
	if e != nil {
		l.Enqueuer = e
	}
}

// Committed passes hints on that a transaction with announcements has been
// committed. It never blocks; without it, work is found by polling.
func (l *Log) Committed() {
	if l.Waker != nil {
		l.Waker.Wake(WakeOutbox)
		l.Waker.Wake(WakeDelivery)
	}
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const instanceID = `
WITH made AS (
  INSERT INTO tocsin.setting (key, value) VALUES ('instance', @id) ON CONFLICT (key) DO NOTHING RETURNING value
)
SELECT value FROM made UNION ALL SELECT value FROM tocsin.setting WHERE key = 'instance' LIMIT 1`

// eventSource is the source of new events. The instance's id is made once for
// a database.
func (l *Log) eventSource(ctx context.Context) (string, error) {
	if s := l.source.Load(); s != nil {
		return *s, nil
	}
	var id string
	for range 2 {
		// Another process may be making it at the same moment: then neither
		// half of the statement sees it, and the second try does.
		err := l.Pool.QueryRow(ctx, instanceID, pgx.NamedArgs{"id": uuid.NewString()}).Scan(&id)
		if err == nil {
			break
		}
		if err != pgx.ErrNoRows {
			return "", fmt.Errorf("notifier: read the instance's id: %w", err)
		}
	}
	if id == "" {
		return "", fmt.Errorf("notifier: read the instance's id: %w", pgx.ErrNoRows)
	}
	s := "urn:tocsin:" + id
	l.source.Store(&s)
	return s, nil
}
