package oracle

import (
	"github.com/quay/claircore"
	"github.com/quay/claircore/aws"
	"github.com/quay/claircore/toolkit/types"
)

// distro describes an ecosystem whose advisories name a distribution release.
type distro struct {
	name     string
	releases []*claircore.Distribution
	versions []string // ordered or not, the last does not parse
	arches   []string
	// advised is the kind of package its advisories name.
	advised types.PackageKind
	// fixes are fixed-in versions beyond the versions and "".
	fixes []string
	// archOps are the arch operations its advisories use; empty: none.
	archOps []claircore.ArchOp
	// sourceless distributions' scanners may record no source package.
	sourceless bool
}

var debVersions = []string{"1.0-1", "1.0-1+deb12u1", "1:0.9-3", "2.0~rc1-1", "2.0-1", "one:two"}

var rpmVersions = []string{"1.0-1.el9", "1.0-2.el9_2.1", "2:0.5-7.el9", "2.0~beta-1.el9", "2.0-1.el9", "2.0"}

var rpmArches = []string{"x86_64", "aarch64", "noarch"}

// distros are the package databases of whole distributions. The fields of each
// release are the ones claircore's own distribution scanners fill.
var distros = []distro{
	{
		name: "debian",
		releases: []*claircore.Distribution{
			{DID: "debian", Name: "Debian GNU/Linux", Version: "12 (bookworm)", VersionID: "12", VersionCodeName: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)"},
			{DID: "debian", Name: "Debian GNU/Linux", Version: "11 (bullseye)", VersionID: "11", VersionCodeName: "bullseye", PrettyName: "Debian GNU/Linux 11 (bullseye)"},
		},
		versions: debVersions, arches: []string{"amd64", "all"}, advised: types.SourcePackage, fixes: []string{"0", "3:1-1"},
	},
	{
		name: "ubuntu",
		releases: []*claircore.Distribution{
			{DID: "ubuntu", Name: "Ubuntu", Version: "22.04 (Jammy)", VersionID: "22.04", VersionCodeName: "jammy", PrettyName: "Ubuntu 22.04"},
			{DID: "ubuntu", Name: "Ubuntu", Version: "24.04 (Noble)", VersionID: "24.04", VersionCodeName: "noble", PrettyName: "Ubuntu 24.04"},
		},
		versions: debVersions, arches: []string{"amd64", "arm64"}, advised: types.BinaryPackage, fixes: []string{"0", "3:1-1"},
	},
	{
		name: "alpine",
		releases: []*claircore.Distribution{
			{DID: "alpine", Name: "Alpine Linux", VersionID: "3.20", PrettyName: "Alpine Linux v3.20"},
			{DID: "alpine", Name: "Alpine Linux", VersionID: "3.19", PrettyName: "Alpine Linux v3.19"},
		},
		versions: []string{"1.2.2-r0", "1.2.2-r3", "1.2.11-r0", "1.3.0_rc1-r0", "1.3.0-r0", "r3"},
		arches:   []string{"x86_64", "aarch64"}, advised: types.SourcePackage, fixes: []string{"0", "9.9-r9"}, sourceless: true,
	},
	{
		name: "oracle",
		releases: []*claircore.Distribution{
			{DID: "ol", Name: "Oracle Linux Server", Version: "9", VersionID: "9", VersionCodeName: "Oracle Linux 9", PrettyName: "Oracle Linux Server 9"},
			{DID: "ol", Name: "Oracle Linux Server", Version: "8", VersionID: "8", VersionCodeName: "Oracle Linux 8", PrettyName: "Oracle Linux Server 8"},
		},
		versions: rpmVersions, arches: rpmArches, advised: types.BinaryPackage, fixes: []string{"9:1-1"},
		archOps: []claircore.ArchOp{claircore.OpPatternMatch, claircore.OpEquals, claircore.OpNotEquals},
	},
	{
		name: "suse",
		releases: []*claircore.Distribution{
			{DID: "sles", Name: "SLES", Version: "15", VersionID: "15", PrettyName: "SUSE Linux Enterprise Server 15"},
			{DID: "opensuse-leap", Name: "openSUSE Leap", Version: "15.6", VersionID: "15.6", PrettyName: "openSUSE Leap 15.6"},
		},
		versions: rpmVersions, arches: rpmArches, advised: types.BinaryPackage, fixes: []string{"9:1-1"},
		archOps: []claircore.ArchOp{claircore.OpPatternMatch},
	},
	{
		name: "photon",
		releases: []*claircore.Distribution{
			{DID: "photon", Name: "VMware Photon OS", Version: "4.0", VersionID: "4.0", PrettyName: "VMware Photon OS/Linux"},
			{DID: "photon", Name: "VMware Photon OS", Version: "5.0", VersionID: "5.0", PrettyName: "VMware Photon OS/Linux"},
		},
		versions: rpmVersions, arches: rpmArches, advised: types.BinaryPackage, fixes: []string{"9:1-1"},
		archOps: []claircore.ArchOp{claircore.OpPatternMatch, claircore.OpEquals},
	},
	{
		name:     "aws",
		releases: []*claircore.Distribution{aws.AL1Dist, aws.AL2Dist, aws.AL2023Dist},
		versions: rpmVersions, arches: rpmArches, advised: types.BinaryPackage, fixes: []string{"9:1-1"},
		archOps: []claircore.ArchOp{claircore.OpEquals},
	},
}

func (d *distro) ecosystem() ecosystem {
	return ecosystem{
		name:    d.name,
		install: d.install,
		advise:  d.advise,
	}
}

// version picks one of the distribution's versions, seldom the unparsable one.
func (d *distro) version(g *gen) string {
	if g.chance(12) {
		return d.versions[len(d.versions)-1]
	}
	return pick(g, d.versions[:len(d.versions)-1])
}

// distroNames is how many source names there are. Sources and binaries share
// a stem, so that a binary may be called as a source, its own or another's.
const distroNames = 3

func (d *distro) install(g *gen) []installed {
	it := installed{dist: pick(g, d.releases)}
	it.pkg = claircore.Package{
		Name:    g.name(d.name, distroNames),
		Version: d.version(g),
		Kind:    types.BinaryPackage,
		Arch:    pick(g, d.arches),
	}
	if g.chance(2) {
		it.pkg.Name = g.name("lib"+d.name, distroNames)
	}
	if !d.sourceless || !g.chance(4) {
		it.src = claircore.Package{
			Name:    g.name(d.name, distroNames),
			Version: it.pkg.Version,
			Kind:    types.SourcePackage,
		}
		if g.chance(2) {
			it.src.Version = d.version(g)
		}
	}
	return []installed{it}
}

func (d *distro) advise(g *gen) claircore.Vulnerability {
	v := claircore.Vulnerability{
		Package: &claircore.Package{Name: g.name(d.name, distroNames), Kind: d.advised},
		Dist:    pick(g, d.releases),
	}
	// Rpm and dpkg feeds name source packages too; the binary of that name
	// must not answer for it.
	if g.chance(8) {
		v.Package.Kind = types.SourcePackage
	}
	if d.advised == types.BinaryPackage && g.chance(2) {
		v.Package.Name = g.name("lib"+d.name, distroNames)
	}
	switch g.IntN(4) {
	case 0:
	case 1:
		v.FixedInVersion = pick(g, d.fixes)
	default:
		v.FixedInVersion = d.version(g)
	}
	if it, ok := g.target(d.name); ok {
		v.Dist = it.dist
		if v.Package.Name = it.pkg.Name; it.src.Name != "" && v.Package.Kind == types.SourcePackage {
			v.Package.Name = it.src.Name
		}
	}
	if len(d.archOps) > 0 {
		adviseArch(g, &v, d.archOps)
		if v.FixedInVersion == "" && g.chance(3) {
			v.Package.Version = d.version(g)
		}
	}
	return v
}

// adviseArch limits an advisory to some architectures, in the forms the feeds
// use; a third of them are for all.
func adviseArch(g *gen, v *claircore.Vulnerability, ops []claircore.ArchOp) {
	if g.chance(3) {
		return
	}
	v.ArchOperation = pick(g, ops)
	v.Package.Arch = pick(g, rpmArches)
	if v.ArchOperation == claircore.OpPatternMatch {
		v.Package.Arch = pick(g, []string{"aarch64|x86_64", "x86_64", "noarch", "aarch64|noarch|ppc64le"})
	}
}
