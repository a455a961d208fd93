package indexer

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/indexer/blobs"
	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) {
	ServeScans()
	postgrestest.Main(m)
}

// deadline bounds every wait of a test.
const deadline = time.Minute

// rig is one replica of the role on a database and a NATS server that several
// may share.
type rig struct {
	*Indexer
	pool *pgxpool.Pool
	nats *bustest.Server
	bus  *bus.Bus
	jobs *jobs.Store
	stop func()

	mu       sync.Mutex
	recorded []Indexed
	fail     error         // what Indexed answers once
	during   func(Indexed) // called once, before Indexed does anything
}

// place is what replicas share.
type place struct {
	pool    *pgxpool.Pool
	nats    *bustest.Server
	bus     *bus.Bus
	blobDir string
	sealer  Sealer
}

func newPlace(t testing.TB) *place {
	t.Helper()
	pool := postgrestest.New(t)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE announced (id bigint GENERATED ALWAYS AS IDENTITY, type text, data jsonb)`); err != nil {
		t.Fatal(err)
	}
	ring, err := secrets.New(make([]byte, secrets.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	server := bustest.NewServer(t)
	return &place{pool: pool, nats: server, bus: server.Connect(), blobDir: t.TempDir(), sealer: ring}
}

// newRig makes a replica that does not run yet.
func (p *place) newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	r := &rig{pool: p.pool, nats: p.nats, bus: p.bus, stop: func() {}}
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r.jobs = jobs.New(p.pool, p.bus, jobs.Options{
		Policies:   map[string]jobs.Policy{JobKind: {MaxAttempts: 3, MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond}},
		SweepEvery: 100 * time.Millisecond,
		Lease:      3 * time.Second,
		OnFailed: func(ctx context.Context, tx pgx.Tx, job jobs.Job) error {
			return r.JobFailed(ctx, tx, job)
		},
		Logger: logger,
	})
	store, err := blobs.New(p.blobDir, blobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Pool: p.pool, Jobs: r.jobs, Intake: p.bus, Recorder: r, Announcer: announcer{}, Sealer: p.sealer, Blobs: store,
		DataDir: t.TempDir(), AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		MaintainEvery: 200 * time.Millisecond, Logger: logger,
		Scanners: offline(t),
	}
	if change != nil {
		change(&o)
	}
	if r.Indexer, err = New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return r
}

// offline points the scanners that would ask the internet at nothing.
func offline(t testing.TB) Scanners {
	nowhere := "http://127.0.0.1:1/"
	set := func(config map[string]any) func(any) error {
		b, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		return func(v any) error { return json.Unmarshal(b, v) }
	}
	return Scanners{
		Package: map[string]func(any) error{
			"rhel_containerscanner": set(map[string]any{"name2repos_mapping_url": nowhere}),
			"java":                  set(map[string]any{"disable_api": true}),
		},
		Repo: map[string]func(any) error{"rhel-repository-scanner": set(map[string]any{"repo2cpe_mapping_url": nowhere})},
	}
}

// run runs the replica until the test ends or stop is called.
func (r *rig) run(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// Indexed and Forget do to the rows what the matcher's engine does.
func (r *rig) Indexed(ctx context.Context, m Indexed, report *claircore.IndexReport) error {
	r.mu.Lock()
	err, during := r.fail, r.during
	r.fail, r.during = nil, nil
	r.mu.Unlock()
	if during != nil {
		during(m)
	}
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		var inventory int64
		if err := tx.QueryRow(ctx, `UPDATE tocsin.manifest
			SET state = 'indexed', reason = '', returned = false, inventory_id = coalesce(inventory_id, 0) + 1, indexer_state = @state, indexed_at = now(), updated_at = now()
			WHERE id = @id AND state <> 'deleted' RETURNING inventory_id`, pgx.NamedArgs{"id": m.ID, "state": m.IndexerState}).Scan(&inventory); err != nil {
			return err
		}
		return announce(ctx, tx, schemas.TypeManifestIndexed, schemas.ManifestIndexed{
			Manifest: schemas.Manifest{Digest: m.Digest, Names: m.Names, Labels: m.Labels}, Packages: len(report.Packages),
			IndexerState: m.IndexerState, Reindexed: m.Reindexed, Warnings: m.Warnings,
		})
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded = append(r.recorded, m)
	return nil
}

func (r *rig) Forget(ctx context.Context, id int32) error {
	_, err := r.pool.Exec(ctx, `INSERT INTO announced (type, data) VALUES ('forgotten', to_jsonb(@id::int))`, pgx.NamedArgs{"id": id})
	return err
}

func (r *rig) Retire(ctx context.Context, tx pgx.Tx, choose func() ([]int32, error)) error {
	ids, err := choose()
	for _, id := range ids {
		if err := announce(ctx, tx, "forgotten", id); err != nil {
			return err
		}
	}
	return err
}

// records counts how often a manifest's inventory was recorded.
func (r *rig) records(digest string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.recorded {
		if m.Digest == digest {
			n++
		}
	}
	return n
}

// forced reports whether the last of them asked for an event whatever is new.
func (r *rig) forced(digest string) (forced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.recorded {
		if m.Digest == digest {
			forced = m.Force
		}
	}
	return forced
}

// announcer writes events to a table, in the transaction it is given.
type announcer struct{}

func announce(ctx context.Context, tx pgx.Tx, kind string, data any) error {
	_, err := tx.Exec(ctx, `INSERT INTO announced (type, data) VALUES (@type, @data)`, pgx.NamedArgs{"type": kind, "data": data})
	return err
}

func (announcer) JobRejected(ctx context.Context, tx pgx.Tx, data schemas.JobRejected) error {
	return announce(ctx, tx, schemas.TypeJobRejected, data)
}

func (announcer) ManifestIndexFailed(ctx context.Context, tx pgx.Tx, data schemas.ManifestIndexFailed) error {
	return announce(ctx, tx, schemas.TypeManifestIndexFailed, data)
}

func (announcer) ManifestRetired(ctx context.Context, tx pgx.Tx, ev schemas.RetiredEvent) error {
	return announce(ctx, tx, schemas.TypeManifestRetired, ev.Data)
}

// announced returns the events of a type so far.
func announced[T any](t *testing.T, pool *pgxpool.Pool, kind string) []T {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT data FROM announced WHERE type = @type ORDER BY id`, pgx.NamedArgs{"type": kind})
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually polls until ok says so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// wait waits until an image is indexed or failed.
func (r *rig) wait(t *testing.T, digest string) Image {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for {
		img, err := r.Get(ctx, digest)
		if err != nil {
			t.Fatalf("wait for %s: %v (state %s, %s)", digest, err, img.State, img.Reason)
		}
		if img.State == StateFailed || img.State == StateIndexed && (img.IndexerState == r.state || img.Reason != "") {
			return img
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fixtures returns the path of the shared fixtures, or skips the test.
func fixtures(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "shared", "fixtures"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("TOCSIN_NEED_FIXTURES") != "" {
			t.Fatalf("the fixtures must be there: %v", err)
		}
		t.Skip("no fixtures here")
	}
	return dir
}
