package osvrange

import (
	"reflect"
	"testing"
)

func TestContains(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r       Range
		version string
		want    bool
	}{
		{Range{Fixed: "0.0.0-20220314234659-1baeb1ce4c0b"}, "v0.0.0-20210921155107-089bfa567519", true},
		{Range{Fixed: "0.0.0-20220314234659-1baeb1ce4c0b"}, "v0.0.0-20220314234659-1baeb1ce4c0b", false},
		{Range{Fixed: "0.0.0-20220314234659-1baeb1ce4c0b"}, "v0.1.0", false},
		{Range{Fixed: "24.0.7+incompatible", Introduced: "24.0.0+incompatible"}, "v24.0.6+incompatible", true},
		{Range{Fixed: "24.0.7+incompatible", Introduced: "24.0.0+incompatible"}, "v24.0.7+incompatible", false},
		{Range{Fixed: "13.5.0-canary.2", Introduced: "13.0.0"}, "13.5.0-canary.1", true},
		{Range{Fixed: "13.5.0-canary.2", Introduced: "13.0.0"}, "13.5.0-canary.10", false},
		{Range{Fixed: "13.5.0-canary.2", Introduced: "13.0.0"}, "13.5.0", false},
		{Range{Fixed: "5.0.0", Introduced: "5.0.0-beta.1"}, "5.0.0-beta.3", true},
		{Range{Fixed: "5.0.0", Introduced: "5.0.0-beta.1"}, "5.0.0-alpha.3", false},
		{Range{LastAffected: "2.3.4"}, "2.3.4", true},
		{Range{LastAffected: "2.3.4"}, "2.3.5-rc.1", false},
		{Range{Introduced: "1.22.0-rc.1", Fixed: "1.22.1"}, "1.22rc2", true},
		{Range{Introduced: "1.22.0", Fixed: "1.22.1"}, "1.22rc2", false},
		{Range{}, "0.0.1", true},
		{Range{Versions: []string{"1.0.0", "1.0.1-rc.1"}}, "v1.0.0", true},
		{Range{Versions: []string{"1.0.0", "1.0.1-rc.1"}}, "1.0.1", false},
	} {
		got, err := c.r.Contains(c.version)
		if err != nil || got != c.want {
			t.Errorf("%+v contains %s: %t, %v, want %t", c.r, c.version, got, err, c.want)
		}
		back, ok := Decode(c.r.Encode())
		if !ok || !reflect.DeepEqual(back, c.r) {
			t.Errorf("%+v comes back as %+v", c.r, back)
		}
	}
	if _, ok := Decode("1.2.3"); ok {
		t.Error("an ordinary version is taken for a range")
	}
	for _, r := range []Range{{Fixed: "one"}, {Introduced: "x"}} {
		if _, err := r.Contains("1.0.0"); err == nil {
			t.Errorf("%+v has a bound that is no version", r)
		}
	}
	if ok, err := (Range{}).Contains("(devel)"); ok || err == nil {
		t.Errorf("(devel) is %t, %v", ok, err)
	}
}
