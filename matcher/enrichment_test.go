package matcher_test

import (
	"fmt"
	"slices"
	"testing"
	"unique"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/pkg/pep440"
	"github.com/quay/claircore/python"
	"github.com/quay/claircore/toolkit/types"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

func cve(name string) claircore.Alias { return claircore.Alias{Space: unique.Make("CVE"), Name: name} }

func TestKEV(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"), gomod("example.com/mod", [3]int32{1, 1, 0}))
	w.index("other", deb("zlib1g", "1.2", "zlib"))
	w.enrich("clair.kev", kevRecord("CVE-2020-0001"))
	w.update("debian", debVuln("CVE-2020-0001", "bash", ""), debVuln("CVE-2020-0002", "bash", ""))
	w.update("osv/go", goVuln("GO-1", "example.com/mod", [3]int32{1, 2, 0}, cve("2020-0003")))
	w.process()
	w.expect("web debian: +CVE-2020-0001@bash +CVE-2020-0002@bash", "web osv/go: +GO-1@example.com/mod")
	if r := w.rows()[0]; !r.KEV {
		t.Error("the event of a CVE that is in KEV does not say so")
	}
	for _, f := range w.events()[0].Added {
		if f.KEV != (f.ID == "CVE-2020-0001") {
			t.Errorf("%s says kev=%t", f.ID, f.KEV)
		}
	}
	w.enrich("clair.kev", kevRecord("CVE-2020-0001"), kevRecord("CVE-2020-0003"), kevRecord("CVE-2020-9999"))
	w.process()
	w.enrich("clair.kev", kevRecord("CVE-2020-0003"))
	w.process()
	w.expect(
		"web debian: +CVE-2020-0001@bash +CVE-2020-0002@bash", "web osv/go: +GO-1@example.com/mod",
		"web clair.kev: ~GO-1@example.com/mod(kev)",
		"web clair.kev: ~CVE-2020-0001@bash(kev)",
	)
	in, out := w.events()[2].Revised[0], w.events()[3].Revised[0]
	if c := in.Changes[0]; c.From != false || c.To != true || !in.KEV {
		t.Errorf("entering KEV reads %+v", in)
	}
	if c := out.Changes[0]; c.From != true || c.To != false || out.KEV {
		t.Errorf("leaving KEV reads %+v", out)
	}
	for _, ev := range w.events()[2:] {
		if ev.Update.FirstLoad || ev.Update.Previous == "" {
			t.Errorf("update is %+v", ev.Update)
		}
	}
}

func TestEPSSThreshold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	w.update("debian", debVuln("CVE-2020-0001", "bash", ""), debVuln("CVE-2020-0002", "bash", ""))
	w.process()
	first := w.told()
	w.enrich("clair.epss", epssRecord("CVE-2020-0001", 0.5), epssRecord("CVE-2020-0002", 0.01))
	w.process()
	first = append(first, "web clair.epss: ~CVE-2020-0001@bash(epss)")
	w.expect(first...) // what a first load changes in reports is told
	w.enrich("clair.epss", epssRecord("CVE-2020-0001", 0.7), epssRecord("CVE-2020-0002", 0.09))
	w.process()
	w.expect(first...) // neither crossed
	w.enrich("clair.epss", epssRecord("CVE-2020-0001", 0.7), epssRecord("CVE-2020-0002", 0.1234))
	w.enrich("clair.epss", epssRecord("CVE-2020-0002", 0.2))
	w.process()
	w.expect(append(first, "web clair.epss: ~CVE-2020-0002@bash(epss)", "web clair.epss: ~CVE-2020-0001@bash(epss)")...)
	up, down := w.events()[2].Revised[0], w.events()[3].Revised[0]
	if c := up.Changes[0]; c.From != 0.09 || c.To != 0.1234 || up.EPSS == nil || up.EPSS.Score != 0.1234 {
		t.Errorf("crossing upwards reads %+v", up)
	}
	if c := down.Changes[0]; c.From != 0.7 || c.To != nil || down.EPSS != nil {
		t.Errorf("losing the score reads %+v", down)
	}
	if r := w.rows()[2]; r.EPSS == nil || *r.EPSS != 13 {
		t.Errorf("row says EPSS %v, want 13: rounded up", r.EPSS)
	}
}

func TestScoresAreInEventsAndReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cvss := driver.EnrichmentRecord{Tags: []string{"CVE-2020-0001"}, Enrichment: []byte(
		`{"version":"3.1","vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","baseScore":9.8,"baseSeverity":"CRITICAL"}`)}
	w.enrich("clair.cvss", cvss)
	w.enrich("clair.epss", epssRecord("CVE-2020-0001", 0.25))
	w.enrich("clair.kev", kevRecord("CVE-2020-0001"))
	w.process()
	w.update("debian", debVuln("CVE-2020-0001", "bash", ""))
	w.process()
	m := w.index("web", deb("bash", "5.2", "bash"))
	w.update("debian", debVuln("CVE-2020-0001", "bash", "9"))
	w.process()
	f := w.events()[0].Revised[0].Finding
	check := func(where string, f schemas.Finding) {
		t.Helper()
		if len(f.CVSS) != 1 || f.CVSS[0].Score != 9.8 || f.CVSS[0].Version != "3.1" || f.EPSS == nil || f.EPSS.Score != 0.25 || !f.KEV {
			t.Errorf("%s says %+v", where, f)
		}
	}
	check("the event", f)
	r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil {
		t.Fatal(err)
	}
	check("the report", r.Findings()[0])
	x := logged[schemas.IndexedEvent](w, "indexed")[0].Extensions
	if x.KEV == nil || !*x.KEV || x.EPSS == nil || *x.EPSS != 25 || *x.Severity != "High" || *x.SeverityRank != 4 || *x.Fixable {
		t.Errorf("the indexed event says %+v", asJSON(t, x))
	}
}

// claircore leaves the row of an enrichment operation whose data failed.
func TestEnrichmentOperationWithoutData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	w.enrich("clair.kev", kevRecord("CVE-2020-0002"))
	w.update("debian", debVuln("CVE-2020-0001", "bash", ""), debVuln("CVE-2020-0002", "bash", ""))
	w.process()
	first := w.told()
	if _, err := w.pool.Exec(t.Context(), `INSERT INTO update_operation (updater, fingerprint, kind) VALUES ('clair.kev', '', 'enrichment')`); err != nil {
		t.Fatal(err)
	}
	w.process()
	w.expect(first...)
	w.enrich("clair.kev", kevRecord("CVE-2020-0002"), kevRecord("CVE-2020-0001"))
	w.process()
	w.expect(append(first, "web clair.kev: ~CVE-2020-0001@bash(kev)")...)
}

func cvssRecord(cve, version string, score float64) driver.EnrichmentRecord {
	return driver.EnrichmentRecord{Tags: []string{cve}, Enrichment: fmt.Appendf(nil,
		`{"version":%q,"vectorString":"v","baseScore":%v}`, version, score)}
}

// severities are what the report and the counts of an image say.
func (w *world) severities(m matcher.Manifest) (report []string, counted schemas.BySeverity) {
	w.t.Helper()
	r, err := w.engine.Report(w.t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range r.Findings() {
		report = append(report, f.ID+" "+f.NormalizedSeverity+" "+f.SeveritySource)
	}
	counts, err := w.engine.Counts(w.t.Context(), []int32{m.ID})
	if err != nil {
		w.t.Fatal(err)
	}
	return report, counts[m.ID]
}

// A finding that its publisher has not rated has the severity of its CVEs' CVSS
// scores, in reports, counts and events; a score that changes it is told.
func TestEffectiveSeverity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.index("web", gomod("example.com/mod", [3]int32{1, 1, 0}), deb("bash", "5.2", "bash"))
	w.update("osv/go", goVuln("GO-1", "example.com/mod", [3]int32{1, 2, 0}, cve("2020-0001"), cve("2020-0002")))
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3", severity(claircore.Low)))
	w.process()
	w.enrich("clair.cvss", cvssRecord("CVE-2020-0001", "3.1", 5.0), cvssRecord("CVE-2020-0002", "2.0", 9.9))
	w.process()
	w.enrich("clair.cvss", cvssRecord("CVE-2020-0001", "3.1", 6.9), cvssRecord("CVE-2020-0002", "2.0", 9.9))
	w.process()
	w.enrich("clair.cvss", cvssRecord("CVE-2020-0001", "3.1", 6.9), cvssRecord("CVE-2020-0002", "4.0", 9.0))
	w.process()
	w.expect("web osv/go: +GO-1@example.com/mod", "web debian: +CVE-2020-0001@bash",
		"web clair.cvss: ~GO-1@example.com/mod(normalized_severity)", "web clair.cvss: ~GO-1@example.com/mod(normalized_severity)")
	if r := w.rows(); r[0].SeverityRank != 0 || r[2].SeverityRank != 3 || r[3].SeverityRank != 5 {
		t.Errorf("rows are %+v", r)
	}
	if f := w.events()[3].Revised[0]; f.NormalizedSeverity != "Critical" || f.SeveritySource != "enrichment" || f.Changes[0].From != "Medium" {
		t.Errorf("the last event says %+v", f)
	}
	report, counts := w.severities(m)
	if want := []string{"GO-1 Critical enrichment", "CVE-2020-0001 Low feed"}; !slices.Equal(report, want) {
		t.Errorf("the report says %q, want %q", report, want)
	}
	if (counts != schemas.BySeverity{Critical: 1, Low: 1}) {
		t.Errorf("counts are %+v", counts)
	}
	w.index("later", gomod("example.com/mod", [3]int32{1, 1, 0}))
	if ev := logged[schemas.IndexedEvent](w, "indexed")[1]; ev.Data.Vulnerabilities.Critical != 1 || *ev.Extensions.Severity != "Critical" {
		t.Errorf("the indexed event says %+v", ev.Data.Vulnerabilities)
	}
	w.update("osv/go")
	w.process()
	if r := w.rows(); r[len(r)-1].Removed != 1 || r[len(r)-1].SeverityRank != 5 || !r[len(r)-1].Fixable {
		t.Errorf("the end of a critical finding is told as %+v", r[len(r)-1])
	}
}

// An alias that is in KEV, added to an advisory, revises its findings; a link
// to another product's CVE does not; the first load of KEV is told.
func TestKEVOfOtherProducts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.index("web", gomod("example.com/mod", [3]int32{1, 1, 0}))
	advisory := func(links string, aliases ...claircore.Alias) {
		v := goVuln("GO-1", "example.com/mod", [3]int32{1, 2, 0}, aliases...)
		v.Self, v.Links, v.Description = claircore.Alias{Space: unique.Make("GO"), Name: "1"}, links, links+fmt.Sprint(aliases)
		w.update("osv/go", v)
		w.process()
	}
	advisory("")
	advisory("https://example.com/CVE-2020-0009")
	w.enrich("clair.kev", kevRecord("CVE-2020-0009"), kevRecord("CVE-2020-0001"))
	w.process()
	w.expect("web osv/go: +GO-1@example.com/mod")
	advisory("https://example.com/CVE-2020-0009", cve("2020-0001"))
	w.expect("web osv/go: +GO-1@example.com/mod", "web osv/go: ~GO-1@example.com/mod(kev)")
	r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil || len(r.Findings()) != 1 || !r.Findings()[0].KEV {
		t.Errorf("the report says %+v, %v", r.Findings(), err)
	}

	late := newWorld(t)
	late.index("web", deb("bash", "5.2", "bash"))
	late.update("debian", debVuln("CVE-2020-0001", "bash", ""))
	late.process()
	late.enrich("clair.kev", kevRecord("CVE-2020-0001"))
	late.process()
	late.expect("web debian: +CVE-2020-0001@bash", "web clair.kev: ~CVE-2020-0001@bash(kev)")
}

// The fix reads as a version, and a change of where the vulnerability was
// introduced alone is no other fix.
func TestFixReadsAsAVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, err := pep440.Parse("2.0")
	if err != nil {
		t.Fatal(err)
	}
	p := &claircore.Package{Name: "lib", Version: "2.0", Kind: types.BinaryPackage, NormalizedVersion: v.Version()}
	m := w.index("web", item{pkg: p, repos: []*claircore.Repository{&python.Repository}})
	for _, fix := range []string{"fixed=1%213.9.2&introduced=1.0.5", "fixed=1%213.9.2&introduced=1.0.6", "introduced=1.0.6&lastAffected=4.0"} {
		w.update("osv/pypi", &claircore.Vulnerability{
			Name: "PYSEC-1", FixedInVersion: fix, Package: &claircore.Package{Name: "lib", Kind: types.BinaryPackage},
			Repo: &claircore.Repository{Name: python.Repository.Name},
		})
		w.process()
	}
	w.expect("web osv/pypi: +PYSEC-1@lib", "web osv/pypi: ~PYSEC-1@lib(fixed_in_version)")
	if c := w.events()[1].Revised[0].Changes[0]; c.From != "1!3.9.2" || c.To != "" {
		t.Errorf("the fix changed from %v to %v", c.From, c.To)
	}
	if rows := w.rows(); !rows[0].Fixable || rows[1].Fixable {
		t.Errorf("rows are %+v", rows)
	}
	r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil || r.Findings()[0].FixedInVersion != "" {
		t.Errorf("the report says %+v, %v", r.Findings(), err)
	}
}

// A vulnerability has its aliases for every package that has it.
func TestAliasesOfEveryPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.index("web", gomod("example.com/mod", [3]int32{1, 1, 0}), gomod("example.com/mod", [3]int32{1, 0, 0}))
	w.update("osv/go", goVuln("GO-1", "example.com/mod", [3]int32{1, 2, 0}, cve("2020-0001")))
	w.process()
	for range 5 { // which package has them depends on the order of a map
		r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
		if err != nil {
			t.Fatal(err)
		}
		fs := r.Findings()
		if len(fs) != 2 {
			t.Fatalf("findings are %+v", fs)
		}
		for _, f := range fs {
			if !slices.Equal(f.Aliases, []string{"CVE-2020-0001"}) {
				t.Fatalf("aliases in %s are %q", f.Package.Version, f.Aliases)
			}
		}
	}
}
