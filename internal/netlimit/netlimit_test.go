package netlimit_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/netlimit"
)

// served is an HTTP server behind a limited listener. Requests for /wait are
// answered once release is closed.
type served struct {
	t       *testing.T
	l       *netlimit.Listener
	release chan struct{}
	mu      sync.Mutex
	refused map[string]int
	now     time.Time
}

func serve(t *testing.T, o netlimit.Options) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, release: make(chan struct{}), refused: map[string]int{}, now: time.Unix(1_800_000_000, 0)}
	o.Refused = func(reason string) { s.mu.Lock(); s.refused[reason]++; s.mu.Unlock() }
	o.Now = func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }
	s.l = netlimit.Limit(l, o)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-s.release
		}
	})
	server := &http.Server{Handler: h, ConnState: s.l.Track}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(s.l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return s
}

func (s *served) later(d time.Duration) { s.mu.Lock(); s.now = s.now.Add(d); s.mu.Unlock() }

func (s *served) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.l.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func (s *served) ask(c net.Conn, path string) (status string) {
	s.t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "HTTP/1.1 "))
}

func (s *served) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waited a minute for %s", what)
		}
	}
}

const unavailable = "503 Service Unavailable"

func TestOneAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, netlimit.Options{Max: 100, PerAddress: 3})
	var own []net.Conn
	for range 3 {
		c := s.dial()
		if got := s.ask(c, "/"); got != "200 OK" {
			t.Fatal(got)
		}
		own = append(own, c)
	}
	over := s.dial()
	if line, err := bufio.NewReader(over).ReadString('\n'); err != nil || !strings.Contains(line, unavailable) {
		t.Errorf("a fourth connection: %q, %v", line, err)
	}
	own[0].Close()
	s.until("room", func() bool { return s.l.Open() == 2 })
	if got := s.ask(s.dial(), "/"); got != "200 OK" {
		t.Errorf("with room again: %s", got)
	}

	proxied := serve(t, netlimit.Options{Max: 100, PerAddress: 1, Exempt: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	for range 5 {
		if got := proxied.ask(proxied.dial(), "/"); got != "200 OK" {
			t.Errorf("through a proxy: %s", got)
		}
	}
}

// Connections that stand idle make room for others; those in use do not.
func TestAllTogether(t *testing.T) {
	t.Parallel()
	s := serve(t, netlimit.Options{Max: 3})
	var wg sync.WaitGroup
	for range 2 {
		c := s.dial()
		wg.Go(func() {
			if got := s.ask(c, "/wait"); got != "200 OK" {
				t.Errorf("a request under way: %s", got)
			}
		})
	}
	idle := s.dial() // says nothing
	s.until("three connections", func() bool { return s.l.Open() == 3 })
	if line, _ := bufio.NewReader(s.dial()).ReadString('\n'); !strings.Contains(line, unavailable) {
		t.Errorf("a connection too many: %q", line)
	}
	s.later(time.Minute)
	s.until("the idle one to make room", func() bool { return s.ask(s.dial(), "/") == "200 OK" })
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle one is still open")
	}
	s.mu.Lock()
	if s.refused["idle"] == 0 || s.refused["all"] == 0 || s.refused["address"] != 0 {
		t.Errorf("refused %v", s.refused)
	}
	s.mu.Unlock()
	close(s.release)
	wg.Wait()
}

// An address with its share of connections, some of them idle, as a proxy that
// nobody has said to be one, gets room by the idle ones, and takes nobody else's.
func TestOneAddressMakesRoomForItself(t *testing.T) {
	t.Parallel()
	s := serve(t, netlimit.Options{Max: 100, PerAddress: 2})
	idle := s.dial()
	var wg sync.WaitGroup
	c := s.dial()
	wg.Go(func() {
		if got := s.ask(c, "/wait"); got != "200 OK" {
			t.Errorf("a request under way: %s", got)
		}
	})
	s.until("two connections", func() bool { return s.l.Open() == 2 })
	s.later(time.Minute)
	s.until("the idle one to make room", func() bool { return s.ask(s.dial(), "/") == "200 OK" })
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle one is still open")
	}
	close(s.release)
	wg.Wait()
}

// TestReserve runs itself in a process with few descriptors, all of which it uses.
func TestReserve(t *testing.T) {
	if os.Getenv("NETLIMIT_RESERVE") == "" {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReserve$", "-test.v")
		cmd.Env = append(os.Environ(), "NETLIMIT_RESERVE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, netlimit.Options{Max: 10, Reserve: 4})
	bare := serve(t, netlimit.Options{Max: 10})
	client, other := s.dial(), s.dial() // their own ends need descriptors, too
	if got := s.ask(client, "/"); got != "200 OK" {
		t.Fatal(got)
	}
	if got := s.ask(other, "/"); got != "200 OK" {
		t.Fatal(got)
	}
	unheard := bare.dial()
	if got := bare.ask(unheard, "/"); got != "200 OK" {
		t.Fatal(got)
	}
	pending, pendingBare := socket(t), socket(t)
	exhaust := func() {
		for {
			if _, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
				return
			}
		}
	}
	exhaust()
	connect(t, pending, s.l.Addr())
	if got := talk(pending); !strings.Contains(got, "200 OK") {
		t.Errorf("with a reserve: %q", got)
	}
	exhaust()
	connect(t, pendingBare, bare.l.Addr())
	if got := talk(pendingBare); got != "" {
		t.Errorf("without one: %q; this test does not use up the descriptors", got)
	}
}

// socket is a socket without Go's poller, so that nothing else is opened later.
func socket(t *testing.T) int {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func connect(t *testing.T, fd int, a net.Addr) {
	t.Helper()
	ap := netip.MustParseAddrPort(a.String())
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 2})
}

func talk(fd int) string {
	_, _ = syscall.Write(fd, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	b := make([]byte, 200)
	n, _ := syscall.Read(fd, b)
	return string(b[:max(n, 0)])
}
