package notifier

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/schemas"
)

// Every type of event is published, and delivery is told of it, when its
// transaction is committed: nothing here is found by polling.
func TestEventsArePassedOnWhenCommitted(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	w := newWorld(t, func(o *options) { o.Publisher, o.Waker, o.Poll = b, b, time.Hour })
	w.manifests(t, 1)
	s := w.webhook(t, nil)
	other := w.webhook(t, nil, exactly("id", "none"))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	delivery := b.OnWake(ctx, bus.WakeDelivery)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	state := schemas.SubscriptionState{Subscription: uuid.NewString(), Sink: "https://example.com", Protocol: schemas.ProtocolHTTP}
	digest := schemas.Manifest{Digest: "sha256:" + strings.Repeat("0", 63) + "1"}
	announce := map[string]func(tx pgx.Tx) error{
		schemas.TypeManifestIndexed: func(tx pgx.Tx) error {
			return w.ManifestIndexed(ctx, tx, schemas.IndexedEvent{ManifestID: 1, InventoryID: 1, NamingID: 1, Data: schemas.ManifestIndexed{Manifest: digest}})
		},
		schemas.TypeManifestIndexFailed: func(tx pgx.Tx) error {
			return w.ManifestIndexFailed(ctx, tx, schemas.ManifestIndexFailed{Manifest: digest, Reason: "not a tar"})
		},
		schemas.TypeVulnerabilitiesChanged: func(tx pgx.Tx) error {
			if err := affected(ctx, tx); err != nil {
				return err
			}
			_, err := w.ManifestsChanged(ctx, tx, 1, osv)
			return err
		},
		schemas.TypeManifestRetired: func(tx pgx.Tx) error {
			return w.ManifestRetired(ctx, tx, schemas.RetiredEvent{ManifestID: 1, NamingID: 1, Data: schemas.ManifestRetired{Manifest: digest}})
		},
		schemas.TypeUpdateCompleted: func(tx pgx.Tx) error { return w.UpdateCompleted(ctx, tx, schemas.UpdateCompleted{Update: osv}) },
		schemas.TypeUpdateFailed: func(tx pgx.Tx) error {
			return w.UpdateFailed(ctx, tx, schemas.UpdateFailed{Set: "osv", Reason: "404"})
		},
		schemas.TypeUpdateHeld: func(tx pgx.Tx) error {
			return w.UpdateHeld(ctx, tx, schemas.UpdateHeld{Updater: "osv/go"})
		},
		schemas.TypeUpdateStale: func(tx pgx.Tx) error {
			return w.UpdateStale(ctx, tx, schemas.UpdateStale{Set: "osv", Reason: "404"})
		},
		schemas.TypeSubscriptionFailing:   func(tx pgx.Tx) error { return w.SubscriptionFailing(ctx, tx, state) },
		schemas.TypeSubscriptionRecovered: func(tx pgx.Tx) error { return w.SubscriptionRecovered(ctx, tx, state) },
		schemas.TypeSubscriptionDisabled: func(tx pgx.Tx) error {
			about := state
			about.Subscription = other.ID
			return w.SubscriptionDisabled(ctx, tx, about)
		},
		schemas.TypeJobRejected: func(tx pgx.Tx) error {
			return w.JobRejected(ctx, tx, schemas.JobRejected{Job: uuid.NewString(), Kind: "manifest", Reason: "not JSON"})
		},
		schemas.TypePing: nil, // sent below: it goes to one subscription alone
	}
	hinted := func(what string) {
		t.Helper()
		select {
		case <-delivery:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: delivery was told nothing", what)
		}
	}
	for _, typ := range schemas.Types {
		do, ok := announce[typ]
		if !ok && typ != schemas.TypeManifestsChanged { // comes with the change
			t.Errorf("nobody announces %s here", typ)
		}
		if do == nil {
			continue
		}
		w.tx(t, do)
		hinted(typ)
		until(t, typ+" to be published", func() bool { return w.count(t, `SELECT count(*) FROM tocsin.outbox`) == 0 })
		if n := w.count(t, `SELECT count(*) FROM tocsin.event WHERE type = $1`, typ); n != 1 {
			t.Errorf("%s: %d events", typ, n)
		}
	}
	if _, err := w.Ping(ctx, "", s.ID); err != nil {
		t.Fatal(err)
	}
	hinted(schemas.TypePing)
	// A filter over the data is tried at once, and its delivery made known.
	data := w.webhook(t, nil, schemas.Filter{CEL: `size(data) > 0`})
	w.tx(t, announce[schemas.TypeUpdateFailed])
	hinted("an event for a filter over data")
	until(t, "the delivery of a filter over data", func() bool { return len(w.owed.of(t, data.ID)) == 1 })
	hinted("the delivery of a filter over data")
}
