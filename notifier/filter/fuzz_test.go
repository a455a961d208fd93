package filter

import (
	"encoding/json"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// FuzzCompile holds the compiler to an answer for every list of filters: a set that
// can be evaluated, or what is wrong.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`[{"exact":{"severity":"High"}}]`, `[{"any":[{"prefix":{"image":"a"}},{"not":{"suffix":{"type":".v1"}}}]}]`,
		`[{"sql":"severity IN ('High','Critical') AND NOT fixable"}]`, `[{"sql":"image LIKE 'a%\\_b' OR LENGTH(updater) > 3"}]`,
		`[{"cel":"data.added.exists(f, f.kev && f.aliases.exists(a, a.startsWith('CVE')))"}]`, `[{"cel":"rank(event.severity) > 2"}]`, `[{}]`, `[{"all":[]}]`,
	} {
		f.Add(seed)
	}
	c, err := NewCompiler(Limits{Cost: 10_000})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var filters []schemas.Filter
		if json.Unmarshal([]byte(text), &filters) != nil {
			return
		}
		set, problems := c.Compile(filters)
		if (set == nil) != (len(problems) > 0) {
			t.Fatalf("%s: %v and %v", text, set, problems)
		}
		if set == nil {
			return
		}
		e := sample()
		e.SetData([]byte(`{"added":[{"id":"CVE-1","kev":true,"aliases":["GHSA-1"],"package":{"name":"a"}}],"counts":{"added":1}}`))
		once := set.Match(t.Context(), e)
		if again := set.Match(t.Context(), e); again != once {
			t.Errorf("%s: %t, then %t", text, once, again)
		}
		if once && !set.MatchAttributes(t.Context(), e) {
			t.Errorf("%s: holds, but not by its attributes", text)
		}
		if plan := set.Plan(); once && !plan.Allows(e) {
			t.Errorf("%s: holds, but the plan does not allow it", text)
		}
	})
}
