package matcher

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/matchers"
	"github.com/quay/claircore/nodejs"
)

// maxMatchers is how many bits a mask of matchers has.
const maxMatchers = 62

// matcherSet is every registered matcher, sorted by name, with what a candidate
// query needs to know of each. masks and authoritative are set by assign.
type matcherSet struct {
	all           []driver.Matcher
	conditions    []string // by position in all
	fingerprint   string   // of the names, types and conditions, and of claircore
	masks         []int64  // by position in all: one bit each
	authoritative int64    // the matchers whose verdict the database gives
}

// newMatcherSet collects claircore's registered matchers, the npm one, which
// claircore leaves out of its registry, and those of the options.
func newMatcherSet(ctx context.Context, o Options) (*matcherSet, error) {
	extra := slices.Clone(o.Matchers)
	if o.MatcherNames == nil || slices.Contains(o.MatcherNames, (linux{}).Name()) {
		extra = append(extra, linux{})
	}
	wanted := o.MatcherNames == nil || slices.Contains(o.MatcherNames, (*nodejs.Matcher)(nil).Name())
	if wanted && !slices.ContainsFunc(extra, func(m driver.Matcher) bool { return m.Name() == (*nodejs.Matcher)(nil).Name() }) {
		extra = append(extra, &nodejs.Matcher{})
	}
	ms, err := matchers.NewMatchers(ctx, o.Client,
		matchers.WithEnabled(o.MatcherNames), matchers.WithConfigs(o.MatcherConfigs), matchers.WithOutOfTree(extra))
	if err != nil {
		return nil, err
	}
	ms = withSources(withExact(ms))
	slices.SortFunc(ms, func(a, b driver.Matcher) int { return strings.Compare(a.Name(), b.Name()) })
	return describe(ms)
}

// describe derives the set from what the matchers declare.
func describe(ms []driver.Matcher) (*matcherSet, error) {
	if len(ms) > maxMatchers {
		return nil, fmt.Errorf("%d matchers are registered, %d are the most", len(ms), maxMatchers)
	}
	s := &matcherSet{all: ms}
	h := sha256.New()
	fmt.Fprint(h, "bits by name\x00")
	for i, m := range ms {
		if i > 0 && ms[i-1].Name() == m.Name() {
			return nil, fmt.Errorf("two matchers are called %q", m.Name())
		}
		cond, err := condition(m)
		if err != nil {
			return nil, err
		}
		s.conditions = append(s.conditions, cond)
		fmt.Fprintf(h, "%s\x00%T\x00%s\x00", m.Name(), m, cond)
	}
	fmt.Fprintf(h, "%s", moduleVersions())
	s.fingerprint = hex.EncodeToString(h.Sum(nil))
	return s, nil
}

// names are the matchers' names, sorted.
func (s *matcherSet) names() []string {
	out := make([]string, len(s.all))
	for i, m := range s.all {
		out[i] = m.Name()
	}
	return out
}

// assign gives every matcher its bit. It reports false, and changes nothing, if
// one has none.
func (s *matcherSet) assign(bits map[string]int) bool {
	masks := make([]int64, len(s.all))
	var authoritative int64
	for i, m := range s.all {
		bit, ok := bits[m.Name()]
		if !ok {
			return false
		}
		masks[i] = 1 << bit
		if f, ok := m.(driver.VersionFilter); ok && f.VersionAuthoritative() {
			authoritative |= masks[i]
		}
	}
	s.masks, s.authoritative = masks, authoritative
	return true
}

// moduleVersions is what this binary was built from: a matcher's Filter may
// differ from one version to the next.
func moduleVersions() string {
	var b strings.Builder
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/quay/claircore" {
				fmt.Fprintf(&b, "%s %s\n", d.Path, d.Version)
			}
		}
	}
	return b.String()
}

// interested is the mask of the matchers that look at a record. As claircore
// does, a package whose version can't be matched, or that has no name, is left
// out before any matcher is asked.
func (s *matcherSet) interested(r *claircore.IndexRecord) int64 {
	if r.Package.NormalizedVersion.Kind == claircore.UnmatchableKind || r.Package.Name == "" {
		return 0
	}
	var mask int64
	for i, m := range s.all {
		if _, remote := m.(driver.RemoteMatcher); !remote && m.Filter(r) {
			mask |= s.masks[i]
		}
	}
	return mask
}

// columns pairs, for each constraint claircore's store can serve, a column of
// public.vuln with one of tocsin.occurrence_record.
var columns = map[driver.MatchConstraint]string{
	driver.PackageModule:               `v.package_module = r.module`,
	driver.DistributionDID:             `v.dist_id = r.dist_id`,
	driver.DistributionName:            `v.dist_name = r.dist_name`,
	driver.DistributionVersion:         `v.dist_version = r.dist_version`,
	driver.DistributionVersionID:       `v.dist_version_id = r.dist_version_id`,
	driver.DistributionVersionCodeName: `v.dist_version_code_name = r.dist_version_code_name`,
	driver.DistributionPrettyName:      `v.dist_pretty_name = r.dist_pretty_name`,
	driver.DistributionArch:            `v.dist_arch = r.dist_arch`,
	driver.RepositoryName:              `v.repo_name = r.repo_name`,
	driver.RepositoryKey:               `v.repo_key = r.repo_key`,
	driver.HasFixedInVersion:           `v.fixed_in_version <> ''`,
}

// condition is the SQL of what a matcher demands of a vulnerability (v) and a
// record (r) beside the package's name and kind.
func condition(m driver.Matcher) (string, error) {
	if _, ok := m.(driver.RemoteMatcher); ok {
		return "false", nil
	}
	conds := []string{}
	for _, c := range m.Query() {
		sql, ok := columns[c]
		if !ok {
			return "", fmt.Errorf("matcher %q asks for the constraint %v, which the vulnerability store can't serve", m.Name(), c)
		}
		if !slices.Contains(conds, sql) {
			conds = append(conds, sql)
		}
	}
	switch m.(type) {
	case exact:
		conds = append(conds, `(v.package_version LIKE 'range:%' OR v.version_kind = r.norm_kind AND v.vulnerable_range @> r.norm_version)`)
	case driver.VersionFilter:
		conds = append(conds, `v.version_kind = r.norm_kind AND v.vulnerable_range @> r.norm_version`)
	}
	if len(conds) == 0 {
		return "true", nil
	}
	return strings.Join(conds, " AND "), nil
}
