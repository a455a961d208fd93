package vulnstore_test

import (
	"errors"
	"iter"
	"slices"
	"testing"
	"time"
	"unique"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	"github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/toolkit/types"
	"github.com/quay/claircore/toolkit/types/cpe"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/internal/vulnstore"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func all(vs ...*claircore.Vulnerability) iter.Seq2[*claircore.Vulnerability, error] {
	return func(yield func(*claircore.Vulnerability, error) bool) {
		for _, v := range vs {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func write(t *testing.T, pool *pgxpool.Pool, u vulnstore.Update) (vulnstore.Stored, error) {
	t.Helper()
	var s vulnstore.Stored
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		s, err = vulnstore.Write(t.Context(), tx, u)
		return err
	})
	return s, err
}

func full() *claircore.Vulnerability {
	return &claircore.Vulnerability{
		Name: "CVE-2024-1", Updater: "u", Description: "d", Issued: time.Date(2024, 1, 2, 3, 4, 5, 6000, time.UTC), Links: "https://a https://b",
		Severity: "bad", NormalizedSeverity: claircore.High,
		Package:        &claircore.Package{Name: "p", Version: "pv", Module: "m", Arch: "x86_64|aarch64", Kind: types.SourcePackage},
		Dist:           &claircore.Distribution{DID: "rhel", Name: "RHEL", Version: "9", VersionID: "9", VersionCodeName: "c", Arch: "a", PrettyName: "P", CPE: cpe.MustUnbind("cpe:/o:redhat:enterprise_linux:9")},
		Repo:           &claircore.Repository{Name: "r", Key: "k", URI: "u", CPE: cpe.MustUnbind("cpe:/o:redhat:enterprise_linux:9")},
		FixedInVersion: "1.2", ArchOperation: claircore.OpPatternMatch, Invert: true,
		Range: &claircore.Range{
			Lower: claircore.Version{Kind: "semver", V: [10]int32{0, 1, 2, 3}}, Upper: claircore.Version{Kind: "semver", V: [10]int32{0, 1, 65535}},
		},
		Aliases: []claircore.Alias{{Space: unique.Make("GHSA"), Name: "a-b-c"}, {Space: unique.Make("https://x.example/"), Name: "y"}},
		Self:    claircore.Alias{Space: unique.Make("CVE"), Name: "2024-1"},
	}
}

// rows reads what is stored, all but ids and hashes.
func rows(t *testing.T, pool *pgxpool.Pool, ref uuid.UUID) []string {
	t.Helper()
	const q = `
SELECT (to_jsonb(v) - 'id' - 'hash' - 'hash_kind')::text || (SELECT coalesce(jsonb_agg(n.namespace || '|' || a.name ORDER BY n.namespace, a.name)::text, '')
  FROM vulnerability_alias va JOIN alias a ON a.id = va.alias JOIN alias_namespace n ON n.id = a.namespace WHERE va.vulnerability = v.id)
  || (SELECT coalesce(jsonb_agg(n.namespace || '|' || a.name)::text, '')
  FROM vulnerability_self vs JOIN alias a ON a.id = vs.self JOIN alias_namespace n ON n.id = a.namespace WHERE vs.vulnerability = v.id)
FROM update_operation o JOIN uo_vuln u ON u.uo = o.id JOIN vuln v ON v.id = u.vuln WHERE o.ref = $1 ORDER BY 1`
	r, err := pool.Query(t.Context(), q, ref)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAsClaircore: a row says what claircore's own store would have made it say.
func TestAsClaircore(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	bare := &claircore.Vulnerability{Name: "CVE-2", Updater: "u", Package: &claircore.Package{Name: "p"}}
	mixed := full()
	mixed.Name, mixed.Range.Upper.Kind = "CVE-3", "other"
	none := &claircore.Vulnerability{Name: "CVE-4", Updater: "u"}
	vulns := []*claircore.Vulnerability{full(), bare, mixed, none}
	theirs, err := postgres.NewMatcherStore(pool).UpdateVulnerabilities(t.Context(), "u", "f", vulns)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := write(t, pool, vulnstore.Update{Updater: "u", Fingerprint: "f", Vulns: all(vulns...)})
	if err != nil {
		t.Fatal(err)
	}
	want, got := rows(t, pool, theirs), rows(t, pool, ours.Ref)
	if len(want) != 3 || !slices.Equal(got, want) || ours.Rows != 3 {
		t.Errorf("stored\n%q\nclaircore stores\n%q", got, want)
	}
}

// TestStoredIsParsed: whatever alone changes of a vulnerability, what is stored
// afterwards is what was given. claircore's store keeps the old row when the
// normalized severity, an alias, or "not affected" is all that changed.
func TestStoredIsParsed(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	first, err := write(t, pool, vulnstore.Update{Updater: "u", Vulns: all(full())})
	if err != nil {
		t.Fatal(err)
	}
	was := rows(t, pool, first.Ref)
	for name, edit := range map[string]func(*claircore.Vulnerability){
		"normalized severity": func(v *claircore.Vulnerability) { v.NormalizedSeverity = claircore.Low },
		"not affected":        func(v *claircore.Vulnerability) { v.Invert = false },
		"alias":               func(v *claircore.Vulnerability) { v.Aliases = v.Aliases[:1] },
		"alias's name":        func(v *claircore.Vulnerability) { v.Aliases[0].Name = "z" },
		"self":                func(v *claircore.Vulnerability) { v.Self = claircore.Alias{} },
		"severity":            func(v *claircore.Vulnerability) { v.Severity = "worse" },
		"range":               func(v *claircore.Vulnerability) { v.Range.Upper.V[4] = 1 },
		"no range":            func(v *claircore.Vulnerability) { v.Range = nil },
		"fields run together": func(v *claircore.Vulnerability) { v.Package.Module, v.Package.Arch = "mx", "86_64|aarch64" },
		"issued":              func(v *claircore.Vulnerability) { v.Issued = v.Issued.Add(time.Microsecond) },
	} {
		v := full()
		edit(v)
		s, err := write(t, pool, vulnstore.Update{Updater: "u", Vulns: all(v)})
		if err != nil {
			t.Fatal(err)
		}
		if now := rows(t, pool, s.Ref); slices.Equal(now, was) || len(now) != 1 {
			t.Errorf("%s: stored is still %q", name, now)
		}
		if !slices.Equal(rows(t, pool, first.Ref), was) {
			t.Errorf("%s: the first operation's row has changed", name)
		}
	}
	same, err := write(t, pool, vulnstore.Update{Updater: "u", Vulns: all(full(), full())})
	if err != nil {
		t.Fatal(err)
	}
	var shared int
	const q = `SELECT count(*) FROM uo_vuln a JOIN uo_vuln b ON a.vuln = b.vuln JOIN update_operation x ON x.id = a.uo JOIN update_operation y ON y.id = b.uo WHERE x.ref = $1 AND y.ref = $2`
	if err := pool.QueryRow(t.Context(), q, first.Ref, same.Ref).Scan(&shared); err != nil || shared != 1 || same.Rows != 1 {
		t.Errorf("the same again shares %d rows of %d, %v", shared, same.Rows, err)
	}
}

func TestDelta(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	vuln := func(name, fixed string) *claircore.Vulnerability {
		v := full()
		v.Name, v.FixedInVersion = name, fixed
		return v
	}
	names := func(s vulnstore.Stored, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var out string
		const q = `SELECT coalesce(string_agg(v.name || '=' || v.fixed_in_version, ' ' ORDER BY v.name, v.fixed_in_version), '') FROM update_operation o JOIN uo_vuln u ON u.uo = o.id JOIN vuln v ON v.id = u.vuln WHERE o.ref = $1`
		if err := pool.QueryRow(t.Context(), q, s.Ref).Scan(&out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, step := range []struct {
		u    vulnstore.Update
		want string
	}{
		{vulnstore.Update{Delta: true, Vulns: all(vuln("A", "1"), vuln("A", "2"), vuln("B", "1"), vuln("C", "1"))}, "A=1 A=2 B=1 C=1"},
		{vulnstore.Update{Delta: true, Vulns: all(vuln("A", "3")), Deleted: []string{"C", "nobody"}}, "A=3 B=1"},
		{vulnstore.Update{Delta: true, Vulns: all(), Deleted: []string{"B"}}, "A=3"},
		{vulnstore.Update{Vulns: all(vuln("D", "1"))}, "D=1"},
	} {
		step.u.Updater = "u"
		if got := names(write(t, pool, step.u)); got != step.want {
			t.Errorf("rows are %q, want %q", got, step.want)
		}
	}
}

// TestWholeOrNotAtAll: an error in the middle of the rows stores nothing.
func TestWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	torn := errors.New("torn")
	_, err := write(t, pool, vulnstore.Update{Updater: "u", Vulns: func(yield func(*claircore.Vulnerability, error) bool) {
		if yield(full(), nil) {
			yield(nil, torn)
		}
	}})
	if !errors.Is(err, torn) {
		t.Errorf("error is %v", err)
	}
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM vuln) + (SELECT count(*) FROM update_operation)`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows were stored, %v", n, err)
	}
	v := full()
	v.Description, v.Package.Name = "a\x00b", "p\xff"
	if _, err := write(t, pool, vulnstore.Update{Updater: "u", Vulns: all(v)}); err != nil {
		t.Errorf("a NUL and bad UTF-8: %v", err)
	}
}
