package jsonlimit_test

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	"tocsin.dev/tocsin/internal/jsonlimit"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	l := jsonlimit.Limits{Items: 3, Values: 10, Depth: 2}
	for text, want := range map[string]string{
		`{}`: "", `[1,2,3]`: "", `[1,2,3,4]`: "more than 3 elements", `{"a":1,"b":2,"c":3,"d":4}`: "more than 3 elements",
		`["a,b,c,d,e","\",,,,",3]`: "", `[[1],[2],[3]]`: "", `[[[1]]]`: "more than 2 deep", `"[[[[[["`: "",
		`[[1,2,3],[1,2,3],[1,2,3]]`: "more than 10 values", `]]]}}}`: "", `"unterminated \`: "", ``: "",
	} {
		err := l.Check([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	var v any
	if err := l.Unmarshal([]byte(`[1,2,`), &v); err == nil {
		t.Error("half a text was decoded")
	}
	var over *jsonlimit.Error
	if err := (jsonlimit.Limits{}).Unmarshal([]byte("["+strings.Repeat("{},", 2000)+"{}]"), &v); !errors.As(err, &over) {
		t.Errorf("%v, want the limit of elements", err)
	}
}

// Four megabytes of empty objects cost nothing.
func TestCheckAllocatesNothing(t *testing.T) {
	text := []byte("[" + strings.Repeat("{},", 1<<20) + "{}]")
	l := jsonlimit.Limits{Items: 1 << 30, Values: 1 << 30}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := l.Check(text); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes allocated", n)
	}
}

// What is within the limits by Check is within them as decoded.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2,{"b":"],["}]}`, `[[[]]]`, `{"a":{},"b":{}}`, `"\\\""`, `[null,true,1e5]`} {
		f.Add([]byte(seed))
	}
	l := jsonlimit.Limits{Items: 4, Values: 16, Depth: 3}
	f.Fuzz(func(t *testing.T, text []byte) {
		var v any
		if json.Unmarshal(text, &v) != nil {
			_ = l.Check(text) // must return
			return
		}
		values, ok := 0, true
		var walk func(v any, depth int)
		walk = func(v any, depth int) {
			values++
			n := 0
			switch v := v.(type) {
			case []any:
				n = len(v)
				for _, e := range v {
					walk(e, depth+1)
				}
				ok = ok && depth < 3
			case map[string]any:
				n = len(v) // duplicates are gone: at most what Check counted
				for _, e := range v {
					walk(e, depth+1)
				}
				ok = ok && depth < 3
			}
			ok = ok && n <= 4
		}
		walk(v, 0)
		if err := l.Check(text); err == nil && !ok {
			t.Errorf("%q is let through", text)
		}
	})
}
