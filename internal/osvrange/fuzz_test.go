package osvrange_test

import (
	"testing"

	"tocsin.dev/tocsin/internal/osvrange"
)

// FuzzDecode holds ranges to what they were: what is decoded and encoded again is
// the same range.
func FuzzDecode(f *testing.F) {
	f.Add(osvrange.Range{Introduced: "1.0.0", Fixed: "1.2.3"}.Encode())
	f.Add(osvrange.Range{Versions: []string{"1", "2&3=4"}}.Encode())
	f.Add(osvrange.Prefix + "%zz")
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := osvrange.Decode(text)
		if !ok {
			return
		}
		if again, ok := osvrange.Decode(r.Encode()); !ok || again.Encode() != r.Encode() {
			t.Errorf("%q became %+v and then %+v", text, r, again)
		}
	})
}
