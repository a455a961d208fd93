package delivery_test

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/schemas"
)

// A host that is away is announced once, however many subscriptions go to it,
// and so is its return; another host is another event.
func TestOneEventForAHostThatIsAway(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var back atomic.Bool
	away := func(_ int, w http.ResponseWriter, _ *http.Request) {
		if !back.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	}
	s, other := newSink(t, away), newSink(t, away)
	breaker := breakerConfig(schemas.Breaker{ConsecutiveFailures: 1, OpenFor: schemas.Duration(300 * time.Millisecond), MaxOpenFor: schemas.Duration(300 * time.Millisecond)})
	var subs []uuid.UUID
	for range 20 {
		subs = append(subs, h.subscribe(s.URL, breaker, schedule(slices.Repeat([]time.Duration{time.Millisecond}, 500)...)))
	}
	elsewhere := h.subscribe(other.URL, breaker, schedule(slices.Repeat([]time.Duration{time.Millisecond}, 500)...))
	h.run()
	h.publish(1, append(subs, elsewhere)...)
	h.eventually("all have failed, twice", func() bool {
		return h.count(`SELECT count(*) FROM tocsin.lane WHERE opens >= 2`) == 21
	})
	if n := h.rest.announcements("failing"); n != 2 {
		t.Errorf("%d events for two hosts that are away, want 2", n)
	}
	back.Store(true)
	for _, sub := range append(subs, elsewhere) {
		h.settled(sub, "delivered", 1)
	}
	h.eventually("all breakers are closed", func() bool {
		return h.count(`SELECT count(*) FROM tocsin.lane WHERE breaker <> 'closed'`) == 0
	})
	if failing, recovered := h.rest.announcements("failing"), h.rest.announcements("recovered"); recovered != failing {
		t.Errorf("%d announced as failing and %d as recovered", failing, recovered)
	}
}
