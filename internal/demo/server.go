package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"tocsin.dev/tocsin/internal/text"
)

// stopTime is how long the server may take to end.
const stopTime = 30 * time.Second

// server is a `tocsin serve` of our own.
type server struct {
	PID           int    `json:"pid"`
	API           string `json:"api"`
	Introspection string `json:"introspection"`
	NATS          string `json:"nats"`

	data  string
	token string
	cmd   *exec.Cmd
	log   *lastLines
	ended chan struct{}
	err   error // of the process; read after ended
}

// startServer writes a configuration, starts the server and waits until it is
// ready.
func (d *demo) startServer(ctx context.Context) error {
	data := filepath.Join(d.dir, "data")
	config := filepath.Join(d.dir, "tocsin.yaml")
	settings := fmt.Sprintf(`# The demo's configuration: free ports, our own feed, and targets on loopback.
listen: 127.0.0.1:0
introspection: 127.0.0.1:0
data_dir: %s
nats: {listen: 127.0.0.1:0}
updaters:
  sets: [osv]
  config: {osv: {url: %q}}
  schedules: {osv: "@every 2s"}
indexer: {allow_networks: [127.0.0.0/8]}
delivery: {allow_networks: [127.0.0.0/8]}
`, data, d.feed.mirrorURL)
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		return err
	}
	s := &server{data: data, log: &lastLines{}, ended: make(chan struct{})}
	s.cmd = exec.Command(d.Binary, "serve", "--config", config)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.Env = environment()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us; we end it in order
	if err := s.cmd.Start(); err != nil {
		return err
	}
	d.server = s
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.ready(ctx); err != nil {
		return err
	}
	d.api = &api{base: "http://" + s.API + "/api/v1", token: s.token}
	d.detail("API %s, metrics and health %s, NATS %s", s.API, s.Introspection, text.RedactURL(s.NATS))
	return nil
}

// environment is ours without what would configure the server.
func environment() []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TOCSIN_") {
			out = append(out, v)
		}
	}
	return out
}

// ready waits until the server has said where it is and that it is ready.
func (s *server) ready(ctx context.Context) error {
	return until(ctx, func() (bool, error) {
		select {
		case <-s.ended:
			return false, fmt.Errorf("tocsin serve ended: %v", s.err)
		default:
		}
		b, err := os.ReadFile(filepath.Join(s.data, "run.json"))
		if err != nil || json.Unmarshal(b, s) != nil || s.PID != s.cmd.Process.Pid {
			return false, nil
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Introspection+"/readyz", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false, nil
		}
		tok, err := os.ReadFile(filepath.Join(s.data, "token"))
		s.token = strings.TrimSpace(string(tok))
		return true, err
	})
}

// stop ends the server and waits for it.
func (s *server) stop() error {
	select {
	case <-s.ended: // by itself
	default:
		s.cmd.Process.Signal(syscall.SIGTERM) // its end is awaited below
	}
	select {
	case <-s.ended:
	case <-time.After(stopTime):
		s.cmd.Process.Kill() // as above
		<-s.ended
		return fmt.Errorf("demo: tocsin serve did not stop within %s", stopTime)
	}
	if s.err != nil {
		return fmt.Errorf("demo: tocsin serve: %w", s.err)
	}
	return nil
}

// until polls until done, or the context ends.
func until(ctx context.Context, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lastLines keeps the end of a log.
type lastLines struct {
	mu  sync.Mutex
	buf []byte
}

const keepLog = 16 << 10

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if len(l.buf) > 2*keepLog {
		l.buf = append([]byte(nil), l.buf[len(l.buf)-keepLog:]...)
	}
	return len(p), nil
}

func (l *lastLines) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf[max(0, len(l.buf)-keepLog):])
}
