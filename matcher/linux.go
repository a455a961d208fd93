package matcher

import (
	"context"
	"slices"

	"github.com/quay/claircore"
	"github.com/quay/claircore/alpine"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/oracle"

	"tocsin.dev/tocsin/internal/osvrange"
)

// linux is the matcher for the distributions whose advisories come from OSV
// (package updater/osv). Versions are compared by claircore's matchers for apk
// and rpm.
type linux struct{}

// versions compares versions, by the distribution's id in os-release.
var versions = map[string]driver.Matcher{
	"almalinux": new(oracle.Matcher), "openEuler": new(oracle.Matcher), "rocky": new(oracle.Matcher),
	"chainguard": new(alpine.Matcher), "wolfi": new(alpine.Matcher),
}

// Name implements [driver.Matcher].
func (linux) Name() string { return "tocsin-linux" }

// Filter implements [driver.Matcher].
func (linux) Filter(r *claircore.IndexRecord) bool {
	return r.Distribution != nil && versions[r.Distribution.DID] != nil
}

// Query implements [driver.Matcher].
func (linux) Query() []driver.MatchConstraint {
	return []driver.MatchConstraint{driver.DistributionDID, driver.DistributionVersionID}
}

// Vulnerable implements [driver.Matcher].
func (linux) Vulnerable(ctx context.Context, r *claircore.IndexRecord, v *claircore.Vulnerability) (bool, error) {
	m := versions[r.Distribution.DID]
	// below reports whether version is older than bound.
	below := func(version, bound string) (bool, error) {
		of, is := *v.Package, *r.Package
		of.Version, of.Arch, is.Version = "", "", version
		return m.Vulnerable(ctx, &claircore.IndexRecord{Package: &is, Distribution: r.Distribution},
			&claircore.Vulnerability{Package: &of, FixedInVersion: bound})
	}
	installed := r.Package.Version
	if bounds, ok := osvrange.Decode(v.Package.Version); ok {
		if len(bounds.Versions) > 0 {
			return slices.Contains(bounds.Versions, installed), nil
		}
		if bounds.Introduced != "" {
			if before, err := below(installed, bounds.Introduced); before || err != nil {
				return false, err
			}
		}
		if bounds.LastAffected != "" {
			after, err := below(bounds.LastAffected, installed)
			return !after && err == nil, err
		}
	}
	if v.FixedInVersion == "" {
		return true, nil
	}
	return below(installed, v.FixedInVersion)
}
