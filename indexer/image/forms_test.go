package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"tocsin.dev/tocsin/internal/safehttp"
)

// artifact is a manifest whose configuration is none.
func artifact() v1.Image {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	return mutate.ConfigMediaType(img, "application/vnd.example.signature.v1+json")
}

// stripped is an attestation that lost the annotation that says so.
func stripped(t *testing.T) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer([]byte("{}"), "application/vnd.in-toto+json"))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// What is no container image is passed over in an index, unless nothing else is
// in it.
func TestArtifactsArePassedOver(t *testing.T) {
	t.Parallel()
	img := platformImage(t, "linux/amd64")
	idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: artifact()}, mutate.IndexAddendum{Add: img}, mutate.IndexAddendum{Add: stripped(t)})
	chosen, err := (platforms{}).pick(idx, nil, 1)
	found, none := chosen.images()
	if err != nil || none != nil || len(found) != 1 || digestOf(t, found[0].img) != digestOf(t, img) {
		t.Errorf("picked %+v, %v, %v", found, err, none)
	}
	chosen, err = (platforms{}).pick(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: artifact()}), nil, 1)
	if _, none := chosen.images(); err != nil || none == nil || !strings.Contains(none.Error(), "artifact") {
		t.Errorf("an index of nothing else: %v, %v", err, none)
	}
}

// tarred writes a directory as an archive.
func tarred(t *testing.T, dir string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func written(t *testing.T, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func packed(t *testing.T, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A layout in an archive, and archives in gzip, are what they are unpacked.
func TestArchives(t *testing.T) {
	t.Parallel()
	img := platformImage(t, "linux/arm64")
	path, err := layout.Write(t.TempDir(), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	const full = "registry.example/team/app:1"
	if err := path.AppendIndex(nested, layout.WithAnnotations(map[string]string{containerdName: full, refName: "1"})); err != nil {
		t.Fatal(err)
	}
	b := tarred(t, string(path))
	for _, ref := range []string{"oci:" + string(path), "oci-archive:" + written(t, "a.tar", b), "oci-archive:" + written(t, "a.tar.gz", packed(t, b)), "oci-archive:" + written(t, "b.tar", b) + ":1"} {
		images, err := Open(ref, nil)
		if err != nil || len(images) != 1 || images[0].Digest != digestOf(t, img) || len(images[0].Names) != 1 || images[0].Names[0] != full || images[0].Platform != "linux/arm64" {
			t.Errorf("Open(%s) = %+v, %v", ref, images, err)
			continue
		}
		verify(t, images)
	}
	if !IsLayoutArchive(written(t, "c.tar.gz", packed(t, b))) {
		t.Error("the archive of a layout is taken for one of docker save")
	}
	if _, err := Open("oci-archive:"+written(t, "x", []byte("nothing")), nil); err == nil {
		t.Error("a file that is no archive was opened")
	}

	tag, err := name.NewTag("team/app:3")
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved.tar")
	if err := tarball.WriteToFile(saved, tag, img); err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	compressed := written(t, "saved.tar.gz", packed(t, plain))
	images, err := Open("docker-archive:"+compressed, nil)
	if err != nil || len(images) != 1 || len(images[0].Layers) != 2 || IsLayoutArchive(compressed) {
		t.Fatalf("Open = %+v, %v", images, err)
	}
	verify(t, images)
	// Saved by its id, it has no name, and none is invented.
	byID := bytes.Replace(plain, []byte(`"RepoTags":["team/app:3"]`), []byte(`"RepoTags":[            ]`), 1)
	images, err = Open("docker-archive:"+written(t, "tmp-1234.tar", byID), nil)
	if err != nil || len(images) != 1 || len(images[0].Names) != 0 {
		t.Errorf("saved by its id: %+v, %v", images, err)
	}
}

// An image whose configuration can't be had is not one of another platform.
func TestUnknownPlatform(t *testing.T) {
	t.Parallel()
	h := registry.New()
	var busy atomic.Bool
	img := platformImage(t, "linux/amd64")
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if busy.Load() && strings.Contains(r.URL.Path, config.Hex) {
			http.Error(w, "slowly", http.StatusTooManyRequests)
			return
		}
		h.ServeHTTP(paramWriter{w}, r)
	}))
	t.Cleanup(srv.Close)
	ref := strings.TrimPrefix(srv.URL, "http://") + "/team/app:1"
	if err := remote.Write(parse(t, ref), img); err != nil {
		t.Fatal(err)
	}
	r := &Registry{Transport: guard.Transport(safehttp.Options{RawBody: true}), Keychain: keys{}}
	for _, want := range [][]string{nil, {"linux/amd64"}} {
		busy.Store(true)
		_, err := r.Resolve(t.Context(), ref, want)
		if _, permanent := errors.AsType[*Error](err); err == nil || permanent || !errors.Is(err, errUnknownPlatform) {
			t.Errorf("Resolve(%q) with a busy registry = %v", want, err)
		}
		busy.Store(false)
		if got, err := r.Resolve(t.Context(), ref, want); err != nil || len(got) != 1 {
			t.Errorf("Resolve(%q) = %+v, %v", want, got, err)
		}
	}
}

// paramWriter gives every content type a parameter.
type paramWriter struct{ http.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w paramWriter) WriteHeader(code int) {
	if kind := w.Header().Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
	}
	w.ResponseWriter.WriteHeader(code)
}

// Layers that may not be distributed are where their manifest says.
func TestForeignLayers(t *testing.T) {
	t.Parallel()
	img, err := mutate.Append(platformImage(t, "linux/amd64"), mutate.Addendum{
		Layer: static.NewLayer([]byte("x"), types.DockerForeignLayer), URLs: []string{"https://cdn.example/layer"}, MediaType: types.DockerForeignLayer,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := layers(img, func(d v1.Descriptor) Layer {
		return Layer{Digest: d.Digest.String(), URI: "https://registry.example/" + d.Digest.String()}
	})
	if err != nil || len(got) != 3 || got[2].URI != "https://cdn.example/layer" || !strings.HasPrefix(got[0].URI, "https://registry.example/") {
		t.Errorf("%+v, %v", got, err)
	}
}
