//go:build compose

package composetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A stack is the Compose file brought up as a project of its own.
type stack struct {
	t       *testing.T
	root    string
	command []string // Compose, with the project and its files
	env     []string
	api     string
	nats    string // with the login of a publisher
	token   string
}

// composeCommand returns the Compose v2 of the machine, or one built from its
// module.
func composeCommand(t *testing.T, root, cache string) []string {
	if err := exec.CommandContext(t.Context(), "docker", "compose", "version").Run(); err == nil {
		return []string{"docker", "compose"}
	}
	binary := filepath.Join(cache, "docker-compose")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/docker/compose/v2/cmd")
	build.Dir = filepath.Join(root, "deploy", "composetest", "compose")
	start := time.Now()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build Compose from its module: %v: %s", err, out)
	}
	t.Logf("no `docker compose` here: built Compose from its module (%v)", time.Since(start).Round(time.Second))
	return []string{binary}
}

// run runs a Compose command and returns what it prints.
func (s *stack) run(ctx context.Context, args ...string) ([]byte, error) {
	all := append(slices.Clone(s.command), args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir, cmd.Env = s.root, s.env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("compose %s: %w\n%s%s", strings.Join(args, " "), err, out, errs.Bytes())
	}
	return out, nil
}

// up brings the project up with the given configuration of Tocsin, and takes it
// down when the test ends.
func up(t *testing.T, config string) *stack {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(caches, "tocsin-composetest")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "version").CombinedOutput(); err != nil {
		t.Fatalf("no Docker engine answers: %v: %s", err, out)
	}
	bases(t, root, cache)

	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // the container's user reads it
		t.Fatal(err)
	}
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	project := fmt.Sprintf("tocsintest%d", os.Getpid())
	// An image of its own, so that nobody's "tocsin" is replaced.
	override := write("override.yml", fmt.Sprintf(`services:
  tocsin:
    image: %s
    extra_hosts: ["host.docker.internal:host-gateway"]
    volumes:
      - %q
`, project, write("tocsin.yaml", config)+":/etc/tocsin/tocsin.yaml:ro"))

	api, nats := freePort(t), freePort(t)
	s := &stack{
		t: t, root: root, api: fmt.Sprintf("http://127.0.0.1:%d", api),
		command: append(composeCommand(t, root, cache), "-p", project, "-f", "docker-compose.yml", "-f", override),
		env:     append(os.Environ(), fmt.Sprint("TOCSIN_PORT=", api), fmt.Sprint("TOCSIN_NATS_PORT=", nats)),
	}
	if exec.CommandContext(t.Context(), "docker", "buildx", "version").Run() != nil {
		s.env = append(s.env, "DOCKER_BUILDKIT=0") // the engine's own builder
	}
	t.Cleanup(func() { s.down(project) })
	start := time.Now()
	if _, err := s.run(t.Context(), "build"); err != nil {
		t.Fatal(err)
	}
	t.Logf("image built in %v", time.Since(start).Round(time.Second))
	// What earlier runs left of the build stage; this run's is the cache of the next.
	if out, err := exec.CommandContext(t.Context(), "docker", "image", "prune", "-f", "--filter", "label="+standInLabel,
		"--filter", "until="+start.Format(time.RFC3339)).CombinedOutput(); err != nil {
		t.Errorf("docker image prune: %v: %s", err, out)
	}
	start = time.Now()
	if _, err := s.run(t.Context(), "up", "-d", "--wait", "--wait-timeout", "180"); err != nil {
		t.Fatal(err)
	}
	t.Logf("up and healthy in %v", time.Since(start).Round(100*time.Millisecond))
	password, err := s.run(t.Context(), "exec", "-T", "nats", "cat", "/secrets/publisher-password")
	if err != nil {
		t.Fatal(err)
	}
	s.nats = fmt.Sprintf("nats://publisher:%s@127.0.0.1:%d", password, nats)
	return s
}

var limited = regexp.MustCompile(`^true \[ALL\] \[\] \[no-new-privileges:true\] true [1-9][0-9]*$`)

// confined holds every container that runs to its limits, as the engine has them,
// and the passwords to be for those that need them.
func (s *stack) confined() {
	s.t.Helper()
	for _, service := range []string{"postgres", "nats", "tocsin"} {
		id, err := s.run(s.t.Context(), "ps", "-q", service)
		if err != nil {
			s.t.Fatal(err)
		}
		out, err := exec.CommandContext(s.t.Context(), "docker", "inspect", "-f",
			`{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}} {{ne .HostConfig.Memory 0}} {{json .HostConfig.PidsLimit}}`,
			strings.TrimSpace(string(id))).Output()
		if got := strings.TrimSpace(string(out)); err != nil || !limited.MatchString(got) {
			s.t.Errorf("container of %s: %s (%v)", service, got, err)
		}
	}
	if out, err := s.run(s.t.Context(), "exec", "-T", "nats", "cat", "/secrets/database-url"); err == nil {
		s.t.Errorf("NATS reads the database's password: %d bytes", len(out))
	}
	if out, err := s.run(s.t.Context(), "exec", "-T", "postgres", "psql", "-h", "127.0.0.1", "postgres://tocsin:tocsin@127.0.0.1/tocsin", "-c", "SELECT 1"); err == nil {
		s.t.Errorf("the database takes the password tocsin: %s", out)
	}
}

// down takes everything down and fails the test if anything is left.
func (s *stack) down(project string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if s.t.Failed() {
		logs, err := s.run(ctx, "logs", "--no-color", "--tail", "200")
		s.t.Logf("logs (%v):\n%s", err, logs)
	}
	if _, err := s.run(ctx, "down", "-v", "--remove-orphans", "--timeout", "20"); err != nil {
		s.t.Error(err)
	}
	if out, err := exec.CommandContext(ctx, "docker", "image", "rm", "-f", project).CombinedOutput(); err != nil {
		s.t.Errorf("docker image rm: %v: %s", err, out)
	}
	for _, kind := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
		out, err := exec.CommandContext(ctx, "docker", append(kind, "--filter", "label=com.docker.compose.project="+project)...).Output()
		if err != nil || len(bytes.TrimSpace(out)) != 0 {
			s.t.Errorf("left behind by docker %v: %s (%v)", kind, out, err)
		}
	}
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// reachable serves h where containers reach this machine and returns its URL
// for them.
func reachable(t *testing.T, h http.Handler) string {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	srv.Start()
	t.Cleanup(srv.Close)
	return fmt.Sprintf("http://host.docker.internal:%d", l.Addr().(*net.TCPAddr).Port)
}

// call makes a request of the API with the installation's first token.
func (s *stack) call(method, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.api+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s (%w)", method, path, res.Status, out, err)
	}
	return json.Unmarshal(out, answer)
}

func (s *stack) eventually(what string, try func() error) {
	s.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	s.t.Fatalf("%s: not within a minute: %v", what, err)
}
