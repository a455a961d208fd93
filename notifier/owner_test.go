package notifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
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

// On NATS everybody reads: there an owner's event names neither the subscription
// nor its host. In the log it is whole, for its owner and for who sees all.
func TestOwnersEventsOnNATS(t *testing.T) {
	t.Parallel()
	server := bustest.NewServer(t)
	w := newWorld(t, func(o *options) { o.Publisher = server.Connect() })
	s, _, err := w.subs.Create(t.Context(), "a", schemas.Subscription{Name: "canary", Sink: "https://canary.example/", Protocol: schemas.ProtocolHTTP})
	if err != nil {
		t.Fatal(err)
	}
	w.tx(t, func(tx pgx.Tx) error {
		return w.SubscriptionFailing(t.Context(), tx, schemas.SubscriptionState{
			Subscription: s.ID, Name: s.Name, Sink: s.Sink, Protocol: s.Protocol, Reason: "canary.example: connection refused", Failures: 7,
		})
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	until(t, "the event to go out", func() bool { return w.count(t, `SELECT count(*) FROM tocsin.outbox`) == 0 })
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	out := published(t, server)
	if len(out) != 1 {
		t.Fatalf("%d messages, want 1", len(out))
	}
	for _, e := range out {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("canary")) || !bytes.Contains(text, []byte(s.ID)) || !bytes.Contains(text, []byte(`"failures":7`)) {
			t.Errorf("on NATS: %s", text)
		}
	}
	for owner, want := range map[string]int{"a": 1, "b": 0, "": 1} {
		page, err := w.Log.List(t.Context(), eventlog.Query{Owner: owner, Types: []string{schemas.TypeSubscriptionFailing}})
		if err != nil || len(page.Items) != want {
			t.Errorf("owner %q sees %d events, %v; want %d", owner, len(page.Items), err, want)
		}
		for _, e := range page.Items {
			if !bytes.Contains(e.Data(), []byte("canary.example")) {
				t.Errorf("owner %q sees %s", owner, e.Data())
			}
		}
	}
}

// An owner may have so many subscriptions, and creations at the same time count.
func TestOwnersHaveOnlySoMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.subs.MaxPerOwner = 3
	var wg sync.WaitGroup
	var made, refused atomic.Int32
	create := func(owner, key string) {
		_, created, err := w.subs.Create(t.Context(), owner, schemas.Subscription{Key: key, Sink: "https://x.example/", Protocol: schemas.ProtocolHTTP})
		switch {
		case errors.Is(err, problem.Conflict):
			refused.Add(1)
		case err != nil:
			t.Error(err)
		case created:
			made.Add(1)
		}
	}
	for i := range 8 {
		wg.Go(func() { create("a", fmt.Sprint(i)) })
	}
	wg.Wait()
	if made.Load() != 3 || refused.Load() != 5 {
		t.Errorf("%d made, %d refused; want 3 and 5", made.Load(), refused.Load())
	}
	create("b", "")
	if made.Load() != 4 {
		t.Error("another owner was refused")
	}
}

// A dry run of a filter that costs much ends, and says how far it came.
func TestDryRunsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 100)
	w.mustChange(t, 1)
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 60), ",") + "]"
	dear := schemas.Subscription{Filters: []schemas.Filter{{CEL: fmt.Sprintf("data.counts.added >= 0 && %s.all(a, %s.all(b, [1,2,3,4,5,6,7,8,9].all(c, a + b + c > 0)))", list, list)}}}
	dry, err := w.DryRun(t.Context(), "", dear, 0)
	if err != nil || !dry.Stopped || dry.Events == 0 || dry.Events >= 100 {
		t.Errorf("%+v, %v; want one that was stopped on its way", dry, err)
	}
	if dry, err = w.DryRun(t.Context(), "", schemas.Subscription{}, 0); err != nil || dry.Stopped || dry.Events < 100 {
		t.Errorf("a cheap one: %+v, %v", dry, err)
	}
}
