package notifier

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/uuid7"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

var _ delivery.Unreadable = (*eventlog.UnreadableError)(nil)

const (
	breakEvents = `
UPDATE tocsin.event SET manifest_id = manifest_id + 1000000
WHERE id IN (SELECT id FROM tocsin.event WHERE type = '` + schemas.TypeVulnerabilitiesChanged + `' ORDER BY id LIMIT $1)`
	mendEvents = `UPDATE tocsin.event SET manifest_id = manifest_id - 1000000 WHERE manifest_id > 1000000`
)

// Events that can't be rendered, more than a batch of them and the oldest,
// hold no others up; mended, they go out.
func TestRelayPassesByWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := bustest.NewServer(t)
	b := s.Connect()
	w := newWorld(t, func(o *options) { o.Publisher = b })
	w.manifests(t, 2*eventlog.RenderBatch)
	w.mustChange(t, 1)
	const broken = eventlog.RenderBatch + 5
	if _, err := w.Pool.Exec(t.Context(), breakEvents, broken); err != nil {
		t.Fatal(err)
	}
	// And one that is not there at all.
	if _, err := w.Pool.Exec(t.Context(), `INSERT INTO tocsin.outbox (event_id) VALUES ($1)`, uuid7.New()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	until(t, "all others to go out", func() bool { return w.count(t, `SELECT count(*) FROM tocsin.outbox`) == broken+1 })
	if n := w.count(t, `SELECT count(*) FROM tocsin.outbox WHERE attempts > 0 AND due_at > '-infinity' AND reason <> ''`); n != broken+1 {
		t.Errorf("%d events put off with a reason, want %d", n, broken+1)
	}
	if got := len(published(t, s)); got != 2*eventlog.RenderBatch-broken+1 {
		t.Errorf("%d events in the stream, want %d and the digest", got, 2*eventlog.RenderBatch-broken)
	}
	if _, err := w.Pool.Exec(t.Context(), mendEvents); err != nil {
		t.Fatal(err)
	}
	until(t, "the mended to go out", func() bool { return w.count(t, `SELECT count(*) FROM tocsin.outbox`) == 1 })
	if got := len(published(t, s)); got != 2*eventlog.RenderBatch+1 {
		t.Errorf("%d events in the stream, want all %d and the digest", got, 2*eventlog.RenderBatch)
	}
}

// Readers get the others: the delivery queue with the reason, lists without.
func TestEventsBesideOneThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 10)
	w.mustChange(t, 1)
	if _, err := w.Pool.Exec(t.Context(), breakEvents, 1); err != nil {
		t.Fatal(err)
	}
	ids := w.changed(t)
	events, err := w.Log.Events(t.Context(), ids)
	some, ok := errors.AsType[*eventlog.UnreadableError](err)
	if !ok || len(some.Unreadable()) != 1 || some.Unreadable()[ids[0]] == nil || !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("%v, want the first event's reason", err)
	}
	if len(events) != 9 {
		t.Errorf("%d events, want the 9 others", len(events))
	}
	if _, err := w.Log.Event(t.Context(), ids[0]); err == nil {
		t.Error("the broken event was read")
	}
	page, err := w.Log.List(t.Context(), eventlog.Query{Types: []string{schemas.TypeVulnerabilitiesChanged}})
	if err != nil || len(page.Items) != 9 {
		t.Errorf("a list of %d (%v), want the 9 others", len(page.Items), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if events, err := w.Log.Events(ctx, ids); !errors.Is(err, context.Canceled) || events != nil {
		t.Errorf("%d events, %v; want none when asked no more", len(events), err)
	}
}

// Who reads the data is matched with the others, and with the broken one once
// it is mended.
func TestPendingPassesByWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 10)
	s := w.webhook(t, nil, schemas.Filter{CEL: "data.counts.added > 0"})
	digests := w.webhook(t, func(s *schemas.Subscription) { s.Config.Granularity = schemas.GranularityUpdate }, schemas.Filter{CEL: "data.counts.added > 0"})
	w.mustChange(t, 1)
	if _, err := w.Pool.Exec(t.Context(), breakEvents, 1); err != nil {
		t.Fatal(err)
	}
	if turns := w.matchAll(t); turns != 1 {
		t.Errorf("%d turns, want 1", turns)
	}
	if got := w.owed.of(t, s.ID); len(got) != 9 {
		t.Errorf("%d deliveries, want those of the 9 others", len(got))
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.pending_match WHERE attempts = 1 AND reason <> ''`); n != 2 {
		t.Errorf("%d subscriptions wait for the broken event, want both", n)
	}
	due := func() {
		if _, err := w.Pool.Exec(t.Context(), `UPDATE tocsin.pending_match SET due_at = now()`); err != nil {
			t.Fatal(err)
		}
	}
	due()
	if _, err := w.matchPending(t.Context()); err == nil {
		t.Error("no error for the broken event alone")
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.pending_match WHERE attempts = 2`); n != 1 {
		t.Errorf("%d rows tried again, want 1", n)
	}
	if _, err := w.Pool.Exec(t.Context(), mendEvents); err != nil {
		t.Fatal(err)
	}
	due()
	w.matchAll(t)
	if got := w.owed.of(t, s.ID); len(got) != 10 {
		t.Errorf("%d deliveries, want all 10", len(got))
	}
	if got := w.owed.of(t, digests.ID); len(got) != 2 {
		t.Errorf("%d digests, want one of the 9 and one of the tenth", len(got))
	}
}

// changed are the ids of all vulnerabilities_changed events.
func (w *world) changed(t testing.TB) []uuid.UUID {
	t.Helper()
	rows, err := w.Pool.Query(t.Context(), `SELECT id FROM tocsin.event WHERE type = $1 ORDER BY id`, schemas.TypeVulnerabilitiesChanged)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
