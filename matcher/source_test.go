package matcher

import (
	"testing"

	"github.com/quay/claircore"
	"github.com/quay/claircore/debian"
	"github.com/quay/claircore/libvuln/driver"
	"github.com/quay/claircore/toolkit/types"
)

// TestSourceVersion holds a fix of a source package against the source's
// version, and one of a binary package against the binary's.
func TestSourceVersion(t *testing.T) {
	t.Parallel()
	m := withSources([]driver.Matcher{new(debian.Matcher)})[0]
	for name, c := range map[string]struct {
		kind                  types.PackageKind
		binary, source, fixed string
		want                  bool
	}{
		"source is fixed, binary has another line": {types.SourcePackage, "15+248+deb12u2", "248+deb12u2", "248+deb12u1", false},
		"source is older, binary looks newer":      {types.SourcePackage, "15+248", "248", "248+deb12u1", true},
		"source is older by its epoch":             {types.SourcePackage, "2:1.0", "1.0", "1:1.0", true},
		"a rebuilt binary of an older source":      {types.SourcePackage, "1.0-2+b1", "1.0-2", "1.0-2+b1", true},
		"binary is older":                          {types.BinaryPackage, "1.0", "2.0", "2.0", true},
		"no source is known":                       {types.SourcePackage, "1.0", "", "2.0", true},
	} {
		r := &claircore.IndexRecord{
			Package:      &claircore.Package{Name: "p", Version: c.binary, Source: &claircore.Package{Name: "s", Version: c.source}},
			Distribution: &claircore.Distribution{DID: "debian"},
		}
		v := &claircore.Vulnerability{FixedInVersion: c.fixed, Package: &claircore.Package{Name: "s", Kind: c.kind}}
		got, err := m.Vulnerable(t.Context(), r, v)
		if err != nil || got != c.want {
			t.Errorf("%s: vulnerable %v (%v), want %v", name, got, err, c.want)
		}
	}
}
