package delivery_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"tocsin.dev/tocsin/schemas"
)

// An ordered subscription whose sink asked for a pause goes on after it, also
// where the database takes longer to note the pause than the outcome.
func TestOrderedGoesOnAfterRetryAfter(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	if _, err := h.pool.Exec(t.Context(), `
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON tocsin.lane FOR EACH ROW WHEN (NEW.not_before IS NOT NULL) EXECUTE FUNCTION slow()`); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 2 || n == 4 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	sub := h.subscribe(s.URL, schedule(time.Second, time.Second), config(func(c *schemas.SubscriptionConfig) { c.Ordered = true }))
	h.run()
	begun := time.Now()
	ids := h.publish(8, sub)
	h.settled(sub, "delivered", 8)
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("eight deliveries with two pauses of a second took %v", d)
	}
	var want []string
	for _, id := range ids {
		want = append(want, id.String())
	}
	if got := slices.Compact(s.ids()); !slices.Equal(got, want) {
		t.Errorf("came as %v, want %v", got, want)
	}
}
