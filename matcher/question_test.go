package matcher_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unique"

	"github.com/google/uuid"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// affected asks in short: "image: ID@package version".
func (w *world) affected(id string) []string {
	w.t.Helper()
	items, next, err := w.engine.Affected(w.t.Context(), id, matcher.Page{})
	if err != nil {
		w.t.Fatal(err)
	}
	if next != "" {
		w.t.Fatalf("there is a second page after %d items", len(items))
	}
	var out []string
	for _, a := range items {
		var parts []string
		for _, f := range a.Findings {
			parts = append(parts, brief(f)+" "+f.Package.Version)
		}
		slices.Sort(parts)
		out = append(out, a.Manifest.Names[0]+": "+strings.Join(parts, ", "))
	}
	return out
}

func TestAffectedByNameAndAlias(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("both", deb("bash", "5.2", "bash"), gomod("example.com/mod", [3]int32{1, 1, 0}))
	w.index("fixed", deb("bash", "5.4", "bash"), gomod("example.com/mod", [3]int32{1, 2, 0}))
	w.index("go", gomod("example.com/mod", [3]int32{1, 0, 0}))
	w.update("debian", debVuln("CVE-2020-0001", "bash", "5.3"), debVuln("CVE-2020-00011", "bash", ""))
	osv := goVuln("GO-2020-1", "example.com/mod", [3]int32{1, 2, 0}, cve("2020-0001"),
		claircore.Alias{Space: unique.Make("GHSA"), Name: "aaaa-bbbb"})
	osv.Self = claircore.Alias{Space: unique.Make("GO"), Name: "2020-1"}
	w.update("osv/go", osv)
	ubuntu := debVuln("CVE-2020-0001 on Ubuntu 22.04", "bash", "", described("as Ubuntu names it"))
	w.update("ubuntu", ubuntu)
	if got := w.affected("CVE-2020-0001"); got != nil {
		t.Errorf("before the updates are announced: %q", got)
	}
	w.process()
	for _, ev := range w.events() {
		if f := ev.Added[0]; f.ID == "GO-2020-1" && !slices.Equal(f.Aliases, []string{"CVE-2020-0001", "GHSA-aaaa-bbbb"}) {
			t.Errorf("aliases are %q", f.Aliases)
		}
	}
	both := []string{
		"both: CVE-2020-0001 on Ubuntu 22.04@bash 5.2, CVE-2020-0001@bash 5.2, GO-2020-1@example.com/mod v1.1.0",
		"fixed: CVE-2020-0001 on Ubuntu 22.04@bash 5.4",
		"go: GO-2020-1@example.com/mod v1.0.0",
	}
	for _, id := range []string{"CVE-2020-0001", " cve-2020-0001", "GHSA-aaaa-bbbb", "GO-2020-1"} {
		if got := w.affected(id); !slices.Equal(got, both) {
			t.Errorf("affected by %s:\n%s\nwant:\n%s", id, strings.Join(got, "\n"), strings.Join(both, "\n"))
		}
	}
	for _, id := range []string{"CVE-1999-1", "CVE-2020%", "CVE_2020-0001", `\`} {
		if items, _, err := w.engine.Affected(t.Context(), id, matcher.Page{}); items != nil || !errors.Is(err, matcher.ErrUnknownVulnerability) {
			t.Errorf("affected by %s: %v, %v", id, items, err)
		}
	}
	for id, hint := range map[string]string{"CVE-2020-0002": "CVE-2020-0001", "GO-2020-2": "GO-2020-1", "go-2020-1": "GO-2020-1", "nosuch": "no feed"} {
		if _, _, err := w.engine.Affected(t.Context(), id, matcher.Page{}); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("affected by %s: %v, without a hint at %s", id, err, hint)
		}
	}
	if err := w.engine.Forget(t.Context(), w.ids["both"]); err != nil {
		t.Fatal(err)
	}
	if got := w.affected("GO-2020-1"); !slices.Equal(got, both[1:]) {
		t.Errorf("after an image was deleted: %q", got)
	}
}

func TestAffectedPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.index(fmt.Sprint("image", i), deb("bash", "5.2", "bash"))
	}
	w.update("debian", debVuln("CVE-1", "bash", ""))
	w.process()
	var got []string
	p := matcher.Page{Limit: 2}
	for {
		items, next, err := w.engine.Affected(t.Context(), "CVE-1", p)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) > 2 {
			t.Fatalf("a page of 2 has %d items", len(items))
		}
		for _, a := range items {
			got = append(got, a.Manifest.Names[0])
		}
		if p.Cursor = next; next == "" {
			break
		}
	}
	if want := []string{"image0", "image1", "image2", "image3", "image4"}; !slices.Equal(got, want) {
		t.Errorf("pages are %q, want %q", got, want)
	}
}

func TestBadQuestions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, q := range []struct {
		id string
		p  matcher.Page
	}{
		{"", matcher.Page{}}, {strings.Repeat("x", 300), matcher.Page{}}, {"CVE-\x00", matcher.Page{}},
		{"CVE-1", matcher.Page{Cursor: "x"}}, {"CVE-1", matcher.Page{Cursor: "-1"}},
	} {
		if _, _, err := w.engine.Affected(t.Context(), q.id, q.p); !errors.Is(err, matcher.ErrBadQuestion) {
			t.Errorf("Affected(%q, %+v): %v, want ErrBadQuestion", q.id, q.p, err)
		}
	}
	for d, err := range w.engine.Diff(t.Context(), uuid.New(), uuid.New()) {
		if !errors.Is(err, matcher.ErrUnknownOperation) {
			t.Errorf("Diff of nothing: %+v, %v", d, err)
		}
	}
	if _, err := w.engine.Report(t.Context(), digestOf("nothing")); !errors.Is(err, matcher.ErrNotIndexed) {
		t.Errorf("Report of nothing: %v", err)
	}
	if _, err := w.engine.RenderChanges(t.Context(), []schemas.ChangeKey{{ChangeID: 1}}, 0); !errors.Is(err, matcher.ErrUnknownChange) {
		t.Errorf("RenderChanges of nothing: %v", err)
	}
	m := w.manifest("web")
	m.ID++
	if err := w.engine.Indexed(t.Context(), m, report("web")); !errors.Is(err, matcher.ErrUnknownManifest) {
		t.Errorf("Indexed of nothing: %v", err)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"), deb("libssl3", "3.0.1", "openssl"))
	w.index("other", deb("zlib1g", "1.2", "zlib"))
	r1 := w.update("debian", debVuln("CVE-1", "bash", ""), debVuln("CVE-2", "openssl", ""))
	w.update("debian", debVuln("CVE-1", "bash", ""))
	r3 := w.update("debian", debVuln("CVE-1", "bash", "9"), debVuln("CVE-3", "openssl", ""))
	foreign := w.update("other", debVuln("CVE-1", "bash", ""))
	diff := func(prev, cur uuid.UUID) (out []string, err error) {
		for d, err := range w.engine.Diff(t.Context(), prev, cur) {
			if err != nil {
				return out, err
			}
			s := d.Manifest.Names[0] + ":"
			for _, f := range d.Added {
				s += " +" + brief(f)
			}
			for _, f := range d.Removed {
				s += " -" + brief(f)
			}
			for _, f := range d.Revised {
				s += " ~" + brief(f.Finding) + fmt.Sprint(f.Changes)
			}
			out = append(out, s)
		}
		return out, nil
	}
	for _, c := range []struct {
		prev, cur uuid.UUID
		want      []string
	}{
		{uuid.Nil, r1, []string{"web: +CVE-1@bash +CVE-2@libssl3"}},
		{r1, r3, []string{"web: +CVE-3@libssl3 -CVE-2@libssl3 ~CVE-1@bash[{fixed_in_version  9}]"}},
		{r3, r1, []string{"web: +CVE-2@libssl3 -CVE-3@libssl3 ~CVE-1@bash[{fixed_in_version 9 }]"}},
		{r1, r1, nil},
	} {
		got, err := diff(c.prev, c.cur)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("difference is %q, %v, want %q", got, err, c.want)
		}
	}
	if _, err := diff(foreign, r1); !errors.Is(err, matcher.ErrBadQuestion) {
		t.Errorf("difference of two updaters: %v", err)
	}
	if n := len(w.rows()) + w.count(`SELECT count(*) FROM tocsin.change`); n != 0 {
		t.Errorf("asking wrote %d rows", n)
	}
}

func TestEventsAreCutAndPaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("web", deb("bash", "5.2", "bash"), deb("zlib1g", "1.2", "zlib"))
	var vulns []*claircore.Vulnerability
	for i := range 60 {
		vulns = append(vulns, debVuln(fmt.Sprintf("CVE-2020-%04d", i), "bash", "", severity(claircore.Severity(i%6))))
	}
	w.update("debian", append(vulns, debVuln("CVE-1", "zlib", ""))...)
	w.update("debian", append(vulns[:30:30], debVuln("CVE-1", "zlib", "9"))...)
	w.process()
	key := w.rows()[0].key()
	const limit = 8 << 10
	evs, err := w.engine.RenderChanges(t.Context(), []schemas.ChangeKey{key}, limit)
	if err != nil {
		t.Fatal(err)
	}
	ev := evs[0]
	if n := len(asJSON(t, ev)); n > limit+200 || n < limit/2 {
		t.Errorf("the event has %d bytes, want about %d", n, limit)
	}
	if !ev.Truncated || len(ev.Added) == 0 || len(ev.Added) == 61 || ev.Counts.Added != 61 || ev.Counts.BySeverity.Critical != 10 {
		t.Errorf("cut to %d of %+v, truncated %t", len(ev.Added), ev.Counts, ev.Truncated)
	}
	if !slices.IsSortedFunc(ev.Added, func(a, b schemas.Finding) int {
		return schemas.SeverityRank(b.NormalizedSeverity) - schemas.SeverityRank(a.NormalizedSeverity)
	}) || ev.Added[0].NormalizedSeverity != "Critical" {
		t.Error("the most severe are not first")
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.index("both", deb("bash", "5.2", "bash"), deb("zlib1g", "1.2", "zlib"))
	w.index("one", deb("bash", "5.2", "bash"))
	w.index("fixed", deb("bash", "5.4", "bash"))
	w.update("debian", debVuln("CVE-1", "bash", "5.3", severity(claircore.Critical)), debVuln("CVE-2", "zlib", "", severity(claircore.Low)))
	w.process()
	w.update("debian") // is not announced yet
	got, err := w.engine.Counts(t.Context(), []int32{w.ids["both"], w.ids["one"], w.ids["fixed"], 999})
	if err != nil {
		t.Fatal(err)
	}
	want := map[int32]schemas.BySeverity{w.ids["both"]: {Critical: 1, Low: 1}, w.ids["one"]: {Critical: 1}}
	if !maps.Equal(got, want) {
		t.Errorf("counts are %+v, want %+v", got, want)
	}
}
