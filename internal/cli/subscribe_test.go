package cli

import (
	"testing"

	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// What people subscribe to leaves superseded images out, unless they ask for
// them; but it does not leave out that one was retired.
func TestSubscribeLeavesSupersededOut(t *testing.T) {
	t.Parallel()
	compiler, err := filter.NewCompiler(filter.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	event := func(typ string, superseded bool) *filter.Event {
		e := &filter.Event{ID: "1", Source: "urn:test", Type: typ}
		if superseded {
			e.Extensions.Superseded = &yes
		}
		return e
	}
	for _, c := range []struct {
		name string
		cmd  subscribeCmd
		typ  string
		want bool // of a superseded image
	}{
		{"by default", subscribeCmd{}, schemas.TypeVulnerabilitiesChanged, false},
		{"asked for", subscribeCmd{wishes: wishes{Superseded: true}}, schemas.TypeVulnerabilitiesChanged, true},
		{"all types", subscribeCmd{wishes: wishes{Types: []string{"all"}}}, schemas.TypeManifestIndexed, false},
		{"all types, retired", subscribeCmd{wishes: wishes{Types: []string{"all"}}}, schemas.TypeManifestRetired, true},
		{"retired", subscribeCmd{wishes: wishes{Types: []string{"retired"}}}, schemas.TypeManifestRetired, true},
		{"Clair's notifications", subscribeCmd{Mode: schemas.ModeClair}, schemas.TypeVulnerabilitiesChanged, true},
	} {
		c.cmd.URL = "https://example.com/hook"
		s, err := c.cmd.subscription()
		if err != nil {
			t.Fatal(err)
		}
		set, problems := compiler.Compile(s.Filters)
		if problems != nil {
			t.Fatalf("%s: %v", c.name, problems)
		}
		if got := set.Match(t.Context(), event(c.typ, true)); got != c.want {
			t.Errorf("%s: the event of a superseded image passes: %t, want %t", c.name, got, c.want)
		}
		if !set.Match(t.Context(), event(c.typ, false)) {
			t.Errorf("%s: the event of another image does not pass", c.name)
		}
	}
}
