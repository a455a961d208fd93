package webhook_test

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/webhook"
)

// swallower is a way to a server on which packets can vanish: connections that
// are open when it begins to swallow stay so, and nothing comes over them any
// more, in either direction. New ones work.
type swallower struct {
	to string

	mu   sync.Mutex
	open []*atomic.Bool
}

func (s *swallower) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	far, err := new(net.Dialer).DialContext(ctx, network, s.to)
	if err != nil {
		return nil, err
	}
	near, here := net.Pipe()
	swallows := new(atomic.Bool)
	s.mu.Lock()
	s.open = append(s.open, swallows)
	s.mu.Unlock()
	pass := func(to io.WriteCloser, from io.Reader) {
		defer to.Close()
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if !swallows.Load() {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
		}
	}
	go pass(far, here)
	go pass(here, far)
	return near, nil
}

func (s *swallower) swallow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, swallows := range s.open {
		swallows.Store(true)
	}
}

// A connection over which nothing comes any more is not used for attempt after
// attempt, whatever version of HTTP it speaks: within two pings there is another.
func TestDeadConnectionIsDropped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		http2 bool
		proto int
	}{{"HTTP/1.1", false, 1}, {"HTTP/2", true, 2}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var proto atomic.Int64
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proto.Store(int64(r.ProtoMajor)) }))
			srv.EnableHTTP2 = c.http2
			srv.StartTLS()
			t.Cleanup(func() {
				srv.CloseClientConnections()
				srv.Close()
			})
			way := &swallower{to: srv.Listener.Addr().String()}
			const ping = 200 * time.Millisecond
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
			target, err := webhook.New(webhook.Options{Dial: way.dial, Ping: ping}).Open(t.Context(), delivery.Subscription{
				Sink: srv.URL, TLS: delivery.TLS{CA: string(ca)},
			})
			if err != nil {
				t.Fatal(err)
			}
			attempt := func() delivery.Outcome {
				ctx, cancel := context.WithTimeout(t.Context(), ping)
				defer cancel()
				return target.Deliver(ctx, []delivery.Message{message(t)})
			}
			for out := attempt(); out.Class != delivery.ClassDelivered; out = attempt() {
				t.Logf("before anything is swallowed: %+v", out)
				if t.Context().Err() != nil {
					return
				}
			}
			if got := proto.Load(); got != int64(c.proto) {
				t.Fatalf("the test speaks HTTP/%d", got)
			}
			way.swallow()
			begun, attempts := time.Now(), 0
			for out := attempt(); out.Class != delivery.ClassDelivered; out = attempt() {
				attempts++
				if time.Since(begun) > 20*ping {
					t.Fatalf("%d attempts over %v on a dead connection: %v", attempts, time.Since(begun), out.Err)
				}
			}
			if attempts == 0 {
				t.Error("the attempt after packets began to vanish succeeded: the test shows nothing")
			}
		})
	}
}
