package oracle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// Identity says which vulnerability a finding is about, and in which package of
// a manifest.
type Identity struct {
	Updater, ID                       string
	Name, Version, Kind, Arch, Module string
	SourceName, SourceVersion         string
}

// Verdict is what a finding says that a subscriber can act on.
type Verdict struct {
	Severity, Normalized, FixedIn string
	// KEV and Likely: one of its CVEs is known to be exploited, or has an EPSS
	// score of at least the threshold.
	KEV, Likely bool
}

// Findings are what a vulnerability report says of one manifest. Several
// advisories of one name may speak of the same package, each with its verdict.
type Findings map[Identity]map[Verdict]bool

func (f Findings) add(id Identity, v Verdict) {
	if f[id] == nil {
		f[id] = map[Verdict]bool{}
	}
	f[id][v] = true
}

func identify(v *claircore.Vulnerability, p *claircore.Package) Identity {
	id := Identity{
		Updater: v.Updater, ID: v.Name,
		Name: p.Name, Version: p.Version, Kind: p.Kind.String(), Arch: p.Arch, Module: p.Module,
	}
	if p.Source != nil {
		id.SourceName, id.SourceVersion = p.Source.Name, p.Source.Version
	}
	return id
}

func identifyEvent(f *schemas.Finding) Identity {
	p := &f.Package
	id := Identity{
		Updater: f.Updater, ID: f.ID,
		Name: p.Name, Version: p.Version, Kind: p.Kind, Arch: p.Arch, Module: p.Module,
	}
	if p.Source != nil {
		id.SourceName, id.SourceVersion = p.Source.Name, p.Source.Version
	}
	return id
}

// scan takes libvuln's vulnerability reports of several index reports at once.
// A package's findings depend on nothing but the package and its surroundings,
// so all of them go through one Scan, each package under an id of its own.
func scan(ctx context.Context, lv *libvuln.Libvuln, reports []*claircore.IndexReport, known scores) ([]Findings, error) {
	all := &claircore.IndexReport{
		Hash:          digest("all"),
		Packages:      map[string]*claircore.Package{},
		Distributions: map[string]*claircore.Distribution{},
		Repositories:  map[string]*claircore.Repository{},
		Environments:  map[string][]*claircore.Environment{},
	}
	owner := map[string]int{}
	for i, r := range reports {
		for id, p := range r.Packages {
			q := *p
			q.ID = fmt.Sprintf("%d.%s", i, id)
			owner[q.ID] = i
			all.Packages[q.ID] = &q
			all.Environments[q.ID] = r.Environments[id]
		}
		maps.Copy(all.Distributions, r.Distributions)
		maps.Copy(all.Repositories, r.Repositories)
	}
	vr, err := lv.Scan(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	out := make([]Findings, len(reports))
	for i := range out {
		out[i] = Findings{}
	}
	for pkg, vulns := range vr.PackageVulnerabilities {
		for _, id := range vulns {
			v := vr.Vulnerabilities[id]
			out[owner[pkg]].add(identify(v, all.Packages[pkg]), verdict(v, known))
		}
	}
	return out, nil
}

// scanOne is the vulnerability report of one index report, taken plainly.
func scanOne(ctx context.Context, lv *libvuln.Libvuln, r *claircore.IndexReport, known scores) (Findings, error) {
	vr, err := lv.Scan(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	out := Findings{}
	for pkg, vulns := range vr.PackageVulnerabilities {
		for _, id := range vulns {
			v := vr.Vulnerabilities[id]
			out.add(identify(v, r.Packages[pkg]), verdict(v, known))
		}
	}
	return out, nil
}

// verdict is what a row says, with what is known of its CVEs.
func verdict(v *claircore.Vulnerability, known scores) Verdict {
	out := Verdict{Severity: v.Severity, Normalized: v.NormalizedSeverity.String(), FixedIn: v.FixedInVersion}
	if q, err := url.ParseQuery(v.FixedInVersion); err == nil && (q.Has("fixed") || q.Has("introduced") || q.Has("lastAffected")) {
		out.FixedIn = q.Get("fixed")
	}
	worst := -1
	for _, cve := range scoredBy(v) {
		out.KEV = out.KEV || known.kev[cve]
		out.Likely = out.Likely || known.epss[cve] >= matcher.DefaultEPSSThreshold
		if score, ok := known.cvss[cve]; ok {
			worst = max(worst, rankOf(score))
		}
	}
	if v.NormalizedSeverity == claircore.Unknown && worst >= 0 {
		out.Normalized = schemas.SeverityNames[worst]
	}
	return out
}

func verdictOf(f *schemas.Finding) Verdict {
	v := Verdict{Severity: f.Severity, Normalized: f.NormalizedSeverity, FixedIn: f.FixedInVersion, KEV: f.KEV}
	v.Likely = f.EPSS != nil && f.EPSS.Score >= matcher.DefaultEPSSThreshold
	return v
}

// Difference is what happened to one manifest's findings. Was has the revised
// ones as they were.
type Difference struct {
	Added, Removed, Revised, Was Findings
}

func (d Difference) empty() bool {
	return len(d.Added) == 0 && len(d.Removed) == 0 && len(d.Revised) == 0
}

// difference of two reports.
func difference(before, after Findings) Difference {
	d := Difference{Added: Findings{}, Removed: Findings{}, Revised: Findings{}, Was: Findings{}}
	for id, vs := range after {
		switch was, ok := before[id]; {
		case !ok:
			d.Added[id] = vs
		case !maps.Equal(was, vs):
			d.Revised[id], d.Was[id] = vs, was
		}
	}
	for id, vs := range before {
		if _, ok := after[id]; !ok {
			d.Removed[id] = vs
		}
	}
	return d
}

// announced is the difference that an event's data speaks of.
func announced(data *schemas.VulnerabilitiesChanged) Difference {
	d := Difference{Added: Findings{}, Removed: Findings{}, Revised: Findings{}}
	put := func(to Findings, f *schemas.Finding) {
		to.add(identifyEvent(f), verdictOf(f))
	}
	for i := range data.Added {
		put(d.Added, &data.Added[i])
	}
	for i := range data.Removed {
		put(d.Removed, &data.Removed[i])
	}
	for i := range data.Revised {
		put(d.Revised, &data.Revised[i].Finding)
	}
	return d
}

// String lists the findings, sorted, one a line.
func (f Findings) String() string {
	ids := slices.SortedFunc(maps.Keys(f), func(a, b Identity) int {
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "      %s by %s in %s %s", id.ID, id.Updater, id.Kind, id.Name)
		for _, s := range []struct{ what, is string }{
			{"", id.Version}, {"arch ", id.Arch}, {"module ", id.Module},
			{"of source ", strings.TrimSpace(id.SourceName + " " + id.SourceVersion)},
		} {
			if s.is != "" {
				fmt.Fprintf(&b, " %s%s", s.what, s.is)
			}
		}
		var vs []string
		for v := range f[id] {
			s := fmt.Sprintf("%s/%s fixed %q", v.Severity, v.Normalized, v.FixedIn)
			if v.KEV {
				s += " in KEV"
			}
			if v.Likely {
				s += " likely"
			}
			vs = append(vs, s)
		}
		slices.Sort(vs)
		fmt.Fprintf(&b, ": %s\n", strings.Join(vs, ", "))
	}
	return b.String()
}
