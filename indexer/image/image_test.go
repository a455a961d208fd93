package image

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"tocsin.dev/tocsin/internal/safehttp"
)

var guard = safehttp.New("indexer.allow_networks", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})

// platformImage is an image of two layers whose configuration names the platform.
func platformImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	if p, err := v1.ParsePlatform(platform); err != nil {
		t.Fatal(err)
	} else {
		cfg.OS, cfg.Architecture, cfg.Variant = p.OS, p.Architecture, p.Variant
	}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

// multiPlatform is an index with an attestation beside its images and one
// image inside a nested index.
func multiPlatform(t *testing.T) (v1.ImageIndex, map[string]string) {
	t.Helper()
	digests := map[string]string{}
	var idx v1.ImageIndex = empty.Index
	add := func(to v1.ImageIndex, platform string, annotations map[string]string) v1.ImageIndex {
		img := platformImage(t, platform)
		p, _ := v1.ParsePlatform(platform)
		digests[platform] = digestOf(t, img)
		return mutate.AppendManifests(to, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p, Annotations: annotations}})
	}
	idx = add(idx, "linux/amd64", nil)
	idx = add(idx, "linux/arm64/v8", nil)
	idx = add(idx, "windows/amd64", nil)
	idx = add(idx, "unknown/unknown", map[string]string{attestation: "attestation-manifest"})
	nested := add(empty.Index, "linux/s390x", nil)
	return mutate.AppendManifests(idx, mutate.IndexAddendum{Add: nested}), digests
}

func digestOf(t *testing.T, d interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := d.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// serve runs a registry that wants the user and password, if there are any.
func serve(t *testing.T, user, password string) string {
	t.Helper()
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); user != "" && (u != user || p != password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// keys is a keychain with one login for every registry.
type keys struct{ user, password string }

func (k keys) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: k.user, Password: k.password}), nil
}

func parse(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolve(t *testing.T) {
	t.Parallel()
	host := serve(t, "robot", "s3cret")
	login := keys{"robot", "s3cret"}
	idx, digests := multiPlatform(t)
	multi, single := host+"/team/multi:1", host+"/team/single:1"
	if err := remote.WriteIndex(parse(t, multi), idx, remote.WithAuthFromKeychain(login)); err != nil {
		t.Fatal(err)
	}
	img := platformImage(t, "linux/arm64")
	if err := remote.Write(parse(t, single), img, remote.WithAuthFromKeychain(login)); err != nil {
		t.Fatal(err)
	}
	r := &Registry{Transport: guard.Transport(safehttp.Options{RawBody: true}), Keychain: login}
	for _, tc := range []struct {
		name      string
		ref       string
		platforms []string
		want      map[string]string // digest to platform
	}{
		{"all that run Linux", multi, nil, map[string]string{digests["linux/amd64"]: "linux/amd64", digests["linux/arm64/v8"]: "linux/arm64/v8", digests["linux/s390x"]: "linux/s390x"}},
		{"one", multi, []string{"linux/amd64"}, map[string]string{digests["linux/amd64"]: "linux/amd64"}},
		{"without variant", multi, []string{"linux/arm64"}, map[string]string{digests["linux/arm64/v8"]: "linux/arm64/v8"}},
		{"two", multi, []string{"linux/s390x", "windows/amd64"}, map[string]string{digests["linux/s390x"]: "linux/s390x", digests["windows/amd64"]: "windows/amd64"}},
		{"single", single, nil, map[string]string{digestOf(t, img): "linux/arm64"}},
		{"single, platform right", single, []string{"linux/arm64"}, map[string]string{digestOf(t, img): "linux/arm64"}},
		{"by digest", host + "/team/multi@" + digests["linux/amd64"], nil, map[string]string{digests["linux/amd64"]: "linux/amd64"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := r.Resolve(t.Context(), tc.ref, tc.platforms)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tc.want) {
				t.Errorf("%d images, want %d", len(got), len(tc.want))
			}
			for _, i := range got {
				if p, ok := tc.want[i.Digest]; !ok || p != i.Platform {
					t.Errorf("image %s is of platform %q, want %q", i.Digest, i.Platform, p)
				}
				if i.Names[0] != tc.ref || len(i.Layers) != 2 || i.Reference == "" {
					t.Errorf("image %+v", i)
				}
			}
		})
	}

	for name, tc := range map[string]struct {
		ref       string
		platforms []string
		keys      authn.Keychain
		hint      string
	}{
		"unknown tag":        {host + "/team/single:nope", nil, login, "does not have it"},
		"unknown repository": {host + "/nope:1", nil, login, "does not have it"},
		"wrong platform":     {single, []string{"linux/amd64"}, login, "nothing for the platform linux/amd64"},
		"absent platform":    {multi, []string{"plan9/mips"}, login, "nothing for the platform plan9/mips"},
		"bad platform":       {multi, []string{"a/b/c/d"}, login, "is not os/arch"},
		"wrong password":     {single, nil, keys{"robot", "wrong"}, "docker login"},
		"no password":        {single, nil, authn.NewMultiKeychain(), "docker login"},
		"not a reference":    {"Not A Reference", nil, login, "is not a reference"},
		"too long":           {strings.Repeat("a", 2000), nil, login, "longer than"},
		"local":              {"oci:/tmp/x", nil, login, "command line"},
		"private network":    {"10.0.0.1:1/a/b", nil, login, "allow_networks"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &Registry{Transport: r.Transport, Keychain: tc.keys}
			_, err := r.Resolve(t.Context(), tc.ref, tc.platforms)
			if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), tc.hint) {
				t.Errorf("Resolve = %v, want an Error with %q", err, tc.hint)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

func TestResolveTransient(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "down", http.StatusServiceUnavailable)
	}))
	t.Cleanup(srv.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	r := &Registry{Transport: guard.Transport(safehttp.Options{})}
	for _, u := range []string{srv.URL, gone.URL} {
		_, err := r.Resolve(t.Context(), strings.TrimPrefix(u, "http://")+"/a/b:1", nil)
		if err == nil {
			t.Fatal("Resolve succeeded")
		}
		if e, ok := errors.AsType[*Error](err); ok {
			t.Errorf("Resolve = %v, want one that may pass", e)
		}
	}
}

func TestResolveNotAnImage(t *testing.T) {
	t.Parallel()
	host := serve(t, "", "")
	img := mutate.ConfigMediaType(platformImage(t, "linux/amd64"), "application/vnd.cncf.helm.config.v1+json")
	if err := remote.Write(parse(t, host+"/chart:1"), img); err != nil {
		t.Fatal(err)
	}
	r := &Registry{Transport: guard.Transport(safehttp.Options{})}
	if _, err := r.Resolve(t.Context(), host+"/chart:1", nil); err == nil || !strings.Contains(err.Error(), "not a container image") {
		t.Errorf("Resolve = %v, want it refused as an artifact", err)
	}
}

func TestBlobTransport(t *testing.T) {
	t.Parallel()
	host := serve(t, "robot", "s3cret")
	login := keys{"robot", "s3cret"}
	img := platformImage(t, "linux/amd64")
	if err := remote.Write(parse(t, host+"/a/b:1"), img, remote.WithAuthFromKeychain(login)); err != nil {
		t.Fatal(err)
	}
	r := &Registry{Transport: guard.Transport(safehttp.Options{RawBody: true}), Keychain: login}
	images, err := r.Resolve(t.Context(), host+"/a/b:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := r.BlobTransport(t.Context(), images[0].Reference)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Get(images[0].Layers[0].URI)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || "sha256:"+sum(body) != images[0].Layers[0].Digest {
		t.Errorf("blob of %d bytes (%s): %v", len(body), resp.Status, err)
	}
	// Another host gets no credentials.
	var sent string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent = r.Header.Get("Authorization") }))
	t.Cleanup(other.Close)
	resp, err = (&http.Client{Transport: rt}).Get(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if sent != "" {
		t.Errorf("another host was sent %q", sent)
	}
	if _, err := images[0].Layers[0].Open(); err == nil {
		t.Error("a layer in a registry was opened as a file")
	}
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// verify reads every layer and compares its digest.
func verify(t *testing.T, images []Image) {
	t.Helper()
	for _, i := range images {
		for _, l := range i.Layers {
			r, err := l.Open()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			r.Close()
			if err != nil || "sha256:"+sum(b) != l.Digest {
				t.Errorf("layer %s has %d bytes with digest %s, %v", l.Digest, len(b), sum(b), err)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "my:app")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	one := platformImage(t, "linux/amd64")
	idx, digests := multiPlatform(t)
	named := platformImage(t, "linux/amd64")
	for _, err := range []error{
		path.AppendImage(one, layout.WithAnnotations(map[string]string{refName: "1.0"})),
		path.AppendIndex(idx, layout.WithAnnotations(map[string]string{refName: "multi"})),
		path.AppendImage(named, layout.WithAnnotations(map[string]string{containerdName: "registry.example/team/app:2"})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		ref       string
		platforms []string
		names     map[string]string // by digest
	}{
		{"oci:" + dir + ":1.0", nil, map[string]string{digestOf(t, one): "my:app:1.0"}},
		{"oci:" + dir + ":multi", []string{"linux/arm64"}, map[string]string{digests["linux/arm64/v8"]: "my:app"}},
		{"oci:" + dir, []string{"linux/amd64"}, map[string]string{
			digestOf(t, one): "my:app:1.0", digestOf(t, named): "registry.example/team/app:2", digests["linux/amd64"]: "my:app",
		}},
		{"oci:" + dir + ":registry.example/team/app:2", nil, map[string]string{digestOf(t, named): "registry.example/team/app:2"}},
	} {
		images, err := Open(tc.ref, tc.platforms)
		if err != nil {
			t.Errorf("Open(%s): %v", tc.ref, err)
			continue
		}
		if len(images) != len(tc.names) {
			t.Errorf("Open(%s): %d images, want %d", tc.ref, len(images), len(tc.names))
		}
		for _, i := range images {
			if want, ok := tc.names[i.Digest]; !ok || !strings.HasPrefix(i.Names[0], want) {
				t.Errorf("Open(%s): %s is called %q, want %q", tc.ref, i.Digest, i.Names, want)
			}
		}
		verify(t, images)
	}
	for ref, hint := range map[string]string{
		"oci:" + dir + ":nope":           "has no",
		"oci:" + t.TempDir():             "not an OCI image layout",
		"oci:/does/not/exist":            "not an OCI image layout",
		"docker-archive:/does/not/exist": "not an archive",
		"registry.example/app":           "is not of the form",
	} {
		if _, err := Open(ref, nil); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("Open(%s) = %v, want an error with %q", ref, err, hint)
		}
	}
	if _, err := Open("oci:"+dir, []string{"windows/arm64"}); err == nil {
		t.Error("a platform that is not there was found")
	}

	// A manifest that was tampered with does not pass.
	blob := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digestOf(t, one), "sha256:"))
	raw, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, bytes.Replace(raw, []byte(`{`), []byte(`{ `), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("oci:"+dir+":1.0", nil); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Open of a damaged layout = %v", err)
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	img := platformImage(t, "linux/amd64")
	other := platformImage(t, "linux/amd64")
	id, err := partial.ConfigLayer(img)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("team/app:3")
	if err != nil {
		t.Fatal(err)
	}
	otherTag, err := name.NewTag("team/other:1")
	if err != nil {
		t.Fatal(err)
	}
	one, two := filepath.Join(t.TempDir(), "one.tar"), filepath.Join(t.TempDir(), "two.tar")
	if err := tarball.WriteToFile(one, tag, img); err != nil {
		t.Fatal(err)
	}
	if err := tarball.MultiWriteToFile(two, map[name.Tag]v1.Image{tag: img, otherTag: other}); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"docker-archive:" + one, "docker-archive:" + two + ":team/app:3"} {
		images, err := Open(ref, nil)
		if err != nil {
			t.Errorf("Open(%s): %v", ref, err)
			continue
		}
		if len(images) != 1 || images[0].Digest != digestOf(t, id) || !strings.HasSuffix(images[0].Names[0], "team/app:3") || len(images[0].Layers) != 2 {
			t.Errorf("Open(%s) = %+v", ref, images)
		}
		verify(t, images)
	}
	if _, err := Open("docker-archive:"+two, nil); err == nil || !strings.Contains(err.Error(), "2 images") {
		t.Errorf("an archive of two images without a choice: %v", err)
	}
	if _, err := Open("docker-archive:"+one, []string{"linux/arm64"}); err == nil {
		t.Error("a platform that is not there was found")
	}
	notTar := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(notTar, []byte(strings.Repeat("not a tar", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("docker-archive:"+notTar, nil); err == nil {
		t.Error("a file that is no archive was opened")
	}
}

func TestDepthAndCount(t *testing.T) {
	t.Parallel()
	var deep v1.ImageIndex = empty.Index
	deep = mutate.AppendManifests(deep, mutate.IndexAddendum{Add: platformImage(t, "linux/amd64")})
	for range maxDepth + 1 {
		deep = mutate.IndexMediaType(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: deep}), types.OCIImageIndex)
	}
	if _, err := (platforms{}).pick(deep, nil, 1); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Errorf("a deep index: %v", err)
	}
}
