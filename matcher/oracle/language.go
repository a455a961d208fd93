package oracle

import (
	"net/url"

	"github.com/quay/claircore"
	"github.com/quay/claircore/gobin"
	"github.com/quay/claircore/java"
	"github.com/quay/claircore/nodejs"
	"github.com/quay/claircore/pkg/pep440"
	"github.com/quay/claircore/python"
	"github.com/quay/claircore/ruby"
	"github.com/quay/claircore/toolkit/types"
)

// language describes an ecosystem whose advisories come from OSV.
type language struct {
	name     string
	stem     string
	repo     *claircore.Repository
	versions []string // the last does not parse
	// normalize is nil where claircore's scanner records no normalized version
	// and the verdict is reached from the version string.
	normalize func(string) claircore.Version
}

func semantic(s string) claircore.Version {
	v, err := gobin.ParseVersion(s)
	if err != nil {
		return claircore.Version{}
	}
	return v
}

func pep(s string) claircore.Version {
	v, err := pep440.Parse(s)
	if err != nil {
		return claircore.Version{}
	}
	return v.Version()
}

var languages = []language{
	{
		name: "go", stem: "example.com/mod", repo: &gobin.Repository, normalize: semantic,
		versions: []string{"v1.0.0", "v1.0.1", "v1.1.0-rc.1", "v1.2.0", "v2.0.3", "(devel)"},
	},
	{
		name: "npm", stem: "@scope/lib", repo: &nodejs.Repository, normalize: semantic,
		versions: []string{"0.9.9", "1.0.0", "1.0.1", "1.2.0", "2.0.0", "latest"},
	},
	{
		name: "python", stem: "pylib", repo: &python.Repository, normalize: pep,
		versions: []string{"0.9", "1.0", "1.0.post1", "1!0.1", "2.0rc1", "2.0"},
	},
	{
		name: "java", stem: "org.example:jar", repo: &java.Repository,
		versions: []string{"1.0", "1.0.1", "1.1-SNAPSHOT", "1.1", "2.0-alpha-1", ""},
	},
	{
		name: "ruby", stem: "gem", repo: &ruby.Repository,
		versions: []string{"0.9", "1.0.0", "1.0.1.pre1", "1.0.1", "2.0.0", "a b"},
	},
}

func (l *language) ecosystem() ecosystem {
	if l.normalize != nil && l.name != "python" {
		return ecosystem{name: l.name, install: l.install, advise: l.adviseRange}
	}
	return ecosystem{name: l.name, install: l.install, advise: l.adviseEvents}
}

func (l *language) version(g *gen) string {
	if g.chance(12) {
		return l.versions[len(l.versions)-1]
	}
	return pick(g, l.versions[:len(l.versions)-1])
}

const languageNames = 3

// shared is a name and version that every language has: claircore then keeps
// one package with the surroundings of each.
const (
	sharedName    = "shared"
	sharedVersion = "1.0.1"
)

func (l *language) install(g *gen) []installed {
	p := claircore.Package{
		Name:    g.name(l.stem, languageNames),
		Version: l.version(g),
		Kind:    types.BinaryPackage,
	}
	if g.chance(10) {
		p.Name, p.Version = g.name(sharedName, 1), sharedVersion
	}
	if l.normalize != nil {
		p.NormalizedVersion = l.normalize(p.Version)
	}
	it := installed{pkg: p, repos: []*claircore.Repository{l.repo}}
	// The Go coalescer names an empty repository when a layer has none.
	if l.name == "go" && g.chance(10) {
		it.repos = []*claircore.Repository{nil}
	}
	return []installed{it}
}

func (l *language) advised(g *gen) claircore.Vulnerability {
	v := claircore.Vulnerability{
		Package: &claircore.Package{Name: g.name(l.stem, languageNames), Kind: types.BinaryPackage},
		Repo:    &claircore.Repository{Name: l.repo.Name, URI: l.repo.URI},
	}
	if g.chance(6) {
		v.Package.Name = g.name(sharedName, 1)
	}
	return v
}

// adviseRange makes an advisory whose range decides alone.
func (l *language) adviseRange(g *gen) claircore.Vulnerability {
	v := l.advised(g)
	known := l.versions[:len(l.versions)-1]
	r := &claircore.Range{}
	r.Lower.Kind, r.Upper.Kind = "semver", "semver"
	if g.chance(2) {
		r.Lower = l.normalize(pick(g, known))
	}
	if g.chance(4) {
		r.Upper.V[0] = 65535
	} else {
		fixed := pick(g, known)
		r.Upper = l.normalize(fixed)
		v.FixedInVersion = fixed
	}
	if r.Lower.Compare(&r.Upper) > 0 {
		r.Lower, r.Upper = r.Upper, r.Lower
	}
	v.Range = r
	// A feed that can't express its range leaves it out, or bounds it in two
	// different kinds of version: neither ever matches.
	switch g.IntN(20) {
	case 0:
		v.Range = nil
	case 1:
		r.Upper.Kind = "other"
	}
	return v
}

// adviseEvents makes an advisory whose fixed-in version encodes OSV's events.
func (l *language) adviseEvents(g *gen) claircore.Vulnerability {
	v := l.advised(g)
	ev := url.Values{}
	if g.chance(3) {
		ev.Set("introduced", l.version(g))
	}
	switch g.IntN(4) {
	case 0:
	case 1:
		ev.Set("lastAffected", l.version(g))
	default:
		ev.Set("fixed", l.version(g))
	}
	v.FixedInVersion = ev.Encode()
	if g.chance(20) {
		v.FixedInVersion = "fixed=%zz"
	}
	return v
}
