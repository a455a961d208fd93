//go:build compose

package composetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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

	s.confined()

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
