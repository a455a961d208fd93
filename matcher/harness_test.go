package matcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/toolkit/types"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) {
	// claircore logs to the default logger.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	postgrestest.Main(m)
}

// world is an engine on a database of its own, claircore's store, and a log
// that writes announcements as rows of the same transactions.
type world struct {
	t       *testing.T
	pool    *pgxpool.Pool
	store   datastore.MatcherStore
	engine  *matcher.Engine
	log     *log
	reports reports
	ids     map[string]int32
}

func newWorld(t *testing.T, opts ...func(*matcher.Options)) *world {
	t.Helper()
	w := &world{t: t, pool: postgrestest.New(t), log: &log{}, reports: reports{}, ids: map[string]int32{}}
	w.store = postgres.NewMatcherStore(w.pool)
	if _, err := w.pool.Exec(t.Context(), createLog); err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine(opts...)
	return w
}

func (w *world) newEngine(opts ...func(*matcher.Options)) *matcher.Engine {
	w.t.Helper()
	o := matcher.Options{Pool: w.pool, Announcer: w.log, Reports: w.reports}
	for _, opt := range opts {
		opt(&o)
	}
	e, err := matcher.New(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

type reports map[string]*claircore.IndexReport

func (r reports) IndexReport(_ context.Context, d claircore.Digest) (*claircore.IndexReport, bool, error) {
	ir, ok := r[d.String()]
	return ir, ok, nil
}

// log is an Announcer that keeps what it is told in tables.
type log struct {
	mu sync.Mutex
	// before, if set, runs first in a method, named by it; its error is the
	// method's.
	before func(ctx context.Context, tx pgx.Tx, method string) error
}

const createLog = `
CREATE TABLE logged (n integer GENERATED ALWAYS AS IDENTITY, kind text, change_id bigint, data jsonb);
CREATE TABLE logged_manifest (change_id bigint, manifest_id integer, inventory_id bigint, naming_id bigint, added integer, removed integer,
  revised integer, severityrank smallint, fixable boolean, kev boolean, epss smallint, attributes jsonb)`

func (l *log) hook(ctx context.Context, tx pgx.Tx, method string) error {
	l.mu.Lock()
	f := l.before
	l.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, tx, method)
}

func (l *log) set(f func(ctx context.Context, tx pgx.Tx, method string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = f
}

func (l *log) write(ctx context.Context, tx pgx.Tx, kind string, change int64, data any) error {
	if err := l.hook(ctx, tx, kind); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO logged (kind, change_id, data) VALUES (@kind, @change, @data)`,
		pgx.NamedArgs{"kind": kind, "change": change, "data": data})
	return err
}

func (l *log) ManifestIndexed(ctx context.Context, tx pgx.Tx, ev schemas.IndexedEvent) error {
	return l.write(ctx, tx, "indexed", 0, ev)
}

func (l *log) ManifestsChanged(ctx context.Context, tx pgx.Tx, change int64, u schemas.Update) (int64, error) {
	if err := l.write(ctx, tx, "changed", change, u); err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, `INSERT INTO logged_manifest SELECT @change, a.* FROM affected_manifest a`, pgx.NamedArgs{"change": change})
	return tag.RowsAffected(), err
}

func (l *log) UpdateCompleted(ctx context.Context, tx pgx.Tx, d schemas.UpdateCompleted) error {
	return l.write(ctx, tx, "completed", 0, d)
}

// logged reads back announcements of one kind, in order.
func logged[T any](w *world, kind string) []T {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT data FROM logged WHERE kind = @kind ORDER BY n`, pgx.NamedArgs{"kind": kind})
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// row is one row of affected_manifest.
type row struct {
	ChangeID, InventoryID, NamingID int64
	ManifestID                      int32
	Added, Removed, Revised         int
	SeverityRank                    int16
	Fixable, KEV                    bool
	EPSS                            *int16
}

func (r row) key() schemas.ChangeKey {
	return schemas.ChangeKey{ChangeID: r.ChangeID, ManifestID: r.ManifestID, InventoryID: r.InventoryID, NamingID: r.NamingID}
}

func (w *world) rows() []row {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT change_id, inventory_id, naming_id, manifest_id, added, removed, revised, severityrank, fixable, kev, epss
FROM logged_manifest ORDER BY change_id, manifest_id`)
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// events renders every event there is, in order.
func (w *world) events() []schemas.VulnerabilitiesChanged {
	w.t.Helper()
	var keys []schemas.ChangeKey
	for _, r := range w.rows() {
		keys = append(keys, r.key())
	}
	out, err := w.engine.RenderChanges(w.t.Context(), keys, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// told is every event in short: "image updater: +ID@package -ID@package ~ID@package(field)".
func (w *world) told() []string {
	w.t.Helper()
	var out []string
	for _, ev := range w.events() {
		var parts []string
		for _, f := range ev.Added {
			parts = append(parts, "+"+brief(f))
		}
		for _, f := range ev.Removed {
			parts = append(parts, "-"+brief(f))
		}
		for _, f := range ev.Revised {
			var fields []string
			for _, c := range f.Changes {
				fields = append(fields, c.Field)
			}
			parts = append(parts, "~"+brief(f.Finding)+"("+strings.Join(fields, ",")+")")
		}
		slices.Sort(parts)
		out = append(out, fmt.Sprintf("%s %s: %s", ev.Manifest.Names[0], ev.Update.Updater, strings.Join(parts, " ")))
	}
	return out
}

func brief(f schemas.Finding) string { return f.ID + "@" + f.Package.Name }

func (w *world) expect(want ...string) {
	w.t.Helper()
	if got := w.told(); !slices.Equal(got, want) {
		w.t.Fatalf("events:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// process works through the updates.
func (w *world) process() {
	w.t.Helper()
	if err := w.engine.ProcessUpdates(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// item is a package in its records.
type item struct {
	pkg   *claircore.Package
	dist  *claircore.Distribution
	repos []*claircore.Repository
}

// report makes a finished index report.
func report(name string, items ...item) *claircore.IndexReport {
	r := &claircore.IndexReport{
		Hash: digestOf(name), State: "IndexFinished", Success: true,
		Packages: map[string]*claircore.Package{}, Environments: map[string][]*claircore.Environment{},
		Distributions: map[string]*claircore.Distribution{}, Repositories: map[string]*claircore.Repository{},
	}
	for i, it := range items {
		p, id := *it.pkg, fmt.Sprint(i+1)
		p.ID = id
		r.Packages[id] = &p
		env := &claircore.Environment{PackageDB: "db"}
		if it.dist != nil {
			env.DistributionID = "d" + id
			r.Distributions["d"+id] = it.dist
		}
		for j, repo := range it.repos {
			rid := fmt.Sprintf("r%s.%d", id, j)
			r.Repositories[rid] = repo
			env.RepositoryIDs = append(env.RepositoryIDs, rid)
		}
		r.Environments[id] = []*claircore.Environment{env}
	}
	return r
}

func digestOf(name string) claircore.Digest {
	return claircore.MustParseDigest(fmt.Sprintf("sha256:%064x", []byte(fmt.Sprintf("%-32s", name))))
}

const createManifest = `
WITH m AS (
  INSERT INTO tocsin.manifest (digest, spec) VALUES (@digest, '{}') ON CONFLICT (digest) DO UPDATE SET updated_at = now() RETURNING id
), n AS (
  INSERT INTO tocsin.naming (manifest_id, names) SELECT id, ARRAY[@name] FROM m RETURNING id, manifest_id
) SELECT manifest_id, id FROM n`

const nameManifest = `UPDATE tocsin.manifest SET naming_id = @naming WHERE id = @id`

// manifest makes the indexer's rows for an image.
func (w *world) manifest(name string) matcher.Manifest {
	w.t.Helper()
	m := matcher.Manifest{Digest: digestOf(name).String(), Names: []string{name}, IndexerState: "s1"}
	err := w.pool.QueryRow(w.t.Context(), createManifest, pgx.NamedArgs{"digest": m.Digest, "name": name}).Scan(&m.ID, &m.NamingID)
	if err == nil {
		_, err = w.pool.Exec(w.t.Context(), nameManifest, pgx.NamedArgs{"id": m.ID, "naming": m.NamingID})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.ids[name] = m.ID
	return m
}

// index indexes an image that holds the items.
func (w *world) index(name string, items ...item) matcher.Manifest {
	w.t.Helper()
	m, r := w.manifest(name), report(name, items...)
	w.reports[m.Digest] = r
	if err := w.engine.Indexed(w.t.Context(), m, r); err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) update(updater string, vulns ...*claircore.Vulnerability) uuid.UUID {
	w.t.Helper()
	ref, err := w.store.UpdateVulnerabilities(w.t.Context(), updater, driver.Fingerprint(uuid.NewString()), by(updater, vulns))
	if err != nil {
		w.t.Fatal(err)
	}
	return ref
}

func (w *world) delta(updater string, deleted []string, vulns ...*claircore.Vulnerability) uuid.UUID {
	w.t.Helper()
	ref, err := w.store.DeltaUpdateVulnerabilities(w.t.Context(), updater, driver.Fingerprint(uuid.NewString()), by(updater, vulns), deleted)
	if err != nil {
		w.t.Fatal(err)
	}
	return ref
}

func (w *world) enrich(updater string, records ...driver.EnrichmentRecord) uuid.UUID {
	w.t.Helper()
	ref, err := w.store.UpdateEnrichments(w.t.Context(), updater, driver.Fingerprint(uuid.NewString()), records)
	if err != nil {
		w.t.Fatal(err)
	}
	return ref
}

func by(updater string, vulns []*claircore.Vulnerability) []*claircore.Vulnerability {
	out := make([]*claircore.Vulnerability, len(vulns))
	for i, v := range vulns {
		c := *v
		c.Updater = updater
		out[i] = &c
	}
	return out
}

func epssRecord(cve string, score float64) driver.EnrichmentRecord {
	b, _ := json.Marshal(map[string]any{"cve": cve, "epss": score, "percentile": 0.5, "date": "2026-11-01", "modelVersion": "v1"})
	return driver.EnrichmentRecord{Tags: []string{cve}, Enrichment: b}
}

func kevRecord(cve string) driver.EnrichmentRecord {
	b, _ := json.Marshal(map[string]string{"cve": cve, "vulnerability_name": "a name"})
	return driver.EnrichmentRecord{Tags: []string{cve}, Enrichment: b}
}

var bookworm = &claircore.Distribution{
	DID: "debian", Name: "Debian GNU/Linux", Version: "12 (bookworm)", VersionID: "12", VersionCodeName: "bookworm",
	PrettyName: "Debian GNU/Linux 12 (bookworm)",
}

// deb is a Debian binary package built from a source of another name.
func deb(name, version, source string) item {
	return item{dist: bookworm, pkg: &claircore.Package{
		Name: name, Version: version, Kind: types.BinaryPackage, Arch: "amd64",
		Source: &claircore.Package{Name: source, Version: version, Kind: types.SourcePackage},
	}}
}

// debVuln is a Debian advisory about a source package.
func debVuln(name, source, fixed string, edit ...func(*claircore.Vulnerability)) *claircore.Vulnerability {
	v := &claircore.Vulnerability{
		Name: name, Description: "about " + source, Links: "https://example.org/" + name, Severity: "high",
		NormalizedSeverity: claircore.High, FixedInVersion: fixed,
		Package: &claircore.Package{Name: source, Kind: types.SourcePackage}, Dist: bookworm,
	}
	for _, e := range edit {
		e(v)
	}
	return v
}

func severity(s claircore.Severity) func(*claircore.Vulnerability) {
	return func(v *claircore.Vulnerability) { v.Severity, v.NormalizedSeverity = strings.ToLower(s.String()), s }
}

func described(text string) func(*claircore.Vulnerability) {
	return func(v *claircore.Vulnerability) { v.Description = text }
}

var goRepo = &claircore.Repository{Name: "go", URI: "https://pkg.go.dev/"}

// gomod is a Go module in a binary.
func gomod(name string, version [3]int32) item {
	return item{repos: []*claircore.Repository{goRepo}, pkg: &claircore.Package{
		Name: name, Version: fmt.Sprintf("v%d.%d.%d", version[0], version[1], version[2]), Kind: types.BinaryPackage,
		NormalizedVersion: semver(version), Source: &claircore.Package{},
	}}
}

func semver(v [3]int32) claircore.Version {
	return claircore.Version{Kind: "semver", V: [10]int32{0, v[0], v[1], v[2]}}
}

// goVuln is an OSV advisory about a Go module, below the fixed version.
func goVuln(name, module string, fixed [3]int32, aliases ...claircore.Alias) *claircore.Vulnerability {
	return &claircore.Vulnerability{
		Name: name, Description: "about " + module, NormalizedSeverity: claircore.Unknown, Aliases: aliases,
		Package: &claircore.Package{Name: module, Kind: types.BinaryPackage}, Repo: goRepo,
		Range:          &claircore.Range{Lower: semver([3]int32{}), Upper: semver(fixed)},
		FixedInVersion: fmt.Sprintf("%d.%d.%d", fixed[0], fixed[1], fixed[2]),
	}
}

func (w *world) count(sql string) int {
	w.t.Helper()
	var n int
	if err := w.pool.QueryRow(w.t.Context(), sql).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
