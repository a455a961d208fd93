package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	demoimage "tocsin.dev/tocsin/internal/demo/image"
	"tocsin.dev/tocsin/internal/demo/mirror"
)

// image is one image of an OCI layout folder, as a manifest job names it.
type image struct {
	Name   string
	Digest string
	Layers []layer
}

type layer struct {
	Hash    string              `json:"hash"`
	URI     string              `json:"uri"`
	Headers map[string][]string `json:"headers"`
}

// job is the body that is published on tocsin.manifests.
func (i image) job(t *testing.T) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"manifest": map[string]any{"hash": i.Digest, "layers": i.Layers},
		"names":    []string{i.Name},
		"labels":   map[string]string{"suite": "fixtures"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serveDemo serves the demo's feed and its image.
func serveDemo(t *testing.T) (*mirror.Mirror, *httptest.Server, image) {
	t.Helper()
	feed, err := mirror.New()
	if err != nil {
		t.Fatal(err)
	}
	feeds := httptest.NewServer(feed)
	t.Cleanup(feeds.Close)
	built, err := demoimage.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return feed, feeds, serveImages(t, filepath.Dir(built.Ref[len("oci:"):]))[0]
}

// serveImages serves the blobs of every OCI layout below dir and returns the
// images, whose layers point there.
func serveImages(t *testing.T, dir string) []image {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		image, hex, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.layer.v1.tar+gzip")
		http.ServeFile(w, r, filepath.Join(dir, filepath.Base(image), "blobs", "sha256", filepath.Base(hex)))
	}))
	t.Cleanup(srv.Close)
	var out []image
	for _, n := range names {
		out = append(out, readLayout(t, filepath.Join(dir, n.Name()), srv.URL+"/"+n.Name()+"/"))
	}
	return out
}

func readLayout(t *testing.T, dir, base string) image {
	t.Helper()
	var index struct {
		Manifests []struct{ Digest string }
	}
	readJSON(t, filepath.Join(dir, "index.json"), &index)
	img := image{Name: "fixtures.example/" + filepath.Base(dir) + ":1", Digest: index.Manifests[0].Digest}
	var manifest struct {
		Layers []struct{ Digest string }
	}
	readJSON(t, filepath.Join(dir, "blobs", "sha256", hexOf(img.Digest)), &manifest)
	for _, l := range manifest.Layers {
		img.Layers = append(img.Layers, layer{Hash: l.Digest, URI: base + hexOf(l.Digest), Headers: map[string][]string{}})
	}
	return img
}

func hexOf(digest string) string { _, h, _ := strings.Cut(digest, ":"); return h }

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
