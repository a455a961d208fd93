package flags

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

func TestFilters(t *testing.T) {
	t.Parallel()
	c, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		flags Flags
		want  string
	}{
		{Flags{}, `null`},
		{Flags{Severity: "high", Fixable: true, KEV: true, EPSS: 50}, `[{"sql":"severityrank >= 4"},{"exact":{"fixable":"true"}},{"exact":{"kev":"true"}},{"sql":"epss >= 50"}]`},
		{Flags{Image: "registry/team/*", Updater: "osv/go"}, `[{"prefix":{"image":"registry/team/"}},{"exact":{"updater":"osv/go"}}]`},
		{Flags{Image: "*/app:1"}, `[{"suffix":{"image":"/app:1"}}]`},
		{Flags{Image: "reg_istry/*/app:?"}, `[{"sql":"image LIKE 'reg\\_istry/%/app:_'"}]`},
		{Flags{Image: "*"}, `[{"sql":"EXISTS image"}]`},
	} {
		got, err := Filters(tc.flags)
		if err != nil {
			t.Errorf("%+v: %v", tc.flags, err)
			continue
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(got); err != nil || strings.TrimSpace(b.String()) != tc.want {
			t.Errorf("%+v: %s, want %s", tc.flags, b.String(), tc.want)
		}
		if _, problems := c.Compile(got); problems != nil {
			t.Errorf("%s does not compile: %v", b.String(), problems)
		}
	}
	for _, f := range []Flags{{Severity: "worst"}, {EPSS: 101}, {EPSS: -1}, {Image: "x' OR 'a' = 'a"}, {Image: `a\*`}, {Updater: strings.Repeat("x", 3000)}} {
		if got, err := Filters(f); err == nil {
			t.Errorf("%+v: %v", f, got)
		}
	}
	set, problems := c.Compile([]schemas.Filter{{SQL: `image LIKE 'reg\_istry/%/app:_'`}})
	if problems != nil {
		t.Fatal(problems)
	}
	for image, want := range map[string]bool{"reg_istry/team/app:1": true, "regXistry/team/app:1": false, "reg_istry/team/app:12": false} {
		e := &filter.Event{ID: "1", Source: "urn:x", Type: "t", Time: time.Now(), Extensions: schemas.Extensions{Image: &image}}
		if got := set.Match(t.Context(), e); got != want {
			t.Errorf("%s: %t", image, got)
		}
	}
}
