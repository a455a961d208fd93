package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tocsin.dev/tocsin/internal/filelock"
)

const (
	// MaxPayload is the largest message that the embedded server takes, in bytes.
	MaxPayload = 1 << 20

	defaultListen = "127.0.0.1:4222"
	// DefaultMaxStore is [ServerOptions].MaxStore where that is zero.
	DefaultMaxStore = 8 << 30
	startTimeout    = 30 * time.Second
)

// ServerOptions say how the embedded server runs.
type ServerOptions struct {
	// Dir holds the streams. It is created if it does not exist.
	Dir string
	// Listen is the host:port for clients outside this process; 127.0.0.1:4222
	// if empty. Port 0 takes a free one.
	Listen string
	// User and Password are the login of clients outside this process, who may
	// publish to [SubjectManifests] and [SubjectUpdates] and subscribe to
	// [SubjectEvents] and below, nothing else. Without them, which is possible on
	// loopback alone, everybody may do everything.
	User, Password string
	// MaxStore bounds the streams on disk, in bytes; [DefaultMaxStore] if zero.
	MaxStore int64
	Logger   *slog.Logger
}

// A Server is a NATS server with JetStream in this process. It syncs every
// stored message to disk before it acknowledges it. Its methods may be called
// concurrently.
type Server struct {
	opts  ServerOptions
	log   *slog.Logger
	ready chan struct{} // closed when srv accepts connections
	ended chan struct{} // closed when Run has returned
	once  sync.Once
	srv   *server.Server
	err   error
	own   server.User // the login of this process
}

// ErrOpen means that a server without login would be open to a network.
var ErrOpen = errors.New("embedded NATS: an address beyond loopback needs a login (set nats.user and nats.password)")

// Embedded returns a server that starts when it is run.
func Embedded(o ServerOptions) *Server {
	if o.Listen == "" {
		o.Listen = defaultListen
	}
	if o.MaxStore == 0 {
		o.MaxStore = DefaultMaxStore
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		opts: o, log: log, ready: make(chan struct{}), ended: make(chan struct{}),
		own: server.User{Username: "tocsin-" + rand.Text(), Password: rand.Text()},
	}
}

// Run starts the server and blocks until ctx ends; then it shuts it down and
// returns nil. A Server runs once.
func (s *Server) Run(ctx context.Context) error {
	err := s.run(ctx)
	s.once.Do(func() {
		s.err = err
		close(s.ended)
	})
	return err
}

func (s *Server) run(ctx context.Context) error {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	release, err := filelock.Take(filepath.Join(s.opts.Dir, "lock"))
	if err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	defer release()
	o, err := s.serverOptions()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	fatal := make(chan string, 1)
	srv.SetLoggerV2(&logger{log: s.log, fatal: fatal}, false, false, false)
	// Start returns when the server listens; it leaves its goroutines to
	// Shutdown and WaitForShutdown.
	srv.Start()
	defer srv.WaitForShutdown()
	defer srv.Shutdown()
	select {
	case msg := <-fatal:
		return fmt.Errorf("embedded NATS: %s", msg)
	default:
	}
	if !srv.ReadyForConnections(startTimeout) {
		select {
		case msg := <-fatal:
			return fmt.Errorf("embedded NATS: %s", msg)
		default:
			return errors.New("embedded NATS: not ready in time")
		}
	}
	s.srv = srv
	close(s.ready)
	s.log.InfoContext(ctx, "embedded NATS server is ready", "url", srv.ClientURL())
	select {
	case <-ctx.Done():
		return nil
	case msg := <-fatal:
		return fmt.Errorf("embedded NATS: %s", msg)
	}
}

func (s *Server) serverOptions() (*server.Options, error) {
	host, portText, err := net.SplitHostPort(s.opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: listen address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("embedded NATS: listen address: %q is not a port", portText)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	} else if l, err := net.Listen("tcp", s.opts.Listen); err != nil {
		// Asked here, since the server itself ends the process over it.
		return nil, fmt.Errorf("embedded NATS: %w (choose another with nats.listen)", err)
	} else if err := l.Close(); err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	var users []*server.User
	if s.opts.User != "" {
		users = []*server.User{&s.own, {Username: s.opts.User, Password: s.opts.Password, Permissions: clientPermissions()}}
	} else if !loopback(host) {
		return nil, fmt.Errorf("%w: %s", ErrOpen, s.opts.Listen)
	}
	return &server.Options{
		ServerName:         "tocsin",
		Host:               host,
		Port:               port,
		Users:              users,
		MaxPayload:         MaxPayload,
		MaxConn:            maxConnections,
		MaxSubs:            maxSubscriptions,
		MaxPending:         maxPending,
		JetStream:          true,
		JetStreamMaxStore:  s.opts.MaxStore,
		JetStreamMaxMemory: 64 << 20,
		StoreDir:           s.opts.Dir,
		SyncAlways:         true,
		NoSigs:             true,
	}, nil
}

// Bounds on clients of the embedded server.
const (
	maxConnections   = 1024
	maxSubscriptions = 1000    // of one connection
	maxPending       = 8 << 20 // bytes that wait for one connection to read them
)

// clientPermissions are what a client outside this process may do: hand in work,
// hear whether it was taken, and read events as they come.
func clientPermissions() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{SubjectManifests, SubjectUpdates}},
		Subscribe: &server.SubjectPermission{Allow: []string{SubjectEvents + ">", "_INBOX.>"}},
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// URL waits until the server accepts connections and returns its address for
// clients, without login. It fails if ctx ends or Run returns before that.
func (s *Server) URL(ctx context.Context) (string, error) {
	if err := s.wait(ctx); err != nil {
		return "", err
	}
	return s.srv.ClientURL(), nil
}

// Connect waits until the server is ready and connects to it within the
// process.
func (s *Server) Connect(ctx context.Context, o Options) (*Bus, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	extra := []nats.Option{nats.InProcessServer(s.srv)}
	if s.opts.User != "" {
		extra = append(extra, nats.UserInfo(s.own.Username, s.own.Password))
	}
	return connect(ctx, s.srv.ClientURL(), o, extra...)
}

func (s *Server) wait(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		if s.err != nil {
			return s.err
		}
		return errors.New("embedded NATS was stopped before it was ready")
	case <-ctx.Done():
		return fmt.Errorf("wait for the embedded NATS server: %w", context.Cause(ctx))
	}
}

// logger passes the server's log on. The server's own would end the process on
// a fatal error; this one ends Run.
type logger struct {
	log   *slog.Logger
	fatal chan string
}

func (l *logger) Noticef(format string, v ...any) { l.note(slog.LevelDebug, format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.note(slog.LevelWarn, format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.note(slog.LevelError, format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.note(slog.LevelDebug, format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.note(slog.LevelDebug, format, v) }

func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

func (l *logger) note(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "NATS server", "message", fmt.Sprintf(format, v...))
	}
}
