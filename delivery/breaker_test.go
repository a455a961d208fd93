package delivery_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/schemas"
)

func breakerConfig(b schemas.Breaker) func(*schemas.Target) {
	return config(func(c *schemas.SubscriptionConfig) {
		c.Concurrency = 1
		c.Breaker = &b
	})
}

func (h *hub) breaker(sub uuid.UUID) string {
	h.t.Helper()
	var s string
	if err := h.pool.QueryRow(h.t.Context(), `SELECT breaker FROM tocsin.lane WHERE subscription_id = $1`, sub).Scan(&s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var ok atomic.Bool
	var probing, overlapping atomic.Int64
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		if probing.Add(1) > 1 {
			overlapping.Add(1)
		}
		defer probing.Add(-1)
		if !ok.Load() {
			time.Sleep(2 * time.Millisecond)
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	sub := h.subscribe(s.URL, breakerConfig(schemas.Breaker{
		ConsecutiveFailures: 3, OpenFor: schemas.Duration(400 * time.Millisecond), MaxOpenFor: schemas.Duration(600 * time.Millisecond),
	}))
	h.run()
	h.run()
	h.publish(50, sub)
	h.eventually("the breaker has opened", func() bool { return h.rest.announcements("failing") == 1 })
	if n := len(s.received()); n != 3 {
		t.Errorf("%d attempts before it opened, want 3", n)
	}
	// It is announced in the transaction that records it.
	h.eventually("the breaker is open in the database", func() bool { return h.breaker(sub) == delivery.BreakerOpen })
	// Probes come one at a time, ever less often, from either replica.
	h.eventually("three probes", func() bool { return len(s.received()) >= 6 })
	got := s.received()
	for i, least := range []time.Duration{400, 600, 600} {
		if d := got[3+i].at.Sub(got[2+i].at); d < least*time.Millisecond-5*time.Millisecond {
			t.Errorf("probe %d after %v, want at least %dms", i+1, d, least)
		}
	}
	if n := h.count(`SELECT coalesce(max(attempts), 0) FROM tocsin.queue`); n != 1 {
		t.Errorf("a delivery used up %d attempts, want 1", n)
	}
	ok.Store(true)
	h.eventually("recovered", func() bool { return h.rest.announcements("recovered") == 1 })
	h.eventually("the untried ones are delivered", func() bool {
		return h.count(`SELECT count(*) FROM tocsin.delivery WHERE state = 'delivered'`) >= 43
	})
	h.eventually("the breaker is closed in the database", func() bool { return h.breaker(sub) == delivery.BreakerClosed })
	if n := overlapping.Load(); n != 0 {
		t.Errorf("%d attempts overlapped", n)
	}
	if n := h.rest.announcements("failing"); n != 1 {
		t.Errorf("announced as failing %d times, want once", n)
	}
}

func TestBreakerSurvivesRestart(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, status(http.StatusInternalServerError))
	sub := h.subscribe(s.URL, breakerConfig(schemas.Breaker{ConsecutiveFailures: 2, OpenFor: schemas.Duration(time.Hour)}))
	stop := h.run()
	h.publish(10, sub)
	h.eventually("the breaker has opened", func() bool { return h.rest.announcements("failing") == 1 })
	stop()
	other := newSink(t, nil)
	beside := h.subscribe(other.URL)
	h.run()
	h.publish(1, beside)
	h.settled(beside, "delivered", 1)
	h.publish(1, sub)
	h.publish(1, beside)
	h.settled(beside, "delivered", 2)
	if n := len(s.received()); n != 2 {
		t.Errorf("%d attempts, want the 2 that opened the breaker", n)
	}
}

func TestBreakerOpensByRatio(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n%3 != 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	sub := h.subscribe(s.URL, breakerConfig(schemas.Breaker{
		ConsecutiveFailures: 1000, FailureRatio: 0.5, MinAttempts: 10, OpenFor: schemas.Duration(time.Hour),
	}))
	h.run()
	h.publish(50, sub)
	h.eventually("the breaker has opened", func() bool { return h.rest.announcements("failing") == 1 })
	if n := len(s.received()); n != 10 {
		t.Errorf("%d attempts, want the 10 it takes", n)
	}
}

func TestBreakerGivesUp(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, status(http.StatusInternalServerError))
	sub := h.subscribe(s.URL, breakerConfig(schemas.Breaker{
		ConsecutiveFailures: 1, OpenFor: schemas.Duration(20 * time.Millisecond), MaxOpenFor: schemas.Duration(20 * time.Millisecond),
		DisableAfter: schemas.Duration(100 * time.Millisecond),
	}))
	h.run()
	h.publish(50, sub)
	h.eventually("disabled", func() bool { return h.rest.announcements("disabled") == 1 })
	h.eventually("the lane is given back", func() bool { return h.count(`SELECT count(*) FROM tocsin.lane WHERE owner IS NULL`) == 1 })
	if got := h.breaker(sub); got != delivery.BreakerClosed {
		t.Errorf("breaker is %s: resuming the subscription would not try it", got)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.queue`); n != 50 {
		t.Errorf("%d deliveries wait, want 50", n)
	}
}
