package notifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/delivery/protocols"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/secrets"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/notifier/subscription"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// owedTable is the Enqueuer of these tests: rows in the caller's transaction,
// as the delivery queue writes them.
type owedTable struct{ pool *pgxpool.Pool }

func (o owedTable) Enqueue(ctx context.Context, tx pgx.Tx, owed []schemas.NewDelivery) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"owed"}, []string{"event_id", "subscription_id"}, pgx.CopyFromSlice(len(owed), func(i int) ([]any, error) {
		return []any{owed[i].EventID, owed[i].SubscriptionID}, nil
	}))
	return err
}

// of is the events owed to a subscription, in order of their ids.
func (o owedTable) of(t testing.TB, subscription string) []uuid.UUID {
	t.Helper()
	rows, err := o.pool.Query(t.Context(), `SELECT event_id FROM owed WHERE subscription_id = $1 ORDER BY event_id`, uuid.MustParse(subscription))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// fewFindings is the Renderer of these tests: as many findings as the key's
// naming id says, each of about a kilobyte.
type fewFindings struct{ pool *pgxpool.Pool }

func (f fewFindings) RenderChanges(ctx context.Context, keys []schemas.ChangeKey, _ int) ([]schemas.VulnerabilitiesChanged, error) {
	out := make([]schemas.VulnerabilitiesChanged, len(keys))
	for i, k := range keys {
		d := &out[i]
		if err := f.pool.QueryRow(ctx, `SELECT digest FROM tocsin.manifest WHERE id = $1`, k.ManifestID).Scan(&d.Manifest.Digest); err != nil {
			return nil, err
		}
		d.Manifest.Names = []string{fmt.Sprintf("registry/team%d/app:%d", k.ManifestID%3, k.ManifestID)}
		d.Update = schemas.Update{Updater: "osv/go", Ref: "00000000-0000-0000-0000-000000000002", Date: time.Unix(1_700_000_000, 0).UTC()}
		for n := range k.InventoryID {
			rank := 5 - min(int(n)/40, 5)
			d.Added = append(d.Added, schemas.Finding{
				ID: fmt.Sprintf("CVE-2026-%04d", n), Updater: "osv/go", NormalizedSeverity: schemas.SeverityNames[rank], Severity: "whatever",
				Package: schemas.Package{Name: fmt.Sprintf("pkg%d", k.ManifestID), Version: "1"}, Description: strings.Repeat("x", 1000),
			})
			d.Counts.BySeverity.Add(rank, 1)
		}
		d.Counts.Added = len(d.Added)
	}
	return out, nil
}

// world is a notifier with all its parts on a database of its own.
type world struct {
	*Notifier
	Pool *pgxpool.Pool
	subs *subscription.Store
	owed owedTable
	logs *bytes.Buffer
}

// options are those of all parts that tests change.
type options struct {
	eventlog.Options
	Source, PublicURL string
	Enqueuer          enqueuer
	Waker             waker
	Keyring           *secrets.Keyring
	Batch             int
}

func newWorld(t testing.TB, change ...func(*options)) *world {
	t.Helper()
	pool := postgrestest.New(t)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE owed (event_id uuid, subscription_id uuid, UNIQUE (event_id, subscription_id))`); err != nil {
		t.Fatal(err)
	}
	return replica(t, pool, change...)
}

// replica is another notifier on the same database.
func replica(t testing.TB, pool *pgxpool.Pool, change ...func(*options)) *world {
	t.Helper()
	keys, err := secrets.New(bytes.Repeat([]byte{7}, secrets.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{owed: owedTable{pool}, logs: &bytes.Buffer{}, Pool: pool}
	o := options{
		Options: eventlog.Options{
			Pool: pool, Renderer: fewFindings{pool}, Logger: slog.New(slog.NewTextHandler(w.logs, nil)), Poll: 20 * time.Millisecond,
			Registerer: prometheus.NewRegistry(),
		},
		Enqueuer: w.owed, Keyring: keys, PublicURL: "https://tocsin.example",
	}
	for _, c := range change {
		c(&o)
	}
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	filters, err := filter.NewCompiler(filter.Limits{})
	fatal(err)
	subs := subscription.Options{Pool: pool, Filters: filters, Keyring: o.Keyring, Logger: o.Logger, Sinks: protocols.Checker{}}
	if o.Waker != nil {
		o.Options.Waker, subs.Waker = o.Waker, o.Waker
	}
	w.subs, err = subscription.New(subs)
	fatal(err)
	writer, err := eventlog.NewWriter(eventlog.WriterOptions{Pool: pool, Source: o.Source, PublicURL: o.PublicURL, Now: o.Now})
	fatal(err)
	announcer, err := NewAnnouncer(AnnouncerOptions{
		Events: writer, Subscriptions: w.subs, Enqueuer: o.Enqueuer, Waker: o.Waker, Logger: o.Logger, Registerer: o.Registerer, Batch: o.Batch,
	})
	fatal(err)
	log, err := eventlog.New(o.Options)
	fatal(err)
	w.Notifier, err = New(Options{Announcer: announcer, Log: log, Pool: pool, Poll: o.Poll})
	fatal(err)
	return w
}

func (w *world) tx(t testing.TB, do func(tx pgx.Tx) error) {
	t.Helper()
	if err := pgx.BeginFunc(t.Context(), w.Pool, do); err != nil {
		t.Fatal(err)
	}
}

// webhook stores a subscription with these filters.
func (w *world) webhook(t testing.TB, change func(*schemas.Subscription), filters ...schemas.Filter) schemas.Subscription {
	t.Helper()
	spec := schemas.Subscription{Sink: "https://example.com/hook", Protocol: schemas.ProtocolHTTP, Filters: filters}
	if change != nil {
		change(&spec)
	}
	s, _, err := w.subs.Create(t.Context(), "", spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// manifests makes n manifests.
func (w *world) manifests(t testing.TB, n int) {
	t.Helper()
	_, err := w.Pool.Exec(t.Context(), `
WITH m AS (
  INSERT INTO tocsin.manifest (digest, spec) SELECT 'sha256:' || lpad(to_hex(i), 64, '0'), '{}' FROM generate_series(1, $1::int) i RETURNING id
), n AS (
  INSERT INTO tocsin.naming (manifest_id, names) SELECT id, ARRAY['registry/team' || id % 3 || '/app:' || id] FROM m RETURNING id, manifest_id
)
SELECT count(*) FROM n`, n)
	if err != nil {
		t.Fatal(err)
	}
}

var osv = schemas.Update{Updater: "osv/go", Ref: "00000000-0000-0000-0000-000000000002", Previous: "00000000-0000-0000-0000-000000000001", Date: time.Unix(1_700_000_000, 0).UTC()}

// affected fills affected_manifest from all manifests: rank by id, every other
// fixable, every seventh on the KEV list.
func affected(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
CREATE TEMP TABLE affected_manifest (
  manifest_id integer, inventory_id bigint, naming_id bigint, added integer, removed integer, revised integer,
  severityrank smallint, fixable boolean, kev boolean, epss smallint, attributes jsonb
) ON COMMIT DROP`)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
INSERT INTO affected_manifest
SELECT m.id, 3, n.id, 2, 0, 1, m.id % 6, m.id % 2 = 0, m.id % 7 = 0, CASE WHEN m.id % 5 = 0 THEN 50 END
FROM tocsin.manifest m JOIN tocsin.naming n ON n.manifest_id = m.id`)
	return err
}

// change announces a change of all manifests, and rolls back if fail says so.
func (w *world) change(ctx context.Context, id int64, fail error) (n int64, err error) {
	err = pgx.BeginFunc(ctx, w.Pool, func(tx pgx.Tx) error {
		if err := affected(ctx, tx); err != nil {
			return err
		}
		if n, err = w.ManifestsChanged(ctx, tx, id, osv); err != nil {
			return err
		}
		return fail
	})
	return n, err
}

func (w *world) mustChange(t testing.TB, id int64) {
	t.Helper()
	if _, err := w.change(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
}

// matchAll matches all that is pending, and says in how many turns.
func (w *world) matchAll(t testing.TB) (turns int) {
	t.Helper()
	for {
		worked, err := w.matchPending(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !worked {
			return turns
		}
		turns++
	}
}

func (w *world) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	if err := w.Pool.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

var errKilled = errors.New("killed")

func exactly(name, value string) schemas.Filter {
	return schemas.Filter{Exact: map[string]string{name: value}}
}

// until polls a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
