package stomp_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	gostomp "github.com/go-stomp/stomp/v3"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/stomp"
	"tocsin.dev/tocsin/delivery/targettest"
	"tocsin.dev/tocsin/schemas"
)

func opener(dial delivery.DialFunc) delivery.Opener {
	return stomp.Opener{Dial: dial, Clair: targettest.Clair()}
}

func TestRabbitMQ(t *testing.T) {
	t.Parallel()
	targettest.Run(t, targettest.Suite{
		Opener: opener, Scheme: "stomp", TLSScheme: "stomps", Prefix: "cloudEvents_", Clair: true, Limit: targettest.RabbitMQMessageLimit + 1,
		More: map[string]func(*testing.T, targettest.Server){
			"what the broker says is shown": func(t *testing.T, s targettest.Server) {
				shows(t, s, func(sub *delivery.Subscription) { sub.Credential.Password = "wrong" }, delivery.ClassAuth, "Access refused for user 'tocsin'")
				shows(t, s, func(sub *delivery.Subscription) { sub.Settings.Destination = "/exchange/absent/key" }, delivery.ClassRetry, "no exchange 'absent'")
			},
			"the virtual host may stand in the sink's path": func(t *testing.T, s targettest.Server) {
				shows(t, s, func(sub *delivery.Subscription) { sub.Sink += "/absent" }, delivery.ClassAuth, "")
				shows(t, s, func(sub *delivery.Subscription) { sub.Sink += "/%2F" }, delivery.ClassDelivered, "")
			},
		},
		Start: func(t testing.TB) targettest.Server {
			r := targettest.StartRabbitMQ(t)
			return server{
				process: r, host: targettest.Address(r.STOMP), tlsHost: targettest.Address(r.STOMPS), ca: r.Certs.CAPEM,
				user: r.User, password: r.Password,
			}
		},
	})
}

// shows delivers once with a changed subscription and looks for the broker's
// words in the error.
func shows(t *testing.T, s targettest.Server, change func(*delivery.Subscription), class delivery.Class, words string) {
	t.Helper()
	sub := s.Subscription("shows")
	change(&sub)
	target, err := opener(new(net.Dialer).DialContext).Open(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := target.Deliver(ctx, []delivery.Message{targettest.NewMessage(1, 10)})
	if out.Class != class || words != "" && !strings.Contains(out.Err.Error(), words) {
		t.Errorf("class %s: %v, want %s and %q", out.Class, out.Err, class, words)
	}
}

func TestActiveMQ(t *testing.T) {
	t.Parallel()
	targettest.Run(t, targettest.Suite{
		Opener: opener, Scheme: "stomp", TLSScheme: "stomps", Prefix: "cloudEvents_", Clair: true,
		Start: func(t testing.TB) targettest.Server {
			a := targettest.StartActiveMQ(t)
			return server{process: a, host: targettest.Address(a.STOMP), user: a.User, password: a.Password}
		},
	})
}

type server struct {
	process interface {
		Start()
		Stop()
	}
	host, tlsHost, ca string
	user, password    string
}

func (s server) Start()          { s.process.Start() }
func (s server) Stop()           { s.process.Stop() }
func (s server) Host() string    { return s.host }
func (s server) TLSHost() string { return s.tlsHost }
func (s server) CA() string      { return s.ca }

func (s server) Subscription(destination string) delivery.Subscription {
	return delivery.Subscription{
		Protocol: schemas.ProtocolSTOMP, Sink: "stomp://" + s.host,
		Settings:   schemas.ProtocolSettings{Destination: "/queue/" + destination},
		Credential: delivery.Credential{Username: s.user, Password: delivery.Secret(s.password)},
	}
}

// Prepare has nothing to do: both brokers make a queue, a durable one, when
// the first message for it comes.
func (s server) Prepare(testing.TB, string, int) {}

func (s server) Drain(t testing.TB, destination string, n int) []targettest.Received {
	t.Helper()
	raw, err := net.Dial("tcp", s.host)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn, err := gostomp.Connect(raw, gostomp.ConnOpt.Login(s.user, s.password), gostomp.ConnOpt.Host("/"))
	if err != nil {
		t.Fatal(err)
	}
	sub, err := conn.Subscribe("/queue/"+destination, gostomp.AckAuto)
	if err != nil {
		t.Fatal(err)
	}
	return targettest.Collect(n, func() (targettest.Received, bool) {
		select {
		case m := <-sub.C:
			if m == nil || m.Err != nil {
				t.Fatalf("consume: %v", m)
			}
			headers := map[string]string{}
			for i := range m.Header.Len() {
				k, v := m.Header.GetAt(i)
				headers[k] = v
			}
			return targettest.Received{ContentType: m.ContentType, Headers: headers, Body: m.Body}, true
		case <-time.After(200 * time.Millisecond):
			return targettest.Received{}, false
		}
	})
}
