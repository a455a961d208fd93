package matcher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/enricher/cvss"
	"github.com/quay/claircore/enricher/epss"
	"github.com/quay/claircore/enricher/kev"

	"tocsin.dev/tocsin/schemas"
)

// ErrNotIndexed is returned for a manifest without a finished index report. It
// is an [ErrUnknownManifest].
var ErrNotIndexed = fmt.Errorf("%w, or not indexed yet", ErrUnknownManifest)

// Report is the vulnerability report of a manifest: libvuln's Scan with the
// two mends of [Store] and [Lenient].
type Report struct {
	*claircore.VulnerabilityReport
	// Skipped is what could not be judged.
	Skipped *Skips
}

// Report scans the stored index report of a manifest. Errors: [ErrNotIndexed].
func (e *Engine) Report(ctx context.Context, digest claircore.Digest) (*Report, error) {
	if e.reports == nil {
		return nil, errors.New("matcher: the engine was given no index reports")
	}
	ir, ok, err := e.reports.IndexReport(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("index report of %s: %w", digest, err)
	}
	if !ok || !ir.Success {
		return nil, fmt.Errorf("%w: %s", ErrNotIndexed, digest)
	}
	ctx, skips := CollectSkips(ctx)
	vr, err := e.scanner.Scan(ctx, ir)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", digest, err)
	}
	return &Report{vr, skips}, nil
}

// Findings are the report's findings in an event's words, most severe first.
func (r *Report) Findings() []schemas.Finding {
	enriched := r.enrichments()
	out := []schemas.Finding{}
	for id, vulns := range r.PackageVulnerabilities {
		p := r.Packages[id]
		if p == nil {
			continue
		}
		o := r.occurrence(id)
		for _, v := range slices.Compact(slices.Sorted(slices.Values(vulns))) {
			if v := r.Vulnerabilities[v]; v != nil {
				out = append(out, findingOf(words(v, enriched[v.ID]), o))
			}
		}
	}
	slices.SortFunc(out, func(a, b schemas.Finding) int {
		return cmp.Or(
			cmp.Compare(schemas.SeverityRank(b.NormalizedSeverity), schemas.SeverityRank(a.NormalizedSeverity)),
			strings.Compare(a.ID, b.ID), strings.Compare(a.Package.Name, b.Package.Name),
			strings.Compare(a.Package.Version, b.Package.Version), strings.Compare(a.Updater, b.Updater),
			strings.Compare(a.FixedInVersion, b.FixedInVersion),
		)
	})
	return out
}

// occurrence is one of the report's packages where it was found.
func (r *Report) occurrence(id string) *occurrence {
	o := &occurrence{Package: *canonicalPackage(r.Packages[id])}
	for _, env := range r.Environments[id] {
		var rec record
		if d := r.Distributions[env.DistributionID]; d != nil {
			rec.Distribution = canonicalDistribution(d)
		}
		if len(env.RepositoryIDs) == 0 {
			o.Records = append(o.Records, rec)
		}
		for _, repo := range env.RepositoryIDs {
			with := rec
			if repo := r.Repositories[repo]; repo != nil {
				with.Repository = canonicalRepository(repo)
			}
			o.Records = append(o.Records, with)
		}
	}
	return o
}

// words is what a vulnerability says, before it is said of a package.
func words(v *claircore.Vulnerability, e *enrichment) *schemas.Finding {
	f := &schemas.Finding{
		ID: v.Name, Updater: v.Updater, Severity: v.Severity, NormalizedSeverity: v.NormalizedSeverity.String(),
		FixedInVersion: v.FixedInVersion, Links: strings.Fields(v.Links), Description: v.Description,
	}
	for _, a := range v.Aliases {
		if s := a.String(); s != v.Name && !slices.Contains(f.Aliases, s) {
			f.Aliases = append(f.Aliases, s)
		}
	}
	slices.Sort(f.Aliases)
	if v.Issued.Unix() > 0 {
		at := v.Issued.UTC()
		f.Issued = &at
	}
	if v.Dist != nil {
		f.Distribution = &schemas.Distribution{DID: v.Dist.DID, VersionID: v.Dist.VersionID}
	}
	if v.Repo != nil {
		f.Repository = &schemas.Repository{Name: v.Repo.Name, Key: v.Repo.Key}
	}
	if e != nil {
		f.CVSS, f.EPSS, f.KEV = e.cvss, e.epss, e.kev
	}
	return f
}

// enrichment is what a report's enrichers say of one vulnerability.
type enrichment struct {
	cvss []schemas.CVSS
	epss *schemas.EPSS
	kev  bool
}

// enrichments reads the report's, by vulnerability id. What does not parse is
// left out.
func (r *Report) enrichments() map[string]*enrichment {
	out := make(map[string]*enrichment)
	each := func(kind string, add func(*enrichment, json.RawMessage)) {
		for _, blob := range r.Enrichments[kind] {
			var byVuln map[string][]json.RawMessage
			if json.Unmarshal(blob, &byVuln) != nil {
				continue
			}
			for id, records := range byVuln {
				if out[id] == nil {
					out[id] = new(enrichment)
				}
				for _, rec := range records {
					add(out[id], rec)
				}
			}
		}
	}
	each(kev.Type, func(e *enrichment, _ json.RawMessage) { e.kev = true })
	each(epss.Type, func(e *enrichment, b json.RawMessage) {
		var item epss.EPSSItem
		if json.Unmarshal(b, &item) == nil && (e.epss == nil || item.EPSS > e.epss.Score) {
			e.epss = &schemas.EPSS{Score: item.EPSS, Percentile: item.Percentile, Date: item.Date}
		}
	})
	each(cvss.Type, func(e *enrichment, b json.RawMessage) {
		var item struct {
			Version      string  `json:"version"`
			VectorString string  `json:"vectorString"`
			BaseScore    float64 `json:"baseScore"`
		}
		if json.Unmarshal(b, &item) == nil {
			e.cvss = append(e.cvss, schemas.CVSS{Version: item.Version, Vector: item.VectorString, Score: item.BaseScore})
		}
	})
	return out
}
