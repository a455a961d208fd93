package e2e

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	demoimage "tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/demo/mirror"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/schemas"
)

// TestPgBouncer brings an image, an update and its event through a real PgBouncer
// in both modes, as a user whose name is that of Tocsin's schema.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	built, err := demoimage.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	images := filepath.Dir(built.Ref[len("oci:"):])
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			img := serveImages(t, images)[0]
			direct := databaseOf(t, "tocsin")
			pooled := postgrestest.PgBouncer(t, mode, direct)
			database := fmt.Sprintf("database: {url: %q}\n", pooled)
			if mode == "transaction" {
				database = fmt.Sprintf("database: {url: %q, direct_url: %q, transaction_pooling: true}\n", pooled, direct)
			}
			mine, err := mirror.New()
			if err != nil {
				t.Fatal(err)
			}
			feeds := httptest.NewServer(mine)
			t.Cleanup(feeds.Close)
			s := newServer(t, database+fmt.Sprintf("updaters:\n  sets: [osv]\n  config: {osv: {url: \"%s/\"}}\n  schedules: {default: \"@every 24h\"}\n", feeds.URL))
			s.start()
			hook := newReceiver(t)
			s.subscribe(hook, mode)
			s.publish("tocsin.manifests", img.job(t))
			of := func(kind string) func(received) bool {
				return func(r received) bool { return r.Type == kind && r.Subject == img.Digest }
			}
			eventually(t, 2*time.Minute, "the indexed event", func() (bool, string) {
				return hook.count(of(schemas.TypeManifestIndexed)) == 1, fmt.Sprint(len(hook.all()), " events so far")
			})
			s.quiet(hook)
			mine.Advance()
			before := hook.count(of(schemas.TypeVulnerabilitiesChanged))
			s.publish("tocsin.updates", []byte(`{"set":"osv"}`))
			eventually(t, 2*time.Minute, "the changed event", func() (bool, string) {
				return hook.count(of(schemas.TypeVulnerabilitiesChanged)) > before, fmt.Sprint(len(hook.all()), " events so far")
			})
			// A second start finds the schema and a pooler with connections.
			s.kill()
			s.start()
			s.quiet(hook)
			if locks := sessionLocks(t, direct); locks > 0 {
				t.Errorf("%d advisory locks are held by nobody's transaction", locks)
			}
		})
	}
}

// databaseOf is the URL of an empty database that belongs to a user of its own.
func databaseOf(t *testing.T, user string) string {
	t.Helper()
	pool := postgrestest.Empty(t)
	c := pool.Config().ConnConfig
	for _, sql := range []string{
		`DO $$ BEGIN CREATE ROLE ` + user + ` LOGIN PASSWORD 'tocsin'; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$`,
		`ALTER DATABASE ` + pgx.Identifier{c.Database}.Sanitize() + ` OWNER TO ` + user,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("postgres://%s:tocsin@%s:%d/%s?sslmode=disable", user, c.Host, c.Port, c.Database)
}

// sessionLocks counts advisory locks of sessions that are in no transaction: what
// a pooler's next client would hold without knowing.
func sessionLocks(t *testing.T, url string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), `
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND a.state = 'idle' AND a.datname = current_database()`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
