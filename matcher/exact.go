package matcher

import (
	"context"
	"regexp"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/gobin"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/nodejs"
	"github.com/quay/claircore/python"

	"tocsin.dev/tocsin/internal/osvrange"
)

// exact is claircore's matcher for Go or npm that also judges the exact bounds
// which Tocsin's updater stores. claircore compares three numbers, to which a
// pseudo-version, a pre-release and its release are the same. A vulnerability
// without exact bounds is judged by the numbers, as claircore does.
type exact struct{ driver.Matcher }

var _ driver.VersionFilter = exact{}

// withExact replaces the matchers that exact is for.
func withExact(ms []driver.Matcher) []driver.Matcher {
	for i, m := range ms {
		switch m.(type) {
		case *gobin.Matcher, *nodejs.Matcher:
			ms[i] = exact{m}
		}
	}
	return ms
}

// VersionFilter implements [driver.VersionFilter]: a store compares the numbers
// of a vulnerability without exact bounds, and finds all that have them.
func (exact) VersionFilter() {}

// VersionAuthoritative implements [driver.VersionFilter].
func (exact) VersionAuthoritative() bool { return false }

// Vulnerable implements [driver.Matcher].
func (exact) Vulnerable(_ context.Context, r *claircore.IndexRecord, v *claircore.Vulnerability) (bool, error) {
	bounds, ok := osvrange.Decode(v.Package.Version)
	if !ok {
		return true, nil // the store has compared the numbers
	}
	if r.Package.NormalizedVersion.Kind == "" && !osvrange.Valid(r.Package.Version) {
		return false, nil // such as (devel): no version at all
	}
	return bounds.Contains(r.Package.Version)
}

// exactRepository tells whether exact is for the ecosystem of a repository.
func exactRepository(r *claircore.Repository) bool {
	return r != nil && (r.Name == gobin.Repository.Name || r.Name == nodejs.Repository.Name)
}

var separators = regexp.MustCompile(`[-_.]+`)

// matchName is the name by which advisories are asked about a record's package:
// Python's as PEP 503 compares them, others as they are.
func matchName(r *claircore.IndexRecord) string {
	if r.Repository == nil || r.Repository.Name != python.Repository.Name {
		return r.Package.Name
	}
	return separators.ReplaceAllString(strings.ToLower(r.Package.Name), "-")
}
