package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

func TestEventsOfAChangeReachWhoWantsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *options) { o.Batch = 7 }) // many batches
	w.manifests(t, 60)
	everything := w.webhook(t, nil)
	high := w.webhook(t, nil, schemas.Filter{SQL: "severityrank >= 4"})
	team := w.webhook(t, nil, schemas.Filter{Prefix: map[string]string{"image": "registry/team1/"}}, exactly("fixable", "true"))
	one := w.webhook(t, nil, exactly("image", "registry/team1/app:4"))
	kev := w.webhook(t, nil, exactly("kev", "true"))
	epss := w.webhook(t, nil, schemas.Filter{CEL: "epss > 40"})
	elsewhere := w.webhook(t, nil, exactly("updater", "debian"))
	failures := w.webhook(t, func(s *schemas.Subscription) { s.Types = []string{schemas.TypeUpdateFailed} })

	n, err := w.change(t.Context(), 1, nil)
	if err != nil || n != 60 {
		t.Fatalf("%d events, %v", n, err)
	}
	want := map[string]int{everything.ID: 60, high.ID: 20, team.ID: 10, one.ID: 1, kev.ID: 8, epss.ID: 12, elsewhere.ID: 0, failures.ID: 0}
	for id, n := range want {
		if got := w.owed.of(t, id); len(got) != n {
			s, _ := w.subs.Get(t.Context(), "", id)
			t.Errorf("%v: %d deliveries, want %d", s.Filters, len(got), n)
		}
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.outbox`); n != 61 {
		t.Errorf("%d in the outbox, want 60 events and a digest", n)
	}

	ids := w.owed.of(t, everything.ID)
	events, err := w.Log.Events(t.Context(), ids)
	if err != nil || len(events) != 60 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	last := int32(5)
	for _, id := range ids {
		e := events[id]
		if err := e.Validate(); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		rank := e.Extensions()["severityrank"].(int32)
		if rank > last {
			t.Errorf("event %s of rank %d comes after rank %d", id, rank, last)
		}
		last = rank
		if id.Version() != 7 || e.ID() != id.String() {
			t.Errorf("id %s of version %d", e.ID(), id.Version())
		}
	}
	e := events[w.owed.of(t, one.ID)[0]]
	x := e.Extensions()
	if e.Subject() != "sha256:"+strings.Repeat("0", 63)+"4" || x["image"] != "registry/team1/app:4" || x["severity"] != "High" || x["added"] != int32(2) ||
		x["fixable"] != true || x["updater"] != "osv/go" || x["firstload"] != false || x["epss"] != nil {
		t.Errorf("event %s", e)
	}
	if e.DataSchema() != "https://tocsin.example/schemas/dev.tocsin.manifest.vulnerabilities_changed.v1.json" {
		t.Errorf("dataschema %s", e.DataSchema())
	}
	if !strings.HasPrefix(e.Source(), "urn:tocsin:") {
		t.Errorf("source %s", e.Source())
	}
}

func TestNothingOfARolledBackTransactionStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 20)
	w.webhook(t, nil)
	w.webhook(t, nil, schemas.Filter{CEL: "data.counts.added > 0"})
	w.webhook(t, func(s *schemas.Subscription) { s.Config.Granularity = schemas.GranularityUpdate }, exactly("fixable", "true"))
	if _, err := w.change(t.Context(), 1, errKilled); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	// The enqueuer fails between the events and their deliveries.
	w.Enqueuer = failing{}
	if _, err := w.change(t.Context(), 1, nil); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	// The server ends the connection between them.
	w.Enqueuer = cut{w.owed}
	if _, err := w.change(t.Context(), 1, nil); err == nil {
		t.Fatal("committed on a connection that was cut")
	}
	for _, table := range []string{"tocsin.event", "tocsin.outbox", "tocsin.pending_match", "owed"} {
		if n := w.count(t, `SELECT count(*) FROM `+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
	w.Enqueuer = w.owed
	if n, err := w.change(t.Context(), 1, nil); err != nil || n != 20 {
		t.Errorf("the next try: %d, %v", n, err)
	}
}

func TestEveryAnnouncement(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 1)
	all, broken := w.webhook(t, nil), w.webhook(t, nil)
	data := w.webhook(t, nil, schemas.Filter{CEL: `has(data.reason) && data.reason.contains("tar")`})
	digest := "sha256:" + strings.Repeat("0", 63) + "1"
	state := schemas.SubscriptionState{Subscription: broken.ID, Sink: broken.Sink, Protocol: broken.Protocol, Reason: "Post " + broken.Sink + ": 410"}
	ctx := t.Context()
	for typ, do := range map[string]func(tx pgx.Tx) error{
		schemas.TypeManifestIndexed: func(tx pgx.Tx) error {
			return w.ManifestIndexed(ctx, tx, schemas.IndexedEvent{ManifestID: 1, InventoryID: 1, NamingID: 1,
				Data: schemas.ManifestIndexed{Manifest: schemas.Manifest{Digest: digest, Names: []string{"a/b:1"}}, Packages: 3}})
		},
		schemas.TypeManifestIndexFailed: func(tx pgx.Tx) error {
			return w.ManifestIndexFailed(ctx, tx, schemas.ManifestIndexFailed{Manifest: schemas.Manifest{Digest: digest}, Reason: "not a tar"})
		},
		schemas.TypeManifestRetired: func(tx pgx.Tx) error {
			return w.ManifestRetired(ctx, tx, schemas.RetiredEvent{ManifestID: 1, NamingID: 1,
				Data: schemas.ManifestRetired{Manifest: schemas.Manifest{Digest: digest, Names: []string{"a/b:1"}, Superseded: true}, SupersededAt: osv.Date}})
		},
		schemas.TypeUpdateCompleted: func(tx pgx.Tx) error { return w.UpdateCompleted(ctx, tx, schemas.UpdateCompleted{Update: osv}) },
		schemas.TypeUpdateFailed: func(tx pgx.Tx) error {
			return w.UpdateFailed(ctx, tx, schemas.UpdateFailed{Set: "osv", Reason: "404"})
		},
		schemas.TypeJobRejected: func(tx pgx.Tx) error {
			return w.JobRejected(ctx, tx, schemas.JobRejected{Job: uuid.NewString(), Kind: "manifest", Reason: "not JSON", Payload: strings.Repeat("x", 5000)})
		},
		schemas.TypeSubscriptionFailing:   func(tx pgx.Tx) error { return w.SubscriptionFailing(ctx, tx, state) },
		schemas.TypeSubscriptionRecovered: func(tx pgx.Tx) error { return w.SubscriptionRecovered(ctx, tx, state) },
	} {
		before, self := len(w.owed.of(t, all.ID)), len(w.owed.of(t, broken.ID))
		w.tx(t, do)
		if got := len(w.owed.of(t, all.ID)) - before; got != 1 {
			t.Errorf("%s: %d deliveries", typ, got)
		}
		wantSelf := 1
		if strings.Contains(typ, ".subscription.") {
			wantSelf = 0
		}
		if got := len(w.owed.of(t, broken.ID)) - self; got != wantSelf {
			t.Errorf("%s: %d deliveries to the subscription it is about, want %d", typ, got, wantSelf)
		}
	}
	if n := len(w.owed.of(t, data.ID)); n != 0 {
		t.Errorf("%d deliveries by a filter over the data, inside the transaction", n)
	}
	w.matchAll(t)
	if n := len(w.owed.of(t, data.ID)); n != 1 {
		t.Errorf("%d deliveries by a filter over the data, want 1", n)
	}
	page, err := w.Log.List(ctx, eventlog.Query{})
	if err != nil || len(page.Items) != 8 {
		t.Fatalf("%d events, %v", len(page.Items), err)
	}
	for _, e := range page.Items {
		validateEvent(t, e)
	}

	w.tx(t, func(tx pgx.Tx) error { return w.SubscriptionDisabled(ctx, tx, state) })
	w.tx(t, func(tx pgx.Tx) error { return w.SubscriptionDisabled(ctx, tx, state) }) // again: nothing
	s, err := w.subs.Get(ctx, "", broken.ID)
	if err != nil || s.State != schemas.StateDisabled || s.Reason != state.Reason {
		t.Errorf("%+v, %v", s, err)
	}
	page, err = w.Log.List(ctx, eventlog.Query{Types: []string{schemas.TypeSubscriptionDisabled}})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%d events, %v", len(page.Items), err)
	}
	var got schemas.SubscriptionState
	if err := json.Unmarshal(page.Items[0].Data(), &got); err != nil || got.Sink != "https://example.com" || got.Reason != "Post https://example.com: 410" {
		t.Errorf("%+v, %v", got, err)
	}
	n := len(w.owed.of(t, broken.ID))
	w.tx(t, func(tx pgx.Tx) error { return w.UpdateFailed(ctx, tx, schemas.UpdateFailed{Set: "osv", Reason: "404"}) })
	if len(w.owed.of(t, broken.ID)) != n {
		t.Error("a disabled subscription was matched")
	}
}

// TestMatchingIsExactAcrossReplicas commits subscriptions on one replica and
// expects the other's very next transaction to match them.
func TestMatchingIsExactAcrossReplicas(t *testing.T) {
	t.Parallel()
	a := newWorld(t)
	b := replica(t, a.Pool)
	emit := func(w *world) {
		w.tx(t, func(tx pgx.Tx) error {
			return w.UpdateFailed(t.Context(), tx, schemas.UpdateFailed{Set: "osv", Reason: "404"})
		})
	}
	emit(b)
	for i := range 10 {
		s := a.webhook(t, nil, exactly("type", schemas.TypeUpdateFailed))
		emit(b)
		if n := len(a.owed.of(t, s.ID)); n != 1 {
			t.Fatalf("round %d: %d deliveries to what was just created", i, n)
		}
		s.Filters = []schemas.Filter{exactly("type", schemas.TypeUpdateCompleted)}
		if _, err := a.subs.Replace(t.Context(), "", s.ID, s); err != nil {
			t.Fatal(err)
		}
		emit(b)
		if n := len(a.owed.of(t, s.ID)); n != 1 {
			t.Fatalf("round %d: %d deliveries after the filters changed", i, n)
		}
		if err := a.subs.Delete(t.Context(), "", s.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUncommittedSubscriptionsAreNotRemembered rolls back a transaction that
// disabled a subscription and announced it.
func TestUncommittedSubscriptionsAreNotRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.webhook(t, nil)
	ctx := t.Context()
	fail := func(tx pgx.Tx) error { return w.UpdateFailed(ctx, tx, schemas.UpdateFailed{Set: "osv", Reason: "404"}) }
	w.tx(t, fail)
	for _, nested := range []bool{false, true} {
		err := pgx.BeginFunc(ctx, w.Pool, func(tx pgx.Tx) error {
			if nested {
				var err error
				if tx, err = tx.Begin(ctx); err != nil {
					return err
				}
			}
			if err := w.SubscriptionDisabled(ctx, tx, schemas.SubscriptionState{Subscription: s.ID}); err != nil {
				return err
			}
			if err := fail(tx); err != nil { // sees its own write
				return err
			}
			return errKilled
		})
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		before := len(w.owed.of(t, s.ID))
		w.tx(t, fail)
		if got := len(w.owed.of(t, s.ID)) - before; got != 1 {
			t.Errorf("nested %t: %d deliveries after the rollback", nested, got)
		}
	}
}

// cut is an Enqueuer whose connection ends while it writes.
type cut struct{ owedTable }

func (c cut) Enqueue(ctx context.Context, tx pgx.Tx, owed []schemas.NewDelivery) error {
	if err := c.owedTable.Enqueue(ctx, tx, owed); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
	return err
}

type failing struct{}

func (failing) Enqueue(_ context.Context, _ pgx.Tx, owed []schemas.NewDelivery) error {
	return errKilled
}
