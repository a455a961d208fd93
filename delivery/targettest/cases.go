package targettest

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin.dev/tocsin/delivery"
)

func (r *run) modes(t *testing.T) {
	for _, mode := range []delivery.ContentMode{delivery.Structured, delivery.Binary} {
		t.Run(string(mode), func(t *testing.T) {
			dest := r.destination(t, 0)
			sub := r.server.Subscription(dest)
			sub.Config.Mode = mode
			m := NewMessage(7, 10)
			mustDeliver(t, r.open(t, sub), m)
			got := r.server.Drain(t, dest, 1)
			if len(got) != 1 {
				t.Fatalf("%d messages, want 1", len(got))
			}
			e := r.decode(t, got[0])
			if e.ID() != m.EventID || e.Type() != m.Event.Type() || e.Source() != m.Event.Source() || e.Subject() != m.Event.Subject() || !e.Time().Equal(m.Event.Time()) {
				t.Errorf("attributes changed on the way:\n%v\n%v", e, m.Event)
			}
			if !bytes.Equal(e.Data(), m.Event.Data()) {
				t.Errorf("data changed on the way: %q", e.Data())
			}
			for name := range m.Event.Extensions() {
				if _, ok := e.Extensions()[name]; !ok {
					t.Errorf("extension %s is missing", name)
				}
			}
			if e.Extensions()["image"] != m.Event.Extensions()["image"] {
				t.Errorf("image is %q", e.Extensions()["image"])
			}
		})
	}
}

func (r *run) big(t *testing.T) {
	dest := r.destination(t, 0)
	m := NewMessage(1, 3<<20)
	mustDeliver(t, r.open(t, r.server.Subscription(dest)), m)
	got := r.server.Drain(t, dest, 1)
	if len(got) == 0 || !bytes.Equal(r.decode(t, got[0]).Data(), m.Event.Data()) {
		t.Fatal("the message did not arrive whole")
	}
}

func (r *run) poison(t *testing.T) {
	dest := r.destination(t, 0)
	target := r.open(t, r.server.Subscription(dest))
	mustDeliver(t, target, NewMessage(1, 10))
	want(t, deliver(t, target, 20*time.Second, NewMessage(2, r.Limit)), delivery.ClassRejected)
	mustDeliver(t, target, NewMessage(3, 10))
	if n := len(distinct(t, r, r.server.Drain(t, dest, 2))); n != 2 {
		t.Fatalf("%d messages arrived, want 2", n)
	}
}

// crowd delivers two messages over the limit among many small ones: whatever the
// server does to the connection they share, the small ones arrive, and only the
// two are refused.
func (r *run) crowd(t *testing.T) {
	dest := r.destination(t, 0)
	sub := r.server.Subscription(dest)
	sub.Config.Concurrency = 16
	target := r.open(t, sub)
	over := []delivery.Message{NewMessage(1, r.Limit), NewMessage(2, r.Limit)}
	const small = 120
	var mu sync.Mutex
	got := map[string]delivery.Outcome{}
	work := make(chan delivery.Message)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for m := range work {
				out := deliver(t, target, 60*time.Second, m)
				mu.Lock()
				got[m.EventID] = out
				mu.Unlock()
			}
		})
	}
	sent := map[string]bool{}
	for i := range small {
		if i == small/4 || i == small/2 {
			work <- over[2*i/small]
		}
		m := NewMessage(i, 100)
		sent[m.EventID] = true
		work <- m
	}
	close(work)
	wg.Wait()
	for id := range sent {
		want(t, got[id], delivery.ClassDelivered)
	}
	for _, m := range over {
		want(t, got[m.EventID], delivery.ClassRejected)
	}
	if n := len(distinct(t, r, r.server.Drain(t, dest, small))); n != small {
		t.Fatalf("%d distinct messages arrived, want %d", n, small)
	}
}

func (r *run) ordered(t *testing.T) {
	dest := r.destination(t, 0)
	sub := r.server.Subscription(dest)
	sub.Config.Ordered, sub.Config.Concurrency = true, 1
	target := r.open(t, sub)
	const n = 100
	for i := range n {
		mustDeliver(t, target, NewMessage(i, 10))
	}
	got := r.server.Drain(t, dest, n)
	for i, m := range got {
		var data struct{ N int }
		if err := json.Unmarshal(r.decode(t, m).Data(), &data); err != nil {
			t.Fatal(err)
		}
		if data.N != i {
			t.Fatalf("message %d arrived in place %d", data.N, i)
		}
	}
	if len(got) != n {
		t.Fatalf("%d messages, want %d", len(got), n)
	}
}

func (r *run) concurrent(t *testing.T) {
	dest := r.destination(t, 0)
	sub := r.server.Subscription(dest)
	sub.Config.Concurrency = 16
	target := r.open(t, sub)
	const workers, each = 16, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				if out := deliver(t, target, 30*time.Second, NewMessage(i, 500)); out.Class != delivery.ClassDelivered {
					t.Errorf("class %s: %v", out.Class, out.Err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(distinct(t, r, r.server.Drain(t, dest, workers*each))); n != workers*each {
		t.Fatalf("%d distinct events arrived, want %d", n, workers*each)
	}
}

func (r *run) credentials(t *testing.T) {
	sub := r.server.Subscription(r.destination(t, 0))
	sub.Credential.Username, sub.Credential.Password = "tocsin", "hunter2wrong"
	out := r.outcomeOf(t, sub, r.dial, 15*time.Second)
	want(t, out, delivery.ClassAuth)
	if strings.Contains(out.Err.Error()+out.Response, "hunter2wrong") {
		t.Errorf("the password shows in %q", out.Err)
	}
}

func (r *run) tls(t *testing.T) {
	if r.server.TLSHost() == "" {
		t.Log("this server is run without TLS; another one of the same protocol covers it")
		return
	}
	dest := r.destination(t, 0)
	sub := r.server.Subscription(dest)
	sub.Sink = r.TLSScheme + "://" + r.server.TLSHost()
	want(t, r.outcomeOf(t, sub, r.dial, 15*time.Second), delivery.ClassTLS)
	sub.TLS.CA = r.server.CA()
	want(t, r.outcomeOf(t, sub, r.dial, 15*time.Second), delivery.ClassDelivered)
	sub.TLS.ServerName = "somebody.else.example"
	want(t, r.outcomeOf(t, sub, r.dial, 15*time.Second), delivery.ClassTLS)
	if n := len(r.server.Drain(t, dest, 1)); n != 1 {
		t.Fatalf("%d messages, want 1", n)
	}
}

func (r *run) failover(t *testing.T) {
	dest := r.destination(t, 0)
	sub := r.server.Subscription(dest)
	dead := freePorts(t, 1)[0]
	sub.Sink = r.Scheme + "://" + Address(dead)
	want(t, r.outcomeOf(t, sub, r.dial, 10*time.Second), delivery.ClassConnect)
	sub.Settings.Failover = []string{r.Scheme + "://" + r.server.Host()}
	mustDeliver(t, r.open(t, sub), NewMessage(1, 10))
	if n := len(r.server.Drain(t, dest, 1)); n != 1 {
		t.Fatalf("%d messages, want 1", n)
	}
}

// silent delivers to a listener that accepts and says nothing.
func (r *run) silent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	sub := r.server.Subscription("nowhere")
	sub.Sink = r.Scheme + "://" + l.Addr().String()
	want(t, r.outcomeOf(t, sub, r.dial, 500*time.Millisecond), delivery.ClassTimeout)
}

func (r *run) blocked(t *testing.T) {
	guard := func(context.Context, string, string) (net.Conn, error) { return nil, errBlocked }
	want(t, r.outcomeOf(t, r.server.Subscription("x"), guard, 5*time.Second), delivery.ClassBlocked)
}

func (r *run) invalid(t *testing.T) {
	for name, change := range map[string]func(*delivery.Subscription){
		"scheme":   func(s *delivery.Subscription) { s.Sink = "gopher://127.0.0.1/" },
		"no host":  func(s *delivery.Subscription) { s.Sink = r.Scheme + "://" },
		"failover": func(s *delivery.Subscription) { s.Settings.Failover = []string{"http://user:hunter2@127.0.0.1/"} },
		"template": func(s *delivery.Subscription) {
			s.Settings.Destination, s.Settings.RoutingKey, s.Settings.Subject = "a{type", "a{type", "a{type"
		},
		"CA":     func(s *delivery.Subscription) { s.TLS.CA = "no PEM" },
		"header": func(s *delivery.Subscription) { s.Settings.Headers = map[string]string{"Content-Type": "x"} },
	} {
		t.Run(name, func(t *testing.T) {
			sub := r.server.Subscription("x")
			change(&sub)
			_, err := r.Opener(r.dial).Open(t.Context(), sub)
			if err == nil || delivery.Classify(err) != delivery.ClassInvalid {
				t.Fatalf("error %v of class %s, want class invalid", err, delivery.Classify(err))
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a password shows in %q", err)
			}
		})
	}
}

func (r *run) full(t *testing.T) {
	dest := r.destination(t, 3)
	target := r.open(t, r.server.Subscription(dest))
	first := NewMessage(0, 10)
	mustDeliver(t, target, first)
	var refused delivery.Message
	for i := range 10 {
		m := NewMessage(i+1, 10)
		if out := deliver(t, target, 15*time.Second, m); out.Class != delivery.ClassDelivered {
			want(t, out, delivery.ClassRetry)
			refused = m
			break
		}
	}
	if refused.Event == nil {
		t.Fatal("the destination is never full")
	}
	r.server.Drain(t, dest, 3)
	mustDeliver(t, target, refused)
	if seen := distinct(t, r, r.server.Drain(t, dest, 1)); seen[refused.EventID] == 0 {
		t.Fatal("the message that was refused at first did not arrive")
	}
}

func (r *run) gone(t *testing.T) {
	dest := r.destination(t, 0)
	target := r.open(t, r.server.Subscription(dest))
	mustDeliver(t, target, NewMessage(1, 10))
	r.server.Stop()
	for range 3 {
		want(t, deliver(t, target, 5*time.Second, NewMessage(2, 10)), delivery.ClassConnect)
	}
	r.server.Start()
	last := NewMessage(3, 10)
	persist(t, target, last)
	if seen := distinct(t, r, r.server.Drain(t, dest, 2)); seen[last.EventID] == 0 {
		t.Fatal("the message after the outage did not arrive")
	}
}

// persist delivers as the queue would: again until it is taken.
func persist(t *testing.T, target delivery.Target, m delivery.Message) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		out := deliver(t, target, 10*time.Second, m)
		if out.Class == delivery.ClassDelivered {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not delivered in a minute: class %s: %v", out.Class, out.Err)
		}
		time.Sleep(20 * time.Millisecond) // the queue's schedule, in small
	}
}

func (r *run) restart(t *testing.T) {
	dest := r.destination(t, 0)
	target := r.open(t, r.server.Subscription(dest))
	const n = 60
	sent := map[string]bool{}
	half := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-half
		r.server.Stop()
		r.server.Start()
	}()
	for i := range n {
		if i == n/3 {
			close(half)
		}
		m := NewMessage(i, 100)
		persist(t, target, m)
		sent[m.EventID] = true
	}
	<-done
	m := NewMessage(n, 100)
	persist(t, target, m)
	sent[m.EventID] = true
	seen := distinct(t, r, r.server.Drain(t, dest, len(sent)))
	for id := range sent {
		if seen[id] == 0 {
			t.Errorf("event %s was acknowledged and is lost", id)
		}
	}
}
