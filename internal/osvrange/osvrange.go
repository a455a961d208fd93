// Package osvrange holds which versions an OSV advisory affects, exactly, in a
// text that fits into a field of claircore's vulnerability.
//
// claircore keeps the bounds of Go and npm advisories as three numbers, which
// know no pre-releases: a fix at a pseudo-version or at 2.0.0-rc.1 is lost. The
// updater writes the bounds as they were published into the version of the
// vulnerability's package, which nothing else uses for these feeds; the matcher
// reads them. A vulnerability without such a text is judged by the numbers.
package osvrange

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver"
)

// Prefix begins every encoded range.
const Prefix = "range:"

// A Range is a stretch of versions, or a list of some. Empty bounds are open.
type Range struct {
	// Introduced is the first version that is affected.
	Introduced string
	// Fixed is the first after it that is not; LastAffected the last that is.
	// At most one of them is set.
	Fixed, LastAffected string
	// Versions, if not empty, are the affected versions; the bounds are not
	// used then.
	Versions []string
}

// Encode is the range as text.
func (r Range) Encode() string {
	q := url.Values{}
	for k, v := range map[string]string{"introduced": r.Introduced, "fixed": r.Fixed, "lastAffected": r.LastAffected} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if len(r.Versions) > 0 {
		q["version"] = r.Versions
	}
	return Prefix + q.Encode()
}

// Decode reads an encoded range; false for a text that is none.
func Decode(s string) (Range, bool) {
	encoded, ok := strings.CutPrefix(s, Prefix)
	if !ok {
		return Range{}, false
	}
	q, err := url.ParseQuery(encoded)
	if err != nil {
		return Range{}, false
	}
	return Range{Introduced: q.Get("introduced"), Fixed: q.Get("fixed"), LastAffected: q.Get("lastAffected"), Versions: q["version"]}, true
}

// Contains says whether a version, as semantic versions are ordered, is in the
// range. A bound that does not parse is an error; a listed version that does not
// is compared as text.
func (r Range) Contains(version string) (bool, error) {
	v, err := parse(version)
	if err != nil {
		return slices.Contains(r.Versions, version), fmt.Errorf("version %q: %w", version, err)
	}
	if len(r.Versions) > 0 {
		return slices.ContainsFunc(r.Versions, func(s string) bool {
			w, err := parse(s)
			return err != nil && s == version || err == nil && v.Equal(w)
		}), nil
	}
	for _, b := range []struct {
		bound   string
		outside func(cmp int) bool
	}{
		{r.Introduced, func(cmp int) bool { return cmp < 0 }},
		{r.Fixed, func(cmp int) bool { return cmp >= 0 }},
		{r.LastAffected, func(cmp int) bool { return cmp > 0 }},
	} {
		if b.bound == "" {
			continue
		}
		w, err := parse(b.bound)
		if err != nil {
			return false, fmt.Errorf("version %q: %w", b.bound, err)
		}
		if b.outside(v.Compare(w)) {
			return false, nil
		}
	}
	return true, nil
}

// Valid says whether a version is one that Contains can order.
func Valid(version string) bool {
	_, err := parse(version)
	return err == nil
}

// toolchain is how Go names its own pre-releases: 1.21rc2, 1.9beta1.
var toolchain = regexp.MustCompile(`^(\d+\.\d+)(\.\d+)?(rc|beta)(\d+)$`)

func parse(version string) (*semver.Version, error) {
	if m := toolchain.FindStringSubmatch(version); m != nil {
		if m[2] == "" {
			m[2] = ".0"
		}
		version = m[1] + m[2] + "-" + m[3] + "." + m[4]
	}
	return semver.NewVersion(version)
}
