package protocols

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/schemas"
)

// draws are subscriptions made of values that somebody may well give, many of
// them wrong somewhere.
func draws(t *rapid.T) schemas.Subscription {
	one := func(name string, values ...string) string { return rapid.SampledFrom(values).Draw(t, name) }
	maybe := func(name string, values ...string) string {
		if rapid.IntRange(0, 3).Draw(t, name+"?") > 0 {
			return ""
		}
		return one(name, values...)
	}
	mostly := func(name, good string, others ...string) string {
		if rapid.IntRange(0, 2).Draw(t, name+"?") > 0 {
			return good
		}
		return one(name, others...)
	}
	long := strings.Repeat("x", 300)
	templates := []string{"q", "/queue/x", "a.b", "a..b", ".a", "a b", "a.*", ">", "$JS.API.x", "vuln.{severity}.{image}", "{colour}", "x}y", "a{type", long, long + "{type}", "ü", "a\tb"}
	host := mostly("host", "h", "127.0.0.1:5000", "[::1]:1", "h:", "", "h:99999", "h h")
	path := mostly("path", "", "/", "/vhost", "/a%2Fb", "/a/b", "/x?a=b c", "/x?a=bücher", "?heartbeat=5", "/%zz", "/x#f", "/a b")
	s := schemas.Subscription{
		Protocol: one("protocol", append(Names(), "GOPHER")...),
		ProtocolSettings: schemas.ProtocolSettings{
			Exchange: maybe("exchange", "x", long), ExchangeType: maybe("exchangetype", "topic", "round"), Declare: maybe("declare", "active", "passive", "none", "so"),
			RoutingKey: mostly("routingkey", "q", templates...), Destination: mostly("destination", "/queue/x", templates...), Subject: mostly("subject", "a.{type}", templates...),
			VHost: maybe("vhost", "v", long), JetStream: rapid.Bool().Draw(t, "jetstream"),
			CA: maybe("ca", "no PEM"), ServerName: maybe("servername", "s", long),
		},
		Config: schemas.SubscriptionConfig{Mode: maybe("mode", "structured", "binary", "batched", "clair", "xml")},
	}
	if h := maybe("header", "X-A", "X-Ü", "Traceparent", "Keep-Alive", "Proxy-Connection", "User-Agent", "content-type", "cloudEvents_id", "ce-id", "Nats-Msg-Id",
		"receipt", "persistent", "message-key", "Host", "a b", "", long, "Cookie", "webhook-id"); h != "" {
		s.ProtocolSettings.Headers = map[string]string{h: one("value", "v", "ü€", "a\r\nb", "a\x00", "")}
	}
	scheme := "https"
	for _, p := range All() {
		if p.Name == s.Protocol {
			scheme = one("scheme", p.Schemes...)
			// The settings of other protocols are refused, which hides the rest.
			s.ProtocolSettings = own(t, p, s.ProtocolSettings)
		}
	}
	s.Sink = mostly("sink", scheme, "ftp") + "://" + host + path
	switch one("credential", "none", "none", schemas.CredentialPlain, schemas.CredentialAccessToken) {
	case schemas.CredentialPlain:
		s.SinkCredential = &schemas.SinkCredential{CredentialType: schemas.CredentialPlain, Identifier: one("user", "u", "a:b", "ü"), Secret: "p"}
	case schemas.CredentialAccessToken:
		s.SinkCredential = &schemas.SinkCredential{CredentialType: schemas.CredentialAccessToken, AccessToken: one("token", "t", "ü", "a\x7fb")}
	}
	return s
}

// own leaves mostly the settings that the protocol has.
func own(t *rapid.T, p delivery.Protocol, s schemas.ProtocolSettings) schemas.ProtocolSettings {
	if rapid.IntRange(0, 9).Draw(t, "foreign") == 0 {
		return s
	}
	has := map[string]bool{}
	for _, x := range p.Settings {
		has[x.Name] = true
	}
	keep := func(name string, v *string) {
		if !has[name] {
			*v = ""
		}
	}
	keep("exchange", &s.Exchange)
	keep("exchangetype", &s.ExchangeType)
	keep("declare", &s.Declare)
	keep("routingkey", &s.RoutingKey)
	keep("destination", &s.Destination)
	keep("subject", &s.Subject)
	keep("vhost", &s.VHost)
	s.JetStream = s.JetStream && has["jetstream"]
	return s
}

// TestAcceptedMeansItOpens: whatever is accepted, its target can be opened, and
// its destination is one that the protocol can be given for any event.
func TestAcceptedMeansItOpens(t *testing.T) {
	t.Parallel()
	openers := Openers(delivery.Environment{Dial: noDial, UserAgent: "test", ClairCallback: "https://t.example/"})
	accepted := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			spec := draws(t)
			if len(Checker{}.Check(spec)) > 0 {
				continue
			}
			accepted[spec.Protocol]++
			spec.ID = uuid.NewString()
			sub, err := delivery.FromTarget(schemas.Target{Subscription: spec, Credential: spec.SinkCredential})
			if err != nil {
				t.Fatal(err)
			}
			target, err := openers[spec.Protocol].Open(context.Background(), sub)
			if err != nil {
				t.Fatalf("accepted, but: %v", err)
			}
			if err := target.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Logf("accepted: %v", accepted)
	for _, name := range Names() {
		if accepted[name] == 0 {
			t.Errorf("no subscription of %s was accepted: the test shows nothing (%v)", name, accepted)
		}
	}
}

func noDial(context.Context, string, string) (net.Conn, error) {
	return nil, fmt.Errorf("no network here: %w", delivery.ErrBlocked)
}

// TestNeverWorkedIsRefused are settings that were accepted although no attempt
// could succeed, each with the field that is to blame.
func TestNeverWorkedIsRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	token := &schemas.SinkCredential{CredentialType: schemas.CredentialAccessToken, AccessToken: "t"}
	for _, tc := range []struct {
		name string
		spec schemas.Subscription
		want string
	}{
		{"AMQP without exchange and key", schemas.Subscription{Sink: "amqp://h"}, "/protocolsettings/exchange"},
		{"declare active without type", schemas.Subscription{Sink: "amqp://h", ProtocolSettings: schemas.ProtocolSettings{Exchange: "x", Declare: "active"}}, "/protocolsettings/exchangetype"},
		{"a routing key over 255 bytes", schemas.Subscription{Sink: "amqp://h", ProtocolSettings: schemas.ProtocolSettings{RoutingKey: long}}, "/protocolsettings/routingkey"},
		{"an exchange over 255 bytes", schemas.Subscription{Sink: "amqp://h", ProtocolSettings: schemas.ProtocolSettings{Exchange: long}}, "/protocolsettings/exchange"},
		{"a header of the delivery's, AMQP", schemas.Subscription{Sink: "amqp://h", ProtocolSettings: schemas.ProtocolSettings{RoutingKey: "q", Headers: map[string]string{"cloudEvents_id": "x"}}}, "/protocolsettings/headers/cloudEvents_id"},
		{"a query, AMQP", schemas.Subscription{Sink: "amqp://h/?heartbeat=5", ProtocolSettings: schemas.ProtocolSettings{RoutingKey: "q"}}, "/sink"},
		{"two virtual hosts", schemas.Subscription{Sink: "amqp://h/a/b", ProtocolSettings: schemas.ProtocolSettings{RoutingKey: "q"}}, "/sink"},
		{"a token, AMQP", schemas.Subscription{Sink: "amqp://h", ProtocolSettings: schemas.ProtocolSettings{RoutingKey: "q"}, SinkCredential: token}, "/sinkcredential/credentialtype"},
		{"batches, AMQP", schemas.Subscription{Sink: "amqp://h", ProtocolSettings: schemas.ProtocolSettings{RoutingKey: "q"}, Config: schemas.SubscriptionConfig{Mode: "batched"}}, "/config/mode"},
		{"NATS without subject", schemas.Subscription{Sink: "nats://h"}, "/protocolsettings/subject"},
		{"an empty part of a subject", schemas.Subscription{Sink: "nats://h", ProtocolSettings: schemas.ProtocolSettings{Subject: "a..b"}}, "/protocolsettings/subject"},
		{"a space in a subject", schemas.Subscription{Sink: "nats://h", ProtocolSettings: schemas.ProtocolSettings{Subject: "a b"}}, "/protocolsettings/subject"},
		{"a wildcard", schemas.Subscription{Sink: "nats://h", ProtocolSettings: schemas.ProtocolSettings{Subject: "a.*"}}, "/protocolsettings/subject"},
		{"a subject of the server's", schemas.Subscription{Sink: "nats://h", ProtocolSettings: schemas.ProtocolSettings{Subject: "$SYS.x"}}, "/protocolsettings/subject"},
		{"a path, NATS", schemas.Subscription{Sink: "nats://h/x", ProtocolSettings: schemas.ProtocolSettings{Subject: "a"}}, "/sink"},
		{"a header of the delivery's, NATS", schemas.Subscription{Sink: "nats://h", ProtocolSettings: schemas.ProtocolSettings{Subject: "a", Headers: map[string]string{"Nats-Msg-Id": "x"}}}, "/protocolsettings/headers/Nats-Msg-Id"},
		{"a header of the delivery's, STOMP", schemas.Subscription{Sink: "stomp://h", ProtocolSettings: schemas.ProtocolSettings{Destination: "/queue/x", Headers: map[string]string{"receipt": "x"}}}, "/protocolsettings/headers/receipt"},
		{"a brace, STOMP", schemas.Subscription{Sink: "stomp://h", ProtocolSettings: schemas.ProtocolSettings{Destination: "/queue/x}y"}}, "/protocolsettings/destination"},
		{"a token, STOMP", schemas.Subscription{Sink: "stomp://h", ProtocolSettings: schemas.ProtocolSettings{Destination: "/queue/x"}, SinkCredential: token}, "/sinkcredential/credentialtype"},
		{"a header of the delivery's, HTTP", schemas.Subscription{Sink: "http://h", ProtocolSettings: schemas.ProtocolSettings{Headers: map[string]string{"Traceparent": "x"}}}, "/protocolsettings/headers/Traceparent"},
		{"a header of the transport's", schemas.Subscription{Sink: "http://h", ProtocolSettings: schemas.ProtocolSettings{Headers: map[string]string{"Keep-Alive": "x"}}}, "/protocolsettings/headers/Keep-Alive"},
		{"a colon in a user", schemas.Subscription{Sink: "http://h", SinkCredential: &schemas.SinkCredential{CredentialType: "PLAIN", Identifier: "a:b", Secret: "c"}}, "/sinkcredential/identifier"},
	} {
		tc.spec.Protocol = Of(tc.spec.Sink)
		found := false
		problems := Checker{}.Check(tc.spec)
		for _, p := range problems {
			found = found || p.Field == tc.want
		}
		if !found {
			t.Errorf("%s: %v, want %s to be refused", tc.name, problems, tc.want)
		}
	}
}

// TestAcceptedWebhooksArrive sends to a real server what queries a sink may
// have: a space in one would end the request line early.
func TestAcceptedWebhooksArrive(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Query().Get("a") }))
	t.Cleanup(server.Close)
	openers := Openers(delivery.Environment{Dial: new(net.Dialer).DialContext, UserAgent: "test"})
	for query, want := range map[string]string{"a=b c": "b c", "a=bücher": "bücher", "a=%20b": " b", "a=b+c": "b c", "a=\"<>": `"<>`, "a=x|y": "x|y"} {
		spec := schemas.Subscription{ID: uuid.NewString(), Sink: server.URL + "/ok?" + query, Protocol: "HTTP"}
		if problems := (Checker{}).Check(spec); problems != nil {
			t.Errorf("%s: %v", query, problems)
			continue
		}
		sub, err := delivery.FromTarget(schemas.Target{Subscription: spec})
		if err != nil {
			t.Fatal(err)
		}
		target, err := openers["HTTP"].Open(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		out := target.Deliver(ctx, []delivery.Message{ping(t)})
		cancel()
		if out.Class != delivery.ClassDelivered || got != want {
			t.Errorf("%s: class %s (%v), the server read %q", query, out.Class, out.Err, got)
		}
		if err := target.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func ping(t *testing.T) delivery.Message {
	t.Helper()
	e := event.New()
	e.SetID(uuid.NewString())
	e.SetSource("urn:test")
	e.SetType(schemas.TypePing)
	structured, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return delivery.Message{DeliveryID: uuid.New(), EventID: e.ID(), Attempt: 1, Event: &e, Structured: structured}
}
