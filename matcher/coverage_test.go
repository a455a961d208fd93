package matcher_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// coverageText is a coverage in short.
func coverageText(c schemas.Coverage) string {
	parts := []string{c.State}
	for _, e := range c.Ecosystems {
		s := fmt.Sprintf("%s %d/%d", e.Name, e.Covered, e.Packages)
		for _, f := range e.Feeds {
			s += " by " + f.Updater
		}
		if e.Reason != "" {
			s += " (" + strings.Fields(e.Reason)[0] + " " + strings.Fields(e.Reason)[1] + " " + strings.Fields(e.Reason)[3] + ")"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "; ")
}

func inDistribution(it item, d *claircore.Distribution) item {
	it.dist = d
	return it
}

// TestCoverage follows what could be known of images while feeds come and go.
func TestCoverage(t *testing.T) {
	t.Parallel()
	checked := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	w := newWorld(t, func(o *matcher.Options) {
		o.Fresh = func(context.Context) (map[string]time.Time, error) {
			return map[string]time.Time{"osv/go": checked}, nil
		}
	})
	bullseye := &claircore.Distribution{
		DID: "debian", Name: "Debian GNU/Linux", Version: "11 (bullseye)", VersionID: "11", VersionCodeName: "bullseye", PrettyName: "Debian GNU/Linux 11 (bullseye)",
	}
	fedora := &claircore.Distribution{DID: "fedora", Name: "Fedora Linux", VersionID: "40"}
	rhel := &claircore.Distribution{DID: "rhel", Name: "Red Hat Enterprise Linux Server", VersionID: "9", PrettyName: "Red Hat Enterprise Linux Server 9"}
	own := gomod("example.com/app", [3]int32{})
	own.pkg.Version, own.pkg.NormalizedVersion = "(devel)", claircore.Version{Kind: claircore.UnmatchableKind}
	images := map[string][]item{
		"deb":      {deb("libssl3", "3.0", "openssl"), deb("libc6", "2.36", "glibc")},
		"go":       {gomod("golang.org/x/net", [3]int32{0, 16, 0}), own},
		"both":     {deb("libssl3", "3.0", "openssl"), gomod("golang.org/x/net", [3]int32{0, 16, 0})},
		"bullseye": {inDistribution(deb("libssl3", "1.1", "openssl"), bullseye)},
		"fedora":   {inDistribution(item{pkg: &claircore.Package{Name: "openssl", Version: "3.1-r0", Kind: types.BinaryPackage}}, fedora)},
		"rhel":     {inDistribution(item{pkg: &claircore.Package{Name: "openssl", Version: "3.0-1.el9", Kind: types.BinaryPackage}}, rhel)},
		"nothing":  {},
	}
	check := func(step string, want map[string]string) {
		t.Helper()
		ids := map[string]int32{}
		for name, items := range images {
			ids[name] = w.index(name, items...).ID
		}
		all := []int32{}
		for _, id := range ids {
			all = append(all, id)
		}
		listed, err := w.engine.Coverages(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for name, items := range images {
			c, err := w.engine.Coverage(t.Context(), report(name, items...))
			if err != nil {
				t.Fatal(err)
			}
			if got := coverageText(c); got != want[name] {
				t.Errorf("%s: %s is %q, want %q", step, name, got, want[name])
			}
			if got, ok := listed[ids[name]]; ok && coverageText(got) != want[name] {
				t.Errorf("%s: %s is listed as %q, want %q", step, name, coverageText(got), want[name])
			}
		}
	}
	const none, other = "(no feed is)", "(no feed Tocsin)"
	check("no feed", map[string]string{
		"deb": "none; Debian GNU/Linux 12 (bookworm) 0/2 " + none, "go": "none; go 0/1 " + none,
		"both":     "none; Debian GNU/Linux 12 (bookworm) 0/1 " + none + "; go 0/1 " + none,
		"bullseye": "none; Debian GNU/Linux 11 (bullseye) 0/1 " + none,
		"fedora":   "none; Fedora Linux 40 0/1 " + other, "rhel": "none; Red Hat Enterprise Linux Server 9 0/1 (the image not)", "nothing": "full",
	})
	w.update("debian/updater", debVuln("CVE-1", "curl", "8"))
	with := map[string]string{
		"deb": "full; Debian GNU/Linux 12 (bookworm) 2/2 by debian/updater", "go": "none; go 0/1 " + none,
		"both":     "partial; Debian GNU/Linux 12 (bookworm) 1/1 by debian/updater; go 0/1 " + none,
		"bullseye": "none; Debian GNU/Linux 11 (bullseye) 0/1 " + none,
		"fedora":   "none; Fedora Linux 40 0/1 " + other, "rhel": "none; Red Hat Enterprise Linux Server 9 0/1 (the image not)", "nothing": "full",
	}
	check("Debian's feed", with)
	w.update("osv/go", goVuln("GO-1", "example.com/other", [3]int32{1, 0, 0}))
	with["go"] = "full; go 1/1 by osv/go"
	with["both"] = "full; Debian GNU/Linux 12 (bookworm) 1/1 by debian/updater; go 1/1 by osv/go"
	check("and Go's", with)
	c, err := w.engine.Coverage(t.Context(), report("go", images["go"]...))
	if err != nil || !c.Ecosystems[0].Feeds[0].Date.Equal(checked) {
		t.Errorf("the feed's date is %+v (%v), want %v", c.Ecosystems, err, checked)
	}
	w.update("debian/updater", debVuln("CVE-1", "curl", "8", func(v *claircore.Vulnerability) { v.Dist = bullseye }))
	with["deb"] = "none; Debian GNU/Linux 12 (bookworm) 0/2 " + none
	with["both"] = "partial; Debian GNU/Linux 12 (bookworm) 0/1 " + none + "; go 1/1 by osv/go"
	with["bullseye"] = "full; Debian GNU/Linux 11 (bullseye) 1/1 by debian/updater"
	check("Debian's feed without bookworm", with)

	last := map[string]string{}
	for _, ev := range logged[schemas.IndexedEvent](w, "indexed") {
		if ev.Extensions.Coverage == nil || ev.Data.Coverage == nil || *ev.Extensions.Coverage != ev.Data.Coverage.State {
			t.Fatalf("an indexed event of %v says %v and %+v", ev.Data.Manifest.Names, ev.Extensions.Coverage, ev.Data.Coverage)
		}
		last[ev.Data.Manifest.Names[0]] = ev.Data.Coverage.State
	}
	if fmt.Sprint(last) != "map[both:none bullseye:none deb:none fedora:none go:none nothing:full rhel:none]" {
		t.Errorf("the first indexed events say %v", last)
	}
	bare := report("chiselled")
	bare.Distributions["1"] = &claircore.Distribution{DID: "ubuntu", Name: "Ubuntu", VersionID: "22.04", PrettyName: "Ubuntu 22.04"}
	if c, err := w.engine.Coverage(t.Context(), bare); err != nil || coverageText(c) != "none; Ubuntu 22.04 0/0 (no package that)" {
		t.Errorf("a distribution without packages is %q (%v)", coverageText(c), err)
	}
	m := w.manifest("deb")
	m.Force, m.Warnings = true, []string{"rhel-repository-scanner: no mapping file"}
	w.update("debian/updater", debVuln("CVE-1", "curl", "8"))
	if err := w.engine.Indexed(t.Context(), m, report("deb", images["deb"]...)); err != nil {
		t.Fatal(err)
	}
	evs := logged[schemas.IndexedEvent](w, "indexed")
	if got := *evs[len(evs)-1].Extensions.Coverage; got != schemas.CoveragePartial {
		t.Errorf("with a scanner that could not see everything, coverage is %q", got)
	}
}

// What events of changes say of coverage is what would be said of the image at
// that moment: whatever feeds have come and gone, and whoever indexed it.
func TestCoverageOfChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bullseye := &claircore.Distribution{
		DID: "debian", Name: "Debian GNU/Linux", Version: "11 (bullseye)", VersionID: "11", VersionCodeName: "bullseye", PrettyName: "Debian GNU/Linux 11 (bullseye)",
	}
	ssl, net := deb("libssl3", "3.0", "openssl"), gomod("golang.org/x/net", [3]int32{0, 16, 0})
	own := gomod("example.com/app", [3]int32{})
	own.pkg.Version, own.pkg.NormalizedVersion = "(devel)", claircore.Version{Kind: claircore.UnmatchableKind}
	w.index("deb", ssl)
	w.index("go", net, own)
	w.index("both", ssl, net)
	w.index("two", ssl, inDistribution(deb("libssl1", "1.1", "openssl1"), bullseye))
	warned := w.index("warned", ssl)
	if _, err := w.pool.Exec(t.Context(), `UPDATE tocsin.manifest SET warnings = '{"a layer was not read"}' WHERE id = $1`, warned.ID); err != nil {
		t.Fatal(err)
	}
	// check expects the events of the last change, by image.
	check := func(step string, want map[string]string) {
		t.Helper()
		w.process()
		rows, err := w.pool.Query(t.Context(), `
SELECT n.names[1], l.manifest_id, coalesce(l.attributes ->> 'coverage', '-') FROM logged_manifest l JOIN tocsin.naming n ON n.id = l.naming_id
WHERE l.change_id = (SELECT max(id) FROM tocsin.change)`)
		if err != nil {
			t.Fatal(err)
		}
		got, ids := map[string]string{}, map[string]int32{}
		var name, said string
		var id int32
		if _, err := pgx.ForEachRow(rows, []any{&name, &id, &said}, func() error { got[name], ids[name] = said, id; return nil }); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: events say %v, want %v", step, got, want)
		}
		for name, id := range ids {
			c, err := w.engine.Coverages(t.Context(), []int32{id})
			if err != nil {
				t.Fatal(err)
			}
			state := c[id].State
			if name == "warned" {
				state = c[id].Degraded([]string{"a layer was not read"}).State
			}
			if got[name] != state {
				t.Errorf("%s: the event of %s says %s, the list %s", step, name, got[name], state)
			}
		}
	}
	w.update("osv/go", goVuln("GO-1", "golang.org/x/net", [3]int32{1, 0, 0}))
	check("Go's feed alone", map[string]string{"go": "full", "both": "partial"})
	w.update("debian/updater", debVuln("CVE-1", "openssl", "8"))
	check("Debian's first load", map[string]string{"deb": "full", "both": "full", "two": "partial", "warned": "partial"})
	w.update("debian/updater", debVuln("CVE-2", "curl", "8", func(v *claircore.Vulnerability) { v.Dist = bullseye }))
	check("Debian's feed leaves bookworm out", map[string]string{"deb": "none", "both": "partial", "two": "partial", "warned": "none"})

	// Other matchers take over, and this one comes back: what it knew is noted anew.
	other := w.newEngine(only("python", "gobin"))
	if err := other.ProcessUpdates(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine()
	w.update("debian/updater", debVuln("CVE-1", "openssl", "8"))
	check("after other matchers", map[string]string{"deb": "full", "both": "full", "two": "partial", "warned": "partial"})

	for _, c := range []struct {
		updaters []string
		images   int
		known    bool
	}{{[]string{"debian/updater"}, 4, true}, {[]string{"osv/go"}, 2, true}, {[]string{"osv/go", "debian/updater"}, 5, true}, {[]string{"alpine/updater"}, 0, false}} {
		n, known, err := w.engine.Dependents(t.Context(), c.updaters...)
		if err != nil || n != c.images || known != c.known {
			t.Errorf("%d images depend on %q (known: %t, %v), want %d, %t", n, c.updaters, known, err, c.images, c.known)
		}
	}
	snapshot, err := w.engine.Snapshot(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range snapshot {
		if ev.Extensions.Coverage == nil || ev.Data.Coverage == nil || *ev.Extensions.Coverage != ev.Data.Coverage.State {
			t.Errorf("the snapshot of %s says %v of coverage", ev.Data.Manifest.Names[0], ev.Data.Coverage)
		}
	}
}
