package delivery_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
)

func TestRecordsReplayAndDrop(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var ok bool
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if !ok {
			http.Error(w, "broken", http.StatusInternalServerError)
		}
	})
	good := newSink(t, nil)
	sub, other := h.subscribe(s.URL, schedule(time.Millisecond)), h.subscribe(good.URL)
	begun := time.Now().Add(-time.Millisecond)
	stop := h.run()
	ids := h.publish(4, sub, other)
	h.settled(sub, "dead", 4)
	h.settled(other, "delivered", 4)
	ctx := t.Context()
	list := func(f delivery.Filter) []delivery.Delivery {
		t.Helper()
		l, err := h.store.Deliveries(ctx, f, uuid.Nil, 100)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	count := func(f delivery.Filter, want int) {
		t.Helper()
		if l := list(f); len(l) != want {
			t.Errorf("%+v selects %d, want %d", f, len(l), want)
		}
	}
	count(delivery.Filter{}, 8)
	count(delivery.Filter{Subscriptions: []uuid.UUID{}}, 0)
	count(delivery.Filter{State: "dead"}, 4)
	count(delivery.Filter{State: "pending"}, 0)
	count(delivery.Filter{Event: ids[0]}, 2)
	count(delivery.Filter{Event: ids[0], Subscriptions: []uuid.UUID{other}}, 1)
	count(delivery.Filter{Since: begun, Until: time.Now().Add(time.Second)}, 8)
	count(delivery.Filter{Until: begun}, 0)

	// Pages, the newest first.
	var pages []uuid.UUID
	for after := uuid.Nil; ; {
		page, err := h.store.Deliveries(ctx, delivery.Filter{}, after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			pages = append(pages, d.ID)
		}
		after = page[len(page)-1].ID
	}
	if len(pages) != 8 || !slices.IsSortedFunc(pages, func(a, b uuid.UUID) int { return -slices.Compare(a[:], b[:]) }) {
		t.Errorf("pages hold %v", pages)
	}

	dead := list(delivery.Filter{State: "dead"})
	attempts, err := h.store.Attempts(ctx, dead[0].ID)
	if err != nil || len(attempts) != 2 || attempts[1].Number != 2 || attempts[1].Class != delivery.ClassRetry || attempts[1].Status != 500 || attempts[1].Response != "broken\n" {
		t.Errorf("attempts %+v, error %v", attempts, err)
	}
	stats, err := h.store.Stats(ctx, nil, time.Hour)
	if err != nil || len(stats) != 2 {
		t.Fatalf("stats %+v, error %v", stats, err)
	}
	for _, st := range stats {
		if st.Subscription == sub && (st.Dead != 4 || st.Attempts != 8 || st.SuccessRate() != 0 || st.P99 <= 0 || st.LastSuccess != nil) ||
			st.Subscription == other && (st.Dead != 0 || st.Attempts != 4 || st.SuccessRate() != 1 || st.LastSuccess == nil || st.Backlog != 0) {
			t.Errorf("stats %+v", st)
		}
	}

	// One dropped, one replayed, the rest replayed in bulk, twice.
	if d, err := h.store.Drop(ctx, dead[0].ID); err != nil || d.State != "dropped" {
		t.Fatalf("dropped %+v, error %v", d, err)
	}
	stop()
	ok = true
	again, err := h.store.Replay(ctx, dead[1].ID)
	if err != nil || again.State != "pending" || again.Event != dead[1].Event || *again.ReplayOf != dead[1].ID || again.Attempts != 0 {
		t.Fatalf("replayed %+v, error %v", again, err)
	}
	if same, err := h.store.Replay(ctx, again.ID); err != nil || same.ID != again.ID {
		t.Errorf("replaying a pending one gave %+v, error %v", same, err)
	}
	if n, err := h.store.ReplayAll(ctx, delivery.Filter{State: "dead"}); err != nil || n != 2 {
		t.Errorf("bulk replay: %d, error %v", n, err)
	}
	if n, err := h.store.ReplayAll(ctx, delivery.Filter{State: "dead"}); err != nil || n != 0 {
		t.Errorf("bulk replay again: %d, error %v", n, err)
	}
	count(delivery.Filter{State: "dead"}, 0)
	count(delivery.Filter{State: "pending"}, 3)
	if stats, err := h.store.Stats(ctx, []uuid.UUID{sub}, time.Hour); err != nil || len(stats) != 1 || stats[0].Backlog != 3 || stats[0].Oldest <= 0 {
		t.Errorf("stats %+v, error %v", stats, err)
	}
	h.run()
	h.settled(sub, "delivered", 3)

	// Everything to one endpoint since it began: same events, new deliveries.
	before := len(good.received())
	if n, err := h.store.ReplayAll(ctx, delivery.Filter{Subscriptions: []uuid.UUID{other}, Since: begun}); err != nil || n != 4 {
		t.Errorf("replay of an endpoint: %d, error %v", n, err)
	}
	h.settled(other, "delivered", 8)
	if got := good.ids()[before:]; !sameIDs(got, ids) {
		t.Errorf("replayed %v, want %v", got, ids)
	}

	for _, err := range []error{
		errOf(h.store.Delivery(ctx, uuid.New())), errOf(h.store.Replay(ctx, uuid.New())), errOf(h.store.Drop(ctx, uuid.New())),
	} {
		if !errors.Is(err, delivery.ErrNotFound) {
			t.Errorf("unknown delivery: %v", err)
		}
	}
}

func errOf(_ delivery.Delivery, err error) error { return err }

func sameIDs(got []string, want []uuid.UUID) bool {
	var w []string
	for _, id := range want {
		w = append(w, id.String())
	}
	slices.Sort(w)
	slices.Sort(got)
	return slices.Equal(got, w)
}

func TestDropAll(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	sub, other := h.subscribe("http://127.0.0.1:1"), h.subscribe("http://127.0.0.1:1")
	h.publish(30, sub, other)
	if n, err := h.store.DropAll(t.Context(), delivery.Filter{Subscriptions: []uuid.UUID{sub}}); err != nil || n != 30 {
		t.Errorf("dropped %d, error %v", n, err)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.queue WHERE subscription_id = $1`, other); n != 30 {
		t.Errorf("%d left to the other, want 30", n)
	}
	h.settled(sub, "dropped", 30)
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	partitions := func() []string {
		t.Helper()
		rows, err := h.pool.Query(t.Context(), `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'tocsin.delivery'::regclass ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for rows.Next() {
			var n string
			if err := rows.Scan(&n); err != nil {
				t.Fatal(err)
			}
			names = append(names, n)
		}
		return names
	}
	// Settled before there was a partition for its day.
	sub := h.subscribe("http://127.0.0.1:1")
	h.publish(3, sub)
	if _, err := h.store.DropAll(t.Context(), delivery.Filter{}); err != nil {
		t.Fatal(err)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.delivery_default`); n != 3 {
		t.Fatalf("%d rows in the default partition, want 3", n)
	}
	now := time.Now()
	for range 2 {
		if err := h.worker.Maintain(t.Context(), now, now.AddDate(0, 0, -30)); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.count(`SELECT count(*) FROM tocsin.delivery_default`); n != 0 {
		t.Errorf("%d rows still in the default partition", n)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.delivery`); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
	if p := partitions(); len(p) != 5 {
		t.Errorf("partitions %v, want today's, three more and the default one", p)
	}
	if err := h.worker.Maintain(t.Context(), now.AddDate(0, 0, 29), now.AddDate(0, 0, -1)); err != nil {
		t.Fatal(err)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.delivery`); n != 3 {
		t.Errorf("%d rows within retention, want 3", n)
	}
	if err := h.worker.Maintain(t.Context(), now.AddDate(0, 0, 32), now.AddDate(0, 0, 2)); err != nil {
		t.Fatal(err)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.delivery`); n != 0 {
		t.Errorf("%d rows past retention", n)
	}
}

func TestStatsPercentiles(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	sub := uuid.New()
	if _, err := h.pool.Exec(t.Context(), `
INSERT INTO tocsin.attempt (delivery_id, number, subscription_id, at, ms, class)
SELECT tocsin.uuidv7(), 1, $1, now() - i * INTERVAL '1 s', i, CASE WHEN i % 4 = 0 THEN 'timeout' ELSE 'delivered' END FROM generate_series(1, 1000) i`, sub); err != nil {
		t.Fatal(err)
	}
	stats, err := h.store.Stats(t.Context(), nil, time.Hour)
	if err != nil || len(stats) != 1 {
		t.Fatalf("%+v, error %v", stats, err)
	}
	s := stats[0]
	if s.Attempts != 1000 || s.Succeeded != 750 || s.SuccessRate() != 0.75 {
		t.Errorf("%d attempts, %d succeeded", s.Attempts, s.Succeeded)
	}
	for name, c := range map[string]struct{ got, want time.Duration }{
		"p50": {s.P50, 500 * time.Millisecond}, "p95": {s.P95, 950 * time.Millisecond}, "p99": {s.P99, 990 * time.Millisecond},
	} {
		if d := c.got.Seconds() / c.want.Seconds(); d < 0.97 || d > 1.03 {
			t.Errorf("%s is %v, want about %v", name, c.got, c.want)
		}
	}
	if s, err := h.store.Stats(t.Context(), []uuid.UUID{sub}, 100*time.Second); err != nil || len(s) != 1 || s[0].Attempts < 95 || s[0].Attempts > 100 {
		t.Errorf("within 100 s: %+v, error %v", s, err)
	}
}
