package oracle

import (
	"fmt"
	"slices"

	"github.com/quay/claircore"
)

// Scenario is everything one seed stands for.
type Scenario struct {
	Seed uint64
	// Ecosystems are the names of those it draws from.
	Ecosystems []string
	// Reports are all contents any of its manifests ever has; two of the same
	// hash are one manifest before and after a re-index.
	Reports []*claircore.IndexReport
	Steps   []Step
}

// Step is one thing that happens: one field is set, or Index and Process, which
// then happen at the same time.
type Step struct {
	// Index is the position in Reports of what is indexed now.
	Index *int
	// Update is written to claircore's store, Enrich changes an enrichment there.
	Update *Update
	Enrich *Enrich
	// Name gives a name to what has been indexed.
	Name *Naming
	// Process lets the engine catch up with the updates.
	Process bool
}

// Generate makes the scenario of a seed.
func Generate(seed uint64) *Scenario {
	g := newGen(seed)
	all := ecosystems()
	s := &Scenario{Seed: seed}

	// The first ecosystem goes round, so that no run of seeds leaves one out.
	kinds := []ecosystem{all[int(seed%uint64(len(all)))]}
	for range g.between(1, 2) {
		kinds = append(kinds, pick(g, all))
	}
	for _, k := range kinds {
		s.Ecosystems = append(s.Ecosystems, k.name)
	}
	slices.Sort(s.Ecosystems)
	s.Ecosystems = slices.Compact(s.Ecosystems)

	s.Reports = generateReports(g, kinds)
	s.Steps = generateSteps(g, kinds, s.Reports)
	withNames(s)
	return s
}

// generateReports makes two or three manifests upon a common base and, half of
// the time, a second content for the first.
func generateReports(g *gen, kinds []ecosystem) []*claircore.IndexReport {
	c := newCatalogue(g)
	install := func(lo, hi int) []installed {
		var its []installed
		for _, k := range kinds {
			for range g.between(lo, hi) {
				found := k.install(g)
				its = append(its, found...)
				g.found[k.name] = append(g.found[k.name], found...)
				// The same package once more in other surroundings.
				if g.chance(10) {
					again := k.install(g)
					for i := range again {
						again[i].pkg, again[i].src = found[0].pkg, found[0].src
					}
					its = append(its, again[:1]...)
				}
			}
		}
		return its
	}
	base := install(1, 2)
	var rs []*claircore.IndexReport
	for i := range g.between(2, 3) {
		contents := slices.Concat(base, install(1, 2))
		if g.chance(3) {
			contents = contents[1:]
		}
		m := digest(g.tag, fmt.Sprint("manifest", i))
		rs = append(rs, c.report(m, contents))
	}
	if g.chance(2) {
		rs = append(rs, c.report(rs[0].Hash, slices.Concat(base[:len(base)/2], install(1, 2))))
	}
	return rs
}

// Bounds of a scenario's length: many short ones reach more than a few long.
const (
	minUpdates = 2
	maxUpdates = 4
	maxSteps   = 12
)

func generateSteps(g *gen, kinds []ecosystem, reports []*claircore.IndexReport) []Step {
	var feeds []*feed
	anonymous := g.chance(8)
	for i := range pick(g, []int{1, 1, 2, 2, 3}) {
		f := &feed{updater: fmt.Sprintf("updater%d-%s", i, g.tag), anonymous: anonymous}
		f.kinds = []ecosystem{kinds[i%len(kinds)], pick(g, kinds)}
		feeds = append(feeds, f)
	}
	if len(feeds) == 1 {
		feeds[0].kinds = kinds
	}

	var steps []Step
	updates, waiting, indexed := 0, 0, 0
	process := func() {
		s := Step{Process: true}
		if i := indexed; waiting > 0 && indexed < len(reports) && g.chance(2) {
			s.Index = &i
			indexed++
		}
		steps = append(steps, s)
		waiting = 0
	}
	update := func() {
		f := pick(g, feeds)
		steps = append(steps, Step{Update: f.next(g, feeds)})
		updates++
		waiting++
	}
	index := func() {
		if indexed == len(reports) {
			return
		}
		i := indexed
		steps = append(steps, Step{Index: &i})
		indexed++
	}
	if g.chance(3) {
		update()
		if g.chance(2) {
			process()
		}
	}
	index()
	if g.chance(2) {
		index()
	}
	for enough := g.between(minUpdates, maxUpdates); updates < enough && len(steps) < maxSteps; {
		switch {
		case g.chance(6):
			index()
		case g.chance(3):
			process()
		case g.chance(5):
			steps = append(steps, Step{Enrich: generateEnrich(g)})
			waiting++
		default:
			update()
		}
	}
	for indexed < len(reports) {
		index()
	}
	process()
	return steps
}
