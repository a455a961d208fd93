package matcher

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/schemas"
)

// place is where a package is: an environment and the matchers that look at it
// there.
type place struct {
	environment
	matchers int64
}

// named is what people call the place: the distribution or, without one, the
// repository.
func (p place) named() string {
	if p.DistID != "" || p.DistName != "" {
		return cmp.Or(p.DistPrettyName, strings.TrimSpace(cmp.Or(p.DistName, p.DistID)+" "+p.DistVersionID))
	}
	return cmp.Or(p.RepoName, p.RepoKey)
}

// packagePlaces are the places of each package of a report whose version can be
// compared.
func (e *Engine) packagePlaces(report *claircore.IndexReport) [][]place {
	byPackage := map[string][]place{}
	for _, r := range report.IndexRecords() {
		if r.Package.Name == "" || r.Package.Version == "" || r.Package.NormalizedVersion.Kind == claircore.UnmatchableKind {
			continue
		}
		p := place{matchers: e.matchers.interested(r)}
		if d := r.Distribution; d != nil {
			p.DistID, p.DistName, p.DistVersion, p.DistVersionID = d.DID, d.Name, d.Version, d.VersionID
			p.DistVersionCodeName, p.DistPrettyName, p.DistArch = d.VersionCodeName, d.PrettyName, d.Arch
		}
		if repo := r.Repository; repo != nil {
			p.RepoName, p.RepoKey = repo.Name, repo.Key
		}
		byPackage[r.Package.ID] = append(byPackage[r.Package.ID], p)
	}
	return slices.Collect(maps.Values(byPackage))
}

// Coverage says what could be known of the packages of an index report.
func (e *Engine) Coverage(ctx context.Context, report *claircore.IndexReport) (schemas.Coverage, error) {
	if err := e.prepare(ctx); err != nil {
		return schemas.Coverage{}, err
	}
	packages := e.packagePlaces(report)
	judged, err := e.newCoverage(ctx, packages)
	if err != nil {
		return schemas.Coverage{}, err
	}
	c := judged.of(packages)
	if len(packages) == 0 {
		for _, d := range report.Distributions {
			c.State = schemas.CoverageNone
			c.Ecosystems = append(c.Ecosystems, schemas.EcosystemCoverage{
				Name: cmp.Or(d.PrettyName, d.Name, d.DID), Feeds: []schemas.CoveringFeed{}, Reason: "no package database that can be read was found",
			})
		}
	}
	return c, nil
}

const selectPlaces = `
SELECT i.manifest_id, r.occurrence_id, r.matchers, r.dist_id, r.dist_name, r.dist_version, r.dist_version_id, r.dist_version_code_name,
  r.dist_pretty_name, r.dist_arch, r.repo_name, r.repo_key
FROM tocsin.inventory i CROSS JOIN LATERAL unnest(i.occurrences) AS o (id)
JOIN tocsin.occurrence_record r ON r.occurrence_id = o.id
WHERE i.current AND i.manifest_id = ANY(@manifests) AND r.name <> '' AND r.norm_kind <> @unmatchable
ORDER BY i.manifest_id, r.occurrence_id`

// Coverages says what could be known of the packages of manifests: ask for a
// page of them. One without packages, or that is not indexed, is absent.
func (e *Engine) Coverages(ctx context.Context, manifests []int32) (map[int32]schemas.Coverage, error) {
	if err := e.prepare(ctx); err != nil {
		return nil, err
	}
	rows, err := e.pool.Query(ctx, selectPlaces, pgx.NamedArgs{"manifests": manifests, "unmatchable": claircore.UnmatchableKind})
	if err != nil {
		return nil, fmt.Errorf("coverage: %w", err)
	}
	packages := map[int32][][]place{}
	var manifest, occurrence, lastManifest, last int32
	var p place
	_, err = pgx.ForEachRow(rows, []any{&manifest, &occurrence, &p.matchers, &p.DistID, &p.DistName, &p.DistVersion, &p.DistVersionID,
		&p.DistVersionCodeName, &p.DistPrettyName, &p.DistArch, &p.RepoName, &p.RepoKey}, func() error {
		if manifest != lastManifest || occurrence != last {
			packages[manifest] = append(packages[manifest], nil)
			lastManifest, last = manifest, occurrence
		}
		of := packages[manifest]
		of[len(of)-1] = append(of[len(of)-1], p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("coverage: %w", err)
	}
	judged, err := e.newCoverage(ctx, slices.Concat(slices.Collect(maps.Values(packages))...))
	if err != nil {
		return nil, err
	}
	out := make(map[int32]schemas.Coverage, len(packages))
	for m, ps := range packages {
		out[m] = judged.of(ps)
	}
	return out, nil
}

// coverage knows which feeds speak of a place.
type coverage struct {
	feeds map[place][]schemas.CoveringFeed
}

func (e *Engine) newCoverage(ctx context.Context, packages [][]place) (*coverage, error) {
	if err := e.refreshScopes(ctx); err != nil {
		return nil, err
	}
	c := &coverage{feeds: map[place][]schemas.CoveringFeed{}}
	var found []environment
	for _, p := range slices.Concat(packages...) {
		if _, ok := c.feeds[p]; !ok {
			c.feeds[p] = nil
			found = append(found, p.environment)
		}
	}
	if len(found) == 0 {
		return c, nil
	}
	scopes, err := scopesOf(ctx, e.pool, found)
	if err != nil {
		return nil, err
	}
	fresh := map[string]time.Time{}
	if e.opts.Fresh != nil {
		if fresh, err = e.opts.Fresh(ctx); err != nil {
			return nil, fmt.Errorf("how fresh feeds are: %w", err)
		}
	}
	for p := range c.feeds {
		dates := e.speakers(p, scopes)
		for u := range dates {
			if at, ok := fresh[u]; ok {
				dates[u] = at
			}
		}
		for _, u := range slices.Sorted(maps.Keys(dates)) {
			c.feeds[p] = append(c.feeds[p], schemas.CoveringFeed{Updater: u, Date: dates[u].UTC()})
		}
	}
	return c, nil
}

// speakers are the updaters whose scopes meet a place, with the date of their
// data.
func (e *Engine) speakers(p place, scopes []scope) map[string]time.Time {
	dates := map[string]time.Time{}
	for i, m := range e.matchers.all {
		if p.matchers&e.matchers.masks[i] == 0 {
			continue
		}
		for _, s := range scopes {
			if _, known := dates[s.updater]; !known && p.meets(s.environment, m) {
				dates[s.updater] = s.date
			}
		}
	}
	return dates
}

// of sums the coverage of packages up by distribution and ecosystem.
func (c *coverage) of(packages [][]place) schemas.Coverage {
	byName := map[string]*schemas.EcosystemCoverage{}
	covered := 0
	for _, places := range packages {
		best := slices.MaxFunc(places, func(a, b place) int {
			return cmp.Or(cmp.Compare(min(len(c.feeds[a]), 1), min(len(c.feeds[b]), 1)), cmp.Compare(len(a.named()), len(b.named())))
		})
		name := cmp.Or(best.named(), "no distribution")
		e := byName[name]
		if e == nil {
			e = &schemas.EcosystemCoverage{Name: name, Feeds: []schemas.CoveringFeed{}}
			byName[name] = e
		}
		e.Packages++
		if len(c.feeds[best]) == 0 {
			e.Reason = uncovered(places)
			continue
		}
		covered++
		e.Covered++
		for _, f := range c.feeds[best] {
			if !slices.Contains(e.Feeds, f) {
				e.Feeds = append(e.Feeds, f)
			}
		}
	}
	out := schemas.Coverage{State: schemas.CoveragePartial, Ecosystems: []schemas.EcosystemCoverage{}}
	switch covered {
	case len(packages): // none, if the image has nothing of what is looked for
		out.State = schemas.CoverageFull
	case 0:
		out.State = schemas.CoverageNone
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out.Ecosystems = append(out.Ecosystems, *byName[name])
	}
	return out
}

// uncovered says why no feed speaks of a package in these places.
func uncovered(places []place) string {
	redHat := slices.ContainsFunc(places, func(p place) bool { return p.DistID == "rhel" && p.RepoKey == "" })
	asked := slices.ContainsFunc(places, func(p place) bool { return p.matchers != 0 })
	switch {
	case asked:
		return "no feed that is loaded has advisories for it"
	case redHat:
		return "the image does not say which repositories its packages are from (it has no content sets)"
	default:
		return "no feed that Tocsin knows has advisories for it"
	}
}
