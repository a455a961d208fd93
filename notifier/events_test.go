package notifier

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/notifier/eventlog"
	"tocsin.dev/tocsin/schemas"
)

func TestListSelects(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	w := newWorld(t, func(o *options) { o.Now = func() time.Time { return now } })
	w.manifests(t, 12)
	w.mustChange(t, 1)
	w.tx(t, func(tx pgx.Tx) error { return w.UpdateCompleted(t.Context(), tx, schemas.UpdateCompleted{Update: osv}) })
	digest := "sha256:" + strings.Repeat("0", 63) + "4"
	for _, tc := range []struct {
		q eventlog.Query
		n int
	}{
		{eventlog.Query{}, 14},
		{eventlog.Query{Types: []string{schemas.TypeUpdateCompleted, schemas.TypeManifestsChanged}}, 2},
		{eventlog.Query{Subject: digest}, 1},
		{eventlog.Query{Subject: "sha256:00"}, 0},
		{eventlog.Query{Image: "registry/team1/*"}, 4},
		{eventlog.Query{Image: "*:1?"}, 3},
		{eventlog.Query{Image: "%"}, 0},
		{eventlog.Query{Updater: "osv/go", MinRank: 5}, 3}, // two manifests and the digest
		{eventlog.Query{Since: now.Add(time.Minute)}, 0},
		{eventlog.Query{Since: now, Until: now.Add(time.Minute)}, 14},
		{eventlog.Query{Until: now}, 0},
	} {
		page, err := w.Log.List(t.Context(), tc.q)
		if err != nil || len(page.Items) != tc.n {
			t.Errorf("%+v: %d events, %v, want %d", tc.q, len(page.Items), err, tc.n)
		}
	}
	seen := map[string]bool{}
	last := ""
	for q := (eventlog.Query{Limit: 5}); ; {
		page, err := w.Log.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Items {
			if seen[e.ID()] || last != "" && e.ID() > last {
				t.Errorf("%s again or out of order", e.ID())
			}
			seen[e.ID()], last = true, e.ID()
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	if len(seen) != 14 {
		t.Errorf("%d events in pages", len(seen))
	}
	if _, err := w.Log.List(t.Context(), eventlog.Query{Cursor: "x"}); err == nil {
		t.Error("a nonsensical cursor was taken")
	}
	if _, err := w.Log.Event(t.Context(), uuid.New()); !errors.Is(err, problem.NotFound) {
		t.Errorf("no such event: %v", err)
	}
}

// TestDataIsCut renders an event with far more findings than fit.
func TestDataIsCut(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	w := newWorld(t, func(o *options) { o.DataLimit = limit })
	w.manifests(t, 1)
	s := w.webhook(t, nil)
	err := pgx.BeginFunc(t.Context(), w.Pool, func(tx pgx.Tx) error {
		if err := affected(t.Context(), tx); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `UPDATE affected_manifest SET inventory_id = 230, added = 230`); err != nil {
			return err
		}
		_, err := w.ManifestsChanged(t.Context(), tx, 1, osv)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	id := w.owed.of(t, s.ID)[0]
	e, err := w.Log.Event(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	validateEvent(t, e)
	if n := len(e.Data()); n > limit || n < limit-2048 {
		t.Errorf("%d bytes, want just under %d", n, limit)
	}
	var d schemas.VulnerabilitiesChanged
	if err := json.Unmarshal(e.Data(), &d); err != nil {
		t.Fatal(err)
	}
	if !d.Truncated || d.Counts.Added != 230 || len(d.Added) < 40 || d.Added[0].NormalizedSeverity != "Critical" {
		t.Errorf("%d findings, truncated %t, counts %+v", len(d.Added), d.Truncated, d.Counts)
	}
	if want := "https://tocsin.example/api/v1/events/" + e.ID() + "/findings"; d.Links.All != want {
		t.Errorf("links %+v", d.Links)
	}
	n := 0
	for cursor := ""; ; {
		page, err := w.Log.Findings(t.Context(), id, "", cursor, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Items {
			if f.Kind != "added" || f.Finding.(schemas.Finding).ID != fmt.Sprintf("CVE-2026-%04d", n) {
				t.Fatalf("finding %d: %+v", n, f)
			}
			n++
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if n != 230 {
		t.Errorf("%d findings in pages", n)
	}
	if page, err := w.Log.Findings(t.Context(), id, "removed", "", 0); err != nil || len(page.Items) != 0 {
		t.Errorf("removed: %+v, %v", page, err)
	}
	for _, bad := range []struct{ kind, cursor string }{{"x", ""}, {"", "-1"}, {"", "x"}} {
		if _, err := w.Log.Findings(t.Context(), id, bad.kind, bad.cursor, 0); err == nil {
			t.Errorf("%+v: taken", bad)
		}
	}
	again, err := w.Log.Event(t.Context(), id)
	if err != nil || string(again.Data()) != string(e.Data()) {
		t.Errorf("reads differently the second time (%v)", err)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(-3 * time.Hour)
	w := newWorld(t, func(o *options) { o.Now = func() time.Time { return now } })
	w.manifests(t, 30)
	w.mustChange(t, 1)
	now = now.Add(time.Hour)
	w.mustChange(t, 2)
	digests := func(s *schemas.Subscription) { s.Config.Granularity = schemas.GranularityUpdate }
	for _, tc := range []struct {
		change  func(*schemas.Subscription)
		filters []schemas.Filter
		want    int
	}{
		{nil, nil, 60},
		{digests, nil, 60},
		{nil, []schemas.Filter{{SQL: "severityrank >= 5"}}, 10},
		{nil, []schemas.Filter{{CEL: `data.added.exists(f, f.package.name == "pkg7")`}}, 2},
	} {
		s := w.webhook(t, tc.change, tc.filters...)
		dry, err := w.DryRun(t.Context(), "", schemas.Subscription{Filters: tc.filters, Config: s.Config}, 0)
		if err != nil || dry.Events != 62 || dry.Matched != tc.want || len(dry.Sample) != min(tc.want, dryRunSample) {
			t.Errorf("%v: dry run %+v, %v, want %d of 62", tc.filters, dry, err, tc.want)
		}
	}
	if dry, err := w.DryRun(t.Context(), "", schemas.Subscription{}, 7); err != nil || dry.Events != 7 {
		t.Errorf("of seven: %+v, %v", dry, err)
	}
	if _, err := w.DryRun(t.Context(), "", schemas.Subscription{Filters: []schemas.Filter{{SQL: "x"}}}, 7); err == nil {
		t.Error("a dry run of a broken filter")
	}
}

// partition keeps the partitions as of the world's time.
func (w *world) partition(t testing.TB) error {
	now := w.Log.Now()
	return w.Log.Partition(t.Context(), now, now.Add(-w.Log.Retention))
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)
	w := newWorld(t, func(o *options) {
		o.Now = func() time.Time { return now }
		o.Retention = 10 * 24 * time.Hour
	})
	w.manifests(t, 5)
	w.mustChange(t, 1) // nothing has been partitioned yet
	partitions := func() int {
		return w.count(t, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'tocsin.event'::regclass`)
	}
	where := func(table string) int { return w.count(t, `SELECT count(*) FROM tocsin.`+table) }
	if err := w.partition(t); err != nil {
		t.Fatal(err)
	}
	if err := w.partition(t); err != nil { // again: nothing to do
		t.Fatal(err)
	}
	if n := partitions(); n != 9 {
		t.Errorf("%d partitions, want today, seven days and the default", n)
	}
	if a, b := where("event_20260301"), where("event_default"); a != 6 || b != 0 {
		t.Errorf("%d events in the day's partition, %d in the default", a, b)
	}
	now = now.Add(48 * time.Hour)
	w.mustChange(t, 2)
	if n := where("event_20260303"); n != 6 {
		t.Errorf("%d events in the day's partition", n)
	}
	page, err := w.Log.List(t.Context(), eventlog.Query{Types: []string{schemas.TypeVulnerabilitiesChanged}})
	if err != nil || len(page.Items) != 10 {
		t.Fatalf("%d events, %v", len(page.Items), err)
	}
	now = now.Add(9*24*time.Hour - time.Minute)
	if err := w.partition(t); err != nil {
		t.Fatal(err)
	}
	page, err = w.Log.List(t.Context(), eventlog.Query{Types: []string{schemas.TypeVulnerabilitiesChanged}})
	if err != nil || len(page.Items) != 5 {
		t.Errorf("%d events after ten days, %v", len(page.Items), err)
	}
	if n := w.count(t, `SELECT count(*) FROM pg_class WHERE relname = 'event_20260301'`); n != 0 {
		t.Error("the old partition is still there")
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.audit WHERE action = 'partitions.drop' AND object = 'event' AND detail->'partitions' ? 'event_20260301'`); n != 1 {
		t.Errorf("%d entries of the audit log say that it went, want 1", n)
	}
}

// TestPagesOfLargeEventsAreShort lists more than fits into a page.
func TestPagesOfLargeEventsAreShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifests(t, 70)
	err := pgx.BeginFunc(t.Context(), w.Pool, func(tx pgx.Tx) error {
		if err := affected(t.Context(), tx); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `UPDATE affected_manifest SET inventory_id = 300`); err != nil {
			return err
		}
		_, err := w.ManifestsChanged(t.Context(), tx, 1, osv)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen, pages := map[string]bool{}, 0
	for q := (eventlog.Query{Limit: 1000, Types: []string{schemas.TypeVulnerabilitiesChanged}}); ; pages++ {
		page, err := w.Log.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Items {
			seen[e.ID()] = true
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	if len(seen) != 70 || pages == 0 {
		t.Errorf("%d events in %d pages", len(seen), pages+1)
	}
}

// TestWritersDoNotMindPartitions writes events while the partition they belong
// to is made.
func TestWritersDoNotMindPartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop, ended := make(chan struct{}), make(chan int)
	// Readers never miss what there is.
	w.tx(t, func(tx pgx.Tx) error { return w.UpdateCompleted(t.Context(), tx, schemas.UpdateCompleted{Update: osv}) })
	page, err := w.Log.List(t.Context(), eventlog.Query{})
	if err != nil {
		t.Fatal(err)
	}
	first := []uuid.UUID{uuid.MustParse(page.Items[0].ID())}
	readers := make(chan struct{})
	for range 3 {
		go func() {
			defer func() { readers <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := w.Log.Events(t.Context(), first); err != nil || len(got) != 1 {
					t.Errorf("a reader found %d events: %v", len(got), err)
					return
				}
			}
		}()
	}
	for range 3 {
		go func() {
			n := 0
			defer func() { ended <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := pgx.BeginFunc(t.Context(), w.Pool, func(tx pgx.Tx) error {
					return w.UpdateCompleted(t.Context(), tx, schemas.UpdateCompleted{Update: osv})
				})
				if err != nil {
					t.Error(err)
					return
				}
				n++
			}
		}()
	}
	until(t, "a few events", func() bool { return w.count(t, `SELECT count(*) FROM tocsin.event`) > 10 })
	if err := w.partition(t); err != nil {
		t.Error(err)
	}
	before := w.count(t, `SELECT count(*) FROM tocsin.event`)
	until(t, "more events", func() bool { return w.count(t, `SELECT count(*) FROM tocsin.event`) > before+10 })
	close(stop)
	written := 1 + <-ended + <-ended + <-ended
	for range 3 {
		<-readers
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.event`); n != written {
		t.Errorf("%d events, %d were written", n, written)
	}
	if n := w.count(t, `SELECT count(*) FROM tocsin.event_default`); n != 0 {
		t.Errorf("%d are in the default partition", n)
	}
}
