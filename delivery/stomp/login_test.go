package stomp_test

import (
	"context"
	"net"
	"testing"
	"time"

	stompserver "github.com/go-stomp/stomp/v3/server"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/targettest"
	"tocsin.dev/tocsin/schemas"
)

// login is what a STOMP server asks.
type login struct{ seen chan [2]string }

func (l login) Authenticate(user, password string) bool {
	l.seen <- [2]string{user, password}
	return user == "notifier" && password == "right"
}

// quiet drops what the server says.
type quiet struct{}

func (quiet) Debugf(string, ...any)   {}
func (quiet) Infof(string, ...any)    {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Errorf(string, ...any)   {}
func (quiet) Debug(string)            {}
func (quiet) Info(string)             {}
func (quiet) Warning(string)          {}
func (quiet) Error(string)            {}

// The login of a subscription is the one that the broker sees.
func TestClairD7_LoginIsUsed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := login{make(chan [2]string, 16)}
	// The library's server ends with the process alone.
	go func() { _ = (&stompserver.Server{Authenticator: asked, Log: quiet{}}).Serve(l) }()
	t.Cleanup(func() { l.Close() })
	for password, want := range map[string]delivery.Class{"right": delivery.ClassDelivered, "wrong": delivery.ClassAuth} {
		target, err := opener(new(net.Dialer).DialContext).Open(t.Context(), delivery.Subscription{
			Protocol: schemas.ProtocolSTOMP, Sink: "stomp://" + l.Addr().String(),
			Settings:   schemas.ProtocolSettings{Destination: "/queue/x"},
			Credential: delivery.Credential{Username: "notifier", Password: delivery.Secret(password)},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out := target.Deliver(ctx, []delivery.Message{targettest.NewMessage(1, 10)})
		cancel()
		target.Close(t.Context())
		if out.Class != want {
			t.Errorf("%s: class %s: %v", password, out.Class, out.Err)
		}
		if got := <-asked.seen; got != [2]string{"notifier", password} {
			t.Errorf("the broker saw %q", got)
		}
	}
}
