package notifier

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/schemas"
)

// What happens to a subscription is delivered to its owner, and to who has none,
// but not to another owner: it names the subscription and its host.
func TestOwnersDoNotHearOfOneAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	create := func(owner string) schemas.Subscription {
		s, _, err := w.subs.Create(t.Context(), owner, schemas.Subscription{Name: owner, Sink: "https://" + owner + "hooks.example/", Protocol: schemas.ProtocolHTTP})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	about, mine, theirs, everybodys := create("a"), create("a"), create("b"), create("")
	state := schemas.SubscriptionState{Subscription: about.ID, Name: about.Name, Sink: about.Sink, Protocol: about.Protocol}
	for n, announce := range []func(tx pgx.Tx) error{
		func(tx pgx.Tx) error { return w.SubscriptionFailing(t.Context(), tx, state) },
		func(tx pgx.Tx) error { return w.SubscriptionRecovered(t.Context(), tx, state) },
		func(tx pgx.Tx) error { return w.SubscriptionDisabled(t.Context(), tx, state) },
	} {
		w.tx(t, announce)
		for s, want := range map[*schemas.Subscription]int{&about: 0, &mine: n + 1, &theirs: 0, &everybodys: n + 1} {
			if got := len(w.owed.of(t, s.ID)); got != want {
				t.Errorf("event %d: %d deliveries to a subscription of owner %q, want %d", n, got, s.Owner, want)
			}
		}
	}
}
