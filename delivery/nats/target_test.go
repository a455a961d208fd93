package nats_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	gonats "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/nats"
	"tocsin.dev/tocsin/delivery/targettest"
	"tocsin.dev/tocsin/schemas"
)

func TestTarget(t *testing.T) {
	targettest.Run(t, targettest.Suite{
		Opener: func(dial delivery.DialFunc) delivery.Opener { return nats.Opener{Dial: dial} },
		Start:  func(t testing.TB) targettest.Server { return server{targettest.StartNATS(t)} },
		Scheme: "nats", TLSScheme: "tls", Prefix: "ce-", Bounded: true, Limit: targettest.NATSPayloadLimit + 1,
	})
}

// TestCore delivers without JetStream to somebody who listens, and checks that
// JetStream without a stream says so.
func TestCore(t *testing.T) {
	s := server{targettest.StartNATS(t)}
	nc := s.connect(t)
	listen, err := nc.SubscribeSync("alerts.High.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	sub := s.Subscription("x")
	sub.Settings = schemas.ProtocolSettings{Subject: "alerts.{severity}.{updater}"}
	try := func() delivery.Outcome {
		target, err := nats.Opener{Dial: (&net.Dialer{}).DialContext}.Open(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return target.Deliver(ctx, []delivery.Message{targettest.NewMessage(1, 10)})
	}
	if out := try(); out.Class != delivery.ClassDelivered {
		t.Fatalf("class %s: %v", out.Class, out.Err)
	}
	if m, err := listen.NextMsg(5 * time.Second); err != nil || m.Subject != "alerts.High.none" {
		t.Fatalf("%v %v", m, err)
	}
	sub.Settings.JetStream = true
	sub.Settings.Subject = "nobody.{severity}"
	if out := try(); out.Class != delivery.ClassUnroutable {
		t.Fatalf("class %s: %v", out.Class, out.Err)
	}
}

// TestForbiddenSubject publishes to a subject that the user must not publish to,
// and beside it, on the same connection, to one that he may.
func TestForbiddenSubject(t *testing.T) {
	s := server{targettest.StartNATS(t)}
	for _, js := range []bool{true, false} {
		sub := s.Subscription("{severity}.x")
		sub.Settings.JetStream, sub.Credential.Username = js, targettest.NATSLimitedUser
		if js {
			if _, err := s.stream(t).CreateStream(t.Context(), jetstream.StreamConfig{Name: "both", Subjects: []string{"secret.x", "public.x"}}); err != nil {
				t.Fatal(err)
			}
		}
		target, err := nats.Opener{Dial: (&net.Dialer{}).DialContext}.Open(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close(t.Context())
		var wg sync.WaitGroup
		for i := range 40 {
			severity, want := "public", delivery.ClassDelivered
			if i%4 == 0 {
				severity, want = "secret", delivery.ClassAuth
			}
			m := targettest.NewMessage(i, 10)
			m.Event.SetExtension("severity", severity)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if out := target.Deliver(ctx, []delivery.Message{m}); out.Class != want {
					t.Errorf("jetstream %t, %s: class %s (%v), want %s", js, severity, out.Class, out.Err, want)
				}
			})
		}
		wg.Wait()
	}
}

type server struct{ *targettest.NATS }

func (s server) Host() string    { return targettest.Address(s.Port) }
func (s server) TLSHost() string { return s.Host() }
func (s server) CA() string      { return s.Certs.CAPEM }

func (s server) Subscription(destination string) delivery.Subscription {
	return delivery.Subscription{
		Protocol: schemas.ProtocolNATS, Sink: "nats://" + s.Host(),
		Settings:   schemas.ProtocolSettings{Subject: destination, JetStream: true},
		Credential: delivery.Credential{Username: s.User, Password: delivery.Secret(s.Password)},
	}
}

func (s server) connect(t testing.TB) *gonats.Conn {
	t.Helper()
	nc, err := gonats.Connect("nats://"+s.Host(), gonats.UserInfo(s.User, s.Password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (s server) stream(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(s.connect(t))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func (s server) Prepare(t testing.TB, destination string, most int) {
	t.Helper()
	config := jetstream.StreamConfig{
		Name: destination, Subjects: []string{destination}, Storage: jetstream.FileStorage,
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxMsgs: -1,
	}
	if most > 0 {
		config.MaxMsgs = int64(most)
	}
	if _, err := s.stream(t).CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

func (s server) Drain(t testing.TB, destination string, n int) []targettest.Received {
	t.Helper()
	consumer, err := s.stream(t).CreateOrUpdateConsumer(t.Context(), destination, jetstream.ConsumerConfig{Durable: "drain", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	return targettest.Collect(n, func() (targettest.Received, bool) {
		m, err := consumer.Next(jetstream.FetchMaxWait(200 * time.Millisecond))
		if errors.Is(err, gonats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages) {
			return targettest.Received{}, false
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		headers := map[string]string{}
		for k := range m.Headers() {
			headers[k] = m.Headers()[k][0]
		}
		contentType := headers["content-type"]
		if contentType == "" {
			contentType = headers["ce-datacontenttype"]
		}
		return targettest.Received{ContentType: contentType, Headers: headers, Body: m.Data()}, true
	})
}
