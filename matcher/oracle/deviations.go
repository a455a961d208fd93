package oracle

import (
	"context"
	"slices"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/toolkit/types"
)

// deviating states, beside claircore's matchers, where Tocsin's verdicts differ
// from theirs on purpose (docs/deviations.md). It shares no code with package
// matcher.
func deviating(ms []driver.Matcher) []driver.Matcher {
	for i, m := range ms {
		if slices.Contains([]string{"debian-matcher", "ubuntu-matcher", "alpine-matcher"}, m.Name()) {
			ms[i] = fixedSource{m}
		}
	}
	return ms
}

// fixedSource compares a source package's fix with the version of the source.
type fixedSource struct{ driver.Matcher }

func (m fixedSource) Vulnerable(ctx context.Context, r *claircore.IndexRecord, v *claircore.Vulnerability) (bool, error) {
	if src := r.Package.Source; v.Package.Kind == types.SourcePackage && src != nil && src.Version != "" {
		installed := *r
		asked := *r.Package
		installed.Package, asked.Version = &asked, src.Version
		return m.Matcher.Vulnerable(ctx, &installed, v)
	}
	return m.Matcher.Vulnerable(ctx, r, v)
}
