package matcher_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

func TestClairD3_UpdatesBetweenRunsAreChangesOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("libssl3", "3.0.1", "openssl"), deb("bash", "5.2", "bash"))
	w.index("other", deb("bash", "5.2", "bash"))
	r1 := w.update("debian", debVuln("CVE-1", "openssl", "3.0.9"))
	r2 := w.update("debian", debVuln("CVE-1", "openssl", "3.0.9"), debVuln("CVE-2", "bash", ""))
	w.process()
	w.expect(
		"web debian: +CVE-1@libssl3",
		"web debian: +CVE-2@bash",
		"other debian: +CVE-2@bash",
	)
	r3 := w.update("debian", debVuln("CVE-2", "bash", "5.1"))
	w.process()
	w.process()
	evs := w.events()
	w.expect(
		"web debian: +CVE-1@libssl3",
		"web debian: +CVE-2@bash",
		"other debian: +CVE-2@bash",
		"web debian: -CVE-1@libssl3 -CVE-2@bash",
		"other debian: -CVE-2@bash",
	)
	var chain []string
	for _, c := range logged[schemas.UpdateCompleted](w, "completed") {
		chain = append(chain, c.Update.Previous, c.Update.Ref)
	}
	if want := []string{"", r1.String(), r1.String(), r2.String(), r2.String(), r3.String()}; !slices.Equal(chain, want) {
		t.Errorf("chain of updates is %v, want %v", chain, want)
	}
	if u := evs[0].Update; !u.FirstLoad || u.Previous != "" || u.Ref != r1.String() {
		t.Errorf("first event is of %+v, want a first load of %s", u, r1)
	}
	if u := evs[1].Update; u.FirstLoad {
		t.Errorf("second event is of %+v, want no first load", u)
	}
	f := evs[0].Added[0]
	if f.Package.Source == nil || f.Package.Source.Name != "openssl" || f.Distribution == nil || f.Distribution.DID != "debian" ||
		f.FixedInVersion != "3.0.9" || f.NormalizedSeverity != "High" || len(f.Links) != 1 || f.Updater != "debian" {
		t.Errorf("finding lacks something: %+v", f)
	}
	if r := w.rows()[0]; r.Added != 1 || r.SeverityRank != 4 || !r.Fixable || r.KEV || r.EPSS != nil {
		t.Errorf("row of the first event is %+v", r)
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("libssl3", "3.0.1", "openssl"))
	w.update("debian", debVuln("CVE-1", "openssl", ""))
	w.process()
	w.update("debian", debVuln("CVE-1", "openssl", "", described("in other words")))
	w.process()
	w.expect("web debian: +CVE-1@libssl3")
	done := logged[schemas.UpdateCompleted](w, "completed")
	if last := done[len(done)-1]; last.Manifests != 0 || last.Revised != 0 || last.Added != 0 {
		t.Errorf("an edited description was announced as %+v", last)
	}
	w.update("debian", debVuln("CVE-1", "openssl", "3.0.9"))
	w.update("debian", debVuln("CVE-1", "openssl", "3.0.9", severity(claircore.Critical)))
	w.process()
	w.expect(
		"web debian: +CVE-1@libssl3",
		"web debian: ~CVE-1@libssl3(fixed_in_version)",
		"web debian: ~CVE-1@libssl3(severity,normalized_severity)",
	)
	ev := w.events()[2]
	if c := ev.Revised[0].Changes[1]; c.From != "High" || c.To != "Critical" {
		t.Errorf("change is %+v", c)
	}
	if ev.Counts.BySeverity.Critical != 1 || ev.Counts.Revised != 1 {
		t.Errorf("counts are %+v", ev.Counts)
	}
}

func TestDeltaUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("libssl3", "3.0.1", "openssl"), deb("bash", "5.2", "bash"))
	w.update("vex", debVuln("CVE-1", "openssl", ""), debVuln("CVE-2", "bash", ""))
	w.delta("vex", []string{"CVE-2"}, debVuln("CVE-3", "bash", ""))
	w.delta("vex", nil, debVuln("CVE-1", "openssl", "3.0.9"))
	w.process()
	w.expect(
		"web vex: +CVE-1@libssl3 +CVE-2@bash",
		"web vex: +CVE-3@bash -CVE-2@bash",
		"web vex: ~CVE-1@libssl3(fixed_in_version)",
	)
}

func TestAssertionsOfNotAffectedAreNoFindings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	invert := func(v *claircore.Vulnerability) { v.Invert, v.Description = true, "not affected" }
	w.update("debian", debVuln("CVE-1", "bash", "", invert), debVuln("CVE-2", "bash", ""))
	w.process()
	w.update("debian", debVuln("CVE-1", "bash", "", invert), debVuln("CVE-2", "bash", "", invert))
	w.process()
	w.expect("web debian: +CVE-2@bash", "web debian: -CVE-2@bash")
}

func TestVersionRangesAreTheDatabases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("old", gomod("example.com/mod", [3]int32{1, 1, 0}))
	w.index("new", gomod("example.com/mod", [3]int32{1, 3, 0}))
	w.update("osv/go", goVuln("GO-1", "example.com/mod", [3]int32{1, 2, 0}))
	w.process()
	w.expect("old osv/go: +GO-1@example.com/mod")
}

func TestVersionThatDoesNotParseIsSkippedAndSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.index("web", deb("bash", "not a version!", "bash"), deb("libssl3", "3.0.1", "openssl"))
	w.update("debian", debVuln("CVE-1", "bash", "5.3"), debVuln("CVE-2", "openssl", "3.0.9"))
	w.process()
	w.expect("web debian: +CVE-2@libssl3")
	done := logged[schemas.UpdateCompleted](w, "completed")[0]
	if done.Skipped != 1 || len(done.Reasons) != 1 {
		t.Errorf("skipped %d for %q, want one", done.Skipped, done.Reasons)
	}
	m.Force = true
	if err := w.engine.Indexed(t.Context(), m, w.reports[m.Digest]); err != nil {
		t.Fatal(err)
	}
	if ws := logged[schemas.IndexedEvent](w, "indexed")[1].Data.Warnings; len(ws) != 1 || !strings.Contains(ws[0], "CVE-1") {
		t.Errorf("the indexed event warns %q", ws)
	}
	r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if fs := r.Findings(); len(fs) != 1 || fs[0].ID != "CVE-2" {
		t.Errorf("the report has %+v", fs)
	}
	if r.Skipped.Count() != 1 {
		t.Errorf("the report skipped %+v", r.Skipped.Examples())
	}
}

// A package in several repositories is where claircore's own report depends on
// the order of a map; see Store.
func TestSeveralRepositories(t *testing.T) {
	t.Parallel()
	for range 5 {
		w := newWorld(t)
		it := gomod("example.com/mod", [3]int32{1, 1, 0})
		it.repos = []*claircore.Repository{goRepo, {Name: "npm", URI: "https://www.npmjs.com/"}, {Name: "rubygems", URI: "https://rubygems.org/gems/"}}
		m := w.index("web", it)
		npm := goVuln("GHSA-1", "example.com/mod", [3]int32{1, 2, 0})
		npm.Repo = &claircore.Repository{Name: "npm"}
		w.update("osv", goVuln("GO-1", "example.com/mod", [3]int32{1, 2, 0}), npm)
		w.process()
		w.expect("web osv: +GHSA-1@example.com/mod +GO-1@example.com/mod")
		for _, f := range w.events()[0].Added {
			if want := map[string]string{"GO-1": "go", "GHSA-1": "npm"}[f.ID]; f.Repository == nil || f.Repository.Name != want {
				t.Errorf("%s is in repository %+v, want %s", f.ID, f.Repository, want)
			}
		}
		r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
		if err != nil {
			t.Fatal(err)
		}
		if fs := r.Findings(); len(fs) != 2 {
			t.Errorf("the report has %d findings, want 2: %+v", len(fs), fs)
		}
	}
}

// A row that two feeds share is in reports as long as one of them has it.
func TestRowSharedByFeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	w.update("one", debVuln("CVE-1", "bash", ""))
	w.update("two", debVuln("CVE-1", "bash", ""))
	w.process()
	w.expect("web one: +CVE-1@bash")
	w.update("one")
	w.process()
	w.expect("web one: +CVE-1@bash")
	w.update("two")
	w.process()
	w.expect("web one: +CVE-1@bash", "web two: -CVE-1@bash")
}

func TestOperationOfTheCursorDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"))
	ref := w.update("debian", debVuln("CVE-1", "bash", ""))
	w.process()
	if _, err := w.store.DeleteUpdateOperations(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	w.update("debian", debVuln("CVE-1", "bash", ""), debVuln("CVE-2", "bash", ""))
	w.process()
	w.expect("web debian: +CVE-1@bash", "web debian: +CVE-1@bash +CVE-2@bash")
	if u := w.events()[1].Update; !u.FirstLoad || u.Previous != "" {
		t.Errorf("the update after the deleted one is %+v, want a first load", u)
	}
}

func TestEventsReadTheSameAfterGarbageCollection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *matcher.Options) { o.Retention = 2 })
	w.index("web", deb("bash", "5.2", "bash"), deb("libssl3", "3.0.1", "openssl"))
	w.update("debian", debVuln("CVE-1", "bash", ""))
	w.process()
	w.update("debian", debVuln("CVE-2", "bash", ""))
	w.process()
	// The image no longer is what the events speak of.
	w.index("web", deb("zlib1g", "1.2", "zlib"))
	w.update("debian", debVuln("CVE-3", "openssl", ""))
	w.update("debian", debVuln("CVE-4", "openssl", ""))
	w.update("debian", debVuln("CVE-5", "zlib", ""))
	before := asJSON(t, w.events())
	if err := w.engine.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`SELECT count(*) FROM update_operation`); n != 4 {
		t.Errorf("%d operations are left, want the cursor's and those after it", n)
	}
	if n := w.count(`SELECT count(*) FROM vuln WHERE name = 'CVE-1'`); n != 0 {
		t.Error("a row without an operation is left")
	}
	if after := asJSON(t, w.events()); after != before {
		t.Errorf("events read otherwise after garbage collection:\n%s\n%s", before, after)
	}
	w.process()
	w.expect("web debian: +CVE-1@bash", "web debian: +CVE-2@bash -CVE-1@bash", "web debian: +CVE-5@zlib1g")
	if err := w.engine.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`SELECT count(*) FROM update_operation`); n != 2 {
		t.Errorf("%d operations are left, want the retained 2", n)
	}
}

// claircore commits an operation and then lets reports see it; a process that
// dies in between leaves reports behind.
func TestReportsSeeWhatHasBeenAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.index("web", deb("bash", "5.2", "bash"))
	w.update("debian", debVuln("CVE-1", "bash", ""))
	w.update("debian", debVuln("CVE-1", "bash", ""), debVuln("CVE-2", "bash", ""))
	const unseen = `
WITH o AS (INSERT INTO update_operation (updater, fingerprint, kind) VALUES ('debian', 'x', 'vulnerability') RETURNING id)
INSERT INTO uo_vuln (uo, vuln) SELECT o.id, v.id FROM o, vuln v WHERE v.name = 'CVE-2'`
	if _, err := w.pool.Exec(t.Context(), unseen); err != nil {
		t.Fatal(err)
	}
	w.process()
	w.expect("web debian: +CVE-1@bash", "web debian: +CVE-2@bash", "web debian: -CVE-1@bash")
	r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if fs := r.Findings(); len(fs) != 1 || fs[0].ID != "CVE-2" {
		t.Errorf("the report has %+v", fs)
	}
}
