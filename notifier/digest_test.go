package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

// digestFor is the data of the one digest a subscription is owed.
func digestFor(t *testing.T, w *world, subscription string) (uuid.UUID, schemas.ManifestsChanged) {
	t.Helper()
	ids := w.owed.of(t, subscription)
	if len(ids) != 1 {
		t.Fatalf("%d deliveries, want one digest", len(ids))
	}
	e, err := w.Log.Event(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if e.Type() != schemas.TypeManifestsChanged {
		t.Fatalf("a delivery of type %s", e.Type())
	}
	validateEvent(t, e)
	var d schemas.ManifestsChanged
	if err := json.Unmarshal(e.Data(), &d); err != nil {
		t.Fatal(err)
	}
	if want := "https://tocsin.example/api/v1/events/" + e.ID() + "/manifests"; d.Links.All != want {
		t.Errorf("links.all %s, want %s", d.Links.All, want)
	}
	return ids[0], d
}

// manifestsOf pages through a digest.
func manifestsOf(t *testing.T, w *world, id uuid.UUID, limit int) (all []schemas.ChangedManifest) {
	t.Helper()
	for cursor := ""; ; {
		page, err := w.Manifests(t.Context(), id, cursor, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) > limit {
			t.Fatalf("a page of %d, over %d", len(page.Items), limit)
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}

func TestDigests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *options) { o.Batch = 50 })
	w.manifests(t, 150)
	digests := func(s *schemas.Subscription) { s.Config.Granularity = schemas.GranularityUpdate }
	all := w.webhook(t, digests)
	fixable, same := w.webhook(t, digests, exactly("fixable", "true")), w.webhook(t, digests, exactly("fixable", "true"))
	nothing := w.webhook(t, digests, exactly("updater", "debian"))
	failures := w.webhook(t, func(s *schemas.Subscription) { digests(s); s.Types = []string{schemas.TypeUpdateFailed} })
	both := w.webhook(t, func(s *schemas.Subscription) {
		s.Types = []string{schemas.TypeVulnerabilitiesChanged, schemas.TypeManifestsChanged}
	})
	events := w.webhook(t, nil)
	w.mustChange(t, 1)

	id, d := digestFor(t, w, all.ID)
	if d.Total != 150 || len(d.Manifests) != 100 || !d.Truncated || d.Counts.Added != 300 || d.Counts.Revised != 150 ||
		d.Counts.BySeverity != (schemas.BySeverity{Unknown: 25, Negligible: 25, Low: 25, Medium: 25, High: 25, Critical: 25}) {
		t.Errorf("digest of all: %d manifests, %d listed, %+v", d.Total, len(d.Manifests), d.Counts)
	}
	listed := manifestsOf(t, w, id, 40)
	if len(listed) != 150 || listed[0] != d.Manifests[0] || listed[99] != d.Manifests[99] || listed[0].Severity != "Critical" || listed[149].Severity != "Unknown" {
		t.Errorf("%d manifests in pages, from %+v to %+v", len(listed), listed[0], listed[len(listed)-1])
	}
	id, d = digestFor(t, w, fixable.ID)
	if other := w.owed.of(t, same.ID); len(other) != 1 || other[0] != id {
		t.Errorf("the same filters got another digest: %v and %v", id, other)
	}
	if d.Total != 75 || d.Truncated || d.Counts.Added != 150 || d.Counts.BySeverity != (schemas.BySeverity{Unknown: 25, Low: 25, High: 25}) {
		t.Errorf("digest of the fixable: %d manifests, %+v", d.Total, d.Counts)
	}
	for _, m := range manifestsOf(t, w, id, 40) {
		if !m.Fixable {
			t.Errorf("%+v is not fixable", m)
		}
	}
	e, err := w.Log.Event(t.Context(), id)
	if x := e.Extensions(); err != nil || x["severityrank"] != int32(4) || x["fixable"] != true || x["added"] != int32(150) || x["updater"] != "osv/go" {
		t.Errorf("attributes %v, %v", x, err)
	}
	for what, n := range map[string]int{nothing.ID: 0, failures.ID: 0, both.ID: 151, events.ID: 150} {
		if got := len(w.owed.of(t, what)); got != n {
			t.Errorf("%s: %d deliveries, want %d", what, got, n)
		}
	}
	// The digest of some is not everybody's.
	page, err := w.Log.List(t.Context(), eventlog.Query{Types: []string{schemas.TypeManifestsChanged}})
	if err != nil || len(page.Items) != 1 {
		t.Errorf("%d digests in the list, %v", len(page.Items), err)
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.outbox`); n != 151 {
		t.Errorf("%d in the outbox, want 150 events and one digest", n)
	}
}

// TestFiltersOverDataOfAChange matches after the change has been committed.
func TestFiltersOverDataOfAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *options) { o.Batch = 50 })
	w.manifests(t, 600)
	filter := schemas.Filter{CEL: `fixable && data.added.exists(f, f.package.name.endsWith("4") && f.normalized_severity == "Critical")`}
	events := w.webhook(t, nil, filter)
	digest := w.webhook(t, func(s *schemas.Subscription) { s.Config.Granularity = schemas.GranularityUpdate }, filter)
	gone := w.webhook(t, nil, filter)
	w.mustChange(t, 1)
	if n := w.count(t, `SELECT count(*) FROM tocsin.pending_match`); n != 3 {
		t.Fatalf("%d pending, want 3", n)
	}
	if err := w.subs.Delete(t.Context(), "", gone.ID); err != nil {
		t.Fatal(err)
	}
	if n := len(w.owed.of(t, events.ID)); n != 0 {
		t.Errorf("%d deliveries before the data was looked at", n)
	}
	// A batch that fails is tried again, and nothing of it is owed twice.
	w.Enqueuer = failing{}
	failures := 0
	for worked := true; worked; {
		var err error
		if worked, err = w.matchPending(t.Context()); err != nil {
			failures++
		}
	}
	if failures == 0 {
		t.Error("no failure of an enqueuer that always fails")
	}
	w.Enqueuer = w.owed
	if _, err := w.Pool.Exec(t.Context(), `UPDATE tocsin.pending_match SET due_at = now()`); err != nil {
		t.Fatal(err)
	}
	if turns := w.matchAll(t); turns < 3 {
		t.Errorf("done in %d turns: not in batches", turns)
	}
	if n := len(w.owed.of(t, events.ID)); n != 60 {
		t.Errorf("%d deliveries, want 60", n)
	}
	id, d := digestFor(t, w, digest.ID)
	if d.Total != 60 || len(manifestsOf(t, w, id, 25)) != 60 {
		t.Errorf("digest of %d manifests, want 60", d.Total)
	}
	if n := len(w.owed.of(t, gone.ID)); n != 0 {
		t.Errorf("%d deliveries to a deleted subscription", n)
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.pending_match`); n != 0 {
		t.Errorf("%d still pending", n)
	}
}

// TestPendingEventsAreRenderedOnce matches many filters with the same events.
func TestPendingEventsAreRenderedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 64)
	counted := &counting{fewFindings: fewFindings{w.Pool}}
	w.Log.Renderer = counted
	var subs []schemas.Subscription
	for i := range 20 {
		subs = append(subs, w.webhook(t, nil, schemas.Filter{CEL: fmt.Sprintf(`fixable && data.counts.added > 0 && severityrank != %d`, i%6)}))
	}
	w.mustChange(t, 1)
	if turns := w.matchAll(t); turns != 1 {
		t.Errorf("%d turns", turns)
	}
	if counted.keys != 32 {
		t.Errorf("%d events rendered, of which 32 are wanted", counted.keys)
	}
	for i, s := range subs {
		want := 32
		if i%6%2 == 0 {
			want -= w.count(t, `SELECT count(*) FROM tocsin.manifest WHERE id % 6 = $1`, i%6)
		}
		if got := len(w.owed.of(t, s.ID)); got != want {
			t.Errorf("%s: %d deliveries, want %d", s.Filters[0].CEL, got, want)
		}
	}
}

// counting counts what is rendered.
type counting struct {
	fewFindings
	keys int
}

func (c *counting) RenderChanges(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error) {
	c.keys += len(keys)
	return c.fewFindings.RenderChanges(ctx, keys, limit)
}

func TestClairD8_NotificationsOfAddedAndRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 30)
	clair := func(s *schemas.Subscription) {
		s.Config.Granularity, s.Config.Mode = schemas.GranularityUpdate, schemas.ModeClair
	}
	quay := w.webhook(t, clair, exactly("fixable", "true"))
	other := w.webhook(t, clair, exactly("fixable", "true"))
	w.Log.Renderer = removedToo{fewFindings{w.Pool}}
	w.mustChange(t, 1)
	id, _ := digestFor(t, w, quay.ID)
	otherID, _ := digestFor(t, w, other.ID)
	if id == otherID {
		t.Fatal("two clients of Clair's API share a notification that either may delete")
	}
	for _, size := range []int{1, 4, 7, 29, 30, 31, 500} {
		seen := map[uuid.UUID]ManifestChange{}
		for after := uuid.Nil; ; {
			changes, more, err := w.Notification(t.Context(), id, after, size)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range changes {
				if _, dup := seen[n.ID]; dup {
					t.Errorf("size %d: %s twice", size, n.ID)
				}
				seen[n.ID] = n
				if n.Worst.ID == "" || n.Worst.NormalizedSeverity != "Critical" || n.Manifest == "" {
					t.Errorf("notification %+v", n)
				}
			}
			if !more {
				break
			}
			if len(changes) != size {
				t.Errorf("size %d: a page of %d before the last", size, len(changes))
			}
			after = changes[size-1].ID
		}
		reasons := map[string]int{}
		for _, n := range seen {
			reasons[n.Reason]++
		}
		if reasons["added"] != 15 || reasons["removed"] != 15 {
			t.Errorf("size %d: %v", size, reasons)
		}
	}
	if changes, _, err := w.Notification(t.Context(), id, uuid.Max, 5); err != nil || len(changes) != 0 {
		t.Errorf("after the end: %d, %v", len(changes), err)
	}
	if changes, _, err := w.Notification(t.Context(), id, uuid.UUID{15: 1}, 5); err != nil || len(changes) != 5 {
		t.Errorf("after an id before all of them: %d, %v", len(changes), err)
	}
	for range 2 {
		if err := w.DeleteNotification(t.Context(), "", id); err != nil {
			t.Fatal(err)
		}
	}
	for _, gone := range []uuid.UUID{id, uuid.New()} {
		changes, more, err := w.Notification(t.Context(), gone, uuid.Nil, 500)
		if err != nil || len(changes) != 0 || more {
			t.Errorf("a notification that is gone: %+v, %v", changes, err)
		}
	}
	if changes, _, err := w.Notification(t.Context(), otherID, uuid.Nil, 500); err != nil || len(changes) != 30 {
		t.Errorf("the other client's: %d, %v", len(changes), err)
	}
	if err := w.DeleteNotification(t.Context(), "", uuid.New()); err == nil {
		t.Error("deleted what there is not")
	}
}

// A token's owner may delete the notifications of its own subscriptions alone.
func TestClairNotificationIsDeletedByItsOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 3)
	spec := schemas.Subscription{Sink: "https://example.com/hook", Protocol: schemas.ProtocolHTTP}
	spec.Config.Granularity, spec.Config.Mode = schemas.GranularityUpdate, schemas.ModeClair
	sub, _, err := w.subs.Create(t.Context(), "team", spec)
	if err != nil {
		t.Fatal(err)
	}
	w.mustChange(t, 1)
	id, _ := digestFor(t, w, sub.ID)
	if err := w.DeleteNotification(t.Context(), "others", id); !errors.Is(err, problem.NotFound) {
		t.Errorf("another owner: %v", err)
	}
	if changes, _, err := w.Notification(t.Context(), id, uuid.Nil, 10); err != nil || len(changes) == 0 {
		t.Errorf("it is gone: %v", err)
	}
	if err := w.DeleteNotification(t.Context(), "team", id); err != nil {
		t.Error(err)
	}
}

// A page of any size says whether there is more after it.
func TestClairNotificationPagesOfAnySizeGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const manifests = 1300
	w.manifests(t, manifests)
	sub := w.webhook(t, func(s *schemas.Subscription) {
		s.Config.Granularity, s.Config.Mode = schemas.GranularityUpdate, schemas.ModeClair
	})
	w.mustChange(t, 1)
	id, _ := digestFor(t, w, sub.ID)
	for _, size := range []int{999, 1000, 1001, 1299} {
		changes, more, err := w.Notification(t.Context(), id, uuid.Nil, size)
		if err != nil || len(changes) != size || !more {
			t.Fatalf("size %d: %d changes, more %v, %v", size, len(changes), more, err)
		}
		rest, more, err := w.Notification(t.Context(), id, changes[size-1].ID, size)
		if err != nil || len(rest) != manifests-size && !more {
			t.Errorf("size %d: then %d changes, more %v, %v", size, len(rest), more, err)
		}
	}
	all, more, err := w.Notification(t.Context(), id, uuid.Nil, 10_000)
	if err != nil || len(all) != manifests || more {
		t.Errorf("all at once: %d changes, more %v, %v", len(all), more, err)
	}
}

// removedToo is a Renderer that says the same was removed as was added.
type removedToo struct{ fewFindings }

func (r removedToo) RenderChanges(ctx context.Context, keys []schemas.ChangeKey, limit int) ([]schemas.VulnerabilitiesChanged, error) {
	out, err := r.fewFindings.RenderChanges(ctx, keys, limit)
	for i := range out {
		out[i].Removed = out[i].Added
	}
	return out, err
}
