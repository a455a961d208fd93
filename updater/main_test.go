package updater

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) {
	if os.Getenv(childURL) != "" {
		child()
	}
	postgrestest.Main(m)
}

// heard is what a service told the others.
type heard struct {
	mu     sync.Mutex
	wakes  int
	failed []schemas.UpdateFailed
	held   []schemas.UpdateHeld
	stale  []schemas.UpdateStale
}

func (h *heard) Wake(subject string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if subject == bus.WakeMatcher {
		h.wakes++
	}
}

// UpdateFailed keeps the data in a table too, so that a rolled back
// announcement is not counted.
func (h *heard) UpdateFailed(ctx context.Context, tx pgx.Tx, data schemas.UpdateFailed) error {
	if _, err := tx.Exec(ctx, `INSERT INTO announced (set_name, updater, reason) VALUES (@s, @u, @r)`,
		pgx.NamedArgs{"s": data.Set, "u": data.Updater, "r": data.Reason}); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = append(h.failed, data)
	return nil
}

func (h *heard) UpdateHeld(_ context.Context, _ pgx.Tx, data schemas.UpdateHeld) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, data)
	return nil
}

// UpdateStale keeps the data.
func (h *heard) UpdateStale(_ context.Context, _ pgx.Tx, data schemas.UpdateStale) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = append(h.stale, data)
	return nil
}

func (h *heard) woken() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wakes
}

// A bench is a service on a database of its own whose sets a test runs by hand.
type bench struct {
	*Service
	heard
	t testing.TB
}

func newBench(t testing.TB, cfg Config, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t}
	pool := postgrestest.New(t)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE announced (set_name text, updater text, reason text)`); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Config: cfg, Pool: pool, Waker: b, Announcer: b, UpdateLock: 4242, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if b.Service, err = New(o); err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a set as a job that a person asked for.
func (b *bench) run(set string) error {
	return b.runContext(b.t.Context(), set)
}

func (b *bench) runContext(ctx context.Context, set string) error {
	payload, err := json.Marshal(request{Manual: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.work(ctx, jobs.Job{ID: uuid.New(), Kind: Kind, Key: set, Payload: payload})
}

// updater returns the status of one updater, or of none.
func (b *bench) updater(name string) UpdaterStatus {
	b.t.Helper()
	sets, err := b.Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range sets {
		for _, u := range s.Updaters {
			if u.Updater == name {
				return u
			}
		}
	}
	return UpdaterStatus{}
}

func (b *bench) set(name string) SetStatus {
	b.t.Helper()
	sets, err := b.Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range sets {
		if s.Set == name {
			return s
		}
	}
	b.t.Fatalf("no status of set %s", name)
	return SetStatus{}
}

// want fails the test unless the updater's last run had the result and its
// data have that many rows.
func (b *bench) want(updater string, result Result, rows int64) UpdaterStatus {
	b.t.Helper()
	u := b.updater(updater)
	if u.Result != result || u.Rows != rows {
		b.t.Fatalf("%s: %s with %d rows (error %q), want %s with %d", updater, u.Result, u.Rows, u.Error, result, rows)
	}
	return u
}

// serverAt stands for a mirror that runs in another process.
func serverAt(url string) *httptest.Server { return &httptest.Server{URL: url} }

// one returns what a query with one row and column says.
func one[T any](b *bench, sql string, args ...any) T {
	b.t.Helper()
	var v T
	if err := b.pool.QueryRow(b.t.Context(), sql, args...).Scan(&v); err != nil {
		b.t.Fatal(err)
	}
	return v
}
