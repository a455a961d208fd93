package notifier

import (
	"fmt"
	"testing"

	"tocsin.dev/tocsin/schemas"
)

// An owner whose filters cost much is matched over many turns, and another's
// deliveries do not wait for that. Nothing is left out.
func TestOneOwnersFiltersDoNotDelayAnothers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const images = 40
	w.manifests(t, images)
	subscribe := func(owner, name string, filter schemas.Filter) schemas.Subscription {
		t.Helper()
		s, _, err := w.subs.Create(t.Context(), owner, schemas.Subscription{
			Name: name, Sink: "https://" + name + ".example/", Protocol: schemas.ProtocolHTTP, Types: []string{schemas.TypeVulnerabilitiesChanged}, Filters: []schemas.Filter{filter},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var dear []schemas.Subscription
	list := "[" + "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49" + "]"
	for i := range 4 {
		text := fmt.Sprintf("%s.all(a, %s.all(b, a + b + %d >= 0)) && data.counts.added > 0", list, list, i)
		dear = append(dear, subscribe("greedy", fmt.Sprint("greedy", i), schemas.Filter{CEL: text}))
	}
	other := subscribe("modest", "modest", schemas.Filter{CEL: "data.counts.added > 0"})
	w.mustChange(t, 1)
	if _, err := w.matchPending(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(w.owed.of(t, other.ID)); n != images {
		t.Errorf("after the first turn %d deliveries of the other owner, want all %d", n, images)
	}
	early := 0
	for _, s := range dear {
		early += len(w.owed.of(t, s.ID))
	}
	if early == len(dear)*images {
		t.Error("the first turn matched everything: the filters cost too little for this test")
	}
	turns := w.matchAll(t)
	for _, s := range dear {
		got := w.owed.of(t, s.ID)
		seen := map[string]bool{}
		for _, id := range got {
			seen[fmt.Sprint(id)] = true
		}
		if len(got) != images || len(seen) != images {
			t.Errorf("%s: %d deliveries of %d events after %d turns, want %d of each", s.Name, len(got), len(seen), turns, images)
		}
	}
}
