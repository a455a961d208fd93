package matcher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/schemas"
)

// ErrNotIndexed is returned for a manifest without a finished index report. It
// is an [ErrUnknownManifest].
var ErrNotIndexed = fmt.Errorf("%w, or not indexed yet", ErrUnknownManifest)

// Report is the vulnerability report of a manifest: libvuln's Scan with the
// mends of [Store] and [Lenient], and what counts about each finding.
type Report struct {
	*claircore.VulnerabilityReport
	// Skipped is what could not be judged.
	Skipped *Skips
	// Coverage says of which packages something could be known.
	Coverage schemas.Coverage

	ratings map[string]rating // by vulnerability id
}

// rating is what counts about a vulnerability, together with the enrichments.
type rating struct {
	severity, source, fixed string
	kev                     bool
	epss                    *schemas.EPSS
	cvss                    []schemas.CVSS
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
	vr, err := e.Scan(ctx, ir)
	if err != nil {
		return nil, err
	}
	r := &Report{VulnerabilityReport: vr, Skipped: skips}
	if r.ratings, err = e.ratings(ctx, vr); err != nil {
		return nil, fmt.Errorf("ratings of %s: %w", digest, err)
	}
	if r.Coverage, err = e.Coverage(ctx, ir); err != nil {
		return nil, fmt.Errorf("coverage of %s: %w", digest, err)
	}
	return r, nil
}

// Scan is the vulnerability report of an index report that the caller has read,
// as the feeds rate it.
func (e *Engine) Scan(ctx context.Context, ir *claircore.IndexReport) (*claircore.VulnerabilityReport, error) {
	vr, err := e.scanner.Scan(ctx, ir)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", ir.Hash, err)
	}
	return vr, nil
}

// selectRatings reads the ratings of vulnerabilities with the newest enrichment
// operations that have data.
const selectRatings = `
WITH ops AS (
  SELECT coalesce(array_agg(id), '{}') AS ids
  FROM (SELECT DISTINCT ON (o.updater) o.id FROM public.update_operation o
        WHERE o.kind = 'enrichment' AND EXISTS (SELECT FROM public.uo_enrich u WHERE u.uo = o.id)
        ORDER BY o.updater, o.id DESC) n
)
SELECT v.id::text, tocsin.effective_severity(v.normalized_severity, s.rank),
  coalesce(tocsin.severity_source(v.updater, v.severity, v.normalized_severity, s.rank), ''), tocsin.fixed_version(v.fixed_in_version),
  coalesce(s.kev, false), s.epss, coalesce(s.cvss, '[]')
FROM ops
CROSS JOIN unnest(@ids::bigint[]) AS d (id)
JOIN public.vuln v ON v.id = d.id
LEFT JOIN LATERAL tocsin.enriched(v.id, v.name, v.links, ops.ids) s ON cardinality(ops.ids) > 0`

func (e *Engine) ratings(ctx context.Context, vr *claircore.VulnerabilityReport) (map[string]rating, error) {
	ids := make([]int64, 0, len(vr.Vulnerabilities))
	for id := range vr.Vulnerabilities {
		// What a remote matcher brought has no row.
		if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			ids = append(ids, n)
		}
	}
	out := make(map[string]rating, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	rows, err := e.pool.Query(ctx, selectRatings, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var r rating
		if err := rows.Scan(&id, &r.severity, &r.source, &r.fixed, &r.kev, &r.epss, &r.cvss); err != nil {
			return nil, err
		}
		out[id] = r
	}
	return out, rows.Err()
}

// Findings are the report's findings as events have them, most severe first:
// one for each advisory and package, spoken for by the row that an event would
// take. Packages that differ only in what no matcher reads are one.
func (r *Report) Findings() []schemas.Finding {
	type key struct{ updater, id, occurrence string }
	type best struct {
		schemas.Finding
		row int64
	}
	found := make(map[key]best)
	for id, vulns := range r.PackageVulnerabilities {
		if r.Packages[id] == nil {
			continue
		}
		o, name := r.occurrence(id)
		for _, v := range slices.Compact(slices.Sorted(slices.Values(vulns))) {
			vuln := r.Vulnerabilities[v]
			if vuln == nil {
				continue
			}
			row, _ := strconv.ParseInt(v, 10, 64) // 0 for what has no row
			f := best{findingOf(r.content(vuln), o), row}
			k := key{vuln.Updater, vuln.Name, name}
			if have, ok := found[k]; !ok || preferred(&f.Finding, f.row, &have.Finding, have.row) {
				found[k] = f
			}
		}
	}
	out := make([]schemas.Finding, 0, len(found))
	for _, f := range found {
		out = append(out, f.Finding)
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

// preferred tells whether a row speaks for an advisory rather than another: the
// more severe, then the one with a fix, then the older.
func preferred(a *schemas.Finding, aRow int64, b *schemas.Finding, bRow int64) bool {
	return cmp.Or(
		cmp.Compare(schemas.SeverityRank(b.NormalizedSeverity), schemas.SeverityRank(a.NormalizedSeverity)),
		cmp.Compare(min(len(b.FixedInVersion), 1), min(len(a.FixedInVersion), 1)),
		cmp.Compare(aRow, bRow),
	) < 0
}

// occurrence is one of the report's packages where it was found, and a text that
// is the same for packages which no matcher tells apart.
func (r *Report) occurrence(id string) (*occurrence, string) {
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
	sorted, err := canonicalRecords(o.Records)
	if err != nil {
		return o, id
	}
	key, err := json.Marshal(occurrence{o.Package, sorted})
	if err != nil {
		return o, id
	}
	return o, string(key)
}

// content is a vulnerability as a finding, without a package.
func (r *Report) content(v *claircore.Vulnerability) *schemas.Finding {
	rated, ok := r.ratings[v.ID]
	if !ok {
		rated = rating{severity: v.NormalizedSeverity.String(), fixed: v.FixedInVersion}
	}
	f := &schemas.Finding{
		ID: v.Name, Updater: v.Updater, Severity: v.Severity, NormalizedSeverity: rated.severity, SeveritySource: rated.source,
		FixedInVersion: rated.fixed, Links: strings.Fields(v.Links), Description: v.Description,
		CVSS: rated.cvss, EPSS: rated.epss, KEV: rated.kev,
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
	return f
}
