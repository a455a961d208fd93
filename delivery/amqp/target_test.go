package amqp_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/amqp"
	"tocsin.dev/tocsin/delivery/targettest"
	"tocsin.dev/tocsin/schemas"
)

func TestTarget(t *testing.T) {
	targettest.Run(t, targettest.Suite{
		Opener: func(dial delivery.DialFunc) delivery.Opener {
			return amqp.Opener{Dial: dial, Clair: targettest.Clair()}
		},
		Start:  func(t testing.TB) targettest.Server { return server{targettest.StartRabbitMQ(t)} },
		Scheme: "amqp", TLSScheme: "amqps", Prefix: "cloudEvents_", Bounded: true, Clair: true,
		Limit: targettest.RabbitMQMessageLimit + 1,
	})
}

// TestAlarm delivers to a broker that is short of memory: it blocks publishers,
// which it tells them only after they have published.
func TestAlarm(t *testing.T) {
	t.Parallel()
	s := server{targettest.StartRabbitMQ(t, "vm_memory_high_watermark.absolute = 1MB")}
	s.Prepare(t, "alarm", 0)
	var dials atomic.Int64
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	target, err := amqp.Opener{Dial: dial}.Open(t.Context(), s.Subscription("alarm"))
	must(t, err)
	defer target.Close(t.Context())
	for i := range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out := target.Deliver(ctx, []delivery.Message{targettest.NewMessage(i, 10)})
		cancel()
		if out.Class != delivery.ClassThrottled || out.RetryAfter <= 0 || out.Err == nil {
			t.Fatalf("message %d: class %s (%v), retry after %s", i, out.Class, out.Err, out.RetryAfter)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections, want one: each new one hands a message over again", n)
	}
}

// TestLongRoutingKey: a key over 255 bytes can't be written, and must not end
// the connection that others share.
func TestLongRoutingKey(t *testing.T) {
	t.Parallel()
	dial := func(context.Context, string, string) (net.Conn, error) {
		t.Error("it dials for a message that can't be sent")
		return nil, net.ErrClosed
	}
	sub := delivery.Subscription{Protocol: schemas.ProtocolAMQP, Sink: "amqp://127.0.0.1", Settings: schemas.ProtocolSettings{RoutingKey: "a.{image}"}}
	target, err := amqp.Opener{Dial: dial}.Open(t.Context(), sub)
	must(t, err)
	defer target.Close(t.Context())
	m := targettest.NewMessage(1, 10)
	m.Event.SetExtension("image", strings.Repeat("x", 300))
	if out := target.Deliver(t.Context(), []delivery.Message{m}); out.Class != delivery.ClassRejected {
		t.Errorf("class %s: %v", out.Class, out.Err)
	}
}

func TestUnroutableAndExchanges(t *testing.T) {
	s := server{targettest.StartRabbitMQ(t)}
	dial := (&net.Dialer{}).DialContext
	try := func(change func(*schemas.ProtocolSettings)) delivery.Outcome {
		t.Helper()
		sub := s.Subscription("nobody-listens")
		change(&sub.Settings)
		target, err := amqp.Opener{Dial: dial}.Open(t.Context(), sub)
		if err != nil {
			return delivery.Failure(err)
		}
		defer target.Close(t.Context())
		return target.Deliver(t.Context(), []delivery.Message{targettest.NewMessage(1, 10)})
	}
	for _, c := range []struct {
		name   string
		change func(*schemas.ProtocolSettings)
		want   delivery.Class
	}{
		{"no queue", func(*schemas.ProtocolSettings) {}, delivery.ClassUnroutable},
		{"no such exchange, passive", func(p *schemas.ProtocolSettings) { p.Exchange = "absent" }, delivery.ClassInvalid},
		{"no such exchange, none", func(p *schemas.ProtocolSettings) { p.Exchange, p.Declare = "absent", "none" }, delivery.ClassInvalid},
		{"declared here, nothing bound", func(p *schemas.ProtocolSettings) {
			p.Exchange, p.Declare, p.ExchangeType = "made-here", "active", "topic"
		}, delivery.ClassUnroutable},
		{"the declared one is there now", func(p *schemas.ProtocolSettings) { p.Exchange = "made-here" }, delivery.ClassUnroutable},
		{"wrong virtual host", func(p *schemas.ProtocolSettings) { p.VHost = "absent" }, delivery.ClassAuth},
		{"bad exchange type", func(p *schemas.ProtocolSettings) {
			p.Exchange, p.Declare, p.ExchangeType = "x", "active", "round"
		}, delivery.ClassInvalid},
	} {
		if out := try(c.change); out.Class != c.want {
			t.Errorf("%s: class %s (%v), want %s", c.name, out.Class, out.Err, c.want)
		}
	}
}

// TestRoutingKeyTemplate binds a queue to one severity and checks that only
// events of it arrive there, with the attribute's bad characters replaced.
func TestRoutingKeyTemplate(t *testing.T) {
	s := server{targettest.StartRabbitMQ(t)}
	ch := s.channel(t)
	must(t, ch.ExchangeDeclare("alerts", "topic", true, false, false, false, nil))
	_, err := ch.QueueDeclare("high", true, false, false, false, nil)
	must(t, err)
	must(t, ch.QueueBind("high", "vuln.High.registry_example_team_app_1_0____n_code_tab.none", "alerts", false, nil))
	sub := s.Subscription("")
	sub.Settings.Exchange, sub.Settings.RoutingKey = "alerts", "vuln.{severity}.{image}.{absent}"
	target, err := amqp.Opener{Dial: (&net.Dialer{}).DialContext}.Open(t.Context(), sub)
	must(t, err)
	defer target.Close(t.Context())
	if out := target.Deliver(t.Context(), []delivery.Message{targettest.NewMessage(1, 10)}); out.Class != delivery.ClassDelivered {
		t.Fatalf("class %s: %v", out.Class, out.Err)
	}
	if n := len(s.Drain(t, "high", 1)); n != 1 {
		t.Fatalf("%d messages, want 1", n)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type server struct{ *targettest.RabbitMQ }

func (s server) Host() string    { return targettest.Address(s.AMQP) }
func (s server) TLSHost() string { return targettest.Address(s.AMQPS) }
func (s server) CA() string      { return s.Certs.CAPEM }

func (s server) Subscription(destination string) delivery.Subscription {
	return delivery.Subscription{
		Protocol: schemas.ProtocolAMQP, Sink: "amqp://" + s.Host(),
		Settings:   schemas.ProtocolSettings{RoutingKey: destination},
		Credential: delivery.Credential{Username: s.User, Password: delivery.Secret(s.Password)},
	}
}

func (s server) channel(t testing.TB) *amqp091.Channel {
	t.Helper()
	conn, err := amqp091.Dial(fmt.Sprintf("amqp://%s:%s@%s/", s.User, s.Password, s.Host()))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	must(t, err)
	return ch
}

func (s server) Prepare(t testing.TB, destination string, most int) {
	t.Helper()
	args := amqp091.Table{}
	if most > 0 {
		args["x-max-length"], args["x-overflow"] = int32(most), "reject-publish"
	}
	_, err := s.channel(t).QueueDeclare(destination, true, false, false, false, args)
	must(t, err)
}

func (s server) Drain(t testing.TB, destination string, n int) []targettest.Received {
	t.Helper()
	ch := s.channel(t)
	return targettest.Collect(n, func() (targettest.Received, bool) {
		d, ok, err := ch.Get(destination, true)
		must(t, err)
		headers := map[string]string{}
		for k, v := range d.Headers {
			headers[k] = fmt.Sprint(v)
		}
		if ok && d.DeliveryMode != amqp091.Persistent {
			t.Error("a message is not persistent")
		}
		return targettest.Received{ContentType: d.ContentType, Headers: headers, Body: d.Body}, ok
	})
}
