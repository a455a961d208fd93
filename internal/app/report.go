package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/quay/claircore"
	"github.com/quay/claircore/enricher/cvss"
	"github.com/quay/claircore/enricher/epss"
	"github.com/quay/claircore/enricher/kev"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// reports answers httpapi.Reports with the matcher, and with the indexer for
// what images are called.
type reports struct {
	ix     *indexer.Indexer
	engine *matcher.Engine
}

func (s reports) Report(ctx context.Context, ref string) (v1.Report, error) {
	image, err := s.ix.Get(ctx, ref)
	if err != nil {
		return v1.Report{}, indexerError(err)
	}
	digest, err := claircore.ParseDigest(image.Digest)
	if err != nil {
		return v1.Report{}, err
	}
	r, err := s.engine.Report(ctx, digest)
	if errors.Is(err, matcher.ErrUnknownManifest) {
		return v1.Report{}, fmt.Errorf("%w: image is %s and has no report yet; %s", httpapi.ErrConflict, image.State, cmp.Or(image.Reason, "wait until it is indexed"))
	}
	if err != nil {
		return v1.Report{}, err
	}
	out := v1.Report{
		Manifest: schemas.Manifest{Digest: image.Digest, Names: image.Names, Labels: image.Labels},
		Packages: len(r.Packages), Vulnerabilities: findingsOf(r.VulnerabilityReport), Warnings: slices.Clone(image.Warnings),
	}
	for _, f := range out.Vulnerabilities {
		out.Counts.Add(schemas.SeverityRank(f.NormalizedSeverity), 1)
		if f.FixedInVersion != "" {
			out.Fixable++
		}
	}
	if n := r.Skipped.Count(); n > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%d advisories could not be judged, as with a version that does not parse", n))
	}
	return out, nil
}

// findingsOf flattens a report, the most severe first; rows of one feed that
// say the same of the same package are one finding.
func findingsOf(r *claircore.VulnerabilityReport) []schemas.Finding {
	extra := enrichmentsOf(r)
	type key struct{ updater, id, pkg, fixed, severity string }
	seen := map[key]bool{}
	out := []schemas.Finding{}
	for _, pkg := range slices.Sorted(maps.Keys(r.PackageVulnerabilities)) {
		p := r.Packages[pkg]
		for _, id := range r.PackageVulnerabilities[pkg] {
			v := r.Vulnerabilities[id]
			k := key{v.Updater, v.Name, pkg, v.FixedInVersion, v.Severity}
			if v == nil || p == nil || seen[k] {
				continue
			}
			seen[k] = true
			f := findingOf(v, p)
			f.CVSS, f.EPSS, f.KEV = extra.cvss[id], extra.epss[id], extra.kev[id]
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b schemas.Finding) int {
		return cmp.Or(
			cmp.Compare(schemas.SeverityRank(b.NormalizedSeverity), schemas.SeverityRank(a.NormalizedSeverity)),
			cmp.Compare(a.ID, b.ID), cmp.Compare(a.Package.Name, b.Package.Name), cmp.Compare(a.Package.Version, b.Package.Version))
	})
	return out
}

func findingOf(v *claircore.Vulnerability, p *claircore.Package) schemas.Finding {
	f := schemas.Finding{
		ID: v.Name, Aliases: []string{}, Updater: v.Updater, Severity: v.Severity, NormalizedSeverity: v.NormalizedSeverity.String(),
		Package: packageOf(p), FixedInVersion: v.FixedInVersion, Links: strings.Fields(v.Links), Description: v.Description,
	}
	if f.Links == nil {
		f.Links = []string{}
	}
	for _, a := range v.Aliases {
		if s := a.String(); s != v.Name {
			f.Aliases = append(f.Aliases, s)
		}
	}
	slices.Sort(f.Aliases)
	if !v.Issued.IsZero() && v.Issued.Unix() > 0 {
		issued := v.Issued.UTC()
		f.Issued = &issued
	}
	if d := v.Dist; d != nil && *d != (claircore.Distribution{}) {
		f.Distribution = &schemas.Distribution{
			DID: d.DID, Name: d.Name, Version: d.Version, VersionID: d.VersionID, VersionCodeName: d.VersionCodeName, PrettyName: d.PrettyName, Arch: d.Arch,
		}
	}
	if repo := v.Repo; repo != nil && repo.Name+repo.Key+repo.URI != "" {
		f.Repository = &schemas.Repository{Name: repo.Name, Key: repo.Key, URI: repo.URI}
	}
	return f
}

func packageOf(p *claircore.Package) schemas.Package {
	out := schemas.Package{Name: p.Name, Version: p.Version, Arch: p.Arch, Module: p.Module}
	if kind, err := p.Kind.MarshalText(); err == nil {
		out.Kind = string(kind)
	}
	if p.Source != nil && p.Source.Name != "" {
		source := packageOf(p.Source)
		out.Source = &source
	}
	return out
}

// enrichmentSet is what claircore's enrichers say, by vulnerability id.
type enrichmentSet struct {
	cvss map[string][]schemas.CVSS
	epss map[string]*schemas.EPSS
	kev  map[string]bool
}

func enrichmentsOf(r *claircore.VulnerabilityReport) enrichmentSet {
	set := enrichmentSet{map[string][]schemas.CVSS{}, map[string]*schemas.EPSS{}, map[string]bool{}}
	eachEnrichment(r, cvss.Type, func(id string, c struct {
		Version string  `json:"version"`
		Vector  string  `json:"vectorString"`
		Score   float64 `json:"baseScore"`
	}) {
		set.cvss[id] = append(set.cvss[id], schemas.CVSS{Version: c.Version, Vector: c.Vector, Score: c.Score})
	})
	eachEnrichment(r, epss.Type, func(id string, e epss.EPSSItem) {
		if have := set.epss[id]; have == nil || e.EPSS > have.Score {
			set.epss[id] = &schemas.EPSS{Score: e.EPSS, Percentile: e.Percentile, Date: e.Date}
		}
	})
	eachEnrichment(r, kev.Type, func(id string, _ kev.Entry) { set.kev[id] = true })
	return set
}

// eachEnrichment calls do with each record of one kind; one that does not
// decode is left out, as it decorates a finding and does not make one.
func eachEnrichment[T any](r *claircore.VulnerabilityReport, kind string, do func(id string, record T)) {
	for _, message := range r.Enrichments[kind] {
		var byID map[string][]json.RawMessage
		if json.Unmarshal(message, &byID) != nil {
			continue
		}
		for id, records := range byID {
			for _, raw := range records {
				var record T
				if json.Unmarshal(raw, &record) == nil {
					do(id, record)
				}
			}
		}
	}
}

func (s reports) Affected(ctx context.Context, id string, p v1.Paging) (v1.Page[v1.AffectedImage], error) {
	found, next, err := s.engine.Affected(ctx, id, matcher.Page{Cursor: p.Cursor, Limit: p.Limit})
	if err != nil {
		return v1.Page[v1.AffectedImage]{}, err
	}
	page := v1.Page[v1.AffectedImage]{Items: make([]v1.AffectedImage, len(found)), Next: next}
	for i, a := range found {
		page.Items[i] = v1.AffectedImage{Manifest: a.Manifest, Findings: a.Findings}
	}
	return page, nil
}

// Diff pages through the matcher's stream; the cursor is how many manifests
// came before.
func (s reports) Diff(ctx context.Context, prev, cur string, p v1.Paging) (v1.Page[v1.ImageDiff], error) {
	var page v1.Page[v1.ImageDiff]
	var refs [2]uuid.UUID
	for i, raw := range []string{prev, cur} {
		ref, err := uuid.Parse(raw)
		if err != nil {
			return page, &httpapi.FieldError{Field: []string{"prev", "cur"}[i], Message: "is not the UUID of an update operation; see `tocsin updaters status`", Value: raw}
		}
		refs[i] = ref
	}
	skip := 0
	if p.Cursor != "" {
		n, err := strconv.Atoi(p.Cursor)
		if err != nil || n < 0 {
			return page, badCursor(p.Cursor)
		}
		skip = n
	}
	page.Items = []v1.ImageDiff{}
	n := 0
	for d, err := range s.engine.Diff(ctx, refs[0], refs[1]) {
		if errors.Is(err, matcher.ErrUnknownChange) {
			return page, fmt.Errorf("%w: %w", httpapi.ErrNotFound, err)
		}
		if err != nil {
			return page, err
		}
		if n++; n <= skip {
			continue
		}
		if p.Limit > 0 && len(page.Items) == p.Limit {
			page.Next = strconv.Itoa(n - 1)
			break
		}
		page.Items = append(page.Items, v1.ImageDiff{Manifest: d.Manifest, Added: d.Added, Removed: d.Removed, Revised: d.Revised})
	}
	return page, nil
}
