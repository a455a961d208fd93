package delivery_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudevents/sdk-go/v2/event"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/webhook"
	"tocsin.dev/tocsin/schemas"
)

// A replica whose lane has been taken cannot settle what it was at, and the
// new owner delivers it again under the same id.
func TestFencing(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	slow := make(chan struct{})
	s := newSink(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			<-slow
			w.WriteHeader(http.StatusTeapot)
		}
	})
	sub := h.subscribe(s.URL, schedule(time.Hour), config(func(c *schemas.SubscriptionConfig) { c.Concurrency = 1 }))
	// The first replica does not look after its lease often enough to notice.
	h.run(func(o *delivery.Options) { o.Lease = time.Hour; o.Name = "slow" })
	h.publish(1, sub)
	h.eventually("the first attempt is under way", func() bool { return len(s.received()) == 1 })

	// Its lease runs out, as far as others can see.
	if _, err := h.pool.Exec(t.Context(), `UPDATE tocsin.replica SET lease_until = now() - INTERVAL '1 s' WHERE name = 'slow'`); err != nil {
		t.Fatal(err)
	}
	h.run(func(o *delivery.Options) { o.Name = "quick" })
	h.settled(sub, "delivered", 1)
	close(slow)
	if n := h.count(`SELECT token FROM tocsin.lane`); n != 2 {
		t.Errorf("token is %d after two owners", n)
	}
	ids := s.ids()
	if len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("attempts have ids %v, want the same twice", ids)
	}
	// More work makes the slow one try to settle if ever it will.
	h.publish(20, sub)
	h.settled(sub, "delivered", 21)
	if n := h.count(`SELECT count(*) FROM tocsin.attempt WHERE class <> 'delivered'`); n != 0 {
		t.Errorf("%d outcomes of the replica that lost its lease were taken", n)
	}
}

// Postgres cuts every connection again and again: nothing is lost.
func TestDatabaseConnectionsCut(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := newSink(t, nil)
	sub := h.subscribe(s.URL)
	h.run()
	want := map[string]bool{}
	for range 10 {
		for _, id := range h.publish(50, sub) {
			want[id.String()] = true
		}
		if _, err := h.pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
		h.pool.Reset() // the test's own connections were cut too
	}
	h.settled(sub, "delivered", 500)
	for _, id := range s.ids() {
		delete(want, id)
	}
	if len(want) != 0 {
		t.Errorf("%d events lost", len(want))
	}
}

// A process is killed between the target's 2xx and the moment it is written
// down: what was in flight is delivered again under the same id, and nothing
// is lost.
func TestKilledAfterDelivery(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var kill sync.Once
	killed := make(chan struct{})
	victims := make(chan *exec.Cmd, 1)
	s := newSink(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 20 {
			w.WriteHeader(http.StatusNoContent)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
			kill.Do(func() {
				if err := (<-victims).Process.Kill(); err != nil {
					t.Errorf("kill: %v", err)
				}
				close(killed)
			})
		}
	})
	sub := h.subscribe(s.URL)
	ids := h.publish(40, sub)
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+h.pool.Config().ConnString(), "SINK="+s.URL, "SUB="+sub.String())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !bufio.NewScanner(out).Scan() {
			t.Fatal("the child process does not start")
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // the first is dead already
			_ = cmd.Wait()
		})
		return cmd
	}
	victim := start()
	victims <- victim
	<-killed
	_ = victim.Wait() // it was killed
	start()
	h.settled(sub, "delivered", 40)
	got := map[string]int{}
	for _, id := range s.ids() {
		got[id]++
	}
	twice := 0
	for _, id := range ids {
		switch got[id.String()] {
		case 0:
			t.Errorf("event %s was lost", id)
		case 2:
			twice++
		}
	}
	if twice == 0 {
		t.Error("nothing came twice: the kill missed its moment")
	}
	t.Logf("%d of %d came twice", twice, len(ids))
}

// child is the process that the test above kills: a replica for one
// subscription.
func child() int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(childEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	sub := uuid.MustParse(os.Getenv("SUB"))
	w := &childRest{rest: &rest{targets: map[uuid.UUID]schemas.Target{sub: {
		Subscription: schemas.Subscription{ID: sub.String(), Sink: os.Getenv("SINK"), Protocol: schemas.ProtocolHTTP, State: schemas.StateActive, Version: 1},
	}}}}
	fmt.Println("ready")
	err = delivery.NewWorker(pool, delivery.Options{
		Subscriptions: w, Events: w, Announcer: w, Lease: time.Second, Poll: 50 * time.Millisecond,
		Openers: map[string]delivery.Opener{schemas.ProtocolHTTP: webhook.New(webhook.Options{Dial: new(net.Dialer).DialContext})},
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}).Run(ctx)
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// childEnv makes a test process a replica: it holds the database's URL.
const childEnv = "TOCSIN_DELIVERY_TEST_CHILD"

// childRest has every event.
type childRest struct{ *rest }

func (w *childRest) Events(_ context.Context, ids []uuid.UUID) (map[uuid.UUID]event.Event, error) {
	out := map[uuid.UUID]event.Event{}
	for _, id := range slices.Compact(ids) {
		out[id] = testEvent(id, 0)
	}
	return out, nil
}
