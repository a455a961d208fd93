package matcher_test

import (
	"testing"

	masterminds "github.com/Masterminds/semver"
	"github.com/quay/claircore"
	"github.com/quay/claircore/gobin"
	"github.com/quay/claircore/nodejs"
	"github.com/quay/claircore/pkg/pep440"
	"github.com/quay/claircore/python"
	"github.com/quay/claircore/toolkit/types"

	"tocsin.dev/tocsin/internal/osvrange"
)

// module is a Go module or an npm package as claircore's scanners find it.
func module(repo *claircore.Repository, name, version string) item {
	p := &claircore.Package{Name: name, Version: version, Kind: types.BinaryPackage}
	if v, err := masterminds.NewVersion(version); err == nil {
		p.NormalizedVersion = claircore.FromSemver(v)
	}
	return item{pkg: p, repos: []*claircore.Repository{repo}}
}

// bounded is an advisory with exact bounds, beside the numbers of them.
func bounded(name, pkg string, repo *claircore.Repository, r osvrange.Range) *claircore.Vulnerability {
	v := &claircore.Vulnerability{
		Name: name, FixedInVersion: r.Fixed, NormalizedSeverity: claircore.High,
		Package: &claircore.Package{Name: pkg, Version: r.Encode(), Kind: types.BinaryPackage},
		Repo:    &claircore.Repository{Name: repo.Name, URI: repo.URI},
		Range:   &claircore.Range{Lower: claircore.Version{Kind: "semver"}, Upper: claircore.Version{Kind: "semver"}},
	}
	if f, err := masterminds.NewVersion(r.Fixed); err == nil {
		v.Range.Upper = claircore.FromSemver(f)
	}
	return v
}

// Reports and events agree on bounds that three numbers can't hold: a fix at a
// pseudo-version, a pre-release before its release, and a list of versions.
func TestExactBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.index("web",
		module(&gobin.Repository, "golang.org/x/crypto", "v0.0.0-20210921155107-089bfa567519"),
		module(&gobin.Repository, "golang.org/x/text", "v0.3.8-rc.1"),
		module(&gobin.Repository, "main", "(devel)"),
		module(&nodejs.Repository, "next", "13.5.0-canary.1"),
		module(&nodejs.Repository, "vite", "5.0.0-alpha.1"),
		module(&nodejs.Repository, "listed", "1.0.0"),
	)
	w.update("osv/go",
		bounded("GO-1", "golang.org/x/crypto", &gobin.Repository, osvrange.Range{Fixed: "0.0.0-20220314234659-1baeb1ce4c0b"}),
		bounded("GO-2", "golang.org/x/text", &gobin.Repository, osvrange.Range{Fixed: "0.3.8"}),
		bounded("GO-3", "golang.org/x/crypto", &gobin.Repository, osvrange.Range{Fixed: "0.0.0-20200101000000-1baeb1ce4c0b"}),
		bounded("GO-4", "main", &gobin.Repository, osvrange.Range{}),
	)
	w.update("osv/npm",
		bounded("GHSA-1", "next", &nodejs.Repository, osvrange.Range{Introduced: "13.0.0", Fixed: "13.5.0-canary.2"}),
		bounded("GHSA-2", "vite", &nodejs.Repository, osvrange.Range{Introduced: "5.0.0-beta.1", Fixed: "5.0.1"}),
		bounded("GHSA-3", "listed", &nodejs.Repository, osvrange.Range{Versions: []string{"1.0.0", "1.0.1"}}),
		bounded("GHSA-4", "listed", &nodejs.Repository, osvrange.Range{Versions: []string{"1.0.1"}}),
	)
	w.process()
	w.expect("web osv/go: +GO-1@golang.org/x/crypto +GO-2@golang.org/x/text", "web osv/npm: +GHSA-1@next +GHSA-3@listed")
	r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if fs := r.Findings(); len(fs) != 4 {
		t.Errorf("the report has %d findings, want 4: %+v", len(fs), fs)
	}
}

// Python's packages are found by the names that PEP 503 compares, and shown by
// their own.
func TestPythonNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, err := pep440.Parse("0.17.21")
	if err != nil {
		t.Fatal(err)
	}
	p := &claircore.Package{Name: "ruamel.yaml", Version: "0.17.21", Kind: types.BinaryPackage, NormalizedVersion: v.Version()}
	m := w.index("web", item{pkg: p, repos: []*claircore.Repository{&python.Repository}})
	w.update("osv/pypi", &claircore.Vulnerability{
		Name: "PYSEC-4", FixedInVersion: "fixed=0.18.0", Package: &claircore.Package{Name: "ruamel-yaml", Kind: types.BinaryPackage},
		Repo: &claircore.Repository{Name: python.Repository.Name, URI: "https://pypi.org/"},
	})
	w.process()
	w.expect("web osv/pypi: +PYSEC-4@ruamel.yaml")
	r, err := w.engine.Report(t.Context(), claircore.MustParseDigest(m.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if fs := r.Findings(); len(fs) != 1 || fs[0].Package.Name != "ruamel.yaml" {
		t.Errorf("the report has %+v", fs)
	}
}
