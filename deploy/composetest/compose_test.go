//go:build compose

package composetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/demo/mirror"
	"tocsin.dev/tocsin/schemas"
)

// A stack is the Compose file brought up as a project of its own.
type stack struct {
	t       *testing.T
	root    string
	command []string // Compose, with the project and its files
	env     []string
	api     string
	nats    string
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
	override := write("override.yml", fmt.Sprintf(`services:
  tocsin:
    extra_hosts: ["host.docker.internal:host-gateway"]
    volumes:
      - %q
`, write("tocsin.yaml", config)+":/etc/tocsin/tocsin.yaml:ro"))

	project := fmt.Sprintf("tocsintest%d", os.Getpid())
	api, nats := freePort(t), freePort(t)
	s := &stack{
		t: t, root: root, api: fmt.Sprintf("http://127.0.0.1:%d", api), nats: fmt.Sprintf("nats://127.0.0.1:%d", nats),
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
	start = time.Now()
	if _, err := s.run(t.Context(), "up", "-d", "--wait", "--wait-timeout", "180"); err != nil {
		t.Fatal(err)
	}
	t.Logf("up and healthy in %v", time.Since(start).Round(100*time.Millisecond))
	return s
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

// A delivery is one request that the webhook got.
type delivery struct {
	header http.Header
	body   []byte
}

// TestCompose is the whole way: an image from outside, a feed that changes, and
// a signed event that names what became wrong with the image.
func TestCompose(t *testing.T) {
	feed, err := mirror.New()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	built, err := image.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	blobs := reachable(t, http.FileServer(http.Dir(filepath.Join(strings.TrimPrefix(built.Ref, "oci:"), "blobs", "sha256"))))
	got := make(chan delivery, 100)
	hook := reachable(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil && r.Method == http.MethodPost {
			got <- delivery{r.Header.Clone(), body}
		}
	}))
	private := `["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]`
	s := up(t, fmt.Sprintf(`updaters:
  sets: [osv]
  config: {osv: {url: %q}}
  schedules: {osv: "@every 2s"}
indexer: {allow_networks: %s}
delivery: {allow_networks: %s}
`, reachable(t, feed)+"/", private, private))

	// The first token is in Tocsin's volume.
	token := filepath.Join(dir, "token")
	if _, err := s.run(t.Context(), "cp", "tocsin:/var/lib/tocsin/token", token); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(data))

	var sub schemas.Subscription
	if err := s.call(http.MethodPost, "/api/v1/subscriptions", schemas.Subscription{
		Sink: hook + "/", Protocol: schemas.ProtocolHTTP,
		Types: []string{schemas.TypeManifestIndexed, schemas.TypeVulnerabilitiesChanged},
	}, &sub); err != nil {
		t.Fatal(err)
	}
	if sub.Secret == "" {
		t.Fatalf("the subscription came without a secret: %+v", sub)
	}
	signature, err := standardwebhooks.NewWebhook(sub.Secret)
	if err != nil {
		t.Fatal(err)
	}

	s.publish(built, blobs)
	indexed := await[schemas.ManifestIndexed](t, got, signature, schemas.TypeManifestIndexed)
	if indexed.Manifest.Digest != built.Digest || indexed.Packages == 0 {
		t.Fatalf("indexed %+v, want %s with packages", indexed, built.Digest)
	}
	// The command in the container is one to use as it is.
	if out, err := s.run(t.Context(), "exec", "-T", "tocsin", "tocsin", "images"); err != nil || !bytes.Contains(out, []byte(image.Name)) {
		t.Errorf("`tocsin images` in the container prints %s (%v)", out, err)
	}
	// Before the feed changes, it has been loaded once.
	s.eventually("the first load of the feed", func() error {
		var sets []struct {
			Updaters []struct{ Name, Status string }
		}
		out, err := s.run(t.Context(), "exec", "-T", "tocsin", "tocsin", "updaters", "status", "--output", "json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(out, &sets); err != nil || len(sets) == 0 || len(sets[0].Updaters) == 0 || sets[0].Updaters[0].Status == "failed" || sets[0].Updaters[0].Status == "running" {
			return fmt.Errorf("%s (%w)", out, err)
		}
		return nil
	})
	feed.Advance()
	for ids := []string(nil); ; {
		changed := await[schemas.VulnerabilitiesChanged](t, got, signature, schemas.TypeVulnerabilitiesChanged)
		if changed.Update.FirstLoad {
			continue
		}
		for _, f := range changed.Added {
			ids = append(ids, f.ID)
		}
		slices.Sort(ids)
		if want := []string{"GO-2024-3250", "GO-2025-3553"}; !slices.Equal(ids, want) || len(changed.Removed) != 0 || changed.Manifest.Digest != built.Digest {
			t.Errorf("the event says added %v and removed %v of %s, want %v of %s", ids, changed.Removed, changed.Manifest.Digest, want, built.Digest)
		}
		if len(changed.Revised) != 1 || changed.Revised[0].ID != "GO-2022-0956" {
			t.Errorf("revised are %+v, want GO-2022-0956", changed.Revised)
		}
		break
	}
}

// publish publishes the image over NATS from outside, as a manifest whose layers
// are at blobs.
func (s *stack) publish(built image.Image, blobs string) {
	t := s.t
	index, err := layout.ImageIndexFromPath(strings.TrimPrefix(built.Ref, "oci:"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	type layer struct {
		Hash string `json:"hash"`
		URI  string `json:"uri"`
	}
	var list []layer
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, layer{d.String(), blobs + "/" + d.Hex})
	}
	body, err := json.Marshal(map[string]any{"manifest": map[string]any{"hash": built.Digest, "layers": list}, "names": []string{image.Name}})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := natsgo.Connect(s.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "tocsin.manifests", body); err != nil {
		t.Fatal(err)
	}
}

// await returns the data of the next delivery of the type, whose signature must
// be right.
func await[T any](t *testing.T, got <-chan delivery, signature *standardwebhooks.Webhook, kind string) (data T) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		select {
		case d := <-got:
			if err := signature.Verify(d.body, d.header); err != nil {
				t.Fatalf("a delivery's signature is wrong: %v\n%s", err, d.body)
			}
			var event struct {
				ID, Type string
				Data     json.RawMessage
			}
			err := json.Unmarshal(d.body, &event)
			if err == nil && event.Type != kind {
				continue
			}
			if err = errors.Join(err, json.Unmarshal(event.Data, &data)); err != nil || event.ID != d.header.Get("Webhook-Id") {
				t.Fatalf("event %s with webhook-id %s: %v", d.body, d.header.Get("Webhook-Id"), err)
			}
			return data
		case <-limit:
			t.Fatalf("no %s within two minutes", kind)
		}
	}
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
