package oracle

// Coverage counts what scenarios put to the test, by ecosystem where one is
// named, else over all.
type Coverage struct {
	Scenarios, Updates, Events int
	Added, Removed, Revised    map[string]int
	// InFlight counts manifests indexed while an update had not been worked
	// through yet, Together those at the same time as one was, Between those
	// of them that came after one update and before the next. Chained counts
	// updates that were not the first since the engine had caught up.
	InFlight, Together, Between, Chained, Reindexed int
	// Enriched counts changes of enrichments; Exploited, Likely and Rescored
	// the findings that one revised, by what it changed about them.
	Enriched, Exploited, Likely, Rescored int
	// Superseded counts what was said of superseded manifests, Covered what was
	// said of coverage, by what it was.
	Superseded int
	Covered    map[string]int
}

func newCoverage() Coverage {
	return Coverage{Added: map[string]int{}, Removed: map[string]int{}, Revised: map[string]int{}, Covered: map[string]int{}}
}

// Merge adds another coverage to this one.
func (c *Coverage) Merge(o Coverage) {
	if c.Added == nil {
		*c = newCoverage()
	}
	c.Scenarios += o.Scenarios
	c.Updates += o.Updates
	c.Events += o.Events
	c.InFlight += o.InFlight
	c.Together += o.Together
	c.Between += o.Between
	c.Chained += o.Chained
	c.Reindexed += o.Reindexed
	c.Enriched += o.Enriched
	c.Exploited += o.Exploited
	c.Likely += o.Likely
	c.Rescored += o.Rescored
	c.Superseded += o.Superseded
	for _, p := range []struct{ to, from map[string]int }{{c.Added, o.Added}, {c.Removed, o.Removed}, {c.Revised, o.Revised}, {c.Covered, o.Covered}} {
		for k, n := range p.from {
			p.to[k] += n
		}
	}
}

// count notes what a difference puts to the test, by the ecosystem in the name
// of the package.
func (p *play) count(d Difference) {
	for _, part := range []struct {
		to map[string]int
		f  Findings
	}{{p.coverage.Added, d.Added}, {p.coverage.Removed, d.Removed}, {p.coverage.Revised, d.Revised}} {
		for id := range part.f {
			part.to[ecosystemOf(id.Name)]++
		}
	}
}
