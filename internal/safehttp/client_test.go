package safehttp

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func get(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Secret", "of the caller")
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

func TestClientRefuses(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	t.Cleanup(srv.Close)
	u, _ := url.Parse(srv.URL)
	c := New(testKey, nil).Client(Options{Timeout: 10 * time.Second})
	for _, host := range []string{"127.0.0.1", "127.1", "2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "[64:ff9b::7f00:1]", "0.0.0.0", "localhost"} {
		if _, err := get(t, c, "http://"+host+":"+u.Port()+"/"); err == nil {
			t.Errorf("a request to %s was answered", host)
		} else if _, ok := errors.AsType[*BlockedError](err); !ok {
			if _, ok := errors.AsType[*URLError](err); !ok {
				t.Errorf("a request to %s failed with %v, want the guard's error", host, err)
			}
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

// The name resolves to a public address when it is checked and to loopback when
// it is dialled, as with a hostile name server and a short time to live.
func TestNameThatChanges(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	t.Cleanup(srv.Close)
	u, _ := url.Parse(srv.URL)
	ns := newNameServer(t, netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("127.0.0.1"))
	g := New(testKey, nil)
	g.resolver = ns.resolver()

	target := "http://rebind.example:" + u.Port() + "/"
	if _, err := g.CheckURL(target); err != nil {
		t.Fatalf("CheckURL: %v", err)
	}
	first, err := ns.resolver().LookupNetIP(t.Context(), "ip4", "rebind.example")
	if err != nil || len(first) != 1 || g.Check(first[0]) != nil {
		t.Fatalf("the first answer is %v, %v; want a permitted address", first, err)
	}
	_, err = get(t, g.Client(Options{Timeout: 10 * time.Second}), target)
	blocked, ok := errors.AsType[*BlockedError](err)
	if !ok || blocked.Addr != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("the request failed with %v, want 127.0.0.1 to be blocked", err)
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
	// The same name is served where loopback is allowed, so it is the guard
	// that refused, not the resolver.
	open := New(testKey, loopback)
	open.resolver = ns.resolver()
	if _, err := get(t, open.Client(Options{Timeout: 10 * time.Second}), target); err != nil {
		t.Errorf("with loopback allowed: %v", err)
	}
}

func TestProxyEnvironmentIgnored(t *testing.T) {
	var viaProxy atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { viaProxy.Add(1) }))
	t.Cleanup(proxy.Close)
	for _, k := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(k, proxy.URL)
	}
	g := New(testKey, nil)
	if g.Transport(Options{}).Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
	// Through the proxy this would be answered; directly it is refused.
	if _, err := get(t, g.Client(Options{Timeout: 10 * time.Second}), "http://169.254.169.254/latest/meta-data/"); err == nil {
		t.Error("the metadata address answered")
	} else if _, ok := errors.AsType[*BlockedError](err); !ok {
		t.Errorf("got %v, want a BlockedError", err)
	}
	if viaProxy.Load() != 0 {
		t.Error("the request went through the proxy")
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	secrets := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secrets <- r.Header.Get("X-Secret")
	}))
	t.Cleanup(other.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("/private", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://10.0.0.1/", http.StatusFound)
	})
	mux.HandleFunc("/metadata", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest/", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/mapped", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://[::ffff:10.0.0.1]/", http.StatusFound)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://user:pw@"+r.Host+"/ok")
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/once", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/other", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Secret")) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	g := New(testKey, loopback)
	follow := g.Client(Options{Timeout: 10 * time.Second, Redirects: 3})
	stay := g.Client(Options{Timeout: 10 * time.Second})

	for _, path := range []string{"/private", "/metadata", "/mapped"} {
		if _, err := get(t, follow, srv.URL+path); err == nil {
			t.Errorf("%s was followed", path)
		} else if _, ok := errors.AsType[*BlockedError](err); !ok {
			t.Errorf("%s: %v, want a BlockedError", path, err)
		}
	}
	for _, path := range []string{"/file", "/userinfo", "/loop"} {
		if _, err := get(t, follow, srv.URL+path); err == nil {
			t.Errorf("%s was followed", path)
		} else if _, ok := errors.AsType[*RedirectError](err); !ok {
			t.Errorf("%s: %v, want a RedirectError", path, err)
		}
	}
	for _, path := range []string{"/private", "/once"} {
		if resp, err := get(t, stay, srv.URL+path); err != nil || resp.StatusCode != http.StatusFound {
			t.Errorf("%s without redirects = %v, %v; want the 302 itself", path, resp, err)
		}
	}
	resp, err := get(t, follow, srv.URL+"/once")
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "of the caller" {
		t.Errorf("on the same host the header arrived as %q", body)
	}
	if _, err := get(t, follow, srv.URL+"/other"); err != nil {
		t.Fatal(err)
	}
	if got := <-secrets; got != "" {
		t.Errorf("another host was sent the caller's header %q", got)
	}
}

func TestNoDowngrade(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL, http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	c := New(testKey, loopback).Client(Options{Redirects: 3, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
	if _, err := get(t, c, srv.URL); err == nil {
		t.Error("a redirect from https to http was followed")
	} else if _, ok := errors.AsType[*RedirectError](err); !ok {
		t.Errorf("got %v, want a RedirectError", err)
	}
}

func TestMaxResponseBytes(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/exact", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 100)) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, strings.Repeat("x", 1<<20))
		z.Close()
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c := New(testKey, loopback).Client(Options{Timeout: 10 * time.Second, MaxResponseBytes: 100})
	for path, ok := range map[string]bool{"/exact": true, "/endless": false, "/bomb": false} {
		resp, err := get(t, c, srv.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if len(body) != 100 {
			t.Errorf("%s: read %d bytes, want 100", path, len(body))
		}
		if _, large := errors.AsType[*TooLargeError](err); large == ok {
			t.Errorf("%s: reading ended in %v", path, err)
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(srv.Close)
	for name, o := range map[string]Options{"whole": {Timeout: 50 * time.Millisecond}, "header": {HeaderTimeout: 50 * time.Millisecond}} {
		_, err := get(t, New(testKey, loopback).Client(o), srv.URL)
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Errorf("%s: got %v, want a timeout", name, err)
		}
	}
}

// nameServer answers every A question with the next of its addresses, and with
// the last one ever after; it knows no IPv6.
type nameServer struct {
	addr    string
	answers []netip.Addr
	asked   atomic.Int32
}

func newNameServer(t *testing.T, answers ...netip.Addr) *nameServer {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ns := &nameServer{addr: pc.LocalAddr().String(), answers: answers}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := ns.reply(buf[:n]); err == nil {
				pc.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return ns
}

func (ns *nameServer) reply(query []byte) ([]byte, error) {
	var msg dnsmessage.Message
	if err := msg.Unpack(query); err != nil {
		return nil, err
	}
	msg.Response, msg.RecursionAvailable, msg.Additionals = true, true, nil
	if q := msg.Questions[0]; q.Type == dnsmessage.TypeA {
		i := min(int(ns.asked.Add(1))-1, len(ns.answers)-1)
		msg.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 0},
			Body:   &dnsmessage.AResource{A: ns.answers[i].As4()},
		}}
	}
	return msg.Pack()
}

func (ns *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", ns.addr)
	}}
}
