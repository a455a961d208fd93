package httpapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/access"
	"tocsin.dev/tocsin/internal/httpapi"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// raw is a connection of a client that does not play by the rules.
type raw struct {
	net.Conn
	r *bufio.Reader
}

func (f *fixture) raw(t *testing.T) *raw {
	t.Helper()
	c, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return &raw{c, bufio.NewReader(c)}
}

func (c *raw) begin(method, path, token, more string) {
	auth := ""
	if token != "" {
		auth = "Authorization: Bearer " + token + "\r\n"
	}
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/octet-stream\r\n%s\r\n", method, path, auth, more)
}

// answer reads what the server says, and whether it closes the connection then.
func (c *raw) answer(t *testing.T) (status int, closed bool) {
	t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_, err = c.r.ReadByte()
	return r.StatusCode, err != nil
}

const layer = "/api/v1/layers/sha256:0000000000000000000000000000000000000000000000000000000000000000"

// A client without a token, or with the wrong one, is answered at once and sent
// away, whatever it says of a body that it never sends.
func TestNobodysBodiesAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := newServer(t)
	for _, target := range []struct{ method, path string }{
		{"PUT", layer}, {"POST", "/api/v1/updaters/import"}, {"POST", "/api/v1/images"}, {"POST", "/api/v1/subscriptions"},
	} {
		for _, size := range []string{"Content-Length: 200000\r\n", "Content-Length: 20000000\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 9\r\nExpect: 100-continue\r\n"} {
			for _, token := range []string{"", "tocsin_wrong", f.tokens["reader"]} {
				c := f.raw(t)
				begin := time.Now()
				c.begin(target.method, target.path, token, size)
				status, closed := c.answer(t)
				if (status != 401 && status != 403 && status != 429) || !closed || time.Since(begin) > 10*time.Second {
					t.Errorf("%s %s with token %.7q and %q: %d after %v, closed: %t", target.method, target.path, token, size, status, time.Since(begin), closed)
				}
			}
		}
	}
}

type slowFixture struct {
	*fixture
	cut chan error // why an answer could not be written
}

// impatient is a server whose clients may take 200 ms for a part.
func impatient(t *testing.T) *slowFixture {
	t.Helper()
	store := access.NewStore(postgrestest.New(t))
	f := &slowFixture{fixture: &fixture{tokens: map[string]string{}}, cut: make(chan error, 1)}
	_, secret, err := store.Create(t.Context(), "ci", "", []access.Scope{access.Publish, access.Read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.tokens["ci"] = secret
	h := httpapi.New(httpapi.Options{
		Services: httpapi.Services{Blobs: blobs{}, Tokens: store, Updaters: feeds{}}, Gate: access.NewGate(store, time.Now), Stall: 200 * time.Millisecond,
		Clair: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					f.cut <- err
					return
				}
			}
		}),
	})
	f.Server = httptest.NewUnstartedServer(h)
	f.Config = httpapi.Serve(h, slog.New(slog.DiscardHandler))
	f.Start()
	t.Cleanup(f.Close)
	return f
}

// An upload that trickles in is cut off although bytes come all the time; one that
// makes progress may take longer than any of its parts.
func TestUploadsMakeProgress(t *testing.T) {
	t.Parallel()
	f := impatient(t)
	c := f.raw(t)
	c.begin("PUT", layer, f.tokens["ci"], "Content-Length: 1000000\r\n")
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
			}
		}
	}()
	status, closed := c.answer(t)
	close(stop)
	if status != http.StatusRequestTimeout || !closed {
		t.Errorf("a trickle: %d, closed: %t", status, closed)
	}

	c = f.raw(t)
	const parts, part = 8, 128 << 10
	c.begin("PUT", layer, f.tokens["ci"], fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n", parts*part))
	for range parts {
		time.Sleep(60 * time.Millisecond)
		if _, err := c.Write(make([]byte, part)); err != nil {
			t.Fatal(err)
		}
	}
	if status, _ := c.answer(t); status != 200 {
		t.Errorf("progress: %d", status)
	}
}

// A client that does not read its answer is cut off.
func TestAnswersAreTaken(t *testing.T) {
	t.Parallel()
	f := impatient(t)
	c := f.raw(t)
	c.begin("GET", "/indexer/large", f.tokens["ci"], "")
	select {
	case err := <-f.cut:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the answer ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the server still waits for its client")
	}
}

func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ peer, header, want string }{
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1"},                              // a stranger's word
		{"10.0.0.1:5", "198.51.100.7", "198.51.100.7"},                            // a proxy's
		{"10.0.0.1:5", "203.0.113.9, 198.51.100.7", "198.51.100.7"},               // what the client itself said before is not believed
		{"10.0.0.1:5", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"},     // two proxies
		{"10.0.0.1:5", "", "10.0.0.1"},                                            // the proxy itself
		{"10.0.0.1:5", "unknown", "10.0.0.1"},                                     // nonsense
		{"10.0.0.1:5", "203.0.113.9, garbage, 10.0.0.2", "10.0.0.2"},              // ends at nonsense
		{"10.0.0.1:5", "[2001:db8::1]:443", "2001:db8::1"},                        // with a port
		{"[::ffff:10.0.0.1]:5", "::ffff:198.51.100.7", "198.51.100.7"},            // mapped
		{"10.0.0.1:5", strings.Repeat("10.0.0.2,", 100) + "10.0.0.3", "10.0.0.2"}, // a long chain
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tc.peer
		if tc.header != "" {
			r.Header.Set("X-Forwarded-For", tc.header)
		}
		if got := httpapi.ClientHost(r, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); got != tc.want {
			t.Errorf("from %s, forwarded for %q: %s, want %s", tc.peer, tc.header, got, tc.want)
		}
	}
}
