package targettest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"tocsin.dev/tocsin/delivery"
)

// Server is one real server as the suite needs it. Destinations are queues,
// subjects or whatever the protocol has; they are durable and exist once
// Prepare has returned.
type Server interface {
	Stop()
	Start()
	// Subscription is one that works and delivers to the destination.
	Subscription(destination string) delivery.Subscription
	// Prepare makes the destination; with most above 0 it refuses what is
	// over that many messages.
	Prepare(t testing.TB, destination string, most int)
	// Drain takes messages from the destination until it has n with distinct
	// bodies or a deadline passes; repeats are in the result too.
	Drain(t testing.TB, destination string, n int) []Received
	// Host is the address without scheme of the port in use, and of the TLS
	// port ("" if there is none).
	Host() string
	TLSHost() string
	// CA is the PEM of the authority that signed the TLS port's certificate.
	CA() string
}

// Suite is what every target must pass. All of it runs against one server.
type Suite struct {
	Opener func(delivery.DialFunc) delivery.Opener
	Start  func(testing.TB) Server
	// Scheme and TLSScheme begin the sink's URL.
	Scheme, TLSScheme string
	// Prefix precedes an attribute's name in binary mode.
	Prefix string
	// Bounded says that a full destination refuses messages on this server.
	Bounded bool
	// Limit is the size in bytes over which the server rejects a message
	// for good; 0 if it has none that a test can reach.
	Limit int
	// Clair says that content mode clair exists; its opener makes the messages
	// with [Clair].
	Clair bool
	// More are further subtests that need the server.
	More map[string]func(*testing.T, Server)
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	r := &run{Suite: s, server: s.Start(t), dial: (&net.Dialer{}).DialContext}
	for name, test := range map[string]func(*testing.T){
		"an event arrives as the SDK reads it, in each mode": r.modes,
		"a message of three megabytes":                       r.big,
		"order is kept when asked":                           r.ordered,
		"many at once":                                       r.concurrent,
		"a wrong password is class auth and shows nowhere":   r.credentials,
		"TLS: trusted, not trusted":                          r.tls,
		"failover to the next address":                       r.failover,
		"a server that never answers is class timeout":       r.silent,
		"a guarded address is class blocked":                 r.blocked,
		"settings that cannot work are class invalid":        r.invalid,
	} {
		t.Run(name, test)
	}
	if s.Clair {
		t.Run("Clair's notifications", r.clair)
	}
	if s.Bounded {
		t.Run("a full destination is retried, not lost", r.full)
	}
	if s.Limit > 0 {
		t.Run("a message over the limit is rejected and the next one passes", r.poison)
		t.Run("of many at once only those over the limit are rejected", r.crowd)
	}
	for name, test := range s.More {
		t.Run(name, func(t *testing.T) { test(t, r.server) })
	}
	t.Run("the broker gone and back", r.gone)
	t.Run("nothing acknowledged is lost over a restart", r.restart)
}

type run struct {
	Suite
	server Server
	dial   delivery.DialFunc
}

// NewMessage makes a message of an event with hostile attributes and data of
// about the given size.
func NewMessage(n, size int) delivery.Message {
	e := event.New()
	e.SetID(uuid.Must(uuid.NewV7()).String())
	e.SetSource("urn:tocsin:targettest")
	e.SetType("dev.tocsin.ping.v1")
	e.SetSubject("sha256:with:colons\\and\"quotes")
	e.SetTime(time.Unix(1700000000, 0).UTC())
	e.SetExtension("severity", "High")
	e.SetExtension("added", int32(n))
	e.SetExtension("kev", true)
	e.SetExtension("image", "registry.example/team/app:1.0 – ünïcode\ttab")
	if err := e.SetData(event.ApplicationJSON, map[string]any{"n": n, "nul": "a\x00b", "fill": strings.Repeat("x", size)}); err != nil {
		panic(err)
	}
	structured, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return delivery.Message{DeliveryID: uuid.Must(uuid.NewV7()), EventID: e.ID(), Attempt: 1, Event: &e, Structured: structured}
}

func (r *run) open(t *testing.T, sub delivery.Subscription) delivery.Target {
	t.Helper()
	target, err := r.Opener(r.dial).Open(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := target.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return target
}

// deliver makes one attempt and checks that an outcome which is not a success
// has a reason, and that one which is has none.
func deliver(t *testing.T, target delivery.Target, timeout time.Duration, m delivery.Message) delivery.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	out := target.Deliver(ctx, []delivery.Message{m})
	if (out.Err == nil) != (out.Class == delivery.ClassDelivered) {
		t.Fatalf("class %s with error %v", out.Class, out.Err)
	}
	return out
}

func mustDeliver(t *testing.T, target delivery.Target, m delivery.Message) {
	t.Helper()
	if out := deliver(t, target, 15*time.Second, m); out.Class != delivery.ClassDelivered {
		t.Fatalf("class %s: %v", out.Class, out.Err)
	}
}

func want(t *testing.T, out delivery.Outcome, class delivery.Class) {
	t.Helper()
	if out.Class != class {
		t.Fatalf("class %s (%v), want %s", out.Class, out.Err, class)
	}
}

// destination is a new one for the test.
func (r *run) destination(t *testing.T, most int) string {
	t.Helper()
	name := fmt.Sprintf("targettest-%s", uuid.NewString()[:8])
	r.server.Prepare(t, name, most)
	return name
}

func (r *run) decode(t *testing.T, m Received) *event.Event {
	t.Helper()
	e, err := m.Decode(r.Prefix)
	if err != nil {
		t.Fatalf("the SDK can't read the message: %v\n%s %v", err, m.ContentType, m.Headers)
	}
	return e
}

// outcomeOf opens and delivers once: where a mistake shows is the target's
// choice.
func (r *run) outcomeOf(t *testing.T, sub delivery.Subscription, dial delivery.DialFunc, timeout time.Duration) delivery.Outcome {
	t.Helper()
	target, err := r.Opener(dial).Open(t.Context(), sub)
	if err != nil {
		return delivery.Failure(err)
	}
	defer target.Close(context.Background())
	return deliver(t, target, timeout, NewMessage(1, 10))
}

var errBlocked = fmt.Errorf("10.0.0.1 is private: %w", delivery.ErrBlocked)

func distinct(t *testing.T, r *run, got []Received) map[string]int {
	seen := map[string]int{}
	for _, m := range got {
		seen[r.decode(t, m).ID()]++
	}
	return seen
}
