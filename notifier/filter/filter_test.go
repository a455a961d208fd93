package filter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tocsin.dev/tocsin/schemas"
)

func compiler(t testing.TB, l Limits) *Compiler {
	t.Helper()
	c, err := NewCompiler(l)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sample() *Event {
	return &Event{
		ID: "0198c0de-0000-7000-8000-000000000001", Source: "urn:tocsin:test", Type: schemas.TypeVulnerabilitiesChanged,
		Subject: "sha256:" + strings.Repeat("a", 64), Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Extensions: schemas.Extensions{
			Severity: new("High"), SeverityRank: new(int32(4)), Fixable: new(true), KEV: new(false), EPSS: new(int32(12)),
			Updater: new("osv/go"), Image: new("registry/team/app:1"), Added: new(int32(2)), Removed: new(int32(0)), Revised: new(int32(1)),
		},
		Data: []byte(`{"added":[{"id":"CVE-2026-1","kev":false,"package":{"name":"openssl"},"epss":{"score":0.7}}],"removed":[],"revised":[],"counts":{"added":2}}`),
	}
}

func decode(t testing.TB, text string) []schemas.Filter {
	t.Helper()
	var f []schemas.Filter
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

func TestDialects(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	for _, tc := range []struct {
		filters string
		want    bool
	}{
		{`[]`, true},
		{`[{"exact":{"severity":"High"}}]`, true},
		{`[{"exact":{"severity":"high"}}]`, false},
		{`[{"exact":{"severityrank":"4","fixable":"true","kev":"false"}}]`, true},
		{`[{"exact":{"severity":"High","fixable":"false"}}]`, false},
		{`[{"exact":{"firstload":"true"}}]`, false}, // not there
		{`[{"prefix":{"image":"registry/team/"}}]`, true},
		{`[{"prefix":{"image":"team"}}]`, false},
		{`[{"suffix":{"type":".v1","image":":1"}}]`, true},
		{`[{"suffix":{"image":":2"}}]`, false},
		{`[{"all":[{"exact":{"severity":"High"}},{"exact":{"updater":"osv/go"}}]}]`, true},
		{`[{"all":[{"exact":{"severity":"High"}},{"exact":{"updater":"osv"}}]}]`, false},
		{`[{"any":[{"exact":{"severity":"Low"}},{"exact":{"updater":"osv/go"}}]}]`, true},
		{`[{"any":[{"exact":{"severity":"Low"}},{"exact":{"updater":"osv"}}]}]`, false},
		{`[{"not":{"exact":{"severity":"Low"}}}]`, true},
		{`[{"not":{"not":{"exact":{"severity":"Low"}}}}]`, false},
		{`[{"not":{"sql":"firstload"}}]`, false}, // fails, so nothing is true
		{`[{"sql":"severityrank >= 4 AND fixable"}]`, true},
		{`[{"sql":"severityrank > 4"}]`, false},
		{`[{"sql":"image LIKE 'registry/team/%' AND severity IN ('High','Critical')"}]`, true},
		{`[{"sql":"NOT EXISTS firstload"}]`, true},
		{`[{"sql":"1 / 0 = 1"}]`, false},
		{`[{"sql":"UPPER(severity) = 'HIGH'"}]`, true},
		{`[{"cel":"severityrank >= rank('High') && event.type.endsWith('.v1')"}]`, true},
		{`[{"cel":"kev || epss > 50"}]`, false},
		{`[{"cel":"firstload"}]`, false},
		{`[{"cel":"data.added.exists(f, f.package.name == 'openssl' && f.epss.score > 0.5)"}]`, true},
		{`[{"cel":"data.added.exists(f, f.kev)"}]`, false},
		{`[{"cel":"data.counts.added > 1"}]`, true},
		{`[{"cel":"data.manifest.labels.nothing == 'x'"}]`, false},
		{`[{"cel":"size(data.revised) > 0 && data.revised[0].changes[0].to == 'x'"}]`, false},
		{`[{"cel":"has(event.firstload) || image.matches('^registry/')"}]`, true},
		{`[{"exact":{"severity":"High"}},{"cel":"size(data.removed) > 0"}]`, false},
	} {
		set, problems := c.Compile(decode(t, tc.filters))
		if problems != nil {
			t.Errorf("%s: %v", tc.filters, problems)
			continue
		}
		if got := set.Match(t.Context(), sample()); got != tc.want {
			_, err := set.Explain(t.Context(), sample())
			t.Errorf("%s = %t, want %t (%v)", tc.filters, got, tc.want, err)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	for _, tc := range []struct{ filters, pointer, detail string }{
		{`[{}]`, "/0", "empty filter"},
		{`[{"exact":{"type":"x"},"sql":"TRUE"}]`, "/0", "several dialects: exact, sql"},
		{`[{"exact":{}}]`, "/0/exact", "at least one"},
		{`[{"exact":{"type":""}}]`, "/0/exact/type", "empty"},
		{`[{"exact":{"sev/erity":"x"}}]`, "/0/exact/sev~1erity", "no event has"},
		{`[{"exact":{"type":"a\u0000b"}}]`, "/0/exact/type", "NUL"},
		{`[{"sql":"type = 'a\u0000b'"}]`, "/0/sql", "NUL"},
		{`[{"cel":"severity == 'a\u0000b'"}]`, "/0/cel", "NUL"},
		{`[{"all":[]}]`, "/0/all", "at least one"},
		{`[{"not":{"any":[{"exact":{"type":"x"}},{"suffix":{}}]}}]`, "/0/not/any/1/suffix", "at least one"},
		{`[{"exact":{"type":"x"}},{"sql":"severityrank >> 4"}]`, "/1/sql", "line 1, column 15"},
		{`[{"sql":"severityrank >="}]`, "/0/sql", "line 1, column 16"},
		{`[{"sql":"severity = 'x' # no"}]`, "/0/sql", "line 1, column 16"},
		{`[{"sql":"(severity = 'x'"}]`, "/0/sql", "line 1, column 16"},
		{`[{"sql":"severity = 'x' )"}]`, "/0/sql", "line 1, column 16"},
		{`[{"sql":"severity = 'x"}]`, "/0/sql", "line 1, column 12"},
		{`[{"sql":"severty = 'x'"}]`, "/0/sql", `column 1: no event has an attribute "severty"`},
		{`[{"sql":"TRUE AND FROB(severity)"}]`, "/0/sql", "column 10: no function FROB with 1 arguments"},
		{`[{"sql":"severityrank > 99999999999"}]`, "/0/sql", "out of range"},
		{`[{"sql":"` + strings.Repeat("(", 30) + "TRUE" + strings.Repeat(")", 30) + `"}]`, "/0/sql", "nested more than"},
		{`[{"sql":"` + strings.Repeat("NOT ", 30) + `TRUE"}]`, "/0/sql", "nested more than"},
		{`[{"sql":"` + strings.Repeat("TRUE AND ", 300) + `TRUE"}]`, "/0/sql", "more than 512"},
		{`[{"sql":"` + strings.Repeat(" ", 5000) + `TRUE"}]`, "/0/sql", "over the limit"},
		{`[{"cel":"severityrank >= "}]`, "/0/cel", "line 1, column 17"},
		{`[{"cel":"true &&\n severty == 'x'"}]`, "/0/cel", "line 2, column 2: undeclared reference"},
		{`[{"cel":"severity"}]`, "/0/cel", "not true or false"},
		{`[{"cel":"severity > 4"}]`, "/0/cel", "no matching overload"},
		{`[{"cel":"image.matches('(')"}]`, "/0/cel", "invalid matches"},
		{`[{"cel":"image.matches('((a{100}){100}){10}')"}]`, "/0/cel", "line 1"},
		{`[{"cel":"` + strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100) + `"}]`, "/0/cel", "recursion"},
		{`[{"cel":"[1].all(a,[1].all(b,[1].all(c,[1].all(d,true))))"}]`, "/0/cel", "nest"},
	} {
		set, problems := c.Compile(decode(t, tc.filters))
		if len(problems) == 0 || set != nil {
			t.Errorf("%.80s: not refused", tc.filters)
			continue
		}
		if p := problems[0]; p.Pointer != tc.pointer || !strings.Contains(p.Detail, tc.detail) {
			t.Errorf("%.80s: got %+v, want %s %q", tc.filters, p, tc.pointer, tc.detail)
		}
	}
}

func TestTooManyAndTooDeep(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	one := schemas.Filter{Exact: map[string]string{"type": "x"}}
	many := make([]schemas.Filter, 1000)
	for i := range many {
		many[i] = one
	}
	if _, p := c.Compile(many); len(p) != 1 || !strings.Contains(p[0].Detail, "more than 256") {
		t.Errorf("a thousand filters: %v", p)
	}
	large := make([]schemas.Filter, 100)
	for i := range large {
		large[i] = schemas.Filter{CEL: strings.Repeat(" ", 3000) + "true"}
	}
	if _, p := c.Compile(large); len(p) != 1 || p[0].Pointer != "/5/cel" || !strings.Contains(p[0].Detail, "more than 16384 bytes") {
		t.Errorf("300 KB of expressions: %v", p)
	}
	deep := one
	for range 1000 {
		inner := deep
		deep = schemas.Filter{Not: &inner}
	}
	if _, p := c.Compile([]schemas.Filter{deep}); len(p) != 1 || !strings.Contains(p[0].Detail, "nested more than 16") {
		t.Errorf("a thousand nots: %v", p)
	}
}

// TestHostileEvaluationEnds holds expressions that would run for very long to
// the limit of cost.
func TestHostileEvaluationEnds(t *testing.T) {
	t.Parallel()
	// A tenth of the usual limit: what it takes is proportional to it, and this
	// runs under the race detector too.
	c := compiler(t, Limits{Cost: 200_000})
	list := make([]map[string]string, 3000)
	for i := range list {
		list[i] = map[string]string{"id": "a"}
	}
	data, _ := json.Marshal(map[string]any{"added": list, "reason": strings.Repeat("a", 100_000)})
	for _, text := range []string{
		"data.added.all(a, data.added.all(b, data.added.all(c, a.id + b.id + c.id != 'x')))",
		"data.added.map(a, data.added.map(b, data.added.map(c, data.reason + data.reason))).size() > 0",
		"data.reason.matches('(a*)*(a*)*b')",
		"data.added.exists(x, (data.reason + data.reason + data.reason + data.reason).matches('(a|a)*b'))",
	} {
		set, problems := c.CompileStored([]schemas.Filter{{CEL: text}}) // as an earlier version took it
		if problems != nil {
			t.Errorf("%s is refused, so that nothing is evaluated: %v", text, problems)
			continue
		}
		e := sample()
		e.SetData(data)
		start := time.Now()
		ok, err := set.Explain(t.Context(), e)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %s", text, took)
		}
		// One look at one text, however the pattern is made, is within it.
		once := !strings.HasPrefix(text, "data.added")
		if _, over := errors.AsType[*errCost](err); ok || over == once {
			t.Errorf("%s: %t, %v", text, ok, err)
		}
	}
	// The worst that the bounds let through must compile in bounded time too.
	for _, text := range []string{
		strings.Repeat("(", sqlDepth) + "TRUE" + strings.Repeat(")", sqlDepth),
		strings.TrimSuffix(strings.Repeat("severity = 'x' AND ", 100), " AND "),
		"severity IN (" + strings.Repeat("'x',", 200) + "'x')",
		strings.Repeat("LENGTH(", sqlDepth) + "severity" + strings.Repeat(")", sqlDepth) + " > 0",
		strings.Repeat("(1 + ", sqlDepth) + "1" + strings.Repeat(")", sqlDepth) + " > 0",
	} {
		start := time.Now()
		_, problems := c.Compile([]schemas.Filter{{SQL: text}})
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%.40s… compiled in %s", text, took)
		}
		if problems != nil {
			t.Errorf("%.40s…: %v", text, problems)
		}
	}
}

func TestDataIsAskedForOnlyWhenNeeded(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	for text, want := range map[string]bool{
		`[{"cel":"severityrank > 3"}]`: false, `[{"cel":"has(data.added)"}]`: true,
		`[{"any":[{"sql":"fixable"},{"cel":"data.attempts == 1"}]}]`: true,
	} {
		set, problems := c.Compile(decode(t, text))
		if problems != nil {
			t.Fatal(problems)
		}
		if set.NeedsData() != want {
			t.Errorf("%s: NeedsData = %t", text, set.NeedsData())
		}
		e := sample()
		e.Data = nil
		if _, err := set.Explain(t.Context(), e); want && err == nil && !strings.Contains(text, "any") {
			t.Errorf("%s: evaluated without data", text)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	for filters, want := range map[string]string{
		`[]`: `{map[] map[] 0}`,
		`[{"exact":{"subject":"s"}},{"prefix":{"image":"a/"}}]`:                                     `{map[subject:[s]] map[image:a/] 0}`,
		`[{"sql":"severityrank >= 4 AND (fixable = TRUE AND image LIKE 'a/b%')"}]`:                  `{map[fixable:[true]] map[image:a/b] 4}`,
		`[{"sql":"severityrank > 3 OR fixable"}]`:                                                   `{map[] map[] 0}`,
		`[{"sql":"updater IN ('a','b') AND kev"}]`:                                                  `{map[kev:[true] updater:[a b]] map[] 0}`,
		`[{"sql":"NOT (updater = 'a')"}]`:                                                           `{map[] map[] 0}`,
		`[{"any":[{"exact":{"image":"a"}},{"all":[{"exact":{"image":"b"}},{"sql":"fixable"}]}]}]`:   `{map[image:[a b]] map[] 0}`,
		`[{"any":[{"exact":{"image":"a"}},{"sql":"fixable"}]}]`:                                     `{map[] map[] 0}`,
		`[{"cel":"event.severityrank >= 5 && image.startsWith('x') && fixable && updater == 'u'"}]`: `{map[fixable:[true] updater:[u]] map[image:x] 5}`,
	} {
		set, problems := c.Compile(decode(t, filters))
		if problems != nil {
			t.Fatal(problems)
		}
		p := set.Plan()
		if got := fmt.Sprintf("{%v %v %d}", p.Exact, p.Prefix, p.MinRank); got != want {
			t.Errorf("%s: %s, want %s", filters, got, want)
		}
	}
}

// TestPlanIsNecessary holds the plan to its word on random filters and events:
// where the filters are true, the plan allows.
func TestPlanIsNecessary(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	values := map[string][]string{
		"severity": {"High", "Low", "Hi"}, "image": {"a/b", "a/c", "a", "b"}, "updater": {"u", "u2"},
		"fixable": {"true", "false"}, "kev": {"true", "false"}, "severityrank": {"1", "4", "5"},
	}
	names := sortedKeys(values)
	condition := rapid.Custom(func(t *rapid.T) schemas.Filter {
		name := rapid.SampledFrom(names).Draw(t, "name")
		v := rapid.SampledFrom(values[name]).Draw(t, "value")
		switch rapid.IntRange(0, 5).Draw(t, "dialect") {
		case 0:
			return schemas.Filter{Exact: map[string]string{name: v}}
		case 1:
			return schemas.Filter{Prefix: map[string]string{name: v}}
		case 2:
			return schemas.Filter{SQL: fmt.Sprintf(rapid.SampledFrom([]string{
				"%s = '%s'", "'%[2]s' = %[1]s", "%s LIKE '%s%%' AND severityrank >= 4", "%s IN ('%s','x') AND fixable",
				"NOT (%s = '%s')", "severityrank > 3 OR %s = '%s'", "%s = '%s' XOR kev", "EXISTS %s AND fixable = TRUE AND '%s' = 'a'",
			}).Draw(t, "sql"), name, v)}
		case 3:
			return schemas.Filter{CEL: fmt.Sprintf(rapid.SampledFrom([]string{
				"string(event.%s) == '%s'", "severityrank >= 4 && string(event.%s) != '%s'", "fixable || string(event.%s) == '%s'",
				"!(string(event.%s).startsWith('%s'))", "event.image.startsWith('a') && kev && string(event.%s) <= '%s'",
			}).Draw(t, "cel"), name, v)}
		default:
			return schemas.Filter{Suffix: map[string]string{name: v}}
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		filters := rapid.SliceOfN(condition, 1, 3).Draw(t, "filters")
		if rapid.Bool().Draw(t, "join") {
			filters = []schemas.Filter{{Any: filters}}
		}
		set, problems := c.Compile(filters)
		if problems != nil {
			t.Fatal(problems)
		}
		e := &Event{Type: "t", Source: "s", ID: "i", Time: time.Unix(0, 0)}
		if rapid.Bool().Draw(t, "attributes") {
			e.Extensions = schemas.Extensions{
				Severity: new(rapid.SampledFrom(values["severity"]).Draw(t, "s")), SeverityRank: new(rapid.Int32Range(0, 5).Draw(t, "r")),
				Fixable: new(rapid.Bool().Draw(t, "f")), KEV: new(rapid.Bool().Draw(t, "k")),
				Image: new(rapid.SampledFrom(values["image"]).Draw(t, "i")), Updater: new(rapid.SampledFrom(values["updater"]).Draw(t, "u")),
			}
		}
		plan := set.Plan()
		if set.Match(context.Background(), e) && !plan.Allows(e) {
			t.Fatalf("true, but the plan %+v does not allow it", plan)
		}
	})
}

// What is likely to be a mistake is refused when it is written, and goes on
// being evaluated, from left to right, where it was stored before.
func TestLikelyMistakes(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	for _, tc := range []struct {
		filter schemas.Filter
		detail string
		stored bool
	}{
		{schemas.Filter{SQL: "kev AND fixable OR fixable"}, "line 1, column 1: AND, OR and XOR are mixed", true},
		{schemas.Filter{SQL: "TRUE OR TRUE AND kev"}, "mixed", false},
		{schemas.Filter{SQL: "NOT (fixable XOR kev OR kev)"}, "line 1, column 6: AND, OR and XOR are mixed", false},
		{schemas.Filter{CEL: "data.counts.aded > 1"}, `line 1, column 12: no event has a field "aded" there`, false},
		{schemas.Filter{CEL: "data.nothing.here"}, `"nothing"`, false},
		{schemas.Filter{CEL: "data.added.exists(f, f.cve == 'x')"}, `"cve"`, false},
		{schemas.Filter{CEL: "data.added.exists(f, f.package.source.source.colour == 'x')"}, `"colour"`, false},
		{schemas.Filter{CEL: "data.revised.exists(f, f.changes.exists(c, c.feld == 'kev'))"}, `"feld"`, false},
		{schemas.Filter{CEL: "has(data.mainfest) || kev"}, `"mainfest"`, false},
		{schemas.Filter{CEL: "data['mainfest'].digest != ''"}, `"mainfest"`, false},
		{schemas.Filter{CEL: "event.colour == 'red'"}, `"event.colour"`, false},
	} {
		_, problems := c.Compile([]schemas.Filter{tc.filter})
		if tc.detail == "" {
			if problems != nil {
				t.Errorf("%+v: %v", tc.filter, problems)
			}
			continue
		}
		if len(problems) != 1 || !strings.Contains(problems[0].Detail, tc.detail) || problems[0].Hint == "" {
			t.Errorf("%+v: %v, want %s", tc.filter, problems, tc.detail)
		}
		set, problems := c.CompileStored([]schemas.Filter{tc.filter})
		if problems != nil {
			t.Errorf("stored %+v: %v", tc.filter, problems)
			continue
		}
		if got := set.Match(t.Context(), sample()); got != tc.stored || got && !func() bool { p := set.Plan(); return p.Allows(sample()) }() {
			t.Errorf("stored %+v = %t, want %t", tc.filter, got, tc.stored)
		}
	}
	for _, right := range []schemas.Filter{
		{SQL: "(kev AND fixable) OR fixable"}, {SQL: "kev OR fixable OR TRUE"}, {SQL: "kev AND (fixable XOR kev)"},
		{CEL: "data.counts.by_severity.critical > 0"}, {CEL: "data.manifest.labels.team == 'x' || 'team' in data.manifest.labels"},
		{CEL: "data.added.map(f, f.package).exists(p, p.name == 'x')"}, {CEL: "data.added[0].links.exists(l, l.startsWith('https'))"},
		{CEL: "has(data.update) && data.update.first_load"}, {CEL: "data.revised.exists(f, f.id == 'x' && f.epss.score > 0.5)"},
		{CEL: "data.reason.contains('tar')"}, {CEL: "data.manifests.exists(m, m.digest != '')"},
	} {
		if _, problems := c.Compile([]schemas.Filter{right}); problems != nil {
			t.Errorf("%+v: %v", right, problems)
		}
	}
}

// Functions and LIKE count characters, not bytes.
func TestTextIsCharacters(t *testing.T) {
	t.Parallel()
	c := compiler(t, Limits{})
	for sql, want := range map[string]bool{
		"LENGTH('ü€😀') = 3": true, "LENGTH('') = 0": true, "LENGTH('ü') = 2": false,
		"SUBSTRING('üx', 1, 1) = 'ü'": true, "SUBSTRING('üx', 2) = 'x'": true, "SUBSTRING('x€ü', -2, 1) = '€'": true, "SUBSTRING('ü', 2) = ''": false,
		"LEFT('üx', 1) = 'ü'": true, "RIGHT('xü', 1) = 'ü'": true, "LEFT('ü', 9) = 'ü'": true, "LEFT('ü', -1) = 'ü'": false,
		"'ü' LIKE '_'": true, "'ü' LIKE '__'": false, "'aüb' LIKE 'a_b'": true, "'€€x' LIKE '%_x'": true, "'a_b' LIKE 'a\\_b'": true, "'aüb' LIKE 'a\\_b'": false,
		"'50%' LIKE '50\\%'": true, "'50x' LIKE '50\\%'": false, "'' LIKE ''": true, "'x' LIKE ''": false, "'abcabd' LIKE '%ab_'": true, "'ü' NOT LIKE '__'": true,
		"'it\\'s' = \"it's\"": true,
	} {
		set, problems := c.Compile([]schemas.Filter{{SQL: sql}})
		if problems != nil {
			t.Errorf("%s: %v", sql, problems)
			continue
		}
		if got := set.Match(t.Context(), sample()); got != want {
			t.Errorf("%s = %t, want %t", sql, got, want)
		}
	}
}
