package osv

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unique"

	"github.com/Masterminds/semver"
	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types"

	"tocsin.dev/tocsin/internal/osvrange"
)

// rows are the vulnerabilities that the advisory speaks of in one ecosystem: one
// for each stretch of versions of each package.
func (a *advisory) rows(eco *ecosystem) []*claircore.Vulnerability {
	proto := a.proto(eco)
	repo := &claircore.Repository{Name: eco.repository(), URI: eco.uri}
	var out []*claircore.Vulnerability
	for i := range a.Affected {
		af := &a.Affected[i]
		base, _, _ := strings.Cut(af.Package.Ecosystem, ":")
		if !strings.EqualFold(base, eco.name) || af.Package.Name == "" {
			continue
		}
		name := af.Package.Name
		if eco.rename != nil {
			name = eco.rename(name)
		}
		for _, r := range af.stretches() {
			v := proto
			if v.NormalizedSeverity == claircore.Unknown && v.Severity == "" {
				rate(&v, af.Severity, nil)
			}
			v.Repo = repo
			v.Package = &claircore.Package{Name: name, Kind: types.BinaryPackage, RepositoryHint: eco.name}
			if eco.semantic {
				semantic(&v, r)
				out = append(out, &v)
				continue
			}
			for _, r := range apart(r) {
				w := v
				encode(&w, r)
				out = append(out, &w)
			}
		}
	}
	return out
}

// proto is what all rows of the advisory say.
func (a *advisory) proto(eco *ecosystem) claircore.Vulnerability {
	v := claircore.Vulnerability{Name: a.name, Updater: eco.updater, Description: a.Summary, Issued: a.Published, NormalizedSeverity: claircore.Unknown}
	if v.Description == "" {
		v.Description = firstLine(a.Details)
	}
	rate(&v, a.Severity, a.Database)
	links := make([]string, 0, len(a.References)+len(a.Aliases))
	for _, r := range a.References {
		links = append(links, r.URL)
	}
	for _, alias := range a.Aliases {
		links = append(links, "https://osv.dev/vulnerability/"+alias)
	}
	v.Links = strings.Join(links, " ")
	v.Self, _ = alias(a.name)
	for _, id := range slices.Concat([]string{a.ID}, a.Aliases, a.also) {
		if also, ok := alias(id); ok && id != a.name && !slices.Contains(v.Aliases, also) {
			v.Aliases = append(v.Aliases, also)
		}
	}
	return v
}

// firstLine is the first line of a text, cut at 200 characters.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if r := []rune(s); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return s
}

// alias is an id as claircore keeps it; false for one that has no hyphen.
func alias(id string) (claircore.Alias, bool) {
	space, name, ok := strings.Cut(id, "-")
	if !ok || space == "" || name == "" {
		return claircore.Alias{}, false
	}
	return claircore.Alias{Space: unique.Make(space), Name: name}, true
}

// stretches are the versions that are affected: the ranges or, if there is none
// that can be used, the listed versions.
func (af *affected) stretches() []osvrange.Range {
	var out []osvrange.Range
	for _, r := range af.Ranges {
		if r.Type != "GIT" {
			out = append(out, stretches(r.Events)...)
		}
	}
	if len(out) == 0 && len(af.Versions) > 0 {
		out = []osvrange.Range{{Versions: af.Versions}}
	}
	return out
}

// stretches of one range: each is opened by "introduced" and ended by what
// follows. A bound that comes before any begins at the first version.
func stretches(events []event) []osvrange.Range {
	var out []osvrange.Range
	var r osvrange.Range
	open := true
	end := func() {
		if open {
			out = append(out, r)
		}
		open, r = false, osvrange.Range{}
	}
	if len(events) == 0 {
		return nil
	}
	for i, ev := range events {
		if ev.Introduced != "" && (i == 0 || !open) {
			open = true
			if ev.Introduced != "0" {
				r.Introduced = ev.Introduced
			}
		}
		switch {
		case ev.Fixed != "":
			r.Fixed = ev.Fixed
			end()
		case ev.LastAffected != "":
			r.LastAffected = ev.LastAffected
			end()
		case ev.Limit != "" && ev.Limit != "*":
			r.Fixed = ev.Limit
			end()
		}
	}
	end()
	return out
}

// apart makes of a list of versions one stretch a version.
func apart(r osvrange.Range) []osvrange.Range {
	if len(r.Versions) == 0 {
		return []osvrange.Range{r}
	}
	out := make([]osvrange.Range, len(r.Versions))
	for i, v := range r.Versions {
		out[i] = osvrange.Range{Introduced: v, LastAffected: v}
	}
	return out
}

// encode gives a row the bounds as claircore encodes them for PyPI, Maven and
// RubyGems.
func encode(v *claircore.Vulnerability, r osvrange.Range) {
	q := url.Values{}
	for k, s := range map[string]string{"introduced": r.Introduced, "fixed": r.Fixed, "lastAffected": r.LastAffected} {
		if s != "" {
			q.Set(k, s)
		}
	}
	v.FixedInVersion = q.Encode()
}

// semantic gives a row exact bounds, beside them the numbers that claircore's
// matchers look at, and the fix.
func semantic(v *claircore.Vulnerability, r osvrange.Range) {
	v.Package.Version = r.Encode()
	v.FixedInVersion = r.Fixed
	if len(r.Versions) > 0 {
		return
	}
	bounds := &claircore.Range{Lower: claircore.Version{Kind: "semver"}, Upper: claircore.Version{Kind: "semver"}}
	bounds.Upper.V[0] = 65535
	if lower, err := semver.NewVersion(r.Introduced); err == nil {
		bounds.Lower = claircore.FromSemver(lower)
	}
	if upper, err := semver.NewVersion(r.Fixed); err == nil {
		bounds.Upper = claircore.FromSemver(upper)
	} else if last, err := semver.NewVersion(r.LastAffected); err == nil {
		next := last.IncPatch()
		bounds.Upper = claircore.FromSemver(&next)
	}
	if bounds.Lower.Compare(&bounds.Upper) <= 0 {
		v.Range = bounds
	}
}

// databaseSeverity is what GitHub's advisories carry beside a vector.
func databaseSeverity(raw json.RawMessage) string {
	var d struct {
		Severity string `json:"severity"`
	}
	_ = json.Unmarshal(raw, &d) // what is not such an object has none
	return d.Severity
}
