package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/internal/traceparent"
)

const (
	// MaxPayload bounds a job's payload, in bytes.
	MaxPayload = 8 << 20
	// rejectedKept is how much of a message nobody understands is kept, in bytes.
	rejectedKept = 4 << 10
	maxReason    = 4 << 10
	maxProgress  = 1 << 10
)

// Options of a Store. The zero value will do.
type Options struct {
	// Policies by kind; a kind without one has [DefaultPolicy].
	Policies map[string]Policy
	// Lease is how long a runner that has gone silent keeps its job.
	Lease time.Duration
	// SweepEvery is the longest pause between two sweeps of Run.
	SweepEvery time.Duration
	// KeepDone and KeepFailed are how long ended jobs are kept.
	KeepDone, KeepFailed time.Duration
	// RunBy names the role that runs a kind of jobs, for people.
	RunBy map[string]string
	// OnFailed, if set, is called when a job fails for good, in the transaction
	// that says so; its error undoes that, and it is tried again later.
	OnFailed func(ctx context.Context, tx pgx.Tx, job Job) error
	Logger   *slog.Logger
	// Registerer takes this package's metrics; none if nil.
	Registerer prometheus.Registerer
}

// Defaults are the options with which a store works unless told otherwise.
func Defaults() Options {
	return Options{Lease: 30 * time.Second, SweepEvery: 5 * time.Second, KeepDone: 7 * 24 * time.Hour, KeepFailed: 30 * 24 * time.Hour}
}

// A Store keeps jobs. Its methods may be called concurrently.
type Store struct {
	pool    *pgxpool.Pool
	bus     *bus.Bus
	opts    Options
	log     *slog.Logger
	metrics *metrics
}

// New returns a store on a migrated database. It starts nothing.
func New(pool *pgxpool.Pool, b *bus.Bus, o Options) *Store {
	d := Defaults()
	o.Lease, o.SweepEvery = cmp.Or(o.Lease, d.Lease), cmp.Or(o.SweepEvery, d.SweepEvery)
	o.KeepDone, o.KeepFailed = cmp.Or(o.KeepDone, d.KeepDone), cmp.Or(o.KeepFailed, d.KeepFailed)
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Store{pool: pool, bus: b, opts: o, log: log, metrics: newMetrics(o.Registerer)}
}

func (s *Store) policy(kind string) Policy { return s.opts.Policies[kind].withDefaults() }

// columns are those of a Job, in the order of scan.
const columns = `id, kind, key, payload, state, rejected, attempts, reason, progress, result, traceparent, fence, next_run_at, created_at, updated_at, messages`

func scan(row pgx.CollectableRow) (j Job, err error) {
	err = row.Scan(&j.ID, &j.Kind, &j.Key, &j.Payload, &j.State, &j.Rejected, &j.Attempts, &j.Reason, &j.Progress, &j.Result,
		&j.traceparent, &j.Fence, &j.NextRunAt, &j.CreatedAt, &j.UpdatedAt, &j.Messages)
	return j, err
}

// A querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// one returns the job of a statement that returns one row of columns, or
// pgx.ErrNoRows.
func one(ctx context.Context, q querier, sql string, args pgx.NamedArgs) (Job, error) {
	rows, err := q.Query(ctx, sql, args)
	if err != nil {
		return Job{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scan)
}

const (
	insertSQL = `
INSERT INTO tocsin.job (kind, key, payload, traceparent) VALUES (@kind, @key, @payload, @traceparent)
ON CONFLICT (kind, key) WHERE state IN ('queued', 'running') DO NOTHING
RETURNING ` + columns

	activeSQL = `
SELECT ` + columns + ` FROM tocsin.job
WHERE kind = @kind AND key = @key AND state IN ('queued', 'running')`

	publishedSQL = `UPDATE tocsin.job SET published_at = clock_timestamp() WHERE id = ANY(@ids)`
)

// Submit returns the active job of kind and key, or a new one with payload as
// JSON and true. When it returns without error, the job will be run, also when
// NATS is not there: the row is what counts. An active job keeps the payload
// that it has. The job runs in the trace context of ctx, or a new one.
func (s *Store) Submit(ctx context.Context, kind, key string, payload any) (Job, bool, error) {
	b, err := json.Marshal(payload)
	if err != nil {
		return Job{}, false, fmt.Errorf("submit %s job: payload: %w", kind, err)
	}
	if len(b) > MaxPayload {
		return Job{}, false, fmt.Errorf("submit %s job: payload of %d bytes is over the limit of %d", kind, len(b), MaxPayload)
	}
	if key == "" || !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return Job{}, false, fmt.Errorf("submit %s job: key %q is empty or not text", kind, key)
	}
	args := pgx.NamedArgs{
		"kind": kind, "key": key, "payload": json.RawMessage(b), "traceparent": traceparent.From(traceparent.Start(ctx)),
	}
	for {
		job, err := one(ctx, s.pool, insertSQL, args)
		if err == nil {
			s.hand(ctx, job)
			return job, true, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return Job{}, false, fmt.Errorf("submit %s job: %w", kind, err)
		}
		job, err = one(ctx, s.pool, activeSQL, args)
		if err == nil {
			return job, false, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return Job{}, false, fmt.Errorf("submit %s job: %w", kind, err)
		}
		// It ended between the two statements.
	}
}

// hand publishes a queued job. It has no error to return: what it does not
// manage, the sweeper does.
func (s *Store) hand(ctx context.Context, job Job) {
	s.bus.Wake(bus.WakeJobs)
	if err := s.publish(ctx, job.Kind, job.ID); err != nil {
		s.log.WarnContext(ctx, "job not published; the sweeper will", "job", job.ID, "kind", job.Kind, "error", err)
		return
	}
	if _, err := s.pool.Exec(ctx, publishedSQL, pgx.NamedArgs{"ids": []uuid.UUID{job.ID}}); err != nil {
		s.log.WarnContext(ctx, "published job not marked; it will be published again", "job", job.ID, "error", err)
	}
}

// publish sends the ids of jobs of one kind to its runners. The message has an
// id of its own: a job may have to be published again, and twice does no harm.
func (s *Store) publish(ctx context.Context, kind string, ids ...uuid.UUID) error {
	msgs := make([]bus.Message, len(ids))
	for i, id := range ids {
		msgs[i] = bus.Message{Subject: bus.SubjectJobs + kind, ID: uuid.NewString(), Data: []byte(id.String())}
	}
	return s.bus.PublishBatch(ctx, msgs)
}

func (s *Store) announce(ctx context.Context, tx pgx.Tx, job Job) error {
	if s.opts.OnFailed == nil {
		return nil
	}
	if err := s.opts.OnFailed(ctx, tx, job); err != nil {
		return fmt.Errorf("announce failed job: %w", err)
	}
	return nil
}

// clean is text as a row may hold it: what PostgreSQL takes, without what looks like
// a secret, at most limit bytes.
func clean(s string, limit int) string {
	return text.Cut(text.Redact(text.Clean(text.Cut(s, 4*limit))), limit)
}
