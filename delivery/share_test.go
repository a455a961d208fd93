package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/webhook"
	"tocsin.dev/tocsin/schemas"
)

// A target that has been dead for long, with a hundred thousand deliveries
// due, costs the others neither attempts nor long statements.
func TestDeadTargetWithBacklog(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	good := newSink(t, nil)
	dead, sub := h.subscribe("http://127.0.0.1:1", breakerConfig(schemas.Breaker{ConsecutiveFailures: 1, OpenFor: schemas.Duration(time.Hour)})), h.subscribe(good.URL)
	if _, err := h.pool.Exec(t.Context(), `
INSERT INTO tocsin.queue (id, event_id, subscription_id, next_attempt_at)
SELECT tocsin.uuidv7(), gen_random_uuid(), $1, now() - i * INTERVAL '1 ms' FROM generate_series(1, 100000) i`, dead); err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	h.rest.events[id] = testEvent(id, 0)
	if _, err := h.pool.Exec(t.Context(), `UPDATE tocsin.queue SET event_id = $1`, id); err != nil {
		t.Fatal(err)
	}
	h.run()
	h.eventually("the breaker has opened", func() bool { return h.rest.announcements("failing") == 1 })
	h.publish(500, sub)
	h.settled(sub, "delivered", 500)
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE subscription_id = $1`, dead); n != 1 {
		t.Errorf("%d attempts at the dead target, want the one that opened its breaker", n)
	}
}

// Replicas share subscriptions between them, and one that ends gives its own
// back at once.
func TestClairD4_ReplicasShareAndHandOver(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	var subs []uuid.UUID
	for range 30 {
		subs = append(subs, h.subscribe(s.URL, config(func(c *schemas.SubscriptionConfig) { c.Rate = &schemas.Rate{PerSecond: 10} })))
	}
	stops := []func(){h.run(), h.run(), h.run()}
	h.eventually("three replicas", func() bool { return h.count(`SELECT count(*) FROM tocsin.replica`) == 3 })
	h.publish(20, subs...)
	h.eventually("every replica has some of the lanes", func() bool { return h.count(`SELECT count(DISTINCT owner) FROM tocsin.lane`) == 3 })
	stops[0]()
	if n := h.count(`SELECT count(*) FROM tocsin.replica`); n != 2 {
		t.Errorf("%d replicas left, want 2", n)
	}
	for _, sub := range subs {
		h.settled(sub, "delivered", 20)
	}
	if n := len(s.received()); n != 600 {
		t.Errorf("%d requests for 600 deliveries: an orderly end must not repeat any", n)
	}
}

func TestBatched(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var failed bool
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 2 {
			failed = true
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	sub := h.subscribe(s.URL, schedule(10*time.Millisecond), config(func(c *schemas.SubscriptionConfig) {
		c.Mode, c.BatchSize, c.Concurrency = schemas.ModeBatched, 10, 1
	}))
	ids := h.publish(100, sub)
	h.run()
	h.settled(sub, "delivered", 100)
	want := map[string]bool{}
	for _, id := range ids {
		want[id.String()] = true
	}
	requests := s.received()
	for _, r := range requests {
		var batch []struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(r.body, &batch); err != nil || len(batch) > 10 {
			t.Fatalf("%d events in a batch, error %v", len(batch), err)
		}
		for _, e := range batch {
			delete(want, e.ID)
		}
	}
	if len(want) != 0 || !failed || len(requests) > 20 {
		t.Errorf("%d events missing after %d requests, one of which failed: %v", len(want), len(requests), failed)
	}
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE class = 'retry'`); n == 0 || n > 10 {
		t.Errorf("%d failed attempts, want one for each event of the batch that failed", n)
	}
}

// An event that no longer exists is dropped, and one that cannot be delivered
// at all is a dead letter at once; neither holds up the others.
func TestMissingEvents(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	sub := h.subscribe(s.URL)
	ids := h.publish(10, sub)
	h.rest.mu.Lock()
	delete(h.rest.events, ids[3])
	h.rest.mu.Unlock()
	h.run()
	h.settled(sub, "delivered", 9)
	h.settled(sub, "dropped", 1)
}

type panicking struct{}

func (panicking) Open(context.Context, delivery.Subscription) (delivery.Target, error) {
	return panicking{}, nil
}
func (panicking) Deliver(context.Context, []delivery.Message) delivery.Outcome { panic("oh") }
func (panicking) Close(context.Context) error                                  { return nil }

func TestPanickingTargetAndUnknownProtocol(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	sub := h.subscribe(s.URL)
	odd := h.subscribe("x", schedule(), func(t *schemas.Target) { t.Subscription.Protocol = "ODD" })
	bad := h.subscribe("x", schedule(), func(t *schemas.Target) { t.Subscription.Protocol = schemas.ProtocolNATS })
	h.run(func(o *delivery.Options) { o.Openers[schemas.ProtocolNATS] = panicking{} })
	h.publish(3, sub, odd, bad)
	h.settled(sub, "delivered", 3)
	h.settled(odd, "dead", 3)
	h.settled(bad, "dead", 3)
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE class = 'invalid' AND error <> ''`); n != 6 {
		t.Errorf("%d attempts recorded as invalid, want 6", n)
	}
}

// What is committed late, behind what has been delivered since, is not
// forgotten.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	sub := h.subscribe(s.URL)
	h.run()
	late := uuid.Must(uuid.NewV7())
	h.rest.mu.Lock()
	h.rest.events[late] = testEvent(late, 0)
	h.rest.mu.Unlock()
	tx, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.Enqueue(t.Context(), tx, []schemas.NewDelivery{{EventID: late, SubscriptionID: sub}}); err != nil {
		t.Fatal(err)
	}
	h.publish(300, sub)
	h.settled(sub, "delivered", 300)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.settled(sub, "delivered", 301)
}

// A row that the database refuses does not keep the others from being
// settled.
func TestRefusedOutcome(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "answer %d", n) })
	if _, err := h.pool.Exec(t.Context(), `ALTER TABLE tocsin.attempt ADD CHECK (response NOT LIKE 'answer 7%')`); err != nil {
		t.Fatal(err)
	}
	sub := h.subscribe(s.URL)
	h.publish(20, sub)
	h.run()
	h.settled(sub, "delivered", 20)
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE error LIKE '(not recorded%'`); n != 1 {
		t.Errorf("%d outcomes written without what was refused, want 1", n)
	}
}

// Run leaves no goroutine behind.
func TestRunEndsEverything(t *testing.T) {
	h := newHub(t)
	s := newSink(t, nil)
	sub := h.subscribe(s.URL)
	h.count(`SELECT count(*) FROM tocsin.queue`) // opens the test's own connection
	before := goleak.IgnoreCurrent()
	stop := h.run()
	h.publish(50, sub)
	h.settled(sub, "delivered", 50)
	stop()
	h.opts.Openers[schemas.ProtocolHTTP].(*webhook.Opener).Close()
	s.Close()
	h.pool.Reset()
	goleak.VerifyNone(t, before)
}
