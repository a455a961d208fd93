package delivery_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/webhook"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
	"tocsin.dev/tocsin/schemas"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	postgrestest.Main(m)
}

// hub is a queue over a database of its own, with the subscriptions, events
// and announcements that the rest of Tocsin would provide.
type hub struct {
	t      *testing.T
	pool   *pgxpool.Pool
	store  *delivery.Store
	worker *delivery.Worker // does not run
	rest   *rest
	opts   delivery.Options
}

// rest implements delivery's Subscriptions, Events, Announcer and Waker.
type rest struct {
	mu        sync.Mutex
	targets   map[uuid.UUID]schemas.Target
	events    map[uuid.UUID]event.Event
	announced []announcement
	hints     []chan struct{}
	failing   error // what Events answers with
	broken    unreadable
}

type announcement struct {
	what  string
	state schemas.SubscriptionState
}

func (w *rest) Targets(_ context.Context, ids []uuid.UUID) (map[uuid.UUID]schemas.Target, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[uuid.UUID]schemas.Target{}
	for _, id := range ids {
		if t, ok := w.targets[id]; ok {
			out[id] = t
		}
	}
	return out, nil
}

func (w *rest) Events(_ context.Context, ids []uuid.UUID) (map[uuid.UUID]event.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing != nil {
		return nil, w.failing
	}
	out := map[uuid.UUID]event.Event{}
	broken := unreadable{}
	for _, id := range ids {
		if reason, ok := w.broken[id]; ok {
			broken[id] = reason
		} else if e, ok := w.events[id]; ok {
			out[id] = e
		}
	}
	if len(broken) > 0 {
		return out, fmt.Errorf("read: %w", broken)
	}
	return out, nil
}

// unreadable is what Events says of events that it can't read.
type unreadable map[uuid.UUID]error

func (u unreadable) Error() string                   { return fmt.Sprint(len(u), " events can't be read") }
func (u unreadable) Unreadable() map[uuid.UUID]error { return u }

func (w *rest) OnWake(context.Context, string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{}, 1)
	w.hints = append(w.hints, c)
	return c
}

func (w *rest) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.hints {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (w *rest) announce(what string, s schemas.SubscriptionState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.announced = append(w.announced, announcement{what, s})
}

func (w *rest) announcements(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, a := range w.announced {
		if a.what == what {
			n++
		}
	}
	return n
}

func (w *rest) SubscriptionFailing(_ context.Context, _ pgx.Tx, s schemas.SubscriptionState) error {
	w.announce("failing", s)
	return nil
}

func (w *rest) SubscriptionRecovered(_ context.Context, _ pgx.Tx, s schemas.SubscriptionState) error {
	w.announce("recovered", s)
	return nil
}

func (w *rest) SubscriptionDisabled(_ context.Context, _ pgx.Tx, s schemas.SubscriptionState) error {
	w.announce("disabled", s)
	w.change(uuid.MustParse(s.Subscription), func(t *schemas.Target) { t.Subscription.State = schemas.StateDisabled })
	return nil
}

// change changes a subscription, giving it a new version.
func (w *rest) change(id uuid.UUID, f func(*schemas.Target)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.targets[id]
	f(&t)
	t.Subscription.Version++
	w.targets[id] = t
}

func (w *rest) remove(id uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.targets, id)
}

// newHub makes a hub; its queue does not run yet.
func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t, pool: postgrestest.New(t)}
	h.rest = &rest{targets: map[uuid.UUID]schemas.Target{}, events: map[uuid.UUID]event.Event{}}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	h.opts = delivery.Options{
		Subscriptions: h.rest, Events: h.rest, Announcer: h.rest, Waker: h.rest,
		Openers:    map[string]delivery.Opener{schemas.ProtocolHTTP: webhook.New(webhook.Options{Dial: new(net.Dialer).DialContext})},
		Logger:     log,
		Registerer: prometheus.NewRegistry(),
		Poll:       100 * time.Millisecond,
		Refresh:    50 * time.Millisecond,
		Drain:      5 * time.Second,
		Conns:      4,
	}
	h.store = delivery.NewStore(h.pool, delivery.StoreOptions{Wake: h.rest.wake})
	h.worker = delivery.NewWorker(h.pool, h.opts)
	return h
}

// run runs a replica of the queue until the test ends or stop is called.
func (h *hub) run(change ...func(*delivery.Options)) (stop func()) {
	h.t.Helper()
	o := h.opts
	o.Registerer = prometheus.NewRegistry()
	for _, f := range change {
		f(&o)
	}
	q := delivery.NewWorker(h.pool, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				h.t.Errorf("Run: %v", err)
			}
		})
	}
	h.t.Cleanup(stop)
	return stop
}

// secret is a signing secret for tests.
var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))

// subscribe adds a webhook subscription.
func (h *hub) subscribe(sink string, change ...func(*schemas.Target)) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	t := schemas.Target{
		Subscription: schemas.Subscription{
			ID: id.String(), Name: "test", Sink: sink, Protocol: schemas.ProtocolHTTP, State: schemas.StateActive, Version: 1,
		},
		SigningSecrets: []string{secret},
	}
	for _, f := range change {
		f(&t)
	}
	h.rest.mu.Lock()
	defer h.rest.mu.Unlock()
	h.rest.targets[id] = t
	return id
}

// config changes how a subscription is delivered to.
func config(f func(*schemas.SubscriptionConfig)) func(*schemas.Target) {
	return func(t *schemas.Target) { f(&t.Subscription.Config) }
}

// schedule sets the retry delays, without jitter.
func schedule(delays ...time.Duration) func(*schemas.Target) {
	return config(func(c *schemas.SubscriptionConfig) {
		none := 0.0
		c.Retry = &schemas.Retry{Schedule: []schemas.Duration{}, Jitter: &none}
		for _, d := range delays {
			c.Retry.Schedule = append(c.Retry.Schedule, schemas.Duration(d))
		}
	})
}

// publish makes n events and owes each to all of subs, in one transaction.
func (h *hub) publish(n int, subs ...uuid.UUID) []uuid.UUID {
	h.t.Helper()
	ids := make([]uuid.UUID, n)
	var owed []schemas.NewDelivery
	h.rest.mu.Lock()
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
		h.rest.events[ids[i]] = testEvent(ids[i], i)
		for _, s := range subs {
			owed = append(owed, schemas.NewDelivery{EventID: ids[i], SubscriptionID: s})
		}
	}
	h.rest.mu.Unlock()
	if err := pgx.BeginFunc(h.t.Context(), h.pool, func(tx pgx.Tx) error { return h.store.Enqueue(h.t.Context(), tx, owed) }); err != nil {
		h.t.Fatal(err)
	}
	h.rest.wake()
	return ids
}

func testEvent(id uuid.UUID, i int) event.Event {
	e := event.New()
	e.SetID(id.String())
	e.SetSource("urn:tocsin:test")
	e.SetType(schemas.TypePing)
	e.SetTime(time.Now())
	e.SetExtension("severityrank", int32(4))
	if err := e.SetData(event.ApplicationJSON, schemas.Ping{Message: fmt.Sprint("ping ", i)}); err != nil {
		panic(err)
	}
	return e
}

// count runs a query for one number.
func (h *hub) count(sql string, args ...any) int {
	h.t.Helper()
	var n int
	if err := h.pool.QueryRow(h.t.Context(), sql, args...).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// eventually waits for a condition.
func (h *hub) eventually(what string, ok func() bool) {
	h.t.Helper()
	eventually(h.t, what, ok)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled waits until a subscription has n deliveries in a state.
func (h *hub) settled(sub uuid.UUID, state string, n int) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("%d deliveries %s", n, state), func() bool {
		return h.count(`SELECT count(*) FROM tocsin.delivery WHERE subscription_id = $1 AND state = $2`, sub, state) == n
	})
}

// sink is a web server that records what it gets.
type sink struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	answer func(n int, w http.ResponseWriter, r *http.Request) // n counts from 1
}

type received struct {
	at     time.Time
	header http.Header
	body   []byte
}

func newSink(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *sink {
	s := &sink{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.got = append(s.got, received{time.Now(), r.Header.Clone(), body})
		n := len(s.got)
		s.mu.Unlock()
		if s.answer != nil {
			s.answer(n, w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

// ids are the event ids in the order they came.
func (s *sink) ids() []string {
	var ids []string
	for _, r := range s.received() {
		ids = append(ids, r.header.Get("Webhook-Id"))
	}
	return ids
}

// status answers every request with the code.
func status(code int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}
