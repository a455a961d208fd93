package app

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	gonats "github.com/nats-io/nats.go"

	"tocsin.dev/tocsin/delivery"
	"tocsin.dev/tocsin/delivery/protocols"
	"tocsin.dev/tocsin/internal/config"
	"tocsin.dev/tocsin/internal/safehttp"
	"tocsin.dev/tocsin/schemas"
)

// A connectProxy connects every CONNECT to the address that routes gives for the
// host that is asked for, and notes what was asked.
type connectProxy struct {
	*httptest.Server
	routes map[string]string
	mu     sync.Mutex
	asked  []string
}

func newConnectProxy(t *testing.T, routes map[string]string) *connectProxy {
	p := &connectProxy{routes: routes}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.Host)
		p.mu.Unlock()
		to, err := net.Dial("tcp", p.routes[r.Host])
		if err != nil {
			http.Error(w, "no way there", http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		_, _ = io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(to, from); to.Close() }()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(p.Server.CloseClientConnections)
	return p
}

func (p *connectProxy) was(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.asked, what)
}

// TestDeliveriesThroughAProxy delivers to a webhook whose certificate a private
// authority made and to a NATS server, both beyond a proxy, and is refused what the
// guard refuses without the proxy being asked.
func TestDeliveriesThroughAProxy(t *testing.T) {
	t.Parallel()
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	broker.Start()
	t.Cleanup(broker.WaitForShutdown)
	t.Cleanup(broker.Shutdown)
	if !broker.ReadyForConnections(30 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	// Names that have no address here, as those beyond a proxy.
	proxy := newConnectProxy(t, map[string]string{"example.com:443": hook.Listener.Addr().String(), "broker.invalid:4222": broker.Addr().String()})
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	guard := safehttp.New("delivery.allow_networks", nil)
	env := delivery.Environment{
		Dial: guard.Through(at), Proxied: func(tr *http.Transport) { guard.Proxy(tr, at) },
		RootCAs: hook.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ClairCallback: "http://clair.invalid/",
	}
	openers := protocols.Openers(env)
	deliver := func(sub delivery.Subscription) delivery.Outcome {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		target, err := openers[sub.Protocol].Open(ctx, sub)
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close(ctx)
		return target.Deliver(ctx, []delivery.Message{testMessage(t)})
	}
	if o := deliver(delivery.Subscription{Protocol: schemas.ProtocolHTTP, Sink: "https://example.com/hook"}); o.Class != delivery.ClassDelivered {
		t.Errorf("webhook: %+v", o)
	}
	if !proxy.was("CONNECT example.com:443") {
		t.Errorf("the proxy was asked for %q", proxy.asked)
	}
	client, err := gonats.Connect(broker.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	got, err := client.SubscribeSync("events")
	if err == nil {
		err = client.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	if o := deliver(delivery.Subscription{Protocol: schemas.ProtocolNATS, Sink: "nats://broker.invalid:4222", Settings: schemas.ProtocolSettings{Subject: "events"}}); o.Class != delivery.ClassDelivered {
		t.Errorf("NATS: %+v", o)
	}
	if _, err := got.NextMsg(30 * time.Second); err != nil {
		t.Errorf("nothing came to the broker: %v", err)
	}
	for _, sink := range []string{"http://127.0.0.1:1/", "https://169.254.169.254/", proxy.URL} {
		if o := deliver(delivery.Subscription{Protocol: schemas.ProtocolHTTP, Sink: sink}); o.Class == delivery.ClassDelivered || o.Err == nil || !strings.Contains(o.Err.Error(), "delivery.allow_networks") {
			t.Errorf("%s: %+v", sink, o)
		}
		u, _ := url.Parse(sink)
		if proxy.was("CONNECT "+u.Host) || proxy.was("POST "+u.Host) {
			t.Errorf("the proxy was asked for %s", sink)
		}
	}
	// A host on the allow list is reached directly.
	direct := safehttp.New("delivery.allow_networks", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	env.Dial, env.Proxied = direct.Through(at), func(tr *http.Transport) { direct.Proxy(tr, at) }
	openers = protocols.Openers(env)
	if o := deliver(delivery.Subscription{Protocol: schemas.ProtocolHTTP, Sink: hook.URL}); o.Class != delivery.ClassDelivered || proxy.was("CONNECT "+hook.Listener.Addr().String()) {
		t.Errorf("on the allow list: %+v", o)
	}
}

func testMessage(t *testing.T) delivery.Message {
	t.Helper()
	e := event.New()
	e.SetID(uuid.NewString())
	e.SetSource("urn:tocsin:test")
	e.SetType(schemas.TypePing)
	if err := e.SetData(event.ApplicationJSON, map[string]string{}); err != nil {
		t.Fatal(err)
	}
	b, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return delivery.Message{DeliveryID: uuid.New(), EventID: e.ID(), Attempt: 1, Event: &e, Structured: b}
}

// TestFeedsThroughAProxy fetches from a host beyond a proxy whose certificate a
// private authority made.
func TestFeedsThroughAProxy(t *testing.T) {
	t.Parallel()
	feed := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a feed") }))
	t.Cleanup(feed.Close)
	proxy := newConnectProxy(t, map[string]string{"example.com:443": feed.Listener.Addr().String()})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: feed.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	transport, err := feedTransport(config.Updaters{Proxy: config.NewURL(proxy.URL), CAFile: ca})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Get("https://example.com/all.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "a feed" || !proxy.was("CONNECT example.com:443") {
		t.Errorf("%q, %v", b, err)
	}
	if transport, err := feedTransport(config.Updaters{}); transport != nil || err != nil {
		t.Errorf("without settings: %v, %v", transport, err)
	}
}
