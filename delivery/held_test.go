package delivery_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/schemas"
)

// While a subscription is left alone, whoever asks sees until when: in its
// statistics and in each of its deliveries, replayed ones included. A new
// version of it, which is what resuming makes, ends that.
func TestWhatHoldsASubscriptionIsVisibleAndEnds(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.Header().Set("Retry-After", "7200")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	sub := h.subscribe(s.URL, config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 1 }))
	h.run()
	h.publish(3, sub)
	h.eventually("held back", func() bool { return h.count(`SELECT count(*) FROM tocsin.lane WHERE not_before IS NOT NULL`) == 1 })
	// The attempt's outcome, written beside it, would overwrite a replay.
	h.eventually("recorded", func() bool { return h.count(`SELECT count(*) FROM tocsin.attempt`) == 1 })
	soon := time.Now().Add(time.Hour)
	stats, err := h.store.Stats(t.Context(), []uuid.UUID{sub}, time.Hour)
	if err != nil || len(stats) != 1 || stats[0].HeldUntil == nil || stats[0].HeldUntil.Before(soon) {
		t.Errorf("statistics %+v, error %v: want it held for two hours", stats, err)
	}
	list, err := h.store.Deliveries(t.Context(), delivery.Filter{State: "pending"}, uuid.Nil, 10)
	if err != nil || len(list) != 3 {
		t.Fatalf("%d deliveries, error %v", len(list), err)
	}
	for _, d := range list {
		if d.DueAt == nil || d.DueAt.Before(soon) {
			t.Errorf("delivery %s is due at %v", d.ID, d.DueAt)
		}
		if again, err := h.store.Replay(t.Context(), d.ID); err != nil || again.DueAt == nil || again.DueAt.Before(soon) {
			t.Errorf("replayed, it is %+v, error %v", again, err)
		}
	}
	if n := len(s.received()); n != 1 {
		t.Errorf("%d requests while it is left alone, want 1", n)
	}
	h.rest.change(sub, func(*schemas.Target) {})
	h.settled(sub, "delivered", 3)
	// The lane's row is written beside the deliveries.
	h.eventually("held no more", func() bool {
		stats, err := h.store.Stats(t.Context(), []uuid.UUID{sub}, time.Hour)
		return err == nil && stats[0].HeldUntil == nil
	})
}
