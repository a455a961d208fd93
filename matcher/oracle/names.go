package oracle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"

	"tocsin.dev/tocsin/schemas"
)

// Naming gives a name to a manifest that has been indexed: the name stands for
// no other from then on.
type Naming struct {
	Name   string
	Report int // position in Reports
}

// withNames puts namings between steps. It draws from a source of its own, so
// that the rest of a seed's scenario is what it was without them.
func withNames(s *Scenario) {
	r := rand.New(rand.NewPCG(s.Seed, 0x6e616d6573))
	var out []Step
	var indexed []int
	for i, step := range s.Steps {
		if len(indexed) > 0 {
			for range r.IntN(3) {
				out = append(out, Step{Name: &Naming{
					Name: fmt.Sprintf("registry.example/app%d-%d:1", s.Seed, r.IntN(2)), Report: indexed[r.IntN(len(indexed))],
				}})
			}
		}
		out = append(out, s.Steps[i])
		if step.Index != nil {
			indexed = append(indexed, *step.Index)
		}
	}
	s.Steps = out
}

// meansSQL makes a name stand for a manifest, as the indexer does.
const meansSQL = `
WITH said AS (UPDATE tocsin.manifest SET named = true WHERE digest = @digest RETURNING id)
INSERT INTO tocsin.name (name, manifest_id) SELECT @name, id FROM said
ON CONFLICT (name, platform) DO UPDATE SET manifest_id = excluded.manifest_id, named_at = now()`

func (p *play) name(ctx context.Context, n *Naming) error {
	digest := p.s.Reports[n.Report].Hash.String()
	if _, err := p.pool.Exec(ctx, meansSQL, pgx.NamedArgs{"name": n.Name, "digest": digest}); err != nil {
		return fmt.Errorf("give a name: %w", err)
	}
	p.means[n.Name], p.had[digest] = digest, true
	return nil
}

// superseded says whether names have stood for a manifest and none does.
func (p *play) superseded(digest string) bool {
	for _, d := range p.means {
		if d == digest {
			return false
		}
	}
	return p.had[digest]
}

// checkSuperseded holds what is said of a manifest against the names there are.
func (p *play) checkSuperseded(step int, digest, what string, said *bool) {
	want := p.superseded(digest)
	if want {
		p.coverage.Superseded++
	}
	if got := said != nil && *said; got != want {
		p.mismatch(step, digest, "%s says superseded: %t, want %t: the names are %v", what, got, want, p.means)
	}
}

// surroundings is what advisories name beside the package.
type surroundings struct {
	distID, distName, distVersion, distVersionID, distCode, distPretty, repoName, repoKey string
}

const selectSpoken = `
SELECT DISTINCT coalesce(v.dist_id, ''), coalesce(v.dist_name, ''), coalesce(v.dist_version, ''), coalesce(v.dist_version_id, ''),
  coalesce(v.dist_version_code_name, ''), coalesce(v.dist_pretty_name, ''), coalesce(v.repo_name, ''), coalesce(v.repo_key, '')
FROM public.vuln v JOIN public.uo_vuln u ON u.vuln = v.id
WHERE u.uo IN (SELECT max(id) FROM public.update_operation WHERE kind = 'vulnerability' GROUP BY updater)`

// spoken is what the newest updates speak of, plainly.
func (w *Setup) spoken(ctx context.Context) ([]surroundings, error) {
	rows, err := w.pools[0].Query(ctx, selectSpoken)
	if err != nil {
		return nil, fmt.Errorf("what feeds speak of: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s surroundings, err error) {
		err = row.Scan(&s.distID, &s.distName, &s.distVersion, &s.distVersionID, &s.distCode, &s.distPretty, &s.repoName, &s.repoKey)
		return s, err
	})
}

// coverageOf is what could be known of a report's packages: all, some or none.
func (w *Setup) coverageOf(ir *claircore.IndexReport, spoken []surroundings) string {
	covered := map[string]bool{}
	for _, r := range ir.IndexRecords() {
		if p := r.Package; p.Name == "" || p.Version == "" || p.NormalizedVersion.Kind == claircore.UnmatchableKind {
			continue
		}
		covered[r.Package.ID] = covered[r.Package.ID] || w.speaks(r, spoken)
	}
	n := 0
	for _, c := range covered {
		if c {
			n++
		}
	}
	switch n {
	case len(covered):
		return schemas.CoverageFull
	case 0:
		return schemas.CoverageNone
	}
	return schemas.CoveragePartial
}

// speaks says whether a matcher that looks at a record would take an advisory of
// such surroundings for the record's own.
func (w *Setup) speaks(r *claircore.IndexRecord, spoken []surroundings) bool {
	var mine surroundings
	if d := r.Distribution; d != nil {
		mine.distID, mine.distName, mine.distVersion, mine.distVersionID = d.DID, d.Name, d.Version, d.VersionID
		mine.distCode, mine.distPretty = d.VersionCodeName, d.PrettyName
	}
	if repo := r.Repository; repo != nil {
		mine.repoName, mine.repoKey = repo.Name, repo.Key
	}
	for _, m := range w.matchers {
		if !m.Filter(r) {
			continue
		}
		// What the matcher does not compare, it does not tell apart.
		var compared []func(*surroundings) *string
		for _, c := range m.Query() {
			if of, ok := parts[c]; ok {
				compared = append(compared, of)
			}
		}
		if slices.ContainsFunc(spoken, func(s surroundings) bool {
			return !slices.ContainsFunc(compared, func(of func(*surroundings) *string) bool { return *of(&s) != *of(&mine) })
		}) {
			return true
		}
	}
	return false
}

// parts are what matchers compare of surroundings.
var parts = map[driver.MatchConstraint]func(*surroundings) *string{
	driver.DistributionDID:             func(s *surroundings) *string { return &s.distID },
	driver.DistributionName:            func(s *surroundings) *string { return &s.distName },
	driver.DistributionVersion:         func(s *surroundings) *string { return &s.distVersion },
	driver.DistributionVersionID:       func(s *surroundings) *string { return &s.distVersionID },
	driver.DistributionVersionCodeName: func(s *surroundings) *string { return &s.distCode },
	driver.DistributionPrettyName:      func(s *surroundings) *string { return &s.distPretty },
	driver.RepositoryName:              func(s *surroundings) *string { return &s.repoName },
	driver.RepositoryKey:               func(s *surroundings) *string { return &s.repoKey },
}

// checkCoverage holds what is said of an image's coverage against the feeds.
func (p *play) checkCoverage(step int, ir *claircore.IndexReport, what string, spoken []surroundings, said *string) {
	want := p.coverageOf(ir, spoken)
	p.coverage.Covered[want]++
	got := "nothing"
	if said != nil {
		got = *said
	}
	if got != want {
		p.mismatch(step, ir.Hash.String(), "%s says coverage: %s, want %s", what, got, want)
	}
}
