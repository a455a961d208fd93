package oracle

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
)

// scores are what enrichments say of CVEs: which are in KEV, their EPSS scores
// and their CVSS base scores.
type scores struct {
	kev        map[string]bool
	epss, cvss map[string]float64
}

func newScores() scores {
	return scores{kev: map[string]bool{}, epss: map[string]float64{}, cvss: map[string]float64{}}
}

// Enrich is a change of one enrichment: of each CVE the score, or what is below
// 0 for none.
type Enrich struct {
	Updater string
	Scores  map[string]float64
}

const (
	kevUpdater  = "clair.kev"
	epssUpdater = "clair.epss"
	cvssUpdater = "clair.cvss"
)

// generateEnrich gives some of the scenario's CVEs other scores.
func generateEnrich(g *gen) *Enrich {
	e := &Enrich{Updater: pick(g, []string{kevUpdater, epssUpdater, cvssUpdater}), Scores: map[string]float64{}}
	for n := range advisoryNames {
		if !g.chance(2) {
			continue
		}
		e.Scores[g.cve(n)] = map[string][]float64{
			kevUpdater: {-1, 1}, epssUpdater: {-1, 0.01, 0.099, 0.1, 0.9}, cvssUpdater: {-1, 0, 3.9, 4, 6.9, 7, 8.9, 9, 9.8},
		}[e.Updater][g.IntN(map[string]int{kevUpdater: 2, epssUpdater: 5, cvssUpdater: 9}[e.Updater])]
	}
	return e
}

// apply changes the scores and returns all records of the updater as they are
// then.
func (e *Enrich) apply(s scores) []driver.EnrichmentRecord {
	for cve, score := range e.Scores {
		switch {
		case e.Updater == kevUpdater:
			s.kev[cve] = score > 0
		case e.Updater == epssUpdater && score >= 0:
			s.epss[cve] = score
		case e.Updater == epssUpdater:
			delete(s.epss, cve)
		case score >= 0:
			s.cvss[cve] = score
		default:
			delete(s.cvss, cve)
		}
	}
	var out []driver.EnrichmentRecord
	add := func(cve, body string) {
		out = append(out, driver.EnrichmentRecord{Tags: []string{cve}, Enrichment: []byte(body)})
	}
	// An enrichment without any record is one that claircore has not finished.
	add("CVE-1999-0001", `{"epss":0,"version":"3.1","baseScore":5}`)
	switch e.Updater {
	case kevUpdater:
		for _, cve := range slices.Sorted(maps.Keys(s.kev)) {
			if s.kev[cve] {
				add(cve, fmt.Sprintf(`{"cve":%q}`, cve))
			}
		}
	case epssUpdater:
		for _, cve := range slices.Sorted(maps.Keys(s.epss)) {
			add(cve, fmt.Sprintf(`{"cve":%q,"epss":%v,"percentile":0.5,"date":"2024-01-01"}`, cve, s.epss[cve]))
		}
	case cvssUpdater:
		for _, cve := range slices.Sorted(maps.Keys(s.cvss)) {
			add(cve, fmt.Sprintf(`{"cve":%q,"version":"3.1","vectorString":"v","baseScore":%v}`, cve, s.cvss[cve]))
		}
	}
	return out
}

// String tells the change in a line.
func (e *Enrich) String() string {
	var parts []string
	for _, cve := range slices.Sorted(maps.Keys(e.Scores)) {
		parts = append(parts, fmt.Sprintf("%s=%v", cve, e.Scores[cve]))
	}
	return e.Updater + " " + strings.Join(parts, " ")
}

// cvesOf are the CVE ids that a row is called by.
func cvesOf(v *claircore.Vulnerability) []string {
	var out []string
	if strings.HasPrefix(v.Name, "CVE-") {
		out = append(out, v.Name)
	}
	for _, a := range v.Aliases {
		if s := a.String(); strings.HasPrefix(s, "CVE-") {
			out = append(out, s)
		}
	}
	return out
}

// scoredBy are the CVE ids whose scores count for a row: those that it is
// called by; in a row that has neither one nor any alias, those in its links.
func scoredBy(v *claircore.Vulnerability) []string {
	out := cvesOf(v)
	if len(out) == 0 && len(v.Aliases) == 0 && !v.Self.Valid() {
		out = cveInLink.FindAllString(v.Links, -1)
	}
	return out
}

var cveInLink = regexp.MustCompile(`CVE-[0-9]{4}-[0-9]{4,}`)

// rankOf is the severity of a CVSS 3 base score, counted as
// schemas.SeverityNames.
func rankOf(score float64) int {
	for i, least := range []float64{9, 7, 4, 0.1} {
		if score >= least {
			return 5 - i
		}
	}
	return 1
}
