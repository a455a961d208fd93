package oracle

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/quay/claircore"
)

// gen is the source of everything random in one scenario. Names carry the
// scenario's tag, so that scenarios sharing a database never meet.
type gen struct {
	*rand.Rand
	tag  string
	seed uint64
	// found is what has been installed, by ecosystem, for advisories to aim at.
	found map[string][]installed
}

func newGen(seed uint64) *gen {
	return &gen{
		Rand: rand.New(rand.NewPCG(seed, 0x746f6373696e)),
		tag:  strconv.FormatUint(seed, 36),
		seed: seed,

		found: map[string][]installed{},
	}
}

// target is something installed that an advisory should speak of; now and then
// there is none, and the advisory speaks of whatever it likes.
func (g *gen) target(ecosystem string) (installed, bool) {
	if len(g.found[ecosystem]) == 0 || g.chance(3) {
		return installed{}, false
	}
	return pick(g, g.found[ecosystem]), true
}

// chance is true once in n times.
func (g *gen) chance(n int) bool { return g.IntN(n) == 0 }

// name makes one of n names with the given stem.
func (g *gen) name(stem string, n int) string {
	return fmt.Sprintf("%s%d-%s", stem, g.IntN(n), g.tag)
}

// cve is the nth CVE id of the scenario.
func (g *gen) cve(n int) string {
	return fmt.Sprintf("CVE-2024-%d", 10_000+g.seed*advisoryNames+uint64(n))
}

// between is a number from lo to hi, both included.
func (g *gen) between(lo, hi int) int { return lo + g.IntN(hi-lo+1) }

func pick[T any](g *gen, from []T) T { return from[g.IntN(len(from))] }

// rating is a severity as a feed writes it and as claircore normalizes it.
type rating struct {
	raw        string
	normalized claircore.Severity
}

var ratings = []rating{
	{"not yet assigned", claircore.Unknown},
	{"unimportant", claircore.Negligible},
	{"low", claircore.Low},
	{"Moderate", claircore.Medium},
	{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", claircore.High},
	{"Critical", claircore.Critical},
}

// installed is one package as an indexer would find it: in one distribution,
// from any number of repositories.
type installed struct {
	pkg   claircore.Package
	src   claircore.Package
	dist  *claircore.Distribution
	repos []*claircore.Repository
}

// ecosystem generates packages as claircore's scanners record them, and
// advisories as its updaters write them.
type ecosystem struct {
	name string
	// install makes what one installation leaves behind: usually one package.
	install func(g *gen) []installed
	// advise makes an advisory without name, updater, description and rating.
	advise func(g *gen) claircore.Vulnerability
}
