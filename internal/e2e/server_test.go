package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// buildBinary builds the real program once for the test process.
var buildBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tocsin-e2e-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "tocsin")
	out, err := exec.Command("go", "build", "-o", bin, "tocsin.dev/tocsin/cmd/tocsin").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// server is one data directory and the processes of `tocsin serve` that run on
// it one after another.
type server struct {
	t      *testing.T
	bin    string
	config string
	dir    string
	env    []string // beside this process's

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	logs bytes.Buffer
	addr addresses
}

// addresses is what a running server writes to run.json in its data directory.
type addresses struct {
	PID           int    `json:"pid"`
	API           string `json:"api"`
	Introspection string `json:"introspection"`
	NATS          string `json:"nats"`
}

// newServer is a server with Postgres and NATS of its own.
func newServer(t *testing.T, config string) *server {
	t.Helper()
	return newServerOn(t, "nats: {listen: \"127.0.0.1:0\"}\n"+config)
}

// newServerOn is a server whose configuration says where Postgres and NATS are.
func newServerOn(t *testing.T, config string) *server {
	t.Helper()
	bin, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tocsin-data-")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, bin: bin, dir: dir, config: filepath.Join(dir, "tocsin.yaml")}
	base := fmt.Sprintf("listen: 127.0.0.1:0\nintrospection: 127.0.0.1:0\ndata_dir: %s\n"+
		"delivery: {allow_networks: [127.0.0.0/8]}\nindexer: {allow_networks: [127.0.0.0/8]}\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(s.config, []byte(base+config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.describe()
		}
		s.stop()
		if t.Failed() {
			t.Logf("server log:\n%s", tail(s.log(), 20000))
		}
		os.RemoveAll(dir)
	})
	return s
}

// describe logs what the server says of its work, if it still answers.
func (s *server) describe() {
	for _, path := range []string{"/api/v1/updaters", "/api/v1/jobs?limit=30", "/api/v1/stats"} {
		if status, b, err := s.request("GET", path, nil); err == nil {
			s.t.Logf("%s: %d %s", path, status, tail(string(b), 8000))
		}
	}
}

func (s *server) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.String()
}

// Write collects the processes' output.
func (s *server) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.Write(p)
}

// start runs the program and waits until it is ready.
func (s *server) start() {
	s.t.Helper()
	if err := s.tryStart(90 * time.Second); err != nil {
		s.t.Fatalf("%v\n%s", err, tail(s.log(), 20000))
	}
}

// spawn starts the program without waiting for it to be ready.
func (s *server) spawn() error {
	os.Remove(filepath.Join(s.dir, "data", "run.json"))
	cmd := exec.Command(s.bin, "serve", "--config", s.config)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = s, s
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		cmd.Wait()
		close(done)
	}(s.done)
	return nil
}

func (s *server) tryStart(limit time.Duration) error {
	if err := s.spawn(); err != nil {
		return err
	}
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		select {
		case <-s.done:
			return fmt.Errorf("tocsin serve ended: %v", s.cmd.ProcessState)
		case <-time.After(50 * time.Millisecond):
		}
		b, err := os.ReadFile(filepath.Join(s.dir, "data", "run.json"))
		if err != nil || json.Unmarshal(b, &s.addr) != nil || s.addr.PID != s.cmd.Process.Pid {
			continue
		}
		resp, err := http.Get("http://" + s.addr.Introspection + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.New("tocsin serve did not become ready")
}

// kill ends the process as a power cut would.
func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		<-s.done
	}
}

// stop ends the process cleanly and fails the test if it does not.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	select {
	case <-s.done:
		return
	default:
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(60 * time.Second):
		s.cmd.Process.Kill()
		<-s.done
		s.t.Error("tocsin serve did not stop within a minute of SIGTERM")
	}
}

func (s *server) token() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "data", "token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// call does one API request and decodes its answer; it fails the test on any
// status but those in want (2xx when none is given).
func (s *server) call(method, path string, body, into any, want ...int) int {
	s.t.Helper()
	status, b, err := s.request(method, path, body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	ok := len(want) == 0 && status/100 == 2
	for _, w := range want {
		ok = ok || status == w
	}
	if !ok {
		s.t.Fatalf("%s %s: status %d: %s", method, path, status, tail(string(b), 2000))
	}
	if into != nil && status/100 == 2 && len(b) > 0 {
		if err := json.Unmarshal(b, into); err != nil {
			s.t.Fatalf("%s %s: %v: %s", method, path, err, tail(string(b), 2000))
		}
	}
	return status
}

func (s *server) request(method, path string, body any) (int, []byte, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+s.addr.API+path, r)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// publish puts one message on a JetStream subject and waits for the ack.
func (s *server) publish(subject string, body []byte) {
	s.t.Helper()
	if err := s.tryPublish(subject, body); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) tryPublish(subject string, body []byte) error {
	return publishTo(s.addr.NATS, subject, body)
}

func publishTo(url, subject string, body []byte) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = js.Publish(ctx, subject, body)
	return err
}

// eventually polls until done answers true, and fails the test with what it
// last said after the limit.
func eventually(t *testing.T, limit time.Duration, what string, done func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	last := ""
	for time.Now().Before(deadline) {
		ok, why := done()
		if ok {
			return
		}
		last = why
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: not within %s: %s", what, limit, last)
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
