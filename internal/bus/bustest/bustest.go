// Package bustest gives every test a real NATS server with JetStream of its
// own, in this process, on a port and in a directory of its own.
package bustest

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"

	"tocsin.dev/tocsin/internal/bus"
)

// A Server is a server that a test may restart and empty. Its methods are for
// the test's goroutine.
type Server struct {
	t      testing.TB
	dir    string
	listen string
	srv    *bus.Server
	stop   func()
}

// New returns a connection to a server of its own; both end with the test.
func New(t testing.TB) *bus.Bus {
	t.Helper()
	return NewServer(t).Connect()
}

// NewServer starts a server that ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: filepath.Join(t.TempDir(), "nats"), listen: "127.0.0.1:0"}
	s.Start()
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	s.listen = u.Host
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server where it was before.
func (s *Server) Start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	s.srv = bus.Embedded(bus.ServerOptions{Dir: s.dir, Listen: s.listen})
	ended := make(chan error, 1)
	go func() { ended <- s.srv.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("bustest: %v", err)
		}
	}
	if _, err := s.srv.URL(ctx); err != nil {
		s.t.Fatalf("bustest: %v", err)
	}
}

// Stop stops the server; its connections then try to come back.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Restart stops the server and starts it again with all that it stored.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Empty stops the server and starts it again with nothing.
func (s *Server) Empty() {
	s.t.Helper()
	s.Stop()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatalf("bustest: %v", err)
	}
	s.Start()
}

// URL is the server's address.
func (s *Server) URL() string {
	s.t.Helper()
	u, err := s.srv.URL(s.t.Context())
	if err != nil {
		s.t.Fatalf("bustest: %v", err)
	}
	return u
}

// Dial returns a plain NATS connection, as other programs have it, that ends
// with the test.
func (s *Server) Dial() *nats.Conn {
	s.t.Helper()
	c, err := nats.Connect(s.URL())
	if err != nil {
		s.t.Fatalf("bustest: %v", err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// Connect returns a connection that survives the server's restarts and ends
// with the test.
func (s *Server) Connect() *bus.Bus {
	s.t.Helper()
	b, err := bus.Connect(s.t.Context(), s.URL(), bus.Options{Name: s.t.Name()})
	if err != nil {
		s.t.Fatalf("bustest: %v", err)
	}
	s.t.Cleanup(b.Close)
	return b
}
