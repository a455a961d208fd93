package oracle

import (
	"math"
	"strconv"

	"github.com/quay/claircore"
	"github.com/quay/claircore/pkg/rhctag"
	"github.com/quay/claircore/rhel/rhcc"
	"github.com/quay/claircore/toolkit/types"
	"github.com/quay/claircore/toolkit/types/cpe"
)

const rhelRepositoryKey = "rhel-cpe-repository"

// Red Hat's repositories are CPEs: what an image was built from on the one
// hand, patterns that may cover several of them on the other.
var (
	redHatProducts = []string{
		"cpe:/o:redhat:enterprise_linux:9::baseos",
		"cpe:/a:redhat:enterprise_linux:9::appstream",
		"cpe:/a:redhat:rhel_eus:9.2::appstream",
		"cpe:/a:redhat:openshift:4.13::el8",
	}
	redHatPatterns = append([]string{
		"cpe:/o:redhat:enterprise_linux:9",
		"cpe:/a:redhat:enterprise_linux:9",
		"cpe:/a:redhat:openshift:4",
	}, redHatProducts...)
	redHatModules = []string{"", "", "nodejs:18", "nodejs:20"}
	rhelReleases  = []*claircore.Distribution{
		{DID: "rhel", Name: "Red Hat Enterprise Linux Server", Version: "9", VersionID: "9", PrettyName: "Red Hat Enterprise Linux Server 9", CPE: cpe.MustUnbind("cpe:/o:redhat:enterprise_linux:9")},
		{DID: "rhel", Name: "Red Hat Enterprise Linux Server", Version: "8", VersionID: "8", PrettyName: "Red Hat Enterprise Linux Server 8", CPE: cpe.MustUnbind("cpe:/o:redhat:enterprise_linux:8")},
	}
)

func productRepository(g *gen, key string, from []string) *claircore.Repository {
	c := cpe.MustUnbind(pick(g, from))
	return &claircore.Repository{Name: c.BindFS(), Key: key, CPE: c}
}

const redHatNames = 3

func rhelVersion(g *gen) string {
	if g.chance(12) {
		return rpmVersions[len(rpmVersions)-1]
	}
	return pick(g, rpmVersions[:len(rpmVersions)-1])
}

func installRHEL(g *gen) []installed {
	it := installed{dist: pick(g, rhelReleases)}
	it.pkg = claircore.Package{
		Name:    g.name("rhel", redHatNames),
		Version: rhelVersion(g),
		Kind:    types.BinaryPackage,
		Arch:    pick(g, rpmArches),
		Module:  pick(g, redHatModules),
	}
	if g.chance(2) {
		it.pkg.Name = g.name("librhel", redHatNames)
	}
	it.src = claircore.Package{Name: g.name("rhel", redHatNames), Version: rhelVersion(g), Kind: types.SourcePackage}
	seen := map[string]bool{}
	for range g.between(1, 3) {
		r := productRepository(g, rhelRepositoryKey, redHatProducts)
		r.URI = "repoid=" + pick(g, []string{"rhel-9-baseos", "rhel-9-appstream"})
		if !seen[r.Name+r.URI] {
			seen[r.Name+r.URI] = true
			it.repos = append(it.repos, r)
		}
	}
	return []installed{it}
}

// adviseRHEL makes one product status of a VEX document: fixed, known affected
// or known not affected.
func adviseRHEL(g *gen) claircore.Vulnerability {
	v := claircore.Vulnerability{
		Package: &claircore.Package{Name: g.name("rhel", redHatNames), Kind: types.BinaryPackage, Module: pick(g, redHatModules)},
		Repo:    productRepository(g, rhelRepositoryKey, redHatPatterns),
	}
	if g.chance(15) {
		v.Repo = &claircore.Repository{Name: "not a CPE", Key: rhelRepositoryKey}
	}
	switch g.IntN(4) {
	case 0: // affected
		v.Package.Kind = types.SourcePackage
	case 1: // not affected
		v.Invert = true
		adviseArch(g, &v, []claircore.ArchOp{claircore.OpPatternMatch})
	default: // fixed
		v.FixedInVersion = rhelVersion(g)
		adviseArch(g, &v, []claircore.ArchOp{claircore.OpPatternMatch})
	}
	if v.Package.Kind == types.BinaryPackage && g.chance(2) {
		v.Package.Name = g.name("librhel", redHatNames)
	}
	if it, ok := g.target("rhel"); ok {
		v.Package.Name, v.Package.Module = it.pkg.Name, it.pkg.Module
		if v.Package.Kind == types.SourcePackage {
			v.Package.Name = it.src.Name
		}
		if g.chance(2) {
			from := pick(g, it.repos)
			v.Repo = &claircore.Repository{Name: from.CPE.String(), Key: from.Key, CPE: from.CPE}
		}
	}
	return v
}

// containerTags are versions of whole container images: build tags of the old
// build system and timestamps of the new one.
var containerTags = []string{"v3.5.5-4", "v3.5.7-8", "v3.6.0-1", "v4.0.1-2", "1742843776", "1744596866"}

func containerVersion(tag string, min bool) claircore.Version {
	v, err := rhctag.Parse(tag)
	if err != nil {
		return claircore.Version{}
	}
	if min {
		v = v.MinorStart()
	}
	return v.Version(true)
}

// installRHCC makes the three packages that stand for a Red Hat container: its
// source, the image by its repository name, and the same as an ancestor.
func installRHCC(g *gen) []installed {
	tag := pick(g, containerTags)
	_, err := strconv.Atoi(tag)
	norm := containerVersion(tag, err != nil)
	if g.chance(8) {
		norm.Kind = claircore.UnmatchableKind
	}
	repos := []*claircore.Repository{productRepository(g, rhcc.RepositoryKey, redHatProducts)}
	if g.chance(2) {
		repos = []*claircore.Repository{&rhcc.GoldRepo}
	}
	name, arch := g.name("quay/container", redHatNames), pick(g, []string{"x86_64", "aarch64"})
	src := claircore.Package{
		Name: g.name("container-component", redHatNames), Version: tag, Kind: types.SourcePackage, Arch: arch, NormalizedVersion: norm,
	}
	bin := claircore.Package{Name: name, Version: tag, Kind: types.BinaryPackage, Arch: arch, NormalizedVersion: norm}
	anc := bin
	anc.Kind = types.AncestryPackage
	return []installed{
		{pkg: src, repos: repos},
		{pkg: bin, src: src, repos: repos},
		{pkg: anc, src: src, repos: repos},
	}
}

func adviseRHCC(g *gen) claircore.Vulnerability {
	v := claircore.Vulnerability{
		Package: &claircore.Package{Name: g.name("quay/container", redHatNames), Kind: types.BinaryPackage},
		Repo:    productRepository(g, rhcc.RepositoryKey, redHatPatterns),
		Range: &claircore.Range{
			Lower: new(rhctag.Version).Version(true),
			Upper: (&rhctag.Version{Major: math.MaxInt32}).Version(true),
		},
	}
	switch g.IntN(4) {
	case 0: // affected
		v.Package.Kind = types.SourcePackage
		v.Package.Name = g.name("container-component", redHatNames)
	case 1: // not affected
		v.Package.Kind = types.AncestryPackage
		v.Invert = true
	default: // fixed
		v.FixedInVersion = pick(g, containerTags)
		if tag, err := rhctag.Parse(v.FixedInVersion); err == nil {
			v.Range.Upper = tag.Version(false)
			if g.chance(2) {
				v.Range.Lower = tag.Version(true)
			}
		}
	}
	return v
}
