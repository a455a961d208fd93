package matcher_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// outOfTree is a matcher that claircore does not have.
type outOfTree struct {
	name       string
	filter     func(*claircore.IndexRecord) bool
	query      []driver.MatchConstraint
	vulnerable func(*claircore.IndexRecord, *claircore.Vulnerability) (bool, error)
}

func (m *outOfTree) Name() string                         { return m.name }
func (m *outOfTree) Filter(r *claircore.IndexRecord) bool { return m.filter(r) }
func (m *outOfTree) Query() []driver.MatchConstraint      { return m.query }
func (m *outOfTree) Vulnerable(_ context.Context, r *claircore.IndexRecord, v *claircore.Vulnerability) (bool, error) {
	return m.vulnerable(r, v)
}

var bashOnly = &outOfTree{
	name:   "bash",
	filter: func(r *claircore.IndexRecord) bool { return r.Package.Name == "bash" },
	query:  []driver.MatchConstraint{driver.DistributionArch},
	vulnerable: func(r *claircore.IndexRecord, v *claircore.Vulnerability) (bool, error) {
		if v.FixedInVersion == "?" {
			return false, errors.New("can't tell")
		}
		return r.Package.Version < v.FixedInVersion, nil
	},
}

// A matcher that is registered later, or no longer, judges what was indexed
// before.
func TestMatchersOfOneself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain := deb("bash", "5.2", "bash")
	plain.dist = &claircore.Distribution{DID: "mine", Arch: "riscv"}
	w.index("web", plain)
	vuln := func(name, arch, fixed string) *claircore.Vulnerability {
		return debVuln(name, "bash", fixed, func(v *claircore.Vulnerability) { v.Dist = &claircore.Distribution{Arch: arch} })
	}
	w.update("mine", vuln("CVE-1", "riscv", "9"))
	w.process()
	w.expect()
	w.engine = w.newEngine(func(o *matcher.Options) { o.Matchers = []driver.Matcher{bashOnly} })
	w.update("mine", vuln("CVE-2", "riscv", "9"), vuln("CVE-3", "amd64", "9"), vuln("CVE-4", "riscv", "5.1"), vuln("CVE-5", "riscv", "?"))
	w.process()
	w.expect("web mine: +CVE-2@bash -CVE-1@bash")
	if done := logged[schemas.UpdateCompleted](w, "completed")[1]; done.Skipped != 1 {
		t.Errorf("skipped %d: %q", done.Skipped, done.Reasons)
	}
	w.engine = w.newEngine()
	w.update("mine")
	w.process()
	w.expect("web mine: +CVE-2@bash -CVE-1@bash")
}

func TestConstraintNobodyServes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		constraint driver.MatchConstraint
		name       string
	}{
		{driver.PackageSourceName, "PackageSourceName"}, {driver.DistributionCPE, "DistributionCPE"}, {99, "MatchConstraint(99)"},
	} {
		m := &outOfTree{name: "odd", query: []driver.MatchConstraint{c.constraint}}
		_, err := matcher.New(t.Context(), matcher.Options{Pool: newWorld(t).pool, Matchers: []driver.Matcher{m}})
		if err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), `"odd"`) {
			t.Errorf("error is %v, want one that names %s and the matcher", err, c.name)
		}
	}
	m := &outOfTree{name: "gobin"}
	if _, err := matcher.New(t.Context(), matcher.Options{Pool: newWorld(t).pool, Matchers: []driver.Matcher{m}}); err == nil {
		t.Error("two matchers of one name were accepted")
	}
}

type filtering struct{ *outOfTree }

func (filtering) VersionFilter()             {}
func (filtering) VersionAuthoritative() bool { return true }

type remote struct{ *outOfTree }

func (remote) QueryRemoteMatcher(context.Context, []*claircore.IndexRecord) (map[string][]*claircore.Vulnerability, error) {
	return nil, nil
}

type both struct {
	filtering
	remote
}

func (b both) Name() string                       { return "both" }
func (b both) Filter(*claircore.IndexRecord) bool { return true }
func (b both) Query() []driver.MatchConstraint    { return nil }
func (b both) Vulnerable(context.Context, *claircore.IndexRecord, *claircore.Vulnerability) (bool, error) {
	return false, errors.New("no")
}

func TestLenientKeepsInterfaces(t *testing.T) {
	t.Parallel()
	for _, m := range []driver.Matcher{bashOnly, filtering{bashOnly}, remote{bashOnly}, both{}} {
		l := matcher.Lenient(m)
		_, wantFilter := m.(driver.VersionFilter)
		f, isFilter := l.(driver.VersionFilter)
		_, wantRemote := m.(driver.RemoteMatcher)
		_, isRemote := l.(driver.RemoteMatcher)
		if isFilter != wantFilter || isRemote != wantRemote || l.Name() != m.Name() {
			t.Errorf("%T: filter %t remote %t, want %t %t", m, isFilter, isRemote, wantFilter, wantRemote)
		}
		if isFilter && !f.VersionAuthoritative() {
			t.Errorf("%T is no longer authoritative", m)
		}
	}
	ctx, skips := matcher.CollectSkips(t.Context())
	r := &claircore.IndexRecord{Package: &claircore.Package{Name: "p", Version: "1"}}
	for range 3 {
		if ok, err := matcher.Lenient(both{}).Vulnerable(ctx, r, &claircore.Vulnerability{Name: "CVE-1"}); ok || err != nil {
			t.Errorf("a pair that can't be judged is %t, %v", ok, err)
		}
	}
	if skips.Count() != 1 || skips.Examples()[0].Reason != "no" {
		t.Errorf("skips are %+v", skips.Examples())
	}
}

func TestReindexed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.update("debian", debVuln("CVE-1", "bash", "5.3"), debVuln("CVE-2", "bash", ""))
	w.process()
	m := w.index("web", deb("bash", "5.2", "bash"))
	again := report("web", deb("bash", "5.2", "bash"))
	for id, p := range again.Packages { // another database, another path
		p.PackageDB, p.Filepath = "elsewhere", id
	}
	for _, step := range []struct {
		what   string
		edit   func(*matcher.Manifest)
		report *claircore.IndexReport
		events int
	}{
		{"the same again", func(*matcher.Manifest) {}, again, 1},
		{"forced", func(m *matcher.Manifest) { m.Force = true }, again, 2},
		{"another indexer state", func(m *matcher.Manifest) { m.IndexerState, m.Reindexed = "s2", true }, again, 3},
		{"another content", func(m *matcher.Manifest) { m.IndexerState = "s2" }, report("web", deb("bash", "5.4", "bash")), 4},
	} {
		m := m
		step.edit(&m)
		if err := w.engine.Indexed(t.Context(), m, step.report); err != nil {
			t.Fatal(err)
		}
		if n := len(logged[schemas.IndexedEvent](w, "indexed")); n != step.events {
			t.Errorf("%s: announced %d times, want %d", step.what, n, step.events)
		}
	}
	evs := logged[schemas.IndexedEvent](w, "indexed")
	if evs[0].Data.Vulnerabilities.High != 2 || evs[3].Data.Vulnerabilities.High != 1 || evs[0].Data.Packages != 1 {
		t.Errorf("findings went from %+v to %+v", evs[0].Data, evs[3].Data)
	}
	if evs[0].InventoryID != evs[2].InventoryID || evs[0].InventoryID == evs[3].InventoryID {
		t.Error("an inventory is made anew exactly when its content is new")
	}
	if n := w.count(`SELECT count(*) FROM tocsin.inventory WHERE current`); n != 1 {
		t.Errorf("%d inventories are current", n)
	}
	if n := w.count(`SELECT count(*) FROM tocsin.manifest WHERE state = 'indexed' AND indexer_state = 's2' AND inventory_id IS NOT NULL`); n != 1 {
		t.Error("the manifest's row does not say that it is indexed")
	}
	w.update("debian", debVuln("CVE-1", "bash", "9"), debVuln("CVE-2", "bash", ""))
	w.process()
	w.expect("web debian: +CVE-1@bash")
}
