package matcher

import (
	"context"
	"fmt"
	"sync"

	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
)

// Skip is one (vulnerability, package) pair that a matcher could not judge.
type Skip struct {
	Matcher       string
	Vulnerability string
	Package       string
	Version       string
	Reason        string
}

// Lenient wraps a matcher so that a pair it can't judge, as with a version that
// does not parse, is left out instead of failing the whole report. What
// [CollectSkips] put into the context is told of each. The result implements
// the optional interfaces that m does.
func Lenient(m driver.Matcher) driver.Matcher {
	l := lenient{m}
	v, isFilter := m.(driver.VersionFilter)
	r, isRemote := m.(driver.RemoteMatcher)
	switch {
	case isFilter && isRemote:
		return &struct {
			lenient
			filtering
			driver.RemoteMatcher
		}{l, filtering{v}, r}
	case isFilter:
		return &struct {
			lenient
			filtering
		}{l, filtering{v}}
	case isRemote:
		return &struct {
			lenient
			driver.RemoteMatcher
		}{l, r}
	}
	return &l
}

// filtering passes driver.VersionFilter on. It isn't embedded, because a field
// of that name would hide the method of that name.
type filtering struct{ inner driver.VersionFilter }

func (f filtering) VersionFilter()             { f.inner.VersionFilter() }
func (f filtering) VersionAuthoritative() bool { return f.inner.VersionAuthoritative() }

type lenient struct{ driver.Matcher }

// Vulnerable implements driver.Matcher.
func (l lenient) Vulnerable(ctx context.Context, r *claircore.IndexRecord, v *claircore.Vulnerability) (bool, error) {
	ok, err := l.Matcher.Vulnerable(ctx, r, v)
	if err == nil {
		return ok, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if s, _ := ctx.Value(skipsKey{}).(*Skips); s != nil {
		s.add(Skip{l.Name(), v.Name, r.Package.Name, r.Package.Version, err.Error()})
	}
	return false, nil
}

type skipsKey struct{}

// Skips collects what could not be judged: how many pairs, and the first few.
// It is safe for concurrent use.
type Skips struct {
	mu       sync.Mutex
	seen     map[Skip]bool
	examples []Skip
	more     int
}

// Bounds of Skips.
const (
	maxSkipExamples = 20
	maxSkipsSeen    = 10_000
)

// CollectSkips returns a context in which lenient matchers tell the returned
// Skips what they leave out.
func CollectSkips(ctx context.Context) (context.Context, *Skips) {
	s := &Skips{seen: make(map[Skip]bool)}
	return context.WithValue(ctx, skipsKey{}, s), s
}

func (s *Skips) add(k Skip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[k] {
		return
	}
	if len(s.seen) >= maxSkipsSeen {
		s.more++
		return
	}
	s.seen[k] = true
	if len(s.examples) < maxSkipExamples {
		s.examples = append(s.examples, k)
	}
}

// Count is how many pairs were left out; over ten thousand, repeats count too.
func (s *Skips) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen) + s.more
}

// Examples are the first few of them.
func (s *Skips) Examples() []Skip {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Skip(nil), s.examples...)
}

// reasons are the examples as sentences.
func (s *Skips) reasons() []string {
	var out []string
	for _, k := range s.Examples() {
		out = append(out, fmt.Sprintf("%s in %s %s: %s: %s", k.Vulnerability, k.Package, k.Version, k.Matcher, k.Reason))
	}
	return out
}
