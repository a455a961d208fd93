package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/schemas"
)

func TestDelivers(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "thanks\x00\xff") })
	sub := h.subscribe(s.URL)
	h.run()
	ids := h.publish(100, sub)
	h.settled(sub, "delivered", 100)

	official, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, id := range ids {
		want[id.String()] = true
	}
	for _, r := range s.received() {
		if err := official.Verify(r.body, r.header); err != nil {
			t.Errorf("signature: %v", err)
		}
		if id := r.header.Get("Webhook-Id"); !want[id] {
			t.Errorf("event %s came twice or is not ours", id)
		} else {
			delete(want, id)
		}
	}
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE class = 'delivered' AND status = 200 AND number = 1 AND response = 'thanks?'`); n != 100 {
		t.Errorf("%d attempts recorded as expected, want 100", n)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.queue`); n != 0 {
		t.Errorf("%d rows left in the queue", n)
	}
}

func TestRetriesUntilDelivered(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 4 {
			http.Error(w, "not yet", http.StatusInternalServerError)
		}
	})
	sub := h.subscribe(s.URL, schedule(10*time.Millisecond, 20*time.Millisecond, 30*time.Millisecond, time.Millisecond))
	h.run()
	id := h.publish(1, sub)[0]
	h.settled(sub, "delivered", 1)
	got := s.received()
	if len(got) != 4 {
		t.Fatalf("%d attempts, want 4", len(got))
	}
	for i, r := range got {
		if r.header.Get("Webhook-Id") != id.String() {
			t.Errorf("attempt %d has id %q", i+1, r.header.Get("Webhook-Id"))
		}
	}
	if d := got[3].at.Sub(got[2].at); d < 30*time.Millisecond {
		t.Errorf("third retry after %v, want at least 30ms", d)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE class = 'retry' AND status = 500 AND error LIKE '%500%' AND response LIKE 'not yet%'`); n != 3 {
		t.Errorf("%d failed attempts recorded, want 3", n)
	}
	if n := h.count(`SELECT attempts FROM tocsin.delivery`); n != 4 {
		t.Errorf("%d attempts counted, want 4", n)
	}
}

func TestDeadAfterSchedule(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, status(http.StatusBadGateway))
	sub := h.subscribe(s.URL, schedule(time.Millisecond, time.Millisecond))
	reg := prometheus.NewRegistry()
	h.run(func(o *delivery.Options) { o.Registerer = reg })
	h.publish(1, sub)
	h.settled(sub, "dead", 1)
	want := strings.NewReader(`
# HELP tocsin_delivery_dead_letters_total Deliveries that became dead letters, by subscription id.
# TYPE tocsin_delivery_dead_letters_total counter
tocsin_delivery_dead_letters_total{subscription="` + sub.String() + `"} 1
`)
	h.eventually("counted", func() bool {
		n, err := testutil.GatherAndCount(reg, "tocsin_delivery_dead_letters_total")
		return err == nil && n == 1
	})
	if err := testutil.GatherAndCompare(reg, want, "tocsin_delivery_dead_letters_total"); err != nil {
		t.Error(err)
	}
	if n := len(s.received()); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

func TestGoneDisables(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, status(http.StatusGone))
	sub := h.subscribe(s.URL, config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 1 }))
	h.run()
	h.publish(3, sub)
	h.settled(sub, "dead", 1)
	h.eventually("it is announced", func() bool { return h.rest.announcements("disabled") > 0 })
	if n := h.rest.announcements("disabled"); n != 1 {
		t.Errorf("announced as disabled %d times, want once", n)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.queue`); n != 2 {
		t.Errorf("%d deliveries wait, want 2", n)
	}
}

func TestRetryAfterHoldsTheSubscription(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	sub := h.subscribe(s.URL, config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 1 }))
	h.run()
	h.publish(3, sub)
	h.settled(sub, "delivered", 3)
	got := s.received()
	if d := got[1].at.Sub(got[0].at); d < 950*time.Millisecond {
		t.Errorf("next attempt %v after the 429, want a second", d)
	}
	if h.rest.announcements("failing") != 0 {
		t.Error("a 429 counts as a failure")
	}
}

// What a target asks for outlives the process that it asked.
func TestRetryAfterSurvivesRestart(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	sub := h.subscribe(s.URL, config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 1 }))
	stop := h.run()
	h.publish(3, sub)
	held := func() bool {
		return h.count(`SELECT count(*) FROM tocsin.lane WHERE not_before > now() + INTERVAL '59 minutes'`) == 1
	}
	h.eventually("held back", held)
	stop()
	h.run()
	good := newSink(t, status(http.StatusOK))
	other := h.subscribe(good.URL)
	h.publish(1, other)
	h.settled(other, "delivered", 1)
	if n := len(s.received()); n != 1 || !held() {
		t.Errorf("%d attempts within the hour, want 1", n)
	}
}

// A new sink has not asked for anything.
func TestRetryAfterEndsWithANewSink(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	sub := h.subscribe(s.URL, config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 1 }))
	h.run()
	h.publish(2, sub)
	h.eventually("held back", func() bool { return h.count(`SELECT count(*) FROM tocsin.lane WHERE not_before IS NOT NULL`) == 1 })
	good := newSink(t, status(http.StatusOK))
	h.rest.change(sub, func(t *schemas.Target) { t.Subscription.Sink = good.URL })
	h.settled(sub, "delivered", 1)
	h.eventually("no longer held back", func() bool { return h.count(`SELECT count(*) FROM tocsin.lane WHERE not_before IS NOT NULL`) == 0 })
}

// Also where nobody has the lane any more, and however the subscription was
// changed; one that did not change goes on waiting.
func TestWaitsEndWithAChangeAfterRestart(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	one := config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 1 })
	moved, resumed, same := h.subscribe(s.URL, one), h.subscribe(s.URL, one), h.subscribe(s.URL, one)
	stop := h.run()
	h.publish(2, moved, resumed, same)
	waiting := func() int {
		return h.count(`SELECT count(*) FROM tocsin.lane WHERE not_before > now() + INTERVAL '59 minutes'`)
	}
	h.eventually("held back", func() bool { return waiting() == 3 })
	stop()
	good := newSink(t, nil)
	h.rest.change(moved, func(t *schemas.Target) { t.Subscription.Sink = good.URL })
	h.rest.change(resumed, func(t *schemas.Target) { t.Subscription.State = schemas.StatePaused })
	h.run()
	h.settled(moved, "delivered", 1)
	if n := waiting(); n != 2 {
		t.Errorf("%d wait, want the paused one and the one that did not change", n)
	}
	h.rest.change(resumed, func(t *schemas.Target) { t.Subscription.State = schemas.StateActive })
	h.eventually("the resumed one is asked again", func() bool { return len(s.received()) == 4 })
	if n := h.count(`SELECT count(*) FROM tocsin.lane WHERE subscription_id = $1 AND not_before > now() + INTERVAL '59 minutes'`, same); n != 1 {
		t.Error("one that did not change waits no more")
	}
}

func TestOrdered(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var failed atomic.Int64
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n%7 == 3 {
			failed.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	sub := h.subscribe(s.URL, schedule(20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond),
		config(func(c *schemas.SubscriptionConfig) { c.Ordered = true }))
	h.run()
	ids := h.publish(40, sub)
	h.settled(sub, "delivered", 40)
	var want []string
	for _, id := range ids {
		want = append(want, id.String())
	}
	got := slices.Compact(s.ids())
	if !slices.Equal(got, want) {
		t.Errorf("out of order:\n got %v\nwant %v", got, want)
	}
	if failed.Load() == 0 {
		t.Error("nothing failed: the test shows nothing")
	}
}

// A target that hangs, one that answers 500 and eight good ones: the good
// ones have everything while the bad ones still hold what they were given.
func TestClairD1_BadTargetsDoNotHoldUpGoodOnes(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	release := make(chan struct{})
	hanging := newSink(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	failing := newSink(t, status(http.StatusInternalServerError))
	slow := config(func(c *schemas.SubscriptionConfig) { c.Timeout = schemas.Duration(time.Minute) })
	bad := h.subscribe(hanging.URL, slow)
	ill := h.subscribe(failing.URL)
	h.run(func(o *delivery.Options) { o.Drain = 100 * time.Millisecond })
	h.publish(2000, bad, ill)
	h.eventually("the hanging target is at its limit", func() bool { return len(hanging.received()) == 16 })

	good := newSink(t, nil)
	var subs []uuid.UUID
	for range 8 {
		subs = append(subs, h.subscribe(good.URL))
	}
	h.publish(250, subs...)
	for _, sub := range subs {
		h.settled(sub, "delivered", 250)
	}
	if n := len(hanging.received()); n != 16 {
		t.Errorf("%d requests hang, want 16", n)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.queue WHERE subscription_id = $1`, bad); n != 2000 {
		t.Errorf("%d deliveries to the hanging target wait, want 2000", n)
	}
}

func TestRateAndConcurrency(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var now, most atomic.Int64
	busy := func(_ int, w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
	}
	s, limited := newSink(t, busy), newSink(t, nil)
	sub := h.subscribe(s.URL, config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 3 }))
	few := h.subscribe(limited.URL, config(func(c *schemas.SubscriptionConfig) { c.Rate = &schemas.Rate{PerSecond: 20, Burst: 5} }))
	h.run()
	begun := time.Now()
	h.publish(25, sub, few)
	h.settled(sub, "delivered", 25)
	h.settled(few, "delivered", 25)
	if m := most.Load(); m != 3 {
		t.Errorf("%d at a time, want 3", m)
	}
	// 5 at once, then 20 a second.
	if d := limited.received()[24].at.Sub(begun); d < 950*time.Millisecond {
		t.Errorf("25 deliveries in %v at 20/s with a burst of 5", d)
	}
}

func TestPauseResumeDelete(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	sub := h.subscribe(s.URL, func(t *schemas.Target) { t.Subscription.State = schemas.StatePaused })
	other := h.subscribe(s.URL)
	h.run()
	h.publish(5, sub)
	h.publish(1, other)
	h.settled(other, "delivered", 1)
	if n := h.count(`SELECT count(*) FROM tocsin.queue WHERE subscription_id = $1`, sub); n != 5 {
		t.Fatalf("%d deliveries wait for the paused subscription, want 5", n)
	}
	h.rest.change(sub, func(t *schemas.Target) { t.Subscription.State = schemas.StateActive })
	h.settled(sub, "delivered", 5)

	h.rest.change(sub, func(t *schemas.Target) { t.Subscription.State = schemas.StatePaused })
	h.eventually("the lane is given back", func() bool {
		return h.count(`SELECT count(*) FROM tocsin.lane WHERE subscription_id = $1 AND owner IS NULL`, sub) == 1
	})
	h.publish(3, sub)
	h.rest.remove(sub)
	h.settled(sub, "dropped", 3)
	h.eventually("the lane is gone", func() bool {
		return h.count(`SELECT count(*) FROM tocsin.lane WHERE subscription_id = $1`, sub) == 0
	})
}

func TestEventsUnreadableForAWhile(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	sub := h.subscribe(s.URL)
	h.rest.failing = errors.New("the log is away")
	h.run()
	h.publish(3, sub)
	h.eventually("a replica has the lane", func() bool { return h.count(`SELECT count(*) FROM tocsin.lane WHERE owner IS NOT NULL`) == 1 })
	h.rest.mu.Lock()
	h.rest.failing = nil
	h.rest.mu.Unlock()
	h.settled(sub, "delivered", 3)
	if n := h.count(`SELECT count(*) FROM tocsin.attempt`); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

// Of many events that are read together one can't be: its deliveries alone are
// tried again and end as dead letters, and no breaker opens over it.
func TestOneEventThatCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	hook := func(more ...func(*schemas.Target)) uuid.UUID {
		return h.subscribe(s.URL, append(more, schedule(time.Millisecond, time.Millisecond), config(func(c *schemas.SubscriptionConfig) {
			c.Breaker = &schemas.Breaker{ConsecutiveFailures: 1}
		}))...)
	}
	subs := []uuid.UUID{hook(), hook(), hook(config(func(c *schemas.SubscriptionConfig) { c.Mode = schemas.ModeBatched })),
		hook(config(func(c *schemas.SubscriptionConfig) { c.Mode, c.Ordered = schemas.ModeBatched, true }))}
	ids := h.publish(100, subs...)
	h.rest.broken = unreadable{ids[40]: errors.New("its change is gone")}
	h.run()
	for _, sub := range subs {
		h.settled(sub, "delivered", 99)
		h.settled(sub, "dead", 1)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.delivery WHERE state = 'dead' AND event_id = $1 AND attempts = 3 AND class = 'unreadable'`, ids[40]); n != len(subs) {
		t.Errorf("%d dead letters of the event after three attempts, want %d", n, len(subs))
	}
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE class = 'unreadable' AND error LIKE '%its change is gone%'`); n != 3*len(subs) {
		t.Errorf("%d attempts with the reason, want %d", n, 3*len(subs))
	}
	if h.rest.announcements("failing") != 0 {
		t.Error("an event that can't be read counts as the target's failure")
	}
}

func TestEnqueueIsAtomicAndWithoutDuplicates(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	o := schemas.NewDelivery{EventID: [16]byte{1}, SubscriptionID: [16]byte{2}}
	tx, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.Enqueue(t.Context(), tx, []schemas.NewDelivery{o, o, {EventID: [16]byte{3}, SubscriptionID: [16]byte{2}}}); err != nil {
		t.Fatal(err)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.queue`); n != 0 {
		t.Errorf("%d rows before commit", n)
	}
	if err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.queue`); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}
