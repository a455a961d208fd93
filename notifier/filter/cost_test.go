package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// findings is an event with so many added findings, the last of them known to be
// exploited.
func findings(n int) *Event {
	list := make([]map[string]any, n)
	for i := range list {
		list[i] = map[string]any{"id": fmt.Sprint("CVE-2026-", i), "kev": i == n-1, "aliases": []string{"GHSA-x"}, "package": map[string]any{"name": "openssl"}}
	}
	data, err := json.Marshal(map[string]any{"added": list, "removed": []any{}})
	if err != nil {
		panic(err)
	}
	e := sample()
	e.SetData(data)
	return e
}

// What people write is taken, and is decided over more findings than an estimate
// assumes; what compares lists with one another is refused when it is written.
func TestCostIsEstimated(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	large := findings(2_000)
	for _, text := range []string{
		"data.added.exists(f, f.kev)", "data.added.exists(f, f.kev && f.aliases.exists(a, a.startsWith('GHSA')))",
		"data.added.exists(f, f.kev && f.package.name.matches('^(openssl|curl)$'))", "data.added.filter(f, f.kev).size() == 1",
		"(data.added + data.removed).exists(f, f.kev)",
	} {
		set, problems := c.Compile([]schemas.Filter{{CEL: text}})
		if problems != nil {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		if ok, err := set.Explain(t.Context(), large); !ok || err != nil {
			t.Errorf("%s is not decided over 10,000 findings: %t, %v", text, ok, err)
		}
	}
	for _, text := range []string{
		"data.added.exists(f, data.removed.exists(g, g.id == f.id))",
		"data.added.all(a, data.added.all(b, data.added.all(c, a.id + b.id + c.id != 'x')))",
	} {
		if _, problems := c.Compile([]schemas.Filter{{CEL: text}}); len(problems) != 1 || !strings.Contains(problems[0].Detail, "over the limit") || problems[0].Hint == "" {
			t.Errorf("%s: %v, want a refusal for its cost", text, problems)
		}
	}
}

// The limit of an evaluation is the same on every machine, and what it cost is
// added to the meter either way.
func TestCostIsCounted(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{Cost: 1000, Estimate: 1 << 60})
	spent := func(e *Event, text string) (uint64, bool, error) {
		set, problems := c.CompileStored([]schemas.Filter{{CEL: text}})
		if problems != nil {
			t.Fatal(problems)
		}
		var m Meter
		ok, err := set.Explain(WithMeter(t.Context(), &m), e)
		return m.Spent(), ok, err
	}
	small, ok, err := spent(findings(10), "data.added.exists(f, f.kev)")
	if again, _, _ := spent(findings(10), "data.added.exists(f, f.kev)"); !ok || err != nil || small == 0 || small != again {
		t.Errorf("10 findings: %t, %v, cost %d, again %d", ok, err, small, again)
	}
	large, ok, err := spent(findings(1000), "data.added.exists(f, f.kev)")
	if _, over := errors.AsType[*errCost](err); ok || !over || large < 1000 {
		t.Errorf("1,000 findings: %t, %v, cost %d; want it over its limit", ok, err, large)
	}
}

// An expression over the attributes alone that costs much is not evaluated while
// events are written.
func TestDearExpressionsWait(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	for text, want := range map[string]bool{
		"severityrank > 3 && fixable": false, "image.startsWith('prod/') || event.severity == 'High'": false,
		"event.all(a, event.all(b, a + b != 'x'))": true,
	} {
		set, problems := c.Compile([]schemas.Filter{{CEL: text}})
		if problems != nil || set.NeedsData() != want {
			t.Errorf("%s waits: %t (%v), want %t", text, set != nil && set.NeedsData(), problems, want)
		}
	}
	many := make([]schemas.Filter, 100)
	for i := range many {
		many[i] = schemas.Filter{CEL: fmt.Sprintf("image.matches('^prod/%d.*')", i)}
	}
	if set, problems := c.Compile(many); problems != nil || !set.NeedsData() {
		t.Errorf("a hundred cheap ones are evaluated at once (%v)", problems)
	}
}

// A filter over much data is decided on a machine that has no time for it.
func TestNoClockDecides(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	set, problems := c.Compile([]schemas.Filter{{CEL: "data.added.exists(f, f.kev && f.aliases.exists(a, a.matches('(G|H|S|A)*-x')))"}})
	if problems != nil {
		t.Fatal(problems)
	}
	e := findings(2_000)
	var stop atomic.Bool
	defer stop.Store(true)
	for range 8 { // every other thread wants the processor
		go func() {
			for !stop.Load() {
			}
		}()
	}
	for range 2 {
		if ok, err := set.Explain(t.Context(), e); !ok || err != nil {
			t.Fatalf("missed: %v", err)
		}
	}
}
