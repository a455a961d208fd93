package clair_test

//lint:file-ignore SA1019 Clair 4.9 indexes with these, and its database is what is taken over.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/datastore/postgres/migrations"
	"github.com/quay/claircore/dpkg"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/libindex"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/pkg/ctxlock/v2"
	"github.com/quay/claircore/toolkit/types"

	"tocsin.dev/tocsin/internal/app"
	"tocsin.dev/tocsin/internal/config"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/matcher"
)

// notifierTables are what Clair 4's notifier keeps, as far as clients see it.
const notifierTables = `
CREATE TYPE receiptstatus AS ENUM ('created', 'delivered', 'delivery_failed', 'deleted');
CREATE TABLE notification (id uuid PRIMARY KEY);
CREATE TABLE notifier_update_operation (uo_id uuid PRIMARY KEY, updater text, ts timestamptz);
CREATE TABLE notification_body (id uuid PRIMARY KEY, notification_id uuid REFERENCES notification ON DELETE CASCADE, body jsonb NOT NULL);
CREATE TABLE receipt (
  notification_id uuid PRIMARY KEY REFERENCES notification ON DELETE CASCADE,
  uo_id uuid REFERENCES notifier_update_operation ON DELETE CASCADE,
  status receiptstatus NOT NULL, ts timestamptz, details jsonb
)`

// clairDatabase is one that claircore's own indexer and store have filled, and a
// notifier with Clair's tables.
type clairDatabase struct {
	t     *testing.T
	pool  *pgxpool.Pool
	lib   *libindex.Libindex
	vulns *postgres.MatcherStore
}

func newClairDatabase(t *testing.T) *clairDatabase {
	t.Helper()
	ctx := t.Context()
	d := &clairDatabase{t: t, pool: postgrestest.Empty(t)}
	if err := migrations.Indexer(ctx, d.pool.Config().ConnConfig); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Matcher(ctx, d.pool.Config().ConnConfig); err != nil {
		t.Fatal(err)
	}
	d.pool.Reset()
	d.exec(notifierTables)
	locks, err := ctxlock.New(ctx, d.pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { locks.Close(context.Background()) })
	arena, err := libindex.CreateRemoteFetchArena(http.DefaultClient, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d.lib, err = libindex.New(ctx, &libindex.Options{
		Store: postgres.NewIndexerStore(d.pool), Locker: locks, FetchArena: arena,
		Ecosystems: []*indexer.Ecosystem{dpkg.NewEcosystem(ctx)},
	}, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	d.vulns = postgres.NewMatcherStore(d.pool)
	return d
}

func (d *clairDatabase) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.pool.Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatal(err)
	}
}

func (d *clairDatabase) index(m wireManifest) {
	d.t.Helper()
	cm := &claircore.Manifest{Hash: claircore.MustParseDigest(m.Hash)}
	for _, l := range m.Layers {
		//lint:ignore SA1019 a manifest over Clair's API has both
		cm.Layers = append(cm.Layers, &claircore.Layer{Hash: claircore.MustParseDigest(l.Hash), URI: l.URI, Headers: map[string][]string{}})
	}
	r, err := d.lib.Index(d.t.Context(), cm)
	if err != nil || !r.Success {
		d.t.Fatalf("claircore's index: %v, %+v", err, r)
	}
}

// update stores the whole of a feed: a flaw a package, named after it.
func (d *clairDatabase) update(updater string, packages ...string) uuid.UUID {
	d.t.Helper()
	var vulns []*claircore.Vulnerability
	for _, name := range packages {
		vulns = append(vulns, &claircore.Vulnerability{
			Updater: updater, Name: updater + "-" + name, Description: "A flaw.", Severity: "high", NormalizedSeverity: claircore.High,
			Package: &claircore.Package{Name: name, Kind: types.BinaryPackage}, FixedInVersion: "9", Repo: &claircore.Repository{},
			Dist: &claircore.Distribution{
				DID: "debian", Name: "Debian GNU/Linux", Version: "12 (bookworm)", VersionID: "12", VersionCodeName: "bookworm",
				PrettyName: "Debian GNU/Linux 12 (bookworm)",
			},
		})
	}
	ref, err := d.vulns.UpdateVulnerabilities(d.t.Context(), updater, driver.Fingerprint(uuid.NewString()), vulns)
	if err != nil {
		d.t.Fatal(err)
	}
	return ref
}

// receipt is what the notifier writes of an update it has come to.
func (d *clairDatabase) receipt(op uuid.UUID, status string, bodies ...string) (id uuid.UUID) {
	d.t.Helper()
	id = uuid.New()
	d.exec(`INSERT INTO notification VALUES ($1)`, id)
	d.exec(`INSERT INTO notifier_update_operation VALUES ($1, 'x', now()) ON CONFLICT DO NOTHING`, op)
	d.exec(`INSERT INTO receipt VALUES ($1, $2, $3::text::receiptstatus, now())`, id, op, status)
	for _, body := range bodies {
		d.exec(`INSERT INTO notification_body VALUES (gen_random_uuid(), $1, $2)`, id, body)
	}
	return id
}

func (p *process) told(t *testing.T) []string {
	t.Helper()
	status, b := p.call(t, "GET", "/api/v1/events?limit=100&type=dev.tocsin.manifest.vulnerabilities_changed.v1", nil)
	if status != 200 {
		t.Fatalf("%d: %s", status, b)
	}
	var page struct {
		Items []struct {
			Subject string `json:"subject"`
			Data    struct {
				Added []struct {
					ID string `json:"id"`
				} `json:"added"`
			} `json:"data"`
		} `json:"items"`
	}
	if err := json.Unmarshal(b, &page); err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range page.Items {
		for _, f := range e.Data.Added {
			out = append(out, e.Subject[7:13]+" "+f.ID)
		}
	}
	slices.Sort(out)
	return out
}

// settle waits until nothing is left to take over or to work through.
func (p *process) settle(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, b := p.call(t, "GET", "/api/v1/stats", nil)
		var s v1.Stats
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		if s.Takeover == nil && s.PendingUpdates == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not done: %s", b)
		}
	}
}

// A server that is started on Clair's database tells what Clair's notifier has
// not, once, and nothing else.
func TestFault7_ClairsDatabase(t *testing.T) {
	t.Parallel()
	d := newClairDatabase(t)
	images := &process{served: map[string][]byte{}}
	images.serveLayers(t)
	shop, blog := images.debian(t, "bash", "zlib1g"), images.debian(t, "curl")
	d.index(shop)
	d.index(blog)
	// Of a failed index Clair keeps a report, too.
	d.exec(`INSERT INTO manifest (hash) VALUES ($1)`, digest([]byte("failed")))
	d.exec(`INSERT INTO indexreport (manifest_id, scan_result) SELECT id, '{"success":false}' FROM manifest WHERE hash = $1`, digest([]byte("failed")))

	d.update("quiet", "zlib1g") // Clair has forgotten its receipt: a client deleted the notification
	d.receipt(d.update("debian", "nosuch"), "deleted")
	undelivered := d.update("debian", "nosuch", "curl")
	d.receipt(undelivered, "created", `{"manifest":"x"}`)
	body := `{"id":"00000000-0000-0000-0000-000000000000","manifest":"` + shop.Hash + `","reason":"added","vulnerability":{"name":"CVE-2026-%d","severity":"High","links":"","package":{"id":"7","name":"bash"}}}`
	open := d.receipt(d.update("debian", "nosuch", "curl", "bash"), "delivered", fmt.Sprintf(body, 1), fmt.Sprintf(body, 2), fmt.Sprintf(body, 3))
	d.update("debian", "nosuch", "curl", "bash", "zlib1g")
	d.update("new", "curl")
	d.receipt(uuid.New(), "created", `{"manifest":"y"}`) // its update has been collected

	c := app.Defaults()
	c.Database.URL = config.NewURL(d.pool.Config().ConnString())
	plan, err := app.New(c, v1.Version{}, slog.New(slog.DiscardHandler), nil).PlanTakeover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if plan.Begun || plan.Images != 2 || !plan.Notifier || plan.Lost != 1 || plan.Open != 1 {
		t.Errorf("the plan is %+v", plan)
	}
	var feeds []string
	for _, f := range plan.Feeds {
		feeds = append(feeds, fmt.Sprintf("%s: %d of %d to tell, %d undelivered, by %s", f.Updater, f.Next, f.Operations, f.Undelivered, f.Basis))
	}
	want := []string{
		"debian: 2 of 4 to tell, 1 undelivered, by receipts", "new: 1 of 1 to tell, 0 undelivered, by other receipts",
		"quiet: 0 of 1 to tell, 0 undelivered, by other receipts",
	}
	if !slices.Equal(feeds, want) {
		t.Errorf("the plan is\n%s\nwant\n%s", strings.Join(feeds, "\n"), strings.Join(want, "\n"))
	}

	short := func(m wireManifest) string { return m.Hash[7:13] }
	expected := []string{short(blog) + " debian-curl", short(blog) + " new-curl", short(shop) + " debian-zlib1g"}
	slices.Sort(expected)
	p := startOn(t, d.pool)
	p.settle(t)
	if got := p.told(t); !slices.Equal(got, expected) {
		t.Errorf("told of\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"))
	}
	if _, b := p.call(t, "GET", "/api/v1/images", nil); bytes.Count(b, []byte(`"indexed"`)) != 2 {
		t.Errorf("images: %s", b)
	}
	if _, b := p.call(t, "GET", "/api/v1/events?type=dev.tocsin.manifest.indexed.v1", nil); bytes.Contains(b, []byte(shop.Hash)) {
		t.Errorf("an image that Clair has indexed was announced as new: %s", b)
	}

	t.Run("OpenNotification", func(t *testing.T) {
		path := "/notifier/api/v1/notification/" + open.String()
		var names []string
		next := ""
		for range 4 {
			status, b := p.call(t, "GET", path+"?page_size=2"+next, nil)
			var page struct {
				Page struct {
					Next string `json:"next"`
				} `json:"page"`
				Notifications []struct {
					Vulnerability struct {
						Name       string `json:"name"`
						Normalized string `json:"normalized_severity"`
					} `json:"vulnerability"`
				} `json:"notifications"`
			}
			if err := json.Unmarshal(b, &page); status != 200 || err != nil {
				t.Fatalf("%d, %v: %s", status, err, b)
			}
			for _, n := range page.Notifications {
				names = append(names, n.Vulnerability.Name+n.Vulnerability.Normalized)
			}
			if page.Page.Next == "" {
				break
			}
			next = "&next=" + url.QueryEscape(page.Page.Next)
		}
		slices.Sort(names)
		if fmt.Sprint(names) != "[CVE-2026-1High CVE-2026-2High CVE-2026-3High]" {
			t.Errorf("the notification that Clair made holds %v", names)
		}
		if status, b := p.call(t, "DELETE", path, nil); status != 200 {
			t.Errorf("DELETE: %d %s", status, b)
		}
		if _, b := p.call(t, "GET", path, nil); !bytes.Contains(b, []byte(`"notifications":[]`)) {
			t.Errorf("after DELETE: %s", b)
		}
	})
	t.Run("HandedInAgain", func(t *testing.T) {
		if status, b := p.call(t, "POST", indexReport, shop); status != 201 {
			t.Errorf("%d %s", status, b)
		}
	})

	// A process that ends half-way leaves the rest to the next one.
	p.stop()
	d.exec(`UPDATE tocsin.takeover SET finished_at = NULL`)
	d.exec(`UPDATE tocsin.manifest SET inventory_id = NULL WHERE digest = $1`, blog.Hash)
	d.exec(`UPDATE tocsin.inventory i SET current = false, retired_at = now() FROM tocsin.manifest m WHERE m.id = i.manifest_id AND m.digest = $1`, blog.Hash)
	d.update("debian", "nosuch", "curl", "bash", "zlib1g", "curl2")
	d.update("late", "curl")
	p = startOn(t, d.pool, func(c *config.Config) { c.DataDir = p.dir })
	p.settle(t)
	expected = append(expected, short(blog)+" late-curl")
	slices.Sort(expected)
	if got := p.told(t); !slices.Equal(got, expected) {
		t.Errorf("after another start, told of\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(expected, "\n"))
	}
	if plan, err := matcher.PlanTakeover(t.Context(), d.pool); err != nil || !plan.Begun || plan.Images != 0 {
		t.Errorf("another plan is %+v, %v", plan, err)
	}
}
