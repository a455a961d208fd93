package matcher_test

import (
	"testing"
	"unique"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"

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
	w.expect(first...) // a first load is silent
	w.enrich("clair.epss", epssRecord("CVE-2020-0001", 0.7), epssRecord("CVE-2020-0002", 0.09))
	w.process()
	w.expect(first...) // neither crossed
	w.enrich("clair.epss", epssRecord("CVE-2020-0001", 0.7), epssRecord("CVE-2020-0002", 0.1234))
	w.enrich("clair.epss", epssRecord("CVE-2020-0002", 0.2))
	w.process()
	w.expect(append(first, "web clair.epss: ~CVE-2020-0002@bash(epss)", "web clair.epss: ~CVE-2020-0001@bash(epss)")...)
	up, down := w.events()[1].Revised[0], w.events()[2].Revised[0]
	if c := up.Changes[0]; c.From != 0.09 || c.To != 0.1234 || up.EPSS == nil || up.EPSS.Score != 0.1234 {
		t.Errorf("crossing upwards reads %+v", up)
	}
	if c := down.Changes[0]; c.From != 0.7 || c.To != nil || down.EPSS != nil {
		t.Errorf("losing the score reads %+v", down)
	}
	if r := w.rows()[1]; r.EPSS == nil || *r.EPSS != 13 {
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
