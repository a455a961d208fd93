package matcher_test

import (
	"testing"

	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types"
)

// TestDistributionsOfOSV judges packages of distributions whose advisories come
// from OSV.
func TestDistributionsOfOSV(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rocky := &claircore.Distribution{DID: "rocky", Name: "Rocky Linux", VersionID: "9", PrettyName: "Rocky Linux 9"}
	wolfi := &claircore.Distribution{DID: "wolfi", Name: "Wolfi", PrettyName: "Wolfi"}
	rpm := func(version string, d *claircore.Distribution) item {
		return item{dist: d, pkg: &claircore.Package{
			Name: "openssl-libs", Version: version, Kind: types.BinaryPackage, Arch: "x86_64",
			Source: &claircore.Package{Name: "openssl", Version: version, Kind: types.SourcePackage},
		}}
	}
	apk := func(version string) item {
		return item{dist: wolfi, pkg: &claircore.Package{Name: "openssl", Version: version, Kind: types.BinaryPackage, Arch: "x86_64"}}
	}
	w.index("older", rpm("1:3.0.7-26.el9", rocky))
	w.index("fixed", rpm("1:3.0.7-27.el9", rocky))
	w.index("other release", rpm("1:3.0.7-26.el9", &claircore.Distribution{DID: "rocky", Name: "Rocky Linux", VersionID: "8"}))
	w.index("wolfi older", apk("3.1.4-r1"))
	w.index("wolfi fixed", apk("3.1.4-r2"))
	w.index("wolfi before", apk("3.0.9-r9"))
	of := func(d *claircore.Distribution, kind types.PackageKind, fixed, bounds string) *claircore.Vulnerability {
		return &claircore.Vulnerability{
			Name: "A-1", Dist: d, FixedInVersion: fixed, NormalizedSeverity: claircore.High,
			Package: &claircore.Package{Name: "openssl", Kind: kind, Version: bounds},
		}
	}
	w.update("osv/rocky-linux", of(rocky, types.SourcePackage, "1:3.0.7-27.el9", ""))
	w.process()
	w.expect("older osv/rocky-linux: +A-1@openssl-libs")
	w.update("osv/wolfi", of(wolfi, types.BinaryPackage, "3.1.4-r2", "range:introduced=3.1.0-r0"))
	w.process()
	w.expect("older osv/rocky-linux: +A-1@openssl-libs", "wolfi older osv/wolfi: +A-1@openssl")
	w.update("osv/wolfi", of(wolfi, types.BinaryPackage, "", "range:lastAffected=3.1.4-r1"))
	w.process()
	w.expect("older osv/rocky-linux: +A-1@openssl-libs", "wolfi older osv/wolfi: +A-1@openssl",
		"wolfi older osv/wolfi: ~A-1@openssl(fixed_in_version)", "wolfi before osv/wolfi: +A-1@openssl")
}
