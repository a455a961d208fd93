package filter

import (
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// A filter on the image's name holds when it holds for any of them, whatever
// language it is in.
func TestAnyName(t *testing.T) {
	t.Parallel()
	c, err := NewCompiler(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	first := "dev.example/app:1"
	event := func() *Event {
		return &Event{
			ID: "1", Type: schemas.TypeManifestIndexed, Extensions: schemas.Extensions{Image: &first}, Data: []byte(`{"packages":3}`),
			Names: []string{first, "prod.example/app:1", "prod.example/app:latest"},
		}
	}
	for _, tc := range []struct {
		filter schemas.Filter
		want   bool
	}{
		{schemas.Filter{Prefix: map[string]string{"image": "dev.example/"}}, true},
		{schemas.Filter{Prefix: map[string]string{"image": "prod.example/"}}, true},
		{schemas.Filter{Prefix: map[string]string{"image": "test.example/"}}, false},
		{schemas.Filter{Exact: map[string]string{"image": "prod.example/app:1"}}, true},
		{schemas.Filter{Suffix: map[string]string{"image": ":latest"}}, true},
		{schemas.Filter{Suffix: map[string]string{"image": ":2"}}, false},
		{schemas.Filter{SQL: "image LIKE 'prod.example/%'"}, true},
		{schemas.Filter{SQL: "image LIKE 'test.example/%'"}, false},
		{schemas.Filter{CEL: "image.endsWith(':latest') && data.packages == 3"}, true},
		{schemas.Filter{CEL: "image.startsWith('test.')"}, false},
		// One name has to do both.
		{schemas.Filter{CEL: "image.startsWith('dev.') && image.endsWith(':latest')"}, false},
	} {
		set, problems := c.Compile([]schemas.Filter{tc.filter})
		if len(problems) > 0 {
			t.Fatalf("%+v: %+v", tc.filter, problems)
		}
		e := event()
		plan := set.Plan()
		got, err := set.Explain(t.Context(), e)
		if set.Match(t.Context(), event()) != tc.want || got != tc.want || err != nil || tc.want && !plan.Allows(e) {
			t.Errorf("%+v: want %t, Explain = %t, %v, allowed %t", tc.filter, tc.want, got, err, plan.Allows(e))
		}
		if *e.Extensions.Image != first {
			t.Errorf("the event is now of %s", *e.Extensions.Image)
		}
	}
}
