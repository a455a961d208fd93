package matcher

import (
	"context"

	"github.com/quay/claircore"
	"github.com/quay/claircore/alpine"
	"github.com/quay/claircore/debian"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/toolkit/types"
	"github.com/quay/claircore/ubuntu"
)

// ofSource is claircore's matcher of a distribution that holds a fix of a
// source package against the version of that source: a binary package may have
// a version of its own, as postgresql-client 15+248 of postgresql-common 248.
type ofSource struct{ driver.Matcher }

// withSources replaces the matchers that ofSource is for. RPM's are not among
// them: the source that an rpm names has no epoch.
func withSources(ms []driver.Matcher) []driver.Matcher {
	for i, m := range ms {
		switch m.(type) {
		case *debian.Matcher, *ubuntu.Matcher, *alpine.Matcher:
			ms[i] = ofSource{m}
		}
	}
	return ms
}

// Vulnerable implements [driver.Matcher].
func (m ofSource) Vulnerable(ctx context.Context, r *claircore.IndexRecord, v *claircore.Vulnerability) (bool, error) {
	if v.Package == nil || v.Package.Kind != types.SourcePackage || r.Package.Source == nil || r.Package.Source.Version == "" {
		return m.Matcher.Vulnerable(ctx, r, v)
	}
	p := *r.Package
	p.Version = p.Source.Version
	return m.Matcher.Vulnerable(ctx, &claircore.IndexRecord{Package: &p, Distribution: r.Distribution, Repository: r.Repository}, v)
}
